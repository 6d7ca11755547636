"""Measure what the latent engine alone makes of banks with places, untrained and with a preset's transformer.

    python tests/bench/play_places.py --data PACK --preset default --pairs 5

Pairs are those of aligned_copies.py; rhythms are MIDI, the source's events true, the balance the rhythm's.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

import numpy as np
import torch
import typer
from aligned_copies import low_passed, measured, validation_items

from training.bench.items import Audio, BenchItem
from training.bench.systems import _TrueEvents, events_of
from training.data.kits import SAMPLE_RATE
from training.data.pack import load_pack
from training.data.synthesis import SEGMENT_SAMPLES
from training.score.measures import si_sdr_db
from training.train.evaluation_transcriber import load_evaluation_transcriber
from transform.audio import Recording
from transform.codec import Codec
from transform.engine import Redrummer
from transform.latent import LatentModel
from transform.placing import LOW
from transform.presets import Preset, load_preset
from transform.rhythm_transformer import RhythmNet, load_rhythm
from transform.settings import RenderSettings
from transform.terminal import guard_output
from transform.transcriber import Transcriber

_HIT, _LAG = 6615, 132  # samples of a hit, and by which it may be early or late
_MEASURES = ("log-mel dB", "averaged dB", "onsets @20", "class F @50", "low drums, SI-SDR")


def low_hits_db(audio: Audio, item: BenchItem) -> float:
    """Return the mean SI-SDR of low drums below 300 Hz, of 150 ms each, at its best lag within 3 ms."""
    assert item.oracle is not None
    ours, truth, found = low_passed(audio), low_passed(item.oracle), []
    for event in item.truth:
        at = round(event.onset_s * SAMPLE_RATE)
        if event.drum_class in LOW and _LAG <= at <= len(truth) - _HIT - _LAG:
            lags = range(-_LAG, _LAG + 1, 6)
            ratios = [si_sdr_db(ours[at + k : at + k + _HIT], truth[at : at + _HIT]) for k in lags]
            found.append(max(-30.0 if ratio is None else ratio for ratio in ratios))
    return float(np.mean(found)) if found else float("nan")


def model_of(preset: Preset, codec: Codec, n_places: int, *, is_trained: bool) -> LatentModel:
    """Return a preset's latent model, or one whose transformer is as it begins, with places."""
    net = load_rhythm(preset.weights("rhythm"), codec)
    if not is_trained:
        torch.manual_seed(0)
        silence = codec.encode(torch.zeros(1, SEGMENT_SAMPLES)).mu.mean(dim=(0, 2))
        net = RhythmNet(net.config).eval()
        net.silence.data.copy_(silence)
    net.config = replace(net.config, n_places=n_places)
    return LatentModel(codec, net)


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(metavar="PACK", help="What `redrum train pack` made.")],
    preset: Annotated[str, typer.Option(metavar="NAME|DIR", help="Whose models play.")] = "default",
    pairs: Annotated[int, typer.Option(min=1)] = 5,
) -> None:
    """Print the means over pairs as Markdown."""
    base = load_preset(preset)
    codec = Codec.load(base.weights("codec-encoder"), base.weights("codec-generator"))
    judge, separator = load_evaluation_transcriber(), Redrummer.load(base.folder).separator
    found: dict[str, list[list[float]]] = {}
    for item in validation_items(load_pack(data), pairs):
        source = Recording.from_samples(item.source, SAMPLE_RATE, "source")
        true = cast(Transcriber, _TrueEvents(item.source_events))
        for is_trained, n_places in ((t, n) for t in (False, True) for n in (0, 8, 16)):
            model = model_of(base, codec, n_places, is_trained=is_trained)
            redrummer = Redrummer(true, separator, load_latent=lambda model=model: model)
            settings = RenderSettings(
                length=item.length_s, align="seconds", engine="latent", attack="none", balance=0.0
            )
            audio = redrummer.redrum(source, events_of(item), settings).read(0, len(item.target))[0]
            row = [*measured(audio, item, judge)[:4], low_hits_db(audio, item)]
            found.setdefault(f"{'trained' if is_trained else 'as it begins'}, {n_places} places", []).append(
                row
            )
    typer.echo(f"| transformer | {' | '.join(_MEASURES)} |\n" + "| --- " * (1 + len(_MEASURES)) + "|")
    for name, rows in found.items():
        typer.echo(f"| {name} | {' | '.join(f'{x:.2f}' for x in np.nanmean(rows, axis=0))} |")


if __name__ == "__main__":
    guard_output()
    app()
