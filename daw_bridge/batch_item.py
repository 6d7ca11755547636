"""What a batch makes: the result of a recording, or those of the microphones of one performance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from transform.drum_maps import DrumNotes
from transform.errors import SettingsError
from transform.library import RhythmSource
from transform.settings import RenderSettings
from transform.take_files import stem_paths


class MicPlace(NamedTuple):
    """One of several microphones, where its result goes, and when it begins; None: as its file says."""

    source: Path
    output: Path
    offset_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    """One result that a batch is to make, or those of the microphones of one performance."""

    source: Path
    rhythm: RhythmSource
    output: Path
    preset: str
    settings: RenderSettings
    drum_map: DrumNotes
    bit_depth: str | None
    plot: Path | None = None
    picture: Path | None = None  # as `plot`, for a page alone
    midi: Path | None = None
    together: tuple[MicPlace, ...] = ()  # all microphones; source and output are those of the first

    @property
    def sources(self) -> list[Path]:
        """All recordings that are redrummed."""
        return [mic.source for mic in self.together] or [self.source]

    @property
    def stems(self) -> dict[str, Path]:
        """Where the stem of each class goes, in a folder beside the result; none are written by default."""
        if not self.settings.separate_outputs:
            return {}
        return stem_paths(self.output.with_name(f"{self.output.stem}_stems"), self.output.stem)

    @property
    def outputs(self) -> list[Path]:
        """All that is written, the result first."""
        others = [mic.output for mic in self.together[1:]]
        return [self.output, *others, *self.stems.values(), *filter(None, (self.midi, self.plot, self.picture))]

    def absolute(self) -> "BatchItem":
        """Return the item as a process in another folder needs it."""
        folder = Path(self.preset)
        kit_from = tuple(str(Path(path).absolute()) for path in self.settings.kit_from)
        return replace(
            self,
            settings=replace(self.settings, kit_from=kit_from),
            source=self.source.absolute(),
            together=tuple(mic._replace(source=mic.source.absolute()) for mic in self.together),
            rhythm=replace(self.rhythm, path=self.rhythm.path.absolute()),
            preset=str(folder.absolute()) if folder.is_dir() else self.preset,
        )


def as_kit(items: Sequence[BatchItem], offsets_s: Sequence[float | None]) -> BatchItem:
    """Return the items of several microphones as one; `offsets_s` are when each begins."""
    places = (
        MicPlace(item.source, item.output, offset_s) for item, offset_s in zip(items, offsets_s, strict=True)
    )
    return replace(items[0], together=tuple(places))


class SheetItem(NamedTuple):
    """A line of a sheet, the group that it names, "" for none, when its microphone begins, and its item."""

    line: int
    group: str
    offset_s: float | None
    item: BatchItem


_SHARED = {"rhythm": "another rhythm", "preset": "another preset", "settings": "other settings"}  # of a group


def _differ(name: str, one: BatchItem, other: BatchItem) -> bool:
    return bool(getattr(one, name) != getattr(other, name))


def grouped(lines: Sequence[SheetItem]) -> tuple[list[BatchItem], list[SettingsError]]:
    """Return the items of a sheet, those of a group as one at the place of its first, and what is wrong."""
    from transform.mics import check_together

    by_group: dict[object, list[SheetItem]] = {}
    for line in lines:
        by_group.setdefault(line.group or line.line, []).append(line)
    items, mistakes = [], list[SettingsError]()
    for own in by_group.values():
        first = own[0]
        if not first.group:
            items.append(first.item)
            continue
        for line in own[1:]:
            if other := [what for name, what in _SHARED.items() if _differ(name, line.item, first.item)]:
                why = f"line {line.line}: group {line.group} has {other[0]} than in line {first.line}"
                mistakes.append(SettingsError(why))
        try:
            check_together(first.item.settings)
        except SettingsError as err:
            mistakes.append(err)
        items.append(as_kit([line.item for line in own], [line.offset_s for line in own]))
    return items, mistakes
