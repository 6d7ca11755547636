"""What the tests of the command line and of sessions share."""

import functools
import importlib.util
import json
import logging
import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.daw_bridge.ardour_world import ArdourWorld
from tests.daw_bridge.click_transcriber import ClickTranscriber
from tests.daw_bridge.live_worlds import AlsWorld, LiveWorld, own_home


@pytest.fixture(autouse=True)
def _own_logging():
    """The command sets up logging for its process; other tests get theirs back."""
    loggers = [logging.getLogger(package) for package in ("transform", "training", "daw_bridge")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        for handler in set(logger.handlers) - set(handlers):
            handler.close()
        logger.handlers[:] = handlers


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, with nothing that the user has added."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "user data"))
    return folder


@pytest.fixture(scope="session")
def models_once():
    """Load the shipped preset once, and keep to one thread: sounds this short only wait for a second one."""
    import torch

    from transform.engine import Redrummer

    load = Redrummer.load
    shipped = functools.cache(functools.partial(load, "default"))

    def load_once(preset="default", *, device="cpu"):
        return shipped(device=device) if preset == "default" else load(preset, device=device)

    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Redrummer, "load", load_once)
        yield
    torch.set_num_threads(n_threads)


# Sessions. A scene says what a project holds in terms that every DAW has; a world is that project in one DAW.


def track(name, *items, color=0, is_selected=False, folder_depth=0, receives=()):
    """A track; `receives` are the places of the tracks that it receives from."""
    about = {"color": color, "is_selected": is_selected, "folder_depth": folder_depth}
    return {"name": name, "items": list(items), "receives": list(receives), **about}


def audio(file, position_s=0.0, length_s=1.0, **more):
    return {
        "kind": "audio",
        "name": Path(file).name,
        "file": str(file),
        "position_s": position_s,
        "length_s": length_s,
        **_PLAIN,
        **more,
    }


def midi(notes, position_s=0.0, length_s=1.0, midi_beats=4.0, **more):
    """A MIDI item; notes are (beat from the start of its MIDI, number, velocity, channel)."""
    more = {"kind": "midi", "name": "beat", "notes": notes, "midi_beats": midi_beats, **more}
    return audio("", position_s, length_s, **more)


_PLAIN = {
    "is_selected": True,
    "group": 0,  # 0: none
    "is_muted": False,
    "is_silent_lane": False,
    "markers": [],  # place in the item, before its play rate, and in the file, and the slope
    "volume": 1.0,
    "level": (1.0, 0.0, -1.0),  # volume, pan and pan law of the take
    "fade_in": (0.0, 0),  # length and shape
    "fade_out": (0.0, 0),
    "is_looped": False,
    "is_reversed": False,
    "section": None,
    "start_offset_s": 0.0,
    "play_rate": 1.0,
    "keeps_pitch": True,
    "channel_mode": 0,
    "notes": [],
    "midi_beats": 0.0,
}


