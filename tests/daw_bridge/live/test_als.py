"""Closed sets of Live 10, 11 and 12: times and tempi, files that moved, and sets that nobody should open."""

import gzip
import json
import math

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.live import als_xml
from daw_bridge.live.als import open_set, set_tempo
from daw_bridge.live.clips import live_tempo, pad_numbers
from tests.daw_bridge.live_worlds import FIRST_TIME, write_als
from tests.daw_bridge.live_worlds import als_xml as xml_of
from transform.engine import Redrummer
from transform.errors import DawError, OutputError
from transform.events import TempoMap

RHYTHM = "bossa-nova-132"


@pytest.fixture
def loop(write_wav, clicks):
    return write_wav("Samples/loop ünï.wav", clicks([0.1, 0.5], length_s=2.0))


def audio(file, begin=0.0, end=4.0, **more):
    plain = {"name": "loop", "is_midi_clip": False, "muted": False, "file_path": str(file), "warping": False}
    plain |= {"start_marker": 0.0, "end_marker": 2.0, "loop_start": 0.0, "loop_end": 2.0, "looping": False}
    return {**plain, "start_time": begin, "end_time": end, **more}


def warped(file, begin, end, n_beats, seconds, **more):
    markers = [(0.0, 0.0), (seconds, n_beats), (seconds * (1 + 1 / 32 / n_beats), n_beats + 1 / 32)]
    about = {"warping": True, "warp_markers": markers, "loop_end": n_beats, "end_marker": n_beats}
    return audio(file, begin, end, **{**about, **more})


def midi(notes, begin=0.0, end=4.0, **more):
    told = [{"start_time": beat, "pitch": pitch, "velocity": 100, "mute": mute} for beat, pitch, mute in notes]
    about = {"name": "beat", "is_midi_clip": True, "notes": told, "loop_end": 4.0, "end_marker": 4.0}
    return audio("", begin, end, **{**about, **more})


def track(name, *clips, **more):
    return {"name": name, "clips": list(clips), **more}


def items_of(path, **more):
    return open_set(path, **more).collect().items


@pytest.mark.parametrize("major", [10, 11, 12])
def test_every_version_says_the_same(tmp_path, loop, major):
    drums = track(
        "Drums & <bass>",
        audio(loop, 4.0, 6.0, start_marker=0.25),
        warped(loop, 8.0, 16.0, 4.0, 2.0, looping=True, start_marker=1.0, warp_mode=4),
    )
    notes = [(0.0, 36, False), (1.0, 38, False), (2.0, 42, True), (4.5, 49, False)]
    beat = track("beat", midi(notes, 8.0, 16.0, looping=True), pads={36: "Kick", 38: "Clap"})
    path = write_als(tmp_path / "söng.als", [drums, beat], ((0.0, 100.0), (8.0, 125.0)), major=major)
    job = open_set(path).collect()
    assert job.tempo == ((0.0, 100.0), (8.0, 125.0))
    assert [one.name for one in job.tracks] == ["Drums & <bass>", "beat"]
    plain, looped, played = job.items
    assert (plain.position_s, plain.length_s, plain.start_offset_s) == pytest.approx((2.4, 1.2, 0.25))
    assert (looped.position_s, looped.length_s) == pytest.approx((4.8, 8 * 60 / 125))
    assert all(item.file == str(loop) and item.state == "ok" for item in (plain, looped))
    told = [(region.position_s, region.file_s, region.play_rate) for region in looped.warp_regions]
    rate = 0.5 / 0.48  # a beat of the file is half a second, a beat of the set less
    np.testing.assert_allclose(told, [(0, 0.5, rate), (3 * 0.48, 0, rate), (7 * 0.48, 0, rate)], atol=1e-9)
    assert [(note.onset_beats, note.number) for note in played.notes] == [
        (8.0, 36),
        (9.0, 39),  # a clap, as the pad's name says
        (12.0, 36),
        (13.0, 39),
    ]


