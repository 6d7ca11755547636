"""A stand-in for REAPER, run as a program: a scene behind ReaScript's functions, a web interface, a 30 Hz loop.

    python stand_in_reaper.py SCENE.json SCRIPT.py

As in REAPER, `reaper_python` packs its arguments into C types and calls a table of C functions; pointers are
written `(MediaItem*)0x%08X%08X`; functions that fill arguments return all of them; texts pass through buffers
of 4 MiB; scripts run in `__main__`, which has RPR_defer and RPR_atexit; the web interface answers what reapy
asks. All else is as simple as the tests allow. `/stand-in/COMMAND` of the web interface is for the tests.
"""

import ctypes
import json
import os
import sys
import threading
import time
import types
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).resolve().parents[2]
TICK_S = 1 / 30
obj = object()  # by this name reapy knows that it is inside

C_TYPES = {"int": ctypes.c_int, "bool": ctypes.c_byte, "double": ctypes.c_double, "text": ctypes.c_char_p}
SIGNATURES = {
    "APIExists": "bool : text",
    "AddMediaItemToTrack": "MediaItem* : MediaTrack*",
    "AddTakeToMediaItem": "MediaItem_Take* : MediaItem*",
    "CountTempoTimeSigMarkers": "int : ReaProject*",
    "CountTrackMediaItems": "int : MediaTrack*",
    "CountTracks": "int : ReaProject*",
    "DeleteExtState": "None : text text bool",
    "DeleteTrack": "None : MediaTrack*",
    "EnumProjects": "ReaProject* : int out_text int",
    "GetActiveTake": "MediaItem_Take* : MediaItem*",
    "GetExtState": "text : text text",
    "GetMediaItemInfo_Value": "double : MediaItem* text",
    "GetMediaItemTakeInfo_Value": "double : MediaItem_Take* text",
    "GetMediaItemTake_Source": "PCM_source* : MediaItem_Take*",
    "GetMediaSourceFileName": "None : PCM_source* out_text int",
    "GetMediaSourceLength": "double : PCM_source* out_bool",
    "GetMediaSourceParent": "PCM_source* : PCM_source*",
    "GetMediaTrackInfo_Value": "double : MediaTrack* text",
    "GetProjectPathEx": "None : ReaProject* out_text int",
    "GetProjectStateChangeCount": "int : ReaProject*",
    "GetProjectTimeSignature2": "None : ReaProject* out_double out_double",
    "GetResourcePath": "text : ",
    "GetSetMediaItemTakeInfo_String": "bool : MediaItem_Take* text out_text bool",
    "GetSetMediaTrackInfo_String": "bool : MediaTrack* text out_text bool",
    "GetTakeName": "text : MediaItem_Take*",
    "GetTakeNumStretchMarkers": "int : MediaItem_Take*",
    "GetTakeStretchMarker": "int : MediaItem_Take* int out_double out_double",
    "GetTakeStretchMarkerSlope": "double : MediaItem_Take* int",
    "GetTempoTimeSigMarker": (
        "bool : ReaProject* int out_double out_int out_double out_double out_int out_int out_bool"
    ),
    "GetTrack": "MediaTrack* : ReaProject* int",
    "GetTrackMediaItem": "MediaItem* : MediaTrack* int",
    "InsertTrackAtIndex": "None : int bool",
    "MIDI_CountEvts": "int : MediaItem_Take* out_int out_int out_int",
    "MIDI_GetNote": (
        "bool : MediaItem_Take* int out_bool out_bool out_double out_double out_int out_int out_int"
    ),
    "MIDI_GetProjQNFromPPQPos": "double : MediaItem_Take* double",
    "PCM_Source_CreateFromFile": "PCM_source* : text",
    "PCM_Source_Destroy": "None : PCM_source*",
    "PCM_Source_GetSectionInfo": "bool : PCM_source* out_double out_double out_bool",
    "PreventUIRefresh": "None : int",
    "SelectProjectInstance": "None : ReaProject*",
    "SetExtState": "None : text text text bool",
    "SetMediaItemInfo_Value": "bool : MediaItem* text double",
    "SetMediaItemTake_Source": "bool : MediaItem_Take* PCM_source*",
    "SetMediaTrackInfo_Value": "bool : MediaTrack* text double",
    "ShowConsoleMsg": "None : text",
    "TakeIsMIDI": "bool : MediaItem_Take*",
    "TimeMap_GetTimeSigAtTime": "None : ReaProject* double out_int out_int out_double",
    "Undo_BeginBlock2": "None : ReaProject*",
    "Undo_CanUndo2": "text : ReaProject*",
    "Undo_DoUndo2": "int : ReaProject*",
    "Undo_EndBlock2": "None : ReaProject* text int",
    "UpdateArrange": "None : ",
    "get_config_var_string": "bool : text out_text int",
}


