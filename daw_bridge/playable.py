"""What of an item can be redrummed, and what is said of the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from daw_bridge.items import GLUE, open_item
from daw_bridge.media import PROXY_ENDING
from daw_bridge.pairs import Pair
from daw_bridge.performances import joined
from daw_bridge.session import Item, Job
from daw_bridge.take_report import more_items
from transform.errors import AudioError, RedrumError, SettingsError
from transform.mics import check_together
from transform.settings import RenderSettings
from transform.signal import blocks_of

_BLOCK_SAMPLES = 2**18
_LONGEST_SHOWN = 300  # characters of a path

_MISSING_HINTS = {
    False: "bring the file back, or relink the item",
    True: "open the subproject in REAPER and save it: that renders this file",
}

Failure = tuple[Item, RedrumError]  # a part of an item, and why it is left out


def title_of(job: Job, item: Item) -> str:
    """Return what an item is called in a sentence."""
    track = job.track_of(item).name or f"track {item.track + 1}"
    name = item.name or "an item"
    return f"{name}{more_items(len(item.microphones or item.leaves))} at {item.position_s:.2f} s on {track}"


def check_playable(job: Job, pair: Pair) -> None:
    """Raise AudioError for items whose sound cannot be had as the project plays it. A muted rhythm is fine."""
    sources = pair.source.leaves if pair.source.microphones else (pair.source,)
    for item in filter(None, (*sources, pair.rhythm)):
        file = item.file if len(item.file) <= _LONGEST_SHOWN else f"{item.file[:_LONGEST_SHOWN]}..."
        whose = "" if item in sources else f"its rhythm, {title_of(job, item)}: "
        problems = {
            "offline": (f"{whose}its file {file} is missing", _MISSING_HINTS[file.endswith(PROXY_ENDING)]),
            "remote": (
                f"{whose}its file {file} is on a network share, where no project may send Redrum",
                "copy it into the project's folder, or keep the project on that share, too",
            ),
            "stretched": (
                f"{whose}it has stretch markers between which its speed glides, or on a section",
                GLUE,
            ),
            "frozen": (f"{whose}its track is frozen", "unfreeze the track, then try again"),
            "combined": (
                f"{whose}it is a combined region",
                "uncombine or bounce it in Ardour, then try again",
            ),
            "empty": (f"its rhythm, {title_of(job, item)}, is empty", "choose another rhythm"),
        }
        if item.state in problems:
            message, hint = problems[item.state]
            raise AudioError(message, hint=hint)


def check_microphones(settings: RenderSettings) -> None:
    """Raise SettingsError for what cannot be made of microphones of one performance."""
    try:
        check_together(settings)
    except SettingsError as err:
        hint = f"{err.hint}, or redrum each by itself (--apart)"
        raise SettingsError(err.message, hint=hint) from err


def with_original(source: Item, settings: RenderSettings) -> tuple[Item, list[Failure]]:
    """Return a source without those parts of which something is to be retained that cannot be, and these.

    Raises:
        SettingsError: that is all of it.
    """
    if not source.parts:
        for item in source.leaves:
            _check_original(item, settings)
        return source, []
    return _without_failing(source, lambda part: _check_original(part, settings))


def with_sound(source: Item, failed: Sequence[Item]) -> tuple[Item, list[Failure]]:
    """Return a source without those parts whose sound cannot be read to its end, and these.

    Args:
        source: what a take was to be made of.
        failed: parts that are left out already.

    Raises:
        AudioError: that is all of it, or it has no parts.
    """

    def read(part: Item) -> None:
        if part not in failed:
            with open_item(part) as recording:
                for _ in blocks_of(recording, _BLOCK_SAMPLES):
                    pass

    if not source.parts:
        read(source)
        return source, []
    return _without_failing(source, read)


def _without_failing(source: Item, check: Callable[[Item], None]) -> tuple[Item, list[Failure]]:
    """Return a source without the parts that a check fails on, and these; raise its error if all do."""
    usable: list[Item] = []
    failures: list[Failure] = []
    for part in source.parts:
        try:
            check(part)
            usable.append(part)
        except (AudioError, SettingsError) as err:
            failures.append((part, err))
    if not usable:
        raise failures[0][1]
    return (joined(usable) if failures else source), failures


def _check_original(source: Item, settings: RenderSettings) -> None:
    """Raise SettingsError where a take retains some of an original that plays at a speed of its own."""
    if not source.is_at_own_speed and source.keeps_pitch and (settings.mix < 1 or settings.retained):
        how = (
            "is warped" if source.warp_regions else f"plays {source.play_rate:g} times as fast at its own pitch"
        )
        raise SettingsError(
            f"it {how}: nothing of it can be kept", hint=f"leave out --mix and --classes, or {GLUE}"
        )
