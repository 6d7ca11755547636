"""Edits of many strokes at once: quantise, swing, humanise, repeat and clear bars; another rhythm."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from daw_bridge.editor.document import LAYERS, Draft, Grid, order
from daw_bridge.editor.fields import Fields
from transform.errors import RhythmError
from transform.events import CLASSES, Rhythm, strokes_of
from transform.strokes import MOST_STROKES, Stroke

_STEPS_BEATS = (1 / 64, 16.0)
_BARS = (-100_000, 100_000)
_MOST_REPEATS = 10_000
_SAME_S = 0.001  # strokes of one class that a grid brings this close become one
_SOFTEST = 0.01
_MOST_DEVIATIONS = 2.0  # of what humanises
_ON_LINE_BEATS = 1e-6
_LONGEST_OWN = 16  # characters of an id that detection gives


def quantise(draft: Draft, edit: Fields) -> None:
    """Move strokes towards the nearest line of a grid; of a class, of those that meet, the loudest stays."""
    step = edit.number("step_beats", *_STEPS_BEATS)
    strength = edit.number("strength", 0.0, 1.0, 1.0)
    grid, chosen = draft.grid, _chosen(draft, edit)

    def on_line(onset_s: float) -> float:
        line_s = grid.time_of(round(grid.beat_at(onset_s) / step) * step)
        return onset_s + strength * (line_s - onset_s)

    _move_all(draft, chosen, on_line)
    _merge(draft, {stroke.id for stroke in chosen})


def swing(draft: Draft, edit: Fields) -> None:
    """Delay every second step of a grid, and what lies around it in proportion: by a third of a step at 1."""
    step = edit.number("step_beats", *_STEPS_BEATS)
    middle = 1 + edit.number("amount", 0.0, 1.0) / 3
    grid = draft.grid

    def swung(onset_s: float) -> float:
        pair, within = divmod(grid.beat_at(onset_s) / step, 2)
        within = within * middle if within < 1 else middle + (within - 1) * (2 - middle)
        return grid.time_of((2 * pair + within) * step)

    _move_all(draft, _chosen(draft, edit), swung)


def humanise(draft: Draft, edit: Fields) -> None:
    """Vary times and velocities at random, by Gaussians of these deviations; the same seed does the same."""
    chance = random.Random(edit.whole("seed", 0, 2**53, 0))
    timing_s = edit.number("timing_s", 0.0, 0.1, 0.0)
    spread = edit.number("velocity", 0.0, 1.0, 0.0)
    for stroke in _chosen(draft, edit):
        later, louder = (
            max(-_MOST_DEVIATIONS, min(_MOST_DEVIATIONS, chance.gauss(0.0, 1.0))) for _ in range(2)
        )
        onset_s = _within(stroke.onset_s + timing_s * later, draft.length_s)
        velocity = min(1.0, max(_SOFTEST, stroke.velocity + spread * louder)) if spread else stroke.velocity
        draft.put("played", replace(stroke, onset_s=onset_s, velocity=velocity))


def clear(draft: Draft, edit: Fields) -> None:
    """Delete what plays in bars."""
    bar, n_bars = edit.whole("bar", *_BARS), edit.whole("n_bars", 1, _BARS[1], 1)
    for stroke in _in_bars(draft, bar, n_bars, _classes(edit)):
        draft.remove("played", stroke.id)


def repeat(draft: Draft, edit: Fields) -> None:
    """Play bars again after them, in the place of what plays there; ids of copies begin with `prefix`."""
    bar, n_bars = edit.whole("bar", *_BARS), edit.whole("n_bars", 1, _BARS[1], 1)
    times, prefix = edit.whole("times", 1, _MOST_REPEATS), edit.id("prefix")
    classes = _classes(edit)
    if any(stroke_id.startswith(f"{prefix}.") for stroke_id in draft.played):
        return  # it has been done
    original = _in_bars(draft, bar, n_bars, classes)
    if len(original) * times > MOST_STROKES:
        raise RhythmError(f"there would be {len(original) * times:,} more strokes", hint="repeat fewer bars")
    grid = draft.grid
    span = n_bars * grid.beats_per_bar
    for stroke in _in_bars(draft, bar + n_bars, n_bars * times, classes):
        draft.remove("played", stroke.id)
    n_copies = 0
    for turn in range(1, times + 1):
        for stroke in original:
            onset_s = grid.time_of(grid.beat_at(stroke.onset_s) + turn * span)
            if 0 <= onset_s < draft.length_s:
                draft.put("played", replace(stroke, id=f"{prefix}.{n_copies}", onset_s=onset_s))
                n_copies += 1


@dataclass(frozen=True, kw_only=True)
class Placing:
    """How a rhythm comes into a document."""

    tempo: Literal["grid", "own"] = "grid"  # on the document's beats, or in the rhythm's own seconds
    length: Literal["source", "rhythm"] = "rhythm"  # how long it plays; up to the source's end it loops


def replace_rhythm(draft: Draft, rhythm: Rhythm, placing: Placing) -> None:
    """Let a rhythm play, and nothing else; the mode is "replay" then.

    A rhythm whose tempo is not known plays in its own seconds.

    Raises:
        RhythmError: it would be more strokes than an editor holds.
    """
    is_whole, source_s = placing.length == "rhythm", draft.document.source_s
    grid = _own_grid(rhythm, draft.grid) if placing.tempo == "own" or rhythm.tempo_map is None else draft.grid
    if is_whole and rhythm.tempo_map is not None:
        grid = replace(grid, downbeat_s=0.0, beats_per_bar=rhythm.beats_per_bar)
    on_beats = rhythm.tempo_map is not None and placing.tempo == "grid"
    place = _on_grid(rhythm, grid) if on_beats else _in_seconds(rhythm)
    length_s = place.length_s if is_whole else source_s
    prefix = _free_prefix(draft)
    for stroke_id in list(draft.played):
        draft.remove("played", stroke_id)
    for n, stroke in enumerate(_looped(place, length_s, prefix)):
        if n >= MOST_STROKES:
            raise RhythmError(
                f"{rhythm.name} would be more than {MOST_STROKES:,} strokes", hint="take fewer bars"
            )
        draft.put("played", stroke)
    draft.fields |= {"mode": "replay", "length_s": length_s, "grid": grid}


def change_mode(draft: Draft, mode: str) -> None:
    """Edit the recording, or play the strokes as a rhythm; an edit ends with the recording."""
    draft.fields["mode"] = mode
    if mode == "edit":
        end_s = draft.fields["length_s"] = draft.document.source_s
        for stroke in list(draft.played.values()):
            if stroke.onset_s >= end_s:
                draft.remove("played", stroke.id)


def redetect(draft: Draft, found: Iterable[Stroke], sensitivity: dict[str, float]) -> None:
    """Take over what is detected at another sensitivity; whatever the user corrected or edited stays.

    A stroke that is found anew is one that is there already where it lies near one: of its class as it was
    estimated or as the user has it, or of any class where the user corrected or dismissed what is not found
    again. Of strokes that are not found again those stay that the user corrected, dismissed, or edited.

    Args:
        draft: the document.
        found: all strokes that are detected now; their ids do not matter.
        sensitivity: by class, which they were detected at.
    """
    estimated, detected = draft.layers["estimated"], draft.layers["detected"]
    touched = _touched(draft)
    own = [stroke for stroke in detected.values() if estimated.get(stroke.id) != stroke]
    corrected = [*(s for s in estimated.values() if detected.get(s.id) != s), *own]
    left, again = _matched(_Matcher(estimated.values()), sorted(found, key=order))
    left, as_corrected = _matched(_Matcher(own), left)
    again |= as_corrected
    others = (s for s in corrected if s.id in estimated and s.id not in again)
    left, elsewhere = _matched(_Matcher(others, any_class=True), left)
    for stroke_id, stroke in as_corrected.items():
        if stroke_id not in estimated:  # drawn by hand, and detected by now
            draft.put("estimated", replace(stroke, id=stroke_id))
    for stroke_id in estimated.keys() - again.keys() - elsewhere.keys() - touched:
        for layer in LAYERS:
            draft.remove(layer, stroke_id)
    last = max((int(i[1:]) for i in draft.known_ids() if _is_own(i)), default=-1)
    for number, stroke in enumerate(left, start=last + 1):
        new = replace(stroke, id=f"d{number}")
        for layer in LAYERS if draft.fields["mode"] == "edit" else LAYERS[:2]:
            draft.put(layer, new)
    draft.fields["sensitivity"] = sensitivity


def _touched(draft: Draft) -> set[str]:
    """Return the ids of estimated strokes that the user drew, corrected, dismissed, or plays otherwise."""
    estimated, detected, played = (draft.layers[name] for name in LAYERS)
    is_other_rhythm = draft.fields["mode"] == "replay" and not detected.keys() & played.keys()
    return {
        i
        for i, stroke in estimated.items()
        if not _is_own(i) or detected.get(i) != stroke or not (is_other_rhythm or played.get(i) == stroke)
    }


def _matched(matcher: _Matcher, found: Iterable[Stroke]) -> tuple[list[Stroke], dict[str, Stroke]]:
    """Return the strokes that are near none of a matcher's, and the others by the id of the one they are."""
    left: list[Stroke] = []
    same: dict[str, Stroke] = {}
    for stroke in found:
        stroke_id = matcher.take(stroke)
        if stroke_id is None:
            left.append(stroke)
        else:
            same[stroke_id] = stroke
    return left, same


