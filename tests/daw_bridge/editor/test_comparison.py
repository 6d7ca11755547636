"""Versions side by side: each sounds as it was, at equal levels of its strokes."""

import numpy as np
import pytest

from daw_bridge.editor.comparison import matched_gains_db, stroke_levels_db
from tests.daw_bridge.editor.conftest import LENGTH_S, RATE
from tests.daw_bridge.editor.test_server import until
from transform.audio import Recording
from transform.strokes import Stroke

MORE_HATS = [
    {"op": "add", "id": f"h{i}", "class": "HH", "onset_s": 0.125 + i / 4, "velocity": 0.4} for i in range(15)
]


@pytest.fixture
def page(serve, loop):
    return serve(loop(n_channels=2))


def compare(page, slot, do="store"):
    return page.post("compare", version=page.session()["version"], slot=slot, do=do)


def test_a_stored_version_sounds_as_it_was_and_can_be_gone_on_from(page):
    stream, notices = page.listen()
    page.edit({"op": "delete", "id": "d2"}, {"op": "set", "id": "d0", "velocity": 0.4})
    assert compare(page, "A").json()["compared"]["A"]["version"] == 1
    assert until(notices, "compared")["compared"]["A"]["n_samples"] == round(LENGTH_S * RATE)
    stream.__exit__(None, None, None)
    first = page.samples(which="take", version=1)
    page.post("settings", version=1, mode="replay", sound={"balance": 0.5})
    page.edit({"op": "add", "id": "new", "class": "TT", "onset_s": 1.6})
    second = page.samples(which="take", version=3)
    compare(page, "B")
    assert not np.array_equal(first, second)
    for slot, version, expected in (("A", 1, first), ("B", 3, second)):
        assert np.array_equal(page.samples(which=slot, version=version), expected)
        block = page.samples(which=slot, version=version, start=7990, stop=8300)
        assert np.array_equal(block, expected[:, 7990:8300])
    assert set(page.session()["compared"]) == {"A", "B"}
    step = compare(page, "A", "restore").json()
    assert step["version"] == 4
    session = page.session()
    assert (session["mode"], session["sound"]["balance"]) == ("edit", 1.0)
    assert [event["id"] for event in session["events"]] == ["d0", "d1", "d3", "d4"]
    assert np.array_equal(page.samples(which="take", version=4), first)
    page.post("undo", version=4)
    assert np.array_equal(page.samples(which="take", version=5), second)
    assert compare(page, "A", "clear").json()["compared"].keys() == {"B"}
    assert page.get("audio", which="A", version=1).status_code == 400
    assert page.get("audio", which="B", version=1).status_code == 409
    assert compare(page, "C", "restore").json()["hint"] == "store one there first"


def test_versions_are_matched_by_the_levels_of_their_strokes(page):
    compare(page, "A")
    page.post("settings", version=0, mode="replay", sound={"balance": 0.5})  # the stand-in's level
    softer = compare(page, "B").json()["compared"]
    assert softer["B"]["gain_db"] == 0
    assert softer["A"]["gain_db"] == pytest.approx(-6.02, abs=0.1)
    page.edit(*MORE_HATS)
    busier = compare(page, "C").json()["compared"]  # four times the strokes, each as loud: the same level
    assert busier["C"]["gain_db"] == pytest.approx(0, abs=0.5)
    assert busier["A"]["gain_db"] == pytest.approx(-6.02, abs=0.5)
    cleared = compare(page, "B", "clear").json()["compared"]
    assert max(found["gain_db"] for found in cleared.values()) == 0


def test_levels_are_those_of_strokes_not_of_the_whole():
    hit = np.sin(2 * np.pi * 100 * np.arange(2000) / 44_100) * np.exp(-np.arange(2000) / 500)
    sound = np.zeros((1, 44_100), dtype=np.float32)
    for at, level in ((0, 0.5), (22_050, 0.25)):
        sound[0, at : at + 2000] += (level * hit).astype(np.float32)
    recording = Recording.from_samples(sound, 44_100)
    strong, weak = (stroke_levels_db(recording, [Stroke("a", "KD", t, 1.0)])["KD"] for t in (0.0, 0.5))
    assert strong - weak == pytest.approx(6.02, abs=0.2)
    assert stroke_levels_db(recording, ()) == {}


@pytest.mark.parametrize(
    ("levels_db", "gains_db"),
    [
        ({"A": {"KD": -10.0}, "B": {"KD": -16.0}}, {"A": -6.0, "B": 0.0}),
        ({"A": {"KD": -10.0, "SD": -30.0}, "B": {"KD": -12.0}}, {"A": -2.0, "B": 0.0}),  # by the kick alone
        ({"A": {"KD": -10.0}, "B": {"SD": -14.0}}, {"A": -4.0, "B": 0.0}),
        (  # a drum that is turned down turns no other
            {"A": {"KD": -10.0, "SD": -10.0, "HH": -10.0}, "B": {"KD": -10.0, "SD": -10.0, "HH": -34.0}},
            {"A": 0.0, "B": 0.0},
        ),
        ({"A": {"KD": -10.0}, "B": {}}, {"A": 0.0, "B": 0.0}),
        ({}, {}),
    ],
)
def test_the_softest_version_stays_as_it_is(levels_db, gains_db):
    assert matched_gains_db(levels_db) == gains_db
