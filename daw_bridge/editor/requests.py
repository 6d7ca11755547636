"""What requests of pages hold: queries, bodies, and the fields that several of them have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from daw_bridge.editor.document import BEATS_PER_BAR_RANGE, LONGEST_S, TEMPO_RANGE_BPM, Draft, Grid
from daw_bridge.editor.fields import Fields, parse_json
from daw_bridge.editor.mix import GAIN_RANGE_DB, Lane
from daw_bridge.editor.placing import Placing
from transform.errors import RhythmError, SettingsError
from transform.events import CLASSES, MOST_TEMPI

LONGEST_SHOWN = 100  # characters of what a stranger sent

_MOST_VERSION = 2**53
_MOST_JSON_BYTES = 4 * 2**20
_MOST_FILE_BYTES = 2**30  # of a rhythm that is dropped on the page
_MOST_BEATS = 1e6  # of a grid, from its downbeat


class TooLarge(Exception):
    """A request has more bytes than are taken."""


def query_of(request: Request) -> Fields:
    """Return the fields of a query, each there once; whole numbers in it are numbers."""
    found: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in found:
            raise SettingsError(f"{name[:LONGEST_SHOWN]} is given twice", hint="give it once")
        is_number = value.isascii() and value.isdigit() and len(value) < 20 and name not in ("name", "id")
        found[name] = int(value) if is_number else value
    return Fields(found, "the request")


async def body_of(request: Request) -> Fields:
    """Return the fields of a body in JSON."""
    data = bytearray()
    async for block in request.stream():
        data += block
        if len(data) > _MOST_JSON_BYTES:
            raise TooLarge
    return Fields(parse_json(bytes(data)), "the request")


async def store_body(request: Request, path: Path) -> None:
    """Store a body in a file."""
    n_bytes = 0
    with path.open("xb") as file:
        async for block in request.stream():
            n_bytes += len(block)
            if n_bytes > _MOST_FILE_BYTES:
                raise TooLarge
            await run_in_threadpool(file.write, block)


def version_of(fields: Fields) -> int:
    """Return which version a request is about."""
    return fields.whole("version", 0, _MOST_VERSION)


def which_of(query: Fields, choices: tuple[str, ...] = ("source", "take")) -> tuple[str, int]:
    """Return which sound is requested, and of which version."""
    which = query.choice("which", choices)
    return which, query.whole("version", 0, _MOST_VERSION, *([0] if which == "source" else []))


def placing_of(fields: Fields) -> Placing:
    """Return how a rhythm that is requested comes into the document."""
    tempo: Any = fields.choice("tempo", ("grid", "own"), "grid")
    length: Any = fields.choice("length", ("source", "rhythm"), "rhythm")
    named = fields.text("classes", LONGEST_SHOWN, "").split(",") if "classes" in fields else []
    if unknown := next((name for name in named if name not in CLASSES), None):
        raise RhythmError(f"{unknown!r} is no class", hint=f"classes: {', '.join(CLASSES)}")
    return Placing(tempo=tempo, length=length, classes=frozenset(named))


def sensitivity_of(fields: Fields) -> dict[str, float] | None:
    """Return the sensitivities by class that a request sets, None where it sets none."""
    if "sensitivity" not in fields:
        return None
    found = Fields(fields.any("sensitivity"), "sensitivity")
    sensitivity = {c: found.number(c, -1.0, 1.0) for c in CLASSES if c in found}
    found.end()
    return sensitivity


def lanes_change(fields: Fields) -> Callable[[Draft], None] | None:
    """Return what sets lanes as a request has them, None where it has none; what it leaves out stays."""
    if "lanes" not in fields:
        return None
    lanes = Fields(fields.any("lanes"), "lanes")
    given = {c: Fields(lanes.any(c), f"the lane {c}") for c in CLASSES if c in lanes}
    lanes.end()

    def change(draft: Draft) -> None:
        after = dict(draft.fields["lanes"])
        for drum_class, lane in given.items():
            before = after.get(drum_class, Lane())
            after[drum_class] = Lane(
                gain_db=lane.number("gain_db", *GAIN_RANGE_DB, before.gain_db),
                is_muted=lane.flag("muted", before.is_muted),
                is_soloed=lane.flag("soloed", before.is_soloed),
            )
            lane.end()
        draft.fields["lanes"] = {c: lane for c, lane in after.items() if lane != Lane()}

    return change


def grid_change(fields: Fields) -> Callable[[Draft], None]:
    """Return what changes the grid of a document: all of it, some of it, or one line of it."""
    if "line" in fields:
        line = Fields(fields.any("line"), "line")
        beat = line.number("beat", -_MOST_BEATS, _MOST_BEATS)
        time_s = line.number("time_s", -LONGEST_S, LONGEST_S)
        line.end()
        return lambda draft: _set_grid(draft, draft.grid.with_line_at(beat, time_s))
    given: dict[str, Any] = {}
    grid = Fields(fields.any("grid"), "grid")
    if "tempo" in grid:
        given["tempo"] = tuple(_tempo_step(step) for step in grid.list("tempo", MOST_TEMPI))
    for name, low, high in (("beats_per_bar", *BEATS_PER_BAR_RANGE), ("downbeat_s", -LONGEST_S, LONGEST_S)):
        if name in grid:
            given[name] = grid.number(name, low, high)
    grid.end()
    return lambda draft: _set_grid(draft, replace(draft.grid, **given))


def _set_grid(draft: Draft, grid: Grid) -> None:
    draft.fields["grid"] = grid


def _tempo_step(step: object) -> tuple[float, float]:
    if not isinstance(step, list) or len(step) != 2:
        raise RhythmError("a tempo of the grid is not [beat, BPM]")
    entry = Fields({"beat": step[0], "bpm": step[1]}, "a tempo of the grid")
    return entry.number("beat", 0.0, _MOST_BEATS), entry.number("bpm", *TEMPO_RANGE_BPM)
