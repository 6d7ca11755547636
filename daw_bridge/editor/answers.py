"""Answers of the editor's server: JSON, samples, and errors as sentences."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from starlette.responses import Response

from daw_bridge.editor.document import Command
from daw_bridge.editor.journal import field_json
from transform.session_file import stroke_json
from transform.signal import Samples

_MOST_CHANGES = 2000  # of strokes that an answer lists; after more a page loads all


def json_text(found: Mapping[str, Any]) -> bytes:
    r"""Return a line of JSON in ASCII, in which a byte of a name that is no UTF-8 is an escape."""
    return json.dumps(found, separators=(",", ":"), allow_nan=False).encode("ascii") + b"\n"


def json_answer(found: Mapping[str, Any], status: int = 200) -> Response:
    """Return an answer in JSON."""
    return Response(json_text(found), status, media_type="application/json")


def error_answer(status: int, error: str, hint: str = "", **more: Any) -> Response:
    """Return an answer that says what is wrong, and the next step."""
    return json_answer({"error": error, "hint": hint, **more}, status)


def samples_answer(samples: Samples, **about: int) -> Response:
    """Return samples (C, T) as little-endian float32, channel after channel; headers say how many there are."""
    facts = {"channels": samples.shape[0], "samples": samples.shape[1], **about}
    headers = {f"Redrum-{name.replace('_', '-').title()}": str(value) for name, value in facts.items()}
    data = np.ascontiguousarray(samples, dtype="<f4").tobytes()
    return Response(data, headers=headers, media_type="application/octet-stream")


def changes_json(command: Command) -> dict[str, Any] | None:
    """Return what a command changed, as pages have it; None: so much that a page loads all."""
    if len(command.strokes) > _MOST_CHANGES:
        return None
    changes: dict[str, Any] = {"events": {}, "detected": {}}
    for change in command.strokes:
        if change.layer != "estimated":
            place = changes["events" if change.layer == "played" else "detected"]
            place[change.id] = stroke_json(change.after) if change.after else None
    for field_change in command.fields:
        changes[field_change.field] = field_json(field_change.field, field_change.after)
    return changes
