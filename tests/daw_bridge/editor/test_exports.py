import json
import os

import numpy as np
import pytest
import soundfile

from daw_bridge.editor.document import Grid
from daw_bridge.editor.source import first_grid
from tests.daw_bridge.editor.conftest import FOUND, LENGTH_S, RATE, FakeEdited
from transform.audio import Recording
from transform.errors import OutputError
from transform.library import find_rhythm
from transform.midi import read_midi, write_midi
from transform.one_shots import load_kit
from transform.session_file import read_session
from transform.strokes import Stroke


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def page(serve, loop, monkeypatch, tmp_path):
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    return serve(loop(n_channels=2))


def export(page, what, path, **more):
    return page.post("export", version=page.session()["version"], what=what, path=path, **more)


def test_wav_holds_what_plays_in_the_form_of_the_source(page, out):
    page.edit({"op": "delete", "id": "d2"})
    answer = export(page, "wav", "takes/new.wav")
    assert answer.status_code == 200, answer.text
    report = answer.json()
    assert (report["path"], report["bit_depth"], report["duration_s"]) == (
        str(out / "takes/new.wav"),
        "16",
        LENGTH_S,
    )
    info = soundfile.info(out / "takes" / "new.wav")
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (RATE, 2, "PCM_16", RATE * LENGTH_S)
    samples, _ = soundfile.read(out / "takes" / "new.wav", dtype="float32", always_2d=True)
    monitored = page.samples(which="take", version=1)
    assert np.abs(samples.T - monitored).max() <= 2**-15
    assert report["notes"] == []
    assert [p.name for p in out.iterdir()] == ["takes"]  # nothing unfinished is left


def test_a_sound_that_cannot_be_written_to_its_end_is_named_as_requested(page, out, monkeypatch):
    def full(edited, path, *, progress):
        raise OutputError(f"{path} could not be written to its end", hint="make room")

    monkeypatch.setattr(FakeEdited, "write", full)
    answer = export(page, "wav", "takes/new.wav")
    assert (answer.status_code, answer.json()["error"]) == (
        422,
        f"{out / 'takes/new.wav'} could not be written to its end",
    )


@pytest.mark.parametrize("mode", ["edit", "replay"])
def test_stems_are_a_file_a_lane_that_add_up_to_what_plays(page, out, mode):
    page.post("settings", version=0, mode=mode, lanes={"HH": {"muted": True}})
    page.edit({"op": "add", "id": "new", "class": "TT", "onset_s": 1.6})
    report = export(page, "stems", "takes/stems").json()
    assert report["path"] == str(out / "takes" / "stems")
    assert report["files"] == [f"stems_{c}.wav" for c in ("KD", "SD", "TT", "HH", "CY")]
    assert bool(report["notes"]) == (mode == "replay" or any(report["notes"]))
    export(page, "wav", "whole.wav")
    whole, _ = soundfile.read(out / "whole.wav", dtype="int16", always_2d=True)
    stems = {}
    for name in report["files"]:
        assert soundfile.info(out / "takes" / "stems" / name).subtype == "PCM_16"
        stems[name[6:8]], _ = soundfile.read(out / "takes" / "stems" / name, dtype="int16", always_2d=True)
    assert np.array_equal(sum(stems.values()), whole)
    sounds = {
        c: [bool(np.abs(s[round(t * RATE) :][:200]).max() > 99) for t in (0, 0.5, 1, 1.6)]
        for c, s in stems.items()
    }
    assert sounds == {
        "KD": [True, False, False, False],
        "SD": [False, False, True, False],
        "TT": [False, False, False, True],
        "HH": [False] * 4,
        "CY": [False] * 4,
    }
    assert export(page, "stems", "takes/stems").status_code == 409
    assert export(page, "stems", "takes/stems", overwrite=True).status_code == 200
    page.post("settings", version=2, mode="replay", sound={"engine": "latent"})
    refused = export(page, "stems", "more")
    assert "one sound" in refused.json()["error"]
    assert not (out / "more").exists()