class Reaper:
    """The state of the program; each public method is the ReaScript function of its name."""

    def __init__(self, scene):
        self.ext_state = {}
        self.load(scene)

    def load(self, scene):
        self._objects = {}
        self.undo = []  # names of steps
        self._before = []  # the tracks of all projects before each of these
        self.n_open_sources = 0  # made from files, and neither destroyed nor in an item
        self.delay_s, self.n_changes, self.is_restless = 0.0, 0, False
        self.projects = [self._project(scene)]
        self.current = self.projects[0]

    def handle(self, thing):
        if thing is None:
            return 0
        if "handle" not in thing:
            thing["handle"] = 0x7F3A_0000_1000 + 64 * len(self._objects)
            self._objects[thing["handle"]] = thing
        return thing["handle"]

    def thing(self, handle):
        return self.current if handle == 0 else self._objects[handle]

    def _project(self, scene):
        tracks = []
        for track in scene["tracks"]:
            items = [self._item(item) for item in track["items"]]
            kept = {key: track[key] for key in ("name", "color", "is_selected", "folder_depth")}
            kept["has_lanes"] = any(item["is_silent_lane"] for item in items)
            tracks.append({"guid": _guid(), "items": items, **kept})
        project = {"bpm": 120.0, "points": [], "metres": [], "bar_offset": 0, "pan_law": 1.0, "tracks": tracks}
        given = ("path", "media_folder", "bpm", "points", "metres", "bar_offset", "pan_law")
        project |= {key: scene[key] for key in given if key in scene}
        for track in tracks:
            for item in track["items"]:
                item["project"] = project
        return project

    def _item(self, item):
        take = None
        if item["kind"] != "empty":
            source = {"file": item["file"], "parent": None, "section": None, "item": item}
            if item["section"] or item["is_reversed"]:
                section = (*(item["section"] or (0.0, 0.0)), item["is_reversed"])
                source = {"file": "", "parent": source, "section": section, "item": item}
            take = {"item": item, "source": source, "name": item["name"]}
        return item | {"take": take}

    # Functions: arguments that are filled come in, and go out after the result

    def APIExists(self, name):
        return name in SIGNATURES

    def AddMediaItemToTrack(self, track):
        item = {"position_s": 0.0, "length_s": 0.0, "is_looped": True, "take": None, "is_new": True}
        self.thing(track)["items"].append(item)
        return self.handle(item)

    def AddTakeToMediaItem(self, item):
        take = {"item": self.thing(item), "source": None, "name": ""}
        self.thing(item)["take"] = take
        return self.handle(take)

    def CountTempoTimeSigMarkers(self, project):
        return len(self.thing(project)["points"])

    def CountTrackMediaItems(self, track):
        return len(self.thing(track)["items"])

    def CountTracks(self, project):
        return len(self.thing(project)["tracks"])

    def DeleteExtState(self, section, key, persist):
        self.ext_state.pop((section, key), None)

    def DeleteTrack(self, track):
        for project in self.projects:
            project["tracks"] = [t for t in project["tracks"] if t is not self.thing(track)]

    def EnumProjects(self, place, path, size):
        project = self.current if place < 0 else (self.projects[place : place + 1] or [None])[0]
        return self.handle(project), project["path"] if project else ""

    def GetActiveTake(self, item):
        return self.handle(self.thing(item)["take"])

    def GetExtState(self, section, key):
        return self.ext_state.get((section, key), "")

    def GetMediaItemInfo_Value(self, item, key):
        item = self.thing(item)
        return {
            "D_POSITION": item["position_s"],
            "D_LENGTH": item["length_s"],
            "B_MUTE": item.get("is_muted", False),
            "B_LOOPSRC": item["is_looped"],
            "I_GROUPID": item.get("group", 0),
            "B_UISEL": item.get("is_selected", False),
            "C_LANEPLAYS": not item.get("is_silent_lane"),
            "D_VOL": item.get("volume", 1.0),
            "D_FADEINLEN": item.get("fade_in", (0.0, 0))[0],
            "D_FADEINLEN_AUTO": -1.0,
            "C_FADEINSHAPE": item.get("fade_in", (0.0, 0))[1],
            "D_FADEOUTLEN": item.get("fade_out", (0.0, 0))[0],
            "D_FADEOUTLEN_AUTO": -1.0,
            "C_FADEOUTSHAPE": item.get("fade_out", (0.0, 0))[1],
        }[key]

    def GetMediaItemTakeInfo_Value(self, take, key):
        item = self.thing(take)["item"]
        if key in ("D_VOL", "D_PAN", "D_PANLAW"):
            return item["level"][("D_VOL", "D_PAN", "D_PANLAW").index(key)]
        names = {"D_STARTOFFS": "start_offset_s", "D_PLAYRATE": "play_rate", "B_PPITCH": "keeps_pitch"}
        return item[{**names, "I_CHANMODE": "channel_mode"}[key]]

    def GetMediaItemTake_Source(self, take):
        return self.handle(self.thing(take)["source"])

    def GetMediaSourceFileName(self, source, file, size):
        return (self.thing(source)["file"],)

    def GetMediaSourceLength(self, source, is_beats):
        return self.thing(source)["item"]["midi_beats"], 1

    def GetMediaSourceParent(self, source):
        return self.handle(self.thing(source)["parent"])

    def GetMediaTrackInfo_Value(self, track, key):
        if key == "I_FREEMODE":
            return 2 * self.thing(track).get("has_lanes", False)
        return self.thing(track)[{"I_CUSTOMCOLOR": "color", "I_FOLDERDEPTH": "folder_depth"}[key]]

    def GetProjectPathEx(self, project, path, size):
        return (self.thing(project)["media_folder"],)

    def GetProjectStateChangeCount(self, project):
        self.n_changes += self.is_restless
        return self.n_changes

    def GetProjectTimeSignature2(self, project, bpm, beats):
        return self.thing(project)["bpm"], 4.0

    def GetResourcePath(self):
        return str(Path(__file__).parent)

    def GetSetMediaItemTakeInfo_String(self, take, key, text, is_set):
        return self._name(self.thing(take), key, text, is_set)

    def GetSetMediaTrackInfo_String(self, track, key, text, is_set):
        return self._name(self.thing(track), key, text, is_set)

    def _name(self, thing, key, text, is_set):
        name = {"P_NAME": "name", "GUID": "guid"}[key]
        if is_set:
            thing[name] = text
        return 1, thing[name]

    def GetTakeName(self, take):
        return self.thing(take)["name"]

    def GetTakeNumStretchMarkers(self, take):
        return len(self.thing(take)["item"]["markers"])

    def GetTakeStretchMarker(self, take, number, *filled):
        return (number, *self.thing(take)["item"]["markers"][number][:2])

    def GetTakeStretchMarkerSlope(self, take, number):
        return self.thing(take)["item"]["markers"][number][2]

    def GetTempoTimeSigMarker(self, project, number, *filled):
        at_s, bpm, glides = self.thing(project)["points"][number]
        metres = {begin_s: metre for begin_s, *metre in self.thing(project)["metres"]}
        return 1, at_s, 0, 0.0, bpm, *metres.get(at_s, (0, 0)), glides

    def TimeMap_GetTimeSigAtTime(self, project, at_s, *filled):
        project = self.thing(project)
        metres = [metre for begin_s, *metre in project["metres"] if begin_s <= at_s]
        return *(metres or [(4, 4)])[-1], project["bpm"]

    def GetTrack(self, project, place):
        tracks = self.thing(project)["tracks"]
        return self.handle(tracks[place]) if 0 <= place < len(tracks) else 0

    def GetTrackMediaItem(self, track, place):
        return self.handle(self.thing(track)["items"][place])

    def InsertTrackAtIndex(self, place, wants_defaults):
        track = {"guid": _guid(), "name": "", "color": 0, "is_selected": False, "items": [], "is_new": True}
        track["folder_depth"] = 0
        self.current["tracks"].insert(place, track)

    def MIDI_CountEvts(self, take, *filled):
        n_notes = len(self.thing(take)["item"]["notes"])
        return n_notes, n_notes, 0, 0

    def MIDI_GetNote(self, take, number, *filled):
        beat, pitch, velocity, channel = self.thing(take)["item"]["notes"][number]
        return 1, 0, 0, beat * 960, beat * 960 + 60, channel, pitch, velocity

    def MIDI_GetProjQNFromPPQPos(self, take, ppq):
        from daw_bridge.session import project_tempo
        from transform.events import TempoMap

        item = self.thing(take)["item"]
        tempo_map = TempoMap(project_tempo(self.projects[0]["bpm"], self.projects[0]["points"]))
        begin = tempo_map.beats_at(item["position_s"])
        offset = item["start_offset_s"] * tempo_map.bpm_at(begin) / 60
        return begin + (ppq / 960 - offset) / item["play_rate"]

    def PCM_Source_CreateFromFile(self, file):
        if not Path(file).is_file():
            return 0
        self.n_open_sources += 1
        return self.handle({"file": file, "parent": None, "section": None})

    def PCM_Source_Destroy(self, source):
        self.n_open_sources -= 1

    def PCM_Source_GetSectionInfo(self, source, *filled):
        section = self.thing(source)["section"]
        return (1, *section) if section else (0, 0.0, 0.0, 0)

    def PreventUIRefresh(self, change):
        pass

    def SelectProjectInstance(self, project):
        self.current = self.thing(project)

    def SetExtState(self, section, key, value, persist):
        self.ext_state[section, key] = value

    def SetMediaItemInfo_Value(self, item, key, value):
        names = {"D_POSITION": "position_s", "D_LENGTH": "length_s", "B_LOOPSRC": "is_looped"}
        names |= {"B_MUTE": "is_muted"}
        self.thing(item)[names[key]] = value
        return 1

    def SetMediaItemTake_Source(self, take, source):
        self.n_open_sources -= 1
        self.thing(take)["source"] = self.thing(source)
        return 1

    def SetMediaTrackInfo_Value(self, track, key, value):
        self.thing(track)[{"I_CUSTOMCOLOR": "color", "I_FOLDERDEPTH": "folder_depth"}[key]] = int(value)
        return 1

    def ShowConsoleMsg(self, text):
        sys.stderr.write(text)

    def TakeIsMIDI(self, take):
        return self.thing(take)["item"].get("kind") == "midi"

    def Undo_BeginBlock2(self, project):
        self.undo.append("begun")
        self._before.append([[(t, t["folder_depth"]) for t in project["tracks"]] for project in self.projects])

    def Undo_CanUndo2(self, project):
        return self.undo[-1] if self.undo else ""

    def Undo_DoUndo2(self, project):
        self.undo.pop()
        for one, tracks in zip(self.projects, self._before.pop(), strict=True):
            one["tracks"] = [track | {"folder_depth": depth} for track, depth in tracks]
        return 1

    def Undo_EndBlock2(self, project, name, flags):
        self.undo[-1] = name

    def get_config_var_string(self, name, text, size):
        key = {"projmeasoffs": "bar_offset", "panlaw": "pan_law"}[name]
        return 1, str(self.current[key])

    def UpdateArrange(self):
        pass

    # For the tests

    def close(self):
        """Close the first project; REAPER is never without one."""
        del self.projects[0]
        self.open_tab()

    def open_tab(self):
        """Open an empty project in a tab that comes to the front."""
        self.projects.append(
            {"path": "", "media_folder": "", "bpm": 120, "points": [], "metres": [], "tracks": []}
        )
        self.current = self.projects[-1]

    def snapshot(self):
        tracks = []
        for track in self.projects[0]["tracks"]:
            items = []
            for item in track["items"]:
                take = item["take"]
                items.append(
                    {
                        "name": take["name"] if take else "",
                        "position_s": item["position_s"],
                        "length_s": item["length_s"],
                        "is_looped": bool(item["is_looped"]),
                        "file": (take["source"] or {}).get("file", "") if take else "",
                        "is_new": item.get("is_new", False),
                        "is_muted": bool(item.get("is_muted")),
                    }
                )
            kept = {key: track[key] for key in ("name", "color", "folder_depth")}
            tracks.append({**kept, "items": items, "is_new": track.get("is_new", False)})
        return {"tracks": tracks, "undo": self.undo, "tab": self.projects.index(self.current)}


