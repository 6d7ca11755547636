"""What the benchmark compares: copies, the resequencer with stems of different origin, latents, the oracle."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from training.bench.items import Audio, BenchItem
from training.data.kits import SAMPLE_RATE, kits_of
from training.data.pack import Pack
from training.data.rhythm_pairs import target_attention
from training.data.synthesis import SEGMENT_SAMPLES
from training.score.codec import round_trip
from training.score.measures import log_mel_distance_db
from training.score.nmf import ArrayStems, InformedNmf
from training.score.separator import System, systems_of
from transform.audio import Recording
from transform.bank import Bank
from transform.codec import Codec
from transform.engine import Redrummer
from transform.errors import RedrumError, SettingsError
from transform.events import DrumEvent, Rhythm
from transform.latent import MODELS
from transform.one_shots import load_kit, save_kit
from transform.presets import Preset
from transform.resequence import Arrangement, arrange
from transform.rhythm_transformer import ACTIVATION_HOP, PEAK, activations_of_events
from transform.settings import RenderSettings
from transform.transcriber import Activations, Transcriber

# The preset as it is.
AUDIO_RHYTHM, MIDI_RHYTHM = "resequence (audio rhythm)", "resequence (MIDI rhythm)"
# MIDI rhythms, and the preset's stems exchanged for others.
PLAIN_SLICES, NMF_STEMS = "resequence, plain slices", "resequence, NMF stems"
# True events of the source, plain slices of it as loud as they are: what a changed rhythm alone changes.
OWN_LEVELS = "every drum at its own level"
TRUE_STEMS, TRUE_SOURCE = "resequence, true stems", "resequence, true stems and events"
# Where the preset has the models.
LATENT_AUDIO, LATENT_MIDI = "latent (audio rhythm)", "latent (MIDI rhythm)"
# The network alone: nothing of the source's hits is laid over what it makes.
GENERATED_AUDIO = "latent, generated attacks (audio rhythm)"
GENERATED_MIDI = "latent, generated attacks (MIDI rhythm)"
# The stages of the latent engine, exchanged for the truth one after the other.
LATENT_TRUE, BEST_COPIES = "latent, true events", "latent, best copies"
GENERATED_TRUE = "latent, generated attacks, true events"
CODED_ORACLE = "oracle through the codec"

_COPIES = ("source copy", "target copy")
_OWN = (AUDIO_RHYTHM, MIDI_RHYTHM, PLAIN_SLICES, NMF_STEMS)
_GENERATED = (GENERATED_AUDIO, GENERATED_MIDI)
_LATENT = (LATENT_AUDIO, LATENT_MIDI, *_GENERATED)
_CODED = (BEST_COPIES, CODED_ORACLE)
_LATENT_TRUE = (LATENT_TRUE, GENERATED_TRUE)
SYSTEMS = (*_COPIES, OWN_LEVELS, *_OWN, TRUE_STEMS, TRUE_SOURCE, *_LATENT, *_LATENT_TRUE, *_CODED, "oracle")
OWN = (AUDIO_RHYTHM, MIDI_RHYTHM, *_LATENT)  # the preset as it is
BESIDE = (*_LATENT, CODED_ORACLE)  # that a second preset plays: what depends on its codec and transformer
KIT_SYSTEMS = (MIDI_RHYTHM, PLAIN_SLICES, NMF_STEMS)  # from which kits are extracted, too

_log = logging.getLogger(__name__)


class TrueStems:
    """A separator that makes no mistakes."""

    def __init__(self, stems: Audio) -> None:
        """Take the stems (5, T) of the one recording that will be opened."""
        self._stems = stems

    def open(self, recording: Recording, activations: Activations) -> ArrayStems:
        """Return the stems."""
        return ArrayStems(self._stems[:, None])


class _TrueEvents:
    """A transcriber that makes no mistakes."""

    def __init__(self, events: Sequence[DrumEvent]) -> None:
        self._events = sorted(events, key=lambda event: event.onset_s)

    def activations(self, recording: Recording, *, progress: object = None) -> Activations:
        n_frames = round(recording.duration_s * SAMPLE_RATE) // ACTIVATION_HOP + 1
        heights, widths = ([value] * len(self._events) for value in PEAK)
        return activations_of_events(self._events, n_frames, heights=heights, widths=widths)

    def events(self, activations: Activations) -> list[DrumEvent]:
        return self._events


@dataclass(frozen=True)
class Players:
    """What plays the items: a preset's models, and what takes the place of some of them."""

    preset: Preset
    redrummer: Redrummer
    codec: Codec | None
    nmf: InformedNmf | None
    separators: Mapping[str, System]  # whose stems are scored
    requested: tuple[str, ...] = SYSTEMS

    @classmethod
    def load(cls, preset: Preset, pack: Pack | None, rows: Sequence[str] = ()) -> Players:
        """Return those of a preset that is measured as a whole.

        Args:
            preset: the preset.
            pack: without one there are no other stems to compare.
            rows: the beginnings of the names of the systems that play; none: all, and stems are scored.

        Raises:
            SettingsError: no system's name begins so.
            CheckpointError: a weights file is missing or damaged.
        """
        requested = tuple(system for system in SYSTEMS if not rows or system.startswith(tuple(rows)))
        if not requested:
            raise SettingsError(f"no row begins with {' or '.join(rows)}", hint=f"rows: {'; '.join(SYSTEMS)}")
        redrummer, codec = Redrummer.load(preset.folder), _codec(preset)
        if pack is None:
            return cls(preset, redrummer, codec, None, {}, requested)
        nmf = InformedNmf(kits_of(pack.kits, "train"))
        separators = {} if rows else systems_of(pack, redrummer.separator)
        return cls(preset, redrummer, codec, nmf, separators, requested)

    def beside(self, preset: Preset) -> Players:
        """Return those of another preset, of which only codec and rhythm transformer are of interest.

        Raises:
            CheckpointError: a weights file is missing or damaged.
        """
        requested = tuple(system for system in BESIDE if system in self.requested)
        return Players(preset, Redrummer.load(preset.folder), _codec(preset), self.nmf, {}, requested)

    def systems_for(self, item: BenchItem) -> tuple[str, ...]:
        """Return the systems that are to play an item, and can."""
        has = {"has_codec": self.codec is not None, "has_latent": self.has_latent}
        return tuple(system for system in systems_for(item, **has) if system in self.requested)

    @property
    def has_latent(self) -> bool:
        """Whether the preset has the models of the latent engine."""
        return all(model in self.preset.models for model in MODELS)


