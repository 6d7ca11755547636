"""Drum recordings in, drum recordings out: transcribe a rhythm, and let a recording play another one.

Public names load when first used (PEP 562), so that `import transform` is quick and loads no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from transform.collection import paused_collection as _paused_collection

if TYPE_CHECKING:
    from transform.audio import Recording
    from transform.edit import RecordingEditor
    from transform.engine import Redrummer
    from transform.errors import (
        AudioError,
        CheckpointError,
        DawError,
        DeviceError,
        OutputError,
        RedrumError,
        RhythmError,
        SettingsError,
    )
    from transform.events import CLASSES, DrumEvent, Rhythm, TempoMap
    from transform.settings import RenderSettings
    from transform.strokes import Stroke, Strokes
    from transform.take import Take
    from transform.transcriber import Transcriber

__all__ = [
    "CLASSES",
    "AudioError",
    "CheckpointError",
    "DawError",
    "DeviceError",
    "DrumEvent",
    "OutputError",
    "Recording",
    "RecordingEditor",
    "RedrumError",
    "Redrummer",
    "RenderSettings",
    "Rhythm",
    "RhythmError",
    "SettingsError",
    "Stroke",
    "Strokes",
    "Take",
    "TempoMap",
    "Transcriber",
]

_HOME_OF = {
    "CLASSES": "events",
    "AudioError": "errors",
    "CheckpointError": "errors",
    "DawError": "errors",
    "DeviceError": "errors",
    "DrumEvent": "events",
    "OutputError": "errors",
    "Recording": "audio",
    "RecordingEditor": "edit",
    "RedrumError": "errors",
    "Redrummer": "engine",
    "RenderSettings": "settings",
    "Rhythm": "events",
    "RhythmError": "errors",
    "SettingsError": "errors",
    "Stroke": "strokes",
    "Strokes": "strokes",
    "Take": "take",
    "TempoMap": "events",
    "Transcriber": "transcriber",
}


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with _paused_collection():
        value = getattr(import_module(f".{_HOME_OF[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