def test_the_automation_of_the_tempo_is_taken_at_each_sixteenth():
    # 60 to 120 BPM in four beats, held from one sixteenth to the next.
    events = [(FIRST_TIME, 60.0), (4.0, 60.0), (8.0, 120.0)]
    tempo = TempoMap(live_tempo(99.0, events))
    held = [60 + 60 * step / 16 for step in range(16)]
    assert tempo.seconds_at(4.0) == 4.0
    assert tempo.seconds_at(8.0) == pytest.approx(4.0 + sum(15 / bpm for bpm in held))
    assert tempo.seconds_at(8.0) == pytest.approx(4.0 + 4 * math.log(2), abs=0.07)  # near the smooth line
    assert tempo.bpm_at(100.0) == 120.0


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], ((0.0, 99.0),)),
        ([(FIRST_TIME, 120.0)], ((0.0, 120.0),)),
        ([(FIRST_TIME, 120.0), (0.0, 140.0)], ((0.0, 140.0),)),
        ([(FIRST_TIME, 120.0), (4.0, 120.0), (4.0, 90.0)], ((0.0, 120.0), (4.0, 90.0))),
        ([(FIRST_TIME, 120.0), (4.1, 120.0), (4.1, 90.0), (9.0, 90.0)], ((0.0, 120.0), (4.25, 90.0))),
        ([(4.0, 90.0), (FIRST_TIME, 120.0), (4.0, 150.0)], ((0.0, 90.0), (4.0, 150.0))),
    ],
)
def test_steps_of_the_tempo(events, expected):
    assert live_tempo(99.0, events) == expected


def test_a_set_without_arrangement_is_read_scene_by_scene(tmp_path, loop):
    drums = track(
        "drums", warped(loop, 0, 0, 4.0, 2.0, slot=0), warped(loop, 0, 0, 4.0, 2.0, slot=2, looping=True)
    )
    beat = track("beat", midi([(0.0, 36, False)], slot=2))
    path = write_als(tmp_path / "song.als", [drums, beat])
    items = items_of(path)
    assert [(item.kind, item.position_s, item.length_s) for item in items] == [
        ("audio", 0.0, 2.0),
        ("audio", 2.0, 2.0),
        ("midi", 2.0, 2.0),
    ]
    assert items[1].overlap_s(items[2]) == 2.0


def test_the_arrangement_comes_before_session_view(tmp_path, loop):
    drums = track("drums", audio(loop, 4.0, 6.0), warped(loop, 0, 0, 4.0, 2.0, slot=0))
    assert [item.position_s for item in items_of(write_als(tmp_path / "song.als", [drums]))] == [2.0]


def test_frozen_tracks_and_muted_clips_are_told(tmp_path, loop):
    ice = track("ice", audio(loop), is_frozen=True)
    path = write_als(tmp_path / "song.als", [ice, track("x", audio(loop, muted=True))])
    assert [item.state for item in items_of(path)] == ["frozen", "muted"]


# Where files lie


def ref(body):
    return f"<FileRef>{body}</FileRef>"


IN_PROJECT, BESIDE = '<RelativePathType Value="3" />', '<RelativePathType Value="1" />'
NAME = '<Name Value="loop ünï.wav" />'


def folders(*names):
    """A relative path as Live 10 writes it."""
    parts = "".join(f'<RelativePathElement Id="{n}" Dir="{name}" />' for n, name in enumerate(names))
    return f"<RelativePath>{parts}</RelativePath>"


@pytest.mark.parametrize(
    "body",
    [
        IN_PROJECT + '<RelativePath Value="Samples/loop ünï.wav" /><Path Value="/gone/x.wav" />',
        BESIDE + '<RelativePath Value="../Project/Samples/loop ünï.wav" />',
        IN_PROJECT + folders("Samples") + NAME,
        BESIDE + folders("", "Project", "Samples") + NAME,
    ],
    ids=["in the project", "beside it", "Live 10", "Live 10, beside it"],
)
def test_files_are_found_from_the_project_on(tmp_path, write_wav, clicks, body):
    file = write_wav("Project/Samples/loop ünï.wav", clicks([0.1]))
    (tmp_path / "Project" / "Ableton Project Info").mkdir()
    clip = audio("", file_ref=ref(body))
    (item,) = items_of(write_als(tmp_path / "Project" / "Backup" / "song.als", [track("x", clip)]))
    assert (item.file, item.state) == (str(file), "ok")


