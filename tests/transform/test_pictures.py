import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from transform.audio import AudioFormat, Recording
from transform.errors import OutputError
from transform.events import CLASSES, DrumEvent, Rhythm, TempoMap
from transform.pictures import (
    _COLOURS,
    LIMIT_S,
    _band_levels,
    _draw_lanes,
    opening,
    plot_stems,
    plot_take,
    plot_transcription,
)
from transform.transcriber import Activations

ROOT = Path(__file__).resolve().parents[2]
RATE = 44_100


class MadeTake:
    """What a picture needs of a take, without a model."""

    def __init__(self, samples, rhythm, source_events):
        self._sound = Recording.from_samples(samples, RATE)
        self.format = AudioFormat(sample_rate=RATE, n_channels=self._sound.n_channels, subtype="PCM_16")
        self.n_samples = self._sound.n_samples
        self.duration_s = self._sound.duration_s
        self.rhythm, self.source_events = rhythm, source_events

    def read(self, start, stop):
        return self._sound.read(start, stop)


def made_activations(n_frames):
    three = (np.zeros((5, n_frames), np.float32) for _ in range(3))
    return Activations(*three, np.zeros((1, n_frames), np.float32))


def made_events(onsets_s):
    return [
        DrumEvent(onset_s, CLASSES[i % 5], 0.2 + 0.15 * (i % 5), "open" if CLASSES[i % 5] == "HH" else "")
        for i, onset_s in enumerate(onsets_s)
    ]


def size(path):
    return imread(path).shape


def coloured(path):
    """Return how many pixels of a picture are neither white, black nor grey."""
    pixels = imread(path)[..., :3]
    return int((np.ptp(pixels, axis=-1) > 0.1).sum())


def test_transcription_shows_each_hit_in_its_colour(clicks, tmp_path):
    onsets_s = [0.1 * i for i in range(1, 21)]
    recording = Recording.from_samples(clicks(onsets_s), RATE, "clicks")
    activations = made_activations(251)
    plot_transcription(tmp_path / "none.png", recording, activations, [])
    plot_transcription(tmp_path / "all.png", recording, activations, made_events(onsets_s))
    assert size(tmp_path / "none.png") == size(tmp_path / "all.png")
    assert coloured(tmp_path / "all.png") > coloured(tmp_path / "none.png") + 20 * 20


def test_how_a_drum_is_struck_is_seen_by_its_mark_and_named():
    struck = [
        ("HH", "closed"),
        ("HH", "open"),
        ("HH", "pedal"),
        ("SD", ""),
        ("SD", "sidestick"),
        ("CY", "crash"),
    ]
    struck += [("CY", "ride"), ("TT", "low")]
    events = [DrumEvent(0.1 * i, c, 0.8, how) for i, (c, how) in enumerate(struck)]
    axes = Figure().subplots()
    _draw_lanes(axes, events)
    marks = {}
    for drawn in axes.collections:
        for x, _ in drawn.get_offsets():
            if drawn.get_paths() and len(drawn.get_facecolor()):
                shape = tuple(drawn.get_paths()[0].vertices.ravel().round(3))
                marks[round(10 * x)] = shape, tuple(drawn.get_facecolor()[0])
    assert len(marks) == len(struck)
    assert len(set(marks.values())) == len(struck)
    named = [text.get_text() for text in axes.get_legend().get_texts()]
    assert sorted(named) == ["foot hi-hat", "open hi-hat", "ride", "side stick"]
    plain = Figure().subplots()
    _draw_lanes(plain, [DrumEvent(0.1, "KD", 0.8), DrumEvent(0.2, "HH", 0.8, "closed")])
    assert plain.get_legend() is None


def test_take_shows_source_rhythm_and_result(clicks, tmp_path):
    onsets_s = [0.0, 0.5, 1.0, 1.25, 1.5]
    source = Recording.from_samples(clicks(onsets_s, n_channels=2), RATE, "clicks")
    rhythm = Rhythm(tuple(made_events([0.0, 0.75, 1.9])), 2.0, TempoMap.constant(120), "made")
    take = MadeTake(clicks([0.0, 0.75, 1.9], n_channels=2, length_s=2.0), rhythm, made_events(onsets_s))
    plot_take(tmp_path / "take.png", source, take)
    height, width, _ = size(tmp_path / "take.png")
    assert (height, width) == (1128, 1440)
    assert coloured(tmp_path / "take.png") > 500


def test_rhythm_without_a_tempo_is_drawn_without_beats(clicks, tmp_path):
    source = Recording.from_samples(clicks([0.1]), RATE)
    take = MadeTake(clicks([0.2]), Rhythm(tuple(made_events([0.2])), 0.7), made_events([0.1]))
    plot_take(tmp_path / "take.png", source, take)
    assert coloured(tmp_path / "take.png") > 50


