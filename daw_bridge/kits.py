"""Which sources of a job are microphones of one performance: a kit, an item with microphones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from daw_bridge.choice import says_drums_itself, says_kit, says_other
from daw_bridge.performances import UNPLAYED, joined
from daw_bridge.session import Item, Job, Track, result_track_name
from transform.errors import SettingsError
from transform.kit_names import name_words

_OVERLAP = 0.5  # of the shorter of two items, that microphones of one performance have in common at least
# Words of the names of tracks and of the folders that they lie in.
_MICROPHONES = (
    r"(kick|snare|tom|hat)s?(drum|mic|in|out|top|bottom|l|r)?|bassdrum|hihats?|hh|(floor|rack)toms?"
    r"|ohs?|oh[lr]|overheads?|rooms?|in|out|top|bottom|bot"
)
_GROUPED, _NAMED = "their items are grouped", "their tracks have microphones' names"
_IN_FOLDER = "their tracks lie in the folder {}"
_REQUESTED = "--together says so"
_NOT_DRUMS = "it lies with a kit, but the name {!r} says no drums: --together takes it as a microphone"
_IS_TAKE = "by the name {!r} it is a take of {}: choose it without that to redrum it"
_ORDER = (_REQUESTED, _GROUPED, _IN_FOLDER[:-2], _NAMED)  # the surest first


@dataclass(frozen=True, kw_only=True)
class Source:
    """An item to redrum, or several that are one kit."""

    item: Item
    how: str = ""  # why it is a kit
    skipped: str = ""  # why it gets no take
    is_sure: bool = False  # more than the folder of its tracks says that it is a kit


def kits(job: Job, items: Sequence[Item], *, together: bool | None) -> list[Source]:
    """Return sources, those that are microphones of one performance as one; in the order of the first of each.

    These overlap in time, lie on different tracks, and are grouped, or lie in one folder, or their tracks have
    microphones' names. What lies with them on a track whose name says another instrument is left out, and so
    is a take that Redrum made of what lies on a track of the others, also where nothing is a kit.

    Args:
        job: what the items are of.
        items: the sources, those of a track that follow one another joined.
        together: True: all that overlap are microphones of one performance; False: none are.

    Raises:
        SettingsError: none overlap though they are said to be together.
    """
    takes = {} if together else dict(_takes(job, items))
    if together is False:
        return [Source(item=item, skipped=takes.get(place, "")) for place, item in enumerate(items)]
    links = list(_links(job, items, together=together is True))
    others: dict[int, str] = {}  # why they are left out of kits
    if not together:
        others = {place: _NOT_DRUMS.format(name) for place, name in _other_names(job, items)} | takes
    inside = [link for link in links if not others.keys() & set(link[:2])]
    members = _connected(len(items), [pair for *pair, _ in inside])
    in_kits = {place for places in members if len(places) > 1 for place in places}
    beside_kits = {place for *pair, _ in links if in_kits & set(pair) for place in pair} & others.keys()
    found: dict[int, Source] = {}
    for place, *more in members:
        if more:
            own = [link for link in inside if link[0] in (place, *more)]
            found[place] = _kit_source([items[n] for n in (place, *more)], _whys(len(items), own))
        else:
            skipped = others[place] if place in beside_kits | takes.keys() else ""
            found[place] = Source(item=items[place], skipped=skipped)
    if together and not in_kits:
        raise SettingsError(
            "no two of the items overlap in time on different tracks: they are not of one performance",
            hint="leave out --together",
        )
    return [found[place] for place in sorted(found)]


def _other_names(job: Job, items: Sequence[Item]) -> Iterator[tuple[int, str]]:
    """Yield the places of items on tracks whose names say another instrument, and the names."""
    for place, item in enumerate(items):
        if says_other(job.track_of(item)):
            yield place, job.track_of(item).name


def _takes(job: Job, items: Sequence[Item]) -> Iterator[tuple[int, str]]:
    """Yield the places of items that are takes of others by the names of their tracks, and why."""
    made = {result_track_name(job.track_of(item).name): job.track_of(item).name for item in items}
    for place, item in enumerate(items):
        name = job.track_of(item).name
        source = next((made[result] for result in made if f"{name} ".startswith(f"{result} ")), None)
        if source is not None:
            yield place, _IS_TAKE.format(name, repr(source) if source else "a track without a name")


def _links(job: Job, items: Sequence[Item], *, together: bool) -> Iterator[tuple[int, int, str]]:
    """Yield the places of each two items that are of one kit, and why."""
    groups = [{leaf.group for leaf in item.leaves} - {""} for item in items]
    kit_folders = {_kit_folder(job.track_of(item)) for item in items} - {""}
    playing: list[int] = []
    for place in sorted(range(len(items)), key=lambda place: items[place].position_s):
        item = items[place]
        if item.state in UNPLAYED:
            continue
        playing = [other for other in playing if items[other].end_s > item.position_s]
        for other in playing:
            if not _is_at_once(item, items[other]):
                continue
            if together:
                yield other, place, _REQUESTED
            elif groups[place] & groups[other]:
                yield other, place, _GROUPED
            elif why := _why(job.track_of(items[other]), job.track_of(item), len(kit_folders)):
                yield other, place, why
        playing.append(place)


def _is_at_once(one: Item, other: Item) -> bool:
    shorter_s = min(one.length_s, other.length_s)
    return one.track != other.track and one.overlap_s(other) > _OVERLAP * shorter_s


def _why(one: Track, other: Track, n_kit_folders: int) -> str:
    """Return why items on two tracks that overlap are of one kit, "" where the tracks do not say so.

    Microphones in different folders of kits are of different kits. What lies in none is of the kit, if there is
    one only.
    """
    common = zip(one.folders, one.folder_ids, strict=False)
    drums = [name for name, own in common if own in other.folder_ids and says_drums_itself(name)]
    if drums:  # in folders of it, too, such as one for each drum
        return _IN_FOLDER.format(drums[0])
    if one.folder_ids and one.folder_ids[-1:] == other.folder_ids[-1:]:
        return _IN_FOLDER.format(one.folders[-1] or "that has no name")
    is_one_kit = n_kit_folders < 2 or _kit_folder(one) == _kit_folder(other)
    return _NAMED if is_one_kit and _names_microphone(one) and _names_microphone(other) else ""


@lru_cache(maxsize=4096)
def _kit_folder(track: Track) -> str:
    """Return the DAW's id of the outermost folder of a track that is a kit's by its name, or ""."""
    for name, own in zip(track.folders, track.folder_ids, strict=False):
        if says_kit(name) and not _is_microphone(name):
            return own
    return ""


def _whys(n_items: int, links: Sequence[tuple[int, int, str]]) -> list[str]:
    """Return why a kit is one: one reason that connects all of it, or else all that do together.

    Args:
        n_items: of the job.
        links: between the items of the kit.
    """
    whys = sorted({why for *_, why in links}, key=_rank)
    size = len({place for *pair, _ in links for place in pair})
    for chosen in [[why] for why in whys] + [whys[:n] for n in range(2, len(whys))]:
        pairs = [pair for *pair, why in links if why in chosen]
        if any(len(places) == size for places in _connected(n_items, pairs)):
            return chosen
    return whys


@lru_cache(maxsize=4096)  # it is requested for each two items
def _names_microphone(track: Track) -> bool:
    return any(_is_microphone(name) for name in (track.name, *track.folders[-1:]))


def _is_microphone(name: str) -> bool:
    return any(re.fullmatch(_MICROPHONES, word) for word in name_words(name))


def _connected(n: int, links: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return the places from 0 to n - 1, each with all that links lead to; by the first of each."""
    root = list(range(n))

    def root_of(place: int) -> int:
        while root[place] != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    for one, other in links:
        first, second = sorted((root_of(one), root_of(other)))
        root[second] = first
    members: dict[int, list[int]] = {}
    for place in range(n):
        members.setdefault(root_of(place), []).append(place)
    return list(members.values())


