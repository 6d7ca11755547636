import numpy as np
import pytest

from tests.transform.conftest import decaying_noise
from transform.audio import Recording
from transform.bank import Bank
from transform.events import DrumEvent


@pytest.mark.parametrize("has_stems", [False, True])
def test_silent_stretches_are_no_hits(recorded, has_stems):
    silence, stems = recorded([], 1.0, n_channels=2)
    bank = Bank.of_recording(silence, [DrumEvent(0.5, "KD", 0.9)], stems if has_stems else None)
    assert not bank.sets
    assert bank.classes == frozenset()


def test_the_bank_prefers_hits_that_ring_out_of_silence():
    sample_rate = 44_100
    sound = np.zeros(6 * sample_rate, dtype=np.float32)
    hit = decaying_noise(sample_rate, 0.5, 0.1)
    onsets_s = [0.5, 2.0, 2.08, 2.16, 4.0]
    for i, onset_s in enumerate(onsets_s):
        start = round(onset_s * sample_rate)
        sound[start : start + len(hit)] += hit * (0.3 + 0.1 * i)
    recording = Recording.from_samples(sound, sample_rate)
    bank = Bank.of_recording(recording, [DrumEvent(t, "SD", 0.8) for t in onsets_s])
    kept_s = [hit.attack / sample_rate for hit in bank.sets[frozenset({"SD"})]]
    # The one at 2 s is short, which can be borne; the two after it begin in the ring of others.
    assert kept_s == pytest.approx([0.5, 2.0, 4.0], abs=1e-3)


RATE = 44_100


def tone(hz, tau_s, length_s=2.0):
    time_s = np.arange(round(length_s * RATE)) / RATE
    return (0.4 * np.cos(2 * np.pi * hz * time_s) * np.exp(-time_s / tau_s)).astype(np.float32)


def test_a_class_that_was_misheard_gives_no_hits_from_an_empty_stem(recorded):
    strokes = [(0.5 + i, "KD", tone(80, 0.05)) for i in range(3)]
    recording, stems = recorded(strokes, 4.0)
    events = [DrumEvent(t, c, 0.8) for t, _, _ in strokes for c in ("KD", "HH")]
    assert Bank.of_recording(recording, events, stems).classes == {"KD"}


def test_only_candidates_are_separated(recorded):
    strokes = [(0.5 + i, c, tone(80, 0.05, 0.3)) for i in range(0, 60, 2) for c in ("KD", "SD")]
    recording, stems = recorded(strokes, 62.0)
    Bank.of_recording(recording, [DrumEvent(t, c, 0.8) for t, c, _ in strokes], stems, per_set=2)
    assert 0 < stems.n_read < 0.5 * recording.n_samples
