"""A training run on synthetic recordings made on the fly: it stops on time and goes on where it stopped.

Every batch follows from the seed and its step alone, so a run that was stopped and resumed is the same run, to
the bit on one machine with a fixed number of threads. A child of `Run` defines what is trained.
"""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import pickle
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict, TypeVar, Unpack

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from training.card import describe_model
from training.data.kits import Kit, ProceduralPool
from training.data.pack import Pack, PackError
from training.data.synthesis import Synthesiser, SynthesisSettings
from training.train.reports import draw_curves
from transform.confined import ConfinedFolder
from transform.errors import CheckpointError, SettingsError
from transform.files import atomic_file, open_plain
from transform.weights import config_to_json

_log = logging.getLogger(__name__)
RENEWED = 2  # procedural one-shots that are new in each step
_REPORT_S = 20.0  # between two lines of the log


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """What the runs of all models have in common."""

    steps: int = 8000  # the learning rate's half cosine ends here
    batch: int = 16  # segments of 2.97 s a step
    learning_rate: float = 2e-3
    warm_up: int = 300  # steps
    weight_decay: float = 1e-2
    ema: float = 0.999  # decay of the averaged weights, which are the ones exported
    gradient_clip: float = 1.0
    seed: int = 0
    validate_every: int = 500  # steps
    n_validation: int = 96  # held-out recordings
    pool_size: int = 40  # procedural one-shots in stock, per articulation
    synthesis: SynthesisSettings = field(default_factory=SynthesisSettings)

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every", "n_validation", "pool_size"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be 1 or more")

    def weights(self, *terms: str) -> dict[str, float]:
        """Return the weights that the settings give to terms of a loss."""
        return {term: getattr(self, f"{term}_weight") for term in terms}


class RunOptions(TypedDict, total=False):
    """How a run is carried out; every trainer takes these by keyword."""

    max_minutes: float  # after which it stops with a checkpoint
    device: str  # that it is trained on; "cpu" if it is not given
    resume: bool  # continue from the checkpoint in the folder of the run


class Run(ABC):
    """The state of a training run: network, average, optimiser, step."""

    def __init__(
        self,
        name: str,
        net: nn.Module,
        settings: RunSettings,
        device: torch.device,
        *,
        kits: Sequence[Kit],
        pack: Pack,
    ) -> None:
        """Begin a run.

        Args:
            name: what the run's files are called.
            net: the network as it begins; its attribute `config` goes into checkpoints.
            settings: of the run.
            device: where it is trained.
            kits: what segments are made of, beside procedural drums.
            pack: the rhythms are its training side's.

        Raises:
            PackError: there are no rhythms to train on.
        """
        torch.set_flush_denormal(True)
        self.name, self.settings, self.device, self.step = name, settings, device, 0
        self.average: Any = copy.deepcopy(net).to(device)
        self.net = net.to(device).to(memory_format=torch.channels_last)
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), settings.learning_rate, betas=(0.9, 0.98), weight_decay=settings.weight_decay
        )
        grooves = pack.grooves_of("train")
        if not grooves:
            raise PackError("the pack holds no rhythms to train on", hint="pack the train side too")
        self.pool = ProceduralPool(torch.Generator(device).manual_seed(settings.seed), settings.pool_size)
        self.pool.fill()
        self.synthesiser = Synthesiser(
            [kit.to(device) for kit in kits], grooves, settings.synthesis, pool=self.pool
        )

    @abstractmethod
    def make_batch(self, rng: np.random.Generator) -> Any:
        """Return a batch; every decision is drawn from `rng`. Called on a thread beside the training step."""

    @abstractmethod
    def loss_of(self, batch: Any) -> Tensor:
        """Return the loss of the network, in training mode, on a batch."""

    @abstractmethod
    def validate(self) -> dict[str, float]:
        """Return the scores of the averaged network on held-out recordings."""

    def learning_rate(self) -> float:
        """Return the learning rate of the next step."""
        return self.settings.learning_rate * schedule(self.step, self.settings)

    def batch_of(self, step: int) -> Any:
        """Return the batch of a step."""
        rng = self._rng(step)
        self.pool.renew(rng, RENEWED)
        return self.make_batch(rng)

    def train_step(self, batch: Any) -> float:
        """Learn from a batch and return its loss."""
        settings = self.settings
        self.net.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate() * group.get("factor", 1.0)
        loss = self.loss_of(batch)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), settings.gradient_clip)
        self.optimiser.step()
        self.step += 1
        self._update_average()
        return float(loss.detach())

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds."""
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
        return state

    def save(self, path: Path) -> None:
        """Write the checkpoint."""
        state = self.state()
        with atomic_file(path, overwrite=True) as temporary:
            torch.save(state, temporary)

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Go on from a checkpoint; the stock of procedural drums is made again as it was."""
        try:
            before, step = dict(json.loads(state["settings"])), int(state["step"])
            torch_random = state["torch_random"].cpu()
            if step < 0:
                raise ValueError(f"step {step}")
        except (ValueError, TypeError, LookupError, AttributeError) as err:
            raise CheckpointError(
                f"{path} is no checkpoint of a {self.name}", hint="start a run without --resume"
            ) from err
        for name, value in json.loads(json.dumps(asdict(self.settings))).items():
            if name in before and before[name] != value:
                _log.warning("resumed with another %s: %s, not %s", name, value, before[name])
        try:
            self.net.load_state_dict(state["net"])
            self.average.load_state_dict(state["average"])
            self.optimiser.load_state_dict(state["optimiser"])
        except (RuntimeError, ValueError, TypeError, LookupError, AttributeError) as err:
            raise CheckpointError(
                f"{path} holds a network of another shape", hint="resume with the settings it was begun with"
            ) from err
        self.step = step
        self.replay()
        torch.set_rng_state(torch_random)
        if self.device.type == "cuda" and "cuda_random" in state:
            torch.cuda.set_rng_state(state["cuda_random"].cpu(), self.device)

    def replay(self) -> None:
        """Make the stocks that batches are drawn from as they were before the current step."""
        self.pool.replay((self._rng(step) for step in range(self.step)), RENEWED)

    def _rng(self, step: int) -> np.random.Generator:
        return np.random.default_rng((self.settings.seed, step))

    @torch.no_grad()
    def _update_average(self) -> None:
        decay = min(self.settings.ema, (1 + self.step) / (10 + self.step))
        averaged = self.average.state_dict()
        for name, value in self.net.state_dict().items():
            if torch.equal(value, averaged[name]):
                continue  # a mean of -0 would be 0: what is frozen would not stay to the bit
            if value.dtype.is_floating_point:
                averaged[name].lerp_(value, 1 - decay)
            else:
                averaged[name].copy_(value)


