"""A take as files: the take, one file for each class that add up to it, and what plays as MIDI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from transform.audio import BeyondFullScale, PartFile, Progress, resolve_output, store_parts
from transform.events import CLASS_NAMES, CLASSES
from transform.files import atomic_files
from transform.midi import write_midi
from transform.signal import Samples, overlapping_blocks

if TYPE_CHECKING:
    from transform.take import Take

_BLOCK_SAMPLES = 2**17


@dataclass(frozen=True, kw_only=True)
class TakeFiles:
    """Where a take goes."""

    take: Path
    stems: Mapping[str, Path] = field(default_factory=dict)  # WAV files of all classes; none: not written
    midi: Path | None = None

    def all(self) -> list[Path]:
        """Return every file."""
        return [self.take, *self.stems.values(), *filter(None, [self.midi])]


def stem_paths(folder: Path, name: str) -> dict[str, Path]:
    """Return the file of each class of a take of this name, in a folder."""
    return {drum_class: folder / f"{name}_{drum_class}.wav" for drum_class in CLASSES}


def write_take(
    take: Take,
    files: TakeFiles,
    *,
    bit_depth: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> tuple[str, ...]:
    """Write a take, its stems and its MIDI, all of them or none, and return what was decided, a sentence each.

    The stems, added up in the order of the classes, are the take: bit by bit in float and up to 24 bits, where
    they are rounded together, to the rounding of float32 in 32 bits. A stem may be louder than full scale
    though the take is not: then all stems are 32-bit float, and the take is what they add up to as rounded.

    Args:
        take: with separate outputs where stems are written.
        files: where it goes.
        bit_depth: "16", "24", "32" or "32f" instead of the source's.
        overwrite: replace files that exist.
        progress: called with "render" and the fraction done.

    Raises:
        OutputError: a file exists and `overwrite` is not set, or it cannot be written.
        SettingsError: the file name's ending or the bit depth is not one that can be written.
        RhythmError: MIDI cannot hold the tempo of what plays.
    """
    if not files.stems and files.midi is None:
        take.write(files.take, bit_depth=bit_depth, overwrite=overwrite, progress=progress)
        return ()
    _, subtype = resolve_output(files.take, take.format, bit_depth)
    take.prepare(subtype)
    stem_subtype = resolve_output(Path("stem.wav"), replace(take.format, subtype=subtype), None)[1]
    try:
        _store(take, files, (subtype, stem_subtype), overwrite, progress)
    except BeyondFullScale:
        _store(take, files, (subtype, "FLOAT"), overwrite, progress)
        return (_loudness_note(take),)
    return ()


def _store(
    take: Take, files: TakeFiles, subtypes: tuple[str, str], overwrite: bool, progress: Progress | None
) -> None:
    """Write all files, the take and its stems in these sample formats; BeyondFullScale: nothing is written."""
    midi = write_midi(take.played_rhythm()) if files.midi else b""
    paths = files.all()
    with atomic_files(paths, overwrite=overwrite) as temporaries:
        at = dict(zip(paths, temporaries, strict=True))

        def part_file(path: Path | None, subtype: str) -> PartFile | None:
            return PartFile(path=path, temporary=at[path], subtype=subtype) if path else None

        store_parts(
            [part_file(files.stems.get(drum_class), subtypes[1]) for drum_class in CLASSES],
            _blocks(take, progress, is_split=bool(files.stems)),
            replace(take.format, is_lossy=False, metadata=take.metadata()),
            n_samples=take.n_samples,
            whole=part_file(files.take, subtypes[0]),
        )
        if files.midi:
            at[files.midi].write_bytes(midi)


def _blocks(take: Take, progress: Progress | None, *, is_split: bool) -> Iterator[Samples]:
    """Yield the parts of a take, shape (N, C, T), from beginning to end."""
    for block in overlapping_blocks(take.n_samples, _BLOCK_SAMPLES):
        yield take.read_outputs(*block[:2]) if is_split else take.read(*block[:2])[None]
        if progress is not None:
            progress("render", block.stop / take.n_samples)


def _loudness_note(take: Take) -> str:
    """Return a sentence on the loudest stem, which is beyond full scale."""
    peaks = np.zeros(len(CLASSES))
    for block in _blocks(take, None, is_split=True):
        peaks = np.maximum(peaks, np.abs(block).max(axis=(1, 2)))
    loudest = int(np.argmax(peaks))
    return (
        f"the {CLASS_NAMES[CLASSES[loudest]]} alone is {20 * np.log10(peaks[loudest]):.2f} dB over full scale: "
        "the stems are 32-bit float"
    )
