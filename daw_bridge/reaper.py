"""A running REAPER, from outside: what is selected, and takes back as new tracks.

python-reapy carries the requests. Whatever REAPER has to do is one request each (`inside_reaper`), so nothing
ever holds its window from outside: a client that is killed in a hold takes reapy's server along. Before reapy
is imported, which waits for ever where REAPER runs without the server, a look with a time-out says what is
missing.
"""

from __future__ import annotations

import http.client
import importlib.resources
import socket
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

from daw_bridge.reaper_facts import job_of, plan_of
from daw_bridge.session import RHYTHM_TRACKS, FinishedTake, Job, published_media
from transform.errors import DawError, OutputError

WEB_PORT = 2307  # of REAPER's web interface, as reapy knows it
SERVER_SCRIPT = "redrum_server.py"
LOOK_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 30.0
_MOST_TRIES = 5

# Runs a function of `inside_reaper`; reapy's server calls `eval` with these names as globals.
_CALL = "(exec(compile(code, 'redrum', 'exec'), scope), scope[name](*arguments))[1]"
_T = TypeVar("_T")


class ReaperNotRunning(DawError):
    """Nothing answers where REAPER's web interface should be."""

    def __init__(self) -> None:
        super().__init__(
            f"REAPER is not running, or its web interface on port {WEB_PORT} is off",
            hint="start REAPER; the first time, follow docs/reaper.md to switch the web interface on",
        )


class ServerNotStarted(DawError):
    """REAPER runs, but nothing in it answers Redrum."""

    def __init__(self) -> None:
        super().__init__(
            "REAPER runs, but Redrum's server in it does not answer",
            hint=f"in REAPER's Actions list run {SERVER_SCRIPT} (again); docs/reaper.md says how to load it",
        )


class ReaperLost(DawError):
    """REAPER stopped answering in the middle of a job."""

    def __init__(
        self, message: str = "REAPER stopped answering: it quit, or one of its windows waits for you"
    ) -> None:
        super().__init__(
            message, hint="close its open dialogs or start it again, then run the same command again"
        )


class ProjectClosed(DawError):
    """The project that a job is from is no longer open."""

    def __init__(self) -> None:
        super().__init__(
            "the project was closed in the meantime: nothing was written",
            hint="open it in REAPER, select the items and run the same command again",
        )


class RunningSession:
    """The project that is open in REAPER; takes go back into its tab, whichever is in front by then."""

    def __init__(self, worker: _Worker, timeout_s: float) -> None:
        self._worker, self._timeout_s = worker, timeout_s

    @classmethod
    def connect(cls, timeout_s: float = ANSWER_TIMEOUT_S) -> RunningSession:
        """Return the session of the REAPER that runs on this machine.

        Args:
            timeout_s: how long REAPER may take for an answer.

        Raises:
            ReaperNotRunning: nothing answers.
            ServerNotStarted: REAPER runs, but not the server in it.
            ReaperLost: it stopped answering.
        """
        look()
        worker = _Worker()
        worker.call(_connect_reapy, timeout_s)
        return cls(worker, timeout_s)

    def close(self) -> None:
        """Hang up, even where the worker still waits for an answer."""
        _hang_up()

    def collect(self) -> Job:
        """Return the selected items and those on rhythm tracks; see `Session.collect`."""
        return job_of(self._collected())

    def write_back(self, job: Job, takes: Sequence[FinishedTake]) -> list[Path]:
        """Put takes on new tracks, each directly below its source track, as one undo step; see `Session`.

        Raises:
            ProjectClosed: the project is no longer open.
            ReaperLost: REAPER stopped answering.
            OutputError: the media cannot be written, or not be read by REAPER.
        """
        unanswered: BaseException | None = None
        with published_media(job, takes) as media:
            plan = {"project": job.project_id, "path": job.project, "tracks": plan_of(job, takes, media)}
            try:
                answer = self._ask("write_back", plan)
            except (ReaperLost, KeyboardInterrupt) as err:
                if isinstance(err, ReaperLost) and not _is_running():
                    raise
                unanswered = err  # REAPER may have done it, or do it yet: the media must stay
            else:
                _check_written(answer)
        if isinstance(unanswered, ReaperLost):
            where = f"they lie in {job.media_folder}"
            raise ReaperLost(f"REAPER did not say whether it took the takes; {where}") from unanswered
        if unanswered is not None:
            raise unanswered
        return media

    def _collected(self) -> dict[str, Any]:
        """Return what `inside_reaper.collect` finds in as many calls as it needs, all of one state."""
        for _ in range(_MOST_TRIES):
            found = part = self._ask("collect", list(RHYTHM_TRACKS), [0, 0])
            items = list(part["items"])
            while part["next"] and _state_of(part) == _state_of(found):
                part = self._ask("collect", list(RHYTHM_TRACKS), part["next"])
                items += part["items"]
            if _state_of(part) == _state_of(found):
                return {**found, "items": items}
        raise DawError(
            "the project changes while it is read", hint="stop playback or recording, then try again"
        )

    def _ask(self, name: str, *arguments: object) -> Any:
        """Return what a function of `inside_reaper` says."""
        scope = {"__name__": "redrum_inside_reaper"}
        code = importlib.resources.files("daw_bridge").joinpath("inside_reaper.py").read_text(encoding="utf-8")
        call = {"code": code, "scope": scope, "name": name, "arguments": list(arguments)}
        return self._worker.call(lambda: _request([_CALL, call]), self._timeout_s)


