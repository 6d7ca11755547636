"""The `resequence` engine: a source's own hits replayed at a rhythm's events.

Strokes that coincide are played by the hits, one to three or one a class, that hold all their classes and as
little else as possible: often by one hit in which the same classes coincide in the source, where there is a
clean one, else by hits of single classes. Hits keep the source's rate and channels; attacks land on the sample.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from transform.bank import Bank
from transform.events import CLASS_NAMES, CLASSES, TOM_HEIGHTS, DrumEvent, nearest_class
from transform.hits import LEAD_S, LONGEST_S, Hit, dominant_class
from transform.onsets import groups
from transform.signal import BlockCache, Samples
from transform.toms import by_rank, tuned, tunings
from transform.velocity import LEVEL_EXPONENT

PLAYED_TOGETHER_S = 0.006  # events of a rhythm closer than this may be played by one hit
_GAIN_DB = (-24.0, 9.0)  # the most that a hit is turned down or up to match a velocity

# What it costs that a hit also holds a class that the rhythm does not request; requested and missing costs 10.
_EXTRA_COST = {"KD": 3.0, "SD": 4.0, "TT": 3.0, "HH": 1.2, "CY": 2.5}
_DOUBLE_COST = 1.5  # of a class that two hits hold
_UNEVEN_COST = 6.0  # of a hit whose classes shall be turned up or down by different gains
_CHOKE_S = 0.012
_TUNED_BYTES = 16 * 2**20
# Where the articulations of a class stand: the further apart two are, the less the one passes for the other.
# A snare stroke of no name is a full one; else what is not known may be any.
_PLACES: Mapping[str, Mapping[str, float]] = {
    "SD": {"sidestick": 0.0, "": 1.5, "rim": 1.7, "brush": 1.9, "clap": 2.1},
    "TT": {height: 3.0 * i for i, height in enumerate(TOM_HEIGHTS)},
    "HH": {"pedal": -0.3, "closed": 0.0, "open": 1.5},
    "CY": {"bell": -0.3, "ride": 0.0, "crash": 1.5, "splash": 1.8, "china": 1.9},
}
_ANY_TOM_COST = 1.0  # of a tom that may be any, where a certain one is requested
_WRONG_TOM_COST = 2.0  # of a hit that holds another tom with other drums, or one that shall be tuned
_NO_FLAM_COST = 3.0  # of a stroke where a flam is requested
_FLAM_COST = 0.7  # of a flam where a stroke is: some drums are recorded in no other way


@dataclass(frozen=True)
class Placement:
    """A hit at its place in the take; `stop` cuts its sound short where another stroke chokes it."""

    attack: int  # sample of the take
    hit: Hit
    gain: float
    stop: int | None = None
    fade_s: float = _CHOKE_S
    semitones: float = 0.0  # by which it is tuned


def stand_ins(available: Collection[str], events: Iterable[DrumEvent]) -> dict[str, str]:
    """Return which of a source's classes plays each class of the events: itself, or the nearest it has."""
    requested = {event.drum_class for event in events}
    played = {c: nearest_class(c, available) for c in CLASSES if c in requested}
    return {c: used for c, used in played.items() if used is not None}


