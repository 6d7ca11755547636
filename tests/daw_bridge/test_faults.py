"""Projects, jobs, sheets, manifests and settings that are not what they should be."""

import json
import math
from functools import partial
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daw_bridge.action_job import read_job
from daw_bridge.batch import BatchSettings, estimate_s, preview
from daw_bridge.job_files import SCHEMA
from daw_bridge.manifest import MANIFEST, STAGING, Finished, Manifest, staged_path
from daw_bridge.pairs import pair_items
from daw_bridge.plan import PlanSettings, plan
from daw_bridge.reaper.install import install, uninstall
from daw_bridge.reaper.rpp import open_project
from daw_bridge.reaper.rpp_text import ProjectText
from transform.errors import SettingsError
from transform.files import sha256_of

PROJECT = rb"""<REAPER_PROJECT 0.1 "7.0/linux" 1700000000
  RIPPLE 0
  RECORD_PATH "media" ""
  TEMPO 120 4 4
  <TEMPOENVEX
    PT 0 120 1
    PT 4 90.5 0
    PT 8 100 1
  >
  <TRACK {11111111-2222-3333-4444-555555555555}
    NAME "drums"
    <ITEM
      POSITION 1.25
      LENGTH 2
      LOOP 1
      MUTE 0 0
      IGUID {AAAAAAAA-0000-0000-0000-000000000001}
      NAME 'the "first" take.wav'
      SOFFS 0.5
      PLAYRATE 1.5 1 0 -1 0 0.0025
      CHANMODE 0
      <SOURCE SECTION
        LENGTH 1.5
        MODE 2
        STARTPOS 0.25
        <SOURCE WAVE
          FILE "sounds/loop.wav" 1
        >
      >
    >
  >
  <TRACK
    NAME rhythm
    AUXRECV 0 0 1
    <ITEM
      POSITION 2
      LENGTH 4
      LOOP 1
      SOFFS 0.5 1
      PLAYRATE 1 1 0 -1 0 0.0025
      <SOURCE MIDI
        HASDATA 1 960 QN
        E 0 90 24 64
        E 480 80 24 00
        Em 0 90 26 64
        E 480 90 2a 40
        <X 10 0
          /wNUZXN0
        >
        E 950 b0 7b 00
        IGNTEMPO 1 120 4 4
        POOLEDEVTS {12345678-0000-0000-0000-000000000001}
      >
    >
    <ITEM
      POSITION 7
      LENGTH 1
      <SOURCE MIDIPOOL
        POOLEDEVTS {12345678-0000-0000-0000-000000000001}
      >
    >
  >
>
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("faults ü")


# --- REAPER projects ---


@given(data=st.data())
def test_a_faulty_project(folder, fault, survives, data):
    path = folder / "song.rpp"
    path.write_bytes(data.draw(fault(PROJECT, is_text=True)))
    job = survives("RPP", lambda: open_project(path).collect())
    if job is None:
        return
    for item in job.items:
        assert all(map(math.isfinite, (item.position_s, item.length_s, item.start_offset_s, item.play_rate)))
        for note in item.notes:
            assert item.position_s - 1e-3 <= note.onset_s <= item.end_s + 1e-3
            assert 1 <= note.velocity <= 127


words = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Zl", "Zp"]), max_size=12)
lines = st.lists(
    st.one_of(words, st.integers().map(str), st.floats(allow_subnormal=False).map(str)), max_size=5
).map(" ".join)
blocks = st.recursive(
    lines.map(lambda line: f"X{line}\n"),
    lambda inner: st.tuples(st.sampled_from(["TRACK", "ITEM", "SOURCE MIDI", "A"]), st.lists(inner)).map(
        lambda pair: f"<{pair[0]}\n{''.join(pair[1])}>\n"
    ),
    max_leaves=30,
)


@given(st.lists(blocks, max_size=4), st.sampled_from(["\n", "\r\n"]))
def test_any_tree_of_lines_comes_back_byte_by_byte(survives, inner, line_end):
    text = f"<REAPER_PROJECT 0.1\n{''.join(inner)}>\n".replace("\n", line_end)
    parsed = survives("RPP, read and written", ProjectText, text.encode(), "song.rpp")
    assert parsed.with_changes([], {}) == text.encode()
    assert len(list(parsed.root.blocks("TRACK"))) == sum(tree.startswith("<TRACK") for tree in inner)


def test_numbers_that_no_project_has(folder, survives, subtests):
    cases = [
        (b"HASDATA 1 960", b"HASDATA 1 0"),
        (b"HASDATA 1 960", b"HASDATA 1 1e-300"),
        (b"PT 4 90.5", b"PT 1e15 90.5"),  # a tempo that glides for 30 million years
        (b"LENGTH 4\n", b"LENGTH 1e12\n"),  # a loop of two beats in it
        (b"PLAYRATE 1 ", b"PLAYRATE 1e-300 "),
        (b"E 480 80", b"E 1e300 80"),
        (b"E 480 80 24", b"E 480 80 -" + b"9" * 5000),
        (b"MODE 2", b"MODE 1e300"),
        (b"TEMPO 120", b"TEMPO 1e-300"),
    ]
    path = folder / "song.rpp"
    for old, new in cases:
        with subtests.test(old=old, new=new):
            assert old in PROJECT
            path.write_bytes(PROJECT.replace(old, new))
            survives("RPP", lambda: open_project(path).collect())


# --- jobs ---

FACTS = {
    "path": "/music/song.rpp",
    "project": "1",
    "media_folder": "/music",
    "bpm": 120.0,
    "points": [[0.0, 120.0, False], [4.0, 90.0, True], [8.0, 100.0, False]],
    "tracks": [{"id": "a", "name": "drums", "color": 0}, {"id": "b", "name": "rhythm", "color": 0x10000FF}],
    "items": [
        {
            "id": "i",
            "track": 0,
            "position_s": 1.5,
            "length_s": 2.0,
            "is_selected": True,
            "is_looped": True,
            "is_muted": False,
            "take": {
                "is_midi": False,
                "markers": [],
                "name": "loop",
                "file": "loop.wav",
                "start_offset_s": 0.5,
                "play_rate": 1.0,
                "keeps_pitch": True,
                "channel_mode": 0,
                "section": [0.0, 1.0, False],
            },
        },
        {
            "id": "j",
            "track": 1,
            "position_s": 0.0,
            "length_s": 4.0,
            "is_selected": True,
            "is_looped": True,
            "is_muted": False,
            "take": {
                "is_midi": True,
                "markers": [],
                "name": "beat",
                "start_offset_s": 0.0,
                "play_rate": 1.0,
                "keeps_pitch": True,
                "channel_mode": 0,
                "source_beats": 4.0,
                "notes": [[0.0, 36, 100, 9], [1.0, 38, 90, 9]],
            },
        },
    ],
}
JOB = {"schema": SCHEMA, "order": {"rhythm": "", "seed": "1"}, "facts": FACTS}


def check_job(survives, path):
    """Read a job; what is read is a job whose items can be worked on."""
    found = survives("jobs of the action", read_job, path)
    if found is None:
        return
    _, job = found
    for item in job.items:
        assert item.kind in ("audio", "midi")
        assert all(1 <= note.velocity <= 127 and math.isfinite(note.onset_s) for note in item.notes)
    survives("jobs, paired", lambda: pair_items(job, has_rhythm=False))


def test_the_job_that_is_harmed_is_one(folder):
    path = folder / "whole.json"
    path.write_text(json.dumps(JOB))
    _, job = read_job(path)
    assert [item.kind for item in job.items] == ["audio", "midi"]
    assert len(job.items[1].notes) == 4  # two beats of notes in a loop of four, eight beats long


@given(data=st.data())
def test_a_faulty_job(folder, fault, survives, data):
    path = folder / "job.json"
    path.write_bytes(data.draw(fault(json.dumps(JOB).encode(), is_text=True)))
    check_job(survives, path)


strange = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_subnormal=False)
    | st.just(10**400)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(data=st.data())
def test_a_job_with_anything_in_the_place_of_anything(folder, survives, data):
    job = json.loads(json.dumps(JOB))
    place = job
    while True:
        keys = list(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or not place[key] or data.draw(st.booleans()):
            break
        place = place[key]
    place[key] = data.draw(strange)
    path = folder / "strange.json"
    path.write_text(json.dumps(job))
    check_job(survives, path)


# --- job sheets ---

CSV = b"""source,rhythm,start,length,engine,preset,seed
a.wav,beat.mid,0.5,4,resequence,,1
a.wav,beat.mid,,source,,,2
"""
TOML = b"""[[job]]
source = "a.wav"
rhythm = "beat.mid"
start = 0.5
length = 4
engine = "resequence"
seed = 1

