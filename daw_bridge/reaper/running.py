"""A running REAPER, from outside: what is selected, and takes back as new tracks.

Redrum's server in REAPER (`actions/redrum_server.py`) answers. Whatever REAPER has to do is one request each, a
function of `inside.py`, so nothing ever stops its window from outside. Where the server does not run yet, it
is started through REAPER's web interface.
"""

from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daw_bridge.connection import Connection
from daw_bridge.live.redrum_live.endpoint import UnsafeFile, endpoint_path, read_endpoint
from daw_bridge.live.redrum_live.handshake import SCHEMA
from daw_bridge.reaper.facts import job_of, plan_of
from daw_bridge.session import RHYTHM_TRACKS, FinishedTake, Job, published_media
from transform.errors import DawError, OutputError

WEB_PORT = 2307  # of REAPER's web interface, as reapy knows it
SERVER_SCRIPT = "redrum_server.py"
LOOK_TIMEOUT_S = 2.0
ANSWER_TIMEOUT_S = 30.0
_MOST_BYTES = 256 * 2**20  # of an answer
_MOST_PAGE_BYTES = 64 * 1024
_MOST_TRIES = 5


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


class ServerUnsafe(DawError):
    """The file that says where the server listens may be another user's."""

    def __init__(self, why: OSError) -> None:
        super().__init__(
            f"it is not safe to talk to REAPER: {why}",
            hint=f"remove it, then run {SERVER_SCRIPT} in REAPER again",
        )


class ReaperLost(DawError):
    """REAPER stopped answering in the middle of a job."""

    def __init__(
        self, message: str = "REAPER stopped answering: it quit, or one of its windows waits for you"
    ) -> None:
        super().__init__(
            message, hint="close its open dialogs or start it again, then run the same command again"
        )


class _Unanswered(ReaperLost):
    """REAPER may have written the takes, or may do so yet."""


class ProjectClosed(DawError):
    """The project that a job is from is no longer open."""

    def __init__(self) -> None:
        super().__init__(
            "the project was closed in the meantime: nothing was written",
            hint="open it in REAPER, select the items and run the same command again",
        )


class RunningSession:
    """The project that is open in REAPER; takes go back into its tab, whichever is in front by then."""

    def __init__(self, connection: Connection, timeout_s: float) -> None:
        self._connection, self._timeout_s = connection, timeout_s

    @classmethod
    def connect(cls, timeout_s: float = ANSWER_TIMEOUT_S) -> RunningSession:
        """Return the session of the REAPER that runs on this machine.

        Args:
            timeout_s: how long REAPER may take for an answer.

        Raises:
            ReaperNotRunning: nothing answers.
            ServerNotStarted: REAPER runs, but not the server in it.
            ServerUnsafe: another user may have written where the server listens.
            ReaperLost: it stopped answering.
        """
        return cls(_connection(), timeout_s)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

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
        with published_media(job, takes, stay_after=(_Unanswered, KeyboardInterrupt)) as media:
            plan = {"project": job.project_id, "path": job.project, "tracks": plan_of(job, takes, media)}
            try:
                answer = self._request("write_back", plan)
            except ReaperLost as err:
                if not _is_running():
                    raise
                where = f"they lie in {job.media_folder}"
                raise _Unanswered(f"REAPER did not say whether it took the takes; {where}") from err
            _check_written(answer)
        return media

    def _collected(self) -> dict[str, Any]:
        """Return what `inside.collect` finds in as many calls as it needs, all of one state."""
        for _ in range(_MOST_TRIES):
            found = block = self._request("collect", list(RHYTHM_TRACKS), [0, 0])
            items = list(block["items"])
            while block["next"] and _state_of(block) == _state_of(found):
                block = self._request("collect", list(RHYTHM_TRACKS), block["next"])
                items += block["items"]
            if _state_of(block) == _state_of(found):
                return {**found, "items": items}
        raise DawError(
            "the project changes while it is read", hint="stop playback or recording, then try again"
        )

    def _request(self, name: str, *arguments: object) -> Any:
        """Return the result of a function of `inside.py`."""
        try:
            self._connection.send({"request": name, "arguments": list(arguments)}, self._timeout_s)
            answer = self._connection.receive(self._timeout_s)
        except OSError as err:
            self.close()  # an answer that comes late would be taken for the next one
            raise ReaperLost from err
        if "error" in answer:
            raise DawError(
                f"REAPER could not do it: {answer.get('why')}",
                hint="update REAPER, or report this with what -v says",
            )
        return answer["value"]


