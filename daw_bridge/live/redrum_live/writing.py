"""Takes into the set that is open in Live: all of them or none, as one undo step."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .server import SCHEMA

__all__ = ["write"]

_TOLERANCE = 0.001  # of the length of a take, that its warping may be wrong by
_WRONG_LENGTH = 0.01  # of the length of a take: clips may end a little off


def write(song: Any, warp_marker: Any, request: dict[str, Any]) -> Iterator[str]:
    """Yield an object with a note for each written take; nothing that was in the set before is changed.

    An undo step ends with the call that began it, so all of this is one block of the answer.

    Args:
        song: the set.
        warp_marker: Live's class.
        request: `set`, the id of the set that the takes belong to, and `tracks`: each with `id` (of the source
            track), `name`, `color` and `clips`, which have `file`, `name`, `color`, `slot` (-1: the
            Arrangement), `beats` (where), `length` (in beats), `gain` and `warp`, None or with `seconds`,
            `beats`, `mode`, `pitch` and `is_looped`.
    """
    if request.get("set") != str(song._live_ptr):
        yield json.dumps({"schema": SCHEMA, "error": "closed"})
        return
    made: list[Any] = []
    song.begin_undo_step()
    try:
        notes = [_write_track(song, warp_marker, track, made) for track in request["tracks"]]
    except Exception as err:
        why = str(err)
        if not all([_tried(_delete, (song, track)) for track in reversed(made)]):
            why += "; undo once in Live takes back what it left"
        yield json.dumps({"schema": SCHEMA, "error": "unwritten", "why": why})
        return
    finally:
        song.end_undo_step()
    yield json.dumps({"schema": SCHEMA, "notes": [note for track in notes for note in track]})


def _write_track(song: Any, warp_marker: Any, planned: dict[str, Any], made: list[Any]) -> list[str]:
    """Make a track with its clips, and return the problem of each clip, "" where all is well."""
    ids = [str(track._live_ptr) for track in song.tracks]
    # Where the source track is gone, the new one comes last.
    place = ids.index(planned["id"]) + 1 if planned["id"] in ids else -1
    track = song.create_audio_track(place)
    made.append(track)
    track.name = planned["name"]
    track.color = planned["color"]
    notes = []
    for about in planned["clips"]:
        if about["slot"] < 0:
            clip = track.create_audio_clip(about["file"], about["beats"])
        else:
            clip = track.clip_slots[about["slot"]].create_audio_clip(about["file"])
        clip.name = about["name"]
        clip.color = about["color"]
        clip.gain = about["gain"]
        problem = _warp(clip, warp_marker, about["warp"])
        note = "it does not follow the tempo of the set: " + problem if problem else ""
        length = clip.end_time - clip.start_time
        if about["slot"] < 0 and abs(length - about["length"]) > _WRONG_LENGTH * about["length"]:
            note += "; " * bool(note) + f"its clip is {length:.2f} beats long, not {about['length']:.2f}"
        notes.append(note)
    return notes


def _warp(clip: Any, warp_marker: Any, warp: dict[str, Any] | None) -> str:
    """Let a clip follow the tempo of the set, or not; return why it does not if it should."""
    clip.warping = False
    if warp is None:
        return ""
    try:
        clip.warping = True
        clip.warp_mode = warp["mode"]
        _set_markers(clip, warp_marker, warp["seconds"], warp["beats"])
        # Live's preferences may have warped the clip on their own: only what can be read back counts.
        end = clip.beat_to_sample_time(warp["beats"]) - clip.beat_to_sample_time(0.0)
        expected = warp["seconds"] * clip.sample_rate
        if abs(end - expected) > _TOLERANCE * expected:
            raise ValueError("Live did not take its warp markers")
        clip.pitch_coarse = round(warp["pitch"])
        clip.pitch_fine = 100.0 * (warp["pitch"] - round(warp["pitch"]))
        if warp["is_looped"]:
            clip.looping = True
            clip.loop_start, clip.loop_end = 0.0, warp["beats"]
    except Exception as err:
        clip.pitch_coarse = clip.pitch_fine = 0  # of a clip that is not warped it would be another speed
        clip.warping = False
        return str(err)
    return ""


def _set_markers(clip: Any, warp_marker: Any, seconds: float, beats: float) -> None:
    """Give a clip two warp markers, at its ends; markers that Live does not remove stay."""
    targets = [(0.0, 0.0), (seconds, beats)]
    for marker in list(clip.warp_markers):
        if (marker.sample_time, marker.beat_time) not in targets:
            _tried(clip.remove_warp_marker, marker.beat_time)
    there = [(marker.sample_time, marker.beat_time) for marker in clip.warp_markers]
    for sample_time, beat_time in targets:
        if (sample_time, beat_time) not in there:
            _tried(clip.add_warp_marker, warp_marker(sample_time, beat_time))


def _delete(doomed: tuple[Any, Any]) -> None:
    """Delete a track of a set."""
    song, track = doomed
    song.delete_track(list(song.tracks).index(track))


def _tried(what: Any, argument: Any) -> bool:
    """Do what Live may refuse, and return whether it did not."""
    try:
        what(argument)
    except Exception:
        return False
    return True
