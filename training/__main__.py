"""The training commands: `python -m training ...`, which `redrum train ...` also runs."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from transform.errors import DeviceError, RedrumError, SettingsError
from transform.terminal import guard_output, one_line

if TYPE_CHECKING:
    from training.data.pack import Pack
    from training.data.split import Split
    from training.train.loop import RunOptions
    from training.train.transcriber import TranscriberTraining
    from transform.presets import Preset


class _Training(TyperGroup):
    """Turns errors into one sentence, the next step and the exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except RedrumError as err:
            self._report(err.message, err.hint)
            raise typer.Exit(err.exit_code) from err
        except KeyboardInterrupt as err:
            self._report("interrupted", "go on from the last checkpoint with --resume")
            raise typer.Exit(130) from err
        except OSError as err:
            what = f"{err.filename}: {err.strerror}" if err.filename else str(err)
            self._report(what, "check the disk, the path and its permissions")
            raise typer.Exit(1) from err

    def _report(self, message: str, hint: str) -> None:
        typer.echo(f"redrum: {one_line(message)}", err=True)
        if hint:
            typer.echo(f"  {one_line(hint)}", err=True)


app = typer.Typer(
    cls=_Training,
    rich_markup_mode=None,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


_KIT_MINUTES = 20.0  # of fine-tuning, if nothing else is requested
Data = Annotated[Path, typer.Option(metavar="PACKDIR", help="A folder that `pack` made.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where checkpoint, log and curves are written.")]
Begin = Annotated[
    Path | None, typer.Option("--preset", metavar="DIR", help="Begin with its weights, not at random.")
]
BuiltOn = Annotated[Path, typer.Option("--preset", metavar="DIR", help="Its models are built on.")]
WarmStart = Annotated[bool, typer.Option(help="Begin with the weights that the preset has of it.")]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="Of the new preset. [default: the folder's]")]
Scored = Annotated[Path, typer.Option("--preset", metavar="NAME|DIR", help="A preset, or its folder.")]
ScoreSeed = Annotated[int, typer.Option("--seed", metavar="N", help="Another seed is other recordings.")]
Write = Annotated[bool, typer.Option("--write", help="Write the scores into the preset and its card.")]


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """The options that all stages have."""

    resume: Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")] = False
    max_minutes: Annotated[
        float | None, typer.Option(metavar="N", help="Stop with a checkpoint after this time.")
    ] = None
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto"
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write its weights (fp16) there, replacing older ones.")
    ] = None
    steps: Annotated[
        int | None, typer.Option(metavar="N", help="Steps of the whole run, over which the rate falls.")
    ] = None
    seed: Annotated[int | None, typer.Option(metavar="N", help="Another seed is another run.")] = None
    batch: Annotated[int | None, typer.Option(metavar="N", help="Recordings in a step.")] = None

    def __post_init__(self) -> None:
        if self.max_minutes is not None and not self.max_minutes > 0:
            raise SettingsError(f"--max-minutes is {self.max_minutes:g}; it must be above 0")

    def settings(self, **more: float | None) -> dict[str, Any]:
        """Return the settings that are given, with `more`; the others have their defaults."""
        given = {"steps": self.steps, "seed": self.seed, "batch": self.batch, **more}
        return {name: value for name, value in given.items() if value is not None}

    def run_options(self) -> RunOptions:
        """Return how the run is carried out, "auto" resolved to a device."""
        minutes = float("inf") if self.max_minutes is None else self.max_minutes
        return {"max_minutes": minutes, "device": _device(self.device), "resume": self.resume}

    def finish(self, checkpoint: Path, export: Callable[[Path, Path], Path | Iterable[Path]]) -> None:
        """Print where the checkpoint is, and export its weights where that is requested."""
        typer.echo(str(checkpoint))
        if self.export is not None:
            paths = export(checkpoint, self.export)
            for path in [paths] if isinstance(paths, Path) else paths:
                typer.echo(str(path))


