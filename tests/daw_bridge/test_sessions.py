"""The contract that every adapter of a DAW passes."""

import math
import random
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import reaper_parser

from daw_bridge.pairs import pair_items
from daw_bridge.reaper.rpp import open_project
from daw_bridge.session import (
    MIDI,
    FinishedTake,
    Item,
    Job,
    Note,
    Track,
    WarpRegion,
    project_tempo,
)
from tests.daw_bridge.ardour_world import ArdourWorld
from tests.daw_bridge.conftest import RppWorld
from transform.errors import DawError
from transform.events import CLASS_NAMES, CLASSES

REAPER = ["rpp", "reaper", "action"]  # only its items can be reversed, glide and hold nothing


@pytest.fixture(params=[*REAPER, "live", "als"])
def world(request, worlds):
    def make(*tracks, **more):
        return worlds(request.param, list(tracks), **more)

    make.track, make.audio, make.midi, make.kind = worlds.track, worlds.audio, worlds.midi, request.param
    return make


@pytest.fixture(scope="module", autouse=True)
def _no_ardour_goes_on():
    yield
    ArdourWorld.stop()


in_reaper = pytest.mark.parametrize("world", REAPER, indirect=True)
# Its regions play at one speed and do not loop.
everywhere = pytest.mark.parametrize("world", [*REAPER, "live", "als", "ardour"], indirect=True)
with_tracks = pytest.mark.parametrize(
    "world", [*REAPER, "live", "ardour"], indirect=True
)  # for takes; the others: files


@pytest.fixture
def loop(write_wav, clicks):
    return write_wav("sounds/loop ünï.wav", clicks([0.1, 0.5, 0.9], length_s=2.0))


def finished(job, tmp_path, write_wav, clicks, *, name="take"):
    """Return a take of every source item."""
    takes = []
    for n, item in enumerate(item for item in job.items if item.kind == "audio" and item.is_selected):
        file = write_wav(f"staging/{n}/{name}.wav", clicks([0.1], length_s=item.length_s))
        takes.append(
            FinishedTake(source=item, file=file, name=f"{name} {n}", length_s=item.length_s, n_channels=1)
        )
    return takes


@everywhere
def test_an_empty_project_is_a_job_without_items(world):
    job = world(world.track("drums")).session().collect()
    assert job.items == ()
    assert [track.name for track in job.tracks] == ["drums"]
    assert job.tempo == ((0.0, 120.0),)


@in_reaper
def test_items_come_as_they_are(world, loop):
    played = world.audio(
        loop,
        1.5,
        2.25,
        start_offset_s=0.125,
        play_rate=1.25,
        keeps_pitch=False,
        is_looped=True,
        is_reversed=True,
        section=[0.25, 1.5],
        channel_mode=3,
        name="Loop 'n' take",
    )
    job = world(world.track("bass"), world.track("drums", played)).session().collect()
    (item,) = job.items
    assert job.track_of(item).name == "drums"
    assert (item.kind, item.state, item.name, item.is_selected) == ("audio", "ok", "Loop 'n' take", True)
    assert (item.position_s, item.length_s, item.start_offset_s) == pytest.approx((1.5, 2.25, 0.125))
    assert (item.play_rate, item.keeps_pitch, item.is_looped) == (1.25, False, True)
    assert (item.is_reversed, item.section_start_s, item.section_length_s) == (True, 0.25, 1.5)
    assert item.channel_mode == 3
    assert Path(item.file).samefile(loop)


@pytest.mark.parametrize("keeps_pitch", [True, False])
def test_a_file_is_played_where_the_project_plays_it(world, loop, keeps_pitch):
    played = world.audio(
        loop,
        1.5,
        2.25,
        start_offset_s=0.125,
        play_rate=1.25,
        keeps_pitch=keeps_pitch,
        is_looped=True,
        section=[0.25, 1.5],
        name="Loop 'n' take",
    )
    job = world(world.track("bass"), world.track("drums", played)).session().collect()
    (item,) = job.items
    assert job.track_of(item).name == "drums"
    assert (item.kind, item.state, item.name, item.is_selected) == ("audio", "ok", "Loop 'n' take", True)
    assert (item.position_s, item.length_s) == pytest.approx((1.5, 2.25))
    assert item.keeps_pitch == keeps_pitch
    assert not item.is_at_own_speed
    assert Path(item.file).samefile(loop)
    for at_s in (0.0, 0.4, 1.0, 1.2, 2.2):
        assert file_s(item, at_s) == pytest.approx(0.25 + (0.125 + at_s * 1.25) % 1.5, abs=1e-6)