class MadeStems:
    """Stems of which one is the whole recording and the others are silent."""

    def __init__(self, recording, drum_class):
        self._recording, self._index = recording, CLASSES.index(drum_class)

    def read(self, start, stop):
        block = self._recording.read(start, stop)
        stems = np.zeros((5, *block.shape), np.float32)
        stems[self._index] = block
        return stems


@pytest.mark.slow
def test_stems_are_drawn_each_in_its_lane_and_colour(clicks, tmp_path):
    recording = Recording.from_samples(clicks([0.1, 0.5, 0.9], n_channels=2), RATE, "clicks")
    centres = {}
    for drum_class in CLASSES:
        path = tmp_path / f"{drum_class}.png"
        plot_stems(path, recording, MadeStems(recording, drum_class), [])
        pixels = imread(path)[..., :3]
        is_coloured = np.ptp(pixels, axis=-1) > 0.1
        assert is_coloured.sum() > 1000
        # Nothing is drawn in the lanes of the silent stems.
        rows = np.flatnonzero(is_coloured.any(axis=1))
        assert rows[-1] - rows[0] < 0.16 * len(pixels)
        centres[drum_class] = rows.mean()
        wanted = [int(_COLOURS[drum_class][i : i + 2], 16) / 255 for i in (1, 3, 5)]
        assert (np.abs(pixels - wanted).max(axis=-1) < 0.02).any()
    assert sorted(CLASSES, key=centres.__getitem__, reverse=True) == list(CLASSES)  # the kick is the lowest


def test_stems_of_a_long_recording_in_other_rates_and_channels(tmp_path):
    recording = Recording.from_samples(np.zeros((6, 8_000 * 35)), 8_000, "long")
    plot_stems(tmp_path / "a.png", recording, MadeStems(recording, "KD"), made_events([1.0, 34.0]))
    assert size(tmp_path / "a.png") == (1152, 1440, 4)


@pytest.mark.parametrize("n_samples", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (2, 441, 5000))])
def test_shortest_sounds_and_silence_are_drawn(tmp_path, n_samples):
    recording = Recording.from_samples(np.zeros((2, n_samples)), RATE)
    plot_transcription(tmp_path / "a.png", recording, made_activations(1), [])
    plot_take(tmp_path / "b.png", recording, MadeTake(np.zeros((1, n_samples)), Rhythm((), 0.01), []))
    plot_stems(tmp_path / "c.png", recording, MadeStems(recording, "SD"), [])
    assert size(tmp_path / "a.png")
    assert size(tmp_path / "b.png")
    assert size(tmp_path / "c.png")


def test_long_recording_is_shown_to_its_limit_and_says_so(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr("matplotlib.axes.Axes.set_title", lambda _axes, text, **_: titles.append(text))
    recording = Recording.from_samples(np.zeros((1, 8_000 * 50)), 8_000, "long")
    shown = opening(recording)
    assert shown.duration_s == LIMIT_S
    assert shown.sample_rate == 8_000
    plot_transcription(tmp_path / "a.png", recording, made_activations(3001), made_events([1.0, 49.0]))
    assert titles == ["long: 2 hits (the first 30 s of 50 s)"]


def test_short_recording_is_its_own_opening(clicks):
    recording = Recording.from_samples(clicks([0.1]), RATE)
    assert opening(recording) is recording


@pytest.mark.parametrize("name", ["$x^2$", "ドラム", "a\udce9b", "\\frac", "x" * 300])
def test_any_name_can_be_a_title(tmp_path, name):
    recording = Recording.from_samples(np.zeros(100), RATE, name)
    plot_transcription(tmp_path / "a.png", recording, made_activations(1), [])
    assert size(tmp_path / "a.png")


def test_same_content_gives_the_same_bytes(clicks, tmp_path):
    recording = Recording.from_samples(clicks([0.1]), RATE)
    for name in ("a.png", "b.png"):
        plot_transcription(tmp_path / name, recording, made_activations(61), made_events([0.1]))
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_existing_picture_is_replaced_only_when_asked(clicks, tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    recording = Recording.from_samples(clicks([0.1]), RATE)
    with pytest.raises(OutputError, match="exists already"):
        plot_transcription(path, recording, made_activations(61), [])
    assert path.read_bytes() == b"mine"
    plot_transcription(path, recording, made_activations(61), [], overwrite=True)
    assert size(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("frequency_hz", [60, 440, 9000])
def test_spectrogram_peaks_where_the_tone_is(frequency_hz):
    time_s = np.arange(RATE) / RATE
    level = _band_levels(np.sin(2 * np.pi * frequency_hz * time_s).astype(np.float32))
    centres_hz = np.geomspace(40, 16_000, 2 * level.shape[0] + 1)[1::2]
    loudest_hz = centres_hz[level[:, level.shape[1] // 2].argmax()]
    # A bin of the spectrum is 22 Hz wide.
    assert abs(loudest_hz - frequency_hz) < max(22, 0.05 * frequency_hz)


@pytest.mark.slow
def test_pyplot_is_never_loaded():
    code = "import sys, transform.pictures; print('matplotlib.pyplot' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
