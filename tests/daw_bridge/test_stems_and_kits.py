"""`redrum separate` and `redrum extract` as their user meets them, with models whose answers are known."""

import hashlib
import json
import re

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from transform.engine import Redrummer
from transform.events import CLASSES, DrumEvent
from transform.one_shots import load_kit
from transform.transcriber import Activations

RATE = 44_100
SHARES = (0.4, 0.3, 0.2, 0.1, 0.0)
LOUD = (1.5, -0.5, 0.0, 0.0, 0.0)
HITS = (
    DrumEvent(0.25, "KD", 0.9),
    DrumEvent(0.75, "SD", 0.7),
    DrumEvent(1.25, "HH", 0.4, "closed"),
    DrumEvent(1.5, "KD", 0.5),
)
SEPARATE_KEYS = {
    *("schema", "audio", "output", "stems", "plot", "duration_s", "sample_rate", "channels", "bit_depth"),
    *("gain_db", "drum_confidence", "notes", "events", "seconds"),
}
EXTRACT_KEYS = {
    *("schema", "audio", "output", "sfz", "duration_s", "sample_rate", "channels", "bit_depth", "gain_db"),
    *("drum_confidence", "notes", "one_shots", "seconds"),
}


class Stems:
    """Each a share of the recording."""

    def __init__(self, recording, shares):
        self.recording, self._shares = recording, np.array(shares, np.float32)[:, None, None]

    def read(self, start, stop, classes=CLASSES):
        rows = [CLASSES.index(drum_class) for drum_class in classes]
        return self._shares[rows] * self.recording.read(start, stop)


class Separator:
    def __init__(self, shares):
        self._shares = shares

    def open(self, recording, activations):
        return Stems(recording, self._shares)


class Transcriber:
    """Hears the same hits in everything that is not silent."""

    def __init__(self, hits):
        self._hits = hits

    def activations(self, recording, progress=None):
        sound = recording.read(0, recording.n_samples)
        n_frames = recording.n_samples * 100 // recording.sample_rate + 1
        found = Activations(*(np.zeros((5, n_frames), np.float32) for _ in range(3)), np.zeros((1, n_frames)))
        for event in self._hits if sound.any() else ():
            if event.onset_s < recording.duration_s:
                found.probability[CLASSES.index(event.drum_class), round(100 * event.onset_s)] = 1.0
        return found

    def events(self, activations):
        is_heard = activations.probability.any(axis=0)
        return [e for e in self._hits if e.onset_s * 100 < len(is_heard) and is_heard[round(100 * e.onset_s)]]


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(autouse=True)
def models(monkeypatch):
    """Return a function that says what the models of every preset answer."""

    def answer(hits=HITS, shares=SHARES):
        redrummer = Redrummer(Transcriber(hits), Separator(shares) if shares else None)
        monkeypatch.setattr(Redrummer, "load", lambda preset="default", device="cpu": redrummer)

    answer()
    return answer


@pytest.fixture
def write(here, clicks):
    """Return a function that writes two seconds with a click at every hit to a file in the current folder."""

    def write_file(name="loop.wav", samples=None, sample_rate=RATE, n_channels=2, subtype="PCM_16"):
        if samples is None:
            onsets_s = [hit.onset_s for hit in HITS]
            samples = clicks(onsets_s, sample_rate=sample_rate, n_channels=n_channels, length_s=2.0)
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(here / name, np.atleast_2d(samples).T, sample_rate, subtype=subtype)
        return name

    return write_file


def redrum(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="redrum")


def objects(result):
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(item["schema"] == 1 for item in found)
    return found


def snapshot(folder):
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
    assert re.search(sentence, lines[0].removeprefix("redrum: "))
    assert re.fullmatch(r"  \S.*", lines[1])
    told = redrum(*arguments, "--json")
    assert told.exit_code == code
    (item,) = objects(told)
    assert (item["error"], item["hint"]) == (lines[0].removeprefix("redrum: "), lines[1].strip())
    assert snapshot(folder) == before


def stored(path):
    samples, _ = soundfile.read(path, dtype="float64", always_2d=True)
    return samples.T


def stem_paths(folder, name, classes=CLASSES):
    return {drum_class: folder / f"{name}_{drum_class}.wav" for drum_class in classes}


def stored_sum(folder, name):
    return sum(stored(path) for path in stem_paths(folder, name).values())


# --- separate ---


