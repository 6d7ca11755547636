"""The takes of a job: items as the project plays them, rhythms where the project plays them.

A take begins where its source begins and is, unless requested otherwise, as long. A rhythm that is an item and
overlaps its source keeps its project time: every event is where the project plays it, and where the item is
silent, so is the take. Any other rhythm begins with the take and loops: on the project's beats where its own
tempo is known, else in seconds.
"""

from __future__ import annotations

import logging
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from daw_bridge.items import GLUE, open_item
from daw_bridge.session import MIDI, FinishedTake, Item, Job, Note, Pair, Session, file_name, pair_items
from daw_bridge.take_report import Report, report_of
from transform.audio import Progress, Recording, resolve_output
from transform.engine import Redrummer
from transform.errors import AudioError, RedrumError, RhythmError, SettingsError
from transform.events import (
    BOUNDARY_S,
    CLASS_NAMES,
    CLASSES,
    DrumEvent,
    Rhythm,
    TempoMap,
    align,
    estimate_tempo,
)
from transform.kit_sources import open_origins
from transform.midi import DRUM_CHANNEL, GM_NOTES, drums_of_notes, write_midi
from transform.settings import RenderSettings
from transform.take import Take
from transform.take_files import TakeFiles, stem_paths, write_take

_LONGEST_SHOWN = 300  # characters of a path
_SILENT = {"muted": "it is muted", "empty": "it holds no sound"}
_NO_DRUMS = "neither its name nor its folder's says drums; --tracks chooses others"
_log = logging.getLogger(__name__)