def _rank(why: str) -> int:
    return next(place for place, beginning in enumerate(_ORDER) if why.startswith(beginning))


def _kit_source(members: Sequence[Item], whys: Sequence[str]) -> Source:
    """Return the source that items are which are one kit for these reasons."""
    kit = _kit(members)
    how = f"{len(kit.microphones)} microphones of one performance, as {' or '.join(whys)}"
    if whys != [_REQUESTED]:
        how += "; --apart redrums each by itself"
    return Source(item=kit, how=how, is_sure=any(_IN_FOLDER[:-2] not in why for why in whys))


def _kit(members: Sequence[Item]) -> Item:
    """Return the item that stands for microphones of one performance; it has the identity of the first."""
    tracks: dict[int, list[Item]] = {}
    for item in sorted(members, key=lambda item: item.track):
        tracks.setdefault(item.track, []).extend(item.leaves)
    microphones = tuple(joined(parts) for parts in tracks.values())
    begin_s = min(mic.position_s for mic in microphones)
    return Item(
        id=microphones[0].id,
        track=microphones[0].track,
        kind="audio",
        name=microphones[0].name,
        position_s=begin_s,
        length_s=max(mic.end_s for mic in microphones) - begin_s,
        is_selected=microphones[0].is_selected,
        file=microphones[0].file,
        keeps_pitch=any(mic.keeps_pitch and not mic.is_at_own_speed for mic in microphones),
        is_launched=microphones[0].is_launched,
        microphones=microphones,
    )
