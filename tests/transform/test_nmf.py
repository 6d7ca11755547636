import math

import pytest
import torch

from transform import nmf
from transform.features import FeatureSettings
from transform.nmf import active_components, decaying, factorised, learn_templates, levels_of, ratio_masks


def test_updates_come_nearer_and_keep_zeros():
    generator = torch.Generator().manual_seed(0)
    true_h, true_w = (torch.rand(shape, generator=generator) for shape in ((40, 3), (3, 20)))
    levels = true_h @ true_w + 1e-3
    start_h, start_w = (0.1 + torch.rand(shape, generator=generator) for shape in ((40, 3), (3, 20)))
    start_h[:5, 0] = 0
    start_w /= start_w.sum(dim=1, keepdim=True)

    def divergence(n_iterations):
        h, w = factorised(levels, start_h, start_w, n_iterations=n_iterations)
        assert not h[:5, 0].any()
        fit = h @ w
        return float((levels * (levels / fit).log() - levels + fit).sum())

    found = [divergence(n) for n in (1, 5, 20, 80)]
    assert found == sorted(found, reverse=True)
    assert found[-1] < 0.1 * found[0]


def test_components_begin_before_an_onset_and_decay():
    probability = torch.zeros(2, 300)
    probability[0, 50], probability[0, 60], probability[1, 200] = 0.9, 0.1, 0.5
    slowest = decaying(probability, fps=100)[:, -1]
    assert slowest.shape == (2, 300)
    assert slowest[0, :48].max() < 1e-6
    assert slowest[0, 48:51].tolist() == pytest.approx([0.9] * 3)
    # 0.5 s: what began softly after it does not count beside it.
    assert float(slowest[0, 100]) == pytest.approx(0.9 * math.exp(-1), rel=1e-3)
    quickest = decaying(probability, fps=100)[:, 0]
    assert float(quickest[0, 60]) == pytest.approx(0.1, rel=1e-3)
    assert float(quickest[1, 203]) == pytest.approx(0.5 * math.exp(-1), rel=1e-3)


def test_an_hour_of_silence_after_a_stroke_is_finite():
    probability = torch.zeros(1, 360_000)
    probability[0, 0] = 1
    assert torch.isfinite(decaying(probability, fps=100)).all()


def test_what_a_drum_adds_to_its_general_sound_is_learnt_where_it_plays_alone():
    """A kick that clicks where hats sound in general, and hats that are brighter than most."""
    bands = torch.arange(40)
    kick, click, hat, bright = (torch.exp(-(((bands - at) / 3) ** 2)) for at in (6, 22, 26, 34))
    prior = 0.01 + torch.stack((kick, torch.ones(40), torch.ones(40), hat, torch.ones(40)))
    probability = torch.full((5, 400), 1e-3)
    probability[0, 10::80], probability[3, 10::40] = 0.9, 0.9  # together at 10, 90, 170; hats alone at 50, 130
    active = active_components(probability, fps=100)
    sounding = decaying(probability, fps=100)[:, 1]
    levels = 1e-6 + sounding[0][:, None] * (kick + click) + sounding[3][:, None] * bright
    templates = learn_templates(levels, active, prior)[1]
    found = ratio_masks(levels, active, templates, n_classes=5, n_bands=40)
    assert torch.allclose(found.sum(dim=0), torch.ones(400, 40), atol=1e-5)
    together = slice(10, 20)
    assert float(found[3, together, 34].min()) > 0.9
    assert float(found[0, together, 6].min()) > 0.9
    assert prior[3, 22] > 2 * prior[0, 22]  # in general the click would be the hats'
    assert float(found[0, together, 22].min()) > 0.9


def test_shares_of_a_frame_depend_on_it_alone():
    generator = torch.Generator().manual_seed(0)
    levels, active = torch.rand(90, 40, generator=generator), torch.rand(90, 15, generator=generator)
    templates = nmf.normalised(torch.rand(15, 40, generator=generator))
    whole = ratio_masks(levels, active, templates, n_classes=5, n_bands=20)
    part = ratio_masks(levels[30:50], active[30:50], templates, n_classes=5, n_bands=20)
    assert torch.allclose(part, whole[:, 30:50], atol=1e-5)


def test_levels_are_those_of_the_features():
    settings = FeatureSettings()
    features = torch.zeros(1, 3, 4, 96)
    features[0, 0] = 1  # full scale
    features[0, 1] = 1 - 20 / 90  # 20 dB below
    levels = levels_of(features, settings)
    assert levels.shape == (1, 4, 192)
    assert torch.allclose(levels[..., :96], torch.ones(1))
    assert torch.allclose(levels[..., 96:], torch.tensor(10**-0.5))
