"""Measure the time from an edit to its samples, with the shipped models.

    python -m tests.bench.edit_latency [--edits 200]

A shipped loop of about 8 s, in stereo, and the same for a minute: random edits, each on top of the last; of
each the regions that it changes are read. What the page and the server take is not in it.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np

from transform.audio import Recording
from transform.edit import RecordingEditor, Stroke, Strokes
from transform.engine import Redrummer
from transform.events import CLASSES
from transform.library import demo_recordings

_LENGTHS_S = (8, 60)


def recording(length_s: int) -> Recording:
    """Return a shipped loop, in stereo, looped for so long."""
    shipped = next(own for own in demo_recordings() if "acoustic" in own.name)
    with Recording.open(shipped.path) as loop:
        samples = loop.read(0, loop.n_samples)
        n_samples = length_s * loop.sample_rate
        whole = np.tile(samples, (2 // len(samples), -(-n_samples // samples.shape[1])))[:, :n_samples]
        return Recording.from_samples(whole, loop.sample_rate, f"{length_s} s")


def edited(played: list[Stroke], number: int, length_s: float, rng: np.random.Generator) -> list[Stroke]:
    """Return strokes with one of them moved, deleted, struck otherwise or added."""
    k, out = int(rng.integers(len(played))), list(played)
    velocity, onset_s = float(rng.uniform(0.1, 1)), float(rng.uniform(0, length_s - 0.1))
    match rng.integers(4):
        case 0:
            out[k] = replace(out[k], onset_s=min(onset_s, out[k].onset_s + 0.1))
        case 1:
            out.pop(k)
        case 2:
            out[k] = replace(out[k], velocity=velocity)
        case _:
            out.append(Stroke(f"n{number}", str(rng.choice(CLASSES)), onset_s, velocity))
    return out


def main() -> None:
    """Print how long opening, cutting the kit, and edits take."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=200)
    given = parser.parse_args()
    redrummer = Redrummer.load()
    for length_s in _LENGTHS_S:
        source, rng = recording(length_s), np.random.default_rng(0)
        moments = [time.perf_counter()]
        editor = RecordingEditor.open(source, redrummer)
        moments.append(time.perf_counter())
        editor.prepare()
        moments.append(time.perf_counter())
        played = list(editor.detected)
        last = editor.edited(Strokes(editor.detected, editor.detected))
        took_ms = []
        for number in range(given.edits):
            played = edited(played, number, length_s, rng)
            began_s = time.perf_counter()
            new = editor.edited(Strokes(editor.detected, tuple(played)))
            for start, stop in new.changed_from(last):
                new.read(start, stop)
            took_ms.append(1000 * (time.perf_counter() - began_s))
            last = new
        opened_s, cut_s = np.diff(moments)
        middle, most, worst = np.percentile(took_ms, [50, 95, 100])
        print(f"{length_s:3} s: opened in {opened_s:.1f} s, kit cut in {cut_s:.1f} s")
        print(f"      edits {middle:.0f} ms (median), {most:.0f} (95th percentile), {worst:.0f} (most)")


if __name__ == "__main__":
    main()
