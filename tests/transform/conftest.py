"""What the tests of the models share."""

import numpy as np
import pytest

from transform.audio import Recording
from transform.events import CLASSES


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
