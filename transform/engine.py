"""The one call that the command line and the DAWs use: a source and a rhythm in, a take out.

    take = Redrummer.load().redrum(Recording.open(source), rhythm, RenderSettings())
    take.write(Path("out.wav"))

A take is a description of what plays, not samples: any stretch of it can be read, so memory does not grow with
its length.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

import numpy as np

from transform.attack_overlay import AttackOverlay, Sound
from transform.audio import AudioFormat, Recording, Samples, check_output, resolve_output, write_audio
from transform.bank import Bank
from transform.errors import AudioError, CheckpointError, RhythmError
from transform.events import (
    CLASS_NAMES,
    DrumEvent,
    Rhythm,
    TempoMap,
    align,
    estimate_tempo,
)
from transform.kept_sound import KeptSound
from transform.latent import LatentArrangement, LatentModel, LatentOrder
from transform.listening import Listening, listen
from transform.presets import load_preset
from transform.resequence import Arrangement, arrange, stand_in_notes, stand_ins
from transform.separator import OpensStems, Separator, StemReader
from transform.settings import RenderSettings
from transform.transcriber import Transcriber, doubts, drum_confidence

Progress = Callable[[str, float], None]

_BLOCK_SAMPLES = 2**17
_CUT_FADE_S = 0.005
_DOUBTFUL = 0.3  # estimated tempi of less confidence are right two times in three


class Take:
    """A recording's drums playing a rhythm; `notes()` are sentences that its user should read."""

    def __init__(
        self,
        source: Recording,
        rhythm: Rhythm,
        source_events: list[DrumEvent],
        arrangement: Sound,
        *,
        stems: StemReader | None,
        n_samples: int,
        settings: RenderSettings,
        notes: tuple[str, ...],
    ) -> None:
        self.format: AudioFormat = source.format
        self.n_samples = n_samples
        self.rhythm = rhythm
        self.source_events = source_events
        self._source, self._arrangement, self._settings = source, arrangement, settings
        self._stems = stems
        self._notes = notes
        self._peak: float | None = None
        self._rendered: KeptSound | None = None  # all of it, once it was rendered for its peak

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.n_samples / self.format.sample_rate

    def gain_db(self) -> float:
        """Return the gain that keeps the take from clipping, 0 or less; the first call renders it once."""
        if self._peak is None:
            self._peak = self._rendered_peak()
        # A hair below full scale, so that rounding to integers never reaches beyond it.
        return min(0.0, -20 * math.log10(self._peak / 0.9999)) if self._peak > 0.9999 else 0.0

    def notes(self) -> tuple[str, ...]:
        """Return what was decided for the user, one sentence each; the first call renders the take."""
        gain_db = self.gain_db()
        if gain_db < 0:
            return (*self._notes, f"turned down by {-gain_db:.2f} dB so that nothing clips")
        return self._notes

    def read(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) of the take, shape (C, stop - start), zeros outside of it."""
        gain = np.float32(10 ** (self.gain_db() / 20))  # before the take is read, as it renders it
        out = self._rendered_once(start, stop)
        out *= gain
        return out

    def blocks(self, block_samples: int = _BLOCK_SAMPLES) -> Iterator[Samples]:
        """Yield the take from beginning to end."""
        for start in range(0, self.n_samples, block_samples):
            yield self.read(start, min(self.n_samples, start + block_samples))

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
        fmt = replace(self.format, subtype=subtype, is_lossy=False)
        write_audio(path, self._reported(progress), fmt, overwrite=overwrite)

    def _reported(self, progress: Progress | None) -> Iterator[Samples]:
        done = 0
        for block in self.blocks():
            yield block
            done += block.shape[1]
            if progress is not None:
                progress("render", done / self.n_samples)

    def _rendered_peak(self) -> float:
        """Render the take, keep it if there is room, and return its peak."""
        kept: KeptSound | None = KeptSound(self.format.n_channels)
        peak = 0.0
        for start in range(0, self.n_samples, _BLOCK_SAMPLES):
            block = self._raw(start, min(self.n_samples, start + _BLOCK_SAMPLES))
            peak = max(peak, float(block.max(initial=0.0)), -float(block.min(initial=0.0)))
            if kept is not None and not kept.add(block):
                kept = None
        self._rendered = kept
        return peak

    def _rendered_once(self, start: int, stop: int) -> Samples:
        """Return samples [start, stop) as they were rendered, zeros outside of the take."""
        if self._rendered is None:
            return self._raw(start, stop)
        out = np.zeros((self.format.n_channels, stop - start), dtype=np.float32)
        first, last = (max(0, min(at, self.n_samples)) for at in (start, stop))
        if first < last:
            out[:, first - start : last - start] = self._rendered.read(first, last)
        return out

    def _raw(self, start: int, stop: int) -> Samples:
        settings = self._settings
        out = np.zeros((self.format.n_channels, stop - start), dtype=np.float32)
        if settings.mix > 0:
            self._arrangement.add_to(out, start)
            if settings.tail == "cut":
                self._fade(out, start, self.n_samples)
            if settings.kept:
                out += self._as_long_as_both(self._kept(start, stop), start)
        if settings.mix < 1:
            original = self._as_long_as_both(self._source.read(start, stop), start)
            out *= np.float32(settings.mix)
            out += np.float32(1 - settings.mix) * original
        out[:, : max(0, -start)] = 0
        out[:, max(0, self.n_samples - start) :] = 0
        return out

    def _kept(self, start: int, stop: int) -> Samples:
        """Return the stems that the source goes on playing, each with its gain."""
        assert self._stems is not None
        kept = self._settings.kept
        gains = [10 ** (self._settings.gain_db.get(c, 0.0) / 20) for c in kept]
        stems = self._stems.read(start, stop, kept)
        return np.asarray(np.einsum("k,kct->ct", np.array(gains, dtype=np.float32), stems), dtype=np.float32)

    def _as_long_as_both(self, original: Samples, start: int) -> Samples:
        """Return what the source plays, faded out where source or take ends in the middle of the other."""
        if self._source.n_samples != self.n_samples:
            self._fade(original, start, min(self._source.n_samples, self.n_samples))
        return original

    def _fade(self, samples: Samples, start: int, end: int) -> None:
        """Fade out what begins at sample `start` of the take, so that it is silent at sample `end`."""
        fade = max(1, round(_CUT_FADE_S * self.format.sample_rate))
        # Counted in integers: float32 has none beyond sample 2**24, the seventh minute.
        left = end - np.arange(start, start + samples.shape[1])
        if len(left) and left[-1] < fade:
            samples *= np.clip(left / fade, 0, 1).astype(np.float32)


class Redrummer:
    """The models of a preset, ready to redrum."""

    def __init__(
        self,
        transcriber: Transcriber,
        separator: OpensStems | None = None,
        *,
        load_latent: Callable[[], LatentModel] | None = None,
    ) -> None:
        """Take models into use.

        Args:
            transcriber: transcribes sources and rhythms.
            separator: takes sources apart.
            load_latent: returns the model of the latent engine; called when that is first asked for.
        """
        self.transcriber, self.separator = transcriber, separator
        self._load_latent = load_latent

    @classmethod
    def load(cls, preset: str | Path = "default", *, device: str = "cpu", bfloat16: bool = False) -> Redrummer:
        """Return a redrummer with a preset's models.

        Args:
            preset: its name or folder.
            device: where the models run.
            bfloat16: whether the latent engine computes in this coarser format, where the device is quicker
                in it; takes are then a little different from one kind of processor to another.

        Raises:
            CheckpointError: there is no such preset, or its files are damaged.
        """
        chosen = load_preset(preset)
        transcriber, separator = Transcriber.load(chosen.weights("transcriber"), device=device), None
        if "separator" in chosen.models:
            separator = Separator.load(chosen.weights("separator"), device=device)
        load_latent = partial(LatentModel.load, chosen, device=device, bfloat16=bfloat16)
        return cls(transcriber, separator, load_latent=load_latent)

    @cached_property
    def latent(self) -> LatentModel:
        """The model of the latent engine, loaded when it is first asked for.

        Raises:
            CheckpointError: the preset lacks a part of it, a file is damaged, or the parts do not match.
        """
        if self._load_latent is None:
            raise CheckpointError(
                "there are no models of the latent engine",
                hint="use --engine resequence, or a preset with them",
            )
        return self._load_latent()

    def listen(self, recording: Recording, *, progress: Progress | None = None) -> Listening:
        """Return what is detected in a recording: activations, events with measured velocities, stems."""
        return listen(recording, self.transcriber, self.separator, progress=progress)

    def transcribe(self, recording: Recording) -> list[DrumEvent]:
        """Return the drum events of a recording with measured velocities, at their attacks, by onset."""
        return list(self.listen(recording).at_attacks().events)

    def separate(self, recording: Recording) -> StemReader:
        """Return the stems of a recording, to be read from.

        Raises:
            CheckpointError: the preset has no separator.
        """
        if self.separator is None:
            raise CheckpointError(
                "the preset has no separator", hint="use a preset with one: see `redrum presets list`"
            )
        stems = self.listen(recording).stems
        assert stems is not None
        return stems

    def rhythm_of(self, recording: Recording, bpm: float | Literal["auto"] | None = None) -> Rhythm:
        """Return the rhythm of a drum recording, as long as it.

        Args:
            recording: drum audio.
            bpm: its tempo; "auto" estimates it from the onsets; None takes what its tag or file name says.

        Raises:
            RhythmError: no drums are heard in it, or no tempo can be estimated.
        """
        return _detected_rhythm(self.listen(recording).at_attacks(), bpm)[0]

    def redrum(
        self,
        source: Recording,
        rhythm: Rhythm | Recording,
        settings: RenderSettings | None = None,
        *,
        progress: Progress | None = None,
    ) -> Take:
        """Return the source's drums playing the rhythm.

        Raises:
            AudioError: no drums are heard in the source, or it cannot be read.
            RhythmError: there is nothing to play in the rhythm.
            SettingsError: the settings ask for a tempo that nobody knows.
            CheckpointError: they ask for some of the classes, and there is no separator; or for the latent
                engine, and the preset lacks its models.
        """
        settings = settings or RenderSettings()
        if settings.kept and self.separator is None:
            raise CheckpointError(
                "the preset has no separator: it cannot redrum some of the classes and keep the others",
                hint="redrum all classes, or use a preset with one: see `redrum presets list`",
            )
        model = self.latent if settings.engine == "latent" else None
        if model is not None:
            model.check(source)
        tell = progress or (lambda stage, share: None)
        tell("transcribe source", 0.0)
        detected = self.listen(source)
        tell("separate source", 0.0)
        replays = model is None or settings.attack == "original"
        bank = Bank.of_recording(source, detected.events, detected.stems) if replays else None
        if bank is not None and model is not None and not bank.classes:
            bank = None  # nothing can be cut out: all of it is generated
        available = {e.drum_class for e in detected.events} if bank is None else bank.classes
        if not available:
            raise AudioError(
                f"no drum hits are heard in {source.name}",
                hint="give a drum recording, at a level where its hits stand out",
            )
        tell("transcribe rhythm", 0.0)
        rhythm_bpm, how, target = settings.rhythm_bpm, "", None
        if isinstance(rhythm, Recording):
            target = self.listen(rhythm).at_attacks()
            rhythm, how = _detected_rhythm(target, rhythm_bpm)
            target = replace(target, events=rhythm.events)
            rhythm_bpm = None
        played, notes = self._played(source, detected.events, rhythm, rhythm_bpm, settings)
        if how:
            notes.append(how)
        tell("render", 0.0)
        n_samples = (
            source.n_samples
            if settings.length == "source"
            else max(1, round(played.length_s * source.sample_rate))
        )
        period = n_samples if settings.tail == "wrap" else None
        chosen = stand_ins(available, played.events)
        arrangement: Sound
        if model is None:
            assert bank is not None
            arrangement = _resequenced(bank, played, settings, period)
        else:
            order = LatentOrder(
                source=detected,
                is_partial=bool(settings.kept),
                events=played.events,
                length_s=played.length_s,
                target=target,
                stand_ins=chosen,
                has_own_velocity=settings.velocity == "source",
                gain_db=settings.gain_db,
                is_cut=settings.tail == "cut",
            )
            arrangement = LatentArrangement(
                model, order, variation=settings.variation, seed=settings.seed, period=period
            )
            if bank is not None:
                arrangement = AttackOverlay(
                    arrangement,
                    _resequenced(bank, played, settings, period),
                    (event.onset_s for event in played.events),
                    sample_rate=source.sample_rate,
                    period=period,
                )
        if settings.tail == "ring":
            n_samples = max(n_samples, arrangement.end)
        doubt = doubts(source.name, drum_confidence(source))
        return Take(
            source,
            played,
            list(detected.events),
            arrangement,
            stems=detected.stems,
            n_samples=n_samples,
            settings=settings,
            notes=(*notes, *doubt, *stand_in_notes(chosen)),
        )

    def _played(
        self,
        source: Recording,
        source_events: Sequence[DrumEvent],
        rhythm: Rhythm,
        rhythm_bpm: float | Literal["auto"] | None,
        settings: RenderSettings,
    ) -> tuple[Rhythm, list[str]]:
        """Return the rhythm as the take plays it, and what was decided."""
        notes = []
        source_bpm, how = _tempo(settings.source_bpm, source, source_events, "source")
        if how:
            notes.append(how)
        if rhythm_bpm == "auto":
            estimate = estimate_tempo(rhythm.events, rhythm.length_s)
            if estimate is None:
                raise RhythmError(f"no tempo can be heard in {rhythm.name}", hint="give --rhythm-bpm N")
            rhythm_bpm, confidence = estimate
            notes.append(_estimated("rhythm", rhythm_bpm, confidence))
        rhythm, phrase = align(rhythm, mode=settings.align, source_bpm=source_bpm, rhythm_bpm=rhythm_bpm)
        notes.insert(0, f"aligned {phrase}")
        if settings.timing < 1:
            rhythm = rhythm.snapped(settings.timing)
        if isinstance(settings.velocity, int | float):
            rhythm = rhythm.with_velocity(float(settings.velocity))
        length_s = {"source": source.duration_s, "rhythm": rhythm.length_s}.get(
            settings.length if isinstance(settings.length, str) else "", settings.length
        )
        rhythm = rhythm.section(settings.start_s, float(length_s))
        if settings.kept:
            has_events = bool(rhythm.events)
            rhythm = rhythm.only(settings.classes)
            notes += _kept_notes(settings, rhythm)
            if has_events:
                return rhythm, notes
        if not rhythm.events:
            raise RhythmError(
                f"{rhythm.name} has no drum hits in the {rhythm.length_s:.2f} s that are asked for",
                hint="choose another --start or --length",
            )
        return rhythm, notes


def _detected_rhythm(detected: Listening, bpm: float | Literal["auto"] | None) -> tuple[Rhythm, str]:
    """Return the rhythm of a recording, and a sentence that says where its tempo is from or none."""
    rhythm = detected.rhythm()
    if not rhythm.events:
        raise RhythmError(
            f"no drum hits are heard in {rhythm.name}", hint="give a drum recording as the rhythm"
        )
    tempo, how = _tempo(bpm, detected.recording, rhythm.events, "rhythm")
    return replace(rhythm, tempo_map=TempoMap.constant(tempo) if tempo else None), how


def _resequenced(bank: Bank, played: Rhythm, settings: RenderSettings, period: int | None) -> Arrangement:
    """Return the rhythm played by a source's hits; `period` as `Arrangement` has it."""
    placements = arrange(
        bank,
        played.events,
        velocity="source" if settings.velocity == "source" else "rhythm",
        # No hit in which a kept class sounds along: that class plays on anyway.
        gain_db={**settings.gain_db, **dict.fromkeys(settings.kept, -math.inf)},
        seed=settings.seed,
    )
    return Arrangement(bank, placements, period=period)


