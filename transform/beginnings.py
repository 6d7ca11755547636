"""Strokes on the first samples of a recording, as loops are cut: their level says whether they are strokes.

Nothing rises there, as nothing is before: to the transcriber a stroke on the first sample and the tail of an
earlier one look alike. But a stroke is about as loud as the others of its class, and a tail is softer.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from transform.audio import Recording
from transform.events import CLASSES, DrumEvent
from transform.velocity import band_level

_FRAMES = 6  # of the transcriber: what peaks in them is a stroke on the first samples, or a tail
_LATER_S = 0.06
# The log odds of a stroke, over those that are demanded: a logistic regression on 560 loops of validation kits
# that begin on a stroke or in a tail (docs/method.md, decision 32), by the network's and by the level.
_AT_LEAST, _BY_NETWORK, _BY_DB, _WITHOUT_OTHERS = 0.5, 0.75, 0.143, -0.7
_LEVELS_DB = (-20.0, 3.0)  # against the class's other strokes: further apart says no more


def at_beginning(
    recording: Recording, probability: np.ndarray, events: Sequence[DrumEvent], thresholds: Sequence[float]
) -> np.ndarray:
    """Return the probability of onsets (5, F) in which that of a first stroke follows from its level, too.

    Args:
        recording: what is transcribed.
        probability: of the network, shape (5, F).
        events: what was detected by it.
        thresholds: of the classes.
    """
    changed = probability.copy()
    for row, drum_class, threshold in zip(changed, CLASSES, thresholds, strict=True):
        first = row[:_FRAMES]
        if first.max() < row[_FRAMES : 2 * _FRAMES].max(initial=0.0):
            continue  # what follows is the stroke
        others = [e.onset_s for e in events if e.drum_class == drum_class and e.onset_s > _LATER_S]
        demanded = _log_odds(np.float64(threshold))
        over = float(_log_odds(first.max()) - demanded)
        likely = _AT_LEAST + _BY_NETWORK * over
        if others:
            usual = float(np.median([band_level(recording, drum_class, onset_s) for onset_s in others]))
            level_db = 20 * np.log10(max(band_level(recording, drum_class, 0.0), 1e-9) / max(usual, 1e-9))
            likely += _BY_DB * float(np.clip(level_db, *_LEVELS_DB))
        else:
            likely += _WITHOUT_OTHERS
        first[:] = 1 / (1 + np.exp(-(_log_odds(first) + likely - over)))
    return changed


def _log_odds(probability: np.ndarray) -> np.ndarray:
    clipped = np.clip(probability, 1e-3, 1 - 1e-3)
    return np.asarray(np.log(clipped / (1 - clipped)))
