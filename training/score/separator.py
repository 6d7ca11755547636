"""How well recordings are separated: SI-SDR by class on synthetic recordings, whose stems are known.

Recordings are whole kits of one side of the split that play rhythms of that side, as those on which
transcribers are scored; a separator is guided by its transcriber's activations. Several baselines and a
bound show what a score is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.kits import SAMPLE_RATE, kits_of
from training.data.pack import Pack, PackError
from training.data.split import Split
from training.data.synthesis import render_batch_with_stems
from training.score.measures import level_db, si_sdr_db
from training.score.nmf import InformedNmf, TemplateNmf, masked_stems, spectra_of
from training.score.scores import cells, mean_scores, means
from training.score.transcriber import groups_of, sides, whole_kit_recipes, whole_kits
from transform.audio import Recording, Samples
from transform.events import CLASSES
from transform.separator import OpensStems
from transform.transcriber import Activations, Transcriber

ACTIVE_DB = -40.0  # against the recording: a class that is softer is silent

Scores = dict[str, float | None]  # by class, "mean" over the active ones, "silent": leakage into the others
_COLUMNS = (*CLASSES, "mean", "silent")


@dataclass(frozen=True)
class Mixture:
    """A synthetic recording, mono at 44.1 kHz, and what it was mixed from."""

    recording: Recording
    stems: Samples  # (5, T); they add up to the recording less its noise
    activations: Activations  # of the transcriber
    kit: str
    kit_kind: str


System = Callable[[Mixture], Samples]  # returns the stems (5, T) that it finds in a mixture


def make_mixtures(
    pack: Pack, split: Split, transcriber: Transcriber, *, n: int, seed: int, length_s: float = 12.0
) -> list[Mixture]:
    """Return recordings of whole kits of one side playing that side's rhythms as they were played.

    Each has one kit, one rhythm and its own room, tone, compression and noise; acoustic and others take turns.
    In each at least two classes sound.

    Raises:
        PackError: the pack lacks kits or rhythms of that side, or they hardly ever play two classes.
    """
    mixtures: list[Mixture] = []
    for kit, recipe in islice(whole_kit_recipes(pack, split, whole_kits(length_s), seed=seed), 20 * n):
        audio, stems = (found[0].cpu() for found in render_batch_with_stems([recipe]))
        if active_classes(stems.numpy(), audio.numpy()).sum() >= 2:
            recording = Recording.from_samples(audio.numpy(), SAMPLE_RATE, kit.name)
            mixtures.append(Mixture(recording, stems.numpy(), transcriber.infer(audio), kit.name, kit.kind))
        if len(mixtures) == n:
            return mixtures
    raise PackError(f"hardly any {split} rhythm plays two drums", hint="leave such rhythms out of the data")


def active_classes(stems: Samples, audio: Samples) -> NDArray[np.bool_]:
    """Return which stems (5, T) of audio (T,) are louder than `ACTIVE_DB` against it."""
    if not audio.any():
        return np.zeros(len(stems), dtype=np.bool_)
    return np.array([level_db(stem, audio) > ACTIVE_DB for stem in stems])


def score_stems(estimate: Samples, stems: Samples, audio: Samples) -> Scores:
    """Return the SI-SDR in dB of each active class, their mean, and the level of what leaks into the others.

    Args:
        estimate: stems that were found, shape (5, T).
        stems: the true ones, shape (5, T).
        audio: the recording, shape (T,).
    """
    active = active_classes(stems, audio)
    scores: Scores = {
        drum_class: si_sdr_db(estimate[c], stems[c]) if active[c] else None
        for c, drum_class in enumerate(CLASSES)
    }
    found = [value for value in scores.values() if value is not None]
    leaks = [level_db(estimate[c], audio) for c in np.flatnonzero(~active)] if audio.any() else []
    scores["mean"] = float(np.mean(found)) if found else None
    scores["silent"] = float(np.mean(leaks)) if leaks else None
    return scores


def score_mixtures(separate: System, mixtures: Sequence[Mixture]) -> list[Scores]:
    """Return the scores of each recording, given what returns its stems, shape (5, T)."""
    return [score_stems(separate(mixture), mixture.stems, _audio_of(mixture.recording)) for mixture in mixtures]


def separation_scores(separator: OpensStems, mixtures: Sequence[Mixture]) -> dict[str, float]:
    """Return the mean SI-SDR in dB by class and over active classes, and the leakage into silent ones."""
    return means(score_mixtures(opened(separator), mixtures), digits=3)


def opened(separator: OpensStems) -> System:
    """Return a function that separates a recording with a separator."""

    def separate(mixture: Mixture) -> Samples:
        stems = separator.open(mixture.recording, mixture.activations)
        return stems.read(0, mixture.recording.n_samples)[:, 0]

    return separate


def mixture_itself(mixture: Mixture) -> Samples:
    """Return the recording as the estimate of every stem: what a score is without any separation."""
    return np.repeat(mixture.recording.read(0, mixture.recording.n_samples), len(CLASSES), axis=0)


def ideally_masked(mixture: Mixture) -> Samples:
    """Return the recording masked by the classes' true proportions of its power: the bound of such masks."""
    audio = mixture.recording.read(0, mixture.recording.n_samples)
    true_parts = spectra_of(torch.from_numpy(mixture.stems)).abs()
    return masked_stems(audio, true_parts, exponent=2.0).read(0, audio.shape[1])[:, 0]


