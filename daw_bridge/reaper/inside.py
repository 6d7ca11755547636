"""What Redrum does inside REAPER: `redrum_server.py` runs this text there and calls one of its functions.

So a call is one request, however much it reads or writes: REAPER's window waits for milliseconds, and a client
that dies leaves nothing half done. The text runs in REAPER's Python, which may be an old one, and imports
nothing but reapy; outside of REAPER it cannot be imported. Results are plain lists and dicts: what they mean is
decided outside.
"""

from __future__ import annotations

import ctypes
import time
from typing import Any

from reapy import reascript_api as RPR
from reapy.reascript_api import _RPR

_LONGEST_S = 0.04  # that REAPER's window may wait for one call, and one item more
_FIXED_LANES = 2  # a track's mode in which items lie on lanes, of which some play
_BUFFER_BYTES = 65_536  # ReaScript's own wrappers clear 4 MiB for every text, 2 ms each


def collect(rhythm_tracks: list[str], begin: list[int]) -> dict[str, Any]:
    """Return the selected items of the current project, and those on tracks whose names begin like these.

    Where that takes longer than REAPER's window should wait, another call goes on: "next" is where it begins,
    and "changes" counts the changes of the project, so that one in between shows.

    Args:
        rhythm_tracks: beginnings of names, in lower case.
        begin: the places of the first track and of the first item on it.
    """
    deadline = time.perf_counter() + _LONGEST_S
    project, _, path, _ = RPR.EnumProjects(-1, "", 4096)
    found: dict[str, Any] = {
        "project": project,
        "path": path,
        "changes": RPR.GetProjectStateChangeCount(project),
        "media_folder": RPR.GetProjectPathEx(project, "", 4096)[1],
        "bpm": RPR.GetProjectTimeSignature2(project, 0, 0)[1],
        "points": _tempo_points(project),
        "metres": _metres(project),
        "bar_offset": _setting("projmeasoffs", 0.0),
        "pan_law": _setting("panlaw", 1.0),
        "tracks": [],
        "items": [],
        "next": None,
    }
    first_track, first_item = begin
    for place in range(RPR.CountTracks(project)):
        track = RPR.GetTrack(project, place)
        name = _track_text(track, "P_NAME")
        color = RPR.GetMediaTrackInfo_Value(track, "I_CUSTOMCOLOR")
        depth = int(RPR.GetMediaTrackInfo_Value(track, "I_FOLDERDEPTH"))
        about_track = {"id": _track_text(track, "GUID"), "name": name, "color": color}
        found["tracks"].append({**about_track, "folder_depth": depth})
        if place < first_track or found["next"]:
            continue
        has_lanes = RPR.GetMediaTrackInfo_Value(track, "I_FREEMODE") == _FIXED_LANES
        is_rhythm = name.casefold().startswith(tuple(rhythm_tracks))
        for number in range(first_item if place == first_track else 0, RPR.CountTrackMediaItems(track)):
            if time.perf_counter() > deadline:
                found["next"] = [place, number]
                break
            item = RPR.GetTrackMediaItem(track, number)
            is_selected = bool(RPR.GetMediaItemInfo_Value(item, "B_UISEL"))
            if is_selected or is_rhythm:
                about = {"id": item, "track": place, "is_selected": is_selected}
                found["items"].append({**about, **_item(item, has_lanes)})
    return found


def write_back(plan: dict[str, Any]) -> dict[str, Any]:
    """Put takes on new tracks, each directly below its source track, in one undo block; all of them or none.

    Below the last track of a folder, a new track becomes the last.

    Args:
        plan: "project", a pointer; "path", where it was saved; "tracks", each with the "id" of its source
            track, a "name", a "color" (0: none), a "folder_depth" and "items", each with "file", "name",
            "position_s", "length_s" and "is_muted". Tracks of one source track come in their order.

    Returns:
        An empty dict, or under "error" why nothing was done: "closed", or the file that REAPER cannot read.
    """
    project = plan["project"]
    if not _is_open(project, plan["path"]):
        return {"error": "closed"}
    opened: list[str] = []
    for planned in [item for track in plan["tracks"] for item in track["items"]]:
        planned["source"] = RPR.PCM_Source_CreateFromFile(planned["file"])
        if _is_null(planned["source"]):  # before anything is changed, so that there is no undo step
            for source in opened:
                RPR.PCM_Source_Destroy(source)
            return {"error": planned["file"]}
        opened.append(planned["source"])
    current = RPR.EnumProjects(-1, "", 4096)[0]
    if current != project:  # tracks are inserted into the current tab only
        RPR.SelectProjectInstance(project)
    created: list[str] = []
    closing: list[tuple[str, float]] = []
    is_done = False
    RPR.Undo_BeginBlock2(project)
    RPR.PreventUIRefresh(1)
    try:
        _insert(project, plan["tracks"], created, closing)
        is_done = True
    finally:
        if not is_done:
            _delete(created)
            _set_depths(closing)
        RPR.PreventUIRefresh(-1)
        RPR.Undo_EndBlock2(project, "Redrum", -1)
        if not is_done and RPR.Undo_CanUndo2(project) == "Redrum":
            RPR.Undo_DoUndo2(project)
        if current != project:
            RPR.SelectProjectInstance(current)
        RPR.UpdateArrange()
    return {}


