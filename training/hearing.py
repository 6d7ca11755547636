"""What a transcriber says of training recordings, made about as wrong as with kits that it does not know."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_SPAN = 12  # frames: about one stroke


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
