"""The command `redrum`. Nothing but its commands prints or exits.

Results go to stdout; errors, log lines and progress bars go to stderr. Heavy modules are imported inside the
commands, so that `redrum --help` answers at once.
"""

import logging
import os
import signal
import sys
import threading
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from daw_bridge.commands.analysis import extract, separate
from daw_bridge.commands.ardour import ardour_app
from daw_bridge.commands.audition import audition
from daw_bridge.commands.batch import batch
from daw_bridge.commands.edit import edit
from daw_bridge.commands.library import presets_app, rhythms_app
from daw_bridge.commands.live import live_app
from daw_bridge.commands.options import Device, Preset, option, option_groups
from daw_bridge.commands.reaper import reaper_app
from daw_bridge.commands.render import demo, render
from daw_bridge.commands.reporting import Console, print_error, print_json, shell_word, what_failed
from daw_bridge.commands.sections import COMMANDS, LONGEST_HELP, SectionedCommand
from daw_bridge.commands.transcribe import transcribe
from daw_bridge.commands.usage import explained
from daw_bridge.devices import resolve_device
from daw_bridge.editor.worker import THREAD as RENDERER
from daw_bridge.render_job import OUT_FOLDER
from transform.errors import RedrumError, SettingsError
from transform.terminal import guard_output

_UsageError: type[Any] = typer.BadParameter.__mro__[1]  # Typer exports only this child of it
_log = logging.getLogger(__name__)
_MOST_WORDS = 16  # of a name
_NO_COMMANDS = {"help": "redrum --help", "list": "redrum rhythms list"}
BENCH_FOLDER = OUT_FOLDER / "bench"


class _Redrum(TyperGroup):
    """Turns errors into one sentence, the next step and the exit code; with --json also into an object."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        self._in_json, self._words = "--json" in args, args
        try:
            return super().parse_args(ctx, [_with_home(argument) for argument in args])
        except _UsageError as err:
            self._report(*explained(err, self._words))
            raise typer.Exit(2) from err

    def invoke(self, ctx: Any) -> Any:
        try:
            Path.cwd()  # where the folder is gone, PyTorch would end this process without a word of ours
            return super().invoke(ctx)
        except RedrumError as err:
            no_hint = f"see redrum {ctx.invoked_subcommand} --help" if err.exit_code == 2 else ""
            self._report(err.message, err.hint or no_hint)
            raise typer.Exit(err.exit_code) from err
        except KeyboardInterrupt as err:
            self._report("interrupted", "no unfinished file is left; run the same command again")
            raise typer.Exit(130) from err
        except _UsageError as err:
            self._report(*explained(err, self._words))
            raise typer.Exit(2) from err
        except BrokenPipeError:
            raise  # the reader of our output has ended
        except OSError as err:
            _log.debug("the cause", exc_info=True)
            self._report(*what_failed(err))
            raise typer.Exit(1) from err

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command that the words name; SettingsError for what newcomers write in place of one."""
        word = args[0]
        if word not in self.commands and not ctx.resilient_parsing:
            step = _NO_COMMANDS.get(word, "")
            if not step and Path(word).is_file():
                step = f"redrum render {shell_word(word)} --rhythm NAME"
            if step:
                raise SettingsError(f"{word} is no command", hint=f"write {step}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands into the formatter, section by section."""
        for title, names in COMMANDS.items():
            shown = [(name, self.commands[name].get_short_help_str(LONGEST_HELP)) for name in names]
            with formatter.section(title):
                formatter.write_dl(shown)

    def _report(self, message: str, hint: str) -> None:
        if name := _unquoted(self._words):
            message, hint = f"{name} is one name, given as several words", f'put quotes around it: "{name}"'
        print_error(message, hint)
        if self._in_json:
            print_json({"error": message, "hint": hint})


app = typer.Typer(
    cls=_Redrum,
    rich_markup_mode=None,  # plain help comes quicker, and an error stays one line
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

for command in (demo, render, audition, edit, batch, transcribe, separate, extract):
    app.command(cls=SectionedCommand)(command)
app.add_typer(rhythms_app, name="rhythms")
app.add_typer(presets_app, name="presets")
app.add_typer(reaper_app, name="reaper")
app.add_typer(live_app, name="live")
app.add_typer(ardour_app, name="ardour")


def _with_home(argument: str) -> str:
    """Return an argument with the home folder that a shell did not put in: "~/loops", or --out=~/loops."""
    name, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    is_home = value.startswith("~/") and not os.path.isdir("~")
    return f"{name}{equals}{os.path.expanduser(value)}" if is_home else argument


def _unquoted(words: list[str]) -> str:
    """Return what several words name together, of which the first names nothing; "" where none do."""
    for first, word in enumerate(words):
        if os.path.lexists(word) or word.startswith("-"):
            continue
        for last in range(first + 2, min(first + _MOST_WORDS, len(words)) + 1):
            name = " ".join(words[first:last])
            if os.path.lexists(name):
                return name
    return ""


def main() -> None:
    """Run the command `redrum`."""
    guard_output()
    _end_tidily()
    try:
        app(prog_name="redrum")
    except SystemExit as end:
        if any(thread.name == RENDERER for thread in threading.enumerate()):
            # What it computes cannot be interrupted, and PyTorch aborts where Python ends under it.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code if isinstance(end.code, int) else int(end.code is not None))
        raise


def _end_tidily() -> None:
    """Leave no unfinished file where a DAW, a time limit or a closed terminal ends this process."""
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):  # Windows has no SIGHUP, the others have no SIGBREAK
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _interrupt)


