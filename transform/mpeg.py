"""MPEG audio (MP1, MP2, MP3): its frames counted, as libsndfile guesses their number where no header states it.

Source of the headers: ISO/IEC 11172-3 and 13818-3, and for the tags Xing, Info and VBRI what their writers do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO, NamedTuple

from transform.byte_view import Extent, Layout, Stream, after_tags

_RATES_HZ = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
_KBPS = {  # by whether it is MPEG 1, and its layer
    (True, 1): (0, 32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (0, 32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (0, 32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_TAGS = (b"Xing", b"Info", b"VBRI")  # of frames that hold a count instead of sound
_HEAD_BYTES = 44  # of a frame, in which their names lie
_SEARCHED = 2**20  # bytes in front of the first frame
_BLOCK_BYTES = 2**16
_MOST_JUNK_BYTES = 2**24  # between two frames
_MOST_GAPS = 10_000
_SURE = 3  # frames that follow one another are no chance
_GOES_ON_BYTES = 2**10  # of junk that is passed over in silence


class _Frame(NamedTuple):
    """A frame as its header of four bytes describes it."""

    n_bytes: int
    n_samples: int
    form: tuple[int, int, int]  # version, layer and rate, which do not change within a stream
    is_mono: bool


class _Tag(NamedTuple):
    """A frame that holds a count of the others instead of sound."""

    extent: Extent
    n_frames: int  # 0: it holds none
    count_at: int  # where that lies in the file
    has_size: bool  # the size of all in bytes follows it
    has_delay: bool  # it says what encoder and decoder add


@dataclass
class _Run:
    """Frames of one stream."""

    first: bytes  # its header
    frame: _Frame
    extents: list[Extent] = field(default_factory=list)
    n_frames: int = 0
    tag: _Tag | None = None
    is_cut: bool = False  # its last frame is not whole


def lay_out(file: BinaryIO, sound: Extent) -> Layout:
    """Return the streams of MPEG audio in a file, none where it is no MPEG audio.

    A stream begins with each tag that counts frames, and where rate or layer change. Tags and other junk
    between frames are left out.
    """
    begin = _first_frame(file, sound)
    if begin is None:
        return Layout()
    runs, n_junk = _runs(file, Extent(begin, sound.end - begin))
    streams = [_stream(run) for run in runs]
    notes = []
    if n_missing := sum(map(_n_missing, runs)):
        notes.append(f"{n_missing:,} of its frames of sound are missing: all that is there is read")
    elif runs and runs[-1].is_cut:
        notes.append("it is cut off in the middle of a frame: all that is there is read")
    if len(streams) > 1:
        notes.append(f"{len(streams)} recordings follow one another in it")
    if n_junk > _GOES_ON_BYTES:
        notes.append(f"{n_junk:,} bytes between its frames are no sound, and passed over")
    return Layout(streams=tuple(streams), note="; ".join(notes))


def _first_frame(file: BinaryIO, sound: Extent) -> int | None:
    file.seek(sound.offset)
    head = file.read(min(_SEARCHED, sound.size))
    at = head.find(b"\xff")
    while 0 <= at < len(head) - 3:
        if _is_frame(file, sound.offset + at, sound.end, _SURE):
            return sound.offset + at
        at = head.find(b"\xff", at + 1)
    return None


def _is_frame(file: BinaryIO, position: int, end: int, n_frames: int) -> bool:
    """Tell whether so many frames of one form begin at a position, or as many as there is room for."""
    form = None
    for number in range(n_frames):
        frame = _frame_at(file, position)
        if frame is None or (form is not None and frame.form != form):
            return number > 0 and position >= end
        form, position = frame.form, position + frame.n_bytes
    return True


def _frame_at(file: BinaryIO, position: int) -> _Frame | None:
    file.seek(position)
    return _parsed(file.read(4))


def _parsed(header: bytes) -> _Frame | None:
    """Return what a frame's header says, None where it is none, or of a free bit rate."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    rate, kbps = header[2] >> 2 & 3, header[2] >> 4
    if version == 1 or layer == 4 or rate == 3 or kbps in (0, 15):
        return None
    is_first = version == 3
    n_samples = 384 if layer == 1 else 1152 if layer == 2 or is_first else 576
    slot = 4 if layer == 1 else 1
    bits = n_samples // 8 * 1000 * _KBPS[is_first, layer][kbps]
    slots = bits // (_RATES_HZ[version][rate] * slot) + (header[2] >> 1 & 1)
    return _Frame(slots * slot, n_samples, (version, layer, rate), header[3] >> 6 == 3)


