"""Signals at another sample rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from transform.signal import BlockCache, Samples, Signal, read_blocks

_BLOCK_S = 4  # whole seconds begin on a sample at every rate
_CONTEXT_S = 1  # more than the filter is long
_N_CACHED = 2


class RateConverter:
    """Converts a sound to another rate, block by block from beginning to end; attacks stay where they are."""

    def __init__(self, n_samples: int, from_rate: int, to_rate: int, quality: str = "HQ") -> None:
        """Take the sound's length in samples, both rates in Hz, and soxr's name of the filter."""
        self._quality = quality
        self.n_samples = max(1, round(n_samples * to_rate / from_rate))  # of what is returned, all in all
        self._rates, self._n_unread, self._n_missing = (from_rate, to_rate), n_samples, self.n_samples
        self._stream: Any = None  # of soxr, at the first block

    def convert(self, block: Samples) -> Samples:
        """Return what the next samples (C, T) add to the result, perhaps nothing, shape (C, T')."""
        n_channels = len(block)
        self._n_unread -= block.shape[1]
        if self._rates[0] != self._rates[1]:
            import soxr  # machines that only train do without it

            self._stream = self._stream or soxr.ResampleStream(
                *self._rates, n_channels, dtype="float32", quality=self._quality
            )
            frames = np.ascontiguousarray(block.T)
            block = self._stream.resample_chunk(frames, last=not self._n_unread).reshape(-1, n_channels).T
        block = block[:, : self._n_missing]
        self._n_missing -= block.shape[1]
        if self._n_missing and not self._n_unread:
            block = np.pad(block, ((0, 0), (0, self._n_missing)))
        return block


def streamed(blocks: Iterable[Samples], signal: Signal, sample_rate: int) -> Iterator[Samples]:
    """Yield blocks that are all of a signal, or of what is made of it, at another rate.

    Together they hold `round(signal.n_samples * sample_rate / signal.sample_rate)` samples, and at least one.

    Args:
        blocks: shape (C, T), from beginning to end, at the signal's rate.
        signal: gives length and rate.
        sample_rate: of what is returned, in Hz.
    """
    converter = RateConverter(signal.n_samples, signal.sample_rate, sample_rate)
    for block in blocks:
        converted = converter.convert(block)
        if converted.shape[1]:
            yield converted


class Resampled:
    """A signal at another rate: any region is the same however it is read; outside, the filter rings."""

    def __init__(self, signal: Signal, sample_rate: int, quality: str = "HQ") -> None:
        """Take a signal, the rate of what is returned, and soxr's name of the filter."""
        self._quality = quality
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
        out = np.asarray(
            soxr.resample(with_context.T, from_rate, to_rate, quality=self._quality), dtype=np.float32
        )
        return np.ascontiguousarray(out.T[:, _CONTEXT_S * to_rate : (_CONTEXT_S + _BLOCK_S) * to_rate])
