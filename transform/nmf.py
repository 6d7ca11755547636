"""What a recording's own drums explain of it: non-negative matrix factorisation, informed by transcription.

A recording's levels are explained as templates times activations, both non-negative, by multiplicative updates
that lower the Kullback-Leibler divergence (Lee and Seung, NIPS 2000). A component of a class is active from
just before each onset on, as strongly as the transcriber is sure of it, with a decay of its own: attack, body
or tail; updates only scale that. This is score-informed NMF for drums (Dittmar and Mueller, IEEE/ACM TASLP
2016), with components of different decay for their convolutive templates and a transcriber for their score.

Templates are learned once for a recording; what they explain of a frame depends on that frame alone, so that a
long recording is read in blocks with the result of one pass.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from transform.features import FeatureSettings

_DECAYS_S = (0.03, 0.12, 0.5)  # of a class's components after an onset
# Tuned on 24 recordings of the validation side, where the baseline of training/score/nmf.py, which has no
# network, has a mean SI-SDR of 5.7 dB; in brackets what another value had.
COMPRESSION = 0.5  # exponent of the magnitudes that are factorised: what is loud must not decide all (1: 4.5)
EXPONENT = 2.0  # of what each class explains, for its mask (1.5: 5.4, 3: 5.5)
_TRUST = 0.7  # exponent of a probability; the smaller, the more doubts count (0.5: 5.6, 1: 5.4)
_FLOOR = 0.003  # of the activations, so that what was not transcribed can be found (0: 5.6)
_PRIOR = 0.8  # weight of the general templates in the initial ones (0: 4.6, 0.5: 5.5, 0.9: 5.6)
_EARLY = 2  # frames by which components precede an onset
_N_LEARNING, _N_EXPLAINED = 15, 8  # iterations (8 and 25 of the first: 5.5, 5.2)
_TINY = 1e-9


def factorised(
    levels: Tensor, activations: Tensor, templates: Tensor, *, n_iterations: int, is_adaptive: bool = True
) -> tuple[Tensor, Tensor]:
    """Return activations and templates whose product is near the levels.

    Args:
        levels: shape (..., F, K).
        activations: to begin with, shape (..., F, R); what is zero stays zero.
        templates: to begin with, shape (..., R, K), each of sum 1.
        n_iterations: how often all are updated.
        is_adaptive: the templates are updated, too.
    """
    for _ in range(n_iterations):
        ratio = levels / (activations @ templates).add_(_TINY)
        activations = activations * (ratio @ templates.mT)
        if is_adaptive:
            ratio = levels / (activations @ templates).add_(_TINY)
            templates = normalised(templates * (activations.mT @ ratio))
    return activations, templates


def normalised(templates: Tensor) -> Tensor:
    """Return templates (..., K) of sum 1."""
    return templates / templates.sum(dim=-1, keepdim=True).clamp_min(_TINY)


def decaying(probability: Tensor, *, fps: float, early: int = _EARLY) -> Tensor:
    """Return the probability of onsets (..., F) as activations (..., R, F): the highest so far, decayed."""
    ahead = functional.pad(probability, (0, early)).unfold(-1, early + 1, 1).amax(dim=-1).clamp_min(_TINY).log()
    age_s = torch.arange(probability.shape[-1], device=probability.device) / fps
    logs = [torch.cummax(ahead + age_s / decay_s, dim=-1).values - age_s / decay_s for decay_s in _DECAYS_S]
    return torch.stack(logs, dim=-2).exp()


def active_components(probability: Tensor, *, fps: float, early: int = _EARLY) -> Tensor:
    """Return where components may be active, given the probability of onsets (..., 5, F): (..., F, 5 * R)."""
    return _FLOOR + decaying(probability.pow(_TRUST), fps=fps, early=early).flatten(-3, -2).mT


def levels_of(features: Tensor, settings: FeatureSettings) -> Tensor:
    """Return the levels (B, F, W * K) in features (B, C, F, K) of W windows, compressed."""
    decibels = (features[:, : len(settings.windows)] - 1) * -settings.floor_db
    return (10 ** (decibels * (COMPRESSION / 20))).transpose(1, 2).flatten(2)


def learn_templates(levels: Tensor, active: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
    """Return the activations (..., F, 5 * R) and templates (..., 5 * R, K) of a recording.

    Args:
        levels: shape (..., F, K).
        active: where components may be active, shape (..., F, 5 * R).
        prior: general templates of the classes, shape (5, K).

    The components of a class lie side by side.
    """
    general = normalised(prior).repeat_interleave(active.shape[-1] // len(prior), dim=0)
    own = normalised(active.mT @ levels)
    templates = normalised(torch.lerp(own, general, _PRIOR))
    return factorised(levels, active, templates, n_iterations=_N_LEARNING)


def ratio_masks(levels: Tensor, active: Tensor, templates: Tensor, *, n_classes: int, n_bands: int) -> Tensor:
    """Return the ratio mask of each class for levels (..., F, K) that templates (..., 5 * R, K) explain.

    Masks are those of the first `n_bands` of them, shape (..., 5, F, n_bands), and sum to one.
    """
    scaled, _ = factorised(levels, active, templates, n_iterations=_N_EXPLAINED, is_adaptive=False)
    powers = explained(scaled, templates[..., :n_bands], n_classes=n_classes).pow(EXPONENT) + _TINY
    return powers / powers.sum(dim=-3, keepdim=True)


def explained(activations: Tensor, templates: Tensor, *, n_classes: int) -> Tensor:
    """Return the levels (..., 5, F, K) that each class's components explain."""
    own = zip(activations.chunk(n_classes, dim=-1), templates.chunk(n_classes, dim=-2), strict=True)
    return torch.stack([active @ sounds for active, sounds in own], dim=-3)
