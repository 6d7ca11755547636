"""Train the separator on synthetic recordings, whose stems are known exactly.

The transcription of a recording guides the separator. In training the features are made harder for the
transcriber, and some of its activations are dropped or exchanged: on its training kits it would be right too
often, and the separator would learn to rely on it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.data.kits import SAMPLE_RATE, kits_of
from training.data.pack import Pack
from training.data.synthesis import SEGMENT_SAMPLES, SynthesisSettings, render_batch_with_stems
from training.data.transcription import mask_bands, with_errors
from training.score.nmf import feature_templates
from training.score.separator import make_mixtures, opened, separation_scores
from training.train.loop import Run, RunOptions, RunSettings, command_of, export_model, read_checkpoint, train
from training.train.reports import N_DRAWN, Spectrograms
from transform.errors import CheckpointError, SettingsError
from transform.events import CLASSES
from transform.features import DrumFeatures, band_positions
from transform.layers import fused
from transform.separator import Separator, SeparatorConfig, SeparatorNet, interpolation
from transform.stft import N_HOPS, analyse, fft_size
from transform.transcriber import Transcriber, TranscriberNet, load_transcriber
from transform.weights import config_from_json

_SILENT = 1e-3  # of the recording's energy: a stem below it is silent
_POWER = 0.3  # of magnitudes, in the loss
# Of the network in use: it is surer of its kits than of others. Mean SI-SDR on 24 validation recordings: 6.5
# dB, with 1: 5.5, 0.6: 6.3, 0.5: 6.5.
_CERTAINTY = 0.4
_EVERY = 2  # one frame in so many is judged: windows overlap by three quarters


@dataclass(frozen=True, kw_only=True)
class SeparatorTraining(RunSettings):
    """One training run."""

    batch: int = 4  # recordings a step, each in two versions
    warm_up: int = 200
    learning_rate: float = 1e-3
    validate_every: int = 300
    n_validation: int = 32
    spectral_weight: float = 10.0
    leakage_weight: float = 0.2
    exchanged: float = 0.7  # proportion of a segment's stems that its second version has from another segment
    muted: float = 0.08  # proportion of stems that are silenced
    confused: float = 0.25  # probability that a class of a recording is given to another one
    model: SeparatorConfig = field(default_factory=SeparatorConfig)
    # Longer than the segments of others: templates are learned from each.
    synthesis: SynthesisSettings = field(
        default_factory=lambda: SynthesisSettings(n_samples=2 * SEGMENT_SAMPLES)
    )


class Mixtures(NamedTuple):
    """A batch: what the network is given, and the spectra of the truth summed up over bands.

    Masks are interpolated between bands, so a bin's mask is a sum of two; the energy of the error of a masked
    spectrum is a quadratic form of the bands' masks, whose coefficients are all that the loss needs.
    """

    features: Tensor  # (B, C, F, K)
    activations: Tensor  # (B, 5, F)
    templates: Tensor  # (B, R, W * K)
    diagonal: Tensor  # (B, F', K), the frames that are judged: of the recording's energy
    beside: Tensor  # (B, F', K - 1): of two neighbouring bands
    cross: Tensor  # (B, 5, F', K): of the recording with each stem
    energy: Tensor  # (B, 5): of each stem
    mix_energy: Tensor  # (B,)
    bands: Tensor  # (B, F', K): the recording's energy, brought to a mean of 1
    stem_bands: Tensor  # (B, 5, F', K): the stems'


class BandEnergies:
    """Sums up spectra over bands, as masks that are interpolated between bands weigh them."""

    def __init__(self, config: SeparatorConfig, device: torch.device, *, every: int = 1) -> None:
        """Prepare for the bands of a separator; one frame in `every` is looked at."""
        self.every = every
        self.hop = config.features.hop
        hz = np.fft.rfftfreq(fft_size(self.hop), 1 / SAMPLE_RATE)
        weights = interpolation(band_positions(hz, config.features), config.features.n_bands).to(device)
        self.weights = weights.T  # (bins, K)
        self.squared = self.weights.square()
        self.products = self.weights[:, :-1] * self.weights[:, 1:]

    def of(self, audio: Tensor, stems: Tensor) -> dict[str, Tensor]:
        """Return the fields of `Mixtures` from `diagonal` on, of audio (B, T) and its stems (B, 5, T)."""
        margin = N_HOPS // 2 * self.hop  # frame f is centred on sample f * hop
        mix, sources = (
            analyse(functional.pad(sound, (margin, margin)), self.hop, every=self.every)
            for sound in (audio, stems)
        )
        power = mix.real.square() + mix.imag.square()
        stem_power = sources.real.square() + sources.imag.square()
        bands = power @ self.weights
        level = bands.mean(dim=(1, 2), keepdim=True).clamp_min(1e-12)
        return {
            "diagonal": power @ self.squared,
            "beside": power @ self.products,
            "cross": (mix.real[:, None] * sources.real + mix.imag[:, None] * sources.imag) @ self.weights,
            "energy": stem_power.sum(dim=(-2, -1)),
            "mix_energy": power.sum(dim=(-2, -1)),
            "bands": bands / level,
            "stem_bands": stem_power @ self.weights / level[:, None],
        }


def separation_loss(masks: Tensor, batch: Mixtures, settings: SeparatorTraining) -> Tensor:
    """Return the loss of masks (B, 5, F, K).

    The mean absolute difference of bands' magnitudes, raised to a power that favours the quiet; plus the mean
    noise-to-signal ratio of the stems that sound, in tens of decibels, down to -30 dB; plus a little of the
    level of what leaks into those that do not, down to -20 dB against the recording (the thresholds are after
    Wisdom et al., WASPAA 2021). The noise is that of the spectra: it is never below that of the sound made from
    them.
    """
    found = (masks.square() * batch.bands[:, None] + 1e-7).pow(_POWER / 2)
    loss = settings.spectral_weight * (found - (batch.stem_bands + 1e-7).pow(_POWER / 2)).abs().mean()
    error = (
        (batch.diagonal[:, None] * masks - 2 * batch.cross).mul(masks).sum(dim=(-2, -1))
        + 2 * (batch.beside[:, None] * masks[..., :-1] * masks[..., 1:]).sum(dim=(-2, -1))
        + batch.energy
    ).clamp_min(0)
    whole = batch.mix_energy[:, None].clamp_min(1e-8)
    sounds = batch.energy > _SILENT * whole
    noise = torch.log10(error / batch.energy.clamp_min(1e-8) + 1e-3)
    leakage = torch.log10(error / whole + 1e-2)
    loss = loss + torch.where(sounds, noise, 0.0).sum() / sounds.sum().clamp_min(1)
    return loss + settings.leakage_weight * torch.where(sounds, 0.0, leakage).sum() / (~sounds).sum().clamp_min(
        1
    )


def train_separator(
    pack: Pack,
    out: Path,
    settings: SeparatorTraining,
    *,
    transcriber: Path,
    begin: SeparatorNet | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train a separator as `loop.train` does, with its errors, and return the checkpoint.

    Args:
        pack: what is trained and validated on.
        out: the folder of the run.
        settings: of the run.
        transcriber: the weights of the transcriber that guides the separator.
        begin: the weights that a new run begins with; None: random ones.
        options: how the run is carried out.

    Raises:
        PackError: the pack lacks what training or validation needs.
    """
    guide = load_transcriber(transcriber)
    return train("separator", out, lambda device: _Run(pack, out, settings, guide, device, begin), **options)


