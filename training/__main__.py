"""The training commands: `python -m training ...`, which `redrum train ...` also runs."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from transform.errors import DeviceError, RedrumError, SettingsError
from transform.terminal import guard_output, one_line

if TYPE_CHECKING:
    from training.data.split import Split
    from training.train.transcriber import TranscriberTraining


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


Data = Annotated[Path, typer.Option(metavar="PACKDIR", help="A folder that `pack` made.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where checkpoint, log and curves are written.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")]
MaxMinutes = Annotated[float | None, typer.Option(metavar="N", help="Stop with a checkpoint after this time.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Export = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Write its weights (fp16) there, replacing older ones.")
]
Steps = Annotated[
    int | None, typer.Option(metavar="N", help="Steps of the whole run, over which the rate falls.")
]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Another seed is another run.")]
Scored = Annotated[Path, typer.Option("--preset", metavar="DIR", help="A preset's folder.")]
ScoreSeed = Annotated[int, typer.Option("--seed", metavar="N", help="Another seed is other recordings.")]
Write = Annotated[bool, typer.Option("--write", help="Write the scores into the preset and its card.")]
Batch = Annotated[int | None, typer.Option(metavar="N", help="Recordings in a step.")]


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


@app.command()
def transcriber(
    data: Data,
    out: Out,
    preset: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Begin with its transcriber, not with random weights.")
    ] = None,
    resume: Resume = False,
    max_minutes: MaxMinutes = None,
    device: Device = "auto",
    export: Export = None,
    steps: Steps = None,
    seed: Seed = None,
    batch: Batch = None,
) -> None:
    """Train the transcriber: drum recording -> events of five classes."""
    limit = _minutes(max_minutes)
    from training.train.transcriber import WARM_LEARNING_RATE, TranscriberTraining
    from transform.presets import load_preset

    begin, rate = (None, None) if preset is None else (load_preset(preset), WARM_LEARNING_RATE)
    settings = TranscriberTraining(**_given(steps=steps, seed=seed, batch=batch, learning_rate=rate))
    how: dict[str, Any] = {"max_minutes": limit, "device": _device(device), "resume": resume, "begin": begin}
    _train_transcriber(settings, data, out, export, **how)


@app.command()
def evaluation_transcriber(
    data: Data,
    out: Out,
    resume: Resume = False,
    max_minutes: MaxMinutes = None,
    device: Device = "auto",
    export: Export = None,
    steps: Steps = None,
    seed: Seed = None,
    batch: Batch = None,
) -> None:
    """Train the transcriber that judges in `redrum bench` and is used for nothing else."""
    limit = _minutes(max_minutes)
    from training.train.transcriber import evaluation_training

    settings = evaluation_training(**_given(steps=steps, seed=seed, batch=batch))
    _train_transcriber(settings, data, out, export, resume=resume, max_minutes=limit, device=_device(device))


@app.command()
def separator(
    data: Data,
    out: Out,
    preset: Annotated[Path, typer.Option(metavar="DIR", help="Its transcriber guides the separator.")],
    resume: Resume = False,
    max_minutes: MaxMinutes = None,
    device: Device = "auto",
    export: Export = None,
    steps: Steps = None,
    seed: Seed = None,
    batch: Batch = None,
) -> None:
    """Train the separator: drum recording -> stems of five classes."""
    limit = _minutes(max_minutes)
    from training.data.pack import load_pack
    from training.train.separator import SeparatorTraining, export_separator, train_separator
    from transform.presets import load_preset

    settings = SeparatorTraining(**_given(steps=steps, seed=seed, batch=batch))
    guide = load_preset(preset).weights("transcriber")
    how: dict[str, Any] = {"max_minutes": limit, "device": _device(device), "resume": resume}
    checkpoint = train_separator(load_pack(data), out, settings, transcriber=guide, **how)
    _finish(checkpoint, export, export_separator)


@app.command()
def codec(
    data: Data,
    out: Out,
    config: Annotated[str, typer.Option(help="hires, or paper: the paper's own.")] = "hires",
    resume: Resume = False,
    max_minutes: MaxMinutes = None,
    device: Device = "auto",
    export: Export = None,
    steps: Steps = None,
    seed: Seed = None,
    batch: Annotated[
        int | None,
        typer.Option(metavar="N", help="Pieces of 0.74 s in a step. [default: 32, 8 on a processor]"),
    ] = None,
    preset: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Begin with its codec, not with random weights.")
    ] = None,
    adversarial: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Of the steps, those of phase B; 1: the encoder of --preset stays, and transformers fit it. "
            "[default: 0.25]",
        ),
    ] = None,
) -> None:
    """Train the codec, stage 1 of the paper: drum recording <-> latents."""
    limit = _minutes(max_minutes)
    from training.data.pack import load_pack
    from training.train.codec import codec_training, export_codec, train_codec
    from transform.presets import load_preset

    kind = _device(device)
    given = _given(steps=steps, seed=seed, batch=batch, adversarial=adversarial)
    settings = codec_training(config, kind, **given)
    begin = None if preset is None else load_preset(preset)
    how: dict[str, Any] = {"max_minutes": limit, "device": kind, "resume": resume, "begin": begin}
    checkpoint = train_codec(load_pack(data), out, settings, **how)
    _finish(checkpoint, export, export_codec)


@app.command()
def rhythm(
    data: Data,
    out: Out,
    preset: Annotated[Path, typer.Option(metavar="DIR", help="Its transcriber and codec are built on.")],
    warm_start: Annotated[
        bool, typer.Option(help="Begin with the weights of the preset's transformer.")
    ] = False,
    resume: Resume = False,
    max_minutes: MaxMinutes = None,
    device: Device = "auto",
    export: Export = None,
    steps: Steps = None,
    seed: Seed = None,
    batch: Batch = None,
) -> None:
    """Train the rhythm transformer, stage 2 of the paper: latents in another recording's rhythm."""
    limit = _minutes(max_minutes)
    from training.data.pack import load_pack
    from training.train.rhythm import (
        export_rhythm,
        load_trained,
        load_transformer,
        rhythm_training,
        train_rhythm,
    )
    from transform.presets import load_preset

    kind = _device(device)
    built_on = load_preset(preset)
    trained = load_trained(built_on)
    begin = load_transformer(built_on) if warm_start else None
    settings = rhythm_training(trained, kind, **_given(steps=steps, seed=seed, batch=batch))
    how: dict[str, Any] = {"max_minutes": limit, "device": kind, "resume": resume, "begin": begin}
    checkpoint = train_rhythm(load_pack(data), out, settings, trained, **how)
    _finish(checkpoint, export, export_rhythm)


