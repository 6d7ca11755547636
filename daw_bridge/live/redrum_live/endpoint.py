"""The endpoint file: where a program of Redrum's listens on this machine, and the token that it knows.

Who can read it can send the program requests, so it is for its user only; and who can write it could direct
Redrum to a program of theirs, so it is read only where no other user can have put it. A file that was left
behind is harmless: another program that listens there by now cannot prove that it knows the token.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import time
from contextlib import suppress
from typing import Any

from .handshake import SCHEMA

__all__ = [
    "UnsafeFile",
    "endpoint_path",
    "make_folder",
    "open_private",
    "read_endpoint",
    "remove_endpoint",
    "write_endpoint",
]

_MOST_BYTES = 4096
_REPARSE_POINT = 0x400  # an attribute of links and the like on Windows
_PLAIN = sum(
    getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY", "O_NOINHERIT")
)
_TRIES = 10  # to replace a file while another program reads it, which Windows refuses
_RETRY_S = 0.05


class UnsafeFile(OSError):
    """A file that another user may have put there, or may read."""


def endpoint_path(program: str) -> str:
    """Return the endpoint file of this user's "live" or "reaper"; no setting moves it, as these have none."""
    if sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~\\AppData\\Local")
    elif sys.platform == "darwin":
        folder = os.path.expanduser("~/Library/Application Support")
    else:
        folder = os.path.expanduser("~/.local/share")
    return os.path.join(folder, "redrum", program + ".json")


def read_endpoint(path: str) -> dict[str, Any] | None:
    """Return the contents of an endpoint file, None where there is none or they make no sense.

    Only `schema` is sure to be there where it is not SCHEMA.

    Raises:
        UnsafeFile: it is a link or no file, belongs to another user, or others may read or write it.
        OSError: it cannot be read.
    """
    try:
        with os.fdopen(open_private(path), "rb") as file:
            found = json.loads(file.read(_MOST_BYTES).decode("utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or type(found.get("schema")) is not int:
        return None
    port, token = found.get("port"), found.get("token")
    is_whole = type(port) is int and 0 < port < 2**16 and type(token) is str and 32 <= len(token) <= 128
    return found if is_whole or found["schema"] != SCHEMA else None


def write_endpoint(path: str, port: int, token: str, **more: Any) -> None:
    """Write an endpoint file whole, for this user only.

    Raises:
        UnsafeFile: another user's folder, or a link of theirs, is in its place.
        OSError: it cannot be written, or not be read then.
    """
    endpoint = {"schema": SCHEMA, "port": port, "token": token, "pid": os.getpid()}
    endpoint.update(more)
    make_folder(os.path.dirname(path))
    temporary = path + "." + os.urandom(8).hex()
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _PLAIN, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(endpoint, file)
        _replace(temporary, path)
    finally:
        with suppress(OSError):
            os.remove(temporary)
    if read_endpoint(path) != endpoint:
        raise OSError(path + " cannot be read back")


def remove_endpoint(path: str, token: str) -> None:
    """Remove an endpoint file, unless it is by now another program's."""
    with suppress(OSError):
        if (read_endpoint(path) or {}).get("token") == token:
            os.remove(path)


def open_private(path: str, *, is_made: bool = False) -> int:
    """Return the descriptor of a file that is this user's alone.

    Windows keeps others out of the folders of a user's profile; whose a file is, Python cannot tell there.

    Args:
        path: the file.
        is_made: whether it is made if it is not there, and closed to others if it is not yet.

    Raises:
        UnsafeFile: it is a link or no file, belongs to another user, or others may read or write it.
        OSError: it cannot be opened.
    """
    if os.path.lexists(path) and _is_link(os.lstat(path)):  # not all systems know O_NOFOLLOW
        raise UnsafeFile(path + " is a link")
    flags = os.O_RDWR | os.O_CREAT | _PLAIN if is_made else os.O_RDONLY | _PLAIN
    handle = os.open(path, flags, 0o600)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise UnsafeFile(path + " is not a file")
        if sys.platform != "win32":
            if found.st_uid != os.getuid():
                raise UnsafeFile(path + " belongs to somebody else")
            if is_made:
                os.fchmod(handle, 0o600)
            elif found.st_mode & 0o077:
                raise UnsafeFile(path + " can be read or written by others")
    except BaseException:
        os.close(handle)
        raise
    return handle


def _is_link(found: os.stat_result) -> bool:
    return stat.S_ISLNK(found.st_mode) or bool(getattr(found, "st_file_attributes", 0) & _REPARSE_POINT)


def make_folder(folder: str) -> None:
    """Make a folder for this user only, unless it is there; a link in its place must be the user's own."""
    os.makedirs(folder, mode=0o700, exist_ok=True)
    found = os.lstat(folder)
    if sys.platform != "win32" and _is_link(found) and found.st_uid not in (0, os.getuid()):
        raise UnsafeFile(folder + " is a link of somebody else")


def _replace(temporary: str, path: str) -> None:
    for is_last in (*[False] * _TRIES, True):
        try:
            os.replace(temporary, path)
            return
        except PermissionError:
            if is_last or sys.platform != "win32":
                raise
            time.sleep(_RETRY_S)
