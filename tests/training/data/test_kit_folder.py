import numpy as np
import pytest
import soundfile

from training.data.kit_folder import OVERRIDES, classified, read_kit_folder
from transform.errors import AudioError, SettingsError


@pytest.fixture
def folder(tmp_path, hit):
    """Return a folder of a kit: four drums, each in its file."""
    kit = tmp_path / "My Kit"
    kit.mkdir()
    for name, drum_class in (("Kick 1", "KD"), ("Snare", "SD"), ("HatClosed", "HH"), ("crash-16", "CY")):
        soundfile.write(kit / f"{name}.wav", 0.5 * hit(drum_class), 44_100)
    return kit


def report_of(found, name):
    return str(next(report for report in found.files if report.name == name))


def test_names_say_what_is_hit(subtests):
    cases = [
        ("KD_1.wav", "KD", ""),
        ("BassDrum22.wav", "KD", ""),
        ("01 Bass Drum soft.flac", "KD", ""),
        ("snr-03.wav", "SD", ""),
        ("Side Stick.wav", "SD", "sidestick"),
        ("hand_clap.wav", "SD", "clap"),
        ("Snare_OH_02.wav", "SD", ""),  # the overheads of a snare
        ("OH_02.wav", "HH", "open"),
        ("hi-hat open.wav", "HH", "open"),
        ("HHClosed.wav", "HH", "closed"),
        ("Pedal Hat.wav", "HH", "pedal"),
        ("FloorTom.wav", "TT", "low"),
        ("tom hi 3.wav", "TT", "high"),
        ("Ride Bell.wav", "CY", "bell"),
        ("crash18.wav", "CY", "crash"),
        ("snares/hard/07.wav", "SD", ""),
        ("Toms/low/vel 3.wav", "TT", "low"),
        ("Kick room/snare.wav", "SD", ""),  # its own name counts before its folder's
        ("recordings/kick song.wav", "recording", ""),
        ("Snare Takes/03.wav", "SD", ""),
        ("Größe/Kick Ä.wav", "KD", ""),
    ]
    for name, drum_class, articulation in cases:
        with subtests.test(name=name, drum_class=drum_class, articulation=articulation):
            assert classified(name) == (drum_class, articulation, "")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("36.wav", "no drum is named"),
        ("bottom of the phantom chat.wav", "no drum is named"),
        ("kick and snare.wav", "its name says KD and SD"),
        ("kicks/snare + ride.wav", "its name says SD and CY"),
    ],
)
def test_names_that_say_nothing_or_too_much_are_left_out(name, why):
    assert classified(name)[2].startswith(why)


def test_hits_keep_their_levels_and_begin_with_their_attack(folder, hit):
    quiet = np.concatenate((np.zeros(20_000, dtype=np.float32), 0.05 * hit("KD", 5)))
    soundfile.write(folder / "Kick 2.wav", quiet, 44_100, subtype="FLOAT")
    kit = read_kit_folder(folder).kit
    soft, loud = kit.voices("KD")[""]
    assert (soft.level_db, loud.level_db) == pytest.approx((-20.0, 0.0), abs=0.01)
    for shot in kit.one_shots:
        assert float(shot.samples.abs().max()) == pytest.approx(0.9)
        assert abs(float(shot.samples[0])) > 0.5  # these drums begin at their loudest
    assert {shot.drum_class for shot in kit.one_shots} == {"KD", "SD", "HH", "CY"}


def test_every_file_is_reported_with_what_is_wrong_with_it(folder, hit):
    clipped = np.clip(3 * hit("SD", 1), -1, 1)
    clipped[100:110] = 1.0
    soundfile.write(folder / "snare clipped.wav", clipped, 44_100)
    soundfile.write(folder / "kick stereo.wav", np.stack([hit("KD", 2), 0.5 * hit("KD", 2)]).T, 44_100)
    soundfile.write(folder / "kick opposed.wav", np.stack([hit("KD", 3), -hit("KD", 3)]).T, 44_100)
    soundfile.write(folder / "tom 48k.wav", hit("TT", 2), 48_000)
    soundfile.write(folder / "ride silent.wav", np.zeros(4410), 44_100)
    soundfile.write(folder / "ride click.wav", np.array([0.5] * 20), 44_100)
    soundfile.write(folder / "hat long.wav", np.tile(hit("HH"), 100), 44_100)
    soundfile.write(folder / "Kick copy.wav", 0.5 * hit("KD"), 44_100)
    soundfile.write(folder / "Perc.wav", hit("TT"), 44_100)
    (folder / "snare broken.wav").write_bytes(b"RIFF")
    (folder / ".hidden kick.wav").write_bytes(b"")
    (folder / "notes.txt").write_text("not a sound")
    found = read_kit_folder(folder)
    assert report_of(found, "snare clipped.wav") == "snare clipped.wav: SD; clipped, used as it is"
    assert report_of(found, "kick stereo.wav") == "kick stereo.wav: KD; stereo, mixed to mono"
    assert "opposite phase, the louder one is used" in report_of(found, "kick opposed.wav")
    assert report_of(found, "tom 48k.wav") == "tom 48k.wav: TT; 48000 Hz, converted to 44100 Hz"
    left_out = {report.name: str(report) for report in found.left_out}
    assert left_out["Kick copy.wav"] == "Kick copy.wav: left out; repeats Kick 1.wav"
    assert left_out["ride silent.wav"] == "ride silent.wav: left out; silence"
    assert "shorter than a drum hit" in left_out["ride click.wav"]
    assert "too long for a one-shot" in left_out["hat long.wav"]
    assert "no drum is named" in left_out["Perc.wav"]
    assert "snare broken.wav" in left_out
    assert found.summary == "8 one-shots (3 KD, 2 SD, 1 TT, 1 HH, 1 CY), 0 s of recordings, 6 files left out"


