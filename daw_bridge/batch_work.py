"""The work on a batch: items are finished in a hidden folder, by threads of this process or a Dask cluster.

Only the process that runs the batch writes the manifest and publishes results.
"""

import hashlib
import json
import re
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from threading import Event
from typing import Any, NamedTuple

import torch

from daw_bridge.batch_item import BatchItem
from daw_bridge.devices import n_cores
from daw_bridge.manifest import Finished, staged_path
from daw_bridge.mics_job import MicsJob, open_mics
from daw_bridge.recordings import recordings_in
from daw_bridge.render_job import RenderJob, open_rhythm, outputs_beside
from transform.audio import Recording
from transform.engine import Redrummer
from transform.errors import CheckpointError, DeviceError, RedrumError
from transform.files import sha256_of
from transform.kit_names import files_of
from transform.mics import MicRecording
from transform.presets import load_preset

_CACHED_TRANSCRIPTIONS = 8  # rhythms for many recordings, recordings of several jobs
_MAX_JOBS = 4  # at once without --jobs: each takes memory
_CLUSTER_TIMEOUT_S = 10


class BatchJob(NamedTuple):
    """An item as a worker gets it, here or elsewhere."""

    item: BatchItem
    staging: Path
    device: str
    preset_sha256: str


class MadeItem(NamedTuple):
    """An item that is finished: its entry in the manifest, and its files."""

    entry: dict[str, Any]
    finished: list[Finished]


class FailedItem(NamedTuple):
    """Why an item could not be finished."""

    error: str
    hint: str
    trace: str  # of an unexpected error


class _StoppedError(Exception):
    """The batch ends before this item does."""


WorkResult = MadeItem | FailedItem


def default_jobs(threads: int | None = None) -> int:
    """Return how many items are worked on at once by default: one a core, each in one thread.

    No core is left to a DAW, unlike for single takes.
    """
    return min(threads or n_cores(), _MAX_JOBS)


def identities_of(item: BatchItem, preset_sha256: str) -> dict[str, Any]:
    """Return the hashes of all files that a result depends on."""
    kit = {"kit_sha256": [sha256_of(file) for path in item.settings.kit_from for file in files_of(path)]}
    return {
        "source_sha256": sha256_of(item.source),
        "rhythm_sha256": sha256_of(item.rhythm.path),
        "preset_sha256": preset_sha256,
        **(kit if item.settings.kit_from else {}),
        **({"together_sha256": [sha256_of(mic.source) for mic in item.together]} if item.together else {}),
    }


def key_of(item: BatchItem, identities: Mapping[str, Any]) -> str:
    """Return a hash of all that a result depends on: inputs, settings and preset."""
    about = {
        **identities,
        # A tempo may stand in a name.
        "names": [item.source.stem, item.rhythm.name],
        "settings": asdict(item.settings),
        "drum_map": item.drum_map.identity(),
        "bit_depth": item.bit_depth,
        "plot": (item.plot or item.picture) is not None,
        "midi": item.midi is not None,
        **({"together": [(mic.source.stem, mic.offset_s) for mic in item.together]} if item.together else {}),
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


@contextmanager
def work_here(jobs: Sequence[BatchJob], n_jobs: int | None) -> Iterator[Iterator[tuple[int, WorkResult]]]:
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
        queued: dict[Future[WorkResult], int] = {pool.submit(_make, job, stop): n for n, job in enumerate(jobs)}
        yield ((queued[future], future.result()) for future in as_completed(queued))
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(n_threads)


@contextmanager
def work_on_cluster(jobs: Sequence[BatchJob], address: str) -> Iterator[Iterator[tuple[int, WorkResult]]]:
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


def _gathered(future: Any) -> WorkResult:
    try:
        result: WorkResult = future.result()
    except Exception as err:  # whatever ended a worker, the other items go on
        return FailedItem(
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


def _make_on_worker(job: BatchJob) -> WorkResult:
    torch.set_num_threads(1)  # as without a cluster
    return _make(job, Event())


def _make(job: BatchJob, stop: Event) -> WorkResult:
    """Finish an item in the staging folder; what goes wrong with it is its result."""
    try:
        return _finished(job, stop)
    except RedrumError as err:
        # Files are staged under random names: a message names the result instead.
        staged = rf"{re.escape(str(job.staging))}[/\\][0-9a-f]+\.(?:wav|png|mid)"
        message = re.sub(staged, lambda _: str(job.item.output), err.message)
        return FailedItem(message, err.hint, "")
    except Exception as err:  # one failing item does not stop the others
        message = f"{job.item.source}: {err or type(err).__name__}"
        return FailedItem(message, "the manifest tells where it failed", traceback.format_exc())


def _finished(job: BatchJob, stop: Event) -> MadeItem:
    def check(stage: str, fraction: float) -> None:
        if stop.is_set():
            raise _StoppedError

    check("begin", 0.0)
    item = job.item
    # By the place of each file; the result comes last, as it is published last.
    staged = {path: staged_path(job.staging, path.suffix) for path in reversed(item.outputs)}
    with ExitStack() as files:
        source = open_source(item, files)
        identities = identities_of(item, job.preset_sha256)
        render_job = _render_job(item, source, staged, files)
        report = render_job.run(_models(item.preset, job.preset_sha256, job.device), item.settings, check)
    report |= {"output": str(item.output), **outputs_beside(item.plot, item.stems, item.midi)}
    for mic, about in zip(item.together, report.get("together", ()), strict=True):
        about["output"] = str(mic.output)
    finished = [Finished(staged=at, path=path, sha256=sha256_of(at)) for path, at in staged.items()]
    entry = {
        "key": key_of(item, identities),
        **identities,
        "preset": item.preset,
        "settings": asdict(item.settings),
        "recorded_s": round(source.duration_s, 3),
        "redrum": version("latent-redrum"),
        "report": report,
    }
    return MadeItem(entry, finished)


def open_source(item: BatchItem, files: ExitStack) -> Recording:
    """Return the recording of an item, or its microphones, closed by `files`."""
    if not item.together:
        if item.source.is_dir():  # planned as a kit: it holds no recordings
            recordings_in(item.source)
        return files.enter_context(Recording.open(item.source))
    return open_mics(item.sources, files, offsets_s=[mic.offset_s for mic in item.together])


def _render_job(
    item: BatchItem, source: Recording, staged: Mapping[Path, Path], files: ExitStack
) -> RenderJob | MicsJob:
    """Return the job that makes an item, its files at the places where they are staged."""
    rhythm = open_rhythm(item.rhythm, item.drum_map, files)
    plot, midi = (staged[path] if path else None for path in (item.plot or item.picture, item.midi))
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
