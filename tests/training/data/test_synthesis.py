from dataclasses import replace

import numpy as np
import pytest
import torch

from training.data.kits import Kit, OneShot, ProceduralPool
from training.data.rhythms import AS_PLAYED, Stroke
from training.data.synthesis import (
    BusRecipe,
    SegmentRecipe,
    Synthesiser,
    SynthesisSettings,
    Voice,
    apply_bus,
    audible_strokes,
    cut_on_stroke,
    pseudo_target,
    render_batch,
    render_batch_stems,
    render_stems,
)
from transform.events import CLASSES

RATE = 44_100


def voice(*sounds, gain=1.0, softness=0.0):
    """Return a voice of layers from soft to loud; its dull copy is the sound at half the level."""
    tensors = [torch.as_tensor(sound, dtype=torch.float32) for sound in sounds]
    return Voice(tuple(torch.stack((s, 0.5 * s)) for s in tensors), gain, softness, "made")


def recipe(voices, strokes, **changes):
    return SegmentRecipe(
        voices=voices, strokes=tuple(strokes), velocity_exponent=1.0, bus=BusRecipe(), n_samples=RATE, **changes
    )


@pytest.fixture
def synthesiser(kit, groove):
    """Return a function that makes a synthesiser, the stock of procedural drums included, from nothing."""

    def make(seed=0, **settings):
        pool = ProceduralPool(torch.Generator().manual_seed(seed), size=1)
        pool.fill()
        settings = SynthesisSettings(**({"n_samples": RATE} | settings))
        kits = [kit("made-a", "train"), kit("made-b", "train", seed=9)]
        return Synthesiser(kits, [groove()], settings, pool=pool)

    return make


CLICK = np.array([0.9, 0.5, -0.2, 0.1])


@pytest.mark.parametrize("onset_s", [0.0, 1 / RATE, 0.1, 0.33333, 0.7654321])
def test_a_click_lands_on_its_sample(onset_s):
    stems = render_stems(recipe({("SD", ""): voice(CLICK, gain=0.5)}, [Stroke(onset_s, "SD", "", 0.8)]))
    expected = torch.zeros(5, RATE)
    start = round(onset_s * RATE)
    expected[1, start : start + 4] = torch.tensor(CLICK * 0.5 * 0.8)
    assert torch.allclose(stems, expected, atol=1e-7)


