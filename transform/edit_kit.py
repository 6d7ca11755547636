"""What plays strokes that a recording has not: its own hits, those of other recordings, and borrowed ones."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path

from transform.audio import Progress, Recording
from transform.bank import Bank
from transform.borrowing import borrowed
from transform.engine import Drums, Redrummer
from transform.events import CLASS_NAMES, CLASSES
from transform.hits import Cutter
from transform.kit_sources import Origin, joined, open_origins
from transform.listening import Listening
from transform.resequence import Placement, articulation_notes, play_alone, stand_in_notes, stand_ins
from transform.settings import RenderSettings
from transform.strokes import Stroke

_DrumsKey = tuple[str, str, tuple[str, ...]]  # engine, attack, and what else the kit is from


def nothing_plays(drum_class: str) -> str:
    """Return a sentence on a class that nothing can play."""
    return f"there is nothing in the source that could play the {CLASS_NAMES[drum_class]}"


class KitMaker:
    """Makes kits of recordings. What is found in other recordings of a kit is cached."""

    def __init__(self, redrummer: Redrummer, sensitivity: Mapping[str, float]) -> None:
        """Take models into use; other recordings are transcribed at this sensitivity, by class."""
        self.redrummer, self._sensitivity = redrummer, sensitivity
        self._origins: dict[Path, list[Origin]] = {}

    def origins(self, paths: Sequence[str], report: Progress) -> list[Origin]:
        """Return the hits of recordings and folders: see `open_origins`; `report` is called often."""
        by_place = {Path(path).resolve(): path for path in paths}
        found: list[Origin] = []
        for place, path in by_place.items():
            if by_place.keys() & set(place.parents):
                continue  # it is in a folder that is named, too
            if place not in self._origins:
                self._origins[place] = [*open_origins([path], partial(self._listen, report), report)]
            found += self._origins[place]
        return found

    def _listen(self, report: Progress, recording: Recording) -> Listening:
        return self.redrummer.listen(recording, sensitivity=self._sensitivity, progress=report)


class StrokeKit:
    """What plays strokes that a recording has not, as settings have it."""

    def __init__(
        self, maker: KitMaker, listening: Listening, cutter: Callable[[], Cutter], settings: RenderSettings
    ) -> None:
        """Take what is in a recording into use; nothing is cut before it is needed.

        Args:
            maker: of the kit.
            listening: what is in the recording.
            cutter: returns what cuts its hits.
            settings: what the kit is of.
        """
        self._maker, self._listening, self._cutter, self._settings = maker, listening, cutter, settings
        self._drums: dict[_DrumsKey, Drums] = {}  # those of other settings, too

    def with_settings(self, settings: RenderSettings) -> StrokeKit:
        """Return the kit of the same recording by other settings; what was cut is not cut again."""
        other = StrokeKit(self._maker, self._listening, self._cutter, settings)
        other._drums = self._drums
        return other

    def is_of(self, settings: RenderSettings) -> bool:
        """Return whether other settings have the same kit."""
        own = self._settings
        return (own.missing, _key(own)) == (settings.missing, _key(settings))

    def prepare(self, report: Progress = lambda stage, fraction: None) -> None:
        """Cut the kit; `report` is called between hits, and may use it meanwhile."""
        self._made(self._replayed, report)

    @property
    def drums(self) -> Drums:
        """The hits that play what is put into the recording."""
        return self._made(self._replayed)

    @property
    def replay_drums(self) -> Drums:
        """What plays replays."""
        return self._made(self._settings)

    @property
    def _replayed(self) -> RenderSettings:
        return replace(self._settings, engine="resequence", attack="original", variation=0.0)

    def _made(self, settings: RenderSettings, report: Progress = lambda stage, fraction: None) -> Drums:
        if (key := _key(settings)) not in self._drums:
            made = self._joined(settings, report) if settings.kit_from else self._own(settings, report)
            self._drums.setdefault(key, made)
        return self._drums[key]

    def _own(self, settings: RenderSettings, report: Progress) -> Drums:
        return self._maker.redrummer.drums(self._listening, settings, report, cutter=self._cutter())

    def _joined(self, settings: RenderSettings, report: Progress) -> Drums:
        own = self._made(replace(settings, kit_from=()), report)
        if not (own.bank and own.available):
            return own
        report("transcribe kit", 0.0)
        bank, notes = joined(own.bank, self._maker.origins(settings.kit_from, report))
        return replace(own, bank=bank, available=bank.classes, notes=tuple(notes))

    @cached_property
    def bank(self) -> Bank:
        """Hits of single classes; where the settings say so, also of classes that are borrowed."""
        assert self.drums.bank is not None
        return (self._with_borrowed[0] if self._with_borrowed else self.drums.bank).apart().by_velocity()

    @cached_property
    def _with_borrowed(self) -> tuple[Bank, dict[str, str]] | None:
        """The bank with borrowed classes, and a sentence for each; None where none are borrowed."""
        bank = self.drums.bank
        assert bank is not None
        missing = [c for c in CLASSES if c not in bank.classes]
        if self._settings.missing != "borrow" or not missing:
            return None
        bank, notes = borrowed(bank, missing)
        return bank, dict(zip(missing, notes, strict=True))

    def placement(self, stroke: Stroke) -> Placement | None:
        """Return the hit that plays a stroke; None where nothing does."""
        if self._settings.missing == "leave-out" and stroke.drum_class not in self.bank.classes:
            return None
        return play_alone(self.bank, stroke.event(), zlib.crc32(stroke.id.encode("ascii")))

    def notes(self, strokes: Iterable[Stroke]) -> list[str]:
        """Return a sentence for each way in which what plays strokes is not as requested."""
        events = [stroke.event() for stroke in strokes]
        if not events:
            return []
        requested = [c for c in CLASSES if any(event.drum_class == c for event in events)]
        own = self.drums.bank.classes if self.drums.bank else frozenset()
        missing = [c for c in requested if c not in own]
        notes = list(self.drums.notes)
        if self._with_borrowed:
            notes += [self._with_borrowed[1][c] for c in missing]
        elif self._settings.missing == "leave-out":
            notes += [f"the source has no {CLASS_NAMES[c]}: that part is left out" for c in missing]
        elif not own:
            notes += [nothing_plays(c) for c in missing]
        else:
            notes += stand_in_notes(stand_ins(own, events))
        chosen = stand_ins(self.bank.classes, events)
        return notes + list(articulation_notes(self.bank, events, chosen))


def _key(settings: RenderSettings) -> _DrumsKey:
    return settings.engine, settings.attack, settings.kit_from
