"""Presets as one file, `NAME.redrum`: a zip of `preset.toml`, `CARD.md` and weights, and nothing else.

What others made is not trusted: only names and sizes that a preset has are unpacked, into a folder that becomes
a preset when all of it has been checked. Weights are safetensors, which hold numbers and no code.
"""

import lzma
import os
import re
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

from transform.errors import CheckpointError, OutputError
from transform.files import atomic_file, atomic_folder
from transform.names import NAME_HINT, is_name
from transform.presets import Preset, list_presets, load_preset, user_folder

ENDING = ".redrum"
# More than what Redrum ships: in the paper's configuration the generator has 21 MB, and a whole preset 43.
MAX_FILE_BYTES = 24 * 2**20
MAX_PRESET_BYTES = 48_000_000
MAX_FILES = 16

_WEIGHTS = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*\.safetensors")
_TEXTS = ("preset.toml", "CARD.md")
_DATE = (1980, 1, 1, 0, 0, 0)  # the same preset gives the same bytes
_ASK = "get the file again from someone you trust"


def export_preset(preset: Preset, path: Path, *, overwrite: bool = False) -> None:
    """Write a preset as one file, after checking its weights.

    Raises:
        CheckpointError: its weights are damaged, or too large for a file that others may open; its name is none
            that they could import; its card is a link, and what that leads to need not be theirs.
        OutputError: the file exists and `overwrite` is not set, or it cannot be written.
    """
    if not is_name(preset.name):
        raise CheckpointError(f"{preset.name!r} cannot name a preset", hint=NAME_HINT)
    files = [preset.folder / name for name in _TEXTS if (preset.folder / name).is_file()]
    if links := [file for file in files if file.is_symlink()]:
        raise CheckpointError(f"{links[0]} is a link", hint="put a copy of what it leads to in its place")
    files += sorted({preset.weights(model) for model in preset.models})
    sizes = [file.stat().st_size for file in files]
    if max(sizes) > MAX_FILE_BYTES or sum(sizes) > MAX_PRESET_BYTES:
        raise CheckpointError(
            f"preset {preset.name} has {sum(sizes) / 1e6:.0f} MB, its largest file {max(sizes) / 1e6:.0f}; "
            f"what Redrum imports has {MAX_PRESET_BYTES / 1e6:.0f} MB at most, a file "
            f"{MAX_FILE_BYTES / 1e6:.0f}",
            hint="train smaller models, or pass its folder on as it is: --preset DIR",
        )
    with atomic_file(path, overwrite=overwrite) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for file in files:
            entry = zipfile.ZipInfo(file.name, _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, file.read_bytes())


def import_preset(path: Path) -> Preset:
    """Add the preset in a file to the user's and return it; nothing is ever replaced.

    Raises:
        CheckpointError: it is no such file, or holds anything that a sound preset does not.
        OutputError: there is a preset of its name, or the user's folder cannot be written.
    """
    with TemporaryDirectory(prefix="redrum-") as folder:
        _unpack(path, Path(folder))
        preset = _checked(Path(folder), path)
        target = user_folder() / "presets" / preset.name
        if preset.name in list_presets() or os.path.lexists(target):
            raise OutputError(
                f"there is a preset called {preset.name} already",
                hint=f"remove the folder {target} first, if it is yours"
                if os.path.lexists(target)
                else "get it under another name from its maker",
            )
        with atomic_folder(target, overwrite=False) as temporary:
            for file in Path(folder).iterdir():
                (temporary / file.name).write_bytes(file.read_bytes())
    return load_preset(target)