def systems_of(pack: Pack, separator: OpensStems | None) -> dict[str, System]:
    """Return what is compared: baselines, the separator if there is one, and the bound."""
    kits = kits_of(pack.kits, "train")
    systems: dict[str, System] = {
        "mixture": mixture_itself,
        "NMF, fixed templates": opened(TemplateNmf(kits)),
        "NMF, informed": opened(InformedNmf(kits)),
    }
    if separator is not None:
        systems["separator"] = opened(separator)
    return systems | {"ideal ratio mask": ideally_masked}


def separation_tables(
    transcriber: Transcriber, separator: OpensStems | None, pack: Pack, *, n: int, seed: int
) -> dict[str, dict[str, dict[str, str]]]:
    """Return a table for each side of the split: rows are systems, columns classes and what all have in common.

    A cell is a mean over recordings in dB and its 95 % interval. "silent" is the level of what leaks into
    stems that should be silent, against the recording. "of the bound" is the gain over the mixture against that
    of the ideal ratio mask. A side that the pack lacks has no table.
    """
    systems = systems_of(pack, separator)
    tables: dict[str, dict[str, dict[str, str]]] = {}
    for split, name in sides(pack):
        mixtures = make_mixtures(pack, split, transcriber, n=n, seed=seed)
        items = {system: score_mixtures(separate, mixtures) for system, separate in systems.items()}
        for title, own in groups_of(split, name, [mixture.kit_kind for mixture in mixtures]).items():
            tables[title] = _table({s: [scores[i] for i in own] for s, scores in items.items()})
    return tables


def _table(items: Mapping[str, Sequence[Scores]]) -> dict[str, dict[str, str]]:
    """Return the rows of a table, the first system being the mixture, the last the bound."""
    of_systems = {system: mean_scores(scores) for system, scores in items.items()}
    overall = {system: scores["mean"].value for system, scores in of_systems.items()}
    lowest, highest = next(iter(overall.values())), list(overall.values())[-1]
    return {
        system: cells(scores, _COLUMNS, 1)
        | {"of the bound": f"{(overall[system] - lowest) / (highest - lowest):.0%}"}
        for system, scores in of_systems.items()
    }


def _audio_of(recording: Recording) -> Samples:
    audio: Samples = recording.read(0, recording.n_samples)[0]
    return audio
