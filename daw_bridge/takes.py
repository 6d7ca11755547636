"""The takes of a job: items as the project plays them, rhythms where the project plays them.

A take begins where its source begins and is, unless requested otherwise, as long. Where the rhythm plays in it
is decided in `rhythm_times`.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from daw_bridge.cutting import cut_at_items
from daw_bridge.finishing import Finisher
from daw_bridge.items import open_item
from daw_bridge.pairs import Pair, pair_items
from daw_bridge.playable import check_microphones, check_playable, title_of, with_original, with_sound
from daw_bridge.rhythm_times import Played, TakeTime, item_rhythm
from daw_bridge.session import MIDI, FinishedTake, Item, Job, Session
from daw_bridge.take_report import Report, report_of
from daw_bridge.track_kit import TrackKit
from transform.audio import Progress, Recording
from transform.drum_maps import ANY_DRUMS, DrumNotes
from transform.engine import Drums, Redrummer
from transform.errors import AudioError, RedrumError, RhythmError, SettingsError
from transform.events import CLASSES, DrumEvent, Rhythm, TempoMap
from transform.midi import drums_of_notes
from transform.settings import RenderSettings
from transform.tempo import estimate_tempo

_ATTACK_S = 0.01  # an item may begin within an attack
_MOST_NAMES = 4  # of items, in a sentence
_SILENT = {
    "muted": "it is muted",
    "silent lane": "its lane does not play",
    "empty": "it holds no sound",
    "combined": "it is a combined region: uncombine or bounce it",
}
_NO_DRUMS = "by its name, or else its folder's, it holds no drums; --tracks chooses others"
_log = logging.getLogger(__name__)

GivenRhythm = Rhythm | Recording


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is requested of every take of a job."""

    settings: RenderSettings
    rhythm: GivenRhythm | None = None  # None: it is in the session, see `pair_items`
    is_on_own_track: bool = False  # the rhythm is a MIDI item on the source's track
    bit_depth: str | None = None  # None: the source's
    drum_map: DrumNotes = ANY_DRUMS
    with_track: bool = False  # the other items of its track are more of a source's kit
    with_midi: bool = False  # takes bring what plays as MIDI, too
    start_bar: int | None = None  # of the project, on which a rhythm's bar 1 is; None: in which a take begins
    per_item: bool = False  # takes of items that follow one another are cut where these begin
    together: bool | None = None  # which items are microphones of one performance, as of `kits`
    lists_left_out: bool = False  # there are reports on the tracks with audio of which nothing is chosen, too

    def __post_init__(self) -> None:
        if self.settings.bpm is not None:
            raise SettingsError(
                "takes play on the beats of their project, so --bpm means nothing",
                hint="leave it out, and change the project's tempo if need be",
            )
        if self.start_bar is not None and self.settings.source_bpm is not None:
            raise SettingsError(
                "--start-bar counts the project's bars, which --source-bpm sets aside", hint="give one of them"
            )


def settings_of(given: Mapping[str, Any]) -> RenderSettings:
    """Return the settings of takes; a take is as long as its source unless its length is given."""
    return RenderSettings(**{"length": "source", **given})


def redrum_session(
    session: Session,
    redrummer: Redrummer,
    order: Order,
    *,
    on_report: Callable[[Report], None] = lambda report: None,
    progress: Progress | None = None,
) -> list[Report]:
    """Redrum what is chosen in a session and write the takes back, all at once; return what became of each.

    Args:
        session: an open or closed project.
        redrummer: what makes the takes.
        order: what is requested of every take.
        on_report: is called with the report of each item, as soon as it is rendered.
        progress: is called with a stage and the fraction of it that is done.

    Returns:
        A report for each source item, with "output", and "stems" and "midi" where they are requested. That of
        an item that failed has "error" and "hint" instead, that of one that was left out has "skipped"; so have
        those of whole tracks, which have no "item".

    Raises:
        DawError: the session cannot be read or written to.
        SettingsError: there is no rhythm for a source.
        OutputError: the takes cannot be written.
    """
    job = session.collect()
    pairs = pairs_of(job, order)
    sources = [pair.source for pair in pairs if not pair.skipped]
    kit = TrackKit(redrummer, job, sources, order.settings)
    renderer = _Renderer(redrummer, job, order, kit, progress)
    reports: list[Report] = []
    takes: list[FinishedTake] = []
    rendered: list[tuple[Report, Sequence[FinishedTake]]] = []
    with TemporaryDirectory(prefix="redrum-") as staging, closing(kit):
        for number, pair in enumerate(pairs):
            report = about(job, pair, order.rhythm)
            folder = Path(staging, str(number))
            folder.mkdir()
            try:
                if why := pair.skipped or _SILENT.get(pair.source.state):
                    report["skipped"] = why
                else:
                    made, details = renderer.take(pair, folder)
                    takes += made
                    rendered.append((report, made))
                    report |= details
            except Exception as err:  # one failing item does not stop the others
                _fail(report, job, pair.source, err)
            for made_report in (report, *renderer.failures_of(pair)):
                reports.append(made_report)
                on_report(made_report)
        if takes:
            media = iter(session.write_back(job, takes))
            for report, parts in rendered:
                report |= _outputs_of(parts, media)
    return [*reports, *left_out(job, order)]


