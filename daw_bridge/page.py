"""A page to listen to: source, rhythm and result of each item, with their picture, in one folder.

The folder holds all that the page shows, under names of its own, so it can be moved, sent and opened from disk,
without a network. It runs nothing; names are shown as text.
"""

import filecmp
import html
import re
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from daw_bridge.take_report import form_of
from transform.audio import AudioFormat, Recording, Samples, write_audio
from transform.confined import is_link
from transform.drum_maps import ANY_DRUMS, DrumNotes
from transform.errors import OutputError, SettingsError
from transform.events import Rhythm
from transform.files import atomic_folder, check_output_folder, open_plain, write_text_atomic
from transform.library import RhythmSource
from transform.midi import read_midi
from transform.signal import Signal, blocks_of

INDEX = "index.html"

_MARK = '<meta name="generator" content="redrum page 1">'
_TITLE = "Redrummed"
_NAME = r"\d{3,}-(?:(?:source|rhythm|result)\.flac|picture\.png)"
_NUMBER = re.compile(r"<h2>\d+\. ")
_OWN_FILE = re.compile(_NAME)
_OWN_NAME = re.compile(rf'src="({_NAME})"')
_OWN_TAG = re.compile(
    rf'</?(?:section|h2|p|figure|figcaption)>|<p class="small">|</audio>|<audio controls preload="metadata" '
    rf'src="{_NAME}">|<img src="{_NAME}" alt="[\w ,]+" loading="lazy">'
)
_FORM = {
    "engine",
    "duration_s",
    "sample_rate",
    "channels",
    "bit_depth",
}  # the fields of a report that are shown
_HEAD_BYTES = 1000  # of a page, in which it says whose it is
_RATE = 44_100  # of rhythms that are no recordings
_BLOCK_S = 10
_LOUDEST = 1 - 2.0**-15  # what 16 bits hold
_SHARED_STYLE = """
:root { color-scheme: light dark; --page: #fff; --raised: #f0f0ec; --line: #d9d9d2; --ink: #1b1c20;
  --faint: #5d5f68; --accent: #5b3df5; --on-accent: #fff; }
@media (prefers-color-scheme: dark) { :root { --page: #131418; --raised: #26272f; --line: #34363f;
  --ink: #ececf0; --faint: #a2a4b0; --accent: #9d8bff; --on-accent: #14101f; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--ink); background: var(--page); overflow-wrap: anywhere; }
.small { color: var(--faint); font-size: .9rem; }
"""  # of every page that is written; the names of its colours are those of the editor's
_STYLE = """
section { border-top: 1px solid var(--line); padding: 1rem 0; }
figure { display: grid; grid-template-columns: 4rem 1fr; gap: .5rem; align-items: center; margin: .5rem 0; }
audio { width: 100%; } img { max-width: 100%; border-radius: 4px; }
"""


@dataclass(frozen=True, kw_only=True)
class PageItem:
    """What a page shows of a result; without an output, why there is none."""

    source: Path
    rhythm: RhythmSource
    drum_map: DrumNotes = ANY_DRUMS
    output: Path | None = None
    plot: Path | None = None
    report: dict[str, Any]  # as `RenderJob.run` returns it, or "error"


def check_page(folder: Path, *, overwrite: bool) -> None:
    """Raise OutputError if no page could be written to a folder; only a page is ever replaced."""
    check_output_folder(folder, overwrite=overwrite)
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    index = folder / INDEX
    is_own = all(
        (path.name == INDEX or _OWN_FILE.fullmatch(path.name)) and path.is_file() and not is_link(path)
        for path in folder.iterdir()
    )
    if not is_own or not index.is_file() or _MARK not in index.read_text(encoding="utf-8", errors="replace"):
        raise OutputError(
            f"{folder} is not empty, and no page that Redrum wrote", hint="choose another folder for the page"
        )


def is_page(folder: Path) -> bool:
    """Return whether a folder holds a page that Redrum wrote."""
    try:
        with open_plain(folder / INDEX) as file:
            return _MARK.encode() in file.read(_HEAD_BYTES)
    except OSError:
        return False


def check_apart(folder: Path, results: Iterable[Path | None]) -> None:
    """Raise SettingsError for a page and a result of which one would lie in the other: a page is its folder."""
    page = folder.resolve()
    for result in filter(None, results):
        place = result.resolve()
        if place.is_relative_to(page) or page.is_relative_to(place):
            raise SettingsError(
                f"{result} and the page {folder} would be in each other's place",
                hint="choose another folder for the page, which holds copies of all that it shows",
            )


