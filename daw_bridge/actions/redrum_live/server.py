"""Requests from Redrum on this machine, answered a little at every tick of Live's timer.

One request a connection: a line of JSON comes in, a line of JSON goes out, and the connection ends. Whoever
asks must know the token, which lies in a file that only this user can read. Nothing here knows Live.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = [
    "MESSAGE_BYTES",
    "SCHEMA",
    "Server",
    "door_path",
]

SCHEMA = 1  # of what both sides say
MESSAGE_BYTES = 512 * 1024  # the longest request; a job of a hundred takes has about 50 kB
TICK_BUDGET_S = 0.010  # of a tick that may last 20 ms, one step of the work included
IDLE_S = 10.0  # that a connection may wait for the other side
MOST_CONNECTIONS = 8
_CHUNK_BYTES = 64 * 1024
_BUSY = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR)


def door_path() -> str:
    """Return the file that says where this user's Live listens, and the token."""
    if sys.platform == "win32":
        folder = os.environ.get("LOCALAPPDATA") or os.path.expanduser("~\\AppData\\Local")
    elif sys.platform == "darwin":
        folder = os.path.expanduser("~/Library/Application Support")
    else:
        folder = os.path.expanduser("~/.local/share")
    return os.path.join(folder, "redrum", "live.json")


class Refusal(Exception):
    """A request that is not answered; the argument says why, in a word that the other side knows."""


class Server:
    """Listens on this machine only, and works on requests when it is told to."""

    def __init__(
        self,
        handlers: Mapping[str, Callable[[dict[str, Any]], Iterator[str]]],
        version: list[int],
        log: Callable[[str], None],
    ) -> None:
        """Prepare to answer.

        Args:
            handlers: for each request, what yields the text of the answer in parts; after each part the work
                may rest until the next tick.
            version: of Live, for the file.
            log: where refusals and failures are told.
        """
        self._handlers, self._version, self._log = handlers, version, log
        self._token = os.urandom(16).hex()
        self._listener: socket.socket | None = None
        self._connections: list[_Connection] = []

    def open(self) -> None:
        """Listen on a free port and write it down; where that fails, say so and stay deaf."""
        try:
            listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            self._listener = listener
            listener.bind(("127.0.0.1", 0))
            listener.listen(4 * MOST_CONNECTIONS)
            listener.setblocking(False)
            door = {"schema": SCHEMA, "port": listener.getsockname()[1], "token": self._token}
            door.update(live=self._version, pid=os.getpid())
            _write_privately(door_path(), json.dumps(door))
            self._log("listens on 127.0.0.1:" + str(door["port"]))
        except OSError as err:
            self._log("cannot listen: " + str(err))
            self.close()

    def close(self) -> None:
        """Hang up on everybody, and remove the file if it is still ours."""
        self.drop_all()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        try:
            with open(door_path(), encoding="utf-8") as file:
                is_ours = json.load(file).get("token") == self._token
            if is_ours:
                os.remove(door_path())
        except (OSError, ValueError, AttributeError):
            pass

    def drop_all(self) -> None:
        """Hang up on everybody."""
        for connection in self._connections:
            connection.close()
        self._connections = []

    def tick(self) -> None:
        """Accept, read, work and answer, no longer than the budget and one step of the work."""
        if self._listener is None:
            return
        deadline = time.perf_counter() + TICK_BUDGET_S
        self._accept()
        for connection in list(self._connections):
            try:
                self._serve(connection, deadline)
            except Refusal as refusal:
                self._log("refused: " + str(refusal))
                connection.answer(json.dumps({"schema": SCHEMA, "error": str(refusal)}))
                connection.send()
            except OSError as err:
                self._log("a connection broke: " + str(err))
                connection.close()
            if time.perf_counter() >= deadline:
                break
        self._connections = [one for one in self._connections if not one.is_closed]

    def _accept(self) -> None:
        assert self._listener is not None
        while len(self._connections) < MOST_CONNECTIONS:
            try:
                link, address = self._listener.accept()
            except OSError as err:
                if err.errno not in _BUSY:
                    self._log("cannot accept: " + str(err))
                return
            if address[0] != "127.0.0.1":
                self._log("refused: a connection from " + str(address[0]))
                link.close()
                continue
            link.setblocking(False)
            self._connections.append(_Connection(link))

    def _serve(self, connection: _Connection, deadline: float) -> None:
        if connection.work is None and not connection.is_answered:
            line = connection.receive()
            if line is None:
                if connection.is_idle() and not connection.is_closed:
                    raise Refusal("idle")
                return
            connection.work = self._work_of(line)
        while connection.work is not None and time.perf_counter() < deadline:
            try:
                connection.parts.append(next(connection.work))
            except StopIteration:
                connection.answer("".join(connection.parts))
            except Exception as err:
                self._log("failed: " + repr(err))
                connection.answer(json.dumps({"schema": SCHEMA, "error": "failed", "why": str(err)}))
        if connection.is_answered:
            connection.send()

    def _work_of(self, line: bytes) -> Iterator[str]:
        """Return the work that a request asks for."""
        try:
            request = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError):
            raise Refusal("broken") from None
        if not isinstance(request, dict) or request.get("schema") != SCHEMA:
            raise Refusal("schema")
        if not _is_same(str(request.get("token")), self._token):
            raise Refusal("token")
        handler = self._handlers.get(str(request.get("request")))
        if handler is None:
            raise Refusal("unknown")
        return handler(request)


