"""What a batch has made, a line each, in `manifest.jsonl`: a stopped batch loses and repeats nothing.

A result is finished in a hidden folder first. Then its line is written, and only then is it moved to its place:
a line without its result names the finished file, and the next run moves it.

What lies in the folder of the results may be a stranger's: archives and clones carry such folders. So no link
is followed in it, and a manifest that is not all ours is refused and left as it is. Each batch works in a
folder of its own in the hidden one. Of what lies in the hidden folder itself, where 0.1.0 worked, only files
are moved or removed whose hash a line states; in the folders of batches also what is unfinished goes, by name.
"""

import errno
import json
import logging
import os
import re
import secrets
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from daw_bridge.file_lock import lock_file
from transform.confined import ConfinedFolder, parts_below
from transform.errors import ExistsError, OutputError

MANIFEST = "manifest.jsonl"
STAGING = ".redrum-batch"
SCHEMA = 1

Entry = Mapping[str, Any]

_MOST_BYTES, _MOST_LINE_BYTES = 2**28, 2**20  # of a manifest: more than a hundred thousand results
_LONGEST_TEXT = 20_000  # characters of why there is no result, so that the line stays below that
_REPORT: dict[str, type | tuple[type, ...]] = {  # what is shown of a report is of these kinds
    "engine": str,
    "bit_depth": str,
    "duration_s": (int, float),
    "sample_rate": int,
    "channels": int,
    "notes": list,
}
_BEGIN = b'{"schema": 1, "status": "'  # of every line
_STAGED = re.compile(r"([0-9a-f]{32}/)?[0-9a-f]{16}(\.wav|\.png|\.mid)")  # without a folder in lines of 0.1.0
_UNFINISHED = re.compile(r"[0-9a-f]{16}(\.wav|\.png|\.mid)|\.redrum-[0-9a-f]{16}\.part")
_BATCH = re.compile(r"[0-9a-f]{32}")
_HASH = re.compile(r"[0-9a-f]{64}")
_NO_MANIFEST = (errno.ELOOP, errno.EINVAL, errno.EISDIR, errno.ENXIO)  # a link, or no plain file
_HINT = "choose another --out, or move it away if you do not need it"

_log = logging.getLogger(__name__)


