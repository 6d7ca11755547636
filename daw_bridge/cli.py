"""The command `redrum`. Nothing else in the project prints or exits.

Results go to stdout; errors, log lines and progress bars go to stderr. Heavy modules are imported inside the
commands, so that `redrum --help` answers at once.
"""

import json
import logging
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from transform.errors import (
    AudioError,
    CheckpointError,
    DeviceError,
    RedrumError,
    RhythmError,
    SettingsError,
)

if TYPE_CHECKING:
    from transform.audio import Recording
    from transform.engine import Redrummer, RenderSettings
    from transform.events import DrumEvent, Rhythm
    from transform.separator import StemReader

SCHEMA = 1  # of the objects that --json prints
OUT_FOLDER = Path("redrummed")
STEMS_FOLDER = OUT_FOLDER / "stems"
BENCH_FOLDER = OUT_FOLDER / "bench"
# A rhythm of another style for each demo recording. Not rock-drive-135 for the rock loop: both are cut from one
# performance, so that nothing would change.
DEMO_RHYTHMS = {
    "acoustic-rock-135bpm": "hip-hop-bounce-140",
    "electronic-breakbeat-124bpm": "disco-open-hats-118",
    "electronic-half-time-140bpm": "uk-garage-two-step-132",
}
_PACKAGES = ("transform", "daw_bridge", "training")
_UsageError: type[Any] = typer.BadParameter.__mro__[1]  # Typer exports only this child of it
_log = logging.getLogger(__name__)

Show = Callable[[str, float], None]


class _Redrum(TyperGroup):
    """Turns errors into one sentence, the next step and the exit code; with --json also into an object."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self._in_json = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RedrumError as err:
            no_hint = f"see redrum {ctx.invoked_subcommand} --help" if err.exit_code == 2 else ""
            self._report(err.message, err.hint or no_hint)
            raise typer.Exit(err.exit_code) from err
        except KeyboardInterrupt as err:
            self._report("interrupted", "no unfinished file is left; run the same command again")
            raise typer.Exit(130) from err
        except _UsageError as err:
            if self._in_json:
                _print_json(
                    {"error": err.format_message(), "hint": f"see redrum {ctx.invoked_subcommand} --help"}
                )
            raise
        except BrokenPipeError:
            raise  # whoever read our output has enough of it
        except OSError as err:
            _log.debug("the cause", exc_info=True)
            what = f"{err.filename}: {err.strerror}" if err.filename else str(err)
            self._report(what, "check the disk, the path and its permissions")
            raise typer.Exit(1) from err

    def _report(self, message: str, hint: str) -> None:
        typer.echo(f"redrum: {message}", err=True)
        if hint:
            typer.echo(f"  {hint}", err=True)
        if self._in_json:
            _print_json({"error": message, "hint": hint})


app = typer.Typer(
    cls=_Redrum,
    rich_markup_mode=None,  # plain help comes quicker, and an error stays one line
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
rhythms_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Rhythms: list, show, add your own."
)
presets_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Presets (trained models): list, show."
)
app.add_typer(rhythms_app, name="rhythms")
app.add_typer(presets_app, name="presets")


def main() -> None:
    """Run the command `redrum`."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files may hold what a console cannot show
            stream.reconfigure(errors="backslashreplace")
    # Whoever stops this process (a DAW, a time limit) shall leave no unfinished file either.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    app(prog_name="redrum")


def _show_version(asked: bool) -> None:
    if asked:
        try:
            typer.echo(f"redrum {version('latent-redrum')}")
        except PackageNotFoundError:
            typer.echo("redrum, not installed")
        raise typer.Exit


