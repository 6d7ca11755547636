"""`redrum batch` as its user meets it: plans, results, the manifest, and what happens when it is stopped."""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from daw_bridge.batch import BatchSettings, run
from daw_bridge.commands.cli import app
from daw_bridge.manifest import MANIFEST, STAGING, Finished, Manifest, staged_path
from daw_bridge.plan import PlanSettings, plan
from transform.confined import ConfinedFolder
from transform.engine import Redrummer
from transform.errors import OutputError
from transform.files import sha256_of
from transform.library import demo_recordings, find_rhythm
from transform.take import Take
from transform.transcriber import Transcriber

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("models_once", "here")
RATE = 44_100
RHYTHM = "bossa-nova-132"
OUT = Path("redrummed")


@pytest.fixture(scope="module")
def loop():
    """Two seconds of a shipped loop, mono."""
    path = next(recording.path for recording in demo_recordings() if "acoustic" in recording.name)
    samples, _ = soundfile.read(path, frames=2 * RATE, dtype="float32")
    return samples.mean(axis=1)


@pytest.fixture
def write(loop):
    """Return a function that writes the loop, softer by `n` dB so that each file is another, and its names."""

    def write_loops(*names):
        for n, name in enumerate(names):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(name, loop * 10 ** (-n / 20), RATE, subtype="PCM_16")
        return list(names)

    return write_loops


def redrum(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="redrum")


def objects(result):
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(item["schema"] == 1 for item in found)
    return found


