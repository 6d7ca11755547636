"""Which tracks of a closed project are drums: by their names, or by those of the folders around them."""

import pytest

from daw_bridge.choice import Choice, says_drums
from daw_bridge.session import Item, Track


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Drums",
            "DRUM BUS",
            "Kick In",
            "KickIn",
            "snare-bottom",
            "Bass Drum",
            "Bassdrum",
            "Hi-Hat",
            "OH L",
            "OHs",
        ),
        *(
            "Overheads",
            "Floor Tom",
            "toms",
            "drumkit 2",
            "Schlagzeug",
            "Batería",
            "perc loop",
            "Breakbeat",
            "Ride",
        ),
        *("Drum & Bass", "crash 1", "SD top", "handclap"),
    ],
)
def test_names_that_say_drums(name):
    assert says_drums(Track(id="1", name=name))


@pytest.mark.parametrize(
    "name",
    ["", "Audio 1", "Bass", "Tom vox", "Vocals", "Guitar ride solo", "Synth pad", "Track 12", "C", "hatred"],
)
def test_names_that_do_not(name):
    assert not says_drums(Track(id="1", name=name))


def test_a_track_without_a_saying_name_is_what_its_folder_is():
    folders = ("Band", "Drums")
    names = ["Room", "1", "U47", "Tom vox", "bass DI", "Snare"]
    drums = [name for name in names if says_drums(Track(id="1", name=name, folders=folders))]
    assert drums == ["Room", "1", "U47", "Snare"]
    assert not says_drums(Track(id="1", name="Room", folders=("Choir", "Bus")))


def items(*names):
    tracks = [Track(id=name, name=name) for name in names]
    plain = {"kind": "audio", "position_s": 0.0, "length_s": 1.0}
    return [(Item(id=f"{n}", track=n, name=f"take {n}", **plain), track) for n, track in enumerate(tracks)]


@pytest.mark.parametrize(
    ("choice", "chosen", "left_out"),
    [
        (Choice(None), ["kick"], ("vox", "")),
        (Choice(), ["kick", "vox", ""], ()),
        (Choice("v*"), ["vox"], ("kick", "")),
        (Choice(None, ["2"]), ["vox"], ("kick", "")),
        (Choice("*", ["TAKE 0"]), ["kick"], ("vox", "")),
    ],
)
def test_what_is_named_is_chosen_and_what_is_left_is_known(choice, chosen, left_out):
    numbered = items("kick", "vox", "")
    collected, left = choice.of(numbered)
    assert [numbered[int(item.id)][1].name for item in collected if item.is_selected] == chosen
    assert left == tuple(name or "track 3" for name in left_out)


def test_rhythm_tracks_are_collected_and_not_left_out():
    collected, left = Choice(None).of(items("drums", "rhythm guide"))
    assert [item.is_selected for item in collected] == [True, False]
    assert left == ()


def test_together_a_drum_folder_is_taken_with_all_its_tracks():
    tracks = [
        Track(id=name, name=name, folders=folders) for name, folders in (("Lead Vox", ("DRUMS",)), ("Vox", ()))
    ]
    plain = {"kind": "audio", "position_s": 0.0, "length_s": 1.0}
    both = [(Item(id=track.id, track=n, name="x", **plain), track) for n, track in enumerate(tracks)]
    assert Choice(None).of(both) == ([], ("Lead Vox", "Vox"))
    chosen, left_out = Choice(None, together=True).of(both)
    assert [item.id for item in chosen] == ["Lead Vox"]
    assert left_out == ("Vox",)
