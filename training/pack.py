"""The packed data set: kits, rhythms and loops in three files that any training machine can read.

Each file is safetensors: FLAC bytes or event columns end to end, where each entry ends, and a table (JSON) in the
header. Packing needs MIDI reading; loading needs torch, numpy, safetensors and soundfile only.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.kits import SAMPLE_RATE, Kit, OneShot, common_articulation, trimmed
from training.rhythms import Groove
from training.split import SPLITS, Split, split_of_kit, split_of_loop, split_of_rhythm
from transform.errors import RedrumError
from transform.events import ARTICULATIONS, CLASSES, Rhythm
from transform.midi import read_midi

PACK_FORMAT = "redrum-pack 1"
_log = logging.getLogger(__name__)

# Every articulation has a number in the packed event columns.
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


def write_pack(data: Path, out: Path, *, splits: Sequence[Split] = SPLITS) -> dict[str, int]:
    """Pack a data folder (see docs/training.md for its layout) and return how many entries each file holds.

    Duplicates, unused kits and everything outside `splits` are left out.

    Raises:
        PackError: the folder has no usable kits or rhythms.
    """
    kit_rows = [
        {
            "kit": row["kit"],
            "kind": row["kind"],
            "class": row["class"],
            "articulation": row["articulation"],
            "level_db": float(row["kit_level_db"]),
            "licence": row["licence"],
            "split": split_of_kit(row["kit"], row["tier"]),
            "path": row["path"],
        }
        for row in _manifest(data, "kits")
        if not row["duplicate_of"]
    ]
    rhythm_rows = [
        {
            "name": Path(row["path"]).stem,
            "style": row["style"].split("/")[0],
            "licence": row["licence"],
            "split": split_of_rhythm(performer=row["performer"], style=row["style"], tier=row["tier"]),
            "path": row["path"],
        }
        for row in _manifest(data, "rhythms")
    ]
    loop_rows = [
        {
            "name": Path(row["path"]).stem,
            "licence": row["licence"],
            "split": split_of_loop(row["path"], row["tier"]),
            "path": row["path"],
        }
        for row in _manifest(data, "loops")
    ]
    out.mkdir(parents=True, exist_ok=True)
    counts = {
        "kits": _write_sounds(data, out / "kits.safetensors", kit_rows, splits),
        "rhythms": _write_rhythms(data, out / "rhythms.safetensors", rhythm_rows, splits),
        "loops": _write_sounds(data, out / "loops.safetensors", loop_rows, splits),
    }
    if not counts["kits"] or not counts["rhythms"]:
        raise PackError(f"{data} holds no usable kits or rhythms", hint="see docs/training.md for the layout")
    return counts


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
        Kit(name, first[name]["kind"], first[name]["split"], tuple(one_shots)) for name, one_shots in shots.items()
    )
    rows, tensors = _read(folder / "loops.safetensors")
    loops = tuple(
        (row["name"], row["split"], torch.from_numpy(samples))
        for row, samples in zip(rows, _decoded(tensors), strict=True)
    )
    return Pack(kits, _load_grooves(folder / "rhythms.safetensors"), loops)


def _manifest(data: Path, part: str) -> list[dict[str, str]]:
    path = data / part / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return list(csv.DictReader(file))
    except OSError as err:
        raise PackError(f"{path} cannot be read", hint="see docs/training.md for the layout of a data folder") from err


def _save(path: Path, rows: Sequence[Mapping[str, Any]], tensors: dict[str, Tensor]) -> int:
    save_file(tensors, path, metadata={"format": PACK_FORMAT, "table": json.dumps(list(rows))})
    return len(rows)


def _write_sounds(data: Path, path: Path, rows: list[dict[str, Any]], splits: Sequence[Split]) -> int:
    kept = [row for row in rows if row["split"] in splits]
    sounds = [np.frombuffer((data / row["path"]).read_bytes(), dtype=np.uint8) for row in kept]
    flac = torch.from_numpy(np.concatenate(sounds)) if sounds else torch.zeros(0, dtype=torch.uint8)
    ends = torch.tensor(np.cumsum([len(sound) for sound in sounds]), dtype=torch.int64)
    return _save(path, kept, {"flac": flac, "end": ends})


def _write_rhythms(
    data: Path,
    path: Path,
    rows: list[dict[str, Any]],
    splits: Sequence[Split],
    read: Callable[[Path], Rhythm] = read_midi,
) -> int:
    kept: list[dict[str, Any]] = []
    columns: list[np.ndarray] = []
    for row in rows:
        if row["split"] not in splits:
            continue
        rhythm = read(data / row["path"])
        assert rhythm.tempo_map is not None
        if len(rhythm.events) < 4:
            _log.info("%s left out: %d events", row["name"], len(rhythm.events))
            continue
        beats = rhythm.tempo_map.beats_at(np.array([e.onset_s for e in rhythm.events]))
        columns.append(
            np.stack(
                (
                    beats,
                    [CLASSES.index(e.drum_class) for e in rhythm.events],
                    [_ARTICULATION_NAMES.index(e.articulation) for e in rhythm.events],
                    [e.velocity for e in rhythm.events],
                )
            )
        )
        kept.append(row | {"bpm": rhythm.bpm, "n_beats": rhythm.n_beats})
    ends = torch.tensor(np.cumsum([c.shape[1] for c in columns]), dtype=torch.int64)
    events = torch.from_numpy(np.concatenate(columns, axis=1)) if columns else torch.zeros(4, 0)
    return _save(path, kept, {"events": events, "end": ends})


def _read(path: Path) -> tuple[list[dict[str, Any]], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as err:  # safetensors raises its own type and OSError, FileNotFoundError among them
        raise PackError(f"{path} is no readable pack file: {err}", hint="make it with `redrum train pack`") from err
    if metadata.get("format") != PACK_FORMAT:
        raise PackError(
            f"{path} has format {metadata.get('format')!r}, not {PACK_FORMAT!r}",
            hint="make it again with `redrum train pack`",
        )
    return json.loads(metadata["table"]), tensors


def _decoded(tensors: Mapping[str, Tensor]) -> list[np.ndarray]:
    flac = tensors["flac"].numpy()
    sounds, start = [], 0
    for end in tensors["end"].tolist():
        samples, sample_rate = soundfile.read(io.BytesIO(flac[start:end].tobytes()), dtype="float32", always_2d=True)
        if sample_rate != SAMPLE_RATE:
            raise PackError(f"a packed sound has {sample_rate} Hz, not {SAMPLE_RATE}")
        sounds.append(samples.mean(axis=1))
        start = end
    return sounds


def _load_grooves(path: Path) -> tuple[Groove, ...]:
    rows, tensors = _read(path)
    events = tensors["events"].numpy()
    grooves, start = [], 0
    for row, end in zip(rows, tensors["end"].tolist(), strict=True):
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
        start = end
    return tuple(grooves)
