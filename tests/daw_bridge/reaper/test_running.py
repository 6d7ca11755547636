"""A REAPER that is missing, quits, closes, or is asked by who dies or may not: two processes."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from daw_bridge.live.redrum_live.endpoint import endpoint_path, read_endpoint, write_endpoint
from daw_bridge.live.redrum_live.handshake import new_token
from daw_bridge.reaper.running import (
    ProjectClosed,
    ReaperLost,
    ReaperNotRunning,
    RunningSession,
    ServerNotStarted,
    ServerUnsafe,
    look,
)
from daw_bridge.session import FinishedTake
from daw_bridge.takes import Order, redrum_session
from transform.errors import DawError
from transform.events import DrumEvent, Rhythm
from transform.settings import RenderSettings

ROOT = Path(__file__).resolve().parents[3]
RHYTHM = Rhythm((DrumEvent(0.0, "KD", 0.9),), 0.5, None, "kick")
ORDER = Order(settings=RenderSettings(length="source"), rhythm=RHYTHM)


@pytest.fixture
def loop(write_wav, clicks):
    return write_wav("loop.wav", clicks([0.1, 0.5], length_s=1.0))


@pytest.fixture
def world(worlds, loop):
    def make(n_items=2, **more):
        items = [worlds.audio(loop, n) for n in range(n_items)]
        return worlds("reaper", [worlds.track("drums", *items), worlds.track("bass")], **more)

    return make


@pytest.fixture
def take(write_wav, clicks):
    def make(item):
        file = write_wav("staging/take.wav", clicks([0.1], length_s=0.5))
        return FinishedTake(source=item, file=file, name="take", length_s=0.5, n_channels=1)

    return make


def names(world):
    return [track["name"] for track in world.tracks_after()]


def test_a_whole_job(world, redrummer):
    made = world()
    reports = redrum_session(made.session(), redrummer, ORDER)
    assert [(report["items"], Path(report["output"]).is_file()) for report in reports] == [(2, True)]
    assert names(made) == ["drums", "drums redrum", "bass"]
    (item,) = made.tracks_after()[1]["items"]
    assert (item["position_s"], item["length_s"]) == (0.0, 2.0)
    assert made.is_untouched()
    assert made.snapshot()["undo"] == ["Redrum"]
    new = made.snapshot()["tracks"][1]["items"]
    assert not any(item["is_looped"] for item in new)


def test_takes_go_into_the_tab_that_they_are_from(world, take):
    made = world()
    session = made.session()
    job = session.collect()
    made.control("new-tab")
    session.write_back(job, [take(job.items[0])])
    assert names(made) == ["drums", "drums redrum", "bass"]
    assert made.snapshot()["tab"] == 1  # the one in front stays in front


def test_takes_of_a_track_that_is_gone_come_last(world, take):
    made = world()
    session = made.session()
    job = session.collect()
    made.control("delete-track/0")
    session.write_back(job, [take(job.items[0])])
    assert names(made) == ["bass", "drums redrum"]


def test_a_slow_reaper_is_asked_in_pieces(world, monkeypatch):
    made = world(30)
    session = made.session()
    at_once = session.collect()
    made.control("delay/0.0005")
    asked, ask = [], session._request
    monkeypatch.setattr(session, "_request", lambda *call: asked.append(call) or ask(*call))
    assert session.collect() == at_once
    assert len(asked) > 2
    made.control("restless")
    with pytest.raises(DawError, match="changes while it is read"):
        session.collect()


def test_media_that_reaper_cannot_read_leave_nothing(world, take, monkeypatch):
    made = world()
    session = made.session()
    job = session.collect()
    asked = session._request

    def ask(name, plan):
        plan["tracks"][0]["items"][1]["file"] += ".gone"
        return asked(name, plan)

    monkeypatch.setattr(session, "_request", ask)
    with pytest.raises(Exception, match=r"REAPER cannot read .*\.gone"):
        session.write_back(job, [take(item) for item in job.items])
    assert names(made) == ["drums", "bass"]
    assert made.snapshot()["undo"] == []
    assert not list(made.media_folder.iterdir())


# Strangers


def served_at():
    return read_endpoint(endpoint_path("reaper"))["port"]


def test_our_server_is_for_this_machine_only(world):
    world()
    with socket.create_connection(("127.0.0.1", served_at()), timeout=2):
        pass
    with socket.socket() as stranger:
        stranger.settimeout(2)
        assert stranger.connect_ex(("127.0.0.2", served_at()))


def reapys_request():
    """What a client of reapy sends so that REAPER runs something."""
    function = {"__callable__": True, "module_name": "builtins", "name": "eval"}
    call = {"args": ["__import__('pathlib').Path('ran').touch()"], "kwargs": {}}
    body = json.dumps({"function": function, "input": call}).encode()
    return len(body).to_bytes(8, "little") + body


@pytest.mark.parametrize(
    "sent",
    [
        (100).to_bytes(8, "little"),
        (2**60).to_bytes(8, "little"),
        bytes(8),
        b"GET / HTTP/1.1\r\n\r\n",
        b"x" * 2_000_000,
        reapys_request(),
    ],
    ids=["half a request", "a huge one", "nothing", "browser", "flood", "reapy"],
)
def test_a_stranger_neither_holds_reaper_nor_runs_anything_in_it(world, sent, monkeypatch, tmp_path):
    made = world()
    session = made.session()
    made.stall_s()
    with socket.create_connection(("127.0.0.1", served_at()), timeout=10) as stranger:
        with contextlib.suppress(OSError):
            stranger.sendall(sent)
        assert len(session.collect().items) == 2  # while the stranger is still there
        with contextlib.suppress(ConnectionError):
            assert stranger.recv(99) == b""
    assert made.stall_s()[1] < 1.0
    assert not Path("ran").exists()
    assert not Path(__file__).with_name("ran").exists()


def test_a_stranger_at_the_web_interfaces_port_cannot_hold_us(monkeypatch):
    def drip(listener):
        with contextlib.suppress(OSError):
            while True:
                link, _ = listener.accept()
                with link, contextlib.suppress(OSError):
                    link.sendall(b"HTTP/1.1 200 OK\r\n")
                    while True:
                        link.sendall(b"X")
                        time.sleep(0.1)

    monkeypatch.setattr("daw_bridge.reaper.running.LOOK_TIMEOUT_S", 0.5)
    monkeypatch.setattr("daw_bridge.reaper.running.endpoint_path", lambda program: "not there")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        monkeypatch.setattr("daw_bridge.reaper.running.WEB_PORT", listener.getsockname()[1])
        threading.Thread(target=drip, args=(listener,), daemon=True).start()
        began_s = time.monotonic()
        with pytest.raises(ReaperLost):
            look()
        assert time.monotonic() - began_s < 20
        listener.shutdown(socket.SHUT_RDWR)


def test_a_stranger_in_the_servers_place_is_known_nothing_and_not_believed(world):
    made = world(starts_server=False)
    received = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        write_endpoint(endpoint_path("reaper"), listener.getsockname()[1], new_token())

        def pretend():
            link, _ = listener.accept()
            with link, contextlib.suppress(OSError):
                received.append(link.recv(999))
                link.sendall(received[0][:8] + bytes(64) + b'{"value": {"media_folder": "/"}}')
                received.append(link.recv(999))

        thread = threading.Thread(target=pretend)
        thread.start()
        with pytest.raises(ServerNotStarted):
            made.session()
        thread.join(60)
    assert len(b"".join(received)) == 40  # a nonce


def test_a_server_file_that_may_be_anothers_is_named(world):
    world(starts_server=False)
    path = Path(endpoint_path("reaper"))
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir()
    try:
        with pytest.raises(ServerUnsafe, match="is not a file") as caught:
            RunningSession.connect()
        assert "remove it" in caught.value.hint
    finally:
        path.rmdir()


# What is missing


def test_reaper_is_not_running(worlds):
    worlds("reaper", [], starts_server=False).stop()
    with pytest.raises(ReaperNotRunning, match="not running"):
        RunningSession.connect()


def test_the_server_is_not_started(world):
    world(starts_server=False)
    with pytest.raises(ServerNotStarted) as caught:
        RunningSession.connect()
    assert "redrum_server.py" in caught.value.hint


def test_a_server_that_reapy_can_start_is_started(world):
    made = world(starts_server=False, action="_RSabc")
    assert len(made.session().collect().items) == 2


def test_a_server_that_stopped_is_known_from_one_that_runs(world, monkeypatch):
    made = world()
    look()
    monkeypatch.setattr("daw_bridge.reaper.running.LOOK_TIMEOUT_S", 1.0)
    made.control("stop-server")
    with pytest.raises(ServerNotStarted):
        RunningSession.connect()


def test_a_dialog_in_reaper_does_not_hang_us(world):
    made = world()
    session = made.session()
    session._timeout_s = 0.5
    made.control("freeze/2")
    with pytest.raises(ReaperLost, match="stopped answering"):
        session.collect()


# What ends in the middle of a job


def test_the_project_is_closed(world, take):
    made = world()
    session = made.session()
    job = session.collect()
    made.control("close")
    with pytest.raises(ProjectClosed, match="nothing was written"):
        session.write_back(job, [take(job.items[0])])
    assert names(made) == []
    assert not list(made.media_folder.iterdir())


def test_reaper_quits(world, take):
    made = world()
    session = made.session()
    job = session.collect()
    with contextlib.suppress(OSError):
        made.control("quit")
    made.process.wait()
    with pytest.raises(ReaperLost):
        session.write_back(job, [take(job.items[0])])
    assert not list(made.media_folder.iterdir())
    with pytest.raises(ReaperNotRunning):
        RunningSession.connect()
    again = world()
    assert len(again.session().collect().items) == 2


def test_the_server_stops(world, take):
    made = world()
    session = made.session()
    job = session.collect()
    session._timeout_s = 0.5
    made.control("stop-server")
    with pytest.raises(ReaperLost, match="did not say whether it took the takes") as caught:
        session.write_back(job, [take(job.items[0])])
    # It may take them yet: the media stay, and we say where.
    assert str(made.media_folder) in caught.value.message
    assert [path.name for path in made.media_folder.iterdir()] == ["take.wav"]


def test_an_interrupt_while_reaper_works_keeps_what_it_may_need(world, take, monkeypatch):
    made = world()
    session = made.session()
    job = session.collect()

    def ask(name, plan):
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "_request", ask)
    with pytest.raises(KeyboardInterrupt):
        session.write_back(job, [take(job.items[0])])
    assert [path.name for path in made.media_folder.iterdir()] == ["take.wav"]


CLIENT = """
import sys, time
from pathlib import Path
from daw_bridge.reaper.running import RunningSession
from daw_bridge.session import FinishedTake

