import functools
import subprocess
import sys

import pytest
import torch
from typer.testing import CliRunner

from training.__main__ import app
from training.data.kits import ProceduralPool
from training.data.synthesis import SynthesisSettings
from training.score import transcriber as score_transcriber
from training.train import separator as train_separator
from training.train import transcriber as module
from transform.presets import load_preset
from transform.separator import SeparatorConfig
from transform.transcriber import load_transcriber


@pytest.fixture
def training(monkeypatch, small_training):
    """Return a function that runs a training command, with settings that take seconds."""
    monkeypatch.setattr(module, "TranscriberTraining", small_training)
    monkeypatch.setattr(score_transcriber, "ProceduralPool", functools.partial(ProceduralPool, size=1))

    def run(*args):
        return CliRunner().invoke(app, [str(arg) for arg in args])

    return run


@pytest.mark.usefixtures("with_curves")
def test_from_a_data_folder_to_weights(training, data_folder, tmp_path):
    packed = training("pack", data_folder, "--out", tmp_path / "pack")
    assert packed.exit_code == 0, packed.stderr
    assert packed.stdout == f"{tmp_path / 'pack'}: 12 one-shots, 2 rhythms, 1 loops\n"

    begin = ("transcriber", "--data", tmp_path / "pack", "--out", tmp_path / "run", "--device", "cpu")
    trained = training(*begin, "--steps", 2, "--batch", 1, "--seed", 3, "--export", tmp_path / "preset")
    assert trained.exit_code == 0, trained.stderr
    weights = tmp_path / "preset" / "transcriber.safetensors"
    assert trained.stdout.splitlines() == [str(tmp_path / "run" / "transcriber.pt"), str(weights)]
    assert load_transcriber(weights).config.d_model == 16
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "curves.png",
        "transcriber.jsonl",
        "transcriber.pt",
    ]

    score = ("score", "--data", tmp_path / "pack", "--preset", tmp_path / "preset", "--synthetic", 2)
    scored = training(*score, "--write")
    assert scored.exit_code == 0, scored.stderr
    rows = [line[:28].strip() for line in scored.stdout.splitlines()]
    assert rows == ["known kits", "validation kits", "as rhythms are trained on"]
    assert "| known kits | " in (tmp_path / "preset" / "CARD.md").read_text(encoding="utf-8")
    assert (
        "micro"
        in load_preset(tmp_path / "preset").scores["transcriber"]["F @50 ms (95 % interval over recordings)"][
            "known kits"
        ]
    )

    again = training(*begin, "--steps", 2)
    assert again.exit_code == 1
    assert again.stderr.splitlines()[-2:] == [
        f"redrum: {tmp_path / 'run' / 'transcriber.pt'} exists",
        "  go on with --resume, or name another --out",
    ]
    resumed = training(*begin, "--steps", 3, "--resume", "--max-minutes", 5)
    assert resumed.exit_code == 0, resumed.stderr
    assert torch.load(tmp_path / "run" / "transcriber.pt")["step"] == 3


@pytest.mark.slow
def test_the_judge_is_trained_apart_from_any_preset(training, data_folder, tmp_path):
    training("pack", data_folder, "--out", tmp_path / "pack")
    args = ("evaluation-transcriber", "--data", tmp_path / "pack", "--out", tmp_path / "run", "--steps", 1)
    trained = training(*args, "--batch", 1, "--device", "cpu", "--export", tmp_path / "judge")
    assert trained.exit_code == 0, trained.stderr
    weights = tmp_path / "judge" / "transcriber-evaluation.safetensors"
    assert trained.stdout.splitlines() == [str(tmp_path / "run" / "evaluation-transcriber.pt"), str(weights)]
    assert list(weights.parent.iterdir()) == [weights]
    assert weights.stat().st_size < 1_500_000


@pytest.mark.slow
def test_the_separator_joins_its_transcriber_in_a_preset(training, data_folder, tmp_path, monkeypatch):
    small = functools.partial(
        train_separator.SeparatorTraining,
        n_validation=2,
        pool_size=1,
        synthesis=SynthesisSettings(n_samples=22_050),
        model=SeparatorConfig(widths=(4, 4, 8), d_model=16, dilations=(1, 2)),
    )
    monkeypatch.setattr(train_separator, "SeparatorTraining", small)
    pack, preset = tmp_path / "pack", tmp_path / "preset"
    training("pack", data_folder, "--out", pack)
    begin = ("--data", pack, "--device", "cpu", "--steps", 1, "--batch", 1, "--export", preset)
    training("transcriber", *begin, "--out", tmp_path / "first")
    trained = training("separator", *begin, "--out", tmp_path / "second", "--preset", preset)
    assert trained.exit_code == 0, trained.stderr
    assert set(load_preset(preset).models) == {"transcriber", "separator"}
    again = training("separator", *begin, "--out", tmp_path / "second", "--preset", preset)
    assert again.exit_code == 1
    assert "separator.pt exists" in again.stderr

    scored = training("score-separator", "--data", pack, "--preset", preset, "--synthetic", 1, "--write")
    assert scored.exit_code == 0, scored.stderr
    rows = [line.split("  ")[1] for line in scored.stdout.splitlines() if line.startswith("  ")]
    assert {"mixture", "separator", "ideal ratio mask"} <= set(rows)
    card = (preset / "CARD.md").read_text(encoding="utf-8")
    assert "| SI-SDR in dB, known kits | KD |" in card
    assert "redrum train score-separator --data PACK" in card


