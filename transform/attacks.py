"""Where the strokes of a recording begin, to the sample, and how hard they are struck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from transform.audio import Recording, Samples
from transform.events import CLASSES, DrumEvent

TOGETHER_S = 0.025  # strokes of one recording closer than this are one hit
REACH_S = 0.006  # how far from a transcribed onset its attack is sought; 9 of 10 are within 3 ms
LEVEL_EXPONENT = 1.6  # amplitude goes as velocity to this power: about what drum machines do

# Where a class's strokes are compared with one another: chosen by the correlation with true velocities on
# validation kits (docs/method.md, decision 31), as is the time over which their level is taken.
_BANDS_HZ = {
    "KD": (30.0, 120.0),
    "SD": (1_500.0, 7_000.0),
    "TT": (70.0, 400.0),
    "HH": (9_000.0, 18_000.0),
    "CY": (4_000.0, 18_000.0),
}
_LEVEL_S, _RISE_S = 0.093, 0.002
_STRONG = 0.9  # quantile of a class's strokes that keeps the velocity that the transcriber says
_SOFTEST = 0.02


def groups(events: Sequence[DrumEvent], together_s: float = TOGETHER_S) -> list[list[DrumEvent]]:
    """Return the events in order, those within `together_s` of a group's first in one list."""
    out: list[list[DrumEvent]] = []
    for event in sorted(events, key=lambda e: e.onset_s):
        if out and event.onset_s - out[-1][0].onset_s <= together_s:
            out[-1].append(event)
        else:
            out.append([event])
    return out


def locate_attack(sound: Samples, sample_rate: int, around: int) -> int:
    """Return the sample at which the attack nearest to `around` begins.

    Near `around` the level over the 4 ms after a sample is compared with the 4 ms before it, for the sound and
    for its first difference (which hears a hat through a ringing kick); where the ratio is largest, the attack
    is the first sample that rises clearly above what came before.

    Args:
        sound: mono samples, shape (T,).
        sample_rate: in Hz.
        around: the sample where an onset was transcribed.
    """
    span = max(2, round(0.004 * sample_rate))
    reach = round(REACH_S * sample_rate)
    first, last = max(0, around - reach), min(len(sound) - 1, around + reach)
    if first >= last:
        return int(np.clip(around, 0, max(0, len(sound) - 1)))
    base = first - 2 * span
    part = np.zeros(last + 2 * span - base, dtype=np.float64)
    source = sound[max(0, base) : last + 2 * span]
    part[max(0, -base) : max(0, -base) + len(source)] = source
    if not part.any():
        return int(np.clip(around, first, last))
    difference = np.diff(part, prepend=part[0])
    positions = np.arange(first, last + 1) - base
    rise = np.zeros(len(positions))
    for signal in (part, difference):
        energy = np.concatenate(([0.0], np.cumsum(signal**2)))
        after = energy[positions + span] - energy[positions]
        before = energy[positions] - energy[positions - span]
        floor = 1e-3 * after.max() + 1e-12
        rise += np.log((after + floor) / (before + floor))
    # Of equal rises the one nearest to the transcribed onset is meant.
    rise -= 0.5 * ((positions + base - around) / reach) ** 2
    peak = int(positions[np.argmax(rise)])
    loud = np.abs(difference)
    before = loud[peak - span : peak - span // 2].max(initial=0.0)
    ahead = loud[peak - span // 2 : peak + span]
    threshold = max(2.0 * before, 0.1 * ahead.max(initial=0.0))
    above = np.flatnonzero(ahead > threshold) if threshold < ahead.max(initial=0.0) else np.zeros(0)
    return base + (peak - span // 2 + int(above[0]) if len(above) else peak)


def refine_onsets(recording: Recording, events: Sequence[DrumEvent]) -> list[DrumEvent]:
    """Return the events moved to the attacks that are heard, those that share an attack together."""
    moved: list[DrumEvent] = []
    for group in groups(events, REACH_S):
        attack_s = attack_of(recording, group[0].onset_s) / recording.sample_rate
        moved.extend(replace(event, onset_s=attack_s) for event in group)
    return sorted(moved, key=lambda event: event.onset_s)


def attack_of(recording: Recording, onset_s: float) -> int:
    """Return the sample at which the attack nearest to a transcribed onset begins."""
    sample_rate = recording.sample_rate
    around = round(onset_s * sample_rate)
    margin = round((REACH_S + 0.01) * sample_rate)
    start = max(0, around - margin)
    mono = recording.mono(start, min(recording.n_samples, around + margin))
    return start + locate_attack(mono, sample_rate, around - start)


def with_measured_velocities(recording: Recording, events: Sequence[DrumEvent]) -> list[DrumEvent]:
    """Return the events, velocities being the geometric mean of those that were said and those of their levels.

    The transcriber hears how hard a class is struck on the whole, and hardly one stroke from the other; the
    level in the class's band tells them apart, but another drum may be in it.
    """
    levels = np.array([_band_level(recording, event) for event in events])
    said = np.array([event.velocity for event in events])
    measured = said.copy()
    for drum_class in CLASSES:
        own = np.array([event.drum_class == drum_class for event in events], dtype=bool)
        if not own.any() or (strong := float(np.quantile(levels[own], _STRONG))) <= 0:
            continue
        usual = float(np.quantile(said[own], _STRONG))
        measured[own] = np.sqrt(said[own] * usual * (levels[own] / strong) ** (1 / LEVEL_EXPONENT))
    return [
        replace(event, velocity=float(velocity))
        for event, velocity in zip(events, measured.clip(_SOFTEST, 1.0), strict=True)
    ]


def _band_level(recording: Recording, event: DrumEvent) -> float:
    """Return the level of a stroke's beginning in the band of its class."""
    sample_rate = recording.sample_rate
    n_samples = 2 ** round(np.log2(_LEVEL_S * sample_rate))
    n_rise = round(_RISE_S * sample_rate)
    start = round(event.onset_s * sample_rate) - n_rise
    hit = recording.mono(start, start + n_samples)
    window = np.ones(n_samples)
    window[:n_rise] = np.linspace(0, 1, n_rise, endpoint=False)
    window[n_samples // 2 :] = np.cos(np.linspace(0, np.pi / 2, n_samples - n_samples // 2)) ** 2
    low, high = _BANDS_HZ[event.drum_class]
    low = min(low, sample_rate / 4)  # of a recording that has no such band, its upper half
    spacing = sample_rate / n_samples
    band = slice(round(low / spacing), max(round(low / spacing) + 1, round(high / spacing)))
    return float(np.linalg.norm(np.fft.rfft(hit * window)[band]))
