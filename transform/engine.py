"""The one call that the command line and the DAWs use: a source and a rhythm in, a take out.

take = Redrummer.load().redrum(Recording.open(source), rhythm, RenderSettings())
take.write(Path("out.wav"))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Literal

from transform.attack_overlay import AttackOverlay
from transform.audio import Progress, Recording
from transform.bank import Bank
from transform.borrowing import borrowed
from transform.dynamics import Strength
from transform.equaliser import OwnStrokes, from_start, typical
from transform.errors import AudioError, CheckpointError, RhythmError
from transform.events import (
    CLASS_NAMES,
    CLASSES,
    DrumEvent,
    Rhythm,
    TempoMap,
    strokes_of,
)
from transform.hits import Cutter, cutter_of
from transform.kit_sources import joined, open_origins
from transform.latent import LatentArrangement, LatentModel, LatentOrder
from transform.listening import Listening, listen
from transform.presets import load_preset
from transform.resequence import (
    Arrangement,
    Playing,
    arrange,
    articulation_notes,
    stand_in_notes,
    stand_ins,
    together_notes,
)
from transform.separator import OpensStems, Separator, StemReader
from transform.settings import RenderSettings
from transform.signal import Signal
from transform.take import Take
from transform.tempo import align, bpm_text, check_tempi, estimate_tempo
from transform.transcriber import Transcriber, doubts, drum_confidence

_DOUBTFUL = 0.3  # estimated tempi of less confidence are right two times in three


@dataclass(frozen=True, eq=False)
class Drums:
    """What can be played of a source."""

    source: Listening
    bank: Bank | None  # its hits; None where none are replayed
    available: Collection[str]  # the classes that can be played
    notes: tuple[str, ...] = ()  # sentences on where its hits are from


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
            separator: separates sources.
            load_latent: returns the model of the latent engine; called at its first use.
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
        """The model of the latent engine, loaded at its first use.

        Raises:
            CheckpointError: the preset lacks one of its models, a file is damaged, or the models do not match.
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
            progress: called with "transcribe" and the fraction done.
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
            bpm: its tempo; "auto" estimates it from the onsets; None takes that of its tag or file name.
            sensitivity: as `listen` has it.

        Raises:
            RhythmError: no drum hits are detected in it, or no tempo can be estimated.
        """
        return _detected_rhythm(self.listen(recording, sensitivity=sensitivity).at_attacks(), bpm)[0]

    def redrum(
        self,
        source: Recording,
        rhythm: Rhythm | Recording,
        settings: RenderSettings | None = None,
        *,
        complete: Callable[[Drums], Drums] = lambda drums: drums,
        progress: Progress | None = None,
    ) -> Take:
        """Return the source's drums playing the rhythm.

        Args:
            source: the recording whose drums play.
            rhythm: what they play.
            settings: of the take.
            complete: returns the drums of the source with those that others lend it.
            progress: called with a stage and the fraction of it that is done.

        Raises:
            AudioError: no drum hits are detected in the source, or in what is named for more of its kit,
                or one of them cannot be read.
            RhythmError: there is nothing to play in the rhythm.
            SettingsError: the settings need a tempo that is unknown.
            CheckpointError: they select some of the classes, and there is no separator; or the latent engine,
                and the preset lacks its models.
        """
        settings = settings or RenderSettings()
        self._check(source, rhythm, settings)
        report = progress or (lambda stage, fraction: None)
        report("transcribe source", 0.0)
        detected = self._listen(settings, source)
        report("separate source", 0.0)
        drums = complete(self.drums(detected, settings, report))
        return self.play(drums, rhythm, settings, progress=progress)

    def drums(
        self,
        source: Listening,
        settings: RenderSettings,
        report: Progress = lambda stage, fraction: None,
        cutter: Cutter | None = None,
    ) -> Drums:
        """Return what can be played of a source, and of the recordings of its kit that the settings name.

        Args:
            source: what is detected in it.
            settings: of the takes.
            report: called with "cut kit" and "transcribe kit".
            cutter: what cuts the source's hits; None: one that is made for it.

        Raises:
            AudioError: there are no drums in what is named for more of the kit, or one of them cannot be read.
        """
        is_latent, bank, notes = settings.engine == "latent", None, []
        if not is_latent or settings.attack == "original" or settings.is_apart or self.latent.copies_lows:
            cutter = cutter or cutter_of(source.recording, source.events, source.stems)
            bank = Bank.of_cutter(cutter, report=report)
            notes = [*cutter.complete.notes()]
        if bank is not None and is_latent and not bank.classes:
            bank = None  # nothing can be cut out: all of it is generated
        available = {event.drum_class for event in source.events} if bank is None else bank.classes
        if not (bank and available and settings.kit_from):
            return Drums(source, bank, available, tuple(notes))
        report("transcribe kit", 0.0)
        bank, lent = joined(bank, [*open_origins(settings.kit_from, partial(self._listen, settings))])
        return Drums(source, bank, bank.classes, (*notes, *lent))

    def play(
        self,
        drums: Drums,
        rhythm: Rhythm | Recording,
        settings: RenderSettings,
        *,
        progress: Progress | None = None,
    ) -> Take:
        """Return a source's drums playing a rhythm.

        Args:
            drums: as `drums` returns them, with these settings.
            rhythm: what they play.
            settings: of the take.
            progress: called with "transcribe rhythm" and "render".

        Raises:
            AudioError: there are none.
            RhythmError: there is nothing to play in the rhythm.
            SettingsError: the settings need a tempo that is unknown.
            CheckpointError: the preset lacks models of the latent engine that they select.
        """
        report = progress or (lambda stage, fraction: None)
        detected, bank, available = drums.source, drums.bank, drums.available
        source = detected.recording
        if not available:
            raise AudioError(
                f"no drum hits are detected in {source.name}",
                hint="give a drum recording, at a level where its hits stand out",
            )
        report("transcribe rhythm", 0.0)
        played, target, notes = self._target(detected, rhythm, settings)
        report("render", 0.0)
        bank, played, lent = _without_missing(bank, available, played, settings)
        available = bank.classes if bank else available
        chosen = stand_ins(available, played.events)
        playing = _playing(settings, is_written=target is None)
        order = _order(detected, played, target, chosen, (settings, playing))
        notes += [*source.notes, *drums.notes, *doubts(source.name, drum_confidence(source))]
        notes += [*lent, *stand_in_notes(chosen)]
        if bank is not None:
            bank = bank.apart() if settings.separate_outputs else bank
            notes += articulation_notes(bank, played.events, chosen)
            notes += together_notes(bank) if settings.separate_outputs else []
        return self._take(bank, order, played, (settings, playing), tuple(notes))

    def _listen(self, settings: RenderSettings, recording: Recording) -> Listening:
        return self.listen(recording, sensitivity=settings.sensitivity)

    def _check(self, source: Recording, rhythm: Rhythm | Recording, settings: RenderSettings) -> None:
        """Raise what `redrum` does, for what can be checked before the source is transcribed."""
        if settings.retained and self.separator is None:
            raise CheckpointError(
                "the preset has no separator: it cannot redrum some of the classes and keep the others",
                hint="redrum all classes, or use a preset with one: see `redrum presets list`",
            )
        if settings.separate_outputs and settings.mix < 1 and self.separator is None:
            raise CheckpointError(
                "the preset has no separator: the original that --mix retains has no separate outputs",
                hint="leave out --mix or --stems, or use a preset with one: see `redrum presets list`",
            )
        check_tempi(source, rhythm, settings)
        if settings.engine == "latent":
            self.latent.check(source)

    def _target(
        self, source: Listening, rhythm: Rhythm | Recording, settings: RenderSettings
    ) -> tuple[Rhythm, Listening | None, list[str]]:
        """Return the rhythm as the take plays it, the recording that it is from, and what was decided."""
        if not isinstance(rhythm, Recording):
            played, notes = _played(source, rhythm, settings.rhythm_bpm, settings)
            return played, None, [*notes, *rhythm.notes]
        target = self.listen(rhythm, sensitivity=settings.sensitivity).at_attacks()
        detected, how = _detected_rhythm(target, settings.rhythm_bpm)
        played, notes = _played(source, detected, None, settings)
        target = replace(target, events=strokes_of(detected.events, detected.length_s))
        return played, target, [*notes, how] if how else notes

    def _take(
        self,
        bank: Bank | None,
        order: LatentOrder,
        played: Rhythm,
        how: tuple[RenderSettings, Playing],
        notes: tuple[str, ...],
    ) -> Take:
        """Return the take in which the bank's hits, the latent engine or both play the rhythm."""
        source, settings = order.source.recording, how[0]
        n_samples = _n_samples(source, played, settings)
        arrangement = self._arrangement(bank, order, played, how)
        if settings.tail == "ring":
            n_samples = max(n_samples, arrangement.n_samples)
        return Take(
            source,
            played,
            list(order.source.events),
            arrangement,
            stems=order.source.stems,
            n_samples=n_samples,
            settings=settings,
            notes=notes,
        )

    def _arrangement(
        self, bank: Bank | None, order: LatentOrder, played: Rhythm, how: tuple[RenderSettings, Playing]
    ) -> Signal:
        """Return what plays."""
        settings, playing = how
        period = _n_samples(order.source.recording, played, settings) if settings.tail == "wrap" else None
        if settings.engine != "latent":
            assert bank is not None
            return Arrangement(bank, arrange(bank, played.events, playing), period=period)
        apart, is_uneven = _apart(bank, order, settings)
        placements = arrange(bank, played.events, playing) if bank else []
        # The strokes before their gains, which are those of all that is generated.
        even: Arrangement | None = None
        change: tuple[Signal, Signal] | None = None
        own: OwnStrokes | None = None
        if bank is not None:
            even = Arrangement(bank, arrange(bank, played.events, replace(playing, is_even=True)))
            change = (even, Arrangement(bank, placements)) if is_uneven else None
            if self.latent.copies_lows and (strokes := typical(_own_events(apart))):
                own = OwnStrokes(strokes, _own_hits(bank, from_start(strokes)))
        generated = LatentArrangement(
            self.latent,
            apart,
            lows=even,
            change=change,
            own=own,
            variation=settings.variation,
            seed=settings.seed,
            period=period,
        )
        if bank is None or settings.attack == "none":
            return generated
        replayed = Arrangement(bank, placements, period=period)
        return AttackOverlay(generated, replayed, (event.onset_s for event in order.events), period=period)


