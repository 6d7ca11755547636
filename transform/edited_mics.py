"""What an editor made of the microphones of one performance, as files: one for each, all delays intact."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from transform.audio import PartFile, Progress, store_together
from transform.edited import Edited, Stored, Written
from transform.files import atomic_files
from transform.mic_files import common_subtype, converters_of, mic_blocks, take_formats
from transform.mics import MicRecording
from transform.signal import ComputedSignal, Samples

_BLOCK_S = 4


def write_edited_mics(
    edited: Edited,
    microphones: MicRecording,
    paths: Sequence[Path],
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Written:
    """Write a file for each microphone, all of them or none, and return what was decided.

    Each has its microphone's own rate, channels and depth. All begin with the first of them and are equally
    long; where nothing is edited they are the microphones sample for sample.

    Args:
        edited: what an editor made of `microphones`.
        microphones: what was edited.
        paths: a file for each of them, in their order.
        overwrite: replace files that exist.
        progress: called with "render" and the fraction done.

    Raises:
        OutputError: a file exists and `overwrite` is not set, or one cannot be written.
        SettingsError: a name's ending is not one that can be written.
    """
    formats = take_formats(microphones, paths, None)
    stored = edited.stored(common_subtype(formats))
    converters = converters_of(edited, formats)
    lengths = [converter.n_samples for converter in converters]
    if edited.is_untouched:
        blocks = _untouched(microphones, lengths, progress)
    else:
        sound = _turned_down(stored)
        blocks = mic_blocks(sound, microphones, list(zip(converters, formats, strict=True)), progress)
    described = [
        replace(fmt, metadata=edited.metadata_of(mic.recording, mic.own_begin, length))
        for mic, fmt, length in zip(microphones.microphones, formats, lengths, strict=True)
    ]
    with atomic_files(list(paths), overwrite=overwrite) as temporaries:
        parts = [
            PartFile(path=path, temporary=temporary, subtype=fmt.subtype)
            for path, temporary, fmt in zip(paths, temporaries, formats, strict=True)
        ]
        store_together(parts, described, blocks, lengths)
    return Written(stored.gain_db, stored.notes)


def _turned_down(stored: Stored) -> ComputedSignal:
    sound, gain = stored.sound, np.float32(10 ** (stored.gain_db / 20))
    return ComputedSignal(
        lambda start, stop: gain * sound.read(start, stop), sound.n_samples, sound.sample_rate, sound.n_channels
    )


def _untouched(
    microphones: MicRecording, lengths: Sequence[int], progress: Progress | None
) -> Iterator[list[Samples]]:
    """Yield the next samples of each microphone as it was recorded, silence where it was not running."""
    n_blocks = -(-max(1, microphones.n_samples) // (_BLOCK_S * microphones.sample_rate))
    for number in range(n_blocks):
        sounds = []
        for mic, length in zip(microphones.microphones, lengths, strict=True):
            own, begin = mic.recording, mic.own_begin
            step = _BLOCK_S * own.sample_rate
            start, stop = number * step, min((number + 1) * step, length)
            if number == n_blocks - 1:
                stop = length
            sounds.append(own.read(start - begin, stop - begin))
        yield sounds
        if progress is not None:
            progress("render", (number + 1) / n_blocks)
