"""The item or kit of a DAW's project that is edited, and the way of takes back: one undo step each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from daw_bridge.editor.document import Grid
from daw_bridge.editor.source import MicSource, Source
from daw_bridge.items import open_item
from daw_bridge.kits import kits
from daw_bridge.performances import UNPLAYED, performances
from daw_bridge.session import FinishedTake, Item, Job, Session, file_name
from transform.audio import Recording, write_audio
from transform.errors import DawError
from transform.mics import MicRecording
from transform.signal import blocks_of

_BLOCK_SAMPLES = 2**17
_SOUNDLESS = ("offline", "remote", "empty", "combined", "frozen", "stretched")  # states of items


@dataclass(frozen=True)
class Desk:
    """Where an editor was opened from.

    `connect` returns the session anew for each take: the DAW may have been started again in the meantime.
    """

    host: str  # as its user calls it
    job: Job
    item: Item
    connect: Callable[[], AbstractContextManager[Session]]

    @classmethod
    def of_selected(
        cls,
        host: str,
        connect: Callable[[], AbstractContextManager[Session]],
        *,
        together: bool | None = None,
    ) -> Desk:
        """Return the desk of the one audio item, or of the one performance, that is selected.

        Args:
            host: the DAW, as its user calls it.
            connect: returns its session.
            together: as `kits` has it.

        Raises:
            DawError: nothing or more is selected, or the project cannot be read.
            SettingsError: the items are said to be together, and do not overlap.
        """
        with connect() as session:
            job = session.collect()
        return cls(host, job, selected_item(job, together=together), connect)

    @property
    def grid(self) -> Grid:
        """The project's beats and bars over the item's own seconds."""
        job, begin_s = self.job, self.item.position_s
        _, bar_beat = job.bars.at(job.tempo_map.beats_at(begin_s))
        per_bar = next(beats for beat, beats in reversed(job.bars.metres) if beat <= bar_beat + 1e-6)
        tempo = job.tempo_map.starting_at(bar_beat).changes
        return Grid(tempo, per_bar, job.tempo_map.seconds_at(bar_beat) - begin_s)

    def store(self, folder: Path) -> Source:
        """Write the item's sound, as the project plays it, into a folder, and return it as what is edited.

        Of microphones each is a file.

        Raises:
            AudioError: it cannot be read.
            OutputError: it cannot be written.
        """
        with open_item(self.item) as recording:
            if not isinstance(recording, MicRecording):
                return Source(_written(recording, self.item, folder))
            paths, offsets_s = [], []
            for number, (item, mic) in enumerate(zip(self.microphones, recording.microphones, strict=True)):
                own = folder / str(number)
                own.mkdir()
                paths.append(_written(mic.recording, item, own))
                offsets_s.append(mic.own_begin / mic.recording.sample_rate)
        return MicSource(paths, offsets_s)

    @property
    def microphones(self) -> tuple[Item, ...]:
        """The items that a take goes beside, each of which begins with the first of them."""
        return self.item.microphones or (self.item,)

    def send(self, files: Sequence[tuple[Path, str]]) -> list[Path]:
        """Put a take on new tracks of the project, and return its media files.

        Args:
            files: one with its name for each of `microphones`; they stay where they are.

        Raises:
            DawError: the DAW is gone, or its project.
            OutputError: the media cannot be written.
        """
        takes = []
        for item, (file, name) in zip(self.microphones, files, strict=True):
            with Recording.open(file) as sound:
                length_s, n_channels = sound.duration_s, sound.n_channels
            begun = replace(item, position_s=self.item.position_s)
            takes.append(
                FinishedTake(source=begun, file=file, name=name, length_s=length_s, n_channels=n_channels)
            )
        with self.connect() as session:
            return session.write_back(self.job, takes)


def _written(recording: Recording, item: Item, folder: Path) -> Path:
    path = folder / f"{file_name(Path(item.name).stem or recording.name)}.wav"
    write_audio(path, blocks_of(recording, _BLOCK_SAMPLES), recording.format)
    return path


def selected_item(job: Job, *, together: bool | None = None) -> Item:
    """Return the one audio item of a job that is selected, or what stands for the one performance that is.

    Items of a track that follow one another are one, and so are microphones of one kit: see `performances`
    and `kits`.

    Raises:
        DawError: there is none, or there are several, or it has no sound.
        SettingsError: they are said to be together, and do not overlap.
    """
    selected = [item for item in job.items if item.kind == "audio" and item.is_selected]
    selected = [item for item in selected if item.state not in UNPLAYED] or selected
    if not selected:
        raise DawError("no audio item is selected", hint="select one drum item or clip, then try again")
    mute = next((item for item in selected if item.state in _SOUNDLESS), None)
    if mute is not None:
        raise DawError(
            f"{mute.name or 'the item'} has no sound that could be edited: it is {mute.state}",
            hint="bring its file back, or glue or consolidate it in the DAW",
        )
    found = kits(job, performances(selected, job.tempo_map), together=together) if len(selected) > 1 else []
    items = [source.item for source in found if not source.skipped] or selected
    if len(items) > 1:
        raise DawError(
            f"{len(items)} audio items are selected that are no one performance",
            hint="select one, items of one track that follow one another, or the microphones of one kit",
        )
    return items[0]
