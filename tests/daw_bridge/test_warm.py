"""The helper that keeps models loaded, in real processes: what the action's command does with it and without.

All but the last test run jobs without models, see `jobs_without_models`.
"""

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import soundfile

from daw_bridge import helper as helper_module
from daw_bridge import warm
from daw_bridge.action_install import check_helper
from daw_bridge.connection import Connection
from daw_bridge.helper import Helper
from daw_bridge.job_files import JobFiles
from daw_bridge.live.redrum_live.endpoint import write_endpoint
from daw_bridge.live.redrum_live.handshake import SCHEMA, Peer, new_token
from transform.library import demo_recordings

ROOT = Path(__file__).resolve().parents[2]
RUN_JOB = [sys.executable, "-P", "-m", "daw_bridge", "reaper", "run-job"]
PATIENCE_S = 120.0


def until(is_so):
    """Wait until something is so, and return it."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not (found := is_so()):
        assert time.monotonic() < give_up_s, "it never came"
        time.sleep(0.02)
    return found


class Studio:
    """A user's folders, jobs in them, and the processes that do them."""

    def __init__(self, folder, stand_in=True):
        self.data, self.folder = folder / "dätä 音", folder / "jöbs of REAPER"
        self.folder.mkdir()
        paths = [str(ROOT / "tests" / "daw_bridge" / "jobs_without_models")] * stand_in + [str(ROOT)]
        self.environment = os.environ | {
            "REDRUM_DATA": str(self.data),
            "REDRUM_HELPER_MINUTES": "5",
            "PYTHONPATH": os.pathsep.join(paths),
            "OMP_NUM_THREADS": "1",
        }
        self.started, self.helpers = [], set()

    def job(self, what, **more):
        files = JobFiles(self.folder / f"jöb {len(list(self.folder.glob('*.json')))}.json")
        files.job.write_text(json.dumps({"do": what, **more}))
        return files

    def start(self, files):
        """Start the action's command, and return its process."""
        process = subprocess.Popen(
            [*RUN_JOB, files.job.name],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        self.started.append(process)
        return process

    def end(self, process):
        """Wait for a command; return its exit code and what it said, but for what goes to the log as well."""
        said, errors = process.communicate(timeout=PATIENCE_S)
        logged = ("DEBUG: ", "INFO: ")
        errors = "".join(line for line in errors.splitlines(keepends=True) if not line.startswith(logged))
        assert said == ""
        if found := self.endpoint():
            self.helpers.add(found["pid"])
        return process.returncode, errors

    def run(self, what="answer"):
        """Do a job; return who did it."""
        files = self.job(what)
        process = self.start(files)
        assert self.end(process) == (0, "")
        (worker,) = begun(files)
        assert read(files.result)["process"] == worker
        return "itself" if worker == process.pid else worker

    def endpoint(self):
        return warm.read_endpoint(str(self.data))

    def close(self):
        for process in self.started:
            process.kill()
            process.communicate()
        self.kill_helper()
        for number in self.helpers:
            kill(number)

    def kill_helper(self):
        """Kill the helper that the endpoint file names, if it is there."""
        if found := self.endpoint():
            self.helpers.add(found["pid"])
            kill(found["pid"])


def kill(number):
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(number)
        if "daw_bridge.helper" in " ".join(process.cmdline()):
            process.kill()
            gone(number)


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def begun(files):
    """Return the processes that began a job."""
    path = files.job.with_suffix(".begun")
    return [int(line) for line in path.read_text().splitlines()] if path.exists() else []


def gone(number):
    """Wait until a process has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(number)
        until(lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE)


@pytest.fixture
def studio(tmp_path):
    made = Studio(tmp_path)
    yield made
    made.close()


# Which process does a job


def test_the_second_job_goes_to_the_helper_of_the_first(studio):
    first = studio.run()
    assert first == studio.endpoint()["pid"]
    assert studio.run() == first
    assert stat_mode(warm.endpoint_path(str(studio.data))) == 0o600
    assert stat_mode(studio.data / "helper.lock") == 0o600
    assert stat_mode(studio.data) in (0o700, 0o600)


def stat_mode(path):
    return os.stat(path).st_mode & 0o777 if sys.platform != "win32" else 0o600


def test_handing_over_loads_next_to_nothing(studio):
    studio.run()
    code = "import sys; from daw_bridge.__main__ import main\ntry: main()\nfinally: print(*sys.modules)"
    command = [sys.executable, "-P", "-c", code, "reaper", "run-job", str(studio.job("answer").job)]
    done = subprocess.run(command, env=studio.environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    heavy = {"torch", "numpy", "typer", "rich", "importlib.metadata", "logging", "subprocess", "psutil"}
    assert not set(done.stdout.split()) & heavy


def test_a_job_is_done_where_its_command_was_started(studio):
    files = studio.job("answer")
    assert studio.end(studio.start(files)) == (0, "")
    assert Path(read(files.result)["message"]) == studio.folder
    helper = psutil.Process(studio.endpoint()["pid"])
    until(lambda: Path(helper.cwd()) == studio.data)  # the job's folder may be moved again


def test_two_at_once_have_one_helper_and_queue(studio):
    jobs = [studio.job("wait"), studio.job("wait")]
    processes = [studio.start(files) for files in jobs]
    until(lambda: all(files.progress.exists() for files in jobs) and any(map(begun, jobs)))
    first, second = sorted(jobs, key=begun, reverse=True)
    beat = read(second.progress)["beat"]
    until(lambda: read(second.progress)["beat"] > beat)  # it shows that it lives, but it waits
    assert begun(second) == []
    for files in jobs:
        files.job.with_suffix(".go").touch()
    assert [studio.end(process) for process in processes] == [(0, "")] * 2
    assert begun(first) == begun(second) == [studio.endpoint()["pid"]]


def test_what_waits_can_be_cancelled(studio):
    jobs = [studio.job("wait"), studio.job("wait")]
    first = studio.start(jobs[0])
    until(lambda: begun(jobs[0]))
    second = studio.start(jobs[1])
    until(jobs[1].progress.exists)
    jobs[1].cancel.touch()
    jobs[0].job.with_suffix(".go").touch()
    assert studio.end(first) == (0, "")
    assert studio.end(second)[0] == warm.CANCELLED
    assert read(jobs[1].result)["status"] == "cancelled"
    assert begun(jobs[1]) == []


# Endpoint files that are of no use


def test_an_endpoint_file_whose_helper_was_killed_is_replaced(studio):
    first = studio.run()
    kill(first)
    assert studio.endpoint()["pid"] == first
    assert studio.run() not in (first, "itself")


def put_endpoint(folder, endpoint, **changed):
    about = {**endpoint, **changed}
    write_endpoint(
        warm.endpoint_path(str(folder)), about["port"], about["token"], build=about["build"], pid=about["pid"]
    )


def test_a_helper_of_another_version_is_replaced(studio):
    first = studio.run()
    put_endpoint(studio.data, studio.endpoint(), build="of another version")
    assert studio.run() not in (first, "itself")
    gone(first)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        f'{{"schema": {SCHEMA}, "port": 0, "token": "00000000000000000000000000000000", "build": "x"}}',
        f'{{"schema": {SCHEMA}, "port": 80, "token": "short", "build": "x"}}',
        f'{{"schema": {SCHEMA}, "port": true, "token": "00000000000000000000000000000000", "build": "x"}}',
        f'{{"schema": {SCHEMA}, "port": 99999, "token": "00000000000000000000000000000000", "build": "x"}}',
        '{"schema": 1, "port": 80, "token": "00000000000000000000000000000000", "build": "x"}',
        "[" * 9999,
    ],
)
def test_an_endpoint_file_that_says_nothing_is_replaced(studio, text):
    studio.data.mkdir()
    path = Path(warm.endpoint_path(str(studio.data)))
    path.write_text(text)
    path.chmod(0o600)
    assert studio.endpoint() is None
    if text in ("{", ""):
        assert studio.run() == studio.endpoint()["pid"]


# Strangers at the helper's port


def test_who_does_not_know_the_token_gets_no_job_done(studio):
    helper = studio.run()
    endpoint = studio.endpoint()
    victim = studio.job("answer")
    request = {"want": "job", "job": str(victim.job), "folder": str(studio.folder)}
    with pytest.raises(OSError, match=r"proof of the token"):
        warm._requested(endpoint | {"token": "0" * 64}, request)
    for sent in (b"\n", b"GET / HTTP/1.1\r\n\r\n", b'{"want": "stop"}\n', b"x" * 999_999, b"\xff" * 8):
        assert answer(endpoint, sent) == b""
    assert begun(victim) == []
    assert studio.run() == helper


def answer(endpoint, sent):
    """Return what the helper says to bytes."""
    link = socket.create_connection(("127.0.0.1", endpoint["port"]), timeout=PATIENCE_S)
    with link, contextlib.suppress(OSError):
        link.sendall(sent)
        link.shutdown(socket.SHUT_WR)
        return link.recv(2**16)
    return b""


def test_a_proof_is_good_once_and_the_token_is_not_sent(studio):
    studio.run()
    endpoint = studio.endpoint()
    sent, received = [], []
    with socket.create_connection(("127.0.0.1", endpoint["port"]), timeout=PATIENCE_S) as link:
        peer = Peer(endpoint["token"], is_server=False, most_bytes=9999)
        sent.append(peer.greeting())
        link.sendall(sent[-1])
        while not peer.is_proven:
            received.append(link.recv(peer.n_missing))
            sent.append(peer.take(received[-1]))
            link.sendall(sent[-1])
        sent.append(peer.sealed(b'{"want": "stop"}'))  # kept back
    for told in (sent, received):
        assert endpoint["token"].encode() not in b"".join(told)
        assert bytes.fromhex(endpoint["token"]) not in b"".join(told)
    replayed = b"".join(sent)
    with socket.create_connection(("127.0.0.1", endpoint["port"]), timeout=PATIENCE_S) as link:
        link.sendall(replayed)
        with contextlib.suppress(OSError):
            assert len(b"".join(iter(lambda: link.recv(999), b""))) == len(b"".join(received))  # hung up on
    assert warm_look(studio)["pid"] == endpoint["pid"]


def warm_look(studio):
    """Return what the helper of a studio says of itself."""
    connection, found = warm._requested(studio.endpoint(), {"want": "look"})
    connection.close()
    return found


@pytest.mark.skipif(sys.platform == "win32", reason="Windows limits no files of a process")
def test_strangers_who_hold_connections_keep_nobody_out(studio):
    limit = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)); "
    files = studio.job("answer")
    command = [sys.executable, "-P", "-c", limit + "from daw_bridge.__main__ import main; main()"]
    command += ["reaper", "run-job", str(files.job)]
    subprocess.run(command, cwd=studio.folder, env=studio.environment, check=True, timeout=PATIENCE_S)
    helper = psutil.Process(studio.endpoint()["pid"])
    with contextlib.ExitStack() as held:
        for n in range(400):
            link = held.enter_context(socket.create_connection(("127.0.0.1", studio.endpoint()["port"])))
            with contextlib.suppress(OSError):
                link.send(b"redrum"[: n % 7])
        assert studio.run() == helper.pid
        before_s = sum(helper.cpu_times()[:2])
        time.sleep(1.0)
        assert sum(helper.cpu_times()[:2]) - before_s < 0.7  # it does not spin
        assert helper.num_threads() < 30
        assert studio.run() == helper.pid


@pytest.fixture
def squatter(studio):
    """Return a function that listens in the place of a killed helper, and what it was sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sent = []

        def squat(talk):
            def attend():
                with contextlib.suppress(OSError):
                    while True:
                        link, _ = listener.accept()
                        threading.Thread(target=one, args=(link,), daemon=True).start()

            def one(link):
                with contextlib.suppress(OSError), link:
                    talk(link, sent)

            threading.Thread(target=attend, daemon=True).start()
            studio.data.mkdir()
            endpoint = {"port": listener.getsockname()[1], "token": new_token(), "pid": 1}
            put_endpoint(studio.data, endpoint | {"build": build_there(studio)})

        yield squat, sent
        listener.shutdown(socket.SHUT_RDWR)


def drips(link, sent):
    while True:
        link.sendall(b"r")
        time.sleep(0.3)


def repeats(link, sent):
    while data := link.recv(999):
        sent.append(data)
        link.sendall(data)


def hangs_up(link, sent):
    sent.append(link.recv(999))


@pytest.mark.parametrize("talk", [drips, pytest.param(repeats, marks=pytest.mark.slow), hangs_up])
def test_a_stranger_in_a_helpers_place_gets_no_job(studio, squatter, talk):
    squat, sent = squatter
    squat(talk)
    assert studio.run() == studio.endpoint()["pid"]
    assert b"want" not in b"".join(sent)
    assert str(studio.folder).encode() not in b"".join(sent)


def build_there(studio):
    """Return the build id of the commands that a studio starts."""
    code = "from daw_bridge.warm import build_id; print(build_id())"
    command = [sys.executable, "-P", "-c", code]
    return subprocess.check_output(command, env=studio.environment, text=True).strip()


def test_every_change_of_redrum_is_another_build(tmp_path, monkeypatch):
    for name in (
        "daw_bridge/warm.py",
        "daw_bridge/live/redrum_live/server.py",
        "daw_bridge/reaper/running.py",
        "daw_bridge/ardour/facts.py",
        "transform/engine.py",
        "presets/default/preset.toml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("one")
    monkeypatch.setattr(warm, "__file__", str(tmp_path / "daw_bridge" / "warm.py"))
    before = warm.build_id()
    assert before == warm.build_id()
    changed = {before}
    (tmp_path / "transform" / "engine.py").write_text("other")
    changed.add(warm.build_id())
    (tmp_path / "daw_bridge" / "live" / "redrum_live" / "server.py").write_text("other")
    changed.add(warm.build_id())
    os.utime(tmp_path / "presets" / "default" / "preset.toml", ns=(1, 1))
    changed.add(warm.build_id())
    monkeypatch.setattr(sys, "version", "3.99")
    changed.add(warm.build_id())
    assert len(changed) == 5


# No helper


def test_without_a_folder_for_the_helper_jobs_are_done_without(studio, tmp_path):
    (tmp_path / "file").touch()
    studio.environment["REDRUM_DATA"] = str(tmp_path / "file" / "data")
    files = studio.job("answer")
    process = studio.start(files)
    code, said = studio.end(process)
    assert (code, begun(files)) == (0, [process.pid])
    assert said.startswith("WARNING: there is no log file")


def test_where_a_helper_cannot_work_jobs_are_done_without(studio):
    (studio.data / "helper.lock").mkdir(parents=True)
    assert studio.run() == "itself"
    assert studio.endpoint() is None


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pipes in folders")
def test_a_lock_that_is_no_file_of_ours_is_not_waited_for(studio):
    studio.data.mkdir()
    os.mkfifo(studio.data / "helper.lock", 0o600)
    assert studio.run() == "itself"
    (studio.data / "helper.lock").unlink()
    (studio.data / "mine").write_text("mine")
    (studio.data / "helper.lock").symlink_to(studio.data / "mine")
    assert studio.run() == "itself"
    assert (studio.data / "mine").read_text() == "mine"


def test_the_helper_can_be_turned_off(studio):
    studio.environment["REDRUM_HELPER_MINUTES"] = "0"
    assert studio.run() == "itself"
    assert not studio.data.joinpath("helper.lock").exists()


@pytest.mark.parametrize(
    ("said", "minutes"), [("2.5", 2.5), ("0", 0), ("-1", 0), ("nan", 0), ("soon", warm.KEEP_MINUTES)]
)
def test_how_long_a_helper_waits(monkeypatch, said, minutes):
    monkeypatch.setenv("REDRUM_HELPER_MINUTES", said)
    assert warm.keep_minutes() == minutes


@pytest.fixture
def helped_by(tmp_path, monkeypatch):
    """Return a function that lets another one be the helper; none can be started."""
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path))
    monkeypatch.delenv("REDRUM_HELPER_MINUTES", raising=False)
    monkeypatch.setattr(warm, "_started", lambda folder: (_ for _ in ()).throw(OSError("forbidden")))
    monkeypatch.setattr(warm, "_LOOK_S", 0.02)
    token = new_token()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        put_endpoint(tmp_path, {"port": port, "token": token, "pid": 1, "build": warm.build_id()})
        threads = []

        def answer_with(talk):
            def attend():
                link, _ = listener.accept()
                peer = Peer(token, is_server=True, most_bytes=9999)
                with contextlib.suppress(OSError), Connection(link, peer) as connection:
                    connection._prove(time.monotonic() + PATIENCE_S)
                    talk(connection)

            threads.append(threading.Thread(target=attend))
            threads[-1].start()

        yield answer_with
        for thread in threads:
            thread.join(PATIENCE_S)


