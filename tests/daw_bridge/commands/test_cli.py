"""The command line as its user meets it. Nothing here hinges on how well the shipped transcriber hears."""

import hashlib
import importlib.metadata
import io
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
import soxr
from typer.testing import CliRunner

from daw_bridge import batch_work
from daw_bridge.commands.cli import app
from daw_bridge.commands.render import DEMO_RHYTHMS
from daw_bridge.commands.reporting import progress
from training.card import describe_model
from transform.engine import Redrummer
from transform.errors import CheckpointError
from transform.events import CLASSES, DrumEvent, Rhythm, TempoMap
from transform.library import demo_recordings, find_rhythm, list_rhythms
from transform.midi import read_midi, write_midi
from transform.presets import load_preset
from transform.settings import RenderSettings
from transform.take import Take

ROOT = Path(__file__).resolve().parents[3]
RATE = 44_100
pytestmark = pytest.mark.usefixtures("models_once", "here")
RHYTHM = "bossa-nova-132"
RHYTHM_S = read_midi(find_rhythm(RHYTHM).path).length_s

RENDER_KEYS = {
    *("schema", "source", "rhythm", "output", "plot", "engine", "duration_s", "sample_rate", "channels"),
    *("bit_depth", "gain_db", "notes", "events", "seconds", "stems", "midi"),
}


def redrum(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="redrum")


def objects(result):
    """Return what --json printed, after checking that it printed nothing else."""
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(item["schema"] == 1 for item in found)
    return found


def snapshot(folder):
    """Return the hash of every file in and under a folder, hidden ones too, and the folders."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        for path in folder.rglob("*")
    }


def assert_refused(arguments, code, sentence, folder):
    """Check the exit code, one sentence with a next step, and that nothing on disk has changed."""
    before = snapshot(folder)
    result = redrum(*arguments)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == 2, lines
    assert lines[0].startswith("redrum: ")
    assert re.search(sentence, lines[0])
    assert re.fullmatch(r"  \S.*", lines[1])
    assert snapshot(folder) == before

    told = redrum(*arguments, "--json")
    assert told.exit_code == code
    (item,) = objects(told)
    assert item == {"schema": 1, "error": lines[0].removeprefix("redrum: "), "hint": lines[1].strip()}
    assert snapshot(folder) == before


def write_notes(path, *notes, channel=9, tempo=None):
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(tempo))] if tempo else [])
    for note in notes:
        track.append(mido.Message("note_on", channel=channel, note=note, velocity=100, time=0))
        track.append(mido.Message("note_off", channel=channel, note=note, velocity=0, time=480))
    mido.MidiFile(type=0, ticks_per_beat=480, tracks=[track]).save(path)
    return path


# --- the command itself ---


def run_python(code, *arguments, **options):
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
        check=False,
        **options,
    )


MAIN = "from daw_bridge.commands.cli import main; main()"
SLOW_MAIN = """
import time
from daw_bridge.commands.cli import main
from transform.engine import Take

read = Take.read

def read_slowly(self, start, stop):
    time.sleep(0.5)
    return read(self, start, stop)