def _codec(preset: Preset) -> Codec | None:
    """Return the codec of a preset, None where it has none."""
    if "codec-encoder" not in preset.models:
        return None
    return Codec.load(preset.weights("codec-encoder"), preset.weights("codec-generator"))


def systems_for(item: BenchItem, *, has_codec: bool, has_latent: bool) -> tuple[str, ...]:
    """Return the systems that can play an item with the models there are; the truth of a loop is unknown."""
    missing = (() if has_codec else _CODED) + (() if has_latent else (*_LATENT, *_LATENT_TRUE))
    possible = {
        "pairs": SYSTEMS,
        "recordings": (*_COPIES, OWN_LEVELS, AUDIO_RHYTHM, MIDI_RHYTHM, PLAIN_SLICES, *_LATENT),
        "loops": (*_COPIES, *_OWN, *_LATENT),
    }[item.material]
    return tuple(system for system in possible if system not in missing)


def played_with(system: str) -> dict[str, Any]:
    """Return the settings of a render that make a system."""
    if system in (*_GENERATED, GENERATED_TRUE):
        return {"engine": "latent", "attack": "none"}
    if system == OWN_LEVELS:
        return {"velocity": "source"}
    return {"engine": "latent" if system in (*_LATENT, LATENT_TRUE) else "resequence"}


def plays_audio(system: str) -> bool:
    """Tell whether a system is given the target's recording, not its events."""
    return system in (AUDIO_RHYTHM, LATENT_AUDIO, GENERATED_AUDIO, "target copy")


