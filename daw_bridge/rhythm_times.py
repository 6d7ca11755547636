"""Where a rhythm plays in a take: at the project's times where it is an item beside it, else on its bars.

A rhythm that is an item and overlaps its source keeps its project time: every event is where the project plays
it, and where the item is silent, so is the take. Any other rhythm loops: its bar 1 is on the project's bar in
which the take begins, its beats on the project's beats, where its own tempo is known; else it begins with the
take.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from operator import attrgetter

import numpy as np

from daw_bridge.session import Item, Job
from transform.audio import Recording
from transform.errors import SettingsError
from transform.events import BOUNDARY_S, DrumEvent, Rhythm, TempoMap
from transform.settings import RenderSettings
from transform.tempo import align

EARLY_BEATS = 1 / 8  # a take that begins so little before a bar belongs to it: cuts leave room for attacks


@dataclass(frozen=True)
class Played:
    """A rhythm on the time of its take, the settings that render it, and a sentence on how it lies there."""

    rhythm: Rhythm | Recording
    settings: RenderSettings
    how: str  # "": the notes of the take have it


@dataclass(frozen=True, kw_only=True)
class TakeTime:
    """The time of a take: from where its source begins in the project."""

    job: Job
    source: Item
    settings: RenderSettings  # of the take, its length in seconds or "rhythm"
    start_bar: int | None = None  # of the project, on which a rhythm's bar 1 is; None: in which the take begins

    def in_project_time(self, item: Item, events: Sequence[DrumEvent]) -> Played:
        """Return an item's events where the project plays them; grid lines are the project's.

        Args:
            item: which overlaps the source.
            events: what it plays, in project time, by onset.

        Raises:
            SettingsError: a beginning within the rhythm is requested.
        """
        source, settings, tempo_map = self.source, self.settings, self.job.tempo_map
        if settings.start_s or self.start_bar is not None:
            raise SettingsError(
                f"its rhythm keeps its project time, so {'--start' if settings.start_s else '--start-bar'} "
                "means nothing",
                hint="move the rhythm in the project, or leave the option out",
            )
        # --length rhythm: to the end of the rhythm.
        length_s = item.end_s - source.position_s if isinstance(settings.length, str) else settings.length
        first_beat = math.floor(tempo_map.beats_at(source.position_s))
        first_s = tempo_map.seconds_at(first_beat)
        # A beat more, so that what is moved to a grid line past the end is past it, not back at the beginning.
        last_s = tempo_map.seconds_at(tempo_map.beats_at(source.position_s + length_s) + 1)
        first, last = (bisect_left(events, at_s, key=attrgetter("onset_s")) for at_s in (first_s, last_s))
        inside = tuple(replace(event, onset_s=event.onset_s - first_s) for event in events[first:last])
        name = item.name or "the rhythm"
        rhythm = Rhythm(inside, last_s - first_s, map_from(tempo_map, first_beat), name)
        own = replace(self._in_seconds(), start_s=max(source.position_s - first_s, 0.0), length=length_s)
        return Played(rhythm, own, f"{rhythm.name} keeps its project time")

    def looped(self, rhythm: Rhythm, offset_beats: float = 0.0) -> Played:
        """Return a rhythm looped on the project's bars and beats if its tempo is known, else in seconds.

        Args:
            rhythm: begins `offset_beats` after its bar 1 does.
            offset_beats: 0 for most.
        """
        settings, tempo_map = self.settings, self.job.tempo_map
        own = self._in_seconds()
        _, phrase = align(rhythm, mode=settings.align, source_bpm=self._bpm, rhythm_bpm=None)
        if rhythm.tempo_map is None or settings.align == "seconds":
            if self.start_bar is not None:
                raise SettingsError(
                    f"--start-bar needs the tempo of {rhythm.name} on the project's beats",
                    hint="give --rhythm-bpm, and leave out --align seconds",
                )
            return Played(rhythm, own, f"{rhythm.name} begins with the take and {phrase}")
        if settings.timing < 1:
            rhythm = rhythm.snapped(settings.timing)
        if settings.start_s:
            rhythm = rhythm.section(settings.start_s, rhythm.length_s)
        assert rhythm.tempo_map is not None
        n_beats = rhythm.tempo_map.beats_at(rhythm.length_s)
        begin = tempo_map.beats_at(self.source.position_s)
        length_s = settings.length
        if isinstance(length_s, str):
            length_s = tempo_map.seconds_at(begin + n_beats) - self.source.position_s
        bar, line = self._bar(begin)
        inside = tuple(self._turns(rhythm, n_beats, line + offset_beats, length_s))
        how = f"bar 1 of {rhythm.name} is on bar {bar} of the project"
        if abs(begin - line) < EARLY_BEATS and not offset_beats:
            how = f"{rhythm.name} begins with the take, on the beats of the project"
        played = Rhythm(inside, length_s, map_from(tempo_map, begin), rhythm.name, rhythm.beats_per_bar)
        return Played(played, replace(own, start_s=0.0, length=length_s, timing=1.0), how)

    def _bar(self, begin: float) -> tuple[int, float]:
        """Return the bar of the project that a rhythm's bar 1 is on, and the beat at which it begins."""
        if self.start_bar is not None:
            return self.start_bar, self.job.bars.beat_of(self.start_bar)
        return self.job.bars.at(begin + EARLY_BEATS)

    def _turns(self, rhythm: Rhythm, n_beats: float, anchor: float, length_s: float) -> Iterator[DrumEvent]:
        """Yield the events of a rhythm that loops before and after the beat `anchor`, in the take's time."""
        assert rhythm.tempo_map is not None
        tempo_map, position_s = self.job.tempo_map, self.source.position_s
        first = math.floor((tempo_map.beats_at(position_s) - anchor) / n_beats - BOUNDARY_S)
        last = math.floor((tempo_map.beats_at(position_s + length_s) - anchor) / n_beats + BOUNDARY_S)
        rhythm.check_looped(last - first)
        beats = rhythm.tempo_map.beats_at(np.array([event.onset_s for event in rhythm.events]))
        turns = (
            replace(event, onset_s=max(0.0, onset_s))
            for turn in range(first, last + 1)
            for event, onset_s in zip(
                rhythm.events,
                (tempo_map.seconds_at(anchor + turn * n_beats + beats) - position_s).tolist(),
                strict=True,
            )
            if onset_s > -BOUNDARY_S
        )
        yield from takewhile(lambda event: event.onset_s < length_s - BOUNDARY_S, turns)

    def _in_seconds(self) -> RenderSettings:
        """Return settings for a rhythm that lies on the take's time already."""
        return replace(self.settings, align="seconds", source_bpm=self._bpm, rhythm_bpm=None)

    @property
    def _bpm(self) -> float:
        tempo_map = self.job.tempo_map
        return tempo_map.bpm_at(tempo_map.beats_at(self.source.position_s))


def item_rhythm(job: Job, item: Item, events: Sequence[DrumEvent]) -> tuple[Rhythm, float]:
    """Return an item as a rhythm that begins where it begins, and how many beats into its bar that is."""
    moved = (replace(event, onset_s=max(event.onset_s - item.position_s, 0.0)) for event in events)
    inside = tuple(event for event in moved if event.onset_s < item.length_s)
    begin = job.tempo_map.beats_at(item.position_s)
    rhythm = Rhythm(inside, item.length_s, map_from(job.tempo_map, begin), item.name or "the rhythm")
    return rhythm, begin - job.bars.at(begin + EARLY_BEATS)[1]


def map_from(tempo_map: TempoMap, beat: float) -> TempoMap:
    """Return a tempo map from a beat on, which becomes beat 0."""
    later = tuple((at - beat, bpm) for at, bpm in tempo_map.changes if at > beat)
    return TempoMap(((0.0, tempo_map.bpm_at(beat)), *later))
