"""The lanes of an editor as a mixer has them: muted, soloed, stronger or softer.

A lane's level is a matter of its strokes: those of a muted lane do not play, so they are taken out of the
recording, and a gain changes their velocities as it would change their sound.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from transform.errors import RhythmError
from transform.strokes import Stroke
from transform.velocity import LEVEL_EXPONENT

GAIN_RANGE_DB = (-24.0, 12.0)
_SOFTEST = 0.01  # a velocity; 0 is none


@dataclass(frozen=True, kw_only=True)
class Lane:
    """How the strokes of a class play. A gain ends where a velocity is full."""

    gain_db: float = 0.0
    is_muted: bool = False
    is_soloed: bool = False

    def __post_init__(self) -> None:
        low, high = GAIN_RANGE_DB
        if not low <= self.gain_db <= high:
            raise RhythmError(
                f"a lane's gain would be {self.gain_db:g} dB", hint=f"stay within {low:g} to {high:g} dB"
            )

    def json(self) -> dict[str, Any]:
        """Return a lane as journals and pages have it."""
        return {"gain_db": self.gain_db, "muted": self.is_muted, "soloed": self.is_soloed}


def sounding(strokes: Iterable[Stroke], lanes: Mapping[str, Lane]) -> Iterator[Stroke]:
    """Yield the strokes that sound, as strong as their lanes let them; one of a lane as it was is the same."""
    has_solo, usual = any(lane.is_soloed for lane in lanes.values()), Lane()
    for stroke in strokes:
        lane = lanes.get(stroke.drum_class, usual)
        if lane.is_muted or (has_solo and not lane.is_soloed):
            continue
        if not lane.gain_db:
            yield stroke
            continue
        factor = 10 ** (lane.gain_db / 20 / LEVEL_EXPONENT)
        yield replace(stroke, velocity=min(1.0, max(_SOFTEST, stroke.velocity * factor)))
