"""Microphones of one performance: `render --together`, `batch --together`, groups of job sheets."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.mics_job import offsets_of
from transform.errors import SettingsError
from transform.library import demo_recordings

pytestmark = pytest.mark.usefixtures("models_once", "here")
RATE = 44_100
RHYTHM = "bossa-nova-132"
MICS = ("KICK", "SNARE", "OH")


@pytest.fixture(scope="module")
def loop():
    """Two seconds of a shipped loop, mono."""
    path = next(recording.path for recording in demo_recordings() if "acoustic" in recording.name)
    samples, _ = soundfile.read(path, frames=2 * RATE, dtype="float32")
    return samples.mean(axis=1)


@pytest.fixture
def kit(loop):
    """Return a function that writes the microphones of a kit into a folder, and returns their files."""

    def write(folder, names=MICS, rate=RATE):
        Path(folder).mkdir(parents=True, exist_ok=True)
        paths = []
        for n, name in enumerate(names):
            paths.append(Path(folder, f"{name}.wav"))
            delayed = np.concatenate((np.zeros(100 * n), loop))[: len(loop)]
            soundfile.write(paths[-1], delayed * 0.8**n, rate, subtype=("PCM_24", "PCM_16")[n % 2])
        return paths

    return write


def redrum(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="redrum")


def results(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*.wav"))


def test_render_together_writes_a_file_for_each(kit):
    paths = kit("session")
    result = redrum("render", *paths, "--together", "--rhythm", RHYTHM, "--out", "new", "--json")
    assert result.exit_code == 0, result.output
    (report,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert results("new") == [f"{name}_{RHYTHM}.wav" for name in sorted(MICS)]
    assert [mic["source"] for mic in report["together"]] == [str(path) for path in paths]
    assert [mic["bit_depth"] for mic in report["together"]] == ["24", "16", "24"]
    one, two, three = (soundfile.read(mic["output"], dtype="float64")[0] for mic in report["together"])
    assert np.abs(one).max() > 0.05
    # Each microphone is the first one 100 samples later, but for the fades, which are at the same places.
    for later, other, gain in ((100, two, 0.8), (200, three, 0.64)):
        assert np.corrcoef(one[: -later or None], other[later:])[0, 1] > 0.99
        assert np.abs(other).max() == pytest.approx(gain * np.abs(one).max(), rel=0.2)


def test_a_folder_stands_for_its_recordings(kit):
    kit("session")
    result = redrum("render", "session", "--together", "--rhythm", RHYTHM, "--dry-run", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert [Path(mic["source"]).stem for mic in report["together"]] == sorted(MICS)
    assert not Path("redrummed").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["KICK.wav", "SNARE.wav"], 2, "2 recordings are given"),
        (["KICK.wav", "GONE.wav", "--together"], 1, "GONE.wav does not exist"),
        (["KICK.wav", "KICK.wav", "--together"], 2, "KICK.wav is named twice"),
        (["KICK.wav", "b/KICK.wav", "--together", "--out", "o"], 2, "rename one of them"),
        (["KICK.wav", "SNARE.wav", "--together", "--engine", "latent"], 2, "the latent engine generates one"),
        (["KICK.wav", "SNARE.wav", "--together", "--stems", "s"], 2, "--stems is for one recording"),
        (["KICK.wav", "SNARE.wav", "--together", "-o", "x.wav"], 2, "x.wav is one file"),
        (["KICK.wav", "SNARE.wav", "--together", "--offset", "1"], 2, "--offset is given 1 times for 2"),
        (["KICK.wav", "SNARE.wav", "--together", "--offset", "SNARE=9"], 1, "do not overlap in time"),
        (["KICK.wav", "--offset", "1"], 2, "--offset is for microphones"),
        (["empty", "--together"], 1, "empty holds no recordings"),
    ],
)
def test_what_is_wrong_is_named_and_nothing_written(kit, arguments, code, sentence):
    kit(".")
    kit("b", ["KICK"])
    Path("empty").mkdir()
    before = results(".")
    result = redrum("render", *arguments, "--rhythm", RHYTHM)
    assert result.exit_code == code, result.output
    assert sentence in result.stderr
    assert results(".") == before


def test_a_result_that_is_there_stops_all_of_them(kit):
    paths = kit("session")
    taken = Path("new") / f"OH_{RHYTHM}.wav"
    taken.parent.mkdir()
    taken.write_bytes(b"mine")
    result = redrum("render", *paths, "--together", "--rhythm", RHYTHM, "--out", "new")
    assert result.exit_code == 1
    assert "exists already" in result.stderr
    assert results("new") == [taken.name]


def test_each_folder_of_a_batch_is_a_kit(kit):
    kit("songs/a")
    kit("songs/b", MICS[:2])
    result = redrum("batch", "songs", "--together", "--rhythm", RHYTHM, "--out", "new", "--json")
    assert result.exit_code == 0, result.output
    assert results("new") == sorted(
        [f"a/{name}_{RHYTHM}.wav" for name in MICS] + [f"b/{name}_{RHYTHM}.wav" for name in MICS[:2]]
    )
    assert len(result.stdout.splitlines()) == 2
    again = redrum("batch", "songs", "--together", "--rhythm", RHYTHM, "--out", "new", "--json")
    assert [json.loads(line)["unchanged"] for line in again.stdout.splitlines()] == [True, True]
    soundfile.write("songs/a/OH.wav", np.full(RATE, 0.1), RATE)
    changed = redrum("batch", "songs", "--together", "--rhythm", RHYTHM, "--out", "new", "--json")
    lines = [json.loads(line) for line in changed.stdout.splitlines()]
    assert sorted(line.get("unchanged", False) for line in lines) == [False, True]


@pytest.mark.parametrize("command", ["render", "batch"])
def test_what_says_no_drums_in_a_folder_is_left_out_and_named(kit, command, caplog):
    kit("session", [*MICS, "Lead Vox"])
    kit("vocals", ["Lead Vox"])
    sources = ["session"] if command == "render" else ["session", "vocals"]
    result = redrum(command, *sources, "--together", "--rhythm", RHYTHM, "--out", "new", "--dry-run")
    assert result.exit_code == 0, result.output
    listed = [str(Path("new", f"{name}_{RHYTHM}.wav")) in result.stdout for name in (*MICS, "Lead Vox")]
    assert listed == [True, True, True, command == "batch"]  # a folder of nothing else is taken
    assert "session: left out, as the names say no drums: Lead Vox.wav" in caplog.text
    files = [f"session/{name}.wav" for name in ("KICK", "Lead Vox")]
    named = redrum("render", *files, "--together", "--rhythm", RHYTHM, "--dry-run", "--json")
    assert len(json.loads(named.stdout)["together"]) == 2


@pytest.mark.parametrize("dry_run", [(), ("--dry-run",)])
def test_a_kit_that_cannot_be_made_fails_and_no_other(kit, dry_run):
    kit("songs/a")
    kit("songs/b")
    Path("songs/a/OH.wav").write_bytes(b"RIFF, but no sound")
    Path("nothing").mkdir()
    Path("songs/later/takes").mkdir(parents=True)
    Path("songs/later/notes.txt").write_text("to be recorded")
    order = ("songs", "nothing", "--together", "--rhythm", RHYTHM, "--out", "new", *dry_run)
    result = redrum("batch", *order)
    assert result.exit_code == 1
    shown = " ".join(result.stderr.split())
    assert f"{Path('songs', 'a')}: OH.wav is not a sound file" in shown
    assert "nothing holds no recordings" in shown
    assert f"{Path('songs', 'later')} holds no recordings" in shown
    assert results("new") == ([] if dry_run else sorted(f"b/{name}_{RHYTHM}.wav" for name in MICS))


def test_lines_of_a_sheet_with_one_group_are_a_kit(kit):
    kit("a")
    sheet = "source,rhythm,group,offset\n" + "".join(
        f"a/{n}.wav,{RHYTHM},verse,{t}\n" for n, t in zip(MICS, (0, 0.5, 0), strict=True)
    )
    Path("jobs.csv").write_text(sheet + f"a/KICK.wav,{RHYTHM},,\n".replace("a/KICK", "b/ALONE"))
    kit("b", ["ALONE"])
    result = redrum("batch", "--rhythm", "jobs.csv", "--out", "new", "--json")
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    (group,) = [line for line in lines if "together" in line]
    assert [mic["offset_s"] for mic in group["together"]] == [0.0, 0.5, 0.0]
    assert results("new") == sorted([f"a/{name}_{RHYTHM}.wav" for name in MICS] + [f"b/ALONE_{RHYTHM}.wav"])


@pytest.mark.parametrize(
    ("content", "sentence", "hint"),
    [
        (["KICK.wav", "KICK.wav"], "KICK.wav is named twice", "leave it out once"),
        (["KICK.wav", "KICK.flac"], "KICK.wav and KICK.flac would both become", "rename one of them"),
        (["KICK.wav", 'OH.wav"\noffset = "9'], "do not overlap in time", "in a sheet's column offset"),
        (["KICK.wav", 'OH.wav"\noffset = true\nlength = "source'], "offset is 'True', which is no number", ""),
    ],
)
def test_mistakes_in_a_group_come_with_their_cure(kit, content, sentence, hint):
    kit(".")
    soundfile.write("KICK.flac", *soundfile.read("KICK.wav"))
    jobs = (f'[[job]]\nrhythm = "{RHYTHM}"\ngroup = "x"\nsource = "{source}"\n' for source in content)
    Path("jobs.toml").write_text("".join(jobs))
    result = redrum("batch", "--rhythm", "jobs.toml", "--out", "new")
    assert result.exit_code != 0
    shown = " ".join(result.output.split())
    assert sentence in shown
    assert hint in shown
    assert "--name" not in shown


def test_a_dry_run_lists_every_microphone_and_how_they_differ(kit):
    kit("a", ["KICK", "OH"])
    kit("b", ["ROOM"], rate=48_000)
    sources = ["a/KICK.wav", "a/OH.wav", "b/ROOM.wav"]
    options = ("--together", "--rhythm", RHYTHM, "--offset", "OH=0.25", "--out", "new", "--dry-run")
    result = redrum("render", *sources, *options)
    assert result.exit_code == 0, result.output
    for source in map(Path, sources):
        assert (
            f"{Path('new', f'{source.stem}_{RHYTHM}.wav')}: would be {source} playing {RHYTHM}" in result.stdout
        )
    assert "KICK is at 44100 Hz: it is resampled to 48000 Hz and back" in result.stdout
    assert "OH begins 0.250 s after KICK" in result.stdout


def test_a_group_plays_one_rhythm(kit):
    kit(".")
    Path("jobs.csv").write_text(
        f"source,rhythm,group,seed\nKICK.wav,{RHYTHM},x,1\nSNARE.wav,house-four-on-the-floor-124,x,1\nOH.wav,{RHYTHM},x,2\n"
    )
    result = redrum("batch", "--rhythm", "jobs.csv", "--out", "new")
    assert result.exit_code == 2
    assert "line 3: group x has another rhythm than in line 2" in result.stderr
    assert "line 4: group x has other settings than in line 2" in result.stderr
    assert not Path("new").exists()


def test_offsets_are_named_or_in_order():
    sources = [Path("a/KICK.wav"), Path("a/OH.wav")]
    assert offsets_of(sources, []) == [None, None]
    assert offsets_of(sources, ["OH=0.25"]) == [None, 0.25]
    assert offsets_of(sources, ["OH.wav=-0.5"]) == [None, -0.5]
    assert offsets_of(sources, ["1", "2.5"]) == [1.0, 2.5]
    for wrong in (["x=1"], ["1", "OH=2"], ["OH=soon"], ["nan", "0"], ["OH=-0.5", "OH.wav=1"]):
        with pytest.raises(SettingsError):
            offsets_of(sources, wrong)