@pytest.mark.parametrize("play_rate", [1.0, 1.5])
def test_a_plain_item_plays_from_its_offset_on(world, loop, play_rate):
    plain = world.audio(loop, 0.75, 0.5, start_offset_s=0.5, play_rate=play_rate, keeps_pitch=False)
    (item,) = world(world.track("drums", plain)).session().collect().items
    assert item.is_at_own_speed == (play_rate == 1)
    assert [file_s(item, at_s) for at_s in (0.0, 0.4)] == pytest.approx([0.5, 0.5 + 0.4 * play_rate])


def file_s(item, at_s):
    """Return which second of its file an item plays at a time."""
    if item.warp_regions:
        region = [region for region in item.warp_regions if region.position_s <= at_s + 1e-9][-1]
        return region.file_s + (at_s - region.position_s) * region.play_rate
    into_s = item.start_offset_s + at_s * item.play_rate
    return item.section_start_s + (into_s % item.section_length_s if item.is_looped else into_s)


@in_reaper
def test_a_reversed_item_without_section_is_its_whole_file(world, loop):
    job = world(world.track("drums", world.audio(loop, is_reversed=True))).session().collect()
    assert (job.items[0].is_reversed, job.items[0].section_length_s) == (True, None)


@everywhere
def test_only_what_is_selected_or_may_be_a_rhythm_is_collected(world, loop):
    made = world(
        world.track("drums", world.audio(loop), world.audio(loop, 5.0, is_selected=False)),
        world.track("Rhythm guide", world.audio(loop, 7.0, is_selected=False)),
        world.track("target", world.midi([(0, 36, 100, 9)], 8.0, is_selected=False)),
    )
    job = made.session().collect()
    assert [(item.position_s, item.is_selected) for item in job.items] == [(0, True), (7, False), (8, False)]


@everywhere
def test_what_is_muted_or_missing_is_known(world, loop, tmp_path):
    items = [world.audio(loop, 0, is_muted=True), world.audio(tmp_path / "gone.wav", 1), world.audio(loop, 2)]
    job = world(world.track("drums", *items)).session().collect()
    assert [item.state for item in job.items] == ["muted", "offline", "ok"]


@in_reaper
def test_states_are_told(world, loop, tmp_path):
    made = world(
        world.track(
            "drums",
            world.audio(loop, 0, is_muted=True),
            world.audio(tmp_path / "gone.wav", 1),
            world.audio(loop, 2, markers=[(0.0, 0.0, 0.5), (1.0, 0.9, 0.0)]),
            {**world.audio("", 3), "kind": "empty"},
        )
    )
    states = [item.state for item in made.session().collect().items]
    assert states == ["muted", "offline", "stretched", "empty"]


@everywhere
def test_tempo_steps_where_the_project_does(world):
    points = [(0.0, 90.0, False), (4.0, 120.0, False), (6.5, 60.0, False)]
    tempo_map = world(world.track("drums"), points=points).session().collect().tempo_map
    assert [bpm for _, bpm in tempo_map.changes] == [90, 120, 60]
    assert [beat for beat, _ in tempo_map.changes] == pytest.approx([0, 6, 11])


@in_reaper
def test_tempo_is_that_of_the_project(world):
    points = [(0.0, 120.0, False), (4.8, 90.0, True), (6.8, 150.0, False)]
    tempo_map = world(world.track("drums"), points=points).session().collect().tempo_map
    assert tempo_map.beats_at(4.8) == pytest.approx(9.6)
    assert tempo_map.beats_at(6.8) == pytest.approx(9.6 + 2 * (90 + 150) / 2 / 60)  # a glide is its mean
    assert tempo_map.beats_at(5.8) == pytest.approx(9.6 + (90 + 120) / 2 / 60, abs=2e-4)
    assert tempo_map.bpm_at(20.0) == 150