GivenRhythm = Rhythm | Recording


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is requested of every take of a job."""

    settings: RenderSettings
    rhythm: GivenRhythm | None = None  # None: it is in the session, see `pair_items`
    is_on_own_track: bool = False  # the rhythm is a MIDI item on the source's track
    bit_depth: str | None = None  # None: the source's
    drum_map: str = "auto"
    with_track: bool = False  # the other items of its track are more of a source's kit
    with_midi: bool = False  # takes bring what plays as MIDI, too
    lists_left_out: bool = False  # there are reports on the tracks with audio of which nothing is chosen, too


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
    renderer = _Renderer(redrummer, job, order, progress)
    reports: list[Report] = []
    takes: list[FinishedTake] = []
    rendered: list[tuple[Report, Sequence[FinishedTake]]] = []
    with TemporaryDirectory(prefix="redrum-") as staging:
        for number, pair in enumerate(pairs_of(job, order)):
            report = about(job, pair, order.rhythm)
            folder = Path(staging, str(number))
            folder.mkdir()
            try:
                if why := _SILENT.get(pair.source.state):
                    report["skipped"] = why
                else:
                    made, details = renderer.take(pair, folder)
                    takes += made
                    rendered.append((report, made))
                    report |= details
            except Exception as err:  # one failing item does not stop the others
                _log.debug("the cause", exc_info=err)
                report["error"] = f"{_title(job, pair.source)}: {err or type(err).__name__}"
                report["hint"] = err.hint if isinstance(err, RedrumError) else "-v tells where it failed"
            reports.append(report)
            on_report(report)
        if takes:
            media = iter(session.write_back(job, takes))
            for report, parts in rendered:
                report |= _outputs_of(parts, media)
    return [*reports, *left_out(job, order)]


def _outputs_of(takes: Sequence[FinishedTake], media: Iterator[Path]) -> Report:
    """Return what a report says of where a take and its parts lie."""
    at = {take.part: str(next(media)) for take in takes}
    stems = {drum_class: at[drum_class] for drum_class in CLASSES if drum_class in at}
    return {"output": at[""]} | ({"stems": stems} if stems else {}) | ({"midi": at[MIDI]} if MIDI in at else {})


def pairs_of(job: Job, order: Order) -> list[Pair]:
    """Return who is source and who is rhythm of an order; see `pair_items`."""
    return pair_items(job, has_rhythm=order.rhythm is not None, is_on_own_track=order.is_on_own_track)


def left_out(job: Job, order: Order) -> list[Report]:
    """Return the reports on tracks of which nothing is chosen, if they are requested."""
    names = job.left_out if order.lists_left_out else ()
    return [{"project": job.project, "track": name, "skipped": _NO_DRUMS} for name in names]


def about(job: Job, pair: Pair, rhythm: GivenRhythm | None) -> Report:
    """Return the report of an item before it is rendered."""
    source = pair.source
    return {
        "project": job.project,
        "track": job.track_of(source).name,
        "item": source.name,
        "position_s": round(source.position_s, 6),
        "source": source.file,
        "rhythm": pair.rhythm.name if pair.rhythm else rhythm.name if rhythm else "",
    }


def _title(job: Job, item: Item) -> str:
    track = job.track_of(item).name or f"track {item.track + 1}"
    return f"{item.name or 'an item'} at {item.position_s:.2f} s on {track}"


@dataclass(frozen=True)
class _Played:
    """A rhythm on the time of its take, the settings that render it, and a sentence on how it lies there."""

    rhythm: GivenRhythm
    settings: RenderSettings
    how: str  # "": the notes of the take have it


@dataclass
class _Renderer:
    """What the takes of a job have in common; a rhythm is transcribed once."""

    redrummer: Redrummer
    job: Job
    order: Order
    progress: Progress | None
    _events: dict[str, list[DrumEvent]] = field(default_factory=dict)  # by item
    _no_kit: dict[str, str] = field(default_factory=dict)  # why a file has no hits to lend, by file
    _given: Rhythm | None = None

    def take(self, pair: Pair, folder: Path) -> tuple[list[FinishedTake], Report]:
        """Return the take of a pair and its parts in files of `folder`, and the rest of its report."""
        began_s = time.perf_counter()
        source = pair.source
        _check_playable(self.job, pair)
        with open_item(source) as recording:
            played = self._played(pair)
            _check_original(source, played.settings)
            settings, kit_notes = self._with_kit(source, played.settings)
            take = self.redrummer.redrum(recording, played.rhythm, settings, progress=self.progress)
            name = f"{_plain_name(source) or recording.name}-redrum"
            files = TakeFiles(
                take=folder / f"{file_name(name)}.wav",
                stems=stem_paths(folder, file_name(name)) if played.settings.separate_outputs else {},
            )
            notes = write_take(take, files, bit_depth=self.order.bit_depth, progress=self.progress)
            _, subtype = resolve_output(files.take, take.format, self.order.bit_depth)
            made = list(self._finished(source, take, files, name))
        report = report_of(take, played.settings.engine, subtype)
        if played.how:
            others = (note for note in report["notes"] if not note.startswith("aligned "))
            report["notes"] = [played.how, *others]
        report["notes"] += [*notes, *kit_notes]
        report["seconds"] = round(time.perf_counter() - began_s, 3)
        return made, report

    def _finished(self, source: Item, take: Take, files: TakeFiles, name: str) -> Iterator[FinishedTake]:
        """Yield a take that is written, and its parts; its MIDI is written here, at the project's tempo."""
        whole = FinishedTake(
            source=source,
            file=files.take,
            name=name,
            length_s=take.duration_s,
            n_channels=take.format.n_channels,
        )
        yield whole
        for drum_class, path in files.stems.items():
            yield replace(whole, file=path, name=f"{name} {CLASS_NAMES[drum_class]}", part=drum_class)
        if not self.order.with_midi:
            return
        begin = self.job.tempo_map.beats_at(source.position_s)
        played = replace(take.played_rhythm(), tempo_map=_map_from(self.job.tempo_map, begin))
        midi = files.take.with_suffix(".mid")
        midi.write_bytes(write_midi(played))
        notes = tuple(_project_notes(self.job, source, played))
        yield replace(whole, file=midi, name=f"{name} {MIDI}", part=MIDI, notes=notes)

    def _with_kit(self, source: Item, settings: RenderSettings) -> tuple[RenderSettings, list[str]]:
        """Return settings by which the files of the other items on a source's track play, too, if requested.

        A file without hits plays no part; there is a sentence on each.
        """
        if not self.order.with_track:
            return settings, []
        others = dict.fromkeys(
            item.file
            for item in self.job.items
            if item is not source and (item.track, item.kind, item.state) == (source.track, "audio", "ok")
        )
        added = [file for file in others if file not in settings.kit_from]
        whys = {file: why for file in added if (why := self._why_no_kit(file))}
        notes = [f"{Path(file).name} lends no hits: {why}" for file, why in whys.items()]
        lending = (file for file in added if file not in whys)
        return replace(settings, kit_from=(*settings.kit_from, *lending)), notes

    def _why_no_kit(self, file: str) -> str:
        """Return why a file has no hits to lend, "" where it has some."""
        if file not in self._no_kit:
            listen = partial(self.redrummer.listen, sensitivity=self.order.settings.sensitivity)
            try:
                list(open_origins([file], listen))
                self._no_kit[file] = ""
            except AudioError as err:
                self._no_kit[file] = err.message.removesuffix(", which --kit-from names")
        return self._no_kit[file]

    def _played(self, pair: Pair) -> _Played:
        source, settings = pair.source, self.order.settings
        if settings.length == "source":
            settings = replace(settings, length=source.length_s)
        if pair.rhythm is None:
            assert self.order.rhythm is not None
            if settings.source_bpm is not None:  # then the user's tempo rules, not the project's
                return _Played(self.order.rhythm, settings, "")
            return _from_the_start(self.job, source, self._given_rhythm(self.order.rhythm), settings)
        item = pair.rhythm
        if item.id not in self._events:
            self._events[item.id] = self._item_events(item)
        events = self._events[item.id]
        if source.overlap_s(item):
            return _in_project_time(self.job, pair, events, settings)
        return _from_the_start(self.job, source, _item_rhythm(self.job, item, events), settings)

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

    def _item_events(self, item: Item) -> list[DrumEvent]:
        """Return what a rhythm item plays, in project time, sorted."""
        name = item.name or "the rhythm"
        if item.kind == "midi":
            notes = ((note.onset_s, note.channel, note.number, note.velocity) for note in item.notes)
            events = drums_of_notes(notes, name=name, drum_map=self.order.drum_map)
        else:
            with open_item(item, at_own_speed=True) as recording:
                played = self.redrummer.transcribe(recording, sensitivity=self.order.settings.sensitivity)
            events = tuple(
                replace(event, onset_s=item.position_s + item.played_s(event.onset_s)) for event in played
            )
        inside = [event for event in events if event.onset_s < item.end_s]
        if not inside:
            raise RhythmError(f"no drum hits are detected in {name}", hint="choose another rhythm")
        return sorted(inside, key=lambda event: event.onset_s)


