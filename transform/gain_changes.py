"""Gains of single drums, in a sound in which no drum is known apart.

It is filtered as the same strokes change that are replayed with these gains and without (docs/method.md,
decision 58): in each moment and band by the ratio of their powers.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from transform.audio import SAMPLE_RATE
from transform.resampling import Resampled
from transform.signal import Samples, Signal
from transform.stft import N_HOPS, analyse, synthesise

_HOP = 256
_FRAMES, _BINS = 3, 9  # over which powers are averaged
_SILENT = 1e-7  # of the power of a bin: where both are as soft nothing changes
_FLOOR = 1e-5  # of the moment's mean power: a band that is softer changes as the whole moment does


class GainChange:
    """What gains of single drums do to strokes, as a filter for another sound of the same strokes."""

    def __init__(self, even: Signal, uneven: Signal) -> None:
        """Take the strokes without the gains, and with them."""
        self._even, self._uneven = Resampled(even, SAMPLE_RATE), Resampled(uneven, SAMPLE_RATE)

    @torch.inference_mode()
    def applied(self, sound: Samples, first: int, gain: float) -> Samples:
        """Return samples (C, T) of the take from `first` on at 44.1 kHz, filtered, over a gain that follows."""
        lead = (N_HOPS - 1) * _HOP
        n_samples = sound.shape[1]
        n_padded = -(-n_samples // _HOP) * _HOP + 2 * lead
        begin = first - lead
        even, uneven = (
            _powers(torch.from_numpy(strokes.read(begin, begin + n_padded) * np.float32(over)))
            for strokes, over in ((self._even, 1.0), (self._uneven, 1 / gain))
        )
        change = torch.sqrt(uneven / even)
        padded = functional.pad(torch.from_numpy(sound), (lead, n_padded - lead - n_samples))
        out = synthesise(analyse(padded, _HOP) * change, _HOP)
        return out[:, lead : lead + n_samples].numpy()


def _powers(strokes: Tensor) -> Tensor:
    """Return the power (J, N) of strokes (C, T) in all channels, averaged over moments and bands; never 0."""
    power = analyse(strokes, _HOP).abs().square().mean(dim=0)
    size, padding = (_FRAMES, _BINS), (_FRAMES // 2, _BINS // 2)
    near = functional.avg_pool2d(power[None], size, stride=1, padding=padding, count_include_pad=False)[0]
    return near + _FLOOR * near.mean(dim=-1, keepdim=True) + _SILENT
