"""Requests from Redrum on this machine, answered a little at every tick of a timer of Live's or REAPER's.

Whoever connects first proves, in a short time, that they know the token (`handshake`); few may be about to.
Then each message is a request, a JSON object, and is answered with one. Nothing here knows Live or REAPER.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from .endpoint import endpoint_path, remove_endpoint, write_endpoint
from .handshake import SCHEMA, Peer, new_token

__all__ = ["MESSAGE_BYTES", "SCHEMA", "Lobby", "Server", "door_path"]

MESSAGE_BYTES = 512 * 1024  # the longest request; a job of a hundred takes has about 50 kB
TICK_BUDGET_S = 0.010  # of a tick that may last 20 ms, one step of the work included
PROOF_S = 3.0  # that a connection has to prove itself
REQUEST_S = 10.0  # from the first byte of a request to its last
ANSWER_S = 30.0  # that the other side may take to receive an answer
STAY_S = 0.15  # that it has in any case, however many others wait
MOST_UNPROVEN, MOST_PROVEN = 64, 32  # connections
REFUSALS_S = 60.0  # between two lines of the log about strangers

_BACKLOG = 256
_ACCEPT_AGAIN_S = 0.05  # after the system had no room for another connection
_CHUNK_BYTES = 64 * 1024
_TOO_MANY = "too many connections that have not proved themselves"


def door_path() -> str:
    """Return the endpoint file of this user's Live."""
    return endpoint_path("live")


class Lobby:
    """Listens on this machine only, and holds connections until they have proved that they know the token.

    They are few, and stay for a short time; where there is no room for another, the oldest has to leave, or if
    that has only just come, the other waits. So whoever proves itself at once gets in, however many connections
    strangers hold.
    """

    def __init__(self, port: int, token: str, log: Callable[[str], None], most_bytes: int) -> None:
        """Begin to listen.

        Args:
            port: where; 0: on a free one.
            token: what whoever connects must know.
            log: where refusals are told, a few a minute at most.
            most_bytes: the longest message that is accepted of who has proved itself.

        Raises:
            OSError: the port is taken.
        """
        self._token, self._log, self._most_bytes = token, log, most_bytes
        self._waiting: list[_Unproven] = []  # the oldest first
        self._n_refused, self._say_again_s, self._accept_again_s = 0, 0.0, 0.0
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            if sys.platform == "win32":  # where SO_REUSEADDR would let others listen here, too
                self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
            else:
                self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._listener.bind(("127.0.0.1", port))
            self._listener.listen(_BACKLOG)
            self._listener.setblocking(False)
        except BaseException:
            self._listener.close()
            raise
        self.port: int = self._listener.getsockname()[1]

    def close(self) -> None:
        """Listen no more, and hang up on everybody who is still here."""
        self._listener.close()
        self.drop_all()

    def drop_all(self) -> None:
        """Hang up on everybody who is still here."""
        for one in self._waiting:
            one.link.close()
        self._waiting = []

    @property
    def is_accepting(self) -> bool:
        """Whether there is room for another connection."""
        now_s = time.perf_counter()
        is_full = len(self._waiting) >= MOST_UNPROVEN and now_s < self._waiting[0].since_s + STAY_S
        return now_s >= self._accept_again_s and not is_full

    def sockets(self) -> list[socket.socket]:
        """Return where something may come in; without the listener while there is no room."""
        return [one.link for one in self._waiting] + [self._listener] * self.is_accepting

    def tick(self) -> list[tuple[socket.socket, Peer]]:
        """Return the connections that have proved themselves by now; the others go on or are refused."""
        # Those that are here come first: no flood can push out who has answered since the last time.
        before, self._waiting = self._waiting, []
        proven = [(one.link, one.peer) for one in before if self._goes_on(one)]
        for one in self._arrivals():
            if self._goes_on(one):
                proven.append((one.link, one.peer))
        return proven

    def refuse(self, link: socket.socket, why: str) -> None:
        """Hang up on a connection and say so, unless that was said of others a short time ago."""
        link.close()
        self._say(why)

    def _goes_on(self, one: _Unproven) -> bool:
        """Return whether a connection has proved itself; if it may yet, it stays here."""
        try:
            if one.has_proved():
                return True
            if time.perf_counter() < one.since_s + PROOF_S:
                self._waiting.append(one)
                return False
            self.refuse(one.link, "it did not prove itself in time")
        except OSError as err:
            one.link.close()
            if one.has_said_something:  # else it only looked whether somebody listens
                self._say(str(err))
        return False

    def _arrivals(self) -> Iterator[_Unproven]:
        """Yield who has connected, not more than may be here."""
        for _ in range(MOST_UNPROVEN):
            if not self.is_accepting:
                return
            try:
                link, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as err:  # too many open files, or no memory
                self._say("cannot accept: " + str(err))
                if self._refuse_who_stayed():
                    continue
                self._accept_again_s = time.perf_counter() + _ACCEPT_AGAIN_S
                return
            if address[0] != "127.0.0.1":
                self.refuse(link, "a connection from " + str(address[0]))
                continue
            link.setblocking(False)
            with suppress(OSError):  # or the end of an answer waits until its beginning has been confirmed
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self._waiting) >= MOST_UNPROVEN:
                self.refuse(self._waiting.pop(0).link, _TOO_MANY)
            yield _Unproven(link, Peer(self._token, is_server=True, most_bytes=self._most_bytes))

    def _refuse_who_stayed(self) -> bool:
        """Refuse who has had a time in any case, and return whether there was anybody."""
        latest_s = time.perf_counter() - STAY_S
        stayed = [one for one in self._waiting if one.since_s <= latest_s]
        for one in stayed:
            self.refuse(one.link, _TOO_MANY)
        self._waiting = [one for one in self._waiting if one.since_s > latest_s]
        return bool(stayed)

    def _say(self, why: str) -> None:
        self._n_refused += 1
        if time.perf_counter() >= self._say_again_s:
            more = f" (and {self._n_refused - 1} before)" if self._n_refused > 1 else ""
            self._log("refused: " + why + more)
            self._n_refused, self._say_again_s = 0, time.perf_counter() + REFUSALS_S


