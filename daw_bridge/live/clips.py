"""What clips of Ableton Live play, in seconds: warp markers, loops, scenes and the pads of drum racks.

Live counts in beats, quarter notes of the set's tempo. Inside of a clip it counts in the clip's own beats, to
which the warp markers tie the file; in one that is not warped, in seconds of the file.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import pairwise
from operator import itemgetter
from pathlib import Path

from daw_bridge.session import Item, Note, State, WarpRegion, played_notes
from transform.drum_maps import DRUM_CHANNEL
from transform.errors import DawError
from transform.events import TempoMap

RE_PITCH = 3  # the warp mode that changes speed and pitch together
_NO_BEATS = 1e-9
_SHORTEST_LOOP_BEATS = 1 / 1024
_MOST_REGIONS = 100_000
_TEMPO_GRID_BEATS = 0.25  # Live takes a new tempo from its automation at each 16th
_MOST_TEMPI = 200_000

# The first pattern that is found in the name of a pad gives its note of General MIDI.
_PAD_NOTES: tuple[tuple[str, int], ...] = (
    (r"open ?(hi ?)?hats?|hats? ?open|\bohh?\b", 46),
    (r"pedal ?(hi ?)?hats?|hats? ?pedal|\bphh\b", 44),
    (r"hi ?hat|\bhats?\b|(closed|half)hats?\b|\bc?hh\b|\bch\b", 42),
    (r"kick|\bkik\b|\bkd\b|\bbd\b|bass ?drum", 36),
    (r"clap|\bcp\b", 39),
    (r"\brim|side ?stick", 37),
    (r"snare|\bsnr?\b|\bsd\b", 38),
    (r"\bride\b|\brd\b", 51),
    (r"china", 52),
    (r"splash", 55),
    (r"crash|cymbal|\bcym?\b|\bcr\b", 49),
    (r"\b(floor|low|mid|hi|high)? ?toms?(low|mid|hi|high)?\b|\btt\b", 45),
)


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A clip as Live describes it; `start`, `stop` and `loop` are in its beats, or in seconds of its file."""

    id: str
    track: int
    is_midi: bool
    name: str
    slot: int = -1  # in Session view; -1: in the Arrangement
    begin_beats: float = 0.0  # in the set
    end_beats: float = 0.0
    start: float = 0.0  # what it plays first
    stop: float = 0.0  # where it ends if it does not loop, in Session view
    loop: tuple[float, float] | None = None
    is_selected: bool = True
    is_muted: bool = False
    is_frozen: bool = False
    file: str = ""
    is_offline: bool = False
    is_remote: bool = False  # its file is on another share: see `media`
    is_warped: bool = False
    warp_mode: int = 0
    markers: tuple[tuple[float, float], ...] = ()  # (second of the file, beat of the clip)
    semitones: float = 0.0
    gain: float = 1.0
    notes: tuple[tuple[float, int, float], ...] = ()  # (beat of the clip, number, velocity)
    pads: Mapping[int, str] = field(default_factory=dict)  # names by note

    @property
    def changes_pitch(self) -> bool:
        """Whether it sounds higher where it plays faster."""
        return not self.is_warped or self.warp_mode == RE_PITCH

    @property
    def play_rate(self) -> float:
        """How fast it plays its file because of its transposition."""
        return float(2 ** (self.semitones / 12)) if not self.is_warped else 1.0


def placed(clips: Iterable[Clip], tempo_map: TempoMap, beats_per_bar: float = 4.0) -> list[Clip]:
    """Return clips, those of Session view laid behind the Arrangement, one scene after the other.

    So clips of one scene overlap each other, as they sound together, and no others. A clip that loops is there
    once.
    """
    scenes: dict[int, list[Clip]] = {}
    for clip in clips:
        scenes.setdefault(max(clip.slot, -1), []).append(clip)
    done = scenes.pop(-1, [])
    begin = next_bar(done, beats_per_bar)
    for slot in sorted(scenes):
        scene = [_laid(clip, begin, tempo_map) for clip in scenes[slot]]
        begin = max(begin, next_bar(scene, beats_per_bar))
        done += scene
    return done


def next_bar(clips: Iterable[Clip], beats_per_bar: float) -> float:
    """Return the beat of the first bar after clips that have their place."""
    end = max((clip.end_beats for clip in clips), default=0.0)
    return math.ceil(end / beats_per_bar - _NO_BEATS) * beats_per_bar


def _laid(clip: Clip, begin: float, tempo_map: TempoMap) -> Clip:
    """Return a clip of Session view where it is to begin."""
    start, stop = clip.loop or (clip.start, clip.stop)
    length = max(stop - start, 0.0)
    end = begin + length
    if not (clip.is_warped or clip.is_midi):
        end = tempo_map.beats_at(tempo_map.seconds_at(begin) + length / clip.play_rate)
    return replace(clip, begin_beats=begin, end_beats=end, start=start)


