"""What `redrum` tells: results on stdout, as text or JSON Lines; errors, log lines and progress on stderr.

Names and cards come from others. `transform.terminal` guards both streams of the process, so that nothing that
is printed is a command to a terminal. Cared for here is what goes elsewhere: progress bars, which are commands,
the log file, and JSON.
"""

import json
import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from transform.confined import is_link
from transform.errors import RedrumError, SettingsError
from transform.terminal import guarded, one_line, printable, unguarded, written_out

if TYPE_CHECKING:
    from transform.events import DrumEvent

SCHEMA = 1  # of the objects that --json prints
_PACKAGES = ("transform", "daw_bridge", "training")
_LOG_BYTES = 2**20
_NO_CHARACTER = re.compile("[\ud800-\udfff]")
_log = logging.getLogger(__name__)
Show = Callable[[str, float], None]


class _ToStderr(logging.Handler):
    """Writes to the stderr of the moment: a progress bar lets what it prints pass above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


class _LogFile(RotatingFileHandler):
    """A log file that ends, with a word about it, where it cannot be written any more."""

    def handleError(self, record: logging.LogRecord) -> None:
        self.setLevel(logging.CRITICAL + 1)
        with suppress(OSError, ValueError):  # the disk is still full
            self.close()
        err = sys.exc_info()[1]
        why = err.strerror if isinstance(err, OSError) else err
        _log.warning("nothing more is written to %s: %s", self.baseFilename, why)


class _Lines(logging.Formatter):
    """Writes a message on one line, whatever names are in it; only a traceback has lines of its own."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        return one_line(super().formatMessage(record))

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


def set_up_logging(quiet: bool, verbose: bool) -> None:
    """Send log lines to stderr: errors only, warnings, or with `verbose` all, then to the log file, too."""
    if quiet and verbose:
        raise SettingsError("-q and -v contradict each other", hint="give one of them")
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING
    for package in _PACKAGES:
        logger = logging.getLogger(package)
        logger.setLevel(level)
        if not any(isinstance(handler, _ToStderr) for handler in logger.handlers):
            handler = _ToStderr()
            handler.setFormatter(_Lines("%(levelname)s: %(message)s"))
            logger.addHandler(handler)
    if verbose:
        _log_to_file()


