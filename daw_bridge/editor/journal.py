"""The journal of an editor: every command on disk before it counts, so that a kill loses nothing acknowledged.

A journal is a file of JSON lines in the user's data folder, one for each recording, found by its hash: the
document as it was at first, then a line for each step. A line is whole once it ends; a last one without its end
was never acknowledged, and is dropped. Each line ends in a checksum of itself, so that what a disk has damaged
is noticed: what was before it comes back, the rest is set aside, and `damage` says so.
"""

from __future__ import annotations

import json
import logging
import os
import re
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import Any, Literal

from daw_bridge.editor.document import (
    FIELDS,
    LAYERS,
    Command,
    Document,
    FieldChange,
    Grid,
    History,
    StrokeChange,
)
from daw_bridge.editor.mix import Lane
from daw_bridge.editor.take_settings import sound_json, sound_of
from daw_bridge.file_lock import lock_file
from daw_bridge.live.redrum_live.endpoint import make_folder, open_private
from transform.errors import OutputError, RhythmError
from transform.strokes import Stroke

SCHEMA = 1
Step = Literal["do", "undo", "redo"]

_MOST_BYTES = 2**30
_BLOCK_BYTES = 2**20
_CHECKSUM = re.compile(rb',"crc32":([0-9]{1,10})\}\n\Z')  # at the end of a line, of what is before it
_log = logging.getLogger(__name__)


class Journal:
    """The journal of one recording, which one process at a time has open."""

    def __init__(self, folder: Path, sha256: str) -> None:
        """Open the journal of a recording, and read what is in it.

        Args:
            folder: of all journals; it is made for this user only.
            sha256: of the recording.

        Raises:
            OutputError: another editor has it open, or it cannot be written.
        """
        self.path, self._sha256 = folder / f"{sha256[:32]}.jsonl", sha256
        self.history: History | None = None  # None: there is none yet
        self.damage = ""  # a sentence on what of it could not be read
        try:
            make_folder(str(folder))
            self._file = FileIO(open_private(str(self.path), is_made=True), "r+")
        except OSError as err:
            raise self._unwritable(err) from err
        try:
            self._lock()
            self._end = self._read()
        except BaseException:
            self._file.close()
            raise

    def close(self) -> None:
        """Let others have it."""
        self._file.close()

    def begin(self, document: Document, name: str) -> History:
        """Begin anew with a document that nobody has edited, and return its history.

        Raises:
            OutputError: it cannot be written. Then nothing is changed.
        """
        head = {"schema": SCHEMA, "sha256": self._sha256, "name": name, "document": _document_json(document)}
        self._end = 0
        self._append(head)
        with suppress(OSError, AttributeError):  # Windows opens no folders
            folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            os.fsync(folder)
            os.close(folder)
        self.history = History(document)
        return self.history

    def record(self, version: int, step: Step, command: Command | None = None) -> None:
        """Store a step of the history; when this returns, it is on the disk.

        Args:
            version: that it leads to.
            step: what it is.
            command: what is done, of the step "do".

        Raises:
            OutputError: it cannot be written. Then nothing is changed.
        """
        line: dict[str, Any] = {"version": version, "step": step}
        if command is not None:
            line["strokes"] = [[*c[:2], *map(_stroke_json, c[2:])] for c in command.strokes]
            line["fields"] = [[c.field, *(field_json(c.field, v) for v in c[1:])] for c in command.fields]
        self._append(line)

    def _lock(self) -> None:
        try:
            lock_file(self._file)
        except OSError as err:
            raise OutputError(
                "this recording is open in another editor",
                hint="go on there, or close that page and wait a moment",
            ) from err

    def _append(self, line: Mapping[str, Any]) -> None:
        data = json.dumps(line, separators=(",", ":"), allow_nan=False).encode("ascii")
        data = b'%s,"crc32":%d}\n' % (data[:-1], zlib.crc32(data[:-1]))
        try:
            self._file.seek(self._end)
            self._file.truncate()
            for begin in range(0, len(data), _BLOCK_BYTES):
                block = memoryview(data)[begin : begin + _BLOCK_BYTES]
                while block:
                    block = block[self._file.write(block) or 0 :]
            os.fsync(self._file.fileno())
        except OSError as err:
            with suppress(OSError):  # or the next line does it
                self._file.truncate(self._end)
            raise self._unwritable(err) from err
        self._end += len(data)

    def _read(self) -> int:
        """Take the history in, and return where the last whole line of it ends."""
        end = 0
        try:
            for line in self._lines():
                found = _checked(line)
                if self.history is None:
                    self.history = self._begun(found)
                else:
                    _take(self.history, found)
                end += len(line)
        except _DAMAGES as err:
            self._set_aside(end, err)
        if self.history is not None:
            try:
                self.history.document.check()
            except RhythmError as err:
                self.history, end = None, 0
                self._set_aside(0, err)
        return end

    def _lines(self) -> Iterator[bytes]:
        """Yield the whole lines.

        Raises:
            ValueError: they are too many, or after the last one there is what no step begins with.
        """
        if os.fstat(self._file.fileno()).st_size > _MOST_BYTES:
            raise ValueError("it is too long")
        with os.fdopen(os.dup(self._file.fileno()), "rb") as file:
            file.seek(0)
            for line in file:
                if line.endswith(b"\n"):
                    yield line
                elif (
                    _CHECKSUM.search(line[:-1] + b"\n") or not line.isascii() or not line.decode().isprintable()
                ):
                    raise ValueError("its last line is not one that was cut")

    def _begun(self, head: Mapping[str, Any]) -> History:
        if head["schema"] != SCHEMA or head["sha256"] != self._sha256:
            raise ValueError("it is of another version or recording")
        return History(_document_of(head["document"]))

    def _set_aside(self, end: int, why: Exception) -> None:
        """Copy what cannot be read from `end` on to a file beside this one, and say so in `damage`."""
        number = 1
        while os.path.lexists(beside := self.path.with_suffix(f".damaged-{number}")):
            number += 1
        n_steps = self.history.version if self.history else 0
        saved = f"of its steps the first {n_steps:,} came back" if n_steps else "none of its steps came back"
        self.damage = f"the journal of edits is damaged: {saved}, and what could not be read is in {beside}"
        _log.info("%s (%s)", self.damage, why)
        try:
            with FileIO(open_private(str(beside), is_made=True), "r+") as copy:
                self._file.seek(end)
                while block := self._file.read(_BLOCK_BYTES):
                    copy.write(block)
        except OSError as err:
            raise self._unwritable(err) from err

    def _unwritable(self, err: OSError) -> OutputError:
        return OutputError(
            f"{self.path} cannot be written, so edits would be lost: {err.strerror or err}",
            hint="make room on its disk, or set REDRUM_DATA to a folder that you can write to",
        )


