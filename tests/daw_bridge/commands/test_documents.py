"""Every command, program and link of the README and the pages that it leads to works as it stands."""

import ast
import functools
import json
import re
import shlex
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from daw_bridge.editor.serving import BrowserPage, PageServer
from training.__main__ import app as training_app
from training.train import kit as train_kit
from training.train import kit_preset
from training.train.kit import KitTraining
from transform.library import demo_recordings, find_rhythm

ROOT = Path(__file__).resolve().parents[3]
RATE = 44_100
PAGES = ["README.md", *(f"docs/{name}.md" for name in ("install", "render", "batch", "python"))]
EVERY_PAGE = {path.name: path for path in [ROOT / "README.md", *ROOT.glob("docs/[!R]*.md")]}
WRITTEN_IN = {"json": json.loads, "toml": tomllib.loads, "python": ast.parse}
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
BLOCKS = [
    found
    for text in TEXTS.values()
    for found in re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
]
COMMANDS = dict.fromkeys(  # each once
    line for _, block in BLOCKS for line in block.splitlines() if line.startswith("redrum ")
)
pytestmark = pytest.mark.usefixtures("models_once", "here")


def redrum(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="redrum")


@pytest.fixture
def files_of_the_pages(source, here, worlds):
    """The files that the pages' commands name."""
    loops = {recording.name: recording.path for recording in demo_recordings()}
    shutil.copy(next(path for name, path in loops.items() if "breakbeat" in name), here / "other.wav")
    (here / "presets/demo").mkdir(parents=True)
    shutil.copy(next(path for name, path in loops.items() if "acoustic" in name), here / "presets/demo")
    shutil.copy(find_rhythm("bossa-nova-132").path, here / "groove.mid")
    for folder in ("takes/drums", "beats"):
        (here / folder).mkdir(parents=True)
    for copy in ("takes/drums/snare.wav", "KICK.wav", "SNARE.wav", "OH.wav"):
        shutil.copy(here / "loop.wav", here / copy)
    for name in ("loop", "snare"):
        shutil.copy(here / "groove.mid", here / "beats" / f"{name}.mid")
    song = worlds("rpp", [worlds.track("Drums", worlds.audio(here / "loop.wav"))])
    shutil.copy(song.path, here / "song.rpp")
    live_set = worlds("als", [worlds.track("Drums", worlds.audio(here / "loop.wav"))])
    shutil.copy(live_set.path, here / "song.als")
    (sheet,) = (block for language, block in BLOCKS if language == "csv")
    (here / "jobs.csv").write_text(sheet, encoding="utf-8")


@pytest.fixture
def an_editor_that_ends(line, monkeypatch):
    """An editor that no page asks for anything, and that ends soon."""
    if line.startswith("redrum edit"):
        run = PageServer.run
        monkeypatch.setattr(PageServer, "run", lambda server, *when: run(server, *when, idle_s=0.5))
        monkeypatch.setattr(BrowserPage, "open", lambda page, failed: None)


@pytest.mark.usefixtures("files_of_the_pages", "an_editor_that_ends")
@pytest.mark.parametrize("line", COMMANDS)
def test_command_of_the_pages_works(line):
    result = redrum(*shlex.split(line)[1:])
    assert result.exit_code == 0, result.output


@pytest.mark.slow
def test_train_kit_of_the_readme_works(here, loop, monkeypatch):
    """With training that takes a step."""
    (here / "my-kit").mkdir()
    for i, name in enumerate(("Kick 1", "Kick 2", "Snare", "HatOpen")):
        soundfile.write(here / "my-kit" / f"{name}.wav", loop[0][5000 * i : 5000 * i + 9000], RATE)
    small = functools.partial(KitTraining, steps=1, batch=1, n_validation=2, n_scored=2, pool_size=1)
    monkeypatch.setattr(train_kit, "KitTraining", small)
    for place in (train_kit, kit_preset):
        monkeypatch.setattr(place, "other_recordings", lambda settings, device: [loop[0]])
    distances = iter([[3.0], [2.0], [3.0], [3.0]])  # of the kit before and after, and of other drums
    monkeypatch.setattr(kit_preset, "coded_distances", lambda codec, sounds: next(distances))
    assert "`redrum train kit my-kit`" in TEXTS["README.md"]
    result = redrum("train", "kit", "my-kit")
    assert result.exit_code == 0, result.output


