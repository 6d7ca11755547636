import json
import re
import shutil

import numpy as np
import pytest
import soundfile

from transform import one_shots
from transform.audio import AudioFormat, Recording
from transform.bank import Bank
from transform.errors import AudioError, CheckpointError, OutputError
from transform.events import DrumEvent
from transform.hits import LEAD_S, Hit
from transform.one_shots import check_kit_folder, load_kit, missing_classes, save_kit
from transform.resequence import Arrangement, Playing, arrange

RATE = 44_100
KIT = {  # class, articulation, levels in dB
    ("KD", ""): [-12.0, -12.3, -20.0],
    ("SD", ""): [-10.0],
    ("HH", "closed"): [-30.0, -18.0, -24.0, -24.5, -18.1],
    ("HH", "open"): [-16.0],
    ("CY", ""): [-14.0],
}
# By what a drummer plays: General MIDI's keys.
KEYS = {
    ("SD", ""): 38,
    ("SD", "sidestick"): 37,
    ("TT", "low"): 43,
    ("TT", "mid"): 47,
    ("TT", "high"): 50,
    ("HH", "closed"): 42,
    ("HH", "pedal"): 44,
    ("HH", "open"): 46,
    ("CY", "crash"): 49,
    ("CY", "ride"): 51,
}


def stereo_16(sample_rate=RATE, subtype="PCM_16", n_channels=2):
    return AudioFormat(sample_rate=sample_rate, n_channels=n_channels, subtype=subtype)


def made_bank(kit=KIT, *, sample_rate=RATE, n_channels=2, together=(), peak=None):
    """Return a bank of decaying noises with known levels; `together` are sets of classes that fall together."""
    rng = np.random.default_rng(0)
    lead = round(LEAD_S * sample_rate)
    sounds = {}
    wanted = [(frozenset({c}), how, db) for (c, how), levels in kit.items() for db in levels]
    for i, (classes, how, level_db) in enumerate([*wanted, *((frozenset(s), "", -9.0) for s in together)]):
        length = round((0.2 + 0.01 * i) * sample_rate)
        sound = rng.uniform(-1, 1, (n_channels, length)) * np.exp(-np.arange(length) / (0.1 * sample_rate))
        sound[:, :lead] = 0
        level = 10 ** (level_db / 20)
        sound *= level / np.sqrt(np.mean(sound[:, lead : lead + round(0.06 * sample_rate)] ** 2))
        if peak is not None:
            sound *= peak / np.abs(sound).max()
        hit = Hit(
            classes=classes,
            attack=1000 + 5000 * i,
            level=level,
            velocities=dict.fromkeys(classes, 0.3 + 0.01 * i),
            articulations=frozenset({how}) - {""},
            faults=0.1 * i,
        )
        sounds[hit] = sound.astype(np.float32)
    return Bank(list(sounds), sounds.__getitem__, sample_rate=sample_rate, n_channels=n_channels)


def parse_sfz(text):
    """Return the regions of an .sfz as dictionaries, with what they inherit."""
    regions, inherited = [], {}
    text = re.sub(r"//[^\n]*", "", text)
    for header, body in re.findall(r"<(\w+)>([^<]*)", text):
        opcodes = dict(re.findall(r"(\w+)=(.*?)(?=\s+\w+=|\s*$)", body, re.DOTALL))
        if header == "global":
            inherited = {"global": opcodes}
        elif header == "group":
            inherited["group"] = opcodes
        else:
            assert header == "region", header
            regions.append({**inherited.get("global", {}), **inherited.get("group", {}), **opcodes})
    return regions


