"""Train the rhythm transformer, stage 2 of the paper (Hockman and Drysdale 2025, section 3).

The preset's transcriber and encoder are not trained further. Its generator decodes the latents that the
transformer predicts; late in a long run the generator learns too, slowly.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor, nn

from training.data.kits import SAMPLE_RATE, kits_of
from training.data.pack import Pack
from training.data.rhythm_pairs import PairMaker, Pairs, PairSettings, folded
from training.data.scenes import SceneStock
from training.data.synthesis import SegmentRecipe
from training.score.measures import log_mel_distance_db
from training.score.transcriber import whole_kit_recipes, whole_kits
from training.train.loop import (
    RENEWED,
    Run,
    RunOptions,
    RunSettings,
    command_of,
    export_model,
    read_checkpoint,
    submodule,
    train,
)
from training.train.losses import SpectralLoss, attack_losses, divergence, divergence_weight, with_noises
from training.train.reports import RhythmReports
from transform.codec import Codec, EncoderNet, GeneratorNet, load_encoder, load_generator
from transform.codec_config import CodecConfig
from transform.errors import CheckpointError, SettingsError
from transform.presets import Preset
from transform.rhythm_transformer import (
    Attention,
    RhythmConfig,
    RhythmNet,
    Source,
    Target,
    Transformed,
    config_for,
    load_rhythm,
)
from transform.transcriber import TranscriberNet, load_transcriber
from transform.weights import config_from_json, config_to_json, fingerprint

WARM_RATE = 2e-4  # of a trained transformer: at the rate of a new one it first unlearns what it knows
_AT_ONCE = 4  # validation pairs in a pass
# Of a fixed weight; not every run has them all.
_TERMS = ("mel", "stft", "bands", "noise", "attack", "pre_echo", "latents", "entropy", "diversity")


@dataclass(frozen=True, kw_only=True)
class RhythmTraining(RunSettings):
    """One training run; the defaults are for `hires`."""

    steps: int = 6000
    batch: int = 8
    learning_rate: float = 5e-4
    is_falling: bool = True  # the learning rate, over half a cosine; in the paper it stays
    warm_up: int = 50
    ema: float = 0.998
    validate_every: int = 100
    n_validation: int = 16
    fuser_rate: float = 0.5  # of the learning rate, for the fusers
    generator_rate: float = 0.05  # for the generator
    # For gamma, delta, alpha and B_rel, delta in proportion to its size: at the rate of weights it would stay
    # where it begins. 0: they have the rate of all others.
    scalar_rate: float = 0.0
    first_delta: float = 0.0  # delta of the first layer, at first; 0: as the transformer begins
    generator_from: int = 6000  # the step from which it learns
    stock: int = 256  # scenes that batches are drawn from
    first_scenes: int = 16  # in stock at the first step
    scene_every: int = 4  # steps: one more, in the place of the oldest when the stock is full
    judged_samples: int = 131_072  # of each segment, by the spectral losses
    mel_weight: float = 1.0
    stft_weight: float = 1.0
    bands_weight: float = 0.7
    noise_weight: float = 1.0  # where highs are noise
    attack_weight: float = 0.7
    pre_echo_weight: float = 1.0
    latents_weight: float = 1.0
    entropy_weight: float = 0.0
    diversity_weight: float = 0.0
    cycle_weight: float = 0.1  # from the middle of the run on; it rises from 0
    kl_first: float = 1e-6  # weight of the divergence at step 0
    kl_last: float = 1e-4  # at the end
    choices: float = 4.0  # keys that a query may divide its attention among
    pairs: PairSettings = field(default_factory=PairSettings)
    model: RhythmConfig = field(default_factory=RhythmConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, n in (("segments", self.synthesis.n_samples), ("what is judged", self.judged_samples)):
            if n < self.model.hop or n % self.model.hop:
                raise SettingsError(f"{n} samples, {name}, are no whole number of frames of {self.model.hop}")
        if self.batch % self.pairs.targets:
            raise SettingsError(
                f"a batch of {self.batch} is no number of scenes of {self.pairs.targets} targets"
            )
        if self.judged_samples > self.synthesis.n_samples:
            raise SettingsError(f"{self.judged_samples} samples cannot be judged of {self.synthesis.n_samples}")
        for name in ("scalar_rate", "first_delta"):
            if not 0 <= getattr(self, name) <= 1000:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must lie between 0 and 1000")


@dataclass(frozen=True)
class Trained:
    """What stage 2 builds on: networks of a preset."""

    transcriber: TranscriberNet
    encoder: EncoderNet
    generator: GeneratorNet


def load_trained(preset: Preset) -> Trained:
    """Return the transcriber and the codec of a preset.

    Raises:
        CheckpointError: the preset lacks one of them, a file is damaged, or encoder and generator do not match.
    """
    paths = [preset.weights(name) for name in ("transcriber", "codec-encoder", "codec-generator")]
    encoder = load_encoder(paths[1])
    generator = load_generator(paths[2])
    if encoder.config != generator.config:
        raise CheckpointError(
            f"{paths[1]} and {paths[2]} are of different codecs", hint="export both from one run of the codec"
        )
    return Trained(load_transcriber(paths[0]), encoder, generator)


def load_transformer(preset: Preset) -> RhythmNet:
    """Return the rhythm transformer of a preset.

    Raises:
        CheckpointError: the preset has none, its file is damaged, or it does not go with the preset's codec.
    """
    codec, rhythm = (preset.weights(name) for name in ("codec-encoder", "rhythm"))
    encoder, generator = load_encoder(codec), load_generator(preset.weights("codec-generator"))
    return load_rhythm(rhythm, Codec(encoder, generator))


def rhythm_training(
    trained: Trained, device: str, *, banks: float | None = None, **changes: Any
) -> RhythmTraining:
    """Return the settings that go with a codec on a kind of device, with changes.

    Args:
        trained: what stage 2 builds on.
        device: that it is trained on.
        banks: proportion of sources that are banks, not segments; None: as the codec has it.
        changes: of other settings.

    Processors judge an eighth of each segment's sound, and make a scene every fourth step. On the paper's codec
    all is as in the paper: heads are made to differ, the learning rate stays, half of the sources are segments.

    Raises:
        SettingsError: a setting is out of its range.
    """
    codec = trained.encoder.config
    settings: dict[str, Any] = {"model": config_for(codec, fingerprint(trained.encoder))}
    if codec.encoder == "rave":
        settings |= {"pairs": PairSettings(banks=0.5), "learning_rate": 2e-4, "is_falling": False}
        settings |= {"entropy_weight": 0.01, "diversity_weight": 0.01, "kl_last": 5e-3, "generator_from": 3000}
    if device == "cpu":
        settings |= {"judged_samples": 16_384}
    else:
        settings |= {"judged_samples": 131_072, "scene_every": 1}
    if banks is not None:
        settings |= {"pairs": PairSettings(banks=banks)}
    return RhythmTraining(**(settings | changes))


def train_rhythm(
    pack: Pack,
    out: Path,
    settings: RhythmTraining,
    trained: Trained,
    *,
    begin: RhythmNet | None = None,
    **options: Unpack[RunOptions],
) -> Path:
    """Train a rhythm transformer as `loop.train` does, with its errors, and return the checkpoint.

    Args:
        pack: what is trained and validated on.
        out: the folder of the run.
        settings: of the run.
        trained: what stage 2 builds on.
        begin: the weights to begin with; None: as a transformer is initialised.
        options: how the run is carried out.

    Raises:
        CheckpointError: the checkpoint was trained on another codec.
        PackError: the pack lacks what training or validation needs.
        SettingsError: the settings do not fit the codec.
    """
    change = None if begin is None else lambda net: net.load_state_dict(begin.state_dict())
    return train(
        "rhythm", out, lambda device: RhythmRun(pack, out, settings, trained, device, change), **options
    )


class _Stage(nn.Module):
    """What is trained: the transformer and, in the end, the generator."""

    def __init__(self, config: RhythmConfig, generator: GeneratorNet) -> None:
        super().__init__()
        self.config = config
        self.transformer = RhythmNet(config)
        self.generator = generator


class RhythmRun(Run):
    """The training of a rhythm transformer."""

    settings: RhythmTraining
    net: _Stage

    def __init__(
        self,
        pack: Pack,
        out: Path,
        settings: RhythmTraining,
        trained: Trained,
        device: torch.device,
        change: Callable[[RhythmNet], None] | None = None,
    ) -> None:
        """Begin, with the arguments and errors of `train_rhythm`; `change` is made to the transformer first."""
        fits = config_for(trained.encoder.config, fingerprint(trained.encoder))
        if settings.model.codec != fits.codec:
            raise SettingsError("the settings are for another codec", hint="make them with `rhythm_training`")
        torch.manual_seed(settings.seed)
        net, kits = _Stage(settings.model, copy.deepcopy(trained.generator)), kits_of(pack.kits, "train")
        self.maker = PairMaker(trained.transcriber, trained.encoder, settings.model, settings.pairs, device)
        net.transformer.silence.data.copy_(self.maker.silence)
        if change is not None:
            change(net.transformer)
        if settings.first_delta:
            _attention_of(net.transformer.blocks[0]).delta.data.fill_(settings.first_delta)
        super().__init__("rhythm", net, settings, device, kits=kits, pack=pack)
        self.average.eval()
        self.optimiser = _optimiser(self.net, settings)  # type: ignore[assignment]
        self.spectra = SpectralLoss(trained.generator.config.first_noise_hz).to(device)
        self.encoder = trained.encoder
        sources, targets = _held_out(pack, settings)
        self.validation = _validation(self.maker, sources, targets)
        self.deviation = self.maker.deviation(self.validation["transcribed"].audio)
        attention = self.maker.target_attention(self.validation["transcribed"])
        self.reports = RhythmReports(out, sources, targets, attention)
        self.stock = SceneStock(self._make_scene, size=settings.stock, seed=settings.seed)
        self.terms: dict[str, Tensor] = {}  # of the last step

    def learning_rate(self) -> float:
        """As in the paper the rate may stay as it is, after a short warm-up."""
        settings = self.settings
        if settings.is_falling:
            return super().learning_rate()
        return settings.learning_rate * min(1.0, (self.step + 1) / max(1, settings.warm_up))

    def batch_of(self, step: int) -> tuple[Pairs, int]:
        """Return the batch of a step, for which the stock may get another scene."""
        self.stock.fill_to(self.n_scenes(step))
        return self.make_batch(self._rng(step))

    def make_batch(self, rng: np.random.Generator) -> tuple[Pairs, int]:
        """Return pairs, and from which latent frame on their sound is judged."""
        settings, hop, pairs = self.settings, self.settings.model.hop, self.settings.pairs
        first = rng.integers((settings.synthesis.n_samples - settings.judged_samples) // hop + 1)
        return self.stock.draw(settings.batch // pairs.targets, rng, pairs.least_share), int(first)

    def _make_scene(self, rng: np.random.Generator) -> Pairs:
        self.pool.renew(rng, RENEWED)
        return self.maker.draw(self.synthesiser, rng)

    def n_scenes(self, step: int) -> int:
        """Return how many scenes have been made for the batches up to that of a step."""
        return self.settings.first_scenes + step // self.settings.scene_every

    def replay(self) -> None:
        """Make the scenes that were in stock again; of those before, their renewals of procedural drums."""
        if self.step:
            n = self.n_scenes(self.step - 1)
            self.pool.replay(self.stock.left_behind(n), RENEWED)
            self.stock.fill_to(n)

    def train_step(self, batch: tuple[Pairs, int]) -> float:
        """Learn from a batch; the generator learns late."""
        self.net.generator.requires_grad_(self.step >= self.settings.generator_from)
        return super().train_step(batch)

    def loss_of(self, batch: tuple[Pairs, int]) -> Tensor:
        """Return the sum of all terms."""
        pairs, first = batch
        settings = self.settings
        with torch.autocast(self.device.type, torch.bfloat16):
            out = self.net.transformer(pairs.source, pairs.target, with_attention=False)
            output, other = self._decoded(out.sample(), first)
        begin = first * settings.model.hop
        judged = slice(begin, begin + settings.judged_samples)
        terms = self.spectra(output, pairs.audio[:, judged], other)
        # Onsets before what is judged become negative, which stands for none.
        terms |= attack_losses(output, pairs.audio[:, judged], pairs.onsets - begin, other)
        terms["latents"] = latent_loss(out.mu, pairs.latents, self.deviation)
        terms["kl"] = divergence(out).sum()
        if settings.entropy_weight or settings.diversity_weight:
            terms |= head_losses(out.layers, settings.choices)
        weights = settings.weights(*_TERMS)
        weights["kl"] = divergence_weight(
            self.step, first=settings.kl_first, last=settings.kl_last, warm_up=settings.steps
        )
        if pairs.recoverable is not None:
            with torch.autocast(self.device.type, torch.bfloat16):
                back = self.net.transformer(Source(out.mu, pairs.target.rhythm), Target(pairs.source.rhythm))
            terms["cycle"] = cycle_loss(back, pairs.source, pairs.recoverable)
            weights["cycle"] = settings.cycle_weight * min(1.0, 2 * self.step / settings.steps)
        self.terms = {name: value.detach() for name, value in terms.items()}
        return torch.stack([weights[name] * term for name, term in terms.items() if name in weights]).sum()

    def _decoded(self, latents: Tensor, first: int) -> tuple[Tensor, Tensor | None]:
        """Return the sound of latents (B, D, F) that is judged, from frame `first` on; see `with_noises`."""
        hop, n_judged = self.settings.model.hop, self.settings.judged_samples
        context = self.net.generator.context_frames
        begin, end = max(0, first - context), first + n_judged // hop + context
        sounds = with_noises(self.net.generator, latents[..., begin:end], self.step, begin)
        output, other = (None if x is None else x[:, (first - begin) * hop :][:, :n_judged] for x in sounds)
        assert output is not None
        return output, other

    def validate(self) -> dict[str, float]:
        """Return distances in dB of 80 mel bands, and how much of the attention finds what it should.

        "mel_db" is to what the codec makes of the pseudo-target, "target_db" to the pseudo-target itself, both
        for transcribed rhythms; with "midi" before them, for MIDI rhythms. Sources are banks.
        """
        scores: dict[str, float] = {}
        for name, pairs in self.validation.items():
            outs = [self._transformed(pairs, k) for k in range(0, len(pairs.audio), _AT_ONCE)]
            mu, attention = torch.cat([out.mu for out in outs]), torch.cat([out.attention for out in outs])
            codec = Codec(self.encoder, self.average.generator, device=str(self.device))
            made, ideal = (list(codec.decode(z, pairs.audio.shape[-1]).numpy()) for z in (mu, pairs.latents))
            true = list(pairs.audio.cpu().numpy())
            for measure, reference in (("mel_db", ideal), ("target_db", true)):
                distances = [log_mel_distance_db(*pair) for pair in zip(made, reference, strict=True)]
                key = measure if name == "transcribed" else f"{name} {measure}"
                scores[key] = round(float(np.mean(distances)), 4)
            if name != "transcribed":
                continue
            found = folded(attention, pairs.is_silent)
            scores["accuracy"] = round(attention_accuracy(found, self.maker.target_attention(pairs)), 4)
            self.reports.write(self.step, made, attention, self._entry())
        return scores

    def _entry(self) -> dict[str, Any]:
        """Return a report of the network: the terms of the last step, and the learned scalars of its layers."""
        blocks = self.average.transformer.blocks
        return {
            "terms": {name: round(float(value), 5) for name, value in self.terms.items()},
            "alpha": [round(value, 4) for value in self.average.transformer.alphas().tolist()],
            "gamma": [[round(value, 4) for value in block.attention.gamma.tolist()] for block in blocks],
            "delta": [[round(value, 4) for value in block.attention.delta.tolist()] for block in blocks],
            "b_rel": [round(float(block.attention.distances.detach().abs().mean()), 4) for block in blocks],
        }

    @torch.inference_mode()
    def _transformed(self, pairs: Pairs, first: int) -> Transformed:
        """Return what the averaged transformer makes of some pairs, from the pair `first` on."""
        (mu, r_source, mask), (r, a, has_a) = (
            (None if field is None else field[first : first + _AT_ONCE] for field in fields)
            for fields in (pairs.source, pairs.target)
        )
        assert mu is not None
        assert r_source is not None
        assert r is not None
        out: Transformed = self.average.transformer(Source(mu, r_source, mask), Target(r, a, has_a))
        return out

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Go on from a checkpoint of the same codec."""
        if config_from_json(state["config"], RhythmConfig) != self.settings.model:
            raise CheckpointError(
                f"{path} was trained on another codec, or in another shape",
                hint="resume with the preset it was begun with",
            )
        super().restore(state, path)

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds, the generator's configuration too."""
        return {**super().state(), "generator_config": config_to_json(self.net.generator.config)}


