import io
import tempfile
from pathlib import Path

import mido
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transform import midi_file
from transform.drum_maps import DRUM_MAPS
from transform.errors import RedrumError, RhythmError, SettingsError
from transform.events import CLASSES, TOM_HEIGHTS, DrumEvent, Rhythm, TempoMap
from transform.midi import parse_midi, read_midi, write_midi


def hexdump(text):
    """Return the bytes of a hexdump whose lines may end in comments."""
    return bytes.fromhex("".join(line.split("#")[0] for line in text.splitlines()))


TYPE_0 = hexdump("""
    4d 54 68 64 00 00 00 06  # MThd, 6 bytes
    00 00 00 01 00 60        # type 0, 1 track, 96 ticks a beat
    4d 54 72 6b 00 00 00 20  # MTrk, 32 bytes
    00 ff 51 03 09 27 c0     # 600 000 us a beat: 100 BPM
    00 99 24 7f              # channel 10, note 36 (kick) on at 127
    00 2e 40                 # running status: note 46 (open hat) on
    30 24 00                 # after half a beat: kick on at velocity 0, which is off
    30 26 64                 # beat 1: note 38 (snare) on
    00 26 00                 # off at once: a note of zero length
    00 89 2e 40              # open hat off, with a status of its own
    82 20 ff 2f 00           # 288 ticks on, at beat 4: end of track
""")
# Two tracks with their own tempo track; the tempo changes in the middle.
TYPE_1 = hexdump("""
    4d 54 68 64 00 00 00 06  # MThd
    00 01 00 03 00 60        # type 1, 3 tracks, 96 ticks a beat
    4d 54 72 6b 00 00 00 1b  # MTrk, 27 bytes: the conductor
    00 ff 58 04 03 02 18 08  # 3/4
    00 ff 51 03 07 a1 20     # 500 000 us: 120 BPM
    81 40 ff 51 03 0f 42 40  # beat 2: 1 000 000 us: 60 BPM
    00 ff 2f 00              # end
    4d 54 72 6b 00 00 00 10  # MTrk, 16 bytes: kicks
    00 99 24 40              # beat 0
    81 40 24 40              # beat 2
    60 24 40                 # beat 3
    83 00 ff 2f 00           # beat 7: end, past the second bar
    4d 54 72 6b 00 00 00 0a  # MTrk, 10 bytes: one snare
    81 10 99 26 40           # beat 1.5
    82 50 ff 2f 00           # beat 5: end
""")


def smf(*tracks, file_type=1, ticks_per_beat=96):
    """Return a file of tracks, each a list of (beat, message without time)."""
    return b"".join(
        [b"MThd", (6).to_bytes(4, "big"), file_type.to_bytes(2, "big"), len(tracks).to_bytes(2, "big")]
        + [ticks_per_beat.to_bytes(2, "big", signed=True)]
        + [b"MTrk" + len(body).to_bytes(4, "big") + body for body in map(track, tracks)]
    )


def track(messages, ticks_per_beat=96):
    body = bytearray()
    now = 0
    for beat, message in messages:
        tick = round(beat * ticks_per_beat)
        delta = tick - now
        body += bytes([0x80 | delta >> 14 & 0x7F, 0x80 | delta >> 7 & 0x7F, delta & 0x7F]) + message
        now = tick
    return bytes(body)


def hit(note, velocity=64, channel=10):
    return bytes([0x90 + channel - 1, note, velocity])


END = b"\xff\x2f\x00"


def four_hits(*notes, channel=10):
    return smf([*((beat, hit(note, channel=channel)) for beat, note in enumerate(notes)), (4, END)])


def read(data, drum_map="auto"):
    return parse_midi(data, name="groove", drum_map=drum_map)


def played(rhythm):
    return [(round(e.onset_s, 9), e.drum_class, e.articulation) for e in rhythm.events]


