import os
import socket
import stat
import sys
import threading
import webbrowser
from pathlib import Path

import pytest

from daw_bridge.editor import serving
from daw_bridge.editor.serving import BrowserPage, listen_at
from transform.errors import SettingsError

URL = "http://127.0.0.1:8765/#token=se&cret"


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr("platformdirs.user_runtime_dir", lambda *names, **more: str(folder / "redrum"))
    return folder / "redrum"


def opened(page, monkeypatch, is_open=True):
    """Open a page, and return the address that the browser gets, and whether `fail` is called."""
    got, is_called, failed = [], threading.Event(), threading.Event()

    def browse(address):
        got.append(address)
        is_called.set()
        return is_open

    monkeypatch.setattr(webbrowser, "open", browse)
    page.open(failed.set)
    assert is_called.wait(10)
    if not is_open:
        assert failed.wait(10)
    return got[0], failed


def test_the_browser_gets_a_file_that_forwards_and_never_the_token(runtime, monkeypatch):
    page = BrowserPage(URL)
    address, failed = opened(page, monkeypatch)
    path = Path(address.removeprefix("file://"))
    assert "secret" not in address
    assert path.is_relative_to(runtime)
    assert not failed.is_set()
    text = path.read_text()
    assert 'content="0; url=http://127.0.0.1:8765/#token=se&amp;cret"' in text
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    page.forget()
    assert not list(runtime.iterdir())
    page.forget()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
@pytest.mark.parametrize("what", ["open to others", "link", "file"])
def test_a_runtime_folder_that_others_can_write_is_not_used(runtime, tmp_path, monkeypatch, what):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if what == "link":
        runtime.symlink_to(elsewhere)
    elif what == "file":
        runtime.write_text("")
    else:
        runtime.mkdir()
        runtime.chmod(0o777)
    page = BrowserPage(URL)
    address, _ = opened(page, monkeypatch)
    path = Path(address.removeprefix("file://"))
    assert not path.is_relative_to(runtime.resolve())
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    page.forget()


def test_no_browser_is_reported(runtime, monkeypatch):
    page = BrowserPage(URL)
    opened(page, monkeypatch, is_open=False)

    def broken(address):
        raise webbrowser.Error("no browser")

    failed = threading.Event()
    monkeypatch.setattr(webbrowser, "open", broken)
    page.open(failed.set)
    assert failed.wait(10)
    monkeypatch.setattr(serving.tempfile, "mkdtemp", lambda **more: os.mkdir(runtime / "no" / "way"))
    failed.clear()
    BrowserPage(URL).open(failed.set)
    assert failed.is_set()


def test_a_port_that_is_taken_is_a_sentence():
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"the port {port} cannot be used"):
            listen_at(port)
    with listen_at(port) as listener:
        assert listener.getsockname() == ("127.0.0.1", port)
