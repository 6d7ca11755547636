"""The hits of a recording: where each begins to the sample, what sounds in it, how loud it is.

With stems every stroke is a hit of its class alone, and strokes that fall together are also one hit of all
their classes: the recording itself as long as nothing else sounds, from the next stroke of another class on, or
where others sound along, the stems of the hit. So a tail is as long as the drum rang, whatever was played over
it. Without stems a hit is a slice, from its attack to the next onset of
the recording, and strokes that fall together are one hit of several classes.

A bank is where hits are kept, whatever they are from: they are read when they are played.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from transform.attacks import LEVEL_EXPONENT, REACH_S, attack_of, groups, locate_attack
from transform.audio import Recording, Samples
from transform.events import CLASSES, DrumEvent

if TYPE_CHECKING:
    from transform.separator import StemReader

LEAD_S = 0.002  # kept before the attack, faded in
FADE_S = 0.006  # at the end of a hit that is cut by the next
_WANTED_S = {"KD": 0.25, "SD": 0.25, "TT": 0.35, "HH": 0.12, "CY": 0.35}  # a shorter hit lacks something
LONGEST_S = {"KD": 1.0, "SD": 1.2, "TT": 1.5, "HH": 1.5, "CY": 3.0}
# Of strokes that fall together, which one a listener takes the level from.
DOMINANCE = ("KD", "SD", "TT", "CY", "HH")

_BEFORE_S = 0.02  # what rings into a hit is measured over this time
_LEVEL_S = 0.06  # a hit's level is that of its beginning
_TIMBRE_S = 0.09
_SHORTEST_S = 0.02
_EDGES_HZ = np.geomspace(40, 16_000, 17)  # of the bands by which a hit is told from others of its class
_STRONG_BANDS = {"KD": (0, 3), "SD": (4, 13), "TT": (1, 7), "HH": (13, 16), "CY": (12, 16)}
_STRANGE_DB = 12.0  # a hit this far from the middle of its class is not trusted to be of it
_QUIET_DB = -50.0  # against a hit's own level: here it has died away
_CLEAN_DB = -8.0  # what else rings at an attack may be this loud, and the recording is still taken
_LEAK_DB = -12.0  # a stem this far below the recording, in the strong bands of its class, holds no hit
_SOFTEST_DB = -40.0  # against the loudest of its class: what is softer is a leak, too
_TRUSTED_FAULTS = 0.4  # a hit with so many more faults than the best of its classes is left out
_SWELL_FROM_S = 0.035  # after its attack a drum only falls
_SWELL_DB = 1.0  # how far the level of a ringing drum may rise
_SWELL_WINDOW_S = 0.0232
_SWELL_EDGES_HZ = np.geomspace(80, 16_000, 23)
_FEWEST = 5  # hits of each kind are kept even with so many more faults: strokes that repeat must differ
_BEARABLE_FAULTS = 1.0
_COMPANY_FAULT = 0.5  # of each class that is struck along
_CROSS_FADE_S = 0.008  # from the recording to a stem
_N_SURE = 3  # of the candidates of each set, as many times `per_set` are considered
_N_SPARE = 4  # candidates of each set beyond those that are kept
_NEAR_PIECES = 50  # of half a second of a stem, more than the longest hit needs, are kept, and as many as fit
_NEAR_BYTES = 48 * 2**20
_CUT_BYTES = 64 * 2**20  # of the sounds of hits that may be played


@dataclass(frozen=True, eq=False)
class Hit:
    """The sound of one stroke, or of strokes that fall together."""

    classes: frozenset[str]
    attack: int  # where it is from, in samples of its recording
    level: float  # root mean square of its beginning, all channels
    velocity: float  # as transcribed, of the dominant class
    is_open: bool  # an open hi-hat sounds in it
    faults: float  # how far it is from a clean and typical one, 0 for none: only to rank by

    @property
    def dominant(self) -> str:
        """The class that gives the hit its level."""
        return dominant_class(self.classes)


def dominant_class(classes: Iterable[str]) -> str:
    """Return which of the classes gives a hit its level."""
    return min(classes, key=DOMINANCE.index)


class Bank:
    """Hits, by what sounds in them; their sounds are read when asked for, those used last are kept."""

    def __init__(
        self,
        hits: Sequence[Hit],
        read: Callable[[Hit], Samples],
        *,
        sample_rate: int,
        n_channels: int,
        budget_bytes: int = 64 * 2**20,
    ) -> None:
        """Sort out the hits.

        Args:
            hits: what may be played.
            read: returns a hit's sound, as `sound` describes it.
            sample_rate: of the sounds, in Hz.
            n_channels: of the sounds.
            budget_bytes: how much sound is kept.
        """
        self.sample_rate, self.n_channels = sample_rate, n_channels
        self._read, self._budget_bytes = read, budget_bytes
        self._sounds: OrderedDict[Hit, Samples] = OrderedDict()
        self._held_bytes = 0
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
            per_set: how many hits of the same classes are kept at most.
        """
        cutter = _StemCutter(recording, events, stems) if stems is not None else _Cutter(recording, events)
        # Separated is only what promises best; in order, so that stems are read from beginning to end.
        cuts = [
            cut
            for own in cutter.candidates().values()
            for cut in _spread(own[: _N_SURE * per_set], per_set + _N_SPARE, attrgetter("band_level"))
        ]
        found = [hit for cut in sorted(cuts, key=lambda cut: cut.attack) if (hit := cutter.hit(cut))]
        hits = _worthy(found, per_set)
        cutter.forget_others(hits)
        return cls(
            hits,
            cutter.sound,
            sample_rate=recording.sample_rate,
            n_channels=recording.n_channels,
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
        if hit in self._sounds:
            self._sounds.move_to_end(hit)
            return self._sounds[hit]
        sound = self._read(hit)
        self._sounds[hit] = sound
        self._held_bytes += sound.nbytes
        while self._held_bytes > self._budget_bytes and len(self._sounds) > 1:
            _, dropped = self._sounds.popitem(last=False)
            self._held_bytes -= dropped.nbytes
        return sound


@dataclass(frozen=True, eq=False, kw_only=True)
class _Cut(Hit):
    """A hit with its place in a recording; what is measured later is first guessed from the recording."""

    group: int  # of the strokes that fall together, counted from the first
    band_level: float  # of the recording, in the strong bands of the dominant class
    timbre: NDArray[np.float64]  # levels in dB of the bands, mean removed

    @property
    def key(self) -> tuple[int, frozenset[str]]:
        """What tells it from the other cuts of its recording."""
        return self.group, self.classes


class _Cutter:
    """Cuts plain slices out of a recording: from one attack to the next, each with all that sounds in it."""

    def __init__(self, recording: Recording, events: Sequence[DrumEvent]) -> None:
        self.recording = recording
        self.sample_rate = recording.sample_rate
        self.lead = round(LEAD_S * recording.sample_rate)
        self.groups = groups(events)
        self.attacks = [attack_of(recording, group[0].onset_s) for group in self.groups]
        self._sounds: dict[tuple[int, frozenset[str]], Samples] = {}  # of cuts, until they are first played

    def candidates(self) -> dict[frozenset[str], list[_Cut]]:
        """Return what could be cut, by its classes, what promises to be the cleanest first."""
        found: dict[frozenset[str], list[_Cut]] = {}
        for i in range(len(self.groups)):
            for cut in self._cuts(i):
                found.setdefault(cut.classes, []).append(cut)
        return {classes: sorted(own, key=lambda cut: cut.faults) for classes, own in found.items()}

    def hit(self, cut: _Cut) -> _Cut | None:
        """Return a candidate as it sounds; None where nothing of it is left."""
        return cut

    def sound(self, hit: Hit) -> Samples:
        """Return the sound of a cut as a bank returns it."""
        assert isinstance(hit, _Cut)
        kept = self._sounds.pop(hit.key, None)
        if kept is not None:
            return kept
        sound = without_swells(self._cut_out(hit), self.sample_rate, self.lead)
        if self.lead:
            sound[:, : self.lead] *= np.linspace(0, 1, self.lead, endpoint=False, dtype=np.float32) ** 2
        return sound

    def forget_others(self, hits: Iterable[Hit]) -> None:
        """Keep no sounds but those of some hits."""
        wanted = {hit.key for hit in hits if isinstance(hit, _Cut)}
        self._sounds = {key: sound for key, sound in self._sounds.items() if key in wanted}

    def _cut_out(self, cut: _Cut) -> Samples:
        longest_s = max(LONGEST_S[c] for c in cut.classes)
        stop = min(cut.attack + round(longest_s * self.sample_rate), self._following(cut.group) - self.lead)
        return self._ended(self.recording.read(cut.attack - self.lead, stop), longest_s)

    def _following(self, group: int) -> int:
        """Return the next attack of any class; after the last, what lets a hit reach the recording's end."""
        following = group + 1
        return (
            self.attacks[following] if following < len(self.attacks) else self.recording.n_samples + self.lead
        )

    def _sets(self, group: int) -> list[tuple[frozenset[str], int]]:
        """Return the classes of each hit that a group could give, and where it is cut off at the latest."""
        return [(frozenset(event.drum_class for event in self.groups[group]), self._following(group))]

    def _cuts(self, i: int) -> Iterator[_Cut]:
        """Yield the candidates of a group."""
        attack, group = self.attacks[i], self.groups[i]
        beginning = self.recording.read(attack, attack + round(_TIMBRE_S * self.sample_rate))
        level = _level(beginning, self.sample_rate)
        if level <= 1e-6:
            return
        before = self.recording.read(attack - round(_BEFORE_S * self.sample_rate), attack - self.lead)
        energies = _band_energies(self.recording.mixed(beginning), self.sample_rate)
        for classes, cut_off in self._sets(i):
            length_s = (cut_off - self.lead - attack) / self.sample_rate
            if length_s < _SHORTEST_S:
                continue
            first = next(e for c in DOMINANCE for e in group if e.drum_class == c and c in classes)
            low, high = _STRONG_BANDS[first.drum_class]
            yield _Cut(
                classes=classes,
                attack=attack,
                level=level,
                velocity=first.velocity,
                is_open=any(e.articulation == "open" for e in group if e.drum_class in classes),
                faults=max(0.0, 1 - length_s / _WANTED_S[first.drum_class]) + _ringing_fault(before, level),
                group=i,
                band_level=float(np.sqrt(energies[low:high].sum())),
                timbre=_timbre(energies),
            )

    def _ended(self, sound: Samples, longest_s: float) -> Samples:
        """Return a hit's sound with an end: where it has died away, else with its cut tail drawn out."""
        level = _level(sound[:, self.lead :], self.sample_rate)
        block = max(1, round(0.01 * self.sample_rate))
        n_blocks = sound.shape[1] // block
        energy = (sound[:, : n_blocks * block].reshape(len(sound), n_blocks, block) ** 2).mean(axis=(0, 2))
        loud = np.flatnonzero(energy > level**2 * 10 ** (_QUIET_DB / 10))
        n_loud = int(loud[-1]) + 1 if len(loud) else 0
        if n_loud + 1 < n_blocks:
            sound = sound[:, : (n_loud + 1) * block].copy()
        elif level > 0 and sound.shape[1] < self.lead + round(longest_s * self.sample_rate):
            sound = with_drawn_out_tail(sound, self.sample_rate, level, longest_s)
        else:
            sound = sound.copy()
        fade = min(sound.shape[1] - self.lead, round(FADE_S * self.sample_rate))
        if fade > 0:
            sound[:, -fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        return sound


class _StemCutter(_Cutter):
    """Cuts the strokes of each class out of a recording and its stems, each for itself."""

    def __init__(self, recording: Recording, events: Sequence[DrumEvent], stems: StemReader) -> None:
        super().__init__(recording, events)
        self._stems = _NearStems(stems, max(1, recording.sample_rate // 2))
        # Where each class is struck again after each group.
        self._again: list[dict[str, int]] = []
        later: dict[str, int] = {}
        for group, attack in zip(reversed(self.groups), reversed(self.attacks), strict=True):
            self._again.append(later)
            later = later | {event.drum_class: attack for event in group}
        self._again.reverse()

    def hit(self, cut: _Cut) -> _Cut | None:
        """Return a candidate as it sounds alone; None where the stem holds no stroke."""
        if len(cut.classes) > 1 and not self._holds_all(cut):
            return None
        if len(self._company(cut)):
            cut = replace(cut, attack=self._own_attack(cut))
        sound = self.sound(cut)
        beginning = sound[:, self.lead : self.lead + round(_TIMBRE_S * self.sample_rate)]
        level = _level(beginning, self.sample_rate)
        if level <= 1e-6 or self._is_leak(cut, beginning):
            return None
        before = self._own(cut, cut.attack - round(_BEFORE_S * self.sample_rate), cut.attack - self.lead)
        faults = cut.faults + _ringing_fault(before, level) + _COMPANY_FAULT * len(self._company(cut))
        timbre = _timbre(_band_energies(self.recording.mixed(beginning), self.sample_rate))
        if sum(kept.nbytes for kept in self._sounds.values()) < _CUT_BYTES:
            self._sounds[cut.key] = sound
        return replace(cut, level=level, faults=faults, timbre=timbre)

    def _sets(self, group: int) -> list[tuple[frozenset[str], int]]:
        struck = frozenset(event.drum_class for event in self.groups[group])
        found = [frozenset({c}) for c in CLASSES if c in struck]
        if len(struck) > 1:
            found.append(struck)  # as recorded: better than what is put together again
        return [(classes, self._struck_again(group, classes)) for classes in found]

    def _struck_again(self, group: int, classes: frozenset[str]) -> int:
        """Return the next attack of one of some classes; after the last, what reaches the recording's end."""
        end = self.recording.n_samples + self.lead
        return min(self._again[group].get(c, end) for c in classes)

    def _company(self, cut: _Cut) -> set[str]:
        """Return the other classes that are struck together with a hit."""
        return {event.drum_class for event in self.groups[cut.group]} - cut.classes

    def _own(self, cut: _Cut, start: int, stop: int) -> Samples:
        """Return what a hit's classes sound like between two samples."""
        return np.asarray(self._stems.read(start, stop, sorted(cut.classes)).sum(axis=0))

    def _own_attack(self, cut: _Cut) -> int:
        """Return where a stroke begins that others fall together with."""
        onset_s = next(e.onset_s for e in self.groups[cut.group] if e.drum_class == cut.dominant)
        around, margin = round(onset_s * self.sample_rate), round((REACH_S + 0.01) * self.sample_rate)
        stem = self.recording.mixed(self._own(cut, around - margin, around + margin))
        return max(0, around - margin + locate_attack(stem, self.sample_rate, margin))

    def _holds_all(self, cut: _Cut) -> bool:
        """Tell whether the stem of each class of a hit holds a stroke."""
        stop = cut.attack + round(_TIMBRE_S * self.sample_rate)
        whole = _band_energies(self.recording.mono(cut.attack, stop), self.sample_rate)
        classes = sorted(cut.classes)
        for drum_class, stem in zip(classes, self._stems.read(cut.attack, stop, classes), strict=True):
            strong = slice(*_STRONG_BANDS[drum_class])
            own = _band_energies(self.recording.mixed(stem), self.sample_rate)
            if own[strong].sum() < whole[strong].sum() * 10 ** (_LEAK_DB / 10):
                return False
        return True

    def _is_leak(self, cut: _Cut, beginning: Samples) -> bool:
        low, high = _STRONG_BANDS[cut.dominant]
        energy = float(_band_energies(self.recording.mixed(beginning), self.sample_rate)[low:high].sum())
        return energy < cut.band_level**2 * 10 ** (_LEAK_DB / 10)

    def _cut_out(self, cut: _Cut) -> Samples:
        """Return the recording up to its next stroke, where only the hit is in it, then the stem."""
        longest_s, start = max(LONGEST_S[c] for c in cut.classes), cut.attack - self.lead
        again = self._struck_again(cut.group, cut.classes) - self.lead
        stop = min(cut.attack + round(longest_s * self.sample_rate), again, self.recording.n_samples)
        stop = max(stop, cut.attack + 1)
        until = min(self._clean_until(cut) - start, stop - start)
        sound = self._ended(self._own(cut, start, stop), longest_s)
        if until > 0:
            whole = np.zeros((len(sound), max(until, sound.shape[1])), dtype=np.float32)
            whole[:, : sound.shape[1]] = sound
            share = np.ones(until, dtype=np.float32)
            fade = min(until, round(_CROSS_FADE_S * self.sample_rate))
            share[until - fade :] = np.linspace(1, 0, fade, dtype=np.float32)
            whole[:, :until] += share * (self.recording.read(start, start + until) - whole[:, :until])
            sound = whole
        return sound

    def _clean_until(self, cut: _Cut) -> int:
        """Return up to where the recording holds a hit and nothing else; its start if it never does."""
        start, following = cut.attack - self.lead, self._following(cut.group) - self.lead
        if self._company(cut):
            return start
        if self._is_leak(cut, self._own(cut, cut.attack, cut.attack + round(_TIMBRE_S * self.sample_rate))):
            return following  # where separator and transcriber disagree, all that sounds is the hit
        n_before = round(_BEFORE_S * self.sample_rate)
        before = self.recording.read(start - n_before, start) - self._own(cut, start - n_before, start)
        beginning = self.recording.read(cut.attack, cut.attack + round(_LEVEL_S * self.sample_rate))
        # The differences hear a hat that rings into a kick.
        for rings, hit in ((before, beginning), (np.diff(before), np.diff(beginning))):
            if _rms(rings) > 10 ** (_CLEAN_DB / 20) * _rms(hit):
                return start
        return following


class _NearStems:
    """Stems that are read in pieces of half a second, the last ones kept: hits overlap."""

    def __init__(self, stems: StemReader, piece_samples: int) -> None:
        self._stems, self._piece = stems, piece_samples
        self._kept: OrderedDict[tuple[int, str], Samples] = OrderedDict()  # (C, T)

    def read(self, start: int, stop: int, classes: Sequence[str]) -> Samples:
        """Return stems of samples [start, stop), shape (N, C, stop - start)."""
        parts = []
        for number in range(start // self._piece, max(start, stop - 1) // self._piece + 1):
            begin = number * self._piece
            part = slice(max(0, start - begin), stop - begin)
            parts.append(np.stack([stem[:, part] for stem in self._pieces(number, classes)]))
        return np.concatenate(parts, axis=-1) if len(parts) > 1 else parts[0]

    def _pieces(self, number: int, classes: Sequence[str]) -> list[Samples]:
        missing = [c for c in classes if (number, c) not in self._kept]
        if missing:
            begin = number * self._piece
            read = self._stems.read(begin, begin + self._piece, missing)
            self._kept.update(((number, c), stem.copy()) for c, stem in zip(missing, read, strict=True))
        for c in classes:
            self._kept.move_to_end((number, c))
        found = [self._kept[number, c] for c in classes]
        while len(self._kept) > max(_NEAR_PIECES, _NEAR_BYTES // found[0].nbytes):
            self._kept.popitem(last=False)
        return found


def _full_levels(hits: Sequence[Hit]) -> dict[str, float]:
    """Return the level that a stroke of velocity 1 would have, by the velocities that the hits were heard with.

    It is that of the hits of the class alone where there are some.
    """
    levels = {}
    for drum_class in CLASSES:
        own = [h for h in hits if h.classes == {drum_class}] or [h for h in hits if h.dominant == drum_class]
        if own:
            levels[drum_class] = float(np.median([h.level / h.velocity**LEVEL_EXPONENT for h in own]))
    return levels


def _worthy(cuts: Sequence[_Cut], per_set: int) -> list[Hit]:
    """Return the cuts to keep: clean, typical of those of their classes, and of all levels."""
    by_set: dict[frozenset[str], list[_Cut]] = {}
    for cut in cuts:
        by_set.setdefault(cut.classes, []).append(cut)
    kept: list[Hit] = []
    for members in by_set.values():
        softest = max(cut.level for cut in members) * 10 ** (_SOFTEST_DB / 20)
        own = [cut for cut in members if cut.level >= softest]
        middle = np.median([cut.timbre for cut in own], axis=0)
        judged = [
            replace(cut, faults=cut.faults + float(np.mean(np.abs(cut.timbre - middle))) / _STRANGE_DB)
            for cut in own
        ]
        judged.sort(key=lambda cut: cut.faults)
        kept += _spread(
            [
                cut
                for rank, cut in enumerate(judged)
                if cut.faults <= judged[0].faults + (_BEARABLE_FAULTS if rank < _FEWEST else _TRUSTED_FAULTS)
            ],
            per_set,
            attrgetter("level"),
        )
    return kept


def _spread(cuts: Sequence[_Cut], n: int, level: Callable[[_Cut], float]) -> list[_Cut]:
    """Return at most `n` of the cuts, evenly over their levels, the cleanest (first) always among them."""
    by_level = sorted(cuts, key=level)
    if len(cuts) <= n:
        return by_level
    chosen = sorted({round(i * (len(by_level) - 1) / max(1, n - 2)) for i in range(n - 1)})
    kept = [by_level[i] for i in chosen]
    return kept if cuts[0] in kept else [*kept, cuts[0]]


def _ringing_fault(before: Samples, level: float) -> float:
    """Return how much it matters what rings into a hit: 0 below -30 dB, 1 at -10 dB."""
    ringing_db = 20 * np.log10(_rms(before) / level + 1e-9)
    return float(np.clip((ringing_db + 30) / 20, 0.0, 2.0))


def _level(sound: Samples, sample_rate: int) -> float:
    """Return the root mean square of a hit's beginning."""
    return _rms(sound[:, : round(_LEVEL_S * sample_rate)])


def _rms(sound: Samples) -> float:
    return float(np.sqrt(np.mean(sound**2))) if sound.size else 0.0


def _band_energies(mono: Samples, sample_rate: int) -> NDArray[np.float64]:
    """Return the energies of a hit's beginning (T,) in bands of half an octave."""
    window, first, bands = _bands_of(len(mono), sample_rate)
    power = np.abs(np.fft.rfft(mono * window)) ** 2 / max(1, len(mono))
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


def without_swells(sound: Samples, sample_rate: int, attack: int) -> Samples:
    """Return a hit that, once it has begun, grows louder again in no band: what does is another drum.

    It leaks into the stem, or the transcription has missed it. Up to its attack's end the sound is as it was.

    Args:
        sound: shape (C, T).
        sample_rate: in Hz.
        attack: where the hit begins, in samples.
    """
    size = 1 << round(np.log2(_SWELL_WINDOW_S * sample_rate))
    hop = size // 4
    n_frames = -(-sound.shape[1] // hop) + 3
    # Frame k has its middle at sample (k - 1) * hop.
    first = -(-(attack + round(_SWELL_FROM_S * sample_rate)) // hop) + 2
    if first + 1 >= n_frames:
        return sound
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    padded = np.pad(sound, ((0, 0), (3 * hop, n_frames * hop - sound.shape[1])))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, ::hop][:, :n_frames]
    spectra = np.fft.rfft(frames * window)
    band, starts = _swell_bands(size, sample_rate)
    power = np.square(np.abs(spectra)).mean(axis=0)
    level = np.pad(np.add.reduceat(power, starts, axis=1), ((1, 1), (0, 0)), mode="edge") + 1e-14
    level = 0.25 * level[:-2] + 0.5 * level[1:-1] + 0.25 * level[2:]
    gain = np.ones_like(level)
    allowed = np.minimum.accumulate(level[first:]) * 10 ** (_SWELL_DB / 10)
    gain[first:] = np.sqrt(np.minimum(1.0, allowed / level[first:]))
    lost = np.fft.irfft(spectra * (1 - gain[:, band])).astype(np.float32) * (window / 1.5)
    swells = np.zeros_like(padded)
    for k in range(4):  # frames that do not overlap
        own = lost[:, k::4].reshape(len(sound), -1)
        swells[:, k * hop : k * hop + own.shape[1]] += own
    return sound - swells[:, 3 * hop :][:, : sound.shape[1]]


@lru_cache(maxsize=8)
def _swell_bands(size: int, sample_rate: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the band of each bin of a spectrum, and the bins at which bands begin; none is empty."""
    hz = np.arange(size // 2 + 1) * sample_rate / size
    band = np.unique(np.searchsorted(_SWELL_EDGES_HZ, hz, side="right"), return_inverse=True)[1]
    return band, np.flatnonzero(np.diff(band, prepend=-1))


def with_drawn_out_tail(sound: Samples, sample_rate: int, level: float, longest_s: float) -> Samples:
    """Return a hit that was cut in mid-ring, going on as it rang: its end to and fro under its decay.

    The decay is that measured over the end of the hit, at least 60 dB a second, so that nothing stands still.

    Args:
        sound: shape (C, T).
        sample_rate: in Hz.
        level: the hit's own level; what is 50 dB below it counts as gone.
        longest_s: the most that the whole may last.
    """
    length = sound.shape[1]
    grain = min(round(0.08 * sample_rate), length // 3)
    if grain < round(0.008 * sample_rate):
        return sound
    end, before = sound[:, -grain:], sound[:, -2 * grain : -grain]
    end_level, before_level = (float(np.sqrt(np.mean(part**2))) for part in (end, before))
    if end_level < level * 10 ** (_QUIET_DB / 20):
        return sound
    grain_s = grain / sample_rate
    measured = 20 * np.log10(max(before_level, 1e-9) / max(end_level, 1e-9)) / grain_s
    decay_db_s = float(np.clip(measured, 60.0, 600.0))
    left_s = (20 * np.log10(end_level / level) - _QUIET_DB) / decay_db_s
    extra = min(round(left_s * sample_rate), round(longest_s * sample_rate) - length)
    if extra <= 0:
        return sound
    time_s = np.arange(grain, dtype=np.float32) / sample_rate
    # Flattened, so that the mirror image does not swell.
    flat = end * 10 ** (min(measured, decay_db_s) * (time_s - grain_s) / 20)
    to_and_fro = np.concatenate((flat[:, ::-1], flat), axis=1)
    repeated = np.tile(to_and_fro, (1, extra // (2 * grain) + 1))[:, :extra]
    tail = repeated * 10 ** (-decay_db_s * np.arange(extra) / sample_rate / 20)
    return np.concatenate((sound, tail.astype(np.float32)), axis=1)
