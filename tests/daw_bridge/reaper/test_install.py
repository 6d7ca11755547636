"""What is put into REAPER's resource folder: copies first, only lines that are needed, never while it runs."""

import hashlib
import json
import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import psutil
import pytest
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.reaper import install as module
from daw_bridge.reaper.doctor import examine_reaper
from daw_bridge.reaper.install import (
    ACTIONS,
    SHARED,
    action_name,
    actions_folder,
    install,
    reaper_folder,
    uninstall,
)
from transform.errors import DawError

ROOT = Path(__file__).resolve().parents[3]
INI = b"""; mine
[REAPER]
lastproject=C:\\M\xfcsik\\a.rpp
csurf_cnt=1
csurf_0=OSC "x"

[verbconfig]
  odd = 1
"""
ACTIONS_LIST = b"""SCR 4 0 RS0f4590f5c5def199725df396ee1c4e204532d69f "Custom: mine.lua" "My Scripts/mine.lua"
SCR 516 32060 RS7d3c_1ee9bb229dabffe151848d7efa3c10f748e1a1cf "Custom: lyrics.lua" Cockos/lyrics.lua
ACT 3 32060 "2df92f3b5ca1465198be657be717c3af" "Custom: M\xc3\xa4rsche" 40528 40514
KEY 13 73 40214 0\t\t # Main : Ctrl+Shift+I
"""
SYSTEMS = {  # what REAPER's files are like there
    "windows": (INI.replace(b"\n", b"\r\n"), ACTIONS_LIST.replace(b"\n", b"\r\n")),
    "macos": (INI.replace(b"C:\\M\xfcsik", b"/Users/me/M\xcc\x88"), ACTIONS_LIST),
    "linux": (INI.replace(b"C:\\M\xfcsik", b"/mnt/m"), ACTIONS_LIST),
    "no end of line": (INI.rstrip(), ACTIONS_LIST.rstrip()),
    "never used": (b"[REAPER]\n", None),
    "empty": (b"", b""),
}


@pytest.fixture(autouse=True)
def _no_reaper(tmp_path, monkeypatch):
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    monkeypatch.delenv("REDRUM_HELPER_MINUTES", raising=False)
    monkeypatch.setattr("daw_bridge.reaper.install._python_library", lambda: tmp_path / "libpython3.so")
    monkeypatch.setattr(psutil, "process_iter", lambda names: [SimpleNamespace(info={"name": "bash"})])


@pytest.fixture
def folder(tmp_path):
    """The resource folder of a portable REAPER on Windows."""
    return resources(tmp_path / "REAPER (portable) ü", *SYSTEMS["windows"])


def resources(folder, ini, actions_list):
    folder.mkdir()
    (folder / "reaper.ini").write_bytes(ini)
    if actions_list is not None:
        (folder / "reaper-kb.ini").write_bytes(actions_list)
    return folder


