"""Sounds that strokes repeat: what they add up to, which sounds explain a recording best, and how well.

A recording is taken for sum_n v_n h_c(t - t_n): each stroke n plays the sound h of its cluster c at its own
place and gain. Given places and gains, the sounds are a joint least squares, solved by conjugate gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transform.signal import Samples

Floats = NDArray[np.floating]
Indices = NDArray[np.int64]

PRE_S = 0.01  # of a sound before the place of its strokes
_DOUBT, _DOUBT_S = 0.02, 0.15  # regularisation against the strokes' energy; it grows e-fold over this time
_MOST_DOUBT, _EARLY_DOUBT = 50.0, 5.0  # how far it grows, and how large it is before a stroke
_WINDOW_S = 0.085  # over which a stroke is compared with what the sounds explain
_SMOOTH_BINS = 9  # of spectra that weigh what is predicted
_SHELF_HZ, _LOWEST_WEIGHT = (
    1_000.0,
    0.2,
)  # weights rise with the root of frequency


class Strokes(NamedTuple):
    """Strokes as columns (N,): places in samples, clusters, gains, and the events they are of (-1: of none)."""

    place: Indices
    cluster: Indices
    gain: Floats
    event: Indices

    def of(self, chosen: NDArray[np.bool_] | Indices) -> Strokes:
        """Return some of the strokes, as copies."""
        return Strokes(self.place[chosen], self.cluster[chosen], self.gain[chosen], self.event[chosen])


def with_places(strokes: Strokes, places: Indices) -> Strokes:
    """Return the strokes, and after them strokes of no cluster (-1) at some places."""
    none = np.full(len(places), -1, dtype=np.int64)
    return Strokes(
        np.concatenate((strokes.place, places)),
        np.concatenate((strokes.cluster, none)),
        np.concatenate((strokes.gain, np.zeros(len(places)))),
        np.concatenate((strokes.event, none)),
    )


def synthesised(strokes: Strokes, sounds: Sequence[Samples], n_samples: int, pre: int) -> Samples:
    """Return what strokes add up to, shape (C, n_samples).

    Args:
        strokes: their places are samples of the result.
        sounds: of the clusters, each of shape (C, T).
        n_samples: of the result.
        pre: samples of each sound before the place of its strokes.
    """
    out = np.zeros((len(sounds[0]), n_samples), dtype=np.float32)
    for place, cluster, gain in zip(*strokes[:3], strict=True):
        target, own = _overlap(place - pre, sounds[cluster].shape[1], n_samples)
        out[:, target] += np.float32(gain) * sounds[cluster][:, own]
    return out


def _overlap(begin: int, length: int, n_samples: int) -> tuple[slice, slice]:
    """Return where a sound that begins at a sample lies in a recording, and which part of it does."""
    first, last = max(0, begin), max(0, min(n_samples, begin + length))
    return slice(first, max(first, last)), slice(first - begin, max(first, last) - begin)


def _correlated(sound: Samples, strokes: Strokes, like: Sequence[Samples], pre: int) -> list[Samples]:
    """Return what the sounds of clusters have of a recording: the adjoint of `synthesised`."""
    out = [np.zeros_like(own) for own in like]
    for place, cluster, gain in zip(*strokes[:3], strict=True):
        target, own = _overlap(place - pre, out[cluster].shape[1], sound.shape[1])
        out[cluster][:, own] += np.float32(gain) * sound[:, target]
    return out


def solved(
    sound: Samples, strokes: Strokes, sounds: Sequence[Samples], sample_rate: int, n_iterations: int
) -> list[Samples]:
    """Return the sounds of clusters that explain a recording best, as far as some iterations get.

    Args:
        sound: the recording, shape (C, T).
        strokes: places in it.
        sounds: what is begun with, each of shape (C, T); later samples are regularised more.
        sample_rate: in Hz.
        n_iterations: of preconditioned conjugate gradients.
    """
    pre, n_samples = round(PRE_S * sample_rate), sound.shape[1]
    energy = np.bincount(strokes.cluster, strokes.gain**2, len(sounds)).astype(np.float32) + np.float32(1e-6)
    doubt = [e * _doubt(own.shape[1], sample_rate) for e, own in zip(energy, sounds, strict=True)]
    scale = [np.reciprocal(e + d) for e, d in zip(energy, doubt, strict=True)]
    out = [own.copy() for own in sounds]
    left = sound - synthesised(strokes, out, n_samples, pre)
    rest = [r - d * h for r, d, h in zip(_correlated(left, strokes, out, pre), doubt, out, strict=True)]
    step = [s * r for s, r in zip(scale, rest, strict=True)]
    power = _dot(rest, step)
    for _ in range(n_iterations):
        if power <= 1e-12:
            break
        image = _correlated(synthesised(strokes, step, n_samples, pre), strokes, step, pre)
        image = [a + d * s for a, d, s in zip(image, doubt, step, strict=True)]
        length = np.float32(power / max(_dot(step, image), 1e-20))
        for h, r, s, a in zip(out, rest, step, image, strict=True):
            h += length * s
            r -= length * a
        scaled = [s * r for s, r in zip(scale, rest, strict=True)]
        power, before = _dot(rest, scaled), power
        step = [z + np.float32(power / before) * s for z, s in zip(scaled, step, strict=True)]
    return out


def _doubt(length: int, sample_rate: int) -> Floats:
    """Return how strongly each sample of a sound is regularised."""
    time_s = np.arange(length) / sample_rate - PRE_S
    doubt = np.exp(np.clip(time_s / _DOUBT_S, 0, np.log(_MOST_DOUBT)))
    doubt[time_s < 0] = _EARLY_DOUBT
    return (_DOUBT * doubt).astype(np.float32)


def _dot(first: Sequence[Samples], second: Sequence[Samples]) -> float:
    return sum(float(np.vdot(a, b)) for a, b in zip(first, second, strict=True))


class Fit:
    """How well sounds explain what is around the strokes of a mono recording, shape (1, T)."""

    def __init__(
        self,
        sound: Samples,
        strokes: Strokes,
        sounds: Sequence[Samples],
        sample_rate: int,
        window_s: float = _WINDOW_S,
    ) -> None:
        self._strokes = strokes
        pre = round(PRE_S * sample_rate)
        self._size = 1 << (round(window_s * sample_rate) - 1).bit_length()
        self._sounds, self._n_samples = sounds, sound.shape[1]
        self._pre, self._reach = pre, pre  # how far a stroke may be moved
        self._fade = np.ones(self._size, dtype=np.float32)
        third = self._size // 3
        self._fade[-third:] = np.cos(np.linspace(0, np.pi / 2, third)) ** 2
        hz = np.fft.rfftfreq(self._size, 1 / sample_rate)
        self._weight = np.sqrt(hz / _SHELF_HZ).clip(_LOWEST_WEIGHT, None).astype(np.float32)
        beginnings = np.zeros((len(sounds), self._size), dtype=np.float32)
        for beginning, own in zip(beginnings, sounds, strict=True):
            length = min(own.shape[1], self._size - 2 * self._reach)
            beginning[self._reach : self._reach + length] = own[0, :length]
        self._flat = np.fft.rfft(beginnings * self._fade)
        self._left = sound[0] - self._synthesised(strokes)

    def predicted(self, *, evenly: bool = False) -> Floats:
        """Return the proportion (N,) of each stroke that is predicted without the moment at which it falls.

        Leaving a stroke out of a least squares divides what it leaves by one less its own part in it. What
        falls together with it is unexplained by its own part, too: a sound struck once explains anything.

        Args:
            evenly: measure it in weighted spectra, highs and all, not where the cluster's sound has its energy.
        """
        strokes = self._strokes
        part = strokes.gain**2 / np.bincount(strokes.cluster, strokes.gain**2)[strokes.cluster]
        own = self._flat[strokes.cluster] * strokes.gain[:, None].astype(np.float32)
        left = self._left_at(strokes.place)
        unsure = self._spectra_at(strokes.place, self._synthesised(strokes._replace(gain=strokes.gain * part)))
        lost = left + unsure - own * part[:, None].astype(np.float32)
        if evenly:
            weight = np.broadcast_to(self._weight, own.shape)
        else:
            weight = np.sqrt(_smoothed(np.square(np.abs(self._flat))))[strokes.cluster]
        missing, whole = (_energies(x * weight, self._size) for x in (lost, left + own))
        return np.asarray(1 - missing / np.maximum(whole, 1e-20) / np.maximum(1 - part, 1e-3) ** 2)

    def around(self, strokes: Strokes) -> NDArray[np.complexfloating]:
        """Return what is to be explained at strokes: what all of them leave there, and each stroke itself.

        Args:
            strokes: those of the fit, and places that are of no cluster.

        Returns:
            Weighted spectra, shape (N, bins).
        """
        gain = np.where(strokes.cluster < 0, 0, strokes.gain).astype(np.float32)
        whole = self._left_at(strokes.place) + self._flat[strokes.cluster] * gain[:, None]
        return np.asarray(whole * self._weight)

    def best_of(self, cluster: int, around: NDArray[np.complexfloating]) -> tuple[Indices, Floats, Floats]:
        """Return how a cluster's sound explains what is around places best, each of shape (N,).

        Returns:
            Shifts in samples, gains, and the proportions that are explained.
        """
        target = self._flat[cluster] * self._weight
        alike = self._lags(around * target.conj())
        lag = alike.argmax(axis=1)
        peak = np.maximum(alike[np.arange(len(lag)), lag], 0)
        energy = max(float(_energies(target, self._size)), 1e-12)
        share = peak**2 / energy / np.maximum(_energies(around, self._size), 1e-12)
        return lag - self._reach, peak / energy, share

    def alike(self, first: int, second: int) -> tuple[float, int, float]:
        """Return how the second of two sounds stands for the first: their correlation, a shift and a gain."""
        one, other = (self._flat[k] * self._weight for k in (first, second))
        lags = self._lags(one * other.conj())
        energies = [max(float(_energies(x, self._size)), 1e-12) for x in (one, other)]
        lag = int(lags.argmax())
        return (
            float(lags[lag]) / np.sqrt(energies[0] * energies[1]),
            lag - self._reach,
            float(lags[lag]) / energies[1],
        )

    def _synthesised(self, strokes: Strokes) -> Samples:
        return np.asarray(synthesised(strokes, self._sounds, self._n_samples, self._pre)[0])

    def _left_at(self, places: Indices) -> NDArray[np.complexfloating]:
        """Return the spectra of what is left unexplained around places, shape (N, bins)."""
        return self._spectra_at(places, self._left)

    def _spectra_at(self, places: Indices, sound: Samples) -> NDArray[np.complexfloating]:
        return np.fft.rfft(windows(sound, places - self._pre - self._reach, self._size) * self._fade)

    def _lags(self, products: NDArray[np.complexfloating]) -> Floats:
        """Return correlations at lags from -reach to reach of products of spectra, shape (..., lags)."""
        whole = np.fft.irfft(products)
        return np.concatenate((whole[..., -self._reach :], whole[..., : self._reach + 1]), axis=-1)


def windows(sound: Samples, starts: Indices, size: int) -> Samples:
    """Return windows of a sound (T,), zeros outside it, shape (N, size)."""
    padded = np.pad(sound, size)
    inside = np.clip(starts + size, 0, len(padded) - size)
    return np.lib.stride_tricks.sliding_window_view(padded, size)[inside]


def _smoothed(power: Floats) -> Floats:
    """Return power spectra (N, bins) as moving sums over some bins, against the largest of each."""
    half = _SMOOTH_BINS // 2
    sums = np.cumsum(np.pad(power, ((0, 0), (half + 1, half)), mode="edge"), axis=1)
    smooth = sums[:, _SMOOTH_BINS:] - sums[:, :-_SMOOTH_BINS]
    return np.asarray(smooth.clip(0) / np.maximum(smooth.max(axis=1, keepdims=True), 1e-20))


def _energies(spectra: NDArray[np.complexfloating], size: int) -> Floats:
    """Return the energies (N,) of sounds of even `size`, given their spectra."""
    power = np.square(np.abs(spectra))
    return np.asarray((2 * power.sum(axis=-1) - power[..., 0] - power[..., -1]) / size)
