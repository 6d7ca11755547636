"""The commands `redrum ardour ...`."""

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from daw_bridge.commands.options import Compute, Json, Preset, Quiet, option, option_groups
from daw_bridge.commands.reporting import Console, print_changes
from daw_bridge.commands.sections import WideGroup
from transform.errors import DawError

ardour_app = typer.Typer(
    cls=WideGroup,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="Redrum what is selected in Ardour; set it up.",
)


@ardour_app.callback()
def group() -> None:
    """Ardour: redrum what is selected in it."""


@ardour_app.command("run-job")
@option_groups()
def run_job_command(
    job: Annotated[Path, typer.Argument(metavar="JOB.json", help="What the action in Ardour wrote.")],
    preset: Preset = "default",
    *,
    compute: Compute,
) -> None:
    """Do a job of Ardour's action; progress and result go into files beside it. The action starts this."""
    Console(verbose=True)  # there is no terminal: all goes to the log file

    from daw_bridge.action_job import run_job
    from daw_bridge.job_files import remove_old_jobs

    remove_old_jobs(job.parent)
    if not run_job(job, partial(compute.load, preset)):
        raise typer.Exit(1)


Config = Annotated[
    Path | None, option("DIR", "Ardour's folder of settings.", "those of all Ardours of this user")
]


@ardour_app.command("install")
def install_command(config: Config = None) -> None:
    """Put the actions into Ardour, which must not run; settings are copied before they are changed."""
    from daw_bridge.ardour.install import install

    changes = [change for folder in _folders(config) for change in install(folder)]
    print_changes(changes, "all is installed already")


@ardour_app.command("doctor")
def doctor_command(config: Config = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Report what the actions in Ardour lack, each failure with its cure."""
    from daw_bridge.ardour.doctor import examine_ardour

    checks = (check for folder in _folders(config) for check in examine_ardour(folder))
    Console(as_json=as_json, quiet=quiet).print_checks(checks)


@ardour_app.command("uninstall")
def uninstall_command(config: Config = None) -> None:
    """Take all of it out of Ardour again."""
    from daw_bridge.ardour.install import uninstall

    changes = [change for folder in _folders(config) for change in uninstall(folder)]
    print_changes(changes, "nothing is installed")


def _folders(config: Path | None) -> list[Path]:
    """Return the folders of Ardour's settings that a command is for.

    Raises:
        DawError: there is none.
    """
    from daw_bridge.ardour.install import ardour_folders

    folders = [config] if config else ardour_folders()
    if not folders:
        raise DawError(
            "no Ardour 7 or newer has settings here",
            hint="start Ardour once and quit it, or name its folder with --config",
        )
    return folders
