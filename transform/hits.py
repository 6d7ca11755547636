"""The hits of a recording: where each begins to the sample, what sounds in it, how loud it is.

With stems every stroke is a hit of its class alone, and strokes that fall together are also one hit of all
their classes: the recording itself as long as nothing else sounds, from the next stroke of another class on, or
where others sound along, the stems of the hit. So a tail is as long as the drum rang, whatever was played over
it. Where a recording repeats a sound (transform/clusters.py), that sound stands for the stem. Without stems a
hit is a slice, from its attack to the next onset of the recording, and strokes that fall together are one hit
of several classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from transform.audio import Recording
from transform.cleaning import LEVEL_S, beginning_level, rms, with_end, without_swells
from transform.clusters import Clusters, Repeat
from transform.complete_hits import CompleteStrokes
from transform.events import ARTICULATIONS, CLASSES, DrumEvent
from transform.onsets import VIEWS_SEARCH_S, attack_of, first_attack, groups
from transform.signal import BlockCache, Samples, read_blocks

if TYPE_CHECKING:
    from transform.separator import StemReader

LEAD_S = 0.002  # retained before the attack, faded in
_FULL_S = {"KD": 0.25, "SD": 0.25, "TT": 0.35, "HH": 0.12, "CY": 0.35}  # a shorter hit lacks something
LONGEST_S = {"KD": 1.0, "SD": 1.2, "TT": 1.5, "HH": 1.5, "CY": 3.0}
# Of strokes that fall together, which one a listener takes the level from.
DOMINANCE = ("KD", "SD", "TT", "CY", "HH")

_BEFORE_S = 0.02  # what rings into a hit is measured over this time
_TIMBRE_S = 0.09
_SHORTEST_S = 0.02
_EDGES_HZ = np.geomspace(40, 16_000, 17)  # of the bands by which a hit is compared with others of its class
_STRONG_BANDS = {"KD": (0, 3), "SD": (4, 13), "TT": (1, 7), "HH": (13, 16), "CY": (12, 16)}
_CLEAN_DB = -8.0  # what else rings at an attack may be this loud, and the recording is still taken
_ALONE_DB = -25.0  # the same where the hit alone is known, as it repeats
_LEAK_DB = -12.0  # a stem this far below the recording, in the strong bands of its class, holds no hit
_RISE_DB = 3.0  # by which a stem grows louder that holds another class's stroke
_EMPTY_DB = -25.0  # a stem this far below the recording says that a stroke which repeats is of another class
_TOGETHER_FAULT = 0.5  # of each class that is struck along
_CROSS_FADE_S = 0.008  # from the recording to a stem
_CACHED_BLOCKS = 50  # of half a second of a stem, more than the longest hit needs, or as many as fit
_CACHED_BYTES = 48 * 2**20
_CUT_BYTES, _MOST_CUT_BYTES = 64 * 2**20, 768 * 2**20  # of the sounds of hits; of two channels, of many


@dataclass(frozen=True, eq=False)
class Hit:
    """The sound of one stroke, or of strokes that fall together."""

    classes: frozenset[str]
    attack: int  # where it is from, in samples of its recording
    level: float  # root mean square of its beginning, all channels
    velocities: Mapping[str, float]  # as detected, by class
    articulations: frozenset[str]  # that sound in it, as far as they are known
    faults: float  # how far it is from a clean and typical one, 0 for none: only to rank by
    flam_ms: float = 0.0  # between the two strokes of a flam; 0: it is none
    levels: Mapping[str, float] = field(default_factory=dict)  # of strokes that fall together, apart, if known

    @property
    def dominant(self) -> str:
        """The class that gives the hit its level."""
        return dominant_class(self.classes)

    @property
    def velocity(self) -> float:
        """That of the dominant class."""
        return self.velocities[self.dominant]

    @property
    def kind(self) -> tuple[frozenset[str], frozenset[str]]:
        """What hits have in common that are of the same drums, struck in the same way."""
        return self.classes, self.articulations

    def articulation(self, drum_class: str) -> str:
        """Return how a class is struck in it, "" where that is not known."""
        return next((name for name in ARTICULATIONS[drum_class] if name and name in self.articulations), "")


def dominant_class(classes: Iterable[str]) -> str:
    """Return which of the classes gives a hit its level."""
    return min(classes, key=DOMINANCE.index)


@dataclass(frozen=True, eq=False, kw_only=True)
class Cut(Hit):
    """A hit with its place in a recording; what is measured later is first guessed from the recording."""

    group: int  # of the strokes that fall together, counted from the first
    band_level: float  # of the recording, in the strong bands of the dominant class
    timbre: NDArray[np.float64]  # levels in dB of the bands, mean removed

    @property
    def key(self) -> tuple[int, frozenset[str]]:
        """What identifies it among the cuts of its recording."""
        return self.group, self.classes


class Cutter:
    """Cuts plain slices out of a recording: from one attack to the next, each with all that sounds in it."""

    def __init__(self, recording: Recording, events: Sequence[DrumEvent], *, at_attacks: bool = False) -> None:
        """Take a recording and its events; `at_attacks`: whether their onsets are attacks already."""
        self.recording = recording
        self.sample_rate = recording.sample_rate
        self.lead = round(LEAD_S * recording.sample_rate)
        self.groups = groups(events)
        onsets_s = [group[0].onset_s for group in self.groups]
        if at_attacks:
            self.attacks = [round(onset_s * self.sample_rate) for onset_s in onsets_s]
        else:
            self.attacks = [attack_of(recording, onset_s) for onset_s in onsets_s]
        self.complete = CompleteStrokes(recording, self.attacks, self.lead)
        n_bytes = min(_MOST_CUT_BYTES, max(1, recording.n_channels // 2) * _CUT_BYTES)
        self._sounds: BlockCache[tuple[int, frozenset[str]], Samples] = BlockCache(n_bytes=n_bytes)

    def candidates(self) -> list[list[Cut]]:
        """Return what could be cut, those of a kind in one list, what promises to be the cleanest first."""
        found: dict[tuple[frozenset[str], frozenset[str]], list[Cut]] = {}
        for i in range(len(self.groups)):
            for cut in self._cuts(i):
                found.setdefault(cut.kind, []).append(cut)
        retained = self.complete.retained(list(found.values()))
        return [sorted(own, key=lambda cut: cut.faults) for own in retained]

    def hit(self, cut: Cut) -> Cut | None:
        """Return a candidate as it sounds; None where nothing of it is left."""
        return cut

    def sound(self, hit: Hit) -> Samples:
        """Return the sound of a cut as a bank returns it, those used last cached."""
        assert isinstance(hit, Cut)
        return self._sounds.get(hit.key, lambda _: self._cleaned(hit))

    def _cleaned(self, cut: Cut) -> Samples:
        # A flam's second stroke is no swell, nor what reaches a far microphone later.
        begun = self.lead + round((cut.flam_ms / 1000 + self.recording.spread_s) * self.sample_rate)
        sound = without_swells(self._cut_out(cut), self.sample_rate, begun)
        if self.lead:
            sound[:, : self.lead] *= np.linspace(0, 1, self.lead, endpoint=False, dtype=np.float32) ** 2
        return sound

    def _cut_out(self, cut: Cut) -> Samples:
        longest_s = max(LONGEST_S[c] for c in cut.classes)
        stop = min(cut.attack + round(longest_s * self.sample_rate), self._following(cut.group) - self.lead)
        return with_end(
            self.recording.read(cut.attack - self.lead, stop), self.sample_rate, self.lead, longest_s
        )

    def _following(self, group: int) -> int:
        """Return the next attack of any class; after the last, what lets a hit reach the recording's end."""
        following = group + 1
        return (
            self.attacks[following] if following < len(self.attacks) else self.recording.n_samples + self.lead
        )

    def _sets(self, group: int) -> list[tuple[frozenset[str], int]]:
        """Return the classes of each hit that a group could give, and where it is cut off at the latest."""
        return [(frozenset(event.drum_class for event in self.groups[group]), self._following(group))]

    def _articulation(self, event: DrumEvent) -> str:
        """Return how a stroke is struck."""
        return event.articulation

    def _cuts(self, i: int) -> Iterator[Cut]:
        """Yield the candidates of a group."""
        attack, group = self.attacks[i], self.groups[i]
        beginning = self.recording.read(attack, attack + round(_TIMBRE_S * self.sample_rate))
        level = beginning_level(beginning, self.sample_rate)
        if level <= 1e-6:
            return
        before = self.recording.read(attack - round(_BEFORE_S * self.sample_rate), attack - self.lead)
        energies = _band_energies(self.recording.views(beginning), self.sample_rate)
        for classes, cut_off in self._sets(i):
            length_s = (cut_off - self.lead - attack) / self.sample_rate
            if length_s < _SHORTEST_S:
                continue
            first = next(e for c in DOMINANCE for e in group if e.drum_class == c and c in classes)
            low, high = _STRONG_BANDS[first.drum_class]
            flam_ms = max(e.flam_ms for e in group if e.drum_class in classes)
            yield Cut(
                classes=classes,
                attack=attack,
                level=level,
                velocities={c: max(e.velocity for e in group if e.drum_class == c) for c in classes},
                articulations=frozenset(self._articulation(e) for e in group if e.drum_class in classes) - {""},
                flam_ms=flam_ms if length_s > flam_ms / 1000 + _SHORTEST_S else 0.0,
                faults=max(0.0, 1 - length_s / _FULL_S[first.drum_class]) + _ringing_fault(before, level),
                group=i,
                band_level=float(np.sqrt(energies[low:high].sum())),
                timbre=_timbre(energies),
            )


