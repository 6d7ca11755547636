"""Which items of a closed project are redrummed: what the user names, or what lies on tracks that say drums."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from daw_bridge.session import Item, Track, is_rhythm_track
from transform.kit_names import name_words, names_drum

# What the names of tracks and folders say, beside the drums themselves; in English, and in its neighbours.
_KITS = r"drums?|drumkit|drumset|kit|beats?|breaks?|breakbeats?|perc|percs|percussion"
_KITS += r"|schlagzeug|trommeln?|batterie|bater[ií]a|batucada"
_DRUMS = rf"{_KITS}|overheads?|ohs?|ohl|ohr|kd|bd|kik|sd|snr|hh|cym|tt"
# Tom's voice is no tom.
_OTHERS = (
    r"vocals?|vox|voice|voices|choir|bgv|guitars?|gtrs?|bass|synths?|keys|piano|organ|strings|brass|horns?"
)
_OTHERS += r"|leads?|pads?|dialogue?|speech|gesang|stimme"


@dataclass(frozen=True)
class Choice:
    """What the user names of a closed project.

    `tracks` is a pattern (`*`, `?`, `[...]`, in any case) of the names of tracks; None: the tracks that say
    drums, or, where `items` are named, all. `items` are numbers, counted through the project from 1, or
    patterns of names; none: all. Where items are to be redrummed `together`, a folder that says drums is taken
    with all its tracks.
    """

    tracks: str | None = "*"
    items: Sequence[str] = ()
    together: bool = False

    @property
    def is_by_name(self) -> bool:
        """Whether the names of the tracks decide."""
        return self.tracks is None and not self.items

    def of(self, numbered: Iterable[tuple[Item, Track]]) -> tuple[list[Item], tuple[str, ...]]:
        """Return the chosen items and those on rhythm tracks, and the names of the tracks that were left out.

        Args:
            numbered: all items of the project in order, each with its track.

        Returns:
            The items, with `is_selected` as they are chosen; and the tracks that hold audio, none of it taken.
        """
        collected: list[Item] = []
        names: dict[int, str] = {}
        taken = set()
        for number, (item, track) in enumerate(numbered, start=1):
            is_rhythm, is_selected = is_rhythm_track(track.name), self._holds(number, item, track)
            if item.kind == "audio" and item.state not in ("empty", "muted"):
                names[item.track] = track.name or f"track {item.track + 1}"
            if is_selected or is_rhythm:
                taken.add(item.track)
                collected.append(replace(item, is_selected=is_selected))
        return collected, tuple(name for place, name in names.items() if place not in taken)

    def _holds(self, number: int, item: Item, track: Track) -> bool:
        if self.is_by_name:
            return says_drums(track) or (self.together and any(map(says_drums_itself, track.folders)))
        named = not self.items or any(
            entry == str(number) or fnmatchcase(item.name.casefold(), entry.casefold()) for entry in self.items
        )
        return named and (self.tracks is None or fnmatchcase(track.name.casefold(), self.tracks.casefold()))


EVERYTHING = Choice()


def says_drums(track: Track) -> bool:
    """Return whether the name of a track says that it holds drums; where it says nothing, that of a folder."""
    own = _says(track.name)
    return any(_says(folder) for folder in track.folders) if own is None else own


def says_drums_itself(name: str) -> bool:
    """Return whether the name of a track or a folder says drums."""
    return _says(name) is True


def says_kit(name: str) -> bool:
    """Return whether the name of a folder says that a whole kit lies in it, not one drum of it."""
    words = name_words(name)
    return not names_drum(words) and any(re.fullmatch(_KITS, word) for word in words)


def says_other(track: Track) -> bool:
    """Return whether the name of a track says that it holds another instrument than drums."""
    return names_other(track.name)


def names_other(name: str) -> bool:
    """Return whether a name says another instrument than drums."""
    return _says(name) is False


def _says(name: str) -> bool | None:
    """Return whether a name says drums; None where it says neither drums nor another instrument."""
    words = name_words(name)
    if any(re.fullmatch(_DRUMS, word) for word in words):
        return True
    if any(re.fullmatch(_OTHERS, word) for word in words):
        return False
    return True if names_drum(words) else None
