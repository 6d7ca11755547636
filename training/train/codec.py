"""Train the codec, stage 1 of the paper (Hockman and Drysdale 2025), in two phases of one run.

Phase A learns to code and decode, judged by spectra, attacks and the latents' divergence from noise, whose
weight rises. In phase B the encoder stays as it is (the running average of phase A), and the generator goes on
against discriminators, as in RAVE (Caillon and Esling 2021). A generator may also be trained alone, from the
weights of a preset, whose encoder then stays as it is from the first step on.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from training.card import note_configuration
from training.data.kits import kits_of
from training.data.pack import Pack
from training.data.segments import SegmentCutter, Segments, SegmentSettings
from training.score.codec import codec_scores, kit_originals, loop_originals
from training.score.scores import means
from training.train.discriminators import (
    DiscriminatorConfig,
    Discriminators,
    adversarial_loss,
    detached,
    discriminator_loss,
    feature_loss,
)
from training.train.loop import (
    Run,
    RunOptions,
    RunSettings,
    command_of,
    export_model,
    half_cosine,
    read_checkpoint,
    submodule,
    train,
)
from training.train.losses import SpectralLoss, attack_losses, divergence, divergence_weight, with_noises
from training.train.reports import CodecReports
from transform.codec import (
    Codec,
    CodecNet,
    EncoderNet,
    GeneratorNet,
    load_encoder,
    load_generator,
)
from transform.codec_config import CONFIGURATIONS, CodecConfig
from transform.errors import CheckpointError, SettingsError
from transform.files import write_text_atomic
from transform.presets import Preset
from transform.weights import config_from_json, config_to_json, fingerprint

_log = logging.getLogger(__name__)
_GENERATOR_ALONE = {"adversarial": 0.0, "learning_rate": 5e-4, "warm_up": 100, "validate_every": 250}
_FOLLOWED = (  # over a run
    *("mel_db", "averaged_db", "stft", "si_sdr_db", "attack", "pre_echo_db", "high_db", "high_bias_db"),
    *("periodicity", "pulses_db", "speckle_db", "hiss_db"),
    *("original_periodicity", "original_pulses_db", "original_speckle_db", "original_hiss_db"),
)


@dataclass(frozen=True, kw_only=True)
class CodecTraining(RunSettings):
    """One training run."""

    steps: int = 60_000  # of both phases
    batch: int = 32
    learning_rate: float = 1e-3  # falls to a tenth over phase A
    warm_up: int = 500
    validate_every: int = 1000
    n_validation: int = 16
    adversarial: float = 0.25  # proportion of steps that are phase B; 1: the encoder stays as it begins
    judged_samples: int = 32_768  # of each segment, by the discriminators, which cost several times the rest
    adversarial_rate: float = 2e-4  # in phase B, of generator and discriminators; falls to a tenth
    mel_weight: float = 3.0
    stft_weight: float = 3.0
    bands_weight: float = 2.0
    wave_weight: float = 3.0
    attack_weight: float = 1.0
    pre_echo_weight: float = 1.0
    kl_first: float = 1e-6  # weight of the divergence, summed over channels, at step 0
    kl_last: float = 1e-3
    kl_warm_up: float = 0.4  # proportion of phase A after which it has its last weight
    adversarial_weight: float = 1.0
    features_weight: float = 2.0
    noise_weight: float = 3.0  # where highs are noise
    generator_alone: bool = False  # the encoder stays as it begins
    pieces: SegmentSettings = field(default_factory=SegmentSettings)
    model: CodecConfig = field(default_factory=CodecConfig)
    discriminators: DiscriminatorConfig = field(default_factory=DiscriminatorConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pieces.n_samples % self.model.hop:
            raise SettingsError(
                f"{self.pieces.n_samples} samples are no whole number of latent frames of {self.model.hop}"
            )
        if self.pieces.n_samples > self.synthesis.n_samples:
            raise SettingsError(
                f"segments of {self.pieces.n_samples} samples do not fit into {self.synthesis.n_samples}"
            )
        if not 0 <= self.adversarial <= 1:
            raise SettingsError(f"adversarial is {self.adversarial}; it must lie between 0 and 1")

    @property
    def adversarial_from(self) -> int:
        """The step at which phase B begins."""
        return round(self.steps * (1 - self.adversarial))


def codec_training(
    configuration: str,
    device: str,
    *,
    noise_from_hz: float | None = None,
    mixed_from_hz: float | None = None,
    begin: Preset | None = None,
    **changes: Any,
) -> CodecTraining:
    """Return the settings for a configuration on a kind of device; processors get smaller steps.

    Args:
        configuration: its name.
        device: "cpu", or another.
        noise_from_hz: from where on highs are noise; None: as in the preset's codec, or the configuration.
        mixed_from_hz: from where up to there noise and phases are mixed; None: the same.
        begin: the preset that the run begins with.
        changes: of settings.

    Raises:
        CheckpointError: the preset has no codec.
        SettingsError: there is no such configuration.
    """
    if configuration not in CONFIGURATIONS:
        raise SettingsError(
            f"there is no configuration {configuration}", hint=f"there are {', '.join(CONFIGURATIONS)}"
        )
    model = CONFIGURATIONS[configuration]
    made = model if begin is None else load_generator(begin.weights("codec-generator")).config
    noise_from_hz = made.noise_from_hz if noise_from_hz is None else noise_from_hz
    mixed_from_hz = made.mixed_from_hz if mixed_from_hz is None else mixed_from_hz
    model = replace(model, noise_from_hz=noise_from_hz, mixed_from_hz=mixed_from_hz)
    settings: dict[str, Any] = {"model": model}
    if configuration == "paper":
        settings["learning_rate"] = 2e-4  # at 1e-3 it learns nothing (docs/method.md, decision 48)
    if device == "cpu":
        settings |= {"batch": 8, "judged_samples": 16_384, "discriminators": DiscriminatorConfig(width=16)}
    if changes.get("generator_alone"):
        settings |= _GENERATOR_ALONE
    return CodecTraining(**(settings | changes))


def train_codec(
    pack: Pack,
    out: Path,
    settings: CodecTraining,
    *,
    begin: Preset | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train a codec as `loop.train` does, with its errors, and return the checkpoint.

    Args:
        pack: what is trained and validated on.
        out: the folder of the run.
        settings: of the run.
        begin: the preset whose codec a new run begins with; None: with random weights.
        options: how the run is carried out.

    Raises:
        CheckpointError: the checkpoint or the preset's codec is of another configuration.
        PackError: the pack lacks what training or validation needs.
        SettingsError: all of it is phase B of random weights, or the generator's training alone.
    """
    if begin is None and (settings.adversarial == 1 or settings.generator_alone) and not options.get("resume"):
        raise SettingsError(
            "what leaves the encoder as it is needs a trained encoder",
            hint="name the codec to begin with by --preset",
        )
    return train("codec", out, lambda device: _Run(pack, out, settings, device, begin), **options)