def test_a_helper_that_says_nothing_gets_no_job(helped_by, monkeypatch):
    monkeypatch.setattr(warm, "ANSWER_S", 0.1)
    received = []
    helped_by(lambda connection: (connection.wait_for_end(), received.append("end")))
    assert warm.hand_over("job.json") is None
    until(lambda: received)


def test_a_helper_that_does_not_heed_a_cancelled_job_is_left(helped_by, monkeypatch, tmp_path):
    monkeypatch.setattr(warm, "_CANCEL_S", 0.1)
    cancel = tmp_path / "job.cancel"

    def talk(connection):
        assert connection.receive(PATIENCE_S)["job"] == str(tmp_path / "job.json")
        files = {"result": str(tmp_path / "job.result.json"), "cancel": str(cancel)}
        connection.send(files, PATIENCE_S)
        assert connection.receive(PATIENCE_S) == {"want": "go"}
        cancel.touch()
        connection.wait_for_end()

    helped_by(talk)
    assert warm.hand_over(str(tmp_path / "job.json")) == (warm.CANCELLED, [])


# What happens in the middle of a job


def test_a_helper_whose_job_does_not_end_ends_with_it(studio):
    files = studio.job("be deaf")
    process = studio.start(files)
    (helper,) = until(lambda: begun(files))
    waiting = studio.job("answer")
    second = studio.start(waiting)
    until(waiting.progress.exists)
    process.kill()
    gone(helper)
    assert studio.end(second) == (0, "")  # the command does what waited
    assert begun(waiting) == [second.pid]


