"""The plan of a batch: which recording plays which rhythm, and where each result goes.

A plan is made, with all its mistakes named at once, before any of it is worked on. It is made from files,
folders and job sheets.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from daw_bridge.batch_item import BatchItem, SheetItem, as_kit, grouped
from daw_bridge.job_sheet import SHEET_COLUMNS, SHEET_ENDINGS, Row, number_of, read_sheet
from daw_bridge.recordings import empty_folders, files_under, microphones_among, sought
from daw_bridge.render_job import check_preset, identity, open_rhythm
from transform.audio import Recording
from transform.drum_maps import ANY_DRUMS, DrumNotes
from transform.errors import AudioError, RedrumError, RhythmError, SettingsError
from transform.kit_names import check_kit_sources, files_of
from transform.library import RhythmSource, resolve_rhythm
from transform.names import LONGEST_NAME, SOUND_ENDINGS, existing_path, is_device, same_name
from transform.options import read_options
from transform.settings import RenderSettings

RHYTHM_ENDINGS = (".mid", ".midi", ".smf", *SOUND_ENDINGS)
NAME_FIELDS = ("stem", "ext", "parent", "rhythm", "preset", "seed")

_PICTURES = ".redrum-pictures"  # hidden, in the folder of the results
_MOST_MISTAKES = 50  # that a message names

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class PlanSettings:
    """The settings of all items, where a job sheet has no others."""

    out: Path
    name: str = "{stem}_{rhythm}"  # of a result; see NAME_FIELDS
    preset: str = "default"
    given: Mapping[str, Any] = field(default_factory=dict)  # fields of RenderSettings, as options have them
    drum_map: DrumNotes = ANY_DRUMS
    bit_depth: str | None = None
    plots: bool = False
    pictures: bool = False  # for a page: where no plots are made, they lie in a hidden folder
    midis: bool = False
    together: bool = False  # the recordings of each folder are microphones of one performance
    follow_links: bool = False  # to folders, in the folders of recordings

    def __post_init__(self) -> None:
        rest = _NAME_FIELD.sub("", self.name)
        if unknown := re.search(r"{[^{}]*}", rest):
            raise SettingsError(f"--name has an unknown part {unknown[0][:40]}", hint=_NAME_HINT)
        if not self.name or _NO_NAME.search(rest) or self.name[-1] in ". ":
            raise SettingsError(f"--name is {self.name[:80]!r}, which names no file", hint=_NAME_HINT)

    def name_of(self, values: Mapping[str, object]) -> str:
        """Return the name of a result's file, without its ending.

        Args:
            values: what stands for each of NAME_FIELDS.

        Raises:
            SettingsError: no file can have this name.
        """

        def value(found: re.Match[str]) -> str:
            field, n_digits = found.groups()
            return str(values[field]).zfill(int(n_digits or 0)) if field else found[0][0]

        name = _NAME_FIELD.sub(value, self.name)
        n_bytes = len(os.fsencode(name)) + len("_KD.wav" if self.given.get("separate_outputs") else ".wav")
        if n_bytes > LONGEST_NAME:
            raise SettingsError(f"{name[:40]}... would be a name of {n_bytes} bytes", hint=_TOO_LONG_HINT)
        if is_device(name):
            raise SettingsError(f"{name}.wav is a device to Windows, not a file", hint=_NAME_HINT)
        return name


# A field, of which a seed may be filled up with zeros, or a doubled brace, which is a brace.
_NAME_FIELD = re.compile(rf"\{{({'|'.join(NAME_FIELDS)})(?:(?<=seed):0([1-9])d?)?\}}|\{{\{{|\}}\}}")
_NO_NAME = re.compile(r'[\x00-\x1f\x7f-\x9f<>:"/\\|?*{}]')  # in no name of a file on Windows
_NAME_HINT = (
    "it is the name of a file, on any system, without its ending; parts: "
    f"{', '.join(f'{{{name}}}' for name in NAME_FIELDS)} and {{seed:03}}"
)
_TOO_LONG_HINT = f"give a shorter one with --name: a name has {LONGEST_NAME} bytes at most"


def plan(paths: Sequence[Path], rhythm: str, settings: PlanSettings) -> list[BatchItem]:
    """Return the items of a batch, in the order in which they are worked on.

    Args:
        paths: recordings and folders of recordings, in which subfolders count, too.
        rhythm: one rhythm for all, a folder with a rhythm of the same name for each recording, or a job sheet,
            whose lines name the recordings and beside which `paths` say which of them count.
        settings: of all items.

    Raises:
        SettingsError: a setting, a line of the sheet or two results of one name.
        AudioError: a recording is missing, or there is none.
        RhythmError: a rhythm is missing or cannot be played.
    """
    if Path(rhythm).suffix.lower() in SHEET_ENDINGS and Path(rhythm).is_file():
        items = _planned_sheet(paths, Path(rhythm), settings)
    else:
        render = RenderSettings(**settings.given)
        check_preset(settings.preset, render.engine)
        check_kit_sources(render.kit_from)
        if settings.together:
            return _planned_kits(paths, rhythm, settings)
        found = _recordings(paths, settings)
        if Path(rhythm).is_dir():
            rhythms = _matched([source for source, _ in found], Path(rhythm))
        else:
            one = _Rhythms(settings.drum_map).at(rhythm)
            rhythms = [one] * len(found)
        items = [
            _item(source, played, folder, settings)
            for (source, folder), played in zip(found, rhythms, strict=True)
        ]
    _check_results(items)
    return items


def _planned_kits(paths: Sequence[Path], rhythm: str, settings: PlanSettings) -> list[BatchItem]:
    """Return an item for the recordings of each folder, which are microphones of one performance.

    A folder that holds none becomes an item that fails when it is worked on, as one with a broken file does.
    """
    from transform.mics import check_together

    check_together(RenderSettings(**settings.given))
    by_folder: dict[object, list[tuple[Path, Path]]] = {}
    found, mistakes = sought(paths, settings.out, follow_links=settings.follow_links)
    empty = [path for path in mistakes if path.is_dir()] if found else []
    _raise_all("", [err for path, err in mistakes.items() if path not in empty])
    for source, folder in found:
        by_folder.setdefault(identity(source.parent), []).append((source, folder))
    kits = []
    for kit in by_folder.values():
        own = microphones_among([source for source, _ in kit])
        kits.append([(source, folder) for source, folder in kit if source in own])
    if Path(rhythm).is_dir():
        rhythms = _matched([kit[0][0].absolute().parent for kit in kits], Path(rhythm))
    else:
        rhythms = [_Rhythms(settings.drum_map).at(rhythm)] * len(kits)
    items = []
    for kit, played in zip(kits, rhythms, strict=True):
        members = [_item(source, played, folder, settings) for source, folder in kit]
        items.append(as_kit(members, [None] * len(members)))
    items += [
        _item(place, rhythms[0], folder, settings)
        for place, folder in _without_recordings(paths, empty, settings)
    ]
    _check_results(items)
    return items


def _without_recordings(
    paths: Sequence[Path], empty: Sequence[Path], settings: PlanSettings
) -> Iterator[tuple[Path, Path]]:
    """Yield the folders without recordings among the paths and in them, each with its own name."""
    for path in empty:
        named = path if path.stem.strip(".") else path.resolve()
        yield named, Path(named.name)
    known = {identity(path) for path in empty}
    for path in paths:
        if path.is_dir() and path not in empty:
            inner = empty_folders(path, leaving_out=settings.out, follow_links=settings.follow_links)
            yield from ((place, place.relative_to(path)) for place in inner if identity(place) not in known)
            known |= {identity(place) for place in inner}


def _item(source: Path, rhythm: RhythmSource, folder: Path, settings: PlanSettings) -> BatchItem:
    """Return the item of a recording whose result goes into a folder under the batch's own."""
    render = RenderSettings(**settings.given)
    preset = Path(settings.preset).name
    own = {"stem": source.stem, "ext": source.suffix[1:], "parent": source.absolute().parent.name}
    name = settings.name_of({**own, "rhythm": rhythm.name, "preset": preset, "seed": render.seed})
    output = settings.out / folder / f"{name}.wav"
    has_picture = settings.pictures and not settings.plots
    return BatchItem(
        source=source,
        rhythm=rhythm,
        output=output,
        preset=settings.preset,
        settings=render,
        drum_map=settings.drum_map,
        bit_depth=settings.bit_depth,
        plot=output.with_suffix(".png") if settings.plots else None,
        picture=settings.out / _PICTURES / folder / f"{name}.png" if has_picture else None,
        midi=output.with_suffix(".mid") if settings.midis else None,
    )


