import numpy as np
import pytest
import torch

from training.data.synthesis import SynthesisSettings
from training.train import separator as module
from training.train.reports import read_log
from training.train.separator import (
    BandEnergies,
    Mixtures,
    SeparatorTraining,
    export_separator,
    separation_loss,
    train_separator,
)
from training.train.transcriber import export_transcriber, train_transcriber
from transform.audio import Recording
from transform.errors import CheckpointError
from transform.presets import load_preset
from transform.separator import Separator, SeparatorConfig, load_separator
from transform.stft import analyse
from transform.transcriber import Activations, load_transcriber

SMALL = SeparatorConfig(widths=(4, 4, 8), d_model=16, dilations=(1, 2, 4))


@pytest.fixture(scope="module")
def guide(tiny_pack, small_training, tmp_path_factory):
    """Return the weights of a transcriber that hears next to nothing."""
    folder = tmp_path_factory.mktemp("guide")
    return export_transcriber(train_transcriber(tiny_pack, folder / "run", small_training(steps=1)), folder)


@pytest.fixture(scope="module")
def settings():
    def make(**changes):
        small = {"steps": 6, "batch": 2, "warm_up": 3, "validate_every": 3, "n_validation": 2, "pool_size": 1}
        small |= {"synthesis": SynthesisSettings(n_samples=22_050), "model": SMALL}
        return SeparatorTraining(**(small | changes))

    return make


@pytest.fixture
def sines():
    """Return a batch of two stems, 200 Hz and 3 kHz, of three silent ones, and the sound itself."""
    time_s = torch.arange(22_050) / 44_100
    stems = torch.zeros(1, 5, 22_050)
    stems[0, 0], stems[0, 3] = torch.sin(2 * np.pi * 200 * time_s), 0.3 * torch.sin(2 * np.pi * 3000 * time_s)
    audio = stems.sum(dim=1)
    fields = BandEnergies(SMALL, torch.device("cpu")).of(audio, stems)
    return Mixtures(torch.zeros(0), torch.zeros(0), torch.zeros(0), **fields), audio, stems


def masks_of(batch, low_class, high_class, split=40):
    masks = torch.zeros(1, 5, *batch.bands.shape[1:])
    masks[:, low_class, :, :split] = 1
    masks[:, high_class, :, split:] = 1
    return masks


def test_the_loss_knows_right_from_wrong(sines):
    batch, _, _ = sines
    right, wrong = masks_of(batch, 0, 3), masks_of(batch, 3, 0)
    leaking = 0.95 * right
    leaking[:, 4] = 0.05
    nothing = torch.zeros_like(right)
    for only in ({}, {"spectral_weight": 0.0}):
        losses = [
            float(separation_loss(masks, batch, SeparatorTraining(**only)))
            for masks in (right, leaking, nothing, wrong)
        ]
        assert losses == sorted(losses)
    assert losses[0] == pytest.approx(-3.4, abs=0.1)  # -30 dB, and a fifth of -20 dB


def test_the_loss_is_the_energy_of_the_spectra_left_over(sines):
    batch, audio, stems = sines
    masks = torch.softmax(3 * torch.randn(1, 5, *batch.bands.shape[1:]), dim=1)
    mix, parts = (
        analyse(torch.nn.functional.pad(sound, (882, 882)), 441).to(torch.complex128)
        for sound in (audio, stems)
    )
    weights = BandEnergies(SMALL, torch.device("cpu")).weights.double()
    error = ((masks.double() @ weights.T) * mix[:, None] - parts).abs().square().sum(dim=(-2, -1))
    whole = parts.abs().square().sum(dim=(-2, -1))
    sounding = whole > 0  # what is silent here is exactly 0
    expected = float(torch.log10(error[sounding] / whole[sounding] + 1e-3).mean())
    noise_alone = SeparatorTraining(spectral_weight=0.0, leakage_weight=0.0)
    assert float(separation_loss(masks, batch, noise_alone)) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_the_network_learns_a_batch(tiny_pack, guide, settings, tmp_path):
    made = settings(steps=60, learning_rate=1e-2, model=SeparatorConfig(widths=(8, 8, 16), d_model=32))
    run = module._Run(tiny_pack, tmp_path, made, load_transcriber(guide), torch.device("cpu"))
    batch = run.batch_of(0)
    losses = [run.train_step(batch) for _ in range(40)]
    assert np.mean(losses[-3:]) < losses[0] - 0.5  # 5 dB


def test_a_batch_holds_what_was_mixed(tiny_pack, guide, settings, tmp_path):
    run = module._Run(tiny_pack, tmp_path, settings(), load_transcriber(guide), torch.device("cpu"))
    batch = run.batch_of(3)
    assert batch.features.shape == (4, 3, 51, 96)  # two segments, each in two versions
    assert batch.activations.shape == (4, 5, 51)
    assert batch.energy.shape == (4, 5)
    again = module._Run(tiny_pack, tmp_path, settings(), load_transcriber(guide), torch.device("cpu"))
    for step in range(4):
        same = again.batch_of(step)
    assert not torch.equal(same.features, run.batch_of(4).features)


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(tiny_pack, guide, settings, tmp_path, stop_after):
    train_separator(tiny_pack, tmp_path / "whole", settings(), transcriber=guide)
    train_separator(tiny_pack, tmp_path / "parts", settings(), transcriber=guide, **stop_after(4))
    assert torch.load(tmp_path / "parts" / "separator.pt")["step"] == 4
    train_separator(tiny_pack, tmp_path / "parts", settings(), transcriber=guide, resume=True)
    whole, parts = (torch.load(tmp_path / name / "separator.pt") for name in ("whole", "parts"))
    assert all(torch.equal(value, parts["net"][key]) for key, value in whole["net"].items())
    logged = read_log(tmp_path / "whole" / "separator.jsonl")
    assert [entry["step"] for entry in logged] == [3, 6]
    assert {"KD", "SD", "HH", "mean"} <= logged[-1]["scores"].keys()
    with pytest.raises(CheckpointError, match="exists"):
        train_separator(tiny_pack, tmp_path / "whole", settings(), transcriber=guide)


def test_weights_go_into_a_preset(tiny_pack, guide, settings, tmp_path):
    checkpoint = train_separator(tiny_pack, tmp_path, settings(steps=2, validate_every=2), transcriber=guide)
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["0000002.png"]
    path = export_separator(checkpoint, guide.parent)
    preset = load_preset(guide.parent)
    assert preset.weights("separator") == path
    assert set(preset.models) == {"transcriber", "separator"}
    assert (load_separator(path).config.certainty, SMALL.certainty) == (0.4, 1.0)
    assert "## Separator" in (guide.parent / "CARD.md").read_text(encoding="utf-8")
    recording = Recording.from_samples(np.random.default_rng(0).uniform(-0.5, 0.5, 10_000), 44_100)
    rows = np.zeros((5, 23), dtype=np.float32)
    stems = Separator.load(path).open(recording, Activations(rows, rows, rows, rows[:1]))
    assert np.allclose(stems.read(0, 10_000).sum(axis=0), recording.read(0, 10_000), atol=1e-6)
