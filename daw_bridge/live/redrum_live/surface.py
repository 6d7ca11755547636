"""The control surface: what Live calls, and what it answers."""

from __future__ import annotations

import traceback
from typing import Any

from .gathering import gather, look, version_of
from .server import Server
from .writing import write

__all__ = ["Redrum"]


class Redrum:
    """A control surface without controls: it answers requests in Live's own timer, every 100 ms."""

    def __init__(self, c_instance: Any, live: Any) -> None:
        self._c_instance, self._live = c_instance, live
        handlers = {"look": self._look, "gather": self._gather, "write": self._write}
        self._server = Server(handlers, version_of(live.Application.get_application()), self._log)
        self._server.open()

    # What Live calls

    def update_display(self) -> None:
        """Answer requests for a few milliseconds."""
        try:
            self._server.tick()
        except Exception:
            self._log(traceback.format_exc())
            self._server.drop_all()

    def disconnect(self) -> None:
        """Close all connections: the set is closed, or another control surface chosen."""
        self._server.close()

    def _ignore(self, *_: Any) -> None:
        """Nothing is mapped or displayed, and no MIDI received."""

    def _no(self, *_: Any) -> bool:
        """There are no controls: nothing is locked, taken over or translated."""
        return False

    def _no_port(self) -> str:
        """No MIDI port is used."""
        return ""

    connect_script_instances = build_midi_map = receive_midi = _ignore
    refresh_state = port_settings_changed = _ignore
    can_lock_to_devices = suggest_needs_takeover = supports_pad_translation = _no
    suggest_input_port = suggest_output_port = _no_port

    def suggest_map_mode(self, cc_no: int, channel: int) -> int:
        """Return that nothing is mapped."""
        return -1

    def _log(self, message: str) -> None:
        self._c_instance.log_message("Redrum: " + message)

    def _look(self, request: Any) -> Any:
        return look(self._c_instance.song(), self._live.Application.get_application())

    def _gather(self, request: Any) -> Any:
        return gather(self._c_instance.song(), self._live.Application.get_application(), request)

    def _write(self, request: Any) -> Any:
        return write(self._c_instance.song(), self._live.Clip.WarpMarker, request)
