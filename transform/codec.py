"""The drum codec, a variational autoencoder: drum recording <-> 128 latent channels, 86 or 22 frames a second.

Stage 1 of the paper (Hockman and Drysdale 2025). Two configurations of one model:

- `paper` follows RAVE (Caillon and Esling, 2021): the sixteen bands of a filter bank, strided convolutions with
  batch normalisation down to a latent frame every 2048 samples, and back by transposed convolutions and
  residual blocks of dilated ones; waveform, loudness and noise are made apart.
- `hires` has a latent frame every 512 samples. Its blocks are ConvNeXt's (Liu et al., CVPR 2022) in time, and
  its generator estimates the short-time spectra of the sound, as Vocos does (Siuzdak 2023), at windows of 512.

The networks' receptive fields are finite, so a recording of any length is coded in overlapping blocks with
the result of one pass.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from transform.audio import SAMPLE_RATE
from transform.codec_config import CodecConfig
from transform.convnext import ConvNextEncoder, ConvNextGenerator
from transform.errors import CheckpointError, DeviceError, SettingsError
from transform.noise import Noise
from transform.pqmf import Pqmf
from transform.rave import RaveEncoder, RaveGenerator
from transform.signal import Block
from transform.weights import fingerprint, load_net, require_numbers

_log = logging.getLogger(__name__)
_BLOCK_S = 15.0  # coded at once
_LOUDEST = 1e6  # of what is decoded, full scale being 1: much more cannot be mixed
_MOST_DIVISIONS = 64  # of a block, where a device has little memory


class Encoded(NamedTuple):
    """What the encoder makes of audio (B, T), F frames of one hop each."""

    mu: Tensor  # (B, D, F)
    sigma: Tensor  # (B, D, F), from 0 to 1
    activations: Tensor  # (B, C, F): the last feature map before the latents, the paper's a

    def sample(self) -> Tensor:
        """Return latents (B, D, F) drawn from the normal distribution of mean mu and deviation sigma."""
        return self.mu + self.sigma * torch.randn_like(self.mu)


class EncoderNet(nn.Module):
    """Audio (B, T), T a multiple of the hop -> latents' means and deviations, activations before them."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.pqmf = Pqmf(config.n_bands)
        make = ConvNextEncoder if config.encoder == "convnext" else RaveEncoder
        self.trunk: ConvNextEncoder | RaveEncoder = make(config)

    @property
    def context_frames(self) -> int:
        """How many frames to either side of its own a latent frame depends on."""
        return -(-(self.pqmf.margin + self.trunk.context * self.config.n_bands) // self.config.hop)

    def forward(self, audio: Tensor, frames: Tensor | None = None) -> Encoded:
        """Return the latents of audio (B, T): all frames, or those of these numbers, in order."""
        activations, latents = self.trunk(self.pqmf.analyse(audio), frames)
        mu, scale = latents.float().chunk(2, dim=1)
        # Above 1 a deviation only costs; unbounded ones ran away while the divergence weighed next to nothing.
        return Encoded(mu, torch.sigmoid(scale) + 1e-4, activations.float())


class GeneratorNet(nn.Module):
    """Latents (B, D, F) -> audio (B, F * hop)."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        make = ConvNextGenerator if config.generator == "convnext" else RaveGenerator
        self.trunk: ConvNextGenerator | RaveGenerator = make(config)

    @property
    def context_frames(self) -> int:
        """How many latent frames to either side of its own a sample depends on."""
        return self.trunk.context_frames

    def forward(self, latents: Tensor, first_frame: int = 0, noise: Noise | None = None) -> Tensor:
        """Return the audio of latents (B, D, F), the first of which is frame `first_frame` of a recording."""
        return self.sounds(latents, (noise or Noise(),), first_frame)[0]

    def sounds(self, latents: Tensor, noises: Sequence[Noise], first_frame: int = 0) -> list[Tensor]:
        """Return the audio (B, F * hop) of latents with each noise, for little more than the time of one."""
        audio: list[Tensor] = self.trunk(latents, first_frame, noises)
        return audio


class CodecNet(nn.Module):
    """Encoder and generator."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = EncoderNet(config)
        self.generator = GeneratorNet(config)


class Codec:
    """A trained codec on a device."""

    def __init__(
        self, encoder: EncoderNet, generator: GeneratorNet, *, device: str = "cpu", bfloat16: bool = False
    ) -> None:
        """Take networks into use.

        Args:
            encoder: a trained encoder.
            generator: its generator.
            device: where they run.
            bfloat16: whether to compute in this coarser format, which is quicker on processors that have it.
        """
        self.config = generator.config
        self._device = torch.device(device)
        self._encoder = encoder.eval().to(self._device)
        self._generator = generator.eval().to(self._device)
        self._bfloat16 = bfloat16
        self._n_divisions = 1  # of a block, where its whole does not fit the device

    @classmethod
    def load(cls, encoder: Path, generator: Path, *, device: str = "cpu", bfloat16: bool = False) -> Codec:
        """Return the codec of two weights files.

        Raises:
            CheckpointError: a file is missing, damaged, of another model or of another configuration.
        """
        nets = load_encoder(encoder), load_generator(generator)
        if nets[0].config != nets[1].config:
            raise CheckpointError(
                f"{encoder} and {generator} are of different codecs", hint="install Redrum again"
            )
        return cls(*nets, device=device, bfloat16=bfloat16)

    @property
    def fingerprint(self) -> str:
        """A hash of the encoder's weights: equal ones have equal latents."""
        return fingerprint(self._encoder)

    @property
    def encoder_context(self) -> int:
        """How many frames to either side of its own a latent frame depends on."""
        return self._encoder.context_frames

    @property
    def generator_context(self) -> int:
        """How many latent frames to either side of its own a sample depends on."""
        return self._generator.context_frames

    @property
    def block_frames(self) -> int:
        """How many latent frames are coded at once, their context not counted."""
        return round(_BLOCK_S * SAMPLE_RATE / self.config.hop)

    @torch.inference_mode()
    def encode(self, audio: Tensor, frames: Tensor | None = None) -> Encoded:
        """Return the latents of audio (C, T), any T, channel by channel: F = T / hop frames, rounded up.

        Args:
            audio: what is encoded.
            frames: which of its frames are returned, in order; None: all. Fewer take less time, even if they
                depend on all of the audio.

        Raises:
            DeviceError: the device has too little memory.
        """
        n_channels, n_samples = audio.shape
        hop, n_frames = self.config.hop, -(-n_samples // self.config.hop)
        requested = torch.arange(n_frames) if frames is None else frames
        n_latents, n_activations = self.config.n_latents, self.config.widths[-1]
        out = Encoded(
            *(torch.empty(n_channels, width, len(requested)) for width in (n_latents, n_latents, n_activations))
        )

        def code(block: Block) -> None:
            here = slice(*torch.searchsorted(requested, torch.tensor([block.start, block.stop])).tolist())
            if here.start == here.stop:
                return
            own = (requested[here] - block.begin).to(self._device)
            given = audio[:, block.begin * hop : block.end * hop].to(self._device)
            given = functional.pad(given, (0, (block.end - block.begin) * hop - given.shape[1]))
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
                found = [self._encoder(some, own) for some in self._at_once(given)]
            for whole, coded in zip(out, zip(*found, strict=True), strict=True):
                for channel, own_frames in zip(self._at_once(whole), coded, strict=True):
                    channel[..., here] = own_frames

        self._in_blocks(n_frames, self.encoder_context, code)
        for tensor in out:
            require_numbers(tensor, "codec-encoder")
        return out

    @torch.inference_mode()
    def decode(
        self, latents: Tensor, n_samples: int, *, first_frame: int = 0, noise: Noise | None = None
    ) -> Tensor:
        """Return the audio (C, n_samples) of latents (C, D, F), the first of which is frame `first_frame`.

        Args:
            latents: of a recording, or of a region of one.
            n_samples: that have so many frames.
            first_frame: of the region.
            noise: that a generator makes highs of; None: the same in all channels.

        Raises:
            SettingsError: so many samples do not fit the latents.
            DeviceError: the device has too little memory.
        """
        hop, n_frames = self.config.hop, latents.shape[-1]
        if -(-n_samples // hop) != n_frames:
            raise SettingsError(
                f"{n_samples} samples have {-(-n_samples // hop)} latent frames, not {n_frames}"
            )
        out, common = torch.empty(len(latents), n_samples), noise or Noise()

        def code(block: Block) -> None:
            given = self._at_once(latents[..., block.begin : block.end].to(self._device))
            places = np.cumsum([0, *map(len, given)])
            noises = [replace(common, first_channel=int(place)) for place in places[:-1]]
            first = first_frame + block.begin
            with torch.autocast(self._device.type, torch.bfloat16, enabled=self._bfloat16):
                made = [self._generator(some, first, own) for some, own in zip(given, noises, strict=True)]
            regions = self._at_once(out[:, block.start * hop : block.stop * hop])
            for region, sound in zip(regions, made, strict=True):
                region.copy_(sound[:, block.core.start * hop :][:, : region.shape[1]])

        self._in_blocks(n_frames, self.generator_context, code)
        require_numbers(out, "codec-generator", most=_LOUDEST)
        return out

    def _at_once(self, channels: Tensor) -> tuple[Tensor, ...]:
        """Return channels (C, ...) as they are coded together."""
        # A processor's caches and its memory's pages like one channel at a time better.
        return torch.split(channels, 1 if self._device.type == "cpu" else len(channels))

    def _in_blocks(self, n_frames: int, context: int, code: Callable[[Block], None]) -> None:
        """Code frames block by block; where a block does not fit the device, go on with smaller ones."""
        first = 0
        while first < n_frames:
            step = max(1, self.block_frames // self._n_divisions)
            last = min(first + step, n_frames)
            try:
                code(Block.of(first, last, context=context, length=n_frames))
            except torch.OutOfMemoryError as err:
                if self._n_divisions >= _MOST_DIVISIONS:
                    raise DeviceError(
                        "the graphics processor has too little free memory for the codec",
                        hint="close what else uses it, or give --device cpu",
                    ) from err
                self._n_divisions *= 2
                _log.warning("the device is short of memory: sound is coded in smaller blocks")
                torch.cuda.empty_cache()
                continue
            first = last


def is_quick_in_bfloat16(device: str) -> bool:
    """Tell whether a device has this coarser format; processors without it are slower in it than without."""
    if device == "cpu":
        has_kernels: bool = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return has_kernels and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    return device.startswith("cuda") and torch.cuda.is_bf16_supported()


def load_encoder(path: Path) -> EncoderNet:
    """Return the encoder of a weights file, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model.
    """
    return load_net(path, "codec-encoder", CodecConfig, EncoderNet)


def load_generator(path: Path) -> GeneratorNet:
    """Return the generator of a weights file, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model.
    """
    return load_net(path, "codec-generator", CodecConfig, GeneratorNet)
