"""How well a transcriber detects: F by class on synthetic recordings, of its training kits and of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice

import numpy as np
import torch
from torch import Tensor

from training.data.kits import SAMPLE_RATE, Kit, ProceduralPool, kits_of
from training.data.pack import Pack, PackError
from training.data.rhythms import AS_PLAYED
from training.data.split import Split, was_tested_in_0_1_0
from training.data.synthesis import (
    SegmentRecipe,
    Synthesiser,
    SynthesisSettings,
    audible_strokes,
    render_batch,
    render_stems,
)
from training.data.transcription import FrozenTranscriber
from training.score.scores import Counts, Score, class_counts, interval, pooled
from transform.events import CLASS_NAMES, CLASSES, DrumEvent
from transform.transcriber import Activations, Transcriber, TranscriberNet

ItemCounts = Mapping[str, Counts]  # by class
# Of recordings that score, as in release 0.1.0; training draws softer ghost notes (SynthesisSettings).
VELOCITY_EXPONENT = 1.1, 2.2
_CUT_OFF_S = 0.03  # what was struck so long before a recording is no event of it


@dataclass(frozen=True)
class AnnotatedRecording:
    """A synthetic recording with its truth; `hardly_audible` events may be found or missed."""

    audio: Tensor  # (T,) at 44.1 kHz
    events: tuple[DrumEvent, ...]
    hardly_audible: tuple[DrumEvent, ...]
    kit: str
    kit_kind: str


def whole_kits(
    length_s: float, velocity_exponent: tuple[float, float] = VELOCITY_EXPONENT
) -> SynthesisSettings:
    """Return settings for recordings of whole kits, as they are, that play rhythms as they were played."""
    return SynthesisSettings(
        n_samples=round(length_s * SAMPLE_RATE),
        procedural=0.0,
        mixed_kit=0.0,
        layered=0.0,
        reshaped=0.0,
        rattling=0.0,
        drawn_layers=False,
        pre_roll=0.0,
        cut=0.0,
        velocity_exponent=velocity_exponent,
        variation=AS_PLAYED,
    )


def make_recordings(
    pack: Pack,
    split: Split,
    *,
    n: int,
    seed: int,
    length_s: float = 12.0,
    velocity_exponent: tuple[float, float] = VELOCITY_EXPONENT,
) -> list[AnnotatedRecording]:
    """Return recordings of whole kits of one side playing that side's rhythms as they were played.

    Each has one kit, one rhythm and its own room, tone, compression and noise; acoustic and others take turns.
    There are no procedural drums but those of kits, no layering and no reshaping.

    Raises:
        PackError: the pack lacks kits or rhythms of that side.
    """
    recordings = []
    settings = whole_kits(length_s, velocity_exponent)
    for kit, recipe in islice(whole_kit_recipes(pack, split, settings, seed=seed), n):
        stems = render_stems(recipe)
        audible = audible_strokes(stems, recipe.strokes)
        audio = render_batch([recipe], dry_stems=stems[None])[0]
        sounding = replace(recipe, strokes=recipe.sounding)
        events, hardly_audible = as_events(sounding, audible), as_events(sounding, ~audible)
        recordings.append(AnnotatedRecording(audio, events, hardly_audible, kit.name, kit.kind))
    return recordings


def whole_kit_recipes(
    pack: Pack, split: Split, settings: SynthesisSettings, *, seed: int
) -> Iterator[tuple[Kit, SegmentRecipe]]:
    """Yield, without end, whole kits of one side and recipes of what they play; acoustic and others take turns.

    Raises:
        PackError: the pack lacks kits or rhythms of that side.
    """
    kits = [
        kit for kit in kits_of(pack.kits, split) if {"KD", "SD", "HH"} <= {s.drum_class for s in kit.one_shots}
    ]
    grooves = [g for g in pack.grooves_of(split) if g.n_beats >= 8]
    if not kits or not grooves:
        raise PackError(
            f"the pack holds no {split} kits with kick, snare and hats, or no {split} rhythms of two bars",
            hint=f"pack the {split} side too",
        )
    acoustic = [kit for kit in kits if kit.kind == "acoustic"] or kits
    others = [kit for kit in kits if kit.kind != "acoustic"] or kits
    rng = np.random.default_rng(seed)
    for pool in cycle((acoustic, others)):
        kit = pool[rng.integers(len(pool))]
        yield kit, Synthesiser([kit, *lenders(kit, kits)], grooves, settings, pool=None).draw(1, rng)[0]


def sides(pack: Pack) -> Iterator[tuple[Split, str]]:
    """Yield the sides of the split of which a pack has kits, and what tables call them."""
    names: dict[Split, str] = {"train": "known kits", "validate": "validation kits", "test": "test kits"}
    for split, name in names.items():
        if kits_of(pack.kits, split):
            yield split, name


def groups_of(split: Split, name: str, kinds: Sequence[str]) -> dict[str, list[int]]:
    """Return which recordings of a side go into each row: all into one, those of the test side also by kind."""
    rows = {name: list(range(len(kinds)))}
    if split == "test":
        for i, kind in enumerate(kinds):
            rows.setdefault(f"{name}, {kind}", []).append(i)
    return rows


def count_matches(
    transcriber: Transcriber, recordings: Sequence[AnnotatedRecording], *, window_s: float = 0.05
) -> list[ItemCounts]:
    """Return what the transcriber finds in each recording, by class."""
    activations = [transcriber.infer(recording.audio.cpu()) for recording in recordings]
    return _count(transcriber, activations, recordings, window_s)


def f_measures(counts: Sequence[ItemCounts]) -> dict[str, float]:
    """Return F by class over all recordings, and "micro", all classes pooled."""
    return {name: round(total.f_measure, 4) for name, total in _totals(counts).items()}


def f_scores(counts: Sequence[ItemCounts], *, n_resamples: int = 1000, seed: int = 0) -> dict[str, Score]:
    """Return F by class and pooled ("micro") with its interval over recordings."""
    rng = np.random.default_rng(seed)
    resampled: dict[str, list[float]] = {name: [] for name in (*CLASSES, "micro")}
    for _ in range(n_resamples):
        drawn = [counts[i] for i in rng.integers(len(counts), size=len(counts))]
        for name, total in _totals(drawn).items():
            resampled[name].append(total.f_measure)
    return {name: Score(f, *interval(resampled[name])) for name, f in f_measures(counts).items()}


def score_table(net: TranscriberNet, pack: Pack, *, n: int, seed: int) -> dict[str, dict[str, str]]:
    """Return a table of F @50 ms: rows are sides of the split and kinds of kit, columns classes and "micro".

    A cell is the mean and the 95 % interval. The row of known kits and rhythms shows the generalisation gap.
    The last is what the rhythm transformer learns from, which should be transcribed as badly as unseen kits are
    (docs/method.md, decision 11). A side that the pack lacks has no row.
    """
    table: dict[str, dict[str, str]] = {}
    transcriber = Transcriber(net)
    for split, name in sides(pack):
        recordings = make_recordings(pack, split, n=n, seed=seed)
        counts = count_matches(transcriber, recordings)
        for row, own in groups_of(split, name, [item.kit_kind for item in recordings]).items():
            table[row] = _cells([counts[i] for i in own])
        if split == "test":
            table |= _old_test_row(transcriber, pack, n=n, seed=seed)
    if pack.grooves_of("train"):
        table["as rhythms are trained on"] = _cells(_counts_in_training(net, pack, n=n, seed=seed))
    return table


def _old_test_row(transcriber: Transcriber, pack: Pack, *, n: int, seed: int) -> dict[str, dict[str, str]]:
    """Return the row of the kits that release 0.1.0 was tested on; none where they are all or none of them."""
    kits = kits_of(pack.kits, "test")
    old = tuple(kit for kit in kits if was_tested_in_0_1_0(kit.name))
    if not old or len(old) == len(kits):
        return {}
    recordings = make_recordings(replace(pack, kits=old), "test", n=n, seed=seed)
    return {"test kits of 0.1.0": _cells(count_matches(transcriber, recordings))}


def _counts_in_training(net: TranscriberNet, pack: Pack, *, n: int, seed: int) -> list[ItemCounts]:
    """Return what is found in recordings such as the rhythm transformer learns from, made worse as there."""
    pool = ProceduralPool(torch.Generator().manual_seed(seed))
    pool.fill()
    synthesiser = Synthesiser(
        kits_of(pack.kits, "train"), pack.grooves_of("train"), SynthesisSettings(), pool=pool
    )
    transcriber, frozen = Transcriber(net), FrozenTranscriber(net, torch.device("cpu"))
    rng = np.random.default_rng(seed)
    counts: list[ItemCounts] = []
    for recipe in synthesiser.draw(n, rng, per_kit=1):
        stems = render_stems(recipe)
        audible = audible_strokes(stems, recipe.strokes)
        found = frozen.transcribe(render_batch([recipe], dry_stems=stems[None]), degraded=rng)
        probability, velocity, offset = (field[0].numpy() for field in found)
        activations = Activations(
            probability, velocity, offset, np.zeros((len(net.config.articulations), probability.shape[1]))
        )
        expected, ignored = as_events(recipe, audible), as_events(recipe, ~audible)
        counts.append(class_counts(expected, transcriber.events(activations), ignored=ignored))
    return counts


def _cells(counts: Sequence[ItemCounts]) -> dict[str, str]:
    return {name: score.cell(3, to="-") for name, score in f_scores(counts).items()}


def best_thresholds(transcriber: Transcriber, recordings: Sequence[AnnotatedRecording]) -> tuple[float, ...]:
    """Return the threshold of each class that gives the best F on these recordings."""
    activations = [transcriber.infer(recording.audio.cpu()) for recording in recordings]
    grid = [round(float(t), 2) for t in np.arange(0.15, 0.75, 0.05)]
    tried = []
    for threshold in grid:
        transcriber.config = replace(transcriber.config, thresholds=(threshold,) * len(CLASSES))
        tried.append(f_measures(_count(transcriber, activations, recordings, 0.05)))
    return tuple(max(zip(grid, tried, strict=True), key=lambda pair: pair[1][c])[0] for c in CLASSES)


def _count(
    transcriber: Transcriber,
    activations: Sequence[Activations],
    recordings: Sequence[AnnotatedRecording],
    window_s: float,
) -> list[ItemCounts]:
    return [
        class_counts(item.events, transcriber.events(act), ignored=item.hardly_audible, window_s=window_s)
        for act, item in zip(activations, recordings, strict=True)
    ]


def _totals(counts: Sequence[ItemCounts]) -> dict[str, Counts]:
    totals = {c: sum((item[c] for item in counts), Counts()) for c in CLASSES}
    return totals | {"micro": pooled(totals)}


def lenders(kit: Kit, kits: Sequence[Kit]) -> list[Kit]:
    """Return kits of the same side that lend the classes which a kit lacks (some machines have no cymbals)."""
    own = {shot.drum_class for shot in kit.one_shots}
    found = []
    for drum_class in (c for c in CLASSES if c not in own):
        able = [k for k in kits if k.voices(drum_class)]
        if not able:
            raise PackError(
                f"no {kit.split} kit of the pack holds a {CLASS_NAMES[drum_class]}", hint="add one to the data"
            )
        lender = next((k for k in able if k.kind == kit.kind), able[0])
        shots = tuple(s for s in lender.one_shots if s.drum_class == drum_class)
        found.append(replace(lender, name=f"{lender.name}/{drum_class}", one_shots=shots))
    return found


def as_events(recipe: SegmentRecipe, chosen: np.ndarray) -> tuple[DrumEvent, ...]:
    """Return the chosen strokes of a recipe as events; grace notes and what rings in from before are none."""
    return tuple(
        DrumEvent(max(0.0, s.onset_s), s.drum_class, s.velocity, s.articulation)
        for s, is_chosen in zip(recipe.strokes, chosen, strict=True)
        if is_chosen and not s.is_grace and s.onset_s > -_CUT_OFF_S
    )
