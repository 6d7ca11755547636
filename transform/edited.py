"""What an editor makes of a recording: the recording with its strokes edited, or its drums playing others.

An edited recording is the recording and its patches: what is taken out of it, and what is put into it. A patch
depends on its stroke and on those of its class around it alone, so that an edit changes nothing far from it.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from transform.audio import (
    AudioFormat,
    Progress,
    Recording,
    check_output,
    is_float,
    resolve_output,
    write_audio,
)
from transform.edit_kit import nothing_plays
from transform.edit_patches import (
    LIMITER_S,
    Guarded,
    Patch,
    Patches,
    PutIn,
    Regions,
    TakenOut,
    limited,
    merged,
    sum_within,
)
from transform.edit_sound import StrokeSounds, own_gain
from transform.errors import RhythmError
from transform.events import CLASSES
from transform.hits import LONGEST_S
from transform.metadata import Metadata
from transform.peaks import clipping_notes
from transform.signal import Samples, blocks_of, overlapping_blocks
from transform.strokes import Stroke
from transform.take import Take

_BLOCK_SAMPLES = 2**17
_BELOW_FULL_SCALE = 0.9999
_ROUNDED = {"PCM_32": "integers of 32 bits", "DOUBLE": "floats of 64 bits"}  # all sound is in floats of 32


class Written(NamedTuple):
    """What was decided when a result was written."""

    gain_db: float  # of the whole, so that nothing clips; 0 or less
    notes: tuple[str, ...]  # all sentences for the user


class Edited(ABC):
    """A recording as edited: a signal, any region of which can be read."""

    def __init__(self, source: Recording, n_samples: int) -> None:
        self.n_samples = n_samples
        self.format: AudioFormat = source.format
        self.sample_rate, self.n_channels = source.sample_rate, source.n_channels

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate

    @property
    @abstractmethod
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user on what is not as requested; the first use computes what they need."""

    def prepare(self, report: Progress) -> None:
        """Compute what the first read would wait for: of a replay all of it, of an edited recording nothing.

        Args:
            report: called often with "render" and the fraction done; what it raises gives it up for now.
        """
        report("render", 1.0)

    @abstractmethod
    def read(self, start: int, stop: int, /) -> Samples:
        """Return samples [start, stop), shape (C, stop - start), zeros outside the signal."""

    @abstractmethod
    def read_outputs(self, start: int, stop: int, /) -> Samples:
        """Return samples [start, stop) of each class, shape (5, C, stop - start), which add up to the result.

        A replay has them where its settings have separate outputs.
        """

    @abstractmethod
    def changed_from(self, other: Edited) -> Regions:
        """Return the regions, in samples, in which this may differ from another result of the same editor."""

    @abstractmethod
    def hit(self, stroke_id: str) -> Samples:
        """Return the sound that a stroke has in it, shape (C, T); of a deleted one, what it had before.

        Raises:
            RhythmError: there is no such stroke, or nothing that plays it.
        """

    @abstractmethod
    def write(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        bit_depth: str | None = None,
        progress: Progress | None = None,
    ) -> Written:
        """Write it in the source's rate, channels and depth, whole or not at all, and return what was decided.

        Args:
            path: its ending chooses the container.
            overwrite: replace a file that exists.
            bit_depth: "16", "24", "32" or "32f" instead of the source's.
            progress: called with "render" and the fraction done.

        Raises:
            OutputError: the file exists and `overwrite` is not set, or it cannot be written.
            SettingsError: the file name's ending or the bit depth is not one that can be written.
        """

    @abstractmethod
    def stored(self, subtype: str) -> Stored:
        """Return it as it is stored in a sample format, by soundfile's name of that."""

    @property
    def is_untouched(self) -> bool:
        """Whether it is the recording itself, sample for sample."""
        return False

    @abstractmethod
    def metadata_of(self, recording: Recording, own_begin: int, n_samples: int) -> Metadata:
        """Return what a file of it states that stands for one recording of several microphones.

        Args:
            recording: of the microphone.
            own_begin: the sample of the file at which that begins.
            n_samples: of the file.
        """


class Stored(NamedTuple):
    """A result as it is stored in a format."""

    sound: Edited
    gain_db: float  # that is still to be applied, so that nothing clips; 0 or less
    fmt: AudioFormat
    notes: tuple[str, ...]