class _Matcher:
    """Finds, and gives each id once, strokes of the same class, or of any, at nearly the same time."""

    _NEAR_S = 0.03  # two strokes of a lane are never closer

    def __init__(self, strokes: Iterable[Stroke], *, any_class: bool = False) -> None:
        self._any_class = any_class
        self._at: dict[tuple[str, int], list[Stroke]] = {}
        self._left: set[str] = set()
        for stroke in strokes:
            self._at.setdefault(self._place(stroke), []).append(stroke)
            self._left.add(stroke.id)

    def take(self, stroke: Stroke) -> str | None:
        """Return the id of the nearest stroke that is left, None where none is near."""
        drum_class, bin_ = self._place(stroke)
        near = [s for b in (bin_ - 1, bin_, bin_ + 1) for s in self._at.get((drum_class, b), ())]
        near = [s for s in near if s.id in self._left and abs(s.onset_s - stroke.onset_s) < self._NEAR_S]
        if not near:
            return None
        best = min(near, key=lambda s: abs(s.onset_s - stroke.onset_s))
        self._left.remove(best.id)
        return best.id

    def _place(self, stroke: Stroke) -> tuple[str, int]:
        return "" if self._any_class else stroke.drum_class, math.floor(stroke.onset_s / self._NEAR_S)


