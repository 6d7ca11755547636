"""Microphones of one performance: several recordings as one with all their channels.

Everything is decided once, of all of them: what is detected, which hits play, where they are cut, their gains,
fades and masks. Then it is done to each channel alike, so that the delays between the microphones stay as they
are. Nothing is decided by a waveform sum, in which delays comb and a turned polarity cancels: power spectra are
added, each microphone at the level of the others.

Rates may differ: all are brought to the highest one, and back when they are written.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from transform.audio import (
    AudioFormat,
    MakesFeatures,
    Recording,
    is_float,
)
from transform.errors import AudioError, SettingsError
from transform.headers import time_reference
from transform.mic_levels import Measured, Microphone, form_notes, measure
from transform.resampling import Resampled
from transform.signal import BlockCache, ComputedSignal, Samples, nearest_sample, read_blocks
from transform.stated_tempo import IN_NAME

if TYPE_CHECKING:
    from transform.features import FeatureReader
    from transform.settings import RenderSettings

SPREAD_S = 0.02  # the latest that a stroke reaches a microphone after the first one: 7 m
_MOST_CHANNELS = 64
_CACHED_BYTES = 2**30  # of decoded and resampled sound, which is read again and again
QUALITY = "VHQ"  # of resampling: what goes there and back shall lose next to nothing
_N_CACHED = 4  # seconds, however large they are


class MicRecording(Recording):
    """Microphones of one performance as one recording of all their channels, silence where one is not running.

    Not for use by several threads at once. The recordings that it is made of must stay open as long.
    """

    def __init__(self, name: str, fmt: AudioFormat, n_samples: int) -> None:
        super().__init__(name, fmt, n_samples)
        self.microphones: tuple[Microphone, ...] = ()
        self.files = ExitStack()  # that are closed with it
        self.spread_s = SPREAD_S
        self._listen_to: Recording | None = None
        self._features: dict[MakesFeatures, FeatureReader] = {}
        self._blocks: BlockCache[int, Samples] = BlockCache(_N_CACHED, _CACHED_BYTES)

    @classmethod
    def of(
        cls,
        recordings: Sequence[Recording],
        *,
        offsets_s: Sequence[float | None] | None = None,
        listen_to: Recording | None = None,
    ) -> Self:
        """Return microphones as one recording; they are read when that is.

        Args:
            recordings: one for each microphone, of any rates, channels and lengths.
            offsets_s: when each begins; None: as its time reference says, if all of these have one, or else
                with the first.
            listen_to: what is transcribed instead of them, such as a mix; it begins with the first of them.

        Raises:
            AudioError: there are none, too many, or two that do not overlap in time.
        """
        if not recordings:
            raise AudioError("there are no microphones", hint="give one recording or more")
        n_channels = sum(recording.n_channels for recording in recordings)
        if n_channels > _MOST_CHANNELS:
            raise AudioError(
                f"the microphones have {n_channels} channels together, more than {_MOST_CHANNELS}",
                hint="redrum fewer at once",
            )
        rate = max(recording.sample_rate for recording in recordings)
        begins_s = _begins_s(recordings, offsets_s or [None] * len(recordings))
        microphones: list[Microphone] = []
        for recording, begin_s in zip(recordings, begins_s, strict=True):
            first = microphones[-1].channels.stop if microphones else 0
            own_begin = nearest_sample(begin_s - min(begins_s), recording.sample_rate)
            begin, signal = _at_rate(recording, own_begin, rate)
            channels = slice(first, first + recording.n_channels)
            microphones.append(
                Microphone(
                    recording=recording, signal=signal, begin=begin, own_begin=own_begin, channels=channels
                )
            )
        _check_overlap(microphones)
        more = f" and {len(recordings) - 1} more" if len(recordings) > 1 else ""
        subtype = "FLOAT" if all(is_float(r.format.subtype) for r in recordings) else "PCM_24"
        fmt = AudioFormat(sample_rate=rate, n_channels=n_channels, subtype=subtype)
        group = cls(f"{recordings[0].name}{more}", fmt, max(1, *(mic.end for mic in microphones)))
        group.microphones, group._listen_to = tuple(microphones), listen_to
        return group

    def mixed(self, samples: Samples) -> Samples:
        """Return a mono mix of samples (C, T), shape (T,), in which microphones do not cancel on the whole."""
        mono: Samples = self._measured.mix @ samples
        return mono

    def views(self, samples: Samples) -> Samples:
        """Return the channels of samples (C, T) that are measured, shape (V, T)."""
        return samples[self._measured.listened]

    def read_listened(self, start: int, stop: int) -> Samples:
        """Return the signals whose power spectra, added, are transcribed, shape (V, stop - start)."""
        if self._listen_to is None:
            return self.read_views(start, stop)
        return self._guide.read(start, stop)

    def features(self, listen: MakesFeatures) -> FeatureReader:
        """Return what reads the features of the sum of the power spectra of what is listened to."""
        from transform.features import FeatureReader  # with torch, which checking the files does without
        from transform.transcriber import listening_gain

        if listen not in self._features:
            signals = ComputedSignal(self.read_listened, self.n_samples, self.sample_rate, self.n_listened)
            self._features[listen] = FeatureReader(signals, listening_gain(self.listened_peak), listen)
        return self._features[listen]

    @property
    def listened_peak(self) -> float:
        """The peak of what is transcribed."""
        return self._measured.peak if self._listen_to is None else self._listen_to.mono_peak

    @property
    def n_listened(self) -> int:
        """The number of signals that `read_listened` returns."""
        return len(self._measured.listened) if self._listen_to is None else 1

    @property
    def mono_channel(self) -> int | None:
        """None: the mix stands for all channels."""
        return None

    def at_stored_level(self, samples: Samples) -> Samples:
        """Return samples (C, T) of the microphones as loud as their files have them."""
        return samples / self._measured.gains[:, None]

    @property
    def full_scale(self) -> Samples:
        """What full scale of the files is in its samples, shape (C, 1)."""
        return self._measured.gains[:, None]

    def monitored(self, samples: Samples) -> Samples:
        """Return the sum of samples (C, T) of the microphones as they are stored, shape (2, T); of one (1, T).

        None is louder than full scale together with the others, and none turns another one out.
        """
        summed: Samples = self._measured.monitor @ samples
        return summed

    def lacking(self, start: int, stop: int) -> frozenset[str]:
        """Return the names of the microphones in which something is missing between two samples.

        Those that are not transcribed do not count.
        """
        start, stop = max(0, start), min(stop, self.n_samples)
        frames = slice(start // self._measured.frame, -(-stop // self._measured.frame))
        return frozenset(
            mic.name
            for mic, hole, is_chosen in zip(
                self.microphones, self._measured.holes, self._measured.chosen, strict=True
            )
            if is_chosen and (start < mic.begin or mic.end < stop or hole[frames].any())
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided about the microphones, one sentence each."""
        return (*form_notes(self.microphones, self), *self._measured.notes)

    def tempo_bpm(self) -> tuple[float, str] | None:
        """Return the tempo that the files state, or None.

        That of the first tag counts, else what the names of several have, or of all: a microphone's model is
        a number in a name, too.
        """
        stated = [tempo for mic in self.microphones if (tempo := mic.recording.tempo_bpm()) is not None]
        tags = [tempo for tempo in stated if tempo[1] != IN_NAME]
        if tags or not stated:
            return tags[0] if tags else None
        is_agreed = len(set(stated)) == 1 and len(stated) >= min(2, len(self.microphones))
        return stated[0] if is_agreed else None

    @cached_property
    def _guide(self) -> Resampled:
        assert self._listen_to is not None
        guide = self._listen_to
        mono = _Mono(guide, guide.n_samples, guide.sample_rate)
        return Resampled(mono, self.sample_rate)

    @cached_property
    def _measured(self) -> Measured:
        stored = ComputedSignal(self.as_stored, self.n_samples, self.sample_rate, self.n_channels)
        return measure(stored, self.microphones)

    def _checked(self, start: int, stop: int) -> Samples:
        return self._fetch(start, stop)  # each recording checks its own samples

    def _fetch(self, start: int, stop: int) -> Samples:
        return self.as_stored(start, stop) * self._measured.gains[:, None]

    def as_stored(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) of all channels, as loud as they are stored, shape (C, stop - start)."""
        return read_blocks(lambda n: self._blocks.get(n, self._block), self.sample_rate, start, stop)

    def close(self) -> None:
        """Free the cached sound, and close `files`; other recordings that it is made of stay open."""
        super().close()
        self._blocks.clear()
        self.files.close()

    def _block(self, number: int) -> Samples:
        """Return a second of all channels, as loud as they are stored, shape (C, T)."""
        start, stop = number * self.sample_rate, min((number + 1) * self.sample_rate, self.n_samples)
        out = np.zeros((self.n_channels, stop - start), dtype=np.float32)
        for mic in self.microphones:
            first, last = max(start, mic.begin), min(stop, mic.end)
            if first < last:
                own = mic.signal.read(first - mic.begin, last - mic.begin)
                out[mic.channels, first - start : last - start] = own
        return out


def _at_rate(recording: Recording, own_begin: int, rate: int) -> tuple[int, Resampled]:
    """Return at which sample of a rate a recording begins, and its sound at that rate from there on.

    It begins on a sample of its own, so that recordings of one rate are whole samples of that apart. Where that
    is none of the rate, the sound begins with the silence since the last time that is a sample of both.
    """
    own_rate = recording.sample_rate
    common = math.gcd(own_rate, rate)
    turns, n_silent = divmod(own_begin, own_rate // common)
    sound = _Late(recording, n_silent) if n_silent else recording
    return turns * (rate // common), Resampled(sound, rate, quality=QUALITY)


@dataclass(frozen=True)
class _Late:
    """A recording that begins some samples later; before, it is silent."""

    recording: Recording
    n_silent: int

    @property
    def n_samples(self) -> int:
        """The number of samples with the silence."""
        return self.recording.n_samples + self.n_silent

    @property
    def sample_rate(self) -> int:
        """In Hz."""
        return self.recording.sample_rate

    @property
    def n_channels(self) -> int:
        """The number of channels."""
        return self.recording.n_channels

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop), shape (C, stop - start)."""
        return self.recording.read(start - self.n_silent, stop - self.n_silent)


