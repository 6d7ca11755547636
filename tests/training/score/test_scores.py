import mir_eval
import numpy as np
import pytest

from training.score.scores import Counts, Score, cells, class_counts, mean_scores, means, n_matches, pooled
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


def test_means_leave_out_what_is_not_there():
    assert means([{"a": 1.0, "b": None}, {"a": 3.0, "b": 5.0}, {"c": None}]) == {"a": 2, "b": 5}


def test_means_have_intervals_over_recordings():
    scores = mean_scores([{"a": float(i % 2), "b": 5.0, "c": None} for i in range(100)])
    assert scores["a"].value == 0.5
    assert (scores["a"].low, scores["a"].high) == pytest.approx((0.4, 0.6), abs=0.02)  # 2 * sqrt(.25 / 100)
    assert scores["b"] == Score(5, 5, 5)
    assert cells(scores, ("b", "c"), 1) == {"b": "5.0 (5.0 to 5.0)", "c": "-"}
    assert Score(0.5, 0.25, 1).cell(2, to="-") == "0.50 (0.25-1.00)"
