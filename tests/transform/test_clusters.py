"""Loops made of samples: their strokes are found to be one sound, and the sound is found."""

import numpy as np
import pytest

from tests.transform.conftest import decaying_noise
from transform.audio import Recording
from transform.bank import Bank
from transform.clusters import Clusters
from transform.events import DrumEvent

BEAT_S = 0.31


def kick(rate):
    time_s = np.arange(rate // 2) / rate
    return (
        0.8 * np.sin(2 * np.pi * (50 * time_s + 8 * (1 - np.exp(-time_s / 0.03)))) * np.exp(-time_s / 0.08)
    ).astype(np.float32)


def hat(rate):
    noise = decaying_noise(rate, 0.3, 0.03, seed=3)
    return np.diff(noise, prepend=np.float32(0)) * np.float32(0.6)


def snare(rate):
    return decaying_noise(rate, 0.4, 0.06, seed=7)


SOUNDS = {"KD": kick, "SD": snare, "HH": hat}
# Four bars in eighths: hats on all, kicks and snares under them.
PATTERN = {"KD": (0, 3, 6, 8, 11, 14, 16, 22, 24, 27), "SD": (2, 7, 10, 18, 23, 26, 30), "HH": tuple(range(32))}


def loop(rate=44_100, *, n_channels=1, seed=0, differs=False):
    """Return a recording of one-shots that repeat, its events as a transcriber has them, and the one-shots."""
    rng = np.random.default_rng(seed)
    out = np.zeros((n_channels, round(34 * BEAT_S * rate)), dtype=np.float32)
    pan = {c: rng.uniform(0.4, 1, n_channels).astype(np.float32) for c in SOUNDS}
    events = []
    for drum_class, steps in PATTERN.items():
        for step in steps:
            onset, gain = round((0.1 + step * BEAT_S + rng.uniform(0, 0.002)) * rate), rng.uniform(0.3, 1)
            sound = SOUNDS[drum_class](rate)
            if differs:
                sound = decaying_noise(rate, 0.3, 0.05, seed=rng.integers(10**6))
            out[:, onset : onset + len(sound)] += np.float32(gain) * pan[drum_class][:, None] * sound
            events.append(DrumEvent(onset / rate + rng.uniform(-0.003, 0.003), drum_class, gain))
    recording = Recording.from_samples(0.5 * out, rate, "loop")
    return recording, sorted(events, key=lambda event: event.onset_s), pan


def si_sdr_db(sound, truth):
    """Return how near a sound (T,) is to a one-shot, wherever in it that begins."""
    size = 2 ** int(np.ceil(np.log2(len(sound) + len(truth))))
    alike = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(truth, size).conj())
    likeness = np.abs(alike).max() / np.linalg.norm(sound) / np.linalg.norm(truth)
    return 10 * np.log10(likeness**2 / (1 - likeness**2))


@pytest.mark.parametrize("rate", [22_050, 44_100, 96_000])
def test_what_always_sounds_with_hats_is_found_alone(rate):
    recording, events, _ = loop(rate)
    clusters = Clusters.of_recording(recording, events)
    for drum_class in ("KD", "SD"):
        strokes = [clusters.stroke_of(event) for event in events if event.drum_class == drum_class]
        found = [stroke for stroke in strokes if stroke is not None]
        assert len(found) >= 0.8 * len(strokes)
        assert len({stroke.cluster for stroke in found}) == 1
        sound = clusters.sound(found[0], found[0].start, clusters.end(found[0]))[0]
        assert si_sdr_db(sound, SOUNDS[drum_class](rate)) > 15


def test_a_sound_and_all_others_add_up_to_the_recording():
    recording, events, _ = loop()
    clusters = Clusters.of_recording(recording, events)
    stroke = next(clusters.stroke_of(e) for e in events if e.drum_class == "SD" and clusters.stroke_of(e))
    start, stop = stroke.start, stroke.start + 10_000
    whole = clusters.sound(stroke, start, stop) + clusters.others(stroke, start, stop)
    recorded = recording.read(start, stop)
    assert np.square(whole - recorded).sum() < 0.02 * np.square(recorded).sum()