def look() -> None:
    """Raise an error unless REAPER runs, and the server in it answers; takes a few seconds at most.

    Where reapy is set up to start its server by itself, that is done.

    Raises:
        ReaperNotRunning: nothing answers.
        ServerNotStarted: REAPER runs, but not the server in it.
        ReaperLost: REAPER runs and does not answer.
    """
    port = _ext_state("server_port")
    if not port:
        if action := _ext_state("activate_reapy_server").strip('"'):
            _get(f"/_/{action}")
        deadline = time.monotonic() + (LOOK_TIMEOUT_S if action else 0.0)
        while not (port := _ext_state("server_port")):
            if time.monotonic() >= deadline:
                raise ServerNotStarted
            time.sleep(0.05)
    try:
        # The server greets whoever connects. All of that is read: hanging up on a rest would be a reset.
        with (
            socket.create_connection(("localhost", int(port)), timeout=LOOK_TIMEOUT_S) as connection,
            connection.makefile("rb") as stream,
        ):
            greeting = stream.read(int.from_bytes(stream.read(8), "little"))
    except (OSError, ValueError) as err:
        raise ServerNotStarted from err
    if not greeting:
        raise ServerNotStarted


def _is_running() -> bool:
    try:
        _ext_state("server_port")
    except ReaperNotRunning:
        return False
    except ReaperLost:
        pass
    return True


def _ext_state(key: str) -> str:
    """Return what reapy has noted in REAPER, "" where it has noted nothing."""
    return _get(f"/_/GET/EXTSTATE/reapy/{key}").rstrip("\r\n").rpartition("\t")[2]


def _get(path: str) -> str:
    """Return a page of REAPER's web interface."""
    try:
        with urllib.request.urlopen(f"http://localhost:{WEB_PORT}{path}", timeout=LOOK_TIMEOUT_S) as page:
            return str(page.read().decode("utf-8", "replace"))
    except TimeoutError as err:
        raise ReaperLost from err
    except urllib.error.URLError as err:
        if isinstance(err.reason, TimeoutError):
            raise ReaperLost from err
        raise ReaperNotRunning from err
    except (OSError, http.client.HTTPException) as err:
        raise ReaperNotRunning from err


class _Worker:
    """The one thread that talks to reapy, which knows no time-outs and is not made for several threads."""

    def __init__(self) -> None:
        self._tasks: SimpleQueue[tuple[Callable[[], Any], Future[Any]]] = SimpleQueue()
        threading.Thread(target=self._run, name="redrum-reapy", daemon=True).start()

    def call(self, function: Callable[[], _T], timeout_s: float) -> _T:
        """Return what a function returns in the thread.

        Raises:
            ReaperLost: it does not return in time; the thread is lost with it.
        """
        result: Future[_T] = Future()
        self._tasks.put((function, result))
        try:
            return result.result(timeout_s)
        except TimeoutError as err:
            raise ReaperLost from err

    def _run(self) -> None:
        while True:
            function, result = self._tasks.get()
            try:
                result.set_result(function())
            except BaseException as err:
                result.set_exception(err)


def _connect_reapy() -> None:
    """Have reapy connect, anew where an earlier connection may be dead."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # reapy warns where we raise an error
            is_loaded = "reapy" in sys.modules
            import reapy

            if is_loaded:
                _hang_up()
                reapy.reconnect()
    except (OSError, ValueError, RecursionError) as err:
        raise ReaperLost from err
    if not reapy.dist_api_is_enabled():
        raise ServerNotStarted


def _hang_up() -> None:
    from reapy.tools.network import machines

    client = machines.get_selected_client()
    if client is not None:
        client.close()


def _request(arguments: list[object]) -> Any:
    """Return what `eval` of these arguments is in REAPER."""
    from reapy.errors import DistError
    from reapy.tools.network import machines

    try:
        return machines.get_selected_client().request(eval, {"args": arguments, "kwargs": {}})
    except DistError as err:
        last = str(err).strip().splitlines()[-1]
        raise DawError(
            f"REAPER could not do it: {last}", hint="update REAPER, or report this with what -v says"
        ) from err
    except (OSError, ValueError) as err:
        raise ReaperLost from err


def _state_of(part: dict[str, Any]) -> tuple[object, object]:
    return part["project"], part["changes"]


def _check_written(answer: dict[str, Any]) -> None:
    error = answer.get("error")
    if error == "closed":
        raise ProjectClosed
    if error:
        raise OutputError(f"REAPER cannot read {error}", hint="check REAPER's rights on the project's folder")
