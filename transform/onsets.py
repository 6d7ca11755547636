"""Where the strokes of a recording begin, to the sample."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

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
    return _located(sound, sample_rate, around, reach_s).at


def first_attack(views: Samples, sample_rate: int, around: int) -> int:
    """Return the sample at which a stroke begins in the first of several views that it reaches.

    Args:
        views: shape (V, T); one is as `locate_attack` has it.
        sample_rate: in Hz.
        around: the sample where an onset was transcribed.
    """
    if len(views) == 1:
        return locate_attack(views[0], sample_rate, around)
    found = [_located(view, sample_rate, around, VIEWS_SEARCH_S) for view in views]
    loudest = max(attack.energy for attack in found)
    audible = [attack for attack in found if attack.energy >= _AUDIBLE * loudest]
    clearest = max(attack.rise for attack in audible)
    return min(attack.at for attack in audible if attack.rise >= _CLEAR * clearest)


class _Attack(NamedTuple):
    """Where a stroke begins in a view, how clearly it does, and the energy of its first 4 ms."""

    at: int
    rise: float
    energy: float


def _located(sound: Samples, sample_rate: int, around: int, reach_s: float) -> _Attack:
    """Return the attack nearest to `around` in mono samples (T,), as `locate_attack` has it."""
    span = max(2, round(0.004 * sample_rate))
    radius = round(reach_s * sample_rate)
    first, last = max(0, around - radius), min(len(sound) - 1, around + radius)
    if first >= last:
        return _Attack(int(np.clip(around, 0, max(0, len(sound) - 1))), 0.0, 0.0)
    base = first - 2 * span
    padded = np.zeros(last + 2 * span - base, dtype=np.float64)
    source = sound[max(0, base) : last + 2 * span]
    padded[max(0, -base) : max(0, -base) + len(source)] = source
    if not padded.any():
        return _Attack(int(np.clip(around, first, last)), 0.0, 0.0)
    difference = np.diff(padded, prepend=padded[0])
    positions = np.arange(first, last + 1) - base
    rises, levels = np.zeros(len(positions)), np.zeros(len(positions))
    for signal in (difference, padded):
        energy = np.concatenate(([0.0], np.cumsum(signal**2)))
        levels = energy[positions + span] - energy[positions]
        before = energy[positions] - energy[positions - span]
        floor = 1e-3 * levels.max() + 1e-12
        rises += np.log((levels + floor) / (before + floor))
    # Of equal rises the one nearest to the transcribed onset is meant.
    nearest = rises - 0.5 * ((positions + base - around) / radius) ** 2
    best = int(np.argmax(nearest))
    peak = int(positions[best])
    loud = np.abs(difference)
    before = loud[peak - span : peak - span // 2].max(initial=0.0)
    ahead = loud[peak - span // 2 : peak + span]
    threshold = max(2.0 * before, 0.1 * ahead.max(initial=0.0))
    above = np.flatnonzero(ahead > threshold) if threshold < ahead.max(initial=0.0) else np.zeros(0)
    at = base + (peak - span // 2 + int(above[0]) if len(above) else peak)
    return _Attack(at, float(rises[best]), float(levels[best]))


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
