"""TOML by anybody: what it may cost to read is bounded before it is read."""

import tomllib
from pathlib import Path
from typing import Any

from transform.files import read_bytes

_MOST_BYTES = 4 * 2**20
_MOST_ENTRIES = 250_000  # values, tables and elements of arrays
_MOST_STEPS = 10_000_000  # that dotted keys may take
_DEEPEST = 64
_TOO_DEEP = f"its tables lie more than {_DEEPEST} deep in each other"
_LARGEST = 2**63  # of whole numbers, as the format has it; Python would not even print some larger ones


def read_toml(path: Path) -> dict[str, Any]:
    """Return the contents of a TOML file.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no TOML in UTF-8, or takes more work than any that somebody wrote.
    """
    return parse_toml(read_text(path))


def read_text(path: Path) -> str:
    """Return the text of a TOML file, for `parse_toml`; it raises the same."""
    text = read_bytes(path, most=_MOST_BYTES).decode("utf-8-sig")  # some editors write a mark in front
    return text.replace("\r\n", "\n").replace("\r", "\n")


def parse_toml(text: str) -> dict[str, Any]:
    """Return the contents of TOML text; ValueError as in `read_toml`."""
    _check_work(text)
    try:
        table = tomllib.loads(text)
    except RecursionError as err:
        raise ValueError(_TOO_DEEP) from err
    _check_values(table)
    return table


def _check_work(text: str) -> None:
    """Raise ValueError if text may take too long: `tomllib` visits, for each part of a key, all before it."""
    if sum(map(text.count, "=[{,")) > _MOST_ENTRIES:
        raise ValueError(f"it has more than {_MOST_ENTRIES:,} entries")
    n_steps = n_parts_of_header = 0
    for line in text.split("\n"):  # a key is on one line, and may have all parts of its header before its own
        n_parts = line.count(".") + 1
        if line.lstrip().startswith("["):
            n_parts_of_header = max(n_parts_of_header, n_parts)
        n_steps += n_parts * (n_parts + n_parts_of_header)
        if n_steps > _MOST_STEPS:
            raise ValueError("its keys have too many parts")


def _check_values(value: object, depth: int = 0) -> None:
    """Raise ValueError if tables and arrays lie too deep in each other, or a whole number is too large."""
    if depth > _DEEPEST:
        raise ValueError(_TOO_DEEP)
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _check_values(inner, depth + 1)
    elif isinstance(value, int) and not -_LARGEST <= value < _LARGEST:
        raise ValueError("it has a whole number of more than 64 bits")
