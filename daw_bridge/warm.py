"""A helper process that keeps the models loaded between two jobs of REAPER's action: how a job reaches it.

The helper (`daw_bridge.helper`) listens on this machine only. Where it listens, its token and the code that it
runs stand in a file, the door, that only this user can read. Whoever connects proves that it knows the token,
and so does the helper, without telling it; what is said are lines of JSON. A job is the helper's only from the
moment that it is told to go: whatever fails before, the job is done without it, as if there were none.

This is all that the action's command loads before it hands its job over, so it imports little.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import select
import socket
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from subprocess import Popen

SCHEMA = 1  # of the door and of what both sides say
KEEP_MINUTES = 10.0  # that a helper waits for the next job
CANCELLED = 130  # the exit code
GREETING_S = 10.0  # that each side waits for the other until a job has begun: it may be loading the models

_START_S = 10.0  # that a new helper may take to open its door
_CONNECT_S = 1.0  # this machine takes or refuses a connection at once; Windows asks a closed port for longer
_LOOK_S = 1.0  # between two looks at whether a job was cancelled
_DEAF_S = 30.0  # after which a helper that does not end a cancelled job is left alone
_MOST_BYTES = 64 * 1024  # of a line
_HELPER = "from daw_bridge.helper import main; main()"
_PACKAGES = ("daw_bridge", "transform", os.path.join("presets", "default"))


def hand_over(job: str) -> tuple[int, list[str]] | None:
    """Have the helper do a job of REAPER's action; return the exit code, and what is to be said of a failure.

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
        line, files = _ready_line({"want": "job", "job": os.path.abspath(job), "folder": os.getcwd()})
    except OSError:
        return None
    with line:
        return _outcome(line, job, **files)


def look(want: str = "look") -> dict[str, Any] | None:
    """Return what the helper says of itself, None if there is none; "stop" tells it to end after its jobs."""
    door = read_door(data_folder())
    if door is None:
        return None
    try:
        line, answer = _called(door, {"want": want})
    except OSError:
        return None
    line.close()
    return answer


def keep_minutes() -> float:
    """Return how long a helper waits for the next job: $REDRUM_HELPER_MINUTES says so; 0: there is none."""
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


def stamp() -> str:
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


# The door


def door_path(folder: str) -> str:
    """Return the file that says where the helper listens."""
    return os.path.join(folder, "helper.json")


def read_door(folder: str) -> dict[str, Any] | None:
    """Return what the door says, None where there is none of this user."""
    try:
        with open(door_path(folder), encoding="utf-8") as file:
            if sys.platform != "win32" and os.fstat(file.fileno()).st_uid != os.getuid():
                return None
            door = json.load(file)
        is_whole = (door["schema"], type(door["port"])) == (SCHEMA, int) and 0 < door["port"] < 2**16
        return door if is_whole and all(type(door[name]) is str for name in ("token", "stamp")) else None
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return None


def write_door(folder: str, door: dict[str, Any]) -> None:
    """Write the door whole, for this user only.

    Raises:
        OSError: it cannot be written, or not be read then.
    """
    hidden = f"{door_path(folder)}.{os.urandom(8).hex()}"
    try:
        handle = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(door, file)
        for is_last in (*[False] * 40, True):
            try:
                os.replace(hidden, door_path(folder))
                break
            except PermissionError:  # on Windows, while somebody reads the one before
                if is_last:
                    raise
                time.sleep(0.05)
    finally:
        with suppress(OSError):
            os.remove(hidden)
    if read_door(folder) != door:
        raise PermissionError(f"{door_path(folder)} is not ours")


# What both sides say