def _project_notes(job: Job, source: Item, played: Rhythm) -> Iterator[Note]:
    """Yield the notes of what a take plays, where the project plays them."""
    for stroke in (stroke for event in played.events for stroke in event.strokes):
        onset_s = source.position_s + stroke.onset_s
        yield Note(
            onset_s=onset_s,
            onset_beats=job.tempo_map.beats_at(onset_s),
            number=GM_NOTES[stroke.drum_class, stroke.articulation],
            velocity=max(1, round(127 * stroke.velocity)),
            channel=DRUM_CHANNEL,
        )


def _check_playable(job: Job, pair: Pair) -> None:
    """Raise AudioError for items whose sound cannot be had as the project plays it. A muted rhythm is fine."""
    for item in filter(None, (pair.source, pair.rhythm)):
        file = item.file if len(item.file) <= _LONGEST_SHOWN else f"{item.file[:_LONGEST_SHOWN]}..."
        problems = {
            "offline": (f"its file {file} is missing", "bring the file back, or relink the item"),
            "remote": (
                f"its file {file} is on a network share, where no project may send Redrum",
                "copy it into the project's folder, or keep the project on that share, too",
            ),
            "stretched": ("it has stretch markers, which Redrum does not follow", GLUE),
            "frozen": ("its track is frozen", "unfreeze the track, then try again"),
            "empty": (f"its rhythm, {_title(job, item)}, is empty", "choose another rhythm"),
        }
        if item.state in problems:
            message, hint = problems[item.state]
            raise AudioError(message, hint=hint)


def _check_original(source: Item, settings: RenderSettings) -> None:
    """Raise SettingsError where a take retains some of an original that plays at a speed of its own."""
    if not source.is_at_own_speed and source.keeps_pitch and (settings.mix < 1 or settings.retained):
        how = (
            "is warped" if source.warp_regions else f"plays {source.play_rate:g} times as fast at its own pitch"
        )
        raise SettingsError(
            f"it {how}: nothing of it can be kept", hint=f"leave out --mix and --classes, or {GLUE}"
        )


def _plain_name(item: Item) -> str:
    """Return a take's name without the ending of its file, which DAWs make part of it."""
    suffix = Path(item.file).suffix
    return item.name[: -len(suffix)] if suffix and item.name.endswith(suffix) else item.name


# Rhythms on the time of a take


