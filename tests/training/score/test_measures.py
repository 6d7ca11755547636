import numpy as np
import pytest
from scipy.stats import spearmanr

from training.score.measures import (
    any_onset_f,
    band_level_db,
    distinct_onsets_s,
    high_energy_db,
    hit_spectra_db,
    isolated_onsets_s,
    level_db,
    likeness,
    log_mel_db,
    log_mel_distance_db,
    loudness_matched,
    pre_echo_db,
    si_sdr_db,
    spearman,
    timing_errors_s,
    timing_sd_ms,
    velocity_correlations,
)
from transform.events import DrumEvent


def sine(hz, amplitude=1.0, n_samples=44_100):
    return amplitude * np.sin(2 * np.pi * hz * np.arange(n_samples) / 44_100)


def noise(n_samples=44_100, seed=0):
    return np.random.default_rng(seed).standard_normal(n_samples)


def hits(drum_class, *onsets_s, velocity=0.5):
    return [DrumEvent(onset_s, drum_class, velocity) for onset_s in onsets_s]


def test_loudness_matching_is_of_the_root_mean_square():
    for gain in (0.001, 0.1, 3.0):
        matched = loudness_matched(gain * noise())
        assert np.sqrt(np.mean(matched**2)) == pytest.approx(0.1)
    assert not loudness_matched(np.zeros(100)).any()


def test_log_mel_levels_are_against_a_full_scale_sine():
    assert log_mel_db(np.zeros(44_100)).shape == (173, 80)
    assert np.all(log_mel_db(np.zeros(44_100)) == -70)
    inside = slice(4, -4)
    levels = log_mel_db(sine(4000))[inside]
    assert levels.max(axis=1) == pytest.approx(1.0, abs=2.0)  # a sine lies in the window's three middle bins
    softer = log_mel_db(sine(4000, 0.1))[inside]
    band = levels[0].argmax()
    assert levels[:, band] - softer[:, band] == pytest.approx(20.0)
    assert levels[0, band - 8] == -70


def test_log_mel_distance_sees_sound_and_not_level():
    sound = sine(300) + sine(3000)
    assert log_mel_distance_db(0.01 * sound, sound) == pytest.approx(0.0, abs=1e-9)
    assert log_mel_distance_db(sine(300), sound) > 2
    # Against silence every band stands at its height above the floor.
    expected = np.mean(log_mel_db(loudness_matched(sound)) + 70)
    assert log_mel_distance_db(np.zeros(44_100), sound) == pytest.approx(expected)


def test_energy_above_8_khz_is_a_share_of_the_whole():
    dull, bright = sine(1000) + sine(10_000, 0.1), sine(1000) + sine(10_000, 0.2)
    expected = 10 * np.log10((0.04 / 1.04) / (0.01 / 1.01))
    assert high_energy_db(bright, dull) == pytest.approx(expected, abs=0.05)
    assert high_energy_db(0.01 * dull, bright) == pytest.approx(-expected, abs=0.05)
    assert high_energy_db(np.zeros(1000), np.zeros(1000)) == 0


def test_hit_spectra_are_against_white_noise_of_their_loudness():
    sound = np.concatenate([noise(44_100) * gain for gain in (1.0, 0.01)])
    spectra = hit_spectra_db(sound, [0.1, 0.2, 0.5, 1.2, 1.5])
    assert spectra.shape == (5, 64)
    assert spectra[:, 20:].mean(axis=1) == pytest.approx(0.0, abs=1.5)
    assert np.all(hit_spectra_db(np.zeros(8000), [0.0, 5.0]) == -60)
    low = hit_spectra_db(sine(100), [0.1])[0]
    assert low.argmax() < 5
    assert low[40:].max() < -40


def test_likeness_is_1_for_the_source_and_0_for_the_target():
    rng = np.random.default_rng(0)
    source, target = rng.normal(0, 10, (2, 5, 64))
    assert likeness(source[[3, 1]], source, target) == 1
    assert likeness(target[[0, 4, 4]], source, target) == 0
    assert likeness(np.full((1, 64), 1.0), np.full((1, 64), 0.0), np.full((1, 64), 4.0)) == 0.75
    assert likeness(source, source, source) == 0.5
    assert likeness(source[:0], source, target) is None


def test_band_level_is_that_of_the_class_alone():
    sound = sine(60, 0.5) + sine(10_000, 0.05)
    assert band_level_db(sound, 0.5, "KD") == pytest.approx(20 * np.log10(0.5) - 3, abs=0.7)
    assert band_level_db(sound, 0.5, "HH") == pytest.approx(20 * np.log10(0.05) - 3, abs=0.5)
    assert band_level_db(sound, 0.5, "SD") < -35  # its window leaks 30 dB below a kick


def test_velocity_correlation_is_of_ranks_by_class():
    sound = np.zeros(5 * 44_100)
    events = []
    for i, velocity in enumerate((0.1, 0.2, 0.4, 0.7, 0.9)):
        at = i * 22_050
        sound[at : at + 4410] += sine(60, velocity**2, 4410) + sine(10_000, 1 - velocity, 4410)
        events += hits("KD", i / 2, velocity=velocity) + hits("HH", i / 2, velocity=velocity)
    events += hits("TT", 0.0, 0.5, 1.0, 1.5, 2.0) + hits("SD", 3.0, velocity=0.9)
    found = velocity_correlations(sound, events)
    assert found == {
        "KD": pytest.approx(1),
        "SD": None,  # too few
        "TT": None,  # all alike
        "HH": pytest.approx(-1),
        "CY": None,
    }
    assert velocity_correlations(np.zeros(44_100), events)["KD"] == 0


