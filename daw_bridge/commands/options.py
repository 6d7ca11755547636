"""What the commands of `redrum` have in common: their options, and what the values of these stand for."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from transform.errors import SettingsError
from transform.settings import Option, RenderSettings, options_of, read_options


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


def _typer_option(about: Option, *default: Any) -> Any:
    return typer.Option(
        *default, f"--{about.name}", metavar=about.metavar, help=about.help, show_default=about.unset
    )


def rhythm_names(beginning: str) -> list[str]:
    """Return the names of rhythms that a shell offers."""
    from transform.library import list_rhythms

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
RhythmBpm = Annotated[str | None, _typer_option(options_of(RenderSettings)["rhythm_bpm"])]
Sensitivity = Annotated[list[str] | None, _typer_option(options_of(RenderSettings)["sensitivity"])]
BitDepth = Annotated[str | None, option("16|24|32|32f", "Bit depth.", "the source's")]
DrumMap = Annotated[
    str, option("auto|NAME", "Notes of a MIDI rhythm: gm, roland-td, ableton, ezdrummer, addictive.")
]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Do nothing where the result exists.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the inputs, say what would be written.")]


def sound_options(
    otherwise: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of `RenderSettings`, in the place of its keyword-only parameter `given`.

    The command is called with the fields that its user gives, by name, as `given`.

    Args:
        otherwise: by field, what this command says otherwise of its option.
    """
    options = options_of(RenderSettings)
    options |= {name: replace(options[name], **words) for name, words in (otherwise or {}).items()}
    parameters = [_parameter(name, about) for name, about in options.items()]

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def run(**arguments: Any) -> None:
            given = {name: arguments.pop(name) for name in options}
            command(**arguments, given=read_options(RenderSettings, given))

        own = inspect.signature(command).parameters.values()
        shown = [p for one in own for p in (parameters if one.name == "given" else [one])]
        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in shown}
        return run

    return with_options


def _parameter(field: str, about: Option) -> inspect.Parameter:
    """Return the parameter of a command that an option fills; None: it is not given."""
    default = _typer_option(about, None)
    return inspect.Parameter(
        field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=about.kind | None
    )


def in_session(whose_tempo: str) -> dict[str, dict[str, str]]:
    """Return what the commands that work in a DAW say otherwise of the sound options."""
    return {
        "length": {"help": "Length of each take; a shorter rhythm loops.", "unset": "source"},
        "source_bpm": {"help": "Tempo of the sources; auto estimates it.", "unset": whose_tempo},
    }


def check_choice_of_existing(overwrite: bool, skip_existing: bool) -> None:
    """Raise SettingsError where results that exist shall be both replaced and left alone."""
    if overwrite and skip_existing:
        raise SettingsError("--overwrite and --skip-existing contradict each other", hint="give one of them")


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


def check_bit_depth(bit_depth: str | None) -> None:
    """Raise SettingsError for a bit depth that no WAV file has."""
    from transform.audio import AudioFormat, resolve_output

    any_format = AudioFormat(sample_rate=44_100, n_channels=1, subtype="PCM_16")
    resolve_output(Path("any.wav"), any_format, bit_depth)
