"""What passes between a DAW and Redrum: a job out of the session, takes back into it.

Conventions: times are float64 seconds from the start of the project, beats are quarter notes of its tempo map,
tracks are counted from the top. Text may hold surrogates, which stand for bytes that are no UTF-8.
"""

from __future__ import annotations

import math
import shutil
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Literal, Protocol

from daw_bridge.bars import Bars
from transform.errors import DawError
from transform.events import CLASS_NAMES, CLASSES, POSSIBLE_BPM, TempoMap
from transform.files import atomic_files
from transform.names import is_device

MIDI = "MIDI"  # the part of a take that is no sound
CLOSED = ("rpp", "als")  # the DAWs' closed projects
RHYTHM_TRACKS = ("rhythm", "target")  # how the names of tracks begin whose items are rhythms

Kind = Literal["audio", "midi"]
# Of an item that is "remote" the file is on a share of the network, which is not opened: see `media`.
State = Literal["ok", "muted", "silent lane", "empty", "combined", "offline", "remote", "stretched", "frozen"]

_COMMON_TIME = Bars(((0.0, 4.0),))
_LONGEST_S = 1e6  # of a project: eleven days
_MOST_NOTES = 1_000_000  # that an item plays
_MOST_ELEMENTS = 1_000_000  # notes and warped regions of all items of a project
_LONGEST_NAME = 300  # characters of the name of a track or an item
PLAY_RATES = (1e-3, 1e3)
_REPAIR = "repair the item, or glue it"
_RAMP_STEP_S = 0.05  # of a tempo that glides; the beat is then right to 0.1 ms
_MOST_RAMP_STEPS = 100_000  # one that glides for hours does so slowly
_MOST_GLIDING_STEPS = 500_000  # of all that glide: seven hours
OVERLAP_S = 1e-6  # items that touch do not overlap
_SAME_SPEED = 1e-5  # play rates that differ less are the same: a sample is gained in two seconds


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A MIDI note as the project plays it."""

    onset_s: float
    onset_beats: float
    number: int
    velocity: int  # 1..127
    channel: int = 0  # 0..15


@dataclass(frozen=True, kw_only=True)
class Track:
    """A track of the project; `id` is the DAW's own."""

    id: str
    name: str
    color: int = 0  # the DAW's own number; 0: none of its own
    folders: tuple[str, ...] = ()  # names of the folders or groups that it lies in, the innermost last
    folder_ids: tuple[str, ...] = ()  # the DAW's own, of the same


@dataclass(frozen=True, kw_only=True, slots=True)
class WarpRegion:
    """A region of an item that plays its file at one speed, up to where the next region begins."""

    position_s: float  # from the start of the item
    file_s: float  # where in the file; what lies before or after the file is silent
    play_rate: float


@dataclass(frozen=True, kw_only=True)
class Fade:
    """How an item begins or ends: REAPER's shapes, 0 a line."""

    length_s: float = 0.0
    shape: int = 0


