import math

import pytest
import torch

from training.train.discriminators import (
    DiscriminatorConfig,
    Discriminators,
    adversarial_loss,
    detached,
    discriminator_loss,
    feature_loss,
)

SMALL = DiscriminatorConfig(windows=(512, 256), width=4)


@pytest.fixture
def nets():
    torch.manual_seed(0)
    return Discriminators(SMALL)


def judged(*verdicts):
    """Return judgements of one feature each and the given verdicts."""
    return [[torch.ones(1, 2), torch.full((1, 3), verdict)] for verdict in verdicts]


def test_every_window_judges_in_five_bands(nets):
    audio = torch.rand(2, 8192) - 0.5
    judgement = nets(audio, audio.abs().amax(dim=1))
    assert len(judgement) == 2
    assert all(len(features) == 5 * 5 + 1 for features in judgement)
    assert judgement[0][-1].shape[:3] == (2, 1, 8192 // 128 + 1)
    assert DiscriminatorConfig().windows == (2048, 1024, 512, 256)


def test_hinges_are_known():
    assert float(discriminator_loss(judged(-1.0, -2.0), judged(1.0, 3.0))) == 0
    assert float(discriminator_loss(judged(0.0), judged(0.0))) == 2
    assert float(discriminator_loss(judged(1.0), judged(-1.0))) == 4
    assert float(adversarial_loss(judged(0.5, 1.5))) == -1


def test_feature_loss_is_relative():
    ours = [[torch.full((2, 3), 1.5), torch.full((1,), 9.0)]]
    theirs = [[torch.full((2, 3), 1.0), torch.full((1,), -9.0)]]  # verdicts do not count
    assert float(feature_loss(ours, theirs)) == pytest.approx(0.5)
    assert float(feature_loss(theirs, theirs)) == 0


def test_the_level_of_a_recording_does_not_matter(nets):
    audio = torch.rand(1, 4096) - 0.5
    loud, quiet = (nets(gain * audio, (gain * audio).abs().amax(dim=1))[0][-1] for gain in (1.0, 0.1))
    assert torch.allclose(loud, quiet, atol=1e-4)


def test_silence_is_judged(nets):
    silence = torch.zeros(1, 4096, requires_grad=True)
    judgement = nets(silence, torch.zeros(1))
    loss = adversarial_loss(judgement) + feature_loss(judgement, detached(judgement))
    loss.backward()
    assert math.isfinite(float(loss.detach()))
    assert silence.grad.isfinite().all()


@pytest.mark.slow
def test_discriminators_learn_to_tell(nets):
    generator = torch.Generator().manual_seed(0)
    optimiser = torch.optim.AdamW(nets.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        noise = torch.rand(2, 4096, generator=generator) - 0.5
        clicks = torch.zeros(2, 4096)
        clicks[:, ::512] = 0.5
        ones = torch.ones(2)
        loss = discriminator_loss(nets(noise, ones), nets(clicks, ones))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(not f.requires_grad for features in detached(nets(noise, ones)) for f in features)
