"""Drum events and rhythms: what is hit, when and how hard, in seconds and in beats.

Conventions: times are float64 seconds from the start of the rhythm, a beat is a quarter note, a velocity is a
ratio in (0, 1]. A rhythm is a circle of `length_s` seconds: what goes past its end goes on at its beginning.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from operator import itemgetter
from typing import Literal, overload

import numpy as np
from numpy.typing import NDArray

from transform.errors import RhythmError, SettingsError

CLASSES = ("KD", "SD", "TT", "HH", "CY")
CLASS_NAMES = {"KD": "kick drum", "SD": "snare drum", "TT": "tom", "HH": "hi-hat", "CY": "cymbal"}
TOM_HEIGHTS = ("floor", "low", "low-mid", "mid", "high-mid", "high")
# No name stands in two classes; of strokes that fall together a hit counts as the first of these.
ARTICULATIONS = {
    "KD": ("",),
    "SD": ("", "sidestick", "clap", "rim", "brush"),
    "TT": ("", *TOM_HEIGHTS),
    "HH": ("", "open", "closed", "pedal"),
    "CY": ("", "crash", "ride", "bell", "china", "splash"),
}
# Which class plays for one that a kit lacks, nearest first (docs/method.md, decision 12).
NEAREST_CLASSES = {
    "KD": ("TT", "SD", "CY", "HH"),
    "SD": ("TT", "HH", "CY", "KD"),
    "TT": ("SD", "KD", "HH", "CY"),
    "HH": ("CY", "SD", "TT", "KD"),
    "CY": ("HH", "SD", "TT", "KD"),
}

GRIDS_BEATS = (1 / 4, 1 / 3)  # sixteenths and eighth triplets
BOUNDARY_S = 1e-6  # an event this close before a cut belongs after it: a fifth of a sample at 192 kHz

MOST_EVENTS = 4_000_000  # of a rhythm, however often it is looped
_DENSEST_HZ, _DENSEST = 1000, 100  # events a second, and in no time at all

POSSIBLE_BPM = (1e-3, 1e9)  # MIDI's are 3.6 to 60 million
MOST_TEMPI = 10_000  # changes of a tempo
MOST_BEATS = 1e9

MOST_FLAM_MS = 60.0
GRACE_SHARE = 0.5  # of a flam's velocity, its first stroke's: about 10 dB softer

AlignMode = Literal["auto", "seconds", "beats"]


@dataclass(frozen=True, slots=True)
class DrumEvent:
    """One stroke of a drum, or a flam: a soft stroke at `onset_s`, and `flam_ms` later that of its velocity."""

    onset_s: float
    drum_class: str  # one of CLASSES
    velocity: float  # 0 < velocity <= 1
    articulation: str = ""  # one of ARTICULATIONS[drum_class]; "" where it is not known
    flam_ms: float = 0.0  # between the strokes of a flam; 0: it is none

    def __post_init__(self) -> None:
        if not (math.isfinite(self.onset_s) and self.onset_s >= 0):
            raise RhythmError(f"an onset lies at {self.onset_s} s; it must be 0 or later")
        if self.drum_class not in ARTICULATIONS:
            raise RhythmError(f"{self.drum_class!r} is no drum class; the classes are {', '.join(CLASSES)}")
        if not 0 < self.velocity <= 1:
            raise RhythmError(f"a velocity is {self.velocity}; it must lie above 0 and not above 1")
        if self.articulation not in ARTICULATIONS[self.drum_class]:
            raise RhythmError(f"{self.articulation!r} is no articulation of {self.drum_class}")
        if not 0 <= self.flam_ms <= MOST_FLAM_MS:
            raise RhythmError(f"a flam is {self.flam_ms} ms long; it may be up to {MOST_FLAM_MS:g} ms")

    @property
    def strokes(self) -> tuple[DrumEvent, ...]:
        """The strokes as events that are no flams: itself, or the two of a flam."""
        if not self.flam_ms:
            return (self,)
        grace = replace(self, velocity=GRACE_SHARE * self.velocity, flam_ms=0.0)
        return grace, replace(self, onset_s=self.onset_s + self.flam_ms / 1000, flam_ms=0.0)


@dataclass(frozen=True)
class TempoMap:
    """Tempo as steps over beats: each (beat, bpm) holds until the next, the last one for ever."""

    changes: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        beats = [beat for beat, _ in self.changes]
        if not beats or beats[0] != 0:
            raise RhythmError("a tempo map starts at beat 0")
        if not all(before < after for before, after in pairwise(beats)):
            raise RhythmError("the changes of a tempo map must be in order")
        if not all(_is_tempo(bpm) for _, bpm in self.changes):
            raise RhythmError("a tempo must be above 0 BPM")
        if not beats[-1] <= MOST_BEATS:
            raise RhythmError(f"a tempo changes at beat {beats[-1]:g}, later than any music")

    @classmethod
    def constant(cls, bpm: float) -> TempoMap:
        """Return a map of one tempo."""
        return cls(((0.0, float(bpm)),))

    @cached_property
    def _steps(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Start in beats, start in seconds, and seconds per beat of each step."""
        beats = np.array([beat for beat, _ in self.changes], dtype=np.float64)
        pace = 60.0 / np.array([bpm for _, bpm in self.changes], dtype=np.float64)
        seconds = np.concatenate(([0.0], np.cumsum(np.diff(beats) * pace[:-1])))
        return beats, seconds, pace

    @cached_property
    def _step_lists(self) -> tuple[list[float], list[float], list[float]]:
        beats, seconds, pace = self._steps
        return beats.tolist(), seconds.tolist(), pace.tolist()

    @overload
    def seconds_at(self, beats: float) -> float: ...
    @overload
    def seconds_at(self, beats: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def seconds_at(self, beats: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
        """Return the time of a position in beats, one or an array; the end tempi go on beyond both ends."""
        if not isinstance(beats, np.ndarray):  # NumPy takes twenty times as long for one
            starts, seconds, pace = self._step_lists
            step = max(bisect_right(starts, beats) - 1, 0)
            return float(seconds[step] + (beats - starts[step]) * pace[step])
        all_starts, all_seconds, all_pace = self._steps
        steps = np.maximum(np.searchsorted(all_starts, beats, side="right") - 1, 0)
        return np.asarray(all_seconds[steps] + (beats - all_starts[steps]) * all_pace[steps])

    @overload
    def beats_at(self, seconds: float) -> float: ...
    @overload
    def beats_at(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]: ...
    def beats_at(self, seconds: float | NDArray[np.float64]) -> float | NDArray[np.float64]:
        """Return the position in beats of a time, one or an array: the inverse of `seconds_at`."""
        if not isinstance(seconds, np.ndarray):
            beats, starts, pace = self._step_lists
            step = max(bisect_right(starts, seconds) - 1, 0)
            return float(beats[step] + (seconds - starts[step]) / pace[step])
        all_beats, all_starts, all_pace = self._steps
        steps = np.maximum(np.searchsorted(all_starts, seconds, side="right") - 1, 0)
        return np.asarray(all_beats[steps] + (seconds - all_starts[steps]) / all_pace[steps])

    def bpm_at(self, beats: float) -> float:
        """Return the tempo that holds at a position in beats."""
        return self.changes[max(bisect_right(self.changes, beats, key=itemgetter(0)) - 1, 0)][1]

    def starting_at(self, beat: float) -> TempoMap:
        """Return the map whose beat 0 is another beat of this one, which may lie before its beginning."""
        later = tuple((change - beat, bpm) for change, bpm in self.changes if change > max(beat, 0.0))
        return TempoMap(((0.0, self.bpm_at(max(beat, 0.0))), *later))

    def beats_between(self, begin: float, end: float) -> list[float]:
        """Return where the tempo changes after one position in beats and before another."""
        first = bisect_right(self.changes, begin, key=itemgetter(0))
        last = bisect_left(self.changes, end, first, key=itemgetter(0))
        return [beat for beat, _ in self.changes[first:last]]


@dataclass(frozen=True)
class Rhythm:
    """Drum events over a length of time; it loops after `length_s`.

    The events lie in [0, length_s) and are sorted by onset, then by class. `tempo_map` is None where the
    tempo is not known, as in a recording without a tag. `notes` are sentences on how it was read. One that
    `is_placed` is on the take's time already.
    """

    events: tuple[DrumEvent, ...]
    length_s: float
    tempo_map: TempoMap | None = None
    name: str = "rhythm"
    beats_per_bar: float = 4.0
    notes: tuple[str, ...] = field(default=(), compare=False)
    is_placed: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.length_s) and self.length_s > 0):
            raise RhythmError(f"{self.name} is {self.length_s} s long; a rhythm must be longer than 0 s")
        if not (math.isfinite(self.beats_per_bar) and self.beats_per_bar > 0):
            raise RhythmError(f"{self.name} has bars of {self.beats_per_bar} beats")
        object.__setattr__(self, "events", tuple(sorted(self.events, key=order_of)))
        if self.events and self.events[-1].onset_s >= self.length_s:
            last_s = self.events[-1].onset_s
            raise RhythmError(f"{self.name} has an event at {last_s:.3f} s and ends at {self.length_s:.3f} s")
        if len(self.events) > _DENSEST_HZ * self.length_s + _DENSEST:
            raise RhythmError(
                f"{self.name} has {len(self.events):,} strokes in {self.length_s:.3g} s, which nobody plays",
                hint="export only the drums you need, with the tempo of their song",
            )

    @property
    def n_beats(self) -> float | None:
        """The length in beats, None where the tempo is not known."""
        return None if self.tempo_map is None else self.tempo_map.beats_at(self.length_s)

    @property
    def bpm(self) -> float | None:
        """The tempo at the start, None where it is not known."""
        return None if self.tempo_map is None else self.tempo_map.changes[0][1]

    def section(self, start_s: float, length_s: float) -> Rhythm:
        """Return the section from `start_s` on, looping when it goes past the end, with its start moved to 0.

        Every onset is computed from the loop it lies in, not from the one before: no error adds up.
        """
        if not (math.isfinite(start_s) and start_s >= 0):
            raise SettingsError(f"the start is {start_s} s; it must be 0 or later")
        if not (math.isfinite(length_s) and length_s > 0):
            raise SettingsError(f"the length is {length_s} s; it must be above 0")
        self.check_looped(length_s / self.length_s)
        onsets = [event.onset_s for event in self.events]
        events = []
        # From the loop before on: what lies on the cut between both belongs after it.
        first_loop = int(start_s // self.length_s) - 1
        for loop in range(first_loop, math.ceil((start_s + length_s) / self.length_s) + 1):
            offset_s = loop * self.length_s - start_s
            first = bisect_left(onsets, -offset_s - BOUNDARY_S)
            last = bisect_left(onsets, length_s - offset_s - BOUNDARY_S)
            events += [replace(e, onset_s=max(e.onset_s + offset_s, 0.0)) for e in self.events[first:last]]
        return replace(
            self, events=tuple(events), length_s=length_s, tempo_map=self._section_tempo(start_s, length_s)
        )

    def bars_s(self, n_bars: float, start_s: float = 0.0) -> float:
        """Return how long bars of the rhythm are from `start_s` on, looping when they go past its end.

        Raises:
            SettingsError: its tempo is not known.
        """
        _, n_beats = self._in_beats()
        assert self.tempo_map is not None
        loop, into_s = divmod(start_s, self.length_s)
        end = self.tempo_map.beats_at(into_s) + n_bars * self.beats_per_bar
        more_loops, into_beats = divmod(end, n_beats)
        return (loop + more_loops) * self.length_s + self.tempo_map.seconds_at(into_beats) - start_s

    def check_looped(self, n_loops: float) -> None:
        """Raise RhythmError if it has more events, looped so many times, than anybody waits for."""
        if n_loops * max(len(self.events), 1) > MOST_EVENTS:
            raise RhythmError(
                f"{self.name} would be played {n_loops:,.0f} times, in more than {MOST_EVENTS:,} strokes",
                hint="make a shorter take, or take a longer rhythm",
            )

    def _section_tempo(self, start_s: float, length_s: float) -> TempoMap | None:
        """Return the tempo map of `section`: the changes come again in every loop."""
        if self.tempo_map is None or len(self.tempo_map.changes) == 1:
            return self.tempo_map
        n_beats = self.tempo_map.beats_at(self.length_s)
        loop, into_s = divmod(start_s, self.length_s)
        start_beats = self.tempo_map.beats_at(into_s)
        changes = [(0.0, self.tempo_map.bpm_at(start_beats))]
        for turn in range(math.ceil((start_s + length_s) / self.length_s) - int(loop)):
            for beat, bpm in self.tempo_map.changes:
                moved = turn * n_beats + beat - start_beats
                if moved > 0 and beat < n_beats:
                    changes.append((moved, bpm))
        return TempoMap(tuple(changes))

    def at_tempo(self, bpm: float) -> Rhythm:
        """Return the rhythm with every event on its beat, at a constant tempo.

        Raises:
            SettingsError: the tempo of the rhythm is not known, or `bpm` is no tempo.
        """
        positions, n_beats = self._in_beats()
        tempo_map = constant_tempo(bpm, "the tempo")
        return self._moved(positions, n_beats, tempo_map)

    def snapped(self, amount: float) -> Rhythm:
        """Return the rhythm between the grid (amount 0) and as played (amount 1).

        Each event's grid line is the nearest of the sixteenths and the eighth triplets. At amount 0 an event
        that anticipates the end goes to the beginning, the same line of the loop, and two events of one class
        that fall on one line (a flam) become one, the louder.

        Raises:
            SettingsError: the tempo is not known, or `amount` is not within 0..1.
        """
        if not 0 <= amount <= 1:
            raise SettingsError(
                f"the timing is {amount}; it must lie between 0 (on the grid) and 1 (as played)"
            )
        positions, n_beats = self._in_beats()
        if amount == 1:
            return self
        lines = np.stack([np.round(positions / grid) * grid for grid in GRIDS_BEATS])
        nearest = np.argmin(np.abs(lines - positions), axis=0)
        line = np.take_along_axis(lines, nearest[np.newaxis], axis=0)[0]
        assert self.tempo_map is not None
        if amount > 0:
            return self._moved(line + amount * (positions - line), n_beats, self.tempo_map)
        line[line > n_beats - 1e-6] = 0.0
        gridded = self._moved(line, n_beats, self.tempo_map)
        loudest: dict[tuple[float, str], DrumEvent] = {}
        for event in gridded.events:
            place = (event.onset_s, event.drum_class)
            if place not in loudest or event.velocity > loudest[place].velocity:
                loudest[place] = event
        return replace(gridded, events=tuple(loudest.values()))

    def with_velocity(self, mode: Literal["rhythm"] | float) -> Rhythm:
        """Return the rhythm with its own velocities ("rhythm") or one velocity for all events."""
        if mode == "rhythm":
            return self
        if isinstance(mode, str) or not 0 < mode <= 1:
            raise SettingsError(
                f"the velocity is {mode}; it must be 'rhythm' or lie above 0 and not above 1",
            )
        return replace(self, events=tuple(replace(event, velocity=float(mode)) for event in self.events))

    def only(self, classes: Collection[str]) -> Rhythm:
        """Return the rhythm with the events of some classes."""
        unknown = sorted(set(classes) - set(CLASSES))
        if unknown:
            raise SettingsError(
                f"{', '.join(unknown)}: no such drum class", hint=f"the classes are {', '.join(CLASSES)}"
            )
        return replace(self, events=tuple(event for event in self.events if event.drum_class in classes))

    def _in_beats(self) -> tuple[NDArray[np.float64], float]:
        """Return the events' positions and the length in beats."""
        if self.tempo_map is None:
            raise tempo_unknown(self.name)
        onsets_s = np.array([event.onset_s for event in self.events], dtype=np.float64)
        return self.tempo_map.beats_at(onsets_s), self.tempo_map.beats_at(self.length_s)

    def _moved(self, positions: NDArray[np.float64], n_beats: float, tempo_map: TempoMap) -> Rhythm:
        """Return the rhythm with its events at new positions in beats, under a tempo map."""
        length_s = tempo_map.seconds_at(n_beats)
        # Seconds -> beats -> seconds may put the last event of a loop on its end, where no event may be.
        latest_s = math.nextafter(length_s, 0.0)
        onsets_s = np.clip(tempo_map.seconds_at(positions), 0.0, latest_s)
        events = tuple(replace(e, onset_s=float(s)) for e, s in zip(self.events, onsets_s, strict=True))
        return replace(self, events=events, length_s=length_s, tempo_map=tempo_map)


def strokes_of(events: Iterable[DrumEvent], until_s: float = math.inf) -> tuple[DrumEvent, ...]:
    """Return the strokes before `until_s`, in order: flams are two."""
    strokes = (stroke for event in events for stroke in event.strokes)
    return tuple(sorted((stroke for stroke in strokes if stroke.onset_s < until_s), key=order_of))


def nearest_class(drum_class: str, available: Collection[str]) -> str | None:
    """Return the class that plays for `drum_class` among the available ones: itself, the nearest or None."""
    return next((c for c in (drum_class, *NEAREST_CLASSES[drum_class]) if c in available), None)


def order_of(event: DrumEvent) -> tuple[float, int]:
    """Return what events are sorted by: onset, then class."""
    return event.onset_s, CLASSES.index(event.drum_class)


def _is_tempo(bpm: float) -> bool:
    return POSSIBLE_BPM[0] <= bpm <= POSSIBLE_BPM[1]


def tempo_unknown(name: str) -> SettingsError:
    """Return the error for a rhythm whose beats are needed, and not known."""
    return SettingsError(
        f"the tempo of {name} is not known", hint="give it with --rhythm-bpm N, or --rhythm-bpm auto"
    )


def constant_tempo(bpm: float, what: str) -> TempoMap:
    """Return the map of one tempo; SettingsError, which calls it `what`, where it is none."""
    if not _is_tempo(bpm):
        raise SettingsError(f"{what} is {bpm} BPM; it must be above 0")
    return TempoMap.constant(bpm)
