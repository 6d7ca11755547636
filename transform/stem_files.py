"""The stems of a recording as files that add up to it."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from transform.audio import BeyondFullScale, Progress, Recording, is_float, resolve_output, write_parts
from transform.events import CLASS_NAMES, CLASSES
from transform.separator import StemReader
from transform.signal import Samples, overlapping_blocks

_BLOCK_SAMPLES = 2**18  # that are separated at once
_WRITTEN_SAMPLES = 2**13  # that are measured and written at once, in the processor's cache
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
    that they still add up; in a requested integer depth, all are turned down together.

    Args:
        recording: of any length; it is read block by block.
        stems: its stems.
        paths: where the stem of each class goes; a class that is left out is not written.
        bit_depth: "16", "24", "32" or "32f" instead of the recording's.
        overwrite: replace files that exist.
        progress: called with "separate" and the fraction done.

    Raises:
        OutputError: a file exists and `overwrite` is not set, or it cannot be written.
        SettingsError: the bit depth is not one that WAV files hold.
    """
    _, subtype = resolve_output(next(iter(paths.values())), recording.format, bit_depth)
    writer = _Writer(recording, stems, paths, progress)
    gain, is_loud = 1.0, False
    try:
        meter = writer.write(subtype, gain, overwrite=overwrite)
    except BeyondFullScale:
        is_loud = True
        subtype, gain = ("FLOAT", 1.0) if bit_depth is None else (subtype, _CEILING / writer.peak())
        meter = writer.write(subtype, gain, overwrite=overwrite)
    return meter.report(paths, subtype, gain, is_loud=is_loud)


class _Meter:
    """Measures stems that pass through it."""

    def __init__(self) -> None:
        self.peak, self.energy = np.zeros(len(CLASSES)), np.zeros(len(CLASSES))
        self.n_samples = 0  # of all channels

    def passed(
        self,
        recording: Recording,
        stems: StemReader,
        gain: float,
        progress: Progress | None,
        *,
        adds_up: bool,
    ) -> Iterator[Samples]:
        """Yield the stems, turned down, from beginning to end; `adds_up`: and the recording after them.

        Then the last stem is what the others leave of it.
        """
        for block in overlapping_blocks(recording.n_samples, _BLOCK_SAMPLES):
            separated = stems.read(block.start, block.stop)
            if adds_up:  # to the bit; as they are read they do but for rounding
                whole = recording.read(block.start, block.stop)
                separated[-1] = whole - separated[:-1].sum(axis=0)
                separated = np.concatenate((separated, whole[None]))
            for start in range(0, separated.shape[2], _WRITTEN_SAMPLES):
                samples = separated[:, :, start : start + _WRITTEN_SAMPLES]
                if gain != 1:
                    samples = samples * np.float32(gain)
                own = samples[: len(CLASSES)]
                self.peak = np.maximum(self.peak, np.abs(own).max(axis=(1, 2)))
                self.energy += np.einsum("nct,nct->n", own, own)
                self.n_samples += own[0].size
                yield samples
            if progress is not None:
                progress("separate", block.stop / recording.n_samples)

    def report(self, classes: Collection[str], subtype: str, gain: float, *, is_loud: bool) -> WrittenStems:
        """Return what became of the stems of some classes; `is_loud`: one of them is beyond full scale."""
        peak_db = {c: _decibels(self.peak[CLASSES.index(c)]) for c in classes}
        level_db = {c: _decibels(math.sqrt(self.energy[CLASSES.index(c)] / self.n_samples)) for c in classes}
        gain_db = _decibels(gain)
        notes = (_loudness_note(peak_db, gain_db),) if is_loud else ()
        return WrittenStems(subtype=subtype, gain_db=gain_db, peak_db=peak_db, level_db=level_db, notes=notes)


class _Writer:
    """Writes the stems of a recording."""

    def __init__(
        self, recording: Recording, stems: StemReader, paths: Mapping[str, Path], progress: Progress | None
    ) -> None:
        self._recording, self._stems = recording, stems
        self._paths, self._progress = paths, progress

    def write(self, subtype: str, gain: float, *, overwrite: bool) -> _Meter:
        """Write the stems with this gain and return what was measured; BeyondFullScale: nothing is written."""
        meter = _Meter()
        write_parts(
            [self._paths.get(drum_class) for drum_class in CLASSES],
            meter.passed(self._recording, self._stems, gain, self._progress, adds_up=not is_float(subtype)),
            replace(self._recording.format, subtype=subtype, is_lossy=False, metadata=self._recording.metadata),
            n_samples=self._recording.n_samples,
            overwrite=overwrite,
        )
        return meter

    def peak(self) -> float:
        """Return the loudest sample of the stems that are written."""
        meter = _Meter()
        for _ in meter.passed(self._recording, self._stems, 1.0, self._progress, adds_up=True):
            pass
        return max(float(meter.peak[CLASSES.index(c)]) for c in self._paths)


def _loudness_note(peak_db: Mapping[str, float], gain_db: float) -> str:
    """Return a sentence on the loudest stem, which is beyond full scale, and what was done about it."""
    loudest = max(peak_db, key=peak_db.__getitem__)
    what = "the stems are 32-bit float" if gain_db == 0 else f"all are turned down by {-gain_db:.2f} dB"
    return f"the {CLASS_NAMES[loudest]} alone is {peak_db[loudest] - gain_db:.2f} dB over full scale: {what}"


def _decibels(ratio: float) -> float:
    return 20 * math.log10(max(ratio, 1e-6))