def test_notes_lie_where_the_project_plays_them(world):
    notes = [(0.0, 36, 100, 9), (1.5, 38, 90, 9), (3.0, 42, 80, 9)]
    item = world.midi(
        notes, 2.4, 3.6, start_offset_s=0.5, is_looped=True, midi_beats=4.0, play_rate=2.0
    )  # half a second is one beat
    job = (
        world(world.track("drums", item), points=[(0.0, 120.0, False), (5.0, 60.0, False)]).session().collect()
    )
    # The item begins at beat 4.8, in the middle of a pass: beat 1 of the MIDI, at double speed.
    begin = 4.8
    expected = sorted(
        beat
        for turn in range(4)
        for first in (-0.5, 0.25, 1.0)
        if begin <= (beat := begin + first + 2 * turn) < 11.0 - 1e-6
    )
    found = job.items[0].notes
    assert [note.onset_beats for note in found] == pytest.approx(expected, abs=1e-3)
    assert [note.onset_s for note in found] == pytest.approx(
        [job.tempo_map.seconds_at(b) for b in expected], abs=1e-3
    )
    assert {(note.number, note.velocity) for note in found} == {(36, 100), (38, 90), (42, 80)}


REGION = WarpRegion(position_s=0.0, file_s=0.0, play_rate=1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"track": 7}, "track 8"),
        ({"play_rate": 0.0}, "play rate"),
        ({"position_s": math.nan}, "time that is none"),
        ({"warp_regions": (replace(REGION, play_rate=0.0),)}, "play rate"),
        ({"warp_regions": (REGION, replace(REGION, position_s=0.5), REGION)}, "in order"),
    ],
)
def test_a_job_that_cannot_be_is_refused(worlds, loop, change, message):
    job = worlds("rpp", [worlds.track("drums", worlds.audio(loop))]).session().collect()
    with pytest.raises(DawError, match=message):
        replace(job, items=(replace(job.items[0], **change),))


@with_tracks
def test_takes_come_on_tracks_below_and_nothing_else_changes(world, loop, tmp_path, write_wav, clicks):
    name = "toms" if world.kind == "ardour" else ""  # its tracks have names
    made = world(
        world.track("drums", world.audio(loop, 1.5, 2.0), world.audio(loop, 0.5, 1.0)),
        world.track("bass"),
        world.track(name, world.audio(loop, 4.0, 1.0)),
    )
    session = made.session()
    job = session.collect()
    media = session.write_back(job, finished(job, tmp_path, write_wav, clicks, name="tåke"))
    after = made.tracks_after()
    names = ["drums", "drums redrum", "bass", name, f"{name} redrum".strip()]
    assert [track["name"] for track in after] == names
    times = [sorted((item["position_s"], item["length_s"]) for item in track["items"]) for track in after]
    assert times == [[(0.5, 1.0), (1.5, 2.0)]] * 2 + [[], [(4.0, 1.0)], [(4.0, 1.0)]]
    order = sorted((0, 1), key=lambda n: job.items[n].position_s)
    assert [item["name"] for item in after[1]["items"]] == [f"tåke {n}" for n in order]
    assert made.is_untouched()
    assert all(path.parent == made.media_folder and path.is_file() for path in media)
    assert {Path(item["file"]) for track in after for item in track["items"]} == {loop, *media}


@pytest.fixture
def with_parts(write_wav, clicks, tmp_path):
    """Return a function that gives each source item of a job a take with parts: outputs, MIDI or both."""

    def make(job, *parts):
        takes = []
        for take in finished(job, tmp_path, write_wav, clicks):
            takes.append(take)
            for part in parts:
                file = take.file.with_name(f"{take.name}_{part}{'.mid' if part == MIDI else '.wav'}")
                file.write_bytes(take.file.read_bytes())
                beat = job.tempo_map.beats_at(take.source.position_s)
                notes = [(0.0, 36, 100), (0.75, 42, 60), (0.75, 36, 90)]
                notes = tuple(
                    Note(
                        onset_s=job.tempo_map.seconds_at(beat + at),
                        onset_beats=beat + at,
                        number=number,
                        velocity=velocity,
                        channel=9,
                    )
                    for at, number, velocity in notes
                )
                named = replace(take, file=file, name=f"{take.name} {part}", part=part)
                takes.append(replace(named, notes=notes) if part == MIDI else named)
        return takes

    return make


