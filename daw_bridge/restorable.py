"""Files of a DAW's settings, changed and restored to what they were.

Before the first change of a file a copy is made beside it, NAME.before-redrum, or with a number behind that
where something else lies there. A file of notes has the hashes of the copy and of what the file was left
like. If both still are so when Redrum goes, the copy takes the file's place; if the DAW has written the
file since, only what is Redrum's goes. Nothing else is ever replaced or removed, and no link is followed:
what lies in a DAW's folder may be a stranger's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from transform.confined import is_link
from transform.files import write_bytes_atomic, write_text_atomic

BACKUP_SUFFIX = ".before-redrum"

_NO_FILE = ""  # noted of the copy where there was no file before Redrum
_CHANGED_SINCE = ""  # noted of a file that its DAW wrote between two of our changes


class RestorableFile(ABC):
    """A file of settings, which can be restored to what it was before Redrum."""

    def __init__(self, path: Path, notes: Path) -> None:
        """Read a file.

        Args:
            path: of the file, which may be missing.
            notes: where it is noted what was there before, and how the file was left.
        """
        self.path = path
        self._was_there = path.is_file()
        self.found = path.read_bytes() if self._was_there else b""
        self.original = self.found  # as `data` gives it again
        self._notes = notes

    @property
    @abstractmethod
    def data(self) -> bytes:
        """The bytes that the file is to have; those that were found where nothing was changed."""

    @property
    @abstractmethod
    def is_empty(self) -> bool:
        """Whether the file says nothing."""

    @property
    def is_ours(self) -> bool:
        """Whether Redrum has changed it."""
        return self._noted() is not None

    def found_before_redrum(self) -> bytes:
        """Return the bytes of the file before Redrum, none where there is no copy that is surely ours."""
        copy = self._copy(self._noted())
        return copy.read_bytes() if copy else b""

    def save(self) -> None:
        """Write the file if it has changed, after a copy of what was there before Redrum."""
        data = self.data
        if data == self.original:
            return
        now = _digest(self.found)
        noted = self._noted() or _Note(file=now, copy=self._put_copy() if self._was_there else _NO_FILE)
        # Noted first: after a kill in between, our lines must not pass for what was there before.
        is_ours = now in (noted.file, noted.copy)
        self._note(_Note(file=_digest(data) if is_ours else _CHANGED_SINCE, copy=noted.copy))
        write_bytes_atomic(self.path, data, overwrite=True)

    def restore(self) -> None:
        """Write what was there before Redrum; where its DAW has written it since, all but our lines."""
        noted = self._noted()
        copy = self._copy(noted)
        if noted and copy and noted.file == _digest(self.found):
            write_bytes_atomic(self.path, copy.read_bytes(), overwrite=True)
            copy.unlink()
        elif noted and noted.copy == _NO_FILE and self._was_there and self.is_empty:
            self.path.unlink()
        elif self.data != self.original:
            write_bytes_atomic(self.path, self.data, overwrite=True)
        if noted:
            self._note(None)

    def _put_copy(self) -> str:
        """Make a copy of the file at the first free place, unless there is one, and return its hash."""
        for number in count(1):
            place = self.path.with_name(self.path.name + BACKUP_SUFFIX + (f"-{number}" if number > 1 else ""))
            if not os.path.lexists(place):
                write_bytes_atomic(place, self.found)
            if _plain_bytes(place) == self.found:
                break
        return _digest(self.found)

    def _copy(self, noted: _Note | None) -> Path | None:
        """Return the copy that a note states the hash of, if it is there, as it was, and no link."""
        if noted is None:
            return None
        form = re.compile(re.escape(self.path.name + BACKUP_SUFFIX) + r"(-\d+)?")
        for place in sorted(self.path.parent.iterdir()):
            data = _plain_bytes(place) if form.fullmatch(place.name) else None
            if data is not None and _digest(data) == noted.copy:
                return place
        return None

    def _noted(self) -> _Note | None:
        entry = self._read_notes().get(self.path.name)
        match entry:
            case {"file": str(file), "copy": str(copy)}:
                return _Note(file=file, copy=copy)
            case str(file):  # as Redrum 0.1.0 noted it, without the hash of the copy
                return _Note(file=file, copy="?")
        return None

    def _note(self, note: _Note | None) -> None:
        notes = self._read_notes()
        notes.pop(self.path.name, None)
        if note:
            notes[self.path.name] = asdict(note)
        if notes:
            write_text_atomic(self._notes, json.dumps(notes, indent=1) + "\n", overwrite=True)
        else:
            self._notes.unlink(missing_ok=True)

    def _read_notes(self) -> dict[str, Any]:
        try:
            notes = json.loads(_plain_bytes(self._notes) or b"{}")
        except (ValueError, RecursionError):
            notes = {}
        return notes if isinstance(notes, dict) else {}  # without notes only lines are taken out


@dataclass(frozen=True)
class _Note:
    """The hash of what a file was left like, and of the copy of what it was before."""

    file: str
    copy: str


def _plain_bytes(path: Path) -> bytes | None:
    """Return the bytes of a file; None for a link, and for what is no file or cannot be read."""
    try:
        return None if is_link(path) or not path.is_file() else path.read_bytes()
    except OSError:
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
