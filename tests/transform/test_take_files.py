"""Separate outputs: the files of each drum add up to the take, and what plays is there as MIDI."""

import numpy as np
import pytest
import soundfile

from tests.transform.conftest import HeardEverything, decaying_noise
from transform.engine import Redrummer
from transform.errors import CheckpointError, OutputError, SettingsError
from transform.events import CLASSES, DrumEvent, Rhythm, TempoMap
from transform.midi import read_midi
from transform.settings import RenderSettings
from transform.take_files import TakeFiles, stem_paths, write_take

RATE = 44_100
STROKES = [(0.5, "KD", 0.0), (0.9, "SD", 0.0), (1.3, "HH", 0.0), (1.7, "KD", 0.0), (1.7, "HH", 0.0)]


class TrueSeparator:
    """Opens the stems that a test made its recording of."""

    def __init__(self, stems):
        self.stems = stems

    def open(self, recording, activations):
        return self.stems


@pytest.fixture
def made(recorded):
    """Return a function that makes a source of strokes and a redrummer that knows its stems."""

    def make(strokes=STROKES, n_channels=1, level=1.0, *, has_separator=True, subtype="PCM_24"):
        sounds = {c: level * decaying_noise(RATE, 0.3, 0.03, seed) for seed, c in enumerate(CLASSES)}
        source, stems = recorded([(t, c, sounds[c]) for t, c, *_ in strokes], 2.5, RATE, n_channels)
        source.format = type(source.format)(sample_rate=RATE, n_channels=n_channels, subtype=subtype)
        events = [DrumEvent(t, c, 0.8) for t, c, *_ in strokes]
        return source, Redrummer(
            HeardEverything({"source": events}), TrueSeparator(stems) if has_separator else None
        )

    return make


def rhythm(*strokes, length_s=2.0, bpm=120.0):
    events = tuple(sorted((DrumEvent(*stroke) for stroke in strokes), key=lambda event: event.onset_s))
    return Rhythm(events, length_s, TempoMap.constant(bpm), "made")


BEAT = rhythm((0.0, "KD", 0.9), (0.0, "HH", 0.7), (0.5, "SD", 0.9), (1.0, "HH", 0.4, "open"), (1.95, "KD", 0.9))


def written(take, folder, **more):
    """Write a take with stems; return its samples, its stems and the notes, files as stored, (C, T) each."""
    files = TakeFiles(take=folder / "take.wav", stems=stem_paths(folder / "stems", "take"))
    notes = write_take(take, files, **more)
    sounds = [soundfile.read(path, dtype="float32", always_2d=True)[0].T for path in files.all()]
    return sounds[0], dict(zip(CLASSES, sounds[1:], strict=True)), notes


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "FLOAT"])
@pytest.mark.parametrize(
    ("options", "n_channels"),
    [
        ({}, 6),
        ({"tail": "wrap"}, 1),
        ({"tail": "ring", "gain_db": {"HH": -7.0}}, 2),
        ({"mix": 0.6, "length": "source"}, 2),
        ({"classes": ("KD", "SD"), "gain_db": {"HH": 3.0}}, 1),
        ({"gain_db": {"KD": 9.0, "HH": 9.0}}, 1),  # the whole is turned down
    ],
)
def test_the_stems_of_a_take_add_up_to_it_bit_by_bit(made, tmp_path, subtype, options, n_channels):
    source, redrummer = made(n_channels=n_channels, subtype=subtype)
    take = redrummer.redrum(source, BEAT, RenderSettings(**options, separate_outputs=True))
    whole, stems, _ = written(take, tmp_path)
    total = np.zeros_like(whole)
    for drum_class in CLASSES:
        total += stems[drum_class]
    assert np.abs(whole).max() > 0.1
    depths = {soundfile.info(path).subtype for path in (tmp_path / "stems").iterdir()}
    if depths != {subtype}:  # 8 bits end at 0.992: a drum alone may be beyond it where the take was turned down
        assert (subtype, depths, take.gain_db() < 0) == ("PCM_U8", {"FLOAT"}, True)
        np.testing.assert_allclose(total, whole, atol=2**-7)
    else:
        np.testing.assert_array_equal(total, whole)


def test_each_drum_is_in_its_own_file_alone(made, tmp_path):
    source, redrummer = made()
    take = redrummer.redrum(source, BEAT, RenderSettings(separate_outputs=True))
    _, stems, _ = written(take, tmp_path)
    sounding = {
        c: {t for t in (0.0, 0.5, 1.0) if np.abs(s[0, round(t * RATE) :][:2000]).max() > 0.01}
        for c, s in stems.items()
    }
    # Kick and hat fall together in the source, too, and still go to two files.
    assert sounding == {"KD": {0.0}, "SD": {0.5}, "TT": set(), "HH": {0.0, 1.0}, "CY": set()}
    assert not stems["TT"].any()
    assert not stems["CY"].any()


