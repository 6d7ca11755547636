from itertools import pairwise

import numpy as np
import pytest

from transform.attack_overlay import AttackOverlay

RATE = 10_000  # a millisecond is ten samples


class Constant:
    """Sounds the same from sample 0 to its end."""

    def __init__(self, value, end=20_000):
        self.value, self.end = value, end

    def add_to(self, out, start):
        out[:, max(0, -start) : max(0, self.end - start)] += self.value


def overlay(onsets_s, *, ends=(20_000, 20_000), **options):
    sounds = (Constant(1.0, ends[0]), Constant(2.0, ends[1]))
    return AttackOverlay(*sounds, onsets_s, sample_rate=RATE, **options)


def read(sound, start, stop):
    out = np.zeros((2, stop - start), dtype=np.float32)
    sound.add_to(out, start)
    return out


def test_a_stroke_is_replayed_for_fifty_ms_and_gives_half_way_over_a_hundred():
    sound = read(overlay([1.0]), 0, 15_000)[1]
    assert sound[9_969] == sound[11_501] == 1.5
    assert sound[9_975] == pytest.approx(1.75)  # 2.5 ms before the attack, half of the way up
    assert (sound[9_980:10_501] == 2.0).all()
    assert sound[11_000] == pytest.approx(1.75)


def test_strokes_that_follow_each_other_are_replayed_throughout():
    sound = read(overlay([1.0, 1.05, 1.1]), 0, 15_000)[0]
    assert (sound[9_980:11_501] == 2.0).all()


def test_blocks_of_any_length_give_the_same_samples():
    sound = overlay([0.0, 0.31, 0.97, 1.5])
    cuts = [0, 1, 37, 3_100, 3_101, 9_700, 15_000]
    parts = [read(sound, a, b) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), read(sound, 0, 15_000))


@pytest.mark.parametrize("period", [5_000, 200])
def test_a_loop_has_no_seam(period):
    onset_s = 0.75 * period / RATE
    once_round = read(overlay([onset_s], period=period), 0, period)
    attacks_s = onset_s + np.arange(-20, 21) * period / RATE
    np.testing.assert_allclose(once_round, read(overlay(attacks_s), 0, period))


def test_sound_ends_with_what_is_heard_last():
    assert overlay([1.0], ends=(9_000, 17_000)).end == 17_000
    assert overlay([1.0], ends=(15_000, 9_000)).end == 15_000


def test_it_adds_to_what_is_there():
    out = np.full((1, 100), 0.5, dtype=np.float32)
    overlay([]).add_to(out, 0)
    assert (out == 2.0).all()  # .5, and the mean of 1 and 2