def _recordings(paths: Sequence[Path], settings: PlanSettings) -> list[tuple[Path, Path]]:
    """Return the recordings that paths name, each once, and the folder of each within its path."""
    found, mistakes = sought(paths, settings.out, follow_links=settings.follow_links)
    _raise_all("", list(mistakes.values()))
    return found


def _matched(sources: Iterable[Path], folder: Path) -> list[RhythmSource]:
    """Return for each recording the rhythm of its name that lies in or under a folder."""
    by_name: dict[str, list[Path]] = {}
    alike: dict[str, list[Path]] = {}
    for path in sorted(files_under(folder, RHYTHM_ENDINGS)):
        by_name.setdefault(path.stem, []).append(path)
        alike.setdefault(same_name(path.stem), []).append(path)
    rhythms, mistakes = [], []
    for source in sources:
        match by_name.get(source.stem) or alike.get(same_name(source.stem), []):
            case [path]:
                rhythms.append(resolve_rhythm(str(path)))
            case []:
                mistakes.append(RhythmError(f"there is no rhythm called {source.stem} for {source}"))
            case several:
                names = " and ".join(str(path) for path in several)
                mistakes.append(RhythmError(f"there are several rhythms for {source}: {names}"))
    hint = f"{folder} needs one rhythm with the name of each recording, such as {{name}}.mid"
    _raise_all("", mistakes, hint=hint.format(name=next(iter(sources)).stem))
    return rhythms


