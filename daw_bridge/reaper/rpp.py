"""Closed REAPER projects: what is in them, and takes put back into a copy, SONG-redrum.rpp.

What the lines mean was read off projects of REAPER 4 to 7, as Cockos documents none of it.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from daw_bridge.bars import Bars
from daw_bridge.choice import EVERYTHING, Choice
from daw_bridge.media import is_on_other_share
from daw_bridge.reaper.facts import CUSTOM_COLOR, in_folders
from daw_bridge.reaper.rpp_items import ItemReader
from daw_bridge.reaper.rpp_text import Block, Keys, ProjectText, quoted
from daw_bridge.session import (
    MIDI,
    FinishedTake,
    Item,
    Job,
    NewTrack,
    Track,
    new_tracks,
    project_tempo,
    published_media,
    short_name,
    with_elements_of,
)
from transform.errors import DawError
from transform.events import TempoMap
from transform.files import check_output, read_bytes, write_bytes_atomic
from transform.midi import TICKS_PER_BEAT

_METRES = 2**16  # a metre is its numerator, and so many times its denominator
_N_ENDING = len(".rpp")  # which backups have "-bak" behind
_MOST_BYTES = 512 * 2**20
_MOST_ITEMS = 100_000

_NEW_TRACK = """\
<TRACK {guid}
  NAME {name}
{color}  VOLPAN 1 0 -1 -1 1
  MUTESOLO 0 0 0
  ISBUS {folder}
  NCHAN {n_channels}
  TRACKID {guid}
  MAINSEND 1 0
{items}>
"""
_NEW_ITEM = """\
  <ITEM
    POSITION {position_s:.14g}
    LENGTH {length_s:.14g}
    LOOP 0
    MUTE {is_muted:d} 0
    SEL 0
    IGUID {item_guid}
    NAME {name}
    VOLPAN 1 0 1 -1
    SOFFS 0
    PLAYRATE 1 1 0 -1 0 0.0025
    CHANMODE 0
    GUID {take_guid}
{source}  >
"""
_WAVE = """\
    <SOURCE WAVE
      FILE {file}
    >
"""
_MIDI = """\
    <SOURCE MIDI
      HASDATA 1 {ticks_per_beat} QN
{events}      E {rest} b0 7b 00
    >
