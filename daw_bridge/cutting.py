"""Takes of a performance, cut again where the items that it is of begin and end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import soundfile

from daw_bridge.session import MIDI, FinishedTake, Item
from transform.signal import nearest_sample

_BLOCK_FRAMES = 2**18


def cut_at_items(takes: Sequence[FinishedTake]) -> list[FinishedTake]:
    """Return takes of one source in files of their own for each of its parts; MIDI stays whole.

    Each begins and ends with its part, or ends where the next part begins; the last ends with the take.
    """
    pieces: list[FinishedTake] = []
    for take in takes:
        if take.part == MIDI or not take.source.parts:
            pieces.append(take)
        else:
            pieces += _pieces(take)
    return pieces


def _pieces(take: FinishedTake) -> Iterator[FinishedTake]:
    with soundfile.SoundFile(take.file) as whole:
        for number, (part, start, stop) in enumerate(
            _borders(take.source, whole.frames, whole.samplerate), start=1
        ):
            file = take.file.with_name(f"{take.file.stem}-{number}{take.file.suffix}")
            _copy(whole, start, stop, file)
            position_s = take.source.position_s + start / whole.samplerate
            yield replace(
                take,
                source=replace(part, position_s=position_s),
                file=file,
                name=f"{take.name} {number}",
                length_s=(stop - start) / whole.samplerate,
            )


def _borders(source: Item, n_frames: int, rate: int) -> Iterator[tuple[Item, int, int]]:
    """Yield the parts of a source that have some of a take, and from where to where that is."""
    starts = [nearest_sample(part.position_s - source.position_s, rate) for part in source.parts]
    for place, part in enumerate(source.parts):
        following = starts[place + 1] if place + 1 < len(starts) else n_frames
        is_last = place + 1 == len(starts)
        stop = n_frames if is_last else nearest_sample(part.end_s - source.position_s, rate)
        stop = min(stop, following, n_frames)
        if starts[place] < stop:
            yield part, starts[place], stop


def _copy(whole: soundfile.SoundFile, start: int, stop: int, path: Path) -> None:
    """Copy frames of a file into another of its format, bit by bit."""
    exact = {"FLOAT": "float32", "DOUBLE": "float64"}.get(whole.subtype, "int32")
    whole.seek(start)
    with soundfile.SoundFile(
        path, "w", whole.samplerate, whole.channels, whole.subtype, format=whole.format
    ) as piece:
        for begin in range(start, stop, _BLOCK_FRAMES):
            block: np.ndarray = whole.read(min(_BLOCK_FRAMES, stop - begin), dtype=exact, always_2d=True)
            piece.write(block)
