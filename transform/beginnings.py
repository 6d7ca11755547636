"""Strokes on the first samples of a recording, as loops are cut: their level says whether they are strokes.

Nothing rises there, as nothing is before: to the transcriber a stroke on the first sample and the tail of an
earlier one look alike. But a stroke is about as loud as the others of its class, and a tail is softer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from transform.audio import Recording
from transform.events import CLASSES, DrumEvent
from transform.velocity import band_level

_FRAMES = 6  # of the transcriber: what peaks in them is a stroke on the first samples, or a tail
_LATER_S = 0.06
# The log odds of a stroke, over those that are demanded: a logistic regression on 560 loops of validation kits
# that begin on a stroke or in a tail (docs/method.md, decision 32), by the network's and by the level.
_AT_LEAST, _BY_NETWORK, _BY_DB, _WITHOUT_OTHERS = 0.35, 0.75, 0.143, -0.7
_LEVELS_DB = (-20.0, 3.0)  # against the class's other strokes: further apart says no more
_MOST_OTHERS = 30
_FIRST_S, _RISE_DB = 0.01, 20.0  # where what follows is so much louder, there is a rise to be seen


def at_beginning(
    recording: Recording, probability: np.ndarray, events: Sequence[DrumEvent], thresholds: Sequence[float]
) -> np.ndarray:
    """Return the probability of onsets (5, F) in which that of a first stroke follows from its level, too.

    A cymbal only becomes less probable: other drums are loud in its band. A recording that begins softly, or in
    silence, is as the network has it.

    Args:
        recording: what is transcribed.
        probability: of the network, shape (5, F).
        events: what was detected by it.
        thresholds: of the classes.
    """
    if _has_rise(recording):
        return probability
    changed = probability.copy()
    for row, drum_class, threshold in zip(changed, CLASSES, thresholds, strict=True):
        first = row[:_FRAMES]
        if first.max() < row[_FRAMES : 2 * _FRAMES].max(initial=0.0):
            continue  # what follows is the stroke
        over = float(_log_odds(first.max()) - _log_odds(threshold))
        likely = _AT_LEAST + _BY_NETWORK * over
        if over < 0 and (drum_class == "CY" or likely + _BY_DB * _LEVELS_DB[1] <= 0):
            continue  # it is none, whatever its level
        others = [e.onset_s for e in events if e.drum_class == drum_class and e.onset_s > _LATER_S]
        likely += _BY_DB * _level_db(recording, drum_class, others) if others else _WITHOUT_OTHERS
        first[:] = 1 / (1 + np.exp(-(_log_odds(first) + likely - over)))
    return changed


def _has_rise(recording: Recording) -> bool:
    """Tell whether what begins a recording is much softer than what follows at once."""
    n_first, n_all = (round(s * recording.sample_rate) for s in (_FIRST_S, _LATER_S))
    sound = np.abs(recording.mono(0, n_all))
    return float(sound[:n_first].max(initial=0.0)) < 10 ** (-_RISE_DB / 20) * float(sound.max(initial=0.0))


def _level_db(recording: Recording, drum_class: str, others_s: Sequence[float]) -> float:
    """Return the level of the beginning in a class's band against the median of the class's other strokes."""
    chosen = others_s[:: -(-len(others_s) // _MOST_OTHERS)]
    usual = float(np.median([band_level(recording, drum_class, onset_s) for onset_s in chosen]))
    first = band_level(recording, drum_class, 0.0)
    return float(np.clip(20 * np.log10(max(first, 1e-9) / max(usual, 1e-9)), *_LEVELS_DB))


def _log_odds(probability: npt.ArrayLike) -> np.ndarray:
    clipped = np.clip(probability, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(clipped / (1 - clipped)))
