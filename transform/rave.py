"""The codec's networks after RAVE (Caillon and Esling 2021), from the paper; tensors are (B, C, F)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from transform.codec_config import CodecConfig
from transform.noise import Noise
from transform.pqmf import Pqmf

_NOISE_PERIOD = 16_384  # band samples after which the noise repeats
_DILATIONS = (1, 3, 9)


class RaveEncoder(nn.Module):
    """Bands (B, M, T') -> activations (B, C, F) and latents (B, 2 * D, F)."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Conv1d(config.n_bands, config.widths[0], 7, padding=3)]
        self.context, spacing = 3, 1  # in band samples
        for stride, before, after in zip(config.strides, config.widths, config.widths[1:], strict=False):
            layers += [nn.BatchNorm1d(before), nn.LeakyReLU(0.2)]
            layers += [nn.Conv1d(before, after, 2 * stride + 1, stride=stride, padding=stride)]
            self.context += stride * spacing
            spacing *= stride
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(0.2))
        self.project = nn.Conv1d(config.widths[-1], 2 * config.n_latents, 5, padding=2)
        assert self.project.bias is not None
        with torch.no_grad():  # deviations begin small: latents that are mostly noise would be passed over
            self.project.bias[config.n_latents :] = -5.0
        self.context += 2 * spacing

    def forward(self, bands: Tensor, frames: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the activations (B, C, F) and latents (B, 2 * D, F) of bands (B, M, T').

        Args:
            bands: all that the frames depend on.
            frames: which frames are returned; None: all.
        """
        x = self.layers(bands)
        latents = self.project(x)
        return (x, latents) if frames is None else (x[..., frames], latents[..., frames])


class RaveGenerator(nn.Module):
    """Latents (B, D, F) -> audio (B, F * hop)."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.enter = nn.Conv1d(config.n_latents, config.widths[-1], 7, padding=3)
        self.stack = _RaveStack(config.strides[::-1], config.widths[::-1])
        self.sounds = _RaveSounds(config.widths[0], config.n_bands)
        # In latent frames, rounded up.
        self.context_frames = (
            3 + self.stack.context_frames + -(-self.sounds.context * config.n_bands // config.hop)
        )
        self.factor = config.hop // config.n_bands

    def forward(self, latents: Tensor, first_frame: int, noises: Sequence[Noise]) -> list[Tensor]:
        """Return the audio of latents (B, D, F), the first of which is frame `first_frame`, as often as asked.

        Its own noise follows from where it is in the recording alone.
        """
        audio: Tensor = self.sounds(self.stack(self.enter(latents)), first_frame * self.factor)
        return [audio] * len(noises)


class _RaveStack(nn.Module):
    """x (B, C, F) -> (B, C', F * strides): transposed convolutions, each with residual blocks after it."""

    def __init__(self, strides: tuple[int, ...], widths: tuple[int, ...]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        context, rate = 0.0, 1  # in frames at its entrance
        for stride, before, after in zip(strides, widths, widths[1:], strict=False):
            layers += [nn.LeakyReLU(0.2)]
            layers += [nn.ConvTranspose1d(before, after, 2 * stride, stride=stride, padding=stride // 2)]
            context += 1 / rate
            rate *= stride
            layers += [_DilatedBlock(after, dilation) for dilation in _DILATIONS]
            context += sum(dilation + 1 for dilation in _DILATIONS) / rate
        self.layers = nn.Sequential(*layers, nn.LeakyReLU(0.2))
        self.context_frames = int(context) + 1

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class _DilatedBlock(nn.Module):
    """x + two convolutions, the first of them dilated, each after a leaky rectifier."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.Conv1d(width, width, 3, padding=dilation, dilation=dilation),
            nn.LeakyReLU(0.2),
            nn.Conv1d(width, width, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.layers(x)
        return out


class _RaveSounds(nn.Module):
    """x (B, C, T') -> audio (B, T' * M): in each band a waveform under one loudness, and noise.

    RAVE's noise is filtered within each band; ours is white there, its level free to change every four samples.
    """

    noise: Tensor

    def __init__(self, width: int, n_bands: int) -> None:
        super().__init__()
        self.pqmf = Pqmf(n_bands)
        self.waveform = nn.Conv1d(width, n_bands, 7, padding=3)
        self.loudness = nn.Conv1d(width, 1, 7, padding=3)
        self.noise_level = nn.Conv1d(width, n_bands, 8, stride=4, padding=2)
        assert self.noise_level.bias is not None
        assert self.loudness.bias is not None
        nn.init.constant_(self.noise_level.bias, -5.0)  # as good as none at first
        nn.init.constant_(self.loudness.bias, -2.0)  # what begins too loud unlearns all else on its way down
        noise = torch.rand(n_bands, _NOISE_PERIOD, generator=torch.Generator().manual_seed(0)) * 2 - 1
        self.register_buffer("noise", noise, persistent=False)
        self.context = 6 + self.pqmf.margin // n_bands + 1  # in band samples

    def forward(self, x: Tensor, first: int) -> Tensor:
        """Return the audio of features whose first lies at band sample `first` of a recording."""
        bands = torch.tanh(self.waveform(x).float()) * torch.sigmoid(self.loudness(x).float())
        if self.training:  # no noise is to be memorised
            first = int(torch.randint(_NOISE_PERIOD, ()))
        place = torch.arange(first, first + x.shape[-1], device=x.device) % _NOISE_PERIOD
        level = functional.softplus(self.noise_level(x).float()).repeat_interleave(4, dim=-1)
        return self.pqmf.synthesise(bands + level * self.noise[:, place])
