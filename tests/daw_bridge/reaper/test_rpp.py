"""REAPER's project files: nothing but new lines, checked against another parser."""

import difflib
import random
import shutil
from pathlib import Path

import pytest
import reaper_parser
from hypothesis import given, settings
from hypothesis import strategies as st

from daw_bridge.choice import Choice
from daw_bridge.reaper import rpp, rpp_sources
from daw_bridge.reaper.rpp import open_project
from daw_bridge.reaper.rpp_sources import MidiSources
from daw_bridge.reaper.rpp_text import ProjectText, quoted, words_of
from daw_bridge.session import Fade, FinishedTake
from transform.errors import DawError, OutputError
from transform.events import TempoMap

# Whatever REAPER writes and we know nothing of: all of it must stay.
STRANGE = rb"""<REAPER_PROJECT 0.1 "7.11/linux-x86_64" 1700000000
  <NOTES 0 2
    |a line with <brackets> and "quotes"
    |>
  >
  RECORD_PATH "media" ""
  <RENDER_CFG
    ZXZhdxgAAQ==
  >
  TEMPO 91 4 4
  FUTURE_LINE {9F3C} 'single "inside"' `back 'both" tick` -0.5
  <TEMPOENVEX
    ACT 1 -1
    PT 0 91 1
  >
  <TRACK {11111111-2222-3333-4444-555555555555}
    NAME "Schlagzeug f\xfcr alle"
    PEAKCOL 16576
    ISBUS 1 1
    <FXCHAIN
      SHOW 0
      <VST "VST: ReaComp (Cockos)" reacomp.dll 0 "" 1919247213
        bWNlcu5e7f4EAAAAAQAAAAAAAAACAAAAAAAAAAQAAAAAAAAACAAAAAAAAAACAAAAAQAAAAAAAAACAAAA
        776t3g3wrd4AAIA/
      >
      <JS loser/3BandEQ ""
        0 200 - 0 2000 0 0 -
      >
      WAK 0 0
    >
    <ITEM
      POSITION 1.25
      LENGTH 2
      LOOP 1
      MUTE 0 0
      IGUID {AAAAAAAA-0000-0000-0000-000000000001}
      NAME 'the "first" take.wav'
      SOFFS 0.5
      PLAYRATE 1 1 0 -1 0 0.0025
      CHANMODE 0
      <SOURCE WAVE
        FILE "sounds\loop.wav"
      >
      TAKE NULL
      TAKE SEL
      NAME second
      SOFFS 0.25
      PLAYRATE 1.5 0 0 -1 0 0.0025
      CHANMODE 2
      <SOURCE SECTION
        LENGTH 1.5
        MODE 2
        STARTPOS 0.25
        OVERLAP 0.01
        <SOURCE FLAC
          FILE "sounds/loop.flac" 1
        >
      >
      <TAKEFX
        WNDRECT 0 0 0 0
      >
    >
  >
  <TRACK
    NAME ""
    ISBUS 2 -1
  >
  <EXTENSIONS
  >
>
""".replace(rb"\xfc", b"\xfc")  # no UTF-8


