"""Where within their frames the attacks of low drums lie, and which keys a frame may copy for it.

Latents carry the phase of the lows: of a kick whose attack lies elsewhere within its frame the latents are
others, and means of both have no lows (docs/method.md, decision 18). So a transformer with places knows, of
each frame of a rhythm, at which place its low drums were struck, and copies them from strokes at that place
alone; all frames of a stroke come from one hit, or from hits between which nothing decides.

Six channels after those of r say it, a place and a number for each low drum, zeros where it does not rule. The
frames of a rhythm have those of every drum that rules, numbered by when it was struck. The frames of a source
have those of the one drum that was struck last, the number being its hit's; the place of a frame as it was
recorded is negative, that of a stroke encoded once more at another place is positive.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from transform.audio import SAMPLE_RATE
from transform.events import DrumEvent

LOW = ("KD", "SD", "TT")
N_PLACING = 2 * len(LOW)  # channels
RULE_S = 0.35  # how long a low drum rules after its attack


class Places(NamedTuple):
    """The grid on which attacks lie."""

    n: int  # to a frame
    hop: int  # samples a frame

    @property
    def step(self) -> int:
        """Samples between two places."""
        return self.hop // self.n

    @property
    def rule_frames(self) -> int:
        """How many frames a low drum rules from its attack on."""
        return round(RULE_S * SAMPLE_RATE / self.hop)

    def of(self, onset_s: float) -> tuple[int, int]:
        """Return the frame in which an attack lies, and its place in it, 1 .. n: the nearest of the grid."""
        steps = round(onset_s * SAMPLE_RATE / self.step)
        return steps // self.n, steps % self.n + 1


def rhythm_placing(places: Places, events: Sequence[DrumEvent], first: int, last: int) -> Tensor:
    """Return the channels (1, 6, last - first) of frames of a rhythm.

    A stroke rules from the frame before its attack on: what is there leads to it, whatever still rings.

    Args:
        places: the grid.
        events: of the rhythm, sorted by onset.
        first: a latent frame.
        last: the latent frame after the window.
    """
    out = torch.zeros(1, N_PLACING, last - first)
    for event in events:
        if event.drum_class not in LOW:
            continue
        frame, place = places.of(event.onset_s)
        begin, end = max(first, frame - 1), min(last, frame + places.rule_frames)
        if begin >= end:
            continue
        c = LOW.index(event.drum_class)
        own = slice(begin - first, end - first)
        out[0, c, own], out[0, len(LOW) + c, own] = place, frame + 1
    return out


def source_placing(places: Places, events: Sequence[DrumEvent], n_frames: int) -> Tensor:
    """Return the channels (1, 6, n_frames) of a source as it was recorded; hits are numbered from 1 on.

    Args:
        places: the grid.
        events: the low strokes of the source, sorted by onset, one for all that fall together.
        n_frames: of the source.
    """
    out = torch.zeros(1, N_PLACING, n_frames)
    for number, event in enumerate(events, start=1):
        frame, place = places.of(event.onset_s)
        own = slice(max(0, frame - 1), max(0, frame + places.rule_frames))
        out[0, :, own] = 0.0
        c = LOW.index(event.drum_class)
        out[0, c, own], out[0, len(LOW) + c, own] = -place, number
    return out


class Rules(NamedTuple):
    """Which keys the heads of a layer may copy for each frame."""

    permitted: Tensor  # (B, H, F, keys), bool
    stroke: Tensor  # (B, H, F): of the frame's stroke, 0 where no low drum rules; 0 .. the number of strokes
    hit: Tensor  # (B, keys): of the key's hit, 0 for none; 0 .. the number of hits

    @classmethod
    def of(cls, requested: Tensor, available: Tensor, heads: Sequence[Sequence[str]]) -> Rules:
        """Return the rules for frames with these channels.

        A frame that a low drum rules takes it from strokes at its place, and the rest from frames without low
        drums; where no stroke lies there, or no low drum rules, from all frames as they were recorded.

        Args:
            requested: of the rhythm's frames, shape (B, 6, F).
            available: of the keys, shape (B, 6, keys).
            heads: the classes that each head looks for.
        """
        n = len(LOW)
        key_place = available[:, :n].sum(dim=1)  # (B, keys): one drum rules each
        key_class = available[:, :n].abs().argmax(dim=1)
        is_free, is_recorded = key_place == 0, key_place <= 0
        permitted, strokes = [], []
        for sought in heads:
            own = torch.tensor([c in sought for c in LOW], device=requested.device)
            stroke, which = (requested[:, n:] * own[:, None]).max(dim=1)  # (B, F): the one struck last
            place = requested[:, :n].gather(1, which[:, None])[:, 0]
            fits = (key_place.abs()[:, None] == place[..., None]) & (own[key_class] & ~is_free)[:, None]
            is_ruled = (stroke > 0) & fits.any(dim=-1)
            permitted.append(torch.where(is_ruled[..., None], fits | is_free[:, None], is_recorded[:, None]))
            strokes.append(torch.where(is_ruled, stroke, 0))
        hit = available[:, n:].amax(dim=1)
        return cls(torch.stack(permitted, dim=1), *(_numbered(x) for x in (torch.stack(strokes, dim=1), hit)))

    def by_hit(self, attention: Tensor, head: int = 0) -> Tensor:
        """Return how much of each hit a head's attention (B, F, keys) has in each stroke, (B, strokes, hits).

        Strokes and hits that an item does not have are rows and columns of zeros.
        """
        members = torch.nn.functional.one_hot(self.hit)[..., 1:].to(attention.dtype)
        frames = torch.nn.functional.one_hot(self.stroke[:, head])[..., 1:].to(attention.dtype)
        return frames.mT @ (attention @ members)


def _numbered(x: Tensor) -> Tensor:
    """Return numbers in their order as 0 .. how many there are, 0 staying 0."""
    values = torch.unique(x[x > 0])
    return torch.where(x > 0, torch.searchsorted(values, x.contiguous()) + 1, 0)