def test_a_file_that_was_collected_is_found_by_its_name(tmp_path, write_wav, clicks):
    file = write_wav("Samples/Imported/hit.wav", clicks([0.1]))
    clip = audio("", file_ref=ref('<RelativePath Value="" /><Path Value="C:/Users/somebody/hit.wav" />'))
    (item,) = items_of(write_als(tmp_path / "song.als", [track("x", clip)]))
    assert (item.file, item.state) == (str(file), "ok")


def test_the_windows_path_of_live_10_is_read(tmp_path):
    data = "C:\\drums\\hit.wav\0".encode("utf-16-le").hex().upper()
    body = f'<RelativePath /><Name Value="hit.wav" /><Data>\n\t{data[:20]}\n\t{data[20:]}\n</Data>'
    (item,) = items_of(write_als(tmp_path / "song.als", [track("x", audio("", file_ref=ref(body)))], major=10))
    assert (item.state, item.file) == ("offline", "C:\\drums\\hit.wav")


@pytest.mark.parametrize(
    "path", ["//evil/share/x.wav", "\\\\evil\\share\\x.wav", "", "a\0b.wav".replace("\0", "&#9;")]
)
def test_paths_that_lead_nowhere_are_offline_or_empty(tmp_path, path):
    clip = audio("", file_ref=ref(f'<RelativePath Value="" /><Path Value="{path}" />'))
    (item,) = items_of(write_als(tmp_path / "song.als", [track("x", clip)]))
    assert item.state == ("remote" if "evil" in path else "offline" if path else "empty")


def test_a_path_that_escapes_its_project_is_refused(tmp_path, loop):
    clip = audio(
        "", file_ref=ref('<RelativePathType Value="3" /><RelativePath Value="Samples/../../../etc/passwd" />')
    )
    with pytest.raises(DawError, match=r"refused: it names 'Samples/\.\./\.\./\.\./etc/passwd'"):
        open_set(write_als(tmp_path / "song.als", [track("x", clip)])).collect()


# Sets that nobody should open


def packed(path, data):
    path.write_bytes(gzip.compress(data))
    return path


BOMB = (
    b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">%s]><Ableton><LiveSet>&j;</LiveSet></Ableton>'
    % (b"".join(b'<!ENTITY %c "%s">' % (code + 1, b"&%c;" % code * 10) for code in range(ord("a"), ord("j"))))
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (BOMB, "declares a document type or entities"),
        (b'<!DOCTYPE x SYSTEM "file:///etc/passwd"><Ableton><LiveSet/></Ableton>', "document type"),
        (b"<Ableton><LiveSet>" + b"<Tracks>" * 500, "deep in each other"),
        (b"<Ableton><LiveSet></Ableton>", "is broken: mismatched tag"),
        (b"<html></html>", "no set of Live"),
        (b"<Ableton></Ableton>", "no set of Live"),
        (b"<Ableton><LiveSet></LiveSet></Ableton>", "no tempo"),
        (b"<Ableton><LiveSet><Tracks><Data>" + b"41" * 200_000, "a file reference has more than"),
        (b"<Ableton><LiveSet><Tracks><Data>" + b"4<!---->" * 300_000, "a file reference has more than"),
        (b'<Ableton><LiveSet><Name Value="' + b"x" * 5_000_000, "a tag has more than 4 MB"),
        (b"<Ableton><LiveSet><!--" + b"x" * 5_000_000, "a tag has more than 4 MB"),
        (b"<Ableton><LiveSet>" + b"".join(b"<k%d/>" % i for i in range(60_000)), "kinds of elements"),
        (b"<Ableton><LiveSet><Name %s/>" % b" ".join(b'a%d=""' % i for i in range(200)), "attributes"),
        (b"", "no element found"),
        (b"\xff\xfe\x00", "is broken"),
    ],
)
def test_hostile_and_broken_sets_are_refused_with_a_sentence(tmp_path, data, message):
    with pytest.raises(DawError, match=message) as caught:
        open_set(packed(tmp_path / "song.als", data))
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("encoding", ["UPF-8", "shift_jis", "utf-16", "hex", "latin-1"])
def test_a_set_is_read_as_live_writes_it_whatever_it_says_of_itself(tmp_path, loop, encoding):
    path = write_als(tmp_path / "song.als", [track("Bäss", audio(loop, 0.0, 4.0))])
    data = gzip.decompress(path.read_bytes())
    _, _, rest = data.partition(b"?>") if data.startswith(b"<?xml") else (b"", b"", data)
    assert b"B\xc3\xa4ss" in rest
    packed(path, f'<?xml version="1.0" encoding="{encoding}"?>'.encode() + rest)
    assert [found.name for found in open_set(path).collect().tracks] == ["Bäss"]


