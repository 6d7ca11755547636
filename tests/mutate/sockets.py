"""Both sockets as formats: what is mutated is a conversation with the helper, or with the script in Live.

An input says who talks: the real client through a relay that harms what passes, in both directions, whatever
they say to each other; somebody without a token, to the server; or somebody on its port, who answers the
client. After each, the server must answer the real client. Both run here, in threads, and wait a sixtieth of
their time.
"""

import importlib
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from random import Random
from types import ModuleType

from tests.mutate.faults import STRANGE, harm
from tests.mutate.formats import Format
from tests.mutate.sandbox import Sandbox

PATIENCE_S = 6.0  # that a server may take until it answers again
_TICK_CPU_S = 0.25  # of a tick of Live's timer, which may last 20 ms: a slow machine is no fault
_SHORTER = 1 / 60
_LOCAL = "127.0.0.1"
_HTTP = "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://evil.example\r\n\r\n"
_SAID = (
    *(
        "",
        "\n",
        "{}\n",
        "[]\n",
        "null\n",
        "1e999\n",
        "\xff\xfe\n",
        "[" * 9999 + "\n",
        '{"a":' * 9999 + "\n",
        _HTTP,
    ),
    *('{"nonce": 1}\n', '{"nonce": "00", "proof": ""}\n', '{"want": "stop"}\n'),
    '{"nonce": "\\udc80", "proof": "\\udc80", "want": "job"}\n',
    '{"schema": 1, "request": "look"}\n',
    '{"schema": 1, "token": "x", "request": "gather"}\n',
)


class _Server:
    """One of the two servers, running, and its client."""

    def __init__(self, folder: Path, modules: Sequence[ModuleType]) -> None:
        self._folder = folder  # that its endpoint file lies in, somewhere
        for module in modules:
            _hurry(module)

    def start(self) -> None:
        raise NotImplementedError

    def is_running(self) -> bool:
        raise NotImplementedError

    def ask(self, what: str) -> object:
        """Have the real client ask something."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise AssertionError if the last conversation did harm."""

    def endpoint(self) -> tuple[Path, dict[str, object]]:
        """Return the file that says where it listens, and what it says."""
        for path in self._folder.rglob("*.json"):
            with suppress(OSError, ValueError):
                found = json.loads(path.read_text(encoding="utf-8"))
                if isinstance(found, dict) and "port" in found:
                    return path, found
        raise AssertionError("the server has no endpoint file")

    def stays(self) -> None:
        """Start it again if it was told to end and has done so, or is about to."""
        give_up_s = time.monotonic() + PATIENCE_S
        while self.is_running() and not self._has_endpoint() and time.monotonic() < give_up_s:
            time.sleep(0.02)
        if not self.is_running():
            self.start()
            assert self.answers(), "the server never answers"

    def _has_endpoint(self) -> bool:
        with suppress(AssertionError):
            return bool(self.endpoint())
        return False

    def answers(self) -> bool:
        give_up_s = time.monotonic() + PATIENCE_S
        while True:
            with suppress(Exception):
                if self.ask("look"):
                    return True
            if time.monotonic() > give_up_s or not self.is_running():
                return False
            time.sleep(0.05)


class _Helper(_Server):
    """The helper that keeps models loaded."""

    def __init__(self, sandbox: Sandbox) -> None:
        from daw_bridge import helper, warm

        super().__init__(sandbox.inside / "data", [helper, warm])
        subprocess.Popen = _no_program  # another helper, where this one does not answer
        self._folder.mkdir(exist_ok=True)
        self._job = sandbox.inside / "jobs" / "1.json"
        self._job.parent.mkdir(exist_ok=True)
        self._thread = threading.Thread()

    def start(self) -> None:
        from daw_bridge.helper import Helper

        helper = Helper(self._folder, 3600.0)
        self._thread = threading.Thread(target=helper.run, daemon=True)
        self._thread.start()

    def is_running(self) -> bool:
        return self._thread.is_alive()

    def ask(self, what: str) -> object:
        from daw_bridge import warm

        if what != "job":
            return warm.look(what)
        self._job.write_text(json.dumps({"schema": 1, "order": {}, "facts": {}}))
        return warm.hand_over(str(self._job))