@pytest.mark.parametrize(("subtype", "step"), [("PCM_16", 2**-16), ("PCM_24", 2**-24), ("FLOAT", 0.0)])
def test_a_kit_comes_back_as_it_was_saved(tmp_path, subtype, step):
    bank = made_bank()
    kit = save_kit(bank, tmp_path / "kit", fmt=stereo_16(subtype=subtype), name="loop")
    again = load_kit(tmp_path / "kit")
    assert (again.sample_rate, again.n_channels, again.classes) == (RATE, 2, bank.classes)
    assert set(again.sets) == set(bank.sets)
    for classes, hits in bank.sets.items():
        assert len(again.sets[classes]) == len(hits)
        for hit, other in zip(hits, again.sets[classes], strict=True):
            assert (other.attack, other.articulations) == (hit.attack, hit.articulations)
            assert other.velocity == pytest.approx(hit.velocity, abs=1e-6)
            assert other.faults == pytest.approx(hit.faults, abs=1e-6)
            assert other.level == pytest.approx(hit.level, rel=1e-4)
            np.testing.assert_allclose(again.sound(other), bank.sound(hit), rtol=0, atol=1.001 * step)
    for drum_class, level in bank.full_level.items():
        assert again.full_level[drum_class] == pytest.approx(level, rel=1e-4)
    assert kit.gain_db == 0


def test_a_kit_plays_what_its_recording_plays(tmp_path):
    bank = made_bank()
    save_kit(bank, tmp_path / "kit", fmt=stereo_16(), name="loop")
    events = [
        DrumEvent(0.1 * i, c, v, "open" if c == "HH" and i % 2 else "")
        for i, (c, v) in enumerate(
            [("KD", 0.9), ("HH", 0.5), ("SD", 0.8), ("HH", 0.2), ("KD", 0.4), ("TT", 0.6)]
        )
    ]
    played = []
    for each in (bank, load_kit(tmp_path / "kit")):
        out = Arrangement(each, arrange(each, events, Playing(seed=3))).read(0, RATE)
        played.append(out)
    assert np.abs(played[0]).max() > 0.1
    np.testing.assert_allclose(played[1], played[0], atol=1e-3)


def test_files_are_named_by_class_and_rising_level(tmp_path):
    kit = save_kit(made_bank(), tmp_path / "kit", fmt=stereo_16(), name="loop")
    assert [one.file for one in kit.one_shots] == [
        *("KD_1.wav", "KD_2.wav", "KD_3.wav", "SD_1.wav"),
        *("HH_1.wav", "HH_2.wav", "HH_3.wav", "HH_4.wav", "HH_5.wav", "HH_open_1.wav", "CY_1.wav"),
    ]
    for key in {one.key for one in kit.one_shots}:
        levels = [one.level_db for one in kit.one_shots if one.key == key]
        assert levels == sorted(levels)
    assert {path.name for path in (tmp_path / "kit").iterdir()} == {
        "kit.json",
        "loop.sfz",
        *(one.file for one in kit.one_shots),
    }
    many = save_kit(
        made_bank({("KD", ""): [-30.0 + i for i in range(12)]}), tmp_path / "many", fmt=stereo_16(), name="x"
    )
    names = [one.file for one in many.one_shots]
    assert names == sorted(names)
    assert names[0] == "KD_01.wav"


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 192_000])
@pytest.mark.parametrize("n_channels", [1, 6])
def test_one_shots_keep_rate_channels_and_depth_and_begin_before_the_attack(tmp_path, sample_rate, n_channels):
    bank = made_bank(sample_rate=sample_rate, n_channels=n_channels)
    kit = save_kit(bank, tmp_path / "kit", fmt=stereo_16(sample_rate, "PCM_24", n_channels), name="loop")
    lead = round(LEAD_S * sample_rate)
    for one in kit.one_shots:
        info = soundfile.info(tmp_path / "kit" / one.file)
        assert (info.samplerate, info.channels, info.subtype) == (sample_rate, n_channels, "PCM_24")
        samples, _ = soundfile.read(tmp_path / "kit" / one.file, always_2d=True)
        assert not samples[:lead].any()
        assert np.abs(samples[lead : lead + 10]).max() > 0
        assert one.length_s == pytest.approx(len(samples) / sample_rate, abs=1e-6)
        assert one.peak_db == pytest.approx(20 * np.log10(np.abs(samples).max()), abs=1e-3)
        beginning = samples[lead : lead + round(0.06 * sample_rate)]
        assert one.level_db == pytest.approx(20 * np.log10(np.sqrt(np.mean(beginning**2))), abs=1e-2)
    for region in parse_sfz((tmp_path / "kit" / "loop.sfz").read_text()):
        assert int(region["offset"]) == lead


