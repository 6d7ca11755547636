"""The rhythm transformer, stage 2 of the paper: a source's latents -> latents of the target's rhythm.

Hockman and Drysdale (AES AIMLA 2025), section 2, in the paper's order: the target's conditions (r and a) become
a query through two fusers and a gate (equation 1); blocks of cross-attention fetch the source's frames with it
(equation 2); a head estimates the deviation of the result (equation 3). Decisions are those of docs/method.md.

Letters: F target frames, S source frames, D latent channels, R channels of rhythm, H heads. Sequences are
(B, channels, frames) at the borders and (B, frames, channels) inside.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from transform.audio import SAMPLE_RATE
from transform.codec import Codec
from transform.codec_config import CodecConfig
from transform.errors import CheckpointError, SettingsError
from transform.events import CLASSES, DrumEvent
from transform.features import FeatureSettings
from transform.ranges import check_ranges
from transform.transcriber import Activations
from transform.weights import load_net

ACTIVATION_HOP = FeatureSettings().hop  # samples a frame of the transcriber
ONSET_MEMORY_S = 1.0  # how long ago an onset may be and still differ from silence
# Height of a peak, and frames to where it ends: medians of the transcriber's peaks on validation kits. An event
# has the activations of a recorded stroke (decision 11); training draws both from the quantiles around them.
PEAK = (0.77, 1.84)
_N_PHASES = 14  # bumps on the axis of time since onset
_N_DISTANCES = 16  # buckets of relative positions to either side
_NOWHERE = 2 * _N_DISTANCES  # the bucket of silence
_LEAK = 0.2
_HIRES_HOP = 512
_DECAYS_S = (0.15, 0.15, 0.3, 0.08, 0.8)  # in which each class dies away, at first
_SHARPNESS = (300.0, 10.0)  # delta of the first layer and of the others, at first
_ALPHA = math.log(9.0)  # alpha begins at 0.9
_SOUGHT = (("KD", "TT"), ("SD",), ("HH", "CY"))  # by the heads of a mixer after the first, at first
_ELSE = 0.1  # what other classes count for them
_EPSILON = 1e-4  # least deviation
_NOTHING, _NEVER = 1e-20, 80.0  # attention that counts as none, and how far below the highest it surely is


@dataclass(frozen=True, kw_only=True)
class RhythmConfig:
    """The transformer's shape; the defaults are `hires`."""

    hop: int = _HIRES_HOP  # samples a latent frame
    n_latents: int = 128
    n_activations: int = 384  # channels of a
    width: int = 128  # the paper's D, which is n_latents there
    n_heads: int = 4
    n_layers: int = 3
    # Of the four convolutions over r: `hires` looks as far, in seconds, as the paper does with none.
    dilations: tuple[int, ...] = (1, 2, 4, 8)
    is_detailed: bool = True  # r is velocities, offsets and phases too, not probabilities alone
    has_whole_values: bool = True  # every head carries all latent channels, not a part of them (decision 4)
    codec: str = ""  # fingerprint of the encoder whose latents it was trained on

    def __post_init__(self) -> None:
        check_ranges(
            self,
            hop=(64, 2**14),
            n_latents=(1, 1024),
            n_activations=(1, 2**16),
            width=(1, 4096),
            n_heads=(1, 32),
            n_layers=(1, 32),
            dilations=(1, 256),
        )
        if self.width % self.n_heads:
            raise SettingsError(f"a width of {self.width} cannot be divided among {self.n_heads} heads")
        if self.width < self.n_latents and not self.has_whole_values:
            raise SettingsError(f"heads of {self.width} channels cannot carry {self.n_latents} latents")

    @property
    def n_rhythm(self) -> int:
        """R: channels of a rhythm in a frame."""
        return len(CLASSES) * (3 + 1 + _N_PHASES if self.is_detailed else 1)

    @property
    def n_sounding(self) -> int:
        """Channels by which B_rhythm compares frames."""
        return len(CLASSES) * _N_PHASES + 1 if self.is_detailed else self.n_rhythm


CONFIGURATIONS = {
    "hires": RhythmConfig(),
    "paper": RhythmConfig(
        hop=2048, n_activations=1024, dilations=(1, 1, 1, 1), is_detailed=False, has_whole_values=False
    ),
}


