"""Transcriptions of training recordings, degraded until they are about as wrong as those of unseen kits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from transform.events import CLASSES
from transform.features import DrumFeatures
from transform.layers import fused
from transform.transcriber import TranscriberNet, listening_gain

CONFUSED = 0.15  # probability that a class of a recording is transcribed as another one
_RUN_FRAMES = 12  # are lost or exchanged together: about one stroke


class Transcription(NamedTuple):
    """A transcriber's output for recordings, 100 frames a second."""

    probability: Tensor  # (B, 5, F)
    velocity: Tensor  # (B, 5, F)
    offset_frames: Tensor  # (B, 5, F)


class FrozenTranscriber:
    """A transcriber that is not trained further."""

    def __init__(self, net: TranscriberNet, device: torch.device) -> None:
        self._net = fused(net).to(device).to(memory_format=torch.channels_last)
        self._features = DrumFeatures(net.config.features).to(device)

    @torch.no_grad()
    def transcribe(self, audio: Tensor, *, degraded: np.random.Generator | None = None) -> Transcription:
        """Return the transcription of recordings (B, T); with a generator, about as wrong as of unseen kits."""
        gains = [listening_gain(float(peak)) for peak in audio.abs().amax(dim=1)]
        features = self._features(audio * torch.tensor(gains, device=audio.device)[:, None])
        if degraded is not None:
            features = mask_bands(features, degraded, 0.7)
        logits = self._net(features.contiguous(memory_format=torch.channels_last)).float()
        n = len(CLASSES)
        probability, velocity = torch.sigmoid(logits[:, :n]), torch.sigmoid(logits[:, n : 2 * n])
        offset = logits[:, 2 * n : 3 * n]
        if degraded is None:
            return Transcription(probability, velocity, offset)
        changed = with_errors(probability, degraded, confused=CONFUSED)
        # A stroke that is taken for another class's keeps its velocity and its place.
        weight = probability / probability.sum(dim=1, keepdim=True).clamp_min(1e-6)
        is_other = changed > probability + 0.05
        velocity, offset = (
            torch.where(is_other, (weight * x).sum(dim=1, keepdim=True), x) for x in (velocity, offset)
        )
        return Transcription(changed, velocity, offset)


def with_errors(probability: Tensor, rng: np.random.Generator, *, confused: float) -> Tensor:
    """Return onset probabilities (B, 5, F) some of which are lost, exchanged or given to another class.

    Of runs of 120 ms 5 % are dropped and 4 % are another class's; 4 % of the classes are missed altogether.

    Args:
        probability: a transcriber's output.
        rng: decides what goes wrong.
        confused: probability that a class of a recording is given to another one, mostly or always.
    """
    n_items, n_classes, n_frames = probability.shape
    n_runs = -(-n_frames // _RUN_FRAMES)
    drawn = rng.random((n_items, n_classes, n_runs)).repeat(_RUN_FRAMES, axis=-1)[..., :n_frames]
    fate = torch.from_numpy(drawn).to(probability.device)
    other = probability[:, torch.from_numpy(rng.permutation(n_classes)).to(probability.device)]
    changed = torch.where(fate < 0.05, 0.0, torch.where(fate > 0.96, other, probability))
    missed = torch.from_numpy(rng.random((n_items, n_classes, 1)) < 0.04).to(changed.device)
    changed = torch.where(missed, 0.0, changed).clone()
    for item in np.flatnonzero(rng.random(n_items) < confused):
        true, false = rng.permutation(n_classes)[:2]
        moved = torch.from_numpy(rng.random(n_runs) < rng.uniform(0.4, 1.2)).to(changed.device)
        moving = changed[item, true] * moved.repeat_interleave(_RUN_FRAMES)[:n_frames]
        changed[item, true] -= moving
        changed[item, false] = torch.maximum(changed[item, false], moving)
    return changed


def mask_bands(features: Tensor, rng: np.random.Generator, probability: float) -> Tensor:
    """Return features (B, C, F, K), of some segments with one or two runs of bands silenced.

    Frequency masking (Park et al., SpecAugment, Interspeech 2019): no drum is to be recognised by one band.

    Args:
        features: of segments.
        rng: decides which bands.
        probability: that a segment is masked.
    """
    n_bands = features.shape[-1]
    features = features.clone()
    for segment in features:
        if rng.random() < probability:
            for _ in range(rng.integers(1, 3)):
                width = int(rng.integers(2, n_bands // 6 + 1))
                start = int(rng.integers(0, n_bands - width + 1))
                segment[..., start : start + width] = 0
    return features