def _insert(
    project: str, tracks: list[dict[str, Any]], created: list[str], closing: list[tuple[str, float]]
) -> None:
    """Insert tracks with their items.

    Args:
        project: which is the current one.
        tracks: as of `write_back`.
        created: gets the new tracks.
        closing: gets the source tracks that were the last of a folder, with their depths.
    """
    n_tracks = int(RPR.CountTracks(project))
    guids = [_track_text(RPR.GetTrack(project, place), "GUID") for place in range(n_tracks)]
    below = {guid: place + 1 for place, guid in enumerate(guids)}
    depths = []
    ended = set()
    # From the lowest on, so that no place changes; below all where a track is gone.
    for plan in sorted(reversed(tracks), key=lambda plan: -below.get(plan["id"], n_tracks)):
        place = below.get(plan["id"], n_tracks)
        RPR.InsertTrackAtIndex(place, False)
        track = RPR.GetTrack(project, place)
        created.append(track)
        _set_text("GetSetMediaTrackInfo_String", "MediaTrack*", track, plan["name"])
        if plan["color"]:
            RPR.SetMediaTrackInfo_Value(track, "I_CUSTOMCOLOR", plan["color"])
        depth = plan["folder_depth"]
        if plan["id"] in below and plan["id"] not in ended:  # the lowest one of its source
            ended.add(plan["id"])
            source = RPR.GetTrack(project, place - 1)
            before = RPR.GetMediaTrackInfo_Value(source, "I_FOLDERDEPTH")
            if before < 0:
                closing.append((source, before))
                depth += before
        if depth:
            depths.append((track, depth))
        for planned in plan["items"]:
            item = RPR.AddMediaItemToTrack(track)
            RPR.SetMediaItemInfo_Value(item, "D_POSITION", planned["position_s"])
            RPR.SetMediaItemInfo_Value(item, "D_LENGTH", planned["length_s"])
            RPR.SetMediaItemInfo_Value(item, "B_LOOPSRC", 0)
            if planned["is_muted"]:
                RPR.SetMediaItemInfo_Value(item, "B_MUTE", 1)
            take = RPR.AddTakeToMediaItem(item)
            RPR.SetMediaItemTake_Source(take, planned["source"])
            _set_text("GetSetMediaItemTakeInfo_String", "MediaItem_Take*", take, planned["name"])
    _set_depths([(track, 0.0) for track, _ in closing])
    _set_depths(depths[::-1])  # a folder is opened before it is closed


def _set_depths(depths: list[tuple[str, float]]) -> None:
    for track, depth in depths:
        RPR.SetMediaTrackInfo_Value(track, "I_FOLDERDEPTH", depth)


def _delete(tracks: list[str]) -> None:
    for track in tracks:
        RPR.DeleteTrack(track)


def _is_open(project: str, path: str) -> bool:
    """Return whether a project is still in one of the tabs: a pointer alone may stand for another by now."""
    tab = 0
    while True:
        found, _, found_path, _ = RPR.EnumProjects(tab, "", 4096)
        if _is_null(found):
            return False
        if found == project:
            return bool(found_path == path or not path)  # saved in the meantime
        tab += 1


def _item(item: str, has_lanes: bool) -> dict[str, Any]:
    def value(key: str) -> float:
        return float(RPR.GetMediaItemInfo_Value(item, key))

    found: dict[str, Any] = {
        "position_s": value("D_POSITION"),
        "length_s": value("D_LENGTH"),
        "group": int(value("I_GROUPID")),
        "is_muted": bool(value("B_MUTE")),
        "is_looped": bool(value("B_LOOPSRC")),
        "is_silent_lane": has_lanes and value("C_LANEPLAYS") <= 0,
        "volume": value("D_VOL"),
        "take": None,
    }
    for key, name in (("fade_in", "FADEIN"), ("fade_out", "FADEOUT")):
        lengths = [value(f"D_{name}LEN"), value(f"D_{name}LEN_AUTO")]
        found[key] = [*lengths, value(f"C_{name}SHAPE")] if max(lengths) > 0 else None
    take = RPR.GetActiveTake(item)
    source = "" if _is_null(take) else RPR.GetMediaItemTake_Source(take)
    if not _is_null(source):
        found["take"] = _take(take, source)
    return found


