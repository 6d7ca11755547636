"""What `redrum` prints: results on stdout, as text or JSON Lines; errors and progress on stderr.

Names and cards come from others. `transform.terminal` guards both streams of the process, so that nothing that
is printed is a command to a terminal. Cared for here is what goes elsewhere: progress bars, which are commands,
and JSON.
"""

import json
import logging
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from daw_bridge.checks import Check
from daw_bridge.commands.options import Json, Quiet, Verbose
from daw_bridge.logs import set_up_logging
from daw_bridge.take_report import form_of, more_items
from transform.errors import DeviceError, RedrumError
from transform.terminal import guarded, one_line, unguarded, written_out

if TYPE_CHECKING:
    from transform.audio import Progress

SCHEMA = 1  # of the objects that --json prints
_NO_CHARACTER = re.compile("[\ud800-\udfff]")
_log = logging.getLogger(__name__)


@contextmanager
def progress(quiet: bool) -> Iterator["Progress | None"]:
    """Yield a callback that draws progress bars on stderr, None if `quiet` or where there is no terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import Progress as ProgressBars
    from rich.progress import TaskID

    console = Console(file=unguarded(sys.stderr), soft_wrap=True)
    bars = ProgressBars(console=console, transient=True, redirect_stdout=sys.stdout.isatty())
    with bars, _guarded_output():
        stages: dict[str, TaskID] = {}

        def show(stage: str, fraction: float) -> None:
            if stage not in stages:
                for begun in stages.values():  # one stage follows the other
                    bars.update(begun, completed=1.0)
                stages[stage] = bars.add_task(escape(one_line(stage)), total=1.0)
            bars.update(stages[stage], completed=fraction)

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


@dataclass(frozen=True, kw_only=True)
class Console:
    """How a command reports: as text, as JSON Lines, or only errors. Log lines follow the same options."""

    as_json: Json = False
    quiet: Quiet = False
    verbose: Verbose = False

    def __post_init__(self) -> None:
        set_up_logging(self.quiet, self.verbose)

    @property
    def is_plain(self) -> bool:
        """Whether results are printed as text."""
        return not (self.as_json or self.quiet)

    def echo(self, text: str) -> None:
        """Print a line of text, if results are text."""
        if self.is_plain:
            typer.echo(one_line(text))

    def progress(self) -> AbstractContextManager["Progress | None"]:
        """Return the context of progress bars; see `progress`."""
        return progress(self.quiet)

    def is_reported(self, report: dict[str, Any], would: str) -> bool:
        """Print a report that needs no details, and return whether nothing is left to print."""
        if self.as_json:
            print_json(report)
        elif report.get("skipped"):
            self.echo(f"{report['output']}: exists already, skipped")
        elif report.get("dry_run"):
            self.echo(f"{report['output']}: {would}")
        else:
            return self.quiet
        return True

    def print_report(self, report: dict[str, Any]) -> None:
        """Print what became of a recording that plays a rhythm."""
        if not self.is_reported(report, f"would be {report['source']} playing {report['rhythm']}"):
            for mic in report.get("together", [report]):
                self.echo(f"{mic['output']}: {report['duration_s']:.2f} s, {form_of(mic)}")
            sources = ", ".join(mic["source"] for mic in report.get("together", [report]))
            self.echo(f"  {sources} playing {report['rhythm']}")
            self.print_take(report)
        elif report.get("dry_run") and not self.as_json:
            for mic in report.get("together", [])[1:]:
                self.echo(f"{mic['output']}: would be {mic['source']} playing {report['rhythm']}")
            self.print_notes({"notes": (), **report})

    def print_take(self, report: dict[str, Any]) -> None:
        """Print the notes of a take's report, and where its stems and its other files are."""
        self.print_notes(report)
        for found in report.get("stems", {}).values():
            paths = [found] if isinstance(found, str) else found
            self.echo(f"  stem: {paths[0]}{more_items(len(paths))}")

    def print_notes(self, report: dict[str, Any]) -> None:
        """Print the notes of a report, and where its picture and its page are."""
        for note in report["notes"]:
            self.echo(f"  {note}")
        for what, key in (("MIDI", "midi"), ("picture", "plot"), ("page", "page")):
            if report.get(key):
                found = Path(report[key])
                self.echo(f"  {what}: {found.absolute().as_uri() if key == 'page' else found}")

    def print_failure(self, about: dict[str, Any], err: Exception, place: str = "") -> None:
        """Print why an item among others failed; `about` names the item, as `place` does to read."""
        _log.debug("the cause", exc_info=err)
        if isinstance(err, RedrumError):
            message, hint = err.message, err.hint
        else:
            message = f"{next(iter(about.values()))}: {err or type(err).__name__}"
            hint = "-v tells where it failed"
        print_error(message if place in message else f"{place}: {message}", hint)
        if self.as_json:
            print_json(about | {"error": message, "hint": hint})

    def print_checks(self, checks: Iterable[Check]) -> None:
        """Print checks as they come; end the command with its exit code where one failed."""
        n_failed = 0
        for check in checks:
            n_failed += check.status == "failed"
            if self.as_json:
                print_json(asdict(check))
            elif check.status == "failed" or not self.quiet:
                typer.echo(f"{check.status:<6}  {check.name}: {check.found}")
                if check.cure:
                    typer.echo(f"        {check.cure}")
        if n_failed:
            raise typer.Exit(DeviceError.exit_code)


def print_changes(changes: Sequence[str], none: str) -> None:
    """Print the changes that an installation made, or that there were none."""
    for change in changes or [none]:
        typer.echo(change)


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
    """Print on stderr what went wrong, and the next step; names in it do not begin lines of their own."""
    typer.echo(f"redrum: {one_line(message)}", err=True)
    if hint:
        typer.echo(f"  {one_line(hint)}", err=True)


def what_failed(err: OSError) -> tuple[str, str]:
    """Return in words which operation of the system failed, and the next step."""
    try:
        Path.cwd()
    except OSError:
        return "the folder that this runs in is gone", "change to a folder that is there, then run it again"
    what = f"{err.filename}: {err.strerror}" if err.filename else str(err)
    return what, "check the disk, the path and its permissions"


def shell_word(text: str) -> str:
    """Return a word as it is typed into the shell of this system: in quotes where it needs them."""
    return subprocess.list2cmdline([text]) if sys.platform == "win32" else shlex.quote(text)


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """Print rows in columns; the first of them is the head."""
    rows = [tuple(map(one_line, row)) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
