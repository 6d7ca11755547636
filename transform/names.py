"""Names that files and folders can have on every system, so that what is made here can be passed on."""

import re

from transform.terminal import printable

NAME_HINT = "use lower-case letters, digits and single hyphens, but no device of Windows, such as con"

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
