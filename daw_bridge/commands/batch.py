"""The command `batch`: many recordings, one plan."""

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from daw_bridge.commands.options import (
    Compute,
    DryRun,
    Existing,
    InProject,
    Page,
    Preset,
    SkipExisting,
    TakeForm,
    WithMidi,
    WithStems,
    option,
    option_groups,
    rhythm_names,
)
from daw_bridge.commands.reporting import Console, print_json, print_table, time_of
from daw_bridge.commands.sessions import PROJECTS, ProjectBatch, TakeRequest
from daw_bridge.commands.sources import with_rhythm
from daw_bridge.render_job import OUT_FOLDER, default_place, outputs_beside
from daw_bridge.take_report import form_of
from transform.errors import RedrumError, SettingsError
from transform.names import existing_path

if TYPE_CHECKING:
    from daw_bridge.batch import BatchSettings, Outcome
    from daw_bridge.batch_item import BatchItem
    from daw_bridge.plan import PlanSettings


@option_groups()
def batch(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="PATH",
            help="Recordings, folders of them, REAPER projects (.rpp), Live sets (.als); and the rhythm.",
            show_default=False,
        ),
    ] = None,
    rhythm: Annotated[
        str,
        option(
            "RHYTHM",
            "One for all, as of `render`; a folder with one of each recording's name; or a job sheet, "
            ".csv or .toml, with source and rhythm in each line, and start, length, engine, preset, seed, "
            "kit_from, group, offset.",
            False,
            complete=rhythm_names,
        ),
    ] = "",
    out: Annotated[
        Path, option("DIR", "Where the results go; the tree of a folder is retained.", True, "-o", "--out")
    ] = OUT_FOLDER,
    name: Annotated[
        str, option("NAME", "Of the results; also {ext}, {parent}, {preset}, {seed}, {seed:03}.")
    ] = "{stem}_{rhythm}",
    jobs: Annotated[
        int | None, option("N", "Items at once, a thread each.", "one a core or as --threads, 4 at most")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going/--no-keep-going", help="Go on after an item has failed.")
    ] = True,
    follow_links: Annotated[bool, typer.Option("--follow-links", help="Also follow links to folders.")] = False,
    scheduler: Annotated[
        str | None, option("ADDRESS", "Work on the Dask cluster of this scheduler.", False)
    ] = None,
    preset: Preset = "default",
    *,
    given: dict[str, Any],
    compute: Compute,
    form: TakeForm,
    stems: WithStems = False,
    midi: WithMidi = False,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw each result, beside it.")] = False,
    page: Page = None,
    tracks: Annotated[
        str | None,
        option(
            "GLOB",
            "Of a project, the tracks whose items (or clips) are redrummed.",
            "those whose name or folder says drums",
        ),
    ] = None,
    chosen: Annotated[
        str | None,
        typer.Option("--items", metavar="LIST", help="Of a project, items by number or name: 1,kick*."),
    ] = None,
    in_project: InProject,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace also results that no batch made.")
    ] = False,
    skip_existing: SkipExisting = False,
    dry_run: DryRun = False,
    console: Console,
) -> None:
    """Let many drum recordings play another rhythm.

    The same command, run again, goes on where it was stopped. DIR/manifest.jsonl says what each result was
    made of. A second run leaves alone what would come out the same, and makes what is missing or has
    changed. Of a project SONG.rpp a copy is made beside it, SONG-redrum.rpp, with new tracks that hold the
    takes; its rhythm may be an item, as of `reaper selected`. The takes of a Live set SET.als go into a
    folder beside it, SET-redrum.
    """
    existing = Existing(overwrite=overwrite, skip_existing=skip_existing)
    words, found = with_rhythm(words or [], rhythm)
    rhythm = found or ""
    paths = [existing_path(Path(word)) for word in words]
    projects = [path for path in paths if path.suffix.lower() in PROJECTS]
    recordings = [path for path in paths if path not in projects]
    if not rhythm and (recordings or not projects):
        raise SettingsError("--rhythm is missing", hint="give a rhythm, a folder of rhythms or a job sheet")
    if page and projects:
        raise SettingsError("--page shows recordings, not projects", hint="leave out --page, or the projects")
    if recordings:
        in_project.check_unused()
    if in_project.together and page:
        raise SettingsError("--page shows one recording a result", hint="leave out --page, or --together")
    if jobs is not None and jobs < 1:
        raise SettingsError(f"--jobs is {jobs}", hint="give 1 or more")

    given |= {"separate_outputs": stems}
    is_done = True
    if projects:
        request = TakeRequest(
            rhythm=rhythm,
            given=given,
            in_project=in_project,
            with_midi=midi,
            preset=preset,
            compute=compute,
            form=form,
            dry_run=dry_run,
            console=console,
        )
        is_done = ProjectBatch(
            paths=projects,
            tracks=tracks,
            items=chosen.split(",") if chosen else (),
            existing=existing,
            keep_going=keep_going,
        ).redrum(request)
        if not recordings or not (is_done or keep_going):
            raise typer.Exit(0 if is_done else 1)

    from daw_bridge.plan import PlanSettings

    plan_settings = PlanSettings(
        out=out,
        name=name,
        preset=preset,
        given=given,
        drum_map=form.drum_notes,
        bit_depth=form.bit_depth,
        plots=plot,
        pictures=page is not None,
        midis=midi,
        together=bool(in_project.together),
        follow_links=follow_links,
    )
    items = _planned(recordings, rhythm, plan_settings, page)
    from daw_bridge.batch import BatchSettings  # torch, and what else takes a second
    from daw_bridge.batch_work import default_jobs

    settings = BatchSettings(
        out=out,
        device=compute.set_up(),
        jobs=jobs or default_jobs(compute.threads),
        overwrite=overwrite,
        skip_existing=skip_existing,
        keep_going=keep_going,
        scheduler=scheduler,
    )
    recording_batch = _RecordingBatch(items, settings, console)
    outcomes = recording_batch.preview() if dry_run else recording_batch.run(page)
    if not is_done or any(outcome.status == "failed" for outcome in outcomes):
        raise typer.Exit(1)


