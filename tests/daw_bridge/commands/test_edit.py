import json
import os
import signal
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.editor.serving import PageServer
from transform.library import demo_recordings

ROOT = Path(__file__).resolve().parents[3]


def redrum(*options):
    return CliRunner().invoke(app, ["edit", *options], prog_name="redrum")


@pytest.fixture(autouse=True)
def _own_data(tmp_path, monkeypatch):
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["gone.wav"], 1, "gone.wav"),
        (["loop.wav", "--rhythm", "no-such-rhythm"], 1, "there is no rhythm called"),
        (["loop.wav", "--rhythm", "broken.mid"], 1, "broken"),
        (["loop.wav", "--preset", "none-such"], 1, "preset"),
        (["loop.wav", "--port", "70000"], 2, "--port"),
        (["text.wav"], 1, "not a sound file"),
    ],
)
def test_what_cannot_be_opened_is_a_sentence_before_any_server(
    options, code, words, write_wav, tmp_path, clicks
):
    write_wav("loop.wav", clicks([0.1, 0.5]))
    (tmp_path / "text.wav").write_text("text")
    (tmp_path / "broken.mid").write_text("MThd nonsense")
    result = redrum(*options)
    assert result.exit_code == code
    assert words in result.stderr
    assert not result.stdout


def test_a_busy_port_is_a_sentence(write_wav, clicks, monkeypatch):
    import socket

    write_wav("loop.wav", clicks([0.1, 0.5]))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        result = redrum("loop.wav", "--no-browser", "--port", str(other.getsockname()[1]))
    assert result.exit_code == 2
    assert "cannot be used" in result.stderr


def test_without_a_browser_the_address_is_printed(write_wav, clicks, monkeypatch):
    monkeypatch.setattr(PageServer, "run", lambda self, when_ready, when_asked: when_ready())
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    write_wav("loop.wav", clicks([0.1, 0.5]))
    result = redrum("loop.wav", "--no-browser")
    assert result.exit_code == 0
    assert result.stdout.startswith("loop.wav is open at http://127.0.0.1:")
    assert "#token=" in result.stdout
    with_rhythm = redrum("loop.wav", "bossa-nova-132", "--no-browser")
    assert with_rhythm.stdout.startswith("loop.wav is open at "), with_rhythm.stderr
    in_json = redrum("loop.wav", "--no-browser", "--json")
    line = json.loads(in_json.stdout)
    assert line == {"schema": 1, "url": line["url"]}


class Editor:
    """`redrum edit` in a process of its own, with the shipped models."""

    def __init__(self, path, tmp_path, *options, as_json=True, waits=True):
        command = [sys.executable, "-m", "daw_bridge", "edit", str(path), "--no-browser", *options]
        environment = {**os.environ, "REDRUM_DATA": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            [*command, *["--json"] * as_json],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
            env=environment,
        )
        self.lines = [self.process.stdout.readline().rstrip("\n")]
        url = json.loads(self.lines[0])["url"] if as_json else self.lines[0].rpartition(" ")[2]
        base, _, token = url.partition("/#token=")
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=base, headers=headers, timeout=120)
        with self.http.stream("GET", "/api/events") if waits else nullcontext() as answer:
            for line in answer.iter_lines() if answer else ():
                if json.loads(line).get("rendered") is not None or json.loads(line)["event"] == "rendered":
                    break

    def session(self):
        return self.http.get("/api/session").json()

    def take(self, version, which="take"):
        return np.frombuffer(
            self.http.get("/api/audio", params={"which": which, "version": version}).content, "<f4"
        )

    def signalled(self, number):
        """Send a signal, and return the exit code and what is still printed."""
        self.http.close()
        self.process.send_signal(number)
        code = self.process.wait(30)
        with self.process.stdout as output, self.process.stderr as errors:
            return code, output.read(), errors.read()


LOOP = next(loop.path for loop in demo_recordings() if "acoustic" in loop.name)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
@pytest.mark.parametrize(
    ("number", "is_open"),
    [(signal.SIGINT, True), (signal.SIGINT, False), (signal.SIGTERM, True), (signal.SIGHUP, True)],
)
def test_an_editor_that_is_stopped_by_a_signal_has_ended_as_it_should(tmp_path, number, is_open):
    assert Editor(LOOP, tmp_path, waits=is_open).signalled(number) == (0, "", "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_what_became_of_earlier_edits_is_printed_once_it_is_known(tmp_path):
    editor = Editor(LOOP, tmp_path)
    snare = next(event for event in editor.session()["events"] if event["class"] == "SD")
    for _ in range(2):
        version = editor.session()["version"]
        body = {
            "version": version,
            "edits": [{"op": "set", "id": snare["id"], "velocity": 0.1 + 0.1 * version}],
        }
        assert editor.http.post("/api/edits", json=body).status_code == 200
    editor.signalled(signal.SIGKILL)
    (journal,) = (tmp_path / "data").rglob("*.jsonl")
    data = journal.read_bytes()
    journal.write_bytes(data[:-9] + b"x" + data[-8:])

    def printed(*options):
        editor = Editor(LOOP, tmp_path, *options, as_json=False)
        code, output, _ = editor.signalled(signal.SIGINT)
        assert code == 0
        return editor.lines + output.splitlines()

    lines = printed("--rhythm", "hip-hop-bounce-140")
    assert "is open at http://127.0.0.1:" in lines[0]
    assert lines[2] == "  it goes on where it was left; all of it can be undone"
    assert lines[3].startswith("  the journal of edits is damaged: of its steps the first 1 came back")
    assert lines[4].startswith("  --rhythm was not applied, because the edits of last time go on")
    assert len(lines) == 5
    journal.write_bytes(b"x" + data[1:])
    lines = printed()
    assert lines[2].startswith("  the journal of edits is damaged: none of its steps came back")
    assert len(lines) == 3


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_a_killed_editor_goes_on_with_every_acknowledged_edit(tmp_path):
    editor = Editor(LOOP, tmp_path)
    source = editor.take(0, "source")
    assert np.array_equal(editor.take(0), source)
    snare = next(
        event for event in editor.session()["events"] if event["class"] == "SD" and event["onset_s"] > 1
    )
    edit = {"op": "delete", "id": snare["id"]}
    answer = editor.http.post("/api/edits", json={"version": 0, "edits": [edit]})
    assert answer.json()["version"] == 1
    edited = editor.take(1)
    assert not np.array_equal(edited, source)
    before = round((snare["onset_s"] - 0.01) * editor.session()["source"]["sample_rate"])
    stereo, original = (sound.reshape(2, -1) for sound in (edited, source))
    assert np.array_equal(stereo[:, :before], original[:, :before])
    editor.signalled(signal.SIGKILL)
    again = Editor(LOOP, tmp_path)
    session = again.session()
    assert (session["resumed"], session["version"]) == (True, 1)
    assert snare["id"] not in {event["id"] for event in session["events"]}
    assert np.array_equal(again.take(1), edited)
    again.http.post("/api/undo", json={"version": 1})
    assert np.array_equal(again.take(2), source)
    assert again.signalled(signal.SIGTERM)[0] == 0
