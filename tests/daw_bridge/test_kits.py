"""Microphones of one performance are one kit, in every host. Drums are clicks here."""

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from daw_bridge.kits import kits
from daw_bridge.session import Item, Job, Track
from daw_bridge.takes import Order, dry_reports, redrum_session
from tests.daw_bridge.test_performances import HOSTS, IN_A_DAW, PATTERN, RATE, REAPER, attacks_s, expected_s
from tests.daw_bridge.test_sessions import parents_of
from transform.errors import SettingsError

DELAYS = {"KICK IN": 0, "SNARE TOP": 40, "OH": 300}  # samples until the sound is there
LENGTH_S = 4.0


@pytest.fixture(params=HOSTS)
def world(request, worlds):
    def make(*tracks, **more):
        return worlds(request.param, list(tracks), **more)

    make.track, make.audio, make.midi = worlds.track, worlds.audio, worlds.midi
    return make


in_reaper = pytest.mark.parametrize("world", REAPER, indirect=True)
with_tracks = pytest.mark.parametrize("world", [*REAPER, "live"], indirect=True)


@pytest.fixture
def mics(write_wav, clicks):
    """Return the files of three microphones, by name."""
    sound = clicks([0.02 + 0.5 * n for n in range(8)], length_s=LENGTH_S)
    return {
        name: write_wav(f"{name}.wav", np.roll(sound, delay, axis=1) if delay else sound)
        for name, delay in DELAYS.items()
    }


@pytest.fixture
def tone(write_wav):
    """Return the file of a voice: a tone that stands."""
    at = np.arange(round(LENGTH_S * RATE)) / RATE
    return write_wav("tone.wav", (0.2 * np.sin(2 * np.pi * 220 * at)).astype(np.float32)[None])


def run(world, redrummer, settings=IN_A_DAW, **order):
    return redrum_session(world.session(), redrummer, Order(settings=settings, rhythm=PATTERN, **order))


def in_folder(world, *tracks, name="DRUMS"):
    """A folder of tracks, and a track below it."""
    last = {**tracks[-1], "folder_depth": -1}
    return [world.track(name, folder_depth=1), *tracks[:-1], last, world.track("bass")]


def assert_delays_are_unchanged(outputs):
    sounds = [soundfile.read(path, always_2d=True)[0][:, 0] for path in outputs]
    assert len({len(sound) for sound in sounds}) == 1
    for sound, delay in zip(sounds, DELAYS.values(), strict=True):
        moved = sounds[0][: len(sound) - delay]
        assert np.abs(sound[delay:] - moved).max() < 1e-3
    assert np.abs(sounds[0]).max() > 0.3


def assert_is_kit(report, why):
    assert report["items"] == len(report["together"]) == len(report["outputs"]) == len(DELAYS)
    (note,) = [note for note in report["notes"] if "microphones of one performance" in note]
    assert why in note
    assert_delays_are_unchanged(report["outputs"])
    assert attacks_s(report["outputs"][0]) == pytest.approx(expected_s(0.0, LENGTH_S), abs=1.5 / RATE)


def plain_tracks(world, mics, **more):
    """Tracks whose names say nothing."""
    return [
        world.track(f"Audio {n}", world.audio(path, 0.0, LENGTH_S, **more))
        for n, path in enumerate(mics.values())
    ]


def named_tracks(world, mics):
    return [world.track(name, world.audio(path, 0.0, LENGTH_S)) for name, path in mics.items()]


def test_what_lies_in_one_folder_is_a_kit(world, mics, redrummer):
    tracks = in_folder(world, *plain_tracks(world, mics))
    (report,) = run(world(*tracks), redrummer)
    assert_is_kit(report, "as their tracks lie in the folder DRUMS; --apart redrums each by itself")


def test_tracks_with_microphones_names_are_a_kit(world, mics, redrummer):
    (report,) = run(world(*named_tracks(world, mics)), redrummer)
    assert_is_kit(report, "as their tracks have microphones' names; --apart")


@in_reaper
def test_grouped_items_are_a_kit(world, mics, redrummer):
    (report,) = run(world(*plain_tracks(world, mics, group=7)), redrummer)
    assert_is_kit(report, "as their items are grouped; --apart")