class Line:
    """A connection between a job's process and the helper; each message is a line of JSON."""

    def __init__(self, link: socket.socket) -> None:
        link.settimeout(GREETING_S)
        self._link, self._reader = link, link.makefile("rb")

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        with suppress(OSError):
            self._reader.close()
            self._link.close()

    def say(self, **message: Any) -> None:
        """Send a message; OSError if nobody is there."""
        self._link.sendall(json.dumps(message).encode() + b"\n")

    def hear(self) -> dict[str, Any]:
        """Return the next message; OSError if none comes in time, or something else."""
        text = self._reader.readline(_MOST_BYTES)
        try:
            message = json.loads(text) if text.endswith(b"\n") else None
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            raise ConnectionError("no message came")
        return message

    def has_news(self, timeout_s: float) -> bool:
        """Return whether there is something to hear, or nobody is there any more; wait for it."""
        return bool(select.select([self._link], [], [], timeout_s)[0])

    def wait_for_end(self) -> None:
        """Return when the other side has hung up."""
        self._link.settimeout(None)
        with suppress(OSError):
            while self._reader.read1():
                pass

    def ask(self, token: str, request: dict[str, Any]) -> dict[str, Any]:
        """Greet the helper, and return its answer to a request.

        Raises:
            OSError: nobody answers, or somebody who does not know the token.
        """
        nonces = (_text(self.hear(), "nonce"), os.urandom(16).hex())
        self.say(nonce=nonces[1], proof=_proof(token, "asks", nonces), **request)
        answer = self.hear()
        _check(answer, token, "answers", nonces)
        return answer

    def asked(self, token: str) -> tuple[dict[str, Any], str]:
        """Greet who has connected, and return the request, and the proof that the answer must hold.

        Raises:
            OSError: nothing is asked.
            PermissionError: who asks does not know the token.
        """
        nonce = os.urandom(16).hex()
        self.say(nonce=nonce)
        request = self.hear()
        nonces = (nonce, _text(request, "nonce"))
        _check(request, token, "asks", nonces)
        return request, _proof(token, "answers", nonces)


def _text(message: dict[str, Any], name: str) -> str:
    if not isinstance(found := message.get(name), str):
        raise ConnectionError(f"a message without {name}")
    return found


def _proof(token: str, side: str, nonces: tuple[str, str]) -> str:
    said = json.dumps([side, *nonces]).encode()
    return hmac.new(token.encode(), said, hashlib.sha256).hexdigest()


def _check(message: dict[str, Any], token: str, side: str, nonces: tuple[str, str]) -> None:
    given = _text(message, "proof").encode("utf-8", "replace")
    if not hmac.compare_digest(given, _proof(token, side, nonces).encode()):
        raise PermissionError("a wrong token")


# The side of the job


def _ready_line(request: dict[str, Any]) -> tuple[Line, dict[str, Any]]:
    """Return the connection to a helper that waits for the word to begin, and the job's files that it names.

    Raises:
        OSError: there is none, and none can be started.
    """
    folder, wanted = data_folder(), stamp()
    refused = ""  # the token of a helper that is of no use
    helper: Popen[bytes] | None = None
    give_up_s = time.monotonic() + _START_S
    while True:
        # The helper that was started ends if it cannot work, or if another one is at work already.
        is_last_look = helper is not None and (helper.poll() is not None or time.monotonic() > give_up_s)
        door = read_door(folder)
        if door is not None and door["token"] != refused:
            refused = door["token"]
            is_ours = door["stamp"] == wanted
            with suppress(OSError):
                line, answer = _called(door, request if is_ours else {"want": "stop"})
                if is_ours:
                    return line, {name: _text(answer, name) for name in ("result", "cancel")}
                line.close()
        if is_last_look:
            raise ConnectionError("there is no helper")
        helper = helper or _started(folder)
        time.sleep(0.01)


def _called(door: dict[str, Any], request: dict[str, Any]) -> tuple[Line, dict[str, Any]]:
    """Return the connection to the helper behind a door, and its answer to a request."""
    line = Line(socket.create_connection(("127.0.0.1", door["port"]), timeout=_CONNECT_S))
    try:
        return line, line.ask(door["token"], request)
    except OSError:
        line.close()
        raise


def _started(folder: str) -> Popen[bytes]:
    """Start a helper that outlives this process, and shows no window.

    Raises:
        OSError: this is not possible here.
    """
    import subprocess

    os.makedirs(folder, mode=0o700, exist_ok=True)
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
        cwd=folder,  # one that nobody wants to move or remove meanwhile
        env=environment,
        creationflags=flags,
        start_new_session=True,
    )


def _outcome(line: Line, job: str, result: str, cancel: str) -> tuple[int, list[str]] | None:
    """Let the helper begin, and return what `hand_over` returns."""
    left_s = _DEAF_S
    try:
        line.say(want="go")
        while not line.has_news(_LOOK_S):
            left_s -= _LOOK_S if os.path.exists(cancel) else 0
            if left_s < 0:
                return CANCELLED, []
        answer = line.hear()
        return int(answer["code"]), [str(text) for text in answer["said"]]
    except OSError:
        # The action removes all files of a job once it has read the result.
        return (0, []) if os.path.exists(result) or not os.path.exists(job) else None
