"""A running Ableton Live, from outside: its selected clips, and takes back as new tracks.

Redrum's Remote Script (`redrum_live`) answers inside of Live: one request gathers all that a job needs,
one writes all takes, as one undo step. Rendering happens outside.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import psutil

from daw_bridge.bars import Bars
from daw_bridge.connection import Connection
from daw_bridge.live.als import project_folder, set_tempo
from daw_bridge.live.clips import RE_PITCH, Clip, item_of, next_bar, placed
from daw_bridge.live.redrum_live.endpoint import UnsafeFile, read_endpoint
from daw_bridge.live.redrum_live.server import MESSAGE_BYTES, SCHEMA, live_endpoint_path
from daw_bridge.render_job import OUT_FOLDER
from daw_bridge.session import (
    RHYTHM_TRACKS,
    FinishedTake,
    Item,
    Job,
    Track,
    by_track,
    published_media,
    result_track_name,
)
from transform.errors import DawError
from transform.events import TempoMap

SCRIPT_NAME = "Redrum"  # of the folder in Remote Scripts, and so of the control surface
ANSWER_TIMEOUT_S = 30.0
_PROOF_S = 10.0  # that Live may take to prove itself: while it loads a set it does not answer
NEEDED_VERSION = (12, 0, 5)  # of Live, which can put a file into a set since then
MEDIA_FOLDER = Path("Samples", "Processed", "Redrum")  # in the project, where Live looks for what it processed
_MOST_BYTES = 256 * 2**20
_MOST_TRIES = 3
_SAME_BEAT = 1e-6
_SAME_TIME_S = 1e-3
_SET_UP = "docs/ableton.md shows where"
_log = logging.getLogger(__name__)

Scope = Literal["clips", "loop"]


class LiveNotRunning(DawError):
    """There is no Live on this machine that could answer."""

    def __init__(self) -> None:
        super().__init__(
            "Ableton Live is not running",
            hint="start Live; the first time, run redrum live install before",
        )


class ScriptNotChosen(DawError):
    """Live runs, but nothing in it answers Redrum."""

    def __init__(self) -> None:
        super().__init__(
            f"Ableton Live runs, but its control surface {SCRIPT_NAME} is not chosen",
            hint=f"choose {SCRIPT_NAME} in Live's settings, under Link, Tempo & MIDI ({_SET_UP}); if it is not "
            "in the list, run redrum live install and start Live again",
        )


class ScriptOutdated(DawError):
    """The Remote Script in Live is of another version of Redrum."""

    def __init__(self) -> None:
        super().__init__(
            "the Remote Script in Live is of another version of Redrum",
            hint="run redrum live install again, and restart Live",
        )


class EndpointUnsafe(DawError):
    """The file that says where the Remote Script listens may be another user's."""

    def __init__(self, why: OSError) -> None:
        super().__init__(f"it is not safe to talk to Live: {why}", hint="remove it, then start Live again")


class LiveTooOld(DawError):
    """This Live can be read, but no files can be put into its sets."""

    def __init__(self, version: Sequence[int]) -> None:
        super().__init__(
            f"Live {'.'.join(map(str, version))} has no way for a script to put a file into a set",
            hint="update to Live 12.0.5 or newer, or drag the takes into the set from their folder",
        )


class SetNotSaved(DawError):
    """The set has no folder that takes could lie in."""

    def __init__(self) -> None:
        super().__init__("the set has never been saved", hint="save the set in Live once, then try again")


class SetClosed(DawError):
    """The set that a job is from is no longer open."""

    def __init__(self) -> None:
        super().__init__(
            "the set was closed in the meantime: nothing was written",
            hint="open it in Live, select the clips and run the same command again",
        )


class LiveLost(DawError):
    """Live stopped answering in the middle of a job."""

    def __init__(
        self, message: str = "Live stopped answering: it quit, or one of its windows waits for you"
    ) -> None:
        super().__init__(
            message, hint="close its open dialogs or start it again, then run the same command again"
        )


class _Unanswered(LiveLost):
    """Live may have written the takes, or may do so yet."""


class LiveFailed(DawError):
    """Live refused a request; nothing was changed."""

    def __init__(self, why: str) -> None:
        super().__init__(
            f"Live could not do it: {why}",
            hint="try again; Live's own Log.txt says more, in the lines that begin with Redrum",
        )


