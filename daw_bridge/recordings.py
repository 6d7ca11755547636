"""The recordings that files and folders name: what sounds in them, and not what a batch itself has made."""

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from daw_bridge.choice import names_other
from daw_bridge.manifest import MANIFEST, Manifest
from daw_bridge.own_results import results_in, what_it_is
from daw_bridge.render_job import identity
from transform.confined import is_link
from transform.errors import AudioError
from transform.names import SOUND_ENDINGS, missing_hint

_MOST_NAMED = 10  # files that are passed over

_log = logging.getLogger(__name__)


def sought(
    paths: Sequence[Path], out: Path, *, follow_links: bool = False
) -> tuple[list[tuple[Path, Path]], dict[Path, AudioError]]:
    """Return the recordings that paths name, each with its folder within its path, and what is wrong.

    Args:
        paths: files, and folders in which subfolders count, too.
        out: the folder of a batch; what it made is no recording.
        follow_links: also those to folders.
    """
    found: dict[object, tuple[Path, Path]] = {}
    manifest = Manifest.read(out)
    made = {identity(path): path for path in manifest.outputs}
    mistakes: dict[Path, AudioError] = {}
    for path in paths:
        try:
            for source, folder in _recordings_at(path, (out, follow_links), manifest, made):
                found.setdefault(identity(source), (source, folder))
        except AudioError as err:
            mistakes[path] = err
    return list(found.values()), mistakes


def recordings_in(path: Path) -> list[Path]:
    """Return a file itself, and of a folder the recordings that lie in it, not those in its subfolders.

    Raises:
        AudioError: a folder holds none.
    """
    if not path.is_dir():
        return [path]
    found = sorted(file for file in files_under(path, SOUND_ENDINGS) if file.parent == path)
    if not found:
        raise AudioError(f"{path} holds no recordings", hint=f"it may hold {', '.join(SOUND_ENDINGS)}")
    return found


def microphones_among(recordings: Sequence[Path]) -> list[Path]:
    """Return the recordings of a folder that may be of one kit.

    Those whose names say another instrument are left out, and named, unless all do.
    """
    others = [path for path in recordings if names_other(path.stem)]
    if len(others) == len(recordings):
        return list(recordings)
    if others:
        _log.warning(
            "%s: left out, as the names say no drums: %s; give the files, not the folder, to take all",
            others[0].parent,
            ", ".join(path.name for path in others),
        )
    return [path for path in recordings if path not in others]


def _recordings_at(
    path: Path, how: tuple[Path, bool], manifest: Manifest, made: Mapping[object, Path]
) -> Iterator[tuple[Path, Path]]:
    """Yield the recordings at a path and their folders within it; what the batch itself made is none."""
    if path.is_file():
        yield path, Path()
        return
    if not path.is_dir():
        raise AudioError(f"{path} does not exist", hint=missing_hint(path))
    sources, passed_over, own_folders = [], [], _OwnFolders(path)
    for file in sorted(files_under(path, leaving_out=how[0], follow_links=how[1])):
        if own_folders.is_left_out(file):
            continue
        if file.suffix.lower() not in SOUND_ENDINGS:
            passed_over.append(file)
        elif (result := made.get(identity(file))) is None:
            sources.append(file)
        elif not manifest.is_unchanged(result):
            _log.warning("%s is left out: the manifest says that a batch made it, though not as it is", file)
    own_folders.say()
    if not sources:
        raise AudioError(f"{path} holds no recordings", hint=f"it may hold {', '.join(SOUND_ENDINGS)}")
    own = {*made, identity(how[0] / MANIFEST)}
    _say_passed_over(path, [file for file in passed_over if identity(file) not in own])
    for source in sources:
        yield source, source.parent.relative_to(path)