session = RunningSession.connect()
print("connected", flush=True)
sys.stdin.readline()
job = session.collect()
print("collected", flush=True)
sys.stdin.readline()
print("writing", flush=True)
file = Path(sys.argv[1])
takes = [FinishedTake(source=item, file=file, name="x", length_s=1.0, n_channels=1) for item in job.items]
session.write_back(job, takes)
print("written", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("moment", ["collect", "render", "write-back"])
def test_the_client_is_killed(world, loop, redrummer, moment):
    made = world(8)
    client = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLIENT, str(loop)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    with client:
        assert client.stdout.readline() == b"connected\n"
        if moment == "collect":
            made.control("delay/0.004")  # it takes a second or two now
        client.stdin.write(b"\n")
        if moment != "collect":
            assert client.stdout.readline() == b"collected\n"
        if moment == "write-back":
            made.control("delay/0.004")
            client.stdin.write(b"\n")
            assert client.stdout.readline() == b"writing\n"
        time.sleep(0.3)
        client.kill()
    made.control("delay/0")
    made.control("settle")
    after = made.snapshot()
    assert made.is_untouched()
    assert "begun" not in after["undo"]
    n_new = [len(track["items"]) for track in after["tracks"] if track["is_new"]]
    assert n_new in ([], [8])  # all or nothing
    if moment != "write-back":
        assert n_new == []
        assert not list(made.media_folder.iterdir())
    # The next run works.
    made.before = made.tracks_after()
    reports = redrum_session(made.session(), redrummer, ORDER)
    assert all(Path(report["output"]).is_file() for report in reports)
    assert made.is_untouched()
    assert len(made.tracks_after()) == len(after["tracks"]) + 1


def test_a_large_session_is_read_and_written_in_few_requests(worlds, loop, take, monkeypatch):
    @contextlib.contextmanager
    def where_they_are(job, takes, **_):
        yield [take.file for take in takes]

    monkeypatch.setattr("daw_bridge.reaper.running.published_media", where_they_are)  # 200 copies are slow
    tracks = [
        worlds.track(f"track {n}", *(worlds.audio(loop, 2 * k, name=f"item {k}") for k in range(10)))
        for n in range(20)
    ]
    made = worlds("reaper", tracks)
    session = made.session()
    asked, ask = [], session._request
    monkeypatch.setattr(session, "_request", lambda *call: asked.append(call[0]) or ask(*call))
    job = session.collect()
    assert len(job.items) == 200
    assert asked.count("collect") < 100  # a part of 200 items each, which says nothing of the machine
    one = take(job.items[0])
    session.write_back(job, [replace(one, source=item) for item in job.items])
    assert asked.count("write_back") == 1
    assert len(made.tracks_after()) == 40
    assert made.snapshot()["undo"] == ["Redrum"]
