"""What the codec is trained on: pieces of synthetic recordings with their onsets, and of real loops without.

A recording is rendered whole and several pieces are cut out of it: on a quick device rendering costs more than
learning. Loops, of which there are few, are cut anywhere, transposed, and given another tone and level.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.data.kits import SAMPLE_RATE
from training.data.synthesis import (
    BusRecipe,
    SegmentRecipe,
    Synthesiser,
    apply_bus,
    audible_strokes,
    draw_bus,
    render_batch,
    render_stems,
)

_MARGIN = 2048  # samples around a loop's piece, as transposition wraps around
_SEMITONES = 4.0  # largest transposition of a loop either way


@dataclass(frozen=True)
class Pieces:
    """A batch of recordings."""

    audio: Tensor  # (B, T)
    onsets: Tensor  # (B, N): samples of the audible strokes that are known; -1 stands for none
    recipes: tuple[dict[str, Any], ...]  # what each was made of, to be written as JSON


@dataclass(frozen=True, kw_only=True)
class PieceSettings:
    """How pieces are cut."""

    n_samples: int = 32_768
    per_recording: int = 4  # pieces of one synthetic recording
    loops: float = 0.25  # share of pieces that are real loops


class PieceCutter:
    """Cuts batches out of what a synthesiser makes, and out of loops if there are any."""

    def __init__(self, synthesiser: Synthesiser, loops: Sequence[tuple[str, Tensor]], settings: PieceSettings):
        self._synthesiser, self._settings = synthesiser, settings
        shortest = _source_length(settings.n_samples, _SEMITONES) + 2 * _MARGIN
        self._loops = [(name, samples) for name, samples in loops if len(samples) > shortest]

    def cut(self, n: int, rng: np.random.Generator) -> Pieces:
        """Return a batch of `n` pieces; every decision is drawn from `rng`."""
        n_loops = int(rng.binomial(n, self._settings.loops)) if self._loops else 0
        parts = [self._synthetic(n - n_loops, rng)] if n > n_loops else []
        parts += [self._real(n_loops, rng)] if n_loops else []
        audio = torch.cat([part.audio for part in parts])
        sign = torch.from_numpy(rng.choice([-1.0, 1.0], (n, 1))).to(audio)
        longest = max(part.onsets.shape[1] for part in parts)
        onsets = [torch.nn.functional.pad(p.onsets, (0, longest - p.onsets.shape[1]), value=-1) for p in parts]
        recipes = tuple(recipe for part in parts for recipe in part.recipes)
        return Pieces(audio * sign, torch.cat(onsets), recipes)

    def _synthetic(self, n: int, rng: np.random.Generator) -> Pieces:
        length = self._settings.n_samples
        recipes = self._synthesiser.draw(-(-n // self._settings.per_recording), rng)
        stems = torch.stack([render_stems(recipe) for recipe in recipes])
        whole = render_batch(recipes, dry_stems=stems)
        audio, onsets, made_of = [], [], []
        for i in range(n):
            k = i % len(recipes)
            start = int(rng.integers(0, whole.shape[1] - length + 1))
            audio.append(whole[k, start : start + length])
            heard = _onsets(recipes[k], stems[k])
            onsets.append([at - start for at in heard if start <= at < start + length])
            made_of.append({"kind": "synthetic", "start": start, **_summary(recipes[k])})
        table = np.full((n, max(1, *map(len, onsets))), -1, dtype=np.int64)
        for row, found in zip(table, onsets, strict=True):
            row[: len(found)] = found
        return Pieces(torch.stack(audio), torch.from_numpy(table).to(whole.device), tuple(made_of))

    def _real(self, n: int, rng: np.random.Generator) -> Pieces:
        length = self._settings.n_samples
        audio, made_of, buses = [], [], []
        for _ in range(n):
            name, samples = self._loops[rng.integers(len(self._loops))]
            semitones = float(rng.uniform(-_SEMITONES, _SEMITONES))
            n_source = _source_length(length, semitones)
            start = int(rng.integers(_MARGIN, len(samples) - n_source - _MARGIN + 1))
            audio.append(_transposed(samples[start - _MARGIN : start + n_source + _MARGIN], length))
            drawn = draw_bus(rng)
            buses.append(
                BusRecipe(
                    tone=drawn.tone, low_cut_hz=drawn.low_cut_hz, high_cut_hz=drawn.high_cut_hz, peak=drawn.peak
                )
            )
            made_of.append(
                {"kind": "loop", "name": name, "start": start, "semitones": semitones, "bus": asdict(buses[-1])}
            )
        changed = apply_bus(torch.stack(audio)[:, None], buses, with_noise=False)[:, 0]
        return Pieces(changed, torch.full((n, 1), -1, device=changed.device), tuple(made_of))


def _onsets(recipe: SegmentRecipe, stems: Tensor) -> list[int]:
    audible = audible_strokes(stems, recipe.strokes)
    return [round(s.onset_s * SAMPLE_RATE) for s, heard in zip(recipe.strokes, audible, strict=True) if heard]


def _summary(recipe: SegmentRecipe) -> dict[str, Any]:
    voices = {" ".join(key).strip(): voice.origin for key, voice in recipe.voices.items()}
    return {"voices": voices, "bus": asdict(recipe.bus)}


def _source_length(n_samples: int, semitones: float) -> int:
    """Return how many samples become `n_samples` when they are transposed up: an even number."""
    return 2 * round(n_samples * 2 ** (semitones / 12) / 2)


def _transposed(samples: Tensor, n_samples: int) -> Tensor:
    """Return what lies between the margins of samples (T,) as `n_samples` samples, faster or slower.

    The spectrum is cut or extended, so nothing is folded; what wraps around stays in the margins.
    """
    n_source = len(samples) - 2 * _MARGIN
    n_whole = 2 * round(len(samples) * n_samples / n_source / 2)
    spectrum = torch.fft.rfft(samples)
    n_kept = min(len(spectrum), n_whole // 2 + 1)
    out = torch.fft.irfft(spectrum[:n_kept], n_whole) * (n_whole / len(samples))
    margin = round(_MARGIN * n_samples / n_source)
    inner: Tensor = out[margin : margin + n_samples]
    return inner
