"""What engines make of strokes that a source lacks: softer ones, longer tails, repeated ones that differ.

python -m tests.bench.unseen_strokes --data PACK [--kits N] [--only velocities|tails|repeats]

Sources are loops of validation and test kits' own one-shots with many layers; the layers that the source lacks
are the truth. Means over kits with their standard deviation.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from training.data.kits import SAMPLE_RATE, Kit, OneShot, kits_of
from training.data.pack import load_pack
from training.score.measures import level_db, log_mel_db, log_mel_distance_db
from training.score.scores import markdown_table
from transform.audio import Recording
from transform.engine import Redrummer
from transform.events import DrumEvent, Rhythm
from transform.settings import RenderSettings
from transform.velocity import LEVEL_EXPONENT

BEAT_S = 60 / 110
_BEATS = {"KD": (0.0, 2.0, 2.5), "SD": (1.0, 3.0), "HH": tuple(i / 2 for i in range(8))}
_VOICES = (("KD", ""), ("SD", ""), ("HH", "closed"))
_RINGING = (("CY", "ride"), ("CY", "crash"), ("HH", "open"), ("TT", "low"), ("SD", ""))
_STRONG = 0.8  # velocity of a loud stroke
_STROKE_S = 0.35  # of a stroke, that is compared
_LOUD_DB, _SOFT_DB, _EQUAL_DB = 4.0, 8.0, 3.0  # below the loudest layer: what a source has, and what it lacks
_CHOKED_S = 0.35  # after which a source's strokes are cut off
_ENGINES: Mapping[str, Mapping[str, Any]] = {
    "`resequence`": {},
    "`latent`": {"engine": "latent"},
    "network alone": {"engine": "latent", "attack": "none"},
}

Audio = np.ndarray
Table = dict[str, dict[str, list[float]]]  # by row and column, the values of kits


def sound(shot: OneShot) -> Audio:
    """Return a one-shot at its level in the kit."""
    return np.asarray(shot.samples.numpy() * 10 ** (shot.level_db / 20), dtype=np.float32)


def loop_of(layers: Mapping[str, Sequence[Audio]], n_bars: int = 4) -> Audio:
    """Return a loop in which each class's layers take turns."""
    audio = np.zeros(round((4 * n_bars * BEAT_S + 2.5) * SAMPLE_RATE), dtype=np.float32)
    for drum_class, own in layers.items():
        beats = [4 * bar + beat for bar in range(n_bars) for beat in _BEATS[drum_class]]
        for i, beat in enumerate(beats):
            start, hit = round((0.1 + beat * BEAT_S) * SAMPLE_RATE), own[i % len(own)]
            audio[start : start + len(hit)] += hit[: len(audio) - start]
    return np.asarray(audio * (0.8 / np.abs(audio).max()))


def strokes_of(
    redrummer: Redrummer, source: Audio, events: Sequence[DrumEvent], gap_s: float, **settings: Any
) -> list[Audio]:
    """Return the sound of each stroke of a take, up to a gap after its attack: shape (T,) each."""
    rhythm = Rhythm(tuple(events), events[-1].onset_s + gap_s, None, "made")
    options = RenderSettings(align="seconds", tail="ring", **settings)
    take = redrummer.redrum(Recording.from_samples(source, SAMPLE_RATE, "loop"), rhythm, options)
    length = round(gap_s * SAMPLE_RATE)
    audio = take.read(0, round(rhythm.length_s * SAMPLE_RATE) + length)[0]
    return [audio[(at := round(event.onset_s * SAMPLE_RATE)) : at + length] for event in events]


def head(audio: Audio) -> Audio:
    """Return the beginning of a stroke, padded to one length."""
    n_samples = round(_STROKE_S * SAMPLE_RATE)
    return np.pad(audio[:n_samples], (0, max(0, n_samples - len(audio))))


def brightness_db(audio: Audio) -> float:
    """Return the energy above 2 kHz against the whole."""
    power = np.abs(np.fft.rfft(audio)) ** 2
    is_high = np.fft.rfftfreq(len(audio), 1 / SAMPLE_RATE) >= 2000
    return float(10 * np.log10(max(power[is_high].sum() / max(power.sum(), 1e-20), 1e-6)))


def layers_of(kit: Kit, drum_class: str, articulation: str) -> tuple[list[OneShot], list[OneShot]]:
    """Return a voice's loud layers and those that are much softer, four of either at most."""
    own = kit.voices(drum_class).get(articulation, [])
    top = own[-1].level_db if own else 0.0
    loud = [shot for shot in own if shot.level_db > top - _LOUD_DB]
    soft = [shot for shot in own if shot.level_db < top - _SOFT_DB]
    return loud[-4:], [
        soft[i] for i in np.unique(np.linspace(0, len(soft) - 1, 4).round().astype(int))
    ] if soft else []