def test_type_0_with_running_status_and_zero_length_notes():
    rhythm = read(TYPE_0)
    assert played(rhythm) == [(0.0, "KD", ""), (0.0, "HH", "open"), (0.6, "SD", "")]
    assert [event.velocity for event in rhythm.events] == [1.0, 64 / 127, 100 / 127]
    assert rhythm.length_s == pytest.approx(2.4)
    assert rhythm.bpm == pytest.approx(100)


def test_type_1_merges_tracks_through_a_tempo_change():
    rhythm = read(TYPE_1)
    assert played(rhythm) == [(0.0, "KD", ""), (0.75, "SD", ""), (1.0, "KD", ""), (2.0, "KD", "")]
    assert rhythm.tempo_map.changes == ((0.0, 120.0), (2.0, 60.0))
    assert rhythm.beats_per_bar == 3
    # The tracks end within the third bar, the last event lies in the second: two bars, 2 beats and 4 beats.
    assert rhythm.length_s == pytest.approx(2 * 0.5 + 4 * 1.0)


def test_read_midi_takes_its_name_from_a_path_with_spaces_and_accents(tmp_path):
    path = tmp_path / "mein Grüße 鼓.mid"
    path.write_bytes(TYPE_0)
    assert read_midi(path).name == "mein Grüße 鼓"
    assert read_midi(str(path)).events == read(TYPE_0).events


def test_length_is_whole_bars(subtests):
    cases = [
        (1.5, 1, 4),  # at least one bar
        (4, 1, 4),
        (8, 1, 8),  # a lane that ends in an empty bar
        (4.25, 3.75, 4),  # the last note rings over the bar line
        (6.5, 3.75, 4),  # ... far
        (8.02, 7, 8),  # one tick or two past the line
        (7.99, 7, 8),
        (4, 4, 8),  # an event on the line begins a bar
    ]
    for end_beat, last_beat, n_beats in cases:
        with subtests.test(end_beat=end_beat, last_beat=last_beat, n_beats=n_beats):
            data = smf([(0, hit(36)), (last_beat, hit(38)), (end_beat, END)])
            assert read(data).n_beats == pytest.approx(n_beats)


def test_length_follows_changing_time_signatures():
    signatures = [(0, b"\xff\x58\x04\x07\x03\x18\x08"), (3.5, b"\xff\x58\x04\x02\x02\x18\x08")]  # 7/8, 2/4
    rhythm = read(smf([*signatures, (3.6, END)], [(0, hit(36)), (4, hit(36)), (4.1, END)]))
    assert (rhythm.n_beats, rhythm.beats_per_bar) == (5.5, 3.5)


def test_length_is_that_of_the_drum_tracks():
    assert read(smf([(0, hit(60, channel=1)), (40, END)], [(0, hit(36)), (4, END)])).n_beats == 4


def test_no_tempo_is_120_bpm():
    rhythm = read(four_hits(36, 38, 36, 38))
    assert rhythm.bpm == 120
    assert [event.onset_s for event in rhythm.events] == [0, 0.5, 1, 1.5]


def test_a_late_first_tempo_and_a_tempo_of_zero_leave_120_bpm_before():
    tempi = [(0, b"\xff\x51\x03\x00\x00\x00"), (2, b"\xff\x51\x03\x0f\x42\x40")]
    rhythm = read(smf([*tempi, (2, END)], [(0, hit(36)), (3, hit(36)), (4, END)]))
    assert [event.onset_s for event in rhythm.events] == [0, 2.0]


def test_drums_on_channel_10_win_over_other_channels():
    data = smf([(0, hit(36, channel=1)), (1, hit(38)), (4, END)])
    assert played(read(data)) == [(0.5, "SD", "")]


