"""The actions in a real Ardour, from the key press to the take: what a user sees, and the samples."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import mido
import numpy as np
import psutil
import pytest
import soundfile
import soxr
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from tests.daw_bridge.ardour import rig
from transform.engine import Redrummer
from transform.library import demo_recordings

pytestmark = pytest.mark.skipif(bool(rig.why_not()), reason=rig.why_not())

ROOT = Path(__file__).resolve().parents[3]
TEMPO = [(0, 120.0), (8, 97.3), (20, 140.5)]  # beat, BPM


@pytest.fixture(scope="module")
def screen(tmp_path_factory):
    made = rig.Screen(tmp_path_factory.mktemp("screen") / "memory")
    yield made
    made.close()


@pytest.fixture(scope="module")
def start(tmp_path_factory, screen):
    """Return a function that starts Ardour on a new session; it goes on where it has been started before."""
    running = {}
    data = tmp_path_factory.mktemp("data")
    path = os.pathsep.join([str(Path(__file__).with_name("jobs_that_wait")), str(ROOT)])
    own = {"REDRUM_DATA": str(data), "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}

    def begin(rate=48_000, parent=None):
        if (rate, parent) not in running:
            for ardour in running.values():  # one at a time is busy enough
                ardour.kill()
            running.clear()
            ardour = rig.Ardour(tmp_path_factory.mktemp(f"ardour-{rate}"), screen, rate=rate)
            browser = ardour.folder / "browser"
            browser.write_text(f'#!/bin/sh\ncp "${{1#file://}}" {ardour.folder}/page.html\n')
            browser.chmod(0o755)
            ardour.environment |= own | {"BROWSER": f"{browser} %s"}
            running[rate, parent] = ardour
            ardour.start(ardour.new_session("Söng 50% 'x' \"y\"", parent=parent))
        return running[rate, parent]

    yield begin
    for ardour in running.values():
        ardour.kill()
    subprocess.run(  # the helper that the jobs share ends
        [sys.executable, "-c", "from daw_bridge import warm; warm.look('stop')"],
        env={**os.environ, **own},
        check=True,
    )


@pytest.fixture(scope="module")
def render():
    """Return a function that returns what `redrum render` makes of a file, shape (C, T)."""
    redrummer = Redrummer.load("default", device="cpu")

    def make(source, *, rhythm=rig.RHYTHM, **options):
        out = source.with_name(f"{source.stem} take.wav")
        words = ["--rhythm", str(rhythm), "--length", "source", "--seed", "7", "-o", str(out)]
        for name, value in options.items():
            words += [f"--{name.replace('_', '-')}", str(value)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Redrummer, "load", lambda preset, device: redrummer)
            done = CliRunner().invoke(app, ["render", str(source), *words])
        assert done.exit_code == 0, done.output
        return soundfile.read(out, dtype="float32", always_2d=True)[0].T

    return make


def loop_at(rate, folder, n_channels=2, name="Loop ü", length_s=4):
    """Return a drum loop as a file of a rate, each channel another sound."""
    sound, own_rate = soundfile.read(demo_recordings()[0].path, always_2d=True)
    sound = soxr.resample(sound[: length_s * own_rate], own_rate, rate)
    sound = np.stack([sound[:, 0], 0.5 * sound[:, -1]][:n_channels], axis=1)
    path = folder / f"{name}.wav"  # Ardour asks before it imports a name twice
    soundfile.write(path, sound, rate, subtype="FLOAT")  # as Ardour stores it
    return path


@pytest.mark.parametrize(
    ("rate", "names"), [(44_100, ["on its bar", "odd"]), (48_000, ["first", "other rate", "late"])]
)
def test_a_key_press_makes_the_takes_that_render_makes(start, render, rate, names, tmp_path):
    ardour = start(rate)
    # The region's beginning, in samples; the tempo there; and when the bar in which it begins, begins.
    places = {
        "first": (0, 120.0, 0.0),
        "on its bar": (2 * rate, 120.0, 2.0),
        "odd": (4 * rate + 12_347, 97.3, 4.0),
        "other rate": (7 * rate + 5, 97.3, 4 + 4 * 60 / 97.3),
        "late": (12 * rate + 1, 140.5, 4 + 12 * 60 / 97.3),
    }
    places = {name: places[name] for name in names}
    rates = {name: rate for name in places} | {"other rate": 92_100 - rate}
    loops = {name: loop_at(rates[name], tmp_path, name=f"Loop ü {name}", length_s=2) for name in places}
    tempo = ", ".join(f"{{{beat}, {bpm}}}" for beat, bpm in TEMPO)
    ardour.lua(f"set_tempo({{{tempo}}})")
    for name, (at, *_) in places.items():
        how = "embed" if name in ("odd", "other rate") else "import"
        ardour.begin_lua(f'new_track("{name}", 2) {how}({rig.quoted(str(loops[name]))}, "{name}", {at})')
        if name == "other rate":
            ardour.close_window("Tab", "Return", title="Sample Rate")  # embed it anyway
        ardour.lua_answer()
    ardour.lua(
        f'new_track("bass", 1) track_named("{names[-1]}"):presentation_info_ptr():set_color(0x204060ff)'
        f' local last = regions_of("{names[-1]}")[1] trim_front(last, 777)'
        " last:to_audioregion():set_scale_amplitude(0.5)"
    )
    ardour.select(*places)
    before = {name: (ardour.regions(name), ardour.samples(name)) for name in places}
    ardour.answer(kit="apart")
    ardour.press(rig.SELECTED)
    ardour.close_window(rig.ACCEPT)  # what it asks: the last answers stand
    rig.until(lambda: f"{names[-1]} redrum" in ardour.tracks() and not ardour.jobs(), "the takes")
    assert ardour.tracks() == [found for name in places for found in (name, f"{name} redrum")] + ["bass"]
    takes = {}
    for name, (_, bpm, bar_s) in places.items():
        (source,), samples = before[name]
        (takes[name],) = ardour.regions(f"{name} redrum")
        assert takes[name] == {**source, "name": f"{source['name']}-redrum", "has_fades": False}
        file = tmp_path / f"{name}.wav"
        gain = 0.5 if name == names[-1] else 1.0  # which is not in the samples that Ardour reads
        soundfile.write(file, gain * samples.T, rate, subtype="FLOAT")
        begin_s = source["position"] / rate - bar_s
        expected = render(file, align="beats", source_bpm=bpm, start=begin_s)
        np.testing.assert_array_equal(ardour.samples(f"{name} redrum"), expected)
        assert ardour.regions(name) == [source]
        np.testing.assert_array_equal(ardour.samples(name), samples)
    assert ardour.lua(f'return track_named("{names[-1]} redrum"):presentation_info_ptr():color()') == 0x204060FF
    ardour.lua("Editor:undo(1)")
    assert [ardour.regions(f"{name} redrum") for name in places] == [[]] * len(places)
    assert [ardour.regions(name) for name in places] == [found for found, _ in before.values()]
    ardour.lua("Editor:redo(1)")
    assert [ardour.regions(f"{name} redrum") for name in places] == [[take] for take in takes.values()]


@pytest.fixture
def ardour(start):
    """An Ardour whose session has no tracks, whatever was tried in it before."""
    found = start()
    found.lua(
        "for _, route in ipairs(tracks()) do local playlist = route:to_track():playlist()"
        " for region in playlist:region_list():iter() do playlist:remove_region(region) end"
        " route:set_name('old') end"
    )
    found.answer()
    return found


def test_what_ardour_plays_of_all_regions_of_a_track_is_taken_whole_in_one_undo_step(ardour, tmp_path):
    low, top, sheer, far = (
        loop_at(48_000, tmp_path, n_channels=1, name=name, length_s=length_s)
        for name, length_s in (("Low", 4), ("Top", 1), ("Sheer", 3), ("Far", 2))
    )
    played, above = (soundfile.read(file, dtype="float32")[0] for file in (low, top))
    played[24_000 : 24_000 + len(above)] = above  # which is opaque: what it lies over is silent
    played[40_000 : 40_000 + 3 * 48_000] += soundfile.read(sheer, dtype="float32")[0]
    soundfile.write(tmp_path / "Flat.wav", played, 48_000, subtype="FLOAT")
    begin = ardour.lua(
        'new_track("laid", 1) new_track("flat", 1) local begin = Session:current_end_sample() + 12345'
        f' import({rig.quoted(str(low))}, "laid", begin) import({rig.quoted(str(top))}, "laid", begin + 24000)'
        f' import({rig.quoted(str(sheer))}, "laid", begin + 40000) regions_of("laid")[3]:set_opaque(false)'
        f' import({rig.quoted(str(far))}, "laid", begin + 480000)'
        f' import({rig.quoted(str(tmp_path / "Flat.wav"))}, "flat", begin)'
        " Editor:select_all_tracks() return begin"
    )
    ardour.answer(kit="apart", length="6")
    ardour.press(rig.TRACKS)
    ardour.close_window(rig.ACCEPT)
    rig.until(lambda: "laid redrum" in ardour.tracks() and not ardour.jobs(), "the takes")
    takes = ardour.regions("laid redrum"), ardour.regions("flat redrum")
    assert [(take["position"] - begin, take["length"]) for take in takes[0]] == [
        (0, 288_000),
        (480_000, 288_000),
    ]
    np.testing.assert_array_equal(ardour.samples("laid redrum"), ardour.samples("flat redrum"))
    assert ardour.lua("return Session:current_end_sample()") == begin + 480_000 + 288_000
    ardour.lua("Editor:undo(1)")
    assert (ardour.regions("laid redrum"), ardour.regions("flat redrum")) == ([], [])
    assert (len(ardour.regions("laid")), len(ardour.regions("flat"))) == (4, 1)
    ardour.lua("Editor:undo(1)")  # the user's own last step
    assert (len(ardour.regions("laid")), len(ardour.regions("flat"))) == (4, 0)
    ardour.lua("Editor:redo(1)")
    assert len(ardour.regions("flat")) == 1
    ardour.lua("Editor:redo(1)")
    assert (ardour.regions("laid redrum"), ardour.regions("flat redrum")) == takes


@pytest.fixture
def rendering(tmp_path):
    """Return a function that starts a job and waits until it is about to render, which it does with `go_on`."""
    gates = []

    def begin(ardour, name):
        loop = loop_at(48_000, tmp_path, n_channels=1, name=name, length_s=2)
        ardour.lua(f'new_track("{name}", 1) import({rig.quoted(str(loop))}, "{name}", 12345)')
        ardour.select(name)
        ardour.lua('Session:save_state("")')
        gates.append(Path(ardour.environment["REDRUM_DATA"]) / "wait")
        gates[0].touch()
        ardour.press(rig.LAST)
        ardour.wait_for_stage("rendering")

    def go_on():
        for gate in gates:
            gate.unlink(missing_ok=True)

    begin.go_on = go_on
    yield begin
    go_on()


def test_cancel_in_the_middle_leaves_nothing(ardour, rendering):
    rendering(ardour, "long")
    ardour.close_window(rig.CANCEL)
    ardour.close_window(rig.YES)
    ardour.wait_for_end()
    assert "long redrum" not in ardour.tracks()


def test_nothing_gets_in_while_a_job_runs_and_it_outlives_its_helper(ardour, rendering):
    rendering(ardour, "busy")
    for key in ("ctrl+w", "ctrl+q", "ctrl+z", "Delete", rig.LAST):  # the session is closed, Ardour quits, ...
        ardour.press(key)
    for _ in range(2):  # the space bar, which starts and stops Ardour, asks, and goes on
        ardour.close_window("space")
    for process in processes("daw_bridge.helper"):
        process.kill()
    rendering.go_on()
    ardour.wait_for_end()
    assert "busy" in ardour.tracks()
    assert [take["position"] for take in ardour.regions("busy redrum")] == [12_345]


def test_a_job_that_is_killed_is_noticed_and_nothing_is_written(ardour, rendering):
    rendering(ardour, "lost")
    (job,) = (process for process in processes(str(ardour.config)) if process.name().startswith("python"))
    job.kill()
    assert ardour.said().startswith(("Redrum stopped without an answer", "The redrum command was stopped"))
    rendering.go_on()
    ardour.wait_for_end()
    assert "lost redrum" not in ardour.tracks()


def processes(word):
    """Return the processes of these tests that have a word in their command."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "environ"])
        if any(word in part for part in process.info["cmdline"] or [])
        and "jobs_that_wait" in (process.info["environ"] or {}).get("PYTHONPATH", "")
    ]


