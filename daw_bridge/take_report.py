"""What is said of a take, by commands, manifests and pages alike."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transform.events import DrumEvent
    from transform.take import Take

Report = dict[str, Any]
Show = Callable[[str, float], None]  # is called with a stage and how much of it is done


def report_of(take: "Take", engine: str, subtype: str) -> Report:
    """Return what is said of a take that is written.

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


def count_events(events: Iterable["DrumEvent"]) -> dict[str, int]:
    """Return how many events there are of each class."""
    from transform.events import CLASSES

    counts = Counter(event.drum_class for event in events)
    return {name: counts[name] for name in CLASSES}


def form_of(report: dict[str, Any]) -> str:
    """Return the sample rate, channels and bit depth of a result in words."""
    depth = report["bit_depth"]
    channels = {1: "mono", 2: "stereo"}.get(report["channels"], f"{report['channels']} channels")
    return f"{report['sample_rate']} Hz, {channels}, {depth.rstrip('f')} bits{' float' * depth.endswith('f')}"


def depth_of(subtype: str) -> str:
    """Return the bit depth of soundfile's name of a sample format, as --bit-depth has it."""
    return {"FLOAT": "32f", "DOUBLE": "64f"}.get(subtype, subtype[-2:].lstrip("SU"))
