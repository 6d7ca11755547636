import numpy as np
import pytest
import torch

from transform.alignment import (
    Copy,
    copied_rhythm,
    copy_frames,
    first_sample,
    low_strokes,
    recorded_placing,
    requested_copies,
    usable_frames,
)
from transform.events import DrumEvent
from transform.latent import WrittenRhythm
from transform.placing import LOW, Places, Rules, rhythm_placing, source_placing
from transform.rhythm_transformer import RhythmConfig, Sounding

RATE, HOP = 44_100, 512
PLACES = Places(8, HOP)
CONFIG = RhythmConfig(n_latents=6, n_activations=10, n_places=8)
KICK, SNARE = LOW.index("KD"), LOW.index("SD")


def stroke(sample, drum_class, velocity=0.8):
    return DrumEvent(sample / RATE, drum_class, velocity)


@pytest.mark.parametrize(
    ("sample", "frame", "place"), [(0, 0, 1), (31, 0, 1), (33, 0, 2), (511, 1, 1), (512 + 448, 1, 8)]
)
def test_an_attack_lies_at_the_nearest_place_of_the_grid(sample, frame, place):
    assert PLACES.of(sample / RATE) == (frame, place)


def test_frames_of_a_rhythm_have_the_places_of_all_that_rules():
    events = [stroke(5 * HOP + 64, "KD"), stroke(5 * HOP + 400, "HH"), stroke(9 * HOP + 128, "SD")]
    placing = rhythm_placing(PLACES, events, 0, 60)[0]
    n = PLACES.rule_frames
    assert placing[KICK].tolist() == [0] * 4 + [2] * (n + 1) + [0] * (60 - 5 - n)
    assert placing[SNARE, 8 : 9 + n].tolist() == [3] * (n + 1)
    assert placing[len(LOW) + KICK, 10] == 6  # numbered by when they were struck
    assert placing[len(LOW) + SNARE, 10] == 10
    # A window has what the whole has.
    assert torch.equal(rhythm_placing(PLACES, events, 7, 30)[0], placing[:, 7:30])


def test_the_frame_before_a_stroke_is_its_own():
    placing = rhythm_placing(PLACES, [stroke(10 * HOP, "KD"), stroke(14 * HOP + 64, "KD")], 0, 20)[0, KICK]
    assert placing[9:16].tolist() == [1, 1, 1, 1, 2, 2, 2]


def test_a_frame_of_a_source_has_the_drum_that_was_struck_last():
    placing = source_placing(PLACES, [stroke(4 * HOP + 64, "KD"), stroke(8 * HOP, "SD")], 20)[0]
    assert placing[KICK, 3:9].tolist() == [-2, -2, -2, -2, 0, 0]
    assert placing[SNARE, 6:9].tolist() == [0, -1, -1]
    assert placing[len(LOW) + SNARE, 8] == 2
    every = recorded_placing(PLACES, [stroke(4 * HOP + 64, "KD")], np.arange(6))[0]
    assert every.shape == (6, 18)
    assert every[len(LOW) + KICK, [5, 11, 17]].tolist() == [1, 2, 3]  # at each gain it is another hit


# Rules: three keys of a kick at place 2 (hits 1, 1, 2), one at place 5, a frame without low drums, silence.


def channels(*keys):
    """Return the channels (1, 6, keys) of (class, place, number) each; None: of no low drum."""
    out = torch.zeros(1, 6, len(keys))
    for k, key in enumerate(keys):
        if key is not None:
            c = LOW.index(key[0])
            out[0, c, k], out[0, 3 + c, k] = key[1], key[2]
    return out


KEYS = channels(("KD", 2, 1), ("KD", 2, 1), ("KD", -2, 2), ("KD", 5, 1), ("SD", -2, 3), None, None)
HEADS = (("KD", "SD", "TT"), ("SD",), ())


def test_keys_of_another_place_or_drum_are_masked():
    requested = channels(("KD", 2, 7), ("KD", 5, 7), ("SD", 2, 9), None)
    rules = Rules.of(requested, KEYS, HEADS)
    kick, elsewhere, snare, none = rules.permitted[0, 0].int().tolist()
    assert kick == [1, 1, 1, 0, 1, 1, 1]  # the snare's place is the kick's: likeness tells them apart
    assert elsewhere == [0, 0, 0, 1, 0, 1, 1]
    assert snare == kick
    assert none == [0, 0, 1, 0, 1, 1, 1]  # nothing rules: what was recorded, once
    by_snare = rules.permitted[0, 1].int().tolist()
    assert by_snare == [none, none, [0, 0, 0, 0, 1, 1, 1], none]
    assert rules.permitted[0, 2].int().tolist() == [none] * 4
    assert rules.stroke[0, 0].tolist() == [1, 1, 2, 0]


def test_a_place_that_no_stroke_has_rules_nothing():
    rules = Rules.of(channels(("KD", 7, 3), ("TT", 2, 5)), KEYS[..., :4], HEADS[1:])
    assert rules.permitted[0, 0].int().tolist() == [[0, 0, 1, 0]] * 2
    assert not rules.stroke.any()


