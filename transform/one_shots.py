"""A bank as a folder: one-shots that any sampler loads, an `.sfz` that plays them, and `kit.json`.

A one-shot is a WAV file of one class, its attack `LEAD_S` after its beginning, at the level at which it was
recorded. `kit.json` describes each, so that the folder can be loaded as a bank again.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from transform.audio import AudioFormat, Recording, resolve_output, write_audio, write_text_atomic
from transform.bank import Bank
from transform.confined import ConfinedFolder
from transform.drum_maps import GM_NOTES
from transform.errors import AudioError, CheckpointError, OutputError
from transform.events import ARTICULATIONS, CLASS_NAMES, CLASSES
from transform.files import atomic_folder, check_output_folder, read_bytes, sha256_of
from transform.hits import LEAD_S, Hit
from transform.signal import BlockCache, Samples
from transform.velocity import LEVEL_EXPONENT

SCHEMA = 1  # of kit.json; a newer one is refused
MANIFEST = "kit.json"

_USUAL = {"HH": "closed", "CY": "crash"}  # articulations that go without saying
_FILE = re.compile(r"(KD|SD|TT|HH|CY)(_[a-z-]{1,12})?_\d{1,6}\.wav")  # of a one-shot
_SAME_LAYER = 0.9  # velocities closer than this ratio, 1.5 dB of level, are strokes of one strength
_MOST_BYTES = 16 * 2**20  # of kit.json: a hundred thousand one-shots
_CACHED_BYTES = 64 * 2**20  # of the sounds of a kit
_LONGEST_SHOWN = 200  # characters of what is wrong with it
_AGAIN = "extract the kit again"


@dataclass(frozen=True, kw_only=True)
class OneShot:
    """A file of a kit, as `kit.json` describes it."""

    file: str
    drum_class: str
    level_db: float  # root mean square of its beginning, against full scale
    peak_db: float
    length_s: float
    velocity: float  # as transcribed
    articulation: str  # "" where it is not known
    source_s: float  # where its attack lies in the recording that it is from
    faults: float  # see `Hit`
    sha256: str = ""  # of the file's bytes; kits of 0.1.0 do not state it

    @property
    def key(self) -> int:
        """The MIDI note that plays it."""
        return GM_NOTES[self.drum_class, self.articulation]

    @property
    def kind(self) -> str:
        """What it is, in words."""
        return kind_in_words(self.drum_class, self.articulation)

    def to_json(self) -> dict[str, object]:
        """Return it as `kit.json` and the command line have it."""
        entry = asdict(self)
        is_open = self.articulation == "open"  # all that kits of 0.1.0 say
        return {"file": entry.pop("file"), "class": entry.pop("drum_class"), **entry, "is_open": is_open}


@dataclass(frozen=True, kw_only=True)
class Kit:
    """What is in a kit's folder."""

    name: str  # of the recording that it is from
    sample_rate: int
    n_channels: int
    subtype: str
    gain_db: float  # how far all of it was turned down so that nothing clips, 0 or less
    one_shots: tuple[OneShot, ...]

    @property
    def sfz(self) -> str:
        """The name of its `.sfz` file."""
        return f"{self.name}.sfz"


