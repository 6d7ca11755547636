"""What a batch has made, a line each, in `manifest.jsonl`: a stopped batch loses and repeats nothing.

A result is finished in a hidden folder first. Then its line is written, and only then does it appear in its
place: a line without its result says where the finished file lies, and the next run moves it.
"""

import errno
import hashlib
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from transform.errors import OutputError
from transform.files import publish

MANIFEST = "manifest.jsonl"
STAGING = ".redrum-batch"
SCHEMA = 1

Entry = Mapping[str, Any]

_log = logging.getLogger(__name__)


def sha256_of(path: Path) -> str:
    """Return the hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Finished:
    """A file that is whole, where it lies, and where it shall appear."""

    staged: Path
    path: Path
    sha256: str


class Manifest:
    """The manifest of a folder, which one batch at a time may write.

    Use it in a `with` statement.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.staging = folder / STAGING
        self._file: IO[bytes] | None = None
        self._done: dict[str, Entry] = {}

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Return the manifest of a folder, to be read only; where there is none, it is empty."""
        manifest = cls(folder)
        path = folder / MANIFEST
        if path.is_file():
            manifest._take(path.read_bytes())
        return manifest

    def __enter__(self) -> Self:
        """Take the folder, and finish what a killed batch left.

        Raises:
            OutputError: another batch is writing there.
        """
        self.staging.mkdir(parents=True, exist_ok=True)
        self._file = (self.folder / MANIFEST).open("a+b", buffering=0)  # a full disk is noticed at once
        try:
            self._lock()
            self._settle(self._file)
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            self._settle(self._file)  # it may have been interrupted between a line and its files
            is_empty = self._file.seek(0, os.SEEK_END) == 0
        finally:
            self._file.close()
        shutil.rmtree(self.staging, ignore_errors=True)
        if is_empty:  # a batch that came to nothing leaves nothing
            (self.folder / MANIFEST).unlink(missing_ok=True)

    def made(self, output: Path) -> Entry | None:
        """Return the line of a result that lies unchanged where it was put, or else None."""
        entry = self._done.get(self._name(output))
        try:
            is_unchanged = entry is not None and sha256_of(output) == entry["output_sha256"]
        except OSError:  # it is not there, or no longer
            is_unchanged = False
        return entry if is_unchanged else None

    @property
    def outputs(self) -> list[Path]:
        """Where the results were put."""
        return [self.folder / name for name in self._done]

    @property
    def entries(self) -> list[Entry]:
        """The last line of every result."""
        return list(self._done.values())

    def add(self, entry: Mapping[str, Any], finished: list[Finished], *, overwrite: bool) -> None:
        """Write the line of a result and let its files appear, the result itself last.

        Raises:
            OutputError: a place is taken and `overwrite` is not set, or it or the manifest cannot be written.
        """
        name = self._name(finished[-1].path)
        line = {
            "status": "done",
            "output": name,
            "output_sha256": finished[-1].sha256,
            "finished": [
                {"staged": file.staged.name, "path": self._name(file.path), "sha256": file.sha256}
                for file in finished
            ],
            "overwrite": overwrite,
            **entry,
        }
        self._write(line)
        self._done[name] = line
        try:
            for file in finished:
                publish(file.staged, file.path, overwrite=overwrite)
        except OutputError:
            for file in finished:
                file.staged.unlink(missing_ok=True)
            raise

    def add_failure(self, output: Path, entry: Mapping[str, Any]) -> None:
        """Write down why there is no result."""
        self._write({"status": "failed", "output": self._name(output)} | dict(entry))

    def _write(self, entry: Mapping[str, Any]) -> None:
        assert self._file is not None
        line = json.dumps({"schema": SCHEMA, **entry}, ensure_ascii=False).encode() + b"\n"
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

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix()

    def _settle(self, file: IO[bytes]) -> None:
        """Read the lines, remove one that was cut off, and let all appear that they tell of."""
        file.seek(0)
        self._done.clear()
        file.truncate(self._take(file.read()))
        self._recover()

    def _take(self, data: bytes) -> int:
        """Read lines, and return how many bytes of them are whole: a killed batch may have cut the last one."""
        whole = data.rfind(b"\n") + 1
        for line in data[:whole].splitlines():
            try:
                entry = json.loads(line)
                if entry["status"] == "done":
                    _require_whole(entry)
                    self._done[entry["output"]] = entry
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                _log.warning("%s has a line that no batch wrote; it is left alone", self.folder / MANIFEST)
        return whole

    def _recover(self) -> None:
        """Let finished files appear whose line was written just before a batch was killed."""
        for entry in self._done.values():
            for file in entry["finished"]:
                staged, path = self.staging / Path(file["staged"]).name, self.folder / file["path"]
                try:
                    if staged.is_file() and not (path.is_file() and sha256_of(path) == file["sha256"]):
                        publish(staged, path, overwrite=entry["overwrite"])
                except (OutputError, OSError) as err:
                    _log.warning("%s", err)
        for path in self.staging.iterdir():
            path.unlink()

    def _lock(self) -> None:
        """Take the lock of the file, which ends with this process, however it ends."""
        assert self._file is not None
        try:
            if sys.platform == "win32":
                import msvcrt

                self._file.seek(2**30)  # far behind what others read
                msvcrt.locking(self._file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as err:
            raise OutputError(
                f"another batch is writing to {self.folder}", hint="wait for it, or choose another --out"
            ) from err


def _require_whole(entry: Entry) -> None:
    """Raise an error unless the line of a result says what `Manifest.add` wrote: it may have been damaged."""
    files = entry["finished"]
    texts = [entry["output"], entry["output_sha256"], entry["key"]]
    texts += [file[name] for file in files for name in ("staged", "path", "sha256")]
    if not all(isinstance(text, str) and "\0" not in text for text in texts):
        raise ValueError("no text")
    for name in (entry["output"], *(file["path"] for file in files)):
        os.fsencode(name)
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise ValueError("a result outside the folder")
    if not isinstance(entry["overwrite"], bool) or not isinstance(entry.get("report", {}), dict):
        raise ValueError("no report")
