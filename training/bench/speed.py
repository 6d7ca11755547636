"""How fast a preset works and how much memory it takes: every stage and length in a process of its own."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from training.bench.peak_memory import in_own_process, own_peak_mb
from transform.audio import SAMPLE_RATE, Recording, Samples, write_audio
from transform.errors import CheckpointError
from transform.library import demo_recordings, find_rhythm
from transform.presets import load_preset

if TYPE_CHECKING:
    from training.bench.reference import Reference
    from transform.codec import Codec
    from transform.engine import Redrummer

LENGTHS_S = (60.0, 180.0, 600.0)
CODEC_LENGTHS_S = (3.0, 180.0, 1800.0)  # whose memory is measured
COLD_S = 3.0  # a loop, for the whole command
_N_COLD = 3
_Meter = AbstractContextManager[object]  # in which a stage works, but for what it is prepared with
_UNCOUNTED: _Meter = nullcontext()
_RHYTHM = "hip-hop-bounce-140"


def measure_speed(
    preset: str,
    lengths_s: Sequence[float] = LENGTHS_S,
    *,
    redrum: Sequence[str],
    device: str = "cpu",
    progress: Callable[[str, float], None] | None = None,
) -> dict[str, Any]:
    """Return how many seconds of a recording each stage works through in a second, and what memory it takes.

    Beside them, from the same processes, are the speeds of a plain reference; then come the operations that
    the networks of each stage need, counted on the shortest recording, the codec's costs, and whole commands
    that render a short loop, start-up and files included.

    The recording is a shipped loop that is repeated, in its own rate and channels. Loading the models is not
    counted as time, but as memory: on cuda the device's, else the process's. Stages whose model the preset
    lacks are left out.

    Args:
        preset: whose models work.
        lengths_s: of the recordings.
        redrum: the command line that starts `redrum`.
        device: where the models run.
        progress: is called with "speed" and the proportion done.

    Raises:
        CheckpointError: there is no such preset, or a stage failed.
    """
    chosen = load_preset(preset)
    jobs = list(_jobs(preset, [*chosen.models], lengths_s, redrum, device))
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs:
            rows.append(job(Path(folder)))
            if progress is not None:
                progress("speed", len(rows) / len(jobs))
    if "codec-generator" in chosen.models:
        from training.bench.codec_cost import codec_costs  # here: it loads torch

        rows += codec_costs(chosen)
    return {"schema": 1, "preset": preset, "device": device, "n_cores": os.cpu_count(), "rows": rows}


def _jobs(
    preset: str, models: Sequence[str], lengths_s: Sequence[float], redrum: Sequence[str], device: str
) -> Iterator[Callable[[Path], dict[str, Any]]]:
    """Yield what measures a row each, in a folder for its recordings."""
    stages = [name for name, stage in STAGES.items() if stage.needs in models]
    for length_s in lengths_s:
        yield from (partial(_stage_row, preset, stage, length_s, device) for stage in stages)
    yield from (partial(_count_row, preset, stage, min(lengths_s), device) for stage in stages)
    if "codec" in stages:
        yield from (partial(_codec_row, preset, length_s, device) for length_s in CODEC_LENGTHS_S)
    engines = [name for name in ("resequence", "latent") if name in stages]
    yield from (partial(_command_row, redrum, preset, engine) for engine in engines)


def _stage_row(preset: str, stage: str, length_s: float, device: str, folder: Path) -> dict[str, Any]:
    path, what = _recording(folder, length_s), f"{stage} of {length_s:g} s"
    seconds, peak_mb, reference = in_own_process(what, work_alone, preset, stage, path, device)
    row = {"stage": stage, "length_s": length_s, "seconds": seconds}
    return row | {"real_time_factor": length_s / seconds, "peak_memory_mb": peak_mb, **reference}


def _count_row(preset: str, stage: str, length_s: float, device: str, folder: Path) -> dict[str, Any]:
    path, what = _recording(folder, length_s), f"counting of {stage}"
    gflop = in_own_process(what, count_alone, preset, stage, path, device)
    return {"counted": stage, "length_s": length_s, "gflop_a_second": gflop / length_s}


def _codec_row(preset: str, length_s: float, device: str, folder: Path) -> dict[str, Any]:
    row = _stage_row(preset, "codec", length_s, device, folder)
    return {"codec": "memory", "length_s": length_s, "peak_memory_mb": row["peak_memory_mb"]}


def _command_row(redrum: Sequence[str], preset: str, engine: str, folder: Path) -> dict[str, Any]:
    seconds = _command_s(redrum, preset, engine, folder)
    return {"command": f"render --engine {engine}", "length_s": COLD_S, "seconds": seconds}


def _recording(folder: Path, length_s: float) -> Path:
    """Return a file of so many seconds, written unless it is there: a shipped loop again and again."""
    path = folder / f"{length_s:g}.wav"
    if not path.exists():
        with Recording.open(demo_recordings()[0].path) as loop:
            write_audio(path, _repeated(loop, length_s), loop.format)
    return path


def _repeated(loop: Recording, length_s: float) -> Iterator[Samples]:
    """Yield a loop again and again until it has the requested length."""
    samples = loop.read(0, loop.n_samples)
    remaining = round(length_s * loop.sample_rate)
    while remaining > 0:
        yield samples[:, :remaining]
        remaining -= samples.shape[1]


def _command_s(redrum: Sequence[str], preset: str, engine: str, folder: Path) -> float:
    """Return the seconds that `redrum render` of a short loop takes as a new process, the median of three."""
    path = folder / "loop.wav"
    with Recording.open(demo_recordings()[0].path) as loop:
        write_audio(path, _repeated(loop, COLD_S), loop.format, overwrite=True)
    options = ["--rhythm", _RHYTHM, "--engine", engine, "--preset", preset, "--overwrite", "--quiet"]
    command = ["render", str(path), *options, "--output", str(folder / "take.wav")]
    took_s = []
    for _ in range(_N_COLD):
        began = time.perf_counter()
        done = subprocess.run([*redrum, *command], capture_output=True, check=False)
        took_s.append(time.perf_counter() - began)
        if done.returncode:
            why = done.stderr.decode(errors="replace").strip()
            raise CheckpointError(f"redrum {' '.join(command)} failed: {why}", hint="run that command itself")
    return sorted(took_s)[_N_COLD // 2]


def work_alone(preset: str, name: str, path: Path, device: str) -> tuple[float, float | None, Reference]:
    """Return a stage's seconds for a recording, the most memory of this process in MB, and the reference."""
    from training.bench.reference import measure_reference

    stage = STAGES[name]
    model = stage.load(preset, device)
    with Recording.open(path) as recording:
        seconds = stage.work(model, recording)
    peak_mb = _peak_mb(device)
    return seconds, peak_mb, measure_reference(device)


