"""Names that files and folders can have on every system, so that what is made here can be passed on."""

import os
import re
import unicodedata
from difflib import get_close_matches
from pathlib import Path

from transform.terminal import printable

NAME_HINT = "use lower-case letters, digits and single hyphens, and no name that Windows reserves, such as con"

# Of the sound files in a folder; any other file that is named is read, too, if it can be.
SOUND_ENDINGS = (
    *(
        ".wav",
        ".wave",
        ".bwf",
        ".rf64",
        ".bw64",
        ".w64",
        ".aif",
        ".aiff",
        ".aifc",
        ".caf",
        ".au",
        ".snd",
        ".flac",
    ),
    *(".mp3", ".mp2", ".ogg", ".oga", ".opus", ".spx"),
    *(".m4a", ".aac", ".wma", ".wv", ".ape", ".tta", ".mpc", ".mka", ".dsf"),  # through ffmpeg
)

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_FOREIGN = frozenset('<>:"/\\|?*')  # in no name of a file on Windows
_LONGEST = 100
LONGEST_NAME = 255  # bytes of a file's name, with its ending
_ROOM = 8
_DEEPEST = 100  # folders in each other
_ALIKE = 0.7  # of two names: the ratio of difflib
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"}
_DEVICES |= {f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"}


def is_name(text: str) -> bool:
    """Return whether a preset, a rhythm or a kit can be called so: lower-case words joined by hyphens."""
    return bool(_NAME.fullmatch(text)) and len(text) <= _LONGEST and not is_device(text)


def is_device(name: str) -> bool:
    """Return whether Windows takes the name of a file for a device, whatever ending it has."""
    return re.split("[.:]", name, maxsplit=1)[0].rstrip(" ").lower() in _DEVICES


def flaw_of(name: str) -> str | None:
    """Return why some system has no file of this name, or shows another one; None where all have it."""
    if any(ord(character) < 32 or printable(character) != character for character in name):
        return "it holds a character that is none, or that turns text around"
    if wrong := _FOREIGN.intersection(name):
        return f"Windows has no {min(wrong)} in names"
    if not name or name[-1] in ". ":
        return "Windows has no name that ends in a dot or a space"
    return "it is a device to Windows" if is_device(name) else None


def name_after(stem: str, rest: str) -> str:
    """Return the name of a result that is called after a recording, as every system has it.

    A stem that is too long, with room for the endings of files beside the result, is cut at its end.
    """
    stem = stem.rstrip(". ") if rest.startswith(".") or not rest else stem
    stem = f"{stem}_" if is_device(stem + rest) else stem or "_"
    while len(stem) > 1 and len(os.fsencode(stem + rest)) > LONGEST_NAME - _ROOM:
        stem = stem[:-1]
    return stem + rest


def existing_path(path: Path) -> Path:
    """Return a path, or the one that is there in its place, whose names are written otherwise.

    Systems write accents in one character or in two, and some tell capitals from small letters: a path from
    another system may name a file that is here under the same name, and is not found. Where several are, none
    is taken. A home folder is put in that a shell did not, as in "~/loops".
    """
    if os.path.lexists(path):
        return path
    if path.parts[:1] == ("~",):
        return existing_path(Path(os.path.expanduser(path)))
    if path.parent == path or len(path.parts) > _DEEPEST:
        return path
    folder = existing_path(path.parent)
    found = folder / path.name
    if not os.path.lexists(found):
        try:
            names = os.listdir(folder)
        except OSError:
            return path
        for same in (_one_accent, _one_case):
            alike = [name for name in names if same(name) == same(path.name)]
            if alike:
                return folder / alike[0] if len(alike) == 1 else path
        return path
    return found


def missing_hint(path: Path) -> str:
    """Return the next step for a path to nothing: the nearest name in its folder, if one is near."""
    if path.parts[:1] in (("http:",), ("https:",)):
        return "save what is at this address as a file, and name that"
    try:
        names = sorted(os.listdir(path.parent))
    except OSError:
        return "check the spelling and the current folder"
    names.sort(key=lambda name: Path(name).suffix.casefold() == path.suffix.casefold())  # these win
    stems = {Path(name).stem.casefold(): name for name in names}  # an ending alone makes no names alike
    near = get_close_matches(path.stem.casefold(), stems, n=1, cutoff=_ALIKE)
    if not near or path.parent == path:
        return "check the spelling and the current folder"
    return f"did you mean {path.parent / stems[near[0]]}?"


def same_name(name: str) -> str:
    """Return what is equal for names that systems may take for one: accents and capitals aside."""
    return _one_case(name)


def _one_accent(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _one_case(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())
