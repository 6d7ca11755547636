"""The stand-in for REAPER as its Lua sees it: the same scene and functions, in a real Lua 5.4.

As in REAPER, a Lua function takes what its C function is given and returns what that fills in: sizes of buffers
and arguments that are only filled are left out, pointers that are none are nil, text is bytes. Anything else is
refused: unknown functions and keys, other counts or types of arguments, pointers to what is gone; and globals,
which are a slip wherever a script has them.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path

from lupa.lua54 import LuaRuntime

SIGNATURES = {
    "EnumerateFiles": "text : text int",
    "ExecProcess": "text : text int",
    "GetSetMediaItemInfo_String": "bool : MediaItem* text out_text bool",
    "GetUserInputs": "bool : text int text out_text int",
    "IsTrackSelected": "bool : MediaTrack*",
    "Main_OnCommand": "None : int int",
    "RecursiveCreateDirectory": "int : text int",
    "ShowMessageBox": "int : text text int",
    "file_exists": "bool : text",
    "time_precise": "double : ",
}
GFX = ("init", "quit", "set", "rect", "drawstr", "update", "getchar")
STRICT = """
function(reaper, gfx)
  local function refuse(what)
    return function(_, key) error(what .. " has no " .. tostring(key), 2) end
  end
  python = nil
  _G.reaper = setmetatable(reaper, {__index = refuse("reaper")})
  _G.gfx = setmetatable(gfx, {__index = refuse("gfx")})
  setmetatable(_G, {__index = refuse("Lua"), __newindex = refuse("Lua")})
