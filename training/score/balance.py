"""How loud and how balanced a result is against its source (`stroke` by its strokes, `frame` by its frames).

A recording's loudness and balance are its mix: they are the same whatever rhythm its drums play, but for what
the rhythm itself changes. Audio is mono, NumPy, shape (T,), at 44.1 kHz; times are seconds, levels decibels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.kits import SAMPLE_RATE
from training.score.measures import Audio, band_level_db
from transform.events import CLASSES, DrumEvent

_FEWEST_STROKES = 4  # of a class, in source and result
_STRONG = 0.9  # quantile of strokes, and of frames of the whole
_LOUD = 0.95  # quantile of frames in a band
_FRAME_S = 0.05
_RANGE_DB = 50.0  # frames farther below the loudest do not count
_FRAME_BANDS_HZ = ((30.0, 120.0), (200.0, 2_000.0), (3_000.0, 7_000.0), (9_000.0, 16_000.0))


@dataclass(frozen=True)
class Shift:
    """How far levels are from what they should be, in dB."""

    level_db: float  # signed: + is louder
    balance_db: float  # mean absolute deviation of the bands' or classes' shifts from their mean


def stroke_shift(
    audio: Audio, events: Sequence[DrumEvent], source: Audio, source_events: Sequence[DrumEvent]
) -> Shift | None:
    """Return how the strong strokes' levels, each class in its band, differ from the source's.

    Args:
        audio: the result.
        events: what truly plays in it.
        source: the recording whose drums play.
        source_events: what truly plays in that.

    Returns:
        The mean over the classes with four strokes in both, and their mean deviation from it; None without any.
    """
    shifts = []
    for drum_class in CLASSES:
        levels = [
            [band_level_db(sound, e.onset_s, drum_class) for e in strokes if e.drum_class == drum_class]
            for sound, strokes in ((audio, events), (source, source_events))
        ]
        if min(map(len, levels)) >= _FEWEST_STROKES:
            ours, theirs = (float(np.quantile(own, _STRONG)) for own in levels)
            shifts.append(ours - theirs)
    return _shift(np.mean(shifts), shifts) if shifts else None


def frame_shift(audio: Audio, source: Audio) -> Shift | None:
    """Return how the levels of frames of 50 ms differ from the source's: of the whole, and between four bands.

    A changed rhythm alone moves them by about 2 dB. None where either is silent.
    """
    levels = [_frame_levels(sound) for sound in (audio, source)]
    if levels[0] is None or levels[1] is None:
        return None
    whole, *bands = levels[0] - levels[1]
    return _shift(whole, bands)


def frame_levels_db(audio: Audio, band_hz: tuple[float, float] | None = None) -> NDArray[np.float64]:
    """Return the root mean square, in dB of full scale, of frames of 50 ms that follow each other.

    Args:
        audio: the recording; what is left of its last frame is left out.
        band_hz: counts alone; None: everything.
    """
    sound = np.asarray(audio, dtype=np.float64)
    if band_hz is not None:
        n_fft = 1 << len(sound).bit_length()  # a prime length would take many times as long
        spectrum, hz = np.fft.rfft(sound, n_fft), np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE)
        spectrum[(hz < band_hz[0]) | (hz >= band_hz[1])] = 0
        sound = np.fft.irfft(spectrum, n_fft)[: len(sound)]
    size = round(_FRAME_S * SAMPLE_RATE)
    n_frames = len(sound) // size
    power = np.square(sound[: n_frames * size]).reshape(n_frames, size).mean(axis=1)
    return np.asarray(10 * np.log10(power + 1e-14))


def _frame_levels(audio: Audio) -> NDArray[np.float64] | None:
    """Return the level of the strong frames, then those of the loud ones in each band; None for silence."""
    whole = frame_levels_db(audio)
    if not len(whole) or whole.max() < -100:
        return None
    counts = whole > whole.max() - _RANGE_DB
    bands = [np.quantile(frame_levels_db(audio, band)[counts], _LOUD) for band in _FRAME_BANDS_HZ]
    return np.array([np.quantile(whole[counts], _STRONG), *bands])


def _shift(level_db: np.floating | float, parts: Sequence[float]) -> Shift:
    return Shift(float(level_db), float(np.mean(np.abs(np.asarray(parts) - np.mean(parts)))))
