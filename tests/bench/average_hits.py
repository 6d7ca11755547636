"""Measure what becomes of a drum when latents of its different strokes are averaged, as attention does.

    python tests/bench/average_hits.py --data PACK --preset default

Thirty drums (kick, snare, tom) of the training side with eight strokes or more: the eight that are nearest in
level, brought to one level. The first is what should come out. The mean of its latents and those of others is
decoded and compared with it: log-mel distance (plain, and of averaged powers) and SI-SDR, whole and below 300
Hz. Strokes lie at the same place within a frame, within 32 samples of it, or anywhere in the frame. "Aligned"
are strokes moved by up to 2 ms to where their lows correlate best with the first's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from training.data.kits import SAMPLE_RATE, OneShot, kits_of
from training.data.pack import Pack, load_pack
from training.score.measures import log_mel_distance_db, si_sdr_db
from transform.codec import Codec
from transform.presets import load_preset
from transform.terminal import guard_output

Audio = NDArray[np.float32]

_N_DRUMS, _N_STROKES = 30, 8
_AT_FRAME, _N_FRAMES = 8, 64  # where attacks lie, and how long what is encoded is
_LOW_HZ = 300.0
_SHIFT = 88  # samples by which a stroke may be moved to be aligned, 2 ms
_MEASURES = ("log-mel dB", "averaged dB", "SI-SDR dB", "SI-SDR < 300 Hz")


def drums_of(pack: Pack) -> list[list[OneShot]]:
    """Return the eight strokes of each drum that are nearest in level; drums of all kits in turn."""
    by_kit: list[list[list[OneShot]]] = []
    for kit in kits_of(pack.kits, "train"):
        voices = [hits for c in ("KD", "SD", "TT") for hits in kit.voices(c).values()]
        by_kit.append([nearest_in_level(hits) for hits in voices if len(hits) >= _N_STROKES])
    longest = max(map(len, by_kit), default=0)
    in_turn = [drums[k] for k in range(longest) for drums in by_kit if k < len(drums)]
    return in_turn[:_N_DRUMS]


def nearest_in_level(hits: Sequence[OneShot]) -> list[OneShot]:
    """Return eight of the hits of a voice, sorted by level, whose levels lie closest together."""
    spread = [hits[k + _N_STROKES - 1].level_db - hits[k].level_db for k in range(len(hits) - _N_STROKES + 1)]
    first = int(np.argmin(spread))
    return list(hits[first : first + _N_STROKES])


def placed(samples: Audio, place: int, hop: int) -> Audio:
    """Return a hit (T,) whose attack lies `place` samples into frame 8 of what is encoded."""
    start, n = _AT_FRAME * hop + place, _N_FRAMES * hop
    out = np.zeros(n, dtype=np.float32)
    cut = samples[: n - start]
    out[start : start + len(cut)] = cut
    return out


def low_passed(audio: Audio) -> Audio:
    """Return audio (T,) below 300 Hz."""
    spectrum = np.fft.rfft(audio)
    hz = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE)
    return np.fft.irfft(spectrum / np.sqrt(1 + (hz / _LOW_HZ) ** 16), len(audio)).astype(np.float32)


def shift_to(sound: Audio, reference: Audio) -> int:
    """Return by how many samples a sound is to be delayed for its lows to correlate best with a reference's."""
    ours, theirs = (np.fft.rfft(low_passed(x), 2 * len(x)) for x in (sound, reference))
    alike = np.fft.irfft(theirs * ours.conj())
    lags = np.arange(-_SHIFT, _SHIFT + 1)
    return int(lags[np.argmax(alike[lags])])


