"""What a stranger put into the folder of a batch's results: nothing of the user's is touched."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.manifest import MANIFEST, STAGING
from transform.engine import Redrummer
from transform.library import demo_recordings
from transform.presets import load_preset

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.usefixtures("models_once")
RHYTHM = "hip-hop-bounce-140"
RESULT = f"loop_{RHYTHM}.wav"


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Return a folder with a user's own files, and `pack`, the current folder, in which `loop.wav` lies."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("thesis")
    (tmp_path / "mine" / "0123456789abcdef.wav").write_text("my own take")
    (tmp_path / "pack" / "redrummed").mkdir(parents=True)
    path = next(recording.path for recording in demo_recordings() if "acoustic" in recording.name)
    samples, rate = soundfile.read(path, frames=2 * 44_100, dtype="float32")
    soundfile.write(tmp_path / "pack" / "loop.wav", samples.mean(axis=1), rate, subtype="PCM_16")
    monkeypatch.chdir(tmp_path / "pack")
    return tmp_path


def batch(*options):
    return CliRunner().invoke(app, ["batch", "loop.wav", "--rhythm", RHYTHM, *options], prog_name="redrum")


def mine(here):
    return {path.name: path.read_text() for path in (here / "mine").iterdir()}


def everything(folder):
    """Return what lies below a folder: the bytes of files, where links lead."""
    return {
        path.relative_to(folder).as_posix(): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def line(**entry):
    """Return a line as a batch writes it, of a result `x.wav` that is staged and not yet there."""
    data = entry.pop("data", b"a stranger's")
    found = hashlib.sha256(data).hexdigest()
    path = entry.get("output", "x.wav")
    staged = entry.pop("staged", "0123456789abcdef.wav")
    file = {"staged": staged, "path": path, "sha256": found} | entry.pop("file", {})
    whole = {"schema": 1, "status": "done", "output": path, "output_sha256": found, "finished": [file]}
    return json.dumps(whole | {"overwrite": True, "key": "k"} | entry).encode() + b"\n"


def link(place, target):
    try:
        place.symlink_to(target, target_is_directory=target.is_dir())
    except OSError:
        pytest.skip("links cannot be made here")


def test_the_hidden_folder_as_a_link_is_refused_and_not_emptied(here):
    link(Path("redrummed", STAGING), here / "mine")
    before = mine(here)
    result = batch()
    assert result.exit_code == 1
    assert f"{STAGING} is a link or no folder" in result.stderr
    assert mine(here) == before
    assert everything(Path("redrummed")) == {STAGING: str(here / "mine")}


def test_a_batchs_own_folder_within_as_a_link_is_not_emptied(here):
    token = "0123456789abcdef" * 2
    Path("redrummed", STAGING).mkdir()
    link(Path("redrummed", STAGING, token), here / "mine")
    stated = line(staged=f"{token}/0123456789abcdef.wav", data=b"my own take")
    Path("redrummed", MANIFEST).write_bytes(stated)
    before = mine(here)
    assert batch().exit_code == 0
    assert mine(here) == before
    assert not Path("redrummed", "x.wav").exists()
    assert Path("redrummed", RESULT).is_file()


def test_files_that_no_line_states_stay_in_the_hidden_folder_and_are_in_nobodys_way(here):
    hidden = Path("redrummed", STAGING)
    (hidden / "sub").mkdir(parents=True)
    (hidden / "sub" / "deep.wav").write_text("x")
    (hidden / "thesis.txt").write_text("thesis")
    (hidden / "0123456789abcdef.wav").write_text("of our name form")
    (hidden / ".redrum-0123456789abcdef.part").write_text("likewise")
    (hidden / ("ab" * 16)).mkdir()  # as a batch's own folder
    (hidden / ("ab" * 16) / "thesis.wav").write_text("x")
    before = everything(hidden)
    for _ in range(2):
        assert batch().exit_code == 0
        assert everything(hidden) == before
    assert Path("redrummed", RESULT).is_file()


def test_a_manifest_that_is_not_all_ours_is_refused_untouched(here, subtests):
    cases = [
        b'{"audio":"1.wav","text":"a"}\n{"audio":"2.wav","text":"b"}',
        b'[{"audio":"1.wav"},{"audio":"2.wav"}]',
        b"{",
        b"# notes, not JSON\n",
        b"\n",
        b"null\n",
        b'"text"\n',
        b"[" * 100_000 + b"\n",
        b'{"schema": 2, "status": "done"}\n',
        b'{"schema": 1, "status": "else", "output": "x.wav"}\n',
        b'{"schema": 1, "status": "failed", "output": "../x.wav", "error": "e"}\n',
        line(output="../mine/thesis.wav"),
        line(output="/mine/thesis.wav"),
        line(output="x.wav", staged="../../mine/0123456789abcdef.wav"),
        line(output="x.wav", staged="thesis.txt"),
        line(output="authorized_keys"),
        line(output=MANIFEST),
        line(output=f"{STAGING}/x.wav"),
        line(overwrite="yes"),
        line(output=7),
        line(finished={}, output="x\0.wav"),
        b"\xff\xfe\n",
        line(output_sha256="x"),
        line(finished=[]),
        line(file={"path": "other.wav"}),
        line(report={"duration_s": "abc"}),
        line(report={"notes": 5}),
        line(report={"bit_depth": 16}),
        line(report={"duration_s": float("nan")}),
        line(z="z" * 2**20),
    ]
    for data in cases:
        with subtests.test(data=data):
            Path("redrummed", MANIFEST).write_bytes(data)
            Path("redrummed", STAGING).mkdir(exist_ok=True)
            Path("redrummed", STAGING, "0123456789abcdef.wav").write_bytes(b"a stranger's")
            before = everything(here)
            for options in ((), ("--overwrite",), ("--skip-existing",), ("--dry-run",)):
                result = batch(*options)
                assert result.exit_code == 1, options
                assert "line that no batch wrote" in result.stderr
                assert everything(here) == before


def test_why_an_item_failed_is_never_a_line_that_no_batch_wrote(here, monkeypatch):
    def fail(*_args, **_options):
        raise ZeroDivisionError("by nothing" * 1_000_000)

    with monkeypatch.context() as patch:
        patch.setattr(Redrummer, "redrum", fail)
        assert batch("-q").exit_code == 1
    assert batch().exit_code == 0


def test_where_a_result_lies_is_not_for_its_line_to_say(here):
    assert batch().exit_code == 0
    manifest = Path("redrummed", MANIFEST)
    entry = json.loads(manifest.read_text())
    entry["report"] |= {"output": "/etc/passwd", "plot": "/etc/shadow", "source": "x", "rhythm": "y"}
    manifest.write_text(json.dumps(entry) + "\n")
    (item,) = (json.loads(text) for text in batch("--json").stdout.splitlines())
    assert item["unchanged"]
    assert (item["source"], item["output"]) == ("loop.wav", str(Path("redrummed", RESULT)))
    assert item["plot"] is None


@pytest.mark.parametrize(
    "times",
    [
        {"recorded_s": 5e-324, "report": {"seconds": 1e308}},
        {"recorded_s": 10**400, "report": {"seconds": 1}},
        {"recorded_s": 1e308, "report": {"seconds": 1e308}},
    ],
)
def test_times_that_no_batch_took_say_nothing_of_the_next(here, times):
    lines = line(output="x.wav", **times) + line(output="y.wav", **times)
    Path("redrummed", MANIFEST).write_bytes(lines)
    result = batch("--dry-run")
    assert result.exit_code == 0, result.output
    assert "at 25 x real time" in result.stdout


def test_a_recording_that_a_manifest_calls_its_result_does_not_vanish_unsaid(here, caplog):
    Path("takes").mkdir()
    shutil.copy("loop.wav", "takes/a.wav")
    link(Path("redrummed", "b.wav"), here / "pack" / "takes" / "a.wav")
    Path("redrummed", MANIFEST).write_bytes(line(output="b.wav"))
    arguments = ["batch", "takes", "--rhythm", RHYTHM, "--dry-run", "--out"]
    result = CliRunner().invoke(app, [*arguments, "redrummed"], prog_name="redrum")
    assert "1 to make" in result.stdout
    shutil.copy("loop.wav", "takes/c.wav")
    Path("takes", MANIFEST).write_bytes(line(output="c.wav"))
    result = CliRunner().invoke(app, [*arguments, "takes"], prog_name="redrum")
    assert "1 to make" in result.stdout
    assert "c.wav is left out" in caplog.text


def test_a_manifest_that_is_a_link_is_neither_read_nor_written(here):
    (here / "mine" / "list").write_text("precious without a line end")
    for target in (here / "mine" / "list", here / "mine" / "none"):
        link(Path("redrummed", MANIFEST), target)
        before = everything(here)
        for options in ((), ("--dry-run",)):
            result = batch(*options)
            assert result.exit_code == 1
            assert "is a link" in result.stderr
            assert everything(here) == before
        Path("redrummed", MANIFEST).unlink()


def test_a_manifest_with_another_name_elsewhere_is_not_written(here):
    (here / "mine" / "empty").write_bytes(b"")
    try:
        os.link(here / "mine" / "empty", Path("redrummed", MANIFEST))
    except OSError:
        pytest.skip("hard links cannot be made here")
    result = batch()
    assert result.exit_code == 1
    assert "hard link" in result.stderr
    assert (here / "mine" / "empty").read_bytes() == b""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs")
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_a_manifest_that_is_no_plain_file_is_refused(here, make):
    make(Path("redrummed", MANIFEST))
    for options in ((), ("--dry-run",)):
        result = batch(*options)
        assert result.exit_code == 1
        assert "no plain file" in result.stderr


@pytest.mark.parametrize("is_there", [True, False])
def test_a_finished_file_never_appears_behind_a_link(here, is_there):
    link(Path("redrummed", "s"), here / "mine")
    if is_there:
        (here / "mine" / "x.wav").write_text("my own")
    Path("redrummed", STAGING).mkdir()
    Path("redrummed", STAGING, "0123456789abcdef.wav").write_bytes(b"a stranger's")
    Path("redrummed", MANIFEST).write_bytes(line(output="s/x.wav"))
    before = mine(here)
    result = batch()
    assert result.exit_code == 0
    assert mine(here) == before
    assert Path("redrummed", RESULT).is_file()


def test_a_finished_file_never_takes_the_place_of_what_it_was_not_to_replace(here):
    old, mine_now = b"what the batch had made", b"what I made of it since"
    replaces = {"replaces": hashlib.sha256(old).hexdigest()}
    for there, file, then in (
        (mine_now, {}, mine_now),  # of 0.1.0: nobody knows what was to be replaced
        (mine_now, replaces, mine_now),
        (old, replaces, b"a stranger's"),  # as after a kill
        (None, {}, b"a stranger's"),
    ):
        Path("redrummed", STAGING).mkdir()
        Path("redrummed", STAGING, "0123456789abcdef.wav").write_bytes(b"a stranger's")
        Path("redrummed", MANIFEST).write_bytes(line(file=file))
        Path("redrummed", "x.wav").unlink(missing_ok=True)
        if there is not None:
            Path("redrummed", "x.wav").write_bytes(there)
        assert batch("--skip-existing").exit_code == 0
        assert Path("redrummed", "x.wav").read_bytes() == then
        assert not Path("redrummed", STAGING).exists()


def test_a_staged_link_is_not_moved(here):
    Path("redrummed", STAGING).mkdir()
    link(Path("redrummed", STAGING, "0123456789abcdef.wav"), here / "mine" / "0123456789abcdef.wav")
    Path("redrummed", MANIFEST).write_bytes(line(data=b"my own take"))
    assert batch().exit_code == 0
    assert not os.path.lexists(Path("redrummed", "x.wav"))
    assert mine(here)["0123456789abcdef.wav"] == "my own take"


def test_results_do_not_go_through_a_link_below_the_folder(here):
    Path("takes", "drums").mkdir(parents=True)
    for place in ("takes/drums/a.wav", "takes/b.wav"):
        shutil.copy("loop.wav", place)
    link(Path("redrummed", "drums"), here / "mine")
    before = mine(here)
    result = CliRunner().invoke(app, ["batch", "takes", "--rhythm", RHYTHM], prog_name="redrum")
    assert result.exit_code == 1
    assert "drums is a link or no folder, and links are not followed" in result.stderr
    assert mine(here) == before
    assert Path("redrummed", f"b_{RHYTHM}.wav").is_file()


def test_what_a_batch_of_0_1_0_left_is_gone_on_with(here):
    Path("redrummed", STAGING).mkdir()
    Path("redrummed", STAGING, "0123456789abcdef.wav").write_bytes(b"finished")
    failed = {"schema": 1, "status": "failed", "output": "y.wav", "source": "y", "rhythm": "r", "error": "e"}
    Path("redrummed", MANIFEST).write_bytes(json.dumps(failed).encode() + b"\n" + line(data=b"finished"))
    assert batch().exit_code == 0
    assert Path("redrummed", "x.wav").read_bytes() == b"finished"
    assert not Path("redrummed", STAGING).exists()


# --- names that are not UTF-8 ---


@pytest.fixture
def odd(here):
    """Return a name that is not UTF-8, as an old archive or a stick brings it."""
    name = os.fsdecode(b"caf\xe9")
    try:
        Path(name).mkdir()
    except OSError:
        pytest.skip("this disk takes no names that are not UTF-8")
    return name


@pytest.mark.slow
def test_names_that_are_not_utf8_are_names_like_others(odd):
    Path("in").mkdir()
    for place in ("in/a.wav", f"in/{odd}.wav", "in/z.wav", f"{odd}/b.wav"):
        shutil.copy("loop.wav", place)
    for status in ("done", "unchanged"):
        result = CliRunner().invoke(
            app, ["batch", "in", odd, "--rhythm", RHYTHM, "--out", f"{odd} out", "--plot", "--json"]
        )
        assert result.exit_code == 0, result.output
        assert all(
            json.loads(text).get("unchanged", False) == (status == "unchanged")
            for text in result.stdout.splitlines()
        )
    names = {path.name for path in Path(f"{odd} out").glob("*.wav")}
    assert names == {f"{stem}_{RHYTHM}.wav" for stem in ("a", "b", "z", odd)}
    manifest = Path(f"{odd} out", MANIFEST).read_bytes().decode("utf-8")  # which it is
    outputs = [json.loads(text).get("output") for text in manifest.splitlines()]
    assert f"{odd}_{RHYTHM}.wav" in outputs


def test_a_failure_of_an_item_of_such_a_name_stops_no_other(odd):
    Path("in").mkdir()
    Path(f"in/{odd}.wav").write_text("no sound")
    for name in ("a", "z"):
        shutil.copy("loop.wav", f"in/{name}.wav")
    result = CliRunner().invoke(app, ["batch", "in", "--rhythm", RHYTHM, "--jobs", "1"])
    assert result.exit_code == 1
    assert {path.name[0] for path in Path("redrummed").glob("*.wav")} == {"a", "z"}


def test_every_command_opens_and_writes_files_of_such_names(odd):
    shutil.copy("loop.wav", f"{odd}/{odd}.wav")
    for arguments in (
        ["render", f"{odd}/{odd}.wav", "--rhythm", f"{odd}/{odd}.wav", "--plot", f"{odd}/p.png"],
        ["render", "loop.wav", "--rhythm", RHYTHM, "-o", f"{odd}/{odd}.flac"],
        ["transcribe", f"{odd}/{odd}.wav", "-o", f"{odd}/o.mid", "--plot", f"{odd}/q.png"],
        ["separate", f"{odd}/{odd}.wav", "--out", f"{odd}/stems", "--plot"],
        ["extract", f"{odd}/{odd}.wav", "--out", f"{odd}/kit"],
        ["render", "loop.wav", "--rhythm", f"{odd}/o.mid", "-o", f"{odd}/m.wav", "--page", f"{odd}/page"],
    ):
        result = CliRunner().invoke(app, [*arguments, "--json"], prog_name="redrum")
        assert result.exit_code == 0, (arguments, result.output, result.exception)
    made = {path.relative_to(odd).as_posix() for path in Path(odd).rglob("*") if path.is_file()}
    assert {"p.png", f"{odd}.flac", "o.mid", "q.png", "m.wav", "page/index.html", "kit/kit.json"} <= made
    assert {f"stems/{odd}/{odd}_{name}.wav" for name in ("KD", "SD", "TT", "HH", "CY")} <= made
    assert Path("redrummed", f"{odd}_{odd}.wav").is_file()


def test_a_preset_in_a_folder_of_such_a_name_plays(odd):
    shutil.copytree(load_preset("default").folder, Path(odd, "mine"))
    arguments = ["render", "loop.wav", "--rhythm", RHYTHM, "--preset", f"{odd}/mine", "-o"]
    for place, more in (("own.wav", []), ("default.wav", ["--preset", "default"])):
        assert CliRunner().invoke(app, [*arguments, place, *more], prog_name="redrum").exit_code == 0
    assert Path("own.wav").read_bytes() == Path("default.wav").read_bytes()


def test_a_line_feed_in_a_name_forges_no_line(here):
    name = "nl\nwritten down in"
    try:
        shutil.copy("loop.wav", f"{name}.wav")
    except OSError:
        pytest.skip("this disk takes no line feeds in names")
    for command in (["render"], ["batch", "--out", "o"]):
        arguments = [command[0], f"{name}.wav", "--rhythm", RHYTHM, *command[1:]]
        result = CliRunner().invoke(app, arguments, prog_name="redrum")
        assert result.exit_code == 0
        assert not [text for text in result.stdout.splitlines() if text.startswith("written down in_")]


# --- other places that a stranger may have prepared ---


@pytest.mark.parametrize("kind", ["hard link", "link", "linked folder"])
def test_no_log_line_goes_into_a_file_of_mine(here, monkeypatch, kind):
    monkeypatch.setenv("REDRUM_DATA", str(here / "data"))
    mine_log = here / "mine" / "redrum.log"
    mine_log.write_text("mine")
    (here / "data" / "logs").mkdir(parents=True)
    if kind == "hard link":
        os.link(mine_log, here / "data" / "logs" / "redrum.log")
    elif kind == "link":
        link(here / "data" / "logs" / "redrum.log", mine_log)
    else:
        (here / "data" / "logs").rmdir()
        link(here / "data" / "logs", here / "mine")
    arguments = [sys.executable, "-m", "daw_bridge", "rhythms", "add", "-v", "new", "none.mid"]
    done = subprocess.run(arguments, cwd=ROOT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 1
    assert "there is no log file" in done.stderr
    assert mine_log.read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs")
@pytest.mark.parametrize("name", ["song.rpp", "song.als", "loop2.wav", "jobs.csv", "jobs.toml"])
def test_nobody_waits_for_a_pipe(here, name):
    os.mkfifo(name)
    what = ["batch", name, "--rhythm", RHYTHM] if not name.startswith("jobs") else ["batch", "--rhythm", name]
    result = CliRunner().invoke(app, what, prog_name="redrum")
    assert result.exit_code in (1, 2)
    assert len(result.stderr.splitlines()) <= 4


@pytest.mark.parametrize(
    "arguments",
    [
        ["render", "loop.wav", "--rhythm", RHYTHM],
        ["batch", "loop.wav", "--rhythm", RHYTHM],
        ["transcribe", "loop.wav"],
        ["separate", "loop.wav"],
        ["demo", "acoustic-rock-135bpm"],
    ],
)
def test_a_place_that_nobody_named_is_not_behind_a_link(here, arguments):
    Path("redrummed").rmdir()
    link(Path("redrummed"), here / "mine")
    before = everything(here / "mine")
    result = CliRunner().invoke(app, arguments, prog_name="redrum")
    assert result.exit_code == 1
    assert "redrummed is a link" in result.stderr
    assert everything(here / "mine") == before


def test_a_named_place_may_be_a_link(here):
    link(Path("disk"), here / "mine")
    assert batch("--out", "disk").exit_code == 0
    assert (here / "mine" / RESULT).is_file()


@pytest.mark.slow
def test_a_page_with_a_folder_of_mine_in_it_is_not_replaced(here):
    page = ("render", "loop.wav", "--rhythm", RHYTHM, "--page", "page", "--overwrite")
    assert CliRunner().invoke(app, page, prog_name="redrum").exit_code == 0
    Path("page", "007-source.flac").mkdir()
    Path("page", "007-source.flac", "thesis.txt").write_text("thesis")
    result = CliRunner().invoke(app, page, prog_name="redrum")
    assert result.exit_code == 1
    assert "no page that Redrum wrote" in result.stderr
    assert Path("page", "007-source.flac", "thesis.txt").read_text() == "thesis"