def _is_own(stroke_id: str) -> bool:
    """Return whether an id is one that detection gives."""
    return stroke_id[0] == "d" and stroke_id[1:].isdigit() and len(stroke_id) <= _LONGEST_OWN


def _chosen(draft: Draft, edit: Fields) -> list[Stroke]:
    """Return the strokes of an edit's `ids`, all that play without; in order."""
    if "ids" not in edit:
        return sorted(draft.played.values(), key=order)
    ids = dict.fromkeys(edit.ids("ids", MOST_STROKES))
    for stroke_id in ids:
        draft.check_known(stroke_id, edit.what)
    return sorted((draft.played[i] for i in ids if i in draft.played), key=order)


def _classes(edit: Fields) -> frozenset[str]:
    """Return the classes of an edit, all without."""
    found = edit.list("classes", len(CLASSES), list(CLASSES))
    if not all(c in CLASSES for c in found if isinstance(c, str)) or not all(isinstance(c, str) for c in found):
        raise RhythmError(f"classes of {edit.what} are none", hint=f"classes: {', '.join(CLASSES)}")
    return frozenset(found)


def _in_bars(draft: Draft, bar: int, n_bars: int, classes: frozenset[str]) -> list[Stroke]:
    """Return what plays in bars, in order."""
    per_bar, grid = draft.grid.beats_per_bar, draft.grid
    begin, end = bar * per_bar - _ON_LINE_BEATS, (bar + n_bars) * per_bar - _ON_LINE_BEATS
    inside = (
        s for s in draft.played.values() if s.drum_class in classes and begin <= grid.beat_at(s.onset_s) < end
    )
    return sorted(inside, key=order)


