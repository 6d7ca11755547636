import os

import mido
import numpy as np
import pytest
import soundfile

from transform.errors import OutputError, RhythmError
from transform.library import USER_STYLE, add_rhythm, demo_recordings, find_rhythm, list_rhythms, resolve_rhythm
from transform.midi import read_midi

TIER_A = {"CC0-1.0", "CC-BY-4.0"}


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    folder = tmp_path / "user data"
    monkeypatch.setenv("REDRUM_DATA", str(folder))
    return folder


@pytest.fixture
def beat(tmp_path):
    """A bar of kicks at 90 BPM."""
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=mido.bpm2tempo(90), time=0)])
    for _ in range(4):
        track.append(mido.Message("note_on", channel=9, note=36, velocity=100, time=0))
        track.append(mido.Message("note_off", channel=9, note=36, velocity=0, time=480))
    path = tmp_path / "My Beat (été).mid"
    mido.MidiFile(type=0, ticks_per_beat=480, tracks=[track]).save(path)
    return path


def test_at_least_24_rhythms_over_many_styles_are_shipped():
    rhythms = list_rhythms()
    assert len(rhythms) >= 24
    assert len({rhythm.style for rhythm in rhythms}) >= 12
    assert len({rhythm.name for rhythm in rhythms}) == len(rhythms)
    assert [rhythm.name for rhythm in rhythms] == sorted(rhythm.name for rhythm in rhythms)


def test_shipped_rhythm_is_whole_bars_from_a_downbeat_and_as_listed(subtests):
    for info in list_rhythms():
        with subtests.test(info.name):
            rhythm = read_midi(info.path)
            assert rhythm.bpm == pytest.approx(info.bpm, abs=1e-3)
            assert rhythm.n_beats == pytest.approx(info.beats, abs=1e-6)
            assert rhythm.beats_per_bar == info.beats_per_bar
            assert info.beats / info.beats_per_bar in (1, 2, 4, 8)
            assert rhythm.events[0].onset_s < 0.050
            assert len({event.drum_class for event in rhythm.events}) >= 2
            assert info.licence in TIER_A
            assert info.author
            assert info.source


@pytest.mark.parametrize("kind", ["rhythms", "demo"])
def test_sources_list_every_shipped_file_and_no_other(kind):
    shipped = [*list_rhythms(), *demo_recordings()]
    listed = {item.path for item in shipped if item.path.parent.name == kind}
    there = set(next(iter(listed)).parent.iterdir())
    assert {path for path in there if path.suffix in (".mid", ".flac")} == listed


def test_demo_recordings_are_whole_bars_that_start_with_a_hit():
    recordings = demo_recordings()
    assert len(recordings) >= 3
    for recording in recordings:
        samples, sample_rate = soundfile.read(recording.path, always_2d=True)
        length_s = recording.beats * 60 / recording.bpm
        assert recording.beats % 4 == 0
        assert 2 <= length_s <= 8
        assert len(samples) == round(length_s * sample_rate)
        start = np.abs(samples[: round(0.030 * sample_rate)]).max()
        assert start > 0.1 * np.abs(samples).max()
        assert f"{recording.bpm:.0f}bpm" in recording.name
        assert recording.licence in TIER_A


def test_unknown_rhythm_names_the_nearest():
    with pytest.raises(RhythmError, match="funk-grove-138") as caught:
        find_rhythm("funk-grove-138")
    assert "funk-groove-138" in caught.value.hint


def test_rhythm_unlike_any_name_points_at_the_list():
    with pytest.raises(RhythmError) as caught:
        find_rhythm("xqzzy")
    assert "redrum rhythms list" in caught.value.hint


def test_shipped_name_resolves_to_its_midi_file():
    source = resolve_rhythm("funk-groove-138")
    assert (source.name, source.is_midi) == ("funk-groove-138", True)
    assert source.path.is_file()


def test_existing_file_wins_over_a_shipped_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "funk-groove-138").write_bytes(b"RIFF")
    source = resolve_rhythm("funk-groove-138")
    assert source.path.read_bytes() == b"RIFF"
    assert not source.is_midi


