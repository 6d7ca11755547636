"""The page before anything is open: what it takes, and the editor that follows at the same address."""

import time
from pathlib import Path

import httpx
import pytest

from tests.daw_bridge.editor.conftest import FOUND


def until_ready(client):
    deadline_s = time.monotonic() + 10
    while time.monotonic() < deadline_s:
        try:
            session = client.get("/api/session").json()
            if session["state"] == "ready":
                return session
        except httpx.TransportError:
            pass  # between the two servers
        time.sleep(0.05)
    raise AssertionError("no editor")


def test_a_recording_that_is_dropped_is_opened_at_the_same_address_and_found_again(entrance, loop, tmp_path):
    assert entrance.get("/api/session").json()["state"] == "empty"
    assert "<title>Redrum</title>" in entrance.get("/").text
    refused = entrance.post("/api/open", params={"name": "no.wav"}, content=b"no sound")
    assert (refused.status_code, entrance.get("/api/session").json()["state"]) == (422, "empty")
    opened = entrance.post("/api/open", params={"name": "mine.wav"}, content=loop().read_bytes())
    assert opened.json() == {"name": "mine.wav"}
    session = until_ready(entrance)
    assert [event["id"] for event in session["events"]] == [stroke.id for stroke in FOUND]
    stored = Path(session["source"]["path"])
    assert stored.read_bytes() == loop().read_bytes()
    assert stored.is_relative_to(tmp_path / "data" / "dropped")
    assert [path.name for path in (tmp_path / "data" / "dropped").iterdir()] == [stored.parent.name]


def test_the_demo_loop_is_there_without_a_file(entrance):
    assert entrance.post("/api/open").json() == {"name": "demo.wav"}
    assert until_ready(entrance)["source"]["name"] == "demo"


@pytest.mark.parametrize("path", ["/api/session", "/api/events"])
def test_nobody_is_served_without_the_token(entrance, path):
    assert httpx.get(f"{entrance.base_url}{path}").status_code == 401
