"""Many recordings in one go: a plan is worked on, here or on a Dask cluster, and its results are recorded.

An item is finished in a hidden folder beside the results, in this process or in a worker's; only the process
that runs the batch writes the manifest and publishes results: whatever is killed, each is made once.
"""

import hashlib
import json
import logging
import os
import re
import traceback
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import Any, Literal, NamedTuple

import torch

from daw_bridge.batch_item import BatchItem
from daw_bridge.devices import n_cores
from daw_bridge.manifest import Entry, Finished, Manifest, staged_path
from daw_bridge.mics_job import MicsJob, open_mics
from daw_bridge.render_job import RenderJob, open_rhythm, outputs_beside
from transform.audio import Progress, Recording
from transform.engine import Redrummer
from transform.errors import CheckpointError, DeviceError, OutputError, RedrumError
from transform.files import sha256_of
from transform.kit_names import files_of
from transform.mics import MicRecording
from transform.presets import load_preset

_CACHED_TRANSCRIPTIONS = 8  # rhythms for many recordings, recordings of several jobs
_MAX_JOBS = 4  # at once without --jobs: each takes memory
_TYPICAL_REAL_TIME_FACTOR = 25.0  # of two CPU cores; a folder's manifest has measured values
_LONGEST_S = 1e7  # of times in a manifest: four months
_CLUSTER_TIMEOUT_S = 10

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


class _BatchJob(NamedTuple):
    """An item as a worker gets it, here or elsewhere."""

    item: BatchItem
    staging: Path
    device: str
    preset_sha256: str


class _Made(NamedTuple):
    """An item that is finished: its entry in the manifest, and its files."""

    entry: dict[str, Any]
    finished: list[Finished]


class _Failed(NamedTuple):
    """Why an item could not be finished."""

    error: str
    hint: str
    trace: str  # of an unexpected error


class _StoppedError(Exception):
    """The batch ends before this item does."""


_Result = _Made | _Failed


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
    jobs = [_BatchJob(item, staging, settings.device, presets[item.preset]) for item, _ in queue]
    made = _on_cluster(jobs, settings.scheduler) if settings.scheduler else _here(jobs, settings.jobs)
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
                    source = _opened(item, files)
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


def default_jobs(threads: int | None = None) -> int:
    """Return how many items are worked on at once by default: one a core, each in one thread.

    No core is left to a DAW, unlike for single takes.
    """
    return min(threads or n_cores(), _MAX_JOBS)


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
        if made is not None and has_all and made["key"] == _key(item, _identities(item, preset_sha256)):
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


def _recorded(item: BatchItem, result: _Result, manifest: Manifest, *, overwrite: bool) -> Outcome:
    """Record what became of an item in the manifest, which publishes its files, and return its outcome."""
    about = {"source": str(item.source), "rhythm": str(item.rhythm.path)}
    if isinstance(result, _Made):
        try:
            manifest.add(about | result.entry, result.finished, overwrite=overwrite)
        except OutputError as err:
            result = _Failed(err.message, err.hint, "")
        else:
            return Outcome(item, "done", result.entry["report"])
    try:
        manifest.add_failure(item.output, about | {key: text for key, text in result._asdict().items() if text})
    except OutputError as err:  # the other items may fare better
        _log.warning("the failure of %s is not in the manifest: %s", item.source, err)
    _log.debug("%s failed: %s", item.source, result.trace or result.error)
    return Outcome(item, "failed", {"error": result.error, "hint": result.hint})


def _identities(item: BatchItem, preset_sha256: str) -> dict[str, Any]:
    kit = {"kit_sha256": [sha256_of(file) for path in item.settings.kit_from for file in files_of(path)]}
    return {
        "source_sha256": sha256_of(item.source),
        "rhythm_sha256": sha256_of(item.rhythm.path),
        "preset_sha256": preset_sha256,
        **(kit if item.settings.kit_from else {}),
        **({"together_sha256": [sha256_of(mic.source) for mic in item.together]} if item.together else {}),
    }


def _key(item: BatchItem, identities: Mapping[str, Any]) -> str:
    """Return a hash of all that a result depends on: inputs, settings and preset."""
    about = {
        **identities,
        # A tempo may stand in a name.
        "names": [item.source.stem, item.rhythm.name],
        "settings": asdict(item.settings),
        "drum_map": item.drum_map.identity(),
        "bit_depth": item.bit_depth,
        "plot": item.plot is not None,
        "midi": item.midi is not None,
        **({"together": [(mic.source.stem, mic.offset_s) for mic in item.together]} if item.together else {}),
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


# --- workers ---


@contextmanager
def _here(jobs: Sequence[_BatchJob], n_jobs: int | None) -> Iterator[Iterator[tuple[int, _Result]]]:
    """Work on jobs in threads of this process: while one reads or writes its files, another one computes.

    The models compute in one thread each, so that results depend on nothing but their inputs.
    """
    n_threads = torch.get_num_threads()
    stop = Event()
    for models in {(job.item.preset, job.preset_sha256, job.device) for job in jobs}:
        _models(*models)  # a damaged preset is no item's fault
    pool = ThreadPoolExecutor(n_jobs or default_jobs(), thread_name_prefix="redrum")
    try:
        torch.set_num_threads(1)
        queued: dict[Future[_Result], int] = {pool.submit(_make, job, stop): n for n, job in enumerate(jobs)}
        yield ((queued[future], future.result()) for future in as_completed(queued))
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)


