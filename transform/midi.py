"""MIDI files to rhythms and back, through tempo maps and drum maps.

The drum maps give the class, one of five, that a note number plays; notes of a map that play none of them (hand
percussion, samples of a rack) are left out and counted in the log. Where the facts come from:
`gm`: the percussion key map of General MIDI. `roland-td`: the factory notes of TD-11, TD-17 and TD-50, the map
of the Groove MIDI Dataset. `ezdrummer`: the MIDI layout of EZdrummer 2 and Superior Drummer 3, which is General
MIDI with more hi-hats below and above; single libraries differ. `addictive`: XLN's keymap of Addictive Drums 2
(its freely assigned "flexi" pieces play no class). `ableton`: the 16 pads from C1 = 36, which the kits shipped
with Live fill in the order of General MIDI; what lies on the pads of a rack is its maker's choice, so this one
is the usual case and no more, and the upper pads are the least certain.
"""

from __future__ import annotations

import io
import logging
import math
import struct
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import mido
import numpy as np

from transform.errors import RhythmError, SettingsError
from transform.events import TOM_HEIGHTS, DrumEvent, Rhythm, TempoMap
from transform.files import read_bytes

logger = logging.getLogger(__name__)

Stroke = tuple[str, str]  # class, articulation

DRUM_CHANNEL = 9  # "channel 10" to musicians
DEFAULT_TEMPO_US = 500_000  # a quarter note, where a file names no tempo
SLOWEST_TEMPO_US = 0xFFFFFF
MIN_LENGTH_S = 0.01
MAX_LENGTH_S = 24 * 3600.0
TICKS_PER_BEAT = 960
_MOST_BYTES = 64 * 2**20
_MOST_MESSAGES, _MOST_NOTES = 4_000_000, 500_000  # of all tracks together
TEMPO_UNKNOWN = "Redrum: the tempo is not known"  # a text event, beside 120 BPM

# Of the Standard MIDI Files 1.0: statuses, types of meta messages, and how many bytes of data follow a status.
_META, _SYSTEM_EXCLUSIVE = 0xFF, (0xF0, 0xF7)
_TEXT, _END_OF_TRACK, _SET_TEMPO, _TIME_SIGNATURE, _KEY_SIGNATURE = 0x01, 0x2F, 0x51, 0x58, 0x59
_TEMPO_UNKNOWN = bytes([_TEXT]) + TEMPO_UNKNOWN.encode("latin-1")
_DATA_BYTES = {status: 1 if status >> 4 in (0xC, 0xD) else 2 for status in range(0x80, 0xF0)}
_DATA_BYTES |= {0xF1: 1, 0xF2: 2, 0xF3: 1, **dict.fromkeys((0xF6, 0xF8, 0xFA, 0xFB, 0xFC, 0xFE), 0)}
_LONGEST_QUANTITY = 4
_KEYS = (*range(8), *range(0xF9, 0x100))  # sharps, and flats below 0


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
_SILENT: Mapping[str, frozenset[int]] = {
    "gm": frozenset({*range(27, 35), 54, 56, *range(60, 88)}),
    "roland-td": frozenset({27, 28, 54, 56}),
    "addictive": frozenset({47, 63, 73, 74, 75, 76, 78, 80, 82, 87, 90, 92, 94, *range(96, 104)}),
}
# A rack's pads are among General MIDI's notes, so that its map never explains more.
_AUTO_MAPS = ("gm", "roland-td", "ezdrummer", "addictive")
# On channels not meant for drums a melody must not pass; Addictive's map covers almost every note.
_AUTO_MAPS_ELSEWHERE = ("gm", "roland-td", "ezdrummer")
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


class _Note(NamedTuple):
    tick: int
    channel: int
    number: int
    velocity: int


@dataclass(frozen=True)
class _Score:
    """The contents of a MIDI file, in ticks."""

    ticks_per_beat: int
    tracks: list[tuple[list[_Note], int]]  # notes and end of each track
    tempi_us: dict[int, int]  # by tick
    bars: dict[int, Fraction]  # beats of a bar from a tick on
    is_in_seconds: bool = False  # its ticks are no part of any beat


