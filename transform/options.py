"""How fields of settings are given as text: their options, and what the words and numbers of these stand for.

Text is taken as musicians write it: `70%`, `-6 dB`, `120,5`, `kick`. Nothing heavy is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from transform.errors import SettingsError

_NUMBER = re.compile(r"([+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+))\s*([a-z%]*)", re.IGNORECASE)
_BEFORE_NAME = re.compile(r"[,;]\s*(?=[A-Za-z])|\s+(?=[A-Za-z]+\s*[=:])")  # not the comma of 6,5
_NAMES = {
    "KD": ("kick", "bassdrum", "bd"),
    "SD": ("snare",),
    "TT": ("tom",),
    "HH": ("hat", "hihat"),
    "CY": ("cymbal", "crash", "ride"),
}


@dataclass(frozen=True, kw_only=True)
class Option:
    """How a field of settings is given as text."""

    metavar: str  # what its value is
    help: str
    unset: str | bool = True  # what happens without it, in words
    name: str = ""  # without the dashes; "": the field's own
    kind: Any = str  # what a command line makes of the text before it is read
    read: Callable[[str, Any], Any] = lambda name, value: value  # returns the field's value


def option(metavar: str, help: str, unset: str | bool = True, **more: Any) -> dict[str, Option]:
    """Return the metadata of a field that has an option; the arguments are the fields of `Option`."""
    return {"option": Option(metavar=metavar, help=help, unset=unset, **more)}


def options_of(settings: type) -> dict[str, Option]:
    """Return the options of a dataclass of settings, by field."""
    found = {f.name: f.metadata["option"] for f in fields(settings) if "option" in f.metadata}
    return {name: replace(option, name=option.name or name.replace("_", "-")) for name, option in found.items()}


def read_options(settings: type, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that options give, by name; those not given keep their defaults.

    Args:
        settings: a dataclass of settings.
        given: values by field, as a command line passes them on; None: not given.

    Raises:
        SettingsError: a value is no word of its option and no number.
    """
    options = options_of(settings)
    return {
        name: options[name].read(f"--{options[name].name}", value)
        for name, value in given.items()
        if value is not None
    }


def write_options(settings: type, given: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line that give these fields: what `read_options` reads.

    Args:
        settings: a dataclass of settings.
        given: values by field.
    """
    options = options_of(settings)
    words = []
    for name, value in given.items():
        if isinstance(value, Mapping):
            texts = [f"{key}={amount}" for key, amount in value.items()]
        elif isinstance(value, tuple):
            texts = [*value] if options[name].kind == list[str] else [",".join(value)]
        elif isinstance(value, bool):
            texts = ["on" if value else "off"]
        else:
            texts = [str(value)]
        words += [f"--{options[name].name}={text}" for text in texts]
    return words


def number_of(text: str, *units: str) -> float:
    """Return the number that a text is, whose decimals may follow a comma, and whose unit may be written.

    Args:
        text: such as "-6", "-6 dB" or "120,5".
        units: in lower case, that may follow; "%" stands for hundredths.

    Raises:
        ValueError: it is no such number.
    """
    found = _NUMBER.fullmatch(text.strip())
    if found is None or (found[2] and found[2].lower() not in units):
        raise ValueError(f"{text!r} is no number")
    return float(found[1].replace(",", ".")) / (100.0 if found[2] == "%" else 1.0)


def number(*units: str, words: tuple[str, ...] = (), example: float = 1) -> Callable[[str, str], str | float]:
    """Return what reads a number that may have one of these units, or one of these words.

    Args:
        units: as `number_of` has them.
        words: what may be given instead.
        example: a usual number, which an error shows.
    """

    def read(name: str, text: str) -> str | float:
        if text.strip().lower() in words:
            return text.strip().lower()
        try:
            return number_of(text, *units)
        except ValueError as err:
            known = " or ".join([*words, "a number"])
            raise SettingsError(
                f"{name} is {text!r}; it must be {known}", hint=f"for example {name} {example:g}"
            ) from err

    return read


def bars_of(text: str) -> float | None:
    """Return how many bars a text such as "4bars" is; None where it is none."""
    if "bar" not in text.lower():
        return None
    try:
        return number_of(text, "bar", "bars")
    except ValueError:
        return None


def length_of(name: str, text: str) -> str | float:
    """Return a length: one of the words that stand for one, bars as "4bars", or seconds."""
    word = text.strip().lower()
    n_bars = bars_of(word)
    if n_bars is not None:
        return f"{n_bars:g}bars"
    if word in ("source", "rhythm"):
        return word
    try:
        return number_of(word, "s", "sec", "seconds")
    except ValueError as err:
        raise SettingsError(
            f"{name} is {text!r}; it must be source, rhythm, bars or seconds", hint=f"for example {name} 4bars"
        ) from err


def word_of(name: str, text: str) -> str:
    """Return a word as settings have it."""
    return text.strip().lower()


def is_on(name: str, text: str) -> bool:
    """Return whether a switch is on.

    Raises:
        SettingsError: it is neither on nor off.
    """
    word = text.strip().lower()
    if word not in ("on", "off"):
        raise SettingsError(f"{name} is {text!r}; it must be on or off", hint=f"for example {name} on")
    return word == "on"


def drum_class(text: str) -> str:
    """Return the class that a text names, by its two letters or as drummers call it.

    Raises:
        SettingsError: it names none.
    """
    letters = re.sub(r"[\s_-]", "", text)
    if letters.upper() in _NAMES:
        return letters.upper()
    singular = letters.lower().removesuffix("s")
    for name, called in _NAMES.items():
        if singular in called:
            return name
    shown = ", ".join(f"{name} ({called[0]})" for name, called in _NAMES.items())
    raise SettingsError(f"{text.strip()!r} is no drum class", hint=f"classes: {shown}")


def classes(name: str, text: str) -> tuple[str, ...]:
    """Return the classes that a text lists, with commas between them."""
    return tuple(drum_class(part) for part in text.split(","))


def by_class(metavar: str, example: str, *units: str) -> Callable[[str, list[str]], dict[str, float]]:
    """Return what reads a number for each class, as CLASS=NUMBER."""

    def read(name: str, texts: list[str]) -> dict[str, float]:
        found = {}
        for text in (part for given in texts for part in _BEFORE_NAME.split(given)):
            called, _, amount = text.replace(":", "=", 1).partition("=")
            try:
                value = number_of(amount, *units)
            except ValueError as err:
                raise SettingsError(
                    f"{name} is {text!r}; it must be CLASS={metavar}", hint=f"for example {name} {example}"
                ) from err
            found[drum_class(called)] = value
        return found

    return read
