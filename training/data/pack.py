"""The packed data set: kits, rhythms and loops in three files that any training machine can read.

Each file is safetensors: FLAC bytes or event columns end to end, where each entry ends, and a table (JSON) in
the header. Packing needs MIDI reading; loading needs torch, numpy, safetensors and soundfile only.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from training.data.kits import SAMPLE_RATE, Kit, OneShot, common_articulation, trimmed
from training.data.procedural import ARTICULATIONS
from training.data.rhythms import Groove, event_columns
from training.data.split import SPLITS, Split, split_of_kit, split_of_loop, split_of_rhythm
from transform.errors import RedrumError, RhythmError
from transform.files import atomic_file, check_output

PACK_FORMAT = "redrum-pack 1"
PACK_FILES = ("kits.safetensors", "rhythms.safetensors", "loops.safetensors")
_log = logging.getLogger(__name__)

# The columns that a manifest must have; it may have more.
_COLUMNS = {
    "kits": ("path", "kit", "kind", "class", "articulation", "kit_level_db", "tier", "licence", "duplicate_of"),
    "rhythms": ("path", "style", "performer", "tier", "licence"),
    "loops": ("path", "tier", "licence"),
}
_REMAKE_HINT = "make it with `redrum train pack`"
_LAYOUT_HINT = "see docs/training.md for the layout of a data folder"

# Every articulation has a number in the packed event columns: those that can be made, in the order of names.
_ARTICULATION_NAMES = sorted({name for names in ARTICULATIONS.values() for name in names})


class PackError(RedrumError):
    """A data folder or a pack that training cannot use."""


@dataclass(frozen=True)
class Pack:
    """A loaded data set; `loops` are (name, split, samples (T,))."""

    kits: tuple[Kit, ...]
    grooves: tuple[Groove, ...]
    loops: tuple[tuple[str, Split, Tensor], ...]

    def grooves_of(self, split: Split) -> list[Groove]:
        """Return the grooves of one side of the split."""
        return [groove for groove in self.grooves if groove.split == split]


def write_pack(
    data: Path, out: Path, *, splits: Sequence[Split] = SPLITS, overwrite: bool = False
) -> dict[str, int]:
    """Pack a data folder (see docs/training.md for its layout) and return how many entries each file holds.

    Duplicates, unused kits, rhythms without drums and everything outside `splits` are left out.

    Raises:
        PackError: the folder has no usable kits or rhythms, or one of its files is missing or broken.
        OutputError: there is a pack already and `overwrite` is not set, or it cannot be written.
    """
    for name in PACK_FILES:
        check_output(out / name, overwrite=overwrite)
    contents = (
        _pack_sounds(data, _entries(data, "kits", splits, _kit_entry)),
        _pack_rhythms(data, _entries(data, "rhythms", splits, _rhythm_entry)),
        _pack_sounds(data, _entries(data, "loops", splits, _loop_entry)),
    )
    if not contents[0][0] or not contents[1][0]:
        raise PackError(f"{data} holds no usable kits or rhythms", hint=_LAYOUT_HINT)
    for name, (rows, tensors) in zip(PACK_FILES, contents, strict=True):
        with atomic_file(out / name, overwrite=overwrite) as temporary:
            header = {"format": PACK_FORMAT, "table": json.dumps(rows)}
            temporary.write_bytes(save(tensors, metadata=header))  # save_file's are the owner's alone to read
    return {Path(name).stem: len(rows) for name, (rows, _) in zip(PACK_FILES, contents, strict=True)}


def load_pack(folder: Path) -> Pack:
    """Return a packed data set, decoded into memory.

    Raises:
        PackError: a file is missing, damaged or of another version.
    """
    rows, tensors = _read(folder / "kits.safetensors")
    shots: dict[str, list[OneShot]] = {}
    first: dict[str, Mapping[str, Any]] = {}
    for row, samples in zip(rows, _decoded(tensors), strict=True):
        cut = trimmed(samples)
        if len(cut) < 64:
            continue
        drum_class = row["class"]
        articulation = common_articulation(drum_class, row["articulation"])
        shot = OneShot(drum_class, articulation, row["level_db"], torch.from_numpy(cut))
        shots.setdefault(row["kit"], []).append(shot)
        first.setdefault(row["kit"], row)
    kits = tuple(
        Kit(name, first[name]["kind"], first[name]["split"], tuple(one_shots))
        for name, one_shots in shots.items()
    )
    rows, tensors = _read(folder / "loops.safetensors")
    loops = tuple(
        (row["name"], row["split"], torch.from_numpy(samples))
        for row, samples in zip(rows, _decoded(tensors), strict=True)
    )
    return Pack(kits, _load_grooves(folder / "rhythms.safetensors"), loops)


def _kit_entry(row: Mapping[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {name: row[name] for name in ("kit", "kind", "class", "articulation")}
    return entry | {"level_db": _level_db(row), "split": split_of_kit(row["kit"], row["tier"])}


def _rhythm_entry(row: Mapping[str, str]) -> dict[str, Any]:
    split = split_of_rhythm(performer=row["performer"], style=row["style"], tier=row["tier"])
    return {"name": Path(row["path"]).stem, "style": row["style"].split("/")[0], "split": split}


def _loop_entry(row: Mapping[str, str]) -> dict[str, Any]:
    return {"name": Path(row["path"]).stem, "split": split_of_loop(row["path"], row["tier"])}


def _entries(
    data: Path, folder: str, splits: Sequence[Split], entry_of: Callable[[Mapping[str, str]], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return the entries of a manifest's rows on some sides of the split, without duplicates."""
    rows = [row for row in _manifest(data, folder) if not row.get("duplicate_of")]
    entries = [entry_of(row) | {"licence": row["licence"], "path": row["path"]} for row in rows]
    return [entry for entry in entries if entry["split"] in splits]