Take.read = read_slowly
main()
"""


def test_help_loads_nothing_heavy():
    code = "import atexit, sys; atexit.register(lambda: print(sorted(sys.modules), file=sys.stderr));" + MAIN
    result = run_python(code, "--help")
    assert result.returncode == 0
    for command in ("demo", "render", "transcribe", "rhythms", "presets", "train"):
        assert command in result.stdout
    assert "'daw_bridge.commands.cli'" in result.stderr
    for heavy in ("torch", "numpy", "matplotlib", "soundfile", "transform.engine"):
        assert f"'{heavy}'" not in result.stderr


def test_help_of_every_command(subtests):
    cases = ["render", "batch", "transcribe", "demo", "rhythms", "presets", "doctor"]
    for command in cases:
        with subtests.test(command=command):
            result = redrum(command, "--help")
            assert result.exit_code == 0
            assert result.stdout.startswith("Usage: redrum")


def test_help_of_render_says_the_defaults_that_the_settings_have():
    told = " ".join(redrum("render", "--help").stdout.split())
    settings = RenderSettings()
    for option, value in {
        "engine": settings.engine,
        "length": settings.length,
        "align": settings.align,
        "start": f"{settings.start_s:g}",
        "mix": f"{settings.mix:g}",
        "timing": f"{settings.timing:g}",
        "velocity": settings.velocity,
        "tail": settings.tail,
        "seed": settings.seed,
    }.items():
        assert re.search(rf"--{option} [^\[]*\[default: \({value}\)\]", told), option


def test_version():
    result = redrum("--version")
    assert result.exit_code == 0
    first, torch_line, preset = result.stdout.splitlines()
    assert re.fullmatch(r"redrum [\d.]+\w*|redrum, not installed", first)
    assert torch_line == f"torch {importlib.metadata.version('torch')}"
    assert re.fullmatch("preset default [0-9a-f]{12}", preset)


def test_version_loads_no_torch():
    code = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr));" + MAIN
    result = run_python(code, "--version")
    assert result.returncode == 0
    assert result.stderr.strip() == "False"


def test_shells_complete_commands_and_names(monkeypatch, subtests):
    cases = [
        ("redrum ren", ["render"]),
        ("redrum render --rhythm bossa", ["bossa-nova-127", "bossa-nova-132"]),
        ("redrum rhythms show bossa", ["bossa-nova-127", "bossa-nova-132"]),
        ("redrum presets export def", ["default"]),
        ("redrum render --preset def", ["default"]),
    ]
    for words, offered in cases:
        with subtests.test(words=words, offered=offered):
            monkeypatch.setenv("_REDRUM_COMPLETE", "complete_bash")
            monkeypatch.setenv("COMP_WORDS", words)
            monkeypatch.setenv("COMP_CWORD", str(words.count(" ")))
            assert redrum().stdout.split() == offered


def test_verbose_is_also_written_to_the_log_file(source, tmp_path):
    arguments = ["render", source, "--rhythm", RHYTHM, "-o", "loud.aiff"]
    assert redrum(*arguments).exit_code == 0
    log = tmp_path / "user data" / "logs" / "redrum.log"
    assert not log.exists()
    result = redrum(*arguments, "--overwrite", "-v")
    assert result.exit_code == 0
    assert f"this is also in {log}" in result.stderr
    assert "DEBUG daw_bridge.logs: this is also in" in log.read_text(encoding="utf-8")
    result = redrum("render", source, "--rhythm", RHYTHM, "-v", "--device", "cpu", "--gain", "HH=-6")
    for line in ("the models run on cpu", "loop: ", "--gain=HH=-6", f"loop_{RHYTHM}.wav is written"):
        assert line in result.stderr
        assert line in log.read_text(encoding="utf-8")
    assert "strokes are detected" in result.stderr


def test_a_log_file_that_cannot_be_is_no_reason_to_fail(source, tmp_path):
    (tmp_path / "user data").write_text("in the way")
    result = redrum("transcribe", source, "-o", "out.mid", "-v")
    assert result.exit_code == 0
    assert "there is no log file" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [["--bogus"], ["render"], ["render", "x.wav"], ["render", "x.wav", "--rhythm", "a", "--seed", "loud"]],
)
def test_usage_errors_exit_with_2(arguments):
    result = redrum(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    said, step = result.stderr.splitlines()
    assert said.startswith("redrum: ")
    assert step.startswith("  ")


def test_usage_error_in_json():
    result = redrum("render", "x.wav", "--json")
    assert result.exit_code == 2
    (item,) = objects(result)
    assert "--rhythm" in item["hint"]
    assert item["hint"]


def test_unexpected_system_error_is_a_sentence(source, monkeypatch):
    def fail(*_args, **_options):
        raise OSError(5, "Input/output error", "/some/disk")

    monkeypatch.setattr("transform.library.resolve_rhythm", fail)
    result = redrum("render", source, "--rhythm", RHYTHM)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[0] == "redrum: /some/disk: Input/output error"


# --- render ---


def test_render_writes_what_it_reports(source, here):
    before = snapshot(here)
    result = redrum("render", source, "--rhythm", RHYTHM, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    (item,) = objects(result)
    assert set(item) == RENDER_KEYS
    output = Path("redrummed") / f"loop_{RHYTHM}.wav"
    assert item["output"] == str(output)
    info = soundfile.info(output)
    assert (info.samplerate, info.channels, info.subtype) == (RATE, 2, "PCM_24")
    assert (item["sample_rate"], item["channels"], item["bit_depth"]) == (RATE, 2, "24")
    assert info.frames == round(RHYTHM_S * RATE)
    assert item["duration_s"] == pytest.approx(info.frames / RATE, abs=1e-6)
    assert set(item["events"]) == set(CLASSES)
    assert sum(item["events"].values()) == len(read_midi(find_rhythm(RHYTHM).path).events)
    assert item["gain_db"] <= 0
    assert any("plays at 132 BPM, the rhythm's own" in note for note in item["notes"])
    assert snapshot(here).items() >= before.items()
    assert {*snapshot(here)} - {*before} == {"redrummed", str(output)}


def test_render_tells_a_human_where_and_how(source):
    result = redrum("render", source, "--rhythm", RHYTHM)
    assert result.exit_code == 0
    assert result.stderr == ""
    first = result.stdout.splitlines()[0]
    assert first.startswith(str(Path("redrummed") / f"loop_{RHYTHM}.wav"))
    assert "3.64 s, 44100 Hz, stereo, 24 bits" in first
    assert "plays at 132 BPM, the rhythm's own; to match your file add --source-bpm N" in result.stdout


def test_separate_outputs_add_up_to_the_result(source, here):
    arguments = ["render", source, "--rhythm", RHYTHM, "-o", "new.wav", "--stems", "st", "--midi", "new.mid"]
    (item,) = objects(redrum(*arguments, "--bit-depth", "16", "--mix", "0.7", "--json"))
    assert item["stems"] == {c: str(Path("st") / f"new_{c}.wav") for c in CLASSES}
    whole = soundfile.read("new.wav", dtype="int16")[0]
    parts = [soundfile.read(path, dtype="int16")[0].astype(int) for path in item["stems"].values()]
    assert np.array_equal(sum(parts), whole)
    assert all(part.any() for part in parts[:2])
    assert len(read_midi("new.mid").events) == sum(item["events"].values())
    told = redrum(*arguments, "--overwrite").stdout
    assert f"stem: {Path('st') / 'new_KD.wav'}" in told
    assert "MIDI: new.mid" in told


def test_more_of_a_kit_is_read_and_never_replaced(source, here, write, loop):
    more = write("more.wav", loop[:, RATE:])
    result = redrum("render", source, "--rhythm", RHYTHM, "-o", "new.wav", "--kit-from", more)
    assert result.exit_code == 0, result.output
    assert "more hits are from more" in result.stdout
    common = ["render", source, "--rhythm", RHYTHM, "--overwrite", "--kit-from"]
    assert_refused([*common, more, "-o", more], 2, "more.wav is an input", here)
    assert_refused([*common, "nowhere"], 1, "nowhere does not exist", here)
    assert_refused([*common, more, "--engine", "latent"], 2, "source alone", here)


def test_separate_outputs_that_cannot_be_are_refused(source, here):
    common = ["render", source, "--rhythm", RHYTHM, "-o", "new.wav"]
    (here / "st").mkdir()
    (here / "st" / "new_CY.wav").write_text("mine")
    assert_refused([*common, "--stems", "st"], 1, "new_CY.wav exists already", here)
    assert_refused([*common, "--stems", "s2", "--engine", "latent", "--attack", "none"], 2, "no separate", here)
    assert_refused([*common, "--midi", "new.wav"], 2, "must end in .mid", here)
    assert_refused([*common, "--midi", "loop.mid", "--stems", "loop.wav/x"], 1, "is not a folder", here)


def test_quiet_says_nothing_and_verbose_logs_to_stderr(source):
    assert redrum("render", source, "--rhythm", RHYTHM, "-q").output == ""
    result = redrum(
        "render", source, "--rhythm", RHYTHM, "-v", "--json", "-o", "loud.flac", "--bit-depth", "24"
    )
    assert result.exit_code == 0
    assert len(objects(result)) == 1
    for package in ("transform", "daw_bridge", "training"):
        assert logging.getLogger(package).level == logging.DEBUG
    redrum("render", source, "--rhythm", RHYTHM, "--dry-run")
    assert logging.getLogger("transform").level == logging.WARNING


def test_progress_is_drawn_on_a_terminal_only(monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    with progress(quiet=False) as show:
        assert show is None
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    with progress(quiet=True) as show:
        assert show is None
    with progress(quiet=False) as show:
        show("transcribe source", 0.0)
        show("render", 0.5)
    assert "transcribe source" in terminal.getvalue()
    assert "render" in terminal.getvalue()
    assert capsys.readouterr().out == ""


def test_same_seed_gives_the_same_bytes(source):
    for name in ("a.wav", "b.wav"):
        assert redrum("render", source, "--rhythm", RHYTHM, "-o", name, "--seed", 3).exit_code == 0
    assert Path("a.wav").read_bytes() == Path("b.wav").read_bytes()


def test_options_reach_the_settings(source, monkeypatch):
    seen = []
    redrum_as_it_is = Redrummer.redrum

    def watched(self, recording, rhythm, settings, **options):
        seen.append(settings)
        return redrum_as_it_is(self, recording, rhythm, settings, **options)

    monkeypatch.setattr(Redrummer, "redrum", watched)
    options = "--engine resequence --length 1.5 --align beats --source-bpm 135 --rhythm-bpm auto --start 0.5"
    options += " --gain HH=-6 --gain kd=2 --mix 0.5 --timing 0.25 --velocity 0.7 --tail ring --seed 9"
    result = redrum("render", source, "--rhythm", RHYTHM, *options.split())
    assert result.exit_code == 0, result.output
    (settings,) = seen
    assert (settings.engine, settings.length, settings.align) == ("resequence", 1.5, "beats")
    assert (settings.source_bpm, settings.rhythm_bpm, settings.start_s) == (135.0, "auto", 0.5)
    assert settings.gain_db == {"HH": -6.0, "KD": 2.0}
    assert (settings.mix, settings.timing, settings.velocity) == (0.5, 0.25, 0.7)
    assert (settings.tail, settings.seed) == ("ring", 9)


def test_the_latent_engine_and_its_options_reach_the_settings(source, monkeypatch):
    seen = []

    def watched(self, recording, rhythm, settings, **options):
        seen.append(settings)
        raise CheckpointError("enough")

    monkeypatch.setattr(Redrummer, "redrum", watched)
    redrum("render", source, "--rhythm", RHYTHM, "--engine", "latent", "--variation", 0.5, "--attack", "none")
    assert (seen[0].engine, seen[0].variation, seen[0].attack) == ("latent", 0.5, "none")


@pytest.mark.parametrize(
    ("option", "why"),
    [(("--variation", 1), "knows no variation"), (("--attack", "none"), "source's own attacks")],
)
def test_options_of_the_other_engine_are_usage_errors(source, here, option, why):
    assert_refused(["render", source, "--rhythm", RHYTHM, *option], 2, why, here)


@pytest.mark.parametrize("length", ["source", "0.75"])
def test_rhythm_longer_than_asked_is_cut(source, length):
    assert redrum("render", source, "--rhythm", RHYTHM, "--length", length, "-o", "out.wav").exit_code == 0
    expected = {"source": 2 * RATE, "0.75": round(0.75 * RATE)}
    assert soundfile.info("out.wav").frames == expected[length]


def test_rhythm_shorter_than_the_source_loops(source, here):
    kicks = Rhythm((DrumEvent(0.0, "KD", 1.0),), 0.25, name="kick")
    (here / "kick.mid").write_bytes(write_midi(kicks))
    result = redrum("render", source, "--rhythm", "kick.mid", "--length", "source", "--json")
    (item,) = objects(result)
    assert item["duration_s"] == 2.0
    assert item["events"]["KD"] == 2 / read_midi(here / "kick.mid").length_s


@pytest.mark.parametrize("sample_rate", [8_000, 192_000])
@pytest.mark.parametrize("n_channels", [1, 2, 6])
def test_rate_and_channels_stay(write, loop, sample_rate, n_channels):
    samples = soxr.resample(loop.T[:, np.arange(n_channels) % 2], RATE, sample_rate, quality="QQ").T
    name = write("loop.wav", 0.8 * samples, sample_rate, "PCM_16")
    result = redrum("render", name, "--rhythm", RHYTHM, "-o", "out.wav", "--length", "source")
    assert result.exit_code == 0, result.output
    info = soundfile.info("out.wav")
    assert (info.samplerate, info.channels, info.subtype) == (sample_rate, n_channels, "PCM_16")
    assert info.frames == samples.shape[1]


@pytest.mark.parametrize(
    ("name", "bit_depth", "container", "subtype"),
    [
        ("out.flac", "16", "FLAC", "PCM_16"),
        ("out.aiff", "24", "AIFF", "PCM_24"),
        ("out.wav", "32", "WAV", "PCM_32"),
        ("out.wav", "32f", "WAV", "FLOAT"),
    ],
)
def test_container_and_bit_depth_as_asked(source, name, bit_depth, container, subtype):
    result = redrum("render", source, "--rhythm", RHYTHM, "-o", name, "--bit-depth", bit_depth, "--json")
    assert result.exit_code == 0, result.output
    info = soundfile.info(name)
    assert (info.format, info.subtype) == (container, subtype)
    assert objects(result)[0]["bit_depth"] == bit_depth


def test_lossy_source_comes_back_with_24_bits(here, loop):
    soundfile.write(here / "loop.ogg", loop.T, RATE)
    result = redrum("render", "loop.ogg", "--rhythm", RHYTHM, "--json")
    assert result.exit_code == 0, result.output
    assert objects(result)[0]["bit_depth"] == "24"
    assert soundfile.info(Path("redrummed") / f"loop_{RHYTHM}.wav").subtype == "PCM_24"


def test_recording_as_rhythm(source):
    other = next(recording.path for recording in demo_recordings() if "breakbeat" in recording.name)
    result = redrum("render", source, "--rhythm", other, "--json")
    assert result.exit_code == 0, result.output
    (item,) = objects(result)
    assert item["output"] == str(Path("redrummed") / f"loop_{other.stem}.wav")
    assert soundfile.info(item["output"]).frames == pytest.approx(soundfile.info(other).duration * RATE, abs=1)


@pytest.mark.slow
def test_long_recording(write, loop):
    short = soxr.resample(loop.mean(axis=0), RATE, 8_000)
    name = write("long.wav", np.tile(short, 90), 8_000, "PCM_16")
    result = redrum("render", name, "--rhythm", RHYTHM, "--length", "source", "-o", "out.wav")
    assert result.exit_code == 0, result.output
    assert soundfile.info("out.wav").frames == 90 * len(short)


def test_midi_without_a_tempo_is_at_120_bpm(source, here):
    write_notes(here / "plain.mid", 36, 38, 36, 38)
    result = redrum("render", source, "--rhythm", "plain.mid", "--json")
    assert result.exit_code == 0, result.output
    assert objects(result)[0]["duration_s"] == 2.0


def test_paths_with_spaces_and_other_letters(write, loop, here):
    write("Été à la plage ドラム.wav", loop)
    shutil.copy(find_rhythm(RHYTHM).path, here / "mein rhythmus ß.mid")
    result = redrum(
        "render", "Été à la plage ドラム.wav", "--rhythm", "mein rhythmus ß.mid", "--plot", "a b/ü $x.png"
    )
    assert result.exit_code == 0, result.output
    assert Path("redrummed/Été à la plage ドラム_mein rhythmus ß.wav").is_file()
    assert Path("a b/ü $x.png").read_bytes().startswith(b"\x89PNG")


def test_missing_output_folders_are_made(source):
    assert redrum("render", source, "--rhythm", RHYTHM, "-o", "new/folders/out.wav").exit_code == 0
    assert soundfile.info("new/folders/out.wav").frames == round(RHYTHM_S * RATE)


@pytest.mark.parametrize("option", ["-o", "--out"])
def test_a_place_is_a_file_or_a_folder_whatever_the_command(source, here, option):
    (here / "there").mkdir()
    places = {
        ("render", "new/"): f"new/loop_{RHYTHM}.wav",
        ("render", "there"): f"there/loop_{RHYTHM}.wav",
        ("render", "take"): "take.wav",
        ("transcribe", "new/"): "new/loop.mid",
        ("transcribe", "hits"): "hits.mid",
        ("batch", "new"): f"new/loop_{RHYTHM}.wav",
        ("separate", "stems"): "stems/loop/loop_KD.wav",
        ("extract", "kit"): "kit/loop.sfz",
        ("extract", None): "redrummed/kits/loop/loop.sfz",
    }
    for (command, place), expected in places.items():
        rhythm = [RHYTHM] if command in ("render", "batch") else []
        overwrite = ["--overwrite"] if expected.startswith("new") else []
        result = redrum(command, source, *rhythm, *([option, place] if place else []), *overwrite)
        assert result.exit_code == 0, result.stderr
        assert (here / expected).is_file(), (command, place)
        (here / expected).unlink()


def test_existing_output_needs_overwrite(source, here):
    (here / "out.wav").write_bytes(b"mine")
    arguments = ["render", source, "--rhythm", RHYTHM, "-o", "out.wav"]
    assert_refused(arguments, 1, "out.wav exists already", here)
    steps = "choose another name with -o, replace it with --overwrite"
    assert f"{steps} or leave it with --skip-existing" in redrum(*arguments).stderr
    (here / "hits.png").write_bytes(b"mine")
    transcribed = redrum("transcribe", source, "--plot", "hits.png")
    assert "choose another name with --plot or replace it with --overwrite\n" in transcribed.stderr
    assert_refused([*arguments, "--device", "gpu"], 2, "--device is 'gpu'", here)
    assert_refused([*arguments, "--preset", "foo"], 1, "there is no preset 'foo'", here)
    assert redrum(*arguments, "--overwrite").exit_code == 0
    assert soundfile.info("out.wav").frames == round(RHYTHM_S * RATE)


def test_skip_existing_leaves_the_result_alone(source, here):
    (here / "out.wav").write_bytes(b"mine")
    before = snapshot(here)
    result = redrum("render", source, "--rhythm", RHYTHM, "-o", "out.wav", "--skip-existing", "--json")
    assert result.exit_code == 0
    assert objects(result)[0]["skipped"] is True
    assert snapshot(here) == before
    assert redrum("render", source, "--rhythm", RHYTHM, "-o", "other.wav", "--skip-existing").exit_code == 0
    assert Path("other.wav").is_file()


def test_page_goes_with_the_result_and_has_its_picture_alone(source, here):
    (item,) = objects(
        redrum("render", source, "--rhythm", RHYTHM, "-o", "out.wav", "--page", "listen", "--json")
    )
    assert (item["page"], item["plot"]) == (str(Path("listen", "index.html")), None)
    assert not list(here.glob("*.png"))
    kinds = ["picture.png", "result.flac", "rhythm.flac", "source.flac"]
    assert sorted(path.name for path in Path("listen").iterdir()) == [
        *(f"001-{kind}" for kind in kinds),
        "index.html",
    ]
    assert "loop.wav playing bossa-nova-132" in Path("listen", "index.html").read_text(encoding="utf-8")
    (here / "own").mkdir()
    (here / "own" / "index.html").write_text("mine")
    again = ["render", source, "--rhythm", RHYTHM, "-o", "other.wav", "--page"]
    assert redrum(*again, "listen").exit_code == 0
    text = Path("listen", "index.html").read_text(encoding="utf-8")
    assert text.index("1. loop.wav playing") < text.index("out.wav") < text.index("2. loop.wav playing")
    assert_refused([*again, "own", "--overwrite"], 1, "no page that Redrum wrote", here)


@pytest.mark.parametrize(
    "options",
    [
        ["-o", "pg/x.wav"],
        ["-o", "pg/deep/x.wav"],
        ["-o", "pg/../pg/x.wav", "--overwrite"],
        ["-o", "x.wav", "--plot", "pg/x.png"],
        ["-o", "pg/", "--overwrite"],
    ],
)
def test_a_result_in_the_place_of_the_page(source, here, options):
    arguments = ["render", source, "--rhythm", RHYTHM, "--page", "pg", *options]
    assert_refused(arguments, 2, "in each other's place", here)


def test_a_page_in_the_place_of_a_result(source, here):
    arguments = ["render", source, "--rhythm", RHYTHM, "-o", "x.wav", "--page", "x.wav/pg"]
    assert_refused(arguments, 2, "in each other's place", here)
    for options in (["--out", "pg"], ["--out", "pg/o"], ["--out", "o", "--page", f"o/loop_{RHYTHM}.wav"]):
        arguments = ["batch", source, "--rhythm", RHYTHM, "--page", "pg", *options]
        assert_refused(arguments, 2, "in each other's place", here)


def test_dry_run_names_the_models_that_an_engine_lacks(source, here):
    shipped = load_preset("default")
    ears = here / "ears" / "transcriber.safetensors"
    ears.parent.mkdir()
    shutil.copyfile(shipped.weights("transcriber"), ears)
    describe_model(ears.parent, "transcriber", weights=ears, parameters=1, command="")
    arguments = ["render", source, "--rhythm", RHYTHM, "--preset", "ears", "--dry-run"]
    assert redrum(*arguments).exit_code == 0
    why = "preset ears has no codec-encoder, codec-generator, rhythm"
    assert_refused([*arguments, "--engine", "latent"], 1, why, here)
    batch = ["batch", source, "--rhythm", RHYTHM, "--preset", "ears", "--engine", "latent"]
    assert_refused([*batch, "--dry-run"], 1, why, here)
    assert_refused(batch, 1, why, here)


def test_dry_run_writes_nothing_and_says_what_it_would(source, here):
    before = snapshot(here)
    result = redrum("render", source, "--rhythm", RHYTHM, "--dry-run")
    assert result.exit_code == 0
    assert str(Path("redrummed") / f"loop_{RHYTHM}.wav") in result.stdout
    (item,) = objects(redrum("render", source, "--rhythm", RHYTHM, "--dry-run", "--json"))
    assert item["dry_run"] is True
    assert snapshot(here) == before
    assert_refused(["render", source, "--rhythm", "nothing.mid", "--dry-run"], 1, "does not exist", here)


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize("output", ["loop.wav", "../here/loop.wav", "other.wav", "link.wav"])
def test_inputs_are_never_replaced(source, write, loop, here, output, overwrite):
    write("other.wav", loop)
    if output == "link.wav":
        try:
            (here / "link.wav").symlink_to("loop.wav")
        except OSError:
            pytest.skip("this user may not make symbolic links")
    arguments = ["render", source, "--rhythm", "other.wav", "-o", output, *overwrite]
    assert_refused(arguments, 2, "is an input, which is never replaced", here)


def test_picture_never_takes_the_place_of_another_file(source, here):
    (here / "picture.png").write_bytes(b"mine")
    arguments = ["render", source, "--rhythm", RHYTHM, "--plot"]
    assert_refused([*arguments, "picture.png"], 1, "exists already", here)
    assert_refused([*arguments, "loop.wav"], 2, "must end in .png", here)


# --- bad input: code, one sentence, nothing written ---


@pytest.mark.parametrize("command", ["render", "transcribe"])
@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "missing.wav does not exist"),
        ("folder", "folder.wav is a folder"),
        ("empty", "empty.wav is empty"),
        ("no samples", "holds no samples"),
        ("not audio", "not a sound file"),
        ("silence", "no drum hits are detected"),
        ("one sample", "no drum hits are detected"),
        ("nan", "not a number"),
        ("infinite", "not a number"),
    ],
)
def test_bad_source(here, loop, command, kind, sentence):
    path = here / f"{kind}.wav"
    bad = loop.copy()
    match kind:
        case "folder":
            path.mkdir()
        case "empty":
            path.touch()
        case "no samples":
            soundfile.write(path, np.zeros((0, 2)), RATE)
        case "not audio":
            path.write_text("It was a dark and stormy night. " * 100)
        case "silence":
            soundfile.write(path, np.zeros((2 * RATE, 2)), RATE)
        case "one sample":
            soundfile.write(path, np.full((1, 2), 0.5), RATE)
        case "nan" | "infinite":
            bad[1, RATE] = np.nan if kind == "nan" else -np.inf
            soundfile.write(path, bad.T, RATE, subtype="FLOAT")
    options = ["--rhythm", RHYTHM] if command == "render" else []
    assert_refused([command, path.name, *options], 1, sentence, here)


def test_what_is_cut_is_read_as_far_as_it_goes_and_said(here, loop):
    soundfile.write(here / "cut.wav", loop.T, RATE)
    n_bytes = (here / "cut.wav").stat().st_size
    (here / "cut.wav").write_bytes((here / "cut.wav").read_bytes()[: n_bytes * 2 // 3])
    result = redrum("transcribe", "cut.wav")
    assert result.exit_code == 0
    assert "cut.wav: its end is missing" in result.stderr


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", "missing.mid does not exist"),
        ("empty", ".+"),
        ("no drums", "no drum notes"),
        ("broken chunk", ".+"),
        ("not midi", ".+"),
        ("silence", "no drum hits"),
    ],
)
def test_bad_rhythm(source, here, loop, kind, sentence):
    name = f"{kind}.wav" if kind == "silence" else f"{kind}.mid"
    path = here / name
    match kind:
        case "empty":
            path.touch()
        case "no drums":
            write_notes(path, 60, 64, 67, channel=0)
        case "broken chunk":
            path.write_bytes(write_notes(path, 36, 38, 36, 38).read_bytes()[:-12])
        case "not midi":
            path.write_text("It was a dark and stormy night.")
        case "silence":
            soundfile.write(path, np.zeros((2 * RATE, 1)), RATE)
    assert_refused(["render", source, "--rhythm", name], 1, sentence, here)


def test_misspelt_rhythm_names_the_nearest(source, here):
    assert_refused(["render", source, "--rhythm", "bosa-nova-132"], 1, "no rhythm called 'bosa-nova-132'", here)
    assert RHYTHM in redrum("render", source, "--rhythm", "bosa-nova-132").stderr


def test_bad_setting(source, here, subtests):
    cases = [
        ("--engine magic", "no engine 'magic'"),
        ("--length long", "--length is 'long'"),
        ("--length 0", "length is 0"),
        ("--length nan", "--length is 'nan'"),
        ("--align never", "align is 'never'"),
        ("--align beats", "tempo of the source is not known"),
        ("--source-bpm fast", "--source-bpm is 'fast'"),
        ("--source-bpm -3", "-3"),
        ("--start -1", "start is -1"),
        ("--classes KD,XX", "'XX' is no drum class"),
        ("--classes KD,", "'' is no drum class"),
        ("--classes KD,kd", "KD is among the classes twice"),
        ("--gain HH", "--gain is 'HH'"),
        ("--gain XX=3", "'XX' is no drum class"),
        ("--mix 2", "mix is 2"),
        ("--timing nan", "--timing is 'nan'; it must be a number"),
        ("--velocity loud", "--velocity is 'loud'"),
        ("--velocity 0", "velocity is 0"),
        ("--tail long", "tail is 'long'"),
        ("--bit-depth 12", "bit depth is 12"),
        ("-o out.mp3", "results are lossless"),
        ("--plot out.pdf", "must end in .png"),
        ("--drum-map mine", "'mine' is no drum map"),
        ("--device quantum", "--device is 'quantum'"),
        ("--overwrite --skip-existing", "contradict each other"),
        ("-q -v", "contradict each other"),
    ]
    for options, sentence in cases:
        with subtests.test(options=options, sentence=sentence):
            assert_refused(["render", source, "--rhythm", RHYTHM, *options.split()], 2, sentence, here)


def test_unknown_preset(source, here):
    arguments = ["render", source, "--rhythm", RHYTHM, "--preset", "nothing"]
    assert_refused(arguments, 1, "no preset 'nothing'", here)
    assert_refused([*arguments, "--dry-run"], 1, "no preset 'nothing'", here)


@pytest.mark.parametrize("name", ["cuda", "mps"])
def test_device_that_is_not_there_is_an_environment_error(source, here, monkeypatch, name):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    assert_refused(["render", source, "--rhythm", RHYTHM, "--device", name], 3, f"no {name} device", here)


@pytest.mark.usefixtures("source")
def test_models_go_where_they_are_sent_and_to_a_gpu_that_is_there(monkeypatch, subtests):
    asked = []

    def load(preset="default", *, device="cpu"):
        asked.append(device)
        raise CheckpointError("no more is asked for")

    monkeypatch.setattr(Redrummer, "load", load)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    cases = [
        f"render loop.wav --rhythm {RHYTHM}",
        f"batch loop.wav --rhythm {RHYTHM}",
        "demo",
        "transcribe loop.wav",
        "separate loop.wav",
        "extract loop.wav --out kit",
        "rhythms add new loop.wav",
    ]
    for command in cases:
        for given in ["", "--device cuda", "--device cpu"]:
            with subtests.test(command=command, given=given):
                asked.clear()
                batch_work._models.cache_clear()
                result = redrum(*f"{command} {given}".split())
                assert result.exit_code == 1, result.output
                assert set(asked) == {"cpu" if given == "--device cpu" else "cuda"}


@pytest.mark.parametrize("command", ["render", "transcribe"])
def test_output_folder_that_cannot_be(source, here, command):
    (here / "file").write_text("in the way")
    options = ["--rhythm", RHYTHM, "-o", "file/out.wav"] if command == "render" else ["-o", "file/out.mid"]
    assert_refused([command, source, *options], 1, "file is not a folder", here)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="folders are not read-only to this user")
def test_read_only_output_folder(source, here):
    locked = here / "locked"
    locked.mkdir(mode=0o500)
    assert_refused(["render", source, "--rhythm", RHYTHM, "-o", "locked/out.wav"], 1, "cannot be written", here)


def test_result_that_cannot_be_finished_leaves_nothing(source, here, monkeypatch):
    def blocks_until_the_disk_is_full(self, *_):
        yield self.read(0, 1000)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Take, "blocks", blocks_until_the_disk_is_full)
    result = redrum("render", source, "--rhythm", RHYTHM, "-o", "out.wav")
    assert result.exit_code == 1
    assert "No space left on device" in result.stderr
    assert set(snapshot(here)) == {"loop.wav"}


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C to a whole console, the tests' own included")
@pytest.mark.parametrize("stops", [["SIGINT"], ["SIGTERM"], ["SIGHUP"], ["SIGHUP", "SIGHUP"]], ids="-".join)
def test_ctrl_c_in_mid_render_leaves_nothing(source, here, stops):
    # Whoever closes a terminal sends SIGHUP, often twice: the shell does, and the system.
    before = snapshot(here)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            SLOW_MAIN,
            "render",
            source,
            "--rhythm",
            RHYTHM,
            "--length=60s",
            "-o",
            "out/x.wav",
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        # A test run in the background passes on that it ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        deadline_s = time.monotonic() + 120
        while not list(here.glob("out/.*")) and process.poll() is None and time.monotonic() < deadline_s:
            time.sleep(0.01)
        assert list(here.glob("out/.*")), "the render never came to write"
        for stop in stops:
            process.send_signal(getattr(signal, stop))
        told, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert told == ""
    assert [line for line in errors.splitlines() if line] == [
        "redrum: interrupted",
        "  no unfinished file is left; run the same command again",
    ]
    assert snapshot(here) == before | {"out": ""}


def test_ctrl_c_in_json(source, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("transform.engine.Redrummer.redrum", interrupted)
    result = redrum("render", source, "--rhythm", RHYTHM, "--json")
    assert result.exit_code == 130
    assert objects(result)[0]["error"] == "interrupted"


def test_real_process_prints_clean_json(source, here):
    result = run_python(MAIN, "render", source, "--rhythm", RHYTHM, "--json", cwd=here)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert set(json.loads(result.stdout)) == RENDER_KEYS
    again = run_python(MAIN, "render", source, "--rhythm", RHYTHM, cwd=here)
    assert again.returncode == 1
    assert again.stdout == ""
    assert "exists already" in again.stderr


# --- transcribe ---


def test_transcribe_writes_midi_beside_its_json(source):
    result = redrum("transcribe", source, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    (item,) = objects(result)
    assert item["output"] == str(Path("redrummed") / "loop.mid")
    assert (item["audio"], item["duration_s"], item["plot"]) == (source, 2.0, None)
    assert item["events"]
    onsets_s = [event["onset_s"] for event in item["events"]]
    assert onsets_s == sorted(onsets_s)
    for event in item["events"]:
        assert set(event) == {"onset_s", "class", "velocity", "articulation", "flam_ms"}
        assert event["class"] in CLASSES
        assert 0 < event["velocity"] <= 1
    assert sum(item["counts"].values()) == len(item["events"])
    written = read_midi(Path(item["output"])).events
    assert len(written) == len(item["events"])
    for event, stored in zip(item["events"], written, strict=True):
        assert stored.drum_class == event["class"]
        assert stored.onset_s == pytest.approx(event["onset_s"], abs=0.001)
        assert stored.velocity == pytest.approx(event["velocity"], abs=0.01)


def test_transcribe_summary_and_picture(source):
    result = redrum("transcribe", source, "-o", "a/b.mid", "--plot", "a/b.png")
    assert result.exit_code == 0, result.output
    assert re.match(r"a.b\.mid: \d+ hits \(\d+ \w\w.*\) in 2\.00 s", result.stdout)
    assert Path("a/b.png").read_bytes().startswith(b"\x89PNG")


def test_transcribe_keeps_the_tempo_of_the_file_name(write, loop):
    name = write("loop 135bpm.wav", loop)
    (item,) = objects(redrum("transcribe", name, "--json"))
    assert item["bpm"] == 135
    assert read_midi(Path(item["output"])).bpm == pytest.approx(135, abs=0.01)
    for given, bpm, how in (
        ("120,5", 120.5, "(--source-bpm)"),
        ("auto", 135, "(an estimate, confidence 0."),
    ):
        result = redrum("transcribe", name, "--source-bpm", given, "--overwrite")
        assert how in result.stdout
        assert read_midi(Path(item["output"])).bpm == pytest.approx(bpm, rel=0.03)


def test_what_was_transcribed_without_a_tempo_claims_none(source, write, loop):
    heard = redrum("transcribe", source, "-o", "heard.mid")
    assert "no tempo is known, so the file keeps seconds" in heard.stdout
    plays = write("plays 100bpm.wav", loop)
    (item,) = objects(redrum("render", plays, "--rhythm", "heard.mid", "-o", "out.wav", "--json"))
    assert soundfile.info("out.wav").duration == pytest.approx(2.0, abs=0.001)
    assert any(
        "whose tempo is not known; to match your file add --rhythm-bpm N" in note for note in item["notes"]
    )
    at_a_tempo = redrum("render", plays, "--rhythm", "heard.mid", "--rhythm-bpm", 50, "-o", "half.wav")
    assert "plays at 100 BPM, the source's; the rhythm's own is 50" in at_a_tempo.stdout
    added = redrum("rhythms", "add", "heard.mid")
    assert added.exit_code == 1
    assert "the tempo of heard.mid is not known" in added.stderr
    assert "--rhythm-bpm N" in added.stderr


@pytest.mark.slow
def test_drums_of_opposite_phase_are_heard_and_redrummed(write, loop):
    write("plain.wav", np.stack((loop[0], loop[0])))
    write("opposed.wav", np.stack((loop[0], -loop[0])))
    hits = [objects(redrum("transcribe", f"{name}.wav", "--json"))[0] for name in ("plain", "opposed")]
    assert hits[0]["events"]
    assert hits[0]["counts"] == hits[1]["counts"]
    for ours, theirs in zip(*(item["events"] for item in hits), strict=True):
        assert ours["onset_s"] == pytest.approx(theirs["onset_s"], abs=0.001)
    for engine in ("resequence", "latent"):
        options = ("--rhythm", RHYTHM, "--engine", engine, "--length", "source", "--overwrite")
        takes = []
        for name in ("plain", "opposed"):
            assert redrum("render", f"{name}.wav", *options, "-o", "take.wav").exit_code == 0
            takes.append(soundfile.read("take.wav")[0])
        levels = [np.sqrt(np.square(take).mean(axis=0)) for take in takes]
        assert levels[1] == pytest.approx(levels[0], rel=0.2)
        if engine == "resequence":  # to the codec an inverted wave is another sound
            assert takes[1] == pytest.approx(takes[0] * (1, -1), abs=1e-3)


def test_transcribe_replaces_only_when_asked(source, here):
    (here / "out.mid").write_bytes(b"mine")
    assert_refused(["transcribe", source, "-o", "out.mid"], 1, "exists already", here)
    assert redrum("transcribe", source, "-o", "out.mid", "--overwrite").exit_code == 0
    assert read_midi(here / "out.mid").events


@pytest.mark.parametrize("output", ["loop.wav", "out.wav"])
def test_transcribe_writes_midi_only(source, here, output):
    assert_refused(["transcribe", source, "-o", output, "--overwrite"], 2, "must end in .mid", here)


# --- rhythms, presets, train, demo ---


def test_rhythms_list():
    found = objects(redrum("rhythms", "list", "--json"))
    assert [item["name"] for item in found] == [info.name for info in list_rhythms()]
    assert all(set(item) == {"schema", "name", "bpm", "beats", "style", "licence"} for item in found)
    lines = redrum("rhythms", "list").stdout.splitlines()
    assert len(lines) == len(found) + 1
    assert lines[1].split()[0] == found[0]["name"]


def test_rhythms_show_draws_the_grid(tmp_path):
    hits = [(0, "KD", 1.0), (1, "SD", 0.5), (2, "KD", 0.6), (2.5, "KD", 1.0), (3, "SD", 0.2), (0, "CY", 0.5)]
    events = tuple(DrumEvent(beat / 2, drum_class, velocity) for beat, drum_class, velocity in hits)
    (tmp_path / "drawn.mid").write_bytes(write_midi(Rhythm(events, 2.0, TempoMap.constant(120))))
    assert redrum("rhythms", "add", tmp_path / "drawn.mid").exit_code == 0
    result = redrum("rhythms", "show", "drawn")
    assert result.exit_code == 0
    assert "120 BPM, 4 beats" in result.stdout
    for line in (
        "           |1   2   3   4   |",
        "cymbal     |x---------------|",
        "hi-hat     |----------------|",
        "tom        |----------------|",
        "snare drum |----x-------o---|",
        "kick drum  |X-------x-X-----|",
    ):
        assert line in result.stdout.splitlines()


def test_rhythms_show_draws_a_shuffle_in_triplets():
    shown = redrum("rhythms", "show", "blues-shuffle-112").stdout
    assert "|1  2  3  4  |1  2  3  4  |" in shown
    assert "an eighth triplet" in shown
    assert "licence: CC0-1.0" in shown


def test_every_shipped_rhythm_can_be_drawn(subtests):
    for info in list_rhythms():
        with subtests.test(info.name):
            result = redrum("rhythms", "show", info.name)
            assert result.exit_code == 0
            n_bars = round(info.beats / info.beats_per_bar)
            counts = [line for line in result.stdout.splitlines() if line.startswith(" " * 11 + "|")]
            assert sum(line.count("|1") for line in counts) == n_bars
            assert info.licence in result.stdout


def test_rhythms_add_copies_and_never_replaces(here):
    write_notes(here / "My Beat.mid", 36, 38, tempo=90)
    result = redrum("rhythms", "add", "mine", "My Beat.mid")
    assert result.exit_code == 0
    assert result.stdout.startswith("mine: 90 BPM, 4 beats, in ")
    assert "mine" in redrum("rhythms", "list").stdout
    assert redrum("rhythms", "add", "mine", "My Beat.mid").exit_code == 1
    assert redrum("rhythms", "add", "missing.mid").exit_code == 1
    assert redrum("rhythms", "add", "My Beat.mid").stdout.startswith("my-beat: ")


def test_rhythms_add_transcribes_a_recording(source):
    events = objects(redrum("transcribe", source, "-o", "heard.mid", "--json"))[0]["events"]
    result = redrum("rhythms", "add", "heard", source, "--rhythm-bpm", 120)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("heard: 120 BPM, 4 beats, in ")
    added = read_midi(find_rhythm("heard").path).events
    assert [event.drum_class for event in added] == [event["class"] for event in events]
    assert redrum("rhythms", "add", "heard", source, "--rhythm-bpm", 120).exit_code == 1
    estimated = redrum("rhythms", "add", "guessed", source)
    assert re.match(r"guessed: \d+(\.\d+)? BPM", estimated.stdout)
    bpm = find_rhythm("guessed").bpm
    assert f"its tempo is estimated at {bpm:.1f}".removesuffix(".0") in estimated.stdout
    assert "--rhythm-bpm N" in estimated.stdout
    assert "estimated" not in result.stdout


def test_presets_list_and_show():
    (item, *_) = objects(redrum("presets", "list", "--json"))
    assert item["name"] == "default"
    assert item["models"]["transcriber"] > 100_000
    assert "default" in redrum("presets", "list").stdout
    shown = redrum("presets", "show", "default")
    assert shown.exit_code == 0
    assert shown.stdout
    for line in ("transcriber: 1,", "licence: MIT", "# "):
        assert line in shown.stdout
    assert len(shown.stdout.splitlines()) < 25
    assert "CARD.md" in shown.stdout.splitlines()[-1]
    (item,) = objects(redrum("presets", "show", "default", "--json"))
    assert item["models"]["transcriber"]["sha256"]
    assert item["licence"].startswith("MIT")
    assert item["card"]
    assert redrum("presets", "show", "nothing").exit_code == 1


@pytest.mark.slow
def test_an_exported_preset_is_imported_and_used_under_its_name(source, tmp_path, monkeypatch):
    shutil.copytree(load_preset("default").folder, "mine")
    toml = Path("mine/preset.toml")
    toml.write_text(
        toml.read_text(encoding="utf-8").replace('name = "default"', 'name = "mine"'), encoding="utf-8"
    )
    exported = redrum("presets", "export", "./mine")
    assert exported.exit_code == 0, exported.output
    assert exported.stdout.startswith("mine.redrum: ")
    assert redrum("presets", "export", "./mine").exit_code == 1  # nothing is replaced unless asked
    shutil.rmtree("mine")
    imported = redrum("presets", "import", "mine.redrum")
    assert imported.exit_code == 0, imported.output
    assert (tmp_path / "user data/presets/mine/preset.toml").is_file()
    assert [line.split()[0] for line in redrum("presets", "list").stdout.splitlines()] == [
        "NAME",
        "default",
        "mine",
    ]
    for command in (["render", source, "--rhythm", RHYTHM], ["transcribe", source], ["separate", source]):
        result = redrum(*command, "--preset", "mine")
        assert result.exit_code == 0, result.output
    again = redrum("presets", "import", "mine.redrum")
    assert again.exit_code == 1
    assert "there is a preset called mine already" in again.stderr


def test_train_hands_its_arguments_on():
    result = redrum("train", "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: redrum train")
    assert redrum("train", "no-such-stage").exit_code == 2


def test_demo_pairs_every_loop_with_a_rhythm_of_another_performance():
    names = {info.name for info in list_rhythms()}
    assert set(DEMO_RHYTHMS) == {recording.name for recording in demo_recordings()}
    assert set(DEMO_RHYTHMS.values()) <= names
    assert DEMO_RHYTHMS["acoustic-rock-135bpm"] != "rock-drive-135"


@pytest.mark.slow
def test_demo_runs_twice_and_replaces_only_its_own_files(here):
    folder = here / "redrummed" / "demo"
    folder.mkdir(parents=True)
    (folder / "mine.wav").write_bytes(b"mine")
    first = redrum("demo")
    assert first.exit_code == 0, first.output
    index = folder / "listen" / "index.html"
    assert first.stdout.splitlines()[-1] == f"Listen: open {index.as_uri()} in a browser"
    assert index.read_text(encoding="utf-8").count("<audio") == 3 * len(DEMO_RHYTHMS)
    made = snapshot(folder)
    assert len([name for name in made if "listen" not in name]) == 1 + 2 * len(DEMO_RHYTHMS)
    for recording in demo_recordings():
        name = f"{recording.name}_{DEMO_RHYTHMS[recording.name]}"
        info, of_source = soundfile.info(folder / f"{name}.wav"), soundfile.info(recording.path)
        assert (info.frames, info.samplerate) == (of_source.frames, of_source.samplerate)
        assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert redrum("demo", "-q").output == ""
    assert snapshot(folder) == made


def test_demo_of_one_loop(here):
    result = redrum("demo", "electronic-breakbeat-124bpm", "--json")
    assert result.exit_code == 0, result.output
    (item,) = objects(result)
    assert set(item) == RENDER_KEYS
    assert len(list((here / "redrummed" / "demo").iterdir())) == 3
    assert redrum("demo", "polka").exit_code == 2


def test_sensitivity_detects_more_or_fewer_strokes(source):
    def n_events(*options):
        result = redrum("transcribe", source, "--json", "--overwrite", *options)
        assert result.exit_code == 0, result.output
        return objects(result)[0]["counts"]

    usual, fewer, more = n_events(), n_events("--sensitivity", "HH=-1"), n_events("--sensitivity", "HH=1")
    assert fewer["HH"] <= usual["HH"] <= more["HH"]
    assert fewer["HH"] < more["HH"]
    assert redrum("transcribe", source, "--sensitivity", "HH=2").exit_code == 2


def test_what_is_plainly_meant_is_accepted(source, here):
    result = redrum("render", source, "Bossa-Nova-132", "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    (item,) = objects(result)
    assert (item["source"], item["output"]) == (source, str(Path("redrummed/loop_bossa-nova-132.wav")))


def test_what_is_plainly_confused_is_named(source, here):
    for name in ("my loop.wav", "other.wav"):
        shutil.copy(source, here / name)
    groove = find_rhythm(RHYTHM).path
    for arguments, hint in (
        (["my", "loop.wav", "--rhythm", RHYTHM], 'quotes around it: "my loop.wav"'),
        ([source, "other.wav"], "--rhythm other.wav"),
        ([groove, "--rhythm", RHYTHM], "a recording of drums first"),
        ([here, "--rhythm", RHYTHM], "redrum batch"),
    ):
        result = redrum("render", *arguments)
        assert result.exit_code in (1, 2)
        assert hint in result.stderr


def test_own_rhythms_are_removed_and_shipped_ones_are_not(here):
    own = shutil.copy(find_rhythm(RHYTHM).path, here / "own.mid")
    assert redrum("rhythms", "add", "my-beat", own).exit_code == 0
    assert "my-beat" in redrum("rhythms", "list", "user").stdout
    assert redrum("rhythms", "remove", "my-beat").stdout == "my-beat is removed\n"
    assert redrum("rhythms", "show", "my-beat").exit_code == 1
    assert redrum("rhythms", "remove", RHYTHM).exit_code == 1
    assert find_rhythm(RHYTHM).path.exists()


def test_rhythms_are_listed_by_style():
    lines = redrum("rhythms", "list", "Samba").stdout.splitlines()[1:]
    assert lines
    assert all("samba" in line for line in lines)
    assert "styles: " in redrum("rhythms", "list", "polka").stderr
