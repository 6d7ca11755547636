"""`redrum batch SONG.rpp`: copies of projects with new tracks."""

import json

import pytest
import reaper_parser
import soundfile
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.reaper.rpp import open_project
from transform.engine import Redrummer
from transform.events import CLASS_NAMES, CLASSES
from transform.midi import read_midi

RHYTHM = "bossa-nova-132"


@pytest.fixture(autouse=True)
def loads(monkeypatch, redrummer):
    loaded = []
    monkeypatch.setattr(Redrummer, "load", lambda preset, device: loaded.append(preset) or redrummer)
    return loaded


@pytest.fixture
def loop(write_wav, clicks):
    return write_wav("loop.wav", clicks([0.1, 0.5], length_s=1.0))


def redrum(*arguments):
    return CliRunner().invoke(app, ["batch", *map(str, arguments)], prog_name="redrum")


def names(world):
    return [track["name"] for track in world.tracks_after()]


def test_a_copy_of_a_project_gets_the_takes(worlds, loop, loads):
    tracks = [worlds.track("Drums", worlds.audio(loop, 1.0, 2.0)), worlds.track("other", worlds.audio(loop))]
    first, second = worlds("rpp", tracks), worlds("rpp", tracks)
    result = redrum(first.path, second.path, "--rhythm", RHYTHM, "--tracks", "drum*", "--json")
    assert result.exit_code == 0, result.output
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(r["schema"], r["track"], r["rhythm"]) for r in reports] == [(1, "Drums", RHYTHM)] * 2
    assert soundfile.info(reports[0]["output"]).frames == 88_200  # as long as the item
    for world in (first, second):
        assert world.is_untouched()
        assert names(world) == ["Drums", "Drums redrum", "other"]
    assert loads == ["default"]  # once for all projects


def test_the_copy_names_its_takes_from_its_own_folder_on(worlds, loop, monkeypatch):
    world = worlds("rpp", [worlds.track("drums", worlds.audio(loop))])
    monkeypatch.chdir(world.path.parent)
    assert redrum(world.path.name, "--rhythm", RHYTHM).exit_code == 0
    (track,) = [
        t
        for t in reaper_parser.parse(world.output.read_text()).tracks()
        if "redrum" in t.find_line("NAME").values[0]
    ]
    (item,) = track.find_chunks("ITEM")
    named = item.find_chunk("SOURCE").find_line("FILE").values[0]
    assert named == "media/loop-redrum.wav"
    assert (world.path.parent / named).is_file()


def test_items_are_chosen_and_the_rhythm_may_be_among_them(worlds, loop):
    notes = [(0, 36, 100, 9), (1, 38, 100, 9)]
    tracks = [
        worlds.track("drums", worlds.audio(loop), worlds.audio(loop, 2.0)),
        worlds.track("midi", worlds.midi(notes)),
    ]
    world = worlds("rpp", tracks)
    result = redrum(world.path, "--items", "2,beat")
    assert result.exit_code == 0, result.output
    assert "loop.wav at 2.00 s on drums, playing beat" in result.stdout
    assert f"the takes are in {world.output}" in result.stdout
    new = world.tracks_after()[1]["items"]
    assert [item["position_s"] for item in new] == [2.0]


@pytest.fixture(params=["rpp", "als"])
def closed(request, worlds):
    return lambda tracks: worlds(request.param, tracks)


def test_tracks_that_say_drums_are_taken_and_the_others_listed(closed, worlds, loop):
    tracks = [
        worlds.track("Drums", folder_depth=1),
        worlds.track("Room", worlds.audio(loop, name="a")),
        worlds.track("vox", worlds.audio(loop, name="b"), folder_depth=-1),
        worlds.track("snare", worlds.audio(loop, 1.0, name="c")),
        worlds.track("Bass", worlds.audio(loop, name="d")),
        worlds.track("empty"),
    ]
    path = closed(tracks).path
    dry = redrum(path, "--rhythm", RHYTHM, "--dry-run")
    assert [line.partition(":")[0] for line in dry.stdout.splitlines()] == [
        *("a at 0.00 s on Room", "c at 1.00 s on snare", "vox", "Bass")
    ]
    result = redrum(path, "--rhythm", RHYTHM, "--json")
    assert result.exit_code == 0, result.output
    reports = [json.loads(line) for line in result.stdout.splitlines()]
    assert [report["track"] for report in reports if "output" in report] == ["Room", "snare"]
    left = {report["track"]: report["skipped"] for report in reports if "output" not in report}
    assert left == dict.fromkeys(
        ["vox", "Bass"], "by its name, or else its folder's, it holds no drums; --tracks chooses others"
    )


