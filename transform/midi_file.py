"""Standard MIDI files as notes, tempi and bars in ticks, read by their own rules and past harmless mistakes.

What does not bear on notes or time (odd meta messages, wrong lengths of tracks, their number) is passed over
and logged; what would make it a guess is refused.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from transform.errors import RhythmError
from transform.files import read_bytes

_log = logging.getLogger(__name__)

DEFAULT_TEMPO_US = 500_000  # a quarter note, where a file names no tempo
TEMPO_UNKNOWN = "Redrum: the tempo is not known"  # a text event, beside 120 BPM

_MOST_BYTES = 64 * 2**20
_MOST_MESSAGES, _MOST_NOTES = 4_000_000, 500_000  # of all tracks together
_MOST_TICKS = 1 << 40
_HIGHEST = 127  # of all data bytes

# Of the Standard MIDI Files 1.0: statuses, types of meta messages, and how many bytes of data follow a status.
_META, _SYSTEM_EXCLUSIVE = 0xFF, (0xF0, 0xF7)
_TEXT, _END_OF_TRACK, _SET_TEMPO, _TIME_SIGNATURE = 0x01, 0x2F, 0x51, 0x58
_TEMPO_UNKNOWN = bytes([_TEXT]) + TEMPO_UNKNOWN.encode("latin-1")
_DATA_BYTES = {status: 1 if status >> 4 in (0xC, 0xD) else 2 for status in range(0x80, 0xF0)}
_DATA_BYTES |= {**dict.fromkeys(range(0xF1, 0xFF), 0), 0xF1: 1, 0xF2: 2, 0xF3: 1}
_LONGEST_QUANTITY = 4
_HEADER = b"MThd"
_LATEST_HEADER = 1024  # bytes that other programs put before it, such as the 128 of MacBinary
_UNFINISHED = (0, 0xFFFFFFFF)  # lengths of a track whose recorder never wrote one
_FRAME_RATES_HZ = {-24: 24.0, -25: 25.0, -29: 30000 / 1001, -30: 30.0}
# Channels that play drums beside the tenth: bank 120 of General MIDI 2, banks 126 and 127 of XG, parts of GS.
_BANK_SELECT, _GM2_DRUMS, _XG_DRUMS = 0, (120,), (120, 126, 127)
_XG_ON = bytes.fromhex("43104c00007e00f7")
_CLOSING = bytes([0, _META, _END_OF_TRACK, 0])  # the last bytes of a track
_EXPORT_AGAIN = "export the MIDI file again"


class MidiNote(NamedTuple):
    """The beginning of a note; channels are counted from 0."""

    tick: int
    channel: int
    number: int
    velocity: int


@dataclass
class Score:
    """The contents of a MIDI file, in ticks."""

    ticks_per_beat: float
    tracks: list[tuple[list[MidiNote], int]] = field(default_factory=list)  # notes and end of each track
    tempi_us: dict[int, int] = field(default_factory=dict)  # by tick, in order
    bars: dict[int, Fraction] = field(default_factory=dict)  # beats of a bar from a tick on, in order
    is_in_seconds: bool = False  # its ticks are no part of any beat, and its tempo is 120 BPM
    drum_channels: set[int] = field(
        default_factory=set
    )  # beside the tenth, which messages make channels of drums
    remarks: list[str] = field(default_factory=list)  # of what is read, but may lack something


def read_midi_bytes(path: Path) -> bytes:
    """Return the bytes of a file that should be MIDI.

    Raises:
        RhythmError: it is missing, too long or cannot be read.
    """
    try:
        return read_bytes(path, most=_MOST_BYTES)
    except ValueError as err:
        raise RhythmError(f"{path.name}: {err}", hint="export only the drums you need") from err
    except FileNotFoundError as err:
        raise RhythmError(f"{path} does not exist", hint="check the path of the MIDI file") from err
    except OSError as err:
        raise RhythmError(
            f"{path} cannot be read: {err.strerror}", hint="give the path of a MIDI file"
        ) from err


def read_score(data: bytes, name: str) -> Score:
    """Return the notes, tempi and bars of the bytes of a MIDI file called `name`; RhythmError if it is none."""
    data = _unwrapped(data, name)
    size = int.from_bytes(data[4:8], "big")
    if len(data) < 8:
        raise RhythmError(f"{name} is broken: it ends in its header", hint=_EXPORT_AGAIN)
    if min(size, len(data) - 8) < 6:
        raise RhythmError(f"{name} is broken: its header is too short", hint=_EXPORT_AGAIN)
    file_type, n_tracks, division = struct.unpack(">HHh", data[8:14])
    if file_type > 2:
        _log.info("%s is marked as a MIDI file of type %d, and read as one of type 1", name, file_type)
    score = Score(_ticks_per_beat(division, name), is_in_seconds=division < 0)
    begin = 8 + size if data[8 + size : 12 + size].isalpha() else max(data.find(b"MTrk", 14), 14)
    reader = _Reader(score, name)
    reader.read(data, begin)
    if len(score.tracks) < n_tracks:
        if not score.tracks:
            raise RhythmError(
                f"{name} is broken: it promises {n_tracks} tracks and holds none", hint=_EXPORT_AGAIN
            )
        score.remarks.append(f"{name} promises {n_tracks} tracks and holds {len(score.tracks)}")
    if file_type == 2 and sum(bool(notes) for notes, _ in score.tracks) > 1:
        raise RhythmError(
            f"{name} is a MIDI file of type 2, whose tracks do not belong together",
            hint="export it as type 0 or 1",
        )
    reader.finish()
    return score


def _ticks_per_beat(division: int, name: str) -> float:
    """Return the ticks of a beat; of a file that counts video frames, those of half a second."""
    rate_hz = _FRAME_RATES_HZ.get(division >> 8)
    ticks = division & 0xFF if division < 0 else division
    if ticks == 0 or (division < 0 and rate_hz is None):
        raise RhythmError(
            f"{name} has a division of time, {division & 0xFFFF:#06x}, that MIDI does not know",
            hint="export it with ticks per quarter note",
        )
    return ticks if rate_hz is None or division > 0 else rate_hz * ticks * DEFAULT_TEMPO_US / 1e6


def _unwrapped(data: bytes, name: str) -> bytes:
    """Return a MIDI file without what other programs put around it, as RIFF's RMID does."""
    if not data:
        raise RhythmError(f"{name} is empty", hint=_EXPORT_AGAIN)
    begin = data.find(_HEADER, 0, _LATEST_HEADER)
    if begin < 0:
        raise RhythmError(f"{name} is not a MIDI file", hint="give a standard MIDI file (.mid)")
    if begin > 0:
        _log.info("%s: the MIDI file begins after %d other bytes", name, begin)
    if data[:4] == b"RIFF" and data[begin - 8 : begin - 4] == b"data":
        size = int.from_bytes(data[begin - 4 : begin], "little")
        return data[begin : begin + size] if size not in _UNFINISHED else data[begin:]
    return data[begin:]


