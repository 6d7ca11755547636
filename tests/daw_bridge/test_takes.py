"""Items as the project plays them, rhythms where the project hears them. Drums are clicks here."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from daw_bridge.items import open_item
from daw_bridge.pairs import pair_items
from daw_bridge.session import Item, Job, Note, Track, WarpRegion
from daw_bridge.takes import Order, redrum_session
from transform.errors import AudioError, DawError, SettingsError
from transform.events import DrumEvent, Rhythm, TempoMap
from transform.settings import RenderSettings

RATE = 44_100
IN_A_DAW = RenderSettings(length="source")


@pytest.fixture
def loop(write_wav, clicks):
    return write_wav("loop.wav", clicks([0.0, 0.5, 1.1], length_s=2.0))


def attacks_s(path):
    """Return where clicks begin in a file."""
    sound, rate = soundfile.read(path, always_2d=True)
    loud = np.flatnonzero(np.abs(sound).max(axis=1) > 0.2)
    return loud[np.diff(loud, prepend=-(10**9)) > 0.03 * rate] / rate


def assert_at(path, expected_s, tolerance_s=1.5 / RATE):
    assert attacks_s(path) == pytest.approx(expected_s, abs=tolerance_s)


def run(world, redrummer, settings=IN_A_DAW, **order):
    return redrum_session(world.session(), redrummer, Order(settings=settings, **order))


def test_every_event_is_where_the_project_hears_it(worlds, loop, redrummer):
    source = worlds.audio(loop, 1.5, 8.0, is_looped=True)
    notes = [(beat / 2, 36, 110, 9) for beat in range(8)]
    rhythm = worlds.midi(notes, 2.4, 6.0, midi_beats=4.0, is_looped=True)
    tempo = [(0.0, 120.0, False), (4.8, 80.0, False)]
    world = worlds("rpp", [worlds.track("drums", source), worlds.track("midi", rhythm)], points=tempo)
    (report,) = run(world, redrummer)
    # From beat 4.8 on every half beat; the tempo changes at beat 9.6, and the item ends at 8.4 s.
    tempo_map = TempoMap(((0.0, 120.0), (9.6, 80.0)))
    heard_s = [tempo_map.seconds_at(4.8 + half / 2) for half in range(20)]
    assert_at(report["output"], [at_s - 1.5 for at_s in heard_s if at_s < 8.4 - 1e-6])
    assert soundfile.info(report["output"]).frames == 8 * RATE
    assert report["notes"][0] == "beat keeps its project time"
    assert world.tracks_after()[1]["items"][0]["position_s"] == 1.5


def test_the_grid_is_that_of_the_project(worlds, loop, redrummer):
    source = worlds.audio(loop, 1.3, 2.0, is_looped=True)
    late = worlds.midi([(0.01, 36, 110, 9), (1.02, 36, 110, 9), (2.98, 36, 110, 9)], 1.5, 1.9)
    world = worlds("rpp", [worlds.track("drums", source), worlds.track("midi", late)])
    (report,) = run(world, redrummer, replace(IN_A_DAW, timing=0.0))
    assert_at(report["output"], [0.2, 0.7, 1.7])


def test_the_other_items_of_a_track_lend_their_hits(worlds, loop, redrummer, write_wav, clicks):
    more = write_wav("more.wav", clicks([0.2, 0.7], length_s=1.0), 48_000)
    gone = worlds.audio(loop.parent / "gone.wav", 9.0)
    drums = worlds.track("drums", worlds.audio(loop, 0.0, 2.0), worlds.audio(more, 3.0, 1.0), gone)
    other = worlds.track("other", worlds.audio(loop, 0.0, 2.0))
    rhythm = Rhythm((DrumEvent(0.0, "KD", 0.9), DrumEvent(0.5, "KD", 0.9)), 1.0, None, "made")
    reports = run(worlds("rpp", [drums, other]), redrummer, rhythm=rhythm, with_track=True)
    named = [[note for note in report.get("notes", ()) if "more hits" in note] for report in reports]
    assert [len(notes) for notes in named] == [1, 1, 0, 0]
    assert "more hits are from more" in named[0][0]
    assert "more hits are from loop" in named[1][0]
    assert "is missing" in reports[2]["error"]


def test_an_item_without_hits_lends_none_and_fails_no_take(worlds, loop, redrummer, write_wav, clicks):
    silent, broken = write_wav("sil.wav", np.zeros(RATE)), loop.parent / "broken.wav"
    broken.write_text("no sound")
    more = write_wav("more.wav", clicks([0.2, 0.7], length_s=1.0))
    items = [worlds.audio(path, 3.0 * i, 1.0) for i, path in enumerate((loop, silent, broken, more))]
    world = worlds("rpp", [worlds.track("drums", *items)])
    rhythm = Rhythm((DrumEvent(0.0, "KD", 0.9), DrumEvent(0.5, "KD", 0.9)), 1.0, None, "made")
    reports = run(world, redrummer, rhythm=rhythm, with_track=True)
    notes = reports[0]["notes"]
    assert "sil.wav lends no hits: no drum hits are detected in sil" in notes
    assert any(note.startswith("broken.wav lends no hits: ") for note in notes)
    assert any("more hits are from more" in note for note in notes)
    # What is named itself must hold hits.
    named = replace(IN_A_DAW, kit_from=(str(silent),))
    reports = run(world, redrummer, named, rhythm=rhythm, with_track=True)
    assert "no drum hits are detected in sil" in reports[0]["error"]


def test_a_rhythm_elsewhere_begins_with_the_take_on_the_beats(worlds, loop, redrummer):
    source = worlds.audio(loop, 10.0, 4.0, is_looped=True)
    rhythm = worlds.midi([(0, 36, 110, 9), (1.5, 36, 110, 9)], 1.0, 1.0, midi_beats=2.0)
    tempo = [(0.0, 120.0, False), (10.0, 90.0, False), (12.0, 60.0, False)]
    world = worlds("rpp", [worlds.track("drums", source), worlds.track("midi", rhythm)], points=tempo)
    (report,) = run(world, redrummer)
    tempo_map = TempoMap(((0.0, 90.0), (3.0, 60.0)))
    assert_at(report["output"], [tempo_map.seconds_at(beat) for beat in (0, 1.5, 2, 3.5, 4)])


def kicks(onsets_s, length_s, bpm=None):
    tempo_map = TempoMap.constant(bpm) if bpm else None
    return Rhythm(tuple(DrumEvent(at, "KD", 0.9) for at in onsets_s), length_s, tempo_map, "kicks")


@pytest.mark.parametrize(
    ("settings", "bpm", "expected_s"),
    [
        # The project plays beats 0, 1, 2, 3, 4 of the take at 0, 1, 1.5, 2, 2.5 s.
        (IN_A_DAW, 120.0, [0.0, 1.0, 1.5, 2.0, 2.5]),
        (replace(IN_A_DAW, start_s=0.5), 120.0, [0.0, 1.0, 1.5, 2.0, 2.5]),
        (replace(IN_A_DAW, rhythm_bpm=240.0), None, [0.0, 1.5, 2.5]),
        (replace(IN_A_DAW, length="rhythm"), 120.0, [0.0, 1.0]),
        (replace(IN_A_DAW, length="1bars"), 120.0, [0.0, 1.0, 1.5, 2.0]),  # the project's, to beat 4
        (replace(IN_A_DAW, length="2bars", source_bpm=240.0), 120.0, [n * 0.25 for n in range(8)]),  # its own
        (IN_A_DAW, None, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        (replace(IN_A_DAW, align="seconds"), 120.0, [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]),
        (replace(IN_A_DAW, source_bpm=240.0), 120.0, [n * 0.25 for n in range(12)]),
    ],
)
def test_a_given_rhythm_follows_the_project_where_its_tempo_is_known(
    worlds, loop, redrummer, settings, bpm, expected_s
):
    source = worlds.audio(loop, 4.0, 3.0, is_looped=True)
    tempo = [(0.0, 60.0, False), (5.0, 120.0, False)]
    world = worlds("rpp", [worlds.track("drums", source)], points=tempo)
    (report,) = run(world, redrummer, settings, rhythm=kicks([0.0, 0.5], 1.0, bpm))
    assert_at(report["output"], expected_s)


def test_an_audio_item_is_a_rhythm_at_its_own_speed(worlds, loop, redrummer, write_wav, clicks):
    source = worlds.audio(loop, 1.0, 4.0, is_looped=True)
    pattern = write_wav("pattern.wav", clicks([0.2, 0.8], length_s=1.0))
    rhythm = worlds.audio(pattern, 2.0, 1.5, play_rate=2.0, is_looped=True)
    world = worlds("rpp", [worlds.track("drums", source), worlds.track("pattern", rhythm)])
    (report,) = run(world, redrummer)
    assert_at(report["output"], [1.1, 1.4, 1.6, 1.9, 2.1, 2.4], tolerance_s=3 / RATE)
    assert (report["track"], report["rhythm"]) == ("drums", "pattern.wav")


def test_what_fails_is_named_and_the_rest_is_done(worlds, loop, redrummer, tmp_path, write_wav):
    packed = tmp_path / "old.rx2"
    packed.write_bytes(b"CAT " + bytes(60))
    silence = write_wav("silence.wav", np.zeros((1, RATE), np.float32))
    items = [
        worlds.audio(packed, 0.0),
        worlds.audio(tmp_path / "gone.wav", 2.0),
        worlds.audio(loop, 4.0, markers=[(0.0, 0.0, 0.5), (1.0, 0.9, 0.0)]),
        worlds.audio(silence, 6.0),
        worlds.audio(loop, 8.0, is_muted=True),
        worlds.audio(loop, 10.0, 2.0),
    ]
    world = worlds("rpp", [worlds.track("drums", *items)])
    reports = run(world, redrummer, rhythm=kicks([0.0], 1.0))
    errors = [report.get("error", "") for report in reports]
    assert "old.rx2 at 0.00 s on drums: old.rx2 is not a sound file that can be read" in errors[0]
    assert "gone.wav is missing" in errors[1]
    assert "stretch markers" in errors[2]
    assert "no drum hits" in errors[3]
    assert reports[4]["skipped"] == "it is muted"
    assert all(report["hint"] for report in reports[:4])
    assert [track["name"] for track in world.tracks_after()] == ["drums", "drums redrum"]
    assert [item["position_s"] for item in world.tracks_after()[1]["items"]] == [10.0]


def test_where_all_fails_nothing_is_written(worlds, redrummer, tmp_path):
    world = worlds("rpp", [worlds.track("drums", worlds.audio(tmp_path / "gone.wav"))])
    (report,) = run(world, redrummer, rhythm=kicks([0.0], 1.0))
    assert "error" in report
    assert not world.output.exists()
    assert not list(world.media_folder.iterdir())


def test_what_cannot_be_is_refused(worlds, loop, redrummer):
    faster = worlds.audio(loop, 1.0, 1.0, play_rate=1.5)
    rhythm = worlds.midi([(0, 36, 100, 9)], 1.0, 1.0)
    world = worlds("rpp", [worlds.track("drums", faster), worlds.track("midi", rhythm)])
    assert "nothing of it can be kept" in run(world, redrummer, replace(IN_A_DAW, mix=0.5))[0]["error"]
    assert "--start" in run(world, redrummer, replace(IN_A_DAW, start_s=0.5))[0]["error"]
    with pytest.raises(SettingsError, match="so --bpm means nothing"):
        Order(settings=replace(IN_A_DAW, bpm=100.0))


# heard


def item(path, **more):
    plain = {"id": "1", "track": 0, "kind": "audio", "name": "x", "position_s": 3.0, "length_s": 1.0}
    return Item(**{**plain, "file": str(path), **more})


@pytest.fixture
def ramp(write_wav):
    """Two channels that count: their levels say which sample it is."""
    count = np.arange(1000, dtype=np.float32) / 2000
    return write_wav("ramp.wav", np.stack([count, -count]), sample_rate=1000, subtype="FLOAT")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({}, np.arange(1000)),
        ({"start_offset_s": 0.25, "length_s": 0.5}, np.arange(250, 750)),
        ({"start_offset_s": 0.5}, np.concatenate([np.arange(500, 1000), np.zeros(500)])),
        ({"start_offset_s": -0.5}, np.concatenate([np.zeros(500), np.arange(500)])),
        ({"start_offset_s": 0.5, "is_looped": True}, np.concatenate([np.arange(500, 1000), np.arange(500)])),
        ({"start_offset_s": -0.1, "is_looped": True}, np.concatenate([np.arange(900, 1000), np.arange(900)])),
        ({"is_reversed": True, "start_offset_s": 0.1, "length_s": 0.5}, np.arange(899, 399, -1)),
        (
            {"section_start_s": 0.2, "section_length_s": 0.3, "is_looped": True, "length_s": 0.5},
            np.concatenate([np.arange(200, 500), np.arange(200, 400)]),
        ),
        (
            {"section_start_s": 0.2, "section_length_s": 0.3, "is_reversed": True, "length_s": 0.3},
            np.arange(499, 199, -1),
        ),
        ({"play_rate": 2.0, "is_looped": True}, np.tile(np.arange(1000), 2)),
    ],
)
def test_an_item_is_heard_as_it_plays(ramp, more, expected):
    with open_item(item(ramp, **more)) as recording:
        found = recording.read(0, recording.n_samples)
    np.testing.assert_allclose(found[0] * 2000, expected, atol=1e-3)
    np.testing.assert_allclose(found[1], -found[0])


@pytest.mark.parametrize(
    ("mode", "expected"), [(1, [-0.25, 0.25]), (2, [0.0]), (3, [0.25]), (4, [-0.25]), (67, [0.25, -0.25])]
)
def test_channel_modes(ramp, mode, expected):
    with open_item(item(ramp, channel_mode=mode, start_offset_s=0.5)) as recording:
        assert recording.format.subtype == "FLOAT"
        assert recording.read(0, 1)[:, 0] == pytest.approx(expected)


def test_an_unknown_channel_mode_is_refused(ramp):
    with (
        pytest.raises(AudioError, match="channel mode -1 is not known"),
        open_item(item(ramp, channel_mode=-1)),
    ):
        pass


def test_faster_without_keeping_pitch_is_higher(write_wav, clicks):
    path = write_wav("clicks.wav", clicks([0.3, 1.2], length_s=2.0), subtype="PCM_16")
    with open_item(item(path, play_rate=1.5, keeps_pitch=False, length_s=1.0)) as recording:
        assert recording.format.subtype == "PCM_16"  # what the take is written in
        assert recording.n_samples == pytest.approx(RATE, abs=1)
        sound = np.abs(recording.read(0, recording.n_samples)[0])
    loud = np.flatnonzero(sound > 0.3)
    first = loud[np.diff(loud, prepend=-(10**9)) > 1000] / RATE
    assert first == pytest.approx([0.2, 0.8], abs=2 / RATE)


def test_a_section_beyond_its_file_is_refused(ramp):
    with pytest.raises(AudioError, match="section"), open_item(item(ramp, section_start_s=5.0)):
        pass


# Who is source, who is rhythm


def job(*items, names=("one", "two", "three")):
    numbered = tuple(replace(one, id=str(n)) for n, one in enumerate(items))
    tracks = tuple(Track(id=name, name=name) for name in names)
    return Job(
        daw="x",
        project="",
        project_id="",
        media_folder="",
        tempo=((0.0, 120.0),),
        tracks=tracks,
        items=numbered,
    )


def sound(track=0, at_s=0.0, length_s=1.0, **more):
    return item("x.wav", track=track, position_s=at_s, length_s=length_s, **more)


def beat(track=1, at_s=0.0, length_s=1.0, **more):
    note = Note(onset_s=at_s, onset_beats=0.0, number=36, velocity=100)
    return replace(sound(track, at_s, length_s, **more), kind="midi", notes=(note,))


def ids(pairs):
    return [(pair.source.id, pair.rhythm and pair.rhythm.id) for pair in pairs]


def test_all_audio_is_source_where_the_rhythm_is_given():
    assert ids(pair_items(job(sound(0), beat(1), sound(2)), has_rhythm=True)) == [("0", None), ("2", None)]


def test_selected_midi_is_the_rhythm():
    assert ids(pair_items(job(sound(0), beat(1), sound(2)), has_rhythm=False)) == [("0", "1"), ("2", "1")]


def test_of_several_rhythms_each_source_gets_the_one_that_overlaps_longest():
    found = job(sound(0, 0.0, 4.0), beat(1, 3.5, 4.0), beat(1, 0.5, 1.0), sound(0, 100.0))
    assert ids(pair_items(found, has_rhythm=False)) == [("0", "2"), ("3", "1")]


def test_items_on_rhythm_tracks_are_next():
    found = job(sound(0), sound(1, is_selected=False), names=("drums", "Target loop"))
    assert ids(pair_items(found, has_rhythm=False)) == [("0", "1")]


def test_of_two_audio_items_the_lower_is_the_rhythm():
    assert ids(pair_items(job(sound(2), sound(0)), has_rhythm=False)) == [("1", "0")]


def test_nothing_to_do_is_said():
    with pytest.raises(DawError, match="no audio item is selected"):
        pair_items(job(beat(0)), has_rhythm=True)
    for found in (job(sound(0)), job(sound(0), sound(0)), job(sound(0), sound(1), sound(2))):
        with pytest.raises(SettingsError, match="which rhythm"):
            pair_items(found, has_rhythm=False)


def warped(file, *warp_regions, length_s, **more):
    """An item that plays its file warped: (from the start of the item, of the file, play rate)."""
    told = tuple(WarpRegion(position_s=at, file_s=file_s, play_rate=rate) for at, file_s, rate in warp_regions)
    plain = {"id": "1", "track": 0, "kind": "audio", "name": "warped", "file": str(file)}
    return Item(**plain, position_s=0.0, length_s=length_s, warp_regions=told, **more)


def test_a_warped_item_that_keeps_its_pitch_is_heard_at_the_speed_of_its_file(loop, tmp_path):
    # Clicks at 0, 0.5 and 1.1 s: the second half of the file, twice; then what lies behind its end.
    item = warped(loop, (0.0, 1.0, 0.5), (2.0, 1.0, 0.5), (4.0, 1.9, 0.5), length_s=5.0)
    with open_item(item) as recording:
        assert recording.duration_s == 2.5
        sound = recording.read(0, recording.n_samples)
    write = tmp_path / "heard.wav"
    soundfile.write(write, sound.T, RATE)
    assert_at(write, [0.1, 1.1])
    assert [item.played_s(own_s) for own_s in (0.1, 1.1, 2.4, 9.0)] == pytest.approx([0.2, 2.2, 4.8, 5.0])


def test_a_warped_item_whose_pitch_follows_is_heard_as_it_plays(loop, tmp_path):
    item = warped(loop, (0.0, -0.1, 1.0), (0.4, 0.3, 2.0), length_s=1.0, keeps_pitch=False)
    with open_item(item) as recording:
        assert recording.n_samples == RATE
        soundfile.write(tmp_path / "heard.wav", recording.read(0, RATE).T, RATE)
    assert_at(tmp_path / "heard.wav", [0.1, 0.5, 0.8], tolerance_s=3 / RATE)


def test_a_warped_piece_is_what_a_resampler_makes_of_it(write_wav):
    tone = np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE).astype(np.float32)[None] * 0.5
    item = warped(write_wav("tone.wav", tone), (0.0, 0.5, 1.5), length_s=0.5, keeps_pitch=False)
    with open_item(item) as recording:
        sound = recording.read(0, recording.n_samples)[0]
    at = np.arange(len(sound)) / RATE
    expected = 0.5 * np.sin(2 * np.pi * 440 * (0.5 + 1.5 * at))
    assert np.abs(sound - expected).max() < 2e-3  # from its first to its last sample


def test_a_warped_rhythm_is_heard_where_the_project_plays_it(loop, redrummer, write_wav, clicks, tmp_path):
    # Clicks at 0.2 and 0.8 s of a file that plays at half, then at double speed.
    pattern = write_wav("pattern.wav", clicks([0.2, 0.8], length_s=1.0))
    source = warped(loop, (0.0, 0.0, 1.0), length_s=2.0)
    rhythm = replace(warped(pattern, (0.0, 0.0, 0.5), (1.0, 0.5, 2.0), length_s=1.25), id="2", track=1)
    tracks = (Track(id="a", name="drums"), Track(id="b", name="rhythm"))
    session = InMemory(tracks, (source, replace(rhythm, is_selected=False)), tmp_path)
    (report,) = redrum_session(session, redrummer, Order(settings=IN_A_DAW))
    assert_at(session.takes[0], [0.4, 1.15], tolerance_s=3 / RATE)
    assert report["rhythm"] == "warped"


def test_nothing_of_a_warped_original_can_be_kept(loop, redrummer, tmp_path):
    tracks = (Track(id="a", name="drums"),)
    order = Order(settings=replace(IN_A_DAW, mix=0.5), rhythm=kicks([0.0], 1.0))
    session = InMemory(tracks, (warped(loop, (0.0, 0.0, 1.5), length_s=1.0),), tmp_path)
    (report,) = redrum_session(session, redrummer, order)
    assert "it is warped: nothing of it can be kept" in report["error"]
    session = InMemory(tracks, (warped(loop, (0.0, 0.0, 1.0), length_s=1.0),), tmp_path)
    (report,) = redrum_session(session, redrummer, order)  # warped, but at its own speed
    assert "error" not in report


class InMemory:
    """A session of items that no scene can say."""

    def __init__(self, tracks, items, folder):
        common = {"daw": "test", "project": "", "project_id": "", "media_folder": str(folder)}
        self.job = Job(**common, tempo=((0.0, 120.0),), tracks=tracks, items=items)
        self.takes = []

    def collect(self):
        return self.job

    def write_back(self, job, takes):
        for take in takes:
            self.takes.append(take.file.rename(self.job.media_folder + f"/{len(self.takes)}.wav"))
        return self.takes
