"""Measure what a user of REAPER waits for, on the stand-in: `python -m tests.bench.bench_reaper`.

The first-use path is timed from `redrum reaper install` to a take in the project, in real processes: the one
that installs, the action in Lua 5.4, and the one that the action starts, models and all. Then, with the models
loaded, a loop of 3 s again and again. Last, the reading and writing of a large session, 200 items on 20 tracks,
through reapy and in Lua.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import psutil

from daw_bridge import warm
from daw_bridge.job_files import JobFiles
from daw_bridge.reaper import running as reaper
from daw_bridge.reaper.install import install
from daw_bridge.session import FinishedTake
from tests.daw_bridge.conftest import LuaWorld, ReaperWorld, audio, track
from transform.audio import Recording
from transform.library import demo_recordings

TICK_S = 1 / 30
ACTION = "Redrum selected item.lua"


@contextmanager
def timed(what):
    began_s = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - began_s:.2f} s")


os.environ["PYTHONPATH"] = str(Path(reaper.__file__).parents[2])  # of the commands that are run


def first_use(folder):
    loop = demo_recordings()[0].path
    with Recording.open(loop) as recording:
        length_s = recording.duration_s
    world = LuaWorld(folder, [track("drums", audio(loop, 0.0, length_s))])
    (world.resources / "reaper.ini").write_text("[reaper]\n")
    install = [sys.executable, "-m", "daw_bridge", "reaper", "install", "--resources", str(world.resources)]
    processes = []
    with timed(f"first use, to a take of {length_s:.1f} s"):
        with timed("  installing"):
            subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
        world.lua.launch = lambda words: processes.append(subprocess.Popen(words, stderr=subprocess.DEVNULL))
        redrum(world, "  the action, the first time")
    redrum(world, "the action, the second time")
    assert all(process.wait() == 0 for process in processes)
    assert [one["name"] for one in world.tracks_after()] == ["drums", "drums redrum", "drums redrum"]


def warm_jobs(folder, n_jobs=20):
    """Time the action's command alone, with a helper that has the models."""
    world = LuaWorld(folder, [track("drums", audio(demo_recordings()[0].path, 0.0, 3.0))])
    (world.resources / "reaper.ini").write_text("[reaper]\n")
    install(world.resources)
    world.lua.answers.append(["hip-hop-bounce-140", "resequence", "source", "0", "auto"])
    world.lua.act(world.resources / "Scripts" / "Redrum" / ACTION)
    *words, job = world.lua.words()
    times = []
    for n in range(n_jobs + 2):  # two to get warm
        files = JobFiles(Path(job).with_name(f"{n}.json"))
        shutil.copyfile(job, files.job)
        before_s, own_s, began_s = helper_cpu_s(), children_cpu_s(), time.perf_counter()
        process = subprocess.Popen([*words, files.job], stderr=subprocess.DEVNULL)
        while not files.progress.exists():
            time.sleep(0.001)
        work_s = time.perf_counter() - began_s
        while not files.result.exists():
            time.sleep(0.001)
        all_s = time.perf_counter() - began_s
        assert process.wait() == 0
        times.append((work_s, all_s, children_cpu_s() - own_s, helper_cpu_s() - before_s))
    print(f"{n_jobs} warm redrums of 3 s, from the start of the command, best and median")
    for what, column in zip(
        ("its work begins after", "its result is there after", "processor time: command", "helper"),
        zip(*times[2:], strict=True),
        strict=True,
    ):
        print(f"  {what}: {min(column):.3f} s, {median(column):.3f} s")


def children_cpu_s():
    spent = os.times()
    return spent.children_user + spent.children_system


def helper_cpu_s():
    told = warm.look()
    return sum(psutil.Process(told["pid"]).cpu_times()[:2]) if told else 0.0


def redrum(world, what):
    world.lua.answers.append(["hip-hop-bounce-140", "resequence", "source", "0", "auto"])
    with timed(what):
        world.lua.act(world.resources / "Scripts" / "Redrum" / ACTION)
        while world.lua.window is not None:
            time.sleep(TICK_S)
            world.lua.tick(seconds=TICK_S)
    assert world.lua.said == []


def large_session(folder, file):
    tracks = [
        track(f"track {n}", *(audio(file, 2 * k, name=f"item {k}") for k in range(10))) for n in range(20)
    ]

    @contextmanager
    def where_they_are(job, takes, **_):
        yield [take.file for take in takes]

    reaper.published_media = where_they_are  # copying 200 files is not what is measured
    one = FinishedTake(source=None, file=file, name="take", length_s=0.5, n_channels=1)
    outside = ReaperWorld(folder / "reapy", tracks)
    session = outside.session()
    for _ in range(3):
        outside.stall_s()
        with timed("200 items read through reapy"):
            job = session.collect()
        with timed("200 takes written through reapy"):
            session.write_back(job, [replace(one, source=item) for item in job.items])
        stall_s, work_s = outside.stall_s()
        print(f"  REAPER's loop stood still for {stall_s:.3f} s at most, {work_s:.3f} s of it work")
    ReaperWorld.stop()
    inside = LuaWorld(folder / "lua", tracks).session()
    with timed("200 items read in Lua, through a file"):
        job = inside.collect()
    takes = [replace(one, source=item) for item in job.items]
    with timed("200 takes written in Lua, copies made"):
        inside.write_back(job, takes)


def main():
    with tempfile.TemporaryDirectory(prefix="redrum-") as name:
        folder = Path(name)
        os.environ["REDRUM_DATA"] = str(folder / "data")
        for part in ("first", "warm", "reapy", "lua"):
            (folder / part).mkdir()
        try:
            first_use(folder / "first")
            warm_jobs(folder / "warm")
            large_session(folder, demo_recordings()[0].path)
        finally:
            ReaperWorld.stop()
            warm.look("stop")


if __name__ == "__main__":
    main()