class _Live(_Server):
    """The script in a stand-in for Live, which ticks."""

    def __init__(self, sandbox: Sandbox) -> None:
        import soundfile

        from daw_bridge.live import running as ableton
        from tests.daw_bridge import stand_in_live, test_ableton
        from tests.daw_bridge.live_worlds import SCRIPTS

        home = sandbox.inside / "home"
        home.mkdir(exist_ok=True)
        os.environ.update(dict.fromkeys(("HOME", "USERPROFILE", "LOCALAPPDATA"), str(home)))
        sys.path.insert(0, str(SCRIPTS))
        script = importlib.import_module("redrum_live")
        super().__init__(home, [ableton, importlib.import_module("redrum_live.server")])
        (sandbox.inside / "song").mkdir(exist_ok=True)
        self._file = file = sandbox.inside / "song" / "loop.wav"
        soundfile.write(file, [0.0] * 44_100, 44_100)
        audio, midi = test_ableton.audio(file), test_ableton.midi([(0.0, 36, {}), (1.0, 38, {})])
        tracks = [{"name": "drums", "items": [audio, test_ableton.warped(file, 110.0)], "is_selected": True}]
        tracks.append({"name": "rhythm", "items": [midi], "pads": {"36": "Kick"}})
        scene = {
            "path": str(sandbox.inside / "song" / "song.als"),
            "bpm": 120.0,
            "tracks": tracks,
            "loop": [0.0, 8.0],
        }
        self._make = lambda: stand_in_live.Live(scene, script.create_instance)
        self._live, self._thread = None, threading.Thread()

    def start(self) -> None:
        self._live = self._make()
        self._thread = threading.Thread(target=self._tick, daemon=True)
        self._thread.start()

    def _tick(self) -> None:
        while True:
            self._live.tick()
            time.sleep(0.002)

    def is_running(self) -> bool:
        return self._thread.is_alive()

    def ask(self, what: str) -> object:
        from daw_bridge.live.running import LiveSession
        from daw_bridge.session import FinishedTake

        session = LiveSession.connect("loop", timeout_s=0.3)
        if what == "look":
            return session.look()
        job = session.collect()
        if what == "write":
            chosen = [item for item in job.items if item.is_selected and item.kind == "audio"]
            about = {"file": self._file, "name": "take", "length_s": 1.0, "n_channels": 1}
            session.write_back(job, [FinishedTake(source=item, **about) for item in chosen])
        return job

    def check(self) -> None:
        _, busiest_s = self._live.on_stall()
        assert busiest_s < _TICK_CPU_S, f"a tick of Live worked for {busiest_s:.2f} s"


def _no_program(*_: object, **__: object) -> None:
    raise PermissionError("no programs are started here")


def _hurry(module: ModuleType) -> None:
    """Make what a module waits for shorter: its constants in seconds."""
    for name, value in list(vars(module).items()):
        if name.isupper() and name.endswith("_S") and isinstance(value, float | int) and value >= 1:
            setattr(module, name, max(0.15, value * _SHORTER))


_RUNNING: dict[str, _Server] = {}


def _begin(name: str, make: Callable[[Sandbox], _Server], sandbox: Sandbox) -> None:
    import resource

    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    _RUNNING[name] = make(sandbox)
    _RUNNING[name].start()
    assert _RUNNING[name].answers(), "the server never answers"


# --- conversations ---

_ASKED = {"helper": ("look", "job", "job", "stop"), "live": ("look", "gather", "gather", "write")}
_FAULTS = (
    "harm",
    "harm",
    "json",
    "json",
    "cut",
    "drop",
    "twice",
    "drip",
    "garbage",
    "huge",
    "close",
    "pause",
    "before",
)


def _seeds(name: str) -> list[bytes]:
    found = [{"who": "relay", "ask": what, "up": [], "down": []} for what in sorted(set(_ASKED[name]))]
    found += [
        {"who": who, "ask": "look", "steps": [["say", text]]}
        for who in ("stranger", "squatter")
        for text in _SAID
    ]
    return [json.dumps(script).encode() for script in found]


