import math
from dataclasses import replace

import pytest
import torch

from training.train import losses
from training.train.losses import (
    SpectralLoss,
    attack_losses,
    divergence,
    divergence_weight,
    envelope,
    with_noises,
)
from transform.codec import Encoded, GeneratorNet
from transform.codec_config import CodecConfig

ONSET = 11_000  # samples: frame 250 of 1 ms


@pytest.fixture(scope="module")
def spectra():
    return SpectralLoss()


@pytest.fixture
def noise():
    return torch.rand(2, 16_384, generator=torch.Generator().manual_seed(0)) - 0.5


@pytest.fixture
def stroke():
    """Return a noise that starts at `ONSET` and decays."""
    sound = torch.zeros(1, 32_768)
    n = 32_768 - ONSET
    white = torch.rand(n, generator=torch.Generator().manual_seed(0)) - 0.5
    sound[0, ONSET:] = white * torch.exp(-torch.arange(n) / 3000)
    return sound


def attack(output, target, onsets=((ONSET, -1),)):
    terms = attack_losses(output, target, torch.tensor(onsets))
    return float(terms["attack"]), float(terms["pre_echo"])


def test_what_is_the_same_is_at_no_distance(spectra, noise):
    assert all(float(term) == 0 for term in spectra(noise, noise).values())
    assert set(spectra(noise, noise)) == {"mel", "stft", "bands", "wave"}


def test_half_the_amplitude_is_known_at_every_scale(spectra, noise):
    terms = spectra(0.5 * noise, noise)
    halved = math.log(2)
    assert float(terms["mel"]) == pytest.approx(halved, rel=0.01)
    # The relative error of half the magnitude is a half.
    assert float(terms["stft"]) == pytest.approx(halved + 0.5, rel=0.02)
    assert float(terms["bands"]) == pytest.approx(halved + 0.5, rel=0.02)


def test_polarity_is_known_by_the_waveform_of_the_low_bands_alone(spectra, noise):
    terms = spectra(-noise, noise)
    assert float(terms["wave"]) == pytest.approx(2, rel=1e-3)
    assert float(terms["mel"]) == float(terms["stft"]) == 0
    spectrum = torch.fft.rfft(noise)
    spectrum[:, : int(0.2 * spectrum.shape[1])] = 0  # 4.4 kHz
    low, high = torch.sin(torch.arange(16_384) * 0.05)[None], torch.fft.irfft(spectrum)
    assert float(spectra(low - high, low + high)["wave"]) < 0.01


def test_a_missing_band_costs_most_within_bands(spectra, noise):
    spectrum = torch.fft.rfft(noise)
    spectrum[:, int(0.9 * spectrum.shape[1]) :] = 0
    terms = spectra(torch.fft.irfft(spectrum), noise)
    assert float(terms["bands"]) > 0.05
    assert float(terms["stft"]) > 0.05


@pytest.mark.parametrize("silent", ["output", "target", "both"])
def test_silence_has_finite_losses_and_gradients(spectra, noise, silent):
    output = (torch.zeros_like(noise) if silent != "target" else noise.clone()).requires_grad_()
    target = torch.zeros_like(noise) if silent != "output" else noise
    onsets = torch.tensor([[8000], [-1]])
    terms = spectra(output, target) | attack_losses(output, target, onsets)
    total = sum(terms.values())
    total.backward()
    assert total.isfinite()
    assert output.grad.isfinite().all()
    if silent == "both":
        assert float(total.detach()) == 0


def test_one_silent_recording_does_not_drown_the_others(spectra, noise):
    target = torch.stack((noise[0], torch.zeros(16_384)))
    output = torch.stack((noise[0], 1e-3 * noise[1]))  # -66 dB where there should be nothing
    assert sum(float(term) for term in spectra(output, target).values()) < 25


def test_any_length_is_fine(spectra):
    assert all(term.isfinite() for term in spectra(torch.rand(1, 16 * 777), torch.rand(1, 16 * 777)).values())


def test_attacks_half_as_loud_are_known(stroke):
    known, pre_echo = attack(0.5 * stroke, stroke)
    # Two thirds of the frames are after the onset; those before are silent in both.
    assert known == pytest.approx(math.log(2) * 20 / 30, rel=0.05)
    assert pre_echo == 0


def test_a_late_attack_costs(stroke):
    late = torch.roll(stroke, 220, dims=1)
    assert attack(late, stroke)[0] > 0.7


def test_pre_echo_is_what_is_louder_than_it_may_be(stroke):
    echo = stroke.clone()
    level = float(stroke[0, ONSET : ONSET + 880].square().mean().sqrt())
    echo[0, ONSET - 600 : ONSET] = 10 ** (-30 / 20) * level
    assert attack(echo, stroke)[1] == pytest.approx(2.0, abs=0.15)  # 20 dB above what is masked
    quiet = stroke.clone()
    quiet[0, ONSET - 600 : ONSET] = 10 ** (-55 / 20) * level
    assert attack(quiet, stroke)[1] == 0
    before = torch.clone(echo)
    assert attack(0.9 * echo, before)[1] == 0  # the target's own sound before the onset is no echo


def test_only_known_onsets_count(stroke):
    assert attack(0.5 * stroke, stroke, ((-1, -1),)) == (0, 0)
    assert attack(0.5 * stroke, stroke, ((5, 32_760),)) == (0, 0)  # too near the borders
    far = attack(0.5 * stroke, stroke, ((3000, -1),))
    assert far == (0, 0)  # silence there