@dataclass(frozen=True, kw_only=True)
class Item:
    """A region of sound or MIDI on a track, with what is needed to play it as the project does.

    An item plays its file from `section_start_s` on, `section_length_s` of it (None: to the end), backwards if
    `is_reversed`; in that, it begins at `start_offset_s`, is `play_rate` times as fast and begins again at the
    end if `is_looped`. Where a file is warped, `warp_regions` have all that instead, loops included;
    the first begins with the item. `notes` are already as played.

    An item may stand for several of a track that follow one another: its `parts`, which have the sound. Or it
    stands for the microphones of one performance, each an item of its own track: its `microphones`.
    """

    id: str
    track: int  # place in Job.tracks
    kind: Kind
    name: str  # of the take
    position_s: float
    length_s: float
    is_selected: bool = True
    group: str = ""  # the DAW's own id of the items that are grouped with it
    state: State = "ok"
    file: str = ""
    channel_files: tuple[tuple[str, int], ...] = ()  # file and channel of each; none: all channels of `file`
    sample_rate: int = 0  # at which its file is played, sample by sample; 0: that of the file
    start_offset_s: float = 0.0
    play_rate: float = 1.0
    keeps_pitch: bool = True  # at another play rate
    is_looped: bool = False
    is_reversed: bool = False
    section_start_s: float = 0.0
    section_length_s: float | None = None
    # REAPER's: 0 all channels, 1 left and right swapped, 2 mono mix, 3 left, 4 right, 5 the third ...; 67 the
    # first two as a stereo pair, 68 the second and third, ...
    channel_mode: int = 0
    gain: float = 1.0  # below 0 with the polarity turned
    pan: float = 0.0  # of stereo: -1 left only, 1 right only
    fade_in: Fade = Fade()
    fade_out: Fade = Fade()
    is_launched: bool = False  # it plays when it is started, not after what lies before it
    parts: tuple[Item, ...] = ()  # by position
    microphones: tuple[Item, ...] = ()  # by track, may have parts
    # From when to when, from its start, it is silent as part of a performance: others lie over it.
    covered_s: tuple[tuple[float, float], ...] = ()
    notes: tuple[Note, ...] = ()
    warp_regions: tuple[WarpRegion, ...] = ()

    def check(self) -> None:
        """Raise DawError for what no project can hold, such as a time that is not a number."""
        times_s = [self.position_s, self.length_s, self.start_offset_s, self.section_start_s]
        times_s += [self.section_length_s or 0.0, *(note.onset_s for note in self.notes)]
        times_s += [number for region in self.warp_regions for number in (region.position_s, region.file_s)]
        times_s += [self.fade_in.length_s, self.fade_out.length_s, self.gain, self.pan]
        if not all(abs(time_s) <= _LONGEST_S for time_s in times_s):
            raise DawError(f"the item {self.name!r} has a time that is none", hint=_REPAIR)
        for rate in (self.play_rate, *(region.play_rate for region in self.warp_regions)):
            if not PLAY_RATES[0] <= rate <= PLAY_RATES[1]:
                raise DawError(f"the item {self.name!r} has a play rate of {rate:g}", hint=_REPAIR)
        begins = [region.position_s for region in self.warp_regions]
        if begins and (begins[0] != 0 or begins != sorted(begins) or begins[-1] > self.length_s):
            raise DawError(f"the item {self.name!r} has warped regions that are not in order")
        for note in self.notes:
            if not (1 <= note.velocity <= 127 and 0 <= note.number <= 127 and 0 <= note.channel <= 15):
                raise DawError(f"the item {self.name!r} has a note that MIDI does not know", hint=_REPAIR)

    @property
    def end_s(self) -> float:
        """Where the item ends in the project."""
        return self.position_s + self.length_s

    @property
    def leaves(self) -> tuple[Item, ...]:
        """The items of the project that this one stands for."""
        inner = self.microphones or self.parts
        return tuple(leaf for item in inner for leaf in item.leaves) if inner else (self,)

    @property
    def is_at_own_speed(self) -> bool:
        """Whether the item plays its file as fast as it was recorded."""
        if inner := self.microphones or self.parts:
            return all(item.is_at_own_speed for item in inner)
        rates = [region.play_rate for region in self.warp_regions] or [self.play_rate]
        return all(abs(rate - 1) <= _SAME_SPEED for rate in rates)

    def regions_with_lengths(self) -> list[tuple[WarpRegion, float]]:
        """Return the warped regions, each with how many seconds of the file it plays."""
        ends = [region.position_s for region in self.warp_regions[1:]] + [self.length_s]
        return [
            (region, (end_s - region.position_s) * region.play_rate)
            for region, end_s in zip(self.warp_regions, ends, strict=True)
        ]

    def sound_s(self, at_s: float, *, at_own_speed: bool = False) -> float:
        """Return the time in its sound, as `items.open_item` gives it, at which an item is after `at_s`."""
        if self.is_at_own_speed or not (self.keeps_pitch or at_own_speed):
            return at_s
        if self.parts:
            starts_s = self.part_starts_s(at_own_speed=at_own_speed)
            begins_s = [part.position_s - self.position_s for part in self.parts]
            place = max(0, bisect_right(begins_s, at_s) - 1)
            part, into_s = self.parts[place], at_s - begins_s[place]
            inside_s = min(into_s, part.length_s)
            return starts_s[place] + part.sound_s(inside_s, at_own_speed=at_own_speed) + into_s - inside_s
        if not self.warp_regions:
            return at_s * self.play_rate
        ends_s = [region.position_s for region in self.warp_regions[1:]] + [self.length_s]
        return sum(
            max(0.0, min(at_s, end_s) - region.position_s) * region.play_rate
            for region, end_s in zip(self.warp_regions, ends_s, strict=True)
        )

    def part_starts_s(self, *, at_own_speed: bool = False) -> list[float]:
        """Return where parts begin in the sound of an item: as in the project, at the speed of their files."""
        starts_s = [0.0]
        for part, following in pairwise(self.parts):
            apart_s = following.position_s - part.position_s
            inside_s = min(apart_s, part.length_s)
            starts_s.append(
                starts_s[-1] + part.sound_s(inside_s, at_own_speed=at_own_speed) + apart_s - inside_s
            )
        return starts_s

    def played_s(self, own_s: float) -> float:
        """Return when, from its start, an item plays a time of its sound at the speed of the file."""
        if self.microphones:  # all play alike
            return min(self.microphones, key=lambda mic: mic.position_s).played_s(own_s)
        if self.parts:
            starts_s = self.part_starts_s(at_own_speed=True)
            place = max(0, bisect_right(starts_s, own_s) - 1)
            part = self.parts[place]
            return part.position_s - self.position_s + part.played_s(own_s - starts_s[place])
        if not self.warp_regions:
            return own_s / self.play_rate
        begin_s = 0.0
        for region, length_s in self.regions_with_lengths():
            if own_s < begin_s + length_s:
                return region.position_s + (own_s - begin_s) / region.play_rate
            begin_s += length_s
        return self.length_s

    def overlap_s(self, other: Item) -> float:
        """Return how long both items sound at once, 0 where they do not."""
        common_s = min(self.end_s, other.end_s) - max(self.position_s, other.position_s)
        return common_s if common_s > OVERLAP_S else 0.0


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is redrummed: the chosen items of a project, and the items that may be their rhythms."""

    daw: str
    project: str  # path of the project, "" where it has never been saved
    project_id: str  # the DAW's own
    media_folder: str  # of the project's sounds
    tempo: tuple[tuple[float, float], ...]  # (beat, BPM), each until the next
    bars: Bars = _COMMON_TIME
    tracks: tuple[Track, ...]
    items: tuple[Item, ...]
    left_out: tuple[str, ...] = ()  # of a closed project, the tracks with audio of which nothing is chosen

    def __post_init__(self) -> None:
        assert self.tempo_map  # raises RhythmError where it is none
        for item in self.items:
            if not 0 <= item.track < len(self.tracks):
                raise DawError(f"the item {item.name!r} lies on track {item.track + 1}, which does not exist")
            item.check()

    @cached_property
    def tempo_map(self) -> TempoMap:
        """The project's tempo map."""
        return TempoMap(self.tempo)

    def track_of(self, item: Item) -> Track:
        """Return the track that an item lies on."""
        return self.tracks[item.track]


