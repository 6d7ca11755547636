"""What scores have in common: counts of events found, means with bootstrap intervals, the rows of tables."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transform.events import CLASSES, DrumEvent


@dataclass(frozen=True)
class Counts:
    """Events matched, expected and detected; they add up over recordings."""

    matched: int = 0
    expected: int = 0
    detected: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.matched + other.matched, self.expected + other.expected, self.detected + other.detected
        )

    @property
    def precision(self) -> float:
        """The proportion of the detected events that were there; 1 where none was detected."""
        return self.matched / self.detected if self.detected else 1.0

    @property
    def recall(self) -> float:
        """The proportion of the expected events that were detected; 1 where none was expected."""
        return self.matched / self.expected if self.expected else 1.0

    @property
    def f_measure(self) -> float:
        """2 PR / (P + R); 1 where nothing was to be found and nothing was."""
        total = self.expected + self.detected
        return 2 * self.matched / total if total else 1.0


def matched_pairs(
    expected_s: Sequence[float], detected_s: Sequence[float], window_s: float = 0.05
) -> list[tuple[int, int]]:
    """Return as many pairs (index expected, index detected) of sorted onsets within `window_s` as there can be.

    Pairing each expected onset with the earliest free detection within its window is optimal for windows of
    equal width, so there are as many as mir_eval's maximum matching has.
    """
    pairs = []
    nearest = 0
    for i, onset_s in enumerate(expected_s):
        while nearest < len(detected_s) and detected_s[nearest] < onset_s - window_s:
            nearest += 1
        if nearest < len(detected_s) and detected_s[nearest] <= onset_s + window_s:
            pairs.append((i, nearest))
            nearest += 1
    return pairs


def n_matches(expected_s: Sequence[float], detected_s: Sequence[float], window_s: float = 0.05) -> int:
    """Return how many sorted onsets can be paired one to one within `window_s`."""
    return len(matched_pairs(expected_s, detected_s, window_s))


def class_counts(
    expected: Sequence[DrumEvent],
    detected: Sequence[DrumEvent],
    *,
    ignored: Sequence[DrumEvent] = (),
    window_s: float = 0.05,
) -> dict[str, Counts]:
    """Return the counts of each class; detections that only an `ignored` event explains count for nothing.

    Args:
        expected: the events that must be found.
        detected: the events that were found.
        ignored: events that may be found or missed at will, as they are hardly audible.
        window_s: largest distance of a match.
    """
    counts = {}
    for drum_class in CLASSES:
        truth, found, free = (
            sorted(e.onset_s for e in events if e.drum_class == drum_class)
            for events in (expected, detected, ignored)
        )
        matched = n_matches(truth, found, window_s)
        excused = n_matches(sorted(truth + free), found, window_s) - matched
        counts[drum_class] = Counts(matched, len(truth), len(found) - excused)
    return counts


def pooled(counts: Mapping[str, Counts]) -> Counts:
    """Return the sum over classes (the micro average's counts)."""
    return sum(counts.values(), Counts())


@dataclass(frozen=True)
class Score:
    """A score over recordings with its 95 % interval."""

    value: float
    low: float
    high: float

    def cell(self, digits: int, to: str = " to ") -> str:
        """Return the cell of a table."""
        value, low, high = (f"{x:.{digits}f}" for x in (self.value, self.low, self.high))
        return f"{value} ({low}{to}{high})"


def interval(resampled: Sequence[float] | NDArray[np.float64]) -> tuple[float, float]:
    """Return the 95 % interval of a value that was computed from resampled recordings (bootstrap)."""
    low, high = np.quantile(resampled, (0.025, 0.975))
    return float(low), float(high)


def mean_scores(
    items: Sequence[Mapping[str, float | None]], *, n_resamples: int = 1000, seed: int = 0
) -> dict[str, Score]:
    """Return each measure's mean over the recordings that have it, with its interval over recordings."""
    rng = np.random.default_rng(seed)
    scores = {}
    for name in items[0]:
        values = np.array([value for item in items if (value := item[name]) is not None], dtype=np.float64)
        if len(values):
            resampled = rng.choice(values, (n_resamples, len(values))).mean(axis=1)
            scores[name] = Score(float(values.mean()), *interval(resampled))
    return scores


def cells(scores: Mapping[str, Score], names: Iterable[str], digits: int) -> dict[str, str]:
    """Return the row of a table, "-" for a measure that no recording has."""
    return {name: scores[name].cell(digits) if name in scores else "-" for name in names}


def markdown_table(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, whose first column holds the names of the rows."""
    head = f"| {title} |" if title else "| |"
    lines = [f"{head} {' | '.join(columns)} |", f"| --- |{' --- |' * len(columns)}"]
    return lines + [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]


def means(items: Sequence[Mapping[str, float | None]], digits: int = 4) -> dict[str, float]:
    """Return each measure's mean over the recordings that have it."""
    found: dict[str, float] = {}
    for name in dict.fromkeys(name for item in items for name in item):
        values = [value for item in items if (value := item.get(name)) is not None]
        if values:
            found[name] = round(float(np.mean(values)), digits)
    return found
