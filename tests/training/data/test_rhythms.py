from dataclasses import replace

import numpy as np
import pytest

from training.data.rhythms import AS_PLAYED, VariationSettings, draw_strokes, event_columns
from transform.events import ARTICULATIONS, CLASSES, DrumEvent, Rhythm, TempoMap

BEAT_S = 0.5  # of the steady grooves


def draw(groove, seed, settings, start_s=0.0, stop_s=3.0):
    rng = np.random.default_rng(seed)
    return draw_strokes([groove], start_s=start_s, stop_s=stop_s, settings=settings, rng=rng)


def varied(groove, seed, **changes):
    """Return the strokes of a seed as they are played, and with one variation; all else is drawn alike."""
    settings = VariationSettings(**(vars(AS_PLAYED) | changes))
    return draw(groove, seed, AS_PLAYED), draw(groove, seed, settings)


@pytest.fixture
def steady(groove):
    """Return a function that makes a groove of equal strokes every so many beats, of classes in turn."""

    def make(step_beats, classes=("HH",)):
        onsets = np.arange(0, 8, step_beats)
        played = np.resize([CLASSES.index(c) for c in classes], len(onsets))
        return replace(
            groove(bpm=60 / BEAT_S),
            onset_beats=onsets,
            class_index=played,
            articulation=("",) * len(onsets),
            velocity=np.full(len(onsets), 0.6),
        )

    return make


def test_packed_toms_are_of_three_heights():
    heights = ("floor", "low", "low-mid", "mid", "high-mid", "high", "")
    events = tuple(DrumEvent(0.1 * i, "TT", 0.5, height) for i, height in enumerate(heights))
    columns = event_columns(Rhythm(events, 2.0, TempoMap.constant(120)))
    assert columns["articulation"] == ("low", "low", "mid", "mid", "high", "high", "")


def test_as_played_is_the_groove_from_one_of_its_beats(groove):
    played = groove(bpm=97.0)
    beat_s = 60 / 97.0
    whole = {
        (round(float(beat), 9), CLASSES[c], articulation, float(velocity))
        for beat, c, articulation, velocity in zip(
            played.onset_beats, played.class_index, played.articulation, played.velocity, strict=True
        )
    }
    for seed, start_s in [(seed, start_s) for seed in range(8) for start_s in (0.0, -1.0)]:
        strokes = draw(played, seed, AS_PLAYED, start_s, start_s + 20)
        found = []
        for first_beat in range(8):
            beats = [round(((s.onset_s - start_s) / beat_s + first_beat) % 8, 9) % 8 for s in strokes]
            sounds = {
                (b, s.drum_class, s.articulation, s.velocity) for b, s in zip(beats, strokes, strict=True)
            }
            found.append(sounds == whole)
        assert any(found), f"seed {seed} from {start_s} s"
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


def test_variations_stay_in_range(groove):
    for seed in range(150):
        strokes = draw(groove(), seed, ALL_OF_IT, start_s=-1.0)
        assert strokes == sorted(strokes), f"seed {seed}"
        last_s = {}
        for stroke in strokes:
            where = f"seed {seed}: {stroke}"
            assert -1.0 <= stroke.onset_s < 3.0, where
            assert 0 < stroke.velocity <= 1, where
            assert stroke.articulation in ARTICULATIONS[stroke.drum_class], where
            if not stroke.is_grace:
                assert stroke.onset_s - last_s.get(stroke.drum_class, -9) >= 0.02, where
                last_s[stroke.drum_class] = stroke.onset_s