def test_what_exists_is_replaced_only_where_that_is_requested(page, out):
    out.mkdir()
    (out / "mine.wav").write_text("mine")
    for what, name in (("wav", "mine.wav"), ("midi", "mine.mid"), ("session", "mine.json"), ("kit", "mine")):
        if what == "kit":
            (out / name).mkdir()
            (out / name / "thesis.txt").write_text("mine")
        else:
            (out / name).write_text("mine")
        answer = export(page, what, name)
        assert answer.status_code == 409, what
        assert "exists already" in answer.json()["error"]
    assert (out / "mine.wav").read_text() == "mine"
    assert export(page, "wav", "mine.wav", overwrite=True).status_code == 200
    assert soundfile.info(out / "mine.wav").frames == RATE * LENGTH_S
    # A folder that is no kit is never replaced.
    assert export(page, "kit", "mine", overwrite=True).status_code == 422
    assert (out / "mine" / "thesis.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../up.wav",
        "/abs.wav",
        "a//b.wav",
        "a/../b.wav",
        ".hidden.wav",
        "a\0.wav",
        "x" * 300 + ".wav",
        "CON.wav",
        "aux.wav",
        "nul/a.wav",
        "Com1.take.wav",
        "a\u202egnp.wav",
        "a\u2066b.wav",
        "a\nb.wav",
        "a\x1b[2J.wav",
        "a\x7f.wav",
        "takes./a.wav",
        "takes /a.wav",
        "a:b.wav",
        "a\\b.wav",
        "a?.wav",
    ],
)
def test_a_path_that_leads_elsewhere_or_that_not_all_systems_have_is_refused(page, tmp_path, name):
    before = sorted(tmp_path.rglob("*"))
    for what in ("wav", "kit"):
        answer = export(page, what, name)
        assert answer.status_code == 400
        assert (answer.json()["hint"] or "add .wav") == "give a name such as take.wav"
        assert answer.json()["error"].isprintable()
    assert export(page, "kit", "kit.").status_code == 400
    assert export(page, "kit", "NUL").status_code == 400
    assert sorted(p for p in tmp_path.rglob("*") if p.name != "out") == before


def test_a_name_without_an_ending_gets_its_own(page, out):
    for what, written in (("wav", "a.wav"), ("midi", "a.mid"), ("session", "a.json")):
        assert export(page, what, "a").json()["path"] == str(out / written)


def test_a_path_of_another_ending_is_refused(page):
    for what, name in (("wav", "a.mp3"), ("midi", "a.wav"), ("session", "a.exe")):
        assert export(page, what, name).status_code == 400, what


@pytest.mark.parametrize("what", ["wav", "midi", "kit", "session"])
def test_links_are_not_followed(page, out, tmp_path, what):
    ending = {"wav": ".wav", "midi": ".mid", "session": ".json", "kit": ""}[what]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / f"target{ending}").write_text("mine")
    out.mkdir()
    (out / "way").symlink_to(tmp_path / "elsewhere")
    (out / f"last{ending}").symlink_to(tmp_path / f"target{ending}")
    for name in (f"way/x{ending}", f"last{ending}"):
        assert export(page, what, name, overwrite=True).status_code == 422
    assert (tmp_path / f"target{ending}").read_text() == "mine"
    assert not list((tmp_path / "elsewhere").iterdir())


