"""What a page plays and draws of a sound: in blocks, and peaks at any zoom."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from transform.signal import Samples

BLOCK_SAMPLES = 2**14  # that are rendered, cached and exchanged as one
MOST_COLUMNS = 8192  # of a picture
_BIN_SAMPLES = 2**8  # of the coarse peaks


def coarse_peaks(block: Samples) -> Samples:
    """Return the lowest and highest samples of each bin of a block, shape (2, bins)."""
    n_missing = -block.shape[1] % _BIN_SAMPLES
    bins = np.pad(block, ((0, 0), (0, n_missing)), mode="edge").reshape(len(block), -1, _BIN_SAMPLES)
    return np.stack((bins.min(axis=(0, 2)), bins.max(axis=(0, 2))))


def columns(
    read: Callable[[int, int], Samples], block_peaks: Callable[[int], Samples], region: tuple[int, int], n: int
) -> Samples:
    """Return the lowest and highest samples in each of n columns of a region, shape (2, n).

    Where a column is narrow they are exact, else to a bin at either edge.

    Args:
        read: returns samples [start, stop), shape (C, T).
        block_peaks: returns the `coarse_peaks` of a block by its number.
        region: its first sample, and the one after its last; not empty.
        n: of columns.
    """
    start, stop = region
    edges = start + (stop - start) * np.arange(n + 1) // n
    if stop - start < 4 * _BIN_SAMPLES * n:
        samples = read(start, stop)
        low, high, edges = samples.min(axis=0), samples.max(axis=0), edges - start
    else:
        first = start // BLOCK_SAMPLES
        blocks = [block_peaks(number) for number in range(first, (stop - 1) // BLOCK_SAMPLES + 1)]
        low, high = np.concatenate(blocks, axis=1)
        edges = (edges - first * BLOCK_SAMPLES) // _BIN_SAMPLES
    begins = np.minimum(edges[:-1], len(low) - 1)
    return np.stack((np.minimum.reduceat(low, begins), np.maximum.reduceat(high, begins)))
