"""Train the crossover: the lows of copied hits and what the rhythm transformer makes -> latents of both.

Beyond the paper (docs/method.md, decision 18). Everything else of the preset stays as it is. Scenes are
those of the rhythm transformer: what it makes of a pseudo-target's rhythm gives the highs, the pseudo-
target itself the lows, and in half of the examples another one of the scene. The answer is what the encoder
makes of such a crossover, done in audio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple, Unpack

import numpy as np
import torch
from torch import Tensor

from training.data.kits import SAMPLE_RATE, kits_of
from training.data.pack import Pack
from training.data.rhythm_pairs import PairMaker, Pairs, PairSettings
from training.data.scenes import joined
from training.score.measures import si_sdr_db
from training.score.transcriber import whole_kit_recipes, whole_kits
from training.train.loop import Run, RunOptions, RunSettings, command_of, export_model, read_checkpoint, train
from training.train.reports import N_DRAWN, Spectrograms
from training.train.rhythm import Trained
from transform.crossover import CrossoverConfig, CrossoverNet
from transform.errors import SettingsError
from transform.rhythm_transformer import RhythmNet
from transform.weights import config_from_json, fingerprint

CROSSOVER_HZ = 2000.0  # above it the shipped codec's sound is noise, which has no phase to be lost
_ORDER = 4  # of the crossover, a Butterworth's, without its phase
_LEAST_DEVIATION = 0.05  # of the encoder, by which errors are measured


@dataclass(frozen=True, kw_only=True)
class CrossoverTraining(RunSettings):
    """One training run."""

    steps: int = 800
    batch: int = 4  # targets of a step's scene; there are twice as many examples
    warm_up: int = 50
    ema: float = 0.99
    validate_every: int = 100
    n_validation: int = 16
    model: CrossoverConfig = field(default_factory=CrossoverConfig)

    @property
    def pairs(self) -> PairSettings:
        """How scenes are made."""
        return PairSettings(targets=self.batch)


class Examples(NamedTuple):
    """What is joined, and what it should become."""

    lows: Tensor  # (B, D, F): latents of what has the lows
    highs: Tensor  # (B, D, F): what the transformer makes
    joined: Tensor  # (B, D, F): latents of the crossover in audio
    deviation: Tensor  # (B, D, F): the encoder's of them
    audio: Tensor  # (B, T): the crossover in audio


class ExampleMaker:
    """Makes examples of pairs with networks that are not trained further."""

    def __init__(self, trained: Trained, transformer: RhythmNet, device: torch.device) -> None:
        self._encoder = trained.encoder.eval().to(device)
        self.generator = trained.generator.eval().to(device)
        self._transformer = transformer.eval().to(device)

    @torch.no_grad()
    def examples(self, pairs: Pairs) -> Examples:
        """Return pairs whose lows are their own, then pairs whose lows are the next one's."""
        mu = self._transformer(pairs.source, pairs.target, with_attention=False).mu
        made = self.generator(mu).repeat(2, 1)
        lows = torch.cat((pairs.audio, pairs.audio.roll(1, dims=0)))
        audio = made + low_passed(lows - made)
        coded = self._encoder(audio)
        latents = torch.cat((pairs.latents, pairs.latents.roll(1, dims=0)))
        return Examples(latents, mu.repeat(2, 1, 1), coded.mu, coded.sigma, audio)


