"""What time and memory grow with: recordings of a minute to an hour, batches of one to 500 items.

    python tests/bench/bench_scaling.py --out DIR

It writes `scaling.jsonl`, a line for each point, and `scaling.md` and `scaling.png`, which show them, and fails
where time grows with more than size to the power of 1.05. Every point is measured in a process of its own, and
a run that was stopped goes on. On two CPU cores it takes about twenty minutes; nothing else should run
meanwhile.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from bench_batch import BatchBench, timed_batch, write_stems

from training.bench.peak_memory import in_own_process, own_peak_mb
from training.bench.speed import STAGES
from transform.audio import Recording, Samples
from transform.files import atomic_file, write_text_atomic
from transform.library import demo_recordings
from transform.presets import load_preset
from transform.terminal import guard_output

LENGTHS_MIN = (1.0, 3.0, 10.0, 30.0, 60.0)
BATCHES = (1, 10, 50, 100, 500)
ITEM_S = 3.0
MEASURED = ("transcription", "resequence", "latent")  # of the stages of `redrum bench --speed`
BATCH = "batch"
_UNITS = {False: "minutes of stereo", True: f"items of {ITEM_S:g} s"}  # is it a batch?
MOST_EXPONENT = 1.05  # of what counts as linear
_N_FITTED = 3  # the largest sizes: what a start costs hardly counts there

Point = dict[str, Any]


class Repeated(Recording):
    """A loop that is repeated to any length, of which no more is in memory than the loop."""

    def __init__(self, loop: Recording, length_s: float) -> None:
        super().__init__(loop.name, loop.format, round(length_s * loop.sample_rate))
        self._loop = loop.read(0, loop.n_samples)

    def read(self, start: int, stop: int) -> Samples:
        """Return the samples from `start` up to `stop`, shape (C, stop - start), zeros outside."""
        at = np.arange(start, stop)
        block: Samples = self._loop[:, at % self._loop.shape[1]]
        block[:, (at < 0) | (at >= self.n_samples)] = 0
        return block


def measure(
    store: Path, preset: str, requested: Sequence[tuple[str, float]], announce: Callable[[str], None]
) -> list[Point]:
    """Return the requested points, in that order; what `store` holds already is not measured again.

    Args:
        store: JSON Lines, a point each; written after every point.
        preset: whose models work.
        requested: what is measured, and minutes or a number of items.
        announce: is called with what is measured next.

    Raises:
        CheckpointError: there is no such preset, or a process failed.
    """
    models = load_preset(preset).models
    points = {_key(point): point for point in _stored(store)}
    keys = [(preset, *point) for point in requested if point[0] == BATCH or STAGES[point[0]].needs in models]
    for key in keys:
        if key in points:
            continue
        _, what, size = key
        announce(f"{what}, {size:g} {_UNITS[what == BATCH]}")
        seconds, peak_mb = _batch(preset, round(size)) if what == BATCH else _stage(preset, what, size)
        points[key] = {"schema": 1, "preset": preset, "what": what, "size": size}
        points[key] |= {"seconds": seconds, "peak_memory_mb": peak_mb, "n_cores": os.cpu_count()}
        lines = (json.dumps(point) + "\n" for point in points.values())
        write_text_atomic(store, "".join(lines), overwrite=True)
    return [points[key] for key in keys]


def _key(point: Point) -> tuple[str, str, float]:
    return point["preset"], point["what"], point["size"]


def _stored(store: Path) -> Iterator[Point]:
    if store.exists():
        for line in store.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _stage(preset: str, stage: str, minutes: float) -> tuple[float, float | None]:
    return in_own_process(f"{stage} of {minutes:g} minutes", work_alone, preset, stage, 60 * minutes)


def work_alone(preset: str, name: str, length_s: float) -> tuple[float, float | None]:
    """Return the seconds that a stage takes for a recording, and the most memory of this process, in MB."""
    stage = STAGES[name]
    model = stage.load(preset, "cpu")
    with Recording.open(demo_recordings()[0].path) as loop:
        seconds = stage.work(model, Repeated(loop, length_s))
    return seconds, own_peak_mb()


def _batch(preset: str, n_items: int) -> tuple[float, float | None]:
    """Return the seconds of a batch of so many items, start-up included, and its memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        stems = Path(folder) / "stems"
        stems.mkdir()
        write_stems(stems, BatchBench(n_stems=n_items, lengths_s=(ITEM_S, ITEM_S)))
        seconds, memory_mb = timed_batch(stems, Path(folder) / "out", preset)
        return seconds, max(memory_mb, default=None)


