"""The stems of a recording as files that add up to it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from transform.audio import BeyondFullScale, Progress, Recording, resolve_output, write_parts
from transform.events import CLASS_NAMES, CLASSES
from transform.separator import StemReader
from transform.signal import Samples, overlapping_blocks

_BLOCK_SAMPLES = 2**18  # that are separated at once
_PIECE_SAMPLES = 2**13  # of what is measured and written at once, in the processor's cache
_CEILING = 0.98  # where stems are turned down to: below full scale also when rounded to 8 bits


@dataclass(frozen=True, kw_only=True)
class WrittenStems:
    """What became of stems: how they are stored, and how loud each class is, in dB against full scale."""

    subtype: str
    gain_db: float  # how far all of them were turned down, 0 or less
    peak_db: Mapping[str, float]  # -120 also for what is softer
    level_db: Mapping[str, float]  # root mean square of the whole
    notes: tuple[str, ...]  # what was decided for the user, one sentence each


def write_stems(
    recording: Recording,
    stems: StemReader,
    paths: Mapping[str, Path],
    *,
    bit_depth: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> WrittenStems:
    """Write stems as WAV files, in the recording's sample rate, channels and depth; all of them or none.

    A stem may be louder than full scale though the recording is not. Then all are written as 32-bit float, so
    that they still add up; in an integer depth that is asked for, all are turned down together.

    Args:
        recording: of any length; it is read block by block.
        stems: its stems.
        paths: where the stem of each class goes; a class that is left out is not written.
        bit_depth: "16", "24", "32" or "32f" instead of the recording's.
        overwrite: replace files that exist.
        progress: is told the stage "separate" and the share that is done.

    Raises:
        OutputError: a file exists and `overwrite` is not set, or it cannot be written.
        SettingsError: the bit depth is not one that WAV files hold.
    """
    _, subtype = resolve_output(next(iter(paths.values())), recording.format, bit_depth)

    def write(subtype: str, gain: float) -> _Meter:
        meter = _Meter()
        write_parts(
            [paths.get(drum_class) for drum_class in CLASSES],
            meter.passed(recording, stems, gain, progress),
            replace(recording.format, subtype=subtype, is_lossy=False),
            n_samples=recording.n_samples,
            overwrite=overwrite,
        )
        return meter

    gain, is_loud = 1.0, False
    try:
        meter = write(subtype, gain)
    except BeyondFullScale:
        is_loud = True
        if bit_depth is None:
            subtype = "FLOAT"
        else:
            gain = _CEILING / _peak(recording, stems, paths, progress)
        meter = write(subtype, gain)
    peak_db = {c: _decibels(meter.peak[CLASSES.index(c)]) for c in paths}
    level_db = {c: _decibels(math.sqrt(meter.energy[CLASSES.index(c)] / meter.n_samples)) for c in paths}
    notes: tuple[str, ...] = ()
    if is_loud:
        loudest = max(peak_db, key=peak_db.__getitem__)
        beyond = (
            f"the {CLASS_NAMES[loudest]} alone is {peak_db[loudest] - _decibels(gain):.2f} dB over full scale"
        )
        what = (
            "the stems are 32-bit float" if gain == 1 else f"all are turned down by {-_decibels(gain):.2f} dB"
        )
        notes = (f"{beyond}: {what}",)
    return WrittenStems(
        subtype=subtype, gain_db=_decibels(gain), peak_db=peak_db, level_db=level_db, notes=notes
    )


class _Meter:
    """Measures stems that pass through it."""

    def __init__(self) -> None:
        self.peak, self.energy = np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
        self.n_samples = 0  # of all channels

    def passed(
        self, recording: Recording, stems: StemReader, gain: float, progress: Progress | None
    ) -> Iterator[Samples]:
        """Yield the stems, turned down, from beginning to end."""
        for block in overlapping_blocks(recording.n_samples, _BLOCK_SAMPLES):
            separated = stems.read(block.start, block.stop)
            for start in range(0, separated.shape[2], _PIECE_SAMPLES):
                piece = separated[:, :, start : start + _PIECE_SAMPLES]
                if gain != 1:
                    piece = piece * np.float32(gain)
                self.peak = np.maximum(self.peak, np.abs(piece).max(axis=(1, 2)))
                self.energy += np.einsum("nct,nct->n", piece, piece)
                self.n_samples += piece[0].size
                yield piece
            if progress is not None:
                progress("separate", block.stop / recording.n_samples)


def _peak(
    recording: Recording, stems: StemReader, classes: Mapping[str, Path], progress: Progress | None
) -> float:
    """Return the loudest sample of some classes."""
    meter = _Meter()
    for _ in meter.passed(recording, stems, 1.0, progress):
        pass
    return max(float(meter.peak[CLASSES.index(c)]) for c in classes)


def _decibels(ratio: float) -> float:
    return 20 * math.log10(max(ratio, 1e-6))
