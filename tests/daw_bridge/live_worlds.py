"""Scenes in Ableton Live: a stand-in for the running program, and sets as Live 10, 11 and 12 save them."""

import contextlib
import gzip
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import quoteattr

from transform.events import TempoMap

SCRIPTS = Path(__file__).resolve().parents[2] / "daw_bridge" / "live"
FIRST_TIME = -63_072_000  # where Live keeps the first value of an automation


def tempo_of(bpm, points):
    """The tempo map of a scene; its points must be steps on 16ths, as Live knows no others."""
    changes, before_s, beat = [(0.0, bpm)], 0.0, 0.0
    for at_s, tempo, glides in points:
        assert not glides
        beat += (at_s - before_s) * changes[-1][1] / 60
        assert abs(beat * 4 - round(beat * 4)) < 1e-9
        changes = [change for change in changes if change[0] < beat] + [(beat, tempo)]
        before_s = at_s
    return TempoMap(tuple(changes))


def live_clip(item, tempo_map):
    """A scene's item in the terms of Live, which both the program and its sets have."""
    begin = tempo_map.beats_at(item["position_s"])
    end = tempo_map.beats_at(item["position_s"] + item["length_s"])
    beat_s = 60 / tempo_map.bpm_at(begin)
    rate = item["play_rate"]
    clip = {"name": item["name"], "muted": item["is_muted"], "start_time": begin, "end_time": end}
    if item["kind"] == "midi":
        clip |= {
            "is_midi_clip": True,
            "start_marker": item["start_offset_s"] / beat_s / rate,
            "loop_start": 0.0,
            "loop_end": item["midi_beats"] / rate,
            "end_marker": item["midi_beats"] / rate,
            "looping": item["is_looped"],
            "notes": [
                {
                    "start_time": beat / rate,
                    "pitch": number,
                    "velocity": velocity,
                    "mute": False,
                    "probability": 1.0,
                }
                for beat, number, velocity, _ in item["notes"]
            ],
        }
        return clip
    clip |= {"file_path": item["file"], "is_midi_clip": False, "looping": item["is_looped"]}
    first_s, length_s = item["section"] or (0.0, 10.0)
    if not item["is_looped"] and (rate == 1 or not item["keeps_pitch"]):
        start = first_s + item["start_offset_s"]
        semitones = _semitones(rate)
        clip |= {"warping": False, "start_marker": start, "end_marker": start + item["length_s"] * rate}
        clip |= {"loop_start": start, "loop_end": clip["end_marker"]}
        clip |= {"pitch_coarse": round(semitones), "pitch_fine": 100 * (semitones - round(semitones))}
        return clip
    pace_s = beat_s * rate  # of the file, in a beat
    clip |= {
        "warping": True,
        "warp_mode": 0 if item["keeps_pitch"] else 3,
        "warp_markers": [(0.0, 0.0), (32 * pace_s, 32.0), (32.03125 * pace_s, 32.03125)],
        "start_marker": (first_s + item["start_offset_s"]) / pace_s,
        "loop_start": first_s / pace_s,
        "loop_end": (first_s + length_s) / pace_s,
        "end_marker": (first_s + length_s) / pace_s,
    }
    return clip


def groups_of(tracks):
    """The place of each track's group, by "group" where it lies in one."""
    around, found = [], []
    for place, one in enumerate(tracks):
        found.append({"group": around[-1]} if around else {})
        around = [*around, place] if one["folder_depth"] > 0 else around[: len(around) + one["folder_depth"]]
    return found


def _semitones(rate):
    return 12 * math.log2(rate)


_HOME = []  # the folder of the user whose programs the stand-ins are


@contextlib.contextmanager
def own_home():
    """What belongs to the user lies in a folder of the tests', the same for all stand-ins."""
    if not _HOME:
        _HOME.append(tempfile.mkdtemp(prefix="redrum-home-"))
    before = {name: os.environ.get(name) for name in ("HOME", "USERPROFILE", "LOCALAPPDATA")}
    os.environ.update(dict.fromkeys(before, _HOME[0]))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