def _move_all(draft: Draft, strokes: Iterable[Stroke], new_onset: Callable[[float], float]) -> None:
    for stroke in strokes:
        onset_s = _within(new_onset(stroke.onset_s), draft.length_s)
        draft.put("played", replace(stroke, onset_s=onset_s))


def _merge(draft: Draft, moved: set[str]) -> None:
    """Remove moved strokes that fall together with a louder one of their class."""
    last: dict[str, Stroke] = {}
    for stroke in sorted(draft.played.values(), key=order):
        before = last.get(stroke.drum_class)
        last[stroke.drum_class] = stroke
        if before is None or stroke.onset_s - before.onset_s > _SAME_S or not {before.id, stroke.id} & moved:
            continue
        softer, louder = sorted((stroke, before), key=lambda s: s.velocity)
        draft.remove("played", softer.id)
        last[stroke.drum_class] = louder


def _within(onset_s: float, length_s: float) -> float:
    return min(max(onset_s, 0.0), math.nextafter(length_s, 0.0))


@dataclass(frozen=True)
class _Loop:
    """A rhythm's strokes in the loop of a number, and how long one is from the start of the first."""

    onsets_of: Callable[[int], Iterator[tuple[float, Stroke]]]
    loops: Callable[[float], range]  # those that may sound before a time
    length_s: float


def _on_grid(rhythm: Rhythm, grid: Grid) -> _Loop:
    assert rhythm.tempo_map is not None
    assert rhythm.n_beats is not None
    tempo_map, n_beats = rhythm.tempo_map, rhythm.n_beats
    strokes = [(tempo_map.beats_at(s.onset_s), s) for s in _strokes(rhythm)]

    def onsets_of(loop: int) -> Iterator[tuple[float, Stroke]]:
        return ((grid.time_of(beat + loop * n_beats), stroke) for beat, stroke in strokes)

    def loops(end_s: float) -> range:
        return range(math.floor(grid.beat_at(0.0) / n_beats), math.ceil(grid.beat_at(end_s) / n_beats))

    return _Loop(onsets_of, loops, grid.time_of(n_beats))


def _in_seconds(rhythm: Rhythm) -> _Loop:
    strokes, length_s = _strokes(rhythm), rhythm.length_s

    def onsets_of(loop: int) -> Iterator[tuple[float, Stroke]]:
        return ((stroke.onset_s + loop * length_s, stroke) for stroke in strokes)

    return _Loop(onsets_of, lambda end_s: range(math.ceil(end_s / length_s)), length_s)


def _strokes(rhythm: Rhythm) -> list[Stroke]:
    return [
        Stroke(
            id="-", drum_class=e.drum_class, onset_s=e.onset_s, velocity=e.velocity, articulation=e.articulation
        )
        for e in strokes_of(rhythm.events, rhythm.length_s)
    ]


def _looped(place: _Loop, length_s: float, prefix: str) -> Iterator[Stroke]:
    n = 0
    for loop in place.loops(length_s):
        for onset_s, stroke in place.onsets_of(loop):
            if 0 <= onset_s < length_s:
                yield replace(stroke, id=f"{prefix}.{n}", onset_s=onset_s)
                n += 1


def _own_grid(rhythm: Rhythm, grid: Grid) -> Grid:
    """Return the grid of a rhythm in its own seconds; where its tempo is not known, the present one."""
    if rhythm.tempo_map is None:
        return grid
    return Grid(tempo=rhythm.tempo_map.changes, beats_per_bar=rhythm.beats_per_bar)


def _free_prefix(draft: Draft) -> str:
    """Return what no id has ever begun with: r0, r1, ..."""
    taken = {i.partition(".")[0] for i in draft.known_ids()}
    number = 0
    while f"r{number}" in taken:
        number += 1
    return f"r{number}"
