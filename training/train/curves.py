"""The picture of a training run: its loss and its scores over steps, from the JSON Lines log."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transform.files import appearing

_log = logging.getLogger(__name__)


def read_log(log: Path) -> list[dict[str, Any]]:
    """Return the entries of a training log by step; of a step that was made twice, the later entry.

    A line that was cut off by a crash is left out.
    """
    entries: dict[int, dict[str, Any]] = {}
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
            entries[entry["step"]] = entry
        except (ValueError, TypeError, KeyError):
            _log.info("%s: a line cannot be read and is left out", log.name)
    return [entries[step] for step in sorted(entries)]


def draw_curves(log: Path, picture: Path) -> bool:
    """Draw loss and scores over steps as PNG and return True, or False where there is no matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        _log.info("no %s: matplotlib is not installed", picture.name)
        return False
    entries = read_log(log)
    scores: dict[str, list[tuple[int, float]]] = {}
    for entry in entries:
        found: Mapping[str, float] = entry.get("scores", {})
        for name, score in found.items():
            scores.setdefault(name, []).append((entry["step"], score))
    figure = Figure(figsize=(8, 6), layout="constrained")
    loss_axes, score_axes = figure.subplots(2, 1, sharex=True)
    loss_axes.plot([e["step"] for e in entries], [e["loss"] for e in entries], linewidth=0.8)
    loss_axes.set_ylabel("loss")
    for name, points in scores.items():
        is_mean = name in ("micro", "mean")
        score_axes.plot(
            *zip(*points, strict=True),
            label=name,
            marker=".",
            color="black" if is_mean else None,
            linewidth=2 if is_mean else 1,
        )
    score_axes.set(ylabel="score on held-out kits", xlabel="step")
    if scores:
        score_axes.legend(ncols=len(scores), fontsize="small")
    with appearing(picture, overwrite=True) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return True
