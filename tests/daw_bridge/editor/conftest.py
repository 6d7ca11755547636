"""An editor without models: strokes are clicks, so that what an edit must sound like is known."""

import json
import threading
import time
from copy import copy
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
import soundfile

from daw_bridge.editor.document import Document, Grid
from daw_bridge.editor.editing import EditingSession
from daw_bridge.editor.exports import Exports
from daw_bridge.editor.opening import Opening, Watcher, edit_dropped
from daw_bridge.editor.serving import PageServer, listen_at
from daw_bridge.editor.source import Source
from transform.audio import write_audio
from transform.bank import Bank
from transform.errors import AudioError, RedrumError
from transform.events import CLASSES, DrumEvent, Rhythm, TempoMap
from transform.settings import RenderSettings
from transform.signal import blocks_of
from transform.strokes import Stroke

RATE = 8000
LENGTH_S = 4.0
CLICK = (0.25 * np.exp(-np.arange(400) / 80)).astype(np.float32)  # 50 ms
FOUND = (
    Stroke("d0", "KD", 0.0, 0.8),
    Stroke("d1", "HH", 0.5, 0.4, "closed"),
    Stroke("d2", "SD", 1.0, 0.9),
    Stroke("d3", "KD", 2.0, 0.7),
    Stroke("d4", "SD", 3.0, 0.85),
)


def clicks(strokes, n_samples, n_channels=1):
    out = np.zeros((n_channels, n_samples + len(CLICK)), dtype=np.float32)
    for stroke in strokes:
        at = round(stroke.onset_s * RATE)
        out[:, at : at + len(CLICK)] += np.float32(stroke.velocity) * CLICK
    return out[:, :n_samples]


class FakeEdited:
    """The source with what is taken out and put in; `n_read` counts the samples that were read."""

    def __init__(self, editor, base, taken, put, n_samples):
        self.editor, self._base, self.taken, self.put = editor, base, taken, put
        self.settings = editor.settings
        self.n_samples, self.sample_rate, self.n_channels = n_samples, RATE, editor.n_channels
        self.notes = ("a note",) if put else ()

    def read(self, start, stop):
        self.editor.n_read += stop - start
        if self.editor.slow_s:
            time.sleep(self.editor.slow_s)
        out = np.zeros((self.n_channels, self.n_samples), dtype=np.float32)
        if self._base is not None:
            out += self._base
        out -= clicks(self.taken, self.n_samples, self.n_channels)
        out += np.float32(self.settings.balance) * clicks(self.put, self.n_samples, self.n_channels)
        padded = np.pad(out, ((0, 0), (0, max(0, stop - self.n_samples))))
        return padded[:, start:stop]

    def prepare(self, report):
        for number in range(4):
            report("render", number / 4)
            self.editor.prepared.append((self.put, number))

    def read_outputs(self, start, stop):
        return np.stack([self._of_class(c).read(start, stop) for c in CLASSES])

    def stored(self, subtype):
        return SimpleNamespace(sound=self, gain_db=0.0, fmt=self.format, notes=self.notes)

    @property
    def format(self):
        return self.editor.recording.format

    def _of_class(self, drum_class):
        """Return what the strokes of a class are in it."""
        taken, put, there = (
            tuple(s for s in strokes if s.drum_class == drum_class)
            for strokes in (self.taken, self.put, self.editor.detected)
        )
        base = None if self._base is None else clicks(there, self.n_samples, self.n_channels)
        return FakeEdited(self.editor, base, taken, put, self.n_samples)

    def changed_from(self, other):
        if self.settings != other.settings:
            return ((0, self.n_samples),)
        ours, theirs = ({*s.taken, *s.put} for s in (self, other))
        starts = sorted(round(stroke.onset_s * RATE) for stroke in ours ^ theirs)
        return tuple((start, min(start + len(CLICK), self.n_samples)) for start in starts)

    def write(self, path, *, progress):
        progress("render", 0.5)
        write_audio(path, blocks_of(self, 10_000), self.editor.recording.format)
        return SimpleNamespace(notes=self.notes)

    def hit(self, stroke_id):
        if all(stroke.id != stroke_id for stroke in self.put + self.editor.detected):
            raise AudioError(f"there is no stroke {stroke_id}", hint="choose another")
        return np.repeat(CLICK[None], self.n_channels, axis=0)


class FakeEditor:
    n_pieces = 1  # of what is prepared

    def __init__(self, recording, found=FOUND, slow_s=0.0):
        self.recording, self.detected, self.slow_s = recording, found, slow_s
        self.n_channels, self.n_read, self.rendered = recording.n_channels, 0, []
        self.settings, self.prepared = RenderSettings(), []

    def with_settings(self, settings):
        """Return one whose balance is the level of what is put in."""
        if settings == self.settings:
            return self
        other = copy(self)
        other.settings = settings
        return other

    def edited(self, strokes):
        detected, played = ({*layer} for layer in strokes)
        taken = tuple(s for s in strokes.detected if s not in played)
        put = tuple(s for s in strokes.played if s not in detected)
        self.rendered.append(strokes)
        base = self.recording.read(0, self.recording.n_samples)
        return FakeEdited(self, base, taken, put, self.recording.n_samples)

    def replayed(self, strokes, length_s, detected):
        return FakeEdited(self, None, (), tuple(strokes), round((length_s or LENGTH_S) * RATE))

    def prepare(self, detected, progress):
        if any("noise" in name for name in self.settings.kit_from):
            raise AudioError("no drum hits are detected in it", hint="give another one")
        for number in range(self.n_pieces):
            progress("cut kit", number / self.n_pieces)
            time.sleep(0.05)


