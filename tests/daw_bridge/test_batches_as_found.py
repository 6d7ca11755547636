"""Folders, names and job sheets as musicians have them."""

import logging
import shutil
import unicodedata
from pathlib import Path

import pytest

from daw_bridge.plan import PlanSettings, plan
from transform.errors import RedrumError, SettingsError
from transform.library import resolve_rhythm
from transform.names import existing_path, name_after

RHYTHM = "bossa-nova-132"
NFC = "Schläge"
NFD = unicodedata.normalize("NFD", NFC)


@pytest.fixture
def loop(write_wav, clicks):
    return write_wav("loop.wav", clicks([0.1], length_s=0.5))


@pytest.fixture
def planned(tmp_path):
    def make(*paths, rhythm=RHYTHM, **settings):
        return plan(paths, str(rhythm), PlanSettings(out=tmp_path / "out", **settings))

    return make


@pytest.mark.parametrize(
    ("text", "start_s"),
    [
        ("source;rhythm;start;seed\nloop.wav;bossa-nova-132;0,5;3\n", 0.5),
        ("sep=;\r\nSource;Rhythm;Start;Seed\r\nloop.wav;bossa-nova-132;0,5;3\r\n", 0.5),
        ("SOURCE\tRHYTHM\tSTART\tSEED\nloop.wav\tbossa-nova-132\t0,5\t3\n", 0.5),
        ("\ufeffSource , Rhythm,START, seed\nloop.wav,bossa-nova-132,0.5,3\n", 0.5),
        ("source;rhythm;kit from;seed\nloop.wav;bossa-nova-132;loop.wav;3\n", 0.0),
        ("source,rhythm,Kit-From,seed\nloop.wav,bossa-nova-132,loop.wav;loop.wav,3\n", 0.0),
    ],
)
def test_sheets_of_spreadsheets_are_read(loop, planned, text, start_s):
    sheet = loop.with_name("jobs.CSV")
    sheet.write_text(text, encoding="utf-8", newline="")
    (item,) = planned(rhythm=sheet)
    assert item.source == loop
    assert (item.settings.start_s, item.settings.seed) == (start_s, 3)
    assert len(item.settings.kit_from) == text.lower().split("\n")[-2].count("loop.wav") - 1


@pytest.mark.parametrize(
    "text",
    [
        "source,rhythm\nloop.wav,bossa-nova-132\n,\n",
        "source;rhythm\nloop.wav;bossa-nova-132\n;\n;\n",
        "source,rhythm,,\n,,,\nloop.wav,bossa-nova-132,,\n , ,,\n\n",
    ],
)
def test_empty_lines_and_columns_of_a_spreadsheet_are_nothing(loop, planned, text):
    sheet = loop.with_name("jobs.csv")
    sheet.write_text(text)
    (item,) = planned(rhythm=sheet)
    assert item.source == loop


def test_a_mistake_in_a_sheet_is_on_the_line_that_a_spreadsheet_shows(loop, planned):
    sheet = loop.with_name("jobs.csv")
    sheet.write_text("sep=;\nsource;rhythm\nloop.wav;bossa-nova-132\nloop.wav;no-such\n")
    with pytest.raises(RedrumError, match="line 4"):
        planned(rhythm=sheet)


def test_a_toml_sheet_may_have_capitals(loop, planned):
    sheet = loop.with_name("jobs.toml")
    sheet.write_text('\ufeff[[Job]]\nSource = "loop.wav"\nRhythm = "bossa-nova-132"\nKit-From = ["loop.wav"]\n')
    (item,) = planned(rhythm=sheet)
    assert item.settings.kit_from == (str(loop),)


