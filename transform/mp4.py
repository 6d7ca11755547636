"""How long the sound of an MP4 file is by its edit list: what an encoder adds at its end is none of it.

Source: ISO/IEC 14496-12. ffmpeg leaves out what is added in front, but not what is added behind.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import BinaryIO

from transform.byte_view import Extent
from transform.files import open_plain

_MOST_BOXES = 1000  # in one box


def length_by_edits(path: Path) -> Fraction | None:
    """Return the length of the first sound in seconds, None where there is no edit list of one region."""
    with open_plain(path) as file:
        moov = _box(file, Extent(0, file.seek(0, os.SEEK_END)), "moov")
        head = _box(file, moov, "mvhd")
        if moov is None or head is None:
            return None
        for name, trak in _boxes(file, moov):
            handler = _box(file, trak, "mdia", "hdlr")
            if name == b"trak" and handler is not None and _read(file, handler, 12)[8:] == b"soun":
                return _edited(file, trak, _clock(file, head)[0])
    return None


def _edited(file: BinaryIO, trak: Extent, movie_rate: int) -> Fraction | None:
    edits, media = _box(file, trak, "edts", "elst"), _box(file, trak, "mdia", "mdhd")
    if edits is None or media is None or not movie_rate:
        return None
    content = _read(file, edits, 28)
    is_long = content[0] == 1
    if len(content) < (28 if is_long else 20) or int.from_bytes(content[4:8], "big") != 1:
        return None
    duration, begin = struct.unpack_from(">Qq" if is_long else ">Ii", content, 8)
    rate, n_media = _clock(file, media)
    if begin < 0 or duration == 0 or not rate:
        return None
    edited_s, rest_s = Fraction(duration, movie_rate), Fraction(n_media - begin, rate)
    # The movie's clock may be coarse, milliseconds; the sound's own counts samples.
    return rest_s if abs(rest_s - edited_s) <= Fraction(1, movie_rate) else edited_s


def _clock(file: BinaryIO, box: Extent) -> tuple[int, int]:
    """Return the rate in Hz and the length, in its units, that mvhd or mdhd states; zeros if it is broken."""
    content = _read(file, box, 32)
    form, at = (">IQ", 20) if content[:1] == b"\1" else (">II", 12)
    rate, length = struct.unpack_from(form, content.ljust(32, b"\0"), at)
    return rate, length


def _box(file: BinaryIO, within: Extent | None, *names: str) -> Extent | None:
    """Return the content of the first box of a name, and of the next name in that, and so on."""
    for name in names:
        if within is None:
            return None
        within = next((box for own, box in _boxes(file, within) if own == name.encode()), None)
    return within


def _boxes(file: BinaryIO, within: Extent) -> Iterator[tuple[bytes, Extent]]:
    """Yield the name and the content of each box in a region."""
    position = within.offset
    for _ in range(_MOST_BOXES):
        header = _read(file, Extent(position, within.end - position), 16)
        if len(header) < 8:
            return
        size, n_header = int.from_bytes(header[:4], "big"), 8
        if size == 1 and len(header) == 16:
            size, n_header = int.from_bytes(header[8:], "big"), 16
        elif size == 0:
            size = within.end - position
        if size < n_header or position + size > within.end:
            return
        yield header[4:8], Extent(position + n_header, size - n_header)
        position += size


def _read(file: BinaryIO, extent: Extent, n_bytes: int) -> bytes:
    file.seek(extent.offset)
    return file.read(max(0, min(n_bytes, extent.size)))