class LiveSession:
    """The set that is open in Live."""

    def __init__(self, endpoint: Mapping[str, Any], scope: Scope, timeout_s: float) -> None:
        self._endpoint, self._scope, self._timeout_s = endpoint, scope, timeout_s
        self._clips: dict[str, dict[str, Any]] = {}
        self._version: tuple[int, ...] = NEEDED_VERSION
        self.not_placed: LiveTooOld | None = None  # why takes are only files, once `write_back` has made them
        self.folder = Path()  # of the takes

    @classmethod
    def connect(cls, scope: Scope = "clips", timeout_s: float = ANSWER_TIMEOUT_S) -> LiveSession:
        """Return the session of the Live that runs on this machine.

        Args:
            scope: "clips", the clip that Live shows and, in Session view, the chosen scene of the selected
                tracks; or "loop", what the Arrangement's loop touches on the selected tracks.
            timeout_s: how long Live may take for an answer.

        Raises:
            LiveNotRunning: there is no Live.
            ScriptNotChosen: Live runs, but not Redrum's control surface in it.
            ScriptOutdated: the control surface is of another version.
            EndpointUnsafe: another user may have written where it listens.
            LiveLost: Live does not answer.
        """
        session = cls(_endpoint(), scope, timeout_s)
        session._connection().close()
        return session

    def look(self) -> dict[str, Any]:
        """Return the version of Live, `live`, and the `set` that is open."""
        return self._request({"request": "look"})

    def collect(self) -> Job:
        """Return the selected clips and those on rhythm tracks; see `Session.collect`.

        Raises:
            SetNotSaved: the set has no place yet.
            LiveLost: Live does not answer.
        """
        found = self._gathered()
        about = found["set"]
        self._version = tuple(found["live"])
        if not about["path"] and self._version >= NEEDED_VERSION:
            raise SetNotSaved
        self._clips = {clip["id"]: clip for clip in found["clips"]}
        bar = about["signature"][0] * 4 / about["signature"][1]
        clips = [_clip(clip) for clip in found["clips"]]
        tempo = _tempo(about, clips, bar)
        tempo_map = TempoMap(tempo)
        for clip in found["clips"]:
            if clip.get("n_uncertain"):
                _log.warning("%s: its notes always play, whatever their chance in Live is", clip["name"])
        return Job(
            daw="ableton",
            project=about["path"],
            project_id=about["id"],
            media_folder=str(_media_folder(about["path"])),
            tempo=tempo,
            bars=Bars.of([(0.0, *about["signature"])]),
            tracks=_tracks(found["tracks"]),
            items=tuple(item_of(clip, tempo_map) for clip in placed(clips, tempo_map, bar)),
        )

    def write_back(self, job: Job, takes: Sequence[FinishedTake]) -> list[Path]:
        """Put takes on new tracks, each beside its source track, as one undo step; see `Session`.

        A Live older than 12.0.5 only gets the files; `not_placed` is the reason then.

        Raises:
            SetClosed: the set is no longer open.
            LiveLost: Live stopped answering.
            OutputError: the files cannot be written.
        """
        self.folder = Path(job.media_folder)
        if self._version < NEEDED_VERSION:
            self.not_placed = LiveTooOld(self._version)
            with published_media(job, takes) as media:
                return media
        stay_after = (_Unanswered, KeyboardInterrupt)
        with self._connection() as connection, published_media(job, takes, stay_after=stay_after) as media:
            plan = {"request": "write", "set": job.project_id, "tracks": self._planned(job, takes, media)}
            try:
                notes = self._answer(connection, plan)["notes"]
            except LiveLost as err:
                where = f"they lie in {job.media_folder}"
                raise _Unanswered(f"Live did not say whether it took the takes; {where}") from err
        ordered = [takes[n] for members in by_track(takes).values() for n in members]
        for take, note in zip(ordered, notes, strict=False):
            if note:
                _log.warning("%s: %s", take.name, note)
        return media

    def _planned(self, job: Job, takes: Sequence[FinishedTake], media: Sequence[Path]) -> list[dict[str, Any]]:
        """Return what the Remote Script is to write."""
        tracks = []
        for place, members in by_track(takes).items():
            track = job.tracks[place]
            clips = [self._planned_clip(job, takes[n], media[n]) for n in members]
            color = self._clips[takes[members[0]].source.id]["track_color"]
            name = result_track_name(track.name)
            tracks.append({"id": track.id, "name": name, "color": color, "clips": clips})
        return tracks

    def _planned_clip(self, job: Job, take: FinishedTake, file: Path) -> dict[str, Any]:
        source = self._clips.get(take.source.id)
        if source is None:
            raise SetClosed
        return {
            "file": str(file.absolute()),
            "name": take.name,
            "color": source["color"],
            "slot": source["slot"],
            "beats": _begin_beats(job, take, source),
            "gain": source["gain"],
            "length": _beats(job, take),
            "warp": _warp(job, take, source),
        }

    def _gathered(self) -> dict[str, Any]:
        request = {"request": "gather", "scope": self._scope, "rhythm_tracks": list(RHYTHM_TRACKS)}
        for tries_left in reversed(range(_MOST_TRIES)):
            try:
                found = self._request(request)
                break
            except LiveFailed:
                if not tries_left:
                    raise
        for clip in found["clips"]:
            clip["track_color"] = found["tracks"][clip["track"]]["color"]
        return found

    def _request(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the Remote Script's answer."""
        with self._connection() as connection:
            return self._answer(connection, request)

    def _answer(self, connection: Connection, request: Mapping[str, Any]) -> dict[str, Any]:
        if len(json.dumps(request)) > MESSAGE_BYTES:  # the script would hang up
            raise LiveFailed("too many takes at once")
        try:
            connection.send(request, self._timeout_s)
            found = connection.receive(self._timeout_s)
        except OSError as err:
            raise LiveLost from err
        if found.get("schema") != SCHEMA or found.get("error") == "unknown":
            raise ScriptOutdated
        if found.get("error") == "closed":
            raise SetClosed
        if "error" in found:
            raise LiveFailed(str(found.get("why") or found["error"]))
        return found

    def _connection(self) -> Connection:
        """Return a connection to the script that this session is of; no request has been sent yet."""
        try:
            return Connection.open(self._endpoint, min(self._timeout_s, _PROOF_S), _MOST_BYTES)
        except TimeoutError as err:
            raise LiveLost from err
        except OSError as err:
            if _endpoint()["token"] != self._endpoint["token"]:  # another script, loaded with another set
                raise SetClosed from err
            raise _not_there() from err


def is_running() -> bool:
    """Return whether a Live runs on this machine."""
    names = (Path(process.info["name"] or "").stem.lower() for process in psutil.process_iter(["name"]))
    return any(name == "live" or name.startswith("ableton live") for name in names)


def _endpoint() -> dict[str, Any]:
    """Return the contents of the Remote Script's endpoint file."""
    try:
        endpoint = read_endpoint(live_endpoint_path())
    except UnsafeFile as err:
        raise EndpointUnsafe(err) from err
    except OSError as err:
        raise _not_there() from err
    if endpoint is None:
        raise _not_there()
    if endpoint["schema"] != SCHEMA:
        raise ScriptOutdated if is_running() else LiveNotRunning
    return endpoint


def _not_there() -> DawError:
    return ScriptNotChosen() if is_running() else LiveNotRunning()


def _media_folder(project: str) -> Path:
    """Return where takes go; below the current folder where Live is too old to name its set."""
    return project_folder(Path(project)) / MEDIA_FOLDER if project else Path.cwd() / OUT_FOLDER / "live"


def _tracks(found: Sequence[Mapping[str, Any]]) -> tuple[Track, ...]:
    """Return tracks as the Remote Script describes them, with the groups that they lie in."""
    by_id = {track["id"]: track for track in found}
    tracks = []
    for track in found:
        groups: list[str] = []
        group = track.get("group", "")  # a script of before knows none
        while group in by_id and group not in groups:
            groups.insert(0, group)
            group = by_id[group].get("group", "")
        names = tuple(by_id[group]["name"] for group in groups)
        tracks.append(Track(id=track["id"], name=track["name"], folders=names, folder_ids=tuple(groups)))
    return tuple(tracks)


def _clip(found: Mapping[str, Any]) -> Clip:
    """Return a clip as the Remote Script describes it."""
    loop = (found["loop_start"], found["loop_end"]) if found["looping"] else None
    common: dict[str, Any] = {
        "id": found["id"],
        "track": found["track"],
        "is_midi": found["is_midi"],
        "name": found["name"],
        "slot": found["slot"],
        "begin_beats": found["start_time"],
        "end_beats": found["end_time"],
        "start": found["start_marker"],
        "stop": found["end_marker"],
        "loop": loop,
        "is_selected": found["is_selected"],
        "is_muted": found["is_muted"],
        "is_frozen": found["is_frozen"],
    }
    if found["is_midi"]:
        return Clip(
            **common,
            notes=tuple((beat, number, velocity) for beat, number, velocity in found["notes"]),
            pads={int(note): name for note, name in (found["pads"] or {}).items()},
        )
    return Clip(
        **{**common, "loop": loop if found["warping"] else None},
        file=found["file"],
        is_offline=not os.path.isfile(found["file"]),
        is_warped=found["warping"],
        warp_mode=found["warp_mode"],
        markers=tuple(_in_seconds(found)),
        semitones=found["pitch"],
    )


def _in_seconds(found: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return a clip's warp markers in seconds of the file.

    Live's documentation does not say whether `sample_time` counts seconds or samples: markers that lie far
    outside of the file count samples.
    """
    markers = found["warp_markers"]
    rate, duration_s = found["sample_rate"], found["sample_length"] / max(found["sample_rate"], 1)
    is_samples = any(abs(at) > 100 * max(duration_s, 1.0) for at, _ in markers)
    return [(at / rate if is_samples else at, beat) for at, beat in markers]


def _tempo(about: Mapping[str, Any], clips: Sequence[Clip], bar: float) -> tuple[tuple[float, float], ...]:
    """Return the tempo of a set. Its automation, which scripts cannot read, is read from the saved set."""
    now = ((0.0, float(about["tempo"])),)
    if not (about["is_tempo_automated"] and about["path"]):
        return now
    try:
        saved = set_tempo(Path(about["path"]))
    except DawError as err:
        _log.warning("the automation of the tempo is not known, %g BPM is taken instead: %s", now[0][1], err)
        return now
    _log.info("the automation of the tempo is that of the set as it was last saved")
    if all(clip.slot < 0 for clip in clips):
        return saved
    # Session view plays at the tempo of the moment, and is laid behind the Arrangement.
    begin = next_bar((clip for clip in clips if clip.slot < 0), bar)
    return (*((beat, bpm) for beat, bpm in saved if beat < begin), (begin, now[0][1]))


def _warp(job: Job, take: FinishedTake, source: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return how a take follows the tempo of the set, as its source does; None: it does not."""
    begin = job.tempo_map.beats_at(take.source.position_s)
    n_beats = _beats(job, take)
    is_constant = not any(begin + 1e-6 < beat < begin + n_beats - 1e-6 for beat, _ in job.tempo)
    if not source["warping"] or not is_constant:
        return None
    return {
        "seconds": take.length_s,
        "beats": n_beats,
        "mode": source["warp_mode"],
        "pitch": 0.0 if source["warp_mode"] == RE_PITCH else source["pitch"],
        "is_looped": source["slot"] >= 0 and source["looping"] and _is_as_long(take.source, take),
    }


def _begin_beats(job: Job, take: FinishedTake, source: Mapping[str, Any]) -> float:
    """Return where a take begins in the Arrangement: as its clip does, or before, as another microphone's."""
    begin = job.tempo_map.beats_at(take.source.position_s)
    own: float = source["start_time"]
    return own if abs(begin - own) < _SAME_BEAT else begin


def _beats(job: Job, take: FinishedTake) -> float:
    """Return how many beats of the set a take lasts."""
    begin_s = take.source.position_s
    return job.tempo_map.beats_at(begin_s + take.length_s) - job.tempo_map.beats_at(begin_s)


def _is_as_long(item: Item, take: FinishedTake) -> bool:
    return abs(item.length_s - take.length_s) < _SAME_TIME_S