def test_kit_json_says_where_each_one_shot_is_from(tmp_path):
    save_kit(made_bank(), tmp_path / "kit", fmt=stereo_16(), name="loop 120bpm")
    manifest = json.loads((tmp_path / "kit" / "kit.json").read_text())
    assert (manifest["schema"], manifest["name"]) == (1, "loop 120bpm")
    first = manifest["one_shots"][0]
    said = {
        "file",
        "class",
        "level_db",
        "peak_db",
        "length_s",
        "velocity",
        "articulation",
        "is_open",
        "source_s",
    }
    assert said <= set(first)
    # The softest kick is the third of the bank.
    assert (first["file"], first["class"]) == ("KD_1.wav", "KD")
    assert first["source_s"] == pytest.approx(11_000 / RATE, abs=1e-6)


def test_a_kit_of_the_first_version_only_says_which_hats_are_open(tmp_path):
    save_kit(made_bank(), tmp_path / "kit", fmt=stereo_16(), name="loop")
    path = tmp_path / "kit" / "kit.json"
    manifest = json.loads(path.read_text())
    for entry in manifest["one_shots"]:
        del entry["articulation"]
    path.write_text(json.dumps(manifest))
    hits = [hit for hits in load_kit(tmp_path / "kit").sets.values() for hit in hits]
    heard = sorted((hit.dominant, *hit.articulations) for hit in hits)
    assert heard == sorted((c, how) if how else (c,) for (c, how), levels in KIT.items() for _ in levels)


def test_sfz_maps_every_sample_to_its_general_midi_key(tmp_path):
    bank = made_bank({kind: [-12.0, -15.0] for kind in KEYS})
    kit = save_kit(bank, tmp_path / "kit", fmt=stereo_16(), name="loop")
    regions = parse_sfz((tmp_path / "kit" / kit.sfz).read_text(encoding="utf-8"))
    assert sorted(region["sample"] for region in regions) == sorted(one.file for one in kit.one_shots)
    said = {one.file: (one.drum_class, one.articulation) for one in kit.one_shots}
    assert set(said.values()) == set(KEYS)
    for region in regions:
        assert (tmp_path / "kit" / region["sample"]).is_file()
        assert region["loop_mode"] == "one_shot"
        drum_class, how = said[region["sample"]]
        assert int(region["key"]) == KEYS[drum_class, how]
        usual = ("", "closed", "crash")
        assert region["sample"] in [f"{drum_class}{'' if how in usual else f'_{how}'}_{i}.wav" for i in (1, 2)]
        # A hat chokes the hat before it, nothing else is choked.
        assert (region.get("group"), region.get("off_by")) == (
            ("1", "1") if drum_class == "HH" else (None, None)
        )


def test_sfz_layers_tile_the_velocities_and_equal_strokes_take_turns(tmp_path):
    kit = save_kit(made_bank(), tmp_path / "kit", fmt=stereo_16(), name="loop")
    regions = parse_sfz((tmp_path / "kit" / kit.sfz).read_text())
    for key in {region["key"] for region in regions}:
        own = [region for region in regions if region["key"] == key]
        layers = {(int(r["lovel"]), int(r["hivel"])): [] for r in own}
        for region in own:
            turn = int(region.get("seq_position", 1)), int(region.get("seq_length", 1))
            layers[int(region["lovel"]), int(region["hivel"])].append(turn)
        ranges = sorted(layers)
        assert [v for low, high in ranges for v in range(low, high + 1)] == list(range(1, 128))
        for turns in layers.values():
            assert sorted(turns) == [(i, len(turns)) for i in range(1, len(turns) + 1)]
    kicks = {r["sample"]: r for r in regions if r["key"] == "36"}
    assert {kicks[f"KD_{i}.wav"]["seq_length"] for i in (2, 3)} == {"2"}
    assert "seq_length" not in kicks["KD_1.wav"]


