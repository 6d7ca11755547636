"""The actions in REAPER, from the click to the take: the shipped Lua, in Lua 5.4, and the command it runs."""

import csv
import json
import os
import queue
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.editor.serving import BrowserPage
from daw_bridge.job_files import JobFiles
from daw_bridge.reaper import install as install_module
from daw_bridge.reaper.install import install
from daw_bridge.takes import Order, redrum_session
from tests.daw_bridge.editor import conftest as editor
from transform.engine import Redrummer
from transform.library import demo_recordings
from transform.settings import RenderSettings

RATE = 44_100
RHYTHM = "bossa-nova-132"
ANSWERS = [RHYTHM, "resequence", "source", "7", "auto", "one take", ""]
SELECTED = "Redrum selected item"
LAST = "Redrum selected item with last settings"
LANE = "Redrum selected item with MIDI lane on this track"
EDIT = "Redrum edit rhythm of selected item"
TRACKS = "Redrum all items of selected tracks"
CANCELLED = 130


@pytest.fixture
def loop(write_wav, clicks):
    return write_wav("sounds/loop ünï.wav", clicks([0.0, 0.5, 1.1], length_s=2.0))


@pytest.fixture
def reaper(worlds, tmp_path, monkeypatch, redrummer):
    """Return a function that starts REAPER with tracks in its project and the actions installed."""
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(psutil, "process_iter", lambda names: [])
    monkeypatch.setattr(Redrummer, "load", lambda preset, device: redrummer)

    def start(*tracks, **more):
        return User(worlds("action", list(tracks), **more))

    start.track, start.audio, start.midi = worlds.track, worlds.audio, worlds.midi
    return start


class User:
    """Somebody at REAPER, and the process that an action starts, which works when it is told to."""

    def __init__(self, world):
        self.world, self.lua = world, world.lua
        (world.resources / "reaper.ini").write_text("[reaper]\n")
        install(world.resources)

    def act(self, action, *answers):
        self.lua.answers += answers
        self.lua.act(self.world.resources / "Scripts" / "Redrum" / f"{action}.lua")

    def work(self):
        """Let the command that was started do its work; return its exit code."""
        words = self.lua.words()
        assert words[:4] == [sys.executable, "-P", "-m", "daw_bridge"]
        return CliRunner().invoke(app, words[4:], prog_name="redrum").exit_code

    def redrum(self, action, *answers):
        """Run an action to its end; return the exit code of its command."""
        self.act(action, *answers)
        code = self.work()
        self.lua.tick()
        return code

    def order(self):
        return json.loads(Path(self.lua.words()[-1]).read_text(encoding="utf-8"))["order"]

    def names(self):
        return [track["name"] for track in self.world.tracks_after()]

    def new_items(self):
        return [item for track in self.world.snapshot()["tracks"] if track["is_new"] for item in track["items"]]

    def assert_nothing_happened(self):
        assert self.world.tracks_after() == self.world.before
        assert self.world.reaper.undo == []
        assert not list(self.world.media_folder.iterdir())
        self.assert_tidy()

    def assert_tidy(self):
        self.lua.tick()
        assert self.lua.window is None
        assert self.lua.deferred == []
        jobs = self.world.resources / "Redrum" / "jobs"
        assert not jobs.exists() or not list(jobs.iterdir())


def attacks_s(path):
    sound, rate = soundfile.read(path, always_2d=True)
    loud = np.flatnonzero(np.abs(sound).max(axis=1) > 0.2)
    return loud[np.diff(loud, prepend=-(10**9)) > 0.03 * rate] / rate


# The way there