def _unpack(path: Path, folder: Path) -> None:
    """Write the files of an archive into a folder, none that a preset does not have and none too large."""
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder", hint=f"give a file that ends in {ENDING}")
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise CheckpointError(f"{path} is not a file", hint=f"give a file that ends in {ENDING}")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_names(path, entries)
            left = MAX_PRESET_BYTES
            for entry in entries:
                with archive.open(entry) as packed:
                    # The archive's stated sizes may be wrong; what comes out is counted.
                    data = packed.read(min(MAX_FILE_BYTES, left) + 1)
                if len(data) > min(MAX_FILE_BYTES, left):
                    raise _refused(path, f"{entry.filename} is larger than a preset may be")
                left -= len(data)
                (folder / entry.filename).write_bytes(data)
    except FileNotFoundError as err:
        raise CheckpointError(f"{path} does not exist", hint="check the spelling and the folder") from err
    except OSError as err:  # the disk's, or what a damaged archive makes of places in the file
        raise CheckpointError(f"{path} cannot be unpacked: {err.strerror or err}", hint=_ASK) from err
    # What zipfile raises on damaged archives: most of it is not its own.
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error) as err:
        raise CheckpointError(f"{path} is no preset, or damaged: {err}", hint=_ASK) from err
    except (EOFError, LookupError, OverflowError, RuntimeError, ValueError) as err:
        raise CheckpointError(f"{path} is no preset, or damaged: {err}", hint=_ASK) from err


def _check_names(path: Path, entries: list[zipfile.ZipInfo]) -> None:
    names = [entry.filename for entry in entries]
    if len(entries) > MAX_FILES:
        raise _refused(path, f"it holds {len(entries)} files")
    for entry in entries:
        if entry.filename not in _TEXTS and not _WEIGHTS.fullmatch(entry.filename):
            raise _refused(path, f"{entry.filename!r} is no file of a preset")
        if stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG):
            raise _refused(path, f"{entry.filename} is a link")
        if entry.file_size > MAX_FILE_BYTES:
            raise _refused(path, f"{entry.filename} is larger than a preset may be")
    if len({name.lower() for name in names}) < len(names):
        raise _refused(path, "it holds two files of one name")
    if "preset.toml" not in names:
        raise _refused(path, "it has no preset.toml")


def _checked(folder: Path, path: Path) -> Preset:
    """Return the preset in a folder, after checking that it is whole, and holds weights and no more."""
    try:
        preset = load_preset(folder)
        weights = {preset.weights(model) for model in preset.models}
    except CheckpointError as err:
        raise _refused(path, err.message.replace(f"{folder}/", "").replace(f"{folder}\\", "")) from err
    if not is_name(preset.name):
        raise _refused(path, f"{preset.name!r} cannot name a preset")
    if not weights:
        raise _refused(path, "it has no models")
    for file in folder.iterdir():
        if file.name not in _TEXTS and file not in weights:
            raise _refused(path, f"preset.toml does not describe {file.name}")
    for file in weights:
        _check_weights(file, path)
    return preset


def _check_weights(file: Path, path: Path) -> None:
    """Raise CheckpointError if weights are none, or belong to no model that can be built."""
    # Here, as they import PyTorch.
    from transform.codec_config import CodecConfig
    from transform.crossover import CrossoverConfig
    from transform.rhythm_transformer import RhythmConfig
    from transform.separator import SeparatorConfig
    from transform.transcriber import TranscriberConfig
    from transform.weights import config_from_json, read_weights

    configs = {
        "transcriber": TranscriberConfig,
        "separator": SeparatorConfig,
        "codec-encoder": CodecConfig,
        "codec-generator": CodecConfig,
        "rhythm": RhythmConfig,
        "crossover": CrossoverConfig,
    }
    try:
        metadata, _ = read_weights(file, hint=_ASK)
        if make_config := configs.get(metadata.get("model", "")):
            config_from_json(metadata.get("config", ""), make_config)
    except CheckpointError as err:
        why = err.message.replace(str(file), "it")
        raise _refused(path, f"{file.name} holds no weights of a model: {why}") from err


def _refused(path: Path, why: str) -> CheckpointError:
    return CheckpointError(f"{path} is refused: {why}", hint=_ASK)
