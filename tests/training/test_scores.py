import mir_eval
import numpy as np
import pytest

from training.scores import Counts, any_onset_counts, class_counts, n_matches, pooled
from transform.events import DrumEvent


def test_matches_are_as_many_as_mir_eval_finds():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        expected, detected = (np.sort(rng.uniform(0, 2, rng.integers(1, 40))) for _ in range(2))
        window_s = float(rng.choice([0.01, 0.03, 0.05, 0.2]))
        theirs = mir_eval.util.match_events(expected, detected, window_s)
        assert n_matches(expected, detected, window_s) == len(theirs), f"seed {seed}"


def test_nothing_matches_nothing():
    assert n_matches([], [0.1]) == n_matches([0.1], []) == 0


def hits(drum_class, *onsets_s):
    return [DrumEvent(t, drum_class, 0.5) for t in onsets_s]


def test_classes_are_counted_apart():
    counts = class_counts(hits("KD", 0.0, 1.0) + hits("SD", 0.5), hits("KD", 0.01) + hits("HH", 0.5))
    assert counts["KD"] == Counts(matched=1, expected=2, detected=1)
    assert counts["SD"] == Counts(matched=0, expected=1, detected=0)
    assert counts["HH"] == Counts(matched=0, expected=0, detected=1)
    assert counts["KD"].f_measure == pytest.approx(2 / 3)
    assert counts["TT"].f_measure == 1.0
    assert pooled(counts) == Counts(matched=1, expected=3, detected=2)


def test_ignored_events_may_be_found_or_missed():
    truth, quiet = hits("SD", 0.0, 1.0), hits("SD", 0.5)
    found = class_counts(truth, hits("SD", 0.0, 0.5, 1.0), ignored=quiet)["SD"]
    missed = class_counts(truth, hits("SD", 0.0, 1.0), ignored=quiet)["SD"]
    assert found.f_measure == missed.f_measure == 1.0
    # An ignored event excuses one detection of its own class, not two and not another class's.
    assert class_counts(truth, hits("SD", 0.0, 0.5, 0.52, 1.0), ignored=quiet)["SD"].detected == 3
    assert class_counts(truth, hits("HH", 0.5), ignored=quiet)["HH"].detected == 1


def test_onsets_of_any_class_are_merged():
    counts = any_onset_counts(hits("KD", 0.0) + hits("HH", 0.01, 0.5), hits("SD", 0.02) + hits("CY", 0.9))
    assert counts == Counts(matched=1, expected=2, detected=2)