def _stage(**otherwise: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Make a command of a function whose last parameter is `StageOptions`: they stand beside its own options.

    Args:
        otherwise: by name, what this command declares otherwise of a common option.
    """

    def register(run: Callable[..., None]) -> Callable[..., None]:
        common = inspect.signature(StageOptions, eval_str=True).parameters
        own = list(inspect.signature(run, eval_str=True).parameters.values())[:-1]
        shown = [p.replace(kind=p.KEYWORD_ONLY) for p in own]
        shown += [p.replace(annotation=otherwise.get(name, p.annotation)) for name, p in common.items()]

        @wraps(run)
        def command(**arguments: Any) -> None:
            given = StageOptions(**{name: arguments.pop(name) for name in common})
            run(**arguments, common=given)

        command.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        return app.command()(command)

    return register


@app.callback()
def training() -> None:
    """Train Redrum's models on your own sounds, offline."""
    logging.basicConfig(stream=sys.stderr, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("training").setLevel(logging.INFO)


@app.command()
def pack(
    data: Annotated[Path, typer.Argument(help="A data folder with kits, rhythms and loops.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the pack's three files are written.")],
    split: Annotated[
        list[str] | None,
        typer.Option(help="A side to pack: train, validate or test; repeat it. [default: all]"),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace a pack that is there.")] = False,
) -> None:
    """Pack a data folder into three files that any training machine can read."""
    from training.data.split import SPLITS

    if unknown := set(split or ()) - set(SPLITS):
        raise SettingsError(
            f"there is no split {', '.join(sorted(unknown))}", hint=f"the splits are {', '.join(SPLITS)}"
        )
    from training.data.pack import write_pack

    splits = cast("list[Split]", split) if split else SPLITS
    counts = write_pack(data, out, splits=splits, overwrite=overwrite)
    entries = {"kits": "one-shots", "rhythms": "rhythms", "loops": "loops"}
    typer.echo(f"{out}: " + ", ".join(f"{counts[name]} {what}" for name, what in entries.items()))


@_stage()
def transcriber(
    data: Data,
    out: Out,
    preset: Begin = None,
    articulations: Annotated[
        bool,
        typer.Option("--articulations", help="Train what tells articulations apart, nothing else of --preset."),
    ] = False,
    *,
    common: StageOptions,
) -> None:
    """Train the transcriber: drum recording -> events of five classes."""
    from training.train.transcriber import WARM_LEARNING_RATE, TranscriberTraining

    begin = None if preset is None else _preset(preset)
    rate = None if begin is None or articulations else WARM_LEARNING_RATE
    settings = TranscriberTraining(**common.settings(learning_rate=rate), articulations_alone=articulations)
    _train_transcriber(data, out, settings, common, begin=begin)


@_stage()
def evaluation_transcriber(data: Data, out: Out, *, common: StageOptions) -> None:
    """Train the transcriber that judges in `redrum bench` and is used for nothing else."""
    from training.train.transcriber import evaluation_training

    _train_transcriber(data, out, evaluation_training(**common.settings()), common)


def _train_transcriber(
    data: Path, out: Path, settings: TranscriberTraining, common: StageOptions, begin: Preset | None = None
) -> None:
    from training.train.transcriber import export_transcriber, train_transcriber

    options = common.run_options()
    common.finish(train_transcriber(_pack(data), out, settings, begin=begin, **options), export_transcriber)


@_stage()
def separator(
    data: Data, out: Out, preset: BuiltOn, warm_start: WarmStart = False, *, common: StageOptions
) -> None:
    """Train the separator: drum recording -> stems of five classes; the preset's transcriber guides it."""
    from training.train.separator import SeparatorTraining, export_separator, train_separator
    from transform.separator import load_separator

    settings, options, base = SeparatorTraining(**common.settings()), common.run_options(), _preset(preset)
    guide, begin = (
        base.weights("transcriber"),
        load_separator(base.weights("separator")) if warm_start else None,
    )
    run = train_separator(_pack(data), out, settings, transcriber=guide, begin=begin, **options)
    common.finish(run, export_separator)


@_stage(
    batch=Annotated[
        int | None,
        typer.Option(metavar="N", help="Segments of 0.74 s in a step. [default: 32, 8 on a processor]"),
    ]
)
def codec(
    data: Data,
    out: Out,
    config: Annotated[str, typer.Option(help="hires, or paper: the paper's own.")] = "hires",
    preset: Begin = None,
    adversarial: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Of the steps, those of phase B; 1: the encoder of --preset stays, and transformers fit it. "
            "[default: 0.25]",
        ),
    ] = None,
    generator_alone: Annotated[
        bool,
        typer.Option(
            "--generator-alone", help="The encoder of --preset stays, and transformers fit it; no phase B."
        ),
    ] = False,
    noise_from: Annotated[
        float | None,
        typer.Option(
            metavar="HZ",
            help="From there on sound is made as noise; 0: nowhere. [default: as in --preset, or 0]",
        ),
    ] = None,
    mixed_from: Annotated[
        float | None,
        typer.Option(
            metavar="HZ",
            help="From there up to --noise-from phases and noise are mixed; 0: nowhere. "
            "[default: as in --preset, or 0]",
        ),
    ] = None,
    *,
    common: StageOptions,
) -> None:
    """Train the codec, stage 1 of the paper: drum recording <-> latents."""
    from training.train.codec import codec_training, export_codec, train_codec

    options = common.run_options()
    begin = None if preset is None else _preset(preset)
    changes = common.settings(adversarial=adversarial) | {"generator_alone": generator_alone}
    changes |= {"noise_from_hz": noise_from, "mixed_from_hz": mixed_from}
    settings = codec_training(config, options["device"], begin=begin, **changes)
    common.finish(train_codec(_pack(data), out, settings, begin=begin, **options), export_codec)


@_stage()
def rhythm(
    data: Data,
    out: Out,
    preset: BuiltOn,
    warm_start: WarmStart = False,
    banks: Annotated[
        float | None, typer.Option(metavar="0..1", help="Proportion of sources that are banks, not segments.")
    ] = None,
    first_delta: Annotated[
        float | None, typer.Option(metavar="N", help="How sharp the first layer's attention begins.")
    ] = None,
    scalar_rate: Annotated[
        float | None,
        typer.Option(metavar="N", help="Rate of gamma, delta, alpha and B_rel, times the others'."),
    ] = None,
    *,
    common: StageOptions,
) -> None:
    """Train the rhythm transformer, stage 2 of the paper: latents in another recording's rhythm."""
    from training.train import rhythm as stage

    options, base = common.run_options(), _preset(preset)
    trained = stage.load_trained(base)
    begin = stage.load_transformer(base) if warm_start else None
    changes = common.settings(banks=banks, first_delta=first_delta, scalar_rate=scalar_rate)
    if warm_start:
        changes["learning_rate"] = stage.WARM_RATE
    settings = stage.rhythm_training(trained, options["device"], **changes)
    checkpoint = stage.train_rhythm(_pack(data), out, settings, trained, begin=begin, **options)
    common.finish(checkpoint, stage.export_rhythm)


@_stage()
def crossover(data: Data, out: Out, preset: BuiltOn, *, common: StageOptions) -> None:
    """Train the crossover: lows of copied hits, highs that the rhythm transformer makes."""
    from training.train import crossover as stage
    from training.train.rhythm import load_trained, load_transformer

    options, base = common.run_options(), _preset(preset)
    trained = load_trained(base)
    settings = stage.crossover_training(trained, **common.settings())
    checkpoint = stage.train_crossover(_pack(data), out, settings, trained, load_transformer(base), **options)
    common.finish(checkpoint, stage.export_crossover)


@_stage(
    max_minutes=Annotated[
        float | None,
        typer.Option(metavar="N", help=f"Train and compare for so long. [default: {_KIT_MINUTES:g}]"),
    ],
    export=Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the preset there, not among your presets.")
    ],
    batch=Annotated[int | None, typer.Option(metavar="N", help="Segments of 0.74 s in a step.")],
)
def kit(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Your one-shots and recordings; kit.toml may say what they are."),
    ],
    name: Name = None,
    preset: Annotated[str, typer.Option(metavar="NAME|DIR", help="The preset it begins as.")] = "default",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where checkpoint and log are written. [default: in your data folder]"
        ),
    ] = None,
    *,
    common: StageOptions,
) -> None:
    """Fine-tune a preset on a kit of your own, as a new preset.

    Where nothing was gained, no preset is made, unless --export names its place.
    """
    from training.data.kit_folder import read_kit_folder
    from training.train.kit import LEAST_MINUTES, Base, KitTraining, train_kit
    from training.train.kit_preset import export_kit, gains, name_for, place_for
    from training.train.loop import leave_core_for_data
    from transform.presets import user_folder

    leave_core_for_data()
    minutes = common.max_minutes or _KIT_MINUTES
    common = replace(common, max_minutes=minutes)
    if minutes < LEAST_MINUTES:
        raise SettingsError(
            f"--max-minutes is {minutes:g}, too few to load, train and compare",
            hint=f"give {LEAST_MINUTES:g} or more; {_KIT_MINUTES:g} is usual",
        )
    settings, name = KitTraining(**common.settings()), name_for(folder, name)
    target, out = place_for(name, common.export), out or user_folder() / "training" / name
    found = read_kit_folder(folder)
    for line in (*found.files, found.summary):
        typer.echo(str(line))
    options = common.run_options()
    if (common.device, options["device"]) == ("auto", "mps"):
        options["device"] = "cpu"  # these models have not been run on it
    base = Base.load(_preset(preset))
    checkpoint = train_kit(found, base, out, settings, **options)
    command = f"redrum train kit FOLDER --preset {base.preset.name} --max-minutes {minutes:g}"
    made = export_kit(
        checkpoint,
        found,
        base,
        target,
        settings,
        name=name,
        command=command,
        device=options["device"],
        needs_gain=common.export is None,
    )
    typer.echo(f"{made.folder}: preset {made.name}")
    for row, cells in gains(made):
        typer.echo(f"  {row}: " + ", ".join(f"{key} {value}" for key, value in cells.items()))
    typer.echo(f"  use it with --preset {common.export or made.name}; to go on: {checkpoint}")


