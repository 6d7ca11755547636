"""What is put into REAPER's resource folder, and taken out again: the actions, and, if asked for, a server.

The actions need nothing of REAPER but its own Lua: scripts in Scripts/Redrum, a line each in its list of
actions, and a note of where the `redrum` command is. The server is what `redrum reaper selected` needs: Python
and a web interface in REAPER. While REAPER runs nothing is changed: it writes its settings when it quits.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from daw_bridge.reaper import SERVER_SCRIPT, WEB_PORT
from daw_bridge.reaper_job import SCHEMA
from daw_bridge.reaper_settings import OWN_FOLDER, SettingsFile
from daw_bridge.session import RHYTHM_TRACKS
from transform.errors import DawError
from transform.files import write_bytes_atomic

# In the order of what people look for first; the list of actions shows the names of the files.
ACTIONS = (
    "Redrum selected item.lua",
    "Redrum selected item with last settings.lua",
    "Redrum selected item with MIDI lane on this track.lua",
    "Redrum all items of selected tracks.lua",
)
SHARED = ("redrum.lua", "redrum_session.lua", "redrum_json.lua")

_WEB_INTERFACE = f"HTTP 0 {WEB_PORT} "
_ACTION_KEY = "activate_reapy_server"  # where reapy looks for the action that starts its server
_PYTHON = ("reascript", "pythonlibpath64", "pythonlibdll64")


def reaper_folder() -> Path:
    """Return where REAPER keeps its settings, unless it is a portable one."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "REAPER"
    if sys.platform == "win32":
        return Path(os.environ["APPDATA"]) / "REAPER"
    return Path.home() / ".config" / "REAPER"


def actions_folder() -> Path:
    """Return where the scripts lie that are shipped."""
    return Path(__file__).resolve().parent / "actions"


def action_name(script: str) -> str:
    """Return REAPER's name of an action, the same everywhere, so that shortcuts outlive an update."""
    return "RS" + hashlib.sha1(f"{OWN_FOLDER}/{script}".encode()).hexdigest()


def command_note(folder: Path) -> Path:
    """Return the file that tells the actions where the `redrum` command is."""
    return folder / OWN_FOLDER / "command.json"


def install(folder: Path, *, with_server: bool = False) -> list[str]:
    """Put the actions into REAPER; return a sentence for each change, none where all is as it should be.

    Args:
        folder: REAPER's resource folder.
        with_server: also let `redrum reaper selected` reach REAPER.

    Raises:
        DawError: REAPER runs, its settings are not there, or, with a server, no Python library that it could
            load is found.
        OutputError: a file cannot be written.
    """
    _check(folder)
    settings, actions, states = _settings(folder)
    done = []
    if with_server:
        done += _add_server(settings, actions, states)
    scripts = folder / "Scripts" / OWN_FOLDER
    changed = [_put(scripts / name, (actions_folder() / name).read_bytes()) for name in (*ACTIONS, *SHARED)]
    if any(changed):
        done.append(f"the actions are in {scripts}")
    added = [actions.add_script(action_name(name), name, f"{OWN_FOLDER}/{name}") for name in ACTIONS]
    if any(added):
        done.append(f"{sum(added)} actions are in REAPER's Actions list, the first is {ACTIONS[0]}")
    for changed_file in (settings, actions, states):
        changed_file.save()
    if _put(command_note(folder), json.dumps(_note(), indent=1).encode()):
        done.append(f"the actions run {sys.executable}")
    return done


def uninstall(folder: Path) -> list[str]:
    """Take all of it out again; return a sentence for each change.

    Raises:
        DawError: REAPER runs, or its settings are not there.
        OutputError: a file cannot be written.
    """
    _check(folder)
    settings, actions, states = _settings(folder)
    done = []
    last = _count(settings) - 1
    if last >= 0 and settings.get("reaper", f"csurf_{last}").startswith(_WEB_INTERFACE):
        settings.put("reaper", "csurf_cnt", str(last))
        settings.remove("reaper", f"csurf_{last}")
        done.append(f"the web interface on port {WEB_PORT} is gone")
    removed = [actions.remove_script(name) for name in (_server_action(), *map(action_name, ACTIONS))]
    if any(removed):
        done.append("Redrum is no longer in the Actions list")
    if states.get("reapy", _ACTION_KEY) == f'"_{_server_action()}"':
        states.remove("reapy", _ACTION_KEY)
        done.append("nothing starts the server any more")
    for changed_file in (settings, actions, states):
        changed_file.give_back()
    scripts, own = folder / "Scripts" / OWN_FOLDER, folder / OWN_FOLDER
    ours = [*(scripts / name for name in (*ACTIONS, *SHARED)), command_note(folder), *(own / "jobs").glob("*")]
    if any(path.exists() for path in ours):
        done.append(f"the actions are gone from {scripts}")
    for path in ours:
        path.unlink(missing_ok=True)
    for emptied in (scripts, own / "jobs", own):
        with suppress(OSError):  # what others put there stays
            emptied.rmdir()
    return done


