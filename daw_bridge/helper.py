"""The helper process: it does one job of the DAWs' actions after the other, with models that stay loaded.

`daw_bridge.warm` is its client. Jobs are done in the main thread. One thread waits for connections, and
each that has proved to be of this user is handled in a thread of its own. At most one helper works: it has a
lock.
"""

from __future__ import annotations

import errno
import logging
import os
import queue
import selectors
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import transform
from daw_bridge import warm
from daw_bridge.connection import Connection
from daw_bridge.file_lock import lock_file
from daw_bridge.live.redrum_live.endpoint import open_private, remove_endpoint, write_endpoint
from daw_bridge.live.redrum_live.handshake import new_token
from daw_bridge.live.redrum_live.server import Lobby

if TYPE_CHECKING:
    from daw_bridge.job_files import JobProgress

LEAST_FREE_BYTES = 10**9  # of memory; with less the helper ends

_MOST_CONNECTIONS = 64  # that have proved themselves; all of them are of this user
_LOCK_S = 2.0  # that another helper may take to end
_RETRY_S = 0.05
_LOOK_S = 5.0  # between two looks at whether it is time to end
_LISTEN_S = 0.5  # between two looks at the queue of connections
_END_S = 2.0  # that the listener may take to end
_CANCEL_S = 60.0  # that a job may take to end after its client has gone
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # which passes
# Needs no file of its own, as there may be none left, and knows no highest number of a file; Windows lacks it.
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)
_log = logging.getLogger("daw_bridge.helper")


class HelperTask:
    """A job that was handed over through `connection`, and its state."""

    def __init__(self, connection: Connection, path: Path, folder: str) -> None:
        self.connection, self.path, self.folder = connection, path, folder
        self.is_requested, self.has_begun = True, False
        self.is_over = threading.Event()
        self.progress: JobProgress | None = None


