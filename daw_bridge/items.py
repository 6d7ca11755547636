"""Items as the project plays them, several that are one performance together: views of their files."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path

import numpy as np
import soxr

from daw_bridge.fades import faded
from daw_bridge.session import Item
from transform.audio import AudioFormat, Recording
from transform.errors import AudioError
from transform.mics import MicRecording
from transform.signal import (
    BlockCache,
    ComputedSignal,
    Samples,
    Signal,
    blocks_of,
    nearest_sample,
    read_blocks,
)
from transform.spool import SpoolFile

GLUE = "glue it in the DAW, then try again"
_STEREO_PAIRS = 67  # the channel mode of the first two channels as a stereo pair, 68 of the next two, ...
_BLOCK_SAMPLES = 2**18
_WARPED_BYTES = 64 * 2**20  # of what is resampled
_OPEN_FILES = 64  # at a time, of those that a performance plays
_LEADS = np.arange(256, 768)  # samples of the result that a resampler may make before what is taken from it


@dataclass(frozen=True)
class _Sound:
    """The sound of an item, how its file stores it, and the name of that."""

    signal: Signal
    fmt: AudioFormat
    name: str


@contextmanager
def open_item(
    item: Item,
    *,
    at_own_speed: bool = False,
    on_failure: Callable[[Item, AudioError], None] | None = None,
) -> Iterator[Recording]:
    """Open the sound of an item: the region of its file, looped, reversed, faded and mixed as it says.

    Of an item with parts it is that of all of them, where they begin, added where they overlap and both play;
    of one with microphones it is a `MicRecording`, in which none may be missing.

    Args:
        item: an audio item.
        at_own_speed: leave the sound at the speed of its file, as is anyway done where it keeps its pitch.
        on_failure: is called with parts that cannot be read, which are silent then, unless none can; None: the
            first is an error.

    Raises:
        AudioError: the file cannot be read, or the item plays in a way that is not known.
    """
    if item.microphones:
        with ExitStack() as opened_mics:
            yield _microphones(item, opened_mics, at_own_speed)
        return
    with _opened(item, item.position_s, at_own_speed, on_failure) as recording:
        yield recording


@contextmanager
def _opened(
    item: Item,
    begin_s: float,
    at_own_speed: bool,
    on_failure: Callable[[Item, AudioError], None] | None = None,
) -> Iterator[Recording]:
    """Open the sound of an item without microphones, as `open_item` does; it begins at `begin_s`."""
    files = _Files()
    try:
        if not item.parts:
            sound = _sound_of(item, files, begin_s, at_own_speed)
        else:
            opened: dict[int, _Sound] = {}
            starts_s = [begin_s + start_s for start_s in item.part_starts_s(at_own_speed=at_own_speed)]
            for place, (part, start_s) in enumerate(zip(item.parts, starts_s, strict=True)):
                try:
                    sound = _sound_of(part, files, start_s, at_own_speed)
                    opened[place] = _uncovered(sound, part, start_s)
                except AudioError as err:
                    if on_failure is None or (place == len(item.parts) - 1 and not opened):
                        raise
                    on_failure(part, err)
            sound = _laid(opened, starts_s)
        yield Recording.of_signal(sound.signal, sound.fmt, sound.name)
    finally:
        files.close()


def _microphones(item: Item, opened: ExitStack, at_own_speed: bool) -> MicRecording:
    """Return the microphones of an item, which `opened` closes.

    Raises:
        AudioError: one cannot be read, or they play at different speeds.
    """
    if not item.is_at_own_speed and len({_speeds(mic) for mic in item.microphones}) > 1:
        raise AudioError("its microphones play at different speeds: their delays are not known", hint=GLUE)
    begins_s = _begins_s(item.microphones, at_own_speed)
    recordings = [
        opened.enter_context(_opened(mic, begin_s, at_own_speed))
        for mic, begin_s in zip(item.microphones, begins_s, strict=True)
    ]
    return MicRecording.of(
        recordings,
        offsets_s=[
            nearest_sample(begin_s, recording.sample_rate) / recording.sample_rate
            for begin_s, recording in zip(begins_s, recordings, strict=True)
        ],
    )


def _begins_s(mics: Sequence[Item], at_own_speed: bool) -> list[float]:
    """Return when the sound of each microphone begins, at the speed of that of the first."""
    first = min(mics, key=lambda mic: mic.position_s)
    return [
        first.position_s + first.sound_s(mic.position_s - first.position_s, at_own_speed=at_own_speed)
        for mic in mics
    ]


def _speeds(mic: Item) -> tuple[tuple[float, float, bool], ...]:
    """Return where in the project a microphone begins to play at another speed, and how fast."""
    speeds: list[tuple[float, float, bool]] = []
    for part in mic.leaves:
        regions = [(region.position_s, region.play_rate) for region in part.warp_regions]
        for begin_s, rate in regions or [(0.0, part.play_rate)]:
            speed = round(rate, 4)
            changes_pitch = speed != 1 and not part.keeps_pitch
            if not speeds or speeds[-1][1:] != (speed, changes_pitch):
                speeds.append((round(part.position_s + begin_s, 4), speed, changes_pitch))
    return tuple(speeds) if len(speeds) > 1 else ((0.0, *speeds[0][1:]),)


class _Files:
    """The files of an item or its parts, each opened once, or again where too many were open."""

    def __init__(self) -> None:
        self._open: BlockCache[str, Recording] = BlockCache(_OPEN_FILES)
        self._about: dict[str, _Sound] = {}

    def signal_of(self, path: str) -> _Sound:
        """Return all of a file."""
        if path not in self._about:
            file = self._file(path)
            signal = ComputedSignal(
                lambda start, stop: self._file(path).read(start, stop),
                file.n_samples,
                file.sample_rate,
                file.n_channels,
            )
            self._about[path] = _Sound(signal, file.format, file.name)
        return self._about[path]

    def of_channels(self, channels: Sequence[tuple[str, int]]) -> _Sound:
        """Return a sound whose channels are channels of files, each as long as the shortest.

        Raises:
            AudioError: a file cannot be read or lacks the channel, or their sample rates differ.
        """
        sounds = {path: self.signal_of(path) for path, _ in channels}
        first = sounds[channels[0][0]]
        if list(channels) == [(channels[0][0], n) for n in range(first.signal.n_channels)]:
            return first
        if any(channel >= sounds[path].signal.n_channels for path, channel in channels):
            raise AudioError(f"{first.name} has fewer channels than the DAW plays", hint=GLUE)
        if len({sound.signal.sample_rate for sound in sounds.values()}) > 1:
            raise AudioError(f"the channels of {first.name} have different sample rates", hint=GLUE)

        def read(start: int, stop: int) -> Samples:
            blocks = {path: sound.signal.read(start, stop) for path, sound in sounds.items()}
            return np.stack([blocks[path][channel] for path, channel in channels])

        n_samples = min(sound.signal.n_samples for sound in sounds.values())
        signal = ComputedSignal(read, n_samples, first.signal.sample_rate, len(channels))
        return _Sound(signal, replace(first.fmt, n_channels=len(channels)), first.name)

    def close(self) -> None:
        """Close the files; nothing can be read any more."""
        self._open.clear()
        self._about.clear()

    def _file(self, path: str) -> Recording:
        return self._open.get(path, lambda path: Recording.open(Path(path)))


def _sound_of(item: Item, files: _Files, begin_s: float, at_own_speed: bool) -> _Sound:
    """Return the sound of an item without parts, which begins at `begin_s`."""
    file = files.of_channels(item.channel_files) if item.channel_files else files.signal_of(item.file)
    if rate := item.sample_rate:
        own = file.signal
        signal = ComputedSignal(own.read, own.n_samples, rate, own.n_channels)
        # A DAW that plays files so mixes and stores floating point: a gain does not make it clip.
        file = _Sound(signal, replace(file.fmt, sample_rate=rate, subtype="FLOAT"), file.name)
    sound = _mixed(file.signal, item)
    changes_pitch = not (item.is_at_own_speed or item.keeps_pitch or at_own_speed)
    if item.warp_regions:
        sound = _warped(sound, item, begin_s) if changes_pitch else _unwarped(sound, item, begin_s)
    else:
        sound = _section(sound, item, 0.0 if changes_pitch else begin_s)
        if changes_pitch:
            sound = _resampled(sound, item.play_rate, sound.sample_rate, file.name)
    sound = faded(sound, item, partial(item.sound_s, at_own_speed=at_own_speed))
    return _Sound(sound, replace(file.fmt, n_channels=sound.n_channels), file.name)


def _laid(sounds: Mapping[int, _Sound], starts_s: Sequence[float]) -> _Sound:
    """Return the sum of the parts of an item, at the sample rate of most of it.

    Args:
        sounds: by their place among the parts.
        starts_s: when each part begins, of all parts.
    """
    seconds: dict[int, float] = {}
    for sound in sounds.values():
        rate = sound.fmt.sample_rate
        seconds[rate] = seconds.get(rate, 0.0) + sound.signal.n_samples / rate
    rate = max(seconds, key=lambda rate: seconds[rate])
    first = next(sound for sound in sounds.values() if sound.fmt.sample_rate == rate)
    n_channels = max(sound.fmt.n_channels for sound in sounds.values())
    signals = [
        sound.signal
        if sound.fmt.sample_rate == rate
        else _resampled(sound.signal, sound.fmt.sample_rate / rate, rate, sound.name)
        for sound in sounds.values()
    ]
    origin = nearest_sample(starts_s[0], rate)
    begins = np.array([nearest_sample(starts_s[place], rate) - origin for place in sounds])
    ends = begins + [signal.n_samples for signal in signals]

    def read(start: int, stop: int) -> Samples:
        out = np.zeros((n_channels, stop - start), np.float32)
        for place in np.flatnonzero((begins < stop) & (ends > start)).tolist():
            begin, end = max(start, int(begins[place])), min(stop, int(ends[place]))
            block = signals[place].read(begin - int(begins[place]), end - int(begins[place]))
            channels = slice(0, 2 if len(block) == 1 else len(block))  # mono plays left and right
            out[channels, begin - start : end - start] += block
        return out

    signal = ComputedSignal(read, int(ends.max()), rate, n_channels)
    return _Sound(signal, replace(first.fmt, n_channels=n_channels), first.name)


def _uncovered(sound: _Sound, item: Item, begin_s: float) -> _Sound:
    """Return the sound of a part, which begins at `begin_s`, silent where others lie over it."""
    if not item.covered_s:
        return sound
    own, rate = sound.signal, sound.signal.sample_rate
    origin = nearest_sample(begin_s, rate)
    spans = [[nearest_sample(begin_s + at_s, rate) - origin for at_s in span] for span in item.covered_s]

    def read(start: int, stop: int) -> Samples:
        block = own.read(start, stop).copy()
        for begin, end in spans:
            block[:, max(0, begin - start) : max(0, end - start)] = 0
        return block

    return replace(sound, signal=ComputedSignal(read, own.n_samples, rate, own.n_channels))


def _mixed(file: Signal, item: Item) -> Signal:
    """Return the channels of a file that an item's channel mode plays."""
    mode = item.channel_mode
    if mode == 0 or file.n_channels == 1:
        return file
    rows: list[int] = [1, 0, *range(2, file.n_channels)] if mode == 1 else [mode - 3]
    if mode >= _STEREO_PAIRS:
        rows = [mode - _STEREO_PAIRS, mode - _STEREO_PAIRS + 1]
    if mode < 0:
        raise AudioError(f"its channel mode {mode} is not known to Redrum", hint=GLUE)
    if rows[-1] >= file.n_channels:
        raise AudioError(
            f"its channel mode plays channel {rows[-1] + 1} of a file of {file.n_channels}",
            hint="choose channels that the file has, in the properties of the item",
        )

    def read(start: int, stop: int) -> Samples:
        block = file.read(start, stop)
        return (block[:1] + block[1:2]) / np.float32(2) if mode == 2 else block[rows]

    return ComputedSignal(read, file.n_samples, file.sample_rate, 1 if mode == 2 else len(rows))


