"""Live's sets as trees of what Redrum reads in them: gzip and XML from anywhere, which may be hostile.

Live writes plain elements whose attributes hold all values: no DOCTYPE, no entities, no text. All that is not
named here is skipped while it is read, so that a set of a hundred megabytes of devices takes little memory.
"""

from __future__ import annotations

import gzip
import math
import zlib
from codecs import BOM_UTF8
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO
from xml.parsers import expat

from transform.errors import DawError
from transform.files import open_plain

MOST_BYTES = 512 * 2**20  # of XML; large sets have a fifth of that
_MOST_ELEMENTS = 10_000_000  # skipped ones count, too
_MOST_NODES = 1_000_000  # elements of the tree
_MOST_ATTRIBUTES = 100  # of an element of the tree; Live's own have five
_MOST_CHARACTERS = 64 * 2**20  # of the tree
_MOST_NAMES = 20_000  # of elements and attributes; Live has a tenth of that
_LONGEST_TAG_BYTES = 4 * 2**20  # a parser may begin again and again with what has not ended yet
_LONGEST_DATA = 2**18  # characters of an old file reference: four for each of a path
_DEEPEST = 200
_LARGEST = 1e9  # of all numbers: Live's own are below 10^8
_BLOCK_BYTES = 2**18
_BEGINNING_BYTES, _GZIP = 64, b"\x1f\x8b"
_MASTERS = ("MasterTrack", "MainTrack")  # Live 10 and 11; Live 12
_READ = """
Ableton LiveSet Tracks AudioTrack MidiTrack GroupTrack MasterTrack MainTrack Name EffectiveName UserName
TrackGroupId Freeze DeviceChain MainSequencer Sample ClipTimeable ArrangerAutomation Events AudioClip MidiClip
ClipSlotList ClipSlot Value CurrentStart CurrentEnd Loop LoopStart LoopEnd StartRelative LoopOn OutMarker
Disabled IsWarped WarpMode WarpMarkers WarpMarker PitchCoarse PitchFine SampleRef SampleVolume FileRef
OriginalFileSize FileSize RelativePath RelativePathElement RelativePathType Path Data SearchHint PathHint
Notes KeyTracks KeyTrack MidiKey MidiNoteEvent Devices DrumGroupDevice InstrumentGroupDevice
MidiEffectGroupDevice Branches DrumBranch InstrumentBranch MidiEffectBranch BranchInfo ReceivingNote
MidiToAudioDeviceChain MidiToMidiDeviceChain Mixer Tempo TimeSignature Manual AutomationTarget
"""
_READ_IN_MASTERS = (
    "AutomationEnvelopes Envelopes AutomationEnvelope EnvelopeTarget PointeeId Automation FloatEvent EnumEvent"
)
_TAGS, _TAGS_IN_MASTERS = frozenset(_READ.split()), frozenset(_READ_IN_MASTERS.split())
_BACKUP = "take a copy from the set's Backup folder, or save it again in Live"


@dataclass(slots=True)
class Node:
    """An element with the attributes that Live gave it; its `text` is that of old file references."""

    tag: str
    attributes: dict[str, str]
    children: list[Node] = field(default_factory=list)
    text: str = ""

    def all(self, *path: str) -> Iterator[Node]:
        """Yield the elements at the end of a path, in order."""
        if not path:
            yield self
            return
        for child in self.children:
            if child.tag == path[0]:
                yield from child.all(*path[1:])

    def first(self, *path: str) -> Node | None:
        """Return the first element at the end of a path."""
        return next(self.all(*path), None)

    def value(self, *path: str, default: str = "") -> str:
        """Return the `Value` of the first element at the end of a path."""
        node = self.first(*path)
        return default if node is None else node.attributes.get("Value", default)

    def number(self, *path: str, default: float | None = None) -> float:
        """Return the `Value` at the end of a path as a number.

        Raises:
            DawError: it is none, or missing without a default.
        """
        text = self.value(*path)
        if not text and default is not None:
            return default
        return number_of(text, "/".join((self.tag, *path)))

    def is_on(self, *path: str) -> bool:
        """Return whether the `Value` at the end of a path is true."""
        return self.value(*path).lower() == "true"


def number_of(text: str, what: str) -> float:
    """Return a number of a set.

    Raises:
        DawError: it is none; `what` names it.
    """
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not abs(number) <= _LARGEST:
        raise DawError(f"the set is broken: {what} is {text[:40]!r}, which is no number of a set", hint=_BACKUP)
    return number


