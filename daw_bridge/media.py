"""The files that a project names: it may come from anybody, and from another machine."""

from __future__ import annotations

import re
from pathlib import Path

PROXY_ENDING = "-PROX"  # behind the name of a subproject: the sound that REAPER renders of it
MOST_SEARCHES = 2000  # for files that a project names and that are not where it says

# Windows also calls the share //host/share \\?\UNC\host\share, \\.\UNC\host\share and \??\UNC\host\share.
_DEVICE = re.compile(r"/(?:/[?.]|\?\?)/(unc/)?", re.IGNORECASE)


def is_on_other_share(place: str | Path, project: Path) -> bool:
    """Return whether a place is on a share of the network that is not the project's own.

    It is not opened, on any system: Windows sends each server the name of its user, with a proof that can be
    turned into the password.
    """
    share = _share(place)
    return share is not None and share != _share(project.absolute())


def _share(place: str | Path) -> str | None:
    """Return the server and the share that a path begins with, None where it begins with none."""
    slashed = str(place).replace("\\", "/")
    if device := _DEVICE.match(slashed):
        slashed = ("//" if device[1] else "//./") + slashed[device.end() :]
    if not slashed.startswith("//"):
        return None
    return "/".join(slashed.lstrip("/").split("/", 2)[:2]).casefold()
