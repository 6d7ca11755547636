"""Recordings: sounds that are opened but never loaded whole, and what writes sounds again.

Samples are float32 of shape (C, T), full scale is 1. Files keep their own sample rate, channels and bit depth.
"""

import logging
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from transform.audio_format import AudioFormat, is_float, resolve_output
from transform.audio_writing import (
    BeyondFullScale,
    PartFile,
    store_parts,
    store_together,
    write_audio,
    write_parts,
)
from transform.decoding import Decoder, open_decoder
from transform.errors import AudioError
from transform.files import check_output, write_bytes_atomic, write_text_atomic
from transform.metadata import Metadata, read_metadata
from transform.resampling import streamed
from transform.signal import (
    BlockCache,
    Samples,
    Signal,
    blocks_of,
    overlapping_blocks,
    read_blocks,
    zeros_outside,
)
from transform.spool import SpoolFile
from transform.stated_tempo import stated_tempo

__all__ = [
    "SAMPLE_RATE",
    "AudioFormat",
    "BeyondFullScale",
    "PartFile",
    "Recording",
    "Samples",
    "check_output",
    "is_float",
    "resolve_output",
    "store_parts",
    "store_together",
    "write_audio",
    "write_bytes_atomic",
    "write_parts",
    "write_text_atomic",
]

SAMPLE_RATE = 44_100  # rate of the analysis signal and of the models, Hz

Progress = Callable[[str, float], None]  # called with the stage, and the fraction of it that is done

_log = logging.getLogger(__name__)
_BLOCK_SAMPLES = 2**18
_CACHED_SAMPLES = 2**10, 2**17  # of cached blocks, at least and of all channels together
_CACHED_BLOCKS, _SHORT_BLOCKS = 8, 64  # of a long recording, and of one that is cached whole
_MAX_CHANNELS = 1024  # libsndfile's own limit
_MOST_FILE_CHANNELS = 64  # of 7th-order ambisonics and of MADI; more take minutes a second
_LONGEST_S = 86_400.0
_LOUDEST = 1e6  # 120 dB over full scale; much more overflows as soon as it is squared and summed
_CANCELLED_DB = -12.0  # of the mean of the channels against the loudest of them
_RATES_HZ = (1_000, 1_000_000)  # what lies outside stands in damaged headers, and would take hours to resample


MakesFeatures = Callable[[Any], Any]  # audio -> features, tensors as `Listener` has them


class ReadsFeatures(Protocol):
    """What reads features by frames: transform/features.py."""

    n_frames: int

    def read(self, begin: int, end: int, /) -> Any:
        """Return the features of frames [begin, end), a tensor (1, C, end - begin, K)."""


