"""The text of a REAPER project: a tree of lines, parsed, and given back with others in it.

`<TAG words...` opens a block, `>` closes it. Lines are put between those that are there, and single words of a
line replaced, so that every other byte stays, whatever it means and however it is encoded.
"""

from __future__ import annotations

import logging
import re
from codecs import BOM_UTF8
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from transform.errors import DawError

_QUOTES = "\"'`"
_WORD = re.compile(r"""\s*(?:"([^"]*)"?|'([^']*)'?|`([^`]*)`?|([^ ]+))""")
_LARGEST = 1e12  # of all numbers that are read
_MOST_LINES = 3_000_000  # a hundred megabytes have one million
_MOST_BLOCKS = 1_000_000
_DEEPEST = 100  # blocks in each other; REAPER's own are below ten
_LONGEST_QUOTE = 80  # characters of a line, in an error

_VERSION = re.compile(rb"^<REAPER_PROJECT", re.MULTILINE)
_SAVED = re.compile(rb'<REAPER_PROJECT [^ \r\n]+ "[^"\r\n]*" (\d{1,18})')  # when, in seconds
_log = logging.getLogger(__name__)

_KEYS = frozenset(
    b"CHANMODE FADEIN FADEOUT FILE FREEMODE GROUP HASDATA IGNTEMPO IGUID ISBUS LANESOLO LENGTH LOOP MODE MUTE "
    b"NAME PANLAW PEAKCOL PLAYRATE POOLEDEVTS POSITION PROJOFFS RECORD_PATH SM SOFFS STARTPOS TAKEVOLPAN TEMPO "
    b"TRACKID VOLPAN YPOS".split()
)

Keys = Mapping[bytes, int]  # lines by the words that they begin with


@dataclass(slots=True, eq=False)
class Block:
    """A block of a project: its words, and its lines and blocks in order; lines are counted from 0."""

    line: int
    words: list[str]
    children: list[int | Block] = field(default_factory=list)
    end: int = -1  # the line that closes it

    @property
    def tag(self) -> str:
        """The word after `<`."""
        return self.words[0]

    def blocks(self, tag: str) -> Iterator[Block]:
        """Return the blocks of a tag in this block, in order."""
        return (child for child in self.children if isinstance(child, Block) and child.tag == tag)