@app.command()
def preset(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="The new preset's, which must not exist.")],
    base: Annotated[
        str, typer.Option("--from", metavar="NAME|DIR", help="The preset whose models it begins with.")
    ] = "default",
    model: Annotated[
        list[str] | None,
        typer.Option(metavar="MODEL", help="To take; repeat it. [default: transcriber and separator]"),
    ] = None,
    name: Name = None,
) -> None:
    """Begin a preset with models of another one; those that you train join them by --export FOLDER."""
    from training.card import begin_preset
    from training.train.kit_preset import name_for

    taken = model or ["transcriber", "separator"]
    begin_preset(_preset(base), folder, name_for(folder, name), taken)
    typer.echo(f"{folder}: {', '.join(taken)} of {base}")


@app.command()
def score(
    preset: Scored = Path("default"),
    data: Annotated[Path | None, typer.Option(metavar="PACKDIR", help="A folder that `pack` made.")] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Audio files, each with a CSV of its name: onset_s,class."),
    ] = None,
    n: Annotated[int, typer.Option("--synthetic", metavar="N", help="Synthetic recordings a side.")] = 100,
    seed: ScoreSeed = 2,
    write: Write = False,
) -> None:
    """Score a preset's transcriber on a pack's kits and rhythms, or on annotated recordings."""
    _check_scored(data, recordings, write)
    weights = _preset(preset).weights("transcriber")
    if recordings is not None:
        _score_recordings(recordings, weights)
    if data is None:
        return
    from training.data.kits import kits_of
    from training.score.cuts import cut_loops, score_cuts
    from training.score.transcriber import score_table
    from transform.transcriber import Transcriber, load_transcriber

    net, pack = load_transcriber(weights), _pack(data)
    tables = {"F @50 ms (95 % interval over recordings)": score_table(net, pack, n=n, seed=seed)}
    if kits_of(pack.kits, "test"):
        loops = cut_loops(pack, "test", n=2 * n, seed=seed)
        tables["Loops of test kits, share of them"] = score_cuts(Transcriber(net), loops)
    for table in tables.values():
        _print_table(table, 28)
    if write:
        command = f"score --data PACK --preset {preset.name} --synthetic {n} --seed {seed}"
        _write_scores(preset, "transcriber", command, tables)


