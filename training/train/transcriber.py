"""Train a transcriber on synthetic recordings made on the fly.

Two are trained by this code: the one that Redrum uses, and the one that judges it in the benchmark.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.card import note_thresholds
from training.data.kits import kits_of
from training.data.pack import Pack
from training.data.rhythms import Stroke
from training.data.synthesis import audible_strokes, render_batch, render_stems
from training.data.transcription import mask_bands
from training.score.articulations import balanced_accuracies
from training.score.transcriber import best_thresholds, count_matches, f_measures, make_recordings
from training.train.evaluation_transcriber import EVALUATION_CONFIG, WEIGHTS_NAME, EvaluationNet
from training.train.evaluation_transcriber import MODEL as EVALUATION
from training.train.loop import (
    Run,
    RunOptions,
    RunSettings,
    command_of,
    export_model,
    read_checkpoint,
    train,
    write_weights,
)
from training.train.reports import N_DRAWN, Spectrograms
from transform.errors import CheckpointError, SettingsError
from transform.events import CLASSES
from transform.features import DrumFeatures
from transform.presets import Preset
from transform.transcriber import (
    ARTICULATIONS,
    Transcriber,
    TranscriberConfig,
    TranscriberNet,
    load_transcriber,
)
from transform.weights import config_from_json, read_weights

WARM_LEARNING_RATE = 7e-4  # of a run that begins with trained weights: run 2 of docs/training.md
_NETS: dict[str, type[TranscriberNet]] = {"transcriber": TranscriberNet, EVALUATION: EvaluationNet}


@dataclass(frozen=True, kw_only=True)
class TranscriberTraining(RunSettings):
    """One training run."""

    velocity_weight: float = 0.5
    offset_weight: float = 0.2
    masked: float = 0.6  # proportion of segments with some bands masked
    architecture: str = "transcriber"  # or "evaluation-transcriber"; also what the run's files are called
    articulations_alone: bool = False  # all but their head stays, to the bit
    model: TranscriberConfig = field(default_factory=lambda: TranscriberConfig(articulations=ARTICULATIONS))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.architecture not in _NETS:
            raise SettingsError(f"there is no {self.architecture}", hint=f"there are {', '.join(_NETS)}")


def evaluation_training(**changes: Any) -> TranscriberTraining:
    """Return the settings of the evaluation transcriber's run, with changes."""
    settings: dict[str, Any] = {
        "architecture": EVALUATION,
        "model": EVALUATION_CONFIG,
        "seed": 2026,
        "steps": 4000,
        "warm_up": 100,
        "validate_every": 500,
        "n_validation": 24,
        "ema": 0.998,
    }
    return TranscriberTraining(**(settings | changes))


@dataclass(frozen=True)
class Targets:
    """The targets of a batch; shapes (B, 5, F), those of articulations (B, A, F)."""

    onset: Tensor
    weight: Tensor  # 0 where an event is too quiet to demand, and around grace notes
    velocity: Tensor
    offset: Tensor
    near: Tensor  # 1 where velocity and offset are demanded
    articulation: Tensor  # 1 where a stroke is of it
    is_known: Tensor  # 1 where it is known whether it is


def make_targets(
    strokes: Sequence[Sequence[Stroke]], audible: Sequence[np.ndarray], n_frames: int, fps: float
) -> Targets:
    """Return the targets of a batch of recordings: a triangle of +-1.5 frames around every audible onset."""
    shape = len(strokes), len(CLASSES), n_frames
    onset, weight, near = np.zeros(shape), np.ones(shape), np.zeros(shape)
    velocity, offset = np.zeros(shape), np.zeros(shape)
    articulation, is_known = np.zeros((2, len(strokes), len(ARTICULATIONS), n_frames))
    for b, (events, is_audible) in enumerate(zip(strokes, audible, strict=True)):
        demanded = [bool(a) and not s.is_grace for s, a in zip(events, is_audible, strict=True)]
        # Last comes what must be found: it is demanded even beside an event that need not be.
        for is_demanded, stroke in sorted(zip(demanded, events, strict=True)):
            c = CLASSES.index(stroke.drum_class)
            position = stroke.onset_s * fps
            middle = round(position)
            if not -3 <= middle <= n_frames:  # up to 30 ms before the recording, neither demanded nor wrong
                continue
            if not is_demanded:
                weight[b, c, max(0, middle - 3) : middle + 4] = 0
                continue
            for frame in range(max(0, middle - 1), min(n_frames, middle + 2)):
                height = 1 - abs(frame - position) / 1.5
                if height > onset[b, c, frame]:
                    onset[b, c, frame] = height
                    velocity[b, c, frame] = stroke.velocity
                    offset[b, c, frame] = position - frame
                    near[b, c, frame] = 1
                    for a, truth in _articulations(stroke).items():
                        articulation[b, a, frame], is_known[b, a, frame] = truth, 1
            weight[b, c, max(0, middle - 1) : middle + 2] = 1
    values = (onset, weight, velocity, offset, near, articulation, is_known)
    return Targets(*(torch.from_numpy(v).float() for v in values))