def check_kit_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise OutputError if no kit could be saved in `folder`; only an extracted kit is ever replaced."""
    check_output_folder(folder, overwrite=overwrite)
    if not folder.is_dir():
        return
    present = sorted(path.name for path in folder.iterdir())
    if not present:
        return
    try:
        kit = _read_manifest(folder)
    except CheckpointError as err:
        raise OutputError(
            f"{folder} is not empty, and no kit that Redrum extracted", hint="choose another folder"
        ) from err
    files, own = ConfinedFolder(folder), {one_shot.file: one_shot.sha256 for one_shot in kit.one_shots}
    for name in present:
        found = files.sha256(name)  # None of what is no plain file
        is_own = name in (MANIFEST, kit.sfz) or (_FILE.fullmatch(name) and own.get(name) in ("", found))
        if found is None or not is_own:
            raise OutputError(
                f"{folder} also holds {name}, which is not of its kit, or was changed since",
                hint="move it away, or choose another folder",
            )


def is_kit(folder: Path) -> bool:
    """Return whether a folder holds a kit that was extracted."""
    try:
        _read_manifest(folder)
    except (CheckpointError, OSError):
        return False
    return True


def save_kit(bank: Bank, folder: Path, *, fmt: AudioFormat, name: str, overwrite: bool = False) -> Kit:
    """Save the hits of single classes as a kit, which appears whole or not at all.

    Args:
        bank: where the hits are; those that hold several classes are left out.
        folder: new or empty, or with `overwrite` a kit that was extracted before.
        fmt: of the recording that the hits are from; the files keep its rate, channels and depth.
        name: of that recording.
        overwrite: replace an extracted kit.

    Raises:
        AudioError: no class sounds alone in any hit.
        OutputError: the folder is taken, or cannot be written.
    """
    check_kit_folder(folder, overwrite=overwrite)
    files = dict(_named_hits(bank))
    if not files:
        raise AudioError(
            f"no drum of {name} sounds alone", hint="use a preset with a separator, or another recording"
        )
    _, subtype = resolve_output(Path("a.wav"), fmt, None)
    peaks = {file: float(np.abs(bank.sound(hit)).max()) for file, hit in files.items()}
    gain = 1.0
    if subtype not in ("FLOAT", "DOUBLE"):
        gain = min(1.0, 0.9999 / max(peaks.values()))  # a hair below full scale, as a take is
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        one_shots = []
        for file, hit in files.items():
            sound = bank.sound(hit) * np.float32(gain)
            write_audio(temporary / file, [sound], fmt)
            one_shots.append(
                OneShot(
                    file=file,
                    drum_class=hit.dominant,
                    level_db=round(_decibels(hit.level * gain), 4),
                    peak_db=round(_decibels(peaks[file] * gain), 4),
                    length_s=round(sound.shape[1] / bank.sample_rate, 6),
                    velocity=round(hit.velocity, 6),
                    articulation=hit.articulation(hit.dominant),
                    source_s=round(hit.attack / bank.sample_rate, 7),
                    faults=round(hit.faults, 6),
                    sha256=sha256_of(temporary / file),
                )
            )
        kit = Kit(
            name=name,
            sample_rate=bank.sample_rate,
            n_channels=bank.n_channels,
            subtype=subtype,
            gain_db=round(_decibels(gain), 4),
            one_shots=tuple(one_shots),
        )
        write_text_atomic(temporary / kit.sfz, "\n".join(_sfz_lines(kit)) + "\n")
        write_text_atomic(temporary / MANIFEST, json.dumps(_manifest(kit), indent=1) + "\n")
    return kit


def load_kit(folder: Path) -> Bank:
    """Return the kit in a folder as a bank to play from; its files are read when they are played.

    Raises:
        CheckpointError: the folder holds no kit, a damaged one or one of a newer version.
        AudioError: a file is missing, broken, or of another sample rate or number of channels than its kit.
    """
    kit = _read_manifest(folder)
    path_of: dict[Hit, Path] = {}
    for one_shot in kit.one_shots:
        path = folder / one_shot.file
        if not os.path.exists(path):  # which is so, too, of a name that no file can have
            raise AudioError(
                f"{one_shot.file[:_LONGEST_SHOWN]} is missing in the kit {folder}",
                hint=f"put it back, or {_AGAIN}",
            )
        with Recording.open(path) as sound:
            found, expected = (sound.sample_rate, sound.n_channels), (kit.sample_rate, kit.n_channels)
        if found != expected:
            raise AudioError(
                f"{path} has {_form(*found)}; its kit has {_form(*expected)}",
                hint=f"convert it, or {_AGAIN}",
            )
        hit = Hit(
            classes=frozenset({one_shot.drum_class}),
            attack=round(one_shot.source_s * kit.sample_rate),
            level=10 ** (one_shot.level_db / 20),
            velocities={one_shot.drum_class: one_shot.velocity},
            articulations=frozenset({one_shot.articulation}) - {""},
            faults=one_shot.faults,
        )
        path_of[hit] = path

    def read(hit: Hit) -> Samples:
        with Recording.open(path_of[hit]) as sound:
            return sound.read(0, sound.n_samples)

    sounds: BlockCache[Hit, Samples] = BlockCache(n_bytes=_CACHED_BYTES)
    return Bank(
        list(path_of), lambda hit: sounds.get(hit, read), sample_rate=kit.sample_rate, n_channels=kit.n_channels
    )


def missing_classes(bank: Bank) -> tuple[str, ...]:
    """Return the classes that only sound together with others, so that no kit can hold them."""
    return tuple(c for c in CLASSES if c in bank.classes and frozenset({c}) not in bank.sets)


def _named_hits(bank: Bank) -> Iterator[tuple[str, Hit]]:
    """Yield the hits of single classes by class and rising level, each with the name of its file."""
    for drum_class in CLASSES:
        hits = bank.sets.get(frozenset({drum_class}), ())
        kinds: dict[str, list[Hit]] = {drum_class: []}
        for hit in sorted(hits, key=lambda hit: hit.level):
            name = hit.articulation(drum_class)
            is_usual = name in ("", _USUAL.get(drum_class))
            kinds.setdefault(drum_class if is_usual else f"{drum_class}_{name}", []).append(hit)
        for kind, own in kinds.items():
            n_digits = len(str(len(own)))  # so that an alphabetical list is in order
            for i, hit in enumerate(own, start=1):
                yield f"{kind}_{i:0{n_digits}}.wav", hit


def kind_in_words(drum_class: str, articulation: str) -> str:
    """Return what a one-shot is, such as "hi-hat, open"."""
    is_usual = articulation in ("", _USUAL.get(drum_class))
    return CLASS_NAMES[drum_class] if is_usual else f"{CLASS_NAMES[drum_class]}, {articulation}"


def _sfz_lines(kit: Kit) -> Iterator[str]:
    """Yield the lines of the kit's `.sfz`.

    A layer reaches up to the velocity at which its samples sound as they are; below, they are turned down until
    the next softer layer takes over at the same level. Samples of one layer take turns.
    """
    yield f"// {_one_line(kit.name)}: its drums as one-shots, made by Redrum."
    yield "// General MIDI keys. A sample is heard as it was recorded at the top of its velocity layer."
    yield ""
    yield "<global> loop_mode=one_shot"
    by_key: dict[int, list[OneShot]] = {}
    for one_shot in kit.one_shots:
        by_key.setdefault(one_shot.key, []).append(one_shot)
    for key, own in by_key.items():
        drum_class = own[0].drum_class
        # A hi-hat has one pair of plates: any stroke ends the ring of the one before.
        choke = " group=1 off_by=1" if drum_class == "HH" else ""
        yield ""
        yield f"// {own[0].kind}"
        yield f"<group> key={key}{choke}"
        offset = round(LEAD_S * kit.sample_rate)
        for lowest, highest, layer in _layers(own):
            curve = " ".join(
                f"amp_velcurve_{velocity}={(velocity / highest) ** LEVEL_EXPONENT:.4g}"
                for velocity in sorted({lowest, (lowest + highest) // 2, highest})
            )
            for i, one_shot in enumerate(layer, start=1):
                turn = f" seq_length={len(layer)} seq_position={i}" if len(layer) > 1 else ""
                yield f"<region> sample={one_shot.file} lovel={lowest} hivel={highest}{turn}"
                yield f"offset={offset} {curve}"


def _layers(one_shots: Sequence[OneShot]) -> list[tuple[int, int, list[OneShot]]]:
    """Return the velocity layers of a key from soft to loud: first and last velocity, and what sounds."""
    loudest_db = max(one_shot.level_db for one_shot in one_shots)
    layers: list[tuple[int, list[OneShot]]] = []
    for one_shot in sorted(one_shots, key=lambda one_shot: -one_shot.level_db):
        fraction = 10 ** ((one_shot.level_db - loudest_db) / 20 / LEVEL_EXPONENT)
        velocity = max(1, round(127 * fraction))
        if layers and velocity >= min(_SAME_LAYER * layers[-1][0], layers[-1][0] - 1):
            layers[-1][1].append(one_shot)
        else:
            layers.append((velocity, [one_shot]))
    tops = [top for top, _ in layers]
    lows = [below + 1 for below in tops[1:]] + [1]
    return [(low, top, layer) for low, (top, layer) in zip(lows, layers, strict=True)][::-1]


def _manifest(kit: Kit) -> dict[str, object]:
    return {
        "schema": SCHEMA,
        "name": kit.name,
        "sample_rate": kit.sample_rate,
        "channels": kit.n_channels,
        "subtype": kit.subtype,
        "gain_db": kit.gain_db,
        "one_shots": [one_shot.to_json() for one_shot in kit.one_shots],
    }


def _read_manifest(folder: Path) -> Kit:
    path = folder / MANIFEST
    if not path.is_file():
        raise CheckpointError(
            f"{folder} is no extracted kit: it holds no {MANIFEST}", hint="make one with redrum extract"
        )
    try:
        manifest = json.loads(read_bytes(path, most=_MOST_BYTES))
        schema = int(manifest["schema"])
        if schema > SCHEMA:
            raise CheckpointError(f"{path} is of a newer version of Redrum", hint=f"update Redrum, or {_AGAIN}")
        kit = Kit(
            name=str(manifest["name"]),
            sample_rate=int(manifest["sample_rate"]),
            n_channels=int(manifest["channels"]),
            subtype=str(manifest["subtype"]),
            gain_db=float(manifest["gain_db"]),
            one_shots=tuple(map(_from_json, manifest["one_shots"])),
        )
        _check_limits(kit, {"sample_rate": 1e7, "n_channels": 1024, "gain_db": 200.0})
    except (OSError, ArithmeticError, ValueError, KeyError, TypeError, RecursionError) as err:
        raise CheckpointError(f"{path} is damaged: {repr(err)[:_LONGEST_SHOWN]}", hint=_AGAIN) from err
    if not kit.one_shots:
        raise CheckpointError(f"{path} lists no one-shots", hint=_AGAIN)
    return kit


def _from_json(entry: Mapping[str, Any]) -> OneShot:
    one_shot = OneShot(
        file=str(entry["file"]),
        drum_class=str(entry["class"]),
        level_db=float(entry["level_db"]),
        peak_db=float(entry["peak_db"]),
        length_s=float(entry["length_s"]),
        velocity=float(entry["velocity"]),
        articulation=_articulation_of(entry),
        source_s=float(entry["source_s"]),
        faults=float(entry["faults"]),
        sha256=str(entry.get("sha256", "")),
    )
    if one_shot.drum_class not in CLASSES:
        raise ValueError(f"{one_shot.drum_class!r} is no drum class")
    if one_shot.articulation not in ARTICULATIONS[one_shot.drum_class]:
        raise ValueError(f"{one_shot.articulation!r} is no articulation of {one_shot.drum_class}")
    limits = {"level_db": 200.0, "peak_db": 200.0, "length_s": 86_400.0, "source_s": 1e7, "faults": 1e6}
    _check_limits(one_shot, limits)
    if not 0 <= one_shot.velocity <= 1:
        raise ValueError(f"a velocity is {one_shot.velocity}")
    if Path(one_shot.file).name != one_shot.file:
        raise ValueError(f"{one_shot.file!r} lies outside the kit")
    return one_shot


def _articulation_of(entry: Mapping[str, Any]) -> str:
    """Return the articulation of an entry; kits of 0.1.0 only say whether a hi-hat is open."""
    if "articulation" in entry:
        return str(entry["articulation"])
    return "" if entry["class"] != "HH" else "open" if entry["is_open"] else "closed"


def _check_limits(described: Kit | OneShot, limits: Mapping[str, float]) -> None:
    for name, most in limits.items():
        if not abs(getattr(described, name)) <= most:
            raise ValueError(f"{name} is {getattr(described, name)}")


def _form(sample_rate: int, n_channels: int) -> str:
    return f"{sample_rate} Hz and {n_channels} channel{'s' * (n_channels != 1)}"


def _decibels(ratio: float) -> float:
    return 20 * math.log10(max(ratio, 1e-6))


def _one_line(text: str) -> str:
    """Return text that ends no comment and that UTF-8 can hold."""
    return " ".join(text.encode("utf-8", errors="replace").decode("utf-8").split())
