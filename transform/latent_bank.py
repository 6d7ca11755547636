"""The frames that the `latent` engine may copy: a source's latents, and the rhythm in them.

A short source is taken whole. Of a long one frames are chosen so that every kind of stroke is among them
(docs/method.md, decision 14); only these are encoded, so neither time nor memory grows with its length. Each is
there as it was recorded and turned down, as a stroke of a lower velocity.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transform.audio import SAMPLE_RATE
from transform.codec import Codec
from transform.events import CLASSES, DrumEvent
from transform.hits import dominant_class
from transform.listening import Listening
from transform.noise import channel_coherence
from transform.onsets import groups
from transform.resampling import Resampled
from transform.rhythm_transformer import ONSET_MEMORY_S, RhythmConfig, Source, rhythm_window, scale_velocities
from transform.signal import Block, Signal
from transform.velocity import LEVEL_EXPONENT

GAINS = (1.0, 0.5, 0.25)  # a frame is copied as loud as it is, and a source has few dynamics of its own
_MOST_FRAMES = 512  # at each gain
_MOST_SAMPLES = 512 * 512  # of frames that are longer there are fewer
_LEAD_FRAMES = 2  # before an onset: their latents depend on it
_RINGING_S = 0.3  # how long a stroke is counted as sounding along with the next
_N_LOUDNESSES = 4


class LatentBank(NamedTuple):
    """Frames of a source."""

    source: Source  # of all its channels: their latents' mean
    channels: Tensor | None  # (C, D, S): of each channel; None where there is but one, or all are the same
    coherence: tuple[float, ...] = (1.0,)  # of the channels, by octave from where the codec makes noise


def latent_bank(
    codec: Codec,
    config: RhythmConfig,
    source: Listening,
    *,
    sound: Signal | None = None,
    classes: Collection[str] = CLASSES,
) -> LatentBank:
    """Return the frames of a source that may be copied: all at the first gain, then all at the next.

    Args:
        codec: encodes them.
        config: of the transformer that will copy them.
        source: the recording, in which something is struck.
        sound: what is encoded, and sounds where and as the recording does; None: the recording.
        classes: whose strokes are in it.
    """
    recording, hop, context = source.recording, config.hop, codec.encoder_context
    n_frames = -(-max(1, round(recording.n_samples * SAMPLE_RATE / recording.sample_rate)) // hop)
    chosen = chosen_frames([event for event in source.events if event.drum_class in classes], n_frames, hop)
    activations = partial(source.activations_of, classes=classes)
    regions, rhythm = [], []
    for first, last in _runs(chosen, 2 * context + 1):
        index = torch.from_numpy(chosen[(chosen >= first) & (chosen < last)])
        rhythm.append(rhythm_window(config, activations, first, last)[..., index - first])
        block = Block.of(first, last, context=context, length=n_frames)
        regions.append(_Region(block.begin, block.end, index - block.begin))
    mu, coherence = _encoded(codec, Resampled(sound or recording, SAMPLE_RATE), regions)
    r = torch.cat(rhythm, dim=-1)
    r = torch.cat([scale_velocities(config, r, gain ** (1 / LEVEL_EXPONENT)) for gain in GAINS], dim=-1)
    mask = torch.ones(1, mu.shape[-1], dtype=torch.bool)
    # The latents of the channels' mean would take as long as a channel's and lie nearby (docs/method.md,
    # decision 15); where there are several channels, these latents are attended to and never decoded.
    source_latents = Source(mu.mean(dim=0, keepdim=True), r, mask)
    return LatentBank(source_latents, mu if len(mu) > 1 else None, coherence)


class _Region(NamedTuple):
    """Frames [begin, end) of a source, with the encoder's context on either side of those to encode."""

    begin: int
    end: int
    frames: Tensor  # to encode, counted from `begin`


