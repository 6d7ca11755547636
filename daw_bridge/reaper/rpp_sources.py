"""What the takes of a REAPER project play: sections of files, MIDI in the project and beside it, subprojects.

What the lines mean was read off projects of REAPER 4 to 7, as Cockos documents none of it.
"""

from __future__ import annotations

import logging
import os
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from daw_bridge.media import MOST_SEARCHES, PROXY_ENDING, is_on_other_share
from daw_bridge.reaper.rpp_text import Block, ProjectText, excerpt
from daw_bridge.session import State
from transform.errors import RhythmError
from transform.midi_file import DEFAULT_TEMPO_US, read_midi_bytes, read_score
from transform.names import existing_path, same_name

MIDI_SOURCES = ("MIDI", "MIDIPOOL")
_SUBPROJECT = "RPP_PROJECT"
_SECTION_MODES = {2: "section", 3: "whole"}  # both play backwards; with any other, a section plays forwards
_MOST_PARTS = 8  # of a path of another machine, which may lie in the project's folder
_TICKS_PER_BEAT = (1, 1e6)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RppSource:
    """The sound or MIDI of a take: its block, and the values of the sections around it."""

    block: Block
    kind: str  # WAVE, MIDI, ...
    is_reversed: bool = False
    section_start_s: float = 0.0
    section_length_s: float | None = None
    is_unclear: bool = False  # where in its file it lies depends on the length of that

    def file(self, text: ProjectText) -> str:
        """Return the file as the project names it; of a subproject, the sound that is rendered of it."""
        named = text.text(text.keys(self.block.children), "FILE")
        return f"{named}{PROXY_ENDING}" if self.kind == _SUBPROJECT and named else named

    def section(self, start_s: float, length_s: float | None) -> RppSource | None:
        """Return a section of what this plays, None where nothing is left of it."""
        left_s = None if self.section_length_s is None else self.section_length_s - start_s
        lengths = [length for length in (length_s, left_s) if length is not None]
        length = min(lengths) if lengths else None
        if length is not None and length <= 0:
            return None
        if not self.is_reversed:
            return replace(self, section_start_s=self.section_start_s + start_s, section_length_s=length)
        if left_s is None or length is None:  # counted from the end of the file
            return replace(self, is_unclear=self.is_unclear or start_s > 0 or length is not None)
        return replace(self, section_start_s=self.section_start_s + left_s - length, section_length_s=length)


def source_of(block: Block, text: ProjectText) -> RppSource | None:
    """Return the source of a block, through the sections around it; None where it is empty."""
    if len(block.words) < 2 or block.words[1] == "EMPTY":
        return None
    if block.words[1] != "SECTION":
        return RppSource(block, block.words[1])
    inner = next(block.blocks("SOURCE"), None)
    source = None if inner is None else source_of(inner, text)
    if source is None:
        return None
    keys = text.keys(block.children)
    reverses = _SECTION_MODES.get(int(text.number(keys, "MODE", 0.0)))
    if reverses != "whole":
        length_s = text.number(keys, "LENGTH", 0.0) or None
        source = source.section(text.number(keys, "STARTPOS", 0.0), length_s)
    if source is None or reverses is None:
        return source
    return replace(source, is_reversed=not source.is_reversed)


class MediaFiles:
    """Finds the files that a project names, which may have been moved here from another machine."""

    def __init__(self, text: ProjectText, tracks: Sequence[Block], path: Path, media_folder: Path) -> None:
        self._text, self._tracks = text, tracks
        self._path, self._media_folder = path, media_folder
        self.find = cache(self._find)
        self._n_missing = 0

    def _find(self, named: str) -> tuple[str, State]:
        """Return the file that a name means, and whether it is here."""
        if not named:
            return "", "empty"
        slashed = named.replace("\\", "/")
        folder = self._path.parent.absolute()
        for place in self._near(folder / named, folder / slashed):
            if os.path.isfile(place):
                return str(place), "ok"
        if found := self._relinked(folder, slashed):
            _log.warning("%s is not where the project says: %s is taken for it", named, found)
            return str(found), "ok"
        return str(folder / slashed), "remote" if is_on_other_share(named, self._path) else "offline"

    def _near(self, *places: Path) -> list[Path]:
        return [place for place in places if not is_on_other_share(place, self._path)]

    def _relinked(self, folder: Path, slashed: str) -> Path | None:
        """Return the one file of a name that the project means by nothing else, None where there is none."""
        self._n_missing += 1
        if self._n_missing > MOST_SEARCHES:
            return None
        spelled = [existing_path(place) for place in self._near(folder / slashed)]
        if spelled and os.path.isfile(spelled[0]):
            return spelled[0]
        base = slashed.rpartition("/")[2]
        tails = [tail for tail in _tails(slashed) if self._ends[same_name(tail)] < 2]
        below = [self._media_folder / base] * (base in tails) + [folder / tail for tail in tails]
        places = [existing_path(place) for place in self._near(*below)]
        found = [place for place in places if os.path.isfile(place)]
        return found[0] if found and all(place.samefile(found[0]) for place in found) else None

    @cached_property
    def _ends(self) -> Counter[str]:
        """How many of the files that the project names have paths that end like this, by their last parts."""
        texts = (
            self._text.text(self._text.keys(block.children), "FILE") for block in _all_sources(self._tracks)
        )
        return Counter(
            tail for file in {same_name(text.replace("\\", "/")) for text in texts} for tail in _tails(file)
        )


