"""What is decided of the microphones of one performance once all of them have been read.

How loud each is, which of them are transcribed, how they are mixed so that they do not cancel, and what their
user should know: which is silent, clipped, turned, or no microphone of drums.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transform.audio import Recording, is_float
from transform.polarity import turned
from transform.resampling import Resampled
from transform.signal import Samples, Signal, overlapping_blocks

_FRAME_S = 0.05  # over which levels are measured
_USED_DB, _LOUD = -50.0, 0.95  # a level is this quantile of the frames that are no softer than the loudest
_SOFTEST_DB = -40.0  # against the loudest microphone: what is softer is not transcribed
_SILENT = 1e-4  # peak of what never rises above the last two bits of 16; or of one's loudest
_PLAYING_DB, _PLAYING_FRAMES = -30.0, 3  # against its level: a microphone plays; so long while one is cut away
_MOST_RAISED = 2.0**10
_LEFT_OUT = 2.0**-7  # how loud the others are beside those that are transcribed: no level is theirs
_CLIPPED, _N_CLIPPED = 0.9995, 8  # so many samples at full scale are no accident
_MOST_NAMED = 2  # microphones of the other polarity
_NO_DRUMS = 0.2  # drum confidence of what is no microphone of drums
_CONFIDENCE_S, _N_CONFIDENCE = 10, 3  # it is measured where a microphone is loudest
_BLOCK_FRAMES = 50
_DOUBT = (
    "hardly sounds like drums, confidence {:.2f}: nothing is detected in it; leave it out if it is no "
    "microphone of the kit"
)
_SOON_S = 0.001  # differences of less are not worth a word


@dataclass(frozen=True, eq=False, kw_only=True)
class Microphone:
    """One of the recordings, of one channel or more."""

    recording: Recording
    signal: Resampled  # at the rate of all
    begin: int  # the sample of all at which it begins
    own_begin: int  # the same, in samples of its own rate
    channels: slice  # of all

    @property
    def name(self) -> str:
        """The name of the recording."""
        return self.recording.name

    @property
    def end(self) -> int:
        """The sample of all at which it has ended."""
        return self.begin + self.signal.n_samples


class Measured(NamedTuple):
    """What is decided of the microphones once all of them have been read."""

    gains: Samples  # of each channel, powers of two, so that they are undone exactly, shape (C,)
    listened: NDArray[np.intp]  # the channels that are transcribed
    mix: Samples  # of each channel in the mono mix, with the sign by which they do not cancel, shape (C,)
    monitor: Samples  # of each channel in the sum that is played to the user, shape (1 or 2, C)
    peak: float  # of what is transcribed
    chosen: NDArray[np.bool_]  # the microphones that are transcribed, shape (M,)
    frame: int  # samples of a frame
    holes: NDArray[np.bool_]  # frames in which a microphone is cut away while others play, shape (M, F)
    notes: tuple[str, ...]


class _Sums(NamedTuple):
    """What one pass through all microphones finds, for C channels and F frames."""

    peak: NDArray[np.floating]  # of each frame, (C, F)
    energy: NDArray[np.floating]  # mean square of each frame, (C, F)
    covariance: NDArray[np.float64]  # (C, C)
    n_full: NDArray[np.int64]  # samples at full scale, (C,)


def measure(sound: Signal, microphones: Sequence[Microphone]) -> Measured:
    """Read all microphones once, and return what is decided of them.

    Args:
        sound: all their channels, as loud as they are stored.
        microphones: where each lies in it.
    """
    sums = _summed(sound)
    levels = np.array([_level(sums.energy[mic.channels].sum(axis=0)) for mic in microphones])
    chosen, notes = _chosen(microphones, levels, sums, sound.sample_rate)
    gains = _gains(microphones, levels, chosen)
    listened = np.flatnonzero(np.repeat(chosen, [mic.recording.n_channels for mic in microphones]))
    mix = _mix(sums.covariance * np.outer(gains, gains), listened)
    together = np.sqrt(((gains[listened, None] * sums.peak[listened]) ** 2).sum(axis=0)).max(initial=0.0)
    notes += [*_clipping_notes(microphones, sums.n_full), *_polarity_notes(microphones, sound, sums)]
    monitor = _monitor(microphones, sums) / gains
    frame, holes = _frame_samples(sound), _holes(microphones, levels, sums)
    return Measured(
        gains=gains,
        listened=listened,
        mix=mix,
        monitor=monitor,
        peak=float(together),
        chosen=chosen,
        frame=frame,
        holes=holes,
        notes=tuple(notes),
    )


def _frame_samples(sound: Signal) -> int:
    return max(1, round(_FRAME_S * sound.sample_rate))


def _summed(sound: Signal) -> _Sums:
    frame = _frame_samples(sound)
    energies, peaks, covariance = [], [], np.zeros((sound.n_channels, sound.n_channels))
    n_full = np.zeros(sound.n_channels, dtype=np.int64)
    for block in overlapping_blocks(sound.n_samples, _BLOCK_FRAMES * frame):
        samples = sound.read(block.start, block.stop)
        covariance += samples @ samples.T
        loud = np.abs(samples)
        n_full += (loud >= _CLIPPED).sum(axis=1)
        padded = np.pad(loud, ((0, 0), (0, -samples.shape[1] % frame))).reshape(len(samples), -1, frame)
        peaks.append(padded.max(axis=2))
        energies.append(np.einsum("cft,cft->cf", padded, padded) / frame)
    return _Sums(np.concatenate(peaks, axis=1), np.concatenate(energies, axis=1), covariance, n_full)


def _gains(
    microphones: Sequence[Microphone], levels: NDArray[np.float64], chosen: NDArray[np.bool_]
) -> Samples:
    """Return what brings each channel to the level of the others, shape (C,)."""
    target = float(np.median(levels[chosen]))
    gains = []
    for mic, level, is_used in zip(microphones, levels.tolist(), chosen, strict=True):
        raised = 2.0 ** round(math.log2(target / level)) if min(level, target) > 0 else 1.0
        gain = np.clip(raised * (1.0 if is_used else _LEFT_OUT), 1 / _MOST_RAISED, _MOST_RAISED)
        gains += [gain] * mic.recording.n_channels
    return np.array(gains, dtype=np.float32)


def _level(energy: NDArray[np.floating]) -> float:
    """Return how loud a microphone is, of its energy (F,) by frame, whatever it is silent in between."""
    used = energy[energy >= energy.max() * 10 ** (_USED_DB / 10)]
    return float(np.sqrt(np.quantile(used, _LOUD)))


def _chosen(
    microphones: Sequence[Microphone], levels: NDArray[np.float64], sums: _Sums, sample_rate: int
) -> tuple[NDArray[np.bool_], list[str]]:
    """Return which of the microphones are transcribed, shape (M,), and a sentence on each that is not."""
    whys: dict[int, str] = {}
    loudest = max(float(levels.max()), 1e-9)
    for i, mic in enumerate(microphones):
        level_db = 20 * math.log10(max(levels[i], 1e-9) / loudest)
        if sums.peak[mic.channels].max() < _SILENT:
            whys[i] = "is silent: nothing is detected in it"
        elif level_db < _SOFTEST_DB:
            whys[i] = f"is {-level_db:.0f} dB softer than the loudest microphone: nothing is detected in it"
    if len(whys) < len(microphones) - 1:
        used = [i for i in range(len(microphones)) if i not in whys]
        confidences = {i: _confidence(microphones[i], sums.energy, sample_rate) for i in used}
        if max(confidences.values()) >= _NO_DRUMS:  # else the take's notes say it of all
            whys |= {i: _DOUBT.format(found) for i, found in confidences.items() if found < _NO_DRUMS}
    chosen = np.array([i not in whys for i in range(len(microphones))])
    notes = [f"{mic.name} {whys[i]}" for i, mic in enumerate(microphones) if i in whys]
    return chosen if chosen.any() else np.ones_like(chosen), notes


def _holes(microphones: Sequence[Microphone], levels: NDArray[np.float64], sums: _Sums) -> NDArray[np.bool_]:
    """Return in which frames microphones are cut away, shape (M, F): silent for long while others play.

    What rings out before all are silent, or has a stroke a little later than the others, is no hole.
    """
    loud = np.stack(
        [
            sums.energy[mic.channels].sum(axis=0) > (level * 10 ** (_PLAYING_DB / 20)) ** 2
            for mic, level in zip(microphones, levels, strict=True)
        ]
    )
    n_playing = np.cumsum(np.pad(loud.any(axis=0), (1, 0)))
    holes = np.zeros(loud.shape, dtype=bool)
    for mic, hole in zip(microphones, holes, strict=True):
        peak = sums.peak[mic.channels].max(axis=0)
        is_silent = peak <= _SILENT * peak.max()
        edges = np.flatnonzero(np.diff(is_silent, prepend=False, append=False)).reshape(-1, 2)
        for begin, end in edges[n_playing[edges[:, 1]] - n_playing[edges[:, 0]] >= _PLAYING_FRAMES]:
            hole[max(0, begin - 1) : end] = True  # it is cut within the frame before
    return holes


def _confidence(mic: Microphone, energy: NDArray[np.floating], sample_rate: int) -> float:
    """Return the drum confidence of a microphone, where it is loudest."""
    from transform.transcriber import drum_confidence  # with torch, which checking the files does without

    n_frames, frame = round(_CONFIDENCE_S / _FRAME_S), round(_FRAME_S * sample_rate)
    own = energy[mic.channels].sum(axis=0)
    starts = range(0, len(own), n_frames)
    loudest = sorted(starts, key=lambda start: -own[start : start + n_frames].sum())[:_N_CONFIDENCE]
    regions = [
        mic.signal.read(start * frame - mic.begin, (start + n_frames) * frame - mic.begin)
        for start in sorted(loudest)
    ]
    return drum_confidence(Recording.from_samples(np.concatenate(regions, axis=1), sample_rate, mic.name))


def _mix(covariance: NDArray[np.float64], listened: NDArray[np.intp]) -> Samples:
    """Return the weight of each channel in a mono mix, shape (C,).

    Channel after channel gets the sign with which the mix so far is louder, so that it never loses energy.
    """
    weights = np.zeros(len(covariance))
    for c in sorted(listened.tolist(), key=lambda c: -covariance[c, c]):
        weights[c] = -1.0 if covariance[c] @ weights < 0 else 1.0
    return (weights / max(1, len(listened))).astype(np.float32)


def _monitor(microphones: Sequence[Microphone], sums: _Sums) -> Samples:
    """Return the weight of each channel, as stored, in the sum that is played, shape (2, C), or (1, 1) of one.

    Pairs stay left and right, all else is in the middle. It is turned down where the microphones together could
    pass full scale, and a channel has the sign with which it adds to those before it.
    """
    everything = np.arange(len(sums.covariance))
    signs = np.sign(_mix(sums.covariance, everything)).astype(np.float32)
    sides = np.ones((min(2, len(signs)), len(signs)), dtype=np.float32)
    for mic in microphones:
        if mic.recording.n_channels > 1:
            n = mic.recording.n_channels
            sides[:, mic.channels] = [np.arange(n) % 2 == side for side in (0, 1)]
    most = float((sides @ sums.peak).max())
    weights: Samples = sides * signs / np.float32(max(1.0, most))
    return weights


def _clipping_notes(microphones: Sequence[Microphone], n_full: NDArray[np.int64]) -> Iterator[str]:
    for mic in microphones:
        n_clipped = int(n_full[mic.channels].sum())
        if n_clipped >= _N_CLIPPED and not is_float(mic.recording.format.subtype):
            yield f"{mic.name} is clipped, {n_clipped} samples at full scale: it is used as it is"


def _polarity_notes(microphones: Sequence[Microphone], sound: Signal, sums: _Sums) -> Iterator[str]:
    n_frames = round(1 / _FRAME_S)
    loudness = (sums.energy / np.maximum(sums.energy.max(axis=1, keepdims=True), 1e-12)).sum(axis=0)
    by_second = np.add.reduceat(loudness, range(0, len(loudness), n_frames))
    for place, others in turned(sound, [mic.channels for mic in microphones], by_second):
        names = [microphones[other].name for other in others]
        if len(names) > _MOST_NAMED:
            names[_MOST_NAMED:] = [f"{len(names) - _MOST_NAMED} more"]
        shown = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
        yield f"{microphones[place].name} is of opposite polarity to {shown}: it is used as it is"


def form_notes(microphones: Sequence[Microphone], group: Signal) -> list[str]:
    """Return sentences on microphones of other rates, beginnings or lengths."""
    rate, notes = group.sample_rate, []
    soon = _SOON_S * rate
    first = min(microphones, key=lambda mic: mic.begin)
    for mic in microphones:
        if mic.recording.sample_rate != rate:
            notes.append(
                f"{mic.name} is at {mic.recording.sample_rate} Hz: it is resampled to {rate} Hz and back"
            )
        if mic.begin > soon:
            notes.append(
                f"{mic.name} begins {mic.begin / rate:.3f} s after {first.name}: the results begin together"
            )
        if group.n_samples - mic.end > soon:
            notes.append(
                f"{mic.name} ends {(group.n_samples - mic.end) / rate:.3f} s before the last microphone"
            )
    return notes
