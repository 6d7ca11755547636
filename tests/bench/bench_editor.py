"""Measure what a user of the editor waits for: `python -m tests.bench.bench_editor [RECORDING...]`.

`redrum edit` runs in a process of its own, models and all; what a page does is done over its port. Timed are
the start, from the command to the first version that can be played, and random edits, each from the request to
the changed samples of all channels. Then all edits are undone, and the bytes compared with the recording's.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np

from transform.library import demo_recordings

ROOT = Path(__file__).resolve().parents[2]
MOST_SAMPLES = 2**22  # of one answer


class Page:
    """The editor of a recording, and what a page knows of it."""

    def __init__(self, path, folder):
        self._began_s = time.perf_counter()
        command = [sys.executable, "-m", "daw_bridge", "edit", str(path), "--no-browser", "--json"]
        environment = {**os.environ, "REDRUM_DATA": str(folder / "data"), "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=folder, env=environment
        )
        base, _, token = json.loads(self._process.stdout.readline())["url"].partition("/#token=")
        self.answers_s = time.perf_counter() - self._began_s
        self._http = httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=600)

    @contextmanager
    def notices(self):
        with self._http.stream("GET", "/api/events") as answer:
            yield map(json.loads, answer.iter_lines())

    def wait_until_playable(self, notices):
        for notice in notices:
            if notice["event"] == "rendered" or notice.get("rendered") is not None:
                break
        self.playable_s = time.perf_counter() - self._began_s
        session = self._http.get("/api/session").json()
        self.version, self.source = session["version"], session["source"]
        self.ids = [event["id"] for event in session["events"]]

    def step(self, path, **body):
        answer = (
            self._http.post(f"/api/{path}", json={"version": self.version, **body}).raise_for_status().json()
        )
        has_changed, self.version = answer["version"] != self.version, answer["version"]
        return has_changed

    def samples(self, which, start=0, stop=None):
        stop = min(self.source["n_samples"], start + MOST_SAMPLES) if stop is None else stop
        region = {"which": which, "version": self.version, "start": start, "stop": stop}
        return self._http.get("/api/audio", params=region).raise_for_status().content

    def end(self):
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()
        self._http.close()


def random_edit(chance, page, number):
    """Return an edit: of five, three move a stroke, one draws one, one changes how strong one is."""
    onset_s, kind = chance.uniform(0, page.source["duration_s"] - 0.01), chance.randrange(5)
    if kind == 0 or not page.ids:
        return {"op": "add", "id": f"n{number}", "class": chance.choice(["KD", "SD", "HH"]), "onset_s": onset_s}
    if kind == 1:
        return {"op": "set", "id": chance.choice(page.ids), "velocity": chance.uniform(0.1, 1)}
    return {"op": "move", "id": chance.choice(page.ids), "onset_s": onset_s}


def edit_times_s(page, notices, n_edits):
    """Yield how long each of random edits takes until its samples are there."""
    chance = random.Random(1)
    for number in range(n_edits):
        began_s = time.perf_counter()
        if not page.step("edits", edits=[random_edit(chance, page, number)]):
            continue
        rendered = next(n for n in notices if n["event"] == "rendered" and n["version"] == page.version)
        for start, stop in rendered["changed"]:
            page.samples("take", start, stop)
        yield time.perf_counter() - began_s


def measure(path, n_edits):
    with tempfile.TemporaryDirectory() as folder:
        page = Page(path, Path(folder))
        with page.notices() as notices:
            page.wait_until_playable(notices)
            is_same = page.samples("take") == page.samples("source")
            times_ms = [1000 * seconds for seconds in edit_times_s(page, notices, n_edits)]
            while page.step("undo"):
                pass
            is_same_again = page.samples("take") == page.samples("source")
        page.end()
    print(f"{path.name}, {page.source['duration_s']:.1f} s, {page.source['channels']} channels")
    print(f"  a page is answered after {page.answers_s:.2f} s, plays after {page.playable_s:.2f} s")
    spread = ", ".join(f"{np.percentile(times_ms, p):.0f} ms at {p} %" for p in (50, 95, 100))
    print(f"  {len(times_ms)} edits until their samples are there: {spread}")
    print(f"  without an edit the same bytes: {is_same}; with all undone: {is_same_again}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recordings", nargs="*", type=Path)
    parser.add_argument("--edits", type=int, default=200)
    given = parser.parse_args()
    for path in given.recordings or [loop.path for loop in demo_recordings()][:1]:
        measure(path.absolute(), given.edits)


if __name__ == "__main__":
    main()