def _interrupt(number: int, frame: object) -> None:
    """Interrupt as Ctrl-C does, once: a shell and the system both signal that a terminal is closed."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _show_version(is_requested: bool) -> None:
    """Print the version and those of what results depend on, none of which is imported for it."""
    if is_requested:
        from transform.presets import DEFAULT_PRESET, load_preset

        for name, distribution in (("redrum", "latent-redrum"), ("torch", "torch")):
            try:
                typer.echo(f"{name} {version(distribution)}")
            except PackageNotFoundError:
                typer.echo(f"{name}, not installed")
        typer.echo(f"preset {DEFAULT_PRESET} {load_preset(DEFAULT_PRESET).sha256[:12]}")
        raise typer.Exit


_FIRST_STEPS = """Redrum lets a drum recording play another rhythm. Next:
  redrum demo                               hear it, on shipped loops
  redrum audition LOOP.wav                  hear it play all rhythms
  redrum render LOOP.wav --rhythm NAME      redrum a recording
  redrum edit LOOP.wav                      edit the rhythm inside it
  redrum --help                             all commands; REAPER, Live, Ardour, too"""


@app.callback(invoke_without_command=True)
def root(
    ctx: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the versions.")
    ] = False,
) -> None:
    """Redrum: let a drum recording play another rhythm."""
    if ctx.invoked_subcommand is None:
        typer.echo(_FIRST_STEPS)


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    add_help_option=False,
)
def train(ctx: typer.Context) -> None:
    """Train models on your own sounds: `redrum train kit`."""
    from training.__main__ import app as training_app

    training_app(args=ctx.args, prog_name="redrum train")


@app.command()
@option_groups()
def bench(
    data: Annotated[Path, option("PACK", "A folder that `redrum train pack` made.")] = Path("runs/pack"),
    items: Annotated[int | None, option("N", "Pairs; a tenth as many real loops play, too.", "200")] = None,
    recordings: Annotated[
        Path | None,
        option("DIR", "Annotated recordings that play each other's; with --items 0 they alone.", "none"),
    ] = None,
    out: Annotated[Path, option("DIR", "Where benchmark.json, the tables and the picture go.")] = BENCH_FOLDER,
    preset: Preset = "default",
    rows: Annotated[
        list[str] | None,
        option("NAME", "Measure only rows whose names begin so; may be repeated.", "all"),
    ] = None,
    beside: Annotated[
        str, option("NAME|DIR", "A second preset, whose codec and latent engine play too.", "none")
    ] = "",
    seed: Annotated[int | None, option("N", "Another seed is other items.", "0")] = None,
    speed: Annotated[bool, typer.Option("--speed", help="Measure only how fast it is.")] = False,
    device: Device = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Begin anew; else a stopped run goes on.")
    ] = False,
    *,
    console: Console,
) -> None:
    """Measure a preset on held-out kits, or how fast it is."""
    if speed:
        from training.bench.speed import measure_speed
        from training.bench.speed_report import write_speed

        with console.progress() as progress:
            this = (sys.executable, "-m", "daw_bridge")
            result = measure_speed(preset, redrum=this, device=resolve_device(device), progress=progress)
        written = write_speed(result, out)
    elif device != "auto":
        raise SettingsError("only the speed is measured on a device", hint="leave --device out, or add --speed")
    else:
        from training.bench.benchmark import BenchSettings, run_benchmark
        from training.bench.report import write_report

        given: dict[str, Any] = {
            "preset": preset,
            "beside": beside,
            "recordings": recordings,
            "rows": tuple(rows or ()),
        }
        if items is not None:
            given |= {"n_pairs": items, "n_loops": -(-items // 10)}
        if seed is not None:
            given["seed"] = seed
        with console.progress() as progress:
            result = run_benchmark(data, out, BenchSettings(**given), overwrite=overwrite, progress=progress)
        written = write_report(result, out)
    if console.as_json:
        for row in result["rows"]:
            print_json(row)
    elif not console.quiet:
        typer.echo(written[0].read_text(encoding="utf-8").partition("## What the columns mean")[0].rstrip())
        typer.echo(f"\nwritten: {', '.join(map(str, written))}")


@app.command()
@option_groups()
def doctor(device: Device = "auto", *, console: Console) -> None:
    """Say what works here and what does not, with its cure."""
    from daw_bridge.doctor import examine

    console.print_checks(examine(device))


if __name__ == "__main__":
    main()
