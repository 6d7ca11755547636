"""The editor's page in a real browser: Debian's chromium and chromium-driver, driven by selenium."""

import base64
import importlib.util
import json
import threading
import time
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from daw_bridge.editor.editing import FirstRhythm
from tests.daw_bridge.editor.conftest import FOUND, LENGTH_S, RATE, FakeEditor, FakeEngine, clicks
from transform.errors import AudioError
from transform.events import DrumEvent, Rhythm, TempoMap
from transform.midi import read_midi, write_midi
from transform.options import options_of
from transform.settings import RenderSettings
from transform.strokes import Stroke

pytest.importorskip("selenium", reason="the page is driven by selenium: pip install selenium")

from selenium.common.exceptions import StaleElementReferenceException, TimeoutException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.daw_bridge.editor.chromium import is_installed, start_chromium

if not is_installed():
    pytest.skip("the page needs a browser: apt-get install chromium chromium-driver", allow_module_level=True)

WAIT_S = 60  # a machine may be busy


@pytest.fixture(scope="module")
def chromium():
    """One browser for all tests; each has a page of its own."""
    driver = start_chromium()
    yield driver
    driver.quit()


# The page draws what has changed in its next frame; the one after shows it.
DRAWN = "requestAnimationFrame(() => requestAnimationFrame(() => arguments[0]()))"


class Page:
    """What a user sees and does: what is read is read once all that was done has been drawn."""

    def __init__(self, driver, client):
        self.driver, self.client = driver, client
        driver.get("about:blank")
        driver.get(client.server.url)

    def find(self, test_id):
        return self._find(f'[data-testid="{test_id}"]')

    def by_id(self, element_id):
        return self._find(f"#{element_id}")

    def _find(self, selector):
        self.settle()
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def settle(self):
        """Wait until all that was done is drawn."""
        self.driver.execute_async_script(DRAWN)

    def text(self, test_id):
        return self.find(test_id).text

    def click(self, test_id):
        self.find(test_id).click()

    def script(self, text, *arguments):
        self.settle()
        return self.driver.execute_script(text, *arguments)

    @property
    def focused(self):
        self.settle()
        return self.driver.switch_to.active_element

    @property
    def body(self):
        return self.script("return {...document.body.dataset}")

    @property
    def playhead(self):
        found = self.script("return {...document.querySelector('[data-testid=playhead]').dataset}")
        return {name: float(value) for name, value in found.items() if name != "testid"}

    def until(self, is_so, what):
        """Wait until something is so."""
        waiting = WebDriverWait(self.driver, WAIT_S, 0.05, [StaleElementReferenceException])
        try:
            waiting.until(lambda _: is_so())
        except TimeoutException:
            pytest.fail(f"not in {WAIT_S} s: {what}; {self.body}; {self.text('status')}")

    def until_version(self, version):
        """Wait until a version is in the page's buffer."""
        self.until(lambda: self.body.get("audioVersion") == str(version), f"version {version} is in the buffer")

    def strokes(self, drum_class=None):
        """Return the strokes on the page: (class, onset to the millisecond) in order of time."""
        found = self.script(
            "const strokes = [...document.querySelectorAll('[data-testid=stroke]')];"
            "return strokes.map((stroke) => [stroke.dataset.class, Number(stroke.dataset.onset)])"
        )
        return sorted(
            ((c, round(s, 3)) for c, s in found if drum_class in (None, c)), key=lambda stroke: stroke[1]
        )

    def stroke(self, stroke_id):
        return self._find(f'[data-testid="stroke"][data-id="{stroke_id}"]')

    def pixels(self, seconds):
        """Return how wide so many seconds are."""
        return self.find("lane-KD").size["width"] * seconds / LENGTH_S

    def press(self, *keys, held=()):
        chain = ActionChains(self.driver)
        for key in held:
            chain.key_down(key)
        for key in keys:
            chain.send_keys(key)
        for key in held:
            chain.key_up(key)
        chain.perform()

    def drag(self, element, dx, dy=0, held=()):
        chain = ActionChains(self.driver, duration=20)
        for key in held:
            chain.key_down(key)
        chain.click_and_hold(element).move_by_offset(dx // 2, dy // 2).move_by_offset(
            dx - dx // 2, dy - dy // 2
        )
        chain.release()
        for key in held:
            chain.key_up(key)
        chain.perform()

    def double_click_at(self, lane, seconds):
        x = round(self.pixels(seconds) - self.find(lane).size["width"] / 2)
        ActionChains(self.driver).move_to_element_with_offset(self.find(lane), x, 0).double_click().perform()

    def session(self):
        return self.client.session()

    def events(self):
        """Return what plays on the server: (class, onset to the millisecond) in order of time."""
        return [(event["class"], round(event["onset_s"], 3)) for event in self.session()["events"]]

    def is_focused(self, element):
        return self.focused == element


