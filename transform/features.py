"""Log-mel features of drum audio at 100 frames per second, one implementation for training and inference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn

from transform.audio import SAMPLE_RATE, MakesFeatures
from transform.errors import SettingsError
from transform.layers import Placed
from transform.ranges import check_ranges
from transform.signal import BlockCache, Signal, read_blocks

_HOP = 441  # samples
_FPS = SAMPLE_RATE // _HOP
_READ_S, _READ_CONTEXT_S = 10, 1  # whole seconds begin on a sample and a frame at every rate
_READ_BYTES = 2**28  # of cached features: half an hour
_BLOCK_BYTES = 2**20  # of windowed frames that are transformed at once: few enough to stay in a cache


@dataclass(frozen=True, kw_only=True)
class FeatureSettings:
    """The input of the transcriber."""

    hop: int = _HOP  # samples at 44.1 kHz: 100 frames per second
    windows: tuple[int, ...] = (2048, 512)  # samples: one for pitch, one for time
    n_bands: int = 96  # mel bands
    low_hz: float = 30.0
    high_hz: float = 18_000.0
    floor_db: float = -90.0  # levels below count as silence

    def __post_init__(self) -> None:
        check_ranges(
            self,
            hop=(_HOP, _HOP),  # 100 frames a second are what everything else counts in
            windows=(2, 2**16),
            n_bands=(1, 1024),
            low_hz=(0, SAMPLE_RATE / 2),
            high_hz=(0, SAMPLE_RATE / 2),
            floor_db=(-200, -20),
        )
        has_windows = bool(self.windows) and not any(window % 2 for window in self.windows)
        if not has_windows or not self.low_hz < self.high_hz:  # odd ones have a frame less
            raise SettingsError(
                f"features have windows of {self.windows} samples, and bands from {self.low_hz} to "
                f"{self.high_hz} Hz"
            )

    @property
    def fps(self) -> float:
        """Frames per second."""
        return SAMPLE_RATE / self.hop

    @property
    def n_channels(self) -> int:
        """Feature channels: a log-mel spectrogram a window, and the rise of the shortest one's levels."""
        return len(self.windows) + 1


