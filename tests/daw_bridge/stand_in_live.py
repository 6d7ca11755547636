"""A stand-in for Ableton Live, run as a program: a scene behind Live's Python objects, and its 100 ms timer.

    python stand_in_live.py SCENE.json SCRIPTS

SCRIPTS is a folder of Remote Scripts, of which it loads `redrum_live` as Live does: anew with every set.
Objects have what READ, WRITE and their methods name, nothing else, and no name that Live's stubs do not have; a
test compares them. Lines on its standard input are for the tests: a command and its arguments as JSON; each is
answered with a line.
"""

import importlib
import json
import sys
import threading
import time
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AUTO_WARP_BPM = 97.0  # that Live's preferences take a new clip to have


class LomObject:
    """What Live gives to scripts: some of it can be read, less can be set, and all else is an error."""

    READ = ()
    WRITE = ()
    _n_made = 0

    def __init__(self, **state):
        missing = set(self.READ + self.WRITE) - set(state) - set(dir(type(self)))
        assert not missing, missing
        self.__dict__.update(_state=state)
        LomObject._n_made += 1
        self.__dict__.update(_live_ptr=0x6000_0000_0000 + 64 * LomObject._n_made)

    def __getattr__(self, name):
        if name in self.READ + self.WRITE and name in self.__dict__["_state"]:
            return self.__dict__["_state"][name]
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __setattr__(self, name, value):
        if name not in self.WRITE:
            raise AttributeError(f"can't set attribute {name!r}")
        self.__dict__["_state"][name] = value


class DeviceParameter(LomObject):
    READ = ("automation_state",)


class MixerDevice(LomObject):
    READ = ("song_tempo",)


class Chain(LomObject):
    READ = ("name", "devices")


class DrumPad(LomObject):
    READ = ("note", "chains")


class RackDevice(LomObject):
    READ = ("can_have_drum_pads", "can_have_chains", "drum_pads", "chains")


class MidiNote(LomObject):
    READ = ("pitch", "start_time", "velocity", "mute", "probability")

    def __init__(self, **state):
        self.__dict__["_state"] = state  # no more: Live hands over thousands at once


class WarpMarker:
    def __init__(self, sample_time, beat_time):
        self.sample_time, self.beat_time = sample_time, beat_time


