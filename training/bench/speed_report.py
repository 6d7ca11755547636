"""The speeds that were measured, for readers: Markdown tables, and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.score.scores import markdown_table
from transform.files import write_text_atomic

_REFERENCE = ("GFLOP a second of sound", "GFLOP/s", "product, GFLOP/s", "of the product", "FFT, MB/s")


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
    lines += ["", *_reference_lines(result["rows"])]
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


def _reference_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the speed of each stage's networks beside that of the machine, as Markdown."""
    longest = {row["stage"]: row for row in rows if "stage" in row}
    counted = {row["counted"]: row for row in rows if "counted" in row}
    cells = {}
    for stage in [stage for stage in longest if stage in counted]:
        row, gflop = longest[stage], counted[stage]["gflop_a_second"]
        gflops = gflop * row["real_time_factor"]
        share = f"{100 * gflops / row['product_gflops']:.0f} %"
        speeds = (f"{gflop:.2f}", f"{gflops:.0f}", f"{row['product_gflops']:.0f}", share)
        cells[stage] = [*speeds, f"{row['fft_mb_s']:.0f}"]
    return [
        *markdown_table("networks", _REFERENCE, cells),
        "",
        "Operations of convolutions and products of matrices, a multiplication and an addition being two,",
        "against the time of the whole stage on the longest recording. Beside them stands what that process",
        "reached right after it: the product of two matrices of 1024 rows and columns, and real Fourier",
        "transforms of 2048 samples, both in single precision. To compare machines, divide by these.",
    ]


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
