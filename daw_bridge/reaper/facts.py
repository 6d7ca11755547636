"""The facts that REAPER gives of a project, made into a job; and the plan by which it inserts finished takes.

Inside REAPER facts are only gathered and plans carried out, by `inside.py` (through reapy) and by
`actions/redrum.lua` (the action), in the same terms: both give the dict that `job_of` reads, and both take the
list that `plan_of` makes. Whatever has to be decided is decided here and in `session`.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from daw_bridge.bars import Bars
from daw_bridge.session import (
    PLAY_RATES,
    Fade,
    FinishedTake,
    Item,
    Job,
    State,
    Track,
    WarpRegion,
    new_tracks,
    played_notes,
    project_tempo,
)
from transform.events import TempoMap

CUSTOM_COLOR = 0x1000000  # the bit of a color that is set


def job_of(facts: Mapping[str, Any]) -> Job:
    """Return the job that facts describe.

    Args:
        facts: as `inside.collect` returns them; what is None there may be missing here.

    Raises:
        DawError: a time, tempo or play rate is impossible.
        KeyError, TypeError, ValueError: a fact is missing, or of another type.
    """
    tempo = project_tempo(facts["bpm"], [(at_s, bpm, glides) for at_s, bpm, glides in facts["points"]])
    tempo_map = TempoMap(tempo)
    return Job(
        daw="reaper",
        project=facts["path"],
        project_id=facts["project"],
        media_folder=facts["media_folder"],
        tempo=tempo,
        bars=Bars.of(
            ((tempo_map.beats_at(at_s), *metre) for at_s, *metre in facts.get("metres", ())),
            1 + int(facts.get("bar_offset", 0)),
        ),
        tracks=in_folders(
            [_track(track) for track in facts["tracks"]],
            [int(track.get("folder_depth", 0)) for track in facts["tracks"]],
        ),
        items=tuple(_item(item, tempo_map, facts.get("pan_law", 1.0)) for item in facts["items"]),
    )


def plan_of(job: Job, takes: Sequence[FinishedTake], media: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the tracks that REAPER is to insert, each with the `id` of the track that it comes below."""
    return [
        {
            "id": job.tracks[track.source].id,
            "name": track.name,
            "color": job.tracks[track.source].color,
            "folder_depth": track.folder_depth,
            "items": [
                {
                    "file": str(media[n]),
                    "name": takes[n].name,
                    "position_s": takes[n].source.position_s,
                    "length_s": takes[n].length_s,
                    "is_muted": track.is_muted,
                }
                for n in track.takes
            ],
        }
        for track in new_tracks(job, takes)
    ]


def in_folders(tracks: Iterable[Track], depths: Iterable[int]) -> tuple[Track, ...]:
    """Return tracks with the folders that they lie in.

    Args:
        tracks: of a project, from the top.
        depths: of each 1 if it begins a folder, below 0 if so many end with it, else 0.
    """
    found: list[Track] = []
    around: tuple[Track, ...] = ()
    for track, depth in zip(tracks, depths, strict=True):
        names, ids = (tuple(getattr(one, key) for one in around) for key in ("name", "id"))
        found.append(replace(track, folders=names, folder_ids=ids))
        around = (*around, track) if depth > 0 else around[: max(0, len(around) + depth)]
    return tuple(found)


def _track(found: Mapping[str, Any]) -> Track:
    color = int(found["color"])
    return Track(id=found["id"], name=found["name"], color=color if color & CUSTOM_COLOR else 0)


def _item(found: Mapping[str, Any], tempo_map: TempoMap, pan_law: float) -> Item:
    """Return an item as REAPER describes it."""
    item = Item(
        id=found["id"],
        track=found["track"],
        kind="audio",
        name="",
        position_s=found["position_s"],
        length_s=found["length_s"],
        is_selected=found["is_selected"],
        group=group_of(found.get("group", 0)),
        is_looped=found["is_looped"],
        fade_in=_fade(found.get("fade_in")),
        fade_out=_fade(found.get("fade_out")),
    )
    take = found.get("take")
    if take is None or item.length_s <= 0:
        return replace(item, state="empty")
    item = replace(
        item,
        kind="midi" if take["is_midi"] else "audio",
        name=take["name"],
        start_offset_s=take["start_offset_s"],
        play_rate=take["play_rate"],
        keeps_pitch=take["keeps_pitch"],
        channel_mode=take["channel_mode"],
        state=_state(found, take),
    )
    if take["is_midi"]:
        notes = played_notes(
            take["notes"],
            period_beats=take["source_beats"] / item.play_rate if item.is_looped else None,
            position_s=item.position_s,
            length_s=item.length_s,
            tempo_map=tempo_map,
        )
        return replace(item, notes=notes)
    volume, pan, law = take.get("level", (1.0, 0.0, -1.0))
    gain = found.get("volume", 1.0) * volume * pan_gain(pan, law, pan_law)
    item = replace(item, file=take["file"], gain=gain, pan=clipped_pan(pan))
    if take.get("section"):
        start_s, length_s, is_reversed = take["section"]
        item = replace(
            item, section_start_s=start_s, section_length_s=length_s or None, is_reversed=is_reversed
        )
    return stretched(item, take.get("markers") or ())


