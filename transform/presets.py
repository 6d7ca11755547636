"""Presets: trained weights and their description, shipped or the user's own.

Shipped presets are read from the package `presets`. What a user adds lies in the user's data folder, which the
environment variable REDRUM_DATA overrides; a shipped name cannot be taken again.
"""

import hashlib
import logging
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TypeVar

from transform.errors import CheckpointError
from transform.events import CLASSES
from transform.files import read_bytes
from transform.toml import read_toml

DEFAULT_PRESET = "default"
CONFIGURATIONS = ("paper", "hires")
FORMAT = 1  # of preset.toml; a newer one is refused
_SHA256 = re.compile(r"[0-9a-f]{64}")

LARGEST_WEIGHTS_BYTES = 2**25  # the generator of the `paper` configuration has 21 MB
_LONGEST_SHOWN = 300  # characters of a mistake in preset.toml
_AGAIN = "install Redrum again, or get the preset again"

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """The weights of one model of a preset."""

    path: Path
    sha256: str
    n_parameters: int
    command: str = ""  # that remakes the weights


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A preset folder whose `preset.toml` has been read and checked; weights on request."""

    name: str
    folder: Path
    configuration: str
    classes: tuple[str, ...]
    sample_rate: int
    models: Mapping[str, ModelFile]
    data: Mapping[str, object]
    scores: Mapping[str, object]

    @property
    def sha256(self) -> str:
        """A hash by which its models differ from those of other presets."""
        stated = "".join(f"{name}:{self.models[name].sha256}\n" for name in sorted(self.models))
        return hashlib.sha256(stated.encode()).hexdigest()

    def weights(self, model: str) -> Path:
        """Return the weights file of a model, after comparing its bytes with the preset's checksum."""
        if model not in self.models:
            raise CheckpointError(
                f"preset {self.name} has no {model}", hint=f"it holds: {', '.join(self.models) or 'no model'}"
            )
        entry = self.models[model]
        try:
            found = hashlib.sha256(read_bytes(entry.path, most=LARGEST_WEIGHTS_BYTES)).hexdigest()
        except OSError as err:
            raise CheckpointError(f"{entry.path} cannot be read: {err.strerror}", hint=_AGAIN) from err
        except ValueError as err:
            raise CheckpointError(f"{entry.path} is no weights file: {err}", hint=_AGAIN) from err
        if found != entry.sha256:
            raise CheckpointError(f"{entry.path} is damaged: its checksum is not preset.toml's", hint=_AGAIN)
        _log.info("%s of preset %s: %s, sha256 %s", model, self.name, entry.path, found[:12])
        return entry.path


def list_presets() -> list[str]:
    """Return the names of the shipped presets and the user's own."""
    return sorted(_preset_folders())


def load_preset(name_or_folder: str | Path = DEFAULT_PRESET) -> Preset:
    """Return the preset of a name, or in a folder, with its description checked.

    Raises:
        CheckpointError: no such preset; an unknown, missing or wrong entry; a newer format; a missing file.
    """
    folder = Path(name_or_folder)
    if not os.path.isfile(folder / "preset.toml"):
        known = _presets_in(shipped_folder())
        if str(name_or_folder) not in known:  # only then: a bare training machine has no user folder
            known = _preset_folders()
        name = str(name_or_folder)
        name = name if name in known else name.lower()
        if name not in known:
            raise CheckpointError(
                f"there is no preset {str(name_or_folder)[:_LONGEST_SHOWN]!r}",
                hint=f"known: {', '.join(sorted(known)) or 'none'}; or name a folder with a preset.toml",
            )
        folder = known[name]
    toml = folder / "preset.toml"
    try:
        table = read_toml(toml)
    except (OSError, ValueError) as err:
        raise CheckpointError(f"{toml} cannot be read: {err}", hint=_AGAIN) from err
    return _preset(_Table(table, toml), folder)