class EditedRecording(Edited):
    """A recording and its patches."""

    def __init__(self, sounds: StrokeSounds, played: Sequence[Stroke], *, is_float: bool | None = None) -> None:
        """Compare strokes.

        Args:
            sounds: of what is in the recording.
            played: what shall play, by onset.
            is_float: whether peaks over full scale are no harm; None: as in the recording's format.
        """
        super().__init__(sounds.recording, sounds.recording.n_samples)
        self._sounds, self._played = sounds, played
        self._is_float = _is_float(self.format) if is_float is None else is_float
        taken_out = list(_taken_out(sounds, played))
        self._patches = Patches([*taken_out, *_put_in(sounds, played, taken_out)], self.sample_rate)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user on what is not as requested; the first use cuts the hits that are put in."""
        return self._notes(0.0)

    def _notes(self, gain_db: float) -> tuple[str, ...]:
        """Return the sentences where the whole gets a gain, too."""
        notes = self._sounds.notes(self._patches.patches)
        down = [found for patch in self._patches.patches if (found := self._guarded(patch)).down_db > 0]
        limited_db = [found.over_db - found.down_db for found in down if found.over_db > found.down_db]
        return (*notes, *clipping_notes([found.down_db for found in down], gain_db, limited_db))

    def read(self, start: int, stop: int, /) -> Samples:
        """Return samples [start, stop), shape (C, stop - start), zeros outside the recording."""
        source = self._sounds.recording
        context = 0 if self._is_float else 2 * max(1, round(LIMITER_S * self.sample_rate))
        begin, end = start - context, stop + context
        out = source.read(start, stop)
        patches = [self._guarded(patch).patch for patch in self._patches.within(begin, end)]
        if not patches:
            return out
        added = sum_within(patches, self._sounds.sound, begin, end)
        if not self._is_float:
            added = limited(source.read(begin, end), added, self.sample_rate, source.full_scale)
        is_touched = np.zeros(stop - start, dtype=bool)
        for patch in patches:
            is_touched[max(0, patch.start - start) : max(0, patch.stop - start)] = True
        # Nothing is added elsewhere, not even a zero, which would take a sample's sign.
        np.add(out, added[:, context : context + stop - start], out=out, where=is_touched)
        return out

    def read_outputs(self, start: int, stop: int, /) -> Samples:
        """Return samples [start, stop) of each class: the recording's stems with their patches.

        The last one is what the others leave of the result.
        """
        out = self._sounds.cutter.stems.read(start, stop)
        by_lane: dict[str, list[Patch]] = {}
        for patch in self._patches.within(start, stop):
            by_lane.setdefault(self._sounds.lane(patch), []).append(self._guarded(patch).patch)
        for drum_class, patches in by_lane.items():
            out[CLASSES.index(drum_class)] += sum_within(patches, self._sounds.sound, start, stop)
        out[-1] = self.read(start, stop) - out[:-1].sum(axis=0)
        return out

    def changed_from(self, other: Edited) -> Regions:
        """Return the regions, in samples, in which this may differ from another result of the same editor."""
        if not isinstance(other, EditedRecording) or self._sounds.recording is not other._sounds.recording:
            return ((0, max(self.n_samples, other.n_samples)),)
        ours, theirs = set(self._patches.patches), set(other._patches.patches)
        if self._sounds is not other._sounds or self._is_float != other._is_float:
            return merged((patch.start, patch.stop) for patch in ours | theirs)
        regions = [(patch.start, patch.stop) for patch in ours ^ theirs]
        if not self._is_float:
            regions += list(self._peaks_changed(other, ours & theirs, regions))
        return merged(regions)

    def _peaks_changed(
        self, other: EditedRecording, same: Collection[Patch], regions: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, int]]:
        """Yield where patches that are the same in both sound otherwise, as peaks in changed regions do."""
        margin = 2 * max(1, round(LIMITER_S * self.sample_rate))
        for start, stop in regions:
            near = (patch for patch in self._patches.within(start - margin, stop + margin) if patch in same)
            for patch in near:
                first, last = self._sounds.guard.window(patch)
                if first < stop and last > start and self._guarded(patch) != other._guarded(patch):
                    yield patch.start, patch.stop
                # The moments that are limited reach beyond a region where something else is added, too.
                yield max(patch.start, start - margin), min(patch.stop, stop + margin)

    def hit(self, stroke_id: str) -> Samples:
        """Return the sound that a stroke has in it, shape (C, T); of a deleted one, what it had before.

        Raises:
            RhythmError: there is no such stroke, or nothing that plays it.
        """
        played = next((stroke for stroke in self._played if stroke.id == stroke_id), None)
        patch = next((p for p in self._patches.patches if isinstance(p, PutIn) and p.stroke is played), None)
        if played is not None and patch is not None:
            sound = self._sounds.played(patch)
            if sound is None:
                raise RhythmError(nothing_plays(played.drum_class))
            return sound
        k = self._sounds.index.get(stroke_id)
        if k is None:
            raise RhythmError(f"there is no stroke {stroke_id[:80]!r} that sounds")
        sound = self._sounds.own_sound(k)
        gain = own_gain(self._sounds.strokes[k], played) if played else None
        return sound * np.float32(gain) if gain is not None else sound

    def write(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        bit_depth: str | None = None,
        progress: Progress | None = None,
    ) -> Written:
        """Write it in the source's rate, channels and depth, as `Edited` has it."""
        _, subtype = resolve_output(path, self.format, bit_depth)
        check_output(path, overwrite=overwrite)
        sound, gain_db, fmt, notes = self.stored(subtype)
        write_audio(path, _reported(sound, gain_db, progress), fmt, overwrite=overwrite)
        return Written(gain_db, notes)

    def stored(self, subtype: str) -> Stored:
        """Return it as it is stored in a sample format, as `Edited` has it."""
        sound = EditedRecording(self._sounds, self._played, is_float=is_float(subtype))
        gain_db = sound._fitting_gain_db()
        notes = sound._notes(gain_db)
        if (finer := _ROUNDED.get(self.format.subtype)) and not self.format.is_lossy:
            notes += (f"the source's {finer} are rounded to 24, 144 dB below what sounds, edited or not",)
        metadata = self._sounds.recording.metadata
        fmt = replace(self.format, subtype=subtype, is_lossy=False, metadata=metadata)
        return Stored(sound, gain_db, fmt, notes)

    @property
    def is_untouched(self) -> bool:
        """Whether it is the recording itself, sample for sample."""
        return not self._patches.patches

    def metadata_of(self, recording: Recording, own_begin: int, n_samples: int) -> Metadata:
        """Return what a microphone's file of it states, as `Edited` has it."""
        return recording.metadata.moved(-own_begin)

    def _fitting_gain_db(self) -> float:
        """Return the gain with which it fits an integer format: below 0 where the recording itself does not."""
        if self._is_float or not (self.format.is_lossy or is_float(self.format.subtype)):
            return 0.0
        full_scale = self._sounds.recording.full_scale
        peak = max(float(np.abs(block / full_scale).max()) for block in blocks_of(self, _BLOCK_SAMPLES))
        return 20 * math.log10(_BELOW_FULL_SCALE / peak) if peak > 1 else 0.0

    def _guarded(self, patch: Patch) -> Guarded:
        """Return a patch as it is played."""
        return Guarded(patch, 0.0, 0.0) if self._is_float else self._sounds.guard.guarded(patch, self._patches)


