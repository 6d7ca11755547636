"""Projects as musicians have them: moved from another machine, backed up, unpacked, with files beside them."""

import gzip
import logging
import shutil
import unicodedata

import pytest
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.live.als import open_set
from daw_bridge.live.als import result_folder as takes_of
from daw_bridge.reaper.rpp import open_project, result_path
from tests.daw_bridge.live_worlds import als_xml as xml_of
from transform.engine import Redrummer
from transform.errors import DawError
from transform.events import DrumEvent as Event
from transform.events import Rhythm, TempoMap
from transform.midi import write_midi

RHYTHM = "bossa-nova-132"


def item(source, *, name="drums", more="MUTE 0 0\n", at_s=0.0):
    return f'<ITEM\nPOSITION {at_s}\nLENGTH 2\nLOOP 0\n{more}NAME "{name}"\n{source}>\n'


def wave(file, kind="WAVE"):
    return f'<SOURCE {kind}\nFILE "{file}"\n>\n'


def section(inner, start_s, length_s, mode=0):
    return f"<SOURCE SECTION\nLENGTH {length_s}\nMODE {mode}\nSTARTPOS {start_s}\n{inner}>\n"


def project(*items, record="", saved=1700000000, name="Drums"):
    body = "".join(items)
    return (
        f'<REAPER_PROJECT 0.1 "7.22/win64" {saved}\nRECORD_PATH "{record}" ""\nTEMPO 120 4 4\n'
        f'<TRACK\nNAME "{name}"\n{body}>\n>\n'
    )