class RppWorld:
    """A scene in a closed REAPER project."""

    def __init__(
        self,
        folder,
        tracks,
        *,
        bpm=120.0,
        points=(),
        metres=(),
        bar_offset=0,
        pan_law=1.0,
        line_end="\r\n",
        name="song.rpp",
    ):
        self.folder, self.media_folder = folder, folder / "media"
        self.media_folder.mkdir(parents=True, exist_ok=True)
        self.path, self.output = folder / name, folder / f"{Path(name).stem}-redrum.rpp"
        lines = ['<REAPER_PROJECT 0.1 "6.80/x64" 1700000000', "  RIPPLE 0", '  RECORD_PATH "media" ""']
        lines += [f"  PANLAW {pan_law}", f"  PROJOFFS 3600 {bar_offset} 0"]
        changes = {at_s: (numerator, denominator) for at_s, numerator, denominator in metres}
        numerator, denominator = changes.pop(0.0, (4, 4))
        lines += [f"  TEMPO {bpm:g} {numerator} {denominator}", "  <TEMPOENVEX", "    ACT 1 -1"]
        for at_s, value, glides in points:
            numerator, denominator = changes.pop(at_s, (0, 0))
            lines += [f"    PT {at_s} {value} {0 if glides else 1} {numerator + 65536 * denominator}"]
        assert not changes
        lines += ["  >"]
        for one in tracks:
            lines += ["  <TRACK " + _guid(), f'    NAME "{one["name"]}"']
            depth = one["folder_depth"]
            lines += [f"    ISBUS {2 if depth < 0 else depth} {depth}"]
            if any(item["is_silent_lane"] for item in one["items"]):
                lines += ["    FREEMODE 2", "    FIXEDLANES 9 0 0 0 0", "    LANESOLO 1 0 0 0 0 0 0 0"]
            lines += [f"    AUXRECV {place} 0 1 0 0 0 0 0 0 -1:U 0 -1 ''" for place in one["receives"]]
            lines += [f"    PEAKCOL {one['color'] or 16576}"]
            lines += [f"    {line}" for item in one["items"] for line in self._item(item)]
            lines += ["  >"]
        lines += ["  <EXTENSIONS", "  >", ">", ""]
        self.path.write_bytes(line_end.join(lines).encode("utf-8", "surrogateescape"))
        self.before = self.path.read_bytes()
        items = [item for one in tracks for item in one["items"]]
        self._chosen = [str(n) for n, item in enumerate(items, start=1) if item["is_selected"]] or ["0"]

    def _item(self, item):
        yield from ("<ITEM", f"  POSITION {item['position_s']!r}", f"  LENGTH {item['length_s']!r}")
        yield f"  YPOS {0.5 * item['is_silent_lane']} 0.5 2"
        for key in ("fade_in", "fade_out"):
            length_s, shape = item[key]
            yield f"  {key.replace('_', '').upper()} {shape} {length_s!r} 0 {shape} 0 0 0"
        volume, pan, law = item["level"]
        yield f"  VOLPAN {item['volume']!r} {pan!r} {volume!r} {law!r}"
        yield from (f"  LOOP {item['is_looped']:d}", f"  MUTE {item['is_muted']:d} 0", f"  IGUID {_guid()}")
        yield f'  NAME "{item["name"]}"'
        if item["group"]:
            yield f"  GROUP {item['group']}"
        yield f"  SOFFS {item['start_offset_s']!r}"
        yield f"  PLAYRATE {item['play_rate']!r} {item['keeps_pitch']:d} 0 -1 0 0.0025"
        yield f"  CHANMODE {item['channel_mode']}"
        if item["markers"]:
            yield "  SM " + " + ".join(" ".join(map(repr, marker)) for marker in item["markers"])
        if item["kind"] == "midi":
            yield from ("  <SOURCE MIDI", "    HASDATA 1 960 QN")
            tick = 0
            for beat, number, velocity, channel in sorted(item["notes"]):
                at = round(beat * 960)
                yield f"    E {at - tick} 9{channel:x} {number:02x} {velocity:02x}"
                yield f"    E 10 8{channel:x} {number:02x} 00"
                tick = at + 10
            yield from (f"    E {round(item['midi_beats'] * 960) - tick} b0 7b 00", "  >")
        elif item["kind"] == "audio":
            source = ["<SOURCE WAVE", f'  FILE "{item["file"]}"', ">"]
            if item["section"] or item["is_reversed"]:
                start_s, length_s = item["section"] or (0.0, 0.0)
                mode = (2 if item["section"] else 3) if item["is_reversed"] else 0
                head = [f"  LENGTH {length_s!r}", f"  MODE {mode}", f"  STARTPOS {start_s!r}"]
                source = ["<SOURCE SECTION", *head, *(f"  {line}" for line in source), ">"]
            yield from (f"  {line}" for line in source)
        yield ">"

    def session(self):
        from daw_bridge.choice import Choice
        from daw_bridge.reaper.rpp import open_project

        return open_project(self.path, choice=Choice(items=self._chosen), overwrite=True)

    def tracks_after(self):
        """The tracks that are there now, with the items on them."""
        from daw_bridge.reaper.rpp import open_project

        path = self.output if self.output.exists() else self.path
        job = open_project(path, output=self.folder / "never.rpp").collect()
        return [
            {
                "name": found.name,
                "color": found.color,
                "items": [
                    {"name": i.name, "position_s": i.position_s, "length_s": i.length_s, "file": i.file}
                    for i in job.items
                    if i.track == place
                ],
            }
            for place, found in enumerate(job.tracks)
        ]

    def is_untouched(self):
        """Whether nothing happened to what was there before."""
        return self.path.read_bytes() == self.before

    def close(self):
        pass