def test_two_hundred_regions_are_one_performance(ardour, tmp_path):
    loop = loop_at(48_000, tmp_path, n_channels=1, name="Slices")
    ardour.lua(
        f'new_track("slices", 1) import({rig.quoted(str(loop))}, "slices", 0)'
        ' local first, playlist = regions_of("slices")[1], track_named("slices"):to_track():playlist()'
        " first:trim_end(Temporal.timepos_t(2400))"
        " for n = 1, 199 do local copy = ARDOUR.RegionFactory.clone_region(first, true, false)"
        " playlist:add_region(copy, Temporal.timepos_t(2401 * n), 1, false) end"
    )
    ardour.select("slices")
    ardour.redrum_again()
    assert len(ardour.regions("slices")) == 200
    assert [(t["position"], t["length"]) for t in ardour.regions("slices redrum")] == [(0, 199 * 2401 + 2400)]


def test_a_midi_region_is_the_rhythm_through_a_change_of_tempo(ardour, render, tmp_path):
    rhythm, loop = tmp_path / "Beat.mid", loop_at(48_000, tmp_path, n_channels=1, name="Under")
    mid = mido.MidiFile(type=0, ticks_per_beat=480)
    track = mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000)])
    for beat in range(8):
        if beat == 3:
            track.append(mido.MetaMessage("set_tempo", tempo=625_000))
        track.append(mido.Message("note_on", channel=9, note=(36, 38)[beat % 2], velocity=100, time=0))
        track.append(mido.Message("note_off", channel=9, note=(36, 38)[beat % 2], time=480))
    mid.tracks.append(track)
    mid.save(rhythm)
    ardour.lua(
        f'set_tempo({{{{3, 96}}}}) new_track("under", 1) import({rig.quoted(str(loop))}, "under", 0)'
        f' new_midi_track("beat") import({rig.quoted(str(rhythm))}, "beat", 0)'
    )
    ardour.select("under", "beat")
    ardour.answer(rhythm="")
    ardour.redrum_again()
    expected = render(loop, rhythm=rhythm, align="seconds")
    np.testing.assert_array_equal(ardour.samples("under redrum"), expected)
    ardour.select("under")
    ardour.press(rig.LAST)
    assert "Name a rhythm, select a MIDI region too, or put a region on a track" in ardour.said()


