"""The bars of a project, through changes of its metre."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from operator import itemgetter

from transform.errors import DawError

_ROUNDING_BEATS = 1e-6
_LONGEST_BAR_BEATS = 1024.0
_SHORTEST_BAR_BEATS = 1 / 64
_MOST_CHANGES = 100_000


@dataclass(frozen=True)
class Bars:
    """Bars are counted from `first`, which begins with the project, as its ruler shows them.

    `metres` are (beat, beats of a bar), the first at beat 0; each begins a bar and ends the one before it.
    """

    metres: tuple[tuple[float, float], ...]
    first: int = 1

    def __post_init__(self) -> None:
        beats = [beat for beat, _ in self.metres]
        if beats[:1] != [0.0] or any(after <= before for before, after in pairwise(beats)):
            raise DawError("the project's metres are not in order", hint="repair its tempo markers")
        if len(beats) > _MOST_CHANGES or not all(map(_is_metre, (beats for _, beats in self.metres))):
            raise DawError("the project has a metre that is none", hint="repair its tempo markers")

    @classmethod
    def of(cls, changes: Iterable[tuple[float, int, int]], first: int = 1) -> Bars:
        """Return the bars of metres (beat, numerator, denominator), 4/4 before the first of them."""
        metres = {0.0: 4.0}
        for beat, numerator, denominator in sorted(changes, key=itemgetter(0)):
            if not (0 < numerator <= 255 and 0 < denominator <= 255):
                raise DawError(
                    f"the project has a metre of {numerator}/{denominator}", hint="repair its tempo markers"
                )
            metres[max(0.0, beat)] = numerator * 4 / denominator
        return cls(tuple(sorted(metres.items())), first)

    def at(self, beat: float) -> tuple[int, float]:
        """Return the bar that a beat lies in, and the beat that it begins at."""
        beat += _ROUNDING_BEATS
        place = max(0, bisect_right(self.metres, beat, key=itemgetter(0)) - 1)
        begin, per_bar = self.metres[place]
        n_bars = math.floor((beat - begin) / per_bar)
        return self._first_bars[place] + n_bars, begin + n_bars * per_bar

    def beat_of(self, bar: int) -> float:
        """Return the beat that a bar begins at."""
        place = max(0, bisect_right(self._first_bars, bar) - 1)
        begin, per_bar = self.metres[place]
        return begin + (bar - self._first_bars[place]) * per_bar

    @cached_property
    def _first_bars(self) -> list[int]:
        """The number of the first bar of each metre."""
        bars = [self.first]
        for (begin, per_bar), (end, _) in pairwise(self.metres):
            bars.append(bars[-1] + math.ceil((end - begin) / per_bar - _ROUNDING_BEATS))
        return bars


def _is_metre(beats: float) -> bool:
    return _SHORTEST_BAR_BEATS <= beats <= _LONGEST_BAR_BEATS