class Replay(Edited):
    """A recording's drums playing other strokes."""

    def __init__(
        self,
        source: Recording,
        strokes: Sequence[Stroke],
        take: Take | None,
        length_s: float,
        notes: tuple[str, ...],
    ) -> None:
        """Take a take into use, None for silence of a length."""
        n_samples = max(1, round(length_s * source.sample_rate)) if take is None else take.n_samples
        super().__init__(source, n_samples)
        self._strokes, self._take, self._notes = strokes, take, notes

    def prepare(self, report: Progress) -> None:
        """Render the take, as `Edited` has it."""
        if self._take is not None:
            self._take.render(report)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the user; the first use renders the take."""
        return self._notes if self._take is None else (*self._notes, *self._take.notes())

    def read(self, start: int, stop: int, /) -> Samples:
        """Return samples [start, stop), shape (C, stop - start), zeros outside; the first call renders all."""
        if self._take is None:
            return np.zeros((self.n_channels, stop - start), dtype=np.float32)
        return self._take.read(start, stop)

    def read_outputs(self, start: int, stop: int, /) -> Samples:
        """Return samples [start, stop) of each class, as `Edited` has it; the first call renders all."""
        if self._take is None:
            return np.zeros((len(CLASSES), self.n_channels, stop - start), dtype=np.float32)
        return self._take.read_outputs(start, stop)

    def changed_from(self, other: Edited) -> Regions:
        """Return the regions in which this may differ from another result; it renders both."""
        if isinstance(other, Replay) and self._take is not None and other._take is not None:
            regions = self._take.changed_from(other._take)
            if regions is not None:
                return merged(regions)
        return ((0, max(self.n_samples, other.n_samples)),)

    def hit(self, stroke_id: str) -> Samples:
        """Return the sound that plays a stroke, shape (C, T).

        Raises:
            RhythmError: there is no such stroke, or nothing that plays it.
        """
        stroke = next((own for own in self._strokes if own.id == stroke_id), None)
        if stroke is None:
            raise RhythmError(f"there is no stroke {stroke_id[:80]!r} that sounds")
        if self._take is None:
            raise RhythmError(nothing_plays(stroke.drum_class))
        return self._take.sound_of(stroke.event())

    def write(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        bit_depth: str | None = None,
        progress: Progress | None = None,
    ) -> Written:
        """Write it in the source's rate, channels and depth, as `Edited` has it."""
        if self._take is None:
            _, subtype = resolve_output(path, self.format, bit_depth)
            fmt = replace(self.format, subtype=subtype, is_lossy=False)
            write_audio(path, _reported(self, 0.0, progress), fmt, overwrite=overwrite)
            return Written(0.0, self.notes)
        self._take.write(path, overwrite=overwrite, bit_depth=bit_depth, progress=progress)
        return Written(self._take.gain_db(), self.notes)

    def stored(self, subtype: str) -> Stored:
        """Return it as it is stored in a sample format, as `Edited` has it; its take stays so."""
        fmt = replace(self.format, subtype=subtype, is_lossy=False)
        if self._take is not None:
            self._take.prepare(subtype)
            fmt = replace(fmt, metadata=self._take.metadata())
        return Stored(self, 0.0, fmt, self.notes)

    def metadata_of(self, recording: Recording, own_begin: int, n_samples: int) -> Metadata:
        """Return what a microphone's file of it states, as `Edited` has it."""
        tempo_bpm = None if self._take is None else self._take.tempo_bpm
        own = recording.metadata.moved(-own_begin)
        return own.of_take(n_samples, recording.sample_rate, recording.n_samples, tempo_bpm)