def test_items_that_nothing_connects_are_apart_unless_requested(world, mics, redrummer):
    made = world(*plain_tracks(world, mics))
    reports = run(made, redrummer)
    assert [report.get("together") for report in reports] == [None] * 3
    (report,) = run(made, redrummer, together=True)
    assert_is_kit(report, "as --together says so")


def test_apart_each_item_is_redrummed_by_itself(world, mics, redrummer):
    reports = run(world(*in_folder(world, *named_tracks(world, mics))), redrummer, together=False)
    assert [report["track"] for report in reports] == list(mics)
    assert all(len(attacks_s(report["output"])) == 8 for report in reports)
    assert not any("one performance" in note for report in reports for note in report["notes"])


@with_tracks
def test_takes_lie_below_their_microphones_in_one_step(world, mics, redrummer):
    made = world(*in_folder(world, *named_tracks(world, mics)))
    (report,) = run(made, redrummer)
    after = made.tracks_after()
    new = {track["name"]: track["items"] for track in after if track["name"].endswith("redrum")}
    assert [track["name"] for track in after] == [
        "DRUMS",
        *(name for mic in mics for name in (mic, f"{mic} redrum")),
        "bass",
    ]
    assert [str(item["file"]) for items in new.values() for item in items] == report["outputs"]
    assert all(item["position_s"] == 0.0 for items in new.values() for item in items)
    assert made.is_untouched()
    if hasattr(made, "snapshot"):
        assert len(made.snapshot()["undo"]) == 1


@in_reaper
def test_takes_stay_in_the_folder_of_their_microphones(world, mics, redrummer):
    made = world(*in_folder(world, *named_tracks(world, mics)))
    run(made, redrummer)
    inside = [(name, "DRUMS") for mic in mics for name in (mic, f"{mic} redrum")]
    assert parents_of(made) == [("DRUMS",), *inside, ("bass",)]


