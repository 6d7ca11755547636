"""How the recording's drums play, as the user has chosen: fields of `RenderSettings` that are not as usual.

What one engine alone knows stays chosen while the other one plays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from daw_bridge.editor.document import Document, Draft
from daw_bridge.editor.fields import Fields
from transform.errors import RhythmError
from transform.options import options_of
from transform.settings import RenderSettings

NAMES = ("engine", "balance", "tail", "missing", "variation", "seed", "kit_from")

_OPTIONS = options_of(RenderSettings)
_MOST_VARIATION, _MOST_SEED = 10.0, 2**31
_MOST_RECORDINGS = 32


def render_settings(document: Document) -> RenderSettings:
    """Return the settings that a document plays by, without what its engine does not know."""
    chosen = dict(document.sound)
    if document.mode == "edit":  # the engine is that of replays
        chosen.pop("engine", None)
    is_latent = chosen.get("engine") == "latent"
    for name in ("kit_from",) if is_latent else ("variation",):
        chosen.pop(name, None)
    if is_latent and chosen.get("missing") == "borrow":
        del chosen["missing"]
    return RenderSettings(**chosen)


def sound_json(chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is chosen as journals and pages have it, the usual values among it."""
    usual = RenderSettings()
    found = {name: chosen.get(name, getattr(usual, name)) for name in NAMES}
    return found | {"kit_from": list(found["kit_from"])}


def sound_of(found: object) -> dict[str, Any]:
    """Return what is chosen, of a JSON object that may leave some out.

    Raises:
        RhythmError: it is no such object.
    """
    fields = Fields(found, "sound")
    chosen = {name: read(fields) for name, read in _READ.items() if name in fields}
    if "kit_from" in fields:
        chosen["kit_from"] = tuple(map(str, fields.list("kit_from", _MOST_RECORDINGS)))
    fields.end()
    return _unusual(chosen)


def sound_change(fields: Fields) -> Callable[[Draft], None] | None:
    """Return what changes the sound as a request has it, None where it has none; what it leaves out stays."""
    if "sound" not in fields:
        return None
    own = Fields(fields.any("sound"), "sound")
    given = {name: read(own) for name, read in _READ.items() if name in own}
    stays = own.list("kit_from", _MOST_RECORDINGS) if "kit_from" in own else None
    own.end()

    def change(draft: Draft) -> None:
        chosen = dict(draft.fields["sound"]) | given
        if stays is not None:
            present = chosen.get("kit_from", ())
            if unknown := next((path for path in stays if path not in present), None):
                raise RhythmError(
                    f"{str(unknown)[:100]!r} is no recording of the kit", hint="load the page again"
                )
            chosen["kit_from"] = tuple(path for path in present if path in stays)
        draft.fields["sound"] = _unusual(chosen)

    return change


def with_recording(chosen: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Return what is chosen with one more recording of the kit.

    Raises:
        RhythmError: it is among them, or there are too many.
    """
    present = chosen.get("kit_from", ())
    if path in present:
        raise RhythmError("this recording is in the kit already", hint="choose another one")
    if len(present) == _MOST_RECORDINGS:
        raise RhythmError(f"the kit has {_MOST_RECORDINGS} recordings", hint="take one out first")
    return {**chosen, "kit_from": (*present, path)}


def _unusual(chosen: Mapping[str, Any]) -> dict[str, Any]:
    usual = RenderSettings()
    return {name: value for name, value in chosen.items() if value != getattr(usual, name)}


def _word(name: str) -> Callable[[Fields], Any]:
    return lambda fields: fields.choice(name, _OPTIONS[name].metavar.split("|"))


_READ: Mapping[str, Callable[[Fields], Any]] = {
    "engine": _word("engine"),
    "tail": _word("tail"),
    "missing": _word("missing"),
    "balance": lambda fields: fields.number("balance", 0.0, 1.0),
    "variation": lambda fields: fields.number("variation", 0.0, _MOST_VARIATION),
    "seed": lambda fields: fields.whole("seed", 0, _MOST_SEED),
}