def _n_samples(source: Recording, played: Rhythm, settings: RenderSettings) -> int:
    """Return the length of a take, before its last hits may ring on."""
    if settings.length == "source":
        return source.n_samples
    return max(1, round(played.length_s * source.sample_rate))


def _playing(settings: RenderSettings, *, is_written: bool) -> Playing:
    """Return how the source's hits play a rhythm, written or detected."""
    return Playing(
        velocity=settings.velocity,
        balance=settings.balance,
        is_written=is_written,
        # No hit in which a retained class sounds along: that class plays on anyway.
        gain_db={**settings.gain_db, **dict.fromkeys(settings.retained, -math.inf)},
        seed=settings.seed,
        tunes_toms=settings.tune_toms,
    )


def _without_missing(
    bank: Bank | None, available: Collection[str], played: Rhythm, settings: RenderSettings
) -> tuple[Bank | None, Rhythm, list[str]]:
    """Return hits and rhythm with what the settings do about classes that the source lacks, and sentences.

    Raises:
        RhythmError: nothing is left to be played.
    """
    requested = {event.drum_class for event in played.events}
    missing = [c for c in CLASSES if c in requested and c not in available]
    if not missing or settings.missing == "nearest":
        return bank, played, []
    if settings.missing == "borrow":
        assert bank is not None
        bank, notes = borrowed(bank, missing)
        return bank, played, notes
    played = played.only(available)
    if not (played.events or settings.retained):
        raise RhythmError(
            f"the source has none of the drums that {played.name} plays",
            hint="give --missing nearest or borrow, or another rhythm",
        )
    return bank, played, [f"the source has no {CLASS_NAMES[c]}: that part is left out" for c in missing]


