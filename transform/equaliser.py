"""How loud the network makes each band of a source, and the filter that puts it right.

Some of a source's own strokes, of the classes that a rhythm has, are played by the network and by the source's
own hits. By how much a band of the hits is louder is what codec and mixed latents take from it in this source,
whatever the rhythm (docs/method.md, decision 58), so all that the network plays of the source goes through one
filter that gives it back. The filter is of minimum phase: attacks stay where they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transform.audio import SAMPLE_RATE
from transform.events import CLASSES, DrumEvent
from transform.signal import Samples, Signal

_LENGTH_S = 8.0  # of what is compared
_TAIL_S = 0.3  # of its last stroke
_ENOUGH = 6  # strokes of a class
# Of bands: octaves of the lows, which are copied and wrong only where the codec adds to them, then thirds.
_EDGES_HZ = np.array([50.0, 100.0, 200.0, *(400.0 * 2.0 ** (np.arange(18) / 3)), 22_050.0])
_RANGE_DB = (-40.0, 10.0)  # what the source lacks nobody needs; what is made too softly is no more than noise
_SILENT = 1e-9  # of the power of the loudest band
_WINDOW = 2048  # of the spectra that are compared
_FFT = 4096  # in which the filter is made
_N_TAPS = 1024


@dataclass(frozen=True)
class OwnStrokes:
    """Strokes of a source, and its hits that play them."""

    events: Sequence[DrumEvent]  # in seconds of the source, sorted by onset
    hits: Signal  # from the first of them on

    @property
    def begin_s(self) -> float:
        """Where the first of them is in the source."""
        return self.events[0].onset_s

    @property
    def length_s(self) -> float:
        """How much of them is compared."""
        return self.events[-1].onset_s - self.begin_s + _TAIL_S


def typical(events: Sequence[DrumEvent]) -> list[DrumEvent]:
    """Return the strokes of those seconds in which most classes are struck most.

    Args:
        events: of a source, sorted by onset.
    """
    onsets_s = np.array([event.onset_s for event in events])
    stops = np.searchsorted(onsets_s, onsets_s + _LENGTH_S)
    n_struck = np.zeros(len(events), dtype=np.int64)
    for drum_class in CLASSES:
        n_before = np.cumsum([0, *(event.drum_class == drum_class for event in events)])
        n_struck += np.minimum(n_before[stops] - n_before[:-1], _ENOUGH)
    if not len(events):
        return []
    first = int(np.argmax(n_struck))
    return list(events[first : stops[first]])


def from_start(events: Sequence[DrumEvent]) -> list[DrumEvent]:
    """Return events moved so that the first of them is at 0 s."""
    return [replace(event, onset_s=event.onset_s - events[0].onset_s) for event in events]


class Equaliser:
    """A filter for all that the network plays of a source."""

    def __init__(self, made: Samples, hits: Samples) -> None:
        """Compare the same strokes, at 44.1 kHz.

        Args:
            made: samples (C, T) as the network plays them.
            hits: samples (C', T) as they are in the source.
        """
        ours, theirs = _band_powers(made), _band_powers(hits)
        silent = max(_SILENT * max(ours.max(), theirs.max()), np.finfo(np.float64).tiny)
        self.gains_db = np.clip(10 * np.log10((theirs + silent) / (ours + silent)), *_RANGE_DB)
        self._taps = _minimum_phase(self.gains_db)

    def applied(self, sound: Samples) -> Samples:
        """Return samples (C, T), filtered; before them was silence."""
        n_fft = 1 << (sound.shape[1] + _N_TAPS - 1).bit_length()
        spectrum = np.fft.rfft(sound, n_fft) * np.fft.rfft(self._taps, n_fft)
        return np.fft.irfft(spectrum, n_fft)[:, : sound.shape[1]].astype(np.float32)


def _band_powers(sound: Samples) -> NDArray[np.float64]:
    """Return the power of each band, the mean of the channels."""
    padded = np.pad(sound, ((0, 0), (_WINDOW // 2, _WINDOW)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW, axis=1)[:, :: _WINDOW // 4]
    spectra = np.fft.rfft(frames * np.hanning(_WINDOW).astype(np.float32))
    power = (np.abs(spectra) ** 2).sum(axis=1, dtype=np.float64).mean(axis=0)
    places = np.searchsorted(np.fft.rfftfreq(_WINDOW, 1 / SAMPLE_RATE), _EDGES_HZ)
    return np.add.reduceat(power[: places[-1]], places[:-1])


def _minimum_phase(gains_db: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the taps of the filter of minimum phase that has these gains."""
    hz = np.maximum(np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE), 1.0)
    centres_hz = np.sqrt(_EDGES_HZ[:-1] * _EDGES_HZ[1:])
    log_gains = np.interp(np.log(hz), np.log(centres_hz), gains_db) * np.log(10) / 20
    # The cepstrum of a filter of minimum phase is causal (Oppenheim and Schafer, 1975).
    cepstrum = np.fft.irfft(log_gains)
    cepstrum[1 : _FFT // 2] *= 2
    cepstrum[_FFT // 2 + 1 :] = 0
    return np.fft.irfft(np.exp(np.fft.rfft(cepstrum)))[:_N_TAPS]