def test_a_cut_take_is_printed_once(worlds, loop):
    items = [worlds.audio(loop, 0.5 * n, 0.5, start_offset_s=0.5 * (n % 2)) for n in range(3)]
    world = worlds("rpp", [worlds.track("Drums", *items)])
    result = redrum(world.path, "--rhythm", RHYTHM, "--per-item", "--stems")
    assert result.exit_code == 0, result.output
    assert f"{world.media_folder / 'loop-redrum-1.wav'} and 2 more: 1.50 s" in result.stdout
    assert "loop.wav and 2 more at 0.00 s on Drums, playing" in result.stdout
    assert [line.count("and 2 more") for line in result.stdout.splitlines() if "stem:" in line] == [1] * 5
    assert [len(track["items"]) for track in world.tracks_after()] == [3] * 7


def test_options_for_projects_are_refused_without_one(loop):
    for option in (["--start-bar", "2"], ["--per-item"], ["--kit-from-track"]):
        result = redrum(loop, "--rhythm", RHYTHM, *option)
        assert result.exit_code == 2
        assert f"{option[0]} is for projects" in result.stderr


def test_where_no_track_says_drums_they_are_asked_for(closed, worlds, loop, loads):
    world = closed([worlds.track("Audio 1", worlds.audio(loop)), worlds.track("vox", worlds.audio(loop))])
    result = redrum(world.path, "--rhythm", RHYTHM)
    assert result.exit_code == 1
    assert f"no audio of {world.path.name} is chosen, it lies on: Audio 1, vox" in result.stderr
    assert "--tracks 'drum*'" in result.stderr
    assert not world.output.exists()
    assert redrum(world.path, "--rhythm", RHYTHM, "--tracks", "audio*").exit_code == 0


def test_a_project_without_audio_says_so(closed, worlds):
    world = closed([worlds.track("drums", worlds.midi([(0, 36, 100, 9)]))])
    result = redrum(world.path, "--rhythm", RHYTHM)
    assert result.exit_code == 1
    assert f"{world.path.name} holds no audio that could be redrummed" in result.stderr


def test_takes_bring_their_drums_and_their_midi(worlds, loop):
    world = worlds("rpp", [worlds.track("drums", worlds.audio(loop, 1.0, 2.0))])
    result = redrum(world.path, "--rhythm", RHYTHM, "--stems", "--midi", "--json")
    assert result.exit_code == 0, result.output
    (report,) = map(json.loads, result.stdout.splitlines())
    parts = [soundfile.read(report["stems"][c], dtype="int32")[0].astype("int64") for c in CLASSES]
    assert (sum(parts) == soundfile.read(report["output"], dtype="int32")[0]).all()
    assert sum(part.any() for part in parts) == 1  # clicks are all of one drum
    assert len(read_midi(report["midi"]).events) == sum(report["events"].values())
    assert names(world)[1:] == [
        "drums redrum",
        *(f"drums redrum {CLASS_NAMES[c]}" for c in CLASSES),
        "drums redrum MIDI",
    ]
    # The copy is redrummed again by the MIDI that lies in it.
    again = open_project(world.output, output=world.folder / "never.rpp").collect()
    (midi,) = [item for item in again.items if item.kind == "midi"]
    assert len(midi.notes) == len(read_midi(report["midi"]).events)
    assert midi.notes[0].onset_s == pytest.approx(1.0 + read_midi(report["midi"]).events[0].onset_s, abs=1e-3)


def test_takes_of_a_live_set_have_no_parts(worlds, loop):
    world = worlds("als", [worlds.track("drums", worlds.audio(loop))])
    for option in ("--stems", "--midi"):
        result = redrum(world.path, "--rhythm", RHYTHM, option)
        assert result.exit_code == 2
        assert "takes of a Live set have neither stems nor MIDI" in result.stderr
    assert [path.name for path in world.path.parent.rglob("*redrum*")] == []