def test_separate_writes_what_it_reports(write, here):
    source = write()
    before = snapshot(here)
    result = redrum("separate", source, "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    (item,) = objects(result)
    assert set(item) == SEPARATE_KEYS
    folder = here / "redrummed" / "stems" / "loop"
    assert {path.name for path in folder.iterdir()} == {f"loop_{c}.wav" for c in CLASSES}
    assert {here / stem["file"] for stem in item["stems"].values()} == set(folder.iterdir())
    assert (item["sample_rate"], item["channels"], item["bit_depth"]) == (RATE, 2, "16")
    assert (item["duration_s"], item["gain_db"], item["plot"]) == (2.0, 0.0, None)
    assert item["events"] == {"KD": 2, "SD": 1, "TT": 0, "HH": 1, "CY": 0}
    assert item["stems"]["CY"]["level_db"] == -120
    assert item["stems"]["KD"]["peak_db"] == pytest.approx(20 * np.log10(0.4 * 0.8), abs=0.3)
    np.testing.assert_array_equal(stored_sum(folder, "loop"), stored(here / source))
    assert snapshot(here).items() >= before.items()


def test_separate_tells_a_human_where_and_how(write):
    result = redrum("separate", write(), "--out", "out", "--plot")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert lines[0].endswith("loop: 2.00 s, 44100 Hz, stereo, 16 bits")
    assert [line.split()[0] for line in lines[1:6]] == list(CLASSES)
    assert "silent" in lines[5]
    assert lines[6].startswith("  picture: ")
    assert redrum("separate", "loop.wav", "--out", "quiet", "-q").output == ""


@pytest.mark.parametrize("n_channels", [1, 2, 6])
@pytest.mark.parametrize(
    ("sample_rate", "subtype"), [(8_000, "PCM_U8"), (48_000, "PCM_24"), (192_000, "FLOAT")]
)
def test_stems_keep_rate_channels_and_depth(write, here, n_channels, sample_rate, subtype):
    source = write(sample_rate=sample_rate, n_channels=n_channels, subtype=subtype)
    assert redrum("separate", source, "--out", "out").exit_code == 0
    for path in stem_paths(here / "out" / "loop", "loop").values():
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (sample_rate, n_channels, subtype)
    assert np.abs(stored_sum(here / "out" / "loop", "loop") - stored(here / source)).max() <= 2**-22


def test_stems_of_a_lossy_recording_have_24_bits(here, clicks):
    soundfile.write(here / "loop.ogg", clicks([0.25], n_channels=2).T, RATE)
    (item,) = objects(redrum("separate", "loop.ogg", "--json"))
    assert item["bit_depth"] == "24"


@pytest.mark.parametrize(("options", "depth"), [([], "32f"), (["--bit-depth", "16"], "16")])
def test_stem_beyond_full_scale_is_said(write, models, options, depth):
    models(shares=LOUD)
    (item,) = objects(redrum("separate", write(), *options, "--json"))
    assert item["bit_depth"] == depth
    assert (item["gain_db"] < 0) == bool(options)
    assert len(item["notes"]) == 1
    assert "over full scale" in item["notes"][0]


def test_only_some_classes(write, here):
    result = redrum("separate", write(), "--out", "out", "--classes", "sd, hh", "--json")
    assert result.exit_code == 0, result.output
    assert list(objects(result)[0]["stems"]) == ["SD", "HH"]
    assert {path.name for path in (here / "out" / "loop").iterdir()} == {"loop_SD.wav", "loop_HH.wav"}


def test_one_failing_recording_does_not_stop_the_others(write, here):
    bad = np.full((1, 1000), np.nan)
    names = [write("a.wav"), "missing.wav", write("nan.wav", bad, subtype="FLOAT"), write("b.wav")]
    (here / "text.wav").write_text("It was a dark and stormy night.")
    result = redrum("separate", *names, "text.wav", "--out", "out", "--json")
    assert result.exit_code == 1
    items = objects(result)
    assert [item["audio"] for item in items] == [*names, "text.wav"]
    assert ["error" in item for item in items] == [False, True, True, False, True]
    lines = result.stderr.splitlines()
    assert [line for line in lines if line.startswith("redrum: ")] == [
        "redrum: missing.wav does not exist",
        "redrum: nan.wav holds a value that is not a number (NaN or infinite) at 0.000 s",
        "redrum: text.wav is not a sound file that can be read",
    ]
    assert {path.name for path in (here / "out").iterdir()} == {"a", "b"}


def test_a_recording_that_fails_in_a_way_nobody_expects_does_not_stop_the_others(write, monkeypatch):
    open_stems = Separator.open

    def sometimes(self, recording, activations):
        if recording.name == "a":
            raise ValueError("a strange thing")
        return open_stems(self, recording, activations)

    monkeypatch.setattr(Separator, "open", sometimes)
    result = redrum("separate", write("a.wav"), write("b.wav"))
    assert result.exit_code == 1
    assert "a.wav: a strange thing" in result.stderr
    assert "b_KD.wav" in result.stdout


def test_silence_separates_to_silence_and_says_so(write, here):
    result = redrum("separate", write(samples=np.zeros((2, RATE))), "--json")
    assert result.exit_code == 0
    (item,) = objects(result)
    assert any("no drum hits are detected" in note for note in item["notes"])
    assert not stored_sum(here / "redrummed" / "stems" / "loop", "loop").any()


@pytest.mark.parametrize("n_samples", [1, 2, 500])
def test_shortest_recordings(write, here, n_samples):
    source = write(samples=np.full((1, n_samples), 0.5))
    assert redrum("separate", source, "--out", "out", "--plot").exit_code == 0
    np.testing.assert_array_equal(stored_sum(here / "out" / "loop", "loop"), stored(here / source))


def test_low_drum_confidence_is_said(write, here):
    time_s = np.arange(2 * RATE) / RATE
    chord = sum(np.sin(2 * np.pi * hz * time_s) for hz in (220, 277, 330, 440))
    source = write("song.wav", 0.1 * np.stack((chord, chord)))
    for arguments in (["separate", source], ["extract", source, "--out", "kit"]):
        result = redrum(*arguments, "--json")
        assert result.exit_code == 0, result.output
        (item,) = objects(result)
        assert item["drum_confidence"] < 0.3
        assert any("drum confidence in song is low" in note for note in item["notes"])
    (item,) = objects(redrum("separate", write(), "--json"))
    assert item["drum_confidence"] > 0.5
    assert item["notes"] == []


def test_one_class_only(write, here, models):
    models(hits=HITS[:1], shares=(1.0, 0.0, 0.0, 0.0, 0.0))
    source = write()
    assert redrum("separate", source, "--out", "out").exit_code == 0
    np.testing.assert_array_equal(stored(here / "out" / "loop" / "loop_KD.wav"), stored(here / source))
    assert not stored(here / "out" / "loop" / "loop_HH.wav").any()


def test_existing_stems_are_replaced_or_skipped_only_when_asked(write, here):
    source = write()
    arguments = ["separate", source, "--out", "out"]
    (here / "out" / "loop").mkdir(parents=True)
    (here / "out" / "loop" / "loop_TT.wav").write_bytes(b"mine")
    assert_refused(arguments, 1, r"loop_TT\.wav exists already", here)
    assert_refused([*arguments, "--skip-existing"], 1, r"loop_TT\.wav exists already", here)
    assert redrum(*arguments, "--overwrite").exit_code == 0
    before = snapshot(here)
    (item,) = objects(redrum(*arguments, "--skip-existing", "--json"))
    assert item["skipped"] is True
    assert "skipped" in redrum(*arguments, "--skip-existing").stdout
    # A picture that is missing is a result that is missing.
    assert redrum(*arguments, "--skip-existing", "--plot").exit_code == 1
    assert snapshot(here) == before


def test_other_files_in_the_folder_of_the_stems_stay(write, here):
    source = write()
    (here / "out" / "loop").mkdir(parents=True)
    (here / "out" / "loop" / "song.txt").write_text("mine")
    assert redrum("separate", source, "--out", "out").exit_code == 0
    assert (here / "out" / "loop" / "song.txt").read_text() == "mine"


def test_dry_run_writes_nothing_and_finds_what_is_wrong(write, here):
    before = {**snapshot(here)}
    source = write()
    result = redrum("separate", source, "--dry-run")
    assert result.exit_code == 0
    assert "would hold the stems of loop.wav" in result.stdout
    (item,) = objects(redrum("separate", source, "--dry-run", "--json"))
    assert item["dry_run"] is True
    assert set(snapshot(here)) == {*before, "loop.wav"}
    assert_refused(["separate", "missing.wav", "--dry-run"], 1, r"missing\.wav does not exist", here)


def test_picture_of_the_stems(write, here):
    (item,) = objects(redrum("separate", write(), "--out", "out", "--plot", "--json"))
    assert (here / item["plot"]).read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (here / "out" / "loop").iterdir()} == {
        "loop.png",
        *(f"loop_{c}.wav" for c in CLASSES),
    }