def _guid():
    return f"{{{uuid.uuid4()}}}".upper()


def reaper_python(reaper):
    """Return the module `reaper_python`."""
    module = types.ModuleType("reaper_python")
    module._ft = {}
    module.kept = []  # the C functions that the table points at
    module.rpr_packp = lambda kind, text: int(str(text).rpartition("0x")[2] or "0", 16)
    for name, signature in SIGNATURES.items():
        result, _, arguments = signature.partition(":")
        result, arguments = result.strip(), arguments.split()
        function = _c_function(reaper, name, result, arguments)
        module.kept.append(function)
        module._ft[name] = ctypes.cast(function, ctypes.c_void_p).value
        setattr(module, f"RPR_{name}", _wrapper(module._ft[name], result, arguments))
    return module


def _c_function(reaper, name, result, arguments):
    """Return a C function that calls a method of `reaper`."""
    method = getattr(reaper, name)
    texts = {}

    def call(*values):
        if reaper.delay_s:
            time.sleep(reaper.delay_s)
        taken = []
        for kind, value in zip(arguments, values, strict=True):
            if kind in ("text", "out_text"):
                value = (ctypes.string_at(value) if value else b"").decode("utf-8", "surrogateescape")
            elif kind.startswith("out_"):
                value = None
            taken.append(value)
        answer = method(*taken)
        filled = [n for n, kind in enumerate(arguments) if kind.startswith("out_")]
        if filled:
            if result != "None":
                answer, *outs = answer
            else:
                answer, outs = None, answer
            for n, out in zip(filled, outs, strict=True):
                kind = arguments[n].removeprefix("out_")
                if kind == "text":
                    data = out.encode("utf-8", "surrogateescape") + b"\0"
                    ctypes.memmove(values[n], data, len(data))
                else:
                    ctypes.cast(values[n], ctypes.POINTER(C_TYPES[kind]))[0] = C_TYPES[kind](out).value
        if result == "text":
            texts[answer] = ctypes.create_string_buffer(answer.encode("utf-8", "surrogateescape"))
            return ctypes.addressof(texts[answer])
        return None if result == "None" else answer

    c_result = {"None": None, "text": ctypes.c_void_p}.get(result) or C_TYPES.get(result, ctypes.c_uint64)
    if result == "None":
        c_result = None
    c_arguments = [
        ctypes.c_void_p if kind == "text" or kind.startswith("out_") else C_TYPES.get(kind, ctypes.c_uint64)
        for kind in arguments
    ]
    return ctypes.CFUNCTYPE(c_result, *c_arguments)(call)


