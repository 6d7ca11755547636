import numpy as np
import pytest

from transform.audio import Recording
from transform.events import DrumEvent
from transform.velocity import with_measured_velocities


def struck(velocities, sample_rate=44_100, hz=60.0):
    """Return decaying tones, one every half second, as loud as drums are at these velocities."""
    time_s = np.arange(round(0.4 * sample_rate)) / sample_rate
    tone = np.sin(2 * np.pi * hz * time_s) * np.exp(-time_s / 0.05)
    sound = np.zeros(round((0.5 * len(velocities) + 0.5) * sample_rate), dtype=np.float32)
    for i, velocity in enumerate(velocities):
        start = round(0.5 * (i + 1) * sample_rate)
        part = sound[start : start + len(tone)]
        part += 0.5 * velocity**1.6 * tone[: len(part)]
    return sound


def events_at(drum_class, said, offset_s=0.0):
    return [DrumEvent(0.5 * (i + 1) + offset_s, drum_class, velocity) for i, velocity in enumerate(said)]


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 192_000])
def test_velocities_follow_levels_below_the_strong_strokes(sample_rate):
    true = np.array([0.9, 0.3, 0.6, 0.9, 0.45, 0.9])
    recording = Recording.from_samples(struck(true, sample_rate), sample_rate)
    for strong in (0.9, 0.45):  # as all are transcribed
        measured = with_measured_velocities(recording, events_at("KD", [strong] * 6))
        expected = strong * (true / 0.9) ** 0.75
        assert [event.velocity for event in measured] == pytest.approx(expected, abs=0.02)
    uneven = with_measured_velocities(recording, events_at("KD", [0.9, 0.8, 0.2, 0.9, 0.9, 0.9]))
    assert [event.velocity for event in uneven] == pytest.approx(0.9 * (true / 0.9) ** 0.75, abs=0.02)


def test_a_class_is_measured_in_its_own_band():
    kicks, hats = np.array([0.9, 0.9, 0.3, 0.3]), np.array([0.2, 0.8, 0.2, 0.8])
    sound = struck(kicks) + 0.2 * struck(hats, hz=9_000.0)
    events = [*events_at("KD", [0.9] * 4), *events_at("HH", [0.8] * 4)]
    measured = with_measured_velocities(Recording.from_samples(sound, 44_100), events)
    expected = [*0.9 * (kicks / 0.9) ** 0.75, *0.8 * (hats / 0.8) ** 0.75]
    assert [event.velocity for event in measured] == pytest.approx(expected, abs=0.03)


def test_what_is_said_of_silence_stays():
    silence = Recording.from_samples(np.zeros(44_100, dtype=np.float32), 44_100)
    events = events_at("SD", [0.7])
    assert with_measured_velocities(silence, events) == events
    assert with_measured_velocities(silence, []) == []
    tiny = Recording.from_samples(np.ones(1, dtype=np.float32), 8_000)
    (alone,) = with_measured_velocities(tiny, [DrumEvent(0.0, "HH", 0.4)])
    assert alone.velocity == pytest.approx(0.4)
