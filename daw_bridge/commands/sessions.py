"""What the commands that work in a DAW's project have in common: the takes requested, and their reports."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import transform
from daw_bridge.commands.options import Compute, Existing, InProject, TakeForm
from daw_bridge.commands.reporting import Console, print_error, print_json, progress
from daw_bridge.render_job import open_rhythm
from daw_bridge.take_report import Report, form_of, more_items
from transform.errors import RedrumError, SettingsError
from transform.settings import RenderSettings

if TYPE_CHECKING:
    from daw_bridge.session import Session
    from daw_bridge.takes import Order

LIVE_SETS = (".als", ".alc")  # sets, and clips that Live has saved alone
PROJECTS = (".rpp", ".rpp-bak", *LIVE_SETS)  # endings of closed projects


class Done(NamedTuple):
    """What became of a session: whether no item failed, and how many takes there are."""

    is_whole: bool
    n_takes: int


@dataclass(frozen=True, kw_only=True)
class TakeRequest:
    """The takes that the user of a command requests of a session, or of several."""

    rhythm: str  # as of `render`; "": it is an item of each project
    given: Mapping[str, Any]  # settings that are not the defaults; a take is as long as its source by default
    preset: str
    compute: Compute
    form: TakeForm
    dry_run: bool  # only print what would be done
    console: Console
    in_project: InProject
    with_midi: bool = False
    is_of_many: bool = False  # projects: errors say which

    def __post_init__(self) -> None:
        from transform.kit_names import check_kit_sources

        # What is wrong with them is said before a DAW is asked for anything.
        settings = RenderSettings(**self.given)
        check_kit_sources(settings.kit_from)
        if self.in_project.kit_from_track:
            replace(settings, kit_from=("the track",))

    @contextmanager
    def order(self) -> Iterator["Order"]:
        """Yield the order of the takes, its rhythm opened."""
        from daw_bridge.takes import Order, settings_of
        from transform.library import resolve_rhythm

        with ExitStack() as files:
            yield Order(
                settings=settings_of(self.given),
                rhythm=open_rhythm(resolve_rhythm(self.rhythm), self.form.drum_notes, files)
                if self.rhythm
                else None,
                bit_depth=self.form.bit_depth,
                drum_map=self.form.drum_notes,
                with_track=self.in_project.kit_from_track,
                start_bar=self.in_project.start_bar,
                per_item=self.in_project.per_item,
                together=self.in_project.together,
                with_midi=self.with_midi,
            )

    def redrum(
        self, session: "Session", order: "Order", load: "Callable[[str], transform.Redrummer] | None" = None
    ) -> "Done":
        """Redrum the chosen items of a session, print what became of each, and return what is done.

        Args:
            session: an open or closed project.
            order: what is requested of every take.
            load: returns the models of a preset, if they are needed; None: loads them for this session.
        """
        from daw_bridge.takes import dry_reports, redrum_session

        if self.dry_run:
            is_fine = True
            for report in dry_reports(session.collect(), order):
                self._print_error(report)
                self._print(report)
                is_fine = is_fine and "error" not in report
            return Done(is_whole=is_fine, n_takes=0)
        with progress(not self.console.is_plain) as bars:
            redrummer = (load or self.compute.load)(self.preset)
            reports = redrum_session(session, redrummer, order, on_report=self._print_error, progress=bars)
        for report in reports:
            self._print(report)
        n_takes = sum("output" in report for report in reports)
        return Done(not any("error" in report for report in reports), n_takes)

    def redrum_selected(self, session: "Session") -> bool:
        """Redrum what is selected in a running DAW, and return whether no item failed."""
        with self.order() as order:
            return self.redrum(session, order).is_whole

    def _print_error(self, report: Report) -> None:
        if "error" in report:
            place = f"{report['project']}: " if self.is_of_many else ""
            print_error(f"{place}{report['error']}", report["hint"])

    def _print(self, report: Report) -> None:
        """Print what became of an item; why one failed has been printed by then."""
        if self.console.as_json:
            print_json(report)
            return
        if "error" in report:
            return
        if "item" not in report:
            self.console.echo(f"{report['track']}: left out, {report['skipped']}")
            return
        n_items = len(report.get("together", ())) or report.get("items", 1)
        name = f"{report['item'] or 'an item'}{more_items(n_items)}"
        what = f"{name} at {report['position_s']:.2f} s on {report['track'] or 'a track'}"
        if "skipped" in report:
            self.console.echo(f"{what}: skipped, {report['skipped']}")
        elif "dry_run" in report:
            self.console.echo(f"{what}: would play {report['rhythm']}")
            self._print_microphones(report)
            for note in report.get("notes", ()):
                self.console.echo(f"  {note}")
        else:
            file = f"{report['output']}{more_items(len(report.get('outputs', ())))}"
            self.console.echo(f"{file}: {report['duration_s']:.2f} s, {form_of(report)}")
            self.console.echo(f"  {what}, playing {report['rhythm']}")
            self._print_microphones(report)
            self.console.print_take(report)

    def _print_microphones(self, report: Report) -> None:
        for mic in report.get("together", ())[1:]:
            self.console.echo(f"  with {mic['item'] or 'an item'} on {mic['track'] or 'a track'}")


@dataclass(frozen=True, kw_only=True)
class ProjectBatch:
    """Closed projects, and which of their items are redrummed.

    Of a REAPER project a copy with the takes is made, of a set of Ableton Live a folder with them.
    """

    paths: Sequence[Path]
    tracks: str | None  # pattern of the names of the tracks whose items are redrummed; None: as of `Choice`
    items: Sequence[str]  # which of these items, by number or name; none: all
    existing: Existing  # copies, and takes in folders
    keep_going: bool  # after a project has failed

    def redrum(self, request: TakeRequest) -> bool:
        """Redrum each project, and return whether none failed."""
        has_parts = request.with_midi or request.given.get("separate_outputs")
        if has_parts and any(path.suffix.lower() in LIVE_SETS for path in self.paths):
            raise SettingsError(
                "takes of a Live set have neither stems nor MIDI",
                hint="leave out --stems and --midi, or redrum the set's recordings themselves",
            )
        load = cache(request.compute.load)
        request = replace(request, is_of_many=len(self.paths) > 1)
        is_done = True
        with request.order() as order:
            for path in self.paths:
                is_done = self._redrum_one(path, request, order, load) and is_done
                if not (is_done or self.keep_going):
                    break
        return is_done

    def _redrum_one(
        self, path: Path, request: TakeRequest, order: "Order", load: "Callable[[str], transform.Redrummer]"
    ) -> bool:
        from daw_bridge.choice import Choice
        from daw_bridge.live import als
        from daw_bridge.reaper import rpp

        is_set = path.suffix.lower() in LIVE_SETS
        output = als.result_folder(path) if is_set else rpp.result_path(path)
        about = {"project": str(path), "output": str(output)}
        if self.existing.skip_existing and output.exists():
            return request.console.is_reported(about | {"skipped": True}, "")
        open_project: Callable[..., Session] = als.open_set if is_set else rpp.open_project
        try:
            choice = Choice(self.tracks, self.items, together=order.together is True)
            session = open_project(path, choice=choice, overwrite=self.existing.overwrite)
            done = request.redrum(session, replace(order, lists_left_out=choice.is_by_name), load)
        except RedrumError as err:
            request.console.print_failure(about, err, str(path) if request.is_of_many else "")
            return False
        if done.n_takes:
            request.console.echo(f"the takes are in {output}")
        elif done.is_whole and not request.dry_run:
            request.console.echo(f"{path}: no item of it plays, so that nothing is made")
        return done.is_whole