def files_in(folder):
    """Return the hash of every file in and under a folder, hidden ones too."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in Path(folder).rglob("*")
        if path.is_file()
    }


def results_in(folder):
    return {name: found for name, found in files_in(folder).items() if name != MANIFEST}


def lines_of(folder=OUT, status="done"):
    lines = [json.loads(line) for line in (folder / MANIFEST).read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line["status"] == status]


def assert_exact(folder, names):
    """Check that a manifest has one line for each result, and that it tells the truth of each."""
    lines = {line["output"]: line for line in lines_of(folder)}
    assert len(lines_of(folder)) == len(lines)
    assert {name: line["output_sha256"] for name, line in lines.items()} == results_in(folder)
    assert set(lines) == set(names)


def write_beat(path, *notes):
    track = mido.MidiTrack()
    for note in notes:
        track.append(mido.Message("note_on", channel=9, note=note, velocity=100, time=0))
        track.append(mido.Message("note_off", channel=9, note=note, velocity=0, time=480))
    path.parent.mkdir(parents=True, exist_ok=True)
    mido.MidiFile(type=0, ticks_per_beat=480, tracks=[track]).save(path)


# --- plans ---


def test_files_and_folders_keep_their_tree(write):
    write("in/a.wav", "in/Été/ドラム b.wav", "one.wav")
    Path("in/notes.txt").write_text("no sound")
    Path("in/.hidden.wav").write_text("no sound")
    result = redrum("batch", "in", "one.wav", "--rhythm", RHYTHM, "--out", "neu à")
    assert result.exit_code == 0, result.output
    names = [f"a_{RHYTHM}.wav", f"Été/ドラム b_{RHYTHM}.wav", f"one_{RHYTHM}.wav"]
    assert_exact(Path("neu à"), names)
    assert "3      done" in result.stdout
    assert result.stderr == "WARNING: in: 1 file is no recording by its ending, passed over: notes.txt\n"


def test_each_result_is_what_render_makes(write):
    write("a.wav")
    (item,) = objects(redrum("batch", "a.wav", "--rhythm", RHYTHM, "--seed", 3, "--json"))
    (single,) = objects(redrum("render", "a.wav", "--rhythm", RHYTHM, "--seed", 3, "-o", "b.wav", "--json"))
    ours, theirs = (soundfile.read(path)[0] for path in (item["output"], "b.wav"))
    # A batch keeps to one thread an item: sums in another order differ in the last of 16 bits.
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() < 1e-4
    own = {"output", "rhythm", "seconds"}
    assert {k: v for k, v in item.items() if k not in own} == {k: v for k, v in single.items() if k not in own}


def test_results_are_no_input_of_the_next_run(write):
    write("a.wav")
    for _ in range(2):
        assert redrum("batch", ".", "--rhythm", RHYTHM).exit_code == 0
    assert_exact(OUT, [f"a_{RHYTHM}.wav"])
    for _ in range(2):
        assert redrum("batch", ".", "--rhythm", RHYTHM, "--out", ".").exit_code == 0
    assert len(list(Path().rglob("*.wav"))) == 3  # neither the results in redrummed nor those here


def test_a_folder_of_rhythms_is_matched_by_name(write):
    write("in/a.wav", "in/sub/b.wav")
    write_beat(Path("beats/a.mid"), 36, 38)
    write_beat(Path("beats/any/b.mid"), 38)
    assert redrum("batch", "in", "--rhythm", "beats", "--name", "{stem}").exit_code == 0
    assert soundfile.info(OUT / "a.wav").frames == soundfile.info(OUT / "sub/b.wav").frames == 2 * RATE
    assert [Path(line["rhythm"]).name for line in sorted(lines_of(), key=lambda line: line["output"])] == [
        "a.mid",
        "b.mid",
    ]


def test_every_missing_rhythm_is_named(write):
    write("in/a.wav", "in/b.wav", "in/c.wav")
    write_beat(Path("beats/b.mid"), 36)
    write_beat(Path("beats/c.mid"), 36)
    write_beat(Path("beats/more/c.mid"), 36)
    result = redrum("batch", "in", "--rhythm", "beats")
    assert result.exit_code == 1
    first, hint = result.stderr.splitlines()
    assert "no rhythm called a for" in first
    assert "several rhythms for" in first
    assert "a.mid" in hint
    assert not OUT.exists()


SHEET = """source,rhythm,start,length,engine,preset,seed
a.wav,bossa-nova-132,,1.5,,,
sub/b.wav,beat.mid,0.5,source,resequence,default,7
"""


def test_csv_job_sheet(write):
    write("in/a.wav", "in/sub/b.wav")
    write_beat(Path("jobs/beat.mid"), 36, 38)
    Path("jobs/sheet.csv").write_text(SHEET, encoding="utf-8")
    result = redrum("batch", "in", "--rhythm", "jobs/sheet.csv", "--name", "{stem}_{seed}", "--seed", 2)
    assert result.exit_code == 0, result.output
    lines = {line["output"]: line for line in lines_of()}
    assert set(lines) == {"a_2.wav", "sub/b_7.wav"}
    assert soundfile.info(OUT / "a_2.wav").frames == 1.5 * RATE
    assert soundfile.info(OUT / "sub/b_7.wav").frames == 2 * RATE
    assert lines["sub/b_7.wav"]["settings"]["start_s"] == 0.5


def test_toml_job_sheet_with_sources_beside_it(write):
    write("jobs/a.wav")
    text = 'source = "a.wav"\nrhythm = "bossa-nova-132"\nlength = 0.5\n'
    Path("jobs/sheet.toml").write_text(f"[[job]]\n{text}\n[[job]]\n{text}seed = 4\n", encoding="utf-8")
    result = redrum("batch", "--rhythm", "jobs/sheet.toml", "--name", "{stem}-{seed}")
    assert result.exit_code == 0, result.output
    assert_exact(OUT, ["a-0.wav", "a-4.wav"])


def test_a_sheet_names_more_of_a_kit_and_its_change_is_noticed(write, loop):
    write("in/a.wav", "in/more.wav")
    Path("in/hits").mkdir()
    soundfile.write("in/hits/Crash 1.wav", loop[: RATE // 2], RATE)
    sheet = Path("in/jobs.csv")
    sheet.write_text(f"source,rhythm,kit_from\na.wav,{RHYTHM},more.wav; hits\na.wav,reggae-one-drop-78,\n")
    reports = objects(redrum("batch", "--rhythm", sheet, "--json"))
    has_more = {Path(item["rhythm"]).stem: "more hits are from" in " ".join(item["notes"]) for item in reports}
    assert has_more == {RHYTHM: True, "reggae-one-drop-78": False}
    assert all("unchanged" in item for item in objects(redrum("batch", "--rhythm", sheet, "--json")))
    soundfile.write("in/hits/Crash 1.wav", loop[: RATE // 4], RATE)
    reports = objects(redrum("batch", "--rhythm", sheet, "--json"))
    assert sorted("unchanged" in item for item in reports) == [False, True]
    sheet.write_text(f"source,rhythm,kit_from\na.wav,{RHYTHM},nowhere.wav\n")
    result = redrum("batch", "--rhythm", sheet)
    assert result.exit_code == 1
    assert "line 2: in/nowhere.wav does not exist" in result.stderr


def test_every_mistake_of_a_sheet_is_named_with_its_line(write):
    write("a.wav")
    Path("empty.wav").touch()
    rows = [
        "source,rhythm,start,length,engine,preset,seed",
        "a.wav,bossa-nova-132,,,,,",
        "a.wav,bosa-nova-132,soon,,,,",
        "gone.wav,bossa-nova-132,,long,,,",
        "a.wav,missing.mid,,,magic,,1.5",
        "empty.wav,bossa-nova-132,,,,nothing,",
    ]
    Path("sheet.csv").write_text("\n".join(rows), encoding="utf-8")
    result = redrum("batch", "--rhythm", "sheet.csv")
    assert result.exit_code == 2
    first, hint = result.stderr.splitlines()
    for mistake in (
        "line 3: start is 'soon', which is no number",
        "line 3: there is no rhythm called 'bosa-nova-132'",
        "line 4: --length is 'long'",
        "line 4: gone.wav does not exist",
        "line 5: there is no engine 'magic'|line 5: seed is '1.5'",
        "line 5: .*missing.mid does not exist",
        "line 6: there is no preset 'nothing'",
        "line 6: empty.wav is empty",
    ):
        assert re.search(mistake, first), mistake
    assert "line 2" not in first
    assert "source, rhythm, start" in hint
    assert not OUT.exists()


def test_sheet_that_is_none(write, subtests):
    cases = [
        ("sheet.csv", "source,beat\na.wav,x", "no column rhythm"),
        ("sheet.csv", "source,rhythm,volume\na.wav,x,1", "unknown column: volume"),
        ("sheet.csv", "source,rhythm\n", "has no lines|it has no lines"),
        ("sheet.csv", "source,rhythm\na.wav,bossa-nova-132,more", "line 2: more cells than columns"),
        ("sheet.csv", "source,rhythm\n,bossa-nova-132", "line 2: source is missing"),
        ("sheet.toml", '[[job]]\nsource = "a.wav"\n', "line 1: rhythm is missing"),
        (
            "sheet.toml",
            '\n[[job]]\nsource = "a.wav"\nrhythm = "bossa-nova-132"\nloud = 1',
            "line 2: unknown entry loud",
        ),
        ("sheet.toml", "[[job]", "is no TOML file"),
        ("sheet.toml", "volume = 1", "unknown entry: volume"),
    ]
    for name, text, sentence in cases:
        with subtests.test(name=name, text=text, sentence=sentence):
            write("a.wav")
            Path(name).write_text(text, encoding="utf-8")
            result = redrum("batch", "--rhythm", name)
            assert result.exit_code == 2
            assert re.search(sentence, result.stderr.splitlines()[0])


def test_mistakes_are_refused_before_anything_runs(write, here, monkeypatch, subtests):
    cases = [
        ("a.wav gone.wav --rhythm bossa-nova-132", 1, "gone.wav does not exist"),
        ("nothing --rhythm bossa-nova-132", 1, "nothing holds no recordings"),
        ("a.wav --rhythm bosa-nova", 1, "no rhythm called 'bosa-nova'"),
        ("a.wav --rhythm gone.csv", 1, "gone.csv does not exist"),
        ("a.wav", 2, "--rhythm is missing"),
        ("--rhythm bossa-nova-132", 2, "no recordings are given"),
        ("a.wav b/a.wav --rhythm bossa-nova-132", 2, "a.wav and b/a.wav would both become"),
        ("a.wav --rhythm bossa-nova-132 --name {stem}_{colour}", 2, "unknown part {colour}"),
        ("a.wav --rhythm bossa-nova-132 --name ../{stem}", 2, "names no file"),
        ("a.wav --rhythm bossa-nova-132 --name {stem", 2, "--name is '{stem'"),
        ("a.wav --rhythm bossa-nova-132 --name {stem} --out .", 2, "a.wav is an input"),
        ("a.wav --rhythm bossa-nova-132 --jobs 0", 2, "--jobs is 0"),
        ("a.wav --rhythm bossa-nova-132 --mix 2", 2, "mix is 2"),
        ("a.wav --rhythm bossa-nova-132 --bit-depth 7", 2, "bit depth is 7"),
        ("a.wav --rhythm bossa-nova-132 --preset nothing", 1, "no preset 'nothing'"),
        ("a.wav --rhythm bossa-nova-132 --skip-existing --overwrite", 2, "contradict"),
        ("a.wav --rhythm bossa-nova-132 --scheduler tcp://127.0.0.1:9", 3, "no Dask scheduler answers"),
    ]
    monkeypatch.setattr("daw_bridge.batch_work._CLUSTER_TIMEOUT_S", 1)
    write("a.wav", "b/a.wav")
    Path("nothing/deep").mkdir(parents=True)
    for arguments, code, sentence in cases:
        with subtests.test(arguments=arguments, sentence=sentence):
            before = files_in(here)
            result = redrum("batch", *arguments.split())
            assert result.exit_code == code, result.output
            first, hint = result.stderr.splitlines()
            assert sentence in first
            assert hint.startswith("  ")
            assert files_in(here) == before


def test_a_page_shows_what_was_made_and_why_the_rest_was_not(write, here):
    write("in/a.wav", "in/sub/b.wav")
    Path("in/bad.wav").write_text("no sound")
    arguments = ["batch", "in", "--rhythm", RHYTHM, "--page", "listen"]
    result = redrum(*arguments)
    assert result.exit_code == 1
    assert f"listen to all: open {Path('listen', 'index.html').absolute().as_uri()} in" in result.stdout
    page = Path("listen", "index.html").read_text(encoding="utf-8")
    assert page.count("<audio") == 6
    assert page.count("<img") == 2
    assert not [
        path for path in OUT.glob("*") if path.suffix == ".png"
    ]  # nobody asked for pictures beside results
    assert page.index("1. a.wav") < page.index("2. bad.wav") < page.index("3. b.wav")
    assert len(list(Path("listen").iterdir())) == 1 + 2 * 3 + 1  # index; source, result, picture; one rhythm
    # The same command again makes nothing anew but the page.
    before = files_in("listen")
    assert redrum(*arguments).stdout.count(": unchanged\n") == 2
    assert files_in("listen") == before
    # Another rhythm is added to it.
    redrum("batch", "in/a.wav", "--rhythm", "rock-drive-135", "--page", "listen")
    page = Path("listen", "index.html").read_text(encoding="utf-8")
    assert page.index("3. b.wav") < page.index("4. a.wav playing rock-drive-135")
    assert page.count("<audio") == 9
    refused = redrum("batch", "in", "--rhythm", RHYTHM, "--page", "in/listen")
    assert refused.exit_code == 2
    assert "would lie among the recordings in in" in refused.stderr
    refused = redrum("batch", "song.rpp", "--rhythm", RHYTHM, "--page", "other")
    assert refused.exit_code == 2
    assert "--page shows recordings, not projects" in refused.stderr


def test_dry_run_says_what_it_would_and_how_long(write, here):
    write("in/a.wav", "in/b.wav", "in/c.wav")
    Path("in/bad.wav").write_text("no sound")
    assert redrum("batch", "in/a.wav", "--rhythm", RHYTHM).exit_code == 0
    OUT.joinpath(f"b_{RHYTHM}.wav").write_bytes(b"mine")
    before = files_in(here)
    result = redrum("batch", "in", "--rhythm", RHYTHM, "--dry-run", "--skip-existing")
    assert result.exit_code == 1
    assert f"c_{RHYTHM}.wav: would be" in result.stdout
    assert "1 to make, 1 unchanged, 1 skipped, 1 failing" in result.stdout
    assert re.search(r"about \d+ s for 2 s of recordings, as fast as the 1 made before", result.stdout)
    items = objects(redrum("batch", "in", "--rhythm", RHYTHM, "--dry-run", "--skip-existing", "--json"))
    assert {Path(item["source"]).name: item.get("dry_run", False) for item in items if "error" not in item} == {
        "a.wav": True,
        "b.wav": True,
        "c.wav": True,
    }
    assert files_in(here) == before


# --- results and the manifest ---


def test_a_second_run_makes_only_what_is_missing_or_changed(write, loop):
    write("in/a.wav", "in/b.wav", "in/c.wav", "in/d.wav")
    assert redrum("batch", "in", "--rhythm", RHYTHM).exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in OUT.glob("*.wav")}
    (OUT / f"b_{RHYTHM}.wav").unlink()
    soundfile.write("in/c.wav", loop[::-1], RATE)
    items = objects(redrum("batch", "in", "--rhythm", RHYTHM, "--json"))
    assert [Path(item["source"]).stem for item in items if item.get("unchanged")] == ["a", "d"]
    kept = {path for path, at in before.items() if path.stat().st_mtime_ns == at}
    assert {path.name[0] for path in kept} == {"a", "d"}
    assert {line["output"]: line["output_sha256"] for line in lines_of()} == results_in(OUT)

    # Other settings are other results: what a batch made it may make anew.
    items = objects(redrum("batch", "in", "--rhythm", RHYTHM, "--mix", 0.5, "--json"))
    assert not [item for item in items if item.get("unchanged")]
    assert {line["output"]: line["output_sha256"] for line in lines_of()} == results_in(OUT)


def test_what_no_batch_made_is_only_replaced_when_asked(write):
    write("a.wav", "b.wav")
    assert redrum("batch", "a.wav", "--rhythm", RHYTHM).exit_code == 0
    mine = [OUT / f"a_{RHYTHM}.wav", OUT / f"b_{RHYTHM}.wav"]  # the first was a batch's, before it was changed
    for path in mine:
        path.write_bytes(b"mine")
    result = redrum("batch", "a.wav", "b.wav", "--rhythm", RHYTHM)
    assert result.exit_code == 1
    assert result.stderr.count("exists already") == 2
    skipped = redrum("batch", "a.wav", "b.wav", "--rhythm", RHYTHM, "--skip-existing", "--json")
    assert [item["skipped"] for item in objects(skipped)] == [True, True]
    assert all(path.read_bytes() == b"mine" for path in mine)
    assert redrum("batch", "a.wav", "b.wav", "--rhythm", RHYTHM, "--overwrite").exit_code == 0
    assert all(soundfile.info(path).frames for path in mine)


def test_a_bad_file_does_not_stop_the_others(write):
    write("in/a.wav", "in/z.wav")
    Path("in/bad.wav").write_text("no sound")
    result = redrum("batch", "in", "--rhythm", RHYTHM, "--jobs", 1)
    assert result.exit_code == 1
    assert_exact(OUT, [f"a_{RHYTHM}.wav", f"z_{RHYTHM}.wav"])
    assert "bad.wav is not a sound file" in result.stderr
    assert re.search(r"2 +done\n1 +failed\n", result.stdout)
    assert re.search(r"in.bad\.wav +bad\.wav is not a sound file", result.stdout)
    (line,) = lines_of(status="failed")
    assert line["output"] == f"bad_{RHYTHM}.wav"
    (item,) = (i for i in objects(redrum("batch", "in", "--rhythm", RHYTHM, "--json")) if "error" in i)
    assert item["source"] == str(Path("in/bad.wav"))


def test_no_keep_going_stops_at_the_first_failure(write):
    write("in/b.wav", "in/c.wav")
    Path("in/a.wav").write_text("no sound")
    result = redrum("batch", "in", "--rhythm", RHYTHM, "--no-keep-going", "--jobs", 1)
    assert result.exit_code == 1
    assert "not begun" in result.stdout
    assert len(results_in(OUT)) < 2


def test_an_unexpected_error_is_one_items_own(write, monkeypatch):
    def fail(*_args, **_options):
        raise ZeroDivisionError("by nothing")

    write("a.wav")
    monkeypatch.setattr(Redrummer, "redrum", fail)
    result = redrum("batch", "a.wav", "--rhythm", RHYTHM)
    assert result.exit_code == 1
    assert "a.wav: by nothing" in result.stderr
    (line,) = lines_of(status="failed")
    assert "ZeroDivisionError" in line["trace"]


def test_full_disk_is_said_and_leaves_nothing_unfinished(write, monkeypatch):
    def blocks_until_the_disk_is_full(self, *_):
        yield self.read(0, 1000)
        raise OSError(28, "No space left on device")

    write("a.wav")
    monkeypatch.setattr(Take, "blocks", blocks_until_the_disk_is_full)
    result = redrum("batch", "a.wav", "--rhythm", RHYTHM)
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert set(files_in(OUT)) == {MANIFEST}


def test_pictures_belong_to_their_results(write):
    write("a.wav")
    for status in ("plot", "unchanged"):
        (item,) = objects(redrum("batch", "a.wav", "--rhythm", RHYTHM, "--plot", "--json"))
        assert item[status]
    picture = OUT / f"a_{RHYTHM}.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    picture.unlink()
    (item,) = objects(redrum("batch", "a.wav", "--rhythm", RHYTHM, "--plot", "--json"))
    assert "unchanged" not in item
    assert picture.is_file()


def test_stems_and_midi_belong_to_their_results(write):
    write("a.wav")
    arguments = ["batch", ".", "--rhythm", RHYTHM, "--out", ".", "--name", "{stem}-2", "--stems", "--midi"]
    for status in ("midi", "unchanged"):
        (item,) = objects(redrum(*arguments, "--json"))  # the stems are recordings here, and no input
        assert item[status]
    names = [f"a-2_stems/a-2_{c}.wav" for c in ("KD", "SD", "TT", "HH", "CY")]
    assert list(item["stems"].values()) == names
    sounds = [soundfile.read(name, dtype="int16")[0].astype(int) for name in ("a-2.wav", *names)]
    assert np.array_equal(sum(sounds[1:]), sounds[0])
    assert Path("a-2.mid").read_bytes().startswith(b"MThd")
    Path(names[3]).unlink()
    (item,) = objects(redrum(*arguments, "--json"))
    assert "unchanged" not in item
    assert Path(names[3]).is_file()
    # What its user has changed since is not replaced, nor anything beside it.
    Path(names[0]).write_bytes(b"mine")
    before = files_in(".")
    result = redrum(*arguments, "--seed", 1)
    assert result.exit_code == 1
    assert "a-2_KD.wav exists already" in result.stderr
    assert {name for name, found in files_in(".").items() if found != before.get(name)} <= {MANIFEST}


def test_a_batch_knows_stems_and_midi_that_it_once_made(write):
    write("a.wav")
    arguments = ["batch", ".", "--rhythm", RHYTHM, "--out", ".", "--name", "{stem}-2", "--json"]
    with_all = [*arguments, "--stems", "--midi"]
    assert redrum(*with_all).exit_code == 0
    stem = Path("a-2_stems/a-2_KD.wav")
    (item,) = objects(redrum(*arguments, "--seed", 1))  # the stems are no recordings to be redrummed
    assert item["output"] == "a-2.wav"
    assert stem.is_file()
    stem.write_bytes(b"mine")
    refused = redrum(*with_all, "--seed", 1)
    assert "a-2_KD.wav exists already" in refused.stderr
    assert stem.read_bytes() == b"mine"
    stem.unlink()
    result = redrum(*with_all, "--seed", 1)
    assert result.exit_code == 0, result.stderr
    sounds = [soundfile.read(path, dtype="int16")[0].astype(int) for path in sorted(stem.parent.iterdir())]
    assert np.array_equal(sum(sounds), soundfile.read("a-2.wav", dtype="int16")[0])


def test_a_result_whose_stem_cannot_be_published_leaves_none_of_its_files(write, monkeypatch):
    write("a.wav")
    move = ConfinedFolder.move

    def full(self, name, new, **options):
        if new.endswith("_SD.wav"):
            raise OSError(28, "No space left on device")
        move(self, name, new, **options)

    monkeypatch.setattr(ConfinedFolder, "move", full)
    result = redrum("batch", "a.wav", "--rhythm", RHYTHM, "--stems", "--midi")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert set(files_in(OUT)) == {MANIFEST}


def test_a_rhythm_that_is_a_recording_is_transcribed_once(write, monkeypatch):
    runs = []
    infer = Transcriber.infer

    def watched(self, audio, **how):
        runs.append(len(audio))
        return infer(self, audio, **how)

    write("in/a.wav", "in/b.wav", "in/c.wav", "beat.wav")
    monkeypatch.setattr(Transcriber, "infer", watched)
    assert redrum("batch", "in", "--rhythm", "beat.wav").exit_code == 0
    assert len(runs) == 4  # three sources and one rhythm


def test_results_do_not_depend_on_how_many_are_made_at_once(write):
    write("in/a.wav", "in/b.wav", "in/c.wav")
    for n_jobs in (1, 3):
        assert redrum("batch", "in", "--rhythm", RHYTHM, "--jobs", n_jobs, "--out", str(n_jobs)).exit_code == 0
    assert results_in("1") == results_in("3")


def test_threads_of_the_models_are_given_back(write):
    write("a.wav")
    before = torch.get_num_threads()
    assert redrum("batch", "a.wav", "--rhythm", RHYTHM).exit_code == 0
    assert torch.get_num_threads() == before


# --- stopped in the middle ---


def test_two_batches_do_not_share_a_folder():
    OUT.mkdir()
    with Manifest(OUT), pytest.raises(OutputError, match="another batch is writing"), Manifest(OUT):
        pass
    assert not list(OUT.iterdir())


def test_what_was_finished_but_not_moved_appears_in_the_next_run():
    with Manifest(OUT) as manifest:
        staged = staged_path(manifest.begin(), ".wav")
        staged.write_bytes(b"sound")
        finished = Finished(staged=staged, path=OUT / "sub/a.wav", sha256=sha256_of(staged))
        manifest.add({"key": "k"}, [finished], overwrite=False)
    assert not (OUT / STAGING).exists()
    # As after a kill between the line and the move, with a line that was cut off, and unfinished files.
    staged.parent.mkdir(parents=True)
    shutil.move(OUT / "sub/a.wav", staged)
    staged_path(staged.parent, ".wav").write_bytes(b"half a s")
    (staged.parent / ".redrum-0123456789abcdef.part").write_bytes(b"half")
    with (OUT / MANIFEST).open("ab") as file:
        file.write(b'{"schema": 1, "status": "do')
    with Manifest(OUT) as manifest:
        assert manifest.made(OUT / "sub/a.wav")["key"] == "k"
    assert results_in(OUT) == {"sub/a.wav": hashlib.sha256(b"sound").hexdigest()}
    assert len(lines_of()) == 1


def test_an_interrupt_between_line_and_result_loses_nothing(write, monkeypatch):
    moves = []
    move = ConfinedFolder.move

    def interrupted_once(*arguments, **options):
        moves.append(arguments)
        if len(moves) == 1:
            raise KeyboardInterrupt
        move(*arguments, **options)

    write("a.wav")
    monkeypatch.setattr(ConfinedFolder, "move", interrupted_once)
    assert redrum("batch", "a.wav", "--rhythm", RHYTHM).exit_code == 130
    assert_exact(OUT, [f"a_{RHYTHM}.wav"])
    (item,) = objects(redrum("batch", "a.wav", "--rhythm", RHYTHM, "--json"))
    assert item["unchanged"]


def test_closing_early_leaves_finished_items_whole(write, here):
    write("in/a.wav", "in/b.wav", "in/c.wav")
    items = plan([Path("in")], RHYTHM, PlanSettings(out=OUT))
    known = run(items, BatchSettings(out=OUT, jobs=1))
    first = next(known)
    known.close()
    assert first.status == "done"
    assert_exact(OUT, [first.item.output.name])


SLOW_MAIN = """
import time
from daw_bridge.commands.cli import main
from transform.engine import Take