def _articulations(stroke: Stroke) -> dict[int, bool]:
    """Return, by index in ARTICULATIONS, what a stroke says of each: nothing of those of other classes."""
    known = {
        "SD": {"sidestick": stroke.articulation == "sidestick"},
        "HH": {"open": stroke.articulation == "open", "pedal": stroke.articulation == "pedal"},
        "CY": {"ride": stroke.articulation in ("ride", "bell")},
    }
    if stroke.drum_class not in known or not (stroke.articulation or stroke.drum_class == "SD"):
        return {}
    return {ARTICULATIONS.index(name): truth for name, truth in known[stroke.drum_class].items()}


def articulation_loss(logits: Tensor, targets: Targets) -> Tensor:
    """Return the mean cross-entropy of the articulations' logits (B, A, F), where they are known.

    Of each articulation the strokes that are of it weigh as much as those that are not: side sticks are rare.
    """
    n = logits.shape[1]
    truth, is_known = targets.articulation[:, :n], targets.is_known[:, :n]
    loss = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    weights = torch.stack((is_known * truth, is_known * (1 - truth)))  # (2, B, A, F)
    n_strokes = weights.sum(dim=(1, 3))
    sides = (loss * weights).sum(dim=(1, 3)) / n_strokes.clamp_min(1)
    return sides.sum() / (n_strokes > 0).sum().clamp_min(1)


def transcription_loss(logits: Tensor, targets: Targets, settings: TranscriberTraining) -> Tensor:
    """Return the loss of logits (B, 15 + A, F): of onsets, velocity, offset and articulation."""
    n = len(CLASSES)
    onset = functional.binary_cross_entropy_with_logits(logits[:, :n], targets.onset, reduction="none")
    loss = (onset * targets.weight).sum() / targets.weight.sum().clamp_min(1) * 20
    n_near = targets.near.sum().clamp_min(1)
    velocity = (torch.sigmoid(logits[:, n : 2 * n]) - targets.velocity).abs() * targets.near
    offset = functional.smooth_l1_loss(logits[:, 2 * n : 3 * n], targets.offset, reduction="none", beta=0.2)
    loss = loss + settings.velocity_weight * velocity.sum() / n_near
    loss = loss + settings.offset_weight * (offset * targets.near).sum() / n_near
    return loss + 0.1 * articulation_loss(logits[:, 3 * n :], targets)


