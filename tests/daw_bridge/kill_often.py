"""Kill commands at random moments, again and again, and check what is left; started by test_kills.py.

    python kill_often.py WHAT FOLDER N SEED

Prints a JSON object with what happened. WHAT is batch, render, project, settings or pair (two batches at once,
none killed). Models are stand-ins that hear a kick in every click, so that a run takes a fraction of a second.
Every run is a fork of this process, which has loaded everything and started no thread.
"""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import soundfile

from daw_bridge import batch_work
from daw_bridge.commands import cli
from daw_bridge.manifest import MANIFEST
from daw_bridge.reaper import install
from daw_bridge.reaper.rpp import open_project
from daw_bridge.session import FinishedTake
from tests.daw_bridge.click_transcriber import ClickTranscriber
from transform.engine import Redrummer
from transform.events import DrumEvent, Rhythm
from transform.midi import write_midi

RATE = 44_100
SONG = (
    b"<REAPER_PROJECT 0.1\n  <TRACK\n    NAME drums\n    <ITEM\n      LENGTH 1\n      <SOURCE WAVE\n"
    b'        FILE "0.wav"\n      >\n    >\n  >\n>\n'
)
INI = b"[REAPER]\nlastproject=song.rpp\n" + b"; more\n" * 20_000


def make_inputs(folder, n_loops):
    folder.mkdir(parents=True)
    (folder / "in").mkdir()
    for n in range(n_loops):
        sound = np.zeros(RATE // 2)
        for at in (2000, 9000 + 500 * n):
            sound[at : at + 400] = 0.8 * np.linspace(1, 0, 400)
        soundfile.write(folder / "in" / f"{n}.wav", sound, RATE, subtype="PCM_16")
    beat = Rhythm(tuple(DrumEvent(0.25 * n, "KD", 0.8) for n in range(8)), 2.0)
    (folder / "beat.mid").write_bytes(write_midi(beat))


def files_in(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def command(*arguments):
    """Return what runs a command of `redrum`, without printing."""

    def run():
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            try:
                cli.app([str(argument) for argument in arguments], prog_name="redrum")
            except SystemExit as err:
                return int(err.code or 0)

    return run


def forked(run):
    """Start a function in a child; its result is the exit code."""
    child = os.fork()
    if child:
        return child
    code = 99
    try:
        code = run() or 0
    finally:
        os._exit(code)


def finished(run):
    """Return the exit code of a run, and how long it took."""
    began_s = time.monotonic()
    _, status = os.waitpid(forked(run), 0)
    return os.waitstatus_to_exitcode(status), time.monotonic() - began_s


def killed(run, after_s):
    """Return whether a run was killed before it ended, and its exit code."""
    child = forked(run)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, -signal.SIGKILL), f"exit code {code}"
    return code != 0


def kill_batches(folder, n_kills, chance):
    make_inputs(folder, 6)
    count = Counter()
    begin = ["batch", folder / "in", "--rhythm", folder / "beat.mid", "--jobs", 2, "--out"]
    code, span_s = finished(command(*begin, folder / "calm"))
    assert code == 0
    calm = files_in(folder / "calm")
    calm.pop(MANIFEST)
    assert len(calm) == 6
    while count["killed"] < n_kills:
        out = folder / f"out {count['batches']}"
        run = command(*begin, out)
        for _ in range(chance.randint(1, 4)):
            count["killed"] += killed(run, chance.uniform(0, 1.2 * span_s))
            for name, data in files_in(out).items() if out.exists() else ():
                hidden = any(part.startswith(".") for part in Path(name).parts)
                assert hidden or name == MANIFEST or data == calm[name], f"{name} is not whole"
        assert finished(run)[0] == 0
        left = files_in(out)
        lines = [json.loads(line) for line in left.pop(MANIFEST).splitlines()]
        assert left == calm, "results are missing, changed or left over"
        assert sorted(line["output"] for line in lines) == sorted(calm), "an item was made twice"
        count["batches"] += 1
    return count


def kill_renders(folder, n_kills, chance):
    make_inputs(folder, 1)
    count = Counter()
    begin = ["render", folder / "in" / "0.wav", "--rhythm", folder / "beat.mid", "--overwrite", "-o"]
    code, span_s = finished(command(*begin, folder / "calm" / "a.wav"))
    assert code == 0
    calm = (folder / "calm" / "a.wav").read_bytes()
    out = folder / "out" / "a.wav"
    while count["killed"] < n_kills:
        before = out.read_bytes() if out.exists() else None
        if killed(command(*begin, out), chance.uniform(0, 1.2 * span_s)):
            count["killed"] += 1
        now = out.read_bytes() if out.exists() else None
        assert now in (before, calm), "a result is not whole"
        for path in out.parent.iterdir() if out.parent.exists() else ():
            if path != out:
                assert path.name.startswith(".redrum-"), f"{path.name} is left"
                count["hidden files left"] += 1
                path.unlink()
        if now == calm:
            count["there"] += 1
            chance.choice([out.unlink, lambda: out.write_bytes(b"before")])()
        assert (folder / "in" / "0.wav").stat().st_size > 40_000
    return count


def kill_projects(folder, n_kills, chance):
    make_inputs(folder, 1)
    count = Counter()

    def writing(song):
        def run():
            session = open_project(song)
            job = session.collect()
            take = FinishedTake(
                source=job.items[0], file=folder / "in" / "0.wav", name="t", length_s=0.5, n_channels=1
            )
            session.write_back(job, [take] * 8)

        return run

    def place(n):
        song = folder / f"{n}" / "song.rpp"
        song.parent.mkdir()
        song.write_bytes(SONG)
        return song

    code, span_s = finished(writing(place("calm")))
    assert code == 0
    while count["killed"] < n_kills:
        song = place(sum(count.values()))
        count["killed"] += killed(writing(song), chance.uniform(0, 1.2 * span_s))
        assert song.read_bytes() == SONG, "the project was changed"
        result = song.with_name("song-redrum.rpp")
        media = [path for path in song.parent.iterdir() if path.suffix == ".wav"]
        if result.exists():
            count["there"] += 1
            assert result.read_bytes().count(b"<SOURCE WAVE") == 9, "the copy is not whole"
            assert len(media) == 8, "the copy names sounds that are not there"
        elif media:
            count["sounds without a project left"] += 1
        assert all(path.read_bytes() == (folder / "in" / "0.wav").read_bytes() for path in media)
        if not result.exists():
            assert finished(writing(song))[0] == 0
    return count


def kill_settings(folder, n_kills, chance):
    folder.mkdir(parents=True)
    count = Counter()
    install._python_library = lambda: Path("libpython3.so")
    psutil.process_iter = lambda names: []

    def run():
        install.install(folder, with_server=True)

    def settled():
        """What is installed; what is noted of it depends on where it was killed."""
        ignored = "Redrum/installed.json"
        return {n: d for n, d in files_in(folder).items() if n != ignored and ".redrum-" not in n}

    (folder / "reaper.ini").write_bytes(INI)
    code, span_s = finished(run)
    assert code == 0
    calm = settled()
    while count["killed"] < n_kills:
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / "reaper.ini").write_bytes(INI)
        count["killed"] += killed(run, chance.uniform(0, 1.2 * span_s))
        now = files_in(folder)
        assert now["reaper.ini"] in (INI, calm["reaper.ini"]), "settings are cut off"
        if now["reaper.ini"] != INI:
            count["there"] += 1
            assert now["reaper.ini.before-redrum"] == INI, "the copy of the settings is not whole"
        count["hidden files left"] += sum(".redrum-" in name for name in now)
        assert finished(run)[0] == 0
        assert settled() == calm
        install.uninstall(folder)
        assert (folder / "reaper.ini").read_bytes() == INI, "uninstalling does not give back what was there"
    return count