read = Take.read

def read_slowly(self, start, stop):
    time.sleep(0.15)
    return read(self, start, stop)

Take.read = read_slowly
main()
"""


def started(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", SLOW_MAIN, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        preexec_fn=None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def n_lines(folder):
    path = folder / MANIFEST
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(condition):
    deadline_s = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.005)


@pytest.mark.slow
def test_killed_at_random_and_resumed_it_loses_and_repeats_nothing(write):
    chance = random.Random(0)
    write(*(f"in/{n}.wav" for n in range(8)))
    command = ["batch", "in", "--rhythm", RHYTHM, "--jobs", 2, "--length", 4]
    assert redrum(*command, "--out", "calm").exit_code == 0
    disturbed = Path("disturbed")
    for _ in range(3):
        process = started(*command, "--out", disturbed)
        try:
            before = n_lines(disturbed)
            wait_for(lambda: n_lines(disturbed) > before or process.poll() is not None)  # noqa: B023
            time.sleep(chance.uniform(0, 0.2))
        finally:
            process.kill()
            process.communicate()
        for name in results_in(disturbed):
            if not name.startswith(STAGING):
                assert results_in(disturbed)[name] == results_in("calm")[name]
    assert redrum(*command, "--out", disturbed).exit_code == 0
    assert results_in(disturbed) == results_in("calm")
    assert_exact(disturbed, results_in("calm"))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to a whole console, the tests' own included")
def test_ctrl_c_leaves_finished_items_and_nothing_else(write):
    write(*(f"in/{n}.wav" for n in range(6)))
    process = started("batch", "in", "--rhythm", RHYTHM, "--jobs", 1, "--length", 30)
    try:
        wait_for(lambda: n_lines(OUT) > 0 or process.poll() is not None)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert errors.splitlines()[-2] == "redrum: interrupted"
    assert 0 < len(results_in(OUT)) < 6
    assert_exact(OUT, results_in(OUT))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_loses_a_worker_makes_the_same(write, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    write(*(f"in/{n}.wav" for n in range(6)))
    command = ["batch", "in", "--rhythm", RHYTHM, "--length", 20]
    assert redrum(*command, "--out", "calm").exit_code == 0
    far = Path("far")
    options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        pid = next(iter(client.run(os.getpid).values()))

        def kill_a_worker():
            wait_for(lambda: (far / STAGING).is_dir() and any((far / STAGING).iterdir()))
            os.kill(pid, signal.SIGTERM if os.name == "nt" else signal.SIGKILL)

        killer = threading.Thread(target=kill_a_worker)
        killer.start()
        result = redrum(*command, "--out", far, "--scheduler", cluster.scheduler_address)
        killer.join()
    assert result.exit_code == 0, result.output
    assert results_in(far) == results_in("calm")
    assert_exact(far, results_in("calm"))


def test_without_dask_the_cure_is_said(write, monkeypatch):
    write("a.wav")
    monkeypatch.setitem(sys.modules, "distributed", None)
    result = redrum("batch", "a.wav", "--rhythm", RHYTHM, "--scheduler", "tcp://127.0.0.1:9")
    assert result.exit_code == 3
    assert "'.[cluster]'" in result.stderr


def test_a_shipped_rhythm_is_written_down_by_its_file(write):
    write("a.wav")
    assert redrum("batch", "a.wav", "--rhythm", RHYTHM).exit_code == 0
    (line,) = lines_of()
    assert line["rhythm_sha256"] == sha256_of(find_rhythm(RHYTHM).path)
    assert line["source_sha256"] == sha256_of(Path("a.wav"))
    assert np.isclose(line["recorded_s"], 2.0)