def test_the_first_run(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop, 1.5, 2.0)), reaper.track("bass"))
    user.act(SELECTED, ANSWERS)
    ((_, captions, offered),) = user.lua.asked
    assert offered == [
        "",
        RenderSettings().engine,
        "source",
        str(RenderSettings().seed),
        "auto",
        "one take",
        "",
    ]
    assert len(captions) == 7
    assert user.order() == {
        "rhythm": RHYTHM,
        "engine": "resequence",
        "length": "source",
        "seed": "7",
        "kit": "auto",
        "slices": "one take",
        "start_bar": "",
        "is_on_own_track": False,
    }
    assert user.lua.window == "Redrum"
    assert user.lua.drawn[0] == "Redrum is starting..."
    user.lua.tick(8)
    assert user.names() == ["drums", "bass"]  # REAPER goes on; nothing is there yet
    assert user.work() == 0
    user.lua.tick()
    assert user.names() == ["drums", "drums redrum", "bass"]
    (take,) = user.new_items()
    assert (take["position_s"], take["length_s"], take["is_looped"]) == (1.5, 2.0, False)
    assert take["name"] == "loop ünï-redrum"
    assert Path(take["file"]).parent == user.world.media_folder
    assert soundfile.info(take["file"]).frames == 2 * RATE
    assert user.world.is_untouched()
    assert user.world.reaper.undo == ["Redrum"]
    assert user.lua.said == []
    user.assert_tidy()


