"""How much memory a render takes: measured in a process of its own, which loads the models and renders once."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transform.events import Rhythm

Rhythms = NDArray[np.float32] | Rhythm
_ALONE = "from training.peak_memory import render_alone; render_alone()"


def peak_memory_mb(preset: str, source: NDArray[np.float32], rhythm: Rhythms, **settings: Any) -> float | None:
    """Return the most resident memory of a process that redrums a source, in MB; None where nobody can tell.

    Args:
        preset: whose models are loaded.
        source: mono, shape (T,), at 44.1 kHz.
        rhythm: a recording, as the source, or events.
        settings: fields of `RenderSettings`.
    """
    done = in_own_process(_ALONE, (preset, source, rhythm, settings))
    done.check_returncode()
    return float(done.stdout) if done.stdout else None


def in_own_process(code: str, payload: object) -> subprocess.CompletedProcess[bytes]:
    """Return what became of a new process that ran code of this project, its stdin a pickled payload."""
    places = os.pathsep.join([str(Path(__file__).resolve().parents[1]), *filter(None, sys.path)])
    return subprocess.run(
        [sys.executable, "-c", code],
        input=pickle.dumps(payload),
        capture_output=True,
        env=os.environ | {"PYTHONPATH": places},
        check=False,
    )


def render_alone() -> None:
    """Redrum what stdin holds and write the memory that it took to stdout; nothing where it cannot be done."""
    preset, source, rhythm, settings = pickle.load(sys.stdin.buffer)
    from transform.audio import SAMPLE_RATE, Recording
    from transform.engine import Redrummer, RenderSettings
    from transform.errors import RedrumError

    played = rhythm if isinstance(rhythm, Rhythm) else Recording.from_samples(rhythm, SAMPLE_RATE)
    try:
        recording = Recording.from_samples(source, SAMPLE_RATE)
        take = Redrummer.load(preset).redrum(recording, played, RenderSettings(**settings))
    except RedrumError:
        return  # what cannot be redrummed, the benchmark counts as failed
    for _ in take.blocks():
        pass
    if (peak := own_peak_mb()) is not None:
        sys.stdout.write(f"{peak:.1f}")


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