def test_sfz_dynamics_go_on_where_one_layer_ends(tmp_path):
    kit = save_kit(made_bank(), tmp_path / "kit", fmt=stereo_16(), name="loop")
    regions = [r for r in parse_sfz((tmp_path / "kit" / kit.sfz).read_text()) if r["key"] == "42"]
    level_db = {one.file: one.level_db for one in kit.one_shots}

    def heard_db(velocity):
        """The level of the loudest sample of a layer at a velocity at which its curve is given."""
        return max(
            level_db[r["sample"]] + 20 * np.log10(float(r[f"amp_velcurve_{velocity}"]))
            for r in regions
            if int(r["lovel"]) <= velocity <= int(r["hivel"])
        )

    tops = sorted({int(r["hivel"]) for r in regions})
    assert len(tops) == 3
    assert heard_db(127) == pytest.approx(-18.0, abs=0.01)
    for top in tops[:-1]:
        # Velocities are whole numbers; a step of one is at most 1 dB here.
        assert heard_db(top + 1) == pytest.approx(heard_db(top), abs=1.0)


def test_what_would_clip_is_turned_down_together_and_said(tmp_path):
    bank = made_bank(peak=1.5)
    kit = save_kit(bank, tmp_path / "kit", fmt=stereo_16(), name="loop")
    assert kit.gain_db == pytest.approx(-20 * np.log10(1.5), abs=0.01)
    again = load_kit(tmp_path / "kit")
    for classes, hits in bank.sets.items():
        for hit, other in zip(hits, again.sets[classes], strict=True):
            np.testing.assert_allclose(1.5 * again.sound(other), bank.sound(hit), atol=3e-4)
    assert save_kit(bank, tmp_path / "float", fmt=stereo_16(subtype="FLOAT"), name="loop").gain_db == 0


def test_hits_of_several_classes_are_no_one_shots(tmp_path):
    bank = made_bank({("HH", ""): [-20.0]}, together=[{"KD", "HH"}, {"SD", "HH"}])
    assert missing_classes(bank) == ("KD", "SD")
    kit = save_kit(bank, tmp_path / "kit", fmt=stereo_16(), name="loop")
    assert [one.file for one in kit.one_shots] == ["HH_1.wav"]
    none = made_bank({}, together=[{"KD", "HH"}])
    with pytest.raises(AudioError, match="no drum of loop sounds alone"):
        save_kit(none, tmp_path / "none", fmt=stereo_16(), name="loop")
    assert [path.name for path in tmp_path.iterdir()] == ["kit"]


@pytest.mark.parametrize("name", ["ドラム ß", "a\nb", "x <group> key=1"])
def test_any_name_leaves_the_sfz_in_order(tmp_path, name):
    save_kit(made_bank(), tmp_path / "kit", fmt=stereo_16(), name=name)
    (sfz,) = (tmp_path / "kit").glob("*.sfz")
    assert sfz.name == f"{name}.sfz"
    assert len(parse_sfz(sfz.read_text(encoding="utf-8"))) == 11
    assert load_kit(tmp_path / "kit").classes


def test_an_empty_folder_is_taken_and_a_full_one_is_not(tmp_path):
    (tmp_path / "empty").mkdir()
    save_kit(made_bank(), tmp_path / "empty", fmt=stereo_16(), name="loop")
    with pytest.raises(OutputError, match="exists already") as caught:
        save_kit(made_bank(), tmp_path / "empty", fmt=stereo_16(), name="loop")
    assert "--overwrite" in caught.value.hint
    (tmp_path / "file").write_text("mine")
    with pytest.raises(OutputError, match="is not a folder"):
        save_kit(made_bank(), tmp_path / "file", fmt=stereo_16(), name="loop", overwrite=True)


