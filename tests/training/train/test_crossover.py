from dataclasses import replace

import numpy as np
import pytest
import torch

from training.data.scenes import joined
from training.data.synthesis import SynthesisSettings
from training.train import crossover as module
from training.train.crossover import (
    crossover_training,
    export_crossover,
    low_passed,
    train_crossover,
)
from training.train.reports import read_log
from training.train.rhythm import load_trained, load_transformer
from transform.codec import Codec
from transform.codec_config import CONFIGURATIONS
from transform.crossover import load_crossover
from transform.errors import SettingsError
from transform.latent import LatentModel
from transform.presets import load_preset

LENGTH = 24_576


@pytest.fixture
def base(write_untrained, tmp_path):
    return load_preset(write_untrained(tmp_path / "preset", with_rhythm=True).folder)


def settings_of(trained, **changes):
    small = {"batch": 2, "warm_up": 2, "validate_every": 1000, "n_validation": 2, "pool_size": 1}
    small |= {"synthesis": SynthesisSettings(n_samples=LENGTH), "steps": 4}
    return crossover_training(trained, **(small | changes))


def test_what_is_passed_and_the_rest_add_up_and_meet_at_the_frequency():
    t = torch.arange(44_100) / 44_100
    tones = torch.stack([torch.sin(2 * torch.pi * hz * t) for hz in (200.0, 2000.0, 12_000.0)])
    gains = low_passed(tones).std(dim=-1) / tones.std(dim=-1)
    assert gains.tolist() == pytest.approx([1.0, 0.5, 0.0], abs=0.02)


@pytest.mark.slow
def test_a_run_resumes_to_the_bit_and_what_is_exported_plays(tiny_pack, base, tmp_path, stop_after):
    trained, transformer = load_trained(base), load_transformer(base)
    settings = settings_of(trained)
    whole = train_crossover(tiny_pack, tmp_path / "whole", settings, trained, transformer)
    train_crossover(tiny_pack, tmp_path / "parts", settings, trained, transformer, **stop_after(2))
    parts = train_crossover(tiny_pack, tmp_path / "parts", settings, trained, transformer, resume=True)
    states = [torch.load(path)["average"] for path in (whole, parts)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    export_crossover(whole, base.folder)
    preset = load_preset(base.folder)
    codec = Codec.load(preset.weights("codec-encoder"), preset.weights("codec-generator"))
    assert load_crossover(preset.weights("crossover"), codec).config.codec == codec.fingerprint
    assert LatentModel.load(preset).copies_lows


def test_a_run_learns_and_says_how_well(tiny_pack, base, tmp_path):
    trained, transformer = load_trained(base), load_transformer(base)
    settings = settings_of(trained, steps=16, validate_every=8, learning_rate=1e-2)
    train_crossover(tiny_pack, tmp_path / "run", settings, trained, transformer)
    scores = [entry["scores"] for entry in read_log(tmp_path / "run" / "crossover.jsonl") if "scores" in entry]
    assert scores[-1]["own error"] < scores[0]["own error"]
    assert (tmp_path / "run" / "samples" / "0000016.png").exists()


def test_examples_have_the_lows_of_one_and_the_highs_of_the_other(tiny_pack, base, tmp_path):
    trained, transformer = load_trained(base), load_transformer(base)
    run = module._Run(tiny_pack, tmp_path, settings_of(trained), trained, transformer, torch.device("cpu"))
    pairs = joined(
        [run.pair_maker.draw(run.synthesiser, np.random.default_rng(0))], np.random.default_rng(0), 1.0
    )
    examples = run.maker.examples(pairs)
    assert len(examples.lows) == len(examples.highs) == 4  # two targets, each with its own lows and the other's
    made = run.maker.generator(examples.highs).detach()
    lows = torch.cat((pairs.audio, pairs.audio.flip(0)))
    hz = torch.linspace(0, 22_050, LENGTH // 2 + 1)
    for part, truth in ((hz < 500, lows), (hz > 8000, made)):
        expected = torch.fft.rfft(truth)[:, part]
        off = (torch.fft.rfft(examples.audio)[:, part] - expected).abs().max()
        assert off < 0.02 * torch.fft.rfft(torch.cat((lows, made))).abs().max()
    assert torch.equal(examples.lows, torch.cat((pairs.latents, pairs.latents.flip(0))))


def test_the_papers_codec_has_none(write_untrained, tiny_pack, tmp_path):
    paper = replace(CONFIGURATIONS["paper"], n_latents=6, widths=(4, 6, 8, 10, 12))
    base = load_preset(write_untrained(tmp_path / "paper", codec=paper, with_rhythm=True).folder)
    trained = load_trained(base)
    with pytest.raises(SettingsError, match="paper's codec"):
        train_crossover(tiny_pack, tmp_path / "run", settings_of(trained), trained, load_transformer(base))
