"""What makes a region of sound one clean hit: it only falls, it ends, and where it was cut it rings on."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from transform.audio import Samples

FADE_S = 0.006  # at the end of a hit that is cut by the next
LEVEL_S = 0.06  # a hit's level is that of its beginning
QUIET_DB = -50.0  # against a hit's own level: here it has died away
_SWELL_FROM_S = 0.035  # after its attack a drum only falls
_SWELL_DB = 1.0  # how far the level of a ringing drum may rise
_SWELL_WINDOW_S = 0.0232
_SWELL_EDGES_HZ = np.geomspace(80, 16_000, 23)


def beginning_level(sound: Samples, sample_rate: int) -> float:
    """Return the root mean square of a hit's beginning."""
    return rms(sound[:, : round(LEVEL_S * sample_rate)])


def rms(sound: Samples) -> float:
    """Return the root mean square of a sound, 0 where there is none."""
    return float(np.sqrt(np.mean(sound**2))) if sound.size else 0.0


def without_swells(sound: Samples, sample_rate: int, attack: int) -> Samples:
    """Return a hit that, once it has begun, grows louder again in no band: what does is another drum.

    It leaks into the stem, or the transcription has missed it. Up to its attack's end the sound is as it was.

    Args:
        sound: shape (C, T).
        sample_rate: in Hz.
        attack: where the hit begins, in samples.
    """
    size = 1 << round(np.log2(_SWELL_WINDOW_S * sample_rate))
    hop = size // 4
    n_frames = -(-sound.shape[1] // hop) + 3
    # Frame k has its middle at sample (k - 1) * hop.
    first = -(-(attack + round(_SWELL_FROM_S * sample_rate)) // hop) + 2
    if first + 1 >= n_frames:
        return sound
    window = np.hanning(size + 1)[:-1].astype(np.float32)
    padded = np.pad(sound, ((0, 0), (3 * hop, n_frames * hop - sound.shape[1])))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)[:, ::hop][:, :n_frames]
    spectra = np.fft.rfft(frames * window)
    band, starts = _swell_bands(size, sample_rate)
    power = np.square(np.abs(spectra)).mean(axis=0)
    level = np.pad(np.add.reduceat(power, starts, axis=1), ((1, 1), (0, 0)), mode="edge") + 1e-14
    level = 0.25 * level[:-2] + 0.5 * level[1:-1] + 0.25 * level[2:]
    gain = np.ones_like(level)
    allowed = np.minimum.accumulate(level[first:]) * 10 ** (_SWELL_DB / 10)
    gain[first:] = np.sqrt(np.minimum(1.0, allowed / level[first:]))
    lost = np.fft.irfft(spectra * (1 - gain[:, band])).astype(np.float32) * (window / 1.5)
    swells = np.zeros_like(padded)
    for k in range(4):  # frames that do not overlap
        own = lost[:, k::4].reshape(len(sound), -1)
        swells[:, k * hop : k * hop + own.shape[1]] += own
    return sound - swells[:, 3 * hop :][:, : sound.shape[1]]


@lru_cache(maxsize=8)
def _swell_bands(size: int, sample_rate: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the band of each bin of a spectrum, and the bins at which bands begin; none is empty."""
    hz = np.arange(size // 2 + 1) * sample_rate / size
    band = np.unique(np.searchsorted(_SWELL_EDGES_HZ, hz, side="right"), return_inverse=True)[1]
    return band, np.flatnonzero(np.diff(band, prepend=-1))


def with_end(sound: Samples, sample_rate: int, lead: int, longest_s: float) -> Samples:
    """Return a hit's sound with an end: where it has died away, else with its cut tail drawn out.

    Args:
        sound: shape (C, T).
        sample_rate: in Hz.
        lead: the sample at which the attack begins.
        longest_s: the most that the whole may last.
    """
    level = beginning_level(sound[:, lead:], sample_rate)
    block = max(1, round(0.01 * sample_rate))
    n_blocks = sound.shape[1] // block
    energy = (sound[:, : n_blocks * block].reshape(len(sound), n_blocks, block) ** 2).mean(axis=(0, 2))
    loud = np.flatnonzero(energy > level**2 * 10 ** (QUIET_DB / 10))
    n_loud = int(loud[-1]) + 1 if len(loud) else 0
    if n_loud + 1 < n_blocks:
        sound = sound[:, : (n_loud + 1) * block].copy()
    elif level > 0 and sound.shape[1] < lead + round(longest_s * sample_rate):
        sound = with_drawn_out_tail(sound, sample_rate, level, longest_s)
    else:
        sound = sound.copy()
    fade = min(sound.shape[1] - lead, round(FADE_S * sample_rate))
    if fade > 0:
        sound[:, -fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    return sound


def with_drawn_out_tail(sound: Samples, sample_rate: int, level: float, longest_s: float) -> Samples:
    """Return a hit that was cut in mid-ring, going on as it rang: its end to and fro under its decay.

    The decay is that measured over the end of the hit, at least 60 dB a second, so that nothing stands still.

    Args:
        sound: shape (C, T).
        sample_rate: in Hz.
        level: the hit's own level; what is 50 dB below it counts as gone.
        longest_s: the most that the whole may last.
    """
    length = sound.shape[1]
    grain = min(round(0.08 * sample_rate), length // 3)
    if grain < round(0.008 * sample_rate):
        return sound
    end, before = sound[:, -grain:], sound[:, -2 * grain : -grain]
    end_level, before_level = (float(np.sqrt(np.mean(x**2))) for x in (end, before))
    if end_level < level * 10 ** (QUIET_DB / 20):
        return sound
    grain_s = grain / sample_rate
    measured = 20 * np.log10(max(before_level, 1e-9) / max(end_level, 1e-9)) / grain_s
    decay_db_s = float(np.clip(measured, 60.0, 600.0))
    left_s = (20 * np.log10(end_level / level) - QUIET_DB) / decay_db_s
    extra = min(round(left_s * sample_rate), round(longest_s * sample_rate) - length)
    if extra <= 0:
        return sound
    time_s = np.arange(grain, dtype=np.float32) / sample_rate
    # Flattened, so that the mirror image does not swell.
    flat = end * 10 ** (min(max(measured, 0.0), decay_db_s) * (time_s - grain_s) / 20)
    to_and_fro = np.concatenate((flat[:, ::-1], flat), axis=1)
    repeated = np.tile(to_and_fro, (1, extra // (2 * grain) + 1))[:, :extra]
    tail = repeated * 10 ** (-decay_db_s * np.arange(extra) / sample_rate / 20)
    return np.concatenate((sound, tail.astype(np.float32)), axis=1)
