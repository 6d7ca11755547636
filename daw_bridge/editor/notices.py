"""What happens, passed on to all pages that listen, as it happens."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

MOST_LISTENERS = 16
_MOST_WAITING = 1000  # notices that a page may be behind; then it has to begin anew
_ALIVE_S = 15.0  # between two signs of life

Notice = dict[str, Any]


class Notices:
    """Passes notices from any thread to the pages that listen in an event loop."""

    def __init__(self) -> None:
        self._listeners: dict[asyncio.Queue[Notice | None], asyncio.AbstractEventLoop] = {}
        self._lock = threading.Lock()
        self._is_closed = False

    @property
    def n_listeners(self) -> int:
        """How many pages listen."""
        return len(self._listeners)

    def publish(self, event: str, **about: Any) -> None:
        """Pass a notice on."""
        self._put({"event": event, **about})

    def close(self) -> None:
        """Let all pages go, after a last notice."""
        self.publish("closed")
        with self._lock:
            self._is_closed = True
        self._put(None)

    def listen(self) -> asyncio.Queue[Notice | None]:
        """Return a queue that gets all notices from now on; None is the last."""
        queue: asyncio.Queue[Notice | None] = asyncio.Queue()
        with self._lock:
            self._listeners[queue] = asyncio.get_running_loop()
            if self._is_closed:
                queue.put_nowait(None)
        return queue

    async def received(self, queue: asyncio.Queue[Notice | None]) -> AsyncIterator[Notice]:
        """Yield the notices of a queue, with signs of life between them, until the last."""
        try:
            while True:
                try:
                    notice = await asyncio.wait_for(queue.get(), _ALIVE_S)
                except TimeoutError:
                    notice = {"event": "alive"}
                if notice is None:
                    return
                yield notice
        finally:
            self._forget(queue)

    def _forget(self, queue: asyncio.Queue[Notice | None]) -> None:
        with self._lock:
            self._listeners.pop(queue, None)

    def _put(self, notice: Notice | None) -> None:
        with self._lock:
            for queue, loop in list(self._listeners.items()):
                if not loop.is_closed():
                    loop.call_soon_threadsafe(_put_or_end, queue, notice)


def _put_or_end(queue: asyncio.Queue[Notice | None], notice: Notice | None) -> None:
    if queue.qsize() > _MOST_WAITING:
        while not queue.empty():
            queue.get_nowait()
        notice = None
    queue.put_nowait(notice)
