"""Drums that a source lacks: played by the nearest, left out, or borrowed from the shipped kit."""

import csv
import dataclasses

import numpy as np
import pytest
import soundfile

from tests.transform.conftest import HeardEverything
from tests.transform.test_kit_sources import attack_of, level_of, recording_of
from transform.bank import Bank
from transform.borrowing import Likeness, borrowed, spare_kit
from transform.engine import Redrummer
from transform.errors import RhythmError, SettingsError
from transform.events import CLASSES, DrumEvent, Rhythm
from transform.hits import LEAD_S
from transform.kit_sources import class_profile
from transform.midi import read_midi
from transform.presets import shipped_folder
from transform.settings import RenderSettings
from transform.take_files import TakeFiles, write_take
from transform.timbre import BAND_OCTAVES, decay_db_s

RATE = 44_100
OWN = [(0.5, "KD", 0.8), (1.0, "SD", 0.8), (1.5, "KD", 0.4)]
BEAT = Rhythm(
    (DrumEvent(0.0, "KD", 0.9), DrumEvent(0.5, "TT", 0.9, "floor"), DrumEvent(1.0, "CY", 0.7, "ride")),
    2.0,
    None,
    "made",
)


def redrum(settings, rhythm=BEAT, **form):
    source, events = recording_of(OWN, **form)
    return Redrummer(HeardEverything({"source": events})).redrum(source, rhythm, settings)


def outputs(take, at_s, length_s=0.3):
    """Return the level of each class around a time of a take."""
    start = round(at_s * take.sample_rate)
    parts = take.read_outputs(start, start + round(length_s * take.sample_rate))
    return dict(zip(CLASSES, np.sqrt((parts**2).mean(axis=(1, 2))), strict=True))


def test_the_nearest_plays_unless_something_else_is_requested():
    take = redrum(RenderSettings(separate_outputs=True))
    assert "the source has no tom: its snare drum plays that part" in take.notes()
    assert outputs(take, 0.5)["SD"] > 0.01


def test_what_is_left_out_is_silent_said_and_not_in_the_midi(tmp_path):
    take = redrum(RenderSettings(missing="leave-out", separate_outputs=True))
    assert {
        "the source has no tom: that part is left out",
        "the source has no cymbal: that part is left out",
    } <= {*take.notes()}
    assert max(outputs(take, 0.5).values()) == max(outputs(take, 1.0).values()) == 0
    assert outputs(take, 0.0)["KD"] > 0.01
    write_take(take, TakeFiles(take=tmp_path / "a.wav", midi=tmp_path / "a.mid"))
    assert [event.drum_class for event in read_midi(tmp_path / "a.mid").events] == ["KD"]


def test_a_rhythm_of_which_nothing_is_left_is_refused():
    toms = Rhythm((DrumEvent(0.0, "TT", 0.9),), 1.0, None, "toms")
    with pytest.raises(RhythmError, match="none of the drums that toms plays") as refused:
        redrum(RenderSettings(missing="leave-out"), toms)
    assert "--missing" in refused.value.hint


