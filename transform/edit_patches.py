"""Patches: what an edit takes out of a recording and puts into it, and how it is prevented from clipping.

In integer formats a stroke that is added where it makes a peak is turned down by up to 3 dB, as in takes; what
would still clip is limited for a moment. Only the patches are turned down, never the recording.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from transform.audio import Recording
from transform.hits import LEAD_S, LONGEST_S
from transform.peaks import MOST_DOWN_DB, PEAK_S
from transform.signal import BlockCache, Samples
from transform.strokes import Stroke

Regions = tuple[tuple[int, int], ...]  # [start, stop) in samples, in order, apart

LIMITER_S = 0.0005  # over which a moment that would clip is turned down, to either side
_CEILING = 0.9999  # so that rounding to integers never reaches beyond full scale
_PART_OF_PEAK = 0.3  # of the loudest stroke around a peak: what is softer does not make it
_N_GUARDED = 4096


@dataclass(frozen=True)
class TakenOut:
    """A detected stroke that is turned off, down or up in its own time."""

    index: int  # of the stroke
    start: int  # in samples of the recording
    stop: int
    gain: float  # of its own sound; 0: nothing of it is left
    before: tuple[tuple[int, float], ...]  # earlier strokes of its class that may ring into it, and their gains

    @property
    def is_added(self) -> bool:
        """Whether it is louder than in the recording."""
        return self.gain > 1

    def turned_down(self, down_db: float) -> TakenOut:
        """Return it with less gain, though never less than the stroke had."""
        return replace(self, gain=max(1.0, self.gain * 10 ** (-down_db / 20)))


@dataclass(frozen=True)
class PutIn:
    """A stroke that is put in."""

    stroke: Stroke
    start: int  # in samples of the recording
    stop: int  # where its class is struck again, or has rung out
    origin: int | None  # the detected stroke that it was or is a copy of, whose sound is the first choice
    gain: float = 1.0  # beside that of its velocity

    @property
    def is_added(self) -> bool:
        """Whether it is louder than in the recording."""
        return True

    def turned_down(self, down_db: float) -> PutIn:
        """Return it with less gain."""
        return replace(self, gain=self.gain * 10 ** (-down_db / 20))


Patch = TakenOut | PutIn


class Patches:
    """Patches in order."""

    def __init__(self, patches: Iterable[Patch], sample_rate: int) -> None:
        self.patches = sorted((p for p in patches if p.start < p.stop), key=_order)
        self._starts = [patch.start for patch in self.patches]
        self._longest = round((max(LONGEST_S.values()) + 2 * LEAD_S) * sample_rate) + 1

    def within(self, start: int, stop: int) -> list[Patch]:
        """Return the patches of which some lies in [start, stop)."""
        first = bisect_left(self._starts, start - self._longest)
        last = bisect_left(self._starts, stop)
        return [patch for patch in self.patches[first:last] if patch.stop > start]


def _order(patch: Patch) -> tuple[int, int, int, str]:
    """Return what puts patches in one order, so that they add up to the same bits."""
    if isinstance(patch, TakenOut):
        return patch.start, patch.stop, patch.index, ""
    return patch.start, patch.stop, -1, patch.stroke.id


class Guarded(NamedTuple):
    """A patch that was turned down where it would clip."""

    patch: Patch
    down_db: float  # by which it is turned down
    over_db: float  # by which its peak is above full scale, before


class PeakGuard:
    """Turns down the strokes that make peaks; each depends on the patches that it overlaps alone."""

    def __init__(self, recording: Recording, sound: Callable[[Patch], Samples]) -> None:
        """Take a recording, and what returns the sound (C, T) of a patch."""
        self._recording, self._sound = recording, sound
        self._lead = round(LEAD_S * recording.sample_rate)
        self._peak = round(PEAK_S * recording.sample_rate)
        self._done: BlockCache[tuple[Patch, ...], Guarded] = BlockCache(_N_GUARDED)

    def guarded(self, patch: Patch, patches: Patches) -> Guarded:
        """Return one of some patches, turned down by up to 3 dB where it would clip."""
        if not patch.is_added:
            return Guarded(patch, 0.0, 0.0)
        near = (patch, *patches.within(*self.window(patch)))
        return self._done.get(near, self._measured)

    def window(self, patch: Patch) -> tuple[int, int]:
        """Return where the patch may make a peak."""
        return patch.start, min(patch.stop, patch.start + self._lead + self._peak)

    def _measured(self, near: tuple[Patch, ...]) -> Guarded:
        patch, *all_near = near
        start, stop = self.window(patch)
        parts = {other: _part(other, self._sound(other), start, stop) for other in all_near}
        total = np.abs(self._recording.read(start, stop) + sum(parts.values()))
        level = (total / self._recording.full_scale).max(axis=0)
        at = int(level.argmax())
        over_db = 20 * math.log10(max(float(level[at]), 1e-9) / _CEILING)
        if over_db <= 0:
            return Guarded(patch, 0.0, over_db)
        around = slice(max(0, at - self._lead), at + self._lead)
        scale = self._recording.full_scale
        loudness = {o: float(np.abs(part[:, around] / scale).max()) for o, part in parts.items() if o.is_added}
        if loudness[patch] < _PART_OF_PEAK * max(loudness.values()):
            return Guarded(patch, 0.0, 0.0)
        down_db = min(over_db, MOST_DOWN_DB)
        return Guarded(patch.turned_down(down_db), down_db, over_db)


def _part(patch: Patch, sound: Samples, start: int, stop: int) -> Samples:
    """Return what a patch adds to samples [start, stop)."""
    out = np.zeros((len(sound), stop - start), dtype=np.float32)
    left, right = max(start, patch.start), min(stop, patch.stop)
    if left < right:
        out[:, left - start : right - start] = sound[:, left - patch.start : right - patch.start]
    return out


def limited(recorded: Samples, added: Samples, sample_rate: int, full_scale: Samples) -> Samples:
    """Return what is added to a recording, turned down for the moments in which the sum would clip.

    Args:
        recorded: the recording, shape (C, T); where it is at full scale itself, nothing is added.
        added: shape (C, T); what it is near both ends depends on what lies beyond them.
        sample_rate: in Hz.
        full_scale: of each channel, shape (C, 1).
    """
    total, ceiling = recorded + added, _CEILING * full_scale
    is_over = np.abs(total) > ceiling
    is_over &= added != 0
    if not is_over.any():
        return added
    gain = np.ones_like(added)
    room = (np.sign(total) * ceiling)[is_over] - recorded[is_over]
    gain[is_over] = np.clip(room / added[is_over], 0, 1)
    reach = max(1, round(LIMITER_S * sample_rate))
    padded = np.pad(gain.min(axis=0), 2 * reach, mode="edge")
    least = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach + 1).min(axis=1)
    window = np.hanning(2 * reach + 3)[1:-1]
    smooth = np.convolve(least, window / window.sum(), mode="valid")
    return np.asarray(added * np.minimum(smooth, gain.min(axis=0)).astype(np.float32))


def merged(regions: Iterable[tuple[int, int]]) -> Regions:
    """Return regions in order, those that touch as one."""
    out: list[tuple[int, int]] = []
    for start, stop in sorted(regions):
        if out and start <= out[-1][1]:
            out[-1] = out[-1][0], max(out[-1][1], stop)
        elif start < stop:
            out.append((start, stop))
    return tuple(out)


def sum_within(patches: Sequence[Patch], sound: Callable[[Patch], Samples], start: int, stop: int) -> Samples:
    """Return what patches add to samples [start, stop), shape (C, stop - start)."""
    parts = (_part(patch, sound(patch), start, stop) for patch in patches)
    out = next(parts)
    for part in parts:
        out += part
    return out
