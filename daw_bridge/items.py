"""Items as the project plays them: views of their files."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import soxr

from daw_bridge.session import Item
from transform.audio import Recording
from transform.errors import AudioError
from transform.signal import BlockCache, ComputedSignal, Samples, Signal, blocks_of, read_blocks
from transform.spool import SpoolFile

GLUE = "glue it in the DAW, then try again"
_BLOCK_SAMPLES = 2**18
_WARPED_BYTES = 64 * 2**20  # of what is resampled
_LEADS = np.arange(256, 768)  # samples of the result that a resampler may make before what is taken from it


@contextmanager
def open_item(item: Item, *, at_own_speed: bool = False) -> Iterator[Recording]:
    """Open the sound of an item: the region of its file, looped, reversed and mixed as it says.

    Args:
        item: an audio item.
        at_own_speed: leave the sound at the speed of its file, as is anyway done where it keeps its pitch.

    Raises:
        AudioError: the file cannot be read, or the item plays in a way that is not known.
    """
    with Recording.open(Path(item.file)) as file:
        sound = _mixed(file, item)
        changes_pitch = not (item.is_at_own_speed or item.keeps_pitch or at_own_speed)
        if item.warp_regions:
            sound = _warped(sound, item) if changes_pitch else _unwarped(sound, item)
        else:
            sound = _section(sound, item)
            if changes_pitch:
                sound = _faster(sound, item.play_rate, file.name)
        yield Recording.of_signal(sound, replace(file.format, n_channels=sound.n_channels), file.name)


def _mixed(file: Recording, item: Item) -> Signal:
    """Return the channels of a file that an item's channel mode plays."""
    mode = item.channel_mode
    if mode == 0 or file.n_channels == 1:
        return file
    rows: list[int] = [1, 0, *range(2, file.n_channels)] if mode == 1 else [mode - 3]
    if mode < 0 or rows[0] >= file.n_channels:
        raise AudioError(f"its channel mode {mode} is not known to Redrum", hint=GLUE)

    def read(start: int, stop: int) -> Samples:
        block = file.read(start, stop)
        return (block[:1] + block[1:2]) / np.float32(2) if mode == 2 else block[rows]

    return ComputedSignal(read, file.n_samples, file.sample_rate, 1 if mode == 2 else len(rows))


def _section(sound: Signal, item: Item) -> Signal:
    """Return what an item plays, at the speed of its file; zeros where it has nothing to play."""
    rate = sound.sample_rate
    first = round(item.section_start_s * rate)
    length = sound.n_samples - first
    if item.section_length_s is not None:
        length = min(length, round(item.section_length_s * rate))
    if length <= 0:
        raise AudioError("its section lies outside of its file", hint="correct the section in the DAW")
    if item.is_looped and length < _BLOCK_SAMPLES:  # of a short loop, many turns are read at once
        turns = np.tile(sound.read(first, first + length), _BLOCK_SAMPLES // length)
        sound = ComputedSignal(lambda start, stop: turns[:, start:stop], turns.shape[1], rate, len(turns))
        first, length = 0, sound.n_samples
    offset = round(item.start_offset_s * rate)

    def read(start: int, stop: int) -> Samples:
        blocks, at, end = [], offset + start, offset + stop
        while at < end:
            turn, into = divmod(at, length)
            count = min(length - into, end - at)
            if turn and not item.is_looped:  # silence, all of it at once
                count = end - at if turn > 0 else min(-at, end - at)
                blocks.append(np.zeros((sound.n_channels, count), dtype=np.float32))
            elif item.is_reversed:
                blocks.append(sound.read(first + length - into - count, first + length - into)[:, ::-1])
            else:
                blocks.append(sound.read(first + into, first + into + count))
            at += count
        return np.concatenate(blocks, axis=1)

    n_samples = max(1, round(item.length_s * item.play_rate * rate))
    return ComputedSignal(read, n_samples, rate, sound.n_channels)


def _faster(sound: Signal, play_rate: float, name: str) -> Signal:
    """Return a sound played faster, and higher with it: one stream, which is stored."""
    rate, n_channels = sound.sample_rate, sound.n_channels
    stream = soxr.ResampleStream(rate * play_rate, rate, n_channels, dtype="float32", quality="HQ")

    def blocks() -> Iterator[Samples]:
        for block in blocks_of(sound, _BLOCK_SAMPLES):
            yield stream.resample_chunk(block.T).T
        yield stream.resample_chunk(np.zeros((0, n_channels), np.float32), last=True).T

    stored = SpoolFile.of(blocks(), n_channels, name)
    return ComputedSignal(stored.read, stored.n_samples, rate, n_channels)


def _unwarped(sound: Signal, item: Item) -> Signal:
    """Return the warped regions of an item at the speed of its file."""
    rate = sound.sample_rate
    warp_regions = item.regions_with_lengths()
    firsts = [round(region.file_s * rate) for region, _ in warp_regions]
    ends_s = accumulate(length_s for _, length_s in warp_regions)

    def read(number: int, start: int, stop: int) -> Samples:
        return sound.read(firsts[number] + start, firsts[number] + stop)

    return _joined(sound, [0, *(round(end_s * rate) for end_s in ends_s)], read)


def _warped(sound: Signal, item: Item) -> Signal:
    """Return the warped regions of an item as fast as they play, resampled, each on its own samples."""
    rate = sound.sample_rate
    edges = [round(region.position_s * rate) for region in item.warp_regions] + [round(item.length_s * rate)]
    cache: BlockCache[tuple[int, int], Samples] = BlockCache(n_bytes=_WARPED_BYTES)

    def resampled(key: tuple[int, int]) -> Samples:
        number, begin = key[0], key[1] * _BLOCK_SAMPLES
        region = item.warp_regions[number]
        count = min(_BLOCK_SAMPLES, edges[number + 1] - edges[number] - begin)
        at = region.file_s * rate + begin * region.play_rate
        # The context lets the resampler begin and end in sound. It begins on a sample of the file: of many
        # leads, the one that puts what is taken nearest to samples of the result.
        starts = at - _LEADS * region.play_rate
        best = int(np.argmin(np.abs(starts - np.round(starts))))
        start, skip = round(starts[best]), int(_LEADS[best])
        end = math.ceil(at + (count + _LEADS[0]) * region.play_rate)
        faster = soxr.resample(sound.read(start, end).T, rate * region.play_rate, rate, quality="HQ")
        return np.ascontiguousarray(faster.T[:, skip : skip + count])

    def read(number: int, start: int, stop: int) -> Samples:
        return read_blocks(lambda block: cache.get((number, block), resampled), _BLOCK_SAMPLES, start, stop)

    return _joined(sound, edges, read)


def _joined(sound: Signal, edges: Sequence[int], read_region: Callable[[int, int, int], Samples]) -> Signal:
    """Return warped regions one after the other.

    Args:
        sound: what they are from.
        edges: the sample at which each begins, and the end of the last.
        read_region: returns samples [start, stop) of a region, both counted from its beginning, by its number.
    """

    def read(start: int, stop: int) -> Samples:
        blocks = []
        for number in range(bisect_right(edges, start) - 1, bisect_left(edges, stop)):
            left, right = max(start, edges[number]), min(stop, edges[number + 1])
            if left < right:
                blocks.append(read_region(number, left - edges[number], right - edges[number]))
        return np.concatenate(blocks, axis=1)

    return ComputedSignal(read, edges[-1], sound.sample_rate, sound.n_channels)
