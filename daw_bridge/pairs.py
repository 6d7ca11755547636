"""Who is source and who is rhythm of a job; items of a track that follow one another are one performance."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from daw_bridge.session import CLOSED, OVERLAP_S, Item, Job, is_rhythm_track
from transform.errors import DawError, SettingsError
from transform.events import TempoMap

_LONGEST_GAP_BEATS = 1.0  # between items of one performance
_TOUCHING_S = 1e-3  # gaps are rounded when items are cut
_NO_SOURCES = ("muted", "silent lane", "empty")  # states of items that are left out
_MOST_NAMES = 8  # of tracks, in an error


@dataclass(frozen=True)
class Pair:
    """A source and the item that is its rhythm; None: the rhythm that the user named."""

    source: Item
    rhythm: Item | None


def pair_items(job: Job, *, has_rhythm: bool, is_on_own_track: bool = False) -> list[Pair]:
    """Return each source with its rhythm.

    Every selected audio item is a source; those of a track that follow one another are one (`performances`).
    The rhythm is the one that the user named (`has_rhythm`); else a selected MIDI item; else an item on a track
    whose name starts with "rhythm" or "target"; else, of two sources, the lower one. Of several, each source
    gets the one that overlaps it longest, or else the first; one of several items gets all of that one's track
    that overlap it. Where the rhythm `is_on_own_track`, it is a MIDI item on the source's track, nothing else.

    Raises:
        DawError: no audio item is selected, or a closed project has none.
        SettingsError: there is no rhythm for a source.
    """
    chosen = [item for item in job.items if item.is_selected]
    rhythms: list[Item] = []
    if not (has_rhythm or is_on_own_track):
        rhythms = [item for item in chosen if item.kind == "midi"]
        rhythms = rhythms or [item for item in job.items if is_rhythm_track(job.track_of(item).name)]
    taken = {id(item) for item in rhythms}
    audio = (item for item in chosen if item.kind == "audio" and id(item) not in taken)
    sources = performances(audio, job.tempo_map)
    if is_on_own_track and sources:
        return list(_pairs_on_own_tracks(job, sources))
    if not (has_rhythm or rhythms) and len(sources) == 2 and sources[0].track != sources[1].track:
        rhythms = [max(sources, key=lambda item: item.track)]
        sources.remove(rhythms[0])
    if not sources:
        raise _no_source(job)
    if has_rhythm:
        return [Pair(source, None) for source in sources]
    if not rhythms:
        raise SettingsError(
            "nothing says which rhythm to play",
            hint="name a rhythm (--rhythm), select a MIDI item too, or put an item on a track called rhythm",
        )
    find = _finder(rhythms)
    return [Pair(source, find(source)) for source in sources]


def performances(items: Iterable[Item], tempo_map: TempoMap) -> list[Item]:
    """Return items of a project, those of a track that follow one another joined to one with parts.

    They may overlap, and gaps may be as long as a beat. What cannot be played is not among the parts, and does
    not break what it lies in. The order is that of the first of each.
    """
    items = list(items)
    places = {id(item): place for place, item in enumerate(items)}
    found: list[tuple[int, Item]] = []
    for run in _runs(items, tempo_map):
        playable = [item for item in run if item.state == "ok"]
        if len(playable) > 1:
            found.append((min(places[id(item)] for item in playable), joined(playable)))
            run = [item for item in run if item.state != "ok"]
        found += [(places[id(item)], item) for item in run]
    return [item for _, item in sorted(found, key=lambda pair: pair[0])]


def _runs(items: Iterable[Item], tempo_map: TempoMap) -> Iterator[list[Item]]:
    """Yield the items of each track that follow one another."""
    tracks: dict[int, list[Item]] = {}
    for item in sorted(items, key=lambda item: item.position_s):
        if item.is_launched or item.state in _NO_SOURCES:
            yield [item]
        else:
            tracks.setdefault(item.track, []).append(item)
    for track in tracks.values():
        run, end_s = [track[0]], track[0].end_s
        for item in track[1:]:
            gap_s = tempo_map.seconds_at(tempo_map.beats_at(end_s) + _LONGEST_GAP_BEATS) - end_s
            if item.position_s > end_s + gap_s + _TOUCHING_S:
                yield run
                run = []
            run.append(item)
            end_s = max(end_s, item.end_s)
        yield run


def joined(parts: Sequence[Item]) -> Item:
    """Return the item that stands for several of a track; it has the identity of the first."""
    parts = sorted(parts, key=lambda item: item.position_s)
    if len(parts) == 1:
        return parts[0]
    first, end_s = parts[0], max(item.end_s for item in parts)
    return Item(
        id=first.id,
        track=first.track,
        kind=first.kind,
        name=first.name,
        position_s=first.position_s,
        length_s=end_s - first.position_s,
        is_selected=first.is_selected,
        file=first.file,
        keeps_pitch=any(item.keeps_pitch and not item.is_at_own_speed for item in parts),
        notes=tuple(sorted(chain(*(item.notes for item in parts)), key=lambda note: note.onset_s)),
        parts=tuple(parts),
    )


def _no_source(job: Job) -> DawError:
    """Return the error that a job has nothing to redrum."""
    if job.daw not in CLOSED:
        return DawError(
            "no audio item is selected", hint="select the drum recordings to redrum, then try again"
        )
    name = Path(job.project).name
    if names := list(dict.fromkeys(job.left_out)):
        shown = ", ".join(names[:_MOST_NAMES]) + ", ..." * (len(names) > _MOST_NAMES)
        return DawError(
            f"no audio of {name} is chosen, it lies on: {shown}",
            hint="name the tracks of its drums, as in --tracks 'drum*'",
        )
    return DawError(
        f"{name} holds no audio that could be redrummed",
        hint="record its drums to audio in the DAW, or choose others with --tracks and --items",
    )


def _pairs_on_own_tracks(job: Job, sources: Iterable[Item]) -> Iterator[Pair]:
    """Yield sources, each with the MIDI item on its own track that overlaps it longest, or else the first."""
    midi: dict[int, list[Item]] = {}
    for item in job.items:
        if item.kind == "midi":
            midi.setdefault(item.track, []).append(item)
    finders = {track: _finder(items) for track, items in midi.items()}
    for source in sources:
        if source.track not in finders:
            name = job.track_of(source).name or f"track {source.track + 1}"
            raise SettingsError(
                f"there is no MIDI item on {name}",
                hint="put the rhythm as a MIDI item on the track of its source",
            )
        yield Pair(source, finders[source.track](source))


def _finder(items: Sequence[Item]) -> Callable[[Item], Item]:
    """Return what finds, of these, the rhythm of a source."""
    begins_s = np.array([item.position_s for item in items])
    ends_s = np.array([item.end_s for item in items])

    def find(source: Item) -> Item:  # all at once: a project has thousands of each
        common_s = np.minimum(ends_s, source.end_s) - np.maximum(begins_s, source.position_s)
        longest = items[int(np.argmax(np.where(common_s > OVERLAP_S, common_s, 0.0)))]
        beside = np.flatnonzero(common_s > OVERLAP_S).tolist() if source.parts else []
        along = [items[place] for place in beside]
        along = [item for item in along if item.track == longest.track and item.state in ("ok", "muted")]
        return joined(along or [longest])

    return find
