"""The facts that REAPER gives of a project, made into a job; and the plan by which it inserts finished takes.

Inside REAPER facts are only gathered and plans carried out, by `inside.py` (through reapy) and by
`actions/redrum.lua` (the action), in the same terms: both give the dict that `job_of` reads, and both take the
list that `plan_of` makes. Whatever has to be decided is decided here and in `session`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from daw_bridge.session import (
    FinishedTake,
    Item,
    Job,
    State,
    Track,
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
        tracks=tuple(_track(track) for track in facts["tracks"]),
        items=tuple(_item(item, tempo_map) for item in facts["items"]),
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


def _track(found: Mapping[str, Any]) -> Track:
    color = int(found["color"])
    return Track(id=found["id"], name=found["name"], color=color if color & CUSTOM_COLOR else 0)


def _item(found: Mapping[str, Any], tempo_map: TempoMap) -> Item:
    """Return an item as REAPER describes it."""
    item = Item(
        id=found["id"],
        track=found["track"],
        kind="audio",
        name="",
        position_s=found["position_s"],
        length_s=found["length_s"],
        is_selected=found["is_selected"],
        is_looped=found["is_looped"],
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
    item = replace(item, file=take["file"])
    if take.get("section"):
        start_s, length_s, is_reversed = take["section"]
        item = replace(
            item, section_start_s=start_s, section_length_s=length_s or None, is_reversed=is_reversed
        )
    return item


def _state(found: Mapping[str, Any], take: Mapping[str, Any]) -> State:
    if found["is_muted"]:
        return "muted"
    if take["is_stretched"]:
        return "stretched"
    if take["is_midi"]:
        return "ok"
    if not take["file"]:
        return "empty"
    return "ok" if os.path.isfile(take["file"]) else "offline"
