"""Runs the editor's server until nobody needs it, and opens its page in the browser."""

from __future__ import annotations

import asyncio
import html
import logging
import os
import secrets
import signal
import socket
import stat
import sys
import tempfile
import threading
import warnings
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from daw_bridge.editor.editing import EditingSession
from daw_bridge.editor.exports import Exports
from daw_bridge.editor.guard import Guard
from daw_bridge.editor.server import EditorServer
from daw_bridge.editor.uvicorn_server import LOOK_S, server_of
from transform.errors import RedrumError, SettingsError

IDLE_S = 600.0  # without a page, after which the editor ends

_FAILED_S = 10.0  # that a page has to load and show why the recording could not be opened
_log = logging.getLogger(__name__)


def listen_at(port: int) -> socket.socket:
    """Return a socket that listens on this machine alone; 0 is any free port.

    Raises:
        SettingsError: the port is taken, or not for this user.
    """
    # The protocol is named, or asyncio would let answers wait for those before to be confirmed, 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform == "win32":  # there another program could else take the same port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except (OSError, OverflowError) as err:
        listener.close()
        why = getattr(err, "strerror", None) or err
        raise SettingsError(
            f"the port {port} cannot be used: {why}", hint="leave --port out, or give another one"
        ) from err
    return listener


def new_token() -> str:
    """Return a token that nobody guesses."""
    return secrets.token_urlsafe(32)


def address_of(port: int, token: str) -> str:
    """Return the address of a page, with its token."""
    return f"http://127.0.0.1:{port}/#token={token}"


class PageServer:
    """Serves a session at an address that bears a token."""

    def __init__(
        self, session: EditingSession, exports: Exports, listener: socket.socket, token: str = ""
    ) -> None:
        """Prepare to serve a session at a socket that listens; without a token there is a new one."""
        self._session, self._listener = session, listener
        self._token = token or new_token()
        port = listener.getsockname()[1]
        self.url = address_of(port, self._token)
        self._server = EditorServer(session, exports)
        self._guard = Guard(self._server.app, self._token, port)
        self._uvicorn = server_of(self._guard, self.end)
        self._is_to_end = False
        self._look: Callable[[], object] = lambda: None  # wakes what looks whether it is time to end

    def end(self) -> None:
        """Have it end; for other threads."""
        self._is_to_end = True
        with suppress(RuntimeError):  # it has ended already
            self._look()

    def run(
        self, when_ready: Callable[[], None], when_used: Callable[[], None], idle_s: float = IDLE_S
    ) -> None:
        """Serve until no page has made a request for so long, `end` is called, or a signal to end comes.

        Args:
            when_ready: called once pages are answered.
            when_used: called once a page has made its first request.
            idle_s: in seconds.

        Raises:
            RedrumError: the recording could not be opened; pages had time to show why.
            KeyboardInterrupt: it was interrupted before pages were answered.
        """
        try:
            asyncio.run(self._run(when_ready, when_used, idle_s))
        except KeyboardInterrupt:  # a signal that uvicorn does not take
            if not self._uvicorn.started:
                raise
        if self._session.error is not None:
            raise self._session.error

    def _end_with_terminal(self) -> None:
        """Have the end of a terminal end it as other signals do: raised amid anything, it may never end."""
        hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
        is_main = threading.current_thread() is threading.main_thread()  # no other can take signals
        if is_main and hang_up is not None and signal.getsignal(hang_up) is not signal.SIG_IGN:
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(hang_up, setattr, self._uvicorn, "should_exit", True)

    async def _run(self, when_ready: Callable[[], None], when_used: Callable[[], None], idle_s: float) -> None:
        self._end_with_terminal()
        serving = asyncio.create_task(self._uvicorn.serve(sockets=[self._listener]))
        watching = asyncio.create_task(self._watch(when_ready, when_used, idle_s))
        try:
            await serving
        finally:
            self._session.notices.close()
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching

    async def _watch(
        self, when_ready: Callable[[], None], when_used: Callable[[], None], idle_s: float
    ) -> None:
        """Notice when it is time to end, and when the recording's file changes."""
        while not self._uvicorn.started:
            await asyncio.sleep(0.01)
        loop, is_woken = asyncio.get_running_loop(), asyncio.Event()
        self._look = partial(loop.call_soon_threadsafe, is_woken.set)
        when_ready()
        failed_s, has_changed, is_used = 0.0, False, False
        while not (self._is_to_end or self._server.idle_s > idle_s or failed_s > _FAILED_S):
            with suppress(TimeoutError):
                await asyncio.wait_for(is_woken.wait(), LOOK_S)
            if self._guard.n_proved and not is_used:
                is_used = True
                when_used()
            if self._session.state == "failed":
                failed_s += LOOK_S
            if not has_changed and self._session.source.has_changed:
                has_changed = True
                self._session.notices.publish("source-changed", **_sentence(self._session))
        self._session.notices.close()
        self._uvicorn.should_exit = True


def _sentence(session: EditingSession) -> dict[str, str]:
    try:
        session.source.check()
    except RedrumError as err:
        return {"error": err.message, "hint": err.hint}
    return {}


class BrowserPage:
    """Opens a page in the browser by a file that only this user can read, unlike an address."""

    def __init__(self, url: str) -> None:
        """Prepare to open an address."""
        self._url = url
        self._folder: Path | None = None

    def open(self, fail: Callable[[], None]) -> None:
        """Have the browser open the page, whatever that takes; `fail` is called where there is none."""
        try:
            path = self._write()
        except OSError as err:
            _log.warning("the page cannot be opened in the browser: %s", err)
            fail()
            return

        def show() -> None:
            try:
                is_open = webbrowser.open(path.as_uri())
            except (webbrowser.Error, OSError):
                is_open = False
            if not is_open:
                fail()

        threading.Thread(target=show, name="redrum-browser", daemon=True).start()

    def forget(self) -> None:
        """Remove the file."""
        if self._folder is not None:
            with suppress(OSError):
                (self._folder / "redrum.html").unlink()
            with suppress(OSError):
                self._folder.rmdir()
            self._folder = None

    def _write(self) -> Path:
        self._folder = Path(tempfile.mkdtemp(prefix="redrum-", dir=_runtime_folder()))  # for this user only
        path = self._folder / "redrum.html"
        address = html.escape(self._url)
        text = (
            '<!doctype html>\n<meta charset="utf-8">\n<meta name="referrer" content="no-referrer">\n'
            f'<meta http-equiv="refresh" content="0; url={address}">\n<title>Redrum</title>\n'
            f'<p><a href="{address}">Open the editor</a></p>\n'
        )
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        return path


def _runtime_folder() -> str | None:
    """Return the user's runtime folder, None where it is not for this user only."""
    from platformdirs import user_runtime_dir

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where the system names no such folder, and takes another
        folder = user_runtime_dir("redrum", appauthor=False)
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        found = os.lstat(folder)
    except OSError:
        return None
    if not stat.S_ISDIR(found.st_mode):
        return None
    if sys.platform != "win32" and (found.st_uid != os.getuid() or found.st_mode & 0o077):
        return None
    return folder
