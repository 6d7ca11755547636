from itertools import pairwise

import numpy as np
import pytest
import torch

from transform.noise import Noise, channel_coherence, noise_spectra, white_noise
from transform.stft import analyse, synthesise

CPU = torch.device("cpu")
HOP, N_BINS = 128, 257


def samples(first, length, *, seed=0, channel=0):
    return white_noise(first, length, seed=seed, channel=channel, device=CPU)


def spectra(noise, n_channels=1, first_frame=0, n_frames=2000, first_bin=24):
    like = torch.zeros(n_channels, n_frames, N_BINS - first_bin)
    return noise_spectra(like, noise, first_frame=first_frame, hop=HOP, first_bin=first_bin)


def test_a_sample_follows_from_its_number_by_integers_alone():
    def mixed(x):
        x ^= x >> 16
        x = x * 0x21F0AAAD % 2**32
        x ^= x >> 15
        x = x * 0xD35A2D97 % 2**32
        return x ^ x >> 15

    seed, channel = 7 + 5 * 2**32, 3
    key = mixed(mixed(mixed(0x9E3779B9 ^ 7) ^ 5) ^ channel)
    bits = [mixed(mixed(n % 2**32) ^ key) for n in (-2, -1, 0, 1, 2**31)]
    expected = [((x & 0xFFFF) + (x >> 16) - 0xFFFF) / (2**32 / 6) ** 0.5 for x in bits]
    found = torch.cat(
        [samples(-2, 4, seed=seed, channel=channel), samples(2**31, 1, seed=seed, channel=channel)]
    )
    assert torch.allclose(found, torch.tensor(expected), atol=1e-6)


def test_blocks_have_the_noise_of_the_whole_to_the_bit():
    whole = samples(-300, 10_000)
    assert torch.equal(whole[300:5000], samples(0, 4700))
    frames = spectra(Noise(coherence=(0.5,)), 2, n_frames=40)
    later = spectra(Noise(coherence=(0.5,)), 2, first_frame=13, n_frames=20)
    assert torch.equal(frames[:, 13:33], later)
    # A channel that is made alone is that of all.
    alone = spectra(Noise(coherence=(0.5,), first_channel=1), 1, n_frames=40)
    assert torch.equal(frames[1:], alone)


def test_it_is_white_and_another_seed_or_channel_is_another():
    noises = [samples(0, 2**18), samples(0, 2**18, seed=1), samples(0, 2**18, channel=1), samples(2**20, 2**18)]
    noises.append(samples(1, 2**18))  # the next sample is another one, too
    for noise in noises:
        assert float(noise.mean()) == pytest.approx(0, abs=0.01)
        assert float(noise.square().mean()) == pytest.approx(1, abs=0.01)
        bands = torch.fft.rfft(noise).abs().square()[1:].reshape(16, -1).mean(dim=1) / 2**18
        assert torch.allclose(bands, torch.ones(16), atol=0.05)
    for one, other in pairwise(noises):
        assert abs(float((one * other).mean())) < 0.01


def test_the_same_magnitude_everywhere_is_white_noise_of_that_magnitude():
    sound = synthesise(spectra(Noise(), first_bin=0), HOP)[0]
    # Frame 0 begins 1.5 hops before sample 0. Windows of four hops have the power 192.
    expected = samples(-HOP * 3 // 2, len(sound)) / 192**0.5
    inner = slice(8 * HOP, -8 * HOP)
    assert torch.allclose(sound[inner], expected[inner], atol=1e-5)
    assert float(analyse(sound[inner], HOP).abs().square()[:, 1:-1].mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("coherence", [(1.0,), (0.0,), (0.6,), (0.9, 0.5, 0.1)])
def test_channels_are_as_coherent_as_requested_in_each_octave(coherence):
    made = spectra(Noise(coherence=coherence), 2, n_frames=6000).expand(2, -1, -1)
    whole = torch.cat((torch.zeros(2, 6000, 24, dtype=made.dtype), made), dim=-1)
    found = channel_coherence(synthesise(whole, HOP), 44_100, 24 * 44_100 / 512)
    assert len(found) == 4  # from 2 kHz on: 2, 4, 8 and 16 to 22 kHz
    for octave, together in enumerate(found):
        assert together == pytest.approx(coherence[min(octave, len(coherence) - 1)], abs=0.05)
    levels = made.abs().square().mean(dim=(1, 2))
    assert torch.allclose(levels, torch.ones(2) * levels[0], rtol=0.05)


def test_coherence_of_recordings():
    chance = np.random.default_rng(0)
    a, b, c = torch.from_numpy(chance.standard_normal((3, 88_200))).float() * 0.1
    assert channel_coherence(a[None], 44_100, 2000) == (1.0,)
    assert channel_coherence(torch.stack((a, 0.2 * a)), 44_100, 2000) == pytest.approx((1.0,) * 4, abs=1e-3)
    assert channel_coherence(torch.stack((a, b, c)), 44_100, 2000) == pytest.approx((0.0,) * 4, abs=0.05)
    assert channel_coherence(torch.stack((a, -a)), 44_100, 2000) == (0.0,) * 4
    half = torch.stack((a + b, a + c))  # half of the power is common
    assert channel_coherence(half, 44_100, 2000) == pytest.approx((0.5,) * 4, abs=0.05)
    assert channel_coherence(torch.zeros(2, 4410), 44_100, 2000) == (1.0,) * 4
    assert channel_coherence(torch.zeros(2, 10), 44_100, 2000) == (1.0,)