class LiveWorld:
    """A scene in a stand-in for a running Live, one process for many tests as long as none spoils it."""

    running = None  # the process

    def __init__(self, folder, tracks, *, bpm=120.0, points=(), scene=None):
        self.folder, self.is_spoilt = folder, False
        (folder / "Ableton Project Info").mkdir()
        self.media_folder = folder / "Samples" / "Processed" / "Redrum"
        self.media_folder.mkdir(parents=True)
        self.tempo_map = tempo_of(bpm, points)
        self._home = own_home()
        self._home.__enter__()
        self._scene = folder / "scene.json"
        self.path = folder / "song.als"
        if scene is None:
            scene = self._scene_of(tracks, bpm)
        if points:
            write_als(self.path, [], self.tempo_map.changes)
            scene["is_tempo_automated"] = True
        scene = {"path": str(self.path), "bpm": bpm, **scene}
        self._scene.write_text(json.dumps(scene), encoding="utf-8")
        if self.running is not None and self.running.poll() is None:
            self.process = self.running
            self.control("scene", str(self._scene))
        else:
            self.stop()
            self._start()
        self.before = self.tracks_after()

    def _scene_of(self, tracks, bpm):
        """A scene whose selected items are those that Live's loop touches on selected tracks."""
        chosen = [item for one in tracks for item in one["items"] if item["is_selected"]]
        begin = min((item["position_s"] for item in chosen), default=0.0)
        end = max((item["position_s"] + item["length_s"] for item in chosen), default=0.0)
        for one in tracks:
            is_chosen = any(item["is_selected"] for item in one["items"])
            for item in one["items"]:
                touches = item["position_s"] < end and item["position_s"] + item["length_s"] > begin
                assert item["is_selected"] == (is_chosen and touches), "Live cannot select that"
        groups = groups_of(tracks)
        return {
            "loop": [self.tempo_map.beats_at(begin), self.tempo_map.beats_at(end)],
            "tracks": [
                {
                    "name": one["name"],
                    "is_selected": any(item["is_selected"] for item in one["items"]),
                    "items": [live_clip(item, self.tempo_map) for item in one["items"]],
                    **group,
                }
                for one, group in zip(tracks, groups, strict=True)
            ],
        }

    def _start(self):
        program = Path(__file__).with_name("stand_in_live.py")
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(program), str(self._scene), str(SCRIPTS)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
        )
        LiveWorld.running = self.process
        assert self.process.stdout.readline() == "ready\n"

    @classmethod
    def stop(cls):
        """End the process."""
        if cls.running is not None:
            cls.running.kill()
            cls.running.wait()
            cls.running.stdin.close()
            cls.running.stdout.close()
            cls.running = None

    @classmethod
    def clean(cls):
        """End the process and forget its user."""
        cls.stop()
        while _HOME:
            shutil.rmtree(_HOME.pop(), ignore_errors=True)

    def session(self, scope="loop"):
        from daw_bridge.live.running import LiveSession

        return LiveSession.connect(scope)

    def control(self, command, *arguments):
        self.process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def snapshot(self):
        return self.control("snapshot")

    def tracks_after(self):
        return [
            {"name": one["name"], "items": [self._told(item) for item in one["items"]]}
            for one in self.snapshot()["tracks"]
        ]

    def _told(self, item):
        position_s = self.tempo_map.seconds_at(item["start_time"])
        length_s = self.tempo_map.seconds_at(item["end_time"]) - position_s
        if item["is_new"]:
            length_s = item["seconds"]
        return {"name": item["name"], "position_s": position_s, "length_s": length_s, "file": item["file_path"]}

    def is_untouched(self):
        return [one for one in self.tracks_after() if one in self.before] == self.before

    def close(self):
        self._home.__exit__(None, None, None)
        if self.is_spoilt:
            self.stop()


