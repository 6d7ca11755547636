"""Fine-tune a preset on a kit of one's own: its generator learns to make these drums of its latents.

The encoder stays, so that a rhythm transformer still fits. Segments are made of the kit's one-shots by the
synthesis, or cut from its recordings; some of other drums are mixed in, so that the others are not forgotten.
Some hits are held out: the weights that code them best are exported, and may be those of the beginning.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.data.kit_folder import KitFolder
from training.data.kits import SAMPLE_RATE, Kit, ProceduralPool
from training.data.pack import Pack
from training.data.rhythms import Groove, event_columns
from training.data.segments import SegmentCutter, Segments, SegmentSettings
from training.data.split import Split
from training.data.synthesis import SegmentRecipe, Synthesiser, SynthesisSettings
from training.score.codec import round_trip
from training.score.kit import (
    coded_distances,
    filled,
    played,
    rendered,
    some_layers,
    split_hits,
    with_held_out,
)
from training.score.measures import Audio
from training.train.codec import CodecTraining
from training.train.loop import Run, RunOptions, RunSettings, half_cosine, open_run, train_until
from training.train.losses import SpectralLoss, attack_losses, with_noises
from training.train.reports import N_DRAWN, Spectrograms
from training.train.rhythm import Trained, load_trained
from transform.audio import Recording
from transform.codec import Codec, GeneratorNet, is_quick_in_bfloat16
from transform.errors import CheckpointError, SettingsError
from transform.library import demo_recordings, list_rhythms
from transform.midi import read_midi
from transform.presets import Preset
from transform.rhythm_transformer import RhythmNet, load_rhythm
from transform.weights import fingerprint

_HELD_OUT_RHYTHMS = 5  # every fifth is held out
_HELD_OUT_RECORDED = 0.2  # of each recording, its end
_N_OTHERS = 6  # recordings of other drums
_AUDIBLE = 1e-3  # of full scale
_COMPARED_AS = 64.0  # how many codings of a recording the comparison takes as long as, but for each scored one
_SCORED_AS = 4.3  # and that one
_FEWEST_SCORED = 6  # recordings
_LEAST_TRAINED_MINUTES = 0.5  # between loading and the comparison
LEAST_MINUTES = 2.0  # of a run as a whole: less is refused before anything is loaded

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class KitTraining(RunSettings):
    """One fine-tuning run; the rate falls to its last over the time that the run is given, or its steps."""

    steps: int = 4000
    batch: int = 8  # segments of 0.74 s
    learning_rate: float = 1e-3
    last_rate: float = 0.05  # of the learning rate
    warm_up: int = 20
    ema: float = 0.99
    validate_every: int = 100
    n_validation: int = 8
    n_scored: int = 24  # recordings on which the result is compared with what it was
    n_latent: int = 6  # renders of the latent engine, likewise
    pool_size: int = 6
    general: float = 0.25  # proportion of segments that are of other drums
    kit_sounds: SynthesisSettings = field(
        default_factory=lambda: SynthesisSettings(
            procedural=0.0, mixed_kit=0.0, layered=0.0, reshaped=0.35, rattling=0.0, effects=0.4
        )
    )
    pieces: SegmentSettings = field(default_factory=lambda: SegmentSettings(per_recording=2))


@dataclass(frozen=True)
class Base:
    """The preset that is fine-tuned."""

    preset: Preset
    trained: Trained
    rhythm: RhythmNet | None

    @classmethod
    def load(cls, preset: Preset) -> Base:
        """Return what fine-tuning needs of a preset.

        Raises:
            CheckpointError: it has no transcriber or no codec, or a file is damaged.
        """
        trained, rhythm = load_trained(preset), None
        if "rhythm" in preset.models:
            rhythm = load_rhythm(preset.weights("rhythm"), Codec(trained.encoder, trained.generator))
        return cls(preset, trained, rhythm)


@dataclass(frozen=True)
class Material:
    """What a run is trained on, and what is held out."""

    kit: Kit | None  # without the hits held out; None where there are recordings only
    held_out: Kit | None  # those hits; None where no voice has two
    recordings: tuple[Tensor, ...]  # each without its end
    ends: tuple[Audio, ...]
    digest: str  # distinguishes it from other material

    @classmethod
    def of(cls, folder: KitFolder, seed: int) -> Material:
        """Return the material of a folder."""
        kit, held_out = split_hits(folder.kit, seed) if folder.kit.one_shots else (None, None)
        cut = [(s, round(len(s) * (1 - _HELD_OUT_RECORDED))) for _, s in folder.recordings]
        total = hashlib.sha256()
        for shot in folder.kit.one_shots:
            total.update(f"{shot.drum_class} {shot.articulation}".encode() + shot.samples.numpy().tobytes())
        for _, samples in folder.recordings:
            total.update(samples.numpy().tobytes())
        ends = tuple(region for s, at in cut for region in _regions(s[at:].numpy()))
        return cls(kit, held_out, tuple(s[:at] for s, at in cut), ends, total.hexdigest()[:16])

    def judges(self, grooves: Sequence[Groove], *, n: int, seed: int) -> list[Audio]:
        """Return up to `n` recordings that show how well the kit is coded, half of them ends if there are both.

        They play the hits that were held out and no others; where none were, all hits, in rhythms held out.
        """
        kit = self.held_out or self.kit
        n_ends = min(len(self.ends), n if kit is None else n // 2)
        places = sorted({round(i) for i in np.linspace(0, len(self.ends) - 1, n_ends)})
        made = rendered(played(kit, grooves, n=n - n_ends, seed=seed)) if kit else []
        return [*made, *(self.ends[i] for i in places)]

    def whole(self, grooves: Sequence[Groove], *, n: int, seed: int) -> list[SegmentRecipe]:
        """Return recipes of the whole kit, hits that were held out playing instead of others like them."""
        if self.kit is None:
            return []
        kit = self.kit if self.held_out is None else with_held_out(self.kit, self.held_out)
        return played(kit, grooves, n=n, seed=seed)


def _regions(end: Audio, length_s: float = 4.0) -> list[Audio]:
    """Return regions of 4 s of a sound, from its end on, that are not silent; a short sound is one region."""
    length = round(length_s * SAMPLE_RATE)
    whole = [end[at - length : at] for at in range(len(end), length - 1, -length)] or [end]
    return [region for region in whole if np.abs(region).max() > _AUDIBLE]


def shipped_grooves() -> list[Groove]:
    """Return all rhythms there are, shipped and added, every fifth on the side that validates."""
    grooves = []
    for i, info in enumerate(list_rhythms()):
        split: Split = "validate" if i % _HELD_OUT_RHYTHMS == 0 else "train"
        grooves.append(
            Groove(
                name=info.name,
                style=info.style,
                split=split,
                bpm=info.bpm,
                n_beats=info.beats,
                **event_columns(read_midi(info.path)),
            )
        )
    return grooves


def train_kit(
    folder: KitFolder,
    base: Base,
    out: Path,
    settings: KitTraining,
    **options: Unpack[RunOptions],
) -> Path:
    """Fine-tune a generator as `loop.train` trains, with its errors, and return the checkpoint.

    The minutes are those of the whole run, with the comparison of `export_kit` after it: what passed before it
    was resumed counts. A run that has had all of them is returned as it is.

    Raises:
        CheckpointError: the checkpoint is of another kit or preset.
        SettingsError: the minutes are too few for a step and the comparison; the hint says how many it takes.
    """
    began_s, limit_s = time.monotonic(), 60 * options.get("max_minutes", math.inf)
    material, checkpoint = Material.of(folder, settings.seed), out / "kit.pt"
    run = open_run("kit", out, lambda device: _Run(material, base, out, settings, device), **options)
    if options.get("resume") and (run.spent_s >= limit_s or run.step >= settings.steps):
        return checkpoint
    run.began_s = began_s - run.spent_s
    spent_s = time.monotonic() - run.began_s
    left_out_s = run.leave_time(limit_s - spent_s)
    run.limit_s = limit_s - left_out_s
    if run.limit_s <= spent_s:
        minutes = math.ceil((spent_s + left_out_s) / 60 + _LEAST_TRAINED_MINUTES)
        raise SettingsError(
            f"{limit_s / 60:g} minutes are too few on this machine to load, train and compare",
            hint=f"give --max-minutes {minutes} or more",
        )
    train_until(run.began_s + run.limit_s, run, out)
    if run.history[-1][0] != run.step:
        run.validate()
        run.save(checkpoint)
    return checkpoint


class _Run(Run):
    """The fine-tuning of a generator."""

    settings: KitTraining
    net: GeneratorNet

    def __init__(
        self, material: Material, base: Base, out: Path, settings: KitTraining, device: torch.device
    ) -> None:
        torch.manual_seed(settings.seed)
        grooves = shipped_grooves()
        super().__init__(
            "kit",
            copy.deepcopy(base.trained.generator),
            settings,
            device,
            kits=(),
            pack=Pack((), tuple(grooves), ()),
        )
        self.average.eval()
        self.encoder = base.trained.encoder.to(device).eval()
        first_noise_hz = base.trained.generator.config.first_noise_hz
        self.spectra = SpectralLoss(first_noise_hz).to(device)
        self._weights = CodecTraining().weights("mel", "stft", "bands", "wave", "attack", "pre_echo")
        self._weights |= CodecTraining().weights("noise") if first_noise_hz else {}
        self._is_coarse = is_quick_in_bfloat16(device.type)
        self.identity = {"kit": material.digest, "preset": fingerprint(base.trained.generator)}
        self._grooves = [groove for groove in grooves if groove.split == "train"]
        self._kit = None if material.kit is None else filled(material.kit).to(device)
        self._recordings = [samples.to(device) for samples in material.recordings]
        demos = [(name, samples[: len(samples) // 2].to(device)) for name, samples in _demo_loops()]
        self._others = SegmentCutter(self.synthesiser, demos, settings.pieces)
        held_out = validation_grooves(grooves)
        # Two held-out hits may be of one kind, so the whole kit also judges which weights are best.
        n_whole = settings.n_validation // 2
        self.judges = material.judges(held_out, n=settings.n_validation - n_whole, seed=settings.seed)
        self.judges += rendered(material.whole(held_out, n=n_whole, seed=settings.seed))
        self.others = other_recordings(settings, device)
        self.shown = [*self.judges[: N_DRAWN // 2], *self.others[: N_DRAWN // 2]]
        self.pictures = Spectrograms(out, {"original": self.shown})
        self.history: list[tuple[int, float, float]] = []  # step, distances of the kit and of other drums
        self.best: dict[str, Tensor] = {}
        self.spent_s, self.limit_s, self.began_s = 0.0, math.inf, time.monotonic()
        self.n_scored, self.coding_s = settings.n_scored, 0.0
        self.validate()
        _, own, others = self.history[0]
        _log.info("as it is: %.2f dB from the kit, %.2f dB from other drums", own, others)

    def leave_time(self, left_s: float) -> float:
        """Return how many of the seconds that are left the last validation and the comparison take.

        Where that were more than a third, the comparison is made on fewer recordings.
        """
        n_codings = left_s / 3 / max(self.coding_s, 1e-9)
        n = int(min(self.settings.n_scored, (n_codings - _COMPARED_AS) / _SCORED_AS))
        self.n_scored = max(n, min(_FEWEST_SCORED, self.settings.n_scored))
        n_last = len(self.judges) + len(self.others)
        return self.coding_s * (_COMPARED_AS + _SCORED_AS * self.n_scored + n_last)

    def learning_rate(self) -> float:
        settings = self.settings
        if self.step < settings.warm_up:
            return settings.learning_rate * (self.step + 1) / settings.warm_up
        done = min(1.0, max(self.step / settings.steps, (time.monotonic() - self.began_s) / self.limit_s))
        return settings.learning_rate * half_cosine(done, last=settings.last_rate)

    def make_batch(self, rng: np.random.Generator) -> Segments:
        n = self.settings.batch
        n_others = int(rng.binomial(n, self.settings.general))
        n_recorded = 0
        if self._recordings:
            n_recorded = n - n_others if self._kit is None else int(rng.binomial(n - n_others, 0.5))
        batches = [self._others.cut(n_others, rng)] if n_others else []
        batches += [self._recorded(n_recorded, rng)] if n_recorded else []
        if n_kit := n - n_others - n_recorded:
            batches.append(SegmentCutter(self._kit_synthesiser(rng), [], self.settings.pieces).cut(n_kit, rng))
        return Segments.joined(batches)

    def loss_of(self, batch: Segments) -> Tensor:
        target = batch.audio.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._is_coarse):
            with torch.no_grad():
                latents = self.encoder(target).mu  # without noise, as in use
            output, other = with_noises(self.net, latents, self.step)
        terms = self.spectra(output, target, other)
        terms |= attack_losses(output, target, batch.onsets.to(self.device), other)
        return torch.stack([weight * terms[name] for name, weight in self._weights.items()]).sum()

    def validate(self) -> dict[str, float]:
        """Return the log-mel distances of held-out hits and of other drums; the best weights are stored."""
        codec = Codec(self.encoder, self.average, device=str(self.device))
        began_s = time.monotonic()
        own, others = (float(np.mean(coded_distances(codec, each))) for each in (self.judges, self.others))
        self.coding_s = (time.monotonic() - began_s) / (len(self.judges) + len(self.others))
        if self.step:  # not while a run is made, which may be refused
            self.pictures.write(self.step, {"decoded": [round_trip(codec, audio) for audio in self.shown]})
        if not self.history or own < min(distance for _, distance, _ in self.history):
            self.best = {name: value.clone() for name, value in self.average.state_dict().items()}
        self.history.append((self.step, own, others))
        return {"mel_db": round(own, 4), "others mel_db": round(others, 4)}

    def state(self) -> dict[str, Any]:
        self.spent_s = time.monotonic() - self.began_s
        about = {**self.identity, "history": self.history, "spent_s": self.spent_s}
        about["n_scored"] = self.n_scored
        return {**super().state(), "best": self.best, "kit": json.dumps(about)}

    def restore(self, state: dict[str, Any], path: Path) -> None:
        try:
            about = dict(json.loads(state.get("kit", "{}")))
        except (ValueError, TypeError) as err:
            raise CheckpointError(f"{path} is no checkpoint of a kit", hint="begin without --resume") from err
        for name, what in (("kit", "other sounds"), ("preset", "another preset")):
            if about.get(name) != self.identity[name]:
                raise CheckpointError(
                    f"{path} was begun with {what}",
                    hint="resume with the folder and the preset it was begun with, or name another --out",
                )
        super().restore(state, path)
        try:
            self.history = [(int(step), float(own), float(others)) for step, own, others in about["history"]]
            self.best, self.spent_s = dict(state["best"]), float(about["spent_s"])
        except (ValueError, TypeError, LookupError) as err:
            raise CheckpointError(f"{path} is no checkpoint of a kit", hint="begin without --resume") from err

    def _kit_synthesiser(self, rng: np.random.Generator) -> Synthesiser:
        assert self._kit is not None
        kit = some_layers(self._kit, rng)
        return Synthesiser([kit], self._grooves, self.settings.kit_sounds, pool=None)

    def _recorded(self, n: int, rng: np.random.Generator) -> Segments:
        """Return segments of the kit's recordings, up to 12 dB softer."""
        length = self.settings.pieces.n_samples
        audio = []
        for _ in range(n):
            samples = self._recordings[rng.integers(len(self._recordings))]
            start = int(rng.integers(max(1, len(samples) - length + 1)))
            segment = samples[start : start + length]
            gain = float(10 ** (rng.uniform(-12, 0) / 20) * rng.choice([-1.0, 1.0]))
            audio.append(gain * functional.pad(segment, (0, length - len(segment))))
        return Segments(torch.stack(audio), torch.full((n, 1), -1, device=self.device), ())


def validation_grooves(grooves: Sequence[Groove]) -> list[Groove]:
    """Return the rhythms that a run is judged by."""
    return [groove for groove in grooves if groove.split == "validate" and groove.n_beats >= 8]


def other_recordings(settings: KitTraining, device: torch.device) -> list[Audio]:
    """Return recordings of drums that are not the kit's: made ones, and the ends of the shipped loops."""
    pool = ProceduralPool(torch.Generator(device).manual_seed(settings.seed + 1), settings.pool_size)
    pool.fill()
    synthesiser = Synthesiser([], validation_grooves(shipped_grooves()), settings.synthesis, pool=pool)
    made = rendered(synthesiser.draw(_N_OTHERS, np.random.default_rng(settings.seed), per_kit=1))
    return [*made, *(samples[len(samples) // 2 :].numpy() for _, samples in _demo_loops())]


def _demo_loops() -> list[tuple[str, Tensor]]:
    """Return the shipped loops; their first halves are trained on, the others judge."""
    loops = []
    for shipped in demo_recordings():
        with Recording.open(shipped.path) as recording:
            loops.append((shipped.name, torch.from_numpy(np.concatenate(list(recording.mono_blocks())))))
    return loops