def test_a_microphone_that_begins_later_has_a_take_that_begins_with_the_others(world, mics, redrummer):
    tracks = named_tracks(world, mics)
    later = world.track("OH", world.audio(mics["OH"], 1.0, LENGTH_S - 1.0, start_offset_s=1.0))
    made = world(*tracks[:2], later)
    (report,) = run(made, redrummer)
    assert_is_kit(report, "microphones' names")
    if hasattr(made, "tracks_after"):
        assert [track["items"][0]["position_s"] for track in made.tracks_after()] == [0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(
    ("world", "names"),
    [*((host, list(DELAYS)) for host in HOSTS), *((host, ["a", "b", "c"]) for host in REAPER)],
    indirect=["world"],
)
def test_slices_of_several_microphones_are_one_kit(world, names, mics, redrummer):
    """All microphones are cut at the same places, their slices in another order, those of a cut grouped."""
    order = [3, 0, 1, 2]
    tracks = []
    for name, path in zip(names, mics.values(), strict=True):
        slices = [
            world.audio(path, float(at), 1.0, start_offset_s=float(place), group=at + 1)
            for at, place in enumerate(order)
        ]
        tracks.append(world.track(name, *slices))
    (report,) = run(world(*tracks), redrummer)
    assert report["items"] == 12
    assert len(report["outputs"]) == 3
    assert_delays_are_unchanged(report["outputs"])
    assert attacks_s(report["outputs"][0]) == pytest.approx(expected_s(0.0, LENGTH_S), abs=1.5 / RATE)


def test_performances_one_after_the_other_are_kits_of_their_own(world, mics, redrummer):
    tracks = [
        world.track(name, world.audio(path, 0.0, 2.0), world.audio(path, 4.0, 2.0))
        for name, path in mics.items()
    ]
    reports = run(world(*tracks), redrummer)
    assert [(report["position_s"], report["items"]) for report in reports] == [(0.0, 3), (4.0, 3)]


def test_a_voice_among_them_is_named_and_left_out(world, mics, tone, redrummer):
    tracks = [*plain_tracks(world, mics), world.track("Lead Vox", world.audio(tone, 0.0, LENGTH_S))]
    kit, voice = run(world(*in_folder(world, *tracks)), redrummer)
    assert_is_kit(kit, "the folder DRUMS")
    assert voice["track"] == "Lead Vox"
    assert "the name 'Lead Vox' says no drums: --together takes it as a microphone" in voice["skipped"]
    assert "output" not in voice


def test_a_voice_that_is_taken_along_is_named(world, mics, tone, redrummer):
    tracks = [*plain_tracks(world, mics), world.track("Lead Vox", world.audio(tone, 0.0, LENGTH_S))]
    (report,) = run(world(*in_folder(world, *tracks)), redrummer, together=True)
    assert len(report["outputs"]) == 4
    assert any("tone hardly sounds like drums" in note for note in report["notes"])


def test_a_kit_is_made_whole_or_not_at_all(world, mics, tmp_path, redrummer):
    files = {**mics, "OH": tmp_path / "gone.wav"}
    tracks = [
        world.track(name, world.audio(path, 0.0, 2.0), world.audio(mics[name], 4.0, 2.0))
        for name, path in files.items()
    ]
    made = world(*tracks)
    broken, kit = run(made, redrummer)
    assert "gone.wav is missing" in broken["error"]
    assert "output" not in broken
    assert len(kit["outputs"]) == 3
    if hasattr(made, "media_folder"):
        assert len(list(made.media_folder.iterdir())) == 3


def test_muted_microphones_are_named_and_the_others_are_a_kit(world, mics, redrummer):
    tracks = named_tracks(world, mics)
    muted = world.track("ROOM", world.audio(mics["OH"], 0.0, LENGTH_S, is_muted=True))
    kit, room = run(world(*tracks, muted), redrummer)
    assert_is_kit(kit, "microphones' names")
    assert room["skipped"] == "it is muted"


def test_a_midi_item_is_the_rhythm_of_all(world, mics, redrummer):
    beat = world.track("beat", world.midi([(1.0, 36, 100, 9)], 0.0, LENGTH_S, midi_beats=8.0))
    made = world(*named_tracks(world, mics), beat)
    (report,) = redrum_session(made.session(), redrummer, Order(settings=IN_A_DAW))
    assert len(report["outputs"]) == 3
    assert attacks_s(report["outputs"][0]) == pytest.approx([0.5], abs=1.5 / RATE)


@in_reaper
def test_the_lower_of_two_in_a_folder_is_the_rhythm_still(world, mics, redrummer):
    tracks = in_folder(world, *plain_tracks(world, dict(list(mics.items())[:2])))
    (report,) = redrum_session(world(*tracks).session(), redrummer, Order(settings=IN_A_DAW))
    assert (report["track"], report["rhythm"]) == ("Audio 0", "SNARE TOP.wav")


def test_what_cannot_be_made_of_a_kit_is_refused_with_a_way_out(world, mics, redrummer):
    made = world(*named_tracks(world, mics))
    (report,) = run(made, redrummer, replace(IN_A_DAW, engine="latent"))
    assert "the latent engine generates one sound" in report["error"]
    assert report["hint"].endswith("or redrum each by itself (--apart)")


@pytest.mark.parametrize("world", ["rpp", "reaper"], indirect=True)
def test_midi_of_a_kit_is_there_once(world, mics, redrummer):
    made = world(*named_tracks(world, mics))
    (report,) = run(made, redrummer, with_midi=True)
    assert report["midi"].endswith("KICK IN-redrum.mid")
    assert [track["name"] for track in made.tracks_after()][:3] == [
        "KICK IN",
        "KICK IN redrum",
        "KICK IN redrum MIDI",
    ]


@in_reaper
def test_microphones_at_one_speed_are_a_kit_and_at_several_are_refused(world, mics, redrummer):
    def tracks(rates):
        return [
            world.track(name, world.audio(path, 0.0, 2.0, play_rate=rate))
            for (name, path), rate in zip(mics.items(), rates, strict=True)
        ]

    (report,) = run(world(*tracks([1.25] * 3)), redrummer)
    assert_delays_are_unchanged(report["outputs"])
    (report,) = run(world(*tracks([1.25, 1.25, 1.0])), redrummer)
    assert "its microphones play at different speeds" in report["error"]


@in_reaper
def test_a_midi_item_on_the_track_of_one_is_the_rhythm_of_all(world, mics, redrummer):
    tracks = named_tracks(world, mics)
    tracks[1]["items"].append(world.midi([(1.0, 36, 100, 9)], 0.0, LENGTH_S, midi_beats=8.0))
    made = world(*tracks)
    (report,) = redrum_session(made.session(), redrummer, Order(settings=IN_A_DAW, is_on_own_track=True))
    assert attacks_s(report["outputs"][2]) == pytest.approx([0.5 + DELAYS["OH"] / RATE], abs=1.5 / RATE)


@in_reaper
def test_takes_of_sliced_microphones_are_cut_where_their_slices_begin(world, mics, redrummer):
    tracks = [
        world.track(name, *(world.audio(path, at, 1.0, start_offset_s=at) for at in (0.0, 1.0)))
        for name, path in mics.items()
    ]
    made = world(*tracks)
    (report,) = run(made, redrummer, per_item=True)
    assert len(report["outputs"]) == 6
    new = [track for track in made.tracks_after() if track["name"].endswith("redrum")]
    assert [[item["position_s"] for item in track["items"]] for track in new] == [[0.0, 1.0]] * 3


def test_other_items_of_its_tracks_lend_a_kit_nothing(world, mics, redrummer):
    (report,) = run(world(*named_tracks(world, mics)), redrummer, with_track=True)
    assert "the other items of its tracks lend nothing to several microphones" in report["notes"]


@in_reaper
def test_a_dry_run_says_what_the_run_would(world, mics, tone, redrummer, tmp_path):
    """A kit, a voice beside it, a missing file, and microphones at different speeds, at other times."""

    def at(begin_s, paths, **more):
        rates = more.pop("rates", [1.0] * len(paths))
        places = zip(paths, rates, strict=True)
        return [world.audio(path, begin_s, 2.0, play_rate=rate, **more) for path, rate in places]

    files = list(mics.values())
    kit, broken, uneven = (
        at(0, files),
        at(20, [*files[:2], tmp_path / "gone.wav"]),
        at(40, files, rates=[1, 1, 1.25]),
    )
    tracks = [world.track(name, *items) for name, *items in zip(mics, kit, broken, uneven, strict=True)]
    tracks[0]["items"].append(world.audio(files[0], 60.0, 2.0, is_muted=True))
    made = world(*in_folder(world, *tracks, world.track("Lead Vox", world.audio(tone, 0.0, 2.0))))
    order = Order(settings=IN_A_DAW, rhythm=PATTERN)
    shown = {"error", "skipped", "track", "position_s"}
    dry, real = (
        [{key: report[key] for key in shown if key in report} for report in reports]
        for reports in (
            dry_reports(made.session().collect(), order),
            redrum_session(made.session(), redrummer, order),
        )
    )
    assert dry == real
    assert sum("error" in report for report in dry) == 2
    assert sum("skipped" in report for report in dry) == 2


# Which items are a kit


def job(*tracks, folders=None):
    return Job(
        daw="rpp",
        project="",
        project_id="",
        media_folder="",
        tempo=((0.0, 120.0),),
        tracks=tuple(
            Track(id=str(n), name=name, folders=(inside := (folders or {}).get(name, ())), folder_ids=inside)
            for n, name in enumerate(tracks)
        ),
        items=(),
    )


def item(track, position_s=0.0, length_s=1.0, **more):
    about = {"id": f"{track} {position_s}", "track": track, "kind": "audio", "name": "x"}
    return Item(**about, position_s=position_s, length_s=length_s, **more)


def sizes(found):
    return [max(1, len(source.item.microphones)) for source in found]


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Kick",
            "KICK IN",
            "kick_out",
            "KickOut 2",
            "Snare Top",
            "snare bottom",
            "Tom 1",
            "Floor Tom",
            "Toms",
        ),
        *("HiHat", "Hi-Hat", "hat", "OH", "OHL", "OH_R", "Overheads", "Room", "ROOM L", "in", "Top"),
    ],
)
def test_names_of_microphones(name):
    assert sizes(kits(job("OH", name), [item(0), item(1)], together=None)) == [2]


