"""The server of the scripts in Live and REAPER alone: what it does with its time, and with who misbehaves."""

import contextlib
import json
import os
import random
import select
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from daw_bridge.connection import Connection
from daw_bridge.live.redrum_live import server as module
from daw_bridge.live.redrum_live.endpoint import UnsafeFile, read_endpoint, remove_endpoint, write_endpoint
from daw_bridge.live.redrum_live.handshake import SCHEMA, Peer, Unproven, new_token
from daw_bridge.live.redrum_live.server import Server

PATIENCE_S = 60.0
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def log():
    return []


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "deep" / "live.json")


@pytest.fixture
def serve(path, monkeypatch, log):
    """Return a function that opens a server with handlers; all of them are closed with the test."""
    monkeypatch.setattr(module, "live_endpoint_path", lambda: path)
    opened = []

    def make(**handlers):
        opened.append(Server(handlers, [12, 0, 5], log.append))
        opened[-1].open()
        return opened[-1]

    yield make
    for server in opened:
        server.close()


class Client:
    """Somebody who knows the token; nothing is sent or received before it is told to."""

    def __init__(self, path, token=None):
        endpoint = read_endpoint(path)
        self.link = connect(path)
        self.peer = Peer(token or endpoint["token"], is_server=False, most_bytes=10**8)
        self.link.sendall(self.peer.greeting())

    def prove(self, server):
        while not self.peer.is_proven:
            self.receive(server)

    def receive(self, server):
        """Receive what is there, the server's tick before it included; return whether something was."""
        server.tick()
        self.link.settimeout(0.05)
        try:
            data = self.link.recv(min(self.peer.n_missing, 2**16))
        except TimeoutError:
            return True
        self.link.sendall(self.peer.take(data))
        return bool(data)

    def ask(self, server, request, **more):
        self.prove(server)
        self.link.sendall(self.peer.sealed(json.dumps({"request": request, **more}).encode()))

    def answer(self, server):
        deadline_s = time.monotonic() + PATIENCE_S
        while (text := self.peer.message()) is None:
            assert self.receive(server), "hung up"
            assert time.monotonic() < deadline_s, "no answer"
        return json.loads(text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.link.close()


def connect(path):
    return socket.create_connection(("127.0.0.1", read_endpoint(path)["port"]), timeout=10)


def until(server, is_so):
    """Tick until something is so."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < give_up_s, "it never came"
        server.tick()
        time.sleep(0.01)


@contextlib.contextmanager
def ticking(server):
    """Let a server tick in a thread of its own, as a program does."""
    is_over = threading.Event()

    def tick():
        while not is_over.wait(0.01):
            server.tick()

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def is_hung_up_on(server, link):
    """Return whether the server has ended a connection, and has said nothing of an answer."""
    for _ in range(20):
        server.tick()
        link.settimeout(0.05)
        try:
            if not link.recv(2**16):
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_work_is_spread_over_ticks(serve, path, monkeypatch):
    now = [0.0]
    steps = []

    def slow(request):
        yield "["
        for n in range(10):
            now[0] += 0.004  # each step of the work
            steps.append(n)
            yield f"{n}, "
        yield "10]"

    server = serve(slow=slow)
    with Client(path) as client:
        client.prove(server)
        until(server, lambda: server._clients)
        monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
        client.ask(server, "slow")
        select.select([server._clients[0]._link], [], [], PATIENCE_S)
        done = []
        for _ in range(10):
            began = now[0]
            server.tick()
            done.append(len(steps))
            # A tick ends with the step that uses up its time.
            assert now[0] - began <= module.TICK_BUDGET_S + 0.004
        assert done[:4] == [3, 6, 9, 10]
        assert client.answer(server) == list(range(11))


def test_a_handler_that_fails_is_answered_and_logged(serve, path, log):
    def fail(request):
        yield "["
        raise ValueError("no such thing")

    server = serve(fail=fail)
    with Client(path) as client:
        for _ in range(2):  # the script stays up, and so does the connection
            client.ask(server, "fail")
            assert client.answer(server) == {"schema": SCHEMA, "error": "failed", "why": "no such thing"}
    assert any("no such thing" in entry for entry in log)


@pytest.mark.parametrize("text", [b"[]", b'{"request"', b"\xff\xfe", b"[" * 100_000])
def test_a_request_that_is_none_is_refused(serve, path, text):
    server = serve()
    with Client(path) as client:
        client.prove(server)
        client.link.sendall(client.peer.sealed(text))
        assert client.answer(server)["error"] == "broken"


def test_who_does_not_listen_is_hung_up_on(serve, path, monkeypatch):
    monkeypatch.setattr(module, "ANSWER_S", 1.0)
    server = serve(large=lambda request: iter(["x" * 30_000_000]), small=lambda request: iter(["1"]))
    with Client(path) as deaf, Client(path) as other:
        deaf.ask(server, "large")
        other.ask(server, "small")
        assert other.answer(server) == 1  # nobody else waits
        until(server, lambda: len(server._clients) == 1)
        other.ask(server, "small")
        assert other.answer(server) == 1


def test_a_request_that_drips_is_hung_up_on(serve, path, monkeypatch):
    monkeypatch.setattr(module, "REQUEST_S", 0.2)
    server = serve(echo=lambda request: iter(["1"]))
    with Client(path) as client:
        client.prove(server)
        until(server, lambda: server._clients)

        sent = []

        def drip():
            time.sleep(0.05)
            with contextlib.suppress(OSError):
                sent.append(client.link.send(b"\0"))  # of its length, and of the proof
            return not server._clients

        until(server, drip)
        assert len(sent) < 40  # it would never have been hung up on before all of that had come


def test_a_large_answer_arrives_whole(serve, path):
    server = serve(large=lambda request: iter(['"', "x" * 5_000_000, '"']))
    with Client(path) as client:
        client.ask(server, "large")
        assert len(client.answer(server)) == 5_000_000


def test_many_of_ours_are_all_answered(serve, path):
    server = serve(echo=lambda request: iter([str(request["n"])]))
    clients = [Client(path) for _ in range(20)]
    for n, client in enumerate(clients):
        client.ask(server, "echo", n=n)
    assert [client.answer(server) for client in clients] == list(range(20))
    for client in clients:
        client.link.close()


# Strangers


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b'{"schema": 1, "token": "0123", "request": "write"}\n',
        b"x" * 3_000_000,
        b"redrum\0" + bytes([SCHEMA]) + bytes(64),
        b"redrum\0\1" + bytes(64),
        (100).to_bytes(8, "little"),
        bytes(8),
        b"\xff" * 8,
    ],
)
def test_a_stranger_is_hung_up_on_and_told_nothing_of_use(serve, path, log, sent):
    server = serve(echo=lambda request: iter(["1"]))
    with connect(path) as link:
        link.settimeout(0.2)
        with contextlib.suppress(OSError):
            link.sendall(sent)
        assert is_hung_up_on(server, link)
    assert [entry for entry in log if "refused" in entry]
    with Client(path) as client:
        client.ask(server, "echo")
        assert client.answer(server) == 1


def test_half_a_handshake_is_hung_up_on_in_time(serve, path, monkeypatch):
    monkeypatch.setattr(module, "PROOF_S", 0.1)
    server = serve()
    for n_bytes in (0, 5, 8, 20, 40, 50):
        with connect(path) as link:
            link.sendall((b"redrum\0" + bytes([SCHEMA]) + bytes(90))[:n_bytes])
            until(server, lambda: server._lobby._queue)
            until(server, lambda: not server._lobby._queue)


def test_a_stranger_who_begins_in_pieces_and_never_ends_takes_little(serve, path):
    hello = b"redrum\0" + bytes([SCHEMA]) + bytes(32 + 32)
    for cut in (1, 3, 8, 11, 39, 40, 43, 71):
        server = serve()
        with connect(path) as link:
            for piece in (hello[:cut], hello[cut:] + b"x" * 200_000):
                link.settimeout(0.1)
                with contextlib.suppress(OSError):
                    link.sendall(piece)
                server.tick()
                until(server, lambda: server._lobby._queue or is_hung_up_on(server, link))  # noqa: B023
            assert is_hung_up_on(server, link), cut
        assert not server._lobby._queue
        server.close()


def test_no_more_is_asked_for_than_is_missing_however_it_comes():
    token, text = "t" * 32, b"a request"
    rng = random.Random(0)
    for _ in range(50):
        server, client = (Peer(token, is_server=is_server, most_bytes=100) for is_server in (True, False))
        way = {server: b"", client: client.greeting()}  # what each has sent and the other not yet received
        is_sent, received = False, None
        while received is None:
            for receiver, sender in ((server, client), (client, server)):
                n_bytes = rng.randint(0, min(receiver.n_missing, len(way[sender])))
                piece, way[sender] = way[sender][:n_bytes], way[sender][n_bytes:]
                way[receiver] += receiver.take(piece)
            if client.is_proven and not is_sent:
                way[client], is_sent = way[client] + client.sealed(text), True
            received = server.message()
        assert received == text
        with pytest.raises(Unproven, match="more bytes"):
            server.take(bytes(server.n_missing + 1))


LITTLE_ROOM = """
import resource, sys, time
resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
from daw_bridge.live.redrum_live.server import Server

server = Server({"echo": lambda request: iter(['{"here": true}'])}, [12, 0, 5], lambda text: None)
server.listen(sys.argv[1], 0)
print("ready", flush=True)
end = time.time() + 60
while time.time() < end:
    server.tick()
    time.sleep(0.03)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no files of a process")
def test_strangers_who_take_all_files_of_the_process_keep_nobody_out(path):
    command = [sys.executable, "-c", LITTLE_ROOM, path]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process, contextlib.ExitStack() as held:
        try:
            assert process.stdout.readline() == b"ready\n"
            for _ in range(200):
                held.enter_context(connect(path))
            for _ in range(2):
                with Connection.open(read_endpoint(path), PATIENCE_S, 999) as connection:
                    connection.send({"request": "echo"}, PATIENCE_S)
                    assert connection.receive(PATIENCE_S) == {"here": True}
        finally:
            process.kill()


def test_strangers_who_hold_connections_keep_nobody_out(serve, path, log):
    server = serve(echo=lambda request: iter(['{"here": true}']))
    with ticking(server), contextlib.ExitStack() as held:
        for n in range(400):
            link = held.enter_context(connect(path))
            with contextlib.suppress(OSError):
                link.sendall(b"redrum"[: n % 7])
        with Connection.open(read_endpoint(path), PATIENCE_S, 999) as connection:
            connection.send({"request": "echo"}, PATIENCE_S)
            assert connection.receive(PATIENCE_S) == {"here": True}
        assert len(server._lobby._queue) <= module.MOST_UNPROVEN
    assert len(log) < 5  # not a line each


FLOOD = """
import socket, sys, time
port, seconds = map(int, sys.argv[1:])
end = time.time() + seconds
while time.time() < end:
    try:
        link = socket.create_connection(("127.0.0.1", port))
        while time.time() < end:
            link.sendall(b"x" * (1 << 20))
    except OSError:
        time.sleep(0.001)
"""


def test_senders_that_never_end_do_not_hold_a_tick(serve, path):
    server = serve()
    port = str(read_endpoint(path)["port"])
    senders = [subprocess.Popen([sys.executable, "-c", FLOOD, port, "3"]) for _ in range(3)]
    busiest_s = 0.0
    while any(sender.poll() is None for sender in senders):
        began_s = time.thread_time()
        server.tick()
        busiest_s = max(busiest_s, time.thread_time() - began_s)
        time.sleep(0.05)
    assert busiest_s < 0.1  # of the processor; it was .3 s and more
    assert [sender.returncode for sender in senders] == [0, 0, 0]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no files of a process")
def test_without_room_for_a_connection_the_server_stays_up(serve, path, log):
    import resource

    server = serve(echo=lambda request: iter(["1"]))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with Client(path) as first, Client(path) as second:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))  # below what is open already
        try:
            for _ in range(50):
                server.tick()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert sum("cannot accept" in entry for entry in log) == 1
        for client in (first, second):
            time.sleep(module._RETRY_S)
            client.ask(server, "echo")
            assert client.answer(server) == 1


