"""The commands `redrum live ...`."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated, Any

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
from daw_bridge.commands.reporting import print_checks, print_error
from daw_bridge.commands.sessions import work_on
from daw_bridge.devices import set_up_device
from daw_bridge.logs import set_up_logging

live_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Ableton Live: redrum what is selected in it."
)


@live_app.callback()
def group() -> None:
    """Ableton Live: redrum what is selected in it."""


@live_app.command()
@sound_options(in_session("the set's"))
def selected(
    rhythm: Annotated[
        str | None,
        option("RHYTHM", "A MIDI file, a recording or a name of `rhythms list`.", "the selected MIDI clip"),
    ] = None,
    loop: Annotated[
        bool,
        typer.Option("--loop", help="All clips on the selected tracks that the Arrangement's loop touches."),
    ] = False,
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
    """Let the clips selected in a running Live play another rhythm, on new tracks beside theirs.

    That is the clip that Live shows; with several tracks selected in Session view, their clips in the chosen
    scene. Without --rhythm the rhythm is a selected MIDI clip; else a clip on a track whose name starts with
    "rhythm" or "target"; else, of two selected audio clips, the one on the track further right or down.
    """
    set_up_logging(quiet, verbose)
    check_bit_depth(bit_depth)

    from daw_bridge.live.running import LiveSession

    session = LiveSession.connect("loop" if loop else "clips")

    from daw_bridge.takes import Order, settings_of
    from daw_bridge.work import open_rhythm
    from transform.engine import Redrummer
    from transform.library import resolve_rhythm

    with ExitStack() as files:
        found = open_rhythm(resolve_rhythm(rhythm), drum_map, files) if rhythm else None
        order = Order(
            settings=settings_of(given),
            rhythm=found,
            bit_depth=bit_depth,
            drum_map=drum_map,
        )
        load = partial(Redrummer.load, preset, device=set_up_device(device, threads))
        is_done = work_on(session, load, order, dry_run=dry_run, as_json=as_json, quiet=quiet)
    if session.not_placed is not None:
        print_error(session.not_placed.message, f"{session.not_placed.hint}: {session.folder}")
        typer.launch(str(session.folder))
    if not is_done:
        raise typer.Exit(1)


Library = Annotated[Path | None, option("DIR", "Live's User Library.", "the one that Live uses")]


@live_app.command("install")
def install_command(library: Library = None) -> None:
    """Put Redrum's Remote Script into Live's User Library, and say how it is chosen in Live."""
    from daw_bridge.live.install import install

    _print_changes(install(library), "all is installed already")


@live_app.command("uninstall")
def uninstall_command(library: Library = None) -> None:
    """Take Redrum's Remote Script out of Live's User Library again."""
    from daw_bridge.live.install import uninstall

    _print_changes(uninstall(library), "nothing is installed")


@live_app.command("doctor")
def doctor_command(library: Library = None, as_json: Json = False) -> None:
    """Say what works between Redrum and Live and what does not, each failure with its cure."""
    from daw_bridge.live.install import examine

    print_checks(examine(library), as_json, quiet=False)


def _print_changes(changes: list[str], none: str) -> None:
    for change in changes or [none]:
        typer.echo(change)
