import json
import os
import subprocess
import sys
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
    in_json = redrum("loop.wav", "--no-browser", "--json")
    line = json.loads(in_json.stdout)
    assert line == {"schema": 1, "url": line["url"]}


class Editor:
    """`redrum edit` in a process of its own, with the shipped models."""

    def __init__(self, path, tmp_path):
        command = [sys.executable, "-m", "daw_bridge", "edit", str(path), "--no-browser", "--json"]
        environment = {**os.environ, "REDRUM_DATA": str(tmp_path / "data"), "PYTHONPATH": str(ROOT)}
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
        )
        base, _, token = json.loads(self.process.stdout.readline())["url"].partition("/#token=")
        headers = {"Authorization": f"Bearer {token}"}
        self.http = httpx.Client(base_url=base, headers=headers, timeout=120)
        with self.http.stream("GET", "/api/events") as answer:
            for line in answer.iter_lines():
                if json.loads(line).get("rendered") is not None or json.loads(line)["event"] == "rendered":
                    break

    def session(self):
        return self.http.get("/api/session").json()

    def take(self, version, which="take"):
        return np.frombuffer(
            self.http.get("/api/audio", params={"which": which, "version": version}).content, "<f4"
        )

    def end(self, how):
        getattr(self.process, how)()
        self.process.wait(30)
        self.process.stdout.close()
        self.http.close()


@pytest.mark.slow
def test_a_killed_editor_goes_on_with_every_acknowledged_edit(tmp_path):
    path = next(loop.path for loop in demo_recordings() if "acoustic" in loop.name)
    editor = Editor(path, tmp_path)
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
    editor.end("kill")
    again = Editor(path, tmp_path)
    session = again.session()
    assert (session["resumed"], session["version"]) == (True, 1)
    assert snare["id"] not in {event["id"] for event in session["events"]}
    assert np.array_equal(again.take(1), edited)
    again.http.post("/api/undo", json={"version": 1})
    assert np.array_equal(again.take(2), source)
    again.end("terminate")
    assert again.process.returncode == 130
