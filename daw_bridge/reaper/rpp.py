"""Closed REAPER projects: what is in them, and takes put back into a copy, SONG-redrum.rpp.

What the lines mean was read off projects of REAPER 4 to 7, as Cockos documents none of it.
"""

from __future__ import annotations

import os
import uuid
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from operator import itemgetter
from pathlib import Path

from daw_bridge.bars import Bars
from daw_bridge.choice import Choice
from daw_bridge.media import is_on_other_share
from daw_bridge.reaper.facts import CUSTOM_COLOR, fade_of, level_of, stretched
from daw_bridge.reaper.rpp_text import Block, Keys, ProjectText, excerpt, quoted
from daw_bridge.session import (
    MIDI,
    Fade,
    FinishedTake,
    Item,
    Job,
    NewTrack,
    Note,
    State,
    Track,
    new_tracks,
    played_notes,
    project_tempo,
    published_media,
    short_name,
    with_elements_of,
)
from transform.errors import DawError
from transform.events import TempoMap
from transform.files import check_output, read_bytes, write_bytes_atomic
from transform.midi import TICKS_PER_BEAT

_SECTION_MODES = {2: "section", 3: "whole"}  # both play backwards; with any other, a section plays forwards
_METRES = 2**16  # a metre is its numerator, and so many times its denominator
_FIXED_LANES, _MOST_LANES = (
    2,
    32,
)  # the mode of a track with lanes, and how many of them are known to play or not
_MIDI_SOURCES = ("MIDI", "MIDIPOOL")
_MOST_BYTES = 512 * 2**20
_MOST_ITEMS = 100_000
_TICKS_PER_BEAT = (1, 1e6)
_ROUNDING_TICKS, _ROUNDING_BEATS = 2.0, 1e-5  # around an item, in which notes are looked at more closely

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


@dataclass(frozen=True)
class _RppSource:
    """The sound or MIDI of a take: its block, and the values of a section around it."""

    block: Block
    kind: str  # WAVE, MIDI, ...
    is_reversed: bool = False
    section_start_s: float = 0.0
    section_length_s: float | None = None


