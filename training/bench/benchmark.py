"""The benchmark: recordings of held-out kits are redrummed, and what comes out is measured against the truth.

The items are those of training/bench/items.py, what plays them is in training/bench/systems.py, the measures
are those of training/score/measures.py; the stems of sources are scored as in training/score/separator.py. What
was scored is stored item by item, so a run that was stopped goes on.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

import numpy as np
import torch

from training.bench.items import Audio, BenchItem, ItemMaker
from training.bench.peak_memory import peak_memory_mb
from training.bench.real import RealItems
from training.bench.systems import (
    KIT_SYSTEMS,
    OWN,
    SYSTEMS,
    Players,
    events_of,
    given_back_db,
    play,
    played_with,
    plays_audio,
    variant,
)
from training.data.kits import SAMPLE_RATE
from training.data.pack import PACK_FILES, PackError, load_pack
from training.score.balance import frame_shift, stroke_shift
from training.score.measures import (
    any_onset_f,
    distinct_onsets_s,
    high_energy_db,
    hit_spectra_db,
    isolated_onsets_s,
    likeness,
    log_mel_distance_db,
    nearest_hit_db,
    pre_echo_db,
    timing_errors_s,
    timing_sd_ms,
    velocity_correlations,
)
from training.score.recordings import annotated_files
from training.score.scores import class_counts, interval, pooled
from training.score.separator import Mixture, Scores, System, active_classes, score_stems
from training.score.texture import hiss_db, periodicity, pulses_db, speckle_db
from training.train.evaluation_transcriber import load_evaluation_transcriber, shipped_weights
from transform.audio import Progress, Recording
from transform.confined import ConfinedFolder
from transform.engine import Redrummer
from transform.errors import CheckpointError, OutputError, RedrumError, SettingsError
from transform.events import DrumEvent
from transform.files import write_text_atomic
from transform.presets import Preset, load_preset
from transform.transcriber import Transcriber

MATERIALS = ("pairs", "recordings", "loops")
_PACKAGES = ("transform", "training")  # whose code decides what an item scores

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BenchSettings:
    """What is measured."""

    n_pairs: int = 200
    n_loops: int = 20  # rhythms that real loops play
    seed: int = 0
    preset: str = "default"
    recordings: Path | None = None  # a folder of annotated ones that play each other's rhythms
    rows: tuple[str, ...] = ()  # beginnings of the names of the systems that are measured; none: all
    beside: str = ""  # another preset, whose codec and rhythm transformer play too
    n_memory: int = 3  # renders of each kind whose memory is measured, each in a process of its own
    n_resamples: int = 2000  # of the bootstrap

    def __post_init__(self) -> None:
        for name, least in (("n_pairs", 0 if self.recordings else 1), ("n_resamples", 1)):
            if getattr(self, name) < least:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be {least} or more")


@dataclass(frozen=True)
class Mean:
    """A mean over `n` items with the 95 % interval of a bootstrap over kits and rhythms."""

    mean: float
    low: float
    high: float
    n: int


def score(audio: Audio, item: BenchItem, judge: Transcriber) -> Scores:
    """Return the measures of a result, shape (T,): those that an item's truth allows, of a loop its timing."""
    detected = [
        event for event in judge.events(judge.infer(torch.from_numpy(audio))) if event.onset_s < item.length_s
    ]
    scores: Scores = {}
    for window_ms in (50, 20):
        scores[f"onset_f_{window_ms}"] = any_onset_f(
            item.truth, detected, ignored=item.hardly_audible, window_s=window_ms / 1000
        )
    if item.material == "loops":
        return scores
    scores |= _rhythm_scores(audio, item, detected) | _sound_scores(audio, item)
    return scores | (_distances(audio, item.oracle, item) if item.oracle is not None else {})


