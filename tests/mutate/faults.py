"""Faults in the bytes of a file: bits and numbers, missing parts, and units repeated or nested to endless work.

A unit is what a format repeats: a line, a block, an element, an event. Where they lie is for the format to say.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

Span = tuple[int, int]

# What stands where a reader expects a number, a name or a list.
STRANGE = (
    *("0", "-1", "-0.0", "1", "255", "nan", "inf", "-inf", "NaN", "Infinity", "1e308", "1e-320", "-1e30"),
    *("9" * 25, "9" * 5000, "0x10", "1_0", "\u00b2", "", '""', "''", "true", "null", "[]", "[[]]", "{}"),
    *("[" * 3000, '{"a":' * 3000, "<", ">", "..", "/", "\x00", "\x1a", "\ud800", "\u202e", "a" * 300),
)
MOST_BYTES = 2**21
_PARSED_BYTES = 2**17  # of a text, in which units are looked for
_POWERS = (7, 8, 15, 16, 24, 31, 32, 53, 62, 63, 64)
_EDGES = (*range(5), 44_100, *(2**n - 1 for n in _POWERS), *(2**n for n in _POWERS))


def harm(chance: Random, data: bytes, is_text: bool = False) -> bytes:
    """Return a file's bytes with a fault: flipped bits, other bytes, a part missing or repeated."""
    start = chance.randint(0, len(data) - 1)
    stop = chance.randint(start, min(len(data), start + 40))
    match chance.choice([*("word", "word", "line") * is_text, "flip", "flip", "other", "cut", "all", "part"]):
        case "word" if words := list(re.finditer(rb"[-+.\w]+", data)):
            word = chance.choice(words)
            strange = chance.choice(STRANGE).encode("utf-8", "surrogatepass")
            return data[: word.start()] + strange + data[word.end() :]
        case "line":
            lines = data.splitlines(keepends=True)
            first, other = (chance.randrange(len(lines)) for _ in range(2))
            lines[first : first + 1] = chance.choice([[], [lines[other]], [lines[first], lines[other]]])
            return b"".join(lines)
        case "other":
            return data[:start] + chance.randbytes(chance.randint(1, 40)) + data[stop:]
        case "cut":
            return data[:start]
        case "all":
            return data[: chance.choice([0, 4, 12, 40])] + chance.randbytes(chance.randint(0, 200))
        case "part":
            return data[:start] + data[start:stop] * chance.choice([0, 2, 9]) + data[stop:]
    changed = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        bit = chance.randrange(8 * len(data))
        changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def edge(chance: Random, data: bytes) -> bytes:
    """Return bytes, some of which are now a whole number at one of the edges of what it can be."""
    width = chance.choice([1, 2, 3, 4, 4, 8])
    if len(data) < width:
        return data
    at = chance.randrange(min(len(data) - width + 1, chance.choice([16, 64, 2**30])))
    number = (chance.choice(_EDGES) + chance.choice([0, 0, 0, -1, 1])) % 256**width
    return data[:at] + number.to_bytes(width, chance.choice(["little", "big"])) + data[at + width :]


@dataclass(frozen=True)
class Grammar:
    """What a format is made of."""

    units: Callable[[bytes], Sequence[Span]]
    # Of a unit's bytes, what opens and what closes it, if others may lie in it.
    ends: Callable[[bytes], tuple[bytes, bytes] | None] = lambda unit: None
    is_text: bool = True
    most_bytes: int = MOST_BYTES  # of what is repeated or nested as often as that


def mutated(chance: Random, data: bytes, other: bytes, grammar: Grammar) -> bytes:
    """Return bytes with one fault or a few; `other` is an input of the same format, units of which get in."""
    if chance.random() < _FLOODS and len(data) < 2**14:
        return _flooded(chance, data or other, other, grammar)
    most = chance.choices([2**13, 2**16], [3, 1])[0]
    for _ in range(chance.choice([1, 1, 1, 2, 2, 3, 5])):
        how = chance.choices(_WAYS, _WEIGHTS)[0]
        data = how(chance, data or other, other, grammar, most)
    return data[: 2 * MOST_BYTES]


def _flooded(chance: Random, data: bytes, other: bytes, grammar: Grammar) -> bytes:
    """Return bytes with very much of one kind of unit, or of two: work that grows faster than they are many."""
    for how in chance.choice([[_repeated], [_repeated, _repeated], [_nested]]):
        most = round(grammar.most_bytes * 10 ** chance.uniform(-1.5, 0))
        data = how(chance, data, other, grammar, len(data) + most)
    return data


def _harmed(chance: Random, data: bytes, other: bytes, grammar: Grammar, most: int) -> bytes:
    is_number = not grammar.is_text and chance.random() < 0.5
    return edge(chance, data) if is_number else harm(chance, data or b"?", grammar.is_text)


def _repeated(chance: Random, data: bytes, other: bytes, grammar: Grammar, most: int) -> bytes:
    """Repeat a unit up to a hundred thousand times; in most texts, its numbers rise from one to the next."""
    start, stop = _unit(chance, data, grammar, of_lists=most > 2**16)
    unit = data[start:stop]
    n = _times(chance, len(data), len(unit), most)
    numbers = list(re.finditer(rb"(?<![\w.])-?\d+(?:\.\d+)?(?![\w.])", unit)) if grammar.is_text else []
    if not numbers or chance.random() < 0.4:
        return data[:start] + unit * n + data[stop:]
    rising = numbers if chance.random() < 0.7 else [chance.choice(numbers)]
    template, at, columns = b"", 0, []
    for found in rising:
        template += unit[at : found.start()].replace(b"%", b"%%") + b"%s"
        at, first, step = found.end(), float(found[0][:15]), chance.choice([1, 1, 0.5, 0.01, 4, -1])
        is_whole = b"." not in found[0] and step == int(step)
        columns.append([(b"%d" if is_whole else b"%.4f") % (first + step * i) for i in range(n)])
    template += unit[at:].replace(b"%", b"%%")
    return data[:start] + b"".join(template % row for row in zip(*columns, strict=True)) + data[stop:]