def everything(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


@pytest.mark.parametrize("with_server", [False, True])
@pytest.mark.parametrize("system", SYSTEMS)
def test_there_and_back(tmp_path, system, with_server):
    folder = resources(tmp_path / "REAPER", *SYSTEMS[system])
    before = everything(folder)
    assert install(folder, with_server=with_server)
    after = everything(folder)
    assert install(folder, with_server=with_server) == []
    assert everything(folder) == after
    assert uninstall(folder)
    assert everything(folder) == before
    assert not (folder / "Redrum").exists()
    assert not (folder / "Scripts" / "Redrum").exists()
    assert uninstall(folder) == []


INSTALL_ALONE = """
import socket, sys
from pathlib import Path

def connect(*_):
    raise AssertionError("somebody is asked")

socket.socket.connect = socket.socket.connect_ex = connect
from daw_bridge.reaper.install import install
from transform.errors import DawError
try:
    print(install(Path(sys.argv[1]), with_server=True))
except DawError as err:
    assert "shared library" in err.message
assert "reapy" not in sys.modules
"""


def test_whoever_listens_where_reaper_would_is_not_asked(tmp_path):
    folder = resources(tmp_path / "REAPER", *SYSTEMS["windows"])
    command = [sys.executable, "-c", INSTALL_ALONE, str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


def test_the_actions_need_nothing_but_their_lines(folder):
    changes = install(folder)
    assert len(changes) == 3
    assert (folder / "reaper.ini").read_bytes() == SYSTEMS["windows"][0]
    lines = (folder / "reaper-kb.ini").read_bytes().split(b"\r\n")
    assert lines[:4] == ACTIONS_LIST.splitlines()
    assert lines[4:] == [
        f'SCR 4 0 {action_name(name)} "Custom: {name}" "Redrum/{name}"'.encode() for name in ACTIONS
    ] + [b""]
    assert lines[4].startswith(b"SCR 4 0 RS")
    scripts = folder / "Scripts" / "Redrum"
    assert sorted(path.name for path in scripts.iterdir()) == sorted([*ACTIONS, *SHARED])
    noted = json.loads((folder / "Redrum" / "command.json").read_text(encoding="utf-8"))
    assert noted["command"][0] == sys.executable
    assert (folder / "reaper-kb.ini.before-redrum").read_bytes() == SYSTEMS["windows"][1]


def test_the_server_needs_more(folder):
    install(folder, with_server=True)
    lines = (folder / "reaper.ini").read_bytes().split(b"\r\n")
    before = INI.splitlines()
    assert [line for line in lines if line in before and line] == [
        line for line in before if line and line != b"csurf_cnt=1"
    ]
    assert b"csurf_cnt=2" in lines
    surface = b"csurf_1=HTTP 0 2307 '' 'index.html' 0 ''"
    assert lines.index(surface) < lines.index(b"[verbconfig]")
    assert b"pythonlibdll64=libpython3.so" in lines
    (server,) = [
        line for line in (folder / "reaper-kb.ini").read_text().splitlines() if "redrum_server.py" in line
    ]
    name = server.split()[3]
    assert (folder / "reaper-extstate.ini").read_text() == f'[reapy]\nactivate_reapy_server="_{name}"\n'


def test_what_reaper_wrote_since_stays(folder):
    install(folder, with_server=True)
    for name in ("reaper.ini", "reaper-kb.ini"):
        path = folder / name
        path.write_bytes(path.read_bytes().replace(b"odd = 1", b"odd = 2") + b"KEY 1 65 40001 0\r\n")
    assert uninstall(folder)
    assert (folder / "reaper-kb.ini").read_bytes() == SYSTEMS["windows"][1] + b"KEY 1 65 40001 0\r\n"
    lines = (folder / "reaper.ini").read_bytes().split(b"\r\n")
    assert {b"  odd = 2", b"csurf_cnt=1", b"reascript=1"} <= set(lines)  # Python may serve other scripts
    assert not any(b"HTTP" in line for line in lines)
    # The copies stay where they are of use, and a later installation makes new ones.
    assert (folder / "reaper-kb.ini.before-redrum").read_bytes() == SYSTEMS["windows"][1]
    before = everything(folder)
    install(folder)
    uninstall(folder)
    assert (folder / "reaper-kb.ini").read_bytes() == before["reaper-kb.ini"]


def rewritten_by_reaper(data):
    """Return settings in another order and with other line ends: sections stay, what is in them turns round."""
    head, *sections = re.split(rb"(?m)^(?=\[)", data.replace(b"\r\n", b"\n"))
    parts = [head.splitlines()[::-1]]
    for lines in (section.splitlines() for section in sections):
        parts.append([lines[0], *[line for line in lines[1:] if line][::-1]])
    return b"".join(line + b"\n" for part in parts for line in part)


@pytest.mark.parametrize("system", ["windows", "macos", "linux", "no end of line"])
def test_only_our_lines_go_from_what_reaper_has_rewritten(tmp_path, system):
    folder = resources(tmp_path / "REAPER", *SYSTEMS[system])
    (folder / "reaper-extstate.ini").write_text("[other]\nmine=1\n")
    names = ("reaper.ini", "reaper-kb.ini", "reaper-extstate.ini")
    before = {name: sorted(rewritten_by_reaper((folder / name).read_bytes()).splitlines()) for name in names}
    install(folder, with_server=True)
    for name in names:
        (folder / name).write_bytes(rewritten_by_reaper((folder / name).read_bytes()))
    assert uninstall(folder)
    python = {b"reascript=1", b"pythonlibpath64=%b" % os.fsencode(tmp_path), b"pythonlibdll64=libpython3.so"}
    for name in names:
        lines = (folder / name).read_bytes().splitlines()
        assert sorted(line for line in lines if line not in python) == before[name]
    assert not (folder / "Redrum").exists()
    assert not (folder / "Scripts" / "Redrum").exists()
    assert uninstall(folder) == []


def test_reaper_may_write_with_spaces_and_a_byte_order_mark(folder):
    install(folder, with_server=True)
    for name in ("reaper.ini", "reaper-extstate.ini"):
        (folder / name).write_bytes(b"\xef\xbb\xbf" + (folder / name).read_bytes().replace(b"=", b" = "))
    path = folder / "reaper-kb.ini"
    ours = b"".join(path.read_bytes().splitlines(keepends=True)[4:])
    path.write_bytes(b"\xef\xbb\xbf" + ours.replace(b"Redrum/", b"Redrum\\") + SYSTEMS["windows"][1])
    assert len(uninstall(folder)) == 4
    assert path.read_bytes().removeprefix(b"\xef\xbb\xbf") == SYSTEMS["windows"][1]
    assert b"HTTP" not in (folder / "reaper.ini").read_bytes()
    assert not (folder / "reaper-extstate.ini").exists()  # there was none before


def test_line_ends_may_be_mixed(folder):
    install(folder)
    path = folder / "reaper-kb.ini"
    ours, mine = path.read_bytes().splitlines(keepends=True)[4:], b"KEY 1 65 40001 0\n"
    path.write_bytes(
        SYSTEMS["windows"][1] + mine + b"".join(ours).replace(b"\r\n", b"\n") + b"KEY 1 66 40002 0\r\n"
    )
    uninstall(folder)
    assert path.read_bytes() == SYSTEMS["windows"][1] + mine + b"KEY 1 66 40002 0\r\n"


def test_a_control_surface_that_came_later_stays(folder):
    install(folder, with_server=True)
    path = folder / "reaper.ini"
    later = (
        path.read_bytes()
        .replace(b"csurf_cnt=2", b"csurf_cnt=3")
        .replace(b"csurf_1=", b'csurf_2=MCU "y"\r\ncsurf_1=')
    )
    path.write_bytes(later)
    uninstall(folder)
    lines = path.read_bytes().split(b"\r\n")
    assert {b"csurf_cnt=2", b'csurf_0=OSC "x"', b'csurf_1=MCU "y"'} <= set(lines)
    assert not any(b"HTTP" in line or b"csurf_2" in line for line in lines)


def test_a_web_interface_that_was_there_before_stays(folder):
    path = folder / "reaper.ini"
    path.write_bytes(path.read_bytes().replace(b'OSC "x"', b"HTTP 0 2307 '' 'index.html' 0 ''"))
    install(folder, with_server=True)
    path.write_bytes(path.read_bytes() + b"[new]\r\n")
    uninstall(folder)
    assert b"csurf_0=HTTP 0 2307" in path.read_bytes()
    assert b"csurf_cnt=1" in path.read_bytes()


def test_what_reapy_had_set_before_comes_back(folder):
    path = folder / "reaper-extstate.ini"
    path.write_text('[reapy]\nactivate_reapy_server="_RSmine"\nother=1\n')
    install(folder, with_server=True)
    path.write_text(path.read_text() + "[new]\nkey=1\n")
    uninstall(folder)
    assert path.read_text() == '[reapy]\nactivate_reapy_server="_RSmine"\nother=1\n[new]\nkey=1\n'


def test_what_redrum_added_from_another_place_goes(folder):
    path = folder / "reaper-kb.ini"
    server = (
        b'SCR 4 0 RSold "Custom: redrum_server.py" "C:\\old venv\\daw_bridge\\actions\\redrum_server.py"\r\n'
    )
    path.write_bytes(SYSTEMS["windows"][1] + server)
    (folder / "reaper-extstate.ini").write_text('[reapy]\nactivate_reapy_server="_RSold"\n')
    assert len(uninstall(folder)) == 2
    assert path.read_bytes() == SYSTEMS["windows"][1]
    assert (folder / "reaper-extstate.ini").read_text() == ""


# What lies in REAPER's folder may be a stranger's: a portable REAPER comes in an archive.


def link(place, target):
    try:
        place.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("this user may make no links")


@pytest.mark.parametrize("place", ["Redrum", "Redrum/jobs", "Scripts/Redrum", "reaper.ini", "reaper-kb.ini"])
def test_no_link_is_followed(folder, tmp_path, place):
    letters = tmp_path / "letters"
    letters.mkdir()
    for name in ("1700000000-000001.json", "letter.txt", "redrum.lua", ACTIONS[0], "command.json", "jobs"):
        (letters / name).write_text("keep me")
    target = folder / place
    target.parent.mkdir(exist_ok=True)
    if target.exists():
        target.unlink()
        (letters / target.name).write_bytes(INI)
        letters = letters / target.name
    before = everything(tmp_path)
    link(target, letters)
    for change in (install, uninstall):
        with pytest.raises(DawError, match="is a link"):
            change(folder)
    target.unlink()
    assert everything(tmp_path) == before


def test_only_files_of_jobs_are_removed(folder):
    install(folder)
    jobs = folder / "Redrum" / "jobs"
    jobs.mkdir()
    for name in ("1700000000-000001.json", "1700000000-000001.progress.json", "1700000000-000001.cancel"):
        (jobs / name).write_text("{}")
    (jobs / "letter.txt").write_text("keep me")
    (jobs / "1700000000-000002.json").mkdir()
    uninstall(folder)
    assert sorted(path.name for path in jobs.iterdir()) == ["1700000000-000002.json", "letter.txt"]


def notes_of(folder):
    return json.loads((folder / "Redrum" / "installed.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("planted", ["link", "other", "gone", "folder"])
def test_a_copy_that_is_not_ours_is_not_read_back(folder, tmp_path, planted):
    install(folder)
    copy, list_ = folder / "reaper-kb.ini.before-redrum", folder / "reaper-kb.ini"
    copy.unlink()
    (tmp_path / "secret").write_bytes(b"my key" if planted == "other" else SYSTEMS["windows"][1])
    if planted == "link":
        link(copy, tmp_path / "secret")
    elif planted == "other":
        copy.write_bytes(b"KEY 1 65 40001 0\r\n")
    elif planted == "folder":
        copy.mkdir()
    uninstall(folder)
    assert list_.read_bytes() == SYSTEMS["windows"][1]  # without our lines
    assert os.path.lexists(copy) == (planted != "gone")
    assert (tmp_path / "secret").exists()


@pytest.mark.parametrize("planted", ["other", "link", "dangling"])
def test_a_copy_takes_the_place_of_nothing(folder, tmp_path, planted):
    copy = folder / "reaper-kb.ini.before-redrum"
    if planted == "other":
        copy.write_text("keep me")
    else:
        (tmp_path / "mine").write_text("keep me")
        link(copy, tmp_path / ("mine" if planted == "link" else "nowhere"))
    before = everything(folder)
    install(folder)
    assert (folder / "reaper-kb.ini.before-redrum-2").read_bytes() == SYSTEMS["windows"][1]
    uninstall(folder)
    assert everything(folder) == before
    assert not (tmp_path / "nowhere").exists()


NOTES = [
    lambda ini: {"reaper.ini": {"file": ini, "copy": ""}},  # there was none before, they say
    lambda ini: {"reaper.ini": {"file": ini, "copy": "0" * 64}},
    lambda ini: {"reaper.ini": ini},  # as of Redrum 0.1.0, whose notes say less
    lambda ini: {"reaper.ini": {"file": ini}},
    lambda ini: {"reaper.ini": [ini], "../x": {"file": ini, "copy": ""}},
    lambda ini: [["reaper.ini", ini]],
    lambda ini: "[" * 100_000,
]


@pytest.mark.parametrize("notes", NOTES)
def test_notes_of_a_stranger_cost_nothing(folder, notes):
    own = folder / "Redrum"
    own.mkdir()
    text = notes(hashlib.sha256((folder / "reaper.ini").read_bytes()).hexdigest())
    (own / "installed.json").write_text(text if isinstance(text, str) else json.dumps(text))
    (folder / "reaper.ini.before-redrum").write_text("[REAPER]\nevil=1\n")
    before = everything(folder)
    uninstall(folder)
    after = everything(folder)
    assert {name: before[name] for name in after} == after
    assert set(before) - set(after) <= {"Redrum/installed.json"}


def test_an_installation_of_the_version_before_goes(folder):
    install(folder)
    notes = {name: note["file"] for name, note in notes_of(folder).items()}
    (folder / "Redrum" / "installed.json").write_text(json.dumps(notes))
    uninstall(folder)
    assert (folder / "reaper-kb.ini").read_bytes() == SYSTEMS["windows"][1]
    assert not (folder / "Redrum").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_no_pipe_is_waited_for(folder):
    (folder / "Redrum").mkdir()
    for name in ("Redrum/installed.json", "Redrum/command.json", "reaper-kb.ini.before-redrum"):
        os.mkfifo(folder / name)
    install(folder)
    uninstall(folder)
    assert (folder / "reaper-kb.ini").read_bytes() == SYSTEMS["windows"][1]
    assert not (folder / "Redrum").exists()


def test_what_reaper_wrote_between_two_installations_stays(folder):
    install(folder)
    path = folder / "reaper-kb.ini"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]) + b"KEY 1 65 40001 0\r\n")  # one action was removed by hand
    assert len(install(folder)) == 1
    uninstall(folder)
    assert path.read_bytes() == SYSTEMS["windows"][1] + b"KEY 1 65 40001 0\r\n"


def test_an_update_replaces_the_scripts(folder):
    install(folder)
    script = folder / "Scripts" / "Redrum" / SHARED[0]
    script.write_text("-- old")
    (change,) = install(folder)
    assert "the actions are in" in change
    assert script.read_bytes() == (actions_folder() / SHARED[0]).read_bytes()


def test_what_others_put_beside_stays(folder):
    install(folder)
    mine = folder / "Scripts" / "Redrum" / "mine.lua"
    mine.write_text("-- mine")
    uninstall(folder)
    assert mine.read_text() == "-- mine"


def test_a_python_that_is_chosen_stays(folder):
    ini = (folder / "reaper.ini").read_bytes()
    (folder / "reaper.ini").write_bytes(ini.replace(b"csurf_cnt", b"pythonlibdll64=mine.dll\r\ncsurf_cnt"))
    install(folder, with_server=True)
    assert b"libpython3" not in (folder / "reaper.ini").read_bytes()


@pytest.mark.parametrize("name", ["REAPER.exe", "REAPER", "reaper"])
def test_nothing_is_changed_while_reaper_runs(folder, monkeypatch, name):
    monkeypatch.setattr(psutil, "process_iter", lambda names: [SimpleNamespace(info={"name": name})])
    before = everything(folder)
    for change in (install, uninstall):
        with pytest.raises(DawError, match="REAPER is running"):
            change(folder)
    assert everything(folder) == before


def test_settings_must_be_there(folder):
    (folder / "reaper.ini").unlink()
    with pytest.raises(DawError, match="no settings of REAPER") as caught:
        install(folder)
    assert "--resources" in caught.value.hint


@pytest.mark.parametrize(
    ("platform", "expected"),
    [
        ("win32", "roaming/REAPER"),
        ("darwin", "home/Library/Application Support/REAPER"),
        ("linux", "home/.config/REAPER"),
    ],
)
def test_where_reaper_keeps_its_settings(monkeypatch, platform, expected):
    monkeypatch.setattr(module.sys, "platform", platform)
    monkeypatch.setenv("APPDATA", "roaming")
    monkeypatch.setattr(module.Path, "home", lambda: module.Path("home"))
    assert reaper_folder() == module.Path(expected)


def test_the_note_starts_the_command(folder):
    install(folder)
    noted = json.loads((folder / "Redrum" / "command.json").read_text(encoding="utf-8"))
    path = os.pathsep.join(filter(None, [str(actions_folder().parents[2]), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [*noted["command"], "reaper", "run-job", "gone.json"],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": path,
            "REDRUM_DATA": str(folder / "data"),
            "REDRUM_HELPER_MINUTES": "0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert "gone.json cannot be read" in done.stderr


# The doctor


def run(*arguments):
    return CliRunner().invoke(app, ["reaper", *arguments], prog_name="redrum")


def statuses(folder):
    return {check.name: check.status for check in examine_reaper(folder)}


@pytest.fixture
def installed(folder, monkeypatch):
    install(folder)
    monkeypatch.setattr(
        "daw_bridge.action_install.subprocess.run",
        lambda command, **more: SimpleNamespace(returncode=0, stdout="redrum 1.0\n", stderr=""),
    )
    return folder


def test_all_is_well_after_an_installation(installed):
    result = run("doctor", "--resources", str(installed), "--json")
    assert result.exit_code == 0
    checks = {check["name"]: check for check in map(json.loads, result.stdout.splitlines())}
    assert {check["schema"] for check in checks.values()} == {1}
    assert checks.pop("REAPER server")["status"] == "absent"
    assert {check["status"] for check in checks.values()} == {"ok"}
    assert "redrum 1.0" in checks["REAPER runs the command"]["found"]
    assert "none keeps the models loaded" in checks["REAPER helper"]["found"]
    install(installed, with_server=True)
    assert statuses(installed)["REAPER server"] == "ok"


def spoil_script(folder):
    (folder / "Scripts" / "Redrum" / SHARED[1]).write_text("-- old")


def spoil_list(folder):
    (folder / "reaper-kb.ini").write_bytes(ACTIONS_LIST)


def spoil_note(folder):
    (folder / "Redrum" / "command.json").unlink()


def spoil_jobs(folder):
    (folder / "Redrum" / "jobs").write_text("a file where a folder should be")


@pytest.mark.parametrize(
    ("spoil", "name", "found"),
    [
        (spoil_script, "REAPER actions", "redrum_session.lua in .* is of another version"),
        (spoil_list, "REAPER Actions list", "Redrum selected item.lua is not in reaper-kb.ini"),
        (spoil_note, "REAPER runs the command", "command.json is not there"),
        (spoil_jobs, "REAPER jobs", "jobs is not a folder"),
    ],
)
def test_what_is_wrong_is_found_and_has_a_cure(installed, spoil, name, found):
    spoil(installed)
    failed = [check for check in examine_reaper(installed) if check.status == "failed"]
    assert [check.name for check in failed] == [name]
    assert re.search(found, failed[0].found)
    assert failed[0].cure
    result = run("doctor", "--resources", str(installed), "-q")
    assert result.exit_code == 3
    assert failed[0].cure in result.stdout


def test_a_command_that_fails_is_found(installed, monkeypatch):
    monkeypatch.setattr(
        "daw_bridge.action_install.subprocess.run",
        lambda command, **more: SimpleNamespace(returncode=1, stdout="", stderr="No module named daw_bridge"),
    )
    (failed,) = [check for check in examine_reaper(installed) if check.status == "failed"]
    assert "No module named daw_bridge" in failed.found
    assert "redrum reaper install" in failed.cure


def test_the_command_of_a_stranger_is_not_run(installed, monkeypatch):
    note = installed / "Redrum" / "command.json"
    noted = json.loads(note.read_text(encoding="utf-8"))
    note.write_text(json.dumps(noted | {"command": ["rm", "-rf"]}))
    monkeypatch.setattr("daw_bridge.action_install.subprocess.run", lambda *_, **__: pytest.fail("it was run"))
    (failed,) = [check for check in examine_reaper(installed) if check.status == "failed"]
    assert "names another command" in failed.found
    assert "redrum reaper install" in failed.cure


def test_where_no_reaper_is(tmp_path):
    (check,) = examine_reaper(tmp_path)
    assert (check.status, "--resources" in check.cure) == ("failed", True)


def test_the_commands(folder):
    result = run("install", "--resources", str(folder))
    assert result.exit_code == 0
    assert "5 actions are in REAPER's Actions list, the first is Redrum selected item.lua" in result.stdout
    assert run("install", "--resources", str(folder)).stdout == "all is installed already\n"
    assert run("uninstall", "--resources", str(folder)).exit_code == 0
    assert run("uninstall", "--resources", str(folder)).stdout == "nothing is installed\n"
    result = run("install", "--resources", str(folder / "gone"))
    assert result.exit_code == 3
    assert "--resources" in result.stderr


def test_the_index_for_reapack_names_every_script():
    index = ElementTree.parse(actions_folder() / "index.xml").getroot()
    assert (index.tag, index.get("version"), index.get("name")) == ("index", "1", "Redrum")
    (package,) = index.iter("reapack")
    assert package.get("type") == "script"
    (version,) = package.iter("version")
    assert version.get("name") == metadata.version("latent-redrum")
    sources = {source.get("file"): source for source in version.iter("source")}
    assert set(sources) == {*ACTIONS, *SHARED}
    assert {name for name, source in sources.items() if source.get("main")} == set(ACTIONS)
    for name, source in sources.items():
        assert source.text.rpartition("/")[2] == name.replace(" ", "%20")
