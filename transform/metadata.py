"""What a WAV file states beside its sound, and what of that holds for a result.

Sources: EBU Tech 3285 (bext), the iXML specification 3.0, Microsoft's Multimedia Data Standards (cue, smpl,
adtl), and for the chunk of Acid what its readers take it for.
"""

from __future__ import annotations

import logging
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transform.files import open_plain
from transform.headers import chunks
from transform.stated_tempo import acid_tempo

_RETAINED = (b"bext", b"iXML", b"acid", b"cue ", b"smpl", b"LIST")
_BEXT_BYTES = 602  # the least
_REFERENCE = slice(338, 346)  # of bext: the sample since midnight at which the file begins
_UMID, _LOUDNESS = slice(348, 412), slice(412, 422)  # of this very sound
_UNKNOWN_LOUDNESS = struct.pack("<h", 0x7FFF) * 5
_HIGH_AND_LOW = (
    (b"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_HI", b"TIMESTAMP_SAMPLES_SINCE_MIDNIGHT_LO"),
    (b"BWF_TIME_REFERENCE_HIGH", b"BWF_TIME_REFERENCE_LOW"),
)
_MOST_BYTES = 2**20  # of a chunk
_WHOLE_BEATS = 0.01
_TEMPI_BPM = (20.0, 400.0)  # that are believed when they are read
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metadata:
    """Chunks of a WAV file that describe its sound, each a name and what it holds."""

    chunks: tuple[tuple[bytes, bytes], ...] = ()

    def get(self, name: bytes) -> bytes | None:
        """Return what a chunk holds, None where there is none of this name."""
        return next((content for own, content in self.chunks if own == name), None)

    @property
    def tempo_bpm(self) -> float | None:
        """The tempo that it states."""
        return acid_tempo(self.get(b"acid") or b"")

    def moved(self, n_samples: int) -> Metadata:
        """Return it for a file that begins so many samples later, or, below 0, earlier."""

        def moved(name: bytes, content: bytes) -> bytes:
            if name == b"bext":
                begin = int.from_bytes(content[_REFERENCE], "little") + n_samples
                return _replaced(content, _REFERENCE, struct.pack("<Q", max(0, begin)))
            if name == b"iXML":
                for tags in _HIGH_AND_LOW:
                    content = _with_time(content, tags, n_samples)
            return content

        return self._changed(moved) if n_samples else self

    def of_take(self, n_samples: int, sample_rate: int, was_samples: int, tempo_bpm: float | None) -> Metadata:
        """Return it for a sound that begins at the same time and plays something else.

        Marks are left out, and loops but those of the whole sound where that is as long. The tempo is its own.

        Args:
            n_samples: the length of that sound.
            sample_rate: of both, in Hz.
            was_samples: the length of what this is about.
            tempo_bpm: of that sound, None where it is not known or changes.
        """
        loops = self.get(b"smpl")
        has_loops = n_samples == was_samples and loops is not None and _loops_whole(loops, n_samples)
        names = {b"bext", b"iXML", *([b"smpl"] if has_loops else [])}
        chunks = [chunk for chunk in self.chunks if chunk[0] in names]
        if tempo_bpm is not None and _TEMPI_BPM[0] <= tempo_bpm <= _TEMPI_BPM[1]:
            beats = n_samples / sample_rate * tempo_bpm / 60
            n_beats = round(beats) if abs(beats - round(beats)) < _WHOLE_BEATS else 0  # not known
            acid = struct.pack("<IHHfIHHf", 0, 60, 0x8000, 0.0, n_beats, 4, 4, tempo_bpm)
            chunks.append((b"acid", acid))
        return Metadata(tuple(chunks))

    def stored(self, bits: int) -> bytes:
        """Return it as chunks of a result, which is another sound than the one it was made of.

        Args:
            bits: of a sample of the result.
        """

        def renewed(name: bytes, content: bytes) -> bytes:
            if name == b"bext":
                content = _replaced(content, _UMID, bytes(64))
                return _replaced(content, _LOUDNESS, _UNKNOWN_LOUDNESS)
            if name == b"iXML":
                content = _with_text(content, b"FILE_UID", lambda _: b"")
                return _with_text(content, b"AUDIO_BIT_DEPTH", lambda _: b"%d" % bits)
            return content

        return b"".join(
            name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
            for name, content in self._changed(renewed).chunks
        )

    def _changed(self, change: Callable[[bytes, bytes], bytes]) -> Metadata:
        return Metadata(tuple((name, change(name, content)) for name, content in self.chunks))


