"""From an item of a project to the editor and back: stand-ins for the running DAWs, strokes that are clicks."""

from contextlib import nullcontext

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.editor.desk import Desk
from daw_bridge.editor.serving import PageServer
from tests.daw_bridge.editor.conftest import FOUND, RATE, FakeEngine
from transform.errors import DawError

BEGIN_S = 3.0  # of the item: at 120 BPM, in the second half of the second bar


@pytest.fixture
def opened(worlds, loop, tmp_path, serve):
    """Return a function that opens the editor of the item in a world of a kind, and its page."""

    def open_one(kind):
        world = worlds(kind, [worlds.track("drums", worlds.audio(loop(), BEGIN_S, 4.0)), worlds.track("bass")])
        one = world.session()  # what is written back to the others is what was collected from them
        connect = world.session if kind == "reaper" else lambda: one
        desk = Desk.of_selected("the DAW", lambda: nullcontext(connect()))
        folder = tmp_path / "item"
        folder.mkdir()
        return world, serve(desk.store(folder), desk=desk)

    return open_one


@pytest.mark.parametrize("kind", ["reaper", "live", "action"])
def test_an_item_is_edited_at_the_projects_bars_and_each_take_goes_on_a_track_of_its_own(opened, kind):
    world, page = opened(kind)
    session = page.session()
    assert (session["host"], session["tempo"], session["metre"]) == ("the DAW", 120, 4)
    assert session["downbeat_s"] == pytest.approx(2.0 - BEGIN_S)  # the bar that the item begins in
    page.edit({"op": "delete", "id": "d2"})
    sent = page.post("send", version=1)
    assert sent.status_code == 200, sent.text
    sound, rate = soundfile.read(sent.json()["path"], dtype="float32")
    assert rate == RATE
    assert np.abs(sound - page.samples(which="take", version=1)[0]).max() < 1e-4
    assert np.abs(sound[RATE : RATE + 400]).max() < 1e-3  # the snare is gone
    page.edit({"op": "delete", "id": "d4"})
    assert page.post("send", version=2).status_code == 200  # the page stays open for more
    tracks = world.tracks_after()
    assert sorted(track["name"] for track in tracks) == ["bass", "drums", "drums redrum", "drums redrum"]
    new = [track for track in tracks if track["name"] == "drums redrum"]
    assert [item["position_s"] for track in new for item in track["items"]] == pytest.approx([BEGIN_S] * 2)
    assert world.is_untouched()


@pytest.mark.parametrize("kind", ["reaper", "live"])
def test_what_cannot_be_sent_is_a_sentence_and_the_take_is_stored(opened, tmp_path, kind):
    world, page = opened(kind)
    page.edit({"op": "delete", "id": "d2"})
    world.process.kill()
    world.process.wait()
    refused = page.post("send", version=1)
    assert refused.status_code == 422
    assert refused.json()["error"]
    stored = tmp_path / "out" / f"{page.session()['source']['name']}-redrum.wav"
    assert f"the take is stored as {stored}" in refused.json()["hint"]
    assert len(soundfile.read(stored)[0]) == 4 * RATE
    assert page.session()["version"] == 1
    world.is_spoilt = True


def test_a_closed_project_takes_nothing_and_another_in_front_takes_nothing_either(opened, tmp_path):
    world, page = opened("reaper")
    world.control("new-tab")
    assert page.post("send", version=0).status_code == 200
    assert "drums redrum" in [track["name"] for track in world.tracks_after()]
    world.control("close")
    refused = page.post("send", version=0).json()
    assert "was closed in the meantime" in refused["error"]
    assert list((tmp_path / "out").iterdir())


def test_a_track_that_is_deleted_takes_its_take_below_all(opened):
    world, page = opened("reaper")
    world.control("delete-track/0")
    assert page.post("send", version=0).status_code == 200
    assert [track["name"] for track in world.tracks_after()] == ["bass", "drums redrum"]


@pytest.mark.parametrize(("kind", "host"), [("reaper", "REAPER"), ("live", "Live")])
def test_the_command_opens_the_item_that_is_selected(worlds, loop, monkeypatch, tmp_path, kind, host):
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr("daw_bridge.editor.opening.PresetEngine", lambda load: FakeEngine())
    opened = []

    def run(server, when_ready, when_used):
        when_ready()
        server._session.opened.result(10)
        opened.append((server._session.steps.document(0), server._server._exports.desk.host))

    monkeypatch.setattr(PageServer, "run", run)
    monkeypatch.setattr("webbrowser.open", lambda address: True)
    worlds(kind, [worlds.track("drums", worlds.audio(loop(), BEGIN_S, 4.0, is_detail=True))], bpm=120.0)
    scope = ["--loop"] if kind == "live" else []
    result = CliRunner().invoke(app, [kind, "selected", "--edit", *scope], prog_name="redrum")
    assert result.exit_code == 0, result.output
    assert f"loop.wav of {host} is open at http://127.0.0.1:" in result.stdout
    ((document, name),) = opened
    assert name == host
    assert [stroke.id for stroke in document.strokes.played] == [stroke.id for stroke in FOUND]


def test_without_one_selected_item_there_is_a_sentence(worlds, loop):
    path = loop()
    both = worlds("reaper", [worlds.track("drums", worlds.audio(path), worlds.audio(path, 5.0))])
    with pytest.raises(DawError, match="2 audio items are selected"):
        Desk.of_selected("REAPER", lambda: nullcontext(both.session()))


def test_a_recording_from_a_file_is_sent_nowhere(serve, loop):
    page = serve(loop())
    assert page.session()["host"] is None
    assert "not opened from a DAW" in page.post("send", version=0).json()["error"]
    assert len(page.session()["events"]) == len(FOUND)
