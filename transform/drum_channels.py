"""Which channels of MIDI play drums, by which map, and what of their notes is none of the five classes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from itertools import pairwise

from transform.drum_maps import (
    AUTO_MAPS,
    AUTO_MAPS_ELSEWHERE,
    DRUM_CHANNEL,
    DRUM_MAPS,
    SILENT_NOTES,
    DrumNotes,
    Stroke,
)
from transform.errors import RhythmError
from transform.midi_file import MidiNote, Score

_SECOND_DRUM_CHANNEL = 10  # where devices have a second part of drums
_ALMOST_ALL, _MOST = 0.8, 0.6  # of the notes that are drums, on channels that may play something else
_PLAYED_NOTES = range(21, 109)  # of a piano: samplers are switched with the keys beside them
_SOFTEST_PLAYED = 3  # velocity; keys that switch a sampler are often written softer
_LOWEST_DRUM = 27  # of General MIDI; other maps have hats below, where other samplers have switches
_CLEARLY, _MANY = 0.01, 0.2  # shares of the notes
_GM = DRUM_MAPS["gm"]
_KICKS, _SNARES, _HATS = frozenset({35, 36}), frozenset({38, 40}), frozenset({42, 44, 46})
_RIDES = frozenset({51, 53, 59})
_TOGETHER = 2  # ticks at which a kit strikes hats or rides with kick or snare
_MOST_CLICK_NOTES = 2
_MOST_LISTED = 12


@dataclass(frozen=True)
class DrumPart:
    """The drums of a score."""

    strokes: list[tuple[int, Stroke, int]]  # tick, stroke, velocity
    ends: list[int]  # of the tracks that they are from, in ticks
    notes: list[str] = field(default_factory=list)  # what was decided and left out, a sentence each


@dataclass(frozen=True)
class _Channel:
    """The notes of a channel, moved as requested."""

    notes: Sequence[MidiNote]

    @property
    def numbers(self) -> list[int]:
        return [note.number for note in self.notes]

    def n_mapped(self, drums: Collection[int]) -> int:
        """Return how many notes are in a map."""
        return sum(note.number in drums for note in self.notes)

    def share(self, drums: Collection[int]) -> float:
        """Return the share of the notes that are drums; keys that switch a sampler do not speak against it."""
        others = (note for note in self.notes if note.number not in drums)
        n_others = sum(n.number in _PLAYED_NOTES and n.velocity >= _SOFTEST_PLAYED for n in others)
        n_drums = self.n_mapped(drums)
        return n_drums / (n_drums + n_others) if n_drums else 0.0

    @property
    def is_kit(self) -> bool:
        """Whether it has what no melody has: kick, snare and hats that are struck together."""
        return self.strikes_with(_HATS)

    def strikes_with(self, others: Collection[int]) -> bool:
        """Tell whether it has kick and snare, and strikes others together with them."""
        played = set(self.numbers)
        if not (played & _KICKS and played & _SNARES):
            return False
        ticks = {note.tick for note in self.notes if note.number in others}
        struck = {note.tick for note in self.notes if note.number in _KICKS | _SNARES}
        return len(ticks & struck) >= _TOGETHER

    @property
    def is_click(self) -> bool:
        """Whether it strikes at even times, neither kick nor snare, as a metronome does."""
        played = set(self.numbers)
        ticks = sorted({note.tick for note in self.notes})
        steps = {after - before for before, after in pairwise(ticks)}
        return len(played) <= _MOST_CLICK_NOTES and not played & (_KICKS | _SNARES) and len(steps) == 1


def drums_of(score: Score, name: str, chosen: DrumNotes) -> DrumPart:
    """Return the drum strokes of a score called `name`.

    Without channels of `chosen` they are those of channel 10, of others that the file makes channels of drums,
    and of those that hold what a kit on channel 10 lacks; where none of these has drums, of every channel whose
    notes are drum notes.

    Raises:
        RhythmError: there are none.
    """
    channels = _channels_of(score, chosen.transpose)
    notes: list[str] = []
    maps = _maps_of(channels, score, name, chosen, notes)
    strokes, ends = list[tuple[int, Stroke, int]](), []
    for track, end in score.tracks:
        n_before = len(strokes)
        for note in track:
            if (key := maps.get(note.channel)) is not None:
                stroke = key.get(note.number + chosen.transpose)
                if stroke is not None:
                    strokes.append((note.tick, stroke, note.velocity))
        if len(strokes) > n_before:
            ends.append(end)
    if not strokes:
        raise RhythmError(
            f"{name} holds no drum notes: {_what_is_there(channels)}", hint=_no_drums_hint(channels)
        )
    notes += [*_choice(maps, chosen), *_left_out(channels, maps, chosen.transpose)]
    return DrumPart(strokes, ends, [*score.remarks, *notes])


def _channels_of(score: Score, transpose: int) -> dict[int, _Channel]:
    by_channel: dict[int, list[MidiNote]] = {}
    for notes, _ in score.tracks:
        for note in notes:
            by_channel.setdefault(note.channel, []).append(note._replace(number=note.number + transpose))
    return {channel: _Channel(notes) for channel, notes in sorted(by_channel.items())}


def _maps_of(
    channels: Mapping[int, _Channel], score: Score, name: str, chosen: DrumNotes, notes: list[str]
) -> dict[int, Mapping[int, Stroke]]:
    """Return the map of each channel that plays drums; what was decided is added to `notes`."""
    if chosen.channels:
        named = [channel - 1 for channel in chosen.channels if channel - 1 in channels]
        if not named:
            raise RhythmError(
                f"{name} has no notes on {_listed(channel - 1 for channel in chosen.channels)}: "
                f"{_what_is_there(channels)}",
                hint="name with --channel one that has notes, or leave it out",
            )
        return {channel: _map(channels[channel], chosen, AUTO_MAPS) for channel in named}
    stated = [c for c in channels if c == DRUM_CHANNEL or c in score.drum_channels]
    others = {c: channel for c, channel in channels.items() if c not in stated}
    maps = {c: _map(channels[c], chosen, AUTO_MAPS) for c in stated}
    kits = [c for c, other in others.items() if other.is_kit and other.share(_GM) >= _ALMOST_ALL]
    if kits and maps and all(channels[c].is_click for c in maps):
        notes.append(f"{_listed(maps)} plays a click: the drums are read from {_listed(kits)}")
        return {c: _map(channels[c], chosen, AUTO_MAPS_ELSEWHERE) for c in kits}
    if any(channels[c].n_mapped(key) for c, key in maps.items()):
        for c in _completing(channels, maps, chosen):
            notes.append(f"notes of channel {c + 1} are drums, too; --channel 10 leaves them out")
            maps[c] = _map(channels[c], chosen, AUTO_MAPS_ELSEWHERE)
        return maps
    maps = _maps_elsewhere(others, chosen)
    if maps:
        notes.append(f"there are no drums on channel 10: they are read from {_listed(maps)}")
    return maps


def _maps_elsewhere(others: Mapping[int, _Channel], chosen: DrumNotes) -> dict[int, Mapping[int, Stroke]]:
    """Return the maps of channels whose notes are drum notes though nothing says that they are.

    A map that the user names is obeyed: where it fits no channel well, the one with most of its notes is read.
    """
    maps = {c: _map(other, chosen, AUTO_MAPS_ELSEWHERE) for c, other in others.items()}
    found = {
        c: key
        for c, key in maps.items()
        if others[c].share(key) >= (_MOST if others[c].is_kit else _ALMOST_ALL)
    }
    kits = [c for c in found if others[c].is_kit] or [c for c in found if others[c].strikes_with(_RIDES)]
    if kits:  # then a bass, whose notes are drum notes as well, is none
        found = {c: found[c] for c in kits}
        return found | {c: maps[c] for c in _completing(others, found, chosen)}
    if found or not (chosen.is_given_map and maps):
        return found
    best = max(maps, key=lambda c: others[c].n_mapped(maps[c]))
    return {best: maps[best]} if others[best].n_mapped(maps[best]) else {}


def _completing(
    channels: Mapping[int, _Channel], maps: Mapping[int, Mapping[int, Stroke]], chosen: DrumNotes
) -> list[int]:
    """Return the channels that hold what a kit spread over several lacks on its own.

    That is one drum, kick, snare or hats, that is on no other channel of drums; of channel 11, any drums.
    """
    present = {key[n][0] for c, key in maps.items() for n in channels[c].numbers if n in key}
    completing = []
    for c, channel in channels.items():
        if c in maps:
            continue
        key = _map(channel, chosen, AUTO_MAPS_ELSEWHERE)
        if channel.n_mapped(key) < len(channel.notes):
            continue
        classes = {key[number][0] for number in channel.numbers}
        is_one_drum = len(classes) == 1 and classes <= {"KD", "SD", "HH"} and len(channel.notes) > 1
        if (not classes & present and (is_one_drum or c == _SECOND_DRUM_CHANNEL)) or (
            c == _SECOND_DRUM_CHANNEL and channel.is_kit
        ):
            completing.append(c)
    return completing


def _map(channel: _Channel, chosen: DrumNotes, candidates: Sequence[str]) -> Mapping[int, Stroke]:
    """Return the map to read a channel with: the user's, else General MIDI's unless another explains more.

    One that only adds to General MIDI's is taken for a note or two; one that says of its notes that they are
    other drums needs more evidence than the keys that switch a sampler can give.
    """
    if chosen.is_given_map:
        return chosen.strokes(chosen.drum_map)
    numbers = [note.number for note in channel.notes if note.velocity >= _SOFTEST_PLAYED] or channel.numbers

    def n_explained(name: str) -> int:
        return sum(number in _known(name) for number in numbers)

    least = max(1, math.ceil(_CLEARLY * len(numbers)))
    base = max(filter(_adds_to_gm, candidates), key=n_explained)  # the first of equals: gm
    if n_explained(base) < n_explained("gm") + least:
        base = "gm"
    best = max(candidates, key=n_explained)
    played = [number for number in numbers if number in DRUM_MAPS[best]]
    more = [number for number in played if number not in _known(base)]
    if channel.is_kit or max(more, default=0) < _LOWEST_DRUM:
        least = max(2, math.ceil(_MANY * len(numbers)))
    if more and not channel.is_kit and max(more) < _LOWEST_DRUM:  # such as hats that base takes for percussion
        more = [number for number in played if number not in DRUM_MAPS[base]]
    return DRUM_MAPS[best if n_explained(best) > n_explained(base) and len(more) >= least else base]


def _known(name: str) -> AbstractSet[int]:
    """Return the notes that a map knows, also those that play none of the five classes."""
    return DRUM_MAPS[name].keys() | SILENT_NOTES.get(name, frozenset())


def _adds_to_gm(name: str) -> bool:
    """Tell whether all notes of General MIDI's map play the same class by another."""
    key = DRUM_MAPS[name]
    return all(number in key and key[number][0] == drum_class for number, (drum_class, _) in _GM.items())