def test_answers_are_remembered(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    assert user.redrum(SELECTED, ANSWERS) == 0
    user.act(SELECTED, None)
    assert user.lua.asked[1][2] == ANSWERS
    assert user.redrum(LAST) == 0
    assert len(user.lua.asked) == 2  # no question
    assert user.names() == ["drums", "drums redrum", "drums redrum"]
    assert user.world.reaper.undo == ["Redrum", "Redrum"]
    one, other = (Path(item["file"]).read_bytes() for item in user.new_items())
    assert one == other


def test_what_the_midi_lane_does_not_ask_for_stays(reaper, loop):
    drums = reaper.track("drums", reaper.audio(loop), reaper.midi([(0.5, 36, 110, 9)], is_selected=False))
    user = reaper(drums)
    assert user.redrum(SELECTED, ["", "resequence", "1.5", "7", "together", "one take", "3"]) == 2  # no rhythm
    assert user.redrum(LANE, ["resequence", "source", "8", "apart", "per item"]) == 0
    user.act(LAST)
    assert len(user.lua.asked) == 2
    assert user.order() == {
        "rhythm": "",
        "engine": "resequence",
        "length": "source",
        "seed": "8",
        "kit": "apart",
        "slices": "per item",
        "start_bar": "3",
        "is_on_own_track": False,
    }


def test_a_command_that_is_stopped_from_outside_is_known(reaper, loop, monkeypatch):
    user = reaper(reaper.track("drums", reaper.audio(loop)))

    def stopped(preset, device):
        raise KeyboardInterrupt

    monkeypatch.setattr(Redrummer, "load", stopped)
    assert user.redrum(SELECTED, ANSWERS) == CANCELLED
    assert user.lua.said == ["The redrum command was stopped: nothing was written."]
    user.assert_nothing_happened()


def test_last_settings_are_asked_for_where_there_are_none(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    assert user.redrum(LAST, ANSWERS) == 0
    assert len(user.lua.asked) == 1
    assert user.names() == ["drums", "drums redrum"]


def test_without_an_answer_nothing_happens(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    user.act(SELECTED, None)
    assert user.lua.commands == []
    user.assert_nothing_happened()


def test_without_a_selection_it_is_said(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop, is_selected=False)))
    user.act(SELECTED)
    assert user.lua.said == ["Select a drum item first."]
    user.act(TRACKS)
    assert user.lua.said[1:] == ["Select tracks with drum items first."]
    user.assert_nothing_happened()


def test_progress_is_shown(reaper, loop, redrummer, monkeypatch):
    user = reaper(reaper.track("drums", reaper.audio(loop), reaper.audio(loop, 4.0)))
    user.act(SELECTED, ANSWERS)
    listen = redrummer.transcriber.activations

    def slowly(recording, **more):
        user.lua.tick()
        return listen(recording, **more)

    monkeypatch.setattr(redrummer.transcriber, "activations", slowly)
    assert user.work() == 0
    assert "Item 1 of 2: listening..." in user.lua.drawn
    assert "Item 2 of 2: listening..." in user.lua.drawn


def test_the_midi_on_the_own_track_is_the_rhythm(reaper, loop):
    beat = reaper.midi([(0.5, 36, 110, 9), (2.5, 36, 110, 9)], 1.0, 2.0, is_selected=False)
    other = reaper.midi([(1.0, 36, 110, 9)], 1.0, 2.0)
    drums = reaper.track("drums", reaper.audio(loop, 1.0, 2.0), beat)
    user = reaper(drums, reaper.track("midi", other), reaper.track("rhythm", other))
    assert user.redrum(LANE, ANSWERS[1:-1]) == 0
    assert len(user.lua.asked[0][1]) == 5  # of the rhythm nothing is asked
    (take,) = user.new_items()
    assert attacks_s(take["file"]) == pytest.approx([0.25, 1.25], abs=1e-3)


def test_no_midi_on_the_own_track_is_said(reaper, loop):
    midi = reaper.track("midi", reaper.midi([(1.0, 36, 110, 9)]))
    user = reaper(reaper.track("drums", reaper.audio(loop)), midi)
    assert user.redrum(LANE, ANSWERS[1:-1]) == 2
    assert user.lua.said[0].startswith("There is no MIDI item on drums.\nPut the rhythm as a MIDI item")
    user.assert_nothing_happened()


def test_all_items_of_selected_tracks(reaper, loop):
    quiet = {"is_selected": False}
    user = reaper(
        reaper.track("one", reaper.audio(loop, 0, **quiet), reaper.audio(loop, 3, **quiet), is_selected=True),
        reaper.track("two", reaper.audio(loop, 0)),
        reaper.track("three", reaper.audio(loop, 1, **quiet), is_selected=True),
    )
    assert user.redrum(TRACKS, ANSWERS) == 0
    assert user.names() == ["one", "one redrum", "two", "three", "three redrum"]
    assert [item["position_s"] for item in user.new_items()] == [0, 3, 1]
    assert user.world.reaper.undo == ["Redrum"]


def test_reapy_and_the_action_make_the_same_takes(reaper, worlds, loop, redrummer):
    tracks = [
        worlds.track(
            "drums",
            worlds.audio(loop, 0.5, 3.0, is_looped=True, start_offset_s=0.25),
            worlds.audio(loop, 4.0, 1.5, is_reversed=True, section=[0.25, 1.5]),
            worlds.audio(loop, 6.0, 1.5, play_rate=1.25, keeps_pitch=False),
            worlds.audio(loop, 8.0, 1.0, is_muted=True),
        ),
        worlds.track("top", worlds.audio(loop, 2.0, 2.0, channel_mode=2), color=0x1000000 | 255),
        worlds.track("rhythm", worlds.midi([(0, 36, 99, 9), (1.25, 38, 80, 9)], 0, 12.0, is_looped=True)),
    ]
    tempo = [(0.0, 120.0, False), (4.8, 90.0, True), (6.8, 150.0, False)]
    outside = worlds("reaper", tracks, points=tempo)
    order = Order(settings=RenderSettings(length="source", seed=3))
    redrum_session(outside.session(), redrummer, order)
    user = reaper(*tracks, points=tempo)
    assert user.redrum(SELECTED, ["", "resequence", "source", "3"]) == 0
    one, other = outside.tracks_after(), user.world.tracks_after()
    assert [track["name"] for track in one] == ["drums", "drums redrum", "top", "top redrum", "rhythm"]
    sounds = []
    for tracks_after in (one, other):
        files = [item.pop("file") for track in tracks_after for item in track["items"]]
        sounds.append([Path(file).read_bytes() for file in files if file])
    assert one == other
    assert sounds[0] == sounds[1]
    assert len(sounds[0]) == 4 + 2  # of a reversed source REAPER names no file; three items are one performance
    assert user.lua.said == [
        "4 of 5 items got a take.\n\nloop ünï.wav at 8.00 s on drums was left out: it is muted."
    ]


@pytest.mark.parametrize(("answer", "n_decisions"), [("auto", 1), ("apart", 3), ("Together", 1)])
def test_microphones_are_a_kit_as_the_user_answers(reaper, loop, redrummer, monkeypatch, answer, n_decisions):
    sources = []
    redrum = redrummer.redrum
    monkeypatch.setattr(
        redrummer, "redrum", lambda source, *a, **k: sources.append(source) or redrum(source, *a, **k)
    )
    tracks = [reaper.track("kit", folder_depth=1)]
    tracks += [
        reaper.track(name, reaper.audio(loop, 0.0, 2.0), folder_depth=-(name == "OH"))
        for name in ("kick", "snare", "OH")
    ]
    user = reaper(*tracks)
    assert user.redrum(SELECTED, [*ANSWERS[:4], answer, *ANSWERS[5:]]) == 0
    below = [name for mic in ("kick", "snare", "OH") for name in (mic, f"{mic} redrum")]
    assert user.names() == ["kit", *below]
    assert user.world.reaper.undo == ["Redrum"]
    assert len(user.new_items()) == 3
    assert len(sources) == n_decisions
    if answer == "auto":  # what Redrum decides is said
        (said,) = user.lua.said
        assert said.startswith("kick, snare and OH at 0.00 s are one kit.\n")
        assert (
            "3 microphones of one performance, as their tracks lie in the folder kit; the answer apart " in said
        )
    else:
        assert user.lua.said == []


def test_slices_and_the_start_bar_are_as_the_user_answers(reaper, loop, monkeypatch):
    orders = []
    monkeypatch.setattr(
        "daw_bridge.takes.redrum_session",
        lambda session, redrummer, order, **k: (
            orders.append(order) or redrum_session(session, redrummer, order, **k)
        ),
    )
    user = reaper(reaper.track("drums", reaper.audio(loop, 0.0, 2.0), reaper.audio(loop, 2.0, 2.0)))
    assert user.redrum(SELECTED, [*ANSWERS[:5], "Per item", "2"]) == 0
    takes = sorted(user.new_items(), key=lambda item: item["position_s"])
    assert [(take["position_s"], take["length_s"]) for take in takes] == [(0.0, 2.0), (2.0, 2.0)]
    assert user.redrum(SELECTED, ANSWERS) == 0
    assert [(order.per_item, order.start_bar) for order in orders] == [(True, 2), (False, None)]
    assert user.lua.said == []


def test_items_of_a_kit_that_fails_are_counted(reaper, loop, tmp_path):
    files = {"kick": loop, "snare": loop, "OH": tmp_path / "gone.wav"}
    user = reaper(
        *(
            reaper.track(name, reaper.audio(file, 0.0, 2.0), reaper.audio(loop, 6.0, 2.0))
            for name, file in files.items()
        )
    )
    assert user.redrum(SELECTED, ANSWERS) == 1
    assert user.lua.said[0].startswith("3 of 6 items got a take.")
    assert len(user.new_items()) == 3


# Unusual projects and items


def test_a_project_that_was_never_saved_asks_for_a_folder(reaper, loop, tmp_path):
    user = reaper(reaper.track("drums", reaper.audio(loop)), path="")
    folder = tmp_path / "my, täkes"
    assert user.redrum(SELECTED, [str(folder)], ANSWERS) == 0
    title, _, offered = user.lua.asked[0]
    assert "never been saved" in title
    assert offered == [str(user.world.media_folder)]
    (take,) = user.new_items()
    assert Path(take["file"]).parent == folder
    assert user.world.reaper.undo == ["Redrum"]


def test_a_project_that_was_never_saved_may_stay_as_it_is(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)), path="")
    user.act(SELECTED, None)
    user.act(SELECTED, [""])
    assert user.lua.commands == []
    user.assert_nothing_happened()


