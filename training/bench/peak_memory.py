"""How much memory a render takes: measured in a process of its own, which loads the models and renders once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from transform.errors import CheckpointError, RedrumError
from transform.events import Rhythm

Rhythms = NDArray[np.float32] | Rhythm
_T = TypeVar("_T")


def peak_memory_mb(preset: str, source: NDArray[np.float32], rhythm: Rhythms, **settings: Any) -> float | None:
    """Return the most resident memory of a process that redrums a source, in MB; None where it is unknown.

    Args:
        preset: whose models are loaded.
        source: mono, shape (T,), at 44.1 kHz.
        rhythm: a recording, as the source, or events.
        settings: fields of `RenderSettings`.
    """
    return in_own_process("render", _render, preset, source, rhythm, settings)


def in_own_process(what: str, work: Callable[..., _T], *given: object) -> _T:
    """Return what a function returns in a new process.

    Args:
        what: is done, for a message.
        work: a function at the top of a module.
        given: its arguments.

    Raises:
        CheckpointError: it failed.
    """
    try:
        with ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn")) as pool:
            return pool.submit(work, *given).result()
    except RedrumError:
        raise
    except Exception as err:  # whatever went wrong over there
        raise CheckpointError(
            f"the {what} failed: {err or type(err).__name__}",
            hint="redrum a recording with the same preset to see what is wrong",
        ) from err


def _render(
    preset: str, source: NDArray[np.float32], rhythm: Rhythms, settings: Mapping[str, Any]
) -> float | None:
    """Redrum a source and return the memory that it took; None where it cannot be done."""
    from transform.audio import SAMPLE_RATE, Recording
    from transform.engine import Redrummer
    from transform.settings import RenderSettings

    played = rhythm if isinstance(rhythm, Rhythm) else Recording.from_samples(rhythm, SAMPLE_RATE)
    try:
        recording = Recording.from_samples(source, SAMPLE_RATE)
        take = Redrummer.load(preset).redrum(recording, played, RenderSettings(**settings))
    except RedrumError:
        return None  # what cannot be redrummed, the benchmark counts as failed
    for _ in take.blocks():
        pass
    return own_peak_mb()


def own_peak_mb() -> float | None:
    """Return the most resident memory that this process has had."""
    try:
        # Not ru_maxrss, which begins with the parent's.
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))) / 1024
    except (OSError, StopIteration):
        pass  # no Linux
    try:
        import resource
    except ImportError:
        return None  # Windows
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)
