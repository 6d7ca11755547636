"""Closed sets of Ableton Live 10 to 12: what is in them, and takes rendered into a folder beside the set.

A set is only ever read. What its elements mean was read off sets of Live 10, 11 and 12, as Ableton documents
none of it.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property
from operator import itemgetter
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from daw_bridge.bars import Bars
from daw_bridge.choice import EVERYTHING, Choice
from daw_bridge.live.als_xml import Node, number_of, read_set
from daw_bridge.live.clips import Clip, item_of, live_tempo, placed
from daw_bridge.media import MOST_SEARCHES, is_on_other_share
from daw_bridge.session import (
    FinishedTake,
    Item,
    Job,
    Track,
    file_name,
    short_name,
    with_elements_of,
)
from transform.confined import is_link
from transform.errors import DawError, OutputError
from transform.events import TempoMap
from transform.files import atomic_files, check_output_folder
from transform.names import existing_path, same_name

_TRACKS = ("AudioTrack", "MidiTrack", "GroupTrack")
_CLIPS = ("AudioClip", "MidiClip")
# Types of relative paths; others begin in Live's packs, its library or its program.
_FROM_PROJECT, _IN_PROJECT = "1", "3"  # the second cannot leave the project's folder
_RELINKED = (
    "Samples/Imported",
    "Samples/Recorded",
    ".",
)  # folders of a project that lost files are looked for in
_PROJECT_MARK = "Ableton Project Info"  # a folder of this name lies where a project begins
_MOST_TRACKS = 10_000
_MOST_GROUPS = 100  # in each other
_METRES = 99  # numerators of each denominator of a time signature, as Live numbers them
_COMMON_TIME = 201
_CLIP_TEMPO = ((0.0, 120.0),)  # of a clip that was saved without its set


_log = logging.getLogger(__name__)


class AlsSession:
    """A closed set. Takes go into a folder; the set itself is only ever read."""

    def __init__(self, path: Path, output: Path, choice: Choice, *, overwrite: bool) -> None:
        self.path, self.output = path, output
        self._choice, self._overwrite = choice, overwrite
        root = read_set(path).first("LiveSet")
        assert root is not None
        self._tracks = [
            node for tracks in root.all("Tracks") for node in tracks.children if node.tag in _TRACKS
        ]
        if len(self._tracks) > _MOST_TRACKS:
            raise DawError(
                f"{path.name} has more than {_MOST_TRACKS:,} tracks",
                hint="export the tracks you need from Live",
            )
        self._master = root.first("MainTrack") or root.first("MasterTrack")
        self.tempo = _tempo(self._master) if self._master or not _is_clip(path) else _CLIP_TEMPO
        self._bars = _bars(self._master)
        self._media = _Media(path, self._tracks)

    def collect(self) -> Job:
        """Return the chosen clips and those on rhythm tracks; see `Session.collect`."""
        tempo_map = TempoMap(self.tempo)
        tracks = self._read_tracks()
        items, left_out = self._choice.of(self._items(tracks, tempo_map))
        return Job(
            daw="als",
            project=str(self.path),
            project_id=str(self.path),
            media_folder=str(self.output),
            tempo=self.tempo,
            bars=self._bars,
            tracks=tracks,
            items=tuple(items),
            left_out=left_out,
        )

    def _read_tracks(self) -> tuple[Track, ...]:
        names = {node.attributes.get("Id"): _name(node) for node in self._tracks}
        around = {node.attributes.get("Id"): node.value("TrackGroupId") for node in self._tracks}
        tracks = []
        for place, node in enumerate(self._tracks):
            groups: list[str | None] = []
            group = around[node.attributes.get("Id")]
            while group in names and len(groups) < _MOST_GROUPS:
                groups.insert(0, group)
                group = around[group]
            track_id = node.attributes.get("Id", str(place))
            folders = tuple(names[group] for group in groups)
            tracks.append(
                Track(id=track_id, name=_name(node), folders=folders, folder_ids=tuple(map(str, groups)))
            )
        return tuple(tracks)

    def _items(self, tracks: Sequence[Track], tempo_map: TempoMap) -> Iterator[tuple[Item, Track]]:
        """Yield all clips in order as items, each with its track."""
        n_elements = 0
        for clip in self._clips(tempo_map):
            item = item_of(clip, tempo_map)
            n_elements = with_elements_of(item, n_elements)
            yield item, tracks[item.track]

    def write_back(self, job: Job, takes: Sequence[FinishedTake]) -> list[Path]:
        """Put the takes into the folder, named after their tracks and where they begin; see `Session`."""
        paths: list[Path] = []
        for take in takes:
            stem, number = self._file_stem(job, take), 1
            while (path := self.output / f"{stem}{f'-{number}' * (number > 1)}{take.file.suffix}") in paths:
                number += 1
            paths.append(path)
        with atomic_files(paths, overwrite=self._overwrite) as temporaries:
            for take, temporary in zip(takes, temporaries, strict=True):
                shutil.copyfile(take.file, temporary)
        return paths

    def _file_stem(self, job: Job, take: FinishedTake) -> str:
        """Return how a take's file is called, so that it is found where it belongs: track, bar and beat."""
        beat = job.tempo_map.beats_at(take.source.position_s)
        bar, begin = job.bars.at(beat)
        track = job.track_of(take.source).name
        return file_name(f"{track} {bar}.{int(beat - begin + 1e-6) + 1} {take.name}")

    def _clips(self, tempo_map: TempoMap) -> list[Clip]:
        """Return the clips of the Arrangement; of a set that has none there, those of Session view."""
        arranged: list[Clip] = []
        in_session: list[Clip] = []
        for place, track in enumerate(self._tracks):
            is_frozen, pads = track.is_on("Freeze"), _pads(track)
            for sequencer in track.all("DeviceChain", "MainSequencer"):
                for slot, node in _clip_nodes(sequencer):
                    clip = _clip(node, f"{place} {node.attributes.get('Id', '')} {slot}", self._media)
                    clip = replace(clip, track=place, slot=slot, is_frozen=is_frozen, pads=pads)
                    (arranged if slot < 0 else in_session).append(clip)
        return placed(arranged or in_session, tempo_map, self._bars.metres[0][1])


