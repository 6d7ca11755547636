"""The editor's server: what pages ask for, and what they get (docs/editor-api.md has the whole of it)."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Route

from daw_bridge.editor.answers import error_answer, json_answer, json_text, samples_answer
from daw_bridge.editor.comparison import SLOTS
from daw_bridge.editor.dropped import store_recording
from daw_bridge.editor.editing import EditingSession
from daw_bridge.editor.edits import MOST_EDITS
from daw_bridge.editor.exports import WHAT, Exists, Exports
from daw_bridge.editor.fields import Fields
from daw_bridge.editor.notices import MOST_LISTENERS
from daw_bridge.editor.own_files import PAGE, own_file
from daw_bridge.editor.placing import Placing
from daw_bridge.editor.renderer import Outdated
from daw_bridge.editor.requests import (
    LONGEST_SHOWN,
    TooLarge,
    body_of,
    grid_change,
    lanes_change,
    placing_of,
    query_of,
    sensitivity_of,
    store_body,
    version_of,
    which_of,
)
from daw_bridge.editor.sound import BLOCK_SAMPLES, MOST_COLUMNS
from daw_bridge.editor.steps import NotReady
from daw_bridge.editor.take_settings import sound_change
from daw_bridge.session import file_name
from transform.errors import RedrumError, RhythmError, SettingsError
from transform.events import ARTICULATIONS, CLASSES, Rhythm
from transform.library import find_rhythm, list_rhythms
from transform.presets import user_folder
from transform.terminal import printable

_MOST_SAMPLES = 2**22  # of one answer: 95 s at 44.1 kHz
_AUDITION_S = 10.0
_SEE = "docs/editor-api.md lists what is served"
_log = logging.getLogger(__name__)

Handler = Callable[[Request], Awaitable[Response]]


class EditorServer:
    """Serves one session to its pages."""

    def __init__(self, session: EditingSession, exports: Exports, page: Path = PAGE) -> None:
        """Prepare to serve a session, and the page in a folder."""
        self._session, self._exports, self._page = session, exports, page
        self.requested_at_s = time.monotonic()
        self.n_streams = 0
        get, post = partial(self._route, method="GET"), partial(self._route, method="POST")
        self.app = Starlette(
            routes=[
                get("/api/session", self._describe),
                get("/api/events", self._events),
                get("/api/audio", self._audio),
                get("/api/peaks", self._peaks),
                get("/api/hit", self._hit),
                get("/api/rhythms", self._rhythms),
                get("/api/audition", self._audition),
                get("/api/take.wav", self._take),
                post("/api/edits", self._edits),
                post("/api/undo", self._undo),
                post("/api/redo", self._redo),
                post("/api/settings", self._settings),
                post("/api/document", self._document),
                post("/api/import", self._import),
                post("/api/kit", self._kit),
                post("/api/compare", self._compare),
                post("/api/export", self._export),
                post("/api/send", self._send),
                Route("/{name:path}", self._own_file, methods=["GET"]),
            ],
            exception_handlers={HTTPException: _refuse, Exception: _fault},
        )

    @property
    def idle_s(self) -> float:
        """How long no page has requested anything, and none listens."""
        return 0.0 if self.n_streams else time.monotonic() - self.requested_at_s

    def _route(self, path: str, handler: Handler, method: str) -> Route:
        @wraps(handler)
        async def answer(request: Request) -> Response:
            self.requested_at_s = time.monotonic()
            try:
                return await handler(request)
            except Exception as err:
                return _answer_to(request, err)
            finally:
                self.requested_at_s = time.monotonic()

        return Route(path, answer, methods=[method])

    # What pages read.

    async def _describe(self, request: Request) -> Response:
        facts = await run_in_threadpool(self._session.describe)
        about = {
            "schema": 1,
            "folder": str(self._exports.folder),
            "host": self._exports.desk.host if self._exports.desk else None,
            "classes": list(CLASSES),
            "articulations": {c: list(names) for c, names in ARTICULATIONS.items()},
            "block_samples": BLOCK_SAMPLES,
        }
        return json_answer(about | facts)

    async def _events(self, request: Request) -> Response:
        if self.n_streams >= MOST_LISTENERS:
            return error_answer(429, "too many pages are open", "close one")
        return StreamingResponse(self._lines(), media_type="application/x-ndjson")

    async def _lines(self) -> AsyncIterator[bytes]:
        """Yield where the session stands, and then what happens."""
        notices = self._session.notices
        self.n_streams += 1
        try:
            queue = notices.listen()
            yield json_text({"event": "state", **self._session.standing()})
            async for notice in notices.received(queue):
                yield json_text(notice)
        finally:
            self.n_streams -= 1
            self.requested_at_s = time.monotonic()

    async def _audio(self, request: Request) -> Response:
        query = query_of(request)
        which, version = which_of(query, ("source", "take", *SLOTS))
        n_samples, rate = await self._extent(which, version)
        start = query.whole("start", 0, n_samples, 0)
        stop = query.whole("stop", start, n_samples, n_samples)
        query.end()
        if stop - start > _MOST_SAMPLES:
            raise SettingsError(
                f"{stop - start:,} samples are too many", hint=f"ask for {_MOST_SAMPLES:,} at most"
            )
        self._session.source.check()
        if which == "source":
            samples = await run_in_threadpool(self._session.source.monitored, start, stop)
        elif which in SLOTS:
            name = self._session.comparison.of(which).name
            samples = await asyncio.wrap_future(self._session.renderer.listen(name, start, stop))
        else:
            samples = await asyncio.wrap_future(self._session.renderer.read(version, start, stop))
        return samples_answer(samples, sample_rate=rate, start=start, version=version)

    async def _peaks(self, request: Request) -> Response:
        query = query_of(request)
        which, version = which_of(query)
        n_samples, rate = await self._extent(which, version)
        start = query.whole("start", 0, n_samples - 1, 0)
        stop = query.whole("stop", start + 1, n_samples, n_samples)
        n_columns = min(query.whole("columns", 1, MOST_COLUMNS, 1000), stop - start)
        query.end()
        self._session.source.check()
        if which == "source":
            peaks = await run_in_threadpool(self._session.source.peaks, start, stop, n_columns)
        else:
            peaks = await asyncio.wrap_future(self._session.renderer.peaks(version, (start, stop), n_columns))
        return samples_answer(peaks, sample_rate=rate, start=start, stop=stop, version=version)

    async def _hit(self, request: Request) -> Response:
        query = query_of(request)
        version, stroke_id = self._version_of(query), query.id("id")
        query.end()
        self._session.steps.document(version)
        self._session.source.check()
        samples = await asyncio.wrap_future(self._session.renderer.hit(version, stroke_id))
        return samples_answer(samples, sample_rate=self._session.source.sample_rate, version=version)

    async def _rhythms(self, request: Request) -> Response:
        rhythms = await run_in_threadpool(list_rhythms)
        names = ("name", "style", "bpm", "beats", "beats_per_bar", "licence", "author")
        return json_answer({"rhythms": [{name: getattr(rhythm, name) for name in names} for rhythm in rhythms]})

    async def _audition(self, request: Request) -> Response:
        """Answer with the beginning of a rhythm of the library as the recording's drums play it."""
        query = query_of(request)
        rhythm = find_rhythm(query.text("name", 200))
        query.end()
        read = partial(_read_midi, rhythm.path, rhythm.name)
        samples = await run_in_threadpool(self._session.audition, read, _AUDITION_S)
        return samples_answer(samples, sample_rate=self._session.source.sample_rate)

    async def _take(self, request: Request) -> Response:
        query = query_of(request)
        version = version_of(query)
        query.end()
        self._session.steps.document(version)
        folder, path = await run_in_threadpool(self._exports.take, version)
        return FileResponse(path, media_type="audio/wav", background=BackgroundTask(folder.cleanup))

    async def _extent(self, which: str, version: int) -> tuple[int, int]:
        """Return how long a sound is, in samples, and its rate; of the take the version must be the newest."""
        source = self._session.source
        if which == "source":
            return source.n_samples, source.sample_rate
        if which in SLOTS:
            compared = self._session.comparison.of(which)
            if compared.version != version:
                raise Outdated(self._session.steps.newest_version())
            return compared.n_samples, source.sample_rate
        document = self._session.steps.document(version)
        if document.mode == "edit":
            return source.n_samples, source.sample_rate
        return await asyncio.wrap_future(self._session.renderer.length(version)), source.sample_rate

    # Steps.

    async def _edits(self, request: Request) -> Response:
        fields = await body_of(request)
        version, edits = version_of(fields), fields.list("edits", MOST_EDITS)
        fields.end()
        return json_answer(await run_in_threadpool(self._session.edit, version, edits))

    async def _undo(self, request: Request) -> Response:
        fields = await body_of(request)
        version = version_of(fields)
        fields.end()
        return json_answer(await run_in_threadpool(self._session.steps.turn, version, "undo"))

    async def _redo(self, request: Request) -> Response:
        fields = await body_of(request)
        version = version_of(fields)
        fields.end()
        return json_answer(await run_in_threadpool(self._session.steps.turn, version, "redo"))

    async def _settings(self, request: Request) -> Response:
        fields = await body_of(request)
        version = version_of(fields)
        mode = fields.choice("mode", ("edit", "replay")) if "mode" in fields else None
        sensitivity, changes = sensitivity_of(fields), (lanes_change(fields), sound_change(fields))
        fields.end()
        change = partial(self._session.change_settings, version, mode, sensitivity, changes)
        return json_answer(await run_in_threadpool(change))

    async def _document(self, request: Request) -> Response:
        fields = await body_of(request)
        version = version_of(fields)
        if "rhythm" in fields:
            rhythm, placing = find_rhythm(fields.text("rhythm", 200)), placing_of(fields)
            fields.end()
            return await self._play(version, partial(_read_midi, rhythm.path, rhythm.name), placing)
        change = grid_change(fields)
        fields.end()
        return json_answer(await run_in_threadpool(self._session.steps.change, version, change))

    async def _import(self, request: Request) -> Response:
        query = query_of(request)
        version = version_of(query)
        name, placing = printable(query.text("name", 200, "")), placing_of(query)
        query.end()
        with _temporary_folder() as folder:
            path = folder / file_name(name)
            await store_body(request, path)
            read = partial(self._rhythm_in, path, Path(name).stem[:LONGEST_SHOWN] or "rhythm")
            return await self._play(version, read, placing)

    async def _play(self, version: int, read: Callable[[], Rhythm], placing: Placing) -> Response:
        return json_answer(await run_in_threadpool(self._session.play_rhythm, version, read, placing))

    async def _kit(self, request: Request) -> Response:
        """Take a recording whose hits join the kit; its bytes are the body."""
        query = query_of(request)
        version, name = version_of(query), printable(query.text("name", 200))
        query.end()
        self._session.steps.document(version)
        path = await store_recording(request, name, user_folder() / "kits")
        sound = await run_in_threadpool(self._session.sound_with, version, path)
        if await request.is_disconnected():
            raise ClientDisconnect  # it was cancelled
        take = partial(self._session.steps.change, version, lambda draft: draft.fields.update(sound=sound))
        return json_answer(await run_in_threadpool(take))

    async def _compare(self, request: Request) -> Response:
        """Store the newest version in a slot, empty it, or go on from what is in it, which is a step."""
        fields = await body_of(request)
        version, slot = version_of(fields), fields.choice("slot", SLOTS)
        what = fields.choice("do", ("store", "clear", "restore"))
        fields.end()
        session = self._session
        task = {
            "store": lambda: session.compare(slot, version),
            "clear": lambda: session.compare_no_more(slot),
            "restore": lambda: session.steps.change(version, session.comparison.restoring(slot)),
        }[what]
        return json_answer(await run_in_threadpool(task))

    def _rhythm_in(self, path: Path, name: str) -> Rhythm:
        """Return the rhythm in a file that was dropped: MIDI, or a recording to transcribe."""
        with path.open("rb") as file:
            is_midi = file.read(4) == b"MThd" or path.suffix.lower() in (".mid", ".midi")
        if is_midi:
            return _read_midi(path, name)
        self._session.report("transcribe rhythm", 0.0)
        return self._session.engine.rhythm_of(path, name)

    async def _export(self, request: Request) -> Response:
        fields = await body_of(request)
        version, what = self._version_of(fields), fields.choice("what", WHAT)
        name, overwrite = fields.text("path", 1000), fields.flag("overwrite", False)
        fields.end()
        report = await run_in_threadpool(partial(self._exports.write, version, what, name, overwrite=overwrite))
        return json_answer({"what": what, "version": version, **report})

    async def _send(self, request: Request) -> Response:
        fields = await body_of(request)
        version = self._version_of(fields)
        fields.end()
        report = await run_in_threadpool(self._exports.send, version)
        return json_answer({"version": version, **report})

    def _version_of(self, fields: Fields) -> int:
        """Return which version a request is about that changes nothing: the newest where it does not say."""
        return version_of(fields) if "version" in fields else self._session.steps.newest_version()

    # The page's own files.

    async def _own_file(self, request: Request) -> Response:
        return own_file(request.path_params["name"], self._page)