def _tails(slashed: str) -> Iterator[str]:
    """Yield the last parts of a path, one or more, under which its file may lie in the project's folder."""
    parts = slashed.split("/")
    for n in range(1, min(len(parts), _MOST_PARTS) + 1):
        if parts[-n] in ("", ".", "..") or ":" in parts[-n]:
            return
        yield "/".join(parts[-n:])


@dataclass(frozen=True)
class Midi:
    """The MIDI of a source, which many items may play."""

    ticks_per_beat: float
    notes: Sequence[tuple[int, int, int, int]]  # tick, number, velocity, channel; by tick
    end: int  # in ticks
    bpm: float | None = None  # None: the project's tempo

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


class NoMidi(NamedTuple):
    """Why a source has no MIDI, and the file that it names."""

    file: str
    state: State


class MidiSources:
    """Reads the MIDI of sources: of events in the project, pooled or not, and of files beside it."""

    def __init__(self, text: ProjectText, tracks: Sequence[Block], files: MediaFiles) -> None:
        self._text, self._tracks, self._files = text, tracks, files
        self._inside = cache(self._read)
        self._outside = cache(self._read_file)

    def of(self, block: Block) -> Midi | NoMidi:
        """Return the MIDI of a block, muted notes left out."""
        block = self._pool(block)
        keys = self._text.keys(block.children)
        if b"HASDATA" in keys or b"FILE" not in keys:
            return self._inside(block)
        file, state = self._files.find(self._text.text(keys, "FILE"))
        return self._outside(file) if state == "ok" else NoMidi(file, state)

    def _pool(self, block: Block) -> Block:
        """Return the block that has the events of a source: of pooled sources, only the first does."""
        keys = self._text.keys(block.children)
        return block if b"HASDATA" in keys else self._pools.get(self._text.text(keys, "POOLEDEVTS"), block)

    @cached_property
    def _pools(self) -> dict[str, Block]:
        """The first source with events of each pool."""
        pools: dict[str, Block] = {}
        for source in _all_sources(self._tracks):
            keys = self._text.keys(source.children)
            if b"HASDATA" in keys and (pool := self._text.text(keys, "POOLEDEVTS")):
                pools.setdefault(pool, source)
        return pools

    def _read_file(self, file: str) -> Midi | NoMidi:
        """Return the MIDI of a file, which plays at the project's tempo unless its time is in seconds."""
        try:
            score = read_score(read_midi_bytes(Path(file)), Path(file).name)
        except RhythmError as err:
            _log.warning("%s", err)
            return NoMidi(file, "empty")
        notes = [
            (note.tick, note.number, note.velocity, note.channel) for track, _ in score.tracks for note in track
        ]
        end = max((end for _, end in score.tracks), default=0)
        bpm = 60e6 / DEFAULT_TEMPO_US if score.is_in_seconds else None
        return Midi(score.ticks_per_beat, sorted(notes), end, bpm)

    def _read(self, block: Block) -> Midi:
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
        is_own_tempo = text.number(keys, "IGNTEMPO", 0.0) != 0
        bpm = text.number(keys, "IGNTEMPO", 120.0, 2) if is_own_tempo else None
        return Midi(ticks_per_beat, notes, tick, bpm)


def _all_sources(tracks: Sequence[Block]) -> Iterator[Block]:
    """Yield the sources of all items, also those in sections."""
    for track in tracks:
        for item in track.blocks("ITEM"):
            blocks = list(item.blocks("SOURCE"))
            while blocks:
                block = blocks.pop(0)
                yield block
                blocks = [*block.blocks("SOURCE"), *blocks]