def test_what_is_changed_on_the_way_is_not_used(serve, path):
    server = serve(echo=lambda request: iter(['"answer"']))
    with Client(path) as client:
        client.prove(server)
        sealed = client.peer.sealed(b'{"request": "echo"}')
        client.link.sendall(sealed.replace(b"echo", b"ecHo"))
        assert is_hung_up_on(server, client.link)
    with Client(path) as client:
        client.prove(server)
        sealed = client.peer.sealed(b'{"request": "echo"}')
        client.link.sendall(sealed)
        assert client.answer(server) == "answer"
        client.link.sendall(sealed)  # once more
        assert is_hung_up_on(server, client.link)


def test_a_client_uses_nothing_of_who_proves_nothing(path):
    token = new_token()
    received = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        write_endpoint(path, listener.getsockname()[1], token)

        def pretend(own_token):
            link, _ = listener.accept()
            with link:
                peer = Peer(own_token, is_server=True, most_bytes=999)
                try:
                    while not peer.is_proven:
                        received.append(link.recv(peer.n_missing))
                        link.sendall(peer.take(received[-1]))
                        if not received[-1]:
                            return
                except OSError:
                    return
                link.sendall(peer.sealed(b'{"good": 1}').replace(b"good", b"evil"))
                link.recv(999)

        for own_token, error in ((new_token(), Unproven), (token, Unproven)):
            thread = threading.Thread(target=pretend, args=(own_token,))
            thread.start()
            with pytest.raises(error), Connection.open(read_endpoint(path), PATIENCE_S, 999) as connection:
                connection.receive(PATIENCE_S)
            thread.join(PATIENCE_S)
    assert token.encode() not in b"".join(received)


