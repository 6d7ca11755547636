"""REAPER's settings files, edited line by line so that every other byte stays."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from daw_bridge.restorable import RestorableFile

OWN_FOLDER = "Redrum"  # in REAPER's resource folder

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


class SettingsFile(Settings, RestorableFile):
    """A file of settings, which can be restored to what it was before Redrum."""

    def __init__(self, path: Path) -> None:
        RestorableFile.__init__(self, path, path.parent / OWN_FOLDER / "installed.json")
        Settings.__init__(self, self.found)
        self.original = self.data

    def before_redrum(self) -> Settings:
        """Return what was in the file before Redrum, nothing where there is no copy that is surely ours."""
        return Settings(self.found_before_redrum())


def _script_of(line: str) -> tuple[str, str] | None:
    """Return the name of the action that a line makes of a script, and the script's path."""
    words = re.findall(r""""[^"]*"|'[^']*'|`[^`]*`|\S+""", line.strip(_BLANK))
    return (words[3], words[5].strip("\"'`")) if len(words) == 6 and words[0] == "SCR" else None
