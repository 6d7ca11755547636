"""Closed REAPER projects: what is in them, and takes put back into a copy, SONG-redrum.rpp.

A project file is a tree of lines: `<TAG words...` opens a block, `>` closes it. Nothing but new lines is ever
put between those that are there, so that every other byte stays, whatever it means and however it is encoded.

What the lines mean was read off projects of REAPER 4 to 7, as Cockos documents none of it.
"""

from __future__ import annotations

import os
import re
import uuid
from bisect import bisect_left
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from operator import itemgetter
from pathlib import Path

from daw_bridge.media import is_on_other_share
from daw_bridge.reaper.facts import CUSTOM_COLOR
from daw_bridge.session import (
    FinishedTake,
    Item,
    Job,
    Note,
    State,
    Track,
    by_track,
    chooser,
    is_rhythm_track,
    played_notes,
    project_tempo,
    published_media,
    result_track_name,
    short_name,
    with_elements_of,
)
from transform.errors import DawError
from transform.events import TempoMap
from transform.files import check_output, read_bytes, write_bytes_atomic

_SECTION_MODES = {2: "section", 3: "whole"}  # both play backwards; with any other, a section plays forwards
_MIDI_SOURCES = ("MIDI", "MIDIPOOL")
_QUOTES = "\"'`"
_WORD = re.compile(r"""\s*(?:"([^"]*)"?|'([^']*)'?|`([^`]*)`?|([^ ]+))""")
_LARGEST = 1e12  # of all numbers that are read
_MOST_BYTES = 512 * 2**20
_MOST_LINES = 3_000_000  # a hundred megabytes have one million
_MOST_BLOCKS = 1_000_000
_MOST_ITEMS = 100_000
_DEEPEST = 100  # blocks in each other; REAPER's own are below ten
_LONGEST_QUOTE = 80  # characters of a line, in an error
_TICKS_PER_BEAT = (1, 1e6)
_ROUNDING_TICKS, _ROUNDING_BEATS = 2.0, 1e-5  # around an item, in which notes are looked at more closely

_KEYS = frozenset(
    b"CHANMODE FILE HASDATA IGNTEMPO IGUID LENGTH LOOP MODE MUTE NAME PEAKCOL PLAYRATE POOLEDEVTS POSITION "
    b"RECORD_PATH SM SOFFS STARTPOS TEMPO TRACKID".split()
)

_NEW_TRACK = """\
<TRACK {guid}
  NAME {name}
{color}  VOLPAN 1 0 -1 -1 1
  MUTESOLO 0 0 0
  ISBUS 0 0
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
    MUTE 0 0
    SEL 0
    IGUID {item_guid}
    NAME {name}
    VOLPAN 1 0 1 -1
    SOFFS 0
    PLAYRATE 1 1 0 -1 0 0.0025
    CHANMODE 0
    GUID {take_guid}
    <SOURCE WAVE
      FILE {file}
    >
  >
"""

Keys = Mapping[bytes, int]  # lines by the words that they begin with


@dataclass(slots=True, eq=False)
class _Block:
    """A block of a project: its words, and its lines and blocks in order; lines are counted from 0."""

    line: int
    words: list[str]
    children: list[int | _Block] = field(default_factory=list)
    end: int = -1  # the line that closes it

    @property
    def tag(self) -> str:
        return self.words[0]

    def blocks(self, tag: str) -> Iterator[_Block]:
        return (child for child in self.children if isinstance(child, _Block) and child.tag == tag)