def stand_in_notes(chosen: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for each class that another one plays."""
    return tuple(
        f"the source has no {CLASS_NAMES[missing]}: its {CLASS_NAMES[used]} plays that part"
        for missing, used in chosen.items()
        if missing != used
    )


def together_notes(bank: Bank) -> list[str]:
    """Return a sentence for each class that sounds in no hit alone, so that it has no output of its own."""
    return [
        f"the {CLASS_NAMES[c]} sounds in no hit alone: it is in the output of the drum that it sounds with"
        for c in CLASSES
        if c in bank.classes and frozenset({c}) not in bank.sets
    ]


def arrange(
    bank: Bank,
    events: Sequence[DrumEvent],
    *,
    velocity: str = "rhythm",
    gain_db: Mapping[str, float] | None = None,
    seed: int = 0,
    tunes_toms: bool = False,
) -> list[Placement]:
    """Return where each hit plays, sorted by attack.

    Args:
        bank: the source's hits.
        events: what is to be played, in seconds of the take.
        velocity: "rhythm": hits are chosen and turned up or down to match the events' velocities; "source":
            hits keep their own level.
        gain_db: an extra gain by class.
        seed: of the round robin among hits that would do equally well.
        tunes_toms: a single tom is tuned to play the rhythm's several.
    """
    chosen = stand_ins(bank.classes, events)
    scale = velocity_scale(events, [hit.velocity for hits in bank.sets.values() for hit in hits])
    arranger = _Arranger(bank, gain_db or {}, np.random.default_rng(seed))
    arranger.take_toms(events, tunes=tunes_toms)
    placements = []
    for group in groups(_struck(bank, events, chosen), PLAYED_TOGETHER_S):
        parts: dict[str, DrumEvent] = {}
        for event in group:
            used = chosen.get(event.drum_class)
            if used is not None and (used not in parts or parts[used].velocity < event.velocity):
                parts[used] = event
        if not parts:
            continue
        requested = {used: arranger.requested(used, event) for used, event in parts.items()}
        for classes in arranger.cover(frozenset(parts), requested.get("TT", "")):
            lead_class = dominant_class(classes & frozenset(parts))
            event = parts[lead_class]
            target = event.velocity * scale if velocity == "rhythm" else None
            hit, gain = arranger.choose(
                classes, target, requested, is_flam=any(parts[c].flam_ms > 0 for c in classes & parts.keys())
            )
            gain *= 10 ** ((gain_db or {}).get(event.drum_class, 0.0) / 20)
            attack = round(event.onset_s * bank.sample_rate)
            semitones = arranger.tunings.get(event.articulation, 0.0) if classes == {"TT"} else 0.0
            placements.append(Placement(attack, hit, gain, semitones=semitones))
    return _choked(sorted(placements, key=lambda p: p.attack), bank.sample_rate)


def _struck(bank: Bank, events: Iterable[DrumEvent], chosen: Mapping[str, str]) -> list[DrumEvent]:
    """Return the events, flams as two strokes where the bank has none of their class."""
    flams = {
        hit.dominant for hits in bank.sets.values() for hit in hits if hit.flam_ms and len(hit.classes) == 1
    }
    struck: list[DrumEvent] = []
    for event in events:
        struck += [event] if chosen.get(event.drum_class) in flams else event.strokes
    return struck


class _Arranger:
    """Chooses hits, in round robin among those alike so that repeated strokes differ."""

    def __init__(self, bank: Bank, gain_db: Mapping[str, float], rng: np.random.Generator) -> None:
        self._bank = bank
        self._gain_db = gain_db
        self._covers: dict[tuple[frozenset[str], str], tuple[frozenset[str], ...]] = {}
        self._last_played: dict[Hit, int] = {}
        self._n_played = 0
        self._has_two_attacks = {classes for classes, hits in bank.sets.items() if _has_two_attacks(hits)}
        self._tie_break = {hit: float(rng.random()) for hits in bank.sets.values() for hit in hits}
        self._faults = {classes: bank.faults(classes) for classes in bank.sets}
        self._toms: Mapping[str, str] = {}  # of the source, by what the rhythm asks for
        self.tunings: Mapping[str, float] = {}  # in semitones, by what the rhythm asks for

    def take_toms(self, events: Iterable[DrumEvent], *, tunes: bool) -> None:
        """Decide which of the source's toms, or which tuning of its only one, plays each tom of a rhythm."""
        theirs = {event.articulation for event in events if event.drum_class == "TT"}
        ours = {hit.articulation("TT") for hits in self._bank.sets.values() for hit in hits} - {""}
        self._toms = by_rank(theirs, ours) if len(ours) > 1 else {}
        self.tunings = tunings(theirs) if tunes and len(ours) <= 1 else {}

    def requested(self, drum_class: str, event: DrumEvent) -> str:
        """Return the articulation in which a class plays an event, "" where any will do."""
        if event.drum_class != drum_class:
            return "closed" if drum_class == "HH" else ""  # a hat that stands in for another drum
        return self._toms.get(event.articulation, "") if drum_class == "TT" else event.articulation

    def cover(self, target: frozenset[str], tom: str = "") -> tuple[frozenset[str], ...]:
        """Return the sets of classes, each a kind of hit in the bank, that play the target classes best.

        Args:
            target: classes.
            tom: the articulation in which the bank's tom is requested, if it is.
        """
        if (target, tom) not in self._covers:
            useful = [classes for classes in self._bank.sets if classes & target]
            options = [option for n in range(1, min(3, len(target)) + 1) for option in combinations(useful, n)]
            options.append(tuple(classes for classes in useful if len(classes) == 1))
            self._covers[target, tom] = min(options, key=lambda option: self._cost(option, target, tom))
        return self._covers[target, tom]

    def _cost(self, option: tuple[frozenset[str], ...], target: frozenset[str], tom: str) -> float:
        sounding = [c for classes in option for c in classes]
        cost = 10.0 * len(target - set(sounding))
        cost += sum(_EXTRA_COST[c] for c in set(sounding) - target)
        cost += _DOUBLE_COST * (len(sounding) - len(set(sounding)))
        uneven = [classes for classes in option if len({self._gain_db.get(c, 0.0) for c in classes}) > 1]
        cost += _UNEVEN_COST * len(uneven)
        cost += _WRONG_TOM_COST * sum(self._lacks_tom(classes, tom) for classes in option)
        return cost + sum(self._faults[classes] for classes in option)

    def _lacks_tom(self, classes: frozenset[str], tom: str) -> bool:
        """Tell whether a tom sounds in all hits of a set, but not the one that is requested."""
        if "TT" not in classes:
            return False
        if self.tunings:
            return len(classes) > 1
        return bool(tom) and all(hit.articulation("TT") not in (tom, "") for hit in self._bank.sets[classes])

    def choose(
        self,
        classes: frozenset[str],
        target: float | None,
        requested: Mapping[str, str],
        *,
        is_flam: bool = False,
    ) -> tuple[Hit, float]:
        """Return a hit of a set and its gain.

        Args:
            classes: the set.
            target: the velocity to match, None for the hit's own level.
            requested: the articulation in which each class is requested.
            is_flam: whether a flam is requested.
        """
        full_level = self._bank.full_level[dominant_class(classes)]

        def unlikeness(hit: Hit) -> float:
            distance = 0.0
            if target is not None:
                distance = abs(math.log2(max(hit.level / full_level, 1e-4) ** (1 / LEVEL_EXPONENT) / target))
            for drum_class in (c for c in requested if c in hit.classes):
                distance += _articulation_cost(drum_class, requested[drum_class], hit.articulation(drum_class))
            if is_flam and not hit.flam_ms:
                distance += _NO_FLAM_COST
            elif hit.flam_ms and not is_flam and classes not in self._has_two_attacks:
                distance += _FLAM_COST
            # Round robin: a hit that was just played comes again after the others like it.
            since = self._n_played - self._last_played.get(hit, -100)
            return distance + 0.35 / (1 + since) + 0.02 * self._tie_break[hit]

        hit = min(self._bank.sets[classes], key=unlikeness)
        self._last_played[hit] = self._n_played
        self._n_played += 1
        if target is None:
            return hit, 1.0
        gain_db = 20 * math.log10(full_level * target**LEVEL_EXPONENT / hit.level)
        return hit, 10 ** (float(np.clip(gain_db, *_GAIN_DB)) / 20)


def _has_two_attacks(hits: Sequence[Hit]) -> bool:
    """Tell whether most strong hits, within 6 dB of the strongest, are flams: that is how the drum sounds."""
    strong = [hit for hit in hits if hit.level >= 0.5 * max(other.level for other in hits)]
    return 2 * sum(hit.flam_ms > 0 for hit in strong) > len(strong)


def _articulation_cost(drum_class: str, requested: str, found: str) -> float:
    """Return what it costs that a class is played in another articulation than is requested."""
    places = _PLACES.get(drum_class, {})
    if requested in places and found in places:
        return abs(places[requested] - places[found])
    return _ANY_TOM_COST if drum_class == "TT" and requested else 0.0


def velocity_scale(events: Sequence[DrumEvent], velocities: Sequence[float]) -> float:
    """Return the factor that makes the rhythm's strong strokes as strong as the source's, at most doubling."""
    if not events:
        return 1.0
    strong = float(np.quantile([event.velocity for event in events], 0.9))
    own = float(np.quantile(velocities, 0.9))
    return own / max(strong, 0.5 * own)


def _choked(placements: list[Placement], sample_rate: int, period: int | None = None) -> list[Placement]:
    """Return the placements, hits stopped where a later stroke of their drum chokes them.

    A closed hat chokes an open one, as a pedal does; kick, snare, tom and hat end when struck again, each tom
    by itself. In a loop of `period` samples that may be in its next turn.
    """
    out = []
    next_turn = [replace(p, attack=p.attack + period) for p in placements] if period else []
    following = [*placements, *next_turn]
    for i, placement in enumerate(placements):
        hit = placement.hit
        longest = max(LONGEST_S[c] for c in hit.classes) * sample_rate
        stop, fade_s = None, _CHOKE_S
        for j in range(i + 1, len(following)):
            later = following[j]
            if later.attack - placement.attack > longest:
                break
            if later.attack <= placement.attack:
                continue
            if "CY" not in hit.classes and hit.classes <= later.hit.classes and _is_same_tom(placement, later):
                stop = later.attack
                fade_s = _CHOKE_S if hit.classes == {"HH"} else 0.04
                break
        out.append(replace(placement, stop=stop, fade_s=fade_s))
    return out


def _is_same_tom(placement: Placement, later: Placement) -> bool:
    """Tell whether a later stroke may be of the tom that an earlier one is of; true where there is no tom."""
    heights = [p.hit.articulation("TT") for p in (placement, later)]
    return placement.semitones == later.semitones and ("" in heights or heights[0] == heights[1])


class Arrangement:
    """The signal of placements."""

    def __init__(self, bank: Bank, placements: Sequence[Placement], *, period: int | None = None) -> None:
        """Sort out the placements.

        Args:
            bank: where the hits are.
            placements: what plays, sorted by attack.
            period: what rings past this sample goes on at sample 0 (a loop without a seam); None for no loop.
        """
        self._bank, self._period = bank, period
        self.sample_rate, self.n_channels = bank.sample_rate, bank.n_channels
        self._placements = list(placements)
        if period is not None:
            self._placements = _choked(self._placements, bank.sample_rate, period)
        self._attacks = [p.attack for p in self._placements]
        self._lead = round(LEAD_S * bank.sample_rate)
        self._tuned: BlockCache[tuple[Hit, float], Samples] = BlockCache(n_bytes=_TUNED_BYTES)
        self._longest = round((max(LONGEST_S.values()) + LEAD_S) * bank.sample_rate) + 1

    @property
    def n_samples(self) -> int:
        """Where the last sound has ended, also of a loop; 0 where nothing plays."""
        if not self._placements:
            return 0
        tail = self._placements[bisect_left(self._attacks, self._attacks[-1] - self._longest) :]
        return max(p.attack + self._length(p) - self._lead for p in tail)

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop), shape (C, stop - start)."""
        whole: Samples = self._read(start, stop, 1)[0]
        return whole

    def read_classes(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) of the hits of each dominant class, shape (5, C, stop - start)."""
        return self._read(start, stop, len(CLASSES))

    def _read(self, start: int, stop: int, n_parts: int) -> Samples:
        """Return samples in one part, or in one for each class, shape (N, C, stop - start)."""
        out = np.zeros((n_parts, self.n_channels, stop - start), dtype=np.float32)
        # Of a loop all turns are added that ring into this one, and the lead of the next one's first stroke.
        turns = range(-1, self._longest // self._period + 2) if self._period else (0,)
        for turn in turns:
            self._add(out, start + turn * (self._period or 0))
        return out

    def _add(self, out: Samples, start: int) -> None:
        stop = start + out.shape[2]
        first = bisect_left(self._attacks, start - self._longest)
        last = bisect_left(self._attacks, stop + self._lead)
        for placement in self._placements[first:last]:
            begin = placement.attack - self._lead
            left, right = max(begin, start), min(begin + self._length(placement), stop)
            if left < right:
                part = CLASSES.index(placement.hit.dominant) if len(out) > 1 else 0
                sound = self._sound(placement, left - begin, right - begin)
                out[part, :, left - start : right - start] += sound

    def _length(self, placement: Placement) -> int:
        """Return how many samples of a hit are played."""
        length: int = self._whole(placement).shape[1]
        return min(length, sum(self._choke(placement))) if placement.stop is not None else length

    def _choke(self, placement: Placement) -> tuple[int, int]:
        """Return after how many samples a hit that is choked fades, and over how many."""
        assert placement.stop is not None
        fade = round(placement.fade_s * self._bank.sample_rate)
        return placement.stop - placement.attack + self._lead, fade

    def _whole(self, placement: Placement) -> Samples:
        """Return a hit as it would be played to its end."""
        hit, semitones = placement.hit, placement.semitones
        if not semitones:
            return self._bank.sound(hit)
        return self._tuned.get((hit, semitones), lambda _: tuned(self._bank.sound(hit), semitones, self._lead))

    def _sound(self, placement: Placement, first: int, last: int) -> Samples:
        """Return samples [first, last) of a hit as it is played."""
        sound = self._whole(placement)[:, first:last].copy()
        if placement.stop is not None:
            length, fade = self._choke(placement)
            faded = sound[:, max(0, length - first) :]
            if faded.size:
                done = max(0, first - length)
                faded *= np.linspace(1, 0, fade, dtype=np.float32)[done : done + faded.shape[1]]
        sound *= np.float32(placement.gain)
        return sound
