"""Takes of several microphones as files: one for each, in its own rate and depth; all of them or none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from transform.audio import AudioFormat, PartFile, Progress, is_float, resolve_output, store_together
from transform.files import atomic_files
from transform.metadata import Metadata
from transform.mic_levels import Microphone
from transform.mics import RESAMPLING_QUALITY, MicRecording
from transform.midi import write_midi
from transform.resampling import RateConverter
from transform.signal import Samples, overlapping_blocks

if TYPE_CHECKING:
    from transform.take import Take

_WRITTEN_SAMPLES = 2**17


@dataclass(frozen=True, kw_only=True)
class MicFiles:
    """Where a take of several microphones goes."""

    takes: Sequence[Path]  # one for each microphone, in their order
    midi: Path | None = None

    def all(self) -> list[Path]:
        """Return every file."""
        return [*self.takes, *filter(None, [self.midi])]


def write_mics(
    take: Take,
    microphones: MicRecording,
    files: MicFiles,
    *,
    bit_depth: str | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> list[AudioFormat]:
    """Write a take, a file for each microphone in its own rate, channels and depth; all of them or none.

    All begin at the same time and are equally long.

    Args:
        take: of the microphones.
        microphones: what it was made of.
        files: where it goes.
        bit_depth: "16", "24", "32" or "32f" instead of each microphone's own.
        overwrite: replace files that exist.
        progress: called with "render" and the fraction done.

    Returns:
        The format of each file.

    Raises:
        OutputError: a file exists and `overwrite` is not set, or one cannot be written.
        SettingsError: a name's ending or the bit depth is not one that can be written.
        RhythmError: MIDI cannot hold the tempo of what plays.
    """
    formats = take_formats(microphones, files.takes, bit_depth)
    take.prepare("FLOAT" if all(is_float(fmt.subtype) for fmt in formats) else "PCM_24")
    midi = write_midi(take.played_rhythm()) if files.midi else b""
    converters = [
        RateConverter(take.n_samples, take.sample_rate, fmt.sample_rate, RESAMPLING_QUALITY) for fmt in formats
    ]
    with atomic_files(files.all(), overwrite=overwrite) as temporaries:
        parts = [
            PartFile(path=path, temporary=temporary, subtype=fmt.subtype)
            for path, temporary, fmt in zip(files.takes, temporaries, formats, strict=False)
        ]
        blocks = _blocks(take, microphones, list(zip(converters, formats, strict=True)), progress)
        lengths = [converter.n_samples for converter in converters]
        described = [
            replace(fmt, metadata=_metadata(take, mic, length))
            for mic, fmt, length in zip(microphones.microphones, formats, lengths, strict=True)
        ]
        store_together(parts, described, blocks, lengths)
        if files.midi:
            temporaries[-1].write_bytes(midi)
    return formats


def _metadata(take: Take, mic: Microphone, n_samples: int) -> Metadata:
    """Return what the result of a microphone states, which begins where the first of the microphones does."""
    own = mic.recording
    earlier = round(mic.begin / take.sample_rate * own.sample_rate)
    return own.metadata.moved(-earlier).of_take(n_samples, own.sample_rate, own.n_samples, take.tempo_bpm)


def take_formats(microphones: MicRecording, paths: Sequence[Path], bit_depth: str | None) -> list[AudioFormat]:
    """Return the format in which the result of each microphone is stored.

    Raises:
        SettingsError: a path's ending or the bit depth is not one that can be written.
    """
    formats = []
    for path, mic in zip(paths, microphones.microphones, strict=True):
        _, subtype = resolve_output(path, mic.recording.format, bit_depth)
        formats.append(replace(mic.recording.format, subtype=subtype, is_lossy=False))
    return formats


def _blocks(
    take: Take,
    microphones: MicRecording,
    forms: Sequence[tuple[RateConverter, AudioFormat]],
    progress: Progress | None,
) -> Iterator[list[Samples]]:
    """Yield the next samples of the result of each microphone, at its own rate, from beginning to end."""
    for block in overlapping_blocks(take.n_samples, _WRITTEN_SAMPLES):
        samples = microphones.at_stored_level(take.read(block.start, block.stop))
        sounds = []
        for mic, (converter, fmt) in zip(microphones.microphones, forms, strict=True):
            sound = converter.convert(samples[mic.channels])
            if fmt.sample_rate != take.sample_rate and not is_float(fmt.subtype):
                sound = sound.clip(-1, 1)  # what was clipped before may pass full scale at another rate
            sounds.append(sound)
        yield sounds
        if progress is not None:
            progress("render", block.stop / take.n_samples)
