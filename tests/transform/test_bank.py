import numpy as np
import pytest

from transform.audio import Recording
from transform.bank import LEAD_S, Bank, find_hits, groups, locate_attack, refine_onsets, with_drawn_out_tail
from transform.events import DrumEvent


def decaying_noise(sample_rate, length_s, tau_s, seed=0):
    time_s = np.arange(round(length_s * sample_rate)) / sample_rate
    noise = np.random.default_rng(seed).standard_normal(len(time_s))
    return (0.3 * noise * np.exp(-time_s / tau_s)).astype(np.float32)


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 48_000, 96_000, 192_000])
@pytest.mark.parametrize("error_ms", [-5, -3, 0, 4, 5])
def test_an_attack_is_found_to_the_sample_however_rough_its_transcription(sample_rate, error_ms):
    sound = np.zeros(sample_rate, dtype=np.float32)
    attack = round(0.5 * sample_rate) + 7
    burst = decaying_noise(sample_rate, 0.2, 0.03)
    burst[0] = 0.3
    sound[attack : attack + len(burst)] += burst
    assert abs(locate_attack(sound, sample_rate, attack + round(error_ms / 1000 * sample_rate)) - attack) <= 1


def test_a_hat_is_found_on_top_of_a_ringing_kick():
    sample_rate = 44_100
    time_s = np.arange(sample_rate) / sample_rate
    sound = (0.8 * np.sin(2 * np.pi * 50 * time_s) * np.exp(-time_s / 0.4)).astype(np.float32)
    attack = 8_000
    hat = decaying_noise(sample_rate, 0.05, 0.01)
    sound[attack : attack + len(hat)] += 0.2 * np.diff(hat, prepend=0)
    assert abs(locate_attack(sound, sample_rate, attack + 200) - attack) <= 0.001 * sample_rate


@pytest.mark.parametrize("around", [-5, 0, 1, 99])
def test_an_attack_in_a_tiny_or_silent_recording_stays_inside_it(around):
    assert 0 <= locate_attack(np.zeros(2, dtype=np.float32), 44_100, around) <= 1
    assert locate_attack(np.ones(1, dtype=np.float32), 44_100, 0) == 0


def test_strokes_within_25_ms_are_one_group():
    events = [DrumEvent(t, c, 0.5) for t, c in [(0.51, "HH"), (0.5, "KD"), (0.7, "SD"), (0.53, "SD")]]
    assert [[e.drum_class for e in group] for group in groups(events)] == [["KD", "HH"], ["SD"], ["SD"]]


def test_hits_run_from_attack_to_next_attack_and_know_their_classes(clicks):
    sound = clicks([0.25, 0.75, 1.0], length_s=2.0)
    events = [DrumEvent(0.252, "KD", 0.9), DrumEvent(0.247, "HH", 0.5, "open"), DrumEvent(0.744, "SD", 0.7)]
    hits = find_hits(Recording.from_samples(sound, 44_100), [*events, DrumEvent(1.006, "HH", 0.3, "closed")])
    assert [hit.attack for hit in hits] == [11_025, 33_075, 44_100]
    assert [set(hit.classes) for hit in hits] == [{"KD", "HH"}, {"SD"}, {"HH"}]
    lead = round(LEAD_S * 44_100)
    assert [hit.stop for hit in hits] == [33_075 - lead, 44_100 - lead, 88_200]
    assert [hit.is_open for hit in hits] == [True, False, False]
    assert [hit.is_cut for hit in hits] == [True, True, True]
    longer = Recording.from_samples(clicks([0.25], length_s=3.0), 44_100)
    assert [hit.is_cut for hit in find_hits(longer, [DrumEvent(0.25, "KD", 0.9)])] == [False]


def test_silent_stretches_are_no_hits():
    silence = Recording.from_samples(np.zeros((2, 44_100)), 44_100)
    assert find_hits(silence, [DrumEvent(0.5, "KD", 0.9)]) == []