def test_a_preset_begins_with_what_is_shipped(training, tmp_path):
    made = training("preset", tmp_path / "Paper No. 2")
    assert made.exit_code == 0, made.stderr
    assert made.stdout == f"{tmp_path / 'Paper No. 2'}: transcriber, separator of default\n"
    preset = load_preset(tmp_path / "Paper No. 2")
    assert (preset.name, list(preset.models)) == ("paper-no-2", ["transcriber", "separator"])
    again = training("preset", tmp_path / "Paper No. 2")
    assert again.exit_code == 1
    assert "nothing is replaced" in again.stderr


def test_errors_are_a_sentence_and_a_code(training, tmp_path, monkeypatch, subtests):
    cases = [
        (["pack", "none", "--out", "p"], 1, "manifest.csv cannot be read"),
        (["pack", "none", "--out", "p", "--split", "dev"], 2, "there is no split dev"),
        (["pack", "none"], 2, "Missing option '--out'"),
        (["transcriber", "--data", "none", "--out", "r"], 1, "no readable pack file"),
        (["transcriber", "--data", "none", "--out", "r", "--max-minutes", "0"], 2, "it must be above 0"),
        (
            ["transcriber", "--data", "none", "--out", "r", "--steps", "0"],
            2,
            "steps is 0; it must be 1 or more",
        ),
        (["transcriber", "--data", "none", "--out", "r", "--device", "tpu"], 2, "there is no device tpu"),
        (["separator", "--data", "none", "--out", "r"], 2, "Missing option '--preset'"),
        (["separator", "--data", "none", "--out", "r", "--preset", "none"], 1, "there is no preset 'none'"),
        (["codec", "--data", "none", "--out", "r", "--config", "large"], 2, "large"),
        (["rhythm", "--data", "none", "--out", "r"], 2, "Missing option '--preset'"),
        (["rhythm", "--data", "none", "--out", "r", "--preset", "none"], 1, "there is no preset 'none'"),
        (["kit"], 2, "Missing argument 'FOLDER'"),
        (["kit", "none"], 1, "none is no folder"),
        (["kit", ".", "--name", "../up"], 2, "'../up' cannot name a preset"),
        (["kit", ".", "--max-minutes", "0"], 2, "it must be above 0"),
        (["kit", ".", "--max-minutes", "1"], 2, "give 2 or more; 20 is usual"),
        (["kite"], 2, "No such command"),
    ]
    for args, code, said in cases:
        with subtests.test(args=args, code=code, said=said):
            monkeypatch.chdir(tmp_path)
            result = training(*args)
            assert result.exit_code == code
            assert said in result.stderr
            assert "Traceback" not in result.stderr
            assert not result.stdout
            assert not list(tmp_path.iterdir())


def test_a_device_that_is_not_there_is_a_matter_of_the_machine(training, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    result = training("transcriber", "--data", tmp_path, "--out", tmp_path, "--device", "cuda")
    assert result.exit_code == 3
    assert result.stderr == "redrum: there is no cuda device on this machine\n  use --device cpu\n"


def test_too_little_time_says_so(training, data_folder, tmp_path):
    training("pack", data_folder, "--out", tmp_path / "pack")
    args = ("transcriber", "--data", tmp_path / "pack", "--out", tmp_path / "run", "--max-minutes", "0.00001")
    result = training(*args)
    assert result.exit_code == 2
    assert "too short for a single training step" in result.stderr
    assert "raise --max-minutes" in result.stderr


def test_an_interrupt_is_130(training, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("training.data.pack.load_pack", interrupt)
    result = training("transcriber", "--data", tmp_path, "--out", tmp_path, "--device", "cpu")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr


def test_help_loads_no_torch(root):
    code = """
import contextlib, io, sys
from training.__main__ import app
with contextlib.redirect_stdout(io.StringIO()) as shown, contextlib.suppress(SystemExit):
    app(["--help"])
assert "transcriber" in shown.getvalue()
assert not {"torch", "numpy", "matplotlib", "mido"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True)
