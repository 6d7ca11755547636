"""What is put into REAPER's settings so that Redrum reaches it, and taken out again.

Settings are edited line by line: every other byte stays. Before the first change of a file a copy is made
beside it, NAME.before-redrum. While REAPER runs nothing is changed: it writes its settings when it quits.
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from itertools import pairwise
from pathlib import Path

import psutil

from daw_bridge.reaper import SERVER_SCRIPT, WEB_PORT
from transform.errors import DawError
from transform.files import write_bytes_atomic

BACKUP_SUFFIX = ".before-redrum"

_WEB_INTERFACE = f"HTTP 0 {WEB_PORT} "
_ACTION_KEY = "activate_reapy_server"  # where reapy looks for the action that starts its server


def reaper_folder() -> Path:
    """Return where REAPER keeps its settings, unless it is a portable one."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "REAPER"
    if sys.platform == "win32":
        return Path(os.environ["APPDATA"]) / "REAPER"
    return Path.home() / ".config" / "REAPER"


def install(folder: Path) -> list[str]:
    """Let REAPER run Redrum's server; return a sentence for each change, none where all is as it should be.

    Python and a web interface are switched on where they are not, and the server's script becomes an action.

    Args:
        folder: REAPER's settings.

    Raises:
        DawError: REAPER runs, its settings are not there, or no Python library that it could load is found.
        OutputError: a file cannot be written.
    """
    _check(folder)
    done = []
    settings = _Settings(folder / "reaper.ini")
    if not settings.get("reaper", "pythonlibdll64"):
        library = _python_library()
        settings.put("reaper", "reascript", "1")
        settings.put("reaper", "pythonlibpath64", str(library.parent))
        settings.put("reaper", "pythonlibdll64", library.name)
        done.append(f"REAPER runs scripts with {library}")
    n_surfaces = _count(settings)
    surfaces = [settings.get("reaper", f"csurf_{n}") for n in range(n_surfaces)]
    if not any(surface.startswith(_WEB_INTERFACE) for surface in surfaces):
        settings.put("reaper", "csurf_cnt", str(n_surfaces + 1))
        settings.put("reaper", f"csurf_{n_surfaces}", f"{_WEB_INTERFACE}'' 'index.html' 0 ''")
        done.append(f"REAPER has a web interface on port {WEB_PORT}")
    actions = _Settings(folder / "reaper-kb.ini")
    if actions.add_line(f'SCR 4 0 {_action()} "Script: {SERVER_SCRIPT}" "{_script()}"'):
        done.append(f"{SERVER_SCRIPT} is in REAPER's Actions list")
    states = _Settings(folder / "reaper-extstate.ini")
    if states.get("reapy", _ACTION_KEY) != f'"_{_action()}"':
        states.put("reapy", _ACTION_KEY, f'"_{_action()}"')
        done.append("Redrum starts the server in REAPER when it needs it")
    for changed in (settings, actions, states):
        changed.save()
    return done


def uninstall(folder: Path) -> list[str]:
    """Take the action and the web interface out again; return a sentence for each change.

    Python stays on, as other scripts may need it.

    Raises:
        DawError: REAPER runs, or its settings are not there.
        OutputError: a file cannot be written.
    """
    _check(folder)
    done = []
    settings = _Settings(folder / "reaper.ini")
    last = _count(settings) - 1
    if last >= 0 and settings.get("reaper", f"csurf_{last}").startswith(_WEB_INTERFACE):
        settings.put("reaper", "csurf_cnt", str(last))
        settings.remove("reaper", f"csurf_{last}")
        done.append(f"the web interface on port {WEB_PORT} is gone")
    actions = _Settings(folder / "reaper-kb.ini")
    if actions.remove_line(_action()):
        done.append(f"{SERVER_SCRIPT} is no longer in the Actions list")
    states = _Settings(folder / "reaper-extstate.ini")
    if states.get("reapy", _ACTION_KEY) == f'"_{_action()}"':
        states.remove("reapy", _ACTION_KEY)
        done.append("nothing starts the server any more")
    for changed in (settings, actions, states):
        changed.save()
    return done


def _check(folder: Path) -> None:
    if any(
        Path(process.info["name"] or "").stem.lower() == "reaper" for process in psutil.process_iter(["name"])
    ):
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


def _count(settings: _Settings) -> int:
    text = settings.get("reaper", "csurf_cnt") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= 4):
        raise DawError(f"reaper.ini has {text!r} control surfaces", hint="repair csurf_cnt in reaper.ini")
    return int(text)


def _script() -> Path:
    return Path(__file__).resolve().parent / "actions" / SERVER_SCRIPT


def _action() -> str:
    """Return the name of the server's action, the same for the same place on disk."""
    return "RS" + hashlib.sha1(str(_script()).encode("utf-8", "surrogateescape")).hexdigest()


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


class _Settings:
    """A file of sections, keys and values; lines that are not changed stay as they are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = path.read_bytes() if path.exists() else b""
        self._line_end = "\r\n" if b"\r\n" in self._before else "\n"
        self._lines = self._before.decode("utf-8", "surrogateescape").split(self._line_end)
        if self._lines[-1] == "":
            self._lines.pop()
        self._original = list(self._lines)

    def get(self, section: str, key: str) -> str:
        """Return a value, "" where there is none."""
        line = self._find(section, key)
        return "" if line is None else self._lines[line].partition("=")[2]

    def put(self, section: str, key: str, value: str) -> None:
        """Set a value: in its line, or in a new one at the end of its section."""
        line = self._find(section, key)
        if line is not None:
            self._lines[line] = f"{self._lines[line].partition('=')[0]}={value}"
            return
        places = self._places(section)
        if not places:
            self._lines.append(f"[{section}]")
            places = range(len(self._lines) - 1, len(self._lines))
        last = max(n for n in places if self._lines[n].strip())
        self._lines.insert(last + 1, f"{key}={value}")

    def remove(self, section: str, key: str) -> None:
        """Remove a value with its line."""
        line = self._find(section, key)
        if line is not None:
            del self._lines[line]

    def add_line(self, line: str) -> bool:
        """Add a line at the end unless it is there, and return whether it was not."""
        is_new = line not in self._lines
        if is_new:
            self._lines.append(line)
        return is_new

    def remove_line(self, word: str) -> bool:
        """Remove the lines that hold a word, and return whether there were any."""
        kept = [line for line in self._lines if word not in line.split()]
        is_there = len(kept) < len(self._lines)
        self._lines = kept
        return is_there

    def save(self) -> None:
        """Write the file if it has changed, after a copy of what was there before Redrum."""
        if self._lines == self._original:
            return
        data = "".join(line + self._line_end for line in self._lines).encode("utf-8", "surrogateescape")
        backup = self._path.with_name(self._path.name + BACKUP_SUFFIX)
        if self._before and not backup.exists():
            write_bytes_atomic(backup, self._before)
        write_bytes_atomic(self._path, data, overwrite=True)

    def _places(self, section: str) -> range:
        """Return the lines of a section, its head the first of them; none where there is no such section."""
        heads = [n for n, line in enumerate(self._lines) if line.startswith("[")]
        for head, following in pairwise([*heads, len(self._lines)]):
            if self._lines[head].strip().lower() == f"[{section}]":
                return range(head, following)
        return range(0)

    def _find(self, section: str, key: str) -> int | None:
        for n in self._places(section):
            name, is_value, _ = self._lines[n].partition("=")
            if is_value and name.strip().lower() == key.lower():
                return n
        return None
