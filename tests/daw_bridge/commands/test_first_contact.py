"""What newcomers type: it is understood where it is plain, else the next step is stated before models load."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.commands.reporting import shell_word
from transform.engine import Redrummer
from transform.library import find_rhythm
from transform.midi import read_midi
from transform.options import read_options
from transform.settings import RenderSettings

RHYTHM = "bossa-nova-132"
pytestmark = pytest.mark.usefixtures("here")


def redrum(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="redrum")


@pytest.mark.usefixtures("models_once")
def test_a_tempo_and_a_number_of_bars_are_those_of_the_result(source):
    options = ("--bpm", 120, "--length", "2 bars", "--midi", "out.mid", "--json")
    result = redrum("render", source, "--rhythm", RHYTHM.upper(), *options)
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["duration_s"] == pytest.approx(2 * 4 * 60 / 120, abs=1e-4)
    assert report["notes"][0] == "plays at 120 BPM, as requested"
    assert read_midi(Path("out.mid")).bpm == pytest.approx(120)


@pytest.fixture
def words(here, source):
    """Files as newcomers have them."""
    shutil.copy(source, "my loop.wav")
    shutil.copy(source, "other.wav")
    shutil.copy(find_rhythm(RHYTHM).path, "my groove.mid")


LOOP = ("render", "loop.wav", "--rhythm", RHYTHM)
QUOTED = shell_word("my loop.wav")
WRONG = [
    (("render", "lop.wav", "--rhythm", RHYTHM), "lop.wav does not exist", "did you mean loop.wav?"),
    (("transcribe", "Lop"), "Lop does not exist", "did you mean loop.wav?"),
    (("render", "loop.wav", "--rhythm", "my-groove.mid"), "does not exist", "did you mean my groove.mid?"),
    (("render", "my", "loop.wav", "--rhythm", RHYTHM), "my loop.wav is one name", '"my loop.wav"'),
    (("edit", "my", "loop.wav"), "my loop.wav is one name", '"my loop.wav"'),
    (("render", "loop.wav", "--rhythm", "my", "groove.mid"), "my groove.mid is one name", '"my groove.mid"'),
    ((*LOOP, "--bpm", "fast"), "--bpm is 'fast'", "--bpm 120"),
    ((*LOOP, "--mix", "70%%"), "--mix is '70%%'", "--mix 0.7"),
    ((*LOOP, "--mix", "70"), "mix is 70", "or 70%"),
    ((*LOOP, "--bpm", "120", "--align", "seconds"), "--bpm gives it another", "leave one of them out"),
    ((*LOOP, "--length", "4 beats"), "source, rhythm, bars or seconds", "--length 4bars"),
    ((*LOOP, "--preset", "nope"), "nope", "default"),
    (("render", "loop.wav", "--rhythm", "other.wav", "--bpm", "9"), "tempo of other is", "--rhythm-bpm"),
    (("render", "loop.wav", "--rhythm", "other.wav", "--timing", "0"), "tempo of other", "--rhythm-bpm auto"),
    (("render", "loop.wav", "--rhythm", "other.wav", "--length", "2bars"), "tempo of other", "--rhythm-bpm"),
    (("render", "--rhythm", "my loop.wav", RHYTHM), f"{RHYTHM} is a rhythm", f"{QUOTED} --rhythm {RHYTHM}"),
    (("edit", "lop.wav"), "redrum: lop.wav does not exist", "did you mean loop.wav?"),
    (("edit", "."), "redrum: . is a folder", "--together"),
    (("render", "loop.wav", "my loop.wav"), "2 recordings are given", f"--rhythm {QUOTED}"),
    *(
        ((command, "loop.wav", *words), message, step)
        for command in ("render", "edit", "batch")
        for words, message, step in [
            (["bossa-nova-bounce"], "no rhythm called 'bossa-nova-bounce'", "did you mean bossa-nova-1"),
            (["my-groove.mid"], "my-groove.mid does not exist", "did you mean my groove.mid?"),
            (["hip", "hop"], "hip hop is a style", "`redrum rhythms list hip hop`"),
        ]
    ),
    (("render", "loop.wav", "--classes", "kick", "snare"), "snare is neither", "in one word: KD,snare"),
    (("render", "loop.wav", "othr.wav", "--rhythm", RHYTHM), "othr.wav does not exist", "other.wav?"),
    (("batch", "loop.wav"), "--rhythm is missing", "give a rhythm"),
    (("audition", "rock", "my loop.wav"), "rock is no recording", f"redrum audition {QUOTED} rock"),
    (("audition", "loop.wav", "Rok"), "no style or rhythm called 'Rok'", "did you mean rock?"),
    (("render", "loop.wav", "--rhythm", "rock"), "rock is a style", "`redrum rhythms list rock`"),
    ((*LOOP[:3], "hip hop"), "hip hop is a style", "`redrum rhythms list hip hop`"),
    ((*LOOP[:3], "bossa-nova"), "bossa-nova is a style", "`redrum rhythms list bossa nova`"),
    (("my loop.wav",), "my loop.wav is no command", f"redrum render {QUOTED} --rhythm NAME"),
    (("help",), "help is no command", "redrum --help"),
    (("list",), "list is no command", "redrum rhythms list"),
    (("render", "xm.wav", "--rhythm", RHYTHM), "xm.wav does not exist", "check the spelling"),
    (("render", "https://ex.org/a.wav", RHYTHM), "does not exist", "save what is at this address as a file"),
    ((*LOOP, "--bpm", "0"), "the tempo is 0", "1 to 1000"),
    (("rhythms", "add", "RHYTHM!", "gone.wav"), "gone.wav does not exist", "check"),
    (("rhythms", "add", RHYTHM.upper(), "loop.wav"), f"rhythm called {RHYTHM} already", "another name"),
    (("rhythms", "add", "Ü!", "loop.wav"), "no name can be made from Ü!", "give one before the file"),
    (("render",), "SOURCE... is missing", "write redrum render SOURCE...; see redrum render --help"),
    (("render", "loop.wav"), "there is nothing to play", "`redrum rhythms list` shows the names"),
    (("render", "loop.wav", "--rhythm", ""), "there is nothing to play", "`redrum rhythms list`"),
    ((*LOOP, "--tempo", "120"), "there is no option --tempo", "did you mean --bpm?"),
    ((*LOOP, "--sed", "1"), "there is no option --sed", "or --seed"),
    ((*LOOP, "--gain", "HH", "-6"), "-6 is no option", "after an equals sign: HH=-6"),
    (("transcribe", "loop.wav", "other.wav"), "other.wav is more than redrum transcribe takes", "see redrum"),
    (("render", "loop.wav", "--threads", "0"), "'--threads': Input should be", "see redrum render --help"),
    (("--tempo",), "there is no option --tempo", "did you mean --help?"),
    (("rhythms", "add"), "NAME|FILE is missing", "write redrum rhythms add NAME|FILE [FILE]"),
    ((*LOOP, "--align", "beats"), "tempo of the source is not known", "--source-bpm auto"),
]  # fmt: skip


@pytest.mark.usefixtures("words")
@pytest.mark.parametrize(("arguments", "message", "hint"), WRONG, ids=[" ".join(row[0]) for row in WRONG])
def test_what_is_wrong_is_stated_with_the_next_step_before_models_load(arguments, message, hint, monkeypatch):
    monkeypatch.setattr(Redrummer, "load", lambda *_, **__: pytest.fail("the models were loaded"))
    result = redrum(*arguments)
    assert result.exit_code in (1, 2), result.output
    said, step = result.stderr.splitlines()
    assert message in said
    assert hint in step


def test_settings_are_written_as_musicians_write_them(source):
    given = ["--tail", "WRAP", "--preset", "Default", "--align", "Seconds", "--engine", "Resequence"]
    gains = ["--gain", "HH=-6,kick=+3,5", "--gain", "SD:-1dB"]
    result = redrum(*LOOP, *given, *gains, "--length", "4", "--dry-run")
    assert result.exit_code == 0, result.stderr
    assert "--length 4 is seconds; for bars write --length 4bars" in result.stderr
    assert "bars" not in redrum(*LOOP, "--length", "4s", "--dry-run").stderr
    read = read_options(RenderSettings, {"gain_db": ["HH=-6,kick=+3,5", "SD:-1dB"]})
    assert read == {"gain_db": {"HH": -6.0, "KD": 3.5, "SD": -1.0}}


@pytest.mark.usefixtures("words")
def test_the_name_of_a_rhythm_is_made_fit(tmp_path, monkeypatch):
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    assert redrum("rhythms", "add", "Mein Beat Ü", "my groove.mid").stdout.startswith("mein-beat: 132 BPM")


@pytest.mark.usefixtures("words", "models_once")
@pytest.mark.parametrize("given", [("loop.wav", RHYTHM), (RHYTHM, "loop.wav"), ("my groove.mid", "loop.wav")])
def test_the_rhythm_is_known_among_the_words(given):
    for command in ("render", "batch"):
        result = redrum(command, *given, "--dry-run", "--json")
        assert result.exit_code == 0, result.stderr
        report = json.loads(result.stdout)
        assert report["source"] == "loop.wav"
        assert Path(report["output"]).stem in (f"loop_{RHYTHM}", "loop_my groove")
    if RHYTHM in given:
        result = redrum("render", "loop.wav", *RHYTHM.upper().split("-"), "--dry-run", "--json")
        assert f"loop_{RHYTHM}" in json.loads(result.stdout)["output"]


@pytest.mark.parametrize("words", [["hip hop"], ["hip-hop"], ["hip", "hop"], ["HIP", "hop"]])
def test_a_style_is_written_with_spaces_or_hyphens(words):
    listed = redrum("rhythms", "list", *words)
    assert listed.exit_code == 0, listed.stderr
    assert "boom-bap-90 " in listed.stdout
    assert RHYTHM not in listed.stdout


@pytest.mark.usefixtures("models_once")
def test_a_batch_prints_what_render_prints_and_takes_nothing_that_redrum_made(source):
    Path("takes").mkdir()
    shutil.copy(source, "takes/loop.wav")
    assert redrum("extract", source, "--out", "takes/kit").exit_code == 0
    first = redrum("batch", "takes", "--rhythm", RHYTHM, "--out", "takes/first", "--page", "takes/first/page")
    assert first.exit_code == 0, first.output
    assert "\n  plays at 132 BPM, the rhythm's own; to match your file add --source-bpm N" in first.stdout
    second = redrum("batch", "takes", "--rhythm", "rock-drive-135", "--out", "second", "--dry-run", "--json")
    (item,) = map(json.loads, second.stdout.splitlines())
    assert Path(item["source"]) == Path("takes/loop.wav")
    assert "kit (an extracted kit)" in second.stderr
    assert "1 result of a batch" in second.stderr
    named = redrum("batch", "takes/kit", "--rhythm", RHYTHM, "--out", "third", "--dry-run", "--json")
    assert len(named.stdout.splitlines()) > 1  # what is named is taken
