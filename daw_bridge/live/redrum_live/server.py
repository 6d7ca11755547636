"""Requests from Redrum on this machine, answered a little at every tick of a timer of Live's or REAPER's.

A client first proves, in a short time, that it knows the token (`handshake`); few may be about to.
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

__all__ = ["MESSAGE_BYTES", "SCHEMA", "Lobby", "Server", "live_endpoint_path"]

MESSAGE_BYTES = 512 * 1024  # the longest request; a job of a hundred takes has about 50 kB
TICK_BUDGET_S = 0.010  # of a tick that may last 20 ms, one step of a handler included
PROOF_S = 3.0  # that a connection has to prove itself
REQUEST_S = 10.0  # from the first byte of a request to its last
ANSWER_S = 30.0  # that the other side may take to receive an answer
STAY_S = 0.15  # that it has in any case, however many others wait
MOST_UNPROVEN, MOST_PROVEN = 64, 32  # connections
REFUSALS_S = 60.0  # between two lines of the log about strangers

_BACKLOG = 256
_RETRY_S = 0.05  # after the system had no room for another connection
_BLOCK_BYTES = 64 * 1024
_TOO_MANY = "too many connections that have not proved themselves"


def live_endpoint_path() -> str:
    """Return the endpoint file of this user's Live."""
    return endpoint_path("live")


class Lobby:
    """Listens on this machine only, and queues connections until they have proved that they know the token.

    The queue is short, and so is the time in it. Where it is full, the oldest connection is closed, or if that
    has only just come, the new one waits. So whoever proves itself at once gets in, however many connections
    strangers open.
    """

    def __init__(self, port: int, token: str, log: Callable[[str], None], most_bytes: int) -> None:
        """Begin to listen.

        Args:
            port: where; 0: on a free one.
            token: what clients must know.
            log: receives refusals, a few a minute at most.
            most_bytes: the longest message that is accepted of a client.

        Raises:
            OSError: the port is taken.
        """
        self._token, self._log, self._most_bytes = token, log, most_bytes
        self._queue: list[_Unproven] = []  # the oldest first
        self._n_refused, self._next_log_s, self._next_accept_s = 0, 0.0, 0.0
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
        """Stop listening, and close all queued connections."""
        self._listener.close()
        self.drop_all()

    def drop_all(self) -> None:
        """Close all queued connections."""
        for one in self._queue:
            one.link.close()
        self._queue = []

    @property
    def is_accepting(self) -> bool:
        """Whether there is room for another connection."""
        now_s = time.perf_counter()
        is_full = len(self._queue) >= MOST_UNPROVEN and now_s < self._queue[0].since_s + STAY_S
        return now_s >= self._next_accept_s and not is_full

    def sockets(self) -> list[socket.socket]:
        """Return the sockets to receive from; without the listener while there is no room."""
        return [one.link for one in self._queue] + [self._listener] * self.is_accepting

    def tick(self) -> list[tuple[socket.socket, Peer]]:
        """Return the connections that have proved themselves by now; the others stay or are refused."""
        # Those in the queue come first: no flood can push out one that has answered since the last tick.
        before, self._queue = self._queue, []
        proven = [(one.link, one.peer) for one in before if self._goes_on(one)]
        for one in self._arrivals():
            if self._goes_on(one):
                proven.append((one.link, one.peer))
        return proven

    def refuse(self, link: socket.socket, why: str) -> None:
        """Close a connection, and log that, unless others were logged a short time ago."""
        link.close()
        self._log_refusal(why)

    def _goes_on(self, one: _Unproven) -> bool:
        """Return whether a connection has proved itself; if it may yet, it stays in the queue."""
        try:
            if one.has_proved():
                return True
            if time.perf_counter() < one.since_s + PROOF_S:
                self._queue.append(one)
                return False
            self.refuse(one.link, "it did not prove itself in time")
        except OSError as err:
            one.link.close()
            if one.has_sent:  # else it only looked whether a program listens
                self._log_refusal(str(err))
        return False

    def _arrivals(self) -> Iterator[_Unproven]:
        """Yield new connections, not more than the queue takes."""
        for _ in range(MOST_UNPROVEN):
            if not self.is_accepting:
                return
            try:
                link, address = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionError):
                return
            except OSError as err:  # too many open files, or no memory
                self._log_refusal("cannot accept: " + str(err))
                if self._refuse_oldest():
                    continue
                self._next_accept_s = time.perf_counter() + _RETRY_S
                return
            if address[0] != "127.0.0.1":
                self.refuse(link, "a connection from " + str(address[0]))
                continue
            link.setblocking(False)
            with suppress(OSError):  # or the end of an answer waits until its beginning has been confirmed
                link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if len(self._queue) >= MOST_UNPROVEN:
                self.refuse(self._queue.pop(0).link, _TOO_MANY)
            yield _Unproven(link, Peer(self._token, is_server=True, most_bytes=self._most_bytes))

    def _refuse_oldest(self) -> bool:
        """Refuse connections that have had their least time, and return whether there were any."""
        latest_s = time.perf_counter() - STAY_S
        stayed = [one for one in self._queue if one.since_s <= latest_s]
        for one in stayed:
            self.refuse(one.link, _TOO_MANY)
        self._queue = [one for one in self._queue if one.since_s > latest_s]
        return bool(stayed)

    def _log_refusal(self, why: str) -> None:
        self._n_refused += 1
        if time.perf_counter() >= self._next_log_s:
            more = f" (and {self._n_refused - 1} before)" if self._n_refused > 1 else ""
            self._log("refused: " + why + more)
            self._n_refused, self._next_log_s = 0, time.perf_counter() + REFUSALS_S


