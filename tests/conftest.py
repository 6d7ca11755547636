"""Sounds made for the tests, so that every answer is known."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile


def make_clicks(
    onsets_s: Sequence[float], sample_rate: int = 44_100, n_channels: int = 1, length_s: float | None = None
) -> np.ndarray:
    """Return clicks in silence, shape (C, T): each starts at its loudest sample and decays in 10 ms.

    Channel c is 0.9**c times the first. Without `length_s` the sound ends half a second after the last click.
    """
    if length_s is None:
        length_s = max(onsets_s, default=0.0) + 0.5
    n_samples = round(length_s * sample_rate)
    n_click = max(2, round(0.010 * sample_rate))
    decay = np.arange(n_click) / n_click
    noise = np.random.default_rng(0).uniform(-1, 1, n_click)
    click = 0.6 * np.exp(-20 * decay) + 0.2 * noise * np.exp(-6 * decay)
    click[0] = 0.8
    mono = np.zeros(n_samples + n_click)
    for onset_s in onsets_s:
        at = round(onset_s * sample_rate)
        mono[at : at + n_click] += click[: len(mono) - at]
    return (0.9 ** np.arange(n_channels)[:, None] * mono[:n_samples]).astype(np.float32)


@pytest.fixture
def clicks() -> Callable[..., np.ndarray]:
    return make_clicks


@pytest.fixture
def write_wav(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes samples (C, T) or (T,) under `tmp_path`, the container by the ending."""

    def write(
        name: str, samples: np.ndarray, sample_rate: int = 44_100, subtype: str | None = "PCM_24"
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.atleast_2d(samples).T, sample_rate, subtype=subtype)
        return path

    return write
