"""Real recordings as items: each plays the rhythms of the next two of the circle."""

import numpy as np
import pytest
import soundfile

from training.bench.real import RealItems, together
from training.bench.systems import OWN_LEVELS, play
from training.score.recordings import AnnotationError
from transform.engine import Redrummer
from transform.errors import AudioError
from transform.events import DrumEvent

RATE = 44_100
ROWS = {"a": "0.5,KD,KD\n1.0,SD,SD\n", "b": "0.25,HH,OHH\n0.75,OT,SST\n", "c": "0.5,CY,RDC\n17.0,KD,KD\n"}


@pytest.fixture
def folder(tmp_path):
    for i, (name, rows) in enumerate(ROWS.items()):
        rng = np.random.default_rng(i)
        sound = np.zeros(18 * RATE if name == "c" else 2 * RATE, dtype=np.float32)
        for row in rows.splitlines():
            start = round(float(row.split(",")[0]) * RATE)
            length = min(4000, len(sound) - start)
            sound[start : start + length] = rng.normal(0, 0.2, length) * np.exp(-np.arange(length) / 1000)
        soundfile.write(tmp_path / f"{name}.wav", sound, RATE)
        (tmp_path / f"{name}.csv").write_text("onset_s,class,articulation\n" + rows)
    return tmp_path


def test_each_plays_the_next_two_of_the_circle(folder):
    items = RealItems(folder)
    pairs = [(item.kit, item.groove) for item in map(items.item, range(len(items)))]
    assert pairs == [("a", "b"), ("a", "c"), ("b", "c"), ("b", "a"), ("c", "a"), ("c", "b")]


def test_what_an_item_holds(folder):
    item = RealItems(folder).item(1)  # a plays c
    assert item.material == "recordings"
    assert item.length_s == 15.0
    assert [(e.drum_class, e.articulation) for e in item.rhythm] == [("CY", "ride")]  # the kick comes later
    assert [e.drum_class for e in item.source_events] == ["KD", "SD"]
    other = RealItems(folder).item(0)
    assert [(e.drum_class, e.articulation) for e in other.rhythm] == [("HH", "open"), ("SD", "sidestick")]


def test_strokes_meant_together_are_written_together():
    events = [
        DrumEvent(1.0, "HH", 0.8),
        DrumEvent(1.01, "KD", 0.8),
        DrumEvent(1.025, "SD", 0.8),
        DrumEvent(1.2, "SD", 0.8),
        DrumEvent(1.22, "SD", 0.8),
        DrumEvent(2.0, "CY", 0.8),
        DrumEvent(2.02, "HH", 0.8),
    ]
    assert [(e.onset_s, e.drum_class) for e in together(events)] == [
        (1.01, "HH"),
        (1.01, "KD"),
        (1.01, "SD"),
        (1.2, "SD"),  # two of one class are a flam
        (1.22, "SD"),
        (2.0, "CY"),
        (2.0, "HH"),
    ]


def test_every_drum_at_its_own_level_is_the_recordings_own_strokes(folder):
    item = RealItems(folder).item(3)  # b plays a: a kick and a snare
    audio, _, failure = play(OWN_LEVELS, item, Redrummer(None), None)
    assert not failure
    at = round(item.rhythm[1].onset_s * RATE)
    source_at = round(0.75 * RATE)  # the side stick plays the snare's part
    stroke = item.source[source_at + 50 : source_at + 3000]
    differences = [np.abs(audio[at + 50 + k : at + 3000 + k] - stroke).max() for k in range(-10, 11)]
    assert min(differences) < 1e-3


def test_a_folder_of_two_recordings_or_wrong_annotations_is_one_sentence(folder):
    (folder / "b.csv").write_text("onset_s,class\n0.5,XX\n")
    with pytest.raises(AnnotationError, match="there is no class 'XX'"):
        RealItems(folder).item(0)
    (folder / "c.wav").unlink()
    with pytest.raises(AudioError, match="holds 2 recordings"):
        RealItems(folder)


def test_annotations_without_a_stroke_are_refused_before_anything_is_measured(folder):
    (folder / "b.csv").write_text("onset_s,class,articulation\n")
    with pytest.raises(AnnotationError, match=r"b\.csv holds no strokes"):
        RealItems(folder)