def test_a_dry_run_writes_nothing(worlds, loop, loads):
    world = worlds("rpp", [worlds.track("drums", worlds.audio(loop))])
    result = redrum(world.path, "--rhythm", RHYTHM, "--dry-run")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"loop.wav at 0.00 s on drums: would play {RHYTHM}\n"
    assert not world.output.exists()
    assert loads == []


def test_a_copy_that_is_there_is_left_alone_unless_asked(worlds, loop):
    world = worlds("rpp", [worlds.track("drums", worlds.audio(loop))])
    world.output.write_text("mine")
    result = redrum(world.path, "--rhythm", RHYTHM)
    assert result.exit_code == 1
    assert str(world.output) in result.stderr
    assert redrum(world.path, "--rhythm", RHYTHM, "--skip-existing").exit_code == 0
    assert world.output.read_text() == "mine"
    assert redrum(world.path, "--rhythm", RHYTHM, "--overwrite").exit_code == 0
    assert names(world) == ["drums", "drums redrum"]


def test_a_broken_project_is_named_and_the_rest_is_done(worlds, loop, tmp_path):
    broken = tmp_path / "broken.rpp"
    broken.write_text("<REAPER_PROJECT 0.1\n  <TRACK\n")
    world = worlds("rpp", [worlds.track("drums", worlds.audio(loop))])
    result = redrum(broken, world.path, "--rhythm", RHYTHM)
    assert result.exit_code == 1
    assert "broken.rpp" in result.stderr
    assert names(world) == ["drums", "drums redrum"]
    stopped = redrum(broken, world.path, "--rhythm", RHYTHM, "--overwrite", "--no-keep-going")
    assert stopped.exit_code == 1
    assert "the takes are in" not in stopped.stdout


def test_a_rhythm_must_come_from_somewhere(worlds, loop):
    world = worlds("rpp", [worlds.track("drums", worlds.audio(loop))])
    result = redrum(world.path)
    assert result.exit_code == 1
    assert "name a rhythm (--rhythm)" in result.stderr
    assert world.path.name not in result.stderr
    with_rhythm = worlds(
        "rpp", [worlds.track("drums", worlds.audio(loop)), worlds.track("rhythm", worlds.audio(loop))]
    )
    one_of_two = redrum(world.path, with_rhythm.path)
    assert f"{world.path}: nothing says which rhythm to play" in one_of_two.stderr
    assert f"the takes are in {with_rhythm.output}" in one_of_two.stdout
    assert redrum(loop).exit_code == 2


def test_items_whose_files_are_nowhere_fail_alone(worlds, loop):
    strange = [worlds.audio("//evil/share/x.wav", 2.0), worlds.audio("/" + "a" * 100_000 + ".wav", 4.0)]
    world = worlds("rpp", [worlds.track("drums", worlds.audio(loop), *strange)])
    result = redrum(world.path, "--rhythm", RHYTHM)
    assert result.exit_code == 1
    first, second = (line for line in result.stderr.splitlines() if " s on drums: " in line)
    assert "its file //evil/share/x.wav is on a network share, where no project may send Redrum" in first
    assert "aaa... is missing" in second
    assert len(second) < 1000
    assert [item["position_s"] for item in world.tracks_after()[1]["items"]] == [0.0]


def test_microphones_are_one_kit_unless_they_are_said_to_be_apart(closed, worlds, loop):
    tracks = [worlds.track(name, worlds.audio(loop, 0.0, 2.0)) for name in ("kick", "snare")]
    slices = [worlds.audio(loop, begin_s, 1.0) for begin_s in (0.0, 1.0)]  # of one microphone
    path = closed([*tracks, worlds.track("OH", *slices)]).path

    def planned(*more):
        result = redrum(path, "--rhythm", RHYTHM, "--dry-run", *more)
        assert result.exit_code == 0, result.output
        return result.output.splitlines()

    kit = planned()
    assert kit[0].endswith(f"and 2 more at 0.00 s on kick: would play {RHYTHM}")
    assert [line.rpartition(" on ")[2] for line in kit[1:3]] == ["snare", "OH"]
    assert "as their tracks have microphones' names; --apart redrums each by itself" in kit[3]
    assert [line.rpartition(" on ")[2] for line in planned("--apart")] == [
        f"{name}: would play {RHYTHM}" for name in ("kick", "snare", "OH")
    ]
    assert "--together says so" in planned("--together")[3]
