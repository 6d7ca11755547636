"""Many recordings in one go: a plan is worked on, here or on a Dask cluster, and its results are recorded.

An item is finished in a hidden folder beside the results, in this process or in a worker's; only the process
that runs the batch writes the manifest and publishes results: whatever is killed, each is made once.
"""

import logging
import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from daw_bridge.batch_item import BatchItem
from daw_bridge.batch_work import (
    BatchJob,
    FailedItem,
    MadeItem,
    WorkResult,
    default_jobs,
    identities_of,
    key_of,
    open_source,
    work_here,
    work_on_cluster,
)
from daw_bridge.manifest import Entry, Manifest
from transform.audio import Progress
from transform.errors import OutputError, RedrumError
from transform.presets import load_preset

_TYPICAL_REAL_TIME_FACTOR = 25.0  # of two CPU cores; a folder's manifest has measured values
_LONGEST_S = 1e7  # of times in a manifest: four months

Status = Literal["done", "unchanged", "skipped", "failed"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class BatchSettings:
    """How a plan is worked on."""

    out: Path
    device: str = "cpu"
    jobs: int | None = None  # items at once; None: `default_jobs`
    overwrite: bool = False  # replace also what no batch made
    skip_existing: bool = False
    keep_going: bool = True  # after an item has failed
    scheduler: str | None = None  # address of a Dask scheduler


class Outcome(NamedTuple):
    """What became of an item; the report is that of `render`, or has error and hint."""

    item: BatchItem
    status: Status
    report: dict[str, Any]


def run(
    items: Sequence[BatchItem], settings: BatchSettings, progress: Progress | None = None
) -> Generator[Outcome]:
    """Work on a plan and yield the outcome of each item as it comes; the stage of the progress is "batch".

    What an earlier batch made in the same folder is left as it is where recording, rhythm, settings and preset
    are the same, and made again where one of them is another. Close the iterator to stop early: what is
    unfinished vanishes.

    Raises:
        CheckpointError: a preset is damaged.
        OutputError: the folder cannot be written, or another batch is writing there.
        DeviceError: there is no cluster.
    """
    presets = _preset_hashes(items)
    total = sum(map(_size, items)) or 1
    done = 0
    with (
        _writable(settings.out),
        Manifest(settings.out) as manifest,
        closing(_outcomes(items, presets, manifest, settings)) as outcomes,
    ):
        for outcome in outcomes:
            done += _size(outcome.item)
            if progress:
                progress("batch", done / total)
            yield outcome
            if outcome.status == "failed" and not settings.keep_going:
                return


def _outcomes(
    items: Sequence[BatchItem], presets: Mapping[str, str], manifest: Manifest, settings: BatchSettings
) -> Generator[Outcome]:
    """Yield the outcomes of the items that need no work, then those of the others as they come."""
    queue: list[tuple[BatchItem, bool]] = []
    for item in items:
        outcome, replaces = _state(item, manifest, presets[item.preset], settings)
        if outcome is None:
            queue.append((item, replaces))
        else:
            yield outcome
    staging = manifest.begin() if queue else settings.out
    jobs = [BatchJob(item, staging, settings.device, presets[item.preset]) for item, _ in queue]
    made = work_on_cluster(jobs, settings.scheduler) if settings.scheduler else work_here(jobs, settings.jobs)
    with made as results:
        for n, result in results:
            item, replaces = queue[n]
            yield _recorded(item, result, manifest, overwrite=replaces)


def preview(items: Sequence[BatchItem], settings: BatchSettings) -> Iterator[Outcome]:
    """Yield what would become of each item, `done` for what would be made, and write nothing.

    The report of what would be made has the duration of its recording.
    """
    manifest, presets = Manifest.read(settings.out), _preset_hashes(items)
    for item in items:
        outcome, _ = _state(item, manifest, presets[item.preset], settings)
        if outcome is None:
            try:
                with ExitStack() as files:
                    source = open_source(item, files)
                    outcome = Outcome(item, "done", {"duration_s": source.duration_s})
            except RedrumError as err:
                outcome = Outcome(item, "failed", {"error": err.message, "hint": err.hint})
        yield outcome


def _preset_hashes(items: Sequence[BatchItem]) -> dict[str, str]:
    return {name: load_preset(name).sha256 for name in {item.preset for item in items}}


def estimate_s(recorded_s: float, settings: BatchSettings) -> tuple[float, str]:
    """Return how long a batch of so many seconds of recordings may take, and what that is estimated from."""
    made = [
        (entry["recorded_s"], entry["report"]["seconds"])
        for entry in Manifest.read(settings.out).entries
        if _has_speed(entry)
    ]
    if made:
        factor = (settings.jobs or default_jobs()) * sum(s for s, _ in made) / sum(s for _, s in made)
        return recorded_s / factor, f"as fast as the {len(made)} made before"
    return recorded_s / _TYPICAL_REAL_TIME_FACTOR, f"at {_TYPICAL_REAL_TIME_FACTOR:g} x real time"


def _has_speed(entry: Entry) -> bool:
    """Return whether an entry has times that are possible: it may have been damaged."""
    times = entry.get("recorded_s"), entry.get("report", {}).get("seconds")
    return all(isinstance(time_s, int | float) and 1e-3 <= time_s <= _LONGEST_S for time_s in times)


def _size(item: BatchItem) -> int:
    return sum(source.stat().st_size for source in item.sources if source.exists())


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        if err.filename is None or not Path(err.filename).is_relative_to(folder):
            raise
        raise OutputError(
            f"{folder} cannot be written: {err.strerror or err}", hint="choose a folder you can write to"
        ) from err


def _state(
    item: BatchItem, manifest: Manifest, preset_sha256: str, settings: BatchSettings
) -> tuple[Outcome | None, bool]:
    """Return the outcome of an item, None if it has to be made, and whether it replaces a result then."""
    try:
        manifest.check(item.output)
    except OutputError as err:
        return Outcome(item, "failed", {"error": err.message, "hint": err.hint}), False
    made = manifest.made(item.output)
    taken = [path for path in item.outputs if os.path.lexists(path)]
    try:
        has_all = len(taken) == len(item.outputs)
        if made is not None and has_all and made["key"] == key_of(item, identities_of(item, preset_sha256)):
            return Outcome(item, "unchanged", dict(made.get("report", {}))), False
    except OSError as err:
        _log.debug("%s cannot be read: %s", item.source, err)  # making it fails with the reason
    if not taken:
        return None, settings.overwrite
    if settings.skip_existing:
        return Outcome(item, "skipped", {}), False
    if settings.overwrite or all(map(manifest.is_unchanged, taken)):
        return None, True
    hint = "choose another --out or --name, or give --overwrite or --skip-existing"
    other = next(path for path in taken if not manifest.is_unchanged(path))
    return Outcome(item, "failed", {"error": f"{other} exists already", "hint": hint}), False


def _recorded(item: BatchItem, result: WorkResult, manifest: Manifest, *, overwrite: bool) -> Outcome:
    """Record what became of an item in the manifest, which publishes its files, and return its outcome."""
    about = {"source": str(item.source), "rhythm": str(item.rhythm.path)}
    if isinstance(result, MadeItem):
        try:
            manifest.add(about | result.entry, result.finished, overwrite=overwrite)
        except OutputError as err:
            result = FailedItem(err.message, err.hint, "")
        else:
            return Outcome(item, "done", result.entry["report"])
    try:
        manifest.add_failure(item.output, about | {key: text for key, text in result._asdict().items() if text})
    except OutputError as err:  # the other items may fare better
        _log.warning("the failure of %s is not in the manifest: %s", item.source, err)
    _log.debug("%s failed: %s", item.source, result.trace or result.error)
    return Outcome(item, "failed", {"error": result.error, "hint": result.hint})
