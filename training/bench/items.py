"""The items of the benchmark: sources, the rhythms that they are to play, and the exact answers.

A pair is a source, a target whose rhythm it is to play, and the oracle: the source's own one-shots at
the target's strokes, exact because all three are synthetic. Kits are whole kits of the test side, in two halves
with no recordings in common; source and target are always of different halves. Real loops, whose true events
are unknown, play known rhythms too. An item follows from the seed, its number and the pack alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from training.data.kits import SAMPLE_RATE, Kit, has_classes, kits_of
from training.data.pack import Pack, PackError
from training.data.rhythms import Groove
from training.data.split import recording_family
from training.data.synthesis import (
    SegmentRecipe,
    Synthesiser,
    audible_strokes,
    pseudo_target,
    render_batch,
    render_batch_stems,
)
from training.score.transcriber import as_events, lenders, whole_kits
from transform.events import DrumEvent

Audio = NDArray[np.float32]

_SOURCE_S, _TARGET_S = (6.0, 8.0), (3.0, 6.0)
_FEWEST_STROKES = 6
_LEADING = ("KD", "SD", "HH")  # a kit without one of these lends its sounds, but plays no recording


@dataclass(frozen=True)
class BenchItem:
    """A source that is to play a target's rhythm, and the answers; audio has shape (T,), stems (5, T)."""

    name: str
    source: Audio
    target: Audio
    oracle: Audio | None  # None where the source is real
    stems: Audio | None  # of the source, finished, less its noise; None where it is real
    source_events: tuple[DrumEvent, ...]  # audible in the source; none are known of a real loop
    target_events: tuple[DrumEvent, ...]  # audible in the target
    rhythm: tuple[DrumEvent, ...]  # all that the target plays
    truth: tuple[DrumEvent, ...]  # what must be detected in a result
    hardly_audible: tuple[DrumEvent, ...]  # what may be detected or missed in it
    kit: str  # of the source, or its loop
    groove: str  # of the target
    source_groove: str

    @property
    def material(self) -> str:
        """What kind of item it is: "pairs", "recordings" or "loops"."""
        if self.oracle is not None:
            return "pairs"
        return "recordings" if self.source_events else "loops"

    @property
    def length_s(self) -> float:
        """Length of the target, and of every result."""
        return len(self.target) / SAMPLE_RATE


class ItemMaker:
    """Makes the items of a pack: any of them, in any order."""

    def __init__(self, pack: Pack, seed: int) -> None:
        """Sort out the test side.

        Raises:
            PackError: it lacks kits, rhythms, or a class in one half of the kits.
        """
        self._seed = seed
        self._halves = kit_halves(kits_of(pack.kits, "test"))
        self._grooves = [groove for groove in pack.grooves_of("test") if _is_dense(groove)]
        self.loops = [(name, samples.numpy()) for name, split, samples in pack.loops if split == "test"]
        if len(self._grooves) < 2:
            raise PackError(
                "the pack holds no two test rhythms of two bars and two strokes a second",
                hint="pack the test side too",
            )

    def pair(self, number: int) -> BenchItem:
        """Return a pair with its exact answer."""
        rng = np.random.default_rng((self._seed, 0, number))
        halves = self._halves if number % 2 == 0 else self._halves[::-1]
        first, second = rng.choice(len(self._grooves), 2, replace=False)
        kit, source = self._recipe(halves[0], self._grooves[first], _SOURCE_S, rng)
        _, target = self._recipe(halves[1], self._grooves[second], _TARGET_S, rng)
        answer = pseudo_target(source, target)
        source_stems = render_batch_stems([source])[0]
        _, source_events, _ = _events_of(source, source_stems)
        rhythm, target_events, _ = _events_of(target)
        _, truth, hardly_audible = _events_of(answer)
        return BenchItem(
            name=f"pair-{number:04d}",
            source=_rendered(source),
            target=_rendered(target),
            oracle=_rendered(answer),
            stems=np.asarray(source_stems.numpy(), dtype=np.float32),
            source_events=source_events,
            target_events=target_events,
            rhythm=rhythm,
            truth=truth,
            hardly_audible=hardly_audible,
            kit=kit.name,
            groove=self._grooves[second].name,
            source_groove=self._grooves[first].name,
        )

    def loop(self, number: int) -> BenchItem:
        """Return a region of a real loop that is to play a known rhythm; loops take turns."""
        rng = np.random.default_rng((self._seed, 1, number))
        name, samples = self.loops[number % len(self.loops)]
        length = min(len(samples), round(rng.uniform(*_SOURCE_S) * SAMPLE_RATE))
        start = int(rng.integers(len(samples) - length + 1))
        groove = self._grooves[rng.integers(len(self._grooves))]
        _, target = self._recipe(self._halves[number % 2], groove, _TARGET_S, rng)
        played, audible, hardly_audible = _events_of(target)
        return BenchItem(
            name=f"loop-{number:04d}",
            source=np.asarray(samples[start : start + length], dtype=np.float32),
            target=_rendered(target),
            oracle=None,
            stems=None,
            source_events=(),
            target_events=audible,
            rhythm=played,
            truth=audible,
            hardly_audible=hardly_audible,
            kit=name,
            groove=groove.name,
            source_groove="",
        )

    def _recipe(
        self, kits: Sequence[Kit], groove: Groove, length_s: tuple[float, float], rng: np.random.Generator
    ) -> tuple[Kit, SegmentRecipe]:
        """Return a kit and a recording of it playing a groove; half of them are acoustic if there are any."""
        able = [kit for kit in kits if has_classes(kit, _LEADING)]
        acoustic = [kit for kit in able if kit.kind == "acoustic"]
        others = [kit for kit in able if kit.kind != "acoustic"]
        chosen = acoustic if rng.random() < 0.5 else others
        chosen = chosen or acoustic or others
        kit = chosen[rng.integers(len(chosen))]
        playing = [kit, *lenders(kit, kits)]
        for _ in range(100):
            settings = whole_kits(rng.uniform(*length_s))
            recipe = Synthesiser(playing, [groove], settings, pool=None).draw(1, rng)[0]
            if len(recipe.strokes) >= _FEWEST_STROKES:
                return kit, recipe
        raise PackError(f"the rhythm {groove.name} has hardly any strokes", hint="leave it out of the data")