class ProjectText:
    """The lines of a project file, parsed, and able to give them back with others inserted."""

    def __init__(self, data: bytes, name: str) -> None:
        """Parse the bytes of a project called `name`.

        Raises:
            DawError: it is no project, or broken; the message names the line.
        """
        self.name = name
        if data.count(b"\n") > _MOST_LINES:
            raise DawError(
                f"{name} has more than {_MOST_LINES:,} lines",
                hint="take the tracks you need into a project of their own",
            )
        self._lines = _split(data)
        self.root = self._parse()
        first = self._lines[0]
        self.line_end = first[len(first.rstrip(b"\r\n")) :] or b"\n"

    def words(self, line: int) -> list[str]:
        """Return the words of a line, quotes taken off."""
        return _words(self._lines[line].decode("utf-8", "surrogateescape"))

    def keys(self, children: Iterable[int | _Block]) -> Keys:
        """Return the first line among `children` that begins with each of the words that are read."""
        keys: dict[bytes, int] = {}
        for child in children:
            if isinstance(child, int):
                word = self._lines[child].split(maxsplit=1)[:1]
                if word and word[0] in _KEYS:
                    keys.setdefault(word[0], child)
        return keys

    def text(self, keys: Keys, key: str, default: str = "") -> str:
        """Return the first value of a line, `default` where there is none."""
        line = keys.get(key.encode())
        words = [] if line is None else self.words(line)
        return words[1] if len(words) > 1 else default

    def number(self, keys: Keys, key: str, default: float, place: int = 1) -> float:
        """Return a number of a line, `default` where the line or the number is missing.

        Raises:
            DawError: it is no number.
        """
        line = keys.get(key.encode())
        return default if line is None else self.number_in(line, self.words(line), place, default)

    def number_in(self, line: int, words: Sequence[str], place: int, default: float | None = None) -> float:
        """Return a number among the words of a line; else as `number`."""
        if place >= len(words) and default is not None:
            return default
        try:
            value = float(words[place])
        except (IndexError, ValueError) as err:
            raise self.broken(line, f"{_excerpt(words)!r} lacks a number") from err
        if not abs(value) <= _LARGEST:
            raise self.broken(line, f"{words[place][:20]} is no number that a project has")
        return value

    def indent(self, line: int) -> bytes:
        """Return the space that a line begins with."""
        text = self._lines[line]
        return text[: len(text) - len(text.lstrip(b" \t"))]

    def with_inserted(self, inserted: Sequence[tuple[int, bytes]]) -> bytes:
        """Return the bytes of the file with others put before lines."""
        lines: list[bytes] = []
        done = 0
        for line, text in sorted(inserted, key=lambda pair: pair[0]):
            lines += [*self._lines[done:line], text]
            done = line
        return b"".join([*lines, *self._lines[done:]])

    def _parse(self) -> _Block:
        if not self._lines or not self._lines[0].removeprefix(BOM_UTF8).startswith(b"<REAPER_PROJECT"):
            raise DawError(
                f"{self.name} is no REAPER project: its line 1 does not begin with <REAPER_PROJECT",
                hint="give a project that REAPER has saved (.rpp)",
            )
        root = _Block(0, ["REAPER_PROJECT", *self.words(0)[1:]])
        open_blocks, n_blocks = [root], 1
        for number in range(1, len(self._lines)):
            line = self._lines[number].strip()
            if not open_blocks:
                if line in (b">",) or line.startswith(b"<"):
                    raise self.broken(number, "it stands after the end of the project")
            elif line == b">":
                open_blocks.pop().end = number
            elif line.startswith(b"<"):
                block = _Block(number, self.words(number))
                block.words[0] = block.words[0][1:]
                open_blocks[-1].children.append(block)
                open_blocks.append(block)
                n_blocks += 1
                if n_blocks > _MOST_BLOCKS or len(open_blocks) > _DEEPEST:
                    raise self.broken(number, f"{n_blocks:,} blocks, {len(open_blocks)} deep, are no project")
            else:
                open_blocks[-1].children.append(number)
        if open_blocks:
            block = open_blocks[-1]
            raise DawError(
                f"{self.name} is cut short: it ends in line {len(self._lines)}, "
                f"and the block <{block.tag[:_LONGEST_QUOTE]} of line {block.line + 1} is never closed",
                hint="take a backup of the project (.rpp-bak), or save it again in REAPER",
            )
        return root

    def broken(self, line: int, what: str) -> DawError:
        """Return the error that a line is not what it should be."""
        return DawError(
            f"{self.name} is broken in line {line + 1}: {what}",
            hint="take a backup of the project (.rpp-bak), or save it again in REAPER",
        )


def _split(data: bytes) -> list[bytes]:
    """Return lines that end in LF: a CR elsewhere is part of its line."""
    lines = data.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _words(line: str) -> list[str]:
    """Return the words of a line: between quotes of one of three kinds, or up to the next space."""
    return [match[match.lastindex or 0] for match in _WORD.finditer(line.strip())]


def _excerpt(words: Sequence[str]) -> str:
    """Return the words of a line as an error names them."""
    return " ".join(words)[:_LONGEST_QUOTE]


