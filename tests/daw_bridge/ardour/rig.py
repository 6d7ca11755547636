"""A real Ardour without a screen or a sound card, which tests work with as a user and look into.

It runs under Xvfb on its Dummy backend, with a home of its own. A hook of the tests, a timer inside Ardour,
runs Lua that is dropped into a file; the shipped actions are started by a key press or as their menu does
it.
"""

import base64
import json
import os
import shutil
import signal
import struct
import subprocess
import time
import zlib
from contextlib import suppress
from pathlib import Path
from unittest import mock

import numpy as np

from daw_bridge.ardour.install import install

PROGRAMS = ("ardour", "ardour7-lua", "Xvfb", "xdotool")
ACCEPT, CANCEL, CLOSE, YES = "alt+o", "alt+c", "Escape", "alt+y"  # in windows of Ardour
ACTION_KEYS = ("F1", "F2", "F3", "F4")  # of the actions, in these tests
SELECTED, LAST, TRACKS, EDIT = ACTION_KEYS
RHYTHM = "hip-hop-bounce-140"
WAIT_S = 180.0  # for what takes seconds: only a fault takes as long, however busy the machine is
LOOK_S = 0.05
KEYS = Path("/etc/ardour7/ardour.keys")  # of the installed package
# Ardour 7 numbers its signals: LuaTimerDS, ten times a second, is the 48th of 49.
TIMER = "01" + "0" * 47
CONFIG = """<?xml version="1.0" encoding="UTF-8"?>
<Ardour>
  <Config>
    <Option name="hide-dummy-backend" value="0"/>
    <Option name="try-autostart-engine" value="1"/>
    <Option name="port-resampler-quality" value="0"/>
  </Config>
  <Extra><AudioMIDISetup><EngineStates>
    <State backend="None (Dummy)" driver="Normal Speed" device="Silence" input-device="" output-device=""
      sample-rate="{rate}" buffer-size="1024" n-periods="0" input-latency="0" output-latency="0"
      input-channels="0" output-channels="2" active="1" use-buffered-io="0" midi-option=""/>
  </EngineStates></AudioMIDISetup></Extra>
</Ardour>
"""
HOOK = """return function()
  local file = io.open("@FOLDER@/drop.lua", "rb")
  if not file then return end
  local text = file:read("a")
  file:close()
  os.remove("@FOLDER@/drop.lua")
  local json = loadfile("@FOLDER@/json.lua")()
  local run, why = load(text)
  local is_done, value = false, why
  if run then is_done, value = pcall(run) end
  local answer = is_done and { value = value } or { error = tostring(value) }
  file = io.open("@FOLDER@/answer.part", "wb")
  file:write(json.encode(answer))
  file:close()
  os.rename("@FOLDER@/answer.part", "@FOLDER@/answer.json")
end"""
LIBRARY = """
local json_list = loadfile("@FOLDER@/json.lua")().list
local function tracks()
  local found = {}
  for route in Session:get_tracks():iter() do found[#found + 1] = route end
  table.sort(found, function(one, other)
    return one:presentation_info_ptr():order() < other:presentation_info_ptr():order()
  end)
  return found
end
local function new_track(name, n_channels)
  local order, mode = ARDOUR.PresentationInfo.max_order, ARDOUR.TrackMode.Normal
  Session:new_audio_track(n_channels, 2, nil, 1, name, order, mode, false)
end
local function new_midi_track(name)
  local order, mode = ARDOUR.PresentationInfo.max_order, ARDOUR.TrackMode.Normal
  local one, none = ARDOUR.ChanCount(ARDOUR.DataType("midi"), 1), ARDOUR.PluginInfo()
  Session:new_midi_track(one, one, true, none, nil, nil, 1, name, order, mode, true)
end
local function id_of(object) return object:to_stateful():id():to_s() end
local function track_named(name)
  for route in Session:get_tracks():iter() do
    if route:name() == name then return route end
  end
  error("no track " .. name)
end
local function regions_of(name)
  local found = {}
  for region in track_named(name):to_track():playlist():region_list():iter() do found[#found + 1] = region end
  table.sort(found, function(one, other) return one:position():samples() < other:position():samples() end)
  return found
end
local function embed(file, name, at)
  local files = C.StringVector()
  files:push_back(file)
  Editor:do_embed(files, Editing.ImportDistinctFiles, Editing.ImportAsTrack, Temporal.timepos_t(at),
    ARDOUR.PluginInfo(), track_named(name):to_track())
end
local function import(file, name, at)
  local files = C.StringVector()
  files:push_back(file)
  Editor:do_import(files, Editing.ImportDistinctFiles, Editing.ImportAsTrack, ARDOUR.SrcQuality.SrcBest,
    ARDOUR.MidiTrackNameSource.SMFTrackName, ARDOUR.MidiTempoMapDisposition.SMFTempoIgnore,
    Temporal.timepos_t(at), ARDOUR.PluginInfo(), track_named(name):to_track(), false)
end
local function trim_front(region, count)
  region:trim_front(region:position() + Temporal.timecnt_t(count))
end
local function set_tempo(changes)
  local map = Temporal.TempoMap.write_copy()
  for _, change in ipairs(changes) do
    map:set_tempo(Temporal.Tempo(change[2], change[2], 4), Temporal.timepos_t.from_ticks(change[1] * 1920))
  end
  Temporal.TempoMap.update(map)
end
local function select_regions(regions)
  local selection = ArdourUI.SelectionList()
  for _, region in ipairs(regions) do selection:push_back(Editor:regionview_from_region(region)) end
  Editor:set_selection(selection, ArdourUI.SelectionOp.Set)
end
"""


