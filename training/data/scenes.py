"""Scenes in stock, of which the rhythm transformer's batches are made.

A scene is a source with a few targets. Making one takes longer than learning from it, and learning to copy
takes thousands of steps; so scenes stay in stock for a while, and each batch draws frames of their banks anew.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch

from training.data.rhythm_pairs import Pairs
from training.data.synthesis import onset_table
from transform.rhythm_transformer import Source, Target


class SceneStock:
    """Numbered scenes, each of which follows from its number alone; when the stock is full the oldest leave."""

    def __init__(self, make: Callable[[np.random.Generator], Pairs], *, size: int, seed: int) -> None:
        """Begin with none.

        Args:
            make: makes a scene, every decision being drawn from what it is given.
            size: scenes in stock at most.
            seed: of the numbers.
        """
        self._make, self._size, self._seed = make, size, seed
        self.scenes: deque[Pairs] = deque(maxlen=size)
        self._n_made = 0

    def fill_to(self, n: int) -> None:
        """Go on until `n` scenes have been made."""
        while self._n_made < n:
            self.scenes.append(self._make(self._rng(self._n_made)))
            self._n_made += 1

    def left_behind(self, n: int) -> Iterator[np.random.Generator]:
        """Begin with the oldest in stock when `n` have been made; return what those before were made from."""
        self._n_made = max(0, n - self._size)
        return (self._rng(number) for number in range(self._n_made))

    def draw(self, n: int, rng: np.random.Generator, least_share: float) -> Pairs:
        """Return `n` scenes of one kind as a batch; all is drawn from `rng`, also of their banks' frames."""
        is_bank = self.scenes[rng.integers(len(self.scenes))].recoverable is None
        alike = [scene for scene in self.scenes if (scene.recoverable is None) == is_bank]
        return joined([alike[k] for k in rng.integers(len(alike), size=n)], rng, least_share)

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng((self._seed, 1, number))


def joined(scenes: Sequence[Pairs], rng: np.random.Generator, least_share: float) -> Pairs:
    """Return scenes of one kind as a batch; the frames of banks are drawn anew.

    Args:
        scenes: banks of as many frames, or segments.
        rng: draws the frames.
        least_share: least proportion of the frames that are given.
    """
    sources = [scene.source for scene in scenes]
    mu, rhythm, is_silent = (
        torch.cat(x) for x in zip(*((s.source.mu, s.source.rhythm, s.is_silent) for s in scenes), strict=True)
    )
    mask = recoverable = None
    if sources[0].mask is not None:
        n_keys, device = mu.shape[-1], mu.device
        n_given = max(1, round(n_keys * rng.uniform(least_share, 1)))
        picks = [torch.from_numpy(rng.permutation(n_keys)[:n_given]).to(device) for _ in scenes]
        index = torch.cat([pick.expand(len(s.audio), -1) for pick, s in zip(picks, scenes, strict=True)])
        mu, rhythm = (x.gather(-1, index[:, None].expand(-1, x.shape[1], -1)) for x in (mu, rhythm))
        is_silent = torch.cat((is_silent.gather(-1, index), is_silent[:, -1:]), dim=-1)
        mask = torch.ones_like(index, dtype=torch.bool)
    else:
        recoverable = torch.cat([scene.recoverable for scene in scenes if scene.recoverable is not None])
    latents, audio = (torch.cat(x) for x in zip(*((s.latents, s.audio) for s in scenes), strict=True))
    return Pairs(
        Source(mu, rhythm, mask),
        Target(*(torch.cat(parts) for parts in zip(*(s.target for s in scenes), strict=True))),
        latents,
        audio,
        onset_table([row for scene in scenes for row in scene.onsets]),
        is_silent,
        recoverable,
    )