@pytest.mark.parametrize(
    ("name", "content", "is_midi"),
    [
        ("a.mid", b"", True),
        ("a.MIDI", b"", True),
        ("exported", b"MThd\0\0\0\6", True),
        ("a.wav", b"RIFF", False),
        ("a b é.flac", b"fLaC", False),
    ],
)
def test_midi_is_known_from_audio(tmp_path, name, content, is_midi):
    path = tmp_path / name
    path.write_bytes(content)
    assert resolve_rhythm(str(path)).is_midi == is_midi


@pytest.mark.parametrize("text", ["nothing.mid", "loops/nothing", "./funk-groove-138"])
def test_path_to_nothing_does_not_exist(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RhythmError, match="does not exist"):
        resolve_rhythm(text)


@pytest.mark.parametrize("text", ["", "."])
def test_folder_is_no_rhythm(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RhythmError, match="is a folder"):
        resolve_rhythm(text)


def test_added_rhythm_is_listed_found_and_resolved(beat, data_folder):
    added = add_rhythm(beat, "My-Beat")
    assert (added.bpm, added.beats, added.beats_per_bar) == (90, 4, 4)
    assert added.path == data_folder / "rhythms" / "my-beat.mid"
    assert added.path.read_bytes() == beat.read_bytes()
    assert list_rhythms()[-1] == added
    assert find_rhythm("my-beat") == added
    assert resolve_rhythm("my-beat").path == added.path


def test_added_rhythm_is_named_after_its_file(beat):
    assert add_rhythm(beat).name == "my-beat-t"


def test_added_rhythm_never_replaces_another(beat):
    first = add_rhythm(beat, "mine")
    content = first.path.read_bytes()
    for name in ("mine", "funk-groove-138"):
        with pytest.raises(RhythmError, match="already"):
            add_rhythm(beat, name)
    assert first.path.read_bytes() == content


def test_name_of_another_form_is_refused(beat, data_folder, subtests):
    cases = [
        *("a b", "../mine", "a--b", "-a", "a/b", "été", "mine.", "mine ", "a" * 101),
        *("con", "aux.x", "lpt1"),  # devices of Windows
    ]
    for name in cases:
        with subtests.test(name=name):
            with pytest.raises(RhythmError, match="cannot name"):
                add_rhythm(beat, name)
            assert not data_folder.exists()


def test_a_file_that_is_called_like_a_device_needs_another_name(beat, data_folder):
    device = beat.rename(beat.with_name("Aux.mid"))
    with pytest.raises(RhythmError, match="'aux' cannot name"):
        add_rhythm(device)
    assert not data_folder.exists()
    assert add_rhythm(device, "aux-percussion").name == "aux-percussion"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_what_a_stranger_put_among_the_added(beat, data_folder, tmp_path, caplog):
    folder = data_folder / "rhythms"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "pipe.mid")
    (folder / "device.mid").symlink_to("/dev/zero")
    (folder / "folder.mid").mkdir()
    (folder / "mine.mid").symlink_to(tmp_path / "elsewhere.mid")
    assert [rhythm.name for rhythm in list_rhythms() if rhythm.style == USER_STYLE] == []
    assert caplog.text.count("is left out: it is no file") == 4
    with pytest.raises(RhythmError, match="called mine already"):
        add_rhythm(beat, "mine")
    assert not (tmp_path / "elsewhere.mid").exists()


def test_unusable_midi_is_not_added(tmp_path, data_folder):
    broken = tmp_path / "broken.mid"
    broken.write_bytes(b"MThd")
    with pytest.raises(RhythmError):
        add_rhythm(broken)
    with pytest.raises(RhythmError):
        add_rhythm(tmp_path / "missing.mid")
    assert not data_folder.exists()


def test_data_folder_that_is_a_file_is_an_output_error(beat, data_folder):
    data_folder.write_text("in the way")
    with pytest.raises(OutputError):
        add_rhythm(beat)


def test_broken_file_among_the_added_is_left_out_with_a_warning(beat, data_folder, caplog):
    add_rhythm(beat, "mine")
    (data_folder / "rhythms" / "broken.mid").write_bytes(b"MThd")
    names = [rhythm.name for rhythm in list_rhythms()]
    assert "mine" in names
    assert "broken" not in names
    assert "broken.mid is left out" in caplog.text
