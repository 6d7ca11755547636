"""A folder in which no link is followed: what a stranger put into it leads nowhere else.

Archives and clones carry links. Every part of a name below the folder is opened from the folder down, without
following a link (openat with O_NOFOLLOW), so nothing can be exchanged on the way. Windows has no such calls:
there each part is examined before it is used, junctions included, and only an exchange in the instant between
is possible. The folder itself is the user's choice, and may be a link.
"""

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedWriter, FileIO, TextIOWrapper
from pathlib import Path
from typing import TextIO

from transform.files import move

_HAS_DIR_FD = {os.open, os.mkdir, os.unlink, os.rmdir, os.rename, os.link} <= os.supports_dir_fd
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOINHERIT", 0)
_FILE = _NO_FOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # opening a FIFO must not wait
_FOLDER = _NO_FOLLOW | os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
# Reparse points of Windows that lead elsewhere, symbolic links and junctions; files of OneDrive are others.
_LEADING_ELSEWHERE = (0xA000000C, 0xA0000003)


def is_link(path: Path) -> bool:
    """Return whether what lies at a path is a symbolic link, or a junction of Windows."""
    try:
        return _leads_elsewhere(os.lstat(path))
    except OSError:
        return False


class ConfinedFolder:
    """A folder whose files are named by what lies below it, with `/` between the parts.

    Every method raises OSError where a part of the name is a link, or no folder, and ValueError for a name that
    leads out of the folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self, name: str, mode: str = "r", flags: int = os.O_RDONLY) -> FileIO:
        """Open the bytes of a plain file, unbuffered. What else lies there, a FIFO or a device, is an OSError.

        Args:
            name: of the file.
            mode: of `FileIO`.
            flags: as of `os.open`; with O_CREAT the file may be made, readable to all whom the umask lets.
        """
        with self._at(name) as (path, dir_fd):
            if not _HAS_DIR_FD and is_link(Path(path)):
                raise _no_way(name)
            try:
                handle = os.open(path, flags | _FILE, 0o666, dir_fd=dir_fd)
            except OSError as err:
                raise (_no_way(name) if err.errno == errno.ELOOP else err) from err
        try:
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                raise OSError(errno.EINVAL, "it is no plain file", str(self.folder / name))
            return FileIO(handle, mode)
        except BaseException:
            os.close(handle)
            raise

    def append(self, name: str) -> TextIO:
        """Open a text file, in UTF-8, at whose end lines are added; it is made where it is missing."""
        raw = self.open(name, "a", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        return TextIOWrapper(BufferedWriter(raw), encoding="utf-8")

    def status(self, name: str) -> os.stat_result | None:
        """Return `os.lstat` of a name, None where nothing lies there."""
        try:
            with self._at(name) as (path, dir_fd):
                return os.stat(path, dir_fd=dir_fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def sha256(self, name: str) -> str | None:
        """Return the hash of a plain file, None where there is none that can be read."""
        try:
            with self.open(name) as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return None

    def names(self, name: str) -> list[str]:
        """Return the names in the folder that is called `name`, none where there is no such folder."""
        try:
            with self._at(f"{name}/-") as (path, dir_fd):
                return os.listdir(os.path.dirname(path) if dir_fd is None else dir_fd)
        except OSError:
            return []

    def make_folder(self, name: str) -> None:
        """Make a folder for this user alone, where nothing lies yet."""
        with self._at(name) as (path, dir_fd):
            os.mkdir(path, 0o700, dir_fd=dir_fd)

    def remove(self, name: str) -> None:
        """Remove a plain file, if there is one."""
        found = self.status(name)
        if found is not None and stat.S_ISREG(found.st_mode):
            with self._at(name) as (path, dir_fd):
                os.unlink(path, dir_fd=dir_fd)

    def remove_folder(self, name: str) -> None:
        """Remove a folder if it is there and empty."""
        with suppress(OSError), self._at(name) as (path, dir_fd):
            os.rmdir(path, dir_fd=dir_fd)

    def move(self, name: str, new: str, *, overwrite: bool) -> None:
        """Move a file to another name, where it appears whole or not at all; folders on the way are made.

        Raises:
            FileExistsError: something lies there, and `overwrite` is not set. A link there is replaced, never
                followed.
        """
        with self._at(name) as (source, source_fd), self._at(new, make=True) as (target, target_fd):
            move(source, target, overwrite=overwrite, source_dir_fd=source_fd, target_dir_fd=target_fd)

    def check(self, name: str) -> None:
        """Raise OSError if a part of the way to a name is a link or no folder. What is missing may be made."""
        with suppress(FileNotFoundError), self._at(name):
            pass

    @contextmanager
    def _at(self, name: str, *, make: bool = False) -> Iterator[tuple[str, int | None]]:
        """Yield the path and `dir_fd` by which calls of `os` reach a name."""
        *folders, last = parts_below(name)
        try:
            if _HAS_DIR_FD:
                with self._opened(folders, make) as dir_fd:
                    yield last, dir_fd
            else:
                yield str(self._examined(folders, make) / last), None
        except OSError as err:
            err.filename = str(self.folder / name)  # not what lies in the folder that is open
            raise

    @contextmanager
    def _opened(self, folders: list[str], make: bool) -> Iterator[int]:
        """Yield a folder below this one, opened part by part."""
        handle = os.open(self.folder, _FOLDER & ~getattr(os, "O_NOFOLLOW", 0))
        try:
            for part in folders:
                if make:
                    with suppress(FileExistsError):
                        os.mkdir(part, dir_fd=handle)
                try:
                    below = os.open(part, _FOLDER, dir_fd=handle)
                except OSError as err:
                    if err.errno in (errno.ELOOP, errno.ENOTDIR):
                        raise _no_way(part) from err
                    raise
                os.close(handle)
                handle = below
            yield handle
        finally:
            os.close(handle)

    def _examined(self, folders: list[str], make: bool) -> Path:
        """Return the path of a folder below this one, each part of which has been examined."""
        path = self.folder
        for part in folders:
            path /= part
            if make:
                with suppress(FileExistsError):
                    path.mkdir()
            found = os.lstat(path)
            if _leads_elsewhere(found) or not stat.S_ISDIR(found.st_mode):
                raise _no_way(part)
        return path


def parts_below(name: str) -> list[str]:
    """Return the parts of a name below a folder; ValueError for a name that leads elsewhere, or is none."""
    parts = name.split("/")
    foreign = "\0" if os.name != "nt" else '\0\\:*?"<>|'
    if any(part in ("", ".", "..") or set(part) & set(foreign) for part in parts):
        raise ValueError(f"{name!r} names no file below a folder")
    return parts


def _no_way(part: str) -> OSError:
    return OSError(errno.ELOOP, f"{part} is a link or no folder, and links are not followed")


def _leads_elsewhere(found: os.stat_result) -> bool:
    return stat.S_ISLNK(found.st_mode) or getattr(found, "st_reparse_tag", 0) in _LEADING_ELSEWHERE
