"""What the commands of `redrum` have in common: their options, and what the values of these stand for."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from transform.errors import DeviceError, SettingsError


def option(
    metavar: str,
    text: str,
    default: str | bool = True,
    *names: str,
    complete: Callable[[str], list[str]] | None = None,
) -> Any:
    """Return an option with a value.

    Args:
        metavar: what the value is.
        text: what it does.
        default: says in words what happens without it.
        names: of the option, where they are not the parameter's.
        complete: the values that a shell offers for the beginning of one.
    """
    return typer.Option(*names, metavar=metavar, help=text, show_default=default, autocompletion=complete)


def rhythm_names(beginning: str) -> list[str]:
    """Return the names of rhythms that a shell offers."""
    from transform.presets import list_rhythms

    return [rhythm.name for rhythm in list_rhythms() if rhythm.name.startswith(beginning)]


def preset_names(beginning: str) -> list[str]:
    """Return the names of presets that a shell offers."""
    from transform.presets import list_presets

    return [name for name in list_presets() if name.startswith(beginning)]


Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print what is done and why.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace results that exist.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON Lines instead of text.")]
Preset = Annotated[str, option("NAME|DIR", "The trained models to use.", complete=preset_names)]
Device = Annotated[str, option("auto|cpu|cuda|mps", "Where the models run.")]
Threads = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Threads of the processor that compute.", show_default="all cores but one"
    ),
]
Plot = Annotated[Path | None, option("OUT.png", "Also draw what was heard and made.", False)]
Page = Annotated[
    Path | None,
    option("DIR", "Also make a page to listen to, in a folder of its own; it has --plot's pictures.", False),
]
Engine = Annotated[
    str | None, option("resequence|latent", "Replay the source's hits, or let a network play.", "resequence")
]
Length = Annotated[
    str | None, option("source|rhythm|SECONDS", "Length of the result; a shorter rhythm loops.", "rhythm")
]
Align = Annotated[
    str | None,
    option("auto|seconds|beats", "auto: in beats where both tempi are known, else in seconds.", "auto"),
]
SourceBpm = Annotated[
    str | None, option("N|auto", "Tempo of the source; auto estimates it.", "from its tag or name")
]
RhythmBpm = Annotated[
    str | None, option("N|auto", "Tempo of the rhythm; auto estimates it.", "from MIDI, its tag or name")
]
Start = Annotated[float | None, option("SECONDS", "Where in the rhythm to begin.", "0")]
Classes = Annotated[str | None, option("KD,SD", "Redrum only these; the source's other stems play on.", "all")]
Gain = Annotated[list[str] | None, option("CLASS=DB", "Louder or softer, such as HH=-6; may be repeated.")]
Mix = Annotated[float | None, option("0..1", "1: the result alone, 0: the source alone.", "1")]
Timing = Annotated[float | None, option("0..1", "0: on the grid, 1: as played.", "1")]
Velocity = Annotated[
    str | None, option("rhythm|source|0..1", "Whose dynamics, or one velocity for all.", "rhythm")
]
Tail = Annotated[
    str | None, option("cut|ring|wrap", "Last hits: end with the result, ring on, or go round a loop.", "cut")
]
Seed = Annotated[
    int | None, option("N", "The same seed gives the same bytes, on one machine with equal --threads.", "0")
]
Variation = Annotated[float | None, option("0..10", "How far the latent engine varies the sound.", "0")]
Attack = Annotated[
    str | None,
    option("original|none", "Whether the source's own hits begin the latent engine's strokes.", "original"),
]
BitDepth = Annotated[str | None, option("16|24|32|32f", "Bit depth.", "the source's")]
DrumMap = Annotated[
    str, option("auto|NAME", "Notes of a MIDI rhythm: gm, roland-td, ableton, ezdrummer, addictive.")
]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Do nothing where the result exists.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the inputs, say what would be written.")]


def given_settings(**texts: Any) -> dict[str, Any]:
    """Return the fields of RenderSettings that options give, by name; those not given keep their defaults.

    Raises:
        SettingsError: a value is no word that its option knows and no number.
    """
    words = {
        "length": ("source", "rhythm"),
        "source_bpm": ("auto",),
        "rhythm_bpm": ("auto",),
        "velocity": ("rhythm", "source"),
    }
    given = {name: value for name, value in texts.items() if value is not None}
    for name in words.keys() & given.keys():
        given[name] = _word_or_number(f"--{name.replace('_', '-')}", given[name], words[name])
    if "classes" in given:
        given["classes"] = tuple(name.strip().upper() for name in given["classes"].split(","))
    if "gain_db" in given:
        given["gain_db"] = dict(map(_class_gain, given["gain_db"]))
    return given


def check_choice_of_existing(overwrite: bool, skip_existing: bool) -> None:
    """Raise SettingsError where results that exist shall be both replaced and left alone."""
    if overwrite and skip_existing:
        raise SettingsError("--overwrite and --skip-existing contradict each other", hint="give one of them")


def _word_or_number(option: str, text: str, words: tuple[str, ...]) -> str | float:
    if text in words:
        return text
    try:
        return float(text)
    except ValueError as err:
        known = " or ".join([*words, "a number"])
        raise SettingsError(
            f"{option} is {text!r}; it must be {known}", hint="see redrum render --help"
        ) from err


def class_list(text: str | None) -> tuple[str, ...]:
    """Return the classes that an option names, in their usual order; all without it."""
    from transform.events import CLASSES

    if text is None:
        return CLASSES
    names = [name.strip().upper() for name in text.split(",")]
    for name in names:
        if name not in CLASSES:
            raise SettingsError(f"{name!r} is no drum class", hint=f"classes: {', '.join(CLASSES)}")
    return tuple(drum_class for drum_class in CLASSES if drum_class in names)


def _class_gain(text: str) -> tuple[str, float]:
    name, _, gain = text.partition("=")
    try:
        return name.strip().upper(), float(gain)
    except ValueError as err:
        raise SettingsError(
            f"--gain is {text!r}; it must be CLASS=DB", hint="for example --gain HH=-6"
        ) from err


def check_bit_depth(bit_depth: str | None) -> None:
    """Raise SettingsError for a bit depth that no WAV file has."""
    from transform.audio import AudioFormat, resolve_output

    any_format = AudioFormat(sample_rate=44_100, n_channels=1, subtype="PCM_16")
    resolve_output(Path("any.wav"), any_format, bit_depth)


def check_ending(path: Path | None, endings: tuple[str, ...]) -> None:
    """Raise SettingsError for a path that ends otherwise."""
    if path is not None and path.suffix.lower() not in endings:
        raise SettingsError(f"the name of {path} must end in {' or '.join(endings)}", hint=f"add {endings[0]}")


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def default_threads() -> int:
    """Return how many threads compute unless it is said: one core is left to a DAW, where there are several."""
    return max(1, n_cores() - 1)


def set_up_device(name: str, threads: int | None) -> str:
    """Let the models compute with so many threads, and return the device that a name stands for.

    Without a number it is that of $OMP_NUM_THREADS, else `default_threads`.
    """
    device = resolve_device(name)

    import torch

    if threads or "OMP_NUM_THREADS" not in os.environ:  # which PyTorch has followed already
        torch.set_num_threads(threads or default_threads())
    with suppress(RuntimeError):  # it was set before in this process
        torch.set_num_interop_threads(1)  # nothing here works on two things at once
    return device


def resolve_device(name: str) -> str:
    """Return the device that a name stands for, after checking that it is there."""
    if name not in ("auto", "cpu", "cuda", "mps"):
        raise SettingsError(f"--device is {name!r}", hint="the devices are auto, cpu, cuda and mps")
    if name == "cpu":
        return name
    import torch

    if name == "auto":  # never mps: these models have not been run there
        return "cuda" if torch.cuda.is_available() else "cpu"
    is_there = torch.cuda.is_available() if name == "cuda" else torch.backends.mps.is_available()
    if not is_there:
        raise DeviceError(f"PyTorch finds no {name} device on this machine", hint="use --device auto")
    return name