class Averager:
    """Encodes the strokes of a drum at places of a frame, averages and decodes them."""

    def __init__(self, codec: Codec, strokes: Sequence[Audio], seed: int) -> None:
        """Take a codec and the strokes (T,) of one drum, the first of which should come out."""
        self._codec, self._hop = codec, codec.config.hop
        self._rng = np.random.default_rng(seed)
        self.place = int(self._rng.integers(self._hop))
        self.reference = placed(strokes[0], self.place, self._hop)
        level = float(np.sqrt(np.mean(self.reference**2)))
        gains = [level / float(np.sqrt(np.mean(placed(x, 0, self._hop) ** 2))) for x in strokes]
        self._strokes = [np.float32(gain) * x for gain, x in zip(gains, strokes, strict=True)]
        self._shifts = [shift_to(placed(x, self.place, self._hop), self.reference) for x in self._strokes]

    def conditions(self) -> Iterator[tuple[str, int, dict[str, float]]]:
        """Yield, for each kind of place and number of strokes, how near their mean is to the first stroke."""
        anywhere = self._rng.integers(self._hop, size=_N_STROKES)
        anywhere[0] = self.place
        near = np.clip(self.place + self._rng.integers(-32, 33, size=_N_STROKES), 0, self._hop - 1)
        same = np.full(_N_STROKES, self.place)
        own = np.zeros(_N_STROKES, dtype=np.int64)  # the first stroke every time
        every = np.arange(_N_STROKES)
        kinds = {
            "equal strokes, within 32": (own, near),
            "equal strokes, anywhere": (own, anywhere),
            "strokes, same place": (every, same),
            "strokes, same place, aligned": (every, same + np.array(self._shifts)),
            "strokes, within 32": (every, near),
            "strokes, anywhere": (every, anywhere),
        }
        first = self._latents(0, self.place)
        yield "itself", 1, self._measured(first)
        other = int(self._rng.integers(1, _N_STROKES))
        yield "another stroke, same place", 1, self._measured(self._latents(other, self.place))
        moved = self._latents(other, self.place + self._shifts[other])
        yield "another stroke, aligned", 1, self._measured(moved)
        for kind, (which, places) in kinds.items():
            latents = [self._latents(int(k), int(place)) for k, place in zip(which, places, strict=True)]
            for n in (2, 4, 8):
                yield kind, n, self._measured(torch.stack(latents[:n]).mean(dim=0))

    def _latents(self, number: int, place: int) -> Tensor:
        audio = torch.from_numpy(placed(self._strokes[number], place, self._hop))
        return self._codec.encode(audio[None]).mu

    def _measured(self, latents: Tensor) -> dict[str, float]:
        made = self._codec.decode(latents, len(self.reference))[0].numpy()
        values = (
            log_mel_distance_db(made, self.reference),
            log_mel_distance_db(made, self.reference, averaged=True),
            si_sdr_db(made, self.reference),
            si_sdr_db(low_passed(made), low_passed(self.reference)),
        )
        return {name: float(v) for name, v in zip(_MEASURES, values, strict=True) if v is not None}


app = typer.Typer(add_completion=False)


@app.command()
def main(
    data: Annotated[Path, typer.Option(metavar="PACK", help="What `redrum train pack` made.")],
    preset: Annotated[str, typer.Option(metavar="NAME|DIR", help="Its codec is measured.")] = "default",
) -> None:
    """Print the means over drums as Markdown."""
    base = load_preset(preset)
    codec = Codec.load(base.weights("codec-encoder"), base.weights("codec-generator"))
    found: dict[tuple[str, int], list[dict[str, float]]] = {}
    drums = drums_of(load_pack(data))
    for seed, strokes in enumerate(drums):
        averager = Averager(codec, [stroke.samples.numpy() for stroke in strokes], seed)
        for kind, n, measured in averager.conditions():
            found.setdefault((kind, n), []).append(measured)
    typer.echo(f"{len(drums)} drums\n\n| latents | strokes | {' | '.join(_MEASURES)} |")
    typer.echo("| --- " * (2 + len(_MEASURES)) + "|")
    for (kind, n), rows in found.items():
        means = (f"{np.mean([row[name] for row in rows]):.1f}" for name in _MEASURES)
        typer.echo(f"| {kind} | {n} | {' | '.join(means)} |")


if __name__ == "__main__":
    guard_output()
    app()
