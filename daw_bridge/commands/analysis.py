"""The commands that take recordings apart: `separate` and `extract`."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import transform
from daw_bridge.commands.options import (
    BitDepth,
    Compute,
    DryRun,
    Existing,
    Preset,
    check_bit_depth,
    class_list,
    hint_on_existing,
    option,
    option_groups,
)
from daw_bridge.commands.reporting import Console, print_json, print_table
from daw_bridge.render_job import (
    OUT_FOLDER,
    default_place,
    identity,
    is_same_file,
)
from daw_bridge.take_report import Report, count_events, depth_of, form_of
from transform.errors import AudioError, CheckpointError, ExistsError, SettingsError
from transform.names import existing_path, name_after

if TYPE_CHECKING:
    from transform.audio import Progress
    from transform.listening import Listening

STEMS_FOLDER = OUT_FOLDER / "stems"


@option_groups()
def separate(
    audio: Annotated[list[str], typer.Argument(metavar="AUDIO...", help="The drum recordings.")],
    out: Annotated[
        Path, option("DIR", "Where each recording gets a folder of its name.", True, "-o", "--out")
    ] = STEMS_FOLDER,
    classes: Annotated[str | None, option("KD,SD", "Write the stems of these classes only.", "all")] = None,
    preset: Preset = "default",
    *,
    compute: Compute,
    bit_depth: BitDepth = None,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw the stems: DIR/NAME/NAME.png.")] = False,
    existing: Existing,
    dry_run: DryRun = False,
    console: Console,
) -> None:
    """Take drum recordings apart into stems that add up to them.

    The stems of NAME.wav are DIR/NAME/NAME_KD.wav (kick), _SD (snare), _TT (toms), _HH (hi-hats) and _CY
    (cymbals), as long as the recording, in its sample rate, channels and bit depth.
    """
    check_bit_depth(bit_depth)
    drum_classes = class_list(classes)
    if out == STEMS_FOLDER:
        default_place(out / "-")
    tasks = []
    for path in (existing_path(Path(text)) for text in audio):
        folder = out / name_after(path.stem, "")
        task = _Separation(
            audio=path,
            stems={name: folder / f"{path.stem}_{name}.wav" for name in drum_classes},
            plot=folder / f"{path.stem}.png" if plot else None,
            bit_depth=bit_depth,
            overwrite=existing.overwrite,
        )
        tasks.append(task)
    _check_separations(tasks)
    redrummer = compute.load(preset)
    if redrummer.separator is None:
        raise CheckpointError(
            f"preset {preset} has no separator", hint="`redrum presets list` says what each preset holds"
        )
    n_failed = 0
    for task in tasks:
        try:
            if existing.skip_existing and all(path.exists() for path in task.outputs):
                report = task.about() | {"skipped": True}
            elif dry_run:
                task.check()
                report = task.about() | {"dry_run": True}
            else:
                with console.progress() as progress:
                    report = task.run(redrummer, progress)
        except Exception as err:  # one failing recording does not stop the others
            if isinstance(err, ExistsError):
                err.hint = hint_on_existing(err.path, ("out", "overwrite", "skip_existing"), {})
            console.print_failure({"audio": str(task.audio)}, err)
            n_failed += 1
        else:
            _print_separation(report, console)
    if n_failed:
        raise typer.Exit(1)


@option_groups()
def extract(
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="The drum recording.")],
    out: Annotated[
        Path | None,
        option("KITDIR", "The kit: a new folder, or an empty one.", "redrummed/kits/AUDIO", "-o", "--out"),
    ] = None,
    preset: Preset = "default",
    *,
    compute: Compute,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a kit that was extracted before.")
    ] = False,
    console: Console,
) -> None:
    """Save the hits of a drum recording as one-shots and .sfz.

    KITDIR gets KD_1.wav, KD_2.wav, ... by class and rising level, in the sample rate, channels and bit depth of
    the recording, and AUDIO.sfz on General MIDI keys.
    """
    from transform.one_shots import check_kit_folder

    place = existing_path(Path(audio))
    out = out or default_place(OUT_FOLDER / "kits" / name_after(place.stem, ""))
    with transform.Recording.open(place) as recording:
        if is_same_file(place.parent, out):
            raise SettingsError(
                f"{audio} is an input, which is never replaced", hint="choose another folder for the kit"
            )
        check_kit_folder(out, overwrite=overwrite)
        redrummer = compute.load(preset)
        with console.progress() as progress:
            report = {"audio": audio} | _extracted(redrummer, recording, out, overwrite, progress)
    if console.as_json:
        print_json(report)
    elif not console.quiet:
        _print_kit(report, console)


@dataclass(frozen=True, kw_only=True)
class _Separation:
    """A recording to take apart, and where its stems go."""

    audio: Path
    stems: dict[str, Path]
    plot: Path | None
    bit_depth: str | None
    overwrite: bool

    @property
    def outputs(self) -> list[Path]:
        """All that is written."""
        return [*self.stems.values(), *filter(None, [self.plot])]

    def about(self) -> Report:
        """Return the report before the separation."""
        return {"audio": str(self.audio), "output": str(next(iter(self.stems.values())).parent)}

    def check(self) -> None:
        """Raise an error now for a recording that cannot be read or a stem that could not be written."""
        from transform.files import check_output

        transform.Recording.open(self.audio).close()
        for path in self.outputs:
            check_output(path, overwrite=self.overwrite)

    def run(self, redrummer: "transform.Redrummer", progress: "Progress | None") -> Report:
        """Write the stems and their picture, and return the report of them."""
        from transform.stem_files import write_stems

        began_s = time.perf_counter()
        self.check()
        with transform.Recording.open(self.audio) as recording:
            detected = redrummer.listen(recording, progress=progress)
            assert detected.stems is not None
            confidence, notes = _drum_confidence(detected)
            written = write_stems(
                recording,
                detected.stems,
                self.stems,
                bit_depth=self.bit_depth,
                overwrite=self.overwrite,
                progress=progress,
            )
            if self.plot:
                from transform.pictures import plot_stems

                plot_stems(self.plot, recording, detected.stems, detected.events, overwrite=self.overwrite)
            stems = {
                c: {
                    "file": str(path),
                    "level_db": round(written.level_db[c], 2),
                    "peak_db": round(written.peak_db[c], 2),
                }
                for c, path in self.stems.items()
            }
            return self.about() | {
                "stems": stems,
                "plot": str(self.plot) if self.plot else None,
                "duration_s": round(recording.duration_s, 6),
                "sample_rate": recording.sample_rate,
                "channels": recording.n_channels,
                "bit_depth": depth_of(written.subtype),
                "gain_db": round(written.gain_db, 3),
                "drum_confidence": confidence,
                "notes": [*notes, *written.notes],
                "events": count_events(detected.events),
                "seconds": round(time.perf_counter() - began_s, 3),
            }


def _check_separations(tasks: Sequence[_Separation]) -> None:
    """Raise an error for a recording given twice, two of one name, or a stem in the place of a recording."""
    inputs: dict[object, Path] = {}
    folders: dict[str, Path] = {}
    for task in tasks:
        if identity(task.audio) in inputs:
            raise SettingsError(f"{task.audio} is given twice", hint="name each recording once")
        inputs[identity(task.audio)] = task.audio
        folder = str(task.about()["output"])
        other = folders.setdefault(os.path.normcase(folder), task.audio)
        if other != task.audio:
            raise SettingsError(
                f"the stems of {other} and {task.audio} would both go to {folder}",
                hint="separate them one by one, each with an --out of its own",
            )
    for path in (path for task in tasks for path in task.outputs):
        if identity(path) in inputs:
            raise SettingsError(
                f"{path} is an input, which is never replaced", hint="choose another folder with --out"
            )


def _extracted(
    redrummer: "transform.Redrummer",
    recording: "transform.Recording",
    out: Path,
    overwrite: bool,
    progress: "Progress | None",
) -> Report:
    """Save a recording's hits as a kit, and return the report of it."""
    from transform.bank import Bank
    from transform.events import CLASS_NAMES
    from transform.one_shots import missing_classes, save_kit
    from transform.peaks import clipping_notes

    began_s = time.perf_counter()
    detected = redrummer.listen(recording, progress=progress)
    if progress:
        progress("extract", 0.0)
    bank = Bank.of_recording(recording, detected.events, detected.stems)
    if not bank.sets:
        raise nothing_detected(recording)
    confidence, notes = _drum_confidence(detected)
    kit = save_kit(bank, out, fmt=recording.format, name=recording.name, overwrite=overwrite)
    notes += [f"no {CLASS_NAMES[c]} sounds alone: there is none in the kit" for c in missing_classes(bank)]
    notes += clipping_notes([], kit.gain_db)
    return {
        "output": str(out),
        "sfz": str(out / kit.sfz),
        "duration_s": round(recording.duration_s, 6),
        "sample_rate": kit.sample_rate,
        "channels": kit.n_channels,
        "bit_depth": depth_of(kit.subtype),
        "gain_db": kit.gain_db,
        "drum_confidence": confidence,
        "notes": notes,
        "one_shots": [one_shot.to_json() for one_shot in kit.one_shots],
        "seconds": round(time.perf_counter() - began_s, 3),
    }


