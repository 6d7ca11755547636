"""One recording, the session in which it was edited, and where the result goes."""

import time
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import transform
from daw_bridge.render_job import check_ending, check_outputs, outputs_beside
from daw_bridge.take_report import Report, depth_of

if TYPE_CHECKING:
    from transform.audio import Progress
    from transform.session_file import EditSession


@dataclass(frozen=True, kw_only=True)
class EditJob:
    """One recording, the session in which it was edited, and where the result goes."""

    source: "transform.Recording"
    session: "EditSession"
    output: Path
    inputs: tuple[Path, ...] = ()
    midi: Path | None = None
    overwrite: bool = False
    bit_depth: str | None = None

    def check(self) -> None:
        """Raise an error now for a session of another recording, or a result that cannot be written."""
        from transform.audio import resolve_output

        self.session.check_source(self.source)
        resolve_output(self.output, self.source.format, self.bit_depth)
        check_ending(self.midi, (".mid", ".midi"))
        check_outputs([self.output, self.midi], self.inputs, overwrite=self.overwrite)

    def run(self, redrummer: "transform.Redrummer", progress: "Progress | None") -> Report:
        """Write the result and its MIDI, and return the report of it."""
        from transform.audio import resolve_output
        from transform.edit import RecordingEditor
        from transform.files import atomic_file
        from transform.midi import write_midi

        began_s = time.perf_counter()
        session = self.session
        editor = RecordingEditor.open(self.source, redrummer, session.settings, progress=progress)
        edited = editor.result(session)
        with ExitStack() as files:
            if self.midi:
                temporary = files.enter_context(atomic_file(self.midi, overwrite=self.overwrite))
                temporary.write_bytes(write_midi(session.played_rhythm()))
            written = edited.write(
                self.output, overwrite=self.overwrite, bit_depth=self.bit_depth, progress=progress
            )
        counts = Counter(stroke.drum_class for stroke in session.played)
        return {
            "output": str(self.output),
            **outputs_beside(None, {}, self.midi),
            "engine": session.settings.engine if session.mode == "replay" else "edit",
            "duration_s": round(edited.duration_s, 6),
            "sample_rate": edited.sample_rate,
            "channels": edited.n_channels,
            "bit_depth": depth_of(resolve_output(self.output, edited.format, self.bit_depth)[1]),
            "gain_db": round(written.gain_db, 3),
            "notes": list(written.notes),
            "events": {drum_class: counts[drum_class] for drum_class in transform.CLASSES},
            "seconds": round(time.perf_counter() - began_s, 3),
        }
