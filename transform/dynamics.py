"""How hard a rhythm's strokes are played on a source's drums: whose balance, whose dynamics.

How loud the kick of a recording is against its hats is its mix, not its rhythm (docs/method.md, decision 20).
So a rhythm gives the dynamics within each class, and the source the level of each: the strong strokes of a
class are as strong as they are in the source.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from transform.events import CLASSES

STRONG = 0.9  # quantile of a class's strokes that says how strong it is
_FULL_TRUST = 4  # strokes of a class that say how strong it is in a rhythm; of fewer, all classes' say too
_GHOST = 0.4  # a written class whose strong strokes are softer is meant to be soft
_MOST = 2 ** (1 / 1.6)  # by which a class of a written rhythm is made louder: 6 dB of amplitude
USUAL_VELOCITY = 100 / 127  # of a strong stroke, where one velocity is given for all


@dataclass(frozen=True)
class Strength:
    """The velocities of strong strokes, the 90th percentile: of all, and by class with how many there are."""

    overall: float
    by_class: Mapping[str, float]
    n_strokes: Mapping[str, int] = field(default_factory=dict)
    is_flat: bool = False  # all are of one velocity, which says nothing

    @classmethod
    def of(cls, strokes: Iterable[tuple[str, float]]) -> Strength:
        """Return that of strokes, each a class and a velocity; of none, that of velocity 1."""
        velocities: dict[str, list[float]] = {}
        for drum_class, velocity in strokes:
            velocities.setdefault(drum_class, []).append(velocity)
        overall = float(np.quantile([v for own in velocities.values() for v in own] or [1.0], STRONG))
        by_class = {c: float(np.quantile(velocities[c], STRONG)) for c in CLASSES if c in velocities}
        n_strokes = {c: len(velocities[c]) for c in by_class}
        is_flat = len({v for own in velocities.values() for v in own}) == 1
        return cls(overall, by_class, n_strokes, is_flat)

    @classmethod
    def flat(cls) -> Strength:
        """Return that of the usual velocity in all classes."""
        return cls(USUAL_VELOCITY, dict.fromkeys(CLASSES, USUAL_VELOCITY), dict.fromkeys(CLASSES, _FULL_TRUST))


def velocity_scales(
    rhythm: Strength,
    source: Strength,
    stand_ins: Mapping[str, str],
    *,
    balance: float = 1.0,
    is_written: bool = True,
) -> dict[str, float]:
    """Return, by class of a rhythm, the factor that takes its velocities to those of the source's drums.

    Args:
        rhythm: of the rhythm's strokes.
        source: of the source's strokes.
        stand_ins: which class of the source plays each class of the rhythm.
        balance: whose levels the classes have among each other: 1 the source's, 0 the rhythm's.
        is_written: whether the velocities are somebody's intention (MIDI), not measured in a recording: what is
            soft throughout, but for the kick, then stays soft, and no class is made louder by more than 6 dB.
    """
    common = source.overall / (rhythm.overall if rhythm.is_flat else max(rhythm.overall, 0.5 * source.overall))
    scales = {}
    for drum_class, used in stand_ins.items():
        own = common
        if drum_class in rhythm.by_class and used in source.by_class:
            own = source.by_class[used] / rhythm.by_class[drum_class]
        trust = balance * min(1.0, rhythm.n_strokes.get(drum_class, 0) / _FULL_TRUST)
        scale = math.exp((1 - trust) * math.log(common) + trust * math.log(own))
        # Nobody plays ghost notes on a kick: where its velocities are low, its pad was.
        if is_written and drum_class != "KD" and not rhythm.is_flat:
            is_ghost = rhythm.by_class.get(drum_class, 1.0) < _GHOST
            scale = min(scale, common if is_ghost else _MOST * common)
        scales[drum_class] = scale
    return scales
