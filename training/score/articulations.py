"""How well articulations are distinguished: balanced accuracy over strokes whose class was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from training.score.scores import matched_pairs
from training.score.transcriber import AnnotatedRecording
from transform.events import DrumEvent
from transform.transcriber import Transcriber

# By name: the class, and the articulations on either side.
PAIRS: Mapping[str, tuple[str, frozenset[str], frozenset[str]]] = {
    "open/closed hat": ("HH", frozenset({"open"}), frozenset({"closed", "pedal"})),
    "foot/closed hat": ("HH", frozenset({"pedal"}), frozenset({"closed"})),
    "side stick/snare": ("SD", frozenset({"sidestick"}), frozenset({"", "rim"})),
    "ride/crash": ("CY", frozenset({"ride", "bell"}), frozenset({"crash", "china", "splash"})),
}


def balanced_accuracies(transcriber: Transcriber, recordings: Sequence[AnnotatedRecording]) -> dict[str, float]:
    """Return the mean of both sides' shares of right answers, by pair; a pair that lacks a side is left out."""
    counts = articulation_counts(transcriber, recordings)
    return {
        name: round((counts[name][0][0] / n_one + counts[name][1][0] / n_other) / 2, 4)
        for name in PAIRS
        if (n_one := counts[name][0][1]) and (n_other := counts[name][1][1])
    }


def articulation_counts(
    transcriber: Transcriber, recordings: Sequence[AnnotatedRecording]
) -> dict[str, tuple[list[int], list[int]]]:
    """Return, by pair and side, how many strokes were assigned right and how many were found."""
    counts: dict[str, tuple[list[int], list[int]]] = {name: ([0, 0], [0, 0]) for name in PAIRS}
    for recording in recordings:
        found = transcriber.events(transcriber.infer(recording.audio.cpu()))
        for name, (drum_class, *sides) in PAIRS.items():
            for truth, detected in _matched(recording.events, found, drum_class):
                for count, own in zip(counts[name], sides, strict=True):
                    if truth.articulation in own:
                        count[0] += detected.articulation in own
                        count[1] += 1
    return counts


def _matched(
    truth: Sequence[DrumEvent], found: Sequence[DrumEvent], drum_class: str
) -> list[tuple[DrumEvent, DrumEvent]]:
    """Return pairs of a class's true and detected strokes."""
    expected, detected = (
        sorted((e for e in events if e.drum_class == drum_class), key=lambda e: e.onset_s)
        for events in (truth, found)
    )
    pairs = matched_pairs([e.onset_s for e in expected], [e.onset_s for e in detected])
    return [(expected[i], detected[j]) for i, j in pairs]
