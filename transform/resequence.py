"""The `resequence` engine: a source's own hits replayed at a rhythm's events.

Strokes that coincide are played by the hits, one to three or one a class, that hold all their classes and as
little else as possible: by one hit in which the same classes coincide in the source, where there is a clean one
whose drums shall all be turned up or down alike, else by hits of single classes. How a drum is struck (open,
closed) is a rule: where the source has it, it plays. Hits have the source's rate and channels; attacks land on
the sample.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np

from transform.bank import Bank
from transform.dynamics import STRONG, Strength, velocity_scales
from transform.events import CLASS_NAMES, CLASSES, TOM_HEIGHTS, DrumEvent, nearest_class
from transform.hits import LEAD_S, LONGEST_S, Hit, dominant_class
from transform.onsets import groups
from transform.peaks import MOST_DOWN_DB, PEAK_S
from transform.signal import BlockCache, Samples, nearest_sample
from transform.toms import by_rank, tuned, tunings
from transform.velocity import LEVEL_EXPONENT

PLAYED_TOGETHER_S = 0.006  # events of a rhythm closer than this may be played by one hit
_GAIN_DB = (-24.0, 9.0)  # the most that a hit is turned down or up to match a velocity
_ALIKE = 0.25  # octaves of velocity: hits so little apart take turns where strokes are played alone

# What it costs that a hit also holds a class that the rhythm does not request; requested and missing costs 10.
_EXTRA_COST = {"KD": 3.0, "SD": 4.0, "TT": 3.0, "HH": 1.2, "CY": 2.5}
_DOUBLE_COST = 1.5  # of a class that two hits hold
_UNEVEN_COST = 6.0  # of a hit whose classes shall be turned up or down by different gains
_EVEN_DB = 2.0  # gains so little apart are one
_OTHER_COST = (
    3.0  # of a hit struck in another way than requested, for each step that the best of the bank is nearer
)
_CHOKE_S = 0.012
_TUNED_BYTES = 16 * 2**20
_AUDIBLE = 0.01  # of a hit's first peak: what is softer is no part of its attack
_PART_OF_PEAK = 0.3  # of the loudest stroke around it: what is softer makes no peak
# Where the articulations of a class stand: the further apart two are, the less the one passes for the other.
# A snare stroke of no name is a full one; else what is not known may be any.
_PLACES: Mapping[str, Mapping[str, float]] = {
    "SD": {"sidestick": 0.0, "": 1.5, "rim": 1.7, "brush": 1.9, "clap": 2.1},
    "TT": {height: 3.0 * i for i, height in enumerate(TOM_HEIGHTS)},
    "HH": {"pedal": -0.3, "closed": 0.0, "open": 1.5},
    "CY": {"bell": -0.3, "ride": 0.0, "crash": 1.5, "splash": 1.8, "china": 1.9},
}
_ARTICULATION_NAMES = {
    "": "snare stroke",
    "sidestick": "side stick",
    "rim": "rim shot",
    "brush": "brush stroke",
    "clap": "clap",
    "pedal": "foot hat",
    "closed": "closed hat",
    "open": "open hat",
    **{name: f"{name} cymbal" for name in ("ride", "crash", "splash", "china")},
    "bell": "ride bell",
}
_ANY_TOM_COST = 1.0  # of a tom that may be any, where a certain one is requested
_UNCHOKED_COST = 3.0  # of an open hat in a hit with other drums: no later hat can choke it
_TUNED_COST = 2.0  # of a tom that shall be tuned, in a hit with other drums
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


def articulation_notes(bank: Bank, events: Iterable[DrumEvent], chosen: Mapping[str, str]) -> tuple[str, ...]:
    """Return a sentence for each way of striking a drum that the source has not, and what plays instead."""
    requested = {
        (e.drum_class, e.articulation) for e in events if e.drum_class in ("SD", "HH", "CY") and e.articulation
    }
    notes = []
    for drum_class, articulation in sorted(requested):
        found = {hit.articulation(drum_class) for hit in bank.hits if drum_class in hit.classes}
        if chosen.get(drum_class) != drum_class or articulation in found:
            continue
        nearest = min(found, key=lambda name: _articulation_cost(drum_class, articulation, name))
        if nearest in _PLACES[drum_class]:
            lacking, plays = _ARTICULATION_NAMES[articulation], _ARTICULATION_NAMES[nearest]
            notes.append(f"the source has no {lacking}: its {plays} plays that part")
    return tuple(notes)


@dataclass(frozen=True, kw_only=True)
class Playing:
    """How a rhythm is played."""

    velocity: Literal["source", "rhythm"] | float = "rhythm"  # a number: the velocity of all, as it is given
    balance: float = 1.0  # as `velocity_scales` has it
    is_written: bool = True  # the rhythm, not detected in a recording
    gain_db: Mapping[str, float] = field(default_factory=dict)  # an extra gain by class
    is_even: bool = False  # hits are chosen for the extra gains, and played without
    seed: int = 0  # of the round robin among hits that would do equally well
    tunes_toms: bool = False  # whether a single tom is tuned to play the rhythm's several

    def scales(
        self, events: Sequence[DrumEvent], source: Strength, chosen: Mapping[str, str]
    ) -> dict[str, float] | None:
        """Return, by class of the events, what takes their velocities to those of the source's drums.

        None where hits keep their own level.
        """
        if self.velocity == "source" or not events:
            return None
        rhythm = (
            Strength.of((e.drum_class, e.velocity) for e in events)
            if self.velocity == "rhythm"
            else Strength.flat()
        )
        return velocity_scales(rhythm, source, chosen, balance=self.balance, is_written=self.is_written)


def together_notes(bank: Bank) -> list[str]:
    """Return a sentence for each class that sounds in no hit alone, so that it has no output of its own."""
    return [
        f"the {CLASS_NAMES[c]} sounds in no hit alone: it is in the output of the drum that it sounds with"
        for c in CLASSES
        if c in bank.classes and frozenset({c}) not in bank.sets
    ]


def arrange(bank: Bank, events: Sequence[DrumEvent], playing: Playing | None = None) -> list[Placement]:
    """Return where each hit plays, sorted by attack.

    Args:
        bank: the source's hits.
        events: what is to be played, in seconds of the take.
        playing: how.
    """
    playing = playing or Playing()
    chosen = stand_ins(bank.classes, events)
    arranger = _Arranger(bank, playing)
    arranger.take_toms(events)
    scales = playing.scales(events, bank.strength, chosen) if chosen else None
    placements: list[Placement] = []
    for group in groups(_struck(bank, events, chosen), PLAYED_TOGETHER_S):
        parts: dict[str, _Part] = {}
        for event in group:
            used = chosen.get(event.drum_class)
            if used is None or (used in parts and parts[used].event.velocity >= event.velocity):
                continue
            target = event.velocity * scales[event.drum_class] if scales else None
            parts[used] = _Part(event, target, arranger.requested(used, event))
        placements += arranger.placed(parts) if parts else []
    return _choked(sorted(placements, key=lambda p: p.attack), bank.sample_rate)


def play_alone(bank: Bank, event: DrumEvent, turn: int) -> Placement | None:
    """Return what plays a stroke, whatever else plays, as strong as the source's strokes of its velocity.

    Args:
        bank: the source's hits.
        event: in seconds of the take; its articulation is one of the source's.
        turn: which of the hits that would do equally well plays it.

    Returns:
        The hit at its place; None where the bank has none.
    """
    used = stand_ins(bank.classes, [event]).get(event.drum_class)
    if used is None:
        return None
    arranger = _Arranger(bank, Playing())
    arranger.take_toms_by_name()
    part = _Part(event, event.velocity, arranger.requested(used, event))
    return arranger.placed_alone(used, part, turn)


class _Part(NamedTuple):
    """A stroke that one of the source's classes is to play."""

    event: DrumEvent
    target: float | None  # the velocity to match, as those of the source are; None for the hit's own level
    articulation: str  # in which the class is requested, "" where any will do


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

    def __init__(self, bank: Bank, playing: Playing) -> None:
        rng = np.random.default_rng(playing.seed)
        self._bank, self._playing = bank, playing
        self._covers: dict[object, tuple[frozenset[str], ...]] = {}
        self._nearest_costs: dict[tuple[str, str], float] = {}
        self._nearest: dict[object, tuple[Hit, ...]] = {}
        self._last_played: dict[Hit, int] = {}
        self._n_played = 0
        self._has_two_attacks = {classes for classes, hits in bank.sets.items() if _has_two_attacks(hits)}
        self._tie_break = {hit: float(rng.random()) for hit in bank.hits}
        self._usual_snare = _usual_articulation(bank, "SD")
        self._toms: Mapping[str, str] = {}  # of the source, by what the rhythm asks for
        self._tunings: Mapping[str, float] = {}  # in semitones, by what the rhythm asks for

    def take_toms(self, events: Iterable[DrumEvent]) -> None:
        """Decide which of the source's toms, or which tuning of its only one, plays each tom of a rhythm."""
        theirs = {event.articulation for event in events if event.drum_class == "TT"}
        ours = {hit.articulation("TT") for hit in self._bank.hits} - {""}
        self._toms = by_rank(theirs, ours) if len(ours) > 1 else {}
        self._tunings = tunings(theirs) if self._playing.tunes_toms and len(ours) <= 1 else {}

    def take_toms_by_name(self) -> None:
        """Let each tom be played by the source's tom of its name, or the nearest."""
        self._toms = {height: height for height in TOM_HEIGHTS}

    def requested(self, drum_class: str, event: DrumEvent) -> str:
        """Return the articulation in which a class plays an event, "" where any will do."""
        if event.drum_class != drum_class:
            return "closed" if drum_class == "HH" else ""  # a hat that stands in for another drum
        if drum_class == "SD" and not event.articulation:
            return self._usual_snare
        return self._toms.get(event.articulation, "") if drum_class == "TT" else event.articulation

    def placed(self, parts: Mapping[str, _Part]) -> Iterator[Placement]:
        """Yield the hits that play strokes which fall together, by the source's classes."""
        for classes in self._cover(parts):
            part = parts[dominant_class(classes & parts.keys())]
            hit, gain = self._choose(classes, parts)
            gain *= 1.0 if self._playing.is_even else 10 ** (self._gain_db(part.event.drum_class) / 20)
            attack = nearest_sample(part.event.onset_s, self._bank.sample_rate)
            semitones = self._tunings.get(part.event.articulation, 0.0) if classes == {"TT"} else 0.0
            yield Placement(attack, hit, gain, semitones=semitones)

    def placed_alone(self, drum_class: str, part: _Part, turn: int) -> Placement:
        """Return the hit that plays one stroke by a class, `turn` counting round those alike."""
        parts = {drum_class: part}
        costs = {c: self._set_cost(c, parts) for c in self._bank.sets if drum_class in c}
        classes = min(costs, key=lambda own: _cost((own,), parts, costs))
        hits = self._nearest_hits(classes, {drum_class: part.articulation})
        unlike = {hit: self._unlikeness(hit, classes, parts) for hit in hits}
        alike = [hit for hit in hits if unlike[hit] <= min(unlike.values()) + _ALIKE]
        hit = alike[turn % len(alike)]
        return Placement(
            nearest_sample(part.event.onset_s, self._bank.sample_rate), hit, self._gain(hit, parts)
        )

    def _gain_db(self, drum_class: str) -> float:
        return self._playing.gain_db.get(drum_class, 0.0)

    def _cover(self, parts: Mapping[str, _Part]) -> tuple[frozenset[str], ...]:
        """Return the sets of classes, each a kind of hit in the bank, that play the parts best."""
        costs = {c: self._set_cost(c, parts) for c in self._bank.sets if not c.isdisjoint(parts)}
        key = frozenset(parts), tuple(costs.values())
        if key not in self._covers:
            options = [option for n in range(1, min(3, len(parts)) + 1) for option in combinations(costs, n)]
            options.append(tuple(classes for classes in costs if len(classes) == 1))
            self._covers[key] = min(options, key=lambda option: _cost(option, parts, costs))
        return self._covers[key]

    def _set_cost(self, classes: frozenset[str], parts: Mapping[str, _Part]) -> float:
        """Return what it costs to play parts by the best hit of a set."""
        requested = {c: parts[c].articulation for c in CLASSES if c in classes and c in parts}
        hits = self._nearest_hits(classes, requested)
        cost = min(hit.faults for hit in hits)
        for drum_class, how in requested.items():
            found = _articulation_cost(drum_class, how, hits[0].articulation(drum_class))
            cost += _OTHER_COST * (found - self._nearest_cost(drum_class, how))
        if len(classes) > 1:
            cost += _UNEVEN_COST * all(self._unevenness_db(hit, parts) > _EVEN_DB for hit in hits)
            cost += _TUNED_COST * bool(self._tunings and "TT" in classes)
            cost += _UNCHOKED_COST * (requested.get("HH") == "open")
        return cost

    def _nearest_cost(self, drum_class: str, requested: str) -> float:
        """Return how near the bank's nearest hit of a class is to a requested articulation."""
        key = drum_class, requested
        if key not in self._nearest_costs:
            own = (hit for hit in self._bank.hits if drum_class in hit.classes)
            self._nearest_costs[key] = min(
                _articulation_cost(drum_class, requested, hit.articulation(drum_class)) for hit in own
            )
        return self._nearest_costs[key]

    def _nearest_hits(self, classes: frozenset[str], requested: Mapping[str, str]) -> tuple[Hit, ...]:
        """Return the hits of a set that are nearest to the requested articulation of each class."""
        key = classes, tuple(requested.items())
        if key not in self._nearest:
            hits = self._bank.sets[classes]
            costs = [
                sum(_articulation_cost(c, how, hit.articulation(c)) for c, how in requested.items())
                for hit in hits
            ]
            least = min(costs) + 1e-9
            self._nearest[key] = tuple(h for h, cost in zip(hits, costs, strict=True) if cost <= least)
        return self._nearest[key]

    def _unevenness_db(self, hit: Hit, parts: Mapping[str, _Part]) -> float:
        """Return how far apart the gains are by which a hit's classes are to be turned up or down."""
        gains_db = []
        for drum_class in hit.classes & parts.keys():
            event, target, _ = parts[drum_class]
            matched_db = 0.0
            if target is not None and self._is_measured(hit, drum_class):
                matched_db = self._matched_db(hit, drum_class, target)
            elif target is not None:
                matched_db = 20 * LEVEL_EXPONENT * math.log10(target / hit.velocities[drum_class])
            gains_db.append(matched_db + self._gain_db(event.drum_class))
        return max(gains_db) - min(gains_db) if min(gains_db) > -math.inf else math.inf

    def _is_measured(self, hit: Hit, drum_class: str) -> bool:
        """Return whether the level of a class is known, of a hit and of a full stroke."""
        return drum_class in hit.levels and drum_class in self._bank.full_level

    def _matched_db(self, hit: Hit, drum_class: str, target: float) -> float:
        """Return the gain that makes a class of a hit as strong as a velocity."""
        level = hit.levels.get(drum_class, hit.level)
        return 20 * math.log10(self._bank.full_level[drum_class] * target**LEVEL_EXPONENT / level)

    def _choose(self, classes: frozenset[str], parts: Mapping[str, _Part]) -> tuple[Hit, float]:
        """Return a hit of a set, and the gain that makes it as strong as the part of its dominant class."""
        own = {c: parts[c] for c in classes & parts.keys()}

        def cost(hit: Hit) -> float:
            # Round robin: a hit that was just played comes again after the others like it.
            since = self._n_played - self._last_played.get(hit, -100)
            return self._unlikeness(hit, classes, own) + 0.35 / (1 + since) + 0.02 * self._tie_break[hit]

        requested = {c: parts[c].articulation for c in CLASSES if c in own}
        hits = self._nearest_hits(classes, requested)
        if len(own) > 1 and (even := [h for h in hits if self._unevenness_db(h, own) <= _EVEN_DB]):
            hits = tuple(even)
        hit = min(hits, key=cost)
        self._last_played[hit] = self._n_played
        self._n_played += 1
        return hit, self._gain(hit, own)

    def _unlikeness(self, hit: Hit, classes: frozenset[str], parts: Mapping[str, _Part]) -> float:
        """Return how far a hit of a set is from what its parts ask for, in octaves of velocity."""
        target = parts[dominant_class(parts)].target
        is_flam = any(part.event.flam_ms > 0 for part in parts.values())
        distance = 0.0
        if target is not None:
            full_level = self._bank.full_level[dominant_class(classes)]
            distance = abs(math.log2(max(hit.level / full_level, 1e-4) ** (1 / LEVEL_EXPONENT) / target))
        if is_flam and not hit.flam_ms:
            distance += _NO_FLAM_COST
        elif hit.flam_ms and not is_flam and classes not in self._has_two_attacks:
            distance += _FLAM_COST
        return distance

    def _gain(self, hit: Hit, parts: Mapping[str, _Part]) -> float:
        """Return the gain that makes a hit as strong as the part of its dominant class."""
        leading = dominant_class(parts)
        target = parts[leading].target
        if target is None:
            return 1.0
        gain_db = self._matched_db(hit, leading if self._is_measured(hit, leading) else hit.dominant, target)
        return float(10 ** (float(np.clip(gain_db, *_GAIN_DB)) / 20))


