"""Ogg (Vorbis, Opus, FLAC, Speex): streams that follow one another, and those whose end is missing.

Source: RFC 3533. libsndfile reads only the first of several streams, and takes one without an end for whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from transform.byte_view import Extent, Layout, Stream

_HEADER = struct.Struct("<4sBBqIIIB")
_MAGIC = b"OggS"
_MOST_JUNK_BYTES = 2**16  # between two pages
_MOST_GAPS = 10_000
_BEGINS, _ENDS = 2, 4  # flags of a page: the first and the last of its stream


class _Page(NamedTuple):
    extent: Extent
    flags: int
    serial: int


def lay_out(file: BinaryIO, sound: Extent) -> Layout:
    """Return the streams that follow one another in a file: each begins where new serial numbers begin."""
    links: list[Extent] = []
    has_begun, unended, is_cut = False, set[int](), False
    for page in _pages(file, sound):
        if page.extent.end > sound.end:
            is_cut = True
            break
        if page.flags & _BEGINS:
            if not links or has_begun:
                links.append(page.extent)
                has_begun = False
            unended.add(page.serial)
        else:
            has_begun = True
        if page.flags & _ENDS:
            unended.discard(page.serial)
        if links:
            links[-1] = Extent(links[-1].offset, page.extent.end - links[-1].offset)
    if not links:
        return Layout()
    notes = []
    if len(links) > 1:
        notes.append(f"{len(links)} recordings follow one another in it")
    if unended or is_cut:
        notes.append("its end is missing: all that is there is read")
    return Layout(streams=tuple(Stream(parts=(link,)) for link in links), note="; ".join(notes))


def _pages(file: BinaryIO, sound: Extent) -> Iterator[_Page]:
    """Yield the pages, of which the last may be cut off, passing over a little of what is none."""
    position, n_gaps = sound.offset, 0
    while position < sound.end:
        file.seek(position)
        header = file.read(_HEADER.size)
        if not header.startswith(_MAGIC):
            file.seek(position)
            at, n_gaps = file.read(_MOST_JUNK_BYTES).find(_MAGIC), n_gaps + 1
            if at < 0 or n_gaps > _MOST_GAPS:
                return
            position += at
            continue
        _, _, flags, _, serial, _, _, n_segments = _HEADER.unpack(header.ljust(_HEADER.size, b"\xff"))
        sizes = file.read(n_segments).ljust(n_segments, b"\xff")
        extent = Extent(position, _HEADER.size + n_segments + sum(sizes))
        yield _Page(extent, flags, serial)
        position = extent.end