def read_metadata(path: Path) -> Metadata:
    """Return what a WAV file states, as far as it is retained; nothing of any other file."""
    found: dict[bytes, bytes] = {}
    try:
        with open_plain(path) as file:
            for name, size, offset in chunks(file):
                if name not in _RETAINED or name in found:
                    continue
                if size > _MOST_BYTES:
                    _log.info("%s: its chunk %r is left out, it has %d bytes", path.name, name, size)
                    continue
                file.seek(offset)
                content = file.read(size)
                if len(content) == size and _is_sane(name, content):
                    found[name] = content
    except OSError as err:
        _log.info("no metadata is read from %s: %s", path, err)
    if b"cue " not in found:  # whose marks it names
        found.pop(b"LIST", None)
    return Metadata(tuple(found.items()))


def read_speakers(path: Path) -> int | None:
    """Return the channel mask of an extensible WAV file, None of any other file."""
    try:
        with open_plain(path) as file:
            for name, size, offset in chunks(file):
                if name == b"fmt " and size >= 40:
                    file.seek(offset)
                    content = file.read(24)
                    is_extensible = len(content) == 24 and content[:2] == b"\xfe\xff"
                    return int.from_bytes(content[20:24], "little") if is_extensible else None
                if name == b"data":
                    break
    except OSError as err:
        _log.info("no channel mask is read from %s: %s", path, err)
    return None


def _is_sane(name: bytes, content: bytes) -> bool:
    least = {b"bext": _BEXT_BYTES, b"acid": 24, b"cue ": 4, b"smpl": 36}.get(name, 0)
    return len(content) >= least and (name != b"LIST" or content[:4] == b"adtl")


def _loops_whole(content: bytes, n_samples: int) -> bool:
    """Tell whether all loops in a chunk smpl are those of a whole sound, and each is there."""
    n_loops = int.from_bytes(content[28:32], "little")
    if n_loops * 24 + 36 > len(content):
        return False
    loops = (struct.unpack_from("<II", content, 36 + 24 * number + 8) for number in range(n_loops))
    return all(loop == (0, n_samples - 1) for loop in loops)


def _replaced(content: bytes, place: slice, by: bytes) -> bytes:
    return content[: place.start] + by + content[place.stop :]


def _with_text(content: bytes, tag: bytes, change: Callable[[bytes], bytes]) -> bytes:
    """Return XML with the text of all elements of one name changed."""
    pattern = re.compile(rb"(<%s>)([^<]*)(</%s>)" % (tag, tag))
    return pattern.sub(lambda found: found[1] + change(found[2]) + found[3], content)


def _with_time(content: bytes, tags: tuple[bytes, bytes], n_samples: int) -> bytes:
    """Return iXML with a time moved that is stated as the high and the low 32 bits of a number of samples."""
    halves = [re.search(rb"<%s>\s*(\d{1,10})\s*</%s>" % (tag, tag), content) for tag in tags]
    if halves[0] is None or halves[1] is None:
        return content
    begin = max(0, (int(halves[0][1]) << 32 | int(halves[1][1])) + n_samples)
    for tag, half in zip(tags, divmod(begin, 2**32), strict=True):
        content = _with_text(content, tag, lambda _, half=half: b"%d" % half)  # type: ignore[misc]
    return content
