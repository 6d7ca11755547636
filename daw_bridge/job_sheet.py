"""Job sheets: the lines of a CSV or TOML file, each of them a job of a batch."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transform.errors import SettingsError
from transform.toml import parse_toml, read_text

SHEET_ENDINGS = (".csv", ".toml")
SHEET_COLUMNS = (
    *("source", "rhythm", "start", "length", "engine", "preset", "seed", "kit_from"),
    *("group", "offset"),  # of microphones of one performance
)
_MOST_LINES = 20_000  # of a sheet

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
            reader = csv.DictReader(file, strict=True, skipinitialspace=True)
            _check_columns(sheet, reader.fieldnames or ())  # before the lines, each of which has them all
            rows: list[tuple[int, Row]] = []
            for row in reader:
                _check_length(sheet, len(rows) + 1)
                extra = {"": "more cells than columns"} if row.pop(None, None) else {}
                rows.append((reader.line_num, {k: v for k, v in row.items() if v not in (None, "")} | extra))
    except (UnicodeDecodeError, csv.Error) as err:
        raise SettingsError(f"{sheet} is no CSV file in UTF-8: {err}", hint="save it as CSV, UTF-8") from err
    return rows


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
    jobs = table.pop("job", [])
    if table or not isinstance(jobs, list) or not all(isinstance(job, dict) for job in jobs):
        what = f"has an unknown entry: {next(iter(table))[:80]}" if table else "has no tables [[job]]"
        raise SettingsError(f"{sheet} {what}", hint=hint)
    _check_length(sheet, len(jobs))
    starts = [n for n, line in enumerate(text.splitlines(), 1) if line.replace(" ", "").startswith("[[job]]")]
    if len(starts) != len(jobs):  # written as an array of inline tables
        starts = [1] * len(jobs)
    return list(zip(starts, jobs, strict=True))
