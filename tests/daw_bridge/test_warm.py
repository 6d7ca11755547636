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
from daw_bridge import reaper_doctor, warm
from daw_bridge.helper import Helper
from daw_bridge.reaper_job import JobFiles
from transform.presets import demo_recordings

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
        paths = [str(Path(__file__).with_name("jobs_without_models"))] * stand_in + [str(ROOT)]
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
        errors = "".join(line for line in errors.splitlines(keepends=True) if not line.startswith("DEBUG: "))
        assert said == ""
        if found := self.door():
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

    def door(self):
        return warm.read_door(str(self.data))

    def close(self):
        for process in self.started:
            process.kill()
            process.communicate()
        self.kill_helper()
        for number in self.helpers:
            kill(number)

    def kill_helper(self):
        """Kill the helper that the door names, if it is there."""
        if found := self.door():
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
    assert first == studio.door()["pid"]
    assert studio.run() == first
    assert stat_mode(warm.door_path(str(studio.data))) == 0o600


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
    helper = psutil.Process(studio.door()["pid"])
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
    assert begun(first) == begun(second) == [studio.door()["pid"]]


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


# Doors that are of no use


def test_a_door_whose_helper_was_killed_is_replaced(studio):
    first = studio.run()
    kill(first)
    assert studio.door()["pid"] == first
    assert studio.run() not in (first, "itself")


def test_a_helper_of_another_version_is_replaced(studio):
    first = studio.run()
    warm.write_door(str(studio.data), studio.door() | {"stamp": "of another version"})
    assert studio.run() not in (first, "itself")
    gone(first)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"schema": 1, "port": 0}', '{"schema": 1, "port": "1"}', "[" * 9999]
)
def test_a_door_that_says_nothing_is_replaced(studio, text):
    studio.data.mkdir()
    Path(warm.door_path(str(studio.data))).write_text(text)
    assert studio.door() is None
    if text in ("{", ""):
        assert studio.run() == studio.door()["pid"]


def test_who_does_not_know_the_token_gets_no_job_done(studio):
    helper = studio.run()
    door = studio.door()
    victim = studio.job("answer")
    request = {"want": "job", "job": str(victim.job), "folder": str(studio.folder)}
    with pytest.raises(OSError, match="no message"):
        warm._called(door | {"token": "0" * 64}, request)
    nonce = '"nonce": "00", '
    for said in (b"\n", b"[]\n", b"{}\n", b"\xff\n", b"[" * 9999 + b"\n", b"x" * 99_999, b'{"nonce": 1}\n'):
        assert answer(door, said) == b""
    for more in ("", '"proof": 1, ', '"proof": "", ', '"proof": "\\udc80", '):
        assert answer(door, f'{{{nonce}{more}"want": "look"}}\n'.encode()) == b""
    assert begun(victim) == []
    assert studio.run() == helper


def answer(door, said):
    """Say something behind a door after the greeting, and return what comes back."""
    with socket.create_connection(("127.0.0.1", door["port"])) as link, link.makefile("rb") as reader:
        assert b"nonce" in reader.readline()
        with contextlib.suppress(OSError):
            link.sendall(said)
            link.shutdown(socket.SHUT_WR)
            return reader.read()
    return b""


def test_an_impostor_gets_no_job(studio):
    heard = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def pretend():
            with contextlib.suppress(OSError):
                link, _ = listener.accept()
                with link, link.makefile("rwb") as line:
                    line.write(b'{"nonce": "00"}\n')
                    line.flush()
                    asked = json.loads(line.readline())
                    reply = {"proof": asked["proof"], "result": "r", "cancel": "c"}  # the only one it has seen
                    line.write(json.dumps(reply).encode() + b"\n")
                    line.flush()
                    heard.append(line.readline())

        impostor = threading.Thread(target=pretend)
        impostor.start()
        studio.data.mkdir()
        door = {"schema": 1, "port": listener.getsockname()[1], "token": "t", "stamp": stamp_there(studio)}
        warm.write_door(str(studio.data), door)
        worker = studio.run()
        impostor.join(PATIENCE_S)
    assert heard == [b""]
    assert worker == studio.door()["pid"]


def stamp_there(studio):
    """Return the stamp of the commands that a studio starts."""
    code = "from daw_bridge.warm import stamp; print(stamp())"
    command = [sys.executable, "-P", "-c", code]
    return subprocess.check_output(command, env=studio.environment, text=True).strip()


