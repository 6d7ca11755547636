from itertools import pairwise

import numpy as np
import pytest

from transform.audio import Recording
from transform.resampling import Resampled


def tone(rate, length_s=10.0):
    return (0.5 * np.sin(2 * np.pi * 500 * np.arange(round(length_s * rate)) / rate + 0.3)).astype(np.float32)


@pytest.mark.parametrize(
    ("rate", "to_rate"), [(48_000, 44_100), (44_100, 96_000), (8_000, 44_100), (44_101, 44_100)]
)
def test_a_sound_keeps_its_time_to_the_sample(rate, to_rate):
    sound = Resampled(Recording.from_samples(tone(rate), rate), to_rate)
    read = sound.read(0, 10 * to_rate)
    assert read.shape == (1, 10 * to_rate)
    inside = slice(to_rate // 10, -to_rate // 10)
    np.testing.assert_allclose(read[0, inside], tone(to_rate)[inside], atol=2e-4)


def test_any_way_of_reading_gives_the_same_samples():
    noise = np.random.default_rng(0).uniform(-1, 1, (2, 48_000 * 9)).astype(np.float32)
    sound = Resampled(Recording.from_samples(noise, 48_000), 44_100)
    whole = sound.read(-500, 9 * 44_100 + 500)
    edges = [-500, 0, 1, 44_100, 176_399, 176_401, 300_000, 9 * 44_100 + 500]
    parts = [sound.read(a, b) for a, b in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert sound.read(70, 70).shape == (2, 0)


def test_the_same_rate_is_read_through():
    samples = np.arange(12, dtype=np.float32).reshape(2, 6)
    sound = Resampled(Recording.from_samples(samples, 44_100), 44_100)
    np.testing.assert_array_equal(sound.read(2, 5), samples[:, 2:5])