def _shown(tracks):
    keys = ("name", "position_s", "length_s", "file")
    return [
        {
            "name": one["name"],
            "color": one["color"],
            "items": [{key: item[key] for key in keys} for item in one["items"]],
        }
        for one in tracks
    ]


_TURN = []  # the socket that one run of the tests holds at a time, as long as it needs reapy's ports


class ReaperWorld:
    """A scene in a stand-in for a running REAPER, one process for many tests as long as none spoils it."""

    running = None  # the process, and the script that it runs

    def __init__(self, folder, tracks, *, script=None, starts_server=True, action="", **time):
        import daw_bridge

        self.media_folder = folder / "media"
        self.media_folder.mkdir(parents=True, exist_ok=True)
        self.sessions = []
        scene = {"path": str(folder / "song.rpp"), "media_folder": str(self.media_folder), "tracks": tracks}
        scene |= {"starts_server": starts_server, "action": action, **time}
        self._scene = folder / "scene.json"
        self._scene.write_text(json.dumps(scene))
        script = script or Path(daw_bridge.__file__).parent / "reaper" / "actions" / "redrum_server.py"
        self.is_spoilt = not starts_server
        self._home = own_home()
        self._home.__enter__()
        try:
            if self._is_running(script) and not self.is_spoilt:
                self.process = self.running[0]
                self.control(f"scene/{quote(str(self._scene), safe='')}")
            else:
                self.stop()
                self._start(script)
        except BaseException:  # a test that is skipped leaves the next one its own home
            self._home.__exit__(None, None, None)
            raise
        self.before = self.tracks_after()

    def _start(self, script):
        _wait_for_ports()
        program = Path(__file__).with_name("stand_in_reaper.py")
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(program), str(self._scene), str(script)],
            stdout=subprocess.PIPE,
        )
        ReaperWorld.running = self.process, script
        assert self.process.stdout.readline() == b"ready\n"

    def _is_running(self, script):
        return self.running is not None and self.running[1] == script and self.running[0].poll() is None

    @classmethod
    def stop(cls):
        """End the process."""
        if cls.running is not None:
            process = cls.running[0]
            process.kill()
            process.wait()
            process.stdout.close()
            cls.running = None

    def session(self):
        from daw_bridge.reaper.running import RunningSession

        self.sessions.append(RunningSession.connect())
        return self.sessions[-1]

    def control(self, command):
        """Do something to the stand-in; after much of it, it is not fit for another test."""
        self.is_spoilt |= command.partition("/")[0] not in (
            "scene",
            "snapshot",
            "stall",
            "settle",
            "new-tab",
            "close",
            "delete-track",
        )
        with urllib.request.urlopen(f"http://localhost:2307/stand-in/{command}", timeout=20) as page:
            return page.read().decode()

    def stall_s(self):
        """The longest that the loop stood still since the last call, and the longest that it worked, s."""
        return tuple(json.loads(self.control("stall")))

    def snapshot(self):
        return json.loads(self.control("snapshot"))

    def tracks_after(self):
        return _shown(self.snapshot()["tracks"])

    def is_untouched(self):
        return [one for one in self.tracks_after() if one in self.before] == self.before

    def close(self):
        for session in self.sessions:
            session.close()
        if self.process.poll() is not None or self.is_spoilt:
            self.stop()
        self._home.__exit__(None, None, None)


class LuaWorld:
    """A scene in a stand-in for a running REAPER, as its Lua sees it; nothing runs beside the test."""

    def __init__(self, folder, tracks, *, path="song.rpp", **time):
        import daw_bridge

        self.media_folder, self.resources = folder / "media", folder / "resöurces"
        for made in (self.media_folder, self.resources):
            made.mkdir(parents=True, exist_ok=True)
        self.actions = Path(daw_bridge.__file__).parent / "reaper" / "actions"
        scene = {"path": path and str(folder / path), "media_folder": str(self.media_folder), **time}
        stand_in = _helper("stand_in_reaper")
        self.reaper = stand_in.Reaper(scene | {"tracks": tracks})
        self.lua = _helper("lua_reaper").LuaReaper(self.reaper, stand_in.SIGNATURES, self.resources)
        self.before = self.tracks_after()

    def session(self):
        return _LuaSession(self)

    def snapshot(self):
        return self.reaper.snapshot()

    def tracks_after(self):
        return _shown(self.snapshot()["tracks"])

    def is_untouched(self):
        return [one for one in self.tracks_after() if one in self.before] == self.before

    def close(self):
        assert self.lua.refused == []
        assert self.reaper.n_open_sources == 0