def test_attention_is_counted_by_stroke_and_hit():
    keys = channels(("KD", 2, 1), ("KD", 2, 4), ("KD", 2, 1), None)
    requested = channels(("KD", 2, 6), ("KD", 2, 6), ("KD", 2, 9), None)
    rules = Rules.of(requested, keys, HEADS[:1])
    attention = torch.tensor([[0.5, 0.2, 0.3, 0], [0, 0.4, 0, 0.6], [0, 1.0, 0, 0], [0, 0, 0.5, 0.5]])
    by_hit = rules.by_hit(attention[None])
    assert torch.allclose(by_hit, torch.tensor([[[0.8, 0.6], [0.0, 1.0]]]))  # (1, strokes, hits)


def test_items_of_a_batch_do_not_disturb_each_other():
    one = channels(("KD", 2, 3), ("KD", 2, 3), None), channels(("KD", 2, 1), ("KD", 5, 5), None)
    other = channels(("SD", 1, 8), None, None), channels(("SD", 1, 2), ("SD", 3, 9), None)
    both = Rules.of(*(torch.cat(pair) for pair in zip(one, other, strict=True)), HEADS)
    attention = torch.rand(2, 3, 3, generator=torch.Generator().manual_seed(0))
    every = both.by_hit(attention)
    for k, alone in enumerate((one, other)):
        rules = Rules.of(*alone, HEADS)
        assert torch.equal(rules.permitted[0], both.permitted[k])
        counted = every[k][every[k].sum(dim=1) > 0]
        assert torch.allclose(counted[:, counted.sum(dim=0) > 0], rules.by_hit(attention[k : k + 1])[0])


# Which strokes are encoded once more.


def test_what_a_rhythm_needs_is_encoded_and_nothing_else():
    source = [stroke(20_000, "KD", 0.9), stroke(40_000, "SD", 0.9), stroke(60_000, "KD", 0.3)]
    rhythm = [stroke(k * 64 * HOP + 3 * 64, "KD", 0.9) for k in range(1, 4)] + [stroke(9 * HOP, "HH", 1.0)]
    copies = requested_copies(PLACES, low_strokes(source), rhythm)
    # The loud kick first, as it is; the soft one cannot be turned up.
    assert copies == [Copy(0, 4, 0), Copy(2, 4, 0)]
    soft = requested_copies(PLACES, low_strokes(source), [stroke(0, "KD", 0.3), stroke(64 * HOP, "KD", 0.32)])
    assert soft == [Copy(2, 1, 0), Copy(0, 1, 2)]  # .9 * .25 ** .625 = .38
    assert not requested_copies(PLACES, low_strokes(source), [stroke(0, "TT", 0.4)])


def test_however_many_strokes_a_rhythm_has_the_work_is_bounded():
    rng = np.random.default_rng(0)
    source = [
        stroke(int(k), c, float(v))
        for k, c, v in zip(np.arange(200) * 9000, ["KD", "SD", "TT", "KD"] * 50, rng.random(200), strict=True)
    ]
    rhythm = [
        stroke(int(k), c, float(v))
        for k, c, v in zip(
            np.sort(rng.integers(10**8, size=3000)), ["KD", "SD", "TT"] * 1000, rng.random(3000), strict=True
        )
    ]
    copies = requested_copies(PLACES, low_strokes(source), rhythm)
    assert len(copies) == len(set(copies)) == 32
    assert len(requested_copies(PLACES, low_strokes(source), rhythm, most=5)) == 5


def test_strokes_that_fall_together_are_one_the_lowest():
    events = [stroke(1000, "SD"), stroke(1200, "KD"), stroke(1100, "HH"), stroke(30_000, "TT")]
    assert [e.drum_class for e in low_strokes(events)] == ["KD", "TT"]


@pytest.mark.parametrize("place", [1, 4, 8])
def test_a_copys_attack_lies_at_its_place_and_its_rhythm_says_so(place):
    strokes = [stroke(30_000, "KD"), stroke(30_000 + 6000, "SD")]
    copy = Copy(0, place, 1)
    into = 30_000 - first_sample(PLACES, strokes[0], place)
    assert into == HOP + (place - 1) * 64  # after one frame that leads to it
    r = copied_rhythm(CONFIG, strokes, strokes, copy)
    assert r.shape == (1, CONFIG.n_rhythm + 6, copy_frames(PLACES))
    assert r[0, CONFIG.n_rhythm + KICK].tolist() == [place] * copy_frames(PLACES)
    assert set(r[0, CONFIG.n_rhythm + 3 + KICK].tolist()) == {2.0}
    # By it the same sounds as in a rhythm with a kick there, at half the level.
    shifted = [stroke(100 * HOP + (place - 1) * 64, "KD", 0.8 * 0.5**0.625)]
    written = WrittenRhythm(CONFIG, shifted).target(99, 99 + 5).rhythm
    ours, theirs = (Sounding()(x.mT)[0, 1:] for x in (r[:, : CONFIG.n_rhythm, :5], written))
    assert (ours * theirs).sum(dim=-1).min() > 0.99
    # The snare ends what is of the kick: 6000 samples and its place later.
    assert usable_frames(PLACES, strokes, copy) == 1 + (6000 + (place - 1) * 64) // HOP
    assert usable_frames(PLACES, strokes, Copy(1, place, 0)) == copy_frames(PLACES)
