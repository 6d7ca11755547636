"""Pictures of results, written as PNG where there is matplotlib."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from training.data.kits import SAMPLE_RATE
from training.score.measures import log_mel_db
from transform.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)


def write_picture(
    path: Path, size: tuple[float, float], draw: Callable[[Figure], None], *, dpi: float = 100
) -> bool:
    """Write a figure as PNG and return True, or False where there is no matplotlib.

    Args:
        path: the file, which is replaced.
        size: width and height in inches.
        draw: draws in the empty figure.
        dpi: dots an inch.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        _log.info("no %s: matplotlib is not installed", path.name)
        return False
    figure = Figure(figsize=size, layout="constrained", facecolor="white")
    draw(figure)
    with atomic_file(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=dpi, metadata={"Software": None})
    return True


def show_spectrogram(axes: Axes, audio: NDArray[np.floating]) -> None:
    """Draw the log-mel levels of audio (T,) over seconds."""
    extent = (0, len(audio) / SAMPLE_RATE, 0, 80)
    axes.imshow(log_mel_db(audio).T, origin="lower", aspect="auto", vmin=-70, vmax=0, extent=extent)


def show_attention(axes: Axes, weights: NDArray[np.float32], *, frame_s: float | None = None) -> None:
    """Draw attention weights (F, S) of target frames, F from left to right, by square roots: little shows too.

    Args:
        axes: to draw in.
        weights: of attention.
        frame_s: how long a frame is, for axes in seconds; None: in frames.
    """
    extent = None if frame_s is None else (0, len(weights) * frame_s, 0, weights.shape[1] * frame_s)
    axes.imshow(np.sqrt(weights).T, origin="lower", aspect="auto", vmin=0, vmax=1, extent=extent, cmap="Greys")
