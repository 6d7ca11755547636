"""The facts that Ardour gives of a session, made into a job; and the plan by which it takes finished takes.

Inside Ardour facts are only gathered and plans carried out, by `actions/redrum_session.lua`. Times are samples
of the session there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import soundfile

from daw_bridge.bars import Bars
from daw_bridge.session import (
    FinishedTake,
    Item,
    Job,
    Track,
    new_tracks,
    played_notes,
)
from transform.errors import DawError
from transform.events import TempoMap

_TICKS = 1920  # of a quarter note
_SAMPLE_BYTES = 4  # of the sound that Ardour stores
_SPARE_BYTES = 10 * 2**20  # that a session needs besides


def job_of(facts: Mapping[str, Any]) -> Job:
    """Return the job that facts describe.

    Args:
        facts: as `session.gather` in `actions/redrum_session.lua` returns them.

    Raises:
        DawError: a time is impossible.
        RhythmError: a tempo is.
        KeyError, TypeError, ValueError: a fact is missing, or of another type.
    """
    rate = facts["sample_rate"]
    tempo = _tempo(facts["tempo"], rate)
    tempo_map = TempoMap(tempo)
    items = [_item(item, rate, tempo_map) for item in facts["items"]]
    return Job(
        daw="ardour",
        project=facts["path"],
        project_id=facts["folder"],
        media_folder=facts["media_folder"],
        tempo=tempo,
        bars=Bars.of((ticks / _TICKS, *metre) for ticks, *metre in facts["metres"]),
        tracks=tuple(_track(track) for track in facts["tracks"]),
        items=tuple(
            replace(item, covered_s=covered_s)
            for item, covered_s in zip(items, _covered_s(facts["items"], rate), strict=True)
        ),
    )


def plan_of(job: Job, takes: Sequence[FinishedTake], media: Sequence[Path]) -> list[dict[str, Any]]:
    """Return the tracks that Ardour is to make, each with the `id` of the track that it comes below.

    Raises:
        DawError: Ardour could not store the takes in the session: it would not say so itself.
    """
    _check_room(Path(job.project_id), takes)
    return [
        {
            "id": job.tracks[track.source].id,
            "name": track.name,
            "color": job.tracks[track.source].color,
            "items": [
                {
                    "file": str(media[n]),
                    "name": takes[n].name,
                    "position_s": takes[n].source.position_s,
                    "n_channels": takes[n].n_channels,
                    "n_samples": soundfile.info(takes[n].file).frames,
                }
                for n in track.takes
            ],
        }
        for track in new_tracks(job, takes)
    ]


def _tempo(points: Sequence[tuple[int, int, float]], rate: int) -> tuple[tuple[float, float], ...]:
    """Return a session's tempo as steps over beats.

    Args:
        points: ticks, sample and BPM of each step; where it glides, BPM in the middle.
        rate: samples a second.
    """
    changes = [(ticks / _TICKS, bpm) for ticks, _, bpm in points]
    for n, ((ticks, sample, bpm), (end_ticks, end_sample, _)) in enumerate(pairwise(points)):
        n_minutes, n_beats = (end_sample - sample) / rate / 60, (end_ticks - ticks) / _TICKS
        if abs(n_minutes * bpm - n_beats) > bpm / 60 / rate:  # more than what Ardour rounds
            changes[n] = changes[n][0], n_beats / n_minutes
    return tuple(changes)


def _track(found: Mapping[str, Any]) -> Track:
    group = found.get("group")
    folders = (group,) if group else ()
    return Track(
        id=found["id"], name=found["name"], color=int(found["color"]), folders=folders, folder_ids=folders
    )


def _item(found: Mapping[str, Any], rate: int, tempo_map: TempoMap) -> Item:
    """Return a region as an item."""
    item = Item(
        id=found["id"],
        track=found["track"],
        kind="midi" if "notes" in found else "audio",
        name=found["name"],
        position_s=found["position"] / rate,
        length_s=found["length"] / rate,
        is_selected=found["is_selected"],
        state="muted" if found["is_muted"] else "ok",
    )
    if item.kind == "midi":
        notes = played_notes(
            found["notes"],
            period_beats=None,
            position_s=item.position_s,
            length_s=item.length_s,
            tempo_map=tempo_map,
        )
        return replace(item, notes=notes)
    sources = tuple((str(path), int(channel)) for path, channel in found["sources"])
    if not sources:
        return replace(item, state="combined")  # whose sound is a playlist's
    item = replace(item, file=sources[0][0], channel_files=sources, gain=found["gain"])
    if item.state == "ok" and not all(os.path.isfile(path) for path, _ in sources):
        return replace(item, state="offline")
    # Ardour plays a file of another rate sample by sample.
    return replace(item, sample_rate=rate, start_offset_s=found["start"] / rate)


def _covered_s(regions: Sequence[Mapping[str, Any]], rate: int) -> Iterator[tuple[tuple[float, float], ...]]:
    """Yield of each region the times, from its start, at which opaque ones of its track lie over it."""
    opaque: dict[tuple[int, bool], list[tuple[int, int, int]]] = {}  # begin, end and layer
    for found in regions:
        if found.get("is_opaque") and not found["is_muted"]:
            key = found["track"], found["is_selected"]
            begin = found["position"]
            opaque.setdefault(key, []).append((begin, begin + found["length"], found["layer"]))
    for found in regions:
        begin, length = found["position"], found["length"]
        yield tuple(
            (max(0, start - begin) / rate, min(length, end - begin) / rate)
            for start, end, layer in opaque.get((found["track"], found["is_selected"]), ())
            if "layer" in found and layer > found["layer"] and start < begin + length and end > begin
        )


def _check_room(folder: Path, takes: Sequence[FinishedTake]) -> None:
    """Raise DawError where a session's folder takes no file, or not as much as its takes need."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as err:
        raise DawError(
            f"nothing can be written into {folder}: {err.strerror or err}",
            hint="make the session's folder writable, or save the session elsewhere, then run the action again",
        ) from err
    needed = _SPARE_BYTES + sum(_SAMPLE_BYTES * _n_samples(take) for take in takes)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DawError(
            f"the takes need {needed / 2**20:.0f} MB, and {free / 2**20:.0f} MB are free in {folder}",
            hint="make room, then run the action again",
        )


def _n_samples(take: FinishedTake) -> int:
    with soundfile.SoundFile(take.file) as file:
        return int(file.frames) * int(file.channels)
