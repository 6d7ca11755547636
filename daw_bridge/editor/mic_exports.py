"""What an editor of several microphones gives out: a file for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from daw_bridge.editor.editing import EditingSession
from daw_bridge.take_report import depth_of
from transform.mics import MicRecording


def mic_names(session: EditingSession) -> list[str]:
    """Return the names of the microphones, of those with one name the later ones with a number."""
    names: list[str] = []
    for mic in _microphones(session).microphones:
        numbered = (mic.name if n == 1 else f"{mic.name}-{n}" for n in range(1, len(names) + 2))
        taken = {name.casefold() for name in names}
        names.append(next(name for name in numbered if name.casefold() not in taken))
    return names


def write_microphones(
    session: EditingSession, version: int, paths: Sequence[Path], *, overwrite: bool = False
) -> dict[str, Any]:
    """Write a version, a file for each microphone, in the worker, and return a report of it.

    Raises:
        Outdated: another version is the newest.
        OutputError: a file exists and `overwrite` is not set, or one cannot be written.
    """
    from transform.edited import Edited
    from transform.edited_mics import write_edited_mics
    from transform.mic_files import take_formats

    session.source.check()
    microphones, edited = _microphones(session), session.renderer.whole(version)
    assert isinstance(edited, Edited)
    written = write_edited_mics(
        edited,
        microphones,
        paths,
        overwrite=overwrite,
        progress=lambda stage, fraction: session.report("export", fraction),
    )
    session.source.check()
    return {
        "bit_depth": depth_of(take_formats(microphones, paths, None)[0].subtype),
        "duration_s": edited.n_samples / edited.sample_rate,
        "notes": list(written.notes),
    }


def _microphones(session: EditingSession) -> MicRecording:
    recording = session.renderer.recording
    assert isinstance(recording, MicRecording)
    return recording
