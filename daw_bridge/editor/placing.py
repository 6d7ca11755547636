"""Another rhythm in a document: in the place of all that plays, or of some lanes of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from daw_bridge.editor.document import Draft, Grid
from transform.errors import RhythmError
from transform.events import Rhythm, strokes_of
from transform.strokes import MOST_STROKES, Stroke


@dataclass(frozen=True, kw_only=True)
class Placing:
    """How a rhythm comes into a document."""

    tempo: Literal["grid", "own"] = "grid"  # on the document's beats, or in the rhythm's own seconds
    length: Literal["source", "rhythm"] = "rhythm"  # how long it plays; up to the source's end it loops
    classes: frozenset[str] = frozenset()  # that play it, along with the others; none: all of it


def replace_rhythm(draft: Draft, rhythm: Rhythm, placing: Placing) -> None:
    """Let a rhythm play, and nothing else, in the mode "replay"; or some lanes of it, along with the others.

    A rhythm whose tempo is not known plays in its own seconds.

    Raises:
        RhythmError: it would be more strokes than an editor holds.
    """
    is_whole = placing.length == "rhythm" and not placing.classes
    grid = _own_grid(rhythm, draft.grid) if placing.tempo == "own" or rhythm.tempo_map is None else draft.grid
    if is_whole and rhythm.tempo_map is not None:
        grid = replace(grid, downbeat_s=0.0, beats_per_bar=rhythm.beats_per_bar)
    on_beats = rhythm.tempo_map is not None and placing.tempo == "grid"
    place = _on_grid(rhythm, grid) if on_beats else _in_seconds(rhythm)
    length_s = place.length_s if is_whole else draft.length_s if placing.classes else draft.document.source_s
    strokes = _looped(place, length_s, _free_prefix(draft))
    if placing.classes:
        strokes = (stroke for stroke in strokes if stroke.drum_class in placing.classes)
    for stroke in list(draft.played.values()):
        if not placing.classes or stroke.drum_class in placing.classes:
            draft.remove("played", stroke.id)
    for n, stroke in enumerate(strokes):
        if n >= MOST_STROKES:
            raise RhythmError(
                f"{rhythm.name} would be more than {MOST_STROKES:,} strokes", hint="take fewer bars"
            )
        draft.put("played", stroke)
    if not placing.classes:
        draft.fields |= {"mode": "replay", "length_s": length_s, "grid": grid}


def beginning(rhythm: Rhythm, grid: Grid, length_s: float) -> tuple[Stroke, ...]:
    """Return what a rhythm plays first, so long, at the tempo of a grid where it has beats."""
    place = _in_seconds(rhythm) if rhythm.tempo_map is None else _on_grid(rhythm, replace(grid, downbeat_s=0.0))
    return tuple(_looped(place, length_s, "a"))


def change_mode(draft: Draft, mode: str) -> None:
    """Edit the recording, or play the strokes as a rhythm; an edit ends with the recording."""
    draft.fields["mode"] = mode
    if mode == "edit":
        end_s = draft.fields["length_s"] = draft.document.source_s
        for stroke in list(draft.played.values()):
            if stroke.onset_s >= end_s:
                draft.remove("played", stroke.id)


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
