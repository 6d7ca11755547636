"""The command `audition`: one recording with many rhythms, on one page."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

import transform
from daw_bridge.commands.options import Compute, Overwrite, Preset, option, option_groups
from daw_bridge.commands.reporting import Console, shell_word
from daw_bridge.render_job import OUT_FOLDER, default_place
from transform.errors import RhythmError
from transform.names import name_after


@option_groups({"length": {"unset": "source"}, "tail": {"unset": "wrap"}})
def audition(
    loop: Annotated[Path, typer.Argument(help="The drum recording.")],
    styles: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="STYLE", help="Only rhythms of this style, such as hip hop.", show_default="all"
        ),
    ] = None,
    out: Annotated[
        Path | None,
        option("DIR", "The folder of the page.", "redrummed/audition/LOOP/STYLE", "-o", "--out"),
    ] = None,
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

    style = " ".join(styles or ())
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
        folder=out or _free_folder(loop, style, overwrite=overwrite),
        overwrite=overwrite,
    )
    transform.RenderSettings(**given)  # what is wrong is said before anything runs
    with transform.Recording.open(loop) as source:
        job.check()
        with console.progress() as progress:
            report = job.run(source, compute.load(preset), progress)
    if not console.is_reported(report, ""):
        page = Path(report["page"]).absolute().as_uri()
        n = report["rhythms"]
        console.echo(f"{loop} plays {n} rhythm{'s' * (n != 1)}: open {page} in a browser")
        console.print_notes({"notes": report["notes"]})


def _free_folder(loop: Path, style: str, *, overwrite: bool) -> Path:
    """Return the folder of a page whose place the user did not name: one for each recording and style.

    Where an earlier page lies there, the next number is added to the name, or with `overwrite` that page is
    replaced.
    """
    of_loop = OUT_FOLDER / "audition" / name_after(loop.stem, "")
    name = re.sub(r"\W+", "-", style.lower()).strip("-") or "all"
    folder = default_place(of_loop / name)
    number = 1
    while os.path.lexists(folder) and not overwrite:
        number += 1
        folder = of_loop / f"{name}-{number}"
    return folder