def _rhythm_scores(audio: Audio, item: BenchItem, detected: Sequence[DrumEvent]) -> Scores:
    """Return how well a result plays the rhythm: its classes, times and velocities."""
    scores: Scores = {}
    for window_ms in (50, 30, 10):
        counts = class_counts(item.truth, detected, ignored=item.hardly_audible, window_s=window_ms / 1000)
        scores[f"class_f_{window_ms}"] = pooled(counts).f_measure
        if window_ms == 50:
            for drum_class, own in counts.items():
                is_played = own.expected + own.detected > 0
                scores[f"class_f_50_{drum_class}"] = own.f_measure if is_played else None
    scores["timing_sd_ms"] = timing_sd_ms(timing_errors_s(item.truth, detected))
    correlations = velocity_correlations(audio, item.truth)
    found = [value for value in correlations.values() if value is not None]
    scores["velocity"] = float(np.mean(found)) if found else None
    return scores | {f"velocity_{drum_class}": value for drum_class, value in correlations.items()}


def _sound_scores(audio: Audio, item: BenchItem) -> Scores:
    """Return how far a result sounds like its source: hits, levels, balance, texture."""
    hits, source_hits, target_hits = (
        hit_spectra_db(sound, distinct_onsets_s(events))
        for sound, events in (
            (audio, item.truth),
            (item.source, item.source_events),
            (item.target, item.target_events),
        )
    )
    strokes = stroke_shift(audio, item.truth, item.source, item.source_events)
    frames = frame_shift(audio, item.source)
    return {
        "likeness": likeness(hits, source_hits, target_hits),
        "nearest_hit_db": nearest_hit_db(hits, source_hits) if len(hits) and len(source_hits) else None,
        "stroke_level_db": abs(strokes.level_db) if strokes else None,
        "stroke_balance_db": strokes.balance_db if strokes else None,
        "frame_loudness_db": abs(frames.level_db) if frames else None,
        "frame_balance_db": frames.balance_db if frames else None,
        "periodicity": periodicity(audio),
        "pulses_db": pulses_db(audio),
        "speckle_db": speckle_db(audio),
        "hiss_db": hiss_db(audio),
    }


def _distances(audio: Audio, oracle: Audio, item: BenchItem) -> Scores:
    """Return how far a result is from the exact answer."""
    brighter_db = high_energy_db(audio, oracle)
    onsets_s = isolated_onsets_s(item.truth, item.rhythm)
    ahead, true_ahead = pre_echo_db(audio, onsets_s), pre_echo_db(oracle, onsets_s)
    return {
        "log_mel_db": log_mel_distance_db(audio, oracle),
        "averaged_log_mel_db": log_mel_distance_db(audio, oracle, averaged=True),
        "high_db": brighter_db,
        "high_abs_db": abs(brighter_db),
        "pre_echo_db": None if ahead is None or true_ahead is None else ahead - true_ahead,
    }


def clustered_mean(
    values: Sequence[float], kits: Sequence[str], grooves: Sequence[str], *, n_resamples: int, seed: int = 0
) -> Mean:
    """Return the mean of items' values with its interval when kits and rhythms are drawn anew.

    An item counts as often as its kit was drawn times as often as its rhythm was drawn (the pigeonhole
    bootstrap of Owen, Annals of Applied Statistics 2007).
    """
    rng = np.random.default_rng(seed)
    array = np.asarray(values, dtype=np.float64)
    weights = np.ones((n_resamples, len(array)))
    for labels in (kits, grooves):
        names, place = np.unique(np.asarray(labels), return_inverse=True)
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=n_resamples)
        weights *= drawn[:, place]
    total = weights.sum(axis=1)
    means = (weights @ array)[total > 0] / total[total > 0]
    low, high = interval(means if len(means) else [array.mean()])
    return Mean(float(array.mean()), low, high, len(array))


