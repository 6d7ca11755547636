"""The command `audition`: one recording with many rhythms, on one page."""

from pathlib import Path
from typing import Annotated, Any

import typer

import transform
from daw_bridge.commands.options import Compute, Overwrite, Preset, option, option_groups
from daw_bridge.commands.reporting import Console, shell_word
from daw_bridge.render_job import OUT_FOLDER, default_place
from transform.errors import RhythmError


@option_groups({"length": {"unset": "source"}, "tail": {"unset": "wrap"}})
def audition(
    loop: Annotated[Path, typer.Argument(help="The drum recording.")],
    style: Annotated[
        str, typer.Argument(help="Only rhythms of this style, such as rock.", show_default="all")
    ] = "",
    out: Annotated[Path | None, option("DIR", "The folder of the page.", "redrummed/audition/LOOP")] = None,
    preset: Preset = "default",
    *,
    given: dict[str, Any],
    compute: Compute,
    overwrite: Overwrite = False,
    console: Console,
) -> None:
    """Let a drum recording play many rhythms, on one page.

    Each goes on where the last one was. The command below a rhythm renders it in full quality.
    """
    from daw_bridge.audition import Audition
    from transform.library import rhythms_of_style

    if style and not loop.exists() and Path(style).is_file():
        raise RhythmError(
            f"{loop} is no recording",
            hint=f"write the recording first: redrum audition {shell_word(style)} {shell_word(str(loop))}",
        )
    job = Audition(
        path=loop,
        rhythms=rhythms_of_style(style),
        given=given,
        preset=preset,
        folder=out or default_place(OUT_FOLDER / "audition" / loop.stem),
        overwrite=overwrite,
    )
    transform.RenderSettings(**given)  # what is wrong is said before anything runs
    with transform.Recording.open(loop) as source:
        job.check()
        with console.progress() as progress:
            report = job.run(source, compute.load(preset), progress)
    if not console.is_reported(report, ""):
        page = Path(report["page"]).absolute().as_uri()
        console.echo(f"{loop} plays {report['rhythms']} rhythms: open {page} in a browser")
        console.print_notes({"notes": report["notes"]})
