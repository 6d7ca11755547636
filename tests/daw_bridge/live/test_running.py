"""A running Live: the shipped Remote Script on a stand-in for Live in one process, the adapter in another."""

import contextlib
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from daw_bridge.connection import Connection
from daw_bridge.live import running as ableton
from daw_bridge.live.redrum_live.endpoint import read_endpoint, write_endpoint
from daw_bridge.live.redrum_live.handshake import SCHEMA, new_token
from daw_bridge.live.redrum_live.server import MESSAGE_BYTES, live_endpoint_path
from daw_bridge.live.running import (
    EndpointUnsafe,
    LiveFailed,
    LiveLost,
    LiveNotRunning,
    LiveSession,
    ScriptNotChosen,
    ScriptOutdated,
    SetClosed,
    SetNotSaved,
)
from daw_bridge.pairs import pair_items
from daw_bridge.session import FinishedTake
from daw_bridge.takes import Order, redrum_session
from transform.library import find_rhythm
from transform.midi import read_midi
from transform.settings import RenderSettings


@pytest.fixture
def loop(write_wav, clicks):
    return write_wav("sounds/loop ünï.wav", clicks([0.1, 0.5, 0.9], length_s=2.0))


@pytest.fixture
def live(worlds):
    """Return a function that opens a set in Live, whose tracks are (name, clips, more)."""

    def make(*tracks, **scene):
        told = [{"name": name, "items": clips, **more} for name, clips, more in tracks]
        return worlds("live", [], scene={"tracks": told, **scene})

    return make


def audio(file, begin=0.0, end=4.0, **more):
    return {"name": "loop", "file_path": str(file), "start_time": begin, "end_time": end, **more}


def warped(file, bpm, n_beats=4.0, **more):
    """A clip of a file of so many beats, recorded at a tempo."""
    end_s = n_beats * 60 / bpm
    markers = [[0.0, 0.0], [end_s, n_beats], [end_s * (1 + 1 / 32 / n_beats), n_beats + 1 / 32]]
    about = {
        "warping": True,
        "warp_markers": markers,
        "loop_end": n_beats,
        "end_marker": n_beats,
        "looping": True,
    }
    return audio(file, **{"end": n_beats, **about, **more})


def midi(notes, n_beats=4.0, **more):
    told = [
        {"start_time": beat, "pitch": pitch, "velocity": 100.0, "mute": False, "probability": 1.0, **rest}
        for beat, pitch, rest in notes
    ]
    return {
        "name": "beat",
        "is_midi_clip": True,
        "end_time": n_beats,
        "loop_end": n_beats,
        "notes": told,
        **more,
    }


def takes_of(job, write_wav, clicks, length_s=None):
    made = []
    for n, item in enumerate(item for item in job.items if item.kind == "audio" and item.is_selected):
        seconds = length_s or item.length_s
        file = write_wav(f"staging/{n}/take.wav", clicks([0.1], length_s=seconds))
        made.append(FinishedTake(source=item, file=file, name=f"take {n}", length_s=seconds, n_channels=1))
    return made


def ask(data, address="127.0.0.1"):
    """Return what the script answers to bytes, from an address."""
    port = read_endpoint(live_endpoint_path())["port"]
    with socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(address, 0)) as link:
        link.sendall(data)
        return b"".join(iter(lambda: link.recv(2**16), b""))


# What is selected


def test_the_clip_that_live_shows_is_selected(live, loop):
    clips = [audio(loop, 0, 4), audio(loop, 4, 8, is_detail=True, name="shown")]
    job = live(("drums", clips, {"is_selected": True}), ("bass", [audio(loop)], {})).session("clips").collect()
    assert [(item.name, item.position_s, item.is_selected) for item in job.items] == [("shown", 2.0, True)]


def test_in_session_view_the_scene_of_the_selected_tracks_is_selected(live, loop):
    drums = [warped(loop, 120, slot=0), warped(loop, 120, slot=1, is_detail=True, name="second")]
    beat = [midi([(0, 36, {})], slot=1)]
    tracks = [
        ("drums", drums, {"is_selected": True}),
        ("beat", beat, {"is_selected": True}),
        ("x", drums[:1], {}),
    ]
    job = live(*tracks, scene=1, focus="Session").session("clips").collect()
    assert [(item.kind, item.name) for item in job.items] == [("audio", "second"), ("midi", "beat")]
    (pair,) = pair_items(job, has_rhythm=False)
    assert pair.source.overlap_s(pair.rhythm) == pytest.approx(2.0)  # the scene is heard together


