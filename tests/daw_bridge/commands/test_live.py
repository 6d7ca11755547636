"""`redrum live selected`, from the terminal to the tracks of a stand-in for Live."""

import json

import pytest
import soundfile
import typer
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.live import running as ableton
from transform.engine import Redrummer

RHYTHM = "bossa-nova-132"


@pytest.fixture(autouse=True)
def _no_models(monkeypatch, redrummer):
    monkeypatch.setattr(Redrummer, "load", lambda preset, device: redrummer)


@pytest.fixture
def loop(write_wav, clicks):
    return write_wav("loop.wav", clicks([0.1, 0.5], length_s=1.0))


def redrum(*arguments):
    return CliRunner().invoke(app, ["live", "selected", *arguments], prog_name="redrum")


def test_selected_clips_are_redrummed(worlds, loop, tmp_path):
    items = [worlds.audio(loop, 1.0, 2.0), worlds.audio(tmp_path / "gone.wav", 5.0)]
    world = worlds("live", [worlds.track("drums", *items)])
    result = redrum("--loop", "--rhythm", RHYTHM, "--json", "--bit-depth", "16")
    assert result.exit_code == 1
    done, failed = (json.loads(line) for line in result.stdout.splitlines())
    assert (done["schema"], done["track"], done["rhythm"]) == (1, "drums", RHYTHM)
    assert soundfile.info(done["output"]).frames == 88_200  # as long as the clip
    assert soundfile.info(done["output"]).subtype == "PCM_16"
    assert "gone.wav is missing" in failed["error"]
    assert failed["hint"]
    assert [track["name"] for track in world.tracks_after()] == ["drums", "drums redrum"]
    assert world.is_untouched()


def test_the_rhythm_may_be_selected_too(worlds, loop):
    notes = [(0, 36, 100, 9), (1, 38, 100, 9), (2, 42, 100, 9)]
    tracks = [worlds.track("drums", worlds.audio(loop)), worlds.track("midi", worlds.midi(notes))]
    world = worlds("live", tracks)
    result = redrum("--loop")
    assert result.exit_code == 0, result.output
    assert "loop.wav at 0.00 s on drums, playing beat" in result.stdout
    assert "beat keeps its project time" in result.stdout
    assert [track["name"] for track in world.tracks_after()] == ["drums", "drums redrum", "midi"]


def test_a_dry_run_changes_nothing(worlds, loop):
    world = worlds("live", [worlds.track("drums", worlds.audio(loop))])
    result = redrum("--loop", "--rhythm", RHYTHM, "--dry-run")
    assert result.exit_code == 0
    assert result.stdout == f"loop.wav at 0.00 s on drums: would play {RHYTHM}\n"
    assert world.tracks_after() == world.before
    assert not list(world.media_folder.iterdir())


def test_what_is_missing_is_said(worlds, loop, monkeypatch):
    world = worlds("live", [worlds.track("drums", worlds.audio(loop))])
    result = redrum("--loop")
    assert result.exit_code == 2
    assert "name a rhythm (--rhythm)" in result.stderr
    result = redrum("--rhythm", RHYTHM)  # no clip is shown
    assert result.exit_code == 3
    world.stop()
    monkeypatch.setattr(ableton, "is_running", lambda: True)
    result = redrum("--rhythm", RHYTHM)
    assert result.exit_code == 3
    assert "is not chosen" in result.stderr
    assert "docs/ableton.md" in result.stderr


def test_an_older_live_has_its_folder_opened(worlds, loop, monkeypatch):
    opened = []
    monkeypatch.setattr(typer, "launch", opened.append)
    clip = {"name": "loop", "file_path": str(loop), "end_time": 2.0, "is_detail": True}
    world = worlds("live", [], scene={"tracks": [{"name": "x", "items": [clip]}], "version": [12, 0, 4]})
    result = redrum("--rhythm", RHYTHM)
    assert result.exit_code == 0, result.output
    assert opened == [str(world.media_folder)]
    assert "Live 12.0.4 has no way for a script to put a file into a set" in result.stderr
    assert str(world.media_folder) in result.stderr
    assert [file.name for file in world.media_folder.iterdir()] == ["loop-redrum.wav"]