def test_overwriting_replaces_a_kit_and_nothing_else(tmp_path):
    folder = tmp_path / "kit"
    save_kit(made_bank(), folder, fmt=stereo_16(), name="old")
    save_kit(made_bank({("KD", ""): [-10.0]}), folder, fmt=stereo_16(), name="new", overwrite=True)
    assert {path.name for path in folder.iterdir()} == {"kit.json", "new.sfz", "KD_1.wav"}

    (folder / "my song.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"also holds my song\.txt"):
        check_kit_folder(folder, overwrite=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.wav").write_text("mine")
    with pytest.raises(OutputError, match="no kit that Redrum extracted"):
        save_kit(made_bank(), tmp_path / "other", fmt=stereo_16(), name="loop", overwrite=True)
    assert (tmp_path / "other" / "precious.wav").read_text() == "mine"


def listing(folder, **changes):
    """Change what a kit's manifest says of its first one-shot."""
    manifest = json.loads((folder / "kit.json").read_text())
    manifest["one_shots"][0] |= changes
    (folder / "kit.json").write_text(json.dumps(manifest))


def test_a_one_shot_that_was_worked_on_is_not_replaced(tmp_path):
    folder = tmp_path / "kit"
    save_kit(made_bank(), folder, fmt=stereo_16(), name="loop")
    (folder / "KD_1.wav").write_bytes((folder / "KD_2.wav").read_bytes())
    with pytest.raises(OutputError, match=r"KD_1\.wav, which is not of its kit, or was changed since"):
        save_kit(made_bank(), folder, fmt=stereo_16(), name="loop", overwrite=True)
    listing(folder, sha256="")  # as in a kit of 0.1.0
    save_kit(made_bank(), folder, fmt=stereo_16(), name="loop", overwrite=True)


@pytest.mark.parametrize("kind", ["a name of another form", "a folder", "a link"])
def test_a_strangers_manifest_makes_nothing_of_mine_a_one_shot(tmp_path, kind):
    folder, mine = tmp_path / "kit", tmp_path / "kit" / "KD_9.wav"
    save_kit(made_bank(), folder, fmt=stereo_16(), name="loop")
    if kind == "a folder":
        mine.mkdir()
        (mine / "song.wav").write_text("mine")
    elif kind == "a link":
        (tmp_path / "song.wav").write_text("mine")
        try:
            mine.symlink_to(tmp_path / "song.wav")
        except OSError:
            pytest.skip("links cannot be made here")
    else:
        mine = folder / "song.wav"
        mine.write_text("mine")
    (folder / "KD_1.wav").unlink()
    listing(folder, file=mine.name, sha256="")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(OutputError, match="which is not of its kit"):
        save_kit(made_bank(), folder, fmt=stereo_16(), name="loop", overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_kit_that_cannot_be_finished_leaves_nothing(tmp_path, monkeypatch, error, overwrite):
    folder = tmp_path / "kit"
    if overwrite:
        save_kit(made_bank(), folder, fmt=stereo_16(), name="old")
    before = sorted(tmp_path.rglob("*"))
    write_audio = one_shots.write_audio

    def write_some(path, *args):
        if path.name == "HH_2.wav":
            raise error
        write_audio(path, *args)

    monkeypatch.setattr(one_shots, "write_audio", write_some)
    with pytest.raises((OutputError, KeyboardInterrupt)):
        save_kit(made_bank(), folder, fmt=stereo_16(), name="new", overwrite=overwrite)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture(scope="module")
def good_kit(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kits") / "good"
    save_kit(made_bank({("SD", ""): [-10.0], ("KD", ""): [-12.0]}), folder, fmt=stereo_16(), name="loop")
    return folder


def damage(folder, kind):
    manifest = json.loads((folder / "kit.json").read_text())
    match kind:
        case "no folder":
            shutil.rmtree(folder)
        case "no manifest":
            (folder / "kit.json").unlink()
        case "no json":
            (folder / "kit.json").write_text("It was a dark and stormy night.")
            return
        case "newer":
            manifest["schema"] = 2
        case "a list":
            manifest = [manifest]
        case "no class":
            del manifest["one_shots"][0]["class"]
        case "unknown class":
            manifest["one_shots"][0]["class"] = "XX"
        case "no number":
            manifest["one_shots"][0]["level_db"] = "loud"
        case "elsewhere":
            manifest["one_shots"][0]["file"] = "../KD_1.wav"
        case "nothing":
            manifest["one_shots"] = []
        case "no sample":
            (folder / "SD_1.wav").unlink()
        case "no sound":
            (folder / "SD_1.wav").write_bytes(b"RIFF")
        case "other rate":
            soundfile.write(folder / "SD_1.wav", np.zeros((100, 2)), 48_000)
        case "mono":
            soundfile.write(folder / "SD_1.wav", np.zeros(100), RATE)
    if (folder / "kit.json").exists():
        (folder / "kit.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("kind", "error", "sentence"),
    [
        ("no folder", CheckpointError, "is no extracted kit: it holds no kit.json"),
        ("no manifest", CheckpointError, "is no extracted kit: it holds no kit.json"),
        ("no json", CheckpointError, "kit.json is damaged"),
        ("newer", CheckpointError, "newer version of Redrum"),
        ("a list", CheckpointError, "kit.json is damaged"),
        ("no class", CheckpointError, "kit.json is damaged: .*class"),
        ("unknown class", CheckpointError, "'XX' is no drum class"),
        ("no number", CheckpointError, "kit.json is damaged: .*loud"),
        ("elsewhere", CheckpointError, "lies outside the kit"),
        ("nothing", CheckpointError, "lists no one-shots"),
        ("no sample", AudioError, r"SD_1\.wav is missing in the kit"),
        ("no sound", AudioError, r"SD_1\.wav is not a sound file"),
        ("other rate", AudioError, r"SD_1\.wav has 48000 Hz and 2 channels; its kit has 44100 Hz"),
        ("mono", AudioError, r"SD_1\.wav has 44100 Hz and 1 channel; its kit has 44100 Hz and 2 channels"),
    ],
)
def test_a_kit_that_cannot_be_loaded_says_why(good_kit, tmp_path, kind, error, sentence):
    folder = shutil.copytree(good_kit, tmp_path / "kit")
    damage(folder, kind)
    with pytest.raises(error, match=sentence) as caught:
        load_kit(folder)
    assert caught.value.hint


def test_hits_of_a_recording_round_trip(tmp_path, clicks):
    recording = Recording.from_samples(clicks([0.25, 0.75, 1.5], n_channels=2, length_s=3.0), RATE, "clicks")
    events = [DrumEvent(0.25, "KD", 0.9), DrumEvent(0.75, "SD", 0.7), DrumEvent(1.5, "HH", 0.4, "closed")]
    bank = Bank.of_recording(recording, events)
    kit = save_kit(bank, tmp_path / "kit", fmt=recording.format, name=recording.name)
    assert [(one.drum_class, one.source_s) for one in kit.one_shots] == [
        ("KD", pytest.approx(0.25, abs=1e-4)),
        ("SD", pytest.approx(0.75, abs=1e-4)),
        ("HH", pytest.approx(1.5, abs=1e-4)),
    ]
    again = load_kit(tmp_path / "kit")
    for classes, hits in bank.sets.items():
        np.testing.assert_array_equal(again.sound(again.sets[classes][0]), bank.sound(hits[0]))


@pytest.mark.parametrize(
    ("name", "value"),
    [("sample_rate", "1e308"), ("channels", "9" * 4000), ("gain_db", "1e300"), ("gain_db", "NaN")],
)
def test_numbers_that_no_kit_has_are_refused(tmp_path, name, value):
    save_kit(made_bank(), tmp_path / "kit", fmt=stereo_16(), name="loop")
    path = tmp_path / "kit" / "kit.json"
    said = json.loads(path.read_text())
    path.write_text(json.dumps(said).replace(json.dumps(said[name]), value, 1))
    with pytest.raises(CheckpointError, match="is damaged") as caught:
        load_kit(tmp_path / "kit")
    assert len(caught.value.message) < 500
