"""Peaks between the samples, where a converter or a lossy encoder would clip."""

from __future__ import annotations

import logging
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from transform.signal import Samples

TRUE_PEAK_CEILING = 10 ** (-1 / 20)  # -1 dBTP, what streaming services ask for
PEAK_S = 0.06  # a stroke's own peak lies no later after its attack
MOST_DOWN_DB = 3.0  # that a stroke is turned down; beyond it the whole is
_TAPS, _PHASES = 24, 4
_NEAR = 0.4  # of a threshold: what is nowhere so loud has no true peak above it
_NOTED_DB = 0.5  # below it nobody notices
_SAME_S = 0.005  # peaks closer than this are one
_LEAD_S, _RELEASE_S = 0.002, 0.2  # around a dip: before the attack, and after the peak
_RINGS_S = 0.3  # a peak is a stroke's until the next one, but no longer
_EARLY_S = 0.012  # by which what is generated may begin before its attack: a frame of latents

_log = logging.getLogger(__name__)


def _filters() -> Samples:
    """Return what interpolates at a quarter, a half and three quarters of a sample, shape (24, 3)."""
    place = np.arange(_TAPS)[:, None] - (_TAPS // 2 - 1)
    at = place - np.arange(1, _PHASES) / _PHASES
    window = np.cos(np.pi * at / (_TAPS + 1)) ** 2
    filters = np.sinc(at) * window
    return np.asarray(filters / filters.sum(axis=0), dtype=np.float32)


def clipping_notes(
    down_db: Sequence[float], gain_db: float = 0.0, limited_db: Sequence[float] = ()
) -> list[str]:
    """Return a sentence on what is turned down so that nothing clips; none where that is below half a decibel.

    Args:
        down_db: how far strokes are turned down, each above 0.
        gain_db: of the whole, 0 or less.
        limited_db: how far strokes are limited beyond that, each above 0.
    """
    parts = []
    for what, found_db in (("turned down", down_db), ("limited", limited_db)):
        if found_db:
            strokes = "1 stroke is" if len(found_db) == 1 else f"{len(found_db)} strokes are"
            parts.append((max(found_db), f"{strokes} {what}, by up to {max(found_db):.2f} dB"))
    if gain_db < 0:
        parts.append((-gain_db, f"the whole is turned down by {-gain_db:.2f} dB"))
    for amount_db, sentence in parts:
        if amount_db < _NOTED_DB:
            _log.debug("%s, so that nothing clips", sentence)
    noted = [sentence for amount_db, sentence in parts if amount_db >= _NOTED_DB]
    return [f"{', and '.join(noted)}, so that nothing clips"] if noted else []


class PeakMeter:
    """Measures the true peak of a signal that is given block by block, and where it passes a threshold.

    Source: ITU-R BS.1770, annex 2 (interpolated to four times the rate); ours has longer filters.
    """

    def __init__(self, n_channels: int, sample_rate: int, threshold: float = TRUE_PEAK_CEILING) -> None:
        self.sample_peak = 0.0
        self.true_peak = 0.0  # exact where it is above the threshold
        self._threshold, self._same = threshold, max(1, round(_SAME_S * sample_rate))
        self._before = np.zeros((n_channels, _TAPS - 1), dtype=np.float32)
        self._at = -(_TAPS // 2)  # sample of the signal to which the first window belongs
        self._passed: list[tuple[int, float]] = []
        self._filters = _filters()

    def add(self, block: Samples) -> None:
        """Measure the next samples, shape (C, T)."""
        sound = np.concatenate((self._before, block), axis=1)
        self.sample_peak = max(self.sample_peak, float(np.abs(block).max(initial=0.0)))
        windows = np.lib.stride_tricks.sliding_window_view(sound, _TAPS, axis=1)
        levels_there = np.abs(sound[:, _TAPS // 2 - 1 : _TAPS // 2 + windows.shape[1]]).max(axis=0)
        middle = np.maximum(levels_there[:-1], levels_there[1:])  # of the samples on either side
        loud = np.flatnonzero(middle > _NEAR * self._threshold)
        if len(loud):
            between = np.abs(windows[:, loud] @ self._filters).max(axis=(0, 2))
            levels = np.maximum(between, middle[loud])
            for at, level in zip(loud[levels > self._threshold], levels[levels > self._threshold], strict=True):
                self._add_passed(self._at + int(at), float(level))
            self.true_peak = max(self.true_peak, float(levels.max()))
        self._before = sound[:, -(_TAPS - 1) :]
        self._at += windows.shape[1]

    def _add_passed(self, at: int, level: float) -> None:
        if self._passed and at - self._passed[-1][0] < self._same:
            if level > self._passed[-1][1]:
                self._passed[-1] = at, level
        else:
            self._passed.append((at, level))

    def end(self) -> None:
        """Measure the last samples: nothing follows them."""
        self.add(np.zeros((len(self._before), _TAPS // 2), dtype=np.float32))

    def passed(self, threshold: float) -> Iterator[tuple[int, float]]:
        """Yield where the signal passes a threshold, the meter's or a higher one, and its level there."""
        return ((at, level) for at, level in self._passed if level > threshold)


def true_peak(blocks: Iterable[Samples], n_channels: int, sample_rate: int) -> float:
    """Return the true peak of a signal that is given block by block; what is below -1 dBTP is not exact."""
    meter = PeakMeter(n_channels, sample_rate)
    for block in blocks:
        meter.add(block)
    meter.end()
    return meter.true_peak


class Dips:
    """Gains that turn a sound down where strokes make peaks in it, and no stroke can be turned down by itself.

    A dip is as deep as its peak is too high. It begins before the attack and ends 0.2 s after the peak.
    """

    def __init__(
        self,
        peaks_db: Iterable[tuple[int, float]],
        attacks: Sequence[int],
        sample_rate: int,
        period: int | None = None,
    ) -> None:
        """Take peaks and attacks.

        Args:
            peaks_db: samples, sorted, and by how many dB the level there is too high.
            attacks: samples, sorted.
            sample_rate: in Hz.
            period: samples of a loop without a seam, round whose ends dips reach; None for no loop.
        """
        lead, release = round(_LEAD_S * sample_rate), round(_RELEASE_S * sample_rate)
        self._before, self._after = np.array([-2 * lead, -lead]), np.array([lead, lead + release])
        self._longest = round(_RINGS_S * sample_rate) + lead + release
        self._period = period
        dips: dict[int, tuple[int, int, float]] = {}
        for at, over_db in peaks_db:
            number = bisect_right(attacks, at + round(_EARLY_S * sample_rate)) - 1
            is_near = number >= 0 and at - attacks[number] < _RINGS_S * sample_rate
            attack = attacks[number] if is_near else at
            first, _, deepest = dips.get(attack, (min(at, attack), at, 0.0))
            dips[attack] = first, at, max(deepest, min(MOST_DOWN_DB, over_db))
        self._dips = sorted(dips.values())  # the samples between which they are whole, and how deep
        self._firsts = [first for first, _, _ in self._dips]

    @property
    def depths_db(self) -> list[float]:
        """How deep they are, each above 0."""
        return [deep_db for _, _, deep_db in self._dips]

    def gains(self, start: int, stop: int) -> Samples:
        """Return the gains of samples [start, stop), shape (T,)."""
        gain_db = np.zeros(stop - start)
        for shift in (-self._period, 0, self._period) if self._period else (0,):
            begin = bisect_left(self._firsts, start - shift - self._longest)
            end = bisect_right(self._firsts, stop - shift - int(self._before[0]))
            for first, last, deep_db in self._dips[begin:end]:
                edges = np.concatenate((self._before + first, self._after + last)) + shift
                left, right = max(start, int(edges[0])), min(stop, int(edges[-1]))
                if left < right:
                    place = gain_db[left - start : right - start]
                    np.minimum(
                        place, np.interp(np.arange(left, right), edges, (0, -deep_db, -deep_db, 0)), out=place
                    )
        return np.asarray(10 ** (gain_db / 20), dtype=np.float32)