@pytest.mark.parametrize("named", ["Takes\\loop.wav", "takes/LOOP.WAV", "takes/loop.wav"])
def test_a_sheet_from_another_system_names_its_recordings(loop, planned, named):
    folder = loop.with_name("takes")
    folder.mkdir()
    shutil.move(loop, folder / "loop.wav")
    sheet = folder.with_name("jobs.csv")
    sheet.write_text(f"source,rhythm\n{named},{RHYTHM}\n")
    (item,) = planned(rhythm=sheet)
    assert item.source.samefile(folder / "loop.wav")


def test_results_are_called_after_ending_and_folder(tmp_path, loop, planned):
    for name in ("kick/take.wav", "snare/take.wav", "snare/take.flac"):
        path = tmp_path / "takes" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(loop, path)
    takes = tmp_path / "takes"
    with pytest.raises(SettingsError, match="would both become") as caught:
        planned(takes)
    name = caught.value.hint.split("'")[1]  # as the hint has it
    names = [item.output.name for item in planned(takes, name=name)]
    assert sorted(names) == ["kick_take_wav.wav", "snare_take_flac.wav", "snare_take_wav.wav"]


def test_links_to_folders_are_followed_if_requested_each_folder_once(tmp_path, loop, planned, caplog):
    caplog.set_level(logging.WARNING)
    takes, elsewhere = tmp_path / "takes", tmp_path / "elsewhere"
    for folder in (takes, elsewhere):
        folder.mkdir()
    shutil.copyfile(loop, takes / "a.wav")
    shutil.copyfile(loop, elsewhere / "b.wav")
    try:
        (takes / "more").symlink_to(elsewhere, target_is_directory=True)
        (elsewhere / "back").symlink_to(takes, target_is_directory=True)
        (elsewhere / "self").symlink_to(elsewhere, target_is_directory=True)
    except OSError:
        pytest.skip("links need rights that are missing here")
    assert [item.source.name for item in planned(takes)] == ["a.wav"]
    assert "--follow-links" in caplog.text
    assert "more" in caplog.text
    found = [item.source.relative_to(takes).as_posix() for item in planned(takes, follow_links=True)]
    assert found == ["a.wav", "more/b.wav"]


@pytest.mark.parametrize(("source", "rhythm"), [(NFC, NFD), (NFD, NFC), ("Loop", "LOOP"), ("loop", "Loop")])
def test_a_folder_of_rhythms_is_matched_however_names_are_spelled(tmp_path, loop, planned, source, rhythm):
    recording = tmp_path / f"{source}.wav"
    if recording != loop:
        shutil.copyfile(loop, recording)
    beats = tmp_path / "beats"
    beats.mkdir()
    shutil.copyfile(resolve_rhythm(RHYTHM).path, beats / f"{rhythm}.mid")
    (item,) = planned(recording, rhythm=beats)
    assert item.rhythm.path.samefile(beats / f"{rhythm}.mid")


def test_a_path_is_found_however_it_is_spelled(tmp_path, monkeypatch):
    (tmp_path / NFD).mkdir()
    (tmp_path / NFD / "Loop.WAV").touch()
    assert existing_path(tmp_path / NFC / "loop.wav").samefile(tmp_path / NFD / "Loop.WAV")
    missing = tmp_path / NFC / "other.wav"
    assert existing_path(missing) == missing
    monkeypatch.setenv("HOME", str(tmp_path / NFD))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / NFD))
    assert existing_path(Path("~/Loop.WAV")).exists()


@pytest.mark.parametrize(
    ("stem", "rest", "name"),
    [
        ("loop", ".mid", "loop.mid"),
        ("loop. .", ".mid", "loop.mid"),
        ("con", ".mid", "con_.mid"),
        ("con", "_beat.wav", "con_beat.wav"),
        ("...", "", "_"),
        ("x" * 300, "_beat.wav", "x" * 238 + "_beat.wav"),
        ("ü" * 150, ".mid", "ü" * 121 + ".mid"),
    ],
)
def test_names_after_recordings_are_names_everywhere(stem, rest, name):
    assert name_after(stem, rest) == name
