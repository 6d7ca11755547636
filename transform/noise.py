"""White noise that is addressed, not drawn: its short-time spectra, for a generator whose highs are noise.

A value follows from the seed, the channel and the number of its sample in the recording, by integer arithmetic
alone. So blocks, edits and devices have the same noise, whatever is computed before, beside or after it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional

from transform.stft import N_HOPS, fft_size

_32_BITS = 0xFFFFFFFF
_FIRST_KEY = 0x9E3779B9  # any number
_COMMON = 0  # the channel of the noise that all channels share; their own follow
_SIZE, _HOP = 512, 256  # of the windows in which coherence is measured
_SILENT = 1e-8  # power of a bin of such a window, in which a full-scale sine has 16,384

_Number = TypeVar("_Number", int, Tensor)


@dataclass(frozen=True, kw_only=True)
class Noise:
    """Which noise the channels of a recording have."""

    seed: int = 0  # another seed is other noise
    # Of the channels with one another, 0 to 1, in each octave from where noise begins; the last one goes on.
    coherence: tuple[float, ...] = (1.0,)
    first_channel: int = 0  # the number of the first channel that is made


def noise_spectra(like: Tensor, noise: Noise, *, first_frame: int, hop: int, first_bin: int) -> Tensor:
    """Return spectra (C, J, K) of white noise; (1, J, K) where all channels are the same.

    Where magnitudes are the same in all frames, the sound of their products with these has that mean magnitude
    in windows of four hops.

    Args:
        like: (C, J, K), on the device; K bins up to the highest.
        noise: which.
        first_frame: the number of the first frame, whose four hops begin 1.5 before its own.
        hop: samples from frame to frame.
        first_bin: the number of the first bin.
    """
    n_channels, n_frames, n_bins = like.shape
    first, length = first_frame * hop - hop // 2, (n_frames + 1) * hop

    def spectra(channel: int) -> Tensor:
        samples = white_noise(first, length, seed=noise.seed, channel=channel, device=like.device)
        frames = functional.pad(samples.unfold(0, 2 * hop, hop) * _window(hop, like.device), (hop, hop))
        whole: Tensor = torch.fft.rfft(frames, fft_size(hop))
        return whole[:, -n_bins:]

    bins = torch.arange(first_bin, first_bin + n_bins, device=like.device)
    octaves = torch.log2(bins / max(1, first_bin)).long().clamp_(0, len(noise.coherence) - 1)
    shared = torch.tensor(noise.coherence, device=like.device).clamp_(0, 1)[octaves]
    if min(noise.coherence) >= 1:
        return spectra(_COMMON)[None]
    own = torch.stack([spectra(1 + noise.first_channel + k) for k in range(n_channels)])
    if max(noise.coherence) <= 0:
        return own
    return shared.sqrt() * spectra(_COMMON) + (1 - shared).sqrt() * own


def white_noise(first: int, length: int, *, seed: int, channel: int, device: torch.device) -> Tensor:
    """Return samples [first, first + length) of white noise of variance 1, triangularly distributed: (T,)."""
    key = _FIRST_KEY
    for number in (*(seed >> shift for shift in range(0, max(1, seed.bit_length()), 32)), channel):
        key = _mixed(key ^ (number & _32_BITS))
    place = torch.arange(first, first + length, device=device) & _32_BITS
    bits = _mixed(_mixed(place) ^ key)
    sum_of_halves = (bits & 0xFFFF) + (bits >> 16) - 0xFFFF
    return sum_of_halves.float() * math.sqrt(6 / (2**32 - 1))


@lru_cache(maxsize=8)
def _window(hop: int, device: torch.device) -> Tensor:
    """Return the window of two hops, in the middle of a frame's four, that the noise of a frame has.

    Synthesis multiplies it by that of four hops; products add up to a constant. In windows of four hops an
    attack would take half as long again.
    """
    with torch.inference_mode(False):  # it is cached, and training may be the next to use it
        rise = (
            torch.hann_window(2 * hop, device=device) / torch.hann_window(N_HOPS * hop, device=device)[hop:-hop]
        )
        return 1.5 * rise / math.sqrt(1.5 * hop)


def channel_coherence(audio: Tensor, sample_rate: float, first_hz: float) -> tuple[float, ...]:
    """Return how coherent the channels of audio (C, T) are, 0 to 1, in each octave from a frequency on.

    The mean over pairs of channels of their normalised cross-spectra's real part, weighted by power. An octave
    without sound has that of the octave below, the first one 1.
    """
    n_channels, n_samples = audio.shape
    if n_channels < 2 or n_samples < _SIZE:
        return (1.0,)
    frames = audio.unfold(-1, _SIZE, _HOP) * torch.hann_window(_SIZE)
    spectra = torch.fft.rfft(frames)
    hz = torch.arange(_SIZE // 2 + 1) * sample_rate / _SIZE
    found: list[float] = []
    while first_hz < sample_rate / 2:
        band = spectra[..., (hz >= first_hz) & (hz < 2 * first_hz)]
        power = band.abs().square().mean(dim=(-1, -2))
        sounding = power > _SILENT
        n, together = int(sounding.sum()), found[-1] if found else 1.0
        if n > 1:
            scaled = band[sounding] / power[sounding].sqrt()[:, None, None]
            together = (float(scaled.sum(dim=0).abs().square().mean()) - n) / (n * (n - 1))
        found.append(min(1.0, max(0.0, together)))
        first_hz *= 2
    return tuple(found)


def _mixed(bits: _Number) -> _Number:
    """Return 32 bits that each depend on all of the given ones.

    Source: a hash of the family that Wellons searched (hash-prospector, "lowbias32", 2018); its second factor,
    less 2 ** 32, keeps products within 63 bits.
    """
    bits = bits ^ (bits >> 16)
    bits = (bits * 0x21F0AAAD) & _32_BITS
    bits = bits ^ (bits >> 15)
    bits = (bits * (0xD35A2D97 - 2**32)) & _32_BITS
    return bits ^ (bits >> 15)