def _choice(maps: Mapping[int, Mapping[int, Stroke]], chosen: DrumNotes) -> list[str]:
    """Return a sentence on the map that was found from the notes, if that is not General MIDI's."""
    used = [name for name in AUTO_MAPS[1:] if any(key is DRUM_MAPS[name] for key in maps.values())]
    if chosen.is_given_map or not used:
        return []
    return [f"the notes fit the drum map {', '.join(used)} and are read by it, unless --drum-map gm is given"]


def _left_out(
    channels: Mapping[int, _Channel], maps: Mapping[int, Mapping[int, Stroke]], transpose: int
) -> list[str]:
    """Return a sentence on the notes that are not played, if there are some."""
    counts = Counter(n for c, key in maps.items() for n in channels[c].numbers if n not in key)
    parts = []
    if counts:
        shown = [f"{n - transpose} ({count}x)" for n, count in sorted(counts.items())[:_MOST_LISTED]]
        more = f" and {len(counts) - _MOST_LISTED} others" if len(counts) > _MOST_LISTED else ""
        parts.append(f"notes that are none of the five drums: {', '.join(shown)}{more}")
    if others := [c for c in channels if c not in maps]:
        parts.append(f"{sum(len(channels[c].notes) for c in others)} notes of {_listed(others)}")
    return [f"left out of the rhythm: {'; '.join(parts)}"] if parts else []


def _listed(channels: Iterable[int]) -> str:
    return "channel " + ", ".join(str(channel + 1) for channel in sorted(channels))


def _what_is_there(channels: Mapping[int, _Channel]) -> str:
    if not channels:
        return "it holds no notes at all"
    counts = [
        f"channel {c + 1} has {len(channel.notes)}, from {min(channel.numbers)} to {max(channel.numbers)}"
        for c, channel in channels.items()
    ]
    return "of the notes in it " + "; ".join(counts)


def _no_drums_hint(channels: Mapping[int, _Channel]) -> str:
    if not channels:
        return "export it with its notes"
    fullest = max(channels, key=lambda c: len(channels[c].notes))
    return (
        f"if they are drums, name their channel (--channel {fullest + 1}), what their notes play in a map of "
        "your own (--drum-map FILE.toml, see docs/rhythms.md), or how far a known map is away (--transpose 12)"
    )
