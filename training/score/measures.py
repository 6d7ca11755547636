"""The columns of the benchmark: small measures of a recording against what it should be.

Audio is mono, NumPy, shape (T,), at 44.1 kHz; times are seconds, levels decibels. A measure returns None where
there is nothing to measure.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray

from training.data.kits import SAMPLE_RATE
from training.score.scores import n_matches
from transform.events import CLASSES, DrumEvent
from transform.features import mel_filters

Audio = NDArray[np.floating]

# Where each class stands out of the others: strokes are as loud as they are here.
BANDS_HZ = {
    "KD": (30.0, 120.0),
    "SD": (200.0, 5_000.0),
    "TT": (70.0, 400.0),
    "HH": (7_000.0, 18_000.0),
    "CY": (4_000.0, 18_000.0),
}
MATCHED_DB = -20.0  # root mean square of a loudness-matched recording, against full scale
_FLOOR_DB = -70.0  # of log-mel spectrograms, against a full-scale sine
_HIT_SAMPLES = 4096  # 93 ms
_HIT_FLOOR_DB = -60.0  # of a hit's spectrum, against white noise of its loudness
_HIGH_HZ = 8_000.0
_PRE_ECHO_FLOOR_DB = -60.0
_SI_SDR_DB = (-30.0, 100.0)


def loudness_matched(audio: Audio) -> NDArray[np.float64]:
    """Return the recording with a root mean square of `MATCHED_DB` over its whole length; silence stays."""
    level = float(np.sqrt(np.mean(np.square(audio, dtype=np.float64))))
    return np.asarray(audio, dtype=np.float64) * (10 ** (MATCHED_DB / 20) / level if level > 1e-7 else 0.0)


def log_mel_db(audio: Audio) -> NDArray[np.float64]:
    """Return levels (F, 80): Hann windows of 1024 every 256 samples, 80 mel bands from 30 Hz to 18 kHz.

    0 dB is a full-scale sine in the middle of a band, -70 dB the floor.
    """
    window = np.hanning(1025)[:-1]
    padded = np.pad(np.asarray(audio, dtype=np.float64), 512)
    frames = np.lib.stride_tricks.sliding_window_view(padded, 1024)[::256]
    power = np.abs(np.fft.rfft(frames * window)) ** 2 / 256**2
    filters = _mel(1024, 80, 30.0, 18_000.0)
    energy = power @ (filters / filters.max(axis=0))
    return np.asarray(10 * np.log10(np.maximum(energy, 10 ** (_FLOOR_DB / 10))))


def log_mel_distance_db(audio: Audio, reference: Audio, *, averaged: bool = False) -> float:
    """Return the mean absolute difference of two recordings' log-mel levels, both loudness-matched.

    Args:
        audio: a recording.
        reference: another one of its length.
        averaged: whether powers are first averaged over 3 frames x 5 bands, which noise is alike in.
    """
    ours, theirs = (log_mel_db(loudness_matched(sound)) for sound in (audio, reference))
    if averaged:
        ours, theirs = _averaged_db(ours), _averaged_db(theirs)
    return float(np.abs(ours - theirs).mean())


def _averaged_db(levels_db: NDArray[np.float64]) -> NDArray[np.float64]:
    power = np.pad(10 ** (levels_db / 10), ((1, 1), (2, 2)), mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(power, (3, 5))
    return np.asarray(10 * np.log10(windows.mean(axis=(-2, -1))))


def high_energy_db(audio: Audio, reference: Audio) -> float:
    """Return how much more of a recording's energy lies above 8 kHz than of the reference's; + is brighter.

    Energies are taken against the whole, which matches the loudness; what is below -60 dB counts as -60 dB.
    """

    def high_db(sound: Audio) -> float:
        n_fft = 1 << len(sound).bit_length()  # a prime length would take many times as long
        power = np.abs(np.fft.rfft(np.asarray(sound, dtype=np.float64), n_fft)) ** 2
        high = power[np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE) >= _HIGH_HZ].sum()
        return float(10 * np.log10(max(high / max(power.sum(), 1e-20), 1e-6)))

    return high_db(audio) - high_db(reference)


def si_sdr_db(estimate: Audio, reference: Audio) -> float | None:
    """Return the scale-invariant signal-to-distortion ratio of an estimate, None for a silent reference.

    Ratios below -30 dB count as -30 dB, so that a class that was missed altogether weighs as much as any other
    that was not found; a silent estimate has -30 dB, an exact one 100 dB.

    Source: Le Roux, Wisdom, Erdogan and Hershey, ICASSP 2019, eq. 4: the estimate is projected on the
    reference, and what is left is the distortion.
    """
    ours, truth = (np.asarray(sound, dtype=np.float64) for sound in (estimate, reference))
    energy = float(truth @ truth)
    if energy <= 1e-14 * len(truth):
        return None
    projected = float(ours @ truth) ** 2 / energy
    distortion = max(0.0, float(ours @ ours) - projected)
    lowest, highest = _SI_SDR_DB
    if projected <= distortion * 10 ** (lowest / 10):
        return lowest
    return min(highest, float(10 * np.log10(projected / max(distortion, 1e-12 * projected))))


def level_db(sound: Audio, reference: Audio) -> float:
    """Return the energy of a sound against that of a reference which is not silent, at least -100 dB."""
    ours, theirs = (np.asarray(each, dtype=np.float64) for each in (sound, reference))
    return float(10 * np.log10(max(float(ours @ ours) / float(theirs @ theirs), 1e-10)))


def hit_spectra_db(audio: Audio, onsets_s: Sequence[float]) -> NDArray[np.float64]:
    """Return the levels of 64 mel bands in the 93 ms after each onset, shape (N, 64), each hit equally loud.

    0 dB is white noise of the hit's loudness, -60 dB the floor, which all bands of a silent hit have.
    """
    window = np.hanning(_HIT_SAMPLES)
    filters = _mel(_HIT_SAMPLES, 64, 30.0, 16_000.0)
    spectra = np.full((len(onsets_s), 64), _HIT_FLOOR_DB)
    for i, onset_s in enumerate(onsets_s):
        hit = _cut(audio, round(onset_s * SAMPLE_RATE), _HIT_SAMPLES)
        mean_square = float(np.mean(hit**2))
        if mean_square > 1e-14:
            power = np.abs(np.fft.rfft(hit * window)) ** 2 / (mean_square * (window**2).sum())
            spectra[i] = 10 * np.log10(np.maximum(power @ filters, 10 ** (_HIT_FLOOR_DB / 10)))
    return spectra


def nearest_hit_db(hits: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """Return the mean over hits of the mean absolute difference to the nearest of others, in dB.

    Args:
        hits: spectra of `hit_spectra_db`, shape (N, 64), N above 0.
        others: shape (S, 64), S above 0.
    """
    return float(np.abs(hits[:, None] - others[None]).mean(axis=-1).min(axis=1).mean())


def likeness(
    hits: NDArray[np.float64], source_hits: NDArray[np.float64], target_hits: NDArray[np.float64]
) -> float | None:
    """Return d_target / (d_source + d_target): 1 sounds like the source, 0 like the target's recording.

    d is the mean over `hits` of the mean absolute distance to the nearest hit of the source, or of the target.

    Args:
        hits: spectra of `hit_spectra_db`, shape (N, 64).
        source_hits: shape (S, 64).
        target_hits: shape (R, 64).
    """
    if not (len(hits) and len(source_hits) and len(target_hits)):
        return None

    to_source, to_target = nearest_hit_db(hits, source_hits), nearest_hit_db(hits, target_hits)
    return to_target / (to_source + to_target) if to_source + to_target > 0 else 0.5


def band_level_db(audio: Audio, onset_s: float, drum_class: str) -> float:
    """Return the level in a class's band from 2 ms before an onset to 50 ms after it, against full scale."""
    n_before, n_samples = round(0.002 * SAMPLE_RATE), round(0.052 * SAMPLE_RATE)
    window = np.ones(n_samples)
    window[:n_before] = np.linspace(0, 1, n_before, endpoint=False)
    fall = n_samples // 2
    window[-fall:] = np.cos(np.linspace(0, np.pi / 2, fall)) ** 2
    hit = _cut(audio, round(onset_s * SAMPLE_RATE) - n_before, n_samples)
    power = np.abs(np.fft.rfft(hit * window)) ** 2
    hz = np.fft.rfftfreq(n_samples, 1 / SAMPLE_RATE)
    low, high = BANDS_HZ[drum_class]
    energy = 2 * power[(hz >= low) & (hz < high)].sum() / n_samples / (window**2).sum()
    return float(10 * np.log10(energy + 1e-12))


