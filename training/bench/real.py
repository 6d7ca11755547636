"""Real recordings as items of the benchmark: each plays the rhythms of the next two of its folder's circle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

import numpy as np

from training.bench.items import Audio, BenchItem
from training.data.kits import SAMPLE_RATE
from training.score.recordings import (
    OTHER,
    Annotation,
    annotated_files,
    open_annotated,
    read_annotations,
)
from transform.errors import AudioError
from transform.events import DrumEvent
from transform.onsets import groups

LENGTH_S = 15.0  # of a result, where the rhythm's recording is as long
_VELOCITY = 100 / 127  # annotations have none
_TOGETHER_S = 0.03  # strokes of different classes closer than this a drummer meant together
_LEADING = ("KD", "SD", "TT")
_N_NEXT = 2  # of the circle
# How MDB Drums (Southall et al., 2017) names what is struck.
_ARTICULATIONS = {
    "CHH": "closed",
    "OHH": "open",
    "PHH": "pedal",
    "CRC": "crash",
    "RDC": "ride",
    "CHC": "china",
    "HIT": "high",
    "MHT": "high-mid",
    "HFT": "low",
    "LFT": "floor",
}


class RealItems:
    """The items of a folder of annotated recordings, in alphabetical order."""

    def __init__(self, folder: Path) -> None:
        """Find the recordings.

        Raises:
            AudioError: the folder is missing, or holds fewer than three recordings.
            AnnotationError: the annotations of one are missing, wrong or none.
        """
        self._files = annotated_files(folder)
        if len(self._files) <= _N_NEXT:
            raise AudioError(
                f"{folder} holds {len(self._files)} recordings; each is to play the rhythms of two others",
                hint="name a folder of three or more recordings, each with a CSV of its name",
            )
        for path in self._files:
            read_annotations(path.with_suffix(".csv"))

    def __len__(self) -> int:
        return _N_NEXT * len(self._files)

    def item(self, number: int) -> BenchItem:
        """Return an item.

        Raises:
            AudioError: a recording cannot be read.
            AnnotationError: its annotations go on after its end.
        """
        place, step = divmod(number, _N_NEXT)
        source, source_strokes, name = _opened(self._files[place])
        target, strokes, rhythm = _opened(self._files[(place + step + 1) % len(self._files)])
        target = target[: round(LENGTH_S * SAMPLE_RATE)]
        events = tuple(e for e in _events(strokes) if e.onset_s < len(target) / SAMPLE_RATE)
        played = together(events)
        return BenchItem(
            name=f"recording-{name}-plays-{rhythm}",
            source=source,
            target=target,
            oracle=None,
            stems=None,
            source_events=_events(source_strokes),
            target_events=events,
            rhythm=played,
            truth=played,
            hardly_audible=(),
            kit=name,
            groove=rhythm,
            source_groove=name,
        )


def together(events: Sequence[DrumEvent]) -> tuple[DrumEvent, ...]:
    """Return the events as one would write them: strokes of different classes within 30 ms at one onset.

    It is the earliest kick's, snare's or tom's, else the earliest.
    """
    moved = []
    for group in groups(events, _TOGETHER_S):
        leading = [event for event in group if event.drum_class in _LEADING] or group
        onset_s = min(event.onset_s for event in leading)
        first = {event.drum_class: event for event in reversed(group)}  # of a flam the second stroke stays
        moved += [replace(e, onset_s=onset_s) if first[e.drum_class] is e else e for e in group]
    return tuple(sorted(moved, key=attrgetter("onset_s")))


def _opened(path: Path) -> tuple[Audio, list[Annotation], str]:
    with open_annotated(path) as (recording, annotations):
        audio = np.concatenate(list(recording.mono_blocks(SAMPLE_RATE)))
    return np.asarray(audio, dtype=np.float32), annotations, path.stem


def _events(strokes: Sequence[Annotation]) -> tuple[DrumEvent, ...]:
    """Return annotated strokes as events; "other" ones are side sticks."""
    return tuple(
        DrumEvent(stroke.onset_s, "SD", _VELOCITY, "sidestick")
        if stroke.drum_class == OTHER
        else DrumEvent(
            stroke.onset_s, stroke.drum_class, _VELOCITY, _ARTICULATIONS.get(stroke.articulation, "")
        )
        for stroke in strokes
    )
