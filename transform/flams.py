"""Flams: two strokes of one drum that are meant as one, found by a second look at the waveform.

The transcriber's frames are 10 ms long, and it takes the two strokes of a flam for one. The level of what is
struck is followed here in steps of half a millisecond.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from transform.audio import Recording
from transform.events import MOST_FLAM_MS, DrumEvent
from transform.onsets import attack_of

CLASSES = ("SD", "TT")  # that are played with flams
_SKINS = ("KD", "SD", "TT")
_LEAST_S, _MOST_S = 0.018, MOST_FLAM_MS / 1000  # between the strokes of a flam; closer ones are one sound
_ALONE_S = 0.1  # a roll has a third stroke of its drum this near
_NEAR_S = 0.01  # how far a stroke may be from where it was transcribed
_OTHERS_S = 0.012  # a rise this near to another drum's stroke is that drum's
_BAND_HZ = (700.0, 9_000.0)  # where sticks are heard
_STEP_S, _SPAN_S = 0.0005, 0.004
_PEAK_S = 0.004  # a rise is a peak among those this near
_MARGIN_S = 0.02
_RISE_DB = 6.0  # of the first stroke over what sounds before it
_SECOND_RISE_DB = 6.0  # of the second over the first
_SOFTEST_DB = -20.0  # of the first against the second
_LOUDEST_DB = 1.0
_SHAPE_DB = 6.0  # how far the spectra of both may differ, on average
_SAME_DB = 3.5  # where another drum was transcribed
_SHAPE_S = 0.01
_SHAPE_EDGES_HZ = np.geomspace(250, 16_000, 7)


def with_flams(recording: Recording, events: Sequence[DrumEvent]) -> list[DrumEvent]:
    """Return the events, the two strokes of each flam as one event at the first, with `flam_ms`.

    Only snares and toms are looked at. Either both strokes are events, or one is and the other is found beside
    it. A third stroke of the drum nearby makes it a roll, which is left alone.

    Args:
        recording: where the events are from.
        events: sorted by onset.
    """
    onsets_s = [event.onset_s for event in events]
    out = [event for event in events if event.drum_class not in CLASSES]
    for drum_class in CLASSES:
        own = [event for event in events if event.drum_class == drum_class]
        i = 0
        while i < len(own):
            n_pair = 2 if i + 1 < len(own) and own[i + 1].onset_s - own[i].onset_s <= _MOST_S else 1
            strokes = own[i : i + n_pair]
            found = None
            if not _is_roll(own, i, i + n_pair):
                first = bisect_left(onsets_s, strokes[0].onset_s - _ALONE_S)
                last = bisect_left(onsets_s, strokes[-1].onset_s + _ALONE_S)
                others = [event for event in events[first:last] if event.drum_class != drum_class]
                found = _flam(recording, strokes, others)
            out.append(found or own[i])
            i += n_pair if found else 1
    return sorted(out, key=lambda event: event.onset_s)


def _is_roll(own: Sequence[DrumEvent], first: int, stop: int) -> bool:
    """Tell whether other strokes of a drum are near those from `first` to `stop`."""
    follows = first > 0 and own[first].onset_s - own[first - 1].onset_s < _ALONE_S
    return follows or (stop < len(own) and own[stop].onset_s - own[stop - 1].onset_s < _ALONE_S)


def _flam(recording: Recording, strokes: Sequence[DrumEvent], others: Sequence[DrumEvent]) -> DrumEvent | None:
    """Return one or two events as a flam, None where they are none."""
    begin_s = max(0.0, strokes[0].onset_s - _MOST_S - _MARGIN_S)
    rate = recording.sample_rate
    start = round(begin_s * rate)
    mono = recording.closest(start, round((strokes[-1].onset_s + _MOST_S + _MARGIN_S) * rate))
    if len(strokes) == 2:
        found = _pair_in(mono, rate, [attack_of(recording, event.onset_s) - start for event in strokes])
    elif strokes[0].drum_class == "TT" and _has_snare(others, strokes[0].onset_s):
        return None  # the flam, if there is one, is the snare's
    else:
        others_s = np.array([event.onset_s - begin_s for event in others])
        skins_s = np.array([event.onset_s - begin_s for event in others if event.drum_class in _SKINS])
        found = flam_in(mono, rate, strokes[0].onset_s - begin_s, others_s, skins_s)
    if found is None:
        return None
    louder = max(strokes, key=lambda event: event.velocity)
    flam_ms = float(np.clip(1000 * (found[1] - found[0]), 1.0, MOST_FLAM_MS))
    return replace(louder, onset_s=start / rate + found[0], flam_ms=flam_ms)


def _has_snare(others: Sequence[DrumEvent], onset_s: float) -> bool:
    return any(e.drum_class == "SD" and abs(e.onset_s - onset_s) <= _OTHERS_S for e in others)


def _pair_in(
    mono: NDArray[np.floating], sample_rate: int, attacks: Sequence[int]
) -> tuple[float, float] | None:
    """Return when two attacks are, in seconds, if the second is at least as loud as the first."""
    level, _ = _rises(mono, sample_rate, 1)
    first, second = (level[int(np.clip(attack, 0, len(level) - 1))] for attack in attacks)
    return (attacks[0] / sample_rate, attacks[1] / sample_rate) if first - second <= _LOUDEST_DB else None


def flam_in(
    mono: NDArray[np.floating],
    sample_rate: int,
    onset_s: float,
    others_s: NDArray[np.float64],
    skins_s: NDArray[np.float64],
) -> tuple[float, float] | None:
    """Return when the two strokes of a flam begin in a sound, None where there is one stroke.

    Args:
        mono: samples (T,) around the stroke.
        sample_rate: in Hz.
        onset_s: where it was transcribed.
        others_s: where other drums were.
        skins_s: where those of them were that are no cymbals.
    """
    step = max(1, round(_STEP_S * sample_rate))
    level, rise = _rises(mono, sample_rate, step)
    times_s = np.arange(len(rise)) * step / sample_rate
    reach = round(_PEAK_S / _STEP_S)
    around = np.lib.stride_tricks.sliding_window_view(
        np.pad(rise, reach, constant_values=-np.inf), 2 * reach + 1
    )
    peaks = np.flatnonzero((rise >= _SECOND_RISE_DB) & (around.argmax(axis=1) == reach)).tolist()
    found = []
    for a, b in combinations(peaks, 2):
        is_second = abs(times_s[b] - onset_s) <= _NEAR_S
        if not is_second and abs(times_s[a] - onset_s) > _NEAR_S:
            continue
        if not _LEAST_S <= times_s[b] - times_s[a] <= _MOST_S:
            continue
        if rise[a] < _RISE_DB or not _SOFTEST_DB <= level[a] - level[b] <= _LOUDEST_DB:
            continue
        # What falls together with another drum may be that drum, but no cymbal is as loud as a second stroke.
        is_another = _is_near(others_s, times_s[a]) if is_second else _is_near(skins_s, times_s[b])
        most_db = _SAME_DB if is_another else _SHAPE_DB
        if _difference_db(mono, sample_rate, a * step, b * step) <= most_db:
            found.append((float(rise[a] + rise[b]), float(times_s[a]), float(times_s[b])))
    return max(found)[1:] if found else None


def _is_near(onsets_s: NDArray[np.float64], time_s: float) -> bool:
    return bool((np.abs(onsets_s - time_s) <= _OTHERS_S).any())


def _rises(
    mono: NDArray[np.floating], sample_rate: int, step: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the level after each step in dB, and how far it lies above that before it."""
    spectrum = np.fft.rfft(np.asarray(mono, dtype=np.float64))
    hz = np.fft.rfftfreq(len(mono), 1 / sample_rate)
    spectrum *= np.clip(np.log2(np.maximum(hz, 1.0) / (_BAND_HZ[0] / 2)), 0, 1)
    spectrum *= np.clip(np.log2(2 * _BAND_HZ[1] / np.maximum(hz, 1.0)), 0, 1)
    energy = np.concatenate(([0.0], np.cumsum(np.fft.irfft(spectrum, len(mono)) ** 2)))
    span = max(1, round(_SPAN_S * sample_rate))
    places = np.arange(0, len(mono), step)
    after = energy[np.minimum(places + span, len(mono))] - energy[places]
    before = energy[places] - energy[np.maximum(places - span, 0)]
    floor = 1e-4 * after.max(initial=0.0) + 1e-15
    level = 10 * np.log10(after + floor)
    return level, level - 10 * np.log10(before + floor)


