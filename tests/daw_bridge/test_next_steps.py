"""Every error names a next step that can be taken as it is written.

All errors of the source are collected. Those without a step are held in a list with why; options, commands and
documents that steps name are looked up; and what a step says to do is done, for those that need no DAW.
"""

# ruff: noqa: E501 (a walk a line)

import ast
import csv
import re
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from tests.conftest import make_clicks
from tests.daw_bridge.click_transcriber import ClickTranscriber
from training.__main__ import app as training_app
from transform.engine import Redrummer

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("transform", "daw_bridge", "training")
LIST = Path(__file__).with_name("next_steps.csv")
_ERRORS = {
    *(
        "RedrumError",
        "SettingsError",
        "AudioError",
        "RhythmError",
        "CheckpointError",
        "DawError",
        "OutputError",
    ),
    *("DeviceError", "PackError", "ProblemError", "AnnotationError"),
}
# Of an error that is no usage error (these get "see redrum COMMAND --help"): why it needs no step of its own.
_WITHOUT = {
    "daw_bridge/action_install.py": "a check of a doctor: its cure is added",
    "daw_bridge/ardour/doctor.py": "a check of the doctor: its cure is added",
    "daw_bridge/plan.py": "a mistake of a plan: the hint of all mistakes is added",
    "daw_bridge/editor/document.py": "an edit of a page: the page says it and stays as it is",
    "daw_bridge/editor/fields.py": "an edit of a page: the page says it and stays as it is",
    "daw_bridge/editor/requests.py": "an edit of a page: the page says it and stays as it is",
    "daw_bridge/reaper/doctor.py": "a check of the doctor: its cure is added",
    "daw_bridge/session.py": "a job of REAPER's action: its hint is added",
    "training/data/kit_folder.py": "a file of a kit that is left out: the sentence is why",
    "training/score/recordings.py": "a recording without annotations: the hint on the folder is added",
    "transform/edited.py": "an edit by a program: nothing is changed",
    "transform/events.py": "an event that a reader or a program made: the reader's hint is added",
    "transform/midi.py": "a tempo that no recording has: MIDI cannot hold it",
    "transform/one_shot_folder.py": "a file of a kit that is left out: the sentence is why",
    "transform/take.py": "a stroke that nothing plays: nothing is changed",
}
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
_COMMAND = re.compile(r"(?:`|see |run |with |: )redrum ([a-z][a-z ]*)")
_DOCUMENT = re.compile(r"\bdocs/[\w-]+\.md")