def read_set(path: Path) -> Node:
    """Return the set that a file holds.

    Raises:
        DawError: the file cannot be read, is no set of Live, or is hostile.
    """
    try:
        with open_plain(path) as file:
            begin = file.read(_BEGINNING_BYTES)
            file.seek(0)
            if begin.removeprefix(BOM_UTF8).lstrip().startswith(b"<"):  # somebody has unpacked it
                root = _Reader(path.name).read(file)
            elif begin.startswith(_GZIP):
                with gzip.open(file) as unpacked:
                    root = _Reader(path.name).read(unpacked)  # type: ignore[arg-type]
            else:
                raise DawError(
                    f"{path.name} is no set of Live: it is neither packed with gzip nor XML",
                    hint="give an .als or .alc file of Live",
                )
    except (EOFError, zlib.error, gzip.BadGzipFile) as err:
        raise DawError(f"{path.name} is cut short or damaged: {err}", hint=_BACKUP) from err
    except OSError as err:
        raise DawError(f"{path} cannot be read: {err.strerror or err}", hint="check the path") from err
    if root.tag != "Ableton" or root.first("LiveSet") is None:
        raise DawError(f"{path.name} is no set of Live", hint="give an .als file that Live has saved")
    return root


class _Reader:
    """Builds the tree while expat reads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: list[Node] = []
        self._root: Node | None = None
        self._n_skipped, self._n_elements, self._n_nodes, self._depth, self._n_masters = 0, 0, 0, 0, 0
        self._n_characters = 0
        self._data: list[str] = []  # the text of the open file reference
        self._n_data = 0  # its characters

    def read(self, file: BinaryIO) -> Node:
        parser = expat.ParserCreate("UTF-8")  # which Live writes, whatever the declaration of a set is
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse_doctype
        parser.EntityDeclHandler = self._refuse_doctype
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._text
        n_bytes = 0
        try:
            while block := file.read(_BLOCK_BYTES):
                n_bytes += len(block)
                if n_bytes > MOST_BYTES:
                    raise self._hostile(f"it unpacks to more than {MOST_BYTES // 2**20} MB")
                parser.Parse(block, False)
                if n_bytes - parser.CurrentByteIndex > _LONGEST_TAG_BYTES:
                    raise self._hostile(f"a tag has more than {_LONGEST_TAG_BYTES // 2**20} MB")
                if len(parser.intern) > _MOST_NAMES:
                    raise self._hostile(f"it has more than {_MOST_NAMES:,} kinds of elements")
            parser.Parse(b"", True)
        except expat.ExpatError as err:
            raise DawError(f"{self._name} is broken: {err}", hint=_BACKUP) from err
        assert self._root is not None
        return self._root

    def _hostile(self, what: str) -> DawError:
        return DawError(f"{self._name} is refused: {what}, as no set of Live does", hint=_BACKUP)

    def _refuse_doctype(self, *_: object) -> None:
        raise self._hostile("it declares a document type or entities")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._hostile(f"its elements lie more than {_DEEPEST} deep in each other")
        self._n_elements += 1
        if self._n_elements > _MOST_ELEMENTS:
            raise self._hostile(f"it has more than {_MOST_ELEMENTS:,} elements")
        is_read = tag in _TAGS or (self._n_masters > 0 and tag in _TAGS_IN_MASTERS) or self._depth == 1
        if self._n_skipped or not is_read:
            self._n_skipped += 1
            return
        self._n_nodes += 1
        if self._n_nodes > _MOST_NODES:
            raise self._hostile(f"it has more than {_MOST_NODES:,} elements to read")
        if len(attributes) > _MOST_ATTRIBUTES:
            raise self._hostile(f"an element has more than {_MOST_ATTRIBUTES} attributes")
        self._count(sum(map(len, attributes.values())))
        node = Node(tag, attributes)
        if self._open:
            self._open[-1].children.append(node)
        else:
            self._root = node
        self._open.append(node)
        self._n_masters += tag in _MASTERS

    def _end(self, tag: str) -> None:
        self._depth -= 1
        if self._n_skipped:
            self._n_skipped -= 1
            return
        node = self._open.pop()
        if node.tag == "Data":
            node.text, self._data, self._n_data = "".join(self._data), [], 0
        self._n_masters -= tag in _MASTERS

    def _text(self, text: str) -> None:
        if not self._n_skipped and self._open and self._open[-1].tag == "Data":
            self._data.append(text)
            self._n_data += len(text)
            self._count(len(text))
            if self._n_data > _LONGEST_DATA:
                raise self._hostile(f"a file reference has more than {_LONGEST_DATA:,} characters")

    def _count(self, n_characters: int) -> None:
        self._n_characters += n_characters
        if self._n_characters > _MOST_CHARACTERS:
            raise self._hostile(f"it has more than {_MOST_CHARACTERS:,} characters to read")