UNUSUAL = {
    "empty": ({"kind": "empty"}, "it holds no sound"),
    "muted": ({"is_muted": True}, "it is muted"),
    "offline": ({"file": "gone.wav"}, "its file gone.wav is missing.\nBring the file back"),
    "stretched": (
        {"markers": [(0.0, 0.0, 0.5)]},
        "it has stretch markers between which its speed glides, or on a section.\nGlue it",
    ),
}


@pytest.mark.parametrize("what", UNUSUAL)
def test_items_without_a_take_are_named(reaper, loop, what):
    change, sentence = UNUSUAL[what]
    user = reaper(reaper.track("drums", reaper.audio(loop, 4.0) | change))
    user.redrum(SELECTED, ANSWERS)
    (said,) = user.lua.said
    assert sentence in said
    user.assert_nothing_happened()


@pytest.mark.parametrize("what", UNUSUAL)
def test_the_others_get_theirs(reaper, loop, what):
    change, sentence = UNUSUAL[what]
    user = reaper(reaper.track("drums", reaper.audio(loop, 4.0) | change, reaper.audio(loop)))
    code = user.redrum(SELECTED, ANSWERS)
    assert code == (0 if what in ("empty", "muted") else 1)
    assert len(user.new_items()) == 1
    assert user.world.reaper.undo == ["Redrum"]
    (said,) = user.lua.said
    assert said.startswith("1 of 2 items got a take.\n\n")
    assert sentence in said
    user.assert_tidy()


