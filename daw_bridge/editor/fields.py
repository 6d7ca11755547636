"""What a request holds, read with care: every field has a kind and a range, and none is unknown."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any

from transform.errors import RhythmError
from transform.events import ARTICULATIONS, CLASSES

_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_DEEPEST = 32  # brackets within each other
_LONGEST_SHOWN = 100  # characters of what is wrong


class Fields:
    """The fields of a JSON object; each is taken once, and `end` finds those that nobody took.

    Every method raises RhythmError for a field that is not as it must be.
    """

    def __init__(self, found: object, what: str) -> None:
        """Take an object; `what` names it in sentences."""
        if not isinstance(found, dict):
            raise RhythmError(f"{what} is no object")
        self._left: dict[str, Any] = dict(found)
        self.what = what

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def end(self) -> None:
        """Raise RhythmError if a field is left."""
        if self._left:
            raise RhythmError(f"{self.what} has no field {_shown(sorted(self._left)[0])}")

    def any(self, name: str, default: Any = ...) -> Any:
        """Return a field as it is; without a default it must be there."""
        found = self._left.pop(name, default)
        if found is ...:
            raise RhythmError(f"{self.what} lacks {name}")
        return found

    def number(self, name: str, low: float, high: float, default: Any = ...) -> float:
        """Return a finite number of a range, its ends included."""
        found = self.any(name, default)
        if isinstance(found, bool) or not isinstance(found, int | float) or not low <= found <= high:
            raise self._wrong(name, found, f"it must be a number from {low:g} to {high:g}")
        return float(found)

    def whole(self, name: str, low: int, high: int, default: Any = ...) -> int:
        """Return a whole number of a range, its ends included."""
        found = self.any(name, default)
        if isinstance(found, bool) or not isinstance(found, int) or not low <= found <= high:
            raise self._wrong(name, found, f"it must be a whole number from {low} to {high}")
        return found

    def choice(self, name: str, choices: Collection[str], default: Any = ...) -> str:
        """Return one of some words."""
        found = self.any(name, default)
        if not isinstance(found, str) or found not in choices:
            known = ", ".join(choice or "nothing" for choice in choices)
            raise self._wrong(name, found, f"it must be one of: {known}")
        return found

    def text(self, name: str, longest: int, default: Any = ...) -> str:
        """Return a text that UTF-8 can hold."""
        found = self.any(name, default)
        if not isinstance(found, str) or not len(found) <= longest or not _is_utf8(found):
            raise self._wrong(name, found, f"it must be a text of {longest} characters at most")
        return found

    def flag(self, name: str, default: bool) -> bool:
        """Return true or false."""
        found = self.any(name, default)
        if not isinstance(found, bool):
            raise self._wrong(name, found, "it must be true or false")
        return found

    def list(self, name: str, most: int, default: Any = ...) -> list[Any]:
        """Return a list of so many entries at most."""
        found = self.any(name, default)
        if not isinstance(found, list) or len(found) > most:
            raise self._wrong(name, found, f"it must be a list of {most:,} at most")
        return found

    def id(self, name: str) -> str:
        """Return the id of a stroke."""
        found = self.any(name)
        if not isinstance(found, str) or not _ID.fullmatch(found):
            raise self._wrong(name, found, "it must be 1 to 64 letters, digits and _.:-")
        return found

    def ids(self, name: str, most: int) -> tuple[str, ...]:
        """Return a list of ids of strokes."""
        found = self.list(name, most)
        for entry in found:
            if not isinstance(entry, str) or not _ID.fullmatch(entry):
                raise self._wrong(f"an entry of {name}", entry, "it must be the id of a stroke")
        return tuple(found)

    def drum_class(self, default: Any = ...) -> str:
        """Return the field `class`, one of the drum classes."""
        return self.choice("class", CLASSES, default)

    def onset_s(self, end_s: float) -> float:
        """Return the field `onset_s`: in seconds, before `end_s`."""
        onset_s = self.number("onset_s", 0.0, end_s)
        if onset_s >= end_s:
            raise self._wrong("onset_s", onset_s, "it must lie before the end")
        return onset_s

    def velocity(self, default: Any = ...) -> float:
        """Return the field `velocity`: above 0, and not above 1."""
        velocity = self.number("velocity", 0.0, 1.0, default)
        if velocity <= 0:
            raise self._wrong("velocity", velocity, "it must be above 0")
        return velocity

    def articulation(self, drum_class: str, default: Any = ...) -> str:
        """Return the field `articulation`: one that the class has, or ""."""
        return self.choice("articulation", ARTICULATIONS[drum_class], default)

    def _wrong(self, name: str, found: object, must: str) -> RhythmError:
        return RhythmError(f"{name} of {self.what} is {_shown(found)}: {must}")


def parse_json(data: bytes) -> Any:
    """Return what JSON text holds; numbers in it are finite, and brackets not deep.

    Raises:
        RhythmError: it is no such text.
    """
    try:
        found = json.loads(data, parse_constant=_refuse, parse_float=_finite)
        _check_depth(found, _DEEPEST)
    except (ValueError, RecursionError) as err:
        raise RhythmError("this is no JSON that an editor takes", hint="load the page again") from err
    return found


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text[:_LONGEST_SHOWN])


def _check_depth(found: object, left: int) -> None:
    if not left:
        raise ValueError("too deep")
    for entry in found.values() if isinstance(found, Mapping) else found if isinstance(found, list) else ():
        if isinstance(entry, Mapping | list):
            _check_depth(entry, left - 1)


def _is_utf8(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _shown(found: object) -> str:
    try:
        return repr(found)[:_LONGEST_SHOWN]
    except ValueError:  # an integer of too many digits
        return "a number without end"
