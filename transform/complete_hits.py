"""Which strokes all microphones of a performance have, where some of them do not run all the time.

A microphone that was cut away for a verse is in none of the strokes there. A hit from there would be a dropout
in the take of that microphone, so hits are taken from where it runs. One that was cut to its own strokes, such
as a tom without what lies between its fills, is silent at all others, and so it is in the take.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import Protocol, TypeVar

import numpy as np

from transform.audio import Recording
from transform.events import CLASS_NAMES, CLASSES

_BEGINNING_S = 0.25  # of a stroke, which all must have
_ENOUGH = 4  # strokes of a kind that all have: those that some lack are left out
_IN_A_ROW, _LEAST = 6, 0.1  # strokes that a microphone has where it runs, and of all
_MENTIONED = 3  # strokes that a microphone lacks


class _Stroke(Protocol):
    """What could be a hit: its classes, and the sample at which it begins."""

    @property
    def classes(self) -> frozenset[str]: ...

    @property
    def attack(self) -> int: ...


_Cut = TypeVar("_Cut", bound=_Stroke)


class CompleteStrokes:
    """The strokes of a recording that no microphone lacks which was cut away for a while."""

    def __init__(self, recording: Recording, attacks: Sequence[int], lead: int) -> None:
        """Take a recording, the attacks of its strokes in samples, and how much before them belongs to them."""
        self._recording, self._lead = recording, lead
        self._reach = round(_BEGINNING_S * recording.sample_rate)
        lacking = [self._lacking(attack) for attack in attacks]
        self._n_lacking = {
            name: sum(name in own for own in lacking) for name in sorted(frozenset().union(*lacking))
        }
        self._interrupted = frozenset(
            name for name in self._n_lacking if _is_interrupted([name not in own for own in lacking])
        )
        self._is_whole = [not own & self._interrupted for own in lacking]
        self._few: set[str] = set()

    def longest_run(self) -> slice:
        """Return the places of the most strokes in a row that are complete; of all where none are."""
        changes = [i for i, (a, b) in enumerate(pairwise(self._is_whole), 1) if a != b]
        runs = [slice(a, b) for a, b in pairwise([0, *changes, len(self._is_whole)])]
        whole = [run for run in runs if run.start < run.stop and self._is_whole[run.start]]
        return max(whole, key=lambda run: run.stop - run.start, default=slice(None))

    def retained(self, candidates: Sequence[Sequence[_Cut]]) -> list[Sequence[_Cut]]:
        """Return what hits are taken from: the complete strokes of each kind, or all where these are few.

        What several drums are struck of together is left out where none is complete and each is struck alone.
        """
        whole = [
            [cut for cut in own if not self._lacking(cut.attack) & self._interrupted] for own in candidates
        ]
        n_alone = Counter(c for own in whole for cut in own if len(cut.classes) == 1 for c in cut.classes)
        alone = frozenset[str]().union(*(own[0].classes for own in candidates if len(own[0].classes) == 1))
        found: list[Sequence[_Cut]] = []
        for own, complete in zip(candidates, whole, strict=True):
            classes = own[0].classes
            is_enough = len(complete) >= _ENOUGH or all(n_alone[c] >= _ENOUGH for c in classes)
            if len(complete) == len(own) or (complete and is_enough):
                found.append(complete)
            elif len(classes) == 1 or not classes <= alone:
                found.append(own)
                self._few |= classes
        return [self._inside(own) for own in found]

    def notes(self) -> Iterator[str]:
        """Yield where hits are taken from, once these are chosen, if some microphone is silent at times."""
        silent = [name for name, n in self._n_lacking.items() if n >= _MENTIONED]
        if away := [name for name in silent if name in self._interrupted]:
            few = ", ".join(CLASS_NAMES[c] for c in CLASSES if c in self._few)
            but = f"; too few of these are there, so hits without it are taken, too: {few}" if few else ""
            yield f"{_listed(away, 'does', 'do')} not run all the time: hits are taken from where all do{but}"
        if others := [name for name in silent if name not in self._interrupted]:
            yield f"{_listed(others, 'is', 'are')} silent at many strokes: hits are taken from there, too"

    def _inside(self, cuts: Sequence[_Cut]) -> Sequence[_Cut]:
        """Return what neither the beginning nor the end of microphones cuts off, where this is enough."""
        last = self._recording.n_samples - self._reach
        inside = [cut for cut in cuts if self._lead <= cut.attack <= last]
        return inside if self._recording.spread_s and len(inside) >= _ENOUGH else cuts

    def _lacking(self, attack: int) -> frozenset[str]:
        return self._recording.lacking(attack, attack + self._reach)


def _is_interrupted(is_running: Sequence[bool]) -> bool:
    """Tell whether a microphone was cut away for a while, not to its own strokes, of which it has each."""
    runs = [len(list(own)) for has, own in groupby(is_running) if has]
    in_a_row = np.median(np.repeat(runs, runs)) if runs else 0  # of the stroke in the middle
    return sum(runs) >= _LEAST * len(is_running) and bool(in_a_row >= _IN_A_ROW)


def _listed(names: Sequence[str], singular: str, plural: str) -> str:
    return f"{', '.join(names)} {singular if len(names) == 1 else plural}"
