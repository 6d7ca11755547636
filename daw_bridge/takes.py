"""The takes of a job: items heard as the project plays them, rhythms where the project hears them.

A take begins where its source begins and is, unless asked otherwise, as long. A rhythm that is an item and
overlaps its source keeps its project time: every event is where the project hears it, and where the item is
silent, so is the take. Any other rhythm begins with the take and loops: on the project's beats where its own
tempo is known, else in seconds.
"""

from __future__ import annotations

import logging
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from itertools import takewhile
from operator import attrgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soxr

from daw_bridge.session import FinishedTake, Item, Job, Pair, Session, file_name, pair_items
from daw_bridge.take_report import Report, Show, report_of
from transform.audio import AudioFormat, Recording, Samples, resolve_output, write_audio
from transform.engine import Redrummer
from transform.errors import AudioError, RedrumError, RhythmError, SettingsError
from transform.events import BOUNDARY_S, DrumEvent, Rhythm, TempoMap, align, estimate_tempo
from transform.midi import drums_of_notes
from transform.settings import RenderSettings

_BLOCK_SAMPLES = 2**18
_LEADS = np.arange(256, 768)  # samples of the result that a resampler may make before what is taken from it
_GLUE = "glue it in the DAW, then try again"
_LONGEST_SHOWN = 300  # characters of a path
_SILENT = {"muted": "it is muted", "empty": "it holds no sound"}
_log = logging.getLogger(__name__)

