import numpy as np
import pytest
import torch

from transform.stft import N_HOPS, analyse, fft_size, synthesise


@pytest.mark.parametrize("hop", [1, 80, 221, 441, 480, 1920])
def test_sound_comes_back_exactly(hop):
    sound = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 20 * hop)).astype(np.float32))
    spectra = analyse(sound, hop)
    assert spectra.shape == (2, 17, fft_size(hop) // 2 + 1)
    back = synthesise(spectra, hop)
    assert back.shape == sound.shape
    inside = slice((N_HOPS - 1) * hop, -(N_HOPS - 1) * hop)
    assert torch.allclose(back[:, inside], sound[:, inside], atol=1e-5)


def test_a_window_fits_its_transform():
    assert [fft_size(hop) for hop in (1, 80, 441, 512, 513)] == [4, 512, 2048, 2048, 4096]


def test_a_frame_is_where_it_says():
    sound = torch.zeros(100 * 441)
    sound[40 * 441] = 1.0
    level = analyse(sound, 441).abs().sum(dim=-1)
    assert level.argmax() == 40 - N_HOPS // 2  # in the middle of the window that begins two hops before
    assert level.nonzero()[:, 0].tolist() == [37, 38, 39]
