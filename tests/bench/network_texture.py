"""How near the network's own sound is to its source: buzz, hiss, rise of hats, stereo, and kicks that fall.

python -m tests.bench.network_texture --data PACK [--kits N]

Sources are stereo loops of test kits (tests/bench/made_loops.py); each plays a shipped rhythm. In every second
loop a sine that falls from some 200 to 50 Hz is the kick. Means over loops with their standard deviation.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.bench.made_loops import Loop, made_loops
from training.data.kits import SAMPLE_RATE, kits_of
from training.data.pack import load_pack
from training.score.codec import round_trip
from training.score.measures import high_energy_db, si_sdr_db
from training.score.scores import markdown_table
from training.score.texture import hiss_db, periodicity, pulses_db, speckle_db
from transform.audio import Recording
from transform.engine import Redrummer
from transform.events import DrumEvent
from transform.library import list_rhythms
from transform.midi import read_midi
from transform.noise import channel_coherence
from transform.settings import RenderSettings

ENGINES: Mapping[str, Mapping[str, Any]] = {
    "`resequence`": {},
    "`latent`": {"engine": "latent"},
    "network alone": {"engine": "latent", "attack": "none"},
}
LENGTH_S = 12.0
_PAN = {"KD": 0.5, "SD": 0.45, "HH": 0.25, "CY": 0.75}  # 0 left, 1 right
_ROOM_S, _ROOM_DB = 0.15, -16.0
_HIT, _LAG = 6615, 132  # samples of a kick, and by which it may be early or late
_RISING_HZ = 6_000.0
_CLEAR_S = 0.06  # that no other stroke is near


def falling_kick(rng: np.random.Generator) -> np.ndarray:
    """Return a sine that falls as an electronic kick does, (T,)."""
    t = np.arange(round(0.4 * SAMPLE_RATE)) / SAMPLE_RATE
    low, high, fall_s = rng.uniform(45, 60), rng.uniform(160, 240), rng.uniform(0.02, 0.05)
    hz = low + (high - low) * np.exp(-t / fall_s)
    envelope = np.minimum(1, t / 0.002) * np.exp(-t / rng.uniform(0.08, 0.15))
    return np.asarray(0.5 * envelope * np.sin(2 * np.pi * np.cumsum(hz) / SAMPLE_RATE), dtype=np.float32)


def in_stereo(loop: Loop, kick: np.ndarray | None, rng: np.random.Generator) -> np.ndarray:
    """Return a loop with its drums at places in a room, (2, T), its kicks replaced if one is given."""
    audio = np.zeros((2, len(loop.audio)), dtype=np.float32)
    for event, (start, sound) in zip(loop.events, loop.parts, strict=True):
        played = kick if kick is not None and event.drum_class == "KD" else sound
        played = played[: audio.shape[1] - start]
        angle = _PAN[event.drum_class] * np.pi / 2
        audio[:, start : start + len(played)] += np.outer((np.cos(angle), np.sin(angle)), played)
    t = np.arange(round(_ROOM_S * SAMPLE_RATE)) / SAMPLE_RATE
    room = rng.standard_normal((2, len(t))) * np.exp(-t / 0.04)
    room *= 10 ** (_ROOM_DB / 20) / np.linalg.norm(room, axis=1, keepdims=True)
    n_fft = 1 << (audio.shape[1] + len(t)).bit_length()
    spectrum = np.fft.rfft(audio.mean(axis=0), n_fft) * np.fft.rfft(room, n_fft)
    audio += np.fft.irfft(spectrum, n_fft)[:, : audio.shape[1]].astype(np.float32)
    audio = audio[:, : round((loop.events[-1].onset_s + 0.3) * SAMPLE_RATE)]  # silence would pass for no hiss
    return np.asarray(audio * (0.8 / np.abs(audio).max()))


def rise_ms(audio: np.ndarray, events: Sequence[DrumEvent]) -> float:
    """Return the median time in which the highs of hats that fall alone rise from 10 to 90 % of their peak."""
    n_fft = 1 << len(audio).bit_length()
    spectrum = np.fft.rfft(audio, n_fft)
    spectrum[np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE) < _RISING_HZ] = 0
    power = np.fft.irfft(spectrum, n_fft)[: len(audio)] ** 2
    envelope = np.sqrt(np.convolve(power, np.hanning(46)[1:-1] / 22, "same"))
    found = []
    for event in events:
        if event.drum_class != "HH" or not _is_clear(event, events, ("KD", "SD", "TT", "HH", "CY")):
            continue
        at = round(event.onset_s * SAMPLE_RATE)
        rise = envelope[max(0, at - 441) : at + 1323]
        if len(rise) and (top := int(rise.argmax())) and rise[top] > 1e-5:
            first, last = (np.flatnonzero(rise[: top + 1] < part * rise[top]) for part in (0.1, 0.9))
            if len(first) and len(last):
                found.append(1000 * (last[-1] - first[-1]) / SAMPLE_RATE)
    return float(np.median(found)) if found else np.nan


def _is_clear(
    event: DrumEvent, events: Sequence[DrumEvent], classes: Sequence[str], s: float = _CLEAR_S
) -> bool:
    return not any(
        other is not event and other.drum_class in classes and abs(other.onset_s - event.onset_s) < s
        for other in events
    )


def low_passed(audio: np.ndarray) -> np.ndarray:
    """Return what lies below 300 Hz."""
    n_fft = 1 << len(audio).bit_length()
    spectrum = np.fft.rfft(audio, n_fft)
    spectrum[np.fft.rfftfreq(n_fft, 1 / SAMPLE_RATE) > 300] = 0
    return np.asarray(np.fft.irfft(spectrum, n_fft)[: len(audio)])


def kicks_db(audio: np.ndarray, events: Sequence[DrumEvent], kick: np.ndarray) -> float:
    """Return the mean SI-SDR below 300 Hz of kicks against the true one, each at its best lag within 3 ms."""
    ours, truth = low_passed(audio), low_passed(np.pad(kick, (0, _HIT)))[:_HIT]
    found = []
    for event in events:
        at = round(event.onset_s * SAMPLE_RATE)
        is_clear = _is_clear(event, events, ("KD", "SD", "TT"), 0.16)
        if event.drum_class == "KD" and is_clear and _LAG <= at <= len(ours) - _HIT - _LAG:
            ratios = [si_sdr_db(ours[at + k : at + k + _HIT], truth) for k in range(-_LAG, _LAG + 1, 6)]
            found.append(max(-30.0 if ratio is None else ratio for ratio in ratios))
    return float(np.mean(found)) if found else np.nan


def measures(audio: np.ndarray, events: Sequence[DrumEvent]) -> dict[str, float]:
    """Return what is measured of stereo sound (2, T) alone."""
    mono = audio.mean(axis=0)
    found = {
        "periodicity": periodicity(mono),
        "pulses, dB": pulses_db(mono),
        "speckle, dB": speckle_db(mono),
        "hiss, dB": hiss_db(mono),
        "rise of hats, ms": rise_ms(mono, events),
    }
    return {name: np.nan if value is None else value for name, value in found.items()}


def coherence_of(audio: np.ndarray) -> np.ndarray:
    """Return the coherence of two channels in the octaves from 500 Hz on."""
    return np.array(channel_coherence(torch.from_numpy(audio), SAMPLE_RATE, 500.0))


def compared(loops: Sequence[Loop], redrummer: Redrummer) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield the measures of each loop's source, and of each engine."""
    codec = redrummer.latent.codec
    rhythms = [read_midi(info.path) for info in list_rhythms()]
    dense = [r for r in rhythms if min(sum(e.drum_class == c for e in r.events) for c in ("KD", "HH")) >= 6]
    for number, loop in enumerate(loops):
        rng = np.random.default_rng(number)
        kick = falling_kick(rng) if number % 2 else None
        audio = in_stereo(loop, kick, rng)
        own_kick = next(p for e, (_, p) in zip(loop.events, loop.parts, strict=True) if e.drum_class == "KD")
        source, rhythm = Recording.from_samples(audio, SAMPLE_RATE, loop.kit), dense[7 * number % len(dense)]
        events = [event for event in rhythm.events if event.onset_s < LENGTH_S - 0.3]
        truth = measures(audio, loop.events)
        yield "the source", truth
        replayed, *others = (
            redrummer.redrum(source, rhythm, RenderSettings(align="seconds", length=LENGTH_S, **options)).read(
                0, round(LENGTH_S * SAMPLE_RATE)
            )
            for options in ENGINES.values()
        )
        coded = np.concatenate([round_trip(codec, channel)[None] for channel in replayed])
        takes = dict(zip((*ENGINES, "`resequence` through the codec"), (replayed, *others, coded), strict=True))
        for engine, made in takes.items():
            found, mono = measures(made, events), made.mean(axis=0)
            found["rise off, ms"] = abs(found["rise of hats, ms"] - truth["rise of hats, ms"])
            found["above 8 kHz, dB off `resequence`"] = abs(high_energy_db(mono, replayed.mean(axis=0)))
            found["coherence off"] = float(np.abs(coherence_of(made) - coherence_of(audio)).mean())
            found["kicks of kits, dB" if kick is None else "falling kicks, dB"] = kicks_db(
                mono, events, own_kick if kick is None else kick
            )
            yield engine, found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--kits", type=int, default=12)
    given = parser.parse_args()
    kits = sorted(kits_of(load_pack(given.data).kits, "test"), key=lambda kit: (kit.kind, kit.name))
    loops = list(made_loops(kits))
    loops = [loops[i] for i in np.unique(np.linspace(0, len(loops) - 1, given.kits).round().astype(int))]
    table: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row, found in compared(loops, Redrummer.load(given.preset)):
        for column, value in found.items():
            if not np.isnan(value):
                table[row][column].append(value)
    columns = list(dict.fromkeys(column for row in table.values() for column in row))
    cells = {
        row: [f"{np.mean(v):.2f} (SD {np.std(v):.2f}, n {len(v)})" if (v := own[c]) else "-" for c in columns]
        for row, own in table.items()
    }
    print("\n".join(markdown_table(f"{len(loops)} loops", columns, cells)))


if __name__ == "__main__":
    main()