class StemCutter(Cutter):
    """Cuts the strokes of each class out of a recording and its stems, each for itself."""

    def __init__(
        self,
        recording: Recording,
        events: Sequence[DrumEvent],
        stems: StemReader,
        clusters: Clusters | None = None,
        *,
        at_attacks: bool = False,
    ) -> None:
        """Take a recording and its stems; what it repeats is found where it is not given."""
        super().__init__(recording, events, at_attacks=at_attacks)
        self.stems = stems if isinstance(stems, CachedStems) else CachedStems(stems, recording.sample_rate)
        in_order = [event for group in self.groups[self.complete.longest_run()] for event in group]
        self.clusters = clusters or Clusters.of_recording(recording, in_order)
        # Where each class is struck again after each group.
        self._again: list[dict[str, int]] = []
        later: dict[str, int] = {}
        for group, attack in zip(reversed(self.groups), reversed(self.attacks), strict=True):
            self._again.append(later)
            later = later | {event.drum_class: attack for event in group}
        self._again.reverse()

    def rising(self, attack: int, following: int, own: Iterable[str], others: Iterable[str]) -> frozenset[str]:
        """Return the classes in whose stems a stroke is that its own do not hold; none where they hold it.

        Args:
            attack: of the stroke.
            following: the next attack.
            own: its classes.
            others: classes that nothing is struck of at that time.
        """
        stop = min(attack + round(_TIMBRE_S * self.sample_rate), following - self.lead)
        if stop <= attack:
            return frozenset()
        whole = _band_energies(self.recording.read_views(attack, stop), self.sample_rate)

        def holds(drum_class: str, stem: Samples) -> bool:
            energies = _band_energies(self.recording.views(stem), self.sample_rate)
            strong = slice(*_STRONG_BANDS[drum_class])
            return bool(energies[strong].sum() >= whole[strong].sum() * 10 ** (_LEAK_DB / 10))

        def read(classes: Iterable[str], start: int, stop: int) -> Iterator[tuple[str, Samples]]:
            names = sorted(classes)
            return zip(names, self.stems.read(start, stop, names), strict=True)

        if any(holds(*stem) for stem in read(own, attack, stop)):
            return frozenset()
        before = dict(read(others, attack - round(_BEFORE_S * self.sample_rate), attack - self.lead))
        return frozenset(
            c
            for c, stem in read(others, attack, stop)
            if holds(c, stem) and rms(stem) > 10 ** (_RISE_DB / 20) * rms(before[c])
        )

    def hit(self, cut: Cut) -> Cut | None:
        """Return a candidate as it sounds alone; None where the stem holds no stroke."""
        struck_along = bool(self._struck_together(cut))
        repeat = self._repeat(cut)
        if (len(cut.classes) > 1 or (repeat and struck_along)) and not self._holds_all(cut):
            return None
        if len(cut.classes) > 1:
            cut = replace(cut, levels=self._levels_apart(cut))
        if struck_along and not repeat:
            cut = replace(cut, attack=self._own_attack(cut))
        beginning = self._beginning(cut)
        level = beginning_level(beginning, self.sample_rate)
        if level <= 1e-6 or self._is_leak(cut, beginning):
            return None
        before = self._own(cut, cut.attack - round(_BEFORE_S * self.sample_rate), cut.attack - self.lead)
        faults = cut.faults + _ringing_fault(before, level)
        if not repeat:
            faults += _TOGETHER_FAULT * len(self._struck_together(cut))
        timbre = _timbre(_band_energies(self.recording.views(beginning), self.sample_rate))
        return replace(cut, level=level, faults=faults, timbre=timbre)

    def _cuts(self, i: int) -> Iterator[Cut]:
        for cut in super()._cuts(i):
            repeat = self._repeat(cut)
            yield replace(cut, attack=repeat.attack, faults=0.0) if repeat else cut

    def _beginning(self, cut: Cut) -> Samples:
        """Return the beginning of a hit, from its attack on: nothing longer is needed to judge it."""
        stop = cut.attack + round(_TIMBRE_S * self.sample_rate)
        beginning = self._own(cut, cut.attack, stop)
        if (until := min(stop, self._clean_until(cut))) > cut.attack:
            beginning[:, : until - cut.attack] = self.recording.read(cut.attack, until)
        return beginning

    def _articulation(self, event: DrumEvent) -> str:
        return self.clusters.articulation_of(event)

    def _repeat(self, cut: Cut) -> Repeat | None:
        """Return the stroke of a hit that repeats a sound which the recording gives away, None of others."""
        if len(cut.classes) > 1 or cut.flam_ms:
            return None
        event = next(event for event in self.groups[cut.group] if event.drum_class in cut.classes)
        return self.clusters.stroke_of(event)

    def _sets(self, group: int) -> list[tuple[frozenset[str], int]]:
        struck = frozenset(event.drum_class for event in self.groups[group])
        found = [frozenset({c}) for c in CLASSES if c in struck]
        if len(struck) > 1:
            found.append(struck)  # as recorded: better than what is put together again
        return [(classes, self._next_stroke(group, classes)) for classes in found]

    def _next_stroke(self, group: int, classes: Iterable[str]) -> int:
        """Return the next attack of one of some classes; after the last, what reaches the recording's end."""
        end = self.recording.n_samples + self.lead
        return min(self._again[group].get(c, end) for c in classes)

    def _last_sample(self, cut: Cut, drum_class: str) -> int:
        """Return where a class of a hit ends at the latest: at its next stroke, or when it has rung out."""
        repeat = self._repeat(cut)
        again = self.clusters.end(repeat) if repeat else self._next_stroke(cut.group, (drum_class,)) - self.lead
        longest = cut.attack + round(LONGEST_S[drum_class] * self.sample_rate)
        return max(min(longest, again, self.recording.n_samples), cut.attack + 1)

    def _struck_together(self, cut: Cut) -> set[str]:
        """Return the other classes that are struck together with a hit."""
        return {event.drum_class for event in self.groups[cut.group]} - cut.classes

    def _own(self, cut: Cut, start: int, stop: int) -> Samples:
        """Return what a hit's classes sound like between two samples."""
        return self._own_classes(cut, sorted(cut.classes), start, stop)

    def _own_classes(self, cut: Cut, classes: Sequence[str], start: int, stop: int) -> Samples:
        """Return what some of a hit's classes sound like between two samples."""
        if repeat := self._repeat(cut):
            return self.clusters.sound(repeat, start, stop)
        return np.asarray(self.stems.read(start, stop, classes).sum(axis=0))

    def _own_attack(self, cut: Cut) -> int:
        """Return where a stroke begins that others fall together with."""
        onset_s = next(e.onset_s for e in self.groups[cut.group] if e.drum_class == cut.dominant)
        around = round(onset_s * self.sample_rate)
        margin = round((VIEWS_SEARCH_S + 0.01) * self.sample_rate)
        stem = self.recording.views(self._own(cut, around - margin, around + margin))
        return max(0, around - margin + first_attack(stem, self.sample_rate, margin))

    def _holds_all(self, cut: Cut) -> bool:
        """Tell whether the stem of each class of a hit holds a stroke."""
        stop = cut.attack + round(_TIMBRE_S * self.sample_rate)
        whole = _band_energies(self.recording.read_views(cut.attack, stop), self.sample_rate)
        classes = sorted(cut.classes)
        for drum_class, stem in zip(classes, self.stems.read(cut.attack, stop, classes), strict=True):
            strong = slice(*_STRONG_BANDS[drum_class])
            own = _band_energies(self.recording.views(stem), self.sample_rate)
            least_db = _EMPTY_DB if self._repeat(cut) else _LEAK_DB
            if own[strong].sum() < whole[strong].sum() * 10 ** (least_db / 10):
                return False
        return True

    def _levels_apart(self, cut: Cut) -> dict[str, float]:
        """Return the level of each class of a hit, as its stem has it."""
        stop = cut.attack + round(LEVEL_S * self.sample_rate)
        classes = sorted(cut.classes)
        stems = self.stems.read(cut.attack, stop, classes)
        return {c: max(rms(stem), 1e-6) for c, stem in zip(classes, stems, strict=True)}

    def _is_leak(self, cut: Cut, beginning: Samples) -> bool:
        low, high = _STRONG_BANDS[cut.dominant]
        energy = float(_band_energies(self.recording.views(beginning), self.sample_rate)[low:high].sum())
        return energy < cut.band_level**2 * 10 ** (_LEAK_DB / 10)

    def _cut_out(self, cut: Cut) -> Samples:
        """Return the recording up to its next stroke, where only the hit is in it, then the stems.

        Of strokes that fall together each rings until its drum is struck again: a crash outlasts its kick.
        """
        start, stop = cut.attack - self.lead, max(self._last_sample(cut, c) for c in cut.classes)
        until = min(self._clean_until(cut) - start, stop - start)
        sound = np.zeros((self.recording.n_channels, stop - start), dtype=np.float32)
        for c in cut.classes:
            own = self._own_classes(cut, (c,), start, self._last_sample(cut, c))
            own = with_end(own, self.sample_rate, self.lead, LONGEST_S[c])
            if own.shape[1] > sound.shape[1]:
                sound = np.pad(sound, ((0, 0), (0, own.shape[1] - sound.shape[1])))
            sound[:, : own.shape[1]] += own
        if until > 0:
            whole = np.zeros((len(sound), max(until, sound.shape[1])), dtype=np.float32)
            whole[:, : sound.shape[1]] = sound
            weight = np.ones(until, dtype=np.float32)
            fade = min(until, round(_CROSS_FADE_S * self.sample_rate))
            weight[until - fade :] = np.linspace(1, 0, fade, dtype=np.float32)
            whole[:, :until] += weight * (self.recording.read(start, start + until) - whole[:, :until])
            sound = whole
        return sound

    def _clean_until(self, cut: Cut) -> int:
        """Return up to where the recording holds a hit and nothing else; its start if it never does."""
        start, following = cut.attack - self.lead, self._following(cut.group) - self.lead
        if self._struck_together(cut):
            return start
        if self._is_leak(cut, self._own(cut, cut.attack, cut.attack + round(_TIMBRE_S * self.sample_rate))):
            return following  # where separator and transcriber disagree, all that sounds is the hit
        n_before = round(_BEFORE_S * self.sample_rate)
        before = self.recording.read(start - n_before, start) - self._own(cut, start - n_before, start)
        beginning = self.recording.read(cut.attack, cut.attack + round(LEVEL_S * self.sample_rate))
        most_db = _ALONE_DB if self._repeat(cut) else _CLEAN_DB
        # The differences show a hat that rings into a kick.
        for rings, hit in ((before, beginning), (np.diff(before), np.diff(beginning))):
            if rms(rings) > 10 ** (most_db / 20) * rms(hit):
                return start
        return following