# The endpoint file


def test_the_file_goes_with_the_server_unless_it_is_anothers(serve, path):
    first = serve()
    second = serve()
    token = read_endpoint(path)["token"]
    first.close()
    assert read_endpoint(path)["token"] == token
    second.close()
    assert read_endpoint(path) is None
    second.tick()  # Live may still call


def test_a_server_that_cannot_write_its_file_is_deaf_and_says_so(serve, tmp_path, log):
    (tmp_path / "deep").write_text("in the way")
    server = serve()
    server.tick()
    assert any("cannot listen" in entry for entry in log)


posix_only = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps others out of a user's profile")


@posix_only
def test_the_file_and_its_folder_are_for_this_user_only(path):
    write_endpoint(path, 1, new_token())
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(os.path.dirname(path)).st_mode) == 0o700
    assert os.listdir(os.path.dirname(path)) == ["live.json"]


def linked(path):
    os.rename(path, path + ".real")
    os.symlink(path + ".real", path)


def pipe(path):
    os.remove(path)
    os.mkfifo(path, 0o600)


def folder(path):
    os.remove(path)
    os.mkdir(path, 0o700)


def anothers(path):
    if os.getuid() != 0:
        pytest.skip("only root can give a file away")
    os.chown(path, 65_534, 65_534)


