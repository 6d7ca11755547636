"""What a hit sounds like in a few numbers: the levels of its beginning in half octaves, and its decay."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from transform.signal import Samples

_EDGES_HZ = np.geomspace(40, 16_000, 17)
_LENGTH_S = 0.09
_FLOOR_DB = -60.0  # against the strongest band: what is softer is noise
_FRAME_S = 0.01
_DECAY_DB = 20.0  # over which a decay is measured
BAND_OCTAVES = np.log2(np.sqrt(_EDGES_HZ[:-1] * _EDGES_HZ[1:]) / 1_000.0)  # of the bands' middles, from 1 kHz


def band_levels_db(sound: Samples, sample_rate: int, attack: int) -> NDArray[np.float64]:
    """Return the levels of a hit's beginning in 16 bands, their mean removed; NaN where the rate has no band.

    Args:
        sound: shape (C, T).
        sample_rate: in Hz.
        attack: the sample at which the hit begins.
    """
    beginning = np.zeros((len(sound), round(_LENGTH_S * sample_rate)))
    found = sound[:, attack : attack + beginning.shape[1]]
    beginning[:, : found.shape[1]] = found
    window = np.hanning(2 * beginning.shape[1])[beginning.shape[1] :]
    power = (np.abs(np.fft.rfft(beginning * window)) ** 2).mean(axis=0)
    band = np.searchsorted(_EDGES_HZ, np.fft.rfftfreq(beginning.shape[1], 1 / sample_rate)) - 1
    inside = (band >= 0) & (band < len(BAND_OCTAVES))
    energy = np.bincount(band[inside], weights=power[inside], minlength=len(BAND_OCTAVES))
    levels_db = 10 * np.log10(np.maximum(energy, energy.max() * 10 ** (_FLOOR_DB / 10)) + 1e-20)
    levels_db[_EDGES_HZ[1:] > 0.45 * sample_rate] = np.nan
    return np.asarray(levels_db - np.nanmean(levels_db))


def distance_db(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return how far apart the levels of two hits are, in the bands that both have; 0 where there is none."""
    difference = one - other
    shared = np.isfinite(difference)
    if not shared.any():
        return 0.0
    return float(np.mean(np.abs(difference[shared] - np.mean(difference[shared]))))


def decay_db_s(sound: Samples, sample_rate: int, attack: int) -> float:
    """Return how fast a hit decays over its first 20 dB, in dB a second; 0 where it is too short to say."""
    frame = max(1, round(_FRAME_S * sample_rate))
    rest = sound[:, attack:]
    n_frames = rest.shape[1] // frame
    if n_frames < 3:
        return 0.0
    energy = (rest[:, : n_frames * frame].reshape(len(rest), n_frames, frame) ** 2).mean(axis=(0, 2))
    level_db = 10 * np.log10(energy + 1e-12)
    first = int(np.argmax(level_db))
    after = level_db[first:]
    gone = np.flatnonzero(after < after[0] - _DECAY_DB)
    last = int(gone[0]) if len(gone) else len(after) - 1
    if last < 1 or after[0] <= after[last]:
        return 0.0
    return float((after[0] - after[last]) / (last * frame / sample_rate))
