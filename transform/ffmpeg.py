"""Sound that libsndfile cannot read, through an `ffmpeg` on the PATH: AAC, ALAC, WMA, WavPack and others.

What is read is a stranger's. So the first bytes of a file, never its name, say by which demuxer it is read; the
demuxer is forced, none that follows playlists is used, references to other files are off, and nothing but files
and pipes can be opened. Time and length are limited.
"""

from __future__ import annotations

import logging
import os
import re
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from transform.audio_format import AudioFormat
from transform.errors import AudioError
from transform.foreign import Foreign
from transform.mp4 import length_by_edits
from transform.signal import BlockCache, Samples
from transform.spool import SpoolFile

_log = logging.getLogger(__name__)
_LONGEST_S = 86_400.0
_LONGEST_RUN_S = 1800.0
_MOST_CHANNELS = 64
_MOST_BYTES_AT_ONCE = 2**29  # that ffmpeg may allocate
_MOST_SAID_BYTES = 2**16
_MOST_BYTES = 2**36  # of a sound as it is decoded
_BLOCK_SAMPLES = 2**16
_AUDIO = re.compile(r"Stream #0:\d+\S*: Audio: (\w+)[^\n]*?, \d+ Hz, [^,\n]+, (\w+)(?: \((\d+) bit\))?")
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d\.\d+)")
_UNITS_S = (3600, 60, 1)  # of what that finds
_LOSSLESS = ("alac", "wavpack", "tta", "ape", "flac", "wmalossless", "shorten", "mlp", "truehd", "als")
_END_MISSING_S = 0.5
_MOST_ADDED = 2**13  # samples, by an encoder, at the end


