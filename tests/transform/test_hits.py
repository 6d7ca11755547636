import numpy as np
import pytest

from tests.transform.conftest import decaying_noise
from transform.audio import Recording
from transform.bank import Bank
from transform.events import DrumEvent
from transform.hits import LEAD_S, Cutter


def the_hits(bank):
    return sorted((hit for hits in bank.sets.values() for hit in hits), key=lambda hit: hit.attack)


def assert_kept(played, sound):
    """Assert that a hit of noise is as it was: to the sample at first, then but for what noise swells."""
    np.testing.assert_array_equal(played[:, :900], sound[:, :900])
    assert np.square(played - sound).mean() < 0.02 * np.square(sound).mean()


def test_slices_run_from_attack_to_next_attack_and_know_their_classes():
    sample_rate = 44_100
    sound = np.zeros(2 * sample_rate, dtype=np.float32)
    for onset_s in (0.25, 0.75, 1.0):
        attack = round(onset_s * sample_rate)
        sound[attack:] = decaying_noise(sample_rate, 2 - onset_s, 0.1)
        sound[attack] = 0.9
    events = [DrumEvent(0.252, "KD", 0.9), DrumEvent(0.247, "HH", 0.5, "open"), DrumEvent(0.744, "SD", 0.7)]
    recording = Recording.from_samples(sound, sample_rate)
    bank = Bank.of_recording(recording, [*events, DrumEvent(1.006, "HH", 0.3, "closed")])
    hits = the_hits(bank)
    assert [hit.attack for hit in hits] == pytest.approx([11_025, 33_075, 44_100], abs=1)
    assert [set(hit.classes) for hit in hits] == [{"KD", "HH"}, {"SD"}, {"HH"}]
    assert [hit.articulation("HH") for hit in hits] == ["open", "", "closed"]
    assert [hit.velocity for hit in hits] == [0.9, 0.7, 0.3]
    lead = round(LEAD_S * sample_rate)
    snare = bank.sound(hits[1])
    inner = hits[1].attack, hits[1].attack + 10_000
    assert_kept(snare[:, lead : lead + 10_000], sound[slice(*inner)][None])
    # What follows is drawn out of the snare itself, not of the hat.
    assert np.abs(snare[0, 11_025 + lead :]).max() < np.abs(snare[0, 9_000:11_000]).max()


