"""The files of the page itself, and nothing else of this machine."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.responses import Response

from daw_bridge.editor.answers import error_answer

PAGE = Path(__file__).with_name("page")
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


def own_file(name: str, page: Path = PAGE) -> Response:
    """Return the answer to a request of one of the page's own files; "" is the page."""
    name = name or "index.html"
    if name.startswith("api/"):
        raise HTTPException(405)
    found = {path.relative_to(page).as_posix(): path for path in page.rglob("*") if path.is_file()}
    if name not in found:
        return error_answer(404, "there is no such page", "open /")
    kind = _KINDS.get(found[name].suffix) or mimetypes.guess_type(name)[0] or "application/octet-stream"
    return Response(found[name].read_bytes(), headers={"Content-Type": kind})
