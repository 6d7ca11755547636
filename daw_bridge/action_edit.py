"""The job of a DAW's action that edits a rhythm: an editor, whose takes the action puts in."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import transform
from daw_bridge.editor.desk import Desk, selected_item
from daw_bridge.editor.opening import Opening, Watcher, edit_item
from daw_bridge.job_files import JobFiles, JobProgress
from daw_bridge.session import FinishedTake, Job, published_media
from transform.errors import DawError

ANSWER_S = 30.0  # that the action may take for a take; a window of the DAW may wait for its user
_LOOK_S = 0.1
_OPEN = "The rhythm is open in your browser. Cancel ends it."
_HOSTS = {"reaper": "REAPER", "ardour": "Ardour"}  # as their users call them

Plan = Callable[[Job, Sequence[FinishedTake], Sequence[Path]], list[dict[str, Any]]]  # `plan_of` of a DAW


class ActionSession:
    """The project as the action gathered it; each take goes to the action, which answers."""

    def __init__(self, job: Job, files: JobFiles, progress: JobProgress, plan_of: Plan) -> None:
        """Prepare to send takes of a job."""
        self._job, self._files, self._progress, self._plan_of = job, files, progress, plan_of
        self._n_sent = 0

    def collect(self) -> Job:
        """Return the job; see `Session.collect`."""
        return self._job

    def write_back(self, job: Job, takes: Sequence[FinishedTake]) -> list[Path]:
        """Have the action put takes on new tracks, as one undo step; see `Session`.

        Raises:
            DawError: the action does not answer, or could not do it.
        """
        with published_media(job, takes) as media:
            self._n_sent += 1
            tracks, paths = self._plan_of(job, takes, media), [str(path) for path in media]
            take = {"number": self._n_sent, "tracks": tracks, "media": paths}
            self._files.put(self._files.take, take)
            try:
                problem = self._answer()
            finally:
                for path in (self._files.take, self._files.taken):
                    with suppress(OSError):
                        path.unlink()
            if problem:
                raise DawError(problem.rstrip("."), hint="open the project again, and run the action anew")
        return media

    def _answer(self) -> str:
        """Return what the action says of the newest take: "" where it is in the project."""
        deadline_s, is_over = time.monotonic() + ANSWER_S, threading.Event()
        while time.monotonic() < deadline_s and not self._progress.is_cancelled:
            with suppress(OSError, ValueError):
                found = json.loads(self._files.taken.read_bytes())
                if found["number"] == self._n_sent:
                    return str(found["problem"])
            is_over.wait(_LOOK_S)
        raise DawError(
            f"{_HOSTS[self._job.daw]} does not answer: "
            "it quit, its action was ended, or one of its windows waits for you",
            hint="run the action again: the edits are stored",
        )


def edit_item_of(
    session: ActionSession, progress: JobProgress, load: Callable[[], transform.Redrummer]
) -> None:
    """Serve the editor of the item that is selected, until its page is closed or the action ends it.

    Raises:
        RedrumError: it cannot be edited.
    """
    job = session.collect()
    desk = Desk(_HOSTS[job.daw], job, selected_item(job), lambda: nullcontext(session))
    progress.say(_OPEN)
    watcher = Watcher(
        serving=lambda _, url: None,
        no_browser=lambda url: progress.say(f"No browser could be opened: open {url}"),
        is_over=lambda: progress.is_cancelled,
    )
    edit_item(desk, Opening(load=load, folder=Path(job.media_folder)), watcher)