def test_scenes_do_not_overlap(live, loop):
    drums = [audio(loop, 0, 6), warped(loop, 120, slot=0), warped(loop, 120, slot=2)]
    job = live(("rhythm", drums, {})).session().collect()
    assert [item.position_s for item in job.items] == [0.0, 4.0, 6.0]  # from the next bar on, a bar each


def test_the_loop_selects_on_selected_tracks(live, loop):
    tracks = [("drums", [audio(loop, beat, beat + 2) for beat in (0, 2, 4, 6)], {"is_selected": True})]
    tracks += [("bass", [audio(loop, 2, 6)], {}), ("Rhythm", [audio(loop, 0, 1)], {})]
    job = live(*tracks, loop=[2.5, 6.0]).session("loop").collect()
    assert [(item.position_s, item.is_selected) for item in job.items] == [(1, True), (2, True), (0, False)]


def test_a_hundred_clips_come_with_one_request(live, loop, monkeypatch):
    notes = [(n / 64, 36 + n % 12, {}) for n in range(2_000)]
    tracks = []
    for n in range(10):
        clips = [warped(loop, 90, begin=4 * k, end=4 * k + 4) for k in range(9)]
        tracks.append(
            (f"track {n}", [*clips, midi(notes, 32.0, start_time=36.0, end_time=68.0)], {"is_selected": True})
        )
    world = live(*tracks, loop=[0.0, 100.0])
    asked = []
    send = Connection.send
    monkeypatch.setattr(Connection, "send", lambda *rest: asked.append(rest) or send(*rest))
    job = world.session().collect()
    assert len(asked) == 1
    assert len(job.items) == 100
    assert [len(item.notes) for item in job.items if item.kind == "midi"] == [2_000] * 10


# What clips play


def test_a_warped_clip_plays_its_file_where_its_markers_say(live, loop):
    # A file that speeds up: two beats in a second, then two in half a second. The set plays two in a second.
    markers = [[0.5, 0.0], [1.5, 2.0], [2.0, 4.0], [2.0078125, 4.03125]]
    clip = warped(loop, 120, warp_markers=markers, start_marker=1.0, begin=2.0, end=8.0, is_detail=True)
    (item,) = live(("drums", [clip], {})).session("clips").collect().items
    assert (item.position_s, item.length_s, item.keeps_pitch) == (1.0, 3.0, True)
    expected = [(0.0, 1.0, 1.0), (0.5, 1.5, 0.5), (1.5, 0.5, 1.0), (2.5, 1.5, 0.5)]  # the loop begins at beat 0
    told = [(region.position_s, region.file_s, region.play_rate) for region in item.warp_regions]
    np.testing.assert_allclose(told, expected)


def test_markers_in_samples_are_understood(live, loop):
    clip = warped(loop, 120, is_detail=True, sample_length=88_200)
    clip["warp_markers"] = [[second * 44_100, beat] for second, beat in clip["warp_markers"]]
    (item,) = live(("drums", [clip], {})).session("clips").collect().items
    assert item.is_at_own_speed


def test_a_clip_that_is_not_warped_plays_higher_if_transposed(live, loop):
    clip = audio(loop, 0, 2, start_marker=0.25, pitch_coarse=12, pitch_fine=0.0, is_detail=True)
    (item,) = live(("drums", [clip], {})).session("clips").collect().items
    assert (item.start_offset_s, item.play_rate, item.keeps_pitch) == (0.25, 2.0, False)


def test_pads_are_known_by_their_names_then_by_their_notes(live, caplog):
    notes = [(0, 60, {}), (1, 61, {}), (2, 46, {"probability": 0.5}), (3, 62, {"mute": True})]
    pads = {"60": "Kick Deep", "61": "Clap 808", "46": "Perc", "62": "Snare"}
    devices = [{"inner": [{}]}, {"inner": [{"pads": pads}]}]
    world = live(("rhythm", [midi(notes, looping=True, end_time=6.0)], {"devices": devices}))
    with caplog.at_level(logging.WARNING):
        (item,) = world.session().collect().items
    assert [(note.onset_beats, note.number, note.channel) for note in item.notes] == [
        (0, 36, 9),
        (1, 39, 9),
        (2, 46, 9),
        (4, 36, 9),
        (5, 39, 9),
    ]
    assert "beat: its notes always play" in caplog.text