def velocities(kit: Kit, redrummer: Redrummer, tables: Mapping[str, Table]) -> bool:
    """Compare soft strokes, played from a source of loud ones, with the kit's own; False if it has none."""
    voices = {c: layers_of(kit, c, how) for c, how in _VOICES}
    tested = {c: layers for c, layers in voices.items() if len(layers[1]) >= 2}
    if any(not loud for loud, _ in voices.values()) or not tested:
        return False
    source = loop_of({c: [sound(shot) for shot in loud] for c, (loud, _) in voices.items()})
    events: list[DrumEvent] = []
    truths: list[tuple[str, Audio, Audio, float]] = []
    for drum_class, (loud, soft) in tested.items():
        top = float(np.median([shot.level_db for shot in loud]))
        for i in range(4):
            below_db = soft[i % len(soft)].level_db - top
            for velocity in (_STRONG, _STRONG * 10 ** (below_db / 20 / LEVEL_EXPONENT)):
                events.append(DrumEvent(0.1 + 0.6 * len(events), drum_class, velocity))
            truths.append(
                (drum_class, head(sound(loud[i % len(loud)])), head(sound(soft[i % len(soft)])), below_db)
            )
    for engine, settings in _ENGINES.items():
        made = [head(stroke) for stroke in strokes_of(redrummer, source, events, 0.6, **settings)]
        _compare_soft(tables, engine, truths, made[::2], made[1::2])
    _compare_soft(tables, "a loud layer, turned down", truths, [t[1] for t in truths], None)
    return True


def _compare_soft(
    tables: Mapping[str, Table],
    row: str,
    truths: Sequence[tuple[str, Audio, Audio, float]],
    loud: Sequence[Audio],
    soft: Sequence[Audio] | None,
) -> None:
    """Add the means of one kit: strokes against the true ones."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for i, (drum_class, _, truth, below_db) in enumerate(truths):
        made = loud[i] if soft is None else soft[i]
        found[drum_class, "shape, dB"].append(log_mel_distance_db(made, truth))
        found[drum_class, "above 2 kHz, dB"].append(brightness_db(made) - brightness_db(truth))
        if soft is not None and np.any(loud[i]):
            found[drum_class, "level, dB"].append(abs(level_db(soft[i], loud[i]) - below_db))
    for (drum_class, column), values in found.items():
        tables[drum_class][row].setdefault(column, []).append(float(np.mean(values)))


def tails(kit: Kit, redrummer: Redrummer, tables: Mapping[str, Table]) -> bool:
    """Compare tails that ring, played from a source whose strokes are cut off, with the kit's own."""
    voices = {(c, how): own[-1] for c, how in _RINGING if (own := kit.voices(c).get(how))}
    backing = {c: [sound(kit.voices(c)[""][-1])] for c in ("KD", "SD") if "" in kit.voices(c)}
    if len(backing) < 2:
        return False
    n_cut = round(_CHOKED_S * SAMPLE_RATE)
    for (drum_class, how), shot in voices.items():
        truth = sound(shot)
        if level_db(truth[2 * n_cut :] if len(truth) > 3 * n_cut else np.zeros(1), truth) < -45:
            continue  # it does not ring
        cut = truth[:n_cut] * np.minimum(1, np.arange(n_cut)[::-1] / 200)
        source = loop_of({c: own for c, own in backing.items() if c != drum_class})
        for start in range(round(0.1 * SAMPLE_RATE), len(source) - n_cut, n_cut):
            source[start : start + n_cut] += 0.3 / np.abs(cut).max() * cut
        events = [DrumEvent(0.1 + 1.6 * i, drum_class, _STRONG, how) for i in range(3)]
        name = f"{drum_class} {how}".strip()
        for engine, settings in _ENGINES.items():
            for made in strokes_of(redrummer, source * (0.8 / np.abs(source).max()), events, 1.6, **settings):
                if np.any(made[:n_cut]):
                    _compare_tail(tables[name][engine], made, truth)
    return bool(voices)


