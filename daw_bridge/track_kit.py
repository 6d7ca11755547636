"""What the items of a track lend each other: they play one kit."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path

from daw_bridge.items import open_item
from daw_bridge.session import Item, Job
from transform.bank import Bank
from transform.engine import Drums, Redrummer
from transform.errors import AudioError
from transform.events import CLASS_NAMES, CLASSES, Rhythm
from transform.kit_sources import Origin, joined, open_origins
from transform.settings import RenderSettings

_log = logging.getLogger(__name__)


class TrackKit:
    """The kits of a job's tracks; recordings that lend hits stay open until `close`."""

    def __init__(
        self, redrummer: Redrummer, job: Job, sources: Sequence[Item], settings: RenderSettings
    ) -> None:
        """Prepare to lend.

        Args:
            redrummer: what listens.
            job: whose files lend, where all of them are requested.
            sources: which lend each other drums that they lack.
            settings: of all takes.
        """
        self._redrummer, self._job = redrummer, job
        self._sources = [source for source in sources if not source.microphones]
        self._listen = partial(redrummer.listen, sensitivity=settings.sensitivity)
        self._no_kit: dict[str, str] = {}  # why a file has no hits to lend, by file
        self._banks: dict[int, Bank | None] = {}  # of sources, by identity; None: it has no hits
        self._open = ExitStack()

    def close(self) -> None:
        """Close the recordings."""
        self._banks.clear()
        self._open.close()

    def with_files(self, source: Item, settings: RenderSettings) -> tuple[RenderSettings, list[str]]:
        """Return settings by which the files of the other items on a source's track play, too.

        A file without hits plays no part; there is a sentence on each.
        """
        if source.microphones:
            return settings, ["the other items of its tracks lend nothing to several microphones"]
        own = {id(item) for item in (source, *source.parts)}
        others = dict.fromkeys(
            item.file
            for item in self._job.items
            if id(item) not in own and (item.track, item.kind, item.state) == (source.track, "audio", "ok")
        )
        added = [file for file in others if file not in settings.kit_from]
        whys = {file: why for file in added if (why := self._why_no_kit(file))}
        notes = [f"{Path(file).name} lends no hits: {why}" for file, why in whys.items()]
        lending = (file for file in added if file not in whys)
        return replace(settings, kit_from=(*settings.kit_from, *lending)), notes

    def completed(self, source: Item, rhythm: Rhythm, settings: RenderSettings, drums: Drums) -> Drums:
        """Return the drums of a source with those that it lacks, as the others of its track have them.

        Args:
            source: of the drums.
            rhythm: in which drums may play that the source lacks.
            settings: by which some of them may not.
            drums: what the source has.
        """
        bank = drums.bank
        played = {event.drum_class for event in rhythm.events} - set(settings.retained)
        missing = played - set(drums.available)
        if bank is None or not bank.hits or not missing or source.microphones:
            return drums
        origins, notes = [], []
        others = [item for item in self._sources if item.track == source.track and item.id != source.id]
        for item in sorted(others, key=lambda item: abs(item.position_s - source.position_s)):
            lent = self._bank_of(item) if item.state == "ok" else None
            if lent is not None and (found := missing & lent.classes):
                name = f"{item.name or 'an item'} at {item.position_s:.2f} s"
                origins.append(Origin(name, lent))
                lacking = ", ".join(CLASS_NAMES[c] for c in CLASSES if c in found)
                notes.append(f"{lacking}: of {name} on its track, as it has none")
                missing -= found
            if not missing:
                break
        bank, _ = joined(bank, origins, classes=played - set(drums.available))
        return replace(drums, bank=bank, available=bank.classes, notes=(*drums.notes, *notes))

    def _bank_of(self, item: Item) -> Bank | None:
        """Return the hits of another source, None where it has none."""
        if id(item) not in self._banks:
            try:
                recording = self._open.enter_context(open_item(item, on_failure=lambda part, err: None))
                detected = self._listen(recording)
                self._banks[id(item)] = Bank.of_recording(recording, detected.events, detected.stems)
            except AudioError as err:  # it says so itself
                _log.debug("%s lends nothing: %s", item.name, err)
                self._banks[id(item)] = None
        return self._banks[id(item)]

    def _why_no_kit(self, file: str) -> str:
        """Return why a file has no hits to lend, "" where it has some."""
        if file not in self._no_kit:
            try:
                list(open_origins([file], self._listen))
                self._no_kit[file] = ""
            except AudioError as err:
                self._no_kit[file] = err.message
        return self._no_kit[file]
