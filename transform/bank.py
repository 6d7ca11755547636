"""Which hits of a recording are worth playing: clean, typical of their classes, of all levels.

A bank has hits of any origin: they are read when they are played.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np

from transform.audio import Recording
from transform.events import CLASSES, DrumEvent
from transform.hits import Cut, Cutter, Hit, StemCutter
from transform.signal import Samples
from transform.velocity import LEVEL_EXPONENT

if TYPE_CHECKING:
    from transform.separator import StemReader

_STRANGE_DB = 12.0  # a hit this far from the middle of its class is not trusted to be of it
_SOFTEST_DB = -40.0  # against the loudest of its class: what is softer is a leak, too
_TRUSTED_FAULTS = 0.4  # a hit with so many more faults than the best of its classes is left out
_FEWEST = 5  # hits of each kind are retained even with so many more faults: strokes that repeat must differ
_BEARABLE_FAULTS = 1.0
_N_SURE = 3  # of the candidates of each set, as many times `per_set` are considered
_N_SPARE = 4  # candidates of each set beyond those that are retained


class Bank:
    """Hits, by what sounds in them; their sounds are read on request."""

    def __init__(
        self,
        hits: Sequence[Hit],
        read: Callable[[Hit], Samples],
        *,
        sample_rate: int,
        n_channels: int,
    ) -> None:
        """Sort out the hits.

        Args:
            hits: what may be played.
            read: returns a hit's sound, as `sound` describes it, those used last cached.
            sample_rate: of the sounds, in Hz.
            n_channels: of the sounds.
        """
        self.sample_rate, self.n_channels = sample_rate, n_channels
        self._read = read
        by_set: dict[frozenset[str], list[Hit]] = {}
        for hit in sorted(hits, key=lambda hit: hit.level):
            by_set.setdefault(hit.classes, []).append(hit)
        self.sets: Mapping[frozenset[str], tuple[Hit, ...]] = {c: tuple(own) for c, own in by_set.items()}
        self.full_level: Mapping[str, float] = _full_levels(hits)

    @classmethod
    def of_recording(
        cls,
        recording: Recording,
        events: Sequence[DrumEvent],
        stems: StemReader | None = None,
        *,
        per_set: int = 12,
    ) -> Bank:
        """Return the hits of a recording that are worth playing; none where nothing sounds at its events.

        Args:
            recording: the recording.
            events: its transcription.
            stems: its stems; None for plain slices.
            per_set: how many hits of the same classes, and of each tom, are retained at most.
        """
        cutter = StemCutter(recording, events, stems) if stems is not None else Cutter(recording, events)
        return cls.of_cutter(cutter, per_set=per_set)

    @classmethod
    def of_cutter(cls, cutter: Cutter, *, per_set: int = 12) -> Bank:
        """Return the hits that a cutter cuts out of its recording; `per_set` as `of_recording` has it."""
        # Separated is only what promises best; in order, so that stems are read from beginning to end.
        cuts = [
            cut
            for own in cutter.candidates()
            for cut in _spread(own[: _N_SURE * per_set], per_set + _N_SPARE, attrgetter("band_level"))
        ]
        found = [hit for cut in sorted(cuts, key=lambda cut: cut.attack) if (hit := cutter.hit(cut))]
        return cls(
            _worthy(found, per_set),
            cutter.sound,
            sample_rate=cutter.sample_rate,
            n_channels=cutter.recording.n_channels,
        )

    @property
    def classes(self) -> frozenset[str]:
        """The classes that some hit holds."""
        return frozenset().union(*self.sets) if self.sets else frozenset()

    def faults(self, classes: frozenset[str]) -> float:
        """Return the faults of the best hit of a set."""
        return min(hit.faults for hit in self.sets[classes])

    def sound(self, hit: Hit) -> Samples:
        """Return a hit's sound, shape (C, T), with its lead, faded at both ends, its cut tail drawn out.

        The attack is at sample `round(LEAD_S * sample_rate)`.
        """
        return self._read(hit)


def _full_levels(hits: Sequence[Hit]) -> dict[str, float]:
    """Return the level that a stroke of velocity 1 would have, by the hits' transcribed velocities.

    It is that of the hits of the class alone where there are some.
    """
    levels = {}
    for drum_class in CLASSES:
        own = [h for h in hits if h.classes == {drum_class}] or [h for h in hits if h.dominant == drum_class]
        if own:
            levels[drum_class] = float(np.median([h.level / h.velocity**LEVEL_EXPONENT for h in own]))
    return levels


def _worthy(cuts: Sequence[Cut], per_set: int) -> list[Hit]:
    """Return the cuts to retain: clean, typical of their kind, and of all levels."""
    by_kind: dict[tuple[frozenset[str], frozenset[str]], list[Cut]] = {}
    for cut in cuts:
        by_kind.setdefault(cut.kind, []).append(cut)
    retained: list[Hit] = []
    for members in by_kind.values():
        softest = max(cut.level for cut in members) * 10 ** (_SOFTEST_DB / 20)
        own = [cut for cut in members if cut.level >= softest]
        middle = np.median([cut.timbre for cut in own], axis=0)
        judged = [
            replace(cut, faults=cut.faults + float(np.mean(np.abs(cut.timbre - middle))) / _STRANGE_DB)
            for cut in own
        ]
        judged.sort(key=lambda cut: cut.faults)
        retained += _spread(
            [
                cut
                for rank, cut in enumerate(judged)
                if cut.faults <= judged[0].faults + (_BEARABLE_FAULTS if rank < _FEWEST else _TRUSTED_FAULTS)
            ],
            per_set,
            attrgetter("level"),
        )
    return retained


def _spread(cuts: Sequence[Cut], n: int, level: Callable[[Cut], float]) -> list[Cut]:
    """Return at most `n` of the cuts, evenly over their levels, the cleanest (first) always among them."""
    by_level = sorted(cuts, key=level)
    if len(cuts) <= n:
        return by_level
    chosen = sorted({round(i * (len(by_level) - 1) / max(1, n - 2)) for i in range(n - 1)})
    retained = [by_level[i] for i in chosen]
    return retained if cuts[0] in retained else [*retained, cuts[0]]