def staged_path(staging: Path, suffix: str) -> Path:
    """Return a free name in a staging folder; `suffix` is `.wav`, `.png` or `.mid`."""
    return staging / f"{secrets.token_hex(8)}{suffix}"


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A file that is whole, where it lies, and where it is to be published."""

    staged: Path
    path: Path
    sha256: str


class Manifest:
    """The manifest of a folder, which one batch at a time may write.

    Use it in a `with` statement.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = ConfinedFolder(folder)
        self._file: FileIO | None = None
        self._is_new = False
        self._done: dict[str, Entry] = {}
        self._left: dict[str, str] = {}  # hash of every file that a batch left, also of those it makes no more

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the manifest of a folder, to be read only; where there is none, it is empty.

        Raises:
            OutputError: it is not all ours, or cannot be read.
        """
        manifest = cls(folder)
        try:
            with manifest._files.open(MANIFEST) as file:
                manifest._take(file)
        except OSError as err:
            if err.errno in _NO_MANIFEST:
                raise manifest._refused(err) from err
            if err.errno not in (errno.ENOENT, errno.ENOTDIR):  # writing there fails with the reason
                raise
        return manifest

    def __enter__(self) -> Self:
        """Take the folder, and finish what a killed batch left.

        Raises:
            OutputError: another batch is writing there, or its manifest or hidden folder is not ours.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._is_new = self._files.status(MANIFEST) is None
        try:
            self._file = self._files.open(MANIFEST, "r+", os.O_RDWR | os.O_APPEND | os.O_CREAT)
        except OSError as err:
            raise (self._refused(err) if err.errno in _NO_MANIFEST else err) from err
        try:
            self._lock()
            self._settle(self._file)
            self._check_staging()
        except BaseException:
            self._close(self._file)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            self._settle(self._file)  # it may have been interrupted between a line and its files
        finally:
            self._close(self._file)

    def begin(self) -> Path:
        """Return the folder in which results are finished; it is this batch's alone.

        Raises:
            OutputError: it cannot be made.
        """
        batch = secrets.token_hex(16)
        try:
            with suppress(FileExistsError):
                self._files.make_folder(STAGING)
            self._files.make_folder(f"{STAGING}/{batch}")
        except OSError as err:
            raise _unwritable(self.folder, err) from err
        return self.folder / STAGING / batch

    def check(self, output: Path) -> None:
        """Raise OutputError for a result that could not be published, as the way to it is a link."""
        try:
            self._files.check(self._name(output))
        except OSError as err:
            raise _unwritable(output, err) from err

    def made(self, output: Path) -> Entry | None:
        """Return the line of a result that lies unchanged where it was put, or else None."""
        name = self._name(output)
        entry = self._done.get(name)
        is_unchanged = entry is not None and self._files.sha256(name) == entry["output_sha256"]
        return entry if is_unchanged else None

    def is_unchanged(self, path: Path) -> bool:
        """Return whether a file, a result or one beside it, is as a batch last left it."""
        name = self._name(path)
        return name in self._left and self._files.sha256(name) == self._left[name]

    @property
    def outputs(self) -> list[Path]:
        """Where the results and what is beside them were put; not what lies behind a link by now."""
        return [self.folder / name for name in self._left if self._lies_there(name)]

    @property
    def entries(self) -> list[Entry]:
        """The last line of every result."""
        return list(self._done.values())

    def add(self, entry: Mapping[str, Any], finished: list[Finished], *, overwrite: bool) -> None:
        """Write the line of a result and publish its files, the result itself last.

        Raises:
            OutputError: a place is taken and `overwrite` is not set, or it or the manifest cannot be written.
        """
        name = self._name(finished[-1].path)
        files = [
            {
                "staged": file.staged.relative_to(file.staged.parent.parent).as_posix(),
                "path": self._name(file.path),
                "sha256": file.sha256,
                "replaces": self._files.sha256(self._name(file.path)) if overwrite else None,
            }
            for file in finished
        ]
        line = {
            "status": "done",
            "output": name,
            "output_sha256": finished[-1].sha256,
            "finished": files,
            "overwrite": overwrite,
            **entry,
        }
        self._write(line)
        self._remember(line)
        published: list[str] = []
        try:
            for about, file in zip(files, finished, strict=True):
                self._publish(f"{STAGING}/{about['staged']}", file.path, overwrite=overwrite)
                published.append(self._name(file.path))
        except OutputError:
            for about in files:
                self._files.remove(f"{STAGING}/{about['staged']}")
            for made in () if overwrite else published:  # all files of a result or none
                self._files.remove(made)
            raise

    def add_failure(self, output: Path, entry: Mapping[str, str]) -> None:
        """Write down why there is no result.

        Raises:
            OutputError: the manifest cannot be written.
        """
        why = {name: text[:_LONGEST_TEXT] for name, text in entry.items()}
        self._write({"status": "failed", "output": self._name(output)} | why)

    def _publish(self, staged: str, path: Path, *, overwrite: bool) -> None:
        try:
            self._files.move(staged, self._name(path), overwrite=overwrite)
        except FileExistsError as err:
            raise ExistsError(path) from err
        except OSError as err:
            raise _unwritable(path, err) from err

    def _write(self, entry: Mapping[str, Any]) -> None:
        assert self._file is not None
        # What is no UTF-8 in the name of a file becomes an escape of JSON.
        text = json.dumps({"schema": SCHEMA, **entry}, ensure_ascii=False)
        line = text.encode("utf-8", "backslashreplace") + b"\n"
        end = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file.fileno())
        except OSError as err:
            self._file.truncate(end)  # a line that is cut off would spoil the next one
            raise OutputError(
                f"{self.folder / MANIFEST} cannot be written: {err.strerror or err}",
                hint="make room on its disk, then run the same command again",
            ) from err

    def _lies_there(self, name: str) -> bool:
        try:
            found = self._files.status(name)
        except OSError:  # behind a link
            return False
        return found is not None and stat.S_ISREG(found.st_mode)

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _settle(self, file: FileIO) -> None:
        """Read the lines, remove one that was cut off, and publish all files that they state."""
        end = self._take(file)
        if end < file.seek(0, os.SEEK_END):
            file.truncate(end)
        self._recover()

    def _take(self, file: FileIO) -> int:
        """Read lines, and return how many bytes of them are whole: a killed batch may have cut the last one.

        Raises:
            OutputError: they are not all ours.
        """
        self._done.clear()
        self._left.clear()
        path = self.folder / MANIFEST
        if os.fstat(file.fileno()).st_size > _MOST_BYTES:
            raise OutputError(f"{path} is larger than any that a batch writes", hint=_HINT)
        file.seek(0)
        data = file.read()
        whole = data.rfind(b"\n") + 1
        for number, line in enumerate(data[:whole].split(b"\n")[:-1], 1):
            try:
                _require(len(line) <= _MOST_LINE_BYTES)
                entry = _checked(json.loads(line, parse_constant=_refused_constant))
            except (ValueError, LookupError, TypeError, RecursionError) as err:
                _log.debug("the cause", exc_info=err)
                raise OutputError(f"{path} has a line that no batch wrote: line {number}", hint=_HINT) from err
            if entry["status"] == "done":
                self._remember(entry)
        rest = data[whole:]
        if rest and not (rest.startswith(_BEGIN) or (whole and _BEGIN.startswith(rest))):
            raise OutputError(f"{path} ends with a line that no batch wrote", hint=_HINT)
        return whole

    def _remember(self, entry: Entry) -> None:
        self._done[entry["output"]] = entry
        self._left |= {file["path"]: file["sha256"] for file in entry["finished"]}

    def _check_staging(self) -> None:
        found = self._files.status(STAGING)
        if found is not None and not stat.S_ISDIR(found.st_mode):
            raise OutputError(
                f"{self.folder / STAGING} is a link or no folder: no batch made it", hint="move it away"
            )
        try:
            self._files.check(f"{STAGING}/-")
        except OSError as err:  # a junction of Windows
            raise _unwritable(self.folder / STAGING, err) from err

    def _recover(self) -> None:
        """Publish finished files whose line was written just before a batch was killed, and clear up."""
        staged = set(self._files.names(STAGING))
        batches = [name for name in staged if _BATCH.fullmatch(name)]
        staged |= {f"{batch}/{name}" for batch in batches for name in self._files.names(f"{STAGING}/{batch}")}
        for entry in self._done.values():
            for file in entry["finished"]:
                if file["staged"] in staged:
                    self._recover_file(file, overwrite=entry["overwrite"])
        for batch in batches:
            for name in self._files.names(f"{STAGING}/{batch}"):
                if _UNFINISHED.fullmatch(name):
                    self._files.remove(f"{STAGING}/{batch}/{name}")
            self._files.remove_folder(f"{STAGING}/{batch}")
        self._files.remove_folder(STAGING)

    def _recover_file(self, file: Entry, *, overwrite: bool) -> None:
        """Move a finished file to its place unless something else came to lie there meanwhile."""
        staged = f"{STAGING}/{file['staged']}"
        if self._files.sha256(staged) != file["sha256"]:
            return  # another file under its name
        path = self.folder / file["path"]
        try:
            there = self._files.sha256(file["path"])
            is_replaced = overwrite and there is not None and there == file.get("replaces")
            if there != file["sha256"]:
                self._publish(staged, path, overwrite=is_replaced)
        except OutputError as err:
            _log.warning("%s", err)
        self._files.remove(staged)

    def _lock(self) -> None:
        """Take the lock of the file, which ends with this process, however it ends."""
        assert self._file is not None
        taken = OutputError(
            f"another batch is writing to {self.folder}", hint="wait for it, or choose another --out"
        )
        try:
            lock_file(self._file)
        except (BlockingIOError, PermissionError) as err:
            raise taken from err
        if not self._is_ours(self._file):
            raise taken  # it was removed by one that ended just now
        if os.fstat(self._file.fileno()).st_nlink > 1:
            raise OutputError(f"{self.folder / MANIFEST} is another file, too (a hard link)", hint=_HINT)

    def _close(self, file: FileIO) -> None:
        """Give the lock back; a batch that came to nothing leaves nothing."""
        is_empty = self._is_new and file.seek(0, os.SEEK_END) == 0
        try:
            if is_empty and self._is_ours(file) and sys.platform != "win32":
                self._files.remove(MANIFEST)  # no other batch can have begun to write it
        finally:
            file.close()
        if is_empty and sys.platform == "win32":  # which removes no open file, nor one that another has opened
            with suppress(OSError):
                self._files.remove(MANIFEST)

    def _is_ours(self, file: FileIO) -> bool:
        """Return whether an open file is still the one that lies there."""
        ours, there = os.fstat(file.fileno()), self._files.status(MANIFEST)
        return there is not None and (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)

    def _refused(self, err: OSError) -> OutputError:
        what = "a link, which is not followed" if err.errno == errno.ELOOP else "no plain file"
        return OutputError(f"{self.folder / MANIFEST} is {what}", hint=_HINT)


