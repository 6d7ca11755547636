"""What the tests of the models share."""

import numpy as np
import pytest

from transform.audio import Recording
from transform.bank import Bank
from transform.engine import Redrummer
from transform.events import CLASSES, DrumEvent, Rhythm, TempoMap
from transform.velocity import LEVEL_EXPONENT

HZ = {"KD": 100, "SD": 1000, "TT": 300, "HH": 9000, "CY": 5000}  # of bursts that stand for the classes


def tone_burst(hz, level, length_s=0.2, tau_s=0.03):
    """Return a decaying cosine, shape (T,), at 44.1 kHz."""
    time_s = np.arange(round(length_s * 44_100)) / 44_100
    return (level * np.cos(2 * np.pi * hz * time_s) * np.exp(-time_s / tau_s)).astype(np.float32)


class TrueStems:
    """Stems that are known because the recording was made of them."""

    def __init__(self, stems):
        self.stems = stems
        self.n_read = 0

    def read(self, start, stop, classes=CLASSES):
        rows = [CLASSES.index(drum_class) for drum_class in classes]
        out = np.zeros((len(rows), self.stems.shape[1], stop - start), dtype=np.float32)
        first, last = max(start, 0), min(stop, self.stems.shape[2])
        if first < last:
            out[..., first - start : last - start] = self.stems[rows, :, first:last]
            self.n_read += last - first
        return out


@pytest.fixture
def recorded():
    """Return a function that makes a recording and its stems of strokes (onset_s, class, sound (T,))."""

    def make(strokes, length_s, sample_rate=44_100, n_channels=1, name="source"):
        stems = np.zeros((len(CLASSES), n_channels, round(length_s * sample_rate)), dtype=np.float32)
        for onset_s, drum_class, sound in strokes:
            start = round(onset_s * sample_rate)
            part = sound[: stems.shape[2] - start]
            stems[CLASSES.index(drum_class), :, start : start + len(part)] += part
        stems *= 0.9 ** np.arange(n_channels, dtype=np.float32)[:, None]
        return Recording.from_samples(stems.sum(axis=0), sample_rate, name), TrueStems(stems)

    return make


def decaying_noise(sample_rate, length_s, tau_s, seed=0):
    """Return noise (T,) that falls to a 1/e of its level in `tau_s`."""
    time_s = np.arange(round(length_s * sample_rate)) / sample_rate
    noise = np.random.default_rng(seed).standard_normal(len(time_s))
    return (0.3 * noise * np.exp(-time_s / tau_s)).astype(np.float32)


class HeardEverything:
    """Stands in for the network where a test is about what follows it: it hears what the test made."""

    def __init__(self, events_by_name):
        self.events_by_name = events_by_name

    def activations(self, recording, progress=None):
        return recording.name

    def events(self, activations):
        return self.events_by_name.get(activations, [])


def rhythm_of(*onsets, length_s=2.0, bpm=None, drum_class="SD"):
    events = tuple(DrumEvent(t, drum_class, 1.0) for t in onsets)
    return Rhythm(events, length_s, TempoMap.constant(bpm) if bpm else None, "made")


@pytest.fixture
def click_source(clicks, write_wav):
    """Return a function that writes a file with clicks at 0.5 and 1.25 s and a redrummer that hears them."""

    def make(sample_rate=44_100, n_channels=1, subtype="PCM_24", name="source.wav", length_s=3.0):
        path = write_wav(name, clicks([0.5, 1.25], sample_rate, n_channels, length_s), sample_rate, subtype)
        # A network is some milliseconds off, either way.
        heard = [DrumEvent(0.507, "SD", 0.9), DrumEvent(1.243, "SD", 0.9)]
        return path, Redrummer(HeardEverything({path.stem: heard}))

    return make


@pytest.fixture
def apart(recorded):
    """Return a function that makes a bank of single strokes; strokes are (onset_s, classes, level)."""

    def make(strokes, length_s):
        parts = [(t, c, tone_burst(HZ[c], level)) for t, classes, level in strokes for c in classes]
        events = [
            DrumEvent(t, c, min(1.0, level ** (1 / LEVEL_EXPONENT)))
            for t, classes, level in strokes
            for c in classes
        ]
        recording, stems = recorded(parts, length_s)
        return Bank.of_recording(recording, events, stems)

    return make