def test_the_helper_dies_and_the_job_is_done_nevertheless(studio):
    files = studio.job("wait")
    process = studio.start(files)
    (helper,) = until(lambda: begun(files))
    kill(helper)
    until(lambda: len(begun(files)) == 2)
    files.job.with_suffix(".go").touch()
    assert studio.end(process) == (0, "")
    assert begun(files) == [helper, process.pid]
    assert read(files.result)["process"] == process.pid


def test_the_helper_dies_and_a_result_stays(studio):
    files = studio.job("hang on")
    process = studio.start(files)
    until(files.result.exists)
    (helper,) = begun(files)
    kill(helper)
    assert studio.end(process) == (0, "")
    assert begun(files) == [helper]
    assert read(files.result)["process"] == helper


def test_the_helper_dies_at_any_moment(studio, happened):
    chance = random.Random(0 if happened.many is None else os.getpid())
    began_s = time.monotonic()
    assert studio.run("work") != "itself"
    span_s = time.monotonic() - began_s
    for _ in range(happened.many or 4):
        files = studio.job("work")
        process = studio.start(files)
        time.sleep(chance.uniform(0, 1.2 * span_s))
        studio.kill_helper()
        assert studio.end(process) == (0, "")
        workers = begun(files)
        assert read(files.result)["process"] == workers[-1]
        assert len(workers) == 1 or process.pid in workers[1:]
        how = "begun again" if len(workers) > 1 else "done by the command" * (workers[0] == process.pid)
        happened("killed, the helper of REAPER's action", how or "done by the helper", 1)


