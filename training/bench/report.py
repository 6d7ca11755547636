"""The benchmark's result for readers: Markdown tables and a picture of bars with their intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.picture import write_picture
from training.score.scores import markdown_table
from transform.events import CLASS_NAMES, CLASSES
from transform.files import write_text_atomic

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SPEED, _MEMORY = "real_time_factor", "peak_memory_mb"  # costs, which no two runs have in common
_GREY, _LIGHT, _RED, _BLUE, _SKY, _GREEN = "#999999", "#CCCCCC", "#D55E00", "#0072B2", "#56B4E9", "#009E73"
_COLOURS = (_GREY, _LIGHT, _RED, _BLUE, _SKY, _SKY, _GREEN, _GREEN, "#222222")  # of rows


@dataclass(frozen=True)
class Column:
    """A measure as readers meet it."""

    key: str
    title: str
    digits: int = 3


_PLAYED = (
    Column("class_f_50", "class F @50 ms"),
    Column("class_f_30", "class F @30 ms"),
    Column("class_f_10", "class F @10 ms"),
    Column("onset_f_50", "any-onset F @50 ms"),
    Column("onset_f_20", "any-onset F @20 ms"),
    Column("timing_sd_ms", "timing SD, ms", 1),
    Column("velocity", "velocity correlation"),
)
_SOUND = (
    Column("log_mel_db", "log-mel distance, dB", 2),
    Column("likeness", "likeness to source"),
    Column("high_db", "energy above 8 kHz, dB", 2),
    Column("high_abs_db", "above 8 kHz, absolute dB", 2),
    Column("pre_echo_db", "pre-echo, dB", 2),
)
_LEVELS = (
    Column("nearest_hit_db", "nearest hit, dB", 2),
    Column("stroke_level_db", "stroke level, dB", 2),
    Column("stroke_balance_db", "stroke balance, dB", 2),
    Column("frame_loudness_db", "frame loudness, dB", 2),
    Column("frame_balance_db", "frame balance, dB", 2),
)
_TEXTURE = (
    Column("averaged_log_mel_db", "averaged log-mel distance, dB", 2),
    Column("periodicity", "periodicity"),
    Column("pulses_db", "pulses, dB", 1),
    Column("speckle_db", "speckle, dB", 2),
    Column("hiss_db", "hiss, dB", 1),
)
_CLASS_F = tuple(Column(f"class_f_50_{c}", CLASS_NAMES[c]) for c in CLASSES)
_CLASS_VELOCITY = tuple(Column(f"velocity_{c}", CLASS_NAMES[c]) for c in CLASSES)
_RECORDINGS = (
    *(column for column in _PLAYED if column.key in ("class_f_50", "onset_f_50", "onset_f_20", "timing_sd_ms")),
    next(column for column in _SOUND if column.key == "likeness"),
    *_LEVELS,
)
_LOOPS = (
    *(column for column in _PLAYED if column.key.startswith("onset_f")),
    Column("given_back_db", "loop given back, dB", 2),
)
_STEMS = (
    *(Column(c, CLASS_NAMES[c], 1) for c in CLASSES),
    Column("mean", "mean", 1),
    Column("silent", "into silent classes", 1),
)

_NOTES = """\
- **Class F, any-onset F**: F of the onsets that the evaluation transcriber detects in a result, against the
  true audible events of the oracle (within 30 dB of the mix around them; others may be detected or missed). A
  class that the source lacks counts as its stand-in.
- **Timing SD**: standard deviation of the detected onsets' errors after the item's mean error is taken off.
- **Velocity correlation**: Spearman's, of true velocities with levels in the class's band in the 50 ms after
  the onset; items with five strokes of the class or more.
- **Log-mel distance**: mean absolute difference to the oracle in dB, 80 mel bands, windows of 1024 every 256
  samples, floor -70 dB; both recordings are brought to a root mean square of -20 dB over their whole length.
- **Likeness to source**: d_target / (d_source + d_target), d the mean distance to the nearest hit (64 mel
  bands, loudness-normalised, of the 93 ms after each onset). 1 sounds like the source, 0 like the target's
  recording.
- **Energy above 8 kHz**: its proportion of the whole against the oracle's; + is brighter.
- **Nearest hit**: mean over a result's hits of the mean absolute difference to the source's nearest one, of the
  spectra that likeness compares.
- **Stroke level, stroke balance**: of each class with four strokes in source and rhythm, how far the 90th
  percentile of its strokes' levels in its band is from the source's: the mean of the classes (absolute), and
  the mean deviation of a class from it.
- **Frame loudness, frame balance**: the same of frames of 50 ms, within 50 dB of the loudest: the 90th
  percentile of their levels (absolute), and the deviation of the 95th in four bands (30 to 120, 200 to 2000,
  3000 to 7000, 9000 to 16000 Hz). A changed rhythm moves them by itself: read them against "every drum at its
  own level", which is plain slices at the true events, each as loud as it is in the source.
- **Averaged log-mel distance**: powers are first averaged over 3 frames and 5 bands, which two noises of one
  kind have in common.
