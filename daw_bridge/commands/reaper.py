"""The commands `redrum reaper ...`."""

from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daw_bridge.commands.options import (
    BitDepth,
    Device,
    DrumMap,
    DryRun,
    Json,
    Preset,
    Quiet,
    Threads,
    Verbose,
    check_bit_depth,
    in_session,
    option,
    sound_options,
)
from daw_bridge.commands.sessions import work_on
from daw_bridge.devices import set_up_device
from daw_bridge.logs import set_up_logging

if TYPE_CHECKING:
    from transform.engine import Redrummer

reaper_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="REAPER: redrum what is selected in it."
)


@reaper_app.callback()
def group() -> None:
    """REAPER: redrum what is selected in it."""


@reaper_app.command()
@sound_options(in_session("the project's"))
def selected(
    rhythm: Annotated[
        str | None,
        option("RHYTHM", "A MIDI file, a recording or a name of `rhythms list`.", "the selected MIDI item"),
    ] = None,
    preset: Preset = "default",
    *,
    given: dict[str, Any],
    device: Device = "auto",
    threads: Threads = None,
    bit_depth: BitDepth = None,
    drum_map: DrumMap = "auto",
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Let the items selected in a running REAPER play another rhythm, on new tracks below theirs.

    Without --rhythm it is a selected MIDI item; else an item on a track whose name starts with "rhythm" or
    "target"; else, of two selected audio items, the lower track's.
    """
    set_up_logging(quiet, verbose)
    check_bit_depth(bit_depth)

    from daw_bridge.reaper.running import RunningSession

    with ExitStack() as files:
        session = files.enter_context(closing(RunningSession.connect()))

        from daw_bridge.takes import Order, settings_of
        from daw_bridge.work import open_rhythm
        from transform.engine import Redrummer
        from transform.library import resolve_rhythm

        found = open_rhythm(resolve_rhythm(rhythm), drum_map, files) if rhythm else None
        order = Order(
            settings=settings_of(given),
            rhythm=found,
            bit_depth=bit_depth,
            drum_map=drum_map,
        )
        load = partial(Redrummer.load, preset, device=set_up_device(device, threads))
        is_done = work_on(session, load, order, dry_run=dry_run, as_json=as_json, quiet=quiet)
    if not is_done:
        raise typer.Exit(1)


@reaper_app.command("run-job")
def run_job_command(
    job: Annotated[Path, typer.Argument(metavar="JOB.json", help="What the action in REAPER wrote.")],
    preset: Preset = "default",
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Do a job of REAPER's action; progress and result go into files beside it. The action starts this."""
    set_up_logging(quiet=False, verbose=True)  # nobody sees the terminal: all is in the log file

    from daw_bridge.reaper.job import run_job

    def load() -> "Redrummer":
        from transform.engine import Redrummer

        return Redrummer.load(preset, device=set_up_device(device, threads))

    if not run_job(job, load):
        raise typer.Exit(1)


Resources = Annotated[
    Path | None, option("DIR", "REAPER's settings, where it is a portable REAPER.", "where REAPER keeps them")
]


@reaper_app.command("install")
def install_command(
    resources: Resources = None,
    server: Annotated[
        bool, typer.Option("--server", help="Also what `reaper selected` needs: Python and a web interface.")
    ] = False,
) -> None:
    """Put the actions into REAPER, which must not run; settings are copied before they are changed."""
    from daw_bridge.reaper.install import install, reaper_folder

    _print_changes(install(resources or reaper_folder(), with_server=server), "all is installed already")


@reaper_app.command("doctor")
def doctor_command(resources: Resources = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Say what the actions in REAPER lack, each failure with its cure."""
    from daw_bridge.commands.reporting import print_checks
    from daw_bridge.reaper.doctor import examine_reaper
    from daw_bridge.reaper.install import reaper_folder

    set_up_logging(quiet, verbose=False)
    print_checks(examine_reaper(resources or reaper_folder()), as_json, quiet)


@reaper_app.command("uninstall")
def uninstall_command(resources: Resources = None) -> None:
    """Take all of it out of REAPER again."""
    from daw_bridge.reaper.install import reaper_folder, uninstall

    _print_changes(uninstall(resources or reaper_folder()), "nothing is installed")


def _print_changes(changes: list[str], none: str) -> None:
    for change in changes or [none]:
        typer.echo(change)
