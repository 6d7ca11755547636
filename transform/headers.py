"""What a sound file states beside its samples: its chunks, and when it begins."""

import logging
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from transform.errors import AudioError
from transform.files import open_plain

_MOST_CHUNKS = 10_000
_REFERENCE_AT = 338  # of TimeReference in a chunk "bext": EBU Tech 3285, after five texts
_log = logging.getLogger(__name__)


# Magic bytes -> offset of the first chunk, form of a chunk's header, size that contents are padded to.
_LAYOUTS = {
    b"RIFF": (12, "<4sI", 2),
    b"RF64": (12, "<4sI", 2),
    b"BW64": (12, "<4sI", 2),
    b"RIFX": (12, ">4sI", 2),
    b"FORM": (12, ">4sI", 2),
    b"caff": (8, ">4sq", 1),
    b"riff": (40, "<16sQ", 8),  # Sony Wave64: names are GUIDs, sizes include the header
}


def chunks(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Yield the name, stated size and offset of each chunk of a WAV, RF64, W64, AIFF, CAF or AU file.

    The file is read from its position on. Of other files nothing comes back. A chunk whose stated size is none,
    or reaches to the end of the file, is the last.

    Raises:
        AudioError: they are more than any file has.
    """
    begin = file.tell()
    magic = file.read(4)
    if magic == b".snd":
        header = file.read(8)
        if len(header) == 8:
            offset, size = struct.unpack(">II", header)
            yield b"data", size, begin + offset
        return
    position, form, padding = _LAYOUTS.get(magic, (0, "", 1))
    position += begin
    long_size, n_chunks, has_sound = None, 0, False
    n_bytes = file.seek(0, os.SEEK_END)
    while form and position < n_bytes:  # a damaged size leads further than a file can be
        file.seek(position)
        header = file.read(struct.calcsize(form))
        if len(header) < struct.calcsize(form):
            return
        name, size = struct.unpack(form, header)
        offset = position + len(header)
        if magic == b"riff":
            name, size = name[:4], size - len(header)
        if name == b"ds64":
            long_size = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))[0]
        elif name == b"data" and size == 0xFFFFFFFF and long_size is not None:
            size = long_size
        if has_sound and not all(32 <= byte < 127 for byte in name):
            return  # more of a sound whose size is stated too small
        n_chunks += 1
        if n_chunks > _MOST_CHUNKS:
            raise AudioError(
                f"{Path(file.name).name} is broken: it is made of more than {_MOST_CHUNKS:,} chunks",
                hint="copy or export it again",
            )
        yield name, size, offset
        has_sound = has_sound or name[:4] in (b"data", b"SSND")
        if size < 0:
            return
        position = offset + size + -size % padding


def time_reference(path: Path) -> int | None:
    """Return where a broadcast WAV file begins, in samples since midnight, None where it does not say."""
    try:
        with open_plain(path) as file:
            for name, size, offset in chunks(file):
                if name == b"bext" and size >= _REFERENCE_AT + 8:
                    file.seek(offset + _REFERENCE_AT)
                    content = file.read(8)
                    return struct.unpack("<Q", content)[0] if len(content) == 8 else None
    except OSError as err:
        _log.info("no time reference is read from %s: %s", path, err)
    return None