def test_drums_on_another_channel_are_found_and_a_melody_is_not():
    drums = [(beat, hit(note, channel=2)) for beat, note in enumerate([36, 42, 38, 42])]
    melody = [(beat, hit(note, channel=3)) for beat, note in enumerate([60, 64, 48, 72])]
    rhythm = read(smf([*drums, (4, END)], [*melody, (4, END)]))
    assert [e[1] for e in played(rhythm)] == ["KD", "HH", "SD", "HH"]
    assert "channel 2" in rhythm.notes[0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (four_hits(60, 64, 67, 72, channel=1), "channel 1 has 4, from 60 to 72"),
        (four_hits(60, 62, 64, 63), "channel 10 has 4, from 60 to 64"),  # congas
        (smf([(4, END)]), "no notes at all"),
        (smf(), "no notes at all"),
    ],
)
def test_no_drum_notes_says_what_is_there(data, said):
    with pytest.raises(RhythmError, match="no drum notes") as caught:
        read(data)
    assert said in str(caught.value)
    assert caught.value.hint


def test_hand_percussion_is_left_out_and_counted():
    rhythm = read(four_hits(36, 54, 54, 63))
    assert [e[1] for e in played(rhythm)] == ["KD"]
    assert "54 (2x), 63 (1x)" in rhythm.notes[0]


def test_layered_notes_of_one_drum_are_one_stroke_the_loudest():
    data = smf([(0, hit(35, 40)), (0, hit(36, 90)), (0, hit(38, 50)), (4, END)])
    assert [(e.drum_class, e.velocity) for e in read(data).events] == [("KD", 90 / 127), ("SD", 50 / 127)]


def test_general_midi_has_all_notes_of_the_kit():
    by_class = {c: {n for n, (found, _) in DRUM_MAPS["gm"].items() if found == c} for c in CLASSES}
    assert by_class == {
        "KD": {35, 36},
        "SD": {37, 38, 39, 40},
        "TT": {41, 43, 45, 47, 48, 50},
        "HH": {42, 44, 46},
        "CY": {49, 51, 52, 53, 55, 57, 59},
    }


@pytest.mark.parametrize("name", DRUM_MAPS)
def test_drum_maps_hold_only_valid_strokes(name):
    for note, (drum_class, articulation) in DRUM_MAPS[name].items():
        assert 0 <= note <= 127
        DrumEvent(0, drum_class, 1, articulation)
        assert articulation or drum_class != "HH"
    assert {drum_class for drum_class, _ in DRUM_MAPS[name].values()} == set(CLASSES)


@pytest.mark.parametrize(
    ("name", "notes", "expected"),
    [
        ("roland-td", (36, 22, 58, 26), ["KD", "HHclosed", "TTlow", "HHopen"]),
        ("ableton", (36, 44, 41, 49), ["KD", "HHclosed", "TTfloor", "CYcrash"]),
        ("ezdrummer", (36, 63, 21, 24), ["KD", "HHclosed", "HHpedal", "HHopen"]),
        ("ezdrummer", (37, 51, 53, 41), ["SDsidestick", "CYride", "CYbell", "TTfloor"]),
        ("addictive", (36, 42, 54, 71), ["KD", "SD", "HHopen", "TThigh"]),
        ("addictive", (77, 48, 50, 60), ["CY", "HHpedal", "HHclosed", "CYride"]),
    ],
)
def test_a_named_map_is_used(name, notes, expected):
    rhythm = read(four_hits(*notes), drum_map=name)
    assert [e.drum_class + e.articulation for e in rhythm.events] == expected


@pytest.mark.parametrize(
    ("notes", "expected"),
    [
        ((36, 39, 44, 56), ["KD", "SDclap", "HHpedal"]),  # all of it General MIDI's
        ((36, 22, 38, 26), ["KD", "HHclosed", "SD", "HHopen"]),  # Roland's hat edges
        ((36, 58, 38, 42), ["KD", "TTlow", "SD", "HHclosed"]),  # Roland's tom rim, no vibraslap
        ((36, 24, 38, 21), ["KD", "HHopen", "SD", "HHpedal"]),  # EZdrummer's hats
        ((36, 38, 89, 93), ["KD", "SD", "CY", "CY"]),  # Addictive Drums' cymbals
    ],
)
def test_the_map_is_found_from_the_notes(notes, expected):
    assert [e.drum_class + e.articulation for e in read(four_hits(*notes)).events] == expected