@pytest.mark.parametrize(
    ("how", "expected_s"),
    [({"is_looped": True}, [0.5, 1.0, 1.75]), ({"is_reversed": True}, [0.5, 1.0, 1.75])],
    ids=["looped", "reversed"],
)
def test_items_are_heard_as_they_play(reaper, loop, how, expected_s):
    notes = [(beat, 36, 110, 9) for beat in (1, 2, 3.5)]
    drums = reaper.track("drums", reaper.audio(loop, 1.0, 3.0, **how))
    user = reaper(drums, reaper.track("midi", reaper.midi(notes, 1.0, 3.0)))
    assert user.redrum(SELECTED, ["", *ANSWERS[1:]]) == 0
    (take,) = user.new_items()
    assert attacks_s(take["file"]) == pytest.approx(expected_s, abs=1e-2)
    assert user.world.reaper.undo == ["Redrum"]


# What happens meanwhile


def test_a_track_is_deleted(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)), reaper.track("bass"))
    user.act(SELECTED, ANSWERS)
    assert user.work() == 0
    del user.world.reaper.projects[0]["tracks"][0]
    user.lua.tick()
    assert user.names() == ["bass", "drums redrum"]
    assert user.world.reaper.undo == ["Redrum"]


def test_an_editor_sends_takes_while_it_goes_on(reaper, tmp_path, monkeypatch):
    loop = tmp_path / "loop.wav"
    soundfile.write(loop, editor.clicks(editor.FOUND, 4 * editor.RATE).T, editor.RATE)
    user = reaper(reaper.track("drums", reaper.audio(loop, 1.0, 4.0)), reaper.track("bass"))
    monkeypatch.setattr("daw_bridge.editor.opening.PresetEngine", lambda load: editor.FakeEngine())
    pages, code = queue.SimpleQueue(), []
    monkeypatch.setattr(BrowserPage, "open", lambda page, fail: pages.put(page._url))
    user.act(EDIT)
    assert user.order() == {"edits": True}  # and no question
    working = threading.Thread(target=lambda: code.append(user.work()))
    working.start()
    base, _, token = pages.get(timeout=30).partition("/#token=")
    with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=30) as page:
        while page.get("/api/session").json()["state"] == "opening":
            time.sleep(0.05)
        assert page.get("/api/session").json()["host"] == "REAPER"
        for n_sent in (1, 2):
            with ThreadPoolExecutor() as pool:
                sent = pool.submit(page.post, "/api/send", json={})
                while not sent.done():
                    user.lua.tick()
                    time.sleep(0.05)  # a tick is longer to REAPER, and who is silent for a minute is lost
                assert sent.result().status_code == 200, sent.result().text
            assert user.world.reaper.undo == ["Redrum"] * n_sent
        assert user.names() == ["drums", "drums redrum", "drums redrum", "bass"]
        assert [item["position_s"] for item in user.new_items()] == [1.0, 1.0]
        press_escape(user.lua)  # ends it, and the takes stay
        user.lua.tick()
        working.join(10)
    assert code == [0]
    user.lua.tick(8)
    assert user.names() == ["drums", "drums redrum", "drums redrum", "bass"]
    user.assert_tidy()