@app.command()
def kit(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Your one-shots and recordings; kit.toml may say what they are."),
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the new preset. [default: the folder's]")
    ] = None,
    preset: Annotated[str, typer.Option(metavar="NAME|DIR", help="The preset it begins as.")] = "default",
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where checkpoint and log are written. [default: in your data folder]"
        ),
    ] = None,
    resume: Resume = False,
    max_minutes: Annotated[float, typer.Option(metavar="N", help="Train for so long.")] = 20.0,
    device: Device = "auto",
    export: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write the preset there, not among your presets.")
    ] = None,
    steps: Steps = None,
    seed: Seed = None,
    batch: Annotated[int | None, typer.Option(metavar="N", help="Pieces of 0.74 s in a step.")] = None,
) -> None:
    """Fine-tune a preset on a kit of your own, as a new preset."""
    limit = _minutes(max_minutes)
    from training.data.kit_folder import read_kit_folder
    from training.train.kit import Base, KitTraining, train_kit
    from training.train.kit_preset import export_kit, gains, name_for, place_for
    from transform.presets import load_preset, user_folder

    settings = KitTraining(**_given(steps=steps, seed=seed, batch=batch))
    name = name_for(folder, name)
    target, out = place_for(name, export), out or user_folder() / "training" / name
    found = read_kit_folder(folder)
    for report in found.files:
        typer.echo(str(report))
    typer.echo(found.summary)
    kind = _device(device)
    if device == "auto" and kind == "mps":
        kind = "cpu"  # these models have not been run on it
    base = Base.load(load_preset(preset))
    how: dict[str, Any] = {"max_minutes": limit, "device": kind, "resume": resume}
    checkpoint = train_kit(found, base, out, settings, **how)
    command = f"redrum train kit FOLDER --preset {base.preset.name} --max-minutes {max_minutes:g}"
    made = export_kit(checkpoint, found, base, target, settings, name=name, command=command, device=kind)
    typer.echo(f"{made.folder}: preset {made.name}")
    for row, cells in gains(made):
        typer.echo(f"  {row}: " + ", ".join(f"{key} {value}" for key, value in cells.items()))
    typer.echo(f"  use it with --preset {made.name if export is None else export}; to go on: {checkpoint}")


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
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of the new preset. [default: the folder's]")
    ] = None,
) -> None:
    """Begin a preset with models of another one; those that you train join them by --export FOLDER."""
    from training.card import begin_preset
    from training.train.kit_preset import name_for
    from transform.presets import load_preset

    taken = model or ["transcriber", "separator"]
    begin_preset(load_preset(base), folder, name_for(folder, name), taken)
    typer.echo(f"{folder}: {', '.join(taken)} of {base}")