def test_a_set_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(als_xml, "MOST_BYTES", 10**6)
    data = b"<Ableton><LiveSet>" + b"<Skipped/>" * 200_000
    assert len(gzip.compress(data)) < 10_000
    with pytest.raises(DawError, match="unpacks to more than"):
        open_set(packed(tmp_path / "song.als", data))


@pytest.mark.parametrize(
    ("limit", "data", "message"),
    [
        ("_MOST_ELEMENTS", b"<Skipped/>" * 2000, "more than 1,000 elements"),
        ("_MOST_CHARACTERS", b'<Name Value="0123456789"/>' * 200, "more than 1,000 characters"),
    ],
)
def test_all_that_is_read_has_a_bound(tmp_path, monkeypatch, limit, data, message):
    monkeypatch.setattr(als_xml, limit, 1000)
    with pytest.raises(DawError, match=message):
        open_set(packed(tmp_path / "song.als", b"<Ableton><LiveSet>" + data))


def test_a_set_of_too_many_tracks_is_refused(tmp_path):
    data = xml_of([]).encode().replace(b"</Tracks>", b"<AudioTrack/>" * 20_000 + b"</Tracks>")
    with pytest.raises(DawError, match="more than 10,000 tracks"):
        open_set(packed(tmp_path / "song.als", data))


def test_clips_that_change_more_often_than_anybody_hears_are_refused_together(tmp_path, loop, monkeypatch):
    monkeypatch.setattr("daw_bridge.session._MOST_ELEMENTS", 50)
    clips = [warped(loop, 4.0 * n, 4.0 * n + 4, 4.0, 2.0, warp_markers=MANY_MARKERS) for n in range(20)]
    with pytest.raises(DawError, match="more than 50 notes and warped regions"):
        items_of(write_als(tmp_path / "song.als", [track("x", *clips)]))


MANY_MARKERS = [(0.0, 0.0), (0.6, 1.0), (1.0, 2.0), (1.6, 3.0), (2.0, 4.0), (2.1, 4.25)]


def test_the_order_of_warp_markers_means_nothing(tmp_path, loop):
    found = [
        items_of(
            write_als(tmp_path / "song.als", [track("x", warped(loop, 0.0, 4.0, 4.0, 2.0, warp_markers=m))])
        )
        for m in (MANY_MARKERS, MANY_MARKERS[::-1], MANY_MARKERS[3:] + MANY_MARKERS[:3])
    ]
    assert found[0] == found[1] == found[2]
    assert [round(region.file_s, 9) for region in found[0][0].warp_regions] == [0.0, 0.6, 1.0, 1.6]


def test_fifty_thousand_warp_markers_take_no_minutes(tmp_path, loop):
    # Each was looked for among all others: half an hour.
    n = 50_000
    markers = [(beat / 2 + 0.01 * (beat % 2), float(beat)) for beat in range(n)]
    clip = warped(loop, 0.0, float(n), float(n), n / 2, warp_markers=markers)
    (item,) = items_of(write_als(tmp_path / "song.als", [track("x", clip)]))
    assert np.allclose([region.file_s for region in item.warp_regions], [second for second, _ in markers[:-1]])


def test_a_set_of_too_many_elements_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(als_xml, "_MOST_NODES", 1000)
    with pytest.raises(DawError, match="more than 1,000 elements"):
        open_set(packed(tmp_path / "song.als", b"<Ableton><LiveSet>" + b"<Tracks/>" * 2000))