def test_paths_with_spaces_and_other_letters(write, here):
    name = "Été à la plage ドラム.wav"
    assert redrum("separate", write(name), "--out", "aus gabe ß", "--plot").exit_code == 0
    folder = here / "aus gabe ß" / "Été à la plage ドラム"
    np.testing.assert_array_equal(stored_sum(folder, folder.name), stored(here / name))
    assert redrum("extract", name, "--out", "キット ß").exit_code == 0
    assert (here / "キット ß" / "Été à la plage ドラム.sfz").is_file()


@pytest.mark.parametrize("again", ["loop.wav", "../here/loop.wav", "link.wav"])
def test_recording_given_twice(write, here, again):
    write()
    if again == "link.wav":
        try:
            (here / "link.wav").symlink_to("loop.wav")
        except OSError:
            pytest.skip("this user may not make symbolic links")
    assert_refused(["separate", "loop.wav", again], 2, "is given twice", here)


def test_two_recordings_of_one_name(write, here):
    names = [write("a/loop.wav"), write("b/loop.wav")]
    assert_refused(["separate", *names], 2, r"a.loop\.wav and b.loop\.wav would both go to .*loop", here)


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
def test_inputs_are_never_replaced(write, here, overwrite):
    names = [write("loop.wav"), write("loop/loop_KD.wav")]
    arguments = ["separate", *names, "--out", ".", *overwrite]
    assert_refused(arguments, 2, "is an input, which is never replaced", here)
    kit = [redrum("extract", "loop.wav", "--out", "kit"), "extract", "kit/KD_1.wav", "--out", "kit", *overwrite]
    assert_refused(kit[1:], 2, "is an input, which is never replaced", here)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--classes KD,XX", "'XX' is no drum class"),
        ("--classes KD,", "'' is no drum class"),
        ("--bit-depth 12", "bit depth is 12"),
        ("--device quantum", "--device is 'quantum'"),
        ("--overwrite --skip-existing", "contradict each other"),
        ("-q -v", "contradict each other"),
    ],
)
def test_bad_setting(write, here, options, sentence):
    assert_refused(["separate", write(), *options.split()], 2, sentence, here)


