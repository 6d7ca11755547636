"""Drum maps, and which notes of MIDI are drums.

The drum maps give the class, one of five, that a note number plays; notes of a map that play none of them (hand
percussion, samples of a rack) are left out, which is said. Where the facts come from:
`gm`: the percussion key map of General MIDI. `roland-td`: the factory notes of TD-11, TD-17 and TD-50, the map
of the Groove MIDI Dataset. `ezdrummer`: the MIDI layout of EZdrummer 2 and Superior Drummer 3, which is General
MIDI with more hi-hats below and above; single libraries differ. `addictive`: XLN's keymap of Addictive Drums 2
(its freely assigned "flexi" pieces play no class). `ableton`: the 16 pads from C1 = 36, which the kits shipped
with Live fill in the order of General MIDI; what lies on the pads of a rack is its maker's choice, so this one
is the usual case and no more, and the upper pads are the least certain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from transform.errors import SettingsError
from transform.events import ARTICULATIONS, TOM_HEIGHTS
from transform.toml import read_toml

Stroke = tuple[str, str]  # class, articulation

DRUM_CHANNEL = 9  # "channel 10" to musicians
AUTO = "auto"
OWN_MAP_ENDING = ".toml"
_N_CHANNELS = 16
_MOST_SEMITONES = 127


def _strokes(drum_class: str, notes: Iterable[int], articulation: str = "") -> dict[int, Stroke]:
    return {note: (drum_class, articulation) for note in notes}


_GM = {
    **_strokes("KD", (35, 36)),
    **_strokes("SD", (37,), "sidestick"),
    **_strokes("SD", (38, 40)),
    **_strokes("SD", (39,), "clap"),
    **{note: ("TT", height) for note, height in zip((41, 43, 45, 47, 48, 50), TOM_HEIGHTS, strict=True)},
    **_strokes("HH", (42,), "closed"),
    **_strokes("HH", (44,), "pedal"),
    **_strokes("HH", (46,), "open"),
    **_strokes("CY", (49, 57), "crash"),
    **_strokes("CY", (51, 59), "ride"),
    **_strokes("CY", (52,), "china"),
    **_strokes("CY", (53,), "bell"),
    **_strokes("CY", (55,), "splash"),
}
DRUM_MAPS: Mapping[str, Mapping[int, Stroke]] = {
    "gm": _GM,
    "roland-td": {
        **_GM,
        **_strokes("HH", (22,), "closed"),  # edge
        **_strokes("HH", (26,), "open"),  # edge
        **_strokes("TT", (43, 58), "low"),  # three toms, each with its rim
        **_strokes("TT", (45, 47), "mid"),
        **_strokes("TT", (48, 50), "high"),
    },
    "ableton": {
        **_strokes("KD", (36,)),
        **{note: _GM[note] for note in (*range(37, 42), 43, 45, 46, 47, 48, 49, 50, 51)},
        **_strokes("HH", (42, 44), "closed"),
    },
    "ezdrummer": {
        **_strokes("KD", (35, 36)),
        **_strokes("SD", (37,), "sidestick"),
        **_strokes("SD", (38, 39, 40, 69, 71, 76)),
        **{note: _GM[note] for note in (41, 43, 45, 47, 48)},
        **_strokes("TT", (72, 73, 74, 75, 77, 78, 79, 80, 81, 82)),
        **_strokes("HH", (11, 22, 42, 61, 62, 63, 65), "closed"),
        **_strokes("HH", (12, 13, 14, 15, 16, 17, 24, 25, 26, 46, 60, 64), "open"),
        **_strokes("HH", (10, 21, 23, 44), "pedal"),
        **{note: _GM[note] for note in (49, 51, 53, 57, 59)},
        **_strokes("CY", (52, 55, 116)),
        **_strokes("CY", (50, 54, 56, 58, 83)),  # struck and muted at once
    },
    "addictive": {
        **_strokes("KD", (36,)),
        **_strokes("SD", (26, 28, 29, 30, 31, 32, 33, 34, 35, 37, 38, 39, 40, 41, 42, 43, 44)),
        **_strokes("TT", (65, 66), "floor"),  # its fourth tom; of each, head and rim
        **_strokes("TT", (67, 68), "low"),
        **_strokes("TT", (69, 70), "mid"),
        **_strokes("TT", (71, 72), "high"),
        **_strokes("HH", (49, 50, 51, 52, 53), "closed"),
        **_strokes("HH", (54, 55, 56, 57, 58), "open"),
        **_strokes("HH", (48, 59), "pedal"),
        **_strokes("CY", (60, 62, 84, 86), "ride"),
        **_strokes("CY", (61, 85), "bell"),
        **_strokes("CY", (45, 46, 77, 79, 81, 89, 91, 93)),
    },
}
# Notes that a map knows and that play none of the five classes: they do not speak against the map. General
# MIDI's vibraslap (58) is missing on purpose: in files of drums it nearly always is Roland's tom rim.
SILENT_NOTES: Mapping[str, frozenset[int]] = {
    "gm": frozenset({*range(27, 35), 54, 56, *range(60, 88)}),
    "roland-td": frozenset({27, 28, 54, 56}),
    "addictive": frozenset({47, 63, 73, 74, 75, 76, 78, 80, 82, 87, 90, 92, 94, *range(96, 104)}),
}
# A rack's pads are among General MIDI's notes, so that its map never explains more.
AUTO_MAPS = ("gm", "roland-td", "ezdrummer", "addictive")
# On channels not meant for drums a melody must not pass; Addictive's map covers almost every note.
AUTO_MAPS_ELSEWHERE = ("gm", "roland-td", "ezdrummer")
GM_NOTES: Mapping[Stroke, int] = {  # what is written, and the keys of kits
    ("KD", ""): 36,
    ("SD", ""): 38,
    ("SD", "sidestick"): 37,
    ("SD", "clap"): 39,
    ("SD", "rim"): 40,
    ("SD", "brush"): 38,
    ("TT", ""): 45,
    ("TT", "floor"): 41,
    ("TT", "low"): 43,
    ("TT", "low-mid"): 45,
    ("TT", "mid"): 47,
    ("TT", "high-mid"): 48,
    ("TT", "high"): 50,
    ("HH", ""): 42,
    ("HH", "closed"): 42,
    ("HH", "pedal"): 44,
    ("HH", "open"): 46,
    ("CY", ""): 49,
    ("CY", "crash"): 49,
    ("CY", "ride"): 51,
    ("CY", "bell"): 53,
    ("CY", "china"): 52,
    ("CY", "splash"): 55,
}


@dataclass(frozen=True)
class DrumNotes:
    """Which notes of MIDI are drums, and what they play."""

    drum_map: str = AUTO  # a name in DRUM_MAPS, or the file of a map of one's own
    channels: tuple[int, ...] = ()  # 1..16, whose notes are drums; none: found from the notes
    transpose: int = 0  # semitones that notes are moved by before a map is applied
    own_map: tuple[tuple[int, Stroke], ...] = ()  # what is in the file

    def __post_init__(self) -> None:
        if not (self.drum_map == AUTO or self.own_map or self.drum_map in DRUM_MAPS):
            raise SettingsError(
                f"{self.drum_map!r} is no drum map",
                hint=f"the drum maps are {AUTO}, {', '.join(DRUM_MAPS)}, or a .toml file of your own",
            )
        if not all(1 <= channel <= _N_CHANNELS for channel in self.channels):
            raise SettingsError(
                f"there is no MIDI channel {next(c for c in self.channels if not 1 <= c <= _N_CHANNELS)}",
                hint="give channels from 1 to 16, as --channel 10 or --channel 10,11",
            )
        if not -_MOST_SEMITONES <= self.transpose <= _MOST_SEMITONES:
            raise SettingsError(
                f"no note can be moved by {self.transpose} semitones", hint="give --transpose -127 to 127"
            )

    @classmethod
    def of(cls, drum_map: str, channels: str | None = None, transpose: int = 0) -> Self:
        """Return what the options --drum-map, --channel and --transpose stand for.

        Raises:
            SettingsError: one of them stands for nothing, or the file of a map cannot be used.
        """
        own_map = _read_map(Path(drum_map)) if drum_map.lower().endswith(OWN_MAP_ENDING) else ()
        try:
            numbers = tuple(sorted({int(text) for text in (channels or "").split(",") if text.strip()}))
        except ValueError as err:
            raise SettingsError(
                f"{channels!r} names no MIDI channels", hint="give numbers from 1 to 16, as --channel 10,11"
            ) from err
        return cls(drum_map, numbers, transpose, own_map)

    @property
    def is_given_map(self) -> bool:
        """Whether the user names a map."""
        return self.drum_map != AUTO

    def strokes(self, name: str) -> Mapping[int, Stroke]:
        """Return what the notes of a map play; `name` is one in DRUM_MAPS or that of the own map."""
        return dict(self.own_map) if self.own_map else DRUM_MAPS[name]

    def identity(self) -> str | dict[str, object]:
        """Return what tells these from others, as JSON has it: a name alone where nothing else is chosen."""
        if not (self.channels or self.transpose or self.own_map):
            return self.drum_map
        return {
            "map": [[number, *stroke] for number, stroke in self.own_map] or self.drum_map,
            "channels": list(self.channels),
            "transpose": self.transpose,
        }


ANY_DRUMS = DrumNotes()  # whatever is found in the notes


def _read_map(path: Path) -> tuple[tuple[int, Stroke], ...]:
    """Return the notes of a file of one's own, and what each plays.

    Raises:
        SettingsError: it cannot be read, or a line of it is no note with a class.
    """
    hint = 'a drum map has lines such as 36 = "KD", 42 = "HH closed" (docs/rhythms.md)'
    try:
        lines = read_toml(path)
    except OSError as err:
        raise SettingsError(f"{path} cannot be read: {err.strerror or err}", hint="check the path") from err
    except ValueError as err:
        raise SettingsError(f"{path} is no TOML file: {err}", hint=hint) from err
    strokes: dict[int, Stroke] = {}
    for key, value in lines.items():
        drum_class, _, articulation = value.strip().partition(" ") if isinstance(value, str) else ("", "", "")
        drum_class, articulation = drum_class.upper(), articulation.strip().lower()
        is_note = len(key) <= 3 and key.isdecimal() and int(key) <= 127
        if not is_note or articulation not in ARTICULATIONS.get(drum_class, ()):
            raise SettingsError(f"{path}: {key[:20]} = {str(value)[:40]!r} is no note of a drum", hint=hint)
        strokes[int(key)] = (drum_class, articulation)
    if not strokes:
        raise SettingsError(f"{path} holds no notes", hint=hint)
    return tuple(sorted(strokes.items()))
