"""What the rhythm transformer is trained on: sources, targets, and what the sources should become.

Pairs of synthetic segments with recipes (section 3 of Hockman and Drysdale 2025). The pseudo-target, the
source's own augmented one-shots at the target's events, is rendered in one recording with the source, a few
seconds apart, and cut out of it: so level, compression and room are the same in both (docs/method.md,
decision 52). Sources are banks of frames, as in use (decision 14); for `paper` half of them are segments.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.data.kits import SAMPLE_RATE
from training.data.rhythms import Stroke
from training.data.synthesis import (
    SEGMENT_SAMPLES,
    SegmentRecipe,
    Synthesiser,
    Voice,
    VoiceKey,
    apply_bus,
    audible_onsets,
    draw_bus,
    onset_table,
    pseudo_target,
    render_batch,
    render_stems,
)
from training.data.transcription import FrozenTranscriber
from transform.codec import Encoded, EncoderNet
from transform.errors import SettingsError
from transform.events import CLASSES, DrumEvent
from transform.latent_bank import GAINS
from transform.rhythm_transformer import (
    RhythmConfig,
    Source,
    Target,
    activations_of_events,
    rhythm_frames,
    scale_velocities,
)
from transform.transcriber import TranscriberNet
from transform.velocity import LEVEL_EXPONENT

_GAP_S = 3.0  # between the source and its pseudo-targets: earlier strokes of one, tails of the other
_QUIET = 1e-6  # of the energy of the loudest frame: what is below is silent
_LIKENESS = 1.0  # distance of latents within which frames are alike, in deviations of the prior
# Quantiles of the shipped transcriber's peaks on validation kits: height, and frames to where a triangle ends.
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_HEIGHTS = (0.41, 0.66, 0.77, 0.87, 0.93)
_WIDTHS = (1.60, 1.75, 1.84, 1.97, 2.23)
_EXACT = (1.0, 1.5)  # height and width of a transcriber's targets (training/train/transcriber.py)


@dataclass(frozen=True, kw_only=True)
class PairSettings:
    """How pairs are made."""

    targets: int = 4  # of a scene
    banks: float = (
        1.0  # proportion of scenes whose source is a bank; in the others each target has its own segment
    )
    bank_segments: int = 2  # as long as that many targets is what a bank is made of
    least_share: float = 0.3  # least proportion of a bank's frames that are given
    heard: float = 0.5  # proportion of targets that are transcribed
    midi: float = 0.3  # proportion that is MIDI: no recording, no a; the others are exact
    without_a: float = 0.3  # proportion of the other targets whose a is not given either
    is_worsened: bool = True  # transcriptions are degraded and tones changed, as these kits are trained on

    def __post_init__(self) -> None:
        if min(self.targets, self.bank_segments) < 1 or not 0 < self.least_share <= 1:
            raise SettingsError("a scene without targets, or a bank without frames, is not possible")
        if self.heard + self.midi > 1:
            raise SettingsError("more than all targets are transcribed or MIDI")


class Region(NamedTuple):
    """A region of a rendered recording."""

    audio: Tensor  # (T,)
    stems: Tensor  # (5, T), dry
    strokes: tuple[Stroke, ...]  # in its own time


class Truth(NamedTuple):
    """What sounds in latent frames, by the recipe."""

    proportion: Tensor  # (..., 5, F): of each class in the energy; all 0 where no stroke sounds
    is_silent: Tensor  # (..., F)


@dataclass(frozen=True)
class Pairs:
    """Pairs of sources and targets, and what the sources should become."""

    source: Source
    target: Target
    latents: Tensor  # (B, D, F): of the pseudo-target
    audio: Tensor  # (B, T): the pseudo-target
    onsets: Tensor  # (B, N): samples of its audible strokes; -1 stands for none
    is_silent: Tensor  # (B, S + 1): keys that are silent, the last among them
    recoverable: Tensor | None  # (B, F): source frames whose classes the target plays too; None for banks


def render_scene(source: SegmentRecipe, targets: Sequence[SegmentRecipe]) -> list[Region]:
    """Return a source and its pseudo-targets, rendered as one recording and cut into regions."""
    recipes = [source, *(pseudo_target(source, target) for target in targets)]
    gap, starts, strokes, end = round(_GAP_S * SAMPLE_RATE), [], [], 0
    for recipe in recipes:
        starts.append(end)
        strokes += [replace(s, onset_s=s.onset_s + end / SAMPLE_RATE) for s in recipe.strokes]
        end += recipe.n_samples + gap
    whole = replace(source, strokes=tuple(strokes), n_samples=end - gap)
    stems = render_stems(whole)
    audio = render_batch([whole], dry_stems=stems[None])[0]
    return [
        Region(audio[at : at + r.n_samples], stems[:, at : at + r.n_samples], r.strokes)
        for at, r in zip(starts, recipes, strict=True)
    ]


def chained(recipes: Sequence[SegmentRecipe]) -> SegmentRecipe:
    """Return recipes of one kit as one long recipe, in the mix of the first."""
    first = recipes[0]
    voices: dict[VoiceKey, Voice] = {}
    strokes: list[Stroke] = []
    end = 0
    for recipe in recipes:
        inside = (s for s in recipe.strokes if end == 0 or s.onset_s >= 0)
        strokes += [replace(s, onset_s=s.onset_s + end / SAMPLE_RATE) for s in inside]
        end += recipe.n_samples
        voices |= recipe.voices
    return replace(first, voices=voices, strokes=tuple(strokes), n_samples=end)


def truth_of(region: Region, hop: int) -> Truth:
    """Return what sounds in the latent frames of a region, `hop` samples each."""
    energy = region.stems.square().reshape(len(CLASSES), -1, hop).sum(dim=-1)  # (5, F)
    total, finished = energy.sum(dim=0), region.audio.square().reshape(-1, hop).sum(dim=-1)
    sounds = total > _QUIET * total.max().clamp_min(1e-12)
    proportion = torch.where(sounds, energy / total.clamp_min(1e-20), 0.0)
    return Truth(proportion, finished <= _QUIET * finished.max().clamp_min(1e-12))


def target_attention(latents: Tensor, source: Tensor, silence: Tensor, mask: Tensor | None) -> Tensor:
    """Return where the latents of pseudo-targets are best copied from, shape (B, F, S + 1); rows add up to one.

    The weight of a frame falls with the square of its latents' distance, as if each frame of the source were
    the mean of a normal distribution from which the target frame was drawn (decision 6).

    Args:
        latents: of pseudo-targets, shape (B, D, F).
        source: latents (B, D, S).
        silence: latents (D,) of silence, the last column.
        mask: the frames (B, S) of banks that are no padding; None: all.
    """
    keys = torch.cat((source.mT, silence.expand(len(source), 1, -1)), dim=1).float()  # (B, S + 1, D)
    # The norm of the target frame is the same for all keys.
    nearness = latents.mT.float() @ keys.mT - 0.5 * keys.square().sum(dim=-1)[:, None]
    if mask is not None:
        padded = functional.pad(mask, (0, 1), value=True)
        nearness = nearness.masked_fill(~padded[:, None], -torch.inf)
    return torch.softmax(nearness / _LIKENESS**2, dim=-1)


def folded(attention: Tensor, is_silent: Tensor) -> Tensor:
    """Return attention (B, F, S + 1) with that on silent keys (B, S + 1) moved to the last: all are as good."""
    silent = is_silent[:, None]
    audible = attention.masked_fill(silent, 0.0)
    return torch.cat((audible[..., :-1], (attention * silent).sum(dim=-1, keepdim=True)), dim=-1)


class PairMaker:
    """Makes pairs out of a synthesiser's recipes, with networks that are not trained further."""

    def __init__(
        self,
        transcriber: TranscriberNet,
        encoder: EncoderNet,
        config: RhythmConfig,
        settings: PairSettings,
        device: torch.device,
    ) -> None:
        """Prepare.

        Args:
            transcriber: of sources and targets.
            encoder: the codec's.
            config: the transformer's.
            settings: how pairs are made.
            device: where they are made.
        """
        self.config, self.settings, self._device = config, settings, device
        self._transcriber = FrozenTranscriber(transcriber, device)
        self._encoder = encoder.eval().to(device)
        with torch.no_grad():
            silent = self._encoder(torch.zeros(1, SEGMENT_SAMPLES, device=device))
            self.silence: Tensor = silent.mu.mean(dim=(0, 2))  # (D,)

    def with_settings(self, settings: PairSettings) -> PairMaker:
        """Return a maker with the same networks and other settings."""
        other = copy.copy(self)
        other.settings = settings
        return other

    def draw(self, synthesiser: Synthesiser, rng: np.random.Generator) -> Pairs:
        """Return a scene, all of which is drawn from `rng`: a bank and its targets, or as many segments."""
        settings = self.settings
        n, as_bank = settings.targets, rng.random() < settings.banks
        if not as_bank:
            recipes = synthesiser.draw(2 * n, rng, per_kit=1)
            return self.make(recipes[:n], recipes[n:], rng)
        segments = synthesiser.draw(settings.bank_segments, rng, per_kit=settings.bank_segments)
        return self.make([chained(segments)], synthesiser.draw(n, rng, per_kit=1), rng, as_banks=True)

    @torch.no_grad()
    def deviation(self, audio: Tensor) -> Tensor:
        """Return the encoder's mean deviation of each latent channel (D,), over recordings (B, T)."""
        return self._encode(audio).sigma.mean(dim=(0, 2))

    @torch.no_grad()
    def target_attention(self, pairs: Pairs) -> Tensor:
        """Return the attention of decision 6 (B, F, S + 1), that on silent keys in the last."""
        attention = target_attention(pairs.latents, pairs.source.mu, self.silence, pairs.source.mask)
        return folded(attention, pairs.is_silent)

    @torch.no_grad()
    def make(
        self,
        sources: Sequence[SegmentRecipe],
        targets: Sequence[SegmentRecipe],
        rng: np.random.Generator,
        *,
        as_banks: bool = False,
    ) -> Pairs:
        """Return the pairs of targets with sources, each of which serves as many targets.

        Args:
            sources: what may be copied.
            targets: the rhythms.
            rng: decides what of them is given.
            as_banks: whether sources are banks of their frames, all as long as one another; otherwise they are
                segments, as long as the targets.
        """
        per_source = len(targets) // len(sources)
        scenes = [
            render_scene(source, targets[k * per_source : (k + 1) * per_source])
            for k, source in enumerate(sources)
        ]
        answers = [region for scene in scenes for region in scene[1:]]
        truth = _stacked([truth_of(region, self.config.hop) for region in answers], self._device)
        source, source_truth = self._segments([scene[0] for scene in scenes], rng)
        if as_banks:
            source, source_truth = self._banks([scene[0] for scene in scenes], source, source_truth)
        there = None if source.mask is None else source.mask.repeat_interleave(per_source, dim=0)
        mu, rhythm = (x.repeat_interleave(per_source, dim=0) for x in source[:2])
        source_truth = Truth(*(x.repeat_interleave(per_source, dim=0) for x in source_truth))
        audio = torch.stack([region.audio for region in answers]).to(self._device)
        return Pairs(
            Source(mu, rhythm, there),
            self._target(targets, [region.strokes for region in answers], rng),
            self._encode(audio).mu,
            audio,
            onset_table([audible_onsets(r.stems, r.strokes) for r in answers]).to(self._device),
            functional.pad(source_truth.is_silent, (0, 1), value=True),
            None if as_banks else _recoverable(truth, source_truth),
        )

    def _segments(self, regions: Sequence[Region], rng: np.random.Generator) -> tuple[Source, Truth]:
        audio = torch.stack([region.audio for region in regions]).to(self._device)
        r = self._rhythm(audio, [r.strokes for r in regions], self._source_kinds(len(regions), rng), rng)
        truth = _stacked([truth_of(region, self.config.hop) for region in regions], self._device)
        return Source(self._encode(audio).mu, r), truth

    def _banks(self, regions: Sequence[Region], whole: Source, truth: Truth) -> tuple[Source, Truth]:
        """Return the frames of recordings at all gains, given those at the first, and what sounds."""
        audio = torch.stack([region.audio for region in regions]).to(self._device)
        latents, rhythm = [whole.mu], [whole.rhythm]
        for gain in GAINS[1:]:
            latents.append(self._encode(gain * audio).mu)
            rhythm.append(scale_velocities(self.config, whole.rhythm, gain ** (1 / LEVEL_EXPONENT)))
        mu = torch.cat(latents, dim=-1)
        mask = torch.ones(len(mu), mu.shape[-1], dtype=torch.bool, device=self._device)
        whole_truth = Truth(*(torch.cat([x] * len(GAINS), dim=-1) for x in truth))
        return Source(mu, torch.cat(rhythm, dim=-1), mask), whole_truth

    def _target(
        self,
        recipes: Sequence[SegmentRecipe],
        played: Sequence[Sequence[Stroke]],
        rng: np.random.Generator,
    ) -> Target:
        """Return what the transformer is given of targets: r, and a of those that have it.

        Where the source lacks a class, r is written of the strokes that are played in its stead, as in use.
        """
        settings, n = self.settings, len(recipes)
        kinds = rng.choice(
            ["transcribed", "midi", "exact"],
            n,
            p=[settings.heard, settings.midi, 1 - settings.heard - settings.midi],
        )
        for i, (recipe, strokes) in enumerate(zip(recipes, played, strict=True)):
            if [s.drum_class for s in recipe.strokes] != [s.drum_class for s in strokes]:
                kinds[i] = "midi"
        has_a = (kinds != "midi") & (rng.random(n) >= settings.without_a)
        audio = render_batch(recipes).to(self._device)
        r = self._rhythm(audio, played, kinds, rng)
        a = torch.zeros(n, self.config.n_activations, r.shape[-1], device=self._device)
        if has_a.any():
            given = torch.from_numpy(np.flatnonzero(has_a)).to(self._device)
            given_audio = _in_another_tone(audio[given], rng) if settings.is_worsened else audio[given]
            a[given] = self._encode(given_audio).activations
        return Target(r, a, torch.from_numpy(has_a).to(self._device))

    def _source_kinds(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Sources are recordings: they are transcribed, or exact as often as targets are."""
        return np.where(rng.random(n) < 1 - self.settings.heard - self.settings.midi, "exact", "transcribed")

    def _rhythm(
        self, audio: Tensor, strokes: Sequence[Sequence[Stroke]], kinds: np.ndarray, rng: np.random.Generator
    ) -> Tensor:
        """Return r (B, R, F) of recordings (B, T), of each as its kind has it."""
        found = self._transcriber.transcribe(audio, degraded=rng if self.settings.is_worsened else None)
        for i, (kind, played) in enumerate(zip(kinds, strokes, strict=True)):
            if kind == "transcribed":
                continue
            events = [DrumEvent(s.onset_s, s.drum_class, s.velocity) for s in played if s.onset_s >= 0]
            heights, widths = ([value] * len(events) for value in _EXACT)
            if kind == "midi":
                drawn = rng.random((2, len(events)))
                heights = np.interp(drawn[0], _QUANTILES, _HEIGHTS).tolist()
                widths = np.interp(drawn[1], _QUANTILES, _WIDTHS).tolist()
            written = activations_of_events(events, found[0].shape[-1], heights=heights, widths=widths)
            for whole, one in zip(found, written, strict=False):
                whole[i] = torch.from_numpy(one).to(whole)
        return rhythm_frames(self.config, *found, n_frames=audio.shape[-1] // self.config.hop)

    def _encode(self, audio: Tensor) -> Encoded:
        with torch.autocast(self._device.type, torch.bfloat16):
            encoded: Encoded = self._encoder(audio)
        return encoded


def _in_another_tone(audio: Tensor, rng: np.random.Generator) -> Tensor:
    """Return audio (B, T) equalised and saturated anew: a is to describe rhythm alone (decision 1)."""
    buses = [draw_bus(rng).tone_alone() for _ in audio]
    return apply_bus(audio[:, None], buses, with_noise=False)[:, 0]


def _recoverable(target: Truth, source: Truth) -> Tensor:
    """Return 1 for frames of sources (B, F) that can be made again of the pseudo-targets, else 0."""
    is_played = (target.proportion > 0).any(dim=-1, keepdim=True)  # (B, 5, 1)
    return (((source.proportion * is_played).sum(dim=1) > 0.9) | source.is_silent).float()


def _stacked(truths: Sequence[Truth], device: torch.device) -> Truth:
    return Truth(*(torch.stack(fields).to(device) for fields in zip(*truths, strict=True)))
