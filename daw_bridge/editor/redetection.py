"""What is detected at another sensitivity, taken over into a document that the user has edited."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from daw_bridge.editor.document import LAYERS, Draft, order
from transform.strokes import Stroke

_LONGEST_OWN = 16  # characters of an id that detection gives


def redetect(draft: Draft, found: Iterable[Stroke], sensitivity: dict[str, float]) -> None:
    """Take over what is detected at another sensitivity; whatever the user corrected or edited stays.

    A stroke that is found anew is one that is there already where it lies near one: of its class as it was
    estimated or as the user has it, or of any class where the user corrected or dismissed what is not found
    again. Of strokes that are not found again those stay that the user corrected, dismissed, or edited.

    Args:
        draft: the document.
        found: all strokes that are detected now; their ids do not matter.
        sensitivity: by class, which they were detected at.
    """
    estimated, detected = draft.layers["estimated"], draft.layers["detected"]
    touched = _touched(draft)
    own = [stroke for stroke in detected.values() if estimated.get(stroke.id) != stroke]
    corrected = [*(s for s in estimated.values() if detected.get(s.id) != s), *own]
    left, again = _matched(_Matcher(estimated.values()), sorted(found, key=order))
    left, as_corrected = _matched(_Matcher(own), left)
    again |= as_corrected
    others = (s for s in corrected if s.id in estimated and s.id not in again)
    left, elsewhere = _matched(_Matcher(others, any_class=True), left)
    for stroke_id, stroke in as_corrected.items():
        if stroke_id not in estimated:  # drawn by hand, and detected by now
            draft.put("estimated", replace(stroke, id=stroke_id))
    for stroke_id in estimated.keys() - again.keys() - elsewhere.keys() - touched:
        for layer in LAYERS:
            draft.remove(layer, stroke_id)
    last = max((int(i[1:]) for i in draft.known_ids() if _is_own(i)), default=-1)
    for number, stroke in enumerate(left, start=last + 1):
        new = replace(stroke, id=f"d{number}")
        for layer in LAYERS if draft.fields["mode"] == "edit" else LAYERS[:2]:
            draft.put(layer, new)
    draft.fields["sensitivity"] = sensitivity


def _touched(draft: Draft) -> set[str]:
    """Return the ids of estimated strokes that the user drew, corrected, copied, or plays otherwise or not."""
    estimated, detected, played = (draft.layers[name] for name in LAYERS)
    copied = {stroke.like for stroke in played.values()}
    is_other_rhythm = draft.fields["mode"] == "replay" and not detected.keys() & played.keys()
    return {
        i
        for i, stroke in estimated.items()
        if not _is_own(i)
        or i in copied
        or detected.get(i) != stroke
        or not (is_other_rhythm or played.get(i) == stroke)
    }


def _matched(matcher: _Matcher, found: Iterable[Stroke]) -> tuple[list[Stroke], dict[str, Stroke]]:
    """Return the strokes that are near none of a matcher's, and the others by the id of the one they are."""
    left: list[Stroke] = []
    same: dict[str, Stroke] = {}
    for stroke in found:
        stroke_id = matcher.take(stroke)
        if stroke_id is None:
            left.append(stroke)
        else:
            same[stroke_id] = stroke
    return left, same


class _Matcher:
    """Finds, and gives each id once, strokes of the same class, or of any, at nearly the same time."""

    _NEAR_S = 0.03  # two strokes of a lane are never closer

    def __init__(self, strokes: Iterable[Stroke], *, any_class: bool = False) -> None:
        self._any_class = any_class
        self._at: dict[tuple[str, int], list[Stroke]] = {}
        self._left: set[str] = set()
        for stroke in strokes:
            self._at.setdefault(self._place(stroke), []).append(stroke)
            self._left.add(stroke.id)

    def take(self, stroke: Stroke) -> str | None:
        """Return the id of the nearest stroke that is left, None where none is near."""
        drum_class, bin_ = self._place(stroke)
        near = [s for b in (bin_ - 1, bin_, bin_ + 1) for s in self._at.get((drum_class, b), ())]
        near = [s for s in near if s.id in self._left and abs(s.onset_s - stroke.onset_s) < self._NEAR_S]
        if not near:
            return None
        best = min(near, key=lambda s: abs(s.onset_s - stroke.onset_s))
        self._left.remove(best.id)
        return best.id

    def _place(self, stroke: Stroke) -> tuple[str, int]:
        return "" if self._any_class else stroke.drum_class, math.floor(stroke.onset_s / self._NEAR_S)


def _is_own(stroke_id: str) -> bool:
    """Return whether an id is one that detection gives."""
    return stroke_id[0] == "d" and stroke_id[1:].isdigit() and len(stroke_id) <= _LONGEST_OWN