def read_midi(path: Path | str, *, drum_map: str = "auto") -> Rhythm:
    """Return the drums of a MIDI file as a rhythm.

    The drums are the notes of channel 10, or, where it has none, of every channel whose notes are drum notes. A
    file without a tempo is at 120 BPM; one marked as of unknown tempo, as `write_midi` does it, gives a
    rhythm without one. It ends at the end of its tracks where that is a bar line or nobody knows the bars, else
    at the bar line after its last event.

    Args:
        path: a standard MIDI file of type 0 or 1.
        drum_map: a name in DRUM_MAPS, or "auto": General MIDI unless another map explains more of the notes.

    Raises:
        RhythmError: missing, not MIDI, broken, or without drum notes.
        SettingsError: no such drum map.
    """
    path = Path(path)
    try:
        data = read_bytes(path, most=_MOST_BYTES)
    except ValueError as err:
        raise RhythmError(f"{path.name}: {err}", hint="export only the drums you need") from err
    except FileNotFoundError as err:
        raise RhythmError(f"{path} does not exist", hint="check the path of the MIDI file") from err
    except OSError as err:
        raise RhythmError(
            f"{path} cannot be read: {err.strerror}", hint="give the path of a MIDI file"
        ) from err
    return parse_midi(data, name=path.stem, drum_map=drum_map)


def parse_midi(data: bytes, *, name: str, drum_map: str = "auto") -> Rhythm:
    """Return the drums of the bytes of a MIDI file as a rhythm called `name`; see `read_midi`."""
    _check_drum_map(drum_map)
    score = _read_score(data, name)
    strokes, track_ends = _find_strokes(score, name, drum_map)
    last = max(tick for tick, _ in strokes)
    end = max(*track_ends, last + 1) if score.is_in_seconds else _end_tick(max(track_ends), last, score)
    tempo_map = _tempo_map(score, end)
    length_s = tempo_map.seconds_at(end / score.ticks_per_beat)
    if length_s < MIN_LENGTH_S:  # it would be looped more often than anybody can perceive, or wait for
        raise RhythmError(
            f"{name} is over after {1000 * length_s:.3g} ms", hint="export it with the tempo of its song"
        )
    if length_s > MAX_LENGTH_S:
        raise RhythmError(f"{name} lasts {length_s / 3600:.0f} hours", hint="export only the drums you need")
    merged = _merged(strokes)
    onsets_s = tempo_map.seconds_at(np.array([tick for tick, _ in merged]) / score.ticks_per_beat)
    events = tuple(
        DrumEvent(float(onset_s), drum_class, velocity / 127, articulation)
        for onset_s, ((_, drum_class), (velocity, articulation)) in zip(onsets_s, merged.items(), strict=True)
    )
    known = None if score.is_in_seconds else tempo_map
    return Rhythm(events, length_s, known, name, float(_first_bar(score)))


def drums_of_notes(
    notes: Iterable[tuple[float, int, int, int]], *, name: str, drum_map: str = "auto"
) -> tuple[DrumEvent, ...]:
    """Return the drums among MIDI notes that are no file, such as those of a DAW; see `read_midi`.

    Args:
        notes: onset in seconds, channel 0..15, number and velocity 1..127 of each, in any order.
        name: what the notes are called in errors.
        drum_map: a name in DRUM_MAPS, or "auto".

    Raises:
        RhythmError: there are no drum notes.
        SettingsError: no such drum map.
    """
    _check_drum_map(drum_map)
    notes = list(notes)
    onsets_s = sorted({onset_s for onset_s, *_ in notes})
    ticks = {onset_s: tick for tick, onset_s in enumerate(onsets_s)}
    track = [_Note(ticks[onset_s], *rest) for onset_s, *rest in notes]
    strokes, _ = _find_strokes(_Score(1, [(track, len(onsets_s))], {}, {}), name, drum_map)
    return tuple(
        DrumEvent(onsets_s[tick], drum_class, velocity / 127, articulation)
        for (tick, drum_class), (velocity, articulation) in _merged(strokes).items()
    )


