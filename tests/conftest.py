"""What all tests share: sounds made for them, so that every answer is known, and faults, which are counted.

With `REDRUM_EXAMPLES=2000`, so many examples of each fault are tried, other ones every time, and the summary of
pytest says how many there were and what became of them; without it a few are tried, always the same.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from tests.mutate.faults import harm
from transform.errors import RedrumError

EXAMPLES = os.environ.get("REDRUM_EXAMPLES")
settings.register_profile(
    "redrum",
    max_examples=int(EXAMPLES or 20),
    deadline=None,
    derandomize=EXAMPLES is None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("redrum")

TRIED: dict[str, Counter[str]] = defaultdict(Counter)


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


def harmed(data, is_text=False):
    """Return the strategy of a file's bytes with a fault in them."""
    return st.randoms(use_true_random=False).map(lambda chance: harm(chance, data, is_text))


@pytest.fixture(scope="session")
def fault():
    """Return the strategy of a file's bytes with a fault in them."""
    return harmed


@pytest.fixture(scope="session")
def survives():
    """Return a function that reads what is faulty, counts it, and returns what was read, or None if refused."""

    def read_or_refuse(what, read, *arguments, done="read"):
        found = sentence = None
        try:
            found = read(*arguments)
        except RedrumError as err:
            sentence = err.message
        assert sentence is None or (sentence and "\n" not in sentence)
        TRIED[what][done if sentence is None else "refused"] += 1
        return found

    return read_or_refuse


@pytest.fixture(scope="session")
def happened():
    """Return a function that counts an outcome; its `many` says how often to try, None for a few times."""

    def count(what, outcome, times):
        TRIED[what][outcome] += times

    count.many = None if EXAMPLES is None else int(EXAMPLES)
    return count


def pytest_terminal_summary(terminalreporter):
    if EXAMPLES is None or not TRIED:
        return
    terminalreporter.section("faults")
    for what, became in sorted(TRIED.items()):
        how = ", ".join(f"{count} {outcome}" for outcome, count in sorted(became.items()))
        terminalreporter.line(f"{what}: {how}")
