"""What installing actions into a DAW, and examining them, has in common."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from daw_bridge import warm
from daw_bridge.checks import ProblemError
from daw_bridge.job_files import SCHEMA
from daw_bridge.session import RHYTHM_TRACKS
from transform.confined import is_link
from transform.errors import DawError
from transform.files import write_bytes_atomic

_START_S = 120.0  # that the command may take to print its version


def own_command() -> list[str]:
    """Return the words that the actions start `redrum` with."""
    # -P: a DAW starts it in its own folder, where modules of any name may lie.
    return [sys.executable, "-P", "-m", "daw_bridge"]


def command_note() -> dict[str, Any]:
    """Return what the actions must know of this installation."""
    return {"schema": SCHEMA, "command": own_command(), "rhythm_tracks": list(RHYTHM_TRACKS)}


def put_command_note(path: Path) -> bool:
    """Write the note for the actions unless it is there, and return whether it was not.

    Raises:
        OutputError: it cannot be written.
    """
    return put_file(path, json.dumps(command_note(), indent=1).encode())


def put_file(path: Path, data: bytes) -> bool:
    """Write a file unless it is so already, and return whether it was not.

    Raises:
        OutputError: it cannot be written.
    """
    if path.is_file() and path.read_bytes() == data:
        return False
    write_bytes_atomic(path, data, overwrite=True)
    return True


def refuse_links(places: Iterable[Path]) -> None:
    """Raise DawError where one of these files and folders of a DAW is a link."""
    for place in places:
        if is_link(place):
            raise DawError(
                f"{place} is a link: what it leads to is not changed",
                hint="put the file or folder itself in its place, then run the same command again",
            )


def check_command(note: Path) -> str:
    """Return which command a note for the actions names.

    Raises:
        ProblemError: it is not there, of another version or of another command, or the command fails.
    """
    if not note.is_file():
        raise ProblemError(f"{note} is not there")
    noted = json.loads(note.read_text(encoding="utf-8"))
    if noted["schema"] != SCHEMA:
        raise ProblemError(f"{note} is of another version")
    if noted["command"] != own_command():  # the command of a folder from elsewhere is not run
        raise ProblemError(f"{note} names another command than this one")
    command = [*own_command(), "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_START_S, check=False)
    if done.returncode:
        raise ProblemError(f"{' '.join(command)} fails: {done.stderr.strip() or done.returncode}")
    return f"{done.stdout.splitlines()[0]} in {command[0]}"


def check_helper() -> str:
    """Return whether a process keeps the models loaded between two jobs, and how long it will."""
    if not warm.keep_minutes():
        return "there is to be none: REDRUM_HELPER_MINUTES says so"
    if (status := warm.look()) is None:
        return "none keeps the models loaded now; the next job starts one"
    ends = f"ends in {status['left_s'] / 60:.0f} min if no job comes" if not status["n_jobs"] else "does a job"
    return f"process {status['pid']} keeps the models loaded, and {ends}"