def check_place(folder: Path, paths: Sequence[Path], out: Path) -> None:
    """Raise SettingsError for a page among the recordings of a batch, which the next run would redrum."""
    for path in paths:
        inside = path.is_dir() and folder.absolute().resolve().is_relative_to(path.resolve())
        if inside and not folder.absolute().resolve().is_relative_to(out.absolute().resolve()):
            raise SettingsError(
                f"the page {folder} would lie among the recordings in {path}", hint="choose another folder"
            )


def write_page(folder: Path, items: Sequence[PageItem], *, overwrite: bool = False) -> Path:
    """Write a page of items, which appears whole or not at all, and return its first file.

    Raises:
        OutputError: the folder is taken, or cannot be written.
        AudioError: a recording cannot be read any more.
    """
    check_page(folder, overwrite=overwrite)
    with atomic_folder(folder, overwrite=overwrite) as temporary:
        media = _Media(temporary)
        sections = [_section(number, item, media) for number, item in enumerate(items, 1)]
        write_text_atomic(temporary / INDEX, document(_TITLE, _STYLE, "\n".join(sections)))
    return folder / INDEX


def add_to_page(folder: Path, items: Sequence[PageItem]) -> Path:
    """Add items to a page, and return its first file.

    Each takes the place of an earlier entry of its result, else it is added at the end. Without a page there,
    they make one. The page appears whole or not at all.

    Raises:
        OutputError: the folder holds something else, or cannot be written.
        AudioError: a recording cannot be read any more.
    """
    entries: list[str | PageItem] = list(entries_of(folder))
    for item in items:
        of_result = _place(item)
        same = (at for at, entry in enumerate(entries) if isinstance(entry, str) and of_result in entry)
        at = next(same, len(entries)) if of_result else len(entries)
        entries[at : at + 1] = [item]
    with atomic_folder(folder, overwrite=True) as temporary:
        retained = (entry for entry in entries if isinstance(entry, str))
        earlier = {name for entry in retained for name in _OWN_NAME.findall(entry)}
        for name in earlier:
            shutil.copyfile(folder / name, temporary / name)
        media = _Media(temporary, earlier)
        free = 1 + max((int(name.partition("-")[0]) for name in earlier), default=0)
        sections = [
            entry if isinstance(entry, str) else _section(number, entry, media)
            for number, entry in enumerate(entries, free)
        ]
        numbered = (_NUMBER.sub(f"<h2>{number}. ", text, count=1) for number, text in enumerate(sections, 1))
        write_text_atomic(temporary / INDEX, document(_TITLE, _STYLE, "\n".join(numbered)))
    return folder / INDEX


def _place(item: PageItem) -> str:
    """Return the line that says where the result of an item is, or would be; "" where that is not known."""
    path = item.report.get("output", "") if item.output is None else item.output
    return f'<p class="small">{shown(str(path))}</p>' if path else ""


def entries_of(folder: Path) -> list[str]:
    """Return what a page shows, entry by entry, as it is written; none where there is no page.

    Raises:
        OutputError: there is something else, or a page that others have changed.
    """
    check_page(folder, overwrite=True)
    index = folder / INDEX
    if not index.is_file():
        return []
    text = index.read_text(encoding="utf-8", errors="replace")
    sections = re.findall(r"<section>.*?</section>", text, re.DOTALL)
    if not sections or any(_OWN_TAG.sub("", section).count("<") for section in sections):
        raise OutputError(f"{folder} is a page of another kind, or was edited", hint="choose another folder")
    return sections


class _Media:
    """The sounds and pictures of a page, each of them there once."""

    def __init__(self, folder: Path, earlier: Iterable[str] = ()) -> None:
        self._folder, self._earlier = folder, sorted(earlier)
        self._names: dict[tuple[Path, str], str] = {}

    def recording(self, number: int, kind: str, path: Path) -> str:
        """Return the name of a copy of a recording that browsers play."""

        def write(copy: Path) -> None:
            with Recording.open(path) as recording:
                write_sound(copy, recording, recording)

        return self._once(path, "", f"{number:03}-{kind}.flac", write)

    def rhythm(self, number: int, rhythm: RhythmSource, drum_map: DrumNotes) -> str:
        """Return the name of a recording of a rhythm, played by plain made drums where it is none."""
        if not rhythm.is_midi:
            return self.recording(number, "rhythm", rhythm.path)

        def write(copy: Path) -> None:
            _write(copy, [played(read_midi(rhythm.path, drum_map=drum_map))], _RATE, 1)

        return self._once(rhythm.path, str(drum_map), f"{number:03}-rhythm.flac", write)

    def picture(self, number: int, path: Path) -> str:
        """Return the name of a copy of a picture."""
        return self._once(path, "", f"{number:03}-picture.png", lambda copy: shutil.copyfile(path, copy))

    def _once(self, path: Path, how: str, name: str, write: Callable[[Path], object]) -> str:
        key = path.absolute(), how
        if key not in self._names:
            made = self._folder / name
            write(made)
            self._names[key] = name
            for same in self._earlier:
                if filecmp.cmp(made, self._folder / same, shallow=False):
                    made.unlink()
                    self._names[key] = same
                    break
        return self._names[key]