def _compare_tail(row: dict[str, list[float]], made: Audio, truth: Audio) -> None:
    """Add how a tail differs from the true one where both begin equally loud."""
    n_cut, n_end = (round(s * SAMPLE_RATE) for s in (_CHOKED_S, 1.5))
    ours, true = (np.pad(a, (0, max(0, n_end - len(a))))[:n_end] for a in (made, truth))
    ours, true = (a * (0.1 / np.sqrt(np.mean(a[:n_cut] ** 2))) for a in (ours, true))
    tail = slice(n_cut + round(0.05 * SAMPLE_RATE), n_end)
    row.setdefault("level of the tail, dB", []).append(level_db(ours[tail], true[tail]))
    row.setdefault("tail, log-mel dB", []).append(
        float(np.abs(log_mel_db(ours[tail]) - log_mel_db(true[tail])).mean())
    )


def repeats(kit: Kit, redrummer: Redrummer, tables: Mapping[str, Table]) -> bool:
    """Measure how far sixteen equal strokes differ: a drummer's, and an engine's."""
    own = {c: kit.voices(c).get(how, []) for c, how in _VOICES}
    if any(not shots for shots in own.values()):
        return False
    equal = {c: [s for s in shots if s.level_db > shots[-1].level_db - _EQUAL_DB] for c, shots in own.items()}
    if max(map(len, equal.values())) < 4:
        return False
    sources = {n: loop_of({c: [sound(s) for s in shots[-n:]] for c, shots in equal.items()}) for n in (1, 16)}
    rows: dict[str, tuple[int, Mapping[str, Any]]] = {
        "`resequence`, source of equal strokes": (1, {}),
        "`resequence`, source of real strokes": (16, {}),
        "network alone, source of real strokes": (16, _ENGINES["network alone"]),
    }
    for variation in (0.0, 1.0, 2.0, 4.0):
        for engine in ("network alone", "`latent`"):
            options = {**_ENGINES[engine], "variation": variation}
            rows[f"{engine}, equal strokes, variation {variation:g}"] = 1, options
    for drum_class, shots in equal.items():
        if len(shots) < 4:
            continue
        _spread(tables[drum_class]["real strokes"], [head(sound(shot)) for shot in shots])
        events = [DrumEvent(0.1 + 0.5 * i, drum_class, _STRONG) for i in range(16)]
        for row, (n, settings) in rows.items():
            made = strokes_of(redrummer, sources[n], events, 0.5, **settings)
            _spread(tables[drum_class][row], [head(stroke) for stroke in made])
    return True


def _spread(row: dict[str, list[float]], strokes: Sequence[Audio]) -> None:
    """Add the standard deviation of strokes' levels, and their mean distance from each other."""
    if not all(map(np.any, strokes)):
        return
    levels = [level_db(stroke, strokes[0]) for stroke in strokes]
    row.setdefault("level, SD in dB", []).append(float(np.std(levels)))
    pairs = list(combinations(strokes, 2))[:: max(1, len(strokes) // 4)]
    row.setdefault("apart, log-mel dB", []).append(
        float(np.mean([log_mel_distance_db(*pair) for pair in pairs]))
    )


def tables_of(
    measure: Callable[[Kit, Redrummer, Mapping[str, Table]], bool],
    kits: Sequence[Kit],
    redrummer: Redrummer,
    n_kits: int,
) -> Iterator[str]:
    """Yield the tables of one experiment over kits, a line each."""
    tables: Mapping[str, Table] = defaultdict(lambda: defaultdict(dict))
    used: list[str] = []
    for kit in kits:
        if len(used) < n_kits and measure(kit, redrummer, tables):
            used.append(kit.name)
    yield f"{measure.__name__}: {', '.join(used)}"
    for name, table in sorted(tables.items()):
        columns = list(dict.fromkeys(column for row in table.values() for column in row))
        cells = {row: [_cell(found.get(column, [])) for column in columns] for row, found in table.items()}
        yield ""
        yield from markdown_table(name, columns, cells)


def _cell(values: Sequence[float]) -> str:
    return f"{np.mean(values):.2f} (SD {np.std(values):.2f}, n {len(values)})" if values else "-"


def main() -> None:
    """Print the tables."""
    experiments = {measure.__name__: measure for measure in (velocities, tails, repeats)}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--kits", type=int, default=6)
    parser.add_argument("--only", choices=list(experiments), action="append")
    given = parser.parse_args()
    pack = load_pack(given.data)
    kits = sorted(
        (*kits_of(pack.kits, "validate"), *kits_of(pack.kits, "test")), key=lambda k: -len(k.one_shots)
    )
    redrummer = Redrummer.load(given.preset)
    for name in given.only or experiments:
        for line in tables_of(experiments[name], kits, redrummer, given.kits):
            print(line, flush=True)
        print(flush=True)


if __name__ == "__main__":
    main()
