"""Recordings that a page sends, stored in the user's folder where they are found again by their content."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from daw_bridge.editor.requests import store_body
from daw_bridge.session import file_name
from transform.audio import Recording
from transform.errors import SettingsError


async def store_recording(request: Request, name: str, folder: Path) -> Path:
    """Store the recording that a request's body is below a folder, and return its file.

    Raises:
        AudioError, SettingsError: it is none.
        TooLarge: it is too many bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".redrum-", dir=folder) as temporary:
        path = Path(temporary) / file_name(name)
        await store_body(request, path)
        return await run_in_threadpool(_taken_over, path, folder)


def _taken_over(path: Path, folder: Path) -> Path:
    if path.stat().st_size == 0:
        raise SettingsError(f"{path.name} is empty", hint="drop a recording of drums")
    Recording.open(path).close()
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    target = folder / found[:16] / path.name
    target.parent.mkdir(exist_ok=True)
    os.replace(path, target)
    return target