end
"""
MOUSE = dict.fromkeys((b"x", b"y", b"w", b"h", b"mouse_x", b"mouse_y", b"mouse_cap"), 0)


@dataclass(frozen=True)
class Pointer:
    kind: str
    handle: int


def lua_form(name, signature):
    """Return the kinds of a function's arguments in Lua, and which of the C function's they are."""
    kinds = signature.partition(":")[2].split()
    taken = []
    for place, kind in enumerate(kinds):
        is_size = kind == "int" and place > 0 and kinds[place - 1] == "out_text"
        is_filled_only = kind.startswith("out_") and not name.startswith(("GetSet", "GetUserInputs"))
        if not (is_size or is_filled_only):
            taken.append(place)
    return kinds, taken


class LuaReaper:
    """A running REAPER whose user answers dialogs as told, and whose clock stands still between ticks."""

    def __init__(self, reaper, signatures, resources):
        self.reaper, self.resources = reaper, Path(resources)
        self.signatures = {**signatures, **SIGNATURES}
        self.answers = []  # to the coming questions: a list of texts each, None for Cancel
        self.asked = []  # title, captions and the answers that were offered
        self.said = []  # in message boxes
        self.commands = []  # lines that were run
        self.starts_commands = True
        self.launch = lambda words: None  # what running a command does, besides being noted
        self.ext_state = reaper.ext_state
        self.actions = []  # ids of REAPER's own that were run
        self.refused = []
        self.now_s = 100.0
        self.keys = []  # pressed in the window; -1 closes it
        self.click = None  # where the mouse is held down
        self.drawn = []
        self.window = None
        self.deferred, self.at_exit = [], []
        self._lua = None
        self._pointers = {}  # Lua compares them by identity

    def run(self, script):
        """Run a script as REAPER runs an action: each in a Lua of its own."""
        return self.new_lua().eval(b"dofile")(str(script).encode())

    def new_lua(self):
        """Return a Lua that knows REAPER's functions."""
        lua = LuaRuntime(encoding=None, unpack_returned_tuples=True)
        functions = {name.encode(): self._function(name) for name in self.signatures}
        functions |= {b"defer": self.deferred.append, b"atexit": self.at_exit.append}
        gfx = MOUSE | {name.encode(): getattr(self, f"_gfx_{name}") for name in GFX}
        lua.eval(STRICT.encode())(lua.table_from(functions), lua.table_from(gfx))
        self._lua = lua
        return lua

    def tick(self, n=1, seconds=0.25):
        """Let time pass, and what scripts deferred run."""
        for _ in range(n):
            self.now_s += seconds
            deferred, self.deferred[:] = list(self.deferred), []
            for function in deferred:
                function()

    def quit(self):
        """End all scripts."""
        self.deferred.clear()
        for function in self.at_exit:
            function()

    def words(self):
        """The words of the last command that was run."""
        return shlex.split(self.commands[-1])

    def act(self, script):
        """Run a script as REAPER does: where it neither defers nor says what it did, there is an undo step."""
        n_steps = len(self.reaper.undo)
        self.run(script)
        if not self.deferred and len(self.reaper.undo) == n_steps:
            self.reaper.undo.append("ReaScript")

    # Calls from Lua

    def _function(self, name):
        kinds, taken = lua_form(name, self.signatures[name])
        result = self.signatures[name].partition(":")[0].strip()

        def call(*given):
            method = getattr(self, f"_{name}", None) or getattr(self.reaper, name)
            try:
                values = self._values(name, [kinds[place] for place in taken], given)
            except TypeError as err:
                self.refused.append(str(err))
                raise
            arguments = [None] * len(kinds)
            for place, value in zip(taken, values, strict=True):
                arguments[place] = value
            answer = method(*arguments)
            outs = [kind.removeprefix("out_") for kind in kinds if kind.startswith("out_")]
            if result != "None":
                outs = [result, *outs]
            answers = answer if len(outs) > 1 or (outs and result == "None") else [answer]
            if not outs:
                return None
            made = tuple(self._for_lua(kind, one) for kind, one in zip(outs, answers, strict=True))
            return made if len(made) > 1 else made[0]

        return call

    def _values(self, name, kinds, given):
        if len(given) != len(kinds):
            raise TypeError(f"reaper.{name} takes {len(kinds)} arguments, not {len(given)}")
        return [self._value(name, kind, value) for kind, value in zip(kinds, given, strict=True)]

    def _value(self, name, kind, value):
        if kind.endswith("text") and isinstance(value, bytes):
            return value.decode("utf-8", "surrogateescape")
        if kind == "bool" and isinstance(value, bool):
            return value
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if (kind == "double" and is_number) or (kind == "int" and is_number and value == int(value)):
            return value
        if isinstance(value, Pointer) and value.kind == kind and self._is_there(value):
            return value.handle
        raise TypeError(f"reaper.{name} got {value!r} for {kind}")

    def _is_there(self, pointer):
        thing = self.reaper.thing(pointer.handle)
        projects = self.reaper.projects
        if pointer.kind == "ReaProject*":
            return any(one is thing for one in projects)
        if pointer.kind == "MediaTrack*":
            return any(one is thing for project in projects for one in project["tracks"])
        return True

    def _for_lua(self, kind, value):
        if kind == "text":
            return None if value is None else value.encode("utf-8", "surrogateescape")
        if kind == "bool":
            return bool(value)
        if kind.endswith("*"):
            return self._pointers.setdefault(value, Pointer(kind, value)) if value else None
        return float(value) if kind == "double" else int(value)

    # What only the action uses

    def _EnumProjects(self, place, path, size):
        project, path = self.reaper.EnumProjects(place, path, size)
        return project, path or None

    def _EnumerateFiles(self, folder, place):
        names = sorted(path.name for path in Path(folder).iterdir() if path.is_file())
        return names[place] if place < len(names) else None

    def _ExecProcess(self, line, timeout_ms):
        assert timeout_ms in (-1, -2), "REAPER would wait"
        self.commands.append(line)
        self.launch(shlex.split(line))
        return "0\n" if self.starts_commands else None

    def _GetResourcePath(self):
        return str(self.resources)

    def _GetSetMediaItemInfo_String(self, item, key, text, is_set):
        assert (key, is_set) == ("GUID", False)
        return 1, f"{{ITEM-{item}}}"

    def _GetUserInputs(self, title, n_fields, captions, text, size):
        fields = captions.split(",")
        separator = next(field[10:] for field in fields if field.startswith("separator="))
        offered = text.split(separator)
        names = [field for field in fields if not field.startswith(("separator=", "extrawidth="))]
        assert len(offered) == len(names) == n_fields
        self.asked.append((title, names, offered))
        answers = self.answers.pop(0)
        if answers == "as offered":
            answers = offered
        return (0, text) if answers is None else (1, separator.join(answers))

    def _IsTrackSelected(self, track):
        return self.reaper.thing(track)["is_selected"]

    def _Main_OnCommand(self, action, flag):
        self.actions.append(action)

    def _RecursiveCreateDirectory(self, folder, ignored):
        Path(folder).mkdir(parents=True, exist_ok=True)
        return 1

    def _SetExtState(self, section, key, value, persists):
        assert persists
        self.ext_state[section, key] = value

    def _ShowMessageBox(self, text, title, kind):
        self.said.append(text)
        return 1

    def _file_exists(self, path):
        return Path(path).is_file()

    def _time_precise(self):
        return self.now_s

    def _gfx_init(self, title, width, height):
        self.window = title.decode()
        self._lua.globals()[b"gfx"][b"w"], self._lua.globals()[b"gfx"][b"h"] = width, height

    def _gfx_quit(self):
        self.window = None

    def _gfx_set(self, red, green, blue):
        pass

    def _gfx_rect(self, x, y, width, height, is_filled):
        assert self.window is not None

    def _gfx_drawstr(self, text):
        self.drawn.append(text.decode())

    def _gfx_update(self):
        pass

    def _gfx_getchar(self):
        x, y = self.click or (0, 0)
        gfx = self._lua.globals()[b"gfx"]
        gfx[b"mouse_x"], gfx[b"mouse_y"], gfx[b"mouse_cap"] = x, y, 1 if self.click else 0
        return self.keys.pop(0) if self.keys else 0