def dry_reports(job: Job, order: Order) -> Iterator[Report]:
    """Yield what `redrum_session` would report of each item, as far as it is known before a note is played.

    Raises:
        SettingsError: there is no rhythm for a source.
    """
    for pair in pairs_of(job, order):
        report = about(job, pair, order.rhythm) | {"dry_run": True}
        failures: dict[str, Report] = {}

        def note(
            part: Item, err: RedrumError, pair: Pair = pair, failures: dict[str, Report] = failures
        ) -> None:
            failed = about(job, replace(pair, source=part), order.rhythm) | {"dry_run": True}
            _fail(failed, job, part, err)
            failures.setdefault(part.id, failed)

        try:
            if why := pair.skipped or _SILENT.get(pair.source.state):
                report["skipped"] = why
            else:
                check_playable(job, pair)
                if pair.source.microphones:
                    check_microphones(order.settings)
                source, left = with_original(pair.source, order.settings)
                for part, err in left:
                    note(part, err)
                with open_item(source, at_own_speed=True, on_failure=note):
                    pass
        except RedrumError as err:
            _fail(report, job, pair.source, err)
        yield report
        yield from failures.values()
    yield from left_out(job, order)


def _fail(report: Report, job: Job, item: Item, err: Exception) -> None:
    """Let the report of an item say why it failed."""
    _log.debug("the cause", exc_info=err)
    report["error"] = f"{title_of(job, item)}: {err or type(err).__name__}"
    report["hint"] = err.hint if isinstance(err, RedrumError) else "-v tells where it failed"


def _outputs_of(takes: Sequence[FinishedTake], media: Iterator[Path]) -> Report:
    """Return what a report says of where a take and its parts lie: files, lists where they are cut."""
    at: dict[str, list[str]] = {}
    for take in takes:
        at.setdefault(take.part, []).append(str(next(media)))
    report: Report = {"output": at[""][0]}
    if len(at[""]) > 1:
        report["outputs"] = at[""]
    if stems := {c: at[c][0] if len(at[c]) == 1 else at[c] for c in CLASSES if c in at}:
        report["stems"] = stems
    return report | ({"midi": at[MIDI][0]} if MIDI in at else {})


def pairs_of(job: Job, order: Order) -> list[Pair]:
    """Return who is source and who is rhythm of an order; see `pair_items`.

    Raises:
        SettingsError: also where the bar of an order lies before the project.
    """
    if order.start_bar is not None and order.start_bar < job.bars.first:
        raise SettingsError(
            f"--start-bar is {order.start_bar}, but the project begins with bar {job.bars.first}",
            hint=f"give {job.bars.first} or more",
        )
    return pair_items(
        job,
        has_rhythm=order.rhythm is not None,
        is_on_own_track=order.is_on_own_track,
        together=order.together,
    )


def left_out(job: Job, order: Order) -> list[Report]:
    """Return the reports on tracks of which nothing is chosen, if they are requested."""
    names = job.left_out if order.lists_left_out else ()
    return [{"project": job.project, "track": name, "skipped": _NO_DRUMS} for name in names]