_DAMAGES = (
    ValueError,
    KeyError,
    TypeError,
    IndexError,
    AttributeError,
    RecursionError,
    OverflowError,
    RhythmError,
)


def _checked(line: bytes) -> Any:
    """Return the JSON of a line; ValueError where its checksum is another one. Older lines have none."""
    checksum = _CHECKSUM.search(line)
    if checksum is not None and zlib.crc32(line[: checksum.start()]) != int(checksum[1]):
        raise ValueError("a checksum is wrong")
    return json.loads(line)


def _take(history: History, line: Mapping[str, Any]) -> None:
    """Do a step that was stored."""
    step = line["step"]
    if line["version"] != history.version + 1:
        raise ValueError("a step is missing")
    if step == "do":
        strokes = tuple(
            StrokeChange(_one_of(LAYERS, layer), i, _stroke_of(i, before), _stroke_of(i, after))
            for layer, i, before, after in line["strokes"]
        )
        fields = tuple(
            FieldChange(_one_of(FIELDS, name), _value_of(name, before), _value_of(name, after))
            for name, before, after in line["fields"]
        )
        history.do(Command(strokes, fields))
    elif step == "undo":
        history.undo()
    elif step == "redo":
        history.redo()
    else:
        raise ValueError("a step of a kind that is not known")


def _one_of(known: tuple[Any, ...], name: object) -> Any:
    if name not in known:
        raise ValueError("a name that is not known")
    return name


def _document_json(document: Document) -> dict[str, Any]:
    layers: dict[str, Any] = {
        name: [[i, *_shape(s)] for i, s in document.layer(name).items()] for name in LAYERS
    }
    fields = {name: field_json(name, getattr(document, name)) for name in FIELDS}
    return {"source_s": document.source_s, **fields, **layers}


def _document_of(found: Mapping[str, Any]) -> Document:
    layers: dict[str, Any] = {name: {i: _stroke_of(i, shape) for i, *shape in found[name]} for name in LAYERS}
    found = {"lanes": {}, "sound": {}, **found}  # older journals have none
    fields = {name: _value_of(name, found[name]) for name in FIELDS}
    return Document(source_s=float(found["source_s"]), **fields, **layers)


def _shape(stroke: Stroke) -> list[Any]:
    like = [stroke.like] if stroke.like else []
    return [stroke.drum_class, stroke.onset_s, stroke.velocity, stroke.articulation, *like]


def _stroke_json(stroke: Stroke | None) -> list[Any] | None:
    return None if stroke is None else _shape(stroke)


def _stroke_of(stroke_id: str, shape: list[Any] | None) -> Stroke | None:
    if shape is None:
        return None
    drum_class, onset_s, velocity, articulation, *like = shape
    return Stroke(stroke_id, drum_class, float(onset_s), float(velocity), articulation, *like)


def grid_json(grid: Grid) -> dict[str, Any]:
    """Return a grid as journals and pages have it."""
    return {
        "tempo": [list(change) for change in grid.tempo],
        "beats_per_bar": grid.beats_per_bar,
        "downbeat_s": grid.downbeat_s,
    }


def field_json(name: str, value: Any) -> Any:
    """Return the value of a field of a document as journals and pages have it."""
    if name == "grid":
        return grid_json(value)
    if name == "lanes":
        return {drum_class: lane.json() for drum_class, lane in value.items()}
    if name == "sound":
        return sound_json(value)
    return dict(value) if name == "sensitivity" else value


def _value_of(name: str, found: Any) -> Any:
    """Return the value of a field of a document."""
    if name == "grid":
        tempo = tuple((float(beat), float(bpm)) for beat, bpm in found["tempo"])
        return Grid(tempo, float(found["beats_per_bar"]), float(found["downbeat_s"]))
    if name == "sensitivity":
        return {str(drum_class): float(value) for drum_class, value in found.items()}
    if name == "sound":
        return sound_of(found)
    if name == "lanes":
        return {str(drum_class): _lane_of(lane) for drum_class, lane in found.items()}
    return _one_of(("edit", "replay"), found) if name == "mode" else float(found)


def _lane_of(found: Mapping[str, Any]) -> Lane:
    return Lane(gain_db=float(found["gain_db"]), is_muted=bool(found["muted"]), is_soloed=bool(found["soloed"]))