def look() -> None:
    """Raise an error unless REAPER runs, and the server in it answers; takes a few seconds at most.

    Raises:
        ReaperNotRunning: nothing answers.
        ServerNotStarted: REAPER runs, but not the server in it.
        ServerUnsafe: another user may have written where the server listens.
        ReaperLost: REAPER runs and does not answer.
    """
    _connection().close()


def _connection() -> Connection:
    """Return a connection to the server in REAPER, which is started if it can be."""
    if (found := _found_connection()) is not None:
        return found
    if _ext_state("redrum", "server_port"):  # it runs, and does not answer
        raise ServerNotStarted
    if not (action := _ext_state("reapy", "activate_reapy_server").strip('"')):
        raise ServerNotStarted
    deadline_s = time.monotonic() + LOOK_TIMEOUT_S
    _get(f"/_/{action}")
    while (found := _found_connection()) is None:
        if time.monotonic() >= deadline_s:
            raise ServerNotStarted
        time.sleep(0.05)
    return found


def _found_connection() -> Connection | None:
    """Return a connection to the server that wrote the endpoint file, None where it is not there."""
    try:
        endpoint = read_endpoint(endpoint_path("reaper"))
        if endpoint is None or endpoint["schema"] != SCHEMA:
            return None
        return Connection.open(endpoint, LOOK_TIMEOUT_S, _MOST_BYTES)
    except UnsafeFile as err:
        raise ServerUnsafe(err) from err
    except OSError:
        return None


def _is_running() -> bool:
    try:
        _ext_state("redrum", "server_port")
    except ReaperNotRunning:
        return False
    except ReaperLost:
        pass
    return True


def _ext_state(section: str, key: str) -> str:
    """Return what scripts have noted in REAPER, "" where they have noted nothing."""
    return _get(f"/_/GET/EXTSTATE/{section}/{key}").rstrip("\r\n").rpartition("\t")[2]


def _get(path: str) -> str:
    """Return a page of REAPER's web interface."""
    connection = http.client.HTTPConnection("localhost", WEB_PORT, timeout=LOOK_TIMEOUT_S)
    try:
        connection.connect()
        connection.sock = _LimitedSocket(connection.sock, LOOK_TIMEOUT_S)
        connection.request("GET", path, headers={"Connection": "close"})
        page = connection.getresponse()
        if page.status != http.client.OK:
            raise ReaperNotRunning
        return page.read(_MOST_PAGE_BYTES).decode("utf-8", "replace")
    except TimeoutError as err:
        raise ReaperLost from err
    except (OSError, http.client.HTTPException) as err:
        raise ReaperNotRunning from err
    finally:
        connection.close()


class _LimitedSocket(socket.socket):
    """A connected socket that receives for so long and no longer, however its bytes come."""

    def __init__(self, connected: socket.socket, timeout_s: float) -> None:
        super().__init__(fileno=connected.detach())
        self._deadline_s = time.monotonic() + timeout_s

    def recv_into(self, *arguments: Any) -> int:
        """Receive what comes before the deadline; http.client reads with nothing else."""
        left_s = self._deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no page in time")
        self.settimeout(left_s)
        return super().recv_into(*arguments)


def _state_of(block: dict[str, Any]) -> tuple[object, object]:
    return block["project"], block["changes"]


def _check_written(answer: dict[str, Any]) -> None:
    error = answer.get("error")
    if error == "closed":
        raise ProjectClosed
    if error:
        raise OutputError(f"REAPER cannot read {error}", hint="check REAPER's rights on the project's folder")