def raised():
    """Yield the file, the name and the hint, as text of the source, of every error."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _ERRORS:
                    hint = next((word.value for word in node.keywords if word.arg == "hint"), None)
                    yield path.relative_to(ROOT).as_posix(), node.func.id, hint and ast.unparse(hint)


@cache
def steps():
    """Return all texts of hints: those of the errors, and constants and variables that hold some."""
    texts = {hint for _, _, hint in raised() if hint}
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                named = node.targets[0] if isinstance(node, ast.Assign) else None
                is_hint = isinstance(named, ast.Name) and re.search(
                    r"hint|_AGAIN|_ASK|_BACKUP|GLUE", named.id, re.I
                )
                if is_hint and isinstance(node.value, ast.Constant | ast.JoinedStr | ast.BinOp):
                    texts.add(ast.unparse(node.value))
    return sorted(texts)


def commands(command, path=()):
    """Yield the words and the options of every command below one."""
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, (*path, name))
    yield (
        path,
        {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)},
    )


@cache
def known():
    own = dict(commands(typer.main.get_command(app)))
    return own | dict(commands(typer.main.get_command(training_app), ("train",)))


def test_every_error_names_a_step_or_stands_in_the_list():
    without = {path for path, name, hint in raised() if hint is None and name != "SettingsError"}
    assert without - set(_WITHOUT) == set(), "name the next step with hint="
    assert set(_WITHOUT) - without == set(), "they name a step by now"


def test_the_list_of_steps_is_whole():
    with LIST.open(encoding="utf-8", newline="") as file:
        listed = {row["step"]: row["done"] for row in csv.DictReader(file)}
    assert set(steps()) - set(listed) == set(), f"read them, try them, and write them into {LIST.name}"
    assert set(listed) - set(steps()) == set(), f"they are gone: take them out of {LIST.name}"
    assert set(listed.values()) <= {"option", "command", "value", "file", "elsewhere", "variable"}


def test_every_option_command_and_document_that_a_step_names_exists():
    options = {"--help"}.union(*known().values())
    for step in steps():
        for option in _OPTION.findall(step):
            assert option in options, f"{option} in {step}"
        for words in _COMMAND.findall(step):
            said = tuple(words.split())
            assert any(said[: len(path)] == path for path in known() if path), step
        for document in _DOCUMENT.findall(step):
            assert (ROOT / document).is_file(), step


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    redrummer = Redrummer(ClickTranscriber())
    monkeypatch.setattr(Redrummer, "load", lambda preset="default", *, device="cpu": redrummer)
    sound = make_clicks([0.1, 0.6], length_s=1.0)
    for name in ("loop.wav", "takes/a/loop.wav", "takes/b/loop.wav", "takes/b/loop.flac"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(name, sound.T, 44_100)
    soundfile.write("silence.wav", np.zeros((44_100, 1)), 44_100)
    Path("done.wav").write_bytes(b"mine")
    Path("jobs.csv").write_text("source,rhythm,tempo\nloop.wav,bossa-nova-132,3\n")
    Path("jobs-mended.csv").write_text("source,rhythm,seed\nloop.wav,bossa-nova-132,3\n")
    Path("map.toml").write_text("36 = 1\n")
    Path("map-mended.toml").write_text('36 = "KD"\n38 = "SD"\n')
    Path("piano.mid").write_bytes(
        b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk\0\0\0\x10\0\x94\x60\x40\x60\x94\x62\x40\x60\x94\x64\x40\0\xff\x2f\0"
    )
    Path("piano-map.toml").write_text('96 = "KD"\n98 = "SD"\n')
    return tmp_path


R = ("--rhythm", "bossa-nova-132")
# What is called first, a part of the step that is printed, and the call that takes it.
WALK = [
    (("render", "lop.wav", *R), "check the spelling", ("render", "loop.wav", *R)),
    (("render", "loop.wav", "--rhythm", "bosa-nova-132"), "did you mean bossa-nova-132", ("render", "loop.wav", *R)),
    (("render", "loop.wav", *R, "-o", "done.wav"), "with --overwrite", ("render", "loop.wav", *R, "-o", "done.wav", "--overwrite")),
    (("render", "loop.wav", *R, "-o", "loop.wav", "--overwrite"), "choose another name", ("render", "loop.wav", *R, "-o", "new.wav")),
    (("render", "loop.wav", *R, "-o", "x.mp3"), ".wav", ("render", "loop.wav", *R, "-o", "x.wav")),
    (("render", "loop.wav", *R, "--align", "beats"), "--source-bpm N", ("render", "loop.wav", *R, "--align", "beats", "--source-bpm", "90")),
    (("render", "loop.wav", *R, "--engine", "loud"), "resequence", ("render", "loop.wav", *R, "--engine", "resequence")),
    (("render", "loop.wav", *R, "--gain", "XX=1"), "classes: KD", ("render", "loop.wav", *R, "--gain", "KD=1")),
    (("render", "loop.wav", *R, "--tail", "long"), "give cut, ring or wrap", ("render", "loop.wav", *R, "--tail", "ring")),
    (("render", "loop.wav", *R, "--midi", "x.wav"), "add .mid", ("render", "loop.wav", *R, "--midi", "x.mid")),
    (("render", "loop.wav", *R, "--drum-map", "linn"), "roland-td", ("render", "loop.wav", *R, "--drum-map", "roland-td")),
    (("render", "loop.wav", *R, "--drum-map", "map.toml"), '36 = "KD"', ("render", "loop.wav", *R, "--drum-map", "map-mended.toml")),
    (("render", "loop.wav", *R, "--channel", "20"), "--channel 10", ("render", "loop.wav", *R, "--channel", "10")),
    (("render", "loop.wav", *R, "--channel", "3"), "leave it out", ("render", "loop.wav", *R)),
    (("render", "loop.wav", *R, "--transpose", "999"), "--transpose -127 to 127", ("render", "loop.wav", *R, "--transpose", "0")),
    (("render", "loop.wav", "--rhythm", "piano.mid"), "--drum-map FILE.toml", ("render", "loop.wav", "--rhythm", "piano.mid", "--drum-map", "piano-map.toml")),
    (("render", "loop.wav", "loop.wav", *R), "--together", ("render", "loop.wav", *R)),
    (("render", "silence.wav", *R), "give a drum recording", ("render", "loop.wav", *R)),
    (("render", "loop.wav", *R, "-q", "-v"), "give one of them", ("render", "loop.wav", *R, "-v")),
    (("batch", "loop.wav"), "give a rhythm", ("batch", "loop.wav", *R, "--dry-run")),
    (("batch", "takes", *R, "--name", "{stem}"), "'{parent}_{stem}_{ext}'", ("batch", "takes", *R, "--name", "{parent}_{stem}_{ext}", "--dry-run")),
    (("batch", "loop.wav", *R, "--name", "{artist}"), "{parent}", ("batch", "loop.wav", *R, "--name", "{parent}", "--dry-run")),
    (("batch", "--rhythm", "jobs.csv"), "known: source, rhythm", ("batch", "--rhythm", "jobs-mended.csv", "--dry-run")),
    (("batch", "loop.wav", *R, "--per-item"), "leave it out", ("batch", "loop.wav", *R, "--dry-run")),
    (("transcribe", "loop.wav", "-o", "x.wav"), "add .mid", ("transcribe", "loop.wav", "-o", "x.mid")),
    (("transcribe", "loop.wav", "-o", "-", "--json"), "leave out --json", ("transcribe", "loop.wav", "--json")),
    (("rhythms", "show", "bosa-nova-132"), "did you mean bossa-nova-132", ("rhythms", "show", "bossa-nova-132")),
    (("presets", "show", "defalt"), "default", ("presets", "show", "default")),
    (("demo", "rock"), "acoustic-rock-135bpm", ("demo", "acoustic-rock-135bpm")),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "step", "right"), WALK, ids=[" ".join(wrong)[:60] for wrong, _, _ in WALK])
def test_the_step_that_is_printed_works(folder, wrong, step, right):
    def redrum(arguments):
        return CliRunner().invoke(app, list(arguments), prog_name="redrum")

    failed = redrum(wrong)
    assert failed.exit_code in (1, 2)
    assert step in failed.stderr
    for made in ("redrummed", "data"):
        shutil.rmtree(made, ignore_errors=True)
    done = redrum(right)
    assert done.exit_code == 0, done.stderr