def test_a_job_can_be_cancelled_and_the_helper_stays(studio):
    files = studio.job("wait")
    process = studio.start(files)
    (helper,) = until(lambda: begun(files))
    files.cancel.touch()
    code, said = studio.end(process)
    assert (code, said) == (warm.CANCELLED, "redrum: interrupted\n")
    assert read(files.result)["status"] == "cancelled"
    assert studio.run() == helper


def test_a_killed_command_ends_its_job(studio):
    files = studio.job("wait")
    process = studio.start(files)
    (helper,) = until(lambda: begun(files))
    process.kill()
    assert until(lambda: files.result.exists() and read(files.result))["status"] == "cancelled"
    assert studio.run() == helper


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM")
def test_a_helper_that_is_known_to_end_ends_its_job(studio):
    files = studio.job("wait")
    process = studio.start(files)
    (helper,) = until(lambda: begun(files))
    os.kill(helper, signal.SIGTERM)
    assert studio.end(process)[0] == warm.CANCELLED
    assert read(files.result)["status"] == "cancelled"
    gone(helper)
    assert studio.endpoint() is None


def test_what_fails_is_said_as_without_a_helper(studio):
    for what, code in (("refuse", 3), ("fail", 1), ("break", 1)):
        outcomes = []
        for minutes in ("5", "0"):
            studio.environment["REDRUM_HELPER_MINUTES"] = minutes
            files = studio.job(what)
            process = studio.start(files)
            found, said = studio.end(process)
            assert found == code
            is_alone = begun(files) == [process.pid]
            assert is_alone == (minutes == "0")
            result = read(files.result)
            result.pop("process", None)
            outcomes.append((result, said if what == "refuse" else ""))
        assert outcomes[0] == outcomes[1]
    assert outcomes[0][0]["message"].startswith("It is broken.\nThe log in ")
    gone(max(studio.helpers))  # who knows what else is broken in it