class _Unproven:
    """A connection that has not proved itself yet."""

    def __init__(self, link: socket.socket, peer: Peer) -> None:
        self.link, self.peer = link, peer
        self.since_s = time.perf_counter()
        self.has_sent = False

    def has_proved(self) -> bool:
        """Receive what has come of the proof, and return whether it is whole.

        Raises:
            OSError: the connection was closed, or this is a stranger.
        """
        try:
            while not self.peer.is_proven:
                data = self.link.recv(self.peer.n_missing)
                if not data:
                    raise ConnectionError("it closed the connection")
                self.has_sent = True
                answer = self.peer.take(data)
                if answer and self.link.send(answer) != len(answer):
                    raise ConnectionError("it does not receive")
        except (BlockingIOError, InterruptedError):
            return False
        return True


class Server:
    """Answers requests, a little at every tick."""

    def __init__(
        self,
        handlers: Mapping[str, Callable[[dict[str, Any]], Iterator[str]]],
        version: list[int],
        log: Callable[[str], None],
        most_bytes: int = MESSAGE_BYTES,
    ) -> None:
        """Prepare to answer.

        Args:
            handlers: for each request, what yields the text of the answer in blocks; after each block it may
                rest until the next tick.
            version: of the program, for the endpoint file.
            log: receives refusals and failures.
            most_bytes: the longest request.
        """
        self._handlers, self._version, self._log = handlers, version, log
        self._most_bytes, self._token, self._path = most_bytes, new_token(), ""
        self._lobby: Lobby | None = None
        self._clients: list[_Client] = []

    def open(self) -> None:
        """Listen on a free port and write the endpoint file of Live; where that fails, log it."""
        try:
            port = self.listen(live_endpoint_path(), 0)
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
        """Close all connections, and remove the endpoint file if it is still ours."""
        if self._lobby is None:
            return
        self.drop_all()
        self._lobby.close()
        self._lobby = None
        remove_endpoint(self._path, self._token)

    def drop_all(self) -> None:
        """Close all connections."""
        for client in self._clients:
            client.close()
        self._clients = []
        if self._lobby is not None:
            self._lobby.drop_all()

    def tick(self) -> None:
        """Accept, receive, handle and send, no longer than the budget and one step of a handler."""
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
            # A client that has had its turn is the last of the next tick.
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
            client.begin(self._answer(text))
        while client.answer is not None and time.perf_counter() < deadline_s:
            try:
                client.add(next(client.answer))
            except StopIteration:
                client.finish()
            except Exception as err:
                self._log("failed: " + repr(err))
                client.begin(_refusal("failed", str(err)))
        client.send(deadline_s)

    def _answer(self, text: bytes) -> Iterator[str]:
        """Yield the answer to a request in blocks."""
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
    """A client that has proved itself: its requests, one after the other, and their answers."""

    def __init__(self, link: socket.socket, peer: Peer) -> None:
        self._link, self._peer = link, peer
        self._blocks: list[bytes] = []
        self._seal: Any = None
        self._unsent = memoryview(b"")
        self._until_s = 0.0  # when a request must be whole, or an answer received
        self.answer: Iterator[str] | None = None
        self.is_closed = False

    @property
    def is_idle(self) -> bool:
        """Whether no request is handled, and all answers are sent."""
        return self.answer is None and not self._unsent

    def receive(self, deadline_s: float) -> bytes | None:
        """Return the request once all of it is there.

        Raises:
            OSError: it does not come in time, or was changed.
        """
        try:
            while time.perf_counter() < deadline_s:
                was_midway = self._peer.is_midway
                data = self._link.recv(min(self._peer.n_missing, _BLOCK_BYTES))
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

    def begin(self, answer: Iterator[str]) -> None:
        """Begin an answer, which a handler yields."""
        self.answer, self._blocks, self._seal = answer, [], self._peer.seal()

    def add(self, text: str) -> None:
        """Add a block to the answer."""
        block = text.encode("utf-8", "replace")
        self._seal.update(block)
        self._blocks.append(block)

    def finish(self) -> None:
        """End the answer; it is sent from now on."""
        header = self._peer.header(self._seal, sum(map(len, self._blocks)))
        self._unsent = memoryview(b"".join([header, *self._blocks]))
        self.answer, self._blocks = None, []
        self._until_s = time.perf_counter() + ANSWER_S

    def send(self, deadline_s: float) -> None:
        """Send as much as the client receives.

        Raises:
            OSError: it closed the connection, or does not receive the answer in time.
        """
        try:
            while self._unsent and time.perf_counter() < deadline_s:
                self._unsent = self._unsent[self._link.send(self._unsent[:_BLOCK_BYTES]) :]
        except (BlockingIOError, InterruptedError):
            pass
        if self._unsent and time.perf_counter() > self._until_s:
            raise ConnectionError("an answer was not taken in time")

    def close(self) -> None:
        """Close the connection."""
        self.is_closed = True
        if self.answer is not None:
            getattr(self.answer, "close", lambda: None)()
        self._link.close()
