"""How the recording's drums play: chosen on the page, in the document, obeyed by all that sounds."""

import json

import numpy as np
import pytest

from daw_bridge.editor.document import Document
from daw_bridge.editor.take_settings import NAMES, render_settings
from tests.daw_bridge.editor.conftest import FOUND, LENGTH_S, RATE, clicks
from transform.session_file import read_session

N_SAMPLES = round(LENGTH_S * RATE)
HALF = {"balance": 0.5, "tail": "ring", "missing": "borrow", "variation": 2.0, "seed": 7}


@pytest.fixture
def page(serve, loop, monkeypatch, tmp_path):
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    return serve(loop())


def change(page, **sound):
    return page.post("settings", version=page.session()["version"], sound=sound)


def test_what_is_chosen_plays_in_a_replay_and_is_exported_undone_and_there_after_a_kill(
    page, serve, loop, tmp_path
):
    assert page.session()["sound"] == {
        "engine": "resequence",
        "balance": 1.0,
        "tail": "cut",
        "missing": "nearest",
        "variation": 0.0,
        "seed": 0,
        "kit_from": [],
    }
    page.post("settings", version=0, mode="replay")
    answer = change(page, **HALF)
    assert answer.json()["changes"]["sound"] == page.session()["sound"]
    assert page.session()["sound"] == {"engine": "resequence", "kit_from": [], **HALF}
    played = page.samples(which="take", version=2)
    assert np.abs(played - 0.5 * clicks(FOUND, N_SAMPLES)).max() < 1e-4  # the stand-in's balance is its level
    for what, name in (("session", "a.json"), ("wav", "a.wav")):
        assert page.post("export", version=2, what=what, path=name).status_code == 200
    settings = read_session(tmp_path / "out" / "a.json").settings
    assert (settings.balance, settings.tail, settings.missing, settings.seed) == (0.5, "ring", "borrow", 7)
    page.post("undo", version=2)
    assert page.session()["sound"]["balance"] == 1.0
    assert np.abs(page.samples(which="take", version=3) - clicks(FOUND, N_SAMPLES)).max() < 1e-4
    page.post("redo", version=3)
    page.session_object.steps._journal.close()  # what a kill does
    assert serve(loop()).session()["sound"] == page.session()["sound"]


@pytest.mark.parametrize(
    "sound",
    [
        {"engine": "drummer"},
        {"balance": 1.5},
        {"balance": True},
        {"variation": -1},
        {"tail": ["cut"]},
        {"missing": None},
        {"seed": 1.5},
        {"louder": 1},
        {"kit_from": ["/etc/passwd"]},
        [],
    ],
)
def test_what_no_take_can_be_is_refused(page, sound):
    answer = page.post("settings", version=0, sound=sound)
    assert answer.status_code == 400
    assert page.session()["version"] == 0


def test_what_one_engine_knows_stays_chosen_while_the_other_plays(document):
    chosen = {**HALF, "engine": "latent", "kit_from": ("/more.wav",)}
    replay = Document(source_s=1.0, length_s=1.0, mode="replay", sound=chosen)
    settings = render_settings(replay)
    assert (settings.engine, settings.variation) == ("latent", 2.0)
    assert (settings.missing, settings.kit_from) == ("nearest", ())
    for other in (
        Document(source_s=1.0, length_s=1.0, mode="edit", sound=chosen),  # whatever replays are played by
        Document(source_s=1.0, length_s=1.0, mode="replay", sound={**chosen, "engine": "resequence"}),
    ):
        settings = render_settings(other)
        assert (settings.engine, settings.variation) == ("resequence", 0.0)
        assert (settings.missing, settings.kit_from) == ("borrow", ("/more.wav",))
    assert set(chosen) == set(NAMES)


def add(page, path):
    version = page.session()["version"]
    return page.http.post(f"/api/kit?version={version}&name={path.name}", content=path.read_bytes())


def test_hits_of_another_recording_join_the_kit_and_leave_it(page, loop, tmp_path):
    more = loop("more.wav", found=FOUND[:2])
    answer = add(page, more)
    assert answer.status_code == 200, answer.text
    (stored,) = page.session()["sound"]["kit_from"]
    assert stored.startswith(str(tmp_path / "data"))
    assert stored.endswith("more.wav")
    more.unlink()  # a page sends bytes, and where they were from does not matter
    assert page.session_object._renderer._version(1).edited.settings.kit_from == (stored,)
    again = loop("renamed.wav", found=FOUND[:3])
    assert add(page, again).status_code == 200
    assert len(page.session()["sound"]["kit_from"]) == 2
    assert add(page, again).json()["error"] == "this recording is in the kit already"
    page.post("settings", version=2, sound={"kit_from": [stored]})
    assert page.session()["sound"]["kit_from"] == [stored]
    page.post("undo", version=3)
    page.post("undo", version=4)
    assert page.session()["sound"]["kit_from"] == [stored]
    answer = page.post("export", version=5, what="session", path="a.json").json()
    assert "without those that joined the kit" in answer["notes"][0]
    assert "kit_from" not in json.loads((tmp_path / "out" / "a.json").read_text())["settings"]


def test_what_has_no_hits_for_the_kit_is_refused_with_a_sentence(page, loop, tmp_path):
    page.edit({"op": "delete", "id": "d2"})
    empty = tmp_path / "empty.wav"
    empty.write_bytes(b"")
    for path, error in (
        (loop(), "this is the recording itself"),
        (loop("noise.wav", found=FOUND[:1]), "no drum hits are detected in it"),
        (empty, "empty.wav is empty"),
    ):
        answer = add(page, path)
        assert (answer.status_code in (400, 422), answer.json()["error"]) == (True, error)
        assert answer.json()["hint"]
    assert (page.session()["version"], page.session()["sound"]["kit_from"]) == (1, [])