def test_files_that_are_no_sets_are_refused(tmp_path):
    text = tmp_path / "text.als"
    text.write_text("no set")
    with pytest.raises(DawError, match="neither packed with gzip nor XML"):
        open_set(text)
    cut = tmp_path / "cut.als"
    cut.write_bytes(gzip.compress(xml_of([]).encode())[:-200])
    with pytest.raises(DawError, match="cut short or damaged"):
        open_set(cut)
    damaged = bytearray(gzip.compress(xml_of([]).encode()))
    damaged[40:60] = bytes(20)
    cut.write_bytes(bytes(damaged))
    with pytest.raises(DawError, match=r"cut short or damaged|is broken"):
        open_set(cut)
    with pytest.raises(DawError, match="cannot be read"):
        open_set(tmp_path / "gone.als")


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('<CurrentStart Value="0.0"', '<CurrentStart Value="soon"', "CurrentStart is 'soon'"),
        ('<CurrentEnd Value="4.0"', '<CurrentEnd Value="1e999"', "CurrentEnd is '1e999'"),
        ('<Manual Value="120.0"', '<Manual Value="-1"', "tempo of -1"),
        ('SecTime="0.0"', 'SecTime=""', "SecTime is ''"),
        ('<LoopEnd Value="4.0"', '<LoopEnd Value="0.001"', "more than"),
    ],
)
def test_numbers_that_are_none_are_named(tmp_path, loop, before, after, message):
    long = warped(loop, 0.0, 4.0, 4.0, 2.0, looping=True)
    text = xml_of([track("x", long), track("y", warped(loop, 4.0, 1e6, 4.0, 2.0, looping=True))])
    assert before in text
    path = packed(tmp_path / "song.als", text.replace(before, after).encode())
    with pytest.raises(DawError, match=message):
        open_set(path).collect()


def test_a_beat_that_repeats_without_end_is_named(tmp_path):
    endless = midi([(0.0, 36, False)], 0.0, 1e6, looping=True, loop_end=0.01, end_marker=0.01)
    with pytest.raises(DawError, match="'beat' repeats or changes more than"):
        items_of(write_als(tmp_path / "song.als", [track("x", endless)]))


def test_markers_that_stand_still_or_go_back_are_left_out(tmp_path, loop):
    markers = [(0.0, 0.0), (1.0, 2.0), (0.5, 3.0), (1.0, 2.0), (2.0, 4.0)]
    clip = warped(loop, 0.0, 4.0, 4.0, 2.0, warp_markers=markers)
    (item,) = items_of(write_als(tmp_path / "song.als", [track("x", clip)]))
    assert [(region.file_s, region.play_rate) for region in item.warp_regions] == [(0.0, 1.0)]


@pytest.mark.parametrize("markers", [[], [(0.5, 1.0)]])
def test_a_clip_with_hardly_any_markers_plays_at_its_own_speed(tmp_path, loop, markers):
    clip = warped(loop, 0.0, 4.0, 4.0, 2.0, warp_markers=markers, start_marker=1.0)
    (item,) = items_of(write_als(tmp_path / "song.als", [track("x", clip)]))
    assert item.is_at_own_speed


# Pads


def test_what_a_pad_plays_is_in_its_name(subtests):
    cases = [
        ("Kick 808", 36),
        ("BD-1", 36),
        ("Bass Drum", 36),
        ("Snare Rim", 37),
        ("SN 2", 38),
        ("Clap_A", 39),
        ("Closed Hat", 42),
        ("HH", 42),
        ("HiHat-Open", 46),
        ("Open Hihat", 46),
        ("OH 3", 46),
        ("Pedal Hat", 44),
        ("LowTom", 45),
        ("Tom Hi", 45),
        ("Ride Bell", 51),
        ("Crash L", 49),
        ("Splash", 55),
        ("China 18", 52),
        ("Shaker", None),
        ("Custom FX", None),
        ("Stride", None),
        ("", None),
    ]
    for name, number in cases:
        with subtests.test(name=name, number=number):
            assert pad_numbers(((60, name),)).get(60) == number


# `redrum batch SET.als`


@pytest.fixture
def _no_models(monkeypatch, redrummer):
    monkeypatch.setattr(Redrummer, "load", lambda preset, device: redrummer)


def redrum(*arguments):
    return CliRunner().invoke(app, ["batch", *map(str, arguments)], prog_name="redrum")