def _is_clip(path: Path) -> bool:
    """Return whether a file is a clip that Live has saved alone; it may state no tempo."""
    return path.suffix.lower() == ".alc"


def result_folder(path: Path) -> Path:
    """Return the folder that takes of a set go into."""
    return path.with_name(f"{path.stem}-redrum")


def open_set(
    path: Path,
    *,
    choice: Choice = EVERYTHING,
    output: Path | None = None,
    overwrite: bool = False,
) -> AlsSession:
    """Return the session of a closed set; as `rpp.open_project`, whose project is a folder of takes here.

    Raises:
        DawError: the set cannot be read, or is broken or hostile.
        OutputError: `output` holds something and is not to be added to, or cannot be written.
    """
    if output is None:
        output = result_folder(path)
        if is_link(output):
            raise OutputError(f"{output} is a link, which is not followed", hint="move it away")
    session = AlsSession(path, output, choice, overwrite=overwrite)
    check_output_folder(output, overwrite=overwrite)
    return session


def project_folder(path: Path) -> Path:
    """Return the folder of the project that a set belongs to: its own, or one around it, or else its own."""
    beside = path.absolute().parent
    folders = (beside, *beside.parents)
    return next((folder for folder in folders if (folder / _PROJECT_MARK).is_dir()), beside)


def set_tempo(path: Path) -> tuple[tuple[float, float], ...]:
    """Return the tempo of a closed set, its automation included.

    Raises:
        DawError: the set cannot be read.
    """
    root = read_set(path).first("LiveSet")
    assert root is not None
    return _tempo(root.first("MainTrack") or root.first("MasterTrack"))


def _tempo(master: Node | None) -> tuple[tuple[float, float], ...]:
    tempo = master.first("DeviceChain", "Mixer", "Tempo") if master else None
    if master is None or tempo is None:
        raise DawError("the set has no tempo", hint="give a set of Live 10, 11 or 12")
    return live_tempo(tempo.number("Manual", default=120.0), list(_automation(master, tempo, "FloatEvent")))


def _bars(master: Node | None) -> Bars:
    """Return the bars of a set, by its metre and the automation of that."""
    metre = master.first("DeviceChain", "Mixer", "TimeSignature") if master else None
    if master is None or metre is None:
        return Bars.of(())
    events = [(0.0, metre.number("Manual", default=_COMMON_TIME))]
    events += [(max(0.0, beat), value) for beat, value in _automation(master, metre, "EnumEvent")]
    changes = []
    for beat, value in sorted(events, key=itemgetter(0)):
        power, numerator = divmod(max(0, int(value)), _METRES)
        changes.append((beat, numerator + 1, 2 ** min(power, 4)))
    return Bars.of(changes)


