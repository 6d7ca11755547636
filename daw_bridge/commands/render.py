"""The commands that let recordings play another rhythm: `demo` and `render`."""

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple

import typer

import transform
from daw_bridge.commands.mics import MicsRequest, Together, mics_of
from daw_bridge.commands.options import (
    Compute,
    DryRun,
    Existing,
    Midi,
    Page,
    Plot,
    Preset,
    Stems,
    TakeForm,
    option,
    option_groups,
    rhythm_names,
)
from daw_bridge.commands.reporting import Console
from daw_bridge.commands.sources import with_rhythm
from daw_bridge.commands.streams import STREAM, check_streams, input_path, is_stream, output_path
from daw_bridge.render_job import OUT_FOLDER, RenderJob, check_preset, default_place, open_rhythm, result_place
from daw_bridge.take_report import Report
from transform.errors import AudioError, SettingsError
from transform.names import existing_path, name_after
from transform.options import options_of

# A rhythm of another style for each demo recording. Not rock-drive-135 for the rock loop: both are cut from one
# performance, so that nothing would change.
DEMO_RHYTHMS = {
    "acoustic-rock-135bpm": "hip-hop-bounce-140",
    "electronic-breakbeat-124bpm": "disco-open-hats-118",
    "electronic-half-time-140bpm": "uk-garage-two-step-132",
}

_NAME_ONE = "add --rhythm NAME: `redrum rhythms list` shows the names; a MIDI file or a recording will do, too"


@option_groups()
def demo(
    loop: Annotated[
        str, typer.Argument(help="One demo loop; all of them without it.", show_default=False)
    ] = "",
    *,
    compute: Compute,
    console: Console,
) -> None:
    """Redrum shipped loops, and make a page to listen to them.

    It lies in redrummed/demo. A second run replaces the files of the first.
    """
    from daw_bridge.page import PageItem, check_page, write_page
    from transform.library import demo_recordings, find_rhythm, resolve_rhythm
    from transform.midi import read_midi

    loops = demo_recordings()
    chosen = [shipped for shipped in loops if loop in ("", shipped.name)]
    if not chosen:
        names = ", ".join(shipped.name for shipped in loops)
        raise SettingsError(f"there is no demo loop called {loop!r}", hint=f"the demo loops are {names}")
    settings = transform.RenderSettings(align="beats", length="source", tail="wrap")
    folder = default_place(OUT_FOLDER / "demo")
    page = folder / "listen"
    check_page(page, overwrite=True)
    redrummer, items = compute.load(), []
    for shipped in chosen:
        rhythm_name = DEMO_RHYTHMS[shipped.name]
        output = folder / f"{shipped.name}_{rhythm_name}.wav"
        with transform.Recording.open(shipped.path) as source, console.progress() as progress:
            job = RenderJob(
                source=source,
                rhythm=read_midi(find_rhythm(rhythm_name).path),
                output=output,
                plot=output.with_suffix(".png"),
                overwrite=True,
            )
            report = job.run(redrummer, settings, progress)
        console.print_report({"source": str(shipped.path), "rhythm": rhythm_name} | report)
        rhythm = resolve_rhythm(rhythm_name)
        items.append(PageItem(source=shipped.path, rhythm=rhythm, output=output, plot=job.plot, report=report))
    index = write_page(page, items, overwrite=True)
    console.echo(f"Listen: open {index.absolute().as_uri()} in a browser")


