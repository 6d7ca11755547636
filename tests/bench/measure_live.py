"""Measure how long Live waits for Redrum, in the stand-in: `python -m tests.bench.measure_live`.

A set of 100 clips on 10 tracks, 90 of audio with 64 warp markers each and 10 of MIDI with 2000 notes each, is
gathered, and 90 takes are written, three times. The stand-in ticks every 100 ms, as Live does. The best of the
three is printed: what else the machine does only makes it longer.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from daw_bridge.session import FinishedTake
from tests.daw_bridge.live_worlds import LiveWorld

ROUNDS = 3


def scene_of(file):
    markers = [(n / 16, n / 8) for n in range(64)]
    clip = {"name": "loop", "file_path": str(file), "warping": True, "warp_markers": markers, "looping": True}
    notes = [
        {"start_time": n / 64, "pitch": 36 + n % 12, "velocity": 99.5, "mute": False, "probability": 1.0}
        for n in range(2000)
    ]
    beat = {"name": "beat", "is_midi_clip": True, "notes": notes, "loop_end": 32.0, "end_marker": 32.0}
    pads = {str(note): f"Kick {note}" for note in range(36, 52)}
    tracks = []
    for n in range(10):
        items = [{**clip, "start_time": 4.0 * k, "end_time": 4.0 * k + 4} for k in range(9)]
        items.append({**beat, "start_time": 36.0, "end_time": 68.0})
        tracks.append({"name": f"{n}", "items": items, "is_selected": True, "devices": [{"pads": pads}]})
    return {"tracks": tracks, "loop": [0.0, 100.0], "tick_s": 0.1}


def main():
    folder = Path(tempfile.mkdtemp())
    file = folder / "loop.wav"
    soundfile.write(file, np.zeros(88_200), 44_100)
    told = []
    for n in range(ROUNDS):
        (folder / str(n)).mkdir()
        world = LiveWorld(folder / str(n), [], scene=scene_of(file))
        session = world.session()
        world.control("stall")
        began_s = time.perf_counter()
        job = session.collect()
        gather_s = time.perf_counter() - began_s
        gathering = world.control("stall")
        takes = [
            FinishedTake(source=item, file=file, name="take", length_s=2.0, n_channels=1)
            for item in job.items
            if item.kind == "audio"
        ]
        began_s = time.perf_counter()
        session.write_back(job, takes)
        told.append((gather_s, *gathering, time.perf_counter() - began_s, *world.control("stall")))
        assert len(job.items) == 100
        world.close()
    LiveWorld.clean()
    names = ("gather", "longest tick", "of the processor", "write 90 takes", "longest tick", "of the processor")
    for name, *seconds in zip(names, *told, strict=True):
        print(f"{name:<18} {1000 * min(seconds):7.1f} ms")


if __name__ == "__main__":
    main()