def test_what_cannot_be_heard_is_known(live, loop, tmp_path, redrummer):
    gone = ("gone", [audio(tmp_path / "gone.wav")], {"is_selected": True})
    frozen = ("ice", [audio(loop)], {"is_selected": True, "is_frozen": True})
    world = live(gone, frozen, loop=[0, 4])
    rhythm = read_midi(find_rhythm("bossa-nova-132").path)
    order = Order(settings=RenderSettings(length="source"), rhythm=rhythm)
    reports = redrum_session(world.session(), redrummer, order)
    assert "gone.wav is missing" in reports[0]["error"]
    assert "its track is frozen" in reports[1]["error"]
    assert "unfreeze" in reports[1]["hint"]
    assert world.tracks_after() == world.before


# What is written


def test_takes_are_named_coloured_and_as_loud_as_their_sources(live, loop, write_wav, clicks):
    clip = audio(loop, 3, 7, color=0xFF0000, gain=0.7, is_detail=True)
    world = live(("bass", [], {}), ("drums", [clip], {"color": 0x00FF00}), ("keys", [], {}))
    session = world.session("clips")
    job = session.collect()
    (media,) = session.write_back(job, takes_of(job, write_wav, clicks))
    after = world.snapshot()
    assert [track["name"] for track in after["tracks"]] == ["bass", "drums", "drums redrum", "keys"]
    (take,) = after["tracks"][2]["items"]
    assert after["tracks"][2]["color"] == 0x00FF00
    assert (take["name"], take["color"], take["gain"], take["start_time"]) == ("take 0", 0xFF0000, 0.7, 3)
    assert (take["file_path"], take["warping"]) == (str(media), False)
    assert after["undo"] == ["ended"]  # one step
    assert world.is_untouched()


def test_a_take_of_a_session_clip_lies_in_the_same_slot_and_loops(live, loop, write_wav, clicks):
    clip = warped(loop, 90, slot=2, warp_mode=4, pitch_coarse=-3, is_detail=True)
    world = live(("drums", [clip], {}), bpm=100.0)
    session = world.session("clips")
    job = session.collect()
    assert job.items[0].length_s == pytest.approx(2.4)  # four beats of the set
    session.write_back(job, takes_of(job, write_wav, clicks))
    (take,) = world.snapshot()["tracks"][1]["items"]
    assert (take["slot"], take["warping"], take["warp_mode"], take["pitch_coarse"]) == (2, True, 4, -3)
    assert (take["looping"], take["loop_start"], take["loop_end"]) == (True, 0.0, pytest.approx(4.0))
    assert take["warp_markers"][:2] == [[0.0, 0.0], [pytest.approx(2.4), pytest.approx(4.0)]]


def test_a_take_that_live_warps_wrongly_is_not_warped(live, loop, write_wav, clicks, caplog):
    world = live(("drums", [warped(loop, 90, is_detail=True)], {}), bpm=60.0)
    session = world.session("clips")
    job = session.collect()
    world.control("refuse_markers")
    session.write_back(job, takes_of(job, write_wav, clicks))
    (take,) = world.snapshot()["tracks"][1]["items"]
    assert (take["warping"], take["looping"], take["pitch_coarse"]) == (False, False, 0)
    assert "take 0: it does not follow the tempo of the set: Live did not take its warp markers" in caplog.text


def test_a_clip_of_another_length_than_its_take_is_named(live, loop, write_wav, clicks, caplog):
    world = live(("drums", [warped(loop, 90, is_detail=True)], {}), bpm=60.0)
    session = world.session("clips")
    job = session.collect()
    session.write_back(job, takes_of(job, write_wav, clicks))  # the stand-in keeps the end that it took first
    assert "take 0: its clip is 6.47 beats long, not 4.00" in caplog.text


def test_where_the_tempo_changes_takes_are_not_warped(worlds, loop, write_wav, clicks):
    items = [worlds.audio(loop, 1.0, 3.0, is_looped=True)]
    world = worlds("live", [worlds.track("drums", *items)], points=[(2.0, 60.0, False)])
    session = world.session()
    job = session.collect()
    assert job.tempo == ((0.0, 120.0), (4.0, 60.0))
    session.write_back(job, takes_of(job, write_wav, clicks))
    assert world.snapshot()["tracks"][1]["items"][0]["warping"] is False


