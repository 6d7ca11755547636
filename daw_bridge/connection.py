"""A connection to another program of Redrum's on this machine: proved by both sides, whole messages only.

Each message has one deadline, however its bytes come. Nothing is sent to a program that has not proved that it
knows the token, and no message is used before all of it is proved to be as it was sent.

The command of REAPER's action loads this before it hands its job over, so it imports little.
"""

from __future__ import annotations

import json
import select
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from daw_bridge.live.redrum_live.handshake import Peer, Unproven

__all__ = ["Connection", "Unproven"]

# A connection on this machine is taken or refused at once; Windows tries a closed port for 2 s.
_CONNECT_S = 0.5
_CONNECTS = 4  # tries while the queue is full: the system itself would wait longer each time
_TRIES = 20  # to get in among many strangers
_RETRY_S = 0.05
_BLOCK_BYTES = 64 * 1024


class Connection:
    """One side of a connection whose other side knows the token, too."""

    def __init__(self, link: socket.socket, peer: Peer) -> None:
        self._link, self._peer = link, peer
        with suppress(OSError):  # or a message waits until the one before has been confirmed, 40 ms
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @classmethod
    def open(cls, endpoint: Mapping[str, Any], timeout_s: float, most_bytes: int) -> Connection:
        """Return the connection to the program that wrote an endpoint file.

        Args:
            endpoint: the contents of the file.
            timeout_s: how long the program may take to prove itself.
            most_bytes: the longest message that is accepted of it.

        Raises:
            Unproven: another program listens there by now.
            TimeoutError: the program did not prove itself in time.
            OSError: no program listens there.
        """
        deadline_s = time.monotonic() + timeout_s
        for n_left in reversed(range(_TRIES)):
            peer = Peer(endpoint["token"], is_server=False, most_bytes=most_bytes)
            connection = cls(_connected(endpoint["port"], deadline_s), peer)
            try:
                connection._prove(deadline_s)
                return connection
            except BaseException as err:
                connection.close()
                is_refused = isinstance(err, ConnectionError) and not isinstance(err, Unproven)
                if not (is_refused and n_left):  # its queue of unproven connections may be full for a moment
                    raise
            time.sleep(_RETRY_S)
        raise AssertionError("the last try returns or raises")

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        with suppress(OSError):
            self._link.close()

    def send(self, message: Mapping[str, Any], timeout_s: float) -> None:
        """Send a message whole.

        Raises:
            OSError: the connection is closed, or the message is not taken in time.
        """
        deadline_s = time.monotonic() + timeout_s
        self._send(self._peer.sealed(json.dumps(message).encode()), deadline_s)

    def receive(self, timeout_s: float) -> dict[str, Any]:
        """Return the next message.

        Raises:
            OSError: none comes whole in time, or it is not what was sent.
        """
        deadline_s = time.monotonic() + timeout_s
        while (text := self._peer.message()) is None:
            self._receive(deadline_s)
        try:
            message = json.loads(text)
        except (ValueError, RecursionError) as err:
            raise ConnectionError("a message that is no JSON") from err
        if not isinstance(message, dict):
            raise ConnectionError("a message that is no object")
        return message

    def has_data(self, timeout_s: float) -> bool:
        """Wait, and return whether there is something to receive, or the other side is gone."""
        return bool(select.select([self._link], [], [], timeout_s)[0])

    def wait_for_end(self) -> None:
        """Return when the other side has closed the connection."""
        with suppress(OSError):
            self._link.settimeout(None)
            while self._link.recv(_BLOCK_BYTES):
                pass

    def _prove(self, deadline_s: float) -> None:
        self._send(self._peer.greeting(), deadline_s)
        while not self._peer.is_proven:
            self._receive(deadline_s)

    def _receive(self, deadline_s: float) -> None:
        self._limit(deadline_s)
        data = self._link.recv(min(self._peer.n_missing, _BLOCK_BYTES))
        if not data:
            raise ConnectionError("the other side closed the connection")
        if answer := self._peer.take(data):
            self._send(answer, deadline_s)

    def _send(self, data: bytes, deadline_s: float) -> None:
        self._limit(deadline_s)
        self._link.sendall(data)  # one deadline for all of it

    def _limit(self, deadline_s: float) -> None:
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("no answer in time")
        self._link.settimeout(left_s)


def _connected(port: int, deadline_s: float) -> socket.socket:
    for n_left in reversed(range(_CONNECTS)):
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=_CONNECT_S)
        except TimeoutError:
            if not n_left or time.monotonic() > deadline_s:
                raise
    raise AssertionError("the last try returns or raises")
