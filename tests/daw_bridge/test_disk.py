"""Full disks, lost permissions, files that go or shrink while they are read, clocks that jump."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import soundfile

from daw_bridge import batch_work, manifest
from daw_bridge.batch import BatchSettings, run
from daw_bridge.manifest import MANIFEST
from daw_bridge.plan import PlanSettings, plan
from daw_bridge.reaper import install
from daw_bridge.reaper.rpp import open_project
from daw_bridge.session import FinishedTake
from transform.audio import AudioFormat, Recording, write_audio, write_parts
from transform.bank import Bank
from transform.confined import ConfinedFolder
from transform.errors import OutputError
from transform.events import DrumEvent, Rhythm
from transform.files import atomic_folder, check_output, write_text_atomic
from transform.hits import Hit
from transform.midi import write_midi
from transform.one_shots import save_kit
from transform.preset_archive import export_preset, import_preset
from transform.presets import Preset, load_preset

RATE = 44_100
DISK_KIB = 1024
FREE_KIB = (0, 4, 8, 16, 32, 48, 64, 96)
FMT = AudioFormat(sample_rate=RATE, n_channels=1, subtype="PCM_16")
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, (1, 20_000)).astype(np.float32)  # 40 kB


def files_in(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# --- full disks ---


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A disk of 1 MiB."""
    folder = tmp_path_factory.mktemp("disk")
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_KIB}k", "tmpfs", str(folder)]
    if not sys.platform.startswith("linux") or shutil.which("mount") is None:
        pytest.skip("a small disk can only be mounted on Linux")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"a small disk cannot be mounted: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def leave_free(disk, n_kib, **there):
    """Empty the disk, put files on it, and fill it up but for some KiB."""
    for path in disk.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (disk / "place").mkdir()
    for name, data in there.items():
        (disk / "place" / name).write_bytes(data)
    n_free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    (disk / "filler").write_bytes(bytes(max(0, n_free - 1024 * n_kib)))


def tiny_preset(folder):
    """A preset whose weights are 40 kB of noise."""
    from safetensors.numpy import save

    weights = save({"weight": NOISE.astype(np.float16)})
    (folder / "net.safetensors").write_bytes(weights)
    import hashlib

    (folder / "preset.toml").write_text(
        'format = 1\nname = "tiny"\nconfiguration = "hires"\nclasses = ["KD", "SD", "TT", "HH", "CY"]\n'
        f'sample_rate = 44100\n[models.transcriber]\nfile = "net.safetensors"\nparameters = 4\n'
        f'sha256 = "{hashlib.sha256(weights).hexdigest()}"\n'
    )
    return load_preset(folder)


def write_float(place, _):
    write_audio(place / "a.wav", [NOISE], AudioFormat(sample_rate=RATE, n_channels=1, subtype="FLOAT"))


def write_stems(place, _):
    parts = np.stack([NOISE, NOISE]) / 2
    write_parts([place / "a.wav", place / "b.wav"], [parts], FMT, n_samples=NOISE.shape[1])


def write_kit(place, _):
    hits = [
        Hit(
            classes=frozenset({c}),
            attack=n,
            level=0.1,
            velocities={c: 0.5},
            articulations=frozenset(),
            faults=0.0,
        )
        for n, c in enumerate(("KD", "SD"))
    ]
    save_kit(Bank(hits, lambda _: NOISE, sample_rate=RATE, n_channels=1), place / "kit", fmt=FMT, name="a")