def test_channels_keep_their_balance():
    recording, events, pan = loop(n_channels=3)
    clusters = Clusters.of_recording(recording, events)
    stroke = next(clusters.stroke_of(e) for e in events if e.drum_class == "SD" and clusters.stroke_of(e))
    levels = np.linalg.norm(clusters.sound(stroke, stroke.attack, stroke.attack + 3_000), axis=1)
    np.testing.assert_allclose(levels / levels[0], pan["SD"] / pan["SD"][0], rtol=0.05)


def test_a_channel_of_opposite_polarity_is_no_obstacle():
    recording, events, _ = loop(n_channels=1)
    sound = recording.read(0, recording.n_samples)
    inverted = Recording.from_samples(np.concatenate((sound, -sound)), 44_100)
    clusters = Clusters.of_recording(inverted, events)
    stroke = next(clusters.stroke_of(e) for e in events if e.drum_class == "SD" and clusters.stroke_of(e))
    left, right = clusters.sound(stroke, stroke.start, clusters.end(stroke))
    np.testing.assert_allclose(left, -right, atol=1e-5)


def test_drums_that_are_struck_again_do_not_repeat():
    recording, events, _ = loop(differs=True)
    clusters = Clusters.of_recording(recording, events)
    assert not any(clusters.stroke_of(event) for event in events)


@pytest.mark.parametrize("n_strokes", [0, 1, 2])
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_too_few_strokes_and_silence_repeat_nothing(n_strokes, level):
    sound = level * np.tile(decaying_noise(44_100, 0.5, 0.05), 4)
    events = [DrumEvent(0.5 * i, "SD", 0.8) for i in range(n_strokes)]
    clusters = Clusters.of_recording(Recording.from_samples(sound, 44_100), events)
    assert not any(clusters.stroke_of(event) for event in events)


def test_silence_with_strokes_repeats_nothing():
    events = [DrumEvent(0.2 * i, c, 0.8) for i in range(9) for c in ("KD", "HH")]
    clusters = Clusters.of_recording(Recording.from_samples(np.zeros(88_200), 44_100), events)
    assert not any(clusters.stroke_of(event) for event in events)


def test_a_long_recording_costs_no_more_than_a_section(monkeypatch):
    recording, events, _ = loop()
    sound = np.tile(recording.read(0, recording.n_samples), 12)
    length_s = recording.duration_s
    many = [DrumEvent(e.onset_s + i * length_s, e.drum_class, e.velocity) for i in range(12) for e in events]
    read = []
    long = Recording.from_samples(sound, 44_100)
    monkeypatch.setattr(long, "read", lambda start, stop: read.append(stop - start) or sound[:, start:stop])
    clusters = Clusters.of_recording(long, many)
    assert sum(read) <= 31 * 44_100
    assert any(clusters.stroke_of(event) for event in many)


def test_a_bank_has_the_samples_that_a_loop_was_made_of(recorded):
    rate = 44_100
    recording, events, _ = loop()
    stems = type("Stems", (), {})()
    sound = recording.read(0, recording.n_samples)

    def read(start, stop, classes):
        whole = np.pad(sound, ((0, 0), (rate, rate)))[:, start + rate : stop + rate]
        return np.stack([whole / 3 * (c in SOUNDS) for c in classes])

    stems.read = read  # a separator that separates nothing
    bank = Bank.of_recording(recording, events, stems)
    for drum_class in ("KD", "SD"):
        found = [
            si_sdr_db(bank.sound(hit)[0], SOUNDS[drum_class](rate))
            for hit in bank.sets[frozenset({drum_class})]
        ]
        assert np.median(found) > 15
