"""The commands for what is shipped or added: `rhythms` and `presets`."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from daw_bridge.options import Json
from daw_bridge.reporting import print_json, print_table
from transform.errors import CheckpointError, RhythmError

if TYPE_CHECKING:
    from transform.events import Rhythm

rhythms_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Rhythms: list, show, add your own."
)
presets_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Presets (trained models): list, show."
)


@rhythms_app.command("list")
def list_all_rhythms(as_json: Json = False) -> None:
    """List the shipped rhythms and your own."""
    from transform.presets import list_rhythms

    found = list_rhythms()
    if as_json:
        for info in found:
            entry = {"name": info.name, "bpm": info.bpm, "beats": info.beats}
            print_json(entry | {"style": info.style, "licence": info.licence})
        return
    rows = [("NAME", "BPM", "BEATS", "STYLE", "LICENCE")]
    rows += [(i.name, f"{i.bpm:g}", f"{i.beats:g}", i.style, i.licence or "-") for i in found]
    print_table(rows)


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
            print_json({"name": preset.name, "configuration": preset.configuration, "models": models})
        return
    rows = [("NAME", "CONFIGURATION", "MODELS (PARAMETERS)")]
    for preset in found:
        models_text = ", ".join(f"{name} ({model.n_parameters:,})" for name, model in preset.models.items())
        rows.append((preset.name, preset.configuration, models_text))
    print_table(rows)


@presets_app.command("show")
def show_preset(name: Annotated[str, typer.Argument(metavar="NAME|DIR")] = "default") -> None:
    """Print the model card of a preset: its data, licences, scores and limits."""
    from transform.presets import load_preset

    card = load_preset(name).folder / "CARD.md"
    if not card.is_file():
        raise CheckpointError(f"{card} is missing", hint="get the preset again")
    typer.echo(card.read_text(encoding="utf-8"), nl=False)


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
