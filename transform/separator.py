"""Drum separation: recording -> stems of the five classes that add up to it.

A small U-Net reads the features that the transcriber reads, the transcribed activations, and the ratio masks of
templates of each class that were learned in this very recording (transform/nmf.py). It estimates for each frame
and band how much of the sound belongs to each class. Five masks that sum to one multiply the recording's own
short-time spectra, channel by channel, at its own sample rate, so nothing is lost and nothing
is invented. The receptive field is finite: a long recording is read in blocks with the result of one
pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from transform.audio import SAMPLE_RATE, Progress, ReadsFeatures, Recording, Samples
from transform.errors import SettingsError
from transform.events import CLASSES
from transform.features import FeatureSettings, band_positions, listener
from transform.layers import Placed, TemporalBlock, fuse, fused, in_blocks, joined, parted
from transform.nmf import active_components, learn_templates, levels_of, ratio_masks
from transform.ranges import check_convolutions, check_ranges
from transform.signal import Block, BlockCache, overlapping_blocks, read_blocks
from transform.stft import N_HOPS, analyse, fft_size, synthesise
from transform.transcriber import Activations, listening_gain
from transform.weights import load_net, require_numbers

_FPS = 100  # mask frames a second, at every sample rate
_TRACES_S = (0.03, 0.12, 0.5)  # decays of the activations, at first
_DOUBT = 1e-6  # added to the templates' masks: no class is ruled out
_ENCODER_CONTEXT, _DECODER_CONTEXT = 3, 4  # of convolutions before and after those of time alone
_AFTER, _AHEAD = 100, 6  # frames after and before an onset in which it counts directly
_BLOCK_S = 60  # masks are computed and cached in blocks of this length
_CONTEXT_S = 3  # to either side of a block: more than the receptive field, and whole seconds at any rate
# What dilations may add up to: the receptive field reaches no further than _CONTEXT_S.
_MOST_DILATED = _CONTEXT_S * _FPS - N_HOPS - 5 - (_ENCODER_CONTEXT + _DECODER_CONTEXT + 1 + _AFTER)
_CACHED_BLOCKS = 5
_CACHED_SPECTRA = 4  # blocks: stems that are read class by class need the same ones
# What templates are learned from: all of a recording of up to a minute.
_N_TEMPLATE_REGIONS, _TEMPLATE_REGION_S = 6, 10
_SPECTRA_FRAMES = 128  # spectra that are masked at once: few enough to stay in the processor's cache


class StemReader(Protocol):
    """What reads the stems of a recording, region by region."""

    def read(self, start: int, stop: int, classes: Sequence[str] = CLASSES) -> Samples:
        """Return the stems of samples [start, stop), shape (N, C, stop - start): all add up to the sound."""


class OpensStems(Protocol):
    """What separates recordings."""

    def open(self, recording: Recording, activations: Activations) -> StemReader:
        """Return the stems of a recording, given its transcribed activations."""


@dataclass(frozen=True, kw_only=True)
class SeparatorConfig:
    """The separator's shape."""

    features: FeatureSettings = field(default_factory=FeatureSettings)
    widths: tuple[int, ...] = (24, 48, 64)  # channels at a half, a quarter and an eighth of the bands
    d_model: int = 160
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    certainty: float = 1.0  # weight of the network beside the templates; in training 1

    def __post_init__(self) -> None:
        check_ranges(
            self, widths=(1, 2**16), d_model=(1, 2**16), dilations=(1, _MOST_DILATED), certainty=(0, 1)
        )
        if sum(self.dilations) > _MOST_DILATED:
            raise SettingsError(
                f"the dilations of a separator add up to {sum(self.dilations)}; they may to {_MOST_DILATED}"
            )
        check_convolutions(self.features.n_bands, (self.features.n_channels, *self.widths))
        if len(self.widths) != 3:
            raise SettingsError(f"a separator has 3 widths, not {len(self.widths)}")
        if self.features.n_bands % 8:
            raise SettingsError(
                f"a separator halves {self.features.n_bands} bands three times; they must divide by 8"
            )


