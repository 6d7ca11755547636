"""The item of a DAW's project that is edited, and the way of takes back: on new tracks, one undo step each."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from daw_bridge.editor.document import Grid
from daw_bridge.items import open_item
from daw_bridge.session import FinishedTake, Item, Job, Session, file_name
from transform.audio import Recording, write_audio
from transform.errors import DawError
from transform.signal import blocks_of

_BLOCK_SAMPLES = 2**17


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
    def of_selected(cls, host: str, connect: Callable[[], AbstractContextManager[Session]]) -> Desk:
        """Return the desk of the one audio item that is selected.

        Raises:
            DawError: none or several are selected, or the project cannot be read.
        """
        with connect() as session:
            job = session.collect()
        return cls(host, job, selected_item(job), connect)

    @property
    def grid(self) -> Grid:
        """The project's beats and bars over the item's own seconds."""
        job, begin_s = self.job, self.item.position_s
        _, bar_beat = job.bars.at(job.tempo_map.beats_at(begin_s))
        per_bar = next(beats for beat, beats in reversed(job.bars.metres) if beat <= bar_beat + 1e-6)
        tempo = job.tempo_map.starting_at(bar_beat).changes
        return Grid(tempo, per_bar, job.tempo_map.seconds_at(bar_beat) - begin_s)

    def store(self, folder: Path) -> Path:
        """Write the item's sound, as the project plays it, into a folder, and return the file.

        Raises:
            AudioError: it cannot be read.
            OutputError: it cannot be written.
        """
        with open_item(self.item) as recording:
            path = folder / f"{file_name(Path(self.item.name).stem or recording.name)}.wav"
            write_audio(path, blocks_of(recording, _BLOCK_SAMPLES), recording.format)
        return path

    def send(self, file: Path, name: str) -> list[Path]:
        """Put a take on a new track of the project, and return its media files; `file` stays where it is.

        Raises:
            DawError: the DAW is gone, or its project.
            OutputError: the media cannot be written.
        """
        with Recording.open(file) as sound:
            length_s, n_channels = sound.duration_s, sound.n_channels
        take = FinishedTake(source=self.item, file=file, name=name, length_s=length_s, n_channels=n_channels)
        with self.connect() as session:
            return session.write_back(self.job, [take])


def selected_item(job: Job) -> Item:
    """Return the one audio item of a job that is selected.

    Raises:
        DawError: there is none, or there are several, or it has no sound.
    """
    found = [item for item in job.items if item.kind == "audio" and item.is_selected]
    if not found:
        raise DawError("no audio item is selected", hint="select one drum item or clip, then try again")
    if len(found) > 1:
        raise DawError(
            f"{len(found)} audio items are selected", hint="select one: its rhythm is edited by itself"
        )
    if found[0].state in ("offline", "remote", "empty", "frozen", "stretched"):
        raise DawError(
            f"{found[0].name or 'the item'} has no sound that could be edited: it is {found[0].state}",
            hint="bring its file back, or glue or consolidate it in the DAW",
        )
    return found[0]
