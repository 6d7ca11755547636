import numpy as np
import pytest
import torch

from transform.features import DrumFeatures, FeatureSettings, mel_filters

RATE = 44_100


def features_of(audio):
    return DrumFeatures(FeatureSettings())(torch.as_tensor(audio, dtype=torch.float32)[None])[0]


def mel(hz):
    return 2595 * np.log10(1 + hz / 700)


@pytest.mark.parametrize("hz", [110.0, 1000.0, 5000.0, 12_000.0])
def test_a_sine_lights_its_band(hz):
    settings = FeatureSettings()
    edges = np.linspace(mel(settings.low_hz), mel(settings.high_hz), settings.n_bands + 2)
    band = int(np.abs(edges[1:-1] - mel(hz)).argmin())
    sine = features_of(np.sin(2 * np.pi * hz * np.arange(RATE) / RATE))[0]
    middle = sine[40:60].mean(dim=0)
    assert abs(int(middle.argmax()) - band) <= 1
    # A full-scale sine is near 1, and nothing like that two octaves away.
    assert 0.8 < middle.max() <= 1.01
    far = np.abs(np.log2((700 * (10 ** (edges[1:-1] / 2595) - 1)) / hz)) > 2
    assert middle[torch.from_numpy(far)].max() < 0.5


@pytest.mark.parametrize("n_samples", [1, 440, 441, 442, 44_100, 100_000])
def test_a_frame_a_hop_and_silence_is_0(n_samples):
    silent = features_of(np.zeros(n_samples))
    assert silent.shape == (3, n_samples // 441 + 1, 96)
    assert silent.abs().max() < 1e-5


def test_a_click_is_centred_on_its_frame_and_rises_there_alone():
    audio = np.zeros(RATE)
    audio[441 * 50] = 1.0
    long, short, rise = features_of(audio).mean(dim=2)
    assert long.argmax() == short.argmax() == 50
    assert rise.argmax() == 50 or rise.argmax() == 49  # the window of 512 samples reaches into frame 49's side
    assert torch.equal(short.nonzero()[:, 0], torch.arange(short.nonzero()[0, 0], short.nonzero()[-1, 0] + 1))
    assert not rise[52:].any()


def test_level_is_in_decibels():
    sine = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE)
    loud, soft = features_of(sine)[0, 50].max(), features_of(sine / 10)[0, 50].max()
    assert (loud - soft) * 90 == pytest.approx(20, abs=0.1)


@pytest.mark.parametrize("n_fft", [512, 2048])
def test_no_mel_filter_is_empty(n_fft):
    filters = mel_filters(n_fft, 96, 30.0, 18_000.0)
    assert filters.shape == (n_fft // 2 + 1, 96)
    assert torch.allclose(filters.sum(dim=0), torch.ones(96))
    assert (filters >= 0).all()
