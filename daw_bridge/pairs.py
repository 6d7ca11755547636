"""Who is source and who is rhythm of a job; what is one performance is one source."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from daw_bridge.kits import Source, kits
from daw_bridge.performances import joined, performances
from daw_bridge.session import CLOSED, OVERLAP_S, Item, Job, is_rhythm_track
from transform.errors import DawError, SettingsError

_MOST_NAMES = 8  # of tracks, in an error


@dataclass(frozen=True)
class Pair:
    """A source and the item that is its rhythm; None: the rhythm that the user named."""

    source: Item
    rhythm: Item | None
    how: str = ""  # why several items are microphones of one performance
    skipped: str = ""  # why there is no take


def pair_items(
    job: Job, *, has_rhythm: bool, is_on_own_track: bool = False, together: bool | None = None
) -> list[Pair]:
    """Return each source with its rhythm.

    Every selected audio item is a source; those of a track that follow one another are one (`performances`),
    and so are the microphones of one performance (`kits`), as `together` has it there.
    The rhythm is the one that the user named (`has_rhythm`); else a selected MIDI item; else an item on a track
    whose name starts with "rhythm" or "target"; else, of two sources, the lower one. Of several, each source
    gets the one that overlaps it longest, or else the first; one of several items gets all of that one's track
    that overlap it. Where the rhythm `is_on_own_track`, it is a MIDI item on the source's track, nothing else.

    Raises:
        DawError: no audio item is selected, or a closed project has none.
        SettingsError: there is no rhythm for a source, or no items are together that are said to be.
    """
    chosen = [item for item in job.items if item.is_selected]
    rhythms: list[Item] = []
    if not (has_rhythm or is_on_own_track):
        rhythms = [item for item in chosen if item.kind == "midi"]
        rhythms = rhythms or [item for item in job.items if is_rhythm_track(job.track_of(item).name)]
    taken = {id(item) for item in rhythms}
    audio = (item for item in chosen if item.kind == "audio" and id(item) not in taken)
    items = performances(audio, job.tempo_map)
    sources = kits(job, items, together=together)
    if not sources:
        raise _no_source(job)
    if is_on_own_track:
        return list(_pairs_on_own_tracks(job, sources))
    if not (has_rhythm or rhythms):
        if len(items) == 2 and not sources[0].is_sure:  # of two in a folder, one is the rhythm
            sources = kits(job, items, together=False)
        is_pair = len(sources) == 2 and not any(source.skipped for source in sources)
        if is_pair and sources[0].item.track != sources[1].item.track:
            rhythms = [max(sources, key=lambda source: source.item.track).item]
            sources = [source for source in sources if source.item is not rhythms[0]]
    if has_rhythm:
        return [Pair(source.item, None, source.how, source.skipped) for source in sources]
    if not rhythms:
        raise SettingsError(
            "nothing says which rhythm to play",
            hint="name a rhythm (--rhythm), select a MIDI item too, or put an item on a track called rhythm",
        )
    find = _finder(rhythms)
    return [Pair(source.item, find(source.item), source.how, source.skipped) for source in sources]


def _no_source(job: Job) -> DawError:
    """Return the error that a job has nothing to redrum."""
    if job.daw not in CLOSED:
        return DawError(
            "no audio item is selected", hint="select the drum recordings to redrum, then try again"
        )
    name = Path(job.project).name
    if names := list(dict.fromkeys(job.left_out)):
        shown = ", ".join(names[:_MOST_NAMES]) + ", ..." * (len(names) > _MOST_NAMES)
        return DawError(
            f"no audio of {name} is chosen, it lies on: {shown}",
            hint="name the tracks of its drums, as in --tracks 'drum*'",
        )
    return DawError(
        f"{name} holds no audio that could be redrummed",
        hint="record its drums to audio in the DAW, or choose others with --tracks and --items",
    )


def _pairs_on_own_tracks(job: Job, sources: Sequence[Source]) -> Iterator[Pair]:
    """Yield sources, each with the MIDI item on its own track that overlaps it longest, or else the first.

    That of microphones lies on the track of one of them, the highest that has one.
    """
    midi: dict[int, list[Item]] = {}
    for item in job.items:
        if item.kind == "midi":
            midi.setdefault(item.track, []).append(item)
    finders = {track: _finder(items) for track, items in midi.items()}
    for source in sources:
        item = source.item
        own = [mic.track for mic in item.microphones or (item,) if mic.track in finders]
        if source.skipped:
            yield Pair(item, None, source.how, source.skipped)
            continue
        if not own:
            name = job.track_of(item).name or f"track {item.track + 1}"
            raise SettingsError(
                f"there is no MIDI item on {name}",
                hint="put the rhythm as a MIDI item on the track of its source",
            )
        yield Pair(item, finders[own[0]](item), source.how)


def _finder(items: Sequence[Item]) -> Callable[[Item], Item]:
    """Return what finds, of these, the rhythm of a source."""
    begins_s = np.array([item.position_s for item in items])
    ends_s = np.array([item.end_s for item in items])

    def find(source: Item) -> Item:  # all at once: a project has thousands of each
        common_s = np.minimum(ends_s, source.end_s) - np.maximum(begins_s, source.position_s)
        longest = items[int(np.argmax(np.where(common_s > OVERLAP_S, common_s, 0.0)))]
        beside = np.flatnonzero(common_s > OVERLAP_S).tolist() if len(source.leaves) > 1 else []
        along = [items[place] for place in beside]
        along = [item for item in along if item.track == longest.track and item.state in ("ok", "muted")]
        return joined(along or [longest])

    return find