class SeparatorNet(nn.Module):
    """Features (B, C, F, K), class activations (B, 5, F), templates (B, R, W * K) -> logits (B, 5, F, K).

    The softmax of the logits over the classes are the masks. They begin as the templates' ratio masks, which
    the network corrects.
    """

    prior: Tensor  # what classes sound like in general, for templates to begin with, (5, W * K)

    def __init__(self, config: SeparatorConfig) -> None:
        super().__init__()
        self.config = config
        w1, w2, w3 = config.widths
        n_classes, n_bands = len(CLASSES), config.features.n_bands
        n_in, n_low = config.features.n_channels + n_classes, w3 * (n_bands // 8)
        n_activity = n_classes * (1 + len(_TRACES_S))
        n_levels = len(config.features.windows) * n_bands
        self.register_buffer("prior", torch.full((n_classes, n_levels), 1 / n_levels))
        self.reliance = nn.Parameter(torch.full((n_classes, 1, 1), 0.5))  # on the templates
        # After each onset its class is likely to sound for a while: three decays, to begin with.
        self.traces = nn.Conv1d(
            n_classes, n_activity - n_classes, 1 + _AFTER + _AHEAD, groups=n_classes, bias=False
        )
        with torch.no_grad():
            self.traces.weight.copy_(_decays().repeat(n_classes, 1)[:, None])
        self.likely = nn.Conv1d(n_activity, n_classes * n_bands, 1)
        self.heard = nn.Conv1d(n_activity, w1, 1)
        self.enter = nn.Sequential(
            nn.Conv2d(n_in, w1, (3, 5), stride=(1, 2), padding=(1, 2), bias=False), nn.BatchNorm2d(w1)
        )
        self.down = nn.ModuleList((_down(w1, w2), _down(w2, w3)))
        self.narrow = nn.Conv1d(n_low + n_activity, config.d_model, 1)
        self.temporal = nn.ModuleList(TemporalBlock(config.d_model, d) for d in config.dilations)
        self.widen = nn.Conv1d(config.d_model, n_low, 1)
        self.up = nn.ModuleList((_up(w3, w2), _up(w2, w1), _up(w1, 16)))
        self.detail = nn.Conv2d(n_in, 16, 3, padding=1)
        self.head = nn.Conv2d(16, n_classes, 3, padding=1)

    @property
    def context_frames(self) -> int:
        """How many frames to either side an output depends on."""
        return _ENCODER_CONTEXT + _DECODER_CONTEXT + 1 + _AFTER + sum(self.config.dilations)

    @torch.no_grad()
    def learn_templates(self, features: Tensor, activations: Tensor) -> Tensor:
        """Return templates (B, R, W * K) of the classes in features (B, C, F, K) with activations (B, 5, F)."""
        settings = self.config.features
        active = active_components(activations, fps=settings.fps)
        return learn_templates(levels_of(features, settings), active, self.prior)[1]

    def forward(self, features: Tensor, activations: Tensor, templates: Tensor) -> Tensor:
        """Return the logits (B, 5, F, K)."""
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            active = active_components(activations, fps=self.config.features.fps)  # (B, F, R)
        activity = torch.cat((activations, self.traces(functional.pad(activations, (_AFTER, _AHEAD)))), dim=1)

        def encode(features: Tensor, active: Tensor, activity: Tensor) -> tuple[Tensor, ...]:
            return self._encoded(features, active.mT, activity, templates)

        *skips, given, prior = in_blocks(encode, features, active.mT, activity, context=_ENCODER_CONTEXT)
        n_low = self.narrow.in_channels - activity.shape[1]
        low = joined(skips[-1], self.narrow.weight[:, :n_low])
        low = functional.relu(
            low + functional.conv1d(activity, self.narrow.weight[:, n_low:], self.narrow.bias)
        )
        for block in self.temporal:
            low = block(low)
        (logits,) = in_blocks(self._decoded, low, activity, *skips, given, prior, context=_DECODER_CONTEXT)
        return logits

    def _encoded(
        self, features: Tensor, active: Tensor, activity: Tensor, templates: Tensor
    ) -> tuple[Tensor, ...]:
        """Return maps at a half, a quarter and an eighth of the bands, their input, and the prior logits."""
        with torch.no_grad(), torch.autocast(features.device.type, enabled=False):
            settings = self.config.features
            levels = levels_of(features, settings)
            masks = ratio_masks(levels, active, templates, n_classes=len(CLASSES), n_bands=settings.n_bands)
        given = torch.cat((features, masks), dim=1).contiguous(memory_format=torch.channels_last)
        maps = [functional.relu_(self.enter(given) + self.heard(activity)[..., None])]
        for down in self.down:
            maps.append(down(maps[-1]))
        return *maps, given, self.reliance * torch.log(masks + _DOUBT)

    def _decoded(self, low: Tensor, activity: Tensor, *maps: Tensor) -> tuple[Tensor]:
        """Return the logits (B, 5, F, K), given what `_encoded` returns."""
        *skips, given, prior = maps
        x = parted(low, self.widen, skips[-1].shape[1])
        for up, skip in zip(self.up, reversed(skips), strict=True):
            x = up(functional.relu_(x + skip))
        seen = self.head(functional.relu_(x + self.detail(given)))
        likely = self.likely(activity).unflatten(1, (len(CLASSES), -1)).transpose(2, 3)  # (B, 5, F, K)
        return (self.config.certainty * (seen + likely) + prior,)


def _decays() -> Tensor:
    """Return decays over the time after an onset as taps of a convolution, shape (3, taps), the newest last."""
    age = torch.arange(_AFTER, -_AHEAD - 1, -1) / _FPS
    return torch.stack([torch.exp(-age / tau_s) * (age >= 0) for tau_s in _TRACES_S])


def _down(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(n_in, n_out, 3, stride=(1, 2), padding=1, bias=False), nn.BatchNorm2d(n_out), nn.ReLU()
    )


def _up(n_in: int, n_out: int) -> nn.Sequential:
    return nn.Sequential(
        nn.ConvTranspose2d(n_in, n_out, (3, 4), stride=(1, 2), padding=1, bias=False), nn.BatchNorm2d(n_out)
    )


class Separator:
    """A trained separator on a device."""

    def __init__(self, net: SeparatorNet, *, device: str = "cpu") -> None:
        self.config = net.config
        self._net = Placed(fused(net).to(memory_format=torch.channels_last), device=device)
        self._features = listener(net.config.features, torch.device(device))
        assert net.context_frames + N_HOPS + 4 < _CONTEXT_S * _FPS, (
            "the receptive field is wider than a block's context"
        )

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> Separator:
        """Return the separator of a weights file.

        Raises:
            CheckpointError: the file is missing, damaged, or of another model.
        """
        return cls(fuse(load_separator(path)), device=device)

    def open(self, recording: Recording, activations: Activations) -> Stems:
        """Return the stems of a recording, to be read from; nothing is computed before it is read.

        Args:
            recording: drum audio, any rate, any number of channels.
            activations: of the whole recording, transcribed.
        """
        return Stems(self, recording, activations.probability)

    @torch.inference_mode()
    def learn_templates(self, regions: Sequence[tuple[Tensor, Tensor]]) -> Tensor:
        """Return templates of the classes in regions of a recording.

        Args:
            regions: audio (T,) at 44.1 kHz at the listening level, or its features (1, C, F, K), and the
                transcriber's probability (5, F) there; F = T // 441 + 1 frames.
        """
        features = torch.cat([self._features_of(sound).cpu() for sound, _ in regions], dim=2)
        activity = torch.cat([probability for _, probability in regions], dim=1)[None]
        return self._net.run(lambda net, device: net.learn_templates(features.to(device), activity.to(device)))

    def features(self, recording: Recording) -> ReadsFeatures | None:
        """Return what reads the features of microphones, None for a recording whose mono mix is analysed."""
        return recording.features(self._features)

    def _features_of(self, sound: Tensor) -> Tensor:
        return sound if sound.dim() > 1 else self._features(sound)

    @torch.inference_mode()
    def masks(self, sound: Tensor, probability: Tensor, templates: Tensor) -> Tensor:
        """Return the mask of each class for audio (T,) at 44.1 kHz, shape (5, F, K), in one pass.

        Args:
            sound: a whole recording, or a region of one, at the listening level, or its features (1, C, F, K);
                F = T // 441 + 1 frames.
            probability: the transcriber's, shape (5, F).
            templates: learned in the whole recording.
        """
        given = self._features_of(sound), probability[None], templates
        logits = self._net.run(lambda net, device: net(*(x.to(device) for x in given)))
        masks = torch.softmax(logits[0].float(), dim=0).cpu()
        require_numbers(masks, "separator")
        return masks


class Stems:
    """The stems of a recording, read region by region in memory that does not grow with its length.

    They are the recording's own spectra, masked, in windows of 40 ms every 10 ms. They add up to the recording
    but for rounding, and a stem is the same to the bit whichever are read with it.
    """

    def __init__(self, separator: Separator, recording: Recording, probability: np.ndarray) -> None:
        self.recording = recording
        self._separator = separator
        self._probability = torch.from_numpy(np.ascontiguousarray(probability, dtype=np.float32))
        self._hop = max(1, round(recording.sample_rate / _FPS))
        hz = np.fft.rfftfreq(fft_size(self._hop), 1 / recording.sample_rate)
        self._to_bins = interpolation(
            band_positions(hz, separator.config.features), separator.config.features.n_bands
        )
        self._masks: BlockCache[int, np.ndarray] = BlockCache(_CACHED_BLOCKS)
        self._mask_bytes = 0  # of masks beyond these that are cached
        self._spectra: BlockCache[tuple[int, int], Tensor] = BlockCache(_CACHED_SPECTRA)
        # Templates and masks of a short recording are of the same audio.
        self._audio: BlockCache[tuple[int, int], Tensor] = BlockCache()

    def cache_masks(self, n_bytes: int) -> None:
        """Cache as many masks as fit from now on, for who reads here and there: a minute has 6 MB."""
        self._masks, self._mask_bytes = BlockCache(_CACHED_BLOCKS, n_bytes), n_bytes

    def separate(self, report: Progress) -> None:
        """Compute the masks that `cache_masks` has room for, from the beginning on.

        Args:
            report: called between blocks with "separate" and the fraction done.
        """
        block_bytes = 2 * len(CLASSES) * len(self._to_bins) * _BLOCK_S * _FPS
        n_blocks = min(math.ceil(self.recording.duration_s / _BLOCK_S), self._mask_bytes // block_bytes)
        for number in range(n_blocks):
            report("separate", number / n_blocks)
            self._masks.get(number, self._block)

    def read(self, start: int, stop: int, classes: Sequence[str] = CLASSES) -> Samples:
        """Return stems of samples [start, stop), shape (N, C, stop - start), zeros outside the recording.

        Args:
            start: may be negative.
            stop: may lie after the end.
            classes: whose stems; fewer take less time.

        Raises:
            AudioError: a sample is NaN or infinite, or the file cannot be decoded.
        """
        hop = self._hop
        # The frames that overlap the region; frame j is centred on sample j * hop.
        first = start // hop - N_HOPS // 2
        last = -(-stop // hop) + N_HOPS // 2
        origin = (first - N_HOPS // 2) * hop
        audio = torch.from_numpy(self.recording.read(origin, (last + N_HOPS // 2) * hop))
        chosen = [CLASSES.index(drum_class) for drum_class in classes]
        out = audio.new_zeros((len(chosen), *audio.shape))

        def analysed(frames: tuple[int, int]) -> Tensor:
            left, right = ((frame - first) * hop for frame in frames)
            return analyse(audio[:, left : right + (N_HOPS - 1) * hop], hop)

        for block in overlapping_blocks(last + 1 - first, _SPECTRA_FRAMES):
            place = slice(block.start * hop, (block.stop + N_HOPS - 1) * hop)
            frames = first + block.start, first + block.stop
            spectra = self._spectra.get(frames, analysed)
            for stem, mask in zip(out, self._masks_at(*frames, chosen), strict=True):
                stem[:, place] += synthesise(spectra * mask, hop)
        stems = out[..., start - origin : stop - origin]
        stems[..., : max(0, -start)] = 0
        stems[..., max(0, self.recording.n_samples - start) :] = 0
        return stems.numpy()

    def _masks_at(self, begin: int, end: int, chosen: Sequence[int]) -> Tensor:
        """Return the masks (N, end - begin, bins) of some classes, in frames of the recording's own rate."""
        n_frames = self._probability.shape[1]
        # Frames of the masks; the same numbers where the rate is a multiple of 100 Hz.
        position = np.arange(begin, end) * (self._hop * _FPS / self.recording.sample_rate)
        position = position.clip(0, max(0, n_frames - 1))
        first, last = math.floor(position[0]), math.ceil(position[-1])
        masks = read_blocks(lambda n: self._masks.get(n, self._block), _BLOCK_S * _FPS, first, last + 1)
        bands = torch.from_numpy(masks).mT.contiguous().float()  # (5, last + 1 - first, K)
        bands[-1] = 1 - bands[:-1].sum(dim=0)  # as they were rounded
        bands = bands[list(chosen)]
        if not np.array_equal(position, np.arange(first, last + 1)):
            low = torch.from_numpy(np.floor(position).astype(np.int64) - first)
            fraction = torch.from_numpy(position - np.floor(position)).float()[:, None]
            bands = torch.lerp(bands[:, low], bands[:, (low + 1).clamp_max(last - first)], fraction)
        return bands @ self._to_bins

    def _block(self, number: int) -> np.ndarray:
        """Return the masks (5, K, F) of a block, at 100 frames a second."""
        start_s = number * _BLOCK_S
        length_s = math.ceil(self.recording.duration_s)
        block = Block.of(start_s, start_s + _BLOCK_S, context=_CONTEXT_S, length=length_s)
        masks = self._separator.masks(*self._region(block.begin, block.end), self._templates)
        core = slice(block.core.start * _FPS, block.core.stop * _FPS)
        return np.asarray(masks[..., core, :].mT.half().contiguous())

    def _region(self, start_s: int, end_s: int) -> tuple[Tensor, Tensor]:
        """Return a region's audio, as `_levelled` has it, or features, and the probability (5, F) of onsets."""
        rate, first = self.recording.sample_rate, start_s * _FPS
        reader = self._separator.features(self.recording)
        if reader is not None:
            sound = reader.read(first, min(end_s * _FPS + 1, reader.n_frames))
            n_frames = sound.shape[2]
        else:
            sound = self._audio.get(
                (start_s * rate, min(end_s * rate, self.recording.n_samples)), self._levelled
            )
            n_frames = len(sound) // self._separator.config.features.hop + 1
        probability = self._probability[:, first : first + n_frames]
        return sound, functional.pad(probability, (0, n_frames - probability.shape[1]))

    def _levelled(self, region: tuple[int, int]) -> Tensor:
        """Return a region of the recording, in its own samples, at the listening level, mono at 44.1 kHz."""
        mono = Recording.from_samples(self.recording.mono(*region), self.recording.sample_rate)
        audio = torch.from_numpy(np.concatenate(list(mono.mono_blocks(SAMPLE_RATE))))
        return listening_gain(self.recording.mono_peak) * audio

    @cached_property
    def _templates(self) -> Tensor:
        """The templates of a recording, learned from all of it or from regions all over it."""
        length_s = self.recording.duration_s
        if length_s <= _N_TEMPLATE_REGIONS * _TEMPLATE_REGION_S:
            regions = [(0, math.ceil(length_s))]
        else:
            starts = (
                np.linspace(0, int(length_s) - _TEMPLATE_REGION_S, _N_TEMPLATE_REGIONS).astype(int).tolist()
            )
            regions = [(start, start + _TEMPLATE_REGION_S) for start in starts]
        return self._separator.learn_templates([self._region(*region) for region in regions])


def interpolation(positions: np.ndarray, n_bands: int) -> Tensor:
    """Return the matrix (K, bins) that interpolates values of bands at positions among them."""
    low = np.floor(positions).astype(np.int64)
    fraction = positions - low
    matrix = np.zeros((n_bands, len(positions)), dtype=np.float32)
    bins = np.arange(len(positions))
    matrix[low, bins] += 1 - fraction
    matrix[np.minimum(low + 1, n_bands - 1), bins] += fraction
    return torch.from_numpy(matrix)


def load_separator(path: Path) -> SeparatorNet:
    """Return the network of a weights file, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model.
    """
    return load_net(path, "separator", SeparatorConfig, SeparatorNet)