async def _refuse(request: Request, err: Exception) -> Response:
    """Answer a request that no route takes: of another method than its path has, or of no path."""
    assert isinstance(err, HTTPException)
    path = request.url.path
    if all(route.path != path for route in request.app.routes):
        return error_answer(404, f"there is no {path[:LONGEST_SHOWN]}", _SEE)
    answer = error_answer(err.status_code, f"{request.method[:LONGEST_SHOWN]} is not taken here", _SEE)
    answer.headers.update(err.headers or {})
    return answer


def _fault(request: Request, err: Exception) -> Response:
    """Return the answer to a request that a fault of ours kept from being answered."""
    _log.error("%s %s failed", request.method, request.url.path, exc_info=err)
    return error_answer(500, f"this failed: {err!r}", "load the page again; what was stored is safe")


def _answer_to(request: Request, err: Exception) -> Response:
    """Return the answer to a request that failed."""
    if isinstance(err, Outdated):
        return error_answer(409, "another page has edited this", "load it anew", version=err.version)
    if isinstance(err, NotReady | CancelledError | InterruptedError):
        return error_answer(503, "the recording is not open", "wait until it is")
    if isinstance(err, TooLarge):
        return error_answer(413, "this is too much at once", "send less")
    if isinstance(err, ClientDisconnect):
        return error_answer(400, "the request was broken off")
    if not isinstance(err, RedrumError):
        return _fault(request, err)
    status = 409 if isinstance(err, Exists) else 400 if isinstance(err, RhythmError | SettingsError) else 422
    return error_answer(status, err.message, err.hint)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="redrum-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _read_midi(path: Path, name: str) -> Rhythm:
    from transform.midi import read_midi

    return replace(read_midi(path), name=name)