def test_batches_without_onsets_have_a_gradient():
    output = torch.rand(1, 4410, requires_grad=True)
    sum(attack_losses(output, torch.rand(1, 4410), torch.full((1, 1), -1)).values()).backward()
    assert float(output.grad.abs().max()) == 0


def test_envelopes_are_mean_squares_of_milliseconds():
    audio = torch.cat((torch.full((1, 44), 0.5), torch.full((1, 44), -2.0), torch.ones(1, 20)), dim=1)
    assert envelope(audio).tolist() == [[0.25, 4.0]]


def test_divergence_of_normals_is_known():
    mu, sigma = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([1.0, 1.0, 2.0])
    encoded = Encoded(
        *(value[None, :, None].expand(4, 3, 7) for value in (mu, sigma)), activations=torch.zeros(1)
    )
    assert divergence(encoded).tolist() == pytest.approx([0, 0.5, 0.5 * (4 - 1 - math.log(4))])


def test_the_weight_of_the_divergence_rises_by_equal_ratios():
    weights = [divergence_weight(step, first=1e-6, last=5e-3, warm_up=100) for step in (0, 50, 100, 1000)]
    assert weights == pytest.approx([1e-6, math.sqrt(1e-6 * 5e-3), 5e-3, 5e-3])
    assert divergence_weight(0, first=1e-6, last=5e-3, warm_up=0) == pytest.approx(1e-6)


def test_of_two_noises_the_loss_is_least_at_the_targets_mean_power():
    # White noise is the target, and what is made is white noise of its own at a gain.
    spectra, chance = SpectralLoss(2000.0), torch.Generator().manual_seed(0)
    slopes = {"mel": [], "noise": []}
    for gain_db in (-2.0, 0.0, 2.0):
        target, output, other = 0.1 * torch.randn(3, 8, 16_384, generator=chance)
        gain = torch.tensor(10 ** (gain_db / 20), requires_grad=True)
        terms = spectra(gain * output, target, (gain * other).detach())
        for name, found in slopes.items():
            found.append(float(torch.autograd.grad(terms[name], gain, retain_graph=True)[0]))
    for name, (soft, right, loud) in slopes.items():
        assert soft < -0.1 < 0.1 < loud, name
        assert abs(right) < 0.25 * min(-soft, loud), name


def test_without_noise_two_outputs_are_judged_as_one(spectra, noise, stroke):
    terms = SpectralLoss(21_000.0)(0.5 * noise, noise, 0.5 * noise)
    alone = spectra(0.5 * noise, noise)
    assert float(terms["mel"]) == pytest.approx(float(alone["mel"]))
    assert float(terms["stft"]) == pytest.approx(float(alone["stft"]), rel=0.05)
    onsets = torch.tensor(((ONSET, -1),))
    one, two = (
        attack_losses(0.5 * stroke, stroke, onsets),
        attack_losses(0.5 * stroke, stroke, onsets, 0.5 * stroke),
    )
    assert float(one["attack"]) == pytest.approx(float(two["attack"]))


def test_the_waveform_is_judged_below_the_noise_alone():
    high, low = (torch.sin(2 * math.pi * hz * torch.arange(16_384) / 44_100)[None] for hz in (2400.0, 400.0))
    for noise_from_hz, is_judged in ((0.0, True), (2000.0, False), (4000.0, False)):
        wave = SpectralLoss(noise_from_hz)(low - high, low + high)["wave"]
        assert (float(wave) > 0.5) == is_judged


def test_a_training_step_has_two_noises_and_every_item_its_own():
    torch.manual_seed(0)
    config = CodecConfig(n_latents=4, widths=(4, 4, 4, 4, 4), generator_widths=(8, 8), generator_blocks=(1, 1))
    latents = torch.randn(1, 4, 8).expand(2, -1, -1)
    output, other = with_noises(GeneratorNet(replace(config, noise_from_hz=2000.0)), latents, step=3)
    sounds = [*output, *other]
    assert all(not torch.allclose(a, b, atol=1e-3) for i, a in enumerate(sounds) for b in sounds[:i])
    assert output.requires_grad
    assert not other.requires_grad
    output, other = with_noises(GeneratorNet(config), latents, step=3)
    assert other is None
    assert torch.equal(*output)


def test_noise_may_begin_in_the_lowest_band():
    loss = SpectralLoss(1_000.0)
    time_s = torch.arange(16_384) / 44_100
    low = torch.sin(2 * math.pi * 200 * time_s)[None]
    high, other = (torch.randn(1, 16_384, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    high, other = (0.1 * (x - losses._below(x, 1_200.0)) for x in (high, other))
    terms = loss(low + high, low + other, low + other)
    assert all(bool(value.isfinite()) for value in terms.values())
    assert float(terms["wave"]) < 0.01  # the noise is not judged by its waveform
    assert float(loss(0.5 * low + high, low + other, low + other)["wave"]) == pytest.approx(0.5, abs=0.05)


def test_between_the_waveform_and_the_noise_the_right_power_costs_least():
    loss = SpectralLoss(2_000.0)
    ours, theirs = (torch.randn(1, 32_768, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    ours, theirs = (0.1 * (losses._below(x, 1_900.0) - losses._below(x, 900.0)) for x in (ours, theirs))
    low, costs = 0.3 * torch.sin(torch.arange(32_768) * 0.015)[None], []
    for gain in (0.25, 0.5, 1.0, 2.0):
        terms = loss(low + gain * ours, low + theirs, low + gain * ours)
        assert float(terms["wave"]) < 0.05  # what cannot be foretold is not judged by its waveform
        costs.append(float(terms["noise"]))
    assert costs[2] == min(costs)
    assert costs[0] > costs[1] > costs[2] + 0.2