def import_archive(place, tmp_path):
    (tmp_path / "preset").mkdir(exist_ok=True)
    archive = tmp_path / "tiny.redrum"
    export_preset(tiny_preset(tmp_path / "preset"), archive, overwrite=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDRUM_DATA", str(place / "user"))
        assert isinstance(import_preset(archive), Preset)


def export_archive(place, tmp_path):
    (tmp_path / "preset").mkdir(exist_ok=True)
    export_preset(tiny_preset(tmp_path / "preset"), place / "tiny.redrum")


def put_takes_into_a_project(place, tmp_path):
    song = place / "song.rpp"
    session = open_project(song)
    job = session.collect()
    take = tmp_path / "take.wav"
    soundfile.write(take, NOISE[0], RATE)
    session.write_back(
        job, [FinishedTake(source=job.items[0], file=take, name="t", length_s=0.4, n_channels=1)]
    )


SONG = (
    b"<REAPER_PROJECT 0.1\n  <TRACK\n    NAME drums\n    <ITEM\n      LENGTH 1\n      <SOURCE WAVE\n"
    b'        FILE "a.wav"\n      >\n    >\n  >\n>\n'
)
WRITERS = {
    "WAV, 16 bits": lambda place, _: write_audio(place / "a.wav", [NOISE], FMT),
    "WAV, float": write_float,
    "FLAC": lambda place, _: write_audio(place / "a.flac", [NOISE], FMT),
    "stems": write_stems,
    "text": lambda place, _: write_text_atomic(place / "a.txt", "x" * 40_000),
    "kit": write_kit,
    "preset, exported": export_archive,
    "preset, imported": import_archive,
    "takes in a project": put_takes_into_a_project,
}


@pytest.mark.parametrize("what", WRITERS)
def test_on_a_full_disk_a_result_is_whole_or_not_there(disk, tmp_path, survives, what):
    place = disk / "place"
    outcomes, whole = [], None
    for n_kib in reversed((*FREE_KIB, DISK_KIB - 60)):
        leave_free(disk, n_kib, **{"song.rpp": SONG})
        before = files_in(place)
        outcomes.append(
            survives(f"full disk, {what}", lambda: (WRITERS[what](place, tmp_path), "written"), done="written")
        )
        after = files_in(place)
        if whole is None:
            whole = after
        expected = before if outcomes[-1] is None else whole
        assert after.keys() == expected.keys()
        # A project's new tracks have names of their own in them.
        assert {n for n in after if after[n] != expected[n]} <= {"song-redrum.rpp"}
    assert outcomes[0] is not None  # enough room
    assert outcomes[-1] is None  # none


def test_on_a_full_disk_a_file_that_is_replaced_stays(disk, survives):
    path = disk / "place" / "a.wav"
    for n_kib in FREE_KIB:
        leave_free(disk, n_kib, **{"a.wav": b""})
        done = survives(
            "full disk, replaced",
            lambda: (write_audio(path, [NOISE], FMT, overwrite=True), 1),
            done="written",
        )
        assert (path.stat().st_size > 40_000) == (done is not None)
        assert [p.name for p in path.parent.iterdir()] == ["a.wav"]


def test_on_a_full_disk_reapers_settings_stay(disk, monkeypatch, survives):
    monkeypatch.setattr(install, "_python_library", lambda: Path("libpython3.so"))
    monkeypatch.setattr(psutil, "process_iter", lambda names: [])
    ini = b"[REAPER]\nx=" + b"y" * 10_000 + b"\n"
    outcomes = []
    for n_kib in (0, 8, 16, 24, 32, 40, 48, 56, 64, 96, 256):
        leave_free(disk, n_kib, **{"reaper.ini": ini})
        put = partial(install.install, disk / "place", with_server=True)
        outcomes.append(survives("full disk, settings", put, done="written"))
        now = (disk / "place" / "reaper.ini").read_bytes()
        assert now == ini or (now.startswith(ini[:-1]) and b"csurf_0=HTTP" in now)
        backup = disk / "place" / "reaper.ini.before-redrum"
        assert now == ini or backup.read_bytes() == ini
        assert not backup.exists() or backup.read_bytes() == ini
    assert outcomes[-1] is not None


# --- batches ---


@pytest.fixture
def loops(tmp_path, clicks, redrummer, monkeypatch):
    """Four recordings and a rhythm in a folder; models are stand-ins."""
    monkeypatch.setattr(batch_work, "_models", lambda *_: redrummer)
    folder = tmp_path / "in"
    folder.mkdir()
    for n in range(4):
        soundfile.write(folder / f"{n}.wav", clicks([0.1, 0.3 + 0.01 * n])[0], RATE, subtype="PCM_16")
    beat = Rhythm(tuple(DrumEvent(0.25 * n, "KD", 0.8) for n in range(4)), 1.0)
    (tmp_path / "beat.mid").write_bytes(write_midi(beat))
    return folder


def run_batch(loops, out):
    items = plan([loops], str(loops.parent / "beat.mid"), PlanSettings(out=out))
    return [outcome.status for outcome in run(items, BatchSettings(out=out, jobs=1))]


def assert_exact(out, calm):
    """Check that a folder holds the results of a calm one, and a manifest with one line for each."""
    results = files_in(out)
    lines = [json.loads(line) for line in results.pop(MANIFEST).splitlines()]
    assert results == calm
    made = sorted(line["output"] for line in lines if line["status"] == "done")
    assert made == sorted(calm)


def calm_results(loops):
    run_batch(loops, loops.parent / "calm")
    return {name: data for name, data in files_in(loops.parent / "calm").items() if name != MANIFEST}


def test_a_batch_goes_on_after_the_disk_was_full(disk, loops, survives):
    calm = calm_results(loops)
    (size,) = {len(data) for data in calm.values()}
    for n_kib in range(0, 4 * size // 1024 + 60, 80):
        leave_free(disk, n_kib)
        out = disk / "place" / "out"
        survives("full disk, batch", run_batch, loops, out, done="went on")
        for name, data in files_in(out).items() if out.exists() else ():
            assert name == MANIFEST or data == calm[name]
        (disk / "filler").unlink()  # there is room again
        assert set(run_batch(loops, out)) <= {"done", "unchanged"}
        results = files_in(out)
        results.pop(MANIFEST)
        assert results == calm
        assert run_batch(loops, out) == ["unchanged"] * 4


def test_a_line_that_does_not_fit_on_the_disk_is_no_line(loops, monkeypatch, survives):
    calm = calm_results(loops)
    real = os.fsync
    for n_lines in range(4):
        out = loops.parent / f"out {n_lines}"
        left = itertools.count(n_lines, -1)

        def full(file, left=left, out=out):
            if os.path.samestat(os.fstat(file), (out / MANIFEST).stat()) and next(left) <= 0:
                raise OSError(28, "No space left on device")
            real(file)

        monkeypatch.setattr(manifest.os, "fsync", full)
        assert run_batch(loops, out).count("failed") == 4 - n_lines  # which stops no other
        monkeypatch.setattr(manifest.os, "fsync", real)
        for name, data in files_in(out).items():
            assert name == MANIFEST or data == calm[name]
        assert "failed" not in run_batch(loops, out)
        assert_exact(out, calm)


# --- permissions ---


@pytest.fixture
def nobody():
    """A folder that everybody may write to, and a user that is not root."""
    if os.name == "nt":
        pytest.skip("Windows keeps permissions elsewhere")
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            yield Path(folder)
        finally:
            os.seteuid(before)


def test_a_folder_that_may_no_longer_be_written_to(nobody, survives):
    place = nobody / "place"
    place.mkdir()

    def blocks():
        yield NOISE
        place.chmod(0o555)
        yield NOISE

    with pytest.raises(OutputError, match="cannot be written: Permission denied"):
        write_audio(place / "a.wav", blocks(), FMT)
    place.chmod(0o755)
    assert [path.name for path in place.iterdir() if not path.name.startswith(".redrum-")] == []
    place.chmod(0o555)
    for write in (
        lambda: write_audio(place / "a.wav", [NOISE], FMT),
        lambda: check_output(place / "a.wav", overwrite=False),
        lambda: atomic_folder(place / "kit", overwrite=False).__enter__(),
    ):
        with pytest.raises(OutputError, match="Permission denied"):
            write()


def test_a_file_that_may_not_be_read(nobody, survives):
    from daw_bridge.plan import plan as planned
    from transform.midi import read_midi
    from transform.one_shots import load_kit

    for name in ("a.wav", "b.mid", "c.redrum", "d.rpp", "e.csv", "kit.json", "preset.toml"):
        (nobody / name).write_bytes(b"")
        (nobody / name).chmod(0)
    readers = {
        "a.wav": lambda path: Recording.open(path),
        "b.mid": read_midi,
        "c.redrum": import_preset,
        "d.rpp": open_project,
        "e.csv": lambda path: planned([], str(path), PlanSettings(out=nobody / "out")),
        "kit.json": lambda path: load_kit(path.parent),
        "preset.toml": lambda path: load_preset(path.parent),
    }
    for name, read in readers.items():
        assert survives(f"no permission, {name}", read, nobody / name) is None


# --- files that go while they are read ---


@pytest.mark.skipif(os.name == "nt", reason="Windows lets nobody shorten a file that is open")
@pytest.mark.parametrize("ending", [".wav", ".aiff", ".flac", ".ogg"])
@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.99])
def test_a_recording_that_shrinks_while_it_is_read(tmp_path, survives, ending, kept):
    path = tmp_path / f"a{ending}"
    sound = np.random.default_rng(0).uniform(-0.5, 0.5, (200_000, 1))
    soundfile.write(path, sound, RATE)
    with Recording.open(path) as recording:
        first = recording.read(0, 1000)
        os.truncate(path, int(kept * path.stat().st_size) if kept < 1 else kept)

        def rest():
            return np.concatenate(
                [recording.read(at, at + 10_000) for at in range(0, recording.n_samples, 10_000)], axis=1
            )

        found = survives(f"shrinking, {ending}", rest)
    # Silence is never made up: what is read is what was there.
    if found is not None:
        assert np.abs(found[:, -1000:]).max() > 0.1
        assert (found[:, :1000] == first).all()


