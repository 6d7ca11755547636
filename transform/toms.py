"""The toms of a recording: how high each stroke sounds, which of the drums it was, and toms tuned to others.

Toms are distinguished by their fundamentals alone. What a rhythm requests and what a source has are brought
together by rank, so that what descends in the one descends in the other.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from transform.audio import Recording
from transform.events import TOM_HEIGHTS, DrumEvent
from transform.signal import Samples

RANGE_HZ = (50.0, 400.0)  # where the fundamental of a tom lies
MOST_SEMITONES = 3.0  # that a tom is tuned up or down
_FROM_S, _UNTIL_S = 0.03, 0.25  # after the attack: its noise is over, the drum still rings
_SHORTEST_S = 0.04
_BEFORE_S, _EARLY_S = 0.12, 0.006  # before an onset what rings into it is measured
_LEFT = 0.5  # of its power, rings on
_LOUD_DB = 8.0  # the fundamental is the lowest peak that is at most this much softer than the loudest
_SHARE = 0.3  # of the energy in RANGE_HZ that lies around the fundamental, at least
_NEAR_OCTAVES = 0.2  # around it
_GAP_OCTAVES = 2 / 12  # between the fundamentals of two drums, at least
_COMPANY_S = 0.025
_STEP_SEMITONES = 3.0  # from one tuned tom to the next, at most
_RATIO_STEPS = 1024  # of the ratio of a tuning: 1 cent is six of ten thousand
# What as many toms are called, from the lowest; a single one is just a tom.
_NAMES = {
    1: ("",),
    2: ("low", "high"),
    3: ("low", "mid", "high"),
    4: ("floor", "low", "mid", "high"),
    5: ("floor", "low", "mid", "high-mid", "high"),
    6: TOM_HEIGHTS,
}


def fundamental_hz(
    sound: NDArray[np.floating], sample_rate: int, before: NDArray[np.floating] | None = None
) -> float | None:
    """Return the fundamental of a tom, None where none stands out.

    Args:
        sound: mono samples (T,) from the attack on, up to the next stroke; 70 ms at least.
        sample_rate: in Hz.
        before: what sounds up to the attack, and rings on into it; None for silence.
    """
    ringing = sound[round(_FROM_S * sample_rate) : round(_UNTIL_S * sample_rate)]
    if len(ringing) < _SHORTEST_S * sample_rate:
        return None
    power, spacing = _spectrum(ringing, sample_rate)
    if before is not None and len(before):
        power = np.maximum(power - _LEFT * _spectrum(before, sample_rate)[0], 1e-3 * power)
    first, last = (min(round(hz / spacing), len(power) - 1) for hz in RANGE_HZ)
    inside = power[first:last]
    if inside.max(initial=0.0) <= 1e-12:
        return None
    is_peak = (inside > power[first - 1 : last - 1]) & (inside >= power[first + 1 : last + 1])
    peaks = np.flatnonzero(is_peak & (inside >= inside.max() * 10 ** (-_LOUD_DB / 10)))
    if not len(peaks):
        return None
    peak = first + int(peaks[0])
    left, here, right = np.log(power[peak - 1 : peak + 2])
    hz = (peak + 0.5 * (left - right) / (left - 2 * here + right)) * spacing
    octaves = np.abs(np.log2(np.arange(first, last) * spacing / hz))
    return float(hz) if inside[octaves < _NEAR_OCTAVES].sum() >= _SHARE * inside.sum() else None


def _spectrum(part: NDArray[np.floating], sample_rate: int) -> tuple[NDArray[np.float64], float]:
    """Return the power of each frequency in a sound of any length, and their spacing in Hz."""
    n_fft = 1 << int(np.ceil(np.log2(sample_rate / 2)))  # bins of 1 to 2 Hz
    window = np.hanning(len(part))
    power = np.abs(np.fft.rfft((part - np.mean(part, dtype=np.float64)) * window, n_fft)) ** 2
    return power / max(float(np.square(window).sum()), 1e-9) + 1e-30, sample_rate / n_fft


def with_tom_heights(recording: Recording, events: Sequence[DrumEvent]) -> list[DrumEvent]:
    """Return the events of a recording, its toms with articulations by the rank of their fundamentals.

    The drums are found from strokes that no kick or snare falls together with, and into which no other tom
    rings; the others are strokes of one of these, or of a tom that is not known.

    Args:
        recording: where the events are from.
        events: sorted by onset.
    """
    toms = [i for i, event in enumerate(events) if event.drum_class == "TT"]
    pitches = {i: _pitches(recording, events, i) for i in toms}
    clear = [found[0] for i, found in pitches.items() if len(found) == 1 and not _has_company(events, i)]
    drums = grouped(clear)
    names = _NAMES[max(1, len(drums))]
    out = list(events)
    for i, found in pitches.items():
        near = [
            rank
            for hz in found
            for rank, drum in enumerate(drums)
            if min(abs(np.log2(hz / other)) for other in drum) <= _GAP_OCTAVES / 2
        ]
        if near:
            out[i] = replace(events[i], articulation=names[near[0]])
    return out


def _pitches(recording: Recording, events: Sequence[DrumEvent], i: int) -> list[float]:
    """Return what may be the fundamental of a tom: of what is new in its sound, then of all of it."""
    onset_s = events[i].onset_s
    until_s = onset_s + _UNTIL_S
    for later in events[i + 1 :]:
        if later.onset_s >= until_s:
            break
        if later.drum_class in ("KD", "SD", "TT") and later.onset_s > onset_s + _COMPANY_S:
            until_s = later.onset_s
    rate = recording.sample_rate
    attack = round(onset_s * rate)
    start = round((onset_s - _BEFORE_S) * rate)
    whole = recording.closest(start, round(until_s * rate))
    before, sound = whole[: attack - round(_EARLY_S * rate) - start], whole[attack - start :]
    of_new_and_all = (fundamental_hz(sound, rate, ringing) for ringing in (before, None))
    found = [hz for hz in of_new_and_all if hz is not None]
    return found[:1] if len(found) == 2 and abs(np.log2(found[0] / found[1])) < _GAP_OCTAVES / 2 else found


def _has_company(events: Sequence[DrumEvent], i: int) -> bool:
    """Tell whether a kick or a snare falls together with an event."""
    onset_s = events[i].onset_s
    near = (*reversed(events[max(0, i - 6) : i]), *events[i + 1 : i + 7])
    return any(e.drum_class in ("KD", "SD") and abs(e.onset_s - onset_s) <= _COMPANY_S for e in near)


def grouped(fundamentals_hz: Sequence[float]) -> list[list[float]]:
    """Return the fundamentals of each drum, the lowest drum first: what is 2 semitones apart is another one.

    There are six at most; of more, those nearest to each other are one.
    """
    rising = sorted(fundamentals_hz)
    if not rising:
        return []
    gaps = np.diff(np.log2(rising))
    wide = np.flatnonzero(gaps > _GAP_OCTAVES)
    wide = np.sort(wide[np.argsort(-gaps[wide], kind="stable")][: len(TOM_HEIGHTS) - 1])
    ends = [0, *(wide + 1).tolist(), len(rising)]
    return [rising[begin:end] for begin, end in pairwise(ends)]


def by_rank(requested: Collection[str], available: Collection[str]) -> dict[str, str]:
    """Return which tom of a source plays each height that a rhythm asks for, both by rank; "" is no height.

    Of a rhythm with a single height, its place among all heights is its rank.
    """
    ours, theirs = (sorted(set(heights) - {""}, key=TOM_HEIGHTS.index) for heights in (available, requested))
    if not ours:
        return {}
    return {height: ours[round(share * (len(ours) - 1))] for height, share in _shares(theirs).items()}


def tunings(requested: Collection[str]) -> dict[str, float]:
    """Return by how many semitones a source's single tom is tuned to play each height of a rhythm, by rank."""
    heights = sorted(set(requested) - {""}, key=TOM_HEIGHTS.index)
    if len(heights) < 2:
        return {}
    most = min(MOST_SEMITONES, _STEP_SEMITONES * (len(heights) - 1) / 2)
    return {height: most * (2 * share - 1) for height, share in _shares(heights).items()}


