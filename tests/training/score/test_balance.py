"""Levels, balance and texture of a result against its source, on made sounds with known answers."""

import numpy as np
import pytest
import scipy.signal

from training.score.balance import frame_shift, stroke_shift
from training.score.texture import hiss_db, periodicity, pulses_db, speckle_db
from transform.events import DrumEvent

RATE = 44_100
HZ = {"KD": 60, "SD": 900, "HH": 10_000}


def playing(gains, n=6, offset_s=0.2):
    """Return a recording of bursts of each class in turn, and its events."""
    audio, events = np.zeros(6 * RATE), []
    for i in range(n * len(gains)):
        drum_class = list(gains)[i % len(gains)]
        onset_s = offset_s + 0.3 * i
        time_s = np.arange(round(0.15 * RATE)) / RATE
        burst = gains[drum_class] * np.sin(2 * np.pi * HZ[drum_class] * time_s) * np.exp(-time_s / 0.03)
        start = round(onset_s * RATE)
        audio[start : start + len(burst)] += burst
        events.append(DrumEvent(onset_s, drum_class, 0.8))
    return audio, events


def test_strokes_that_are_louder_and_out_of_balance():
    source, strokes = playing({"KD": 0.4, "SD": 0.4, "HH": 0.1})
    result, played = playing({"KD": 0.8, "SD": 0.4, "HH": 0.1}, offset_s=0.35)
    shift = stroke_shift(result, played, source, strokes)
    assert shift.level_db == pytest.approx(2.0, abs=0.2)  # 6 dB of three classes
    assert shift.balance_db == pytest.approx((4 + 2 + 2) / 3, abs=0.2)
    same = stroke_shift(source, strokes, source, strokes)
    assert (same.level_db, same.balance_db) == (0, 0)


def test_a_class_of_three_strokes_says_nothing():
    source, strokes = playing({"KD": 0.4, "HH": 0.1}, n=3)
    assert stroke_shift(source, strokes, source, strokes) is None


def test_frames_show_a_gain_and_a_filter():
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE)
    louder = frame_shift(2 * noise, noise)
    assert louder.level_db == pytest.approx(6.02, abs=0.01)
    assert louder.balance_db == pytest.approx(0, abs=0.01)
    spectrum = np.fft.rfft(noise)
    spectrum[np.fft.rfftfreq(len(noise), 1 / RATE) > 8000] *= 10 ** (-8 / 20)
    duller = frame_shift(np.fft.irfft(spectrum), noise)
    assert duller.balance_db == pytest.approx(3.0, abs=0.1)  # -8 dB in one of four bands
    assert frame_shift(np.zeros(RATE), noise) is None


def test_a_buzz_is_not_noise():
    noise = np.random.default_rng(0).normal(0, 0.1, 3 * RATE)
    buzz = np.zeros(3 * RATE)
    buzz[::128] = 1
    assert periodicity(noise) == pytest.approx(0.12, abs=0.03)
    assert periodicity(buzz) > 0.9
    assert speckle_db(noise) == pytest.approx(5.5, abs=0.2)
    assert periodicity(np.zeros(RATE)) is speckle_db(np.zeros(RATE)) is hiss_db(np.zeros(RATE)) is None


def test_what_repeats_from_latent_frame_to_latent_frame_stands_out():
    chance = np.random.default_rng(0)
    noise = chance.normal(0, 0.1, 3 * RATE)
    repeated = np.tile(chance.normal(0, 0.1, 512), 3 * RATE // 512)
    assert pulses_db(noise) == pytest.approx(0, abs=0.5)
    assert pulses_db(repeated) > 20
    low_pass = scipy.signal.butter(4, 400, fs=RATE, output="sos")
    assert (
        pulses_db(noise[: len(repeated)] + 30 * scipy.signal.sosfilt(low_pass, repeated)) > 10
    )  # in the lows alone
    other = np.tile(chance.normal(0, 0.1, 700), 3 * RATE // 700)  # repeats, but not with the frames
    assert abs(pulses_db(other)) < 6
    assert pulses_db(np.zeros(RATE)) is None


def test_hiss_is_what_sounds_in_gaps():
    rng = np.random.default_rng(0)
    bursts = rng.normal(0, 0.1, 4 * RATE) * (np.arange(4 * RATE) % RATE < RATE // 2)
    hissing = bursts + rng.normal(0, 0.001, 4 * RATE)
    assert hiss_db(bursts) < -50
    assert hiss_db(hissing) == pytest.approx(-40, abs=1)
