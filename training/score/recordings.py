"""How well annotated recordings are transcribed: any folder of audio files, each with a CSV beside it.

`NAME.csv` holds `onset_s,class[,articulation]`, one stroke a row. Classes are KD, SD, TT, HH, CY and OT,
"other", such as a side stick: it need not be found, and a snare that is found there is not wrong.
"""

from __future__ import annotations

import csv
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import TypeVar

from training.score.scores import Counts, class_counts, matched_pairs, pooled
from transform.audio import Recording
from transform.errors import AudioError, RedrumError
from transform.events import CLASSES, DrumEvent
from transform.files import open_plain
from transform.transcriber import Transcriber

OTHER = "OT"
NOTHING = "-"  # in a confusion table: missed (as a column) or invented (as a row)
WINDOW_S = 0.05
_COLUMNS = ("onset_s", "class")
_AUDIO_ENDINGS = (".wav", ".flac", ".aif", ".aiff", ".mp3", ".ogg", ".opus", ".caf")
_CSV_HINT = "write a header onset_s,class[,articulation] and a row a stroke, commas between, times in seconds"
_MOST_SHOWN = 40  # characters of what is wrong

_Judged = TypeVar("_Judged")
Confusion = Counter[tuple[str, str]]  # (class of the truth, class that was detected)


class AnnotationError(RedrumError):
    """An annotation that does not state which strokes a recording holds."""


@dataclass(frozen=True, order=True)
class Annotation:
    """One stroke as people marked it."""

    onset_s: float
    drum_class: str  # of CLASSES, or OTHER
    articulation: str = ""


@dataclass(frozen=True)
class TrackScore:
    """What was found in one recording, or in several together."""

    counts: Mapping[str, Counts]  # by class
    confusion: Confusion

    def __add__(self, other: TrackScore) -> TrackScore:
        counts = {c: self.counts[c] + other.counts[c] for c in CLASSES}
        return TrackScore(counts, self.confusion + other.confusion)


NO_TRACK = TrackScore({c: Counts() for c in CLASSES}, Counter())


@dataclass
class FolderScore:
    """The scores of a folder's recordings by name, and a sentence about each that could not be scored."""

    tracks: dict[str, TrackScore]
    left_out: list[RedrumError]

    @property
    def pooled(self) -> TrackScore:
        """All recordings together."""
        return sum(self.tracks.values(), NO_TRACK)


def annotated_files(folder: Path) -> list[Path]:
    """Return the audio files of a folder, sorted.

    Raises:
        AudioError: the folder is missing or holds no audio file.
    """
    try:
        files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as err:
        raise AudioError(f"{folder} is no folder that can be read", hint="name a folder of recordings") from err
    audio = [path for path in files if path.suffix.lower() in _AUDIO_ENDINGS]
    if not audio:
        raise AudioError(f"{folder} holds no audio files", hint=f"{', '.join(_AUDIO_ENDINGS)} are read")
    return audio


@contextmanager
def open_annotated(path: Path) -> Iterator[tuple[Recording, list[Annotation]]]:
    """Open an audio file, and yield it with the strokes of the CSV file beside it.

    Raises:
        AudioError: it cannot be read.
        AnnotationError: its annotations are missing or wrong, or go on after its end.
    """
    annotations = read_annotations(path.with_suffix(".csv"))
    with Recording.open(path) as recording:
        if annotations and annotations[-1].onset_s > recording.duration_s:
            raise AnnotationError(
                f"{path.stem}.csv has a stroke at {annotations[-1].onset_s:g} s, "
                f"but {path.name} is {recording.duration_s:.1f} s long",
                hint="give onsets in seconds from the beginning of the file",
            )
        yield recording, annotations


def judge_folder(
    folder: Path, judge: Callable[[Recording, list[Annotation]], _Judged]
) -> tuple[dict[str, _Judged], list[RedrumError]]:
    """Return what is found in annotated recordings of a folder, by name, and what is wrong with other files.

    Args:
        folder: audio files, each with a CSV file beside it.
        judge: is given a recording and its strokes.

    Raises:
        AudioError: the folder is missing or holds no audio file.
    """
    audio = annotated_files(folder)
    found: dict[str, _Judged] = {}
    left_out: list[RedrumError] = []
    stems = {path.stem for path in audio}
    for path in sorted(folder.glob("[!.]*")):
        if path.suffix.lower() == ".csv" and path.stem not in stems:
            left_out.append(AnnotationError(f"{path.name} has no audio file of its name beside it"))
    for path in audio:
        try:
            with open_annotated(path) as (recording, annotations):
                found[path.name] = judge(recording, annotations)
        except RedrumError as err:
            left_out.append(err)
    return found, left_out


def score_folder(transcriber: Transcriber, folder: Path) -> FolderScore:
    """Return the scores of every recording of a folder that has annotations; the others are named.

    Raises:
        AudioError: the folder is missing or holds no audio file.
    """

    def judge(recording: Recording, annotations: list[Annotation]) -> TrackScore:
        return score_events(annotations, transcriber.events(transcriber.activations(recording)))

    return FolderScore(*judge_folder(folder, judge))


