"""Which microphones of one performance are of opposite polarity, also where they stand a little apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from transform.signal import Signal

_N_SECONDS = 20  # the loudest ones of a performance are compared
_LATEST_S = 0.001  # by which one of two may have the same sound later than the other: 0.34 m
_HIGHEST_HZ = 4_000.0  # above, what stands apart is not alike
_ALIKE = 0.5  # correlation of two microphones that have the same sound, of either sign

_T = TypeVar("_T")


def turned(
    sound: Signal, channels: Sequence[slice], loudness: NDArray[np.floating]
) -> list[tuple[int, list[int]]]:
    """Return the microphones that are of opposite polarity to most of those that have the same sound.

    Args:
        sound: all their channels, shape (C, T).
        channels: those of each microphone.
        loudness: of each second of the sound, to choose by, shape (S,).

    Returns:
        Each with the microphones that it is opposite to; of two it is the second.
    """
    alike = _alike(sound, np.argsort(-loudness, kind="stable")[:_N_SECONDS])
    edges = []
    for one, other in combinations(range(len(channels)), 2):
        own = alike[channels[one], channels[other]]
        strongest = float(own.flat[np.abs(own).argmax()])
        if abs(strongest) > _ALIKE:
            edges.append((abs(strongest), strongest < 0, one, other))
    found: list[tuple[int, list[int]]] = []
    for group in _signed(len(channels), sorted(edges, reverse=True)):
        sides = [sorted(place for place, is_turned in group if is_turned == side) for side in (False, True)]
        fewer, most = sorted(sides, key=lambda side: (len(side), -min(side, default=0)))
        found += [(place, most) for place in fewer]
    return sorted(found)


def _alike(sound: Signal, seconds: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return the correlation of each two channels at the lag where it is strongest, shape (C, C)."""
    rate, n_bins = sound.sample_rate, int(min(_HIGHEST_HZ, sound.sample_rate / 2))
    # A second, and as much silence: bins of half a hertz, of which those below the highest are used.
    spectra = np.stack(
        [
            np.fft.rfft(sound.read(n * rate, (n + 1) * rate), 2 * rate)[:, : 2 * n_bins + 1]
            for n in seconds.tolist()
        ]
    ).astype(np.complex64)
    energy = (np.abs(spectra[..., 1:-1]) ** 2).sum(axis=(0, 2), dtype=np.float64)
    n_lags = max(1, round(_LATEST_S * 2 * n_bins))
    strongest = np.zeros((sound.n_channels, sound.n_channels))
    for c in range(sound.n_channels):
        by_lag = np.fft.irfft(np.einsum("sk,sck->ck", spectra[:, c], spectra[:, c:].conj()))
        near = np.concatenate((by_lag[:, : n_lags + 1], by_lag[:, -n_lags:]), axis=1)
        best = np.take_along_axis(near, np.abs(near).argmax(axis=1, keepdims=True), axis=1)[:, 0]
        strongest[c, c:] = best * (2 * n_bins) / np.sqrt(np.maximum(energy[c] * energy[c:], 1e-24))
    return strongest


def _signed(n: int, edges: Sequence[tuple[float, bool, int, int]]) -> Iterator[list[tuple[int, bool]]]:
    """Yield the members of each connected group, and whether each is turned against the first of it.

    Args:
        n: of all.
        edges: how alike two are, whether one is turned, and their places; the surest first.
    """
    groups: list[list[tuple[int, bool]]] = [[(place, False)] for place in range(n)]
    for _, is_turned, one, other in edges:
        first, second = (next(g for g in groups if any(p == place for p, _ in g)) for place in (one, other))
        if first is second:
            continue
        flip = is_turned ^ dict(first)[one] ^ dict(second)[other]
        first += [(place, own ^ flip) for place, own in second]
        groups.remove(second)
    yield from groups
