"""A filter bank of sixteen bands, undone exactly: what the codec's networks see of a waveform."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

_ATTENUATION_DB = 90.0  # of the prototype's Kaiser window
_CUTOFF = 1.15  # of the prototype, in half widths of a band


class Pqmf(nn.Module):
    """Audio (B, T) <-> bands (B, M, T // M), T a multiple of M; a full-scale sine is about 1 in its band.

    A cosine-modulated bank of M filters with 24 * M taps (Nguyen, IEEE Trans. SP 1994). The prototype is a
    Kaiser window's (Lin and Vaidyanathan, IEEE SPL 1998), which alone leaves an error of -65 dB; it is then
    moved to the nearest one that reconstructs perfectly (see `_corrected`), so what is left is rounding. Bands
    lie 55 dB apart. Band sample f is centred on samples [M * f, M * (f + 1)): the bank has no delay.
    """

    kernel: Tensor

    def __init__(self, n_bands: int = 16) -> None:
        super().__init__()
        self.n_bands = n_bands
        filters = _filters(n_bands) / np.sqrt(n_bands)
        # As a convolution of blocks of M samples, (M out, M in, 24): the same sums as with a stride of M.
        kernel = np.ascontiguousarray(filters.reshape(n_bands, -1, n_bands).transpose(0, 2, 1))
        self.register_buffer("kernel", torch.from_numpy(kernel).float(), persistent=False)

    @property
    def margin(self) -> int:
        """How many samples before and after its own M a band sample depends on."""
        return (self.kernel.shape[-1] - 1) * self.n_bands // 2

    def analyse(self, audio: Tensor) -> Tensor:
        """Return the bands (B, M, T // M) of audio (B, T), in single precision."""
        with torch.autocast(audio.device.type, enabled=False):
            padded = functional.pad(audio.float(), (self.margin, self.margin))
            return functional.conv1d(padded.reshape(len(audio), -1, self.n_bands).transpose(1, 2), self.kernel)

    def synthesise(self, bands: Tensor) -> Tensor:
        """Return the audio (B, T) of bands (B, M, T // M), in single precision."""
        with torch.autocast(bands.device.type, enabled=False):
            blocks = functional.conv_transpose1d(bands.float(), self.kernel * self.n_bands)
            return blocks.transpose(1, 2).flatten(1)[:, self.margin : -self.margin]


def _filters(n_bands: int) -> NDArray[np.float64]:
    """Return the analysis filters, time-reversed (so the synthesis filters), shape (M, 24 * M)."""
    n_taps = 24 * n_bands
    time = np.arange(n_taps) - (n_taps - 1) / 2
    beta = 0.1102 * (_ATTENUATION_DB - 8.7)  # Kaiser's rule
    prototype = np.sinc(_CUTOFF * time / (2 * n_bands)) * np.kaiser(n_taps, beta)
    prototype = _corrected(prototype / np.sqrt(2 * n_bands * np.square(prototype[::n_bands]).sum()), n_bands)
    band = np.arange(n_bands)[:, None]
    phase = (2 * band + 1) * np.pi / (2 * n_bands) * time - (-1.0) ** band * np.pi / 4
    return np.asarray(2 * prototype * np.cos(phase))


def _corrected(prototype: NDArray[np.float64], n_bands: int) -> NDArray[np.float64]:
    """Return the prototype moved, as little as need be, to where its bank reconstructs perfectly.

    The bank does so if of every two polyphase components that lie M taps apart the autocorrelations add up to
    an impulse (Koilpillai and Vaidyanathan, IEEE Trans. SP 1992). Newton's method, steps of least norm.
    """
    prototype = prototype.copy()
    n = len(prototype) // (2 * n_bands)
    for first in range(n_bands):
        taps = first + n_bands * np.concatenate((np.arange(0, 2 * n, 2), np.arange(1, 2 * n, 2)))
        for _ in range(20):
            pair = prototype[taps].reshape(2, n)
            error = np.array([(pair[:, lag:] * pair[:, : n - lag]).sum() for lag in range(n)])
            error[0] -= 1 / (2 * n_bands)
            if np.abs(error).max() < 1e-15:
                break
            slope = np.zeros((n, 2, n))
            for lag in range(n):
                slope[lag, :, lag:] += pair[:, : n - lag]
                slope[lag, :, : n - lag] += pair[:, lag:]
            prototype[taps] -= np.linalg.lstsq(slope.reshape(n, 2 * n), error, rcond=None)[0]
    return prototype
