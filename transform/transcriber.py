"""Drum transcription: recording -> class activations r at 100 frames per second -> events.

A convolutional network over log-mel features with a stack of dilated temporal convolutions. Its receptive field
is finite (about 1.3 s either way), so a long recording is read in blocks that overlap by that much and the
result is the same as in one pass: no seams, and hardly more memory than the activations take.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from threading import Lock
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from transform.audio import SAMPLE_RATE, Recording
from transform.beginnings import at_beginning
from transform.errors import SettingsError
from transform.events import CLASSES, DrumEvent
from transform.features import FeatureSettings, listener, mel_filters
from transform.layers import Placed, TemporalBlock, fuse, fused, in_blocks, joined
from transform.ranges import check_convolutions, check_ranges
from transform.signal import Block, BlockCache, overlapping_blocks
from transform.weights import load_net, require_numbers

# Of a hat: open, struck with the foot; of a cymbal; of a snare.
ARTICULATIONS = ("open", "pedal", "ride", "sidestick")

_CONVOLUTIONS = 4  # over three frames each, before the temporal blocks
_STANDING_FRAMES = 15  # 150 ms: what is as loud for this long is no stroke
_BLOCK_FRAMES = 128  # that are transformed at once: few enough to stay in a cache
_ARTICULATION_WIDTH = 64
# In log odds: .12 becomes .5 at 1, and .88 at -1. Hardly any true stroke lies beyond these.
_SENSITIVITY = 2.0
_DOUBTFUL = 0.32  # drum confidence of a recording with other instruments


@dataclass(frozen=True, kw_only=True)
class TranscriberConfig:
    """The transcriber's shape and its decision thresholds."""

    features: FeatureSettings = field(default_factory=FeatureSettings)
    widths: tuple[int, ...] = (32, 32, 64, 64)  # channels of the 2-D convolutions
    d_model: int = 192
    dilations: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    thresholds: tuple[float, ...] = (0.5,) * len(CLASSES)  # least height of a peak, by class
    min_gap_s: float = 0.03  # two hits of one class are never closer
    articulations: tuple[str, ...] = ("open",)  # that are distinguished; see `_articulation`

    def __post_init__(self) -> None:
        check_ranges(
            self,
            widths=(1, 2**16),
            d_model=(1, 2**16),
            dilations=(1, 256),
            thresholds=(0, 1),
            min_gap_s=(0, 1),
        )
        check_convolutions(self.features.n_bands, (self.features.n_channels, *self.widths))
        if len(self.widths) != 4:
            raise SettingsError(f"a transcriber has 4 widths, not {len(self.widths)}")
        if len(self.thresholds) != len(CLASSES):
            raise SettingsError(f"a transcriber has {len(CLASSES)} thresholds, not {len(self.thresholds)}")
        if not self.articulations or self.articulations != ARTICULATIONS[: len(self.articulations)]:
            raise SettingsError(f"a transcriber distinguishes {ARTICULATIONS}, not {self.articulations}")


class Activations(NamedTuple):
    """What the network detects in a recording, NumPy arrays over F frames."""

    probability: np.ndarray  # (5, F): r of the paper, an onset of the class in this frame
    velocity: np.ndarray  # (5, F): 0..1, meaningful where there is an onset
    offset_frames: np.ndarray  # (5, F): onset time minus frame time
    articulation: np.ndarray  # (A, F): probability of each of `TranscriberConfig.articulations` at an onset