def _section(sound: Signal, item: Item, begin_s: float) -> Signal:
    """Return what an item plays from `begin_s` on, at the speed of its file; zeros where that has nothing."""
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
    begin = nearest_sample(begin_s, rate)
    offset = begin - nearest_sample(begin_s - item.start_offset_s, rate)

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

    n_samples = max(1, nearest_sample(begin_s + item.length_s * item.play_rate, rate) - begin)
    return ComputedSignal(read, n_samples, rate, sound.n_channels)


def _resampled(sound: Signal, ratio: float, rate: int, name: str) -> Signal:
    """Return a sound with so many of its samples in each new one, at a rate: one stream, which is stored."""
    n_channels = sound.n_channels
    stream = soxr.ResampleStream(rate * ratio, rate, n_channels, dtype="float32", quality="HQ")

    def blocks() -> Iterator[Samples]:
        for block in blocks_of(sound, _BLOCK_SAMPLES):
            yield stream.resample_chunk(block.T).T
        yield stream.resample_chunk(np.zeros((0, n_channels), np.float32), last=True).T

    stored = SpoolFile.of(blocks(), n_channels, name)
    return ComputedSignal(stored.read, stored.n_samples, rate, n_channels)


def _unwarped(sound: Signal, item: Item, begin_s: float) -> Signal:
    """Return the warped regions of an item at the speed of its file, the first of which begins at `begin_s`."""
    rate = sound.sample_rate
    warp_regions = item.regions_with_lengths()
    edges_s = list(accumulate((length_s for _, length_s in warp_regions), initial=begin_s))
    edges = [nearest_sample(edge_s, rate) for edge_s in edges_s]
    firsts = [
        edge - nearest_sample(edge_s - region.file_s, rate)
        for edge, edge_s, (region, _) in zip(edges, edges_s, warp_regions, strict=False)
    ]

    def read(number: int, start: int, stop: int) -> Samples:
        return sound.read(firsts[number] + start, firsts[number] + stop)

    return _joined(sound, [edge - edges[0] for edge in edges], read)


def _warped(sound: Signal, item: Item, begin_s: float) -> Signal:
    """Return the warped regions of an item as fast as they play from `begin_s` on, resampled by themselves."""
    rate = sound.sample_rate
    edges_s = [*(region.position_s for region in item.warp_regions), item.length_s]
    origin = nearest_sample(begin_s, rate)
    edges = [nearest_sample(begin_s + edge_s, rate) - origin for edge_s in edges_s]
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
