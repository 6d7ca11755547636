"""What an editor gives out: sound, MIDI, a kit, a rhythm, the session; all of it below one folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

from daw_bridge.editor.desk import Desk
from daw_bridge.editor.document import Document
from daw_bridge.editor.editing import EditingSession
from daw_bridge.editor.mic_exports import mic_names, write_microphones
from daw_bridge.editor.source import MicSource
from daw_bridge.editor.take_settings import render_settings
from daw_bridge.render_job import check_ending, is_same_file
from daw_bridge.session import file_name
from daw_bridge.take_report import depth_of
from transform.audio import resolve_output
from transform.audio_format import CONTAINERS
from transform.confined import ConfinedFolder, is_link, parts_below
from transform.errors import DawError, OutputError, RhythmError, SettingsError
from transform.events import Rhythm
from transform.files import write_bytes_atomic
from transform.names import flaw_of
from transform.session_file import EditSession, write_session

if TYPE_CHECKING:
    from transform.edited import Edited

WHAT = ("wav", "stems", "midi", "kit", "rhythm", "session")

_LONGEST_NAME = 200
_NO_KIT_FROM = (
    "a session file names no other recordings: render --edits plays without those that joined the kit"
)
_APART = "for stems no hit plays in which two drums sound together, so they add up to nearly what you hear"
_OF_ONE = {"stems": "a folder of stems", "kit": "a kit of samples", "session": "a session file"}
_OF_MICS = "export WAV, a file for each microphone, or MIDI"
_ENDINGS = {"wav": ".wav", "midi": ".mid", "session": ".json"}  # of names without one
_WHOLE_BEATS = 0.1  # of a beat, by which a rhythm may miss a whole number of them


class Exists(OutputError):
    """A result would replace what is there."""


class Exports:
    """Writes what a session gives out to its folder."""

    def __init__(self, session: EditingSession, folder: Path, desk: Desk | None = None) -> None:
        """Prepare to write below a folder, which is made at the first export, and to send takes to a desk."""
        self._session, self.folder, self.desk = session, Path(os.path.abspath(folder)), desk

    def write(self, version: int, what: str, name: str, *, overwrite: bool) -> dict[str, Any]:
        """Write one of WHAT, and return a report of it; nothing is left of what fails.

        Args:
            version: the newest.
            what: to write.
            name: of the file, or of the folder of a kit, of stems or of microphones, below the session's, with
                `/` between its parts; of a rhythm its name in the library.
            overwrite: replace what is there; a rhythm is never replaced.

        Raises:
            Outdated, NotReady: as the session has it.
            Exists: there is one already.
            OutputError: it cannot be written, or the name leads through a link.
            SettingsError: the name is none.
            AudioError, RhythmError: there is nothing to write.
        """
        document = self._session.steps.document(version)
        if self.has_microphones and what in _OF_ONE:
            raise SettingsError(
                f"{_OF_ONE[what]} is of one recording, not of several microphones", hint=_OF_MICS
            )
        if what in ("midi", "rhythm") and not document.sounding.played:
            raise RhythmError("no stroke plays, so there is nothing to write", hint="draw one first")
        if what == "rhythm":
            return self._rhythm(document, name)
        if name and not Path(name).suffix and not (what == "wav" and self.has_microphones):
            name += _ENDINGS.get(what, "")
        self._check(name, overwrite=overwrite)
        if what == "kit":
            return self._session.long(lambda: self._kit(document, name, overwrite))
        if what == "stems":
            return self._session.long(lambda: self._stems(version, document, name, overwrite))
        if what == "wav" and self.has_microphones:
            return self._session.long(lambda: self._microphones(version, name, overwrite))
        if what == "wav":
            return self._session.long(lambda: self._wav(version, name, overwrite))
        if what == "midi":
            return self._midi(document, name, overwrite)
        report = self._file(
            name, (".json",), overwrite, lambda path: write_session(path, self.session_of(document))
        )
        return report | {"notes": [_NO_KIT_FROM] if render_settings(document).kit_from else []}

    @property
    def has_microphones(self) -> bool:
        """Whether several microphones are edited, each of which gets a file of its own."""
        return isinstance(self._session.source, MicSource)

    def take(self, version: int) -> tuple[TemporaryDirectory[str], Path]:
        """Return the whole result as a WAV file, in a temporary folder that its reader removes."""
        if self.has_microphones:
            raise SettingsError("one file does not hold the takes of several microphones", hint=_OF_MICS)
        folder = TemporaryDirectory(prefix="redrum-", ignore_cleanup_errors=True)
        path = Path(folder.name) / "take.wav"
        try:
            self._session.long(lambda: self._write_sound(version, path))
        except BaseException:
            folder.cleanup()
            raise
        return folder, path

    def send(self, version: int) -> dict[str, Any]:
        """Put the whole result on a new track of the project that it was opened from, and return a report.

        Raises:
            Outdated, NotReady: as the session has it.
            DawError: there is no such project, or it is gone; the take lies in the session's folder then.
        """
        if self.desk is None:
            raise DawError(
                "this recording was not opened from a DAW",
                hint="export a WAV and drag it in, or begin in REAPER or Live: docs/editor.md says how",
            )
        self._session.steps.document(version)
        folder = TemporaryDirectory(prefix="redrum-", ignore_cleanup_errors=True)
        with folder:
            files, report = self._session.long(lambda: self._written_to_send(version, Path(folder.name)))
            try:
                media = self.desk.send(files)
            except (DawError, OutputError) as err:
                stored = [self._stored(path) for path, _ in files]
                what = f"the take is stored as {stored[0]}"
                if len(stored) > 1:
                    what = f"the takes are stored in {stored[0].parent}"
                raise DawError(err.message, hint=f"{err.hint}; {what}") from err
        return {"host": self.desk.host, "path": str(media[0]), "paths": list(map(str, media)), **report}

    def _written_to_send(self, version: int, folder: Path) -> tuple[list[tuple[Path, str]], dict[str, Any]]:
        """Write the take into a folder, one file for each microphone; return these with their names."""
        names = [f"{self._session.source.name}-redrum"]
        if self.has_microphones:
            names = [f"{name}-redrum" for name in mic_names(self._session)]
        files = [(folder / str(n) / f"{file_name(name)}.wav", name) for n, name in enumerate(names)]
        for path, _ in files:
            path.parent.mkdir()
        if self.has_microphones:
            return files, write_microphones(self._session, version, [path for path, _ in files])
        return files, self._write_sound(version, files[0][0])

    def _microphones(self, version: int, name: str, overwrite: bool) -> dict[str, Any]:
        """Write a file for each microphone into a folder, whose name may have the ending that they get."""
        place = Path(name)
        suffix = place.suffix if place.suffix.lower() in CONTAINERS else ""
        name = str(place.with_suffix("")) if suffix else name
        self._check(name, overwrite=overwrite)
        folder = self.folder / name
        names = [f"{file_name(own)}{suffix or '.wav'}" for own in mic_names(self._session)]
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise self._unwritable(name, err) from err
        try:
            paths = [folder / own for own in names]
            report = write_microphones(self._session, version, paths, overwrite=overwrite)
        finally:
            with suppress(OSError):
                folder.rmdir()  # unless files are in it
        return {"path": str(folder), "files": names, **report}

    def _stored(self, path: Path) -> Path:
        """Copy a take that could not be sent into the folder, under a name that nothing has."""
        data, number = path.read_bytes(), 1
        while True:
            name = f"{path.stem}-{number}{path.suffix}" if number > 1 else path.name
            try:
                self._check(name, overwrite=False)
                return Path(self._file(name, None, False, lambda to: write_bytes_atomic(to, data))["path"])
            except Exists:
                number += 1

    def session_of(self, document: Document) -> EditSession:
        """Return what a session file holds."""
        assert self._session.facts is not None
        detected, played = document.sounding
        return EditSession(
            source=self._session.facts,
            detected=detected,
            played=played,
            mode=document.mode,
            tempo=document.grid.tempo,
            beats_per_bar=document.grid.beats_per_bar,
            downbeat_s=document.grid.downbeat_s,
            length_s=document.length_s if document.mode == "replay" else None,
            settings=replace(render_settings(document), sensitivity=document.sensitivity),
        )

    def _wav(self, version: int, name: str, overwrite: bool) -> dict[str, Any]:
        report: dict[str, Any] = {}

        def write(path: Path) -> None:
            report.update(self._write_sound(version, path))

        resolve_output(Path(name), self._session.source.format, None)
        return self._file(name, None, overwrite, write) | report

    def _write_sound(self, version: int, path: Path) -> dict[str, Any]:
        """Write the whole result, in the source's rate, channels and depth."""
        session = self._session
        session.source.check()
        edited = session.renderer.whole(version)
        written = edited.write(path, progress=lambda stage, fraction: session.report("export", fraction))
        session.source.check()
        _, subtype = resolve_output(path, session.source.format, None)
        return {
            "bit_depth": depth_of(subtype),
            "duration_s": edited.n_samples / edited.sample_rate,
            "notes": list(written.notes),
        }

    def _stems(self, version: int, document: Document, name: str, overwrite: bool) -> dict[str, Any]:
        """Write what each class plays as five files in a folder, which add up to the result."""
        from transform.edited_stems import write_edited_stems
        from transform.take_files import stem_paths

        if render_settings(document).engine == "latent":
            raise SettingsError(
                "the latent engine plays all drums as one sound: it has no stems",
                hint="choose the engine resequence in Sound",
            )
        session, folder = self._session, self.folder / name
        session.source.check()
        paths = stem_paths(folder, folder.name)
        edited = session.renderer.outputs(version)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as err:
            raise self._unwritable(name, err) from err
        try:
            written = write_edited_stems(
                cast("Edited", edited),
                paths,
                overwrite=overwrite,
                progress=lambda stage, fraction: session.report("export", fraction),
            )
        finally:
            with suppress(OSError):
                folder.rmdir()  # unless files are in it
        session.source.check()
        return {
            "path": str(folder),
            "files": [path.name for path in paths.values()],
            "duration_s": edited.n_samples / edited.sample_rate,
            "notes": [*written.notes, *([_APART] if document.mode == "replay" else [])],
        }

    def _midi(self, document: Document, name: str, overwrite: bool) -> dict[str, Any]:
        from transform.midi import write_midi

        data = write_midi(played_rhythm(document, self._session.source.name))
        return self._file(name, (".mid", ".midi"), overwrite, lambda path: write_bytes_atomic(path, data))

    def _kit(self, document: Document, name: str, overwrite: bool) -> dict[str, Any]:
        from transform.one_shots import save_kit

        session, folder = self._session, self.folder / name
        session.report("kit", 0.0)
        with session.open_source() as recording:
            bank = session.engine.bank_of(recording, document.strokes.detected)
            folder.parent.mkdir(parents=True, exist_ok=True)
            kit = save_kit(bank, folder, fmt=recording.format, name=recording.name, overwrite=overwrite)
        return {
            "what": "kit",
            "path": str(folder),
            "sfz": str(folder / kit.sfz),
            "n_one_shots": len(kit.one_shots),
        }

    def _rhythm(self, document: Document, name: str) -> dict[str, Any]:
        from transform.library import add_rhythm, list_rhythms
        from transform.midi import write_midi

        if name in {rhythm.name for rhythm in list_rhythms()}:
            raise Exists(f"there is a rhythm called {name} already", hint="give another name")
        data = write_midi(looped_rhythm(document, name))
        with TemporaryDirectory(prefix="redrum-") as folder:
            path = Path(folder) / "rhythm.mid"
            path.write_bytes(data)
            added = add_rhythm(path, name)
        return {"what": "rhythm", "path": str(added.path), "name": name, "bpm": added.bpm, "beats": added.beats}

    def _file(
        self, name: str, endings: tuple[str, ...] | None, overwrite: bool, write: Callable[[Path], Any]
    ) -> dict[str, Any]:
        """Have a file written beside its place, move it there without following a link, and return a report."""
        target = Path(name)
        if endings is not None:
            check_ending(target, endings)
        confined = ConfinedFolder(self.folder)
        temporary = f".redrum-{secrets.token_hex(8)}.part{target.suffix}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            try:
                write(self.folder / temporary)
                confined.move(temporary, name, overwrite=overwrite)
            finally:
                with suppress(OSError):
                    confined.remove(temporary)
        except OutputError as err:
            raise OutputError(err.message.replace(temporary, name), hint=err.hint) from err
        except FileExistsError as err:
            raise self._existing(name) from err
        except OSError as err:
            raise self._unwritable(name, err) from err
        return {"path": str(self.folder / name)}

    def _check(self, name: str, *, overwrite: bool) -> None:
        """Raise an error now for a name that nothing could be written to later."""
        try:
            parts = parts_below(name)
        except ValueError as err:
            raise SettingsError(
                f"{name[:_LONGEST_NAME]!r} is no place below {self.folder}", hint="give a name such as take.wav"
            ) from err
        if flaw := next(filter(None, map(flaw_of, parts)), None):
            raise SettingsError(
                f"{name[:_LONGEST_NAME]!r} is no name of a file: {flaw}", hint="give a name such as take.wav"
            )
        if len(name) > _LONGEST_NAME or any(part.startswith(".") for part in parts):
            raise SettingsError("this name is too long, or hidden", hint="give a name such as take.wav")
        if is_link(self.folder):
            raise OutputError(
                f"{self.folder} is a link, which is not followed unasked",
                hint="run redrum edit in another folder",
            )
        path = self.folder / name
        if path.exists() and any(is_same_file(path, own) for own in self._session.source.paths):
            raise Exists(f"{name} is the recording itself, which is never replaced", hint="give another name")
        try:
            ConfinedFolder(self.folder).check(name)
        except OSError as err:
            if not isinstance(err, FileNotFoundError):
                raise self._unwritable(name, err) from err
        if is_link(path):
            raise OutputError(f"{name} is a link, which is not followed", hint="give another name")
        if os.path.lexists(path) and not overwrite:
            raise self._existing(name)

    def _existing(self, name: str) -> Exists:
        return Exists(f'"{name}" exists already in {self.folder}', hint="give another name, or replace it")

    def _unwritable(self, name: str, err: OSError) -> OutputError:
        return OutputError(
            f"{name} cannot be written in {self.folder}: {err.strerror or err}",
            hint="give another name, or make room",
        )