GivenRhythm = Rhythm | Recording


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is wanted of every take of a job."""

    settings: RenderSettings
    rhythm: GivenRhythm | None = None  # None: it is in the session, see `pair_items`
    is_on_own_track: bool = False  # the rhythm is a MIDI item on the source's track
    bit_depth: str | None = None  # None: the source's
    drum_map: str = "auto"


def settings_of(given: Mapping[str, Any]) -> RenderSettings:
    """Return the settings of takes; a take is as long as its source unless what is given says otherwise."""
    return RenderSettings(**{"length": "source", **given})


def redrum_session(
    session: Session,
    redrummer: Redrummer,
    order: Order,
    *,
    tell: Callable[[Report], None] = lambda report: None,
    show: Show | None = None,
) -> list[Report]:
    """Redrum what is chosen in a session and write the takes back, all at once; return what became of each.

    Args:
        session: an open or closed project.
        redrummer: what makes the takes.
        order: what is wanted.
        tell: is called with the report of each item, as soon as it is rendered.
        show: is called with a stage and how much of it is done.

    Returns:
        A report for each source item, "output" among what it says. One that failed says "error" and "hint"
        instead, one that was left out says "skipped".

    Raises:
        DawError: the session cannot be read or written to.
        SettingsError: nothing says which rhythm to play.
        OutputError: the takes cannot be written.
    """
    job = session.collect()
    renderer = _Renderer(redrummer, job, order, show)
    reports: list[Report] = []
    takes: list[FinishedTake] = []
    rendered: list[Report] = []
    with TemporaryDirectory(prefix="redrum-") as staging:
        for number, pair in enumerate(pairs_of(job, order)):
            report = about(job, pair, order.rhythm)
            folder = Path(staging, str(number))
            folder.mkdir()
            try:
                if why := _SILENT.get(pair.source.state):
                    report["skipped"] = why
                else:
                    take, details = renderer.take(pair, folder)
                    takes.append(take)
                    rendered.append(report)
                    report |= details
            except Exception as err:  # one failing item does not stop the others
                _log.debug("the cause", exc_info=err)
                report["error"] = f"{_title(job, pair.source)}: {err or type(err).__name__}"
                report["hint"] = err.hint if isinstance(err, RedrumError) else "-v tells where it failed"
            reports.append(report)
            tell(report)
        if takes:
            for report, media in zip(rendered, session.write_back(job, takes), strict=True):
                report["output"] = str(media)
    return reports


def pairs_of(job: Job, order: Order) -> list[Pair]:
    """Return who is source and who is rhythm of an order; see `pair_items`."""
    return pair_items(job, has_rhythm=order.rhythm is not None, is_on_own_track=order.is_on_own_track)


def about(job: Job, pair: Pair, rhythm: GivenRhythm | None) -> Report:
    """Return what a report says of an item before anything is done."""
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
    how: str  # "": the settings say it


@dataclass
class _Renderer:
    """What the takes of a job have in common; a rhythm is listened to once."""

    redrummer: Redrummer
    job: Job
    order: Order
    show: Show | None
    _events: dict[str, list[DrumEvent]] = field(default_factory=dict)  # by item
    _given: Rhythm | None = None

    def take(self, pair: Pair, folder: Path) -> tuple[FinishedTake, Report]:
        """Return the take of a pair in a file of `folder`, and the rest of its report."""
        began_s = time.perf_counter()
        source = pair.source
        _check_audible(self.job, pair)
        with ExitStack() as files:
            sounds = Path(files.enter_context(TemporaryDirectory(prefix="redrum-")))
            recording = files.enter_context(heard(source, sounds))
            played = self._played(pair, sounds)
            _check_original(source, played.settings)
            take = self.redrummer.redrum(recording, played.rhythm, played.settings, progress=self.show)
            name = f"{_plain_name(source) or recording.name}-redrum"
            file = folder / f"{file_name(name)}.wav"
            take.write(file, bit_depth=self.order.bit_depth, progress=self.show)
            _, subtype = resolve_output(file, take.format, self.order.bit_depth)
        report = report_of(take, played.settings.engine, subtype)
        if played.how:
            notes = (note for note in report["notes"] if not note.startswith("aligned "))
            report["notes"] = [played.how, *notes]
        report["seconds"] = round(time.perf_counter() - began_s, 3)
        return FinishedTake(
            source=source, file=file, name=name, length_s=take.duration_s, n_channels=take.format.n_channels
        ), report

    def _played(self, pair: Pair, folder: Path) -> _Played:
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
            self._events[item.id] = self._item_events(item, folder)
        events = self._events[item.id]
        if source.overlap_s(item):
            return _in_project_time(self.job, pair, events, settings)
        return _from_the_start(self.job, source, _item_rhythm(self.job, item, events), settings)

    def _given_rhythm(self, rhythm: GivenRhythm) -> Rhythm:
        """Return the rhythm that the user named, with the tempo that the user says it has."""
        bpm = self.order.settings.rhythm_bpm
        if self._given is not None:
            return self._given
        if isinstance(rhythm, Recording):
            rhythm = self.redrummer.rhythm_of(rhythm, bpm, sensitivity=self.order.settings.sensitivity)
        elif bpm is not None:
            if isinstance(bpm, str):
                estimate = estimate_tempo(rhythm.events, rhythm.length_s)
                if estimate is None:
                    raise RhythmError(f"no tempo can be heard in {rhythm.name}", hint="give --rhythm-bpm N")
                bpm = estimate[0]
            rhythm = replace(rhythm, tempo_map=TempoMap.constant(bpm))
        self._given = rhythm
        return rhythm

    def _item_events(self, item: Item, folder: Path) -> list[DrumEvent]:
        """Return what a rhythm item plays, in project time, sorted."""
        name = item.name or "the rhythm"
        if item.kind == "midi":
            notes = ((note.onset_s, note.channel, note.number, note.velocity) for note in item.notes)
            events = drums_of_notes(notes, name=name, drum_map=self.order.drum_map)
        else:
            with heard(item, folder, at_own_speed=True) as recording:
                played = self.redrummer.transcribe(recording, sensitivity=self.order.settings.sensitivity)
            events = tuple(
                replace(event, onset_s=item.position_s + item.played_s(event.onset_s)) for event in played
            )
        inside = [event for event in events if event.onset_s < item.end_s]
        if not inside:
            raise RhythmError(f"no drum hits are heard in {name}", hint="choose another rhythm")
        return sorted(inside, key=lambda event: event.onset_s)


def _check_audible(job: Job, pair: Pair) -> None:
    """Raise AudioError for items that cannot be heard as the project plays them. A muted rhythm can."""
    for item in filter(None, (pair.source, pair.rhythm)):
        file = item.file if len(item.file) <= _LONGEST_SHOWN else f"{item.file[:_LONGEST_SHOWN]}..."
        if item.state == "offline":
            raise AudioError(f"its file {file} is missing", hint="bring the file back, or relink the item")
        if item.state == "remote":
            raise AudioError(
                f"its file {file} is on a network share, where no project may send Redrum",
                hint="copy it into the project's folder, or keep the project on that share, too",
            )
        if item.state == "stretched":
            raise AudioError("it has stretch markers, which Redrum does not follow", hint=_GLUE)
        if item.state == "frozen":
            raise AudioError("its track is frozen", hint="unfreeze the track, then try again")
        if item.state == "empty":
            raise AudioError(f"its rhythm, {_title(job, item)}, is empty", hint="choose another rhythm")


def _check_original(source: Item, settings: RenderSettings) -> None:
    """Raise SettingsError where a take keeps some of an original that plays at a speed of its own."""
    if not source.is_at_own_speed and source.keeps_pitch and (settings.mix < 1 or settings.kept):
        how = "is warped" if source.pieces else f"plays {source.play_rate:g} times as fast at its own pitch"
        raise SettingsError(
            f"it {how}: nothing of it can be kept", hint=f"leave out --mix and --classes, or {_GLUE}"
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
    """Return the rhythm with every event where the project hears it; grid lines are the project's."""
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
    """Return what a tempo map says from a beat on, which becomes beat 0."""
    later = tuple((at - beat, bpm) for at, bpm in tempo_map.changes if at > beat)
    return TempoMap(((0.0, tempo_map.bpm_at(beat)), *later))


# Items as the project plays them


