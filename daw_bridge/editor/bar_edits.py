"""Edits of whole bars: clear, repeat, and fills at the end of every so many."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import NamedTuple

from daw_bridge.editor.document import Draft, order
from daw_bridge.editor.fields import Fields
from transform.errors import RhythmError
from transform.events import CLASSES
from transform.strokes import MOST_STROKES, Stroke

_BARS = (-100_000, 100_000)
_MOST_REPEATS = 10_000
_ON_LINE_BEATS = 1 / 16  # before a bar line, from which a stroke that is a little early belongs to the bar


def clear(draft: Draft, edit: Fields) -> None:
    """Delete what plays in bars."""
    bar, n_bars = edit.whole("bar", *_BARS), edit.whole("n_bars", 1, _BARS[1], 1)
    for stroke in _in_bars(draft, bar, n_bars, _classes(edit)):
        draft.remove("played", stroke.id)


def repeat(draft: Draft, edit: Fields) -> None:
    """Play bars again after them, in the place of what plays there; ids of copies begin with `prefix`."""
    bar, n_bars = edit.whole("bar", *_BARS), edit.whole("n_bars", 1, _BARS[1], 1)
    times, prefix = edit.whole("times", 1, _MOST_REPEATS), edit.id("prefix")
    begins = (bar + turn * n_bars for turn in range(1, times + 1))
    _copy(draft, _Copied(bar, n_bars, _classes(edit), prefix), begins)


def fill(draft: Draft, edit: Fields) -> None:
    """Play bars again at the end of every so many, counted from the first, in the place of what is there."""
    bar, n_bars = edit.whole("bar", *_BARS), edit.whole("n_bars", 1, _BARS[1], 1)
    every, prefix = edit.whole("every", 2, _BARS[1]), edit.id("prefix")
    classes = _classes(edit)
    if n_bars >= every:
        raise RhythmError(
            f"a fill of {n_bars} bars does not fit into {every}", hint="take fewer bars as the fill"
        )
    end = math.ceil(draft.grid.beat_at(draft.length_s) / draft.grid.beats_per_bar - _ON_LINE_BEATS)
    begins = (begin for begin in range(every - n_bars, end, every) if abs(begin - bar) >= n_bars)
    _copy(draft, _Copied(bar, n_bars, classes, prefix), begins)


class _Copied(NamedTuple):
    """Bars that are played again, and how the ids of their copies begin."""

    bar: int
    n_bars: int
    classes: frozenset[str]
    prefix: str


def _copy(draft: Draft, copied: _Copied, begins: Iterable[int]) -> None:
    """Play bars again from other bars on, in the place of what plays there; once for each prefix."""
    bar, n_bars, classes, prefix = copied
    if any(stroke_id.startswith(f"{prefix}.") for stroke_id in draft.played):
        return  # it has been done
    last = draft.grid.beat_at(draft.length_s) / draft.grid.beats_per_bar - _ON_LINE_BEATS
    original, places = _in_bars(draft, bar, n_bars, classes), [begin for begin in begins if begin < last]
    if not original or not places:
        raise RhythmError("there is nothing to play again, or no bar for it", hint="take other bars")
    if len(original) * len(places) > MOST_STROKES:
        raise RhythmError(
            f"there would be {len(original) * len(places):,} more strokes", hint="repeat fewer bars"
        )
    for stroke in _in_any_bar(draft, {b for begin in places for b in range(begin, begin + n_bars)}, classes):
        draft.remove("played", stroke.id)
    grid, n_copies = draft.grid, 0
    for begin in places:
        shift = (begin - bar) * grid.beats_per_bar
        for stroke in original:
            onset_s = grid.time_of(grid.beat_at(stroke.onset_s) + shift)
            if 0 <= onset_s < draft.length_s:
                copy_id, like = f"{prefix}.{n_copies}", draft.original_of(stroke.id)
                draft.put("played", replace(stroke, id=copy_id, onset_s=onset_s, like=like))
                n_copies += 1


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


def _in_any_bar(draft: Draft, bars: Collection[int], classes: frozenset[str]) -> list[Stroke]:
    """Return what plays in any of some bars."""
    per_bar, grid = draft.grid.beats_per_bar, draft.grid
    return [
        s
        for s in draft.played.values()
        if s.drum_class in classes and math.floor((grid.beat_at(s.onset_s) + _ON_LINE_BEATS) / per_bar) in bars
    ]