class Clip(LomObject):
    READ = (
        "is_midi_clip",
        "muted",
        "start_time",
        "end_time",
        "start_marker",
        "end_marker",
        "signature_numerator",
        "signature_denominator",
        "file_path",
        "warp_markers",
        "sample_rate",
        "sample_length",
    )
    WRITE = (
        "name",
        "color",
        "gain",
        "warping",
        "warp_mode",
        "pitch_coarse",
        "pitch_fine",
        "looping",
        "loop_start",
        "loop_end",
    )

    @classmethod
    def _of_file(cls, path, begin, live):
        """The clip that Live makes of a file."""
        import soundfile

        if not Path(path).is_absolute() or not Path(path).is_file():
            raise RuntimeError(f"no audio file: {path}")
        info = soundfile.info(path)
        seconds = info.frames / info.samplerate
        beats = seconds * AUTO_WARP_BPM / 60
        markers = [(0.0, 0.0), (seconds, beats), (seconds * (1 + 1 / 32 / beats), beats + 1 / 32)]
        about = {"name": Path(path).stem, "file_path": path, "start_time": begin, "end_time": begin + beats}
        about |= {"warp_markers": markers, "end_marker": beats, "loop_end": beats}
        about |= {"sample_rate": float(info.samplerate), "sample_length": info.frames}
        clip = cls(**{**PLAIN, **about, "warping": True})
        clip.__dict__.update(live=live, is_new=True)
        return clip

    @property
    def start_time(self):
        return self._state["start_time"]

    @property
    def warp_markers(self):
        return tuple(WarpMarker(*marker) for marker in self._state["warp_markers"])

    def get_notes_extended(self, from_pitch, pitch_span, from_time, time_span):
        notes = (MidiNote(**note) for note in self._state["notes"])
        return tuple(
            note
            for note in notes
            if from_pitch <= note.pitch < from_pitch + pitch_span
            and from_time <= note.start_time < from_time + time_span
        )

    def remove_warp_marker(self, beat_time):
        markers = self._state["warp_markers"]
        if len(markers) < 3 or beat_time == markers[-1][1]:
            raise RuntimeError("the marker cannot be removed")
        self._state["warp_markers"] = [marker for marker in markers if marker[1] != beat_time]

    def add_warp_marker(self, warp_marker):
        if self.__dict__["live"].refuses_markers:
            raise RuntimeError("the marker cannot be added")
        markers = sorted([*self._state["warp_markers"], (warp_marker.sample_time, warp_marker.beat_time)])
        # The last marker only says at what speed the clip ends: it gives way.
        if markers[-2][0] == warp_marker.sample_time and markers[-1][1] <= warp_marker.beat_time:
            markers[-1] = (warp_marker.sample_time + 0.01, warp_marker.beat_time + 1 / 32)
        if [beat for _, beat in markers] != sorted({beat for _, beat in markers}):
            raise RuntimeError("the marker cannot be added")
        self._state["warp_markers"] = markers

    def beat_to_sample_time(self, beat_time):
        if not self.warping:
            raise RuntimeError("the clip is not warped")
        markers = self._state["warp_markers"]
        place = sum(beat <= beat_time for _, beat in markers[1:-1])
        (first_s, first), (last_s, last) = markers[place : place + 2]
        at_s = first_s + (beat_time - first) * (last_s - first_s) / (last - first)
        return at_s * self.sample_rate

    def __setattr__(self, name, value):
        if name == "looping" and value and not self.warping:
            raise RuntimeError("only clips that are warped can loop")
        super().__setattr__(name, value)
        if name == "warping" and self.__dict__.get("is_new"):
            beats = self._state["end_marker"]
            if not value:
                beats = self.sample_length / self.sample_rate * self.__dict__["live"].song.tempo / 60
            self._state["end_time"] = self.start_time + beats


PLAIN = {
    "is_midi_clip": False,
    "muted": False,
    "color": 0,
    "start_time": 0.0,
    "end_time": 4.0,
    "start_marker": 0.0,
    "end_marker": 4.0,
    "looping": False,
    "loop_start": 0.0,
    "loop_end": 4.0,
    "signature_numerator": 4,
    "signature_denominator": 4,
    "file_path": "",
    "warping": False,
    "warp_mode": 0,
    "warp_markers": [],
    "sample_rate": 44_100.0,
    "sample_length": 441_000,
    "gain": 0.4,
    "pitch_coarse": 0,
    "pitch_fine": 0.0,
    "notes": [],
}


class ClipSlot(LomObject):
    READ = ("has_clip", "clip")

    @property
    def has_clip(self):
        return self.clip is not None

    def create_audio_clip(self, file_path):
        live = self.__dict__["live"]
        if self.has_clip:
            raise RuntimeError("the slot is not empty")
        live.check_change()
        self._state["clip"] = Clip._of_file(file_path, 0.0, live)
        return self.clip


class Scene(LomObject):
    pass


class Track(LomObject):
    READ = ("arrangement_clips", "clip_slots", "devices", "is_frozen", "is_part_of_selection", "mixer_device")
    READ += ("group_track", "is_grouped")
    WRITE = ("name", "color")

    def create_audio_clip(self, file_path, position):
        live = self.__dict__["live"]
        live.check_change()
        self.arrangement_clips.append(Clip._of_file(file_path, position, live))
        return self.arrangement_clips[-1]


class Song(LomObject):
    READ = (
        "view",
        "tempo",
        "tracks",
        "scenes",
        "signature_numerator",
        "signature_denominator",
        "loop_start",
        "loop_length",
        "master_track",
        "file_path",
    )

    class View(LomObject):
        READ = ("detail_clip", "selected_scene")

    @property
    def tracks(self):
        return tuple(self._state["tracks"])

    def begin_undo_step(self):
        self.__dict__["live"].undo.append("begun")

    def end_undo_step(self):
        self.__dict__["live"].undo[-1] = "ended"

    def create_audio_track(self, index):
        live = self.__dict__["live"]
        live.check_change()
        track = live.track({"name": "Audio", "items": []}, is_new=True)
        self._state["tracks"].insert(len(self.tracks) if index == -1 else index, track)
        return track

    def delete_track(self, index):
        self.__dict__["live"].check_change(is_counted=False)
        del self._state["tracks"][index]


