"""Train a transcriber on synthetic recordings made on the fly; stops on time, goes on where it stopped.

Two are trained by this code: the one that Redrum listens with, and the one that judges it in the benchmark.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import pickle
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor
from torch.nn import functional

from training.card import describe_model
from training.curves import draw_curves
from training.evaluation_transcriber import EVALUATION_CONFIG, WEIGHTS_NAME, EvaluationNet
from training.evaluation_transcriber import MODEL as EVALUATION
from training.kits import Kit, ProceduralPool, kits_of
from training.pack import Pack, PackError
from training.rhythms import Stroke
from training.score_transcriber import best_thresholds, count_matches, f_measures, make_recordings
from training.synthesis import (
    Synthesiser,
    SynthesisSettings,
    audible_strokes,
    render_batch,
    render_stems,
)
from transform.errors import CheckpointError, SettingsError
from transform.events import CLASSES
from transform.features import DrumFeatures
from transform.files import appearing
from transform.transcriber import (
    Transcriber,
    TranscriberConfig,
    TranscriberNet,
    config_from_json,
    config_to_json,
)

_log = logging.getLogger(__name__)
_RENEWED = 2  # procedural one-shots that are new in each step
_NETS: dict[str, type[TranscriberNet]] = {"transcriber": TranscriberNet, EVALUATION: EvaluationNet}


@dataclass(frozen=True, kw_only=True)
class TranscriberTraining:
    """One training run."""

    steps: int = 8000  # the learning rate's half cosine ends here
    batch: int = 16  # segments of 2.97 s a step
    learning_rate: float = 2e-3
    warm_up: int = 300  # steps
    weight_decay: float = 1e-2
    ema: float = 0.999  # decay of the averaged weights, which are the ones exported
    gradient_clip: float = 1.0
    velocity_weight: float = 0.5
    offset_weight: float = 0.2
    seed: int = 0
    validate_every: int = 500  # steps
    n_validation: int = 96  # held-out recordings of 12 s
    pool_size: int = 40  # procedural one-shots in stock, per articulation
    architecture: str = "transcriber"  # or "evaluation-transcriber"; also what the run's files are called
    kits: Literal["all", "odd"] = "all"  # odd: the half whose names' hashes are odd
    synthesis: SynthesisSettings = field(default_factory=SynthesisSettings)
    model: TranscriberConfig = field(default_factory=TranscriberConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every", "n_validation", "pool_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.architecture not in _NETS:
            raise SettingsError(f"there is no {self.architecture}", hint=f"there are {', '.join(_NETS)}")
        if self.kits not in ("all", "odd"):
            raise SettingsError(f"kits is {self.kits!r}", hint="give all or odd")


def evaluation_training(**changes: Any) -> TranscriberTraining:
    """Return the settings of the evaluation transcriber's run, a few minutes long, with changes."""
    settings: dict[str, Any] = {
        "architecture": EVALUATION,
        "model": EVALUATION_CONFIG,
        "kits": "odd",
        "seed": 1999,
        "steps": 1200,
        "warm_up": 100,
        "validate_every": 300,
        "n_validation": 24,
        "ema": 0.996,
    }
    return TranscriberTraining(**(settings | changes))


@dataclass(frozen=True)
class Targets:
    """What the network should say of a batch; shapes (B, 5, F), openness (B, F)."""

    onset: Tensor
    weight: Tensor  # 0 where an event is too quiet to demand, and around grace notes
    velocity: Tensor
    offset: Tensor
    near: Tensor  # 1 where velocity and offset are demanded
    openness: Tensor
    is_hat: Tensor