# The end of a helper


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """Return a function that starts a helper in a thread of this process, and waits until it listens."""
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path))
    monkeypatch.setattr(helper_module, "_LOOK_S", 0.02)
    monkeypatch.setattr(helper_module, "LEAST_FREE_BYTES", 0)
    threads = []

    def start(keep_s=1e6):
        threads.append(threading.Thread(target=Helper(tmp_path, keep_s).run))
        threads[-1].start()
        until(warm.look)
        return threads[-1]

    yield start
    warm.look("stop")
    for thread in threads:
        thread.join(PATIENCE_S)


def test_a_helper_tells_of_itself_until_it_is_known_to_end(alone):
    thread = alone()
    found = until(warm.look)
    assert (found["pid"], found["n_jobs"]) == (os.getpid(), 0)
    assert 0 < found["left_s"] <= 1e6
    assert f"process {os.getpid()} keeps the models loaded" in check_helper()
    time.sleep(0.2)  # it has looked whether it is time to end, again and again
    assert thread.is_alive()
    assert warm.look("stop")["pid"] == os.getpid()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert warm.look() is None
    assert warm.read_endpoint(os.environ["REDRUM_DATA"]) is None


REASONS = {
    "no job comes": lambda patch, folder: patch(time, "monotonic", lambda now=time.monotonic: now() + 2e6),
    "memory is short": lambda patch, folder: patch(
        psutil, "virtual_memory", lambda: SimpleNamespace(available=-1)
    ),
    "Redrum was updated": lambda patch, folder: patch(warm, "build_id", lambda: "new"),
    "its endpoint file is gone": lambda patch, folder: Path(warm.endpoint_path(str(folder))).unlink(),
    "its endpoint file is another's": lambda patch, folder: put_endpoint(
        folder, warm.read_endpoint(str(folder)), token=new_token()
    ),
}