def _write(path: Path, blocks: Iterable[Samples], sample_rate: int, n_channels: int) -> None:
    fmt = AudioFormat(sample_rate=sample_rate, n_channels=n_channels, subtype="PCM_16")
    write_audio(path, (np.clip(block, -1.0, _LOUDEST) for block in blocks), fmt)


def write_sound(path: Path, sound: Signal, source: Recording) -> None:
    """Write a recording, or a take of it, as browsers play it: FLAC, 16 bits, two channels at most."""
    n_channels = sound.n_channels if sound.n_channels <= 2 else 1
    blocks = blocks_of(sound, _BLOCK_S * sound.sample_rate)
    mixed = (block if len(block) == n_channels else source.mixed(block)[None] for block in blocks)
    _write(path, mixed, sound.sample_rate, n_channels)


def played(rhythm: Rhythm) -> Samples:
    """Return a rhythm as plain made drums play it, shape (1, T) at 44.1 kHz, nothing above full scale."""
    drums = _drums()
    out = np.zeros((1, round(rhythm.length_s * _RATE)), dtype=np.float32)
    for event in rhythm.events:
        start = round(event.onset_s * _RATE)
        sound = drums[event.drum_class][: max(0, out.shape[1] - start)]
        out[0, start : start + len(sound)] += event.velocity * sound
    return out / np.float32(max(1.0, float(np.abs(out).max(initial=0.0))))


def _drums() -> dict[str, Samples]:
    """Return a drum of each class (T,): tones that fall, and noise that decays."""
    time_s = np.arange(round(0.4 * _RATE)) / _RATE
    noise = np.random.default_rng(0).uniform(-1, 1, len(time_s))
    hiss = np.diff(noise, prepend=0.0) / 2  # without lows

    def tone(hz: float, fall_hz: float) -> np.ndarray:
        return np.sin(2 * np.pi * np.cumsum(hz + fall_hz * np.exp(-time_s / 0.02)) / _RATE)

    made = {
        "KD": 0.9 * tone(55, 120) * np.exp(-time_s / 0.09),
        "SD": (0.4 * tone(190, 60) + 0.5 * noise) * np.exp(-time_s / 0.06),
        "TT": 0.8 * tone(110, 60) * np.exp(-time_s / 0.12),
        "HH": 0.35 * hiss * np.exp(-time_s / 0.02),
        "CY": 0.35 * hiss * np.exp(-time_s / 0.15),
    }
    return {drum_class: sound.astype(np.float32) for drum_class, sound in made.items()}


def _section(number: int, item: PageItem, media: _Media) -> str:
    """Return the section of an item."""
    title = f"<h2>{number}. {shown(item.source.name)} playing {shown(item.rhythm.name)}</h2>"
    if item.output is None:
        why = shown(item.report.get("error", "not made"))
        return f"<section>{title}<p>{why}</p>{_place(item)}</section>"
    players = (
        ("source", media.recording(number, "source", item.source)),
        ("rhythm", media.rhythm(number, item.rhythm, item.drum_map)),
        ("result", media.recording(number, "result", item.output)),
    )
    figures = "".join(
        f"<figure><figcaption>{what}</figcaption>"
        f'<audio controls preload="metadata" src="{name}"></audio></figure>'
        for what, name in players
    )
    about = []
    if item.report.keys() >= _FORM:
        about += [f"{item.report['engine']}, {item.report['duration_s']:.2f} s, {form_of(item.report)}"]
    about += map(str, item.report.get("notes", ()))
    small = _place(item) + "".join(f'<p class="small">{shown(line)}</p>' for line in about)
    picture = ""
    if item.plot is not None and item.plot.is_file():
        words = "source, its hits, the rhythm and the result over time"
        picture = f'<p><img src="{media.picture(number, item.plot)}" alt="{words}" loading="lazy"></p>'
    return f"<section>{title}{figures}{small}{picture}</section>"


def document(title: str, style: str, body: str, script: str = "") -> str:
    """Return a page as a whole, in the style that all pages share; all text in its body is markup already."""
    ends = f"<script>{script}</script>\n" if script else ""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n{_MARK}\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_SHARED_STYLE}{style}</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f"{body}\n{ends}</body>\n</html>\n"
    )


def shown(text: str) -> str:
    """Return text as a page shows it: without markup, and valid UTF-8."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return html.escape(printable)
