"""Which sources of a job are microphones of one performance: a kit, an item with microphones."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from daw_bridge.choice import says_drums_itself, says_other
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
_IS_TAKE = "it lies with a kit, but by the name {!r} it is a take of {!r}: --together takes it as a microphone"
_ORDER = (_REQUESTED, _GROUPED, _IN_FOLDER[:-2], _NAMED)  # the surest first


@dataclass(frozen=True, kw_only=True)
class Source:
    """An item to redrum, or several that are one kit."""

    item: Item
    how: str = ""  # why it is a kit
    skipped: str = ""  # why it gets no take

    @property
    def is_sure(self) -> bool:
        """Whether more than the folder of its tracks says that it is a kit."""
        return bool(self.how) and _IN_FOLDER[:-2] not in self.how


def kits(job: Job, items: Sequence[Item], *, together: bool | None) -> list[Source]:
    """Return sources, those that are microphones of one performance as one; in the order of the first of each.

    These overlap in time, lie on different tracks, and are grouped, or lie in one folder, or their tracks have
    microphones' names. What lies with them on a track whose name says another instrument is left out, and so
    are takes that Redrum made of what lies on one of their tracks.

    Args:
        job: what the items are of.
        items: the sources, those of a track that follow one another joined.
        together: True: all that overlap are microphones of one performance; False: none are.

    Raises:
        SettingsError: none overlap though they are said to be together.
    """
    if together is False:
        return [Source(item=item) for item in items]
    links = list(_links(job, items, together=together is True))
    others: dict[int, str] = {}  # why they are left out
    if not together:
        others = dict(_others(job, items))
    members = _connected(len(items), [pair for *pair, _ in links if not others.keys() & set(pair)])
    first_of = {place: places[0] for places in members if len(places) > 1 for place in places}
    whys: dict[int, set[str]] = {}
    beside_kits = set()
    for one, other, why in links:
        if not others.keys() & {one, other}:
            whys.setdefault(first_of[one], set()).add(why)
        elif one in first_of or other in first_of:
            beside_kits |= others.keys() & {one, other}
    found: dict[int, Source] = {}
    for place, *more in members:
        if more:
            kit = _kit([items[place] for place in (place, *more)])
            found[place] = Source(item=kit, how=_sentence(kit, min(sorted(whys[place]), key=_rank)))
        else:
            skipped = others[place] if place in beside_kits else ""
            found[place] = Source(item=items[place], skipped=skipped)
    if together and not any(source.how for source in found.values()):
        raise SettingsError(
            "no two of the items overlap in time on different tracks: they are not of one performance",
            hint="leave out --together",
        )
    return [found[place] for place in sorted(found)]


def _others(job: Job, items: Sequence[Item]) -> Iterator[tuple[int, str]]:
    """Yield the places of items that are no microphones by the names of their tracks, and why."""
    sources = tuple({job.track_of(item).name for item in items})
    made = {result_track_name(name): name for name in sources if name}
    for place, item in enumerate(items):
        track = job.track_of(item)
        if says_other(track):
            yield place, _NOT_DRUMS.format(track.name)
        elif source := next((made[name] for name in made if f"{track.name} ".startswith(f"{name} ")), ""):
            yield place, _IS_TAKE.format(track.name, source)


def _links(job: Job, items: Sequence[Item], *, together: bool) -> Iterator[tuple[int, int, str]]:
    """Yield the places of each two items that are of one kit, and why."""
    groups = [{leaf.group for leaf in item.leaves} - {""} for item in items]
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
            elif why := _why(job.track_of(items[other]), job.track_of(item)):
                yield other, place, why
        playing.append(place)


def _is_at_once(one: Item, other: Item) -> bool:
    shorter_s = min(one.length_s, other.length_s)
    return one.track != other.track and one.overlap_s(other) > _OVERLAP * shorter_s


def _why(one: Track, other: Track) -> str:
    """Return why items on two tracks that overlap are of one kit, "" where the tracks do not say so."""
    common = zip(one.folders, one.folder_ids, strict=False)
    drums = [name for name, own in common if own in other.folder_ids and says_drums_itself(name)]
    if drums:  # in folders of it, too, such as one for each drum
        return _IN_FOLDER.format(drums[0])
    if one.folder_ids and one.folder_ids[-1:] == other.folder_ids[-1:]:
        return _IN_FOLDER.format(one.folders[-1] or "that has no name")
    return _NAMED if _names_microphone(one) and _names_microphone(other) else ""


def _rank(why: str) -> int:
    return next(place for place, beginning in enumerate(_ORDER) if why.startswith(beginning))


@lru_cache(maxsize=4096)  # it is requested for each two items
def _names_microphone(track: Track) -> bool:
    words = [word for name in (track.name, *track.folders[-1:]) for word in name_words(name)]
    return any(re.fullmatch(_MICROPHONES, word) for word in words)


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


def _sentence(kit: Item, how: str) -> str:
    how = f"{len(kit.microphones)} microphones of one performance, as {how}"
    return how if how.endswith(_REQUESTED) else f"{how}; --apart redrums each by itself"