def item_of(clip: Clip, tempo_map: TempoMap) -> Item:
    """Return a clip as an item of a job.

    Raises:
        DawError: a loop repeats more often than any set needs.
    """
    position_s = tempo_map.seconds_at(clip.begin_beats)
    item = Item(
        id=clip.id,
        track=clip.track,
        kind="midi" if clip.is_midi else "audio",
        name=clip.name or Path(clip.file.replace("\\", "/")).stem,
        position_s=position_s,
        length_s=tempo_map.seconds_at(clip.end_beats) - position_s,
        is_selected=clip.is_selected,
        file=clip.file,
        keeps_pitch=not clip.changes_pitch,
        gain=clip.gain,
        is_launched=clip.slot >= 0,
    )
    if item.length_s <= 0:
        return replace(item, state="empty", length_s=0.0)
    item = replace(item, state=_state(clip))
    if clip.is_midi:
        return replace(item, notes=_notes(clip, item, tempo_map))
    if clip.is_warped:
        return replace(item, warp_regions=tuple(_joined(_warp_regions(clip, tempo_map))))
    return replace(item, start_offset_s=clip.start, play_rate=clip.play_rate)


def _state(clip: Clip) -> State:
    states: tuple[tuple[bool, State], ...] = (
        (clip.is_muted, "muted"),
        (clip.is_midi, "ok"),
        (clip.is_frozen, "frozen"),
        (not clip.file, "empty"),
        (clip.is_remote, "remote"),
        (clip.is_offline, "offline"),
    )
    return next((state for holds, state in states if holds), "ok")


def _loop_of(clip: Clip) -> tuple[float, float] | None:
    """Return the loop that a clip gets into, None where it plays on past it, or has none."""
    if clip.loop is None or clip.start >= clip.loop[1] - _NO_BEATS:
        return None
    return clip.loop if clip.loop[1] - clip.loop[0] >= _SHORTEST_LOOP_BEATS else None


def _warp_regions(clip: Clip, tempo_map: TempoMap) -> Iterator[WarpRegion]:
    """Yield what a warped clip plays, from one change of its speed or place to the next."""
    loop = _loop_of(clip)
    markers = _rising(clip.markers)
    begin_s = tempo_map.seconds_at(clip.begin_beats)
    tempi = [*tempo_map.beats_between(clip.begin_beats, clip.end_beats), math.inf]
    changes = [beat for _, beat in markers[1:-1]]
    loop_end = loop[1] if loop else math.inf
    beat, at, bpm = clip.begin_beats, clip.start, tempo_map.bpm_at(clip.begin_beats)
    next_tempo = 0
    for _ in range(_MOST_REGIONS):
        if beat >= clip.end_beats - _NO_BEATS:
            return
        file_s, pace_s = _warped(markers, at, 60 / bpm)
        yield WarpRegion(
            position_s=max(0.0, tempo_map.seconds_at(beat) - begin_s),
            file_s=file_s,
            play_rate=pace_s * bpm / 60,
        )
        following = bisect_right(changes, at + _NO_BEATS)
        left = changes[following] - at if following < len(changes) else math.inf
        if loop_end > at + _NO_BEATS:
            left = min(left, loop_end - at)
        step = min(left, tempi[next_tempo] - beat, clip.end_beats - beat)
        at, beat = at + step, beat + step
        if beat >= tempi[next_tempo] - _NO_BEATS:
            next_tempo += 1
            bpm = tempo_map.bpm_at(beat + _NO_BEATS)
        if loop and abs(at - loop[1]) <= _NO_BEATS:
            at = loop[0]
    raise _endless(clip)


def _endless(clip: Clip) -> DawError:
    return DawError(
        f"the clip {clip.name!r} repeats or changes more than {_MOST_REGIONS} times",
        hint="consolidate it in Live",
    )


def _warped(markers: tuple[tuple[float, float], ...], beat: float, pace_s: float) -> tuple[float, float]:
    """Return the second of the file at a beat of the clip, and how many pass in one beat from there on."""
    if len(markers) < 2:
        first_s, first_beat = markers[0] if markers else (0.0, 0.0)
        return first_s + (beat - first_beat) * pace_s, pace_s
    place = bisect_right(markers, beat + _NO_BEATS, 1, len(markers) - 1, key=itemgetter(1)) - 1
    (before_s, before), (after_s, after) = markers[place], markers[place + 1]
    pace_s = (after_s - before_s) / (after - before)
    return before_s + (beat - before) * pace_s, pace_s


