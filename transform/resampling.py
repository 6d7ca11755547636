"""Signals at another sample rate."""

from __future__ import annotations

import numpy as np

from transform.signal import BlockCache, Samples, Signal, read_blocks

_BLOCK_S = 4  # whole seconds begin on a sample at every rate
_CONTEXT_S = 1  # more than the filter is long
_N_CACHED = 2


class Resampled:
    """A signal at another rate: any region is the same however it is read; outside, the filter rings."""

    def __init__(self, signal: Signal, sample_rate: int) -> None:
        """Take a signal; `sample_rate` is that of what is returned, in Hz."""
        self._signal, self.sample_rate, self.n_channels = signal, sample_rate, signal.n_channels
        self.n_samples = round(signal.n_samples * sample_rate / signal.sample_rate)
        self._cache: BlockCache[int, Samples] = BlockCache(_N_CACHED)

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) at the new rate, shape (C, stop - start); only read them."""
        if self.sample_rate == self._signal.sample_rate:
            return self._signal.read(start, stop)
        return read_blocks(
            lambda n: self._cache.get(n, self._resampled), _BLOCK_S * self.sample_rate, start, stop
        )

    def _resampled(self, number: int) -> Samples:
        import soxr  # machines that only train do without it

        from_rate, to_rate = self._signal.sample_rate, self.sample_rate
        begin_s = number * _BLOCK_S
        end_s = begin_s + _BLOCK_S + _CONTEXT_S
        with_context = self._signal.read((begin_s - _CONTEXT_S) * from_rate, end_s * from_rate)
        out = np.asarray(soxr.resample(with_context.T, from_rate, to_rate, quality="HQ"), dtype=np.float32)
        return np.ascontiguousarray(out.T[:, _CONTEXT_S * to_rate : (_CONTEXT_S + _BLOCK_S) * to_rate])
