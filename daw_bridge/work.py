"""One recording, what it shall play, and where the result goes."""

import os
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from daw_bridge.options import check_ending
from daw_bridge.reporting import Show, count_events, depth_of
from transform.confined import is_link
from transform.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from transform.audio import Recording
    from transform.engine import Redrummer, RenderSettings
    from transform.events import Rhythm

OUT_FOLDER = Path("redrummed")


@dataclass(frozen=True, kw_only=True)
class Work:
    """One recording, what it shall play, and where the result goes."""

    source: "Recording"
    rhythm: "Rhythm | Recording"
    output: Path
    inputs: tuple[Path, ...] = ()
    plot: Path | None = None
    overwrite: bool = False
    bit_depth: str | None = None

    def check(self) -> None:
        """Raise an error now for a result that could not be written later."""
        from transform.audio import resolve_output

        resolve_output(self.output, self.source.format, self.bit_depth)
        check_ending(self.plot, (".png",))
        check_outputs([self.output, self.plot], self.inputs, overwrite=self.overwrite)

    def done(self, redrummer: "Redrummer", settings: "RenderSettings", show: Show | None) -> dict[str, object]:
        """Write the result and its picture, and return the report of it."""
        from transform.audio import resolve_output

        began_s = time.perf_counter()
        take = redrummer.redrum(self.source, self.rhythm, settings, progress=show)
        take.write(self.output, overwrite=self.overwrite, bit_depth=self.bit_depth, progress=show)
        if self.plot:
            from transform.pictures import plot_take

            plot_take(self.plot, self.source, take, overwrite=self.overwrite)
        _, subtype = resolve_output(self.output, take.format, self.bit_depth)
        return {
            "output": str(self.output),
            "plot": str(self.plot) if self.plot else None,
            "engine": settings.engine,
            "duration_s": round(take.n_samples / take.format.sample_rate, 6),
            "sample_rate": take.format.sample_rate,
            "channels": take.format.n_channels,
            "bit_depth": depth_of(subtype),
            "gain_db": round(take.gain_db, 3),
            "notes": list(take.notes),
            "events": count_events(take.rhythm.events),
            "seconds": round(time.perf_counter() - began_s, 3),
        }


def open_work(files: ExitStack, source: Path, rhythm: str, drum_map: str, output: Path | None) -> Work:
    """Return what to do with a source and a rhythm, both of them opened and checked."""
    from transform.audio import Recording
    from transform.midi import read_midi
    from transform.presets import resolve_rhythm

    recording = files.enter_context(Recording.open(source))
    found = resolve_rhythm(rhythm)
    target: Rhythm | Recording
    if found.is_midi:
        target = read_midi(found.path, drum_map=drum_map)
    else:
        target = files.enter_context(Recording.open(found.path))
    output = output or default_place(OUT_FOLDER / f"{recording.name}_{found.name}.wav")
    return Work(source=recording, rhythm=target, output=output, inputs=(source, found.path))


def default_place(path: Path) -> Path:
    """Return a place under OUT_FOLDER, for what the user named no place for.

    Raises:
        OutputError: a folder on the way is a link: whose choice it is nobody can know.
    """
    for folder in path.parents:
        if is_link(folder):
            raise OutputError(
                f"{folder} is a link, which is not followed unasked",
                hint="name the folder that it leads to, with -o or --out",
            )
    return path


def check_preset(preset: str, engine: str) -> None:
    """Raise CheckpointError for a preset that is not there, or lacks what an engine needs."""
    from transform.presets import load_preset

    found = load_preset(preset)
    if engine == "latent":
        from transform.latent import check_models

        check_models(found)


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
