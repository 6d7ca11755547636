"""Which hits of a recording are worth playing: clean, typical of their classes, of all levels.

A bank has hits of any origin: they are read when they are played.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from transform.audio import Progress, Recording
from transform.dynamics import STRONG, Strength
from transform.events import CLASSES, DrumEvent
from transform.hits import Cut, Cutter, Hit, cutter_of
from transform.signal import Samples
from transform.velocity import LEVEL_EXPONENT

if TYPE_CHECKING:
    from transform.separator import StemReader

_STRANGE_DB = 12.0  # a hit this far from the middle of its class is not trusted to be of it
_SOFTEST_DB = -30.0  # against the loudest of its classes: what is softer is a leak, too
_TRUSTED_FAULTS = 0.4  # a hit with so many more faults than the best of its classes is left out
_FEW = 2  # hits of one kind
_FEWEST = 5  # hits of each kind are retained even with so many more faults: strokes that repeat must differ
_BEARABLE_FAULTS = 1.0
_CLEAN_FAULTS = 0.3  # a hit with fewer is never left out for one with more
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
        strength: Strength | None = None,
        strong_levels: Mapping[str, float] | None = None,
    ) -> None:
        """Sort out the hits.

        Args:
            hits: what may be played.
            read: returns a hit's sound, as `sound` describes it, those used last cached.
            sample_rate: of the sounds, in Hz.
            n_channels: of the sounds.
            strength: of all the strokes that the hits are chosen from; None: of the hits.
            strong_levels: of strong strokes, by class, as `Hit.level` is; of others the hits' levels say it.
        """
        self.sample_rate, self.n_channels = sample_rate, n_channels
        self._read = read
        self.hits = tuple(sorted(hits, key=lambda hit: hit.level))
        self.strength = strength or Strength.of((c, hit.velocities[c]) for hit in hits for c in hit.classes)
        by_set: dict[frozenset[str], list[Hit]] = {}
        for hit in self.hits:
            by_set.setdefault(hit.classes, []).append(hit)
        self.sets: Mapping[frozenset[str], tuple[Hit, ...]] = {c: tuple(own) for c, own in by_set.items()}
        self._strong_levels = _strong_levels(hits, self.strength) | dict(strong_levels or {})
        # That of a stroke of velocity 1, by class.
        self.full_level: Mapping[str, float] = {
            c: level / self.strength.by_class.get(c, self.strength.overall) ** LEVEL_EXPONENT
            for c, level in self._strong_levels.items()
        }

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
        return cls.of_cutter(cutter_of(recording, events, stems), per_set=per_set)

    @classmethod
    def of_cutter(
        cls,
        cutter: Cutter,
        *,
        per_set: int = 12,
        report: Progress = lambda stage, fraction: None,
    ) -> Bank:
        """Return the hits that a cutter cuts out of its recording; `per_set` as `of_recording` has it.

        Between two hits `report` is called with "cut kit" and the fraction done.
        """
        candidates = cutter.candidates()
        # Separated is only what promises best; in order, so that stems are read from beginning to end.
        cuts = [cut for own in candidates for cut in _most_promising(own, per_set)]
        found: list[Cut] = []
        for number, cut in enumerate(sorted(cuts, key=lambda cut: cut.attack)):
            report("cut kit", number / len(cuts))
            if (hit := cutter.hit(cut)) is not None:
                found.append(hit)
        worthy = _worthy(found, per_set)
        return cls(
            worthy,
            cutter.sound,
            sample_rate=cutter.sample_rate,
            n_channels=cutter.recording.n_channels,
            strength=Strength.of((e.drum_class, e.velocity) for group in cutter.groups for e in group),
            strong_levels=_strong_band_levels([cut for own in candidates for cut in own], worthy),
        )

    @property
    def classes(self) -> frozenset[str]:
        """The classes that some hit holds."""
        return frozenset().union(*self.sets) if self.sets else frozenset()

    def apart(self) -> Bank:
        """Return a bank of the hits of single classes, and of others for classes that no hit holds alone."""
        together = {c for c in self.classes if frozenset({c}) not in self.sets}
        hits = [hit for hit in self.hits if len(hit.classes) == 1 or hit.classes & together]
        return self.with_hits(hits, self._read)

    def by_velocity(self) -> Bank:
        """Return the bank at the level that its hits have of their velocities, on the median of a class.

        So a single stroke is as strong as those of its velocity. The level in a class's band, by which whole
        takes are played, counts what else sounds there at strong strokes.
        """
        return Bank(
            self.hits,
            self._read,
            sample_rate=self.sample_rate,
            n_channels=self.n_channels,
            strength=self.strength,
        )

    def with_hits(self, hits: Sequence[Hit], read: Callable[[Hit], Samples]) -> Bank:
        """Return a bank of other hits that are played as loud as this one's."""
        return Bank(
            hits,
            read,
            sample_rate=self.sample_rate,
            n_channels=self.n_channels,
            strength=self.strength,
            strong_levels=self._strong_levels,
        )

    def sound(self, hit: Hit) -> Samples:
        """Return a hit's sound, shape (C, T), with its lead, faded at both ends, its cut tail drawn out.

        The attack is at sample `round(LEAD_S * sample_rate)`.
        """
        return self._read(hit)


