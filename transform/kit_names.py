"""What the files of a kit's folder are, by their names and by its `kit.toml`.

A folder of one-shots is what producers have: `Kick 1.wav`, `snares/soft 3.wav`, `HatOpen.wav`. What lies in a
folder called recordings, loops or takes is no one-shot.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path, PurePosixPath

from transform.errors import AudioError, SettingsError
from transform.events import CLASSES
from transform.names import SOUND_ENDINGS
from transform.toml import read_toml

OVERRIDES = "kit.toml"
RECORDING, SKIP = "recording", "skip"  # beside the classes, what kit.toml may name files as

# What words of a name mean. Codes count only where no word of the same name means anything: OH is an open hat,
# but also the overhead microphones of a snare.
_WORDS = {
    "KD": r"kicks?(drums?)?|bass?drums?",
    "SD": r"snares?(drums?)?|rim(shot)?s?|sidesticks?|crosssticks?|(hand)?claps?",
    "TT": r"(floor|rack|hi|high|mid|lo|low)?toms?(toms?|hi|high|mid|low?|floor)?",
    "HH": r"(hi|high|closed|open|pedal|foot)?hats?(closed|open|pedal|foot)?",
    "CY": r"cymbals?|crash(es)?|rides?(bell|cymbal)?|china|splash(es)?",
}
_CODES = {
    "KD": r"kd|bd|kik|kck",
    "SD": r"sd|sn|snr|cp|clp",
    "TT": r"tt|lt|mt|ht|ft",
    "HH": r"hh[a-z]?|[cop]hh?",
    "CY": r"cy|cym|cr|rd",
}
_FOLDERS_OF_RECORDINGS = r"recordings?|loops?|takes?"
_ARTICULATIONS = {
    "KD": {},
    "SD": {"sidestick": r"(side|cross)sticks?", "rim": r"rim(shot)?s?", "clap": r"(hand)?claps?|cp|clp"},
    "TT": {"high": r"hi|high|rack|ht|hitoms?|hightoms?|tomhi(gh)?", "mid": r"mid|mt|midtoms?|tommid"}
    | {"low": r"lo|low|floor|lt|ft|floortoms?|lowtoms?|tom(low?|floor)"},
    "HH": {"open": r"open(hats?)?|half|ohh?|hho|hatsopen|hatopen", "pedal": r"pedal|foot|phh?|hhp"}
    | {"closed": r"closed?(hats?)?|chh?|hhc|hats?closed"},
    "CY": {"bell": r"bell|ridebell", "ride": r"rides?|rd|ridecymbal", "china": r"china"}
    | {"splash": r"splash(es)?", "crash": r"crash(es)?|cr"},
}


def check_kit_sources(paths: Iterable[str]) -> None:
    """Raise AudioError for a recording or a folder that is not there."""
    for path in paths:
        if not os.path.exists(path):
            raise AudioError(
                f"{shown(path)} does not exist", hint="--kit-from takes a recording, or a folder of one-shots"
            )


def files_of(path: str) -> list[Path]:
    """Return all files that hits of a recording or a folder may come from."""
    place = Path(path)
    return sorted(place / name for name in sound_files(place)) if place.is_dir() else [place]


def classified(name: str, stated: Mapping[str, str] | None = None) -> tuple[str, str, str]:
    """Return what a file is (a class or "recording"), its articulation, and why it is left out, or "".

    Its own name counts first, then the folders it is in, the innermost first.

    Args:
        name: of the file, relative to the kit's folder, with forward slashes.
        stated: the classes in `kit.toml`, by name.
    """
    path = PurePosixPath(name)
    places = [path.stem, *reversed(path.parent.parts)]
    tokens = [name_words(place) for place in places]
    what = (stated or {}).get(name, "")
    if what == SKIP:
        return "", "", f"{OVERRIDES} says so"
    if not what:
        if any(_matches(_FOLDERS_OF_RECORDINGS, words) and not _classes(words) for words in tokens[1:]):
            return RECORDING, "", ""
        for words in tokens:
            found = _classes(words)
            if len(found) > 1:
                return "", "", f"its name says {' and '.join(found)}: say in {OVERRIDES} what it is"
            if found:
                what = found[0]
                break
    if not what:
        return "", "", f"no drum is named: say in {OVERRIDES} what it is"
    named = (
        word
        for words in tokens
        for word, pattern in _ARTICULATIONS.get(what, {}).items()
        if _matches(pattern, words)
    )
    return what, next(named, ""), ""


def shown(name: str) -> str:
    """Return a name with all that no terminal should be sent written as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


def _classes(words: Sequence[str]) -> list[str]:
    """Return the classes that words name; codes count only where no word does."""
    for table in (_WORDS, _CODES):
        found = [drum_class for drum_class in CLASSES if _matches(table[drum_class], words)]
        if found:
            return found
    return []


def _matches(pattern: str, words: Sequence[str]) -> bool:
    return any(re.fullmatch(pattern, word) for word in words)


def names_drum(words: Sequence[str]) -> bool:
    """Return whether words, as of `name_words`, say one of the classes; codes such as BD do not count."""
    return any(_matches(pattern, words) for pattern in _WORDS.values())


def name_words(name: str) -> list[str]:
    """Return the words of a name, and each two that follow one another as one word."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    words = [word.casefold() for word in re.split(r"[\W\d_]+", apart) if word]
    return words + [first + second for first, second in pairwise(words)]


def sound_files(folder: Path) -> Iterator[str]:
    """Yield the names of sound files in and under a folder, with forward slashes; hidden ones are left out."""
    for place, inner, files in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SOUND_ENDINGS:
                yield Path(place, name).relative_to(folder).as_posix()


def overrides(path: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the classes that `kit.toml` gives to files, by name.

    Raises:
        SettingsError: it cannot be read, holds anything but its one table, or names no file of the folder.
    """
    if not path.exists():
        return {}
    hint = f'it holds a table [classes]: "perc 1.wav" = "TT"; also {RECORDING} and {SKIP}'
    try:
        table = read_toml(path)
    except (OSError, ValueError) as err:
        raise SettingsError(f"{path} cannot be read: {err}", hint=hint) from err
    classes = table.pop("classes", {})
    if table or not isinstance(classes, dict):
        raise SettingsError(f"{path} has an unknown entry: {shown(next(iter(table), 'classes'))}", hint=hint)
    found: dict[str, str] = {}
    for pattern, what in classes.items():
        if what not in (*CLASSES, RECORDING, SKIP):
            raise SettingsError(
                f"{path} says {shown(pattern)} = {what!r}",
                hint=f"give {', '.join((*CLASSES, RECORDING, SKIP))}",
            )
        matching = [pattern] if pattern in names else [n for n in names if fnmatchcase(n, pattern)]
        if not matching:
            raise SettingsError(f"{path} names {shown(pattern)}, which no file matches", hint=hint)
        found |= dict.fromkeys(matching, what)
    return found
