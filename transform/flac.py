"""FLAC: the length of a file whose header states none, as where it was written into a pipe, or a wrong one.

Source: RFC 9639. A frame says which samples it holds; the last one tells the length. libsndfile reads only the
first of several streams.
"""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import BinaryIO

from transform.byte_view import Extent, Layout, Stream

_DESCRIBED = 42  # bytes: the magic, the head of the first block, and STREAMINFO
_TOTAL_AT = 21  # of the number of samples, the lower half of that byte and four more
_LONGEST_FRAME = 2**20
_ID3V1_BYTES = 128
_MOST_ENDS = 12
_TAGS = (b"APETAGEX", b"ID3", b"LYRICSBEGIN")  # that may lie behind the sound
_BEGINNING = b"fLaC\0\0\0\x22"
_BLOCK_BYTES = 2**20
_BLOCK_SIZES = (0, 192, 576, 1152, 2304, 4608, 0, 0, 256, 512, 1024, 2048, 4096, 8192, 16_384, 32_768)


def lay_out(file: BinaryIO, sound: Extent) -> Layout:
    """Return the streams with their lengths in their headers, none where the decoder reads a file as it is."""
    extents = _streams_in(file, sound)
    streams, notes = [], list[str]()
    for extent in extents:
        stream, note = _stream(file, extent)
        streams.append(stream or Stream(parts=(extent,)))
        notes += [note] if note and note not in notes else []
    if len(streams) > 1:
        notes.append(f"{len(streams)} recordings follow one another in it")
    is_plain = not notes and not sound.offset
    return Layout() if is_plain else Layout(streams=tuple(streams), note="; ".join(notes))


def _streams_in(file: BinaryIO, sound: Extent) -> list[Extent]:
    """Return where the streams lie that follow one another."""
    begins, at = list[int](), sound.offset
    while at < sound.end:
        file.seek(at)
        block = file.read(_BLOCK_BYTES + len(_BEGINNING))
        found = block.find(_BEGINNING)
        while found >= 0:
            if found < _BLOCK_BYTES:
                begins.append(at + found)
            found = block.find(_BEGINNING, found + 1)
        at += _BLOCK_BYTES
    begins = [sound.offset, *(begin for begin in begins if begin > sound.offset)]
    return [Extent(begin, end - begin) for begin, end in pairwise([*begins, sound.end])]


def _stream(file: BinaryIO, sound: Extent) -> tuple[Stream | None, str]:
    """Return a stream with its length in its header, and what is to be said; None where there is none."""
    file.seek(sound.offset)
    head = file.read(_DESCRIBED)
    if len(head) < _DESCRIBED or head[4] & 0x7F != 0:
        return None, ""
    total = int.from_bytes(head[_TOTAL_AT : _TOTAL_AT + 5], "big") & (2**36 - 1)
    n_bytes = min(sound.size - _DESCRIBED, _LONGEST_FRAME)
    file.seek(sound.end - n_bytes)
    n_samples, n_left = _end_of(file.read(n_bytes), int.from_bytes(head[10:12], "big"))
    if n_samples in (0, total):
        return None, ""
    stated = (head[_TOTAL_AT] >> 4 << 36 | n_samples).to_bytes(5, "big")
    rest = Extent(sound.offset + _TOTAL_AT + 5, sound.size - _TOTAL_AT - 5 - n_left)
    note = "its header states no length: all that is there is read"
    if n_samples < total:
        rate = int.from_bytes(head[18:21], "big") >> 4
        lengths = f"{n_samples / max(1, rate):.2f} of {total / max(1, rate):.2f} s"
        note = f"its end is missing: {lengths} are there, and read"
    elif total:
        note = "its header states less than there is: all of it is read"
    return Stream(parts=(head[:_TOTAL_AT] + stated, rest)), note


def _end_of(content: bytes, block_size: int) -> tuple[int, int]:
    """Return how many samples there are at the end of the last whole frame, and how many bytes lie after it.

    Args:
        content: the end of a file.
        block_size: of all frames but the last, where frames are numbered and not samples.
    """
    # Of the last whole frame: that of the file, where a tag begins, or a frame that is cut off.
    ends = [len(content), *(at for tag in _TAGS if (at := content.rfind(tag)) >= 0)]
    if content[-_ID3V1_BYTES:].startswith(b"TAG"):
        ends.append(len(content) - _ID3V1_BYTES)
    at = content.rfind(b"\xff")
    while at >= 0 and len(ends) <= _MOST_ENDS:
        n_samples = _samples_until(content[at : at + 17], block_size)
        if n_samples:
            for end in ends:
                if at < end and _crc(content[at:end], 16, 0x8005) == 0:
                    return n_samples, len(content) - end
            ends.append(at)
        at = content.rfind(b"\xff", 0, at)
    return 0, 0


def _samples_until(header: bytes, block_size: int) -> int:
    """Return which sample a frame ends before, by its header; 0 where it is none."""
    if len(header) < 6 or header[1] & 0xFE != 0xF8 or header[3] & 1 or header[2] >> 4 == 0:
        return 0
    n_more = max(0, 7 - (header[4] ^ 0xFF).bit_length())
    number = header[4] & (0xFF >> (n_more + 2) if n_more else 0x7F)
    for byte in header[5 : 5 + n_more]:
        number = number << 6 | byte & 0x3F
    at, code = 5 + n_more, header[2] >> 4
    n_sized = {6: 1, 7: 2}.get(code, 0)
    size = int.from_bytes(header[at : at + n_sized], "big") + 1 if n_sized else _BLOCK_SIZES[code]
    at += n_sized + {12: 1, 13: 2, 14: 2}.get(header[2] & 15, 0)
    if at >= len(header) or _crc(header[: at + 1], 8, 0x07):
        return 0
    return size + (number if header[1] & 1 else number * block_size)


def _crc(content: bytes, n_bits: int, polynomial: int) -> int:
    """Return a cyclic redundancy check, which is 0 of what ends with its own."""
    table, check = _crc_table(n_bits, polynomial), 0
    for byte in content:
        check = (check << 8 & (2**n_bits - 1)) ^ table[check >> (n_bits - 8) ^ byte]
    return check


@cache
def _crc_table(n_bits: int, polynomial: int) -> list[int]:
    table = []
    for byte in range(256):
        value = byte << (n_bits - 8)
        for _ in range(8):
            value = value << 1 ^ (polynomial if value >> (n_bits - 1) & 1 else 0)
        table.append(value & (2**n_bits - 1))
    return table
