"""A picture of what the rhythm transformer attends to: a real recording that plays another one's rhythm.

`python tests/bench/attention_picture.py` remakes the picture of docs/laboratory.md with a preset's weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from training.data.synthesis import SEGMENT_SAMPLES
from training.picture import show_attention
from transform.audio import SAMPLE_RATE, Recording
from transform.events import CLASSES, DrumEvent
from transform.files import atomic_file
from transform.latent import MODELS, LatentModel, LatentOrder, latent_part
from transform.latent_bank import GAINS
from transform.library import demo_recordings
from transform.listening import Listening, listen
from transform.presets import Preset, load_preset
from transform.resequence import stand_ins
from transform.rhythm_transformer import load_rhythm
from transform.terminal import guard_output
from transform.transcriber import Transcriber

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Attention = NDArray[np.float32]
_SEGMENT_S = SEGMENT_SAMPLES / SAMPLE_RATE
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#B07C00", "#AA4499")  # of the classes
_LINE: dict[str, Any] = {"linewidth": 0.8, "alpha": 0.3}  # at a stroke
_SOURCE, _RHYTHM = "electronic-breakbeat-124bpm", "electronic-half-time-140bpm"


@dataclass(frozen=True)
class Attended:
    """What the frames of a target are made of; heads are averaged, a frame's gains summed."""

    first: Attention  # (F, S + 1): what the first layer attends to, the last column being silence
    later: tuple[Attention, ...]  # (F, F + 1): each other layer, which attends to the target's own frames
    composed: Attention  # (F, S + 1): over all layers, of the source's frames
    frame_s: float
    source_events: Sequence[DrumEvent]
    target_events: Sequence[DrumEvent]


