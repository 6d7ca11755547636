"""Lazy signals: sound that is read region by region, in blocks with their context, the last of them cached."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]  # (C, T), full scale is 1

_NOISE = 1e-3  # of a sample, more than sums of times have

_Key = TypeVar("_Key", bound=Hashable)
_Block = TypeVar("_Block")
_Number = TypeVar("_Number", bound=np.generic)


class Signal(Protocol):
    """Sound that is computed on request: any region of it can be read, in memory that does not grow with it."""

    @property
    def n_samples(self) -> int:
        """Where the last sound has ended; 0 where nothing sounds."""

    @property
    def sample_rate(self) -> int:
        """Samples per second and channel."""

    @property
    def n_channels(self) -> int:
        """The number of channels."""

    def read(self, start: int, stop: int, /) -> Samples:
        """Return samples [start, stop), shape (C, stop - start), zeros outside the signal."""


@dataclass(frozen=True)
class ComputedSignal:
    """A signal that a function computes."""

    read: Callable[[int, int], Samples]
    n_samples: int
    sample_rate: int
    n_channels: int


def nearest_sample(time_s: float, sample_rate: int) -> int:
    """Return the sample nearest to a time; of a time between two, the later.

    Times are sums of others: one in the middle has their noise, which must not decide. Borders that are rounded
    here, each once, neither overlap nor leave gaps, wherever something is cut.
    """
    return math.floor(time_s * sample_rate + 0.5 + _NOISE)


def zeros_outside(
    inside: Callable[[int, int], Samples], start: int, stop: int, shape: tuple[int, int]
) -> Samples:
    """Return samples [start, stop) of a signal in an array of their own, zeros outside the signal.

    Args:
        inside: returns a region of at least one sample, which lies inside the signal.
        start: may be negative.
        stop: may lie after the end.
        shape: of the whole signal, (C, T).
    """
    assert start <= stop, f"read from {start} to {stop}"
    out = np.zeros((shape[0], stop - start), dtype=np.float32)
    first, last = max(start, 0), min(stop, shape[1])
    if first < last:
        out[:, first - start : last - start] = inside(first, last)
    return out


class Block(NamedTuple):
    """Samples or frames [start, stop), and [begin, end): those with their context."""

    start: int
    stop: int
    begin: int
    end: int

    @classmethod
    def of(cls, start: int, stop: int, *, context: int, length: int) -> Block:
        """Return a block with so much context on either side as there is in a whole of `length`."""
        return cls(start, stop, max(0, start - context), min(length, stop + context))

    @property
    def core(self) -> slice:
        """Where the block lies in itself with its context."""
        return slice(self.start - self.begin, self.stop - self.begin)


def overlapping_blocks(length: int, size: int, context: int = 0) -> Iterator[Block]:
    """Yield blocks that tile [0, length), each of `size` but the last, with context on either side."""
    for start in range(0, length, size):
        yield Block.of(start, min(start + size, length), context=context, length=length)


def blocks_of(signal: Signal, size: int) -> Iterator[Samples]:
    """Yield a signal from beginning to end, in blocks of `size` samples but the last."""
    for block in overlapping_blocks(signal.n_samples, size):
        yield signal.read(block.start, block.stop)


def added(parts: Samples) -> Samples:
    """Return the sum of parts (N, C, T), shape (C, T); added again in their order they give its bits."""
    total: Samples = parts[0].copy()
    for part in parts[1:]:
        total += part
    return total


def read_blocks(
    block: Callable[[int], npt.NDArray[_Number]], size: int, start: int, stop: int
) -> npt.NDArray[_Number]:
    """Return [start, stop) of what is computed in blocks of `size`, along the last axis; only read it.

    Args:
        block: returns a block by its number: 0 begins at 0, those before it are below 0; the last may be short.
        size: of a block.
        start: of the region.
        stop: of the region; it may be empty.
    """
    regions = []
    for number in range(start // size, max(start, stop - 1) // size + 1):
        begin = number * size
        regions.append(block(number)[..., max(0, start - begin) : stop - begin])
    return regions[0] if len(regions) == 1 else np.concatenate(regions, axis=-1)


class BlockCache(Generic[_Key, _Block]):
    """Computed blocks, those used last: `n_blocks` whatever their size, and more while all fit `n_bytes`."""

    def __init__(self, n_blocks: int = 1, n_bytes: int = 0) -> None:
        self._n_blocks, self._n_bytes, self._used_bytes = n_blocks, n_bytes, 0
        self._blocks: OrderedDict[_Key, _Block] = OrderedDict()

    def get(self, key: _Key, make: Callable[[_Key], _Block]) -> _Block:
        """Return a block, computed by `make` where it is not cached; what that raises is raised."""
        return self.get_all([key], lambda keys: map(make, keys))[0]

    def get_all(self, keys: Sequence[_Key], make: Callable[[list[_Key]], Iterable[_Block]]) -> list[_Block]:
        """Return several blocks; `make` computes those that are not cached together, in order of keys."""
        if missing := [key for key in dict.fromkeys(keys) if key not in self._blocks]:
            for key, block in zip(missing, make(missing), strict=True):
                self._blocks[key] = block
                self._used_bytes += _n_bytes(block)
        for key in keys:
            self._blocks.move_to_end(key)
        found = [self._blocks[key] for key in keys]
        while len(self._blocks) > self._n_blocks and self._used_bytes > self._n_bytes:
            self._used_bytes -= _n_bytes(self._blocks.popitem(last=False)[1])
        return found

    def clear(self) -> None:
        """Forget all blocks."""
        self._blocks.clear()
        self._used_bytes = 0


def _n_bytes(block: object) -> int:
    """Return the size of a block, 1 where it is unknown: such blocks are bounded by their number."""
    return int(getattr(block, "nbytes", 1))
