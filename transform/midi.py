"""MIDI files to rhythms and back."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import chain
from pathlib import Path

import mido
import numpy as np

from transform.drum_channels import drums_of
from transform.drum_maps import AUTO, DRUM_CHANNEL, GM_NOTES, DrumNotes, Stroke
from transform.errors import RhythmError, SettingsError
from transform.events import DrumEvent, Rhythm, TempoMap
from transform.midi_file import (
    DEFAULT_TEMPO_US,
    TEMPO_UNKNOWN,
    MidiNote,
    Score,
    read_midi_bytes,
    read_score,
)

SLOWEST_TEMPO_US = 0xFFFFFF
MIN_LENGTH_S = 0.01
MAX_LENGTH_S = 24 * 3600.0
TICKS_PER_BEAT = 960


def read_midi(path: Path | str, *, drum_map: DrumNotes | str = AUTO) -> Rhythm:
    """Return the drums of a MIDI file as a rhythm.

    A file without a tempo is at 120 BPM; one marked as of unknown tempo, as `write_midi` does it, or that
    counts video frames, gives a rhythm without one. It ends at the end of its tracks where that is a bar line
    or nobody knows the bars, else at the bar line after its last event.

    Args:
        path: a standard MIDI file.
        drum_map: a name in DRUM_MAPS, the file of one's own, or all that is chosen about its notes.

    Raises:
        RhythmError: missing, not MIDI, broken, or without drum notes.
        SettingsError: no such drum map.
    """
    path = Path(path)
    return parse_midi(read_midi_bytes(path), name=path.stem, drum_map=drum_map)


def parse_midi(data: bytes, *, name: str, drum_map: DrumNotes | str = AUTO) -> Rhythm:
    """Return the drums of the bytes of a MIDI file as a rhythm called `name`; see `read_midi`."""
    score = read_score(data, name)
    part = drums_of(score, name, _chosen(drum_map))
    last = max(tick for tick, _, _ in part.strokes)
    end = max(*part.ends, last + 1) if score.is_in_seconds else _end_tick(max(part.ends), last, score)
    tempo_map = _tempo_map(score, end)
    length_s = tempo_map.seconds_at(end / score.ticks_per_beat)
    if length_s < MIN_LENGTH_S:  # it would be looped more often than anybody can perceive, or wait for
        raise RhythmError(
            f"{name} is over after {1000 * length_s:.3g} ms", hint="export it with the tempo of its song"
        )
    if length_s > MAX_LENGTH_S:
        raise RhythmError(f"{name} lasts {length_s / 3600:.0f} hours", hint="export only the drums you need")
    merged = _merged(part.strokes)
    onsets_s = tempo_map.seconds_at(np.array([tick for tick, _ in merged]) / score.ticks_per_beat)
    events = tuple(
        DrumEvent(float(onset_s), drum_class, velocity / 127, articulation)
        for onset_s, ((_, drum_class), (velocity, articulation)) in zip(onsets_s, merged.items(), strict=True)
    )
    if not (score.is_in_seconds or score.tempi_us):
        part.notes.append(f"{name} states no tempo, which is 120 BPM in MIDI")
    known = None if score.is_in_seconds else tempo_map
    return Rhythm(events, length_s, known, name, float(_first_bar(score)), tuple(part.notes))


def drums_of_notes(
    notes: Iterable[tuple[float, int, int, int]], *, name: str, drum_map: DrumNotes | str = AUTO
) -> tuple[tuple[DrumEvent, ...], list[str]]:
    """Return the drums among MIDI notes that are no file, such as those of a DAW, and what was left out.

    Args:
        notes: onset in seconds, channel 0..15, number and velocity 1..127 of each, in any order.
        name: what the notes are called in errors.
        drum_map: as of `read_midi`.

    Raises:
        RhythmError: there are no drum notes.
        SettingsError: no such drum map.
    """
    notes = list(notes)
    onsets_s = sorted({onset_s for onset_s, *_ in notes})
    ticks = {onset_s: tick for tick, onset_s in enumerate(onsets_s)}
    track = [MidiNote(ticks[onset_s], *rest) for onset_s, *rest in notes]
    part = drums_of(Score(1, [(track, len(onsets_s))]), name, _chosen(drum_map))
    events = tuple(
        DrumEvent(onsets_s[tick], drum_class, velocity / 127, articulation)
        for (tick, drum_class), (velocity, articulation) in _merged(part.strokes).items()
    )
    return events, part.notes


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


def _chosen(drum_map: DrumNotes | str) -> DrumNotes:
    return drum_map if isinstance(drum_map, DrumNotes) else DrumNotes.of(drum_map)


def _merged(strokes: Iterable[tuple[int, Stroke, int]]) -> dict[tuple[int, str], tuple[int, str]]:
    """Return one stroke a tick and class, the loudest: layered notes of one drum are one stroke."""
    loudest: dict[tuple[int, str], tuple[int, str]] = {}
    for tick, (drum_class, articulation), velocity in strokes:
        if velocity > loudest.get((tick, drum_class), (0, ""))[0]:
            loudest[tick, drum_class] = (velocity, articulation)
    return loudest


def _map_of_ticks(tempi_us: Mapping[int, int], ticks_per_beat: float) -> TempoMap:
    return TempoMap(tuple((tick / ticks_per_beat, 60e6 / tempo) for tick, tempo in tempi_us.items()))


def _tempo_map(score: Score, end: int) -> TempoMap:
    """Return the tempi up to the end, repeats left out."""
    changes = {0: DEFAULT_TEMPO_US}
    before = DEFAULT_TEMPO_US
    for tick, tempo in score.tempi_us.items():
        if tempo != before and tick < end:
            changes[tick] = before = tempo
    return _map_of_ticks(changes, score.ticks_per_beat)


def _first_bar(score: Score) -> Fraction:
    return next(iter(score.bars.values()), Fraction(4))


def _bar_line(tick: int, score: Score) -> int:
    """Return the first bar line after a tick."""
    start, n_beats = 0, _first_bar(score)
    for change, beats in score.bars.items():
        if change <= tick:
            start, n_beats = change, beats
    bar = n_beats * int(score.ticks_per_beat)
    line = math.ceil(start + bar * ((tick - start) // bar + 1))
    # A new time signature begins a new bar, wherever the old one would have ended.
    return min([line, *(change for change in score.bars if change > tick)])


def _end_tick(track_end: int, last: int, score: Score) -> int:
    """Return where the rhythm ends: at the track's end if that is a bar line, else after the last event."""
    slack = max(int(score.ticks_per_beat) // 32, 1)
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
