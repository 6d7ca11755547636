import math

import pytest
import torch

from transform.pqmf import Pqmf


@pytest.fixture(scope="module")
def bank():
    return Pqmf()


def sine(hz, n_samples=16 * 512):
    return torch.sin(2 * math.pi * hz * torch.arange(n_samples) / 44_100)[None]


def test_bands_are_undone_exactly(bank):
    audio = torch.rand(2, 16 * 600, generator=torch.Generator().manual_seed(0)) * 2 - 1
    bands = bank.analyse(audio)
    assert bands.shape == (2, 16, 600)
    inner = slice(1000, -1000)  # at the ends, filters reach for bands that are not there
    error = (bank.synthesise(bands) - audio)[:, inner]
    assert 10 * torch.log10(error.square().mean() / audio.square().mean()) < -120


@pytest.mark.parametrize("band", [0, 5, 15])
def test_a_sine_is_about_one_in_its_own_band_and_far_below_elsewhere(bank, band):
    width_hz = 44_100 / 32
    levels = bank.analyse(sine((band + 0.5) * width_hz))[0, :, 50:-50].abs().amax(dim=-1)
    assert 0.8 < levels[band] < 1.2
    apart = [k for k in range(16) if abs(k - band) > 1]
    assert 20 * torch.log10(levels[apart].max()) < -45


def test_a_click_is_in_the_band_sample_of_its_own_place(bank):
    # The mean over the positions in a block of M samples of where the energy lies is the block itself.
    clicks = torch.zeros(16, 16 * 64)
    for i in range(16):
        clicks[i, 16 * 32 + i] = 1
    energy = bank.analyse(clicks).square().sum(dim=(0, 1))
    centre = (energy * torch.arange(64)).sum() / energy.sum()
    assert centre == pytest.approx(32, abs=1e-3)


def test_autocast_does_not_coarsen_the_bands(bank):
    audio = sine(440)
    with torch.autocast("cpu", torch.bfloat16):
        coarse = bank.synthesise(bank.analyse(audio).bfloat16().float())
        exact = bank.synthesise(bank.analyse(audio))
    assert exact.dtype == torch.float32
    assert torch.equal(exact, bank.synthesise(bank.analyse(audio)))
    assert not torch.equal(coarse, exact)
