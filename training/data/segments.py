"""What the codec is trained on: segments of synthetic recordings with their onsets, and of real loops without.

A recording is rendered whole and several segments are cut out of it: on a quick device rendering costs more
than learning. Loops, of which there are few, are cut anywhere, transposed, and given another tone and level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data.synthesis import (
    SegmentRecipe,
    Synthesiser,
    apply_bus,
    audible_onsets,
    draw_bus,
    onset_table,
    render_batch,
    render_stems,
)

_MARGIN = 2048  # samples around a loop's segment, as transposition wraps around
_SEMITONES = 4.0  # largest transposition of a loop either way


@dataclass(frozen=True)
class Segments:
    """A batch of recordings."""

    audio: Tensor  # (B, T)
    onsets: Tensor  # (B, N): samples of the audible strokes, where they are known; -1 stands for none
    recipes: tuple[dict[str, Any], ...]  # what each was made of, to be written as JSON

    @classmethod
    def joined(cls, batches: Sequence[Segments]) -> Segments:
        """Return batches as one."""
        return cls(
            torch.cat([batch.audio for batch in batches]),
            onset_table([row for batch in batches for row in batch.onsets]),
            tuple(recipe for batch in batches for recipe in batch.recipes),
        )


@dataclass(frozen=True, kw_only=True)
class SegmentSettings:
    """How segments are cut."""

    n_samples: int = 32_768
    per_recording: int = 4  # segments of one synthetic recording
    loops: float = 0.25  # proportion of segments that are real loops


class SegmentCutter:
    """Cuts batches out of what a synthesiser makes, and out of loops if there are any."""

    def __init__(
        self, synthesiser: Synthesiser, loops: Sequence[tuple[str, Tensor]], settings: SegmentSettings
    ):
        self._synthesiser, self._settings = synthesiser, settings
        shortest = _source_length(settings.n_samples, _SEMITONES) + 2 * _MARGIN
        self._loops = [(name, samples) for name, samples in loops if len(samples) > shortest]

    def cut(self, n: int, rng: np.random.Generator) -> Segments:
        """Return a batch of `n` segments; every decision is drawn from `rng`."""
        n_loops = int(rng.binomial(n, self._settings.loops)) if self._loops else 0
        batches = [self._synthetic(n - n_loops, rng)] if n > n_loops else []
        batches += [self._real(n_loops, rng)] if n_loops else []
        batch = Segments.joined(batches)
        sign = torch.from_numpy(rng.choice([-1.0, 1.0], (n, 1))).to(batch.audio)
        return replace(batch, audio=batch.audio * sign)

    def _synthetic(self, n: int, rng: np.random.Generator) -> Segments:
        length = self._settings.n_samples
        recipes = self._synthesiser.draw(-(-n // self._settings.per_recording), rng)
        stems = torch.stack([render_stems(recipe) for recipe in recipes])
        whole = render_batch(recipes, dry_stems=stems)
        audio, onsets, made_of = [], [], []
        for i in range(n):
            k = i % len(recipes)
            start = int(rng.integers(0, whole.shape[1] - length + 1))
            audio.append(whole[k, start : start + length])
            audible = audible_onsets(stems[k], recipes[k].strokes)
            onsets.append([at - start for at in audible if start <= at < start + length])
            made_of.append({"kind": "synthetic", "start": start, **_summary(recipes[k])})
        return Segments(torch.stack(audio), onset_table(onsets).to(whole.device), tuple(made_of))

    def _real(self, n: int, rng: np.random.Generator) -> Segments:
        length = self._settings.n_samples
        audio, made_of, buses = [], [], []
        for _ in range(n):
            name, samples = self._loops[rng.integers(len(self._loops))]
            semitones = float(rng.uniform(-_SEMITONES, _SEMITONES))
            n_source = _source_length(length, semitones)
            start = int(rng.integers(_MARGIN, len(samples) - n_source - _MARGIN + 1))
            audio.append(_transposed(samples[start - _MARGIN : start + n_source + _MARGIN], length))
            buses.append(replace(draw_bus(rng).tone_alone(), drive_db=0.0))
            made_of.append(
                {"kind": "loop", "name": name, "start": start, "semitones": semitones, "bus": asdict(buses[-1])}
            )
        changed = apply_bus(torch.stack(audio)[:, None], buses, with_noise=False)[:, 0]
        return Segments(changed, torch.full((n, 1), -1, device=changed.device), tuple(made_of))


def _summary(recipe: SegmentRecipe) -> dict[str, Any]:
    voices = {" ".join(key).strip(): voice.origin for key, voice in recipe.voices.items()}
    return {"voices": voices, "bus": asdict(recipe.bus)}


def _source_length(n_samples: int, semitones: float) -> int:
    """Return how many samples become `n_samples` when they are transposed up: an even number."""
    return 2 * round(n_samples * 2 ** (semitones / 12) / 2)


def _transposed(samples: Tensor, n_samples: int) -> Tensor:
    """Return what lies between the margins of samples (T,) as `n_samples` samples, faster or slower.

    The spectrum is cut or extended, so nothing is aliased; what wraps around stays in the margins.
    """
    n_source = len(samples) - 2 * _MARGIN
    n_whole = 2 * round(len(samples) * n_samples / n_source / 2)
    spectrum = torch.fft.rfft(samples)
    n_bins = min(len(spectrum), n_whole // 2 + 1)
    out = torch.fft.irfft(spectrum[:n_bins], n_whole) * (n_whole / len(samples))
    margin = round(_MARGIN * n_samples / n_source)
    inner: Tensor = out[margin : margin + n_samples]
    return inner
