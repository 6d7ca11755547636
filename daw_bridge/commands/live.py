"""The commands `redrum live ...`."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from daw_bridge.commands.options import (
    Compute,
    DryRun,
    InProject,
    Json,
    Preset,
    TakeForm,
    in_session,
    option,
    option_groups,
)
from daw_bridge.commands.reporting import Console, print_changes, print_error
from daw_bridge.commands.sections import SectionedCommand, WideGroup
from daw_bridge.commands.sessions import TakeRequest

live_app = typer.Typer(
    cls=WideGroup,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Redrum what is selected in Ableton Live; set it up.",
)


@live_app.callback()
def group() -> None:
    """Ableton Live: redrum what is selected in it."""


@live_app.command(cls=SectionedCommand)
@option_groups(in_session("the set's"))
def selected(
    rhythm: Annotated[
        str | None,
        option("RHYTHM", "A MIDI file, a recording or a name of `rhythms list`.", "the selected MIDI clip"),
    ] = None,
    loop: Annotated[
        bool,
        typer.Option("--loop", help="All clips on the selected tracks that the Arrangement's loop touches."),
    ] = False,
    edit: Annotated[
        bool,
        typer.Option("--edit", help="Edit the rhythm of the clip or kit on a page, which sends takes back."),
    ] = False,
    preset: Preset = "default",
    *,
    given: dict[str, Any],
    compute: Compute,
    form: TakeForm,
    in_project: InProject,
    dry_run: DryRun = False,
    console: Console,
) -> None:
    """Let the clips selected in a running Live play another rhythm, on new tracks beside theirs.

    That is the clip that Live shows; with several tracks selected in Session view, their clips in the chosen
    scene. Without --rhythm the rhythm is a selected MIDI clip; else a clip on a track whose name starts with
    "rhythm" or "target"; else, of two selected audio clips, the one on the track further right or down.
    """
    from daw_bridge.live.running import LiveSession

    if edit:
        from daw_bridge.commands.edit import edit_selected
        from daw_bridge.editor.desk import Desk

        session = LiveSession.connect("loop" if loop else "clips")
        desk = Desk.of_selected("Live", lambda: nullcontext(session), together=in_project.together)
        edit_selected(desk, preset, compute, console)
        return
    request = TakeRequest(
        rhythm=rhythm or "",
        given=given,
        preset=preset,
        compute=compute,
        form=form,
        in_project=in_project,
        dry_run=dry_run,
        console=console,
    )
    session = LiveSession.connect("loop" if loop else "clips")
    is_done = request.redrum_selected(session)
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

    print_changes(install(library), "all is installed already")


@live_app.command("uninstall")
def uninstall_command(library: Library = None) -> None:
    """Take Redrum's Remote Script out of Live's User Library again."""
    from daw_bridge.live.install import uninstall

    print_changes(uninstall(library), "nothing is installed")


@live_app.command("doctor")
def doctor_command(library: Library = None, as_json: Json = False) -> None:
    """Report what works between Redrum and Live and what does not, each failure with its cure."""
    from daw_bridge.live.install import examine

    Console(as_json=as_json).print_checks(examine(library))