def played_rhythm(document: Document, name: str) -> Rhythm:
    """Return what plays as a rhythm that begins with the result, so that both stay together."""
    grid = document.grid
    events = tuple(stroke.event() for stroke in document.sounding.played)
    tempo_map = grid.tempo_map.starting_at(grid.beat_at(0.0))
    return Rhythm(events, document.length_s, tempo_map, name, grid.beats_per_bar)


def looped_rhythm(document: Document, name: str) -> Rhythm:
    """Return what plays as a rhythm that begins with the downbeat, of whole beats where it is nearly so long.

    What plays before the downbeat comes at the end: a rhythm is a circle.
    """
    grid, length_s = document.grid, document.length_s
    begin_s = grid.downbeat_s % length_s
    n_beats = grid.beat_at(grid.downbeat_s + length_s)
    whole = max(1, round(n_beats))
    end_s = grid.time_of(whole) - grid.downbeat_s if abs(n_beats - whole) <= _WHOLE_BEATS else length_s
    moved = ((stroke.event(), (stroke.onset_s - begin_s) % length_s) for stroke in document.sounding.played)
    events = tuple(replace(event, onset_s=onset_s) for event, onset_s in moved if onset_s < end_s)
    return Rhythm(events, end_s, grid.tempo_map, name, grid.beats_per_bar)