def about(job: Job, pair: Pair, rhythm: GivenRhythm | None) -> Report:
    """Return the report of an item before it is rendered."""
    source = pair.source
    report: Report = {
        "project": job.project,
        "track": job.track_of(source).name,
        "item": source.name,
        "position_s": round(source.position_s, 6),
        "source": source.file,
        "rhythm": pair.rhythm.name if pair.rhythm else rhythm.name if rhythm else "",
    }
    if len(source.leaves) > 1:
        report["items"] = len(source.leaves)
    if source.microphones:
        report["notes"] = [pair.how]
        report["together"] = [
            {"track": job.track_of(mic).name, "item": mic.name, "source": mic.file}
            for mic in source.microphones
        ]
    return report


@dataclass
class _Renderer:
    """What the takes of a job have in common; a rhythm is transcribed once."""

    redrummer: Redrummer
    job: Job
    order: Order
    kit: TrackKit
    progress: Progress | None
    # By the id of an item, and of how many it consists.
    _events: dict[tuple[str, int], tuple[list[DrumEvent], tuple[str, ...]]] = field(default_factory=dict)
    _given: Rhythm | None = None
    _failures: list[tuple[Item, RedrumError]] = field(default_factory=list)  # parts of the newest take

    def failures_of(self, pair: Pair) -> list[Report]:
        """Return the reports of the items that the source of the newest take could not be made of."""
        reports = []
        for part, err in self._failures:
            report = about(self.job, replace(pair, source=part), self.order.rhythm)
            _fail(report, self.job, part, err)
            reports.append(report)
        self._failures.clear()
        return reports

    def take(self, pair: Pair, folder: Path) -> tuple[list[FinishedTake], Report]:
        """Return the take of a pair and its parts in files of `folder`, and the rest of its report."""
        check_playable(self.job, pair)
        if pair.source.microphones:
            check_microphones(self.order.settings)
        source, self._failures[:] = with_original(pair.source, self.order.settings)
        try:
            return self._made(pair, source, folder)
        except AudioError:
            if not source.parts:
                raise
            # One whose sound breaks off in the middle is found only now: most never do.
            sound, failures = with_sound(source, [part for part, _ in self._failures])
            if not failures:
                raise
        self._failures += failures
        return self._made(pair, sound, folder)

    def _made(self, pair: Pair, source: Item, folder: Path) -> tuple[list[FinishedTake], Report]:
        """Return the take of a pair's source, or of what can be used of it."""
        began_s = time.perf_counter()
        with open_item(source, on_failure=self._note_failure) as recording:
            played = self._played(replace(pair, source=source))
            settings, kit_notes = played.settings, [pair.how] if pair.how else []
            if self.order.with_track:
                settings, lent = self.kit.with_files(source, settings)
                kit_notes += lent
            take = self.redrummer.redrum(
                recording,
                played.rhythm,
                settings,
                complete=partial(self._completed, source, played),
                progress=self.progress,
            )
            finisher = Finisher(
                job=self.job,
                bit_depth=self.order.bit_depth,
                with_stems=settings.separate_outputs,
                with_midi=self.order.with_midi,
                progress=self.progress,
            )
            finished = finisher.finish(source, recording, take, folder)
        made = cut_at_items(finished.takes) if self.order.per_item else finished.takes
        report = report_of(take, played.settings.engine, finished.fmt.subtype)
        report |= {"sample_rate": finished.fmt.sample_rate, "channels": finished.fmt.n_channels}
        if played.how:
            others = (note for note in report["notes"] if not note.startswith("plays "))
            report["notes"] = [played.how, *others]
        report["notes"] += [*finished.notes, *kit_notes, *self._notes_on_parts(source, take.source_events)]
        report["seconds"] = round(time.perf_counter() - began_s, 3)
        return made, report

    def _notes_on_parts(self, source: Item, events: Sequence[DrumEvent]) -> list[str]:
        """Return a sentence on the items of a source in which no hits are detected, if there are such.

        Args:
            source: what a take is of.
            events: what is detected in it, by onset.
        """
        onsets_s = [event.onset_s for event in events]
        failed = [part for part, _ in self._failures]
        silent = []
        for part, start_s in zip(source.parts, source.part_starts_s(), strict=False):
            if part in failed:
                continue
            first = bisect_left(onsets_s, start_s - _ATTACK_S)
            if first == len(onsets_s) or onsets_s[first] > start_s + part.sound_s(part.length_s):
                silent.append(f"{part.name or 'an item'} at {part.position_s:.2f} s")
        if not silent:
            return []
        shown = ", ".join(silent[:_MOST_NAMES]) + ", ..." * (len(silent) > _MOST_NAMES)
        return [f"no hits are detected in {len(silent)} of its {len(source.parts)} items: {shown}"]

    def _completed(self, source: Item, played: Played, drums: Drums) -> Drums:
        """Return the drums of a source with those that others on its track lend it."""
        if isinstance(played.rhythm, Recording) or played.settings.engine != "resequence":
            return drums
        return self.kit.completed(source, played.rhythm, played.settings, drums)

    def _note_failure(self, part: Item, err: AudioError) -> None:
        if part not in [failed for failed, _ in self._failures]:  # a source may be opened again
            self._failures.append((part, err))

    def _played(self, pair: Pair) -> Played:
        source, settings = pair.source, self.order.settings
        if settings.length == "source":
            settings = replace(settings, length=source.length_s)
        elif settings.length_bars is not None and settings.source_bpm is None:
            settings = replace(settings, length=self._bars_s(source, settings.length_bars))
        time = TakeTime(job=self.job, source=source, settings=settings, start_bar=self.order.start_bar)
        if pair.rhythm is None:
            assert self.order.rhythm is not None
            if settings.source_bpm is not None:  # then the user's tempo rules, not the project's
                return Played(self.order.rhythm, settings, "")
            return time.looped(self._given_rhythm(self.order.rhythm))
        item = pair.rhythm
        key = (item.id, len(item.leaves))
        if key not in self._events:
            self._events[key] = self._item_events(item)
        events, notes = self._events[key]
        if source.overlap_s(item):
            return _with_notes(time.in_project_time(item, events), notes)
        return _with_notes(time.looped(*item_rhythm(self.job, item, events)), notes)

    def _bars_s(self, source: Item, n_bars: float) -> float:
        """Return how long bars of the project are from where a source begins."""
        tempo_map = self.job.tempo_map
        begin = tempo_map.beats_at(source.position_s)
        bar, line = self.job.bars.at(begin)
        per_bar = self.job.bars.beat_of(bar + 1) - line
        return tempo_map.seconds_at(begin + n_bars * per_bar) - source.position_s

    def _given_rhythm(self, rhythm: GivenRhythm) -> Rhythm:
        """Return the rhythm that the user named, with the tempo that the user gives."""
        bpm = self.order.settings.rhythm_bpm
        if self._given is not None:
            return self._given
        if isinstance(rhythm, Recording):
            rhythm = self.redrummer.rhythm_of(rhythm, bpm, sensitivity=self.order.settings.sensitivity)
        elif bpm is not None:
            if isinstance(bpm, str):
                estimate = estimate_tempo(rhythm.events, rhythm.length_s)
                if estimate is None:
                    raise RhythmError(f"no tempo can be detected in {rhythm.name}", hint="give --rhythm-bpm N")
                bpm = estimate[0]
            rhythm = replace(rhythm, tempo_map=TempoMap.constant(bpm))
        self._given = rhythm
        return rhythm

    def _item_events(self, item: Item) -> tuple[list[DrumEvent], tuple[str, ...]]:
        """Return what a rhythm item plays, in project time, sorted, and how its notes were read."""
        name = item.name or "the rhythm"
        how: list[str] = []
        if item.kind == "midi":
            notes = ((note.onset_s, note.channel, note.number, note.velocity) for note in item.notes)
            events, how = drums_of_notes(notes, name=name, drum_map=self.order.drum_map)
        else:
            with open_item(item, at_own_speed=True) as recording:
                played = self.redrummer.transcribe(recording, sensitivity=self.order.settings.sensitivity)
            events = tuple(
                replace(event, onset_s=item.position_s + item.played_s(event.onset_s)) for event in played
            )
        inside = [event for event in events if event.onset_s < item.end_s]
        if not inside:
            raise RhythmError(f"no drum hits are detected in {name}", hint="choose another rhythm")
        return sorted(inside, key=lambda event: event.onset_s), tuple(how)


def _with_notes(played: Played, notes: tuple[str, ...]) -> Played:
    """Return what is played, with how its notes were read."""
    assert isinstance(played.rhythm, Rhythm)
    return replace(played, rhythm=replace(played.rhythm, notes=notes))