@dataclass(frozen=True, kw_only=True)
class FinishedTake:
    """A result that lies in a file of its own, to be put into the project."""

    source: Item
    file: Path
    name: str
    length_s: float
    n_channels: int
    part: str = ""  # "": all of it; one of CLASSES: its separate output; MIDI: what plays, as MIDI
    notes: tuple[Note, ...] = ()  # of MIDI


@dataclass(frozen=True, kw_only=True)
class NewTrack:
    """A track that takes are put on; several of one source track may be a folder and what lies in it."""

    source: int  # place of the track whose items the takes are from
    name: str
    takes: tuple[int, ...]  # their places among all takes
    folder_depth: int = (
        0  # 1: it begins a folder, -1: it is the last one in it; the source track's comes on top
    )
    is_muted: bool = False  # its items are: others play the same


class Session(Protocol):
    """An open or closed project of a DAW. Every adapter passes tests/daw_bridge/test_sessions.py."""

    def collect(self) -> Job:
        """Return the chosen items, and all that may be a rhythm; changes nothing.

        Raises:
            DawError: the project or its DAW cannot be read.
        """

    def write_back(self, job: Job, takes: Sequence[FinishedTake]) -> list[Path]:
        """Put takes on new tracks, one for each source track and named after it; return their media files.

        Separate outputs and MIDI, which not all DAWs take, go on tracks of their own: see `new_tracks`.

        All of them or none: nothing that was there before is changed, and media go to the job's media folder
        under names that nothing has.

        Raises:
            DawError: the project is gone, or its DAW does not answer.
            OutputError: a file cannot be written.
        """