def _is_dense(groove: Groove) -> bool:
    """Tell whether a groove is two bars long and holds enough strokes for a short target."""
    length_s = groove.n_beats * 60 / groove.bpm
    return groove.n_beats >= 8 and len(groove.onset_beats) >= length_s * _FEWEST_STROKES / _TARGET_S[0]


def kit_halves(kits: Sequence[Kit]) -> tuple[list[Kit], list[Kit]]:
    """Return kits in two halves with no recordings in common, acoustic and other kits dealt out in turns.

    Raises:
        PackError: a half has no kit with kick, snare and hats.
    """
    halves: tuple[list[Kit], list[Kit]] = ([], [])
    for is_acoustic in (True, False):
        families: dict[str, list[Kit]] = {}
        for kit in sorted(kits, key=lambda kit: kit.name):
            if (kit.kind == "acoustic") == is_acoustic:
                families.setdefault(recording_family(kit.name), []).append(kit)
        for i, members in enumerate(families.values()):
            halves[(i + (not is_acoustic)) % 2].extend(members)
    if not all(any(has_classes(kit, _LEADING) for kit in half) for half in halves):
        raise PackError(
            "the pack holds no two test kits with kick, snare and hats", hint="pack the test side too"
        )
    return halves


def _events_of(recipe: SegmentRecipe, stems: Tensor | None = None) -> tuple[tuple[DrumEvent, ...], ...]:
    """Return all events of a recipe, the audible ones and the others, no two of a class within 20 ms.

    Two strokes of a class fall together where one of them stands in for a class that the kit lacks.
    """
    if stems is None:
        stems = render_batch_stems([recipe])[0]
    audible = audible_strokes(stems, recipe.strokes)
    last_s: dict[str, float] = {}
    first = np.zeros(len(recipe.strokes), dtype=bool)
    for i, stroke in enumerate(recipe.strokes):
        first[i] = stroke.onset_s - last_s.get(stroke.drum_class, -1.0) >= 0.02
        if first[i]:
            last_s[stroke.drum_class] = stroke.onset_s
    everything = np.ones(len(recipe.strokes), dtype=bool)
    return as_events(recipe, everything), as_events(recipe, audible & first), as_events(recipe, ~audible)


def _rendered(recipe: SegmentRecipe) -> Audio:
    return np.asarray(render_batch([recipe])[0].numpy(), dtype=np.float32)
