"""Which of the words of a command are recordings, and which is the rhythm that they shall play."""

import os
from collections.abc import Sequence
from pathlib import Path

from daw_bridge.commands.reporting import shell_word
from daw_bridge.commands.streams import STREAM
from transform.errors import AudioError, RhythmError, SettingsError
from transform.names import existing_path, missing_hint
from transform.options import drum_class


def with_rhythm(words: Sequence[str], rhythm: str | None) -> tuple[list[str], str | None]:
    """Return the recordings among the words of a command, and the rhythm, also where it is one of the words.

    Args:
        words: what is given without an option, in any order.
        rhythm: what is given as --rhythm, if anything is.

    Raises:
        RhythmError: a word names neither something on the disk nor a rhythm.
    """
    from transform.library import is_rhythm

    if rhythm or len(words) < 2:
        return list(words), rhythm
    rest = words[1:]
    if len(rest) > 1 and not any(_is_there(word) or Path(word).suffix for word in rest):
        _check_named(" ".join(rest))  # such as: boom bap 90
        return [words[0]], " ".join(rest)
    rhythms = [word for word in words if is_rhythm(word)]
    if len(rhythms) == 1:
        return [word for word in words if word != rhythms[0]], rhythms[0]
    if not rhythms and not _is_there(words[-1]):
        _check_named(words[-1])
    return list(words), None


def check_one(sources: Sequence[str], rhythm: str | None) -> None:
    """Raise an error for more than one recording, or for what is plainly something else than a recording."""
    from transform.library import is_rhythm

    if len(sources) > 1:
        missing = next((source for source in sources if not _is_there(source)), "")
        if missing and rhythm:
            raise AudioError(f"{missing} does not exist", hint=missing_hint(Path(missing)))
        raise SettingsError(f"{len(sources)} recordings are given", hint=_hint_for(sources))
    for source in sources:
        if not _is_there(source) and is_rhythm(source):
            hint = (
                f"write the recording first: {shell_word(rhythm or 'LOOP.wav')} --rhythm {shell_word(source)}"
            )
            raise AudioError(f"{source} is a rhythm", hint=hint)
        if source != STREAM and is_rhythm(source):
            raise AudioError(
                f"{source} is MIDI, which has no sound of its own",
                hint=f"give a recording of drums first, and --rhythm {shell_word(source)}",
            )


def _is_there(word: str) -> bool:
    return word == STREAM or os.path.lexists(existing_path(Path(word)))


def _check_named(word: str) -> None:
    """Raise RhythmError for a word that is no rhythm."""
    from transform.library import resolve_rhythm

    try:
        resolve_rhythm(word)
    except RhythmError as err:
        try:
            drum_class(word)
        except SettingsError:
            raise err from None
        raise RhythmError(
            f"{word} is neither a recording nor a rhythm", hint=f"name several drums in one word: KD,{word}"
        ) from err


def _hint_for(sources: Sequence[str]) -> str:
    return (
        f"if the last is the rhythm, write --rhythm {shell_word(sources[-1])}; if they are microphones of one "
        "performance, add --together; else use `redrum batch`"
    )