def cutter_of(recording: Recording, events: Sequence[DrumEvent], stems: StemReader | None) -> Cutter:
    """Return what cuts the hits of a recording: plain slices where it has no stems."""
    return StemCutter(recording, events, stems) if stems is not None else Cutter(recording, events)


class CachedStems:
    """Stems that are read in blocks, the last ones cached: hits overlap."""

    def __init__(self, stems: StemReader, sample_rate: int, n_bytes: int = _CACHED_BYTES) -> None:
        self._stems, self._size = stems, max(1, sample_rate // 2)
        self._cache: BlockCache[tuple[int, str], Samples] = BlockCache(_CACHED_BLOCKS, n_bytes)  # (C, T)

    def read(self, start: int, stop: int, classes: Sequence[str] = CLASSES) -> Samples:
        """Return stems of samples [start, stop), shape (N, C, stop - start)."""

        def block(number: int) -> Samples:
            return np.stack(self._cache.get_all([(number, c) for c in classes], self._separated))

        return read_blocks(block, self._size, start, stop)

    def _separated(self, missing: Sequence[tuple[int, str]]) -> list[Samples]:
        begin = missing[0][0] * self._size
        stems = self._stems.read(begin, begin + self._size, [drum_class for _, drum_class in missing])
        return [stem.copy() for stem in stems]


def _ringing_fault(before: Samples, level: float) -> float:
    """Return how much it matters what rings into a hit: 0 below -30 dB, 1 at -10 dB."""
    ringing_db = 20 * np.log10(rms(before) / level + 1e-9)
    return float(np.clip((ringing_db + 30) / 20, 0.0, 2.0))


def _band_energies(views: Samples, sample_rate: int) -> NDArray[np.float64]:
    """Return the energies of a hit's beginning (V, T) in bands of half an octave, its views added."""
    n_samples = views.shape[1]
    window, first, bands = _bands_of(n_samples, sample_rate)
    power = (np.abs(np.fft.rfft(views * window)) ** 2 / max(1, n_samples)).sum(axis=0)
    weights = power[first : first + len(bands)]
    return np.asarray(np.bincount(bands, weights=weights, minlength=len(_EDGES_HZ) - 1))


@lru_cache(maxsize=64)
def _bands_of(n_samples: int, sample_rate: int) -> tuple[NDArray[np.float64], int, NDArray[np.int64]]:
    """Return a window that only falls, the first bin that lies in a band, and the bands from there on."""
    band = np.searchsorted(_EDGES_HZ, np.fft.rfftfreq(n_samples, 1 / sample_rate)) - 1
    inside = np.flatnonzero((band >= 0) & (band < len(_EDGES_HZ) - 1))
    return np.hanning(2 * n_samples)[n_samples:], int(inside[0]) if len(inside) else 0, band[inside]


def _timbre(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    levels_db = 10 * np.log10(energies + 1e-6 * energies.max() + 1e-12)
    return np.asarray(levels_db - levels_db.mean())
