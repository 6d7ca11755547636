"""What is put into Ardour's folder of settings, and taken out again.

The actions need nothing of Ardour but its own Lua. Each is in a slot of its scripted actions (`ui_scripts`);
what they share, a note of where the `redrum` command is, and the files of jobs lie in a folder of their own,
`redrum`. While Ardour runs nothing is changed: it writes `ui_scripts` itself.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from daw_bridge.action_install import put_command_note, put_file, refuse_links
from daw_bridge.ardour.ui_scripts import UiScripts
from transform.confined import is_link
from transform.errors import DawError

OWN_FOLDER = "redrum"  # in Ardour's folder
TRIED_VERSION = 7
MENU = "Edit > Lua Scripts"

_NOTES = "installed.json"
_ANSWERS = "answers.json"
_JOB_FILE = re.compile(r"\d+-\d+\.[a-z.]+|\.redrum-[0-9a-f]+\.part|.*\.wav")
_PROGRAM = re.compile(r"ardour(gui|[-\d. ].*|\.exe)?", re.IGNORECASE)  # ArdourGUI on Linux
_FOLDER_NAME = re.compile(r"ardour(\d+)", re.IGNORECASE)
_OLDEST_VERSION = 7  # the actions need its names of time


@dataclass(frozen=True)
class Action:
    """An action: what Ardour calls it, what it takes, whether it asks, and whether a rhythm is edited."""

    name: str
    description: str
    scope: str
    is_repeated: bool = False
    edits: bool = False

    def source(self) -> str:
        """Return the action as a script of Ardour."""
        text = (_shipped() / "action.lua").read_text(encoding="utf-8")
        words = {
            "@NAME@": self.name,
            "@DESCRIPTION@": self.description,
            "@SCOPE@": self.scope,
            "@IS_REPEATED@": str(self.is_repeated).lower(),
            "@EDITS@": str(self.edits).lower(),
        }
        for word, value in words.items():
            text = text.replace(word, value)
        return text

    def factory(self) -> str:
        """Return Lua whose call returns the action: the body of the script's `factory`."""
        body = self.source().partition("function factory()\n")[2]
        return body.rpartition("end")[0]


# In the order of what people look for first.
ACTIONS = (
    Action("Redrum selected region", "Let the selected regions play another rhythm, on new tracks.", "regions"),
    Action("Redrum selected region with last settings", "The same, without a question.", "regions", True),
    Action("Redrum all regions of selected tracks", "Redrum whatever lies on the selected tracks.", "tracks"),
    Action(
        "Redrum: edit rhythm of selected region",
        "Edit the rhythm inside the selected region, on a page in the browser.",
        "regions",
        edits=True,
    ),
)
# What the actions share, and where it is shipped.
SHARED = ("redrum.lua", "redrum_session.lua", "redrum_json.lua")


def ardour_folders() -> list[Path]:
    """Return the folders in which Ardours of this user keep their settings, the newest version's last."""
    if sys.platform == "darwin":
        parent = Path.home() / "Library" / "Preferences"
    elif sys.platform == "win32":
        parent = Path(os.environ["LOCALAPPDATA"])
    else:
        parent = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    found = parent.iterdir() if parent.is_dir() else ()
    folders = [path for path in found if version_of(path) >= _OLDEST_VERSION and path.is_dir()]
    return sorted(folders, key=version_of)


def version_of(folder: Path) -> int:
    """Return the version of Ardour that a folder of settings is of by its name, 0 where it says none."""
    match = _FOLDER_NAME.fullmatch(folder.name)
    return int(match[1]) if match else 0


def shared_source(name: str) -> bytes:
    """Return one of the files that the actions share."""
    place = _shipped() / name
    if not place.is_file():  # the same in all hosts
        place = _shipped().parents[1] / "reaper" / "actions" / name
    return place.read_bytes()


def command_note(folder: Path) -> Path:
    """Return the file in which the actions find the `redrum` command."""
    return folder / OWN_FOLDER / "command.json"


def ui_scripts(folder: Path) -> UiScripts:
    """Return what is in the slots of Ardour's actions.

    Raises:
        DawError: the file is not as Ardour writes it.
    """
    return UiScripts(folder / "ui_scripts", folder / OWN_FOLDER / _NOTES)


def install(folder: Path) -> list[str]:
    """Put the actions into Ardour; return a sentence for each change, none where all is as it should be.

    Args:
        folder: of Ardour's settings.

    Raises:
        DawError: Ardour runs, its folder is not there, something in it is a link, or no slot is free.
        OutputError: a file cannot be written.
    """
    _check(folder)
    own, done = folder / OWN_FOLDER, []
    scripts = ui_scripts(folder)
    added = [scripts.put(action.name, action.source(), action.factory()) for action in ACTIONS]
    (own / "jobs").mkdir(parents=True, exist_ok=True)
    if any([put_file(own / name, shared_source(name)) for name in SHARED]):
        done.append(f"what the actions share is in {own}")
    if put_command_note(command_note(folder)):
        done.append(f"the actions run {sys.executable}")
    scripts.save()
    if any(added):
        done.append(f"{sum(added)} actions are in Ardour's menu {MENU}, the first is {ACTIONS[0].name}")
    version = version_of(folder)
    if done and version not in (0, TRIED_VERSION):
        done.append(f"{folder} is of Ardour {version}: the actions were tried in {TRIED_VERSION} alone")
    return done


def uninstall(folder: Path) -> list[str]:
    """Take all of it out again; return a sentence for each change.

    Raises:
        DawError: Ardour runs, its folder is not there, or something in it is a link.
        OutputError: a file cannot be written.
    """
    _check(folder)
    done, scripts = [], ui_scripts(folder)
    names = scripts.names()
    ours = [names[action.name] for action in ACTIONS if action.name in names]
    for number in ours:
        scripts.remove(number)
    if ours:
        done.append("Redrum's actions are gone from Ardour's menu")
    scripts.restore()
    own = folder / OWN_FOLDER
    there = [path for path in _own_files(own) if is_link(path) or path.is_file()]
    for path in there:
        path.unlink()
    for emptied in (own / "jobs", own):
        with suppress(OSError):  # what others put there stays
            emptied.rmdir()
    return done + ([f"what they share is gone from {own}"] if there else [])


def is_running() -> bool:
    """Return whether an Ardour runs on this machine."""
    names = (process.info["name"] or "" for process in psutil.process_iter(["name"]))
    return any(_PROGRAM.fullmatch(name) for name in names)


def _own_files(own: Path) -> Iterator[Path]:
    yield from (own / name for name in (*SHARED, "command.json", _ANSWERS))
    yield from (path for path in (own / "jobs").glob("*") if _JOB_FILE.fullmatch(path.name))


def _shipped() -> Path:
    return Path(__file__).resolve().parent / "actions"


def _check(folder: Path) -> None:
    if is_running():
        raise DawError(
            "Ardour is running: it would overwrite what is changed in its settings now",
            hint="quit Ardour, then run the same command again",
        )
    if not folder.is_dir():
        raise DawError(
            f"there are no settings of Ardour in {folder}",
            hint="start Ardour once and quit it, or name the folder with --config",
        )
    names = ("ui_scripts", OWN_FOLDER, f"{OWN_FOLDER}/jobs")
    refuse_links(folder / name for name in names)