class _Reader:
    """Reads the tracks of a file into a score."""

    def __init__(self, score: Score, name: str) -> None:
        self._score, self._name = score, name
        self._n_messages = self._n_notes = 0
        self._is_unknown = self._is_xg = False
        self._banks: dict[int, int] = {}

    def read(self, data: bytes, at: int) -> None:
        """Read all tracks from a place on; chunks of other kinds are passed over."""
        while 0 <= at <= len(data) - 8:
            kind, size = struct.unpack(">4sL", data[at : at + 8])
            begin, end = at + 8, at + 8 + size
            if kind == b"MTrk":
                at = self._track(data, begin, end)
            elif end <= len(data):
                at = end
            elif self._score.tracks:
                at = data.find(b"MTrk", begin)
            else:
                raise self._cut(size, len(data) - begin)

    def finish(self) -> None:
        """Put tempi and bars in order, and decide what several messages say together."""
        score = self._score
        score.tempi_us = dict(sorted(score.tempi_us.items()))
        score.bars = dict(sorted(score.bars.items()))
        if score.is_in_seconds:  # tempi mean nothing where ticks are parts of a video frame
            score.tempi_us, score.bars = {}, {}
        # Another program may have retained the text and written a tempo of its own.
        elif self._is_unknown and set(score.tempi_us.values()) <= {DEFAULT_TEMPO_US}:
            score.is_in_seconds = True
        drums = _XG_DRUMS if self._is_xg else _GM2_DRUMS
        score.drum_channels |= {channel for channel, bank in self._banks.items() if bank in drums}

    def _track(self, data: bytes, begin: int, end: int) -> int:
        """Read the track that should lie between two places, and return where the next chunk begins."""
        closed = data + _CLOSING[len(data) - end :]
        if 0 < end - len(data) <= len(_CLOSING) and self._ends(closed, begin):  # all but its end is there
            _log.info("%s: the last %d bytes of a track are missing", self._name, end - len(data))
            data = closed
        following = data[end : end + 4]
        if end == len(data) or following.isalpha() or 0 < len(data) - end < 8:
            self._messages(data, begin, end)
            return end
        # The length is wrong: the track ends where it says so itself.
        size, is_unfinished = end - begin, end - begin in _UNFINISHED
        cut = self._cut(size, len(data) - begin)
        try:
            read_to, is_ended = self._messages(data, begin, len(data), is_unfinished=is_unfinished)
        except _BreaksOff:
            read_to, is_ended = begin, False
        if not (is_ended or is_unfinished):
            raise cut
        _log.info("%s: a track promises %d bytes and has %d", self._name, size, read_to - begin)
        return data.find(b"MTrk", read_to)

    @staticmethod
    def _ends(data: bytes, begin: int) -> bool:
        """Tell whether the messages from a place on end with the data, and say so."""
        try:
            *_, (_, _, message, end) = _messages(data, begin, len(data))
        except ValueError:
            return False
        return end == len(data) and message[:1] == bytes([_END_OF_TRACK])

    def _messages(self, data: bytes, at: int, stop: int, *, is_unfinished: bool = False) -> tuple[int, bool]:
        """Read the messages between two places; return where they end, and whether the last says so."""
        notes: list[MidiNote] = []
        tick, n_clipped, end, is_ended = 0, 0, at, False
        try:
            for tick, status, message, end in _messages(data, at, stop):  # noqa: B007 (`end` is that of the last)
                self._count(message=1)
                n_clipped += status < 0xF0 and not message.isascii()
                if status >> 4 == 9 and message[1] > 0:
                    if message[0] <= _HIGHEST:
                        notes.append(MidiNote(tick, status & 15, message[0], min(message[1], _HIGHEST)))
                        self._count(note=1)
                elif status == _META and message[:1] == bytes([_END_OF_TRACK]):
                    is_ended = True
                    break
                else:
                    self._take(tick, status, message)
        except ValueError as err:
            if not is_unfinished:
                raise _BreaksOff(
                    f"{self._name} is broken: it holds a message that cannot be read ({err})",
                    hint=_EXPORT_AGAIN,
                ) from err
        if n_clipped and not is_ended:  # then the messages may have been read from a wrong place on
            raise RhythmError(f"{self._name} is broken: data bytes are above 127", hint=_EXPORT_AGAIN)
        if n_clipped:
            _log.info("%s: %d messages with data above 127 are read as 127", self._name, n_clipped)
        if tick >= _MOST_TICKS:
            raise RhythmError(f"{self._name} is broken: a track of it never ends", hint=_EXPORT_AGAIN)
        self._score.tracks.append((notes, tick))
        return end, is_ended

    def _count(self, message: int = 0, note: int = 0) -> None:
        self._n_messages += message
        self._n_notes += note
        if self._n_messages > _MOST_MESSAGES or self._n_notes > _MOST_NOTES:
            what = f"{_MOST_NOTES:,} notes" if note else f"{_MOST_MESSAGES:,} messages"
            raise RhythmError(f"{self._name} has more than {what}", hint="export only the drums you need")

    def _take(self, tick: int, status: int, message: bytes) -> None:
        """Take note of a message that is no note, if it is of use and whole."""
        score = self._score
        if status == _META:
            kind, content = message[0], message[1:]
            self._is_unknown = self._is_unknown or message == _TEMPO_UNKNOWN
            if kind == _SET_TEMPO and (tempo_us := int.from_bytes(content[:3], "big")) and len(content) >= 3:
                score.tempi_us[tick] = tempo_us
            elif kind == _TIME_SIGNATURE and len(content) >= 2 and content[0] > 0 and content[1] <= 6:
                score.bars[tick] = Fraction(4 * content[0], 2 ** content[1])
            elif kind in (_SET_TEMPO, _TIME_SIGNATURE):
                _log.info("%s: a tempo or time signature without a value is passed over", self._name)
        elif status == _SYSTEM_EXCLUSIVE[0]:
            self._is_xg = self._is_xg or message == _XG_ON
            if (part := _part_of_drums(message)) is not None:
                score.drum_channels.add(part)
        elif status >> 4 == 0xB and message[0] == _BANK_SELECT:
            self._banks[status & 15] = message[1]

    def _cut(self, n_promised: int, n_there: int) -> RhythmError:
        place = len(self._score.tracks) + 2
        return RhythmError(
            f"{self._name} is broken: its chunk {place} promises {n_promised} bytes and holds {n_there}",
            hint="export or copy the MIDI file again",
        )