_AnyRun = TypeVar("_AnyRun", bound=Run)


def leave_core_for_data() -> None:
    """Let PyTorch compute on all cores but the one that makes data, unless $OMP_NUM_THREADS says otherwise."""
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, n_cores - 1))


def train(
    name: str,
    out: Path,
    make: Callable[[torch.device], Run],
    **options: Unpack[RunOptions],
) -> Path:
    """Train until the settings' steps or `max_minutes`, and return the checkpoint.

    Args:
        name: what the run's files are called.
        out: the folder of the run: checkpoint, log, picture.
        make: begins the run on a device.
        options: how it is carried out.

    Raises:
        CheckpointError: there is nothing to resume, or something that would be overwritten; or the loss is not
            finite.
        SettingsError: the time is too short for a single step.
    """
    deadline = time.monotonic() + 60 * options.get("max_minutes", math.inf)
    return train_until(deadline, open_run(name, out, make, **options), out)


def open_run(
    name: str, out: Path, make: Callable[[torch.device], _AnyRun], **options: Unpack[RunOptions]
) -> _AnyRun:
    """Return a new run, or the one that a checkpoint continues; arguments and errors are those of `train`."""
    checkpoint = out / f"{name}.pt"
    device, resume = options.get("device", "cpu"), options.get("resume", False)
    if checkpoint.exists() and not resume:
        raise CheckpointError(f"{checkpoint} exists", hint="go on with --resume, or name another --out")
    run = make(torch.device(device))
    if resume:
        run.restore(read_checkpoint(checkpoint, name, device), checkpoint)
    return run


