"""The document of the editor: what is in a recording, what plays instead, and the grid; commands and history.

A command is a value that says what was and what shall be, so its inverse is exact. Nothing here knows a server,
a disk or a sound.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import repeat
from typing import Any, Literal, NamedTuple

from daw_bridge.editor.mix import Lane, sounding
from transform.errors import RhythmError
from transform.events import CLASSES, MOST_TEMPI, TempoMap
from transform.strokes import MOST_STROKES, Stroke, Strokes

Mode = Literal["edit", "replay"]
Layer = Literal["estimated", "detected", "played"]
LAYERS: tuple[Layer, ...] = ("estimated", "detected", "played")
_SOUNDING: tuple[Layer, Layer] = ("detected", "played")  # what makes a sound
_FEW = 20  # changes of strokes, after which the others are not sorted again
FIELDS = ("mode", "length_s", "grid", "sensitivity", "lanes", "sound")

TEMPO_RANGE_BPM = (10.0, 1000.0)
BEATS_PER_BAR_RANGE = (1.0, 64.0)
LONGEST_S = 86_400.0  # before the downbeat


@dataclass(frozen=True)
class Grid:
    """Beats and bars over time; beat 0 is the downbeat of bar 0, and the end tempi go on beyond both ends."""

    tempo: tuple[tuple[float, float], ...] = ((0.0, 120.0),)  # (beat, BPM), each until the next
    beats_per_bar: float = 4.0
    downbeat_s: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= len(self.tempo) <= MOST_TEMPI:
            raise RhythmError(f"a grid has 1 to {MOST_TEMPI} tempi, not {len(self.tempo)}")
        for _, bpm in self.tempo:
            if not TEMPO_RANGE_BPM[0] <= bpm <= TEMPO_RANGE_BPM[1]:
                raise RhythmError(f"a tempo would be {bpm:g} BPM", hint="stay within 10 to 1000 BPM")
        if not BEATS_PER_BAR_RANGE[0] <= self.beats_per_bar <= BEATS_PER_BAR_RANGE[1]:
            raise RhythmError(f"a bar would have {self.beats_per_bar:g} beats", hint="give it 1 to 64")
        if not abs(self.downbeat_s) <= LONGEST_S:
            raise RhythmError(
                f"the downbeat would lie at {self.downbeat_s} s", hint="put it into the recording"
            )
        assert self.tempo_map  # raises RhythmError where it is none

    @cached_property
    def tempo_map(self) -> TempoMap:
        """The tempo over beats, from the downbeat on."""
        return TempoMap(self.tempo)

    def beat_at(self, time_s: float) -> float:
        """Return the position of a time in beats, below 0 before the downbeat."""
        return self.tempo_map.beats_at(time_s - self.downbeat_s)

    def time_of(self, beat: float) -> float:
        """Return when a beat falls, in seconds: the inverse of `beat_at`."""
        return self.downbeat_s + self.tempo_map.seconds_at(beat)

    def with_line_at(self, beat: float, time_s: float) -> Grid:
        """Return the grid with a beat moved to a time.

        From the tempo change before it up to the beat the tempo is another one; what follows keeps its own, and
        moves along. A beat up to the downbeat moves the whole grid.

        Raises:
            RhythmError: the tempo would be none that can be played.
        """
        if beat <= 0:
            shift_s = time_s - self.time_of(beat)
            return replace(self, downbeat_s=self.downbeat_s + shift_s)
        earlier = tuple(change for change in self.tempo if change[0] < beat)
        later = tuple(change for change in self.tempo if change[0] > beat)
        begin = earlier[-1][0]
        length_s = time_s - self.time_of(begin)
        bpm = 60 * (beat - begin) / length_s if length_s else math.inf
        tempo = (*earlier[:-1], (begin, bpm), (beat, self.tempo_map.bpm_at(beat)), *later)
        return replace(self, tempo=tempo)


class StrokeChange(NamedTuple):
    """What becomes of a stroke in a layer; None: it is not there."""

    layer: Layer
    id: str
    before: Stroke | None
    after: Stroke | None


class FieldChange(NamedTuple):
    """What becomes of a field of the document, one of FIELDS."""

    field: str
    before: Any
    after: Any


@dataclass(frozen=True)
class Command:
    """One step of the history."""

    strokes: tuple[StrokeChange, ...] = ()
    fields: tuple[FieldChange, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.strokes or self.fields)

    @property
    def inverse(self) -> Command:
        """The command that takes this one back."""
        return Command(
            tuple(StrokeChange(c.layer, c.id, c.after, c.before) for c in self.strokes),
            tuple(FieldChange(c.field, c.after, c.before) for c in self.fields),
        )


class Mismatch(ValueError):
    """A command is not one of this document."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """The state of an editor. Strokes of one id in two layers are the same stroke.

    `estimated` is what the transcriber finds, at the present sensitivity or, where the user has made something
    of it, at an earlier one; `detected` is what the user has made of that, `played` what plays. In the mode
    "edit" what plays is as long as the recording, and a detected stroke that is not played is taken out; in the
    mode "replay" the strokes that are played make a sound of their own.
    """

    source_s: float  # length of the recording
    length_s: float  # of what plays
    mode: Mode = "edit"
    grid: Grid = Grid()
    sensitivity: Mapping[str, float] = field(default_factory=dict)  # by class, -1 to 1
    lanes: Mapping[str, Lane] = field(default_factory=dict)  # by class, those that are not as they were
    sound: Mapping[str, Any] = field(default_factory=dict)  # see `take_settings`
    estimated: Mapping[str, Stroke] = field(default_factory=dict)
    detected: Mapping[str, Stroke] = field(default_factory=dict)
    played: Mapping[str, Stroke] = field(default_factory=dict)

    @classmethod
    def of_detection(cls, strokes: Iterable[Stroke], length_s: float, grid: Grid) -> Document:
        """Return the document of a recording that nobody has edited: it plays itself."""
        by_id = {stroke.id: stroke for stroke in strokes}
        return cls(
            source_s=length_s, length_s=length_s, grid=grid, estimated=by_id, detected=by_id, played=by_id
        )

    def layer(self, name: Layer) -> Mapping[str, Stroke]:
        """Return the strokes of a layer, by id."""
        strokes: Mapping[str, Stroke] = getattr(self, name)
        return strokes

    @cached_property
    def strokes(self) -> Strokes:
        """What is detected and what is played, each sorted by onset, class and id."""
        return Strokes(*(tuple(sorted(self.layer(name).values(), key=order)) for name in _SOUNDING))

    @cached_property
    def sounding(self) -> Strokes:
        """What is detected, and what plays as the lanes let it: muted, soloed, stronger or softer."""
        detected, played = self.strokes
        return Strokes(detected, tuple(sounding(played, self.lanes))) if self.lanes else self.strokes

    def applied(self, command: Command) -> Document:
        """Return the document after a command.

        Raises:
            Mismatch: the command changes what is not as it says.
        """
        layers: dict[str, dict[str, Stroke]] = {}
        for change in command.strokes:
            if change.layer not in layers:
                layers[change.layer] = dict(self.layer(change.layer))
            strokes = layers[change.layer]
            if strokes.get(change.id) != change.before:
                raise Mismatch(f"{change.layer} {change.id} is not as the command says")
            if change.after is None:
                del strokes[change.id]
            else:
                strokes[change.id] = change.after
        changed: dict[str, Any] = dict(layers)
        for field_change in command.fields:
            if getattr(self, field_change.field) != field_change.before:
                raise Mismatch(f"{field_change.field} is not as the command says")
            changed[field_change.field] = field_change.after
        after = replace(self, **changed)
        if "strokes" in self.__dict__ and len(command.strokes) <= _FEW:
            after.__dict__["strokes"] = Strokes(*map(_placed, _SOUNDING, self.strokes, repeat(command.strokes)))
        return after

    def check(self) -> None:
        """Raise RhythmError for what no document may hold."""
        for name in LAYERS:
            strokes = self.layer(name)
            if len(strokes) > MOST_STROKES:
                raise RhythmError(
                    f"there would be {len(strokes):,} strokes; an editor holds {MOST_STROKES:,}",
                    hint="edit a shorter recording or rhythm",
                )
            end_s = self.length_s if name == "played" else self.source_s
            late = next((s for s in strokes.values() if not 0 <= s.onset_s < end_s), None)
            if late is not None:
                raise RhythmError(
                    f"a stroke would lie at {late.onset_s:.3f} s, outside the {end_s:.3f} s that play",
                    hint="put it before the end",
                )


class Draft:
    """A document while a command is being made; what it holds is what the command will leave."""

    def __init__(self, document: Document, known: Collection[str] = ()) -> None:
        """Begin with a document; `known` are the ids of all strokes that have ever been in it."""
        self.document, self._known = document, known
        self.layers = {name: dict(document.layer(name)) for name in LAYERS}
        self.fields = {name: getattr(document, name) for name in FIELDS}
        self._touched: dict[tuple[Layer, str], None] = {}

    @property
    def played(self) -> dict[str, Stroke]:
        """What plays; only read it."""
        return self.layers["played"]

    @property
    def grid(self) -> Grid:
        """The grid."""
        grid: Grid = self.fields["grid"]
        return grid

    @property
    def length_s(self) -> float:
        """How long it plays."""
        return float(self.fields["length_s"])

    def put(self, layer: Layer, stroke: Stroke) -> None:
        """Let a stroke be in a layer, in the place of one of its id."""
        self.layers[layer][stroke.id] = stroke
        self._touched[layer, stroke.id] = None

    def remove(self, layer: Layer, stroke_id: str) -> None:
        """Let no stroke of an id be in a layer."""
        if self.layers[layer].pop(stroke_id, None) is not None:
            self._touched[layer, stroke_id] = None

    def original_of(self, stroke_id: str) -> str:
        """Return the id of the detected stroke that one is, or is a copy of; "" where it is drawn."""
        stroke = self.played.get(stroke_id)
        original = (stroke.like if stroke else "") or stroke_id
        return original if original in self.layers["detected"] else ""

    def known_ids(self) -> Iterator[str]:
        """Yield the ids of all strokes that have ever been there, some of them more than once."""
        yield from self._known
        for name in LAYERS:
            yield from self.document.layer(name)
        for _, stroke_id in self._touched:
            yield stroke_id

    def check_known(self, stroke_id: str, what: str) -> None:
        """Raise RhythmError for the id of a stroke that has never been there; `what` is about it."""
        is_here = any(stroke_id in self.layers[x] or (x, stroke_id) in self._touched for x in LAYERS)
        if not is_here and stroke_id not in self._known:
            raise RhythmError(
                f"{what} is about the stroke {stroke_id}, which has never been there",
                hint="load the page again",
            )

    def command(self) -> Command:
        """Return the command that makes the document what the draft is.

        Raises:
            RhythmError: it would hold what no document may hold.
        """
        changes = (
            StrokeChange(x, i, self.document.layer(x).get(i), self.layers[x].get(i)) for x, i in self._touched
        )
        fields = (FieldChange(name, getattr(self.document, name), self.fields[name]) for name in FIELDS)
        command = Command(
            tuple(c for c in changes if c.before != c.after), tuple(c for c in fields if c.before != c.after)
        )
        self.document.applied(command).check()
        return command


def _placed(layer: Layer, strokes: tuple[Stroke, ...], changes: Iterable[StrokeChange]) -> tuple[Stroke, ...]:
    """Return the sorted strokes of a layer after changes, which are few: the others are not sorted again."""
    own = [change for change in changes if change.layer == layer]
    if not own:
        return strokes
    after = list(strokes)
    for change in own:
        if change.before is not None:
            del after[bisect_left(after, order(change.before), key=order)]
        if change.after is not None:
            insort(after, change.after, key=order)
    return tuple(after)


class History:
    """A document with all commands that led to it; every step, back or forth, is a new version."""

    def __init__(self, document: Document) -> None:
        self.document, self.version = document, 0
        self.known_ids = {stroke_id for name in LAYERS for stroke_id in document.layer(name)}  # ever there
        self._done: list[Command] = []
        self._undone: list[Command] = []

    @property
    def can_undo(self) -> bool:
        """Whether there is a command to take back."""
        return bool(self._done)

    @property
    def can_redo(self) -> bool:
        """Whether there is a command to do again."""
        return bool(self._undone)

    def do(self, command: Command) -> None:
        """Do a command; what was undone before can then not be done again."""
        self._step(command)
        self._done.append(command)
        self._undone.clear()

    def undo(self) -> Command:
        """Take the last command back, and return what that changed."""
        self._step(self._done[-1].inverse)
        self._undone.append(self._done.pop())
        return self._undone[-1].inverse

    def redo(self) -> Command:
        """Do again what was undone last, and return it."""
        self._step(self._undone[-1])
        self._done.append(self._undone.pop())
        return self._done[-1]

    def _step(self, command: Command) -> None:
        self.document = self.document.applied(command)
        self.known_ids.update(change.id for change in command.strokes)
        self.version += 1


def order(stroke: Stroke) -> tuple[float, int, str]:
    """Return what strokes are sorted by: onset, class, id."""
    return stroke.onset_s, CLASSES.index(stroke.drum_class), stroke.id