def test_an_unknown_map_is_refused_by_name():
    with pytest.raises(SettingsError, match="linn") as caught:
        read(TYPE_0, drum_map="linn")
    assert "roland-td" in caught.value.hint


BROKEN = {
    "empty": (b"", "is empty"),
    "a wave file": (b"RIFF\x00\x00\x00\x00WAVEfmt ", "not a MIDI file"),
    "four bytes": (b"MThd", "ends in its header"),
    "short header": (b"MThd\x00\x00\x00\x02\x00\x01", "header is too short"),
    "cut in a track": (TYPE_1[:-30], "promises .* bytes and holds"),
    "no ticks": (smf([(0, hit(36)), (4, END)], ticks_per_beat=0), "division of time"),
    "a message that runs past its track": (smf([(0, b"\x99\x24")], [(0, hit(36))]), "cannot be read"),
    "data where a status should be": (smf([(0, b"\x24\x24\x24")]), "cannot be read"),
    "days": (smf([(0, hit(36))] + [(10_000.0 * i, hit(36)) for i in range(1, 20)]), "lasts"),
    "a number of a megabyte": (
        b"MThd\0\0\0\6\0\1\0\1\0\1MTrk\0\x10\0\0" + b"\xff" * (2**20 - 4) + b"\x7f" + hit(36),
        "a number never ends",
    ),
    "data after a system message": (smf([(0, b"\xf0\x01\xf7"), (0, b"\x24\x24")]), "cannot be read"),
    "never ends": (
        b"MThd\0\0\0\6\0\1\0\1\0\1MTrk\0\0\0\x0a" + b"\xff" * 6 + b"\x7f" + hit(36),
        "never ends",
    ),
}


def test_a_broken_file_is_one_clear_error(tmp_path, subtests):
    for case in BROKEN:
        with subtests.test(case=case):
            data, said = BROKEN[case]
            path = tmp_path / "broken.mid"
            path.write_bytes(data)
            with pytest.raises(RhythmError, match=said) as caught:
                read_midi(path)
            assert str(caught.value).startswith("broken ")


def test_a_missing_file_and_a_folder_are_errors(tmp_path):
    with pytest.raises(RhythmError, match="does not exist"):
        read_midi(tmp_path / "none.mid")
    with pytest.raises(RhythmError, match="cannot be read"):
        read_midi(tmp_path)


def test_foreign_chunks_and_bytes_after_the_end_are_skipped():
    foreign = b"XFIH\x00\x00\x00\x03abc"
    assert read(TYPE_0[:14] + foreign + TYPE_0[14:] + b"junk").events == read(TYPE_0).events


