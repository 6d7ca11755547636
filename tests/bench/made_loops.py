"""How well loops made of known one-shots are played: articulations, hats on kicks, crashes with kicks, balance.

python -m tests.bench.made_loops --data PACK [--kits N]

Each loop is four bars of a test kit's loudest one-shots: closed hats on the eighths, two of them open, kick and
snare, a crash with a kick and one alone. It is transcribed by the shipped preset; nothing is given.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.data.kits import SAMPLE_RATE, Kit, kits_of
from training.data.pack import load_pack
from training.score.measures import band_level_db
from transform.audio import Recording
from transform.bank import Bank
from transform.engine import Redrummer
from transform.events import DrumEvent, Rhythm
from transform.library import list_rhythms
from transform.midi import read_midi
from transform.one_shots import load_kit, save_kit
from transform.resequence import Placement, arrange
from transform.settings import RenderSettings

BEAT_S = 60 / 110
_VOICES = (("KD", ""), ("SD", ""), ("HH", "closed"), ("HH", "open"), ("CY", "crash"))
_NEAR_S = 0.03


@dataclass(frozen=True)
class Loop:
    """A loop, and what truly plays in it."""

    kit: str
    audio: np.ndarray  # (T,)
    events: tuple[DrumEvent, ...]
    parts: tuple[tuple[int, np.ndarray], ...] = ()  # of each event: where it begins, and what it adds, (T,)


@dataclass
class Found:
    """What was measured of a loop."""

    asked: int = 0  # hat strokes
    right: int = 0  # of them, those whose hit truly is of that articulation
    hats_db: float = np.nan  # on kicks against off them
    crash_db: float = np.nan  # with a kick against alone, 1.4 s later
    lost: tuple[str, ...] = ()  # articulations that no one-shot of an extracted kit holds
    moves_db: float = np.nan  # of kick against snare over the shipped rhythms, largest less smallest


def made_loops(kits: Sequence[Kit]) -> Iterator[Loop]:
    """Yield the loop of each kit that has all voices."""
    for kit in kits:
        shots = {}
        for drum_class, articulation in _VOICES:
            own = kit.voices(drum_class).get(articulation)
            if own:
                shots[drum_class, articulation] = own[-1]
        if len(shots) < len(_VOICES):
            continue
        events = _pattern()
        audio = np.zeros(round(17 * BEAT_S * SAMPLE_RATE) + 3 * SAMPLE_RATE, dtype=np.float32)
        gains = {"KD": 0.5, "SD": 0.4, "HH": 0.15, "CY": 0.25}
        hats = [round(e.onset_s * SAMPLE_RATE) for e in events if e.drum_class == "HH"]
        parts = []
        for event in events:
            sound = gains[event.drum_class] * shots[event.drum_class, event.articulation].samples.numpy()
            start = round(event.onset_s * SAMPLE_RATE)
            if event.drum_class == "HH" and (later := [hat for hat in hats if hat > start]):
                sound = sound[: later[0] - start].copy()
                sound[-200:] *= np.linspace(1, 0, len(sound[-200:]))
            parts.append((start, sound[: len(audio) - start]))
            audio[start : start + len(sound)] += parts[-1][1]
        gain = 0.8 / np.abs(audio).max()
        yield Loop(kit.name, gain * audio, events, tuple((start, gain * sound) for start, sound in parts))


def _pattern() -> tuple[DrumEvent, ...]:
    beats = [("CY", "crash", 0.0), ("KD", "", 0.0), ("CY", "crash", 15.5)]
    for bar in range(4):
        for eighth in range(8):
            beat = 4 * bar + eighth / 2
            if beat not in (0.0, 15.5):
                beats.append(("HH", "open" if (bar, eighth) in ((0, 7), (2, 7)) else "closed", beat))
        beats += [
            ("KD", "", beat) for beat in (4 * bar + 2.0, 4 * bar + 2.5, *([4 * bar + 0.0] if bar else []))
        ]
        beats += [("SD", "", 4 * bar + 1.0), ("SD", "", 4 * bar + 3.0)]
    events = [DrumEvent(0.1 + beat * BEAT_S, c, 0.8, how) for c, how, beat in beats]
    return tuple(sorted(events, key=lambda event: event.onset_s))


def _true_articulation(loop: Loop, placement: Placement, drum_class: str) -> str:
    """Return how the stroke was truly struck that a hit is cut from."""
    at_s = placement.hit.attack / SAMPLE_RATE
    own = [e for e in loop.events if e.drum_class == drum_class]
    nearest = min(own, key=lambda e: abs(e.onset_s - at_s))
    return nearest.articulation if abs(nearest.onset_s - at_s) < _NEAR_S else "another"


def measure(loop: Loop, redrummer: Redrummer) -> Found:
    """Return what is measured of a loop."""
    found = Found()
    source = Recording.from_samples(loop.audio, SAMPLE_RATE, loop.kit)
    detected = redrummer.listen(source)
    bank = Bank.of_recording(source, detected.events, detected.stems)
    hats = [DrumEvent(0.25 * i, "HH", 0.8, "open" if i % 8 == 7 else "closed") for i in range(32)]
    kicks = [DrumEvent(0.5 * i, "KD", 0.5 + 0.05 * (i % 8)) for i in range(16)]
    for placement in arrange(bank, [*hats, *kicks]):
        if "HH" in placement.hit.classes:
            asked = hats[round(placement.attack / SAMPLE_RATE / 0.25)].articulation
            found.asked += 1
            found.right += _true_articulation(loop, placement, "HH") == asked
    take = _take(source, [*hats, *kicks], 8.0, redrummer)
    levels = [band_level_db(take, hat.onset_s, "HH") for hat in hats if hat.articulation == "closed"]
    on = [i % 2 == 0 for i, hat in enumerate(hats) if hat.articulation == "closed"]
    found.hats_db = float(np.mean(np.array(levels)[on]) - np.mean(np.array(levels)[np.logical_not(on)]))
    crash = DrumEvent(0.0, "CY", 0.8, "crash")
    rings = [
        band_level_db(_take(source, struck, 3.0, redrummer), 1.4, "CY")
        for struck in ([crash, DrumEvent(0.0, "KD", 0.8)], [crash])
    ]
    found.crash_db = rings[0] - rings[1]
    with tempfile.TemporaryDirectory() as folder:
        save_kit(bank, Path(folder) / "kit", fmt=source.format, name=loop.kit)
        kit = load_kit(Path(folder) / "kit")
        has = {(c, hit.articulation(c)) for hit in kit.hits for c in hit.classes}
        found.lost = tuple(f"{how} {c}" for c, how in _VOICES if how and (c, how) not in has)
    found.moves_db = _balance_moves_db(bank)
    return found


def _balance_moves_db(bank: Bank, n: int = 20) -> float:
    """Return how far kick against snare moves over shipped rhythms that have four strokes of either."""
    differences: list[float] = []
    for info in list_rhythms():
        events = read_midi(info.path).events
        own = {c: [e.velocity for e in events if e.drum_class == c] for c in ("KD", "SD")}
        # A lane of ghost notes stays one.
        if min(map(len, own.values())) < 4 or np.quantile(own["SD"], 0.9) < 0.4 or len(differences) == n:
            continue
        levels: dict[str, list[float]] = {"KD": [], "SD": []}
        for placement in arrange(bank, events):
            levels.get(placement.hit.dominant, []).append(placement.gain * placement.hit.level)
        if all(levels.values()):
            strong = [20 * np.log10(np.quantile(levels[c], 0.9)) for c in levels]
            differences.append(float(strong[0] - strong[1]))
    return float(np.ptp(differences)) if differences else np.nan


def _take(source: Recording, events: Sequence[DrumEvent], length_s: float, redrummer: Redrummer) -> np.ndarray:
    rhythm = Rhythm(tuple(events), length_s, None, "made")
    take = redrummer.redrum(source, rhythm, RenderSettings(align="seconds", tail="ring"))
    return take.read(0, max(take.n_samples, round(length_s * SAMPLE_RATE)))[0]


def main() -> None:
    """Print the measures of each loop, and their means."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--kits", type=int, default=12)
    given = parser.parse_args()
    kits = kits_of(load_pack(given.data).kits, "test")
    redrummer = Redrummer.load(given.preset)
    loops = list(made_loops(sorted(kits, key=lambda kit: (kit.kind, kit.name))))
    loops = [loops[i] for i in np.unique(np.linspace(0, len(loops) - 1, given.kits).round().astype(int))]
    results = []
    for loop in loops:
        found = measure(loop, redrummer)
        results.append(found)
        print(
            f"{loop.kit:28} hats as asked {found.right}/{found.asked}, on kicks {found.hats_db:+.1f} dB,"
            f" crash with kick {found.crash_db:+.1f} dB, lost {', '.join(found.lost) or 'nothing'},"
            f" kick against snare moves {found.moves_db:.1f} dB",
            flush=True,
        )
    asked, right = sum(f.asked for f in results), sum(f.right for f in results)
    print(f"\nhats as asked: {right / asked:.1%} of {asked}")
    for name in ("hats_db", "crash_db", "moves_db"):
        values = np.abs([getattr(f, name) for f in results])
        print(f"{name}: {np.nanmean(values):.2f} dB (SD {np.nanstd(values):.2f}, most {np.nanmax(values):.2f})")
    print(f"kits that lost an articulation: {sum(bool(f.lost) for f in results)} of {len(results)}")


if __name__ == "__main__":
    main()
