"""Grooves for training: from MIDI performances or a random grid, then varied as drummers vary them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from training.data.split import Split
from transform.events import CLASSES, Rhythm


@dataclass(frozen=True)
class Groove:
    """One packed rhythm: event columns of equal length N, onsets in beats."""

    name: str
    style: str
    split: Split
    bpm: float
    n_beats: float
    onset_beats: np.ndarray  # float64 (N,), sorted
    class_index: np.ndarray  # int (N,), into CLASSES
    articulation: tuple[str, ...]
    velocity: np.ndarray  # float (N,), 0..1


# Training knows toms of three heights.
_TOM_OF_THREE = {"floor": "low", "low-mid": "mid", "high-mid": "high"}


def event_columns(rhythm: Rhythm) -> dict[str, Any]:
    """Return the event columns of a `Groove` that plays a rhythm, which must have a tempo map."""
    assert rhythm.tempo_map is not None
    return {
        "onset_beats": rhythm.tempo_map.beats_at(np.array([e.onset_s for e in rhythm.events])),
        "class_index": np.array([CLASSES.index(e.drum_class) for e in rhythm.events]),
        "articulation": tuple(_TOM_OF_THREE.get(e.articulation, e.articulation) for e in rhythm.events),
        "velocity": np.array([e.velocity for e in rhythm.events]),
    }


@dataclass(frozen=True, order=True)
class Stroke:
    """One played event of a synthetic segment; grace notes of flams sound but are not annotated."""

    onset_s: float
    drum_class: str
    articulation: str
    velocity: float
    is_grace: bool = False


@dataclass(frozen=True, kw_only=True)
class VariationSettings:
    """How far a groove may be changed; every probability is per segment unless stated otherwise."""

    tempo_low: float = 0.72  # least tempo factor
    tempo_high: float = 1.4
    random_grid: float = 0.12  # probability of a random grid instead of a groove
    swing: float = 0.15
    micro_timing_ms: float = 10.0  # largest standard deviation of the added timing noise
    dropout: float = 0.3
    ghost_notes: float = 0.04  # added ones: half of what Groove MIDI's drummers play on the snare are such
    flams: float = 0.12
    tom_fill: float = 0.2
    class_swap: float = 0.3  # ride for hats, hats for ride, another snare stroke, crashes on accents
    double_kicks: float = 0.06


AS_PLAYED = VariationSettings(
    tempo_low=1.0,
    tempo_high=1.0,
    random_grid=0.0,
    swing=0.0,
    micro_timing_ms=0.0,
    dropout=0.0,
    ghost_notes=0.0,
    flams=0.0,
    tom_fill=0.0,
    class_swap=0.0,
    double_kicks=0.0,
)


def draw_strokes(
    grooves: Sequence[Groove],
    *,
    start_s: float,
    stop_s: float,
    settings: VariationSettings,
    rng: np.random.Generator,
) -> list[Stroke]:
    """Return the strokes of one varied performance between two times (paper section 3), sorted by onset.

    A negative `start_s` plays events before the segment, whose tails then ring into it.
    """
    if rng.random() < settings.random_grid:
        strokes, beat_s = _random_grid(_choose(grooves, rng), start_s, stop_s, rng)
    else:
        strokes, beat_s = _from_groove(_choose(grooves, rng), start_s, stop_s, settings, rng)
    if rng.random() < settings.class_swap:
        strokes = _swap_classes(strokes, rng)
    if rng.random() < settings.tom_fill:
        strokes = _add_tom_fill(strokes, start_s, stop_s, beat_s, rng)
    if rng.random() < settings.double_kicks:
        strokes = _add_double_kicks(strokes, start_s, stop_s, beat_s, rng)
    if rng.random() < settings.ghost_notes:
        strokes = strokes + _ghost_notes(start_s, stop_s, beat_s, rng)
    if rng.random() < settings.dropout:
        strokes = _drop(strokes, rng)
    if rng.random() < settings.swing:
        strokes = _swing(strokes, beat_s, rng)
    if settings.micro_timing_ms > 0:
        deviation_s = rng.uniform(0, settings.micro_timing_ms) / 1000
        strokes = [replace(s, onset_s=s.onset_s + deviation_s * rng.standard_normal()) for s in strokes]
    if rng.random() < settings.flams:
        strokes = strokes + _grace_notes(strokes, rng)
    inside = (s for s in strokes if start_s <= s.onset_s < stop_s)
    return _without_doubles(sorted(inside))


def _choose(grooves: Sequence[Groove], rng: np.random.Generator) -> Groove:
    """Return a groove; fills below two bars, a third of what drummers recorded, are mostly passed over."""
    groove = grooves[int(rng.integers(len(grooves)))]
    if groove.n_beats < 8 and rng.random() < 0.8:
        groove = grooves[int(rng.integers(len(grooves)))]
    return groove


def _from_groove(
    groove: Groove, start_s: float, stop_s: float, settings: VariationSettings, rng: np.random.Generator
) -> tuple[list[Stroke], float]:
    factor = float(np.exp(rng.uniform(np.log(settings.tempo_low), np.log(settings.tempo_high))))
    beat_s = 60 / (groove.bpm * factor)
    first_beat = rng.integers(max(1, int(groove.n_beats)))
    strokes = []
    n_loops = int(np.ceil(((stop_s - start_s) / beat_s + first_beat) / groove.n_beats)) + 1
    for loop in range(n_loops):
        onset_s = (groove.onset_beats + loop * groove.n_beats - first_beat) * beat_s + start_s
        for i in np.flatnonzero((onset_s >= start_s) & (onset_s < stop_s)):
            strokes.append(
                Stroke(
                    float(onset_s[i]),
                    CLASSES[groove.class_index[i]],
                    groove.articulation[i],
                    float(groove.velocity[i]),
                )
            )
    return strokes, beat_s


def _random_grid(
    groove: Groove, start_s: float, stop_s: float, rng: np.random.Generator
) -> tuple[list[Stroke], float]:
    """Return strokes that follow no style, so that no class is ever inferred from habit alone.

    Each is as strong as one of the groove's of its class, or of any class where the groove lacks it.
    """
    beat_s = 60 / rng.uniform(70, 180)
    step_s = beat_s / rng.choice([2, 3, 4, 4, 6])
    strokes = []
    density = dict(zip(CLASSES, rng.uniform(0.0, 0.4, len(CLASSES)), strict=True))
    velocities = {}
    for c, drum_class in enumerate(CLASSES):
        own = groove.velocity[groove.class_index == c]
        velocities[drum_class] = own if len(own) else groove.velocity
    articulations = {"TT": ["high", "mid", "low"], "HH": ["closed", "open", "pedal"], "CY": ["crash", "ride"]}
    for step in range(int((stop_s - start_s) / step_s)):
        for drum_class in CLASSES:
            if rng.random() < density[drum_class]:
                names = articulations.get(drum_class, [""])
                name = names[rng.integers(len(names))]
                velocity = float(velocities[drum_class][rng.integers(len(velocities[drum_class]))])
                strokes.append(Stroke(start_s + step * step_s, drum_class, name, velocity))
    return strokes, beat_s


def _swap_classes(strokes: list[Stroke], rng: np.random.Generator) -> list[Stroke]:
    kind = rng.integers(7)
    if kind == 0:
        ride = "ride" if rng.random() < 0.8 else "crash"
        return [replace(s, drum_class="CY", articulation=ride) if s.drum_class == "HH" else s for s in strokes]
    if kind == 1:
        return [
            replace(s, drum_class="HH", articulation="closed")
            if s.drum_class == "CY" and s.velocity < 0.9
            else s
            for s in strokes
        ]
    if kind == 2:
        stroke = ("sidestick", "clap", "rim", "brush")[rng.integers(4)]
        return [replace(s, articulation=stroke) if s.drum_class == "SD" else s for s in strokes]
    if kind == 3:
        probability = rng.uniform(0.1, 0.9)
        return [
            replace(s, articulation="open") if s.drum_class == "HH" and rng.random() < probability else s
            for s in strokes
        ]
    if kind == 4:
        tom = ("high", "mid", "low")[rng.integers(3)]
        return [replace(s, drum_class="TT", articulation=tom) if s.drum_class == "HH" else s for s in strokes]
    if kind == 5:
        return _with_crashes(strokes, rng)
    return [
        replace(s, drum_class="TT", articulation="mid") if s.drum_class == "SD" and rng.random() < 0.5 else s
        for s in strokes
    ]


def _with_crashes(strokes: list[Stroke], rng: np.random.Generator) -> list[Stroke]:
    """Return the strokes with a crash on some kicks and loud snares, where the hats then pause."""
    probability = rng.uniform(0.1, 0.6)
    accents = [s for s in strokes if s.drum_class == "KD" or (s.drum_class == "SD" and s.velocity > 0.7)]
    crashes = [
        Stroke(s.onset_s, "CY", "crash", float(rng.uniform(0.5, 1.0)))
        for s in accents
        if rng.random() < probability
    ]
    taken_s = np.array([crash.onset_s for crash in crashes])
    others = [s for s in strokes if s.drum_class != "HH" or not (np.abs(taken_s - s.onset_s) < 0.03).any()]
    return others + crashes


def _add_tom_fill(
    strokes: list[Stroke], start_s: float, stop_s: float, beat_s: float, rng: np.random.Generator
) -> list[Stroke]:
    step_s = beat_s / rng.choice([2, 3, 4, 4])
    n_steps = int(rng.integers(2, 13))
    first_s = start_s + rng.uniform(0, max(0.01, stop_s - start_s - n_steps * step_s))
    last_s = first_s + n_steps * step_s
    keeps_time = rng.random() < 0.5  # hats, ride and kick go on below the fill
    others = [s for s in strokes if not first_s <= s.onset_s < last_s or (keeps_time and s.drum_class != "SD")]
    order = (
        ["high", "mid", "low"]
        if rng.random() < 0.6
        else [("high", "mid", "low")[i] for i in rng.integers(3, size=3)]
    )
    fill = []
    for step in range(n_steps):
        if rng.random() < 0.85:
            name = order[min(2, step * 3 // n_steps)]
            is_snare = rng.random() < 0.15
            fill.append(
                Stroke(
                    first_s + step * step_s,
                    "SD" if is_snare else "TT",
                    "" if is_snare else name,
                    float(rng.uniform(0.35, 1.0)),
                )
            )
    return others + fill


def _add_double_kicks(
    strokes: list[Stroke], start_s: float, stop_s: float, beat_s: float, rng: np.random.Generator
) -> list[Stroke]:
    step_s = beat_s / rng.choice([3, 4, 4, 6])
    onsets_s = np.arange(start_s, stop_s, step_s)
    run = [Stroke(float(t), "KD", "", float(rng.uniform(0.6, 1.0))) for t in onsets_s if rng.random() < 0.9]
    return [s for s in strokes if s.drum_class != "KD"] + run


def _ghost_notes(start_s: float, stop_s: float, beat_s: float, rng: np.random.Generator) -> list[Stroke]:
    step_s = beat_s / rng.choice([4, 4, 6])
    probability = rng.uniform(0.1, 0.6)
    grid = np.arange(start_s, stop_s, step_s)
    return [
        Stroke(float(t), "SD", "", float(rng.uniform(0.06, 0.38))) for t in grid if rng.random() < probability
    ]


def _drop(strokes: list[Stroke], rng: np.random.Generator) -> list[Stroke]:
    if rng.random() < 0.4:
        lost_class = CLASSES[rng.integers(len(CLASSES))]
        return [s for s in strokes if s.drum_class != lost_class]
    probability = rng.uniform(0.0, 0.35)
    return [s for s in strokes if rng.random() >= probability]


def _swing(strokes: list[Stroke], beat_s: float, rng: np.random.Generator) -> list[Stroke]:
    """Return the strokes with every off-beat eighth (or sixteenth) played late by up to a triplet."""
    unit_s = beat_s / rng.choice([1, 2])
    amount = rng.uniform(0.05, 1 / 3)

    def warped(onset_s: float) -> float:
        whole, phase = divmod(onset_s / unit_s, 1.0)
        middle = 0.5 + amount / 2
        phase = phase / 0.5 * middle if phase < 0.5 else middle + (phase - 0.5) / 0.5 * (1 - middle)
        return float((whole + phase) * unit_s)

    return [replace(s, onset_s=warped(s.onset_s)) for s in strokes]


def _grace_notes(strokes: list[Stroke], rng: np.random.Generator) -> list[Stroke]:
    return [
        replace(s, onset_s=s.onset_s - rng.uniform(0.012, 0.035), velocity=s.velocity * 0.45, is_grace=True)
        for s in strokes
        if s.drum_class in ("SD", "TT") and rng.random() < 0.3
    ]


def _without_doubles(strokes: list[Stroke], gap_s: float = 0.02) -> list[Stroke]:
    """Return the strokes without those within `gap_s` after one of their class; grace notes stay."""
    distinct: list[Stroke] = []
    last_s: dict[str, float] = {}
    for stroke in strokes:
        if stroke.is_grace:
            distinct.append(stroke)
        elif stroke.onset_s - last_s.get(stroke.drum_class, -1e9) >= gap_s:
            distinct.append(stroke)
            last_s[stroke.drum_class] = stroke.onset_s
    return distinct