def count_alone(preset: str, name: str, path: Path, device: str) -> float:
    """Return the operations of a stage's networks for a recording, in 10^9.

    Those of convolutions and products of matrices, a multiplication and an addition being two.
    """
    from torch.utils.flop_counter import FlopCounterMode

    stage, counter = STAGES[name], FlopCounterMode(display=False)
    model = stage.load(preset, device)
    with Recording.open(path) as recording:
        stage.work(model, recording, counter)
    return float(counter.get_total_flops()) / 1e9


def _peak_mb(device: str) -> float | None:
    if device != "cuda":
        return own_peak_mb()
    import torch

    return torch.cuda.max_memory_allocated() / 2**20


def _transcribe(redrummer: Redrummer, recording: Recording, meter: _Meter = _UNCOUNTED) -> float:
    began = time.perf_counter()
    with meter:
        redrummer.transcribe(recording)
    return time.perf_counter() - began


def _separate(redrummer: Redrummer, recording: Recording, meter: _Meter = _UNCOUNTED) -> float:
    assert redrummer.separator is not None
    activations = redrummer.transcriber.activations(recording)
    began = time.perf_counter()
    stems = redrummer.separator.open(recording, activations)
    step = 10 * recording.sample_rate
    with meter:
        for start in range(0, recording.n_samples, step):
            stems.read(start, min(recording.n_samples, start + step))
    return time.perf_counter() - began


def _render(
    redrummer: Redrummer, recording: Recording, meter: _Meter = _UNCOUNTED, *, engine: str, **options: Any
) -> float:
    from transform.midi import read_midi
    from transform.settings import RenderSettings

    rhythm = read_midi(find_rhythm(_RHYTHM).path)
    settings = RenderSettings(length="source", engine=engine, **options)
    if engine == "latent":
        redrummer.latent  # noqa: B018 (it is loaded on first use)
    began = time.perf_counter()
    with meter:
        for _ in redrummer.redrum(recording, rhythm, settings).blocks():
            pass
    return time.perf_counter() - began


def _code(codec: Codec, recording: Recording, meter: _Meter = _UNCOUNTED) -> float:
    import torch

    audio = torch.from_numpy(recording.read(0, recording.n_samples)[:1])
    began = time.perf_counter()
    with meter:
        codec.decode(codec.encode(audio).mu, recording.n_samples)
    seconds = time.perf_counter() - began
    return seconds * SAMPLE_RATE / recording.sample_rate  # it takes samples for those of 44.1 kHz


def _redrummer(preset: str, device: str, *, bfloat16: bool = False) -> Redrummer:
    from transform.engine import Redrummer

    return Redrummer.load(preset, device=device, bfloat16=bfloat16)


def _codec(preset: str, device: str, *, bfloat16: bool = False) -> Codec:
    from transform.codec import Codec

    chosen = load_preset(preset)
    weights = (chosen.weights(f"codec-{name}") for name in ("encoder", "generator"))
    return Codec.load(*weights, device=device, bfloat16=bfloat16)


class Stage(NamedTuple):
    """What is measured: a model that the preset must hold, how it is loaded, and its work on a recording."""

    needs: str
    load: Callable[[str, str], Any]  # of a preset, on a device
    work: Callable[..., float]  # with the model, a recording and perhaps a meter; returns the seconds it took


STAGES: Mapping[str, Stage] = {
    "transcription": Stage("transcriber", _redrummer, _transcribe),
    "separation": Stage("separator", _redrummer, _separate),
    "resequence": Stage("transcriber", _redrummer, partial(_render, engine="resequence")),
    "latent": Stage("rhythm", _redrummer, partial(_render, engine="latent")),
    "latent, generated attacks": Stage("rhythm", _redrummer, partial(_render, engine="latent", attack="none")),
    "latent, bfloat16": Stage("rhythm", partial(_redrummer, bfloat16=True), partial(_render, engine="latent")),
    "codec": Stage("codec-generator", _codec, _code),
    "codec, bfloat16": Stage("codec-generator", partial(_codec, bfloat16=True), _code),
}
