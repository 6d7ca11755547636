"""Where the sound lies in a file, found before a decoder is given it.

libsndfile believes lengths that headers state, and guesses those that none states. Here files are walked
through as far as it takes to know better: unfinished headers, MPEG without a count of its frames, streams that
follow one another, tags in front.
"""

from __future__ import annotations

import logging
import os
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from transform import flac, mpeg, ogg, unfinished
from transform.byte_view import CutShort, Extent, Layout, Stream, after_tags
from transform.errors import AudioError
from transform.files import open_plain
from transform.foreign import HEAD_BYTES, Foreign, foreign_kind
from transform.names import missing_hint

_log = logging.getLogger(__name__)
STREAM = "-"
_MOST_STREAMS = 1000  # that follow one another in a file
_KNOWN_FILES = 512  # whose layouts are cached


def layout_of(path: Path) -> Layout:
    """Return where the sound of a file lies; what is found is cached as long as the file is the same.

    Raises:
        AudioError: it is missing, no file, empty, or cannot be read; bytes are missing that its header
            promises; or it is made of too many parts.
    """
    if path.is_dir():
        raise AudioError(f"{path} is a folder", hint="name a sound file in it")
    if path.name == STREAM and not path.exists():
        raise AudioError(
            f"{path} is standard input for render and transcribe alone", hint="name a file, without a pipe"
        )
    if not path.exists():
        raise AudioError(f"{path} does not exist", hint=missing_hint(path))
    if not path.is_file():
        raise AudioError(
            f"{path} is not a file", hint="name a sound file; render and transcribe take what is piped in as -"
        )
    try:
        if path.stat().st_size == 0:
            raise AudioError(f"{path.name} is empty (0 bytes)", hint="copy or export it again")
        return _layout(path, file_identity(path))
    except OSError as err:
        raise AudioError(f"{path} cannot be read: {err.strerror or err}", hint="check its permissions") from err


def file_identity(path: Path) -> tuple[int, ...]:
    """Return what is the same as long as a file is."""
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def foreign_kind_of(path: Path) -> Foreign | None:
    """Return what a file is that only ffmpeg reads, None of any other."""
    with open_plain(path) as file:
        return _foreign_kind_at(file, after_tags(file, Extent(0, file.seek(0, os.SEEK_END))))


def _foreign_kind_at(file: BinaryIO, begin: int) -> Foreign | None:
    file.seek(begin)
    return foreign_kind(file.read(HEAD_BYTES))


@lru_cache(maxsize=_KNOWN_FILES)
def _layout(path: Path, identity: tuple[int, ...]) -> Layout:
    with open_plain(path) as file:
        whole = Extent(0, file.seek(0, os.SEEK_END))
        sound = Extent(begin := after_tags(file, whole), whole.end - begin)
        file.seek(begin)
        magic = file.read(4)
        try:
            if magic in unfinished.CHUNKED:
                layout = unfinished.lay_out(file, sound)
            elif magic == b"fLaC":
                layout = flac.lay_out(file, sound)
            elif magic == b"OggS":
                layout = ogg.lay_out(file, sound)
            elif _foreign_kind_at(file, begin) is None:  # in which MPEG frames may lie, too
                layout = mpeg.lay_out(file, sound)
                if not layout.streams and path.suffix.lower() == ".mp3":
                    # Without its name: by that alone a decoder would try it, and print what it finds.
                    layout = Layout(streams=(Stream(parts=(sound,)),))
            else:
                layout = Layout()
        except CutShort as err:
            raise AudioError(f"{path.name} is cut short: {err}", hint="copy or export it again") from err
    if len(layout.streams) > _MOST_STREAMS:
        raise AudioError(
            f"{path.name} is made of more than {_MOST_STREAMS:,} streams", hint="convert it to WAV"
        )
    if layout.note:
        _log.warning("%s: %s", path.name, layout.note)
    return layout