def tree_of(made):
    """Return name, depth and whether the items are muted of each new track."""
    if isinstance(made, RppWorld):
        project = reaper_parser.parse(made.output.read_bytes().decode("latin-1"))
        return [
            (
                track.find_line("NAME").values[0],
                depth_of(track),
                {bool(int(item.find_line("MUTE").values[0])) for item in track.find_chunks("ITEM")},
            )
            for track in project.tracks()
        ]
    return [
        (track["name"], track["folder_depth"], {item["is_muted"] for item in track["items"]})
        for track in made.snapshot()["tracks"]
    ]


def depth_of(track):
    """Return the depth of a track as another parser reads it."""
    kind, depth = map(int, track.find_line("ISBUS").values)
    assert kind == (2 if depth < 0 else depth)
    return depth


def parents_of(made):
    """Return the names of all tracks, each with those of the folders that it lies in."""
    folders, found = [], []
    for name, depth, _ in tree_of(made):
        found.append((name, *folders))
        folders = [*folders, name] if depth > 0 else folders[: len(folders) + depth]
    assert not folders
    return found


@in_reaper
def test_new_tracks_stay_in_the_folder_of_their_source(world, loop, tmp_path, write_wav, clicks):
    made = world(
        world.track("band", folder_depth=1),
        world.track("drum bus", folder_depth=1),
        world.track("kick", world.audio(loop)),
        world.track("snare", world.audio(loop), folder_depth=-2),
        world.track("bass", world.audio(loop)),
    )
    session = made.session()
    job = session.collect()
    session.write_back(job, finished(job, tmp_path, write_wav, clicks))
    bus = ("drum bus", "band")
    drums = [(name, *bus[::-1]) for name in ("kick", "kick redrum", "snare", "snare redrum")]
    tree = [("band",), ("drum bus", "band"), *drums, ("bass",), ("bass redrum",)]
    assert parents_of(made) == tree
    assert made.is_untouched()


with_outputs = pytest.mark.parametrize("world", ["rpp", "reaper"], indirect=True)


@with_outputs
def test_separate_outputs_are_a_folder_whose_parent_is_muted(world, loop, with_parts):
    made = world(world.track("drums", world.audio(loop), world.audio(loop, 3.0)), world.track("bass"))
    session = made.session()
    job = session.collect()
    media = session.write_back(job, with_parts(job, *CLASSES, MIDI))
    assert len(media) == 14
    assert all(path.is_file() for path in media)
    played = [(f"drums redrum {CLASS_NAMES[c]}", 0, {False}) for c in CLASSES]
    tree = [("drums redrum", 1, {True}), *played, ("drums redrum MIDI", -1, {True})]
    assert tree_of(made) == [("drums", 0, {False}), *tree, ("bass", 0, set())]
    assert made.is_untouched()
    kick = made.tracks_after()[2]["items"]
    assert [(item["name"], item["position_s"]) for item in kick] == [("take 0 KD", 0.0), ("take 1 KD", 3.0)]
    assert [Path(item["file"]) for item in kick] == [media[1], media[8]]


@with_outputs
def test_the_folder_of_separate_outputs_ends_the_folder_that_its_source_ended(world, loop, with_parts):
    made = world(world.track("bus", folder_depth=1), world.track("drums", world.audio(loop), folder_depth=-1))
    session = made.session()
    job = session.collect()
    session.write_back(job, with_parts(job, *CLASSES))
    parts = [(f"drums redrum {CLASS_NAMES[c]}", "bus", "drums redrum") for c in CLASSES]
    assert parents_of(made) == [("bus",), ("drums", "bus"), ("drums redrum", "bus"), *parts]


@with_outputs
def test_midi_of_a_take_lies_muted_on_a_track_of_its_own(world, loop, with_parts):
    tempo = [(0.0, 120.0, False), (4.2, 90.0, False)]
    made = world(world.track("drums", world.audio(loop, 4.0)), points=tempo)
    session = made.session()
    job = session.collect()
    takes = with_parts(job, MIDI)
    session.write_back(job, takes)
    tree = [("drums redrum", 0, {False}), ("drums redrum MIDI", 0, {True})]
    assert tree_of(made) == [("drums", 0, {False}), *tree]
    if isinstance(made, RppWorld):  # its MIDI is in the project itself
        again = open_project(made.output, output=made.folder / "never.rpp").collect()
        assert again.items[2].kind == "midi"
        expected = sorted((round(n.onset_s, 3), n.number, n.velocity, n.channel) for n in takes[1].notes)
        found = sorted((round(n.onset_s, 3), n.number, n.velocity, n.channel) for n in again.items[2].notes)
        assert found == expected