class _OwnFolders:
    """Which files under a folder Redrum has made or ships; the folder itself counts as recordings."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._what: dict[Path, str] = {folder: ""}  # by folder: what of ours it, or one around it, is
        self._results: set[object] = {identity(path) for path in results_in(folder)}
        self._n_results = 0

    def is_left_out(self, file: Path) -> bool:
        """Return whether a file is ours, and note it."""
        if self._what_of(file.parent):
            return True
        if file.name == MANIFEST and file.parent != self._folder:
            return True
        is_result = identity(file) in self._results
        self._n_results += is_result and file.suffix.lower() in SOUND_ENDINGS
        return is_result

    def _what_of(self, folder: Path) -> str:
        if folder not in self._what:
            self._what[folder] = self._what_of(folder.parent) or what_it_is(folder)
            self._results |= {identity(path) for path in results_in(folder)}
        return self._what[folder]

    def say(self) -> None:
        """Warn of what is left out."""
        tops = [
            f"{folder.relative_to(self._folder)} ({what})"
            for folder, what in self._what.items()
            if what and not self._what.get(folder.parent)
        ]
        if self._n_results:
            n = self._n_results
            tops.append("1 result of a batch" if n == 1 else f"{n:,} results of batches")
        if tops:
            shown = ", ".join(tops[:_MOST_NAMED]) + ", ..." * (len(tops) > _MOST_NAMED)
            _log.warning("%s: left out, as they are Redrum's own: %s", self._folder, shown)


def _say_passed_over(folder: Path, files: Sequence[Path]) -> None:
    if not files:
        return
    named = ", ".join(str(file.relative_to(folder)) for file in files[:_MOST_NAMED])
    if len(files) > _MOST_NAMED:
        named += f" and {len(files) - _MOST_NAMED:,} more"
    what = "1 file is no recording by its ending"
    if len(files) > 1:
        what = f"{len(files):,} files are no recordings by their endings"
    _log.warning("%s: %s, passed over: %s", folder, what, named)


def files_under(
    folder: Path, endings: tuple[str, ...] = (), *, leaving_out: Path | None = None, follow_links: bool = False
) -> Iterator[Path]:
    """Yield the files in and under a folder with these endings, all where none are given.

    What is hidden and one folder in it are left out. Links to folders are passed over, and named, unless they
    are to be followed: then each folder counts once.
    """
    for place, files, links in _walk(folder, leaving_out, follow_links):
        if links:
            _log.warning(
                "%s: links to folders are passed over, unless --follow-links: %s", place, ", ".join(links)
            )
        yield from (
            Path(place, name)
            for name in files
            if not name.startswith(".") and (not endings or Path(name).suffix.lower() in endings)
        )


def empty_folders(folder: Path, *, leaving_out: Path | None = None, follow_links: bool = False) -> list[Path]:
    """Return the outermost folders under one in and under which no recording lies; as `files_under` walks."""
    places, holding = [], {folder}
    for name, files, _ in _walk(folder, leaving_out, follow_links):
        place = Path(name)
        places.append(place)
        if any(not file.startswith(".") and Path(file).suffix.lower() in SOUND_ENDINGS for file in files):
            holding |= {place, *place.parents}
    return [place for place in places if place not in holding and place.parent in holding]


def _walk(
    folder: Path, leaving_out: Path | None, follow_links: bool
) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yield each folder, the names of the files in it, and of the links to folders that are passed over."""
    left_out = identity(leaving_out) if leaving_out else None
    visited = {identity(folder)}
    for place, names, files in os.walk(folder, followlinks=follow_links):
        inner = [name for name in sorted(names) if not name.startswith(".")]
        inner = [name for name in inner if identity(Path(place, name)) != left_out]
        if follow_links:
            inner = [name for name in inner if _is_new(identity(Path(place, name)), visited)]
        names[:] = inner
        yield place, files, [] if follow_links else [name for name in inner if is_link(Path(place, name))]


def _is_new(folder: object, visited: set[object]) -> bool:
    """Return whether a folder was not visited before, and note it."""
    if folder in visited:
        return False
    visited.add(folder)
    return True