def _automation(master: Node, parameter: Node, kind: str) -> Iterator[tuple[float, float]]:
    """Yield beat and value of the events of a parameter's automation."""
    target = parameter.first("AutomationTarget")
    pointee = target.attributes.get("Id") if target else None
    for envelope in master.all("AutomationEnvelopes", "Envelopes", "AutomationEnvelope"):
        if pointee and envelope.value("EnvelopeTarget", "PointeeId") == pointee:
            for event in envelope.all("Automation", "Events", kind):
                at, value = (event.attributes.get(name, "") for name in ("Time", "Value"))
                yield number_of(at, "Time"), number_of(value, "Value")
            return


def _name(track: Node) -> str:
    return short_name(track.value("Name", "UserName") or track.value("Name", "EffectiveName"))


def _clip_nodes(sequencer: Node) -> Iterator[tuple[int, Node]]:
    """Yield the clips of a track, each with its slot, -1 in the Arrangement."""
    for kind in ("Sample", "ClipTimeable"):
        for events in sequencer.all(kind, "ArrangerAutomation", "Events"):
            yield from ((-1, node) for node in events.children if node.tag in _CLIPS)
    for number, slot in enumerate(sequencer.all("ClipSlotList", "ClipSlot")):
        for value in slot.all("ClipSlot", "Value"):
            yield from ((number, node) for node in value.children if node.tag in _CLIPS)


def _clip(node: Node, clip_id: str, media: _Media) -> Clip:
    """Return the clip of an element."""
    start = node.number("Loop", "LoopStart", default=0.0)
    stop = node.number("Loop", "LoopEnd", default=0.0)
    clip = Clip(
        id=clip_id,
        track=0,
        is_midi=node.tag == "MidiClip",
        name=short_name(node.value("Name")),
        begin_beats=node.number("CurrentStart", default=0.0),
        end_beats=node.number("CurrentEnd", default=0.0),
        start=start + node.number("Loop", "StartRelative", default=0.0),
        stop=stop,
        loop=(start, stop) if node.is_on("Loop", "LoopOn") else None,
        is_muted=node.is_on("Disabled"),
    )
    if clip.is_midi:
        return replace(clip, notes=tuple(_notes(node)))
    is_warped = node.is_on("IsWarped")
    markers = tuple(
        (
            number_of(marker.attributes.get("SecTime", ""), "WarpMarker/SecTime"),
            number_of(marker.attributes.get("BeatTime", ""), "WarpMarker/BeatTime"),
        )
        for marker in node.all("WarpMarkers", "WarpMarker")
    )
    pitch = node.number("PitchCoarse", default=0.0) + node.number("PitchFine", default=0.0) / 100
    found = media.file_of(node.first("SampleRef", "FileRef"))
    return replace(
        clip,
        file=found.file,
        is_offline=found.is_offline,
        is_remote=found.is_remote,
        is_warped=is_warped,
        loop=clip.loop if is_warped else None,
        warp_mode=int(node.number("WarpMode", default=0.0)),
        markers=markers,
        semitones=max(-48.0, min(48.0, pitch)),
        gain=node.number("SampleVolume", default=1.0),
    )


def _notes(node: Node) -> Iterator[tuple[float, int, float]]:
    """Yield the notes of a MIDI clip; of each key in turn."""
    for key in node.all("Notes", "KeyTracks", "KeyTrack"):
        number = int(key.number("MidiKey", default=0.0)) & 127
        for event in key.all("Notes", "MidiNoteEvent"):
            if event.attributes.get("IsEnabled", "true").lower() == "false":
                continue
            beat = number_of(event.attributes.get("Time", ""), "MidiNoteEvent/Time")
            yield beat, number, number_of(event.attributes.get("Velocity", "100"), "MidiNoteEvent/Velocity")


def _pads(track: Node) -> dict[int, str]:
    """Return the names of a drum rack's pads by their notes, {} where the track has no such rack."""
    rack = next((rack for chain in track.all("DeviceChain") for rack in _drum_racks(chain)), None)
    pads = {}
    for branch in rack.all("Branches", "DrumBranch") if rack else ():
        note = 128 - int(branch.number("BranchInfo", "ReceivingNote", default=0.0))  # Live counts from above
        if 0 <= note <= 127:
            pads[note] = _name(branch)
    return pads


def _drum_racks(node: Node) -> Iterator[Node]:
    for child in node.children:
        if child.tag == "DrumGroupDevice":
            yield child
        elif child.tag not in ("MainSequencer", "Mixer"):
            yield from _drum_racks(child)


class _Found(NamedTuple):
    """The file of a clip."""

    file: str
    is_offline: bool = False
    is_remote: bool = False


