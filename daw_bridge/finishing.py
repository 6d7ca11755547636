"""Takes as files that go back into a project: of one recording, or of each microphone, and their MIDI."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from daw_bridge.rhythm_times import map_from
from daw_bridge.session import MIDI, FinishedTake, Item, Job, Note, file_name
from transform.audio import AudioFormat, Progress, Recording, resolve_output
from transform.drum_maps import DRUM_CHANNEL, GM_NOTES
from transform.events import CLASS_NAMES, Rhythm
from transform.mic_files import MicFiles, write_mics
from transform.mics import MicRecording
from transform.midi import write_midi
from transform.take import Take
from transform.take_files import TakeFiles, stem_paths, write_take


@dataclass(frozen=True)
class Finished:
    """The files of a take, the format of the first, and what was decided, a sentence each."""

    takes: list[FinishedTake]
    fmt: AudioFormat
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Finisher:
    """Writes takes of a job into files of a folder."""

    job: Job
    bit_depth: str | None
    with_stems: bool
    with_midi: bool
    progress: Progress | None

    def finish(self, source: Item, recording: Recording, take: Take, folder: Path) -> Finished:
        """Write a take and its parts; of microphones, a file for each.

        Args:
            source: what the take is of.
            recording: the sound of that.
            take: what is written.
            folder: an empty one, where the files go.
        """
        if isinstance(recording, MicRecording):
            finished = self._of_microphones(source, recording, take, folder)
        else:
            finished = self._of_one(source, recording, take, folder)
        if self.with_midi:
            finished.takes.append(self._midi(finished.takes[0], take))
        return finished

    def _of_one(self, source: Item, recording: Recording, take: Take, folder: Path) -> Finished:
        name = f"{_plain_name(source) or recording.name}-redrum"
        stems = stem_paths(folder, file_name(name)) if self.with_stems else {}
        files = TakeFiles(take=folder / f"{file_name(name)}.wav", stems=stems)
        notes = write_take(take, files, bit_depth=self.bit_depth, progress=self.progress)
        _, subtype = resolve_output(files.take, take.format, self.bit_depth)
        whole = FinishedTake(
            source=source,
            file=files.take,
            name=name,
            length_s=take.duration_s,
            n_channels=take.format.n_channels,
        )
        parts = (
            replace(whole, file=path, name=f"{name} {CLASS_NAMES[drum_class]}", part=drum_class)
            for drum_class, path in files.stems.items()
        )
        return Finished([whole, *parts], replace(take.format, subtype=subtype), notes)

    def _of_microphones(self, source: Item, recording: MicRecording, take: Take, folder: Path) -> Finished:
        """Write the take of each microphone: all begin where the first of them does."""
        names = [
            f"{_plain_name(item) or mic.name}-redrum"
            for item, mic in zip(source.microphones, recording.microphones, strict=True)
        ]
        paths = [folder / str(n) / f"{file_name(name)}.wav" for n, name in enumerate(names)]
        for path in paths:
            path.parent.mkdir()
        formats = write_mics(
            take, recording, MicFiles(takes=paths), bit_depth=self.bit_depth, progress=self.progress
        )
        takes = [
            FinishedTake(
                source=replace(item, position_s=source.position_s),
                file=path,
                name=name,
                length_s=take.duration_s,
                n_channels=fmt.n_channels,
            )
            for item, path, name, fmt in zip(source.microphones, paths, names, formats, strict=True)
        ]
        return Finished(takes, formats[0])

    def _midi(self, whole: FinishedTake, take: Take) -> FinishedTake:
        """Write what plays in a take, at the project's tempo."""
        source = whole.source
        begin = self.job.tempo_map.beats_at(source.position_s)
        played = replace(take.played_rhythm(), tempo_map=map_from(self.job.tempo_map, begin))
        midi = whole.file.with_suffix(".mid")
        midi.write_bytes(write_midi(played))
        notes = tuple(_project_notes(self.job, source, played))
        return replace(whole, file=midi, name=f"{whole.name} {MIDI}", part=MIDI, notes=notes)


def _project_notes(job: Job, source: Item, played: Rhythm) -> Iterator[Note]:
    """Yield the notes of what a take plays, where the project plays them."""
    for stroke in (stroke for event in played.events for stroke in event.strokes):
        onset_s = source.position_s + stroke.onset_s
        yield Note(
            onset_s=onset_s,
            onset_beats=job.tempo_map.beats_at(onset_s),
            number=GM_NOTES[stroke.drum_class, stroke.articulation],
            velocity=max(1, round(127 * stroke.velocity)),
            channel=DRUM_CHANNEL,
        )


def _plain_name(item: Item) -> str:
    """Return a take's name without the ending of its file, which DAWs make part of it."""
    suffix = Path(item.file).suffix
    return item.name[: -len(suffix)] if suffix and item.name.endswith(suffix) else item.name