def test_refined_onsets_keep_classes_and_velocities(clicks):
    sound = clicks([0.25, 0.75], length_s=1.0)
    events = [DrumEvent(0.245, "KD", 0.9), DrumEvent(0.756, "HH", 0.4, "open")]
    refined = refine_onsets(Recording.from_samples(sound, 44_100), events)
    assert refined == [DrumEvent(0.25, "KD", 0.9), DrumEvent(0.75, "HH", 0.4, "open")]


def test_the_bank_prefers_hits_that_ring_out_of_silence():
    sample_rate = 44_100
    sound = np.zeros(6 * sample_rate, dtype=np.float32)
    hit = decaying_noise(sample_rate, 0.5, 0.1)
    onsets_s = [0.5, 2.0, 2.08, 2.16, 4.0]
    for i, onset_s in enumerate(onsets_s):
        start = round(onset_s * sample_rate)
        sound[start : start + len(hit)] += hit * (0.3 + 0.1 * i)
    recording = Recording.from_samples(sound, sample_rate)
    hits = find_hits(recording, [DrumEvent(t, "SD", 0.8) for t in onsets_s])
    bank = Bank(recording, hits)
    kept_s = [hit.attack / sample_rate for hit in bank.sets[frozenset({"SD"})]]
    assert kept_s == pytest.approx([0.5, 4.0], abs=1e-3)


def test_the_sound_of_a_hit_is_the_recording_itself_with_faded_ends():
    sample_rate = 44_100
    rng = np.random.default_rng(0)
    sound = rng.uniform(-0.5, 0.5, (2, sample_rate)).astype(np.float32)
    sound[:, : sample_rate // 2] *= 1e-3
    recording = Recording.from_samples(sound, sample_rate)
    (hit,) = find_hits(recording, [DrumEvent(0.5, "CY", 0.9)])
    lead = round(LEAD_S * sample_rate)
    played = Bank(recording, [hit]).sound(hit)
    inner = slice(lead, lead + 10_000)
    np.testing.assert_array_equal(played[:, inner], sound[:, hit.attack : hit.attack + 10_000])
    assert played[:, 0].max() == 0
    assert abs(played[:, -1]).max() < 0.02


def test_a_bank_holds_no_more_sound_than_its_budget():
    sample_rate = 44_100
    sound = np.tile(decaying_noise(sample_rate, 1.0, 0.2), 20)[None]
    recording = Recording.from_samples(sound, sample_rate)
    bank = Bank(recording, find_hits(recording, [DrumEvent(i + 0.0, "SD", 0.8) for i in range(20)]))
    for hit in bank.sets[frozenset({"SD"})]:
        bank.sound(hit, budget_bytes=400_000)
    assert sum(s.nbytes for s in bank._sounds.values()) <= 400_000


def test_a_cut_tail_goes_on_at_its_own_decay_without_a_step():
    sample_rate = 44_100
    tau_s = 0.1  # 87 dB a second
    full = decaying_noise(sample_rate, 1.0, tau_s)[None]
    cut = full[:, : round(0.25 * sample_rate)]
    level = float(np.sqrt(np.mean(full[:, :2646] ** 2)))
    drawn = with_drawn_out_tail(cut, sample_rate, level, longest_s=1.0)
    np.testing.assert_array_equal(drawn[:, : cut.shape[1]], cut)
    for at_s in (0.3, 0.4, 0.5):
        here = slice(round(at_s * sample_rate), round((at_s + 0.05) * sample_rate))
        difference_db = 10 * np.log10(np.mean(drawn[:, here] ** 2) / np.mean(full[:, here] ** 2))
        assert abs(difference_db) < 3
    assert drawn.shape[1] < sample_rate


def test_a_hit_that_has_died_away_is_not_drawn_out():
    sample_rate = 44_100
    sound = decaying_noise(sample_rate, 0.5, 0.02)[None]
    assert with_drawn_out_tail(sound, sample_rate, 0.2, longest_s=2.0) is sound