def test_every_change_of_redrum_is_another_stamp(tmp_path, monkeypatch):
    for name in ("daw_bridge/warm.py", "transform/engine.py", "presets/default/preset.toml"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("one")
    monkeypatch.setattr(warm, "__file__", str(tmp_path / "daw_bridge" / "warm.py"))
    before = warm.stamp()
    assert before == warm.stamp()
    changed = {before}
    (tmp_path / "transform" / "engine.py").write_text("other")
    changed.add(warm.stamp())
    os.utime(tmp_path / "presets" / "default" / "preset.toml", ns=(1, 1))
    changed.add(warm.stamp())
    monkeypatch.setattr(sys, "version", "3.99")
    changed.add(warm.stamp())
    assert len(changed) == 4


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
    assert studio.door() is None


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
def behind_the_door(tmp_path, monkeypatch):
    """Return a function that lets another one answer behind the door; no helper can be started."""
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path))
    monkeypatch.delenv("REDRUM_HELPER_MINUTES", raising=False)
    monkeypatch.setattr(warm, "_started", lambda folder: (_ for _ in ()).throw(OSError("forbidden")))
    monkeypatch.setattr(warm, "_LOOK_S", 0.02)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        door = {"schema": warm.SCHEMA, "port": port, "token": "t", "stamp": warm.stamp()}
        warm.write_door(str(tmp_path), door)
        threads = []

        def answer_with(talk):
            def attend():
                link, _ = listener.accept()
                with contextlib.suppress(OSError), warm.Line(link) as line:
                    talk(line)

            threads.append(threading.Thread(target=attend))
            threads[-1].start()

        yield answer_with
        for thread in threads:
            thread.join(PATIENCE_S)


def test_a_helper_that_says_nothing_gets_no_job(behind_the_door, monkeypatch):
    monkeypatch.setattr(warm, "GREETING_S", 0.1)
    heard = []
    behind_the_door(lambda line: (line.wait_for_end(), heard.append("end")))
    assert warm.hand_over("job.json") is None
    until(lambda: heard)


def test_a_helper_that_does_not_heed_a_cancelled_job_is_left(behind_the_door, monkeypatch, tmp_path):
    monkeypatch.setattr(warm, "_DEAF_S", 0.1)
    cancel = tmp_path / "job.cancel"

    def talk(line):
        request, proof = line.asked("t")
        assert request["job"] == str(tmp_path / "job.json")
        line.say(proof=proof, result=str(tmp_path / "job.result.json"), cancel=str(cancel))
        assert line.hear() == {"want": "go"}
        cancel.touch()
        line.wait_for_end()

    behind_the_door(talk)
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
def test_a_helper_that_is_told_to_end_ends_its_job(studio):
    files = studio.job("wait")
    process = studio.start(files)
    (helper,) = until(lambda: begun(files))
    os.kill(helper, signal.SIGTERM)
    assert studio.end(process)[0] == warm.CANCELLED
    assert read(files.result)["status"] == "cancelled"
    gone(helper)
    assert studio.door() is None


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


def test_a_helper_tells_of_itself_until_it_is_told_to_end(alone):
    thread = alone()
    found = until(warm.look)
    assert (found["pid"], found["n_jobs"]) == (os.getpid(), 0)
    assert 0 < found["left_s"] <= 1e6
    assert f"process {os.getpid()} keeps the models loaded" in reaper_doctor._helper()
    time.sleep(0.2)  # it has looked whether it is time to end, again and again
    assert thread.is_alive()
    assert warm.look("stop")["pid"] == os.getpid()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert warm.look() is None
    assert warm.read_door(os.environ["REDRUM_DATA"]) is None


REASONS = {
    "no job comes": lambda patch, folder: patch(time, "monotonic", lambda now=time.monotonic: now() + 2e6),
    "memory is short": lambda patch, folder: patch(
        psutil, "virtual_memory", lambda: SimpleNamespace(available=-1)
    ),
    "Redrum was updated": lambda patch, folder: patch(warm, "stamp", lambda: "new"),
    "its door is gone": lambda patch, folder: Path(warm.door_path(str(folder))).unlink(),
    "its door is another's": lambda patch, folder: warm.write_door(
        str(folder), warm.read_door(str(folder)) | {"token": "of another"}
    ),
}


@pytest.mark.parametrize("why", REASONS)
def test_a_helper_ends_when(alone, tmp_path, monkeypatch, why):
    thread = alone()
    REASONS[why](monkeypatch.setattr, tmp_path)
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    left = warm.read_door(str(tmp_path))
    assert (left is not None) == (why == "its door is another's")


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