def mel_filters(n_fft: int, n_bands: int, low_hz: float, high_hz: float) -> Tensor:
    """Return triangular mel filters of unit sum, shape (n_fft // 2 + 1, n_bands).

    Bands narrower than a bin divide its energy: filters are drawn on a 16 times finer grid and summed to bins.
    Mel scale: O'Shaughnessy, 2595 log10(1 + f / 700).
    """
    fine = 16
    edges = _edges(n_bands, low_hz, high_hz)
    n_bins = n_fft // 2 + 1
    position = _mel((np.arange(n_bins * fine) / fine - 0.5).clip(0) * SAMPLE_RATE / n_fft)
    position = (position - edges[0]) / (edges[1] - edges[0])
    low = np.floor(position).astype(np.int64)
    filters = np.zeros((n_bins, n_bands))
    # Between two edges lie the rising side of one filter and the falling side of the one below.
    for band, height in ((low, position - low), (low - 1, low + 1 - position)):
        inside = (band >= 0) & (band < n_bands)
        np.add.at(filters, (np.flatnonzero(inside) // fine, band[inside]), height[inside])
    return torch.from_numpy(filters / filters.sum(axis=0, keepdims=True)).float()


def band_positions(hz: np.ndarray, settings: FeatureSettings) -> np.ndarray:
    """Return where frequencies lie among the bands: at k in the middle of band k, in between elsewhere.

    What lies below the middle of the first or above that of the last counts as there.
    """
    edges = _edges(settings.n_bands, settings.low_hz, settings.high_hz)
    position = (_mel(hz) - edges[1]) / (edges[2] - edges[1])
    return np.asarray(position.clip(0, settings.n_bands - 1))


def _mel(hz: np.ndarray) -> np.ndarray:
    return np.asarray(2595 * np.log10(1 + hz / 700))


def _edges(n_bands: int, low_hz: float, high_hz: float) -> np.ndarray:
    return np.linspace(_mel(np.array(low_hz)), _mel(np.array(high_hz)), n_bands + 2)


class DrumFeatures(nn.Module):
    """Audio (B, T) at 44.1 kHz -> features (B, C, F, K): log-mel per window, then the flux of the shortest.

    Frame f is centred on sample f * hop; F = T // hop + 1. Values are about 0 (silence) to 1 (full scale). Of
    audio (B, V, T) it is the features of the sum of the power spectra of V signals.
    """

    def __init__(self, settings: FeatureSettings) -> None:
        super().__init__()
        self.settings = settings
        for i, window in enumerate(settings.windows):
            filters = mel_filters(window, settings.n_bands, settings.low_hz, settings.high_hz)
            filters = filters.repeat_interleave(2, dim=0) / (window / 4) ** 2
            self.register_buffer(f"filters_{i}", filters, persistent=False)
            self.register_buffer(f"window_{i}", torch.hann_window(window), persistent=False)

    def forward(self, audio: Tensor) -> Tensor:
        """Return the features (B, C, F, K) of audio (B, T) or (B, V, T)."""
        signals = audio.unbind(1) if audio.dim() == 3 else (audio,)
        levels = [self._log_mel(signals, i, window) for i, window in enumerate(self.settings.windows)]
        rise = levels[-1] - nn.functional.pad(levels[-1], (0, 0, 1, 0))[:, :-1]
        return torch.stack((*levels, 2 * rise.clamp_min(0)), dim=1)

    def _log_mel(self, signals: Sequence[Tensor], index: int, window: int) -> Tensor:
        energy = self._energy(signals, index, window)
        floor = 10 ** (self.settings.floor_db / 10)
        decibels = 10 * torch.log10(energy + floor)
        return decibels / -self.settings.floor_db + 1

    def _energy(self, signals: Sequence[Tensor], index: int, window: int) -> Tensor:
        """Return the energy of each band of the sum of the power spectra of signals (B, T), shape (B, F, K)."""
        filters, shape = getattr(self, f"filters_{index}"), getattr(self, f"window_{index}")
        padded = (nn.functional.pad(signal, (window // 2, window // 2)) for signal in signals)
        frames = [signal.unfold(-1, window, self.settings.hop) for signal in padded]
        n_bytes = 4 * window * len(signals[0])
        n_at_once = frames[0].shape[1] if signals[0].is_cuda else max(1, _BLOCK_BYTES // n_bytes)
        energies = []
        for blocks in zip(*(torch.split(own, n_at_once, dim=1) for own in frames), strict=True):
            power = _squares(blocks[0] * shape)
            for block in blocks[1:]:
                power += _squares(block * shape)
            energies.append(power @ filters)
        return torch.cat(energies, dim=1)


def _squares(frames: Tensor) -> Tensor:
    """Return the squares of the spectra of frames (B, F, N), shape (B, F, N + 2).

    Real and imaginary parts lie side by side: their squares are summed by the (doubled) filters.
    """
    flat = torch.view_as_real(torch.fft.rfft(frames)).flatten(-2)
    return flat * flat


class Listener:
    """Audio -> features on a device; the last ones are cached, as several models read the same audio."""

    def __init__(self, settings: FeatureSettings, device: torch.device) -> None:
        self._features = Placed(DrumFeatures(settings), device=str(device))
        self._last: tuple[Tensor, Tensor] | None = None

    @torch.inference_mode()
    def __call__(self, audio: Tensor) -> Tensor:
        """Return the features (1, C, F, K) of audio (T,) or (V, T); neither may be changed afterwards."""
        last = self._last  # several threads may listen
        if last is not None and torch.equal(last[0], audio):
            return last[1]
        features: Tensor = self._features.run(lambda listen, device: listen(audio[None].to(device)))
        self._last = audio, features
        return features


class FeatureReader:
    """The features of the sum of the power spectra of several signals, read by frames, each computed once."""

    def __init__(self, signals: Signal, gain: float, listen: MakesFeatures) -> None:
        """Take signals as channels, what brings them to the listening level, and what makes the features."""
        self._signals, self._gain, self._listen = signals, np.float32(gain), listen
        self.n_frames = max(1, round(signals.n_samples * SAMPLE_RATE / signals.sample_rate)) // _HOP + 1
        self._cache: BlockCache[int, np.ndarray] = BlockCache(n_bytes=_READ_BYTES)

    def read(self, begin: int, end: int) -> Tensor:
        """Return the features of frames [begin, end), shape (1, C, end - begin, K)."""
        blocks = read_blocks(lambda n: self._cache.get(n, self._block), _READ_S * _FPS, begin, end)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(blocks, -1, -2)))

    def _block(self, number: int) -> np.ndarray:
        """Return the features of a block, shape (1, C, K, F)."""
        import soxr  # machines that only train do without it

        rate, begin_s = self._signals.sample_rate, number * _READ_S
        region = (begin_s - _READ_CONTEXT_S) * rate, (begin_s + _READ_S + _READ_CONTEXT_S) * rate
        signals = self._gain * self._signals.read(*region)
        if rate != SAMPLE_RATE:
            signals = soxr.resample(np.ascontiguousarray(signals.T), rate, SAMPLE_RATE, quality="HQ").T
        features: Tensor = self._listen(torch.from_numpy(np.ascontiguousarray(signals, dtype=np.float32)))
        first = _READ_CONTEXT_S * _FPS
        core = features[:, :, first : first + _READ_S * _FPS].cpu().numpy()
        return np.ascontiguousarray(np.moveaxis(core, -1, -2))


@lru_cache(maxsize=4)
def listener(settings: FeatureSettings, device: torch.device) -> Listener:
    """Return the one listener of all models with the same features."""
    return Listener(settings, device)