- **Periodicity**: highest autocorrelation at 1 to 12 ms of the whitened band above 4 kHz, median of frames of
  46 ms: noise .12, recordings about .15, a buzz towards 1. **Speckle**: standard deviation of log spectra above
  4 kHz around their local mean. **Hiss**: level above 4 kHz in gaps (5th percentile of frames) against loud
  frames (95th). Compare with the source's and the oracle's. Coherence between channels is not measured: all
  items are mono.
- **SI-SDR** (Le Roux et al. 2019) of a stem against the true one, scale-invariant; what is below -30 dB counts
  as -30 dB. A class counts where its true stem is within 40 dB of the recording; what leaks into the stems of
  the others is a level in dB against the recording. "NMF" is non-negative matrix factorisation, with templates
  learned from one-shots, or informed by the preset's transcription; the ideal ratio mask knows the true stems.
- **Plain slices, NMF stems, true stems**: the resequencer without a separator, with NMF's stems, with the
  source's own; "true stems and events" is also given what the source plays.
- **Latent, generated attacks**: with `--attack none`, the network's own sound from the first sample on. In the
  other rows the source's own hits begin each stroke.
- **Latent, true events; best copies; oracle through the codec**: the latent engine's stages exchanged for the
  truth one after the other. The MIDI rhythm is the target's true events; "true events" is given those of the
  source too; "best copies" copies the source's latents that are nearest to the oracle's; the last has the
  oracle's own.
- **Loop given back**: log-mel distance of a loop to the loop played at its own transcription by the kit that
  was extracted from it.
- **Pre-echo**: level of the 10 ms that end 2 ms before an onset against the 20 ms after it, less the oracle's;
  + is sound ahead of its attack. Onsets less than 60 ms after another do not count.
- **Real-time factor**: seconds of result a second of computing, models loaded, both transcriptions included.
- **Peak memory**: of a process that loads the models and renders one item.
- Systems are read against the oracle, on which the evaluation transcriber makes mistakes too.
"""


def write_report(result: Mapping[str, Any], out: Path) -> list[Path]:
    """Write the result and return the paths: `benchmark.md`, `benchmark.json`, `costs.json`, `benchmark.png`.

    The same data, weights, code and settings give the same `benchmark.json`, byte by byte: times and memory are
    in `costs.json`, and no folder is named. The picture needs matplotlib.
    """
    table, scores, costs, picture = (
        out / name for name in ("benchmark.md", "benchmark.json", "costs.json", "benchmark.png")
    )
    write_text_atomic(table, markdown(result), overwrite=True)
    write_text_atomic(scores, json.dumps(_without_costs(result), indent=1) + "\n", overwrite=True)
    write_text_atomic(costs, json.dumps(_costs(result), indent=1) + "\n", overwrite=True)
    return [table, scores, costs, picture] if draw(result, picture) else [table, scores, costs]


def _without_costs(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what follows from data, weights, code and settings alone; figures to six decimals."""
    settings = {
        name: bool(value) if name == "recordings" else value for name, value in result["settings"].items()
    }
    rows = []
    for row in result["rows"]:
        measures = {
            name: {part: round(value, 6) for part, value in mean.items()}
            for name, mean in row["measures"].items()
            if name != _SPEED
        }
        rows.append({key: row[key] for key in row if key != _MEMORY} | {"measures": measures})
    return {**result, "settings": settings, "rows": rows}