def exponent(points: Sequence[Point]) -> float | None:
    """Return e of the power law seconds = c * size**e, fitted to the largest sizes; 1 is linear."""
    largest = sorted(points, key=lambda point: float(point["size"]))[-_N_FITTED:]
    if len(largest) < 2:
        return None
    sizes, seconds = (np.log([point[name] for point in largest]) for name in ("size", "seconds"))
    return float(np.polyfit(sizes, seconds, 1)[0])


def _in_order(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Return the points of each thing that was measured."""
    return {what: [p for p in points if p["what"] == what] for what in dict.fromkeys(p["what"] for p in points)}


def faster_than_linear(points: Sequence[Point]) -> list[str]:
    """Return what takes more for each minute or item of the largest sizes than of smaller ones."""
    return [what for what, own in _in_order(points).items() if (exponent(own) or 0) > MOST_EXPONENT]


def report(points: Sequence[Point]) -> str:
    """Return the points as Markdown: seconds, seconds a minute or an item, memory, and how time grows."""
    lines = ["# Time and memory with size", ""]
    made_with = "`python tests/bench/bench_scaling.py --out DIR`"
    lines += [f"On {points[0]['n_cores']} cores. Made with {made_with}.", ""]
    lines += ["| what | size | seconds | for each | peak memory |", "| --- | --- | --- | --- | --- |"]
    for point in points:
        peak_mb, size, seconds = point["peak_memory_mb"], point["size"], point["seconds"]
        memory = "-" if peak_mb is None else f"{peak_mb:.0f} MB"
        unit = _UNITS[point["what"] == BATCH]
        unit = unit.replace("s ", " ", 1) if size == 1 else unit
        lines.append(f"| {point['what']} | {size:g} {unit} | {seconds:.1f} | {seconds / size:.2f} | {memory} |")
    lines += ["", f"Time grows with size to the power of, over the {_N_FITTED} largest sizes:", ""]
    for what, own in _in_order(points).items():
        found = exponent(own)
        lines.append(f"- {what}: {'-' if found is None else f'{found:.2f}'}")
    lines += [
        "",
        "Recordings are a shipped loop again and again. Loading the models is not counted as time, but as",
        "memory. resequence and latent are whole renders that are not written. A batch is `redrum batch` with",
        "its default of `--jobs`, start-up and files included; its memory is looked up twice a second.",
    ]
    return "\n".join(lines) + "\n"


def draw(points: Sequence[Point], picture: Path) -> None:
    """Draw time and memory over size as PNG; grey lines are linear time."""
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2, squeeze=False)
    for column, is_batch in enumerate((False, True)):
        times: Axes = panels[0, column]
        memory: Axes = panels[1, column]
        shown = [point for point in points if (point["what"] == BATCH) == is_batch]
        for what, own in _in_order(shown).items():
            sizes, seconds = [p["size"] for p in own], [p["seconds"] for p in own]
            times.plot(sizes, [seconds[-1] * size / sizes[-1] for size in sizes], color="0.8", zorder=1)
            times.plot(sizes, seconds, marker="o", label=what)
            memory.plot(sizes, [p["peak_memory_mb"] or math.nan for p in own], marker="o", label=what)
        all_sizes = sorted({point["size"] for point in shown})
        for axes in (times, memory):
            axes.set_xscale("log")
            axes.set_xticks(all_sizes, [f"{size:g}" for size in all_sizes])
            axes.minorticks_off()
        times.set(yscale="log", ylabel="seconds (grey: linear)")
        most_mb = max((point["peak_memory_mb"] or 0 for point in shown), default=0)
        memory.set(ylim=(0, 1.1 * most_mb or 1), ylabel="peak memory (MB)", xlabel=_UNITS[is_batch])
        if shown:
            times.legend(fontsize="small")
    with atomic_file(picture, overwrite=True) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where figures go; a stopped run goes on.")],
    minutes: Annotated[
        list[float] | None,
        typer.Option(min=0.01, metavar="N", help="A length of recordings; may be given several times."),
    ] = None,
    items: Annotated[
        list[int] | None,
        typer.Option(min=1, metavar="N", help="A size of batches; may be given several times."),
    ] = None,
    preset: Annotated[str, typer.Option(metavar="NAME", help="Whose models work.")] = "default",
) -> None:
    """Measure time and memory with size."""
    requested: list[tuple[str, float]] = [(what, size) for what in MEASURED for size in minutes or LENGTHS_MIN]
    requested += [(BATCH, size) for size in items or BATCHES]
    points = measure(out / "scaling.jsonl", preset, requested, lambda what: typer.echo(f"{what} ...", err=True))
    write_text_atomic(out / "scaling.md", report(points), overwrite=True)
    draw(points, out / "scaling.png")
    typer.echo(report(points))
    if growing := faster_than_linear(points):
        typer.echo(f"time grows faster than size: {', '.join(growing)}", err=True)
        raise typer.Exit(1)


if __name__ == "__main__":
    guard_output()
    typer.run(main)
