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

    def connect_script_instances(self, instantiated_scripts: Any) -> None:
        """Other control surfaces are none of our business."""

    def build_midi_map(self, midi_map_handle: Any) -> None:
        """Nothing is mapped."""

    def receive_midi(self, midi_bytes: Any) -> None:
        """No MIDI is listened to."""

    def refresh_state(self) -> None:
        """There is no display to refresh."""

    def port_settings_changed(self) -> None:
        """No MIDI port is used."""

    def can_lock_to_devices(self) -> bool:
        """Devices are none of our business."""
        return False

    def suggest_input_port(self) -> str:
        """No MIDI port is used."""
        return ""

    def suggest_output_port(self) -> str:
        """No MIDI port is used."""
        return ""

    def suggest_map_mode(self, cc_no: int, channel: int) -> int:
        """Nothing is mapped."""
        return -1

    def suggest_needs_takeover(self, cc_no: int, channel: int) -> bool:
        """Nothing is mapped."""
        return False

    def supports_pad_translation(self) -> bool:
        """There are no pads."""
        return False

    def _log(self, message: str) -> None:
        self._c_instance.log_message("Redrum: " + message)

    def _look(self, request: Any) -> Any:
        return look(self._c_instance.song(), self._live.Application.get_application())

    def _gather(self, request: Any) -> Any:
        return gather(self._c_instance.song(), self._live.Application.get_application(), request)

    def _write(self, request: Any) -> Any:
        return write(self._c_instance.song(), self._live.Clip.WarpMarker, request)