def test_an_output_folder_that_is_a_link_is_not_used(page, out, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    out.symlink_to(tmp_path / "elsewhere")
    assert export(page, "wav", "a.wav").status_code == 422
    assert not list((tmp_path / "elsewhere").iterdir())


def test_the_recording_itself_is_never_replaced(page, out, tmp_path):
    out.mkdir()
    os.link(tmp_path / "loop.wav", out / "loop.wav")
    before = (tmp_path / "loop.wav").read_bytes()
    answer = export(page, "wav", "loop.wav", overwrite=True)
    assert answer.status_code == 409
    assert (tmp_path / "loop.wav").read_bytes() == before


def test_midi_has_the_strokes_the_tempo_and_the_time_of_the_result(page, out):
    page.post(
        "document", version=0, grid={"tempo": [[0, 100], [4, 120]], "beats_per_bar": 3, "downbeat_s": 0.5}
    )
    export(page, "midi", "a.mid")
    rhythm = read_midi(out / "a.mid")
    assert [(e.drum_class, e.articulation) for e in rhythm.events][:3] == [
        ("KD", ""),
        ("HH", "closed"),
        ("SD", ""),
    ]
    assert [e.onset_s for e in rhythm.events] == pytest.approx([s.onset_s for s in FOUND], abs=1e-3)
    assert rhythm.beats_per_bar == 3
    # The tempo changes 4 beats after the downbeat: at 0.5 s + 2.4 s.
    assert rhythm.tempo_map.seconds_at(rhythm.tempo_map.changes[1][0]) == pytest.approx(2.9, abs=1e-3)


def test_a_rhythm_begins_with_the_downbeat_and_is_never_replaced(page):
    page.post("document", version=0, grid={"tempo": [[0, 120]], "downbeat_s": 1.0})
    answer = export(page, "rhythm", "my-groove")
    assert (answer.json()["bpm"], answer.json()["beats"]) == (120, 8)
    rhythm = read_midi(find_rhythm("my-groove").path)
    placed = [(event.drum_class, round(event.onset_s, 2)) for event in rhythm.events]
    assert placed == [("SD", 0.0), ("KD", 1.0), ("SD", 2.0), ("KD", 3.0), ("HH", 3.5)]
    assert export(page, "rhythm", "my-groove", overwrite=True).status_code == 409
    assert export(page, "rhythm", "hip-hop-bounce-140").status_code == 409
    assert export(page, "rhythm", "../evil").status_code == 400


def test_a_session_file_holds_what_plays_and_is_refused_for_another_source(page, out, loop):
    page.edit({"op": "move", "id": "d2", "onset_s": 1.5}, {"op": "relabel", "id": "d3", "class": "TT"})
    page.post("settings", version=1, sensitivity={"HH": -0.5})
    answer = export(page, "session", "a.json")
    assert answer.status_code == 200, answer.text
    session = read_session(out / "a.json")
    events = page.session()["events"]
    assert [s.id for s in session.played] == [event["id"] for event in events]
    assert Stroke("d2", "SD", 1.5, 0.9) in session.played
    assert Stroke("d3", "TT", 2.0, 0.7) in session.detected
    assert session.settings.sensitivity == {"HH": -0.5}
    assert (session.mode, session.tempo) == ("edit", ((0.0, page.session()["tempo"]),))
    assert json.loads((out / "a.json").read_text())["source"]["sha256"] == page.session()["source"]["sha256"]


def test_bar_lines_that_were_dragged_are_in_the_session_file_and_its_midi(page, out):
    grid = {"tempo": [[0, 100], [4, 120]], "beats_per_bar": 3, "downbeat_s": 0.5}
    page.post("document", version=0, grid=grid)
    export(page, "session", "a.json")
    export(page, "midi", "a.mid")
    session = read_session(out / "a.json")
    assert (session.tempo, session.downbeat_s, session.beats_per_bar) == (
        ((0.0, 100.0), (4.0, 120.0)),
        0.5,
        3.0,
    )
    assert write_midi(session.played_rhythm()) == (out / "a.mid").read_bytes()


def test_a_kit_is_cut_where_strokes_are_detected_now(page, out):
    page.edit({"op": "relabel", "id": "d1", "class": "CY"})
    answer = export(page, "kit", "kits/mine")
    assert answer.status_code == 200, answer.text
    bank = load_kit(out / "kits" / "mine")
    assert bank.classes == {"KD", "SD", "CY"}
    assert (out / "kits" / "mine" / "loop.sfz").exists()
    assert export(page, "kit", "kits/mine").status_code == 409
    assert export(page, "kit", "kits/mine", overwrite=True).status_code == 200


def test_an_outdated_export_is_refused(page, out):
    page.edit({"op": "delete", "id": "d2"})
    assert page.post("export", version=0, what="midi", path="a.mid").status_code == 409
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "length_s", "onsets", "grid"),
    [
        ("loop-120bpm", 4.0, [("SD", 0.1)], Grid(((0.0, 120.0),))),
        ("loop-120bpm", 4.3, [("SD", 0.1), ("KD", 0.6)], Grid(((0.0, 120.0),), downbeat_s=0.6)),
        ("loop-120bpm", 4.3, [("SD", 0.1)], Grid(((0.0, 120.0),), downbeat_s=0.1)),
        ("loop", 4.0, [], Grid()),
        ("loop", 8.0, [("KD", i * 0.6) for i in range(12)], Grid(((0.0, 100.0),))),
    ],
)
def test_the_first_grid_is_at_the_stated_or_the_estimated_tempo(name, length_s, onsets, grid):
    recording = Recording.from_samples(np.zeros(round(length_s * RATE)), RATE, name)
    strokes = tuple(Stroke(f"d{i}", c, s, 0.8) for i, (c, s) in enumerate(onsets))
    found = first_grid(recording, strokes)
    assert found.tempo[0][1] == pytest.approx(grid.tempo[0][1], rel=0.01)
    assert found.downbeat_s == grid.downbeat_s
