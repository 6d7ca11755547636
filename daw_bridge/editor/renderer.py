"""Renders versions in the worker: the newest wins, an older one is given up, and only what changed is rendered.

A version's sound is a row of blocks. Each has a stamp, the version in which it last changed; blocks are cached
by number and stamp, so what an edit does not touch is there already, also of a version that was given up.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from daw_bridge.editor.document import Document
from daw_bridge.editor.sound import BLOCK_SAMPLES, coarse_peaks, columns
from daw_bridge.editor.take_settings import render_settings
from daw_bridge.editor.worker import Priority, Worker
from transform.audio import Progress, Recording
from transform.errors import RedrumError
from transform.settings import RenderSettings
from transform.signal import BlockCache, Samples, Signal, read_blocks
from transform.strokes import Stroke, Strokes

_CACHED_BYTES = 256 * 2**20  # of samples as they are played
_PEAK_BYTES = 32 * 2**20
_RUN_BLOCKS = 8  # that are read at once
_EAGER_BLOCKS = 256  # of a version that are rendered unrequested: 95 s at 44.1 kHz
_log = logging.getLogger(__name__)

Regions = tuple[tuple[int, int], ...]  # samples [start, stop), in order
_Key = tuple[int, int]  # of a block: its number and its stamp


class Written(Protocol):
    """What was decided when a result was written: see `transform.edited.Written`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """All sentences for the user."""


class Edited(Signal, Protocol):
    """A version's sound: see `transform.edit.Edited`."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided for the user, a sentence each."""

    def prepare(self, report: Progress, /) -> None:
        """Compute what the first read would wait for; `report`, called often, may raise to give it up."""

    def changed_from(self, other: Any, /) -> Regions:
        """Return where it differs from another version of the same length."""

    def hit(self, stroke_id: str, /) -> Samples:
        """Return the sound of a stroke."""

    def read_outputs(self, start: int, stop: int, /) -> Samples:
        """Return samples of each class, shape (5, C, T), which add up to it."""

    def write(self, path: Path, *, progress: Progress) -> Written:
        """Write all of it in the source's rate, channels and depth, whole or not at all."""


class Editor(Protocol):
    """What makes sound of strokes: see `transform.edit.RecordingEditor`."""

    @property
    def recording(self) -> Recording:
        """What is edited."""

    @property
    def detected(self) -> tuple[Stroke, ...]:
        """What is detected in the recording."""

    def with_settings(self, settings: RenderSettings, /) -> Editor:
        """Return one that plays by other settings, and shares what was computed."""

    def edited(self, strokes: Strokes, /) -> Edited:
        """Return the recording in which strokes are elsewhere, gone or new."""

    def replayed(
        self, strokes: tuple[Stroke, ...], length_s: float | None, detected: tuple[Stroke, ...], /
    ) -> Edited:
        """Return the recording's kit, cut where strokes are detected, playing strokes."""

    def prepare(self, detected: tuple[Stroke, ...], progress: Progress, /) -> None:
        """Compute what the first edit would wait for; `progress`, called often, may edit meanwhile."""


class Outdated(Exception):
    """A version is not the newest any more; `version` is."""

    def __init__(self, version: int) -> None:
        super().__init__(f"version {version} is the newest")
        self.version = version


@dataclass(frozen=True)
class Rendered:
    """What pages are notified of: a version that can be played."""

    version: int
    base: int | None  # the version before, that pages were notified of; None: this is the first
    changed: Regions  # since then
    n_samples: int
    notes: tuple[str, ...]


class _Blocks:
    """Rendered blocks, those used last, for several threads."""

    def __init__(self, n_bytes: int) -> None:
        self._left = n_bytes
        self._blocks: OrderedDict[_Key, Samples] = OrderedDict()
        self._lock = threading.Lock()

    def present(self, keys: Iterable[_Key]) -> dict[_Key, Samples]:
        """Return those of some blocks that are here."""
        with self._lock:
            found = {key: self._blocks[key] for key in keys if key in self._blocks}
            for key in found:
                self._blocks.move_to_end(key)
        return found

    def found(self, keys: list[_Key]) -> list[Samples] | None:
        """Return some blocks, None unless all are here."""
        found = self.present(keys)
        return [found[key] for key in keys] if len(found) == len(keys) else None

    def put(self, key: _Key, block: Samples) -> None:
        """Add a block; those that were used longest ago go."""
        with self._lock:
            self._blocks[key] = block
            self._left -= block.nbytes
            while self._left < 0:
                self._left += self._blocks.popitem(last=False)[1].nbytes


class _Request(NamedTuple):
    version: int
    document: Document