class Helper:
    """Waits for jobs at the port of its endpoint file, and does them."""

    def __init__(self, folder: Path, keep_s: float) -> None:
        """Prepare to wait for the next job as long as `keep_s`."""
        self._folder, self._keep_s = folder, keep_s
        self._token, self._build = new_token(), warm.build_id()
        self._tasks: queue.Queue[HelperTask | None] = queue.Queue()  # None: check whether it is time to end
        self._n_jobs, self._is_closed = 0, False
        self._state = threading.Lock()  # of these two
        self._places = threading.BoundedSemaphore(_MOST_CONNECTIONS)
        self._is_to_end = self._is_to_end_at_once = False
        self._idle_since_s = time.monotonic()
        self._redrummer: transform.Redrummer | None = None

    def run(self) -> None:
        """Do jobs until it is time to end.

        Raises:
            OSError: no port or endpoint file can be had here.
        """
        path = warm.endpoint_path(str(self._folder))
        lobby = Lobby(0, self._token, _log.warning, warm.MESSAGE_BYTES)
        is_over = threading.Event()
        listener = threading.Thread(
            target=self._listen, args=(lobby, is_over), name="redrum-listener", daemon=True
        )
        try:
            write_endpoint(path, lobby.port, self._token, build=self._build)
            listener.start()
            self._work()
        except KeyboardInterrupt:
            _log.debug("the helper received a signal to end")
        finally:
            remove_endpoint(path, self._token)
            is_over.set()
            if listener.is_alive():
                listener.join(_END_S)
            lobby.close()

    def end_at_once(self, *_: object) -> NoReturn:
        """End now, with the job that is being done; for signals."""
        self._is_to_end_at_once = True
        raise KeyboardInterrupt

    def _listen(self, lobby: Lobby, is_over: threading.Event) -> None:
        """Accept clients that have proved themselves, whatever others do, until the helper is over."""
        while not is_over.is_set():
            try:
                with _Selector() as selector:
                    for link in lobby.sockets():
                        selector.register(link, selectors.EVENT_READ)
                    selector.select(_LISTEN_S if lobby.is_accepting else _RETRY_S)
                for link, peer in lobby.tick():
                    self._accept(Connection(link, peer))
            except Exception:  # other clients may still be served
                _log.exception("no client can be accepted")
                time.sleep(_RETRY_S)

    def _accept(self, connection: Connection) -> None:
        if not self._places.acquire(blocking=False):
            connection.close()
            return
        try:
            threading.Thread(target=self._handle, args=(connection,), daemon=True).start()
        except RuntimeError:  # no memory for another thread
            self._places.release()
            connection.close()

    def _handle(self, connection: Connection) -> None:
        """Answer a client, and free its place."""
        try:
            with connection:
                self._answer(connection)
        except OSError as err:
            _log.debug("a connection broke: %s", err)
        finally:
            self._places.release()

    def _answer(self, connection: Connection) -> None:
        request = connection.receive(warm.ANSWER_S)
        kind = request.get("want")
        if kind == "job":
            self._run_task(connection, request)
        elif kind in ("look", "stop"):
            left_s = max(0.0, self._idle_since_s + self._keep_s - time.monotonic())
            about = {"pid": os.getpid(), "n_jobs": self._n_jobs, "left_s": left_s}
            connection.send(about, warm.ANSWER_S)
            if kind == "stop":
                self._is_to_end = True
                self._tasks.put(None)

    def _run_task(self, connection: Connection, request: dict[str, object]) -> None:
        """Queue a job, and return when it is over; it is cancelled when its client has gone."""
        with self._state:
            if self._is_closed:
                raise ConnectionError("too late")
            self._n_jobs += 1  # from here on the helper does not end before it
        try:
            from daw_bridge.job_files import JobFiles, JobProgress

            files = JobFiles(Path(str(request.get("job"))))
            task = HelperTask(connection, files.job, str(request.get("folder")))
            connection.send({"result": str(files.result), "cancel": str(files.cancel)}, warm.ANSWER_S)
            if connection.receive(warm.ANSWER_S).get("want") != "go":
                raise ConnectionError("the job did not begin")
        except BaseException:
            with self._state:
                self._n_jobs -= 1
            raise
        task.progress = JobProgress(files, lambda: task.is_requested)
        task.progress.begin()
        self._tasks.put(task)
        connection.wait_for_end()
        task.is_requested = False
        while True:
            had_begun = task.has_begun
            if task.is_over.wait(_CANCEL_S):
                return
            if had_begun:  # it would block all that come after it
                _log.error("%s does not end: the helper does", task.path)
                os._exit(1)

    def _work(self) -> None:
        from daw_bridge.logs import close_log_file, set_up_logging

        set_up_logging(quiet=False, verbose=True)
        while not self._is_time_to_end():
            close_log_file()
            with suppress(queue.Empty):
                if task := self._tasks.get(timeout=_LOOK_S):
                    self._do(task)

    def _do(self, task: HelperTask) -> None:
        task.has_begun = True
        try:
            with suppress(OSError):
                os.chdir(task.folder)  # the job may name files from there on
            code, messages = self._outcome(task)
            with suppress(OSError):
                task.connection.send({"code": code, "said": messages}, warm.ANSWER_S)
        finally:
            task.is_over.set()
            with self._state:
                self._n_jobs -= 1
            self._idle_since_s = time.monotonic()
            os.chdir(self._folder)  # one that nobody moves or removes meanwhile

    def _outcome(self, task: HelperTask) -> tuple[int, list[str]]:
        """Do a job; return the exit code of its command, and the lines of its error message."""
        from daw_bridge.action_job import run_job
        from transform.errors import RedrumError

        _log.debug("the job is %s", task.path)
        try:
            return int(not run_job(task.path, self._load, task.progress)), []
        except RedrumError as err:
            return err.exit_code, [f"redrum: {err.message}", *([f"  {err.hint}"] if err.hint else [])]
        except KeyboardInterrupt:
            return warm.CANCELLED, ["redrum: interrupted"]
        except Exception as err:  # the result file and the log have it
            self._is_to_end = True  # who knows what is broken now
            return 1, [f"redrum: {err or type(err).__name__}"]

    def _load(self) -> transform.Redrummer:
        """Return the models, loaded for the first job."""
        if self._redrummer is None:
            from daw_bridge.devices import set_up_device

            self._redrummer = transform.Redrummer.load("default", device=set_up_device("auto", None))
        return self._redrummer

    def _is_time_to_end(self) -> bool:
        """Return whether the helper has nothing to do and a reason to end; then no job can come any more."""
        why = self._reason_to_end()
        with self._state:
            self._is_closed = bool(why) and (not self._n_jobs or self._is_to_end_at_once)
        if self._is_closed:
            _log.debug("the helper ends: %s", why)
        return self._is_closed

    def _reason_to_end(self) -> str:
        import psutil

        if self._is_to_end or self._is_to_end_at_once:
            return "it was stopped"
        if time.monotonic() - self._idle_since_s > self._keep_s:
            return f"no job came for {self._keep_s:g} s"
        try:
            if psutil.virtual_memory().available < LEAST_FREE_BYTES:
                return "memory is short"
            is_same = warm.build_id() == self._build and self._has_endpoint()
        except OSError as err:
            is_same = err.errno in _NO_ROOM
        return "" if is_same else "Redrum was changed, or the helper's endpoint file is gone"

    def _has_endpoint(self) -> bool:
        endpoint = warm.read_endpoint(str(self._folder))
        return endpoint is not None and endpoint["token"] == self._token


@contextmanager
def _lock(folder: Path, build: str) -> Iterator[None]:
    """Take the lock that one helper can have; it ends with this process, however that ends.

    A helper with another build id is given time to end: it has been stopped.

    Raises:
        OSError: another helper has it, or this folder knows no locks.
    """
    with FileIO(open_private(str(folder / "helper.lock"), is_made=True), "r+") as file:
        give_up_s = time.monotonic() + _LOCK_S
        while True:
            try:
                lock_file(file)
                break
            except OSError:
                endpoint = warm.read_endpoint(str(folder))
                if time.monotonic() > give_up_s or (endpoint is not None and endpoint["build"] == build):
                    raise
            time.sleep(_RETRY_S)
        yield


def main() -> None:
    """Be the helper; end with exit code 1 where another one is at work, or none can be."""
    folder = Path(warm.data_folder())
    try:
        with _lock(folder, warm.build_id()):
            helper = Helper(folder, 60 * warm.keep_minutes())
            signal.signal(signal.SIGTERM, helper.end_at_once)
            helper.run()
    except OSError as err:
        _log.warning("there is no helper: %s", err)
        sys.exit(1)
