"""One job of an action in a DAW, done in a process of its own that the DAW does not wait for.

Both sides talk in files. Beside NAME.json, which the action writes, lie NAME.progress.json (how far the job is,
and a count that shows that it lives), NAME.result.json (once, at the end: what is to be put into the project,
and a message) and NAME.cancel (the job is to end). Of an editor, NAME.take.json is a take that it sends while
it goes on, and NAME.taken.json the action's answer to that. Each file is written whole.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import transform
from daw_bridge.job_files import SCHEMA, JobFiles, JobProgress
from daw_bridge.logs import log_folder
from daw_bridge.session import FinishedTake, Job, published_media
from daw_bridge.take_report import Report
from transform.errors import DawError, OutputError, RedrumError, SettingsError
from transform.options import bars_of

if TYPE_CHECKING:
    from daw_bridge.takes import Order

_FACTS = {"reaper": "daw_bridge.reaper.facts", "ardour": "daw_bridge.ardour.facts"}
_KITS = {"": None, "auto": None, "together": True, "apart": False}  # answers on microphones
_SLICES = {"": False, "one take": False, "per item": True}
# What is called otherwise in a DAW's windows than in a command.
_WORDS = {"--apart": "the answer apart", "--together": "the answer together", " (--rhythm)": ""}
_ITEMS = {"reaper": "Item", "ardour": "Region"}
_DAW_WORDS: dict[str, dict[str, str]] = {
    "": {},
    "reaper": {},
    "ardour": {
        "select a MIDI item too, or put an item on": "select a MIDI region too, or put a region on",
        "relink the item": "relink the region",
        " items got a take": " regions got a take",
        "their tracks lie in the folder": "their tracks are in the group",
        "beats of the project": "beats of the session",
        "an item at ": "a region at ",
    },
}
_log = logging.getLogger(__name__)

_Number = TypeVar("_Number", int, float)
_Choice = TypeVar("_Choice")


def _facts_module(daw: str) -> Any:
    """Return the module that makes a job of a DAW's facts (`job_of`), and a plan for it (`plan_of`)."""
    return importlib.import_module(_FACTS[daw])


def read_job(path: Path) -> tuple[dict[str, Any], Job]:
    """Return what the DAW's user requests, and the job.

    Raises:
        DawError: it cannot be read, is no job, or one of another version.
    """
    again = "run the action again"
    try:
        data = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
    except OSError as err:
        raise DawError(f"{path} cannot be read: {err.strerror or err}", hint=again) from err
    except (ValueError, RecursionError) as err:
        raise DawError(f"the job is no JSON: {err}", hint=again) from err
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        raise DawError(
            f"the job is not of version {SCHEMA}",
            hint="quit the DAW and run `redrum reaper install` (or `redrum ardour install`) again",
        )
    try:
        answers = dict(data["order"])
        return answers, _facts_module(data["facts"].get("daw", "reaper")).job_of(data["facts"])
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as err:
        raise DawError(f"the job is broken: {err!r}", hint=again) from err


def order_of(answers: Mapping[str, Any], files: ExitStack) -> Order:
    """Return what the DAW's user answered as an order; a recording that is the rhythm is closed by `files`.

    Raises:
        SettingsError: an answer is not possible.
        RhythmError: there is no such rhythm, or no drums are in it.
        AudioError: the recording cannot be read.
    """
    from daw_bridge.render_job import open_rhythm
    from daw_bridge.takes import Order, settings_of
    from transform.drum_maps import ANY_DRUMS
    from transform.library import resolve_rhythm

    def answer(name: str) -> str:
        return str(answers.get(name) or "").strip().strip('"')

    def number(name: str, kind: Callable[[str], _Number], form: str) -> _Number:
        try:
            return kind(answer(name).replace(",", "."))
        except ValueError as err:
            what = name.replace("_", " ")
            raise SettingsError(f"the {what} is {answer(name)!r}", hint=f"answer {form}") from err

    def choice(name: str, choices: Mapping[str, _Choice], what: str) -> _Choice:
        if (found := answer(name).casefold()) not in choices:
            names = list(filter(None, choices))
            form = f"{', '.join(names[:-1])}, or {names[-1]}" if len(names) > 2 else " or ".join(names)
            raise SettingsError(f"the {what} are {answer(name)!r}", hint=f"answer {form}")
        return choices[found]

    given: dict[str, Any] = {}
    if engine := answer("engine"):
        given["engine"] = engine
    if length := answer("length"):
        is_word = length in ("source", "rhythm") or bars_of(length) is not None
        given["length"] = length if is_word else number("length", float, "source, rhythm, or seconds")
    if answer("seed"):
        given["seed"] = number("seed", int, "a whole number, 0 or more")
    together = choice("kit", _KITS, "microphones")
    per_item = choice("slices", _SLICES, "slices")
    start_bar = number("start_bar", int, "a whole number, or nothing") if answer("start_bar") else None
    rhythm = answer("rhythm")
    return Order(
        settings=settings_of(given),
        rhythm=open_rhythm(resolve_rhythm(rhythm), ANY_DRUMS, files) if rhythm else None,
        is_on_own_track=bool(answers.get("is_on_own_track")),
        together=together,
        per_item=per_item,
        start_bar=start_bar,
    )


