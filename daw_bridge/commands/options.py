"""What the commands of `redrum` have in common: their options, and what the values of these stand for."""

import inspect
import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import transform
from daw_bridge.devices import check_device_name, set_up_device
from transform.errors import ExistsError, SettingsError
from transform.options import Option, classes, options_of, read_options
from transform.settings import RenderSettings

if TYPE_CHECKING:
    from transform.drum_maps import DrumNotes
    from transform.engine import Redrummer

_log = logging.getLogger(__name__)


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
        default: what happens without it, in words.
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
Plot = Annotated[Path | None, option("OUT.png", "Also draw what was detected and made.", False)]
Page = Annotated[
    Path | None,
    option("DIR", "Also make a page to listen to, in a folder of its own; it has --plot's pictures.", False),
]
Stems = Annotated[
    Path | None,
    option("DIR", "Also write each drum to a file: NAME_KD.wav, ..., that add up to the result.", False),
]
Midi = Annotated[
    Path | None,
    option("OUT.mid", "Also write the rhythm as it is played: its drums, times, velocities.", False),
]
WithTrack = Annotated[
    bool, typer.Option("--kit-from-track", help="Also play hits of the other chosen items of an item's track.")
]
WithStems = Annotated[bool, typer.Option("--stems", help="Also each drum by itself: five stems that add up.")]
WithMidi = Annotated[bool, typer.Option("--midi", help="Also the rhythm as it is played, as MIDI.")]
SourceBpm = Annotated[str | None, _typer_option(options_of(RenderSettings)["source_bpm"])]
Sensitivity = Annotated[list[str] | None, _typer_option(options_of(RenderSettings)["sensitivity"])]
BitDepth = Annotated[str | None, option("16|24|32|32f", "Bit depth.", "the source's")]
DrumMap = Annotated[
    str,
    option(
        "auto|NAME|FILE",
        "Notes of a MIDI rhythm: gm, roland-td, ableton, ezdrummer, addictive, or a .toml of your own.",
    ),
]
Channel = Annotated[
    str | None, option("N,N", "Channels of a MIDI rhythm that are drums, 1 to 16.", "found from its notes")
]
Transpose = Annotated[
    int, typer.Option(metavar="N", help="Move the notes of a MIDI rhythm by semitones before they are read.")
]
SkipExisting = Annotated[bool, typer.Option("--skip-existing", help="Do nothing where the result exists.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check the inputs, say what would be written.")]


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where the models run, and with how many threads."""

    device: Device = "auto"
    threads: Threads = None

    def __post_init__(self) -> None:
        check_device_name(self.device)

    def set_up(self) -> str:
        """Let the models compute as requested, and return the device."""
        return set_up_device(self.device, self.threads)

    def load(self, preset: str = "default") -> "Redrummer":
        """Return the models of a preset."""
        return transform.Redrummer.load(preset, device=self.set_up())


@dataclass(frozen=True, kw_only=True)
class TakeForm:
    """The bit depth of takes, and how MIDI rhythms are read."""

    bit_depth: BitDepth = None
    drum_map: DrumMap = "auto"
    channel: Channel = None
    transpose: Transpose = 0

    def __post_init__(self) -> None:
        check_bit_depth(self.bit_depth)
        _ = self.drum_notes

    @cached_property
    def drum_notes(self) -> "DrumNotes":
        """Which notes of MIDI rhythms are drums."""
        from transform.drum_maps import DrumNotes

        return DrumNotes.of(self.drum_map, self.channel, self.transpose)


@dataclass(frozen=True, kw_only=True)
class InProject:
    """How takes lie in a DAW's project, and what lends them hits there."""

    start_bar: Annotated[
        int | None,
        option("N", "The project's bar, from 1, that bar 1 of the rhythm is on.", "in which a take begins"),
    ] = None
    per_item: Annotated[
        bool,
        typer.Option("--per-item", help="Cut a take of items that follow one another where these begin."),
    ] = False
    kit_from_track: WithTrack = False
    together: Annotated[
        bool | None,
        typer.Option(
            "--together/--apart",
            help="Items that overlap in time are microphones of one kit, or not; of recordings, each folder's.",
            show_default="items that are grouped, in one folder, or on tracks called kick, snare, ...",
        ),
    ] = None

    def check_unused(self) -> None:
        """Raise SettingsError for options that mean something in a project only."""
        given = {"--start-bar": self.start_bar is not None, "--per-item": self.per_item}
        given["--kit-from-track"] = self.kit_from_track
        if name := next((name for name, is_given in given.items() if is_given), ""):
            hint = "name recordings with --kit-from" if self.kit_from_track else "leave it out"
            raise SettingsError(f"{name} is for projects", hint=hint)


