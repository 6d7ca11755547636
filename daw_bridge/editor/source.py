"""The recording or microphones that are edited, as a page plays and draws them, and whether a file changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from daw_bridge.editor.document import Grid
from daw_bridge.editor.sound import BLOCK_SAMPLES, coarse_peaks, columns
from daw_bridge.mics_job import open_mics
from transform.audio import Recording
from transform.errors import AudioError
from transform.mics import MicRecording
from transform.signal import BlockCache, Samples
from transform.strokes import Stroke
from transform.tempo import estimate_tempo

_CACHED_BYTES = 64 * 2**20  # of peaks
_USUAL_BPM = 120.0
_WHOLE_BEATS = 0.03  # of a beat, by which a loop may miss a whole number of them


class Source:
    """A recording that several threads read; the renderer has one of its own."""

    def __init__(self, path: Path) -> None:
        """Open a recording.

        Raises:
            AudioError: it cannot be read.
        """
        self.paths: tuple[Path, ...] = (Path(os.path.abspath(path)),)
        self._begin()

    def _begin(self) -> None:
        self._before = [_state(path) for path in self.paths]
        self._recording = self.open()
        self.name, self.format = self._recording.name, self._recording.format
        self.n_samples, self.sample_rate = self._recording.n_samples, self._recording.sample_rate
        self.n_channels, self.duration_s = self._recording.n_channels, self._recording.duration_s
        self._lock = threading.Lock()
        self._peaks: BlockCache[int, Samples] = BlockCache(n_bytes=_CACHED_BYTES)

    def open(self) -> Recording:
        """Return the recording anew.

        Raises:
            AudioError: it cannot be read.
        """
        return Recording.open(self.paths[0])

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._recording.close()

    def json(self) -> dict[str, Any]:
        """Return what pages show of it."""
        return {
            "name": self.name,
            "path": str(self.paths[0]),
            "n_samples": self.n_samples,
            "sample_rate": self.sample_rate,
            "channels": self.n_channels,
            "subtype": self.format.subtype,
            "duration_s": self.duration_s,
        }

    @property
    def has_changed(self) -> bool:
        """Whether a file is another one by now, or gone."""
        return bool(self._changed())

    def check(self) -> None:
        """Raise AudioError if a file is another one by now, or gone."""
        if changed := self._changed():
            raise AudioError(
                f"{changed[0].name} was changed or moved while it was edited; the edits are safe",
                hint="run redrum edit again: with the old file back it goes on, else it opens the new one",
            )

    def _changed(self) -> list[Path]:
        return [path for path, before in zip(self.paths, self._before, strict=True) if _state(path) != before]

    def monitored(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) as a page plays them, shape (1 or 2, T)."""
        with self._lock:
            return self._recording.monitored(self._recording.read(start, stop))

    def peaks(self, start: int, stop: int, n_columns: int) -> Samples:
        """Return the lowest and highest samples in columns of a region, shape (2, n): see `sound.columns`."""
        return columns(self.monitored, self._block_peaks, (start, stop), n_columns)

    def _block_peaks(self, number: int) -> Samples:
        with self._lock:  # block by block, so that others get in between
            return self._peaks.get(number, self._read_peaks)

    def _read_peaks(self, number: int) -> Samples:
        start = number * BLOCK_SAMPLES
        samples = self._recording.read(start, min(start + BLOCK_SAMPLES, self.n_samples))
        return coarse_peaks(self._recording.monitored(samples))


class MicSource(Source):
    """The microphones of one performance, which are played as their sum."""

    def __init__(
        self,
        paths: Sequence[Path],
        offsets_s: Sequence[float | None] | None = None,
        listen_to: Path | None = None,
    ) -> None:
        """Open microphones.

        Args:
            paths: one file for each.
            offsets_s: when each begins; None: as their files say, or else with the first.
            listen_to: what is transcribed instead of them.

        Raises:
            AudioError: one cannot be read, or two do not overlap in time.
            SettingsError: one is named twice.
        """
        self._offsets_s, self._has_guide = offsets_s, listen_to is not None
        self.paths = tuple(Path(os.path.abspath(path)) for path in (*paths, *filter(None, [listen_to])))
        self._begin()

    def open(self) -> MicRecording:
        """Return the microphones anew; their files are closed with it."""
        *paths, guide = (*self.paths, None)
        if self._has_guide:
            *paths, guide = self.paths
        with ExitStack() as files:
            microphones = open_mics(paths, files, offsets_s=self._offsets_s, listen_to=guide)
            microphones.files = files.pop_all()
        return microphones

    def json(self) -> dict[str, Any]:
        """Return what pages show of them."""
        return super().json() | {"microphones": len(self.paths) - self._has_guide}


def first_grid(recording: Recording, strokes: tuple[Stroke, ...]) -> Grid:
    """Return the grid that a recording begins with: at its stated tempo, else the estimated one, else 120 BPM.

    The downbeat is the beginning of a loop of whole beats, else the first kick or the first stroke.
    """
    stated = recording.tempo_bpm()
    estimate = None if stated else estimate_tempo([s.event() for s in strokes], recording.duration_s)
    bpm = stated[0] if stated else estimate[0] if estimate else _USUAL_BPM
    if not 10 <= bpm <= 1000:
        bpm = _USUAL_BPM
    n_beats = recording.duration_s * bpm / 60
    if abs(n_beats - round(n_beats)) <= _WHOLE_BEATS or not strokes:
        return Grid(((0.0, bpm),))
    kicks = [stroke.onset_s for stroke in strokes if stroke.drum_class == "KD"]
    return Grid(((0.0, bpm),), downbeat_s=min(kicks, default=min(stroke.onset_s for stroke in strokes)))


def _state(path: Path) -> tuple[int, ...] | None:
    """Return what changes with a file, None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
