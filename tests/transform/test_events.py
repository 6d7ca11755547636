import math
from dataclasses import replace

import numpy as np
import pytest

from transform.errors import RhythmError, SettingsError
from transform.events import MOST_EVENTS, DrumEvent, Rhythm, TempoMap


def onsets(rhythm):
    return [event.onset_s for event in rhythm.events]


def classes(rhythm):
    return [event.drum_class for event in rhythm.events]


def at_beats(beats, bpm=120.0, n_beats=4.0, drum_class="SD"):
    events = tuple(DrumEvent(beat * 60 / bpm, drum_class, 0.8) for beat in beats)
    return Rhythm(events, n_beats * 60 / bpm, TempoMap.constant(bpm))


def test_event_refuses_what_no_drum_does(subtests):
    cases = [
        {"onset_s": -0.001},
        {"onset_s": math.nan},
        {"onset_s": math.inf},
        {"drum_class": "XX"},
        {"velocity": 0.0},
        {"velocity": 1.01},
        {"velocity": math.nan},
        {"articulation": "half"},
        {"drum_class": "SD", "articulation": "open"},
    ]
    for fields in cases:
        with subtests.test(fields=fields), pytest.raises(RhythmError):
            DrumEvent(**({"onset_s": 0.0, "drum_class": "HH", "velocity": 0.5} | fields))


def test_rhythm_sorts_its_events_by_time_then_class():
    rhythm = Rhythm((DrumEvent(0.5, "KD", 1), DrumEvent(0, "CY", 1), DrumEvent(0, "KD", 1)), 1.0)
    assert [(e.onset_s, e.drum_class) for e in rhythm.events] == [(0, "KD"), (0, "CY"), (0.5, "KD")]


@pytest.mark.parametrize("length_s", [0.0, -1.0, math.nan, math.inf, 0.5])
def test_rhythm_refuses_a_length_that_does_not_hold_its_events(length_s):
    with pytest.raises(RhythmError):
        Rhythm((DrumEvent(0.5, "KD", 1),), length_s)


def test_tempo_map_converts_both_ways_through_changes_and_beyond_them():
    tempo_map = TempoMap(((0, 120), (4, 60), (6, 240)))  # 2 s, then 2 s, then 0.25 s a beat
    known = {-2: -1.0, 0: 0.0, 3: 1.5, 4: 2.0, 5: 3.0, 6: 4.0, 10: 5.0}
    for beat, second in known.items():
        assert tempo_map.seconds_at(beat) == pytest.approx(second, abs=1e-12)
        assert tempo_map.beats_at(second) == pytest.approx(beat, abs=1e-12)
    np.testing.assert_allclose(tempo_map.seconds_at(np.array(list(known), float)), list(known.values()))
    assert [tempo_map.bpm_at(beat) for beat in (-1, 3.9, 4, 100)] == [120, 120, 60, 240]


def test_tempo_map_refuses_what_is_no_tempo_map(subtests):
    cases = [(), ((1, 120),), ((0, 0),), ((0, math.inf),), ((0, 120), (0, 60)), ((0, 120), (4, 60), (2, 60))]
    for changes in cases:
        with subtests.test(changes=changes), pytest.raises(RhythmError):
            TempoMap(changes)


def test_section_of_a_longer_rhythm_cuts_it():
    section = at_beats([0, 1, 2, 3]).section(0.5, 1.0)
    assert onsets(section) == [0.0, 0.5]
    assert section.length_s == 1.0


def test_section_of_a_shorter_rhythm_loops_it():
    section = at_beats([0, 3]).section(0.0, 5.0)  # the loop lasts 2 s
    assert onsets(section) == [0.0, 1.5, 2.0, 3.5, 4.0]
    assert section.n_beats == 10


def test_section_may_start_beyond_the_end():
    assert onsets(at_beats([0, 3]).section(5.0, 2.0)) == pytest.approx([0.5, 1.0])


def test_section_keeps_onsets_exact_after_a_thousand_loops():
    length_s = 2 / 3 + 0.1
    rhythm = Rhythm((DrumEvent(0.1, "KD", 1), DrumEvent(1 / 3, "SD", 1)), length_s)
    section = rhythm.section(0.0, 1001 * length_s)
    assert len(section.events) == 2002
    assert onsets(section)[-2:] == pytest.approx([1000 * length_s + 0.1, 1000 * length_s + 1 / 3], abs=1e-10)


def test_section_counts_every_event_of_a_loop_once_wherever_it_is_cut():
    rhythm = at_beats([0, 0.1, 1 / 3, 1, 2.3], bpm=97, n_beats=3)
    for start_s in np.linspace(0, 3 * rhythm.length_s, 100):
        assert len(rhythm.section(float(start_s), rhythm.length_s).events) == 5
    for start in onsets(rhythm):
        assert onsets(rhythm.section(start + rhythm.length_s * 7, 1.0))[0] == pytest.approx(0, abs=1e-12)


def test_section_repeats_tempo_changes_in_every_loop():
    rhythm = Rhythm((DrumEvent(2.0, "KD", 1),), 4.0, TempoMap(((0, 120), (4, 60))))  # 4 beats + 2 beats
    section = rhythm.section(3.0, 8.0)
    assert section.tempo_map.changes == ((0, 60), (1, 120), (5, 60), (7, 120), (11, 60))
    assert [section.tempo_map.beats_at(onset) for onset in onsets(section)] == [5, 11]


