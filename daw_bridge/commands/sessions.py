"""What the commands that work in a DAW's project have in common: the work, and saying what became of it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from daw_bridge.commands.reporting import print_error, print_failure, print_json, progress
from daw_bridge.take_report import form_of
from transform.errors import RedrumError

if TYPE_CHECKING:
    from daw_bridge.session import Session
    from daw_bridge.takes import Order
    from transform.engine import Redrummer

LIVE_SET = ".als"
PROJECTS = (".rpp", LIVE_SET)  # endings of closed projects


def work_on(
    session: "Session",
    load: "Callable[[], Redrummer]",
    order: "Order",
    *,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> bool:
    """Redrum what is chosen in a session, say what became of each item, and return whether none failed.

    Args:
        session: an open or closed project.
        load: returns the models, if they are needed.
        order: what is wanted.
        dry_run: only say what would be done.
        as_json: say it as JSON Lines.
        quiet: say nothing but errors.
    """
    from daw_bridge.takes import about, pairs_of, redrum_session

    if dry_run:
        job = session.collect()
        for pair in pairs_of(job, order):
            _print(about(job, pair, order.rhythm) | {"dry_run": True}, as_json, quiet)
        return True
    with progress(quiet or as_json) as show:
        reports = redrum_session(session, load(), order, tell=_print_failure, show=show)
    for report in reports:
        _print(report, as_json, quiet)
    return not any("error" in report for report in reports)


def redrum_projects(
    paths: Sequence[Path],
    rhythm: str,
    given: Mapping[str, Any],
    *,
    preset: str,
    device: str,
    tracks: str,
    items: Sequence[str],
    drum_map: str,
    bit_depth: str | None,
    overwrite: bool,
    skip_existing: bool,
    keep_going: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> bool:
    """Redrum each closed project, and return whether none failed.

    Of a REAPER project a copy with the takes is made, of a set of Ableton Live a folder with them.

    Args:
        paths: the projects.
        rhythm: as of `render`; "": it is an item of each project.
        given: the settings of the takes that are not the defaults; a take is as long as its source unless they
            say otherwise.
        preset: a name or folder.
        device: where the models run.
        tracks: pattern of the names of the tracks whose items are redrummed.
        items: which of these items, by number or name; none: all.
        drum_map: of MIDI rhythms.
        bit_depth: of the takes; None: their sources'.
        overwrite: replace copies, and takes in folders, that are there.
        skip_existing: leave out projects of which there is a copy or a folder.
        keep_going: after a project has failed.
        dry_run: only say what would be done.
        as_json: say it as JSON Lines.
        quiet: say nothing but errors.
    """
    from daw_bridge.live import als
    from daw_bridge.reaper import rpp
    from daw_bridge.takes import Order, settings_of
    from daw_bridge.work import open_rhythm
    from transform.engine import Redrummer
    from transform.library import resolve_rhythm

    settings = settings_of(given)
    load = cache(partial(Redrummer.load, preset, device=device))
    is_done = True
    with ExitStack() as files:
        found = open_rhythm(resolve_rhythm(rhythm), drum_map, files) if rhythm else None
        order = Order(settings=settings, rhythm=found, bit_depth=bit_depth, drum_map=drum_map)
        for path in paths:
            is_set = path.suffix.lower() == LIVE_SET
            output = als.result_folder(path) if is_set else rpp.result_path(path)
            about = {"project": str(path), "output": str(output)}
            if skip_existing and output.exists():
                if as_json:
                    print_json(about | {"skipped": True})
                elif not quiet:
                    typer.echo(f"{about['output']}: exists already, skipped")
                continue
            try:
                open_it: Callable[..., Session] = als.open_set if is_set else rpp.open_project
                session = open_it(path, tracks=tracks, items=items, overwrite=overwrite)
                own = work_on(session, load, order, dry_run=dry_run, as_json=as_json, quiet=quiet)
            except RedrumError as err:
                print_failure(about, err, as_json)
                own = False
            else:
                if own and not (dry_run or as_json or quiet):
                    typer.echo(f"the takes are in {about['output']}")
            is_done = is_done and own
            if not (own or keep_going):
                break
    return is_done


def _print_failure(report: dict[str, Any]) -> None:
    if "error" in report:
        print_error(report["error"], report["hint"])


def _print(report: dict[str, Any], as_json: bool, quiet: bool) -> None:
    """Say what became of an item; that it failed has been said."""
    if as_json:
        print_json(report)
        return
    if quiet or "error" in report:
        return
    what = f"{report['item'] or 'an item'} at {report['position_s']:.2f} s on {report['track'] or 'a track'}"
    if "skipped" in report:
        typer.echo(f"{what}: skipped, {report['skipped']}")
    elif "dry_run" in report:
        typer.echo(f"{what}: would play {report['rhythm']}")
    else:
        typer.echo(f"{report['output']}: {report['duration_s']:.2f} s, {form_of(report)}")
        typer.echo(f"  {what}, playing {report['rhythm']}")
        for note in report["notes"]:
            typer.echo(f"  {note}")
