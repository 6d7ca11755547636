"""How two programs of one user prove themselves to each other, and protect their messages from changes.

Both know a token, which is never sent. Each side sends a nonce, and proves with HMAC-SHA256 of both nonces that
it knows the token; the server proves it first, so that a stranger learns nothing:

    client: magic, nonce        server: magic, nonce, proof        client: proof

Then messages pass in both directions: 8 bytes of length, 32 bytes of HMAC-SHA256, and so many bytes. The key
comes from token and nonces; what is authenticated is the side that sends, the message's number, and all of it.

Nothing here knows sockets. It runs in the Python of Live and of REAPER, too, which may be 3.7.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Generator
from typing import Any

__all__ = ["SCHEMA", "Peer", "Unproven", "new_token"]

SCHEMA = 3  # of endpoint files, handshake and messages; 3: tracks with the groups that they lie in

_MAGIC = b"redrum\0" + bytes([SCHEMA])
_NONCE_BYTES = _DIGEST_BYTES = 32
_LENGTH_BYTES = 8
_SERVER, _CLIENT = b"server", b"client"


class Unproven(ConnectionError):
    """The other side does not know the token, or its bytes were changed."""


def new_token() -> str:
    """Return a token that nobody can guess."""
    return os.urandom(32).hex()


class Peer:
    """One side of a connection: what has come in makes messages, and messages make what is to be sent.

    `n_missing` is how many bytes may be received next, at most: never take more.
    """

    def __init__(self, token: str, *, is_server: bool, most_bytes: int) -> None:
        """Begin a connection.

        Args:
            token: what both sides must know.
            is_server: whether the other side has connected to this one.
            most_bytes: the longest message that is accepted.
        """
        self._token, self._most_bytes = token.encode(), most_bytes
        self._mine, self._theirs = (_SERVER, _CLIENT) if is_server else (_CLIENT, _SERVER)
        self._nonce, self._key = os.urandom(_NONCE_BYTES), b""
        self._n_sent = self._n_received = 0
        self._received, self._unsent = bytearray(), bytearray()
        self._message: bytes | None = None
        self.is_proven = False  # that the other side knows the token
        self._is_within = False  # a message
        self._steps = self._as_server() if is_server else self._as_client()
        self._n_next: int = next(self._steps)  # bytes of what comes next as a whole

    @property
    def n_missing(self) -> int:
        """How many bytes are missing of what comes next, 1 or more."""
        return self._n_next - len(self._received)

    @property
    def is_midway(self) -> bool:
        """Whether a message has begun to come in, and not ended."""
        return bool(self._received) or self._is_within

    def take(self, data: bytes) -> bytes:
        """Process received bytes, and return what the handshake has to send now.

        Raises:
            Unproven: the other side has not proved itself, or its bytes were changed.
        """
        if len(data) > self.n_missing:
            raise Unproven("more bytes than are missing")
        self._received += data
        if not self.n_missing:
            whole, self._received = bytes(self._received), bytearray()
            self._n_next = self._steps.send(whole)
        return self.greeting()

    def greeting(self) -> bytes:
        """Return what the handshake has to send now: a client begins it."""
        unsent, self._unsent = bytes(self._unsent), bytearray()
        return unsent

    def message(self) -> bytes | None:
        """Return the message that has come in, None if none has yet."""
        message, self._message = self._message, None
        return message

    def seal(self) -> Any:
        """Return what authenticates the next message that is sent: update it with all of the message."""
        return self._authenticator(self._mine, self._n_sent + 1)

    def header(self, seal: Any, n_bytes: int) -> bytes:
        """Return what goes before a message of so many bytes, once its seal has seen all of it."""
        self._n_sent += 1
        digest: bytes = seal.digest()
        return n_bytes.to_bytes(_LENGTH_BYTES, "big") + digest

    def sealed(self, message: bytes) -> bytes:
        """Return all that is to be sent for a message."""
        seal = self.seal()
        seal.update(message)
        return self.header(seal, len(message)) + message

    def _as_client(self) -> Generator[int, bytes, None]:
        self._unsent += _MAGIC + self._nonce
        _check((yield len(_MAGIC)), _MAGIC)
        nonces = self._nonce + (yield _NONCE_BYTES)
        _check((yield _DIGEST_BYTES), self._proof(_SERVER, nonces))
        self._unsent += self._proof(_CLIENT, nonces)
        yield from self._messages(nonces)

    def _as_server(self) -> Generator[int, bytes, None]:
        _check((yield len(_MAGIC)), _MAGIC)
        nonces = (yield _NONCE_BYTES) + self._nonce
        self._unsent += _MAGIC + self._nonce + self._proof(_SERVER, nonces)
        _check((yield _DIGEST_BYTES), self._proof(_CLIENT, nonces))
        yield from self._messages(nonces)

    def _messages(self, nonces: bytes) -> Generator[int, bytes, None]:
        self._key = self._proof(b"key", nonces)
        self.is_proven = True
        while True:
            n_bytes = int.from_bytes((yield _LENGTH_BYTES), "big")
            self._is_within = True
            if not 0 < n_bytes <= self._most_bytes:
                raise Unproven(f"a message of {n_bytes} bytes")
            digest = yield _DIGEST_BYTES
            message = yield n_bytes
            self._n_received += 1
            seal = self._authenticator(self._theirs, self._n_received)
            seal.update(message)
            _check(digest, seal.digest())
            self._message, self._is_within = message, False

    def _proof(self, what: bytes, nonces: bytes) -> bytes:
        return hmac.new(self._token, what + b" " + nonces, hashlib.sha256).digest()

    def _authenticator(self, side: bytes, number: int) -> Any:
        return hmac.new(self._key, side + number.to_bytes(8, "big"), hashlib.sha256)


def _check(found: bytes, expected: bytes) -> None:
    """Compare in a time that does not depend on how much is right."""
    if not hmac.compare_digest(found, expected):
        raise Unproven("no proof of the token")