def _mutate(name: str, chance: Random, data: bytes, other: bytes) -> bytes:
    script = json.loads(data)
    script["ask"] = chance.choice(_ASKED[name])
    if script["who"] == "relay":
        for way in chance.choice([("up",), ("down",), ("up", "down")]):
            faults = script[way][:6]
            at = chance.randint(0, 3)
            faults += [["pass"]] * (at - len(faults))
            faults[at : at + 1] = [[chance.choice(_FAULTS), chance.randrange(2**31)]]
            script[way] = faults
        return json.dumps(script).encode()
    steps = script["steps"]
    for _ in range(chance.choice([1, 1, 2, 3])):
        at = chance.randint(0, len(steps))
        match chance.choice(
            ["say", "say", "say", "garbage", "huge", "drip", "hear", "pause", "flood", "half", "gone"]
        ):
            case "say":
                steps.insert(at, ["say", _worded(chance, chance.choice(_SAID))])
            case "gone":
                del steps[at : at + 1]
            case what:
                steps.insert(at, [what, chance.randrange(2**31)])
    script["steps"] = steps[:8]
    return json.dumps(script).encode()


def _worded(chance: Random, text: str) -> str:
    if chance.random() < 0.4:
        return text
    return harm(chance, text.encode("latin-1") or b"\n", is_text=True).decode("latin-1")


def _read(name: str, data: bytes, sandbox: Sandbox) -> str:
    server = _RUNNING[name]
    script = json.loads(data)
    before = set(threading.enumerate())
    server.stays()
    path, endpoint = server.endpoint()
    try:
        became = {"relay": _relayed, "stranger": _strange, "squatter": _squatted}[script["who"]](server, script)
    finally:
        if server.is_running():
            _write(path, endpoint)
    assert server.answers() or not server.is_running(), "the server does not answer any more"
    server.check()
    for thread in set(threading.enumerate()) - before:
        thread.join(0.01)
    return f"{script['who']}, {became}"


def _write(path: Path, endpoint: dict[str, object]) -> None:
    """Write an endpoint file at once: a server that finds it cut short ends."""
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps(endpoint))
    os.chmod(temporary, 0o600)
    os.replace(temporary, path)


def _relayed(server: _Server, script: dict[str, object]) -> str:
    path, endpoint = server.endpoint()
    with ExitStack() as stack:
        relay = _Relay(int(endpoint["port"]), {"up": script["up"], "down": script["down"]})
        stack.callback(relay.close)
        _write(path, {**endpoint, "port": relay.port})
        return _asked(server, script)


def _asked(server: _Server, script: dict[str, object]) -> str:
    """Have the client ask; return how it ended, as what it may say: an answer, no answer or a sentence."""
    from transform.errors import RedrumError

    try:
        return f"{script['ask']}, {type(server.ask(script['ask'])).__name__}"
    except RedrumError as err:
        return f"{script['ask']}, {type(err).__name__}"


def _strange(server: _Server, script: dict[str, object]) -> str:
    _, endpoint = server.endpoint()
    links: list[socket.socket] = []
    try:
        for what, argument in script["steps"]:
            with suppress(OSError):
                if not links:
                    links.append(socket.create_connection((_LOCAL, int(endpoint["port"])), timeout=0.5))
                if what == "flood":
                    for _ in range(argument % 700):
                        links.append(socket.create_connection((_LOCAL, int(endpoint["port"])), timeout=0.5))
                else:
                    _do(links[0], what, argument)
    finally:
        for link in links:
            link.close()
    return ", ".join(sorted({what for what, _ in script["steps"]}))


def _squatted(server: _Server, script: dict[str, object]) -> str:
    """Take the server's place, as on the port that a file of a dead one names."""
    path, endpoint = server.endpoint()
    with socket.create_server((_LOCAL, 0)) as listener:
        _write(path, {**endpoint, "port": listener.getsockname()[1]})
        heard: list[bytes] = []
        threading.Thread(target=_squat, args=(listener, script["steps"], heard), daemon=True).start()
        became = _asked(server, script)
    token = str(endpoint.get("token", "no token")).encode()
    assert token not in b"".join(heard), "the token was told to a stranger"
    return became


def _squat(listener: socket.socket, steps: Sequence[tuple[str, object]], heard: list[bytes]) -> None:
    with suppress(OSError):
        while True:
            link, _ = listener.accept()
            with link, suppress(OSError):
                link.settimeout(0.1)
                with suppress(OSError):
                    heard.append(link.recv(2**16))
                for what, argument in steps:
                    _do(link, what, argument)


