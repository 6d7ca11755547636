"""The codec's networks of ConvNeXt blocks (Liu et al., CVPR 2022) and the head of Vocos (Siuzdak).

Their tensors are (B, F, C), which spares processors all copying between layers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from transform.rave import RaveHead
from transform.stft import N_HOPS, fft_size, synthesise

if TYPE_CHECKING:
    from transform.codec import CodecConfig


class _TimeConv(nn.Conv2d):
    """A convolution over time of x (B, F, C), padded so that a stride of S leaves F / S frames."""

    def __init__(self, n_in: int, n_out: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        padding = (0, (kernel - stride) // 2)
        super().__init__(n_in, n_out, (1, kernel), stride=(1, stride), padding=padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.transpose(1, 2)[:, :, None])[:, :, 0].transpose(1, 2)


class _ConvNextBlock(nn.Module):
    """x (B, F, C) + scale * MLP(norm(depthwise convolution of x)); three times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.spread = _TimeConv(width, width, 7, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 3 * width)
        self.narrow = nn.Linear(3 * width, width)
        self.scale = nn.Parameter(torch.full((width,), 0.3))

    def forward(self, x: Tensor) -> Tensor:
        inner = functional.gelu(self.widen(self.norm(self.spread(x))))
        return torch.addcmul(x, self.scale, self.narrow(inner))


class ConvNextEncoder(nn.Module):
    """Bands (B, M, T') -> activations (B, C, F) and latents (B, 2 * D, F).

    Beside the bands it is given their values compressed, as quiet sounds would be nothing to it otherwise.
    """

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.enter = _TimeConv(2 * config.n_bands, config.widths[0], 7)
        self.levels = nn.ModuleList()
        self.reach, spacing = 3, 1  # in band samples
        for i, (width, n_blocks) in enumerate(zip(config.widths, config.n_blocks, strict=True)):
            layers: list[nn.Module] = []
            if i:
                stride, before = config.strides[i - 1], config.widths[i - 1]
                layers = [nn.LayerNorm(before), _TimeConv(before, width, 2 * stride, stride=stride)]
                self.reach += stride * spacing
                spacing *= stride
            layers += [_ConvNextBlock(width) for _ in range(n_blocks)]
            self.reach += 3 * n_blocks * spacing
            self.levels.append(nn.Sequential(*layers))
        self.project = nn.Linear(config.widths[-1], 2 * config.n_latents)
        with torch.no_grad():  # deviations begin small: latents that are mostly noise would be passed over
            self.project.bias[config.n_latents :] = -5.0

    def forward(self, bands: Tensor) -> tuple[Tensor, Tensor]:
        """Return the activations (B, C, F) and latents (B, 2 * D, F) of bands (B, M, T')."""
        bands = bands.mT.contiguous()
        x = self.enter(torch.cat((bands, torch.asinh(300 * bands) / 3), dim=-1))
        for level in self.levels:
            x = level(x)
        return x.transpose(1, 2), self.project(x).transpose(1, 2)


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
        self.head: _IstftHead | RaveHead
        if config.head == "istft":
            self.head = _IstftHead(fast, config.head_hop)
        else:
            self.head = RaveHead(fast, config.n_bands, config.head_hop // config.n_bands)
        self.reach_frames = 3 + 3 * n_slow + -(-(3 * n_fast + self.head.reach_frames) // self.factor) + 1

    def forward(self, latents: Tensor, first_frame: int) -> Tensor:
        """Return the audio of latents (B, D, F), the first of which is frame `first_frame` of a recording."""
        x = self.up(self.slow(self.enter(latents.mT.contiguous())))
        x = x.unflatten(-1, (self.factor, -1)).flatten(1, 2)
        audio: Tensor = self.head(self.fast(x), first_frame * self.factor)
        return audio


class _IstftHead(nn.Module):
    """Features (B, J, C) -> audio (B, J * hop): magnitude and phase of each bin of frames of four hops."""

    edge: Tensor

    def __init__(self, width: int, hop: int) -> None:
        super().__init__()
        self.hop = hop
        self.reach_frames = N_HOPS // 2
        self.project = nn.Linear(width, 2 * (fft_size(hop) // 2 + 1))
        with torch.no_grad():  # what begins too loud unlearns everything else on its way down
            self.project.bias[: fft_size(hop) // 2 + 1] = -3.0
        # Where a recording begins and ends frames are missing; what is there is made louder instead.
        window = torch.hann_window(N_HOPS * hop).square().reshape(N_HOPS, hop)
        there = window.cumsum(dim=0)[: N_HOPS - 1].flatten() / window.sum(dim=0).repeat(N_HOPS - 1)
        self.register_buffer("edge", 1 / there[N_HOPS * hop // 2 - hop // 2 :], persistent=False)

    def forward(self, x: Tensor, first_frame: int) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # phases are too coarse in eight bits
            level, phase = self.project(x.float()).chunk(2, dim=-1)
            spectra = torch.polar(level.clamp_max(5.0).exp(), phase)
            margin = (N_HOPS - 1) * self.hop // 2
            audio = synthesise(spectra, self.hop)[:, margin:-margin]
            n = min(len(self.edge), audio.shape[1])
            gain = torch.ones_like(audio[0])
            gain[:n] *= self.edge[:n]
            gain[-n:] *= self.edge[:n].flip(0)
            return audio * gain
