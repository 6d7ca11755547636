"""One-shots and the kits made of them: recorded ones from a packed data set, procedural ones without end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from training.data.procedural import ARTICULATIONS, make_one_shots
from training.data.split import Split
from transform.events import CLASSES

SAMPLE_RATE = 44_100
MAX_ONE_SHOT_S = 2.0  # longer tails are faded: a segment is three seconds long


@dataclass(frozen=True)
class OneShot:
    """One recorded or procedural drum hit.

    `samples` has shape (T,), its attack begins at sample 0 and its peak is near 0.9; `level_db` is its level
    against the loudest hit of its kit, 0 or less.
    """

    drum_class: str
    articulation: str
    level_db: float
    samples: Tensor


@dataclass(frozen=True)
class Kit:
    """The one-shots of one instrument."""

    name: str
    kind: str
    split: Split
    one_shots: tuple[OneShot, ...]

    def voices(self, drum_class: str) -> dict[str, list[OneShot]]:
        """Return the one-shots of a class by articulation, each list from soft to loud."""
        found: dict[str, list[OneShot]] = {}
        for one_shot in self.one_shots:
            if one_shot.drum_class == drum_class:
                found.setdefault(one_shot.articulation, []).append(one_shot)
        return {name: sorted(hits, key=lambda hit: hit.level_db) for name, hits in sorted(found.items())}

    def to(self, device: torch.device) -> Kit:
        """Return the kit with its samples on a device."""
        moved = tuple(replace(shot, samples=shot.samples.to(device)) for shot in self.one_shots)
        return replace(self, one_shots=moved)


# Articulations as kit makers name them -> ours (see transform/midi.py); anything else keeps its class alone.
_ARTICULATION_PREFIXES: dict[str, tuple[tuple[str, str], ...]] = {
    "SD": (("sidestick", "sidestick"), ("stick", "sidestick"), ("clap", "clap"), ("popclap", "clap")),
    "TT": (
        ("tomhi", "high"),
        ("tom1", "high"),
        ("tommid", "mid"),
        ("tom2", "mid"),
        ("tomlow", "low"),
        ("tomfloor", "low"),
        ("tom3", "low"),
        ("tom4", "low"),
    ),
    "HH": (("closed", "closed"), ("open", "open"), ("semiopen", "open"), ("pedal", "pedal")),
    "CY": (
        ("ridebell", "bell"),
        ("ride", "ride"),
        ("china", "china"),
        ("splash", "splash"),
        ("crash", "crash"),
        ("cymbal", "crash"),
    ),
}


def common_articulation(drum_class: str, name: str) -> str:
    """Return our word for a kit maker's articulation name, "" where there is none."""
    for prefix, word in _ARTICULATION_PREFIXES.get(drum_class, ()):
        if name.startswith(prefix):
            return word
    return ""


def trimmed(samples: np.ndarray, sample_rate: int = SAMPLE_RATE) -> np.ndarray:
    """Return a one-shot cut to begin at its attack, at most `MAX_ONE_SHOT_S` long, its silent tail removed.

    The attack is where the sound first reaches a twentieth of the peak of its first 60 ms (-26 dB): events are
    placed there, so every label of a synthetic recording means the same instant.
    """
    head_peak = float(np.abs(samples[: round(0.06 * sample_rate)]).max(initial=0.0))
    if head_peak <= 0:
        return samples[:0]
    start = int(np.argmax(np.abs(samples) >= head_peak / 20))
    cut = samples[start : start + round(MAX_ONE_SHOT_S * sample_rate)]
    audible = np.flatnonzero(np.abs(cut) > 10 ** (-66 / 20) * np.abs(cut).max())
    cut = cut[: audible[-1] + 1].astype(np.float32, copy=True)
    fade = min(len(cut), round(0.02 * sample_rate))
    cut[len(cut) - fade :] *= np.linspace(1, 0, fade, dtype=np.float32)
    return cut


@dataclass
class ProceduralPool:
    """A stock of procedural one-shots that is renewed as training goes, so that no drum is met often.

    What it holds follows from the generator's seed and the renewals alone, so that a resumed run can have the
    same stock again without storing it.
    """

    generator: torch.Generator
    size: int = 40  # one-shots in stock per class and articulation
    hits: dict[tuple[str, str], list[OneShot]] = field(default_factory=dict)

    def fill(self) -> None:
        """Make the first stock, all articulations."""
        for drum_class, articulations in ARTICULATIONS.items():
            for articulation in articulations:
                self.hits[drum_class, articulation] = self._make(drum_class, articulation, self.size)

    def renew(self, rng: np.random.Generator, n: int) -> None:
        """Replace `n` one-shots of one randomly chosen articulation by new ones."""
        key, seed, places = self._draw_renewal(rng, n)
        self.generator.manual_seed(seed)
        for place, hit in zip(places, self._make(*key, n), strict=True):
            self.hits[key][place] = hit

    def replay(self, rngs: Iterable[np.random.Generator], n: int) -> None:
        """Renew once with each of `rngs`, making only those one-shots that are still in stock afterwards."""
        renewals = [self._draw_renewal(rng, n) for rng in rngs]
        settled: set[tuple[tuple[str, str], int]] = set()
        for key, seed, places in reversed(renewals):
            if all((key, place) in settled for place in places):
                continue
            self.generator.manual_seed(seed)
            made = self._make(*key, n)
            for place, hit in zip(reversed(places), reversed(made), strict=True):
                if (key, place) not in settled:
                    self.hits[key][place] = hit
                    settled.add((key, place))

    def draw(self, rng: np.random.Generator, drum_class: str, articulation: str) -> OneShot:
        """Return one stocked one-shot; one of an articulation that is not made is any of the class."""
        if (drum_class, articulation) not in self.hits:
            names = ARTICULATIONS[drum_class]
            articulation = names[0] if rng.random() < 0.6 else names[rng.integers(len(names))]
        stock = self.hits[drum_class, articulation]
        return stock[rng.integers(len(stock))]

    def _draw_renewal(self, rng: np.random.Generator, n: int) -> tuple[tuple[str, str], int, list[int]]:
        """Return which articulation is renewed, the seed of its new one-shots and the places they take."""
        keys = sorted(self.hits)
        key = keys[rng.integers(len(keys))]
        return key, int(rng.integers(2**62)), rng.integers(self.size, size=n).tolist()

    def _make(self, drum_class: str, articulation: str, n: int) -> list[OneShot]:
        made = make_one_shots(drum_class, articulation, n, generator=self.generator)
        return [OneShot(drum_class, articulation, 0.0, self._without_tail(samples)) for samples in made]

    @staticmethod
    def _without_tail(samples: Tensor) -> Tensor:
        audible = torch.nonzero(samples.abs() > 10 ** (-66 / 20))
        return samples[: int(audible[-1]) + 1].clone() if len(audible) else samples[:1].clone()


def kits_of(kits: Sequence[Kit], split: Split) -> list[Kit]:
    """Return the kits of one side of the split."""
    return [kit for kit in kits if kit.split == split]


def has_classes(kit: Kit, classes: Sequence[str] = CLASSES) -> bool:
    """Tell whether a kit holds every one of the classes."""
    return set(classes) <= {one_shot.drum_class for one_shot in kit.one_shots}