def _unwritable(path: Path, err: OSError) -> OutputError:
    return OutputError(
        f"{path} cannot be written: {err.strerror or err}", hint="choose a folder you can write to"
    )


def _checked(entry: Any) -> Entry:
    """Return a line if it is one that this module writes.

    Raises:
        ValueError, LookupError, TypeError: it does not.
    """
    if entry["schema"] != SCHEMA:
        raise ValueError("another schema")
    status = entry["status"]
    _require(status in ("done", "failed"))
    _require_below(entry["output"])
    if status == "failed":
        _require(isinstance(entry["error"], str))
        return dict(entry)
    _require(isinstance(entry["key"], str) and _HASH.fullmatch(entry["output_sha256"]))
    _require(entry["finished"][-1]["path"] == entry["output"])
    for file in entry["finished"]:
        staged = _STAGED.fullmatch(file["staged"])
        _require_below(file["path"])
        _require(staged and Path(file["path"]).suffix == staged[2])
        _require(_HASH.fullmatch(file["sha256"]))
        _require(file.get("replaces") is None or _HASH.fullmatch(file["replaces"]))
    report = entry.get("report", {})
    _require(isinstance(entry["overwrite"], bool) and isinstance(report, dict))
    _require(all(isinstance(report[name], kind) for name, kind in _REPORT.items() if name in report))
    return dict(entry)


def _refused_constant(name: str) -> None:
    """Refuse NaN and infinity, which JSON does not know."""
    raise ValueError(name)


def _require(holds: object) -> None:
    if not holds:
        raise ValueError("no batch wrote this")


def _require_below(name: Any) -> None:
    """Raise ValueError for the name of a result that would not lie below the folder, as one."""
    _require(isinstance(name, str))
    _require(parts_below(name)[0].casefold() != STAGING)
    os.fsencode(name)
