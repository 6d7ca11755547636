"""What a codec's run writes beside its log: fixed recordings as sound and pictures, its latents."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from training.data.kits import SAMPLE_RATE
from training.score.codec import Original, keep
from training.score.measures import log_mel_db
from training.train.losses import divergence
from transform.codec import Codec, Encoded
from transform.confined import ConfinedFolder
from transform.files import appearing

_log = logging.getLogger(__name__)
_ACTIVE = 0.01  # variance of a channel's mean over frames above which it says something (Burda et al. 2016)
_SHOWN = 4  # recordings that are written as sound


class Reports:
    """Writes into a run's folder at validations."""

    def __init__(self, folder: Path, originals: Sequence[Original]) -> None:
        """Remember the recordings, the first of which are written as sound; all of them probe the latents."""
        self.folder = folder
        self._originals = originals

    def write(self, step: int, codec: Codec, terms: dict[str, float]) -> None:
        """Write what a codec makes of the recordings, its latents' divergence, and a step's loss terms."""
        found = [codec.encode(torch.from_numpy(original.audio)[None]) for original in self._originals]
        latents = Encoded(*(torch.cat(parts, dim=-1) for parts in zip(*found, strict=True)))
        by_channel = divergence(latents)
        n_active = int((latents.mu.var(dim=(0, 2)) > _ACTIVE).sum())
        entry = {
            "step": step,
            "kl": round(float(by_channel.sum()), 3),
            "active": n_active,
            "kl_by_channel": [round(value, 4) for value in by_channel.tolist()],
            "terms": terms,
        }
        with ConfinedFolder(self.folder).append("codec-latents.jsonl") as log:
            log.write(json.dumps(entry) + "\n")
        _log.info("step %d: KL %.1f nats a frame, %d active channels", step, entry["kl"], n_active)
        samples = self.folder / "samples"
        originals = [original.audio for original in self._originals[:_SHOWN]]
        decoded = [keep(codec, audio) for audio in originals]
        for i, (audio, made) in enumerate(zip(originals, decoded, strict=True)):
            if not (first := samples / f"{i}_original.wav").exists():
                write_sound(first, audio)
            write_sound(samples / f"{i}_{step:07}.wav", made)
        _draw(samples / f"{step:07}.png", originals, decoded, by_channel)


def write_sound(path: Path, audio: np.ndarray) -> None:
    """Write audio (T,) as a 16-bit WAV file, what is above full scale clipped."""
    with appearing(path, overwrite=True) as temporary:
        soundfile.write(temporary, np.clip(audio, -1, 1), SAMPLE_RATE, format="WAV", subtype="PCM_16")


def _draw(
    path: Path, originals: Sequence[np.ndarray], decoded: Sequence[np.ndarray], by_channel: Tensor
) -> None:
    """Draw spectrograms of recordings above what became of them, and the sorted divergence of the channels."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(12, 8), layout="constrained")
    grid = figure.add_gridspec(3, len(originals))
    for row, (name, sounds) in enumerate((("original", originals), ("decoded", decoded))):
        for i, audio in enumerate(sounds):
            axes = figure.add_subplot(grid[row, i])
            extent = (0, len(audio) / SAMPLE_RATE, 0, 80)
            axes.imshow(log_mel_db(audio).T, origin="lower", aspect="auto", vmin=-70, vmax=0, extent=extent)
            axes.set_title(f"{name} {i}", fontsize="small")
    axes = figure.add_subplot(grid[2, :])
    axes.bar(np.arange(len(by_channel)), by_channel.sort(descending=True).values.numpy())
    axes.set(xlabel="latent channel, sorted", ylabel="KL in nats a frame")
    with appearing(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=80)