def server_is_installed(folder: Path) -> bool:
    """Return whether `redrum reaper selected` can reach a REAPER with this resource folder."""
    settings, actions, _ = _settings(folder)
    surfaces = [settings.get("reaper", f"csurf_{n}") for n in range(_count(settings))]
    is_reachable = any(surface.startswith(_WEB_INTERFACE) for surface in surfaces)
    return is_reachable and actions.has_script(_server_action())


def _settings(folder: Path) -> tuple[SettingsFile, SettingsFile, SettingsFile]:
    names = ("reaper.ini", "reaper-kb.ini", "reaper-extstate.ini")
    settings, actions, states = (SettingsFile(folder / name) for name in names)
    return settings, actions, states


def _add_server(settings: SettingsFile, actions: SettingsFile, states: SettingsFile) -> list[str]:
    done = []
    if not settings.get("reaper", "pythonlibdll64"):
        library = _python_library()
        for key, value in zip(_PYTHON, ("1", str(library.parent), library.name), strict=True):
            settings.put("reaper", key, value)
        done.append(f"REAPER runs scripts with {library}")
    n_surfaces = _count(settings)
    surfaces = [settings.get("reaper", f"csurf_{n}") for n in range(n_surfaces)]
    if not any(surface.startswith(_WEB_INTERFACE) for surface in surfaces):
        settings.put("reaper", "csurf_cnt", str(n_surfaces + 1))
        settings.put("reaper", f"csurf_{n_surfaces}", f"{_WEB_INTERFACE}'' 'index.html' 0 ''")
        done.append(f"REAPER has a web interface on port {WEB_PORT}")
    if actions.add_script(_server_action(), SERVER_SCRIPT, str(actions_folder() / SERVER_SCRIPT)):
        done.append(f"{SERVER_SCRIPT} is in REAPER's Actions list")
    if states.get("reapy", _ACTION_KEY) != f'"_{_server_action()}"':
        states.put("reapy", _ACTION_KEY, f'"_{_server_action()}"')
        done.append("Redrum starts the server in REAPER when it needs it")
    return done


def _note() -> dict[str, Any]:
    """Return what the actions must know of this installation."""
    # -P: REAPER starts it in its own folder, where modules of any name may lie.
    command = [sys.executable, "-P", "-m", "daw_bridge"]
    return {"schema": SCHEMA, "command": command, "rhythm_tracks": list(RHYTHM_TRACKS)}


def _put(path: Path, data: bytes) -> bool:
    """Write a file unless it is so already, and return whether it was not."""
    if path.is_file() and path.read_bytes() == data:
        return False
    write_bytes_atomic(path, data, overwrite=True)
    return True


def _check(folder: Path) -> None:
    if is_running():
        raise DawError(
            "REAPER is running: it would overwrite what is changed in its settings now",
            hint="quit REAPER, then run the same command again",
        )
    if not (folder / "reaper.ini").is_file():
        raise DawError(
            f"there are no settings of REAPER in {folder}",
            hint="start REAPER once and quit it, or name the folder with --resources "
            "(REAPER: Options > Show REAPER resource path)",
        )


def is_running() -> bool:
    """Return whether a REAPER runs on this machine."""
    names = (process.info["name"] or "" for process in psutil.process_iter(["name"]))
    return any(Path(name).stem.lower() == "reaper" for name in names)


def _count(settings: SettingsFile) -> int:
    text = settings.get("reaper", "csurf_cnt") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise DawError(f"reaper.ini has {text!r} control surfaces", hint="repair csurf_cnt in reaper.ini")
    return int(text)


def _server_action() -> str:
    """Return the name of the server's action, the same for the same place on disk."""
    script = str(actions_folder() / SERVER_SCRIPT)
    return "RS" + hashlib.sha1(script.encode("utf-8", "surrogateescape")).hexdigest()


def _python_library() -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # reapy says that REAPER does not run
        from reapy.config.shared_library import get_python_shared_library
    try:
        return Path(get_python_shared_library())
    except FileNotFoundError as err:
        raise DawError(
            "this Python has no shared library that REAPER could load",
            hint="choose a Python in REAPER's Preferences > Plug-ins > ReaScript, then run this again",
        ) from err
