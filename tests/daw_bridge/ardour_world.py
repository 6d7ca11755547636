"""Scenes in a real Ardour, one program for many tests: tracks of scenes before are emptied and left out."""

import json
import shutil
import tempfile
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile

from tests.daw_bridge.ardour import rig

RATE = 44_100
OLD = "of a scene before"
GATHER = """
local folder = ARDOUR.user_config_directory(-1) .. "/redrum/"
local session = loadfile(folder .. "redrum_session.lua")(folder)
local json = loadfile(folder .. "redrum_json.lua")()
"""


class ArdourWorld:
    """A scene in a running Ardour."""

    running = None  # Ardour, its screen, and the folder of both
    tempi = {}  # BPM, by the beats of all points that it has  # noqa: RUF012 (replaced, never changed)

    def __init__(self, folder, tracks, *, points=()):
        if why := rig.why_not():
            pytest.skip(why)
        self.folder = folder
        self.ardour = self._ardour()
        self.session_folder = next((self.running[2] / "sessions").iterdir())
        self.media_folder = self.session_folder / "interchange" / self.session_folder.name / "audiofiles"
        self._clear()
        self._set_tempo(points)
        for one in tracks:
            self._add(one)
        self._tracks = tracks
        self.before = self.tracks_after()

    @classmethod
    def _ardour(cls):
        if cls.running is None:
            folder = Path(tempfile.mkdtemp(prefix="redrum-ardour-"))
            screen = rig.Screen(folder / "screen")
            ardour = rig.Ardour(folder / "ardour", screen, rate=RATE)
            cls.running = ardour, screen, folder
            (folder / "sessions").mkdir()
            ardour.start(ardour.new_session("Scenes", parent=folder / "sessions"))
        return cls.running[0]

    @classmethod
    def stop(cls):
        """End Ardour."""
        if cls.running is not None:
            ardour, screen, folder = cls.running
            ardour.kill()
            screen.close()
            shutil.rmtree(folder)
            cls.running = None

    def _clear(self):
        self.ardour.lua(
            "for _, route in ipairs(tracks()) do local playlist = route:to_track():playlist()"
            " for region in playlist:region_list():iter() do playlist:remove_region(region) end"
            f" route:set_name({rig.quoted(OLD)}) end"
        )

    def _set_tempo(self, points):
        beat, before_s, bpm = 0.0, 0.0, 120.0
        tempi = dict.fromkeys(self.tempi, 120.0)  # a point stays, but changes nothing
        for at_s, tempo, _ in points:
            beat += (at_s - before_s) * bpm / 60
            tempi[beat] = tempo
            before_s, bpm = at_s, tempo
        ArdourWorld.tempi = {0.0: 120.0, **tempi}
        changes = ", ".join(f"{{{beat}, {bpm}}}" for beat, bpm in sorted(ArdourWorld.tempi.items()))
        self.ardour.lua(f"set_tempo({{{changes}}})")

    def _add(self, one):
        kind = "midi" if any(item["kind"] == "midi" for item in one["items"]) else "audio"
        name = rig.quoted(one["name"])
        self.ardour.lua(f"new_midi_track({name})" if kind == "midi" else f"new_track({name}, 1)")
        for item in one["items"]:
            is_missing = item["kind"] == "audio" and not Path(item["file"]).exists()
            if is_missing:
                soundfile.write(item["file"], np.zeros(RATE), RATE)
            file = Path(self._midi_file(item) if item["kind"] == "midi" else item["file"])
            how = "import" if item["kind"] == "midi" else "embed"
            begin, length = round(item["position_s"] * RATE), round(item["length_s"] * RATE)
            self.ardour.lua(
                f"local known = {{}}"
                f" for _, region in ipairs(regions_of({name})) do known[id_of(region)] = true end"
                f" {how}({rig.quoted(str(file))}, {name}, {begin})"
                f" for _, region in ipairs(regions_of({name})) do if not known[id_of(region)] then"
                f" region:trim_end(Temporal.timepos_t({begin + length}))"
                f" region:set_name({rig.quoted(item['name'])})"
                f" region:set_muted({str(item['is_muted']).lower()}) end end"
            )
            if is_missing:
                file.unlink()

    def _midi_file(self, item):
        song = mido.MidiFile(type=0, ticks_per_beat=480)
        events = [(round(beat * 480), note) for beat, *note in item["notes"]]
        track, tick = mido.MidiTrack(), 0
        for at, (number, velocity, channel) in events:
            track.append(
                mido.Message("note_on", note=number, velocity=velocity, channel=channel, time=at - tick)
            )
            track.append(mido.Message("note_off", note=number, channel=channel, time=10))
            tick = at + 10
        track.append(mido.MetaMessage("end_of_track", time=round(item["midi_beats"] * 480) - tick))
        song.tracks.append(track)
        path = self.folder / f"{item['name']}.mid"
        song.save(path)
        return path

    def select(self):
        """Select what the scene has selected; Ardour forgets it where takes come."""
        chosen = []
        for one in self._tracks:
            items = sorted(one["items"], key=lambda item: item["position_s"])
            chosen += [
                f"regions_of({rig.quoted(one['name'])})[{n}]"
                for n, item in enumerate(items, 1)
                if item["is_selected"]
            ]
        self.ardour.lua(f"select_regions({{{', '.join(chosen)}}})")

    def session(self):
        return _ArdourSession(self)

    def tracks_after(self):
        """The tracks of this scene that are there now, with the regions on them."""
        found = self.ardour.lua(
            "local found = json_list() for _, route in ipairs(tracks()) do local regions = json_list()"
            " for region in route:to_track():playlist():region_list():iter() do"
            "  local file = region:source(0):to_filesource()"
            "  regions[#regions + 1] = { name = region:name(), position = region:position():samples(),"
            "   length = region:length():samples(), file = file:isnil() and '' or file:path() } end"
            " found[#found + 1] = { name = route:name(), items = regions } end return found"
        )
        return [
            {
                "name": one["name"],
                "items": [
                    {
                        "name": item["name"],
                        "position_s": item["position"] / RATE,
                        "length_s": item["length"] / RATE,
                        "file": item["file"],
                    }
                    for item in one["items"]
                ],
            }
            for one in found
            if not one["name"].startswith(OLD)
        ]

    def is_untouched(self):
        return [one for one in self.tracks_after() if one in self.before] == self.before

    def close(self):
        pass