@torch.inference_mode()
def attended(preset: Preset, source: Recording, target: Recording) -> Attended:
    """Return what is attended to when a source plays a target's rhythm as the latent engine has it.

    Args:
        preset: holds the models.
        source: of which the first 2.97 s are the bank, all of their frames.
        target: whose first 2.97 s are one window.

    Raises:
        CheckpointError: the preset lacks a model of the latent engine, or a file is damaged.
    """
    model = LatentModel.load(preset)
    net = load_rhythm(preset.weights(MODELS[2]), model.codec)
    transcriber = Transcriber.load(preset.weights("transcriber"))
    own, other = (_beginning(transcriber, recording) for recording in (source, target))
    order = LatentOrder(
        source=own,
        events=other.events,
        length_s=other.recording.duration_s,
        target=other,
        stand_ins=stand_ins({event.drum_class for event in own.events}, other.events),
        scales={},
    )
    part = latent_part(model, order)
    n_frames = -(-round(other.recording.duration_s * SAMPLE_RATE) // model.config.hop)
    out = net(part.bank.source, part.rhythm.target(0, n_frames))
    n_source = -(-round(own.recording.duration_s * SAMPLE_RATE) // model.config.hop)
    layers = [layer[0].mean(dim=0).numpy() for layer in out.layers]
    return Attended(
        _at_any_gain(layers[0], n_source),
        tuple(layers[1:]),
        _at_any_gain(out.attention[0].numpy(), n_source),
        model.config.hop / SAMPLE_RATE,
        own.events,
        other.events,
    )


def _beginning(transcriber: Transcriber, recording: Recording) -> Listening:
    """Return what is detected in the first 2.97 s of a recording."""
    samples = recording.read(0, min(recording.n_samples, round(_SEGMENT_S * recording.sample_rate)))
    return listen(Recording.from_samples(samples, recording.sample_rate, recording.name), transcriber)


def _at_any_gain(attention: Attention, n_source: int) -> Attention:
    """Return attention to a bank as attention (F, S + 1) to the source's S frames, copies left out."""
    recorded = attention[:, : n_source * len(GAINS)]
    frames = recorded.reshape(len(attention), len(GAINS), -1).sum(axis=1)
    return np.concatenate((frames, attention[:, -1:]), axis=1)


def draw_attention(path: Path, found: Attended, *, source: str, target: str) -> None:
    """Write a PNG: over all layers large, with the strokes of source and target beside it; each layer small."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7.2), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(3, 3, width_ratios=(0.7, 6, 2.6), height_ratios=(0.9, 6, 0.9))
    whole = figure.add_subplot(grid[1, 1])
    _draw_weights(whole, found.composed[:, :-1], found, found.source_events)
    whole.tick_params(labelbottom=False, labelleft=False)
    above = figure.add_subplot(grid[0, 1], sharex=whole)
    _strokes(above, found.target_events, is_upright=False)
    figure.suptitle(
        f"{source} plays {target}: what each frame is made of, over all layers and by layer", size=10
    )
    beside = figure.add_subplot(grid[1, 0], sharey=whole)
    _strokes(beside, found.source_events, is_upright=True)
    beside.set_ylabel("source, s", fontsize=9)
    below = figure.add_subplot(grid[2, 1], sharex=whole)
    time_s = (np.arange(len(found.composed)) + 0.5) * found.frame_s
    below.fill_between(time_s, found.composed[:, -1], color="#888888", linewidth=0)
    below.set(ylim=(0, 1), xlabel="target, s")
    below.set_ylabel("silence", fontsize=9)
    column = grid[:, 2].subgridspec(1 + len(found.later), 1)
    for i, attention in enumerate((found.first, *found.later)):
        axes = figure.add_subplot(column[i])
        _draw_weights(axes, attention[:, :-1], found, found.target_events if i else found.source_events)
        where = "its own frames" if i else "the source's"
        axes.set_title(f"layer {i + 1}, from {where}", fontsize=9, loc="left")
        axes.tick_params(labelsize=7)
    with atomic_file(path, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=80, metadata={"Software": None})


def _draw_weights(axes: Axes, attention: Attention, found: Attended, keys: Sequence[DrumEvent]) -> None:
    """Draw attention (F, keys) over seconds, with lines at the strokes of target and keys."""
    show_attention(axes, attention, frame_s=found.frame_s)
    for event in found.target_events:
        axes.axvline(event.onset_s, color=_COLOURS[CLASSES.index(event.drum_class)], **_LINE)
    for event in keys:
        axes.axhline(event.onset_s, color=_COLOURS[CLASSES.index(event.drum_class)], **_LINE)


def _strokes(axes: Axes, events: Sequence[DrumEvent], *, is_upright: bool) -> None:
    """Draw strokes in a lane a class, along the axis that is shared with a picture of attention."""
    lanes = [CLASSES.index(event.drum_class) for event in events]
    colours, onsets_s = [_COLOURS[lane] for lane in lanes], [event.onset_s for event in events]
    sizes = [4 + 26 * event.velocity for event in events]
    across, up = (lanes, onsets_s) if is_upright else (onsets_s, lanes)
    axes.scatter(across, up, s=sizes, c=colours)
    limits, ticks = (axes.set_xlim, axes.set_xticks) if is_upright else (axes.set_ylim, axes.set_yticks)
    limits(-0.6, len(CLASSES) - 0.4)
    ticks(range(len(CLASSES)), CLASSES, fontsize=7, rotation=90 if is_upright else 0)
    axes.tick_params(labelsize=7, labelbottom=is_upright, labelleft=True)
    axes.spines[["top", "right"]].set_visible(False)


def main(
    out: Annotated[Path, typer.Option(metavar="OUT.png", help="Where the picture is written.")],
    preset: Annotated[str, typer.Option(metavar="NAME|DIR", help="Whose attention.")] = "default",
    source: Annotated[
        Path | None, typer.Option(metavar="AUDIO", help="What plays. [default: a demo loop]")
    ] = None,
    rhythm: Annotated[
        Path | None, typer.Option(metavar="AUDIO", help="Whose rhythm. [default: another demo loop]")
    ] = None,
) -> None:
    """Draw what the rhythm transformer attends to in the first three seconds of a pair of recordings."""
    demos = {demo.name: demo.path for demo in demo_recordings()}
    paths = source or demos[_SOURCE], rhythm or demos[_RHYTHM]
    with Recording.open(paths[0]) as plays, Recording.open(paths[1]) as played:
        found = attended(load_preset(preset), plays, played)
    draw_attention(out, found, source=paths[0].stem, target=paths[1].stem)
    typer.echo(str(out))


if __name__ == "__main__":
    guard_output()
    typer.run(main)
