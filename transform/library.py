"""Rhythms and recordings that are shipped, and rhythms that the user added.

Shipped data is read from the package `presets`. What a user adds lies in the user's data folder; a shipped name
cannot be taken again.
"""

import csv
import logging
import os
import re
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cache
from pathlib import Path

from transform.errors import RhythmError
from transform.files import open_plain, write_bytes_atomic
from transform.names import NAME_HINT, existing_path, is_name, missing_hint
from transform.presets import shipped_folder, user_folder

USER_STYLE = "user"

_MIDI_SUFFIXES = (".mid", ".midi", ".smf")
_ALIKE = 0.7  # of a style and what was written: the ratio of difflib
_LONGEST_SHOWN = 300  # characters of a name that is wrong

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RhythmInfo:
    """The facts of a shipped or added rhythm that need no reading of its events."""

    name: str
    path: Path
    bpm: float
    beats: float  # length in quarter notes
    beats_per_bar: float
    style: str
    licence: str  # SPDX; empty where the user added the rhythm
    author: str = ""
    source: str = ""
    changes: str = ""


@dataclass(frozen=True, kw_only=True)
class RhythmSource:
    """What the RHYTHM of a command stands for: a file with events, or a recording to transcribe."""

    name: str
    path: Path
    is_midi: bool


@dataclass(frozen=True, kw_only=True)
class DemoRecording:
    """A recording that is shipped for the demo."""

    name: str
    path: Path
    bpm: float
    beats: float
    licence: str
    author: str
    source: str
    changes: str


def list_rhythms() -> list[RhythmInfo]:
    """Return the shipped rhythms, then those the user added, each sorted by name."""
    return [*_shipped_rhythms(), *_user_rhythms()]


def rhythm_names() -> set[str]:
    """Return the names of all rhythms, shipped and added, without reading any."""
    added = {path.stem for path in (user_folder() / "rhythms").glob("*.mid")}
    return {rhythm.name for rhythm in _shipped_rhythms()} | added


def rhythms_of_style(style: str) -> list[RhythmInfo]:
    """Return the rhythms whose style has these words, or the one of this name; all for "".

    Raises:
        RhythmError: there is none; the hint names the nearest style, or all.
    """
    every, words = list_rhythms(), _words(style)
    found = [rhythm for rhythm in every if words in rhythm.style.lower() or words == _words(rhythm.name)]
    if not found:
        styles = sorted({rhythm.style for rhythm in every})
        near = get_close_matches(
            style.lower(), [*styles, *(rhythm.name for rhythm in every)], n=1, cutoff=_ALIKE
        )
        raise RhythmError(
            f"there is no style or rhythm called {style[:_LONGEST_SHOWN]!r}",
            hint=f"did you mean {near[0]}?" if near else f"styles: {', '.join(styles)}",
        )
    return found


def find_rhythm(name: str) -> RhythmInfo:
    """Return the rhythm of a name, in capitals or not, with hyphens or spaces.

    Raises:
        RhythmError: there is none; the hint names the nearest, or the list of a style.
    """
    rhythms = {rhythm.name: rhythm for rhythm in [*_user_rhythms(), *_shipped_rhythms()]}
    words = _words(name)
    for spelling in (name, words.replace(" ", "-")):
        if spelling in rhythms:
            return rhythms[spelling]
    if words and any(f" {words} " in f" {rhythm.style.lower()} " for rhythm in rhythms.values()):
        raise RhythmError(
            f"{name} is a style, not a rhythm",
            hint=f"`redrum rhythms list {words}` shows the rhythms of it",
        )
    near = get_close_matches(name.lower(), rhythms, n=3, cutoff=0.5)
    raise RhythmError(
        f"there is no rhythm called {name[:_LONGEST_SHOWN]!r}",
        hint=f"did you mean {' or '.join(near)}?" if near else "`redrum rhythms list` shows all names",
    )


def _words(text: str) -> str:
    """Return a name as words of small letters with single spaces: styles have spaces, rhythms hyphens."""
    return " ".join(re.split(r"[\s_-]+", text.lower().strip(" -_")))


def resolve_rhythm(text: str) -> RhythmSource:
    """Return what a RHYTHM argument stands for: an existing file first, else the name of a rhythm.

    Raises:
        RhythmError: a folder, a path to nothing, or an unknown name.
    """
    path = Path(text)
    if path.suffix or path.name != text:  # else it is the name of a rhythm
        path = existing_path(path)
    if os.path.isfile(path):  # unlike Path.is_file, also of what is too long for a name
        return RhythmSource(name=path.stem, path=path, is_midi=_is_midi(path))
    try:
        rhythm = find_rhythm(text)
    except RhythmError as err:
        if os.path.isdir(path):
            raise RhythmError(f"{text or path} is a folder", hint="name a MIDI file or a recording") from err
        if path.suffix or path.name != text:
            raise RhythmError(f"{text[:_LONGEST_SHOWN]} does not exist", hint=missing_hint(path)) from err
        raise
    return RhythmSource(name=rhythm.name, path=rhythm.path, is_midi=True)


