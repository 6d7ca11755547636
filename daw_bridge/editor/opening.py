"""Opens the editor of a recording, or of an item of a DAW's project, and serves it until nobody needs it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from daw_bridge.editor.desk import Desk
from daw_bridge.editor.editing import EditingSession, FirstRhythm
from daw_bridge.editor.engine import PresetEngine
from daw_bridge.editor.entrance import Entrance
from daw_bridge.editor.exports import Exports
from daw_bridge.editor.serving import IDLE_S, BrowserPage, PageServer, address_of, listen_at, new_token
from daw_bridge.editor.source import Source
from transform.engine import Redrummer
from transform.presets import user_folder


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What is opened, and how its page is reached."""

    load: Callable[[], Redrummer]
    folder: Path  # of what is exported
    rhythm: FirstRhythm | None = None
    port: int = 0
    has_browser: bool = True
    token: str = ""  # of the page; "": a new one


@dataclass(frozen=True)
class Watcher:
    """What is called as an editor goes on."""

    serving: Callable[[EditingSession | None, str], None]  # what is open, and the address of the page
    no_browser: Callable[[str], None]
    is_over: Callable[[], bool] = lambda: False  # whether it is to end


def edit_recording(source: Source, opening: Opening, watcher: Watcher) -> None:
    """Serve the editor of a recording, or of microphones; see `PageServer.run`."""
    _serve(source, opening, watcher, None)


def edit_item(desk: Desk, opening: Opening, watcher: Watcher) -> None:
    """Serve the editor of an item of a project, whose takes go back into it; see `PageServer.run`."""
    with TemporaryDirectory(prefix="redrum-", ignore_cleanup_errors=True) as folder:
        _serve(desk.store(Path(folder)), opening, watcher, desk)


def edit_dropped(demo: Callable[[], Path], opening: Opening, watcher: Watcher) -> None:
    """Serve the page until a recording is dropped on it, or the demo loop chosen; then the editor of that."""
    token = new_token()
    with ExitStack() as closing:
        listener = closing.enter_context(listen_at(opening.port))
        port = listener.getsockname()[1]
        url = address_of(port, token)
        browser = BrowserPage(url)
        closing.callback(browser.forget)

        def begin() -> None:
            watcher.serving(None, url)
            if opening.has_browser:
                browser.open(lambda: watcher.no_browser(url))

        chosen = Entrance(user_folder() / "dropped", demo, watcher.is_over).run(listener, token, begin, IDLE_S)
    if chosen is not None:  # its page finds the editor at the same address
        again = replace(opening, port=port, has_browser=False, token=token)
        _serve(Source(chosen), again, replace(watcher, serving=lambda session, url: None), None)


def _serve(source: Source, opening: Opening, watcher: Watcher, desk: Desk | None) -> None:
    engine = PresetEngine(opening.load)
    grid = desk.grid if desk else None
    session = EditingSession(source, engine, user_folder() / "edits", opening.rhythm, grid)
    with ExitStack() as closing:
        closing.callback(_close, session)
        session.start()  # the models are loaded while the server begins
        listener = closing.enter_context(listen_at(opening.port))
        server = PageServer(session, Exports(session, opening.folder, desk), listener, opening.token)
        browser = BrowserPage(server.url)
        closing.callback(browser.forget)
        is_ended = threading.Event()
        closing.callback(is_ended.set)

        def begin() -> None:
            watcher.serving(session, server.url)
            threading.Thread(target=_watch, args=(server, watcher, is_ended), daemon=True).start()
            if opening.has_browser:
                browser.open(lambda: watcher.no_browser(server.url))

        server.run(begin, browser.forget)


def _watch(server: PageServer, watcher: Watcher, is_ended: threading.Event) -> None:
    while not is_ended.wait(0.5):
        if watcher.is_over():
            server.end()


def _close(session: EditingSession) -> None:
    with suppress(KeyboardInterrupt):  # it ends already
        session.close()