@pytest.mark.usefixtures("files_of_the_pages")
def test_python_of_the_pages_works(here):
    redrummed, separated = (block for language, block in BLOCKS if language == "python")
    exec(compile(redrummed, "python.md", "exec"), {})
    assert soundfile.info(here / "take.wav").frames == 2 * RATE
    names = {}
    exec(compile(separated, "python.md", "exec"), names)
    stems = [names[name] for name in ("kick", "snare", "toms", "hats", "cymbals")]
    samples, _ = soundfile.read(here / "loop.wav", always_2d=True)
    assert np.abs(sum(stems).T - samples).max() < 1e-6


def linked(page):
    """Return what a page links to in the project, files and headings."""
    text = page.read_text(encoding="utf-8")
    return [tuple(target.partition("#")[::2]) for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text)]


def anchors(page):
    """Return the names that headings of a page have in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")], ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for name, anchor in linked(page):
        target = (page.parent / name) if name else page
        assert target.exists(), name
        assert not anchor or anchor in anchors(target), f"{name}#{anchor}"


def test_the_index_names_every_page():
    named = {name for name, _ in linked(ROOT / "docs" / "README.md")}
    assert {path.name for path in EVERY_PAGE.values()} - {"README.md"} <= named


def test_every_page_is_reached_from_the_readme():
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        targets = {(page.parent / name).resolve() for name, _ in linked(page) if name.endswith(".md")}
        ahead += [target for target in targets if target.is_file() and target not in reached]
    assert set(ROOT.glob("docs/*.md")) <= reached


@functools.cache
def options_by_command():
    """Return the options of every command, by its words."""

    def below(command, words):
        for name, inner in getattr(command, "commands", {}).items():
            yield from below(inner, (*words, name))
        yield words, {option for p in command.params for option in (*p.opts, *p.secondary_opts)}

    found = dict(below(typer.main.get_command(app), ()))
    return found | dict(below(typer.main.get_command(training_app), ("train",)))


def of_commands(text):
    """Yield the lines of a page that call `redrum`: those of blocks, and those within sentences."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for block in blocks:
        lines = block.replace("\\\n", " ").splitlines()
        yield from (line.removeprefix("$ ") for line in lines if re.match(r"(\$ )?redrum ", line))
    for block in blocks:
        text = text.replace(block, "")
    yield from (" ".join(found.split()) for found in re.findall(r"`(redrum [^`]+)`", text))


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_every_command_of_a_page_exists_and_has_its_options(page):
    for line in of_commands(EVERY_PAGE[page].read_text(encoding="utf-8")):
        words = line.split()[1:]
        path = max((p for p in options_by_command() if tuple(words[: len(p)]) == p), key=len)
        assert path or not re.match(r"[a-z]", words[0]), line
        options = options_by_command()[path] | {"--help", "-h"}
        assert {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)} <= options, line


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_blocks_that_name_their_language_are_written_in_it(page):
    text = EVERY_PAGE[page].read_text(encoding="utf-8")
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        if language != "csv":  # those are read as job sheets
            WRITTEN_IN[language](block)


def test_pages_name_options_that_exist():
    options = set().union(*options_by_command().values())
    for page, path in EVERY_PAGE.items():
        tools = {"--source"} if page == "laboratory.md" else set()  # of a tool that draws a picture
        for option in re.findall(r"`(--[a-z-]+)", path.read_text(encoding="utf-8")):
            assert option in options | tools, f"{option} in {page}"