def test_session_view_plays_at_the_tempo_of_now(worlds, loop):
    played = worlds.audio(loop, 0.0, 1.0)
    world = worlds("live", [worlds.track("drums", played)], points=[(1.0, 60.0, False), (5.0, 90.0, False)])
    scene = json.loads(world._scene.read_text(encoding="utf-8"))
    scene["tracks"][0]["items"].append(warped(loop, 120, slot=0, is_detail=True))
    scene["tracks"][0]["name"] = "rhythm"  # so that both clips are told
    scene["bpm"] = 100.0
    world._scene.write_text(json.dumps(scene), encoding="utf-8")
    world.control("scene", str(world._scene))
    job = world.session("clips").collect()
    assert job.tempo == ((0.0, 120.0), (2.0, 60.0), (4.0, 100.0))
    assert [item.length_s for item in job.items] == pytest.approx([1.0, 2.4])


def test_all_takes_or_none(live, loop, write_wav, clicks):
    tracks = [(f"track {n}", [audio(loop)], {"is_selected": True}) for n in range(3)]
    world = live(*tracks, loop=[0, 4], changes_left=5)  # two tracks with a clip, and a third track
    session = world.session()
    job = session.collect()
    with pytest.raises(LiveFailed, match="no room"):
        session.write_back(job, takes_of(job, write_wav, clicks))
    assert world.tracks_after() == world.before
    assert world.snapshot()["undo"] == ["ended"]
    assert not list(world.media_folder.iterdir())


def test_a_take_whose_track_is_gone_comes_last(live, loop, write_wav, clicks):
    world = live(("drums", [audio(loop, is_detail=True)], {}), ("bass", [], {}))
    session = world.session("clips")
    job = session.collect()
    world.control("delete_track", 0)
    session.write_back(job, takes_of(job, write_wav, clicks))
    assert [track["name"] for track in world.tracks_after()] == ["bass", "drums redrum"]


