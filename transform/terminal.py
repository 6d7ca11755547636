"""What a terminal is shown: text, never commands to it, whoever chose the names in that text."""

from __future__ import annotations

import re
import sys
from typing import Any, TextIO, cast

# Control characters but tab and line feed, what turns the direction of text, and what is no character at all:
# a byte of a file name that is no UTF-8 (PEP 383), or half a UTF-16 pair.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]",
)


def printable(text: str) -> str:
    r"""Return text with every character that a terminal would obey, or that is none, written out as `\x1b`."""
    return _UNSAFE.sub(lambda found: written_out(found[0]), text)


def one_line(text: str) -> str:
    r"""Return text as `printable` does, on one line: a line feed is written out as `\x0a`."""
    return printable(text).replace("\n", "\\x0a")


def written_out(character: str) -> str:
    r"""Return a character's number as `\x1b` or `\u202e`; of a byte that is no UTF-8 the byte, as `\xfc`."""
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def guard_output() -> None:
    """Let nothing but printable text reach stdout and stderr from here on, whoever writes to them."""
    sys.stdout, sys.stderr = guarded(sys.stdout), guarded(sys.stderr)


def guarded(stream: TextIO) -> TextIO:
    """Return a stream that writes printable text to another one."""
    if stream is None or isinstance(stream, _Guarded):  # None: a Windows program without a console
        return stream
    if hasattr(stream, "reconfigure"):  # a console may lack characters that names of files have
        stream.reconfigure(errors="backslashreplace")
    return cast(TextIO, _Guarded(stream))


def unguarded(stream: TextIO) -> TextIO:
    """Return the stream behind a guarded one, for what draws on a terminal."""
    return stream.stream if isinstance(stream, _Guarded) else stream


class _Guarded:
    """A text stream; all but writing is the business of the stream behind it."""

    buffer = None  # there is no way around it, which Typer would take on Windows

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write(printable(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)
