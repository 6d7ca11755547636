"""A folder of anybody's one-shots as a bank of hits; their names say what is struck."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from transform.audio import Recording
from transform.bank import Bank
from transform.cleaning import beginning_level, with_end
from transform.errors import AudioError
from transform.hits import LEAD_S, LONGEST_S, Hit
from transform.kit_names import OVERRIDES, RECORDING, classified, overrides, shown, sound_files
from transform.one_shots import MANIFEST, load_kit
from transform.onsets import locate_attack
from transform.signal import BlockCache, Samples
from transform.velocity import LEVEL_EXPONENT

_LONGEST_FILE_S = 12.0  # what is longer is no one-shot
_SILENT_DB = -60.0  # peaks below it are silence
_RISEN = 0.2  # of the peak: here the attack is under way
_MOST_OF_A_KIND = 24
_MOST_NAMED = 3  # files that a message names
_SOFTEST = 0.05  # velocity
_CACHED_BYTES = 64 * 2**20


@dataclass(frozen=True, kw_only=True)
class FolderOfHits:
    """What a folder holds."""

    banks: tuple[Bank, ...]  # of one-shots, one for each sample rate and number of channels
    recordings: tuple[Path, ...]  # files that it calls recordings
    left_out: tuple[str, ...] = ()  # files that cannot be used, each with the reason


def read_hits(folder: Path) -> FolderOfHits:
    """Return the one-shots and the recordings in and under a folder, or of a kit that was extracted.

    Raises:
        AudioError: nothing in it can be used.
        SettingsError: its `kit.toml` is wrong.
        CheckpointError: it is an extracted kit, and damaged.
    """
    if (folder / MANIFEST).is_file():
        return FolderOfHits(banks=(load_kit(folder),), recordings=())
    names = sorted(sound_files(folder))
    stated = overrides(folder / OVERRIDES, names)
    shots: list[_Shot] = []
    recordings: list[Path] = []
    left_out: list[str] = []
    for name in names:
        drum_class, articulation, why = classified(name, stated)
        try:
            if why:
                raise AudioError(why)
            if drum_class == RECORDING:
                recordings.append(folder / name)
            else:
                shots.append(_Shot.of(folder / name, drum_class, articulation))
        except AudioError as err:
            left_out.append(f"{shown(name)}: {shown(err.message)}")
    if not shots and not recordings:
        why = f" ({'; '.join(left_out[:_MOST_NAMED])})" if left_out else ""
        raise AudioError(
            f"{shown(str(folder))} holds no one-shots that can be used{why}",
            hint="name its files by what is struck, such as snare-1.wav: see docs/kits.md",
        )
    return FolderOfHits(banks=tuple(_banks_of(shots)), recordings=tuple(recordings), left_out=tuple(left_out))


def left_out_notes(folder: str, left_out: Sequence[str]) -> list[str]:
    """Return a sentence on the files of a folder that cannot be used, with the first one's reason."""
    if not left_out:
        return []
    n = len(left_out)
    files = f"{n} files of {shown(folder)} are" if n > 1 else f"1 file of {shown(folder)} is"
    return [f"{files} left out ({left_out[0]})"]


def banks_of_shots(shots: Iterable[tuple[Path, str, str]]) -> list[Bank]:
    """Return banks of files, each with its class and articulation, one for each sample rate and channels.

    Raises:
        AudioError: a file is no one-shot.
    """
    return _banks_of([_Shot.of(*shot) for shot in shots])


@dataclass(frozen=True, kw_only=True)
class _Shot:
    """A file with a one-shot."""

    path: Path
    drum_class: str
    articulation: str
    sample_rate: int
    n_channels: int
    attack: int
    level: float

    @classmethod
    def of(cls, path: Path, drum_class: str, articulation: str) -> _Shot:
        """Return the one-shot of a file; AudioError where there is none."""
        with Recording.open(path) as recording:
            if recording.duration_s > _LONGEST_FILE_S:
                raise AudioError(f"{recording.duration_s:.0f} s, too long for a one-shot")
            mono = recording.mono(0, recording.n_samples)
            sound = recording.read(0, recording.n_samples)
            sample_rate = recording.sample_rate
        loud = np.abs(mono)
        if loud.max(initial=0.0) < 10 ** (_SILENT_DB / 20):
            raise AudioError("silence")
        attack = locate_attack(mono, sample_rate, int(np.argmax(loud >= _RISEN * loud.max())))
        return cls(
            path=path,
            drum_class=drum_class,
            articulation=articulation,
            sample_rate=sample_rate,
            n_channels=len(sound),
            attack=attack,
            level=beginning_level(sound[:, attack:], sample_rate),
        )

    def sound(self) -> Samples:
        """Return it as a bank returns a hit: its lead, faded in, the hit, and an end."""
        lead = round(LEAD_S * self.sample_rate)
        longest_s = LONGEST_S[self.drum_class]
        with Recording.open(self.path) as recording:
            stop = min(recording.n_samples, self.attack + round(longest_s * self.sample_rate))
            sound = with_end(recording.read(self.attack - lead, stop), self.sample_rate, lead, longest_s)
        if lead:
            sound[:, :lead] *= np.linspace(0, 1, lead, endpoint=False, dtype=np.float32) ** 2
        return sound


def _banks_of(shots: Sequence[_Shot]) -> list[Bank]:
    """Return banks of one-shots, of each kind those that differ most in level."""
    loudest: dict[str, float] = {}
    by_kind: dict[tuple[str, str], list[_Shot]] = {}
    for shot in sorted(shots, key=lambda shot: shot.level):
        loudest[shot.drum_class] = shot.level
        by_kind.setdefault((shot.drum_class, shot.articulation), []).append(shot)
    by_form: dict[tuple[int, int], dict[Hit, _Shot]] = {}
    for own in by_kind.values():
        places = {round(i) for i in np.linspace(0, len(own) - 1, min(len(own), _MOST_OF_A_KIND))}
        for shot in (own[place] for place in sorted(places)):
            hit = Hit(
                classes=frozenset({shot.drum_class}),
                attack=shot.attack,
                level=shot.level,
                velocities={
                    shot.drum_class: max(
                        _SOFTEST, (shot.level / loudest[shot.drum_class]) ** (1 / LEVEL_EXPONENT)
                    )
                },
                articulations=frozenset({shot.articulation}) - {""},
                faults=0.0,
            )
            by_form.setdefault((shot.sample_rate, shot.n_channels), {})[hit] = shot
    return [_bank(found, *form) for form, found in by_form.items()]


def _bank(found: dict[Hit, _Shot], sample_rate: int, n_channels: int) -> Bank:
    sounds: BlockCache[Hit, Samples] = BlockCache(n_bytes=_CACHED_BYTES)
    return Bank(
        list(found),
        lambda hit: sounds.get(hit, lambda hit: found[hit].sound()),
        sample_rate=sample_rate,
        n_channels=n_channels,
    )
