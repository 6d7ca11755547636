"""The Remote Script against Live's own type stubs, and against Live's Python.

What the script uses of Live is what the stand-in has: the stand-in has nothing that the stubs lack.
"""

import ast
import importlib.metadata
import sys
from pathlib import Path

import pytest

from daw_bridge.live.redrum_live.surface import Redrum
from tests.daw_bridge import stand_in_live
from tests.daw_bridge.live_worlds import SCRIPTS

REAPER = SCRIPTS.parent / "reaper"
FILES = sorted((SCRIPTS / "redrum_live").glob("*.py"))
HOME_OF = {"RackDevice": "RackDevice", "MidiNote": "Clip", "WarpMarker": "Clip"}  # modules, where others


@pytest.fixture(scope="module")
def stubs():
    files = importlib.metadata.files("ableton-live-stubs")
    return {
        Path(str(file)).stem: ast.parse(Path(file.locate()).read_text(encoding="utf-8"))
        for file in files
        if file.suffix == ".pyi"
    }


def body_of(stubs, module, names):
    body = stubs[module].body
    for name in names:
        found = next(node for node in body if isinstance(node, ast.ClassDef) and node.name == name)
        body = found.body
    return found


def members(stubs, module, *names):
    """Return what a class of the stubs has: (kind, number of arguments) by name, bases included."""
    found = body_of(stubs, module, names)
    told = {}
    for base in found.bases:
        name = ast.unparse(base).rpartition(".")[2]
        homes = [
            home
            for home in stubs
            if any(isinstance(n, ast.ClassDef) and n.name == name for n in stubs[home].body)
        ]
        if homes:
            told |= members(stubs, homes[0], name)
    for node in found.body:
        if isinstance(node, ast.FunctionDef):
            kinds = [ast.unparse(decorator) for decorator in node.decorator_list]
            arguments = [*node.args.posonlyargs, *node.args.args][1:]
            kind = "method" if not kinds else "property" if kinds == ["property"] else "setter"
            if kind == "setter":
                told[node.name] = ("settable", 0)
            elif told.get(node.name, ("",))[0] != "settable":
                told[node.name] = (kind, len(arguments))
    return told


def classes():
    for value in vars(stand_in_live).values():
        if isinstance(value, type) and issubclass(value, stand_in_live.LomObject):
            yield value
            yield from (inner for inner in vars(value).values() if isinstance(inner, type))


def test_the_stand_in_has_only_what_live_has(stubs, subtests):
    for stood_in in classes():
        with subtests.test(stood_in=stood_in):
            names = stood_in.__qualname__.split(".")
            told = members(stubs, HOME_OF.get(names[0], names[0]), *names)
            assert names == ["MidiNote"] or told["_live_ptr"][0] == "property"
            for name in stood_in.READ:
                assert told[name][0] in ("property", "settable"), name
            for name in stood_in.WRITE:
                assert told[name][0] == "settable", name
            for name, value in vars(stood_in).items():
                if callable(value) and not name.startswith("_") and not isinstance(value, type):
                    assert told[name] == ("method", value.__code__.co_argcount - 1), name


def test_a_warp_marker_is_made_as_live_makes_it(stubs):
    told = members(stubs, "Clip", "WarpMarker")
    assert told["__init__"] == ("method", 2)
    assert {"sample_time", "beat_time"} <= set(told)


def test_the_script_uses_only_what_the_stand_in_has():
    """Whatever is read off an object in the script is a name of the stand-in, of Python, or of the script."""
    known = {name for kind in classes() for name in (*kind.READ, *kind.WRITE, *vars(kind))}
    known |= {"Application", "Clip", "WarpMarker", "get_application", "sample_time", "beat_time", "_live_ptr"}
    for path in FILES:
        if path.name not in ("gathering.py", "writing.py"):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
        own |= {
            n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "self"
        }
        builtin = {name for kind in (str, dict, list) for name in dir(kind)} | {"dumps"}
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        assert used <= known | own | builtin, path.name


def test_the_script_is_python_of_live_11(subtests):
    for path in FILES:
        with subtests.test(path=path):
            text = path.read_text(encoding="utf-8")
            tree = ast.parse(text, feature_version=(3, 7))
            assert "from __future__ import annotations" in text  # types of later Pythons are never looked at
            for node in ast.walk(tree):
                if isinstance(node, ast.Import | ast.ImportFrom):
                    names = (
                        [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
                    )
                    if isinstance(node, ast.ImportFrom) and node.level:
                        continue
                    assert all(
                        name.partition(".")[0] in {*sys.stdlib_module_names, "Live"} for name in names
                    ), names
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func)
                    assert called.rpartition(".")[2] not in ("removeprefix", "removesuffix", "cache", "prod"), (
                        called
                    )
                    assert not any(keyword.arg == "strict" for keyword in node.keywords)
            annotations = [
                getattr(node, part, None) for node in ast.walk(tree) for part in ("annotation", "returns")
            ]
            typed = {id(node) for part in annotations if part is not None for node in ast.walk(part)}
            unions = [
                node
                for node in ast.walk(tree)
                if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)
            ]
            assert all(id(node) in typed or "os.O_" in ast.unparse(node) for node in unions)


@pytest.mark.parametrize("path", [REAPER / "actions" / "redrum_server.py", REAPER / "inside.py"])
def test_what_runs_in_reaper_is_python_of_an_old_one(path):
    text = path.read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 7))
    assert "from __future__ import annotations" in text


def test_live_finds_all_that_it_calls_on_a_control_surface():
    """The names are those that Live's own scripts have, from Live 9 to 12."""
    called = {"update_display", "disconnect", "connect_script_instances", "build_midi_map", "receive_midi"}
    called |= {"refresh_state", "can_lock_to_devices", "suggest_input_port", "suggest_output_port"}
    called |= {
        "suggest_map_mode",
        "suggest_needs_takeover",
        "port_settings_changed",
        "supports_pad_translation",
    }
    assert called <= set(dir(Redrum))
