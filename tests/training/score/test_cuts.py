import numpy as np
import pytest
import torch

from training.score.cuts import CutLoop, cut_loops, score_cuts
from transform.events import CLASSES, DrumEvent


class Says:
    """A transcriber that says what it is told to of each loop in turn."""

    def __init__(self, *answers):
        self._answers = iter(answers)

    def activations(self, recording):
        return recording

    def events(self, _):
        return [DrumEvent(onset_s, c, 0.5) for onset_s, c in next(self._answers)]


def loop(beginning, *classes):
    return CutLoop(torch.zeros(10), beginning, frozenset(classes))


def test_shares_of_found_and_invented_strokes():
    loops = [loop("stroke", "KD"), loop("stroke", "KD", "HH"), loop("tail"), loop("tail"), loop("silence")]
    answers = (
        [(0.01, "KD"), (0.04, "SD")],
        [(0.06, "KD"), (0.0, "HH")],  # the kick is too late
        [(0.049, "CY")],
        [(0.06, "KD")],
        [(0.19, "SD"), (0.25, "KD")],
    )
    table = score_cuts(Says(*answers), loops)
    found = {"KD": "0.500 of 2", "SD": "-", "TT": "-", "HH": "1.000 of 1", "CY": "-", "any": "1.000 of 2"}
    assert table["first stroke found"] == found
    assert table["invented in a tail"]["CY"] == "0.500"
    assert table["invented in a tail"]["KD"] == "0.000"
    assert table["invented in a tail"]["any"] == "0.500 of 2"
    assert table["invented in silence"]["any"] == "1.000 of 1"
    late = score_cuts(Says([(0.21, "SD")]), [loop("silence")])
    assert late["invented in silence"]["any"] == "0.000 of 1"


@pytest.fixture(scope="module")
def loops(bench_pack):
    return cut_loops(bench_pack, "test", n=12, seed=0)


def test_loops_begin_where_they_say(loops):
    counts = {kind: sum(loop.beginning == kind for loop in loops) for kind in ("stroke", "tail", "silence")}
    assert counts == {"stroke": 12, "tail": 6, "silence": 6}
    for made in loops:
        assert bool(made.classes) == (made.beginning == "stroke")
        assert made.classes <= set(CLASSES)
        peak = made.audio.abs().max()
        begin = made.audio[:441].abs().max()
        if made.beginning == "silence":
            assert not made.audio[:11_025].any()
            assert made.audio[11_025:11_466].abs().max() > 0.02 * peak
        elif made.beginning == "stroke":
            assert begin > 0.02 * peak
        else:
            assert 0 < begin < 0.5 * peak


def test_same_seed_same_loops(bench_pack, loops):
    again = cut_loops(bench_pack, "test", n=12, seed=0)
    assert all(torch.equal(a.audio, b.audio) for a, b in zip(loops, again, strict=True))
    assert len({np.round(float(a.audio.square().sum()), 6) for a in loops}) > 12