def test_the_sound_of_a_hit_is_the_recording_itself_with_faded_ends():
    sample_rate = 44_100
    rng = np.random.default_rng(0)
    sound = rng.uniform(-0.5, 0.5, (2, sample_rate)).astype(np.float32)
    sound[:, : sample_rate // 2] *= 1e-3
    recording = Recording.from_samples(sound, sample_rate)
    bank = Bank.of_recording(recording, [DrumEvent(0.5, "CY", 0.9)])
    (hit,) = the_hits(bank)
    lead = round(LEAD_S * sample_rate)
    played = bank.sound(hit)
    assert_kept(played[:, lead : lead + 10_000], sound[:, hit.attack : hit.attack + 10_000])
    assert played[:, 0].max() == 0
    assert abs(played[:, -1]).max() < 0.02


RATE = 44_100


def tone(hz, tau_s, length_s=2.0):
    time_s = np.arange(round(length_s * RATE)) / RATE
    return (0.4 * np.cos(2 * np.pi * hz * time_s) * np.exp(-time_s / tau_s)).astype(np.float32)


def test_with_stems_strokes_that_fall_together_are_hits_of_their_own(recorded):
    strokes = [(t, c, tone(hz, 0.08)) for t in (0.5, 2.0) for c, hz in (("KD", 80), ("HH", 9000))]
    recording, stems = recorded(strokes, 4.0, n_channels=2)
    bank = Bank.of_recording(recording, [DrumEvent(t, c, 0.8) for t, c, _ in strokes], stems)
    assert {classes: len(hits) for classes, hits in bank.sets.items()} == {
        frozenset({"KD"}): 2,
        frozenset({"HH"}): 2,
        frozenset({"KD", "HH"}): 2,  # and both as they were recorded
    }
    lead = round(LEAD_S * RATE)
    for hit in (hit for hit in the_hits(bank) if len(hit.classes) == 1):
        sound = bank.sound(hit)
        alone = tone(80 if hit.dominant == "KD" else 9000, 0.08)[: sound.shape[1] - lead - 300]
        np.testing.assert_allclose(sound[0, lead : lead + len(alone)], alone, atol=1e-3)
        np.testing.assert_allclose(sound[1], 0.9 * sound[0], atol=1e-6)


def test_with_stems_a_tail_rings_under_the_strokes_of_other_classes(recorded):
    strokes = [(0.5, "CY", tone(6000, 0.6, 3.0)), (0.7, "KD", tone(80, 0.05)), (0.9, "SD", tone(300, 0.05))]
    recording, stems = recorded(strokes, 4.0)
    events = [DrumEvent(t, c, 0.8) for t, c, _ in strokes]
    bank = Bank.of_recording(recording, events, stems)
    (cymbal,) = bank.sets[frozenset({"CY"})]
    lead = round(LEAD_S * RATE)
    sound = bank.sound(cymbal)[0, lead : lead + RATE]
    np.testing.assert_allclose(sound, strokes[0][2][:RATE], atol=1e-4)
    (slices,) = Bank.of_recording(recording, events).sets[frozenset({"CY"})]
    assert slices.attack == cymbal.attack


def test_with_stems_a_hit_begins_as_the_recording_itself_where_it_sounds_alone(recorded):
    recording, stems = recorded([(0.5, "SD", tone(300, 0.1)), (1.0, "HH", tone(9000, 0.02))], 2.0)
    stems.stems[3] += 0.01 * stems.stems[1]  # a separator leaves some of the snare to the hat
    stems.stems[1] *= 0.99
    bank = Bank.of_recording(recording, [DrumEvent(0.5, "SD", 0.8), DrumEvent(1.0, "HH", 0.8)], stems)
    (snare,) = bank.sets[frozenset({"SD"})]
    lead = round(LEAD_S * RATE)
    expected = recording.read(snare.attack, snare.attack + 20_000)
    np.testing.assert_array_equal(bank.sound(snare)[:, lead : lead + 20_000], expected)


def test_with_stems_what_rings_into_a_hit_is_left_out(recorded):
    strokes = [(0.5, "CY", tone(6000, 1.5)), (0.8, "KD", tone(80, 0.05))]
    recording, stems = recorded(strokes, 3.0)
    bank = Bank.of_recording(recording, [DrumEvent(t, c, 0.8) for t, c, _ in strokes], stems)
    (kick,) = bank.sets[frozenset({"KD"})]
    lead = round(LEAD_S * RATE)
    sound = bank.sound(kick)[0, lead : lead + 5_000]
    np.testing.assert_allclose(sound, stems.stems[0, 0, kick.attack : kick.attack + 5_000], atol=1e-6)


@pytest.mark.parametrize(("budget_bytes", "n_cut"), [(10**9, 3), (1, 6)])
def test_a_hit_is_cut_again_only_where_its_sound_did_not_fit(monkeypatch, budget_bytes, n_cut):
    monkeypatch.setattr("transform.hits._CUT_BYTES", budget_bytes)
    cut_out, cut = Cutter._cut_out, []
    monkeypatch.setattr(Cutter, "_cut_out", lambda cutter, hit: cut.append(hit) or cut_out(cutter, hit))
    sound = np.tile(decaying_noise(RATE, 0.5, 0.05), 3)
    events = [DrumEvent(0.5 * i, "SD", 0.8) for i in range(3)]
    bank = Bank.of_recording(Recording.from_samples(sound, RATE), events)
    (hits,) = bank.sets.values()
    first = [bank.sound(hit).copy() for hit in hits]
    for hit, sound in zip(hits, first, strict=True):
        np.testing.assert_array_equal(bank.sound(hit), sound)
        assert bank.sound(hit) is bank.sound(hit)
    assert len(cut) == n_cut


def test_a_crash_outlasts_the_kick_that_it_is_struck_with(recorded):
    crash = tone(6000, 1.0, 3.0)
    strokes = [
        (0.5, "CY", crash),
        (0.5, "KD", tone(80, 0.1)),
        (1.0, "KD", tone(80, 0.1)),
        (1.5, "SD", tone(300, 0.1)),
    ]
    recording, stems = recorded(strokes, 4.0)
    bank = Bank.of_recording(recording, [DrumEvent(t, c, 0.8) for t, c, _ in strokes], stems)
    (both,) = bank.sets[frozenset({"CY", "KD"})]
    (alone,) = bank.sets[frozenset({"CY"})]
    at = round((LEAD_S + 1.4) * RATE)
    ring_db = [20 * np.log10(np.std(bank.sound(hit)[0, at : at + 4410])) for hit in (both, alone)]
    assert ring_db[0] == pytest.approx(ring_db[1], abs=1)
    # The kick and the snare that are struck while it rings are no part of it.
    later = bank.sound(both)[0, round((LEAD_S + 0.45) * RATE) : round((LEAD_S + 1.4) * RATE)]
    lows = np.abs(np.fft.rfft(later))[np.fft.rfftfreq(len(later), 1 / RATE) < 400]
    assert lows.max() < 0.01 * np.abs(np.fft.rfft(later)).max()
