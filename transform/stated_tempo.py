"""The tempo that a recording states: in a chunk of Acid, a tag, or its name, unless that is of Redrum's making.

Sources: for the chunk what its readers take it for; RFC 9639 and the Vorbis comment specification for tags.
"""

from __future__ import annotations

import logging
import re
import struct
from pathlib import Path

from transform.files import open_plain
from transform.headers import chunks
from transform.library import rhythm_names

IN_NAME, _IN_ACID, _IN_TAG = "file name", "acid tag", "BPM tag"  # where it is stated
_ACID_BYTES = 24
_TEMPI_BPM = (20.0, 400.0)
_TAGGED_BYTES = 2**16  # at the beginning of a file, in which tags are looked for
_NUMBER = rb"(\d{2,3}(?:\.\d{1,9})?)"
_VORBIS_TAG = re.compile(rb"(....)((?:BPM|TEMPO)=%s)" % _NUMBER, re.IGNORECASE | re.DOTALL)
_OTHER_TAG = re.compile(rb"(?:ANNO....|comment\0)BPM=%s(?![\d.])" % _NUMBER, re.DOTALL)  # of AIFF, of CAF
_COMMENT = b"comment="
_log = logging.getLogger(__name__)


def stated_tempo(path: Path | None, name: str) -> tuple[float, str] | None:
    """Return the tempo in BPM that a recording states and where it does so, or None."""
    try:
        found = _in_file(path) if path else None
    except OSError as err:
        _log.info("no tempo is read from %s: %s", path, err)
        found = None
    if found is not None:
        return found
    tempo = _named_tempo(name)
    return None if tempo is None else (tempo, IN_NAME)


def acid_tempo(content: bytes) -> float | None:
    """Return the tempo in BPM that a chunk "acid" states, None where it calls its file a one-shot."""
    if len(content) < _ACID_BYTES:
        return None
    kind, tempo = struct.unpack("<I16xf", content[:_ACID_BYTES])
    return float(tempo) if not kind & 1 and _TEMPI_BPM[0] <= tempo <= _TEMPI_BPM[1] else None


def tempo_tag(tempo_bpm: float) -> str:
    """Return the comment by which a file that is no WAV file states a tempo."""
    return f"BPM={tempo_bpm:.7g}"


def with_tag_as_key(head: bytes) -> bytes:
    """Return the beginning of a FLAC file whose comment is a `tempo_tag` with that tag under its own name.

    libsndfile writes "comment=BPM=120". What is left out becomes padding, so that the length stays.
    """
    at = head.find(_COMMENT + b"BPM=")
    size = int.from_bytes(head[at - 4 : at], "little")
    begin, end = 42, at + size  # of the block, which follows STREAMINFO
    if at < 0 or int.from_bytes(head[begin + 1 : begin + 4], "big") != end - begin - 4:
        return head
    n_less = len(_COMMENT)
    tagged = (end - begin - 4 - n_less).to_bytes(3, "big") + head[begin + 4 : at - 4]
    tagged += (size - n_less).to_bytes(4, "little") + head[at + n_less : end]
    padding = bytes([head[begin] & 0x80 | 1]) + (n_less - 4).to_bytes(3, "big") + bytes(n_less - 4)
    return head[:begin] + bytes([head[begin] & 0x7F]) + tagged + padding + head[end:]


def _in_file(path: Path) -> tuple[float, str] | None:
    with open_plain(path) as file:
        for name, size, offset in chunks(file):
            if name == b"acid" and size >= _ACID_BYTES:
                file.seek(offset)
                tempo = acid_tempo(file.read(_ACID_BYTES))
                return None if tempo is None else (tempo, _IN_ACID)
        file.seek(0)
        tempo = _tagged_tempo(file.read(_TAGGED_BYTES))
    return None if tempo is None else (tempo, _IN_TAG)


def _tagged_tempo(head: bytes) -> float | None:
    """Return the tempo that a tag of FLAC, Ogg, AIFF or CAF states."""
    texts = []
    if head[:4] in (b"fLaC", b"OggS") or head[:3] == b"ID3":
        entries = _VORBIS_TAG.findall(head)
        texts = [text for size, entry, text in entries if int.from_bytes(size, "little") == len(entry)]
    elif head[:4] in (b"FORM", b"caff"):
        texts = _OTHER_TAG.findall(head)
    tempi = {float(text) for text in texts if _TEMPI_BPM[0] <= float(text) <= _TEMPI_BPM[1]}
    return tempi.pop() if len(tempi) == 1 else None


def _named_tempo(name: str) -> float | None:
    """Return the one tempo in a file name, as in "120bpm", "BPM 92.5" or, standing alone, "funk_96_a".

    Results are called after their rhythm, at whose tempo they need not play: what its name says is no tempo.
    """
    marked = re.findall(r"(?<![\d.])(\d{2,3}(?:\.\d+)?)[ _-]?bpm(?![a-z])", name, re.IGNORECASE)
    marked = marked or re.findall(r"(?<![a-z])bpm[ _-]?(\d{2,3}(?:\.\d+)?)(?!\d)", name, re.IGNORECASE)
    alone = re.findall(r"(?<![^\s_\-()\[\]])(\d{2,3}(?:\.\d+)?)(?![^\s_\-()\[\]])", name)
    tempi = {float(number) for number in marked if 20 <= float(number) <= 400}
    tempi = tempi or {float(number) for number in alone if 60 <= float(number) <= 220}
    if len(tempi) != 1 or _is_called_after_rhythm(name):
        return None
    return tempi.pop()


def _is_called_after_rhythm(name: str) -> bool:
    """Tell whether a name has a rhythm's name with a number in it, and more, as a result's has."""
    name = name.casefold()
    for rhythm in map(str.casefold, rhythm_names()):
        has_words = re.sub(r"[\W\d_]+|bpm", "", rhythm) and re.search(r"\d", rhythm)
        if name == rhythm or rhythm not in name or not has_words:
            continue
        if re.search(rf"(?<![^\W_]){re.escape(rhythm)}(?![^\W_])", name):
            _log.info("%s: its name says the tempo of the rhythm %s, and perhaps not its own", name, rhythm)
            return True
    return False
