"""What `redrum` tells: results on stdout, as text or JSON Lines; errors and progress on stderr.

Names and cards come from others. `transform.terminal` guards both streams of the process, so that nothing that
is printed is a command to a terminal. Cared for here is what goes elsewhere: progress bars, which are commands,
and JSON.
"""

import json
import logging
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import typer

from daw_bridge.checks import Check
from daw_bridge.take_report import Show, form_of
from transform.errors import DeviceError, RedrumError
from transform.terminal import guarded, one_line, unguarded, written_out

SCHEMA = 1  # of the objects that --json prints
_NO_CHARACTER = re.compile("[\ud800-\udfff]")
_log = logging.getLogger(__name__)


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


def print_checks(checks: Iterable[Check], as_json: bool, quiet: bool) -> None:
    """Say what was found, part by part; end the command with the exit code for it where a part failed."""
    n_failed = 0
    for check in checks:
        n_failed += check.status == "failed"
        if as_json:
            print_json(asdict(check))
        elif check.status == "failed" or not quiet:
            typer.echo(f"{check.status:<6}  {check.name}: {check.found}")
            if check.cure:
                typer.echo(f"        {check.cure}")
    if n_failed:
        raise typer.Exit(DeviceError.exit_code)
