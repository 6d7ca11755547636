"""The codec's networks of ConvNeXt blocks (Liu et al., CVPR 2022) and the head of Vocos (Siuzdak).

Their tensors are (B, F, C), which spares processors all copying between layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from transform.audio import SAMPLE_RATE
from transform.codec_config import CodecConfig
from transform.noise import Noise, noise_spectra
from transform.stft import N_HOPS, fft_size, synthesise

_NARROW, _BLOCK_FRAMES = 64, 512  # channels of which there are so many frames that blocks fit a cache better
_LEAST = 1e-6  # proportion of a mixed bin's power, so that roots have gradients
_MOSTLY_PHASED = 3.0  # log odds with which a head that mixes begins: 95 % of the power
_FADE_HZ = 690.0  # over which noise takes over from phases: eight bins of `hires`


class _TimeConv(nn.Conv2d):
    """A convolution over time of x (B, F, C), padded so that a stride of S leaves F / S frames."""

    def __init__(self, n_in: int, n_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        padding = (0, (kernel - stride) // 2)
        super().__init__(n_in, n_out, (1, kernel), stride=(1, stride), padding=padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)[:, :, None])[:, :, 0].transpose(1, 2)


class _ConvNextBlock(nn.Module):
    """x (B, F, C) + scale * MLP(norm(depthwise convolution of x)); three times as wide inside."""

    context = 3  # frames to either side

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = _TimeConv(width, width, 7, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 3 * width)
        self.narrow = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor, choose: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Return the block's output for x, only for the frames that `choose` returns of a map."""
        spread = self.spread(x)
        if choose is not None:
            x, spread = choose(x), choose(spread)
        is_plain = x.is_cuda or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu")
        at_once = max(1, x.shape[1]) if is_plain or x.shape[-1] > _NARROW else _BLOCK_FRAMES
        out = []
        for some, wide in zip(torch.split(x, at_once, 1), torch.split(spread, at_once, 1), strict=True):
            inner = functional.gelu(self.widen(self.norm(wide)))
            out.append(torch.addcmul(some, self.scale, self.narrow(inner)))
        return out[0] if len(out) == 1 else torch.cat(out, dim=1)