class _Media:
    """Finds the files of a set, which may have been moved here from another machine."""

    def __init__(self, path: Path, tracks: Sequence[Node]) -> None:
        self._path, self._tracks = path, tracks
        self._relinked, self._n_searches = cache(self._search), 0
        self._beside = path.absolute().parent
        self._project = project_folder(path)

    def file_of(self, reference: Node | None) -> _Found:
        """Return the file that a clip plays, "" if it names none, and whether it is here.

        Raises:
            DawError: the reference leads out of the project though its type forbids that.
        """
        places = list(self._places(reference)) if reference else []
        remote = [place for place in places if is_on_other_share(place, self._path)]
        found = next((place for place in places if place not in remote and os.path.isfile(place)), None)
        if found is None and reference is not None:
            size = int(reference.number("OriginalFileSize", default=0.0))
            size = size or int(reference.number("SearchHint", "FileSize", default=0.0))
            near = tuple(place for place in places if place not in remote)
            found = self._relinked(self._name(reference), size, near)
        if found is not None:
            return _Found(found)
        return _Found((remote or places or [""])[0], is_offline=True, is_remote=bool(remote))

    def _places(self, reference: Node) -> Iterator[str]:
        relative = self._relative(reference)
        if relative and (kind := reference.value("RelativePathType")) in (_FROM_PROJECT, _IN_PROJECT):
            if kind == _IN_PROJECT and _leaves(relative):
                raise DawError(
                    f"the set is refused: it names {relative[:80]!r} as a file inside of its project",
                    hint="collect all files and save the set again in Live",
                )
            for folder in dict.fromkeys((self._project, self._beside)):
                yield os.path.normpath(folder / relative)
        if absolute := reference.value("Path") or _old_path(reference):
            yield absolute

    def _search(self, name: str, size: int, places: tuple[str, ...]) -> str | None:
        """Return a file that is spelled otherwise, or the one of its name in the project that is as large.

        Where the set states no size, it is the only file that the set means by this name.
        """
        self._n_searches += 1
        if self._n_searches > MOST_SEARCHES:
            return None
        for place in places:
            if os.path.isfile(spelled := existing_path(Path(place))):
                return str(spelled)
        if name in ("", ".", "..") or (not size and len(self._named.get(same_name(name), ())) > 1):
            return None
        near = (existing_path(self._project / below / name) for below in _RELINKED)
        found = [place for place in near if os.path.isfile(place) and size in (0, place.stat().st_size)]
        if not found or not all(place.samefile(found[0]) for place in found):
            return None
        _log.warning("%s is not where the set says: %s is taken for it", name, found[0])
        return str(found[0])

    def _name(self, reference: Node) -> str:
        named = self._relative(reference) or reference.value("Path") or _old_path(reference)
        return (named or reference.value("Name")).replace("\\", "/").rpartition("/")[2]

    @cached_property
    def _named(self) -> dict[str, set[str]]:
        """The paths that the set names, by their last part."""
        named: dict[str, set[str]] = {}
        nodes = list(self._tracks)
        while nodes:
            node = nodes.pop()
            nodes += node.children
            if node.tag == "FileRef":
                path = self._relative(node) or node.value("Path") or _old_path(node)
                named.setdefault(same_name(self._name(node)), set()).add(same_name(path))
        return named

    def _relative(self, reference: Node) -> str:
        """Return the path from the project on: Live 11 writes it as one, Live 10 folder by folder."""
        node = reference.first("RelativePath")
        if node is None:
            return ""
        folders = [part.attributes.get("Dir", "") or ".." for part in node.all("RelativePathElement")]
        if folders:
            path = "/".join([*folders, reference.value("Name")])
        else:
            path = node.attributes.get("Value", "").replace("\\", "/")
        return "" if PurePosixPath(path).is_absolute() or ":" in path.partition("/")[0] else path


def _leaves(relative: str) -> bool:
    """Return whether a path leads out of the folder that it starts in."""
    depth = 0
    for part in relative.split("/"):
        depth += -1 if part == ".." else part not in ("", ".")
        if depth < 0:
            return True
    return False


def _old_path(reference: Node) -> str:
    """Return the absolute path that Live 10 wrote: as UTF-16 on Windows, folder by folder on macOS."""
    try:
        text = bytes.fromhex("".join(_text(reference).split())).decode("utf-16-le")
    except (ValueError, UnicodeDecodeError):
        text = ""
    path = text.rstrip("\0")
    if path[1:3] == ":\\" and "\0" not in path:
        return path
    folders = [
        part.attributes.get("Dir", "")
        for part in reference.all("SearchHint", "PathHint", "RelativePathElement")
    ]
    return "/" + "/".join([*folders, reference.value("Name")]) if folders else ""


def _text(reference: Node) -> str:
    data = reference.first("Data")
    return data.text if data else ""
