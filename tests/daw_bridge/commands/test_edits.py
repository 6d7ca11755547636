"""`redrum render SOURCE --edits FILE`, as its user meets it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from transform.audio import Recording
from transform.edit import RecordingEditor, Stroke
from transform.engine import Redrummer
from transform.library import demo_recordings
from transform.midi import read_midi
from transform.session_file import EditSession, SourceFacts, write_session

RATE = 44_100
pytestmark = pytest.mark.usefixtures("models_once")


def render(*arguments):
    return CliRunner().invoke(app, ["render", *map(str, arguments)], prog_name="redrum")


@pytest.fixture(autouse=True)
def source(tmp_path, monkeypatch):
    """Work in an empty folder with three seconds of a shipped loop, 16 bits in stereo."""
    monkeypatch.chdir(tmp_path)
    path = next(recording.path for recording in demo_recordings() if "acoustic" in recording.name)
    samples, _ = soundfile.read(path, frames=3 * RATE, dtype="int16", always_2d=True)
    soundfile.write(tmp_path / "loop.wav", samples, RATE, subtype="PCM_16")
    return tmp_path / "loop.wav"


@pytest.fixture
def session(source):
    with Recording.open(source) as recording:
        editor = RecordingEditor.open(recording, Redrummer.load())
        assert len(editor.detected) > 5
        return EditSession(
            source=SourceFacts.of(recording),
            detected=editor.detected,
            played=editor.detected,
            tempo=((0.0, 135.0),),
        )


def stored(path):
    return soundfile.read(path, dtype="int16", always_2d=True)[0]


def test_a_session_without_an_edit_gives_the_source(session, source):
    write_session(Path("session.json"), session)
    result = render(source, "--edits", "session.json", "--json")
    assert result.exit_code == 0, result.output
    (report,) = map(json.loads, result.stdout.splitlines())
    assert report["output"] == str(Path("redrummed/loop_session.wav"))
    assert (report["engine"], report["gain_db"], report["notes"], report["bit_depth"]) == ("edit", 0, [], "16")
    assert sum(report["events"].values()) == len(session.played)
    np.testing.assert_array_equal(stored(report["output"]), stored(source))


def test_what_was_edited_differs_and_nothing_else_does(session, source):
    first = session.played[2]
    later = replace(first, onset_s=1.5)
    write_session(
        Path("session.json"), replace(session, played=(later, *(s for s in session.played if s is not first)))
    )
    result = render(source, "--edits", "session.json", "-o", "out.wav", "--midi", "out.mid")
    assert result.exit_code == 0, result.output
    differs = (stored("out.wav") != stored(source)).any(axis=1)
    assert differs.any()
    assert not differs[: round((min(first.onset_s, 1.5) - 0.002) * RATE) - 1].any()
    played = read_midi(Path("out.mid"))
    assert len(played.events) == len(session.played)
    assert played.bpm == pytest.approx(135, abs=0.01)


def test_a_session_of_a_replay_is_replayed(session, source):
    strokes = tuple(Stroke(f"r{i}", "SD", 0.5 * i + 0.1, 0.8) for i in range(8))
    replay = replace(session, mode="replay", played=strokes, length_s=4.0)
    write_session(Path("session.json"), replay)
    result = render(source, "--edits", "session.json", "-o", "out.wav", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["events"]["SD"] == 8
    assert len(stored("out.wav")) == 4 * RATE


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--rhythm", "bossa-nova-132"], "--rhythm is given beside --edits"),
        (["--mix", "0.5"], "--mix is given beside --edits"),
        (["--stems", "stems"], "--stems is given beside --edits"),
        (["-o", "loop.wav", "--overwrite"], "loop.wav is an input, which is never replaced"),
        (["-o", "session.json", "--overwrite"], "results are lossless"),
        (["-o", "out.mp3"], "results are lossless"),
        (["--midi", "out.wav"], "must end in .mid"),
    ],
)
def test_what_does_not_go_with_edits_is_refused(session, source, options, sentence):
    write_session(Path("session.json"), session)
    before = sorted(Path().rglob("*"))
    result = render("loop.wav", "--edits", "session.json", *options)
    assert result.exit_code == 2
    assert sentence in result.stderr
    assert sorted(Path().rglob("*")) == before


def test_another_recording_a_damaged_session_and_nothing_at_all_are_refused(session, source):
    write_session(Path("session.json"), session)
    soundfile.write("other.wav", np.zeros(RATE), RATE)
    result = render("other.wav", "--edits", "session.json")
    assert result.exit_code == 2
    assert "the session was made of another recording, 'loop', not of 'other'" in result.stderr
    Path("damaged.json").write_text("{")
    result = render(source, "--edits", "damaged.json")
    assert result.exit_code == 2
    assert "damaged.json is no session" in result.stderr
    result = render(source)
    assert result.exit_code == 2
    assert "add --rhythm NAME" in result.stderr
    assert "or give --edits FILE" in result.stderr
    assert not Path("redrummed").exists()


def test_results_are_skipped_replaced_or_refused_as_requested(session, source):
    write_session(Path("session.json"), session)
    Path("out.wav").write_bytes(b"mine")
    result = render(source, "--edits", "session.json", "-o", "out.wav", "--midi", "out.mid")
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert Path("out.wav").read_bytes() == b"mine"
    assert not Path("out.mid").exists()
    result = render(source, "--edits", "session.json", "-o", "out.wav", "--skip-existing")
    assert "skipped" in result.stdout
    result = render(source, "--edits", "session.json", "-o", "new.wav", "--dry-run")
    assert result.exit_code == 0
    assert not Path("new.wav").exists()
    result = render(source, "--edits", "session.json", "-o", "out.wav", "--overwrite")
    assert result.exit_code == 0
    np.testing.assert_array_equal(stored("out.wav"), stored(source))
