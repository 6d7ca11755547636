"""A spool file for sound that is read again: in memory while it is short, on the disk when it grows."""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable
from typing import Self

import numpy as np

from transform.errors import AudioError
from transform.signal import Samples

_IN_MEMORY_BYTES = 64 * 2**20


class SpoolFile:
    """Blocks of samples, stored one after the other.

    The temporary file has no name, or is one that the system deletes as soon as it is closed: nothing of it is
    left behind, even by a process that is killed.
    """

    def __init__(self, n_channels: int) -> None:
        """Make an empty file for so many channels."""
        self._n_channels, self.n_samples = n_channels, 0
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES)  # noqa: SIM115 (it is closed below)
        weakref.finalize(self, self._file.close)

    @classmethod
    def of(cls, blocks: Iterable[Samples], n_channels: int, name: str) -> Self:
        """Return a file of all blocks of a sound.

        Raises:
            AudioError: there is no room for them.
        """
        stored = cls(n_channels)
        try:
            for block in blocks:
                stored.add(block)
        except OSError as err:
            raise AudioError(
                f"{name} cannot be decoded in {tempfile.gettempdir()}: {err.strerror or err}",
                hint="free some disk space there",
            ) from err
        return stored

    def add(self, block: Samples) -> None:
        """Store a block, shape (C, T).

        Raises:
            OSError: there is no room for it; nothing can be stored or read any more.
        """
        assert block.shape[0] == self._n_channels
        try:
            self._file.seek(0, 2)
            self._file.write(np.ascontiguousarray(block.T, dtype=np.float32).tobytes())
            self._file.flush()
        except OSError:
            self.close()
            raise
        self.n_samples += block.shape[1]

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) of what is stored, shape (C, stop - start)."""
        assert 0 <= start <= stop <= self.n_samples
        bytes_each = 4 * self._n_channels
        self._file.seek(start * bytes_each)
        found = np.frombuffer(self._file.read((stop - start) * bytes_each), dtype=np.float32)
        return np.ascontiguousarray(found.reshape(-1, self._n_channels).T)

    def close(self) -> None:
        """Delete what is stored; nothing can be read any more."""
        self._file.close()