class _Connection:
    """One request and its answer."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._received = bytearray()
        self._unsent = memoryview(b"")
        self._heard_s = time.perf_counter()
        self.work: Iterator[str] | None = None
        self.parts: list[str] = []
        self.is_answered = self.is_closed = False

    def receive(self) -> bytes | None:
        """Return the request once all of it is there."""
        while True:
            try:
                data = self._link.recv(_CHUNK_BYTES)
            except OSError as err:
                if err.errno in _BUSY:
                    return None
                raise
            self._heard_s = time.perf_counter()
            self._received += data
            line, is_whole, _ = self._received.partition(b"\n")
            if len(line) > MESSAGE_BYTES:
                raise Refusal("oversized")
            if is_whole:
                return bytes(line)
            if not data:
                if self._received:
                    raise Refusal("broken")
                self.close()  # somebody only looked whether we are here
                return None

    def is_idle(self) -> bool:
        """Return whether the other side has been silent for too long."""
        return time.perf_counter() - self._heard_s > IDLE_S

    def answer(self, text: str) -> None:
        """Take the whole answer; it is sent from now on."""
        self.work, self.parts = None, []
        self._unsent = memoryview((text + "\n").encode("utf-8", "replace"))
        self._heard_s = time.perf_counter()
        self.is_answered = True

    def send(self) -> None:
        """Send what the other side takes, and hang up after the last of it."""
        try:
            while self._unsent:
                self._unsent = self._unsent[self._link.send(self._unsent[:_CHUNK_BYTES]) :]
                self._heard_s = time.perf_counter()
        except OSError as err:
            if err.errno in _BUSY and not self.is_idle():
                return
        self.close()

    def close(self) -> None:
        """Hang up."""
        self.is_closed = True
        if self.work is not None:
            getattr(self.work, "close", lambda: None)()
        # Closing on what has not been read would be a reset, which takes the answer along.
        try:
            self._link.shutdown(socket.SHUT_WR)
            while self._link.recv(_CHUNK_BYTES):
                pass
        except OSError:
            pass
        self._link.close()


def _is_same(given: str, token: str) -> bool:
    """Return whether a token is right, in a time that does not tell how much of it is."""
    difference = len(given) ^ len(token)
    for place, char in enumerate(token):
        difference |= ord(given[place : place + 1] or "\0") ^ ord(char)
    return difference == 0


def _write_privately(path: str, text: str) -> None:
    """Put a file where it is wanted, whole, for this user only."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = path + "." + os.urandom(4).hex()
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)