def _rising(markers: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return the markers by beat; those that would let time stand still or go back are left out."""
    rising: list[tuple[float, float]] = []
    for second, beat in sorted(markers, key=lambda marker: (marker[1], marker[0])):
        if not rising or (beat > rising[-1][1] + _NO_BEATS and second > rising[-1][0] + _NO_BEATS):
            rising.append((second, beat))
    return tuple(rising)


def _joined(warp_regions: Iterable[WarpRegion]) -> Iterator[WarpRegion]:
    """Yield warped regions, without those that go on as the one before them does."""
    last: WarpRegion | None = None
    for region in warp_regions:
        if last is not None and math.isclose(region.play_rate, last.play_rate, rel_tol=1e-7):
            expected_s = last.file_s + (region.position_s - last.position_s) * last.play_rate
            if abs(region.file_s - expected_s) < 1e-6:
                continue
        yield region
        last = region


def _notes(clip: Clip, item: Item, tempo_map: TempoMap) -> tuple[Note, ...]:
    """Return what a MIDI clip plays: once up to the end of the loop, then the loop again and again."""
    numbers = pad_numbers(tuple(clip.pads.items()))
    loop = _loop_of(clip)
    stop = loop[1] if loop else math.inf
    channel = DRUM_CHANNEL if clip.pads else 0
    first, again = [], []
    for beat, number, velocity in clip.notes:
        stroke = (numbers.get(number, number), min(127, max(1, round(velocity))), channel)
        if clip.start - _NO_BEATS <= beat < stop - _NO_BEATS:
            first.append((clip.begin_beats + beat - clip.start, *stroke))
        if loop and loop[0] - _NO_BEATS <= beat < stop - _NO_BEATS:
            again.append((clip.begin_beats + (stop - clip.start) + beat - loop[0], *stroke))
    if loop and len(again) * (clip.end_beats - clip.begin_beats) > _MOST_REGIONS * (loop[1] - loop[0]):
        raise _endless(clip)
    bounds = {"position_s": item.position_s, "length_s": item.length_s}
    played = played_notes(first, period_beats=None, tempo_map=tempo_map, **bounds)
    if loop:
        played += played_notes(again, period_beats=loop[1] - loop[0], tempo_map=tempo_map, **bounds)
    return tuple(sorted(played, key=lambda note: (note.onset_beats, note.channel, note.number)))


@lru_cache(maxsize=256)  # all clips of a track have the same pads
def pad_numbers(pads: tuple[tuple[int, str], ...]) -> Mapping[int, int]:
    """Return the General MIDI notes of the pads, (note, name), whose names are those of drums."""
    found = {}
    for note, name in pads:
        words = re.sub(r"[^a-z]+", " ", name.lower())
        number = next((number for pattern, number in _PAD_NOTES if re.search(pattern, words)), None)
        if number is not None:
            found[note] = number
    return found


def live_tempo(bpm: float, events: Iterable[tuple[float, float]]) -> tuple[tuple[float, float], ...]:
    """Return the tempo of a set as steps over beats, as Live plays its automation: a new tempo at each 16th.

    Args:
        bpm: the tempo without automation.
        events: (beat, BPM) of the automation, lines between them, in any order.

    Raises:
        DawError: a tempo or a time is not possible, or there are too many.
    """
    ordered = sorted(events, key=lambda event: event[0])
    for beat, tempo in [*ordered, (0.0, bpm)]:
        if not (math.isfinite(beat) and math.isfinite(tempo) and tempo > 0):
            raise DawError(f"the set has a tempo of {tempo} BPM at beat {beat}", hint="repair it in Live")
    # Live keeps a value far before the set: where others follow, the line from there has arrived at the first.
    ordered = [event for event in ordered if event[0] >= 0] or ordered[-1:] or [(0.0, bpm)]
    tempi = {0.0: ordered[0][1]}
    for (begin, before), (end, after) in pairwise(ordered):
        first, last = (math.ceil(beat / _TEMPO_GRID_BEATS - _NO_BEATS) for beat in (begin, end))
        if before == after:
            last = min(last, first)
        if last - first > _MOST_TEMPI - len(tempi):
            raise DawError("the tempo of the set changes too often", hint="simplify its automation in Live")
        for step in range(first, last):
            beat = step * _TEMPO_GRID_BEATS
            tempi[beat] = before + (after - before) * (beat - begin) / (end - begin)
        tempi[last * _TEMPO_GRID_BEATS] = after
    changes: list[tuple[float, float]] = []
    for beat, tempo in sorted(tempi.items()):
        if not changes or tempo != changes[-1][1]:
            changes.append((beat, tempo))
    return tuple(changes)