@pytest.mark.parametrize(
    "name", ["drums", "loop", "break", "Bass", "Vocal room", "Kitchen", "inner", "tomorrow"]
)
def test_names_of_others(name):
    assert sizes(kits(job("OH", name), [item(0), item(1)], together=None)) == [1, 1]


def test_the_folder_of_a_track_may_have_a_microphone_s_name():
    folders = {"57": ("BAND", "SNARE"), "pair": ("SNARE", "BAND")}
    for name, size in (("57", [2]), ("pair", [1, 1])):
        assert sizes(kits(job("OH", name, folders=folders), [item(0), item(1)], together=None)) == size


def test_folders_inside_a_drum_folder_are_one_kit():
    folders = {"D112": ("DRUMS", "KICK"), "414 L": ("DRUMS", "CYM"), "414 R": ("DRUMS", "CYM")}
    items = [item(n) for n in range(3)]
    (kit,) = kits(job(*folders, folders=folders), items, together=None)
    assert "in the folder DRUMS" in kit.how
    elsewhere = {name: ("BAND", *inner[1:]) for name, inner in folders.items()}
    assert sizes(kits(job(*elsewhere, folders=elsewhere), items, together=None)) == [1, 2]


def test_earlier_takes_are_named_and_left_out_unless_they_are_what_is_chosen():
    folder = {
        "folders": dict.fromkeys(("KICK", "KICK redrum", "OH", "OH redrum", "OH redrum redrum"), ("DRUMS",))
    }
    names = list(folder["folders"])
    found = kits(job(*names, **folder), [item(n) for n in range(5)], together=None)
    assert sizes(found) == [2, 1, 1, 1]
    assert "the name 'KICK redrum' it is a take of 'KICK'" in found[1].skipped
    assert all(source.skipped for source in found[1:])
    assert sizes(kits(job(*names, **folder), [item(1), item(3)], together=None)) == [2]
    assert sizes(kits(job(*names, **folder), [item(n) for n in range(5)], together=True)) == [5]


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        ([("DRUMS A",), ("DRUMS A",), ("DRUMS B",), ("DRUMS B",)], [2, 2]),
        ([("Kit", "KICK"), ("Kit", "OHS"), ("Percussion",), ()], [2, 1, 1]),
        ([("DRUMS",), ("DRUMS",), ("DRUMS",), ()], [4]),
        ([("Kick Drum",), ("Kick Drum",), ("Snare Drum",), ("Drum Room",)], [4]),
    ],
)
def test_two_kits_that_play_at_once_are_two(folders, expected):
    names = ["kick", "OH", "Kick 808", "room"]
    made = job(*names, folders=dict(zip(names, folders, strict=True)))
    assert sizes(kits(made, [item(n) for n in range(4)], together=None)) == expected