class FakeEngine:
    """Finds FOUND; more sensitive, a ghost note as well; in any recording of a rhythm, one bar of it."""

    def __init__(self, found=FOUND, error=None, slow_s=0.0):
        self.found, self.error, self.slow_s = found, error, slow_s
        self.editor = None

    def open(self, recording, progress):
        progress("transcribe", 0.5)
        if self.error is not None:
            raise self.error
        self.editor = FakeEditor(recording, self.found, self.slow_s)
        return self.editor

    def doubts(self, recording):
        return ("hardly drums",) if "doubtful" in recording.name else ()

    def detect(self, recording, sensitivity, progress):
        ghost = Stroke("d0", "SD", 1.5, 0.2)
        return tuple(sorted((*self.found, ghost), key=lambda s: s.onset_s)) if sensitivity else self.found

    def rhythm_of(self, path, name):
        events = (DrumEvent(0.0, "KD", 1.0), DrumEvent(0.5, "SD", 0.5))
        return Rhythm(events, 2.0, TempoMap.constant(120), name)

    def bank_of(self, recording, strokes):
        return Bank.of_recording(recording, [stroke.event() for stroke in strokes])


@pytest.fixture
def document():
    return Document.of_detection(FOUND, LENGTH_S, Grid())


@pytest.fixture
def loop(tmp_path):
    """Return a function that writes the recording in which FOUND is, and its path."""

    def write(name="loop.wav", n_channels=1, subtype="PCM_16", found=FOUND):
        path = tmp_path / name
        samples = clicks(found, round(LENGTH_S * RATE), n_channels)
        soundfile.write(path, samples.T, RATE, subtype=subtype)
        return path

    return write


@pytest.fixture
def open_session(tmp_path):
    """Return a function that opens a session of a recording, and waits until it is ready; the journal stays."""
    opened = []

    def open_one(path, engine=None, rhythm=None, grid=None):
        journals = tmp_path / "data" / "edits"
        source = path if isinstance(path, Source) else Source(path)
        session = EditingSession(source, engine or FakeEngine(), journals, rhythm, grid)
        opened.append(session)
        session.start().result(10)
        return session

    yield open_one
    for session in opened:
        session.close()


class Client:
    """A page: requests with the token, steps on the newest version."""

    def __init__(self, served):
        self.base, _, token = served.url.partition("/#token=")
        self.port = int(self.base.rpartition(":")[2])
        self.token, self.error = token, None
        self.http = httpx.Client(base_url=self.base, headers={"Authorization": f"Bearer {token}"}, timeout=20)

    def get(self, path, /, **query):
        return self.http.get(f"/api/{path}", params=query)

    def post(self, path, /, **body):
        return self.http.post(f"/api/{path}", json=body)

    def session(self):
        return self.get("session").json()

    def edit(self, *edits, version=None):
        version = self.session()["version"] if version is None else version
        return self.post("edits", version=version, edits=list(edits))

    def samples(self, **query):
        return self.samples_of(self.get("audio", **query))

    def samples_of(self, answer):
        assert answer.status_code == 200, answer.text
        return np.frombuffer(answer.content, "<f4").reshape(int(answer.headers["redrum-channels"]), -1)

    def listen(self):
        """Return an iterator over the notices; the first says where the session stands."""
        stream = self.http.stream("GET", "/api/events")
        answer = stream.__enter__()
        return stream, map(json.loads, answer.iter_lines())


@pytest.fixture
def serve(tmp_path, open_session):
    """Return a function that serves a recording, and its client."""
    running = []

    def serve_one(path, engine=None, rhythm=None, idle_s=600.0, desk=None):
        session = open_session(path, engine, rhythm, desk and desk.grid)
        server = PageServer(session, Exports(session, tmp_path / "out", desk), listen_at(0))
        client, is_up, is_used = Client(server), threading.Event(), threading.Event()

        def run():
            try:
                server.run(is_up.set, is_used.set, idle_s)
            except RedrumError as err:
                client.error = err

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert is_up.wait(10)
        client.session_object, client.thread, client.server, client.is_used = session, thread, server, is_used
        running.append(client)
        return client

    yield serve_one
    for client in running:
        client.http.close()
        client.server.end()
        client.thread.join(10)
        assert not client.thread.is_alive()


@pytest.fixture
def entrance(tmp_path, monkeypatch, loop):
    """Open the page without a recording, and return a client of it."""
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    monkeypatch.setattr("daw_bridge.editor.opening.PresetEngine", lambda load: FakeEngine())
    is_up, is_over, urls = threading.Event(), threading.Event(), []

    def serving(session, url):
        urls.append(url)
        is_up.set()

    opening = Opening(load=lambda: None, folder=tmp_path / "out", has_browser=False)
    watcher = Watcher(serving, lambda url: None, is_over.is_set)
    thread = threading.Thread(
        target=lambda: edit_dropped(lambda: loop("demo.wav"), opening, watcher), daemon=True
    )
    thread.start()
    assert is_up.wait(10)
    base, _, token = urls[0].partition("/#token=")
    client = httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=20)
    client.url = urls[0]
    yield client
    client.close()
    is_over.set()
    thread.join(10)
    assert not thread.is_alive()