@pytest.fixture
def project(tmp_path):
    def make(data, name="song.rpp"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return make


@pytest.fixture
def take(write_wav, clicks):
    def make(item, name="take", n_channels=1):
        file = write_wav(f"staging/{name}.wav", clicks([0.1], length_s=0.5, n_channels=n_channels))
        return FinishedTake(source=item, file=file, name=name, length_s=0.5, n_channels=n_channels)

    return make


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n\0\0"])
def test_an_edit_that_changes_nothing_keeps_every_byte(line_end, end):
    data = (STRANGE.rstrip() + end).replace(b"\n", line_end)
    assert ProjectText(data, "song").with_changes([], {}) == data


def test_the_active_take_is_read(project):
    (item,) = open_project(project(STRANGE)).collect().items
    assert (item.position_s, item.length_s, item.is_looped, item.name) == (1.25, 2.0, True, "second")
    assert (item.start_offset_s, item.play_rate, item.keeps_pitch, item.channel_mode) == (0.25, 1.5, False, 2)
    assert (item.is_reversed, item.section_start_s, item.section_length_s) == (True, 0.25, 1.5)
    assert (item.state, Path(item.file).name) == ("offline", "loop.flac")


def test_a_path_of_windows_is_found(project, write_wav, clicks):
    path = write_wav("sounds/loop.wav", clicks([0.1]))
    text = STRANGE.replace(b"      TAKE SEL", b"      TAKE").replace(
        b"sounds\\loop", b"D:\\Music\\sounds\\loop"
    )
    moved = project(text.replace(b"D:\\Music\\", b""))
    assert Path(open_project(moved).collect().items[0].file).samefile(path)
    path.rename(moved.parent / "loop.wav")  # by its name, where the end of the path is nowhere
    found = open_project(project(text, "other.rpp")).collect().items[0]
    assert (found.state, Path(found.file).name) == ("ok", "loop.wav")


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_only_new_lines_come_in(project, take, line_end):
    before = STRANGE.replace(b"\n", line_end)
    session = open_project(project(before))
    job = session.collect()
    session.write_back(job, [take(job.items[0], 'a "take"', n_channels=6)])
    after = session.output.read_bytes()
    changes = list(_changes(before, after))
    assert {kind for kind, _ in changes} == {"+"}
    assert all(line.endswith(line_end) for _, line in changes)
    added = b"".join(line for _, line in changes)
    assert added.startswith(b"  <TRACK {")
    assert 'NAME "Schlagzeug f\udcfcr alle redrum"'.encode("utf-8", "surrogateescape") in added
    assert b"NCHAN 6" in added
    assert b"""FILE "media/a 'take'.wav\"""" in added or b"FILE 'media/a \"take\".wav'" in added


def _changes(before, after):
    lines = [data.splitlines(keepends=True) for data in (before, after)]
    for kind, a, b, c, d in difflib.SequenceMatcher(None, *lines, autojunk=False).get_opcodes():
        if kind != "equal":
            yield from (("-", line) for line in lines[0][a:b])
            yield from (("+", line) for line in lines[1][c:d])


def oracle(data):
    """Return (track name, [(position, length, take name)]) of each track as reaper-parser reads them."""
    document = reaper_parser.parse(data.decode("latin-1"))
    return [
        (
            track.find_line("NAME").values[0],
            [
                (*(float(item.find_line(key).values[0]) for key in ("POSITION", "LENGTH")),)
                for item in track.find_chunks("ITEM")
            ],
        )
        for track in document.tracks()
    ]


def test_another_parser_reads_the_result(project, take):
    session = open_project(project(STRANGE))
    job = session.collect()
    session.write_back(job, [take(job.items[0])])
    before, after = oracle(STRANGE), oracle(session.output.read_bytes())
    assert before == [after[0], after[2]]
    assert after[1] == ("Schlagzeug f\xfcr alle redrum", [(1.25, 0.5)])


def test_another_parser_reads_the_same_items(project, worlds, tmp_path):
    items = [worlds.audio(tmp_path / f"{n}.wav", n / 3, 1 / (n + 1)) for n in range(5)]
    world = worlds("rpp", [worlds.track("one", *items[:2]), worlds.track("two", *items[2:])])
    job = world.session().collect()
    found = [
        (t.name, [(i.position_s, i.length_s) for i in job.items if i.track == n])
        for n, t in enumerate(job.tracks)
    ]
    assert found == oracle(world.before)


def wiring(data):
    """Return the names of all tracks, the folders that they lie in, and what they receive from."""
    tracks = reaper_parser.parse(data.decode("latin-1")).tracks()
    names = [track.find_line("NAME").values[0] for track in tracks]
    folders, found = [], {}
    for name, track in zip(names, tracks, strict=True):
        found[name] = tuple(folders), [names[int(line.values[0])] for line in track.find_lines("AUXRECV")]
        depth = int(track.find_line("ISBUS").values[1])
        folders = [*folders, name] if depth > 0 else folders[: len(folders) + depth]
    assert not folders
    return found


def test_folders_and_sends_stay_as_they_are(worlds, take, tmp_path):
    """Kick and snare send to a reverb below, and to a copy of the snare above; all but that in a bus."""
    files = [worlds.audio(tmp_path / f"{name}.wav") for name in ("kick", "snare")]
    world = worlds(
        "rpp",
        [
            worlds.track("snare copy", receives=[3]),
            worlds.track("bus", folder_depth=1),
            worlds.track("kick", files[0]),
            worlds.track("snare", files[1], folder_depth=-1, receives=[2, 0]),
            worlds.track("reverb", receives=[2, 3, 1]),
        ],
    )
    session = world.session()
    job = session.collect()
    session.write_back(job, [take(item, f"take {n}") for n, item in enumerate(job.items)])
    before, after = wiring(world.before), wiring(session.output.read_bytes())
    new = {"kick redrum", "snare redrum"}
    assert {name: about for name, about in after.items() if name not in new} == before
    assert {name: after[name] for name in new} == dict.fromkeys(new, (("bus",), []))
    # Of all lines that were there, the end of the folder and the numbers of receives are others.
    gone = [
        line.split()[0] for kind, line in _changes(world.before, session.output.read_bytes()) if kind == "-"
    ]
    assert gone == [b"AUXRECV", b"ISBUS", b"AUXRECV"]


def test_a_project_cut_short_is_refused_wherever_it_ends():
    lines = STRANGE.splitlines(keepends=True)
    for n in range(len(lines)):
        data = b"".join(lines[:n])
        with pytest.raises(DawError, match=rf"line {n}\b" if n else "no REAPER project") as caught:
            ProjectText(data, "song.rpp")
        assert caught.value.hint
    with pytest.raises(DawError, match="line"):
        ProjectText(STRANGE[: len(STRANGE) // 2], "song.rpp")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"<REAPER_PROJECT", b"{", "no REAPER project: its line 1"),
        (b"  <EXTENSIONS\n", b"", r"line \d+: it stands after the end"),
        (b"POSITION 1.25", b"POSITION soon", "line 32: 'POSITION soon' lacks a number"),
        (b"LENGTH 2", b"LENGTH nan", "line 33: nan is no number"),
        (b"TEMPO 91", b"TEMPO -91", "-91.0 BPM"),
        (b"PT 0 91 1", b"PT 0", "line 14"),
    ],
)
def test_a_broken_project_is_refused_with_its_line(project, old, new, message):
    path = project(STRANGE.replace(old, new, 1))
    with pytest.raises(DawError, match=message):
        open_project(path).collect()
    assert not path.with_name("song-redrum.rpp").exists()


def test_tracks_and_items_are_chosen(worlds, tmp_path):
    names = ("Drums L", "drums R", "bass")
    world = worlds("rpp", [worlds.track(name, worlds.audio(f"{name}.wav", n)) for n, name in enumerate(names)])

    def chosen(**which):
        return [item.position_s for item in open_project(world.path, choice=Choice(**which)).collect().items]

    assert chosen() == [0, 1, 2]
    assert chosen(tracks="DRUMS*") == [0, 1]
    assert chosen(items=["1", "bass*"]) == [0, 2]
    assert chosen(tracks="drums*", items=["2", "3"]) == [1]


def test_a_result_never_replaces_what_is_there(project, take):
    path = project(STRANGE)
    other = project(b"mine", "song-redrum.rpp")
    with pytest.raises(OutputError, match="exists already"):
        open_project(path)
    with pytest.raises(DawError, match="replace itself"):
        open_project(path, output=path, overwrite=True)
    assert other.read_bytes() == b"mine"
    with pytest.raises(DawError, match="cannot be read"):
        open_project(path.with_name("none.rpp"))


MIDI = b"""<REAPER_PROJECT 0.1 "4.78" 1
  TEMPO 120 4 4
  <TRACK
    NAME drums
    <ITEM
      POSITION 1
      LENGTH 4
      LOOP 0
      SOFFS 0.5
      PLAYRATE 1 1 0 -1
      <SOURCE MIDI
        HASDATA 1 480 QN
        POOLEDEVTS {POOL}
        E 0 90 24 64
        e 240 90 26 64
        <X 240 0
          /wNsb29w
        >
        Em 0 90 2a 64
        E 480 99 2a 64
        E 0 90 2e 00
        E 960 b0 7b 00
        IGNTEMPO 0 120 4 4
      >
    >
    <ITEM
      POSITION 10
      LENGTH 1
      <SOURCE MIDIPOOL
        POOLEDEVTS {POOL}
      >
    >
  >
>
"""


def onsets(data, project):
    return [
        [(round(note.onset_s, 9), note.number) for note in item.notes]
        for item in open_project(project(data)).collect().items
    ]


def test_midi_is_read_as_it_plays(project):
    # The offset of half a second is one beat: the first two notes lie before the item.
    assert onsets(MIDI, project) == [
        [(1.5, 0x2A)],
        [(10.0, 0x24), (10.25, 0x26)],
    ]


def test_midi_may_ignore_the_tempo_of_the_project(project):
    first = onsets(MIDI.replace(b"IGNTEMPO 0 120", b"IGNTEMPO 1 60"), project)[0]
    assert first == [(1.0, 0x26), (2.5, 0x2A)]


def test_a_broken_midi_event_is_named(project):
    with pytest.raises(DawError, match="line 14"):
        open_project(project(MIDI.replace(b"E 0 90 24 64", b"E 0 90 zz 64"))).collect()


@given(
    st.text(
        st.characters(codec="utf-8", exclude_characters="\r\n\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"), max_size=20
    )
)
def test_any_text_can_be_quoted(text):
    word_text = quoted(text)
    (word,) = words_of(f"  {word_text}  ")
    assert word == (text if not all(quote in text for quote in "\"'`") else text.replace("`", "'"))


def words_one_by_one(line):
    """Return the words of a line as they were read first, in time that grows with the square of its length."""
    words = []
    rest = line.strip()
    while rest:
        if rest[0] in "\"'`":
            word, _, rest = rest[1:].partition(rest[0])
        else:
            word, _, rest = rest.partition(" ")
        words.append(word)
        rest = rest.lstrip()
    return words


@settings(max_examples=300, deadline=None)
@given(st.text("ab \t\"'`\xa0\x1c", max_size=20))
def test_words_are_those_of_the_plain_way(line):
    assert words_of(line) == words_one_by_one(line)


def test_a_line_of_many_words_takes_no_time():
    # A million words: the plain way copies the rest of the line for each.
    assert words_of("  NAME " + "a " * 1_000_000) == ["NAME", *("a",) * 1_000_000]


# Files that no project may make Redrum look for


def audio_item(named, position=0):
    return (
        b'    <ITEM\n      POSITION %d\n      LENGTH 1\n      <SOURCE WAVE\n        FILE "%s"\n      >\n    >\n'
        % (
            position,
            named,
        )
    )


def song(*items, head=b""):
    return b'<REAPER_PROJECT 0.1 "7.0" 1\n%s  TEMPO 120 4 4\n  <TRACK\n    NAME drums\n%s  >\n>\n' % (
        head,
        b"".join(items),
    )


@pytest.fixture
def asked(monkeypatch):
    """Return the list of all places that are looked at."""
    places = []
    isfile, is_dir = rpp.os.path.isfile, Path.is_dir
    monkeypatch.setattr(rpp.os.path, "isfile", lambda place: places.append(str(place)) or isfile(place))
    monkeypatch.setattr(Path, "is_dir", lambda place: places.append(str(place)) or is_dir(place))
    return places


@pytest.mark.parametrize(
    "named", [b"\\\\evil\\share\\x.wav", b"//evil/share/x.wav", b"\\\\?\\UNC\\evil\\share\\x.wav"]
)
def test_a_file_on_another_computer_is_not_looked_for(project, asked, named):
    data = song(audio_item(named), head=b'  RECORD_PATH "\\\\evil\\share" ""\n')
    job = open_project(project(data)).collect()
    assert job.items[0].state == "remote"
    assert Path(job.media_folder) == project(data).parent
    assert asked
    assert not [place for place in asked if place.replace("\\", "/").startswith(("//", "/??"))]


def test_a_file_of_another_computer_that_was_copied_here_is_found(project, write_wav, clicks):
    copied = write_wav("x.wav", clicks([0.1]))
    (item,) = open_project(project(song(audio_item(b"\\\\evil\\share\\x.wav")))).collect().items
    assert (item.state, Path(item.file)) == ("ok", copied)


def test_files_of_another_machine_are_found_by_the_ends_of_their_paths(project, write_wav, clicks, tmp_path):
    for folder in ("A", "B"):
        (tmp_path / "Media" / folder).mkdir(parents=True)
    copied = write_wav("x.wav", clicks([0.1]))
    places = [tmp_path / "Media" / folder / "KICK.wav" for folder in ("A", "B")]
    for place in places:
        shutil.copyfile(copied, place)
    named = [b"C:\\Users\\me\\song\\Media\\%s\\KICK.wav" % folder for folder in (b"A", b"B", b"C")]
    data = song(*map(audio_item, [*named, b"D:\\..\\KICK.wav"]), head=b'  RECORD_PATH "D:\\Audio\\Rec" ""\n')
    items = open_project(project(data)).collect().items
    assert [item.state for item in items] == ["ok", "ok", "offline", "offline"]
    assert [Path(item.file) for item in items[:2]] == places
    shutil.copyfile(copied, tmp_path / "KICK.wav")  # of two files none is taken
    (tmp_path / "Media" / "KICK.wav").write_bytes(b"another")
    (item,) = open_project(project(song(audio_item(b"E:\\Media\\KICK.wav")))).collect().items
    assert item.state == "offline"


def test_a_name_that_no_file_can_have_fails_its_item_only(project, write_wav, clicks):
    write_wav("x.wav", clicks([0.1]))
    items = open_project(project(song(audio_item(b"a" * 100_000), audio_item(b"x.wav", 4)))).collect().items
    assert [item.state for item in items] == ["offline", "ok"]


@pytest.mark.parametrize("named", [b"D:\\Songs\\media", b"/Users/somebody else/media", b"\\Songs\\media"])
def test_media_folders_of_another_machine_are_not_made_here(project, take, named):
    path = project(song(audio_item(b"x.wav"), head=b'  RECORD_PATH "%s" ""\n' % named))
    session = open_project(path)
    job = session.collect()
    (media,) = session.write_back(job, [take(job.items[0])])
    assert media == path.parent / "take.wav"
    assert b'FILE "take.wav"' in session.output.read_bytes()


def test_media_folders_below_the_project_may_be_written_as_windows_does(project, take):
    path = project(song(audio_item(b"x.wav"), head=b'  RECORD_PATH "my media\\takes" ""\n'))
    session = open_project(path)
    job = session.collect()
    (media,) = session.write_back(job, [take(job.items[0])])
    assert media == path.parent / "my media" / "takes" / "take.wav"
    assert b'FILE "my media/takes/take.wav"' in session.output.read_bytes()


@pytest.mark.parametrize(
    ("lines", "level"),
    [
        (b"", (1.0, 0.0)),
        (b"      VOLPAN 0.5 0 -0.5 -1\n", (-0.25, 0.0)),
        (b"      VOLPAN 1 0 1 0.5\n", (0.5, 0.0)),  # a law of -6 dB where the pan is in the middle
        (b"      VOLPAN 1 -1 1 0.5\n", (1.0, -1.0)),
    ],
)
def test_levels_are_those_of_the_item_and_its_take(project, lines, level):
    data = song(audio_item(b"x.wav").replace(b"      LENGTH", lines + b"      LENGTH"))
    (item,) = open_project(project(data)).collect().items
    assert (item.gain, item.pan) == level


def test_the_active_take_has_a_level_of_its_own_and_the_fades_of_the_item(project):
    data = STRANGE.replace(
        b"      LOOP 1\n", b"      LOOP 1\n      FADEIN 3 0.01 0.25 3 0 0\n      FADEOUT 1 0.5 0 1 0 0\n"
    )
    data = data.replace(b"      SOFFS 0.5\n", b"      VOLPAN 0.5 1 7 -1\n      SOFFS 0.5\n")
    data = data.replace(b"      SOFFS 0.25\n", b"      TAKEVOLPAN -0.25 2 -1\n      SOFFS 0.25\n")
    (item,) = open_project(project(data)).collect().items
    assert (item.gain, item.pan) == (1.0, -0.25)
    assert (item.fade_in, item.fade_out) == (Fade(length_s=0.25, shape=3), Fade(length_s=0.5, shape=1))


# Work that does not grow with the product of what a project has


def midi_item(position, source, extra=b""):
    return b"    <ITEM\n      POSITION %.6f\n      LENGTH 3\n%s      <SOURCE MIDI\n%s      >\n    >\n" % (
        position,
        extra,
        source,
    )


def test_items_share_one_tempo_map_and_one_reading_of_their_pool(project, monkeypatch):
    made, read = [], []
    check, read_midi = TempoMap.__post_init__, MidiSources._read
    monkeypatch.setattr(TempoMap, "__post_init__", lambda self: made.append(self) or check(self))
    monkeypatch.setattr(MidiSources, "_read", lambda self, block: read.append(block) or read_midi(self, block))
    points = b"".join(b"    PT %d %d 1\n" % (2 * i, 100 + i % 7) for i in range(300))
    events = b"        HASDATA 1 960 QN\n        POOLEDEVTS {P}\n" + b"        E 240 90 24 60\n" * 400
    items = [midi_item(0, events), *(midi_item(2 * i, b"        POOLEDEVTS {P}\n") for i in range(1, 200))]
    job = open_project(project(song(*items, head=b"  <TEMPOENVEX\n" + points + b"  >\n"))).collect()
    assert len(job.items) == 200
    assert all(item.notes for item in job.items)
    assert len(read) == 1
    assert len(made) <= 3  # the session's and the job's, not one an item


def test_notes_near_an_item_are_all_that_it_plays(project, monkeypatch):
    random.seed(0)

    def source(n):
        deltas = [random.choice([0, 1, 120, 240, 960]) for _ in range(n)]
        events = b"".join(b"        E %d 90 %x 60\n" % (delta, 30 + i % 40) for i, delta in enumerate(deltas))
        return b"        HASDATA 1 480 QN\n" + events + b"        E %d b0 7b 00\n" % random.choice([0, 240])

    items = [
        midi_item(
            random.uniform(0, 60),
            source(random.choice([1, 3, 40, 200])),
            b"      LOOP %d\n      SOFFS %.3f %.3f\n      PLAYRATE %s 1\n"
            % (
                random.choice([0, 1]),
                random.uniform(-2, 30),
                random.uniform(-2, 60),
                random.choice([b"1", b"1.3"]),
            ),
        )
        for _ in range(150)
    ]
    path = project(song(*items))
    found = open_project(path).collect()
    monkeypatch.setattr(rpp_sources.Midi, "within", lambda self, first, last, is_repeated: self.notes)
    assert found == open_project(path).collect()
    assert sum(len(item.notes) for item in found.items) > 1000


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'<REAPER_PROJECT 0.1 "7.0" 1\n' + b"<A\n" * 1000, "blocks, 101 deep"),
        (MIDI.replace(b"E 480 99", b"E -480 99"), "goes back in time"),
        (MIDI.replace(b"POSITION 10", b"POSITION " + b"x" * 10**6), "is broken in line"),
    ],
    ids=["deep", "back in time", "a long line"],
)
def test_what_no_project_has_is_refused_in_a_sentence(project, data, message):
    with pytest.raises(DawError, match=message) as caught:
        open_project(project(data)).collect()
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("name", "message"),
    [("rpp._MOST_BYTES", "is no project: it has more"), ("rpp_text._MOST_LINES", "lines")],
)
def test_a_project_that_never_ends_is_refused(project, monkeypatch, name, message):
    monkeypatch.setattr(f"daw_bridge.reaper.{name}", 20)
    with pytest.raises(DawError, match=message):
        open_project(project(MIDI))
