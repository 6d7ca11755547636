"""How well a separator works on real recordings, whose stems nobody knows.

A stem should hold little before its own strokes and much after them; and a recording that plays its own rhythm
from its separated hits should be the recording again.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.data.kits import SAMPLE_RATE
from training.score.measures import log_mel_distance_db
from training.score.recordings import Annotation, judge_folder
from transform.audio import Recording, Samples
from transform.engine import Redrummer
from transform.errors import RedrumError
from transform.events import CLASSES
from transform.settings import RenderSettings

LONGEST_S = 30.0  # of a recording, from its beginning
_WINDOW_S = 0.03
_APART_S = 0.1  # from the class's stroke before: what rings from it is no leak
_FEWEST = 4  # strokes
_FLOOR = 1e-12

Row = dict[str, float | None]  # by class, "mean" over classes, and "own rhythm"


def leakage_db(stem: Samples, onsets_s: Sequence[float], sample_rate: int) -> float | None:
    """Return the median level of a stem in the 30 ms before its strokes, against the 30 ms after, in dB.

    Strokes within 100 ms of the one before are left out; None where fewer than four are left.

    Args:
        stem: shape (C, T).
        onsets_s: of the class's strokes, sorted.
        sample_rate: in Hz.
    """
    alone = [t for before, t in zip([-np.inf, *onsets_s], onsets_s, strict=False) if t - before >= _APART_S]
    n_window = round(_WINDOW_S * sample_rate)
    levels = []
    for onset_s in alone:
        at = round(onset_s * sample_rate)
        if at >= n_window and at + n_window <= stem.shape[1]:
            before, after = (float(np.square(stem[:, i : i + n_window]).sum()) for i in (at - n_window, at))
            levels.append(10 * np.log10((before + _FLOOR) / (after + _FLOOR)))
    return float(np.median(levels)) if len(levels) >= _FEWEST else None


def leakage_table(redrummer: Redrummer, folder: Path) -> tuple[dict[str, Row], list[RedrumError]]:
    """Return a row for each annotated recording of a folder, and one of their means; and what was left out.

    Columns are the leakage of each class's stem, its mean, and "own rhythm": the log-mel distance between the
    recording and itself, redrummed with the rhythm that is detected in it, in dB.

    Raises:
        AudioError: the folder is missing or holds no audio file.
    """

    def judge(recording: Recording, annotations: Sequence[Annotation]) -> Row:
        mono = np.concatenate(list(recording.mono_blocks(SAMPLE_RATE)))[: round(LONGEST_S * SAMPLE_RATE)]
        return _row(redrummer, Recording.from_samples(mono, SAMPLE_RATE, recording.name), annotations)

    table, left_out = judge_folder(folder, judge)
    columns = (*CLASSES, "mean", "own rhythm")
    found = {column: [v for row in table.values() if (v := row[column]) is not None] for column in columns}
    return table | {"all recordings": {c: float(np.mean(v)) if v else None for c, v in found.items()}}, left_out


def _row(redrummer: Redrummer, recording: Recording, annotations: Sequence[Annotation]) -> Row:
    n_samples = recording.n_samples
    stems = redrummer.separate(recording).read(0, n_samples)
    row: Row = {}
    for stem, drum_class in zip(stems, CLASSES, strict=True):
        onsets_s = [a.onset_s for a in annotations if a.drum_class == drum_class]
        row[drum_class] = leakage_db(stem, onsets_s, SAMPLE_RATE)
    levels = [level for level in row.values() if level is not None]
    rhythm = redrummer.listen(recording).at_attacks().rhythm()
    own = redrummer.redrum(recording, rhythm, RenderSettings()).read(0, n_samples)[0]
    distance_db = log_mel_distance_db(own, recording.read(0, n_samples)[0])
    return row | {"mean": float(np.mean(levels)) if levels else None, "own rhythm": distance_db}
