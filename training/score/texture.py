"""What makes a generated sound a bad copy though its levels are right: a buzz, smooth noise, hiss.

Audio is mono, NumPy, shape (T,), at 44.1 kHz. Most are measured above 4 kHz, where drums are noise; a
generator that repeats itself from latent frame to latent frame, below 2 kHz. A measure is None where nothing
sounds there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.data.kits import SAMPLE_RATE
from training.score.balance import frame_levels_db
from training.score.measures import Audio

_LOW_HZ, _HIGH_HZ = 4_000.0, 20_000.0
_FRAME = 2048  # 46 ms
_LAGS_S = (0.001, 0.012)
_FLAT_HZ = 1_400.0  # the spectrum is levelled over so much: wider than what a buzz's harmonics are apart
_ACTIVE_DB = 40.0  # frames farther below the loudest do not count
_BIN, _HOP = 1024, 512  # of the spectra in which speckle is measured
_LOCAL = (9, 9)  # frames and bins of their local mean
_FRAME_RATE_HZ = SAMPLE_RATE / 512  # of the latents of `hires`
_PULSE_BANDS_HZ = ((100.0, 500.0), (500.0, 2_000.0))
_PULSE_FRAME = 8192  # its bins tell multiples of the frame rate from what lies between them
_NEAR, _FAR = 0.12, 0.38  # of the frame rate, from a multiple
_GAP, _LOUD = 0.05, 0.95  # quantiles of frames


def periodicity(audio: Audio) -> float | None:
    """Return how much the highs repeat every 1 to 12 ms: noise has about .12, a buzz comes near 1.

    The median over active frames of the highest autocorrelation of the whitened band.
    """
    frames = _frames(audio, _FRAME, _FRAME // 2) * np.hanning(_FRAME)
    power = np.abs(np.fft.rfft(frames, 2 * _FRAME)) ** 2
    hz = np.fft.rfftfreq(2 * _FRAME, 1 / SAMPLE_RATE)
    band = (hz >= _LOW_HZ) & (hz < _HIGH_HZ)
    power = power[_is_active(power[:, band].sum(axis=1))]
    if not len(power):
        return None
    flat = _smooth(power, round(_FLAT_HZ * 2 * _FRAME / SAMPLE_RATE))
    white = power * band / (flat + 1e-9 * power.max(axis=1, keepdims=True))
    correlation = np.fft.irfft(white)
    first, last = (round(lag_s * SAMPLE_RATE) for lag_s in _LAGS_S)
    window = np.fft.irfft(np.abs(np.fft.rfft(np.hanning(_FRAME), 2 * _FRAME)) ** 2)
    lags = slice(first, last + 1)
    return float(np.median((correlation[:, lags] / correlation[:, :1] * window[0] / window[lags]).max(axis=1)))


def pulses_db(audio: Audio) -> float | None:
    """Return by how much multiples of the latents' frame rate stand out from 100 Hz to 2 kHz: noise has 0.

    The median over active frames of the mean power near multiples, against that in the middles between them; of
    two bands the higher one, as a generator that repeats itself in the lows alone buzzes, too.
    """
    frames = _frames(audio, _PULSE_FRAME, _PULSE_FRAME // 4) * np.hanning(_PULSE_FRAME)
    power = np.abs(np.fft.rfft(frames, 2 * _PULSE_FRAME)) ** 2
    hz = np.fft.rfftfreq(2 * _PULSE_FRAME, 1 / SAMPLE_RATE)
    bands = (power[:, (hz > first) & (hz < last)] for first, last in _PULSE_BANDS_HZ)
    places = (hz[(hz > first) & (hz < last)] for first, last in _PULSE_BANDS_HZ)
    found = [_standing_out_db(band, place) for band, place in zip(bands, places, strict=True)]
    return max((db for db in found if db is not None), default=None)


def _standing_out_db(power: NDArray[np.floating], hz: NDArray[np.floating]) -> float | None:
    """Return by how much multiples of the frame rate stand out of a band's power, shape (frames, bins)."""
    power = power[_is_active(power.sum(axis=1))]
    if not len(power):
        return None
    off = np.abs((hz / _FRAME_RATE_HZ + 0.5) % 1 - 0.5)
    near, far = (power[:, chosen].mean(axis=1) for chosen in (off < _NEAR, off > _FAR))
    return float(10 * np.log10(np.median(near / (far + 1e-9 * near.max()))))


def speckle_db(audio: Audio) -> float | None:
    """Return the standard deviation of the highs' log spectra around their local mean: noise has 5.5 dB."""
    frames = _frames(audio, _BIN, _HOP) * np.hanning(_BIN)
    hz = np.fft.rfftfreq(_BIN, 1 / SAMPLE_RATE)
    power = np.abs(np.fft.rfft(frames)[:, (hz >= _LOW_HZ) & (hz < _HIGH_HZ)]) ** 2
    is_active = _is_active(power.sum(axis=1))
    if not is_active.any():
        return None
    levels_db = 10 * np.log10(power + 1e-9 * power.max())
    local_db = _smooth(_smooth(levels_db, _LOCAL[1]).T, _LOCAL[0]).T
    return float(np.std((levels_db - local_db)[is_active]))


def hiss_db(audio: Audio) -> float | None:
    """Return the level of the highs in gaps between strokes against that of loud frames."""
    levels_db = frame_levels_db(audio, (_LOW_HZ, _HIGH_HZ))
    if not len(levels_db) or levels_db.max() < -100:
        return None
    gap_db, loud_db = np.quantile(levels_db, (_GAP, _LOUD))
    return float(gap_db - loud_db)


def _frames(audio: Audio, size: int, hop: int) -> NDArray[np.float64]:
    padded = np.pad(np.asarray(audio, dtype=np.float64), (0, max(0, size - len(audio))))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop]


def _is_active(energy: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((energy > 1e-12) & (energy > energy.max() * 10 ** (-_ACTIVE_DB / 10)))


def _smooth(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return the moving mean over the last axis, of what there is at its ends."""
    n = values.shape[-1]
    total = np.pad(np.cumsum(values, axis=-1), [(0, 0)] * (values.ndim - 1) + [(1, 0)])
    place = np.arange(n)
    low, high = np.maximum(0, place - width // 2), np.minimum(n, place + width // 2 + 1)
    return np.asarray((total[..., high] - total[..., low]) / (high - low))