class AlsWorld:
    """A scene in a closed set."""

    def __init__(self, folder, tracks, *, bpm=120.0, points=(), metres=(), major=12):
        self.folder, self.path = folder, folder / "song.als"
        self.output = folder / "song-redrum"
        tempo_map = tempo_of(bpm, points)
        about = []
        for one, group in zip(tracks, groups_of(tracks), strict=True):
            clips = [live_clip(item, tempo_map) for item in one["items"]]
            about.append({"name": one["name"], "clips": clips, "is_group": one["folder_depth"] > 0, **group})
        numbers = [
            (tempo_map.beats_at(at_s), 99 * int(math.log2(denominator)) + numerator - 1)
            for at_s, numerator, denominator in metres
        ]
        write_als(self.path, about, tempo_map.changes, major=major, metres=numbers)
        items = [item for one in tracks for item in one["items"]]
        self._chosen = [str(n) for n, item in enumerate(items, start=1) if item["is_selected"]] or ["0"]

    def session(self):
        from daw_bridge.choice import Choice
        from daw_bridge.live.als import open_set

        return open_set(self.path, choice=Choice(items=self._chosen), overwrite=True)

    def close(self):
        pass


# Sets as Live writes them


def write_als(path, tracks, tempo=((0.0, 120.0),), **more):
    """Write a set; tracks have name and clips as of `live_clip`, may have pads, is_frozen, is_group
    and the place of their group; clips, a slot.

    `events` are those of the tempo's automation; None: the steps of `tempo`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(als_xml(tracks, tempo, **more).encode()))
    return path


def als_xml(tracks, tempo=((0.0, 120.0),), *, major=12, events=None, metre=201, metres=()):
    if events is None:
        events = [(FIRST_TIME, tempo[0][1])]
        for (_, before), (beat, bpm) in pairwise(tempo):
            events += [(beat, before), (beat, bpm)]
    master = "MainTrack" if major >= 12 else "MasterTrack"
    lines = ['<?xml version="1.0" encoding="UTF-8"?>']
    schema = {10: "10.0_377", 11: "11.0_11300", 12: "12.0_12203"}[major]
    lines += [f'<Ableton MajorVersion="5" MinorVersion="{schema}" Creator="Ableton Live {major}.1"><LiveSet>']
    lines += ['<NextPointeeId Value="30000" />', "<Tracks>"]
    for number, track in enumerate(tracks):
        lines += _track_xml(number, track, major)
    lines += ['<ReturnTrack Id="90"><Name><EffectiveName Value="A-Reverb" /></Name></ReturnTrack>', "</Tracks>"]
    lines += [
        f"<{master}>",
        "<Name>",
        '<EffectiveName Value="Main" />',
        "</Name>",
        "<AutomationEnvelopes><Envelopes>",
    ]
    lines += [
        '<AutomationEnvelope Id="0"><EnvelopeTarget><PointeeId Value="10" /></EnvelopeTarget><Automation>'
    ]
    lines += [f'<Events><EnumEvent Id="0" Time="{FIRST_TIME}" Value="{metre}" />']
    lines += [
        f'<EnumEvent Id="{n}" Time="{beat!r}" Value="{value}" />' for n, (beat, value) in enumerate(metres, 1)
    ]
    lines += ["</Events>"]
    lines += ["</Automation></AutomationEnvelope>"]
    lines += [
        '<AutomationEnvelope Id="1"><EnvelopeTarget><PointeeId Value="8" /></EnvelopeTarget>',
        "<Automation><Events>",
    ]
    lines += [f'<FloatEvent Id="{n}" Time="{at!r}" Value="{bpm!r}" />' for n, (at, bpm) in enumerate(events)]
    lines += ["</Events></Automation></AutomationEnvelope>", "</Envelopes></AutomationEnvelopes>"]
    lines += [f'<DeviceChain><Mixer><Tempo><LomId Value="0" /><Manual Value="{tempo[0][1]!r}" />']
    lines += ['<MidiControllerRange><Min Value="60" /><Max Value="200" /></MidiControllerRange>']
    lines += ['<AutomationTarget Id="8"><LockEnvelope Value="0" /></AutomationTarget></Tempo>']
    lines += [f'<TimeSignature><Manual Value="{metre}" /><AutomationTarget Id="10" /></TimeSignature>']
    lines += ["</Mixer></DeviceChain>", f"</{master}>"]
    lines += ["<Transport><PhaseNudgeTempo Value='10' /></Transport>", "</LiveSet></Ableton>", ""]
    return "\n".join(lines)


def _track_xml(number, track, major):
    clips = track["clips"]
    is_midi = bool(clips) and clips[0]["is_midi_clip"]
    tag = "MidiTrack" if is_midi else "AudioTrack"
    if track.get("is_group"):
        tag = "GroupTrack"
    yield f'<{tag} Id="{number + 12}"><LomId Value="0" />'
    yield f'<TrackGroupId Value="{track["group"] + 12 if "group" in track else -1}" />'
    yield f'<Name><EffectiveName Value={quoteattr(track["name"])} /><UserName Value="" /></Name>'
    yield "<AutomationEnvelopes><Envelopes /></AutomationEnvelopes>"
    if major >= 11:
        yield "<TakeLanes><TakeLanes><TakeLane Id='0'><ClipAutomation><Events>"
        yield '<AudioClip Id="7" Time="3"><CurrentStart Value="3" /><CurrentEnd Value="4" /></AudioClip>'
        yield "</Events></ClipAutomation></TakeLane></TakeLanes></TakeLanes>"
    yield f'<Freeze Value="{str(track.get("is_frozen", False)).lower()}" />'
    yield "<DeviceChain><Mixer><Tempo><Manual Value='33' /></Tempo></Mixer><MainSequencer>"
    yield "<ClipSlotList>"
    n_slots = max([1, *(clip.get("slot", -1) + 1 for clip in clips)])
    for slot in range(n_slots):
        here = [clip for clip in clips if clip.get("slot", -1) == slot]
        yield f'<ClipSlot Id="{slot}"><LomId Value="0" /><ClipSlot>'
        yield from ("<Value>", *(line for clip in here for line in _clip_xml(slot, clip, major)), "</Value>")
        yield '</ClipSlot><HasStop Value="true" /></ClipSlot>'
    yield "</ClipSlotList>"
    place = "ClipTimeable" if is_midi else "Sample"
    yield f"<{place}><ArrangerAutomation><Events>"
    for n, clip in enumerate(clip for clip in clips if clip.get("slot", -1) < 0):
        yield from _clip_xml(n, clip, major)
    yield f"</Events></ArrangerAutomation></{place}></MainSequencer>"
    yield "<FreezeSequencer><ClipSlotList><ClipSlot Id='0' /></ClipSlotList></FreezeSequencer>"
    yield "<DeviceChain><Devices>"
    if "pads" in track:
        yield '<InstrumentGroupDevice Id="1"><Branches><InstrumentBranch Id="0"><DeviceChain>'
        yield '<MidiToAudioDeviceChain Id="0"><Devices><DrumGroupDevice Id="0"><Branches>'
        for n, (note, name) in enumerate(track["pads"].items()):
            yield f'<DrumBranch Id="{n}"><Name><EffectiveName Value={quoteattr(name)} />'
            yield '<UserName Value="" /></Name>'
            yield f'<BranchInfo><ReceivingNote Value="{128 - note}" /><SendingNote Value="60" /></BranchInfo>'
            yield "</DrumBranch>"
        yield "</Branches></DrumGroupDevice></Devices></MidiToAudioDeviceChain></DeviceChain>"
        yield "</InstrumentBranch></Branches></InstrumentGroupDevice>"
    yield f"</Devices></DeviceChain></DeviceChain></{tag}>"


def _clip_xml(number, clip, major):
    tag = "MidiClip" if clip["is_midi_clip"] else "AudioClip"
    start, stop = clip["loop_start"], clip["loop_end"]
    relative = clip["start_marker"] - start
    if not clip["looping"]:
        start, stop, relative = clip["start_marker"], clip["end_marker"], 0.0
    yield f'<{tag} Id="{number}" Time="{clip["start_time"]!r}"><LomId Value="0" />'
    yield f'<CurrentStart Value="{clip["start_time"]!r}" /><CurrentEnd Value="{clip["end_time"]!r}" />'
    yield f'<Loop><LoopStart Value="{start!r}" /><LoopEnd Value="{stop!r}" />'
    yield f'<StartRelative Value="{relative!r}" /><LoopOn Value="{str(clip["looping"]).lower()}" />'
    yield f'<OutMarker Value="{clip["end_marker"]!r}" /><HiddenLoopStart Value="0" /></Loop>'
    yield f"<Name Value={quoteattr(clip['name'])} />"
    yield f'<Disabled Value="{str(clip["muted"]).lower()}" />'
    yield "<Envelopes><Envelopes /></Envelopes>"
    if clip["is_midi_clip"]:
        yield "<Notes><KeyTracks>"
        for n, pitch in enumerate(sorted({note["pitch"] for note in clip["notes"]})):
            yield f'<KeyTrack Id="{n}"><Notes>'
            for note in clip["notes"]:
                if note["pitch"] == pitch:
                    yield _note_xml(note, major)
            yield f'</Notes><MidiKey Value="{pitch}" /></KeyTrack>'
        yield "</KeyTracks></Notes>"
    else:
        yield f'<IsWarped Value="{str(clip["warping"]).lower()}" />'
        yield "<SampleRef>" + clip.get("file_ref", _file_ref_xml(clip["file_path"], major)) + "</SampleRef>"
        yield f'<WarpMode Value="{clip.get("warp_mode", 0)}" />'
        yield f'<PitchCoarse Value="{clip.get("pitch_coarse", 0)}" />'
        yield f'<PitchFine Value="{clip.get("pitch_fine", 0)!r}" /><SampleVolume Value="1" />'
        yield "<WarpMarkers>"
        for n, (second, beat) in enumerate(clip.get("warp_markers", [])):
            yield f'<WarpMarker Id="{n}" SecTime="{second!r}" BeatTime="{beat!r}" />'
        yield "</WarpMarkers><SavedWarpMarkersForStretched />"
    yield f"</{tag}>"


def _note_xml(note, major):
    head = f'<MidiNoteEvent Time="{note["start_time"]!r}" Duration="0.25" Velocity="{note["velocity"]}"'
    is_on = str(not note["mute"]).lower()
    if major == 10:
        return f'{head} OffVelocity="64" IsEnabled="{is_on}" />'
    if major == 11:
        return (
            f'{head} VelocityDeviation="0" OffVelocity="64" Probability="1" IsEnabled="{is_on}" NoteId="1" />'
        )
    return f'{head} OffVelocity="64" {"" if is_on == "true" else """IsEnabled="false" """}NoteId="1" />'


def _file_ref_xml(file, major):
    path = Path(file)
    if major >= 11:
        return (
            '<FileRef><RelativePathType Value="0" /><RelativePath Value="" />'
            f'<Path Value={quoteattr(path.as_posix() if file else "")} /><Type Value="1" /></FileRef>'
        )
    folders = "".join(
        f'<RelativePathElement Id="{n}" Dir={quoteattr(part)} />' for n, part in enumerate(path.parts[1:-1])
    )
    return (
        '<FileRef><HasRelativePath Value="false" /><RelativePathType Value="0" /><RelativePath />'
        f"<Name Value={quoteattr(path.name)} /><Type Value='1' /><Data>\n\t0000AB12\n</Data>"
        f"<SearchHint><PathHint>{folders}</PathHint></SearchHint></FileRef>"
    )
