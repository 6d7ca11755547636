import numpy as np
import pytest

from tests.transform.conftest import decaying_noise
from transform.cleaning import with_drawn_out_tail, without_swells


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


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 192_000])
def test_a_tail_never_swells_and_what_only_falls_stays(sample_rate):
    time_s = np.arange(sample_rate) / sample_rate
    ring = (0.5 * np.cos(2 * np.pi * 60 * time_s) * np.exp(-time_s / 0.2)).astype(np.float32)[None]
    assert np.allclose(without_swells(ring, sample_rate, 0), ring, atol=0.01)
    # A hat at a twentieth of the kick's level, which the level of both together does not show.
    other = np.where((time_s > 0.15) & (time_s < 0.25), 0.025 * np.sin(2 * np.pi * 3000 * time_s), 0)
    leaking = (ring + other).astype(np.float32)
    kept = without_swells(leaking, sample_rate, 0)
    place = slice(round(0.16 * sample_rate), round(0.24 * sample_rate))
    assert np.square(kept - ring)[0, place].mean() < 0.01 * np.square(other[place]).mean()
    assert np.array_equal(kept[0, : sample_rate // 50], leaking[0, : sample_rate // 50])
    assert without_swells(ring[:, :50], sample_rate, 0).shape == (1, 50)


@pytest.mark.parametrize("tau_s", [0.1, 0.3])
def test_a_tail_of_noise_is_as_long_as_it_was(tau_s):
    noise = decaying_noise(44_100, 1.0, tau_s)[None]
    kept = without_swells(noise, 44_100, 0)
    for first in (8_820, 17_640):
        place = slice(first, first + 8_820)
        lost_db = 10 * np.log10(np.square(noise[0, place]).mean() / np.square(kept[0, place]).mean())
        assert 0 <= lost_db < 0.5
