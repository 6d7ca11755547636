"""Microphones of one performance in the editor: from files and from DAWs, and back, delays to the sample."""

from contextlib import nullcontext

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.editor.desk import Desk
from daw_bridge.editor.serving import PageServer
from daw_bridge.editor.source import MicSource
from tests.daw_bridge.editor.conftest import FakeEngine
from tests.transform.test_edited_mics import editor_of
from tests.transform.test_mics import RATE, strokes

BEGIN_S = 3.0
MICS = {"Kick": (0, 0.4), "Snare": (336, 0.25), "OH": (864, -0.3)}  # samples later, and how loud
SNARE = slice(round(0.999 * RATE), round(1.24 * RATE))  # the second stroke, before any delay


class MicEngine(FakeEngine):
    """Finds the strokes that the microphones have."""

    def open(self, recording, progress):
        self.editor = editor_of(recording)
        return self.editor

    def doubts(self, recording):
        return recording.notes


@pytest.fixture
def microphones(write_wav):
    """Write three microphones of 24 bits, each later than the one before, and return their files."""
    return [
        write_wav(f"{name}.wav", strokes(1000 * delay / RATE, gain), RATE)
        for name, (delay, gain) in MICS.items()
    ]


def without_the_second(page):
    (gone,) = [stroke["id"] for stroke in page.session()["events"] if abs(stroke["onset_s"] - 1.0) < 0.01]
    return page.edit({"op": "delete", "id": gone})


def assert_is_without_the_second(paths, originals):
    """Each has silence where its microphone has the second stroke, and all else bit by bit."""
    for path, original, (delay, gain) in zip(paths, originals, MICS.values(), strict=True):
        after, before = (soundfile.read(p, dtype="float32")[0] for p in (path, original))
        at = slice(SNARE.start + delay, SNARE.stop)
        assert np.abs(before[at]).max() > 0.7 * abs(gain)
        assert np.abs(after[at]).max() < 2e-3 * abs(gain)
        untouched = np.r_[0 : SNARE.start - 2000, SNARE.stop + 4000 : len(before)]
        np.testing.assert_array_equal(after[untouched], before[untouched])


def test_microphones_are_one_document_and_each_gets_a_file(serve, microphones, tmp_path):
    page = serve(MicSource(microphones), MicEngine())
    session = page.session()
    assert (session["source"]["name"], session["source"]["microphones"]) == ("Kick and 2 more", 3)
    assert len(session["events"]) == 4
    source = page.samples(which="source")
    sounds = np.stack([soundfile.read(path, dtype="float32")[0] for path in microphones])
    gains = np.linalg.lstsq(sounds.T, source[0], rcond=None)[0]
    assert np.abs(gains) == pytest.approx([1.0] * 3, abs=1e-3)  # as loud as they are; turned where that adds
    assert np.abs(source - gains @ sounds).max() < 1e-5

    untouched = page.post("export", version=0, what="wav", path="mine.wav").json()
    assert untouched["files"] == ["Kick.wav", "Snare.wav", "OH.wav"]
    for original in microphones:
        out = tmp_path / "out" / "mine" / original.name
        np.testing.assert_array_equal(*(soundfile.read(p, dtype="int32")[0] for p in (original, out)))

    assert without_the_second(page).status_code == 200
    assert page.post("export", version=1, what="wav", path="mine.wav").status_code == 409
    edited = page.post("export", version=1, what="wav", path="without").json()
    assert edited["path"] == str(tmp_path / "out" / "without")
    assert_is_without_the_second([tmp_path / "out" / "without" / p.name for p in microphones], microphones)
    assert page.post("export", version=1, what="midi", path="mine.mid").status_code == 200


@pytest.mark.parametrize("what", ["stems", "kit", "session"])
def test_what_is_of_one_recording_is_refused_with_a_sentence(serve, microphones, what, tmp_path):
    page = serve(MicSource(microphones), MicEngine())
    refused = page.post("export", version=0, what=what, path="mine")
    assert refused.status_code == 400
    assert "is of one recording, not of several microphones" in refused.json()["error"]
    assert "one file does not hold the takes" in page.get("take.wav", version=0).json()["error"]
    assert not (tmp_path / "out").exists()


def test_a_microphone_that_changes_on_the_disk_is_named(serve, microphones):
    page = serve(MicSource(microphones), MicEngine())
    soundfile.write(microphones[1], np.zeros(RATE), RATE)
    assert page.session()["source_changed"]
    refused = page.post("export", version=0, what="wav", path="mine")
    assert "Snare.wav was changed" in refused.json()["error"]


@pytest.mark.parametrize("kind", ["reaper", "live", "action"])
def test_a_kit_of_a_project_is_edited_as_one_and_each_microphone_gets_a_take(
    worlds, microphones, tmp_path, serve, kind
):
    tracks = [worlds.track(path.stem, worlds.audio(path, BEGIN_S, 3.0)) for path in microphones]
    world = worlds(kind, [*tracks, worlds.track("bass")])
    one = world.session()
    connect = world.session if kind == "reaper" else lambda: one
    desk = Desk.of_selected("the DAW", lambda: nullcontext(connect()))
    page = serve(desk.store(tmp_path), MicEngine(), desk=desk)
    assert page.session()["downbeat_s"] == pytest.approx(2.0 - BEGIN_S)
    assert without_the_second(page).status_code == 200
    sent = page.post("send", version=1)
    assert sent.status_code == 200, sent.text
    assert_is_without_the_second(sent.json()["paths"], microphones)
    new = [found for found in world.tracks_after() if found["name"].endswith("redrum")]
    assert sorted(found["name"] for found in new) == ["Kick redrum", "OH redrum", "Snare redrum"]
    assert [item["position_s"] for found in new for item in found["items"]] == pytest.approx([BEGIN_S] * 3)
    assert world.is_untouched()


def test_a_take_of_microphones_that_cannot_be_sent_is_stored(worlds, microphones, tmp_path, serve):
    tracks = [worlds.track(path.stem, worlds.audio(path, BEGIN_S, 3.0)) for path in microphones]
    world = worlds("live", tracks)
    one = world.session()
    desk = Desk.of_selected("Live", lambda: nullcontext(one))
    (tmp_path / "item").mkdir()
    page = serve(desk.store(tmp_path / "item"), MicEngine(), desk=desk)
    world.process.kill()
    world.process.wait()
    world.is_spoilt = True
    refused = page.post("send", version=0).json()
    assert f"the takes are stored in {tmp_path / 'out'}" in refused["hint"]
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_the_command_opens_microphones_together(microphones, monkeypatch, tmp_path):
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("daw_bridge.editor.opening.PresetEngine", lambda load: MicEngine())
    opened = []

    def run(server, when_ready, when_used):
        when_ready()
        server._session.opened.result(10)
        opened.append((server._session.source.json(), server._session.source.n_samples))

    monkeypatch.setattr(PageServer, "run", run)
    files = [str(path) for path in microphones]
    result = CliRunner().invoke(app, ["edit", *files, "--together", "--offset", "OH=0.5", "--no-browser"])
    assert result.exit_code == 0, result.output
    ((source, n_samples),) = opened
    assert (source["microphones"], n_samples) == (3, round(3.5 * RATE))
    apart = CliRunner().invoke(app, ["edit", *files, "--no-browser"])
    assert apart.exit_code == 2
    assert "3 recordings are given" in apart.stderr
