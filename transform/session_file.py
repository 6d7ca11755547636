"""A session of the editor as a file: which recording, what was detected in it, what plays.

It is JSON, which anybody may have written: what it may cost to read is bounded, and every value is checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

from transform.audio import Recording
from transform.errors import AudioError, RedrumError, SettingsError
from transform.events import MOST_TEMPI, Rhythm, TempoMap
from transform.files import read_bytes, sha256_of, write_bytes_atomic
from transform.options import options_of
from transform.settings import RenderSettings
from transform.signal import blocks_of
from transform.strokes import MOST_STROKES, Stroke, in_order

SCHEMA = 1
Mode = Literal["edit", "replay"]

_MOST_BYTES = 48 * 2**20
_BLOCK_SAMPLES = 2**18
_LONGEST_NAME, _LONGEST_TEXT = 255, 80
_MOST_SAMPLES, _RATES_HZ = 2**40, (1_000, 1_000_000)
_LONGEST_S = 86_400.0
_LARGEST = 1e15  # of all numbers: no double of more is exact
_BPM, _METRES = (1.0, 1000.0), (1.0, 64.0)
# Not `kit_from`: a stranger's file names no other files.
_SETTINGS = frozenset(options_of(RenderSettings)) - {"kit_from"}
_BY_CLASS, _LISTS, _FLAGS = {"gain_db", "sensitivity"}, {"classes"}, {"tune_toms"}
_TEMPI = {"source_bpm", "rhythm_bpm", "bpm"}  # which may be unknown
_KEYS = {"schema", "source", "mode", "detected", "played"}
_KEYS |= {"tempo", "metre", "downbeat_s", "length_s", "settings"}
_AGAIN = "export the session again, or take another copy of the file"


@dataclass(frozen=True, kw_only=True)
class SourceFacts:
    """What tells a recording from all others."""

    sha256: str  # of its file, or of its samples where it is in none
    name: str
    n_samples: int
    sample_rate: int

    @classmethod
    def of(cls, recording: Recording) -> SourceFacts:
        """Return those of a recording.

        Raises:
            AudioError: its file cannot be read.
        """
        return cls(
            sha256=_sha256_of(recording),
            name=recording.name[:_LONGEST_NAME],
            n_samples=recording.n_samples,
            sample_rate=recording.sample_rate,
        )

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return self.n_samples / self.sample_rate


@dataclass(frozen=True, kw_only=True)
class EditSession:
    """What an editor was left with.

    In the file `beats_per_bar` is called metre, a tempo that never changes is a number, and a stroke has id,
    class, onset_s, velocity and articulation, and `like` where it is a copy.
    """

    source: SourceFacts
    detected: tuple[Stroke, ...]
    played: tuple[Stroke, ...]
    mode: Mode = "edit"
    tempo: tuple[tuple[float, float], ...] | None = None  # (beat, BPM), each until the next; None: not known
    beats_per_bar: float = 4.0
    downbeat_s: float = 0.0  # where beat 0 is, of the first bar; it may lie before the recording
    length_s: float | None = None  # of a replay; None: the source's
    settings: RenderSettings = field(default_factory=RenderSettings)

    def __post_init__(self) -> None:
        """Raise RhythmError or SettingsError for what no session has."""
        if self.mode not in get_args(Mode):
            raise SettingsError(f"the mode is {self.mode!r:.80}; it must be edit or replay")
        if len(self.tempo or ()) > MOST_TEMPI:
            raise SettingsError(f"the tempo changes more than {MOST_TEMPI:,} times")
        for name, value, (least, most) in (
            *(("tempo", bpm, _BPM) for _, bpm in self.tempo or ()),
            ("metre", self.beats_per_bar, _METRES),
            ("downbeat", self.downbeat_s, (-_LONGEST_S, _LONGEST_S)),
            ("length", self.length_s, (1e-3, _LONGEST_S)),
        ):
            if value is not None and not least <= value <= most:
                raise SettingsError(f"the {name} is {value}; it must lie between {least:g} and {most:g}")
        assert self.tempo_map is None or self.tempo_map.changes  # raises RhythmError where it is none
        _check_strokes(self.detected, self.source.duration_s, "detected")
        _check_strokes(self.played, self._end_s, "played")

    @cached_property
    def tempo_map(self) -> TempoMap | None:
        """The tempo over beats, from the downbeat on; None where it is not known."""
        return None if self.tempo is None else TempoMap(self.tempo)

    @property
    def _end_s(self) -> float:
        """Where what plays ends."""
        length_s = self.length_s if self.mode == "replay" else None
        return length_s or self.source.duration_s

    def played_rhythm(self) -> Rhythm:
        """Return what plays as a rhythm that begins with the result, so that both stay together.

        Raises:
            RhythmError: it has more strokes than anybody plays.
        """
        tempo_map = self.tempo_map
        if tempo_map is not None:
            tempo_map = tempo_map.starting_at(tempo_map.beats_at(-self.downbeat_s))
        events = tuple(stroke.event() for stroke in self.played)
        return Rhythm(events, self._end_s, tempo_map, self.source.name, self.beats_per_bar)

    def check_source(self, recording: Recording) -> None:
        """Raise SettingsError unless this session is of a recording."""
        source, facts = self.source, SourceFacts.of(recording)
        if facts.sha256 != source.sha256:
            raise SettingsError(
                f"the session was made of another recording, {source.name!r}, not of {recording.name!r}",
                hint="give the recording that was edited, unchanged",
            )
        for what, stated, found in (
            ("samples", source.n_samples, facts.n_samples),
            ("samples a second", source.sample_rate, facts.sample_rate),
        ):
            if stated != found:
                raise SettingsError(
                    f"the session says that {recording.name!r} has {stated:,} {what}; it has {found:,}",
                    hint=_AGAIN,
                )


def read_session(path: Path) -> EditSession:
    """Return the session in a file.

    Raises:
        SettingsError: it cannot be read, is no session, is damaged or of a newer version.
    """
    try:
        text = read_bytes(path, most=_MOST_BYTES)
        data = json.loads(text, parse_constant=_refused, object_pairs_hook=_without_repeats)
        return _session_of(data)
    except OSError as err:
        raise SettingsError(
            f"{path} cannot be read: {err.strerror or err}", hint="give a session file"
        ) from err
    except RecursionError as err:
        raise SettingsError(
            f"{path} is no session: its values lie too deep in each other", hint=_AGAIN
        ) from err
    except RedrumError as err:
        raise SettingsError(f"{path} is no usable session: {err.message}", hint=err.hint or _AGAIN) from err
    except ValueError as err:
        raise SettingsError(f"{path} is no session: {str(err)[:200]}", hint=_AGAIN) from err


def write_session(path: Path, session: EditSession, *, overwrite: bool = False) -> None:
    """Write a session to a file that appears whole or not at all.

    Raises:
        OutputError: the file exists and `overwrite` is not set, or it cannot be written.
    """
    text = json.dumps(session_json(session), ensure_ascii=True, indent=1)
    write_bytes_atomic(path, text.encode("ascii") + b"\n", overwrite=overwrite)


def session_json(session: EditSession) -> dict[str, Any]:
    """Return what is written of a session."""
    source, settings = session.source, session.settings
    return {
        "schema": SCHEMA,
        "source": {f.name: getattr(source, f.name) for f in fields(source)},
        "mode": session.mode,
        "tempo": _tempo_json(session.tempo),
        "metre": session.beats_per_bar,
        "downbeat_s": session.downbeat_s,
        "length_s": session.length_s,
        "settings": {
            f.name: _plain(getattr(settings, f.name))
            for f in fields(settings)
            if f.name in _SETTINGS and getattr(settings, f.name) != getattr(RenderSettings(), f.name)
        },
        "detected": [stroke_json(stroke) for stroke in session.detected],
        "played": [stroke_json(stroke) for stroke in session.played],
    }


def stroke_json(stroke: Stroke) -> dict[str, str | float]:
    """Return a stroke as files and pages have it: `like` is there only where it is a copy."""
    entry: dict[str, str | float] = {
        "id": stroke.id,
        "class": stroke.drum_class,
        "onset_s": stroke.onset_s,
        "velocity": stroke.velocity,
        "articulation": stroke.articulation,
    }
    return entry | {"like": stroke.like} if stroke.like else entry


def stroke_of(data: object) -> Stroke:
    """Return the stroke in what JSON holds, the inverse of `stroke_json`; the articulation may be missing too.

    Raises:
        ValueError: it is none.
        RhythmError: a field is not possible.
    """
    entry = _object(data, "a stroke", {"id", "class", "onset_s", "velocity", "articulation", "like"})
    return Stroke(
        id=_text(entry.get("id"), "the id of a stroke"),
        drum_class=_text(entry.get("class"), "the class of a stroke"),
        onset_s=_number(entry.get("onset_s"), "the onset of a stroke"),
        velocity=_number(entry.get("velocity"), "the velocity of a stroke"),
        articulation=_text(entry.get("articulation", ""), "the articulation of a stroke"),
        like=_text(entry.get("like", ""), "what a stroke is like"),
    )


def _session_of(data: object) -> EditSession:
    schema = _object(data, "a session").get("schema")
    if type(schema) is int and schema > SCHEMA:
        raise SettingsError("it is of a newer version of Redrum", hint="update Redrum")
    if type(schema) is not int or schema != SCHEMA:  # true is 1, too
        raise ValueError("it states no version that is known")
    entry = _object(data, "a session", _KEYS)
    return EditSession(
        source=_source_of(entry.get("source")),
        mode=cast(Mode, _text(entry.get("mode", "edit"), "the mode")),
        detected=_strokes_of(entry.get("detected"), "detected"),
        played=_strokes_of(entry.get("played"), "played"),
        tempo=_tempo_of(entry.get("tempo")),
        beats_per_bar=_number(entry.get("metre", 4.0), "the metre"),
        downbeat_s=_number(entry.get("downbeat_s", 0.0), "the downbeat"),
        length_s=_number_or_none(entry.get("length_s"), "the length"),
        settings=_settings_of(entry.get("settings", {})),
    )


def _tempo_json(tempo: Sequence[tuple[float, float]] | None) -> object:
    """Return a tempo as files have it: a number where it never changes."""
    return tempo[0][1] if tempo is not None and len(tempo) == 1 else tempo


def _tempo_of(data: object) -> tuple[tuple[float, float], ...] | None:
    """Return the tempo of a session, which may be a number, a list of [beat, BPM], or not known."""
    if data is None:
        return None
    if not isinstance(data, list):
        return ((0.0, _number(data, "the tempo")),)
    if len(data) > MOST_TEMPI or not all(isinstance(change, list) and len(change) == 2 for change in data):
        raise ValueError(f"the tempo is no list of at most {MOST_TEMPI:,} changes [beat, BPM]")
    return tuple((_number(beat, "a beat of the tempo"), _number(bpm, "a tempo")) for beat, bpm in data)


def _source_of(data: object) -> SourceFacts:
    entry = _object(data, "the source", {f.name for f in fields(SourceFacts)})
    sha256 = _text(entry.get("sha256"), "the sha256 of the source")
    if len(sha256) != 64 or set(sha256) - set("0123456789abcdef"):
        raise ValueError("the sha256 of the source is none")
    return SourceFacts(
        sha256=sha256,
        name=_text(entry.get("name"), "the name of the source", _LONGEST_NAME),
        n_samples=_whole(entry.get("n_samples"), "the length of the source", (1, _MOST_SAMPLES)),
        sample_rate=_whole(entry.get("sample_rate"), "the rate of the source", _RATES_HZ),
    )


def _strokes_of(data: object, what: str) -> tuple[Stroke, ...]:
    if not isinstance(data, list):
        raise ValueError(f"it has no list of {what} strokes")
    if len(data) > MOST_STROKES:
        raise ValueError(f"it has {len(data):,} {what} strokes; there may be {MOST_STROKES:,}")
    return in_order(map(stroke_of, data))


def _check_strokes(strokes: Sequence[Stroke], end_s: float, what: str) -> None:
    """Raise RhythmError or SettingsError unless there are not too many strokes, all before an end."""
    if len(strokes) > MOST_STROKES:
        raise SettingsError(f"there are {len(strokes):,} {what} strokes; there may be {MOST_STROKES:,}")
    for stroke in in_order(strokes)[-1:]:
        if stroke.onset_s >= end_s:
            raise SettingsError(
                f"a {what} stroke lies at {stroke.onset_s:.3f} s, after the end at {end_s:.3f} s"
            )


def _settings_of(data: object) -> RenderSettings:
    """Return the settings of a session; SettingsError or ValueError for what is none."""
    given: dict[str, Any] = {}
    for name, value in _object(data, "the settings", _SETTINGS).items():
        what = f"the setting {name}"
        if name in _BY_CLASS:
            own = _object(value, what)
            given[name] = {_text(key, what): _number(number, what) for key, number in own.items()}
        elif name in _LISTS:
            if not isinstance(value, list) or len(value) > _LONGEST_TEXT:
                raise ValueError(f"{what} is no list of classes")
            given[name] = tuple(_text(drum_class, what) for drum_class in value)
        elif name == "seed":
            given[name] = _whole(value, what, (0, 2**63))
        elif name in _FLAGS or (name in _TEMPI and value is None):
            given[name] = value
        else:
            given[name] = _text(value, what) if isinstance(value, str) else _number(value, what)
    return RenderSettings(**given)


def _plain(value: object) -> object:
    """Return the value of a setting as JSON holds it."""
    if isinstance(value, Mapping):
        return dict(value)
    return list(value) if isinstance(value, tuple) else value


def _object(data: object, what: str, keys: Collection[str] | None = None) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ValueError(f"{what} is no object")
    if keys is not None and (unknown := sorted(set(data) - set(keys))):
        raise ValueError(f"{what} has an unknown entry {unknown[0][:_LONGEST_TEXT]!r}")
    return data


def _text(value: object, what: str, longest: int = _LONGEST_TEXT) -> str:
    if not isinstance(value, str) or len(value) > longest:
        raise ValueError(f"{what} is no text of at most {longest} characters")
    return value


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _LARGEST:
        raise ValueError(f"{what} is no number")
    return float(value)


def _number_or_none(value: object, what: str) -> float | None:
    return None if value is None else _number(value, what)


def _whole(value: object, what: str, limits: tuple[int, int]) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not limits[0] <= value <= limits[1]:
        raise ValueError(f"{what} is no whole number between {limits[0]} and {limits[1]}")
    return value


def _without_repeats(entries: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, in which no entry is there twice: readers differ on which one counts."""
    found = dict(entries)
    if len(found) < len(entries):
        raise ValueError("an object in it has an entry twice")
    return found


def _refused(constant: str) -> float:
    raise ValueError(f"it holds {constant}, which is no number")


def _sha256_of(recording: Recording) -> str:
    if recording.path is not None:
        try:
            return sha256_of(recording.path)
        except OSError as err:
            raise AudioError(
                f"{recording.path} cannot be read any more: {err.strerror or err}",
                hint="put it back where it was",
            ) from err
    digest = hashlib.sha256()
    for block in blocks_of(recording, _BLOCK_SAMPLES):
        digest.update(block.tobytes())
    return digest.hexdigest()