@pytest.mark.parametrize("seed", range(3))
def test_spearman_is_that_of_scipy(seed):
    rng = np.random.default_rng(seed)
    first, second = rng.integers(0, 6, 20).astype(float), rng.normal(size=20)
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert spearman([1, 1, 1], [1, 2, 3]) == 0


def test_timing_errors_are_of_mutual_neighbours_of_a_class():
    truth = hits("KD", 1.0, 2.0, 3.0) + hits("SD", 1.0)
    heard = hits("KD", 1.005, 1.02, 2.011, 3.2) + hits("HH", 1.0)
    assert sorted(timing_errors_s(truth, heard)) == pytest.approx([0.005, 0.011])
    assert len(timing_errors_s(truth, [])) == 0


def test_timing_sd_is_without_the_bias():
    errors = np.array([-0.001, 0.0, 0.001])
    assert timing_sd_ms(errors) == pytest.approx(1.0)
    assert timing_sd_ms(errors + 0.03) == pytest.approx(1.0)
    assert timing_sd_ms(errors[:2]) is None


def test_pre_echo_is_what_sounds_before_the_attack():
    sound = np.zeros(44_100)
    sound[22_050:30_000] = noise(7950)
    assert pre_echo_db(sound, [0.5]) == -60
    smeared = sound.copy()
    smeared[20_000:22_050] = 0.5 * noise(2050, 1)
    assert pre_echo_db(smeared, [0.5]) == pytest.approx(-6.0, abs=0.7)
    early = np.roll(sound, -80)  # an attack 1.8 ms early is no pre-echo
    assert pre_echo_db(early, [0.5]) == -60
    assert pre_echo_db(sound, [0.0, 0.9999]) is None
    assert pre_echo_db(np.zeros(44_100), [0.5]) is None


def test_isolated_onsets_stand_60_ms_after_any_other():
    audible = hits("KD", 0.5, 1.0) + hits("SD", 0.5, 1.5)
    unheard = hits("HH", 0.45, 1.55)
    assert isolated_onsets_s(audible, audible + unheard) == [1.0, 1.5]


def test_strokes_that_fall_together_are_one_onset():
    events = hits("KD", 0.0, 1.0) + hits("HH", 0.01, 0.5, 1.029, 1.031)
    assert distinct_onsets_s(events) == [0.0, 0.5, 1.0, 1.031]


def test_any_onset_f_forgives_what_may_be_missed():
    truth = hits("KD", 0.0, 1.0, 2.0)
    assert any_onset_f(truth, hits("SD", 0.01, 1.01, 2.01), window_s=0.02) == 1
    assert any_onset_f(truth, hits("SD", 0.01, 1.03, 2.01), window_s=0.02) == pytest.approx(2 / 3)
    extra = hits("SD", 0.0, 1.0, 2.0, 1.5)
    assert any_onset_f(truth, extra, window_s=0.02) == pytest.approx(6 / 7)
    assert any_onset_f(truth, extra, ignored=hits("HH", 1.5), window_s=0.02) == 1
    assert any_onset_f(truth, truth, ignored=hits("HH", 1.5), window_s=0.02) == 1
    assert any_onset_f(truth, [], window_s=0.02) == 0
    assert any_onset_f([], [], window_s=0.02) == 1


def test_si_sdr_is_what_is_left_beside_the_projection():
    truth, other = sine(441), sine(882)  # orthogonal
    assert si_sdr_db(truth + 0.1 * other, truth) == pytest.approx(20.0)
    assert si_sdr_db(truth + 10 * other, truth) == pytest.approx(-20.0)
    # 0.8 of the estimate's energy lies along the reference: 10 log10(0.8 / 0.2).
    assert si_sdr_db(2 * truth + other, truth) == pytest.approx(6.0206, abs=1e-4)


def test_si_sdr_does_not_see_the_level():
    truth, estimate = sine(441), sine(441) + 0.1 * noise()
    expected = si_sdr_db(estimate, truth)
    for gain in (-1.0, 1e-3, 50.0):
        assert si_sdr_db(gain * estimate, truth) == pytest.approx(expected)
        assert si_sdr_db(estimate, gain * truth) == pytest.approx(expected)


def test_si_sdr_has_bounds_and_needs_a_reference():
    assert si_sdr_db(0.5 * sine(441), sine(441)) == 100
    assert si_sdr_db(np.zeros(44_100), sine(441)) == -30
    assert si_sdr_db(sine(882), sine(441)) == -30
    assert si_sdr_db(sine(441), np.zeros(44_100)) is None


def test_levels_are_of_energies():
    assert level_db(0.1 * sine(441), sine(441)) == pytest.approx(-20.0)
    assert level_db(np.zeros(10), np.ones(10)) == -100
