"""REAPER's settings files, edited line by line so that every other byte stays, and given back as they were.

Before the first change of a file a copy is made beside it, NAME.before-redrum. What a file was left like is
noted in Redrum/installed.json: if it still is when Redrum goes, the copy takes its place; if REAPER has written
it since, only Redrum's lines go.
"""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from pathlib import Path

from transform.files import write_bytes_atomic, write_text_atomic

BACKUP_SUFFIX = ".before-redrum"
OWN_FOLDER = "Redrum"  # in REAPER's resource folder

_CHANGED_SINCE = ""  # noted of a file that REAPER wrote between two of our changes


class SettingsFile:
    """A file of sections, keys and values."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._was_there = path.exists()
        self._before = path.read_bytes() if self._was_there else b""
        self._line_end = "\r\n" if b"\r\n" in self._before else "\n"
        self._lines = self._before.decode("utf-8", "surrogateescape").split(self._line_end)
        if self._lines[-1] == "":
            self._lines.pop()
        self._original = list(self._lines)
        self._notes = path.parent / OWN_FOLDER / "installed.json"

    def get(self, section: str, key: str) -> str:
        """Return a value, "" where there is none."""
        line = self._find(section, key)
        return "" if line is None else self._lines[line].partition("=")[2]

    def put(self, section: str, key: str, value: str) -> None:
        """Set a value: in its line, or in a new one at the end of its section."""
        line = self._find(section, key)
        if line is not None:
            self._lines[line] = f"{self._lines[line].partition('=')[0]}={value}"
            return
        places = self._places(section)
        if not places:
            self._lines.append(f"[{section}]")
            places = range(len(self._lines) - 1, len(self._lines))
        last = max(n for n in places if self._lines[n].strip())
        self._lines.insert(last + 1, f"{key}={value}")

    def remove(self, section: str, key: str) -> None:
        """Remove a value with its line."""
        line = self._find(section, key)
        if line is not None:
            del self._lines[line]

    def has_script(self, action: str) -> bool:
        """Return whether an action is a script in this list of actions."""
        return any(_script_of(line) == action for line in self._lines)

    def add_script(self, action: str, name: str, path: str) -> bool:
        """Make a script an action unless it is one, and return whether it was not.

        Args:
            action: the action's own name.
            name: what REAPER's list shows.
            path: of the script: from REAPER's folder of scripts on, or absolute.
        """
        if self.has_script(action):
            return False
        self._lines.append(f'SCR 4 0 {action} "Custom: {name}" "{path}"')
        return True

    def remove_script(self, action: str) -> bool:
        """Take an action out of the list, and return whether it was there."""
        kept = [line for line in self._lines if _script_of(line) != action]
        is_there = len(kept) < len(self._lines)
        self._lines = kept
        return is_there

    def save(self) -> None:
        """Write the file if it has changed, after a copy of what was there before Redrum."""
        if self._lines == self._original:
            return
        notes = self._read_notes()
        noted = notes.get(self.path.name)
        if noted is None and self._was_there:
            write_bytes_atomic(self._backup, self._before, overwrite=True)
        data = self._data()
        is_ours = noted is None or noted == _digest(self._before) or self._was_interrupted()
        # Noted first: whoever is killed in between must not take our lines for what was there before.
        self._write_notes({**notes, self.path.name: _digest(data) if is_ours else _CHANGED_SINCE})
        write_bytes_atomic(self.path, data, overwrite=True)

    def give_back(self) -> None:
        """Write what was there before Redrum; where REAPER has written the file since, all but our lines."""
        notes = self._read_notes()
        noted = notes.pop(self.path.name, None)
        if noted is not None and noted == _digest(self._before):
            if self._backup.exists():
                write_bytes_atomic(self.path, self._backup.read_bytes(), overwrite=True)
                self._backup.unlink()
            else:
                self.path.unlink()
        elif self._lines != self._original:
            write_bytes_atomic(self.path, self._data(), overwrite=True)
        if noted is not None:
            self._write_notes(notes)

    def _was_interrupted(self) -> bool:
        """Tell whether the file is as it was before Redrum, though a change of it is noted."""
        return self._backup.exists() and self._backup.read_bytes() == self._before

    @property
    def _backup(self) -> Path:
        return self.path.with_name(self.path.name + BACKUP_SUFFIX)

    def _data(self) -> bytes:
        return "".join(line + self._line_end for line in self._lines).encode("utf-8", "surrogateescape")

    def _read_notes(self) -> dict[str, str]:
        try:
            return dict(json.loads(self._notes.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}  # nothing installed, or nothing to be relied on: then only lines are taken out

    def _write_notes(self, notes: dict[str, str]) -> None:
        if notes:
            write_text_atomic(self._notes, json.dumps(notes, indent=1) + "\n", overwrite=True)
        else:
            self._notes.unlink(missing_ok=True)

    def _places(self, section: str) -> range:
        """Return the lines of a section, its head the first of them; none where there is no such section."""
        heads = [n for n, line in enumerate(self._lines) if line.startswith("[")]
        for head, following in pairwise([*heads, len(self._lines)]):
            if self._lines[head].strip().lower() == f"[{section}]":
                return range(head, following)
        return range(0)

    def _find(self, section: str, key: str) -> int | None:
        for n in self._places(section):
            name, is_value, _ = self._lines[n].partition("=")
            if is_value and name.strip().lower() == key.lower():
                return n
        return None


def _script_of(line: str) -> str:
    """Return the name of the action that a line makes of a script, "" where it makes none."""
    words = line.split(maxsplit=4)
    return words[3] if len(words) == 5 and words[0] == "SCR" else ""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