@dataclass(frozen=True)
class _Midi:
    """The MIDI of a source, which many items may play."""

    keys: Keys
    ticks_per_beat: float
    notes: Sequence[tuple[int, int, int, int]]  # tick, number, velocity, channel; by tick
    end: int  # in ticks

    def within(self, first: float, last: float, is_repeated: bool) -> Iterable[tuple[int, int, int, int]]:
        """Return the notes from one tick to another, in which the whole may begin again and again."""
        if not is_repeated:
            return self.notes[self._place(first) : self._place(last)]
        if last - first >= self.end:
            return self.notes
        begin = first % self.end
        again = self._place(begin + last - first - self.end)  # what plays once more after the end
        return [
            *self.notes[:again],
            *self.notes[max(again, self._place(begin)) : self._place(begin + last - first)],
        ]

    def _place(self, tick: float) -> int:
        return bisect_left(self.notes, tick, key=itemgetter(0))


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
        self._midi = cache(self._read_midi)

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
        folders: tuple[str, ...] = ()
        for place, block in enumerate(self._tracks):
            keys = text.keys(block.children)
            name = short_name(text.text(keys, "NAME"))
            guid = block.words[1] if len(block.words) > 1 else text.text(keys, "TRACKID")
            tracks.append(Track(id=guid or str(place), name=name, color=self._color(keys), folders=folders))
            depth = self._depth(block)
            folders = (*folders, name) if depth > 0 else folders[: max(0, len(folders) + depth)]
        return tuple(tracks)

    def _items(self, tracks: Sequence[Track]) -> Iterator[tuple[Item, Track]]:
        """Yield all items in order, each with its track."""
        n_items = n_elements = 0
        for place, (block, track) in enumerate(zip(self._tracks, tracks, strict=True)):
            for item_block in block.blocks("ITEM"):
                n_items += 1
                if n_items > _MOST_ITEMS:
                    raise DawError(
                        f"{self.path.name} has more than {_MOST_ITEMS:,} items",
                        hint="redrum a project with fewer of them",
                    )
                item = self._item(item_block, place)
                if item.state == "ok" and self._is_silent(item_block, block):
                    item = replace(item, state="silent lane")
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
        """Return a file as the project names it: from its own folder on where it lies there."""
        try:
            return file.relative_to(self.path.parent).as_posix()
        except ValueError:
            return str(file.absolute())

    def _read_tempo(self) -> tuple[tuple[float, float], ...]:
        text = self._text
        points = []
        for child, words in self._tempo_markers():
            at_s, bpm = text.number_in(child, words, 1), text.number_in(child, words, 2)
            points.append((at_s, bpm, text.number_in(child, words, 3, 0.0) == 0))
        return project_tempo(text.number(self._root_keys, "TEMPO", 120.0), points)

    def _bars(self) -> Bars:
        """Return the bars, by the metre that the project begins with and those of its tempo markers."""
        text = self._text
        numerator, denominator = (int(text.number(self._root_keys, "TEMPO", 4.0, place)) for place in (2, 3))
        changes = [(0.0, numerator, denominator)]
        for child, words in self._tempo_markers():
            if metre := int(text.number_in(child, words, 4, 0.0)):
                at_s = text.number_in(child, words, 1)
                changes.append((self._tempo_map.beats_at(at_s), metre % _METRES, metre // _METRES))
        return Bars.of(changes)

    def _tempo_markers(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the lines of the tempo markers, with their words."""
        for envelope in self._text.root.blocks("TEMPOENVEX"):
            for child in envelope.children:
                if isinstance(child, int) and (words := self._text.words(child))[:1] == ["PT"]:
                    yield child, words

    @cached_property
    def _media_folder(self) -> Path:
        """Where REAPER would record to, where that is a folder on this machine."""
        named = self._text.text(self._root_keys, "RECORD_PATH").replace("\\", "/")
        beside = self.path.parent.absolute()
        folder = beside / named
        if is_on_other_share(folder, self.path) or (":" in named and not folder.is_dir()):
            return beside
        return folder

    def _item(self, block: Block, track: int) -> Item:
        text = self._text
        first_take, active_take = _takes(block, text)
        source = _source(active_take, text)
        first, active = text.keys(first_take), text.keys(active_take)
        position_s = text.number(first, "POSITION", 0.0)
        length_s = text.number(first, "LENGTH", 0.0)
        rate = text.number(active, "PLAYRATE", 1.0)
        is_midi = source is not None and source.kind in _MIDI_SOURCES
        item = Item(
            id=text.text(first, "IGUID") or f"line {block.line + 1}",
            track=track,
            kind="midi" if is_midi else "audio",
            name=short_name(text.text(active, "NAME")),
            position_s=position_s,
            length_s=length_s,
            play_rate=rate if rate > 0 else 1.0,
            keeps_pitch=text.number(active, "PLAYRATE", 1.0, 2) != 0,
            start_offset_s=text.number(active, "SOFFS", 0.0),
            is_looped=text.number(first, "LOOP", 0.0) != 0,
            channel_mode=int(text.number(active, "CHANMODE", 0.0)),
        )
        if source is None or length_s <= 0:
            return replace(item, state="empty")
        item.check()
        state: State = "ok"
        if is_midi:
            item = replace(item, notes=self._notes(item, active, source))
        else:
            file, state = self._resolved(text.text(text.keys(source.block.children), "FILE"))
            gain, pan = self._level(first, active)
            item = replace(
                item,
                file=file,
                gain=gain,
                pan=pan,
                fade_in=self._fade(first, "FADEIN"),
                fade_out=self._fade(first, "FADEOUT"),
                is_reversed=source.is_reversed,
                section_start_s=source.section_start_s,
                section_length_s=source.section_length_s,
            )
        if text.number(first, "MUTE", 0.0):
            state = "muted"
        return stretched(replace(item, state=state), () if is_midi else self._markers(active))

    def _is_silent(self, item: Block, track: Block) -> bool:
        """Return whether an item lies on a lane of its track that does not play."""
        text = self._text
        keys, lanes = text.keys(item.children), text.keys(track.children)
        height = text.number(keys, "YPOS", 0.0, 2)
        if int(text.number(lanes, "FREEMODE", 0.0)) != _FIXED_LANES or height <= 0:
            return False
        playing = int(text.number(lanes, "LANESOLO", 0.0))
        lane = round(text.number(keys, "YPOS", 0.0) / height)
        return bool(playing) and lane < _MOST_LANES and not playing >> lane & 1

    def _level(self, first: Keys, active: Keys) -> tuple[float, float]:
        """Return the gain and the pan of an item: it has a volume, and its take has one, a pan and a law."""
        text = self._text
        key, places = ("TAKEVOLPAN", (2, 1, 3)) if b"TAKEVOLPAN" in active else ("VOLPAN", (3, 2, 4))
        volume, pan, law = (
            text.number(active, key, default, place)
            for place, default in zip(places, (1.0, 0.0, -1.0), strict=True)
        )
        return level_of(text.number(first, "VOLPAN", 1.0), volume, pan, law)

    def _fade(self, keys: Keys, key: str) -> Fade:
        shape, length_s, automatic_s = (self._text.number(keys, key, 0.0, place) for place in (1, 2, 3))
        return fade_of(length_s, automatic_s, shape)

    def _markers(self, take: Keys) -> list[tuple[float, float, float]]:
        """Return the stretch markers of a take, as `stretched` has them."""
        line = take.get(b"SM")
        markers: list[tuple[float, float, float]] = []
        if line is None:
            return markers
        words = [[""]]
        for word in self._text.words(line)[1:]:
            words = [*words, [""]] if word == "+" else [*words[:-1], [*words[-1], word]]
        for marker in words:
            place, file_s = (self._text.number_in(line, marker, at) for at in (1, 2))
            markers.append((place, file_s, self._text.number_in(line, marker, 3, 0.0)))
        return markers

    def _resolved(self, named: str) -> tuple[str, State]:
        """Return the file that a project means, which may have been moved here from another machine."""
        if not named:
            return "", "empty"
        slashed = named.replace("\\", "/")
        folder = self.path.parent.absolute()
        base = slashed.rpartition("/")[2]
        places = [folder / named, folder / slashed, self._media_folder / base, folder / base]
        near = [place for place in places if not is_on_other_share(place, self.path)]
        found = next((place for place in near if os.path.isfile(place)), None)
        if found is not None:
            return str(found), "ok"
        return str(folder / slashed), "remote" if is_on_other_share(named, self.path) else "offline"

    def _notes(self, item: Item, active: Keys, source: _RppSource) -> tuple[Note, ...]:
        text = self._text
        midi = self._midi(self._pool(source.block))
        tempo_map = self._tempo_map
        is_own_tempo = text.number(midi.keys, "IGNTEMPO", 0.0) != 0
        if is_own_tempo:
            tempo_map = TempoMap.constant(text.number(midi.keys, "IGNTEMPO", 120.0, 2))
        begin = tempo_map.beats_at(item.position_s)
        # Old projects give the offset in seconds only.
        offset = text.number(
            active, "SOFFS", item.start_offset_s * tempo_map.bpm_at(begin) / 60, 1 if is_own_tempo else 2
        )
        if is_own_tempo:
            offset *= tempo_map.bpm_at(begin) / 60
        pace = 1 / midi.ticks_per_beat / item.play_rate
        first = offset / item.play_rate / pace
        last = first + (tempo_map.beats_at(item.end_s) - begin) / pace
        near = _ROUNDING_TICKS + _ROUNDING_BEATS / pace
        is_repeated = item.is_looped and midi.end > 0
        notes = played_notes(
            (
                (begin - offset / item.play_rate + tick * pace, number, velocity, channel)
                for tick, number, velocity, channel in midi.within(first - near, last + near, is_repeated)
            ),
            period_beats=midi.end * pace if is_repeated else None,
            position_s=item.position_s,
            length_s=item.length_s,
            tempo_map=tempo_map,
        )
        if not is_own_tempo:
            return notes
        project = self._tempo_map
        return tuple(replace(note, onset_beats=project.beats_at(note.onset_s)) for note in notes)

    def _pool(self, block: Block) -> Block:
        """Return the block that has the events of a source: of pooled sources, only the first does."""
        keys = self._text.keys(block.children)
        return block if b"HASDATA" in keys else self._pools.get(self._text.text(keys, "POOLEDEVTS"), block)

    @cached_property
    def _pools(self) -> dict[str, Block]:
        """The first source with events of each pool."""
        pools: dict[str, Block] = {}
        sources = (s for track in self._tracks for item in track.blocks("ITEM") for s in item.blocks("SOURCE"))
        for source in sources:
            keys = self._text.keys(source.children)
            if b"HASDATA" in keys and (pool := self._text.text(keys, "POOLEDEVTS")):
                pools.setdefault(pool, source)
        return pools

    def _read_midi(self, block: Block) -> _Midi:
        """Return the MIDI of a block, muted notes left out."""
        text = self._text
        keys = text.keys(block.children)
        ticks_per_beat = text.number(keys, "HASDATA", 960.0, 2)
        if not _TICKS_PER_BEAT[0] <= ticks_per_beat <= _TICKS_PER_BEAT[1]:
            raise text.broken(block.line, f"its MIDI has {ticks_per_beat:g} ticks a beat")
        tick = 0
        notes = []

        def later(line: int, words: Sequence[str]) -> int:
            passed = int(text.number_in(line, words, 1))
            if passed < 0:
                raise text.broken(line, f"{excerpt(words)!r} goes back in time")
            return tick + passed

        for child in block.children:
            if isinstance(child, Block):
                if child.tag.upper() in ("X", "XM"):
                    tick = later(child.line, child.words)
                continue
            words = text.words(child)
            if not words or words[0].upper() not in ("E", "EM"):
                continue
            tick = later(child, words)
            try:
                status, number, velocity = (int(word, 16) for word in words[2:5])
            except ValueError as err:
                raise text.broken(child, f"{excerpt(words)!r} is no MIDI event") from err
            if status >> 4 == 9 and velocity > 0 and "m" not in words[0].lower():
                notes.append((tick, number & 127, velocity & 127, status & 15))
        return _Midi(keys, ticks_per_beat, notes, tick)


def result_path(path: Path) -> Path:
    """Return where the copy of a project goes that takes are put into."""
    return path.with_name(f"{path.stem}-redrum{path.suffix}")


def open_project(
    path: Path,
    *,
    tracks: str | None = "*",
    items: Sequence[str] = (),
    output: Path | None = None,
    overwrite: bool = False,
) -> RppSession:
    """Return the session of a closed project.

    Args:
        path: SONG.rpp.
        tracks: whose items are selected, as of `Choice`.
        items: which of these items are selected, as of `Choice`.
        output: the project that `write_back` makes; None: SONG-redrum.rpp beside it.
        overwrite: replace `output` if it exists.

    Raises:
        DawError: the project cannot be read, is broken, or is its own output.
        OutputError: `output` exists and is not to be overwritten, or cannot be written.
    """
    output = output or result_path(path)
    if os.path.abspath(output) == os.path.abspath(path) or (output.exists() and output.samefile(path)):
        raise DawError(f"{path} would replace itself", hint="give the result another name")

    session = RppSession(path, output, Choice(tracks, items), overwrite=overwrite)
    check_output(output, overwrite=overwrite)
    return session


def _takes(item: Block, text: ProjectText) -> tuple[list[int | Block], list[int | Block]]:
    """Return the lines and blocks of an item's first take, among them the item's own, and of its active one."""
    takes: list[list[int | Block]] = [[]]
    active = 0
    for child in item.children:
        words = text.words(child) if isinstance(child, int) else []
        if words[:1] == ["TAKE"]:
            if "SEL" in words[1:]:
                active = len(takes)
            takes.append([])
        else:
            takes[-1].append(child)
    return takes[0], takes[active]


def _source(take: Sequence[int | Block], text: ProjectText) -> _RppSource | None:
    """Return the source of a take, None where it is empty."""
    blocks = (child for child in take if isinstance(child, Block))
    block = next((child for child in blocks if child.tag == "SOURCE"), None)
    if block is None or len(block.words) < 2 or block.words[1] == "EMPTY":
        return None
    if block.words[1] != "SECTION":
        return _RppSource(block, block.words[1])
    inner = next(block.blocks("SOURCE"), None)
    if inner is None or len(inner.words) < 2:
        return None
    keys = text.keys(block.children)
    reverses = _SECTION_MODES.get(int(text.number(keys, "MODE", 0.0)))
    if reverses == "whole":
        return _RppSource(inner, inner.words[1], is_reversed=True)
    return _RppSource(
        inner,
        inner.words[1],
        is_reversed=reverses is not None,
        section_start_s=text.number(keys, "STARTPOS", 0.0),
        section_length_s=text.number(keys, "LENGTH", 0.0) or None,
    )


def _guid() -> str:
    return f"{{{uuid.uuid4()}}}".upper()