def train_transcriber(
    pack: Pack,
    out: Path,
    settings: TranscriberTraining,
    *,
    begin: Preset | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train a transcriber as `loop.train` does, with its errors, and return the checkpoint.

    Args:
        pack: what is trained and validated on.
        out: the folder of the run.
        settings: of the run.
        begin: the preset whose transcriber a new run begins with; None: with random weights.
        options: how the run is carried out.

    Raises:
        PackError: the pack lacks what training or validation needs.
    """
    return train(settings.architecture, out, lambda device: _Run(pack, out, settings, device, begin), **options)


class _Run(Run):
    """The training of a transcriber."""

    settings: TranscriberTraining

    def __init__(
        self,
        pack: Pack,
        out: Path,
        settings: TranscriberTraining,
        device: torch.device,
        begin: Preset | None = None,
    ) -> None:
        torch.manual_seed(settings.seed)
        kits = kits_of(pack.kits, "train")
        net = _NETS[settings.architecture](settings.model)
        if settings.articulations_alone:
            if begin is None or net.articulation is None:
                raise SettingsError("articulations alone need a trained transcriber", hint="name one: --preset")
            net.requires_grad_(False)
            net.articulation.requires_grad_(True)
        super().__init__(settings.architecture, net, settings, device, kits=kits, pack=pack)
        self.features = DrumFeatures(settings.model.features).to(device)
        dynamics = settings.synthesis.velocity_exponent  # thresholds are chosen where ghost notes are as soft
        self.validation = make_recordings(
            pack, "validate", n=settings.n_validation, seed=1, velocity_exponent=dynamics
        )
        # Those that are shown are of tier A: what trains is.
        self.shown = [item.audio for item in make_recordings(pack, "train", n=N_DRAWN, seed=1, length_s=6.0)]
        self.pictures = Spectrograms(out, {"detected": [audio.cpu().numpy() for audio in self.shown]})
        if begin is not None:
            self._begin_with(begin)

    def _begin_with(self, preset: Preset) -> None:
        """Load the weights of a preset's transcriber; the optimiser warms up anew."""
        path = preset.weights("transcriber")
        trained = load_transcriber(path)
        model = self.settings.model
        if replace(trained.config, thresholds=model.thresholds, articulations=model.articulations) != model:
            raise CheckpointError(f"{path} is of another shape", hint="begin with another preset")
        weights = self.net.state_dict()  # one of 0.1.0 has no head of articulations, later ones one of fewer
        weights |= {n: own for n, own in trained.state_dict().items() if own.shape == weights[n].shape}
        for net in (self.net, self.average):
            net.load_state_dict(weights)
        self.average.config = replace(model, thresholds=trained.config.thresholds)

    def make_batch(self, rng: np.random.Generator) -> tuple[Tensor, Targets]:
        recipes = self.synthesiser.draw(self.settings.batch, rng)
        dry = torch.stack([render_stems(recipe) for recipe in recipes])
        audible = [audible_strokes(stems, r.strokes) for stems, r in zip(dry, recipes, strict=True)]
        features = mask_bands(self.features(render_batch(recipes, dry_stems=dry)), rng, self.settings.masked)
        fps = self.settings.model.features.fps
        return features, make_targets([r.sounding for r in recipes], audible, features.shape[2], fps)

    def loss_of(self, batch: tuple[Tensor, Targets]) -> Tensor:
        features, targets = batch
        if self.settings.articulations_alone:
            self.net.eval()  # no dropout, and the statistics of normalisation stay
        on_device = Targets(*(getattr(targets, name).to(self.device) for name in Targets.__dataclass_fields__))
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.net(features.contiguous(memory_format=torch.channels_last))
        if self.settings.articulations_alone:
            return articulation_loss(logits.float()[:, 3 * len(CLASSES) :], on_device)
        return transcription_loss(logits.float(), on_device, self.settings)

    def validate(self) -> dict[str, float]:
        if self.settings.articulations_alone:
            return balanced_accuracies(Transcriber(self.average), self.validation)
        thresholds = best_thresholds(Transcriber(self.average), self.validation)
        self.average.config = replace(self.average.config, thresholds=thresholds)
        transcriber = Transcriber(self.average)
        self.pictures.write(self.step, onsets_s=[_onsets_s(transcriber, audio) for audio in self.shown])
        return f_measures(count_matches(transcriber, self.validation))

    def restore(self, state: dict[str, Any], path: Path) -> None:
        super().restore(state, path)
        self.average.config = config_from_json(state["config"], TranscriberConfig)


def _onsets_s(transcriber: Transcriber, audio: Tensor) -> dict[str, list[float]]:
    """Return the onsets of each class that a transcriber detects in audio (T,)."""
    events = transcriber.events(transcriber.infer(audio))
    return {c: [event.onset_s for event in events if event.drum_class == c] for c in CLASSES}


def change_thresholds(preset: Preset, thresholds: Sequence[float], why: str) -> None:
    """Give a preset's transcriber other thresholds: its weights file and description are written anew.

    Args:
        preset: the preset; what it says of its scores is dropped.
        thresholds: by class.
        why: a sentence for the card.

    Raises:
        CheckpointError: the preset has no transcriber, or a damaged one.
    """
    path = preset.weights("transcriber")
    metadata, weights = read_weights(path, hint="get the preset again")
    net = load_transcriber(path)
    net.config = replace(net.config, thresholds=tuple(thresholds))
    state = {"average": weights, "step": metadata["step"]}
    export_model(state, net, "transcriber", preset.folder, command=preset.models["transcriber"].command)
    note_thresholds(preset.folder, why)


def export_transcriber(checkpoint: Path, folder: Path) -> Path:
    """Write the averaged weights of a checkpoint into a preset's folder (fp16) and return their file.

    The evaluation transcriber belongs to no preset: of it the weights alone are written.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    state = read_checkpoint(checkpoint, "transcriber")
    if json.loads(state["settings"]).get("architecture") == EVALUATION:
        write_weights(state, EVALUATION, folder / WEIGHTS_NAME)
        return folder / WEIGHTS_NAME
    net = TranscriberNet(config_from_json(state["config"], TranscriberConfig))
    command = command_of(state, "transcriber --data PACK --out RUN")
    return export_model(state, net, "transcriber", folder, command=command)
