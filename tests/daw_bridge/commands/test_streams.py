"""`-`: recordings through standard input, results through standard output; and what is said on the way."""

import io
import os
import shutil
import subprocess
import sys

import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from transform.engine import Redrummer
from transform.library import resolve_rhythm
from transform.midi import parse_midi

RHYTHM = "bossa-nova-132"


@pytest.fixture
def loop(write_wav, clicks, monkeypatch, redrummer, tmp_path):
    monkeypatch.setattr(Redrummer, "load", lambda preset="default", *, device="cpu": redrummer)
    monkeypatch.chdir(tmp_path)
    return write_wav("loop.wav", clicks([0.1, 0.5], length_s=1.0))


def redrum(*arguments, stdin=b""):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="redrum", input=stdin)


def test_a_recording_comes_in_and_the_result_goes_out_and_nothing_else_does(loop):
    result = redrum("render", "-", "--rhythm", RHYTHM, "-o", "-", stdin=loop.read_bytes())
    assert result.exit_code == 0, result.stderr
    redrum("render", loop, "--rhythm", RHYTHM, "-o", "file.wav")
    assert result.stdout_bytes == (loop.parent / "file.wav").read_bytes()
    assert soundfile.info(io.BytesIO(result.stdout_bytes)).samplerate == 44_100


def test_a_rhythm_may_come_in(loop):
    data = resolve_rhythm(RHYTHM).path.read_bytes()
    result = redrum("render", loop, "--rhythm", "-", stdin=data)
    assert result.exit_code == 0, result.stderr
    assert (loop.parent / "redrummed" / "loop_stdin.wav").is_file()


def test_what_is_transcribed_goes_out(loop):
    result = redrum("transcribe", "-", "-o", "-", stdin=loop.read_bytes())
    assert result.exit_code == 0, result.stderr
    assert parse_midi(result.stdout_bytes, name="out").events


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("render", "-", "--rhythm", "-"), "one thing only"),
        (("render", "-", "--rhythm", RHYTHM), "ends at once"),
        (("transcribe", "loop.wav", "-o", "-", "--json"), "leave out --json"),
        (("extract", "-", "--out", "kit"), "standard input for render and transcribe alone"),
    ],
)
def test_what_a_stream_cannot_be_is_one_sentence(loop, arguments, said):
    result = redrum(*arguments)
    assert result.exit_code in (1, 2)
    assert said in result.stderr


@pytest.mark.skipif(os.name == "nt", reason="needs a pipe with a name")
def test_a_pipe_with_a_name_is_taken_as_standard_input(loop):
    os.mkfifo("pipe.wav")
    result = redrum("render", "pipe.wav", "--rhythm", RHYTHM)
    assert result.exit_code == 1
    assert "render and transcribe take what is piped in as -" in result.stderr


def test_a_reader_that_ends_is_one_sentence_or_silence(loop):
    code = (
        "import sys; from daw_bridge.commands.streams import output_path, Console, Path\n"
        "with output_path('.wav', Console()) as (path, _): Path(path).write_bytes(bytes(2**22))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.read(10)
    process.stdout.close()
    assert b"OutputError" in process.stderr.read()
    process.stderr.close()
    assert process.wait() == 1


def test_a_home_that_the_shell_did_not_put_in_is_put_in(loop, tmp_path, monkeypatch):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    shutil.copyfile(loop, home / "mine.wav")
    result = redrum("batch", "~/mine.wav", "--rhythm", RHYTHM, "--out=~/new", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert str(home / "new") in result.stdout
    assert not os.path.lexists("~")


def test_a_tempo_that_is_believed_is_said(loop):
    shutil.copyfile(loop, "loop-96bpm.wav")
    assert "at 96 BPM (file name)" in redrum("transcribe", "loop-96bpm.wav").stdout
    assert "no tempo is known" in redrum("transcribe", "loop.wav").stdout
    result = redrum("render", "loop-96bpm.wav", "--rhythm", RHYTHM)
    assert "the source's tempo is 96 BPM (file name)" in result.stdout


def test_notes_that_are_no_drums_are_named_with_the_result(loop):
    from tests.transform.test_midi_as_found import BASS, body_of, kit, notes, smf

    (loop.parent / "song.mid").write_bytes(smf(kit(), body_of(notes(BASS, 2))))
    result = redrum("render", "loop.wav", "--rhythm", "song.mid")
    assert "left out of the rhythm: 4 notes of channel 2" in result.stdout
    result = redrum("render", "loop.wav", "--rhythm", "song.mid", "--channel", "2", "-o", "bass.wav")
    assert "12 notes of channel 10" in result.stdout
