"""The one path from a recording to what is detected in it: activations, events, stems."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from operator import attrgetter

import numpy as np

from transform.audio import Progress, Recording
from transform.events import CLASSES, MOST_FLAM_MS, DrumEvent, Rhythm, strokes_of
from transform.flams import with_flams
from transform.onsets import refine_onsets
from transform.separator import OpensStems, StemReader
from transform.toms import with_tom_heights
from transform.transcriber import Activations, Transcriber, with_sensitivity
from transform.velocity import with_measured_velocities

_log = logging.getLogger(__name__)
_NEAR_FRAMES = 2  # of the transcriber, around an event: their velocities become the event's


@dataclass(frozen=True, eq=False)
class Listening:
    """What is detected in a recording."""

    recording: Recording
    activations: Activations  # of the whole recording
    events: Sequence[DrumEvent]  # with measured velocities, toms by height and flams, sorted by onset
    separator: OpensStems | None = None

    @cached_property
    def stems(self) -> StemReader | None:
        """The stems, opened at their first use; None where there is no separator."""
        return None if self.separator is None else self.separator.open(self.recording, self.activations)

    def at_attacks(self) -> Listening:
        """Return the same with each event moved to its attack."""
        return replace(self, events=refine_onsets(self.recording, self.events))

    def rhythm(self) -> Rhythm:
        """Return the events as a rhythm of unknown tempo that is as long as the recording, perhaps empty."""
        inside = tuple(event for event in self.events if event.onset_s < self.recording.duration_s)
        return Rhythm(inside, self.recording.duration_s, None, self.recording.name)

    def activations_of(
        self, begin: int, end: int, *, classes: Collection[str] = CLASSES, stop_s: float = np.inf
    ) -> Activations:
        """Return the activations of frames [begin, end), with the events' velocities; outside there are none.

        Args:
            begin: a frame of the transcriber.
            end: the frame after the last.
            classes: the others have no onsets.
            stop_s: from here on there are no onsets.
        """
        n_missing = end - max(begin, min(end, self.activations.probability.shape[1]))
        windows = (x[..., begin:end] for x in self.activations)
        probability, *others = (np.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, n_missing)]) for x in windows)
        is_requested = np.isin(CLASSES, list(classes))[:, None] & (np.arange(begin, end) < 100 * stop_s)
        velocity = others[0].copy()
        near_s = (begin - _NEAR_FRAMES - MOST_FLAM_MS / 10) / 100, (end + _NEAR_FRAMES) / 100
        first, last = (bisect_left(self.events, s, key=attrgetter("onset_s")) for s in near_s)
        for stroke in strokes_of(self.events[first:last]):
            frame = round(100 * stroke.onset_s) - begin
            around = slice(max(0, frame - _NEAR_FRAMES), max(0, frame + _NEAR_FRAMES + 1))
            velocity[CLASSES.index(stroke.drum_class), around] = stroke.velocity
        return Activations(np.where(is_requested, probability, np.float32(0)), velocity, *others[1:])


def listen(
    recording: Recording,
    transcriber: Transcriber,
    separator: OpensStems | None = None,
    *,
    sensitivity: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> Listening:
    """Return what is detected in a recording; nothing is separated before its stems are read.

    Args:
        recording: drum audio.
        transcriber: detects the events.
        separator: separates the recording.
        sensitivity: by class, as `with_sensitivity` has it.
        progress: called with "transcribe" and the fraction done.
    """
    activations = transcriber.activations(recording, progress=progress)
    if sensitivity:
        activations = with_sensitivity(activations, sensitivity)
    events = with_measured_velocities(recording, transcriber.events(activations))
    events = with_flams(recording, with_tom_heights(recording, events))
    counts = Counter(event.drum_class for event in events)
    found = ", ".join(f"{counts[c]} {c}" for c in CLASSES if counts[c])
    _log.info("%s: %d strokes are detected (%s)", recording.name, len(events), found or "none")
    return Listening(recording, activations, events, separator)