class ConvNextEncoder(nn.Module):
    """Bands (B, M, T') -> activations (B, C, F) and latents (B, 2 * D, F).

    Beside the bands it is given their values compressed, as quiet sounds would be nothing to it otherwise.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.enter = _TimeConv(2 * config.n_bands, config.widths[0], 7)
        self.levels = nn.ModuleList()
        self.context, spacing = 3, 1  # in band samples
        for i, (width, n_blocks) in enumerate(zip(config.widths, config.n_blocks, strict=True)):
            layers: list[nn.Module] = []
            if i:
                stride, before = config.strides[i - 1], config.widths[i - 1]
                layers = [nn.LayerNorm(before), _TimeConv(before, width, 2 * stride, stride=stride)]
                self.context += stride * spacing
                spacing *= stride
            layers += [_ConvNextBlock(width) for _ in range(n_blocks)]
            self.context += _ConvNextBlock.context * n_blocks * spacing
            self.levels.append(nn.Sequential(*layers))
        self.spacing = spacing  # band samples a latent frame
        self.project = nn.Linear(config.widths[-1], 2 * config.n_latents)
        with torch.no_grad():  # deviations begin small: latents that are mostly noise would be passed over
            self.project.bias[config.n_latents :] = -5.0

    def forward(self, bands: Tensor, frames: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the activations (B, C, F) and latents (B, 2 * D, F) of bands (B, M, T').

        Args:
            bands: all that the frames depend on.
            frames: which frames are returned, in order; None: all. Others are left out on the way, as soon as
                none of these depends on them.
        """
        bands = bands.mT.contiguous()
        x = self.enter(torch.cat((bands, torch.asinh(300 * bands) / 3), dim=-1))
        n_frames = bands.shape[1] // self.spacing
        present = torch.arange(n_frames, device=bands.device)
        left, spacing = self.context - 3, 1  # band samples of context that the layers to come need
        for level in self.levels:
            for layer in level.children():
                if isinstance(layer, _TimeConv):
                    spacing *= layer.stride[1]
                    left -= spacing
                if frames is None or not isinstance(layer, _ConvNextBlock):
                    x = layer(x)
                    continue
                left -= layer.context * spacing
                needed = _around(frames, -(-left // self.spacing), n_frames)
                x, present = layer(x, _Choice(torch.searchsorted(present, needed), len(present))), needed
        return x.transpose(1, 2), self.project(x).transpose(1, 2)


def _around(frames: Tensor, context: int, n_frames: int) -> Tensor:
    """Return which of `n_frames` frames lie at most `context` from one of the given, in order."""
    steps = torch.zeros(n_frames + 1, dtype=torch.long, device=frames.device)
    one = torch.ones_like(frames)
    steps.index_add_(0, (frames - context).clamp_min(0), one)
    steps.index_add_(0, (frames + context + 1).clamp_max(n_frames), -one)
    return steps.cumsum(0)[:-1].nonzero()[:, 0]


class _Choice(NamedTuple):
    """Which of a feature map's latent frames are retained."""

    places: Tensor
    n_frames: int

    def __call__(self, x: Tensor) -> Tensor:
        """Return those frames of x (B, F', C), which has F' / n_frames rows a latent frame."""
        if len(self.places) == self.n_frames:
            return x
        frames = x.reshape(len(x), self.n_frames, -1, x.shape[-1])
        return frames[:, self.places].flatten(1, 2)


class ConvNextGenerator(nn.Module):
    """Latents (B, D, F) -> audio (B, F * hop): blocks at the latent rate, then at the head's."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.factor = config.hop // config.head_hop
        (slow, fast), (n_slow, n_fast) = config.generator_widths, config.generator_blocks
        self.enter = _TimeConv(config.n_latents, slow, 7)
        self.slow = nn.Sequential(*(_ConvNextBlock(slow) for _ in range(n_slow)), nn.LayerNorm(slow))
        self.up = nn.Linear(slow, self.factor * fast)
        self.fast = nn.Sequential(*(_ConvNextBlock(fast) for _ in range(n_fast)), nn.LayerNorm(fast))
        self.head = _IstftHead(fast, config)
        self.context_frames = 3 + 3 * n_slow + -(-(3 * n_fast + self.head.context_frames) // self.factor) + 1

    def forward(self, latents: Tensor, first_frame: int, noises: Sequence[Noise]) -> list[Tensor]:
        """Return the audio of latents (B, D, F), the first of which is frame `first_frame`, with each noise."""
        x = self.up(self.slow(self.enter(latents.mT.contiguous())))
        x = x.unflatten(-1, (self.factor, -1)).flatten(1, 2)
        audio: list[Tensor] = self.head(self.fast(x), first_frame * self.factor, noises)
        return audio


class _IstftHead(nn.Module):
    """Features (B, J, C) -> audio (B, J * hop): magnitude and phase of each bin of frames of four hops.

    From `noise_from_hz` on the phases are those of noise, and its magnitudes multiply the network's: phases of
    noise cannot be foretold, and a network that tries makes a buzz of them (docs/method.md, decision 17). From
    `mixed_from_hz` up to there the network says how much of a bin's power has its own phase: an attack has, a
    tail has not.
    """

    edge: Tensor
    phased: Tensor
    noisy: Tensor

    def __init__(self, width: int, config: CodecConfig) -> None:
        super().__init__()
        self.hop = hop = config.head_hop
        self.context_frames = N_HOPS // 2
        n_bins = fft_size(hop) // 2 + 1
        self.project = nn.Linear(width, 2 * n_bins)
        with torch.no_grad():  # what begins too loud unlearns everything else on its way down
            self.project.bias[:n_bins] = -3.0
        # Where a recording begins and ends frames are missing; what is there is made louder instead.
        window = torch.hann_window(N_HOPS * hop).square().reshape(N_HOPS, hop)
        there = window.cumsum(dim=0)[: N_HOPS - 1].flatten() / window.sum(dim=0).repeat(N_HOPS - 1)
        self.register_buffer("edge", 1 / there[N_HOPS * hop // 2 - hop // 2 :], persistent=False)
        # Powers, not amplitudes, add up to 1: a phase and a noise have nothing in common.
        hz, from_hz = torch.arange(n_bins) * (SAMPLE_RATE / fft_size(hop)), config.noise_from_hz
        done = ((hz - from_hz) / _FADE_HZ).clamp(0, 1) if from_hz else 0 * hz
        has_noise = (done > 0) | (hz >= config.first_noise_hz) if from_hz else done > 0
        self.n_low, self.n_phased = int((~has_noise).sum()), int((done < 1).sum())
        self.register_buffer("phased", torch.cos(math.pi / 2 * done)[: self.n_phased], persistent=False)
        self.register_buffer("noisy", torch.sin(math.pi / 2 * done)[self.n_low :], persistent=False)
        self.mixed = nn.Linear(width, self.n_phased - self.n_low) if config.mixed_from_hz else None
        if self.mixed is not None:
            nn.init.zeros_(self.mixed.weight)
            nn.init.constant_(self.mixed.bias, _MOSTLY_PHASED)

    def forward(self, x: Tensor, first_frame: int, noises: Sequence[Noise]) -> list[Tensor]:
        with torch.autocast(x.device.type, enabled=False):  # phases are too coarse in eight bits
            x = x.float()
            level, phase = self.project(x).chunk(2, dim=-1)
            magnitude = level.clamp_max(5.0).exp()
            if not len(self.noisy):
                return [self._audio(torch.polar(magnitude, phase))] * len(noises)
            n = self.n_phased
            phased, noisy = self._proportions(x)
            low = torch.polar(magnitude[..., :n] * phased, phase[..., :n])
            high = magnitude[..., self.n_low :] * noisy
            return [self._audio(self._with_noise(low, high, first_frame, noise)) for noise in noises]

    def _proportions(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return how much of magnitudes has phases, and how much noise has; squares add up to 1."""
        if self.mixed is None:
            return self.phased, self.noisy
        power = (torch.sigmoid(self.mixed(x)) * self.phased[self.n_low :].square()).clamp(_LEAST, 1 - _LEAST)
        rest = self.noisy[len(self.phased) - self.n_low :].expand(*power.shape[:-1], -1)
        phased = torch.cat((self.phased[: self.n_low].expand(*power.shape[:-1], -1), power.sqrt()), dim=-1)
        return phased, torch.cat(((1 - power).sqrt(), rest), dim=-1)

    def _with_noise(self, low: Tensor, high: Tensor, first_frame: int, noise: Noise) -> Tensor:
        """Return spectra (B, J, K) of those with phases, and of magnitudes that noise has instead."""
        at = {"first_frame": first_frame, "hop": self.hop, "first_bin": self.n_low}
        random = high * noise_spectra(high, noise, **at)
        n_both = self.n_phased - self.n_low
        both = low[..., self.n_low :] + random[..., :n_both]
        return torch.cat((low[..., : self.n_low], both, random[..., n_both:]), dim=-1)

    def _audio(self, spectra: Tensor) -> Tensor:
        margin = (N_HOPS - 1) * self.hop // 2
        audio = synthesise(spectra, self.hop)[:, margin:-margin]
        n = min(len(self.edge), audio.shape[1])
        gain = torch.ones_like(audio[0])
        gain[:n] *= self.edge[:n]
        gain[-n:] *= self.edge[:n].flip(0)
        return audio * gain
