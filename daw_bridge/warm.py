"""The client of the helper process, which keeps the models loaded between two jobs of an action in a DAW.

The helper (`daw_bridge.helper`) listens on this machine only. Where it listens, its token and its build
id stand in an endpoint file that only this user can read. A client proves that it knows the token, and
so does the helper (`daw_bridge.connection`). A job is the helper's only once it receives the message "go":
whatever fails before, the job is done without it, as if there were none.

This is all that the action's command loads before it hands its job over, so it imports little.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from daw_bridge.connection import Connection
from daw_bridge.live.redrum_live import endpoint as endpoint_file
from daw_bridge.live.redrum_live.handshake import SCHEMA

if TYPE_CHECKING:
    from subprocess import Popen

KEEP_MINUTES = 10.0  # that a helper waits for the next job
CANCELLED = 130  # the exit code
MESSAGE_BYTES = 64 * 1024  # the longest that either side accepts
PROOF_S = 5.0  # that the helper has to prove itself
ANSWER_S = 10.0  # that each side waits for a message until a job has begun: it may be loading the models

_START_S = 10.0  # that a new helper may take to write its endpoint file
_LOOK_S = 1.0  # between two looks at whether a job was cancelled
_CANCEL_S = 30.0  # that the helper may take to end a cancelled job
_HELPER = "from daw_bridge.helper import main; main()"
_PACKAGES = (
    *("daw_bridge", "daw_bridge/live", "daw_bridge/live/redrum_live", "daw_bridge/reaper", "daw_bridge/ardour"),
    *("transform", "presets/default"),
)


def hand_over(job: str) -> tuple[int, list[str]] | None:
    """Have the helper do a job of an action; return the exit code, and the lines of an error message.

    A helper is started where there is none. It is not used if it is of another version, does not answer, or
    cannot be started for whatever reason.

    Args:
        job: the file that the action wrote.

    Returns:
        None: the job is to be done without a helper. It was not begun, or died with the helper in the middle.
    """
    try:
        if not keep_minutes():
            return None
        request = {"want": "job", "job": os.path.abspath(job), "folder": os.getcwd()}
        connection, files = _ready_connection(request)
    except OSError:
        return None
    with connection:
        return _outcome(connection, job, **files)


def look(request: str = "look") -> dict[str, Any] | None:
    """Return the helper's status, None if there is none; the request "stop" has it end after its jobs."""
    endpoint = read_endpoint(data_folder())
    if endpoint is None:
        return None
    try:
        connection, answer = _requested(endpoint, {"want": request})
    except OSError:
        return None
    connection.close()
    return answer


def keep_minutes() -> float:
    """Return how long a helper waits for the next job: $REDRUM_HELPER_MINUTES; 0: there is none."""
    try:
        return max(0.0, float(os.environ["REDRUM_HELPER_MINUTES"]))
    except (KeyError, ValueError):
        return KEEP_MINUTES


def data_folder() -> str:
    """Return the user's folder, as `transform.presets.user_folder` does, but at once."""
    if chosen := os.environ.get("REDRUM_DATA"):
        return os.path.abspath(chosen)
    from platformdirs import user_data_dir

    return user_data_dir("redrum", appauthor=False)


def build_id() -> str:
    """Return what changes with Python, its packages, and the files of Redrum: a helper with another one is old.

    Raises:
        OSError: Redrum is being removed.
    """
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    facts = [sys.executable, sys.version, root]
    for folder in sys.path:
        if folder.endswith("-packages") and os.path.isdir(folder):  # changes when one is installed
            facts.append(f"{folder} {os.stat(folder).st_mtime_ns}")
    for package in _PACKAGES:
        with os.scandir(os.path.join(root, package)) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_file():
                    stat = entry.stat()
                    facts.append(f"{package}/{entry.name} {stat.st_size} {stat.st_mtime_ns}")
    return hashlib.sha256("\n".join(facts).encode("utf-8", "surrogateescape")).hexdigest()


def endpoint_path(folder: str) -> str:
    """Return the endpoint file of the helper."""
    return os.path.join(folder, "helper.json")


def read_endpoint(folder: str) -> dict[str, Any] | None:
    """Return the contents of the helper's endpoint file, None where there is none of this user and version."""
    try:
        found = endpoint_file.read_endpoint(endpoint_path(folder))
    except OSError:
        return None
    is_whole = found is not None and found["schema"] == SCHEMA and type(found.get("build")) is str
    return found if is_whole else None


def _ready_connection(request: dict[str, Any]) -> tuple[Connection, dict[str, Any]]:
    """Return the connection to a helper that waits for "go", and the job's files that it names.

    Raises:
        OSError: there is none, and none can be started.
    """
    folder, build = data_folder(), build_id()
    refused = ""  # the token of a helper that is of no use
    helper: Popen[bytes] | None = None
    give_up_s = time.monotonic() + _START_S
    while True:
        # The helper that was started ends if it cannot work, or if another one is at work already.
        is_last_look = helper is not None and (helper.poll() is not None or time.monotonic() > give_up_s)
        endpoint = read_endpoint(folder)
        if endpoint is not None and endpoint["token"] != refused:
            refused = endpoint["token"]
            is_ours = endpoint["build"] == build
            with suppress(OSError):
                connection, answer = _requested(endpoint, request if is_ours else {"want": "stop"})
                if is_ours:
                    return connection, {name: _text(answer, name) for name in ("result", "cancel")}
                connection.close()
        if is_last_look:
            raise ConnectionError("there is no helper")
        if helper is None:
            helper, give_up_s = _started(folder), time.monotonic() + _START_S
        time.sleep(0.01)


def _requested(endpoint: dict[str, Any], request: dict[str, Any]) -> tuple[Connection, dict[str, Any]]:
    """Return the connection to the helper of an endpoint file, and its answer to a request."""
    connection = Connection.open(endpoint, PROOF_S, MESSAGE_BYTES)
    try:
        connection.send(request, ANSWER_S)
        return connection, connection.receive(ANSWER_S)
    except BaseException:
        connection.close()
        raise


def _text(message: dict[str, Any], name: str) -> str:
    if not isinstance(found := message.get(name), str):
        raise ConnectionError(f"a message without {name}")
    return found


def _started(folder: str) -> Popen[bytes]:
    """Start a helper that outlives this process, and shows no window.

    Raises:
        OSError: this is not possible here.
    """
    import subprocess

    endpoint_file.make_folder(folder)
    environment = dict(os.environ)
    if "REDRUM_DATA" in environment:
        environment["REDRUM_DATA"] = folder  # it works in another folder
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
    return subprocess.Popen(
        [sys.executable, "-P", "-c", _HELPER],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,  # one that nobody moves or removes meanwhile
        env=environment,
        creationflags=flags,
        start_new_session=True,
    )


def _outcome(connection: Connection, job: str, result: str, cancel: str) -> tuple[int, list[str]] | None:
    """Let the helper begin, and return what `hand_over` returns."""
    left_s = _CANCEL_S
    try:
        connection.send({"want": "go"}, ANSWER_S)
        while not connection.has_data(_LOOK_S):
            left_s -= _LOOK_S if os.path.exists(cancel) else 0
            if left_s < 0:
                return CANCELLED, []
        answer = connection.receive(ANSWER_S)
        return int(answer["code"]), [str(text) for text in answer["said"]]
    except OSError:
        # The action removes all files of a job once it has read the result.
        return (0, []) if os.path.exists(result) or not os.path.exists(job) else None
