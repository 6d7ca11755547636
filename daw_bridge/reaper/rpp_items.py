"""What the items of a REAPER project say: their sounds and their MIDI, as they play.

What the lines mean was read off projects of REAPER 4 to 7, as Cockos documents none of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from daw_bridge.reaper.facts import clipped_pan, fade_of, group_of, pan_gain, stretched
from daw_bridge.reaper.rpp_sources import MIDI_SOURCES, MediaFiles, Midi, MidiSources, RppSource, source_of
from daw_bridge.reaper.rpp_text import Block, Keys, ProjectText
from daw_bridge.session import Fade, Item, Note, State, played_notes, short_name
from transform.events import TempoMap

_FIXED_LANES = 2  # the mode of a track whose items lie on lanes, of which some play
_MOST_LANES = 32  # of which it is known whether they play
_ROUNDING_TICKS, _ROUNDING_BEATS = 2.0, 1e-5  # around an item, in which notes are looked at more closely


class ItemReader:
    """Reads the items of a project."""

    def __init__(
        self, text: ProjectText, tracks: Sequence[Block], tempo_map: TempoMap, places: tuple[Path, Path]
    ) -> None:
        """Read items from a text; `places` are the project's file and its folder for media."""
        self._text, self._tracks, self._tempo_map = text, tracks, tempo_map
        self._files = MediaFiles(text, tracks, *places)
        self._midi = MidiSources(text, tracks, self._files)
        self._pan_law = text.number(text.keys(text.root.children), "PANLAW", 1.0)

    def item(self, block: Block, track: int) -> Item:
        """Return the item of a block, as it plays; `track` is the place of its track."""
        text = self._text
        first_take, active_take = _takes(block, text)
        source = _source(active_take, text)
        first, active = text.keys(first_take), text.keys(active_take)
        position_s = text.number(first, "POSITION", 0.0)
        length_s = text.number(first, "LENGTH", 0.0)
        rate = text.number(active, "PLAYRATE", 1.0)
        is_midi = source is not None and source.kind in MIDI_SOURCES
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
            group=group_of(text.number(first, "GROUP", 0.0)),
            channel_mode=int(text.number(active, "CHANMODE", 0.0)),
        )
        if source is None or length_s <= 0:
            return replace(item, state="empty")
        item.check()
        state: State = "ok"
        if is_midi:
            midi = self._midi.of(source.block)
            if isinstance(midi, Midi):
                item = replace(item, notes=self._notes(item, active, midi))
            else:
                item = replace(item, file=midi.file)
                state = midi.state
        else:
            file, state = self._files.find(source.file(text))
            state = "stretched" if state == "ok" and source.is_unclear else state
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
        elif state == "ok" and self._is_silent(block, self._tracks[track]):
            state = "silent lane"
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
        gain = text.number(first, "VOLPAN", 1.0) * volume * pan_gain(pan, law, self._pan_law)
        return gain, clipped_pan(pan)

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

    def _notes(self, item: Item, active: Keys, midi: Midi) -> tuple[Note, ...]:
        text = self._text
        tempo_map = self._tempo_map
        is_own_tempo = midi.bpm is not None
        if midi.bpm is not None:
            tempo_map = TempoMap.constant(midi.bpm)
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


def _source(take: Sequence[int | Block], text: ProjectText) -> RppSource | None:
    """Return the source of a take, None where it is empty."""
    blocks = (child for child in take if isinstance(child, Block))
    block = next((child for child in blocks if child.tag == "SOURCE"), None)
    return None if block is None else source_of(block, text)
