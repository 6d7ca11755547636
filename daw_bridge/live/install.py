"""The Remote Script in Live's User Library: installed, checked, and removed again."""

from __future__ import annotations

import importlib.resources
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

from platformdirs import user_documents_path

from daw_bridge.checks import Check
from daw_bridge.live.running import NEEDED_VERSION, SCRIPT_NAME, LiveSession, LiveTooOld, SetNotSaved
from transform.confined import is_link
from transform.errors import DawError, RedrumError
from transform.files import write_bytes_atomic

FILES = (
    "__init__.py",
    "endpoint.py",
    "gathering.py",
    "handshake.py",
    "server.py",
    "surface.py",
    "writing.py",
)
CHOOSE = (
    f"start Live again, then choose {SCRIPT_NAME} as a control surface in its settings, under Link, Tempo & "
    "MIDI; its input and output stay None"
)
_LIBRARY_OPTION = "name it with --library (in Live: Settings > Library > Location of User Library)"


def user_library() -> Path | None:
    """Return Live's User Library, None where there is none."""
    return next(_libraries(), None)


def install(library: Path | None) -> list[str]:
    """Put the Remote Script into a User Library; return a sentence for each change, none where all is there.

    Args:
        library: the User Library; None: the one that Live uses.

    Raises:
        DawError: there is no such folder.
        OutputError: a file cannot be written.
    """
    folder = _script_folder(library)
    changed = [name for name in FILES if _installed(folder / name) != _shipped(name)]
    for name in changed:
        write_bytes_atomic(folder / name, _shipped(name), overwrite=True)
    return [f"the control surface {SCRIPT_NAME} is in {folder.parent}", CHOOSE] if changed else []


def uninstall(library: Path | None) -> list[str]:
    """Take the Remote Script out again, and nothing else; return a sentence for each change.

    Args:
        library: the User Library; None: those of all Lives, since one may have got another by now.

    Raises:
        DawError: there is no such folder.
    """
    places = [library] if library else [user_library(), *_libraries()]
    folders = dict.fromkeys(map(_script_folder, places))
    return [change for folder in folders for change in _remove_script(folder)]


def _remove_script(folder: Path) -> list[str]:
    found = [folder / name for name in FILES if (folder / name).is_file()]
    cache = folder / "__pycache__"
    compiled = [path for name in FILES for path in cache.glob(f"{Path(name).stem}.*.pyc")]
    try:
        for path in (*found, *compiled):
            path.unlink()
        for emptied in (cache, folder):
            if emptied.is_dir() and not any(emptied.iterdir()):
                emptied.rmdir()
    except OSError as err:
        raise DawError(
            f"{folder} cannot be removed: {err.strerror or err}", hint="quit Live, then try again"
        ) from err
    return [f"the control surface {SCRIPT_NAME} is no longer in {folder.parent}"] if found else []


def examine(library: Path | None = None) -> Iterator[Check]:
    """Yield what works between Redrum and Live, and what does not, each failure with its cure."""
    try:
        folder = _script_folder(library)
    except DawError as err:
        yield Check(name="User Library", status="failed", found=err.message, cure=err.hint)
    else:
        yield Check(name="User Library", status="ok", found=str(folder.parents[1]))
        there = [_installed(folder / name) for name in FILES]
        if there == [_shipped(name) for name in FILES]:
            yield Check(name="Remote Script", status="ok", found=str(folder))
        else:
            what = "is of another version of Redrum" if any(there) else "is not installed"
            yield Check(
                name="Remote Script", status="failed", found=f"it {what}", cure="run `redrum live install`"
            )
    try:
        about = LiveSession.connect(timeout_s=5.0).look()
    except RedrumError as err:
        yield Check(name="Live", status="failed", found=err.message, cure=err.hint)
        return
    version = tuple(about["live"])
    yield Check(name="Live", status="ok", found=f"{'.'.join(map(str, version))} answers")
    if version < NEEDED_VERSION:
        old = LiveTooOld(version)
        yield Check(name="takes", status="failed", found=old.message, cure=old.hint)
    elif not about["set"]["path"]:
        new = SetNotSaved()
        yield Check(name="set", status="failed", found=new.message, cure=new.hint)
    else:
        yield Check(name="set", status="ok", found=about["set"]["path"])


def summary() -> Check:
    """Return the checks of `examine` as one: absent where the Remote Script is not installed."""
    name, library = "Ableton Live", user_library()
    scripts = library / "Remote Scripts" / SCRIPT_NAME if library else None
    if scripts is None or not any(_installed(scripts / name) for name in FILES):
        found = "its Remote Script is not installed" if library else "there is no User Library of Live"
        return Check(name=name, status="absent", found=found, cure="if you use Live: `redrum live install`")
    checks = list(examine(library))
    failed = next((check for check in checks if check.status == "failed"), None)
    if failed is None:
        return replace(checks[2], name=name)
    if failed.name in ("User Library", "Remote Script"):
        return replace(failed, name=name, found=f"{failed.name}: {failed.found}")
    # That Live does not run just now is no fault of this machine.
    return replace(failed, name=name, status="ok", found=f"Remote Script installed; {failed.found}")


def _script_folder(library: Path | None) -> Path:
    found = library or user_library()
    if found is None or not found.is_dir():
        what = f"there is no folder {found}" if found else "Live's User Library is not found"
        raise DawError(what, hint=f"start Live once, or {_LIBRARY_OPTION}")
    folder = found / "Remote Scripts" / SCRIPT_NAME
    for place in (folder, folder / "__pycache__"):
        if is_link(place):
            raise DawError(
                f"{place} is a link: what it leads to is not changed",
                hint="remove the link, then run the same command again",
            )
    return folder


def _shipped(name: str) -> bytes:
    return importlib.resources.files("daw_bridge").joinpath("live", "redrum_live", name).read_bytes()


def _installed(path: Path) -> bytes:
    try:
        return path.read_bytes() if path.is_file() else b""
    except OSError:
        return b""


def _libraries() -> Iterator[Path]:
    """Yield the User Libraries of all Lives that are there, the newest settings first."""
    for place in (*_named_libraries(), _usual_library()):
        if place is not None and place.is_dir():
            yield place


def _usual_library() -> Path | None:
    """Return where Live makes its User Library, None on systems that have no Live."""
    if sys.platform == "darwin":
        return Path.home() / "Music" / "Ableton" / "User Library"
    if sys.platform == "win32":
        return user_documents_path() / "Ableton" / "User Library"
    return None


def _named_libraries() -> Iterator[Path]:
    """Yield the User Libraries that the settings of the installed Lives name, the newest settings first."""
    if sys.platform == "darwin":
        settings = list((Path.home() / "Library" / "Preferences" / "Ableton").glob("Live */Library.cfg"))
    else:
        roaming = Path(os.environ.get("APPDATA", "")) if sys.platform == "win32" else None
        settings = list((roaming / "Ableton").glob("Live */Preferences/Library.cfg")) if roaming else []
    for path in sorted(settings, key=lambda path: path.stat().st_mtime, reverse=True):
        library = library_in(path.read_text(encoding="utf-8", errors="replace"))
        if library is not None:
            yield library


def library_in(settings: str) -> Path | None:
    """Return the User Library that the text of a Library.cfg names."""
    found = {key: re.search(rf'<{key} Value="([^"]+)"', settings) for key in ("ProjectPath", "ProjectName")}
    if not found["ProjectPath"] or not found["ProjectName"]:
        return None
    return Path(unescape(found["ProjectPath"].group(1)), unescape(found["ProjectName"].group(1)))
