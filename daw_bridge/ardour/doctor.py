"""What the actions in Ardour need, one check after the other, each failure with its cure."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from daw_bridge.action_install import check_command, check_helper
from daw_bridge.ardour.install import (
    ACTIONS,
    OWN_FOLDER,
    SHARED,
    TRIED_VERSION,
    command_note,
    is_running,
    shared_source,
    ui_scripts,
    version_of,
)
from daw_bridge.checks import Check, ProblemError, checked
from transform.files import check_output

NAME = "Ardour actions"  # of the check

_INSTALL = "quit Ardour and run `redrum ardour install`"


def is_installed(folder: Path) -> bool:
    """Return whether anything of Redrum is in a folder of Ardour's settings."""
    return (folder / OWN_FOLDER).exists()


def examine_ardour(folder: Path) -> Iterator[Check]:
    """Yield one check after the other; none of them raises.

    Args:
        folder: of Ardour's settings.
    """
    settings = checked("Ardour settings", partial(_settings, folder), "start Ardour once and quit it")
    yield settings
    if settings.status != "ok":
        return
    yield checked(NAME, partial(_scripts, folder), _INSTALL)
    yield checked("Ardour runs the command", partial(check_command, command_note(folder)), _INSTALL)
    yield checked("Ardour helper", check_helper, "REDRUM_HELPER_MINUTES=0 does without it")
    yield checked("Ardour jobs", partial(_jobs, folder), "make the folder writable")


def _settings(folder: Path) -> str:
    if not folder.is_dir():
        raise ProblemError(f"there are no settings of Ardour in {folder}")
    version = version_of(folder)
    untried = "" if version in (0, TRIED_VERSION) else f", in which nobody has tried it (Ardour {version})"
    return f"{folder}{untried}; Ardour {'runs' if is_running() else 'does not run'}"


def _scripts(folder: Path) -> str:
    own = folder / OWN_FOLDER
    for name in SHARED:
        if not (own / name).is_file():
            raise ProblemError(f"{name} is not in {own}")
        if (own / name).read_bytes() != shared_source(name):
            raise ProblemError(f"{name} in {own} is of another version")
    slots = ui_scripts(folder).names()
    missing = [action.name for action in ACTIONS if action.name not in slots]
    if missing:
        raise ProblemError(f"{missing[0]} is in no slot of Ardour's scripted actions")
    return ", ".join(f"{action.name} in slot {slots[action.name]}" for action in ACTIONS)


def _jobs(folder: Path) -> str:
    jobs = folder / OWN_FOLDER / "jobs"
    if not jobs.is_dir():
        raise ProblemError(f"{jobs} is not there", hint=_INSTALL)
    check_output(jobs / "job.json", overwrite=True)
    return f"files pass through {jobs}"