def user_folder() -> Path:
    """Return the folder of what the user adds: $REDRUM_DATA, else the platform's place for user data."""
    if chosen := os.environ.get("REDRUM_DATA"):
        return Path(chosen)
    from platformdirs import user_data_path  # here: a bare training machine has no platformdirs

    return user_data_path("redrum", appauthor=False)


def shipped_folder() -> Path:
    """Return the folder of what is shipped."""
    return Path(str(files("presets")))


def _preset_folders() -> dict[str, Path]:
    # A shipped name cannot be taken.
    return _presets_in(user_folder() / "presets") | _presets_in(shipped_folder())


def _presets_in(folder: Path) -> dict[str, Path]:
    return {toml.parent.name: toml.parent for toml in folder.glob("*/preset.toml") if toml.is_file()}


def _preset(table: "_Table", folder: Path) -> Preset:
    written = table.take("format", int)
    if written > FORMAT:
        raise CheckpointError(
            f"{table.toml} has format {written}; this Redrum knows formats up to {FORMAT}", hint="update Redrum"
        )
    if written != FORMAT:
        raise table.error(f"has format {written}, which never was")
    preset = Preset(
        name=table.take("name", str),
        folder=folder,
        configuration=table.take("configuration", str),
        classes=tuple(table.take("classes", list)),
        sample_rate=table.take("sample_rate", int),
        models={name: _model(entry, folder) for name, entry in table.tables("models")},
        data=table.take("data", dict, {}),
        scores=table.take("scores", dict, {}),
    )
    table.finish()
    if preset.configuration not in CONFIGURATIONS:
        raise table.error(f"has configuration {preset.configuration!r}; known are {', '.join(CONFIGURATIONS)}")
    if preset.classes != CLASSES:
        raise table.error(f"has classes {preset.classes}; they must be {CLASSES}")
    if preset.sample_rate <= 0:
        raise table.error(f"has a sample rate of {preset.sample_rate}")
    return preset


def _model(table: "_Table", folder: Path) -> ModelFile:
    name = table.take("file", str)
    model = ModelFile(
        path=folder / name,
        sha256=table.take("sha256", str),
        n_parameters=table.take("parameters", int),
        command=table.take("command", str, ""),
    )
    table.finish()
    if Path(name).name != name or not _SHA256.fullmatch(model.sha256) or model.n_parameters < 1:
        raise table.error(f"describes {name!r} wrongly: a file of the preset, its sha256 and its parameters")
    if not os.path.isfile(model.path):  # which is so, too, of a name that no file can have
        raise CheckpointError(f"{str(model.path)[:_LONGEST_SHOWN]} is missing", hint=_AGAIN)
    return model


class _Table:
    """A table of a preset.toml whose entries are taken one by one; what is left over is an error."""

    def __init__(self, entries: Mapping[str, object], toml: Path, where: str = "") -> None:
        self.toml = toml
        self._entries, self._where = dict(entries), where

    def take(self, key: str, kind: type[_T], default: _T | None = None) -> _T:
        value = self._entries.pop(key, default)
        if value is None:
            raise self.error(f"has no {self._where}{key}")
        # To Python, but not to the author of a preset, a bool is an int.
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.error(f"has {self._where}{key} = {value!r}, which is no {kind.__name__}")
        return value

    def tables(self, key: str) -> list[tuple[str, "_Table"]]:
        taken = _Table(self.take(key, dict), self.toml, f"{self._where}{key}.")
        return [
            (name, _Table(taken.take(name, dict), self.toml, f"{self._where}{key}.{name}."))
            for name in list(taken._entries)
        ]

    def finish(self) -> None:
        if self._entries:
            raise self.error(f"has an unknown entry: {self._where}{next(iter(self._entries))}")

    def error(self, what: str) -> CheckpointError:
        return CheckpointError(f"{self.toml} {what[:_LONGEST_SHOWN]}", hint=_AGAIN)
