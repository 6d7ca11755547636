"""The models behind an editor, loaded at their first use: what is detected, what it sounds like, its kit."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from daw_bridge.editor.renderer import Editor
from transform.audio import Progress, Recording
from transform.errors import RhythmError
from transform.events import Rhythm
from transform.mics import MicRecording
from transform.settings import RenderSettings
from transform.signal import ComputedSignal
from transform.strokes import Stroke

if TYPE_CHECKING:
    from transform.bank import Bank
    from transform.engine import Redrummer

_JUDGED_S = 60  # of a recording, by which it is judged whether it is drums


class Engine(Protocol):
    """What an editor needs of the models; the worker alone calls it."""

    def open(self, recording: Recording, progress: Progress) -> Editor:
        """Return what edits a recording."""

    def doubts(self, recording: Recording) -> tuple[str, ...]:
        """Return sentences on what was decided of a recording, and where it hardly sounds like drums."""

    def detect(
        self, recording: Recording, sensitivity: Mapping[str, float], progress: Progress
    ) -> tuple[Stroke, ...]:
        """Return what is detected in a recording at another sensitivity, by class."""

    def rhythm_of(self, path: Path, name: str) -> Rhythm:
        """Return the rhythm of a recording of drums."""

    def bank_of(self, recording: Recording, strokes: Iterable[Stroke]) -> Bank:
        """Return the hits of a recording in which these strokes are."""


class PresetEngine:
    """The engine of a preset."""

    def __init__(self, load: Callable[[], Redrummer]) -> None:
        """Prepare to load the models; `load` returns them."""
        self._load = load

    @cached_property
    def _redrummer(self) -> Redrummer:
        return self._load()

    def open(self, recording: Recording, progress: Progress) -> Editor:
        """Return what edits a recording."""
        return self._opened(recording, RenderSettings(), progress)

    def doubts(self, recording: Recording) -> tuple[str, ...]:
        """Return what was decided of microphones, and a sentence where they hardly sound like drums."""
        from transform.transcriber import doubts, drum_confidence

        n_samples = min(recording.n_samples, _JUDGED_S * recording.sample_rate)
        read, fmt = recording.read, recording.format
        if isinstance(recording, MicRecording):  # which cancel in other mixes than their own
            read, fmt = lambda start, stop: recording.mono(start, stop)[None], replace(fmt, n_channels=1)
        beginning = ComputedSignal(read, n_samples, recording.sample_rate, fmt.n_channels)
        judged = Recording.of_signal(beginning, fmt, recording.name)
        return (*recording.notes, *doubts(recording.name, drum_confidence(judged)))

    def detect(
        self, recording: Recording, sensitivity: Mapping[str, float], progress: Progress
    ) -> tuple[Stroke, ...]:
        """Return what is detected in a recording at another sensitivity, by class."""
        return self._opened(recording, RenderSettings(sensitivity=sensitivity), progress).detected

    def rhythm_of(self, path: Path, name: str) -> Rhythm:
        """Return the rhythm of a recording of drums, at its estimated tempo where it states none."""
        with Recording.open(path) as recording:
            if recording.tempo_bpm() is None:
                with suppress(RhythmError):  # no tempo can be detected
                    return replace(self._redrummer.rhythm_of(recording, "auto"), name=name)
            return replace(self._redrummer.rhythm_of(recording), name=name)

    def bank_of(self, recording: Recording, strokes: Iterable[Stroke]) -> Bank:
        """Return the hits of a recording in which these strokes are."""
        from transform.bank import Bank

        stems = self._redrummer.listen(recording).stems
        return Bank.of_recording(recording, [stroke.event() for stroke in strokes], stems)

    def _opened(self, recording: Recording, settings: RenderSettings, progress: Progress) -> Editor:
        from transform.edit import RecordingEditor

        return RecordingEditor.open(recording, self._redrummer, settings, progress=progress)
