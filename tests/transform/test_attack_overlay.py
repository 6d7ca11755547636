from itertools import pairwise

import numpy as np
import pytest

from transform.attack_overlay import AttackOverlay

RATE = 10_000  # a millisecond is ten samples


class Constant:
    """Sounds the same from sample 0 to its end."""

    sample_rate, n_channels = RATE, 2

    def __init__(self, value, n_samples=20_000):
        self.value, self.n_samples = value, n_samples

    def read(self, start, stop):
        out = np.zeros((2, stop - start), dtype=np.float32)
        out[:, max(0, -start) : max(0, self.n_samples - start)] = self.value
        return out


def overlay(onsets_s, *, ends=(20_000, 20_000), **options):
    sounds = (Constant(1.0, ends[0]), Constant(2.0, ends[1]))
    return AttackOverlay(*sounds, onsets_s, **options)


def test_a_stroke_is_replayed_for_fifty_ms_and_gives_half_way_over_a_hundred():
    sound = overlay([1.0]).read(0, 15_000)[1]
    assert sound[9_969] == sound[11_501] == 1.5
    assert sound[9_975] == pytest.approx(1.75)  # 2.5 ms before the attack, half of the way up
    assert (sound[9_980:10_501] == 2.0).all()
    assert sound[11_000] == pytest.approx(1.75)


def test_strokes_that_follow_each_other_are_replayed_throughout():
    sound = overlay([1.0, 1.05, 1.1]).read(0, 15_000)[0]
    assert (sound[9_980:11_501] == 2.0).all()


def test_blocks_of_any_length_give_the_same_samples():
    sound = overlay([0.0, 0.31, 0.97, 1.5])
    cuts = [0, 1, 37, 3_100, 3_101, 9_700, 15_000]
    parts = [sound.read(a, b) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), sound.read(0, 15_000))


@pytest.mark.parametrize("period", [5_000, 200])
def test_a_loop_has_no_seam(period):
    onset_s = 0.75 * period / RATE
    once_round = overlay([onset_s], period=period).read(0, period)
    attacks_s = onset_s + np.arange(-20, 21) * period / RATE
    np.testing.assert_allclose(once_round, overlay(attacks_s).read(0, period))


def test_sound_ends_with_what_is_heard_last():
    assert overlay([1.0], ends=(9_000, 17_000)).n_samples == 17_000
    assert overlay([1.0], ends=(15_000, 9_000)).n_samples == 15_000


def test_without_strokes_it_is_the_mean_of_both():
    assert (overlay([]).read(0, 100) == 1.5).all()