def _order(
    source: Listening,
    played: Rhythm,
    target: Listening | None,
    chosen: Mapping[str, str],
    how: tuple[RenderSettings, Playing],
) -> LatentOrder:
    """Return what is to be played, and of what; `chosen` are the stand-ins."""
    settings, playing = how
    strength = Strength.of((event.drum_class, event.velocity) for event in source.events)
    return LatentOrder(
        source=source,
        events=strokes_of(played.events, played.length_s),
        length_s=played.length_s,
        target=target,
        stand_ins=chosen,
        scales=playing.scales(played.events, strength, chosen),
        is_cut=settings.tail == "cut",
    )


def _apart(bank: Bank | None, order: LatentOrder, settings: RenderSettings) -> tuple[LatentOrder, bool]:
    """Return an order at its greatest gain, of a source in which its classes sound alone if others play on.

    Returns:
        The order, and whether its classes have different gains.

    Raises:
        AudioError: they sound in no hit by themselves, and others must not sound along or have another gain.
    """
    gains = {settings.gain_db.get(c, 0.0) for c in order.stand_ins} or {0.0}
    order = replace(order, gain_db=max(gains))
    if len(gains) == 1 and not settings.retained:
        return order, False
    if bank is None:
        raise AudioError(
            f"no drum of {order.source.recording.name} can be cut out, so all are redrummed, at one gain",
            hint="leave out --gain and --classes",
        )
    if settings.retained:
        order = replace(order, replayed=_own_hits(bank, _own_events(order)))
    return order, len(gains) > 1