def config_for(codec: CodecConfig, fingerprint: str) -> RhythmConfig:
    """Return the configuration that goes with a codec of this shape and fingerprint."""
    kind = CONFIGURATIONS["paper" if codec.encoder == "rave" else "hires"]
    return replace(
        kind, hop=codec.hop, n_latents=codec.n_latents, n_activations=codec.widths[-1], codec=fingerprint
    )


class Target(NamedTuple):
    """The target rhythm: the paper's condition c_t."""

    rhythm: Tensor  # (B, R, F): r, as `rhythm_frames` returns it
    activations: Tensor | None = None  # (B, C, F): a, the encoder's; None where there is no recording
    has_activations: Tensor | None = None  # (B,): the items that have them; None: all


class Source(NamedTuple):
    """The frames that may be copied.

    Without `mask` they are a segment on the target's own time, S = F frames. With it they are a bank:
    frames from anywhere, those that are masked out being padding (decision 14).
    """

    mu: Tensor  # (B, D, S)
    rhythm: Tensor  # (B, R, S): r of the source
    mask: Tensor | None = None  # (B, S), False for padding


class Transformed(NamedTuple):
    """The source's sounds in the target's rhythm."""

    mu: Tensor  # (B, D, F)
    sigma: Tensor  # (B, D, F)
    attention: Tensor  # (B, F, S + 1): what each frame is made of over all layers, the last silence; or empty
    layers: tuple[Tensor, ...]  # (B, H, F, keys + 1) of each layer, the last key being silence
    channels: tuple[Tensor, Tensor] | None = None  # mu and sigma (C, D, F) of the channels that were given

    def sample(self, variation: float = 1.0) -> Tensor:
        """Return latents (B, D, F) drawn around mu; `variation` scales the deviation (decision 13)."""
        return self.mu + variation * self.sigma * torch.randn_like(self.sigma)


# A rhythm, frame by frame: r.


def rhythm_frames(
    config: RhythmConfig, probability: Tensor, velocity: Tensor, offset_frames: Tensor, n_frames: int
) -> Tensor:
    """Return r on latent frames, shape (B, R, F): the paper's class probabilities, and more in `hires`.

    Probabilities are the largest within a latent frame (decision 8). `hires` adds the velocity and the onset's
    place within the frame, both weighted by the probability, as they mean nothing elsewhere; and, because all
    of these are empty between onsets, how long ago each class was last struck, as 14 bumps on a logarithmic
    axis, and how hard. A bank's frames are picked from this result, never before.

    Args:
        config: the transformer's.
        probability: of an onset of each class, shape (B, 5, F'), 100 frames a second from sample 0 on.
        velocity: of that onset, 0..1, the same shape.
        offset_frames: the onset's time less the frame's, in frames of the transcriber, the same shape.
        n_frames: latent frames.
    """
    ratio = config.hop / ACTIVATION_HOP
    latent = torch.arange(n_frames, device=probability.device)
    first = -torch.div(-latent * config.hop, ACTIVATION_HOP, rounding_mode="floor")
    index = first[:, None] + torch.arange(math.ceil(ratio), device=latent.device)  # (F, n)
    is_inside = (index * ACTIVATION_HOP < (latent[:, None] + 1) * config.hop) & (index < probability.shape[-1])
    index = index.clamp_max(probability.shape[-1] - 1)
    inside = torch.where(is_inside, probability[..., index], 0.0)  # (B, 5, F, n)
    height, best = inside.max(dim=-1)
    if not config.is_detailed:
        return height
    chosen = index.expand_as(inside).gather(-1, best[..., None])[..., 0]
    onset = (chosen + offset_frames.gather(-1, chosen).clamp(-1, 1)) / ratio
    place = onset - (latent + 0.5)  # in latent frames, from the frame's middle
    struck = velocity.gather(-1, chosen)
    bumps, last_struck = _since_onset(height, struck, place, config)
    return torch.cat((height, height * struck, height * place, last_struck, bumps), dim=1)