def write_midi(rhythm: Rhythm, *, ticks_per_beat: int | None = None) -> bytes:
    """Return a rhythm as a General MIDI file of type 1, drums on channel 10, with its velocities and tempi.

    Onsets are right to half a tick, in seconds; a flam is two notes. A rhythm without a tempo is written at
    120 BPM, with a text by which `read_midi` knows that this is none of its own.

    Args:
        rhythm: what to write.
        ticks_per_beat: None takes a resolution at which a tick is never longer than 1 ms.

    Raises:
        RhythmError: a tempo that MIDI cannot hold (below 3.6 BPM).
        SettingsError: a resolution outside 1..32767.
    """
    tempo_map = rhythm.tempo_map or TempoMap.constant(120)
    if ticks_per_beat is None:
        slowest_bpm = min(bpm for _, bpm in tempo_map.changes)
        ticks_per_beat = TICKS_PER_BEAT * max(1, math.ceil(60_000 / slowest_bpm / TICKS_PER_BEAT))
    tempi_us = {round(beat * ticks_per_beat): round(60e6 / bpm) for beat, bpm in tempo_map.changes}
    if not all(1 <= tempo_us <= SLOWEST_TEMPO_US for tempo_us in tempi_us.values()):
        raise RhythmError(f"a tempo of {rhythm.name} is one that MIDI cannot hold (3.6 BPM and more)")
    if not 1 <= ticks_per_beat <= 0x7FFF:
        raise SettingsError(f"ticks per beat are {ticks_per_beat}; MIDI holds 1 to 32767")
    # Whole microseconds and ticks bend the map a little: events are placed on the map that readers will see.
    written = _map_of_ticks(tempi_us, ticks_per_beat)
    end = max(round(written.beats_at(rhythm.length_s) * ticks_per_beat), 1)

    conductor = [(tick, mido.MetaMessage("set_tempo", tempo=tempo)) for tick, tempo in tempi_us.items()]
    if rhythm.tempo_map is None:
        conductor.insert(0, (0, mido.MetaMessage("text", text=TEMPO_UNKNOWN)))
    if signature := _time_signature(rhythm.beats_per_bar):
        conductor.append((0, signature))
    drums = [(0, mido.MetaMessage("track_name", name=_latin(rhythm.name)))]
    by_note: dict[int, dict[int, int]] = {}
    for stroke in chain.from_iterable(event.strokes for event in rhythm.events):
        tick = min(round(written.beats_at(stroke.onset_s) * ticks_per_beat), end - 1)
        number = GM_NOTES[stroke.drum_class, stroke.articulation]
        velocity = max(1, round(stroke.velocity * 127))
        strokes = by_note.setdefault(number, {})
        strokes[tick] = max(velocity, strokes.get(tick, 0))
    for number, strokes in by_note.items():
        ticks = sorted(strokes)
        for tick, following in zip(ticks, [*ticks[1:], end], strict=True):
            off = min(tick + max(ticks_per_beat // 8, 1), following)
            common = {"channel": DRUM_CHANNEL, "note": number}
            drums.append((tick, mido.Message("note_on", velocity=strokes[tick], **common)))
            drums.append((off, mido.Message("note_off", velocity=0, **common)))
    file = mido.MidiFile(type=1, ticks_per_beat=ticks_per_beat)
    file.tracks += [_track(conductor, end), _track(drums, end)]
    target = io.BytesIO()
    file.save(file=target)
    return target.getvalue()


def _check_drum_map(drum_map: str) -> None:
    if drum_map != "auto" and drum_map not in DRUM_MAPS:
        raise SettingsError(
            f"{drum_map!r} is no drum map", hint=f"the drum maps are auto, {', '.join(DRUM_MAPS)}"
        )


def _read_score(data: bytes, name: str) -> _Score:
    """Return the notes, tempi and bars of a file, foreign chunks left out."""
    chunks = _chunks(data, name)
    header = chunks[0][1]
    if len(header) < 6:
        raise RhythmError(f"{name} is broken: its header is too short", hint="export the MIDI file again")
    file_type, n_tracks, division = struct.unpack(">HHh", header[:6])
    if file_type == 2:
        raise RhythmError(
            f"{name} is a MIDI file of type 2, whose tracks do not belong together",
            hint="export it as type 0 or 1",
        )
    if file_type > 2:
        raise RhythmError(f"{name} is marked as a MIDI file of type {file_type}, which does not exist")
    if division <= 0:
        raise RhythmError(
            f"{name} counts time in video frames or not at all", hint="export it with ticks per quarter note"
        )
    tracks = [body for kind, body in chunks[1:] if kind == b"MTrk"]
    if len(tracks) < n_tracks:
        raise RhythmError(
            f"{name} is broken: it promises {n_tracks} tracks and holds {len(tracks)}",
            hint="export the MIDI file again",
        )
    return _score(tracks, division, name)


def _messages(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield the tick, the status and the data of each message of a track, of a meta message its type first.

    Raises:
        ValueError: a message breaks off, or is none.
    """
    at = tick = running = 0
    while at < len(body):
        passed, at = _quantity(body, at)
        tick += passed
        status = body[at] if at < len(body) else 0
        if status >= 0x80:
            at += 1
        else:
            status = running
        if status == _META or status in _SYSTEM_EXCLUSIVE:
            kind = body[at : at + 1] if status == _META else b""
            size, at = _quantity(body, at + len(kind))
        elif status in _DATA_BYTES:
            kind, size = b"", _DATA_BYTES[status]
        else:
            raise ValueError("data without a status" if status < 0x80 else f"no such status: {status:#x}")
        data = kind + body[at : at + size]
        at += size
        if at > len(body):
            raise ValueError("it breaks off")
        if status < 0xF0:
            running = status
            if not data.isascii():
                raise ValueError("data byte above 127")
        elif status < 0xF8:
            running = 0  # what follows needs a status of its own; after meta messages it does without
        yield tick, status, data


def _quantity(body: bytes, at: int) -> tuple[int, int]:
    """Return the quantity of variable length that lies at a place, and the place after it."""
    value = 0
    for place in range(at, min(at + _LONGEST_QUANTITY, len(body))):
        byte = body[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    raise ValueError(f"a number never ends: MIDI's have {_LONGEST_QUANTITY} bytes at most")


def _chunks(data: bytes, name: str) -> list[tuple[bytes, bytes]]:
    """Return the (kind, body) pairs of a file, the header first."""
    if not data:
        raise RhythmError(f"{name} is empty", hint="export the MIDI file again")
    if data[:4] != b"MThd":
        raise RhythmError(f"{name} is not a MIDI file", hint="give a standard MIDI file (.mid)")
    chunks: list[tuple[bytes, bytes]] = []
    position = 0
    while len(data) - position >= 8:
        kind, size = struct.unpack(">4sL", data[position : position + 8])
        body = data[position + 8 : position + 8 + size]
        if len(body) < size:
            raise RhythmError(
                f"{name} is broken: its chunk {len(chunks) + 1} promises {size} bytes and holds {len(body)}",
                hint="export or copy the MIDI file again",
            )
        chunks.append((kind, body))
        position += 8 + size
    if not chunks:
        raise RhythmError(f"{name} is broken: it ends in its header", hint="export the MIDI file again")
    return chunks


def _score(bodies: Iterable[bytes], division: int, name: str) -> _Score:
    """Return the merged events of the tracks with these bytes."""
    score = _Score(division, [], {}, {})
    is_in_seconds = False
    n_messages = n_notes = 0
    for body in bodies:
        tick = 0
        notes = []
        try:
            for tick, status, data in _messages(body):
                n_messages += 1
                if n_messages > _MOST_MESSAGES:
                    raise _too_much(name, f"{_MOST_MESSAGES:,} messages")
                if status >> 4 == 9 and data[1] > 0:
                    notes.append(_Note(tick, status & 15, data[0], data[1]))
                    n_notes += 1
                    if n_notes > _MOST_NOTES:
                        raise _too_much(name, f"{_MOST_NOTES:,} notes")
                elif status == _META:
                    if data[0] == _END_OF_TRACK:
                        break
                    is_in_seconds = is_in_seconds or data == _TEMPO_UNKNOWN
                    _take_meta(score, tick, data)
        except (ValueError, LookupError) as err:
            raise RhythmError(
                f"{name} is broken: it holds a message that cannot be read ({err})",
                hint="export the MIDI file again",
            ) from err
        if tick >= 1 << 40:
            raise RhythmError(f"{name} is broken: a track of it never ends", hint="export the MIDI file again")
        score.tracks.append((notes, tick))
    # Another program may have retained the text and written a tempo of its own.
    is_in_seconds = is_in_seconds and set(score.tempi_us.values()) <= {DEFAULT_TEMPO_US}
    return replace(
        score,
        tempi_us=dict(sorted(score.tempi_us.items())),
        bars=dict(sorted(score.bars.items())),
        is_in_seconds=is_in_seconds,
    )


def _take_meta(score: _Score, tick: int, data: bytes) -> None:
    """Take note of a meta message, its type and what follows, if it is of use."""
    kind, content = data[0], data[1:]
    if kind == _SET_TEMPO:
        tempo_us = content[0] << 16 | content[1] << 8 | content[2]
        if tempo_us > 0:
            score.tempi_us[tick] = tempo_us
    elif kind == _TIME_SIGNATURE:
        numerator, power, _, _ = content[0], content[1], content[2], content[3]
        if numerator > 0 and power <= 6:
            score.bars[tick] = Fraction(4 * numerator, 2**power)
    elif kind == _KEY_SIGNATURE and (content[0] not in _KEYS or content[1] > 1):
        raise ValueError("no such key")


def _too_much(name: str, what: str) -> RhythmError:
    return RhythmError(f"{name} has more than {what}", hint="export only the drums you need")


def _find_strokes(
    score: _Score, name: str, drum_map: str
) -> tuple[list[tuple[int, tuple[Stroke, int]]], list[int]]:
    """Return the drum strokes as (tick, ((class, articulation), velocity)) and the ends of their tracks."""
    numbers: dict[int, list[int]] = {}
    for notes, _ in score.tracks:
        for note in notes:
            numbers.setdefault(note.channel, []).append(note.number)
    if DRUM_CHANNEL in numbers:
        maps = {DRUM_CHANNEL: _choose_map(numbers[DRUM_CHANNEL], drum_map, _AUTO_MAPS)}
    else:
        maps = {c: _choose_map(played, drum_map, _AUTO_MAPS_ELSEWHERE) for c, played in numbers.items()}
        # A channel of another instrument has some notes among the drums' as well.
        maps = {c: key for c, key in maps.items() if _n_mapped(numbers[c], key) >= 0.8 * len(numbers[c])}
        if maps:
            logger.info("%s: no notes on channel 10, drums read from %s", name, _channels(maps))
    strokes = []
    ends = []
    left_out: Counter[int] = Counter()
    for notes, end in score.tracks:
        drums = [note for note in notes if note.channel in maps]
        left_out.update(note.number for note in drums if note.number not in DRUM_MAPS[maps[note.channel]])
        mapped = [note for note in drums if note.number in DRUM_MAPS[maps[note.channel]]]
        if mapped:
            ends.append(end)
        strokes += [(n.tick, (DRUM_MAPS[maps[n.channel]][n.number], n.velocity)) for n in mapped]
    if not strokes:
        raise RhythmError(f"{name} holds no drum notes: {_what_is_there(numbers)}", hint=_NO_DRUMS_HINT)
    if left_out:
        listed = ", ".join(f"{number} ({count}x)" for number, count in sorted(left_out.items()))
        logger.info("%s: notes that play none of the five drum classes left out: %s", name, listed)
    return strokes, ends


_NO_DRUMS_HINT = "give a MIDI file with drums on channel 10, or name their drum map"


def _choose_map(numbers: list[int], drum_map: str, candidates: tuple[str, ...]) -> str:
    """Return the name of the map to read notes with."""
    if drum_map != "auto":
        return drum_map

    def n_explained(key: str) -> int:
        known = DRUM_MAPS[key].keys() | _SILENT.get(key, frozenset())
        return sum(number in known for number in numbers)

    best = max(candidates, key=n_explained)  # the first of equals: gm
    clearly_more = max(1, math.ceil(0.01 * len(numbers)))
    return best if n_explained(best) >= n_explained("gm") + clearly_more and _n_mapped(numbers, best) else "gm"


def _n_mapped(numbers: list[int], key: str) -> int:
    return sum(number in DRUM_MAPS[key] for number in numbers)


def _channels(channels: Iterable[int]) -> str:
    return "channel " + ", ".join(str(channel + 1) for channel in sorted(channels))


def _what_is_there(numbers: dict[int, list[int]]) -> str:
    if not numbers:
        return "it holds no notes at all"
    counts = []
    for channel, played in sorted(numbers.items()):
        counts.append(f"channel {channel + 1} has {len(played)}, from {min(played)} to {max(played)}")
    return "of the notes in it " + "; ".join(counts)


def _merged(strokes: list[tuple[int, tuple[Stroke, int]]]) -> dict[tuple[int, str], tuple[int, str]]:
    """Return one stroke a tick and class, the loudest: layered notes of one drum are one stroke."""
    loudest: dict[tuple[int, str], tuple[int, str]] = {}
    for tick, ((drum_class, articulation), velocity) in strokes:
        if velocity > loudest.get((tick, drum_class), (0, ""))[0]:
            loudest[tick, drum_class] = (velocity, articulation)
    return loudest


def _map_of_ticks(tempi_us: Mapping[int, int], ticks_per_beat: int) -> TempoMap:
    return TempoMap(tuple((tick / ticks_per_beat, 60e6 / tempo) for tick, tempo in tempi_us.items()))


def _tempo_map(score: _Score, end: int) -> TempoMap:
    """Return the tempi up to the end, repeats left out."""
    changes = {0: DEFAULT_TEMPO_US}
    before = DEFAULT_TEMPO_US
    for tick, tempo in score.tempi_us.items():
        if tempo != before and tick < end:
            changes[tick] = before = tempo
    return _map_of_ticks(changes, score.ticks_per_beat)


def _first_bar(score: _Score) -> Fraction:
    return next(iter(score.bars.values()), Fraction(4))


def _bar_line(tick: int, score: _Score) -> int:
    """Return the first bar line after a tick."""
    start, n_beats = 0, _first_bar(score)
    for change, beats in score.bars.items():
        if change <= tick:
            start, n_beats = change, beats
    bar = n_beats * score.ticks_per_beat
    line = math.ceil(start + bar * ((tick - start) // bar + 1))
    # A new time signature begins a new bar, wherever the old one would have ended.
    return min([line, *(change for change in score.bars if change > tick)])


def _end_tick(track_end: int, last: int, score: _Score) -> int:
    """Return where the rhythm ends: at the track's end if that is a bar line, else after the last event."""
    slack = max(score.ticks_per_beat // 32, 1)
    line = _bar_line(max(track_end - slack, 0), score)
    after_last = _bar_line(last, score)
    return line if line >= after_last and abs(line - track_end) <= slack else after_last


def _time_signature(beats_per_bar: float) -> mido.MetaMessage | None:
    """Return a time signature for a bar, None where none fits."""
    for denominator in (4, 8, 16, 32):
        numerator = beats_per_bar * denominator / 4
        if numerator == round(numerator) and 1 <= numerator <= 255:
            return mido.MetaMessage("time_signature", numerator=int(numerator), denominator=denominator)
    return None


def _latin(name: str) -> str:
    """Return a name in the letters that MIDI's text has."""
    return name.encode("latin-1", errors="replace").decode("latin-1")


def _track(messages: list[tuple[int, mido.Message | mido.MetaMessage]], end: int) -> mido.MidiTrack:
    """Return a track from messages with absolute ticks: notes end before others begin."""
    track = mido.MidiTrack()
    now = 0
    for tick, message in sorted(messages, key=lambda pair: (pair[0], pair[1].type == "note_on")):
        track.append(message.copy(time=tick - now))
        now = tick
    track.append(mido.MetaMessage("end_of_track", time=max(end - now, 0)))
    return track
