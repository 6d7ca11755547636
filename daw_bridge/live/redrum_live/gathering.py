"""What a job needs to know of the set that is open in Live, as the text of one JSON object, in small blocks.

Between two blocks Live goes on, so that no set, however large, stops it. Keys have Live's own names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .server import SCHEMA

__all__ = ["gather", "look", "version_of"]

_CLIPS_AT_ONCE, _NOTES_AT_ONCE = 50, 200


def version_of(application: Any) -> list[int]:
    """Return the version of Live, such as 12, 0, 5."""
    return [
        application.get_major_version(),
        application.get_minor_version(),
        application.get_bugfix_version(),
    ]


def look(song: Any, application: Any) -> Iterator[str]:
    """Yield an object with the version of Live and the set that is open."""
    yield json.dumps({"schema": SCHEMA, "live": version_of(application), "set": _set(song)})


def gather(song: Any, application: Any, request: dict[str, Any]) -> Iterator[str]:
    """Yield an object that describes the chosen clips and those on tracks for rhythms.

    Args:
        song: the set.
        application: Live.
        request: `scope`, either "clips" (the clip that Live shows, and in Session view the chosen row of all
            selected tracks) or "loop" (what the loop of the Arrangement touches, on selected tracks), and
            `rhythm_tracks`, how the names of tracks begin whose clips are described in any case.
    """
    tracks = list(song.tracks)
    choice = _Choice(song, application, request, tracks)
    yield json.dumps({"schema": SCHEMA, "live": version_of(application), "set": _set(song)})[:-1]
    yield ', "clips": ['
    separator = ""
    for place, track in enumerate(tracks):
        pads = None
        is_for_rhythms = choice.is_for_rhythms(track)
        for number, (slot, clip) in enumerate(_clips(track)):
            if number % _CLIPS_AT_ONCE == 0:
                yield ""
            is_selected = choice.holds(track, slot, clip)
            if not (is_selected or is_for_rhythms):
                continue
            if clip.is_midi_clip and pads is None:
                pads = _pads(track)
            about = _clip(clip, slot, track.is_frozen)
            about.update(track=place, is_selected=is_selected)
            yield separator + json.dumps(about)[:-1]
            yield from _contents(clip, pads)
            yield "}"
            separator = ", "
        yield ""
    yield '], "tracks": '
    yield json.dumps([_track(track) for track in tracks])
    if list(song.tracks) != tracks:
        raise RuntimeError("the tracks changed while they were read")
    yield "}"


class _Choice:
    """Which clips are selected. Scripts can ask Live for selected tracks, one clip and one scene, not more."""

    def __init__(self, song: Any, application: Any, request: dict[str, Any], tracks: list[Any]) -> None:
        self._prefixes = tuple(str(prefix).lower() for prefix in request.get("rhythm_tracks", ()))
        self._selected = [track for track in tracks if track.is_part_of_selection]
        self._loop: tuple[float, float] | None = None
        self._detail, self._row = None, -1
        if request.get("scope") == "loop":
            self._loop = (song.loop_start, song.loop_start + song.loop_length)
            return
        self._detail = song.view.detail_clip
        if application.view.focused_document_view == "Session" and len(self._selected) > 1:
            self._row = list(song.scenes).index(song.view.selected_scene)

    def holds(self, track: Any, slot: int, clip: Any) -> bool:
        """Return whether a clip is selected."""
        if self._loop is not None:
            begin, end = self._loop
            touches = slot < 0 and clip.start_time < end and clip.end_time > begin
            return bool(touches and track in self._selected)
        return bool(clip == self._detail or (0 <= slot == self._row and track in self._selected))

    def is_for_rhythms(self, track: Any) -> bool:
        """Return whether the clips of a track are described even if they are not selected."""
        return bool(track.name.lower().startswith(self._prefixes)) if self._prefixes else False


def _set(song: Any) -> dict[str, Any]:
    tempo = song.master_track.mixer_device.song_tempo
    return {
        "id": str(song._live_ptr),
        # Live 11 has no path of the set.
        "path": getattr(song, "file_path", "") or "",
        "tempo": song.tempo,
        "is_tempo_automated": int(tempo.automation_state) != 0,
        "signature": [song.signature_numerator, song.signature_denominator],
    }


def _track(track: Any) -> dict[str, Any]:
    group = str(track.group_track._live_ptr) if track.is_grouped else ""
    return {"id": str(track._live_ptr), "name": track.name, "color": track.color, "group": group}


def _clips(track: Any) -> Iterator[tuple[int, Any]]:
    """Yield the clips of a track, each with its slot, -1 in the Arrangement."""
    for clip in track.arrangement_clips:
        yield -1, clip
    for number, slot in enumerate(track.clip_slots):
        if slot.has_clip:
            yield number, slot.clip


def _clip(clip: Any, slot: int, is_frozen: bool) -> dict[str, Any]:
    """Return the facts that all clips have; times of the clip are in beats, or seconds if it is not warped."""
    return {
        "id": str(clip._live_ptr),
        "slot": slot,
        "name": clip.name,
        "color": clip.color,
        "is_muted": bool(clip.muted),
        "is_frozen": bool(is_frozen),
        "is_midi": bool(clip.is_midi_clip),
        "start_time": clip.start_time if slot < 0 else 0.0,
        "end_time": clip.end_time if slot < 0 else 0.0,
        "start_marker": clip.start_marker,
        "end_marker": clip.end_marker,
        "looping": bool(clip.looping),
        "loop_start": clip.loop_start,
        "loop_end": clip.loop_end,
        "signature": [clip.signature_numerator, clip.signature_denominator],
    }


def _contents(clip: Any, pads: dict[str, str] | None) -> Iterator[str]:
    """Yield the rest of a clip's object: its file and how that is warped, or its notes."""
    if not clip.is_midi_clip:
        warping = bool(clip.warping)
        markers = [[marker.sample_time, marker.beat_time] for marker in clip.warp_markers] if warping else []
        about = {
            "file": clip.file_path,
            "warping": warping,
            "warp_mode": int(clip.warp_mode),
            "warp_markers": markers,
            "sample_rate": clip.sample_rate,
            "sample_length": clip.sample_length,
            "gain": clip.gain,
            "pitch": clip.pitch_coarse + clip.pitch_fine / 100.0,
        }
        yield ", " + json.dumps(about)[1:-1]
        return
    begin = min(clip.start_marker, clip.loop_start)
    end = max(clip.end_marker, clip.loop_end)
    notes = clip.get_notes_extended(0, 128, begin, max(end - begin, 0.001))
    n_uncertain, separator = 0, ""
    yield ', "pads": ' + json.dumps(pads) + ', "notes": ['
    for first in range(0, len(notes), _NOTES_AT_ONCE):
        block = []
        for number in range(first, min(first + _NOTES_AT_ONCE, len(notes))):
            note = notes[number]
            if not note.mute:
                n_uncertain += note.probability < 1
                block.append([note.start_time, note.pitch, note.velocity])
        yield separator + json.dumps(block)[1:-1] if block else ""
        separator = ", " if block else separator
    yield '], "n_uncertain": ' + str(n_uncertain)


def _pads(track: Any) -> dict[str, str]:
    """Return the names of a track's drum pads by their notes."""
    return {str(pad.note): pad.chains[0].name for pad in _drum_pads(track.devices) if len(pad.chains)}


def _drum_pads(devices: Any) -> Iterator[Any]:
    """Yield the pads of the first drum rack, which may lie in other racks."""
    for device in devices:
        if device.can_have_drum_pads:
            yield from device.drum_pads
            return
        if device.can_have_chains:
            for chain in device.chains:
                found = list(_drum_pads(chain.devices))
                if found:
                    yield from found
                    return