@option_groups()
def render(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="The drum recording, - for standard input; with --together several, or a folder of them. "
            "The rhythm may follow it.",
        ),
    ],
    rhythm: Annotated[
        str | None,
        option(
            "RHYTHM",
            "What to play: a MIDI file, a recording or a name of `rhythms list`.",
            False,
            complete=rhythm_names,
        ),
    ] = None,
    edits: Annotated[
        Path | None,
        option("FILE", "Instead of a rhythm: a session of the editor, and what was edited in it.", False),
    ] = None,
    out: Annotated[
        str | None,
        option(
            "OUT.wav|DIR/",
            "The result, WAV, FLAC, AIFF, CAF, W64, or its folder; - for standard output.",
            "redrummed/SOURCE_RHYTHM.wav",
            "-o",
            "--out",
            "--output",
        ),
    ] = None,
    preset: Preset = "default",
    *,
    given: dict[str, Any],
    compute: Compute,
    form: TakeForm,
    mics: Together,
    stems: Stems = None,
    midi: Midi = None,
    plot: Plot = None,
    page: Page = None,
    existing: Existing,
    dry_run: DryRun = False,
    console: Console,
) -> None:
    """Let a drum recording play another rhythm.

    Or its own as it was edited. Microphones of one performance play it together: one decision, and a result for
    each in its own form.
    """
    if edits is None:
        sources, rhythm = with_rhythm(sources, rhythm or None)
    mics.check(sources, rhythm)
    if mics.together:
        _check_together(rhythm, out, {"--edits": edits, "--page": page})
        MicsRequest(
            sources=mics_of(sources),
            rhythm=rhythm or "",
            options=mics,
            out=out,
            settings=transform.RenderSettings(**given, separate_outputs=stems is not None),
            preset=preset,
            form=form,
            plot=plot,
            midi=midi,
            existing=existing,
        ).render(compute, console, dry_run=dry_run)
        return
    source = sources[0]
    if source != STREAM and existing_path(Path(source)).is_dir():
        raise AudioError(
            f"{source} is a folder",
            hint="`redrum batch` redrums each recording in it; with --together they are microphones of one kit",
        )
    if edits is not None:
        _check_alone_with_edits(rhythm, given, {"--stems": stems, "--plot": plot, "--page": page}, form)
        edited = _Place(existing_path(Path(source)), out, midi, form.bit_depth)
        _render_edits(edited, edits, preset, (compute, existing, console), dry_run=dry_run)
        return
    if rhythm is None:
        raise SettingsError("there is nothing to play", hint=f"{_NAME_ONE}; or give --edits FILE")
    from transform.kit_names import check_kit_sources, files_of
    from transform.library import resolve_rhythm
    from transform.take_files import stem_paths
    from transform.tempo import check_tempi

    settings = transform.RenderSettings(**given, separate_outputs=stems is not None)
    check_streams([source, rhythm], out, as_json=console.as_json)
    with ExitStack() as files:
        if is_stream(out):
            out, console = files.enter_context(output_path(".wav", console))
        place = input_path(source, files)
        recording = files.enter_context(transform.Recording.open(place))
        check_kit_sources(settings.kit_from)
        found = resolve_rhythm(str(input_path(rhythm, files)) if rhythm == STREAM else rhythm)
        kit_files = [file for path in settings.kit_from for file in files_of(path)]
        output = result_place(out, name_after(recording.name, f"_{found.name}.wav"))
        job = RenderJob(
            source=recording,
            rhythm=open_rhythm(found, form.drum_notes, files),
            output=output,
            inputs=(place, found.path, *kit_files),
            plot=plot,
            stems=stem_paths(stems, output.stem) if stems else {},
            midi=midi,
            overwrite=existing.overwrite,
            bit_depth=form.bit_depth,
        )
        report: Report = {"source": source, "rhythm": rhythm, "output": str(job.output)}
        if existing.skip_existing and job.output.exists():
            console.print_report(report | {"skipped": True})
            return
        check_preset(preset, settings.engine)
        check_tempi(recording, job.rhythm, settings)
        job.check()
        if page:
            from daw_bridge.page import PageItem, add_to_page, check_apart, entries_of

            check_apart(page, [job.output, job.plot, job.midi, *job.stems.values()])
            entries_of(page)
        if dry_run:
            console.print_report(report | {"engine": settings.engine, "dry_run": True})
            return
        if page and plot is None:  # a picture that lies in the page's folder alone
            drawn = Path(files.enter_context(TemporaryDirectory())) / "picture.png"
            job = replace(job, plot=drawn)
        with console.progress() as progress:
            report |= job.run(compute.load(preset), settings, progress)
        if page:
            report["plot"] = str(plot) if plot else None
            item = PageItem(
                source=place,
                rhythm=found,
                drum_map=form.drum_notes,
                output=job.output,
                plot=job.plot,
                report=report,
            )
            report["page"] = str(add_to_page(page, [item]))
    console.print_report(report)


class _Place(NamedTuple):
    """What is edited, and where the result goes."""

    source: Path
    out: str | None
    midi: Path | None
    bit_depth: str | None


def _check_together(rhythm: str | None, out: str | None, beside: Mapping[str, Path | None]) -> None:
    """Raise SettingsError for what several microphones cannot be given."""
    if named := [name for name, path in beside.items() if path is not None]:
        raise SettingsError(
            f"{named[0]} is for one recording, not for microphones together",
            hint="leave it out; --out DIR says where the results go",
        )
    from transform.audio_format import CONTAINERS

    if out is not None and (is_stream(out) or Path(out).suffix.lower() in CONTAINERS):
        raise SettingsError(
            f"{out} is one file, and each microphone has a result of its own", hint="name a folder: --out DIR"
        )
    if rhythm is None:
        raise SettingsError("there is nothing to play", hint=_NAME_ONE)


def _check_alone_with_edits(
    rhythm: str | None, given: Mapping[str, Any], beside: Mapping[str, Path | None], form: TakeForm
) -> None:
    """Raise SettingsError for what cannot be given beside a session, which has its own strokes and settings."""
    options = options_of(transform.RenderSettings)
    named = ["--rhythm"] if rhythm is not None else []
    named += [f"--{options[name].name}" for name in given]
    named += [name for name, path in beside.items() if path is not None]
    midi = {"--drum-map": form.drum_map != "auto", "--channel": form.channel, "--transpose": form.transpose}
    named += [name for name, is_given in midi.items() if is_given]
    if named:
        raise SettingsError(
            f"{named[0]} is given beside --edits, whose session says what plays, and how",
            hint=f"leave out {' and '.join(named)}",
        )


def _render_edits(
    place: _Place, edits: Path, preset: str, how: tuple[Compute, Existing, Console], *, dry_run: bool
) -> None:
    """Write a recording as it was edited in a session."""
    from daw_bridge.edit_job import EditJob
    from transform.session_file import read_session

    compute, existing, console = how
    with transform.Recording.open(place.source) as recording:
        session = read_session(edits)
        job = EditJob(
            source=recording,
            session=session,
            output=result_place(place.out, name_after(recording.name, f"_{edits.stem}.wav")),
            inputs=(place.source, edits),
            midi=place.midi,
            overwrite=existing.overwrite,
            bit_depth=place.bit_depth,
        )
        report: Report = {"source": str(place.source), "rhythm": str(edits), "output": str(job.output)}
        if existing.skip_existing and job.output.exists():
            console.print_report(report | {"skipped": True})
            return
        check_preset(preset, session.settings.engine)
        job.check()
        if dry_run:
            console.print_report(report | {"engine": session.settings.engine, "dry_run": True})
            return
        with console.progress() as progress:
            report |= job.run(compute.load(preset), progress)
    console.print_report(report)
