"""What Redrum itself has made, or ships: no recordings that a batch of a folder is to redrum."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from daw_bridge.manifest import MANIFEST, Manifest
from daw_bridge.page import is_page
from daw_bridge.render_job import OUT_FOLDER, identity
from transform.errors import OutputError
from transform.one_shots import is_kit
from transform.presets import shipped_folder


def what_it_is(folder: Path) -> str:
    """Return in words what of Redrum's a folder holds as a whole, "" where it is none of these."""
    if folder.name == OUT_FOLDER.name:
        return "results"
    if is_page(folder):
        return "a page"
    if is_kit(folder):
        return "an extracted kit"
    return "a shipped kit" if identity(folder) == identity(shipped_folder() / "spare") else ""


def results_in(folder: Path) -> Iterator[Path]:
    """Yield what a batch made in a folder, in and under which it may lie, and has not been changed since."""
    if not (folder / MANIFEST).is_file():
        return
    try:
        manifest = Manifest.read(folder)
    except OutputError:  # it is no batch's
        return
    yield from (path for path in manifest.outputs if manifest.is_unchanged(path))
