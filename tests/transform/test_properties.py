"""What holds for every rhythm, drawn at random: rhythms keep to their rules, and MIDI gives them back."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transform.errors import RedrumError
from transform.events import (
    ARTICULATIONS,
    BOUNDARY_S,
    CLASSES,
    DrumEvent,
    Rhythm,
    TempoMap,
)
from transform.midi import parse_midi, write_midi
from transform.tempo import align, estimate_tempo

numbers = st.one_of(
    st.floats(0.0, 1.0, allow_subnormal=False),
    st.floats(1.0, 300.0),
    st.floats(allow_subnormal=False),
    st.sampled_from([0.0, -0.0, 1e-320, 1e308, math.inf, math.nan]),
)
tempi = st.floats(20.0, 400.0)


@st.composite
def tempo_maps(draw):
    steps = draw(st.lists(st.tuples(st.floats(0.25, 16.0), tempi), max_size=4))
    beats = np.cumsum([beats for beats, _ in steps]).tolist()
    return TempoMap(((0.0, draw(tempi)), *((beat, bpm) for beat, (_, bpm) in zip(beats, steps, strict=True))))


@st.composite
def events(draw, length_s):
    drum_class = draw(st.sampled_from(CLASSES))
    return DrumEvent(
        draw(st.floats(0.0, length_s, exclude_max=True, allow_subnormal=False)),
        drum_class,
        draw(st.floats(0.001, 1.0)),
        draw(st.sampled_from(ARTICULATIONS[drum_class])),
    )


@st.composite
def rhythms(draw, *, has_tempo=True):
    length_s = draw(st.floats(0.05, 60.0))
    tempo_map = draw(tempo_maps()) if has_tempo else draw(st.none() | tempo_maps())
    found = draw(st.lists(events(length_s), max_size=12))
    return Rhythm(tuple(found), length_s, tempo_map, "any", draw(st.sampled_from([3.0, 3.5, 4.0, 5.0])))


def assert_is_in_order(rhythm):
    onsets = [event.onset_s for event in rhythm.events]
    assert onsets == sorted(onsets)
    assert not onsets or 0 <= onsets[0] <= onsets[-1] < rhythm.length_s


def strokes(rhythm):
    return sorted((event.drum_class, event.velocity) for event in rhythm.events)


@given(numbers, st.text(max_size=3) | st.sampled_from(CLASSES), numbers, st.sampled_from(["", "open", "x"]))
def test_an_event_is_sound_or_refused(survives, onset_s, drum_class, velocity, articulation):
    event = survives("events", DrumEvent, onset_s, drum_class, velocity, articulation)
    if event is not None:
        assert 0 <= event.onset_s < math.inf
        assert 0 < event.velocity <= 1
        assert event.articulation in ARTICULATIONS[event.drum_class]


@given(st.lists(st.tuples(numbers, numbers), max_size=4), numbers)
def test_a_tempo_map_is_sound_or_refused(survives, changes, at):
    found = survives("tempo maps", TempoMap, ((0.0, 120.0), *changes))
    if found is not None and math.isfinite(at) and abs(at) < 1e6:
        assert math.isfinite(found.seconds_at(at))
        assert math.isfinite(found.beats_at(at))


@given(tempo_maps(), st.lists(st.floats(0.0, 500.0, allow_subnormal=False), min_size=1, max_size=20))
def test_beats_and_seconds_are_inverse(found, beats):
    seconds = [found.seconds_at(beat) for beat in sorted(beats)]
    assert seconds == sorted(seconds)
    assert [found.beats_at(second) for second in seconds] == pytest.approx(sorted(beats), abs=1e-8)


@given(st.data(), numbers, numbers, numbers)
def test_what_is_asked_of_a_rhythm_is_done_or_refused(survives, data, start_s, length_s, other):
    rhythm = data.draw(rhythms(has_tempo=False))
    asked = {
        "section": lambda: rhythm.section(start_s, min(length_s, 500.0)),
        "at_tempo": lambda: rhythm.at_tempo(other),
        "snapped": lambda: rhythm.snapped(other),
        "with_velocity": lambda: rhythm.with_velocity(other),
        "align": lambda: align(rhythm, mode="auto", source_bpm=other, rhythm_bpm=start_s)[0],
        "write_midi": lambda: parse_midi(write_midi(rhythm), name="any"),
    }
    what = data.draw(st.sampled_from(sorted(asked)))
    found = survives(f"rhythms, {what}", asked[what])
    if found is not None:
        assert_is_in_order(found)


@given(rhythms())
def test_a_section_of_all_of_it_is_the_rhythm(rhythm):
    same = rhythm.section(0.0, rhythm.length_s)
    assert same.length_s == rhythm.length_s
    assert same.tempo_map.beats_at(same.length_s) == pytest.approx(rhythm.n_beats)
    assert strokes(same) == strokes(rhythm)
    if all(event.onset_s < rhythm.length_s - BOUNDARY_S for event in rhythm.events):
        assert same.events == rhythm.events


@given(rhythms(), st.integers(1, 4))
def test_looped_it_plays_every_stroke_again(rhythm, n_times):
    looped = rhythm.section(0.0, n_times * rhythm.length_s)
    assert_is_in_order(looped)
    assert strokes(looped) == sorted(strokes(rhythm) * n_times)


@given(rhythms(), tempi)
def test_at_another_tempo_and_back_every_stroke_is_where_it_was(rhythm, bpm):
    steady = rhythm.at_tempo(100.0)
    back = steady.at_tempo(bpm).at_tempo(100.0)
    assert back.length_s == pytest.approx(steady.length_s)
    assert [event.onset_s for event in back.events] == pytest.approx(
        [event.onset_s for event in steady.events], abs=1e-6
    )
    assert strokes(back) == strokes(rhythm)


@given(rhythms())
def test_on_the_grid_every_stroke_is_on_the_nearest_line(rhythm):
    gridded = rhythm.snapped(0.0)
    assert_is_in_order(gridded)
    beats_at, end = rhythm.tempo_map.beats_at, rhythm.n_beats
    played = {(event.drum_class, event.velocity): beats_at(event.onset_s) for event in rhythm.events}
    for event in gridded.events:
        line = beats_at(event.onset_s)
        assert abs(12 * line - round(12 * line)) < 1e-4 or line == pytest.approx(end)
        if len(played) == len(rhythm.events):
            moved = abs(line - played[event.drum_class, event.velocity])
            assert min(moved, abs(end - moved)) <= 1 / 8 + 1e-6 or end < 1 / 4


@given(rhythms())
def test_midi_gives_a_rhythm_back(survives, rhythm):
    if not rhythm.events:
        with pytest.raises(RedrumError):
            parse_midi(write_midi(rhythm), name="any")
        return
    read = survives("MIDI written and read", lambda: parse_midi(write_midi(rhythm), name="any"))
    assert read.beats_per_bar == rhythm.beats_per_bar
    # A tick is 1 ms or less; an onset is right to half of it, at the very end to one and a half. Strokes of one
    # class on one tick become one, the loudest.
    ticks = {}
    for event in rhythm.events:
        ticks.setdefault(event.drum_class, []).append(event)
    for drum_class, played in ticks.items():
        heard = [event for event in read.events if event.drum_class == drum_class]
        for event in played:
            near = [h for h in heard if abs(h.onset_s - event.onset_s) <= 1.6e-3]
            assert near
            assert max(h.velocity for h in near) >= event.velocity - 0.5 / 127 - 1e-9
        for h in heard:
            assert any(abs(h.onset_s - event.onset_s) <= 1.6e-3 for event in played)


@given(st.data(), st.floats(0.01, 1e4))
def test_any_performance_has_a_tempo_within_range_or_none(data, length_s):
    played = data.draw(st.lists(events(length_s), max_size=30))
    found = estimate_tempo(played, length_s)
    if found is not None:
        assert 68 <= found[0] <= 183
        assert 0 <= found[1] <= 1