@app.command()
def score(
    preset: Scored,
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
    from transform.presets import load_preset

    if (data is None) == (recordings is None):
        raise SettingsError("what is scored on is not said", hint="give either --data or --recordings")
    weights = load_preset(preset).weights("transcriber")
    if recordings is not None:
        _score_recordings(recordings, weights)
        return
    assert data is not None
    from training.card import note_scores
    from training.data.kits import kits_of
    from training.data.pack import load_pack
    from training.score.cuts import cut_loops, score_cuts
    from training.score.transcriber import score_table
    from transform.transcriber import Transcriber, load_transcriber

    listener, loaded = load_transcriber(weights), load_pack(data)
    tables = {"F @50 ms (95 % interval over recordings)": score_table(listener, loaded, n=n, seed=seed)}
    if kits_of(loaded.kits, "test"):
        loops = cut_loops(loaded, "test", n=2 * n, seed=seed)
        tables["Loops of test kits, share of them"] = score_cuts(Transcriber(listener), loops)
    for table in tables.values():
        _print_table(table, 28)
    if write:
        remake = f"redrum train score --data PACK --preset {preset.name} --synthetic {n} --seed {seed}"
        note_scores(preset, "transcriber", {"Made with": f"`{remake}`", **tables})


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
    for err in scores.left_out:
        typer.echo(f"redrum: {err.message}", err=True)
        if err.hint:
            typer.echo(f"  {err.hint}", err=True)
    if scores.left_out:
        raise typer.Exit(1)


@app.command()
def score_separator(
    data: Data,
    preset: Scored,
    n: Annotated[int, typer.Option("--recordings", metavar="N", help="Synthetic recordings a side.")] = 60,
    seed: ScoreSeed = 2,
    write: Write = False,
) -> None:
    """Score a preset's separator on kits and rhythms of each side, against baselines and the ideal mask."""
    from training.card import note_scores
    from training.data.pack import load_pack
    from training.score.separator import separation_tables
    from transform.presets import load_preset
    from transform.separator import Separator
    from transform.transcriber import Transcriber

    loaded = load_preset(preset)
    listener = Transcriber.load(loaded.weights("transcriber"))
    tables = separation_tables(
        listener, Separator.load(loaded.weights("separator")), load_pack(data), n=n, seed=seed
    )
    for side, table in tables.items():
        typer.echo(f"SI-SDR in dB, {side}")
        _print_table({f"  {row}": cells for row, cells in table.items()}, 26)
    if write:
        remake = (
            f"redrum train score-separator --data PACK --preset {preset.name} --recordings {n} --seed {seed}"
        )
        scores: dict[str, Any] = {"Made with": f"`{remake}`"}
        scores |= {f"SI-SDR in dB, {side}": table for side, table in tables.items()}
        note_scores(preset, "separator", scores)


@app.command()
def score_codec(
    data: Data,
    preset: Scored,
    n: Annotated[int, typer.Option("--recordings", metavar="N", help="Recordings a row.")] = 40,
    seed: ScoreSeed = 2,
    write: Write = False,
) -> None:
    """Score a preset's codec: what it keeps of known kits, of unknown ones and of held-out loops."""
    from training.card import note_scores
    from training.data.pack import load_pack
    from training.score.codec import codec_table
    from training.train.evaluation_transcriber import load_evaluation_transcriber, shipped_weights
    from transform.codec import Codec
    from transform.presets import load_preset

    loaded = load_preset(preset)
    kept = Codec.load(loaded.weights("codec-encoder"), loaded.weights("codec-generator"))
    listener = load_evaluation_transcriber(shipped_weights())
    table = codec_table(kept, load_pack(data), listener, n=n, seed=seed)
    _print_table(table, 20)
    if write:
        remake = f"redrum train score-codec --data PACK --preset {preset.name} --recordings {n} --seed {seed}"
        scores = {"Made with": f"`{remake}`", "Mean (95 % interval over recordings)": table}
        note_scores(preset, "codec-generator", scores)


def _finish(
    checkpoint: Path, folder: Path | None, export: Callable[[Path, Path], Path | Iterable[Path]]
) -> None:
    """Print where a training's checkpoint is, and export its weights into the folder if there is one."""
    typer.echo(str(checkpoint))
    if folder is not None:
        paths = export(checkpoint, folder)
        for path in [paths] if isinstance(paths, Path) else paths:
            typer.echo(str(path))


def _print_table(table: Mapping[str, Mapping[str, str]], width: int) -> None:
    """Print the rows of a table, their names as wide as said."""
    for row, cells in table.items():
        typer.echo(f"{row:{width}}" + "  ".join(f"{name} {value}" for name, value in cells.items()))


def _given(**options: float | None) -> dict[str, Any]:
    """Return the options that were given; the others keep the defaults that the settings state."""
    return {name: value for name, value in options.items() if value is not None}


def _minutes(asked: float | None) -> float:
    if asked is not None and not asked > 0:
        raise SettingsError(f"--max-minutes is {asked:g}; it must be above 0")
    return float("inf") if asked is None else asked


def _train_transcriber(
    settings: TranscriberTraining, data: Path, out: Path, export: Path | None, **how: Any
) -> None:
    from training.data.pack import load_pack
    from training.train.transcriber import export_transcriber, train_transcriber

    checkpoint = train_transcriber(load_pack(data), out, settings, **how)
    _finish(checkpoint, export, export_transcriber)


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