def _encoded(codec: Codec, sound: Resampled, regions: Sequence[_Region]) -> tuple[Tensor, tuple[float, ...]]:
    """Return the latents (C, D, S) of the regions' frames of each channel, and the channels' coherence.

    All frames come at the first gain, then all at the next.
    Channels that are the same everywhere are one: (1, D, S). Regions are encoded side by side, as many short
    ones take longer than a long one: what a frame depends on lies within its region.
    """
    hop, first_hz, together = codec.config.hop, codec.config.first_noise_hz, []
    read: list[Tensor] = []
    latents: list[list[Tensor]] = [[] for _ in GAINS]
    for number, region in enumerate(regions):
        together.append(region)
        n_frames = sum(s.end - s.begin for s in together)
        following = regions[number + 1 : number + 2]
        if following and n_frames + following[0].end - following[0].begin <= codec.block_frames:
            continue
        audio = torch.cat([torch.from_numpy(sound.read(s.begin * hop, s.end * hop)) for s in together], dim=1)
        read += [audio] if first_hz else []
        audio = audio[:1] if bool((audio == audio[:1]).all()) else audio
        places = np.cumsum([0, *(s.end - s.begin for s in together)])
        frames = torch.cat([s.frames + int(place) for s, place in zip(together, places, strict=False)])
        for turned_down, gain in zip(latents, GAINS, strict=True):
            turned_down.append(codec.encode(gain * audio, frames).mu)
        together = []
    every = [mu for turned_down in latents for mu in turned_down]
    n_coded = max(len(mu) for mu in every)
    coherence = channel_coherence(torch.cat(read, dim=1), SAMPLE_RATE, first_hz) if read else (1.0,)
    return torch.cat([mu.expand(n_coded, -1, -1) for mu in every], dim=-1), coherence


def chosen_frames(events: Sequence[DrumEvent], n_frames: int, hop: int) -> NDArray[np.int64]:
    """Return which of a source's frames may be copied, in order: all of a short source.

    Strokes are taken with what follows them, up to the next, so that of each one frames of all phases are
    there. Each kind of stroke comes in turn, first its longest: a kind is the classes that fall together, how
    hard they are struck, and the classes that still ring. Simple kinds come first.

    Args:
        events: of the source.
        n_frames: that it has.
        hop: samples a frame.
    """
    most = min(_MOST_FRAMES, max(1, _MOST_SAMPLES // hop))
    if n_frames <= most:
        return np.arange(n_frames)
    kinds: dict[tuple[frozenset[str], int, frozenset[str]], list[tuple[int, int]]] = {}
    strokes = groups(events)
    frames = [min(n_frames - 1, int(group[0].onset_s * SAMPLE_RATE / hop)) for group in strokes]
    last_struck: dict[str, float] = {}
    for group, frame, following in zip(strokes, frames, [*frames[1:], n_frames], strict=True):
        struck = frozenset(event.drum_class for event in group)
        velocity = next(e.velocity for e in group if e.drum_class == dominant_class(struck))
        onset_s = group[0].onset_s
        ringing = frozenset(c for c, s in last_struck.items() if onset_s - s < _RINGING_S) - struck
        end = min(following, frame + round(ONSET_MEMORY_S * SAMPLE_RATE / hop))
        kind = struck, min(_N_LOUDNESSES - 1, int(velocity * _N_LOUDNESSES)), ringing
        kinds.setdefault(kind, []).append((max(0, frame - _LEAD_FRAMES), max(end, frame + 1)))
        last_struck |= dict.fromkeys(struck, onset_s)
    in_turn = []
    for (struck, _, ringing), regions in kinds.items():
        for turn, region in enumerate(sorted(regions, key=lambda s: (s[0] - s[1], s[0]))):
            in_turn.append((turn, len(struck) + len(ringing), *region))
    is_chosen = np.zeros(n_frames, dtype=np.bool_)
    left = most
    for _, _, begin, end in sorted(in_turn):
        new = np.flatnonzero(~is_chosen[begin:end])[:left] + begin
        is_chosen[new] = True
        left -= len(new)
    return np.flatnonzero(is_chosen)


def _runs(frames: NDArray[np.int64], gap: int) -> Iterator[tuple[int, int]]:
    """Yield regions [first, last) that hold the frames; frames at most `gap` apart are in one."""
    ends = np.flatnonzero(np.diff(frames) > gap)
    for first, last in zip(frames[[0, *(ends + 1)]], frames[[*ends, len(frames) - 1]], strict=True):
        yield int(first), int(last) + 1