[[job]]
source = "a.wav"
rhythm = "beat.mid"
length = "source"
seed = 2
"""


@pytest.fixture(scope="module")
def sheets(tmp_path_factory):
    """A folder with what the sheets name."""
    import numpy as np
    import soundfile

    from transform.events import DrumEvent, Rhythm
    from transform.midi import write_midi

    folder = tmp_path_factory.mktemp("sheets")
    soundfile.write(folder / "a.wav", np.zeros(1000), 44_100)
    (folder / "beat.mid").write_bytes(write_midi(Rhythm((DrumEvent(0.0, "KD", 0.8),), 2.0)))
    return folder


@pytest.mark.parametrize(("name", "content"), [("jobs.csv", CSV), ("jobs.toml", TOML)])
@given(data=st.data())
def test_a_faulty_job_sheet(sheets, fault, survives, name, content, data):
    path = sheets / name
    path.write_bytes(data.draw(fault(content, is_text=True)))
    settings = PlanSettings(out=sheets / "out", name="{stem}_{seed}")
    planned = survives(f"sheets, {name}", plan, [], str(path), settings)
    if planned is not None:
        assert planned
        assert all(item.source.is_file() and item.rhythm.path.is_file() for item in planned)
        assert len({item.output for item in planned}) == len(planned)


def test_what_is_no_number_or_no_sheet(sheets, subtests):
    cases = [
        ("jobs.csv", b",1\n", b",nan\n"),
        ("jobs.csv", b",1\n", b",inf\n"),
        ("jobs.csv", b"0.5", b"1e999"),
        ("jobs.toml", b"seed = 1", b"seed = inf"),
        ("jobs.toml", b"seed = 1", b"seed = " + b"9" * 400),
        ("jobs.toml", b"0.5", b"[" * 100_000),
        ("jobs.toml", b"0.5", b"1979-05-27"),
        ("jobs.toml", b"0.5", b"9" * 5000),
        ("jobs.toml", TOML, b""),
        ("jobs.csv", CSV, b""),
        ("jobs.csv", CSV, b"\n\n"),
    ]
    for name, old, new in cases:
        with subtests.test(name=name, old=old, new=new):
            content = {"jobs.csv": CSV, "jobs.toml": TOML}[name]
            assert old in content
            (sheets / name).write_bytes(content.replace(old, new, 1))
            with pytest.raises(SettingsError):
                plan([], str(sheets / name), PlanSettings(out=sheets / "out", name="{stem}_{seed}"))


# --- manifests ---


def write_manifest(folder):
    """Make a manifest of two results; return its bytes."""
    with Manifest(folder) as manifest:
        staging = manifest.begin()
        for name in ("a", "b"):
            staged = staged_path(staging, ".wav")
            staged.write_bytes(name.encode())
            finished = Finished(staged=staged, path=folder / f"{name}.wav", sha256=sha256_of(staged))
            entry = {"key": name, "recorded_s": 2.0, "report": {"seconds": 0.1, "output": f"{name}.wav"}}
            manifest.add(entry, [finished], overwrite=False)
        manifest.add_failure(folder / "c.wav", {"error": "it is broken"})
    return (folder / MANIFEST).read_bytes()


@given(data=st.data())
def test_a_faulty_manifest(tmp_path_factory, sheets, fault, survives, data):
    folder = tmp_path_factory.mktemp("out")
    whole = write_manifest(folder)
    planned = plan([sheets / "a.wav"], str(sheets / "beat.mid"), PlanSettings(out=folder, name="a"))
    (folder / MANIFEST).write_bytes(data.draw(fault(whole, is_text=True)))

    faulty = (folder / MANIFEST).read_bytes()
    (folder / STAGING).mkdir()
    (folder / STAGING / "0123456789abcdef.wav").write_bytes(b"a stranger's")

    def use():
        survives("manifest, estimated", lambda: estimate_s(10.0, BatchSettings(out=folder)))
        list(preview(planned, BatchSettings(out=folder)))
        with Manifest(folder) as manifest:
            return [manifest.made(folder / f"{name}.wav") is not None for name in "abc"]

    if survives("manifest", use) is None:  # one that is not all ours is refused and left as it is
        assert (folder / MANIFEST).read_bytes() == faulty
    assert {path.name: path.read_bytes() for path in folder.glob("*.wav")} == {"a.wav": b"a", "b.wav": b"b"}
    assert [path.read_bytes() for path in (folder / STAGING).iterdir()] == [b"a stranger's"]


# --- REAPER's settings ---

INI = b"""; mine
[REAPER]
lastproject=C:\\Music\\a.rpp
csurf_cnt=1
csurf_0=OSC "x"

[verbconfig]
  odd = 1
""".replace(b"\n", b"\r\n")


@given(data=st.data())
def test_faulty_settings_of_reaper(tmp_path_factory, fault, survives, data):
    folder = tmp_path_factory.mktemp("REAPER")
    before = data.draw(fault(INI, is_text=True))
    (folder / "reaper.ini").write_bytes(before)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("daw_bridge.reaper.install._python_library", lambda: folder / "libpython3.so")
        patch.setattr(psutil, "process_iter", lambda names: [SimpleNamespace(info={"name": "bash"})])
        done = survives("REAPER's settings, install", partial(install, folder, with_server=True))
        if done is None:
            assert (folder / "reaper.ini").read_bytes() == before
            return
        after = (folder / "reaper.ini").read_bytes()
        assert not before or (folder / "reaper.ini.before-redrum").read_bytes() == before
        # Nothing that was there goes, but for the count of interfaces and one beyond it.
        kept = [line for line in before.split(b"\n") if line.strip() and b"csurf" not in line.lower()]
        assert [line for line in kept if line.rstrip(b"\r") not in after] == []
        if survives("REAPER's settings, uninstall", uninstall, folder) is not None:
            assert (folder / "reaper.ini").read_bytes() == before
