"""What all tests share: sounds made for them, so that every answer is known, and faults, which are counted.

With `REDRUM_EXAMPLES=2000`, so many examples of each fault are tried, other ones every time, and the summary of
pytest says how many there were and what became of them; without it a few are tried, always the same.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

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
# What stands where a reader expects a number, a name or a list.
STRANGE = (
    *("0", "-1", "-0.0", "1", "255", "nan", "inf", "-inf", "NaN", "Infinity", "1e308", "1e-320", "-1e30"),
    *("9" * 25, "9" * 5000, "0x10", "1_0", "\u00b2", "", '""', "''", "true", "null", "[]", "[[]]", "{}"),
    *("[" * 3000, '{"a":' * 3000, "<", ">", "..", "/", "\x00", "\x1a", "\ud800", "\u202e", "a" * 300),
)


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


@st.composite
def harmed(draw, data, is_text=False):
    """Draw a file's bytes with a fault in them: flipped bits, other bytes, a part missing or repeated."""
    start = draw(st.integers(0, len(data) - 1))
    stop = draw(st.integers(start, min(len(data), start + 40)))
    match draw(
        st.sampled_from([*("word", "word", "line") * is_text, "flip", "flip", "other", "cut", "all", "part"])
    ):
        case "word":
            text = data.decode("utf-8", "surrogateescape")
            word = draw(st.sampled_from(list(re.finditer(r"[-+.\w]+", text))))
            strange = draw(st.sampled_from(STRANGE))
            return (text[: word.start()] + strange + text[word.end() :]).encode("utf-8", "surrogatepass")
        case "line":
            lines = data.splitlines(keepends=True)
            first, other = draw(st.tuples(*[st.sampled_from(range(len(lines)))] * 2))
            lines[first : first + 1] = draw(st.sampled_from([[], [lines[other]], [lines[first], lines[other]]]))
            return b"".join(lines)
        case "flip":
            changed = bytearray(data)
            for bit in draw(st.lists(st.integers(0, 8 * len(data) - 1), min_size=1, max_size=8)):
                changed[bit // 8] ^= 1 << bit % 8
            return bytes(changed)
        case "other":
            return data[:start] + draw(st.binary(min_size=1, max_size=40)) + data[stop:]
        case "cut":
            return data[:start]
        case "all":
            return data[: draw(st.sampled_from([0, 4, 12, 40]))] + draw(st.binary(max_size=200))
        case _:
            return data[:start] + data[start:stop] * draw(st.sampled_from([0, 2, 9])) + data[stop:]


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