class _Run(Run):
    """The training of a codec."""

    settings: CodecTraining
    net: CodecNet

    def __init__(
        self,
        pack: Pack,
        out: Path,
        settings: CodecTraining,
        device: torch.device,
        begin: Preset | None = None,
    ) -> None:
        torch.manual_seed(settings.seed)
        net = CodecNet(settings.model)
        super().__init__("codec", net, settings, device, kits=kits_of(pack.kits, "train"), pack=pack)
        self.net.encoder.requires_grad_(not settings.generator_alone)
        self.optimiser = _optimiser(self.net.generator if settings.generator_alone else self.net, settings)
        self.adversary: _Adversary | None = None  # from phase B on
        self.spectra = SpectralLoss(settings.model.first_noise_hz).to(device)
        loops = [(name, samples.to(device)) for name, split, samples in pack.loops if split == "train"]
        self.cutter = SegmentCutter(self.synthesiser, loops, settings.pieces)
        self.unseen = kit_originals(pack, "validate", n=settings.n_validation, seed=1, length_s=4.0)
        self.trained_on = kit_originals(pack, "train", n=-(-settings.n_validation // 2), seed=1, length_s=4.0)
        # Those that are shown are of tier A: what trains is.
        shown = [*loop_originals(pack, "train", n=2, length_s=4.0), *self.trained_on]
        self.out, self.reports = out, CodecReports(out, self.unseen, shown)
        self.terms: dict[str, Tensor] = {}  # of the last step
        if begin is not None:
            self._begin_with(begin)

    def _begin_with(self, preset: Preset) -> None:
        """Take the weights of a preset's codec."""
        encoder = load_encoder(preset.weights("codec-encoder"))
        generator = load_generator(preset.weights("codec-generator"))
        if not encoder.config == generator.config == self.settings.model:
            raise CheckpointError(
                f"the codec of preset {preset.name} is of another configuration",
                hint="name another --preset, or its configuration with --config",
            )
        for net in (self.net, self.average):
            net.encoder.load_state_dict(encoder.state_dict())
            # A head that begins to mix has parameters that the preset's lacks.
            net.generator.load_state_dict(net.generator.state_dict() | generator.state_dict())

    def learning_rate(self) -> float:
        settings, turn = self.settings, self.settings.adversarial_from
        if self.adversary is not None:
            done = (self.step - turn) / (settings.steps - turn)
            return settings.adversarial_rate * half_cosine(done, last=0.1)
        if self.step < settings.warm_up:
            return settings.learning_rate * (self.step + 1) / settings.warm_up
        done = (self.step - settings.warm_up) / max(1, turn - settings.warm_up)
        return settings.learning_rate * half_cosine(done, last=0.1)

    def make_batch(self, rng: np.random.Generator) -> Segments:
        return self.cutter.cut(self.settings.batch, rng)

    def train_step(self, batch: Segments) -> float:
        if self.adversary is None and self.step >= self.settings.adversarial_from:
            _log.info("phase B: the encoder is frozen at step %d", self.step)
            self._begin_phase_b()
        loss = super().train_step(batch)
        if not math.isfinite(loss):
            raise self._failure(batch, loss)
        return loss

    def loss_of(self, batch: Segments) -> Tensor:
        target, onsets = batch.audio.to(self.device), batch.onsets.to(self.device)
        settings = self.settings
        terms: dict[str, Tensor] = {}
        is_frozen = settings.generator_alone or self.adversary is not None
        with torch.autocast(self.device.type, torch.bfloat16):
            self.net.encoder.train(not is_frozen)
            with torch.set_grad_enabled(not is_frozen):
                encoded = self.net.encoder(target)
            output, other = with_noises(self.net.generator, encoded.sample(), self.step)
        terms |= self.spectra(output, target, other) | attack_losses(output, target, onsets, other)
        weights = settings.weights("mel", "stft", "bands", "wave", "attack", "pre_echo")
        if other is not None:
            weights |= settings.weights("noise")
        if not is_frozen:
            terms["kl"] = divergence(encoded).sum()
            weights["kl"] = divergence_weight(
                self.step,
                first=settings.kl_first,
                last=settings.kl_last,
                warm_up=round(settings.kl_warm_up * settings.adversarial_from),
            )
        if self.adversary is not None:
            judged = slice(settings.judged_samples)
            terms |= self.adversary.play(output[:, judged], target[:, judged], self.learning_rate())
            weights |= settings.weights("adversarial", "features")
            weights["discriminator"] = 0.0  # it has learned from this already; but a NaN shows in the sum
        self.terms = {name: value.detach() for name, value in terms.items()}
        return torch.stack([weight * terms[name] for name, weight in weights.items()]).sum()

    def validate(self) -> dict[str, float]:
        codec = Codec(self.average.encoder, self.average.generator, device=str(self.device))
        unseen = means(codec_scores(codec, self.unseen))
        trained_on = means(codec_scores(codec, self.trained_on))
        terms = {name: round(float(value), 5) for name, value in self.terms.items()}
        self.reports.write(self.step, codec, terms)
        scores = {name: unseen[name] for name in _FOLLOWED if name in unseen}
        return scores | {"known mel_db": trained_on["mel_db"]}

    def state(self) -> dict[str, Any]:
        state = super().state()
        if self.adversary is not None:
            state["adversary"] = self.adversary.state_dict()
        return state

    def restore(self, state: dict[str, Any], path: Path) -> None:
        begun_with = config_to_json(config_from_json(state["config"], CodecConfig))  # an older one lacks fields
        if begun_with != config_to_json(self.settings.model):
            raise CheckpointError(
                f"{path} is of another configuration",
                hint="resume with the --config, --noise-from, --mixed-from and --preset it was begun with",
            )
        if "adversary" in state:
            self._begin_phase_b()
        super().restore(state, path)
        if self.adversary is not None:
            try:
                self.adversary.load_state_dict(state["adversary"])
            except (RuntimeError, ValueError, KeyError) as err:
                raise CheckpointError(
                    f"{path} holds discriminators of another shape",
                    hint="resume on the kind of device it was begun on",
                ) from err

    def _begin_phase_b(self) -> None:
        """Freeze the encoder at its average, go on with the generator's, and bring in the discriminators."""
        self.net.load_state_dict(self.average.state_dict())
        self.net.encoder.requires_grad_(False)
        self.net.zero_grad(set_to_none=True)  # or the encoder's last gradient would count in every norm to come
        self.optimiser = _optimiser(self.net.generator, self.settings)
        self.adversary = _Adversary(self.settings, self.device)

    def _failure(self, batch: Segments, loss: float) -> CheckpointError:
        """Return the error for a loss that is not finite; what the batch was made of is written to a file."""
        path = self.out / "codec-failed.json"
        terms = {name: repr(float(value)) for name, value in self.terms.items()}
        report = {"step": self.step, "seed": self.settings.seed, "terms": terms, "recipes": batch.recipes}
        write_text_atomic(path, json.dumps(report, indent=1), overwrite=True)
        return CheckpointError(
            f"the loss is {loss} at step {self.step}; what the batch was made of is in {path}",
            hint="go on from the last checkpoint with --resume, or begin again with a lower learning rate",
        )


class _Adversary:
    """The discriminators and their optimiser."""

    def __init__(self, settings: CodecTraining, device: torch.device) -> None:
        self.nets = Discriminators(settings.discriminators).to(device).to(memory_format=torch.channels_last)
        self.optimiser = _optimiser(self.nets, settings)
        self.gradient_clip = settings.gradient_clip

    def play(self, output: Tensor, target: Tensor, learning_rate: float) -> dict[str, Tensor]:
        """Let the discriminators learn from an output and its target (B, T); return the generator's terms."""
        peak = target.abs().amax(dim=1)
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate
        self.nets.requires_grad_(True)
        with torch.autocast(output.device.type, torch.bfloat16):
            of_target = self.nets(target, peak)
            loss = discriminator_loss(self.nets(output.detach(), peak), of_target)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.nets.parameters(), self.gradient_clip)
        self.optimiser.step()
        self.nets.requires_grad_(False)
        with torch.autocast(output.device.type, torch.bfloat16):
            of_output = self.nets(output, peak)
        return {
            "adversarial": adversarial_loss(of_output),
            "features": feature_loss(of_output, detached(of_target)),
            "discriminator": loss.detach(),
        }

    def state_dict(self) -> dict[str, Any]:
        return {"nets": self.nets.state_dict(), "optimiser": self.optimiser.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.nets.load_state_dict(state["nets"])
        self.optimiser.load_state_dict(state["optimiser"])


def _optimiser(net: nn.Module, settings: CodecTraining) -> torch.optim.AdamW:
    return torch.optim.AdamW(
        net.parameters(),
        settings.learning_rate,
        betas=(0.8, 0.95),
        weight_decay=settings.weight_decay,
        fused=True,
    )


def export_codec(checkpoint: Path, folder: Path) -> tuple[Path, Path]:
    """Write the averaged weights of a checkpoint into a preset's folder (fp16): encoder's, generator's file.

    An encoder that is there already, the same to the bit, stays as it is.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    state = read_checkpoint(checkpoint, "codec")
    config = config_from_json(state["config"], CodecConfig)
    names = "".join(f" --config {name}" for name, value in CONFIGURATIONS.items() if value == config)
    if config.noise_from_hz:
        names += f" --noise-from {config.noise_from_hz:g}"
    if config.mixed_from_hz:
        names += f" --mixed-from {config.mixed_from_hz:g}"
    if json.loads(state["settings"]).get("generator_alone"):
        names += " --generator-alone --preset PRESET"
    command = command_of(state, "codec --data PACK --out RUN", options=names)
    encoder, generator = EncoderNet(replace(config, noise_from_hz=0.0, mixed_from_hz=0.0)), GeneratorNet(config)
    trained, path = submodule(state, "encoder"), folder / "codec-encoder.safetensors"
    encoder.load_state_dict(trained["average"])
    if not (path.exists() and fingerprint(load_encoder(path)) == fingerprint(encoder)):
        path = export_model(trained, encoder, "codec-encoder", folder, command=command)
    made = export_model(submodule(state, "generator"), generator, "codec-generator", folder, command=command)
    note_configuration(folder, "paper" if config.encoder == "rave" else "hires")
    return path, made
