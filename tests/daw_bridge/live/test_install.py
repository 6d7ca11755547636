"""Live's User Library: only Redrum's own files come and go; and what is wrong is named."""

import json
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.live import install as live_install
from daw_bridge.live import running as ableton
from daw_bridge.live.install import FILES, install, library_in, summary, uninstall, user_library
from tests.daw_bridge.live_worlds import SCRIPTS
from transform.errors import DawError


@pytest.fixture
def library(tmp_path, monkeypatch):
    folder = tmp_path / "Üser Library"
    (folder / "Remote Scripts" / "Push").mkdir(parents=True)
    monkeypatch.setattr(live_install, "user_library", lambda: folder)
    monkeypatch.setattr(ableton, "is_running", lambda: False)
    monkeypatch.setattr(ableton, "live_endpoint_path", lambda: str(tmp_path / "no live.json"))
    return folder


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def redrum(*arguments):
    return CliRunner().invoke(app, ["live", *arguments], prog_name="redrum")


def test_the_script_comes_whole_and_goes_whole(library):
    told = install(None)
    folder = library / "Remote Scripts" / "Redrum"
    assert files_in(folder) == sorted(path.name for path in (SCRIPTS / "redrum_live").glob("*.py"))
    assert all((folder / name).read_bytes() == (SCRIPTS / "redrum_live" / name).read_bytes() for name in FILES)
    assert "choose Redrum" in told[1]
    assert install(None) == []
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "server.cpython-311.pyc").write_bytes(b"x")
    assert len(uninstall(None)) == 1
    assert not folder.exists()
    assert (library / "Remote Scripts" / "Push").is_dir()
    assert uninstall(None) == []


def test_what_is_not_ours_stays(library):
    install(None)
    mine = library / "Remote Scripts" / "Redrum" / "mine.py"
    mine.write_text("mine")
    uninstall(None)
    assert files_in(library) == ["Remote Scripts/Redrum/mine.py"]


@pytest.mark.parametrize("place", ["Redrum", "Redrum/__pycache__"])
def test_no_link_is_followed(library, tmp_path, place):
    work = tmp_path / "work"
    work.mkdir()
    for name in ("server.py", "server.cpython-311.pyc"):
        (work / name).write_text("keep me")
    link = library / "Remote Scripts" / place
    link.parent.mkdir(exist_ok=True)
    try:
        link.symlink_to(work, target_is_directory=True)
    except OSError:
        pytest.skip("this user may make no links")
    for change in (install, uninstall):
        with pytest.raises(DawError, match="is a link"):
            change(None)
    assert files_in(work) == ["server.cpython-311.pyc", "server.py"]
    assert [check.status for check in live_install.examine()] == ["failed", "failed"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_no_pipe_is_waited_for(library):
    folder = library / "Remote Scripts" / "Redrum"
    folder.mkdir()
    os.mkfifo(folder / "server.py")
    assert summary().status == "absent"
    install(None)
    assert (folder / "server.py").read_bytes() == (SCRIPTS / "redrum_live" / "server.py").read_bytes()


def test_an_older_script_is_replaced(library):
    install(None)
    server = library / "Remote Scripts" / "Redrum" / "server.py"
    server.write_text("old")
    assert [check.found for check in live_install.examine() if check.name == "Remote Script"] == [
        "it is of another version of Redrum"
    ]
    install(None)
    assert server.read_bytes() == (SCRIPTS / "redrum_live" / "server.py").read_bytes()


def test_the_library_that_live_names_is_taken(tmp_path, monkeypatch):
    text = '<UserLibrary><LibraryProject><ProjectName Value="My &amp; Library" /><ProjectPath Value="{}" />'
    assert library_in(text.format("D:/Müsic")) == Path("D:/Müsic/My & Library")
    assert library_in("<UserLibrary />") is None
    home = tmp_path / "home"
    settings = home / "Library" / "Preferences" / "Ableton" / "Live 12.1.5" / "Library.cfg"
    settings.parent.mkdir(parents=True)
    settings.write_text(text.format(tmp_path.as_posix()), encoding="utf-8")
    usual = home / "Music" / "Ableton" / "User Library"
    usual.mkdir(parents=True)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(Path, "home", lambda: home)
    assert user_library() == usual  # what is named is not there
    (tmp_path / "My & Library").mkdir()
    assert user_library() == tmp_path / "My & Library"


def test_the_script_goes_from_every_library_that_a_live_names(tmp_path, monkeypatch):
    text = '<ProjectName Value="{}" /><ProjectPath Value="' + tmp_path.as_posix() + '" />'
    home = tmp_path / "home"
    for version, name, age_s in (("11.3", "old", 100), ("12.1", "new", 0)):
        (tmp_path / name).mkdir()
        settings = home / "Library" / "Preferences" / "Ableton" / f"Live {version}" / "Library.cfg"
        settings.parent.mkdir(parents=True)
        settings.write_text(text.format(name), encoding="utf-8")
        os.utime(settings, (1.7e9 - age_s, 1.7e9 - age_s))
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(Path, "home", lambda: home)
    install(tmp_path / "old")
    install(None)
    assert [len(files_in(tmp_path / name)) for name in ("old", "new")] == [len(FILES)] * 2
    assert len(uninstall(None)) == 2
    assert [files_in(tmp_path / name) for name in ("old", "new")] == [[], []]
    assert uninstall(None) == []


def test_without_a_library_that_is_said(library, tmp_path, monkeypatch):
    monkeypatch.setattr(live_install, "user_library", lambda: None)
    with pytest.raises(DawError, match="not found") as caught:
        install(None)
    assert "--library" in caught.value.hint
    with pytest.raises(DawError, match="there is no folder"):
        install(tmp_path / "gone")
    assert summary().status == "absent"


def test_the_commands_say_what_they_did(library):
    result = redrum("install")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == f"the control surface Redrum is in {library / 'Remote Scripts'}"
    assert redrum("install").stdout == "all is installed already\n"
    assert "no longer" in redrum("uninstall", "--library", str(library)).stdout
    assert redrum("uninstall").stdout == "nothing is installed\n"


def test_the_doctor_names_what_is_missing(library):
    result = redrum("doctor")
    assert result.exit_code == 3
    assert "failed  Remote Script: it is not installed\n        run `redrum live install`" in result.stdout
    assert "failed  Live: Ableton Live is not running" in result.stdout
    assert summary().status == "absent"
    install(None)
    assert (summary().status, "is not running" in summary().found) == ("ok", True)


@pytest.mark.parametrize(
    ("scene", "status", "word"),
    [
        ({}, "ok", "song.als"),
        ({"version": [12, 0, 4]}, "failed", "12.0.4"),
        ({"path": ""}, "failed", "never been"),
    ],
)
def test_the_doctor_asks_the_live_that_runs(worlds, tmp_path, monkeypatch, scene, status, word):
    library = tmp_path / "User Library"
    library.mkdir()
    monkeypatch.setattr(live_install, "user_library", lambda: library)
    install(None)
    worlds("live", [], scene={"tracks": [], **scene})
    result = redrum("doctor", "--json")
    checks = [json.loads(line) for line in result.stdout.splitlines()]
    assert [check["status"] for check in checks] == ["ok", "ok", "ok", status]
    assert word in checks[-1]["found"]
    assert bool(checks[-1]["cure"]) == (status != "ok")
    assert result.exit_code == (0 if status == "ok" else 3)