@in_reaper
def test_new_tracks_have_the_color_of_their_source_track(world, loop, tmp_path, write_wav, clicks):
    color = 0x1000000 | 0x2040FF
    made = world(world.track("drums", world.audio(loop), color=color), world.track("b", world.audio(loop)))
    session = made.session()
    job = session.collect()
    assert [track.color for track in job.tracks] == [color, 0]
    session.write_back(job, finished(job, tmp_path, write_wav, clicks))
    assert [track["color"] for track in made.tracks_after()] == [color, color, 0, 0]


@in_reaper
def test_names_may_be_no_utf_8(world, loop, tmp_path, write_wav, clicks):
    made = world(world.track("dr\udcfcms 1", world.audio(loop, name="t\udce5ke\\")))
    session = made.session()
    job = session.collect()
    assert (job.tracks[0].name, job.items[0].name) == ("dr\udcfcms 1", "t\udce5ke\\")
    (take,) = finished(job, tmp_path, write_wav, clicks)
    session.write_back(job, [replace(take, name="t\udce5ke")])
    assert [track["name"] for track in made.tracks_after()] == ["dr\udcfcms 1", "dr\udcfcms 1 redrum"]
    assert made.tracks_after()[1]["items"][0]["name"] == "t\udce5ke"


@with_tracks
def test_a_second_run_writes_other_files(world, loop, tmp_path, write_wav, clicks):
    made = world(world.track("drums", world.audio(loop)))
    written = []
    for _ in range(2):
        session = made.session()
        job = session.collect()
        written += session.write_back(job, finished(job, tmp_path, write_wav, clicks))
    assert len(set(written)) == 2
    assert all(path.is_file() for path in written)
    assert made.is_untouched()


@pytest.mark.parametrize("world", [*REAPER, "live"], indirect=True)  # of Ardour, its action has them
def test_media_that_cannot_be_written_leave_nothing(world, loop, tmp_path, write_wav, clicks):
    made = world(world.track("drums", world.audio(loop), world.audio(loop, 3.0)))
    session = made.session()
    job = session.collect()
    takes = finished(job, tmp_path, write_wav, clicks)
    takes[1].file.unlink()
    before = made.tracks_after()
    with pytest.raises(Exception, match="cannot be written"):
        session.write_back(job, takes)
    assert made.tracks_after() == before
    assert not list(made.media_folder.iterdir())


def test_sources_find_the_rhythm_that_overlaps_them_longest():
    random.seed(0)

    def items(n, track, kind):
        return [
            Item(
                id=f"{kind} {i}",
                track=track,
                kind=kind,
                name="",
                position_s=random.choice([0.0, 1.0, random.uniform(0, 20)]),
                length_s=random.choice([0.5, 2.0]),
                is_launched=True,  # none is joined with another
            )
            for i in range(n)
        ]

    sources, rhythms = items(60, 0, "audio"), items(40, 0, "midi")
    job = Job(
        daw="rpp",
        project="",
        project_id="",
        media_folder="",
        tempo=((0.0, 120.0),),
        tracks=(Track(id="1", name="drums"),),
        items=(*sources, *rhythms),
    )
    expected = [(source, max(rhythms, key=source.overlap_s)) for source in sources]  # or else the first
    for is_on_own_track in (False, True):
        pairs = pair_items(job, has_rhythm=False, is_on_own_track=is_on_own_track)
        assert [(pair.source, pair.rhythm) for pair in pairs] == expected


def test_a_tempo_that_glides_for_a_day_is_taken_in_fewer_steps():
    hour = [(60.0 * n, 100.0 + n % 7, True) for n in range(61)]
    assert len(project_tempo(120.0, hour)) == pytest.approx(60 * 60 / 0.05, rel=1e-3)
    day = [(60.0 * n, 100.0 + n % 7, True) for n in range(24 * 60 + 1)]
    changes = project_tempo(120.0, day)
    assert len(changes) <= 500_000 + len(day)
    # The beat at its end is that of the mean tempi.
    ends = sum((before[1] + after[1]) / 2 for before, after in pairwise(day))
    assert changes[-1][0] == pytest.approx(ends, rel=1e-9)
