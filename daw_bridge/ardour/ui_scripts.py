"""Ardour's file `ui_scripts`, which says what is in the slots of its scripted actions.

It is XML whose element ActionScript holds, as base64, Lua that fills a table: `scripts[1]["n"] = "name"
...`. Ardour writes that text itself, with strings as Lua's %q gives them, and runs it when a session is
opened. Only the slots of Redrum are changed in it. `s` is the source of a script, `f` its factory as Ardour
compiled it: source does as well.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path

from daw_bridge.restorable import RestorableFile
from transform.errors import DawError

N_SLOTS = 9  # that every version of Ardour has

_EMPTY = b"""<?xml version="1.0" encoding="UTF-8"?>
<UIScripts>
  <ActionScript lua="Lua 5.3">%s</ActionScript>
  <ActionHooks/>
</UIScripts>
"""
_ACTIONS = re.compile(rb"(<ActionScript\b[^>]*?)(?:/>|>([^<]*)</ActionScript>)")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_STATEMENT = re.compile(rb"scripts(?:\[(\d+)\]|\s*=)")
_NAME = re.compile(rb'scripts\[\d+\]\["n"\] = ("(?:[^"\\]|\\.)*")', re.DOTALL)


@dataclass(frozen=True)
class _Slots:
    """The text that fills the slots: what begins the table, and the statements on each slot."""

    head: bytes
    by_number: Mapping[int, bytes]


class UiScripts(RestorableFile):
    """The file, in which Redrum's actions are added and removed."""

    def __init__(self, path: Path, notes: Path) -> None:
        """Read the file.

        Raises:
            DawError: it is not as Ardour writes it.
        """
        super().__init__(path, notes)
        self._hint = f"move {path} away (Ardour makes a new one), then run the same command again"
        self._slots = self._parsed()
        self._is_changed = False

    @property
    def data(self) -> bytes:
        """The bytes of the file."""
        if not self._is_changed:
            return self.found
        text = base64.b64encode(self._slots.head + b"".join(self._slots.by_number.values()))
        if not self.found:
            return _EMPTY % text
        return _ACTIONS.sub(lambda match: match[1] + b">" + text + b"</ActionScript>", self.found, count=1)

    @property
    def is_empty(self) -> bool:
        """Whether there is no script."""
        return not self._slots.by_number and b"<LuaCallback" not in self.found

    def names(self) -> dict[str, int]:
        """Return the number of the slot of each script, 1 or more, by the script's name."""
        names = {}
        for number, text in self._slots.by_number.items():
            if match := _NAME.search(text):
                names[_unquoted(match[1])] = number
        return names

    def source(self, number: int) -> bytes:
        """Return the statements on a slot, nothing where it is free."""
        return self._slots.by_number.get(number, b"")

    def put(self, name: str, source: str, factory: str) -> bool:
        """Put a script into its slot, or into a free one, and return whether it was not there as it is now.

        Args:
            name: what Ardour shows.
            source: of the script.
            factory: Lua whose call returns the action.

        Raises:
            DawError: no slot is free.
        """
        number = self.names().get(name)
        if number and _quoted(source) in self.source(number):
            return False
        if number is None:
            number = next(n for n in count(1) if n not in self._slots.by_number)
            if number > N_SLOTS:
                raise DawError(
                    f"all {N_SLOTS} slots of Ardour's scripted actions are taken",
                    hint="free some in Ardour's Script Manager, quit Ardour, and run the same command again",
                )
        values = {"n": name, "s": source, "f": factory}
        text = f'scripts[{number}] = {{}} scripts[{number}]["a"] = {{}} '.encode()
        for key, value in values.items():
            text += f'scripts[{number}]["{key}"] = '.encode() + _quoted(value) + b" "
        self._replace({**self._slots.by_number, number: text})
        return True

    def remove(self, number: int) -> None:
        """Free a slot."""
        self._replace({n: text for n, text in self._slots.by_number.items() if n != number})

    def _replace(self, by_number: Mapping[int, bytes]) -> None:
        self._slots = _Slots(self._slots.head, by_number)
        self._is_changed = True

    def _parsed(self) -> _Slots:
        empty = _Slots(b"scripts = {} ", {})
        if not self.found:
            return empty
        match = _ACTIONS.search(self.found)
        if not match:
            raise DawError(f"{self.path} has no scripted actions", hint=self._hint)
        try:
            text = base64.b64decode(match[2] or b"", validate=False)
        except binascii.Error as err:
            raise DawError(f"{self.path} is damaged: {err}", hint=self._hint) from err
        return self._slots_of(text) if text.strip() else empty

    def _slots_of(self, text: bytes) -> _Slots:
        """Return the statements of a text by the slots that they are on."""
        outside = _STRING.sub(lambda match: b'"' + b"." * (len(match[0]) - 2) + b'"', text)
        statements = list(_STATEMENT.finditer(outside))
        if not statements or statements[0].start() or statements[0][1]:
            raise DawError(f"{self.path} is not as Ardour writes it", hint=self._hint)
        head, by_number = b"", dict[int, bytes]()
        ends = [*(statement.start() for statement in statements), len(text)]
        for statement, (begin, end) in zip(statements, pairwise(ends), strict=True):
            if statement[1]:
                number = int(statement[1])
                by_number[number] = by_number.get(number, b"") + text[begin:end]
            else:
                head += text[begin:end]
        return _Slots(head, by_number)


def _quoted(text: str) -> bytes:
    """Return a string as Lua's %q writes it."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\\n").replace("\r", "\\13")
    return f'"{escaped}"'.encode()


def _unquoted(text: bytes) -> str:
    plain = text[1:-1].decode("utf-8", "surrogateescape")
    return plain.replace("\\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")