def test_misspelt_class_names_the_known_ones(write):
    assert "KD (kick), SD (snare)" in redrum("separate", write(), "--classes", "KDD").stderr


def test_preset_without_a_separator(write, here, models):
    models(shares=None)
    assert_refused(["separate", write()], 1, "preset default has no separator", here)


def test_out_that_is_a_file(write, here):
    (here / "file").write_text("in the way")
    assert_refused(["separate", write(), "--out", "file"], 1, "file is not a folder", here)
    assert_refused(["extract", "loop.wav", "--out", "file"], 1, "file is not a folder", here)


def test_interrupted_separation_leaves_nothing(write, here, monkeypatch):
    def interrupted(self, start, stop):
        raise KeyboardInterrupt

    monkeypatch.setattr(Stems, "read", interrupted)
    result = redrum("separate", write(), write("b.wav"), "--out", "out")
    assert result.exit_code == 130
    assert [path for path in (here / "out").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("command", ["separate", "extract"])
def test_help(command):
    result = redrum(command, "--help")
    assert result.exit_code == 0
    assert "NAME_KD.wav" in result.stdout or "KD_1.wav" in result.stdout


# --- extract ---


def test_extract_writes_what_it_reports(write, here):
    source = write(subtype="PCM_24")
    result = redrum("extract", source, "--out", "kit", "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    (item,) = objects(result)
    assert set(item) == EXTRACT_KEYS
    assert (item["sample_rate"], item["channels"], item["bit_depth"]) == (RATE, 2, "24")
    assert [(one["class"], one["source_s"]) for one in item["one_shots"]] == [
        ("KD", pytest.approx(0.25, abs=0.002)),
        ("KD", pytest.approx(1.5, abs=0.002)),
        ("SD", pytest.approx(0.75, abs=0.002)),
        ("HH", pytest.approx(1.25, abs=0.002)),
    ]
    for one in item["one_shots"]:
        info = soundfile.info(here / "kit" / one["file"])
        assert (info.samplerate, info.channels, info.subtype) == (RATE, 2, "PCM_24")
        assert info.frames / RATE == pytest.approx(one["length_s"], abs=1e-5)
    assert {path.name for path in (here / "kit").iterdir()} == {
        "kit.json",
        "loop.sfz",
        *(one["file"] for one in item["one_shots"]),
    }
    assert load_kit(here / "kit").classes == {"KD", "SD", "HH"}


def test_velocities_of_a_kit_are_measured_as_those_of_a_take_are(write, here, models, clicks):
    models([DrumEvent(0.25, "KD", 0.8), DrumEvent(1.5, "KD", 0.8)])  # transcribed as alike
    samples = clicks([0.25, 1.5], sample_rate=RATE, n_channels=2, length_s=2.0)
    samples[:, RATE:] *= 0.1
    result = redrum("extract", write(samples=samples), "--out", "kit", "--json")
    assert result.exit_code == 0, result.output
    soft, loud = (one["velocity"] for one in objects(result)[0]["one_shots"])
    assert soft < 0.7 * loud


def test_extract_tells_a_human_what_is_in_the_kit(write):
    result = redrum("extract", write(), "--out", "kit")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "kit: 4 one-shots, 44100 Hz, stereo, 16 bits, and loop.sfz"
    assert lines[2].split() == ["FILE", "CLASS", "LEVEL", "LENGTH", "AT"]
    assert lines[3].startswith("KD_1.wav")
    assert " kick drum " in lines[3]
    assert re.search(r"-\d+\.\d dB +\d\.\d\d s +\d\.\d\d\d s", lines[3])
    assert redrum("extract", "loop.wav", "--out", "quiet", "-q").output == ""


@pytest.mark.parametrize(("sample_rate", "n_channels"), [(8_000, 1), (96_000, 6)])
def test_kit_keeps_rate_and_channels(write, here, sample_rate, n_channels):
    source = write(sample_rate=sample_rate, n_channels=n_channels)
    assert redrum("extract", source, "--out", "kit").exit_code == 0
    info = soundfile.info(here / "kit" / "SD_1.wav")
    assert (info.samplerate, info.channels) == (sample_rate, n_channels)


def test_one_hit(write, here, models, clicks):
    models(hits=HITS[:1])
    assert redrum("extract", write(samples=clicks([0.25])), "--out", "kit").exit_code == 0
    assert {path.name for path in (here / "kit").iterdir()} == {"kit.json", "loop.sfz", "KD_1.wav"}


def test_class_that_only_sounds_with_others_is_said(write, here, models, clicks):
    models(
        hits=(DrumEvent(0.25, "KD", 0.9), DrumEvent(0.25, "HH", 0.5), DrumEvent(1.0, "HH", 0.5)), shares=None
    )
    (item,) = objects(redrum("extract", write(samples=clicks([0.25, 1.0])), "--out", "kit", "--json"))
    assert [one["file"] for one in item["one_shots"]] == ["HH_1.wav"]
    assert item["notes"] == ["no kick drum sounds alone: there is none in the kit"]


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("missing", r"loop\.wav does not exist"),
        ("silence", "no drum hits are detected in loop"),
        ("one sample", "no drum hits are detected in loop"),
        ("nan", "not a number"),
        ("together", "no drum of loop sounds alone"),
    ],
)
def test_bad_source(write, here, models, kind, sentence):
    match kind:
        case "silence":
            write(samples=np.zeros((2, RATE)))
        case "one sample":
            write(samples=np.full((1, 1), 0.5))
        case "nan":
            write(samples=np.full((1, RATE), np.nan), subtype="FLOAT")
        case "together":
            models(hits=(DrumEvent(0.25, "KD", 0.9), DrumEvent(0.25, "HH", 0.5)), shares=None)
            write()
    assert_refused(["extract", "loop.wav", "--out", "kit"], 1, sentence, here)


def test_existing_folder_is_replaced_only_where_it_is_a_kit(write, here):
    source = write()
    arguments = ["extract", source, "--out", "kit"]
    assert redrum(*arguments).exit_code == 0
    assert_refused(arguments, 1, "kit exists already", here)
    assert redrum(*arguments, "--overwrite").exit_code == 0
    (here / "mine").mkdir()
    (here / "mine" / "song.wav").write_text("mine")
    assert_refused(["extract", source, "--out", "mine"], 1, "mine exists already", here)
    assert_refused(["extract", source, "--out", "mine", "--overwrite"], 1, "no kit that Redrum extracted", here)


# --- transcribe ---


def test_a_transcription_with_its_picture_runs_the_network_once(write, here, monkeypatch):
    read, activations = [], Transcriber.activations

    def counted(self, recording, progress=None):
        read.append(recording.name)
        return activations(self, recording)

    monkeypatch.setattr(Transcriber, "activations", counted)
    result = redrum("transcribe", write(), "--plot", "loop.png")
    assert result.exit_code == 0, result.output
    assert (here / "loop.png").stat().st_size > 1000
    assert read == ["loop"]
