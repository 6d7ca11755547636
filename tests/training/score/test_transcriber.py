from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from training.data.rhythms import Stroke
from training.data.synthesis import BusRecipe, SegmentRecipe
from training.score.transcriber import as_events, score_table, whole_kit_recipes, whole_kits
from transform.transcriber import TranscriberConfig, TranscriberNet


def test_what_rings_in_from_before_a_recording_is_no_event_of_it():
    strokes = tuple(Stroke(onset_s, "KD", "", 0.5) for onset_s in (-0.5, -0.031, -0.002, 0.0, 0.4))
    recipe = SegmentRecipe({}, (*strokes, Stroke(0.3, "SD", "", 0.2, is_grace=True)), 1.0, BusRecipe())
    everything = np.ones(6, dtype=bool)
    assert [e.onset_s for e in as_events(recipe, everything)] == [0.0, 0.0, 0.4]
    assert [e.onset_s for e in as_events(recipe, np.arange(6) == 4)] == [0.4]


@pytest.mark.slow
def test_kits_that_join_the_test_side_leave_the_row_of_the_older_ones_as_it_was(bench_pack, kit):
    torch.manual_seed(0)
    net = TranscriberNet(TranscriberConfig(widths=(4, 4, 8, 8), d_model=16, dilations=(1,))).eval()
    pack = replace(bench_pack, kits=tuple(k for k in bench_pack.kits if k.split == "test"))
    before = score_table(net, pack, n=4, seed=0)
    more = replace(pack, kits=(*pack.kits, kit("salamander", "test", seed=60)))
    after = score_table(net, more, n=4, seed=0)
    assert "test kits of 0.1.0" not in before
    assert after["test kits of 0.1.0"] == before["test kits"]
    assert after["test kits, acoustic"] != before["test kits, acoustic"]


def test_recordings_that_score_have_the_dynamics_of_0_1_0_unless_others_are_asked_for(bench_pack):
    def exponents(*dynamics):
        recipes = whole_kit_recipes(bench_pack, "test", whole_kits(1.0, *dynamics), seed=0)
        return [recipe.velocity_exponent for _, recipe in islice(recipes, 20)]

    assert all(1.1 <= exponent <= 2.2 for exponent in exponents())
    assert all(1.5 <= exponent <= 2.3 for exponent in exponents((1.5, 2.3)))
    assert min(exponents()) < 1.4