def train_until(deadline: float, run: Run, out: Path) -> Path:
    """Train until a time on the clock of `time.monotonic`, or the last step; errors are those of `train`."""
    settings = run.settings
    checkpoint, log_path = out / f"{run.name}.pt", out / f"{run.name}.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    first_step = run.step
    # Data is made beside the training step, on one thread: two teams of threads would fight for the cores.
    maker = ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,))
    with ConfinedFolder(out).append(log_path.name) as log, maker:
        upcoming = maker.submit(run.batch_of, run.step)
        reported = time.monotonic()
        while run.step < settings.steps and time.monotonic() < deadline:
            began = time.monotonic()
            batch = upcoming.result()
            waited = time.monotonic() - began
            upcoming = maker.submit(run.batch_of, run.step + 1)
            loss = run.train_step(batch)
            if not math.isfinite(loss):
                raise CheckpointError(f"the loss is {loss} at step {run.step}", hint="lower the learning rate")
            entry: dict[str, Any] = {"step": run.step, "loss": round(loss, 5)}
            entry |= {"s": round(time.monotonic() - began, 3), "waited_s": round(waited, 3)}
            if run.step % settings.validate_every == 0:
                entry |= {"scores": run.validate()}
                run.save(checkpoint)
                _log.info("step %d: %s", run.step, entry)
            if run.step % 20 == 0 or "scores" in entry:
                log.write(json.dumps(entry) + "\n")
                log.flush()
            if time.monotonic() - reported >= _REPORT_S:
                reported = time.monotonic()
                _log.info("step %d of %d: loss %.3f, %.2f s a step", run.step, settings.steps, loss, entry["s"])
    if run.step == first_step < settings.steps:
        raise SettingsError("the time is too short for a single training step", hint="raise --max-minutes")
    run.save(checkpoint)
    draw_curves(log_path, out / "curves.png")
    _log.info("step %d of %d in %s", run.step, settings.steps, checkpoint)
    return checkpoint


def read_checkpoint(path: Path, name: str, device: str = "cpu") -> dict[str, Any]:
    """Return the content of a checkpoint.

    Raises:
        CheckpointError: it is missing, damaged, or no checkpoint of a run.
    """
    try:
        open_plain(path).close()  # a pipe would be waited for
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        lacking = {"settings", "config", "step", "net", "average", "optimiser"} - state.keys()
    except (OSError, RuntimeError, EOFError, AttributeError, pickle.UnpicklingError) as err:
        why = "does not exist" if not path.exists() else "is no readable checkpoint"
        raise CheckpointError(f"{path} {why}", hint="start a run without --resume") from err
    if lacking:
        raise CheckpointError(f"{path} is no checkpoint of a {name}", hint="start a run without --resume")
    return state


def schedule(step: int, settings: RunSettings) -> float:
    """Return the learning rate's factor: a linear warm-up, then half a cosine down to a hundredth."""
    if step < settings.warm_up:
        return (step + 1) / settings.warm_up
    return half_cosine((step - settings.warm_up) / max(1, settings.steps - settings.warm_up), last=0.01)


def half_cosine(done: float, *, last: float) -> float:
    """Return a factor that falls from 1 to `last` in half a cosine while `done` rises from 0 to 1."""
    return last + (1 - last) * 0.5 * (1 + math.cos(math.pi * min(1.0, max(0.0, done))))


def write_weights(state: dict[str, Any], model: str, path: Path) -> None:
    """Write the averaged weights of a checkpoint in half precision, model and configuration in the header."""
    weights = {k: v.half() if v.dtype.is_floating_point else v for k, v in state["average"].items()}
    header = {"model": model, "config": state["config"], "step": str(state["step"])}
    with atomic_file(path, overwrite=True) as temporary:
        temporary.write_bytes(save(weights, metadata=header))  # save_file's are the owner's alone to read


def export_model(state: Mapping[str, Any], net: nn.Module, model: str, folder: Path, *, command: str) -> Path:
    """Write the averaged weights of a checkpoint into a preset's folder (fp16) and return their file.

    The preset's description and card follow; a folder that is no preset yet becomes one.

    Args:
        state: the checkpoint.
        net: a network of the model's shape; its attribute `config` goes into the file.
        model: such as "transcriber".
        folder: the preset's.
        command: what trained it.
    """
    path = folder / f"{model}.safetensors"
    write_weights({**state, "config": config_to_json(net.config)}, model, path)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    describe_model(folder, model, weights=path, parameters=parameters, command=command)
    return path


def submodule(state: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a checkpoint whose averaged weights are those of one submodule of what was trained."""
    average = {k.removeprefix(f"{name}."): v for k, v in state["average"].items() if k.startswith(f"{name}.")}
    return {**state, "average": average}


def command_of(state: Mapping[str, Any], stage: str, *, options: str = "") -> str:
    """Return the command that trains a checkpoint's model again; `options` are those beside the common ones."""
    settings = json.loads(state["settings"])
    common = "".join(f" --{name} {settings[name]}" for name in ("steps", "batch", "seed"))
    return f"redrum train {stage} --export PRESET{common}{options}"