def _do(link: socket.socket, what: str, argument: object) -> None:
    chance = Random(str(argument))
    match what:
        case "say":
            link.sendall(str(argument).encode("latin-1", "replace"))
        case "garbage":
            link.sendall(chance.randbytes(chance.choice([1, 8, 100, 70_000])))
        case "huge":
            link.sendall(
                chance.choice([b"x", b"\n", b"[", b'{"a":', b"\0", b"{}\n"]) * chance.choice([10**4, 10**6])
            )
        case "drip":
            _drip(link, b'{"nonce": "' + b"x" * 30)
        case "hear":
            link.recv(2**16)
        case "pause":
            time.sleep(chance.choice([0.01, 0.05, 0.3]))
        case "half":
            link.shutdown(socket.SHUT_WR)


def _drip(link: socket.socket, data: bytes) -> None:
    for n in range(min(len(data), 10)):
        link.sendall(data[n : n + 1])
        time.sleep(0.02)
    link.sendall(data[10:])


class _Relay:
    """Between a client and a server: hands over what they say, with faults in it."""

    def __init__(self, port: int, faults: dict[str, list[list[object]]]) -> None:
        self._target = port
        self._faults = {way: list(listed) for way, listed in faults.items()}
        self._links: list[socket.socket] = []
        self._listener = socket.create_server((_LOCAL, 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for link in (self._listener, *self._links):
            with suppress(OSError):
                link.shutdown(socket.SHUT_RDWR)
            link.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((_LOCAL, self._target), timeout=5)
                self._links += [client, server]
                for way, source, target in (("up", client, server), ("down", server, client)):
                    threading.Thread(target=self._pump, args=(way, source, target), daemon=True).start()

    def _pump(self, way: str, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(2**20):
                what, *argument = self._faults[way].pop(0) if self._faults[way] else ["pass"]
                self._hand_over(target, data, str(what), Random(str(argument)))
        with suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def _hand_over(self, target: socket.socket, data: bytes, what: str, chance: Random) -> None:
        match what:
            case "harm":
                data = harm(chance, data, is_text=chance.random() < 0.7)
            case "json":
                data = _json_mutated(chance, data)
            case "cut":
                data = data[: chance.randrange(len(data))]
            case "drop":
                return
            case "twice":
                data *= chance.choice([2, 3, 1000])
            case "drip":
                return _drip(target, data)
            case "garbage":
                data = chance.randbytes(chance.choice([1, 40, 70_000]))
            case "huge":
                data = data.rstrip(b"\n}") + b"x" * chance.choice([10**5, 10**7]) + b"\n"
            case "close":
                return target.shutdown(socket.SHUT_RDWR)
            case "pause":
                time.sleep(chance.choice([0.03, 0.3]))
            case "before":
                data = chance.choice(_SAID).encode("latin-1") + data
        target.sendall(data)


def _json_mutated(chance: Random, data: bytes) -> bytes:
    """Return a message with another value in the place of one."""
    try:
        message = json.loads(data)
        place, key = message, chance.choice(list(message))
        while isinstance(place[key], dict | list) and place[key] and chance.random() < 0.85:
            place = place[key]
            key = chance.choice(list(place)) if isinstance(place, dict) else chance.randrange(len(place))
    except (ValueError, LookupError, TypeError):
        return harm(chance, data, is_text=True)
    if chance.random() < 0.2:
        del place[key]
    else:
        strange = (None, True, -1, 0, 0.5, 10**30, 1e308, math.nan, math.inf, [], {}, [[]], "a", *STRANGE)
        place[key] = (
            chance.choice(strange) if chance.random() < 0.8 else [place[key]] * chance.choice([2, 1000, 10**5])
        )
    return json.dumps(message).encode() + b"\n"


def _format(name: str, make: Callable[[Sandbox], _Server]) -> Format:
    return Format(
        name=name,
        seeds=lambda: _seeds(name),
        mutate=lambda chance, data, other: _mutate(name, chance, data, other),
        read=lambda data, sandbox: _read(name, data, sandbox),
        begin=lambda sandbox: _begin(name, make, sandbox),
    )


HELPER, LIVE = _format("helper", _Helper), _format("live", _Live)
