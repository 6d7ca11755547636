import json

import numpy as np
import pytest
import torch

from training.data.kits import kits_of
from training.data.segments import SegmentCutter, SegmentSettings, _transposed
from training.data.synthesis import Synthesiser, SynthesisSettings

LENGTH = 16_384


@pytest.fixture
def cutter(tiny_pack):
    def make(known=(), **changes):
        settings = SynthesisSettings(n_samples=65_536, procedural=0.0, layered=0.0, effects=0.0)
        source = Synthesiser(
            kits_of(tiny_pack.kits, "train"), tiny_pack.grooves_of("train"), settings, pool=None
        )
        return SegmentCutter(source, known, SegmentSettings(n_samples=LENGTH, **changes))

    return make


def loop(hz=300.0, length_s=3.0):
    return torch.sin(2 * torch.pi * hz * torch.arange(round(length_s * 44_100)) / 44_100)


def test_onsets_are_where_strokes_begin(cutter):
    segments = cutter().cut(8, np.random.default_rng(0))
    audio = segments.audio
    assert audio.shape == (8, LENGTH)
    known = [(item, int(at)) for item, row in enumerate(segments.onsets) for at in row if at >= 0]
    assert len(known) > 8
    # Every made hit is loudest at its first sample, so the level jumps there; most are not masked.
    jumps = [
        float(
            segments.audio[item, at : at + 40].abs().max()
            / (segments.audio[item, at - 40 : at].abs().max() + 1e-6)
        )
        for item, at in known
        if 40 <= at < LENGTH - 40
    ]
    assert np.median(jumps) > 1.5


def test_the_same_seed_cuts_the_same_batch(cutter):
    loops = [("made", loop())]
    one, same, other = (cutter(loops, loops=0.5).cut(6, np.random.default_rng(s)) for s in (3, 3, 4))
    assert torch.equal(one.audio, same.audio)
    assert torch.equal(one.onsets, same.onsets)
    assert not torch.equal(one.audio, other.audio)


def test_loops_take_their_share_and_have_no_onsets(cutter):
    rng = np.random.default_rng(0)
    kinds = []
    for _ in range(20):
        segments = cutter([("made", loop()), ("short", loop(length_s=0.1))], loops=0.5).cut(6, rng)
        assert segments.audio.shape == (6, LENGTH)
        for recipe, onsets in zip(segments.recipes, segments.onsets, strict=True):
            kinds.append(recipe["kind"])
            assert recipe["kind"] == "synthetic" or (recipe["name"] == "made" and (onsets == -1).all())
    assert 0.35 < kinds.count("loop") / len(kinds) < 0.65
    assert all(recipe["kind"] == "synthetic" for recipe in cutter().cut(6, rng).recipes)


def test_a_batch_of_loops_alone_is_possible(cutter):
    segments = cutter([("made", loop())], loops=1.0).cut(3, np.random.default_rng(0))
    assert segments.audio.shape == (3, LENGTH)
    assert segments.audio.isfinite().all()


@pytest.mark.parametrize("semitones", [-4, 0, 3])
def test_transposition_keeps_the_length_and_shifts_the_pitch(semitones):
    n_source = 2 * round(LENGTH * 2 ** (semitones / 12) / 2)
    sound = loop()[: n_source + 2 * 2048]
    out = _transposed(sound, LENGTH)
    assert len(out) == LENGTH
    peak = int(torch.fft.rfft(out * torch.hann_window(LENGTH)).abs().argmax()) * 44_100 / LENGTH
    assert peak == pytest.approx(300 * 2 ** (semitones / 12), abs=3)
    assert float(out[2000:-2000].abs().max()) == pytest.approx(1, abs=0.02)


def test_recipes_can_be_written_down(cutter):
    segments = cutter([("made", loop())], loops=0.5).cut(6, np.random.default_rng(0))
    told = json.loads(json.dumps(segments.recipes))
    assert len(told) == 6
    assert any("made-" in str(recipe.get("voices")) for recipe in told)
