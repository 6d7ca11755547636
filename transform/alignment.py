"""Which strokes of a source's low drums are encoded once more, at which places within a frame, and how loud.

A rhythm needs few of them: only the places, classes and velocities that it plays (docs/method.md, decision 18).
For each the strokes of the source are taken that come nearest to its velocity, as they are or turned down.
Their number is bounded: what an encoder has to do is the same for a bar and for an hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transform.audio import SAMPLE_RATE
from transform.events import DrumEvent
from transform.hits import dominant_class
from transform.onsets import groups
from transform.placing import LOW, N_PLACING, Places, source_placing
from transform.rhythm_transformer import (
    ACTIVATION_HOP,
    ONSET_MEMORY_S,
    PEAK,
    RhythmConfig,
    activations_of_events,
    rhythm_frames,
    scale_velocities,
)
from transform.velocity import LEVEL_EXPONENT

GAINS = (1.0, 0.5, 0.25)  # a frame is copied as loud as it is, and a source has few dynamics of its own
MOST_COPIES = 32  # strokes that are encoded once more
# Of an encoder's surroundings, to either side of a copy. Frames that lie farther off change no latent of the
# shipped encoder, which may depend on 15, by more than .006 of its posterior's deviation (six by .08).
_CONTEXT_FRAMES = 8
LEAD_FRAMES = 1  # of a copy before the frame of its attack
_HITS_EACH = 2  # that are taken for one class, place and velocity
_N_VELOCITIES = 4  # that are distinguished of a rhythm
_FULL_S = 0.25  # a stroke that rings for less before the next is as bad a choice as one of another velocity
_SHORT_COST = 0.3


class Copy(NamedTuple):
    """A stroke that is encoded once more."""

    stroke: int  # of the source's low strokes, counted from 0
    place: int  # 1 .. as many as a frame has
    gain: int  # of `GAINS`

    @property
    def hit(self) -> int:
        """The number of its hit: a stroke at one gain, wherever in the frame."""
        return 1 + self.gain + len(GAINS) * self.stroke


def places_of(config: RhythmConfig) -> Places:
    """Return the grid of a transformer that has places."""
    return Places(config.n_places, config.hop)


def context_of_copies(encoder_context: int) -> int:
    """Return how many frames are encoded to either side of a copy, given those that an encoder depends on."""
    return min(encoder_context, _CONTEXT_FRAMES)


def copy_frames(places: Places) -> int:
    """Return how many frames a copy has."""
    return LEAD_FRAMES + places.rule_frames


def low_strokes(events: Sequence[DrumEvent]) -> list[DrumEvent]:
    """Return the strokes of low drums in order; of those that fall together that of the dominant class."""
    found = groups([event for event in events if event.drum_class in LOW])
    return [
        next(e for e in group if e.drum_class == dominant_class({e.drum_class for e in group}))
        for group in found
    ]


def recorded_placing(places: Places, strokes: Sequence[DrumEvent], frames: NDArray[np.int64]) -> Tensor:
    """Return the places (1, 6, S) of frames of a source as it was recorded, at all gains.

    Args:
        places: the grid.
        strokes: of the source, as `low_strokes` returns them.
        frames: which of its frames, at least one, in order.
    """
    found = source_placing(places, strokes, int(frames[-1]) + 1)[..., torch.from_numpy(frames)]
    place, number = found[:, : len(LOW)], found[:, len(LOW) :]
    hits = [
        torch.where(number > 0, 1 + k + len(GAINS) * (number - 1), torch.zeros(())) for k in range(len(GAINS))
    ]
    return torch.cat([torch.cat((place, hit), dim=1) for hit in hits], dim=-1)


def requested_copies(
    places: Places, strokes: Sequence[DrumEvent], rhythm: Sequence[DrumEvent], *, most: int = MOST_COPIES
) -> list[Copy]:
    """Return which strokes of a source are encoded once more for a rhythm, what is played most often first.

    Args:
        places: the grid.
        strokes: of the source, as `low_strokes` returns them.
        rhythm: what is to be played, of the source's classes.
        most: copies at most.
    """
    ends = [*(b.onset_s - a.onset_s for a, b in pairwise(strokes)), _FULL_S]
    shortness = [_SHORT_COST * max(0.0, 1 - rings_s / _FULL_S) for rings_s in ends]
    played: dict[tuple[str, int, int], list[float]] = {}
    for event in low_strokes(rhythm):
        level = min(_N_VELOCITIES - 1, int(event.velocity * _N_VELOCITIES))
        kind = event.drum_class, places.of(event.onset_s)[1], level
        played.setdefault(kind, []).append(event.velocity)
    in_turn: list[tuple[int, int, Copy]] = []
    by_number = sorted(played.items(), key=lambda entry: -len(entry[1]))
    for order, ((drum_class, place, _), velocities) in enumerate(by_number):
        velocity = float(np.mean(velocities))
        costs = {}
        for k, stroke in enumerate(strokes):
            if stroke.drum_class == drum_class:
                off = [abs(stroke.velocity * gain ** (1 / LEVEL_EXPONENT) - velocity) for gain in GAINS]
                gain = int(np.argmin(off))
                costs[Copy(k, place, gain)] = off[gain] + shortness[k]
        best = sorted(costs, key=lambda copy: (costs[copy], copy))[:_HITS_EACH]
        in_turn += [(turn, order, copy) for turn, copy in enumerate(best)]
    return list(dict.fromkeys(copy for _, _, copy in sorted(in_turn)))[:most]


def first_sample(places: Places, stroke: DrumEvent, place: int) -> int:
    """Return the sample of a source at which the first frame of a copy begins; it may lie before the source."""
    return round(stroke.onset_s * SAMPLE_RATE) - (place - 1) * places.step - LEAD_FRAMES * places.hop


def copied_rhythm(
    config: RhythmConfig, events: Sequence[DrumEvent], strokes: Sequence[DrumEvent], copy: Copy
) -> Tensor:
    """Return r with its places (1, R + 6, F) of the frames of a copy, be they usable or not.

    Args:
        config: the transformer's.
        events: all of the source.
        strokes: of its low drums, as `low_strokes` returns them.
        copy: of one of them.
    """
    places, stroke = places_of(config), strokes[copy.stroke]
    before = -(-round(ONSET_MEMORY_S * SAMPLE_RATE) // config.hop)
    n = copy_frames(places)
    start_s = (first_sample(places, stroke, copy.place) - before * config.hop) / SAMPLE_RATE
    end_s = start_s + (before + n) * config.hop / SAMPLE_RATE
    near = [replace(e, onset_s=e.onset_s - start_s) for e in events if start_s <= e.onset_s < end_s]
    heights, widths = ([value] * len(near) for value in PEAK)
    n_frames = (before + n) * config.hop // ACTIVATION_HOP + 1
    written = activations_of_events(near, n_frames, heights=heights, widths=widths)
    probability, velocity, offset, _ = (torch.from_numpy(x)[None] for x in written)
    r = rhythm_frames(config, probability, velocity, offset, before + n)
    r = scale_velocities(config, r[..., before:], GAINS[copy.gain] ** (1 / LEVEL_EXPONENT))
    placing = torch.zeros(1, N_PLACING, n)
    c = LOW.index(stroke.drum_class)
    placing[0, c], placing[0, len(LOW) + c] = copy.place, copy.hit
    return torch.cat((r, placing), dim=1)


def usable_frames(places: Places, strokes: Sequence[DrumEvent], copy: Copy) -> int:
    """Return how many of a copy's frames are of its stroke: those before the next low stroke of the source."""
    n = copy_frames(places)
    if copy.stroke + 1 == len(strokes):
        return n
    rings_s = strokes[copy.stroke + 1].onset_s - strokes[copy.stroke].onset_s
    until = round(rings_s * SAMPLE_RATE) + (copy.place - 1) * places.step
    return min(n, LEAD_FRAMES + max(1, until // places.hop))
