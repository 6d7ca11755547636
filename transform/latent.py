"""The `latent` engine: a source's own latents in a rhythm's order, which the rhythm transformer finds, decoded.

Hockman and Drysdale (AES AIMLA 2025), for recordings of any length (docs/method.md, decisions 12 to 15): the
source is a bank of frames (transform/latent_bank.py), the rhythm is read in windows of 3 s that overlap by one
and are cross-faded as latents, the lows of copied hits are joined with them (transform/crossover.py), and all
is decoded in blocks with the context that the generator needs.
Windows and blocks begin at fixed places, so any region can be read with the result of one pass.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from transform.audio import SAMPLE_RATE, Recording
from transform.codec import Codec, is_quick_in_bfloat16
from transform.crossover import CrossoverNet, EncodedSound, load_crossover
from transform.equaliser import Equaliser, OwnStrokes, from_start
from transform.errors import AudioError, CheckpointError
from transform.events import BOUNDARY_S, DrumEvent
from transform.gain_changes import GainChange
from transform.hits import LONGEST_S
from transform.latent_bank import LatentBank, latent_bank
from transform.layers import Placed
from transform.listening import Listening
from transform.noise import Noise
from transform.presets import Preset
from transform.resampling import Resampled
from transform.resequence import PLAYED_TOGETHER_S
from transform.rhythm_transformer import (
    Keys,
    RhythmNet,
    Source,
    Target,
    load_rhythm,
)
from transform.signal import (
    Block,
    BlockCache,
    ComputedSignal,
    Samples,
    Signal,
    nearest_sample,
    read_blocks,
    zeros_outside,
)
from transform.target_rhythm import RecordedRhythm, TargetReader, WrittenRhythm
from transform.weights import require_numbers

_log = logging.getLogger(__name__)
MODELS = ("codec-encoder", "codec-generator", "rhythm")  # of a preset
CROSSOVER = "crossover"  # another, which presets of 0.1.0 and of the paper's configuration lack

_WINDOW_SAMPLES = 131_072  # the paper's segment, which the transformer was trained on
_OVERLAP_S = 1.0
_TARGET_BLOCK_S = 5.5  # of a rhythm, encoded at once
_BLOCK_S = 14.0  # decoded at once
_CACHED_BYTES = 64 * 2**20  # of decoded sound: where tails ring the end is read first
_BEYOND_S = 0.5  # computed past the end of a take that is cut: more than resampling needs
_CACHED_TARGETS, _CACHED_WINDOWS, _CACHED_BLOCKS = 2, 4, 3  # least
_FADE_S = 0.02  # where the last stroke has rung
_INAUDIBLE = 1e-4  # of full scale


class LatentModel:
    """The codec, the rhythm transformer and the crossover of a preset, on a device."""

    def __init__(
        self,
        codec: Codec,
        net: RhythmNet,
        crossover: CrossoverNet | None = None,
        *,
        device: str = "cpu",
        bfloat16: bool = False,
    ) -> None:
        """Take networks into use.

        Args:
            codec: on the device already.
            net: a transformer that goes with it.
            crossover: what joins the lows of copied hits with what the transformer makes; None: nothing does.
            device: where the transformer runs.
            bfloat16: whether it computes in this coarser format, all but what it attends to.
        """
        self.codec, self.config, self._bfloat16 = codec, net.config, bfloat16
        self._net = Placed(net.eval(), device=device)
        self.context_frames = codec.generator_context  # to either side of what is decoded
        self._crossover: Placed[CrossoverNet] | None = None
        if crossover is not None:
            self.context_frames += crossover.context_frames
            self._crossover = Placed(crossover.eval(), device=device)

    @property
    def copies_lows(self) -> bool:
        """Whether the lows of takes are copied."""
        return self._crossover is not None

    @classmethod
    def load(cls, preset: Preset, *, device: str = "cpu", bfloat16: bool = False) -> LatentModel:
        """Return the model of a preset.

        Args:
            preset: contains its models.
            device: where it runs.
            bfloat16: whether to compute in this coarser format, where the device is quicker in it.

        Raises:
            CheckpointError: the preset lacks one of its models, a file is damaged, or the models do not match.
        """
        check_models(preset)
        encoder, generator, rhythm = (preset.weights(model) for model in MODELS)
        if bfloat16 and not is_quick_in_bfloat16(device):
            _log.warning("this device has no bfloat16: the latent engine computes in single precision")
            bfloat16 = False
        codec = Codec.load(encoder, generator, device=device, bfloat16=bfloat16)
        crossover = load_crossover(preset.weights(CROSSOVER), codec) if CROSSOVER in preset.models else None
        return cls(codec, load_rhythm(rhythm, codec), crossover, device=device, bfloat16=bfloat16)

    def check(self, source: Recording) -> None:
        """Raise AudioError for a source of less than a frame."""
        frame_s = self.config.hop / SAMPLE_RATE
        if source.duration_s < frame_s:
            raise AudioError(
                f"{source.name} is {1000 * source.duration_s:.2f} ms long; the latent engine needs "
                f"{1000 * frame_s:.2f} ms or more",
                hint="give a longer recording, or --engine resequence",
            )

    @torch.inference_mode()
    def keys(self, bank: LatentBank) -> Keys:
        """Return a bank as `transform` takes it."""

        def made(net: RhythmNet, device: torch.device) -> Keys:
            source = Source(*(None if x is None else x.to(device) for x in bank.source))  # type: ignore[arg-type]
            channels = None if bank.channels is None else bank.channels.to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
                return net.bank_keys(source, channels)

        return self._net.run(made)

    @torch.inference_mode()
    def transform(self, bank: Keys, target: Target) -> tuple[Tensor, Tensor]:
        """Return mean and deviation of the latents (C, D, F) of a bank's sounds in the target's rhythm."""
        return self._net.run(lambda net, device: self._transformed(net, device, bank, target))

    @torch.inference_mode()
    def joined(self, lows: Tensor, highs: Tensor) -> Tensor:
        """Return the latents (C, D, F) of a sound with the lows of one and the highs of another."""
        assert self._crossover is not None
        out: Tensor = self._crossover.run(lambda net, device: net(lows.to(device), highs.to(device)).cpu())
        require_numbers(out, CROSSOVER)
        return out

    def _transformed(
        self, net: RhythmNet, device: torch.device, bank: Keys, target: Target
    ) -> tuple[Tensor, Tensor]:
        a = None if target.activations is None else target.activations.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self._bfloat16):
            out = net(bank.on(device), Target(target.rhythm.to(device), a), with_attention=False)
        mu, sigma = (out.mu, out.sigma) if out.channels is None else out.channels
        mu, sigma = mu.cpu(), sigma.cpu()
        for latents in (mu, sigma):
            require_numbers(latents, "rhythm")
        return mu, sigma


def check_models(preset: Preset) -> None:
    """Raise CheckpointError for a preset that lacks a model of the latent engine."""
    if missing := [model for model in MODELS if model not in preset.models]:
        raise CheckpointError(
            f"preset {preset.name} has no {', '.join(missing)}: it cannot play with the latent engine",
            hint="use --engine resequence, or a preset with these models: see `redrum presets list`",
        )


# What plays.


@dataclass(frozen=True, kw_only=True)
class LatentOrder:
    """What is to be played, and of what."""

    source: Listening
    events: Sequence[DrumEvent]  # of the take, sorted by onset
    length_s: float  # of the take
    target: Listening | None  # the recording that the rhythm is from, the events' onsets being its attacks
    stand_ins: Mapping[str, str]  # which class of the source plays each class of the events
    # By class of the events, what takes their velocities to those of the source (`velocity_scales`); None: the
    # source's classes are struck as hard as they mostly are in it.
    scales: Mapping[str, float] | None
    # The source's strokes of the classes that play, and no others, where its recording has them; None: the
    # recording.
    replayed: Signal | None = None
    gain_db: float = 0.0  # of all; where classes have gains of their own, the greatest
    is_cut: bool = False  # what rings on at the end of the take is never read


class LatentPart(NamedTuple):
    """What the transformer plays, and of what."""

    bank: LatentBank
    rhythm: TargetReader


def latent_part(model: LatentModel, order: LatentOrder) -> LatentPart:
    """Return the bank of a take, something of which is played, and its rhythm."""
    used = {order.stand_ins[event.drum_class] for event in order.events}
    if order.replayed is None:
        bank = latent_bank(model.codec, model.config, order.source)
    else:
        bank = latent_bank(model.codec, model.config, order.source, sound=order.replayed, classes=used)
    # a encodes all that sounds in the target's recording, and when: it is given only where the take plays
    # just that. After any change, of tempo, section or classes, r is that of the events that are played.
    if order.target is not None and order.scales is not None and _is_as_detected(order):
        recorded = RecordedRhythm(
            model.codec, model.config, order.target, stop_s=order.length_s, scales=order.scales
        )
        return LatentPart(bank, recorded)
    return LatentPart(bank, WrittenRhythm(model.config, _as_played(order.events, order)))


def _is_as_detected(order: LatentOrder) -> bool:
    """Tell whether the take plays what the recording of its target does, all of it, each class by itself."""
    assert order.target is not None
    detected = [event for event in order.target.events if event.onset_s < order.length_s - BOUNDARY_S]
    is_whole = order.replayed is None and len(order.events) == len(detected)
    return is_whole and all(
        abs(ours.onset_s - theirs.onset_s) < BOUNDARY_S
        and replace(ours, onset_s=theirs.onset_s) == theirs
        and order.stand_ins[ours.drum_class] == ours.drum_class
        for ours, theirs in zip(order.events, detected, strict=True)
    )


def _as_played(events: Sequence[DrumEvent], order: LatentOrder) -> list[DrumEvent]:
    """Return events as strokes of the source's classes, with the velocities that they are played with.

    Strokes that fall together and are of one class now become one, the louder.
    """
    usual: dict[str, float] = {}
    if order.scales is None:
        for used in set(order.stand_ins.values()):
            usual[used] = float(np.median([e.velocity for e in order.source.events if e.drum_class == used]))
    played: list[DrumEvent] = []
    last: dict[str, int] = {}
    for event in events:
        used = order.stand_ins[event.drum_class]
        scale = (order.scales or {}).get(event.drum_class, 1.0)
        velocity = usual.get(used, min(1.0, scale * event.velocity))
        articulation = event.articulation if used == event.drum_class else ""
        stroke = DrumEvent(event.onset_s, used, velocity, articulation)
        before = played[last[used]] if used in last else None
        if before is not None and stroke.onset_s - before.onset_s < PLAYED_TOGETHER_S:
            if velocity > before.velocity:
                played[last[used]] = replace(before, velocity=velocity)
            continue
        last[used] = len(played)
        played.append(stroke)
    return played


class _Latents:
    """The latents that the transformer makes, cross-faded from windows."""

    def __init__(self, model: LatentModel, keys: Keys, rhythm: TargetReader, n_frames: int) -> None:
        self._model, self._keys, self._rhythm, self._n_frames = model, keys, rhythm, n_frames
        self._size = _WINDOW_SAMPLES // model.config.hop
        self._overlap = min(round(_OVERLAP_S * SAMPLE_RATE / model.config.hop), self._size // 2)
        self._block = round(_TARGET_BLOCK_S * SAMPLE_RATE / model.config.hop)
        self._targets: BlockCache[int, Target] = BlockCache(_CACHED_TARGETS)
        self._windows: BlockCache[int, tuple[Tensor, Tensor]] = BlockCache(_CACHED_WINDOWS)

    def read(self, first: int, last: int) -> tuple[Tensor, Tensor]:
        """Return mean and deviation (C, D, last - first) of frames [first, last), at least one of them."""
        step = self._size - self._overlap
        mu = sigma = torch.zeros(())
        for number in range(max(0, -(-(first - self._size + 1) // step)), (last - 1) // step + 1):
            begin = number * step
            if number and begin + self._overlap >= self._n_frames:
                break  # the window before reaches to the end
            found = self._windows.get(number, self._transformed)
            frames = torch.arange(begin, begin + found[0].shape[-1])
            rise = (frames - begin + 1) / (self._overlap + 1) if number else torch.ones(len(frames))
            fall = (begin + self._size - frames) / (self._overlap + 1)
            if begin + self._size >= self._n_frames:
                fall = torch.ones(len(frames))
            weight = torch.minimum(rise, fall).clamp_max(1)
            left, right = max(first, begin), min(last, begin + len(frames))
            if left >= right:
                continue
            cut = slice(left - begin, right - begin)
            place = left - first, last - right
            mu, sigma = (
                total + functional.pad(weight[cut] * x[..., cut], place)
                for total, x in zip((mu, sigma), found, strict=True)
            )
        return mu, sigma

    def _transformed(self, number: int) -> tuple[Tensor, Tensor]:
        first = number * (self._size - self._overlap)
        target = self._target(first, min(first + self._size, self._n_frames))
        return self._model.transform(self._keys, target)

    def _target(self, first: int, last: int) -> Target:
        """Return the target of frames [first, last); windows that overlap share cached blocks."""
        numbers = range(first // self._block, (last - 1) // self._block + 1)
        rhythm, a, _ = zip(*(self._targets.get(number, self._target_block) for number in numbers), strict=True)
        place = slice(first - numbers[0] * self._block, last - numbers[0] * self._block)
        activations = None if a[0] is None else torch.cat(a, dim=-1)[..., place]
        return Target(torch.cat(rhythm, dim=-1)[..., place], activations)

    def _target_block(self, number: int) -> Target:
        first = number * self._block
        return self._rhythm.target(first, min(first + self._block, self._n_frames))


class _Network:
    """What the networks make of a bank, in a rhythm."""

    def __init__(
        self,
        model: LatentModel,
        latents: _Latents,
        noise: Noise,
        *,
        lows: Signal | None,
        variation: float = 0.0,
        seed: int = 0,
    ) -> None:
        self._model, self._latents, self._noise = model, latents, noise
        self._lows = EncodedSound(model.codec, lows) if lows is not None and model.copies_lows else None
        self._variation, self._seed = variation, seed

    def decoded(self, first: int, last: int) -> Samples:
        """Return the sound (C, T) of latent frames [first, last)."""
        sound = self._model.codec.decode(
            self._drawn(first, last),
            (last - first) * self._model.config.hop,
            first_frame=first,
            noise=self._noise,
        )
        return sound.numpy()

    def _drawn(self, first: int, last: int) -> Tensor:
        """Return latents (C, D, F) to decode: their mean, or around it."""
        mu, sigma = self._latents.read(first, last)
        if self._lows is not None:
            mu = self._model.joined(self._lows.read(first, last, len(mu)), mu)
        if self._variation == 0:
            return mu
        # Each frame has its own seed, and channels share what is drawn: the stereo image stays.
        frames = range(first, last)
        noise = [np.random.default_rng((self._seed, k)).standard_normal(mu.shape[1]) for k in frames]
        return mu + self._variation * sigma * torch.from_numpy(np.stack(noise, axis=1)).float()


def _own_rhythm(model: LatentModel, source: Listening, own: OwnStrokes, played: TargetReader) -> TargetReader:
    """Return strokes of a source as targets of the kind that play: of a recording, where a recording plays."""
    if not isinstance(played, RecordedRhythm):
        return WrittenRhythm(model.config, from_start(own.events))
    return RecordedRhythm(
        model.codec,
        model.config,
        source,
        stop_s=own.begin_s + own.length_s,
        scales={},
        classes={event.drum_class for event in own.events},
        first_frame=int(own.begin_s * SAMPLE_RATE / model.config.hop),
    )


def _equaliser(
    model: LatentModel, keys: Keys, own: OwnStrokes, rhythm: TargetReader, noise: Noise
) -> Equaliser:
    """Return what makes the network's own strokes of a bank's source as loud as its hits in each band."""
    hop = model.config.hop
    n_frames = -(-round(own.length_s * SAMPLE_RATE) // hop)
    latents = _Latents(model, keys, rhythm, n_frames)
    made = _Network(model, latents, noise, lows=own.hits).decoded(0, n_frames)
    return Equaliser(made, Resampled(own.hits, SAMPLE_RATE).read(0, n_frames * hop))


class LatentArrangement:
    """The decoded signal."""

    def __init__(
        self,
        model: LatentModel,
        order: LatentOrder,
        *,
        lows: Signal | None = None,
        change: tuple[Signal, Signal] | None = None,
        own: OwnStrokes | None = None,
        variation: float = 0.0,
        seed: int = 0,
        period: int | None = None,
    ) -> None:
        """Make the bank.

        Args:
            model: plays.
            order: what plays; the sound has the rate and the channels of its source.
            lows: the source's hits in the rhythm's order, for a model that copies their lows; of a loop without
                what rings on from the turn before, and without gains. None: nothing is copied.
            change: such hits without the gains of their classes and with them; None: they have one gain.
            own: strokes of the source, by which the take is equalised; None: it is as the network makes it.
            variation: times their deviation, latents are drawn around their mean (decision 13).
            seed: of what is drawn.
            period: what rings past this sample goes on at sample 0 (a loop without a seam); None for no loop.
        """
        self._model, source, events = model, order.source.recording, order.events
        self.sample_rate, self.n_channels = source.sample_rate, source.n_channels
        self._period = period
        hop = model.config.hop
        self._last_onset_s = max((event.onset_s for event in events), default=0.0)
        end_s = max((event.onset_s + LONGEST_S[event.drum_class] for event in events), default=0.0)
        self._n_planned = round(end_s * self.sample_rate)  # samples, where nothing ends earlier
        self._n_frames = -(-round(end_s * SAMPLE_RATE) // hop)
        read_s = order.length_s + _BEYOND_S if order.is_cut else end_s
        self._n_read = min(self._n_frames, -(-round(read_s * SAMPLE_RATE) // hop))
        self._gain = 10 ** (order.gain_db / 20)
        self._network: _Network | None = None
        self._equaliser: Equaliser | None = None
        if events:
            bank, rhythm = latent_part(model, order)
            keys, coherence = model.keys(bank), bank.coherence
            # The noise is drawn by the seed where latents are.
            noise = Noise(seed=seed if variation else 0, coherence=coherence)
            latents = _Latents(model, keys, rhythm, self._n_frames)
            self._network = _Network(model, latents, noise, lows=lows, variation=variation, seed=seed)
            if own is not None:
                own_rhythm = _own_rhythm(model, order.source, own, rhythm)
                self._equaliser = _equaliser(model, keys, own, own_rhythm, Noise(coherence=coherence))
        self._change = GainChange(*change) if change is not None else None
        self._block = max(1, round(_BLOCK_S * SAMPLE_RATE / hop))
        self._blocks: BlockCache[int, Samples] = BlockCache(_CACHED_BLOCKS, _CACHED_BYTES)
        decoded = ComputedSignal(self._read_decoded, self._n_read * hop, SAMPLE_RATE, self.n_channels)
        self._sound = Resampled(decoded, self.sample_rate)

    @property
    def n_samples(self) -> int:
        """Where the last sound has ended; 0 where nothing plays."""
        begin = nearest_sample(self._last_onset_s, self.sample_rate)
        tail = np.abs(self._sound.read(begin, self._n_planned)).max(axis=0, initial=0.0)
        audible = np.flatnonzero(tail > _INAUDIBLE)
        return begin + int(audible[-1]) + 1 if len(audible) else 0

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop), shape (C, stop - start)."""
        shape = self.n_channels, self._n_planned
        out = zeros_outside(self._sound.read, start, stop, shape)
        while self._period and start + self._period < self._n_planned:
            start, stop = start + self._period, stop + self._period
            out += zeros_outside(self._sound.read, start, stop, shape)  # what rings on from the turn before
        return out

    def _read_decoded(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) at the model's rate, zeros outside of the sound."""
        hop = self._model.config.hop
        inside = partial(read_blocks, lambda n: self._blocks.get(n, self._decoded), self._block * hop)
        return zeros_outside(inside, start, stop, (self.n_channels, self._n_read * hop))

    def _decoded(self, number: int) -> Samples:
        assert self._network is not None
        hop = self._model.config.hop
        first, last = number * self._block, min((number + 1) * self._block, self._n_read)
        block = Block.of(first, last, context=self._model.context_frames, length=self._n_frames)
        core = slice(block.core.start * hop, block.core.stop * hop)
        made = self._network.decoded(block.begin, block.end)
        if self._equaliser is not None:
            made = self._equaliser.applied(made)
        if self._change is not None:
            made = self._change.applied(made, block.begin * hop, self._gain)
        shape = self.n_channels, (last - first) * hop
        out = np.broadcast_to(np.float32(self._gain) * made[:, core], shape).copy()
        left = self._n_frames * hop - np.arange(first * hop, last * hop)
        out *= np.clip(left / (_FADE_S * SAMPLE_RATE), 0, 1).astype(np.float32)
        return out