@app.callback()
def root(
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Redrum: let a drum recording play another rhythm."""


def _option(metavar: str, text: str, default: str | bool = True, *names: str) -> Any:
    """Return an option with a value; `default` says in words what happens without it."""
    return typer.Option(*names, metavar=metavar, help=text, show_default=default)


Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print what is done and why.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines instead of text.")]
Preset = Annotated[str, _option("NAME|DIR", "The trained models to use.")]
Device = Annotated[str, _option("auto|cpu|cuda|mps", "Where the models run.")]
Plot = Annotated[Path | None, _option("OUT.png", "Also draw what was heard and made.", False)]
Engine = Annotated[
    str | None, _option("resequence|latent", "Replay the source's hits, or let a network play.", "resequence")
]
Length = Annotated[
    str | None, _option("source|rhythm|SECONDS", "Length of the result; a shorter rhythm loops.", "rhythm")
]
Align = Annotated[
    str | None,
    _option("auto|seconds|beats", "auto: in beats where both tempi are known, else in seconds.", "auto"),
]
SourceBpm = Annotated[
    str | None, _option("N|auto", "Tempo of the source; auto estimates it.", "from its tag or name")
]
RhythmBpm = Annotated[
    str | None, _option("N|auto", "Tempo of the rhythm; auto estimates it.", "from MIDI, its tag or name")
]
Start = Annotated[float | None, _option("SECONDS", "Where in the rhythm to begin.", "0")]
Classes = Annotated[str | None, _option("KD,SD", "Redrum only these; the source's other stems play on.", "all")]
Gain = Annotated[list[str] | None, _option("CLASS=DB", "Louder or softer, such as HH=-6; may be repeated.")]
Mix = Annotated[float | None, _option("0..1", "1: the result alone, 0: the source alone.", "1")]
Timing = Annotated[float | None, _option("0..1", "0: on the grid, 1: as played.", "1")]
Velocity = Annotated[
    str | None, _option("rhythm|source|0..1", "Whose dynamics, or one velocity for all.", "rhythm")
]
Tail = Annotated[
    str | None, _option("cut|ring|wrap", "Last hits: end with the result, ring on, or go round a loop.", "cut")
]
Seed = Annotated[int | None, _option("N", "The same seed gives the same bytes.", "0")]
Variation = Annotated[float | None, _option("0..10", "How far the latent engine varies the sound.", "0")]
BitDepth = Annotated[str | None, _option("16|24|32|32f", "Bit depth.", "the source's")]
DrumMap = Annotated[
    str, _option("auto|NAME", "Notes of a MIDI rhythm: gm, roland-td, ableton, ezdrummer, addictive.")
]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Do nothing where the result exists.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the inputs, say what would be written.")]


@app.command()
def demo(
    loop: Annotated[
        str, typer.Argument(help="One demo loop; all of them without it.", show_default=False)
    ] = "",
    device: Device = "auto",
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Redrum the shipped loops into redrummed/demo, with a picture of each.

    A second run replaces the files of the first.
    """
    from transform.audio import Recording
    from transform.engine import Redrummer, RenderSettings
    from transform.midi import read_midi
    from transform.presets import demo_recordings, find_rhythm

    _set_up_logging(quiet, verbose)
    loops = demo_recordings()
    chosen = [shipped for shipped in loops if loop in ("", shipped.name)]
    if not chosen:
        names = ", ".join(shipped.name for shipped in loops)
        raise SettingsError(f"there is no demo loop called {loop!r}", hint=f"the demo loops are {names}")
    settings = RenderSettings(align="beats", length="source", tail="wrap")
    redrummer = Redrummer.load(device=_resolve_device(device))
    for shipped in chosen:
        rhythm_name = DEMO_RHYTHMS[shipped.name]
        output = OUT_FOLDER / "demo" / f"{shipped.name}_{rhythm_name}.wav"
        with Recording.open(shipped.path) as source, _progress(quiet) as show:
            work = _Work(
                source=source,
                rhythm=read_midi(find_rhythm(rhythm_name).path),
                output=output,
                plot=output.with_suffix(".png"),
                overwrite=True,
            )
            report = work.done(redrummer, settings, show)
        _print_report({"source": str(shipped.path), "rhythm": rhythm_name} | report, as_json, quiet)
    if not (as_json or quiet):
        typer.echo(f"Listen to them in {(OUT_FOLDER / 'demo').absolute()}")


@app.command()
def render(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="The drum recording.")],
    rhythm: Annotated[
        str, _option("RHYTHM", "What to play: a MIDI file, a recording or a name of `rhythms list`.", False)
    ],
    output: Annotated[
        Path | None,
        _option(
            "OUT.wav", "The result: WAV, FLAC, AIFF, CAF, W64.", "redrummed/SOURCE_RHYTHM.wav", "-o", "--output"
        ),
    ] = None,
    engine: Engine = None,
    preset: Preset = "default",
    length: Length = None,
    align: Align = None,
    source_bpm: SourceBpm = None,
    rhythm_bpm: RhythmBpm = None,
    start: Start = None,
    classes: Classes = None,
    gain: Gain = None,
    mix: Mix = None,
    timing: Timing = None,
    velocity: Velocity = None,
    tail: Tail = None,
    seed: Seed = None,
    variation: Variation = None,
    device: Device = "auto",
    bit_depth: BitDepth = None,
    drum_map: DrumMap = "auto",
    plot: Plot = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Let a drum recording play another rhythm."""
    _set_up_logging(quiet, verbose)
    if overwrite and skip_existing:
        raise SettingsError("--overwrite and --skip-existing contradict each other", hint="give one of them")
    given: dict[str, Any] = {
        "engine": engine,
        "length": _word_or_number("--length", length, ("source", "rhythm")),
        "align": align,
        "source_bpm": _word_or_number("--source-bpm", source_bpm, ("auto",)),
        "rhythm_bpm": _word_or_number("--rhythm-bpm", rhythm_bpm, ("auto",)),
        "start_s": start,
        "classes": None if classes is None else tuple(c.strip().upper() for c in classes.split(",")),
        "gain_db": dict(map(_class_gain, gain or ())),
        "mix": mix,
        "timing": timing,
        "velocity": _word_or_number("--velocity", velocity, ("rhythm", "source")),
        "tail": tail,
        "seed": seed,
        "variation": variation,
    }
    with ExitStack() as files:
        work = _open_work(files, Path(source), rhythm, drum_map, output)
        work = replace(work, plot=plot, overwrite=overwrite, bit_depth=bit_depth)
        report: dict[str, object] = {"source": source, "rhythm": rhythm, "output": str(work.output)}
        if skip_existing and work.output.exists():
            _print_report(report | {"skipped": True}, as_json, quiet)
            return
        work.check()

        from transform.engine import Redrummer, RenderSettings
        from transform.presets import load_preset

        # What was not given keeps the default that RenderSettings states.
        settings = RenderSettings(**{name: value for name, value in given.items() if value is not None})
        if dry_run:
            load_preset(preset)
            _print_report(report | {"engine": settings.engine, "dry_run": True}, as_json, quiet)
            return
        redrummer = Redrummer.load(preset, device=_resolve_device(device))
        with _progress(quiet) as show:
            report |= work.done(redrummer, settings, show)
    _print_report(report, as_json, quiet)


@app.command()
def transcribe(
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="The drum recording.")],
    output: Annotated[
        Path | None, _option("OUT.mid", "The MIDI file.", "redrummed/AUDIO.mid", "-o", "--output")
    ] = None,
    plot: Plot = None,
    preset: Preset = "default",
    device: Device = "auto",
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the hits of a drum recording as General MIDI: five classes, with velocities."""
    from transform.audio import Recording, write_bytes_atomic

    _set_up_logging(quiet, verbose)
    with Recording.open(Path(audio)) as recording:
        output = output or OUT_FOLDER / f"{recording.name}.mid"
        _check_ending(output, (".mid", ".midi"))
        _check_ending(plot, (".png",))
        _check_outputs([output, plot], [Path(audio)], overwrite=overwrite)

        from transform.engine import Redrummer
        from transform.midi import write_midi

        redrummer = Redrummer.load(preset, device=_resolve_device(device))
        began_s = time.perf_counter()
        heard = _heard(redrummer, recording)
        write_bytes_atomic(output, write_midi(heard), overwrite=overwrite)
        if plot:
            from transform.pictures import opening, plot_transcription

            activations = redrummer.transcriber.activations(opening(recording))
            plot_transcription(plot, recording, activations, heard.events, overwrite=overwrite)
        seconds = time.perf_counter() - began_s
    if as_json:
        report = {
            "audio": audio,
            "output": str(output),
            "plot": str(plot) if plot else None,
            "duration_s": round(heard.length_s, 6),
            "bpm": heard.bpm,
            "counts": _counts(heard.events),
            "events": [_event(event) for event in heard.events],
            "seconds": round(seconds, 3),
        }
        _print_json(report)
    elif not quiet:
        counts = ", ".join(f"{n} {name}" for name, n in _counts(heard.events).items() if n)
        typer.echo(f"{output}: {len(heard.events)} hits ({counts}) in {heard.length_s:.2f} s")
        if plot:
            typer.echo(f"  picture: {plot}")


