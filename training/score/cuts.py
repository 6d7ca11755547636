"""Loops as people cut them: is a stroke on the first samples found, and none where a tail or silence begins?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from training.data.kits import SAMPLE_RATE
from training.data.pack import Pack
from training.data.split import Split
from training.score.transcriber import AnnotatedRecording, make_recordings
from transform.audio import Recording
from transform.events import CLASSES
from transform.transcriber import Transcriber

Beginning = Literal["stroke", "tail", "silence"]

_LOOP_S = 3.0
_WINDOW_S = 0.05  # of a stroke that is found or invented at the beginning
_ALONE_S = 0.1  # before and after a cut in a tail there is no stroke for so long
_SILENCE_S = 0.25


@dataclass(frozen=True)
class CutLoop:
    """A loop, what it begins with, and the classes that are struck on its first samples."""

    audio: Tensor  # (T,)
    beginning: Beginning
    classes: frozenset[str]


def cut_loops(pack: Pack, split: Split, *, n: int, seed: int) -> list[CutLoop]:
    """Return `n` loops that begin on a stroke, half as many that begin in a tail, and as many in silence.

    They are cut out of recordings of whole kits of one side: on the sample on which an audible stroke begins,
    100 ms and more away from any, or on a stroke, a quarter of a second of digital silence being put before it.

    Raises:
        PackError: the pack lacks kits or rhythms of that side.
    """
    rng = np.random.default_rng(seed)
    loops: dict[Beginning, list[CutLoop]] = {"stroke": [], "tail": [], "silence": []}
    most = {"stroke": n, "tail": n // 2, "silence": n // 2}
    for round_ in range(100):
        for recording in make_recordings(pack, split, n=max(1, n // 4), seed=seed + round_):
            for loop in _loops_of(recording, rng):
                loops[loop.beginning].append(loop)
        if all(len(loops[beginning]) >= most[beginning] for beginning in loops):
            break
    return [loop for beginning, found in loops.items() for loop in found[: most[beginning]]]


def _loops_of(recording: AnnotatedRecording, rng: np.random.Generator) -> Iterator[CutLoop]:
    audible_s = np.array([e.onset_s for e in recording.events])
    all_s = np.array([e.onset_s for e in (*recording.events, *recording.hardly_audible)])
    last_s = len(recording.audio) / SAMPLE_RATE - _LOOP_S
    on_stroke = audible_s[audible_s < last_s]
    if len(on_stroke):
        start_s = float(rng.choice(on_stroke))
        classes = frozenset(e.drum_class for e in recording.events if abs(e.onset_s - start_s) < 0.001)
        audio = _cut(recording.audio, start_s)
        yield CutLoop(audio, "stroke", classes)
        yield CutLoop(torch.cat((torch.zeros(round(_SILENCE_S * SAMPLE_RATE)), audio)), "silence", frozenset())
    for start_s in rng.uniform(0, last_s, 50):
        audio = _cut(recording.audio, float(start_s))
        if (np.abs(all_s - start_s) > _ALONE_S).all() and audio[: SAMPLE_RATE // 50].any():
            yield CutLoop(audio, "tail", frozenset())
            break


def _cut(audio: Tensor, start_s: float) -> Tensor:
    start = round(start_s * SAMPLE_RATE)
    return audio[start : start + round(_LOOP_S * SAMPLE_RATE)].cpu()


def score_cuts(transcriber: Transcriber, loops: list[CutLoop]) -> dict[str, dict[str, str]]:
    """Return a table of proportions by class: first strokes that are found, loops in which one is invented.

    What is invented is found in the first 50 ms of a loop that begins in a tail, or in the silence, more than
    50 ms before its end; "any" is the proportion of loops in which that is so of some class.
    """
    struck = [(loop, _found_at_beginning(transcriber, loop)) for loop in loops if loop.beginning == "stroke"]
    found: dict[str, str] = {}
    for c in CLASSES:
        hits = [c in detected for loop, detected in struck if c in loop.classes]
        found[c] = f"{np.mean(hits):.3f} of {len(hits)}" if hits else "-"
    some = [bool(loop.classes & detected) for loop, detected in struck]
    table = {"first stroke found": found | {"any": f"{np.mean(some):.3f} of {len(some)}" if some else "-"}}
    for beginning in ("tail", "silence"):
        detected = [_found_at_beginning(transcriber, loop) for loop in loops if loop.beginning == beginning]
        if detected:
            row = {c: f"{np.mean([c in s for s in detected]):.3f}" for c in CLASSES}
            table[f"invented in {'a ' * (beginning == 'tail')}{beginning}"] = row | {
                "any": f"{np.mean([bool(s) for s in detected]):.3f} of {len(detected)}"
            }
    return table


def _found_at_beginning(transcriber: Transcriber, loop: CutLoop) -> set[str]:
    """Return the classes that are found in a loop's beginning."""
    until_s = _SILENCE_S - _WINDOW_S if loop.beginning == "silence" else _WINDOW_S
    recording = Recording.from_samples(loop.audio.numpy(), SAMPLE_RATE)
    events = transcriber.events(transcriber.activations(recording))
    return {e.drum_class for e in events if e.onset_s <= until_s}
