"""How fast a preset works and how much memory it takes: every stage and length in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from training.bench.peak_memory import in_own_process, own_peak_mb
from training.score.scores import markdown_table
from transform.audio import SAMPLE_RATE, Recording, Samples, write_audio
from transform.errors import CheckpointError
from transform.files import write_text_atomic
from transform.library import demo_recordings, find_rhythm
from transform.presets import load_preset

if TYPE_CHECKING:
    from transform.codec import Codec
    from transform.engine import Redrummer

LENGTHS_S = (60.0, 180.0, 600.0)
CODEC_LENGTHS_S = (3.0, 180.0, 1800.0)  # whose memory is measured
COLD_S = 3.0  # a loop, for the whole command
_N_COLD = 3
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

    Then come the codec's costs, and whole commands that render a short loop, start-up and files included.

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
    models = chosen.models
    stages = [name for name, stage in STAGES.items() if stage.needs in models]
    engines = [name for name in ("resequence", "latent") if name in stages]
    code_lengths_s = CODEC_LENGTHS_S if "codec" in stages else ()
    jobs: list[Callable[[Path], dict[str, Any]]] = [
        partial(_stage_row, preset, stage, length_s, device) for length_s in lengths_s for stage in stages
    ]
    jobs += [partial(_codec_row, preset, length_s, device) for length_s in code_lengths_s]
    jobs += [partial(_command_row, redrum, preset, engine) for engine in engines]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for job in jobs:
            rows.append(job(Path(folder)))
            if progress is not None:
                progress("speed", len(rows) / len(jobs))
    if code_lengths_s:
        from training.bench.codec_cost import codec_costs  # here: it loads torch

        rows += codec_costs(chosen)
    return {"schema": 1, "preset": preset, "device": device, "n_cores": os.cpu_count(), "rows": rows}


def _stage_row(preset: str, stage: str, length_s: float, device: str, folder: Path) -> dict[str, Any]:
    path, what = _recording(folder, length_s), f"{stage} of {length_s:g} s"
    seconds, peak_mb = in_own_process(what, work_alone, preset, stage, path, device)
    row = {"stage": stage, "length_s": length_s, "seconds": seconds}
    return row | {"real_time_factor": length_s / seconds, "peak_memory_mb": peak_mb}


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


def work_alone(preset: str, name: str, path: Path, device: str) -> tuple[float, float | None]:
    """Return the seconds that a stage takes for a recording, and the most memory of this process, in MB."""
    stage = STAGES[name]
    model = stage.load(preset, device)
    with Recording.open(path) as recording:
        seconds = stage.work(model, recording)
    return seconds, _peak_mb(device)


def _peak_mb(device: str) -> float | None:
    if device != "cuda":
        return own_peak_mb()
    import torch

    return torch.cuda.max_memory_allocated() / 2**20


def _transcribe(redrummer: Redrummer, recording: Recording) -> float:
    began = time.perf_counter()
    redrummer.transcribe(recording)
    return time.perf_counter() - began


def _separate(redrummer: Redrummer, recording: Recording) -> float:
    assert redrummer.separator is not None
    activations = redrummer.transcriber.activations(recording)
    began = time.perf_counter()
    stems = redrummer.separator.open(recording, activations)
    step = 10 * recording.sample_rate
    for start in range(0, recording.n_samples, step):
        stems.read(start, min(recording.n_samples, start + step))
    return time.perf_counter() - began


def _render(redrummer: Redrummer, recording: Recording, *, engine: str, **options: Any) -> float:
    from transform.midi import read_midi
    from transform.settings import RenderSettings

    rhythm = read_midi(find_rhythm(_RHYTHM).path)
    settings = RenderSettings(length="source", engine=engine, **options)
    if engine == "latent":
        redrummer.latent  # noqa: B018 (it is loaded on first use)
    began = time.perf_counter()
    for _ in redrummer.redrum(recording, rhythm, settings).blocks():
        pass
    return time.perf_counter() - began


def _code(codec: Codec, recording: Recording) -> float:
    import torch

    audio = torch.from_numpy(recording.read(0, recording.n_samples)[:1])
    began = time.perf_counter()
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
    work: Callable[[Any, Recording], float]  # returns the seconds it took


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


def speed_table(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown: stages by lengths, times real time and memory."""
    rows = [row for row in result["rows"] if "stage" in row]
    lengths_s = list(dict.fromkeys(row["length_s"] for row in rows))
    lines = [
        "# Speed",
        "",
        f"Preset `{result['preset']}` on {result['device']}, {result['n_cores']} cores. Made with:",
    ]
    command = f"redrum bench --speed --preset {result['preset']} --device {result['device']}"
    lines += ["", "```", command, "```", ""]
    cells: dict[str, list[str]] = {}
    for row in rows:
        memory = f", {row['peak_memory_mb']:.0f} MB" if row["peak_memory_mb"] is not None else ""
        cells.setdefault(row["stage"], []).append(f"{row['real_time_factor']:.0f}x{memory}")
    lines += markdown_table("", [f"{length_s / 60:g} min" for length_s in lengths_s], cells)
    lines += [
        "",
        "Times real time, and the most memory that a process needed which did nothing else, models included",
        "(on cuda: of the device's).",
        "Separation does not count the transcription that guides it; resequence and latent are whole renders;",
        "codec is coding and decoding one channel.",
    ]
    if codec := [row for row in result["rows"] if "codec" in row]:
        lines += ["", *_codec_lines(codec)]
    commands = [row for row in result["rows"] if "command" in row]
    if commands:
        lines += [
            "",
            f"Whole commands on a loop of {commands[0]['length_s']:g} s, start-up, models and files included,",
            "the median of three, with as many threads as `render` takes by itself (all cores but one):",
            "",
        ]
        lines += [f"- `redrum {row['command']}`: {row['seconds']:.2f} s" for row in commands]
    return "\n".join(lines) + "\n"


def _codec_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the codec's costs as Markdown."""
    cells = {
        row["codec"]: (f"{row['parameters']:,}", f"{row['gmac_a_second']:.2f}")
        for row in rows
        if "parameters" in row
    }
    lines = markdown_table("codec", ("parameters", "GMAC a second of a channel"), cells)
    memory = [row for row in rows if row.get("peak_memory_mb") is not None]
    if memory:
        sizes = [f"{row['peak_memory_mb']:.0f} MB for {_length(row['length_s'])}" for row in memory]
        lines += [
            "",
            f"To code and decode one channel whole takes {', '.join(sizes)}, with the sound and its latents.",
            "The latent engine works in blocks instead, and holds neither whole.",
        ]
    return lines


def _length(length_s: float) -> str:
    return f"{length_s:g} s" if length_s < 60 else f"{length_s / 60:g} min"


def write_speed(result: Mapping[str, Any], out: Path) -> list[Path]:
    """Write `speed.md` and `speed.json`, and return their paths."""
    table, data = out / "speed.md", out / "speed.json"
    write_text_atomic(table, speed_table(result), overwrite=True)
    write_text_atomic(data, json.dumps(result, indent=1) + "\n", overwrite=True)
    return [table, data]
