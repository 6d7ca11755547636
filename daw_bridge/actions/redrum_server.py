"""Let Redrum, on this machine, reach the REAPER that this script is run in.

Load it once in REAPER's Actions list (New action... > Load ReaScript...) and run it when REAPER has started.
It is reapy's own server with two differences: only programs on this machine can connect, as whoever connects
may run anything in REAPER; and a program that dies in the middle of a request does not take the server along.
"""

import sys
from pathlib import Path
from typing import Any

try:
    import reapy
except ImportError:  # REAPER's Python does not know where Redrum is installed: two folders above this one
    sys.path.append(str(Path(sys.path[0]).resolve().parents[1]))
    import reapy

from reapy.tools.network import Server


class LocalServer(Server):  # type: ignore[misc]
    """reapy's server, out of reach from other machines."""

    def bind(self, address: tuple[str, int]) -> None:
        """Listen on this machine only, whatever address reapy asks for."""
        super().bind(("127.0.0.1", address[1]))

    def disconnect(self, address: tuple[str, int]) -> None:
        """Forget a client that hung up, even if nothing of its connection is left."""
        self.connections.pop(address).close()

    def drop_all(self) -> None:
        """Hang up on everybody."""
        for connection in self.connections.values():
            connection.close()
        self.connections.clear()


def serve(server: Any) -> None:
    """Answer what has been asked since the last time, and go on when REAPER lets us, 30 times a second."""
    try:
        server.accept()
        server.send_results(server.process_requests(server.get_requests()))
    except Exception:  # half a request, or nobody there to take the answer
        server.drop_all()
    reapy.defer(serve, server)


def start() -> None:
    """Start the server and let reapy's clients know where it listens."""
    port = reapy.config.REAPY_SERVER_PORT
    try:
        server = LocalServer(port)
    except OSError:
        reapy.show_message_box(f"Port {port} is taken: the server runs already, or another program uses it.")
        return
    reapy.set_ext_state("reapy", "server_port", port)
    reapy.at_exit(reapy.delete_ext_state, "reapy", "server_port")
    serve(server)


if __name__ == "__main__":
    start()