@dataclass(frozen=True, kw_only=True)
class Existing:
    """What happens to results that exist already; without either, they are an error."""

    overwrite: Overwrite = False
    skip_existing: SkipExisting = False

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise SettingsError(
                "--overwrite and --skip-existing contradict each other", hint="give one of them"
            )


def option_groups(
    otherwise: Mapping[str, Mapping[str, Any] | None] | None = None,
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a command take groups of options, each in one parameter.

    A parameter whose type is a dataclass stands for the options that are its fields. One called `given` stands
    for the options of `RenderSettings`; it gets the fields that the user gives, by name.

    Args:
        otherwise: by field of `RenderSettings`, how this command describes its option otherwise; None: it has
            none.
    """
    changes = otherwise or {}
    sound = {
        name: replace(about, **(changes.get(name) or {}))
        for name, about in options_of(RenderSettings).items()
        if changes.get(name, {}) is not None
    }

    def with_groups(command: Callable[..., None]) -> Callable[..., None]:
        own = inspect.signature(command).parameters
        groups: dict[str, Any] = {name: p.annotation for name, p in own.items() if is_dataclass(p.annotation)}

        @wraps(command)
        def run(**arguments: Any) -> None:
            for name, group in groups.items():
                arguments[name] = group(**{field.name: arguments.pop(field.name) for field in fields(group)})
            if "given" in own:
                given = {name: arguments.pop(name) for name in sound}
                _say_unit(given.get("length"))
                arguments["given"] = read_options(RenderSettings, given)
            try:
                command(**arguments)
            except ExistsError as err:
                err.hint = hint_on_existing(err.path, names, arguments)
                raise

        shown = list(_shown_parameters(own, sound))
        names = [p.name for p in shown]
        run.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in shown}
        return run

    return with_groups


def _say_unit(length: str | None) -> None:
    """Warn of a length that is a number alone, which musicians may mean as bars."""
    if length and length.strip().isdigit() and int(length):
        _log.warning("--length %s is seconds; for bars write --length %sbars", length, length)


def hint_on_existing(path: Path, names: Collection[str], given: Mapping[str, Any]) -> str:
    """Return the next step where something lies in the place of a result.

    Args:
        path: what lies there.
        names: the parameters of the command.
        given: the values of them.
    """
    with_option = next((f" with --{name}" for name in ("plot", "midi") if given.get(name) == path), "")
    if not with_option and "out" in names:
        with_option = " with -o"
    steps = [f"choose another name{with_option}"]
    steps += ["replace it with --overwrite"] if "overwrite" in names else []
    steps += ["leave it with --skip-existing"] if "skip_existing" in names else []
    return " or ".join([", ".join(steps[:-1]), steps[-1]] if steps[1:] else steps)


def _shown_parameters(
    own: Mapping[str, inspect.Parameter], sound: Mapping[str, Option]
) -> Iterator[inspect.Parameter]:
    """Yield the parameters of a command as Typer sees them: one for each option, also of the groups."""

    def shown(name: str, kind: Any, default: Any) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)

    for name, parameter in own.items():
        if name == "given":
            for field_name, about in sound.items():
                yield shown(field_name, about.kind | None, _typer_option(about, None))
        elif is_dataclass(parameter.annotation):
            for field in fields(parameter.annotation):
                yield shown(field.name, field.type, field.default)
        else:
            yield shown(name, parameter.annotation, parameter.default)


def in_session(whose_tempo: str) -> dict[str, dict[str, str] | None]:
    """Return how the commands that work in a DAW describe sound options otherwise."""
    return {
        "length": {"help": "Length of each take; a shorter rhythm loops.", "unset": "source"},
        "source_bpm": {"help": "Tempo of the sources; auto estimates it.", "unset": whose_tempo},
        "bpm": None,  # it is the project's
    }


def class_list(text: str | None) -> tuple[str, ...]:
    """Return the classes that an option names, in their usual order; all without it."""
    from transform.events import CLASSES

    named = CLASSES if text is None else classes("--classes", text)
    return tuple(drum_class for drum_class in CLASSES if drum_class in named)


def check_bit_depth(bit_depth: str | None) -> None:
    """Raise SettingsError for a bit depth that no WAV file has."""
    from transform.audio import AudioFormat, resolve_output

    any_format = AudioFormat(sample_rate=44_100, n_channels=1, subtype="PCM_16")
    resolve_output(Path("any.wav"), any_format, bit_depth)