@pytest.mark.parametrize(
    ("names", "groups", "expected"),
    [
        (["kick", "OH", "room"], ["", "", ""], "as their tracks have microphones' names;"),
        (["57", "414", "kick", "OH"], ["1", "1", "1", "1"], "as their items are grouped;"),
        (
            ["57", "kick", "OH"],
            ["1", "1", ""],
            "as their items are grouped or their tracks have microphones' names;",
        ),
    ],
)
def test_the_reason_holds_for_all_microphones(names, groups, expected):
    (kit,) = kits(job(*names), [item(n, group=group) for n, group in enumerate(groups)], together=None)
    assert expected in kit.how
    assert kit.is_sure


@pytest.mark.parametrize("together", [None, False])
def test_earlier_takes_of_a_track_that_is_no_kit_are_left_out_too(together):
    names = ["Drums", "Drums redrum", "Drums redrum kick drum", "Drums reduced", ""]
    found = kits(job(*names, "redrum"), [item(n, 2.0 * n) for n in range(6)], together=together)
    assert [bool(source.skipped) for source in found] == [False, True, True, False, False, True]
    assert found[1].skipped == (
        "by the name 'Drums redrum' it is a take of 'Drums': choose it without that to redrum it"
    )
    assert not any(source.skipped for source in kits(job(*names), [item(1), item(2, 2.0)], together=together))


def test_only_what_overlaps_is_together():
    found = kits(job("kick", "snare"), [item(0), item(1, 0.6), item(1, 5.0)], together=None)
    assert sizes(found) == [1, 1, 1]


def test_items_of_one_track_in_a_kit_are_one_microphone():
    (kit,) = kits(job("kick", "OH"), [item(0), item(1, 0.0, 9.0), item(0, 5.0)], together=None)
    assert [len(mic.leaves) for mic in kit.item.microphones] == [2, 1]
    assert (kit.item.position_s, kit.item.length_s) == (0.0, 9.0)


def test_together_needs_items_at_once():
    with pytest.raises(SettingsError, match="no two of the items overlap in time on different tracks"):
        kits(job("kick", "OH"), [item(0), item(1, 5.0)], together=True)
