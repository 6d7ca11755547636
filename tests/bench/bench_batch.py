"""How fast `redrum batch` is and what kills do to it: many stems, against single renders and the models alone.

    python tests/bench/bench_batch.py --out DIR

It writes made stems, `batch.json` and `batch.md` into DIR, and fails where a batch is slower than .95 of the
models alone, or kills change its results. On two CPU cores 200 stems take about ten minutes; nothing else
should run meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from training.bench.peak_memory import in_own_process
from transform.audio import Recording, Samples, write_audio
from transform.errors import CheckpointError
from transform.files import write_text_atomic
from transform.library import demo_recordings, find_rhythm
from transform.terminal import guard_output

RHYTHM = "hip-hop-bounce-140"
LEAST_AGAINST_ALONE = 0.95  # of the throughput of the models alone
_PLACE = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, kw_only=True)
class BatchBench:
    """What is measured."""

    n_stems: int = 200
    lengths_s: tuple[float, float] = (10.0, 60.0)  # of the stems, from and to
    n_renders: int = 20  # of the stems are also rendered one by one; each second of them counts for all
    n_kills: int = 5
    seed: int = 0


def write_stems(folder: Path, settings: BatchBench) -> list[Path]:
    """Write stems made of the shipped loops, lengths and beginnings drawn at random, and return their paths."""
    chance = random.Random(settings.seed)
    loops = [shipped.path for shipped in demo_recordings()]
    paths = []
    for n in range(settings.n_stems):
        path = folder / f"{n:03}.wav"
        with Recording.open(loops[n % len(loops)]) as loop:
            begin = chance.randrange(loop.n_samples)
            n_samples = round(chance.uniform(*settings.lengths_s) * loop.sample_rate)
            if not path.exists():
                write_audio(path, _repeated(loop, begin, n_samples), loop.format)
        paths.append(path)
    return paths


def _repeated(loop: Recording, begin: int, n_samples: int) -> Iterator[Samples]:
    samples = np.roll(loop.read(0, loop.n_samples), -begin, axis=1)
    for start in range(0, n_samples, loop.n_samples):
        yield samples[:, : n_samples - start]


def measure(out: Path, settings: BatchBench, announce: Callable[[str], None]) -> dict[str, Any]:
    """Return what the batch, single renders and the models alone take, and what is left after kills.

    Raises:
        CheckpointError: one of them failed.
    """
    (out / "stems").mkdir(parents=True, exist_ok=True)
    stems = write_stems(out / "stems", settings)
    recorded_s = [_length_s(path) for path in stems]
    announce("the models alone")
    alone_s = _alone_s(stems)
    announce("batch")
    calm = out / "calm"
    batch_s, memory_mb = timed_batch(out / "stems", calm)
    announce("single renders")
    renders_s = _renders_s(stems[: settings.n_renders], out / "single")
    renders_s *= sum(recorded_s) / max(1e-9, sum(recorded_s[: settings.n_renders]))
    announce("kills")
    kills = _killed(out / "stems", calm, out / "killed", batch_s, settings)
    third = max(1, len(memory_mb) // 3)
    return {
        "schema": 1,
        "n_cores": os.cpu_count(),
        "n_stems": len(stems),
        "recorded_s": sum(recorded_s),
        "batch_s": batch_s,
        "alone_s": alone_s,
        "renders_s": renders_s,
        "against_renders": renders_s / batch_s,
        "against_alone": alone_s / batch_s,
        "memory_mb": [max(memory_mb[:third], default=None), max(memory_mb[-third:], default=None)],
        "kills": kills,
    }


def _length_s(path: Path) -> float:
    with Recording.open(path) as recording:
        return recording.duration_s


def _redrum(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "daw_bridge.commands.cli", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(_PLACE), os.environ.get("PYTHONPATH", "")])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _ended(process: subprocess.Popen[bytes], what: str) -> None:
    _, errors = process.communicate()
    if process.returncode:
        why = errors.decode(errors="replace").strip().splitlines()[:1]
        raise CheckpointError(f"{what} failed: {''.join(why)}", hint="run `redrum doctor` to see what is wrong")


def timed_batch(stems: Path, out: Path, preset: str = "default") -> tuple[float, list[float]]:
    """Return the seconds of a batch, start-up included, and its memory in MB, twice a second; [] off Linux.

    Raises:
        CheckpointError: it failed.
    """
    arguments = ("--rhythm", RHYTHM, "--length", "source", "--preset", preset, "--out", out, "--quiet")
    began_s = time.perf_counter()
    process = _redrum("batch", stems, *arguments)
    memory_mb = []
    while process.poll() is None:
        memory_mb += _resident_mb(process.pid)
        time.sleep(0.5)
    took_s = time.perf_counter() - began_s
    _ended(process, "the batch")
    return took_s, memory_mb


def _resident_mb(pid: int) -> list[float]:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")]


def _renders_s(stems: Sequence[Path], out: Path) -> float:
    began_s = time.perf_counter()
    for path in stems:
        output = out / path.name
        arguments = (
            "render",
            path,
            "--rhythm",
            RHYTHM,
            "--length",
            "source",
            "-o",
            output,
            "--overwrite",
            "-q",
        )
        _ended(_redrum(*arguments), "a render")
    return time.perf_counter() - began_s


def _alone_s(stems: Sequence[Path]) -> float:
    return in_own_process("redrumming alone", work_alone, list(stems))


def work_alone(stems: Sequence[Path]) -> float:
    """Return the seconds that redrumming recordings takes without writing them; loading does not count."""
    from transform.engine import Redrummer
    from transform.midi import read_midi
    from transform.settings import RenderSettings

    redrummer = Redrummer.load()
    rhythm = read_midi(find_rhythm(RHYTHM).path)
    began_s = time.perf_counter()
    for path in stems:
        with Recording.open(path) as recording:
            for _ in redrummer.redrum(recording, rhythm, RenderSettings(length="source")).blocks():
                pass
    return time.perf_counter() - began_s


def _killed(stems: Path, calm: Path, out: Path, batch_s: float, settings: BatchBench) -> dict[str, Any]:
    """Return how a batch ends that is killed at random and resumed, against one that was left alone."""
    chance = random.Random(settings.seed)
    arguments = ("batch", stems, "--rhythm", RHYTHM, "--length", "source", "--out", out, "--quiet")
    done_before = []
    for _ in range(settings.n_kills):
        process = _redrum(*arguments)
        time.sleep(chance.uniform(0, 2 * batch_s / (settings.n_kills + 1)))
        process.kill()
        process.communicate()
        done_before.append(len(list(out.glob("*.wav"))))
    _ended(_redrum(*arguments), "the resumed batch")
    lines = (out / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    made = [json.loads(line)["output"] for line in lines]
    return {
        "done_before_each": done_before,
        "identical": _hashes(out) == _hashes(calm),
        "made_twice": len(made) - len(set(made)),
        "missing": settings.n_stems - len(set(made)),
    }


def _hashes(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.wav")}


def report(result: Mapping[str, Any]) -> str:
    """Return the result as Markdown."""
    kills = result["kills"]
    first_mb, last_mb = (f"{mb:.0f} MB" if mb is not None else "-" for mb in result["memory_mb"])
    rows = [
        ("stems", f"{result['n_stems']}, {result['recorded_s'] / 60:.0f} min"),
        (
            "`redrum batch`",
            f"{result['batch_s']:.0f} s, {result['recorded_s'] / result['batch_s']:.0f} x real time",
        ),
        ("throughput against one `redrum render` after the other", f"{result['against_renders']:.2f} x"),
        (
            f"throughput against the models alone, in one process; at least {LEAST_AGAINST_ALONE}",
            f"{result['against_alone']:.2f} x",
        ),
        ("most memory in the first and the last third", f"{first_mb}, {last_mb}"),
        (f"killed {len(kills['done_before_each'])} times, done by then", str(kills["done_before_each"])),
        ("results identical to those of an undisturbed run", "yes" if kills["identical"] else "NO"),
        ("made twice, missing", f"{kills['made_twice']}, {kills['missing']}"),
    ]
    head = [f"# Batch on {result['n_cores']} cores", "", "| what | value |", "| --- | --- |"]
    return "\n".join([*head, *(f"| {what} | {value} |" for what, value in rows)]) + "\n"


def is_as_it_should_be(result: Mapping[str, Any]) -> bool:
    """Return whether the batch was quick enough, and kills changed nothing."""
    kills = result["kills"]
    is_whole = kills["identical"] and not kills["made_twice"] and not kills["missing"]
    return bool(is_whole and result["against_alone"] >= LEAST_AGAINST_ALONE)


def main(
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for stems, results and figures.")],
    stems: Annotated[int, typer.Option(metavar="N", help="How many stems.")] = BatchBench.n_stems,
    renders: Annotated[
        int, typer.Option(metavar="N", help="Stems also rendered singly.")
    ] = BatchBench.n_renders,
    kills: Annotated[int, typer.Option(metavar="N", help="How often it is killed.")] = BatchBench.n_kills,
    seed: Annotated[int, typer.Option(metavar="N", help="Of lengths and kills.")] = BatchBench.seed,
) -> None:
    """Measure `redrum batch`."""
    settings = BatchBench(n_stems=stems, n_renders=renders, n_kills=kills, seed=seed)
    result = measure(out, settings, lambda what: typer.echo(f"{what} ...", err=True))
    write_text_atomic(out / "batch.json", json.dumps(result, indent=1) + "\n", overwrite=True)
    write_text_atomic(out / "batch.md", report(result), overwrite=True)
    typer.echo(report(result))
    if not is_as_it_should_be(result):
        raise typer.Exit(1)


if __name__ == "__main__":
    guard_output()
    typer.run(main)