def flipped(data):
    """Strategy: the file with some bits flipped, some bytes cut from its end."""
    flips = st.lists(st.integers(0, 8 * len(data) - 1), max_size=12)
    return st.tuples(flips, st.integers(0, len(data) // 4)).map(lambda drawn: _flip(data, *drawn))


def _flip(data, flips, cut):
    changed = bytearray(data)
    for bit in flips:
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed[: len(changed) - cut])


@settings(max_examples=600, deadline=None, derandomize=True)
@given(
    st.one_of(
        st.binary(max_size=200),
        st.binary(max_size=100).map(lambda body: TYPE_0[:14] + b"MTrk" + len(body).to_bytes(4, "big") + body),
        flipped(TYPE_0),
        flipped(TYPE_1),
    ),
    st.sampled_from(["auto", *DRUM_MAPS]),
)
def test_no_bytes_escape_as_anything_but_our_errors(data, drum_map):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.mid"
        path.write_bytes(data)
        try:
            rhythm = read_midi(path, drum_map=drum_map)
        except RedrumError:
            return
    assert rhythm.events
    assert rhythm.events[-1].onset_s < rhythm.length_s


ALL_STROKES = tuple(
    DrumEvent(0.11 + 0.1271 * i, drum_class, velocity, articulation)
    for i, (drum_class, velocity, articulation) in enumerate(
        [
            ("KD", 1.0, ""),
            ("SD", 0.5, ""),
            ("SD", 0.4, "sidestick"),
            *(("TT", 0.2, height) for height in TOM_HEIGHTS),
            ("HH", 0.7, "closed"),
            ("HH", 0.7, "open"),
            ("HH", 0.7, "pedal"),
            ("CY", 0.001, "crash"),
            ("CY", 0.3, "ride"),
        ]
    )
)


def test_written_midi_reads_back_within_a_millisecond_at_any_tempo(subtests):
    for bpm in [3.6, 20, 33.3, 60, 97, 120, 174.61, 300, 999]:
        with subtests.test(bpm=bpm):
            late = tuple(
                DrumEvent(e.onset_s + 1190, e.drum_class, e.velocity, e.articulation) for e in ALL_STROKES
            )
            rhythm = Rhythm(ALL_STROKES + late, 1200.0, TempoMap.constant(bpm), "fill")
            back = read(write_midi(rhythm))
            assert [(e.drum_class, e.articulation) for e in back.events] == [
                (e.drum_class, e.articulation) for e in rhythm.events
            ]
            for ours, theirs in zip(rhythm.events, back.events, strict=True):
                assert theirs.onset_s == pytest.approx(ours.onset_s, abs=0.51e-3)
                assert theirs.velocity == pytest.approx(max(ours.velocity, 1 / 127), abs=0.5 / 127)
            assert back.bpm == pytest.approx(bpm, rel=1e-4)


def test_a_flam_is_written_as_two_notes_and_two_notes_stay_two_strokes(subtests):
    flam = DrumEvent(0.5, "SD", 0.8, flam_ms=30.0)
    back = read(write_midi(Rhythm((flam,), 2.0, TempoMap.constant(120), "flam")))
    assert [(round(e.onset_s, 3), e.drum_class, e.flam_ms) for e in back.events] == [
        (0.5, "SD", 0.0),
        (0.53, "SD", 0.0),
    ]
    assert back.events[0].velocity == pytest.approx(0.4, abs=0.01)
    assert back.events[1].velocity == pytest.approx(0.8, abs=0.01)
    for apart_ms in (10, 20, 45):
        with subtests.test(apart_ms=apart_ms):
            pair = tuple(DrumEvent(0.5 + s, "SD", v) for s, v in ((0.0, 0.4), (apart_ms / 1000, 0.8)))
            back = read(write_midi(Rhythm(pair, 2.0, TempoMap.constant(120), "pair")))
            assert [e.onset_s for e in back.events] == pytest.approx([e.onset_s for e in pair], abs=1e-3)


def test_written_midi_keeps_a_changing_tempo_the_bars_and_the_length():
    rhythm = Rhythm(ALL_STROKES, 2.0, TempoMap(((0, 113), (1.7, 91), (2.3, 140)))).section(0, 30.0)
    back = read(write_midi(rhythm))
    assert [e.onset_s for e in back.events] == pytest.approx([e.onset_s for e in rhythm.events], abs=0.51e-3)
    bar_of_7 = Rhythm(ALL_STROKES, 3.5 * 60 / 97, TempoMap.constant(97), beats_per_bar=3.5)
    back = read(write_midi(bar_of_7))
    assert (back.beats_per_bar, round(back.n_beats, 3)) == (3.5, 3.5)


def test_written_midi_is_general_midi_on_channel_10(tmp_path):
    path = tmp_path / "out.mid"
    path.write_bytes(write_midi(Rhythm(ALL_STROKES, 2.0, name="Trommel 鼓")))
    file = mido.MidiFile(path)
    strokes = [m for m in file.tracks[1] if m.type == "note_on"]
    assert (file.type, file.ticks_per_beat) == (1, 960)
    assert [m.note for m in strokes] == [36, 38, 37, 41, 43, 45, 47, 48, 50, 42, 46, 44, 49, 51]
    assert {m.channel for m in strokes} == {9}
    assert [m.tempo for m in file.tracks[0] if m.type == "set_tempo"] == [500_000]
    assert file.length == pytest.approx(2.0)


def test_a_tempo_that_nobody_knew_is_not_known_afterwards():
    heard = Rhythm((DrumEvent(0.1, "KD", 0.5), DrumEvent(1.3, "SD", 0.5)), 1.7)
    data = write_midi(heard)
    back = read(data)
    assert (back.tempo_map, back.bpm, back.n_beats) == (None, None, None)
    assert back.length_s == pytest.approx(1.7, abs=0.001)  # not up to a bar line of 120 BPM
    assert [e.onset_s for e in back.events] == pytest.approx([0.1, 1.3], abs=0.001)
    assert read(write_midi(back)) == back
    # To any other program it is at 120 BPM, at which its seconds are right.
    file = mido.MidiFile(file=io.BytesIO(data))
    assert file.length == pytest.approx(1.7, abs=0.001)
    # And one that gives it a tempo is believed, if it keeps our text or not.
    tempo = next(message for message in file.tracks[0] if message.type == "set_tempo")
    tempo.tempo = 600_000
    edited = io.BytesIO()
    file.save(file=edited)
    assert read(edited.getvalue()).bpm == pytest.approx(100)
    # 120 BPM that are known stay known.
    assert read(write_midi(Rhythm(heard.events, 1.7, TempoMap.constant(120)))).bpm == 120


def test_written_notes_end_before_they_begin_again():
    roll = Rhythm(tuple(DrumEvent(i * 0.01, "SD", 0.5) for i in range(20)), 2.0, TempoMap.constant(120))
    sounding = 0
    for message in mido.MidiFile(file=io.BytesIO(write_midi(roll))).tracks[1]:
        if message.type in ("note_on", "note_off"):
            sounding += 1 if message.type == "note_on" else -1
            assert sounding in (0, 1)
    assert sounding == 0


def test_an_event_at_the_very_end_stays_in_its_bar():
    rhythm = Rhythm((DrumEvent(1.99999, "KD", 1),), 2.0, TempoMap.constant(120))
    assert read(write_midi(rhythm)).n_beats == 4


def test_an_empty_rhythm_is_written_as_an_empty_file_of_its_length():
    file = mido.MidiFile(file=io.BytesIO(write_midi(Rhythm((), 3.0))))
    assert file.length == pytest.approx(3.0)


def test_ticks_per_beat_can_be_chosen_and_are_checked():
    rhythm = Rhythm(ALL_STROKES, 2.0)
    assert mido.MidiFile(file=io.BytesIO(write_midi(rhythm, ticks_per_beat=96))).ticks_per_beat == 96
    for wrong in (0, 40_000):
        with pytest.raises(SettingsError):
            write_midi(rhythm, ticks_per_beat=wrong)


def test_a_tempo_that_midi_cannot_hold_is_refused():
    with pytest.raises(RhythmError, match=r"3\.6 BPM"):
        write_midi(Rhythm((), 2.0, TempoMap.constant(2)))


def test_a_system_message_of_a_megabyte_is_passed_over():
    long = b"\xf0" + b"\x80\xc0\x80\x00"[1:] + b"\x01" * 2**20
    assert read(smf([(0, long), (0, hit(36)), (4, END)])).events == read(smf([(0, hit(36)), (4, END)])).events


@pytest.mark.parametrize(
    ("limit", "message"),
    [("_MOST_MESSAGES", "messages"), ("_MOST_NOTES", "notes"), ("_MOST_BYTES", "it has more than")],
)
def test_a_file_that_never_ends_is_refused(tmp_path, monkeypatch, limit, message):
    path = tmp_path / "long.mid"
    path.write_bytes(smf([(0, hit(36)), (1, hit(38)), (2, hit(36)), (4, END)]))
    assert len(read_midi(path).events) == 3
    monkeypatch.setattr(midi_file, limit, 2)
    with pytest.raises(RhythmError, match=message):
        read_midi(path)
