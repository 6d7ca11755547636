import numpy as np
import pytest

from training.rhythms import AS_PLAYED, VariationSettings, draw_strokes
from transform.events import ARTICULATIONS, CLASSES


def draw(groove, seed, settings, start_s=0.0, stop_s=3.0):
    rng = np.random.default_rng(seed)
    return draw_strokes([groove], start_s=start_s, stop_s=stop_s, settings=settings, rng=rng)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("start_s", [0.0, -1.0])
def test_as_played_is_the_groove_from_one_of_its_beats(groove, seed, start_s):
    played = groove(bpm=97.0)
    strokes = draw(played, seed, AS_PLAYED, start_s, start_s + 20)
    beat_s = 60 / 97.0
    whole = {
        (round(float(beat), 9), CLASSES[c], articulation, float(velocity))
        for beat, c, articulation, velocity in zip(
            played.onset_beats, played.class_index, played.articulation, played.velocity, strict=True
        )
    }
    found = []
    for first_beat in range(8):
        beats = [round(((s.onset_s - start_s) / beat_s + first_beat) % 8, 9) % 8 for s in strokes]
        sounds = {(b, s.drum_class, s.articulation, s.velocity) for b, s in zip(beats, strokes, strict=True)}
        found.append(sounds == whole)
    assert any(found)
    n_loops = 20 / (8 * beat_s)
    assert len(strokes) == pytest.approx(n_loops * len(whole), abs=len(whole) / 2)


ALL_OF_IT = VariationSettings(
    random_grid=0.3,
    swing=0.5,
    dropout=0.5,
    ghost_notes=0.8,
    flams=0.8,
    tom_fill=0.8,
    class_swap=0.8,
    double_kicks=0.4,
)


@pytest.mark.parametrize("seed", range(150))
def test_variations_stay_in_range(groove, seed):
    strokes = draw(groove(), seed, ALL_OF_IT, start_s=-1.0)
    assert strokes == sorted(strokes)
    last_s = {}
    for stroke in strokes:
        assert -1.0 <= stroke.onset_s < 3.0
        assert 0 < stroke.velocity <= 1
        assert stroke.articulation in ARTICULATIONS[stroke.drum_class]
        if not stroke.is_grace:
            assert stroke.onset_s - last_s.get(stroke.drum_class, -9) >= 0.02
            last_s[stroke.drum_class] = stroke.onset_s


def test_each_variation_can_be_heard(groove):
    plain = draw(groove(), 0, AS_PLAYED)
    kinds = {}
    for name in ("swing", "dropout", "ghost_notes", "flams", "tom_fill", "class_swap", "double_kicks"):
        settings = VariationSettings(**(vars(AS_PLAYED) | {name: 1.0}))
        kinds[name] = [draw(groove(), seed, settings) for seed in range(8)]
        assert any(strokes != plain for strokes in kinds[name])
    assert any(s.is_grace for strokes in kinds["flams"] for s in strokes)
    assert all(len(strokes) <= len(plain) + 3 for strokes in kinds["dropout"])
    assert any(sum(s.drum_class == "TT" for s in strokes) > 2 for strokes in kinds["tom_fill"])


def test_tempo_factor_stays_in_its_range(groove):
    settings = VariationSettings(**(vars(AS_PLAYED) | {"tempo_low": 0.5, "tempo_high": 2.0}))
    for seed in range(30):
        hats = [s.onset_s for s in draw(groove(bpm=120.0), seed, settings) if s.drum_class == "HH"]
        step_s = np.diff(hats)
        assert np.allclose(step_s, step_s[0])
        assert 0.125 <= step_s[0] <= 0.5


def only(**changes):
    return VariationSettings(**(vars(AS_PLAYED) | changes))


def test_a_random_grid_is_as_loud_and_as_soft_as_a_drummer(groove):
    played = groove()
    known = {
        name: {float(v) for v in played.velocity[played.class_index == c]} for c, name in enumerate(CLASSES)
    }
    for seed in range(20):
        assert all(s.velocity in known[s.drum_class] for s in draw(played, seed, only(random_grid=1.0)))


def test_who_plays_no_ghost_notes_gets_hardly_any(groove):
    settings = VariationSettings(random_grid=0.0, tom_fill=0.0)
    drawn = [s for seed in range(300) for s in draw(groove(), seed, settings) if s.drum_class == "SD"]
    assert 0 < np.mean([s.velocity < 0.4 for s in drawn if not s.is_grace]) < 0.2


def test_crashes_fall_on_kicks_and_snares_and_hats_pause(groove):
    n_crashes = 0
    for seed in range(60):
        strokes = draw(groove(), seed, only(class_swap=1.0))
        added = [s for s in strokes if s.articulation == "crash" and s.velocity != 0.7]
        drums_s = {s.onset_s for s in strokes if s.drum_class in ("KD", "SD")}
        hats_s = [s.onset_s for s in strokes if s.drum_class == "HH"]
        if added and hats_s:
            n_crashes += len(added)
            assert {s.onset_s for s in added} <= drums_s
            assert all(abs(s.onset_s - hat_s) >= 0.03 for s in added for hat_s in hats_s)
    assert n_crashes > 5