def test_another_tab_comes_to_the_front(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    user.act(SELECTED, ANSWERS)
    assert user.work() == 0
    user.world.reaper.open_tab()
    user.lua.tick()
    assert user.names() == ["drums", "drums redrum"]
    assert user.world.snapshot()["tab"] == 1
    assert user.world.reaper.projects[1]["tracks"] == []
    assert user.world.reaper.undo == ["Redrum"]


def test_the_project_is_closed(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    user.act(SELECTED, ANSWERS)
    assert user.work() == 0
    user.world.reaper.close()
    user.lua.tick()
    assert user.lua.said == ["The project was closed in the meantime: nothing was written."]
    assert user.world.reaper.undo == []
    assert not list(user.world.media_folder.iterdir())
    user.assert_tidy()


def press_escape(lua):
    lua.keys.append(27)


def close_the_window(lua):
    lua.keys.append(-1)


def click_on_cancel(lua):
    lua.click = (380 - 14 - 40, 70)


@pytest.mark.parametrize("how", [press_escape, close_the_window, click_on_cancel])
def test_cancelled_in_the_middle(reaper, loop, redrummer, monkeypatch, how):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    user.act(SELECTED, ANSWERS)
    listen = redrummer.transcriber.activations

    def interrupted(recording, **more):
        how(user.lua)
        user.lua.tick()
        return listen(recording, **more)

    monkeypatch.setattr(redrummer.transcriber, "activations", interrupted)
    assert user.work() == CANCELLED
    assert user.lua.window is None
    user.lua.tick()
    assert user.lua.said == []
    user.assert_nothing_happened()


def test_cancelled_when_all_is_done(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    user.act(SELECTED, ANSWERS)
    assert user.work() == 0
    assert len(list(user.world.media_folder.iterdir())) == 1
    press_escape(user.lua)
    user.lua.tick(seconds=0.01)  # too early for a look at the result
    user.lua.tick()
    user.assert_nothing_happened()


def test_reaper_quits(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    user.act(SELECTED, ANSWERS)
    user.lua.quit()
    assert user.work() == CANCELLED
    assert user.world.reaper.undo == []
    assert not list(user.world.media_folder.iterdir())


def test_media_that_reaper_cannot_read_leave_nothing(reaper, loop, monkeypatch):
    user = reaper(reaper.track("drums", reaper.audio(loop), reaper.audio(loop, 4.0)))
    user.act(SELECTED, ANSWERS)
    assert user.work() == 0
    opened = user.world.reaper.PCM_Source_CreateFromFile
    monkeypatch.setattr(
        user.world.reaper,
        "PCM_Source_CreateFromFile",
        lambda file: 0 if file.endswith("-2.wav") else opened(file),
    )
    user.lua.tick()
    assert "REAPER cannot read" in user.lua.said[0]
    user.assert_nothing_happened()


# A command that is missing or fails


def test_a_command_that_nobody_noted(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    note = user.world.resources / "Redrum" / "command.json"
    noted = json.loads(note.read_text())
    for change, sentence in (
        ({"command": ["/gone/pythön"]}, "no longer at\n/gone/pythön"),
        ({"schema": 0}, "of another version"),
        (None, "does not know yet where the redrum command is"),
    ):
        if change is None:
            note.unlink()
        else:
            note.write_text(json.dumps(noted | change))
        user.act(SELECTED)
        assert sentence in user.lua.said[-1]
        assert "`redrum reaper install`" in user.lua.said[-1]
    assert user.lua.commands == []
    user.assert_nothing_happened()


def test_a_command_that_does_not_start(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    user.lua.starts_commands = False
    user.act(SELECTED, ANSWERS)
    user.lua.tick(50)
    (said,) = user.lua.said
    assert said.startswith("The redrum command does not start.")
    assert "redrum reaper doctor" in said
    assert user.lua.commands[0] in said
    user.assert_nothing_happened()


def test_a_command_that_starts_whatever_reaper_says(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    user.lua.starts_commands = False
    assert user.redrum(SELECTED, ANSWERS) == 0
    assert user.names() == ["drums", "drums redrum"]
    assert user.lua.said == []


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (["no-such-rhythm", "", "", "", ""], "no-such-rhythm"),
        ([RHYTHM, "loud", "", "", ""], "There is no engine 'loud'.\nEngines: resequence, latent."),
        ([RHYTHM, "", "long", "", ""], "The length is 'long'.\nAnswer source, rhythm, or seconds."),
        ([RHYTHM, "", "", "x", ""], "The seed is 'x'.\nAnswer a whole number, 0 or more."),
        ([RHYTHM, "", "", "", "both"], "The microphones are 'both'.\nAnswer auto, together, or apart."),
        ([RHYTHM, "", "", "", "", "two", ""], "The slices are 'two'.\nAnswer one take or per item."),
        ([RHYTHM, "", "", "", "", "", "2.5"], "The start bar is '2.5'.\nAnswer a whole number, or nothing."),
        (["", "", "", "", ""], "Nothing says which rhythm to play.\nName a rhythm"),
    ],
)
def test_an_answer_that_is_not_possible(reaper, loop, answers, sentence):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    assert user.redrum(SELECTED, answers) in (1, 2)
    assert sentence in user.lua.said[0]
    user.assert_nothing_happened()


def test_a_command_that_fails_in_its_own_way(reaper, loop, monkeypatch):
    def broken(preset, device):
        raise ZeroDivisionError("no weights")

    monkeypatch.setattr(Redrummer, "load", broken)
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    assert user.redrum(SELECTED, ANSWERS) == 1
    assert user.lua.said[0].startswith("No weights.\nThe log in ")
    user.assert_nothing_happened()


def test_what_reaper_does_not_take_leaves_folders_as_they_were(reaper, loop, monkeypatch):
    bus = reaper.track("bus", reaper.audio(loop), folder_depth=1)
    user = reaper(bus, reaper.track("drums", reaper.audio(loop), folder_depth=-1))
    before = user.world.snapshot()
    stand_in, n_items = user.world.reaper, []
    add = stand_in.AddMediaItemToTrack

    def fail_at_the_second(track):
        n_items.append(track)
        if len(n_items) == 2:
            raise MemoryError
        return add(track)

    monkeypatch.setattr(stand_in, "AddMediaItemToTrack", fail_at_the_second)
    monkeypatch.setattr(stand_in, "Undo_CanUndo2", lambda project: "")  # what is not undone
    user.redrum(SELECTED, ANSWERS)
    assert "REAPER did not take the takes" in user.lua.said[0]
    assert user.world.snapshot()["tracks"] == before["tracks"]


def test_a_job_that_says_nothing_is_lost(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    user.act(SELECTED, ANSWERS)
    files = JobFiles(Path(user.lua.words()[-1]))
    files.put(files.progress, {"beat": 1, "text": "rendering", "share": 0.5})
    user.lua.tick(200)
    user.lua.tick(seconds=3600)  # REAPER stood still, and the job with it
    assert user.lua.said == []
    user.lua.tick(50)
    (said,) = user.lua.said
    assert "stopped without an answer" in said
    assert "redrum reaper doctor" in said
    assert user.lua.deferred == []
    assert user.work() == CANCELLED  # it lives after all
    assert user.world.tracks_after() == user.world.before
    assert user.world.reaper.undo == []
    assert not list(user.world.media_folder.iterdir())


def test_a_job_that_never_began_is_lost(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    user.act(SELECTED, ANSWERS)
    user.lua.tick(250)
    assert user.lua.said[0].startswith("The redrum command does not start.")
    user.assert_nothing_happened()
    assert user.work() == 3  # it does, at last: its job is gone
    assert not list(user.world.media_folder.iterdir())


def test_a_job_that_is_slow_is_not_lost(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    user.act(SELECTED, ANSWERS)
    files = JobFiles(Path(user.lua.words()[-1]))
    for beat in range(5):
        files.put(files.progress, {"beat": beat, "text": "rendering", "share": 0.5})
        user.lua.tick(200)
    assert user.lua.said == []
    assert user.work() == 0
    user.lua.tick()
    assert user.names() == ["drums", "drums redrum"]


def test_what_jobs_left_behind_goes_after_a_day(reaper, loop):
    user = reaper(reaper.track("drums", reaper.audio(loop)))
    jobs = user.world.resources / "Redrum" / "jobs"
    jobs.mkdir()
    yesterday, now = int(time.time()) - 25 * 3600, int(time.time())
    for name in (
        f"{yesterday}-000001.json",
        f"{yesterday}-000001.result.json",
        f"{now}-000001.json",
        "mine.txt",
    ):
        (jobs / name).write_text("{}")
    assert user.redrum(SELECTED, ANSWERS) == 0
    assert sorted(path.name for path in jobs.iterdir()) == [f"{now}-000001.json", "mine.txt"]


def test_what_fails_in_reaper_is_taken_back(reaper, loop, monkeypatch):
    user = reaper(reaper.track("drums", reaper.audio(loop), reaper.audio(loop, 4.0)))
    user.act(SELECTED, ANSWERS)
    assert user.work() == 0
    added = user.world.reaper.AddTakeToMediaItem
    calls = []

    def fails(item):
        calls.append(item)
        if len(calls) == 2:
            raise RuntimeError("no more takes")
        return added(item)

    monkeypatch.setattr(user.world.reaper, "AddTakeToMediaItem", fails)
    user.lua.tick()
    assert "no more takes" in user.lua.said[0]
    assert "nothing was written" in user.lua.said[0]
    user.assert_nothing_happened()


# The stand-in, and what passes between the two languages


def test_the_stand_in_refuses_what_reaper_does_not_have(reaper):
    user = reaper(reaper.track("drums"))
    for code, refusal in (
        ("reaper.NoSuchFunction()", "NoSuchFunction"),
        ("reaper.CountTracks()", "takes 1 arguments, not 0"),
        ("reaper.EnumProjects(-1, '', 512)", "takes 1 arguments, not 3"),
        ("reaper.GetTrack(reaper.EnumProjects(-1), '0')", "for int"),
        ("reaper.CountTrackMediaItems((reaper.EnumProjects(-1)))", "for MediaTrack"),
        ("gfx.circle(1, 2, 3)", "circle"),
        ("x = 1", "Lua has no x"),
        ("return y", "Lua has no y"),
    ):
        with pytest.raises(Exception, match=refusal):
            user.lua.new_lua().execute(code.encode())
    user.lua.refused.clear()


def test_shapes_are_those_of_reaper(worlds):
    table = (Path(__file__).parents[1] / "reascript_shapes.csv").read_text(encoding="utf-8")
    rows = csv.DictReader(table.splitlines())
    shapes = {row["function"]: row for row in rows}
    lua = worlds("action", []).lua
    assert set(lua.signatures) == set(shapes)
    for name, signature in lua.signatures.items():
        result, _, arguments = signature.partition(":")
        assert len(arguments.split()) == int(shapes[name]["n_args"]), name
        returns = shapes[name]["returns"]
        if not returns.startswith("("):  # else it fills arguments, and Python returns them all
            is_pointer, is_text, is_none = (returns.startswith(kind) for kind in ("ptr:", "str", "None"))
            assert is_pointer == result.strip().endswith("*"), name
            assert is_none == (result.strip() == "None"), name
            assert is_text == (result.strip() == "text"), name
        else:
            assert "out_" in arguments, name


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, -2.5, 1e300, 0.1, 2**53, []], "b": {"c": True, "d": False}, "": "x"},
        'quotes " \\ / and \n\r\t\b\f\x01\x1f, ünï, 😀',
        [[], [[]], [{"deep": [1]}]],
    ],
)
def test_json_is_that_of_python(worlds, value):
    world = worlds("action", [])
    both = world.lua.run(world.actions / "redrum_json.lua")
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=2)):
        again = both[b"encode"](both[b"decode"](text.encode())).decode()
        assert json.loads(again) == value


@pytest.mark.parametrize("text", ["", "{", '{"a" 1}', "[1 2]", "nil", '"open', "1 2", "[1,2", '{"a":1,}x'])
def test_what_is_no_json_is_refused(worlds, text):
    world = worlds("action", [])
    decode = world.lua.run(world.actions / "redrum_json.lua")[b"decode"]
    with pytest.raises(Exception, match="no JSON"):
        decode(text.encode())


@pytest.mark.slow
def test_the_real_command_makes_a_take(reaper, monkeypatch):
    loop = demo_recordings()[0].path
    root = Path(install_module.__file__).resolve().parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("REDRUM_HELPER_MINUTES", "0.01")  # that it starts a helper is tested elsewhere
    user = reaper(reaper.track("drums", reaper.audio(loop, 0.5, 2.0)))
    started = []
    user.lua.launch = lambda words: started.append(subprocess.Popen(words, stderr=subprocess.DEVNULL))
    user.act(SELECTED, ANSWERS)
    while user.lua.window is not None:
        time.sleep(0.05)
        user.lua.tick(seconds=0.05)
    assert started[0].wait() == 0
    assert user.lua.said == []
    (take,) = user.new_items()
    assert soundfile.info(take["file"]).frames == 2 * RATE
    user.assert_tidy()