@pytest.fixture
def open_page(chromium, serve, loop):
    """Return a function that opens the page of a recording, and waits until its sound is there."""
    pages = []

    def open_one(path=None, engine=None, version=0, rhythm=None):
        client = serve(path or loop(n_channels=2), engine, rhythm)
        page = Page(chromium, client)
        pages.append(page)
        if version is not None:
            page.until_version(version)
        return page

    yield open_one
    complaints = [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"]
    chromium.get("about:blank")
    faults = [entry["message"] for entry in complaints if "Failed to load resource" not in entry["message"]]
    assert not faults  # no script fails, and the content security policy forbids nothing that the page needs


DROP = """
const [name, text] = arguments;
const data = new DataTransfer();
data.items.add(new File([Uint8Array.from(atob(text), (c) => c.charCodeAt(0))], name));
document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
"""


# Opening.


def test_page_says_what_became_of_earlier_edits_until_that_is_read(open_page, serve, loop):
    client = serve(loop(n_channels=2))
    for stroke_id in ("d2", "d3"):
        client.edit({"op": "delete", "id": stroke_id})
    journal = client.session_object.steps._journal
    journal.close()
    journal.path.write_bytes(journal.path.read_bytes()[:-9] + b"x}\n")
    page = open_page(version=1, rhythm=FirstRhythm(read=lambda engine: engine.rhythm_of(None, "groove")))
    page.until(
        lambda: "of its steps the first 1 came back" in page.text("notice"), "the page says what is lost"
    )
    assert f"{journal.path.stem}.damaged-1" in page.text("notice")
    assert "--rhythm was not applied" in page.text("notice")
    assert page.strokes() == [(s.drum_class, s.onset_s) for s in FOUND if s.id != "d2"]
    page.by_id("notice-close").click()
    assert not page.find("notice").is_displayed()
    page.client.session_object.notices.publish("noted", notes=["it is hardly drums"])
    page.until(lambda: "hardly drums" in page.text("notice"), "another notice is shown")
    page.by_id("notice-close").click()
    assert not page.find("notice").is_displayed()  # nor does the first one come back


SHIFTS = """
const [done, shifts] = [arguments[0], []];
const place = ({x, y, width, height}) => [x, y, width, height].join(" ");
const moved = ({node, previousRect: from, currentRect: to}) =>
  `${node?.nodeName} ${node?.id} from ${place(from)} to ${place(to)}`;
new PerformanceObserver((list) => shifts.push(...list.getEntries().map(({sources}) => sources.map(moved))))
  .observe({type: "layout-shift", buffered: true});
setTimeout(() => done(shifts), 200);
"""


def test_page_shows_the_recording_its_strokes_and_what_each_is(open_page):
    page = open_page()
    found = [(s.drum_class, s.onset_s) for s in FOUND]
    page.until(lambda: page.strokes() == found, "the strokes are drawn")
    assert page.stroke("d2").get_attribute("aria-label") == "snare at 1.3.1, velocity 114"
    assert page.stroke("d1").get_attribute("aria-label") == "hi-hat (closed) at 1.2.1, velocity 51"
    for stroke in FOUND:
        assert page.stroke(stroke.id).find_element(By.XPATH, "../..") == page.find(f"lane-{stroke.drum_class}")
    assert page.driver.title == "loop - Redrum"
    for picture in ("waveform", "spectrogram"):
        drawn = (
            "const c = arguments[0]; const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        )
        drawn += "return new Set(new Uint32Array(d.buffer)).size"
        page.until(lambda p=picture, d=drawn: page.script(d, page.find(p)) > 1, f"the {picture} is drawn")
    assert page.script("return document.documentElement.scrollWidth <= innerWidth")
    assert page.driver.execute_async_script(SHIFTS) == []
    lefts = [page.stroke(stroke.id).location["x"] - page.find("lane-KD").location["x"] for stroke in FOUND]
    assert lefts == pytest.approx([page.pixels(stroke.onset_s) for stroke in FOUND], abs=1)


def test_without_its_token_the_page_shows_nothing_and_says_so(open_page, chromium):
    page = open_page()
    for fragment, words in (("", "lacks its token"), ("#token=wrong", "token is missing or wrong")):
        chromium.get("about:blank")
        chromium.get(page.client.base + "/" + fragment)
        page.until(lambda w=words: w in page.text("notice"), f"the page says that it {words}")
        assert page.strokes() == []


# Sound.


def test_play_moves_the_playhead_and_is_not_silent_and_loops_without_end(open_page):
    page = open_page()
    before = page.playhead["context"]
    page.click("play")
    page.until(lambda: page.playhead["seconds"] > 0.2, "the playhead moves")
    page.until(lambda: page.playhead["peak"] > 0.1, "a stroke is in the buffer that plays")
    assert page.playhead["context"] > before
    assert page.find("play").get_attribute("aria-label") == "Pause"
    page.drag(page.find("ruler"), round(page.pixels(0.25)))
    start, stop = 2.0, 2.25
    region = "const {start, stop} = arguments[0].dataset; return [+start, +stop]"
    page.until(
        lambda: page.script(region, page.find("loop-region")) == pytest.approx([start, stop], abs=0.001),
        "a loop",
    )
    page.until(lambda: start <= page.playhead["seconds"] <= stop + 0.05, "the playhead is in the loop")
    seen = []
    page.until(
        lambda: seen.append(page.playhead["seconds"]) or any(b < a for a, b in pairwise(seen)),
        "the playhead jumps back",
    )
    assert min(seen) >= start - 0.05
    assert max(seen) <= stop + 0.05
    page.press(" ")
    page.until(lambda: page.find("play").get_attribute("aria-label") == "Play", "it has stopped")


# Plays a ramp in the page's player, offline: every frame that comes out says which frame of the take it is.
PLAYER = """
const [loop, start, bar, nFrames, done] = arguments;
const [rate, blockFrames, length, atS] = [8000, 1000, 8000, 0.128];
const ramp = (gain) => [...Array(length / blockFrames).keys()].map((n) =>
  [n, [Float32Array.from({length: blockFrames}, (_, i) => (gain * (n * blockFrames + i)) / length)]]);
(async () => {
  const context = new OfflineAudioContext(1, nFrames, rate);
  await context.audioWorklet.addModule("player.js");
  const options = {outputChannelCount: [1], numberOfInputs: 0, processorOptions: {blockFrames}};
  const node = new AudioWorkletNode(context, "player", options);
  node.connect(context.destination);
  const answered = (event) => new Promise((resolve) =>
    (node.port.onmessage = ({data}) => data.event === event && resolve(data)));
  const stage = (version, gain, bars) => node.port.postMessage(
    {do: "stage", version, nFrames: length, isWhole: true, blocks: ramp(gain), forget: [], bars});
  stage(0, 1, []);
  for (const message of [{do: "setLoop", loop}, {do: "seek", frame: start}]) node.port.postMessage(message);
  const isReady = answered("position");
  node.port.postMessage({do: "play"});
  await isReady;
  if (bar !== null) context.suspend(atS).then(async () => {
    stage(1, -1, [bar]);
    const isStaged = answered("position");
    node.port.postMessage({do: "report"});
    await isStaged;
    context.resume();
  });
  done([...(await context.startRendering()).getChannelData(0)]);
})();
"""


def test_a_loop_has_no_gap_of_one_sample(open_page):
    page = open_page()
    played = page.driver.execute_async_script(PLAYER, [3000, 5500], 2500, None, 10_000)
    expected = [*range(2500, 5500), *range(3000, 5500), *range(3000, 5500), *range(3000, 5000)]
    assert np.abs(np.array(played) - np.array(expected) / 8000).max() < 1e-6


def test_a_new_version_begins_at_the_next_bar_with_a_short_cross_fade(open_page):
    page = open_page()
    bar, fade = 4000, 256
    played = np.array(page.driver.execute_async_script(PLAYER, None, 2000, bar, 4000))
    before, after = np.arange(2000, bar) / 8000, -np.arange(bar, 6000) / 8000
    assert np.abs(played[:2000] - before).max() < 1e-6
    assert np.abs(played[2000 + fade :] - after[fade:]).max() < 1e-6
    assert np.abs(np.diff(played[2000 : 2000 + fade])).max() < 0.01  # from .5 to -.5 without a click


def test_a_browser_without_sound_before_a_click_is_a_sentence_and_plays_after_one(open_page):
    page = open_page()
    page.script("arguments[0].click()", page.find("play"))  # a script's click lets no sound begin
    page.until(lambda: "no sound begin" in page.text("notice"), "the page says why it is silent")
    page.click("position")
    page.until(lambda: page.playhead["peak"] > 0.01, "it plays after a click")
    page.until(lambda: not page.find("notice").is_displayed(), "nothing is wrong any more")


def test_ab_plays_the_source(open_page):
    page = open_page()
    page.client.edit(*({"op": "delete", "id": stroke.id} for stroke in FOUND))
    page.until_version(1)
    page.click("play")
    page.until(lambda: page.playhead["seconds"] > 0.3, "the playhead moves")
    time.sleep(0.3)
    assert page.playhead["peak"] < 1e-3  # every stroke is taken out
    page.click("ab")
    assert page.find("ab").get_attribute("aria-pressed") == "true"
    page.until(lambda: page.playhead["peak"] > 0.1, "the source is audible")
    page.press("a")
    assert page.find("ab").get_attribute("aria-pressed") == "false"


# Switches in the page's player, offline, at 0.128 s, from a take that is a ramp to a version compared with it.
SWITCH = """
const [length, start, gain, done] = arguments;
const blocks = (sign) => [[0, [Float32Array.from({length}, (_, i) => (sign * i) / length)]]];
(async () => {
  const context = new OfflineAudioContext(1, 3000, 8000);
  await context.audioWorklet.addModule("player.js");
  const options = {outputChannelCount: [1], numberOfInputs: 0, processorOptions: {blockFrames: length}};
  const node = new AudioWorkletNode(context, "player", options);
  node.connect(context.destination);
  const tell = (...messages) => new Promise((resolve) => { // the last of them answers, playing
    node.port.onmessage = ({data}) => data.event === "position" && data.isPlaying && resolve();
    for (const message of messages) node.port.postMessage(message);
  });
  const stage = {do: "stage", version: 0, nFrames: length, isWhole: true, blocks: blocks(1)};
  const compare = {do: "compare", slots: {A: {version: 0, nFrames: length, gain}}};
  const fill = {do: "fill", which: "A", nFrames: length, blocks: blocks(-1), forget: []};
  await tell({...stage, forget: [], bars: []}, compare, fill, {do: "seek", frame: start}, {do: "play"});
  context.suspend(0.128).then(async () => {
    await tell({do: "choose", which: "A"}, {do: "report"});
    context.resume();
  });
  done([...(await context.startRendering()).getChannelData(0)]);
})();
"""


def test_a_version_that_is_compared_plays_at_once_where_the_playhead_is_and_at_its_gain(open_page):
    page = open_page()
    length, start, gain, at, fade = 8000, 2000, 0.5, 1024, 256
    played = np.array(page.driver.execute_async_script(SWITCH, length, start, gain))
    ramp = np.arange(start, start + len(played)) / length
    assert np.abs(played[:at] - ramp[:at]).max() < 1e-6
    assert np.abs(played[at + fade :] + gain * ramp[at + fade :]).max() < 1e-6
    assert np.abs(np.diff(played[at : at + fade])).max() < 0.01  # without a click


def test_versions_are_stored_switched_and_gone_on_from(open_page):
    page = open_page()
    page.press("7")
    page.until(lambda: page.find("version-A").get_attribute("data-stored") is not None, "A has the version")
    page.client.edit(*({"op": "delete", "id": s.id} for s in FOUND[1:]))
    page.client.edit({"op": "set", "id": "d0", "velocity": 0.4})
    page.until_version(2)
    page.press("8")
    page.until(lambda: page.find("version-B").get_attribute("data-stored") is not None, "B has the version")
    label = page.find("version-A").get_attribute("aria-label")
    assert "step 0, the recording, edited, 5 strokes" in label
    assert (
        "plays 5.9 dB softer" in label
    )  # kicks of 0.7 and 0.8, the 90th percentile of which is 0.79, and of 0.4
    page.drag(page.find("ruler"), round(page.pixels(0.25)))  # a loop at the kick that is deleted
    page.press(" ")
    page.until(lambda: page.playhead["seconds"] > 2, "it plays")
    page.until(lambda: page.playhead["peak"] < 1e-3, "the kick is deleted")
    page.press("7")
    page.until(lambda: page.playhead["peak"] > 0.05, "version A has the kick")
    assert page.text("status") == "Version A is audible"
    assert page.find("version-A").get_attribute("aria-pressed") == "true"
    page.press("7")
    page.until(lambda: page.playhead["peak"] < 1e-3, "what is edited plays again")
    page.press(" ", "v")
    page.click("restore-A")
    page.until_version(3)
    found = [(s.drum_class, s.onset_s) for s in FOUND]
    page.until(lambda: page.strokes() == found, "the strokes are drawn")
    page.click("clear-B")
    page.until(lambda: page.find("version-B").get_attribute("data-stored") is None, "B is empty")
    page.press(Keys.ESCAPE)
    assert not page.find("versions-panel").is_displayed()
    page.driver.refresh()  # another page of the same editor has them, too
    page.until(lambda: page.find("version-A").get_attribute("data-stored") is not None, "A is there")


def test_the_sound_of_replays_is_chosen_and_undone(open_page):
    page = open_page()
    for name in ("engine", "tail", "missing"):
        options = page.find(f"sound-{name}").find_elements(By.TAG_NAME, "option")
        words = options_of(RenderSettings)[name].metavar.split("|")
        assert sorted(option.get_attribute("value") for option in options) == sorted(words)
    page.press("k")
    assert not page.find("sound-engine").is_enabled()  # it is of replays
    page.find("sound-mode").send_keys("its")
    page.until_version(1)
    assert not page.find("sound-variation").is_enabled()
    page.find("sound-balance").send_keys(Keys.HOME)
    page.until_version(2)
    assert (
        np.abs(page.client.samples(which="take", version=2)).max() < 1e-4
    )  # the stand-in's balance is a level
    page.find("sound-engine").send_keys("latent")
    page.until_version(3)
    page.find("sound-variation").send_keys(Keys.ARROW_RIGHT * 3)
    page.until_version(4)
    sound = page.session()["sound"]
    assert (sound["engine"], sound["balance"], sound["variation"]) == ("latent", 0.0, pytest.approx(0.3))
    assert not page.find("sound-file").is_enabled()
    page.click("undo")
    page.click("undo")
    page.until_version(6)
    page.until(lambda: page.find("sound-file").is_enabled(), "the panel follows")
    assert page.find("sound-engine").get_attribute("value") == "resequence"
    page.press(Keys.ESCAPE)
    assert not page.find("sound-panel").is_displayed()


def test_of_recordings_that_are_dropped_the_hits_join_the_kit_or_the_rhythm_plays(
    open_page, loop, tmp_path, monkeypatch
):
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    page = open_page()
    for name in ("noise.wav", "more.wav"):
        dropped = base64.b64encode(loop(name, found=FOUND[: len(name) - 6]).read_bytes()).decode()
        page.script(DROP, name, dropped)
        page.until(lambda n=name: f"What is {n} for?" in page.text("drop-dialog"), "what it is for is asked")
        page.click("drop-kit")
        if name == "noise.wav":
            page.until(lambda: "No drum hits" in page.text("drop-report"), "what is wrong is said")
            page.press(Keys.ESCAPE)
    page.until_version(1)
    page.until(lambda: not page.find("drop-dialog").is_displayed(), "it joined the kit")
    page.press("k")
    page.until(lambda: "more.wav" in page.text("sound-panel"), "the panel has it")
    page.find("sound-panel").find_element(By.XPATH, ".//button[contains(., 'Take out')]").click()
    page.until_version(2)
    assert page.session()["sound"]["kit_from"] == []
    page.press(Keys.ESCAPE)
    page.script(DROP, "more.wav", dropped)
    page.click("drop-rhythm")
    page.until(lambda: "more.wav: it is transcribed" in page.text("library-report"), "it is a rhythm")


def test_a_recording_whose_joining_is_cancelled_joins_no_more(open_page, loop, tmp_path, monkeypatch):
    monkeypatch.setenv("REDRUM_DATA", str(tmp_path / "data"))
    released = threading.Event()
    monkeypatch.setattr(FakeEditor, "prepare", lambda *_: released.wait(WAIT_S))
    page = open_page(version=None)
    page.until(lambda: page.body["state"] == "ready", "it is open")
    for n_strokes, name in enumerate(("first.wav", "second.wav"), 2):
        dropped = base64.b64encode(loop(name, found=FOUND[:n_strokes]).read_bytes()).decode()
        page.script(DROP, name, dropped)
        page.click("drop-kit")
        page.until(lambda name=name: f"{name} is transcribed" in page.text("drop-report"), "it joins")
        if name == "first.wav":
            page.find("drop-dialog").find_element(By.XPATH, ".//button[text()='Cancel']").click()
    released.set()
    page.until(lambda: not page.find("drop-dialog").is_displayed(), "the second one joined")
    assert [Path(path).name for path in page.session()["sound"]["kit_from"]] == ["second.wav"]


# Editing.


def test_click_selects_a_stroke_and_plays_its_hit(open_page):
    page = open_page()
    page.script(
        "window.hits = 0; const start = AudioBufferSourceNode.prototype.start;"
        "AudioBufferSourceNode.prototype.start = function (...a) {"
        " hits += Math.max(...this.buffer.getChannelData(0)) > 0.1; return start.apply(this, a); }"
    )
    page.stroke("d2").click()
    page.until(lambda: page.script("return hits") == 1, "the hit plays")
    assert "snare at 1.3.1" in page.text("inspector")
    assert page.find("stroke-velocity").get_attribute("value") == "114"
    assert page.session()["version"] == 0


def test_drag_moves_a_stroke_along_the_grid_or_freely_or_to_another_lane(open_page):
    page = open_page()
    page.drag(page.stroke("d2"), round(page.pixels(0.52)))
    page.until_version(1)
    assert ("SD", 1.5) in page.events()
    assert ("SD", 1.5) in page.strokes()
    page.drag(page.stroke("d2"), round(page.pixels(0.20)), held=[Keys.ALT])
    page.until_version(2)
    free = page.session()["events"][2]["onset_s"]
    assert free == pytest.approx(1.7, abs=0.01)
    assert free != pytest.approx(1.75, abs=0.01)
    down = page.find("lane-TT").location["y"] - page.find("lane-SD").location["y"]
    page.drag(page.stroke("d2"), 0, down)  # to another lane, when it was
    page.until_version(3)
    assert page.session()["events"][2] == {**page.session()["events"][2], "class": "TT", "onset_s": free}
    assert page.stroke("d2").find_element(By.XPATH, "../..") == page.find("lane-TT")


def test_double_click_draws_and_the_take_sounds_there(open_page):
    page = open_page()
    page.double_click_at("lane-TT", 1.52)
    page.until_version(1)
    assert ("TT", 1.5) in page.events()
    assert page.strokes("TT") == [("TT", 1.5)]
    expected = clicks([*FOUND, Stroke("new", "TT", 1.5, 0.8)], round(LENGTH_S * RATE), 2)
    assert np.abs(page.client.samples(which="take", version=1) - expected).max() < 1e-4


def test_velocity_articulation_and_delete(open_page):
    page = open_page()
    height = page.find("lane-SD").size["height"]
    page.drag(page.stroke("d2"), 0, height // 4, held=[Keys.SHIFT])
    page.until_version(1)
    assert page.session()["events"][2]["velocity"] == pytest.approx(0.9 - 0.25, abs=0.03)
    page.find("stroke-articulation").send_keys("rim")
    page.until_version(2)
    assert page.session()["events"][2]["articulation"] == "rim"
    assert "snare (rim)" in page.stroke("d2").get_attribute("aria-label")
    page.click("delete")
    page.until_version(3)
    assert page.strokes("SD") == [("SD", 3.0)]
    assert [event["id"] for event in page.session()["detected"]] == [
        s.id for s in FOUND
    ]  # it is in the recording


def test_a_misdetected_stroke_is_corrected_apart_from_what_plays(open_page):
    page = open_page()
    page.click("layer-detected")
    page.stroke("d1").click()
    page.find("stroke-class").send_keys("cymbal")
    page.until_version(1)
    session = page.session()
    corrected = next(stroke for stroke in session["detected"] if stroke["id"] == "d1")
    assert corrected["class"] == "CY"
    assert np.array_equal(page.client.samples(which="take", version=1), page.client.samples(which="source"))
    assert page.strokes("CY") == [("CY", 0.5)]
    page.stroke("d3").click()
    page.click("delete")
    page.until_version(2)
    session = page.session()
    assert all("d3" not in [s["id"] for s in session[layer]] for layer in ("detected", "events"))
    assert np.array_equal(page.client.samples(which="take", version=2), page.client.samples(which="source"))
    page.stroke("d2").click()
    assert not page.find("stroke-velocity").is_enabled()


def test_undo_and_redo(open_page):
    page = open_page()
    assert not page.find("undo").is_enabled()
    page.stroke("d2").click()
    page.click("delete")
    page.until_version(1)
    page.click("undo")
    page.until_version(2)
    found = [(s.drum_class, s.onset_s) for s in FOUND]
    page.until(lambda: page.strokes() == found, "the strokes are drawn")
    assert not page.find("undo").is_enabled()
    page.click("redo")
    page.until_version(3)
    assert page.strokes("SD") == [("SD", 3.0)]
    page.press("z", held=[Keys.CONTROL])
    page.until_version(4)
    assert page.strokes("SD") == [("SD", 1.0), ("SD", 3.0)]


def test_quantise_tempo_and_sensitivity(open_page):
    page = open_page()
    soft = {"op": "add", "id": "soft", "class": "SD", "onset_s": 0.98, "velocity": 0.3}
    page.client.edit({"op": "move", "id": "d2", "onset_s": 1.04}, soft)
    page.until_version(1)
    page.click("quantise")
    page.until_version(2)
    assert page.events().count(("SD", 1.0)) == 1
    page.until(
        lambda: "6 strokes moved onto the grid; 1 stroke fell" in page.text("message"), "what went is said"
    )
    page.find("tempo").send_keys(Keys.CONTROL + "a" + Keys.NULL + "90" + Keys.ENTER)
    page.until_version(3)
    assert page.session()["tempo"] == 90
    page.drag(page.find("ruler"), round(page.pixels(0.5)), held=[Keys.SHIFT])  # where no bar line is
    page.script("arguments[0].blur()", page.find("tempo"))
    slider = page.find("sensitivity-SD")
    slider.send_keys(Keys.ARROW_RIGHT * 3)
    page.until_version(4)
    assert page.session()["sensitivity"] == {"SD": pytest.approx(0.3)}
    assert ("SD", 1.5) in page.strokes()  # the ghost note that it detects then


def test_shift_drags_a_bar_line(open_page):
    page = open_page()
    page.drag(page.find("ruler"), round(page.pixels(0.5)), held=[Keys.SHIFT])  # the second bar, in the middle
    page.until_version(1)
    (_, before), (beat, after) = page.session()["grid"]["tempo"]
    assert beat == 4
    assert before == pytest.approx(96, abs=1)  # four beats in 2.5 s instead of 2
    assert after == pytest.approx(120, abs=0.1)


def test_everything_by_keyboard_alone(open_page):
    page = open_page()
    page.press("3")
    assert page.is_focused(page.find("lane-TT"))
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, "p")  # two sixteenths on, draw
    page.until_version(1)
    assert page.strokes("TT") == [("TT", 0.25)]
    page.press(Keys.ARROW_RIGHT, held=[Keys.SHIFT])
    page.until_version(2)
    page.press(Keys.ARROW_UP, held=[Keys.SHIFT])
    page.until_version(3)
    page.press("o")
    page.until_version(4)
    drawn = next(event for event in page.session()["events"] if event["class"] == "TT")
    assert (round(drawn["onset_s"], 3), drawn["articulation"]) == (0.375, "floor")
    assert drawn["velocity"] == pytest.approx((102 + 5) / 127)
    page.press(Keys.ARROW_UP, Keys.ARROW_RIGHT)  # to the nearest snare, and the next
    assert page.focused.get_attribute("data-id") == "d4"
    page.press(Keys.DELETE)
    page.until_version(5)
    assert page.strokes("SD") == [("SD", 1.0)]
    assert page.focused.get_attribute("data-id") == "d2"
    page.press("w")
    page.press("2", held=[Keys.SHIFT])  # it is a snare already
    page.press("4", held=[Keys.SHIFT])
    page.until_version(6)
    assert next(s for s in page.session()["detected"] if s["id"] == "d2")["class"] == "HH"
    page.press(Keys.ESCAPE, " ")
    page.until(lambda: page.playhead["peak"] > 0.1, "it plays")
    page.press(" ", "e")
    assert page.find("export-dialog").is_displayed()
    page.press(Keys.ESCAPE)
    assert not page.find("export-dialog").is_displayed()


def drag_between(page, element, begin, end, held=()):
    """Drag from one place of an element to another, in pixels from its top left corner."""
    size = element.size
    x, y = begin[0] - size["width"] / 2, begin[1] - size["height"] / 2
    chain = ActionChains(page.driver, duration=20)
    for key in held:
        chain.key_down(key)
    chain.move_to_element_with_offset(element, round(x), round(y)).click_and_hold()
    for part in (0.3, 0.7, 1.0):
        chain.move_to_element_with_offset(
            element, round(x + part * (end[0] - begin[0])), round(y + part * (end[1] - begin[1]))
        )
    chain.release()
    for key in held:
        chain.key_up(key)
    chain.perform()


def velocities(page, drum_class):
    return [round(e["velocity"], 2) for e in page.session()["events"] if e["class"] == drum_class]


def selected(page):
    return page.script(
        "return [...document.querySelectorAll('.stroke[data-selected]')].map((s) => s.dataset.id)"
    )


def test_a_frame_selects_and_what_is_selected_moves_is_copied_and_repeats(open_page):
    page = open_page()
    lanes = page.by_id("lanes")
    snares = page.find("lane-SD").location["y"] - lanes.location["y"]
    drag_between(page, lanes, (page.pixels(0.8), 4), (page.pixels(3.4), snares + 20))
    assert selected(page) == ["d3", "d2", "d4"]  # by lane
    page.drag(page.stroke("d3"), round(page.pixels(0.26)))  # and all that are selected
    page.until_version(1)
    assert page.events() == [("KD", 0.0), ("HH", 0.5), ("SD", 1.25), ("KD", 2.25), ("SD", 3.25)]
    page.press("z", held=[Keys.CONTROL])
    page.until_version(2)
    page.stroke("d2").click()
    page.drag(page.stroke("d2"), round(page.pixels(0.5)), held=[Keys.CONTROL])  # a copy
    page.until_version(3)
    assert [s for c, s in page.events() if c == "SD"] == [1.0, 1.5, 3.0]
    page.press("c", held=[Keys.CONTROL])
    page.press(Keys.HOME)
    page.press("v", held=[Keys.CONTROL])
    page.until_version(4)
    page.press("d", held=[Keys.CONTROL])  # the next beat
    page.until_version(5)
    assert [s for c, s in page.events() if c == "SD"] == [0.0, 0.5, 1.0, 1.5, 3.0]
    copies = [event for event in page.session()["events"] if event["id"].startswith("n-")]
    assert [event["like"] for event in copies] == ["d2", "d2", "d2"]  # and sound like it, also copies of copies
    page.press("2")
    page.press("a", held=[Keys.CONTROL, Keys.SHIFT])
    page.press(Keys.DELETE)
    page.until_version(6)
    assert page.events() == [("KD", 0.0), ("HH", 0.5), ("KD", 2.0)]
    page.press("r")  # the bar that the playhead is in, in the place of the next
    page.click("repeat-do")
    page.until_version(7)
    assert page.events() == [("KD", 0.0), ("HH", 0.5), ("KD", 2.0), ("HH", 2.5)]


def test_bars_that_cannot_be_repeated_are_refused_in_the_dialog(open_page):
    page = open_page()
    page.press("r")
    page.click("repeat-only")
    page.click("repeat-fill")
    for field, entry in (("first", "9"), ("first", ""), ("every", "8"), ("every", "1")):
        entered = page.find(f"repeat-{field}")
        before = entered.get_attribute("value")
        entered.clear()
        entered.send_keys(entry)
        page.click("repeat-do")
        assert page.find("repeat-dialog").is_displayed()
        assert page.script("return arguments[0].validationMessage", entered)
        assert entered.get_attribute("value") == entry
        entered.clear()
        entered.send_keys(before)
    page.find("repeat-dialog").find_element(By.XPATH, ".//button[text()='Close']").click()
    page.press("r")
    assert not page.find("repeat-only").is_selected()
    assert page.session()["version"] == 0


def test_strokes_are_painted_and_taken_out(open_page):
    page = open_page()
    page.press("d")
    drag_between(page, page.find("lane-CY"), (page.pixels(0.5), 20), (page.pixels(0.98), 22))
    page.until_version(1)
    painted = [s for c, s in page.events() if c == "CY"]
    assert painted == pytest.approx([0.5, 0.625, 0.75, 0.875, 1.0])
    page.stroke("d2").click()
    page.until_version(2)
    assert [s for c, s in page.events() if c == "SD"] == [3.0]


def test_velocities_are_painted_ramped_accented_and_scaled(open_page):
    page = open_page()
    page.client.edit(*({"op": "add", "id": f"t{i}", "class": "TT", "onset_s": i / 2} for i in range(6)))
    page.until_version(1)
    page.press("3")
    lane = page.find("velocity")
    height = lane.size["height"]
    drag_between(page, lane, (2, height / 2), (page.pixels(1.02), height / 2))
    page.until_version(2)
    assert velocities(page, "TT") == pytest.approx([0.5, 0.5, 0.5, 0.8, 0.8, 0.8], abs=0.06)
    drag_between(page, lane, (2, height - 2), (page.pixels(2.5), 4), held=[Keys.SHIFT])
    page.until_version(3)
    assert velocities(page, "TT") == pytest.approx([0.03, 0.22, 0.41, 0.61, 0.8, 1.0], abs=0.06)
    page.stroke("t1").click()
    page.press(".")
    page.until_version(4)
    page.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, held=[Keys.CONTROL])  # selects two more
    page.press(",")
    page.until_version(5)
    page.press("/")
    page.press(Keys.ARROW_UP, held=[Keys.CONTROL])
    page.until_version(6)
    assert velocities(page, "TT")[1:4] == [0.31] * 3
    assert "early" not in page.stroke("t1").get_attribute("data-timing")
    page.press(Keys.ARROW_LEFT * 5, held=[Keys.SHIFT, Keys.ALT])
    page.until_version(11)
    assert page.stroke("t1").get_attribute("data-timing") == "early"


def test_a_lane_is_muted_and_a_menu_has_what_can_be_done(open_page):
    page = open_page()
    page.press("2", "m")
    page.until_version(1)
    assert page.find("mute-SD").get_attribute("aria-pressed") == "true"
    silent = page.client.samples(which="take", version=1)
    assert np.abs(silent[:, RATE : RATE + 400]).max() < 1e-3
    ActionChains(page.driver).context_click(page.stroke("d1")).perform()
    menu = page.find("menu")
    assert "Open" in menu.text
    page.press(Keys.ARROW_DOWN)
    assert page.focused.text.startswith("Cut")
    menu.find_element(By.XPATH, ".//button[contains(., 'Open')]").click()
    page.until_version(2)
    assert not page.find("menu").is_displayed()
    assert next(e for e in page.session()["events"] if e["id"] == "d1")["articulation"] == "open"
    page.press("3", held=[Keys.ALT])
    page.until_version(3)
    assert next(e for e in page.session()["events"] if e["id"] == "d1")["articulation"] == "closed"


def test_a_gain_that_is_undone_shows_so_and_space_plays_after_a_mute(open_page):
    page = open_page()
    gain = page.find("gain-KD")
    gain.send_keys(Keys.ARROW_LEFT * 3)
    page.until_version(1)
    assert page.session()["lanes"]["KD"]["gain_db"] == float(gain.get_attribute("value")) < 0
    page.press("z", held=[Keys.CONTROL])
    page.until(lambda: float(gain.get_attribute("value")) == 0, "the slider goes back")
    page.click("mute-SD")
    page.press(" ")
    page.until(lambda: "playing" in page.body, "Space plays")
    assert page.find("mute-SD").get_attribute("aria-pressed") == "true"


def test_the_view_zooms_around_the_playhead(open_page):
    page = open_page()
    page.press(Keys.ARROW_RIGHT * 6)

    thumb, playhead = page.by_id("thumb"), page.find("playhead")
    before, width = playhead.location["x"], thumb.size["width"]
    page.press("+", "+")
    page.until(lambda: thumb.size["width"] < width / 2, "it zooms")
    page.until(lambda: abs(playhead.location["x"] - before) <= 2, "the playhead stays")


def test_feel_plays_while_it_is_set_and_is_one_step(open_page):
    page = open_page()
    page.client.edit({"op": "move", "id": "d2", "onset_s": 1.06}, {"op": "move", "id": "d1", "onset_s": 0.63})
    page.until_version(1)
    page.press("f")
    page.find("feel-strength").send_keys(Keys.ARROW_RIGHT * 10)
    page.until(lambda: ("SD", 1.03) in page.events(), "half of the way to the grid")
    page.find("feel-swing").send_keys(Keys.END)
    page.until(
        lambda: any(c == "HH" and 0.66 < s < 0.68 for c, s in page.events()), "the second eighth is late"
    )
    page.click("feel-apply")
    assert not page.find("feel-panel").is_displayed()
    page.click("undo")
    page.until(
        lambda: ("SD", 1.06) in page.events() and ("HH", 0.63) in page.events(), "one undo takes all back"
    )
    page.press("f")
    page.find("feel-timing").send_keys(Keys.END)
    page.until(lambda: ("KD", 2.0) not in page.events(), "strokes are moved")
    page.press(Keys.ESCAPE)
    page.until(lambda: ("KD", 2.0) in page.events(), "nothing of it stays")


def test_feel_takes_back_no_step_but_its_own(open_page):
    page = open_page()
    page.press("f")
    page.find("feel-timing").send_keys(Keys.END)
    page.until_version(1)
    moved = page.events()
    page.stroke("d1").click()
    page.press(Keys.DELETE)
    page.until_version(2)
    page.until(lambda: not page.find("feel-panel").is_displayed(), "another step ends it")
    page.press("z", held=[Keys.CONTROL])
    page.until_version(3)
    assert page.events() == moved


def test_feel_by_keyboard(open_page):
    page = open_page()
    page.press("f")
    page.find("feel-timing").send_keys(Keys.END)
    page.until_version(1)
    page.press(" ")
    page.until(lambda: "playing" in page.body, "Space plays")
    page.press(" ")
    page.press("z", held=[Keys.CONTROL])
    page.until(lambda: ("KD", 2.0) in page.events(), "Ctrl + Z takes it back")
    page.until(lambda: not page.find("feel-panel").is_displayed(), "another step ends it")
    page.press("f")
    page.find("feel-timing").send_keys(Keys.END)
    page.until(lambda: ("KD", 2.0) not in page.events(), "strokes are moved")
    page.find("feel-cancel").send_keys(Keys.ENTER)
    page.until(lambda: ("KD", 2.0) in page.events(), "Enter on Cancel cancels")


def test_rhythms_are_auditioned_dropped_and_taken_lane_by_lane(open_page):
    page = open_page()
    page.press("i")
    page.until(lambda: "boom-bap-90" in page.text("library-list"), "the library is listed")
    page.find("library-search").send_keys("boom-bap")
    page.click("library-audition")
    page.until(lambda: "on the drums of your recording" in page.text("library-report"), "it plays")
    for other in ("SD", "TT", "CY", "KD"):
        page.click(f"library-{other}")
    page.click("library-use")
    page.until_version(1)
    hats = [e for e in page.session()["events"] if e["class"] == "HH"]
    assert len(hats) > 4
    assert page.session()["mode"] == "edit"
    assert [(c, s) for c, s in page.events() if c != "HH"] == [
        (s.drum_class, s.onset_s) for s in FOUND if s.id != "d1"
    ]
    midi = write_midi(Rhythm((DrumEvent(0.0, "TT", 1.0),), 2.0, TempoMap.constant(120), "toms"))
    page.script(DROP, "toms.mid", base64.b64encode(midi).decode())
    page.until(lambda: "toms.mid" in page.text("library-report"), "the file was taken")
    page.click("library-HH")
    page.click("library-TT")  # of the last choice only the hi-hat was left
    page.click("library-use")
    page.until_version(2)
    assert [s for c, s in page.events() if c == "TT"] == [0.0, 2.0]
    assert len([e for e in page.session()["events"] if e["class"] == "HH"]) == len(hats)


# Of every control that can be used: its name, and of every text its contrast in this theme.
CONTROLS = """
const all = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility());
const controls = all("button, select, input, [role]:not([role=group], [role=radiogroup], [role=status])");
const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
const luminance = (rgb) => rgb.reduce((sum, v, i) => sum + linear(v / 255) * [0.2126, 0.7152, 0.0722][i], 0);
const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
const ground = (e) => {
  const [r, g, b, a = 1] = numbers(getComputedStyle(e).backgroundColor);
  return a === 1 ? [r, g, b] : e.parentElement ? ground(e.parentElement) : [255, 255, 255];
};
const ratio = (e) => {
  const pair = [numbers(getComputedStyle(e).color).slice(0, 3), ground(e)].map(luminance).sort((x, y) => y - x);
  return (pair[0] + 0.05) / (pair[1] + 0.05);
};
const labels = (e) => [...(e.labels || [])].map((label) => label.textContent.trim()).join("");
const name = (e) => e.getAttribute("aria-label") || labels(e) || e.textContent.trim();
const hasText = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
const isRead = (e) => hasText(e) && !e.closest(":disabled, .stroke, option, [aria-hidden=true]");
const texts = all("body *").filter((e) => isRead(e) && getComputedStyle(e).color.startsWith("rgb"));
const shown = (e) => e.outerHTML.slice(0, 120);
return {
  nameless: controls.filter((e) => !name(e)).map(shown),
  faint: texts.filter((e) => ratio(e) < 4.5).map((e) => [shown(e), ratio(e)]),
  order: all("[tabindex]").filter((e) => e.tabIndex > 0).map(shown),
};
"""
AXE = """
const done = arguments[0];
axe.run(document, {resultTypes: ["violations"]}).then(({violations}) => done(violations
  .filter(({impact}) => ["serious", "critical"].includes(impact))
  .map(({id, nodes}) => [id, nodes.slice(0, 3).map((node) => node.html.slice(0, 160))])));
"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everything_has_a_name_and_can_be_read_in_either_theme(open_page, theme):
    page = open_page()
    media = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    page.stroke("d2").click()
    for key in ("", "f", "i", "r", "?", "e", "k", "v", "drop"):
        if key == "drop":
            page.script(DROP, "mine.wav", "")
        elif key:
            page.press(key)
        assert page.script(CONTROLS) == {"nameless": [], "faint": [], "order": []}, key
        if axe := _axe_script():
            page.script(axe)
            assert page.driver.execute_async_script(AXE) == [], key
        if key:
            page.press(Keys.ESCAPE)
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def _axe_script():
    """Return axe, where it is installed: pip install axe-selenium-python."""
    found = importlib.util.find_spec("axe_selenium_python")
    if found is None:
        return None
    folder = Path(found.origin).parent
    return (folder / "node_modules" / "axe-core" / "axe.min.js").read_text("utf-8")


# Out, back, and beside.


def test_export_writes_each_kind_and_replaces_nothing_unasked(open_page, tmp_path):
    page = open_page()
    page.client.edit({"op": "delete", "id": "d2"})
    page.until_version(1)
    page.click("export")
    for what, name in (
        ("midi", "new.mid"),
        ("session", "new.json"),
        ("kit", "kit"),
        ("stems", "stems"),
        ("wav", "new.wav"),
    ):
        page.click(f"export-{what}")
        page.find("export-name").clear()
        page.find("export-name").send_keys(name + Keys.ENTER)
        page.until(
            lambda n=name: f"Written: {tmp_path / 'out' / n}" in page.text("export-result"), "it is written"
        )
    assert len(read_midi(tmp_path / "out" / "new.mid").events) == len(FOUND) - 1
    assert len(json.loads((tmp_path / "out" / "new.json").read_text())["played"]) == len(FOUND) - 1
    assert list((tmp_path / "out" / "kit").glob("*.sfz"))
    assert len(list((tmp_path / "out" / "stems").glob("stems_*.wav"))) == 5
    samples, rate = soundfile.read(tmp_path / "out" / "new.wav", always_2d=True, dtype="float32")
    assert rate == RATE
    assert np.abs(samples.T - page.client.samples(which="take", version=1)).max() < 1e-4
    before = (tmp_path / "out" / "new.wav").stat()
    page.click("export-write")
    page.until(lambda: "exists already" in page.text("export-result"), "nothing is replaced unasked")
    assert (tmp_path / "out" / "new.wav").stat() == before
    page.click("export-replace")
    page.until(lambda: "Written" in page.text("export-result"), "it is replaced once that is requested")


def test_reload_in_mid_edit_loses_nothing(open_page):
    page = open_page()
    page.double_click_at("lane-CY", 2.5)
    ActionChains(page.driver).click_and_hold(page.stroke("d2")).move_by_offset(60, 0).perform()
    page.driver.refresh()  # at once after the edit, and with a stroke in the hand
    page.until_version(1)
    page.until(lambda: page.strokes("CY") == [("CY", 2.5)], "the edit is there")
    assert page.strokes("SD") == [("SD", 1.0), ("SD", 3.0)]
    ActionChains(page.driver).release().perform()
    page.click("undo")
    page.until_version(2)
    assert page.strokes("CY") == []


def test_another_tab_is_followed_and_an_edit_on_its_newest_version_is_made(open_page):
    page = open_page()
    page.client.edit({"op": "delete", "id": "d1"})
    page.until(lambda: page.strokes("HH") == [], "the other tab's edit shows")
    page.until(lambda: "Another tab" in page.text("message"), "the page says so")
    # The page has not been notified of the next one when it sends its own.
    page.script(
        "const real = window.fetch; window.fetch = async (url, options) => {"
        " if (String(url).endsWith('/edits') && !window.sent) { window.sent = true;"
        "  const body = JSON.parse(options.body); body.version -= 1;"
        "  return real(url, {...options, body: JSON.stringify(body)}); } return real(url, options); }"
    )
    page.stroke("d2").click()
    page.click("delete")
    page.until_version(2)
    page.until(lambda: "made on its newest version" in page.text("message"), "the page says so")
    assert page.strokes() == [("KD", 0.0), ("KD", 2.0), ("SD", 3.0)]


def test_a_server_that_ends_is_a_sentence(open_page):
    page = open_page()
    page.client.server.end()
    page.until(lambda: "run redrum edit" in page.text("notice"), "the page says so")
    page.until(lambda: "does not answer" in page.text("status"), "its status says so")
    found = [(s.drum_class, s.onset_s) for s in FOUND]
    page.until(lambda: page.strokes() == found, "the strokes are drawn")


def test_a_page_without_a_recording_takes_one_that_is_dropped(chromium, entrance, loop):
    chromium.get("about:blank")
    chromium.get(entrance.url)
    page = Page(chromium, SimpleNamespace(server=SimpleNamespace(url=entrance.url)))
    page.until(lambda: page.find("entrance").is_displayed(), "the page says what can be dropped")
    page.script(DROP, "mine.wav", base64.b64encode(loop().read_bytes()).decode())
    page.until_version(0)
    assert not page.find("entrance").is_displayed()
    assert page.driver.title == "mine - Redrum"
    found = [(s.drum_class, s.onset_s) for s in FOUND]
    page.until(lambda: page.strokes() == found, "the strokes are drawn")
    chromium.get("about:blank")


# What is no usual recording.


def test_a_recording_without_drums_says_what_can_be_done(open_page, loop):
    page = open_page(loop("rain.wav", found=()), FakeEngine(found=()))
    assert "No drums were detected" in page.by_id("no-drums").text
    page.double_click_at("lane-SD", 1.0)
    page.until_version(1)
    assert not page.by_id("no-drums").is_displayed()


def test_the_page_says_that_six_channels_are_monitored_in_stereo(open_page, loop):
    page = open_page(loop("wide.wav", n_channels=6))
    assert "6 channels, monitored in stereo" in page.by_id("facts").text
    page.click("play")
    page.until(lambda: page.playhead["peak"] > 0.1, "it plays")


def test_a_recording_that_cannot_be_opened_is_a_sentence(open_page):
    page = open_page(
        engine=FakeEngine(error=AudioError("there is only noise", hint="try another")), version=None
    )
    page.until(lambda: "There is only noise. Try another." in page.text("notice"), "the page says why")


def test_of_five_thousand_strokes_five_hundred_are_buttons(open_page, loop):
    many = tuple(Stroke(f"d{i}", ("KD", "SD", "TT", "HH", "CY")[i % 5], i / 1300, 0.5) for i in range(5000))
    page = open_page(loop("many.wav", found=FOUND), FakeEngine(found=many))
    page.until(lambda: len(page.strokes()) == 500, "five hundred are buttons")
    page.until(lambda: "5,000 strokes are in view" in page.text("message"), "the page says so")
    for _ in range(7):
        page.press("+")
    page.until(lambda: 0 < len(page.strokes()) < 500, "all that are in view are buttons")


ZOOM = """
const done = arguments[0];
const time = document.getElementById("time");
const {left} = time.getBoundingClientRect();
const button = document.querySelector("[data-testid=stroke][data-id=d2]");
const picture = document.querySelector(".stroke-picture");
const isDrawn = (x, y) => picture.getContext("2d").getImageData(x, y, 1, 1).data[3] > 0;
const measure = () => {
  const {left: at, top} = button.getBoundingClientRect();
  const [x, y] = [Math.round(at - left), Math.round(top - picture.getBoundingClientRect().top) + 20];
  return {x: at - left, isDrawn: [isDrawn(x - 4, y), isDrawn(x, y)]};
};
const before = measure();
time.dispatchEvent(new WheelEvent("wheel", {deltaY: -100, ctrlKey: true, clientX: left, cancelable: true}));
const frames = [];
const wait = () => {
  frames.push(measure());
  if (button.parentElement.style.transform || frames.length < 3) requestAnimationFrame(wait);
  else done([before, ...frames]);
};
requestAnimationFrame(() => requestAnimationFrame(wait));
"""


def test_while_the_view_zooms_strokes_are_where_they_are_seen_and_stay_there(open_page):
    page = open_page()
    found = [(s.drum_class, s.onset_s) for s in FOUND]
    page.until(lambda: page.strokes() == found, "the strokes are drawn")
    before, *after = page.driver.execute_async_script(ZOOM)
    assert len(after) > 3  # the buttons are not placed anew in each frame
    for frame in after:
        assert frame["x"] == pytest.approx(before["x"] * np.exp(0.3), abs=0.6)
        assert frame["isDrawn"] == [False, True]
