"""WAV, RF64, BW64, Wave64, AIFF, AU and CAF files that are cut, or whose headers were never finished.

A recorder that crashed, or a program that writes into a pipe, leaves 0 or a number far beyond the file in the
place of a size. What lies there up to the end of the file is the sound.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from transform import mpeg
from transform.byte_view import CutShort, Extent, Layout, Part, Stream
from transform.headers import chunks

CHUNKED = (b"RIFF", b"RF64", b"BW64", b"RIFX", b"FORM", b"caff", b"riff", b".snd")
_RIFFS = (b"RIFF", b"RF64", b"BW64", b"RIFX")
_MPEG_TAGS = (0x50, 0x55)  # of MPEG in a WAV file
_ADPCM_TAGS = (0x02, 0x11)
_LEAST_SOUND_BYTES = 2**12
_TAGS = (b"TAG", b"ID3", b"APETAGEX")
_WRAPPED = 2**32 - 2**16  # that much more than stated is there: 32 bits were too few
_NO_SIZE = 2**32 - 37  # with a header before it the whole has more bytes than 32 bits can say
_FULL = 2**32 - 2**12
_WAVE64_GUID = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_FRAME_BYTES = {b"ulaw": 1, b"ULAW": 1, b"alaw": 1, b"ALAW": 1}  # of a channel, whatever depth is stated
_PLAIN_AIFC = (*b"NONE twos sowt fl32 FL32 fl64 FL64 in24 in32 23ni".split(), b"raw ")
_BEHIND = re.compile(b"LIST|bext|iXML|axml|cue |smpl|inst|acid|id3 |ID3 |PEAK|JUNK|_PMX")  # names of chunks
_MOST_BEHIND = 2**20  # bytes
_MOST_HEADERS = 4  # that sox writes one after the other


class _Chunk(NamedTuple):
    name: bytes
    size: int
    offset: int


def lay_out(file: BinaryIO, sound: Extent) -> Layout:
    """Return where the sound lies in a file that begins, at `sound.offset`, with one of CHUNKED.

    Raises:
        CutShort: bytes are missing that a finished header promises, and its form is not known.
        AudioError: it is made of more chunks than any file has.
    """
    file.seek(sound.offset)
    magic = file.read(4)
    file.seek(sound.offset)
    found = [_Chunk(*chunk) for chunk in chunks(file)]
    data = next((chunk for chunk in found if chunk.name in (b"data", b"SSND")), None)
    if data is None:
        return Layout()
    left = Extent(data.offset, max(0, sound.end - data.offset))
    is_unfinished = _is_unfinished(file, magic, data, left)
    n_missing = 0 if is_unfinished else data.size - left.size
    is_cut = n_missing > 1  # some writers leave out the last pad byte
    if magic == b"riff" and is_unfinished:
        left = _between_headers(file, left, data.offset - sound.offset)
    if magic in _RIFFS and is_unfinished:
        left = _before_chunks(file, left)
    within = left if is_unfinished else Extent(left.offset, min(data.size, left.size))
    note = "its header was never finished: all that is there is read" if is_unfinished else ""
    if is_cut:
        lost = f"{n_missing:,} of {data.size:,} bytes of sound"
        note = f"its end is missing, {lost}: all that is there is read"
    if magic in _RIFFS and (inside := _mpeg_inside(file, found, within)):
        return inside
    if is_unfinished or is_cut:
        parts = _finished(file, magic, sound.offset, found, within)
    elif magic == b"BW64":  # which libsndfile does not know by this name
        parts = _finished_riff(file, magic, sound.offset, found, within)
    else:
        parts = (sound,) if sound.offset else ()
    if is_cut and not (parts and left.size):
        raise CutShort(f"{lost} are missing")
    n_samples = None if is_unfinished or magic not in _RIFFS else _stated_samples(file, found, within)
    if n_samples is not None:
        parts = parts or (sound,)
    return Layout(
        streams=(Stream(parts=parts, n_samples=n_samples),) if parts else (), note=note if parts else ""
    )


def _is_unfinished(file: BinaryIO, magic: bytes, data: _Chunk, left: Extent) -> bool:
    """Tell whether the stated size of the sound is none that its writer knew."""
    size = max(0, data.size)  # in Wave64 a size of less than the chunk's own header, in CAF -1: unknown
    if data.name == b"SSND" and size == 8:  # its own offset and block size
        size, left = 0, Extent(left.offset + 8, left.size - 8)
    if magic == b"RIFF" and size and (left.size - size >= _WRAPPED or size > _NO_SIZE):
        return True
    if size == 0:
        return left.size > 0 and not _is_chunk_list(file, left, ">" if magic in (b"FORM", b"RIFX") else "<")
    if size > left.size:
        return _is_placeholder(size)
    return magic == b"RIFF" and _goes_on(file, Extent(left.offset + size, left.size - size))


def _goes_on(file: BinaryIO, rest: Extent) -> bool:
    """Tell whether sound lies behind what a header states, as where a recorder noted its size on the way."""
    if rest.size < _LEAST_SOUND_BYTES:
        return False
    head = _read(file, Extent(rest.offset, _LEAST_SOUND_BYTES))
    # Chunks, with and without a pad byte before them.
    ends = (Extent(begin, rest.end - begin) for begin in (rest.offset, rest.offset + 1))
    return not (head.startswith(_TAGS) or max(head) == 0 or any(_is_chunk_list(file, end, "<") for end in ends))


def _is_placeholder(size: int) -> bool:
    """Tell whether programs write such a size, in bytes, where they do not know it yet.

    That is near below 2**31 or 2**32, or 2**31 itself: sox 0x7FFFF000, ffmpeg 0xFFFFFFFF, others that less
    their header; 0x7F000000 in AIFF by sox; and in 64 bits what no file has.
    """
    near = abs(size - 0x7F000000) <= 2**12
    return near or 2**31 - 2**16 <= size <= 2**31 + 2**12 or 2**32 - 2**16 <= size < 2**32 or size >= 2**62


def _is_chunk_list(file: BinaryIO, left: Extent, order: str) -> bool:
    """Tell whether nothing but chunks lies in `left`, as after a sound without samples."""
    position = left.offset
    for _ in range(100):
        if left.end - position < 8:
            return all(byte == 0 for byte in _read(file, Extent(position, left.end - position)))
        name, size = struct.unpack(f"{order}4sI", _read(file, Extent(position, 8)))
        if not all(32 <= byte < 127 for byte in name):
            return False
        position += 8 + size + size % 2
        if position > left.end + 1:
            return False
    return True


def _before_chunks(file: BinaryIO, left: Extent) -> Extent:
    """Return the sound without the chunks behind it, which reach to the end of the file."""
    begin = max(left.offset, left.end - _MOST_BEHIND)
    content = _read(file, Extent(begin, left.end - begin))
    places = sorted(begin + found.start() for found in _BEHIND.finditer(content))
    first = next((at for at in places if _is_chunk_list(file, Extent(at, left.end - at), "<")), left.end)
    return Extent(left.offset, first - left.offset)


def _between_headers(file: BinaryIO, left: Extent, n_header: int) -> Extent:
    """Return the sound without the headers around it: sox, where it cannot go back, writes its header again."""
    for _ in range(_MOST_HEADERS):
        if left.size > n_header and _read(file, Extent(left.offset, 16)) == _WAVE64_GUID:
            left = Extent(left.offset + n_header, left.size - n_header)
    last = left.end - n_header
    is_header = left.size > n_header and _read(file, Extent(last, 16)) == _WAVE64_GUID
    return Extent(left.offset, last - left.offset) if is_header else left


def _mpeg_inside(file: BinaryIO, found: Sequence[_Chunk], data: Extent) -> Layout | None:
    """Return the layout of MPEG audio in a WAV file, None of any other."""
    fmt = next((chunk for chunk in found if chunk.name == b"fmt "), None)
    if fmt is None or fmt.size < 16:
        return None
    tag = int.from_bytes(_read(file, Extent(fmt.offset, 2)), "little")
    layout = mpeg.lay_out(file, data) if tag in _MPEG_TAGS else Layout()
    return layout if layout.streams else None


def _stated_samples(file: BinaryIO, found: Sequence[_Chunk], data: Extent) -> int | None:
    """Return how many samples a WAV file of ADPCM states, where that is within its last block."""
    by_name = {chunk.name: chunk for chunk in found}
    fmt, fact = by_name.get(b"fmt "), by_name.get(b"fact")
    if fmt is None or fact is None or fmt.size < 20 or fact.size < 4:
        return None
    tag, _, _, _, block_bytes, _, _, block_samples = struct.unpack(
        "<HHIIHHHH", _read(file, Extent(fmt.offset, 20))
    )
    n_samples = int.from_bytes(_read(file, Extent(fact.offset, 4)), "little")
    # Some writers state half of it for stereo, or what they had written before they went on.
    is_in_last = -(-n_samples // max(1, block_samples)) == -(-data.size // max(1, block_bytes))
    return n_samples if tag in _ADPCM_TAGS and is_in_last else None


def _finished(
    file: BinaryIO, magic: bytes, begin: int, found: Sequence[_Chunk], data: Extent
) -> tuple[Part, ...]:
    """Return the parts of the file with sizes that are right; none where its form is not known."""
    if magic in _RIFFS:
        return _finished_riff(file, magic, begin, found, data)
    if magic == b"riff":
        n_header = next(chunk.offset for chunk in found if chunk.name == b"data") - begin
        sizes = struct.pack("<Q", n_header + data.size), struct.pack("<Q", data.size + 24)
        head = Extent(begin + 24, n_header - 8 - 24)
        return (_WAVE64_GUID, sizes[0], head, sizes[1], data)
    if magic == b"FORM":
        return _finished_aiff(file, begin, found, data)
    if magic == b"caff":
        return (Extent(begin, data.offset - 8 - begin), struct.pack(">q", data.size), data)
    return (Extent(begin, 8), b"\xff" * 4, Extent(begin + 12, data.end - begin - 12))


def _finished_riff(
    file: BinaryIO, magic: bytes, begin: int, found: Sequence[_Chunk], data: Extent
) -> tuple[Part, ...]:
    first = begin + 12
    if found[0].name == b"ds64":
        first = found[0].offset + found[0].size + found[0].size % 2
    head = Extent(first, data.offset - 4 - first)
    n_bytes = head.size + 4 + data.size + 4
    if n_bytes < _FULL:
        order = ">" if magic == b"RIFX" else "<"
        sizes = struct.pack(f"{order}I", n_bytes), struct.pack(f"{order}I", data.size)
        return (b"RIFX" if magic == b"RIFX" else b"RIFF", sizes[0], b"WAVE", head, sizes[1], data)
    fmt = next((chunk for chunk in found if chunk.name == b"fmt "), None)
    frame_bytes = int.from_bytes(_read(file, Extent(fmt.offset + 12, 2)), "little") if fmt else 0
    n_samples = data.size // max(1, frame_bytes)
    long_sizes = struct.pack("<4sIQQQI", b"ds64", 28, n_bytes + 36, data.size, n_samples, 0)
    return (b"RF64\xff\xff\xff\xffWAVE", long_sizes, head, b"\xff" * 4, data)


def _finished_aiff(file: BinaryIO, begin: int, found: Sequence[_Chunk], data: Extent) -> tuple[Part, ...]:
    comm = next((chunk for chunk in found if chunk.name == b"COMM" and chunk.offset < data.offset), None)
    if comm is None or comm.size < 18 or data.size < 8:
        return ()
    described = _read(file, Extent(comm.offset, min(comm.size, 22)))
    n_channels, _, bits = struct.unpack(">hIh", described[:8])
    kind = described[18:22] or b"NONE"
    if kind not in (*_FRAME_BYTES, *_PLAIN_AIFC):
        return ()
    frame_bytes = max(1, n_channels) * _FRAME_BYTES.get(kind, -(-max(1, bits) // 8))
    n_samples = (data.size - 8) // frame_bytes
    size = 8 + n_samples * frame_bytes
    return (
        *(b"FORM", struct.pack(">I", min(_FULL, data.offset + size - begin - 8))),
        *(Extent(begin + 8, comm.offset + 2 - begin - 8), struct.pack(">I", n_samples)),
        *(Extent(comm.offset + 6, data.offset - 4 - comm.offset - 6), struct.pack(">I", size)),
        Extent(data.offset, size),
    )


def _read(file: BinaryIO, extent: Extent) -> bytes:
    """Return bytes of a file, filled up with zeros where it ends before."""
    file.seek(extent.offset)
    return file.read(extent.size).ljust(extent.size, b"\0")