def _quoted(text: str) -> str:
    """Return text as one word. No quote can be escaped: where all three are needed, one is replaced."""
    text = " ".join(text.splitlines())
    quote = next((quote for quote in _QUOTES if quote not in text), None)
    if quote is None:
        text, quote = text.replace("`", "'"), "`"
    return f"{quote}{text}{quote}"


@dataclass(frozen=True)
class _RppSource:
    """The sound or MIDI of a take: its block, and the values of a section around it."""

    block: _Block
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

    def __init__(
        self, path: Path, output: Path, is_chosen: Callable[[int, Item, str], bool], *, overwrite: bool
    ) -> None:
        self.path, self.output = path, output
        self._is_chosen, self._overwrite = is_chosen, overwrite
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
        text = self._text
        tracks, items, n_items, n_elements = [], [], 0, 0
        for place, block in enumerate(self._tracks):
            keys = text.keys(block.children)
            name = short_name(text.text(keys, "NAME"))
            guid = block.words[1] if len(block.words) > 1 else text.text(keys, "TRACKID")
            tracks.append(Track(id=guid or str(place), name=name, color=self._color(keys)))
            for item_block in block.blocks("ITEM"):
                n_items += 1
                if n_items > _MOST_ITEMS:
                    raise DawError(
                        f"{self.path.name} has more than {_MOST_ITEMS:,} items",
                        hint="redrum a project with fewer of them",
                    )
                item = self._item(item_block, place)
                n_elements = with_elements_of(item, n_elements)
                item = replace(item, is_selected=self._is_chosen(n_items, item, name))
                if item.is_selected or is_rhythm_track(name):
                    items.append(item)
        return Job(
            daw="rpp",
            project=str(self.path),
            project_id=str(self.path),
            media_folder=str(self._media_folder),
            tempo=self._tempo_map.changes,
            tracks=tuple(tracks),
            items=tuple(items),
        )

    def write_back(self, job: Job, takes: Sequence[FinishedTake]) -> list[Path]:
        """Write the copy of the project with the takes in it; see `Session.write_back`.

        A new track comes directly below its source track. Where the project has sends, which name tracks by
        their place, the new tracks come last instead: else the sends would go elsewhere.
        """
        with published_media(job, takes) as media:
            last = self._tracks[-1].end + 1
            groups = by_track(takes)
            comes_last = any(place > min(groups, default=0) for place in self._sending_tracks())
            inserted = []
            for place, members in groups.items():
                source = self._tracks[place]
                name = result_track_name(job.tracks[place].name)
                color = job.tracks[place].color
                text = self._new_track(name, color, [(takes[n], media[n]) for n in members])
                indent = self._text.indent(source.line)
                lines = text.encode("utf-8", "surrogateescape").removesuffix(b"\n").split(b"\n")
                data = b"".join(indent + line + self._text.line_end for line in lines)
                inserted.append((last if comes_last else source.end + 1, data))
            write_bytes_atomic(self.output, self._text.with_inserted(inserted), overwrite=self._overwrite)
        return media

    def _sending_tracks(self) -> Iterator[int]:
        """Yield the places of the tracks that others receive from."""
        for track in self._tracks:
            for child in track.children:
                if isinstance(child, int) and (words := self._text.words(child))[:1] == ["AUXRECV"]:
                    yield int(self._text.number_in(child, words, 1))

    def _color(self, track: Keys) -> int:
        """Return a track's color, 0 where it has none of its own."""
        color = int(self._text.number(track, "PEAKCOL", 0.0))
        return color if color & CUSTOM_COLOR else 0

    def _new_track(self, name: str, color: int, takes: Sequence[tuple[FinishedTake, Path]]) -> str:
        """Return the lines of a track that holds takes."""
        n_channels = max(take.n_channels for take, _ in takes)
        items = [
            _NEW_ITEM.format(
                position_s=take.source.position_s,
                length_s=take.length_s,
                name=_quoted(take.name),
                file=_quoted(self._reference(file)),
                item_guid=_guid(),
                take_guid=_guid(),
            )
            for take, file in takes
        ]
        return _NEW_TRACK.format(
            guid=_guid(),
            name=_quoted(name),
            color=f"  PEAKCOL {color}\n" if color else "",
            n_channels=max(2, n_channels + n_channels % 2),
            items="".join(items),
        )

    def _reference(self, file: Path) -> str:
        """Return a file as the project names it: from its own folder on where it lies there."""
        try:
            return file.relative_to(self.path.parent).as_posix()
        except ValueError:
            return str(file.absolute())

    def _read_tempo(self) -> tuple[tuple[float, float], ...]:
        text = self._text
        points = []
        for envelope in text.root.blocks("TEMPOENVEX"):
            for child in envelope.children:
                if isinstance(child, int) and (words := text.words(child))[:1] == ["PT"]:
                    at_s, bpm = text.number_in(child, words, 1), text.number_in(child, words, 2)
                    points.append((at_s, bpm, text.number_in(child, words, 3, 0.0) == 0))
        return project_tempo(text.number(self._root_keys, "TEMPO", 120.0), points)

    @cached_property
    def _media_folder(self) -> Path:
        """Where REAPER would record to, where that is a folder on this machine."""
        named = self._text.text(self._root_keys, "RECORD_PATH").replace("\\", "/")
        beside = self.path.parent.absolute()
        folder = beside / named
        if is_on_other_share(folder, self.path) or (":" in named and not folder.is_dir()):
            return beside
        return folder

    def _item(self, block: _Block, track: int) -> Item:
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
            item = replace(
                item,
                file=file,
                is_reversed=source.is_reversed,
                section_start_s=source.section_start_s,
                section_length_s=source.section_length_s,
            )
        if text.number(first, "MUTE", 0.0):
            state = "muted"
        elif b"SM" in active:
            state = "stretched"
        return replace(item, state=state)

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

    def _pool(self, block: _Block) -> _Block:
        """Return the block that has the events of a source: of pooled sources, only the first does."""
        keys = self._text.keys(block.children)
        return block if b"HASDATA" in keys else self._pools.get(self._text.text(keys, "POOLEDEVTS"), block)

    @cached_property
    def _pools(self) -> dict[str, _Block]:
        """The first source with events of each pool."""
        pools: dict[str, _Block] = {}
        sources = (s for track in self._tracks for item in track.blocks("ITEM") for s in item.blocks("SOURCE"))
        for source in sources:
            keys = self._text.keys(source.children)
            if b"HASDATA" in keys and (pool := self._text.text(keys, "POOLEDEVTS")):
                pools.setdefault(pool, source)
        return pools

    def _read_midi(self, block: _Block) -> _Midi:
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
                raise text.broken(line, f"{_excerpt(words)!r} goes back in time")
            return tick + passed

        for child in block.children:
            if isinstance(child, _Block):
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
                raise text.broken(child, f"{_excerpt(words)!r} is no MIDI event") from err
            if status >> 4 == 9 and velocity > 0 and "m" not in words[0].lower():
                notes.append((tick, number & 127, velocity & 127, status & 15))
        return _Midi(keys, ticks_per_beat, notes, tick)


