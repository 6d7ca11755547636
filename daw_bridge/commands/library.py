"""The commands for what is shipped or added: `rhythms` and `presets`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

import typer

import transform
from daw_bridge.commands.options import (
    Compute,
    Json,
    Overwrite,
    Preset,
    Quiet,
    Verbose,
    option,
    option_groups,
    preset_names,
    rhythm_names,
)
from daw_bridge.commands.reporting import Console, print_error, print_json, print_table
from daw_bridge.commands.sections import WideGroup
from daw_bridge.render_job import check_ending
from transform.errors import CheckpointError, RhythmError
from transform.files import read_bytes
from transform.names import missing_hint
from transform.options import read_options
from transform.settings import RenderSettings

rhythms_app = typer.Typer(
    cls=WideGroup,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List rhythms, show one, add your own, remove it.",
)
presets_app = typer.Typer(
    cls=WideGroup,
    rich_markup_mode=None,
    no_args_is_help=True,
    help="List presets (trained models), import, export.",
)

_LONGEST_CARD_BYTES = 2**20


@rhythms_app.command("list")
def list_all_rhythms(
    styles: Annotated[
        list[str] | None,
        typer.Argument(metavar="STYLE", help="Only these, such as hip hop.", show_default="all"),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the shipped rhythms and your own."""
    from transform.library import rhythms_of_style

    found = rhythms_of_style(" ".join(styles or ()))
    if as_json:
        for info in found:
            entry = {"name": info.name, "bpm": info.bpm, "beats": info.beats}
            print_json(entry | {"style": info.style, "licence": info.licence})
        return
    rows = [("NAME", "BPM", "BEATS", "STYLE", "LICENCE")]
    rows += [(i.name, f"{i.bpm:g}", f"{i.beats:g}", i.style, i.licence or "-") for i in found]
    print_table(rows)


@rhythms_app.command("show")
def show_rhythm(
    name: Annotated[str, typer.Argument(help="A name of `rhythms list`.", autocompletion=rhythm_names)],
) -> None:
    """Draw a rhythm as a drum grid and say where it comes from."""
    from transform.library import find_rhythm
    from transform.midi import read_midi

    info = find_rhythm(name)
    typer.echo(f"{info.name}: {info.style}, {info.bpm:g} BPM, {info.beats:g} beats\n")
    for line in _grid(read_midi(info.path)):
        typer.echo(line)
    for label in ("author", "source", "changes", "licence"):
        if text := asdict(info)[label]:
            typer.echo(f"{label + ':':<9}{text}")
    typer.echo(f"file:    {info.path}")