def _score_recordings(folder: Path, weights: Path) -> None:
    """Print a folder's scores, then what could not be scored.

    Raises:
        AudioError: there is nothing in the folder.
    """
    from training.score.recordings import report, score_folder
    from transform.transcriber import Transcriber

    scores = score_folder(Transcriber.load(weights), folder)
    if scores.tracks:
        for line in report(scores):
            typer.echo(line.rstrip())
    _name_left_out(scores.left_out)


def _check_scored(data: Path | None, recordings: Path | None, write: bool) -> None:
    """Refuse what `score` and `score-separator` cannot do with their options.

    Raises:
        SettingsError: there is nothing to score on, or both, or scores of recordings are to be written.
    """
    if (data is None) == (recordings is None):
        what = "is nothing" if data is None else "are two things"
        raise SettingsError(f"there {what} to score on", hint="give either --data or --recordings")
    if recordings is not None and write:
        raise SettingsError("--write is for scores on a pack", hint="leave it out, or give --data")


def _name_left_out(left_out: Sequence[RedrumError]) -> None:
    """Print a sentence about each file that could not be scored, and end with 1 if there are any."""
    for err in left_out:
        typer.echo(f"redrum: {err.message}", err=True)
        if err.hint:
            typer.echo(f"  {err.hint}", err=True)
    if left_out:
        raise typer.Exit(1)


