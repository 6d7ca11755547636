"""The hits of a recording: where each begins to the sample, what sounds in it, how loud it is.

A hit runs from its attack to the next onset of the recording. Strokes that fall together are one hit of several
classes. Hits are not held in memory: they are read from the recording when they are played.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from transform.audio import Recording, Samples
from transform.events import CLASSES, DrumEvent

TOGETHER_S = 0.025  # strokes of one recording closer than this are one hit
LEAD_S = 0.002  # kept before the attack, faded in
FADE_S = 0.006  # at the end of a hit that is cut by the next
_WANTED_S = {"KD": 0.25, "SD": 0.25, "TT": 0.35, "HH": 0.12, "CY": 0.35}  # a shorter hit lacks something
LONGEST_S = {"KD": 1.0, "SD": 1.2, "TT": 1.5, "HH": 1.5, "CY": 3.0}
# Of strokes that fall together, which one a listener takes the level from.
DOMINANCE = ("KD", "SD", "TT", "CY", "HH")

_REACH_S = 0.006  # how far from a transcribed onset its attack is sought; 9 of 10 are within 3 ms
_LEVEL_S = 0.06  # a hit's level is that of its beginning
_TIMBRE_S = 0.09
_N_BANDS = 16  # of the spectrum by which a hit is told from others of its class
_STRANGE_DB = 12.0  # a hit this far from the middle of its class is not trusted to be of it
_QUIET_DB = -50.0  # against a hit's own level: here it has died away


@dataclass(frozen=True)
class Hit:
    """A stretch of a recording that sounds like one stroke, or like strokes that fall together; in samples."""

    classes: frozenset[str]
    attack: int
    stop: int
    level: float  # root mean square of its beginning, all channels
    lead_db: float  # what rings on from before, against the hit: -inf for silence
    velocity: float  # as transcribed, of the dominant class
    is_open: bool  # an open hi-hat sounds in it
    is_cut: bool  # the next onset, or the recording's end, came before its longest time
    timbre: NDArray[np.float64] = field(
        compare=False, repr=False
    )  # levels in dB of `_N_BANDS` bands, mean removed

    @property
    def dominant(self) -> str:
        """The class that gives the hit its level."""
        return dominant_class(self.classes)

    def faults(self, sample_rate: int) -> float:
        """Return how far the hit is from a clean one, 0 for a long hit out of silence: only to rank by."""
        wanted_s = _WANTED_S[self.dominant]
        shortness = max(0.0, 1 - (self.stop - self.attack) / sample_rate / wanted_s)
        ringing = min(2.0, max(0.0, (self.lead_db + 30) / 20))
        return shortness + ringing


def dominant_class(classes: Sequence[str] | frozenset[str]) -> str:
    """Return which of the classes gives a hit its level."""
    return next(c for c in DOMINANCE if c in classes)


def groups(events: Sequence[DrumEvent], together_s: float = TOGETHER_S) -> list[list[DrumEvent]]:
    """Return the events in order, those within `together_s` of a group's first in one list."""
    out: list[list[DrumEvent]] = []
    for event in sorted(events, key=lambda e: e.onset_s):
        if out and event.onset_s - out[-1][0].onset_s <= together_s:
            out[-1].append(event)
        else:
            out.append([event])
    return out


