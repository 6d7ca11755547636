"""What a transcriber says of training recordings, made about as wrong as with kits that it does not know."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from transform.events import CLASSES
from transform.features import DrumFeatures
from transform.layers import fused
from transform.transcriber import TranscriberNet, listening_gain

CONFUSED = 0.15  # share of recordings in which a class is heard as another
_SPAN = 12  # frames: about one stroke


class Heard(NamedTuple):
    """What is said of recordings, 100 frames a second."""

    probability: Tensor  # (B, 5, F)
    velocity: Tensor  # (B, 5, F)
    offset_frames: Tensor  # (B, 5, F)


class Listener:
    """A transcriber that training leaves as it is."""

    def __init__(self, net: TranscriberNet, device: torch.device) -> None:
        self._net = fused(net).to(device).to(memory_format=torch.channels_last)
        self._features = DrumFeatures(net.config.features).to(device)

    @torch.no_grad()
    def hear(self, audio: Tensor, *, worsened: np.random.Generator | None = None) -> Heard:
        """Return what it says of recordings (B, T); with a generator, about as wrong as of unknown kits."""
        gains = [listening_gain(float(peak)) for peak in audio.abs().amax(dim=1)]
        features = self._features(audio * torch.tensor(gains, device=audio.device)[:, None])
        if worsened is not None:
            features = mask_bands(features, worsened, 0.7)
        logits = self._net(features.contiguous(memory_format=torch.channels_last)).float()
        n = len(CLASSES)
        probability, velocity = torch.sigmoid(logits[:, :n]), torch.sigmoid(logits[:, n : 2 * n])
        offset = logits[:, 2 * n : 3 * n]
        if worsened is None:
            return Heard(probability, velocity, offset)
        believed = misheard(probability, worsened, confused=CONFUSED)
        # Of a stroke that is taken for another class's, velocity and place are heard all the same.
        weight = probability / probability.sum(dim=1, keepdim=True).clamp_min(1e-6)
        is_other = believed > probability + 0.05
        velocity, offset = (
            torch.where(is_other, (weight * x).sum(dim=1, keepdim=True), x) for x in (velocity, offset)
        )
        return Heard(believed, velocity, offset)


def misheard(heard: Tensor, rng: np.random.Generator, *, confused: float) -> Tensor:
    """Return onset probabilities (B, 5, F) some of which are lost, exchanged or taken for another class's.

    Of stretches of 120 ms 5 % are dropped and 4 % are another class's; 4 % of the classes are not heard at all.

    Args:
        heard: what the transcriber says.
        rng: decides what goes wrong.
        confused: share of recordings in which a class is heard as another, in most or all of it.
    """
    n_items, n_classes, n_frames = heard.shape
    n_spans = -(-n_frames // _SPAN)
    drawn = rng.random((n_items, n_classes, n_spans)).repeat(_SPAN, axis=-1)[..., :n_frames]
    fate = torch.from_numpy(drawn).to(heard.device)
    other = heard[:, torch.from_numpy(rng.permutation(n_classes)).to(heard.device)]
    heard = torch.where(fate < 0.05, 0.0, torch.where(fate > 0.96, other, heard))
    deaf = torch.from_numpy(rng.random((n_items, n_classes, 1)) < 0.04).to(heard.device)
    heard = torch.where(deaf, 0.0, heard).clone()
    for item in np.flatnonzero(rng.random(n_items) < confused):
        true, false = rng.permutation(n_classes)[:2]
        moved = torch.from_numpy(rng.random(n_spans) < rng.uniform(0.4, 1.2)).to(heard.device)
        moving = heard[item, true] * moved.repeat_interleave(_SPAN)[:n_frames]
        heard[item, true] -= moving
        heard[item, false] = torch.maximum(heard[item, false], moving)
    return heard


def mask_bands(features: Tensor, rng: np.random.Generator, share: float) -> Tensor:
    """Return features (B, C, F, K) of which a share of the segments is silent in one or two runs of bands.

    Frequency masking (Park et al., SpecAugment, Interspeech 2019): no drum is to be known by one band alone.
    """
    n_bands = features.shape[-1]
    features = features.clone()
    for segment in features:
        if rng.random() < share:
            for _ in range(rng.integers(1, 3)):
                width = int(rng.integers(2, n_bands // 6 + 1))
                start = int(rng.integers(0, n_bands - width + 1))
                segment[..., start : start + width] = 0
    return features