@pytest.mark.parametrize("version", [[12, 0, 4], [11, 3, 13]])
def test_an_older_live_gets_files_only(live, loop, write_wav, clicks, version, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    world = live(("drums", [audio(loop, is_detail=True)], {}), version=version)
    session = world.session("clips")
    job = session.collect()
    (media,) = session.write_back(job, takes_of(job, write_wav, clicks))
    assert media.is_file()
    assert media.parent == session.folder
    assert ".".join(map(str, version)) in session.not_placed.message
    assert world.tracks_after() == world.before


# What goes wrong


def test_without_live_or_script_that_is_said(worlds, monkeypatch):
    world = worlds("live", [])
    world.stop()
    monkeypatch.setattr(ableton, "is_running", lambda: False)
    with pytest.raises(LiveNotRunning, match="not running"):
        LiveSession.connect()
    monkeypatch.setattr(ableton, "is_running", lambda: True)
    with pytest.raises(ScriptNotChosen, match="not chosen"):
        LiveSession.connect()
    Path(live_endpoint_path()).unlink()
    with pytest.raises(ScriptNotChosen):
        LiveSession.connect()


def test_a_set_must_be_saved(live, loop):
    world = live(("drums", [audio(loop, is_detail=True)], {}), path="")
    with pytest.raises(SetNotSaved, match="never been saved"):
        world.session("clips").collect()


def test_another_set_gets_nothing(live, loop, write_wav, clicks):
    world = live(("drums", [audio(loop, is_detail=True)], {}))
    session = world.session("clips")
    job = session.collect()
    world.control("scene", str(world._scene))  # opened again: another set to Live
    before = world.tracks_after()
    with pytest.raises(SetClosed, match="nothing was written"):
        session.write_back(job, takes_of(job, write_wav, clicks))
    assert world.tracks_after() == before
    assert not list(world.media_folder.iterdir())


def test_a_live_that_does_not_answer_is_given_up(live, loop, write_wav, clicks, monkeypatch):
    world = live(("drums", [audio(loop, is_detail=True)], {}))
    session = LiveSession.connect("clips", timeout_s=1.0)
    job = session.collect()
    world.control("freeze", 2.5)
    with pytest.raises(LiveLost, match="stopped answering"):  # before it was told of a take
        session.write_back(job, takes_of(job, write_wav, clicks))
    assert world.tracks_after() == world.before
    assert list(world.media_folder.iterdir()) == []
    answer = session._answer

    def freeze(connection, request):
        world.control("freeze", 2.5)
        return answer(connection, request)

    monkeypatch.setattr(session, "_answer", freeze)
    with pytest.raises(LiveLost, match="did not say"):
        session.write_back(job, takes_of(job, write_wav, clicks))
    assert len(list(world.media_folder.iterdir())) == 1  # Live may have taken it
    assert world.tracks_after()[1]["name"] == "drums redrum"  # as it did


@pytest.mark.parametrize("schema", [2, SCHEMA + 1], ids=["without groups", "newer"])
def test_a_script_of_another_version_is_named(live, monkeypatch, schema):
    live()
    path = Path(live_endpoint_path())
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": schema}))
    monkeypatch.setattr(ableton, "is_running", lambda: True)
    with pytest.raises(ScriptOutdated, match="another version") as caught:
        LiveSession.connect()
    assert "run redrum live install again, and restart Live" in caught.value.hint
    monkeypatch.setattr(ableton, "is_running", lambda: False)
    with pytest.raises(LiveNotRunning):  # the file was left behind
        LiveSession.connect()


# Who may ask, and who may answer


@pytest.mark.parametrize(
    "data",
    [
        b'{"schema": 1, "token": "0123", "request": "gather"}\n',
        b'{"schema": %d, "request": "write"}\n' % SCHEMA,
        b"GET / HTTP/1.1\r\n\r\n",
        b"redrum\0" + bytes([SCHEMA]) + bytes(64),
        b"\xff\xfe\x00\n" * 9,
        b"x" * (MESSAGE_BYTES + 1),
    ],
    ids=["old", "no token", "browser", "no proof", "no text", "flood"],
)
def test_who_does_not_know_the_token_is_hung_up_on(live, data):
    world = live()
    with contextlib.suppress(ConnectionError):
        assert len(ask(data)) in (0, 72)  # nothing, or the script's own proof
    assert world.session().look()["set"]["path"] == str(world.path)  # it is still there
    assert world.tracks_after() == world.before


def test_strangers_do_not_fill_lives_log(live):
    world = live()
    world.control("log")
    for _ in range(50):
        with contextlib.suppress(ConnectionError):
            ask(b"GET / HTTP/1.1\r\n\r\n")
    assert sum("refused" in entry for entry in world.control("log")) == 1


def test_an_unknown_request_with_the_token_is_refused(live):
    world = live()
    with pytest.raises(ScriptOutdated):
        world.session()._request({"request": "delete"})
    assert world.tracks_after() == world.before


def test_too_many_takes_at_once_are_refused_before_they_are_sent(live):
    world = live()
    with pytest.raises(LiveFailed, match="too many"):
        world.session()._request({"request": "look", "more": "x" * MESSAGE_BYTES})


def test_a_foreign_address_gets_no_answer(live):
    world = live()
    world.control("log")
    try:
        answer = ask(b"", "127.0.0.2")
    except ConnectionError:
        answer = b""
    except OSError:
        pytest.skip("this machine has no second address of its own")
    assert answer == b""
    assert any("refused: a connection from 127.0.0.2" in entry for entry in world.control("log"))
    assert world.session().look()["live"] == [12, 0, 5]


def test_only_this_user_can_read_the_token(live):
    live()
    if os.name == "posix":
        assert Path(live_endpoint_path()).stat().st_mode & 0o077 == 0
    assert len(read_endpoint(live_endpoint_path())["token"]) == 64


def test_a_stranger_in_lives_place_is_known_nothing_and_not_believed(live, monkeypatch):
    world = live()
    world.stop()
    monkeypatch.setattr(ableton, "is_running", lambda: False)
    received = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        token = new_token()
        write_endpoint(live_endpoint_path(), listener.getsockname()[1], token)

        def pretend():
            link, _ = listener.accept()
            with link, contextlib.suppress(OSError):
                received.append(link.recv(999))
                link.sendall(received[0][:8] + bytes(64) + b'{"schema": %d, "live": [12, 3, 0]}\n' % SCHEMA)
                received.append(link.recv(999))

        thread = threading.Thread(target=pretend)
        thread.start()
        with pytest.raises(LiveNotRunning):
            LiveSession.connect()
        thread.join(60)
    assert len(b"".join(received)) == 40  # a nonce
    assert token.encode() not in b"".join(received)
    assert bytes.fromhex(token) not in b"".join(received)
    Path(live_endpoint_path()).unlink()


def test_a_stranger_that_drips_in_lives_place_is_left(live, monkeypatch):
    world = live()
    world.stop()

    def drip(listener):
        with contextlib.suppress(OSError):
            while True:
                link, _ = listener.accept()
                with contextlib.suppress(OSError), link:
                    for byte in b"redrum\0" + bytes([SCHEMA]) + bytes(999):
                        link.sendall(bytes([byte]))
                        time.sleep(0.1)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        write_endpoint(live_endpoint_path(), listener.getsockname()[1], new_token())
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        began_s = time.monotonic()
        with pytest.raises(LiveLost):
            LiveSession.connect(timeout_s=0.5)
        assert time.monotonic() - began_s < 5  # it would be ready after ten
        listener.shutdown(socket.SHUT_RDWR)
    Path(live_endpoint_path()).unlink()


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps others out of a user's profile")
def test_an_endpoint_file_that_may_be_anothers_is_named(live):
    live()
    path = Path(live_endpoint_path())
    path.chmod(0o644)
    try:
        with pytest.raises(EndpointUnsafe, match="can be read or written by others") as caught:
            LiveSession.connect()
        assert "remove it" in caught.value.hint
    finally:
        path.chmod(0o600)


# A job that is killed


KILLED = """
import json, os, shutil, sys
from pathlib import Path
from daw_bridge import connection, session
from daw_bridge.live import running as ableton
from daw_bridge.session import FinishedTake

stage, *files = sys.argv[1:]
live = ableton.LiveSession.connect("loop")
job = live.collect()
takes = [
    FinishedTake(source=item, file=Path(file), name="take", length_s=item.length_s, n_channels=1)
    for item, file in zip(job.items, files, strict=True)
]
copies = []

def copy(source, target, copyfile=shutil.copyfile):
    copies.append(target)
    if stage == "half the files" and len(copies) == 2:
        Path(target).write_bytes(Path(source).read_bytes()[:100])
        os._exit(9)
    return copyfile(source, target)

def send(connection, request, timeout_s):
    data = connection._peer.sealed(json.dumps(request).encode())
    if stage != "all files":
        connection._link.sendall(data[: len(data) // 2] if stage == "half the request" else data)
    os._exit(9)

shutil.copyfile = copy
connection.Connection.send = send
live.write_back(job, takes)
"""


@pytest.mark.parametrize("stage", ["half the files", "all files", "half the request", "no answer"])
def test_a_job_that_is_killed_leaves_set_and_disk_whole(live, loop, write_wav, clicks, stage):
    tracks = [(f"track {n}", [audio(loop)], {"is_selected": True}) for n in range(3)]
    world = live(*tracks, loop=[0, 4])
    files = [write_wav(f"staging/{n}/take.wav", clicks([0.1], length_s=2.0)) for n in range(3)]
    killed = subprocess.run([sys.executable, "-c", KILLED, stage, *map(str, files)], check=False)
    assert killed.returncode == 9
    world.session().look()  # whatever was on its way has been done by then
    after = world.tracks_after()
    names = [track["name"] for track in after]
    assert world.is_untouched()
    if stage == "no answer":
        assert [name for name in names if name.endswith(" redrum")] == [f"track {n} redrum" for n in range(3)]
        assert world.snapshot()["undo"] == ["ended"]
    else:
        assert after == world.before
    for file in world.media_folder.glob("*.wav"):
        assert soundfile.info(file).frames == 88_200  # whole
    used = {item["file"] for track in after for item in track["items"]}
    assert all(Path(file).is_file() for file in used)


def test_a_request_that_nobody_waits_for_changes_nothing(live, loop):
    world = live(("drums", [audio(loop)], {"is_selected": True}), loop=[0, 4])
    session = world.session()
    for n_bytes in (20, None):
        with session._connection() as connection:
            data = connection._peer.sealed(b'{"request": "gather", "scope": "loop"}')
            connection._link.sendall(data[:n_bytes])
    assert len(session.collect().items) == 1
