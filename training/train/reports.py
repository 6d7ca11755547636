"""What a run writes beside its checkpoint: curves, and at validations what became of fixed recordings."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from training.data.kits import SAMPLE_RATE
from training.data.rhythm_pairs import render_scene
from training.data.synthesis import SegmentRecipe, render_batch
from training.picture import show_attention, show_spectrogram, write_picture
from training.score.codec import Original, round_trip
from training.train.losses import divergence
from transform.codec import Codec, Encoded
from transform.confined import ConfinedFolder
from transform.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_log = logging.getLogger(__name__)
_ACTIVE = 0.01  # variance of a channel's mean over frames above which it is in use (Burda et al. 2016)
_LEGEND_COLUMNS = 5
N_DRAWN = 4  # recordings of which spectrograms are drawn
_N_SHOWN = 4  # recordings or pairs that are written as sound


def read_log(log: Path) -> list[dict[str, Any]]:
    """Return the entries of a training log by step; of a step that was made twice, the later entry.

    A line that was cut off by a crash is left out.
    """
    entries: dict[int, dict[str, Any]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            entries[entry["step"]] = entry
        except (ValueError, TypeError, KeyError):
            _log.info("%s: a line cannot be read and is left out", log.name)
    return [entries[step] for step in sorted(entries)]


def draw_curves(log: Path, picture: Path) -> bool:
    """Draw loss and scores over steps as PNG and return True, or False where there is no matplotlib."""
    entries = read_log(log)
    scores: dict[str, list[tuple[int, float]]] = {}
    for entry in entries:
        found: Mapping[str, float] = entry.get("scores", {})
        for name, score in found.items():
            scores.setdefault(name, []).append((entry["step"], score))

    def draw(figure: Figure) -> None:
        loss_axes, score_axes = figure.subplots(2, 1, sharex=True)
        loss_axes.plot([e["step"] for e in entries], [e["loss"] for e in entries], linewidth=0.8)
        loss_axes.set_ylabel("loss")
        for name, points in scores.items():
            style = {"color": "black", "linewidth": 2} if name in ("micro", "mean") else {"linewidth": 1}
            score_axes.plot(*zip(*points, strict=True), label=name, marker=".", **style)
        score_axes.set(ylabel="score on held-out kits", xlabel="step")
        if scores:
            score_axes.legend(ncols=min(len(scores), _LEGEND_COLUMNS), fontsize="x-small")

    return write_picture(picture, (8, 6), draw, dpi=120)


def write_sound(path: Path, audio: np.ndarray) -> None:
    """Write audio (T,) as a 16-bit WAV file, what is above full scale clipped."""
    with atomic_file(path, overwrite=True) as temporary:
        soundfile.write(temporary, np.clip(audio, -1, 1), SAMPLE_RATE, format="WAV", subtype="PCM_16")


class _Samples:
    """A run's folder `samples`: fixed sounds, and what is made of them at each validation."""

    def __init__(self, folder: Path, fixed: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Begin with the sounds (T,) of each example, by name."""
        self._out, self._folder, self._fixed = folder, folder / "samples", fixed

    def write(self, step: int, made: Sequence[np.ndarray], log: str, entry: Mapping[str, Any]) -> Path:
        """Write what was made of each example, and an entry of a log; return where a picture belongs."""
        for i, (sounds, audio) in enumerate(zip(self._fixed, made, strict=False)):
            for name, sound in sounds.items():
                if not (first := self._folder / f"{i}_{name}.wav").exists():
                    write_sound(first, sound)
            write_sound(self._folder / f"{i}_{step:07}.wav", audio)
        with ConfinedFolder(self._out).append(log) as file:
            file.write(json.dumps({"step": step, **entry}) + "\n")
        return self._folder / f"{step:07}.png"


class CodecReports:
    """Writes into the folder of a codec's run at validations."""

    def __init__(self, folder: Path, originals: Sequence[Original], shown: Sequence[Original]) -> None:
        """Take the recordings that probe the latents, and those whose first are written as sound and drawn."""
        self._audio = [original.audio for original in originals]
        self._shown = [original.audio for original in shown[:_N_SHOWN]]
        self._samples = _Samples(folder, [{"original": audio} for audio in self._shown])

    def write(self, step: int, codec: Codec, terms: dict[str, float]) -> None:
        """Write what a codec makes of the recordings, its latents' divergence, and a step's loss terms."""
        found = [codec.encode(torch.from_numpy(audio)[None]) for audio in self._audio]
        latents = Encoded(*(torch.cat(fields, dim=-1) for fields in zip(*found, strict=True)))
        by_channel = divergence(latents)
        entry = {
            "kl": round(float(by_channel.sum()), 3),
            "active": int((latents.mu.var(dim=(0, 2)) > _ACTIVE).sum()),
            "kl_by_channel": [round(value, 4) for value in by_channel.tolist()],
            "terms": terms,
        }
        _log.info("step %d: KL %.1f nats a frame, %d active channels", step, entry["kl"], entry["active"])
        originals = self._shown
        decoded = [round_trip(codec, audio) for audio in originals]
        picture = self._samples.write(step, decoded, "codec-latents.jsonl", entry)

        def draw(figure: Figure) -> None:
            grid = figure.add_gridspec(3, len(originals))
            for row, (name, sounds) in enumerate((("original", originals), ("decoded", decoded))):
                for i, audio in enumerate(sounds):
                    axes = figure.add_subplot(grid[row, i])
                    show_spectrogram(axes, audio)
                    axes.set_title(f"{name} {i}", fontsize="small")
            axes = figure.add_subplot(grid[2, :])
            axes.bar(np.arange(len(by_channel)), by_channel.sort(descending=True).values.numpy())
            axes.set(xlabel="latent channel, sorted", ylabel="KL in nats a frame")

        write_picture(picture, (12, 8), draw, dpi=80)


class Spectrograms:
    """Draws fixed recordings, and what a run finds in them or makes of them at each validation."""

    def __init__(self, folder: Path, shown: Mapping[str, Sequence[np.ndarray]]) -> None:
        """Take the run's folder, and by name the rows of sounds (T,) that stay, one a recording."""
        self._folder, self._shown = folder / "samples", shown

    def write(
        self,
        step: int,
        made: Mapping[str, Sequence[np.ndarray]] | None = None,
        onsets_s: Sequence[Mapping[str, Sequence[float]]] = (),
    ) -> None:
        """Draw a row of recordings below another: the fixed ones, then what was made of each.

        Args:
            step: of the run.
            made: sounds (T,) by the name of their row, one a recording.
            onsets_s: of each recording, the onsets of each class, drawn over the first row.
        """
        rows = {**self._shown, **(made or {})}

        def draw(figure: Figure) -> None:
            axes = figure.subplots(len(rows), max(map(len, rows.values())), squeeze=False)
            for row, (name, sounds) in zip(axes, rows.items(), strict=True):
                for i, audio in enumerate(sounds):
                    show_spectrogram(row[i], audio)
                    row[i].set_title(f"{name} {i}", fontsize="small")
            for place, found in zip(axes[0], onsets_s, strict=False):
                for i, (drum_class, times_s) in enumerate(found.items()):
                    place.plot(times_s, [4 + 16 * i] * len(times_s), "|", label=drum_class, markersize=12)
                place.legend(fontsize="x-small", loc="upper right")

        self._folder.mkdir(parents=True, exist_ok=True)
        write_picture(self._folder / f"{step:07}.png", (12, 2.5 * len(rows)), draw, dpi=80)


class RhythmReports:
    """Writes into the folder of a rhythm transformer's run at validations."""

    def __init__(
        self,
        folder: Path,
        sources: Sequence[SegmentRecipe],
        targets: Sequence[SegmentRecipe],
        attention: Tensor,
    ) -> None:
        """Take the pairs, the first of which are written, and their target attention (B, F, S + 1)."""
        self._attention = attention[:_N_SHOWN].cpu()
        self._sounds: list[dict[str, np.ndarray]] = []
        for source, target in zip(sources[:_N_SHOWN], targets, strict=False):
            original, pseudo = render_scene(source, [target])
            sounds = {"source": original.audio, "target": render_batch([target])[0], "pseudo": pseudo.audio}
            self._sounds.append({name: audio.cpu().numpy() for name, audio in sounds.items()})
        self._samples = _Samples(folder, self._sounds)

    def write(self, step: int, made: Sequence[np.ndarray], attention: Tensor, entry: dict[str, Any]) -> None:
        """Write what was made of the pairs, what was attended to (B, F, S + 1), and an entry for the log."""
        picture = self._samples.write(step, made, "rhythm-terms.jsonl", entry)

        def draw(figure: Figure) -> None:
            axes = figure.subplots(4, len(self._sounds), squeeze=False)
            for i, sounds in enumerate(self._sounds):
                for row, (name, weights) in enumerate((("target", self._attention), ("found", attention))):
                    show_attention(axes[row, i], weights[i].cpu().numpy())
                    axes[row, i].set(title=f"{name} {i}", xlabel="target frame", ylabel="source frame")
                for row, (name, audio) in enumerate((("pseudo", sounds["pseudo"]), ("made", made[i])), start=2):
                    show_spectrogram(axes[row, i], audio)
                    axes[row, i].set_title(f"{name} {i}")

        write_picture(picture, (4 * len(self._sounds), 12), draw, dpi=70)
