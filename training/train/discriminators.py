"""Discriminators of phase B: they distinguish recordings from the codec's output.

Each looks at complex short-time spectra of one window, in bands that have convolutions of their own (multi-band
multi-scale STFT discriminators, Kumar et al., DAC, NeurIPS 2023). The losses are hinges (Lim and Ye 2017), and
the distance of the features that both give rise to (Larsen et al., ICML 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import weight_norm

_EDGES = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)  # of the bands, relative to the spectrum's width
_QUIETEST = 0.01  # recordings are brought to a peak of 1, but those of a lower one as if they had this

Judgement = list[list[Tensor]]  # of each window the features of each layer, the last being the verdict


@dataclass(frozen=True, kw_only=True)
class DiscriminatorConfig:
    """The discriminators' shape."""

    windows: tuple[int, ...] = (2048, 1024, 512, 256)
    width: int = 32  # channels


class Discriminators(nn.Module):
    """Audio (B, T) -> what each window's discriminator makes of it."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        self.parts = nn.ModuleList(_StftDiscriminator(window, config.width) for window in config.windows)

    def forward(self, audio: Tensor, peak: Tensor) -> Judgement:
        """Return features and verdicts of audio (B, T), whose original has the peaks `peak` (B,)."""
        audio = audio / peak.clamp_min(_QUIETEST)[:, None]
        return [discriminator(audio) for discriminator in self.parts]


class _StftDiscriminator(nn.Module):
    window: Tensor

    def __init__(self, window: int, width: int) -> None:
        super().__init__()
        self.register_buffer("window", torch.hann_window(window) / window**0.5, persistent=False)
        n_bins = window // 2 + 1
        edges = [round(edge * n_bins) for edge in _EDGES]
        self.bands = list(pairwise(edges))
        self.stacks = nn.ModuleList(nn.ModuleList(_stack(width)) for _ in self.bands)
        self.verdict = weight_norm(nn.Conv2d(width, 1, 3, padding=1))

    def forward(self, audio: Tensor) -> list[Tensor]:
        length = len(self.window)
        with torch.autocast(audio.device.type, enabled=False):
            frames = functional.pad(audio.float(), (length // 2, length // 2)).unfold(-1, length, length // 4)
            spectra = torch.view_as_real(torch.fft.rfft(frames * self.window)).permute(0, 3, 1, 2)
        features, ends = [], []
        for (low, high), stack in zip(self.bands, self.stacks, strict=True):
            x = spectra[..., low:high].contiguous(memory_format=torch.channels_last)
            assert isinstance(stack, nn.ModuleList)
            for layer in stack:
                x = functional.leaky_relu(layer(x), 0.1)
                features.append(x)
            ends.append(x)
        return [*features, self.verdict(torch.cat(ends, dim=-1))]


def _stack(width: int) -> list[nn.Module]:
    layers = [nn.Conv2d(2, width, (3, 9), padding=(1, 4))]
    layers += [nn.Conv2d(width, width, (3, 9), stride=(1, 2), padding=(1, 4)) for _ in range(3)]
    layers += [nn.Conv2d(width, width, 3, padding=1)]
    return [weight_norm(layer) for layer in layers]


def discriminator_loss(of_output: Judgement, of_target: Judgement) -> Tensor:
    """Return the hinge loss of discriminators: 0 where verdicts are 1 on recordings and -1 on what is made."""
    losses = [
        functional.relu(1 + ours[-1].float()).mean() + functional.relu(1 - theirs[-1].float()).mean()
        for ours, theirs in zip(of_output, of_target, strict=True)
    ]
    return torch.stack(losses).mean()


def adversarial_loss(of_output: Judgement) -> Tensor:
    """Return the generator's loss: the higher the verdicts on its output, the lower."""
    return -torch.stack([judged[-1].float().mean() for judged in of_output]).mean()


def feature_loss(of_output: Judgement, of_target: Judgement) -> Tensor:
    """Return the mean distance of the features of output and target, against the mean size of the target's."""
    distances = [
        (ours.float() - theirs.float()).abs().mean() / theirs.float().abs().mean().clamp_min(1e-3)
        for judged, original in zip(of_output, of_target, strict=True)
        for ours, theirs in zip(judged[:-1], original[:-1], strict=True)
    ]
    return torch.stack(distances).mean()


def detached(judgement: Sequence[Sequence[Tensor]]) -> Judgement:
    """Return a judgement that no gradient flows through."""
    return [[feature.detach() for feature in features] for features in judgement]