def _strong_levels(hits: Sequence[Hit], strength: Strength) -> dict[str, float]:
    """Return the level of a class's strong strokes, by the velocities of the hits."""
    levels = {}
    for drum_class in CLASSES:
        if own := _of_class(hits, drum_class):
            strong = strength.by_class.get(drum_class, strength.overall)
            levels[drum_class] = float(
                np.median([hit.level * (strong / hit.velocity) ** LEVEL_EXPONENT for hit in own])
            )
    return levels


def _strong_band_levels(candidates: Sequence[Cut], hits: Sequence[Cut]) -> dict[str, float]:
    """Return the level of a class's strong strokes, by how strong the class's band is in the recording.

    A recording of a low sample rate may have nothing in a band: of that class it says nothing.
    """
    levels = {}
    for drum_class in CLASSES:
        own = [hit for hit in _of_class(hits, drum_class) if hit.band_level > 0]
        if own:
            all_levels = [cut.band_level for cut in _of_class(candidates, drum_class)]
            strong = float(np.quantile(all_levels, STRONG))
            levels[drum_class] = max(
                1e-6, float(np.median([hit.level * strong / hit.band_level for hit in own]))
            )
    return levels


_AHit = TypeVar("_AHit", bound=Hit)


def _of_class(hits: Sequence[_AHit], drum_class: str) -> list[_AHit]:
    """Return the hits of a class alone where there are some, else those that it dominates."""
    alone = [hit for hit in hits if hit.classes == {drum_class}]
    return alone or [hit for hit in hits if hit.dominant == drum_class]


def _most_promising(cuts: Sequence[Cut], per_set: int) -> list[Cut]:
    """Return which candidates of a kind are separated; those of several drums are played less often."""
    n = per_set if len(cuts[0].classes) == 1 else -(-per_set // 2)
    return _spread(cuts[: _N_SURE * n], n + _N_SPARE, attrgetter("band_level"))


def _worthy(cuts: Sequence[Cut], per_set: int) -> list[Cut]:
    """Return the cuts to retain: clean, typical of their kind, and of all levels."""
    by_set: dict[frozenset[str], list[Cut]] = {}
    for cut in cuts:
        by_set.setdefault(cut.classes, []).append(cut)
    return [cut for own in by_set.values() for cut in _worthy_of_set(own, per_set)]


def _worthy_of_set(cuts: Sequence[Cut], per_set: int) -> list[Cut]:
    """Return the cuts of the same classes to retain, up to `per_set` of each kind.

    A kind that was detected once or twice may be a mistake: its hits are compared with all of the set. Toms are
    measured, and unlike each other.
    """
    softest = max(cut.level for cut in cuts) * 10 ** (_SOFTEST_DB / 20)
    loud = [cut for cut in cuts if cut.level >= softest]
    by_kind: dict[object, list[Cut]] = {}
    for cut in loud:
        by_kind.setdefault(cut.kind, []).append(cut)
    few = {kind for kind, own in by_kind.items() if len(own) <= _FEW and "TT" not in own[0].classes}
    judged = {kind: _judged(own, loud if kind in few else own) for kind, own in by_kind.items()}
    best = min(own[0].faults for own in judged.values())
    retained: list[Cut] = []
    for kind, own in judged.items():
        trusted = [
            cut
            for rank, cut in enumerate(own)
            if cut.faults <= own[0].faults + (_BEARABLE_FAULTS if rank < _FEWEST else _TRUSTED_FAULTS)
            and (kind not in few or cut.faults <= best + _BEARABLE_FAULTS)
        ]
        n_clean = sum(cut.faults < _CLEAN_FAULTS for cut in trusted)
        chosen = _spread(trusted[:n_clean], per_set, attrgetter("level"))
        retained += chosen + _spread(trusted[n_clean:], per_set - len(chosen), attrgetter("level"))
    return retained


def _judged(cuts: Sequence[Cut], likes: Sequence[Cut]) -> list[Cut]:
    """Return cuts with the fault of being unlike most of their likes, the best first."""
    middle = np.median([cut.timbre for cut in likes], axis=0)
    strange = [float(np.mean(np.abs(cut.timbre - middle))) / _STRANGE_DB for cut in cuts]
    judged = [replace(cut, faults=cut.faults + own) for cut, own in zip(cuts, strange, strict=True)]
    return sorted(judged, key=attrgetter("faults"))


def _spread(cuts: Sequence[Cut], n: int, level: Callable[[Cut], float]) -> list[Cut]:
    """Return at most `n` of the cuts, evenly over their levels, the cleanest (first) always among them."""
    by_level = sorted(cuts, key=level)
    if len(cuts) <= n:
        return by_level
    if n < 1:
        return []
    chosen = sorted({round(i * (len(by_level) - 1) / max(1, n - 2)) for i in range(n - 1)})
    retained = [by_level[i] for i in chosen]
    return retained if cuts[0] in retained else [*retained, cuts[0]]
