"""What tests of the command line share: an empty folder to work in, and a recording in it."""

import numpy as np
import pytest
import soundfile

from transform.library import demo_recordings

RATE = 44_100


@pytest.fixture(scope="module")
def loop():
    """Two seconds of a shipped loop, shape (2, T)."""
    path = next(recording.path for recording in demo_recordings() if "acoustic" in recording.name)
    samples, sample_rate = soundfile.read(path, frames=2 * RATE, dtype="float32")
    assert sample_rate == RATE
    return samples.T


@pytest.fixture
def write(here):
    """Return a function that writes samples (C, T) to a file in the current folder."""

    def write_samples(name, samples, sample_rate=RATE, subtype="PCM_24"):
        soundfile.write(here / name, np.atleast_2d(samples).T, sample_rate, subtype=subtype)
        return name

    return write_samples


@pytest.fixture
def source(write, loop):
    return write("loop.wav", loop)
