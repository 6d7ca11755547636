"""One recording that plays many rhythms, on one page to compare them: the players go on where the last one was.

The page is a folder that can be moved, and opened without a network. All sounds on it are equally loud.
"""

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from daw_bridge.page import INDEX, check_page, document, shown, write_sound
from daw_bridge.take_report import Report
from transform.audio import Progress, Recording
from transform.engine import Redrummer
from transform.errors import RhythmError
from transform.files import atomic_folder, write_text_atomic
from transform.library import RhythmInfo
from transform.midi import read_midi
from transform.options import write_options
from transform.presets import DEFAULT_PRESET
from transform.settings import RenderSettings
from transform.signal import Signal, blocks_of

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 56rem; margin: 2rem auto; padding: 0 1rem; }
body { color: #222; background: #fff; } button { font: inherit; cursor: pointer; }
li { display: flex; gap: 1rem; align-items: baseline; padding: .2rem 0; list-style: none; }
ul { padding: 0; } li button { flex: 0 0 20rem; text-align: left; }
li button[aria-pressed=true] { background: #0b57d0; color: #fff; } code { overflow-wrap: anywhere; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #1b1b1b; } }
"""
_SCRIPT = """
const buttons = [...document.querySelectorAll("li button")];
const players = buttons.map((button) => {
  const player = new Audio(button.dataset.src);
  player.loop = true;
  player.volume = Number(button.dataset.volume);
  return player;
});
const play = document.getElementById("play");
let now = 0, before = 0, plays = false;
function choose(i) {
  const at = players[now].currentTime;
  players[now].pause();
  if (i !== now) before = now;
  now = i;
  const length = players[now].duration;
  players[now].currentTime = length ? at % length : 0;
  buttons.forEach((button, k) => button.setAttribute("aria-pressed", k === now));
  buttons[now].scrollIntoView({ block: "nearest" });
  if (plays) players[now].play();
}
function toggle() {
  plays = !plays;
  play.textContent = plays ? "Stop" : "Play";
  if (plays) players[now].play(); else players[now].pause();
}
play.addEventListener("click", toggle);
buttons.forEach((button, i) => button.addEventListener("click", () => {
  choose(i);
  if (!plays) toggle();
}));
document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step) choose((now + step + players.length) % players.length);
  else if (event.key === "a") choose(now === 0 ? before : 0);
  else if (event.key === " ") toggle();
  else return;
  event.preventDefault();
});
choose(0);
"""


@dataclass(frozen=True, kw_only=True)
class Audition:
    """A recording, the rhythms that it plays, and the folder of the page."""

    path: Path  # of the recording, as the user named it
    rhythms: Sequence[RhythmInfo]
    given: Mapping[str, Any]  # fields of the takes' settings
    preset: str
    folder: Path
    overwrite: bool = False

    def check(self) -> None:
        """Raise OutputError for a folder that is no page of ours, or that is not to be replaced."""
        check_page(self.folder, overwrite=self.overwrite)

    def run(self, source: Recording, redrummer: Redrummer, progress: Progress | None) -> Report:
        """Write the page, which appears whole or not at all, and return the report of it.

        Unless given otherwise, takes are as long as the recording and go round without a seam.

        Args:
            source: the open recording. Its tempo is estimated where neither file nor settings state it.
            redrummer: what plays.
            progress: called with a stage and the fraction of it that is done.
        """
        report = progress or (lambda stage, fraction: None)
        given = {"length": "source", "tail": "wrap"} | dict(self.given)
        if "source_bpm" not in given and source.tempo_bpm() is None:
            given["source_bpm"] = "auto"
        settings = RenderSettings(**given)
        options = write_options(RenderSettings, given)
        report("transcribe source", 0.0)
        detected = redrummer.listen(source, sensitivity=settings.sensitivity, progress=progress)
        drums = redrummer.drums(detected, settings, report)
        rows: list[tuple[str, str, str, float]] = []  # file, title, command, level
        notes: list[str] = []
        self.check()
        with atomic_folder(self.folder, overwrite=self.overwrite) as temporary:
            write_sound(temporary / "000-source.flac", source, source)
            rows.append(("000-source.flac", f"{source.name}, as it is", "", _rms(source)))
            for number, rhythm in enumerate(self.rhythms, 1):
                report("render", (number - 1) / len(self.rhythms))
                try:
                    take = redrummer.play(drums, read_midi(rhythm.path), settings)
                except RhythmError as err:
                    notes.append(f"{rhythm.name} is left out: {err.message}")
                    continue
                if len(rows) == 1:
                    notes += _tempo_notes(take.notes())
                name = f"{number:03}-result.flac"
                write_sound(temporary / name, take, source)
                title = f"{rhythm.name}, {rhythm.style}, {rhythm.bpm:g} BPM"
                rows.append((name, title, self._command(rhythm, options), _rms(take)))
            report("render", 1.0)
            write_text_atomic(temporary / INDEX, _page(source.name, rows))
        return {
            "source": str(self.path),
            "page": str(self.folder / INDEX),
            "rhythms": len(rows) - 1,
            "notes": notes,
        }

    def _command(self, rhythm: RhythmInfo, options: Sequence[str]) -> str:
        preset = [] if self.preset == DEFAULT_PRESET else ["--preset", self.preset]
        return shlex.join(["redrum", "render", str(self.path), "--rhythm", rhythm.name, *preset, *options])


def _tempo_notes(notes: Sequence[str]) -> list[str]:
    """Return, of the notes of a take, the tempo that all takes play at, and where it is from."""
    phrase = next(note for note in notes if note.startswith("plays "))
    if "the source's" not in phrase:
        return [f"all play {phrase.removeprefix('plays ')}"] if phrase.endswith("BPM, as requested") else []
    how = [note for note in notes if note.startswith("the source's tempo is ")]
    return [f"all play {phrase.removeprefix('plays ').partition(';')[0]}", *how]


def _rms(sound: Signal) -> float:
    """Return the level of a sound over all channels, 1 for full scale."""
    squares = [
        float(np.square(block, dtype=np.float64).sum()) for block in blocks_of(sound, 10 * sound.sample_rate)
    ]
    return math.sqrt(sum(squares) / max(1, sound.n_samples * sound.n_channels))


def _page(name: str, rows: Sequence[tuple[str, str, str, float]]) -> str:
    softest = min((level for *_, level in rows if level), default=1.0)
    lines = [
        f'<li><button data-src="{file}" data-volume="{softest / level if level else 1:.4f}" '
        f'aria-pressed="false">{shown(title)}</button> <code>{shown(command)}</code></li>'
        for file, title, command, level in rows
    ]
    intro = (
        '<p><button id="play">Play</button> Click a rhythm: it goes on where the last one was, as loud as it. '
        "Arrow keys: the next; <kbd>a</kbd>: the recording, and back; space: stop. "
        "The command beside a rhythm renders it in full quality.</p>"
    )
    return document(f"{shown(name)} plays", _STYLE, f"{intro}<ul>{''.join(lines)}</ul>", _SCRIPT)
