"""The short-time spectra in which stems are masked: windows of four hops, undone exactly."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

N_HOPS = 4  # hops in a window: Hann windows squared then add up to 1.5 everywhere
_SUM = 1.5


def fft_size(hop: int) -> int:
    """Return the length of the transform: the power of two that holds a window."""
    return 1 << (N_HOPS * hop - 1).bit_length()


def analyse(audio: Tensor, hop: int, *, every: int = 1) -> Tensor:
    """Return spectra (..., J, N // 2 + 1) of audio (..., T): frame j spans samples [j * hop, (j + 4) * hop).

    With `every` above 1 only one frame in so many is made. Samples after the last whole frame are not seen.
    For frames centred on samples, pad the audio before.
    """
    frames = audio.unfold(-1, N_HOPS * hop, every * hop)
    spectra: Tensor = torch.fft.rfft(frames * _window(hop, audio.device), fft_size(hop))
    return spectra


def synthesise(spectra: Tensor, hop: int) -> Tensor:
    """Return the audio (..., (J + 3) * hop) of spectra (..., J, N // 2 + 1).

    The first and the last three hops lack frames and fade; between them `analyse` is undone exactly.
    """
    n_frames = spectra.shape[-2]
    window = _window(hop, spectra.device) / _SUM
    frames = torch.fft.irfft(spectra, fft_size(hop))[..., : N_HOPS * hop] * window
    hops = frames.unflatten(-1, (N_HOPS, hop))
    out: Tensor = frames.new_zeros((*frames.shape[:-2], n_frames + N_HOPS - 1, hop))
    for k in range(N_HOPS):
        out[..., k : k + n_frames, :] += hops[..., k, :]
    return out.flatten(-2)


@lru_cache(maxsize=8)
def _window(hop: int, device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # it is cached, and training may be the next to use it
        return torch.hann_window(N_HOPS * hop, device=device)