def result_path(path: Path) -> Path:
    """Return where the copy of a project goes that takes are put into."""
    return path.with_name(f"{path.stem}-redrum{path.suffix}")


def open_project(
    path: Path,
    *,
    tracks: str = "*",
    items: Sequence[str] = (),
    output: Path | None = None,
    overwrite: bool = False,
) -> RppSession:
    """Return the session of a closed project.

    Args:
        path: SONG.rpp.
        tracks: a pattern (`*`, `?`, `[...]`, in any case) that the names of the tracks match whose items are
            selected.
        items: which of these items are selected: their numbers, counted through the project from 1, or patterns
            of their take names; none: all.
        output: the project that `write_back` makes; None: SONG-redrum.rpp beside it.
        overwrite: replace `output` if it exists.

    Raises:
        DawError: the project cannot be read, is broken, or is its own output.
        OutputError: `output` exists and is not to be overwritten, or cannot be written.
    """
    output = output or result_path(path)
    if os.path.abspath(output) == os.path.abspath(path) or (output.exists() and output.samefile(path)):
        raise DawError(f"{path} would replace itself", hint="give the result another name")

    session = RppSession(path, output, chooser(tracks, items), overwrite=overwrite)
    check_output(output, overwrite=overwrite)
    return session


def _takes(item: _Block, text: ProjectText) -> tuple[list[int | _Block], list[int | _Block]]:
    """Return the lines and blocks of an item's first take, among them the item's own, and of its active one."""
    takes: list[list[int | _Block]] = [[]]
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


def _source(take: Sequence[int | _Block], text: ProjectText) -> _RppSource | None:
    """Return the source of a take, None where it is empty."""
    blocks = (child for child in take if isinstance(child, _Block))
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