def _wrapper(address, result, arguments):
    """Return the Python function that ReaScript offers for a C function."""
    kinds = [
        ctypes.c_char_p
        if kind in ("text", "out_text")
        else ctypes.c_void_p
        if kind.startswith("out_")
        else C_TYPES.get(kind, ctypes.c_uint64)
        for kind in arguments
    ]
    c_result = None if result == "None" else C_TYPES.get(result, ctypes.c_uint64)
    function = ctypes.CFUNCTYPE(c_result, *kinds)(address)

    def call(*values):
        packed = []
        for kind, value in zip(arguments, values, strict=True):
            if kind == "text":
                packed.append(ctypes.c_char_p(str(value).encode()))
            elif kind == "out_text":
                packed.append(ctypes.create_string_buffer(str(value).encode(), 4 * 1024 * 1024))
            elif kind in C_TYPES:
                packed.append(C_TYPES[kind](value))
            elif kind.startswith("out_"):
                packed.append(C_TYPES[kind.removeprefix("out_")](value))
            else:
                packed.append(ctypes.c_uint64(int(str(value).rpartition("0x")[2] or "0", 16)))
        by_reference = [
            ctypes.byref(value) if kind.startswith("out_") and kind != "out_text" else value
            for kind, value in zip(arguments, packed, strict=True)
        ]
        answer = function(*by_reference)
        if result == "text":
            answer = answer.decode()
        elif "*" in result:
            answer = f"({result})0x{answer >> 32:08X}{answer & 0xFFFFFFFF:08X}"
        if not any(kind.startswith("out_") for kind in arguments):
            return answer
        echoed = [
            (packed[n].value.decode() if kind == "out_text" else packed[n].value)
            if kind.startswith("out_")
            else value
            for n, (kind, value) in enumerate(zip(arguments, values, strict=True))
        ]
        return tuple(echoed) if result == "None" else (answer, *echoed)

    return call