def _runs(file: BinaryIO, sound: Extent) -> tuple[list[_Run], int]:
    """Return the streams, and how many bytes are none of theirs."""
    runs: list[_Run] = []
    n_junk = 0
    for position, head, frame in _frames(file, sound):
        if position + frame.n_bytes > sound.end:
            if runs:
                runs[-1].is_cut = True
            break
        last = runs[-1].extents[-1] if runs and runs[-1].extents else None
        n_junk += position - last.end if last and position > last.end else 0
        is_new = not runs or (frame.form, frame.is_mono) != (runs[-1].frame.form, runs[-1].frame.is_mono)
        tag = _tag(file, position, frame) if _may_be_tag(head) else None
        if is_new or tag is not None:
            runs.append(_Run(head[:4], frame))
        run = runs[-1]
        extent = Extent(position, frame.n_bytes)
        if tag is not None:
            run.tag = tag
            run.extents.append(Extent(position + frame.n_bytes, 0))
            continue
        run.n_frames += 1
        if run.extents and run.extents[-1].end == position:
            run.extents[-1] = Extent(run.extents[-1].offset, run.extents[-1].size + frame.n_bytes)
        else:
            run.extents.append(extent)
    return [run for run in runs if run.n_frames], n_junk


def _frames(file: BinaryIO, sound: Extent) -> Iterator[tuple[int, bytes, _Frame]]:
    """Yield where each frame lies, its first bytes, and what its header says; the last may be cut off."""
    position, n_gaps = sound.offset, 0
    while position < sound.end:
        file.seek(position)
        head = file.read(_HEAD_BYTES)
        frame = _parsed(head[:4])
        if frame is None:
            found, n_gaps = _next_frame(file, position, sound.end), n_gaps + 1
            if found is None or n_gaps > _MOST_GAPS:
                return
            position = found
        else:
            yield position, head, frame
            position += frame.n_bytes


def _next_frame(file: BinaryIO, position: int, end: int) -> int | None:
    """Return where the next frame after junk lies."""
    position = max(position + 1, after_tags(file, Extent(position, end - position)))
    last = min(end, position + _MOST_JUNK_BYTES)
    while position < last:
        file.seek(position)
        block = file.read(min(_BLOCK_BYTES, last - position))
        if not block:
            return None
        at = block.find(b"\xff")
        while at >= 0:
            if _is_frame(file, position + at, end, _SURE):
                return position + at
            at = block.find(b"\xff", at + 1)
        position += len(block)
    return None


def _may_be_tag(head: bytes) -> bool:
    return any(name in head for name in _TAGS)


def _tag(file: BinaryIO, position: int, frame: _Frame) -> _Tag | None:
    """Return the tag that a frame is, None where it is none."""
    file.seek(position)
    content, extent = file.read(min(frame.n_bytes, 256)), Extent(position, frame.n_bytes)
    is_first = frame.form[0] == 3
    side = (17 if frame.is_mono else 32) if is_first else (9 if frame.is_mono else 17)
    for at in (4 + side, 6 + side):  # 6: with a checksum
        if content[at : at + 4] in (b"Xing", b"Info"):
            flags = int.from_bytes(content[at + 4 : at + 8], "big")
            has_count = bool(flags & 1)
            count = int.from_bytes(content[at + 8 : at + 12], "big") if has_count else 0
            lame = at + 8 + 4 * has_count + 4 * bool(flags & 2) + 100 * bool(flags & 4) + 4 * bool(flags & 8)
            delays = int.from_bytes(content[lame + 21 : lame + 24], "big")
            return _Tag(extent, count, position + at + 8, bool(flags & 2), count > 0 and delays != 0)
    if content[36:40] == b"VBRI":
        count = int.from_bytes(content[50:54], "big")
        return _Tag(extent, count, position + 50, has_size=False, has_delay=False)
    return None


def _n_missing(run: _Run) -> int:
    """Return how many frames less there are than a tag promises, which some writers count as well."""
    n_missing = run.tag.n_frames - run.n_frames if run.tag else 0
    return n_missing if n_missing > (not run.is_cut) else 0


def _stream(run: _Run) -> Stream:
    """Return what the decoder is given of frames."""
    tag = run.tag
    if tag is None or not tag.has_delay or tag.n_frames < run.n_frames - 1:
        return _counted(run)
    head = Extent(tag.extent.offset, tag.count_at - tag.extent.offset)
    counts = run.n_frames.to_bytes(4, "big")
    if tag.has_size:
        size = tag.extent.size + sum(extent.size for extent in run.extents)
        counts += size.to_bytes(4, "big")
    begin = tag.count_at + len(counts)
    return Stream(parts=(head, counts, Extent(begin, tag.extent.end - begin), *run.extents))


def _counted(run: _Run) -> Stream:
    """Return a stream whose length the decoder does not guess too short.

    It guesses by the size of the first frame. So a silent one of the least size goes before the sound.
    """
    header = bytearray(run.first)
    header[1] |= 1  # no checksum
    header[2] = 1 << 4 | header[2] & 0x0C  # the lowest bit rate, no padding
    header[3] &= 0xCF  # no extension of a joint stereo's mode
    least = _parsed(bytes(header))
    assert least is not None
    silent = bytes(header).ljust(least.n_bytes, b"\0")
    n_samples = run.frame.n_samples
    return Stream(parts=(silent, *run.extents), n_samples=run.n_frames * n_samples, n_skipped=n_samples)
