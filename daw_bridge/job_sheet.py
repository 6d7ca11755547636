"""Job sheets: the lines of a CSV or TOML file, each of them a job of a batch."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from transform.errors import SettingsError
from transform.toml import parse_toml, read_text

SHEET_ENDINGS = (".csv", ".toml")
SHEET_COLUMNS = (
    *("source", "rhythm", "start", "length", "engine", "preset", "seed", "kit_from"),
    *("group", "offset"),  # of microphones of one performance
)
_NUMBERS = ("start", "length", "seed", "offset")
_SEPARATORS = (",", ";", "\t")
_MOST_LINES = 20_000  # of a sheet
_LONGEST_HEAD = 2**16  # characters

Row = Mapping[str, Any]  # entries of a line by column


def read_sheet(sheet: Path) -> list[tuple[int, Row]]:
    """Return the lines of a job sheet with their numbers; what stands in them is not checked yet.

    Raises:
        SettingsError: the file cannot be read, is no sheet, or too long.
    """
    try:
        return _csv_rows(sheet) if sheet.suffix.lower() == ".csv" else _toml_rows(sheet)
    except OSError as err:
        raise SettingsError(
            f"{sheet} cannot be read: {err.strerror or err}", hint="check its permissions"
        ) from err


def number_of(row: Row, name: str) -> float:
    """Return an entry as a number.

    Raises:
        SettingsError: it is none.
    """
    try:
        value = math.nan if isinstance(row[name], bool) else float(row[name])
        if math.isfinite(value):
            return value
        cause = None
    except (TypeError, ValueError, OverflowError) as err:
        cause = err
    raise SettingsError(f"{name} is {str(row[name])[:40]!r}, which is no number") from cause


def _csv_rows(sheet: Path) -> list[tuple[int, Row]]:
    try:
        with sheet.open(encoding="utf-8-sig", newline="") as file:
            separator, n_before = _separator(file)
            reader = csv.DictReader(file, strict=True, skipinitialspace=True, delimiter=separator)
            columns = [_column(name) for name in reader.fieldnames or ()]
            while columns and not columns[-1]:  # spreadsheets write empty columns and lines
                columns.pop()
            reader.fieldnames = columns
            _check_columns(sheet, reader.fieldnames)  # before the lines, each of which has them all
            rows: list[tuple[int, Row]] = []
            for row in reader:
                _check_length(sheet, len(rows) + 1)
                extra = {"": "more cells than columns"} if any(map(str.strip, row.pop(None, ()))) else {}
                cells = {k: _cell(k, v, separator) for k, v in row.items() if v and v.strip()}
                if cells or extra:
                    rows.append((reader.line_num + n_before, cells | extra))
    except (UnicodeDecodeError, csv.Error) as err:
        raise SettingsError(f"{sheet} is no CSV file in UTF-8: {err}", hint="save it as CSV, UTF-8") from err
    return rows


def _separator(file: TextIO) -> tuple[str, int]:
    """Return what stands between the cells of a sheet, and how many lines do nothing but say so.

    Spreadsheets write semicolons where numbers have commas, and tabs; some say so in a line like "sep=;".
    """
    head = file.readline(_LONGEST_HEAD)
    if head.lower().startswith("sep=") and len(head.strip()) == len("sep=;"):
        return head.strip()[-1], 1
    file.seek(0)
    return max(_SEPARATORS, key=head.count), 0  # the first of equals


def _column(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _cell(column: str, text: str, separator: str) -> str:
    """Return a cell; where commas do not separate cells, they may be those of numbers."""
    return text.replace(",", ".") if column in _NUMBERS and separator != "," else text


def _check_length(sheet: Path, n_lines: int) -> None:
    if n_lines > _MOST_LINES:
        raise SettingsError(f"{sheet} has more than {_MOST_LINES:,} lines", hint="make several sheets of it")


def _check_columns(sheet: Path, columns: Sequence[str]) -> None:
    """Raise SettingsError unless a sheet has the columns that it needs, and each that it may have once."""
    if missing := [name for name in ("source", "rhythm") if name not in columns]:
        raise SettingsError(
            f"{sheet} has no column {' and no column '.join(missing)}",
            hint=f"its first line names the columns: {', '.join(SHEET_COLUMNS)}",
        )
    if unknown := sorted(set(columns) - set(SHEET_COLUMNS)):
        raise SettingsError(
            f"{sheet} has an unknown column: {', '.join(unknown)[:200]}",
            hint=f"known: {', '.join(SHEET_COLUMNS)}",
        )
    if len(columns) > len(set(columns)):
        raise SettingsError(f"{sheet} has a column twice", hint="leave one of them out")


def _toml_rows(sheet: Path) -> list[tuple[int, Row]]:
    hint = "it holds tables [[job]] with source, rhythm and other entries of each job"
    try:
        text = read_text(sheet)
        table = parse_toml(text)
    except ValueError as err:
        raise SettingsError(f"{sheet} is no TOML file: {err}", hint=hint) from err
    key = next((name for name in table if name.lower() == "job"), "job")
    jobs = table.pop(key, [])
    if table or not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        what = f"has an unknown entry: {next(iter(table))[:80]}" if table else "has no tables [[job]]"
        raise SettingsError(f"{sheet} {what}", hint=hint)
    _check_length(sheet, len(jobs))
    jobs = [{_column(name): value for name, value in job.items()} for job in jobs]
    starts = [
        n for n, line in enumerate(text.splitlines(), 1) if line.replace(" ", "").lower().startswith("[[job]]")
    ]
    if len(starts) != len(jobs):  # written as an array of inline tables
        starts = [1] * len(jobs)
    return list(zip(starts, jobs, strict=True))
