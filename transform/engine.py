"""The one call that the command line and the DAWs use: a source and a rhythm in, a take out.

take = Redrummer.load().redrum(Recording.open(source), rhythm, RenderSettings())
take.write(Path("out.wav"))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from transform.attack_overlay import AttackOverlay
from transform.audio import Progress, Recording
from transform.bank import Bank
from transform.errors import AudioError, CheckpointError, RhythmError
from transform.events import (
    CLASS_NAMES,
    DrumEvent,
    Rhythm,
    TempoMap,
    align,
    estimate_tempo,
    strokes_of,
)
from transform.latent import LatentArrangement, LatentModel, LatentOrder
from transform.listening import Listening, listen
from transform.presets import load_preset
from transform.resequence import Arrangement, arrange, stand_in_notes, stand_ins
from transform.separator import OpensStems, Separator, StemReader
from transform.settings import RenderSettings
from transform.signal import Signal
from transform.take import Take
from transform.transcriber import Transcriber, doubts, drum_confidence

_DOUBTFUL = 0.3  # estimated tempi of less confidence are right two times in three


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

    def listen(
        self,
        recording: Recording,
        *,
        sensitivity: Mapping[str, float] | None = None,
        progress: Progress | None = None,
    ) -> Listening:
        """Return what is detected in a recording: activations, events with measured velocities, stems.

        Args:
            recording: drum audio.
            sensitivity: by class, -1 to 1: more strokes of it are detected above 0, fewer below.
            progress: is told "transcribe" and the share done.
        """
        return listen(recording, self.transcriber, self.separator, sensitivity=sensitivity, progress=progress)

    def transcribe(
        self, recording: Recording, *, sensitivity: Mapping[str, float] | None = None
    ) -> list[DrumEvent]:
        """Return the drum events of a recording with measured velocities, at their attacks, by onset."""
        return list(self.listen(recording, sensitivity=sensitivity).at_attacks().events)

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

    def rhythm_of(
        self,
        recording: Recording,
        bpm: float | Literal["auto"] | None = None,
        *,
        sensitivity: Mapping[str, float] | None = None,
    ) -> Rhythm:
        """Return the rhythm of a drum recording, as long as it.

        Args:
            recording: drum audio.
            bpm: its tempo; "auto" estimates it from the onsets; None takes what its tag or file name says.
            sensitivity: as `listen` has it.

        Raises:
            RhythmError: no drums are heard in it, or no tempo can be estimated.
        """
        return _detected_rhythm(self.listen(recording, sensitivity=sensitivity).at_attacks(), bpm)[0]

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
        detected = self.listen(source, sensitivity=settings.sensitivity)
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
            target = self.listen(rhythm, sensitivity=settings.sensitivity).at_attacks()
            rhythm, how = _detected_rhythm(target, rhythm_bpm)
            target = replace(target, events=strokes_of(rhythm.events, rhythm.length_s))
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
        arrangement: Signal
        if model is None:
            assert bank is not None
            arrangement = _resequenced(bank, played, settings, period)
        else:
            struck = strokes_of(played.events, played.length_s)
            order = LatentOrder(
                source=detected,
                is_partial=bool(settings.kept),
                events=struck,
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
                    (event.onset_s for event in struck),
                    period=period,
                )
        if settings.tail == "ring":
            n_samples = max(n_samples, arrangement.n_samples)
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
        tunes_toms=settings.tune_toms,
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
