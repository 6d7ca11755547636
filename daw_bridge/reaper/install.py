"""What is put into REAPER's resource folder, and taken out again: the actions, and, if requested, a server.

The actions need nothing of REAPER but its own Lua: scripts in Scripts/Redrum, a line each in its list of
actions, and a note of where the `redrum` command is. The server is what `redrum reaper selected` needs: Python
and a web interface in REAPER. While REAPER runs nothing is changed: it writes its settings when it quits.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import runpy
import sys
from contextlib import suppress
from pathlib import Path

import psutil

from daw_bridge.action_install import put_command_note, put_file, refuse_links
from daw_bridge.reaper.running import SERVER_SCRIPT, WEB_PORT
from daw_bridge.reaper.settings import OWN_FOLDER, Settings, SettingsFile
from transform.confined import is_link
from transform.errors import DawError

# In the order of what people look for first; the list of actions shows the names of the files.
ACTIONS = (
    "Redrum selected item.lua",
    "Redrum selected item with last settings.lua",
    "Redrum selected item with MIDI lane on this track.lua",
    "Redrum all items of selected tracks.lua",
    "Redrum edit rhythm of selected item.lua",
)
SHARED = ("redrum.lua", "redrum_session.lua", "redrum_json.lua")

_SETTINGS = ("reaper.ini", "reaper-kb.ini", "reaper-extstate.ini")
_WEB_INTERFACE = f"HTTP 0 {WEB_PORT} "
_ACTION_KEY = "activate_reapy_server"  # where reapy looks for the action that starts its server
_JOB_FILE = re.compile(r"\d+-\d+\.[a-z.]+|\.redrum-[0-9a-f]+\.part")  # as the actions and the jobs name them
_PYTHON = ("reascript", "pythonlibpath64", "pythonlibdll64")


def reaper_folder() -> Path:
    """Return where REAPER has its settings, unless it is a portable one."""
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
    """Return the file in which the actions find the `redrum` command."""
    return folder / OWN_FOLDER / "command.json"


def install(folder: Path, *, with_server: bool = False) -> list[str]:
    """Put the actions into REAPER; return a sentence for each change, none where all is as it should be.

    Args:
        folder: REAPER's resource folder.
        with_server: also let `redrum reaper selected` reach REAPER.

    Raises:
        DawError: REAPER runs, its settings are not there or are links, or, with a server, no Python library
            that it could load is found.
        OutputError: a file cannot be written.
    """
    _check(folder)
    settings, actions, states = _settings(folder)
    done = []
    if with_server:
        done += _add_server(settings, actions, states)
    scripts = folder / "Scripts" / OWN_FOLDER
    changed = [put_file(scripts / name, (actions_folder() / name).read_bytes()) for name in (*ACTIONS, *SHARED)]
    if any(changed):
        done.append(f"the actions are in {scripts}")
    added = [actions.add_script(action_name(name), name, f"{OWN_FOLDER}/{name}") for name in ACTIONS]
    if any(added):
        done.append(f"{sum(added)} actions are in REAPER's Actions list, the first is {ACTIONS[0]}")
    for changed_file in (settings, actions, states):
        changed_file.save()
    if put_command_note(command_note(folder)):
        done.append(f"the actions run {sys.executable}")
    return done


def uninstall(folder: Path) -> list[str]:
    """Take all of it out again; return a sentence for each change.

    Raises:
        DawError: REAPER runs, or its settings are not there or are links.
        OutputError: a file cannot be written.
    """
    _check(folder)
    settings, actions, states = _settings(folder)
    done = []
    removed = actions.remove_scripts(_is_ours)
    if removed:
        done.append("Redrum is no longer in the Actions list")
    if (settings.is_ours or removed) and _remove_web_interface(settings):
        done.append(f"the web interface on port {WEB_PORT} is gone")
    if states.get("reapy", _ACTION_KEY).strip('"') in {f"_{name}" for name in (_server_action(), *removed)}:
        if before := states.before_redrum().get("reapy", _ACTION_KEY):
            states.put("reapy", _ACTION_KEY, before)
        else:
            states.remove("reapy", _ACTION_KEY)
        done.append("nothing starts the server any more")
    for changed_file in (settings, actions, states):
        changed_file.restore()
    return done + _remove_files(folder)


def _is_ours(action: str, path: str) -> bool:
    """Return whether an action is one that Redrum added, also from where it was installed before."""
    if action in (_server_action(), *map(action_name, ACTIONS)):
        return True
    path = path.replace("\\", "/")
    places = ("daw_bridge/reaper/actions", "daw_bridge/actions")  # now, and in Redrum 0.1.0
    is_server = path.endswith(tuple(f"/{place}/{SERVER_SCRIPT}" for place in places))
    return is_server or path in {f"{OWN_FOLDER}/{name}" for name in ACTIONS}


def _remove_web_interface(settings: SettingsFile) -> bool:
    """Take the web interface out, unless there was one before Redrum, and return whether it was there."""
    surfaces = _surfaces(settings)
    ours = [n for n, surface in enumerate(surfaces) if _is_web_interface(surface)]
    if not ours or any(map(_is_web_interface, _surfaces(settings.before_redrum()))):
        return False
    for n, following in enumerate(surfaces[ours[-1] + 1 :], ours[-1]):
        settings.put("reaper", f"csurf_{n}", following)
    settings.remove("reaper", f"csurf_{len(surfaces) - 1}")
    settings.put("reaper", "csurf_cnt", str(len(surfaces) - 1))
    return True


def _remove_files(folder: Path) -> list[str]:
    """Remove the files of Redrum, and its folders where others put nothing into them."""
    scripts, own = folder / "Scripts" / OWN_FOLDER, folder / OWN_FOLDER
    jobs = [path for path in (own / "jobs").glob("*") if _JOB_FILE.fullmatch(path.name)]
    ours = [*(scripts / name for name in (*ACTIONS, *SHARED)), command_note(folder), *jobs]
    there = [path for path in ours if is_link(path) or path.is_file()]
    for path in there:
        path.unlink()
    for emptied in (scripts, own / "jobs", own):
        with suppress(OSError):  # what others put there stays
            emptied.rmdir()
    return [f"the actions are gone from {scripts}"] if there else []


def server_is_installed(folder: Path) -> bool:
    """Return whether `redrum reaper selected` can reach a REAPER with this resource folder."""
    settings, actions, _ = _settings(folder)
    is_reachable = any(map(_is_web_interface, _surfaces(settings)))
    return is_reachable and _server_action() in actions.scripts()


def _settings(folder: Path) -> tuple[SettingsFile, SettingsFile, SettingsFile]:
    settings, actions, states = (SettingsFile(folder / name) for name in _SETTINGS)
    return settings, actions, states


def _add_server(settings: SettingsFile, actions: SettingsFile, states: SettingsFile) -> list[str]:
    done = []
    if not settings.get("reaper", "pythonlibdll64"):
        library = _python_library()
        for key, value in zip(_PYTHON, ("1", str(library.parent), library.name), strict=True):
            settings.put("reaper", key, value)
        done.append(f"REAPER runs scripts with {library}")
    surfaces = _surfaces(settings)
    if not any(map(_is_web_interface, surfaces)):
        settings.put("reaper", "csurf_cnt", str(len(surfaces) + 1))
        settings.put("reaper", f"csurf_{len(surfaces)}", f"{_WEB_INTERFACE}'' 'index.html' 0 ''")
        done.append(f"REAPER has a web interface on port {WEB_PORT}")
    if actions.add_script(_server_action(), SERVER_SCRIPT, str(actions_folder() / SERVER_SCRIPT)):
        done.append(f"{SERVER_SCRIPT} is in REAPER's Actions list")
    if states.get("reapy", _ACTION_KEY) != f'"_{_server_action()}"':
        states.put("reapy", _ACTION_KEY, f'"_{_server_action()}"')
        done.append("Redrum starts the server in REAPER when it needs it")
    return done


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
    own = (f"Scripts/{OWN_FOLDER}", OWN_FOLDER, f"{OWN_FOLDER}/jobs")
    refuse_links(folder / name for name in (*_SETTINGS, *own))


def is_running() -> bool:
    """Return whether a REAPER runs on this machine."""
    names = (process.info["name"] or "" for process in psutil.process_iter(["name"]))
    return any(Path(name).stem.lower() == "reaper" for name in names)


def _is_web_interface(surface: str) -> bool:
    return surface.lstrip('"').startswith(_WEB_INTERFACE)


def _surfaces(settings: Settings) -> list[str]:
    """Return what REAPER's control surfaces are, of which its web interface is one."""
    text = settings.get("reaper", "csurf_cnt") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise DawError(f"reaper.ini has {text!r} control surfaces", hint="repair csurf_cnt in reaper.ini")
    return [settings.get("reaper", f"csurf_{n}") for n in range(int(text))]


def _server_action() -> str:
    """Return the name of the server's action, the same for the same place on disk."""
    script = str(actions_folder() / SERVER_SCRIPT)
    return "RS" + hashlib.sha1(script.encode("utf-8", "surrogateescape")).hexdigest()


def _python_library() -> Path:
    package = importlib.util.find_spec("reapy")
    assert package is not None
    assert package.origin is not None
    # By itself: all of reapy, when it is imported, waits for any program that listens on REAPER's port.
    path = Path(package.origin).parent / "config" / "shared_library.py"
    try:
        return Path(runpy.run_path(str(path))["get_python_shared_library"]())
    except FileNotFoundError as err:
        raise DawError(
            "this Python has no shared library that REAPER could load",
            hint="choose a Python in REAPER's Preferences > Plug-ins > ReaScript, then run this again",
        ) from err