def _cost(
    option: tuple[frozenset[str], ...], parts: Collection[str], costs: Mapping[frozenset[str], float]
) -> float:
    """Return what it costs to play parts by hits of some sets, each with a cost of its own."""
    sounding = [c for classes in option for c in classes]
    cost = 10.0 * len(set(parts) - set(sounding))
    cost += sum(_EXTRA_COST[c] for c in set(sounding) - set(parts))
    cost += _DOUBLE_COST * (len(sounding) - len(set(sounding)))
    return cost + sum(costs[classes] for classes in option)


def _usual_articulation(bank: Bank, drum_class: str) -> str:
    """Return how most strong hits of a class, within 6 dB of its strong level, are struck; "" if none is.

    It is what a source has for that drum, whatever it was taken for.
    """
    own = bank.sets.get(frozenset({drum_class}), ())
    strong = [hit for hit in own if hit.level >= 0.5 * float(np.quantile([h.level for h in own], STRONG))]
    found = Counter(hit.articulation(drum_class) for hit in strong)
    return max(found, key=lambda name: (found[name], not name), default="")


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
        self._lead = round(LEAD_S * bank.sample_rate)
        self._tuned: BlockCache[tuple[Hit, float], Samples] = BlockCache(n_bytes=_TUNED_BYTES)
        self._longest = round((max(LONGEST_S.values()) + LEAD_S) * bank.sample_rate) + 1
        if period is not None:
            self._placements = _choked(list(placements), bank.sample_rate, period)
        else:
            self._placements = [self._with_lead(p) if p.attack < self._lead else p for p in placements]
        self._attacks = [p.attack for p in self._placements]

    def _with_lead(self, placement: Placement) -> Placement:
        """Return a placement so much later that nothing of its attack is cut off by the take's beginning."""
        beginning = np.abs(self._whole(placement)[:, : 3 * self._lead]).max(axis=0)
        n_before = self._lead - int(np.argmax(beginning > _AUDIBLE * beginning.max(initial=0.0)))
        return replace(placement, attack=max(placement.attack, n_before))

    def turned_down(self, peaks_db: Iterable[tuple[int, float]]) -> tuple[Arrangement, int, float]:
        """Return the arrangement with the strokes turned down that make peaks, each by 3 dB at most.

        Args:
            peaks_db: samples, and by how many dB the level there is too high.

        Returns:
            The arrangement, how many strokes are turned down, and the most by which one is.
        """
        down_db = np.zeros(len(self._placements))
        reach = round(PEAK_S * self.sample_rate)
        for at, over_db in peaks_db:
            near = range(bisect_left(self._attacks, at - reach), bisect_left(self._attacks, at + self._lead))
            loudness = {i: self._loudness(self._placements[i], at) for i in near}
            for i in near:
                if loudness[i] >= _PART_OF_PEAK * max(loudness.values()):
                    down_db[i] = max(down_db[i], min(MOST_DOWN_DB, over_db))
        turned = copy(self)
        turned._placements = [
            replace(placement, gain=placement.gain * 10 ** (-db / 20)) if db else placement
            for placement, db in zip(self._placements, down_db.tolist(), strict=True)
        ]
        return turned, int(np.count_nonzero(down_db)), float(down_db.max(initial=0.0))

    def changed_from(self, other: Arrangement) -> list[tuple[int, int]] | None:
        """Return the regions, in samples, in which this differs from another arrangement of one bank.

        None: it may differ anywhere.
        """
        if self._bank is not other._bank or self._period or other._period:
            return None
        changed = set(self._placements) ^ set(other._placements)
        begins = ((placement, placement.attack - self._lead) for placement in changed)
        return [(begin, begin + self._length(placement)) for placement, begin in begins]

    def sound_of(self, attack: int, drum_class: str) -> Samples | None:
        """Return what plays a class at a sample, or stands for it, shape (C, T); None where nothing does."""
        near = slice(
            bisect_left(self._attacks, attack - self._lead), bisect_left(self._attacks, attack + 2 * self._lead)
        )
        found = self._placements[near]
        if not found:
            return None
        placement = min(
            found, key=lambda p: (drum_class not in p.hit.classes, len(p.hit.classes), abs(p.attack - attack))
        )
        return self._sound(placement, 0, self._length(placement))

    def _loudness(self, placement: Placement, at: int) -> float:
        """Return the peak of a stroke around a sample of the take."""
        begin = placement.attack - self._lead
        around = self._whole(placement)[:, max(0, at - self._lead - begin) : max(0, at + self._lead - begin)]
        return placement.gain * float(np.abs(around).max(initial=0.0))

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
