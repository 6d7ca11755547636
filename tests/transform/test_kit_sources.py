"""More hits of a source's kit: their level, rate and channels, and what is said of them."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from tests.transform.conftest import HeardEverything, decaying_noise, rhythm_of
from transform.audio import Recording
from transform.bank import Bank
from transform.cleaning import beginning_level
from transform.engine import Redrummer
from transform.errors import AudioError, SettingsError
from transform.events import DrumEvent
from transform.hits import LEAD_S
from transform.kit_sources import Origin, joined, level_gains_db, open_origins
from transform.one_shot_folder import read_hits
from transform.settings import RenderSettings
from transform.timbre import band_levels_db, decay_db_s, distance_db

RATE = 44_100


def drum(drum_class, sample_rate=RATE, level=1.0, hz_scale=1.0):
    """Return a burst (T,) by which its class is known."""
    time_s = np.arange(round(0.25 * sample_rate)) / sample_rate
    hz = hz_scale * {"KD": 80, "SD": 900, "TT": 250, "HH": 6000, "CY": 4000}[drum_class]
    return (level * 0.3 * np.cos(2 * np.pi * hz * time_s) * np.exp(-time_s / 0.04)).astype(np.float32)


def recording_of(strokes, sample_rate=RATE, channels=(1.0,), name="source", hz_scale=1.0):
    """Return a recording of strokes (onset_s, class, level), and its events."""
    mono = np.zeros(round(sample_rate * (max(t for t, *_ in strokes) + 0.6)), dtype=np.float32)
    for onset_s, drum_class, level in strokes:
        sound = drum(drum_class, sample_rate, level, hz_scale)
        mono[round(onset_s * sample_rate) :][: len(sound)] += sound
    samples = np.array(channels, dtype=np.float32)[:, None] * mono
    return Recording.from_samples(samples, sample_rate, name), [
        DrumEvent(t, c, min(1.0, level ** (1 / 1.6))) for t, c, level in strokes
    ]


def bank_of(strokes, **form):
    return Bank.of_recording(*recording_of(strokes, **form))


def level_of(bank, hit):
    return beginning_level(bank.sound(hit)[:, round(LEAD_S * bank.sample_rate) :], bank.sample_rate)


def attack_of(bank, hit):
    mono = np.abs(bank.sound(hit)).sum(axis=0)
    return int(np.argmax(mono > 0.5 * mono.max())) / bank.sample_rate


OWN = [(0.5, "KD", 0.8), (1.0, "SD", 0.8), (1.5, "KD", 0.4)]
MORE = [(0.5, "KD", 0.9), (1.0, "SD", 0.9), (1.5, "HH", 0.9), (2.0, "SD", 0.3)]


@pytest.mark.parametrize("sample_rate", [22_050, 44_100, 96_000])
@pytest.mark.parametrize("channels", [(1.0,), (1.0, 1.0), (0.5, 1.0, 0.2)])
@pytest.mark.parametrize("own_channels", [(1.0,), (1.0, 0.5), (1.0, 0.0, 0.0, 0.0, 0.0, 0.3)])
def test_hits_of_another_recording_come_in_the_sources_form_and_level(sample_rate, channels, own_channels):
    own = bank_of(OWN, channels=own_channels)
    # The other one is of the same drums, recorded half as loud.
    quiet = tuple(0.5 * gain for gain in channels)
    other = bank_of(MORE, sample_rate=sample_rate, channels=quiet, name="more")
    bank, notes = joined(own, [Origin("more", other)])
    assert (bank.sample_rate, bank.n_channels) == (RATE, len(own_channels))
    assert {frozenset(classes): len(hits) for classes, hits in bank.sets.items()} == {
        frozenset({"KD"}): 3,
        frozenset({"SD"}): 3,
        frozenset({"HH"}): 1,
    }
    for hits in bank.sets.values():
        for hit in hits:
            sound = bank.sound(hit)
            assert len(sound) == len(own_channels)
            assert level_of(bank, hit) == pytest.approx(hit.level, rel=1e-3)
            assert attack_of(bank, hit) == pytest.approx(LEAD_S, abs=1.5 / RATE)
            if len(own_channels) > 1 and len(channels) != len(own_channels):
                balance = np.abs(sound).max(axis=1) / np.abs(sound).max()
                np.testing.assert_allclose(balance, own_channels, atol=0.02)
    for drum_class in ("KD", "SD"):
        assert bank.full_level[drum_class] == pytest.approx(own.full_level[drum_class], rel=0.02)
    assert notes[0].startswith("4 more hits are from more, at the source's level (")


def test_a_class_that_the_source_lacks_keeps_its_balance_with_the_others():
    own, other = bank_of(OWN), bank_of([(t, c, 0.25 * v) for t, c, v in MORE], name="more")
    bank, _ = joined(own, [Origin("more", other)])
    # In the other recording the hat is as loud as the snare of its velocity.
    assert bank.full_level["HH"] / bank.full_level["SD"] == pytest.approx(
        other.full_level["HH"] / other.full_level["SD"], rel=0.05
    )


def test_two_recordings_without_a_common_class_are_matched_by_their_strong_hits():
    own, other = bank_of([(0.5, "KD", 0.8), (1.0, "KD", 0.8)]), bank_of([(0.5, "HH", 0.1)], name="hats")
    bank, _ = joined(own, [Origin("hats", other)])
    (hat,) = bank.sets[frozenset({"HH"})]
    assert level_of(bank, hat) == pytest.approx(level_of(own, own.sets[frozenset({"KD"})][-1]), rel=0.01)


def test_another_kit_is_named_and_used_all_the_same():
    own = bank_of(OWN)
    same, notes = joined(own, [Origin("same", bank_of(MORE))])
    assert len(notes) == 1
    strange = bank_of(MORE, hz_scale=3.0)
    bank, notes = joined(own, [Origin("strange", strange)])
    assert "strange sounds like another kit" in notes[1]
    assert "used all the same" in notes[1]
    assert bank.classes == same.classes


def test_a_source_plays_what_only_the_other_recordings_have(write_wav):
    source, events = recording_of(OWN)
    other, more = recording_of(MORE, 48_000, (0.4, 0.4), name="song")
    path = write_wav("song.wav", other.read(0, other.n_samples), 48_000)
    redrummer = Redrummer(HeardEverything({"source": events, "song": more}))
    rhythm = rhythm_of(0.1, 0.6, drum_class="HH")
    alone = redrummer.redrum(source, rhythm)
    assert any("no hi-hat: its snare drum plays that part" in note for note in alone.notes())
    settings = RenderSettings(kit_from=(str(path),), separate_outputs=True)
    take = redrummer.redrum(source, rhythm, settings)
    assert not any("no hi-hat" in note for note in take.notes())
    assert take.read_outputs(0, RATE)[3].any()


def write_kit(folder, **more):
    shots = {"Kick 1.wav": ("KD", 0.9), "Kick 2.wav": ("KD", 0.3), "snares/soft.flac": ("SD", 0.2)}
    shots |= {"HatOpen.wav": ("HH", 0.5)}
    for name, (drum_class, level) in shots.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        sound = np.concatenate((np.zeros(700, dtype=np.float32), drum(drum_class, 48_000, level)))
        soundfile.write(path, sound, 48_000, subtype="PCM_16")


def test_a_folder_of_one_shots_is_read_by_names(tmp_path):
    write_kit(tmp_path)
    soundfile.write(tmp_path / "Crash.wav", np.zeros(4800), 48_000)
    soundfile.write(tmp_path / "melody.wav", drum("SD"), RATE)
    soundfile.write(tmp_path / "stereo tom.wav", np.stack([drum("TT")] * 2, axis=1), RATE)
    (tmp_path / "loops").mkdir()
    soundfile.write(tmp_path / "loops" / "beat.wav", drum("SD"), RATE)
    found = read_hits(tmp_path)
    assert [path.name for path in found.recordings] == ["beat.wav"]
    assert [(bank.sample_rate, bank.n_channels, bank.classes) for bank in found.banks] == [
        (48_000, 1, {"KD", "SD", "HH"}),
        (RATE, 2, {"TT"}),
    ]
    kicks = found.banks[0].sets[frozenset({"KD"})]
    assert [round(20 * np.log10(hit.level / kicks[-1].level), 1) for hit in kicks] == [-9.5, 0.0]
    assert kicks[0].velocity < kicks[1].velocity == 1.0
    (hat,) = found.banks[0].sets[frozenset({"HH"})]
    assert hat.articulations == {"open"}
    for hits in found.banks[0].sets.values():
        for hit in hits:
            assert attack_of(found.banks[0], hit) == pytest.approx(LEAD_S, abs=1.5 / 48_000)


def test_what_cannot_be_used_is_said_in_a_sentence(tmp_path, write_wav):
    source, events = recording_of(OWN)
    redrummer = Redrummer(HeardEverything({"source": events}))
    silent = write_wav("silent.wav", np.zeros(RATE))
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "kick.wav").write_text("no sound")
    cases = {
        str(silent): "no drum hits are detected in silent$",
        str(tmp_path / "nowhere"): "nowhere does not exist",
        str(tmp_path / "empty"): "empty holds no one-shots that can be used$",
        str(tmp_path / "texts"): r"no one-shots that can be used \(kick.wav: .*not a sound file",
    }
    for path, message in cases.items():
        with pytest.raises(AudioError, match=message) as refused:
            redrummer.redrum(source, rhythm_of(0.5), RenderSettings(kit_from=(path,)))
        assert refused.value.hint
    with pytest.raises(SettingsError, match="drums of the source alone"):
        RenderSettings(engine="latent", kit_from=("a.wav",))


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 192_000])
def test_timbre_and_decay_are_those_of_the_sound_at_any_rate(sample_rate):
    noise = decaying_noise(sample_rate, 1.0, 0.1)[None]
    here = band_levels_db(noise, sample_rate, 0)
    assert distance_db(here, band_levels_db(0.1 * decaying_noise(RATE, 1.0, 0.1, 1)[None], RATE, 0)) < 3
    assert distance_db(here, band_levels_db(drum("KD")[None], RATE, 0)) > 10
    # exp(-t / 0.04 s) falls by 217 dB a second.
    assert decay_db_s(drum("KD", sample_rate)[None], sample_rate, 0) == pytest.approx(217, rel=0.1)
    assert decay_db_s(noise, sample_rate, 0) == pytest.approx(87, rel=0.25)


def mixed_kit(folder):
    """Write a folder whose only hat is stereo, 20 dB softer than its kick, and return its kick and hat."""
    folder.mkdir()
    kick, hat = drum("KD", level=0.9), 0.1 * drum("HH", level=0.9)
    soundfile.write(folder / "kick.wav", kick, RATE, subtype="FLOAT")
    soundfile.write(folder / "snare.wav", drum("SD", level=0.9), RATE, subtype="FLOAT")
    soundfile.write(folder / "hat.wav", np.stack([hat, hat], axis=1), RATE, subtype="FLOAT")
    return kick, hat


def test_a_folder_of_several_formats_keeps_its_balance_and_is_one_origin(tmp_path):
    mixed_kit(tmp_path / "kit")
    own = bank_of([(0.5, "KD", 0.8), (1.0, "SD", 0.8)])
    origins = list(open_origins([str(tmp_path / "kit")], None))
    bank, notes = joined(own, origins)
    (hat,) = bank.sets[frozenset({"HH"})]
    kick = next(hit for hit in bank.sets[frozenset({"KD"})] if hit not in own.hits)
    peaks = [np.abs(bank.sound(hit)).max() for hit in (hat, kick)]
    assert 20 * np.log10(peaks[0] / peaks[1]) == pytest.approx(-20, abs=1)
    assert [note.split(",")[0] for note in notes] == ["3 more hits are from kit"]


def test_a_folder_named_twice_is_taken_once(tmp_path):
    mixed_kit(tmp_path / "kit")
    names = [str(tmp_path / "kit"), str(tmp_path / "kit" / ".." / "kit")]
    assert len(list(open_origins(names, None))) == 1


def test_files_that_cannot_be_used_are_counted_and_the_first_is_explained(tmp_path):
    soundfile.write(tmp_path / "Snare.wav", drum("SD"), RATE)
    soundfile.write(tmp_path / "Crash.wav", np.zeros(4800), RATE)
    _, notes = joined(bank_of(OWN), list(open_origins([str(tmp_path)], None)))
    assert notes[0].startswith("1 more hit is from ")
    assert notes[1] == f"1 file of {tmp_path.name} is left out (Crash.wav: silence)"
    (tmp_path / "Kick.wav").write_text("no sound")
    _, notes = joined(bank_of(OWN), list(open_origins([str(tmp_path)], None)))
    assert notes[1] == f"2 files of {tmp_path.name} are left out (Crash.wav: silence)"


def test_a_class_that_hardly_sounds_in_one_of_two_gets_no_wild_gain():
    # The only class that both have: a ghost note of the source that was taken for a full stroke.
    recording, events = recording_of([(0.5, "KD", 0.8), (1.0, "KD", 0.8), (1.5, "SD", 0.02)])
    own = Bank.of_recording(
        recording, [replace(e, velocity=0.9) if e.drum_class == "SD" else e for e in events]
    )
    other = bank_of([(0.5, "SD", 0.8), (1.0, "HH", 0.8)], name="more")
    assert 20 * np.log10(own.full_level["SD"] / other.full_level["SD"]) < -25
    gains_db, usual_db = level_gains_db(own, other)
    # The loudest hits are equally loud, within the differences of how bright they are.
    assert gains_db["SD"] == usual_db == pytest.approx(-12, abs=1)