def test_swing_plays_every_other_unit_late_by_up_to_a_triplet(steady):
    amounts = {1: [], 2: []}  # by units a beat: eighths are late, or sixteenths
    for seed in range(40):
        straight, swung = varied(steady(0.25), seed, swing=1.0)
        late = np.array([s.onset_s for s in swung]) - [s.onset_s for s in straight]
        assert [replace(s, onset_s=0.0) for s in swung] == [replace(s, onset_s=0.0) for s in straight]
        sixteenths = np.arange(len(late)) % 4
        assert np.allclose(late[sixteenths == 0], 0), f"seed {seed}: beats stay"
        units = 1 if late[2] > 1e-6 else 2
        amounts[units].append(late[2 // units] / (BEAT_S / units))
        # Between beats all is late, most in the middle; or off-beat eighths stay, and sixteenths are late.
        pattern = (0, 0.5, 1, 0.5) if units == 1 else (0, 0.5, 0, 0.5)
        assert np.allclose(late, late[2 // units] * np.array(pattern)[sixteenths] / pattern[2 // units]), seed
    for units, drawn in amounts.items():
        assert len(drawn) > 10, units
        assert 0.025 <= min(drawn) < 0.06, units
        assert 0.13 < max(drawn) <= 1 / 6, units  # a triplet: at two thirds of a unit, not at its half


def test_micro_timing_is_a_normal_deviation_of_its_own_size_in_each_segment(steady):
    deviations_ms = []
    for seed in range(100):
        exact, loose = varied(steady(0.5), seed, micro_timing_ms=10.0)
        first = len(exact) - len(loose)  # the first may have moved out of the segment
        assert first in (0, 1)
        moved = [s.onset_s - e.onset_s for s, e in zip(loose, exact[first:], strict=True)]
        deviations_ms.append(1000 * np.array(moved[1:]))
    sizes = np.array([d.std() for d in deviations_ms])
    assert sizes.min() < 1.5
    assert 7 < sizes.max() < 16
    spread = np.concatenate(deviations_ms)
    assert spread.std() == pytest.approx(10 / np.sqrt(3), rel=0.15)  # the sizes are drawn from 0 to 10 ms
    assert abs(spread.mean()) < 0.6


def test_dropout_loses_a_class_or_up_to_a_third_of_the_strokes(steady):
    lost_classes, lost_shares = [], []
    for seed in range(200):
        whole, left = varied(steady(0.25, CLASSES), seed, dropout=1.0)
        assert set(left) <= set(whole), f"seed {seed}"
        lost = set(whole) - set(left)
        classes = {s.drum_class for s in lost}
        if len(classes) == 1 and not any(s.drum_class in classes for s in left):
            lost_classes += classes
        else:
            lost_shares.append(len(lost) / len(whole))
    assert set(lost_classes) == set(CLASSES)
    assert len(lost_classes) / 200 == pytest.approx(0.4, abs=0.1)
    assert np.mean(lost_shares) == pytest.approx(0.175, abs=0.03)
    assert max(lost_shares) < 0.6


def test_tempo_factors_are_drawn_evenly_over_their_range(steady):
    settings = VariationSettings(**(vars(AS_PLAYED) | {"tempo_low": 0.5, "tempo_high": 2.0}))
    octaves = []
    for seed in range(60):
        step_s = np.diff([s.onset_s for s in draw(steady(0.5), seed, settings)])
        assert np.allclose(step_s, step_s[0]), f"seed {seed}"
        octaves.append(np.log2(0.5 * BEAT_S / step_s[0]))
    assert -1 <= min(octaves) < -0.85
    assert 0.85 < max(octaves) <= 1
    assert abs(np.mean(octaves)) < 0.25


def test_strokes_that_are_added_are_those_of_their_variation(steady):
    """Ghost notes come to what is played; fills and double kicks take the place of some of it."""
    steps, n_toms, softness = np.array([1 / 6, 1 / 4, 1 / 3]) * BEAT_S, [], []
    for seed in range(30):
        where = f"seed {seed}"
        plain, ghosts = varied(steady(1.0), seed, ghost_notes=1.0)
        added = set(ghosts) - set(plain)
        assert set(plain) <= set(ghosts), where
        assert {s.drum_class for s in added} == {"SD"}, where
        softness += [s.velocity for s in added]

        plain, fill = varied(steady(0.5, ("SD",)), seed, tom_fill=1.0)
        toms = [s.onset_s for s in fill if s.drum_class == "TT"]
        n_toms.append(len(toms))
        inside = (s for s in plain if toms and toms[0] < s.onset_s - 1e-6 < toms[-1] - 2e-6)
        assert not set(inside) & set(fill), f"{where}: the snare rests meanwhile"

        plain, kicks = varied(steady(1.0, ("KD", "HH")), seed, double_kicks=1.0)
        run = [s for s in kicks if s.drum_class == "KD"]
        assert min(abs(steps - min(np.diff([s.onset_s for s in run])))) < 1e-6, where
        assert len(run) > 1.5 * sum(s.drum_class == "KD" for s in plain), where
        assert [s for s in kicks if s.drum_class == "HH"] == [s for s in plain if s.drum_class == "HH"], where
    assert 3 < np.mean(n_toms) < max(n_toms) <= 12
    assert 0.06 <= min(softness) < 0.1
    assert 0.34 < max(softness) <= 0.38


def test_flams_are_soft_strokes_just_before_some_of_snares_and_toms(steady):
    n_strokes = n_graces = 0
    for seed in range(50):
        plain, flams = varied(steady(1.0, ("SD", "TT", "KD")), seed, flams=1.0)
        graces = [s for s in flams if s.is_grace]
        assert [s for s in flams if not s.is_grace] == plain, f"seed {seed}"
        for grace in graces:
            (stroke,) = (s for s in plain if 0.012 <= s.onset_s - grace.onset_s <= 0.035)
            assert stroke.drum_class == grace.drum_class in ("SD", "TT"), f"seed {seed}"
            assert grace.velocity == pytest.approx(0.45 * stroke.velocity), f"seed {seed}"
        n_graces += len(graces)
        n_strokes += sum(s.drum_class in ("SD", "TT") and s.onset_s > 0.035 for s in plain)
    assert n_graces / n_strokes == pytest.approx(0.3, abs=0.1)


def test_classes_are_exchanged_where_they_are_played(steady):
    exchanged = set()
    for seed in range(200):
        plain, swapped = varied(steady(0.5, ("SD", "HH", "CY")), seed, class_swap=1.0)
        assert [s.onset_s for s in swapped] == [s.onset_s for s in plain], f"seed {seed}"
        pairs = zip(plain, swapped, strict=True)
        exchanged |= {(p.drum_class, s.drum_class, s.articulation) for p, s in pairs if p != s}
    snares = {("SD", "SD", "sidestick"), ("SD", "SD", "clap"), ("SD", "SD", "rim"), ("SD", "SD", "brush")}
    hats = {("HH", "HH", "open"), ("HH", "CY", "ride"), ("HH", "CY", "crash"), ("CY", "HH", "closed")}
    toms = {("HH", "TT", "high"), ("HH", "TT", "mid"), ("HH", "TT", "low"), ("SD", "TT", "mid")}
    assert exchanged == snares | hats | toms


def test_a_random_grid_is_no_groove(steady):
    heard = set()
    for seed in range(30):
        heard |= {s.drum_class for s in draw(steady(1.0), seed, replace(AS_PLAYED, random_grid=1.0))}
    assert heard == set(CLASSES)


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
