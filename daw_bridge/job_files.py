"""The files through which a job of an action talks with it: see `action_job`."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from transform.errors import OutputError
from transform.files import write_bytes_atomic

SCHEMA = 1  # of the files
_BEAT_S = 0.5
_OLD_S = 24 * 3600.0
_STAGES = {  # in words, and the fractions of an item that are done at its beginning and at its end
    "transcribe source": ("listening", 0.0, 0.2),
    "separate source": ("taking the drums apart", 0.2, 0.3),
    "cut kit": ("cutting the hits", 0.2, 0.3),
    "transcribe rhythm": ("listening to the rhythm", 0.3, 0.4),
    "render": ("rendering", 0.4, 1.0),
}


@dataclass(frozen=True)
class JobFiles:
    """The files of a job, named after the first."""

    job: Path

    @property
    def progress(self) -> Path:
        """Where the job writes how far it is."""
        return self.job.with_suffix(".progress.json")

    @property
    def result(self) -> Path:
        """Where the job writes its result."""
        return self.job.with_suffix(".result.json")

    @property
    def take(self) -> Path:
        """Where an editor writes a take that the action is to put into the project while it goes on."""
        return self.job.with_suffix(".take.json")

    @property
    def taken(self) -> Path:
        """Where the action writes what became of that take."""
        return self.job.with_suffix(".taken.json")

    @property
    def cancel(self) -> Path:
        """A file that is there if the job is to end."""
        return self.job.with_suffix(".cancel")

    def put(self, path: Path, data: Mapping[str, Any]) -> None:
        """Write one of the files, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        # Bytes that are no UTF-8 came from the DAW as such, and go back as such.
        text = json.dumps({"schema": SCHEMA, **data}, ensure_ascii=False, indent=1)
        write_bytes_atomic(path, text.encode("utf-8", "surrogateescape"), overwrite=True)


def remove_old_jobs(folder: Path) -> None:
    """Remove from a folder of jobs the files that were left behind in it, where a DAW quit or was killed."""
    for path in folder.iterdir():
        with suppress(OSError):
            if path.is_file() and time.time() - path.lstat().st_mtime > _OLD_S:
                path.unlink()


class JobProgress:
    """Writes how far a job is, twice a second and at each new stage; checks whether it is to end."""

    def __init__(self, files: JobFiles, is_requested: Callable[[], bool] = lambda: True) -> None:
        """Prepare to write the progress of a job, which is to end, too, once it is no longer requested."""
        self._files, self._is_requested = files, is_requested
        self._text, self._fraction, self._n_items, self._n_done = "Redrum is loading...", 0.0, 1, 0
        self._stage, self._word = "", "Item"
        self._beat = 0
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="redrum-progress", daemon=True)

    def begin(self) -> None:
        """Write signs of life from now on: the job may have to wait in a queue."""
        self._write()
        self._thread.start()

    def __enter__(self) -> JobProgress:
        if self._thread.ident is None:
            self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def expect(self, n_items: int, word: str = "Item") -> None:
        """Let so many items, by the DAW's word for one, be all of the work."""
        self._n_items, self._word = max(1, n_items), word

    def item_is_done(self) -> None:
        """Count an item."""
        self._n_done += 1
        self._stage = ""

    def say(self, text: str) -> None:
        """Let a sentence be what the DAW shows."""
        self._text, self._fraction = text, 1.0
        self._write()

    @property
    def is_cancelled(self) -> bool:
        """Whether the job is to end."""
        return self._files.cancel.exists() or not self._is_requested()

    def update(self, stage: str, fraction: float) -> None:
        """Note a stage of an item and the fraction of it that is done.

        Raises:
            KeyboardInterrupt: the job is to end.
        """
        self.check()
        words, begin, end = _STAGES.get(stage, (stage, 0.0, 1.0))
        self._fraction = min(1.0, (self._n_done + begin + (end - begin) * fraction) / self._n_items)
        self._text = f"{self._word} {self._n_done + 1} of {self._n_items}: {words}..."
        if stage != self._stage:
            self._stage = stage
            self._write()

    def check(self) -> None:
        """Raise KeyboardInterrupt if the job is to end."""
        if self.is_cancelled:
            raise KeyboardInterrupt

    def _go_on(self) -> None:
        while not self._is_over.wait(_BEAT_S):
            self._write()

    def _write(self) -> None:
        with self._lock, suppress(OutputError):  # REAPER may be reading it; there is a next time
            self._beat += 1
            data = {"beat": self._beat, "text": self._text, "share": round(self._fraction, 4)}
            self._files.put(self._files.progress, data)
