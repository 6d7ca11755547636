"""MIDI as musicians have it: good notes beside one bad, unimportant event, and drums on any channel."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from transform.drum_maps import DrumNotes
from transform.errors import RedrumError, RhythmError, SettingsError
from transform.midi import parse_midi

END = b"\xff\x2f\x00"
TEMPO = b"\xff\x51\x03\x07\xa1\x20"  # 120 BPM
BAR = 1920
KIT = [(i * 240, 42, 80) for i in range(8)] + [(0, 36, 110), (960, 36, 110), (480, 38, 100), (1440, 38, 100)]
ONSETS = {"KD": [0.0, 1.0], "SD": [0.5, 1.5], "HH": [i / 4 for i in range(8)]}


def quantity(number):
    out = [number & 127]
    while number := number >> 7:
        out.append(128 | number & 127)
    return bytes(reversed(out))


def chunk(body, kind=b"MTrk", size=None):
    return kind + struct.pack(">L", len(body) if size is None else size) + body


def body_of(messages, end=BAR, closing=END):
    now, out = 0, b""
    for tick, message in sorted(messages, key=lambda pair: pair[0]):
        out += quantity(tick - now) + message
        now = tick
    return out + quantity(end - now) + closing


def notes(played, channel=10):
    return [(tick, bytes([0x90 | channel - 1, number, velocity])) for tick, number, velocity in played]


def smf(*bodies, division=480, file_type=1, n_tracks=None):
    header = struct.pack(">HHH", file_type, len(bodies) if n_tracks is None else n_tracks, division)
    return chunk(header, b"MThd") + b"".join(map(chunk, bodies))


def kit(*others, channel=10, **how):
    """Return the body of a track with a bar of drums, and other messages at their ticks."""
    return body_of([(0, TEMPO), *others, *notes(KIT, channel)], **how)


def event(message):
    return smf(kit((0, message)))


GOOD = smf(kit())
BODY = kit()
AS_FOUND = {
    "key signature of 128 flats": event(b"\xff\x59\x02\x80\x00"),
    "empty key signature": event(b"\xff\x59\x00"),
    "time signature of two bytes": event(b"\xff\x58\x02\x04\x02"),
    "empty time signature": event(b"\xff\x58\x00"),
    "time signature of 0 beats": event(b"\xff\x58\x04\x00\x02\x18\x08"),
    "time signature with a power of 200": event(b"\xff\x58\x04\x04\xc8\x18\x08"),
    "empty tempo": event(b"\xff\x51\x00"),
    "tempo of two bytes": event(b"\xff\x51\x02\x07\xa1"),
    "tempo of nought": event(b"\xff\x51\x03\x00\x00\x00"),
    "SMPTE offset of one byte": event(b"\xff\x54\x01\x00"),
    "text that is no UTF-8": event(b"\xff\x03\x03\xff\xfe\x80"),
    "a meta message that nobody knows": event(b"\xff\x77\x02\x01\x02"),
    "end of track with a byte": smf(kit(closing=b"\xff\x2f\x01\x00")),
    "no end of track": smf(kit(closing=b"\xff\x01\x00")),
    "controller at 128": event(bytes([0xB9, 7, 0x80])),
    "pitch bend above 127": event(bytes([0xE9, 0xFF, 0xFF])),
    "a system message that nobody knows": event(b"\xf4"),
    "system exclusive with 0xff": event(b"\xf0\x08\x50\x53\x00\x00\xff\x04\x01\xf7"),
    "running status across system exclusive": smf(
        body_of([(0, TEMPO), (0, b"\x99\x24\x6e"), (0, b"\xf0\x01\xf7"), (0, b"\x2a\x50"), *notes(KIT[1:])])
    ),
    "a note above 127": event(bytes([0x99, 200, 90])),
    "track length 30 too long": GOOD[:14] + chunk(BODY, size=len(BODY) + 30),
    "track length 30 too short": GOOD[:14] + chunk(BODY, size=len(BODY) - 30),
    "track length 0": GOOD[:14] + chunk(BODY, size=0),
    "track length never written": GOOD[:14] + chunk(BODY, size=0xFFFFFFFF),
    "a recorder that crashed": GOOD[:14] + chunk(BODY[:-4] + b"\x87\x40\xb9", size=0),
    "its last byte missing": GOOD[:-1],
    "its last three bytes missing": GOOD[:-3],
    "its end of track missing": GOOD[:-4],
    "two tracks, the first too long": smf(n_tracks=2) + chunk(body_of([]), size=99) + chunk(BODY),
    "five tracks promised": smf(BODY, n_tracks=5),
    "no tracks promised": smf(BODY, n_tracks=0),
    "RIFF": b"RIFF" + struct.pack("<L", len(GOOD) + 12) + b"RMIDdata" + struct.pack("<L", len(GOOD)) + GOOD,
    "RIFF, sounds behind": b"RIFF" + bytes(4) + b"RMIDdata" + struct.pack("<L", len(GOOD)) + GOOD + b"LIST" * 5,
    "behind the 128 bytes of MacBinary": bytes(128) + GOOD,
    "type 2, one track": smf(BODY, file_type=2),
    "type 2, a track of tempi": smf(body_of([(0, TEMPO)]), BODY, file_type=2),
    "type 7": smf(BODY, file_type=7),
    "header of 10 bytes": b"MThd\0\0\0\x0a" + GOOD[8:14] + bytes(4) + GOOD[14:],
    "header length too long": b"MThd\0\0\0\x0a" + GOOD[8:],
    "zeros behind the track": GOOD + bytes(100),
}  # fmt: skip


def onsets(rhythm):
    found = {}
    for e in rhythm.events:
        found.setdefault(e.drum_class, []).append(round(e.onset_s, 6))
    return found


@pytest.mark.parametrize("case", AS_FOUND)
def test_good_notes_are_read_past_what_does_not_matter(case):
    rhythm = parse_midi(AS_FOUND[case], name="groove")
    assert (onsets(rhythm), rhythm.length_s, rhythm.bpm) == (ONSETS, 2.0, 120.0)


def test_velocities_above_127_are_the_loudest():
    rhythm = parse_midi(smf(body_of([(0, TEMPO), *notes([(0, 36, 200), (480, 38, 64)])])), name="groove")
    assert [event.velocity for event in rhythm.events] == [1.0, 64 / 127]


@pytest.mark.parametrize(("frames", "rate_hz"), [(24, 24), (25, 25), (29, 30000 / 1001), (30, 30)])
def test_video_frames_are_seconds_without_a_tempo(frames, rate_hz):
    division = (256 - frames) << 8 | 40
    ticks = round(rate_hz * 40)  # of a second
    data = smf(
        body_of([(0, b"\xff\x51\x03\x03\xd0\x90"), *notes([(0, 36, 90), (ticks, 38, 90)])], end=2 * ticks),
        division=division,
    )
    rhythm = parse_midi(data, name="groove")
    assert onsets(rhythm)["SD"] == [pytest.approx(1, abs=5e-4)]
    assert rhythm.length_s == pytest.approx(2, abs=1e-3)
    assert rhythm.bpm is None


def test_a_tempo_that_is_only_assumed_is_said():
    assert "120 BPM" in parse_midi(smf(body_of(notes(KIT))), name="g").notes[-1]
    assert not parse_midi(GOOD, name="g").notes


def test_the_place_where_a_file_breaks_off_is_named():
    with pytest.raises(RhythmError, match=r"its chunk 3 promises \d+ bytes and holds 20"):
        parse_midi(GOOD[:12] + GOOD[12:14] + chunk(BODY) + chunk(BODY)[:28], name="groove")


def test_missing_tracks_are_named():
    assert "promises 5 tracks and holds 1" in parse_midi(AS_FOUND["five tracks promised"], name="g").notes[0]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (GOOD[:-30], "promises"),  # a download that broke off
        (smf(BODY, BODY, file_type=2), "type 2"),
        (smf(BODY, division=0), "division"),
        (smf(BODY, division=0xE928), "division"),
        (smf(body_of(notes([(0, 36, 200)]), closing=b"\xff\x01\x00")), "above 127"),  # read from a wrong place?
    ],
)
def test_what_would_be_a_guess_is_refused(data, said):
    with pytest.raises(RhythmError, match=said) as caught:
        parse_midi(data, name="groove")
    assert caught.value.hint


def only(*classes):
    return {name: ONSETS[name] for name in classes}


KEYS = [(i * 480, 0, 1) for i in range(4)]
CLICK = [(i * 480, 37, 100) for i in range(4)]
BASS = [(i * 480, number, 90) for i, number in enumerate((28, 31, 33, 35))]
PIANO = [(i * 480, number, 70) for i in range(4) for number in (60, 64, 67)]
PART_OF_DRUMS = bytes.fromhex("f00a41104212401a15021bf7")  # GS: channel 11 plays drums
GM2_DRUMS = b"\xb2\x00\x78"  # bank 120 on channel 3
CHANNELS = {
    "switched by keys": (smf(kit(channel=1), body_of(notes(KEYS, 1))), {}, ONSETS, "0 (4x)"),
    "loud keys below a piano": (smf(kit(channel=1), body_of(notes([(0, 5, 100)], 1))), {}, ONSETS, "5 (1x)"),
    "the same, map named": (smf(kit(channel=1), body_of(notes(KEYS, 1))), {"drum_map": "gm"}, ONSETS, "0 (4x)"),
    "snare on 11": (
        smf(body_of(notes([n for n in KIT if n[1] != 38])), body_of(notes(KIT[-2:], 11))),
        {},
        ONSETS,
        "channel 11 are drums",
    ),
    "snare on 11, 10 alone named": (
        smf(body_of(notes([n for n in KIT if n[1] != 38])), body_of(notes(KIT[-2:], 11))),
        {"channels": "10"},
        only("KD", "HH"),
        "2 notes of channel 11",
    ),
    "kick on 3, the rest on 10": (
        smf(body_of(notes([n for n in KIT if n[1] != 36])), body_of(notes(KIT[8:10], 3))),
        {},
        ONSETS,
        "channel 3 are drums",
    ),
    "cymbals on 11": (
        smf(kit(), body_of(notes([(0, 49, 90), (480, 51, 90)], 11))),
        {},
        ONSETS | {"CY": [0.0, 0.5]},
        "channel 11 are drums",
    ),
    "bass on 11 is none": (smf(kit(), body_of(notes(BASS, 11))), {}, ONSETS, "4 notes of channel 11"),
    "a part that GS makes drums": (
        smf(body_of(notes(KIT[:8])), body_of([(0, PART_OF_DRUMS), *notes(KIT[8:], 11)])),
        {},
        ONSETS,
        None,
    ),
    "a bank of drums": (
        smf(body_of([(0, GM2_DRUMS), *notes(KIT, 3)]), body_of(notes(BASS, 1))),
        {},
        ONSETS,
        "of channel 1",
    ),
    "click on 10": (smf(body_of(notes(CLICK)), kit(channel=1)), {}, ONSETS, "plays a click"),
    "click on 10, named": (
        smf(body_of(notes(CLICK)), kit(channel=1)),
        {"channels": "10"},
        {"SD": [0.0, 0.5, 1.0, 1.5]},
        "12 notes of channel 1",
    ),
    "side stick and a bass are no click": (
        smf(body_of(notes([(0, 37, 90), (720, 37, 90), (960, 37, 90)])), body_of(notes(BASS, 2))),
        {},
        {"SD": [0.0, 0.75, 1.0]},
        "channel 2",
    ),
    "a song": (
        smf(kit(), body_of(notes(BASS, 1)), body_of(notes(PIANO, 2))),
        {},
        ONSETS,
        "16 notes of channel 1, 2",
    ),
    "a bass beside a kit, neither on 10": (
        smf(kit(channel=1), body_of(notes([(i * 480, n, 90) for i, n in enumerate((40, 43, 45, 38))], 2))),
        {},
        ONSETS,
        "4 notes of channel 2",
    ),
    "a bass beside kick, snare and ride": (
        smf(
            body_of(notes([(t, 51 if n == 42 else n, v) for t, n, v in KIT], 1)),
            body_of(notes([(i * 480, n, 90) for i, n in enumerate((36, 40, 43, 38))], 2)),
        ),
        {},
        only("KD", "SD") | {"CY": ONSETS["HH"]},
        "4 notes of channel 2",
    ),
    "a kit on 1, its cymbals on 11, a bass on 2": (
        smf(kit(channel=1), body_of(notes([(0, 49, 90)], 11)), body_of(notes([(0, 41, 90), (480, 43, 90)], 2))),
        {},
        ONSETS | {"CY": [0.0]},
        "channel 1, 11; left out of the rhythm: 2 notes of channel 2",
    ),
    "no drums on 10": (smf(kit(channel=4), body_of(notes(PIANO, 2))), {}, ONSETS, "channel 4"),
    "an octave too high": (
        smf(body_of(notes([(t, n + 12, v) for t, n, v in KIT]))),
        {"transpose": -12},
        ONSETS,
        None,
    ),
    "a pianist's kit, its channel named": (
        smf(body_of(notes([(0, 38, 90), (0, 106, 90), (480, 107, 90), (960, 108, 90)], 5))),
        {"channels": "5"},
        {"SD": [0.0]},
        "106 (1x)",
    ),
    "a map that fits badly is obeyed": (
        smf(body_of(notes([(0, 38, 90), (0, 106, 90), (480, 107, 90), (960, 108, 90)], 5))),
        {"drum_map": "gm"},
        {"SD": [0.0]},
        "106 (1x)",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CHANNELS)
def test_drums_are_found_on_the_channels_they_are_on_and_the_rest_is_named(case):
    data, chosen, expected, said = CHANNELS[case]
    drums = DrumNotes.of(chosen.get("drum_map", "auto"), chosen.get("channels"), chosen.get("transpose", 0))
    rhythm = parse_midi(data, name="groove", drum_map=drums)
    assert onsets(rhythm) == expected
    notes = "; ".join(rhythm.notes)
    assert said in notes if said else "left out" not in notes


FILL = [(720, 48, 90), (1080, 50, 90), (1680, 50, 90)]  # on toms of General MIDI
RIDE = [(tick, 51 if number == 42 else number, velocity) for tick, number, velocity in KIT]


@pytest.mark.parametrize("played", [KIT + FILL, RIDE + FILL])
@pytest.mark.parametrize("switches", [[12], [24], [24] * 2, [12, 13], [100], [21]])
@pytest.mark.parametrize("channel", [10, 1])
def test_keys_that_switch_a_sampler_change_no_drum(played, switches, channel):
    keys = [(480 * i, number, 100) for i, number in enumerate(switches)]
    rhythm = parse_midi(smf(body_of([(0, TEMPO), *notes(played + keys, channel)])), name="groove")
    plain = parse_midi(smf(body_of([(0, TEMPO), *notes(played, channel)])), name="groove")
    assert rhythm.events == plain.events
    assert all(f"{number} ({switches.count(number)}x)" in rhythm.notes[-1] for number in switches)


def test_a_map_that_is_not_general_midis_is_named():
    hats = [(t, 24 if number == 42 else number, v) for t, number, v in KIT]
    rhythm = parse_midi(smf(body_of([(0, TEMPO), *notes(hats)])), name="groove")
    assert onsets(rhythm) == ONSETS
    assert {e.articulation for e in rhythm.events if e.drum_class == "HH"} == {"open"}
    assert "ezdrummer" in rhythm.notes[0]
    assert "--drum-map gm" in rhythm.notes[0]
    named = parse_midi(smf(body_of([(0, TEMPO), *notes(hats)])), name="g", drum_map=DrumNotes.of("ezdrummer"))
    assert not named.notes


def test_a_map_of_ones_own(tmp_path):
    own = tmp_path / "my-map.toml"
    own.write_text('60 = "KD"\n61 = "sd sidestick"\n62 = "HH Open"\n')
    data = smf(body_of(notes([(0, 60, 90), (480, 61, 90), (480, 62, 90), (960, 36, 90)], 2)))
    rhythm = parse_midi(data, name="groove", drum_map=DrumNotes.of(str(own)))
    played = [(e.drum_class, e.articulation) for e in rhythm.events]
    assert played == [("KD", ""), ("SD", "sidestick"), ("HH", "open")]
    assert "36 (1x)" in "; ".join(rhythm.notes)


@pytest.mark.parametrize(
    "text", ["", "x = 1", '36 = "kazoo"', '128 = "KD"', '36 = "KD open"', "36 = 36", "[36", '"36 " = "KD"']
)
def test_a_map_that_is_none_is_refused_with_its_form(tmp_path, text):
    own = tmp_path / "my-map.toml"
    own.write_text(text)
    with pytest.raises(SettingsError, match=r"my-map\.toml") as caught:
        DrumNotes.of(str(own))
    assert '36 = "KD"' in caught.value.hint


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        (("auto", "17"), "channel 17"),
        (("auto", "ten"), "'ten'"),
        (("auto", None, 200), "200"),
        (("none.toml",), "none"),
    ],
)
def test_choices_that_stand_for_nothing_are_refused(chosen, said):
    with pytest.raises(SettingsError, match=said) as caught:
        DrumNotes.of(*chosen)
    assert caught.value.hint


def test_a_channel_without_notes_is_refused_and_the_others_are_named():
    with pytest.raises(RhythmError, match="channel 10 has 12") as caught:
        parse_midi(GOOD, name="groove", drum_map=DrumNotes.of("auto", "3"))
    assert "--channel" in caught.value.hint


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6),
    st.integers(0, 40),
    st.sampled_from([{}, {"channels": "10,11"}, {"drum_map": "gm", "transpose": 12}]),
)
def test_a_damaged_file_is_a_sound_rhythm_or_one_sentence(changes, n_cut, chosen):
    data = bytearray(GOOD[: len(GOOD) - n_cut])
    for at, byte in changes:
        data[at % len(data)] = byte
    drums = DrumNotes.of(chosen.get("drum_map", "auto"), chosen.get("channels"), chosen.get("transpose", 0))
    try:
        rhythm = parse_midi(bytes(data), name="groove", drum_map=drums)
    except RedrumError:
        return
    assert all(0 <= e.onset_s < rhythm.length_s and 0 < e.velocity <= 1 for e in rhythm.events)
    assert rhythm.events
