import numpy as np
import pytest
from hit_quality import Loop

RATE = 44_100


@pytest.fixture
def loop():
    time_s = np.arange(RATE // 2) / RATE
    tones = [(np.sin(2 * np.pi * hz * time_s) * np.exp(-time_s / 0.1)).astype(np.float32) for hz in (90, 700)]
    return Loop("made", np.zeros(RATE, dtype=np.float32), (), tuple(tones))


@pytest.mark.parametrize("shift", [0, 88, 400])
@pytest.mark.parametrize("gain", [0.1, -2.0])
def test_a_hit_that_is_a_one_shot_is_near_it_at_any_level_and_place(loop, shift, gain):
    hit = np.pad(gain * loop.one_shots[1], (shift, 0))[None]
    assert loop.si_sdr_db(np.repeat(hit, 2, axis=0)) > 50


def test_what_leaks_into_a_hit_is_measured(loop):
    kick, tom = (sound / np.linalg.norm(sound) for sound in loop.one_shots)
    assert loop.si_sdr_db((kick + 0.1 * tom)[None]) == pytest.approx(20, abs=0.5)


def test_a_hit_that_breaks_off_or_is_silent_is_far(loop):
    assert loop.si_sdr_db(loop.one_shots[0][None, :400]) < 0
    assert loop.si_sdr_db(np.zeros((1, 1000), dtype=np.float32)) == -30
