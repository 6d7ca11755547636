"""The command `batch`: many recordings, one plan."""

from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daw_bridge.commands.options import (
    BitDepth,
    Device,
    DrumMap,
    DryRun,
    Json,
    Page,
    Preset,
    Quiet,
    SkipExisting,
    Threads,
    Verbose,
    check_bit_depth,
    check_choice_of_existing,
    option,
    rhythm_names,
    sound_options,
)
from daw_bridge.commands.reporting import print_failure, print_json, print_table, progress, time_of
from daw_bridge.commands.sessions import PROJECTS, redrum_projects
from daw_bridge.devices import set_up_device
from daw_bridge.logs import set_up_logging
from daw_bridge.take_report import form_of
from daw_bridge.work import OUT_FOLDER, default_place
from transform.errors import RedrumError, SettingsError
from transform.terminal import one_line

if TYPE_CHECKING:
    from daw_bridge.batch import BatchSettings, Outcome
    from daw_bridge.plan import Item


@sound_options()
def batch(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="PATH",
            help="Recordings, folders of them, REAPER projects (.rpp), Live sets (.als).",
            show_default=False,
        ),
    ] = None,
    rhythm: Annotated[
        str,
        option(
            "RHYTHM",
            "One for all, as of `render`; a folder with one of each recording's name; or a job sheet, "
            ".csv or .toml, with source and rhythm in each line, and start, length, engine, preset, seed.",
            False,
            complete=rhythm_names,
        ),
    ] = "",
    out: Annotated[Path, option("DIR", "Where the results go; the tree of a folder is kept.")] = OUT_FOLDER,
    name: Annotated[
        str, option("NAME", "Of the results; also {preset}, {seed}, {seed:03}.")
    ] = "{stem}_{rhythm}",
    jobs: Annotated[
        int | None, option("N", "Items at once, a thread each.", "one a core or as --threads, 4 at most")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going/--no-keep-going", help="Go on after an item has failed.")
    ] = True,
    scheduler: Annotated[
        str | None, option("ADDRESS", "Work on the Dask cluster of this scheduler.", False)
    ] = None,
    preset: Preset = "default",
    *,
    given: dict[str, Any],
    device: Device = "auto",
    threads: Threads = None,
    bit_depth: BitDepth = None,
    drum_map: DrumMap = "auto",
    plot: Annotated[bool, typer.Option("--plot", help="Also draw each result, beside it.")] = False,
    page: Page = None,
    tracks: Annotated[
        str, option("GLOB", "Of a project, the tracks whose items (or clips) are redrummed.")
    ] = "*",
    chosen: Annotated[
        str | None,
        typer.Option("--items", metavar="LIST", help="Of a project, items by number or name: 1,kick*."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace also results that no batch made.")
    ] = False,
    skip_existing: SkipExisting = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Let many drum recordings play another rhythm; run it again to go on where it stopped.

    DIR/manifest.jsonl says what each result was made of. A second run leaves alone what would come out the
    same, and makes what is missing or has changed. Of a project SONG.rpp a copy is made beside it,
    SONG-redrum.rpp, with new tracks that hold the takes; its rhythm may be an item, as of `reaper selected`.
    The takes of a Live set SET.als go into a folder beside it, SET-redrum.
    """
    set_up_logging(quiet, verbose)
    check_choice_of_existing(overwrite, skip_existing)
    check_bit_depth(bit_depth)
    projects = [path for path in paths or () if path.suffix.lower() in PROJECTS]
    recordings = [path for path in paths or () if path not in projects]
    if not rhythm and (recordings or not projects):
        raise SettingsError("--rhythm is missing", hint="give a rhythm, a folder of rhythms or a job sheet")
    if page and projects:
        raise SettingsError("--page shows recordings, not projects", hint="leave out --page, or the projects")
    if jobs is not None and jobs < 1:
        raise SettingsError(f"--jobs is {jobs}", hint="give 1 or more")

    is_done = not projects or redrum_projects(
        projects,
        rhythm,
        given,
        preset=preset,
        device=set_up_device(device, threads),
        tracks=tracks,
        items=chosen.split(",") if chosen else (),
        drum_map=drum_map,
        bit_depth=bit_depth,
        overwrite=overwrite,
        skip_existing=skip_existing,
        keep_going=keep_going,
        dry_run=dry_run,
        as_json=as_json,
        quiet=quiet,
    )
    if projects and (not recordings or not (is_done or keep_going)):
        raise typer.Exit(0 if is_done else 1)

    from daw_bridge.batch import BatchSettings, default_jobs, preview, run
    from daw_bridge.plan import SHEET_ENDINGS, PlanSettings, plan

    if not recordings and Path(rhythm).suffix.lower() not in SHEET_ENDINGS:
        raise SettingsError("no recordings are given", hint="give files or folders, or a job sheet as --rhythm")
    common = PlanSettings(
        out=out,
        name=name,
        preset=preset,
        given=given,
        drum_map=drum_map,
        bit_depth=bit_depth,
        plots=plot or page is not None,
    )
    if out == OUT_FOLDER:
        default_place(out / "-")
    items = plan(recordings, rhythm, common)
    if page:
        _check_page(page, recordings, out, items)
    settings = BatchSettings(
        out=out,
        device=set_up_device(device, threads),
        jobs=jobs or default_jobs(threads),
        overwrite=overwrite,
        skip_existing=skip_existing,
        keep_going=keep_going,
        scheduler=scheduler,
    )
    if dry_run:
        outcomes = list(preview(items, settings))
        for n, outcome in enumerate(outcomes, 1):
            _print_outcome(outcome, f"[{n}/{len(items)}]", as_json, quiet, is_dry=True)
        if not (as_json or quiet):
            _print_estimate(outcomes, settings)
    else:
        outcomes = []
        with progress(quiet) as show, closing(run(items, settings, show)) as known:
            for outcome in known:
                outcomes.append(outcome)
                _print_outcome(outcome, f"[{len(outcomes)}/{len(items)}]", as_json, quiet)
        if not (as_json or quiet):
            _print_summary(outcomes, n_left=len(items) - len(outcomes), out=out)
        if page:
            _write_page(page, items, outcomes, quiet=as_json or quiet)
    if not is_done or any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _check_page(page: Path, recordings: list[Path], out: Path, items: "list[Item]") -> None:
    """Raise an error now for a page that could not be written later; an older page is replaced."""
    from daw_bridge.page import check_apart, check_page, check_place

    check_apart(page, (path for item in items for path in (item.output, item.plot)))
    check_page(page, overwrite=True)
    check_place(page, recordings, out)


def _write_page(page: Path, items: "list[Item]", outcomes: "list[Outcome]", *, quiet: bool) -> None:
    """Write a page of what a batch made or found made, in the order of its plan."""
    from daw_bridge.page import PageItem, write_page

    known = {outcome.item.output: outcome for outcome in outcomes}
    shown = []
    for item in items:
        outcome = known.get(item.output)
        report = outcome.report if outcome else {"error": "not begun"}
        output = None if outcome is None or outcome.status == "failed" else item.output
        shown.append(
            PageItem(
                source=item.source,
                rhythm=item.rhythm,
                drum_map=item.drum_map,
                output=output,
                plot=item.plot,
                report=report,
            )
        )
    index = write_page(page, shown, overwrite=True)
    if not quiet:
        typer.echo(f"listen to all in {index}")


def _print_outcome(outcome: "Outcome", place: str, as_json: bool, quiet: bool, *, is_dry: bool = False) -> None:
    item, status, report = outcome
    about: dict[str, Any] = {
        "source": str(item.source),
        "rhythm": str(item.rhythm.path),
        "output": str(item.output),
        "plot": str(item.plot) if item.plot else None,
    }
    if status == "failed":
        err = RedrumError(report["error"], hint=report["hint"])
        print_failure(about, err, as_json)
        return
    if as_json:
        marks = {"dry_run": is_dry, "unchanged": status == "unchanged", "skipped": status == "skipped"}
        print_json(report | about | {name: True for name, holds in marks.items() if holds})
    elif not quiet:
        what = {"unchanged": "unchanged", "skipped": "exists already, skipped"}.get(status)
        if what is None and is_dry:
            what = f"would be {item.source} playing {item.rhythm.name}"
        typer.echo(one_line(f"{place} {item.output}: {what or _made(report)}"))


def _made(report: dict[str, Any]) -> str:
    return f"{report['duration_s']:.2f} s, {form_of(report)}"


def _print_estimate(outcomes: "list[Outcome]", settings: "BatchSettings") -> None:
    from daw_bridge.batch import estimate_s

    recorded_s = sum(report["duration_s"] for _, status, report in outcomes if status == "done")
    took_s, how = estimate_s(recorded_s, settings)
    n = Counter(outcome.status for outcome in outcomes)
    typer.echo(
        f"\n{n['done']} to make, {n['unchanged']} unchanged, {n['skipped']} skipped, {n['failed']} failing"
    )
    if n["done"]:
        typer.echo(f"about {time_of(took_s)} for {time_of(recorded_s)} of recordings, {how}")


def _print_summary(outcomes: "list[Outcome]", *, n_left: int, out: Path) -> None:
    n = Counter(outcome.status for outcome in outcomes)
    typer.echo("")
    rows = [("ITEMS", "STATUS")]
    rows += [(str(n[status]), status) for status in ("done", "unchanged", "skipped", "failed") if n[status]]
    if n_left:
        rows.append((str(n_left), "not begun"))
    print_table(rows)
    if failed := [outcome for outcome in outcomes if outcome.status == "failed"]:
        typer.echo("")
        print_table([("FAILED", "WHY"), *((str(item.source), report["error"]) for item, _, report in failed)])
    typer.echo(f"\nwritten down in {out / 'manifest.jsonl'}")
