"""Results on disk: atomic writes of files and folders, which replace nothing unless that is requested."""

import errno
import hashlib
import logging
import os
import secrets
import shutil
import stat
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path

from transform.errors import ExistsError, OutputError
from transform.names import LONGEST_NAME

StrPath = str | os.PathLike[str]

_BLOCK_BYTES = 2**20
_log = logging.getLogger(__name__)


def open_plain(path: Path) -> BufferedReader:
    """Open a file by anybody for reading.

    Raises:
        OSError: it cannot be opened, or is a device, or a pipe, for which one could wait for ever.
    """

    def opened(name: str, flags: int) -> int:
        handle = os.open(name, flags | getattr(os, "O_NONBLOCK", 0))
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        return handle

    return open(path, "rb", opener=opened)


def native_path(path: Path) -> str | bytes:
    """Return a path as libraries in C take it: a name that is not UTF-8 only as the bytes that it is."""
    return str(path) if os.name == "nt" else os.fsencode(path)


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with open_plain(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_output(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError if nothing could be written at `path`, before any work is done for it."""
    n_bytes = len(os.fsencode(path.name))
    if n_bytes > LONGEST_NAME and os.name != "nt":  # which counts characters
        raise OutputError(
            f"{path.name[:40]}... would be a name of {n_bytes} bytes; a file has {LONGEST_NAME} at most",
            hint="give the result a shorter name, or the recording that it is called after",
        )
    if path.is_dir():
        raise OutputError(f"{path} is a folder", hint="name a file in it")
    if os.path.lexists(path) and not overwrite:
        raise ExistsError(path)
    _check_place(path)


def check_output_folder(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError if no folder could be made at `path`, before any work is done for it.

    An empty folder is in nobody's way. Whether a full one may be replaced is for the caller to decide.
    """
    if path.is_dir():
        if any(path.iterdir()) and not overwrite:
            raise ExistsError(path)
    elif os.path.lexists(path):
        raise OutputError(f"{path} is not a folder", hint="choose another folder")
    _check_place(path)


def _check_place(path: Path) -> None:
    folder = path.absolute().parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir():
        raise OutputError(f"{folder} is not a folder", hint="choose another place for the result")
    try:
        _make_and_remove_file(folder)
    except OSError as err:
        raise _unwritable(path, err) from err


def _make_and_remove_file(folder: Path) -> None:
    """Raise OSError if no file can be made in a folder.

    Permission bits mean little on network drives, Windows and for root; a file made there proves it. Where the
    system can, it has no name, or goes with its handle, so a kill leaves nothing.
    """
    if hasattr(os, "O_TMPFILE"):
        try:
            os.close(os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600))
            return
        except OSError as err:
            if err.errno not in (errno.EOPNOTSUPP, errno.EISDIR):  # this file system has none
                raise
    path = _temporary_path(folder)
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_TEMPORARY", 0), 0o600))
    path.unlink(missing_ok=True)


def read_bytes(path: Path, *, most: int) -> bytes:
    """Return the bytes of a file by anybody.

    Raises:
        OSError: it cannot be read.
        ValueError: they are more than `most`.
    """
    blocks: list[bytes] = []
    left = most
    with open_plain(path) as file:
        while block := file.read(_BLOCK_BYTES):  # not by its size, which files of a system lack
            blocks.append(block)
            left -= len(block)
            if left < 0:
                raise ValueError(f"it has more than {most / 1e6:,.3g} MB")
    return b"".join(blocks)


def write_bytes_atomic(path: Path, data: bytes, *, overwrite: bool = False) -> None:
    """Write a file that appears whole or not at all.

    Raises:
        OutputError: the file exists and `overwrite` is not set, or it cannot be written.
    """
    with atomic_file(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(data)


def write_text_atomic(path: Path, data: str, *, overwrite: bool = False) -> None:
    """Write a text file, in UTF-8 and with the line ends as given, that appears whole or not at all.

    Raises:
        OutputError: the file exists and `overwrite` is not set, or it cannot be written.
    """
    write_bytes_atomic(path, data.encode("utf-8"), overwrite=overwrite)


@contextmanager
def atomic_file(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty temporary file beside `path` that becomes `path` if the block ends well, else vanishes.

    Folders on the way are made. An OSError in the block becomes an OutputError.
    """
    with atomic_files([path], overwrite=overwrite) as (temporary,):
        yield temporary


@contextmanager
def atomic_files(paths: Sequence[Path], *, overwrite: bool) -> Iterator[list[Path]]:
    """Yield an empty temporary file for each path; all of them appear if the block ends well, else none.

    None appears before all of them are safely on the disk. Else as `atomic_file`.
    """
    for path in paths:
        check_output(path, overwrite=overwrite)
    with ExitStack() as undo:
        path = paths[0]
        try:
            temporaries = []
            for path in paths:
                path.parent.mkdir(parents=True, exist_ok=True)
                temporaries.append(undo.enter_context(temporary_file(path)))
            path = paths[0]
            yield temporaries
            for temporary in temporaries:
                with temporary.open("rb+") as file:
                    os.fsync(file.fileno())
            with ExitStack() as published:
                for path, temporary in zip(paths, temporaries, strict=True):
                    move(temporary, path, overwrite=overwrite)
                    if not overwrite:
                        published.callback(path.unlink, missing_ok=True)
                published.pop_all()
            for path in paths:
                _log.debug("%s is written", path)
        except FileExistsError as err:
            raise ExistsError(path) from err
        except OSError as err:
            raise _unwritable(path, err) from err


@contextmanager
def atomic_folder(path: Path, *, overwrite: bool) -> Iterator[Path]:
    """Yield an empty temporary folder beside `path` that becomes `path` if the block ends well, else vanishes.

    With `overwrite` it takes the place of a full folder, all of which is lost.
    """
    check_output_folder(path, overwrite=overwrite)
    target = path.resolve()  # a link to a folder stays
    temporary = _temporary_path(target.parent)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        _publish_folder(temporary, target, overwrite=overwrite)
    except OSError as err:
        raise _unwritable(path, err) from err
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def temporary_file(path: Path) -> Iterator[Path]:
    """Yield an empty file beside `path` that is gone afterwards; errors name `path`."""
    temporary = _temporary_path(path.parent)
    try:
        try:
            temporary.open("xb").close()
        except OSError as err:
            raise _unwritable(path, err) from err
        yield temporary
    finally:
        try:
            temporary.unlink(missing_ok=True)
        except OSError as err:  # the folder may no longer be written to, which has been reported already
            _log.warning("%s is left behind: %s", temporary, err)


def move(
    source: StrPath,
    target: StrPath,
    *,
    overwrite: bool,
    source_dir_fd: int | None = None,
    target_dir_fd: int | None = None,
) -> None:
    """Move a file of the same disk to its place, where it appears whole or not at all.

    Args:
        source: a plain file.
        target: where it shall appear. A link there is replaced, never followed.
        overwrite: replace what lies there.
        source_dir_fd: an open folder that `source` lies in; None: the current one.
        target_dir_fd: the same of `target`.

    Raises:
        FileExistsError: something lies there, and `overwrite` is not set.
    """
    if not overwrite:
        try:
            # Unlike a rename, this fails where another process has just made the file.
            if source_dir_fd is None:
                os.link(source, target)
            else:
                both = {"src_dir_fd": source_dir_fd, "dst_dir_fd": target_dir_fd}
                os.link(source, target, **both, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError:  # a file system without hard links: claim the name first
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666, dir_fd=target_dir_fd))
            try:
                os.replace(source, target, src_dir_fd=source_dir_fd, dst_dir_fd=target_dir_fd)
            except BaseException:
                os.unlink(target, dir_fd=target_dir_fd)
                raise
        else:
            os.unlink(source, dir_fd=source_dir_fd)
        return
    os.replace(source, target, src_dir_fd=source_dir_fd, dst_dir_fd=target_dir_fd)


def _publish_folder(temporary: Path, path: Path, *, overwrite: bool) -> None:
    if not path.exists():
        os.rename(temporary, path)
    elif not overwrite:
        path.rmdir()  # fails where another process has just put something into it
        os.rename(temporary, path)
    else:
        replaced = temporary.with_suffix(".old")
        os.rename(path, replaced)
        try:
            os.rename(temporary, path)
        except BaseException:
            os.rename(replaced, path)
            raise
        shutil.rmtree(replaced, ignore_errors=True)


def _temporary_path(folder: Path) -> Path:
    """Return a free name in a folder; not made of the result's, which may be as long as a name can be."""
    return folder / f".redrum-{secrets.token_hex(8)}.part"


def _unwritable(path: Path, err: OSError) -> OutputError:
    hint = "choose a folder you can write to"
    if err.errno == errno.ENOSPC:
        hint = "make room on its disk, then try again"
    return OutputError(f"{path} cannot be written: {err.strerror or err}", hint=hint)