"""


class RppSession:
    """A closed project. Takes go into a copy beside it; the project itself is only ever read."""

    def __init__(self, path: Path, output: Path, choice: Choice, *, overwrite: bool) -> None:
        self.path, self.output = path, output
        self._choice, self._overwrite = choice, overwrite
        try:
            data = read_bytes(path, most=_MOST_BYTES)
        except ValueError as err:
            raise DawError(f"{path} is no project: {err}", hint="give a project that REAPER has saved") from err
        except OSError as err:
            raise DawError(f"{path} cannot be read: {err.strerror or err}", hint="check the path") from err
        self._text = ProjectText(data, path.name)
        self._tracks = list(self._text.root.blocks("TRACK"))
        self._root_keys = self._text.keys(self._text.root.children)
        self._tempo_map = TempoMap(self._read_tempo())

    def collect(self) -> Job:
        """Return the chosen items and those on rhythm tracks; see `Session.collect`."""
        tracks = self._read_tracks()
        items, left_out = self._choice.of(self._items(tracks))
        return Job(
            daw="rpp",
            project=str(self.path),
            project_id=str(self.path),
            media_folder=str(self._media_folder),
            tempo=self._tempo_map.changes,
            bars=self._bars(),
            tracks=tracks,
            items=tuple(items),
            left_out=left_out,
        )

    def _read_tracks(self) -> tuple[Track, ...]:
        text = self._text
        tracks: list[Track] = []
        for place, block in enumerate(self._tracks):
            keys = text.keys(block.children)
            name = short_name(text.text(keys, "NAME"))
            guid = block.words[1] if len(block.words) > 1 else text.text(keys, "TRACKID")
            tracks.append(Track(id=guid or str(place), name=name, color=self._color(keys)))
        return in_folders(tracks, map(self._depth, self._tracks))

    def _items(self, tracks: Sequence[Track]) -> Iterator[tuple[Item, Track]]:
        """Yield all items in order, each with its track."""
        n_items = n_elements = 0
        reader = ItemReader(self._text, self._tracks, self._tempo_map, (self.path, self._media_folder))
        for place, (block, track) in enumerate(zip(self._tracks, tracks, strict=True)):
            for item_block in block.blocks("ITEM"):
                n_items += 1
                if n_items > _MOST_ITEMS:
                    raise DawError(
                        f"{self.path.name} has more than {_MOST_ITEMS:,} items",
                        hint="redrum a project with fewer of them",
                    )
                item = reader.item(item_block, place)
                n_elements = with_elements_of(item, n_elements)
                yield item, track

    def write_back(self, job: Job, takes: Sequence[FinishedTake]) -> list[Path]:
        """Write the copy of the project with the takes in it; see `Session.write_back`.

        A new track comes directly below its source track; below the last track of a folder it becomes the last.
        Receives, which name tracks by their place, go on naming the same tracks.
        """
        with published_media(job, takes) as media:
            planned = new_tracks(job, takes)
            replaced = dict(self._moved_receives([track.source for track in planned]))
            inserted = []
            for track in reversed(planned):
                source = self._tracks[track.source]
                line = self._text.keys(source.children).get(b"ISBUS", -1)
                if line not in replaced and (closing := self._depth(source)) < 0:
                    replaced[line] = self._text.with_words(line, {1: "0", 2: "0"})
                    track = replace(track, folder_depth=track.folder_depth + closing)
                text = self._new_track(
                    track, job.tracks[track.source].color, [(takes[n], media[n]) for n in track.takes]
                )
                indent = self._text.indent(source.line)
                lines = text.encode("utf-8", "surrogateescape").removesuffix(b"\n").split(b"\n")
                data = b"".join(indent + line + self._text.line_end for line in lines)
                inserted.append((source.end + 1, data))
            text_after = self._text.with_changes(inserted[::-1], replaced)
            write_bytes_atomic(self.output, text_after, overwrite=self._overwrite)
        return media

    def _moved_receives(self, sources: Sequence[int]) -> Iterator[tuple[int, bytes]]:
        """Yield lines of receives whose tracks new ones, below `sources`, move down; each with its new text."""
        text = self._text
        for track in self._tracks:
            for child in track.children:
                if isinstance(child, int) and (words := text.words(child))[:1] == ["AUXRECV"]:
                    place = int(text.number_in(child, words, 1))
                    if n_above := sum(source < place for source in sources):
                        yield child, text.with_words(child, {1: str(place + n_above)})

    def _depth(self, track: Block) -> int:
        """Return 1 for a track that begins a folder, below 0 for one with which so many end, else 0."""
        return int(self._text.number(self._text.keys(track.children), "ISBUS", 0.0, 2))

    def _color(self, track: Keys) -> int:
        """Return a track's color, 0 where it has none of its own."""
        color = int(self._text.number(track, "PEAKCOL", 0.0))
        return color if color & CUSTOM_COLOR else 0

    def _new_track(self, track: NewTrack, color: int, takes: Sequence[tuple[FinishedTake, Path]]) -> str:
        """Return the lines of a track that holds takes."""
        n_channels = max(take.n_channels for take, _ in takes)
        items = [
            _NEW_ITEM.format(
                position_s=take.source.position_s,
                length_s=take.length_s,
                name=quoted(take.name),
                is_muted=track.is_muted,
                source=self._new_midi(take) if take.part == MIDI else self._new_wave(file),
                item_guid=_guid(),
                take_guid=_guid(),
            )
            for take, file in takes
        ]
        return _NEW_TRACK.format(
            guid=_guid(),
            name=quoted(track.name),
            folder=f"{2 if track.folder_depth < 0 else track.folder_depth} {track.folder_depth}",
            color=f"  PEAKCOL {color}\n" if color else "",
            n_channels=max(2, n_channels + n_channels % 2),
            items="".join(items),
        )

    def _new_wave(self, file: Path) -> str:
        return _WAVE.format(file=quoted(self._reference(file)))

    def _new_midi(self, take: FinishedTake) -> str:
        """Return the lines of what plays in a take as MIDI that follows the project's tempo."""
        begin = self._tempo_map.beats_at(take.source.position_s)
        end = self._tempo_map.beats_at(take.source.position_s + take.length_s)
        length = max(1, round((end - begin) * TICKS_PER_BEAT))
        events = []
        for note in take.notes:
            tick = min(max(0, round((note.onset_beats - begin) * TICKS_PER_BEAT)), length - 1)
            off = min(tick + TICKS_PER_BEAT // 8, length)
            events.append((tick, 1, f"9{note.channel:x} {note.number:02x} {note.velocity:02x}"))
            events.append((off, 0, f"8{note.channel:x} {note.number:02x} 00"))
        lines, now = [], 0
        for tick, _, message in sorted(events):  # notes end before others begin
            lines.append(f"      E {tick - now} {message}\n")
            now = tick
        return _MIDI.format(ticks_per_beat=TICKS_PER_BEAT, events="".join(lines), rest=length - now)

    def _reference(self, file: Path) -> str:
        """Return a file as REAPER names it: from the project's own folder on where it lies below that."""
        place, folder = (Path(os.path.abspath(path)) for path in (file, self.path.parent))
        return place.relative_to(folder).as_posix() if place.is_relative_to(folder) else str(place)

    def _read_tempo(self) -> tuple[tuple[float, float], ...]:
        text = self._text
        points = []
        for child, words in self._tempo_markers():
            at_s, bpm = text.number_in(child, words, 1), text.number_in(child, words, 2)
            points.append((at_s, bpm, text.number_in(child, words, 3, 0.0) == 0))
        return project_tempo(text.number(self._root_keys, "TEMPO", 120.0), points)

    def _bars(self) -> Bars:
        """Return the bars, by the metre that the project begins with and those of its tempo markers.

        The ruler may begin with another bar than the first; that it begins with another time moves no bar.
        """
        text = self._text
        numerator, denominator = (int(text.number(self._root_keys, "TEMPO", 4.0, place)) for place in (2, 3))
        changes = [(0.0, numerator, denominator)]
        for child, words in self._tempo_markers():
            if metre := int(text.number_in(child, words, 4, 0.0)):
                at_s = text.number_in(child, words, 1)
                changes.append((self._tempo_map.beats_at(at_s), metre % _METRES, metre // _METRES))
        return Bars.of(changes, 1 + int(text.number(self._root_keys, "PROJOFFS", 0.0, 2)))

    def _tempo_markers(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the lines of the tempo markers, with their words."""
        for envelope in self._text.root.blocks("TEMPOENVEX"):
            for child in envelope.children:
                if isinstance(child, int) and (words := self._text.words(child))[:1] == ["PT"]:
                    yield child, words

    @cached_property
    def _media_folder(self) -> Path:
        """Where REAPER would record to; the project's own folder where that is one of another machine."""
        named = self._text.text(self._root_keys, "RECORD_PATH").replace("\\", "/")
        beside = self.path.parent.absolute()
        folder = beside / named
        leads_away = ":" in named or named.startswith(("/", "~")) or ".." in named.split("/")
        if is_on_other_share(folder, self.path) or (leads_away and not folder.is_dir()):
            return beside
        return folder


def result_path(path: Path) -> Path:
    """Return where the copy of a project goes that takes are put into."""
    return path.with_name(f"{path.stem}-redrum{path.suffix[:_N_ENDING]}")


def open_project(
    path: Path,
    *,
    choice: Choice = EVERYTHING,
    output: Path | None = None,
    overwrite: bool = False,
) -> RppSession:
    """Return the session of a closed project.

    Args:
        path: SONG.rpp.
        choice: which items are selected.
        output: the project that `write_back` makes; None: SONG-redrum.rpp beside it.
        overwrite: replace `output` if it exists.

    Raises:
        DawError: the project cannot be read, is broken, or is its own output.
        OutputError: `output` exists and is not to be overwritten, or cannot be written.
    """
    output = output or result_path(path)
    if os.path.abspath(output) == os.path.abspath(path) or (output.exists() and output.samefile(path)):
        raise DawError(f"{path} would replace itself", hint="give the result another name")

    session = RppSession(path, output, choice, overwrite=overwrite)
    check_output(output, overwrite=overwrite)
    return session


def _guid() -> str:
    return f"{{{uuid.uuid4()}}}".upper()