class TranscriberNet(nn.Module):
    """Features (B, C, F, K) -> logits (B, 15 + A, F): onset, velocity, offset by class, then articulations."""

    def __init__(self, config: TranscriberConfig) -> None:
        super().__init__()
        self.config = config
        w1, w2, w3, w4 = config.widths
        n_bands = config.features.n_bands
        self.spectral = nn.Sequential(
            *_conv_block(config.features.n_channels, w1, (3, 5), stride=(1, 2)),
            *_conv_block(w1, w2, (3, 3)),
            nn.MaxPool2d((1, 2)),
            *_conv_block(w2, w3, (3, 3)),
            *_conv_block(w3, w4, (3, 3), stride=(1, 2)),
            nn.Dropout2d(0.1),
        )
        self.project = nn.Sequential(nn.Conv1d(w4 * (n_bands // 8), config.d_model, 1), nn.ReLU())
        self.temporal = nn.ModuleList(TemporalBlock(config.d_model, d, dropout=0.1) for d in config.dilations)
        self.head = nn.Conv1d(config.d_model, 3 * len(CLASSES) + 1, 1)
        self.articulation: nn.Module | None = None  # in place of the head's last output, openness
        if len(config.articulations) > 1:
            self.articulation = nn.Sequential(
                nn.Conv1d(config.d_model, _ARTICULATION_WIDTH, 1),
                nn.ReLU(),
                nn.Conv1d(_ARTICULATION_WIDTH, len(config.articulations), 1),
            )

    @property
    def context_frames(self) -> int:
        """How many frames to either side an output depends on."""
        return _CONVOLUTIONS + sum(self.config.dilations)

    def _projected(self, features: Tensor) -> tuple[Tensor]:
        x = self.spectral(features)  # (B, C', F, K')
        layer = self.project[0]
        assert isinstance(layer, nn.Conv1d)
        assert layer.bias is not None
        return (functional.relu(joined(x, layer.weight) + layer.bias[:, None]),)

    def forward(self, features: Tensor) -> Tensor:
        """Return the logits (B, 15 + A, F) of features (B, C, F, K)."""
        (x,) = in_blocks(self._projected, features, context=_CONVOLUTIONS)
        for block in self.temporal:
            x = block(x)
        logits: Tensor = self.head(x)
        if self.articulation is not None:
            logits = torch.cat((logits[:, :-1], self.articulation(x)), dim=1)
        return logits


def _conv_block(
    n_in: int, n_out: int, kernel: tuple[int, int], stride: tuple[int, int] = (1, 1)
) -> tuple[nn.Module, ...]:
    padding = (kernel[0] // 2, kernel[1] // 2)
    return (
        nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=padding, bias=False),
        nn.BatchNorm2d(n_out),
        nn.ReLU(),
    )


class Transcriber:
    """A trained transcriber on a device."""

    def __init__(self, net: TranscriberNet, *, device: str = "cpu") -> None:
        self.config = net.config
        self._net = Placed(fused(net).to(memory_format=torch.channels_last), device=device)
        self._features = listener(net.config.features, torch.device(device))
        self._context_frames = net.context_frames + 8  # and the windows of the features
        self._cache: BlockCache[tuple[object, ...], _Cached] | None = None
        self._guard = Lock()

    @classmethod
    def load(cls, path: Path, *, device: str = "cpu") -> Transcriber:
        """Return the transcriber of a weights file.

        Raises:
            CheckpointError: the file is missing, damaged, or of another model.
        """
        return cls(fuse(load_transcriber(path)), device=device)

    def cache_files(self, n_recordings: int) -> None:
        """Cache the activations of the files that were read last, so that none of them is computed twice."""
        self._cache = BlockCache(n_recordings)

    def activations(
        self, recording: Recording, *, progress: Callable[[str, float], None] | None = None
    ) -> Activations:
        """Return the whole recording's activations, F = T // 441 + 1 frames of its 44.1 kHz signal.

        Args:
            recording: drum audio.
            progress: called with "transcribe" and the fraction done.
        """
        if self._cache is None or recording.path is None:
            return self._computed(recording, progress)
        found = recording.path.stat()
        key = (recording.path.absolute(), found.st_size, found.st_mtime_ns)
        with self._guard:
            cached = self._cache.get(key, lambda _: _Cached())
        with cached.guard:
            if cached.activations is None:
                cached.activations = self._computed(recording, progress)
        return cached.activations

    def _computed(
        self, recording: Recording, progress: Callable[[str, float], None] | None = None
    ) -> Activations:
        blocks = self._blocks(recording)
        if progress is not None:
            blocks = _reported(blocks, recording.duration_s * self.config.features.fps, progress)
        parts = [activations for _, activations in blocks]
        found = Activations(*(np.concatenate(column, axis=-1) for column in zip(*parts, strict=True)))
        probability = at_beginning(recording, found.probability, self.events(found), self.config.thresholds)
        return found._replace(probability=probability)

    def events(self, activations: Activations) -> list[DrumEvent]:
        """Return the events that activations of a whole recording hold, sorted by onset.

        They are the peaks: local maxima over their class's threshold, `min_gap_s` apart.
        """
        fps = self.config.features.fps
        gap = round(self.config.min_gap_s * fps)
        found = []
        for c, drum_class in enumerate(CLASSES):
            curve = activations.probability[c]
            padded = np.pad(curve, gap, constant_values=-1.0)
            around = np.lib.stride_tricks.sliding_window_view(padded, 2 * gap + 1)
            # The first of equal maxima is the peak.
            is_peak = (curve >= self.config.thresholds[c]) & (around.argmax(axis=1) == gap)
            for frame in np.flatnonzero(is_peak):
                offset = float(np.clip(activations.offset_frames[c, frame], -1.0, 1.0))
                likely = dict(zip(self.config.articulations, activations.articulation[:, frame], strict=True))
                found.append(
                    DrumEvent(
                        max(0.0, (frame + offset) / fps),
                        drum_class,
                        float(np.clip(activations.velocity[c, frame], 0.02, 1.0)),
                        _articulation(drum_class, likely),
                    )
                )
        return sorted(found, key=lambda event: event.onset_s)

    @torch.inference_mode()
    def infer(self, audio: Tensor, *, gain: float | None = None) -> Activations:
        """Return the activations of audio (T,) at 44.1 kHz in one pass.

        Args:
            audio: a whole recording, or a region of one.
            gain: brings the whole recording to the listening level; None: `audio` is all of it.
        """
        if gain is None:
            gain = listening_gain(float(audio.abs().max()) if len(audio) else 0.0)
        return self._inferred(self._features(gain * audio))

    @torch.inference_mode()
    def _inferred(self, features: Tensor) -> Activations:
        """Return the activations of features (1, C, F, K) in one pass."""
        features = features.contiguous(memory_format=torch.channels_last)
        logits = self._net.run(lambda net, device: net(features.to(device)))[0].float().cpu()
        require_numbers(logits, "transcriber")
        n = len(CLASSES)
        return Activations(
            torch.sigmoid(logits[:n]).numpy(),
            torch.sigmoid(logits[n : 2 * n]).numpy(),
            logits[2 * n : 3 * n].numpy(),
            torch.sigmoid(logits[3 * n :]).numpy(),
        )

    def _blocks(self, recording: Recording, block_s: float = 60.0) -> Iterator[tuple[Block, Activations]]:
        """Yield blocks of frames that tile the recording, and their activations.

        They are as long as the stream of resampled audio makes them.
        """
        hop = self.config.features.hop
        core_frames, context = round(block_s * SAMPLE_RATE / hop), self._context_frames
        if (reader := recording.features(self._features)) is not None:
            for block in overlapping_blocks(reader.n_frames, core_frames, context):
                activations = self._inferred(reader.read(block.begin, block.end))
                yield block, Activations(*(column[..., block.core] for column in activations))
            return
        buffer = np.zeros(0, dtype=np.float32)  # audio from frame `buffer_from` on
        buffer_from = core_from = 0
        gain = listening_gain(recording.mono_peak)
        stream = recording.mono_blocks(SAMPLE_RATE, block_s)
        at_end = False
        while not at_end:
            following = next(stream, None)
            if following is None:
                at_end = True
            else:
                buffer = np.concatenate((buffer, following))
            n_frames = len(buffer) // hop + 1 if at_end else len(buffer) // hop - 8
            # All frames whose right-hand context is here are done; at the end, all.
            core_to = buffer_from + n_frames - (0 if at_end else context)
            if core_to - core_from < core_frames and not at_end:
                continue
            block = Block(core_from, core_to, buffer_from, buffer_from + n_frames)
            activations = self.infer(torch.from_numpy(buffer), gain=gain)
            yield block, Activations(*(column[..., block.core] for column in activations))
            core_from = core_to
            next_from = max(0, core_to - context)
            buffer = buffer[(next_from - buffer_from) * hop :]
            buffer_from = next_from


def _articulation(drum_class: str, likely: Mapping[str, float]) -> str:
    """Return how a stroke of a class was struck, by the probabilities of its articulations; "" if unknown.

    The network was trained as if either side of each were as frequent. Foot hats and side sticks are rarer than
    what they are mistaken for, so more is demanded of them.
    """
    if drum_class == "HH":
        return "open" if likely["open"] > 0.5 else "pedal" if likely.get("pedal", 0) > 0.7 else "closed"
    if drum_class == "CY" and "ride" in likely:
        return "ride" if likely["ride"] > 0.5 else "crash"
    if drum_class == "SD":
        return "sidestick" if likely.get("sidestick", 0) > 0.8 else ""
    return ""


def with_sensitivity(activations: Activations, sensitivity: Mapping[str, float]) -> Activations:
    """Return activations in which strokes of some classes are more or less probable; the others stay.

    Args:
        activations: of a recording.
        sensitivity: by class, -1 to 1: its log odds rise by `_SENSITIVITY` at 1, and fall by as much at -1.
    """
    probability = activations.probability.copy()
    for drum_class, value in sensitivity.items():
        row = probability[CLASSES.index(drum_class)]
        raised = row * math.exp(_SENSITIVITY * value)
        row[:] = raised / (raised + 1 - row)
    return activations._replace(probability=probability)


def drum_confidence(recording: Recording) -> float:
    """Return how much of a recording sounds like drums, 0..1: what dies away at once instead of standing.

    Amplitudes in 64 bands that last for 150 ms and more are set against all amplitudes: notes stand, strokes do
    not. Of validation recordings of drums alone, the lowest had 0.35; chords, basses, voices and pads made for
    the purpose had at most 0.3. The network's probabilities tell less: it is as sure of a plucked bass.

    Source: morphological opening of spectra, after the percussive part of Fitzgerald, DAFx 2010; we open with a
    minimum where that takes medians.
    """
    filters = _confidence_filters()
    window = torch.from_numpy(np.hanning(2048).astype(np.float32))
    standing = total = 0.0
    for block in recording.mono_blocks(SAMPLE_RATE):
        frames = functional.pad(torch.from_numpy(block), (1024, 1024)).unfold(0, 2048, 441)
        powers = [
            torch.fft.rfft(block * window)[:, : len(filters)].abs().square() @ filters
            for block in torch.split(frames, _BLOCK_FRAMES)
        ]
        levels = torch.cat(powers).sqrt().numpy()  # (F, K)
        total += float(levels.sum())
        if len(levels) > _STANDING_FRAMES:
            lasting = _over_time(np.minimum, levels)
            standing += float(_over_time(np.maximum, lasting).sum())
    return 1 - standing / total if total > 0 else 0.0


@cache
def _confidence_filters() -> Tensor:
    """Return the 64 bands of `drum_confidence`, shape (K, 64), K being the bins up to 8 kHz; only read them."""
    return mel_filters(2048, 64, 100.0, 8_000.0)[: round(8_000 / SAMPLE_RATE * 2048) + 2]


def _over_time(extreme: np.ufunc, levels: np.ndarray) -> np.ndarray:
    """Return the least or the greatest of the frames around each frame, shape (F, K)."""
    radius = _STANDING_FRAMES // 2
    padded = np.pad(levels, ((radius, radius), (0, 0)), mode="edge")
    for step in (1, 2, 4):  # over 2, 4 and 8 frames
        padded = extreme(padded[:-step], padded[step:])
    return np.asarray(extreme(padded[:-radius], padded[radius:]))


def doubts(name: str, confidence: float) -> tuple[str, ...]:
    """Return a sentence where the `drum_confidence` of a recording is that of more than drums."""
    if confidence >= _DOUBTFUL:
        return ()
    return (f"drum confidence in {name} is low, {confidence:.2f}: other instruments are detected as drums",)


def listening_gain(peak: float) -> float:
    """Return the factor that brings a recording with this peak to the level that is best for the network.

    That is -12 dB, within the levels it is trained at. What never rises above the last two bits of 16 is
    silence and stays so.
    """
    if peak < 1e-4:
        return 1.0
    return float(np.clip(0.25 / max(peak, 1e-9), 0.01, 250.0))


@dataclass
class _Cached:
    """The activations of a file, once they are computed."""

    activations: Activations | None = None
    guard: Lock = field(default_factory=Lock)


def _reported(
    blocks: Iterable[tuple[Block, Activations]], n_frames: float, progress: Callable[[str, float], None]
) -> Iterator[tuple[Block, Activations]]:
    """Yield blocks, and report how much of the recording they cover."""
    progress("transcribe", 0.0)
    for block, activations in blocks:
        yield block, activations
        progress("transcribe", min(1.0, block.stop / n_frames))


def load_transcriber(path: Path) -> TranscriberNet:
    """Return the network of a weights file, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged, or of another model.
    """
    return load_net(path, "transcriber", TranscriberConfig, TranscriberNet)