def _reported(signal: Edited, gain_db: float, progress: Progress | None) -> Iterator[Samples]:
    """Yield a signal from beginning to end, turned down by a gain."""
    gain = np.float32(10 ** (gain_db / 20))
    for place in overlapping_blocks(signal.n_samples, _BLOCK_SAMPLES):
        yield gain * signal.read(place.start, place.stop)
        if progress is not None:
            progress("render", place.stop / signal.n_samples)


def _is_float(fmt: AudioFormat) -> bool:
    """Tell whether what a recording's format becomes holds peaks over full scale."""
    return not fmt.is_lossy and is_float(fmt.subtype)


def _taken_out(sounds: StrokeSounds, played: Sequence[Stroke]) -> Iterator[TakenOut]:
    """Yield what is turned off, down or up of what is in the recording."""
    by_id = {stroke.id: stroke for stroke in played}
    gains: dict[int, float] = {}
    for k, stroke in enumerate(sounds.strokes):
        after = by_id.get(stroke.id)
        if after is stroke or after == stroke:
            continue
        stays = after is not None and after.onset_s == stroke.onset_s
        gains[k] = (own_gain(stroke, after) if stays and after is not None else None) or 0.0
    for k, gain in gains.items():
        before = tuple((j, gains[j]) for j in sounds.ringing_into(k) if j in gains)
        yield TakenOut(k, sounds.start(sounds.attacks[k]), sounds.stop(k), gain, before)


def _put_in(sounds: StrokeSounds, played: Sequence[Stroke], taken_out: Sequence[TakenOut]) -> Iterator[PutIn]:
    """Yield the strokes that are put in: those not in the recording, and those that were taken out of it."""
    gains: Mapping[int, float] = {patch.index: patch.gain for patch in taken_out}
    onsets: dict[str, list[float]] = {}  # of a class's strokes, in order, as they are
    for stroke in played:
        k = sounds.index.get(stroke.id)
        if k is not None and gains.get(k, 1.0) > 0:
            continue
        attack, drum_class = sounds.sample(stroke), stroke.drum_class
        if attack >= sounds.recording.n_samples:
            continue  # within half a sample of the end, where nothing of it would sound but its lead
        if drum_class not in onsets:
            onsets[drum_class] = [other.onset_s for other in played if other.drum_class == drum_class]
        own = onsets[drum_class]
        later = (round(own[i] * sounds.rate) for i in range(bisect_right(own, stroke.onset_s), len(own)))
        again = next((other for other in later if other > attack), sounds.recording.n_samples)
        end = attack + round(LONGEST_S[drum_class] * sounds.rate)
        origin = sounds.index.get(stroke.like) if k is None else k
        yield PutIn(stroke, sounds.start(attack), min(end, sounds.recording.n_samples, again), origin)
