"""What others named, wherever it is printed: no terminal obeys it, and no reader of JSON stumbles over it."""

import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from daw_bridge import __main__, logs
from daw_bridge.commands.cli import _end_tidily
from daw_bridge.commands.reporting import print_json, print_table, progress
from daw_bridge.logs import set_up_logging
from transform.library import find_rhythm
from transform.terminal import guard_output

ROOT = Path(__file__).resolve().parents[2]
RHYTHM = "bossa-nova-132"
EVIL = "\x1b]0;PWNED\x07\x9b2J\u202e"
SHOWN = "\\x1b]0;PWNED\\x07\\x9b2J\\u202e"
OBEYED = re.compile("[^\\x20-\\x7e\\n\\t]")
no_posix_names = pytest.mark.skipif(os.name == "nt", reason="Windows lets no name have control characters")
no_bytes_names = pytest.mark.skipif(
    sys.platform in ("win32", "darwin"), reason="names are Unicode on Windows and macOS"
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """An empty folder and no presets and rhythms of the user's; streams and signals come back afterwards."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    numbers = [getattr(signal, n) for n in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, n)]
    before = [(number, signal.getsignal(number)) for number in numbers]
    yield folder
    for number, handler in before:
        signal.signal(number, handler)


@pytest.fixture
def redrum(monkeypatch, capsys):
    """Return a function that runs the process's own entry, and returns its exit code, stdout and stderr."""

    def run(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["redrum", *map(str, arguments)])
            patch.setattr(sys, "stdout", sys.stdout)
            patch.setattr(sys, "stderr", sys.stderr)
            with pytest.raises(SystemExit) as ended:
                __main__.run()
        out, err = capsys.readouterr()
        assert not OBEYED.search(out), out
        assert not OBEYED.search(err), err
        return ended.value.code, out, err

    return run


@pytest.fixture
def preset(here):
    """A preset folder in the current folder, with an evil card."""
    folder = here / "mine"
    shutil.copytree(ROOT / "presets" / "default", folder)
    (folder / "CARD.md").write_text(f"# Mine {EVIL}\n", encoding="utf-8")
    return folder


def test_a_card(redrum, preset):
    code, out, _ = redrum("presets", "show", preset)
    assert code == 0
    assert f"# Mine {SHOWN}" in out
    _, out, _ = redrum("presets", "show", preset, "--json")
    assert json.loads(out)["card"] == f"# Mine {EVIL}\n"


def test_the_name_of_a_preset(redrum, preset):
    toml = preset / "preset.toml"
    name = EVIL.replace("\x1b", "\\u001b").replace("\x07", "\\u0007").replace("\x9b", "\\u009b")
    toml.write_text(toml.read_text(encoding="utf-8").replace('"default"', f'"{name}"'), encoding="utf-8")
    _, out, _ = redrum("presets", "show", preset)
    assert out.startswith(f"{SHOWN}: hires")
    code, _, err = redrum("presets", "export", preset)
    assert (code, "cannot name a preset" in err) == (1, True)


@no_posix_names
def test_the_name_of_a_rhythm(redrum, tmp_path):
    folder = tmp_path / "data" / "rhythms"
    folder.mkdir(parents=True)
    shutil.copyfile(find_rhythm(RHYTHM).path, folder / f"{EVIL}\n.mid")
    code, out, _ = redrum("rhythms", "list")
    assert code == 0
    (line,) = [line for line in out.splitlines() if SHOWN in line]
    assert line.startswith(f"{SHOWN}\\x0a  132")  # on one line, in its column
    _, out, _ = redrum("rhythms", "list", "--json")
    assert json.loads(out.splitlines()[-1])["name"] == f"{EVIL}\n"


@no_posix_names
def test_the_name_of_a_file(redrum, write_wav, clicks, here):
    source = write_wav(f"{EVIL}.wav", clicks([0.1, 0.5], length_s=1.0))
    code, out, _ = redrum("batch", source, "--rhythm", RHYTHM, "--dry-run")
    assert code == 0
    assert f"{SHOWN}_{RHYTHM}.wav" in out
    _, out, _ = redrum("batch", source, "--rhythm", RHYTHM, "--dry-run", "--json")
    assert json.loads(out)["source"] == str(source)


def test_the_name_of_a_track(redrum, worlds, write_wav, clicks):
    loop = write_wav("loop.wav", clicks([0.1, 0.5], length_s=1.0))
    world = worlds("rpp", [worlds.track(f"drums {EVIL}", worlds.audio(loop))])
    code, out, _ = redrum("batch", world.path, "--rhythm", RHYTHM, "--dry-run")
    assert code == 0
    assert f"on drums {SHOWN}: would play {RHYTHM}" in out


def test_an_error(redrum):
    code, _, err = redrum("render", f"{EVIL}\nredrum: all is well.wav", "--rhythm", RHYTHM)
    assert code == 1
    first, second = err.splitlines()
    assert first == f"redrum: {SHOWN}\\x0aredrum: all is well.wav does not exist"
    assert second.startswith("  ")


def test_an_error_in_json_is_one_object(redrum):
    name = f"{EVIL}\x7f\n"
    _, out, _ = redrum("render", name, "--rhythm", RHYTHM, "--json")
    assert json.loads(out)["error"] == f"{name} does not exist"


def test_a_wrong_option(redrum):
    code, _, err = redrum("render", f"--{EVIL}")
    assert (code, SHOWN in err) == (2, True)


def test_an_error_of_our_own(tmp_path):
    # Nobody has foreseen it, and Python prints it: the names in it are harmless all the same.
    code = (
        "import sys; sys.argv[1:] = ['rhythms', 'list']\n"
        "from daw_bridge import __main__; import transform.library as library\n"
        f"def fail(): raise ValueError({EVIL!r})\n"
        "library.list_rhythms = fail; __main__.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 1
    assert b"ValueError: " + SHOWN.encode() in done.stderr
    assert b"\x1b" not in done.stderr


def test_log_lines_on_the_terminal_and_in_the_file(redrum, tmp_path):
    _, _, err = redrum("transcribe", f"{EVIL}\nERROR: forged.wav", "-v")
    assert "redrum: " + SHOWN in err
    logged = (tmp_path / "data" / "logs" / "redrum.log").read_text(encoding="utf-8")
    assert not OBEYED.search(logged)
    assert f"{SHOWN}\\x0aERROR: forged.wav" in logged
    assert not [line for line in logged.splitlines() if line.startswith("ERROR")]


@no_bytes_names
def test_names_that_are_no_utf_8(redrum, tmp_path, monkeypatch):
    name = os.fsdecode(b"dr\xfcms/a\xfc.wav")
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / os.fsdecode(b"d\xe4ta")))
    for command in ("render", "batch"):
        code, out, err = redrum(command, name, "--rhythm", RHYTHM, "-v")
        assert (code, out) == (1, "")
        assert "redrum: dr\\xfcms/a\\xfc.wav does not exist" in err
        assert "Logging error" not in err
    logged = (tmp_path / os.fsdecode(b"d\xe4ta") / "logs" / "redrum.log").read_text(encoding="utf-8")
    assert "dr\\xfcms/a\\xfc.wav" in logged
    _, out, _ = redrum("render", name, "--rhythm", RHYTHM, "--json")
    assert json.loads(out)["error"] == "dr\\xfcms/a\\xfc.wav does not exist"


