"""What Typer says of a command that is written otherwise than it takes it: one sentence, and the next step."""

from typing import Any

from daw_bridge.commands.reporting import shell_word

_OTHER_WORDS = {"--tempo": "--bpm", "--kit": "--kit-from", "--style": "--rhythm", "--dir": "--out"}


def explained(err: Any, words: list[str]) -> tuple[str, str]:
    """Return what is wrong with the words of a command line, and the next step.

    Args:
        err: a UsageError of Typer.
        words: all that was written.
    """
    command = err.ctx.command_path if err.ctx else "redrum"
    see = f"see {command} --help"
    if type(err).__name__ == "NoSuchOption":
        return _unknown(err, words, see)
    if type(err).__name__ == "MissingParameter" and err.param is not None:
        arguments = [_shown(p) for p in err.ctx.command.params if p.param_type_name == "argument"]
        return f"{_shown(err.param)} is missing", f"write {' '.join([command, *arguments])}; {see}"
    sentence = err.format_message().rstrip(".")
    if sentence.startswith("Got unexpected extra argument"):
        extra = sentence.partition("(")[2].rstrip(")")
        return f"{extra} is more than {command} takes", f"a name with spaces needs quotes; {see}"
    sentence = sentence.removeprefix("Invalid value for ").removeprefix("Invalid value: ")
    return sentence[:1].lower() + sentence[1:], see


def _shown(parameter: Any) -> str:
    """Return a parameter as a usage line has it."""
    if parameter.param_type_name == "option":
        return str(parameter.opts[0])
    name = parameter.metavar or parameter.name.upper()
    return name if parameter.required else f"[{name.strip('[]')}]"


def _unknown(err: Any, words: list[str], see: str) -> tuple[str, str]:
    """Return the same for an option that there is none of."""
    name = err.option_name
    known = {option for parameter in err.cmd.params for option in parameter.opts} if err.cmd else set()
    at = words.index(name) if name in words else 0
    if name[1:2].isdigit() and at and not words[at - 1].startswith("-"):
        joined = shell_word(f"{words[at - 1]}={name}")
        return f"{name} is no option", f"write the number after an equals sign: {joined}"
    if _OTHER_WORDS.get(name) in known:
        return f"there is no option {name}", f"did you mean {_OTHER_WORDS[name]}?"
    if err.possibilities:
        return f"there is no option {name}", f"did you mean {' or '.join(sorted(err.possibilities))}?"
    return f"there is no option {name}", see