def test_a_converted_hit_keeps_its_length_in_seconds(folder):
    soundfile.write(folder / "tom.wav", np.cos(0.02 * np.arange(24_000)), 48_000)
    shots = read_kit_folder(folder).kit.voices("TT")[""]
    assert len(shots[0].samples) == pytest.approx(22_050, abs=20)


def test_kit_toml_comes_before_names(folder, hit):
    soundfile.write(folder / "Perc [1].wav", hit("TT", 4), 44_100)
    (folder / "old").mkdir()
    soundfile.write(folder / "old" / "kick.wav", hit("KD", 4), 44_100)
    stated = '[classes]\n"Perc [1].wav" = "TT"\n"old/*" = "skip"\n"Snare.wav" = "KD"\n'
    (folder / OVERRIDES).write_text(stated, encoding="utf-8")
    found = read_kit_folder(folder)
    used = {report.name: report.used_as for report in found.files}
    assert (used["Perc [1].wav"], used["Snare.wav"], used["old/kick.wav"]) == ("TT", "KD", "")
    assert report_of(found, "old/kick.wav") == "old/kick.wav: left out; kit.toml says so"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("classes = 3", "unknown entry"),
        ("[drums]\n", "unknown entry: drums"),
        ("[classes]\n'Snare.wav' = 'snare'", "says Snare.wav = 'snare'"),
        ("[classes]\n'nothing*' = 'KD'", "names nothing*, which no file matches"),
        ("[classes\n", "cannot be read"),
    ],
)
def test_a_wrong_kit_toml_is_a_sentence(folder, text, said):
    (folder / OVERRIDES).write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=r"kit\.toml") as raised:
        read_kit_folder(folder)
    assert said in raised.value.message


def test_too_few_says_what_was_left_out(tmp_path, hit):
    for name in ("kick.wav", "snare.wav", "bongo.wav"):
        soundfile.write(tmp_path / name, hit("KD", len(name)), 44_100)
    with pytest.raises(AudioError, match="2 usable one-shots and 0 s of recordings") as raised:
        read_kit_folder(tmp_path)
    assert "bongo.wav: left out; no drum is named" in raised.value.message
    assert raised.value.hint.startswith("4 one-shots or 10 s are needed")
    with pytest.raises(AudioError, match="is no folder"):
        read_kit_folder(tmp_path / "kick.wav")


def test_recordings_alone_are_enough(tmp_path, hit):
    (tmp_path / "Loops").mkdir()
    take = np.pad(np.tile(hit("KD"), 80), (5000, 90_000))
    soundfile.write(tmp_path / "Loops" / "kick take.wav", take, 44_100)
    found = read_kit_folder(tmp_path)
    assert not found.kit.one_shots
    ((name, samples),) = found.recordings
    assert name == "Loops/kick take.wav"
    assert len(samples) == pytest.approx(
        80 * len(hit("KD")), abs=len(hit("KD"))
    )  # without the silence around it
    assert float(samples[0]) > 0.5


def test_hostile_names_are_read_as_names_and_shown_as_escapes(folder, hit):
    names = [
        "snare\n\x1b[31mred.wav",
        "kick '; rm -rf $HOME `x`.wav",
        "tom " + "ä" * 100 + ".wav",
        "-rf ride.wav",
    ]
    for i, name in enumerate(names):
        try:
            soundfile.write(folder / name, hit("TT", 10 + i), 44_100)
        except (OSError, soundfile.SoundFileError):
            pytest.skip("this file system has no such names")
    found = read_kit_folder(folder)
    used = {report.name: report.used_as for report in found.files}
    assert [used[name] for name in names] == ["SD", "KD", "TT", "CY"]
    assert report_of(found, names[0]) == "snare\\n\\x1b[31mred.wav: SD"