def test_json_is_ascii_that_any_reader_takes(capsys):
    print_json({"a": ["ü🥁\udcfc", {"\ud83d": 0.1}], "b": '\\udcfc "\x7f\x9b\u2028'})
    line = capsys.readouterr().out
    assert line == (
        '{"schema": 1, "a": ["\\u00fc\\ud83e\\udd41\\\\xfc", {"\\\\ud83d": 0.1}], '
        '"b": "\\\\udcfc \\"\\u007f\\u009b\\u2028"}\n'
    )
    assert json.loads(line) == {
        "schema": 1,
        "a": ["ü🥁\\xfc", {"\\ud83d": 0.1}],
        "b": '\\udcfc "\x7f\x9b\u2028',
    }


def test_a_table_keeps_its_columns(capsys):
    print_table([("NAME", "B"), ("a\nb\x1b", "c")])
    assert capsys.readouterr().out == "NAME        B\na\\x0ab\\x1b  c\n"


def test_what_is_printed_beside_a_progress_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda self: self is not out)
    out = sys.stdout
    guard_output()
    with progress(quiet=False) as show:
        show("[/render]", 0.5)
        print(f"told {EVIL}", file=sys.stderr)
        print(f"result {EVIL}")
    told = capsys.readouterr()
    assert told.out == f"result {SHOWN}\n"  # which is no terminal: it stays there
    assert f"told {SHOWN}" in told.err
    assert "[/render]" in told.err
    assert "\x1b[" in told.err  # the bar itself may move the cursor
    assert "\x1b]" not in told.err


# --- the log file ---


class FullDisk:
    """A stream to a disk without room."""

    def write(self, text):
        raise OSError(28, "No space left on device")

    def flush(self):
        pass

    def seek(self, *_):
        return 0

    def tell(self):
        return 0

    def close(self):
        raise OSError(28, "No space left on device")


def test_a_full_disk_ends_the_log_file_with_one_line(monkeypatch, capsys):
    monkeypatch.setattr(logs._LogFile, "_open", lambda self: FullDisk())
    set_up_logging(quiet=False, verbose=True)
    log = logging.getLogger("daw_bridge.test")
    for number in range(3):
        log.info("line %d", number)
    told = capsys.readouterr().err
    assert "Logging error" not in told
    assert told.count("No space left on device") == 1
    assert [f"INFO: line {number}" in told for number in range(3)] == [True] * 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_log_file_that_is_none_is_left_alone(tmp_path, capsys, kind):
    path = tmp_path / "data" / "logs" / "redrum.log"
    path.parent.mkdir(parents=True)
    {"pipe": os.mkfifo, "link": lambda path: path.symlink_to("elsewhere"), "folder": Path.mkdir}[kind](path)
    set_up_logging(quiet=False, verbose=True)
    logging.getLogger("daw_bridge.test").info("goes on")
    told = capsys.readouterr().err
    assert "there is no log file" in told
    assert "goes on" in told
    assert not (tmp_path / "data" / "logs" / "elsewhere").exists()


# --- where the process runs, and how it ends ---


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps a folder that a process runs in")
@pytest.mark.parametrize("command", [["doctor"], ["demo"], ["batch", "x.wav", "--rhythm", RHYTHM]])
def test_a_folder_that_is_gone(redrum, here, monkeypatch, command):
    gone = here / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code, out, err = redrum(*command)
    monkeypatch.chdir(here)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        "redrum: the folder that this runs in is gone",
        "  change to a folder that is there, then run it again",
    ]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows has no SIGHUP")
def test_nohup_is_respected():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _end_tidily()
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGTERM) is not signal.SIG_IGN
