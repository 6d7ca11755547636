import pytest
from typer.testing import CliRunner

from training.__main__ import app
from training.data.segments import SegmentSettings
from training.data.synthesis import SynthesisSettings
from training.train import codec as train_codec
from training.train.codec import CodecTraining
from training.train.discriminators import DiscriminatorConfig
from transform.codec_config import CodecConfig
from transform.presets import load_preset


@pytest.fixture
def training(monkeypatch):
    """Return a function that runs a training command, with a codec that takes seconds."""

    def small(configuration, device, *, noise_from_hz, mixed_from_hz, begin, **changes):
        assert (noise_from_hz, mixed_from_hz, begin) == (None, None, None)
        model = CodecConfig(
            n_latents=6 if configuration == "hires" else 4,
            widths=(4, 6, 8, 8, 10),
            n_blocks=(1, 1, 1, 1, 1),
            generator_widths=(12, 8),
            generator_blocks=(1, 1),
        )
        return CodecTraining(
            warm_up=1,
            n_validation=1,
            pool_size=1,
            synthesis=SynthesisSettings(n_samples=22_050),
            pieces=SegmentSettings(n_samples=8192),
            discriminators=DiscriminatorConfig(windows=(256,), width=2),
            model=model,
            **changes,
        )

    monkeypatch.setattr(train_codec, "codec_training", small)
    return lambda *args: CliRunner().invoke(app, [str(arg) for arg in args])


@pytest.mark.slow
def test_from_a_data_folder_to_a_scored_codec(training, data_folder, tmp_path):
    assert training("pack", data_folder, "--out", tmp_path / "pack").exit_code == 0
    begin = ("codec", "--data", tmp_path / "pack", "--out", tmp_path / "run", "--device", "cpu")
    trained = training(*begin, "--steps", 3, "--batch", 2, "--seed", 3, "--export", tmp_path / "preset")
    assert trained.exit_code == 0, trained.stderr
    names = ("codec-encoder.safetensors", "codec-generator.safetensors")
    written = [str(tmp_path / "run" / "codec.pt"), *(str(tmp_path / "preset" / name) for name in names)]
    assert trained.stdout.splitlines() == written

    score = ("score-codec", "--data", tmp_path / "pack", "--preset", tmp_path / "preset", "--recordings", 1)
    scored = training(*score, "--write")
    assert scored.exit_code == 0, scored.stderr
    assert scored.stdout.splitlines()[0].startswith("known kits")
    assert "Mean (95 % interval over recordings)" in load_preset(tmp_path / "preset").scores["codec-generator"]

    again = training(*begin, "--steps", 3)
    assert again.exit_code == 1
    assert "exists" in again.stderr
    other = training(*begin, "--resume", "--config", "paper", "--steps", 4)
    assert other.exit_code == 1
    assert "another configuration" in other.stderr
    hurry = training(*begin[:4], tmp_path / "hurry", "--max-minutes", 1e-9)
    assert hurry.exit_code == 2
    assert "too short" in hurry.stderr


def test_a_configuration_that_does_not_exist_is_a_sentence(data_folder, tmp_path):
    args = ["codec", "--data", data_folder, "--out", tmp_path, "--config", "lowres", "--device", "cpu"]
    answer = CliRunner().invoke(app, [str(arg) for arg in args])
    assert answer.exit_code == 2
    assert "no configuration lowres" in answer.stderr
