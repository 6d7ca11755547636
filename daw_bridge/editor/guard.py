"""Who is served: pages of this editor alone.

Another web page may send requests here, another user may connect to the port, and a name may be made to lead
here. So every request names this host, comes from this origin or from no page, and all but the page's own files
bear the token. Nothing of a body is read before that.
"""

from __future__ import annotations

import asyncio
import hmac
from contextlib import suppress
from typing import Any

import h11
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from daw_bridge.editor.answers import error_answer, json_text

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "media-src 'self' blob:; connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_MOST_UNPROVED = 64  # connections; when they are full, the oldest leaves
_UNPROVED_S = 5.0  # that a connection may be open and show no token
_BODY_S = 60.0  # between two parts of a body


class Guard:
    """Lets requests of this editor's pages through, and answers all others itself."""

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        """Guard an app that is served on a port of this machine."""
        self._app, self._token = app, token.encode()
        self._host = f"127.0.0.1:{port}"
        self.n_proved = 0  # requests that bore the token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] != "http":
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await error_answer(*refusal)(scope, receive, _with_headers(send, is_last=True))
            return
        if self._bears_token(headers):
            self.n_proved += 1
            Connections.prove(scope["client"])
        await self._app(scope, _in_time(receive), _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str, str] | None:
        if headers.getlist("host") != [self._host]:
            return 421, "this is another host", f"open http://{self._host}"
        if headers.getlist("origin") not in ([], [f"http://{self._host}"]):
            return 403, "this page is not the editor's", f"open http://{self._host}"
        if not scope["path"].startswith("/api/"):
            return None if scope["method"] in ("GET", "HEAD") else (405, "only read this", "")
        if not self._bears_token(headers):
            return 401, "the token is missing or wrong", "open the page that redrum edit opened or printed"
        return None

    def _bears_token(self, headers: Headers) -> bool:
        given = headers.getlist("authorization")
        expected = b"Bearer " + self._token
        return len(given) == 1 and hmac.compare_digest(given[0].encode("latin-1", "replace"), expected)


def _with_headers(send: Send, *, is_last: bool = False) -> Send:
    """Return what sends answers with HEADERS; after a last one the connection is closed."""
    more = {**HEADERS, **({"Connection": "close"} if is_last else {})}
    raw = [(name.lower().encode(), value.encode()) for name, value in more.items()]

    async def send_with(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), *raw]}
        await send(message)

    return send_with


def _in_time(receive: Receive) -> Receive:
    """Return what receives a body whose parts come without long waits; after its end it may wait for ever."""
    has_ended = False

    async def receive_in_time() -> Message:
        nonlocal has_ended
        if has_ended:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), _BODY_S)
        except TimeoutError:
            message = {"type": "http.disconnect"}
        has_ended = message["type"] != "http.request" or not message.get("more_body", False)
        return message

    return receive_in_time


class Connections(H11Protocol):
    """A connection; one that shows no token does not last, and many of them push each other out."""

    _unproved: dict[Any, Connections] = {}  # noqa: RUF012 (of the process, by the client's address, oldest first)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unproved."""
        super().connection_made(transport)
        while len(self._unproved) >= _MOST_UNPROVED:
            self._unproved.pop(next(iter(self._unproved))).transport.abort()
        self._unproved[self.client] = self
        self._give_up = self.loop.call_later(_UNPROVED_S, self._end_unproved)

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in JSON, as all is answered."""
        body = json_text({"error": "this is no HTTP request", "hint": ""})
        headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
        with suppress(h11.LocalProtocolError):  # what came before it is being answered
            for event in (
                h11.Response(status_code=400, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._give_up.cancel()
        if self._unproved.get(self.client) is self:
            del self._unproved[self.client]
        super().connection_lost(exc)

    @classmethod
    def prove(cls, client: tuple[str, int] | None) -> None:
        """Let the connection from an address last: it has shown the token."""
        cls._unproved.pop(client, None)

    def _end_unproved(self) -> None:
        if self._unproved.get(self.client) is self:
            self.transport.abort()