class _Run(Run):
    """The training of a separator."""

    settings: SeparatorTraining
    net: SeparatorNet

    def __init__(
        self,
        pack: Pack,
        out: Path,
        settings: SeparatorTraining,
        transcriber: TranscriberNet,
        device: torch.device,
        begin: SeparatorNet | None = None,
    ) -> None:
        if transcriber.config.features != settings.model.features:
            raise SettingsError(
                "transcriber and separator read other features", hint="use the preset's transcriber"
            )
        torch.manual_seed(settings.seed)
        net, kits = SeparatorNet(settings.model), kits_of(pack.kits, "train")
        net.prior.copy_(feature_templates(kits, settings.model.features))
        if begin is not None:
            _begin_with(net, begin)
        super().__init__("separator", net, settings, device, kits=kits, pack=pack)
        self.average.config = replace(settings.model, certainty=_CERTAINTY)  # as it is exported
        self.transcriber = fused(transcriber).to(device).to(memory_format=torch.channels_last)
        self.features = DrumFeatures(settings.model.features).to(device)
        self.band_energies = BandEnergies(settings.model, device, every=_EVERY)
        self.validation = make_mixtures(
            pack, "validate", Transcriber(transcriber), n=settings.n_validation, seed=1, length_s=6.0
        )
        # Those that are shown are of tier A: what trains is.
        self.shown = make_mixtures(pack, "train", Transcriber(transcriber), n=N_DRAWN, seed=1, length_s=6.0)
        mixtures = [shown.recording.read(0, shown.recording.n_samples)[0] for shown in self.shown]
        self.pictures = Spectrograms(out, {"mixture": mixtures})

    def make_batch(self, rng: np.random.Generator) -> Mixtures:
        """Return segments, and as many others that are mixed from the same stems."""
        settings = self.settings
        audio, stems = render_batch_with_stems(self.synthesiser.draw(settings.batch, rng))
        noise = (audio - stems.sum(dim=1)).repeat(2, 1)
        stems = torch.cat((stems, _exchanged(stems, rng, settings.exchanged)))
        sounds = torch.from_numpy(rng.random(stems.shape[:2]) >= settings.muted).to(stems.device)
        stems = stems * sounds[..., None]
        audio = stems.sum(dim=1) + noise
        peak = audio.abs().amax(dim=-1, keepdim=True).clamp_min(1e-4)
        level = (
            torch.from_numpy(10 ** (rng.uniform(-24, -6, (len(audio), 1)) / 20)).float().to(audio.device) / peak
        )
        audio, stems = audio * level, stems * level[..., None]
        features = self.features(audio)
        activations = self._activations(features, rng)
        templates = self.net.learn_templates(features, activations)
        return Mixtures(features, activations, templates, **self.band_energies.of(audio, stems))

    @torch.inference_mode()
    def _activations(self, features: Tensor, rng: np.random.Generator) -> Tensor:
        """Return the transcriber's activations (B, 5, F), about as wrong as on unseen kits."""
        harder = mask_bands(features, rng, 0.7)
        logits = self.transcriber(harder.contiguous(memory_format=torch.channels_last))
        activations = torch.sigmoid(logits[:, : len(CLASSES)].float())
        return with_errors(activations, rng, confused=self.settings.confused)

    def loss_of(self, batch: Mixtures) -> Tensor:
        batch = Mixtures(*(field.to(self.device) for field in batch))
        with torch.autocast(self.device.type, torch.bfloat16):
            logits = self.net(batch.features, batch.activations, batch.templates)
        masks = torch.softmax(logits[:, :, ::_EVERY].float(), dim=1)
        return separation_loss(masks, batch, self.settings)

    def validate(self) -> dict[str, float]:
        separator = Separator(self.average)
        by_recording = [opened(separator)(shown) for shown in self.shown]
        self.pictures.write(self.step, dict(zip(CLASSES, zip(*by_recording, strict=True), strict=True)))
        return separation_scores(separator, self.validation)