class JobSession:
    """The project as the action gathered it; takes go to the action, which puts them into the project."""

    def __init__(self, job: Job, files: JobFiles, progress: JobProgress, *, says_kits: bool = False) -> None:
        """Take the job, where it is answered, and whether the message says which items are one kit."""
        self._job, self._files, self._progress, self._says_kits = job, files, progress, says_kits
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
                "message": _message(job.daw, self._reports, says_kits=self._says_kits),
                "tracks": _facts_module(job.daw).plan_of(job, takes, media),
                "media": [str(path) for path in media],
            }
            self._files.put(self._files.result, answer)
        return media


def run_job(path: Path, load: Callable[[], transform.Redrummer], progress: JobProgress | None = None) -> bool:
    """Do a job of an action and return whether no item failed; the result file has all that happens.

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
        message = f"{_sentence(err.message)}\n{_sentence(err.hint)}"
        _put_result(files, "failed", _in_words_of(_daw_of(path), message))
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
        from daw_bridge.action_edit import ActionSession, edit_item_of

        edit_item_of(ActionSession(job, files, progress, _facts_module(job.daw).plan_of), progress, load)
        files.put(files.result, {"status": "done", "message": "", "tracks": [], "media": []})
        return True
    with ExitStack() as sounds:
        order = order_of(answers, sounds)
        n_pairs = len(pairs_of(job, order))  # fails here, before the models are loaded, where it fails
        progress.expect(n_pairs, _ITEMS[job.daw])
        redrummer = load()
        session = JobSession(job, files, progress, says_kits=order.together is None)
        reports = redrum_session(
            session, redrummer, order, on_report=session.add_report, progress=progress.update
        )
    _put_result(files, "failed", _message(job.daw, reports))
    return not any("error" in report for report in reports)


def _daw_of(path: Path) -> str:
    """Return the DAW whose job a file holds; "" where it holds none."""
    try:
        return read_job(path)[1].daw
    except RedrumError:
        return ""


def _put_result(files: JobFiles, status: str, message: str) -> None:
    """Write the result of a job unless it has one."""
    if not files.result.exists():
        with suppress(OutputError):  # then the action notices the silence
            files.put(files.result, {"status": status, "message": message})


def _message(daw: str, reports: Sequence[Report], *, says_kits: bool = False) -> str:
    """Return the message for the DAW's user about items that got no take, and on kits that were found.

    It is "" where all got one and there are none. `says_kits`: Redrum found them, not its user.
    """
    problems, kits, n_failed = [], [], 0
    for report in reports:
        if "error" in report or "skipped" in report:
            n_failed += report.get("items", 1)
        if "error" in report:
            problems.append(f"{report['error']}.\n{_sentence(report['hint'])}")
        elif "skipped" in report:
            what = f"{report['item'] or 'an item'} at {report['position_s']:.2f} s"
            problems.append(f"{what} on {report['track'] or 'a track'} was left out: {report['skipped']}.")
        elif says_kits and "together" in report:
            kits.append(_kit_message(report))
    if problems and len(reports) > 1:
        n_items = sum(report.get("items", 1) for report in reports)
        problems.insert(0, f"{n_items - n_failed} of {n_items} items got a take.")
    return _in_words_of(daw, "\n\n".join((*problems, *kits)))


def _kit_message(report: Report) -> str:
    """Return what is said of the take of several microphones: who they are, and all notes."""
    names = [mic["track"] or "a track" for mic in report["together"]]
    first = f"{', '.join(names[:-1])} and {names[-1]} at {report['position_s']:.2f} s are one kit."
    return "\n".join([first, *map(_sentence, report["notes"])])


def _in_words_of(daw: str, text: str) -> str:
    """Return a message in which things are called as a DAW's windows call them."""
    for word, own in {**_WORDS, **_DAW_WORDS[daw]}.items():
        text = text.replace(word, own)
    return text


def _sentence(text: str) -> str:
    return text and f"{text[0].upper()}{text[1:]}{'' if text.endswith('?') else '.'}"