def _costs(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return the times and the memory of a result's rows."""
    rows = []
    for row in result["rows"]:
        cost = {_SPEED: row["measures"].get(_SPEED), _MEMORY: row.get(_MEMORY)}
        found = {name: value for name, value in cost.items() if value is not None}
        if found:
            rows.append({key: row[key] for key in ("material", "system", "preset") if key in row} | found)
    return {"schema": 1, "rows": rows}


def markdown(result: Mapping[str, Any]) -> str:
    """Return the tables of a benchmark's result, with what their columns mean."""
    rows = result["rows"]
    pairs, recordings, loops, stems = (
        [row for row in rows if row["material"] == material]
        for material in ("pairs", "recordings", "loops", "stems")
    )
    lines = _heading(result["settings"], rows)
    if recordings:
        about = f"{recordings[0]['n']} times one of the annotated recordings plays another's rhythm."
        lines += ["## Real recordings", "", about, "", *_table(recordings, _RECORDINGS), ""]
        lines += ["### Class F @50 ms", "", *_table(recordings, _CLASS_F), ""]
        lines += ["### Texture", "", *_table(recordings, _TEXTURE[1:]), ""]
    if pairs:
        for title, columns in (
            ("Does it play the rhythm?", _PLAYED),
            ("Does it sound like the source?", _SOUND),
            ("Is it as loud and as balanced as the source?", _LEVELS),
            ("Texture", _TEXTURE),
            ("Class F @50 ms", _CLASS_F),
            ("Velocity correlation", _CLASS_VELOCITY),
        ):
            lines += [f"## {title}", "", *_table(pairs, columns), ""]
    if stems:
        about = "The pairs' sources taken apart: SI-SDR in dB of each class that sounds in them."
        lines += ["## How clean are the stems?", "", about, "", *_table(stems, _STEMS), ""]
        lines += [_of_the_bound(stems), ""]
    lines += ["## What does it cost?", "", *_cost_table(pairs or recordings), ""]
    if loops:
        about = (
            f"{loops[0]['n']} regions of held-out real loops play held-out rhythms:"
            " agreement of the onsets with the rhythm's. And a kit is extracted from each."
        )
        lines += ["## Real loops", "", about, "", *_table(loops, _LOOPS), ""]
    failed = [
        f"{_name(row)} on {row['failures']} of {row['n']} {row['material']}" for row in rows if row["failures"]
    ]
    if failed:
        lines += [f"Failed, and counted as silence: {'; '.join(failed)}.", ""]
    return "\n".join([*lines, "## What the columns mean", "", _NOTES])


def _heading(settings: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return how a benchmark was made, as Markdown."""
    beside = f" --beside {settings['beside']}" if settings.get("beside") else ""
    given = " --recordings DIR" if settings.get("recordings") else ""
    given += "".join(f' --rows "{row}"' for row in settings.get("rows", ()))
    lines = [
        "# Benchmark",
        "",
        f"{settings['n_pairs']} pairs of held-out kits and rhythms with exact answers, preset"
        f" `{settings['preset']}`, seed {settings['seed']}. Means with 95 % intervals (bootstrap over kits and"
        " rhythms). Made with:",
        "",
        "```",
        f"redrum bench --data PACK --items {settings['n_pairs']} --seed {settings['seed']}"
        f" --preset {settings['preset']}{beside}{given}",
        "```",
        "",
    ]
    if beside:
        names = ", ".join(dict.fromkeys(f"`{row['preset']}`" for row in rows if "preset" in row))
        lines += [f"Rows that end in {names} are played with that preset's codec and transformer.", ""]
    return lines


def draw(result: Mapping[str, Any], picture: Path) -> bool:
    """Draw each measure's bars with their intervals as PNG and return True, or False without matplotlib."""
    rows = [row for row in result["rows"] if row["material"] == "pairs"]
    rows = rows or [row for row in result["rows"] if row["material"] == "recordings"]
    names = [_name(row) for row in rows]

    def draw_all(figure: Figure) -> None:
        for i, (axes, column) in enumerate(zip(figure.subplots(3, 4).flat, (*_PLAYED, *_SOUND), strict=True)):
            _draw_bars(axes, [row["measures"].get(column.key) for row in rows])
            axes.set_yticks(range(len(rows)), [] if i % 4 else names)
            axes.set_ylim(len(rows) - 0.5, -0.5)
            axes.set_title(column.title, fontsize=10, loc="left")
            axes.tick_params(labelsize=8)
            axes.spines[["top", "right"]].set_visible(False)
            axes.axvline(0, color="#222222", linewidth=0.8)

    return write_picture(picture, (12, 9), draw_all, dpi=110)


def _draw_bars(axes: Axes, values: Sequence[Mapping[str, float] | None]) -> None:
    """Draw means as bars with their intervals, the first on top; None leaves a gap."""
    for i, value in enumerate(values):
        if value is not None:
            below, above = value["mean"] - value["low"], value["high"] - value["mean"]
            error = [[max(0.0, below)], [max(0.0, above)]]
            colour = _COLOURS[i % len(_COLOURS)]
            axes.barh(i, value["mean"], xerr=error, color=colour, ecolor="#777777", capsize=2)


def _table(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> list[str]:
    cells = {_name(row): [_cell(row["measures"].get(c.key), c.digits) for c in columns] for row in rows}
    return markdown_table("", [column.title for column in columns], cells)


def _name(row: Mapping[str, Any]) -> str:
    """Return what a row is called: what plays, with the name of the preset if it is the one beside."""
    return f"{row['system']}, {row['preset']}" if "preset" in row else str(row["system"])


def _of_the_bound(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return how much of the gain of the last row over the first one the others have."""
    first, *others, last = [(row["system"], row["measures"]["mean"]["mean"]) for row in rows]
    gains = [f"{name} {(mean - first[1]) / (last[1] - first[1]):.0%}" for name, mean in others]
    return f"Of the gain of the {last[0]} over the {first[0]}: {', '.join(gains)}."


def _cost_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells: dict[str, list[str]] = {}
    for row in rows:
        if (speed := row["measures"].get(_SPEED)) is not None:
            memory = f"{row[_MEMORY]:.0f}" if _MEMORY in row else "not measured"
            cells[_name(row)] = [_cell(speed, 1), memory]
    return markdown_table("", ("real-time factor", "peak memory, MB"), cells)


def _cell(value: Mapping[str, float] | None, digits: int) -> str:
    if value is None:
        return "-"
    mean, low, high = (f"{value[name]:.{digits}f}" for name in ("mean", "low", "high"))
    return f"{mean} ({low} to {high})"