class _Unproven:
    """A connection that has not proved itself yet."""

    def __init__(self, link: socket.socket, peer: Peer) -> None:
        self.link, self.peer = link, peer
        self.since_s = time.perf_counter()
        self.has_said_something = False

    def has_proved(self) -> bool:
        """Take what is there, of so few bytes as a proof has, and return whether it was the proof.

        Raises:
            OSError: it hung up, or is somebody else.
        """
        try:
            while not self.peer.is_proven:
                data = self.link.recv(self.peer.n_wanted)
                if not data:
                    raise ConnectionError("it hung up")
                self.has_said_something = True
                answer = self.peer.take(data)
                if answer and self.link.send(answer) != len(answer):
                    raise ConnectionError("it does not listen")
        except (BlockingIOError, InterruptedError):
            return False
        return True


class Server:
    """Answers requests, a little whenever it is told to."""

    def __init__(
        self,
        handlers: Mapping[str, Callable[[dict[str, Any]], Iterator[str]]],
        version: list[int],
        log: Callable[[str], None],
        most_bytes: int = MESSAGE_BYTES,
    ) -> None:
        """Prepare to answer.

        Args:
            handlers: for each request, what yields the text of the answer in parts; after each part the work
                may rest until the next tick.
            version: of the program, for the endpoint file.
            log: where refusals and failures are told.
            most_bytes: the longest request.
        """
        self._handlers, self._version, self._log = handlers, version, log
        self._most_bytes, self._token, self._path = most_bytes, new_token(), ""
        self._lobby: Lobby | None = None
        self._clients: list[_Client] = []

    def open(self) -> None:
        """Listen on a free port and write it down for Live; where that fails, say so and stay deaf."""
        try:
            port = self.listen(door_path(), 0)
            self._log("listens on 127.0.0.1:" + str(port))
        except OSError as err:
            self._log("cannot listen: " + str(err))

    def listen(self, path: str, port: int) -> int:
        """Listen, write an endpoint file, and return the port.

        Raises:
            OSError: the port is taken, or the file cannot be written.
        """
        self._path, self._lobby = path, Lobby(port, self._token, self._log, self._most_bytes)
        try:
            write_endpoint(path, self._lobby.port, self._token, version=self._version)
        except OSError:
            self.close()
            raise
        return self._lobby.port

    def close(self) -> None:
        """Hang up on everybody, and remove the endpoint file if it is still ours."""
        if self._lobby is None:
            return
        self.drop_all()
        self._lobby.close()
        self._lobby = None
        remove_endpoint(self._path, self._token)

    def drop_all(self) -> None:
        """Hang up on everybody."""
        for client in self._clients:
            client.close()
        self._clients = []
        if self._lobby is not None:
            self._lobby.drop_all()

    def tick(self) -> None:
        """Accept, receive, work and answer, no longer than the budget and one step of the work."""
        if self._lobby is None:
            return
        deadline_s = time.perf_counter() + TICK_BUDGET_S
        for link, peer in self._lobby.tick():
            self._clients.append(_Client(link, peer))
        while len(self._clients) > MOST_PROVEN:
            idle = next((client for client in self._clients if client.is_idle), self._clients[0])
            idle.close()
            self._clients.remove(idle)
        for client in list(self._clients):
            # Whoever has had its turn is the last of the next tick.
            self._clients.append(self._clients.pop(0))
            try:
                self._serve(client, deadline_s)
            except OSError as err:
                self._log("a connection broke: " + str(err))
                client.close()
            if time.perf_counter() >= deadline_s:
                break
        self._clients = [client for client in self._clients if not client.is_closed]

    def _serve(self, client: _Client, deadline_s: float) -> None:
        if client.is_idle:
            text = client.receive(deadline_s)
            if text is None:
                return
            client.begin(self._work_of(text))
        while client.work is not None and time.perf_counter() < deadline_s:
            try:
                client.add(next(client.work))
            except StopIteration:
                client.finish()
            except Exception as err:
                self._log("failed: " + repr(err))
                client.begin(_refusal("failed", str(err)))
        client.send(deadline_s)

    def _work_of(self, text: bytes) -> Iterator[str]:
        """Yield the answer to a request in parts."""
        try:
            request = json.loads(text.decode("utf-8"))
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            yield from _refusal("broken")
            return
        handler = self._handlers.get(str(request.get("request")))
        yield from _refusal("unknown") if handler is None else handler(request)


