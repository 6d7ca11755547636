"""A file as a decoder shall see it: ranges of its bytes, with other bytes in front and between."""

from __future__ import annotations

import io
import os
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from transform.files import open_plain


class Extent(NamedTuple):
    """Bytes of a file: `size` of them from `offset` on."""

    offset: int
    size: int

    @property
    def end(self) -> int:
        """Where the next byte lies."""
        return self.offset + self.size


Part = bytes | Extent
_MOST_TAGS = 16  # in front of the sound


@dataclass(frozen=True, kw_only=True)
class Stream:
    """Bytes that a decoder is given as a file of their own."""

    parts: tuple[Part, ...]
    n_samples: int | None = None  # None: what the decoder finds
    n_skipped: int = 0  # samples before them, which are none of the sound


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The streams of a file, one after the other; none: the decoder is given the file as it is."""

    streams: tuple[Stream, ...] = ()
    note: str = ""  # what its user should read about it


class CutShort(Exception):
    """The end of a sound is missing; says how much of it."""


class ByteView(io.RawIOBase):
    """A binary file, open for reading, that is made of parts of another one; it holds no copy of them."""

    def __init__(self, path: Path, parts: Iterable[Part]) -> None:
        """Open the file; OSError: it cannot be read."""
        self._parts = [part for part in parts if _size(part)]
        self._starts = [0]
        for part in self._parts:
            self._starts.append(self._starts[-1] + _size(part))
        self._position = 0
        self._file = open_plain(path)

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a byte of the view and return its position."""
        begin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._starts[-1]}[whence]
        self._position = max(0, begin + offset)
        return self._position

    def tell(self) -> int:
        """Return the position in the view."""
        return self._position

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # typeshed: any Buffer
        """Fill a buffer with the next bytes, and return how many there were."""
        target, n_read = memoryview(buffer).cast("B"), 0
        while n_read < len(target) and self._position < self._starts[-1]:
            found = self._next(len(target) - n_read)
            if not found:  # the file has become shorter
                break
            target[n_read : n_read + len(found)] = found
            n_read += len(found)
            self._position += len(found)
        return n_read

    def _next(self, n_bytes: int) -> bytes:
        """Return some of the next bytes, at most `n_bytes`, of one part."""
        number = bisect_right(self._starts, self._position) - 1
        part, inside = self._parts[number], self._position - self._starts[number]
        n_bytes = min(n_bytes, _size(part) - inside)
        if isinstance(part, bytes):
            return part[inside : inside + n_bytes]
        self._file.seek(part.offset + inside)
        return self._file.read(n_bytes)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._file.close()
        super().close()


def _size(part: Part) -> int:
    return part.size if isinstance(part, Extent) else len(part)


def after_tags(file: BinaryIO, within: Extent) -> int:
    """Return where the first byte after the ID3v2 tags that `within` begins with lies."""
    position = within.offset
    for _ in range(_MOST_TAGS):
        file.seek(position)
        tag = file.read(10)
        if len(tag) < 10 or tag[:3] != b"ID3" or max(tag[6:10]) > 127:
            break
        size = tag[6] << 21 | tag[7] << 14 | tag[8] << 7 | tag[9]
        has_footer = bool(tag[5] & 0x10)
        position += 10 + size + 10 * has_footer
    return min(position, within.end)