def _difference_db(mono: NDArray[np.floating], sample_rate: int, first: int, second: int) -> float:
    """Return how far the spectra of what begins at two samples differ, levels apart."""
    size = round(_SHAPE_S * sample_rate)
    shapes = []
    for begin in (first, second):
        before, after = (
            _bands(mono[max(0, at) : max(0, at + size)], sample_rate) for at in (begin - size, begin)
        )
        new = np.maximum(after - before, 0.02 * after)
        shape = 10 * np.log10(new + 1e-6 * new.max() + 1e-15)
        shapes.append(shape - shape.mean())
    return float(np.abs(shapes[0] - shapes[1]).mean())


def _bands(part: NDArray[np.floating], sample_rate: int) -> NDArray[np.float64]:
    """Return the energy of a sound (T,) by band, zeros where it is empty, as before a recording it is."""
    n_bands = len(_SHAPE_EDGES_HZ)
    if not len(part):
        return np.zeros(n_bands - 1)
    power = np.abs(np.fft.rfft(part * np.hanning(len(part)))) ** 2
    bands = np.bincount(_band_of(len(part), sample_rate), weights=power, minlength=n_bands + 1)
    return np.asarray(bands[1:n_bands], dtype=np.float64)


@lru_cache(maxsize=64)
def _band_of(n_samples: int, sample_rate: int) -> NDArray[np.intp]:
    return np.searchsorted(_SHAPE_EDGES_HZ, np.fft.rfftfreq(n_samples, 1 / sample_rate))