_LUA_SESSION = """
function(folder)
  local session, json = dofile(folder .. "redrum_session.lua"), dofile(folder .. "redrum_json.lua")
  local project, path
  local function gather(beginnings)
    project, path = session.project(-1)
    return json.encode((session.gather(project, path, "items", json.decode(beginnings))))
  end
  local function write_back(result)
    return session.write_back(project, path, json.decode(result).tracks)
  end
  return gather, write_back
end
"""


class _LuaSession:
    """The part of the action that works on the project, as a session; facts and plans pass through files."""

    def __init__(self, world):
        from daw_bridge.job_files import JobFiles

        self._files = JobFiles(world.resources / "job.json")
        new = world.lua.new_lua().eval(_LUA_SESSION.encode())
        self._gather, self._write_back = new(f"{world.actions}/".encode())

    def collect(self):
        from daw_bridge.action_job import read_job
        from daw_bridge.job_files import SCHEMA
        from daw_bridge.session import RHYTHM_TRACKS

        text = self._gather(json.dumps(RHYTHM_TRACKS).encode()).decode("utf-8", "surrogateescape")
        self._files.put(self._files.job, {"schema": SCHEMA, "order": {}, "facts": json.loads(text)})
        return read_job(self._files.job)[1]

    def write_back(self, job, takes):
        from daw_bridge.action_job import JobSession
        from daw_bridge.job_files import JobProgress

        media = JobSession(job, self._files, JobProgress(self._files)).write_back(job, takes)
        assert self._write_back(self._files.result.read_bytes()) is None
        self._files.result.unlink()
        return media


def _helper(name):
    """Return a module that lies beside this one."""
    spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name(f"{name}.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session", autouse=True)
def _no_process_is_left():
    yield
    ReaperWorld.stop()
    while _TURN:
        _TURN.pop().close()
    LiveWorld.clean()
    ArdourWorld.stop()


def _wait_for_ports():
    """Skip the test if another program, or another run of these tests, keeps the ports that reapy uses."""
    deadline = time.monotonic() + 20
    if (
        not _TURN
    ):  # until this process ends: in between, ports are free for moments, as in tests of a lost REAPER
        turn = socket.socket()
        while True:
            try:
                turn.bind(("127.0.0.1", 2305))
                break
            except OSError:
                if time.monotonic() > deadline:
                    turn.close()
                    pytest.skip("another run of these tests uses reapy's ports")
            time.sleep(0.2)
        _TURN.append(turn)
    for port in (2306, 2307):
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)):
                    break
            if time.monotonic() > deadline:
                pytest.skip(f"port {port} is taken")
            time.sleep(0.2)


def _guid():
    return f"{{{uuid.uuid4()}}}".upper()


WORLDS = {
    "rpp": RppWorld,
    "reaper": ReaperWorld,
    "action": LuaWorld,
    "live": LiveWorld,
    "als": AlsWorld,
    "ardour": ArdourWorld,
}


@pytest.fixture
def worlds(tmp_path, monkeypatch):
    """Return a function that makes a world; all of them end with the test."""
    monkeypatch.setattr("daw_bridge.reaper.running.LOOK_TIMEOUT_S", 15.0)  # whatever else this machine does
    made = []

    def make(kind, tracks, **more):
        folder = tmp_path / f"world-{len(made)}"
        folder.mkdir()
        made.append(WORLDS[kind](folder, tracks, **more))
        return made[-1]

    make.track, make.audio, make.midi = track, audio, midi
    yield make
    for world in made:
        world.close()


@pytest.fixture
def redrummer():
    """What makes takes, without models: drums are clicks."""
    from transform.engine import Redrummer

    return Redrummer(ClickTranscriber())