def _own_events(order: LatentOrder) -> list[DrumEvent]:
    """Return the source's strokes of the classes that play."""
    used = {*order.stand_ins.values()}
    return [event for event in order.source.events if event.drum_class in used]


def _own_hits(bank: Bank, events: Sequence[DrumEvent]) -> Arrangement:
    """Return strokes of the source, played by its hits of their classes alone."""
    others = {*CLASSES} - {event.drum_class for event in events}
    alone = Playing(is_written=False, gain_db=dict.fromkeys(others, -math.inf))
    return Arrangement(bank, arrange(bank, events, alone))


def _played(
    source: Listening, rhythm: Rhythm, rhythm_bpm: float | Literal["auto"] | None, settings: RenderSettings
) -> tuple[Rhythm, list[str]]:
    """Return the rhythm as the take plays it, and what was decided."""
    rhythm, notes = _aligned(source, rhythm, rhythm_bpm, settings)
    if settings.timing < 1:
        rhythm = rhythm.snapped(settings.timing)
    if isinstance(settings.velocity, int | float):
        rhythm = rhythm.with_velocity(float(settings.velocity))
    rhythm = rhythm.section(settings.start_s, _length_s(source.recording, rhythm, settings))
    if settings.retained:
        has_events = bool(rhythm.events)
        rhythm = rhythm.only(settings.classes)
        notes += _retained_notes(settings, rhythm, {event.drum_class for event in source.events})
        if has_events:
            return rhythm, notes
    if not rhythm.events:
        raise RhythmError(
            f"{rhythm.name} has no drum hits in the requested {rhythm.length_s:.2f} s",
            hint="choose another --start or --length",
        )
    return rhythm, notes


