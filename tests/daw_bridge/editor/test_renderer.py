import threading
from concurrent.futures import CancelledError
from dataclasses import replace

import numpy as np
import pytest

from daw_bridge.editor.document import Document, Grid
from daw_bridge.editor.edits import command_of
from daw_bridge.editor.renderer import Outdated, Renderer
from daw_bridge.editor.sound import BLOCK_SAMPLES, coarse_peaks, columns
from daw_bridge.editor.worker import Priority, Worker
from tests.daw_bridge.editor.conftest import CLICK, FOUND, RATE, FakeEditor, clicks
from transform.audio import Recording
from transform.errors import RhythmError

LENGTH_S = 60.0
N_SAMPLES = round(LENGTH_S * RATE)


class Scene:
    def __init__(self, n_channels=1, slow_s=0.0):
        self.worker = Worker()
        recording = Recording.from_samples(clicks(FOUND, N_SAMPLES, n_channels), RATE)
        self.editor = FakeEditor(recording, slow_s=slow_s)
        self.rendered, self.failed = [], []
        self.renderer = Renderer(
            self.worker, self.editor, self.rendered.append, lambda *about: self.failed.append(about)
        )
        self.documents = [Document.of_detection(FOUND, LENGTH_S, Grid())]

    def edit(self, *edits):
        self.documents.append(self.documents[-1].applied(command_of(self.documents[-1], edits)))

    def request(self, version=None):
        version = len(self.documents) - 1 if version is None else version
        self.renderer.request(version, self.documents[version])

    def settle(self):
        self.worker.submit(Priority.LONG, lambda: None).result(10)


@pytest.fixture
def scene():
    made = []

    def make(**more):
        made.append(Scene(**more))
        return made[-1]

    yield make
    for one in made:
        one.worker.close(10)


