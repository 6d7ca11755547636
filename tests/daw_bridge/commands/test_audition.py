"""`redrum audition`: a page that plays one recording with many rhythms."""

import html
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner

from daw_bridge.audition_page import Player, audition_page
from daw_bridge.commands.cli import app
from transform.library import rhythms_of_style

pytestmark = pytest.mark.usefixtures("models_once", "here")


def redrum(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="redrum")


def test_page_has_a_player_for_each_rhythm_of_a_style_as_loud_as_the_others(source, here):
    result = redrum("audition", source, "samba", "--source-bpm", "135", "--json")
    assert result.exit_code == 0, result.output
    (report,) = [json.loads(line) for line in result.stdout.splitlines()]
    names = [rhythm.name for rhythm in sorted(rhythms_of_style("samba"), key=lambda rhythm: rhythm.style)]
    page = here / report["page"]
    player = r'data-src="([\w.-]+)" data-volume="([\d.]+)".*?>(.*?)</button>'
    players = re.findall(player, page.read_text(encoding="utf-8"))
    assert [title for _, _, title in players] == ["loop, as it is", *names]
    levels = []
    for file, volume, _ in players:
        samples, rate = soundfile.read(page.parent / file)
        assert len(samples) == 2 * rate
        levels.append(float(volume) * float((samples**2).mean() ** 0.5))
        assert float(volume) <= 1
    assert max(levels) == pytest.approx(min(levels), rel=0.01)


def test_the_command_beside_a_rhythm_renders_what_the_page_plays(source, here):
    given = [
        "--gain",
        "HH=-6",
        "--gain",
        "KD=2.5",
        "--classes",
        "KD,SD,HH",
        "--tune-toms",
        "on",
        "--timing",
        "50%",
    ]
    result = redrum("audition", source, "waltz", *given, "--json")
    report = json.loads(result.stdout)
    page = here / report["page"]
    assert report["notes"][0].startswith("all play at ")
    assert "tempo is estimated at" in report["notes"][1]
    text = page.read_text(encoding="utf-8")
    assert all(f"{note[1:]}</p>" in html.unescape(text) for note in report["notes"])
    command = html.unescape(re.sub("<.*?>", "", re.findall("<code>(.*?)</code>", text)[0]))
    assert "--source-bpm=auto" in command  # the name of the file states none
    rendered = redrum(*shlex.split(command)[1:], "-o", "full.wav")
    assert rendered.exit_code == 0, rendered.output
    full, _ = soundfile.read(here / "full.wav")
    on_page, _ = soundfile.read(page.parent / "001-result.flac")
    assert full.shape == on_page.shape
    assert abs(full - on_page).max() < 2**-14  # the page has 16 bits


def test_each_style_of_a_recording_gets_a_page_and_no_page_is_lost(source, here):
    def places(*words):
        result = redrum("audition", source, *words, "--json")
        assert result.exit_code == 0, result.output
        return Path(json.loads(result.stdout)["page"]).as_posix()

    of_loop = "redrummed/audition/loop"
    assert places("uk-garage") == f"{of_loop}/uk-garage/index.html"
    assert places("waltz") == f"{of_loop}/waltz/index.html"
    assert places("uk", "garage") == f"{of_loop}/uk-garage-2/index.html"
    assert places("Waltz", "--overwrite") == f"{of_loop}/waltz/index.html"
    assert len(list((here / of_loop).glob("*/index.html"))) == 3
    assert redrum("audition", source, "waltz", "--out", f"{of_loop}/waltz").exit_code == 1


def test_nothing_is_written_for_an_unknown_style(source, here):
    result = redrum("audition", source, "polka")
    assert result.exit_code == 1
    assert "styles: " in result.stderr
    assert not (here / "redrummed").exists()


def test_a_narrow_page_has_commands_below_their_rhythms_and_a_filter(tmp_path):
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    browser = next(filter(None, map(shutil.which, names)), None)
    if browser is None:
        pytest.skip("no Chromium is installed")
    styles = {"boom-bap-90": "hip hop", "son-clave-120": "latin", "hip-hop-bounce-140": "hip hop"}
    command = ["redrum", "render", "a loop.wav", "--rhythm", "x" * 60, "--length=source", "--tail=wrap"]
    players = [Player("0.flac", 0.1, "loop, as it is")]
    players += [Player(f"{name}.flac", 0.1, name, style, "90 BPM", command) for name, style in styles.items()]
    ask = """<script>
    const shownNames = () => buttons.slice(1).filter(b => b.checkVisibility()).map(b => b.textContent);
    const below = buttons.slice(1).map(b => {
      const line = b.closest("li").querySelector("code").getBoundingClientRect();
      return line.top >= b.getBoundingClientRect().bottom && line.width > 300; });
    const fits = document.documentElement.scrollWidth <= innerWidth;
    const all = shownNames();
    filter.value = "HIP-hop"; show();
    const filtered = shownNames();
    const styles = [...document.querySelectorAll("h2")].filter(h => h.checkVisibility());
    step(1); step(1); step(1);
    document.body.setAttribute("data-found", JSON.stringify({below, fits, all, filtered,
      styles: styles.map(h => h.textContent), chosen: buttons[now].textContent}));
    </script></body>"""
    page = audition_page("loop", [], players).replace("</body>", ask)
    asking = tmp_path / "asking.html"
    asking.write_text(page, encoding="utf-8")
    line = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=500,800"]
    line += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", asking.as_uri()]
    dom = subprocess.run(line, capture_output=True, text=True, timeout=300, check=True).stdout
    found = json.loads(html.unescape(re.search(r'data-found="([^"]*)"', dom).group(1)))
    assert found == {
        "below": [True] * 3,
        "fits": True,
        "all": ["boom-bap-90", "hip-hop-bounce-140", "son-clave-120"],
        "filtered": ["boom-bap-90", "hip-hop-bounce-140"],
        "styles": ["hip hop"],
        "chosen": "loop, as it is",  # behind what the filter shows
    }