def run_pairs(folder, n_pairs, chance):
    make_inputs(folder, 4)
    count = Counter()
    begin = ["batch", folder / "in", "--rhythm", folder / "beat.mid", "--jobs", 1, "--out"]
    code, span_s = finished(command(*begin, folder / "calm"))
    assert code == 0
    calm = files_in(folder / "calm")
    calm.pop(MANIFEST)
    for n in range(n_pairs):
        run = command(*begin, folder / f"out {n}")
        first = forked(run)
        time.sleep(chance.uniform(0, span_s))
        codes = [finished(run)[0], os.waitstatus_to_exitcode(os.waitpid(first, 0)[1])]
        assert 0 in codes, f"both failed: {codes}"
        assert set(codes) <= {0, 1}, f"exit codes {codes}"
        count["one refused" if 1 in codes else "one after the other"] += 1
        left = files_in(folder / f"out {n}")
        lines = [json.loads(line) for line in left.pop(MANIFEST).splitlines()]
        assert left == calm, "results are missing, changed or left over"
        assert sorted(line["output"] for line in lines) == sorted(calm), "an item was made twice"
    return count


def main():
    what, folder, n, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    redrummer = Redrummer(ClickTranscriber())
    batch_work._models = lambda *_: redrummer
    Redrummer.load = classmethod(lambda *_, **__: redrummer)
    kinds = {
        "batch": kill_batches,
        "render": kill_renders,
        "project": kill_projects,
        "settings": kill_settings,
        "pair": run_pairs,
    }
    print(json.dumps(kinds[what](folder, n, random.Random(seed))))


if __name__ == "__main__":
    main()