def test_a_combined_region_is_named(ardour, tmp_path):
    loop = loop_at(48_000, tmp_path, n_channels=1, name="Combined")
    ardour.lua(
        f'new_track("combined", 1) import({rig.quoted(str(loop))}, "combined", 0)'
        ' local track = track_named("combined"):to_track()'
        ' local copy = ARDOUR.RegionFactory.clone_region(regions_of("combined")[1], true, false)'
        " track:playlist():add_region(copy, Temporal.timepos_t(200000), 1, false)"
        ' select_regions(regions_of("combined"))'
        " track:playlist():combine(Editor:get_selection().regions:regionlist(), track)"
        ' select_regions(regions_of("combined"))'
    )
    ardour.press(rig.LAST)
    assert ardour.said().endswith("it is a combined region: uncombine or bounce it.")


def test_edits_of_a_rhythm_come_back_while_its_page_stays_open(ardour, tmp_path):
    loop = loop_at(48_000, tmp_path, name="Edited", length_s=2)
    ardour.lua(f'new_track("edited", 2) import({rig.quoted(str(loop))}, "edited", 54321)')
    ardour.select("edited")
    page = ardour.folder / "page.html"
    page.unlink(missing_ok=True)
    ardour.press(rig.EDIT)
    rig.until(lambda: page.exists() and "url=" in page.read_text(), "the page")
    base, _, token = re.search(r'url=([^"]+)', page.read_text())[1].partition("/#token=")
    with httpx.Client(
        base_url=base, headers={"Authorization": f"Bearer {token}"}, timeout=rig.WAIT_S
    ) as client:
        rig.until(lambda: client.get("/api/session").json()["state"] != "opening", "the editor")
        assert client.get("/api/session").json()["host"] == "Ardour"
        assert client.post("/api/send", json={"version": 0}).status_code == 200
        np.testing.assert_array_equal(ardour.samples("edited redrum"), ardour.samples("edited"))
        stroke = client.get("/api/session").json()["events"][0]["id"]
        edited = client.post("/api/edits", json={"version": 0, "edits": [{"op": "delete", "id": stroke}]})
        assert edited.status_code == 200, edited.text
        assert client.post("/api/send", json={"version": 1}).status_code == 200
    newest = ardour.tracks()[ardour.tracks().index("edited") + 1]  # the first take lies below
    assert [take["position"] for take in ardour.regions(newest)] == [54_321]
    assert (ardour.samples(newest) != ardour.samples("edited")).any()
    ardour.lua("Editor:undo(1)")
    assert ardour.regions(newest) == []
    ardour.close_window(rig.CANCEL)
    ardour.close_window(rig.YES)
    ardour.wait_for_end()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("os.remove(note)", "Ardour does not know yet where the redrum command is."),
        ("select_regions({})", "Select a drum region first."),
    ],
)
def test_what_is_missing_is_said_and_nothing_happens(ardour, change, sentence):
    note = ardour.config / "redrum" / "command.json"
    before = note.read_bytes(), ardour.tracks()
    ardour.lua(f"local note = {rig.quoted(str(note))} {change}")
    ardour.press(rig.SELECTED)
    assert ardour.said().startswith(sentence)
    note.write_bytes(before[0])
    assert (ardour.tracks(), ardour.jobs()) == (before[1], [])


