"""Gains of single drums in a sound that plays the same strokes, but in which no drum is known apart."""

import numpy as np
import pytest

from transform.audio import Recording
from transform.gain_changes import GainChange

RATE = 44_100


def low(hz=80.0):
    time_s = np.arange(RATE) / RATE
    return (np.sin(2 * np.pi * hz * time_s) * np.exp(-8 * time_s)).astype(np.float32)


def hiss(seed):
    noise = np.fft.rfft(np.random.default_rng(seed).standard_normal(RATE))
    noise[:5000] = 0  # from 5 kHz on
    return (0.2 * np.fft.irfft(noise, RATE) * np.exp(-10 * np.arange(RATE) / RATE)).astype(np.float32)


def strokes(low_gain, hiss_gain, seed=0):
    """Return a second of a low drum and a hat that are struck together, then the hat alone."""
    sound = np.zeros((1, 2 * RATE), dtype=np.float32)
    sound[0, :RATE] = low_gain * low() + hiss_gain * hiss(seed)
    sound[0, RATE:] = hiss_gain * hiss(seed + 1)
    return sound


def levels_db(sound):
    """Return the levels below 1 kHz and above 4 kHz of both seconds, shape (2, 2)."""
    spectra = np.abs(np.fft.rfft(sound[0].reshape(2, RATE)[:, : RATE // 4])) ** 2
    hz = np.fft.rfftfreq(RATE // 4, 1 / RATE)
    return 10 * np.log10(
        np.stack([spectra[:, hz < 1000].sum(axis=1), spectra[:, hz > 4000].sum(axis=1)]) + 1e-12
    )


def change_of(low_gain, hiss_gain):
    """Return the change of hits that are replayed: of hats they have other strokes than the sound."""
    even, uneven = (
        Recording.from_samples(strokes(*g, seed=5), RATE, "hits") for g in ((1, 1), (low_gain, hiss_gain))
    )
    return GainChange(even, uneven)


@pytest.mark.parametrize("gains", [(0.25, 1.0), (1.0, 0.25), (2.0, 0.1)])
def test_each_band_gets_the_gain_of_what_sounds_there(gains):
    sound = strokes(1.0, 1.0)
    made = change_of(*gains).applied(sound, 0, 1.0)
    changed_db = levels_db(made) - levels_db(sound)
    low_db, high_db = 20 * np.log10(gains)
    assert changed_db[0, 0] == pytest.approx(low_db, abs=0.5)
    np.testing.assert_allclose(changed_db[1], high_db, atol=1.0)


def test_a_gain_that_follows_is_left_out_and_any_region_is_the_same():
    sound, change = strokes(1.0, 1.0), change_of(0.25, 1.0)
    whole = change.applied(sound, 0, 1.0)
    np.testing.assert_allclose(2 * change.applied(sound, 0, 2.0), whole, atol=1e-3)
    part = change.applied(sound[:, 5120:50_000], 5120, 1.0)
    np.testing.assert_allclose(part[:, 1024:-1024], whole[:, 5120 + 1024 : 50_000 - 1024], atol=1e-5)
    same = change_of(1.0, 1.0).applied(sound, 0, 1.0)
    np.testing.assert_allclose(same, sound, atol=1e-5)