def _take(take: str, source: str) -> dict[str, Any]:
    def value(key: str) -> float:
        return float(RPR.GetMediaItemTakeInfo_Value(take, key))

    found: dict[str, Any] = {
        "name": _text("GetSetMediaItemTakeInfo_String", "MediaItem_Take*", take, "P_NAME"),
        "start_offset_s": value("D_STARTOFFS"),
        "play_rate": value("D_PLAYRATE"),
        "keeps_pitch": bool(value("B_PPITCH")),
        "channel_mode": int(value("I_CHANMODE")),
        "level": [value("D_VOL"), value("D_PAN"), value("D_PANLAW")],
        "markers": [_marker(take, number) for number in range(int(RPR.GetTakeNumStretchMarkers(take)))],
        "is_midi": bool(RPR.TakeIsMIDI(take)),
        "section": None,
    }
    if found["is_midi"]:
        n_notes = RPR.MIDI_CountEvts(take, 0, 0, 0)[2]
        notes = [RPR.MIDI_GetNote(take, i, 0, 0, 0, 0, 0, 0, 0) for i in range(n_notes)]
        found["notes"] = [
            (RPR.MIDI_GetProjQNFromPPQPos(take, ppq), number, velocity, channel)
            for _, _, _, _, is_muted, ppq, _, channel, number, velocity in notes
            if not is_muted
        ]
        length, _, is_in_beats = RPR.GetMediaSourceLength(source, 0)
        found["source_beats"] = length if is_in_beats else 0.0
        return found
    is_section, _, start_s, length_s, is_reversed = RPR.PCM_Source_GetSectionInfo(source, 0, 0, 0)
    if is_section:
        found["section"] = (start_s, length_s, bool(is_reversed))
    parent = RPR.GetMediaSourceParent(source)
    while not _is_null(parent):
        source, parent = parent, RPR.GetMediaSourceParent(parent)
    found["file"] = _file_of(source)
    return found


def _marker(take: str, number: int) -> list[float]:
    """Return where in the item and in the file a stretch marker is, and how the speed glides after it."""
    _, _, _, place, file_s = RPR.GetTakeStretchMarker(take, number, 0, 0)
    return [place, file_s, RPR.GetTakeStretchMarkerSlope(take, number)]


def _metres(project: str) -> list[list[float]]:
    """Return time, numerator and denominator of each change of the metre, the first at the beginning."""
    _, _, numerator, denominator, _ = RPR.TimeMap_GetTimeSigAtTime(project, 0, 0, 0, 0)
    metres = [[0.0, numerator, denominator]]
    for number in range(RPR.CountTempoTimeSigMarkers(project)):
        marker = RPR.GetTempoTimeSigMarker(project, number, 0, 0, 0, 0, 0, 0, 0)
        if marker[7] > 0:
            metres.append([marker[3], marker[7], marker[8]])
    return metres


def _setting(name: str, default: float) -> float:
    """Return a number among the settings of the current project, which an old REAPER does not tell."""
    if not RPR.APIExists("get_config_var_string"):
        return default
    is_known, _, text, _ = RPR.get_config_var_string(name, "", 64)
    try:
        return float(text) if is_known else default
    except ValueError:
        return default


def _tempo_points(project: str) -> list[tuple[float, float, bool]]:
    """Return time, BPM and whether the tempo glides from there on, of each tempo marker."""
    points = []
    for number in range(RPR.CountTempoTimeSigMarkers(project)):
        marker = RPR.GetTempoTimeSigMarker(project, number, 0, 0, 0, 0, 0, 0, 0)
        points.append((marker[3], marker[6], bool(marker[9])))
    return points


def _is_null(pointer: str) -> bool:
    """Return whether a pointer, which reapy writes as `(Type*)0x...`, is none."""
    return not pointer or int(pointer.rpartition("0x")[2] or "0", 16) == 0


def _track_text(track: str, key: str) -> str:
    return _text("GetSetMediaTrackInfo_String", "MediaTrack*", track, key)


def _text(name: str, pointer_type: str, pointer: str, key: str) -> str:
    """Return a text of a track or take."""
    buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
    kind = ctypes.CFUNCTYPE(ctypes.c_byte, ctypes.c_uint64, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_byte)
    kind(_RPR._ft[name])(_RPR.rpr_packp(pointer_type, pointer), key.encode(), buffer, 0)
    return buffer.value.decode("utf-8", "surrogateescape")


def _set_text(name: str, pointer_type: str, pointer: str, text: str) -> None:
    """Set the name of a track or take."""
    data = text.encode("utf-8", "surrogateescape")
    buffer = ctypes.create_string_buffer(data, max(len(data) + 1, _BUFFER_BYTES))
    kind = ctypes.CFUNCTYPE(ctypes.c_byte, ctypes.c_uint64, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_byte)
    kind(_RPR._ft[name])(_RPR.rpr_packp(pointer_type, pointer), b"P_NAME", buffer, 1)


def _file_of(source: str) -> str:
    buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
    kind = ctypes.CFUNCTYPE(None, ctypes.c_uint64, ctypes.c_char_p, ctypes.c_int)
    kind(_RPR._ft["GetMediaSourceFileName"])(_RPR.rpr_packp("PCM_source*", source), buffer, _BUFFER_BYTES)
    return buffer.value.decode("utf-8", "surrogateescape")