@pytest.mark.usefixtures("_no_models")
def test_takes_of_a_set_lie_in_a_folder_beside_it(tmp_path, loop):
    drums = track("Drums", audio(loop, 10.0, 12.0), warped(loop, 16.0, 20.0, 4.0, 2.0))
    path = write_als(
        tmp_path / "song.als", [drums, track("Bass/..", audio(loop))], metre=200
    )  # three beats a bar
    before = path.read_bytes()
    result = redrum(path, "--rhythm", RHYTHM, "--tracks", "*", "--json")
    assert result.exit_code == 0, result.output
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    made = sorted(file.name for file in (tmp_path / "song-redrum").iterdir())
    assert made == ["Bass_.. 1.1 loop-redrum.wav", "Drums 4.2 loop-redrum.wav", "Drums 6.2 loop-redrum.wav"]
    assert soundfile.info(reports[0]["output"]).frames == 44_100  # as long as the clip: two beats
    assert path.read_bytes() == before
    again = redrum(path, "--rhythm", RHYTHM)
    assert again.exit_code == 1
    assert "exists already" in again.stderr
    assert redrum(path, "--rhythm", RHYTHM, "--skip-existing").exit_code == 0
    assert redrum(path, "--rhythm", RHYTHM, "--overwrite").exit_code == 0
    assert sorted(file.name for file in (tmp_path / "song-redrum").iterdir()) == made


@pytest.mark.usefixtures("_no_models")
def test_takes_do_not_go_through_a_link_that_came_with_the_set(tmp_path, loop):
    path = write_als(tmp_path / "song.als", [track("Drums", audio(loop, 0.0, 4.0))])
    mine = tmp_path / "mine" / "Drums 1.1 loop-redrum.wav"
    mine.parent.mkdir()
    mine.write_text("mine")
    try:
        (tmp_path / "song-redrum").symlink_to(mine.parent, target_is_directory=True)
    except OSError:
        pytest.skip("links cannot be made here")
    for more in ((), ("--overwrite",)):
        result = redrum(path, "--rhythm", RHYTHM, *more)
        assert result.exit_code == 1
        assert "song-redrum is a link" in result.stderr
        assert [(file.name, file.read_text()) for file in mine.parent.iterdir()] == [(mine.name, "mine")]


@pytest.mark.usefixtures("_no_models")
def test_clips_are_chosen_and_a_midi_clip_is_the_rhythm(tmp_path, loop):
    drums = track("drums", audio(loop, 0.0, 4.0), audio(loop, 4.0, 8.0))
    beat = track("beat", midi([(0.0, 60, False), (1.0, 61, False)], 4.0, 8.0), pads={60: "Kick", 61: "Snare"})
    path = write_als(tmp_path / "song.als", [drums, beat])
    result = redrum(path, "--items", "2,beat", "--tracks", "*")
    assert result.exit_code == 0, result.output
    assert "loop at 2.00 s on drums, playing beat" in result.stdout
    assert f"the takes are in {tmp_path / 'song-redrum'}" in result.stdout
    assert [file.name for file in (tmp_path / "song-redrum").iterdir()] == ["drums 2.1 loop-redrum.wav"]


@pytest.mark.usefixtures("_no_models")
def test_a_dry_run_and_a_hostile_set_write_nothing(tmp_path, loop):
    path = write_als(tmp_path / "song.als", [track("drums", audio(loop))])
    result = redrum(path, "--rhythm", RHYTHM, "--dry-run")
    assert result.stdout == f"loop at 0.00 s on drums: would play {RHYTHM}\n"
    hostile = packed(tmp_path / "bomb.als", BOMB)
    result = redrum(hostile, path, "--rhythm", RHYTHM, "--dry-run")
    assert result.exit_code == 1
    assert "bomb.als is refused" in result.stderr
    assert result.stdout  # the other set is worked on
    assert not list(tmp_path.glob("*-redrum"))


def test_a_folder_that_holds_something_is_not_written_to(tmp_path, loop):
    path = write_als(tmp_path / "song.als", [track("drums", audio(loop))])
    (tmp_path / "song-redrum").mkdir()
    open_set(path)  # an empty folder is in nobody's way
    (tmp_path / "song-redrum" / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        open_set(path)


def test_the_tempo_alone_can_be_read(tmp_path):
    path = write_als(tmp_path / "song.als", [], ((0.0, 87.5),), major=11)
    assert set_tempo(path) == ((0.0, 87.5),)
