"""What `redrum` tells: results on stdout, as text or JSON Lines; errors, log lines and progress on stderr."""

import json
import logging
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from transform.errors import RedrumError, SettingsError

if TYPE_CHECKING:
    from transform.events import DrumEvent

SCHEMA = 1  # of the objects that --json prints
_PACKAGES = ("transform", "daw_bridge", "training")
_LOG_BYTES = 2**20
_log = logging.getLogger(__name__)
Show = Callable[[str, float], None]


class _ToStderr(logging.Handler):
    """Writes to the stderr of the moment: a progress bar lets what it prints pass above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


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
            handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
            logger.addHandler(handler)
    if verbose:
        _log_to_file()


def _log_to_file() -> None:
    """Add the log file to where log lines go; the last megabytes of it are kept."""
    from logging.handlers import RotatingFileHandler

    folder = log_folder()
    loggers = [logging.getLogger(package) for package in _PACKAGES]
    if any(isinstance(handler, RotatingFileHandler) for handler in loggers[0].handlers):
        return
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = RotatingFileHandler(
            folder / "redrum.log", maxBytes=_LOG_BYTES, backupCount=2, encoding="utf-8", delay=True
        )
    except OSError as err:
        _log.warning("there is no log file: %s", err)
        return
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    for logger in loggers:
        logger.addHandler(handler)
    _log.debug("this is also in %s: redrum %s", folder / "redrum.log", " ".join(sys.argv[1:]))


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
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True) as bars:
        stages: dict[str, TaskID] = {}

        def show(stage: str, share: float) -> None:
            if stage not in stages:
                for begun in stages.values():  # one stage follows the other
                    bars.update(begun, completed=1.0)
                stages[stage] = bars.add_task(stage, total=1.0)
            bars.update(stages[stage], completed=share)

        yield show


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
        typer.echo(f"{report['output']}: exists already, skipped")
    elif not quiet and report.get("dry_run"):
        typer.echo(f"{report['output']}: {would}")
    else:
        return quiet
    return True


def print_report(report: dict[str, Any], as_json: bool, quiet: bool) -> None:
    """Print what became of a recording that plays a rhythm."""
    would = f"would be {report['source']} playing {report['rhythm']}"
    if not is_told(report, would, as_json, quiet):
        typer.echo(f"{report['output']}: {report['duration_s']:.2f} s, {form_of(report)}")
        typer.echo(f"  {report['source']} playing {report['rhythm']}")
        for note in report["notes"]:
            typer.echo(f"  {note}")
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
    typer.echo(f"redrum: {message}", err=True)
    if hint:
        typer.echo(f"  {hint}", err=True)
    if as_json:
        print_json(about | {"error": message, "hint": hint})


def time_of(seconds: float) -> str:
    """Return a time in words, such as "2 min 5 s"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "0 s"


def print_json(item: dict[str, Any]) -> None:
    """Print one line of JSON Lines."""
    typer.echo(json.dumps({"schema": SCHEMA, **item}))


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns; the first of them is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