def test_only_touched_blocks_are_rendered_again_and_the_result_is_exact(scene):
    one = scene()
    one.request()
    one.settle()
    assert one.editor.n_read == N_SAMPLES
    one.edit({"op": "move", "id": "d2", "onset_s": 30.0})
    one.request()
    one.settle()
    touched = {round(s * RATE) // BLOCK_SAMPLES for s in (1.0, 30.0)}
    assert one.editor.n_read == N_SAMPLES + len(touched) * BLOCK_SAMPLES
    assert [(r.version, r.base) for r in one.rendered] == [(0, None), (1, 0)]
    assert one.rendered[0].changed == ((0, N_SAMPLES),)
    assert one.rendered[1].changed == tuple(
        (round(s * RATE), round(s * RATE) + len(CLICK)) for s in (1.0, 30.0)
    )
    expected = clicks(one.documents[1].played.values(), N_SAMPLES)
    assert np.abs(one.renderer.read(1, 0, N_SAMPLES).result(10) - expected).max() < 1e-6
    n_read = one.editor.n_read
    assert n_read == N_SAMPLES + len(touched) * BLOCK_SAMPLES


def test_how_far_a_long_recording_is_rendered_is_reported(scene):
    one, fractions = scene(), []

    def progress(stage, fraction):
        fractions.append(fraction)

    one.renderer = Renderer(one.worker, one.editor, one.rendered.append, one.failed.append, progress)
    one.request(0)
    one.settle()
    assert len(fractions) > 2
    assert fractions == sorted(set(fractions))
    assert 0 < fractions[0] < fractions[-1] < 1


def test_a_replay_that_takes_long_is_given_up_for_a_newer_one(scene):
    one = scene()
    one.edit({"op": "delete", "id": "d2"})
    first, second = (replace(document, mode="replay") for document in one.documents)
    one.documents = [first, second]
    fractions = []

    def progress(stage, fraction):
        fractions.append(fraction)
        if len(fractions) == 2:
            one.request(1)

    one.renderer = Renderer(one.worker, one.editor, one.rendered.append, one.failed.append, progress)
    one.request(0)
    one.settle()
    assert [rendered.version for rendered in one.rendered] == [1]
    assert [number for _, number in one.editor.prepared] == [0, 0, 1, 2, 3]  # of the first, a quarter
    assert fractions == [0, 0.25, 0, 0.25, 0.5, 0.75]
    played = one.renderer.read(1, 0, N_SAMPLES).result(10)
    assert np.abs(played - clicks(second.played.values(), N_SAMPLES)).max() < 1e-4


def test_the_newest_version_wins_and_what_pages_miss_of_older_ones_is_in_its_changes(scene):
    one = scene(slow_s=0.02)
    one.request()
    one.settle()
    for onset_s in range(5, 25):
        one.edit({"op": "add", "id": f"n{onset_s}", "class": "TT", "onset_s": onset_s})
        one.request()
    one.settle()
    assert one.rendered[-1].version == 20
    assert len(one.rendered) < 15
    # Wherever a page is, the chain of bases leads it to the newest version, and names all that changed.
    assert [r.base for r in one.rendered[1:]] == [r.version for r in one.rendered[:-1]]
    changed = {start for r in one.rendered[1:] for start, _ in r.changed}
    assert changed >= {onset_s * RATE for onset_s in range(5, 25)}
    expected = clicks(one.documents[-1].played.values(), N_SAMPLES)
    assert np.abs(one.renderer.read(20, 0, N_SAMPLES).result(10) - expected).max() < 1e-6


def test_an_older_version_is_refused_with_the_newest(scene):
    one = scene()
    one.request()
    one.edit({"op": "delete", "id": "d2"})
    one.request()
    with pytest.raises(Outdated) as refused:
        one.renderer.read(0, 0, 10).result(10)
    assert refused.value.version == 1


def test_samples_come_between_the_blocks_of_a_long_rendering(scene):
    one = scene(slow_s=0.05)
    one.request()
    samples = one.renderer.read(0, N_SAMPLES - 10, N_SAMPLES).result(10)
    assert samples.shape == (1, 10)
    assert not one.rendered


def test_a_version_that_cannot_be_rendered_is_reported_and_the_next_one_is(scene):
    one = scene()
    one.request()
    one.settle()
    edited = one.editor.edited

    def refuse(strokes):
        raise RhythmError("no drum of that kind", hint="take another")

    one.editor.edited = refuse
    one.edit({"op": "delete", "id": "d2"})
    one.request()
    one.settle()
    assert [(version, err.message) for version, err in one.failed] == [(1, "no drum of that kind")]
    one.editor.edited = edited
    one.edit({"op": "delete", "id": "d3"})
    one.request()
    one.settle()
    assert (one.rendered[-1].version, one.rendered[-1].base) == (2, 0)
    assert {start for start, _ in one.rendered[-1].changed} == {1 * RATE, 2 * RATE}


def test_a_fault_in_a_version_ends_neither_worker_nor_editor(scene, caplog):
    one = scene()
    one.editor.edited = lambda strokes: 1 / 0
    one.request()
    one.settle()
    assert "division by zero" in one.failed[0][1].message
    assert "Traceback" in caplog.text


def test_six_channels_are_monitored_in_stereo_and_exported_as_six(scene):
    one = scene(n_channels=6)
    one.request()
    assert one.renderer.read(0, 0, 100).result(10).shape == (2, 100)
    whole = one.worker.submit(Priority.LONG, lambda: one.renderer.whole(0)).result(10)
    assert np.array_equal(whole.read(0, N_SAMPLES), one.editor.recording.read(0, N_SAMPLES))


def test_mono_and_stereo_are_monitored_as_they_are_and_more_by_means():
    samples = np.arange(12, dtype=np.float32).reshape(6, 2)
    monitored = Recording.from_samples(samples, RATE).monitored
    assert np.array_equal(monitored(samples[:2]), samples[:2])
    assert np.array_equal(monitored(samples), [[4, 5], [6, 7]])
    assert np.array_equal(monitored(samples[:3]), [[2, 3], [2, 3]])


@pytest.mark.parametrize("n_columns", [1, 7, 100, 5000, 200_000])
def test_peaks_hold_the_loudest_and_the_lowest_sample_at_any_zoom(n_columns):
    samples = np.random.default_rng(0).normal(size=(2, 3 * BLOCK_SAMPLES + 1001)).astype(np.float32)
    start, stop = 777, samples.shape[1]

    def block(number):
        return coarse_peaks(samples[:, number * BLOCK_SAMPLES : (number + 1) * BLOCK_SAMPLES])

    low, high = columns(lambda a, b: samples[:, a:b], block, (start, stop), min(n_columns, stop - start))
    inside = samples[:, start:stop]
    n = min(n_columns, stop - start)
    edges = (stop - start) * np.arange(n + 1) // n
    for i in (0, n // 2, n - 1):
        region = inside[:, edges[i] : edges[i + 1]]
        wide = samples[:, max(0, start + edges[i] - 512) : start + edges[i + 1] + 512]
        assert wide.min() <= low[i] <= region.max()
        assert region.min() <= high[i] <= wide.max()
        if n >= 100:  # columns this narrow are exact
            assert (low[i], high[i]) == (region.min(), region.max())
    assert low.min() <= np.sort(inside.ravel())[1]


def test_tasks_are_done_by_priority_in_one_thread():
    worker, done, is_open = Worker(), [], threading.Event()
    worker.submit(Priority.SOUND, is_open.wait)
    futures = [
        worker.submit(priority, lambda name=name: done.append((name, threading.get_ident())))
        for name, priority in (("long", Priority.LONG), ("render", Priority.RENDER), ("sound", Priority.SOUND))
    ]
    is_open.set()
    for future in futures:
        future.result(10)
    assert [name for name, _ in done] == ["sound", "render", "long"]
    assert len({thread for _, thread in done}) == 1
    worker.close(10)


def test_a_closed_worker_ends_a_long_task_at_its_next_pause_and_cancels_the_others():
    worker, has_begun = Worker(), threading.Event()

    def endless():
        has_begun.set()
        while True:
            worker.pause(Priority.LONG)

    running, waiting = worker.submit(Priority.LONG, endless), worker.submit(Priority.LONG, lambda: None)
    assert has_begun.wait(10)
    worker.close(10)
    with pytest.raises(InterruptedError):
        running.result(1)
    for future in (waiting, worker.submit(Priority.SOUND, lambda: None)):
        with pytest.raises(CancelledError):
            future.result(1)
