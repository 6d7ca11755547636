"""The actions in a real Ardour, from the key press to the take: what a user sees, and the samples."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from transform.library import demo_recordings

_SPEC = importlib.util.spec_from_file_location("ardour_rig", Path(__file__).with_name("rig.py"))
rig = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(rig)

pytestmark = pytest.mark.skipif(bool(rig.why_not()), reason=rig.why_not())

ROOT = Path(__file__).resolve().parents[3]


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

    def begin(rate=48_000, name="Söng 50% 'x'"):
        if rate not in running:
            ardour = rig.Ardour(tmp_path_factory.mktemp(f"ardour-{rate}"), screen, rate=rate)
            ardour.environment |= {"REDRUM_DATA": str(data), "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            ardour.start(ardour.new_session(name))
            running[rate] = ardour
        return running[rate]

    yield begin
    for ardour in running.values():
        ardour.kill()
    subprocess.run(  # the helper that the jobs share ends
        [sys.executable, "-c", "from daw_bridge import warm; warm.look('stop')"],
        env={**os.environ, "REDRUM_DATA": str(data), "PYTHONPATH": str(ROOT)},
        check=True,
    )


def loop_at(rate, folder, n_channels=2, name="Loop ü"):
    """Return a drum loop as a file of a rate, each channel another sound."""
    sound, own_rate = soundfile.read(demo_recordings()[0].path, always_2d=True)
    sound = soxr.resample(sound[: 4 * own_rate], own_rate, rate)
    sound = np.stack([sound[:, 0], 0.5 * sound[:, -1]][:n_channels], axis=1)
    path = folder / f"{name}.wav"  # Ardour asks before it imports a name twice
    soundfile.write(path, sound, rate, subtype="FLOAT")  # as Ardour stores it
    return path


def render(source, out):
    """Return what `redrum render` makes of a file at the session's tempo."""
    words = ["--rhythm", rig.RHYTHM, "--length", "source", "--seed", "7", "--align", "beats"]
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "daw_bridge",
            "render",
            str(source),
            *words,
            "--source-bpm",
            "120",
            "-o",
            str(out),
        ],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return soundfile.read(out, dtype="float32", always_2d=True)[0].T


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_a_key_press_makes_the_take_that_render_makes(start, rate, tmp_path):
    ardour = start(rate)
    loop = loop_at(rate, tmp_path)
    at = 0
    ardour.lua(
        'new_track("drums", 2) new_track("bass", 1)'
        f' import({rig.quoted(str(loop))}, "drums", {at})'
        ' track_named("drums"):presentation_info_ptr():set_color(0x204060ff)'
        ' select_regions(regions_of("drums"))'
    )
    before = ardour.regions("drums"), ardour.samples("drums")
    ardour.answer()
    ardour.press(rig.SELECTED)
    ardour.close_window(rig.ACCEPT)  # what it asks: the last answers stand
    rig.until(lambda: "drums redrum" in ardour.tracks() and not ardour.jobs(), "the take")
    assert ardour.tracks() == ["drums", "drums redrum", "bass"]
    (take,) = ardour.regions("drums redrum")
    length = soundfile.info(loop).frames
    assert take == {
        "name": "Loop ü-redrum",
        "position": at,
        "length": length,
        "n_channels": 2,
        "has_fades": False,
    }
    assert ardour.lua('return track_named("drums redrum"):presentation_info_ptr():color()') == 0x204060FF
    np.testing.assert_array_equal(ardour.samples("drums redrum"), render(loop, tmp_path / "take.wav"))
    assert ardour.regions("drums") == before[0]
    np.testing.assert_array_equal(ardour.samples("drums"), before[1])
    ardour.lua("Editor:undo(1)")
    assert (ardour.regions("drums redrum"), ardour.regions("drums")) == ([], before[0])
    ardour.lua("Editor:redo(1)")
    assert ardour.regions("drums redrum") == [take]


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


def test_all_regions_of_a_selected_track_get_takes_in_one_undo_step(ardour, tmp_path):
    starts = [123_457, 1_000_001, 2_000_003]
    loops = [loop_at(48_000, tmp_path, n_channels=1, name=f"Loop {at}") for at in starts]
    ardour.lua(
        'new_track("kit", 1)'
        + "".join(
            f' import({rig.quoted(str(loop))}, "kit", {at})' for loop, at in zip(loops, starts, strict=True)
        )
        + " Editor:select_all_tracks()"
    )
    ardour.press(rig.TRACKS)
    ardour.close_window(rig.ACCEPT)
    rig.until(lambda: "kit redrum" in ardour.tracks() and not ardour.jobs(), "the takes")
    takes = ardour.regions("kit redrum")
    length = soundfile.info(loops[0]).frames
    assert [(take["position"], take["length"]) for take in takes] == [(at, length) for at in starts]
    ardour.lua("Editor:undo(1)")
    assert ardour.regions("kit redrum") == []
    assert len(ardour.regions("kit")) == 3


def test_cancel_leaves_nothing(ardour, tmp_path):
    loop = loop_at(48_000, tmp_path, n_channels=1, name="Long")
    ardour.lua(
        f'new_track("long", 1) import({rig.quoted(str(loop))}, "long", 0) select_regions(regions_of("long"))'
    )
    ardour.press(rig.LAST)
    ardour.close_window(rig.CANCEL)
    rig.until(lambda: not ardour.jobs(), "the end of the job")
    assert "long redrum" not in ardour.tracks()


@pytest.mark.parametrize("change", ["os.remove(note)", "select_regions({})"])
def test_what_is_missing_is_said_and_nothing_happens(ardour, change):
    note = ardour.config / "redrum" / "command.json"
    before = note.read_bytes(), ardour.tracks()
    ardour.lua(f"local note = {rig.quoted(str(note))} {change}")
    ardour.press(rig.SELECTED)
    ardour.close_window(rig.CLOSE)
    note.write_bytes(before[0])
    assert (ardour.tracks(), ardour.jobs()) == (before[1], [])