def _log_to_file() -> None:
    """Add the log file to where log lines go; the last megabytes of it are kept."""
    loggers = [logging.getLogger(package) for package in _PACKAGES]
    if any(isinstance(handler, _LogFile) for handler in loggers[0].handlers):
        return
    path = log_folder() / "redrum.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if is_link(path.parent):
            _log.warning("there is no log file: %s is a link", path.parent)
            return
        if os.path.lexists(path) and (is_link(path) or not path.is_file() or path.stat().st_nlink > 1):
            _log.warning("there is no log file: %s is a link, or no file", path)
            return
        handler = _LogFile(path, maxBytes=_LOG_BYTES, backupCount=2, encoding="utf-8", delay=True)
    except OSError as err:
        _log.warning("there is no log file: %s", err)
        return
    handler.setFormatter(_Lines("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for logger in loggers:
        logger.addHandler(handler)
    _log.debug("this is also in %s: redrum %s", path, " ".join(sys.argv[1:]))


def let_go_of_log_file() -> None:
    """Close the log file until the next line for it: while it is open, Windows lets nobody begin a new one."""
    for handler in logging.getLogger(_PACKAGES[0]).handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()


def log_folder() -> Path:
    """Return where the log file lies: in $REDRUM_DATA, else the platform's place for logs."""
    if chosen := os.environ.get("REDRUM_DATA"):
        return Path(chosen) / "logs"
    from platformdirs import user_log_path

    return user_log_path("redrum", appauthor=False)


@contextmanager
def progress(quiet: bool) -> Iterator[Show | None]:
    """Yield what draws progress bars on stderr, None where there is no terminal or nobody wants them."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress, TaskID

    console = Console(file=unguarded(sys.stderr), soft_wrap=True)
    bars = Progress(console=console, transient=True, redirect_stdout=sys.stdout.isatty())
    with bars, _guarded_output():
        stages: dict[str, TaskID] = {}

        def show(stage: str, share: float) -> None:
            if stage not in stages:
                for begun in stages.values():  # one stage follows the other
                    bars.update(begun, completed=1.0)
                stages[stage] = bars.add_task(escape(one_line(stage)), total=1.0)
            bars.update(stages[stage], completed=share)

        yield show


@contextmanager
def _guarded_output() -> Iterator[None]:
    """Guard the streams that rich has put in the place of guarded ones."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = map(guarded, before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def count_events(events: Iterable["DrumEvent"]) -> dict[str, int]:
    """Return how many events there are of each class."""
    from transform.events import CLASSES

    counts = Counter(event.drum_class for event in events)
    return {name: counts[name] for name in CLASSES}


def form_of(report: dict[str, Any]) -> str:
    """Return the sample rate, channels and bit depth of a result in words."""
    depth = report["bit_depth"]
    channels = {1: "mono", 2: "stereo"}.get(report["channels"], f"{report['channels']} channels")
    return f"{report['sample_rate']} Hz, {channels}, {depth.rstrip('f')} bits{' float' * depth.endswith('f')}"


def depth_of(subtype: str) -> str:
    """Return the bit depth of soundfile's name of a sample format, as --bit-depth has it."""
    return {"FLOAT": "32f", "DOUBLE": "64f"}.get(subtype, subtype[-2:].lstrip("SU"))


def is_told(report: dict[str, Any], would: str, as_json: bool, quiet: bool) -> bool:
    """Print what needs no details, and return whether all is said."""
    if as_json:
        print_json(report)
    elif not quiet and report.get("skipped"):
        typer.echo(one_line(f"{report['output']}: exists already, skipped"))
    elif not quiet and report.get("dry_run"):
        typer.echo(one_line(f"{report['output']}: {would}"))
    else:
        return quiet
    return True


def print_report(report: dict[str, Any], as_json: bool, quiet: bool) -> None:
    """Print what became of a recording that plays a rhythm."""
    would = f"would be {report['source']} playing {report['rhythm']}"
    if not is_told(report, would, as_json, quiet):
        typer.echo(one_line(f"{report['output']}: {report['duration_s']:.2f} s, {form_of(report)}"))
        typer.echo(one_line(f"  {report['source']} playing {report['rhythm']}"))
        for note in report["notes"]:
            typer.echo(one_line(f"  {note}"))
        for what in ("plot", "page"):
            if report.get(what):
                typer.echo(f"  {'picture' if what == 'plot' else 'page'}: {report[what]}")


def print_failure(about: dict[str, Any], err: Exception, as_json: bool) -> None:
    """Say why an item among others failed; `about` says which."""
    _log.debug("the cause", exc_info=err)
    if isinstance(err, RedrumError):
        message, hint = err.message, err.hint
    else:
        message, hint = f"{next(iter(about.values()))}: {err or type(err).__name__}", "-v tells where it failed"
    print_error(message, hint)
    if as_json:
        print_json(about | {"error": message, "hint": hint})


def time_of(seconds: float) -> str:
    """Return a time in words, such as "2 min 5 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "0 s"


def print_json(item: dict[str, Any]) -> None:
    r"""Print one line of JSON Lines, in ASCII; a byte of a name that is no UTF-8 is the text `\xfc` in it."""
    line = json.dumps({"schema": SCHEMA, **item}, ensure_ascii=False)
    line = _NO_CHARACTER.sub(lambda found: "\\" + written_out(found[0]), line)
    # DEL is the one control character that JSON does not escape by itself.
    typer.echo(json.dumps(json.loads(line)).replace("\x7f", "\\u007f"))


def print_error(message: str, hint: str = "") -> None:
    """Say on stderr what went wrong, and the next step; names in it do not begin lines of their own."""
    typer.echo(f"redrum: {one_line(message)}", err=True)
    if hint:
        typer.echo(f"  {one_line(hint)}", err=True)


def what_failed(err: OSError) -> tuple[str, str]:
    """Return what the system would not do, in words, and the next step."""
    try:
        Path.cwd()
    except OSError:
        return "the folder that this runs in is gone", "change to a folder that is there, then run it again"
    what = f"{err.filename}: {err.strerror}" if err.filename else str(err)
    return what, "check the disk, the path and its permissions"


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns; the first of them is the head."""
    rows = [tuple(map(one_line, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