class _BreaksOff(RhythmError):
    """A track that ends in the middle of a message, or holds what is none."""


def _part_of_drums(message: bytes) -> int | None:
    """Return the channel that a message of Roland's GS makes one of drums, None if it does no such thing."""
    if len(message) < 9 or message[0] != 0x41 or message[2:5] != b"\x42\x12\x40":
        return None
    part, address, value = message[5], message[6], message[7]
    if part >> 4 != 1 or address != 0x15 or value == 0:
        return None
    part &= 15  # parts are in the order 10, 1, ..., 9, 11, ..., 16
    return 9 if part == 0 else part - 1 if part < 10 else part


def _messages(data: bytes, at: int, stop: int) -> Iterator[tuple[int, int, bytes, int]]:
    """Yield tick, status, data and end of each message between two places; of a meta message its type first.

    Raises:
        ValueError: a message breaks off, or is none.
    """
    tick = running = 0
    while at < stop:
        passed, at = _quantity(data, at)
        tick += passed
        status = data[at] if at < stop else 0
        if status >= 0x80:
            at += 1
        else:
            status = running  # also after system messages, though they should end it
        if status == _META or status in _SYSTEM_EXCLUSIVE:
            kind = data[at : at + 1] if status == _META else b""
            size, at = _quantity(data, at + len(kind))
        elif status in _DATA_BYTES:
            kind, size = b"", _DATA_BYTES[status]
        else:
            raise ValueError("data without a status")
        message = kind + data[at : at + size]
        at += size
        if at > stop:
            raise ValueError("it breaks off")
        if status < 0xF0:
            running = status
        yield tick, status, message, at


def _quantity(data: bytes, at: int) -> tuple[int, int]:
    """Return the quantity of variable length that lies at a place, and the place after it."""
    value = 0
    for place in range(at, min(at + _LONGEST_QUANTITY, len(data))):
        byte = data[place]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    raise ValueError(f"a number never ends: MIDI's have {_LONGEST_QUANTITY} bytes at most")
