"""Sound files in and out: recordings are opened but never loaded whole, results are written block by block.

Samples are float32 of shape (C, T), full scale is 1. Files keep their own sample rate, channels and bit depth.
"""

import logging
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import soundfile

from transform.errors import AudioError, OutputError, SettingsError
from transform.files import (
    atomic_file,
    atomic_files,
    check_output,
    temporary_file,
    write_bytes_atomic,
    write_text_atomic,
)
from transform.headers import chunks, require_whole, stated_tempo
from transform.resampling import streamed
from transform.signal import (
    BlockCache,
    Samples,
    Signal,
    added,
    blocks_of,
    overlapping_blocks,
    read_blocks,
    zeros_outside,
)
from transform.spool import SpoolFile

__all__ = [
    "SAMPLE_RATE",
    "AudioFormat",
    "BeyondFullScale",
    "PartFile",
    "Recording",
    "Samples",
    "check_output",
    "resolve_output",
    "store_parts",
    "write_audio",
    "write_bytes_atomic",
    "write_parts",
    "write_text_atomic",
]

SAMPLE_RATE = 44_100  # rate of the analysis signal and of the models, Hz

Progress = Callable[[str, float], None]  # called with the stage, and the fraction of it that is done

_log = logging.getLogger(__name__)
_CONTAINERS = {".wav": "WAV", ".flac": "FLAC", ".aiff": "AIFF", ".aif": "AIFF"}
_CONTAINERS |= {".caf": "CAF", ".w64": "W64", ".rf64": "RF64"}
_BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
_FLOATS = {"FLOAT": 32, "DOUBLE": 64}
_BYTES = {subtype: bits // 8 for subtype, bits in (_BITS | _FLOATS).items()}
_BIT_DEPTHS = {"16": "PCM_16", "24": "PCM_24", "32": "PCM_32", "32f": "FLOAT"}
# What holds the same bits where a container lacks the subtype, or where we do not write it.
_SAME_DEPTH = {"PCM_S8": "PCM_U8", "PCM_U8": "PCM_S8", "ALAC_16": "PCM_16", "ALAC_32": "PCM_32"}
_WAV_LIMIT_BYTES = 2**32 - 2**16  # a WAV header counts in 32 bits; the rest is room for its other chunks
_BLOCK_SAMPLES = 2**18
_CACHED_SAMPLES = 2**10, 2**17  # of cached blocks, at least and of all channels together
_CACHED_BLOCKS, _SHORT_BLOCKS = 8, 64  # of a long recording, and of one that is cached whole
_MAX_CHANNELS = 1024  # libsndfile's own limit
_MOST_FILE_CHANNELS = 64  # of 7th-order ambisonics and of MADI; more take minutes a second
_LONGEST_S = 86_400.0
_LOUDEST = 1e6  # 120 dB over full scale; much more overflows as soon as it is squared and summed
_CANCELLED_DB = -12.0  # of the mean of the channels against the loudest of them
_RATES_HZ = (1_000, 1_000_000)  # what lies outside stands in damaged headers, and would take hours to resample


MakesFeatures = Callable[[Any], Any]  # audio -> features, tensors as `Listener` has them


class ReadsFeatures(Protocol):
    """What reads features by frames: transform/features.py."""

    n_frames: int

    def read(self, begin: int, end: int, /) -> Any:
        """Return the features of frames [begin, end), a tensor (1, C, end - begin, K)."""


@dataclass(frozen=True, kw_only=True)
class AudioFormat:
    """How a recording is stored."""

    sample_rate: int
    n_channels: int
    subtype: str  # soundfile's name of the sample format, such as "PCM_24"
    is_lossy: bool = False


class Recording:
    """A sound that is opened, not loaded, so that half an hour of it needs no more memory than a second.

    Not for use by several threads at once. Close it, or use it in a `with` statement, to free its file early.
    """

    def __init__(self, name: str, fmt: AudioFormat, n_samples: int) -> None:
        self.name = name
        self.format = fmt
        self.n_samples = n_samples
        self.spread_s = 0.0  # how much later a stroke may reach one channel than another
        self.path: Path | None = None
        self._stored: Callable[[int, int], Samples] | None = None  # what reads a sound that is in no file
        self._file: soundfile.SoundFile | None = None
        self._decoded: SpoolFile | None = None
        self._block_samples = max(_CACHED_SAMPLES[0], _CACHED_SAMPLES[1] // self.n_channels)
        self._is_short = n_samples <= _SHORT_BLOCKS * self._block_samples
        self._cache: BlockCache[int, Samples] = BlockCache(_SHORT_BLOCKS if self._is_short else _CACHED_BLOCKS)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the recording in a sound file, after checking that all of it is there.

        Raises:
            AudioError: the file is missing, a folder, empty, cut short, without samples or not a sound file.
        """
        require_whole(path)
        file = _open(path)
        known = (*_BITS, *_FLOATS, "ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32")
        fmt = AudioFormat(
            sample_rate=file.samplerate,
            n_channels=file.channels,
            subtype=file.subtype,
            is_lossy=file.subtype not in known,
        )
        recording = cls(path.stem, fmt, file.frames)
        recording.path, recording._file = path, file
        try:
            recording._check_end()
        except AudioError:
            recording.close()
            raise
        return recording

    @classmethod
    def from_samples(cls, samples: npt.ArrayLike, sample_rate: int, name: str = "recording") -> Self:
        """Return a recording of samples in memory, shape (C, T) or (T,).

        Raises:
            AudioError: there are no samples, or the shape or the sample rate is not possible.
        """
        array = np.atleast_2d(np.asarray(samples, dtype=np.float32))
        if array.ndim != 2 or array.shape[0] > _MAX_CHANNELS:
            raise AudioError(
                f"{name} has the shape {array.shape}; it must be (channels, samples)",
                hint="transpose it if the samples come first",
            )
        if array.size == 0:
            raise AudioError(f"{name} holds no samples", hint="pass at least one sample")
        if sample_rate <= 0:
            raise AudioError(f"the sample rate of {name} is {sample_rate} Hz", hint="pass its rate in Hz")
        fmt = AudioFormat(sample_rate=int(sample_rate), n_channels=array.shape[0], subtype="FLOAT")
        recording = cls(name, fmt, array.shape[1])
        recording._stored = lambda start, stop: array[:, start:stop]
        return recording

    @classmethod
    def of_signal(cls, signal: Signal, fmt: AudioFormat, name: str) -> Self:
        """Return a recording that is a view of a signal, which must stay open as long.

        Raises:
            AudioError: there are no samples.
        """
        if not signal.n_samples:
            raise AudioError(f"{name} holds no samples", hint="pass at least one sample")
        recording = cls(name, fmt, signal.n_samples)
        recording._stored = signal.read
        return recording

    @property
    def sample_rate(self) -> int:
        """Samples per second and channel."""
        return self.format.sample_rate

    @property
    def n_channels(self) -> int:
        """The number of channels."""
        return self.format.n_channels

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return self.n_samples / self.sample_rate

    def read(self, start: int, stop: int) -> Samples:
        """Return the samples from `start` up to `stop`, shape (C, stop - start), zeros outside the recording.

        Raises:
            AudioError: a sample is NaN or infinite, or the file cannot be decoded.
        """
        return zeros_outside(self._checked, start, stop, (self.n_channels, self.n_samples))

    def mono_blocks(self, sample_rate: int = SAMPLE_RATE, block_s: float = 10.0) -> Iterator[Samples]:
        """Yield the mono mix of the recording, as `mono`, at another sample rate, in blocks, sample by sample.

        Together the blocks, each of shape (T,), hold `round(n_samples * sample_rate / self.sample_rate)`
        samples, and at least one.
        """
        step = max(1, round(block_s * self.sample_rate))
        blocks = (
            self.mono(block.start, block.stop)[None] for block in overlapping_blocks(self.n_samples, step)
        )
        yield from (block[0] for block in streamed(blocks, self, sample_rate))

    def features(self, listen: MakesFeatures) -> "ReadsFeatures | None":
        """Return what reads the features that are transcribed; None: they are those of the mono mix."""
        return None

    def read_views(self, start: int, stop: int) -> Samples:
        """Return the views of samples [start, stop), shape (V, stop - start): see `views`."""
        return self.views(self.read(start, stop))

    def views(self, samples: Samples) -> Samples:
        """Return the signals of samples (C, T) that are measured each for itself, shape (V, T).

        Of a recording that is its mono mix; of microphones of one performance it is each of their channels, as
        these cancel in a mix.
        """
        return self.mixed(samples)[None]

    def closest(self, start: int, stop: int) -> Samples:
        """Return the loudest view of samples [start, stop), shape (stop - start,)."""
        views = self.read_views(start, stop)
        loudest: Samples = views[int(np.square(views).sum(axis=1).argmax())]
        return loudest

    def at_stored_level(self, samples: Samples) -> Samples:
        """Return samples (C, T) of this recording's channels as loud as its files have them."""
        return samples

    def is_complete(self, start: int, stop: int) -> bool:
        """Tell whether all channels were recorded from sample `start` to `stop`."""
        return True

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided about it that its user should read, one sentence each."""
        return ()

    def mono(self, start: int, stop: int) -> Samples:
        """Return the mono mix of samples [start, stop), shape (stop - start,): see `mixed`.

        Raises:
            AudioError: a sample is NaN or infinite, or the file cannot be decoded.
        """
        return self.mixed(self.read(start, stop))

    def mixed(self, samples: Samples) -> Samples:
        """Return the mono mix of samples (C, T) that have this recording's channels, shape (T,).

        It is their mean; or, where that is much softer than they are on the whole, being of opposite phase, the
        loudest channel.
        """
        channel = self.mono_channel
        mono: Samples = samples.mean(axis=0) if channel is None else samples[channel]
        return mono

    @property
    def mono_channel(self) -> int | None:
        """The channel that stands for the mix where the channels cancel each other; None: their mean does."""
        return None if self.n_channels == 1 else self._channel_and_peak[0]

    @property
    def mono_peak(self) -> float:
        """The peak of the mono mix."""
        return self._channel_and_peak[1]

    @cached_property
    def _channel_and_peak(self) -> tuple[int | None, float]:
        """The channel of the mono mix, found in one pass, and the mix's peak."""
        energy, peak = (np.zeros(self.n_channels + 1) for _ in range(2))  # of the mean, then of each channel
        for block in blocks_of(self, _BLOCK_SAMPLES):
            for i, sound in enumerate((block.mean(axis=0), *(block if self.n_channels > 1 else ()))):
                energy[i] += np.dot(sound, sound)
                peak[i] = max(peak[i], np.abs(sound).max())
        loudest = int(energy[1:].argmax())
        if energy[0] >= energy[1 + loudest] * 10 ** (_CANCELLED_DB / 10):
            return None, float(peak[0])
        _log.info(
            "%s: its channels cancel each other, so channel %d alone is transcribed", self.name, loudest + 1
        )
        return loudest, float(peak[1 + loudest])

    def tempo_bpm(self) -> tuple[float, str] | None:
        """Return the tempo that the file states and where it does, or None where it states none."""
        return stated_tempo(self.path, self.name)

    def close(self) -> None:
        """Close the file; the recording cannot be read any more."""
        self._cache.clear()
        for file in (self._file, self._decoded):
            if file is not None:
                file.close()

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _label(self) -> str:
        return self.path.name if self.path else self.name

    def _check_end(self) -> None:
        """Raise AudioError unless there are samples, at a rate of sound, and the last can be decoded."""
        assert self._file is not None
        if self.n_samples <= 0:
            raise AudioError(f"{self._label} holds no samples", hint="export it again from where it was made")
        if self.n_samples >= 2**62:
            raise AudioError(f"{self._label} has no length", hint="convert it to WAV or encode it again")
        if not _RATES_HZ[0] <= self.sample_rate <= _RATES_HZ[1]:
            raise AudioError(
                f"{self._label} has a stated rate of {self.sample_rate} Hz, which no sound has",
                hint="copy or export it again",
            )
        if self.duration_s > _LONGEST_S:
            raise AudioError(f"{self._label} lasts more than a day", hint="cut out what is to be redrummed")
        if self.n_channels > _MOST_FILE_CHANNELS:
            raise AudioError(
                f"{self._label} has {self.n_channels} channels, more than {_MOST_FILE_CHANNELS}",
                hint="export only the channels you need",
            )
        if self._file.seekable():
            self._decode(self.n_samples - 1, self.n_samples)

    def _checked(self, start: int, stop: int) -> Samples:
        """Return samples that lie inside the recording, shape (C, T); raise AudioError for what is no sound."""
        samples = self._fetch(start, stop)
        if not _is_sound(samples):
            bad = int((~(np.abs(samples) <= _LOUDEST)).any(axis=0).argmax())
            is_finite = np.isfinite(samples[:, bad]).all()
            what = "far beyond full scale" if is_finite else "that is not a number (NaN or infinite)"
            raise AudioError(
                f"{self._label} holds a value {what} at {(start + bad) / self.sample_rate:.3f} s",
                hint="export it again, or repair it in an audio editor",
            )
        return samples

    def _fetch(self, start: int, stop: int) -> Samples:
        """Return samples that lie inside the recording, shape (C, T), as they are stored."""
        if self._stored is not None:
            return self._stored(start, stop)
        assert self._file is not None
        # libsndfile seeks inexactly in compressed sound (by 5921 samples near the end of an OGG file), so what
        # is lossy is decoded once, from its start, and then read from there.
        if self.format.is_lossy or not self._file.seekable():
            if self._decoded is None:
                self._decoded = self._decode_all()
            return self._decoded.read(start, stop)
        n_blocks = (stop - 1) // self._block_samples - start // self._block_samples + 1
        if n_blocks > 2 and not self._is_short:
            return self._decode(start, stop)
        try:
            return read_blocks(
                lambda number: self._cache.get(number, self._decode_block), self._block_samples, start, stop
            )
        except AudioError:
            return self._decode(start, stop)  # which may lie before what is damaged

    def _decode_block(self, number: int) -> Samples:
        start = number * self._block_samples
        return self._decode(start, min(start + self._block_samples, self.n_samples))

    def _decode_all(self) -> SpoolFile:
        """Return all samples."""
        assert self.path is not None
        self.close()
        self._file = _open(self.path)  # nothing may have been sought in it
        blocks = overlapping_blocks(self.n_samples, _BLOCK_SAMPLES)
        decoded = (self._decode(block.start, block.stop) for block in blocks)
        return SpoolFile.of(decoded, self.n_channels, self._label)

    def _decode(self, start: int, stop: int) -> Samples:
        assert self._file is not None
        try:
            if self._file.seekable() and self._file.tell() != start:
                self._file.seek(start)
            block: Samples = self._file.read(stop - start, dtype="float32", always_2d=True)
        except (soundfile.SoundFileError, ValueError) as err:  # ValueError: a decoder that stands past the end
            raise self._broken(start) from err
        if len(block) < stop - start:
            raise self._broken(start + len(block))
        return block.T

    def _broken(self, at: int) -> AudioError:
        return AudioError(
            f"{self._label} cannot be decoded after {at / self.sample_rate:.3f} s: it is damaged or cut short",
            hint="copy or export it again",
        )


def is_float(subtype: str) -> bool:
    """Tell whether a sample format, by soundfile's name, holds what is over full scale."""
    return subtype in _FLOATS


def resolve_output(path: Path, source: AudioFormat, bit_depth: str | None) -> tuple[str, str]:
    """Return soundfile's container and subtype for a result at `path`.

    Args:
        path: its ending chooses the container.
        source: the recording whose depth the result keeps; what is lossy or does not fit becomes 24-bit.
        bit_depth: "16", "24", "32" or "32f" instead of the source's depth.

    Raises:
        SettingsError: the ending is not that of a lossless container, or the container cannot hold the sound.
    """
    container = _CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise SettingsError(
            f"{path.name} does not end like a lossless sound file", hint=f"use one of {', '.join(_CONTAINERS)}"
        )
    if container == "FLAC" and source.n_channels > 8:
        raise SettingsError(f"FLAC holds 8 channels, not {source.n_channels}", hint="write a .wav file")
    if bit_depth is not None:
        if bit_depth not in _BIT_DEPTHS:
            raise SettingsError(
                f"the bit depth is {bit_depth}; it must be one of {', '.join(_BIT_DEPTHS)}",
                hint="leave it out to retain the depth of the source",
            )
        subtype = _BIT_DEPTHS[bit_depth]
        if not soundfile.check_format(container, subtype):
            raise SettingsError(
                f"{container} does not hold {bit_depth} bits", hint="write a .wav file, or 24 bits"
            )
        return container, subtype
    for subtype in (source.subtype, _SAME_DEPTH.get(source.subtype, "")):
        if (subtype in _BITS or subtype in _FLOATS) and soundfile.check_format(container, subtype):
            return container, subtype
    _log.info("%s is written with 24 bits: %s does not hold %s", path.name, container, source.subtype)
    return container, "PCM_24"


def write_audio(path: Path, blocks: Iterable[Samples], fmt: AudioFormat, *, overwrite: bool = False) -> None:
    """Write blocks of shape (C, T) to a sound file that appears whole or not at all.

    The ending of `path` chooses the container, `fmt` the rest (see `resolve_output`). Samples of 16 and 24 bits
    come back bit by bit; a WAV file beyond 4 GiB becomes RF64. The same samples give the same bytes.

    Raises:
        OutputError: the file exists and `overwrite` is not set, or it cannot be written.
        AssertionError: a sample is beyond full scale in an integer format or not finite, or there are none.
    """
    container, subtype = resolve_output(path, fmt, None)
    fmt = replace(fmt, subtype=subtype)
    remaining = iter(blocks)
    with atomic_file(path, overwrite=overwrite) as temporary, _named(path):
        leftover = _fill(temporary, remaining, fmt, container)
        if leftover is not None:
            _log.info("%s is beyond 4 GiB and becomes an RF64 file", path.name)
            with temporary_file(path) as begun:
                os.replace(temporary, begun)
                with Recording.open(begun) as stored:
                    _fill(
                        temporary, chain(blocks_of(stored, _BLOCK_SAMPLES), (leftover,), remaining), fmt, "RF64"
                    )


class BeyondFullScale(ArithmeticError):
    """A part of a sound does not fit an integer format, though the sound itself does."""


@dataclass(frozen=True, kw_only=True)
class PartFile:
    """A file that a part of a sound is written to: at `temporary` until all are whole, then at `path`."""

    path: Path  # its ending chooses the container
    temporary: Path
    subtype: str


def write_parts(
    paths: Sequence[Path | None],
    blocks: Iterable[Samples],
    fmt: AudioFormat,
    *,
    n_samples: int,
    overwrite: bool = False,
) -> None:
    """Write the parts of a sound side by side, in one pass, to WAV files that appear together or not at all.

    Up to 24 bits the parts are rounded so that what is stored adds up to the whole as rounded: added up again,
    the parts of a 16-bit recording are that recording, bit by bit.

    Args:
        paths: one for each part, None for a part that is not written.
        blocks: shape (N, C, T) for N parts.
        fmt: of every file; the subtype is one that WAV holds.
        n_samples: the length of the blocks together.
        overwrite: replace files that exist.

    Raises:
        BeyondFullScale: a part is beyond full scale in its integer format; nothing is written.
        OutputError: a file exists and `overwrite` is not set, or it cannot be written.
    """
    written = [path for path in paths if path is not None]
    with atomic_files(written, overwrite=overwrite) as temporaries:
        at = dict(zip(written, temporaries, strict=True))
        files = [
            PartFile(path=path, temporary=at[path], subtype=fmt.subtype) if path else None for path in paths
        ]
        store_parts(files, blocks, fmt, n_samples=n_samples)


def store_parts(
    files: Sequence[PartFile | None],
    blocks: Iterable[Samples],
    fmt: AudioFormat,
    *,
    n_samples: int,
    whole: PartFile | None = None,
) -> None:
    """Fill files with the parts of a sound, and perhaps one with their sum, all in one pass.

    Parts that are as deep as the whole, 24 bits at most, are rounded so that they add up to it bit by bit.

    Args:
        files: one for each part, None for a part that is not written.
        blocks: shape (N, C, T) for N parts.
        fmt: what the files have in common.
        n_samples: the length of the blocks together.
        whole: gets the sum of the parts, as `added` has it; it is within full scale.

    Raises:
        BeyondFullScale: a part is beyond full scale in its integer format; the files are not whole.
        OutputError: a file cannot be written.
    """
    written = [(part, file) for part, file in enumerate(files) if file is not None]
    subtype = written[0][1].subtype if written else "FLOAT"
    ceiling = 1 - 2.0 ** (1 - _BITS[subtype]) if subtype in _BITS else math.inf
    with ExitStack() as open_files:
        opened = [open_files.enter_context(_create_part(file, fmt, n_samples)) for _, file in written]
        total_file = whole and open_files.enter_context(_create_part(whole, fmt, n_samples))
        for block in blocks:
            total = added(block) if whole else None
            is_rounded_alike = whole is not None and whole.subtype == subtype
            parts = _rounded_parts(block, subtype, beside_whole=is_rounded_alike)
            for sound_file, (part, file) in zip(opened, written, strict=True):
                if np.abs(parts[part]).max(initial=0.0) > ceiling:
                    raise BeyondFullScale
                with _named(file.path):
                    sound_file.write(_encode(parts[part], subtype))
            if whole and total_file and total is not None:
                with _named(whole.path):
                    total_file.write(_encode(total, whole.subtype))
    for file in filter(None, (*files, whole)):
        _finish(file.temporary, n_samples, file.subtype)


def store_together(
    files: Sequence[PartFile],
    formats: Sequence[AudioFormat],
    blocks: Iterable[Sequence[Samples]],
    lengths: Sequence[int],
) -> None:
    """Fill files with sounds that are as long as one another, each at its own rate, in one pass.

    Args:
        files: one for each sound.
        formats: of the sounds.
        blocks: of each sound the next samples (C, T), perhaps none.
        lengths: of the sounds, in samples.

    Raises:
        OutputError: a file cannot be written.
    """
    with ExitStack() as open_files:
        opened = [
            open_files.enter_context(_create_part(file, fmt, length))
            for file, fmt, length in zip(files, formats, lengths, strict=True)
        ]
        for sounds in blocks:
            for sound_file, file, samples in zip(opened, files, sounds, strict=True):
                with _named(file.path):
                    sound_file.write(_encode(samples, file.subtype))
    for file, length in zip(files, lengths, strict=True):
        _finish(file.temporary, length, file.subtype)


def _create_part(file: PartFile, fmt: AudioFormat, n_samples: int) -> soundfile.SoundFile:
    fmt = replace(fmt, subtype=file.subtype)
    container, _ = resolve_output(file.path, fmt, None)
    with _named(file.path):
        return _create(
            file.temporary, fmt, "RF64" if container == "WAV" and n_samples > _wav_limit(fmt) else container
        )


def _rounded_parts(block: Samples, subtype: str, *, beside_whole: bool) -> Samples:
    """Return parts (N, C, T) as they are stored: each running sum of them is the nearest that can be stored.

    Beside their whole the sums are those of `added`, so that the last of them is the whole as it is stored.
    """
    bits = _BITS.get(subtype, 32)
    if bits == 32:  # not rounded, or more finely than float32 is
        return block
    full_scale = 2.0 ** (bits - 1)
    # float32 has the sums of 16 bits to a hundredth of a step.
    kind = np.float32 if bits <= 16 else np.float64
    levels = block.copy() if beside_whole else np.multiply(block, full_scale, dtype=kind)
    for part in range(1, len(levels)):
        levels[part] += levels[part - 1]
    if beside_whole:
        levels = np.multiply(levels, full_scale, dtype=kind)
        np.minimum(levels[-1], full_scale - 1, out=levels[-1])
    np.rint(levels, out=levels)
    for part in range(len(levels) - 1, 0, -1):
        levels[part] -= levels[part - 1]
    levels *= 1 / full_scale
    return levels.astype(np.float32, copy=False)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what libsndfile cannot write into an error that names `path`."""
    try:
        yield
    except soundfile.LibsndfileError as err:
        raise OutputError(
            f"{path} could not be written to its end: {err.error_string}",
            hint="make room on its disk, or write another format",
        ) from err


def _create(path: Path, fmt: AudioFormat, container: str) -> soundfile.SoundFile:
    form = (fmt.sample_rate, fmt.n_channels, fmt.subtype)
    return soundfile.SoundFile(_native(path), "w", *form, format=container)


def _wav_limit(fmt: AudioFormat) -> int:
    """Return how many samples a WAV file holds."""
    return _WAV_LIMIT_BYTES // (_BYTES[fmt.subtype] * fmt.n_channels)


def _finish(path: Path, n_samples: int, subtype: str) -> None:
    """Raise OSError unless a file holds all that was written; make its bytes depend on its samples alone."""
    with soundfile.SoundFile(_native(path)) as file:  # what fails on closing raises nothing by itself
        if file.frames != n_samples:
            raise OSError("its end is missing")
    if subtype in _FLOATS:
        _forget_date(path)


def _fill(path: Path, blocks: Iterator[Samples], fmt: AudioFormat, container: str) -> Samples | None:
    """Write blocks to `path` until they end (None) or a WAV file is full (the block that did not fit)."""
    limit = _wav_limit(fmt) if container == "WAV" else math.inf
    n_samples = 0
    with _create(path, fmt, container) as file:
        for block in blocks:
            assert block.shape[0] == fmt.n_channels, f"{block.shape[0]} channels instead of {fmt.n_channels}"
            if n_samples + block.shape[1] > limit:
                return block
            file.write(_encode(block, fmt.subtype))
            n_samples += block.shape[1]
    assert n_samples > 0, "a result without samples"
    _finish(path, n_samples, fmt.subtype)
    return None


def _forget_date(path: Path) -> None:
    """Zero the time of writing, which libsndfile notes beside the peaks of float samples."""
    with path.open("rb+") as file:
        for name, _, offset in list(chunks(file)):
            if name == b"PEAK":
                file.seek(offset + 4)
                file.write(bytes(4))


def _is_sound(samples: Samples) -> bool:
    return bool(samples.max() <= _LOUDEST and samples.min() >= -_LOUDEST)  # false of what is not a number, too


def _native(path: Path) -> str | bytes:
    """Return a path as soundfile takes it: a name that is not UTF-8 only as the bytes that it is."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def _open(path: Path) -> soundfile.SoundFile:
    unreadable = AudioError(
        f"{path.name} is not a sound file that can be read", hint="convert it to WAV, AIFF, FLAC, OGG or MP3"
    )
    try:
        file = soundfile.SoundFile(_native(path))
    except (soundfile.SoundFileError, TypeError) as err:  # TypeError: .raw files, which have no header
        raise unreadable from err
    if file.format == "RAW":  # libsndfile's guess for anything whose name ends in .au, .snd, .vox or .gsm
        file.close()
        raise unreadable
    return file


def _encode(block: Samples, subtype: str) -> npt.NDArray[Any]:
    """Return samples as (T, C) in the type that libsndfile stores without changing a bit.

    libsndfile's own conversion from float scales by 2**(bits - 1) - 1 where reading divides by 2**(bits - 1).
    """
    # Not assert statements: python -O must not turn these mistakes of ours into broken or clipped files.
    if not np.isfinite(block).all():
        raise AssertionError("a sample to be written is not finite")
    if subtype in _FLOATS:
        return block.T
    bits = _BITS[subtype]
    full_scale = 2.0 ** (bits - 1)
    levels = np.multiply(block.T, full_scale, dtype=np.float64)
    np.rint(levels, out=levels)
    if levels.size and np.abs(levels).max() > full_scale:
        raise AssertionError(f"a sample to be written reaches {np.abs(block).max():.4f}, beyond full scale")
    np.minimum(levels, full_scale - 1, out=levels)  # +1.0 itself is one step above what integers hold
    stored = np.dtype(np.int16 if bits <= 16 else np.int32)
    levels *= 2.0 ** (8 * stored.itemsize - bits)
    return levels.astype(stored)