@rhythms_app.command("add")
@option_groups()
def add_own_rhythm(
    name: Annotated[
        str,
        typer.Argument(metavar="NAME|FILE", help="Its name, such as my-beat; without one, the file."),
    ],
    path: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="A MIDI file, or a recording to transcribe.")
    ] = None,
    rhythm_bpm: Annotated[
        str | None,
        option("N|auto", "Tempo of a recording; auto estimates it.", "of its tag or name, else estimated"),
    ] = None,
    preset: Preset = "default",
    *,
    compute: Compute,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Add a rhythm to your own: a MIDI file, or what a drum recording plays."""
    from transform.library import add_rhythm, check_new_name, fit_name, resolve_rhythm
    from transform.midi import write_midi

    console, note = Console(quiet=quiet, verbose=verbose), ""
    path, name = (Path(name), "") if path is None else (path, name)
    if not path.is_file():
        raise RhythmError(f"{path} does not exist", hint=missing_hint(path))
    name = fit_name(name or path.stem)
    check_new_name(name)
    if resolve_rhythm(str(path)).is_midi:
        added = add_rhythm(path, name)
    else:
        tempo = read_options(RenderSettings, {"rhythm_bpm": rhythm_bpm}).get("rhythm_bpm")
        with (
            transform.Recording.open(path) as recording,
            TemporaryDirectory(prefix="redrum-") as folder,
            console.progress() as progress,
        ):
            if progress:
                progress("transcribe", 0.0)
            bpm: float | Literal["auto"] | None = tempo or (None if recording.tempo_bpm() else "auto")
            rhythm = compute.load(preset).rhythm_of(recording, bpm)
            note = _estimate_note(rhythm, recording.duration_s) if bpm == "auto" else ""
            midi = Path(folder) / f"{name}.mid"
            midi.write_bytes(write_midi(rhythm))
            added = add_rhythm(midi, name)
    console.echo(f"{added.name}: {added.bpm:g} BPM, {added.beats:g} beats, in {added.path}")
    if note:
        console.echo(f"  {note}")


def _estimate_note(rhythm: "transform.Rhythm", length_s: float) -> str:
    """Return a sentence on a tempo that was estimated from these events, and how to give another."""
    from transform.tempo import bpm_text, estimate_tempo

    estimate = estimate_tempo(rhythm.events, length_s)
    assert estimate is not None  # else the rhythm had none
    bpm, confidence = estimate
    return (
        f"its tempo is estimated at {bpm_text(bpm)} BPM, confidence {confidence:.2f}; where it is another, "
        "`redrum rhythms remove` it and add it with --rhythm-bpm N"
    )


@rhythms_app.command("remove")
def remove_own_rhythm(
    name: Annotated[str, typer.Argument(help="A rhythm that you added.", autocompletion=rhythm_names)],
) -> None:
    """Delete a rhythm that you added."""
    from transform.library import remove_rhythm

    typer.echo(f"{remove_rhythm(name).name} is removed")


@presets_app.command("list")
def list_all_presets(as_json: Json = False) -> None:
    """List the shipped presets and your own."""
    from transform.presets import list_presets, load_preset

    rows = [("NAME", "CONFIGURATION", "MODELS (PARAMETERS)")]
    for name in list_presets():
        try:
            preset = load_preset(name)
        except CheckpointError as err:
            print_error(err.message, err.hint)  # the others are not to blame
            continue
        models = {name: model.n_parameters for name, model in preset.models.items()}
        if as_json:
            print_json({"name": name, "configuration": preset.configuration, "models": models})
        models_text = ", ".join(f"{model} ({n:,})" for model, n in models.items())
        rows.append((name, preset.configuration, models_text))
    if not as_json:
        print_table(rows)


@presets_app.command("show")
def show_preset(
    name: Annotated[
        str, typer.Argument(metavar="NAME|DIR", help="A name of `presets list`.", autocompletion=preset_names)
    ] = "default",
    as_json: Json = False,
) -> None:
    """Print what a preset is: its models, its licence, what its model card says first."""
    from transform.presets import load_preset

    preset = load_preset(name)
    for model in preset.models:
        preset.weights(model)  # damaged ones are named here, not in the middle of a render
    card = preset.folder / "CARD.md"
    try:
        text = read_bytes(card, most=_LONGEST_CARD_BYTES).decode("utf-8", "replace")
    except FileNotFoundError:
        text = ""
    except ValueError as err:
        raise CheckpointError(
            f"{card} is no card of a preset: {err}", hint="ask its maker for another"
        ) from err
    licence = str(preset.data.get("licence", "not stated"))
    if as_json:
        models = {model: asdict(file) | {"path": str(file.path)} for model, file in preset.models.items()}
        about: dict[str, Any] = {
            "name": preset.name,
            "configuration": preset.configuration,
            "folder": str(preset.folder),
        }
        about |= {"sha256": preset.sha256, "licence": licence, "models": models}
        print_json(about | {"data": preset.data, "scores": preset.scores, "card": text})
        return
    typer.echo(f"{preset.name}: {preset.configuration}, {preset.sample_rate} Hz, in {preset.folder}")
    for model, file in preset.models.items():
        typer.echo(f"  {model}: {file.n_parameters:,} parameters, {file.path.name}, unharmed")
    typer.echo(f"licence: {licence}\n")
    if text:
        intro, _, more = text.partition("\n## ")
        typer.echo(intro.rstrip())
        if more:
            typer.echo(f"\nhow it was trained, and its scores: {card}")
    else:
        typer.echo("\n".join(_outline(preset.scores)) or "no scores are stated, and there is no card")


@presets_app.command("export")
@option_groups()
def export_one_preset(
    name: Annotated[
        str, typer.Argument(metavar="NAME|DIR", help="A name of `presets list`.", autocompletion=preset_names)
    ],
    out: Annotated[
        Path | None, option("OUT.redrum", "The file.", "NAME.redrum in this folder", "-o", "--out", "--output")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a preset as one file that others can import."""
    from transform.preset_archive import ENDING, export_preset
    from transform.presets import load_preset

    preset = load_preset(name)
    output = out or Path(f"{preset.name}{ENDING}")
    check_ending(output, (ENDING,))
    export_preset(preset, output, overwrite=overwrite)
    typer.echo(f"{output}: {output.stat().st_size / 1e6:.1f} MB, sha256 {preset.sha256[:12]}")


@presets_app.command("import")
def import_one_preset(
    path: Annotated[Path, typer.Argument(metavar="FILE.redrum", help="What `presets export` wrote.")],
) -> None:
    """Add a preset that somebody exported, after checking all of it; none is ever replaced."""
    from transform.preset_archive import import_preset

    preset = import_preset(path)
    typer.echo(f"{preset.name}: {', '.join(preset.models)}, in {preset.folder}")
    typer.echo(f"  use it with --preset {preset.name}")


def _outline(table: Mapping[str, object], depth: int = 0) -> Iterator[str]:
    """Yield the entries of nested tables, a line each."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield f"{'  ' * depth}{key}:"
            yield from _outline(value, depth + 1)
        else:
            yield f"{'  ' * depth}{key}: {value}"


def _grid(rhythm: "transform.Rhythm") -> Iterator[str]:
    """Yield a drum grid, two bars a row, in sixteenths, or in eighth triplets where they fit better."""
    from transform.events import CLASS_NAMES, CLASSES

    assert rhythm.tempo_map is not None
    assert rhythm.n_beats is not None
    strokes = [(rhythm.tempo_map.beats_at(event.onset_s), event) for event in rhythm.events]
    # In steps, not in beats: a coarser grid must not look worse for being coarse.
    steps = min((4, 3), key=lambda n: sum(abs(beat * n - round(beat * n)) for beat, _ in strokes))
    n_steps, bar = round(rhythm.n_beats * steps), round(rhythm.beats_per_bar * steps)
    loudest: dict[tuple[str, int], float] = {}
    for beat, event in strokes:
        place = event.drum_class, round(beat * steps) % n_steps
        loudest[place] = max(event.velocity, loudest.get(place, 0.0))

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


def _grid_line(title: str, marks: Sequence[str], bar: int) -> str:
    bars = ("".join(marks[at : at + bar]) for at in range(0, len(marks), bar))
    return f"{title:<10} |{'|'.join(bars)}|"


def _mark(velocity: float) -> str:
    if velocity == 0:
        return "-"
    return "o" if velocity < 0.4 else "x" if velocity < 0.75 else "X"
