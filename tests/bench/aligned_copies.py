"""Measure how well a source's latents can be copied at best: as recorded, and with attacks at other places.

    python tests/bench/aligned_copies.py --data PACK --preset default --pairs 12

Nothing is trained, and no transformer plays: each latent of the exact answer is replaced by the nearest ones
that a bank holds (`target_attention`, the benchmark's row "best copies"). Kits and rhythms are those of the
validation side. Banks: the source as recorded; the strokes of its low
drums besides, encoded with their attacks at each of 8 places of a frame that the rhythm asks for, and at the
very samples that it asks for. "Ruled" copies a low drum's frames from strokes at its own place alone; "one
hit" copies all frames of a stroke of one hit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from training.bench.items import Audio, BenchItem, ItemMaker
from training.data.kits import SAMPLE_RATE
from training.data.pack import Pack, load_pack
from training.data.synthesis import SEGMENT_SAMPLES
from training.score.codec import round_trip
from training.score.measures import any_onset_f, log_mel_distance_db, si_sdr_db
from training.score.scores import class_counts, pooled
from training.train.evaluation_transcriber import load_evaluation_transcriber, shipped_weights
from transform.codec import Codec
from transform.events import DrumEvent
from transform.presets import load_preset
from transform.terminal import guard_output
from transform.transcriber import Transcriber

_LOW = ("KD", "SD", "TT")
_LEAD, _LONGEST = 1, 48  # frames of a stroke before its attack, and at most after it
_LIKENESS = 1.0  # as in training/data/rhythm_pairs.py
_RINGS_S = {"KD": 0.3, "SD": 0.25, "TT": 0.4}  # how long a low drum rules
_MEASURES = ("log-mel dB", "averaged dB", "onsets @20", "class F @50", "SI-SDR < 300 Hz")


class Keys(NamedTuple):
    """What may be copied."""

    mu: Tensor  # (S, D)
    place: NDArray[np.int64]  # (S,): at which place the attack lies that rules the frame; -1 for none
    hit: NDArray[np.int64]  # (S,): the stroke that it is of; -1 for none

    def with_more(self, other: Keys) -> Keys:
        return Keys(
            torch.cat((self.mu, other.mu)), *(np.concatenate(p) for p in zip(self[1:], other[1:], strict=True))
        )


def low_onsets(events: Sequence[DrumEvent]) -> list[tuple[int, str]]:
    """Return (sample, class) of low strokes, of those within 10 ms the first."""
    found: list[tuple[int, str]] = []
    for event in sorted(events, key=lambda e: e.onset_s):
        at = round(event.onset_s * SAMPLE_RATE)
        if event.drum_class in _LOW and (not found or at - found[-1][0] > 441):
            found.append((at, event.drum_class))
    return found


def ruling(events: Sequence[DrumEvent], n_frames: int, hop: int) -> NDArray[np.int64]:
    """Return which low stroke rules each frame (F,), by its number in `low_onsets`; -1 for none."""
    rules = np.full(n_frames, -1)
    for number, (at, drum_class) in enumerate(low_onsets(events)):
        first = at // hop
        rules[first : first + round(_RINGS_S[drum_class] * SAMPLE_RATE / hop)] = number
    return rules


class Copier:
    """The banks of an item and what is copied of them."""

    def __init__(self, codec: Codec, item: BenchItem) -> None:
        assert item.oracle is not None
        self._codec, self._item, self._hop = codec, item, codec.config.hop
        self._oracle = codec.encode(torch.from_numpy(item.oracle)[None]).mu[0].T
        self._silence = codec.encode(torch.zeros(1, SEGMENT_SAMPLES)).mu.mean(dim=(0, 2))
        self._low = low_onsets((*item.truth, *item.hardly_audible))
        self._rules = ruling((*item.truth, *item.hardly_audible), len(self._oracle), self._hop)

    def results(self) -> Iterator[tuple[str, Audio]]:
        """Yield what is made of each bank."""
        assert self._item.oracle is not None
        yield "oracle through the codec", round_trip(self._codec, self._item.oracle)
        recorded = self._as_recorded()
        yield "as recorded", self._copied(recorded)
        for n_places in (8, 16, self._hop):
            places = self._places(self._hop // n_places)
            every = recorded.with_more(self._aligned(sorted(set(places))))
            name = "very samples" if n_places == self._hop else f"{n_places} places"
            yield name, self._copied(every)
            yield f"{name}, ruled", self._copied(every, places, is_ruled=True)
            yield f"{name}, ruled, one hit", self._copied(every, places, is_ruled=True, is_one_hit=True)

    def _places(self, step: int) -> list[int]:
        """Return the place of each low stroke of the rhythm, in samples, on a grid."""
        return [round(at % self._hop / step) * step for at, _ in self._low]

    def _as_recorded(self) -> Keys:
        mu = self._codec.encode(torch.from_numpy(self._item.source)[None]).mu[0].T
        rules = ruling(self._item.source_events, len(mu), self._hop)
        return Keys(mu, np.where(rules < 0, -1, -2), rules)  # low drums lie at no place of the grid

    def _aligned(self, places: Sequence[int]) -> Keys:
        strokes, hop, context = low_onsets(self._item.source_events), self._hop, self._codec.encoder_context
        latents, place_of, hit_of = [], [], []
        for number, (at, _) in enumerate(strokes):
            following = strokes[number + 1][0] if number + 1 < len(strokes) else len(self._item.source)
            n = min(_LONGEST, max(1, (following - at) // hop))
            for place in places:
                start = at - place - (_LEAD + context) * hop
                cut = np.zeros((2 * context + _LEAD + n) * hop, dtype=np.float32)
                inside = self._item.source[max(0, start) : max(0, start + len(cut))]
                cut[max(0, -start) : max(0, -start) + len(inside)] = inside
                frames = torch.arange(context, context + _LEAD + n)
                latents.append(self._codec.encode(torch.from_numpy(cut)[None], frames).mu[0].T)
                place_of += [place] * (_LEAD + n)
                hit_of += [number] * (_LEAD + n)
        if not latents:
            return Keys(self._oracle[:0], np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
        return Keys(torch.cat(latents), np.array(place_of), np.array(hit_of))

    def _copied(
        self, keys: Keys, places: Sequence[int] = (), *, is_ruled: bool = False, is_one_hit: bool = False
    ) -> Audio:
        mu = torch.cat((keys.mu, self._silence[None]))
        nearness = self._oracle @ mu.T - 0.5 * mu.square().sum(dim=-1)
        if is_ruled:
            place_of = np.append(keys.place, -1)
            requested = np.array([places[k] if k >= 0 else -1 for k in self._rules])
            allowed = (
                (place_of[None] == requested[:, None]) | (place_of[None] == -1) | (requested[:, None] == -1)
            )
            nearness = nearness.masked_fill(~torch.from_numpy(allowed), -torch.inf)
        if is_one_hit:
            nearness = self._of_one_hit(nearness, np.append(keys.hit, -1))
        copied = torch.softmax(nearness / _LIKENESS**2, dim=-1) @ mu
        assert self._item.oracle is not None
        return np.asarray(self._codec.decode(copied.T[None], len(self._item.oracle))[0].numpy())

    def _of_one_hit(self, nearness: Tensor, hit_of: NDArray[np.int64]) -> Tensor:
        """Return nearness (F, S + 1) with each stroke's frames confined to the hit that is nearest in all."""
        hits, out = np.unique(hit_of[hit_of >= 0]), nearness.clone()
        for stroke in np.unique(self._rules[self._rules >= 0]):
            frames = np.flatnonzero(self._rules == stroke)
            here = nearness[frames]
            total = [
                float(here[:, (hit_of == hit) | (hit_of < 0)].amax(dim=1).clamp_min(-1e6).sum()) for hit in hits
            ]
            if not total:
                continue
            others = torch.from_numpy((hit_of >= 0) & (hit_of != hits[int(np.argmax(total))]))
            out[frames] = here.masked_fill(others, -torch.inf)
        return out


