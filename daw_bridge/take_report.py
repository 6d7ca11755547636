"""The report of a take, as commands, manifests and pages print it."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

import transform

Report = dict[str, Any]


def report_of(take: "transform.Take", engine: str, subtype: str) -> Report:
    """Return the report of a take that is written.

    Args:
        take: the take.
        engine: what made it.
        subtype: soundfile's name of the sample format of its file.
    """
    return {
        "engine": engine,
        "duration_s": round(take.duration_s, 6),
        "sample_rate": take.format.sample_rate,
        "channels": take.format.n_channels,
        "bit_depth": depth_of(subtype),
        "gain_db": round(take.gain_db(), 3),
        "notes": list(take.notes()),
        "events": count_events(take.rhythm.events),
    }


def count_events(events: Iterable["transform.DrumEvent"]) -> dict[str, int]:
    """Return how many events there are of each class."""
    counts = Counter(event.drum_class for event in events)
    return {name: counts[name] for name in transform.CLASSES}


def more_items(n_items: int) -> str:
    """Return how many items a source consists of beside the first, in words; "" where it is one."""
    return f" and {n_items - 1} more" if n_items > 1 else ""


def form_of(report: Report) -> str:
    """Return the sample rate, channels and bit depth of a result in words."""
    depth = report["bit_depth"]
    channels = {1: "mono", 2: "stereo"}.get(report["channels"], f"{report['channels']} channels")
    return f"{report['sample_rate']} Hz, {channels}, {depth.rstrip('f')} bits{' float' * depth.endswith('f')}"


def depth_of(subtype: str) -> str:
    """Return the bit depth of soundfile's name of a sample format, as --bit-depth has it."""
    return {"FLOAT": "32f", "DOUBLE": "64f"}.get(subtype, subtype[-2:].lstrip("SU"))
