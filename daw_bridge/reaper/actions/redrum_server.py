"""Let Redrum, on this machine, reach the REAPER that this script is run in.

Load it once in REAPER's Actions list (New action... > Load ReaScript...) and run it when REAPER has started.
It answers programs of this user on this machine that prove that they know the token in an endpoint file; and it
does two things for them, the functions of `daw_bridge/reaper/inside.py`. Clients of reapy are refused: those of
reapy's own server may run anything in REAPER.

It runs in REAPER's Python, which may be an old one, and needs reapy in it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

try:
    import reapy

    import daw_bridge
except ImportError:  # REAPER's Python does not know where Redrum is installed: three folders above this one
    sys.path.append(str(Path(sys.path[0]).resolve().parents[2]))
    import reapy

    import daw_bridge

from daw_bridge.live.redrum_live.endpoint import endpoint_path
from daw_bridge.live.redrum_live.server import SCHEMA, Server

MESSAGE_BYTES = 16 * 2**20  # the longest request; a take needs about 500 bytes


class LocalServer(Server):
    """Answers the requests that Redrum sends to REAPER."""

    def __init__(self, port: int = 0) -> None:
        """Begin to listen, on a free port if it is 0.

        Raises:
            OSError: the port is taken, or the endpoint file cannot be written.
        """
        handlers = {name: self._handler(name) for name in ("collect", "write_back")}
        # REAPER has no log, only a window, which strangers must not open.
        super().__init__(handlers, [], lambda text: None, MESSAGE_BYTES)
        self.port = self.listen(endpoint_path("reaper"), port)

    def _handler(self, name: str) -> Callable[[dict[str, Any]], Iterator[str]]:
        def answer(request: dict[str, Any]) -> Iterator[str]:
            # Read each time, so that REAPER need not be started again when Redrum is updated.
            code = (
                Path(daw_bridge.__file__).with_name("reaper").joinpath("inside.py").read_text(encoding="utf-8")
            )
            scope: dict[str, Any] = {"__name__": "redrum_inside_reaper"}
            exec(compile(code, "redrum", "exec"), scope)
            yield json.dumps({"schema": SCHEMA, "value": scope[name](*request["arguments"])})

        return answer


def serve(server: LocalServer) -> None:
    """Answer the requests that have come, and go on at REAPER's next tick, 30 times a second."""
    try:
        server.tick()
    except Exception:  # whatever it is, the next client may be served
        server.drop_all()
    reapy.defer(serve, server)


def start() -> None:
    """Start the server unless it runs already, and have it end with REAPER."""
    if reapy.get_ext_state("redrum", "server_port"):
        reapy.show_message_box("Redrum's server runs already.")
        return
    try:
        server = LocalServer()
    except OSError as err:
        reapy.show_message_box(f"Redrum's server cannot start: {err}")
        return
    reapy.at_exit(server.close)
    _note("redrum", server.port)
    if not reapy.get_ext_state("reapy", "server_port"):
        # Else reapy's clients, which look for a server of their own, would start this one again and again.
        _note("reapy", server.port)
    serve(server)


def _note(section: str, port: int) -> None:
    """Note a port where REAPER's web interface finds it, until REAPER quits."""
    reapy.set_ext_state(section, "server_port", port)
    reapy.at_exit(reapy.delete_ext_state, section, "server_port")


if __name__ == "__main__":
    start()
