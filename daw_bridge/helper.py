"""The helper process: it does one job of REAPER's action after the other, with models that stay loaded.

`daw_bridge.warm` starts it and says how a job reaches it. Jobs are done in the main thread; whoever connects is
attended to in a thread of its own. At most one helper works: it holds a lock.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from daw_bridge import warm

if TYPE_CHECKING:
    from daw_bridge.reaper_job import Progress
    from transform.engine import Redrummer

LEAST_FREE_BYTES = 10**9  # of memory; with less the helper ends

_LOCK_S = 2.0  # that another helper may take to end
_AGAIN_S = 0.05  # before something is tried again
_LOOK_S = 5.0  # between two looks at whether it is time to end
_HEED_S = 60.0  # that a job may go on which nobody wants any more
_log = logging.getLogger("daw_bridge.helper")


class _Work:
    """A job that was handed over through `line`, and what becomes of it."""

    def __init__(self, line: warm.Line, path: Path, folder: str) -> None:
        self.line, self.path, self.folder = line, path, folder
        self.is_wanted, self.has_begun = True, False
        self.is_over = threading.Event()
        self.progress: Progress | None = None


class Helper:
    """Waits for jobs behind the door in a folder, and does them."""

    def __init__(self, folder: Path, keep_s: float) -> None:
        """Prepare to wait for the next job as long as `keep_s`."""
        self._folder, self._keep_s = folder, keep_s
        self._token, self._stamp = os.urandom(32).hex(), warm.stamp()
        self._works: queue.Queue[_Work | None] = queue.Queue()  # None: look whether it is time to end
        self._n_jobs, self._is_closed = 0, False
        self._state = threading.Lock()  # of these two
        self._is_to_end = self._is_to_end_at_once = False
        self._idle_since_s = time.monotonic()
        self._redrummer: Redrummer | None = None

    def run(self) -> None:
        """Do jobs until it is time to end.

        Raises:
            OSError: nobody can be listened to here.
        """
        with _Doorman(self) as doorman:
            door = {"schema": warm.SCHEMA, "port": doorman.server_address[1], "token": self._token}
            warm.write_door(str(self._folder), door | {"stamp": self._stamp, "pid": os.getpid()})
            threading.Thread(target=doorman.serve_forever, name="redrum-door", daemon=True).start()
            try:
                self._work()
            except KeyboardInterrupt:
                _log.debug("the helper was told to end at once")
            finally:
                if self._has_door():
                    with suppress(OSError):
                        os.remove(warm.door_path(str(self._folder)))
                doorman.shutdown()

    def end_at_once(self, *_: object) -> NoReturn:
        """End now, with the job that is being done; for signals."""
        self._is_to_end_at_once = True
        raise KeyboardInterrupt

    def attend(self, line: warm.Line) -> None:
        """Answer somebody who has connected.

        Raises:
            OSError: they hung up, or do not know the token.
        """
        request, proof = line.asked(self._token)
        want = request.get("want")
        if want == "job":
            self._take_in(line, request, proof)
        elif want in ("look", "stop"):
            left_s = self._idle_since_s + self._keep_s - time.monotonic()
            line.say(proof=proof, pid=os.getpid(), n_jobs=self._n_jobs, left_s=max(0.0, left_s))
            if want == "stop":
                self._is_to_end = True
                self._works.put(None)

    def _take_in(self, line: warm.Line, request: dict[str, object], proof: str) -> None:
        """Queue a job, and look after it until it is over or whoever handed it over has left."""
        with self._state:
            if self._is_closed:
                raise ConnectionError("too late")
            self._n_jobs += 1  # from here on the helper does not end before it
        try:
            from daw_bridge.reaper_job import JobFiles, Progress

            files = JobFiles(Path(str(request.get("job"))))
            work = _Work(line, files.job, str(request.get("folder")))
            line.say(proof=proof, result=str(files.result), cancel=str(files.cancel))
            if line.hear().get("want") != "go":
                raise ConnectionError("the job did not begin")
        except BaseException:
            with self._state:
                self._n_jobs -= 1
            raise
        work.progress = Progress(files, lambda: work.is_wanted)
        work.progress.begin()
        self._works.put(work)
        line.wait_for_end()
        work.is_wanted = False
        while True:
            had_begun = work.has_begun
            if work.is_over.wait(_HEED_S):
                return
            if had_begun:  # it would block all that come after it
                _log.error("%s does not end: the helper does", work.path)
                os._exit(1)

    def _work(self) -> None:
        from daw_bridge.reporting import let_go_of_log_file, set_up_logging

        set_up_logging(quiet=False, verbose=True)
        while not self._is_time_to_end():
            let_go_of_log_file()
            with suppress(queue.Empty):
                if work := self._works.get(timeout=_LOOK_S):
                    self._do(work)

    def _do(self, work: _Work) -> None:
        work.has_begun = True
        try:
            with suppress(OSError):
                os.chdir(work.folder)  # what the job names may be meant from there
            code, said = self._outcome(work)
            with suppress(OSError):
                work.line.say(code=code, said=said)
        finally:
            work.is_over.set()
            with self._state:
                self._n_jobs -= 1
            self._idle_since_s = time.monotonic()
            os.chdir(self._folder)  # one that nobody wants to move or remove meanwhile

    def _outcome(self, work: _Work) -> tuple[int, list[str]]:
        """Do a job; return the exit code of its command, and what that is to say."""
        from daw_bridge.reaper_job import run_job
        from transform.errors import RedrumError

        _log.debug("the job is %s", work.path)
        try:
            return int(not run_job(work.path, self._load, work.progress)), []
        except RedrumError as err:
            return err.exit_code, [f"redrum: {err.message}", *([f"  {err.hint}"] if err.hint else [])]
        except KeyboardInterrupt:
            return warm.CANCELLED, ["redrum: interrupted"]
        except Exception as err:  # the action and the log have been told
            self._is_to_end = True  # who knows what is broken now
            return 1, [f"redrum: {err or type(err).__name__}"]

    def _load(self) -> Redrummer:
        """Return the models, loaded for the first job."""
        if self._redrummer is None:
            from daw_bridge.options import set_up_device
            from transform.engine import Redrummer

            self._redrummer = Redrummer.load("default", device=set_up_device("auto", None))
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
            return "it was told to"
        if time.monotonic() - self._idle_since_s > self._keep_s:
            return f"no job came for {self._keep_s:g} s"
        if psutil.virtual_memory().available < LEAST_FREE_BYTES:
            return "memory is short"
        try:
            is_same = warm.stamp() == self._stamp
        except OSError:
            is_same = False
        return "" if is_same and self._has_door() else "Redrum was changed, or the helper's door is gone"

    def _has_door(self) -> bool:
        door = warm.read_door(str(self._folder))
        return door is not None and door["token"] == self._token


class _Visitor(socketserver.BaseRequestHandler):
    """Somebody who has connected."""

    server: _Doorman

    def handle(self) -> None:
        with warm.Line(self.request) as line:
            try:
                self.server.helper.attend(line)
            except PermissionError as err:
                _log.warning("refused: %s", err)
            except OSError as err:
                _log.debug("a connection broke: %s", err)


class _Doorman(socketserver.ThreadingTCPServer):
    """Listens on a free port of this machine, for this machine only."""

    daemon_threads = True
    request_queue_size = 32

    def __init__(self, helper: Helper) -> None:
        self.helper = helper
        super().__init__(("127.0.0.1", 0), _Visitor)

    def handle_error(self, request: object, client_address: object) -> None:
        _log.exception("a connection failed")


@contextmanager
def _lock(folder: Path, stamp: str) -> Iterator[None]:
    """Hold what only one helper can hold; it ends with this process, however it ends.

    A helper with another stamp is given time to end: it has been told to.

    Raises:
        OSError: another helper holds it, or this folder knows no locks.
    """
    with (folder / "helper.lock").open("ab") as file:
        give_up_s = time.monotonic() + _LOCK_S
        while True:
            try:
                _try_lock(file)
                break
            except OSError:
                door = warm.read_door(str(folder))
                if time.monotonic() > give_up_s or (door is not None and door["stamp"] == stamp):
                    raise
            time.sleep(_AGAIN_S)
        yield


def _try_lock(file: IO[bytes]) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def main() -> None:
    """Be the helper; end with exit code 1 where another one is at work, or none can be."""
    folder = Path(warm.data_folder())
    try:
        with _lock(folder, warm.stamp()):
            helper = Helper(folder, 60 * warm.keep_minutes())
            signal.signal(signal.SIGTERM, helper.end_at_once)
            helper.run()
    except OSError as err:
        _log.warning("there is no helper: %s", err)
        sys.exit(1)