def latent_loss(mu: Tensor, target: Tensor, deviation: Tensor) -> Tensor:
    """Return how far latents (B, D, F) are from their target, in nats.

    It is the mean over frames of ln(1 + e), e being the mean square of the error in deviations (D,) of the
    encoder. What is very wrong weighs little more than what is wrong: where two sounds are likely, one of them
    costs less than their mean, which sounds like neither.
    """
    error = ((mu.float() - target) / deviation[:, None]).square().mean(dim=1)
    return torch.log1p(error).mean()


def attention_accuracy(attention: Tensor, target: Tensor) -> float:
    """Return the proportion of frames whose strongest attention is on a key at least half as right as the best.

    Both have the shape (B, F, S + 1).
    """
    best, found = target.amax(dim=-1), attention.argmax(dim=-1, keepdim=True)
    return float((target.gather(-1, found)[..., 0] >= 0.5 * best).float().mean())


def head_losses(layers: Sequence[Tensor], choices: float) -> dict[str, Tensor]:
    """Return the terms "entropy" and "diversity" of attention (B, H, F, keys) by layer (decision 5).

    "entropy" is by how much the entropy of a head's attention is above that of `choices` equal keys.
    "diversity" is by how much the divergence between heads (Jensen and Shannon's) is below the highest, ln H.
    """
    above, alike = [], []
    for attention in layers:
        of_heads, of_mean = _entropy(attention), _entropy(attention.mean(dim=1))
        above.append(torch.relu(of_heads - math.log(choices)).mean())
        alike.append(math.log(attention.shape[1]) - (of_mean - of_heads.mean(dim=1)).mean())
    return {"entropy": torch.stack(above).mean(), "diversity": torch.stack(alike).mean()}


