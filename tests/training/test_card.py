import csv
import hashlib
import re
import tomllib
from importlib.resources import files
from pathlib import Path

import pytest
from safetensors import safe_open

from training.card import begin_preset, card_of, describe_model, note_scores
from transform.errors import CheckpointError, OutputError
from transform.presets import load_preset


def described(folder, name="transcriber", content=b"weights"):
    folder.mkdir(exist_ok=True)
    weights = folder / f"{name}.safetensors"
    weights.write_bytes(content)
    describe_model(folder, name, weights=weights, parameters=12_345, command=f"redrum train {name}")
    return weights


def test_a_described_folder_is_a_preset(tmp_path):
    weights = described(tmp_path / "mine")
    preset = load_preset(tmp_path / "mine")
    assert preset.name == "mine"
    assert preset.weights("transcriber") == weights
    model = preset.models["transcriber"]
    assert (model.n_parameters, model.sha256) == (12_345, hashlib.sha256(b"weights").hexdigest())


def test_new_weights_keep_the_rest_and_drop_the_scores_of_the_old(tmp_path):
    folder = tmp_path / "mine"
    described(folder)
    described(folder, "separator")
    toml = folder / "preset.toml"
    toml.write_text(toml.read_text().replace("[data]", '[data]\nlicence = "CC0, für alle"'), encoding="utf-8")
    note_scores(folder, "transcriber", {"F": 0.9})
    note_scores(folder, "separator", {"SI-SDR": 8.5})
    weights = described(folder, content=b"better")
    preset = tomllib.loads(toml.read_text(encoding="utf-8"))
    assert preset["scores"] == {"separator": {"SI-SDR": 8.5}}
    assert preset["data"] == {"licence": "CC0, für alle"}
    assert preset["models"]["transcriber"]["sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert load_preset(folder).weights("separator").exists()


def test_the_card_says_what_is_known(tmp_path):
    folder = tmp_path / "mine"
    described(folder)
    toml = folder / "preset.toml"
    told = '[data]\nlimits = ["toms are hard"]\nsources = ["kit X, CC0"]\nlicence = "MIT"'
    toml.write_text(toml.read_text().replace("[data]", told), encoding="utf-8")
    note_scores(
        folder, "transcriber", {"Made with": "`a command`", "F": {"test kits": {"KD": "0.97", "SD": "0.9"}}}
    )
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    for line in (
        "# Preset `mine`",
        "redrum train transcriber",
        "Made with: `a command`",
        "| F | KD | SD |",
        "| test kits | 0.97 | 0.9 |",
        "- toms are hard",
        "- kit X, CC0",
        "MIT",
    ):
        assert line in card.splitlines()


def test_a_preset_begins_with_models_of_another(tmp_path):
    base, folder = tmp_path / "base", tmp_path / "a new one"
    described(base)
    described(base, "separator", b"splits")
    toml = base / "preset.toml"
    told = '[data]\nabout = "the base"\ntranscriber = "it hears"\nseparator = "it splits"\nlicence = "MIT"'
    toml.write_text(toml.read_text().replace("[data]", told), encoding="utf-8")
    note_scores(base, "transcriber", {"F": 0.9})
    note_scores(base, "separator", {"SI-SDR": 8.5})
    begin_preset(load_preset(base), folder, "new", ["separator"])
    preset = load_preset(folder)
    assert (preset.name, list(preset.models)) == ("new", ["separator"])
    assert preset.weights("separator").read_bytes() == b"splits"
    assert preset.data == {"separator": "it splits", "licence": "MIT"}
    assert preset.scores == {"separator": {"SI-SDR": 8.5}}
    assert "it splits" in (folder / "CARD.md").read_text(encoding="utf-8")
    described(folder, content=b"my own")  # as an export does
    assert set(load_preset(folder).models) == {"transcriber", "separator"}

    with pytest.raises(OutputError, match="exists already"):
        begin_preset(load_preset(base), folder, "new", ["separator"])
    with pytest.raises(CheckpointError, match="has no rhythm"):
        begin_preset(load_preset(base), tmp_path / "other", "other", ["rhythm"])
    assert not (tmp_path / "other").exists()


SHIPPED = sorted(Path(str(files("presets"))).glob("*/preset.toml"))


@pytest.mark.parametrize("toml", SHIPPED, ids=lambda toml: toml.parent.name)
def test_a_shipped_card_is_generated_from_its_toml(toml):
    preset = tomllib.loads(toml.read_text(encoding="utf-8"))
    assert (toml.parent / "CARD.md").read_text(encoding="utf-8") == card_of(preset)


def test_the_default_card_names_the_step_of_each_weights_file():
    # The text is written by hand; each weights file states its step in its header.
    folder = load_preset("default").folder
    data = tomllib.loads((folder / "preset.toml").read_text(encoding="utf-8"))["data"]
    for model in ("transcriber", "separator", "codec-generator", "rhythm"):
        with safe_open(folder / f"{model}.safetensors", "np") as file:
            step = file.metadata()["step"]
        assert re.search(rf"\b{step}\b", data[model]), f"{model}: the card does not mention step {step}"


def test_the_default_card_names_the_authors_of_the_demo_loops():
    # They are cut from what the models were trained on (presets/demo/SOURCES.csv).
    card = (load_preset("default").folder / "CARD.md").read_text(encoding="utf-8")
    for author in ("Software-Entwicklungskit", "Lars Muldjord", "Groove MIDI Dataset, Google LLC"):
        assert author in card


def test_the_sources_of_the_demo_say_what_was_trained_on_them():
    with (Path(str(files("presets"))) / "demo" / "SOURCES.csv").open(encoding="utf-8", newline="") as file:
        said = {row["file"]: row["trained_on_by"] for row in csv.DictReader(file)}
    assert said["acoustic-rock-135bpm.flac"].startswith("all models")
    assert all(text.startswith("codec") for name, text in said.items() if name.startswith("electronic"))
