"""The source's own attacks over what the latent engine makes: the first moments of its hits, cross-faded.

A drum is recognised by its attack, which the codec blurs and which frames of 11.6 ms place to within 5.8 ms.
Hits that were cut out are at fault later, where other drums leak into them. So each stroke begins as the
`resequence` engine plays it, and decays as the mean of both sounds, whose faults differ (docs/method.md,
decision 57).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from transform.hits import LEAD_S
from transform.signal import Samples, Signal, nearest_sample

# Chosen on 32 pairs of validation kits (docs/method.md, decision 57). Where the fade is shorter, the sound that
# takes over is detected as another onset.
_RISE_S = 0.001  # up to the lead of a hit, 2 ms before the attack
_WHOLE_S = 0.05  # after the attack, of the hit alone
_FADE_S = 0.1  # from there on it fades
_RINGING_WEIGHT = 0.5  # of the hit, after that
_WEIGHTS = (_RINGING_WEIGHT, 1.0, 1.0, _RINGING_WEIGHT)


class AttackOverlay:
    """Two sounds of one take: around each attack the replayed one, elsewhere the mean of both."""

    def __init__(
        self,
        generated: Signal,
        replayed: Signal,
        onsets_s: Iterable[float],
        *,
        period: int | None = None,
    ) -> None:
        """Take the sounds.

        Args:
            generated: by the latent engine.
            replayed: the source's hits, which alone sound around the attacks.
            onsets_s: the attacks, in seconds of the take.
            period: samples of a loop without a seam, both sounds' own; None for no loop.
        """
        self._generated, self._replayed, self._period = generated, replayed, period
        self.sample_rate, self.n_channels = generated.sample_rate, generated.n_channels
        self._attacks = sorted({nearest_sample(onset_s, self.sample_rate) for onset_s in onsets_s})
        times_s = (-LEAD_S - _RISE_S, -LEAD_S, _WHOLE_S, _WHOLE_S + _FADE_S)
        self._times = [round(time_s * self.sample_rate) for time_s in times_s]

    @property
    def n_samples(self) -> int:
        """Where the last sound has ended; 0 where nothing plays."""
        return max(self._generated.n_samples, self._replayed.n_samples)

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop), shape (C, stop - start)."""
        replayed, generated = self._replayed.read(start, stop), self._generated.read(start, stop)
        return generated + self._weight(start, stop - start) * (replayed - generated)

    def _weight(self, start: int, n_samples: int) -> NDArray[np.float32]:
        """Return the weight of the replayed sound, 0 to 1, in the samples from `start` on."""
        weight = np.full(n_samples, _RINGING_WEIGHT, dtype=np.float32)
        before, after = self._times[0], self._times[-1]
        # Of a loop, the turns whose attacks ring into this one, and the first attack of the next.
        turns = range(-1, after // self._period + 2) if self._period else (0,)
        for turn in turns:
            at = start + turn * (self._period or 0)
            first = bisect_left(self._attacks, at - after)
            last = bisect_left(self._attacks, at + n_samples - before)
            for attack in self._attacks[first:last]:
                left, right = max(attack + before, at), min(attack + after + 1, at + n_samples)
                if left < right:
                    own = np.interp(np.arange(left, right) - attack, self._times, _WEIGHTS)
                    place = weight[left - at : right - at]
                    np.maximum(place, own, out=place, casting="same_kind")
        return weight
