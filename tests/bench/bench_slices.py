"""Measure a track in many slices against one render of its length: `python -m tests.bench.bench_slices`.

A made project has one track in slices of a beat, out of shipped loops. Beside it, the same sound is one item of
one file. Both are redrummed with the shipped models, in turns in one process, so that other work on the machine
slows both. The takes must be the same, sample by sample: the rhythm knows of no border.
"""

import argparse
import random
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import soundfile
import torch

from daw_bridge.items import open_item
from daw_bridge.pairs import performances
from daw_bridge.takes import Order, redrum_session
from tests.daw_bridge.conftest import RppWorld, audio, track
from transform.audio import Recording
from transform.engine import Redrummer
from transform.library import demo_recordings, find_rhythm
from transform.midi import read_midi
from transform.settings import RenderSettings

BEAT_S = 0.5
RHYTHM = "hip-hop-bounce-140"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        sliced, whole = projects(Path(folder), given.slices)
        redrummer = Redrummer.load()
        order = Order(settings=RenderSettings(length="source"), rhythm=read_midi(find_rhythm(RHYTHM).path))
        took_s = {"slices": [], "one item": []}  # of the clock, and of the processor
        takes = {}
        for number in range(given.rounds + 1):  # the first loads and warms up
            for name, world in (("slices", sliced), ("one item", whole)):
                began_s = np.array([time.perf_counter(), time.process_time()])
                (report,) = redrum_session(world.session(), redrummer, order)
                if number:
                    took_s[name].append(np.array([time.perf_counter(), time.process_time()]) - began_s)
                takes[name] = soundfile.read(report["output"], dtype="int32", always_2d=True)[0]
    print(f"{given.slices} slices, {given.slices * BEAT_S:g} s: one take of {len(takes['slices'])} samples")
    for place, what in enumerate(("clock", "processor")):
        seconds = {name: [took[place] for took in turns] for name, turns in took_s.items()}
        ratios = [one / other for one, other in zip(*seconds.values(), strict=True)]
        print(f"  by the {what}: {', '.join(f'{name} {median(took):.2f} s' for name, took in seconds.items())}")
        print(f"    slices take {median(ratios):.3f} times as long ({min(ratios):.3f} to {max(ratios):.3f})")
    print(f"  the takes are the same samples: {np.array_equal(*takes.values())}")


def projects(folder, n_slices):
    """Return the project in slices, and that of one item with the same sound."""
    loops = [recording.path for recording in demo_recordings()]
    chance = random.Random(0)
    slices = []
    for number in range(n_slices):
        with Recording.open(chance.choice(loops)) as loop:
            n_beats = int(loop.duration_s / BEAT_S)
            offset_s = chance.randrange(n_beats) * BEAT_S
            path = loop.path
        slices.append(audio(path, number * BEAT_S, BEAT_S, start_offset_s=offset_s))
    for name in ("sliced", "whole"):
        (folder / name).mkdir()
    sliced = RppWorld(folder / "sliced", [track("drums", *slices)])
    job = sliced.session().collect()
    (source,) = performances(job.items, job.tempo_map)
    with open_item(source) as recording:
        bounced = folder / "bounced.wav"
        sound = recording.read(0, recording.n_samples).T
        soundfile.write(bounced, sound, recording.sample_rate, subtype=recording.format.subtype)
    return sliced, RppWorld(folder / "whole", [track("drums", audio(bounced, 0.0, n_slices * BEAT_S))])


if __name__ == "__main__":
    main()