class _Rhythms:
    """Rhythms that have been checked, each once."""

    def __init__(self, drum_map: DrumNotes) -> None:
        self.at = cache(self._at)
        self._drum_map = drum_map

    def _at(self, text: str) -> RhythmSource:
        found = resolve_rhythm(text)
        with ExitStack() as files:
            open_rhythm(found, self._drum_map, files)
        return found


def _planned_sheet(paths: Sequence[Path], sheet: Path, settings: PlanSettings) -> list[BatchItem]:
    rows = read_sheet(sheet)
    rhythms, used = _Rhythms(settings.drum_map), set()
    lines: list[SheetItem] = []
    checked = cache(check_preset)  # most lines of a sheet name the same
    mistakes: list[RedrumError] = []
    for line, row in rows:
        problems: list[RedrumError] = []
        own = _tried(problems, _of_row, row, settings, sheet.parent)
        if own is not None:
            _tried(problems, checked, own.preset, RenderSettings(**own.given).engine)
        found = _tried(problems, _source_of_row, row, paths, sheet.parent)
        rhythm = _tried(problems, _rhythm_of_row, row, rhythms, sheet.parent)
        offset_s = _tried(problems, number_of, row, "offset") if "offset" in row else None
        mistakes += [
            type(problem)(f"line {line}: {problem.message}", hint=problem.hint) for problem in problems
        ]
        if own is None or found is None or rhythm is None:
            continue
        source, folder, path = found
        if paths and path is None:
            continue  # only other recordings are requested
        used.add(path)
        lines.append(SheetItem(line, str(row.get("group", "")), offset_s, _item(source, rhythm, folder, own)))
    mistakes += [AudioError(f"no line is for {path}") for path in paths if path not in used and not mistakes]
    if not rows:
        mistakes.append(SettingsError("it has no lines"))
    items, wrong = grouped(lines)
    _raise_all(f"{sheet}: ", [*mistakes, *wrong], hint=f"each line may have {', '.join(SHEET_COLUMNS)}")
    return items


def _of_row(row: Row, settings: PlanSettings, home: Path) -> PlanSettings:
    """Return the settings of a line, after checking all but the preset; `home` is the folder of the sheet."""
    for name in row:
        if name not in SHEET_COLUMNS:
            raise SettingsError(f"unknown entry {name}" if name else str(row[name]))
    given = dict(settings.given)
    if "start" in row:
        given["start_s"] = number_of(row, "start")
    if "length" in row:
        given |= read_options(RenderSettings, {"length": str(row["length"])})
    if "engine" in row:
        given["engine"] = str(row["engine"])
    if "seed" in row:
        seed = number_of(row, "seed")
        if seed != int(seed):
            raise SettingsError(f"seed is {row['seed']!r}, which is no whole number")
        given["seed"] = int(seed)
    if "kit_from" in row:
        named = row["kit_from"] if isinstance(row["kit_from"], list) else str(row["kit_from"]).split(";")
        given["kit_from"] = tuple(str(home / str(path).strip()) for path in named)
    check_kit_sources(RenderSettings(**given).kit_from)
    return replace(settings, given=given, preset=str(row.get("preset", settings.preset)))