def heard(item: Item, folder: Path, *, at_own_speed: bool = False) -> Recording:
    """Return the sound of an item, opened: its stretch of the file, looped, reversed and mixed as it says.

    Args:
        item: an audio item.
        folder: where what is no plain file is put.
        at_own_speed: leave the sound at the speed of its file, as is anyway done where it keeps its pitch.

    Raises:
        AudioError: the file cannot be read, or the item plays in a way that is not known.
    """
    path = folder / f"{len(list(folder.iterdir()))}.wav"
    with Recording.open(Path(item.file)) as file:
        n_channels = len(_mixed(np.zeros((file.n_channels, 0), dtype=np.float32), item))
        fmt = replace(file.format, n_channels=n_channels)
        changes_pitch = not (item.is_at_own_speed or item.keeps_pitch or at_own_speed)
        if item.pieces:
            blocks = _warped(file, item) if changes_pitch else _unwarped(file, item)
        else:
            blocks = _blocks(file, item)
            if changes_pitch:
                blocks = _resampled(blocks, item.play_rate, fmt)
        write_audio(path, blocks, replace(fmt, subtype="FLOAT", is_lossy=False))
    recording = Recording.open(path)
    recording.name, recording.format = file.name, fmt
    return recording


def _blocks(file: Recording, item: Item) -> Iterator[Samples]:
    """Yield what an item plays, at the speed of its file; zeros where it has nothing to play."""
    rate = file.sample_rate
    first = round(item.section_start_s * rate)
    length = file.n_samples - first
    if item.section_length_s is not None:
        length = min(length, round(item.section_length_s * rate))
    if length <= 0:
        raise AudioError("its section lies outside of its file", hint="correct the section in the DAW")
    at = round(item.start_offset_s * rate)
    end = at + max(1, round(item.length_s * item.play_rate * rate))
    while at < end:
        turn, into = divmod(at, length)
        count = min(length - into, end - at, _BLOCK_SAMPLES)
        if turn and not item.is_looped:
            block = np.zeros((file.n_channels, count), dtype=np.float32)
        elif item.is_reversed:
            block = file.read(first + length - into - count, first + length - into)[:, ::-1]
        else:
            block = file.read(first + into, first + into + count)
        yield _mixed(block, item)
        at += count


def _unwarped(file: Recording, item: Item) -> Iterator[Samples]:
    """Yield the pieces of an item at the speed of its file."""
    rate = file.sample_rate
    done_s = 0.0
    for piece, length_s in item.stretches():
        first = round(piece.file_s * rate)
        count = round((done_s + length_s) * rate) - round(done_s * rate)
        for at in range(first, first + count, _BLOCK_SAMPLES):
            yield _mixed(file.read(at, min(at + _BLOCK_SAMPLES, first + count)), item)
        done_s += length_s


def _warped(file: Recording, item: Item) -> Iterator[Samples]:
    """Yield the pieces of an item as fast as they play, higher or lower with it, each on its own samples."""
    rate = file.sample_rate
    ends = [piece.position_s for piece in item.pieces[1:]] + [item.length_s]
    for piece, end_s in zip(item.pieces, ends, strict=True):
        first, last = round(piece.position_s * rate), round(end_s * rate)
        for begin in range(first, last, _BLOCK_SAMPLES):
            count = min(_BLOCK_SAMPLES, last - begin)
            at = piece.file_s * rate + (begin - first) * piece.play_rate
            # What lies around it lets the resampler begin and end in sound. It begins on a sample of the file:
            # of many leads, the one that puts what is wanted nearest to samples of the result.
            starts = at - _LEADS * piece.play_rate
            best = int(np.argmin(np.abs(starts - np.round(starts))))
            start, skip = round(starts[best]), int(_LEADS[best])
            end = math.ceil(at + (count + _LEADS[0]) * piece.play_rate)
            sound = _mixed(file.read(start, end), item)
            faster = soxr.resample(sound.T, rate * piece.play_rate, rate, quality="HQ").T
            yield np.ascontiguousarray(faster[:, skip : skip + count])


def _mixed(block: Samples, item: Item) -> Samples:
    """Return the channels that an item's channel mode plays."""
    mode = item.channel_mode
    if mode == 0 or len(block) == 1:
        return block
    if mode == 1:
        return np.concatenate([block[1::-1], block[2:]])
    if mode == 2:
        return (block[:1] + block[1:2]) / np.float32(2)
    channel = mode - 3
    if channel >= len(block):
        raise AudioError(f"its channel mode {mode} is not known to Redrum", hint=_GLUE)
    return block[channel : channel + 1]


def _resampled(blocks: Iterator[Samples], play_rate: float, fmt: AudioFormat) -> Iterator[Samples]:
    """Yield sound played faster, and higher with it."""
    rate = fmt.sample_rate
    resampler = soxr.ResampleStream(rate * play_rate, rate, fmt.n_channels, dtype="float32", quality="HQ")
    for block in blocks:
        yield np.ascontiguousarray(resampler.resample_chunk(block.T).T)
    yield np.ascontiguousarray(resampler.resample_chunk(np.zeros((0, fmt.n_channels), np.float32), last=True).T)
