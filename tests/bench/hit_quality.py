"""Measure how near the hits of made loops are to the one-shots that they are made of.

    python tests/bench/hit_quality.py --data PACK

Twenty loops of four bars repeat one-shots of unseen kits, as drum machines do, every second one with velocity
layers; ten play kits whose strokes differ. All are transcribed, nothing is given. The measure is the
scale-invariant signal-to-distortion ratio of each hit of one class against the one-shot that it is nearest to,
over the longer of the two: the median of each loop, its mean over loops with their standard deviation, and the
median of all hits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from training.data.kits import SAMPLE_RATE, Kit, OneShot, has_classes, kits_of
from training.data.pack import Pack, load_pack
from training.data.rhythms import AS_PLAYED, Groove, Stroke, draw_strokes
from training.score.scores import class_counts, pooled
from transform.audio import Recording
from transform.bank import Bank
from transform.clusters import Clusters
from transform.engine import Redrummer
from transform.events import CLASSES, DrumEvent
from transform.hits import Cut, StemCutter
from transform.listening import Listening
from transform.signal import Samples
from transform.terminal import guard_output

Audio = NDArray[np.float32]

_N_REPEATING, _N_DIFFERING = 20, 10
_N_BEATS, _FEWEST_PER_S = 16, 5.0  # strokes of three classes at least
_CHOKE_SAMPLES = 440
_LEVEL_DB = {"KD": (-6, 0), "SD": (-8, 0), "TT": (-9, 0), "HH": (-22, -8), "CY": (-18, -6)}
_EXPONENT = 1.8  # amplitude goes as velocity to this power
_N_ROBIN = 4  # one-shots that take turns
_N_FFT = 2**18
_REACH = 882  # samples by which a hit may be shifted against its one-shot


@dataclass(frozen=True)
class Loop:
    """A made loop: its sound (T,), its strokes and the one-shots that play them."""

    name: str
    audio: Audio
    strokes: tuple[Stroke, ...]
    one_shots: tuple[Audio, ...]
    parts: tuple[tuple[int, Audio], ...] = ()  # of each stroke: where it begins, and what it adds

    @cached_property
    def spectra(self) -> NDArray[np.complex64]:
        """The spectra of the one-shots, each of energy 1."""
        return np.stack([np.fft.rfft(x / np.linalg.norm(x), _N_FFT) for x in self.one_shots])

    def si_sdr_db(self, hit: Samples) -> float:
        """Return how near a hit (C, T) is to the nearest of the one-shots."""
        sound = hit.mean(axis=0)
        norm = float(np.linalg.norm(sound))
        if norm <= 0:
            return -30.0
        alike = np.fft.irfft(np.fft.rfft(sound / norm, _N_FFT) * self.spectra.conj())
        likeness = max(float(np.abs(alike[:, :_REACH]).max()), float(np.abs(alike[:, -_REACH:]).max()))
        squared = min(likeness**2, 1 - 1e-9)
        return float(np.clip(10 * np.log10(squared / (1 - squared) + 1e-12), -30, 60))


class LoopMaker:
    """Makes the loops of a pack's test side."""

    def __init__(self, pack: Pack, seed: int) -> None:
        self._seed = seed
        self._kits = [kit for kit in kits_of(pack.kits, "test") if has_classes(kit, ("KD", "SD", "HH"))]
        self._lenders = {c: [kit for kit in kits_of(pack.kits, "test") if kit.voices(c)] for c in CLASSES}
        self._grooves = [groove for groove in pack.grooves_of("test") if groove.n_beats >= 8]

    def loops(self) -> Iterator[tuple[str, Loop]]:
        """Yield each loop with the sort it is of."""
        for i in range(_N_REPEATING):
            yield "repeated", self._loop(i, differs=False)
        for i in range(_N_DIFFERING):
            yield "round robin", self._loop(100 + i, differs=True)

    def _loop(self, number: int, *, differs: bool) -> Loop:
        rng = np.random.default_rng((self._seed, number))
        kits = [kit for kit in self._kits if not differs or _n_alike(kit) >= _N_ROBIN]
        sort = ("acoustic", "electronic")[number // 2 % 2]
        kits = [kit for kit in kits if kit.kind == sort]
        kit = kits[rng.integers(len(kits))]
        n_layers = 99 if differs else 1 + (number % 2) * int(rng.integers(1, 3))
        strokes, length = self._played(rng)
        voices: dict[tuple[str, str], list[OneShot]] = {}
        for key in sorted({(s.drum_class, s.articulation) for s in strokes}):
            own = self._voice(kit, *key, rng)
            n = min(n_layers, len(own))
            voices[key] = [own[i] for i in sorted(rng.choice(len(own), n, replace=False))]
        return _rendered(kit.name, strokes, voices, length, rng, n_robin=_N_ROBIN if differs else 1)

    def _played(self, rng: np.random.Generator) -> tuple[list[Stroke], int]:
        while True:
            groove: Groove = self._grooves[rng.integers(len(self._grooves))]
            length_s = _N_BEATS * 60 / groove.bpm
            strokes = draw_strokes([groove], start_s=0.0, stop_s=length_s, settings=AS_PLAYED, rng=rng)
            if len(strokes) >= _FEWEST_PER_S * length_s and len({s.drum_class for s in strokes}) >= 3:
                return strokes, round(length_s * SAMPLE_RATE)

    def _voice(self, kit: Kit, drum_class: str, articulation: str, rng: np.random.Generator) -> list[OneShot]:
        lenders = self._lenders[drum_class]
        lender = kit if kit.voices(drum_class) else lenders[rng.integers(len(lenders))]
        voices = lender.voices(drum_class)
        return voices.get(articulation) or voices[sorted(voices)[rng.integers(len(voices))]]


def _n_alike(kit: Kit) -> int:
    """Return how many one-shots the leading voices of a kit have at least."""
    return min(max(map(len, kit.voices(c).values())) for c in ("KD", "SD", "HH"))


def _rendered(
    name: str,
    strokes: Sequence[Stroke],
    voices: dict[tuple[str, str], list[OneShot]],
    length: int,
    rng: np.random.Generator,
    *,
    n_robin: int,
) -> Loop:
    """Return a loop in which each stroke is one of its voice's one-shots of about its strength."""
    gains = {c: 10 ** (rng.uniform(*_LEVEL_DB[c]) / 20) for c in CLASSES}
    audio, used, parts = np.zeros(length, dtype=np.float64), {}, []
    hats = sorted(round(s.onset_s * SAMPLE_RATE) for s in strokes if s.drum_class == "HH")
    for stroke in strokes:
        own = voices[stroke.drum_class, stroke.articulation]
        place = min(len(own) - 1, int(stroke.velocity * len(own)))
        first = max(0, min(place - n_robin // 2, len(own) - n_robin))
        one_shot = own[place if n_robin == 1 else min(len(own) - 1, first + int(rng.integers(n_robin)))]
        samples = one_shot.samples.numpy()
        used[id(one_shot)] = samples
        start = round(stroke.onset_s * SAMPLE_RATE)
        sound = gains[stroke.drum_class] * stroke.velocity**_EXPONENT * samples[: length - start]
        if stroke.drum_class == "HH":
            sound = _choked(sound, start, hats)
        parts.append((start, sound))
        audio[start : start + len(sound)] += sound
    gain = 0.9 / np.abs(audio).max()
    placed = tuple((start, (gain * sound).astype(np.float32)) for start, sound in parts)
    return Loop(name, (gain * audio).astype(np.float32), tuple(strokes), tuple(used.values()), placed)


def _choked(sound: Audio, start: int, hats: Sequence[int]) -> Audio:
    length = next((hat - start for hat in hats if hat > start + 200), len(sound))
    if length >= len(sound):
        return sound
    out = sound[: length + _CHOKE_SAMPLES].copy()
    out[length:] *= np.linspace(1, 0, _CHOKE_SAMPLES, dtype=np.float32)[: len(out) - length]
    return out


@dataclass
class Scores:
    """What was measured of loops of one sort, by what cut the hits."""

    by_loop: dict[str, list[float]] = field(default_factory=dict)  # medians
    by_hit: dict[str, list[float]] = field(default_factory=dict)
    class_f: list[float] = field(default_factory=list)

    def add(self, cutter: str, values: Sequence[float]) -> None:
        """Add the hits of a loop."""
        self.by_hit.setdefault(cutter, []).extend(values)
        if values:
            self.by_loop.setdefault(cutter, []).append(float(np.median(values)))

    def lines(self, sort: str) -> Iterator[str]:
        """Yield the rows of a table."""
        for cutter, medians in self.by_loop.items():
            hits = self.by_hit[cutter]
            mean, deviation = np.mean(medians), np.std(medians)
            yield f"{sort:12} {cutter:10} {mean:6.1f} ({deviation:4.1f}) {np.median(hits):6.1f} {len(hits):6}"
        yield f"{sort:12} class F {np.mean(self.class_f):.3f} ({np.std(self.class_f):.3f})"


class _OnlyStems(StemCutter):
    """Takes the stem even where the recording holds a hit and nothing else."""

    def _clean_until(self, cut: Cut) -> int:
        return cut.attack - self.lead


def banks(detected: Listening) -> Iterator[tuple[str, Bank]]:
    """Yield the bank of each way to cut hits."""
    recording, events, stems = detected.recording, detected.events, detected.stems
    assert stems is not None
    yield "plain", Bank.of_recording(recording, events)
    none = Clusters([], [], {})
    for name, cutter in (
        ("stems", _OnlyStems(recording, events, stems, none)),
        ("0.1.0", StemCutter(recording, events, stems, none)),
        ("clusters", StemCutter(recording, events, stems)),
    ):
        yield name, Bank.of_cutter(cutter)


def main(
    data: Annotated[Path, typer.Option(help="Pack of training data.")],
    seed: Annotated[int, typer.Option(help="Of the loops.")] = 0,
) -> None:
    """Print how near hits are to one-shots: loops' medians (deviation), hits' median, number, in dB."""
    redrummer, scores = Redrummer.load(), dict[str, Scores]()
    for sort, loop in LoopMaker(load_pack(data), seed).loops():
        detected = redrummer.listen(Recording.from_samples(loop.audio, SAMPLE_RATE, loop.name))
        score = scores.setdefault(sort, Scores())
        truth = [DrumEvent(s.onset_s, s.drum_class, s.velocity) for s in loop.strokes]
        score.class_f.append(pooled(class_counts(truth, detected.events)).f_measure)
        for cutter, bank in banks(detected):
            alone = [hit for classes, hits in bank.sets.items() if len(classes) == 1 for hit in hits]
            score.add(cutter, [loop.si_sdr_db(bank.sound(hit)) for hit in alone])
    for sort, score in scores.items():
        print("\n".join(score.lines(sort)))


if __name__ == "__main__":
    guard_output()
    typer.run(main)
