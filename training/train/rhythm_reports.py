"""What a rhythm transformer's run writes beside its log: fixed pairs as sound, attention as pictures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.data.kits import SAMPLE_RATE
from training.data.rhythm_pairs import render_scene
from training.data.synthesis import SegmentRecipe, render_batch
from training.score.measures import log_mel_db
from training.train.codec_reports import write_sound
from transform.confined import ConfinedFolder
from transform.files import appearing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN = 4  # pairs that are written


def show_shares(axes: Axes, shares: NDArray[np.float32], *, frame_s: float | None = None) -> None:
    """Draw what target frames attend to, shape (F, S), F from left to right, by square roots: little shows too.

    Args:
        axes: to draw in.
        shares: of attention.
        frame_s: how long a frame is, for axes in seconds; None: in frames.
    """
    extent = None if frame_s is None else (0, len(shares) * frame_s, 0, shares.shape[1] * frame_s)
    axes.imshow(np.sqrt(shares).T, origin="lower", aspect="auto", vmin=0, vmax=1, extent=extent, cmap="Greys")


class RhythmReports:
    """Writes into a run's folder at validations."""

    def __init__(
        self,
        folder: Path,
        sources: Sequence[SegmentRecipe],
        targets: Sequence[SegmentRecipe],
        wanted: Tensor,
    ) -> None:
        """Remember the pairs, the first of which are written, and their wanted attention (B, F, S + 1)."""
        self.folder, self._wanted = folder, wanted[:_SHOWN].cpu()
        self._sounds: list[dict[str, np.ndarray]] = []
        for source, target in zip(sources[:_SHOWN], targets, strict=False):
            original, pseudo = render_scene(source, [target])
            sounds = {"source": original.audio, "target": render_batch([target])[0], "wanted": pseudo.audio}
            self._sounds.append({name: audio.cpu().numpy() for name, audio in sounds.items()})

    def write(self, step: int, made: Sequence[np.ndarray], attention: Tensor, entry: dict[str, Any]) -> None:
        """Write what was made of the pairs, what was attended to (B, F, S + 1), and an entry for the log."""
        samples = self.folder / "samples"
        for i, (sounds, audio) in enumerate(zip(self._sounds, made, strict=False)):
            for name, sound in sounds.items():
                if not (first := samples / f"{i}_{name}.wav").exists():
                    write_sound(first, sound)
            write_sound(samples / f"{i}_{step:07}.wav", audio)
        with ConfinedFolder(self.folder).append("rhythm-terms.jsonl") as log:
            log.write(json.dumps({"step": step, **entry}) + "\n")
        self._draw(samples / f"{step:07}.png", made, attention[: len(self._wanted)].cpu())

    def _draw(self, path: Path, made: Sequence[np.ndarray], attention: Tensor) -> None:
        """Draw, for each pair, wanted attention and sound above what was attended to and made."""
        try:
            from matplotlib.figure import Figure
        except ImportError:
            return
        figure = Figure(figsize=(4 * len(self._sounds), 12), layout="constrained")
        axes = figure.subplots(4, len(self._sounds), squeeze=False)
        for i, sounds in enumerate(self._sounds):
            for row, (name, shares) in enumerate((("wanted", self._wanted[i]), ("attention", attention[i]))):
                show_shares(axes[row, i], shares.numpy())
                axes[row, i].set(title=f"{name} {i}", xlabel="target frame", ylabel="source frame")
            for row, (name, audio) in enumerate((("wanted", sounds["wanted"]), ("made", made[i])), start=2):
                extent = (0, len(audio) / SAMPLE_RATE, 0, 80)
                levels = log_mel_db(audio).T
                axes[row, i].imshow(levels, origin="lower", aspect="auto", vmin=-70, vmax=0, extent=extent)
                axes[row, i].set_title(f"{name} {i}")
        with appearing(path, overwrite=True) as temporary:
            figure.savefig(temporary, format="png", dpi=70)