@pytest.mark.parametrize(
    ("sample_rate", "channels"),
    [(44_100, (1.0,)), (96_000, (1.0, 0.8, 0.0, 0.1, 0.5, 0.5)), (8_000, (0.5, 1.0))],
)
def test_borrowed_drums_sound_in_the_sources_form_and_are_said(sample_rate, channels):
    settings = RenderSettings(missing="borrow", separate_outputs=True)
    take = redrum(settings, sample_rate=sample_rate, channels=channels)
    assert (take.sample_rate, take.n_channels) == (sample_rate, len(channels))
    tom, cymbal = outputs(take, 0.5), outputs(take, 1.0)
    assert tom["TT"] > 0.01
    assert cymbal["CY"] > 0.001
    assert tom["SD"] == cymbal["HH"] == 0
    notes = [note for note in take.notes() if "borrowed from a kit of Versilian Studios" in note]
    assert len(notes) == 2
    assert all("CC0-1.0" in note for note in notes)
    start = round(0.5 * sample_rate)
    balance = np.abs(take.read_outputs(start, start + sample_rate // 10)[2]).max(axis=1)
    np.testing.assert_allclose(balance / balance.max(), channels, atol=0.02)


def changed(kit, tilt_db, decay_ratio, gain):
    """Return a kit whose hits are tilted, decay faster and are louder."""
    likeness = Likeness(tilt_db=tilt_db, decay_ratio=decay_ratio)
    sounds = {}
    for hits in kit.sets.values():
        for hit in hits:
            shaped = likeness.applied(kit.sound(hit), kit.sample_rate) * np.float32(gain)
            sounds[dataclasses.replace(hit, level=hit.level * gain)] = shaped
    return Bank(list(sounds), sounds.get, sample_rate=kit.sample_rate, n_channels=1)


def test_a_borrowed_drum_gets_level_tilt_and_decay_of_the_source():
    kit = spare_kit().bank
    lead = round(LEAD_S * RATE)
    other = changed(kit, tilt_db=-2.0, decay_ratio=1.5, gain=0.25)
    likeness = Likeness.of(other, kit)
    # Half of what the shared classes say is taken.
    assert likeness.tilt_db == pytest.approx(-1.0, abs=0.15)
    assert likeness.decay_ratio == pytest.approx(1.5**0.5, rel=0.1)
    own = Bank(
        [hit for hits in other.sets.values() for hit in hits if hit.dominant != "TT"],
        other.sound,
        sample_rate=RATE,
        n_channels=1,
    )
    bank, _ = borrowed(own, ["TT"])
    assert bank.classes == own.classes | {"TT"}
    assert bank.full_level["TT"] == pytest.approx(0.25 * kit.full_level["TT"], rel=0.05)
    difference = class_profile(bank, "TT") - class_profile(kit, "TT")
    loud = class_profile(kit, "TT") > class_profile(kit, "TT").max() - 40
    assert np.polyfit(BAND_OCTAVES[loud], difference[loud], 1)[0] == pytest.approx(likeness.tilt_db, abs=0.2)
    for hit, plain in zip(bank.sets[frozenset({"TT"})], kit.sets[frozenset({"TT"})], strict=True):
        assert level_of(bank, hit) == pytest.approx(hit.level, rel=1e-3)
        assert decay_db_s(bank.sound(hit), RATE, lead) > decay_db_s(kit.sound(plain), RATE, lead)
        assert attack_of(bank, hit) == pytest.approx(attack_of(kit, plain), abs=0.003)


def test_a_kit_that_is_the_source_s_own_is_left_as_it_is():
    kit = spare_kit().bank
    likeness = Likeness.of(kit, kit)
    assert (likeness.tilt_db, likeness.decay_ratio) == (pytest.approx(0.0), pytest.approx(1.0))
    hit = kit.sets[frozenset({"SD"})][-1]
    shaped = likeness.applied(kit.sound(hit), RATE)
    np.testing.assert_allclose(shaped[:, :-500], kit.sound(hit)[:, :-500], atol=1e-4)


def test_the_spare_kit_is_small_free_and_whole():
    folder = shipped_folder() / "spare"
    with (folder / "SOURCES.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["file"] for row in rows} == {path.name for path in folder.iterdir()} - {"SOURCES.csv"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 1_500_000
    assert {row["licence"] for row in rows} == {"CC0-1.0"}
    assert all(row["author"] and row["source"] and row["changes"] for row in rows)
    assert {row["class"] for row in rows} == set(CLASSES)
    for row in rows:
        info = soundfile.info(folder / row["file"])
        assert (info.samplerate, info.channels, info.subtype) == (RATE, 1, "PCM_16")
    assert spare_kit().bank.classes == set(CLASSES)


def test_the_latent_engine_borrows_nothing_and_says_the_cure():
    with pytest.raises(SettingsError, match="borrows no drums") as refused:
        RenderSettings(engine="latent", missing="borrow")
    assert "resequence" in refused.value.hint
    with pytest.raises(SettingsError, match="missing is 'steal'"):
        RenderSettings(missing="steal")
