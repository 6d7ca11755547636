"""A user's own kit: a folder of one-shots and recordings, classified by their names and checked one by one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from training.data.kits import SAMPLE_RATE, Kit, OneShot, trimmed
from transform.audio import Recording
from transform.errors import AudioError
from transform.events import CLASSES
from transform.kit_names import OVERRIDES, RECORDING, classified, overrides, shown, sound_files

FEWEST_HITS = 4
FEWEST_RECORDED_S = 10.0
LONGEST_HIT_S = 12.0  # what is longer is no one-shot
LONGEST_RECORDED_S = 600.0  # of one recording is used

_SILENT_DB = -60.0  # peaks below it are silence
_FLAT_TOP = 4  # samples at full scale in a row are clipped


@dataclass(frozen=True)
class FileReport:
    """What became of a file; `used_as` is a class, "recording", or "" where it is left out."""

    name: str
    used_as: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        what = self.used_as or "left out"
        return f"{shown(self.name)}: {'; '.join((what, *self.notes))}"


@dataclass(frozen=True)
class KitFolder:
    """What training can use of a folder."""

    kit: Kit
    recordings: tuple[tuple[str, Tensor], ...]  # name, samples (T,) at 44.1 kHz
    files: tuple[FileReport, ...]

    @property
    def left_out(self) -> list[FileReport]:
        """Files that are not used, each with the reason."""
        return [report for report in self.files if not report.used_as]

    @property
    def summary(self) -> str:
        """What there is, in a line."""
        counts = Counter(shot.drum_class for shot in self.kit.one_shots)
        hits = ", ".join(f"{counts[c]} {c}" for c in CLASSES if counts[c])
        recorded_s = sum(len(samples) for _, samples in self.recordings) / SAMPLE_RATE
        return (
            f"{len(self.kit.one_shots)} one-shots ({hits or 'none'}), {recorded_s:.0f} s of recordings, "
            f"{len(self.left_out)} files left out"
        )


def read_kit_folder(folder: Path) -> KitFolder:
    """Return the one-shots and recordings in and under a folder, with a report of each file.

    Raises:
        AudioError: there is no such folder, or too little of use in it.
        SettingsError: its `kit.toml` is wrong.
    """
    if not folder.is_dir():
        raise AudioError(f"{shown(str(folder))} is no folder", hint="name a folder of one-shots")
    names = sorted(sound_files(folder))
    stated = overrides(folder / OVERRIDES, names)
    reports: list[FileReport] = []
    hits: list[tuple[float, OneShot]] = []
    recordings: list[tuple[str, Tensor]] = []
    seen: dict[str, str] = {}  # checksum -> name
    for name in names:
        what, articulation, why = classified(name, stated)
        if why:
            reports.append(FileReport(name, "", (why,)))
            continue
        try:
            samples, notes = _read(folder / name, what)
        except AudioError as err:
            reports.append(FileReport(name, "", (shown(err.message),)))
            continue
        digest = hashlib.sha256(samples.tobytes()).hexdigest()
        if digest in seen:
            reports.append(FileReport(name, "", (f"repeats {shown(seen[digest])}",)))
            continue
        seen[digest] = name
        reports.append(FileReport(name, what, tuple(notes)))
        if what == RECORDING:
            recordings.append((name, torch.from_numpy(samples)))
        else:
            peak = float(np.abs(samples).max())
            shot = OneShot(what, articulation, 0.0, torch.from_numpy(0.9 * samples / peak))
            hits.append((20 * float(np.log10(peak)), shot))
    _check_enough(folder, hits, recordings, reports)
    loudest = max((level for level, _ in hits), default=0.0)
    shots = tuple(
        OneShot(shot.drum_class, shot.articulation, level - loudest, shot.samples) for level, shot in hits
    )
    return KitFolder(Kit(folder.resolve().name, "own", "train", shots), tuple(recordings), tuple(reports))


def _read(path: Path, what: str) -> tuple[np.ndarray, list[str]]:
    """Return a file's samples (T,) at 44.1 kHz, a one-shot's from its attack on, and notes for its report.

    Raises:
        AudioError: it cannot be used; the message gives the reason.
    """
    notes: list[str] = []
    with Recording.open(path) as recording:
        if what != RECORDING and recording.duration_s > LONGEST_HIT_S:
            raise AudioError(
                f"{recording.duration_s:.0f} s, too long for a one-shot: put it into a folder called recordings"
            )
        longest = round(LONGEST_RECORDED_S * recording.sample_rate)
        sound = recording.read(0, min(recording.n_samples, longest))
        if recording.n_samples > longest:
            notes.append(f"only its first {LONGEST_RECORDED_S / 60:.0f} minutes are used")
        peak = float(np.abs(sound).max())
        if peak < 10 ** (_SILENT_DB / 20):
            raise AudioError("silence")
        if _is_clipped(sound, peak):
            notes.append("clipped, used as it is")
        mono = _mono(Recording.from_samples(sound, recording.sample_rate), notes)
        if recording.sample_rate != SAMPLE_RATE:
            notes.append(f"{recording.sample_rate} Hz, converted to {SAMPLE_RATE} Hz")
            mono = np.concatenate(list(Recording.from_samples(mono, recording.sample_rate).mono_blocks()))
    if what == RECORDING:
        return _without_silence(mono), notes
    hit = trimmed(_without_lead(mono))
    if len(hit) < 64:
        raise AudioError("shorter than a drum hit")
    return hit, notes


def _without_lead(mono: np.ndarray) -> np.ndarray:
    """Return samples (T,) from a little before the first that is not silence, as exporters leave some there."""
    loud = np.abs(mono) >= 0.02 * np.abs(mono).max()
    return mono[max(0, int(np.argmax(loud)) - round(0.005 * SAMPLE_RATE)) :]


def _without_silence(mono: np.ndarray) -> np.ndarray:
    """Return samples (T,) without the silence at both ends, so that what ends a recording can judge."""
    loud = np.flatnonzero(np.abs(mono) >= 0.01 * np.abs(mono).max())
    return mono[loud[0] : loud[-1] + 1]


def _mono(sound: Recording, notes: list[str]) -> np.ndarray:
    """Return a sound mixed to mono, shape (T,), with a note of how."""
    channels = "stereo" if sound.n_channels == 2 else f"{sound.n_channels} channels"
    if sound.mono_channel is not None:
        notes.append(f"{channels} of opposite phase, the louder one is used")
    elif sound.n_channels > 1:
        notes.append(f"{channels}, mixed to mono")
    return sound.mono(0, sound.n_samples)


def _is_clipped(sound: np.ndarray, peak: float) -> bool:
    """Tell whether samples (C, T) stay at full scale for several samples."""
    if peak < 0.99 or sound.shape[1] < _FLAT_TOP:
        return False
    flat = np.abs(sound) >= 0.9999 * peak
    run = flat[:, : flat.shape[1] - _FLAT_TOP + 1].copy()
    for later in range(1, _FLAT_TOP):
        run &= flat[:, later : later + run.shape[1]]
    return bool(run.any())


def _check_enough(
    folder: Path,
    hits: Sequence[object],
    recordings: Sequence[tuple[str, Tensor]],
    reports: Sequence[FileReport],
) -> None:
    recorded_s = sum(len(samples) for _, samples in recordings) / SAMPLE_RATE
    if len(hits) >= FEWEST_HITS or recorded_s >= FEWEST_RECORDED_S:
        return
    out = "; ".join(map(str, (r for r in reports if not r.used_as)))
    raise AudioError(
        f"{shown(str(folder))} holds {len(hits)} usable one-shots and {recorded_s:.0f} s of recordings"
        + (f". {out}" if out else ""),
        hint=f"{FEWEST_HITS} one-shots or {FEWEST_RECORDED_S:.0f} s are needed; docs/kits.md says how "
        "names are read",
    )