class Recording:
    """A sound that is opened, not loaded, so that half an hour of it needs no more memory than a second.

    Not for use by several threads at once. Close it, or use it in a `with` statement, to free its file early.
    """

    def __init__(self, name: str, fmt: AudioFormat, n_samples: int) -> None:
        self.name = name
        self.format = fmt
        self.n_samples = n_samples
        self.spread_s = 0.0  # how much later a stroke may reach one channel than another
        self.path: Path | None = None
        self._stored: Callable[[int, int], Samples] | None = None  # what reads a sound that is in no file
        self._decoder: Decoder | None = None
        self._decoded: SpoolFile | None = None
        self._block_samples = max(_CACHED_SAMPLES[0], _CACHED_SAMPLES[1] // self.n_channels)
        self._is_short = n_samples <= _SHORT_BLOCKS * self._block_samples
        self._cache: BlockCache[int, Samples] = BlockCache(_SHORT_BLOCKS if self._is_short else _CACHED_BLOCKS)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Return the recording in a sound file, after checking that all of it is there.

        Raises:
            AudioError: the file is missing, a folder, empty, cut short, without samples or not a sound file.
        """
        decoder = open_decoder(path)
        recording = cls(path.stem, decoder.format, decoder.n_samples)
        recording.path, recording._decoder = path, decoder
        try:
            recording._check_end()
        except AudioError:
            recording.close()
            raise
        return recording

    @classmethod
    def from_samples(cls, samples: npt.ArrayLike, sample_rate: int, name: str = "recording") -> Self:
        """Return a recording of samples in memory, shape (C, T) or (T,).

        Raises:
            AudioError: there are no samples, or the shape or the sample rate is not possible.
        """
        array = np.atleast_2d(np.asarray(samples, dtype=np.float32))
        if array.ndim != 2 or array.shape[0] > _MAX_CHANNELS:
            raise AudioError(
                f"{name} has the shape {array.shape}; it must be (channels, samples)",
                hint="transpose it if the samples come first",
            )
        if array.size == 0:
            raise AudioError(f"{name} holds no samples", hint="pass at least one sample")
        if sample_rate <= 0:
            raise AudioError(f"the sample rate of {name} is {sample_rate} Hz", hint="pass its rate in Hz")
        fmt = AudioFormat(sample_rate=int(sample_rate), n_channels=array.shape[0], subtype="FLOAT")
        recording = cls(name, fmt, array.shape[1])
        recording._stored = lambda start, stop: array[:, start:stop]
        return recording

    @classmethod
    def of_signal(cls, signal: Signal, fmt: AudioFormat, name: str) -> Self:
        """Return a recording that is a view of a signal, which must stay open as long.

        Raises:
            AudioError: there are no samples.
        """
        if not signal.n_samples:
            raise AudioError(f"{name} holds no samples", hint="pass at least one sample")
        recording = cls(name, fmt, signal.n_samples)
        recording._stored = signal.read
        return recording

    @property
    def sample_rate(self) -> int:
        """Samples per second and channel."""
        return self.format.sample_rate

    @property
    def n_channels(self) -> int:
        """The number of channels."""
        return self.format.n_channels

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return self.n_samples / self.sample_rate

    def read(self, start: int, stop: int) -> Samples:
        """Return the samples from `start` up to `stop`, shape (C, stop - start), zeros outside the recording.

        Raises:
            AudioError: a sample is NaN or infinite, or the file cannot be decoded.
        """
        return zeros_outside(self._checked, start, stop, (self.n_channels, self.n_samples))

    def mono_blocks(self, sample_rate: int = SAMPLE_RATE, block_s: float = 10.0) -> Iterator[Samples]:
        """Yield the mono mix of the recording, as `mono`, at another sample rate, in blocks, sample by sample.

        Together the blocks, each of shape (T,), hold `round(n_samples * sample_rate / self.sample_rate)`
        samples, and at least one.
        """
        step = max(1, round(block_s * self.sample_rate))
        blocks = (
            self.mono(block.start, block.stop)[None] for block in overlapping_blocks(self.n_samples, step)
        )
        yield from (block[0] for block in streamed(blocks, self, sample_rate))

    def features(self, listen: MakesFeatures) -> "ReadsFeatures | None":
        """Return what reads the features that are transcribed; None: they are those of the mono mix."""
        return None

    def read_views(self, start: int, stop: int) -> Samples:
        """Return the views of samples [start, stop), shape (V, stop - start): see `views`."""
        return self.views(self.read(start, stop))

    def views(self, samples: Samples) -> Samples:
        """Return the signals of samples (C, T) that are measured each for itself, shape (V, T).

        Of a recording that is its mono mix; of microphones of one performance it is each of their channels, as
        these cancel in a mix.
        """
        return self.mixed(samples)[None]

    def closest(self, start: int, stop: int) -> Samples:
        """Return the loudest view of samples [start, stop), shape (stop - start,)."""
        views = self.read_views(start, stop)
        loudest: Samples = views[int(np.square(views).sum(axis=1).argmax())]
        return loudest

    def at_stored_level(self, samples: Samples) -> Samples:
        """Return samples (C, T) of this recording's channels as loud as its files have them."""
        return samples

    @property
    def full_scale(self) -> Samples:
        """What full scale of its files is in its samples, shape (C, 1)."""
        return np.ones((self.n_channels, 1), dtype=np.float32)

    def monitored(self, samples: Samples) -> Samples:
        """Return samples (C, T) in two channels at most: of more, the means of the odd and of the even ones."""
        if len(samples) <= 2:
            return samples
        return np.stack((samples[::2].mean(axis=0), samples[1::2].mean(axis=0)))

    def lacking(self, start: int, stop: int) -> frozenset[str]:
        """Return the names of its microphones that were not running all the time from `start` to `stop`."""
        return frozenset()

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided about it that its user should read, one sentence each."""
        return ()

    def mono(self, start: int, stop: int) -> Samples:
        """Return the mono mix of samples [start, stop), shape (stop - start,): see `mixed`.

        Raises:
            AudioError: a sample is NaN or infinite, or the file cannot be decoded.
        """
        return self.mixed(self.read(start, stop))

    def mixed(self, samples: Samples) -> Samples:
        """Return the mono mix of samples (C, T) that have this recording's channels, shape (T,).

        It is their mean; or, where that is much softer than they are on the whole, being of opposite phase, the
        loudest channel.
        """
        channel = self.mono_channel
        mono: Samples = samples.mean(axis=0) if channel is None else samples[channel]
        return mono

    @property
    def mono_channel(self) -> int | None:
        """The channel that stands for the mix where the channels cancel each other; None: their mean does."""
        return None if self.n_channels == 1 else self._channel_and_peak[0]

    @property
    def mono_peak(self) -> float:
        """The peak of the mono mix."""
        return self._channel_and_peak[1]

    @cached_property
    def _channel_and_peak(self) -> tuple[int | None, float]:
        """The channel of the mono mix, found in one pass, and the mix's peak."""
        energy, peak = (np.zeros(self.n_channels + 1) for _ in range(2))  # of the mean, then of each channel
        for block in blocks_of(self, _BLOCK_SAMPLES):
            for i, sound in enumerate((block.mean(axis=0), *(block if self.n_channels > 1 else ()))):
                energy[i] += np.dot(sound, sound)
                peak[i] = max(peak[i], np.abs(sound).max())
        loudest = int(energy[1:].argmax())
        if energy[0] >= energy[1 + loudest] * 10 ** (_CANCELLED_DB / 10):
            return None, float(peak[0])
        _log.info(
            "%s: its channels cancel each other, so channel %d alone is transcribed", self.name, loudest + 1
        )
        return loudest, float(peak[1 + loudest])

    @property
    def metadata(self) -> Metadata:
        """What its file states beside the sound, as far as results retain it."""
        return Metadata() if self.path is None else read_metadata(self.path)

    def tempo_bpm(self) -> tuple[float, str] | None:
        """Return the tempo that the file states and where it does, or None where it states none."""
        return stated_tempo(self.path, self.name)

    def close(self) -> None:
        """Close the file; the recording cannot be read any more."""
        self._cache.clear()
        for file in (self._decoder, self._decoded):
            if file is not None:
                file.close()

    def __del__(self) -> None:
        self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def _label(self) -> str:
        return self.path.name if self.path else self.name

    def _check_end(self) -> None:
        """Raise AudioError unless there are samples, at a rate of sound, and the last can be decoded."""
        assert self._decoder is not None
        if self.n_samples <= 0:
            raise AudioError(f"{self._label} holds no samples", hint="export it again from where it was made")
        if self.n_samples >= 2**62:
            raise AudioError(f"{self._label} has no length", hint="convert it to WAV or encode it again")
        if not _RATES_HZ[0] <= self.sample_rate <= _RATES_HZ[1]:
            raise AudioError(
                f"{self._label} has a stated rate of {self.sample_rate} Hz, which no sound has",
                hint="copy or export it again",
            )
        if self.duration_s > _LONGEST_S:
            raise AudioError(f"{self._label} lasts more than a day", hint="cut out what is to be redrummed")
        if self.n_channels > _MOST_FILE_CHANNELS:
            raise AudioError(
                f"{self._label} has {self.n_channels} channels, more than {_MOST_FILE_CHANNELS}",
                hint="export only the channels you need",
            )
        self._decoder.check_end()

    def _checked(self, start: int, stop: int) -> Samples:
        """Return samples that lie inside the recording, shape (C, T); raise AudioError for what is no sound."""
        samples = self._fetch(start, stop)
        if not _is_sound(samples):
            bad = int((~(np.abs(samples) <= _LOUDEST)).any(axis=0).argmax())
            is_finite = np.isfinite(samples[:, bad]).all()
            what = "far beyond full scale" if is_finite else "that is not a number (NaN or infinite)"
            raise AudioError(
                f"{self._label} holds a value {what} at {(start + bad) / self.sample_rate:.3f} s",
                hint="export it again, or repair it in an audio editor",
            )
        return samples

    def _fetch(self, start: int, stop: int) -> Samples:
        """Return samples that lie inside the recording, shape (C, T), as they are stored."""
        if self._stored is not None:
            return self._stored(start, stop)
        assert self._decoder is not None
        if not self._decoder.is_exact:
            if self._decoded is None:
                self._decoded = self._decoder.decoded()
            return self._decoded.read(start, stop)
        n_blocks = (stop - 1) // self._block_samples - start // self._block_samples + 1
        if n_blocks > 2 and not self._is_short:
            return self._decoder.read(start, stop)
        try:
            return read_blocks(
                lambda number: self._cache.get(number, self._decode_block), self._block_samples, start, stop
            )
        except AudioError:
            return self._decoder.read(start, stop)  # which may lie before what is damaged

    def _decode_block(self, number: int) -> Samples:
        assert self._decoder is not None
        start = number * self._block_samples
        return self._decoder.read(start, min(start + self._block_samples, self.n_samples))


def _is_sound(samples: Samples) -> bool:
    return bool(samples.max() <= _LOUDEST and samples.min() >= -_LOUDEST)  # false of what is not a number, too
