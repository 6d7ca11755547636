"""A preset's description on disk: `preset.toml`, and the model card `CARD.md` that is written from it."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.score.scores import markdown_table
from transform.errors import OutputError
from transform.events import CLASSES
from transform.files import atomic_folder, write_text_atomic
from transform.presets import Preset
from transform.toml import read_toml

_NEW_PRESET: dict[str, Any] = {
    "format": 1,
    "configuration": "hires",
    "classes": list(CLASSES),
    "sample_rate": 44_100,
    "models": {},
    "data": {},
    "scores": {},
}


def begin_preset(base: Preset, folder: Path, name: str, models: Sequence[str]) -> None:
    """Write a new preset's folder that holds some models of another preset, to which others may be exported.

    What the other's description states of its models, limits, data, licence and scores is copied.

    Args:
        base: the other preset.
        folder: the new preset's, which must not exist or be empty.
        name: of the new preset.
        models: which of the other's to take.

    Raises:
        CheckpointError: the other preset lacks one of the models, or its file is damaged.
        OutputError: there is something in the folder's place, or it cannot be written.
    """
    check_new_folder(folder)
    weights = {model: base.weights(model) for model in models}
    preset = _read(base.folder)
    left_out = {"about", *preset["models"]} - weights.keys()
    preset["models"] = {model: preset["models"][model] for model in weights}
    preset["data"] = {key: value for key, value in preset["data"].items() if key not in left_out}
    preset["scores"] = {model: preset["scores"][model] for model in weights if model in preset["scores"]}
    with atomic_folder(folder, overwrite=False) as temporary:
        for path in weights.values():
            shutil.copyfile(path, temporary / path.name)
        _write(temporary, preset | {"name": name})


def check_new_folder(folder: Path) -> None:
    """Raise OutputError where there is something in the place of a new preset's folder."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists already", hint="name a new folder: nothing is replaced")


def describe_model(folder: Path, model: str, *, weights: Path, parameters: int, command: str) -> None:
    """Write a model of a preset into `preset.toml`, and the card anew; what is there of other models stays.

    Args:
        folder: the preset's folder.
        model: such as "transcriber".
        weights: its file, in the folder.
        parameters: how many it has.
        command: what trained it.
    """
    preset = _read(folder)
    preset["models"][model] = {
        "file": weights.name,
        "sha256": hashlib.sha256(weights.read_bytes()).hexdigest(),
        "parameters": parameters,
        "command": command,
    }
    preset["scores"].pop(model, None)  # those of older weights
    _write(folder, preset)


def note_configuration(folder: Path, configuration: str) -> None:
    """Write into `preset.toml` which configuration a preset's codec is of, and the card anew."""
    _write(folder, _read(folder) | {"configuration": configuration})


def derive_preset(base: Path, folder: Path, name: str, data: Mapping[str, Any]) -> None:
    """Write the description of a preset that begins as another one, under a name of its own.

    Args:
        base: the other preset's folder.
        folder: the new preset's, which holds the same weights files.
        name: of the new preset.
        data: entries of the table `data` that take the place of the other's.
    """
    preset = _read(base)
    _write(folder, preset | {"name": name, "data": preset["data"] | dict(data)})


def note_scores(folder: Path, model: str, scores: Mapping[str, Any]) -> None:
    """Write a model's scores into `preset.toml`, and the card anew."""
    preset = _read(folder)
    preset["scores"][model] = dict(scores)
    _write(folder, preset)


def card_of(preset: Mapping[str, Any]) -> str:
    """Return the model card of a preset (the content of its `preset.toml`) as Markdown."""
    data = preset["data"]
    lines = [f"# Preset `{preset['name']}`", ""]
    lines += [str(data["about"]), ""] if "about" in data else []
    for model, entry in preset["models"].items():
        lines += [f"## {model.capitalize()}", ""]
        lines += [f"{entry['parameters']:,} parameters, `{entry['file']}` (half precision on disk).", ""]
        lines += ["Trained with:", "", "```", str(entry.get("command", "not recorded")), "```", ""]
        lines += [f"{data[model]}", ""] if model in data else []
        if model in preset["scores"]:
            lines += _score_lines(preset["scores"][model])
    if "limits" in data:
        lines += ["## What it does badly", "", *(f"- {limit}" for limit in data["limits"]), ""]
    if "sources" in data:
        lines += ["## Training data", "", *(f"- {source}" for source in data["sources"]), ""]
    if "licence" in data:
        lines += ["## Licence of the weights", "", str(data["licence"]), ""]
    return "\n".join(lines)


def _score_lines(scores: Mapping[str, Any]) -> list[str]:
    """Return scores as prose and tables: a string is a paragraph, a table of tables is a table."""
    lines: list[str] = []
    for title, value in scores.items():
        if isinstance(value, Mapping):
            columns = list(next(iter(value.values())))
            rows = {row: [str(cells[c]) for c in columns] for row, cells in value.items()}
            lines += [*markdown_table(title, columns, rows), ""]
        else:
            lines += [f"{title}: {value}", ""]
    return lines


def _read(folder: Path) -> dict[str, Any]:
    path = folder / "preset.toml"
    if not path.exists():
        return {**_NEW_PRESET, "name": folder.resolve().name, "models": {}, "data": {}, "scores": {}}
    preset = read_toml(path)
    return preset | {table: dict(preset.get(table, {})) for table in ("models", "data", "scores")}


def _write(folder: Path, preset: Mapping[str, Any]) -> None:
    write_text_atomic(folder / "preset.toml", _toml(preset), overwrite=True)
    write_text_atomic(folder / "CARD.md", card_of(preset), overwrite=True)


def _toml(table: Mapping[str, Any], prefix: str = "") -> str:
    """Return a table as TOML: strings, numbers, lists and tables are all that a preset holds."""
    plain = {key: value for key, value in table.items() if not isinstance(value, Mapping)}
    # JSON's strings, numbers and lists of them are TOML's too.
    lines = [f"{_key(key)} = {json.dumps(value, ensure_ascii=False)}" for key, value in plain.items()]
    text = "\n".join(lines) + ("\n" if lines else "")
    for key, value in table.items():
        if isinstance(value, Mapping):
            name = f"{prefix}{_key(key)}"
            inner = _toml(value, f"{name}.")
            text += f"\n[{name}]\n{inner}"
    return text


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() and key.isascii() else json.dumps(key)