def _kept_notes(settings: RenderSettings, rhythm: Rhythm) -> list[str]:
    """Return what the source goes on playing, and which of the asked-for classes the rhythm lacks."""
    played = {event.drum_class for event in rhythm.events}
    kept = _listed([CLASS_NAMES[c] for c in settings.kept])
    notes = [f"the source's own {kept} {'plays' if len(settings.kept) == 1 else 'play'} on"]
    if silent := [CLASS_NAMES[c] for c in settings.classes if c not in played]:
        notes.append(f"{rhythm.name} has no {_listed(silent, 'or')} here: nothing plays that part")
    return notes


def _listed(names: list[str], joint: str = "and") -> str:
    return f" {joint} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _tempo(
    asked: float | Literal["auto"] | None, recording: Recording, events: Sequence[DrumEvent], what: str
) -> tuple[float | None, str]:
    """Return a recording's tempo and, where it was not simply given, a sentence that says where it is from."""
    if isinstance(asked, int | float):
        return float(asked), ""
    if asked == "auto":
        estimate = estimate_tempo(events, recording.duration_s)
        if estimate is None:
            raise RhythmError(f"no tempo can be heard in {recording.name}", hint=f"give --{what}-bpm N")
        return estimate[0], _estimated(what, *estimate)
    stated = recording.tempo_bpm()
    if stated is None:
        return None, ""
    return stated[0], f"the {what}'s tempo is {stated[0]:g} BPM ({stated[1]})"


def _estimated(what: str, bpm: float, confidence: float) -> str:
    doubt = f": doubtful, give --{what}-bpm N if it is wrong" if confidence < _DOUBTFUL else ""
    return f"the {what}'s tempo is estimated at {bpm:.1f} BPM, confidence {confidence:.2f}{doubt}"
