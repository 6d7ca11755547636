"""The frames that the `latent` engine may copy: a source's latents, and the rhythm in them.

A short source is taken whole. Of a long one frames are chosen so that every kind of stroke is among them
(docs/method.md, decision 14); only these are encoded, so neither time nor memory grows with its length. Each is
there as it was recorded and turned down, as a stroke of a lower velocity. A transformer that has places gets
strokes of low drums besides, encoded with their attacks where the rhythm has them (transform/alignment.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from transform.alignment import (
    GAINS,
    context_of_copies,
    copied_rhythm,
    first_sample,
    low_strokes,
    places_of,
    recorded_placing,
    requested_copies,
    usable_frames,
)
from transform.audio import SAMPLE_RATE, Recording
from transform.codec import Codec
from transform.events import CLASSES, DrumEvent
from transform.hits import dominant_class
from transform.listening import Listening
from transform.noise import channel_coherence
from transform.onsets import attack_of, groups
from transform.resampling import Resampled
from transform.rhythm_transformer import ONSET_MEMORY_S, RhythmConfig, Source, rhythm_window, scale_velocities
from transform.separator import StemReader
from transform.signal import Block, ComputedSignal, Samples, Signal
from transform.transcriber import Activations
from transform.velocity import LEVEL_EXPONENT

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
    apart: Collection[str] | None = None,
    rhythm: Sequence[DrumEvent] = (),
) -> LatentBank:
    """Return the frames of a source that may be copied: all at each gain in turn, then copies.

    Args:
        codec: encodes them.
        config: of the transformer that will copy them.
        source: the recording, in which something is struck.
        apart: the classes whose stems alone are encoded, where there are stems; None: the recording with all in
            it.
        rhythm: the strokes that are to be played, of the source's classes: what a transformer that has places
            gets strokes of low drums for.
    """
    maker = _BankMaker(codec, config, source, apart)
    mu, r, coherence = maker.recorded()
    if config.n_places and (copies := maker.copies(rhythm)) is not None:
        n_coded = max(len(mu), len(copies[0]))
        mu = torch.cat([x.expand(n_coded, -1, -1) for x in (mu, copies[0])], dim=-1)
        r = torch.cat((r, copies[1]), dim=-1)
    mask = torch.ones(1, mu.shape[-1], dtype=torch.bool)
    # The latents of the channels' mean would take as long as a channel's and lie nearby (docs/method.md,
    # decision 15); where there are several channels, these latents are attended to and never decoded.
    source_latents = Source(mu.mean(dim=0, keepdim=True), r, mask)
    return LatentBank(source_latents, mu if len(mu) > 1 else None, coherence)


class _BankMaker:
    """Encodes a source, or stems of it, as recorded and once more."""

    def __init__(
        self, codec: Codec, config: RhythmConfig, source: Listening, apart: Collection[str] | None
    ) -> None:
        stems = source.stems if apart is not None else None
        self._codec, self._config, self._source = codec, config, source
        self._own = CLASSES if apart is None or stems is None else apart
        self._sound = Resampled(_encoded_signal(source.recording, self._own, stems), SAMPLE_RATE)
        self._events = [event for event in source.events if event.drum_class in self._own]

    def recorded(self) -> tuple[Tensor, Tensor, tuple[float, ...]]:
        """Return latents (C, D, S), r (1, R, S) and the channels' coherence of the source as recorded."""
        recording, config, context = self._source.recording, self._config, self._codec.encoder_context
        n_samples = max(1, round(recording.n_samples * SAMPLE_RATE / recording.sample_rate))
        n_frames = -(-n_samples // config.hop)
        chosen = chosen_frames(self._events, n_frames, config.hop)
        regions, parts = [], []
        for first, last in _runs(chosen, 2 * context + 1):
            index = torch.from_numpy(chosen[(chosen >= first) & (chosen < last)])
            parts.append(rhythm_window(config, self._activations, first, last)[..., index - first])
            block = Block.of(first, last, context=context, length=n_frames)
            regions.append(_Region(block.begin * config.hop, block.end - block.begin, index - block.begin))
        mu, coherence = _encoded(self._codec, self._sound, regions, GAINS)
        r = torch.cat(parts, dim=-1)
        r = torch.cat([scale_velocities(config, r, gain ** (1 / LEVEL_EXPONENT)) for gain in GAINS], dim=-1)
        if config.n_places:
            placing = recorded_placing(places_of(config), low_strokes(self._events), chosen)
            r = torch.cat((r, placing), dim=1)
        return mu, r, coherence

    def copies(self, rhythm: Sequence[DrumEvent]) -> tuple[Tensor, Tensor] | None:
        """Return latents and r of the strokes that a rhythm needs at other places; None where it needs none."""
        places, recording = places_of(self._config), self._source.recording
        context = context_of_copies(self._codec.encoder_context)
        strokes = low_strokes(self._events)
        copies = requested_copies(places, strokes, rhythm)
        for k in {copy.stroke for copy in copies}:
            attack = attack_of(recording, strokes[k].onset_s)
            strokes[k] = replace(strokes[k], onset_s=attack / recording.sample_rate)
        regions, parts = [], []
        for copy in copies:
            n = usable_frames(places, strokes, copy)
            start = first_sample(places, strokes[copy.stroke], copy.place) - context * places.hop
            frames = torch.arange(context, context + n)
            regions.append(_Region(start, 2 * context + n, frames, GAINS[copy.gain]))
            parts.append(copied_rhythm(self._config, self._events, strokes, copy)[..., :n])
        if not regions:
            return None
        return _encoded(self._codec, self._sound, regions, (1.0,))[0], torch.cat(parts, dim=-1)

    def _activations(self, begin: int, end: int) -> Activations:
        return self._source.activations_of(begin, end, classes=self._own)


class _Region(NamedTuple):
    """What is encoded of a source, with the encoder's context on either side of the frames that are needed."""

    start: int  # sample at which its first frame begins
    n_frames: int
    frames: Tensor  # that are needed, counted from the first
    gain: float = 1.0


def _encoded(
    codec: Codec, sound: Resampled, regions: Sequence[_Region], gains: Sequence[float]
) -> tuple[Tensor, tuple[float, ...]]:
    """Return the latents (C, D, S) of the regions' frames of each channel, and the channels' coherence.

    All frames come at the first gain, then all at the next.
    Channels that are the same everywhere are one: (1, D, S). Regions are encoded side by side, as many short
    ones take longer than a long one: what a frame depends on lies within its region.
    """
    hop, first_hz, together = codec.config.hop, codec.config.first_noise_hz, []
    read: list[Tensor] = []
    latents: list[list[Tensor]] = [[] for _ in gains]
    for number, region in enumerate(regions):
        together.append(region)
        n_frames = sum(s.n_frames for s in together)
        following = regions[number + 1 : number + 2]
        if following and n_frames + following[0].n_frames <= codec.block_frames:
            continue
        cuts = ((sound.read(s.start, s.start + s.n_frames * hop), s.gain) for s in together)
        audio = torch.cat([turned * torch.from_numpy(cut) for cut, turned in cuts], dim=1)
        read += [audio] if first_hz else []
        audio = audio[:1] if bool((audio == audio[:1]).all()) else audio
        places = np.cumsum([0, *(s.n_frames for s in together)])
        frames = torch.cat([s.frames + int(place) for s, place in zip(together, places, strict=False)])
        for turned_down, gain in zip(latents, gains, strict=True):
            turned_down.append(codec.encode(gain * audio, frames).mu)
        together = []
    every = [mu for turned_down in latents for mu in turned_down]
    n_coded = max(len(mu) for mu in every)
    coherence = channel_coherence(torch.cat(read, dim=1), SAMPLE_RATE, first_hz) if read else (1.0,)
    return torch.cat([mu.expand(n_coded, -1, -1) for mu in every], dim=-1), coherence


def _encoded_signal(recording: Recording, classes: Collection[str], stems: StemReader | None) -> Signal:
    """Return what is encoded of a recording: all of it, or the stems of some classes."""
    if stems is None:
        return recording
    rows = [i for i, drum_class in enumerate(CLASSES) if drum_class in classes]

    def read(start: int, stop: int) -> Samples:
        return np.asarray(stems.read(start, stop)[rows].sum(axis=0))

    return ComputedSignal(read, recording.n_samples, recording.sample_rate, recording.n_channels)


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
