"""The actions in a real Ardour, from the key press to the take: what a user sees, and the samples."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
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

    def begin(rate=48_000, name="Söng 50% 'x' \"y\""):
        if rate not in running:
            ardour = rig.Ardour(tmp_path_factory.mktemp(f"ardour-{rate}"), screen, rate=rate)
            ardour.environment |= own
            running[rate] = ardour
            ardour.start(ardour.new_session(name))
        return running[rate]

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

    def make(source, bpm, begin_s=0.0):
        out = source.with_name(f"{source.stem} take.wav")
        words = ["--rhythm", rig.RHYTHM, "--length", "source", "--seed", "7", "--align", "beats"]
        words += ["--source-bpm", str(bpm), "--start", str(begin_s), "-o", str(out)]
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


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_a_key_press_makes_the_takes_that_render_makes(start, render, rate, tmp_path):
    ardour = start(rate)
    # The region's beginning, in samples; the tempo there; and when the bar in which it begins, begins.
    places = {
        "first": (0, 120.0, 0.0),
        "on its bar": (2 * rate, 120.0, 2.0),
        "odd": (4 * rate + 12_347, 97.3, 4.0),
        "late": (12 * rate + 1, 140.5, 4 + 12 * 60 / 97.3),
    }
    loops = {name: loop_at(rate, tmp_path, name=f"Loop ü {name}", length_s=2) for name in places}
    tempo = ", ".join(f"{{{beat}, {bpm}}}" for beat, bpm in TEMPO)
    ardour.lua(f"set_tempo({{{tempo}}})")
    for name, (at, *_) in places.items():
        how = "embed" if name == "odd" else "import"
        ardour.lua(f'new_track("{name}", 2) {how}({rig.quoted(str(loops[name]))}, "{name}", {at})')
    ardour.lua(
        'new_track("bass", 1) track_named("odd"):presentation_info_ptr():set_color(0x204060ff)'
        ' local late = regions_of("late")[1] trim_front(late, 777)'
        " late:to_audioregion():set_scale_amplitude(0.5)"
    )
    ardour.select(*places)
    before = {name: (ardour.regions(name), ardour.samples(name)) for name in places}
    ardour.answer(kit="apart")
    ardour.press(rig.SELECTED)
    ardour.close_window(rig.ACCEPT)  # what it asks: the last answers stand
    rig.until(lambda: "late redrum" in ardour.tracks() and not ardour.jobs(), "the takes")
    assert ardour.tracks() == [found for name in places for found in (name, f"{name} redrum")] + ["bass"]
    takes = {}
    for name, (_, bpm, bar_s) in places.items():
        (source,), samples = before[name]
        (takes[name],) = ardour.regions(f"{name} redrum")
        assert takes[name] == {**source, "name": f"{source['name']}-redrum", "has_fades": False}
        file = tmp_path / f"{name}.wav"
        gain = 0.5 if name == "late" else 1.0  # which is not in the samples that Ardour reads
        soundfile.write(file, gain * samples.T, rate, subtype="FLOAT")
        expected = render(file, bpm, source["position"] / rate - bar_s)
        np.testing.assert_array_equal(ardour.samples(f"{name} redrum"), expected)
        assert ardour.regions(name) == [source]
        np.testing.assert_array_equal(ardour.samples(name), samples)
    assert ardour.lua('return track_named("odd redrum"):presentation_info_ptr():color()') == 0x204060FF
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
