"""The page to listen to, as a browser meets it: what it links to, what it shows, what it never runs."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import numpy as np
import pytest
import soundfile

from daw_bridge.page import INDEX, PageItem, add_to_page, check_page, check_place, played, write_page
from transform.errors import OutputError, SettingsError
from transform.events import DrumEvent, Rhythm
from transform.library import RhythmSource, find_rhythm
from transform.midi import read_midi

RHYTHM = "bossa-nova-132"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc000000301"
    "0100189dd2d60000000049454e44ae426082"
)


class Parsed(HTMLParser):
    """What a page links to, what it says, and what it could run."""

    def __init__(self, text):
        super().__init__()
        self.links, self.tags, self.attributes, self.said = [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.links += [
            (tag, value) for name, value in attrs if name in ("src", "href", "poster", "data", "srcset")
        ]

    def handle_data(self, data):
        self.said += data


@pytest.fixture
def item(tmp_path, clicks, write_wav):
    """Return a function that makes an item of a page: two seconds of stereo, a shipped rhythm, a picture."""

    def make(name="loop", rhythm=None, **changes):
        source = write_wav(f"in/{name}.wav", clicks([0.1, 0.6], n_channels=2, length_s=2.0))
        output = write_wav(f"out/{name}_new.wav", clicks([0.2], n_channels=2, length_s=1.0))
        plot = output.with_suffix(".png")
        plot.write_bytes(PNG)
        midi = RhythmSource(name=RHYTHM, path=find_rhythm(RHYTHM).path, is_midi=True)
        report = {"engine": "resequence", "duration_s": 1.0, "sample_rate": 44_100, "channels": 2}
        report |= {"bit_depth": "24", "notes": ["aligned in <seconds>"]}
        made = {"source": source, "rhythm": rhythm or midi, "output": output, "plot": plot, "report": report}
        return PageItem(**(made | changes))

    return make


def parsed(folder):
    """Return a page, after checking that it is whole without anything outside its folder."""
    page = Parsed((folder / INDEX).read_text(encoding="utf-8"))
    for _, link in page.links:
        assert re.fullmatch(r"\d{3}-(source|rhythm|result|picture)\.(flac|png)", link)
        assert (folder / link).is_file()
    assert {path.name for path in folder.iterdir()} == {INDEX, *(link for _, link in page.links)}
    assert not {"script", "link", "iframe", "object", "embed", "base"} & set(page.tags)
    assert not [name for name in page.attributes if name.startswith("on")]
    return page


def test_a_page_holds_three_players_and_the_picture(item, tmp_path):
    index = write_page(tmp_path / "page", [item()])
    assert index == tmp_path / "page" / "index.html"
    page = parsed(tmp_path / "page")
    assert page.links == [
        ("audio", "001-source.flac"),
        ("audio", "001-rhythm.flac"),
        ("audio", "001-result.flac"),
        ("img", "001-picture.png"),
    ]
    assert f"1. loop.wav playing {RHYTHM}" in page.said
    assert "resequence, 1.00 s, 44100 Hz, stereo, 24 bits" in page.said
    assert "aligned in <seconds>" in page.said


def test_copies_sound_as_what_they_are_copies_of(item, tmp_path):
    made = item()
    write_page(tmp_path / "page", [made])
    for name, path in (("source", made.source), ("result", made.output)):
        copy, rate = soundfile.read(tmp_path / "page" / f"001-{name}.flac")
        original, original_rate = soundfile.read(path)
        assert (rate, copy.shape) == (original_rate, original.shape)
        assert np.abs(copy - original).max() <= 2**-15
    assert (tmp_path / "page" / "001-picture.png").read_bytes() == PNG


def test_sounds_beyond_full_scale_and_of_many_channels_become_playable(item, tmp_path, write_wav):
    loud = write_wav("loud.wav", np.full((6, 4410), 1.5), subtype="FLOAT")
    write_page(tmp_path / "page", [item(source=loud)])
    copy, _ = soundfile.read(tmp_path / "page" / "001-source.flac", always_2d=True)
    assert copy.shape == (4410, 1)
    assert copy.min() > 0.999


def test_a_rhythm_is_played_where_it_is_midi_and_copied_where_it_is_a_recording(
    item, tmp_path, write_wav, clicks
):
    write_page(tmp_path / "one", [item()])
    sound, rate = soundfile.read(tmp_path / "one" / "001-rhythm.flac")
    assert len(sound) / rate == pytest.approx(read_midi(find_rhythm(RHYTHM).path).length_s, abs=1e-3)
    other = write_wav("other.wav", clicks([0.3]))
    recorded = RhythmSource(name="other", path=other, is_midi=False)
    write_page(tmp_path / "two", [item(rhythm=recorded)])
    copy, _ = soundfile.read(tmp_path / "two" / "001-rhythm.flac")
    assert np.abs(copy - soundfile.read(other)[0]).max() <= 2**-15


def test_every_stroke_is_heard_where_it_is_played():
    events = tuple(DrumEvent(0.5 * i, c, 0.5) for i, c in enumerate(("KD", "SD", "TT", "HH", "CY")))
    sound = played(Rhythm(events, 2.6, None, "five"))[0]
    level = np.abs(sound)
    for event in events:
        at = round(event.onset_s * 44_100)
        assert level[at : at + 2205].max() > 0.05
        assert level[max(0, at - 2205) : at].max(initial=0.0) < 0.25 * level[at : at + 2205].max()
    chord = Rhythm(tuple(DrumEvent(0.0, c, 1.0) for c in ("KD", "SD", "TT", "HH", "CY")), 0.5, None, "all")
    assert np.abs(played(chord)).max() <= 1.0


def test_names_are_shown_and_never_run(item, tmp_path):
    try:
        hostile = item(
            '<script>alert(1)</script>"><img src=x onerror=alert(2)>&amp;\n', report={"notes": ["<b>"]}
        )
    except (OSError, soundfile.SoundFileError):
        hostile = item("&lt;b&gt; 'quoted'")  # no such names on this file system
    evil = RhythmSource(name="<iframe src=//x>", path=find_rhythm(RHYTHM).path, is_midi=True)
    failed = PageItem(source=hostile.source, rhythm=evil, report={"error": "</p><script>alert(3)</script>"})
    write_page(tmp_path / "page", [hostile, failed])
    page = parsed(tmp_path / "page")
    assert hostile.source.name.replace("\n", "\N{REPLACEMENT CHARACTER}") in page.said
    assert "<iframe src=//x>" in page.said
    assert "</p><script>alert(3)</script>" in page.said
    assert page.tags.count("audio") == 3


def test_what_several_items_share_is_there_once(item, tmp_path):
    write_page(tmp_path / "page", [item("a"), item("b")])
    page = parsed(tmp_path / "page")
    assert [link for tag, link in page.links if "rhythm" in link] == ["001-rhythm.flac"] * 2
    assert len(page.links) == 8
    assert len(list((tmp_path / "page").iterdir())) == 1 + 7


def test_only_a_page_is_ever_replaced(item, tmp_path):
    folder = tmp_path / "page"
    write_page(folder, [item()])
    with pytest.raises(OutputError, match="exists already"):
        write_page(folder, [item()])
    write_page(folder, [item(plot=None)], overwrite=True)
    assert len(parsed(folder).links) == 3
    (folder / "mine.txt").write_text("keep me")
    before = sorted(folder.iterdir())
    with pytest.raises(OutputError, match="no page that Redrum wrote"):
        check_page(folder, overwrite=True)
    with pytest.raises(OutputError, match="no page that Redrum wrote"):
        write_page(folder, [item()], overwrite=True)
    assert sorted(folder.iterdir()) == before
    site = tmp_path / "site"
    site.mkdir()
    (site / INDEX).write_text("<h1>my site</h1>")
    with pytest.raises(OutputError, match="no page that Redrum wrote"):
        check_page(site, overwrite=True)


def test_results_are_added_to_a_page_and_take_the_place_of_themselves(item, tmp_path):
    folder, first, second = tmp_path / "page", item("a & b"), item("c")
    failed = item("bad", output=None, report={"error": "no sound", "output": "out/bad.wav"})
    add_to_page(folder, [first, failed])
    add_to_page(folder, [second])
    page = parsed(folder)
    assert re.findall(r"\d+\. [\w& ]+\.wav", page.said) == ["1. a & b.wav", "2. bad.wav", "3. c.wav"]
    results = [link for tag, link in page.links if "result" in link]
    assert results == ["001-result.flac"] * 2  # both sound the same, so there is one copy
    soundfile.write(first.output, np.full((100, 2), 0.25), 44_100)
    add_to_page(folder, [item("d"), failed, first])
    page = parsed(folder)
    names = ["1. a & b.wav", "2. bad.wav", "3. c.wav", "4. d.wav"]
    assert re.findall(r"\d+\. [\w& ]+\.wav", page.said) == names
    remade = next(link for tag, link in page.links if "result" in link)
    assert len(soundfile.read(folder / remade)[0]) == 100


def test_a_page_that_others_have_changed_is_not_added_to(item, tmp_path):
    folder = tmp_path / "page"
    write_page(folder, [item()])
    text = (folder / INDEX).read_text(encoding="utf-8")
    changed = (text.replace("<h2>", "<h2><script>alert(1)</script>"), text.replace("section>", "div>"))
    for other in changed:
        (folder / INDEX).write_text(other, encoding="utf-8")
        with pytest.raises(OutputError, match="was edited"):
            add_to_page(folder, [item("b")])
        assert (folder / INDEX).read_text(encoding="utf-8") == other


def test_a_page_that_fails_leaves_nothing(item, tmp_path):
    made = item()
    made.output.unlink()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(Exception, match="does not exist"):
        write_page(tmp_path / "page", [made])
    assert sorted(tmp_path.rglob("*")) == before


def test_a_page_among_recordings_is_refused(tmp_path):
    (tmp_path / "takes").mkdir()
    with pytest.raises(SettingsError, match="would lie among the recordings"):
        check_place(tmp_path / "takes" / "page", [tmp_path / "takes"], tmp_path / "out")
    check_place(tmp_path / "page", [tmp_path / "takes"], tmp_path / "out")
    check_place(tmp_path / "takes" / "out" / "page", [tmp_path / "takes"], tmp_path / "takes" / "out")


def test_chromium_plays_a_page_from_disk(item, tmp_path):
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    index = write_page(tmp_path / "a page", [item("naïve & co")])
    ask = """<script>
    const all = [...document.querySelectorAll("audio")].map(a => new Promise(done => {
      a.addEventListener("loadedmetadata", () => done(a.duration)); a.addEventListener("error", () => done(-1));
      a.load(); setTimeout(() => done(-2), 20000); }));
    Promise.all(all).then(s => document.body.setAttribute("data-found",
      JSON.stringify([...s, document.querySelector("img").naturalWidth])));
    </script></body>"""
    page = index.read_text(encoding="utf-8").replace('loading="lazy"', "").replace("</body>", ask)
    asking = index.with_name("asking.html")
    asking.write_text(page, encoding="utf-8")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", asking.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    found = json.loads(re.search(r'data-found="([^"]*)"', dom).group(1).replace("&quot;", '"'))
    length_s = read_midi(find_rhythm(RHYTHM).path).length_s
    assert found == pytest.approx([2.0, length_s, 1.0, 1], abs=0.01)
