"""A new sound option is one field: every command that makes takes has it, and passes it on."""

import json
import re
import subprocess
import sys

import typer
from typer.testing import CliRunner

from daw_bridge.commands.cli import app

RHYTHM = "bossa-nova-132"

# In a process of its own: the commands are built from RenderSettings when they are imported.
ONE_MORE_FIELD = """
import json, sys
from dataclasses import dataclass, field
from unittest.mock import Mock

from transform import options, settings

@dataclass(frozen=True, kw_only=True)
class MoreSettings(settings.RenderSettings):
    swing: float = field(
        default=0.0, metadata=options.option("0..1", "How late off-beats are.", "0", read=options.number())
    )

settings.RenderSettings = MoreSettings

from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from transform.engine import Redrummer
from transform.errors import CheckpointError

def redrum(source, rhythm, settings, **others):
    seen.append([settings.swing, settings.length])
    raise CheckpointError("enough")

Redrummer.load = lambda *arguments, **others: Mock(redrum=redrum)
report = []
for command in json.loads(sys.argv[1]):
    seen = []
    shown = CliRunner().invoke(app, [*command[:-1], "--help"], prog_name="redrum").output
    done = CliRunner().invoke(app, command, prog_name="redrum")
    report.append([" ".join(shown.split()), seen, done.output])
print(json.dumps(report))
"""


def test_one_more_field_is_an_option_of_all_commands_and_reaches_the_engine(
    worlds, write_wav, clicks, tmp_path
):
    loop = write_wav("loop.wav", clicks([0.1, 0.5], length_s=1.0))
    for daw in ("reaper", "live"):
        worlds(daw, [worlds.track("drums", worlds.audio(loop))])
    given = ["--rhythm", RHYTHM, "--swing", "0.25"]
    commands = [
        ["render", *given, str(loop)],
        ["batch", *given, str(loop)],
        ["reaper", "selected", *given, "--quiet"],
        ["live", "selected", *given, "--loop"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", ONE_MORE_FIELD, json.dumps(commands)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    for (shown, seen, output), length in zip(found, ("rhythm", "rhythm", 1.0, 1.0), strict=True):
        assert "--swing 0..1 How late off-beats are. [default: (0)]" in shown
        assert seen == [[0.25, length]], output


def test_help_has_what_most_need_first_and_the_rest_in_sections():
    shown = CliRunner().invoke(app, ["render", "--help"], prog_name="redrum").output
    sections = dict(re.findall(r"^(\w[\w ]*):\n((?:  .*\n?)+)", shown, re.MULTILINE))
    assert list(sections)[:4] == ["Arguments", "Options", "Rhythm", "Sound"]
    options = {
        name: re.findall(r"^  (?:-\w, )?(--[\w-]+)", text, re.MULTILINE) for name, text in sections.items()
    }
    assert options["Options"][0] == "--rhythm"
    assert len(options["Options"]) <= 10
    everything = [name for names in options.values() for name in names]
    assert len(everything) == len(set(everything)) > 35


def test_help_has_every_command_in_a_section_in_one_line():
    shown = CliRunner().invoke(app, ["--help"], prog_name="redrum", env={"COLUMNS": "80"}).output
    sections = dict(re.findall(r"^(\w[\w ]*):\n((?:  .*\n?)+)", shown, re.MULTILINE))
    assert list(sections)[:2] == ["Options", "Recordings"]
    lines = "".join(text for title, text in sections.items() if title != "Options").splitlines()
    assert {line.split()[0] for line in lines} == set(typer.main.get_command(app).commands)
    assert not [line for line in lines if line.startswith("   ") or line.endswith("...")]


def test_the_command_alone_says_what_to_do_next():
    result = CliRunner().invoke(app, [], prog_name="redrum")
    assert result.exit_code == 0
    commands = re.findall(r"^  redrum (\S+)", result.stdout, re.MULTILINE)
    assert commands == ["demo", "audition", "render", "edit", "--help"]
