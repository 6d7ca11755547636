import numpy as np
import pytest
import torch

from training.data.kits import OneShot, ProceduralPool, common_articulation, has_classes, kits_of, trimmed


@pytest.mark.parametrize("silence", [0, 1, 37, 220])
def test_trimmed_begins_at_the_attack(hit, silence):
    sound = np.concatenate((np.zeros(silence, dtype=np.float32), hit("SD")))
    cut = trimmed(sound)
    assert cut[0] == sound[silence]
    assert np.array_equal(cut[:1000], sound[silence : silence + 1000])


def test_attack_is_where_a_twentieth_of_the_peak_is_reached():
    ramp = np.concatenate((np.linspace(0, 1, 201), np.linspace(1, 0, 4000))).astype(np.float32)
    assert trimmed(ramp)[0] == pytest.approx(0.05)


def test_trimmed_ends_with_what_can_be_heard():
    sound = np.concatenate((np.full(2000, 0.9), np.full(30_000, 1e-4))).astype(np.float32)
    cut = trimmed(sound)
    assert len(cut) == 2000
    assert cut[-1] == 0


def test_long_one_shots_are_cut_and_faded():
    cut = trimmed(np.ones(44_100 * 4, dtype=np.float32))
    assert len(cut) == 2 * 44_100
    assert cut[-1] == 0


def test_silence_is_trimmed_to_nothing():
    assert len(trimmed(np.zeros(5000, dtype=np.float32))) == 0


def test_articulation_names_of_kit_makers(subtests):
    cases = [
        ("HH", "closed_3", "closed"),
        ("HH", "semiopen", "open"),
        ("CY", "ridebell", "bell"),
        ("CY", "ride2", "ride"),
        ("TT", "tomfloor", "low"),
        ("SD", "clap", "clap"),
        ("SD", "snare", ""),
        ("KD", "kick", ""),
    ]
    for drum_class, name, ours in cases:
        with subtests.test(drum_class=drum_class, name=name, ours=ours):
            assert common_articulation(drum_class, name) == ours


def test_voices_are_sorted_from_soft_to_loud(kit):
    made = kit("made", "train")
    sound = made.one_shots[0].samples
    shots = tuple(OneShot("KD", "", level_db, sound) for level_db in (-3.0, -20.0, 0.0))
    voices = type(made)("made", "acoustic", "train", shots).voices("KD")
    assert [hit.level_db for hit in voices[""]] == [-20.0, -3.0, 0.0]


def test_sides_and_classes(kit):
    kits = [kit("a", "train"), kit("b", "test", voices=[("SD", "")])]
    assert [k.name for k in kits_of(kits, "test")] == ["b"]
    assert has_classes(kits[0])
    assert not has_classes(kits[1])
    assert has_classes(kits[1], ["SD"])


def make_pool(seed):
    pool = ProceduralPool(torch.Generator().manual_seed(seed), size=2)
    pool.fill()
    return pool


@pytest.mark.slow
def test_renewals_can_be_replayed():
    played, replayed = make_pool(3), make_pool(3)
    first = make_pool(3)
    for step in range(40):
        played.renew(np.random.default_rng(step), 2)
    replayed.replay([np.random.default_rng(step) for step in range(40)], 2)
    n_new = 0
    for key, hits in played.hits.items():
        for mine, again, old in zip(hits, replayed.hits[key], first.hits[key], strict=True):
            assert torch.equal(mine.samples, again.samples)
            n_new += not torch.equal(mine.samples, old.samples)
    assert n_new >= 20


def test_pool_gives_any_of_the_class_for_what_nobody_makes():
    drawn = make_pool(0).draw(np.random.default_rng(0), "TT", "")
    assert drawn.drum_class == "TT"
    assert drawn.articulation in ("high", "mid", "low")
