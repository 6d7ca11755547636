"""Fades, gain and pan of an item, over its sound."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from daw_bridge.session import Fade, Item
from transform.signal import ComputedSignal, Samples, Signal


def faded(sound: Signal, item: Item, sound_s: Callable[[float], float]) -> Signal:
    """Return a sound with the fades, the gain and the pan of its item.

    Args:
        sound: of the item.
        item: what says so.
        sound_s: returns the time in the sound at a time of the item.
    """
    rate, n_samples = sound.sample_rate, sound.n_samples
    n_in = round(sound_s(min(item.fade_in.length_s, item.length_s)) * rate)
    n_out = n_samples - round(sound_s(max(0.0, item.length_s - item.fade_out.length_s)) * rate)
    gains = np.full((sound.n_channels, 1), item.gain, np.float32)
    if sound.n_channels == 2:
        gains *= np.minimum(1.0, [[1.0 - item.pan], [1.0 + item.pan]]).astype(np.float32)
    if n_in <= 0 and n_out <= 0 and (gains == 1).all():
        return sound

    def read(start: int, stop: int) -> Samples:
        block = sound.read(start, stop) * gains
        if start < n_in:
            at = np.arange(start, min(stop, n_in)) / n_in
            block[:, : len(at)] *= _fade_gains(at, item.fade_in)
        if stop > n_samples - n_out:
            at = (n_samples - np.arange(max(start, n_samples - n_out), stop)) / n_out
            block[:, block.shape[1] - len(at) :] *= _fade_gains(at, item.fade_out)
        return block

    return ComputedSignal(read, n_samples, rate, sound.n_channels)


def _fade_gains(at: npt.NDArray[np.float64], fade: Fade) -> npt.NDArray[np.float32]:
    """Return the gains of REAPER's shape of a fade, 0 to 1, where it has got so far, `at` from 0 to 1."""
    at = np.clip(at, 0.0, 1.0)
    gains = {
        1: 1 - (1 - at) ** 2,
        2: at**2,
        3: 1 - (1 - at) ** 4,
        4: at**4,
        5: at**2 * (3 - 2 * at),
        6: np.where(at < 0.5, 8 * at**4, 1 - 8 * (1 - at) ** 4),
    }.get(fade.shape, at)
    return gains.astype(np.float32)