@pytest.fixture
def disk(tmp_path):
    """A disk of its own of 64 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=False)
    if done.returncode:
        pytest.skip("only a superuser can mount a disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_after_a_kill_its_session_opens_again_and_what_a_disk_refuses_is_said(start, rendering, disk):
    ardour = start(parent=disk)
    ardour.answer()
    rendering(ardour, "drums")
    before = ardour.tracks(), ardour.regions("drums")
    ardour.kill()
    rendering.go_on()
    ardour.start(next(disk.iterdir()))
    assert (ardour.tracks(), ardour.regions("drums")) == before == (["drums"], before[1])
    ardour.select("drums")
    filler = disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(disk).free - 5 * 2**20))
    ardour.press(rig.LAST)
    assert "5 MB are free" in ardour.said()
    full = Path(ardour.environment["REDRUM_DATA"]) / "any room"
    full.touch()
    filler.write_bytes(bytes(filler.stat().st_size + shutil.disk_usage(disk).free - 100_000))
    ardour.select("drums")
    ardour.press(rig.LAST)
    words = ardour.said().split("\n")
    assert words[0].startswith("Ardour took only a part of drums-redrum")
    assert soundfile.info(words[-1]).frames == ardour.regions("drums")[0]["length"]
    Path(words[-1]).unlink()
    full.unlink()
    filler.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    ardour.select("drums")
    ardour.press(rig.LAST)
    assert "nothing can be written into" in ardour.said().lower()
    subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
    assert (ardour.tracks(), ardour.regions("drums")) == before
    ardour.select("drums")
    ardour.press(rig.LAST)
    rig.until(lambda: "drums redrum" in ardour.tracks() and ardour.regions("drums redrum"), "the take")
    assert [take["position"] for take in ardour.regions("drums redrum")] == [12_345]