def _exchanged(stems: Tensor, rng: np.random.Generator, probability: float) -> Tensor:
    """Return stems (B, 5, T), each with some probability another recording's, at a level of its own."""
    n_items, n_classes, _ = stems.shape
    out = stems.clone()
    for c in range(n_classes):
        for item in np.flatnonzero(rng.random(n_items) < probability):
            gain = float(10 ** (rng.uniform(-6, 6) / 20))
            out[item, c] = gain * stems[rng.integers(n_items), c]
    return out


def _begin_with(net: SeparatorNet, trained: SeparatorNet) -> None:
    """Give a network trained weights; what the templates begin as is its own."""
    if replace(trained.config, certainty=net.config.certainty) != net.config:
        raise CheckpointError("the separator to begin with is of another shape", hint="leave out --warm-start")
    net.load_state_dict(trained.state_dict() | {"prior": net.prior.clone()})


def export_separator(checkpoint: Path, folder: Path) -> Path:
    """Write the averaged weights of a checkpoint into a preset's folder (fp16) and return their file.

    The network's logits count for less there than in training, which is on the same kits.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    state = read_checkpoint(checkpoint, "separator")
    net = SeparatorNet(replace(config_from_json(state["config"], SeparatorConfig), certainty=_CERTAINTY))
    command = command_of(state, "separator --data PACK --out RUN --preset PRESET")
    return export_model(state, net, "separator", folder, command=command)