def is_rhythm(text: str) -> bool:
    """Return whether a text is a rhythm and no recording: a MIDI file, or the name of a rhythm."""
    try:
        return resolve_rhythm(text).is_midi
    except RhythmError:
        return False


def add_rhythm(path: Path, name: str = "") -> RhythmInfo:
    """Copy a MIDI file into the user's rhythms and return what it became; nothing is ever replaced.

    Args:
        path: a MIDI file with drum notes.
        name: as `transform.names.is_name` has it, in capitals or not; made from the file's name if empty.

    Raises:
        RhythmError: not a usable MIDI file, a name of another form, or a name that is taken.
    """
    name = name.lower() or fit_name(path.stem)
    check_new_name(name)
    rhythm = _inspect(path, name)
    target = _place_of(name)
    write_bytes_atomic(target, path.read_bytes())
    return replace(rhythm, path=target)


def fit_name(text: str) -> str:
    """Return a text as the name of a rhythm: in small letters, hyphens for all that no name has.

    Raises:
        RhythmError: nothing is left.
    """
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    if not name:
        raise RhythmError(f"no name can be made from {text}", hint="give one before the file")
    return name


def check_new_name(name: str) -> None:
    """Raise RhythmError for what cannot name a rhythm, or names one already."""
    if not is_name(name):
        raise RhythmError(f"{name!r} cannot name a rhythm", hint=NAME_HINT)
    if os.path.lexists(_place_of(name)) or name in {shipped.name for shipped in _shipped_rhythms()}:
        raise RhythmError(f"there is a rhythm called {name} already", hint="give another name before the file")


def _place_of(name: str) -> Path:
    return user_folder() / "rhythms" / f"{name}.mid"


def remove_rhythm(name: str) -> RhythmInfo:
    """Delete a rhythm that the user added, and return what it was.

    Raises:
        RhythmError: there is none of this name, or it is shipped.
    """
    rhythm = find_rhythm(name)
    if rhythm.style != USER_STYLE:
        raise RhythmError(
            f"{rhythm.name} is shipped with Redrum", hint="only rhythms that you added can be removed"
        )
    rhythm.path.unlink()
    return rhythm


def demo_recordings() -> list[DemoRecording]:
    """Return the recordings that are shipped for the demo, sorted by name."""
    folder = shipped_folder() / "demo"
    return [
        DemoRecording(
            name=Path(row["file"]).stem,
            path=folder / row["file"],
            bpm=float(row["bpm"]),
            beats=float(row["beats"]),
            licence=row["licence"],
            author=row["author"],
            source=row["source"],
            changes=row["changes"],
        )
        for row in _rows(folder / "SOURCES.csv")
    ]


def _rows(table: Path) -> list[dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@cache
def _shipped_rhythms() -> tuple[RhythmInfo, ...]:
    folder = shipped_folder() / "rhythms"
    return tuple(
        RhythmInfo(
            name=row["name"],
            path=folder / f"{row['name']}.mid",
            bpm=float(row["bpm"]),
            beats=float(row["beats"]),
            beats_per_bar=float(row["beats_per_bar"]),
            style=row["style"],
            licence=row["licence"],
            author=row["author"],
            source=row["source"],
            changes=row["changes"],
        )
        for row in _rows(folder / "SOURCES.csv")
    )


def _user_rhythms() -> list[RhythmInfo]:
    rhythms = []
    for path in sorted((user_folder() / "rhythms").glob("*.mid")):
        if not path.is_file():  # a pipe would be waited for
            _log.warning("%s is left out: it is no file", path)
            continue
        try:
            rhythms.append(_inspect(path, path.stem))
        except RhythmError as err:
            _log.warning("%s is left out: %s", path, err)
    return rhythms


def _inspect(path: Path, name: str) -> RhythmInfo:
    from transform.midi import read_midi  # here: a bare training machine has no mido

    rhythm = read_midi(path)
    beats, bpm = rhythm.n_beats, rhythm.bpm
    if beats is None or bpm is None:
        raise RhythmError(
            f"the tempo of {path.name} is not known",
            hint="add the recording that it is from: its tempo is estimated, or given with --rhythm-bpm N",
        )
    return RhythmInfo(
        name=name,
        path=path,
        bpm=round(bpm, 3),
        beats=round(beats, 6),
        beats_per_bar=rhythm.beats_per_bar,
        style=USER_STYLE,
        licence="",
    )


def _is_midi(path: Path) -> bool:
    if path.suffix.lower() in _MIDI_SUFFIXES:
        return True
    try:
        with open_plain(path) as file:
            return file.read(4) == b"MThd"
    except OSError as err:
        raise RhythmError(f"{path} cannot be read: {err.strerror}", hint="check its permissions") from err
