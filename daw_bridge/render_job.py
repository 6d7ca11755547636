"""One recording, the rhythm that it plays, and where the result goes."""

import logging
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import transform
from daw_bridge.take_report import Report, report_of
from transform.confined import is_link
from transform.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from transform.audio import Progress
    from transform.drum_maps import DrumNotes
    from transform.library import RhythmSource
    from transform.take_files import TakeFiles

OUT_FOLDER = Path("redrummed")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RenderJob:
    """One recording, the rhythm that it plays, and where the result goes."""

    source: "transform.Recording"
    rhythm: "transform.Rhythm | transform.Recording"
    output: Path
    inputs: tuple[Path, ...] = ()
    plot: Path | None = None
    stems: Mapping[str, Path] = field(default_factory=dict)  # by class; the settings have separate outputs then
    midi: Path | None = None
    overwrite: bool = False
    bit_depth: str | None = None

    def check(self) -> None:
        """Raise an error now for a result that could not be written later."""
        from transform.audio import resolve_output

        resolve_output(self.output, self.source.format, self.bit_depth)
        check_ending(self.plot, (".png",))
        check_ending(self.midi, (".mid", ".midi"))
        check_outputs([*self._files().all(), self.plot], self.inputs, overwrite=self.overwrite)

    def _files(self) -> "TakeFiles":
        from transform.take_files import TakeFiles

        return TakeFiles(take=self.output, stems=self.stems, midi=self.midi)

    def run(
        self,
        redrummer: "transform.Redrummer",
        settings: "transform.RenderSettings",
        progress: "Progress | None",
    ) -> Report:
        """Write the result, its stems, its MIDI and its picture, and return the report of it."""
        from transform.audio import resolve_output
        from transform.take_files import write_take

        began_s = time.perf_counter()
        _log.info("%s plays %s: %s", self.source.name, self.rhythm.name, given_of(settings))
        take = redrummer.redrum(self.source, self.rhythm, settings, progress=progress)
        notes = write_take(
            take, self._files(), overwrite=self.overwrite, bit_depth=self.bit_depth, progress=progress
        )
        if self.plot:
            from transform.pictures import plot_take

            plot_take(self.plot, self.source, take, overwrite=self.overwrite)
        _, subtype = resolve_output(self.output, take.format, self.bit_depth)
        report = report_of(take, settings.engine, subtype)
        return {
            "output": str(self.output),
            **outputs_beside(self.plot, self.stems, self.midi),
            **report,
            "notes": [*report["notes"], *notes],
            "seconds": round(time.perf_counter() - began_s, 3),
        }


def given_of(settings: "transform.RenderSettings") -> str:
    """Return what is not as usual in settings, as a command line has it."""
    from transform.options import options_of, write_options

    usual = type(settings)()
    given = {name: getattr(settings, name) for name in options_of(type(settings))}
    changed = {name: value for name, value in given.items() if value != getattr(usual, name)}
    return " ".join(write_options(type(settings), changed)) or "all settings are as usual"


def outputs_beside(plot: Path | None, stems: Mapping[str, Path], midi: Path | None) -> Report:
    """Return what a report says of the files beside a result."""
    return {
        "plot": str(plot) if plot else None,
        "stems": {drum_class: str(path) for drum_class, path in stems.items()},
        "midi": str(midi) if midi else None,
    }


def open_rhythm(
    rhythm: "RhythmSource", drum_map: "DrumNotes", files: ExitStack
) -> "transform.Rhythm | transform.Recording":
    """Return a rhythm, read or, where it is a recording, opened and closed by `files`.

    Raises:
        RhythmError: it is missing, or no drums are in it.
        AudioError: the recording cannot be read.
    """
    from transform.midi import read_midi

    if rhythm.is_midi:
        return read_midi(rhythm.path, drum_map=drum_map)
    return files.enter_context(transform.Recording.open(rhythm.path))


def default_place(path: Path) -> Path:
    """Return a place under OUT_FOLDER, where the user named none.

    Raises:
        OutputError: a folder on the way is a link, which may be another user's choice.
    """
    for folder in path.parents:
        if is_link(folder):
            raise OutputError(
                f"{folder} is a link, which is not followed unasked",
                hint="name the folder that it leads to, with -o or --out",
            )
    return path


def result_place(text: str | None, name: str) -> Path:
    """Return where a result goes.

    Args:
        text: a file, which without an ending gets that of `name`, or a folder, which ends in a slash or is
            there; None: the user named none.
        name: of the file in a folder.

    Raises:
        OutputError: a folder on the way is a link, where the user named none.
    """
    if text is None:
        return default_place(OUT_FOLDER / name)
    path = Path(text)
    if text.endswith(("/", os.sep)) or path.is_dir():
        return path / name
    return path if path.suffix else path.with_name(path.name + Path(name).suffix)


def check_preset(preset: str, engine: str) -> None:
    """Raise CheckpointError for a preset that is not there, or lacks what an engine needs."""
    from transform.presets import load_preset

    found = load_preset(preset)
    if engine == "latent":
        from transform.latent import check_models

        check_models(found)


def check_ending(path: Path | None, endings: tuple[str, ...]) -> None:
    """Raise SettingsError for a path that ends otherwise."""
    if path is not None and path.suffix.lower() not in endings:
        raise SettingsError(f"the name of {path} must end in {' or '.join(endings)}", hint=f"add {endings[0]}")


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Raise an error for a result that cannot be written, or that would replace an input or another result."""
    from transform.audio import check_output

    taken = {path: "an input, which is never replaced" for path in inputs}
    for path in filter(None, outputs):
        for other, what in taken.items():
            if is_same_file(path, other):
                raise SettingsError(f"{path} is {what}", hint="choose another name for the result")
        taken[path] = "the name of another result"
        check_output(path, overwrite=overwrite)


def is_same_file(path: Path, other: Path) -> bool:
    """Return whether two paths are one file, which need not exist."""
    if path.exists() and other.exists():
        return path.samefile(other)
    return os.path.abspath(path) == os.path.abspath(other)


def identity(path: Path) -> object:
    """Return what is the same for two paths to one file."""
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino
