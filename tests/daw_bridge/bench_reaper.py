"""Measure what a user of REAPER waits for, on the stand-in: `python tests/daw_bridge/bench_reaper.py`.

The first-use path is timed from `redrum reaper install` to a take in the project, in real processes: the one
that installs, the action in Lua 5.4, and the one that the action starts, models and all. Then, the reading
and writing of a large session, 200 items on 20 tracks, through reapy and in Lua.
"""

import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from conftest import LuaWorld, ReaperWorld, audio, track

from daw_bridge import reaper
from daw_bridge.session import FinishedTake
from transform.audio import Recording
from transform.presets import demo_recordings

TICK_S = 1 / 30
ACTION = "Redrum selected item.lua"


@contextmanager
def timed(what):
    began_s = time.perf_counter()
    yield
    print(f"{what}: {time.perf_counter() - began_s:.2f} s")


os.environ["PYTHONPATH"] = str(Path(reaper.__file__).parents[1])  # of the commands that are run


def first_use(folder):
    loop = demo_recordings()[0].path
    with Recording.open(loop) as recording:
        length_s = recording.duration_s
    world = LuaWorld(folder, [track("drums", audio(loop, 0.0, length_s))])
    (world.resources / "reaper.ini").write_text("[reaper]\n")
    install = [sys.executable, "-m", "daw_bridge.cli", "reaper", "install", "--resources", str(world.resources)]
    processes = []
    with timed(f"first use, to a take of {length_s:.1f} s"):
        with timed("  installing"):
            subprocess.run(install, check=True, stdout=subprocess.DEVNULL)
        world.lua.launch = lambda words: processes.append(subprocess.Popen(words, stderr=subprocess.DEVNULL))
        redrum(world, "  the action, the first time")
    redrum(world, "the action, the second time")
    assert all(process.wait() == 0 for process in processes)
    spent = os.times()
    cpu_s = spent.children_user + spent.children_system
    print(f"processor time of these three commands: {cpu_s:.1f} s")  # whatever else the machine does
    assert [one["name"] for one in world.tracks_after()] == ["drums", "drums redrum", "drums redrum"]


def redrum(world, what):
    world.lua.answers.append(["hip-hop-bounce-140", "resequence", "source", "0"])
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
    def where_they_are(job, takes):
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
        for part in ("first", "reapy", "lua"):
            (folder / part).mkdir()
        first_use(folder / "first")
        try:
            large_session(folder, demo_recordings()[0].path)
        finally:
            ReaperWorld.stop()


if __name__ == "__main__":
    main()
