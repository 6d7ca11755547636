"""Names that files and folders can have on every system, so that what is made here can be passed on."""

import re

NAME_HINT = "use lower-case letters, digits and single hyphens, but no device of Windows, such as con"

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_LONGEST = 100
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"}
_DEVICES |= {f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³"}


def is_name(text: str) -> bool:
    """Return whether a preset, a rhythm or a kit can be called so: lower-case words joined by hyphens."""
    return bool(_NAME.fullmatch(text)) and len(text) <= _LONGEST and not is_device(text)


def is_device(name: str) -> bool:
    """Return whether Windows takes the name of a file for a device, whatever ending it has."""
    return re.split("[.:]", name, maxsplit=1)[0].rstrip(" ").lower() in _DEVICES