def is_rhythm_track(name: str) -> bool:
    """Return whether items on a track of this name are collected as rhythms even if they are not selected."""
    return name.casefold().startswith(RHYTHM_TRACKS)


def project_tempo(bpm: float, points: Iterable[tuple[float, float, bool]]) -> tuple[tuple[float, float], ...]:
    """Return a project's tempo as steps over beats.

    Args:
        bpm: the tempo before the first point.
        points: time in seconds, BPM, and whether the tempo glides from there to the next point, in any order.

    Raises:
        DawError: a tempo or a time is not possible.
    """
    ordered = sorted(points)
    for start_s, tempo, _ in [*ordered, (0.0, bpm, False)]:
        if not (abs(start_s) <= _LONGEST_S and POSSIBLE_BPM[0] <= tempo <= POSSIBLE_BPM[1]):
            raise DawError(
                f"the project has a tempo of {tempo} BPM at {start_s} s",
                hint="repair the tempo markers of the project",
            )
    gliding_s = sum(end_s - start_s for (start_s, _, glides), (end_s, *_) in pairwise(ordered) if glides)
    step_s = max(_RAMP_STEP_S, gliding_s / _MOST_GLIDING_STEPS)
    steps = [(0.0, bpm)]  # (seconds, BPM)
    for (start_s, begin, is_gliding), (end_s, finish, _) in pairwise([*ordered, (math.inf, 0.0, False)]):
        if not is_gliding or end_s == math.inf:
            steps.append((start_s, begin))
            continue
        n_steps = min(max(1, math.ceil((end_s - start_s) / step_s)), _MOST_RAMP_STEPS)
        for step in range(n_steps):  # each at the mean of its tempi, so that no error adds up
            mean = begin + (finish - begin) * (step + 0.5) / n_steps
            steps.append((start_s + (end_s - start_s) * step / n_steps, mean))
    by_time = {max(start_s, 0.0): tempo for start_s, tempo in steps}  # the last of several at one time
    changes: list[tuple[float, float]] = []
    beat, before_s, before = 0.0, 0.0, bpm
    for start_s, tempo in by_time.items():
        beat += (start_s - before_s) * before / 60
        if not changes or tempo != before:
            changes.append((beat, tempo))
        before_s, before = start_s, tempo
    return tuple(changes)


def played_notes(
    notes: Iterable[tuple[float, int, int, int]],
    *,
    period_beats: float | None,
    position_s: float,
    length_s: float,
    tempo_map: TempoMap,
) -> tuple[Note, ...]:
    """Return the notes that an item plays, in the project's time.

    Args:
        notes: beat in the project, number, velocity and channel, of one pass through the item's MIDI.
        period_beats: after how many beats the MIDI begins again; None plays it once.
        position_s: where the item begins.
        length_s: how long it is: notes outside are not played.
        tempo_map: the project's.

    Raises:
        DawError: more notes are played than can be.
    """
    begin = tempo_map.beats_at(position_s)
    end = tempo_map.beats_at(position_s + length_s)
    tolerance = 1e-6  # of a beat: times come from DAWs rounded to a few digits
    played: list[Note] = []
    for beat, number, velocity, channel in notes:
        if velocity < 1:
            continue
        turns = range(1)
        if period_beats:
            turns = range(
                max(0, math.ceil((begin - tolerance - beat) / period_beats)),
                max(0, math.ceil((end - tolerance - beat) / period_beats)),
            )
        if len(played) + turns.stop - turns.start > _MOST_NOTES:
            raise DawError(
                f"an item at {position_s:g} s plays more than {_MOST_NOTES:,} notes",
                hint="glue it, or make it shorter",
            )
        for turn in turns:
            at = beat + turn * (period_beats or 0.0)
            if begin - tolerance <= at < end - tolerance:
                at = max(at, begin)
                onset_s = tempo_map.seconds_at(at)
                played.append(
                    Note(onset_s=onset_s, onset_beats=at, number=number, velocity=velocity, channel=channel)
                )
    return tuple(sorted(played, key=lambda note: (note.onset_beats, note.channel, note.number)))


