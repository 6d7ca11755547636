"""Sound files decoded: by libsndfile where it reads them, else through ffmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import soundfile

from transform.audio_format import LOSSLESS, AudioFormat
from transform.byte_view import ByteView, Layout, Stream
from transform.errors import AudioError
from transform.ffmpeg import FfmpegDecoder
from transform.files import native_path
from transform.layout import file_identity, foreign_kind_of, layout_of
from transform.metadata import read_speakers
from transform.signal import Samples, overlapping_blocks
from transform.spool import SpoolFile

_BLOCK_SAMPLES = 2**18


class Decoder(Protocol):
    """What decodes a file."""

    format: AudioFormat
    n_samples: int

    @property
    def is_exact(self) -> bool:
        """Whether any region is read as it lies in the file; else all is decoded once, from the beginning."""

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop), shape (C, stop - start).

        Raises:
            AudioError: they cannot be decoded.
        """

    def decoded(self) -> SpoolFile:
        """Return all samples, decoded from the beginning.

        Raises:
            AudioError: they cannot be decoded, or there is no room for them.
        """

    def check_end(self) -> None:
        """Raise AudioError if the last sample cannot be decoded, as far as that is known without the others."""

    def close(self) -> None:
        """Close the file."""


def open_decoder(path: Path) -> Decoder:
    """Return what decodes a sound file.

    Raises:
        AudioError: it is missing, a folder, empty, cut short or not a sound file.
    """
    layout = layout_of(path)
    try:
        return SoundFileDecoder(path, layout)
    except (soundfile.SoundFileError, TypeError) as err:  # TypeError: .raw files, which have no header
        kind = foreign_kind_of(path)
        if kind is not None:
            return FfmpegDecoder(path, kind, (path, *file_identity(path)))
        raise AudioError(
            f"{path.name} is not a sound file that can be read",
            hint="convert it to WAV, AIFF, FLAC, OGG or MP3",
        ) from err


class SoundFileDecoder:
    """The streams of a file, decoded by libsndfile, one after the other."""

    def __init__(self, path: Path, layout: Layout) -> None:
        """Open the file.

        Raises:
            soundfile.SoundFileError: libsndfile does not read it.
            AudioError: its streams differ in form.
        """
        self._path = path
        self._streams: tuple[Stream | None, ...] = layout.streams or (None,)
        self._lengths: list[int] = []
        self._file = _open(path, self._streams[0])
        first = self._file
        for number, stream in enumerate(self._streams):
            file = first if number == 0 else _open(path, stream)
            stated = stream.n_samples if stream is not None else None
            self._lengths.append(file.frames if stated is None else min(stated, file.frames))
            if (file.samplerate, file.channels) != (first.samplerate, first.channels):
                self._raise_changed(number, file)
            if number:
                _close(file)
        self.format = AudioFormat(
            sample_rate=first.samplerate,
            n_channels=first.channels,
            subtype=first.subtype,
            is_lossy=first.subtype not in LOSSLESS,
            speakers=_speakers(path, first.format),
        )
        self.n_samples = sum(self._lengths)

    @property
    def is_exact(self) -> bool:
        """Whether any region is read as it lies in the file."""
        # libsndfile seeks inexactly in compressed sound (by 5921 samples near the end of an OGG file).
        return len(self._streams) == 1 and not self.format.is_lossy and self._file.seekable()

    def check_end(self) -> None:
        """Raise AudioError if the last sample cannot be decoded, as far as that is known without the others."""
        is_counted = self._streams[0] is not None and self._streams[0].n_samples is not None
        if len(self._streams) == 1 and not is_counted and self._file.seekable():
            self.read(self.n_samples - 1, self.n_samples)

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) of a file of one stream, shape (C, stop - start)."""
        try:
            if self._file.seekable() and self._file.tell() != start:
                self._file.seek(start)
        except soundfile.SoundFileError as err:
            raise self._broken(start) from err
        return self._next(self._file, stop - start, start)

    def decoded(self) -> SpoolFile:
        """Return all samples."""
        return SpoolFile.of(self._blocks(), self.format.n_channels, self._path.name)

    def close(self) -> None:
        """Close the file."""
        _close(self._file)

    def _blocks(self) -> Iterator[Samples]:
        """Yield all samples, from files that are opened for that: nothing may have been sought in them."""
        done = 0
        for stream, length in zip(self._streams, self._lengths, strict=True):
            file = _open(self._path, stream)
            try:
                if stream is not None and stream.n_skipped:
                    self._next(file, stream.n_skipped, done)
                for block in overlapping_blocks(length, _BLOCK_SAMPLES):
                    yield self._next(file, block.stop - block.start, done + block.start)
            finally:
                _close(file)
            done += length

    def _next(self, file: soundfile.SoundFile, n_samples: int, at: int) -> Samples:
        """Return the next samples of a file, which lie at `at` in the sound."""
        try:
            block: Samples = file.read(n_samples, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, ValueError) as err:  # ValueError: a decoder that stands past the end
            raise self._broken(at) from err
        if len(block) < n_samples:
            raise self._broken(at + len(block))
        return block.T

    def _broken(self, at: int) -> AudioError:
        at_s = at / self.format.sample_rate
        return AudioError(
            f"{self._path.name} cannot be decoded after {at_s:.3f} s: it is damaged or cut short",
            hint="copy or export it again",
        )

    def _raise_changed(self, number: int, file: soundfile.SoundFile) -> None:
        rate, n_channels = self._file.samplerate, self._file.channels
        form = f"{file.samplerate} Hz, {file.channels} channels"
        _close(file)
        self.close()
        raise AudioError(
            f"{self._path.name} changes from {rate} Hz, {n_channels} channels to {form} "
            f"at {sum(self._lengths[:number]) / rate:.3f} s",
            hint="convert it to WAV",
        )


def _speakers(path: Path, container: str) -> int | None:
    """Return the channel mask of an extensible file; every RF64 file by libsndfile is one, with the mask 0."""
    speakers = read_speakers(path) if container in ("WAVEX", "RF64") else None
    return speakers or (None if container == "RF64" else speakers)


def _open(path: Path, stream: Stream | None) -> soundfile.SoundFile:
    """Return a stream of a file opened; SoundFileError or TypeError: it cannot be."""
    file = soundfile.SoundFile(native_path(path) if stream is None else ByteView(path, stream.parts))
    if file.format == "RAW":  # libsndfile's guess for anything whose name ends in .au, .snd, .vox or .gsm
        file.close()
        raise soundfile.SoundFileError("no header")
    return file


def _close(file: soundfile.SoundFile) -> None:
    file.close()
    if isinstance(file.name, ByteView):
        file.name.close()
