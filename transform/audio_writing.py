"""Sound files out: results are written block by block, and appear whole or not at all.

Samples are float32 of shape (C, T), full scale is 1.
"""

from __future__ import annotations

import logging
import math
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import soundfile

from transform.audio_format import BITS, BYTES, FLOATS, AudioFormat, resolve_output
from transform.errors import OutputError
from transform.files import atomic_file, atomic_files, native_path, temporary_file
from transform.headers import chunks
from transform.signal import Samples, added
from transform.stated_tempo import tempo_tag, with_tag_as_key

_WAV_LIMIT_BYTES = 2**32 - 2**16  # a WAV header counts in 32 bits; the rest is room for its other chunks
_COMMENTED = ("FLAC", "AIFF", "CAF")  # which state a tempo in a comment
_HEAD_BYTES = 2**10  # of a FLAC file as libsndfile writes it, its comment among them
_BLOCK_SAMPLES = 2**18
_log = logging.getLogger(__name__)


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
                _fill(temporary, chain(_stored_blocks(begun), (leftover,), remaining), fmt, "RF64")


def _stored_blocks(path: Path) -> Iterator[Samples]:
    """Yield what lies in a file that was written here."""
    with soundfile.SoundFile(native_path(path)) as file:
        while len(block := file.read(_BLOCK_SAMPLES, dtype="float32", always_2d=True)):
            yield block.T


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
    the parts of a recording of 16 or 24 bits are that recording, bit by bit.

    Args:
        paths: one for each part, None for a part that is not written.
        blocks: shape (N, C, T) for N parts, or (N + 1, C, T): after them what they add up to.
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
        blocks: shape (N, C, T) for N parts, or (N + 1, C, T): after them what they add up to.
        fmt: what the files have in common.
        n_samples: the length of the blocks together.
        whole: gets the sum of the parts, as `added` has it; it is within full scale.

    Raises:
        BeyondFullScale: a part is beyond full scale in its integer format; the files are not whole.
        OutputError: a file cannot be written.
    """
    written = [(part, file) for part, file in enumerate(files) if file is not None]
    subtype = written[0][1].subtype if written else "FLOAT"
    ceiling = 1 - 2.0 ** (1 - BITS[subtype]) if subtype in BITS else math.inf
    with ExitStack() as open_files:
        opened = [open_files.enter_context(_create_part(file, fmt, n_samples)) for _, file in written]
        total_file = whole and open_files.enter_context(_create_part(whole, fmt, n_samples))
        for block in blocks:
            total = added(block) if whole else None
            is_rounded_alike = whole is not None and whole.subtype == subtype
            parts = _rounded_parts(block, subtype, len(files), beside_whole=is_rounded_alike)
            for sound_file, (part, file) in zip(opened, written, strict=True):
                if np.abs(parts[part]).max(initial=0.0) > ceiling:
                    raise BeyondFullScale
                with _named(file.path):
                    sound_file.write(_encode(parts[part], subtype))
            if whole and total_file and total is not None:
                with _named(whole.path):
                    total_file.write(_encode(total, whole.subtype))
    for file in filter(None, (*files, whole)):
        _finish(file.temporary, n_samples, replace(fmt, subtype=file.subtype))


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
    for file, fmt, length in zip(files, formats, lengths, strict=True):
        _finish(file.temporary, length, replace(fmt, subtype=file.subtype))


def _create_part(file: PartFile, fmt: AudioFormat, n_samples: int) -> soundfile.SoundFile:
    fmt = replace(fmt, subtype=file.subtype)
    container, _ = resolve_output(file.path, fmt, None)
    with _named(file.path):
        return _create(
            file.temporary, fmt, "RF64" if container == "WAV" and n_samples > _wav_limit(fmt) else container
        )


def _rounded_parts(block: Samples, subtype: str, n_parts: int, *, beside_whole: bool) -> Samples:
    """Return parts (N, C, T) as they are stored: each running sum of them is the nearest that can be stored.

    Where their whole follows them in the block, the last sum is that. Beside a file of it the sums are those of
    `added`, so that the last of them is the whole as it is stored.
    """
    bits = BITS.get(subtype, 32)
    if bits == 32:  # not rounded, or more finely than float32 is
        return block[:n_parts]
    full_scale = 2.0 ** (bits - 1)
    # float32 has the sums of 16 bits to a hundredth of a step.
    kind = np.float32 if bits <= 16 else np.float64
    levels = block[:n_parts].copy() if beside_whole else np.multiply(block[:n_parts], full_scale, dtype=kind)
    for part in range(1, len(levels)):
        levels[part] += levels[part - 1]
    if beside_whole:
        levels = np.multiply(levels, full_scale, dtype=kind)
        np.minimum(levels[-1], full_scale - 1, out=levels[-1])
    elif len(block) > n_parts:
        np.multiply(block[n_parts], full_scale, out=levels[-1])
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
    if container == "WAV" and fmt.speakers is not None:
        container = "WAVEX"
    file = soundfile.SoundFile(native_path(path), "w", *form, format=container)
    if container in _COMMENTED and fmt.metadata.tempo_bpm:
        file.comment = tempo_tag(fmt.metadata.tempo_bpm)
    return file


def _wav_limit(fmt: AudioFormat) -> int:
    """Return how many samples a WAV file holds."""
    n_bytes = len(fmt.metadata.stored(8 * BYTES[fmt.subtype]))
    return max(1, (_WAV_LIMIT_BYTES - n_bytes) // (BYTES[fmt.subtype] * fmt.n_channels))


def _finish(path: Path, n_samples: int, fmt: AudioFormat) -> None:
    """Add what a file states beside its sound, and make its bytes depend on what is written alone.

    Raises:
        OSError: it does not hold all that was written.
    """
    with soundfile.SoundFile(native_path(path)) as sound:  # what fails on closing raises nothing by itself
        if sound.frames != n_samples:
            raise OSError("its end is missing")
    with path.open("rb+") as file:
        if fmt.subtype in FLOATS:
            _forget_date(file)
        _name_tag(file)
        if _is_wav(file):
            _set_speakers(file, fmt.speakers or 0)
            _append(file, fmt.metadata.stored(8 * BYTES[fmt.subtype]))


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
    _finish(path, n_samples, fmt)
    return None


def _forget_date(file: BinaryIO) -> None:
    """Zero the time of writing, which libsndfile notes beside the peaks of float samples."""
    for _, _, offset in _chunks_called(file, b"PEAK"):
        file.seek(offset + 4)
        file.write(bytes(4))


def _name_tag(file: BinaryIO) -> None:
    """Call the tempo that a FLAC file states by its own name."""
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    if head[:4] == b"fLaC":
        file.seek(0)
        file.write(with_tag_as_key(head))


def _is_wav(file: BinaryIO) -> bool:
    file.seek(0)
    return file.read(4) in (b"RIFF", b"RF64")


def _set_speakers(file: BinaryIO, speakers: int) -> None:
    """Write the channel mask into an extensible WAV file; 0: its channels belong to no places."""
    for _, size, offset in _chunks_called(file, b"fmt "):
        if size >= 40:
            file.seek(offset + 20)
            file.write(struct.pack("<I", speakers & 0xFFFFFFFF))


def _append(file: BinaryIO, more: bytes) -> None:
    """Add chunks to a WAV file, whose size they are part of."""
    if not more:
        return
    end = file.seek(0, os.SEEK_END)
    file.write(bytes(end % 2) + more)
    size = file.tell() - 8
    for _, _, offset in _chunks_called(file, b"ds64"):
        file.seek(offset)
        file.write(struct.pack("<Q", size))
        return
    file.seek(4)
    file.write(struct.pack("<I", size))


def _chunks_called(file: BinaryIO, name: bytes) -> list[tuple[bytes, int, int]]:
    file.seek(0)
    return [chunk for chunk in chunks(file) if chunk[0] == name]


def _encode(block: Samples, subtype: str) -> npt.NDArray[Any]:
    """Return samples as (T, C) in the type that libsndfile stores without changing a bit.

    libsndfile's own conversion from float scales by 2**(bits - 1) - 1 where reading divides by 2**(bits - 1).
    """
    # Not assert statements: python -O must not turn these mistakes of ours into broken or clipped files.
    if not np.isfinite(block).all():
        raise AssertionError("a sample to be written is not finite")
    if subtype in FLOATS:
        return block.T
    bits = BITS[subtype]
    full_scale = 2.0 ** (bits - 1)
    levels = np.multiply(block.T, full_scale, dtype=np.float64)
    np.rint(levels, out=levels)
    if levels.size and np.abs(levels).max() > full_scale:
        raise AssertionError(f"a sample to be written reaches {np.abs(block).max():.4f}, beyond full scale")
    np.minimum(levels, full_scale - 1, out=levels)  # +1.0 itself is one step above what integers hold
    stored = np.dtype(np.int16 if bits <= 16 else np.int32)
    levels *= 2.0 ** (8 * stored.itemsize - bits)
    return levels.astype(stored)
