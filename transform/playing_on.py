"""What a recording plays on in a take, as long as the take is: round and round where that is longer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from transform.signal import Samples

_WHOLE_BEATS = 0.25  # so near to a whole number of beats a recording is a loop of that many
_LEAST_ROUND_S = 0.1  # a round that the take breaks off sooner does not begin

Reads = Callable[[int, int], Samples]  # start, stop -> samples (..., stop - start)


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """How a recording goes round in a take, in samples."""

    n_source: int
    n_samples: int  # of the take
    n_fade: int
    period: int  # at which it begins again
    n_rounds: int
    last: int  # where the rhythm of the take ends, or the recording, if that is later
    is_loop: bool  # the take's end is followed by its beginning

    @classmethod
    def once(cls, n_source: int, n_samples: int, *, n_fade: int, is_loop: bool) -> Rounds:
        """Return a recording that plays once."""
        return cls(
            n_source=n_source,
            n_samples=n_samples,
            n_fade=n_fade,
            period=n_source,
            n_rounds=1,
            last=n_samples,
            is_loop=is_loop,
        )

    def repeated(self, n_rhythm: int, sample_rate: int, bpm: float | None) -> Rounds:
        """Return a recording that begins again as long as the rhythm goes on.

        Args:
            n_rhythm: samples that the rhythm of the take lasts.
            sample_rate: in Hz.
            bpm: the tempo; a recording of nearly whole beats goes round with the beats.
        """
        period, least = self.n_source, _LEAST_ROUND_S * sample_rate
        if bpm is not None:
            beat = 60 / bpm * sample_rate
            n_beats = round(self.n_source / beat)
            if n_beats and abs(self.n_source - n_beats * beat) <= _WHOLE_BEATS * beat:
                period = round(n_beats * beat)
            least = max(least, _WHOLE_BEATS * beat)
        last = max(self.n_source, min(n_rhythm, self.n_samples))
        n_rounds = max(1, math.ceil((last - least) / period))
        return Rounds(
            n_source=self.n_source,
            n_samples=self.n_samples,
            n_fade=self.n_fade,
            period=period,
            n_rounds=n_rounds,
            last=last,
            is_loop=self.is_loop,
        )

    def read(self, reads: Reads, start: int, stop: int) -> Samples:
        """Return what the recording plays in samples [start, stop) of the take, shape (..., stop - start).

        It fades out where it or the take ends in the middle of the other. A take that is a loop, and ends in
        the middle, begins with what would play on, faded into what it begins with: so it goes on over the seam.
        """
        sound = self._endless(reads, start, stop)
        end = min(self._content_end, self.last, self.n_samples)
        if self.is_loop and self._content_end > self.n_samples:
            fade = min(self.n_fade, self._content_end - self.n_samples)
            if start < fade:
                n = min(stop, fade) - start
                begin = np.clip(np.arange(start, start + n) / fade, 0, 1).astype(np.float32)
                after = self._endless(reads, self.n_samples + start, self.n_samples + start + n)
                sound[..., :n] = begin * sound[..., :n] + (1 - begin) * after
        elif end < self.n_samples or end < self._content_end:
            fade_out(sound, start, end, self.n_fade)
        return sound

    def onsets_s(self, onset_s: float, sample_rate: int) -> Iterator[float]:
        """Yield when a stroke of the recording plays in the take, in seconds."""
        period_s = self.period / sample_rate
        for number in range(self.n_rounds):
            if number == self.n_rounds - 1 or onset_s < period_s:
                yield number * period_s + onset_s

    @property
    def _content_end(self) -> int:
        """Where the last round would end."""
        return (self.n_rounds - 1) * self.period + self.n_source

    def _endless(self, reads: Reads, start: int, stop: int) -> Samples:
        """Return samples [start, stop) as if the take had no end; the last round ends with the recording."""
        parts, at = list[Samples](), start
        while at < stop or not parts:
            number = min(at // self.period, self.n_rounds - 1)
            begin = number * self.period
            end = stop if number == self.n_rounds - 1 else min(stop, begin + self.period)
            sound = reads(at - begin, end - begin)
            if self.period > self.n_source and number < self.n_rounds - 1:
                fade_out(sound, at - begin, self.n_source, self.n_fade)
            elif number and at - begin < self.n_fade:
                self._join(reads, sound, at - begin)
            parts.append(sound)
            at = end
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)

    def _join(self, reads: Reads, sound: Samples, at: int) -> None:
        """Let a round, from its sample `at` on, begin at the level at which the round before it ends."""
        jump = reads(self.period - 1, self.period) - reads(0, 1)
        n = min(sound.shape[-1], self.n_fade - at)
        sound[..., :n] += jump * (1 - np.arange(at, at + n, dtype=np.float32) / self.n_fade)


def fade_out(samples: Samples, start: int, end: int, n_fade: int) -> None:
    """Fade out what begins at sample `start`, so that it is silent from sample `end` on."""
    # Counted in integers: float32 has none beyond sample 2**24, the seventh minute.
    left = end - np.arange(start, start + samples.shape[-1])
    if len(left) and left[-1] < n_fade:
        samples *= np.clip(left / n_fade, 0, 1).astype(np.float32)