class Loop:
    """REAPER's main loop: what scripts deferred, 30 times a second."""

    def __init__(self):
        self.lock = threading.Lock()
        self.deferred, self.at_exit = [], []
        self.longest_s = 0.0  # that a tick took
        self.busiest_s = 0.0  # that a tick took of the processor, whatever else kept that busy
        self.n_ticks = 0
        self.is_serving = True

    def tick(self):
        with self.lock:
            began, cpu_began = time.perf_counter(), time.thread_time()
            self.n_ticks += 1
            codes, self.deferred = self.deferred, []
            for code in codes if self.is_serving else ():
                exec(code, sys.modules["__main__"].__dict__)
            self.longest_s = max(self.longest_s, time.perf_counter() - began)
            self.busiest_s = max(self.busiest_s, time.thread_time() - cpu_began)


def _web(reaper, loop, script):
    """Return the web interface."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            parts = [unquote(part) for part in self.path.split("/")[1:]]
            if parts[0] == "stand-in":
                text = self.control(parts[1], *parts[2:])
            elif parts[1] == "GET":
                text = f"EXTSTATE\t{parts[3]}\t{parts[4]}\t{reaper.ext_state.get((parts[3], parts[4]), '')}\n"
            else:
                loop.deferred.append(script)
                text = ""
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text.encode())

        def control(self, command, value=""):
            if command == "quit":
                os._exit(0)
            if command == "freeze":
                loop.lock.acquire()
                threading.Timer(float(value), loop.lock.release).start()
                return ""
            if command == "settle":  # until what was asked before is done
                n_ticks = loop.n_ticks
                while loop.n_ticks < n_ticks + 3:
                    time.sleep(TICK_S)
                return ""
            with loop.lock:
                if command == "stall":
                    stall = json.dumps([loop.longest_s, loop.busiest_s])
                    loop.longest_s = loop.busiest_s = 0.0
                    return stall
                if command == "scene":
                    reaper.load(json.loads(Path(value).read_text()))
                elif command == "snapshot":
                    return json.dumps(reaper.snapshot())
                if command == "delay":
                    reaper.delay_s = float(value)
                elif command == "restless":
                    reaper.is_restless = True
                elif command == "stop-server":
                    loop.is_serving = False
                elif command == "close":
                    reaper.close()
                elif command == "new-tab":
                    reaper.open_tab()
                elif command == "delete-track":
                    del reaper.projects[0]["tracks"][int(value)]
            return ""

    ThreadingHTTPServer.allow_reuse_address = True
    return ThreadingHTTPServer(("127.0.0.1", 2307), Handler)


def main():
    scene = json.loads(Path(sys.argv[1]).read_text())
    sys.path[:1] = [str(Path(sys.argv[2]).parent), str(ROOT)]
    reaper, loop = Reaper(scene), Loop()
    module = reaper_python(reaper)
    sys.modules["reaper_python"] = module
    namespace = sys.modules["__main__"].__dict__
    namespace["RPR_defer"] = lambda code: loop.deferred.append(code)
    namespace["RPR_atexit"] = loop.at_exit.append
    script = Path(sys.argv[2]).read_text()
    web = _web(reaper, loop, script)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    if scene["starts_server"]:
        loop.deferred.append(script)
        loop.tick()  # imports reapy: a script's start may take its time
        loop.longest_s = loop.busiest_s = 0.0
    elif scene["action"]:
        reaper.ext_state["reapy", "activate_reapy_server"] = json.dumps(scene["action"])
    print("ready", flush=True)
    while True:
        began = time.perf_counter()
        loop.tick()
        time.sleep(max(0.0, TICK_S - (time.perf_counter() - began)))


if __name__ == "__main__":
    main()