class _ArdourSession:
    """The part of the action that works on the session; facts and plans pass through files, as its own do."""

    def __init__(self, world):
        from daw_bridge.job_files import JobFiles

        self._world = world
        self._files = JobFiles(world.ardour.config / "redrum" / "jobs" / "job.json")

    def collect(self):
        from daw_bridge.action_job import read_job
        from daw_bridge.job_files import SCHEMA
        from daw_bridge.session import RHYTHM_TRACKS

        self._world.select()
        beginnings = ", ".join(map(rig.quoted, RHYTHM_TRACKS))
        text = self._world.ardour.lua(
            f'{GATHER} return json.encode((session.gather("regions", {{{beginnings}}})))'
        )
        facts = json.loads(text)
        places = [n for n, track in enumerate(facts["tracks"]) if not track["name"].startswith(OLD)]
        facts["tracks"] = [facts["tracks"][n] for n in places]
        facts["items"] = [{**item, "track": places.index(item["track"])} for item in facts["items"]]
        facts["items"].sort(key=lambda item: (item["track"], item["position"]))
        facts["media_folder"] = str(self._files.job.parent)
        self._files.put(self._files.job, {"schema": SCHEMA, "order": {}, "facts": facts})
        return read_job(self._files.job)[1]

    def write_back(self, job, takes):
        """Write takes as the action does; return the session's own files of them."""
        from daw_bridge.action_job import JobSession
        from daw_bridge.job_files import JobProgress

        before = {item["file"] for track in self._world.tracks_after() for item in track["items"]}
        media = JobSession(job, self._files, JobProgress(self._files)).write_back(job, takes)
        result = rig.quoted(str(self._files.result))
        why = self._world.ardour.lua(f"{GATHER} return session.write_back(json.read({result}).tracks)")
        assert why is None
        for path in (*media, self._files.job, self._files.result):
            path.unlink()
        items = [item for track in self._world.tracks_after() for item in track["items"]]
        files = {item["name"]: item["file"] for item in items if item["file"] not in before}
        return [Path(files[take.name]) for take in takes]