def read_annotations(path: Path) -> list[Annotation]:
    """Return the strokes of a CSV file, sorted by onset, whatever the order of its rows.

    Raises:
        AnnotationError: it is missing, lacks its columns, holds no stroke, or has a row that is none.
    """
    try:
        with TextIOWrapper(open_plain(path), encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if not set(_COLUMNS) <= set(reader.fieldnames or ()):
                raise AnnotationError(f"{path.name} does not begin with onset_s,class", hint=_CSV_HINT)
            strokes = sorted(_annotation(row, f"{path.name}, line {reader.line_num}") for row in reader)
    except FileNotFoundError as err:
        raise AnnotationError(f"{path.name} is missing: its recording has no annotations") from err
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise AnnotationError(f"{path.name} is no CSV file that can be read", hint=_CSV_HINT) from err
    if not strokes:
        raise AnnotationError(
            f"{path.name} holds no strokes, so its recording has no drums to measure",
            hint="write a row for each stroke, or take both files out of the folder",
        )
    return strokes


def _annotation(row: Mapping[str, str | None], where: str) -> Annotation:
    text, drum_class = row["onset_s"] or "", (row["class"] or "").strip()
    try:
        onset_s = float(text)
    except ValueError:
        onset_s = math.nan
    if not 0 <= onset_s < math.inf:
        raise AnnotationError(f"{where}: {text[:_MOST_SHOWN]!r} is no time", hint="give seconds, 0 or more")
    if drum_class not in (*CLASSES, OTHER):
        raise AnnotationError(
            f"{where}: there is no class {drum_class[:_MOST_SHOWN]!r}",
            hint=f"the classes are {', '.join(CLASSES)}, {OTHER}",
        )
    return Annotation(onset_s, drum_class, (row.get("articulation") or "").strip())


def score_events(annotations: Sequence[Annotation], detected: Sequence[DrumEvent]) -> TrackScore:
    """Return what was found of a recording's strokes: counts by class, and what was taken for what.

    An "other" stroke excuses one snare within 50 ms that no snare explains.
    """
    strokes = [DrumEvent(a.onset_s, a.drum_class, 1.0) for a in annotations if a.drum_class != OTHER]
    free = [DrumEvent(a.onset_s, "SD", 1.0) for a in annotations if a.drum_class == OTHER]
    counts = class_counts(strokes, detected, ignored=free, window_s=WINDOW_S)
    return TrackScore(counts, _confusion(annotations, detected))


def _confusion(annotations: Sequence[Annotation], detected: Sequence[DrumEvent]) -> Confusion:
    """Return how often each class was taken for each: first like is matched with like, then what is left."""
    confusion: Confusion = Counter()
    truth: list[tuple[float, str]] = []
    found: list[tuple[float, str]] = []
    for c in CLASSES:
        expected_s = sorted(a.onset_s for a in annotations if a.drum_class == c)
        detected_s = sorted(e.onset_s for e in detected if e.drum_class == c)
        pairs = matched_pairs(expected_s, detected_s, WINDOW_S)
        confusion[c, c] = len(pairs)
        matched, used = {i for i, _ in pairs}, {j for _, j in pairs}
        truth += [(t, c) for i, t in enumerate(expected_s) if i not in matched]
        found += [(t, c) for j, t in enumerate(detected_s) if j not in used]
    truth += [(a.onset_s, OTHER) for a in annotations if a.drum_class == OTHER]
    for i, j in _nearest_pairs(sorted(truth), sorted(found)):
        confusion[i, j] += 1
    return +confusion


def _nearest_pairs(
    truth: Sequence[tuple[float, str]], found: Sequence[tuple[float, str]]
) -> Iterator[tuple[str, str]]:
    """Yield the classes of what lies within a window of each other, nearest first, then of the rest."""
    near = []
    for i, (onset_s, _) in enumerate(truth):
        first = bisect_left(found, (onset_s - WINDOW_S, ""))
        for j in range(first, bisect_left(found, (onset_s + WINDOW_S, "~"))):
            near.append((abs(found[j][0] - onset_s), i, j))
    taken, used = set[int](), set[int]()
    for _, i, j in sorted(near):
        if i not in taken and j not in used:
            taken.add(i)
            used.add(j)
            yield truth[i][1], found[j][1]
    yield from ((c, NOTHING) for i, (_, c) in enumerate(truth) if i not in taken)
    yield from ((NOTHING, c) for j, (_, c) in enumerate(found) if j not in used)


def report(score: FolderScore) -> Iterator[str]:
    """Yield the lines of a report: F, precision and recall of each recording and pooled, then confusions."""
    width = max(len(name) for name in (*score.tracks, "all recordings")) + 2
    yield f"{'F (precision recall)':{width}}" + "".join(f"{name:19}" for name in (*CLASSES, "all"))
    for name, track in (*score.tracks.items(), ("all recordings", score.pooled)):
        columns = (*(track.counts[c] for c in CLASSES), pooled(track.counts))
        yield f"{name:{width}}" + "".join(f"{_cell(counts):19}" for counts in columns)
    yield ""
    yield f"{'strokes of, found as':{width}}" + "".join(f"{name:>6}" for name in (*CLASSES, NOTHING))
    confusion = score.pooled.confusion
    for true in (*CLASSES, OTHER, NOTHING):
        yield f"{true:{width}}" + "".join(f"{confusion[true, found]:6}" for found in (*CLASSES, NOTHING))


def _cell(counts: Counts) -> str:
    if not counts.expected + counts.detected:
        return NOTHING
    return f"{counts.f_measure:.3f} ({counts.precision:.2f} {counts.recall:.2f})"
