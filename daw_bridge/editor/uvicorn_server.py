"""The HTTP server under the editor: uvicorn, which lets pages go at once when the process shall end."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

import uvicorn

from daw_bridge.editor.guard import Connections, Guard

LOOK_S = 0.5  # between two looks at whether it is time to end

_MOST_INCOMPLETE_BYTES = 64 * 2**10  # of the head of a request
_KEEP_ALIVE_S = 75  # between two requests of a page's connection
_END_S = 2  # that open requests may take at the end


@dataclass
class Ending:
    """Whether a server is to end, as a signal or somebody requests it."""

    is_requested: bool = False

    def __call__(self) -> None:
        """Request it."""
        self.is_requested = True


class Server(uvicorn.Server):
    """A server that lets pages go at once when the process shall end; a signal to end is no fault."""

    def __init__(self, config: uvicorn.Config, end: Callable[[], None]) -> None:
        super().__init__(config)
        self._end = end

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal to end; unlike uvicorn's it is not raised again once the server has ended."""
        self._end()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def server_of(guard: Guard, end: Callable[[], None]) -> Server:
    """Return a server of what a guard lets through; `end` is called when a signal is to end it."""
    logger = logging.getLogger("uvicorn.error")  # what strangers send is no news
    logger.setLevel(logging.CRITICAL)
    logger.propagate = False
    return Server(
        uvicorn.Config(
            guard,
            http=Connections,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            h11_max_incomplete_event_size=_MOST_INCOMPLETE_BYTES,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_END_S,
        ),
        end,
    )