@app.command()
def separate(
    audio: Annotated[list[str], typer.Argument(metavar="AUDIO...", help="The drum recordings.")],
    out: Annotated[Path, _option("DIR", "Where each recording gets a folder of its name.")] = STEMS_FOLDER,
    classes: Annotated[str | None, _option("KD,SD", "Write the stems of these classes only.", "all")] = None,
    preset: Preset = "default",
    device: Device = "auto",
    bit_depth: BitDepth = None,
    plot: Annotated[bool, typer.Option("--plot", help="Also draw the stems: DIR/NAME/NAME.png.")] = False,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    dry_run: DryRun = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Take drum recordings apart into stems that add up to them.

    The stems of NAME.wav are DIR/NAME/NAME_KD.wav (kick), _SD (snare), _TT (toms), _HH (hi-hats) and _CY
    (cymbals), as long as the recording, in its sample rate, channels and bit depth.
    """
    _set_up_logging(quiet, verbose)
    if overwrite and skip_existing:
        raise SettingsError("--overwrite and --skip-existing contradict each other", hint="give one of them")
    _check_bit_depth(bit_depth)
    wanted = _class_list(classes)
    tasks = [
        _Separation.of(path, out, wanted, plot=plot, bit_depth=bit_depth, overwrite=overwrite) for path in audio
    ]
    _check_separations(tasks)

    from transform.engine import Redrummer

    redrummer = Redrummer.load(preset, device=_resolve_device(device))
    if redrummer.separator is None:
        raise CheckpointError(
            f"preset {preset} has no separator", hint="`redrum presets list` says what each preset holds"
        )
    n_failed = 0
    for task in tasks:
        try:
            if skip_existing and all(path.exists() for path in task.outputs):
                report = task.about() | {"skipped": True}
            elif dry_run:
                task.check()
                report = task.about() | {"dry_run": True}
            else:
                with _progress(quiet) as show:
                    report = task.done(redrummer, show)
        except Exception as err:  # one failing recording does not stop the others
            _print_failure(task.audio, err, as_json)
            n_failed += 1
        else:
            _print_separation(report, as_json, quiet)
    if n_failed:
        raise typer.Exit(1)


@app.command()
def extract(
    audio: Annotated[str, typer.Argument(metavar="AUDIO", help="The drum recording.")],
    out: Annotated[Path, _option("KITDIR", "The kit: a new folder, or an empty one.", False)],
    preset: Preset = "default",
    device: Device = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a kit that was extracted before.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Save the hits of a drum recording as one-shots, with an .sfz that samplers load.

    KITDIR gets KD_1.wav, KD_2.wav, ... by class and rising level, in the sample rate, channels and bit depth of
    the recording, and AUDIO.sfz on General MIDI keys.
    """
    from transform.audio import Recording
    from transform.one_shots import check_kit_folder

    _set_up_logging(quiet, verbose)
    with Recording.open(Path(audio)) as recording:
        if _is_same_file(Path(audio).parent, out):
            raise SettingsError(
                f"{audio} is an input, which is never replaced", hint="choose another folder for the kit"
            )
        check_kit_folder(out, overwrite=overwrite)

        from transform.engine import Redrummer

        redrummer = Redrummer.load(preset, device=_resolve_device(device))
        with _progress(quiet) as show:
            report = {"audio": audio} | _extracted(redrummer, recording, out, overwrite, show)
    if as_json:
        _print_json(report)
    elif not quiet:
        _print_kit(report)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def train(ctx: typer.Context) -> None:
    """Train models on your own sounds; `redrum train --help` lists the stages."""
    from training.__main__ import app as training_app

    training_app(args=ctx.args, prog_name="redrum train")


@app.command()
def bench(
    data: Annotated[Path, _option("PACK", "A folder that `redrum train pack` made.")] = Path("runs/pack"),
    items: Annotated[int | None, _option("N", "Pairs; a tenth as many real loops play, too.", "200")] = None,
    out: Annotated[Path, _option("DIR", "Where bench.json, the tables and the picture go.")] = BENCH_FOLDER,
    preset: Preset = "default",
    seed: Annotated[int | None, _option("N", "Another seed is other items.", "0")] = None,
    speed: Annotated[bool, typer.Option("--speed", help="Measure only how fast it is.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew; else a stopped run goes on.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure a preset on held-out kits and rhythms, against the exact answers."""
    _set_up_logging(quiet, verbose)
    if speed:
        from training.bench_speed import measure_speed, write_speed

        with _progress(quiet) as show:
            result = measure_speed(preset, progress=show)
        written = write_speed(result, out)
    else:
        from training.benchmark import BenchSettings, run_benchmark
        from training.benchmark_report import write_report

        given: dict[str, Any] = {"preset": preset}
        if items is not None:
            given |= {"n_pairs": items, "n_loops": -(-items // 10)}
        if seed is not None:
            given["seed"] = seed
        with _progress(quiet) as show:
            result = run_benchmark(data, out, BenchSettings(**given), overwrite=overwrite, progress=show)
        written = write_report(result, out)
    if as_json:
        for row in result["rows"]:
            _print_json(row)
    elif not quiet:
        typer.echo(written[0].read_text(encoding="utf-8").partition("## What the columns mean")[0].rstrip())
        typer.echo(f"\nwritten: {', '.join(map(str, written))}")


@rhythms_app.command("list")
def list_all_rhythms(as_json: Json = False) -> None:
    """List the shipped rhythms and your own."""
    from transform.presets import list_rhythms

    found = list_rhythms()
    if as_json:
        for info in found:
            entry = {"name": info.name, "bpm": info.bpm, "beats": info.beats}
            _print_json(entry | {"style": info.style, "licence": info.licence})
        return
    rows = [("NAME", "BPM", "BEATS", "STYLE", "LICENCE")]
    rows += [(i.name, f"{i.bpm:g}", f"{i.beats:g}", i.style, i.licence or "-") for i in found]
    _print_table(rows)


@rhythms_app.command("show")
def show_rhythm(name: Annotated[str, typer.Argument(help="A name of `rhythms list`.")]) -> None:
    """Draw a rhythm as a drum grid and say where it comes from."""
    from transform.midi import read_midi
    from transform.presets import find_rhythm

    info = find_rhythm(name)
    typer.echo(f"{info.name}: {info.style}, {info.bpm:g} BPM, {info.beats:g} beats\n")
    for line in _grid(read_midi(info.path)):
        typer.echo(line)
    for label in ("author", "source", "changes", "licence"):
        if text := asdict(info)[label]:
            typer.echo(f"{label + ':':<9}{text}")
    typer.echo(f"file:    {info.path}")


@rhythms_app.command("add")
def add_own_rhythm(
    path: Annotated[Path, typer.Argument(metavar="FILE.mid", help="A MIDI file with drums.")],
    name: Annotated[str, typer.Option(help="Its name.", show_default="made from the file's")] = "",
) -> None:
    """Add a MIDI file to your own rhythms."""
    from transform.presets import add_rhythm

    if not path.is_file():
        raise RhythmError(f"{path} does not exist", hint="check the spelling and the current folder")
    added = add_rhythm(path, name)
    typer.echo(f"{added.name}: {added.bpm:g} BPM, {added.beats:g} beats, in {added.path}")


@presets_app.command("list")
def list_all_presets(as_json: Json = False) -> None:
    """List the shipped presets."""
    from transform.presets import list_presets, load_preset

    found = [load_preset(name) for name in list_presets()]
    if as_json:
        for preset in found:
            models = {name: model.n_parameters for name, model in preset.models.items()}
            _print_json({"name": preset.name, "configuration": preset.configuration, "models": models})
        return
    rows = [("NAME", "CONFIGURATION", "MODELS (PARAMETERS)")]
    for preset in found:
        models_text = ", ".join(f"{name} ({model.n_parameters:,})" for name, model in preset.models.items())
        rows.append((preset.name, preset.configuration, models_text))
    _print_table(rows)


@presets_app.command("show")
def show_preset(name: Annotated[str, typer.Argument(metavar="NAME|DIR")] = "default") -> None:
    """Print the model card of a preset: its data, licences, scores and limits."""
    from transform.presets import load_preset

    card = load_preset(name).folder / "CARD.md"
    if not card.is_file():
        raise CheckpointError(f"{card} is missing", hint="get the preset again")
    typer.echo(card.read_text(encoding="utf-8"), nl=False)


@dataclass(frozen=True, kw_only=True)
class _Work:
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
        _check_ending(self.plot, (".png",))
        _check_outputs([self.output, self.plot], self.inputs, overwrite=self.overwrite)

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
            "bit_depth": _depth(subtype),
            "gain_db": round(take.gain_db, 3),
            "notes": list(take.notes),
            "events": _counts(take.rhythm.events),
            "seconds": round(time.perf_counter() - began_s, 3),
        }


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """What the models of a preset hear in a recording."""

    events: "list[DrumEvent]"
    stems: "StemReader | None"  # None for a preset without a separator
    confidence: float | None  # that it is drums; None where no hit is heard
    notes: tuple[str, ...]

    @classmethod
    def of(cls, redrummer: "Redrummer", recording: "Recording") -> "_Heard":
        from transform.transcriber import doubts, drum_confidence

        activations = redrummer.transcriber.activations(recording)
        events = redrummer.transcriber.events(activations)
        stems = redrummer.separator.open(recording, activations) if redrummer.separator else None
        if not events:
            nothing = f"no drum hits are heard in {recording.name}"
            return cls(events=[], stems=stems, confidence=None, notes=(nothing,))
        confidence = drum_confidence(recording)
        notes = doubts(recording.name, confidence)
        return cls(events=events, stems=stems, confidence=round(confidence, 3), notes=notes)


@dataclass(frozen=True, kw_only=True)
class _Separation:
    """A recording to take apart, and where its stems go."""

    audio: Path
    stems: dict[str, Path]
    plot: Path | None
    bit_depth: str | None
    overwrite: bool

    @classmethod
    def of(cls, audio: str, out: Path, classes: Sequence[str], *, plot: bool, **options: Any) -> "_Separation":
        path = Path(audio)
        folder = out / path.stem
        stems = {drum_class: folder / f"{path.stem}_{drum_class}.wav" for drum_class in classes}
        return cls(audio=path, stems=stems, plot=folder / f"{path.stem}.png" if plot else None, **options)

    @property
    def outputs(self) -> list[Path]:
        """All that is written."""
        return [*self.stems.values(), *filter(None, [self.plot])]

    def about(self) -> dict[str, Any]:
        """Return what is known before the work."""
        return {"audio": str(self.audio), "output": str(next(iter(self.stems.values())).parent)}

    def check(self) -> None:
        """Raise an error now for a recording that cannot be read or a stem that could not be written."""
        from transform.audio import Recording, check_output

        Recording.open(self.audio).close()
        for path in self.outputs:
            check_output(path, overwrite=self.overwrite)

    def done(self, redrummer: "Redrummer", show: Show | None) -> dict[str, Any]:
        """Write the stems and their picture, and return the report of it."""
        from transform.audio import Recording
        from transform.stem_files import write_stems

        began_s = time.perf_counter()
        self.check()
        with Recording.open(self.audio) as recording:
            if show:
                show("transcribe", 0.0)
            heard = _Heard.of(redrummer, recording)
            assert heard.stems is not None
            written = write_stems(
                recording,
                heard.stems,
                self.stems,
                bit_depth=self.bit_depth,
                overwrite=self.overwrite,
                progress=show,
            )
            if self.plot:
                from transform.pictures import plot_stems

                plot_stems(self.plot, recording, heard.stems, heard.events, overwrite=self.overwrite)
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
                "bit_depth": _depth(written.subtype),
                "gain_db": round(written.gain_db, 3),
                "drum_confidence": heard.confidence,
                "notes": [*heard.notes, *written.notes],
                "events": _counts(heard.events),
                "seconds": round(time.perf_counter() - began_s, 3),
            }


def _extracted(
    redrummer: "Redrummer", recording: "Recording", out: Path, overwrite: bool, show: Show | None
) -> dict[str, Any]:
    """Save a recording's hits as a kit, and return the report of it."""
    from transform.bank import Bank
    from transform.events import CLASS_NAMES
    from transform.one_shots import missing_classes, save_kit

    began_s = time.perf_counter()
    tell = show or (lambda stage, share: None)
    tell("transcribe", 0.0)
    heard = _Heard.of(redrummer, recording)
    tell("extract", 0.0)
    bank = Bank.of_recording(recording, heard.events, heard.stems)
    if not bank.sets:
        raise _nothing_heard(recording)
    kit = save_kit(bank, out, fmt=recording.format, name=recording.name, overwrite=overwrite)
    notes = list(heard.notes)
    notes += [f"no {CLASS_NAMES[c]} is heard alone: there is none in the kit" for c in missing_classes(bank)]
    if kit.gain_db < 0:
        notes.append(f"turned down by {-kit.gain_db:.2f} dB so that nothing clips")
    return {
        "output": str(out),
        "sfz": str(out / kit.sfz),
        "duration_s": round(recording.duration_s, 6),
        "sample_rate": kit.sample_rate,
        "channels": kit.n_channels,
        "bit_depth": _depth(kit.subtype),
        "gain_db": kit.gain_db,
        "drum_confidence": heard.confidence,
        "notes": notes,
        "one_shots": [one_shot.to_json() for one_shot in kit.one_shots],
        "seconds": round(time.perf_counter() - began_s, 3),
    }


def _check_separations(tasks: Sequence[_Separation]) -> None:
    """Raise an error for a recording given twice, two of one name, or a stem in the place of a recording."""
    inputs: dict[object, Path] = {}
    folders: dict[str, Path] = {}
    for task in tasks:
        if _identity(task.audio) in inputs:
            raise SettingsError(f"{task.audio} is given twice", hint="name each recording once")
        inputs[_identity(task.audio)] = task.audio
        folder = str(task.about()["output"])
        other = folders.setdefault(os.path.normcase(folder), task.audio)
        if other != task.audio:
            raise SettingsError(
                f"the stems of {other} and {task.audio} would both go to {folder}",
                hint="separate them one by one, each with an --out of its own",
            )
    for path in (path for task in tasks for path in task.outputs):
        if _identity(path) in inputs:
            raise SettingsError(
                f"{path} is an input, which is never replaced", hint="choose another folder with --out"
            )


def _identity(path: Path) -> object:
    """Return what is the same for two paths to one file."""
    try:
        found = path.stat()
    except OSError:
        return os.path.realpath(path)
    return found.st_dev, found.st_ino


def _nothing_heard(recording: "Recording") -> AudioError:
    return AudioError(
        f"no drum hits are heard in {recording.name}",
        hint="give a drum recording, at a level where its hits stand out",
    )


def _heard(redrummer: "Redrummer", recording: "Recording") -> "Rhythm":
    """Return what a recording plays, at the tempo that it states."""
    from transform.events import Rhythm, TempoMap

    events = [event for event in redrummer.transcribe(recording) if event.onset_s < recording.duration_s]
    if not events:
        raise _nothing_heard(recording)
    tempo = recording.tempo_bpm()
    tempo_map = TempoMap.constant(tempo[0]) if tempo else None
    return Rhythm(tuple(events), recording.duration_s, tempo_map, recording.name)


def _open_work(files: ExitStack, source: Path, rhythm: str, drum_map: str, output: Path | None) -> _Work:
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
    output = output or OUT_FOLDER / f"{recording.name}_{found.name}.wav"
    return _Work(source=recording, rhythm=target, output=output, inputs=(source, found.path))


def _check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path], *, overwrite: bool) -> None:
    """Raise an error for a result that cannot be written, or that would replace an input or another result."""
    from transform.audio import check_output

    taken = {path: "an input, which is never replaced" for path in inputs}
    for path in filter(None, outputs):
        for other, what in taken.items():
            if _is_same_file(path, other):
                raise SettingsError(f"{path} is {what}", hint="choose another name for the result")
        taken[path] = "the name of another result"
        check_output(path, overwrite=overwrite)


def _check_ending(path: Path | None, endings: tuple[str, ...]) -> None:
    if path is not None and path.suffix.lower() not in endings:
        raise SettingsError(f"the name of {path} must end in {' or '.join(endings)}", hint=f"add {endings[0]}")


def _is_same_file(path: Path, other: Path) -> bool:
    if path.exists() and other.exists():
        return path.samefile(other)
    return os.path.abspath(path) == os.path.abspath(other)


def _word_or_number(option: str, text: str | None, words: tuple[str, ...]) -> str | float | None:
    if text is None or text in words:
        return text
    try:
        return float(text)
    except ValueError as err:
        known = " or ".join([*words, "a number"])
        raise SettingsError(
            f"{option} is {text!r}; it must be {known}", hint="see redrum render --help"
        ) from err


def _class_list(text: str | None) -> tuple[str, ...]:
    """Return the classes that an option names, in their usual order; all without it."""
    from transform.events import CLASSES

    if text is None:
        return CLASSES
    names = [name.strip().upper() for name in text.split(",")]
    for name in names:
        if name not in CLASSES:
            raise SettingsError(f"{name!r} is no drum class", hint=f"classes: {', '.join(CLASSES)}")
    return tuple(drum_class for drum_class in CLASSES if drum_class in names)


def _check_bit_depth(bit_depth: str | None) -> None:
    """Raise SettingsError for a bit depth that no WAV file has."""
    from transform.audio import AudioFormat, resolve_output

    any_format = AudioFormat(sample_rate=44_100, n_channels=1, subtype="PCM_16")
    resolve_output(Path("any.wav"), any_format, bit_depth)


def _class_gain(text: str) -> tuple[str, float]:
    name, _, gain = text.partition("=")
    try:
        return name.strip().upper(), float(gain)
    except ValueError as err:
        raise SettingsError(
            f"--gain is {text!r}; it must be CLASS=DB", hint="for example --gain HH=-6"
        ) from err


def _resolve_device(name: str) -> str:
    """Return the device that a name stands for, after checking that it is there."""
    if name not in ("auto", "cpu", "cuda", "mps"):
        raise SettingsError(f"--device is {name!r}", hint="the devices are auto, cpu, cuda and mps")
    if name == "cpu":
        return name
    import torch

    if name == "auto":  # never mps: these models have not been run there
        return "cuda" if torch.cuda.is_available() else "cpu"
    is_there = torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()
    if not is_there:
        raise DeviceError(f"PyTorch finds no {name} device on this machine", hint="use --device auto")
    return name


class _ToStderr(logging.Handler):
    """Writes to the stderr of the moment: a progress bar lets what it prints pass above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        typer.echo(self.format(record), err=True)


def _set_up_logging(quiet: bool, verbose: bool) -> None:
    if quiet and verbose:
        raise SettingsError("-q and -v contradict each other", hint="give one of them")
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.WARNING
    for package in _PACKAGES:
        logger = logging.getLogger(package)
        logger.setLevel(level)
        if not any(isinstance(handler, _ToStderr) for handler in logger.handlers):
            handler = _ToStderr()
            handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
            logger.addHandler(handler)


@contextmanager
def _progress(quiet: bool) -> Iterator[Show | None]:
    """Yield what draws progress bars on stderr, None where there is no terminal or nobody wants them."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import Progress, TaskID

    with Progress(console=Console(stderr=True), transient=True) as bars:
        stages: dict[str, TaskID] = {}

        def show(stage: str, share: float) -> None:
            if stage not in stages:
                for begun in stages.values():  # one stage follows the other
                    bars.update(begun, completed=1.0)
                stages[stage] = bars.add_task(stage, total=1.0)
            bars.update(stages[stage], completed=share)

        yield show


def _counts(events: Iterable["DrumEvent"]) -> dict[str, int]:
    from transform.events import CLASSES

    counts = Counter(event.drum_class for event in events)
    return {name: counts[name] for name in CLASSES}


def _event(event: "DrumEvent") -> dict[str, object]:
    return {
        "onset_s": round(event.onset_s, 5),
        "class": event.drum_class,
        "velocity": round(event.velocity, 4),
        "articulation": event.articulation,
    }


def _grid(rhythm: "Rhythm") -> Iterator[str]:
    """Yield a drum grid, two bars a row, in sixteenths, or in eighth triplets where they fit better."""
    from transform.events import CLASS_NAMES, CLASSES

    assert rhythm.tempo_map is not None
    assert rhythm.n_beats is not None
    places = [(rhythm.tempo_map.beats_at(event.onset_s), event) for event in rhythm.events]
    # In steps, not in beats: a coarser grid must not look worse for being coarse.
    steps = min((4, 3), key=lambda n: sum(abs(beat * n - round(beat * n)) for beat, _ in places))
    n_steps, bar = round(rhythm.n_beats * steps), round(rhythm.beats_per_bar * steps)
    loudest: dict[tuple[str, int], float] = {}
    for beat, event in places:
        cell = event.drum_class, round(beat * steps) % n_steps
        loudest[cell] = max(event.velocity, loudest.get(cell, 0.0))

    for row in range(0, n_steps, 2 * bar):
        shown = range(row, min(row + 2 * bar, n_steps))
        counts = [" " if step % bar % steps else str(step % bar // steps + 1)[-1] for step in shown]
        yield _grid_line("", counts, bar)
        for drum_class in reversed(CLASSES):
            marks = [_mark(loudest.get((drum_class, step), 0.0)) for step in shown]
            yield _grid_line(CLASS_NAMES[drum_class], marks, bar)
        yield ""
    yield f"a column is {'a sixteenth' if steps == 4 else 'an eighth triplet'}; o soft, x medium, X loud"
    yield ""


def _grid_line(title: str, cells: Sequence[str], bar: int) -> str:
    bars = ("".join(cells[at : at + bar]) for at in range(0, len(cells), bar))
    return f"{title:<10} |{'|'.join(bars)}|"


def _mark(velocity: float) -> str:
    if velocity == 0:
        return "-"
    return "o" if velocity < 0.4 else "x" if velocity < 0.75 else "X"


def _is_told(report: dict[str, Any], would: str, as_json: bool, quiet: bool) -> bool:
    """Print what needs no details, and return whether all is said."""
    if as_json:
        _print_json(report)
    elif not quiet and report.get("skipped"):
        typer.echo(f"{report['output']}: exists already, skipped")
    elif not quiet and report.get("dry_run"):
        typer.echo(f"{report['output']}: {would}")
    else:
        return quiet
    return True


def _print_report(report: dict[str, Any], as_json: bool, quiet: bool) -> None:
    would = f"would be {report['source']} playing {report['rhythm']}"
    if not _is_told(report, would, as_json, quiet):
        typer.echo(f"{report['output']}: {report['duration_s']:.2f} s, {_form(report)}")
        typer.echo(f"  {report['source']} playing {report['rhythm']}")
        for note in report["notes"]:
            typer.echo(f"  {note}")
        if report["plot"]:
            typer.echo(f"  picture: {report['plot']}")


def _print_separation(report: dict[str, Any], as_json: bool, quiet: bool) -> None:
    if not _is_told(report, f"would hold the stems of {report['audio']}", as_json, quiet):
        typer.echo(f"{report['output']}: {report['duration_s']:.2f} s, {_form(report)}")
        for drum_class, stem in report["stems"].items():
            level = f"{stem['level_db']:.1f} dB" if stem["peak_db"] > -120 else "silent"
            typer.echo(f"  {drum_class} {level:>9}  {stem['file']}")
        for note in report["notes"]:
            typer.echo(f"  {note}")
        if report["plot"]:
            typer.echo(f"  picture: {report['plot']}")


def _print_kit(report: dict[str, Any]) -> None:
    from transform.events import CLASS_NAMES

    one_shots = report["one_shots"]
    n = f"{len(one_shots)} one-shot{'s' * (len(one_shots) != 1)}"
    typer.echo(f"{report['output']}: {n}, {_form(report)}, and {Path(report['sfz']).name}\n")
    rows = [("FILE", "CLASS", "LEVEL", "LENGTH", "AT")]
    for one in one_shots:
        kind = CLASS_NAMES[one["class"]] + ", open" * one["is_open"]
        figures = f"{one['level_db']:.1f} dB", f"{one['length_s']:.2f} s", f"{one['source_s']:.3f} s"
        rows.append((one["file"], kind, *figures))
    _print_table(rows)
    for note in report["notes"]:
        typer.echo(f"  {note}")


def _print_failure(audio: Path, err: Exception, as_json: bool) -> None:
    """Say why a recording among others failed."""
    _log.debug("the cause", exc_info=err)
    if isinstance(err, RedrumError):
        message, hint = err.message, err.hint
    else:
        message, hint = f"{audio}: {err or type(err).__name__}", "-v tells where it failed"
    typer.echo(f"redrum: {message}", err=True)
    if hint:
        typer.echo(f"  {hint}", err=True)
    if as_json:
        _print_json({"audio": str(audio), "error": message, "hint": hint})


def _form(report: dict[str, Any]) -> str:
    """Return the sample rate, channels and bit depth of a result in words."""
    depth = report["bit_depth"]
    channels = {1: "mono", 2: "stereo"}.get(report["channels"], f"{report['channels']} channels")
    return f"{report['sample_rate']} Hz, {channels}, {depth.rstrip('f')} bits{' float' * depth.endswith('f')}"


def _depth(subtype: str) -> str:
    """Return the bit depth of soundfile's name of a sample format, as --bit-depth has it."""
    return {"FLOAT": "32f", "DOUBLE": "64f"}.get(subtype, subtype[-2:].lstrip("SU"))


def _print_json(item: dict[str, Any]) -> None:
    typer.echo(json.dumps({"schema": SCHEMA, **item}))


def _print_table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        typer.echo("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())


if __name__ == "__main__":
    main()
