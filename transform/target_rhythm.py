"""The rhythm as the rhythm transformer's target, window by window: written events, or a recording of them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

import numpy as np
import torch

from transform.audio import SAMPLE_RATE
from transform.codec import Codec
from transform.events import CLASSES, DrumEvent
from transform.listening import Listening
from transform.resampling import Resampled
from transform.rhythm_transformer import (
    ACTIVATION_HOP,
    PEAK,
    RhythmConfig,
    Target,
    activations_of_events,
    rhythm_window,
)
from transform.signal import ComputedSignal, Samples
from transform.transcriber import Activations


class TargetReader(Protocol):
    """What reads a rhythm as targets."""

    def target(self, first: int, last: int) -> Target:
        """Return the target of latent frames [first, last)."""


class WrittenRhythm:
    """Events: no recording, no a (decision 11)."""

    def __init__(self, config: RhythmConfig, events: Sequence[DrumEvent]) -> None:
        """Take events that are sorted by onset."""
        self._config, self._events = config, events
        self._onsets_s = [event.onset_s for event in events]

    def target(self, first: int, last: int) -> Target:
        """Return r of frames [first, last)."""
        return Target(rhythm_window(self._config, self._activations, first, last))

    def _activations(self, begin: int, end: int) -> Activations:
        begin_s, end_s = (frame * ACTIVATION_HOP / SAMPLE_RATE for frame in (begin, end + math.ceil(PEAK[1])))
        near = self._events[bisect_left(self._onsets_s, begin_s) : bisect_left(self._onsets_s, end_s)]
        moved = [replace(event, onset_s=event.onset_s - begin_s) for event in near]
        heights, widths = ([value] * len(moved) for value in PEAK)
        return activations_of_events(moved, end - begin, heights=heights, widths=widths)


class RecordedRhythm:
    """A recording that plays in the take as it is: r is the transcriber's, a the encoder's."""

    def __init__(
        self,
        codec: Codec,
        config: RhythmConfig,
        target: Listening,
        *,
        stop_s: float,
        scales: Mapping[str, float],
        classes: Collection[str] = CLASSES,
        first_frame: int = 0,
    ) -> None:
        """Take a recording.

        Args:
            codec: whose encoder computes a.
            config: of the transformer.
            target: what is detected in the recording.
            stop_s: where the take goes on no longer.
            scales: by which its velocities are multiplied, by class.
            classes: that play.
            first_frame: of the recording's latents, with which targets begin.
        """
        self._classes, self._first_frame = classes, first_frame
        self._codec, self._config, self._target, self._stop_s = codec, config, target, stop_s
        self._scales = np.array([[scales.get(drum_class, 1.0)] for drum_class in CLASSES], dtype=np.float32)
        recording = target.recording
        mono = ComputedSignal(self._mono, recording.n_samples, recording.sample_rate, 1)
        self._sound = Resampled(mono, SAMPLE_RATE)

    def target(self, first: int, last: int) -> Target:
        """Return r and a of frames [first, last)."""
        first, last = first + self._first_frame, last + self._first_frame
        codec, hop = self._codec, self._config.hop
        begin, end = max(0, first - codec.encoder_context), last + codec.encoder_context
        audio = torch.from_numpy(self._sound.read(begin * hop, end * hop))
        a = codec.encode(audio, torch.arange(first - begin, last - begin)).activations
        return Target(rhythm_window(self._config, self._activations, first, last), a)

    def _mono(self, start: int, stop: int) -> Samples:
        recording = self._target.recording
        samples = recording.mono(start, stop)[None].copy()
        samples[:, max(0, round(self._stop_s * recording.sample_rate) - start) :] = 0
        return samples

    def _activations(self, begin: int, end: int) -> Activations:
        detected = self._target.activations_of(begin, end, classes=self._classes, stop_s=self._stop_s)
        return detected._replace(velocity=np.minimum(1.0, self._scales * detected.velocity))