def _entropy(attention: Tensor) -> Tensor:
    return -(attention * torch.log(attention.clamp_min(1e-9))).sum(dim=-1)


def cycle_loss(back: Transformed, source: Source, recoverable: Tensor) -> Tensor:
    """Return the mean absolute difference of what came back and the source, in recoverable frames (B, F)."""
    error = (back.mu - source.mu).abs().mean(dim=1)
    return (error * recoverable).sum() / recoverable.sum().clamp_min(1)


def _held_out(pack: Pack, settings: RhythmTraining) -> tuple[list[SegmentRecipe], list[SegmentRecipe]]:
    """Return sources and targets for validation: whole kits and rhythms of the validation side."""
    n, length_s = settings.n_validation, settings.synthesis.n_samples / SAMPLE_RATE
    drawn = islice(whole_kit_recipes(pack, "validate", whole_kits(length_s), seed=1), 2 * n)
    recipes = [recipe for _, recipe in drawn]
    return recipes[:n], recipes[n:]


def _validation(
    maker: PairMaker, sources: Sequence[SegmentRecipe], targets: Sequence[SegmentRecipe]
) -> dict[str, Pairs]:
    """Return the same pairs of banks with transcribed and with MIDI rhythms."""
    transcribed = replace(maker.settings, heard=1.0, midi=0.0, without_a=0.0, is_worsened=False)
    midi = replace(transcribed, heard=0.0, midi=1.0)
    return {
        name: maker.with_settings(how).make(sources, targets, np.random.default_rng(1), as_banks=True)
        for name, how in (("transcribed", transcribed), ("midi", midi))
    }