def _shares(heights: Sequence[str]) -> dict[str, float]:
    """Return where each of some rising heights lies between the lowest, 0, and the highest, 1."""
    if len(heights) == 1:
        return {heights[0]: TOM_HEIGHTS.index(heights[0]) / (len(TOM_HEIGHTS) - 1)}
    return {height: rank / (len(heights) - 1) for rank, height in enumerate(heights)}


def tuned(sound: Samples, semitones: float, attack: int) -> Samples:
    """Return a hit (C, T) at another pitch, and as much shorter or longer; its attack stays on its sample.

    Args:
        sound: the hit.
        semitones: above 0 for higher.
        attack: the sample at which it begins.
    """
    if semitones == 0:
        return sound
    import soxr  # machines that only train do without it

    ratio = Fraction(round(_RATIO_STEPS * 2 ** (-semitones / 12)), _RATIO_STEPS)
    # Silence is put before the hit, so that its attack lies at a whole sample of both rates.
    before = _RATIO_STEPS * (1 + attack // (_RATIO_STEPS // 2))
    after = round(before * ratio)
    padded = np.pad(sound, ((0, 0), (before - attack, 0)))
    out = np.asarray(soxr.resample(padded.T, _RATIO_STEPS, round(_RATIO_STEPS * ratio), quality="HQ")).T
    return np.ascontiguousarray(out[:, after - attack :], dtype=np.float32)
