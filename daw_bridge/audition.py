"""One recording that plays many rhythms, on one page to compare them: the players go on where the last one was.

The page is a folder that can be moved, and opened without a network. All sounds on it are equally loud.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from daw_bridge.audition_page import Player, audition_page
from daw_bridge.page import INDEX, check_page, write_sound
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
        notes: list[str] = []
        tempo: list[str] = []
        self.check()
        with atomic_folder(self.folder, overwrite=self.overwrite) as temporary:
            write_sound(temporary / "000-source.flac", source, source)
            players = [Player("000-source.flac", _rms(source), f"{source.name}, as it is")]
            for number, rhythm in enumerate(self.rhythms, 1):
                report("render", (number - 1) / len(self.rhythms))
                try:
                    take = redrummer.play(drums, read_midi(rhythm.path), settings)
                except RhythmError as err:
                    notes.append(f"{rhythm.name} is left out: {err.message}")
                    continue
                if len(players) == 1:
                    tempo = _tempo_notes(take.notes())
                name = f"{number:03}-result.flac"
                write_sound(temporary / name, take, source)
                command = self._command(rhythm, options)
                players.append(
                    Player(name, _rms(take), rhythm.name, rhythm.style, f"{rhythm.bpm:g} BPM", command)
                )
            report("render", 1.0)
            page = audition_page(source.name, tempo, players)
            write_text_atomic(temporary / INDEX, page)
        return {
            "source": str(self.path),
            "page": str(self.folder / INDEX),
            "rhythms": len(players) - 1,
            "notes": [*tempo, *notes],
        }

    def _command(self, rhythm: RhythmInfo, options: Sequence[str]) -> list[str]:
        preset = [] if self.preset == DEFAULT_PRESET else ["--preset", self.preset]
        return ["redrum", "render", str(self.path), "--rhythm", rhythm.name, *preset, *options]


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