@pytest.mark.parametrize("why", REASONS)
def test_a_helper_ends_when(alone, tmp_path, monkeypatch, why):
    thread = alone()
    REASONS[why](monkeypatch.setattr, tmp_path)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    left = warm.read_endpoint(str(tmp_path))
    assert (left is not None) == (why == "its endpoint file is another's")


# With models


@pytest.mark.slow
def test_a_helpers_takes_are_those_of_the_command(tmp_path):
    loop = demo_recordings()[0].path
    take = {
        "name": "loop",
        "start_offset_s": 0.0,
        "play_rate": 1.0,
        "keeps_pitch": True,
        "channel_mode": 0,
        "is_stretched": False,
        "is_midi": False,
        "file": str(loop),
    }
    item = {"id": "{1}", "track": 0, "is_selected": True, "position_s": 1.0, "length_s": 1.0}
    facts = {
        "project": "userdata: 0x1",
        "path": str(tmp_path / "söng.rpp"),
        "media_folder": "media ü",  # from the folder that the command is started in
        "bpm": 120.0,
        "points": [],
        "tracks": [{"id": "{2}", "name": "drums", "color": 0}],
        "items": [{**item, "is_muted": False, "is_looped": False, "take": take}],
    }
    order = {"rhythm": "hip-hop-bounce-140", "seed": "3"}
    studio = Studio(tmp_path, stand_in=False)
    sounds = []
    try:
        for minutes in ("0", "5", "5"):
            studio.environment["REDRUM_HELPER_MINUTES"] = minutes
            files = studio.job("real work", schema=1, order=order, facts=facts)
            assert studio.end(studio.start(files)) == (0, "")
            assert read(files.result)["status"] == "done"
            (file,) = read(files.result)["media"]
            sounds.append((studio.folder / file).read_bytes())
            assert soundfile.info(studio.folder / file).frames == 44_100
        assert len(studio.helpers) == 1
    finally:
        studio.close()
    assert sounds[0] == sounds[1] == sounds[2]
    assert len(list((studio.folder / "media ü").iterdir())) == 3