def _aligned(
    source: Listening, rhythm: Rhythm, rhythm_bpm: float | Literal["auto"] | None, settings: RenderSettings
) -> tuple[Rhythm, list[str]]:
    """Return the rhythm on the source's time, and what was decided."""
    if rhythm.is_placed:
        return rhythm, []
    source_bpm, how = _tempo(settings.source_bpm, source.recording, source.events, "source")
    notes = [how] if how else []
    if rhythm_bpm == "auto":
        estimate = estimate_tempo(rhythm.events, rhythm.length_s)
        if estimate is None:
            raise RhythmError(f"no tempo can be detected in {rhythm.name}", hint="give --rhythm-bpm N")
        rhythm_bpm, confidence = estimate
        notes.append(_estimated("rhythm", rhythm_bpm, confidence))
    rhythm, phrase = align(
        rhythm, mode=settings.align, source_bpm=source_bpm, rhythm_bpm=rhythm_bpm, target_bpm=settings.bpm
    )
    return rhythm, [phrase, *notes]


def _length_s(source: Recording, rhythm: Rhythm, settings: RenderSettings) -> float:
    """Return how long a rhythm plays; SettingsError for bars of one whose tempo is not known."""
    if settings.length_bars is not None:
        return rhythm.bars_s(settings.length_bars, settings.start_s)
    if isinstance(settings.length, str):
        return source.duration_s if settings.length == "source" else rhythm.length_s
    return float(settings.length)


def _detected_rhythm(detected: Listening, bpm: float | Literal["auto"] | None) -> tuple[Rhythm, str]:
    """Return the rhythm of a recording, and a sentence on where its tempo is from, or ""."""
    rhythm = detected.rhythm()
    if not rhythm.events:
        raise RhythmError(
            f"no drum hits are detected in {rhythm.name}", hint="give a drum recording as the rhythm"
        )
    tempo, how = _tempo(bpm, detected.recording, rhythm.events, "rhythm")
    return replace(rhythm, tempo_map=TempoMap.constant(tempo) if tempo else None), how


def _retained_notes(settings: RenderSettings, rhythm: Rhythm, detected: Collection[str]) -> list[str]:
    """Return what of the source's detected classes plays on, and which requested ones the rhythm lacks."""
    played = {event.drum_class for event in rhythm.events}
    retained = [CLASS_NAMES[c] for c in settings.retained if c in detected]
    notes = ["the source has none of the other drums"]
    if retained:
        notes = [f"the source's own {_listed(retained)} {'plays' if len(retained) == 1 else 'play'} on"]
    if silent := [CLASS_NAMES[c] for c in settings.classes if c not in played]:
        notes.append(f"{rhythm.name} has no {_listed(silent, 'or')} here: nothing plays that part")
    return notes


def _listed(names: list[str], joint: str = "and") -> str:
    return f" {joint} ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def _tempo(
    requested: float | Literal["auto"] | None, recording: Recording, events: Sequence[DrumEvent], what: str
) -> tuple[float | None, str]:
    """Return a recording's tempo and, where it was not given, a sentence on where it is from."""
    if isinstance(requested, int | float):
        return float(requested), ""
    if requested == "auto":
        estimate = estimate_tempo(events, recording.duration_s)
        if estimate is None:
            raise RhythmError(f"no tempo can be detected in {recording.name}", hint=f"give --{what}-bpm N")
        return estimate[0], _estimated(what, *estimate)
    stated = recording.tempo_bpm()
    if stated is None:
        return None, ""
    return stated[0], f"the {what}'s tempo is {bpm_text(stated[0])} BPM ({stated[1]})"


def _estimated(what: str, bpm: float, confidence: float) -> str:
    doubt = f": doubtful, give --{what}-bpm N if it is wrong" if confidence < _DOUBTFUL else ""
    return f"the {what}'s tempo is estimated at {bpm_text(bpm)} BPM, confidence {confidence:.2f}{doubt}"