def make_targets(
    strokes: Sequence[Sequence[Stroke]], audible: Sequence[np.ndarray], n_frames: int, fps: float
) -> Targets:
    """Return the targets of a batch of recordings: a triangle of +-1.5 frames around every audible onset."""
    shape = len(strokes), len(CLASSES), n_frames
    onset, weight, near = np.zeros(shape), np.ones(shape), np.zeros(shape)
    velocity, offset = np.zeros(shape), np.zeros(shape)
    openness, is_hat = np.zeros((shape[0], n_frames)), np.zeros((shape[0], n_frames))
    for b, (events, heard) in enumerate(zip(strokes, audible, strict=True)):
        demanded = [bool(h) and not s.is_grace for s, h in zip(events, heard, strict=True)]
        # Last comes what must be found: it is demanded even beside an event that need not be.
        for is_demanded, stroke in sorted(zip(demanded, events, strict=True)):
            c = CLASSES.index(stroke.drum_class)
            position = stroke.onset_s * fps
            middle = round(position)
            if not -1 <= middle <= n_frames:
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
                    if c == 3 and stroke.articulation:
                        openness[b, frame] = stroke.articulation == "open"
                        is_hat[b, frame] = 1
            weight[b, c, max(0, middle - 1) : middle + 2] = 1
    values = (onset, weight, velocity, offset, near, openness, is_hat)
    return Targets(*(torch.from_numpy(v).float() for v in values))


def transcription_loss(logits: Tensor, targets: Targets, settings: TranscriberTraining) -> Tensor:
    """Return the loss of logits (B, 16, F): weighted cross-entropy of onsets, L1 of velocity and offset."""
    n = len(CLASSES)
    onset = functional.binary_cross_entropy_with_logits(logits[:, :n], targets.onset, reduction="none")
    loss = (onset * targets.weight).sum() / targets.weight.sum().clamp_min(1) * 20
    n_near = targets.near.sum().clamp_min(1)
    velocity = (torch.sigmoid(logits[:, n : 2 * n]) - targets.velocity).abs() * targets.near
    offset = functional.smooth_l1_loss(logits[:, 2 * n : 3 * n], targets.offset, reduction="none", beta=0.2)
    loss = loss + settings.velocity_weight * velocity.sum() / n_near
    loss = loss + settings.offset_weight * (offset * targets.near).sum() / n_near
    openness = functional.binary_cross_entropy_with_logits(logits[:, 3 * n], targets.openness, reduction="none")
    return loss + 0.1 * (openness * targets.is_hat).sum() / targets.is_hat.sum().clamp_min(1)


def train_transcriber(
    pack: Pack,
    out: Path,
    settings: TranscriberTraining,
    *,
    max_minutes: float = math.inf,
    device: str = "cpu",
    resume: bool = False,
) -> Path:
    """Train until `settings.steps` or `max_minutes`, and return the checkpoint.

    Every batch follows from the seed and its step alone, so a run that was stopped and resumed is the same run,
    to the bit on one machine with a fixed number of threads.

    Raises:
        CheckpointError: there is nothing to resume, or something that would be overwritten.
        PackError: the pack lacks what training or validation needs.
        SettingsError: the time is too short for a single step.
    """
    deadline = time.monotonic() + max_minutes * 60
    checkpoint, log_path = out / f"{settings.architecture}.pt", out / f"{settings.architecture}.jsonl"
    state = _read_checkpoint(checkpoint, device) if resume else None
    if not resume and checkpoint.exists():
        raise CheckpointError(f"{checkpoint} exists", hint="go on with --resume, or name another --out")
    out.mkdir(parents=True, exist_ok=True)
    run = _Run(pack, settings, torch.device(device))
    if state is not None:
        run.restore(state, checkpoint)
    first_step = run.step
    # Data is made beside the training step, on one thread: two teams of threads would fight for the cores.
    maker = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
    with log_path.open("a", encoding="utf-8") as log, maker:
        upcoming = maker.submit(run.make_batch, run.step)
        told = time.monotonic()
        while run.step < settings.steps and time.monotonic() < deadline:
            began = time.monotonic()
            batch = upcoming.result()
            waited = time.monotonic() - began
            upcoming = maker.submit(run.make_batch, run.step + 1)
            loss = run.train_step(*batch)
            if not math.isfinite(loss):
                raise CheckpointError(f"the loss is {loss} at step {run.step}", hint="lower the learning rate")
            entry: dict[str, Any] = {"step": run.step, "loss": round(loss, 5)}
            entry |= {"s": round(time.monotonic() - began, 3), "waited_s": round(waited, 3)}
            if run.step % settings.validate_every == 0:
                entry |= {"f": run.validate()}
                run.save(checkpoint)
                _log.info("step %d: %s", run.step, entry)
            if run.step % 20 == 0 or "f" in entry:
                log.write(json.dumps(entry) + "\n")
                log.flush()
            if time.monotonic() - told >= 60:
                told = time.monotonic()
                _log.info("step %d of %d: loss %.3f, %.2f s a step", run.step, settings.steps, loss, entry["s"])
    if run.step == first_step < settings.steps:
        raise SettingsError(
            f"{max_minutes:g} minutes are too short for a single training step", hint="raise --max-minutes"
        )
    run.save(checkpoint)
    draw_curves(log_path, out / "curves.png")
    _log.info("step %d of %d in %s", run.step, settings.steps, checkpoint)
    return checkpoint