def locate_attack(sound: Samples, sample_rate: int, around: int) -> int:
    """Return the sample at which the attack nearest to `around` begins.

    Near `around` the level over the 4 ms after a sample is compared with the 4 ms before it, for the sound and
    for its first difference (which hears a hat through a ringing kick); where the ratio is largest, the attack
    is the first sample that rises clearly above what came before.

    Args:
        sound: mono samples, shape (T,).
        sample_rate: in Hz.
        around: the sample where an onset was transcribed.
    """
    span = max(2, round(0.004 * sample_rate))
    reach = round(_REACH_S * sample_rate)
    first, last = max(0, around - reach), min(len(sound) - 1, around + reach)
    if first >= last:
        return int(np.clip(around, 0, max(0, len(sound) - 1)))
    base = first - 2 * span
    part = np.zeros(last + 2 * span - base, dtype=np.float64)
    source = sound[max(0, base) : last + 2 * span]
    part[max(0, -base) : max(0, -base) + len(source)] = source
    if not part.any():
        return int(np.clip(around, first, last))
    difference = np.diff(part, prepend=part[0])
    positions = np.arange(first, last + 1) - base
    rise = np.zeros(len(positions))
    for signal in (part, difference):
        energy = np.concatenate(([0.0], np.cumsum(signal**2)))
        after = energy[positions + span] - energy[positions]
        before = energy[positions] - energy[positions - span]
        floor = 1e-3 * after.max() + 1e-12
        rise += np.log((after + floor) / (before + floor))
    # Of equal rises the one nearest to the transcribed onset is meant.
    rise -= 0.5 * ((positions + base - around) / reach) ** 2
    peak = int(positions[np.argmax(rise)])
    loud = np.abs(difference)
    before = loud[peak - span : peak - span // 2].max(initial=0.0)
    ahead = loud[peak - span // 2 : peak + span]
    threshold = max(2.0 * before, 0.1 * ahead.max(initial=0.0))
    above = np.flatnonzero(ahead > threshold) if threshold < ahead.max(initial=0.0) else np.zeros(0)
    return base + (peak - span // 2 + int(above[0]) if len(above) else peak)


def refine_onsets(recording: Recording, events: Sequence[DrumEvent]) -> list[DrumEvent]:
    """Return the events moved to the attacks that are heard, those that share an attack together."""
    moved: list[DrumEvent] = []
    for group in groups(events, _REACH_S):
        attack_s = _attack_of(recording, group[0].onset_s) / recording.sample_rate
        moved.extend(replace(event, onset_s=attack_s) for event in group)
    return sorted(moved, key=lambda event: event.onset_s)


def _attack_of(recording: Recording, onset_s: float) -> int:
    sample_rate = recording.sample_rate
    around = round(onset_s * sample_rate)
    margin = round((_REACH_S + 0.01) * sample_rate)
    start = max(0, around - margin)
    mono = recording.read(start, min(recording.n_samples, around + margin)).mean(axis=0)
    return start + locate_attack(mono, sample_rate, around - start)


def _timbre(sound: Samples, sample_rate: int) -> NDArray[np.float64]:
    """Return the levels of a hit in bands of a third of an octave to an octave, in dB against their mean."""
    mono = sound.mean(axis=0)
    power = np.abs(np.fft.rfft(mono * np.hanning(2 * len(mono))[len(mono) :])) ** 2
    hz = np.fft.rfftfreq(len(mono), 1 / sample_rate)
    edges = np.geomspace(40, 16_000, _N_BANDS + 1)
    band = np.searchsorted(edges, hz) - 1
    inside = (band >= 0) & (band < _N_BANDS)
    energy = np.bincount(band[inside], weights=power[inside], minlength=_N_BANDS)
    levels_db = 10 * np.log10(energy + 1e-6 * energy.max() + 1e-12)
    return np.asarray(levels_db - levels_db.mean(), dtype=np.float64)


def find_hits(recording: Recording, events: Sequence[DrumEvent]) -> list[Hit]:
    """Return the hits of a recording, in order.

    Args:
        recording: the recording.
        events: its transcription.
    """
    sample_rate = recording.sample_rate
    found = groups(events)
    attacks = [_attack_of(recording, group[0].onset_s) for group in found]
    lead, window = round(LEAD_S * sample_rate), round(_LEVEL_S * sample_rate)
    hits = []
    for i, (group, attack) in enumerate(zip(found, attacks, strict=True)):
        classes = frozenset(event.drum_class for event in group)
        longest = attack + round(max(LONGEST_S[c] for c in classes) * sample_rate)
        following = attacks[i + 1] - lead if i + 1 < len(attacks) else recording.n_samples
        stop = min(longest, following, recording.n_samples)
        if stop - attack < round(0.02 * sample_rate):
            continue
        beginning = recording.read(attack, min(stop, attack + round(_TIMBRE_S * sample_rate)))
        level = float(np.sqrt(np.mean(beginning[:, :window] ** 2)))
        if level <= 1e-6:
            continue
        before = recording.read(attack - round(0.02 * sample_rate), attack - lead)
        lead_level = float(np.sqrt(np.mean(before**2))) if before.size else 0.0
        strongest = next(e for c in DOMINANCE for e in group if e.drum_class == c)
        hits.append(
            Hit(
                classes=classes,
                attack=attack,
                stop=stop,
                level=level,
                lead_db=20 * float(np.log10(max(lead_level, 1e-9) / level)),
                velocity=strongest.velocity,
                is_open=any(e.articulation == "open" for e in group),
                is_cut=following < longest,
                timbre=_timbre(beginning, sample_rate),
            )
        )
    return hits


class Bank:
    """The hits of a recording that are worth playing, by what sounds in them; read when asked for."""

    def __init__(self, recording: Recording, hits: Sequence[Hit], *, per_set: int = 12) -> None:
        self._recording = recording
        self._sounds: OrderedDict[Hit, Samples] = OrderedDict()
        self._held_bytes = 0
        self.sample_rate = recording.sample_rate
        self.sets: dict[frozenset[str], tuple[Hit, ...]] = {}
        by_set: dict[frozenset[str], list[Hit]] = {}
        for hit in hits:
            by_set.setdefault(hit.classes, []).append(hit)
        self._faults: dict[Hit, float] = {}
        for classes, members in by_set.items():
            middle = np.median([hit.timbre for hit in members], axis=0)
            for hit in members:
                strangeness = float(np.mean(np.abs(hit.timbre - middle))) / _STRANGE_DB
                self._faults[hit] = hit.faults(self.sample_rate) + strangeness
            ranked = sorted(members, key=self._faults.__getitem__)
            good = [hit for hit in ranked if self._faults[hit] <= self._faults[ranked[0]] + 0.4]
            self.sets[classes] = tuple(_spread(good, per_set))
        # The level of a full stroke of each class: most hits of a class are not accents, few are louder.
        self.full_level = {
            c: float(np.quantile(levels, 0.9))
            for c in CLASSES
            if (levels := [hit.level for hit in hits if hit.dominant == c])
        }

    @property
    def classes(self) -> frozenset[str]:
        """The classes that some hit holds."""
        return frozenset().union(*self.sets) if self.sets else frozenset()

    def faults(self, classes: frozenset[str]) -> float:
        """Return the faults of the best hit of a set: how clean it is, and how typical of those like it."""
        return min(self._faults[hit] for hit in self.sets[classes])

    def sound(self, hit: Hit, budget_bytes: int = 64 * 2**20) -> Samples:
        """Return a hit's sound, shape (C, T), with its lead, faded at both ends, its cut tail drawn out.

        The attack is at sample `round(LEAD_S * sample_rate)`. Sounds used last are kept, up to `budget_bytes`.
        """
        if hit in self._sounds:
            self._sounds.move_to_end(hit)
            return self._sounds[hit]
        sound = self._read(hit)
        self._sounds[hit] = sound
        self._held_bytes += sound.nbytes
        while self._held_bytes > budget_bytes and len(self._sounds) > 1:
            _, dropped = self._sounds.popitem(last=False)
            self._held_bytes -= dropped.nbytes
        return sound

    def _read(self, hit: Hit) -> Samples:
        lead = round(LEAD_S * self.sample_rate)
        sound = self._recording.read(hit.attack - lead, hit.stop)
        if lead:
            sound[:, :lead] *= np.linspace(0, 1, lead, endpoint=False, dtype=np.float32) ** 2
        if hit.is_cut:
            longest = max(LONGEST_S[c] for c in hit.classes)
            sound = with_drawn_out_tail(sound, self.sample_rate, hit.level, longest)
        fade = min(sound.shape[1] - lead, round(FADE_S * self.sample_rate))
        if fade > 0:
            sound[:, -fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
        return sound


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


def _spread(hits: Sequence[Hit], n: int) -> list[Hit]:
    """Return at most `n` of the hits, evenly over their levels, the cleanest (first) always among them."""
    if len(hits) <= n:
        return sorted(hits, key=lambda hit: hit.level)
    by_level = sorted(hits, key=lambda hit: hit.level)
    chosen = {round(i * (len(by_level) - 1) / (n - 2)) for i in range(n - 1)}
    kept = [by_level[i] for i in sorted(chosen)]
    return kept if hits[0] in kept else sorted([*kept, hits[0]], key=lambda hit: hit.level)
