"""Decision thresholds of a transcriber, from synthetic recordings and, where they say enough, annotated ones.

Source: docs/method.md, decision 21.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from training.data.pack import Pack
from training.data.synthesis import SynthesisSettings
from training.score.recordings import (
    Annotation,
    TrackScore,
    annotated_files,
    open_annotated,
    score_events,
)
from training.score.scores import Counts, class_counts, pooled
from training.score.transcriber import AnnotatedRecording, make_recordings
from transform.events import CLASSES
from transform.transcriber import Activations, Transcriber

FEWEST_STROKES = 50  # of a class, in all recordings together
FEWEST_RECORDINGS = 3  # that hold the class
# On synthetic recordings F is flat around its best: of thresholds as good within this the highest is taken, as
# their ghost notes are many. A stroke that is invented is played by every engine.
TOLERANCE = 0.01
_GRID = [round(float(t), 2) for t in np.arange(0.1, 0.91, 0.05)]
_N_SYNTHETIC, _SEED = 96, 3

Track = tuple[Sequence[Annotation], Activations]


@dataclass(frozen=True)
class Thresholds:
    """The thresholds of each class, and what chose them."""

    values: tuple[float, ...]
    curves: tuple[Mapping[float, float], ...]  # F of each class on synthetic recordings, by threshold
    n_strokes: Mapping[str, int]  # of the recordings, by class: those whose threshold they chose

    def sentence(self) -> str:
        """Return what a model card says of them."""
        chosen = ", ".join(f"{c} {value:.2f}" for c, value in zip(CLASSES, self.values, strict=True))
        own = ", ".join(f"{n} strokes of {c}" for c, n in self.n_strokes.items())
        return f"Thresholds: {chosen}. Synthetic validation recordings chose them" + (
            f", and, with equal say, {own} in annotated recordings that nothing was trained on." if own else "."
        )

    @property
    def synthetic(self) -> tuple[float, ...]:
        """What synthetic recordings alone choose."""
        return tuple(map(highest_good, self.curves))


def tracks_of(transcriber: Transcriber, folder: Path) -> dict[str, Track]:
    """Return the annotations and activations of each recording of a folder, by name.

    Raises:
        AudioError: the folder is missing, holds no audio file, or one that cannot be read.
        AnnotationError: a recording lacks its annotations, or they are wrong.
    """
    found: dict[str, Track] = {}
    for path in annotated_files(folder):
        with open_annotated(path) as (recording, annotations):
            found[path.name] = annotations, transcriber.activations(recording)
    return found


def choose_thresholds(transcriber: Transcriber, pack: Pack, tracks: Mapping[str, Track]) -> Thresholds:
    """Return the thresholds that a transcriber should have; its own stay as they are.

    Args:
        transcriber: whose thresholds are chosen.
        pack: its validation side makes the synthetic recordings, with ghost notes as soft as in training.
        tracks: annotated recordings that nothing was trained on; none: synthetic ones alone choose.

    Raises:
        PackError: the pack lacks kits or rhythms of the validation side.
    """
    dynamics = SynthesisSettings().velocity_exponent
    recordings = make_recordings(pack, "validate", n=_N_SYNTHETIC, seed=_SEED, velocity_exponent=dynamics)
    activations = [transcriber.infer(recording.audio.cpu()) for recording in recordings]
    curves = tuple(
        {t: _synthetic_f(transcriber, i, t, recordings, activations) for t in _GRID}
        for i in range(len(CLASSES))
    )
    return combined(transcriber, curves, list(tracks.values()))


def highest_good(f_measures: Mapping[float, float]) -> float:
    """Return the highest of some thresholds whose F is the best, or less than `TOLERANCE` below it."""
    best = max(f_measures.values())
    return max(threshold for threshold, f in f_measures.items() if f > best - TOLERANCE)


def combined(
    transcriber: Transcriber, curves: tuple[Mapping[float, float], ...], tracks: Sequence[Track]
) -> Thresholds:
    """Return of each class the threshold with the best mean of F on synthetic recordings and pooled on tracks.

    A class with too few strokes, or in too few tracks, gets what synthetic recordings choose.
    """
    values, n_strokes = [highest_good(curve) for curve in curves], {}
    for i, c in enumerate(CLASSES):
        in_tracks = [n for n in (sum(a.drum_class == c for a in truth) for truth, _ in tracks) if n]
        if sum(in_tracks) < FEWEST_STROKES or len(in_tracks) < FEWEST_RECORDINGS:
            continue
        means = {t: f + _class_counts(transcriber, i, t, tracks).f_measure for t, f in curves[i].items()}
        values[i] = max(means, key=means.__getitem__)
        n_strokes[c] = sum(in_tracks)
    return Thresholds(tuple(values), curves, n_strokes)


def score_tracks(
    transcriber: Transcriber, thresholds: Sequence[float], tracks: Sequence[Track]
) -> list[TrackScore]:
    """Return the score of each track with some thresholds."""
    with _with_thresholds(transcriber, thresholds):
        return [score_events(truth, transcriber.events(activations)) for truth, activations in tracks]


def left_out_f(transcriber: Transcriber, chosen: Thresholds, tracks: Sequence[Track]) -> float:
    """Return the pooled F, each track scored with what the others choose: a report, which chooses nothing."""
    total = Counts()
    for i, track in enumerate(tracks):
        others = combined(transcriber, chosen.curves, [*tracks[:i], *tracks[i + 1 :]])
        (score,) = score_tracks(transcriber, others.values, [track])
        total += pooled(score.counts)
    return total.f_measure


def _class_counts(transcriber: Transcriber, c: int, threshold: float, tracks: Sequence[Track]) -> Counts:
    scores = score_tracks(transcriber, _alone(c, threshold), tracks)
    return sum((score.counts[CLASSES[c]] for score in scores), Counts())


def _synthetic_f(
    transcriber: Transcriber,
    c: int,
    threshold: float,
    recordings: Sequence[AnnotatedRecording],
    activations: Sequence[Activations],
) -> float:
    with _with_thresholds(transcriber, _alone(c, threshold)):
        counts = (
            class_counts(truth.events, transcriber.events(found), ignored=truth.hardly_audible)[CLASSES[c]]
            for truth, found in zip(recordings, activations, strict=True)
        )
        return sum(counts, Counts()).f_measure


def _alone(c: int, threshold: float) -> list[float]:
    """Return thresholds with which a class, by index, is found, and hardly any other."""
    return [threshold if i == c else 1.0 for i in range(len(CLASSES))]


@contextmanager
def _with_thresholds(transcriber: Transcriber, thresholds: Sequence[float]) -> Iterator[None]:
    before = transcriber.config
    transcriber.config = replace(before, thresholds=tuple(thresholds))
    try:
        yield
    finally:
        transcriber.config = before
