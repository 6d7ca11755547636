"""`redrum doctor`: what is well is said, and what is not has a cure."""

import json
import re
import shutil
import sys
from collections import namedtuple

import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge import doctor
from daw_bridge.commands.cli import app
from daw_bridge.devices import default_threads
from transform.engine import Redrummer
from transform.presets import load_preset

Usage = namedtuple("Usage", "total used free")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    folder = tmp_path / "här"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "user data"))
    return folder


@pytest.fixture(autouse=True)
def _no_models(request, redrummer, monkeypatch):
    """Let the speed be that of a stand-in, and no speed too slow: whatever else this machine does."""
    monkeypatch.setattr(doctor, "_TOO_SLOW", 0.0)
    monkeypatch.setattr(doctor, "_MEASURED_S", 0.0)
    if request.node.get_closest_marker("slow") is None:
        monkeypatch.setattr(Redrummer, "load", lambda *_, **__: redrummer)


def examined(*arguments):
    """Return the exit code and the checks by name."""
    result = CliRunner().invoke(app, ["doctor", "--json", *arguments])
    checks = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(check["schema"] == 1 for check in checks)
    return result.exit_code, {check["name"]: check for check in checks}


@pytest.mark.parametrize("models", ["stand-ins", pytest.param("shipped", marks=pytest.mark.slow)])
def test_all_is_well_here(here, models):
    code, checks = examined()
    assert code == 0, checks
    assert {check["status"] for check in checks.values()} <= {"ok", "absent"}
    assert {"torch", "audio files", "MIDI files", "preset default", "results", "speed"} <= set(checks)
    assert re.search(r"x real time on cpu with .*: a loop of \d\.\d s", checks["speed"]["found"])
    assert not [check for check in checks.values() if "adapter" in check["found"]]
    assert not list(here.iterdir())
    assert all(check["cure"] for check in checks.values() if check["status"] != "ok")


def test_what_an_installation_in_reaper_lacks_is_found(tmp_path, monkeypatch):
    folder = tmp_path / "REAPER"
    monkeypatch.setattr("daw_bridge.reaper.install.reaper_folder", lambda: folder)
    _, checks = examined()
    assert checks["REAPER actions"]["status"] == "absent"
    assert "redrum reaper install" in checks["REAPER actions"]["cure"]
    (folder / "Scripts" / "Redrum").mkdir(parents=True)
    (folder / "reaper.ini").write_text("[reaper]\n")
    code, checks = examined()
    assert code == 3
    assert checks["REAPER actions"]["status"] == checks["REAPER Actions list"]["status"] == "failed"
    assert "redrum reaper install" in checks["REAPER actions"]["cure"]


def test_a_human_reads_a_line_a_check():
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0
    assert f"ok      preset default: {', '.join(load_preset('default').models)}; sha256 " in result.stdout
    assert CliRunner().invoke(app, ["doctor", "-q"]).output == ""


def test_a_damaged_preset_is_found(tmp_path):
    folder = tmp_path / "user data" / "presets" / "mine"
    shutil.copytree(load_preset("default").folder, folder)
    (folder / "transcriber.safetensors").write_bytes(b"other")
    code, checks = examined()
    assert code == 3
    assert checks["preset mine"]["status"] == "failed"
    assert "damaged" in checks["preset mine"]["found"]
    assert checks["preset mine"]["cure"]
    assert checks["preset default"]["status"] == "ok"


def test_a_full_disk_is_found(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda place: Usage(10, 10, 2 * 10**8))
    code, checks = examined()
    assert code == 3
    assert checks["results"]["found"].startswith("0.2 GB are free in ")
    assert "room" in checks["results"]["cure"]


def test_a_broken_torch_is_found_and_the_rest_examined(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, checks = examined()
    assert code == 3
    assert checks["torch"]["status"] == checks["speed"]["status"] == "failed"
    assert "pip install 'torch" in checks["torch"]["cure"]
    assert checks["audio files"]["status"] == "ok"


def test_an_audio_library_that_changes_samples_is_found(monkeypatch):
    read = soundfile.SoundFile.read
    monkeypatch.setattr(
        soundfile.SoundFile, "read", lambda self, *args, **options: read(self, *args, **options) / 2
    )
    _, checks = examined()
    assert checks["audio files"]["found"] == "what is written is not what is read"


def test_a_device_that_is_not_there_is_found(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    code, checks = examined("--device", "cuda")
    assert code == 3
    assert checks["speed"]["found"] == "PyTorch finds no cuda device on this machine"
    assert checks["speed"]["cure"] == "use --device auto"


def test_speed_is_measured_with_the_threads_of_render(monkeypatch):
    """With all cores, two programs that compute would wait for each other."""
    used = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("torch.set_num_threads", used.append)
    examined()
    assert used == [default_threads()]


def test_a_machine_that_is_too_slow_is_found(monkeypatch):
    monkeypatch.setattr(doctor, "_TOO_SLOW", 1e9)
    _, checks = examined()
    assert checks["speed"]["status"] == "failed"
    assert "GPU" in checks["speed"]["cure"]
