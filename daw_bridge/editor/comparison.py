"""Versions that are compared by ear: up to three, played at equal levels of their strokes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from daw_bridge.editor.document import FIELDS, LAYERS, Document, Draft
from transform.audio import Recording
from transform.errors import RhythmError
from transform.events import CLASSES
from transform.strokes import Stroke
from transform.velocity import band_level

SLOTS = ("A", "B", "C")

_MOST_MEASURED = 48  # strokes of a class
_QUANTILE = 0.9  # of their levels, which counts for the class
_SILENT = 1e-9


@dataclass(frozen=True)
class Compared:
    """A version that is compared."""

    name: str  # that the renderer retains it by
    version: int
    document: Document
    n_samples: int
    levels_db: Mapping[str, float]  # of the strokes of each class that plays


class Comparison:
    """The versions of a session that are compared, by slot. They last as long as the editor is open."""

    def __init__(self) -> None:
        """Begin without one."""
        self._compared: dict[str, Compared] = {}

    def put(self, slot: str, version: Compared | None) -> Compared | None:
        """Put a version into a slot, or None, and return what was there."""
        before = self._compared.pop(slot, None)
        if version is not None:
            self._compared[slot] = version
        return before

    def of(self, slot: str) -> Compared:
        """Return what is in a slot.

        Raises:
            RhythmError: nothing is.
        """
        if (found := self._compared.get(slot)) is None:
            raise RhythmError(f"no version is stored in {slot}", hint="store one there first")
        return found

    def restoring(self, slot: str) -> Callable[[Draft], None]:
        """Return what makes a document what it was in a slot."""
        document = self.of(slot).document

        def restore(draft: Draft) -> None:
            for layer in LAYERS:
                target = document.layer(layer)
                for stroke_id in draft.layers[layer].keys() - target.keys():
                    draft.remove(layer, stroke_id)
                for stroke in target.values():
                    if draft.layers[layer].get(stroke.id) != stroke:
                        draft.put(layer, stroke)
            draft.fields.update({name: getattr(document, name) for name in FIELDS})

        return restore

    def json(self) -> dict[str, Any]:
        """Return the slots that are not empty, as pages have them."""
        compared = dict(self._compared)
        gains_db = matched_gains_db({slot: found.levels_db for slot, found in compared.items()})
        return {
            slot: {
                "version": found.version,
                "n_samples": found.n_samples,
                "n_strokes": len(found.document.played),
                "mode": found.document.mode,
                "gain_db": round(gains_db[slot], 2),
            }
            for slot, found in sorted(compared.items())
        }


def stroke_levels_db(
    sound: Recording, strokes: Sequence[Stroke], report: Callable[[float], None] = lambda fraction: None
) -> dict[str, float]:
    """Return how loud the strokes of each class are: the 90th percentile of the levels in its band, in dB.

    Args:
        sound: in which they are.
        strokes: of any classes; of many of one class some are measured, all over it.
        report: called with the fraction done.
    """
    by_class = {c: [stroke for stroke in strokes if stroke.drum_class == c] for c in CLASSES}
    measured = {c: own[:: -(-len(own) // _MOST_MEASURED)] for c, own in by_class.items() if own}
    n_measured, levels_db = sum(map(len, measured.values())), {}
    n_done = 0
    for drum_class, own in measured.items():
        levels = []
        for stroke in own:
            levels.append(band_level(sound, drum_class, stroke.onset_s))
            n_done += 1
            report(n_done / n_measured)
        levels_db[drum_class] = 20 * float(np.log10(max(float(np.quantile(levels, _QUANTILE)), _SILENT)))
    return levels_db


def matched_gains_db(levels_db: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the gains at which versions have equal levels, 0 dB or less: the softest stays as it is.

    What counts is the median over the classes that all of them play, so that a drum that is turned down in one
    of them does not turn the others; without such a class, the median over those of each.

    Args:
        levels_db: of the strokes, by version and class; a version without strokes stays as it is.
    """
    playing = {name: own for name, own in levels_db.items() if own}
    shared = [c for c in CLASSES if all(c in own for own in playing.values())]
    usual_db = {n: float(np.median([own[c] for c in shared or own])) for n, own in playing.items()}
    softest_db = min(usual_db.values(), default=0.0)
    return {name: softest_db - usual_db.get(name, softest_db) for name in levels_db}