def _source_of_row(row: Row, paths: Sequence[Path], home: Path) -> tuple[Path, Path, Path | None]:
    """Return the recording of a line, the folder of its result, and which of the given paths it belongs to."""
    named = Path(_slashed(row, "source", home))
    if not named.name:
        raise SettingsError("source is missing")
    folders = [path for path in paths if path.is_dir()]
    places = [existing_path(folder / named) for folder in (*folders, home)]
    source = next((place for place in places if os.path.isfile(place)), None)
    if source is None:
        raise AudioError(f"{str(named)[:300]} does not exist")
    Recording.open(source).close()
    below = Path() if named.is_absolute() or ".." in named.parts else named.parent
    for path in paths:
        if identity(path) == identity(source):
            return source, Path(), path
        if path in folders and source.resolve().is_relative_to(path.resolve()):
            return source, source.resolve().relative_to(path.resolve()).parent, path
    return source, below, None


def _rhythm_of_row(row: Row, rhythms: _Rhythms, home: Path) -> RhythmSource:
    """Return the rhythm of a line: a file beside the sheet, or else a name or path, as of any command."""
    text = str(row.get("rhythm", ""))
    if not text:
        raise SettingsError("rhythm is missing")
    beside = existing_path(home / _slashed(row, "rhythm", home))
    return rhythms.at(str(beside) if beside.is_file() else text)


def _slashed(row: Row, name: str, home: Path) -> str:
    """Return a path of a line; Windows separates folders by what is part of a name elsewhere."""
    text = os.path.expanduser(str(row.get(name, "")))
    return text if os.path.lexists(home / text) else text.replace("\\", "/")


def _tried(problems: list[RedrumError], what: Callable[..., _T], *arguments: object) -> _T | None:
    """Return what a function does, or None after adding its error to the problems."""
    try:
        return what(*arguments)
    except RedrumError as err:
        problems.append(err)
    except (OSError, ValueError) as err:  # a path that none can be
        problems.append(SettingsError(f"a name that no file has: {err}"))
    return None


def _raise_all(head: str, mistakes: Sequence[RedrumError], *, hint: str = "") -> None:
    """Raise one error that names all mistakes, if there are any."""
    if not mistakes:
        return
    worst = next((mistake for mistake in mistakes if mistake.exit_code == 2), mistakes[0])
    message = head + "; ".join(mistake.message for mistake in mistakes[:_MOST_MISTAKES])
    if len(mistakes) > _MOST_MISTAKES:
        message += f"; and {len(mistakes) - _MOST_MISTAKES:,} more mistakes"
    if len(mistakes) == 1:
        hint = mistakes[0].hint or hint
    raise type(worst)(message, hint=hint)


def _repeated(item: BatchItem, path: Path) -> SettingsError:
    """Return the error that microphones of a kit would become one file, `path`."""
    first, second, *_ = [mic.source for mic in item.together if mic.output == path]
    if identity(first) == identity(second):
        return SettingsError(f"{first} is named twice among the microphones of a kit", hint="leave it out once")
    return SettingsError(f"{first} and {second} would both become {path}", hint="rename one of them")


def _check_results(items: Sequence[BatchItem]) -> None:
    """Raise an error for two results of one name, or a result in the place of an input."""
    inputs = {identity(path) for item in items for path in (*item.sources, item.rhythm.path)}
    kits = {path for item in items for path in item.settings.kit_from}
    inputs |= {identity(file) for path in kits for file in files_of(path)}
    made: dict[str, BatchItem] = {}
    mistakes = []
    for item in items:
        if repeated := [p for p in item.outputs if item.outputs.count(p) > 1]:
            mistakes.append(_repeated(item, repeated[0]))
        for path in item.outputs if not repeated else ():
            other = made.setdefault(os.path.normcase(path), item)
            if other is not item:
                mistakes.append(SettingsError(f"{other.source} and {item.source} would both become {path}"))
                break
            if path.exists() and identity(path) in inputs:
                mistakes.append(SettingsError(f"{path} is an input, which is never replaced"))
    _raise_all(
        "",
        mistakes,
        hint="tell them apart, as with --name '{parent}_{stem}_{ext}', or give the folder above with its tree",
    )