@app.command()
def thresholds(
    data: Data,
    preset: Scored,
    recordings: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Annotated recordings, as of `score`: they choose, too."),
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write them into the preset and its card.")] = False,
) -> None:
    """Choose the transcriber's decision thresholds (docs/method.md, decision 21)."""
    from training.score import thresholds as module
    from training.score.scores import Counts, pooled
    from training.train.transcriber import change_thresholds
    from transform.transcriber import Transcriber

    loaded = _preset(preset)
    transcriber = Transcriber.load(loaded.weights("transcriber"))
    tracks = module.tracks_of(transcriber, recordings) if recordings else {}
    chosen = module.choose_thresholds(transcriber, _pack(data), tracks)
    typer.echo(chosen.sentence())
    for what, values in (
        ("as they were", transcriber.config.thresholds),
        ("by synthetic recordings", chosen.synthetic),
        ("as chosen", chosen.values),
    ):
        if tracks:
            scores = module.score_tracks(transcriber, values, list(tracks.values()))
            f = sum((pooled(score.counts) for score in scores), Counts()).f_measure
            typer.echo(f"{what}: {values}, pooled F of the annotated recordings {f:.3f}")
    if tracks:
        f = module.left_out_f(transcriber, chosen, list(tracks.values()))
        typer.echo(f"each recording with what the others chose: {f:.3f}")
    if write:
        change_thresholds(loaded, chosen.values, chosen.sentence())


