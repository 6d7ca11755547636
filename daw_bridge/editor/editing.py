"""An editing session: one recording, its document and history, its journal, and what makes it sound.

Every step counts once it is in the journal. Several pages may have the session open: a step made of another
version than the newest is refused. What takes long is done in the worker, and its step is taken only if nothing
was edited meanwhile.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

from daw_bridge.editor.comparison import Compared, Comparison, stroke_levels_db
from daw_bridge.editor.document import Document, Draft, Grid, History
from daw_bridge.editor.edits import command_of
from daw_bridge.editor.engine import Engine
from daw_bridge.editor.journal import Journal, field_json
from daw_bridge.editor.notices import Notices
from daw_bridge.editor.placing import Placing, beginning, change_mode, replace_rhythm
from daw_bridge.editor.redetection import redetect
from daw_bridge.editor.renderer import Editor, Rendered, Renderer
from daw_bridge.editor.source import Source, first_grid
from daw_bridge.editor.steps import NotReady, Steps, step_json
from daw_bridge.editor.take_settings import render_settings, with_recording
from daw_bridge.editor.worker import Priority, Worker
from transform.audio import Recording
from transform.errors import AudioError, RedrumError, RhythmError
from transform.events import Rhythm
from transform.files import sha256_of
from transform.session_file import SourceFacts, stroke_json
from transform.signal import ComputedSignal, Samples
from transform.strokes import Stroke

State = Literal["opening", "ready", "failed"]

_CLOSE_S = 5.0
_PROGRESS_STEP = 0.01
_LEFT_OUT = (
    "--rhythm was not applied, because the edits of last time go on: to have it play, undo them all and start "
    "with --rhythm again"
)
_log = logging.getLogger(__name__)
_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class FirstRhythm:
    """A rhythm that plays from the beginning, and how it comes into the document."""

    read: Callable[[Engine], Rhythm]
    placing: Placing = field(default_factory=Placing)


class EditingSession:
    """What the pages of one recording share. Its methods may be called from any thread."""

    def __init__(
        self,
        source: Source,
        engine: Engine,
        journals: Path,
        rhythm: FirstRhythm | None = None,
        grid: Grid | None = None,
    ) -> None:
        """Prepare a session; `start` opens the recording.

        Args:
            source: the recording, for pages.
            engine: the models; the worker alone uses them.
            journals: the folder of all journals.
            rhythm: what plays from the beginning, unless there are edits to go on with; None: the recording.
            grid: the beats and bars that it begins with; None: those of the recording.
        """
        self.source, self.notices, self.worker = source, Notices(), Worker()
        self.state: State = "opening"
        self.error: RedrumError | None = None
        self.facts: SourceFacts | None = None
        self.is_resumed = False
        self.opening: tuple[str, ...] = ()  # sentences on what became of earlier edits
        self.opened: Future[None] = Future()  # done once it is ready, or could not be opened
        self.engine, self._journals, self._rhythm, self._grid = engine, journals, rhythm, grid
        self.steps = Steps(self._take_step)
        self._lock = self.steps.lock  # of all that follows
        self._editor: Editor | None = None  # for the worker
        self._renderer: Renderer | None = None
        self._rendered: Rendered | None = None
        self._notes: tuple[str, ...] = ()  # on the recording
        self.comparison = Comparison()

    def start(self) -> Future[None]:
        """Open the recording in the worker; the result comes once it is ready, or could not be opened."""
        self.opened = self.worker.submit(Priority.LONG, self._open)
        return self.opened

    def close(self) -> None:
        """End the session; what is acknowledged is on the disk already."""
        self.notices.close()
        self.worker.close(_CLOSE_S)
        self.steps.close()
        self.source.close()

    # What pages read.

    def describe(self) -> dict[str, Any]:
        """Return all that a page shows of the session."""
        with self._lock:
            history, rendered = self.steps.history, self._rendered
            facts: dict[str, Any] = {
                "state": self.state,
                "resumed": self.is_resumed,
                "opening": list(self.opening),
                "source": self.source.json() | {"sha256": self.facts.sha256 if self.facts else None},
                "source_changed": self.source.has_changed,
                "rendered": rendered.version if rendered else None,
                "rendered_samples": rendered.n_samples if rendered else None,
                "notes": [*self._notes, *(rendered.notes if rendered else ())],
            }
            if self.error is not None:
                facts |= {"error": self.error.message, "hint": self.error.hint}
            if history is None:
                return facts
            document = history.document
            facts |= step_json(history)
        detected, played = document.strokes
        return facts | {
            "mode": document.mode,
            "length_s": document.length_s,
            "grid": field_json("grid", document.grid),
            "lanes": field_json("lanes", document.lanes),
            "tempo": document.grid.tempo[0][1],
            "metre": document.grid.beats_per_bar,
            "downbeat_s": document.grid.downbeat_s,
            "sensitivity": dict(document.sensitivity),
            "sound": field_json("sound", document.sound),
            "compared": self.comparison.json(),
            "detected": [stroke_json(stroke) for stroke in detected],
            "events": [stroke_json(stroke) for stroke in played],
        }

    def standing(self) -> dict[str, Any]:
        """Return where the session stands, in a few words."""
        with self._lock:
            history = self.steps.history
            return {
                "state": self.state,
                "version": history.version if history else None,
                "rendered": self._rendered.version if self._rendered else None,
            }

    @property
    def renderer(self) -> Renderer:
        """What makes versions sound; NotReady where the recording is still being opened."""
        if self._renderer is None:
            raise NotReady
        return self._renderer

    # Steps. Each raises as those of `Steps`.

    def edit(self, version: int, edits: list[Any]) -> dict[str, Any]:
        """Do edits of a page, all or none, and return the answer to it."""
        return self.steps.commit(
            version, lambda history: command_of(history.document, edits, history.known_ids)
        )

    def change_settings(
        self,
        version: int,
        mode: str | None,
        sensitivity: Mapping[str, float] | None,
        changes: Iterable[Callable[[Draft], None] | None] = (),
    ) -> dict[str, Any]:
        """Change the mode, lanes and more; another sensitivity has the recording transcribed again."""
        document = self.steps.document(version)
        found: tuple[Stroke, ...] | None = None
        requested = {c: v for c, v in {**document.sensitivity, **(sensitivity or {})}.items() if v}
        if requested != dict(document.sensitivity):
            found = self.long(lambda: self._detect(requested))

        def change(draft: Draft) -> None:
            if found is not None:
                redetect(draft, found, requested)
            if mode is not None:
                change_mode(draft, mode)
            for other in filter(None, changes):
                other(draft)

        return self.steps.change(version, change)

    def sound_with(self, version: int, path: Path) -> dict[str, Any]:
        """Return a version's sound with the hits of another recording, which is refused without drums."""
        document = self.steps.document(version)
        if self.facts and sha256_of(path) == self.facts.sha256:
            raise RhythmError("this is the recording itself", hint="choose another one of the same kit")
        sound = with_recording(document.sound, str(path))
        settings = render_settings(replace(document, mode="edit", sound=sound))

        def find() -> None:
            assert self._editor is not None
            self._editor.with_settings(settings).prepare(document.strokes.detected, self.report)

        self.long(find)
        return sound

    def compare(self, slot: str, version: int) -> dict[str, Any]:
        """Put the newest version into a slot of the comparison, and return what is compared.

        Raises:
            Outdated, NotReady: as `Steps` has it.
            RedrumError: the version makes no sound.
        """
        document, name = self.steps.document(version), f"{slot}{version}"

        def measure() -> Compared:
            n_samples = self.renderer.retain(name, version)
            fmt = replace(self.source.format, n_channels=min(2, self.source.n_channels))
            read = partial(self.renderer.retained, name)
            sound = ComputedSignal(read, n_samples, fmt.sample_rate, fmt.n_channels)
            recording = Recording.of_signal(sound, fmt, self.source.name)
            strokes = document.sounding.played
            levels_db = stroke_levels_db(recording, strokes, partial(self.report, "compare"))
            return Compared(name, version, document, n_samples, levels_db)

        return self._put_compared(slot, self.long(measure))

    def compare_no_more(self, slot: str) -> dict[str, Any]:
        """Empty a slot of the comparison, and return what is compared."""
        return self._put_compared(slot, None)

    def _put_compared(self, slot: str, version: Compared | None) -> dict[str, Any]:
        before = self.comparison.put(slot, version)
        if before is not None and (version is None or version.name != before.name):
            self.renderer.release(before.name)
        compared = {"compared": self.comparison.json()}
        self.notices.publish("compared", **compared)
        return compared

    def play_rhythm(self, version: int, read: Callable[[], Rhythm], placing: Placing) -> dict[str, Any]:
        """Let a rhythm play in the place of what plays; it is read in the worker."""
        self.steps.document(version)
        rhythm = self.long(read)
        return self.steps.change(version, lambda draft: replace_rhythm(draft, rhythm, placing))

    def audition(self, read: Callable[[], Rhythm], length_s: float) -> Samples:
        """Return the beginning of a rhythm as the recording's drums play it, shape (1 or 2, T)."""
        document = self.steps.document(self.steps.newest_version())

        def play() -> Samples:
            assert self._editor is not None
            strokes = beginning(read(), document.grid, length_s)
            editor = self._editor.with_settings(render_settings(replace(document, mode="replay")))
            edited = editor.replayed(strokes, length_s, document.strokes.detected)
            return self._editor.recording.monitored(edited.read(0, edited.n_samples))

        return self.long(play)

    def long(self, task: Callable[[], _T]) -> _T:
        """Return what a task gives that takes long, done in the worker between what is more urgent."""
        return self.worker.submit(Priority.LONG, task).result()

    def report(self, stage: str, fraction: float) -> None:
        """Pass progress of a long task on; what is more urgent comes in between."""
        self._publish_progress(stage, fraction)
        self.worker.pause(Priority.LONG)

    def _publish_progress(self, stage: str, fraction: float) -> None:
        rounded = round(fraction / _PROGRESS_STEP) * _PROGRESS_STEP
        if (stage, rounded) != self._progress:
            self._progress = stage, rounded
            self.notices.publish("progress", stage=stage, fraction=round(rounded, 2))

    _progress: tuple[str, float] = ("", 0.0)

    def open_source(self) -> Recording:
        """Return the recording anew, for the worker.

        Raises:
            AudioError: it is another one by now, or cannot be read.
        """
        self.source.check()
        return self.source.open()

    # Opening.

    def _open(self) -> None:
        try:
            self._open_all()
        except RedrumError as err:
            self._fail(err)
        except InterruptedError:  # it is closed
            return
        except Exception as err:
            _log.exception("the recording cannot be opened")
            self._fail(
                AudioError(f"{self.source.name} cannot be opened: {err!r}", hint="-v tells where it failed")
            )

    def _open_all(self) -> None:
        recording = self.open_source()
        facts = SourceFacts.of(recording)
        journal = Journal(self._journals, facts.sha256)
        with self._lock:
            self.facts = facts
            self._resume(journal)
        self.report("open", 0.0)
        editor = self.engine.open(recording, self.report)
        self.report("open", 1.0)
        rhythm = self._rhythm.read(self.engine) if self._rhythm else None
        with self._lock:
            grid = self._grid or first_grid(recording, editor.detected)
            self.steps.begin(Document.of_detection(editor.detected, recording.duration_s, grid), recording.name)
            if self._rhythm is not None and rhythm is not None:
                placing = self._rhythm.placing
                self.steps.begin_with(lambda draft: replace_rhythm(draft, rhythm, placing))
            self._editor = editor
            self._renderer = Renderer(
                self.worker, editor, self._take_rendered, self._take_failed, self._publish_progress
            )
            assert self.steps.history is not None
            document, version = self.steps.history.document, self.steps.history.version
            self._renderer.request(version, document)
            self.state, self.steps.is_ready = "ready", True
        self.worker.submit(Priority.LONG, lambda: self._judge(recording, editor.detected))
        self.worker.submit(Priority.AHEAD, lambda: self._prepare(editor, document))
        self.notices.publish("ready", version=version)

    def _resume(self, journal: Journal) -> None:
        """Go on with the history of a journal, where it has steps; then no rhythm takes the place of edits."""
        self.is_resumed = self.steps.resume(journal)
        left_out = ""
        if self._rhythm is not None and self.steps.history is not None and self.steps.history.can_undo:
            self._rhythm, left_out = None, _LEFT_OUT
        self.opening = tuple(filter(None, (journal.damage, left_out)))

    def _judge(self, recording: Recording, strokes: tuple[Stroke, ...]) -> None:
        """Note what the user should read about the recording, and notify pages."""
        nothing = f"no drum hits are detected in {recording.name}: draw strokes, or raise a lane's sensitivity"
        notes = self.engine.doubts(recording) if strokes else (nothing,)
        with self._lock:
            self._notes = notes
        self.notices.publish("noted", notes=list(notes))

    def _prepare(self, editor: Editor, document: Document) -> None:
        def report(stage: str, fraction: float) -> None:
            self._publish_progress("prepare", fraction)
            self.worker.pause(Priority.AHEAD)

        report("cut kit", 0.0)
        settings = replace(render_settings(document), kit_from=())  # to which the first version adds the others
        editor.with_settings(settings).prepare(document.strokes.detected, report)
        report("cut kit", 1.0)

    def _fail(self, err: RedrumError) -> None:
        with self._lock:
            self.state, self.error = "failed", err
        self.notices.publish("failed", error=err.message, hint=err.hint)

    def _detect(self, sensitivity: Mapping[str, float]) -> tuple[Stroke, ...]:
        with self.open_source() as recording:
            return self.engine.detect(recording, sensitivity, self.report)

    def _take_step(self, history: History, answer: dict[str, Any]) -> None:
        """Have a step that is in the journal rendered, and notify pages."""
        self.renderer.request(history.version, history.document)
        self.notices.publish("version", **answer)

    # What the renderer reports, in the worker.

    def _take_rendered(self, rendered: Rendered) -> None:
        with self._lock:
            self._rendered = rendered
        self.notices.publish(
            "rendered",
            version=rendered.version,
            base=rendered.base,
            changed=[list(region) for region in rendered.changed],
            n_samples=rendered.n_samples,
            notes=list(rendered.notes),
        )

    def _take_failed(self, version: int, err: RedrumError) -> None:
        self.notices.publish("unrendered", version=version, error=err.message, hint=err.hint)