def test_retained_stems_and_the_original_go_to_their_class(made, tmp_path):
    source, redrummer = made(level=0.5)
    true = redrummer.separator.stems.stems
    settings = RenderSettings(classes=("KD",), length="source", separate_outputs=True)
    _, stems, _ = written(redrummer.redrum(source, BEAT, settings), tmp_path)
    np.testing.assert_allclose(stems["SD"], true[1], atol=2e-6)
    settings = RenderSettings(mix=0.0, length="source", separate_outputs=True)
    folder = tmp_path / "dry"
    _, stems, _ = written(redrummer.redrum(source, BEAT, settings), folder)
    np.testing.assert_allclose(np.stack(list(stems.values())), true, atol=2e-6)


def test_a_drum_that_never_sounds_alone_is_said_to_be_in_anothers_file(made, tmp_path):
    source, redrummer = made([(0.5, "KD"), (0.5, "HH"), (1.3, "SD")], has_separator=False)
    take = redrummer.redrum(source, BEAT, RenderSettings(separate_outputs=True))
    assert any("the hi-hat sounds in no hit alone" in note for note in take.notes())
    whole, stems, _ = written(take, tmp_path)
    np.testing.assert_array_equal(sum(stems.values()), whole)
    assert not stems["HH"].any()


def test_a_stem_beyond_full_scale_makes_all_of_them_float(made, tmp_path):
    source, redrummer = made(level=0.5)
    stems = redrummer.separator.stems.stems
    stems[2, :, 60_000:70_000] += 1.5  # of opposite phase: the sum is the source still
    stems[4, :, 60_000:70_000] -= 1.5
    settings = RenderSettings(mix=0.0, length="source", separate_outputs=True)
    take = redrummer.redrum(source, BEAT, settings)
    whole, parts, (note,) = written(take, tmp_path)
    assert "dB over full scale: the stems are 32-bit float" in note
    assert soundfile.info(tmp_path / "take.wav").subtype == "PCM_24"
    assert soundfile.info(tmp_path / "stems" / "take_TT.wav").subtype == "FLOAT"
    assert np.abs(parts["TT"]).max() > 1
    np.testing.assert_allclose(sum(parts.values()), whole, atol=2**-23)


@pytest.mark.parametrize("taken", ["take.wav", "stems/take_HH.wav", "take.mid"])
def test_nothing_is_replaced_and_all_is_written_or_nothing(made, tmp_path, taken):
    source, redrummer = made()
    take = redrummer.redrum(source, BEAT, RenderSettings(separate_outputs=True))
    (tmp_path / "stems").mkdir()
    (tmp_path / taken).write_text("mine")
    files = TakeFiles(
        take=tmp_path / "take.wav", stems=stem_paths(tmp_path / "stems", "take"), midi=tmp_path / "take.mid"
    )
    with pytest.raises(OutputError, match="exists already"):
        write_take(take, files)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / taken]
    assert (tmp_path / taken).read_text() == "mine"
    write_take(take, files, overwrite=True)
    assert all(path.stat().st_size > 40 for path in files.all())


def test_midi_has_what_plays_with_articulations_and_tempo(made, tmp_path):
    source, redrummer = made()
    files = TakeFiles(take=tmp_path / "take.flac", midi=tmp_path / "take.mid")
    write_take(redrummer.redrum(source, BEAT, RenderSettings(length=4.0)), files)
    found = read_midi(files.midi)
    assert (found.bpm, found.length_s) == (120.0, 4.0)
    expected = [
        (t + turn, c, v, a)
        for turn in (0.0, 2.0)
        for t, c, v, a in (
            (0.0, "KD", 0.9, ""),
            (0.0, "HH", 0.7, "closed"),
            (0.5, "SD", 0.9, ""),
            (1.0, "HH", 0.4, "open"),
            (1.95, "KD", 0.9, ""),
        )
    ]
    played = [(e.onset_s, e.drum_class, e.velocity, e.articulation) for e in found.events]
    for one, other in zip(sorted(played), sorted(expected), strict=True):
        assert one[0] == pytest.approx(other[0], abs=1e-3)
        assert one[2] == pytest.approx(other[2], abs=0.005)
        assert (one[1], one[3]) == (other[1], other[3])


def test_midi_has_the_strokes_that_the_source_retains(made, tmp_path):
    source, redrummer = made()
    settings = RenderSettings(classes=("KD",), length="source")
    files = TakeFiles(take=tmp_path / "take.wav", midi=tmp_path / "take.mid")
    write_take(redrummer.redrum(source, rhythm((0.25, "KD", 0.9), length_s=2.5), settings), files)
    found = [(round(e.onset_s, 2), e.drum_class) for e in read_midi(files.midi).events]
    assert found == [(0.25, "KD"), (0.9, "SD"), (1.3, "HH"), (1.7, "HH")]


def test_engines_and_mixes_without_separate_outputs_say_the_cure(made):
    for more in ({}, {"attack": "none"}):
        with pytest.raises(SettingsError, match="no separate outputs") as refused:
            RenderSettings(engine="latent", separate_outputs=True, **more)
        assert "--engine resequence" in refused.value.hint
    source, redrummer = made(has_separator=False)
    with pytest.raises(CheckpointError, match="no separator") as refused:
        redrummer.redrum(source, BEAT, RenderSettings(mix=0.5, separate_outputs=True))
    assert "--mix" in refused.value.hint
