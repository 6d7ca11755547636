"""Edits as a page sends them: what they do to a document, stroke by stroke.

`patterns` and `bar_edits` have those of many strokes at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from daw_bridge.editor.bar_edits import clear, fill, repeat
from daw_bridge.editor.document import Command, Document, Draft, Layer
from daw_bridge.editor.fields import Fields
from daw_bridge.editor.patterns import humanise, quantise, swing
from transform.errors import RhythmError
from transform.strokes import Stroke

MOST_EDITS = 10_000  # of one request
_USUAL_VELOCITY = 0.8  # of a stroke that is added without one


def command_of(document: Document, edits: Sequence[object], known: Collection[str] = ()) -> Command:
    """Return the one command that edits make of a document; edits that change nothing make an empty one.

    Args:
        document: as the page that sends them has it.
        edits: JSON objects, each with an `op`.
        known: the ids of all strokes that have ever been in the document.

    Raises:
        RhythmError: an edit is none, is about a stroke that has never been there, or would make what no
            document may hold. None of them is done then.
    """
    draft = Draft(document, known)
    for number, found in enumerate(edits, start=1):
        edit = Fields(found, f"edit {number}")
        _OPS[edit.choice("op", _OPS)](draft, edit)
        edit.end()
    return draft.command()


def _add(draft: Draft, edit: Fields) -> None:
    """Let a stroke play; one of that id that plays already stays as it is, so a repeated add is harmless."""
    stroke = _new_stroke(edit, draft.length_s)
    if "like" in edit:
        like = edit.id("like")
        draft.check_known(like, edit.what)
        stroke = replace(stroke, like=draft.original_of(like))
    if stroke.id not in draft.played:
        draft.put("played", stroke)


def _move(draft: Draft, edit: Fields) -> None:
    stroke = _existing(draft, edit, "played")
    stroke = _of_class(stroke, edit) if "class" in edit else stroke
    draft.put("played", replace(stroke, onset_s=edit.onset_s(draft.length_s)))


def _set(draft: Draft, edit: Fields) -> None:
    stroke = _existing(draft, edit, "played")
    stroke = _of_class(stroke, edit)
    draft.put("played", replace(stroke, velocity=edit.velocity(stroke.velocity)))


def _delete(draft: Draft, edit: Fields) -> None:
    """Let a stroke play no more; of one that is gone already nothing is left to do."""
    stroke_id = edit.id("id")
    draft.check_known(stroke_id, edit.what)
    draft.remove("played", stroke_id)


def _relabel(draft: Draft, edit: Fields) -> None:
    before = _existing(draft, edit, "detected")
    _correct(draft, before, _of_class(before, edit))


def _shift(draft: Draft, edit: Fields) -> None:
    before = _existing(draft, edit, "detected")
    _correct(draft, before, replace(before, onset_s=edit.onset_s(draft.document.source_s)))


def _dismiss(draft: Draft, edit: Fields) -> None:
    """Say that a detected stroke is none: then it plays no more, and nothing is taken out for it."""
    stroke_id = edit.id("id")
    draft.check_known(stroke_id, edit.what)
    if stroke_id in draft.layers["detected"]:
        draft.remove("detected", stroke_id)
        draft.remove("played", stroke_id)


def _detect(draft: Draft, edit: Fields) -> None:
    """Say that a stroke is in the recording; it plays, unless a rhythm of its own does."""
    stroke = _new_stroke(edit, draft.document.source_s)
    if stroke.id in draft.layers["detected"]:
        return
    draft.put("detected", stroke)
    if draft.fields["mode"] == "edit" and stroke.id not in draft.played:
        draft.put("played", stroke)


def _correct(draft: Draft, before: Stroke, after: Stroke) -> None:
    """Correct a detected stroke; what was not changed of it as it plays follows, so it sounds as before.

    Its copies are of its class as well.
    """
    draft.put("detected", after)
    for played in [s for s in draft.played.values() if before.id in (s.id, s.like)]:
        corrected = played
        if (played.drum_class, played.articulation) == (before.drum_class, before.articulation):
            corrected = replace(corrected, drum_class=after.drum_class, articulation=after.articulation)
        if played.id == before.id and played.onset_s == before.onset_s:
            corrected = replace(corrected, onset_s=after.onset_s)
        draft.put("played", corrected)


def _new_stroke(edit: Fields, end_s: float) -> Stroke:
    drum_class = edit.drum_class()
    return Stroke(
        id=edit.id("id"),
        drum_class=drum_class,
        onset_s=edit.onset_s(end_s),
        velocity=edit.velocity(_USUAL_VELOCITY),
        articulation=edit.articulation(drum_class, ""),
    )


def _existing(draft: Draft, edit: Fields, layer: Layer) -> Stroke:
    stroke_id = edit.id("id")
    draft.check_known(stroke_id, edit.what)
    stroke = draft.layers[layer].get(stroke_id)
    if stroke is None:
        raise RhythmError(
            f"{edit.what} is about the stroke {stroke_id}, which is not {layer}", hint="load the page again"
        )
    return stroke


def _of_class(stroke: Stroke, edit: Fields) -> Stroke:
    """Return a stroke with the class and articulation of an edit; another class has none unless it says so."""
    drum_class = edit.drum_class(stroke.drum_class)
    usual = stroke.articulation if drum_class == stroke.drum_class else ""
    return replace(stroke, drum_class=drum_class, articulation=edit.articulation(drum_class, usual))


_OPS: dict[str, Callable[[Draft, Fields], None]] = {
    "add": _add,
    "move": _move,
    "set": _set,
    "delete": _delete,
    "relabel": _relabel,
    "dismiss": _dismiss,
    "detect": _detect,
    "shift": _shift,
    "quantise": quantise,
    "swing": swing,
    "humanise": humanise,
    "repeat": repeat,
    "clear": clear,
    "fill": fill,
}