class _Run:
    """The state of a training run: network, average, optimiser, step."""

    def __init__(self, pack: Pack, settings: TranscriberTraining, device: torch.device) -> None:
        torch.manual_seed(settings.seed)
        torch.set_flush_denormal(True)
        self.settings, self.device, self.step = settings, device, 0
        make_net = _NETS[settings.architecture]
        self.net = make_net(settings.model).to(device).to(memory_format=torch.channels_last)
        self.average = make_net(settings.model).to(device)
        self.average.load_state_dict(self.net.state_dict())
        self.features = DrumFeatures(settings.model.features).to(device)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
        )
        grooves = pack.grooves_of("train")
        if not grooves:
            raise PackError("the pack holds no rhythms to train on", hint="pack the train side too")
        self.validation = make_recordings(pack, "validate", n=settings.n_validation, seed=1)
        self.pool = ProceduralPool(torch.Generator(device).manual_seed(settings.seed), settings.pool_size)
        self.pool.fill()
        kits = [_on_device(kit, device) for kit in _training_kits(pack, settings.kits)]
        self.synthesiser = Synthesiser(kits, grooves, settings.synthesis, pool=self.pool)

    def _rng(self, step: int) -> np.random.Generator:
        return np.random.default_rng((self.settings.seed, step))

    def make_batch(self, step: int) -> tuple[Tensor, Targets]:
        rng = self._rng(step)
        self.pool.renew(rng, _RENEWED)
        recipes = self.synthesiser.draw(self.settings.batch, rng)
        dry = torch.stack([render_stems(recipe) for recipe in recipes])
        audible = [audible_strokes(stems, r.strokes) for stems, r in zip(dry, recipes, strict=True)]
        features = self.features(render_batch(recipes, dry_stems=dry))
        fps = self.settings.model.features.fps
        return features, make_targets([r.strokes for r in recipes], audible, features.shape[2], fps)

    def train_step(self, features: Tensor, targets: Targets) -> float:
        settings = self.settings
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = settings.learning_rate * _schedule(self.step, settings)
        on_device = Targets(*(getattr(targets, name).to(self.device) for name in Targets.__dataclass_fields__))
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.net(features.contiguous(memory_format=torch.channels_last))
        loss = transcription_loss(logits.float(), on_device, settings)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), settings.gradient_clip)
        self.optimiser.step()
        self.step += 1
        self._update_average()
        return float(loss.detach())

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        averaged = self.average.state_dict()
        for name, value in self.net.state_dict().items():
            if value.dtype.is_floating_point:
                averaged[name].lerp_(value, 1 - decay)
            else:
                averaged[name].copy_(value)

    def validate(self) -> dict[str, float]:
        thresholds = best_thresholds(Transcriber(self.average), self.validation)
        self.average.config = replace(self.average.config, thresholds=thresholds)
        return f_measures(count_matches(Transcriber(self.average), self.validation))

    def save(self, path: Path) -> None:
        state = {
            "settings": json.dumps(asdict(self.settings)),
            "config": config_to_json(self.average.config),
            "step": self.step,
            "net": self.net.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "torch_random": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["cuda_random"] = torch.cuda.get_rng_state(self.device)
        with appearing(path, overwrite=True) as temporary:
            torch.save(state, temporary)

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Go on from a checkpoint; the stock of procedural drums is made again as it was."""
        before = json.loads(state["settings"])
        for name, value in json.loads(json.dumps(asdict(self.settings))).items():
            if name in before and before[name] != value:
                _log.warning("resumed with another %s: %s, not %s", name, value, before[name])
        try:
            self.net.load_state_dict(state["net"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError) as err:
            raise CheckpointError(
                f"{path} holds a network of another shape", hint="resume with the settings it was begun with"
            ) from err
        self.average.config = config_from_json(state["config"])
        self.step = state["step"]
        self.pool.replay((self._rng(step) for step in range(self.step)), _RENEWED)
        torch.set_rng_state(state["torch_random"].cpu())
        if self.device.type == "cuda" and "cuda_random" in state:
            torch.cuda.set_rng_state(state["cuda_random"].cpu(), self.device)


def _read_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        lacking = {"settings", "config", "step", "net", "average", "optimiser"} - state.keys()
    except (OSError, RuntimeError, EOFError, AttributeError, pickle.UnpicklingError) as err:
        why = "does not exist" if not path.exists() else "is no readable checkpoint"
        raise CheckpointError(f"{path} {why}", hint="start a run without --resume") from err
    if lacking:
        raise CheckpointError(f"{path} is no checkpoint of a transcriber", hint="start a run without --resume")
    return state


def _schedule(step: int, settings: TranscriberTraining) -> float:
    if step < settings.warm_up:
        return (step + 1) / settings.warm_up
    done = (step - settings.warm_up) / max(1, settings.steps - settings.warm_up)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def _training_kits(pack: Pack, which: Literal["all", "odd"]) -> list[Kit]:
    kits = kits_of(pack.kits, "train")
    if which == "all":
        return kits
    odd = [kit for kit in kits if hashlib.sha256(kit.name.encode()).digest()[0] % 2]
    _log.info("%d of %d training kits", len(odd), len(kits))
    return odd


def _on_device(kit: Kit, device: torch.device) -> Kit:
    moved = tuple(replace(shot, samples=shot.samples.to(device)) for shot in kit.one_shots)
    return replace(kit, one_shots=moved)


def export_transcriber(checkpoint: Path, folder: Path) -> Path:
    """Write the averaged weights of a checkpoint into a preset's folder (fp16) and return their file.

    The preset's description and card follow; a folder that is no preset yet becomes one. The evaluation
    transcriber is no part of any preset: of it the weights alone are written.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    state = _read_checkpoint(checkpoint)
    settings = json.loads(state["settings"])
    architecture = settings.get("architecture", "transcriber")
    weights = {k: v.half() if v.dtype.is_floating_point else v for k, v in state["average"].items()}
    header = {"model": architecture, "config": state["config"], "step": str(state["step"])}
    path = folder / (WEIGHTS_NAME if architecture == EVALUATION else "transcriber.safetensors")
    with appearing(path, overwrite=True) as temporary:
        temporary.write_bytes(save(weights, metadata=header))  # save_file's are the owner's alone to read
    if architecture == EVALUATION:
        return path
    parameters = sum(
        parameter.numel() for parameter in TranscriberNet(config_from_json(state["config"])).parameters()
    )
    options = "".join(f" --{name} {settings[name]}" for name in ("steps", "batch", "seed"))
    command = f"redrum train transcriber --data PACK --out RUN --export PRESET{options}"
    describe_model(folder, "transcriber", weights=path, parameters=parameters, command=command)
    return path