def _item_rhythm(job: Job, item: Item, events: Sequence[DrumEvent]) -> Rhythm:
    """Return an item as a rhythm that begins where it begins."""
    moved = (replace(event, onset_s=max(event.onset_s - item.position_s, 0.0)) for event in events)
    inside = tuple(event for event in moved if event.onset_s < item.length_s)
    begin = job.tempo_map.beats_at(item.position_s)
    return Rhythm(inside, item.length_s, _map_from(job.tempo_map, begin), item.name or "the rhythm")


def _in_project_time(job: Job, pair: Pair, events: Sequence[DrumEvent], settings: RenderSettings) -> _Played:
    """Return the rhythm with every event where the project plays it; grid lines are the project's."""
    source, item = pair.source, pair.rhythm
    assert item is not None
    if settings.start_s:
        raise SettingsError(
            "its rhythm keeps its project time, so --start means nothing",
            hint="move the rhythm in the project, or leave out --start",
        )
    # --length rhythm: to the end of the rhythm.
    length_s = item.end_s - source.position_s if isinstance(settings.length, str) else settings.length
    tempo_map = job.tempo_map
    first_beat = math.floor(tempo_map.beats_at(source.position_s))
    first_s = tempo_map.seconds_at(first_beat)
    # A beat more, so that what is moved to a grid line past the end is past it, not back at the beginning.
    last_s = tempo_map.seconds_at(tempo_map.beats_at(source.position_s + length_s) + 1)
    first, last = (bisect_left(events, at_s, key=attrgetter("onset_s")) for at_s in (first_s, last_s))
    inside = tuple(replace(event, onset_s=event.onset_s - first_s) for event in events[first:last])
    rhythm = Rhythm(inside, last_s - first_s, _map_from(tempo_map, first_beat), item.name or "the rhythm")
    own = _in_seconds(job, source, settings)
    own = replace(own, start_s=max(source.position_s - first_s, 0.0), length=length_s)
    return _Played(rhythm, own, f"{rhythm.name} keeps its project time")


def _from_the_start(job: Job, source: Item, rhythm: Rhythm, settings: RenderSettings) -> _Played:
    """Return the rhythm begun with the take and looped, on the project's beats if its tempo is known."""
    own = _in_seconds(job, source, settings)
    _, phrase = align(rhythm, mode=settings.align, source_bpm=_bpm_at(job, source), rhythm_bpm=None)
    if rhythm.tempo_map is None or settings.align == "seconds":
        return _Played(rhythm, own, f"{rhythm.name} begins with the take, {phrase}")
    if settings.timing < 1:
        rhythm = rhythm.snapped(settings.timing)
    if settings.start_s:
        rhythm = rhythm.section(settings.start_s, rhythm.length_s)
    assert rhythm.tempo_map is not None
    n_beats = rhythm.tempo_map.beats_at(rhythm.length_s)
    beats = rhythm.tempo_map.beats_at(np.array([event.onset_s for event in rhythm.events])).tolist()
    tempo_map = _map_from(job.tempo_map, job.tempo_map.beats_at(source.position_s))
    length_s = tempo_map.seconds_at(n_beats) if isinstance(settings.length, str) else settings.length
    n_turns = math.ceil(tempo_map.beats_at(length_s) / n_beats) + 1
    rhythm.check_looped(n_turns - 1)
    looped = (
        replace(event, onset_s=tempo_map.seconds_at(turn * n_beats + beat))
        for turn in range(n_turns)
        for event, beat in zip(rhythm.events, beats, strict=True)
    )
    inside = tuple(takewhile(lambda event: event.onset_s < length_s - BOUNDARY_S, looped))
    rhythm = Rhythm(inside, length_s, tempo_map, rhythm.name, rhythm.beats_per_bar)
    own = replace(own, start_s=0.0, length=length_s, timing=1.0)
    return _Played(rhythm, own, f"{rhythm.name} begins with the take, on the beats of the project")


def _in_seconds(job: Job, source: Item, settings: RenderSettings) -> RenderSettings:
    """Return settings for a rhythm that lies on the take's time already."""
    return replace(settings, align="seconds", source_bpm=_bpm_at(job, source), rhythm_bpm=None)


def _bpm_at(job: Job, source: Item) -> float:
    return job.tempo_map.bpm_at(job.tempo_map.beats_at(source.position_s))


def _map_from(tempo_map: TempoMap, beat: float) -> TempoMap:
    """Return a tempo map from a beat on, which becomes beat 0."""
    later = tuple((at - beat, bpm) for at, bpm in tempo_map.changes if at > beat)
    return TempoMap(((0.0, tempo_map.bpm_at(beat)), *later))