def rhythm_window(
    config: RhythmConfig, activations: Callable[[int, int], Activations], first: int, last: int
) -> Tensor:
    """Return r (1, R, last - first) of some latent frames of a rhythm of any length, as of the whole of it.

    Args:
        config: the transformer's.
        activations: returns those of frames [begin, end) of the transcriber, end - begin of them.
        first: a latent frame.
        last: the latent frame after the window.
    """
    unit = ACTIVATION_HOP // math.gcd(config.hop, ACTIVATION_HOP)  # at every so many frames both kinds begin
    n_before = round(ONSET_MEMORY_S * SAMPLE_RATE / config.hop) + 1
    origin = max(0, first - n_before) // unit * unit
    begin = origin * config.hop // ACTIVATION_HOP
    transcribed = activations(begin, max(begin + 1, -(-last * config.hop // ACTIVATION_HOP)))
    probability, velocity, offset, _ = (torch.from_numpy(np.ascontiguousarray(x))[None] for x in transcribed)
    return rhythm_frames(config, probability, velocity, offset, last - origin)[..., first - origin :]


def scale_velocities(config: RhythmConfig, rhythm: Tensor, factor: float) -> Tensor:
    """Return r (B, R, F) of the same strokes at `factor` times their velocities, 0..1."""
    if not config.is_detailed:
        return rhythm
    n, softer = len(CLASSES), rhythm.clone()
    softer[:, n : 2 * n] *= factor
    softer[:, 3 * n : 4 * n] *= factor
    return softer


def _n_lags(hop: int) -> int:
    return round(ONSET_MEMORY_S * SAMPLE_RATE / hop) + 1


def _since_onset(
    probability: Tensor, velocity: Tensor, place: Tensor, config: RhythmConfig
) -> tuple[Tensor, Tensor]:
    """Return how long ago each class was last struck as bumps (B, 5 * 14, F), and how hard (B, 5, F).

    That the last onset lies l frames back is as probable as an onset there and none since. All are zero
    where no onset was for a second.
    """
    n_lags = _n_lags(config.hop)
    quiet = torch.log1p(-probability.clamp_max(0.999)).cumsum(dim=-1)

    def past(x: Tensor, before: float) -> Tensor:  # (B, 5, F) -> (B, 5, F, lags), latest last
        return functional.pad(x, (n_lags - 1, 0), value=before).unfold(-1, n_lags, 1)

    is_last = past(probability, 0.0) * torch.exp(quiet[..., None] - past(quiet, 0.0))
    ago = torch.arange(n_lags - 1, -1, -1, device=place.device) - past(place, 0.0)  # in frames
    position = torch.log2((ago + 2).clamp_min(1.0))  # an onset just ahead is at 0, one now at 1
    last = math.log2(n_lags + 1)
    centres = torch.linspace(0, last, _N_PHASES, device=place.device)
    spacing = last / (_N_PHASES - 1)
    bumps = [
        (is_last * (1 - (position - centre).abs() / spacing).clamp_min(0)).sum(dim=-1) for centre in centres
    ]
    return torch.stack(bumps, dim=2).flatten(1, 2), (is_last * past(velocity, 0.0)).sum(dim=-1)


def activations_of_events(
    events: Sequence[DrumEvent],
    n_frames: int,
    *,
    heights: Sequence[float],
    widths: Sequence[float],
) -> Activations:
    """Return events as a transcriber's activations: a triangle of probability around each onset (decision 11).

    Args:
        events: of a rhythm; no recording is needed.
        n_frames: frames of the transcriber, 100 a second.
        heights: of each event's peak, 0..1. Velocities are apart from it, in their own channel.
        widths: frames from each peak to where its triangle ends.
    """
    shape = len(CLASSES), n_frames
    probability, velocity = np.zeros(shape, dtype=np.float32), np.zeros(shape, dtype=np.float32)
    offset, openness = np.zeros(shape, dtype=np.float32), np.zeros(n_frames, dtype=np.float32)
    for event, height, width in zip(events, heights, widths, strict=True):
        c = CLASSES.index(event.drum_class)
        onset = event.onset_s * SAMPLE_RATE / ACTIVATION_HOP
        for frame in range(max(0, math.ceil(onset - width)), min(n_frames, math.floor(onset + width) + 1)):
            here = height * (1 - abs(frame - onset) / width)
            if here > probability[c, frame]:
                probability[c, frame], velocity[c, frame] = here, event.velocity
                offset[c, frame] = onset - frame
                if event.drum_class == "HH":
                    openness[frame] = event.articulation == "open"
    return Activations(probability, velocity, offset, openness[None])


# The query: fusers and gate.


def _fuser(n_in: int, width: int, kernel: int, dilations: tuple[int, ...]) -> nn.Sequential:
    """Return four convolutions over time with leaky rectifiers, (B, C, F) -> (B, 2 * width, F)."""
    layers: list[nn.Module] = []
    for dilation in dilations:
        padding = dilation * (kernel // 2)
        layers += [nn.Conv1d(n_in, 2 * width, kernel, padding=padding, dilation=dilation), nn.LeakyReLU(_LEAK)]
        n_in = 2 * width
    return nn.Sequential(*layers)


class Gate(nn.Module):
    """Merges r_e and a_e (B, F, 2 * D) into the query (B, F, D): equation 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weigh = nn.Linear(4 * width, 2 * width)  # W_g
        self.project = nn.Linear(2 * width, width)

    def forward(self, r_e: Tensor, a_e: Tensor) -> Tensor:
        """Return the query."""
        gate = torch.sigmoid(self.weigh(torch.cat((r_e, a_e), dim=-1)))  # lambda
        q: Tensor = self.project(gate * r_e + (1 - gate) * a_e)
        return q


# One layer.


class Sounding(nn.Module):
    """What must sound in frames by their rhythm: r (B, F, R) -> (B, F, 71) of unit length.

    Each class counts as much as it was struck hard and has not yet died away; the last channel is silence. So
    frames are alike if what is loud in them is of one class and age, whatever else was struck long before.
    """

    def __init__(self) -> None:
        super().__init__()
        ago = torch.exp2(torch.linspace(0, math.log2(_n_lags(_HIRES_HOP) + 1), _N_PHASES)) - 2
        ago_s = ago.clamp_min(0) * _HIRES_HOP / SAMPLE_RATE
        self.fading = nn.Parameter(-ago_s / torch.tensor(_DECAYS_S)[:, None])  # logarithms, (5, 14)
        self.silence = nn.Parameter(torch.tensor(math.log(0.4)))

    def forward(self, r: Tensor) -> Tensor:
        """Return what sounds."""
        n = len(CLASSES)
        bumps = r[..., -n * _N_PHASES :].reshape(*r.shape[:-1], n, _N_PHASES)
        struck = r[..., -n * (_N_PHASES + 1) : -n * _N_PHASES] / bumps.sum(dim=-1).clamp_min(1e-3)
        loud = (bumps * struck[..., None] * self.fading.exp()).flatten(-2)
        whole = torch.cat((loud, self.silence.exp().expand(*loud.shape[:-1], 1)), dim=-1)
        return functional.normalize(whole, dim=-1)


class Attention(nn.Module):
    """Attention from the query to the current latents u: the weights of equation 2.

    It begins as B_rhythm, the likeness of what sounds in two frames (decision 2), weighed sharply: a mean of
    different frames sounds like none of them. In the first layer gamma begins small and delta large, as a
    frame's place in one recording hardly predicts its place in another (decision 3). Later layers find u on
    the target's own time: there each frame begins by attending to itself.
    """

    def __init__(self, config: RhythmConfig, *, is_first: bool) -> None:
        super().__init__()
        width, n_heads, n_latents = config.width, config.n_heads, config.n_latents
        n_sounding = config.n_sounding
        self.n_heads = n_heads
        self.to_query = nn.Linear(width, width)
        self.to_key = nn.Linear(n_latents, width)
        self.rhythm_query = nn.Linear(n_sounding, n_heads * n_sounding)
        self.rhythm_key = nn.Linear(n_sounding, n_heads * n_sounding, bias=False)
        self.distances = nn.Parameter(torch.zeros(n_heads, _NOWHERE + 1))  # of which B_rel is made
        self.gamma = nn.Parameter(torch.full((n_heads,), 0.1 if is_first else 1.0))
        sharpness = _SHARPNESS[0 if is_first else 1] if config.is_detailed else 2.0
        self.delta = nn.Parameter(torch.full((n_heads,), sharpness))
        with torch.no_grad():
            nn.init.zeros_(self.to_query.weight)
            nn.init.zeros_(self.to_query.bias)
            for rhythm in (self.rhythm_query, self.rhythm_key):
                rhythm.weight.copy_(torch.eye(n_sounding).repeat(n_heads, 1))
            nn.init.zeros_(self.rhythm_query.bias)
            if not is_first:
                self.distances[:, 1:] = -9.0  # bucket 0 is the frame itself

    def forward(self, q: Tensor, sounding: Tensor, keys: Keys) -> Tensor:
        """Return attention (B, H, F, keys).

        Args:
            q: the query, shape (B, F, D).
            sounding: what must sound by the target's rhythm, shape (B, F, n_sounding).
            keys: what may be copied.
        """
        key = self.key(keys) if keys.key is None else keys.key
        query = self._heads(self.to_query(q))
        with torch.autocast(q.device.type, enabled=False):  # eight bits are too coarse to distinguish keys
            query = query.float() / math.sqrt(query.shape[-1])
            # delta is multiplied with one factor of B_rhythm, which is small, rather than with the product.
            rhythm_query = self.delta[:, None, None] * self._heads(self.rhythm_query(sounding))
            # Q K^T + delta B_rhythm, a sum of two products, is one product of what stands side by side.
            logits = torch.cat((query, rhythm_query), dim=-1) @ key.mT
            if keys.distance is not None:
                logits = logits + self.gamma[:, None, None] * self.distances[:, keys.distance]
            if keys.mask is not None:
                logits = logits.masked_fill_(~keys.mask[:, None, None], -torch.inf)
            return _softmax(logits)

    def key(self, keys: Keys) -> Tensor:
        """Return what queries are compared with, shape (B, H, keys, d + n_sounding)."""
        even = functional.layer_norm(keys.u[: len(keys.sounding)], keys.u.shape[-1:])
        key = self._heads(self.to_key(even))
        with torch.autocast(key.device.type, enabled=False):
            return torch.cat((key.float(), self._heads(self.rhythm_key(keys.sounding))), dim=-1)

    def _heads(self, x: Tensor) -> Tensor:
        """Return x (B, F, H * d) as (B, H, F, d)."""
        return x.reshape(*x.shape[:2], self.n_heads, -1).transpose(1, 2)


class Block(nn.Module):
    """Cross-attention from the query to the current latents u (equation 2), then a feed-forward layer.

    It begins by copying: values are the latents, and the feed-forward layer adds nothing (decision 4).
    """

    def __init__(self, config: RhythmConfig, *, is_first: bool) -> None:
        super().__init__()
        width, n_heads, n_latents = config.width, config.n_heads, config.n_latents
        n_values = n_heads * n_latents if config.has_whole_values else width
        self.attention = Attention(config, is_first=is_first)
        self.to_value = nn.Linear(n_latents, n_values, bias=False)
        self.leave = nn.Linear(n_values, n_latents, bias=False)
        self.alpha_logit = nn.Parameter(torch.tensor(_ALPHA))
        self.widen = nn.Linear(n_latents + 2 * width, 2 * width)
        self.narrow = nn.Linear(2 * width, n_latents)
        with torch.no_grad():
            if config.has_whole_values:
                self.to_value.weight.copy_(torch.eye(n_latents).repeat(n_heads, 1))
                self.leave.weight.copy_(torch.eye(n_latents).repeat(1, n_heads) / n_heads)
            else:
                nn.init.eye_(self.to_value.weight)
                nn.init.eye_(self.leave.weight)
        _begin_at_zero(self.narrow)

    def forward(self, q: Tensor, r_e: Tensor, sounding: Tensor, keys: Keys) -> Fetched:
        """Return what the block fetches.

        Args:
            q: the query, shape (B, F, D).
            r_e: embedding of the target's rhythm, for the feed-forward layer, shape (B, F, 2 * D).
            sounding: what must sound by the target's rhythm, shape (B, F, n_sounding).
            keys: what may be copied.
        """
        attention = self.attention(q, sounding, keys)
        # A (u V) L = (A u) (V L) for the values V and output projection L of a head: all heads attend to one u,
        # of which there are many more frames than of the target.
        weights = self.to_value.weight, self.leave.weight.mT
        value, projection = (torch.unflatten(weight, 0, (attention.shape[1], -1)) for weight in weights)
        copied: Tensor = _fetched(attention, keys.u) @ (value.mT @ projection).flatten(0, 1)
        even = functional.layer_norm(copied, copied.shape[-1:])
        seen = torch.cat((even, r_e.expand(len(copied), -1, -1)), dim=-1)
        out: Tensor = copied.float() + self.narrow(functional.leaky_relu(self.widen(seen), _LEAK)).float()
        return Fetched.of(keys, out, attention, attention.mean(dim=1))


class Mixer(nn.Module):
    """The first layer of `hires`, beyond the paper: every head copies whole frames, and a network mixes them.

    Few sources hold all that a rhythm lets sound together. The first head finds the frames that are most like
    what must sound, and what it copies is where the output begins; the others begin by looking for the low
    drums, the snare and the cymbals alone. What is added to the first head's copy follows from all copies, from
    what sounded in them and from what must sound.
    """

    def __init__(self, config: RhythmConfig) -> None:
        super().__init__()
        n_heads, n_sounding = config.n_heads, config.n_sounding
        self.attention = Attention(config, is_first=True)
        self.alpha_logit = nn.Parameter(torch.tensor(_ALPHA))
        n_seen = n_heads * config.n_latents + 2 * config.width + (n_heads + 1) * n_sounding
        self.widen = nn.Linear(n_seen, 4 * config.width)
        self.narrow = nn.Linear(4 * config.width, config.n_latents)
        _begin_at_zero(self.narrow)
        keys = torch.unflatten(self.attention.rhythm_key.weight, 0, (n_heads, n_sounding))
        with torch.no_grad():
            for head in range(1, n_heads):
                sought = _SOUGHT[(head - 1) % len(_SOUGHT)]
                weight = torch.tensor([1.0 if c in sought else _ELSE for c in CLASSES])
                keys[head].mul_(functional.pad(weight.repeat_interleave(_N_PHASES), (0, 1), value=1.0))

    def forward(self, q: Tensor, r_e: Tensor, sounding: Tensor, keys: Keys) -> Fetched:
        """Return what the layer fetches; its arguments are those of `Block`."""
        attention = self.attention(q, sounding, keys)
        copied = torch.unflatten(_fetched(attention, keys.u), -1, (attention.shape[1], -1))  # (N, F, H, D)
        even = functional.layer_norm(copied, copied.shape[-1:]).flatten(2)
        condition = torch.cat((r_e, _fetched(attention, keys.sounding), sounding), dim=-1)
        seen = torch.cat((even, condition.expand(len(copied), -1, -1)), dim=-1)
        added = self.narrow(functional.leaky_relu(self.widen(seen), _LEAK))
        return Fetched.of(keys, copied[:, :, 0].float() + added.float(), attention, attention[:, 0])


def _begin_at_zero(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)


def _fetched(attention: Tensor, of_keys: Tensor) -> Tensor:
    """Return what attention (B, H, F, keys) leads to of (N, keys, C), head beside head: (N, F, H * C)."""
    of_keys, merged = of_keys.to(attention.dtype), attention.flatten(1, 2)
    if len(of_keys) == len(attention):
        fetched = merged @ of_keys
    else:  # channels with common attention lie side by side in one product
        side = merged[0] @ of_keys.transpose(0, 1).flatten(1)
        fetched = torch.unflatten(side, 1, (len(of_keys), -1)).transpose(0, 1)
    return torch.unflatten(fetched, 1, attention.shape[1:3]).transpose(1, 2).flatten(2)


def _softmax(logits: Tensor) -> Tensor:
    """Return attention; in use, without what is too little for single precision to notice beside the rest.

    Sharp attention is full of denormal numbers, with which processors are many times slower.
    """
    if torch.is_grad_enabled():
        return torch.softmax(logits, dim=-1)
    logits = logits.clamp_min_(logits.amax(dim=-1, keepdim=True) - _NEVER)
    return torch.threshold_(torch.softmax(logits, dim=-1), _NOTHING, 0.0)


class Fetched(NamedTuple):
    """What a layer makes of its keys."""

    u: Tensor  # (N, F, D)
    rhythm: Tensor  # (B, F, R): r of what is copied
    attention: Tensor  # (B, H, F, keys)
    copied: Tensor  # (B, F, keys): how much of each key u is made of; A_l, or a mixer's first head's attention

    @classmethod
    def of(cls, keys: Keys, u: Tensor, attention: Tensor, copied: Tensor) -> Fetched:
        """Return it with the rhythm of what is copied."""
        with torch.autocast(u.device.type, enabled=False):
            return cls(u, copied @ keys.rhythm, attention, copied)


class Keys(NamedTuple):
    """What a layer may copy: the current latents, and silence as the last."""

    u: Tensor  # (N, keys, D): the first B are attended to, channels of the source (N > B = 1) follow
    rhythm: Tensor  # (B, keys, R): r, of silence nothing
    sounding: Tensor  # (B, keys, n_sounding)
    # (F, keys): buckets of relative position, by which B_rel is read. Those of a bank would all be the same,
    # which changes no attention: None.
    distance: Tensor | None
    mask: Tensor | None  # (B, keys)
    key: Tensor | None = None  # what the layer's queries are compared with, where it is computed already

    def on(self, device: torch.device) -> Keys:
        """Return the keys on a device."""
        return Keys(*(None if x is None else x.to(device) for x in self))  # type: ignore[arg-type]


@lru_cache(maxsize=8)
def _distances(n_frames: int, device: torch.device) -> Tensor:
    """Return the buckets (F, F + 1) of how far each key is ahead or behind: exact to 8 frames, then in ratios.

    Silence, the last key, is nowhere.
    """
    with torch.inference_mode(False):  # they are cached, and training may be the next to use them
        frame = torch.arange(n_frames, device=device)
        steps = frame - frame[:, None]
        far, half = steps.abs(), _N_DISTANCES // 2
        ratio = torch.log2(far.clamp_min(half) / half)  # 1 at 16 frames, 5 at 256
        bucket = torch.where(far < half, far, half + (1.5 * ratio).long()).clamp_max(_N_DISTANCES - 1)
        bucket = torch.where(steps < 0, bucket + _N_DISTANCES, bucket)
        return functional.pad(bucket, (0, 1), value=_NOWHERE)


# The whole.


class RhythmNet(nn.Module):
    """Source and target -> the source's sounds in the target's rhythm."""

    def __init__(self, config: RhythmConfig) -> None:
        super().__init__()
        self.config = config
        width, n_latents = config.width, config.n_latents
        self.fuse_r = _fuser(config.n_rhythm, width, 5, config.dilations)
        self.fuse_a = _fuser(config.n_activations, width, 3, (1, 1, 1, 1))
        self.no_a = nn.Parameter(torch.zeros(2 * width))  # stands for a_e where there is no a (decision 11)
        self.gate = Gate(width)
        self.sounding: nn.Module = Sounding() if config.is_detailed else nn.Identity()
        first = Mixer(config) if config.is_detailed else Block(config, is_first=True)
        later = (Block(config, is_first=False) for _ in range(config.n_layers - 1))
        self.blocks = nn.ModuleList((first, *later))
        self.silence = nn.Parameter(torch.zeros(n_latents))  # can always be copied (decision 6)
        last = nn.Conv1d(n_latents, n_latents, 1)
        self.deviation = nn.Sequential(nn.Conv1d(n_latents, n_latents, 1), nn.LeakyReLU(_LEAK), last)  # f_sigma
        assert last.bias is not None
        nn.init.constant_(last.bias, -5.0)  # deviations begin small, as the codec's do

    def forward(
        self,
        source: Source | Keys,
        target: Target,
        channels: Tensor | None = None,
        *,
        with_attention: bool = True,
    ) -> Transformed:
        """Return the source's latents in the target's rhythm.

        Args:
            source: what may be copied; a bank that is to serve many targets as the keys that it was made into.
            target: the rhythm.
            channels: latents (C, D, S) of the channels of the source, of which there is one then: what becomes
                of them, by the source's attention weights, is returned too (decision 15).
            with_attention: whether to return what each frame is made of over all layers, which takes a while.
        """
        r_e, q = self.query(target)
        sounding = self.sounding(target.rhythm.mT.float())
        keys = source if isinstance(source, Keys) else self._first_keys(source, channels)
        is_bank = keys.distance is None
        u, r_u = keys.u[:, :-1], keys.rhythm[:, :-1]  # u^(0), r^(0)
        made_of: Tensor | None = None  # (B, F, S + 1): what u is made of; at first, of itself
        layers = []
        for block, alpha in zip(self.blocks, self.alphas(), strict=True):
            keys = keys if block is self.blocks[0] else self._keys(u, r_u)
            found = block(q, r_e, sounding, keys)
            with torch.autocast(u.device.type, enabled=False):
                layers.append(found.attention)
                if with_attention:
                    composed = found.copied if made_of is None else _composed(found.copied, made_of)
                if is_bank:  # it is not on the target's time: alpha is 1, nothing stays
                    u, r_u, is_bank = found.u, found.rhythm, False
                    made_of = composed if with_attention else None
                    continue
                u = (1 - alpha) * u + alpha * found.u
                r_u = (1 - alpha) * r_u + alpha * found.rhythm
                if with_attention:
                    if made_of is None:
                        made_of = functional.pad(torch.eye(u.shape[1], device=u.device), (0, 1))
                    made_of = (1 - alpha) * made_of + alpha * composed
        mu, sigma, n = u.mT, self._sigma(u.mT), len(q)
        others = (mu[n:], sigma[n:]) if len(mu) > n else None
        attention = mu.new_zeros(0) if made_of is None else made_of
        return Transformed(mu[:n], sigma[:n], attention, tuple(layers), others)

    def bank_keys(self, source: Source, channels: Tensor | None = None) -> Keys:
        """Return a bank, and its channels, as the keys that serve any number of targets."""
        assert source.mask is not None
        keys = self._first_keys(source, channels)
        if source.mask.all():
            keys = keys._replace(mask=None)
        first = self.blocks[0].attention
        assert isinstance(first, Attention)
        return keys._replace(key=first.key(keys))

    def _sigma(self, mu: Tensor) -> Tensor:
        """Return the deviations that go with means (B, D, F): equation 3."""
        return functional.softplus(self.deviation(mu).float()) + _EPSILON

    def alphas(self) -> Tensor:
        """Return, for each layer, how much of its result replaces what was there, 0..1."""
        return torch.sigmoid(torch.stack([block.alpha_logit for block in self.blocks]))  # type: ignore[misc]

    def query(self, target: Target) -> tuple[Tensor, Tensor]:
        """Return r_e (B, F, 2 * D) and the query q (B, F, D) of equation 1.

        a is normalised over the frames given, and no gradient goes back through it (decision 1).
        """
        r_e = self.fuse_r(target.rhythm).mT
        a_e = self.no_a.expand_as(r_e)
        if target.activations is not None:
            a = target.activations.detach()
            variance, mean = torch.var_mean(a, dim=-1, keepdim=True, correction=0)
            fused = self.fuse_a((a - mean) / torch.sqrt(variance + 1e-5)).mT
            has_a = target.has_activations
            a_e = fused if has_a is None else torch.where(has_a[:, None, None], fused, a_e)
        return r_e, self.gate(r_e, a_e)

    def _first_keys(self, source: Source, channels: Tensor | None) -> Keys:
        u = source.mu.mT if channels is None else torch.cat((source.mu, channels)).mT
        return self._keys(u, source.rhythm.mT, source.mask)

    def _keys(self, u: Tensor, r_u: Tensor, mask: Tensor | None = None) -> Keys:
        """Return the current frames and silence, of which nothing is struck, as a layer's keys."""
        distance = _distances(u.shape[1], u.device) if mask is None else None
        if mask is not None:
            mask = functional.pad(mask, (0, 1), value=True)
        rhythm = functional.pad(r_u, (0, 0, 0, 1))
        return Keys(self._with_silence(u), rhythm, self.sounding(rhythm.float()), distance, mask)

    def _with_silence(self, u: Tensor) -> Tensor:
        return torch.cat((u, self.silence.expand(len(u), 1, -1)), dim=1)


def _composed(attention: Tensor, made_of: Tensor) -> Tensor:
    """Return what frames are made of (B, F, S + 1) that are an attention's mean of frames made of `made_of`."""
    out = attention[..., :-1] @ made_of
    return torch.cat((out[..., :-1], out[..., -1:] + attention[..., -1:]), dim=-1)


def load_rhythm(path: Path, codec: Codec) -> RhythmNet:
    """Return the transformer of a weights file, in evaluation mode.

    Raises:
        CheckpointError: the file is missing, damaged or of another model, or was trained on another codec.
    """
    net = load_net(path, "rhythm", RhythmConfig, RhythmNet)
    config, fits = net.config, config_for(codec.config, codec.fingerprint)
    ours, theirs = ((c.n_latents, c.hop, c.n_activations) for c in (config, fits))
    hint = "take both from one preset, or train it on this codec with `redrum train rhythm`"
    if ours != theirs:
        raise CheckpointError(
            f"{path} transforms {ours[0]} latents every {ours[1]} samples; the codec beside it has {theirs[0]} "
            f"every {theirs[1]}",
            hint=hint,
        )
    if config.codec != fits.codec:
        raise CheckpointError(f"{path} was trained on other weights of the codec beside it", hint=hint)
    return net
