"""Items of a track that follow one another are one performance: an item with parts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from daw_bridge.session import Item
from transform.events import TempoMap

UNPLAYED = ("muted", "silent lane", "empty", "combined")  # states of items that are left out
_LONGEST_GAP_BEATS = 1.0  # between items of one performance
_TOUCHING_S = 1e-3  # gaps are rounded when items are cut


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
        if item.is_launched or item.state in UNPLAYED:
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