@pytest.mark.parametrize(("start_s", "length_s"), [(-1, 1), (math.nan, 1), (0, 0), (0, math.inf)])
def test_section_refuses_impossible_times(start_s, length_s):
    with pytest.raises(SettingsError):
        at_beats([0]).section(start_s, length_s)


def test_empty_rhythm_loops_to_an_empty_rhythm():
    assert Rhythm((), 1.0).section(0, 100).events == ()


def test_at_tempo_keeps_beats_of_a_changing_tempo():
    rhythm = Rhythm((DrumEvent(1.0, "KD", 1), DrumEvent(3.0, "SD", 1)), 4.0, TempoMap(((0, 120), (4, 60))))
    retimed = rhythm.at_tempo(60)
    assert onsets(retimed) == [2.0, 5.0]
    assert (retimed.length_s, retimed.bpm, retimed.n_beats) == (6.0, 60, 6.0)


def test_at_tempo_needs_a_tempo():
    with pytest.raises(SettingsError, match="not known") as caught:
        Rhythm((), 1.0).at_tempo(120)
    assert "--rhythm-bpm" in caught.value.hint


def test_snapped_goes_from_played_to_grid():
    played = at_beats([0.02, 0.28, 0.65, 1.0, 2.31], bpm=60)
    assert played.snapped(1) is played
    assert onsets(played.snapped(0)) == pytest.approx([0, 0.25, 2 / 3, 1.0, 2 + 1 / 3])
    assert onsets(played.snapped(0.5))[:2] == pytest.approx([0.01, 0.265])


def test_snapped_takes_an_anticipated_end_to_the_beginning_of_the_loop():
    snapped = at_beats([1, 3.98]).snapped(0)
    assert onsets(snapped) == [0.0, 0.5]
    assert onsets(at_beats([1, 3.98]).snapped(0.5))[-1] == pytest.approx(1.995)


def test_snapped_makes_one_stroke_of_a_flam_and_keeps_the_louder():
    flam = Rhythm(
        (DrumEvent(0.48, "SD", 0.3), DrumEvent(0.5, "SD", 0.9), DrumEvent(0.5, "KD", 0.5)),
        2.0,
        TempoMap.constant(120),
    )
    assert [(e.drum_class, e.velocity) for e in flam.snapped(0).events] == [("KD", 0.5), ("SD", 0.9)]
    assert len(flam.snapped(0.1).events) == 3


@pytest.mark.parametrize("amount", [-0.1, 1.1, math.nan])
def test_snapped_refuses_amounts_outside_0_to_1(amount):
    with pytest.raises(SettingsError):
        at_beats([0]).snapped(amount)


def test_snapped_needs_a_tempo():
    with pytest.raises(SettingsError):
        Rhythm((), 1.0).snapped(0)


def test_with_velocity_is_the_rhythms_own_or_flat():
    rhythm = at_beats([0, 1])
    assert rhythm.with_velocity("rhythm") is rhythm
    assert [event.velocity for event in rhythm.with_velocity(0.25).events] == [0.25, 0.25]
    for wrong in (0, 1.5, math.nan, "loud"):
        with pytest.raises(SettingsError):
            rhythm.with_velocity(wrong)


def test_only_keeps_some_classes():
    rhythm = Rhythm(tuple(DrumEvent(0.1, c, 1) for c in ("KD", "SD", "HH")), 1.0)
    assert classes(rhythm.only({"SD", "KD"})) == ["KD", "SD"]
    with pytest.raises(SettingsError, match="XX"):
        rhythm.only({"XX"})


def test_replace_keeps_a_rhythm_valid():
    with pytest.raises(RhythmError):
        replace(at_beats([0, 3]), length_s=1.0)


def test_one_position_is_converted_as_many_are():
    random = np.random.default_rng(0)
    beats = np.concatenate(([0.0], np.cumsum(random.uniform(0.01, 5, 300))))
    tempo_map = TempoMap(tuple(zip(beats.tolist(), random.uniform(20, 400, 301).tolist(), strict=True)))
    at = np.concatenate((random.uniform(-10, 900, 2000), beats))
    for convert in (tempo_map.seconds_at, tempo_map.beats_at):
        assert [convert(float(x)) for x in at] == convert(at).tolist()  # to the bit
    assert [tempo_map.bpm_at(x) for x in at] == [
        tempo_map.changes[max(0, int(np.searchsorted(beats, x, side="right")) - 1)][1] for x in at
    ]
    assert tempo_map.beats_between(beats[3], beats[7]) == beats[4:7].tolist()
    assert tempo_map.beats_between(9.0, 3.0) == []


def test_more_strokes_than_anybody_plays_are_refused():
    dense = tuple(DrumEvent(i / 20_000, "SD", 0.5) for i in range(3000))
    with pytest.raises(RhythmError, match=r"3,000 strokes in 0\.2 s"):
        Rhythm(dense, 0.2)
    assert len(Rhythm(dense, 60.0).events) == 3000


def test_a_blink_is_not_looped_for_a_day():
    blink = Rhythm(tuple(DrumEvent(0.0, c, 0.5) for c in ("KD", "SD", "HH")), 0.01)
    assert len(blink.section(0.0, 10.0).events) == 3000
    with pytest.raises(RhythmError, match=f"in more than {MOST_EVENTS:,} strokes"):
        blink.section(0.0, 86_400.0)
