"""The stems of what an editor makes of a recording as files that add up to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from transform.audio import BeyondFullScale, Progress, resolve_output, write_parts
from transform.edited import Edited, Stored, Written
from transform.events import CLASSES
from transform.signal import Samples, overlapping_blocks

_BLOCK_SAMPLES = 2**17


def write_edited_stems(
    edited: Edited, paths: Mapping[str, Path], *, overwrite: bool = False, progress: Progress | None = None
) -> Written:
    """Write what each class plays as WAV files, all of them or none, and return what was decided.

    They have the source's rate, channels and depth, and add up to the result: bit by bit up to 24 bits, where
    they are rounded together. A stem may be louder than full scale though the result is not: then all of them
    are 32-bit float.

    Args:
        edited: a recording as edited, or a replay with separate outputs.
        paths: the file of each class.
        overwrite: replace files that exist.
        progress: called with "render" and the fraction done.

    Raises:
        OutputError: a file exists and `overwrite` is not set, or one cannot be written.
    """
    _, subtype = resolve_output(next(iter(paths.values())), edited.format, None)
    stored = edited.stored(subtype)
    notes: tuple[str, ...] = ()
    fmt, files = stored.fmt, [paths.get(drum_class) for drum_class in CLASSES]
    n_samples = stored.sound.n_samples
    try:
        write_parts(files, _blocks(stored, progress), fmt, n_samples=n_samples, overwrite=overwrite)
    except BeyondFullScale:
        notes = ("a stem alone is over full scale: all of them are 32-bit float",)
        fmt = replace(fmt, subtype="FLOAT")
        write_parts(files, _blocks(stored, progress), fmt, n_samples=n_samples, overwrite=overwrite)
    return Written(stored.gain_db, (*stored.notes, *notes))


def _blocks(stored: Stored, progress: Progress | None) -> Iterator[Samples]:
    """Yield the stems and what they add up to, shape (6, C, T), from beginning to end."""
    sound, gain = stored.sound, np.float32(10 ** (stored.gain_db / 20))
    for block in overlapping_blocks(sound.n_samples, _BLOCK_SAMPLES):
        stems = sound.read_outputs(block.start, block.stop)
        yield gain * np.concatenate((stems, sound.read(block.start, block.stop)[None]))
        if progress is not None:
            progress("render", block.stop / sound.n_samples)