def _times(chance: Random, n_bytes: int, unit_bytes: int, most: int) -> int:
    """Return how often to repeat a unit, so that no more bytes than `most` come out."""
    room = max(2, (most - n_bytes) // max(1, unit_bytes))
    return min(round(10 ** chance.uniform(0.3, 5)) if most <= 2**16 else 10**5, room)


def _nested(chance: Random, data: bytes, other: bytes, grammar: Grammar, most: int) -> bytes:
    """Put a unit into copies of its own beginning and end, up to a hundred thousand deep."""
    start, stop = _unit(chance, data, grammar)
    unit = data[start:stop]
    ends = grammar.ends(unit)
    if ends is None:
        return _repeated(chance, data, other, grammar, most)
    n = _times(chance, len(data), sum(map(len, ends)), most)
    closing = ends[1] * (n if chance.random() < 0.8 else chance.randint(0, n))
    return data[:start] + ends[0] * n + unit + closing + data[stop:]


def _moved(chance: Random, data: bytes, other: bytes, grammar: Grammar, most: int) -> bytes:
    start, stop = _unit(chance, data, grammar)
    unit, rest = data[start:stop], data[:start] + data[stop:]
    at = _unit(chance, rest, grammar)[chance.randint(0, 1)]
    return rest[:at] + unit + rest[at:]


def _dropped(chance: Random, data: bytes, other: bytes, grammar: Grammar, most: int) -> bytes:
    start, stop = _unit(chance, data, grammar)
    return data[:start] + data[stop:]


def _spliced(chance: Random, data: bytes, other: bytes, grammar: Grammar, most: int) -> bytes:
    start, stop = _unit(chance, other, grammar)
    first, last = _unit(chance, data, grammar)
    return data[: chance.choice([first, last])] + other[start:stop][:most] + data[last:]


def _unit(chance: Random, data: bytes, grammar: Grammar, *, of_lists: bool = False) -> Span:
    """Return a unit, each kind of which is as likely as the others; mostly one of several, if of lists."""
    spans = grammar.units(data[:_PARSED_BYTES])
    if not spans:
        return 0, len(data)
    kinds: dict[bytes, list[Span]] = {}
    for span in spans:
        word = re.match(rb"\W*(?:\d|[A-Za-z_][\w.]*)?", data[span[0] : min(span[1], span[0] + 40)])
        kinds.setdefault(word[0] if word else b"", []).append(span)
    several = [name for name, found in kinds.items() if len(found) > 1]
    names = several if several and of_lists and chance.random() < 0.8 else list(kinds)
    return chance.choice(kinds[chance.choice(names)])


_WAYS = (_harmed, _repeated, _nested, _moved, _dropped, _spliced)
_WEIGHTS = (10, 4, 2, 2, 1, 2)
_FLOODS = 0.06


# --- the units of texts ---


def lines(data: bytes) -> list[Span]:
    """Return the lines of a text, then its words."""
    return [match.span() for match in re.finditer(rb"[^\n]*\n|[^\n]+$", data)] + words(data)


def words(data: bytes) -> list[Span]:
    return [match.span() for match in re.finditer(rb"[-+.\w]+[ ,]?", data)]


def blocks(data: bytes) -> list[Span]:
    """Return the lines of a REAPER project, and its blocks with all that lies in them."""
    spans, opened, at = [], [], 0
    for line in data.splitlines(keepends=True):
        spans.append((at, at + len(line)))
        word = line.lstrip()
        if word.startswith(b"<"):
            opened.append(at)
        at += len(line)
        if word.startswith(b">") and opened:
            spans += [(opened.pop(), at)] * 3
    return spans + words(data)[:20]


def block_ends(unit: bytes) -> tuple[bytes, bytes] | None:
    rows = unit.splitlines(keepends=True)
    return (rows[0], rows[-1]) if len(rows) > 1 and unit.lstrip().startswith(b"<") else None


_TAG = re.compile(rb"<(/?)([A-Za-z_][\w.-]*)[^<>]*?(/?)>")


def elements(data: bytes) -> list[Span]:
    """Return the elements of an XML text, those in others, too, and their attributes."""
    spans, opened = [], []
    for tag in _TAG.finditer(data):
        if tag[3]:
            spans.append(tag.span())
        elif not tag[1]:
            opened.append(tag)
        elif opened and opened[-1][2] == tag[2]:
            spans.append((opened.pop().start(), tag.end()))
    attributes = [match.span() for match in re.finditer(rb' \w+="[^"]*"', data)]
    return (
        spans
        + attributes[:: len(attributes) // 30 + 1]
        + [m.span(1) for m in re.finditer(rb">(\s*\w+\s*)<", data)]
    )


def element_ends(unit: bytes) -> tuple[bytes, bytes] | None:
    first = _TAG.match(unit)
    return None if first is None or first[3] else (first[0], b"</" + first[2] + b">")


RPP = Grammar(blocks, block_ends)
XML = Grammar(elements, element_ends, most_bytes=2**24)
BRACKETS = Grammar(lines, lambda unit: (b"[", b"]") if len(unit) % 2 else (b'{"a":', b"}"))
BINARY = Grammar(lambda data: [(at, at + 4) for at in range(0, len(data), 4)], is_text=False)