def low_passed(audio: Tensor, hz: float = CROSSOVER_HZ) -> Tensor:
    """Return audio (B, T) below a frequency, with its phases."""
    frequencies = torch.linspace(0, SAMPLE_RATE / 2, audio.shape[-1] // 2 + 1, device=audio.device)
    response = 1 / (1 + (frequencies / hz) ** (2 * _ORDER))
    passed: Tensor = torch.fft.irfft(torch.fft.rfft(audio) * response, audio.shape[-1])
    return passed


def train_crossover(
    pack: Pack,
    out: Path,
    settings: CrossoverTraining,
    trained: Trained,
    transformer: RhythmNet,
    **options: Unpack[RunOptions],
) -> Path:
    """Train a crossover as `loop.train` does, with its errors, and return the checkpoint.

    Args:
        pack: what is trained and validated on.
        out: the folder of the run.
        settings: of the run.
        trained: transcriber and codec of a preset.
        transformer: the preset's.
        options: how the run is carried out.

    Raises:
        PackError: the pack lacks what training or validation needs.
        SettingsError: the codec's frames are too long to copy lows by.
    """
    if trained.encoder.config.encoder == "rave":
        raise SettingsError("the paper's codec has no crossover", hint="name a preset of configuration hires")
    return train(
        "crossover", out, lambda device: _Run(pack, out, settings, trained, transformer, device), **options
    )


def crossover_training(trained: Trained, **changes: object) -> CrossoverTraining:
    """Return the settings that go with a codec, with changes."""
    config = trained.encoder.config
    model = CrossoverConfig(n_latents=config.n_latents, hop=config.hop, codec=fingerprint(trained.encoder))
    return replace(CrossoverTraining(model=model), **changes)  # type: ignore[arg-type]


class _Run(Run):
    """The training of a crossover."""

    settings: CrossoverTraining
    net: CrossoverNet

    def __init__(
        self,
        pack: Pack,
        out: Path,
        settings: CrossoverTraining,
        trained: Trained,
        transformer: RhythmNet,
        device: torch.device,
    ) -> None:
        torch.manual_seed(settings.seed)
        net, kits = CrossoverNet(settings.model), kits_of(pack.kits, "train")
        super().__init__("crossover", net, settings, device, kits=kits, pack=pack)
        config = transformer.config
        self.pair_maker = PairMaker(trained.transcriber, trained.encoder, config, settings.pairs, device)
        self.maker = ExampleMaker(trained, transformer, device)
        self.validation = self.maker.examples(self._held_out(pack))
        shown = self.validation.audio[:N_DRAWN].cpu().numpy()
        self.pictures = Spectrograms(out, {"in audio": [*shown]})

    def _held_out(self, pack: Pack) -> Pairs:
        """Return pairs of whole kits and rhythms of the validation side."""
        settings = self.settings
        recipe_settings = whole_kits(settings.synthesis.n_samples / SAMPLE_RATE)
        n = settings.n_validation
        drawn = islice(whole_kit_recipes(pack, "validate", recipe_settings, seed=1), 2 * n)
        recipes = [recipe for _, recipe in drawn]
        return self.pair_maker.make(recipes[:n], recipes[n:], np.random.default_rng(1), as_banks=True)

    def make_batch(self, rng: np.random.Generator) -> Examples:
        """Return the examples of a scene, whose bank lacks some of its frames."""
        scene = self.pair_maker.draw(self.synthesiser, rng)
        return self.maker.examples(joined([scene], rng, self.settings.pairs.least_share))

    def loss_of(self, batch: Examples) -> Tensor:
        """Return the mean squared error in deviations of the encoder."""
        return _error(self.net(batch.lows, batch.highs), batch).mean()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return errors and levels of the lows' SI-SDR, of lows of the own rhythm and of another one."""
        held_out = self.validation
        made = self.average.eval()(held_out.lows, held_out.highs)
        error = _error(made, held_out).mean(dim=(1, 2))
        sound = self.maker.generator(made)
        lows, truth = (low_passed(x).cpu().numpy() for x in (sound, held_out.audio))
        ratios = np.array([si_sdr_db(a, b) or 0.0 for a, b in zip(lows, truth, strict=True)])
        n = self.settings.n_validation
        self.pictures.write(self.step, {"in latents": [*sound[:N_DRAWN].cpu().numpy()]})
        parts: Sequence[tuple[str, slice]] = (("own", slice(n)), ("other", slice(n, None)))
        scores = {f"{name} error": float(error[part].mean()) for name, part in parts}
        scores |= {f"{name} lows, dB": float(ratios[part].mean()) for name, part in parts}
        return {name: round(score, 3) for name, score in scores.items()}


def _error(made: Tensor, examples: Examples) -> Tensor:
    """Return the squared errors of latents (B, D, F) in deviations of the encoder."""
    return ((made - examples.joined) / examples.deviation.clamp_min(_LEAST_DEVIATION)).square()


def export_crossover(checkpoint: Path, folder: Path) -> Path:
    """Write the averaged weights of a checkpoint into a preset's folder (fp16) and return their file.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    state = read_checkpoint(checkpoint, "crossover")
    net = CrossoverNet(config_from_json(state["config"], CrossoverConfig))
    command = command_of(state, "crossover --data PACK --out RUN --preset PRESET")
    return export_model(state, net, "crossover", folder, command=command)