def test_a_source_that_goes_is_its_items_own_failure(loops, monkeypatch):
    calm = calm_results(loops)
    out = loops.parent / "out"
    items = plan([loops], str(loops.parent / "beat.mid"), PlanSettings(out=out))
    known = run(items, BatchSettings(out=out, jobs=1))
    statuses = [next(known).status]
    (loops / "3.wav").unlink()
    os.truncate(loops / "2.wav", 20)
    statuses += [outcome.status for outcome in known]
    # What was being read when it went may be finished; the others stay what they are.
    assert statuses[0] == "done"
    assert set(statuses) <= {"done", "failed"}
    for name, data in files_in(out).items():
        assert name == MANIFEST or data == calm[name]


def test_a_result_that_goes_while_it_is_compared_is_made_again(loops, monkeypatch):
    out = loops.parent / "out"
    calm = calm_results(loops)
    run_batch(loops, out)
    real = ConfinedFolder.sha256

    def gone(files, name):
        if name.startswith("1_"):
            (files.folder / name).unlink(missing_ok=True)
        return real(files, name)

    monkeypatch.setattr(ConfinedFolder, "sha256", gone)
    assert sorted(run_batch(loops, out)) == ["done", "unchanged", "unchanged", "unchanged"]
    monkeypatch.setattr(ConfinedFolder, "sha256", real)
    results = files_in(out)
    results.pop(MANIFEST)
    assert results == calm


# --- clocks ---


@pytest.mark.parametrize("when_s", [0, 2**31 + 10, 4e9])
def test_the_dates_of_files_mean_nothing(loops, survives, when_s):
    calm = calm_results(loops)
    out = loops.parent / "out"
    run_batch(loops, out)
    for path in (*loops.iterdir(), *out.iterdir(), loops.parent / "beat.mid"):
        os.utime(path, (when_s, when_s))
    assert run_batch(loops, out) == ["unchanged"] * 4
    # Another sound with the date of the one before is another sound.
    os.replace(loops / "0.wav", loops / "1.wav")
    os.utime(loops / "1.wav", (when_s, when_s))
    assert sorted(run_batch(loops, out)) == ["done", "unchanged", "unchanged"]
    assert files_in(out)["1_beat.wav"] == calm["0_beat.wav"]


def test_a_clock_that_jumps_while_a_batch_works(loops, monkeypatch):
    calm = calm_results(loops)
    jumps = itertools.cycle([0.0, 4e9, -1e6, 1.7e9])
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    out = loops.parent / "out"
    assert run_batch(loops, out) == ["done"] * 4
    assert_exact(out, calm)
    lines = [json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]
    assert all(0 <= line["report"]["seconds"] < 1000 for line in lines)
