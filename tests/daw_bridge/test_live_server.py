"""The server of the Remote Script alone: what it does with its time, and with clients that misbehave."""

import json
import socket

import pytest

from daw_bridge.actions.redrum_live import server as module
from daw_bridge.actions.redrum_live.server import Server


@pytest.fixture
def log():
    return []


@pytest.fixture
def serve(tmp_path, monkeypatch, log):
    """Return a function that opens a server with handlers; all of them are closed with the test."""
    monkeypatch.setattr(module, "door_path", lambda: str(tmp_path / "deep" / "live.json"))
    opened = []

    def make(**handlers):
        opened.append(Server(handlers, [12, 0, 5], log.append))
        opened[-1].open()
        return opened[-1]

    yield make
    for server in opened:
        server.close()


def door(tmp_path):
    return json.loads((tmp_path / "deep" / "live.json").read_text(encoding="utf-8"))


def connect(tmp_path):
    link = socket.create_connection(("127.0.0.1", door(tmp_path)["port"]), timeout=10)
    link.settimeout(10)
    return link


def send(link, tmp_path, request, **more):
    message = {"schema": 1, "token": door(tmp_path)["token"], "request": request, **more}
    link.sendall(json.dumps(message).encode() + b"\n")


def answer(server, link, n_ticks=50):
    link.settimeout(0.05)
    data = b""
    for _ in range(n_ticks):
        server.tick()
        try:
            while part := link.recv(2**16):
                data += part
        except TimeoutError:
            continue
        return json.loads(data)
    raise AssertionError("no answer")


def test_work_is_spread_over_ticks(serve, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    steps = []

    def slow(request):
        yield "["
        for n in range(10):
            now[0] += 0.004  # each step of the work
            steps.append(n)
            yield f"{n}, "
        yield "10]"

    server = serve(slow=slow)
    with connect(tmp_path) as link:
        send(link, tmp_path, "slow")
        done = []
        for _ in range(10):
            began = now[0]
            server.tick()
            done.append(len(steps))
            # A tick ends with the step that uses up its time.
            assert now[0] - began <= module.TICK_BUDGET_S + 0.004
        assert done[:4] == [3, 6, 9, 10]
        assert json.loads(link.recv(2**16)) == list(range(11))


def test_a_handler_that_fails_is_answered_and_logged(serve, tmp_path, log):
    def fail(request):
        yield "["
        raise ValueError("no such thing")

    server = serve(fail=fail)
    for _ in range(2):  # the script stays up
        with connect(tmp_path) as link:
            send(link, tmp_path, "fail")
            assert answer(server, link) == {"schema": 1, "error": "failed", "why": "no such thing"}
    assert any("no such thing" in entry for entry in log)


def test_who_says_nothing_is_hung_up_on(serve, tmp_path, monkeypatch, log):
    monkeypatch.setattr(module, "IDLE_S", -1.0)
    server = serve()
    with connect(tmp_path) as link:
        link.sendall(b'{"schema"')
        assert answer(server, link)["error"] == "idle"
    assert any("refused: idle" in entry for entry in log)


def test_who_does_not_listen_is_hung_up_on(serve, tmp_path, monkeypatch):
    server = serve(large=lambda request: iter(["x" * 30_000_000]))
    with connect(tmp_path) as link:
        send(link, tmp_path, "large")
        for _ in range(5):
            server.tick()
        assert len(server._connections) == 1
        monkeypatch.setattr(module, "IDLE_S", -1.0)
        server.tick()
        assert server._connections == []


def test_a_large_answer_arrives_whole(serve, tmp_path):
    server = serve(large=lambda request: iter(['"', "x" * 5_000_000, '"']))
    with connect(tmp_path) as link:
        send(link, tmp_path, "large")
        assert len(answer(server, link, 500)) == 5_000_000


def test_more_than_a_few_connections_wait(serve, tmp_path):
    server = serve(echo=lambda request: iter(["1"]))
    links = [connect(tmp_path) for _ in range(12)]
    try:
        server.tick()
        assert len(server._connections) == module.MOST_CONNECTIONS
        for link in links:
            send(link, tmp_path, "echo")
        for link in links:
            assert answer(server, link) == 1
    finally:
        for link in links:
            link.close()


def test_the_file_goes_with_the_server_unless_it_is_anothers(serve, tmp_path):
    first = serve()
    second = serve()
    token = door(tmp_path)["token"]
    first.close()
    assert door(tmp_path)["token"] == token
    second.close()
    assert not (tmp_path / "deep" / "live.json").exists()
    second.tick()  # Live may still call


def test_a_server_that_cannot_write_its_file_is_deaf_and_says_so(serve, tmp_path, log):
    (tmp_path / "deep").write_text("in the way")
    server = serve()
    server.tick()
    assert any("cannot listen" in entry for entry in log)