def variant(system: str, item: BenchItem, redrummer: Redrummer, nmf: InformedNmf | None) -> Redrummer:
    """Return the redrummer of a system, made of the preset's."""
    if system == PLAIN_SLICES:
        return Redrummer(redrummer.transcriber)
    if system == OWN_LEVELS:
        return Redrummer(cast(Transcriber, _TrueEvents(item.source_events)))
    if system == NMF_STEMS:
        assert nmf is not None
        return Redrummer(redrummer.transcriber, nmf)
    if system in (TRUE_STEMS, TRUE_SOURCE):
        assert item.stems is not None
        transcriber = redrummer.transcriber
        if system == TRUE_SOURCE:
            transcriber = cast(Transcriber, _TrueEvents(item.source_events))
        return Redrummer(transcriber, TrueStems(item.stems))
    if system in _LATENT_TRUE:
        transcriber = cast(Transcriber, _TrueEvents(item.source_events))
        return Redrummer(transcriber, redrummer.separator, load_latent=lambda: redrummer.latent)
    return redrummer


def play(
    system: str, item: BenchItem, redrummer: Redrummer, nmf: InformedNmf | None, codec: Codec | None = None
) -> tuple[Audio, float | None, str]:
    """Return what a system makes of an item, the seconds it took (None for copies), and why if it failed.

    A system that fails plays silence.
    """
    n_samples = len(item.target)
    if system in _COPIES:
        return _fitted(item.source if system == "source copy" else item.target, n_samples), None, ""
    if system == "oracle":
        assert item.oracle is not None
        return item.oracle, None, ""
    if system in _CODED:
        assert item.oracle is not None
        assert codec is not None
        began = time.perf_counter()
        audio = round_trip(codec, item.oracle) if system == CODED_ORACLE else best_copies(codec, item)
        return audio, time.perf_counter() - began, ""
    source = Recording.from_samples(item.source, SAMPLE_RATE, "source")
    rhythm: Rhythm | Recording = events_of(item)
    if plays_audio(system):
        rhythm = Recording.from_samples(item.target, SAMPLE_RATE, "target")
    settings = RenderSettings(length=item.length_s, align="seconds", **played_with(system))
    own = variant(system, item, redrummer, nmf)
    began = time.perf_counter()
    try:
        take = own.redrum(source, rhythm, settings)
        samples = take.read(0, n_samples)[0]
    except RedrumError as err:
        _log.warning("%s, %s: %s", item.name, system, err)
        return np.zeros(n_samples, dtype=np.float32), time.perf_counter() - began, str(err)
    return samples, time.perf_counter() - began, ""


def best_copies(codec: Codec, item: BenchItem) -> Audio:
    """Return what the source's latents make of the oracle's: what perfect attention would copy (decision 6)."""
    assert item.oracle is not None
    source, oracle = (codec.encode(torch.from_numpy(audio)[None]).mu for audio in (item.source, item.oracle))
    silence = codec.encode(torch.zeros(1, SEGMENT_SAMPLES)).mu.mean(dim=(0, 2))
    attention = target_attention(oracle, source, silence, None)
    copied = attention @ torch.cat((source.mT, silence[None, None]), dim=1)
    return np.asarray(codec.decode(copied.mT, len(item.oracle))[0].numpy())


def events_of(item: BenchItem) -> Rhythm:
    """Return the rhythm of an item."""
    events = sorted(item.rhythm, key=lambda event: event.onset_s)
    return Rhythm(tuple(events), item.length_s, None, item.groove)


def _fitted(samples: Audio, n_samples: int) -> Audio:
    return np.pad(samples[:n_samples], (0, max(0, n_samples - len(samples))))


def given_back_db(recording: Recording, redrummer: Redrummer, folder: Path) -> float:
    """Return how far a recording is from what a kit extracted from it plays at its own transcription.

    It is the log-mel distance in dB; the kit is written to a folder and loaded from there.

    Args:
        recording: mono at 44.1 kHz.
        redrummer: transcribes the recording and takes it apart.
        folder: where the kit goes, new or empty.

    Raises:
        AudioError: no drums are detected in the recording, or no class alone.
    """
    detected = redrummer.listen(recording)
    bank = Bank.of_recording(recording, detected.events, detected.stems)
    save_kit(bank, folder, fmt=recording.format, name=recording.name)
    kit = load_kit(folder)
    played = Arrangement(kit, arrange(kit, detected.at_attacks().events))
    out = played.read(0, recording.n_samples)
    return log_mel_distance_db(out[0], recording.read(0, recording.n_samples)[0])