def _optimiser(net: _Stage, settings: RhythmTraining) -> torch.optim.Adam:
    """Return Adam with a rate for each part; in the paper, fusers learn more slowly, the generator hardly."""
    fusers = [*net.transformer.fuse_r.parameters(), *net.transformer.fuse_a.parameters()]
    scalars = _scalars(net.transformer) if settings.scalar_rate else []
    apart = {id(parameter) for parameter in (*fusers, *(p for p, _ in scalars))}
    others = [p for p in net.transformer.parameters() if id(p) not in apart]
    return torch.optim.Adam(
        [
            {"params": others, "factor": 1.0},
            {"params": fusers, "factor": settings.fuser_rate},
            {"params": list(net.generator.parameters()), "factor": settings.generator_rate},
            *({"params": [p], "factor": settings.scalar_rate * size} for p, size in scalars),
        ],
        settings.learning_rate,
    )


def _attention_of(block: nn.Module) -> Attention:
    assert isinstance(block.attention, Attention)
    return block.attention


def _scalars(net: RhythmNet) -> list[tuple[nn.Parameter, float]]:
    """Return the learned scales of equation 2 and the layers, and what steps are proportional to."""
    found: list[tuple[nn.Parameter, float]] = []
    for block in net.blocks:
        attention = _attention_of(block)
        assert isinstance(block.alpha_logit, nn.Parameter)
        found += [(p, 1.0) for p in (attention.gamma, attention.distances, block.alpha_logit)]
        found.append((attention.delta, max(1.0, float(attention.delta.detach().abs().mean()))))
    return found


def export_rhythm(checkpoint: Path, folder: Path) -> list[Path]:
    """Write the averaged weights of a checkpoint into a preset's folder (fp16) and return their files.

    A generator that was trained too replaces the preset's; the encoder is the same.

    Raises:
        CheckpointError: the checkpoint is missing or damaged.
    """
    state = read_checkpoint(checkpoint, "rhythm")
    command = command_of(state, "rhythm --data PACK --out RUN --preset PRESET")
    net = RhythmNet(config_from_json(state["config"], RhythmConfig))
    paths = [export_model(submodule(state, "transformer"), net, "rhythm", folder, command=command)]
    if state["step"] > json.loads(state["settings"])["generator_from"]:
        generator = GeneratorNet(config_from_json(state["generator_config"], CodecConfig))
        paths.append(
            export_model(submodule(state, "generator"), generator, "codec-generator", folder, command=command)
        )
    return paths
