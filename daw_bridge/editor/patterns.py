"""Edits of many strokes at once: quantise, swing, humanise."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import replace

from daw_bridge.editor.document import Draft, order
from daw_bridge.editor.fields import Fields
from transform.strokes import MOST_STROKES, Stroke

_STEPS_BEATS = (1 / 64, 16.0)
_SAME_S = 0.001  # strokes of one class that a grid brings this close become one
_SOFTEST = 0.01
_MOST_DEVIATIONS = 2.0  # of what humanises


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


def _chosen(draft: Draft, edit: Fields) -> list[Stroke]:
    """Return the strokes of an edit's `ids`, all that play without; in order."""
    if "ids" not in edit:
        return sorted(draft.played.values(), key=order)
    ids = dict.fromkeys(edit.ids("ids", MOST_STROKES))
    for stroke_id in ids:
        draft.check_known(stroke_id, edit.what)
    return sorted((draft.played[i] for i in ids if i in draft.played), key=order)


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