@contextmanager
def _on_cluster(jobs: Sequence[_BatchJob], address: str) -> Iterator[Iterator[tuple[int, _Result]]]:
    """Work on jobs with the workers of a Dask cluster, which must see the same files under the same paths."""
    try:
        from distributed import Client
        from distributed import as_completed as completed
    except ImportError as err:
        raise DeviceError(
            "Dask is not installed", hint="install it in the folder of Redrum: pip install '.[cluster]'"
        ) from err
    try:
        client = Client(address, timeout=_CLUSTER_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as err:
        raise DeviceError(
            f"no Dask scheduler answers at {address}", hint="start one with `dask scheduler`, then its workers"
        ) from err
    sent = [job._replace(item=job.item.absolute(), staging=job.staging.absolute()) for job in jobs]
    with client:
        queued = {client.submit(_make_on_worker, job, pure=False): n for n, job in enumerate(sent)}
        try:
            yield ((queued[future], _gathered(future)) for future in completed(list(queued)))
        finally:
            client.cancel(list(queued))


def _gathered(future: Any) -> _Result:
    try:
        result: _Result = future.result()
    except Exception as err:  # whatever ended a worker, the other items go on
        return _Failed(
            f"the cluster could not finish it: {err or type(err).__name__}",
            "look at the logs of its workers, then run the same command again",
            traceback.format_exc(),
        )
    return result


@cache
def _models(preset: str, preset_sha256: str, device: str) -> Redrummer:
    """Return the models of a preset, loaded once a process as long as they are the same."""
    if load_preset(preset).sha256 != preset_sha256:
        raise CheckpointError(
            f"preset {preset} differs on the machine that works with it", hint="install the same on all workers"
        )
    redrummer = Redrummer.load(preset, device=device)
    redrummer.transcriber.cache_files(_CACHED_TRANSCRIPTIONS)
    return redrummer


def _make_on_worker(job: _BatchJob) -> _Result:
    torch.set_num_threads(1)  # as without a cluster
    return _make(job, Event())


def _make(job: _BatchJob, stop: Event) -> _Result:
    """Finish an item in the staging folder; what goes wrong with it is its result."""
    try:
        return _finished(job, stop)
    except RedrumError as err:
        # Files are staged under random names: a message names the result instead.
        staged = rf"{re.escape(str(job.staging))}[/\\][0-9a-f]+\.(?:wav|png|mid)"
        message = re.sub(staged, lambda _: str(job.item.output), err.message)
        return _Failed(message, err.hint, "")
    except Exception as err:  # one failing item does not stop the others
        message = f"{job.item.source}: {err or type(err).__name__}"
        return _Failed(message, "the manifest tells where it failed", traceback.format_exc())


def _finished(job: _BatchJob, stop: Event) -> _Made:
    def check(stage: str, fraction: float) -> None:
        if stop.is_set():
            raise _StoppedError

    check("begin", 0.0)
    item = job.item
    # By the place of each file; the result comes last, as it is published last.
    staged = {path: staged_path(job.staging, path.suffix) for path in reversed(item.outputs)}
    with ExitStack() as files:
        source = _opened(item, files)
        identities = _identities(item, job.preset_sha256)
        render_job = _render_job(item, source, staged, files)
        report = render_job.run(_models(item.preset, job.preset_sha256, job.device), item.settings, check)
    report |= {"output": str(item.output), **outputs_beside(item.plot, item.stems, item.midi)}
    for mic, about in zip(item.together, report.get("together", ()), strict=True):
        about["output"] = str(mic.output)
    finished = [Finished(staged=at, path=path, sha256=sha256_of(at)) for path, at in staged.items()]
    entry = {
        "key": _key(item, identities),
        **identities,
        "preset": item.preset,
        "settings": asdict(item.settings),
        "recorded_s": round(source.duration_s, 3),
        "redrum": version("latent-redrum"),
        "report": report,
    }
    return _Made(entry, finished)


def _opened(item: BatchItem, files: ExitStack) -> Recording:
    """Return the recording of an item, or its microphones, closed by `files`."""
    if not item.together:
        return files.enter_context(Recording.open(item.source))
    offsets_s = [mic.offset_s for mic in item.together]
    is_given = any(offset_s is not None for offset_s in offsets_s)
    return open_mics(
        item.sources, files, offsets_s=[offset_s or 0.0 for offset_s in offsets_s] if is_given else None
    )


def _render_job(
    item: BatchItem, source: Recording, staged: Mapping[Path, Path], files: ExitStack
) -> RenderJob | MicsJob:
    """Return the job that makes an item, its files at the places where they are staged."""
    rhythm = open_rhythm(item.rhythm, item.drum_map, files)
    plot, midi = (staged[path] if path else None for path in (item.plot, item.midi))
    if isinstance(source, MicRecording):
        return MicsJob(
            microphones=source,
            rhythm=rhythm,
            outputs=tuple(staged[mic.output] for mic in item.together),
            plot=plot,
            midi=midi,
            bit_depth=item.bit_depth,
        )
    return RenderJob(
        source=source,
        rhythm=rhythm,
        output=staged[item.output],
        plot=plot,
        stems={drum_class: staged[path] for drum_class, path in item.stems.items()},
        midi=midi,
        bit_depth=item.bit_depth,
    )