def _manifest(data: Path, folder: str) -> list[dict[str, str]]:
    path = data / folder / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as err:
        raise PackError(f"{path} cannot be read", hint=_LAYOUT_HINT) from err
    if rows and (missing := [name for name in _COLUMNS[folder] if rows[0].get(name) is None]):
        raise PackError(f"{path} lacks the columns {', '.join(missing)}", hint=_LAYOUT_HINT)
    return rows


def _level_db(row: Mapping[str, str]) -> float:
    try:
        return float(row["kit_level_db"])
    except ValueError as err:
        raise PackError(
            f"the kit_level_db of {row['path']} is {row['kit_level_db']!r}", hint="write a level in dB"
        ) from err


def _pack_sounds(data: Path, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Return the rows and their files end to end."""
    sounds = []
    for row in rows:
        path = data / row["path"]
        try:
            sample_rate = soundfile.info(path).samplerate
            sounds.append(np.frombuffer(path.read_bytes(), dtype=np.uint8))
        except (OSError, soundfile.SoundFileError) as err:
            raise PackError(f"{path} is missing or no sound file", hint=_LAYOUT_HINT) from err
        if sample_rate != SAMPLE_RATE:
            raise PackError(f"{path} has {sample_rate} Hz, not {SAMPLE_RATE}", hint="convert it to 44.1 kHz")
    flac = torch.from_numpy(np.concatenate(sounds)) if sounds else torch.zeros(0, dtype=torch.uint8)
    return rows, {"flac": flac, "end": _ends(sounds)}


def _pack_rhythms(data: Path, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    """Return the rows of the usable rhythms and their event columns end to end."""
    from transform.midi import read_midi  # loading a pack does without a MIDI library

    usable: list[dict[str, Any]] = []
    columns: list[np.ndarray] = []
    for row in rows:
        try:
            rhythm = read_midi(data / row["path"])
        except RhythmError as err:
            _log.info("%s left out: %s", row["name"], err)
            continue
        if len(rhythm.events) < 4:
            _log.info("%s left out: %d events", row["name"], len(rhythm.events))
            continue
        found = event_columns(rhythm)
        found["articulation"] = [_ARTICULATION_NAMES.index(name) for name in found["articulation"]]
        columns.append(np.stack(list(found.values()), axis=1))
        usable.append(row | {"bpm": rhythm.bpm, "n_beats": rhythm.n_beats})
    events = np.concatenate(columns).T if columns else np.zeros((4, 0))
    return usable, {"events": torch.from_numpy(np.ascontiguousarray(events)), "end": _ends(columns)}


def _ends(entries: Sequence[np.ndarray]) -> Tensor:
    """Return where each entry ends when they lie end to end."""
    return torch.tensor(np.cumsum([len(entry) for entry in entries]), dtype=torch.int64)


def _bounds(tensors: Mapping[str, Tensor]) -> Iterator[tuple[int, int]]:
    """Return where each entry begins and ends."""
    return pairwise((0, *tensors["end"].tolist()))


def _read(path: Path) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as err:
        raise PackError(f"{path} is no readable pack file: {err}", hint=_REMAKE_HINT) from err
    if metadata.get("format") != PACK_FORMAT:
        raise PackError(
            f"{path} has format {metadata.get('format')!r}, not {PACK_FORMAT!r}",
            hint=_REMAKE_HINT,
        )
    return json.loads(metadata["table"]), tensors


def _decoded(tensors: Mapping[str, Tensor]) -> list[np.ndarray]:
    flac = tensors["flac"].numpy()
    sounds: list[np.ndarray] = []
    for start, end in _bounds(tensors):
        entry = io.BytesIO(flac[start:end].tobytes())
        try:
            samples, sample_rate = soundfile.read(entry, dtype="float32", always_2d=True)
        except soundfile.SoundFileError as err:
            raise PackError(
                f"sound {len(sounds)} of a pack cannot be decoded: {err}", hint=_REMAKE_HINT
            ) from err
        if sample_rate != SAMPLE_RATE:
            raise PackError(f"a packed sound has {sample_rate} Hz, not {SAMPLE_RATE}", hint=_REMAKE_HINT)
        sounds.append(samples.mean(axis=1))
    return sounds


def _load_grooves(path: Path) -> tuple[Groove, ...]:
    rows, tensors = _read(path)
    events = tensors["events"].numpy()
    grooves = []
    for row, (start, end) in zip(rows, _bounds(tensors), strict=True):
        onset_beats, class_index, articulation, velocity = events[:, start:end]
        grooves.append(
            Groove(
                name=row["name"],
                style=row["style"],
                split=row["split"],
                bpm=float(row["bpm"]),
                n_beats=float(row["n_beats"]),
                onset_beats=onset_beats,
                class_index=class_index.astype(np.int64),
                articulation=tuple(_ARTICULATION_NAMES[int(a)] for a in articulation),
                velocity=velocity,
            )
        )
    return tuple(grooves)
