"""Recordings that come from standard input, and results that go to standard output: the path `-`."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from daw_bridge.commands.reporting import Console
from transform.errors import AudioError, OutputError, SettingsError
from transform.layout import STREAM as STREAM
from transform.names import existing_path
from transform.terminal import unguarded

_NAME = "stdin"  # of a recording that has none
_MOST_BYTES = 8 * 2**30
_BLOCK_BYTES = 2**20


def check_streams(inputs: list[str], output: str | None, *, as_json: bool) -> None:
    """Raise SettingsError where one stream would have to be two things."""
    if inputs.count(STREAM) > 1:
        raise SettingsError("standard input can be one thing only", hint="name a file for the others")
    if is_stream(output) and as_json:
        raise SettingsError(
            "standard output cannot be the result and --json, too", hint="leave out --json, or name a file"
        )


def is_stream(output: str | None) -> bool:
    """Return whether a result goes to standard output."""
    return output == STREAM


def input_path(text: str, files: ExitStack) -> Path:
    """Return the file that an argument names; standard input is stored in one that goes with `files`.

    Raises:
        AudioError: nothing comes from standard input, or too much.
    """
    if text != STREAM:
        return existing_path(Path(text))
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.isatty():
        raise AudioError(
            "nothing comes from standard input", hint="pipe a recording in, as in: redrum render - < loop.wav"
        )
    path = Path(files.enter_context(TemporaryDirectory(prefix="redrum-"))) / _NAME
    n_bytes = 0
    with path.open("wb") as file:
        while block := stream.read(_BLOCK_BYTES):
            n_bytes += len(block)
            if n_bytes > _MOST_BYTES:
                raise AudioError(
                    f"more than {_MOST_BYTES // 2**30} GB come from standard input", hint="name a file instead"
                )
            file.write(block)
    if n_bytes == 0:
        raise AudioError("standard input ends at once", hint="look at what should write the recording")
    return path


@contextmanager
def output_path(ending: str, console: Console) -> Iterator[tuple[str, Console]]:
    """Yield the file that a result is written to, and how to report; at the end it goes to standard output.

    Raises:
        OutputError: standard output cannot take it.
    """
    with TemporaryDirectory(prefix="redrum-") as folder:
        result = Path(folder) / f"stdout{ending}"
        yield str(result), replace(console, quiet=True, verbose=False)
        if not result.exists():  # as where it is only checked
            return
        stream = unguarded(sys.stdout)
        try:
            with result.open("rb") as file:
                shutil.copyfileobj(file, stream.buffer)
            stream.buffer.flush()
        except BrokenPipeError as err:
            raise OutputError(
                "the program that should read the result has ended", hint="name a file with -o instead"
            ) from err
