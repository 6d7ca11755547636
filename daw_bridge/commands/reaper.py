"""The commands `redrum reaper ...`."""

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from daw_bridge.commands.options import (
    Compute,
    DryRun,
    InProject,
    Json,
    Preset,
    Quiet,
    TakeForm,
    WithMidi,
    WithStems,
    in_session,
    option,
    option_groups,
)
from daw_bridge.commands.reporting import Console, print_changes
from daw_bridge.commands.sections import SectionedCommand, WideGroup
from daw_bridge.commands.sessions import TakeRequest

reaper_app = typer.Typer(
    cls=WideGroup,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Redrum what is selected in REAPER; set it up.",
)


@reaper_app.callback()
def group() -> None:
    """REAPER: redrum what is selected in it."""


@reaper_app.command(cls=SectionedCommand)
@option_groups(in_session("the project's"))
def selected(
    rhythm: Annotated[
        str | None,
        option("RHYTHM", "A MIDI file, a recording or a name of `rhythms list`.", "the selected MIDI item"),
    ] = None,
    edit: Annotated[
        bool,
        typer.Option("--edit", help="Edit the rhythm of the item or kit on a page, which sends takes back."),
    ] = False,
    preset: Preset = "default",
    *,
    given: dict[str, Any],
    compute: Compute,
    form: TakeForm,
    in_project: InProject,
    stems: WithStems = False,
    midi: WithMidi = False,
    dry_run: DryRun = False,
    console: Console,
) -> None:
    """Let the items selected in a running REAPER play another rhythm, on new tracks below theirs.

    Without --rhythm it is a selected MIDI item; else an item on a track whose name starts with "rhythm" or
    "target"; else, of two selected audio items, the lower track's.
    """
    from daw_bridge.reaper.running import RunningSession

    if edit:
        from daw_bridge.commands.edit import edit_selected
        from daw_bridge.editor.desk import Desk

        desk = Desk.of_selected(
            "REAPER", lambda: closing(RunningSession.connect()), together=in_project.together
        )
        edit_selected(desk, preset, compute, console)
        return
    request = TakeRequest(
        rhythm=rhythm or "",
        given=given | {"separate_outputs": stems},
        in_project=in_project,
        with_midi=midi,
        preset=preset,
        compute=compute,
        form=form,
        dry_run=dry_run,
        console=console,
    )
    with closing(RunningSession.connect()) as session:
        is_done = request.redrum_selected(session)
    if not is_done:
        raise typer.Exit(1)


@reaper_app.command("run-job")
@option_groups()
def run_job_command(
    job: Annotated[Path, typer.Argument(metavar="JOB.json", help="What the action in REAPER wrote.")],
    preset: Preset = "default",
    *,
    compute: Compute,
) -> None:
    """Do a job of REAPER's action; progress and result go into files beside it. The action starts this."""
    Console(verbose=True)  # there is no terminal: all goes to the log file

    from daw_bridge.action_job import run_job

    if not run_job(job, partial(compute.load, preset)):
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

    print_changes(install(resources or reaper_folder(), with_server=server), "all is installed already")


@reaper_app.command("doctor")
def doctor_command(resources: Resources = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Report what the actions in REAPER lack, each failure with its cure."""
    from daw_bridge.reaper.doctor import examine_reaper
    from daw_bridge.reaper.install import reaper_folder

    Console(as_json=as_json, quiet=quiet).print_checks(examine_reaper(resources or reaper_folder()))


@reaper_app.command("uninstall")
def uninstall_command(resources: Resources = None) -> None:
    """Take all of it out of REAPER again."""
    from daw_bridge.reaper.install import reaper_folder, uninstall

    print_changes(uninstall(resources or reaper_folder()), "nothing is installed")