def _fade(found: Sequence[float] | None) -> Fade:
    """Return a fade of which the length, that of an automatic one, and the shape are given."""
    length_s, automatic_s, shape = found or (0.0, 0.0, 0)
    return fade_of(length_s, automatic_s, shape)


def fade_of(length_s: float, automatic_s: float, shape: float) -> Fade:
    """Return a fade as REAPER notes it: where there is an automatic one, that is the fade."""
    return Fade(length_s=max(0.0, automatic_s if automatic_s > 0 else length_s), shape=int(shape))


def group_of(number: float) -> str:
    """Return the id of a group of items by REAPER's number; 0 is none."""
    return str(int(number)) if number else ""


def clipped_pan(pan: float) -> float:
    """Return a pan, -1 to 1."""
    return max(-1.0, min(1.0, pan))


def pan_gain(pan: float, law: float, project_law: float) -> float:
    """Return the gain of a take by its pan law, against that of a new take in the middle.

    A new take has the law of the project, which REAPER applies to it: what it does to all takes is left to it.

    Args:
        pan: of the take, -1 to 1.
        law: of the take: the gain in the middle, or above 1 that at the sides; below 0 it is the project's.
        project_law: the same of the project.
    """
    project_law = project_law if project_law > 0 else 1.0
    own = law if law >= 0 else project_law
    at_side = abs(clipped_pan(pan))
    gain = own + (1 - own) * at_side if own < 1 else 1 + (own - 1) * at_side
    return gain / min(project_law, 1.0)


def stretched(item: Item, markers: Iterable[Sequence[float]]) -> Item:
    """Return an item that plays its file as its stretch markers say.

    One whose speed glides, or that plays a section or backwards, has the state "stretched" instead.

    Args:
        item: without markers.
        markers: of each the place in the item before its play rate, that in the file, how the speed glides.
    """
    ordered = sorted(tuple(marker) for marker in markers)
    if not ordered:
        return item
    points = [(place / item.play_rate, file_s) for place, file_s, _ in ordered]
    is_plain = not (item.is_reversed or item.section_start_s or item.section_length_s)
    is_rising = all(after[0] > before[0] for before, after in pairwise(points))
    regions = tuple(_regions(item, points)) if is_plain and is_rising else ()
    is_possible = all(PLAY_RATES[0] <= region.play_rate <= PLAY_RATES[1] for region in regions)
    if not (regions and is_possible) or any(slope for *_, slope in ordered):
        return item if item.state != "ok" else replace(item, state="stretched")
    return replace(item, warp_regions=regions)


def _regions(item: Item, points: Sequence[tuple[float, float]]) -> Iterator[WarpRegion]:
    """Yield what an item plays between stretch markers (time in the item, in the file), and around them."""
    begin_s = (-math.inf, points[0][1], item.play_rate)
    speeds = [
        (before_s, file_s, (after_file_s - file_s) / (after_s - before_s))
        for (before_s, file_s), (after_s, after_file_s) in pairwise(points)
    ]
    ends = [*(at_s for at_s, _ in points), math.inf]
    for (at_s, file_s, rate), end_s in zip(
        [begin_s, *speeds, (*points[-1], item.play_rate)], ends, strict=True
    ):
        if end_s <= 0 or at_s >= item.length_s:
            continue
        known_s = points[0][0] if at_s == -math.inf else at_s
        first_s = max(0.0, at_s)
        yield WarpRegion(position_s=first_s, file_s=file_s + (first_s - known_s) * rate, play_rate=rate)


def _state(found: Mapping[str, Any], take: Mapping[str, Any]) -> State:
    if found["is_muted"]:
        return "muted"
    if found.get("is_silent_lane"):
        return "silent lane"
    if take["is_midi"]:
        return "ok"
    if not take["file"]:
        return "empty"
    return "ok" if os.path.isfile(take["file"]) else "offline"
