from dataclasses import replace

import ablate_rhythm as module
import pytest
import torch
from ablate_rhythm import VARIANTS, table, train_variant
from typer.testing import CliRunner

from training.data.rhythm_pairs import PairSettings
from training.data.synthesis import SynthesisSettings
from training.train.rhythm import load_trained, rhythm_training
from transform.rhythm_transformer import RhythmConfig, RhythmNet, Source, Target

SMALL = RhythmConfig(n_latents=8, n_activations=5, width=8, n_heads=2)


def copied_share(net):
    """Return how much of what comes out is a copy of the only frame there is, which is what is wanted."""
    torch.manual_seed(1)
    struck = torch.zeros(1, net.config.n_rhythm, 1)
    struck[0, [15, 23]] = 1.0
    mu = torch.randn(1, net.config.n_latents, 1)
    with torch.no_grad():
        out = net(Source(mu, struck, torch.ones(1, 1, dtype=torch.bool)), Target(struck))
    return float(1 - (out.mu - mu).norm() / mu.norm())


def changed(name):
    torch.manual_seed(0)
    variant = VARIANTS[name]
    net = RhythmNet(replace(SMALL, **variant.model))
    if variant.change is not None:
        variant.change(net)
    return net


def test_variants_are_without_what_they_name():
    assert copied_share(changed("whole")) == pytest.approx(1, abs=1e-3)
    assert copied_share(changed("mixer")) == pytest.approx(1, abs=1e-3)
    assert copied_share(changed("4, heads")) == pytest.approx(1, abs=1e-3)
    assert copied_share(changed("4")) < 0.9
    assert copied_share(changed("2")) < 0.9  # silence is as near as the frame
    assert VARIANTS["10"].settings["generator_from"] == 0


@pytest.fixture
def small(monkeypatch):
    """Make all trainings small."""

    def settings(trained, device, **changes):
        made = rhythm_training(trained, device, **changes)
        model = replace(made.model, width=8, n_heads=2)
        return replace(
            made,
            batch=2,
            n_validation=1,
            pool_size=1,
            judged_samples=4096,
            first_scenes=1,
            synthesis=SynthesisSettings(n_samples=24_576),
            pairs=PairSettings(targets=2),
            model=model,
        )

    monkeypatch.setattr(module, "rhythm_training", settings)


@pytest.mark.slow
def test_variants_learn_from_the_same_scenes(small, tiny_pack, write_untrained, tmp_path):
    trained = load_trained(write_untrained(tmp_path))
    scores, stock = train_variant(tiny_pack, tmp_path / "a", trained, VARIANTS["whole"], None, steps=2)
    again, shared = train_variant(tiny_pack, tmp_path / "b", trained, VARIANTS["whole"], stock, steps=2)
    assert shared is stock
    assert len(stock.scenes) == 1
    assert again == scores
    untrained, _ = train_variant(tiny_pack, tmp_path / "c", trained, VARIANTS["begin"], stock, steps=2)
    assert untrained.keys() == scores.keys()
    assert untrained != scores


def test_the_command_goes_on_and_writes_a_table(small, tiny_pack, write_untrained, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_pack", lambda path: tiny_pack)
    monkeypatch.setattr(module, "VARIANTS", {name: VARIANTS[name] for name in ("begin", "4")})
    (tmp_path / "preset").mkdir()
    write_untrained(tmp_path / "preset")
    args = ["--data", str(tmp_path), "--preset", str(tmp_path / "preset"), "--out", str(tmp_path / "out")]
    first = CliRunner().invoke(module.app, [*args, "--steps", "1"])
    assert first.exit_code == 0, first.output
    assert len(first.stdout.splitlines()) == 2
    assert not CliRunner().invoke(module.app, [*args, "--steps", "1"]).stdout  # all is known
    lines = (tmp_path / "out" / "ablation.md").read_text(encoding="utf-8").splitlines()
    assert [line.split(" | ")[0] for line in lines[2:]] == [f"| {VARIANTS[n].what}" for n in ("begin", "4")]


def test_the_table_has_a_column_for_each_score():
    text = table({"begin": {"mel_db": 5.0}, "10": {"mel_db": 4.126, "accuracy": 0.5}})
    assert text.splitlines()[0] == "| variant | mel_db | accuracy |"
    assert text.splitlines()[2] == f"| {VARIANTS['begin'].what} | 5.00 |  |"
    assert text.splitlines()[3] == f"| {VARIANTS['10'].what} | 4.13 | 0.50 |"
