"""One job of REAPER's action, done in a process of its own that REAPER does not wait for.

Both sides talk in files. Beside NAME.json, which the action writes, lie NAME.progress.json (how far the job is,
and a count that shows that it lives), NAME.result.json (once, at the end: what is to be put into the project,
and a message) and NAME.cancel (the job is to end). Of an editor, NAME.take.json is a take that it sends while
it goes on, and NAME.taken.json the action's answer to that. Each file is written whole.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import transform
from daw_bridge.logs import log_folder
from daw_bridge.reaper.facts import job_of, plan_of
from daw_bridge.session import FinishedTake, Job, published_media
from daw_bridge.take_report import Report
from transform.errors import DawError, OutputError, RedrumError, SettingsError
from transform.files import write_bytes_atomic

if TYPE_CHECKING:
    from daw_bridge.takes import Order

SCHEMA = 1  # of the files
_BEAT_S = 0.5
_STAGES = {  # in words, and the fractions of an item that are done at its beginning and at its end
    "transcribe source": ("listening", 0.0, 0.2),
    "separate source": ("taking the drums apart", 0.2, 0.3),
    "cut kit": ("cutting the hits", 0.2, 0.3),
    "transcribe rhythm": ("listening to the rhythm", 0.3, 0.4),
    "render": ("rendering", 0.4, 1.0),
}
_KITS = {"": None, "auto": None, "together": True, "apart": False}  # answers on microphones
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class JobFiles:
    """The files of a job, named after the first."""

    job: Path

    @property
    def progress(self) -> Path:
        """Where the job writes how far it is."""
        return self.job.with_suffix(".progress.json")

    @property
    def result(self) -> Path:
        """Where the job writes its result."""
        return self.job.with_suffix(".result.json")

    @property
    def take(self) -> Path:
        """Where an editor writes a take that the action is to put into the project while it goes on."""
        return self.job.with_suffix(".take.json")

    @property
    def taken(self) -> Path:
        """Where the action writes what became of that take."""
        return self.job.with_suffix(".taken.json")

    @property
    def cancel(self) -> Path:
        """A file that is there if the job is to end."""
        return self.job.with_suffix(".cancel")

    def put(self, path: Path, data: Mapping[str, Any]) -> None:
        """Write one of the files, whole or not at all.

        Raises:
            OutputError: it cannot be written.
        """
        # Bytes that are no UTF-8 came from REAPER as such, and go back as such.
        text = json.dumps({"schema": SCHEMA, **data}, ensure_ascii=False, indent=1)
        write_bytes_atomic(path, text.encode("utf-8", "surrogateescape"), overwrite=True)


def read_job(path: Path) -> tuple[dict[str, Any], Job]:
    """Return what REAPER's user requests, and the job.

    Raises:
        DawError: it cannot be read, is no job, or one of another version.
    """
    again = "run the action in REAPER again"
    try:
        data = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    except OSError as err:
        raise DawError(f"{path} cannot be read: {err.strerror or err}", hint=again) from err
    except (ValueError, RecursionError) as err:
        raise DawError(f"the job is no JSON: {err}", hint=again) from err
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise DawError(
            f"the job is not of version {SCHEMA}", hint="quit REAPER and run `redrum reaper install` again"
        )
    try:
        answers = dict(data["order"])
        return answers, job_of(data["facts"])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as err:
        raise DawError(f"the job is broken: {err!r}", hint=again) from err


def order_of(answers: Mapping[str, Any], files: ExitStack) -> Order:
    """Return what REAPER's user answered as an order; a recording that is the rhythm is closed by `files`.

    Raises:
        SettingsError: an answer is not possible.
        RhythmError: there is no such rhythm, or no drums are in it.
        AudioError: the recording cannot be read.
    """
    from daw_bridge.render_job import open_rhythm
    from daw_bridge.takes import Order, settings_of
    from transform.library import resolve_rhythm

    def answer(name: str) -> str:
        return str(answers.get(name) or "").strip().strip('"')

    def number(name: str, kind: type[float], form: str) -> float:
        try:
            return kind(answer(name).replace(",", "."))
        except ValueError as err:
            raise SettingsError(f"the {name} is {answer(name)!r}", hint=f"answer {form}") from err

    given: dict[str, Any] = {}
    if engine := answer("engine"):
        given["engine"] = engine
    if length := answer("length"):
        given["length"] = (
            length if length in ("source", "rhythm") else number("length", float, "source, rhythm, or seconds")
        )
    if answer("seed"):
        given["seed"] = number("seed", int, "a whole number, 0 or more")
    if (kit := answer("kit").casefold()) not in _KITS:
        raise SettingsError(f"the microphones are {answer('kit')!r}", hint="answer auto, together, or apart")
    rhythm = answer("rhythm")
    return Order(
        settings=settings_of(given),
        rhythm=open_rhythm(resolve_rhythm(rhythm), "auto", files) if rhythm else None,
        is_on_own_track=bool(answers.get("is_on_own_track")),
        together=_KITS[kit],
    )


class JobProgress:
    """Writes how far a job is, twice a second and at each new stage; checks whether it is to end."""

    def __init__(self, files: JobFiles, is_requested: Callable[[], bool] = lambda: True) -> None:
        """Prepare to write the progress of a job, which is to end, too, once it is no longer requested."""
        self._files, self._is_requested = files, is_requested
        self._text, self._fraction, self._n_items, self._n_done = "Redrum is loading...", 0.0, 1, 0
        self._stage = ""
        self._beat = 0
        self._lock = threading.Lock()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, name="redrum-progress", daemon=True)

    def begin(self) -> None:
        """Write signs of life from now on: the job may have to wait in a queue."""
        self._write()
        self._thread.start()

    def __enter__(self) -> JobProgress:
        if self._thread.ident is None:
            self.begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, err: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join()

    def expect(self, n_items: int) -> None:
        """Let so many items be all of the work."""
        self._n_items = max(1, n_items)

    def item_is_done(self) -> None:
        """Count an item."""
        self._n_done += 1
        self._stage = ""

    def say(self, text: str) -> None:
        """Let a sentence be what REAPER shows."""
        self._text, self._fraction = text, 1.0
        self._write()

    @property
    def is_cancelled(self) -> bool:
        """Whether the job is to end."""
        return self._files.cancel.exists() or not self._is_requested()

    def update(self, stage: str, fraction: float) -> None:
        """Note a stage of an item and the fraction of it that is done.

        Raises:
            KeyboardInterrupt: the job is to end.
        """
        self.check()
        words, begin, end = _STAGES.get(stage, (stage, 0.0, 1.0))
        self._fraction = min(1.0, (self._n_done + begin + (end - begin) * fraction) / self._n_items)
        self._text = f"Item {self._n_done + 1} of {self._n_items}: {words}..."
        if stage != self._stage:
            self._stage = stage
            self._write()

    def check(self) -> None:
        """Raise KeyboardInterrupt if the job is to end."""
        if self.is_cancelled:
            raise KeyboardInterrupt

    def _go_on(self) -> None:
        while not self._is_over.wait(_BEAT_S):
            self._write()

    def _write(self) -> None:
        with self._lock, suppress(OutputError):  # REAPER may be reading it; there is a next time
            self._beat += 1
            data = {"beat": self._beat, "text": self._text, "share": round(self._fraction, 4)}
            self._files.put(self._files.progress, data)


class JobSession:
    """The project as the action gathered it; takes go to the action, which puts them into the project."""

    def __init__(self, job: Job, files: JobFiles, progress: JobProgress) -> None:
        self._job, self._files, self._progress = job, files, progress
        self._reports: list[Report] = []

    def collect(self) -> Job:
        """Return the job; see `Session.collect`."""
        return self._job

    def add_report(self, report: Report) -> None:
        """Note what became of an item, for the message that goes with the takes."""
        self._reports.append(report)
        self._progress.item_is_done()

    def write_back(self, job: Job, takes: Sequence[FinishedTake]) -> list[Path]:
        """Put media into the project's folder and write what the action is to insert; see `Session`.

        Raises:
            KeyboardInterrupt: the job is to end.
        """
        self._progress.check()
        with published_media(job, takes) as media:
            answer = {
                "status": "done",
                "message": _message(self._reports),
                "tracks": plan_of(job, takes, media),
                "media": [str(path) for path in media],
            }
            self._files.put(self._files.result, answer)
        return media


def run_job(path: Path, load: Callable[[], transform.Redrummer], progress: JobProgress | None = None) -> bool:
    """Do a job of REAPER's action and return whether no item failed; the result file has all that happens.

    Args:
        path: what the action wrote.
        load: returns the models.
        progress: writes the progress of the job already, if it had to wait.

    Raises:
        RedrumError: nothing could be done.
        KeyboardInterrupt: the job was cancelled.
    """
    files = JobFiles(path)
    try:
        with progress or JobProgress(files) as begun:
            begun.check()
            return _done(files, begun, load)
    except KeyboardInterrupt:
        _put_result(files, "cancelled", "The redrum command was stopped: nothing was written.")
        raise
    except RedrumError as err:
        _put_result(files, "failed", f"{_sentence(err.message)}\n{_sentence(err.hint)}")
        raise
    except Exception as err:
        _log.exception("the job failed")
        why = _sentence(str(err) or type(err).__name__)
        _put_result(files, "failed", f"{why}\nThe log in {log_folder()} tells where.")
        raise


def _done(files: JobFiles, progress: JobProgress, load: Callable[[], transform.Redrummer]) -> bool:
    from daw_bridge.takes import pairs_of, redrum_session

    answers, job = read_job(files.job)
    if answers.get("edits"):
        from daw_bridge.reaper.edit_job import edit_item_of

        edit_item_of(job, files, progress, load)
        files.put(files.result, {"status": "done", "message": "", "tracks": [], "media": []})
        return True
    with ExitStack() as sounds:
        order = order_of(answers, sounds)
        progress.expect(len(pairs_of(job, order)))  # fails here, before the models are loaded, where it fails
        redrummer = load()
        session = JobSession(job, files, progress)
        reports = redrum_session(
            session, redrummer, order, on_report=session.add_report, progress=progress.update
        )
    _put_result(files, "failed", _message(reports))
    return not any("error" in report for report in reports)


def _put_result(files: JobFiles, status: str, message: str) -> None:
    """Write the result of a job unless it has one."""
    if not files.result.exists():
        with suppress(OutputError):  # then the action notices the silence
            files.put(files.result, {"status": status, "message": message})


def _message(reports: Sequence[Report]) -> str:
    """Return the message for REAPER's user about items that got no take, "" where all did."""
    problems, n_failed = [], 0
    for report in reports:
        if "error" in report or "skipped" in report:
            n_failed += report.get("items", 1)
        if "error" in report:
            problems.append(f"{report['error']}.\n{_sentence(report['hint'])}")
        elif "skipped" in report:
            what = f"{report['item'] or 'an item'} at {report['position_s']:.2f} s"
            problems.append(f"{what} on {report['track'] or 'a track'} was left out: {report['skipped']}.")
    if problems and len(reports) > 1:
        n_items = sum(report.get("items", 1) for report in reports)
        problems.insert(0, f"{n_items - n_failed} of {n_items} items got a take.")
    return "\n\n".join(problems)


def _sentence(text: str) -> str:
    return text and f"{text[0].upper()}{text[1:]}."