@app.command()
def score_separator(
    preset: Scored = Path("default"),
    data: Annotated[Path | None, typer.Option(metavar="PACKDIR", help="A folder that `pack` made.")] = None,
    recordings: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Annotated recordings, as of `score`: what leaks into stems."),
    ] = None,
    n: Annotated[int, typer.Option("--synthetic", metavar="N", help="Synthetic recordings a side.")] = 60,
    seed: ScoreSeed = 2,
    write: Write = False,
) -> None:
    """Score a preset's separator on kits and rhythms of each side, or on annotated recordings."""
    from training.score.leakage import leakage_table
    from training.score.separator import separation_tables
    from transform.engine import Redrummer

    _check_scored(data, recordings, write)
    redrummer = Redrummer.load(_preset(preset).folder)
    if recordings is not None:
        rows, left_out = leakage_table(redrummer, recordings)
        cells = {
            row: {c: "-" if v is None else f"{v:.1f}" for c, v in own.items()} for row, own in rows.items()
        }
        typer.echo(
            "dB: stems before their own strokes against after them; the recording playing its own rhythm"
        )
        _print_table(cells, 26)
        _name_left_out(left_out)
        return
    assert data is not None
    found = separation_tables(redrummer.transcriber, redrummer.separator, _pack(data), n=n, seed=seed)
    tables = {f"SI-SDR in dB, {side}": table for side, table in found.items()}
    for title, table in tables.items():
        typer.echo(title)
        _print_table({f"  {row}": cells for row, cells in table.items()}, 26)
    if write:
        command = f"score-separator --data PACK --preset {preset.name} --synthetic {n} --seed {seed}"
        _write_scores(preset, "separator", command, tables)


@app.command()
def score_codec(
    data: Data,
    preset: Scored,
    n: Annotated[int, typer.Option("--recordings", metavar="N", help="Recordings a row.")] = 40,
    seed: ScoreSeed = 2,
    write: Write = False,
) -> None:
    """Score a preset's codec: how well it codes training kits, other kits and held-out loops."""
    from training.score.codec import codec_table
    from training.train.evaluation_transcriber import load_evaluation_transcriber
    from transform.codec import Codec

    loaded = _preset(preset)
    scored = Codec.load(loaded.weights("codec-encoder"), loaded.weights("codec-generator"))
    table = codec_table(scored, _pack(data), load_evaluation_transcriber(), n=n, seed=seed)
    _print_table(table, 20)
    if write:
        command = f"score-codec --data PACK --preset {preset.name} --recordings {n} --seed {seed}"
        _write_scores(preset, "codec-generator", command, {"Mean (95 % interval over recordings)": table})


def _print_table(table: Mapping[str, Mapping[str, str]], width: int) -> None:
    """Print the rows of a table, their names padded to a width."""
    for row, cells in table.items():
        typer.echo(f"{row:{width}}" + "  ".join(f"{name} {value}" for name, value in cells.items()))


def _write_scores(preset: Path, model: str, command: str, tables: Mapping[str, Any]) -> None:
    """Write tables of scores into a preset and its card, with the command that makes them."""
    from training.card import note_scores

    note_scores(preset, model, {"Made with": f"`redrum train {command}`", **tables})


def _pack(folder: Path) -> Pack:
    from training.data.pack import load_pack

    return load_pack(folder)


def _preset(name: str | Path) -> Preset:
    from transform.presets import load_preset

    return load_preset(name)


def _device(name: str) -> str:
    """Return the device to train on, "auto" resolved.

    Raises:
        SettingsError: there is no such kind of device.
        DeviceError: there is none on this machine.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return next(kind for kind, is_there in there.items() if is_there)
    if name not in there:
        raise SettingsError(f"there is no device {name}", hint=f"the devices are auto, {', '.join(there)}")
    if not there[name]:
        raise DeviceError(f"there is no {name} device on this machine", hint="use --device cpu")
    return name


if __name__ == "__main__":
    guard_output()
    app(prog_name="python -m training")
