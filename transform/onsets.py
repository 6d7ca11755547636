"""Where the strokes of a recording begin, to the sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transform.audio import Recording, Samples
from transform.events import DrumEvent

TOGETHER_S = 0.025  # strokes of one recording closer than this are one hit
SEARCH_S = 0.006  # how far from a transcribed onset its attack is sought; 9 of 10 are within 3 ms
VIEWS_SEARCH_S = 0.009  # the same of several views, whose onset is transcribed between the first and the last
_CLEAR = 0.6  # of the clearest rise, in logarithms: a view that rises less may have another stroke there
_AUDIBLE = 0.1  # of the loudest energy: a view that has less does not say where a stroke begins


def groups(events: Sequence[DrumEvent], together_s: float = TOGETHER_S) -> list[list[DrumEvent]]:
    """Return the events in order, those within `together_s` of a group's first in one list."""
    out: list[list[DrumEvent]] = []
    for event in sorted(events, key=lambda e: e.onset_s):
        if out and event.onset_s - out[-1][0].onset_s <= together_s:
            out[-1].append(event)
        else:
            out.append([event])
    return out


def locate_attack(sound: Samples, sample_rate: int, around: int, reach_s: float = SEARCH_S) -> int:
    """Return the sample at which the attack nearest to `around` begins.

    Near `around` the level over the 4 ms after a sample is compared with the 4 ms before it, for the sound and
    for its first difference (which shows a hat through a ringing kick); where the ratio is largest, the attack
    is the first sample that rises clearly above what came before.

    Args:
        sound: mono samples, shape (T,).
        sample_rate: in Hz.
        around: the sample where an onset was transcribed.
        reach_s: how far from there the attack is sought.
    """
    return int(_located(sound[None], sample_rate, around, reach_s).at[0])


def first_attack(views: Samples, sample_rate: int, around: int) -> int:
    """Return the sample at which a stroke begins in the first of several views that it reaches.

    Args:
        views: shape (V, T); one is as `locate_attack` has it.
        sample_rate: in Hz.
        around: the sample where an onset was transcribed.
    """
    if len(views) == 1:
        return locate_attack(views[0], sample_rate, around)
    found = _located(views, sample_rate, around, VIEWS_SEARCH_S)
    audible = found.energy >= _AUDIBLE * found.energy.max()
    clearest = found.rise[audible].max()
    clear = found.rise >= min(_CLEAR * clearest, clearest)  # one that only falls is the clearest, too
    return int(found.at[audible & clear].min())


class _Attacks(NamedTuple):
    """Where a stroke begins in each of V views, how clearly it does, and the energy of its first 4 ms."""

    at: NDArray[np.intp]
    rise: NDArray[np.float64]
    energy: NDArray[np.float64]


def _located(views: Samples, sample_rate: int, around: int, reach_s: float) -> _Attacks:
    """Return the attack nearest to `around` in each of several views (V, T), as `locate_attack` has it."""
    span = max(2, round(0.004 * sample_rate))
    radius = round(reach_s * sample_rate)
    n_views, n_samples = views.shape
    first, last = max(0, around - radius), min(n_samples - 1, around + radius)
    if first >= last:
        nearest = int(np.clip(around, 0, max(0, n_samples - 1)))
        return _Attacks(np.full(n_views, nearest), np.zeros(n_views), np.zeros(n_views))
    base = first - 2 * span
    padded = np.zeros((n_views, last + 2 * span - base))
    source = views[:, max(0, base) : last + 2 * span]
    padded[:, max(0, -base) : max(0, -base) + source.shape[1]] = source
    difference = np.zeros_like(padded)
    np.subtract(padded[:, 1:], padded[:, :-1], out=difference[:, 1:])
    begin, n_places = first - base, last + 1 - first
    rises = np.zeros((n_views, n_places))
    energy = np.zeros((n_views, padded.shape[1] + 1))
    for signal in (difference, padded):
        np.cumsum(signal * signal, axis=1, out=energy[:, 1:])
        before, here, after = (energy[:, begin + n : begin + n + n_places] for n in (-span, 0, span))
        levels = after - here
        floor = 1e-3 * levels.max(axis=1, keepdims=True) + 1e-12
        rises += np.log((levels + floor) / (here - before + floor))
    # Of equal rises the one nearest to the transcribed onset is meant.
    best = (rises - 0.5 * ((np.arange(first, last + 1) - around) / radius) ** 2).argmax(axis=1)
    loud = np.abs(difference)
    at = [base + _first_above(own, begin + int(peak), span) for own, peak in zip(loud, best, strict=True)]
    of_each = np.arange(n_views), best
    return _Attacks(np.array(at), rises[of_each], levels[of_each])


def _first_above(loud: NDArray[np.float64], peak: int, span: int) -> int:
    """Return the sample near a peak at which a sound (T,) first rises clearly above what came before."""
    before = loud[peak - span : peak - span // 2].max(initial=0.0)
    ahead = loud[peak - span // 2 : peak + span]
    loudest = ahead.max(initial=0.0)
    threshold = max(2.0 * before, 0.1 * loudest)
    return peak - span // 2 + int((ahead > threshold).argmax()) if threshold < loudest else peak


def refine_onsets(recording: Recording, events: Sequence[DrumEvent]) -> list[DrumEvent]:
    """Return the events moved to their attacks in the sound, those of one attack together."""
    moved: list[DrumEvent] = []
    for group in groups(events, SEARCH_S):
        attack_s = attack_of(recording, group[0].onset_s) / recording.sample_rate
        moved.extend(replace(event, onset_s=attack_s) for event in group)
    return sorted(moved, key=lambda event: event.onset_s)


def attack_of(recording: Recording, onset_s: float) -> int:
    """Return the sample at which the attack nearest to a transcribed onset begins."""
    sample_rate = recording.sample_rate
    around = round(onset_s * sample_rate)
    margin = round((VIEWS_SEARCH_S + 0.01) * sample_rate)
    start = max(0, around - margin)
    views = recording.read_views(start, min(recording.n_samples, around + margin))
    return start + first_attack(views, sample_rate, around - start)
