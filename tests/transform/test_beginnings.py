import numpy as np
import pytest

from transform.audio import Recording
from transform.beginnings import at_beginning
from transform.events import DrumEvent

RATE = 44_100
THRESHOLDS = (0.35, 0.3, 0.55, 0.4, 0.3)
LATER = [DrumEvent(onset_s, "KD", 0.8) for onset_s in (0.5, 1.0)]


def kicks(first_level):
    """Return a loop whose first samples hold a kick at a level, and whole kicks later."""
    time_s = np.arange(round(0.3 * RATE)) / RATE
    kick = np.cos(2 * np.pi * 70 * time_s) * np.exp(-time_s / 0.05)
    samples = np.zeros(2 * RATE, dtype=np.float32)
    for onset_s, level in ((0.0, first_level), (0.5, 0.8), (1.0, 0.8)):
        samples[round(onset_s * RATE) :][: len(kick)] += level * kick
    return Recording.from_samples(samples, RATE)


def network(first, *, at=1):
    """Return the probability of onsets: of one kick of the first frames, and of the later ones."""
    probability = np.full((5, 201), 0.001, dtype=np.float32)
    probability[0, [at, 50, 100]] = first, 0.9, 0.9
    return probability


@pytest.mark.parametrize(
    ("level", "probability", "is_struck"), [(0.8, 0.28, True), (0.8, 0.02, False), (0.1, 0.5, False)]
)
def test_a_first_stroke_is_as_loud_as_the_others(level, probability, is_struck):
    found = at_beginning(kicks(level), network(probability), LATER, THRESHOLDS)
    assert (found[0, :6].max() >= THRESHOLDS[0]) == is_struck
    assert found[0, 1] == found[0, :6].max()


def test_the_rest_stays():
    given = network(0.5)
    found = at_beginning(kicks(0.1), given, LATER, THRESHOLDS)
    assert np.array_equal(found[:, 6:], given[:, 6:])
    following = network(0.3, at=7)  # a stroke shortly after the beginning
    assert np.array_equal(at_beginning(kicks(0.0), following, LATER, THRESHOLDS)[0], following[0])


def test_without_others_the_network_is_sure_or_there_is_none():
    loop = kicks(0.8)
    assert at_beginning(loop, network(0.7), [], THRESHOLDS)[0, 1] > THRESHOLDS[0]
    assert at_beginning(loop, network(0.38), [], THRESHOLDS)[0, 1] < THRESHOLDS[0]


def test_what_rises_from_silence_is_as_the_network_has_it():
    loop = kicks(0.1).read(0, 2 * RATE)[0]
    late = Recording.from_samples(np.concatenate((np.zeros(round(0.02 * RATE), np.float32), loop)), RATE)
    given = network(0.5, at=3)
    assert np.array_equal(at_beginning(late, given, LATER, THRESHOLDS), given)
    assert at_beginning(kicks(0.1), given, LATER, THRESHOLDS)[0, 3] < THRESHOLDS[0]


def test_a_cymbal_is_not_made_of_what_is_loud_in_its_band():
    given = network(0.001)
    given[4, 1] = 0.28  # just below its threshold
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 2 * RATE).astype(np.float32)
    crashes = [DrumEvent(onset_s, "CY", 0.8) for onset_s in (0.5, 1.0)]
    found = at_beginning(Recording.from_samples(noise, RATE), given, crashes, THRESHOLDS)
    assert np.array_equal(found[4], given[4])


def test_recordings_of_a_frame():
    tiny = Recording.from_samples(np.ones(1, dtype=np.float32), 8_000)
    assert at_beginning(tiny, np.full((5, 1), 0.5, dtype=np.float32), [], THRESHOLDS).shape == (5, 1)