@dataclass(frozen=True)
class _Version:
    """A version and its sound."""

    version: int
    document: Document
    edited: Edited
    stamps: tuple[int, ...]  # of each block, the version in which it last changed

    def keys(self, start: int, stop: int) -> list[_Key]:
        """Return what blocks are cached by, number and stamp, of those that a region touches."""
        last = min(max(start, stop - 1) // BLOCK_SAMPLES, len(self.stamps) - 1)
        return [(n, self.stamps[n]) for n in range(min(start // BLOCK_SAMPLES, last), last + 1)]


class Renderer:
    """Makes the newest version of a document sound."""

    def __init__(
        self,
        worker: Worker,
        editor: Editor,
        report: Callable[[Rendered], None],
        fail: Callable[[int, RedrumError], None],
        progress: Progress = lambda stage, fraction: None,
    ) -> None:
        """Begin without a version.

        Args:
            worker: where all is rendered.
            editor: what makes sound of strokes; only the worker uses it.
            report: called in the worker with what can be played.
            fail: called in the worker with a version that cannot be made to sound, and why.
            progress: called in the worker while a version is rendered that takes long.
        """
        self._progress = progress
        self._worker, self._editor, self._report, self._fail = worker, editor, report, fail
        self.recording = editor.recording
        self._newest: _Request | None = None
        self._current: _Version | None = None
        self._reported: int | None = None
        self._unreported: list[tuple[int, int]] = []
        self._blocks = _Blocks(_CACHED_BYTES)
        self._peaks: BlockCache[tuple[int, int], Samples] = BlockCache(n_bytes=_PEAK_BYTES)
        self._retained: dict[str, _Version] = {}

    def request(self, version: int, document: Document) -> None:
        """Have a version rendered, and give up an older one."""
        self._newest = _Request(version, document)
        self._worker.submit(Priority.RENDER, lambda: self._render(version))

    def read(self, version: int, start: int, stop: int) -> Future[Samples]:
        """Return samples [start, stop) of a version to come, as a page plays them: shape (1 or 2, T).

        The result raises Outdated where another version is the newest, RedrumError where it makes no sound.
        What is rendered already is there at once, whatever the worker does.
        """
        current, newest = self._current, self._newest
        if current is not None and newest is not None and current.version == version == newest.version:
            found = self._blocks.found(current.keys(start, stop))
            if found is not None:
                future: Future[Samples] = Future()
                future.set_result(_region(found, start, stop))
                return future
        return self._worker.submit(Priority.SOUND, lambda: self._samples(self._version(version), start, stop))

    def length(self, version: int) -> Future[int]:
        """Return how many samples a version has, to come, as `read` has it."""
        return self._worker.submit(Priority.SOUND, lambda: self._version(version).edited.n_samples)

    def peaks(self, version: int, region: tuple[int, int], n_columns: int) -> Future[Samples]:
        """Return peaks of a version to come, as `read` has it, shape (2, n): see `sound.columns`."""
        return self._worker.submit(Priority.LONG, lambda: self._columns(version, region, n_columns))

    def hit(self, version: int, stroke_id: str) -> Future[Samples]:
        """Return a stroke's sound to come, as `read` has it."""
        return self._worker.submit(
            Priority.SOUND, lambda: self.recording.monitored(self._version(version).edited.hit(stroke_id))
        )

    def whole(self, version: int) -> Edited:
        """Return a version's sound, with all channels, for tasks of the worker; it stays as it is.

        Raises:
            Outdated: another version is the newest.
            RedrumError: it makes no sound.
        """
        return self._version(version).edited

    def outputs(self, version: int) -> Edited:
        """Return a version that can be read class by class, for tasks of the worker, as `whole` has it."""
        document = self._version(version).document
        return self._edited(document, replace(render_settings(document), separate_outputs=True))

    # Versions that can be read beside the newest, by name. `retain` and `retained` are for the worker alone.

    def retain(self, name: str, version: int) -> int:
        """Retain the newest version by a name, and return how many samples it has."""
        self._retained[name] = self._version(version)
        return self._retained[name].edited.n_samples

    def release(self, name: str) -> None:
        """Retain a version no more."""
        self._retained.pop(name, None)

    def retained(self, name: str, start: int, stop: int) -> Samples:
        """Return samples [start, stop) of a retained version as a page plays them."""
        return self._samples(self._retained[name], start, stop)

    def listen(self, name: str, start: int, stop: int) -> Future[Samples]:
        """Return samples [start, stop) of a retained version to come: those that are rendered, at once."""
        if (version := self._retained.get(name)) is None:
            raise Outdated(self._newest.version if self._newest else 0)
        found = self._blocks.found(version.keys(start, stop))
        if found is None:
            return self._worker.submit(Priority.SOUND, lambda: self._samples(version, start, stop))
        future: Future[Samples] = Future()
        future.set_result(_region(found, start, stop))
        return future

    def _version(self, version: int, report: Progress | None = None) -> _Version:
        """Return the newest version; `report`, called often while it is made, may raise to give it up."""
        self._check_newest(version)
        assert self._newest is not None
        if self._current is None or self._current.version != version:
            self._current = self._made(self._newest, report)
        return self._current

    def _check_newest(self, version: int) -> None:
        if self._newest is not None and version != self._newest.version:
            raise Outdated(self._newest.version)

    def _made(self, request: _Request, report: Progress | None) -> _Version:
        """Return a version, of which nothing is rendered yet but what it shares with the one before."""
        document, before = request.document, self._current
        edited = self._edited(document, render_settings(document))
        if report is not None and document.mode == "replay":
            edited.prepare(report)
        n_blocks = -(-edited.n_samples // BLOCK_SAMPLES)
        is_alike = (
            before is not None
            and before.document.mode == document.mode
            and before.edited.n_samples == edited.n_samples
        )
        if before is None or not is_alike:
            changed: Regions = ((0, edited.n_samples),)
            stamps = [request.version] * n_blocks
        else:
            changed = edited.changed_from(before.edited)
            stamps = list(before.stamps)
            for number in _blocks_of(changed, n_blocks):
                stamps[number] = request.version
        self._unreported.extend(changed)
        return _Version(request.version, document, edited, tuple(stamps))

    def _edited(self, document: Document, settings: RenderSettings) -> Edited:
        editor, strokes = self._editor.with_settings(settings), document.sounding
        if document.mode == "edit":
            return editor.edited(strokes)
        return editor.replayed(strokes.played, document.length_s, strokes.detected)

    def _render(self, version: int) -> None:
        """Render what is new in a version, and report it; give it up where a newer one is there."""

        def report(stage: str, fraction: float) -> None:
            self._progress(stage, fraction)
            self._worker.pause(Priority.RENDER)
            self._check_newest(version)

        try:
            current = self._version(version, report)
            fresh = [key for key in enumerate(current.stamps) if key[1] == version][:_EAGER_BLOCKS]
            for i in range(0, len(fresh), _RUN_BLOCKS):
                if i and current.document.mode == "edit":  # of a replay the cutting takes long
                    self._progress("render", i / len(fresh))
                self._rendered(current, fresh[i : i + _RUN_BLOCKS])
                self._worker.pause(Priority.RENDER)
                self._version(version)
        except (Outdated, InterruptedError):  # a newer one is there, or the editor is closed
            return
        except RedrumError as err:
            self._fail(version, err)
            return
        except Exception as err:  # a fault of ours ends neither the editor nor what is edited
            _log.exception("version %d cannot be rendered", version)
            self._fail(version, RedrumError(f"this cannot be rendered: {err!r}", hint="undo the last step"))
            return
        changed = _merged(self._unreported, current.edited.n_samples)
        base, self._reported, self._unreported = self._reported, version, []
        self._report(Rendered(version, base, changed, current.edited.n_samples, current.edited.notes))

    def _samples(self, version: _Version, start: int, stop: int) -> Samples:
        return _region(self._rendered(version, version.keys(start, stop)), start, stop)

    def _rendered(self, version: _Version, keys: list[_Key]) -> list[Samples]:
        """Return blocks of a version; those that are missing and lie side by side are rendered together."""
        found = self._blocks.present(keys)
        for first, n_blocks in _runs([key[0] for key in keys if key not in found]):
            start = first * BLOCK_SAMPLES
            stop = min(start + n_blocks * BLOCK_SAMPLES, version.edited.n_samples)
            samples = self.recording.monitored(version.edited.read(start, stop))
            for n in range(n_blocks):
                block = samples[:, n * BLOCK_SAMPLES : (n + 1) * BLOCK_SAMPLES].copy()
                key = first + n, version.stamps[first + n]
                found[key] = block
                self._blocks.put(key, block)
        return [found[key] for key in keys]

    def _columns(self, version: int, region: tuple[int, int], n_columns: int) -> Samples:
        current = self._version(version)

        def block_peaks(number: int) -> Samples:
            self._worker.pause(Priority.LONG)
            key = number, current.stamps[number]
            return self._peaks.get(key, lambda _: coarse_peaks(self._rendered(current, [key])[0]))

        return columns(lambda a, b: self._samples(current, a, b), block_peaks, region, n_columns)


def _blocks_of(regions: Regions, n_blocks: int) -> Iterator[int]:
    """Yield the numbers of the blocks that regions touch."""
    for start, stop in regions:
        if start < stop:
            yield from range(max(0, start // BLOCK_SAMPLES), min(n_blocks, (stop - 1) // BLOCK_SAMPLES + 1))


def _runs(numbers: list[int]) -> Iterator[tuple[int, int]]:
    """Yield the first of each run of following numbers, and how many follow each other, at most _RUN_BLOCKS."""
    begin = 0
    for end in range(1, len(numbers) + 1):
        is_over = end == len(numbers) or numbers[end] != numbers[end - 1] + 1 or end - begin == _RUN_BLOCKS
        if is_over:
            yield numbers[begin], end - begin
            begin = end


def _region(blocks: list[Samples], start: int, stop: int) -> Samples:
    """Return samples [start, stop) of the blocks that they touch."""
    first = start // BLOCK_SAMPLES
    return read_blocks(lambda n: blocks[n - first], BLOCK_SAMPLES, start, stop)


def _merged(regions: list[tuple[int, int]], n_samples: int) -> Regions:
    """Return regions in order, those that touch as one, inside of a sound."""
    merged: list[tuple[int, int]] = []
    for start, stop in sorted((max(0, a), min(b, n_samples)) for a, b in regions):
        if start >= stop:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(merged[-1][1], stop)
        else:
            merged.append((start, stop))
    return tuple(merged)
