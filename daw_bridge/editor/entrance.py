"""The page before anything is open in it: it takes a recording that is dropped, or the demo loop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from daw_bridge.editor.answers import error_answer, json_answer, json_text
from daw_bridge.editor.dropped import store_recording
from daw_bridge.editor.guard import Guard
from daw_bridge.editor.own_files import own_file
from daw_bridge.editor.requests import TooLarge, query_of
from daw_bridge.editor.uvicorn_server import LOOK_S, Ending, server_of
from transform.errors import RedrumError
from transform.terminal import printable

_ALIVE_S = 15.0  # between two signs of life
_BLOCK_BYTES = 2**20


class Entrance:
    """Serves the page until a recording is chosen."""

    def __init__(self, folder: Path, demo: Callable[[], Path], is_over: Callable[[], bool]) -> None:
        """Prepare to take a recording into a folder; `demo` returns the demo loop, `is_over` ends it."""
        self._folder, self._demo, self._is_over = folder, demo, is_over
        self._chosen: Path | None = None
        self._n_streams, self._requested_at_s = 0, time.monotonic()
        self.app = Starlette(
            routes=[
                Route("/api/session", self._describe, methods=["GET"]),
                Route("/api/events", self._events, methods=["GET"]),
                Route("/api/open", self._open, methods=["POST"]),
                Route("/{name:path}", self._own_file, methods=["GET"]),
            ]
        )

    def run(
        self, listener: socket.socket, token: str, when_ready: Callable[[], None], idle_s: float
    ) -> Path | None:
        """Serve the page at a socket, and return what is chosen; None where nobody came, or it was ended."""
        guard = Guard(self.app, token, listener.getsockname()[1])
        asyncio.run(self._serve(guard, listener, when_ready, idle_s))
        return self._chosen

    async def _serve(
        self, guard: Guard, listener: socket.socket, when_ready: Callable[[], None], idle_s: float
    ) -> None:
        ending = Ending()
        server = server_of(guard, ending)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        when_ready()
        while not (self._chosen or ending.is_requested or self._is_over() or serving.done()):
            if not self._n_streams and time.monotonic() - self._requested_at_s > idle_s:
                break
            await asyncio.sleep(LOOK_S / 5)
        server.should_exit = True
        await serving

    async def _describe(self, request: Request) -> Response:
        self._requested_at_s = time.monotonic()
        return json_answer({"schema": 1, "state": "empty", "opening": [], "notes": [], "source_changed": False})

    async def _events(self, request: Request) -> Response:
        return StreamingResponse(self._lines(), media_type="application/x-ndjson")

    async def _lines(self) -> AsyncIterator[bytes]:
        self._n_streams += 1
        try:
            yield json_text({"event": "state", "state": "empty", "version": None, "rendered": None})
            alive_at_s = time.monotonic()
            while not self._chosen:
                await asyncio.sleep(LOOK_S / 5)
                if time.monotonic() - alive_at_s > _ALIVE_S:
                    alive_at_s = time.monotonic()
                    yield json_text({"event": "alive"})
        finally:
            self._n_streams -= 1
            self._requested_at_s = time.monotonic()

    async def _open(self, request: Request) -> Response:
        """Take a recording whose bytes are the body; without a name it is the demo loop."""
        try:
            query = query_of(request)
            name = printable(query.text("name", 200, ""))
            query.end()
            chosen = await store_recording(request, name, self._folder) if name else self._demo()
        except TooLarge:
            return error_answer(413, "this file is too large for a page", "run redrum edit FILE instead")
        except RedrumError as err:
            return error_answer(422, err.message, err.hint)
        self._chosen = chosen
        return json_answer({"name": chosen.name})

    async def _own_file(self, request: Request) -> Response:
        return own_file(request.path_params["name"])
