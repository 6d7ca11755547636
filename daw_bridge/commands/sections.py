"""The help of commands with many options: those that most users need first, the others in sections."""

from typing import Any

from typer.core import TyperCommand, TyperGroup

# The commands of `redrum` by section, in order.
COMMANDS = {
    "Recordings": ("demo", "render", "audition", "edit", "batch"),
    "Rhythms and kits": ("rhythms", "transcribe", "separate", "extract"),
    "DAWs": ("reaper", "live", "ardour"),
    "Models": ("presets", "train", "bench"),
    "This machine": ("doctor",),
}

# Of a command, the names of parameters by section, in order; what is in none comes first, as "Options".
SECTIONS = {
    "Rhythm": (
        *("align", "rhythm_bpm", "start_s", "start_bar", "timing", "velocity", "sensitivity"),
        *("drum_map", "channel", "transpose"),
    ),
    "Sound": (
        *("preset", "engine", "balance", "missing", "kit_from", "kit_from_track", "tune_toms", "mix"),
        *("seed", "variation", "attack"),
    ),
    "Microphones and projects": (*("together", "listen_to", "offset", "tracks", "chosen", "per_item"),),
    "More files": ("edits", "midi", "plot", "page", "bit_depth", "name", "follow_links"),
    "How it runs": (
        *("device", "threads", "jobs", "keep_going", "scheduler"),
        *("skip_existing", "dry_run", "as_json", "quiet", "verbose", "help"),
    ),
}
_SECTION_OF = {name: section for section, names in SECTIONS.items() for name in names}
LONGEST_HELP = 100  # characters of a line on a command
_FEW = 12  # options that need no sections


class WideGroup(TyperGroup):
    """A group of commands whose help has a whole line for each."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the commands into the formatter."""
        with formatter.section("Commands"):
            commands = {name: self.commands[name] for name in self.list_commands(ctx)}
            formatter.write_dl(
                [
                    (name, own.get_short_help_str(LONGEST_HELP))
                    for name, own in commands.items()
                    if not own.hidden
                ]
            )


class SectionedCommand(TyperCommand):
    """A command whose help has its options in sections, where they are many."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options into the formatter, section by section."""
        shown = [(p, record) for p in self.get_params(ctx) if (record := p.get_help_record(ctx)) is not None]
        options = [(p, record) for p, record in shown if p.param_type_name == "option"]
        if len(options) <= _FEW:
            super().format_options(ctx, formatter)
            return
        sections: dict[str, list[Any]] = {"Arguments": [], "Options": []} | {name: [] for name in SECTIONS}
        for parameter, record in shown:
            is_option = parameter.param_type_name == "option"
            name = _SECTION_OF.get(parameter.name or "", "Options") if is_option else "Arguments"
            sections[name].append(record)
        for name, records in sections.items():
            if records:
                with formatter.section(name):
                    formatter.write_dl(records)