def why_not():
    """Return why there is no Ardour to test with, "" where there is."""
    missing = [program for program in PROGRAMS if not shutil.which(program)]
    if missing:
        return f"{' and '.join(missing)} of the packages ardour, xvfb and xdotool are not installed"
    return "" if KEYS.is_file() else f"{KEYS} of Ardour 7 is not there"


def quoted(text):
    """Return a text as Lua."""
    return json.dumps(text, ensure_ascii=False)


def until(condition, what, wait_s=WAIT_S):
    """Return what a condition returns once it is true."""
    give_up_s = time.monotonic() + wait_s
    while not (found := condition()):
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"{what} did not come in {wait_s:g} s")
        time.sleep(LOOK_S)
    return found


class Screen:
    """A screen in memory."""

    def __init__(self, folder):
        folder.mkdir()
        self._memory = folder / "Xvfb_screen0"
        self._process = subprocess.Popen(
            ["Xvfb", "-displayfd", "1", "-screen", "0", "1280x720x24", "-fbdir", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.display = f":{int(self._process.stdout.readline())}"

    def xdotool(self, *words):
        done = subprocess.run(
            ["xdotool", *words],
            env={**os.environ, "DISPLAY": self.display},
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.split()

    def picture(self, path, *, height=720):
        """Write what is on the screen, from its top on, as PNG."""
        data = self._memory.read_bytes()
        head = struct.unpack(">25I", data[:100])
        width, line = head[4], head[12]
        pixels = np.frombuffer(data, np.uint8, line * height, head[0] + 12 * head[19])
        rows = pixels.reshape(height, line)[:, : 4 * width].reshape(height, width, 4)[:, :, 2::-1]
        codes = rows.astype(np.uint32) // 8 @ np.array([1024, 32, 1], np.uint32)
        counts = np.bincount(codes.ravel(), minlength=2**15)
        palette = np.argsort(-counts)[:256]
        spread = np.stack([palette // 1024, palette // 32 % 32, palette % 32], axis=1)
        nearest = np.zeros(2**15, np.uint8)
        for code in np.flatnonzero(counts):
            color = np.array([code // 1024, code // 32 % 32, code % 32])
            nearest[code] = np.abs(spread - color).sum(axis=1).argmin()
        lines = nearest[codes]
        palette = spread * 8
        raw = b"".join(b"\0" + row.tobytes() for row in lines)
        chunks = [
            (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)),
            (b"PLTE", palette.astype(np.uint8).tobytes()),
            (b"IDAT", zlib.compress(raw, 9)),
            (b"IEND", b""),
        ]
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + b"".join(
                struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
                for kind, body in chunks
            )
        )

    def close(self):
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()


class Ardour:
    """A user's Ardour: its home, and the program while it runs."""

    def __init__(self, folder, screen, *, rate=48_000):
        self.folder, self.screen, self.rate = folder, screen, rate
        self.process = None
        self.config = folder / "home" / ".config" / "ardour7"
        self.config.mkdir(parents=True)
        (self.config / ".a7").touch()
        self.set_engine_rate(rate)
        self._bind_keys()
        shutil.copy(_json_lua(), folder / "json.lua")
        self.environment = {
            **{name: value for name, value in os.environ.items() if name != "XDG_CONFIG_HOME"},
            "HOME": str(folder / "home"),
            "DISPLAY": screen.display,
            "REDRUM_DATA": str(folder / "data"),
            "LC_ALL": "C.UTF-8",
        }
        with mock.patch("daw_bridge.ardour.install.is_running", return_value=False):  # this one does not
            install(self.config)
        self._add_hook()
        self._note_what_is_said()

    def set_engine_rate(self, rate):
        (self.config / "config").write_text(CONFIG.format(rate=rate))

    def _bind_keys(self):
        text = KEYS.read_text(encoding="utf-8")
        first = '<Bindings name="Editor">\n  <Press>\n'
        assert first in text
        for slot, key in enumerate(ACTION_KEYS, 1):
            text = text.replace(f'key="{key}"', f'key="Tertiary-{key}"')
            binding = f'   <Binding key="{key}" action="LuaAction/script-{slot}"/>\n'
            text = text.replace(first, first + binding, 1)
        (self.config / "ardour.keys").write_text(text, encoding="utf-8")

    def _add_hook(self):
        quoted = HOOK.replace("@FOLDER@", str(self.folder)).replace("\\", "\\\\").replace('"', '\\"')
        quoted = quoted.replace("\n", "\\\n")
        state = base64.b64encode(f's = {{}} s["n"] = "test" s["s"] = "" s["f"] = "{quoted}" '.encode()).decode()
        hook = f'<LuaCallback lua="Lua 5.3" id="99" name="test" signals="{TIMER}">{state}</LuaCallback>'
        path = self.config / "ui_scripts"
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("<ActionHooks/>", f"<ActionHooks>{hook}</ActionHooks>"), encoding="utf-8")

    def _note_what_is_said(self):
        """Have the actions write down, too, what they say in a window."""
        path = self.config / "redrum" / "redrum.lua"
        text, line = path.read_text(encoding="utf-8"), "local function show(text)\n"
        assert line in text
        path.write_text(text.replace(line, line + "  json.write(FOLDER .. 'said', text)\n"), encoding="utf-8")

    def new_session(self, name, *, parent=None, rate=None):
        """Return the folder of a new session with no tracks."""
        folder = (parent or self.folder) / name
        script = self.folder / "new.lua"
        rate = rate or self.rate
        script.write_text(
            'local backend = AudioEngine:set_backend("None (Dummy)", "", "")\n'
            'backend:set_device_name("Silence")\n'
            f"backend:set_sample_rate({rate})\n"
            f"local made = create_session({quoted(str(folder))}, {quoted(name)}, {rate})\n"
            'made:save_state("")\nclose_session()\n',
            encoding="utf-8",
        )
        done = subprocess.run(
            ["ardour7-lua", str(script)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        assert folder.is_dir(), done.stdout + done.stderr
        return folder

    def start(self, session):
        """Start Ardour on a session, and wait until it answers."""
        self._log = (self.folder / "ardour.log").open("ab")
        self.process = subprocess.Popen(
            ["ardour", "-a", "-n", "-O", str(session)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.lua("return Session:name()")

    def lua(self, text):
        """Return what Lua returns that is run inside Ardour."""
        self.begin_lua(text)
        return self.lua_answer()

    def begin_lua(self, text):
        """Let Ardour begin to run Lua."""
        (self.folder / "answer.json").unlink(missing_ok=True)
        part = self.folder / "drop.part"
        part.write_text(LIBRARY.replace("@FOLDER@", str(self.folder)) + text, encoding="utf-8")
        part.rename(self.folder / "drop.lua")

    def lua_answer(self):
        """Return what that Lua returned."""
        answer = self.folder / "answer.json"

        def look():
            if self.process.poll() is not None:
                raise RuntimeError(f"Ardour ended with {self.process.returncode}: {self.log()}")
            return answer.exists()

        until(look, "an answer of Ardour")
        found = json.loads(answer.read_text(encoding="utf-8"))
        if "error" in found:
            raise RuntimeError(found["error"])
        return found.get("value")

    def select(self, *tracks):
        """Select all regions of tracks, and nothing else."""
        names = ", ".join(map(quoted, tracks))
        self.lua(
            f"local found = {{}} for _, name in ipairs({{{names}}}) do"
            " for _, region in ipairs(regions_of(name)) do found[#found + 1] = region end end"
            " select_regions(found)"
        )

    def windows(self, name):
        """Return the windows of this Ardour with a name."""
        only = ("--all", "--onlyvisible", "--pid", str(self.process.pid))
        return self.screen.xdotool("search", *only, "--name", name)

    def press(self, key):
        """Press a key over Ardour's window."""
        window = until(lambda: self.windows(" - Ardour$"), "the editor")[0]
        self.screen.xdotool("windowfocus", "--sync", window, "mousemove", "640", "400", "key", key)

    def answer(self, **answers):
        """Let these be the last answers to what the actions ask."""
        defaults = {"rhythm": RHYTHM, "engine": "resequence", "length": "source", "seed": "7", "kit": "auto"}
        (self.config / "redrum" / "answers.json").write_text(json.dumps({**defaults, **answers}))

    def close_window(self, *keys, title="Redrum"):
        """Press keys in the window that asks or says something, once it is there."""
        window = until(lambda: self.windows(f"^{title}"), f"a window {title}")[-1]
        self.screen.xdotool("windowfocus", "--sync", window, *(word for key in keys for word in ("key", key)))
        until(lambda: window not in self.windows(f"^{title}"), f"the end of a window {title}")

    def said(self):
        """Return what an action says, after closing its window."""
        path = self.config / "redrum" / "said"
        until(path.exists, "a sentence")
        self.close_window(CLOSE)
        text = path.read_text(encoding="utf-8")
        path.unlink()
        return text

    def redrum_again(self):
        """Have the selected regions redrummed with the last answers, and wait until that is done."""
        self.press(LAST)
        self._wait_for(self.jobs, "a job")
        self.wait_for_end()

    def wait_for_end(self):
        """Wait until no job is left, and no window of Redrum."""
        self._wait_for(lambda: not self.jobs() and not self.windows("^Redrum"), "the end of a job")

    def _wait_for(self, condition, what):
        until(lambda: condition() or self._has_said(), what)
        if self._has_said():
            raise RuntimeError(self.said())

    def _has_said(self):
        return (self.config / "redrum" / "said").exists()

    def wait_for_stage(self, words):
        """Wait until the job says that it has come so far."""

        def look():
            for path in (self.config / "redrum" / "jobs").glob("*.progress.json"):
                with suppress(OSError, ValueError):
                    return words in json.loads(path.read_bytes())["text"]
            return False

        until(look, words)

    def jobs(self):
        """Return the names of the files of jobs."""
        return sorted(path.name for path in (self.config / "redrum" / "jobs").iterdir())

    def tracks(self):
        """Return the names of the tracks, from the top."""
        return self.lua(
            "local found = json_list() for _, route in ipairs(tracks()) do found[#found + 1] = route:name() end"
            " return found"
        )

    def regions(self, track):
        """Return name, position and length of the regions of a track, in samples."""
        return self.lua(
            f"local found = json_list() for _, region in ipairs(regions_of({quoted(track)})) do"
            " local audio = region:to_audioregion()"
            " found[#found + 1] = { name = region:name(), position = region:position():samples(),"
            " length = region:length():samples(), n_channels = audio:isnil() and 0 or audio:n_channels(),"
            " has_fades = not audio:isnil() and (audio:fade_in_active() or audio:fade_out_active()) } end"
            " return found"
        )

    def samples(self, track, place=0):
        """Return the samples (C, T) of a region, as Ardour reads them."""
        path = self.folder / "samples.raw"
        n_channels = self.lua(
            f"local region = regions_of({quoted(track)})[{place + 1}]"
            " local audio, count = region:to_audioregion(), region:length():samples()"
            " local memory = ARDOUR.DSP.DspShm(count)"
            f" local file = io.open({quoted(str(path))}, 'wb')"
            " for channel = 0, audio:n_channels() - 1 do"
            "  audio:to_readable():read(memory:to_float(0), 0, count, channel)"
            "  local found = memory:to_float(0):array()"
            "  for n = 1, count do file:write(string.pack('<f', found[n])) end"
            " end file:close() return audio:n_channels()"
        )
        return np.fromfile(path, "<f4").reshape(n_channels, -1)

    def log(self):
        return (self.folder / "ardour.log").read_text(encoding="utf-8", errors="replace")[-2000:]

    def kill(self):
        """Kill Ardour."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._log.close()


def _json_lua():
    import daw_bridge.reaper.install

    return daw_bridge.reaper.install.actions_folder() / "redrum_json.lua"