@posix_only
@pytest.mark.parametrize(
    "spoil",
    [
        linked,
        pipe,
        folder,
        anothers,
        lambda path: os.chmod(path, 0o640),
        lambda path: os.chmod(path, 0o602),
    ],
    ids=["link", "pipe", "folder", "another's", "others may read", "others may write"],
)
def test_a_file_that_may_be_anothers_is_not_used(path, spoil):
    token = new_token()
    write_endpoint(path, 1, token)
    spoil(path)
    with pytest.raises(UnsafeFile):
        read_endpoint(path)
    before = os.lstat(path)
    remove_endpoint(path, token)
    assert os.lstat(path) == before


def test_a_file_of_ten_megabytes_is_not_read(path):
    write_endpoint(path, 1, new_token(), more="x" * 2000)
    assert read_endpoint(path)["more"] == "x" * 2000
    with open(path, "r+b") as file:
        file.seek(10_000_000)
        file.write(b"}")
    assert read_endpoint(path) is None


@posix_only
def test_a_file_in_the_place_of_a_planted_link_leaves_what_it_leads_to(tmp_path, path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    os.makedirs(os.path.dirname(path), 0o700)
    os.symlink(victim, path)
    write_endpoint(path, 1, new_token())
    assert victim.read_text() == "mine"
    assert read_endpoint(path)["port"] == 1


@posix_only
def test_a_folder_that_somebody_else_linked_is_not_used(tmp_path, path):
    if os.getuid() != 0:
        pytest.skip("only root can give a link away")
    (tmp_path / "mine").mkdir()
    os.symlink(tmp_path / "mine", os.path.dirname(path))
    os.lchown(os.path.dirname(path), 65_534, 65_534)
    with pytest.raises(UnsafeFile, match="somebody else"):
        write_endpoint(path, 1, new_token())
    assert os.listdir(tmp_path / "mine") == []


# Another user of this machine


def as_another_user(function):
    """Return what a function returns in a process of another user of this machine."""
    readable, writable = os.pipe()
    process = os.fork()
    if not process:
        try:
            os.setgroups([])
            os.setgid(65_534)
            os.setuid(65_534)
            os.write(writable, function().encode())
        except BaseException as err:
            os.write(writable, f"!{err!r}".encode())
        finally:
            os._exit(0)
    os.close(writable)
    with os.fdopen(readable) as file:
        said = file.read()
    os.waitpid(process, 0)
    return said


@posix_only
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_another_user_can_neither_read_the_file_nor_ask(serve, path, tmp_path):
    if os.getuid() != 0:
        pytest.skip("only root can be another user")
    server = serve(echo=lambda request: iter(["1"]))
    for parent in (tmp_path, *list(tmp_path.parents)[:3]):
        parent.chmod(parent.stat().st_mode | 0o711)  # what keeps them out is not pytest's own folder
    port = read_endpoint(path)["port"]
    connect(path).close()  # so that the other user need not load a module that only we may read
    assert "PermissionError" in as_another_user(lambda: Path(path).read_text())

    def ask():
        endpoint = {"port": port, "token": new_token()}
        try:
            with Connection.open(endpoint, 10.0, 999) as connection:
                connection.send({"request": "echo"}, 10.0)
                return str(connection.receive(10.0))
        except Unproven:
            return "refused"

    with ticking(server):
        assert as_another_user(ask) == "refused"
    planted = tmp_path / "planted.json"
    planted.touch()
    os.chown(planted, 65_534, 65_534)
    with pytest.raises(UnsafeFile, match="somebody else"):
        read_endpoint(str(planted))