@pytest.fixture
def song(tmp_path, write_wav, clicks):
    """Return a function that writes a project beside a loop, and returns its path."""
    write_wav("drums.wav", clicks([0.1, 0.5], length_s=2.0))

    def write(text, name="song.rpp"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def the_item(path):
    (found,) = open_project(path).collect().items
    return found


def drums_midi(folder, name="beat.mid"):
    events = (Event(0.0, "KD", 1.0), Event(0.5, "SD", 0.5))
    (folder / name).write_bytes(write_midi(Rhythm(events, 2.0, TempoMap.constant(120))))


@pytest.mark.parametrize("kind", ["MIDI", "MIDIPOOL"])
def test_midi_beside_a_project_is_read_in_beats_of_the_project(song, tmp_path, kind):
    drums_midi(tmp_path)
    path = song(project(item(wave("beat.mid", kind))).replace("TEMPO 120", "TEMPO 60"))
    notes = [(note.onset_s, note.number, note.velocity) for note in the_item(path).notes]
    assert notes == [(0.0, 36, 127), (1.0, 38, 64)]  # at 60 BPM, whatever the file's tempo is


def test_midi_beside_a_project_is_a_rhythm(song, tmp_path, monkeypatch, redrummer):
    monkeypatch.setattr(Redrummer, "load", lambda preset, device: redrummer)
    drums_midi(tmp_path)
    track = '<TRACK\nNAME "Rhythm"\n' + item(wave("beat.mid", "MIDI"), name="beat") + ">\n>\n"
    path = song(project(item(wave("drums.wav"))).removesuffix(">\n") + track)
    result = batch(path, "--tracks", "Drums")
    assert result.exit_code == 0, result.output
    assert "playing beat" in result.stdout


def test_midi_that_is_missing_is_that_of_the_rhythm(song, monkeypatch, redrummer):
    monkeypatch.setattr(Redrummer, "load", lambda preset, device: redrummer)
    track = '<TRACK\nNAME "Rhythm"\n' + item(wave("gone.mid", "MIDI"), name="beat") + ">\n>\n"
    result = batch(song(project(item(wave("drums.wav"))).removesuffix(">\n") + track), "--tracks", "Drums")
    assert result.exit_code == 1
    assert "its rhythm, beat at 0.00 s on Rhythm: its file " in result.stderr
    assert "gone.mid is missing" in result.stderr


@pytest.mark.parametrize(("name", "state"), [("none.mid", "offline"), ("drums.wav", "empty")])
def test_midi_that_cannot_be_read_is_no_rhythm_of_nothing(song, name, state):
    found = the_item(song(project(item(wave(name, "MIDI")))))
    assert (found.kind, found.state) == ("midi", state)


@pytest.mark.parametrize(
    ("source", "begin_s", "length_s", "is_reversed"),
    [
        (section(section(wave("drums.wav"), 0.25, 2), 0.5, 3), 0.75, 1.5, False),
        (section(section(section(wave("drums.wav"), 0.1, 1.8), 0.2, 1.5), 0.3, 1), 0.6, 1.0, False),
        (section(section(wave("drums.wav"), 0.25, 1, mode=2), 0.25, 0.5), 0.5, 0.5, True),
        (section(section(wave("drums.wav"), 0.25, 1, mode=2), 0, 0, mode=3), 0.25, 1.0, False),
    ],
)
def test_sections_in_sections_are_one_region_of_the_file(song, source, begin_s, length_s, is_reversed):
    found = the_item(song(project(item(source))))
    assert (found.state, found.is_reversed) == ("ok", is_reversed)
    assert (found.section_start_s, found.section_length_s) == pytest.approx((begin_s, length_s))


def test_a_section_of_a_file_played_backwards_is_not_guessed(song):
    source = section(section(wave("drums.wav"), 0, 0, mode=3), 0.5, 1)
    assert the_item(song(project(item(source)))).state == "stretched"


def test_a_subproject_is_the_sound_that_reaper_rendered_of_it(song, tmp_path):
    path = song(project(item(wave("sub.rpp", "RPP_PROJECT"))))
    assert the_item(path).state == "offline"
    shutil.copyfile(tmp_path / "drums.wav", tmp_path / "sub.rpp-PROX")
    found = the_item(path)
    assert (found.state, found.file) == ("ok", str(tmp_path / "sub.rpp-PROX"))


def test_a_subproject_without_its_sound_says_how_to_render_it(song, monkeypatch, redrummer):
    monkeypatch.setattr(Redrummer, "load", lambda preset, device: redrummer)
    result = batch(song(project(item(wave("sub.rpp", "RPP_PROJECT")))), "--rhythm", RHYTHM)
    assert result.exit_code == 1
    assert "open the subproject in REAPER and save it" in result.output


def test_the_newest_version_of_a_backup_is_read_and_its_copy_is_a_project(song, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    versions = [
        project(item(wave("drums.wav"), name=name), saved=when) for name, when in (("a", 5), ("b", 9), ("c", 7))
    ]
    path = song("".join(versions), "song.rpp-bak")
    assert the_item(path).name == "b"
    assert "holds 3 versions of a project: version 2" in caplog.text
    assert result_path(path) == tmp_path / "song-redrum.rpp"
    assert the_item(song("".join(versions[:1] * 2), "SONG.RPP")).name == "a"


@pytest.mark.parametrize(
    ("named", "on_disk"),
    [
        ("Schläge.wav", unicodedata.normalize("NFD", "Schläge.wav")),
        (unicodedata.normalize("NFD", "Schläge.wav"), "Schläge.wav"),
        ("Audio Files/Kit/DRUMS.WAV", "audio files/kit/drums.wav"),
        ("D:\\Musik\\lost.wav", "lost.wav"),
        ("/Users/me/Music/lost.wav", "lost.wav"),
    ],
)
def test_a_file_is_found_under_a_name_that_is_spelled_otherwise(song, tmp_path, named, on_disk):
    loop = (tmp_path / "drums.wav").rename(tmp_path / "other.wav")
    path = song(project(item(wave(named))))
    assert the_item(path).state == "offline"
    place = tmp_path / on_disk
    place.parent.mkdir(parents=True, exist_ok=True)
    loop.rename(place)
    found = the_item(path)
    assert (found.state, found.file) == ("ok", str(place))


def test_two_files_of_one_name_are_not_taken_for_each_other(song):
    path = song(project(item(wave("D:\\A\\drums.wav")), item(wave("D:\\B\\drums.wav"), at_s=4)))
    assert [found.state for found in open_project(path).collect().items] == ["offline", "offline"]


def test_names_that_differ_in_capitals_alone_are_not_guessed(song, tmp_path):
    path = song(project(item(wave("KICK.wav"))))
    for name in ("kick.wav", "Kick.wav"):
        shutil.copyfile(tmp_path / "drums.wav", tmp_path / name)
    if (tmp_path / "KICK.wav").exists():
        pytest.skip("this disk does not tell capitals")
    assert the_item(path).state == "offline"


@pytest.mark.parametrize("record", ["/Users/me/Rec", "D:\\Rec", "~/Rec", "..\\..\\Rec", "//host/share/Rec"])
def test_no_folder_of_another_system_is_made(song, tmp_path, record):
    path = song(project(item(wave("drums.wav")), record=record.replace("\\", "/")))
    assert open_project(path).collect().media_folder == str(tmp_path)


def batch(*arguments):
    return CliRunner().invoke(app, ["batch", *map(str, arguments)], prog_name="redrum")


def test_the_takes_are_somewhere_only_where_there_are_takes(song, tmp_path, monkeypatch, redrummer):
    monkeypatch.setattr(Redrummer, "load", lambda preset, device: redrummer)
    muted = item(wave("drums.wav"), more="MUTE 1 0\n")
    result = batch(song(project(muted)), "--rhythm", RHYTHM)
    assert result.exit_code == 0
    assert "it is muted" in result.stdout
    assert "the takes are in" not in result.stdout
    assert "nothing is made" in result.stdout
    assert not (tmp_path / "song-redrum.rpp").exists()
    result = batch(song(project(muted, item(wave("drums.wav"), at_s=4.0))), "--rhythm", RHYTHM)
    assert "the takes are in" in result.stdout
    assert (tmp_path / "song-redrum.rpp").exists()


# Live


def set_of(tmp_path, file, name="song.als", pack=gzip.compress, change=lambda text: text):
    clip = {"name": "loop", "is_midi_clip": False, "muted": False, "file_path": str(file), "warping": False}
    clip |= {"start_marker": 0.0, "end_marker": 2.0, "loop_start": 0.0, "loop_end": 2.0, "looping": False}
    text = xml_of([{"name": "Drums", "clips": [clip | {"start_time": 0.0, "end_time": 4.0}]}])
    path = tmp_path / name
    path.write_bytes(pack(change(text).encode()))
    return path


@pytest.mark.parametrize(
    "pack", [gzip.compress, bytes, lambda data: b"\xef\xbb\xbf" + data], ids=["gzip", "xml", "bom"]
)
def test_a_set_is_read_packed_and_unpacked(tmp_path, write_wav, clicks, pack):
    file = write_wav("loop.wav", clicks([0.1], length_s=2.0))
    (found,) = open_set(set_of(tmp_path, file, pack=pack)).collect().items
    assert (found.state, found.file) == ("ok", str(file))


def test_a_clip_that_was_saved_alone_is_a_set_without_a_tempo(tmp_path, write_wav, clicks):
    file = write_wav("loop.wav", clicks([0.1], length_s=2.0))

    def alone(text):
        begin, end = text.index("<MainTrack"), text.index("</MainTrack>")
        return text[:begin] + text[end + len("</MainTrack>") :]

    path = set_of(tmp_path, file, "loop.alc", change=alone)
    job = open_set(path).collect()
    assert [found.state for found in job.items] == ["ok"]
    assert job.tempo == ((0.0, 120.0),)
    assert takes_of(path) == tmp_path / "loop-redrum"
    with pytest.raises(DawError, match="no tempo"):
        open_set(set_of(tmp_path, file, "loop.als", change=alone))


@pytest.mark.parametrize(("size", "state"), [("same", "ok"), (None, "ok"), (7, "offline")])
def test_a_lost_sample_is_the_one_of_its_name_if_it_is_as_large(tmp_path, write_wav, clicks, size, state):
    file = write_wav("Samples/Imported/lost.wav", clicks([0.1], length_s=2.0))
    (tmp_path / "Ableton Project Info").mkdir()
    stated = file.stat().st_size if size == "same" else size

    def moved(text):
        stating = f'<OriginalFileSize Value="{stated}" />' if stated else ""
        return text.replace(str(file), "/Users/me/lost.wav").replace("</FileRef>", f"{stating}</FileRef>")

    (found,) = open_set(set_of(tmp_path, "/Users/me/lost.wav", change=moved)).collect().items
    assert found.state == state