class Application(LomObject):
    READ = ("view",)

    class View(LomObject):
        READ = ("focused_document_view",)

    def get_major_version(self):
        return self.__dict__["version"][0]

    def get_minor_version(self):
        return self.__dict__["version"][1]

    def get_bugfix_version(self):
        return self.__dict__["version"][2]


class Live:
    """The program: the set that is open, the script, and the timer."""

    def __init__(self, scene, create_instance):
        self.lock = threading.RLock()
        self.create_instance = create_instance
        self.script = None
        self.log = []
        self.load(scene)

    def load(self, scene):
        """Open a set, as Live does: the script is told to go, and loaded anew."""
        if self.script is not None:
            self.script.disconnect()
        self.refuses_markers = False
        self.undo, self.changes_left = [], scene.get("changes_left", 10**9)
        self.longest_s = self.busiest_s = 0.0
        self.tick_s = scene.get("tick_s", 0.01)
        self.song = self._song(scene)
        view = Application.View(focused_document_view=scene.get("focus", "Arranger"))
        application = Application(view=view)
        application.__dict__["version"] = scene.get("version", [12, 0, 5])
        module = types.ModuleType("Live")
        module.Application = types.SimpleNamespace(get_application=lambda: application)
        module.Clip = types.SimpleNamespace(WarpMarker=WarpMarker)
        sys.modules["Live"] = module
        self.script = self.create_instance(
            types.SimpleNamespace(song=lambda: self.song, log_message=self.log.append)
        )

    # The scene

    def _song(self, scene):
        self.details = []
        tracks = [self.track(about) for about in scene["tracks"]]
        for track, about in zip(tracks, scene["tracks"], strict=True):
            if "group" in about:
                track.__dict__["_state"].update(is_grouped=True, group_track=tracks[about["group"]])
        n_scenes = max([1, *(len(track.clip_slots) for track in tracks)])
        scenes = tuple(Scene() for _ in range(n_scenes))
        for track in tracks:
            while len(track.clip_slots) < n_scenes:
                track.clip_slots.append(self._slot(None))
        state = DeviceParameter(automation_state=int(scene.get("is_tempo_automated", False)))
        mixer = MixerDevice(song_tempo=state)
        master = self.track({"name": "Main", "items": [], "mixer": mixer})
        begin, end = scene.get("loop") or (0.0, 4.0)
        song = Song(
            view=Song.View(
                detail_clip=(self.details or [None])[0], selected_scene=scenes[scene.get("scene", 0)]
            ),
            tempo=scene["bpm"],
            tracks=tracks,
            scenes=scenes,
            signature_numerator=4,
            signature_denominator=4,
            loop_start=begin,
            loop_length=end - begin,
            master_track=master,
            file_path=scene["path"],
        )
        song.__dict__["live"] = self
        if scene.get("version", [12])[0] < 12:
            del song.__dict__["_state"]["file_path"]
        self.n_scenes = n_scenes
        return song

    def track(self, about, is_new=False):
        clips, slots = [], []
        for item in about["items"]:
            item = dict(item)
            slot, is_detail = item.pop("slot", -1), item.pop("is_detail", False)
            clip = Clip(**{**PLAIN, **item})
            clip.__dict__.update(live=self, is_new=False)
            if is_detail:
                self.details.append(clip)
            if slot < 0:
                clips.append(clip)
            else:
                slots += [self._slot(None) for _ in range(slot + 1 - len(slots))]
                slots[slot] = self._slot(clip)
        if is_new:
            slots = [self._slot(None) for _ in range(self.n_scenes)]
        track = Track(
            name=about["name"],
            color=about.get("color", 0x112233),
            arrangement_clips=clips,
            clip_slots=slots,
            devices=tuple(self._device(device) for device in about.get("devices", ())),
            is_frozen=about.get("is_frozen", False),
            is_part_of_selection=about.get("is_selected", False),
            mixer_device=about.get("mixer"),
            group_track=None,
            is_grouped=False,
        )
        track.__dict__.update(live=self, is_new=is_new)
        return track

    def _slot(self, clip):
        slot = ClipSlot(clip=clip)
        slot.__dict__["live"] = self
        return slot

    def _device(self, about):
        pads = about.get("pads")
        chains = tuple(Chain(name="", devices=(self._device(inner),)) for inner in about.get("inner", ()))
        drum_pads = ()
        if pads is not None:
            drum_pads = tuple(
                DrumPad(
                    note=note, chains=tuple(Chain(name=pads[n], devices=()) for n in [str(note)] if n in pads)
                )
                for note in range(128)
            )
        return RackDevice(
            can_have_drum_pads=pads is not None,
            can_have_chains=bool(chains),
            drum_pads=drum_pads,
            chains=chains,
        )

    def check_change(self, is_counted=True):
        """Allow a change, if it is part of an undo step and Live has room for it."""
        assert self.undo
        assert self.undo[-1] == "begun", "a change outside of an undo step"
        self.changes_left -= is_counted
        if is_counted and self.changes_left < 0:
            raise RuntimeError("Live has no room for more")

    # For the tests

    def tick(self):
        with self.lock:
            began, cpu_began = time.perf_counter(), time.thread_time()
            self.script.update_display()
            self.longest_s = max(self.longest_s, time.perf_counter() - began)
            self.busiest_s = max(self.busiest_s, time.thread_time() - cpu_began)

    def control(self, command, *arguments):
        with self.lock:
            return getattr(self, f"on_{command}")(*arguments)

    def on_scene(self, path):
        self.load(json.loads(Path(path).read_text(encoding="utf-8")))

    def on_stall(self):
        stall = self.longest_s, self.busiest_s
        self.longest_s = self.busiest_s = 0.0
        return stall

    def on_delete_track(self, place):
        del self.song._state["tracks"][place]

    def on_refuse_markers(self):
        self.refuses_markers = True

    def on_freeze(self, seconds):
        def freeze():
            with self.lock:
                time.sleep(seconds)

        threading.Thread(target=freeze).start()
        time.sleep(0.05)

    def on_log(self):
        log = list(self.log)
        self.log.clear()
        return log

    def on_snapshot(self):
        tracks = []
        for track in self.song.tracks:
            clips = [(-1, clip) for clip in track.arrangement_clips]
            clips += [(n, slot.clip) for n, slot in enumerate(track.clip_slots) if slot.clip is not None]
            items = [
                {
                    "slot": slot,
                    "is_new": clip.__dict__["is_new"],
                    "warp_markers": clip._state["warp_markers"],
                    **{
                        name: clip._state[name]
                        for name in ("name", "color", "gain", "warping", "warp_mode", "looping", "loop_start")
                    },
                    **{
                        name: clip._state[name]
                        for name in ("loop_end", "start_time", "file_path", "pitch_coarse", "pitch_fine")
                    },
                    "seconds": clip.sample_length / clip.sample_rate,
                    "end_time": clip._state["end_time"],
                }
                for slot, clip in clips
            ]
            about = {"name": track.name, "color": track.color, "is_new": track.__dict__["is_new"]}
            tracks.append({**about, "items": items})
        return {"tracks": tracks, "undo": self.undo}


def main():
    scene = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sys.path.insert(0, sys.argv[2])
    live = Live(scene, importlib.import_module("redrum_live").create_instance)

    def listen():
        for line in sys.stdin:
            answer = live.control(*json.loads(line))
            print(json.dumps(answer), flush=True)
        live.is_over = True

    live.is_over = False
    threading.Thread(target=listen, daemon=True).start()
    print("ready", flush=True)
    while not live.is_over:
        began = time.perf_counter()
        live.tick()
        time.sleep(max(0.0, live.tick_s - (time.perf_counter() - began)))


if __name__ == "__main__":
    main()