@contextmanager
def published_media(
    job: Job, takes: Sequence[FinishedTake], *, stay_after: tuple[type[BaseException], ...] = ()
) -> Iterator[list[Path]]:
    """Copy takes into the media folder, under names that nothing has; they go again if the `with` block fails.

    They stay after errors of the types `stay_after`, where the DAW may have taken them.

    Raises:
        DawError: the project has no media folder.
        OutputError: a file cannot be written.
    """
    if not job.media_folder:
        raise DawError("the project has no folder for its media", hint="save the project once, then try again")
    folder = Path(job.media_folder)
    taken: set[Path] = set()
    paths = []
    for take in takes:
        paths.append(_free_path(folder, take.file.stem, take.file.suffix, taken))
        taken.add(paths[-1])
    with atomic_files(paths, overwrite=False) as temporaries:
        for take, temporary in zip(takes, temporaries, strict=True):
            shutil.copyfile(take.file, temporary)
    with ExitStack() as undo:
        for path in paths:
            undo.callback(path.unlink, missing_ok=True)
        try:
            yield paths
        except stay_after:
            undo.pop_all()
            raise
        undo.pop_all()


def with_elements_of(item: Item, n_elements: int) -> int:
    """Return how many notes and warped regions the items of a project have with one more.

    Raises:
        DawError: they are too many.
    """
    n_elements += len(item.notes) + len(item.warp_regions)
    if n_elements > _MOST_ELEMENTS:
        raise DawError(
            f"the items of the project play more than {_MOST_ELEMENTS:,} notes and warped regions",
            hint="take only the tracks you need into a project of its own",
        )
    return n_elements


def short_name(name: str) -> str:
    """Return the name of a track or an item, cut to a length that is read."""
    return name[:_LONGEST_NAME]


def file_name(name: str) -> str:
    """Return a name that every file system takes."""
    clean = "".join("_" if char in '<>:"/\\|?*' or ord(char) < 32 else char for char in name)
    clean = clean.encode("utf-8", "replace")[:120].decode("utf-8", "ignore").strip(" .") or "redrum"
    return f"_{clean}" if is_device(clean) else clean


def _free_path(folder: Path, stem: str, suffix: str, taken: set[Path]) -> Path:
    number = 1
    while (path := folder / f"{stem}{f'-{number}' * (number > 1)}{suffix}").exists() or path in taken:
        number += 1
    return path


def result_track_name(name: str) -> str:
    """Return how the track is called that takes of a track's items lie on."""
    return f"{name} redrum" if name else "redrum"


def by_track(takes: Sequence[FinishedTake]) -> dict[int, list[int]]:
    """Return which takes, by their place, belong to each source track, the lowest track last."""
    groups: dict[int, list[int]] = {}
    for place, take in sorted(
        enumerate(takes), key=lambda pair: (pair[1].source.track, pair[1].source.position_s)
    ):
        groups.setdefault(take.source.track, []).append(place)
    return groups


def new_tracks(job: Job, takes: Sequence[FinishedTake]) -> list[NewTrack]:
    """Return the tracks that takes of a job go on, those of a source track in order, the lowest one's last.

    Takes with separate outputs are muted on the track of a folder whose other tracks play, one for each drum;
    what plays is there as a muted MIDI item on a track of its own.
    """
    tracks = []
    for place, members in by_track(takes).items():
        name = result_track_name(job.tracks[place].name)
        by_part: dict[str, list[int]] = {}
        for n in members:
            by_part.setdefault(takes[n].part, []).append(n)
        parts = [part for part in ("", *CLASSES, MIDI) if part in by_part]
        is_folder = any(part in CLASSES for part in parts)
        for part in parts:
            track = NewTrack(
                source=place,
                name=f"{name} {CLASS_NAMES.get(part, part)}".rstrip(),
                takes=tuple(by_part[part]),
                folder_depth=(1 if part == "" else -1 if part == parts[-1] else 0) if is_folder else 0,
                is_muted=part == MIDI or (is_folder and part == ""),
            )
            tracks.append(track)
    return tracks