def test_what_began_before_the_segment_rings_into_it_and_what_outlasts_it_is_cut():
    long = np.arange(1, RATE + 1) / RATE
    strokes = [Stroke(-0.5, "CY", "crash", 1.0), Stroke(0.9, "KD", "", 1.0)]
    stems = render_stems(recipe({("CY", "crash"): voice(long), ("KD", ""): voice(long)}, strokes))
    assert torch.allclose(stems[4, : RATE // 2], torch.tensor(long[RATE // 2 :], dtype=torch.float32))
    assert not stems[4, RATE // 2 :].any()
    assert torch.allclose(stems[0, round(0.9 * RATE) :], torch.tensor(long[: RATE // 10], dtype=torch.float32))


def test_loud_strokes_take_the_loud_layer_and_soft_ones_are_duller():
    soft, loud = np.array([0.1, 0.1]), np.array([0.8, 0.8])
    strokes = [Stroke(0.0, "SD", "", 0.25), Stroke(0.5, "SD", "", 1.0)]
    stems = render_stems(recipe({("SD", ""): voice(soft, loud, softness=0.5)}, strokes))
    dullness = 0.5 * (1 - 0.25)
    assert stems[1, 0] == pytest.approx(0.25 * 0.1 * ((1 - dullness) + dullness * 0.5))
    assert stems[1, RATE // 2] == pytest.approx(0.8)


def test_a_hat_stroke_chokes_the_one_before():
    ring = np.ones(RATE)
    voices = {("HH", "open"): voice(ring), ("HH", "closed"): voice(np.array([0.5, 0.25]))}
    strokes = [Stroke(0.1, "HH", "open", 1.0), Stroke(0.4, "HH", "closed", 1.0)]
    hat = render_stems(recipe(voices, strokes))[3]
    first, second = round(0.1 * RATE), round(0.4 * RATE)
    assert torch.equal(hat[first:second], torch.ones(second - first))
    assert hat[second] == 1.5
    fade = hat[second + 2 : second + 440]
    assert (fade.diff() < 0).all()
    assert not hat[second + 440 :].any()
    # Other classes do not choke.
    strokes[1] = Stroke(0.4, "SD", "", 1.0)
    hat = render_stems(recipe({**voices, ("SD", ""): voice(CLICK)}, strokes))[3]
    assert hat[second:].all()


@pytest.mark.parametrize("effects", [0.0, 1.0])
def test_stems_sum_to_the_recording(synthesiser, effects):
    recipes = synthesiser(effects=effects).draw(8, np.random.default_rng(0))
    recipes = [replace(r, bus=replace(r.bus, noise_db=-120.0)) for r in recipes]
    audio = render_batch(recipes)
    assert audio.shape == (8, RATE)
    assert torch.isfinite(audio).all()
    assert torch.allclose(render_batch_stems(recipes).sum(dim=1), audio, atol=1e-5)
    peaks = torch.tensor([r.bus.peak for r in recipes])
    assert torch.allclose(audio.abs().amax(dim=1), peaks, rtol=1e-3)


def test_noise_belongs_to_no_stem(synthesiser):
    drawn = synthesiser().draw(1, np.random.default_rng(0))[0]
    noisy = replace(drawn, bus=replace(drawn.bus, noise_db=-50.0))
    noise = render_batch([noisy]) - render_batch_stems([noisy]).sum(dim=1)
    level_db = 20 * torch.log10(noise.square().mean().sqrt() / noisy.bus.peak)
    assert -65 < level_db < -45


def test_a_bus_does_not_depend_on_the_other_recordings_of_its_batch(synthesiser):
    recipes = synthesiser(effects=1.0).draw(4, np.random.default_rng(2))
    together = render_batch(recipes)
    for one, audio in zip(recipes, together, strict=True):
        assert torch.allclose(render_batch([one])[0], audio, atol=1e-5)


def test_silence_stays_silence():
    assert not apply_bus(torch.zeros(1, 5, RATE), [BusRecipe(threshold_db=-20, ratio=4, drive_db=6)]).any()


def test_same_seed_same_bytes(synthesiser):
    first, second = (render_batch(synthesiser(7).draw(4, np.random.default_rng(7))) for _ in range(2))
    assert first.numpy().tobytes() == second.numpy().tobytes()
    assert not torch.equal(first, render_batch(synthesiser(7).draw(4, np.random.default_rng(8))))


def test_own_rhythm_gives_the_own_rendering(synthesiser):
    for own in synthesiser().draw(6, np.random.default_rng(3)):
        assert torch.equal(render_stems(pseudo_target(own, own)), render_stems(own))


def naive_rendering(source, target):
    """Return the source's one-shots at the target's onsets, sample by sample: no hats, one sound a class."""
    out = np.zeros((5, target.n_samples), dtype=np.float64)
    for stroke in target.strokes:
        key = next(key for key in source.voices if key[0] == stroke.drum_class)
        sounding = source.voices[key]
        layers = [layer.numpy().astype(np.float64) for layer in sounding.layers]
        bright, dull = layers[min(len(layers) - 1, int(stroke.velocity * len(layers)))]
        dullness = sounding.softness * (1 - stroke.velocity)
        amplitude = sounding.gain * stroke.velocity**source.velocity_exponent
        start = round(stroke.onset_s * RATE)
        for i in range(len(bright)):
            if 0 <= start + i < target.n_samples:
                value = amplitude * ((1 - dullness) * bright[i] + dullness * dull[i])
                out[CLASSES.index(stroke.drum_class), start + i] += value
    return out


def test_a_pseudo_target_is_the_source_at_the_targets_onsets(hit):
    keys = [("KD", ""), ("SD", "rim"), ("TT", "high"), ("CY", "ride")]

    def segment(seed, articulations):
        rng = np.random.default_rng(seed)
        voices = {
            (c, articulations.get(c, a)): voice(hit(c, seed), hit(c, seed + 1), gain=0.7, softness=0.6)
            for c, a in keys
        }
        strokes = [
            Stroke(float(rng.uniform(-0.1, 1.0)), *list(voices)[rng.integers(4)], float(rng.uniform(0.1, 1)))
            for _ in range(12)
        ]
        strokes += [Stroke(0.2, *key, 0.5) for key in voices]
        return replace(recipe(voices, sorted(strokes)), velocity_exponent=1.0 + seed / 10)

    source, target = segment(1, {}), segment(5, {"SD": "brush", "TT": "low"})
    made = pseudo_target(source, target)
    assert [s.onset_s for s in made.strokes] == [s.onset_s for s in target.strokes]
    assert made.voices is source.voices
    assert np.allclose(render_stems(made).numpy(), naive_rendering(source, target), atol=1e-6)


def test_a_missing_class_is_played_by_the_nearest(hit):
    voices = {("KD", ""): voice(hit("KD")), ("SD", "rim"): voice(hit("SD"))}
    source = recipe(voices, [Stroke(0.0, "KD", "", 1.0), Stroke(0.1, "SD", "rim", 1.0)])
    target = recipe(
        {}, [Stroke(0.2, "TT", "low", 0.5), Stroke(0.4, "HH", "open", 0.6), Stroke(0.6, "KD", "", 0.7)]
    )
    played = [(s.drum_class, s.articulation, s.velocity) for s in pseudo_target(source, target).strokes]
    assert played == [("SD", "rim", 0.5), ("SD", "rim", 0.6), ("KD", "", 0.7)]
    # A voice that the source has and never plays is not heard in it, so it plays nothing.
    silent = replace(source, strokes=source.strokes[:1])
    assert {s.drum_class for s in pseudo_target(silent, target).strokes} == {"KD"}
    assert pseudo_target(replace(source, strokes=()), target).strokes == ()


def test_what_is_30_db_below_the_mix_is_not_audible():
    loud, quiet = np.full(4410, 0.5), np.full(4410, 0.5)
    strokes = [
        Stroke(0.1, "KD", "", 1.0),
        Stroke(0.1, "HH", "closed", 0.02),  # -34 dB beside the kick
        Stroke(0.5, "HH", "closed", 0.02),  # alone
        Stroke(0.7, "KD", "", 1.0),
        Stroke(0.7, "SD", "", 0.05),  # -26 dB beside the kick
        Stroke(-0.05, "KD", "", 1.0),  # before the segment
        Stroke(1.2, "KD", "", 1.0),  # after it
    ]
    voices = {("KD", ""): voice(loud), ("SD", ""): voice(quiet), ("HH", "closed"): voice(quiet)}
    stems = render_stems(recipe(voices, strokes))
    assert audible_strokes(stems, strokes).tolist() == [True, False, True, True, True, False, False]


def test_kits_are_shared_by_the_segments_of_a_draw(synthesiser):
    first, second = synthesiser(effects=0.0).draw(2, np.random.default_rng(1), per_kit=2)
    shared = set(first.voices) & set(second.voices)
    assert shared
    assert all(first.voices[key] is second.voices[key] for key in shared)


def beats(first_s, last_s, step_s=0.25):
    n = round((last_s - first_s) / step_s)
    return [Stroke(round(first_s + i * step_s, 6), "SD", "", 0.5) for i in range(n)]


def test_a_loop_is_cut_out_on_a_stroke(subtests):
    for seed in range(40):
        with subtests.test(seed=seed):
            played = beats(-1.0, 4.0)
            cut = cut_on_stroke(played, 3.0, np.random.default_rng(seed))
            onsets = np.array([s.onset_s for s in cut])
            first = onsets[np.abs(onsets) < 0.1]
            assert len(first) == 1
            assert -0.002 <= first[0] <= 0.008
            assert np.allclose(np.diff(onsets), 0.25)
            assert 2.7 < onsets[-1] < 3.0
            assert onsets[0] == pytest.approx(first[0]) or onsets[0] < -0.7


def test_loops_begin_on_the_first_sample_or_near_it_with_and_without_tails():
    cuts = [cut_on_stroke(beats(-1.0, 4.0), 3.0, np.random.default_rng(seed)) for seed in range(300)]
    exact = np.mean([any(s.onset_s == 0 for s in cut) for cut in cuts])
    ringing = np.mean([cut[0].onset_s < -0.1 for cut in cuts])
    assert 0.3 < exact < 0.5
    assert 0.4 < ringing < 0.6
    # What plays nothing near its beginning is cut there all the same.
    late = [Stroke(2.0, "SD", "", 0.5)]
    assert len(cut_on_stroke(late, 3.0, np.random.default_rng(0))) == 1


def test_segments_are_cut_on_strokes_as_often_as_asked(synthesiser):
    for cut, least, most in ((1.0, 0.95, 1.0), (0.0, 0.0, 0.8)):
        recipes = synthesiser(pre_roll=0.0, cut=cut, effects=0.0).draw(60, np.random.default_rng(1))
        begin = [any(-0.003 <= s.onset_s <= 0.008 for s in recipe.strokes) for recipe in recipes]
        assert least <= np.mean(begin) <= most
    sounding = [bool(render_stems(r)[:, :50].any()) for r in recipes if min(s.onset_s for s in r.strokes) == 0]
    assert all(sounding)


def test_a_stroke_whose_attack_is_cut_off_is_a_tail():
    loud = np.full(4410, 0.5)
    strokes = [Stroke(onset_s, "KD", "", 1.0) for onset_s in (-0.02, -0.0031, -0.0029, 0.0)]
    for stroke, is_audible in zip(strokes, (False, False, True, True), strict=True):
        stems = render_stems(recipe({("KD", ""): voice(loud)}, [stroke]))
        assert audible_strokes(stems, [stroke]).tolist() == [is_audible]


def snares(n):
    """Return a kit of a kick, hats and `n` snares of one voice, from soft to loud; each is one value."""
    shots = [OneShot("SD", "", float(i - n), torch.full((64,), (i + 1) / n)) for i in range(n)]
    shots += [OneShot(c, "", 0.0, torch.full((64,), 0.5)) for c in ("KD", "HH", "TT", "CY")]
    return Kit("made", "acoustic", "train", tuple(shots))


PLAIN = {"procedural": 0.0, "layered": 0.0, "reshaped": 0.0, "effects": 0.0, "n_samples": RATE}


def drawn_voices(kit, groove, key, **settings):
    """Return a voice of each of 60 segments of one kit."""
    source = Synthesiser([kit], [groove], SynthesisSettings(**(PLAIN | settings)), pool=None)
    recipes = source.draw(60, np.random.default_rng(0), per_kit=1)
    return [recipe.voices[key] for recipe in recipes if key in recipe.voices]


def test_layers_are_any_hits_of_a_voice_from_soft_to_loud(groove):
    def levels(**settings):
        found = drawn_voices(snares(12), groove(), ("SD", ""), rattling=0.0, **settings)
        return [[round(float(layer[0, 20]) * 12) for layer in v.layers] for v in found]

    drawn = levels()
    assert all(layers == sorted(layers) and 2 <= len(layers) <= 3 for layers in drawn)
    assert {level for layers in drawn for level in layers} == set(range(1, 13))
    assert all((layers[0], layers[-1]) == (1, 12) for layers in levels(drawn_layers=False))


def test_a_kick_shakes_the_snare_faintly_and_is_no_snare(groove, kit):
    made = kit("made", "train")
    (kick,) = (shot.samples for shot in made.one_shots if shot.drum_class == "KD")
    for is_rattling, (low_db, high_db) in ((0.0, (-200, -190)), (1.0, (-75, -18))):
        for v in drawn_voices(made, groove(), ("KD", ""), rattling=is_rattling):
            (layer,) = v.layers
            added = layer[0] - torch.nn.functional.pad(kick, (0, layer.shape[1] - len(kick)))
            assert low_db <= 20 * torch.log10(added.abs().max() + 1e-10) <= high_db
            assert "rattle" in v.origin or not is_rattling
    assert not any("rattle" in v.origin for v in drawn_voices(made, groove(), ("HH", "closed"), rattling=1.0))


@pytest.fixture
def voices_of(groove):
    """Return a function that draws voices of a kit, which is a 1-kHz tone of 0.4 s, over and over."""

    def draw(n, drum_class="SD", *, pool=None, **changes):
        tone = 0.9 * torch.sin(2 * torch.pi * 1000 * torch.arange(17_640) / RATE)
        kits = [Kit("tone", "made", "train", (OneShot(drum_class, "", 0.0, tone),))]
        beat = {"onset_beats": np.zeros(1), "class_index": np.array([CLASSES.index(drum_class)])}
        one = replace(groove(n_beats=1.0), articulation=("",), velocity=np.ones(1), **beat)
        as_recorded = {"procedural": 0.0, "mixed_kit": 1.0, "layered": 0.0, "reshaped": 0.0, "rattling": 0.0}
        settings = SynthesisSettings(n_samples=4410, variation=AS_PLAYED, **(as_recorded | changes))
        synthesiser = Synthesiser(kits, [one], settings, pool=pool)
        recipes = synthesiser.draw(n, np.random.default_rng(0), per_kit=1)
        return [recipe.voices[drum_class, ""] for recipe in recipes]

    return draw


def pitch_of(sound):
    """Return how many semitones above 1 kHz the lowest partial of a sound (T,) lies; drive adds the third."""
    spectrum = torch.fft.rfft(sound, 2**17).abs()
    low, high = (round(hz / RATE * 2**17) for hz in (500, 2000))
    return 12 * np.log2((low + int(spectrum[low:high].argmax())) * RATE / 2**17 / 1000)


@pytest.mark.parametrize(("drum_class", "largest"), [("KD", 3.0), ("SD", 4.0), ("TT", 5.0)])
def test_reshaped_voices_are_tuned_up_or_down_by_up_to_their_class_largest_shift(
    voices_of, drum_class, largest
):
    drawn = voices_of(80, drum_class, reshaped=1.0)
    pitches = np.array([pitch_of(voice.layers[0][0]) for voice in drawn])
    assert np.abs(pitches).max() < largest + 0.2
    assert pitches.min() < -0.6 * largest
    assert pitches.max() > 0.6 * largest
    assert pitches.std() == pytest.approx(largest / 2, rel=0.3)  # normal, twice its deviation the largest
    lengths = np.array([voice.layers[0].shape[1] for voice in drawn])
    assert np.allclose(lengths, 17_640 / 2 ** (pitches / 12), rtol=0.01)  # as a slower or faster tape


def test_voices_are_as_recorded_where_nothing_is_reshaped(voices_of):
    assert all(abs(pitch_of(voice.layers[0][0])) < 0.01 for voice in voices_of(5))


def test_reshaped_voices_have_other_decays_attacks_and_tones(voices_of):
    def envelope_db(voice):
        """Return the level of 20-ms frames against the loudest sample."""
        sound = voice.layers[0][0]
        levels = sound[: len(sound) // 882 * 882].reshape(-1, 882).abs().amax(dim=1)
        return 20 * torch.log10(levels / levels.max()).numpy()

    assert np.abs(envelope_db(voices_of(1)[0])).max() < 0.2
    drawn = [envelope_db(voice) for voice in voices_of(80, reshaped=1.0)]
    decaying = [d for d in drawn if d[-1] < -4]
    assert len(decaying) / len(drawn) == pytest.approx(0.3, abs=0.15)
    louder = [d for d in drawn if d[0] == 0 and -8 < d[4] < -0.5 and abs(d[4] - d[-1]) < 0.3]
    softer = [d for d in drawn if d[0] < -0.5 and abs(d[4] - d[-1]) < 0.3]
    assert louder
    assert softer


def test_voices_have_the_levels_of_their_class(voices_of):
    hats, kicks = (
        20 * np.log10([voice.gain for voice in voices_of(60, drum_class)]) for drum_class in ("HH", "KD")
    )
    assert -26 <= hats.min() < -20
    assert -9 < hats.max() <= -3
    assert -10 <= kicks.min() < -7
    assert -1.5 < kicks.max() <= 2


def test_voices_of_a_class_are_up_to_4_db_apart(groove, kit):
    settings = SynthesisSettings(**PLAIN, variation=replace(AS_PLAYED, class_swap=1.0))
    source = Synthesiser([kit("made", "train")], [groove()], settings, pool=None)
    drawn = [recipe.voices for recipe in source.draw(600, np.random.default_rng(0), per_kit=1)]
    hats = [[v["HH", name].gain for name in ("closed", "open") if ("HH", name) in v] for v in drawn]
    apart_db = [20 * np.log10(both[1] / both[0]) for both in hats if len(both) == 2]
    assert -4 <= min(apart_db) < -2
    assert 2 < max(apart_db) <= 4


def test_some_voices_have_a_second_sound_of_their_class_layered_in(voices_of):
    noise = torch.rand(500, generator=torch.Generator().manual_seed(0)) - 0.5
    pool = ProceduralPool(torch.Generator(), size=1, hits={("SD", ""): [OneShot("SD", "", 0.0, noise)]})
    (plain,) = voices_of(1)
    shares = []
    for voice in voices_of(60, layered=0.5, pool=pool):
        found = torch.linalg.lstsq(torch.stack((plain.layers[0][0, :500], noise)).T, voice.layers[0][0, :500])
        tone, second = found.solution.tolist()
        shares.append(second / (tone + second))
    layered = [share for share in shares if share > 1e-4]
    assert len(layered) / len(shares) == pytest.approx(0.5, abs=0.2)
    assert 0.2 <= min(layered) < 0.35
    assert 0.55 < max(layered) <= 0.7
