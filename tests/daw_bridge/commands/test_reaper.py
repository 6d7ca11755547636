"""`redrum reaper selected`, from the terminal to the tracks of a stand-in for REAPER."""

import json

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.takes import Order, redrum_session
from transform.engine import Redrummer
from transform.library import demo_recordings
from transform.presets import load_preset
from transform.settings import RenderSettings
from transform.transcriber import Transcriber

RHYTHM = "bossa-nova-132"


@pytest.fixture(autouse=True)
def _no_models(monkeypatch, redrummer):
    monkeypatch.setattr(Redrummer, "load", lambda preset, device: redrummer)


@pytest.fixture
def loop(write_wav, clicks):
    return write_wav("loop.wav", clicks([0.1, 0.5], length_s=1.0))


def redrum(*arguments):
    return CliRunner().invoke(app, ["reaper", "selected", *arguments], prog_name="redrum")


def test_selected_items_are_redrummed(worlds, loop, tmp_path):
    items = [worlds.audio(loop, 1.0, 2.0), worlds.audio(tmp_path / "gone.wav", 5.0)]
    world = worlds("reaper", [worlds.track("drums", *items)])
    result = redrum("--rhythm", RHYTHM, "--json", "--bit-depth", "16")
    assert result.exit_code == 1, result.output
    done, failed = (json.loads(line) for line in result.stdout.splitlines())
    assert (done["schema"], done["track"], done["rhythm"]) == (1, "drums", RHYTHM)
    assert soundfile.info(done["output"]).frames == 88_200  # as long as the item
    assert soundfile.info(done["output"]).subtype == "PCM_16"
    assert "gone.wav is missing" in failed["error"]
    assert failed["hint"]
    assert "gone.wav is missing" in result.stderr
    assert [track["name"] for track in world.tracks_after()] == ["drums", "drums redrum"]


def test_the_rhythm_may_be_selected_too(worlds, loop):
    notes = [(0, 36, 100, 9), (1, 38, 100, 9)]
    tracks = [worlds.track("drums", worlds.audio(loop)), worlds.track("midi", worlds.midi(notes))]
    world = worlds("reaper", tracks)
    result = redrum()
    assert result.exit_code == 0, result.output
    assert "loop.wav at 0.00 s on drums, playing beat" in result.stdout
    assert "beat keeps its project time" in result.stdout
    assert [track["name"] for track in world.tracks_after()] == ["drums", "drums redrum", "midi"]


def test_a_dry_run_changes_nothing(worlds, loop):
    world = worlds("reaper", [worlds.track("drums", worlds.audio(loop))])
    result = redrum("--rhythm", RHYTHM, "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"loop.wav at 0.00 s on drums: would play {RHYTHM}\n"
    assert world.tracks_after() == world.before
    assert not list(world.media_folder.iterdir())


def test_what_is_missing_is_said(worlds, loop):
    world = worlds("reaper", [worlds.track("drums", worlds.audio(loop))])
    result = redrum()
    assert result.exit_code == 2, result.output
    assert "name a rhythm (--rhythm)" in result.stderr
    worlds("reaper", [worlds.track("drums", worlds.audio(loop, is_selected=False))])
    assert redrum("--rhythm", RHYTHM).exit_code == 3
    world.stop()
    result = redrum("--rhythm", RHYTHM)
    assert result.exit_code == 3
    assert "REAPER is not running" in result.stderr
    assert "docs/reaper.md" in result.stderr


def test_a_shipped_loop_with_the_shipped_transcriber(worlds):
    loop = next(recording.path for recording in demo_recordings() if "acoustic" in recording.name)
    rhythm = worlds.midi([(beat / 2, 36 if beat % 2 else 38, 100, 9) for beat in range(8)], 1.0, 2.0)
    source = worlds.audio(loop, 1.0, 2.0)
    world = worlds("rpp", [worlds.track("drums", source), worlds.track("midi", rhythm)])
    real = Redrummer(Transcriber.load(load_preset().weights("transcriber")))
    (report,) = redrum_session(world.session(), real, Order(settings=RenderSettings(length="source")))
    sound, rate = soundfile.read(report["output"], always_2d=True)
    assert (len(sound), rate) == (2 * 44_100, 44_100)
    starts = [sound[round(n * 0.25 * rate) :][: rate // 20] for n in range(8)]
    assert min(float(np.abs(start).max()) for start in starts) > 0.02
    assert report["events"]["KD"] == report["events"]["SD"] == 4