def _drum_confidence(detected: "Listening") -> tuple[float | None, list[str]]:
    """Return how sure it is that a recording is drums, None without any hit, and notes on it for the user."""
    from transform.transcriber import doubts, drum_confidence

    recording = detected.recording
    if not detected.events:
        return None, [f"no drum hits are detected in {recording.name}"]
    confidence = drum_confidence(recording)
    return round(confidence, 3), list(doubts(recording.name, confidence))


def nothing_detected(recording: "transform.Recording") -> AudioError:
    """Return the error on a recording without drums."""
    return AudioError(
        f"no drum hits are detected in {recording.name}",
        hint="give a drum recording, at a level where its hits stand out",
    )


def _print_separation(report: Report, console: Console) -> None:
    if not console.is_reported(report, f"would hold the stems of {report['audio']}"):
        console.echo(f"{report['output']}: {report['duration_s']:.2f} s, {form_of(report)}")
        for drum_class, stem in report["stems"].items():
            level = f"{stem['level_db']:.1f} dB" if stem["peak_db"] > -120 else "silent"
            console.echo(f"  {drum_class} {level:>9}  {stem['file']}")
        console.print_notes(report)


def _print_kit(report: Report, console: Console) -> None:
    from transform.one_shots import kind_in_words

    one_shots = report["one_shots"]
    n = f"{len(one_shots)} one-shot{'s' * (len(one_shots) != 1)}"
    typer.echo(f"{report['output']}: {n}, {form_of(report)}, and {Path(report['sfz']).name}\n")
    rows = [("FILE", "CLASS", "LEVEL", "LENGTH", "AT")]
    for one in one_shots:
        kind = kind_in_words(one["class"], one["articulation"])
        figures = f"{one['level_db']:.1f} dB", f"{one['length_s']:.2f} s", f"{one['source_s']:.3f} s"
        rows.append((one["file"], kind, *figures))
    print_table(rows)
    console.print_notes(report)
