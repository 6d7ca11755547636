"""REAPER's settings files, edited line by line so that every other byte stays, and restored to what they were.

Before the first change of a file a copy is made beside it, NAME.before-redrum, or with a number behind that
where something else lies there. Redrum/installed.json notes the hashes of the copy and of what the file was
left like. If both still are so when Redrum goes, the copy takes the file's place; if REAPER has written the
file since, only Redrum's lines go. Nothing else is ever replaced or removed, and no link is followed: what lies
in REAPER's folder may be a stranger's.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from transform.confined import is_link
from transform.files import write_bytes_atomic, write_text_atomic

BACKUP_SUFFIX = ".before-redrum"
OWN_FOLDER = "Redrum"  # in REAPER's resource folder

_NO_FILE = ""  # noted of the copy where there was no file before Redrum
_CHANGED_SINCE = ""  # noted of a file that REAPER wrote between two of our changes
_BLANK = "\ufeff \t\r"  # a byte order mark may be first


class Settings:
    """Sections, keys and values; or a list of actions."""

    def __init__(self, data: bytes) -> None:
        self._line_end = "\r" if b"\r\n" in data else ""  # before the line feed, of new lines
        self._lines = data.decode("utf-8", "surrogateescape").split("\n")
        if self._lines[-1]:
            self._lines[-1] += self._line_end
        else:
            self._lines.pop()

    @property
    def data(self) -> bytes:
        """The bytes of a file that holds them."""
        return "".join(f"{line}\n" for line in self._lines).encode("utf-8", "surrogateescape")

    @property
    def is_empty(self) -> bool:
        """Whether all lines are blank."""
        return not any(line.strip() for line in self._lines)

    def get(self, section: str, key: str) -> str:
        """Return a value, "" where there is none."""
        line = self._find(section, key)
        return "" if line is None else self._lines[line].partition("=")[2].strip()

    def put(self, section: str, key: str, value: str) -> None:
        """Set a value: in its line, or in a new one at the end of its section."""
        line = self._find(section, key)
        if line is not None:
            end = "\r" * self._lines[line].endswith("\r")
            self._lines[line] = f"{self._lines[line].partition('=')[0]}={value}{end}"
            return
        places = self._places(section)
        if not places:
            self._lines.append(f"[{section}]{self._line_end}")
            places = range(len(self._lines) - 1, len(self._lines))
        last = max(n for n in places if self._lines[n].strip())
        self._lines.insert(last + 1, f"{key}={value}{self._line_end}")

    def remove(self, section: str, key: str) -> None:
        """Remove a value with its line, and the head of its section if that is empty then."""
        line = self._find(section, key)
        if line is None:
            return
        del self._lines[line]
        head, *rest = self._places(section)
        if not any(self._lines[n].strip() for n in rest):
            del self._lines[head]

    def scripts(self) -> dict[str, str]:
        """Return the path of each action of this list that is a script, by the action's own name."""
        return dict(filter(None, map(_script_of, self._lines)))

    def add_script(self, action: str, name: str, path: str) -> bool:
        """Make a script an action unless it is one, and return whether it was not.

        Args:
            action: the action's own name.
            name: what REAPER's list shows.
            path: of the script: from REAPER's folder of scripts on, or absolute.
        """
        if action in self.scripts():
            return False
        self._lines.append(f'SCR 4 0 {action} "Custom: {name}" "{path}"{self._line_end}')
        return True

    def remove_scripts(self, is_ours: Callable[[str, str], bool]) -> list[str]:
        """Take scripts out of the list of actions, and return the actions' own names.

        Args:
            is_ours: decides by the action's own name and the script's path.
        """
        removed, rest = [], []
        for line in self._lines:
            script = _script_of(line)
            if script and is_ours(*script):
                removed.append(script[0])
            else:
                rest.append(line)
        self._lines = rest
        return removed

    def _places(self, section: str) -> range:
        """Return the lines of a section, its head the first of them; none where there is no such section."""
        heads = [n for n, line in enumerate(self._lines) if line.lstrip(_BLANK).startswith("[")]
        for head, following in pairwise([*heads, len(self._lines)]):
            if self._lines[head].strip(_BLANK).lower() == f"[{section}]":
                return range(head, following)
        return range(0)

    def _find(self, section: str, key: str) -> int | None:
        for n in self._places(section):
            name, is_value, _ = self._lines[n].partition("=")
            if is_value and name.strip().lower() == key.lower():
                return n
        return None


class SettingsFile(Settings):
    """A file of settings, which can be restored to what it was before Redrum."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._was_there = path.is_file()
        self._before = path.read_bytes() if self._was_there else b""
        super().__init__(self._before)
        self._original = self.data
        self._notes = path.parent / OWN_FOLDER / "installed.json"

    @property
    def is_ours(self) -> bool:
        """Whether Redrum has changed it."""
        return self._noted() is not None

    def before_redrum(self) -> Settings:
        """Return what was in the file before Redrum, nothing where there is no copy that is surely ours."""
        copy = self._copy(self._noted())
        return Settings(copy.read_bytes() if copy else b"")

    def save(self) -> None:
        """Write the file if it has changed, after a copy of what was there before Redrum."""
        data = self.data
        if data == self._original:
            return
        now = _digest(self._before)
        noted = self._noted() or _Note(file=now, copy=self._put_copy() if self._was_there else _NO_FILE)
        # Noted first: after a kill in between, our lines must not pass for what was there before.
        is_ours = now in (noted.file, noted.copy)
        self._note(_Note(file=_digest(data) if is_ours else _CHANGED_SINCE, copy=noted.copy))
        write_bytes_atomic(self.path, data, overwrite=True)

    def restore(self) -> None:
        """Write what was there before Redrum; where REAPER has written the file since, all but our lines."""
        noted = self._noted()
        copy = self._copy(noted)
        if noted and copy and noted.file == _digest(self._before):
            write_bytes_atomic(self.path, copy.read_bytes(), overwrite=True)
            copy.unlink()
        elif noted and noted.copy == _NO_FILE and self._was_there and self.is_empty:
            self.path.unlink()
        elif self.data != self._original:
            write_bytes_atomic(self.path, self.data, overwrite=True)
        if noted:
            self._note(None)

    def _put_copy(self) -> str:
        """Make a copy of the file at the first free place, unless there is one, and return its hash."""
        for number in count(1):
            place = self.path.with_name(self.path.name + BACKUP_SUFFIX + (f"-{number}" if number > 1 else ""))
            if not os.path.lexists(place):
                write_bytes_atomic(place, self._before)
            if _plain_bytes(place) == self._before:
                break
        return _digest(self._before)

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


def _script_of(line: str) -> tuple[str, str] | None:
    """Return the name of the action that a line makes of a script, and the script's path."""
    words = re.findall(r""""[^"]*"|'[^']*'|`[^`]*`|\S+""", line.strip(_BLANK))
    return (words[3], words[5].strip("\"'`")) if len(words) == 6 and words[0] == "SCR" else None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
