"""Sounds at another sample rate, read stretch by stretch."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np

from transform.audio import Samples

_CELL_S = 4  # whole seconds begin on a sample at every rate
_MARGIN_S = 1  # more than the filter is long
_KEPT_CELLS = 2


class Resampled:
    """A sound at another rate: any stretch of it can be read, and comes out the same however it is read."""

    def __init__(self, read: Callable[[int, int], Samples], sample_rate: int, to_rate: int) -> None:
        """Take a sound.

        Args:
            read: returns its samples [start, stop), shape (C, stop - start), zeros outside of it.
            sample_rate: of what is read, in Hz.
            to_rate: of what this returns, in Hz.
        """
        self._read_sound, self._rates = read, (sample_rate, to_rate)
        self._cell = lru_cache(_KEPT_CELLS)(self._resampled)

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) at the new rate, shape (C, stop - start); aligned to the sample."""
        sample_rate, to_rate = self._rates
        if sample_rate == to_rate:
            return self._read_sound(start, stop)
        size = _CELL_S * to_rate
        first, last = start // size, max(start, stop - 1) // size
        whole = np.concatenate([self._cell(number) for number in range(first, last + 1)], axis=1)
        return whole[:, start - first * size : stop - first * size]

    def _resampled(self, number: int) -> Samples:
        import soxr  # machines that only train do without it

        sample_rate, to_rate = self._rates
        begin_s = number * _CELL_S
        around = self._read_sound(
            (begin_s - _MARGIN_S) * sample_rate, (begin_s + _CELL_S + _MARGIN_S) * sample_rate
        )
        out = np.asarray(soxr.resample(around.T, sample_rate, to_rate, quality="HQ"), dtype=np.float32)
        return np.ascontiguousarray(out.T[:, _MARGIN_S * to_rate : (_MARGIN_S + _CELL_S) * to_rate])
