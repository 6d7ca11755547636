"""Ogg (Vorbis, Opus, FLAC, Speex): streams that follow one another, and those whose end is missing.

Source: RFC 3533. libsndfile reads only the first of several streams, and takes one without an end for whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from transform.byte_view import Extent, Layout, Stream

_HEADER = struct.Struct("<4sBBqIIIB")
_BEGINS, _ENDS = 2, 4  # flags of a page: the first and the last of its stream


class _Page(NamedTuple):
    extent: Extent
    flags: int
    serial: int


def lay_out(file: BinaryIO, sound: Extent) -> Layout:
    """Return the streams that follow one another in a file: each begins where new serial numbers begin."""
    links: list[Extent] = []
    has_begun, unended, end = False, set[int](), sound.offset
    for page in _pages(file, sound):
        if page.flags & _BEGINS:
            if not links or has_begun:
                links.append(page.extent)
                has_begun = False
            unended.add(page.serial)
        else:
            has_begun = True
        if page.flags & _ENDS:
            unended.discard(page.serial)
        end = page.extent.end
        if links:
            links[-1] = Extent(links[-1].offset, end - links[-1].offset)
    if not links:
        return Layout()
    notes = []
    if len(links) > 1:
        notes.append(f"{len(links)} recordings follow one another in it")
    if unended or end < sound.end:
        notes.append("its end is missing: all that is there is read")
    return Layout(streams=tuple(Stream(parts=(link,)) for link in links), note="; ".join(notes))


def _pages(file: BinaryIO, sound: Extent) -> Iterator[_Page]:
    """Yield the pages that are whole, up to what is none."""
    position = sound.offset
    while True:
        file.seek(position)
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return
        magic, _, flags, _, serial, _, _, n_segments = _HEADER.unpack(header)
        sizes = file.read(n_segments)
        extent = Extent(position, len(header) + n_segments + sum(sizes))
        if magic != b"OggS" or len(sizes) < n_segments or extent.end > sound.end:
            return
        yield _Page(extent, flags, serial)
        position = extent.end
