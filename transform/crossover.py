"""Joins the lows of one sequence of latents with the highs of another, in latents that are decoded once.

Beyond the paper (docs/method.md, decision 18). Latents carry the phase of what is no noise, so the mean of
several hits' frames, which is what the rhythm transformer makes, has none: a kick hums at the rate of the
latents. What has a phase is copied whole, and only the rest is mixed: below 2 kHz, from where on the
codec's sound is noise, a take has the latents of the source's own hits in the rhythm's order, above it what
the transformer makes. Latents of sums are no sums of latents; a small network has learned which latents the
codec's encoder makes of what such a crossover passes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from transform.audio import SAMPLE_RATE
from transform.codec import Codec
from transform.errors import CheckpointError
from transform.ranges import check_ranges
from transform.resampling import Resampled
from transform.signal import Signal
from transform.weights import load_net

_KERNEL = 3  # frames of each convolution


@dataclass(frozen=True, kw_only=True)
class CrossoverConfig:
    """The network's shape."""

    n_latents: int = 128
    hop: int = 512  # samples a latent frame
    width: int = 192
    codec: str = ""  # fingerprint of the encoder whose latents it joins

    def __post_init__(self) -> None:
        check_ranges(self, n_latents=(1, 1024), hop=(64, 2**14), width=(1, 1024))


class CrossoverNet(nn.Module):
    """Latents (B, D, F) of lows, and of highs -> latents (B, D, F) of both."""

    def __init__(self, config: CrossoverConfig) -> None:
        super().__init__()
        self.config = config
        n, width, padding = config.n_latents, config.width, _KERNEL // 2
        self.exchange = nn.Conv1d(n, n, _KERNEL, padding=padding, bias=False)
        self.widen = nn.Conv1d(2 * n, width, _KERNEL, padding=padding)
        self.mix = nn.Conv1d(width, width, _KERNEL, padding=padding)
        self.narrow = nn.Conv1d(width, n, 1)
        for weight in (self.exchange.weight, self.narrow.weight, self.narrow.bias):
            assert weight is not None
            nn.init.zeros_(weight)

    @property
    def context_frames(self) -> int:
        """How many frames to either side of its own a joined frame depends on."""
        return 2 * (_KERNEL // 2)

    def forward(self, lows: Tensor, highs: Tensor) -> Tensor:
        """Return the latents of what has the lows of the first and the highs of the second."""
        mixed = functional.gelu(self.mix(functional.gelu(self.widen(torch.cat((lows, highs), dim=1)))))
        joined: Tensor = highs + self.exchange(lows - highs) + self.narrow(mixed)
        return joined


class EncodedSound:
    """The latents of a sound, region by region."""

    def __init__(self, codec: Codec, sound: Signal) -> None:
        """Take a sound of any rate."""
        self._codec, self._sound = codec, Resampled(sound, SAMPLE_RATE)

    def read(self, first: int, last: int, n_channels: int) -> Tensor:
        """Return the latents (C, D, last - first) of frames [first, last) of the sound.

        They are those of each channel, or of their mean if one is requested.
        """
        hop, context = self._codec.config.hop, self._codec.encoder_context
        begin = max(0, first - context)
        audio = self._sound.read(begin * hop, (last + context) * hop)
        audio = audio if n_channels == len(audio) else audio.mean(axis=0, keepdims=True)
        return self._codec.encode(torch.from_numpy(audio), torch.arange(first - begin, last - begin)).mu


def load_crossover(path: Path, codec: Codec) -> CrossoverNet:
    """Return the crossover of a weights file, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged or of another model, or was trained on another codec.
    """
    net = load_net(path, "crossover", CrossoverConfig, CrossoverNet)
    shape = codec.config.n_latents, codec.config.hop, codec.fingerprint
    if (net.config.n_latents, net.config.hop, net.config.codec) != shape:
        raise CheckpointError(
            f"{path} joins latents of another codec than the one beside it",
            hint="take both from one preset, or train it on this codec with `redrum train crossover`",
        )
    return net
