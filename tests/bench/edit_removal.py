"""Measure how well single strokes are taken out of made loops by the editor, with the shipped models.

    python -m tests.bench.edit_removal --data PACK [--loops N]

The loops of tests/bench/made_loops.py (four equal bars of one-shots) and of tests/bench/hit_quality.py
(one-shots that play grooves, and kits whose strokes differ) are transcribed, nothing is given. Each stroke that
is detected within 20 ms of the truth is deleted, one at a time. Depth is the energy that the stroke truly adds
in the touched region, over the energy of all by which the result differs there from the loop made without it:
what is left of the stroke, and what is lost of others. "repeats": the sound that the recording repeats was
taken out, not the stem.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tests.bench import hit_quality, made_loops
from training.data.kits import SAMPLE_RATE, kits_of
from training.data.pack import Pack, load_pack
from transform.audio import Recording
from transform.edit import RecordingEditor, Strokes
from transform.engine import Redrummer

_NEAR_S = 0.02
_AUDIBLE = 1e-9  # energy: a stroke of less adds nothing that could be taken out

Part = tuple[str, float, int, np.ndarray]  # class, onset in seconds, where it begins, what it adds
Scores = dict[tuple[str, str, bool], list[float]]  # depths by sort of loop, class, whether the sound repeats


def loops(pack: Pack, n: int) -> Iterator[tuple[str, str, np.ndarray, list[Part]]]:
    """Yield loops: the sort, the kit, the sound (T,), and what each stroke adds."""
    kits = sorted(kits_of(pack.kits, "test"), key=lambda kit: (kit.kind, kit.name))
    made = list(made_loops.made_loops(kits))
    for i in np.unique(np.linspace(0, len(made) - 1, n).round().astype(int)):
        loop = made[i]
        parts = [(e.drum_class, e.onset_s, *part) for e, part in zip(loop.events, loop.parts, strict=True)]
        yield "equal bars", loop.kit, loop.audio, parts
    for number, (sort, played) in enumerate(hit_quality.LoopMaker(pack, 0).loops()):
        if number % 10 < n:
            strokes = zip(played.strokes, played.parts, strict=True)
            yield (
                f"groove, {sort}",
                played.name,
                played.audio,
                [(s.drum_class, s.onset_s, *part) for s, part in strokes],
            )


def measure(
    audio: np.ndarray, parts: Sequence[Part], redrummer: Redrummer
) -> Iterator[tuple[str, bool, float]]:
    """Yield of each detected stroke its class, whether its sound repeats, and the depth in dB."""
    editor = RecordingEditor.open(Recording.from_samples(audio, SAMPLE_RATE), redrummer)
    untouched = editor.edited(Strokes(editor.detected, editor.detected))
    sounds = editor.sounds_of(editor.detected)
    for stroke in editor.detected:
        own = [part for part in parts if part[0] == stroke.drum_class]
        nearest = min(own, key=lambda part: abs(part[1] - stroke.onset_s), default=None)
        if nearest is None or abs(nearest[1] - stroke.onset_s) > _NEAR_S:
            continue
        rest = tuple(other for other in editor.detected if other is not stroke)
        edited = editor.edited(Strokes(editor.detected, rest))
        ((start, stop),) = edited.changed_from(untouched)
        truth = np.zeros(stop - start)
        first, last = max(start, nearest[2]), min(stop, nearest[2] + len(nearest[3]))
        if first >= last:
            continue
        truth[first - start : last - start] = nearest[3][first - nearest[2] : last - nearest[2]]
        energy = float(np.square(truth).sum())
        wrong = float(np.square(edited.read(start, stop)[0] - (audio[start:stop] - truth)).sum())
        if energy > _AUDIBLE:
            repeats = sounds.repeat(sounds.index[stroke.id]) is not None
            yield stroke.drum_class, repeats, 10 * np.log10(energy / max(wrong, 1e-12))


def main() -> None:
    """Print the depths of each loop, and of all loops of a sort."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--loops", type=int, default=10, help="of each sort")
    given = parser.parse_args()
    redrummer = Redrummer.load()
    scores: Scores = defaultdict(list)
    for sort, kit, audio, parts in loops(load_pack(given.data), given.loops):
        by_class = defaultdict(list)
        for drum_class, repeats, depth_db in measure(audio, parts, redrummer):
            scores[sort, drum_class, repeats].append(depth_db)
            by_class[drum_class].append(depth_db)
        shown = ", ".join(f"{c} {np.mean(own):.1f} ({len(own)})" for c, own in sorted(by_class.items()))
        print(f"{sort:24} {kit:28} {shown}", flush=True)
    print("\nsort                     class          strokes  mean dB  median  10th percentile")
    for (sort, drum_class, repeats), own in sorted(scores.items()):
        how = "repeats" if repeats else "stem"
        low, middle = np.percentile(own, [10, 50])
        print(f"{sort:24} {drum_class} {how:8} {len(own):10} {np.mean(own):8.1f} {middle:7.1f} {low:7.1f}")


if __name__ == "__main__":
    main()
