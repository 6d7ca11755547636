"""How hard the strokes of a recording are struck, measured by their levels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from transform.audio import Recording
from transform.events import CLASSES, DrumEvent

LEVEL_EXPONENT = 1.6  # amplitude goes as velocity to this power: about what drum machines do

# Where a class's strokes are compared with one another: chosen by the correlation with true velocities on
# validation kits (docs/method.md, decision 31), as are the time over which their level is taken and the spread.
_BANDS_HZ = {
    "KD": (40.0, 330.0),
    "SD": (330.0, 5_400.0),
    "TT": (70.0, 400.0),
    "HH": (6_600.0, 12_000.0),
    "CY": (8_000.0, 18_000.0),
}
_LEVEL_S, _RISE_S = 0.093, 0.002
_BY_LEVEL, _BY_NETWORK = 0.6, 0.25  # how far either sets a stroke apart from the strong ones
_STRONG = 0.9  # quantile of a class's strokes that keeps its transcribed velocity
_SOFTEST = 0.02


def with_measured_velocities(recording: Recording, events: Sequence[DrumEvent]) -> list[DrumEvent]:
    """Return the events with velocities measured by their levels.

    The transcriber estimates how hard a class is struck on the whole, and hardly one stroke from the other: its
    strong strokes keep what is transcribed, and the level in the class's band sets the others apart from them.
    What the network transcribes counts a little: it makes soft what it is not sure of.
    """
    levels = np.array([band_level(recording, event.drum_class, event.onset_s) for event in events])
    transcribed = np.array([event.velocity for event in events])
    measured = transcribed.copy()
    for drum_class in CLASSES:
        own = np.array([event.drum_class == drum_class for event in events], dtype=bool)
        if not own.any() or (strong := float(np.quantile(levels[own], _STRONG))) <= 0:
            continue
        usual = float(np.quantile(transcribed[own], _STRONG))
        by_level = (levels[own] / strong) ** (_BY_LEVEL / LEVEL_EXPONENT)
        measured[own] = usual * by_level * (transcribed[own] / usual) ** _BY_NETWORK
    return [
        replace(event, velocity=float(velocity))
        for event, velocity in zip(events, measured.clip(_SOFTEST, 1.0), strict=True)
    ]


def band_level(recording: Recording, drum_class: str, onset_s: float) -> float:
    """Return the level of what follows an onset, 93 ms of it, in the band of a class."""
    sample_rate = recording.sample_rate
    n_samples = 2 ** round(np.log2(_LEVEL_S * sample_rate))
    n_rise = round(_RISE_S * sample_rate)
    start = round(onset_s * sample_rate) - n_rise
    hit = recording.read_views(start, start + n_samples)
    window = np.ones(n_samples)
    window[:n_rise] = np.linspace(0, 1, n_rise, endpoint=False)
    window[n_samples // 2 :] = np.cos(np.linspace(0, np.pi / 2, n_samples - n_samples // 2)) ** 2
    low, high = _BANDS_HZ[drum_class]
    low = min(low, sample_rate / 4)  # of a recording that has no such band, its upper half
    spacing = sample_rate / n_samples
    band = slice(round(low / spacing), max(round(low / spacing) + 1, round(high / spacing)))
    return float(np.linalg.norm(np.fft.rfft(hit * window)[:, band]))
