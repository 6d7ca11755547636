import numpy as np
import pytest

from transform.audio import Recording
from transform.events import DrumEvent
from transform.flams import with_flams
from transform.listening import Listening, listen
from transform.rhythm_transformer import activations_of_events
from transform.toms import with_tom_heights

RATE = 44_100
LEVELS = {0.2: 0.8, 0.7: 0.1, 1.2: 0.8}  # of kicks, by onset


class EqualTranscriber:
    """Stands in for the network and gives every stroke one velocity, 3 ms late, one after the end."""

    def activations(self, recording, progress=None):
        if progress is not None:
            progress("transcribe", 1.0)
        return detected_activations(self.events(None), recording)

    def events(self, activations):
        return [DrumEvent(onset_s + 0.003, "KD", 0.5) for onset_s in (*LEVELS, 2.0)]


class CountingSeparator:
    """Stands in for a separator and counts what it is asked for."""

    n_opened = 0

    def open(self, recording, activations):
        self.n_opened += 1
        return recording, activations


def detected_activations(events, recording):
    n, n_frames = len(events), recording.n_samples // 441 + 1
    return activations_of_events(events, n_frames, heights=[0.9] * n, widths=[1.5] * n)


@pytest.fixture
def kicks():
    samples = np.zeros(2 * RATE, dtype=np.float32)
    time_s = np.arange(round(0.3 * RATE)) / RATE
    kick = np.cos(2 * np.pi * 70 * time_s) * np.exp(-time_s / 0.05)
    for onset_s, level in LEVELS.items():
        start = round(onset_s * RATE)
        samples[start : start + len(kick)] += level * kick
    return Recording.from_samples(samples, RATE, "kicks")


def test_velocities_are_measured_and_attacks_found(kicks):
    detected = listen(kicks, EqualTranscriber())
    loud, soft, again, _ = (event.velocity for event in detected.events)
    assert loud == pytest.approx(again, abs=0.01)
    assert soft < 0.7 * loud
    assert [event.onset_s for event in detected.events[:3]] == pytest.approx([t + 0.003 for t in LEVELS])

    moved = detected.at_attacks()
    assert [event.onset_s for event in moved.events[:3]] == pytest.approx(list(LEVELS), abs=1 / RATE)
    assert [event.velocity for event in moved.events] == [event.velocity for event in detected.events]


def test_a_flam_is_heard_as_one_event_and_known_by_both_strokes():
    rng = np.random.default_rng(0)
    samples = np.zeros(RATE, dtype=np.float32)
    for onset_s, level in ((0.5, 0.1), (0.53, 0.3)):
        start = round(onset_s * RATE)
        time_s = np.arange(len(samples) - start) / RATE
        samples[start:] += (level * rng.standard_normal(len(time_s)) * np.exp(-time_s / 0.08)).astype(
            np.float32
        )

    class Snare(EqualTranscriber):
        def events(self, activations):
            return [DrumEvent(0.532, "SD", 0.8)]

    detected = listen(Recording.from_samples(samples, RATE, "flam"), Snare()).at_attacks()
    (flam,) = detected.events
    assert (flam.onset_s, flam.flam_ms) == (pytest.approx(0.5, abs=1e-3), pytest.approx(30, abs=1))
    assert (flam.velocity, len(detected.rhythm().events)) == (pytest.approx(0.8), 1)
    velocity = detected.activations_of(0, 100).velocity[1]
    assert velocity[53] == pytest.approx(flam.velocity)
    assert velocity[50] == pytest.approx(flam.velocity / 2)
    np.testing.assert_array_equal(detected.activations_of(52, 60).velocity[1], velocity[52:60])


def test_a_rhythm_is_as_long_as_its_recording(kicks):
    rhythm = listen(kicks, EqualTranscriber()).rhythm()
    assert (rhythm.length_s, rhythm.name, rhythm.bpm, len(rhythm.events)) == (2.0, "kicks", None, 3)


def test_stems_are_opened_once_and_only_when_asked_for(kicks):
    separator = CountingSeparator()
    detected = listen(kicks, EqualTranscriber(), separator)
    assert separator.n_opened == 0
    assert detected.stems == (kicks, detected.activations)
    assert detected.stems is detected.stems
    assert separator.n_opened == 1
    assert listen(kicks, EqualTranscriber()).stems is None


def test_progress_reaches_the_transcriber(kicks):
    reported = []
    listen(kicks, EqualTranscriber(), progress=lambda *stage: reported.append(stage))
    assert reported == [("transcribe", 1.0)]


def test_there_are_no_onsets_outside_of_a_recording():
    recording = Recording.from_samples(np.zeros(RATE), RATE)
    events = [DrumEvent(0.2, "KD", 0.5), DrumEvent(0.9, "KD", 0.5)]
    detected = Listening(recording, detected_activations(events, recording), events)
    late = detected.activations_of(80, 130)
    assert late.probability.shape == (5, 50)
    assert late.articulation.shape == (1, 50)
    assert late.probability[0, 10] == pytest.approx(0.9)
    assert not late.probability[:, 21:].any()
    assert not detected.activations_of(300, 310).probability.any()
    assert not detected.activations_of(0, 100, stop_s=0.15).probability.any()
    assert not detected.activations_of(0, 100, classes=("HH",)).probability.any()


def test_sensitivity_reaches_events_and_what_an_engine_reads(kicks):
    class Thresholded(EqualTranscriber):
        def events(self, activations):
            strokes = [DrumEvent(onset_s + 0.003, "KD", 0.5) for onset_s in (*LEVELS, 2.0)]
            return strokes if activations is None or activations.probability.max() > 0.95 else []

    assert not listen(kicks, Thresholded()).events
    detected = listen(kicks, Thresholded(), sensitivity={"KD": 1.0})
    assert len(detected.events) == 4
    usual, frames = (
        one.activations_of(0, 100).probability[0] for one in (listen(kicks, Thresholded()), detected)
    )
    assert frames[usual > 0] == pytest.approx(
        usual[usual > 0] * np.e**2 / (1 + usual[usual > 0] * (np.e**2 - 1))
    )


def test_strokes_at_both_ends_of_any_recording_are_listened_to(subtests):
    rng = np.random.default_rng(0)
    for rate in (400, 700, 1000, 8000, 44_100):
        for length_s in (0.03, 0.2, 1.0):
            noise = rng.uniform(-0.5, 0.5, (1, max(1, round(length_s * rate)))).astype(np.float32)
            recording = Recording.from_samples(noise, rate, "noise")
            ends_s = (0.0, 0.02, length_s / 2, length_s - 0.02, length_s)
            events = [DrumEvent(max(0.0, at), c, 0.8) for at in sorted(ends_s) for c in ("SD", "TT")]
            with subtests.test(rate=rate, length_s=length_s):
                detected = with_flams(recording, with_tom_heights(recording, events))
                assert 0 < len(detected) <= len(events)
                detected = with_flams(recording, [DrumEvent(0.0, "SD", 0.8)])
                assert len(detected) == 1
