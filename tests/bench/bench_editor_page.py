"""Measure how smoothly the editor's page goes: `python -m tests.bench.bench_editor_page [--strokes 5000]`.

A recording of ten minutes is opened in Chromium, headless and without a graphics card; its strokes are given,
so that no model runs. While the page scrolls, zooms, or velocities are painted, a step for each frame, the time
from frame to frame is taken. Printed are the median and the 95th percentile in milliseconds, in which a busy
machine shows, and the CPU time of the page's main thread for each frame, in which it hardly does.
"""

import argparse
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import soundfile

from daw_bridge.editor.editing import EditingSession
from daw_bridge.editor.exports import Exports
from daw_bridge.editor.serving import PageServer, listen_at
from daw_bridge.editor.source import Source
from tests.daw_bridge.editor.chromium import start_chromium
from transform.strokes import Stroke

RATE, LENGTH_S = 44_100, 600
CLASSES = ("KD", "SD", "TT", "HH", "CY")

# Each does one step of a gesture; `n` counts the frames.
GESTURES = {
    "scroll": "time.dispatchEvent(new WheelEvent('wheel',"
    " {deltaY: n % 200 < 100 ? 40 : -40, cancelable: true}))",
    "zoom": "time.dispatchEvent(new WheelEvent('wheel', {deltaY: n % 60 < 30 ? -40 : 40, ctrlKey: true,"
    " clientX: 700, cancelable: true}))",
    "paint": "lane.dispatchEvent(new PointerEvent(n ? 'pointermove' : 'pointerdown', {pointerId: 1, button: 0,"
    " clientX: left + (n * 7) % width, clientY: top + 10 + n % 40, bubbles: true}))",
}
FRAMES = """
const [gesture, nFrames, done] = arguments;
const [time, lane] = [document.getElementById("time"), document.getElementById("velocity")];
lane.setPointerCapture = () => {};
const {left, top, width} = lane.getBoundingClientRect();
const step = new Function("n", "time", "lane", "left", "top", "width", gesture);
const times = [];
let [n, last] = [0, performance.now()];
requestAnimationFrame(function frame(now) {
  if (n) times.push(now - last);
  last = now;
  if (n === nFrames) {
    lane.dispatchEvent(new PointerEvent("pointercancel", {pointerId: 1, bubbles: true}));
    return done(times);
  }
  step(n++, time, lane, left, top, width);
  requestAnimationFrame(frame);
});
"""


class Given:
    """An editor, and what it makes of a recording: the recording itself."""

    notes = ()

    def __init__(self, recording, strokes):
        self.recording, self.detected = recording, strokes
        self.n_samples, self.n_channels = recording.n_samples, recording.n_channels
        self.sample_rate, self.read = recording.sample_rate, recording.read

    def with_settings(self, settings):
        return self

    def edited(self, strokes):
        return self

    def changed_from(self, other):
        return ()

    def prepare(self, detected, progress):
        pass


class Engine:
    """Finds strokes that are given."""

    def __init__(self, n_strokes):
        self._n = n_strokes

    def open(self, recording, progress):
        step_s = (LENGTH_S - 1) / self._n
        return Given(recording, tuple(Stroke(f"d{i}", CLASSES[i % 5], i * step_s, 0.7) for i in range(self._n)))

    def doubts(self, recording):
        return ()


def main_thread_s(driver):
    """Return the CPU time of the page's main thread so far."""
    driver.execute_cdp_cmd("Performance.enable", {})
    metrics = driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
    return next(metric["value"] for metric in metrics if metric["name"] == "ThreadTime")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--strokes", type=int, default=5000)
    parser.add_argument("--frames", type=int, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.wav"
        noise = np.random.default_rng(1).normal(0, 0.05, RATE * LENGTH_S).astype(np.float32)
        soundfile.write(path, noise, RATE, subtype="PCM_16")
        session = EditingSession(Source(path), Engine(given.strokes), Path(folder) / "edits")
        session.start().result()
        server = PageServer(session, Exports(session, Path(folder) / "out"), listen_at(0))
        is_up = threading.Event()
        threading.Thread(target=server.run, args=(is_up.set, lambda: None), daemon=True).start()
        is_up.wait()
        driver = start_chromium()
        driver.set_script_timeout(300)
        try:
            driver.get(server.url)
            while not driver.execute_script("return document.body.dataset.audioVersion"):
                time.sleep(0.2)
            for n_zooms in (0, 8):  # everything in view; and about a minute
                for _ in range(n_zooms):
                    driver.execute_script("document.querySelector('[data-testid=zoom-in]').click()")
                time.sleep(1.0)
                for name, gesture in GESTURES.items():
                    before_s = main_thread_s(driver)
                    times = driver.execute_async_script(FRAMES, gesture, given.frames)
                    cpu_ms = 1000 * (main_thread_s(driver) - before_s) / given.frames
                    median, high = np.percentile(times, (50, 95))
                    where = "all in view" if not n_zooms else "zoomed in"
                    figures = f"median {median:.1f} ms, 95 % under {high:.1f} ms, CPU {cpu_ms:.1f} ms"
                    print(f"{name}, {where}: {figures}", flush=True)
        finally:
            driver.quit()
            server.end()
            session.close()


if __name__ == "__main__":
    main()
