"""What the actions in REAPER need, one check after the other, each failure with its cure."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from daw_bridge.checks import Check, ProblemError, checked
from daw_bridge.reaper import warm
from daw_bridge.reaper.install import ACTIONS as SCRIPTS
from daw_bridge.reaper.install import (
    SHARED,
    action_name,
    actions_folder,
    command_note,
    is_running,
    own_command,
    server_is_installed,
)
from daw_bridge.reaper.job_files import SCHEMA
from daw_bridge.reaper.settings import OWN_FOLDER, SettingsFile
from transform.files import check_output

ACTIONS = "REAPER actions"  # the name of the check

_START_S = 120.0  # that the command may take to print its version
_INSTALL = "quit REAPER and run `redrum reaper install`"


def is_installed(folder: Path) -> bool:
    """Return whether anything of Redrum is in a resource folder of REAPER."""
    return any(place.exists() for place in (folder / "Scripts" / OWN_FOLDER, folder / OWN_FOLDER))


def examine_reaper(folder: Path) -> Iterator[Check]:
    """Yield one check after the other; none of them raises.

    Args:
        folder: REAPER's resource folder.
    """
    where = "start REAPER once and quit it, or name its folder with --resources"
    settings = checked("REAPER settings", partial(_settings, folder), where)
    yield settings
    if settings.status != "ok":
        return
    yield checked(ACTIONS, partial(_scripts, folder), _INSTALL)
    yield checked("REAPER Actions list", partial(_actions_list, folder), _INSTALL)
    yield checked("REAPER runs the command", partial(_command, folder), _INSTALL)
    yield checked("REAPER helper", _helper, "REDRUM_HELPER_MINUTES=0 does without it")
    yield checked("REAPER jobs", partial(_jobs, folder), "make the folder writable")
    if server_is_installed(folder):
        yield Check(name="REAPER server", status="ok", found="`redrum reaper selected` can reach REAPER")
    else:
        cure = "for `redrum reaper selected`, which the actions do not need: `redrum reaper install --server`"
        yield Check(name="REAPER server", status="absent", found="not installed", cure=cure)


def _settings(folder: Path) -> str:
    if not (folder / "reaper.ini").is_file():
        raise ProblemError(f"there is no reaper.ini in {folder}")
    return f"{folder}; REAPER {'runs' if is_running() else 'does not run'}"


def _scripts(folder: Path) -> str:
    scripts = folder / "Scripts" / OWN_FOLDER
    names = (*SCRIPTS, *SHARED)
    missing = [name for name in names if not (scripts / name).is_file()]
    if missing:
        raise ProblemError(f"{missing[0]} is not in {scripts}")
    other = [name for name in names if (scripts / name).read_bytes() != (actions_folder() / name).read_bytes()]
    if other:
        raise ProblemError(f"{other[0]} in {scripts} is of another version")
    return f"{len(SCRIPTS)} in {scripts}"


def _actions_list(folder: Path) -> str:
    actions = SettingsFile(folder / "reaper-kb.ini").scripts()
    missing = [name for name in SCRIPTS if action_name(name) not in actions]
    if missing:
        raise ProblemError(f"{missing[0]} is not in reaper-kb.ini")
    return f"all {len(SCRIPTS)} are there"


def _command(folder: Path) -> str:
    note = command_note(folder)
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


def _helper() -> str:
    if not warm.keep_minutes():
        return "there is to be none: REDRUM_HELPER_MINUTES says so"
    if (status := warm.look()) is None:
        return "none keeps the models loaded now; the next job starts one"
    ends = f"ends in {status['left_s'] / 60:.0f} min if no job comes" if not status["n_jobs"] else "does a job"
    return f"process {status['pid']} keeps the models loaded, and {ends}"


def _jobs(folder: Path) -> str:
    jobs = folder / OWN_FOLDER / "jobs"
    check_output(jobs / "job.json", overwrite=True)
    return f"files pass through {jobs}"
