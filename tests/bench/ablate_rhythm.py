"""Ablation of the rhythm transformer's decisions: short trainings without one of them each.

    python tests/bench/ablate_rhythm.py --data PACK --preset PRESET --out DIR --steps 400

All variants learn from the same scenes for as many steps, and are judged by the same pairs of validation kits.
It writes `ablation.jsonl`, a line a variant, and `ablation.md`; a run that was stopped goes on. On a core
of its own a variant of 400 steps takes about eight minutes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from training.data.pack import Pack, load_pack
from training.data.scenes import SceneStock
from training.train.rhythm import RhythmRun, Trained, load_trained, rhythm_training
from transform.confined import ConfinedFolder
from transform.files import write_text_atomic
from transform.presets import load_preset
from transform.rhythm_transformer import Block, RhythmNet
from transform.terminal import guard_output


@dataclass(frozen=True)
class Variant:
    """A training in which something is otherwise."""

    what: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    change: Callable[[RhythmNet], None] | None = None  # of the network as it begins
    learns: bool = True


def _without_keys(net: RhythmNet) -> None:
    for name, parameter in net.named_parameters():
        if "rhythm_key" in name:
            torch.nn.init.zeros_(parameter)
            parameter.requires_grad_(False)


def _without_mixer(net: RhythmNet) -> None:
    net.blocks[0] = Block(net.config, is_first=True)


def _from_anywhere(net: RhythmNet) -> None:
    for block in net.blocks:
        block.narrow.reset_parameters()  # type: ignore[operator, union-attr]


VARIANTS = {
    "begin": Variant("as it begins, untrained", learns=False),
    "whole": Variant("as it is built"),
    "2": Variant("decision 2: B_rhythm of the target alone", change=_without_keys),
    "4": Variant("decision 4: what begins is no copy", change=_from_anywhere),
    "4, heads": Variant(
        "decision 4: each head carries a quarter of the channels, as in the paper",
        model={"has_whole_values": False},
        change=_without_mixer,
    ),
    "mixer": Variant("the first layer is a block like the others", change=_without_mixer),
    "10": Variant("decision 10: the generator learns from the first step on", {"generator_from": 0}),
}


def train_variant(
    pack: Pack, out: Path, trained: Trained, variant: Variant, stock: SceneStock | None, **changes: Any
) -> tuple[dict[str, float], SceneStock]:
    """Train a variant on the processor and return its scores, as they are called in the log of a run.

    Args:
        pack: kits and rhythms.
        out: where samples are written.
        trained: what stage 2 builds on.
        variant: what is otherwise.
        stock: scenes that have been made; None: they are made, all of them, and returned with the scores.
        changes: of all variants' settings.
    """
    settings = rhythm_training(trained, "cpu", **(changes | dict(variant.settings)))
    settings = replace(settings, model=replace(settings.model, **variant.model))
    run = RhythmRun(pack, out, settings, trained, torch.device("cpu"), change=variant.change)
    if stock is None:
        run.stock.fill_to(run.n_scenes(settings.steps))
        stock = run.stock
    run.stock = stock
    for step in range(settings.steps if variant.learns else 0):
        run.train_step(run.batch_of(step))
    return run.validate(), stock


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(metavar="PACK", help="What `redrum train pack` made.")],
    preset: Annotated[Path, typer.Option(metavar="DIR", help="Its transcriber and codec are built on.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where results are written.")],
    steps: Annotated[int, typer.Option(min=1)] = 400,
) -> None:
    """Train all variants that have no result yet, and write the table."""
    pack, trained = load_pack(data), load_trained(load_preset(preset))
    out.mkdir(parents=True, exist_ok=True)
    store, stock = out / "ablation.jsonl", None
    lines = store.read_text(encoding="utf-8").splitlines() if store.exists() else []
    entries = {entry["variant"]: entry["scores"] for entry in map(json.loads, lines)}
    results = {name: scores for name, scores in entries.items() if name in VARIANTS}
    for name, variant in VARIANTS.items():
        if name in results:
            continue
        results[name], stock = train_variant(pack, out / name, trained, variant, stock, steps=steps)
        with ConfinedFolder(out).append(store.name) as log:
            log.write(json.dumps({"variant": name, "scores": results[name]}) + "\n")
        write_text_atomic(out / "ablation.md", table(results), overwrite=True)
        typer.echo(f"{name}: {results[name]}")


def table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Return the scores of variants as Markdown."""
    columns = list(dict.fromkeys(column for row in scores.values() for column in row))
    lines = ["| variant | " + " | ".join(columns) + " |", "| --- " * (1 + len(columns)) + "|"]
    for name, row in scores.items():
        values = (f"{row[column]:.2f}" if column in row else "" for column in columns)
        lines.append(f"| {VARIANTS[name].what} | " + " | ".join(values) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    guard_output()
    app()