def low_passed(audio: Audio) -> Audio:
    """Return audio (T,) below 300 Hz."""
    hz = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    return np.fft.irfft(np.fft.rfft(audio) / np.sqrt(1 + (hz / 300.0) ** 16), len(audio)).astype(np.float32)


def measured(audio: Audio, item: BenchItem, judge: Transcriber) -> list[float]:
    """Return the measures of a result."""
    assert item.oracle is not None
    found = [e for e in judge.events(judge.infer(torch.from_numpy(audio))) if e.onset_s < item.length_s]
    counts = class_counts(item.truth, found, ignored=item.hardly_audible, window_s=0.05)
    return [
        log_mel_distance_db(audio, item.oracle),
        log_mel_distance_db(audio, item.oracle, averaged=True),
        any_onset_f(item.truth, found, ignored=item.hardly_audible, window_s=0.02),
        pooled(counts).f_measure,
        si_sdr_db(low_passed(audio), low_passed(item.oracle)) or 0.0,
    ]


def validation_items(pack: Pack, n: int) -> Iterator[BenchItem]:
    """Yield pairs like the benchmark's, of the kits and rhythms of the validation side."""
    kits = tuple(replace(kit, split="test") for kit in pack.kits if kit.split == "validate")
    grooves = tuple(replace(g, split="test") for g in pack.grooves if g.split == "validate")
    maker = ItemMaker(Pack(kits, grooves, ()), seed=1)
    return (maker.pair(number) for number in range(n))


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(metavar="PACK", help="What `redrum train pack` made.")],
    preset: Annotated[str, typer.Option(metavar="NAME|DIR", help="Its codec is measured.")] = "default",
    pairs: Annotated[int, typer.Option(min=1)] = 12,
) -> None:
    """Print the means over pairs as Markdown."""
    base = load_preset(preset)
    codec = Codec.load(base.weights("codec-encoder"), base.weights("codec-generator"))
    judge = load_evaluation_transcriber(shipped_weights())
    found: dict[str, list[list[float]]] = {}
    for item in validation_items(load_pack(data), pairs):
        for name, audio in Copier(codec, item).results():
            found.setdefault(name, []).append(measured(audio, item, judge))
            typer.echo(f"{item.name}, {name}: {np.round(found[name][-1], 2).tolist()}", err=True)
    typer.echo(f"| latents | {' | '.join(_MEASURES)} |\n" + "| --- " * (1 + len(_MEASURES)) + "|")
    for name, rows in found.items():
        typer.echo(f"| {name} | {' | '.join(f'{x:.2f}' for x in np.mean(rows, axis=0))} |")


if __name__ == "__main__":
    guard_output()
    app()