def velocity_correlations(audio: Audio, events: Sequence[DrumEvent]) -> dict[str, float | None]:
    """Return, by class, Spearman's correlation of the events' velocities with their levels in the class's band.

    A class needs five events, not all of one velocity. Where a recording is silent throughout, it is 0.
    """
    found: dict[str, float | None] = {}
    for drum_class in CLASSES:
        own = [event for event in events if event.drum_class == drum_class]
        velocities = [event.velocity for event in own]
        if len(own) < 5 or len(set(velocities)) < 2:
            found[drum_class] = None
            continue
        levels = [band_level_db(audio, event.onset_s, drum_class) for event in own]
        found[drum_class] = spearman(velocities, levels)
    return found


def spearman(first: Sequence[float], second: Sequence[float]) -> float:
    """Return the rank correlation of two lists; ties get their mean rank; 0 where a list is constant."""
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (first, second)]
    deviations = [values - values.mean() for values in ranks]
    scale = float(np.sqrt((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum()))
    return float((deviations[0] * deviations[1]).sum()) / scale if scale > 0 else 0.0


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    return np.asarray((last - (count - 1) / 2)[place], dtype=np.float64)


def timing_errors_s(
    expected: Sequence[DrumEvent], detected: Sequence[DrumEvent], *, window_s: float = 0.05
) -> NDArray[np.float64]:
    """Return detected minus expected onset for the events of one class that are each other's nearest.

    Args:
        expected: the true events.
        detected: the estimated ones.
        window_s: the largest error that still pairs two events.
    """
    errors: list[float] = []
    for drum_class in CLASSES:
        truth, found = (
            np.array([e.onset_s for e in events if e.drum_class == drum_class])
            for events in (expected, detected)
        )
        if not (len(truth) and len(found)):
            continue
        apart = found[None] - truth[:, None]
        nearest, nearest_back = np.abs(apart).argmin(axis=1), np.abs(apart).argmin(axis=0)
        for i, j in enumerate(nearest):
            if nearest_back[j] == i and abs(apart[i, j]) <= window_s:
                errors.append(float(apart[i, j]))
    return np.array(errors)


def timing_sd_ms(errors_s: NDArray[np.float64]) -> float | None:
    """Return the standard deviation of timing errors around their mean (the bias), None below three."""
    return float(1000 * np.std(errors_s, ddof=1)) if len(errors_s) >= 3 else None


def isolated_onsets_s(events: Sequence[DrumEvent], all_events: Sequence[DrumEvent]) -> list[float]:
    """Return the distinct onsets of events that no other of all events precedes by less than 60 ms."""
    everything = sorted(event.onset_s for event in all_events)
    return [
        onset_s
        for onset_s in distinct_onsets_s(events)
        if not any(onset_s - 0.06 < other_s < onset_s - 1e-9 for other_s in everything)
    ]


def pre_echo_db(audio: Audio, onsets_s: Sequence[float]) -> float | None:
    """Return the mean level of 10 ms that end 2 ms before an onset against the 20 ms after it, at least -60.

    Onsets that silence follows, or that lie at a border of the recording, do not count.
    """
    levels = []
    for onset_s in onsets_s:
        at = round(onset_s * SAMPLE_RATE)
        if at < 529 or at + 882 > len(audio):
            continue
        ahead = float(np.mean(_cut(audio, at - 529, 441) ** 2))
        after = float(np.mean(_cut(audio, at, 882) ** 2))
        if after > 1e-12:
            levels.append(max(_PRE_ECHO_FLOOR_DB, 10 * np.log10(max(ahead / after, 1e-12))))
    return float(np.mean(levels)) if levels else None


def distinct_onsets_s(events: Sequence[DrumEvent], same_s: float = 0.03) -> list[float]:
    """Return the sorted onsets of events of any class; those within `same_s` after one are that one."""
    distinct: list[float] = []
    for onset_s in sorted(event.onset_s for event in events):
        if not distinct or onset_s - distinct[-1] >= same_s:
            distinct.append(onset_s)
    return distinct


def any_onset_f(
    expected: Sequence[DrumEvent],
    detected: Sequence[DrumEvent],
    *,
    ignored: Sequence[DrumEvent] = (),
    window_s: float,
) -> float:
    """Return F of onsets of any class; detections that only an `ignored` event explains count for nothing."""
    truth, found = distinct_onsets_s(expected), distinct_onsets_s(detected)
    matched = n_matches(truth, found, window_s)
    excused = n_matches(distinct_onsets_s([*expected, *ignored]), found, window_s) - matched
    total = len(truth) + len(found) - max(0, excused)
    return 2 * matched / total if total else 1.0


@cache
def _mel(n_fft: int, n_bands: int, low_hz: float, high_hz: float) -> NDArray[np.float64]:
    return np.asarray(mel_filters(n_fft, n_bands, low_hz, high_hz).numpy(), dtype=np.float64)


def _cut(audio: Audio, start: int, n_samples: int) -> NDArray[np.float64]:
    """Return samples [start, start + n_samples), zeros outside the recording."""
    out = np.zeros(n_samples)
    first, last = max(0, start), min(len(audio), start + n_samples)
    if first < last:
        out[first - start : last - start] = audio[first:last]
    return out
