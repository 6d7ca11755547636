import numpy as np
import pytest

from training.score.leakage import leakage_db

RATE = 44_100


def stem_of(onsets_s, before):
    """Return a stem whose strokes are 30 ms of 1, with 30 ms of another value before them."""
    stem = np.zeros((1, 3 * RATE), dtype=np.float32)
    for onset_s in onsets_s:
        at = round(onset_s * RATE)
        stem[0, at - 1323 : at], stem[0, at : at + 1323] = before, 1.0
    return stem


def test_leakage_is_the_level_before_a_stroke_against_that_after_it():
    onsets_s = [0.5, 1.0, 1.5, 2.0]
    assert leakage_db(stem_of(onsets_s, 0.1), onsets_s, RATE) == pytest.approx(-20, abs=0.1)
    assert leakage_db(stem_of(onsets_s, 1.0), onsets_s, RATE) == pytest.approx(0, abs=0.1)
    assert leakage_db(stem_of(onsets_s, 0.0), onsets_s, RATE) < -100


def test_strokes_that_follow_others_closely_are_left_out():
    onsets_s = [0.5, 1.0, 1.5, 2.0]
    close = sorted([*onsets_s, 0.55, 1.05])
    assert leakage_db(stem_of(onsets_s, 0.1), close, RATE) == pytest.approx(-20, abs=0.1)
    assert leakage_db(stem_of(onsets_s, 0.1), onsets_s[:3], RATE) is None  # too few
    assert leakage_db(stem_of(onsets_s, 0.1), [0.01, *onsets_s[:2], 2.99], RATE) is None  # at the ends
