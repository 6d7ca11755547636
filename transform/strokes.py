"""Strokes of a recording that can be told apart, as an editor has them: what was detected, and what plays."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import NamedTuple

from transform.errors import RhythmError
from transform.events import DrumEvent

MOST_STROKES = 100_000  # of a session
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")


@dataclass(frozen=True, slots=True)
class Stroke:
    """One stroke, by an id that is its own as long as it is edited.

    Raises:
        RhythmError: a field is not possible: see `DrumEvent`; an id is 1 to 64 ASCII letters, digits and _.:-
    """

    id: str
    drum_class: str  # one of CLASSES
    onset_s: float  # in the source's seconds
    velocity: float  # 0 < velocity <= 1
    articulation: str = ""  # one of ARTICULATIONS[drum_class]; "" where it is not known
    like: str = ""  # the id of the detected stroke that it is a copy of; "" where it is none

    def __post_init__(self) -> None:
        for found in (self.id, self.like or self.id):
            if not _ID.fullmatch(found):
                raise RhythmError(f"{found[:80]!r} is no id of a stroke", hint="use letters, digits and _.:-")
        self.event()

    def event(self) -> DrumEvent:
        """Return the stroke as an event."""
        return DrumEvent(self.onset_s, self.drum_class, self.velocity, self.articulation)


class Strokes(NamedTuple):
    """What an editor edits, in any order; a stroke that is in both, with equal fields, is untouched."""

    detected: tuple[Stroke, ...]  # what is in the recording, corrected
    played: tuple[Stroke, ...]  # what plays


def in_order(strokes: Iterable[Stroke]) -> tuple[Stroke, ...]:
    """Return strokes by onset.

    Raises:
        RhythmError: two of them have one id.
    """
    found = tuple(sorted(strokes, key=attrgetter("onset_s", "drum_class", "id")))
    if len({stroke.id for stroke in found}) < len(found):
        twice = next(i for i, n in Counter(stroke.id for stroke in found).items() if n > 1)
        raise RhythmError(f"two strokes have the id {twice}", hint="give each stroke an id of its own")
    return found