class ProjectText:
    """The lines of a project file, parsed, and able to give them back changed."""

    def __init__(self, data: bytes, name: str) -> None:
        """Parse the bytes of a project called `name`.

        Raises:
            DawError: it is no project, or broken; the message names the line.
        """
        self.name = name
        data = _newest(data, name)
        if data.count(b"\n") > _MOST_LINES:
            raise DawError(
                f"{name} has more than {_MOST_LINES:,} lines",
                hint="take the tracks you need into a project of their own",
            )
        self._lines = _split(data)
        self.root = self._parse()
        first = self._lines[0]
        self.line_end = first[len(first.rstrip(b"\r\n")) :] or b"\n"

    def words(self, line: int) -> list[str]:
        """Return the words of a line, quotes taken off."""
        return words_of(self._lines[line].decode("utf-8", "surrogateescape"))

    def keys(self, children: Iterable[int | Block]) -> Keys:
        """Return the first line among `children` that begins with each of the words that are read."""
        keys: dict[bytes, int] = {}
        for child in children:
            if isinstance(child, int):
                word = self._lines[child].split(maxsplit=1)[:1]
                if word and word[0] in _KEYS:
                    keys.setdefault(word[0], child)
        return keys

    def text(self, keys: Keys, key: str, default: str = "") -> str:
        """Return the first value of a line, `default` where there is none."""
        line = keys.get(key.encode())
        words = [] if line is None else self.words(line)
        return words[1] if len(words) > 1 else default

    def number(self, keys: Keys, key: str, default: float, place: int = 1) -> float:
        """Return a number of a line, `default` where the line or the number is missing.

        Raises:
            DawError: it is no number.
        """
        line = keys.get(key.encode())
        return default if line is None else self.number_in(line, self.words(line), place, default)

    def number_in(self, line: int, words: Sequence[str], place: int, default: float | None = None) -> float:
        """Return a number among the words of a line; else as `number`."""
        if place >= len(words) and default is not None:
            return default
        try:
            value = float(words[place])
        except (IndexError, ValueError) as err:
            raise self.broken(line, f"{excerpt(words)!r} lacks a number") from err
        if not abs(value) <= _LARGEST:
            raise self.broken(line, f"{words[place][:20]} is no number that a project has")
        return value

    def indent(self, line: int) -> bytes:
        """Return the space that a line begins with."""
        text = self._lines[line]
        return text[: len(text) - len(text.lstrip(b" \t"))]

    def with_words(self, line: int, words: Mapping[int, str]) -> bytes:
        """Return the bytes of a line with some of its words, by their place, replaced."""
        text = self._lines[line].decode("latin-1")  # a character a byte
        spans = [match.span(match.lastindex or 0) for match in _WORD.finditer(text.rstrip())]
        for place, word in sorted(words.items(), reverse=True):
            start, stop = spans[place]
            text = text[:start] + word + text[stop:]
        return text.encode("latin-1")

    def with_changes(self, inserted: Sequence[tuple[int, bytes]], replaced: Mapping[int, bytes]) -> bytes:
        """Return the bytes of the file with others put before lines, and some lines replaced."""
        old = list(self._lines)
        for line, text in replaced.items():
            old[line] = text
        lines: list[bytes] = []
        done = 0
        for line, text in sorted(inserted, key=lambda pair: pair[0]):
            lines += [*old[done:line], text]
            done = line
        return b"".join([*lines, *old[done:]])

    def _parse(self) -> Block:
        if not self._lines or not self._lines[0].removeprefix(BOM_UTF8).startswith(b"<REAPER_PROJECT"):
            raise DawError(
                f"{self.name} is no REAPER project: its line 1 does not begin with <REAPER_PROJECT",
                hint="give a project that REAPER has saved (.rpp)",
            )
        root = Block(0, ["REAPER_PROJECT", *self.words(0)[1:]])
        open_blocks, n_blocks = [root], 1
        for number in range(1, len(self._lines)):
            line = self._lines[number].strip()
            if not open_blocks:
                if line in (b">",) or line.startswith(b"<"):
                    raise self.broken(number, "it stands after the end of the project")
            elif line == b">":
                open_blocks.pop().end = number
            elif line.startswith(b"<"):
                block = Block(number, self.words(number))
                block.words[0] = block.words[0][1:]
                open_blocks[-1].children.append(block)
                open_blocks.append(block)
                n_blocks += 1
                if n_blocks > _MOST_BLOCKS or len(open_blocks) > _DEEPEST:
                    raise self.broken(number, f"{n_blocks:,} blocks, {len(open_blocks)} deep, are no project")
            else:
                open_blocks[-1].children.append(number)
        if open_blocks:
            block = open_blocks[-1]
            raise DawError(
                f"{self.name} is cut short: it ends in line {len(self._lines)}, "
                f"and the block <{block.tag[:_LONGEST_QUOTE]} of line {block.line + 1} is never closed",
                hint="take a backup of the project (.rpp-bak), or save it again in REAPER",
            )
        return root

    def broken(self, line: int, what: str) -> DawError:
        """Return the error that a line is not what it should be."""
        return DawError(
            f"{self.name} is broken in line {line + 1}: {what}",
            hint="take a backup of the project (.rpp-bak), or save it again in REAPER",
        )


def _newest(data: bytes, name: str) -> bytes:
    """Return the newest of the versions that a backup of REAPER may hold one after the other."""
    begins = [match.start() for match in _VERSION.finditer(data)]
    if len(begins) < 2:
        return data
    versions = [data[at:end] for at, end in zip(begins, [*begins[1:], len(data)], strict=True)]
    saved = [int(match[1]) if (match := _SAVED.match(version)) else 0 for version in versions]
    newest = max(range(len(versions)), key=lambda place: (saved[place], place))
    _log.warning("%s holds %d versions of a project: version %d is read", name, len(versions), newest + 1)
    return versions[newest]


def _split(data: bytes) -> list[bytes]:
    """Return lines that end in LF: a CR elsewhere is part of its line."""
    lines = data.split(b"\n")
    return [line + b"\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def words_of(line: str) -> list[str]:
    """Return the words of a line: between quotes of one of three kinds, or up to the next space."""
    return [match[match.lastindex or 0] for match in _WORD.finditer(line.strip())]


def excerpt(words: Sequence[str]) -> str:
    """Return the words of a line as an error names them."""
    return " ".join(words)[:_LONGEST_QUOTE]


def quoted(text: str) -> str:
    """Return text as one word. No quote can be escaped: where all three are needed, one is replaced."""
    text = " ".join(text.splitlines())
    quote = next((quote for quote in _QUOTES if quote not in text), None)
    if quote is None:
        text, quote = text.replace("`", "'"), "`"
    return f"{quote}{text}{quote}"
