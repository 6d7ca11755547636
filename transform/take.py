"""A take: a recording's drums playing a rhythm.

A take is a description of what plays, not samples: any region of it can be read, so memory does not grow with
its length. With separate outputs it is the sum of one part for each class: what the hits of the class play, and
the source's own stem where some of the original plays along.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

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
from transform.errors import RhythmError
from transform.events import CLASS_NAMES, CLASSES, DrumEvent, Rhythm
from transform.metadata import Metadata
from transform.onsets import refine_onsets
from transform.peaks import TRUE_PEAK_CEILING, Dips, PeakMeter, clipping_notes, true_peak
from transform.playing_on import Rounds, fade_out
from transform.resequence import Arrangement
from transform.separator import StemReader
from transform.settings import RenderSettings
from transform.signal import (
    Samples,
    Signal,
    added,
    blocks_of,
    nearest_sample,
    overlapping_blocks,
    zeros_outside,
)
from transform.spool import SpoolFile

_BLOCK_SAMPLES = 2**17
_CUT_FADE_S = 0.005
_MOMENT_S = 0.5
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Level:
    """How a take is kept from clipping."""

    gain_db: float = 0.0  # of the whole
    n_down: int = 0  # strokes that are turned down
    down_db: float = 0.0  # the most that one is
    over_db: float = 0.0  # how far peaks are over full scale, where that is allowed

    def notes(self) -> list[str]:
        """Return what was decided, a sentence each."""
        notes = clipping_notes([self.down_db] * self.n_down, self.gain_db)
        if self.over_db > 0:
            notes.append(f"peaks are {self.over_db:.2f} dB over full scale, which floating point holds")
        return notes


class Take:
    """A recording's drums playing a rhythm; `notes()` are sentences that its user should read."""

    def __init__(
        self,
        source: Recording,
        rhythm: Rhythm,
        source_events: list[DrumEvent],
        arrangement: Signal,
        *,
        stems: StemReader | None,
        n_samples: int,
        settings: RenderSettings,
        notes: tuple[str, ...],
    ) -> None:
        self.format: AudioFormat = source.format
        self.sample_rate, self.n_channels = source.sample_rate, source.n_channels
        self.n_samples = n_samples
        self.rhythm = rhythm
        self.source_events = source_events
        self._source, self._arrangement, self._settings = source, arrangement, settings
        self._playing = arrangement  # with the strokes turned down that make peaks
        self._stems = stems
        self._notes = notes
        self._n_parts = len(CLASSES) if settings.separate_outputs else 1
        self._is_float = is_float(self.format.subtype)
        self._level: _Level | None = None
        self._rendered: SpoolFile | None = None  # all of it, once it was rendered for its peaks
        self._dips: Dips | None = None  # where no stroke can be turned down by itself: what is done instead

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.sample_rate

    @property
    def tempo_bpm(self) -> float | None:
        """The tempo that all of it plays at; None where that is not known, or changes, or there are two."""
        tempo_map = self.rhythm.tempo_map
        if tempo_map is None or len(tempo_map.changes) > 1:
            return None
        bpm = tempo_map.changes[0][1]
        if self._settings.mix < 1 or self._settings.retained:  # then the source plays along
            own = self._settings.source_bpm if isinstance(self._settings.source_bpm, int | float) else None
            stated = self._source.tempo_bpm()
            own = own or (stated[0] if stated else None)
            return bpm if own is not None and math.isclose(own, bpm, rel_tol=1e-6) else None
        return bpm

    def metadata(self) -> Metadata:
        """Return what a file of it states beside the sound: of its source's what holds, and its own tempo."""
        source = self._source
        return source.metadata.of_take(self.n_samples, self.sample_rate, source.n_samples, self.tempo_bpm)

    def gain_db(self) -> float:
        """Return the gain that keeps the take from clipping, 0 or less; the first call renders it."""
        return self._levelled.gain_db

    def notes(self) -> tuple[str, ...]:
        """Return what was decided for the user, one sentence each; the first call renders the take."""
        return (*self._notes, *self._notes_on_source(), *self._levelled.notes())

    def _notes_on_source(self) -> list[str]:
        """Return a sentence on each of what plays on where the take is longer than its source."""
        notes = []
        plays_on = any(event.drum_class in self._settings.retained for event in self.source_events)
        if plays_on and self._rounds.n_rounds > 1:
            period_s = self._rounds.period / self.sample_rate
            notes.append(
                f"the take is longer than the source: its own drums begin again every {period_s:.3f} s"
            )
        if self._settings.mix < 1 and self._source.n_samples < self.n_samples:
            notes.append(f"the original in the mix ends after {self._source.duration_s:.3f} s")
        return notes

    def render(self, report: Progress) -> None:
        """Render the take, unless it was, so that all reads after it are quick.

        Args:
            report: called often with "render" and the fraction done; what it raises gives the take up for now.
        """
        if self._level is None:
            self._level = self._levels(report)

    def prepare(self, subtype: str) -> None:
        """Decide how the take is stored; until then it is as its source is.

        Peaks are turned down only where they would clip, so what is read may differ from what was read before.

        Args:
            subtype: soundfile's name of the sample format.
        """
        if is_float(subtype) != self._is_float:
            self._is_float, self._level, self._rendered = is_float(subtype), None, None
            self._dips = None

    def played_rhythm(self) -> Rhythm:
        """Return what plays: the rhythm, and of the classes that the source retains its own strokes."""
        retained = self._settings.retained
        own = [event for event in self.source_events if event.drum_class in retained]
        refined = refine_onsets(self._source, own) if own else []
        rounds = (
            replace(event, onset_s=onset_s)
            for event in refined
            for onset_s in self._rounds.onsets_s(event.onset_s, self.sample_rate)
            if onset_s < self.rhythm.length_s
        )
        events = sorted((*self.rhythm.events, *rounds), key=lambda event: event.onset_s)
        return replace(self.rhythm, events=tuple(events))

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) of the take, shape (C, stop - start), zeros outside of it."""
        return added(self._parts(start, stop))

    def read_outputs(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) of each class, shape (5, C, stop - start), zeros outside of the take.

        What `added` makes of them is the take, bit by bit. Only a take with separate outputs has them.
        """
        assert self._settings.separate_outputs
        return self._parts(start, stop)

    def _parts(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) of the parts of the take, shape (N, C, stop - start)."""
        gain = np.float32(10 ** (self._levelled.gain_db / 20))  # before the take is read, as it renders it
        out = zeros_outside(self._inside, start, stop, (self._n_parts * self.n_channels, self.n_samples))
        out *= gain
        return out.reshape(self._n_parts, self.n_channels, stop - start)

    def changed_from(self, other: Take) -> list[tuple[int, int]] | None:
        """Return the regions, in samples, in which this differs from another take of one kit; it renders both.

        None: it may differ anywhere.
        """
        ours, theirs = self._levelled, other._levelled
        playing = self._playing, other._playing
        if not (isinstance(playing[0], Arrangement) and isinstance(playing[1], Arrangement)):
            return None
        if (self.n_samples, ours.gain_db, self._settings) != (other.n_samples, theirs.gain_db, other._settings):
            return None
        return playing[0].changed_from(playing[1])

    def sound_of(self, event: DrumEvent) -> Samples:
        """Return the sound that plays a stroke, shape (C, T), of what is generated a moment of all that sounds.

        Raises:
            RhythmError: nothing plays it.
        """
        attack = nearest_sample(event.onset_s, self.sample_rate)
        if not isinstance(self._arrangement, Arrangement):
            return self.read(attack, attack + round(_MOMENT_S * self.sample_rate))
        sound = self._arrangement.sound_of(attack, event.drum_class)
        if sound is None:
            raise RhythmError(f"nothing plays the {CLASS_NAMES[event.drum_class]} at {event.onset_s:.3f} s")
        return sound

    def blocks(self, block_samples: int = _BLOCK_SAMPLES) -> Iterator[Samples]:
        """Return the take from beginning to end."""
        return blocks_of(self, block_samples)

    def write(
        self,
        path: Path,
        *,
        overwrite: bool = False,
        bit_depth: str | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Write the take in the source's sample rate, channels and depth; whole or not at all.

        Raises:
            OutputError: the file exists and `overwrite` is not set, or it cannot be written.
            SettingsError: the file name's ending or the bit depth is not one that can be written.
        """
        _, subtype = resolve_output(path, self.format, bit_depth)
        check_output(path, overwrite=overwrite)
        self.prepare(subtype)
        fmt = replace(self.format, subtype=subtype, is_lossy=False, metadata=self.metadata())
        write_audio(path, self._reported(progress), fmt, overwrite=overwrite)

    def _reported(self, progress: Progress | None) -> Iterator[Samples]:
        done = 0
        for block in self.blocks():
            yield block
            done += block.shape[1]
            if progress is not None:
                progress("render", done / self.n_samples)

    @property
    def _levelled(self) -> _Level:
        """How the take is kept from clipping; the first use renders it, twice where strokes are turned down."""
        if self._level is None:
            self._level = self._levels()
        return self._level

    def _levels(self, report: Progress = lambda stage, fraction: None) -> _Level:
        self._playing = self._arrangement
        meter = self._render(report)
        if self._is_float:
            return _Level(over_db=_db(meter.sample_peak))
        ceiling = TRUE_PEAK_CEILING
        if meter.true_peak > ceiling:
            blocks = map(self._source.at_stored_level, blocks_of(self._source, _BLOCK_SAMPLES))
            ceiling = max(ceiling, true_peak(blocks, self.n_channels, self.sample_rate))
        n_down, down_db = 0, 0.0
        peaks_db = [(at, _db(level / ceiling)) for at, level in meter.passed(ceiling)]
        if peaks_db and isinstance(self._arrangement, Arrangement):
            self._playing, n_down, down_db = self._arrangement.turned_down(peaks_db)
            meter = self._render(report)
        elif peaks_db:
            attacks = [nearest_sample(event.onset_s, self.sample_rate) for event in self.rhythm.events]
            period = self.n_samples if self._settings.tail == "wrap" else None
            self._dips = Dips(peaks_db, attacks, self.sample_rate, period)
            n_down, down_db = len(self._dips.depths_db), max(self._dips.depths_db)
            meter = self._meter()
            for place in overlapping_blocks(self.n_samples, _BLOCK_SAMPLES):
                self._measure(meter, self._inside(place.start, place.stop))
            meter.end()
        # A hair below full scale, so that rounding to integers never reaches beyond it.
        gain_db = min(0.0, -_db(meter.sample_peak / 0.9999), -_db(meter.true_peak / (1.0001 * ceiling)))
        return _Level(gain_db=gain_db, n_down=n_down, down_db=down_db)

    def _render(self, report: Progress) -> PeakMeter:
        """Render the take, store it if there is room, and return its peaks."""
        spool: SpoolFile | None = SpoolFile(self._n_parts * self.n_channels)
        meter = self._meter()
        for place in overlapping_blocks(self.n_samples, _BLOCK_SAMPLES):
            block = self._raw(place.start, place.stop)
            report("render", place.stop / self.n_samples)
            self._measure(meter, block)
            try:
                if spool is not None:
                    spool.add(block)
            except OSError as err:
                why = err.strerror or err
                _log.warning("%s: a long take is computed twice, as there is no room to store it", why)
                spool = None
        meter.end()
        self._rendered = spool
        return meter

    def _meter(self) -> PeakMeter:
        return PeakMeter(self.n_channels, self.sample_rate)

    def _measure(self, meter: PeakMeter, block: Samples) -> None:
        whole = added(block.reshape(self._n_parts, self.n_channels, -1))
        meter.add(self._source.at_stored_level(whole))

    def _inside(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) of all parts, as `_raw` does, with what makes peaks turned down."""
        out = (self._raw if self._rendered is None else self._rendered.read)(start, stop)
        return out if self._dips is None else out * self._dips.gains(start, stop)

    def _raw(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) of all parts, which lie inside the take, before its gain, (N * C, T)."""
        settings = self._settings
        out = np.zeros((self._n_parts, self.n_channels, stop - start), dtype=np.float32)
        if settings.mix > 0:
            out += self._arranged(start, stop)
            if settings.tail == "cut":
                fade_out(out, start, self.n_samples, self._n_fade)
            if settings.retained:
                self._add_retained(out, start, stop)
        if settings.mix < 1:
            out *= np.float32(settings.mix)
            out += np.float32(1 - settings.mix) * self._once.read(self._original, start, stop)
        return out.reshape(-1, stop - start)

    def _arranged(self, start: int, stop: int) -> Samples:
        """Return what plays the rhythm, of each part, shape (N, C, T)."""
        if not self._settings.separate_outputs:
            return self._playing.read(start, stop)[None]
        assert isinstance(self._playing, Arrangement)
        return self._playing.read_classes(start, stop)

    def _original(self, start: int, stop: int) -> Samples:
        """Return the source, or its stems, shape (N, C, T)."""
        if not self._settings.separate_outputs:
            return self._source.read(start, stop)[None]
        assert self._stems is not None
        return self._stems.read(start, stop)

    def _add_retained(self, out: Samples, start: int, stop: int) -> None:
        """Add the stems that the source goes on playing, each with its gain, to the parts of a take."""
        stems, retained = self._stems, self._settings.retained
        assert stems is not None
        own = self._rounds.read(lambda begin, end: stems.read(begin, end, retained), start, stop)
        for drum_class, stem in zip(retained, own, strict=True):
            gain = np.float32(10 ** (self._settings.gain_db.get(drum_class, 0.0) / 20))
            part = CLASSES.index(drum_class) if len(out) > 1 else 0
            out[part] += gain * stem

    @property
    def _once(self) -> Rounds:
        """The source as the mix has it."""
        is_loop = self._settings.tail == "wrap"
        return Rounds.once(self._source.n_samples, self.n_samples, n_fade=self._n_fade, is_loop=is_loop)

    @cached_property
    def _rounds(self) -> Rounds:
        """The source as its retained drums play on."""
        n_rhythm = round(self.rhythm.length_s * self.sample_rate)
        return self._once.repeated(n_rhythm, self.sample_rate, self.rhythm.bpm)

    @property
    def _n_fade(self) -> int:
        return max(1, round(_CUT_FADE_S * self.sample_rate))


def _db(ratio: float) -> float:
    return 20 * math.log10(max(ratio, 1e-9))