def _planned(
    recordings: list[Path], rhythm: str, settings: "PlanSettings", page: Path | None
) -> "list[BatchItem]":
    """Return the plan of a batch, after checking that its page could be written, or added to."""
    from daw_bridge.job_sheet import SHEET_ENDINGS
    from daw_bridge.page import check_apart, check_place, entries_of
    from daw_bridge.plan import plan

    if not recordings and Path(rhythm).suffix.lower() not in SHEET_ENDINGS:
        raise SettingsError("no recordings are given", hint="give files or folders, or a job sheet as --rhythm")
    if settings.out == OUT_FOLDER:
        default_place(OUT_FOLDER / "-")
    items = plan(recordings, rhythm, settings)
    if page:
        check_apart(page, (path for item in items for path in item.outputs))
        entries_of(page)
        check_place(page, recordings, settings.out)
    return items


@dataclass(frozen=True)
class _RecordingBatch:
    """A planned batch of recordings, and where its outcomes are printed."""

    items: "Sequence[BatchItem]"
    settings: "BatchSettings"
    console: Console

    def preview(self) -> "list[Outcome]":
        """Print what would become of each item and how long that takes, and return it."""
        from daw_bridge.batch import estimate_s, preview

        outcomes: list[Outcome] = []
        for outcome in preview(self.items, self.settings):
            outcomes.append(outcome)
            self._print(outcome, len(outcomes), is_dry=True)
        recorded_s = sum(report["duration_s"] for _, status, report in outcomes if status == "done")
        took_s, how = estimate_s(recorded_s, self.settings)
        n = Counter(outcome.status for outcome in outcomes)
        if self.console.is_plain:
            counts = f"{n['done']} to make, {n['unchanged']} unchanged, {n['skipped']} skipped"
            typer.echo(f"\n{counts}, {n['failed']} failing")
        if n["done"]:
            self.console.echo(f"about {time_of(took_s)} for {time_of(recorded_s)} of recordings, {how}")
        return outcomes

    def run(self, page: Path | None) -> "list[Outcome]":
        """Make the results and their page, print what became of each item, and return it."""
        from daw_bridge.batch import run

        outcomes: list[Outcome] = []
        with self.console.progress() as progress, closing(run(self.items, self.settings, progress)) as results:
            for outcome in results:
                outcomes.append(outcome)
                self._print(outcome, len(outcomes))
        if self.console.is_plain:
            self._print_summary(outcomes)
        if page:
            self._write_page(page, outcomes)
        return outcomes

    def _print(self, outcome: "Outcome", place: int, *, is_dry: bool = False) -> None:
        item, status, report = outcome
        about: dict[str, Any] = {
            "source": str(item.source),
            "rhythm": str(item.rhythm.path),
            "output": str(item.output),
            **outputs_beside(item.plot, item.stems, item.midi),
        }
        if status == "failed":
            err = RedrumError(report["error"], hint=report["hint"])
            self.console.print_failure(about, err, str(item.source.parent if item.together else item.source))
        elif self.console.as_json:
            marks = {"dry_run": is_dry, "unchanged": status == "unchanged", "skipped": status == "skipped"}
            print_json(report | about | {name: True for name, holds in marks.items() if holds})
        else:
            what = {"unchanged": "unchanged", "skipped": "exists already, skipped"}.get(status)
            if what is None and is_dry:
                what = f"would be {item.source} playing {item.rhythm.name}"
            what = what or f"{report['duration_s']:.2f} s, {form_of(report)}"
            self.console.echo(f"[{place}/{len(self.items)}] {item.output}: {what}")
            for mic in item.together[1:]:
                self.console.echo(f"  and {mic.output}")
            if status == "done" and not is_dry:
                self.console.print_take(report | about)

    def _print_summary(self, outcomes: "Sequence[Outcome]") -> None:
        n = Counter[str](outcome.status for outcome in outcomes)
        n["not begun"] = len(self.items) - len(outcomes)
        typer.echo("")
        statuses = ("done", "unchanged", "skipped", "failed", "not begun")
        print_table([("ITEMS", "STATUS"), *((str(n[status]), status) for status in statuses if n[status])])
        if failed := [outcome for outcome in outcomes if outcome.status == "failed"]:
            typer.echo("")
            rows = ((str(item.source), report["error"]) for item, _, report in failed)
            print_table([("FAILED", "WHY"), *rows])
        typer.echo(f"\nwritten down in {self.settings.out / 'manifest.jsonl'}")

    def _write_page(self, page: Path, outcomes: "Sequence[Outcome]") -> None:
        """Add the results that were made or found to the page, in the order of the plan."""
        from daw_bridge.page import PageItem, add_to_page

        by_output = {outcome.item.output: outcome for outcome in outcomes}
        shown = []
        for item in self.items:
            outcome = by_output.get(item.output)
            shown.append(
                PageItem(
                    source=item.source,
                    rhythm=item.rhythm,
                    drum_map=item.drum_map,
                    output=None if outcome is None or outcome.status == "failed" else item.output,
                    plot=item.plot or item.picture,
                    report=(outcome.report if outcome else {"error": "not begun"})
                    | {"output": str(item.output)},
                )
            )
        index = add_to_page(page, shown)
        self.console.echo(f"listen to all: open {index.absolute().as_uri()} in a browser")