class FfmpegDecoder:
    """A sound that ffmpeg decodes, all of it from the beginning, into a spool file."""

    is_exact = False

    def __init__(self, path: Path, kind: Foreign, identity: tuple[object, ...]) -> None:
        """Decode a file, unless its format and length are known from before.

        Args:
            path: of the file.
            kind: what it is.
            identity: what is the same as long as the file is.

        Raises:
            AudioError: there is no ffmpeg, or the sound cannot be decoded, or is too long.
        """
        self._path, self._kind = path, kind
        self._spool: SpoolFile | None = None
        self.format, self.n_samples = _KNOWN.get(identity, lambda _: self._decode())

    def decoded(self) -> SpoolFile:
        """Return all samples."""
        if self._spool is None:
            self._decode()
        assert self._spool is not None
        if self._spool.n_samples < self.n_samples:
            raise AudioError(f"{self._path.name} has changed", hint="start again when it is written")
        return self._spool

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop), shape (C, stop - start)."""
        return self.decoded().read(start, stop)

    def check_end(self) -> None:
        """Do nothing: all was decoded when it was opened first."""

    def close(self) -> None:
        """Delete what is decoded."""
        if self._spool is not None:
            self._spool.close()

    def _decode(self) -> tuple[AudioFormat, int]:
        program = find_ffmpeg()
        if program is None:
            raise AudioError(
                f"{self._path.name} is {self._kind.what}, which is read through ffmpeg, and there is none",
                hint="install ffmpeg so that it is on the PATH, or convert the file to WAV or FLAC",
            )
        with _running([program, *_arguments(self._path, self._kind)]) as run:
            rate, n_channels = _header(run.output)
            if rate and n_channels:
                blocks = self._blocks(run.output, rate, n_channels)
                self._spool = SpoolFile.of(blocks, n_channels, self._path.name)
            code = run.process.wait()
        text = run.said()
        if run.is_late:
            raise AudioError(
                f"{self._path.name} takes ffmpeg more than {_LONGEST_RUN_S / 60:g} minutes",
                hint="convert it to WAV or FLAC",
            )
        if code or self._spool is None or not self._spool.n_samples:
            why = text.strip().splitlines()[-1:] or ["it holds no sound"]
            plain = why[0].removeprefix(f"{_url(self._path)}: ")[:200]
            raise AudioError(
                f"{self._path.name}, {self._kind.what}, cannot be decoded by ffmpeg: {plain}",
                hint="copy or export it again, or convert it to WAV",
            )
        self._say_if_cut(text, self._spool.n_samples / rate)
        return _format(text, rate, n_channels), self._n_edited(self._spool.n_samples, rate)

    def _n_edited(self, n_decoded: int, rate: int) -> int:
        """Return how many of the samples are none that an encoder added at the end."""
        length_s = length_by_edits(self._path) if self._kind.demuxer == "mov" else None
        n_samples = n_decoded if length_s is None else round(length_s * rate)
        return n_samples if n_decoded - _MOST_ADDED <= n_samples <= n_decoded else n_decoded

    def _say_if_cut(self, text: str, length_s: float) -> None:
        found = _DURATION.search(text)
        stated_s = 0.0
        if found:
            stated_s = sum(float(part) * unit_s for part, unit_s in zip(found.groups(), _UNITS_S, strict=True))
        if stated_s > length_s + _END_MISSING_S:
            _log.warning(
                "%s: its end is missing: %.2f of %.2f s are there, and read",
                self._path.name,
                length_s,
                stated_s,
            )

    def _blocks(self, output: IO[bytes], rate: int, n_channels: int) -> Iterator[Samples]:
        """Yield what ffmpeg writes."""
        n_samples, rest = 0, b""
        while content := output.read(_BLOCK_SAMPLES * 4):
            content = rest + content
            n_whole = len(content) // (4 * n_channels)
            rest = content[n_whole * 4 * n_channels :]
            block = np.frombuffer(content, ">f4", n_whole * n_channels).reshape(-1, n_channels)
            n_samples += n_whole
            if n_samples > _LONGEST_S * rate or 4 * n_samples * n_channels > _MOST_BYTES:
                raise AudioError(f"{self._path.name} is too long", hint="cut out what is to be redrummed")
            yield block.T.astype(np.float32)


_KNOWN: BlockCache[object, tuple[AudioFormat, int]] = BlockCache(512)  # of files, by their identity


def find_ffmpeg() -> str | None:
    """Return the path of an ffmpeg in a folder of the PATH, never in the current folder unless it is one."""
    name = "ffmpeg.exe" if os.name == "nt" else "ffmpeg"
    for folder in os.get_exec_path():
        path = os.path.join(folder, name)
        if os.path.isabs(folder) and os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def _arguments(path: Path, kind: Foreign) -> list[str]:
    closed = ["-enable_drefs", "0"] if kind.demuxer == "mov" else []  # references to other files
    return [
        *("-nostdin", "-hide_banner", "-nostats", "-loglevel", "info", "-max_alloc", str(_MOST_BYTES_AT_ONCE)),
        *("-protocol_whitelist", "file,pipe", *closed, "-f", kind.demuxer, "-i", _url(path)),
        *("-map", "0:a:0", "-vn", "-sn", "-dn", "-map_metadata", "-1"),
        *("-c:a", "pcm_f32be", "-f", "au", "pipe:1"),
    ]


def _url(path: Path) -> str:
    return f"file:{path.absolute()}"


class _Run:
    """A program that runs: its output is to be read; of what it says on stderr both ends are retained."""

    def __init__(self, command: list[str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe)
        self.is_late = False
        self._head, self._tail = b"", b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._watch = threading.Timer(_LONGEST_RUN_S, self._end_late)
        self._watch.daemon = True
        self._reader.start()
        self._watch.start()

    @property
    def output(self) -> IO[bytes]:
        """What it writes."""
        assert self.process.stdout is not None
        return self.process.stdout

    def _read(self) -> None:
        assert self.process.stderr is not None
        while content := os.read(self.process.stderr.fileno(), 2**12):
            if len(self._head) < _MOST_SAID_BYTES:
                self._head += content
            else:
                self._tail = (self._tail + content)[-(2**12) :]

    def _end_late(self) -> None:
        self.is_late = True
        self.process.kill()

    def said(self) -> str:
        """Return what it said, once it has ended."""
        self._reader.join()
        return (self._head + self._tail).decode("utf-8", "replace")

    def end(self) -> None:
        """End the program if it still runs, and all that waits for it."""
        self._watch.cancel()
        self.process.kill()
        self._reader.join()
        with self.process:  # closes its pipes, and waits
            pass


@contextmanager
def _running(command: list[str]) -> Iterator[_Run]:
    """Run a program; it is ended after a while, and when the block ends."""
    run = _Run(command)
    try:
        yield run
    finally:
        run.end()


def _header(output: IO[bytes]) -> tuple[int, int]:
    """Return the rate and channels that the header of an AU file states, zeros where there is none."""
    head = output.read(24)
    if len(head) < 24 or head[:4] != b".snd":
        return 0, 0
    offset, _, _, rate, n_channels = struct.unpack(">5I", head[4:])
    output.read(offset - 24)
    return (rate, n_channels) if 0 < n_channels <= _MOST_CHANNELS else (0, 0)


def _format(text: str, rate: int, n_channels: int) -> AudioFormat:
    """Return the format of what was decoded; the depth is where ffmpeg says it."""
    found = _AUDIO.search(text)
    codec, kind, bits = found.groups() if found else ("unknown", "", None)
    is_lossy = codec not in _LOSSLESS and not codec.startswith("pcm_")
    subtype = codec.upper()
    if not is_lossy:
        n_bits = int(bits or {"u8": 8, "s16": 16}.get(kind.rstrip("p"), 32))
        subtype = next(f"PCM_{n}" for n in (16, 24, 32) if n_bits <= n)
        if kind.startswith(("flt", "dbl")):
            subtype = "FLOAT"
    return AudioFormat(sample_rate=rate, n_channels=n_channels, subtype=subtype, is_lossy=is_lossy)