def _refusal(word: str, why: str = "") -> Iterator[str]:
    yield json.dumps({"schema": SCHEMA, "error": word, "why": why or word})


class _Client:
    """Who has proved itself: its requests, one after the other, and their answers."""

    def __init__(self, link: socket.socket, peer: Peer) -> None:
        self._link, self._peer = link, peer
        self._parts: list[bytes] = []
        self._seal: Any = None
        self._unsent = memoryview(b"")
        self._until_s = 0.0  # that a request must be whole, or an answer received
        self.work: Iterator[str] | None = None
        self.is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether there is no request that is worked on, nor an answer that is not sent."""
        return self.work is None and not self._unsent

    def receive(self, deadline_s: float) -> bytes | None:
        """Return the request once all of it is there.

        Raises:
            OSError: it does not come in time, or somebody changed it.
        """
        try:
            while time.perf_counter() < deadline_s:
                was_midway = self._peer.is_midway
                data = self._link.recv(min(self._peer.n_wanted, _CHUNK_BYTES))
                if not data:
                    self.close()
                    return None
                if not was_midway:
                    self._until_s = time.perf_counter() + REQUEST_S
                self._peer.take(data)
                message = self._peer.message()
                if message is not None:
                    return message
        except (BlockingIOError, InterruptedError):
            pass
        if self._peer.is_midway and time.perf_counter() > self._until_s:
            raise ConnectionError("a request took too long")
        return None

    def begin(self, work: Iterator[str]) -> None:
        """Begin to work on an answer."""
        self.work, self._parts, self._seal = work, [], self._peer.seal()

    def add(self, text: str) -> None:
        """Take a part of the answer."""
        part = text.encode("utf-8", "replace")
        self._seal.update(part)
        self._parts.append(part)

    def finish(self) -> None:
        """Take all parts as the answer; it is sent from now on."""
        header = self._peer.header(self._seal, sum(map(len, self._parts)))
        self._unsent = memoryview(b"".join([header, *self._parts]))
        self.work, self._parts = None, []
        self._until_s = time.perf_counter() + ANSWER_S

    def send(self, deadline_s: float) -> None:
        """Send what the other side takes.

        Raises:
            OSError: it hung up, or does not take the answer in time.
        """
        try:
            while self._unsent and time.perf_counter() < deadline_s:
                self._unsent = self._unsent[self._link.send(self._unsent[:_CHUNK_BYTES]) :]
        except (BlockingIOError, InterruptedError):
            pass
        if self._unsent and time.perf_counter() > self._until_s:
            raise ConnectionError("an answer was not taken in time")

    def close(self) -> None:
        """Hang up."""
        self.is_closed = True
        if self.work is not None:
            getattr(self.work, "close", lambda: None)()
        self._link.close()