@dataclass(frozen=True)
class _Mono:
    """The mono mix of a recording."""

    recording: Recording
    n_samples: int
    sample_rate: int
    n_channels: int = 1

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop), shape (1, stop - start)."""
        return self.recording.mono(start, stop)[None]


def check_together(settings: RenderSettings) -> None:
    """Raise SettingsError for settings that microphones of one performance cannot be redrummed with."""
    if settings.engine == "latent":
        raise SettingsError(
            "the latent engine generates one sound, not that of several microphones",
            hint="use --engine resequence, which replays them all",
        )
    if settings.separate_outputs:
        raise SettingsError(
            "--stems is for one recording, not for several microphones",
            hint="leave it out: each microphone has a result of its own",
        )


def _begins_s(recordings: Sequence[Recording], offsets_s: Sequence[float | None]) -> list[float]:
    """Return when recordings begin: as given, from the first of the others on; those as their files state it.

    They count as stated where all of these have a time reference; else they begin together.
    """
    others = [r for r, offset_s in zip(recordings, offsets_s, strict=True) if offset_s is None]
    references = [time_reference(r.path) if r.path else None for r in others]
    stated_s = [
        reference / recording.sample_rate
        for reference, recording in zip(references, others, strict=True)
        if reference is not None
    ]
    if len(stated_s) < len(others):
        stated_s = [0.0] * len(others)
    stated = iter([begin_s - min(stated_s) for begin_s in stated_s])
    return [next(stated) if offset_s is None else offset_s for offset_s in offsets_s]


def _check_overlap(microphones: Sequence[Microphone]) -> None:
    """Raise AudioError for a microphone that sounds at no time when the others do."""
    for mic in microphones:
        others = [other for other in microphones if other is not mic]
        if others and not any(mic.begin < other.end and other.begin < mic.end for other in others):
            raise AudioError(
                f"{mic.name} and {others[0].name} do not overlap in time: they are no microphones of one "
                "performance",
                hint="say with --offset, or in a sheet's column offset, when each begins, or redrum them apart",
            )
