"""What is put into Ardour's folder of settings: a copy first, free slots only, never while it runs."""

import base64
import re

import pytest
from typer.testing import CliRunner

from daw_bridge.ardour import install as module
from daw_bridge.ardour.install import ACTIONS, install, ui_scripts, uninstall
from daw_bridge.commands.cli import app
from transform.errors import DawError

# As Ardour 7.3 writes it: slots 1 and 3 are taken, in any order; the source of a script may speak of slots.
SLOTS = (
    b'scripts = {} scripts[3] = {} scripts[3]["n"] = "mine \\"3\\"" scripts[3]["s"] = "scripts[2] = {} \\\n" '
    b'scripts[3]["f"] = "\\27Lua\\0\\13\\"\\\\" scripts[1] = {} scripts[1]["n"] = "other" scripts[1]["s"] = "" '
    b'scripts[1]["f"] = "return 1" '
)
FILE = b"""<?xml version="1.0" encoding="UTF-8"?>
<UIScripts>
  <ActionScript lua="Lua 5.3">%s</ActionScript>
  <ActionHooks>
    <LuaCallback lua="Lua 5.3" id="7" name="h" signals="01">aGVsbG8=</LuaCallback>
  </ActionHooks>
</UIScripts>
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "is_running", lambda: False)
    made = tmp_path / "ardour7"
    made.mkdir()
    return made


def with_slots(folder, slots=SLOTS):
    (folder / "ui_scripts").write_bytes(FILE % base64.b64encode(slots))
    return (folder / "ui_scripts").read_bytes()


def slots_of(folder):
    return base64.b64decode(re.search(rb"<ActionScript[^>]*>([^<]*)<", (folder / "ui_scripts").read_bytes())[1])


def test_actions_go_into_free_slots_and_out_again(folder):
    before = with_slots(folder)
    assert install(folder)[-1].startswith("4 actions are in Ardour's menu")
    names = ui_scripts(folder).names()
    assert names == {'mine "3"': 3, "other": 1} | {
        action.name: slot for action, slot in zip(ACTIONS, (2, 4, 5, 6), strict=True)
    }
    assert slots_of(folder).startswith(SLOTS)
    assert b"LuaCallback" in (folder / "ui_scripts").read_bytes()
    assert (folder / "ui_scripts.before-redrum").read_bytes() == before
    assert install(folder) == []
    assert len(uninstall(folder)) == 2
    assert (folder / "ui_scripts").read_bytes() == before
    assert [path.name for path in folder.iterdir()] == ["ui_scripts"]
    assert uninstall(folder) == []


def test_where_there_was_no_file_there_is_none_after(folder):
    install(folder)
    assert list(ui_scripts(folder).names().values()) == [1, 2, 3, 4]
    uninstall(folder)
    assert list(folder.iterdir()) == []


def test_what_ardour_wrote_since_stays(folder):
    with_slots(folder)
    install(folder)
    data = (folder / "ui_scripts").read_bytes()
    (folder / "ui_scripts").write_bytes(data.replace(b"aGVsbG8=", b"aGVsbG8h"))
    uninstall(folder)
    assert b"aGVsbG8h" in (folder / "ui_scripts").read_bytes()
    assert set(ui_scripts(folder).names()) == {'mine "3"', "other"}


def test_full_slots_and_strange_files_are_refused_and_stay(folder):
    full = b"scripts = {} " + b"".join(
        b'scripts[%d] = {} scripts[%d]["n"] = "x%d" ' % (n, n, n) for n in range(1, 9)
    )
    for slots, message in ((full, "all 9 slots"), (b"print(1)", "not as Ardour writes it")):
        before = with_slots(folder, slots)
        with pytest.raises(DawError, match=message):
            install(folder)
        assert (folder / "ui_scripts").read_bytes() == before
        assert not (folder / "redrum").exists()


def test_nothing_is_changed_while_ardour_runs_or_where_it_never_ran(folder, monkeypatch, tmp_path):
    with pytest.raises(DawError, match="no settings of Ardour"):
        install(tmp_path / "none")
    monkeypatch.setattr(module, "is_running", lambda: True)
    with pytest.raises(DawError, match="Ardour is running"):
        install(folder)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "is_ardour"),
    [
        ("ArdourGUI", True),
        ("ardour-7.3.0~ds", True),
        ("Ardour.exe", True),
        ("Ardour7", True),
        ("hardour-7", False),
    ],
)
def test_a_running_ardour_is_known_by_its_process(monkeypatch, name, is_ardour):
    process = type("Process", (), {"info": {"name": name}})()
    monkeypatch.setattr(module.psutil, "process_iter", lambda names: [process])
    assert module.is_running() == is_ardour


def test_doctor_names_the_cure(folder):
    assert CliRunner().invoke(app, ["ardour", "install", "--config", str(folder)]).exit_code == 0
    found = CliRunner().invoke(app, ["ardour", "doctor", "--config", str(folder)])
    assert (found.exit_code, "Redrum selected region in slot 1" in found.output) == (0, True)
    (folder / "redrum" / "redrum.lua").write_text("-- old")
    found = CliRunner().invoke(app, ["ardour", "doctor", "--config", str(folder)])
    assert found.exit_code != 0
    assert "redrum ardour install" in found.output
