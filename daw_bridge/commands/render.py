"""The commands that let recordings play another rhythm: `demo` and `render`."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from daw_bridge.commands.options import (
    BitDepth,
    Device,
    DrumMap,
    DryRun,
    Json,
    Overwrite,
    Page,
    Plot,
    Preset,
    Quiet,
    SkipExisting,
    Threads,
    Verbose,
    check_choice_of_existing,
    option,
    rhythm_names,
    sound_options,
)
from daw_bridge.commands.reporting import print_report, progress
from daw_bridge.devices import set_up_device
from daw_bridge.logs import set_up_logging
from daw_bridge.work import OUT_FOLDER, Work, check_preset, default_place, open_work
from transform.errors import SettingsError

# A rhythm of another style for each demo recording. Not rock-drive-135 for the rock loop: both are cut from one
# performance, so that nothing would change.
DEMO_RHYTHMS = {
    "acoustic-rock-135bpm": "hip-hop-bounce-140",
    "electronic-breakbeat-124bpm": "disco-open-hats-118",
    "electronic-half-time-140bpm": "uk-garage-two-step-132",
}


def demo(
    loop: Annotated[
        str, typer.Argument(help="One demo loop; all of them without it.", show_default=False)
    ] = "",
    device: Device = "auto",
    threads: Threads = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Redrum the shipped loops into redrummed/demo, with a picture of each.

    A second run replaces the files of the first.
    """
    from transform.audio import Recording
    from transform.engine import Redrummer
    from transform.library import demo_recordings, find_rhythm
    from transform.midi import read_midi
    from transform.settings import RenderSettings

    set_up_logging(quiet, verbose)
    loops = demo_recordings()
    chosen = [shipped for shipped in loops if loop in ("", shipped.name)]
    if not chosen:
        names = ", ".join(shipped.name for shipped in loops)
        raise SettingsError(f"there is no demo loop called {loop!r}", hint=f"the demo loops are {names}")
    settings = RenderSettings(align="beats", length="source", tail="wrap")
    redrummer = Redrummer.load(device=set_up_device(device, threads))
    for shipped in chosen:
        rhythm_name = DEMO_RHYTHMS[shipped.name]
        output = default_place(OUT_FOLDER / "demo" / f"{shipped.name}_{rhythm_name}.wav")
        with Recording.open(shipped.path) as source, progress(quiet) as show:
            work = Work(
                source=source,
                rhythm=read_midi(find_rhythm(rhythm_name).path),
                output=output,
                plot=output.with_suffix(".png"),
                overwrite=True,
            )
            report = work.done(redrummer, settings, show)
        print_report({"source": str(shipped.path), "rhythm": rhythm_name} | report, as_json, quiet)
    if not (as_json or quiet):
        typer.echo(f"Listen to them in {(OUT_FOLDER / 'demo').absolute()}")


@sound_options()
def render(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The drum recording.")],
    rhythm: Annotated[
        str,
        option(
            "RHYTHM",
            "What to play: a MIDI file, a recording or a name of `rhythms list`.",
            False,
            complete=rhythm_names,
        ),
    ],
    output: Annotated[
        Path | None,
        option(
            "OUT.wav", "The result: WAV, FLAC, AIFF, CAF, W64.", "redrummed/SOURCE_RHYTHM.wav", "-o", "--output"
        ),
    ] = None,
    preset: Preset = "default",
    *,
    given: dict[str, Any],
    device: Device = "auto",
    threads: Threads = None,
    bit_depth: BitDepth = None,
    drum_map: DrumMap = "auto",
    plot: Plot = None,
    page: Page = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Let a drum recording play another rhythm."""
    set_up_logging(quiet, verbose)
    check_choice_of_existing(overwrite, skip_existing)
    with ExitStack() as files:
        work = open_work(files, Path(source), rhythm, drum_map, output)
        if page and plot is None:
            plot = work.output.with_suffix(".png")
        work = replace(work, plot=plot, overwrite=overwrite, bit_depth=bit_depth)
        report: dict[str, object] = {"source": source, "rhythm": rhythm, "output": str(work.output)}
        if skip_existing and work.output.exists():
            print_report(report | {"skipped": True}, as_json, quiet)
            return
        work.check()

        from transform.engine import Redrummer
        from transform.settings import RenderSettings

        settings = RenderSettings(**given)
        if page:
            from daw_bridge.page import check_apart, check_page

            check_apart(page, [work.output, work.plot])
            check_page(page, overwrite=overwrite)
        if dry_run:
            check_preset(preset, settings.engine)
            print_report(report | {"engine": settings.engine, "dry_run": True}, as_json, quiet)
            return
        redrummer = Redrummer.load(preset, device=set_up_device(device, threads))
        with progress(quiet) as show:
            report |= work.done(redrummer, settings, show)
        if page:
            report["page"] = str(_page_of(page, work, rhythm, drum_map, report))
    print_report(report, as_json, quiet)


def _page_of(folder: Path, work: Work, rhythm: str, drum_map: str, report: dict[str, object]) -> Path:
    """Write the page of a result, and return its first file."""
    from daw_bridge.page import PageItem, write_page
    from transform.library import resolve_rhythm

    item = PageItem(
        source=work.inputs[0],
        rhythm=resolve_rhythm(rhythm),
        drum_map=drum_map,
        output=work.output,
        plot=work.plot,
        report=report,
    )
    return write_page(folder, [item], overwrite=work.overwrite)
