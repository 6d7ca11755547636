"""REAPER's settings: a copy first, only the lines that are needed, never while REAPER runs."""

from types import SimpleNamespace

import psutil
import pytest

from daw_bridge.install import install, uninstall
from transform.errors import DawError

INI = b"""; mine
[REAPER]
lastproject=C:\\M\xfcsik\\a.rpp
csurf_cnt=1
csurf_0=OSC "x"

[verbconfig]
  odd = 1
""".replace(b"\n", b"\r\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    (tmp_path / "reaper.ini").write_bytes(INI)
    (tmp_path / "reaper-kb.ini").write_bytes(b"KEY 1 2 3 0\r\n")
    monkeypatch.setattr("daw_bridge.install._python_library", lambda: tmp_path / "libpython3.so")
    monkeypatch.setattr(psutil, "process_iter", lambda names: [SimpleNamespace(info={"name": "bash"})])
    return tmp_path


def test_only_the_needed_lines_come_in(folder):
    assert len(install(folder)) == 4
    lines = (folder / "reaper.ini").read_bytes().split(b"\r\n")
    before = INI.split(b"\r\n")
    assert [line for line in lines if line in before and line] == [
        line for line in before if line and line != b"csurf_cnt=1"
    ]
    assert b"csurf_cnt=2" in lines
    assert b"csurf_1=HTTP 0 2307 '' 'index.html' 0 ''" in lines
    assert b"pythonlibdll64=libpython3.so" in lines
    assert lines.index(b"csurf_1=HTTP 0 2307 '' 'index.html' 0 ''") < lines.index(b"[verbconfig]")
    action = (folder / "reaper-kb.ini").read_bytes()
    assert action.startswith(b"KEY 1 2 3 0\r\nSCR 4 0 RS")
    assert b"redrum_server.py" in action
    name = action.split()[8].decode()
    assert (folder / "reaper-extstate.ini").read_text() == f'[reapy]\nactivate_reapy_server="_{name}"\n'


def test_a_second_time_changes_nothing(folder):
    install(folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert install(folder) == []
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_what_was_there_is_kept_beside(folder):
    install(folder)
    uninstall(folder)
    assert (folder / "reaper.ini.before-redrum").read_bytes() == INI
    assert (folder / "reaper-kb.ini").read_bytes() == b"KEY 1 2 3 0\r\n"
    lines = (folder / "reaper.ini").read_bytes().split(b"\r\n")
    assert {b"csurf_cnt=1", b"reascript=1"} <= set(lines)
    assert not any(b"HTTP" in line for line in lines)
    assert uninstall(folder) == []


def test_a_python_that_is_chosen_stays(folder):
    (folder / "reaper.ini").write_bytes(INI.replace(b"csurf_cnt", b"pythonlibdll64=mine.dll\r\ncsurf_cnt"))
    install(folder)
    assert b"libpython3" not in (folder / "reaper.ini").read_bytes()


def test_nothing_is_changed_while_reaper_runs(folder, monkeypatch):
    monkeypatch.setattr(psutil, "process_iter", lambda names: [SimpleNamespace(info={"name": "REAPER.exe"})])
    for change in (install, uninstall):
        with pytest.raises(DawError, match="REAPER is running"):
            change(folder)
    assert (folder / "reaper.ini").read_bytes() == INI


def test_settings_must_be_there(folder):
    (folder / "reaper.ini").unlink()
    with pytest.raises(DawError, match="no settings of REAPER") as caught:
        install(folder)
    assert "--resources" in caught.value.hint