def run_benchmark(
    data: Path,
    out: Path,
    settings: BenchSettings,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measure a preset and return the result; what `out` holds of the same run is not measured again.

    Args:
        data: the folder of a pack with its test side.
        out: where `items.jsonl` is written, item by item.
        settings: what is measured.
        overwrite: begin anew where `out` holds another run.
        progress: is called with the stage and the proportion done.

    Raises:
        PackError: the pack is missing or lacks its test side.
        CheckpointError: a preset or the evaluation transcriber is missing, or the preset beside has no codec.
        SettingsError: both presets have one name.
        OutputError: `out` holds another run, or cannot be written.
    """
    if settings.n_pairs and not (data / PACK_FILES[0]).exists():
        raise PackError(
            f"there is no packed data set in {data}",
            hint="make one with `redrum train pack DATA --out PACK` and name it with --data PACK",
        )
    judge = load_evaluation_transcriber(shipped_weights())
    real = RealItems(settings.recordings) if settings.recordings else None
    runs = _begin(data, out, settings, overwrite=overwrite)
    pack = load_pack(data) if settings.n_pairs else None
    maker, players = (
        ItemMaker(pack, settings.seed) if pack else None,
        Players.load(runs[0].preset, pack, settings.rows),
    )
    requested = _requested(maker, real, settings)
    teams = [players, *(players.beside(run.preset) for run in runs[1:])]
    rows: list[dict[str, Any]] = []
    for run, team in zip(runs, teams, strict=True):
        entries = _measured(run, team, judge, requested, progress)
        memory = _memory(maker, team, settings.n_memory, progress) if maker else {}
        found = _rows(entries, settings, memory)
        rows += found if team is players else [row | {"preset": team.preset.name} for row in found]
    rows.sort(key=_place)
    stated = asdict(settings) | {"recordings": str(settings.recordings or ""), "rows": list(settings.rows)}
    return {"schema": 1, "settings": stated, "run": runs[0].identity, "rows": rows}


@dataclass(frozen=True)
class _Run:
    """What is measured of a preset, and stored in a file."""

    preset: Preset
    log: Path
    identity: dict[str, Any]  # what its items must have in common
    done: dict[str, dict[str, Any]]  # the items that are in the file, by name

    @classmethod
    def begin(
        cls, log: Path, files: Sequence[Path], settings: BenchSettings, preset: Preset, *, overwrite: bool
    ) -> _Run:
        """Begin a run on files of data, or go on with what a stopped one has in the log.

        Raises:
            OutputError: the file holds another run.
        """
        identity = _identity(files, settings, preset)
        return cls(preset, log, identity, {} if overwrite else _read_items(log, identity))


def _begin(data: Path, out: Path, settings: BenchSettings, *, overwrite: bool) -> list[_Run]:
    """Return the run of a preset and, if another one is set beside it, that one's."""
    preset = load_preset(settings.preset)
    files = [data / name for name in PACK_FILES] if settings.n_pairs else []
    if settings.recordings:
        audio = annotated_files(settings.recordings)
        files += [*audio, *(path for a in audio if (path := a.with_suffix(".csv")).exists())]
    runs = [_Run.begin(out / "items.jsonl", files, settings, preset, overwrite=overwrite)]
    if settings.beside:
        other = load_preset(settings.beside)
        if other.name == preset.name:
            raise SettingsError(
                f"both presets are called {preset.name}", hint="write another name into one's preset.toml"
            )
        if "codec-encoder" not in other.models:
            raise CheckpointError(
                f"preset {other.name} has no codec, so there is nothing to set beside",
                hint="name a preset with a codec, or leave --beside out",
            )
        runs.append(_Run.begin(out / "items-beside.jsonl", files, settings, other, overwrite=overwrite))
    return runs


def _measured(
    run: _Run,
    players: Players,
    judge: Transcriber,
    requested: Sequence[tuple[Callable[[int], BenchItem], str, int]],
    progress: Progress | None,
) -> list[dict[str, Any]]:
    """Return the entry of each requested item; those that are not in the run's file yet are measured."""
    lines = [json.dumps(line) + "\n" for line in ({"run": run.identity}, *run.done.values())]
    write_text_atomic(run.log, "".join(lines), overwrite=True)  # without a line that was cut off
    entries = []
    with ConfinedFolder(run.log.parent).append(run.log.name) as file:
        for i, (make, name, number) in enumerate(requested):
            if (entry := run.done.get(name)) is None:
                entry = {"item": name} | _scored(make(number), players, judge)
                file.write(json.dumps(entry) + "\n")
                file.flush()
                _log.info("%s: %d of %d: %s", run.preset.name, i + 1, len(requested), name)
            entries.append(entry)
            if progress is not None:
                progress(f"benchmark of {run.preset.name}", (i + 1) / len(requested))
    return entries


def _identity(files: Sequence[Path], settings: BenchSettings, preset: Preset) -> dict[str, Any]:
    """Return what items must have in common to be scored together: seed, rows, weights, data and code."""
    return {
        "seed": settings.seed,
        "rows": list(settings.rows),
        "preset": _digest([preset.weights(model) for model in preset.models]),
        "evaluator": _digest([shipped_weights()]),
        "data": _digest(files),
        "code": _digest(_code()),
    }


def _requested(
    maker: ItemMaker | None, real: RealItems | None, settings: BenchSettings
) -> Sequence[tuple[Callable[[int], BenchItem], str, int]]:
    """Return the maker, the name and the number of each item."""
    found: list[tuple[Callable[[int], BenchItem], str, int]] = []
    if real is not None:
        found += [(real.item, f"recording-{i:04d}", i) for i in range(len(real))]
    if maker is not None:
        found += [(maker.pair, f"pair-{i:04d}", i) for i in range(settings.n_pairs)]
        found += [(maker.loop, f"loop-{i:04d}", i) for i in range(settings.n_loops if maker.loops else 0)]
    return found


def _scored(item: BenchItem, players: Players, judge: Transcriber) -> dict[str, Any]:
    """Return the entry of an item: its measures for every system, and for every separator of its source."""
    scores: dict[str, Scores] = {}
    failures: dict[str, str] = {}
    redrummer, nmf = players.redrummer, players.nmf
    for system in players.systems_for(item):
        audio, seconds, failure = play(system, item, redrummer, nmf, players.codec)
        # A real target's strokes are where it plays them; written out, those meant together are together.
        is_of_target = item.material == "recordings" and plays_audio(system)
        played = replace(item, truth=item.target_events) if is_of_target else item
        scores[system] = score(audio, played, judge)
        scores[system]["real_time_factor"] = item.length_s / seconds if seconds else None
        if failure:
            failures[system] = failure
        if item.material == "loops" and system in KIT_SYSTEMS:
            scores[system]["given_back_db"] = _given_back(item, variant(system, item, redrummer, nmf))
    return {
        "material": item.material,
        "kit": item.kit,
        "groove": item.groove,
        "source_groove": item.source_groove,
        "systems": scores,
        "separators": _separated(item, redrummer.transcriber, players.separators),
        "failures": failures,
    }


def _given_back(item: BenchItem, redrummer: Redrummer) -> float | None:
    """Return how well a kit extracted from a loop gives the loop back, None where there is no such kit."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            loop = Recording.from_samples(item.source, SAMPLE_RATE, "loop")
            return given_back_db(loop, redrummer, Path(folder) / "kit")
        except RedrumError as err:
            _log.warning("%s: %s", item.name, err)
            return None


def _separated(
    item: BenchItem, transcriber: Transcriber, separators: Mapping[str, System]
) -> dict[str, Scores]:
    """Return the scores of the stems of a pair's source, by what made them.

    There are none where there is nothing to separate, and of a loop, whose stems are unknown.
    """
    if not separators or item.stems is None or active_classes(item.stems, item.source).sum() < 2:
        return {}
    source = Recording.from_samples(item.source, SAMPLE_RATE, "source")
    mixture = Mixture(source, item.stems, transcriber.activations(source), item.kit, "")
    return {
        name: score_stems(separate(mixture), item.stems, item.source) for name, separate in separators.items()
    }


def _rows(
    entries: Sequence[Mapping[str, Any]], settings: BenchSettings, memory: Mapping[str, float]
) -> list[dict[str, Any]]:
    """Return the rows of the tables: by kind of item and system, then by separator, the means of measures."""
    rows = []
    for material in MATERIALS:
        for system in SYSTEMS:
            own = [e for e in entries if e["material"] == material and system in e["systems"]]
            if not own:
                continue
            row: dict[str, Any] = {"material": material, "system": system, "n": len(own)}
            row["failures"] = sum(system in entry["failures"] for entry in own)
            row["measures"] = _means(own, [entry["systems"][system] for entry in own], settings)
            if material == "pairs" and system in memory:
                row["peak_memory_mb"] = memory[system]
            rows.append(row)
    separated = [{**e, "groove": e["source_groove"]} for e in entries if e["separators"]]
    for name in separated[0]["separators"] if separated else ():
        measures = _means(separated, [entry["separators"][name] for entry in separated], settings)
        rows.append(
            {"material": "stems", "system": name, "n": len(separated), "failures": 0, "measures": measures}
        )
    return rows


def _place(row: Mapping[str, Any]) -> tuple[int, int]:
    """Return where a row stands: in its material's table, what plays in the order of SYSTEMS."""
    if row["material"] not in MATERIALS:
        return len(MATERIALS), 0
    return MATERIALS.index(row["material"]), SYSTEMS.index(row["system"])


def _means(
    entries: Sequence[Mapping[str, Any]], scores: Sequence[Scores], settings: BenchSettings
) -> dict[str, dict[str, Any]]:
    """Return the mean of each measure over the items that have it; one that no item has is left out."""
    means = {}
    for name in scores[0]:
        valued = [
            (e, value) for e, own in zip(entries, scores, strict=True) if (value := own[name]) is not None
        ]
        if valued:
            mean = clustered_mean(
                [value for _, value in valued],
                [entry["kit"] for entry, _ in valued],
                [entry["groove"] for entry, _ in valued],
                n_resamples=settings.n_resamples,
                seed=settings.seed,
            )
            means[name] = asdict(mean)
    return means


def _memory(maker: ItemMaker, players: Players, n: int, progress: Progress | None) -> dict[str, float]:
    """Return the most memory that a process needed which did nothing but one render, by system, in MB."""
    found: dict[str, float] = {}
    for i in range(n):
        item = maker.pair(i)
        for system in players.systems_for(item):
            if system not in OWN:
                continue
            rhythm = item.target if plays_audio(system) else events_of(item)
            folder = str(players.preset.folder)
            needed = peak_memory_mb(folder, item.source, rhythm, **played_with(system))
            if needed is not None:
                found[system] = max(found.get(system, 0.0), needed)
        if progress is not None:
            progress(f"memory of {players.preset.name}", (i + 1) / n)
    return found


def _read_items(log: Path, run: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the items that a stopped run has scored; a line that was cut off by a crash is left out.

    A run that was stopped before its first item has left nothing that another one could spoil.
    """
    if not log.exists():
        return {}
    lines = []
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            _log.info("%s: a line cannot be read and is left out", log.name)
    hint = "begin anew with --overwrite, name another --out, or remove that file"
    try:
        before = dict(lines[0]["run"])
        done = {str(line["item"]): dict(line) for line in lines[1:]}
    except (ValueError, TypeError, LookupError) as err:
        raise OutputError(f"{log} holds no items of a benchmark", hint=hint) from err
    if not done:
        return {}
    if changed := [name for name, value in run.items() if before.get(name) != value]:
        raise OutputError(f"{log} holds items of another run: another {', '.join(changed)}", hint=hint)
    return done


def source_files(module: str, root: Path) -> list[Path]:
    """Return the source files of a module and of all of ours that it imports, sorted, also within functions.

    The two packages' own `__init__.py` are left out: they only list names for others.

    Args:
        module: by its full name, such as `training.bench.benchmark`.
        root: the folder that holds the packages.
    """
    found: dict[Path, None] = {}
    pending = [module]
    while pending:
        name = pending.pop()
        place = root.joinpath(*name.split("."))
        path = next((p for p in (place.with_suffix(".py"), place / "__init__.py") if p.is_file()), None)
        if path is None or path in found or name in _PACKAGES or name.partition(".")[0] not in _PACKAGES:
            continue
        found[path] = None
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        pending += _imported(ast.parse(path.read_bytes()), package)
    return sorted(found)


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the names of what a module of a package imports, modules and what may be one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def _code() -> list[Path]:
    """Return the source files that decide what an item is and what it scores: this one and all it imports."""
    return source_files(__name__, Path(__file__).resolve().parents[__name__.count(".")])


def _digest(paths: Sequence[Path]) -> str:
    """Return a checksum of files' contents."""
    total = hashlib.sha256()
    for path in paths:
        total.update(path.read_bytes())
    return total.hexdigest()[:16]
