"""What a sound file is that libsndfile cannot read: its first bytes say by which demuxer ffmpeg reads it."""

from __future__ import annotations

from dataclasses import dataclass

HEAD_BYTES = 2**10
_PLAIN_TAGS, _EXTENSIBLE = (0, 1, 3, 6, 7), 0xFFFE  # of what is not compressed in WAV, or by logarithms alone
_PLAIN_AIFC = (*b"NONE twos sowt fl32 FL32 fl64 FL64 in24 in32 23ni ulaw ULAW alaw ALAW".split(), b"raw ")


@dataclass(frozen=True, kw_only=True)
class Foreign:
    """What a file is that only ffmpeg reads, and the demuxer that reads it."""

    demuxer: str
    what: str


_MAGICS = (
    (4, b"ftyp", Foreign(demuxer="mov", what="an MP4 or M4A file (AAC or ALAC)")),
    (0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", Foreign(demuxer="asf", what="a WMA file")),
    (0, b"wvpk", Foreign(demuxer="wv", what="a WavPack file")),
    (0, b"MAC ", Foreign(demuxer="ape", what="a Monkey's Audio file")),
    (0, b"TTA1", Foreign(demuxer="tta", what="a TTA file")),
    (0, b"DSD ", Foreign(demuxer="dsf", what="a DSF file")),
    (0, b"\x1a\x45\xdf\xa3", Foreign(demuxer="matroska", what="a Matroska or WebM file")),
    (0, b"#!AMR", Foreign(demuxer="amr", what="an AMR file")),
    (0, b"MPCK", Foreign(demuxer="mpc8", what="a Musepack file")),
    (0, b"MP+", Foreign(demuxer="mpc", what="a Musepack file")),
    (0, b"\x0b\x77", Foreign(demuxer="ac3", what="an AC-3 file")),
    (28, b"Speex   ", Foreign(demuxer="ogg", what="a Speex file")),
    (28, b"\x7fFLAC", Foreign(demuxer="ogg", what="a FLAC file in Ogg")),
)


def foreign_kind(head: bytes) -> Foreign | None:
    """Return what a file is by its first HEAD_BYTES, None where ffmpeg is not to be tried."""
    for at, magic, kind in _MAGICS:
        if head[at : at + len(magic)] == magic:
            return kind
    if len(head) > 7 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0 and head[2] >> 2 & 15 < 13:
        return Foreign(demuxer="aac", what="an AAC file")
    return _compressed_kind(head)


def _compressed_kind(head: bytes) -> Foreign | None:
    """Return what a file of chunks is whose sound is compressed, if it is; libsndfile has failed to read it."""
    if head[:4] == b"caff" and head[8:12] == b"desc" and head[28:32] != b"lpcm":
        return Foreign(demuxer="caf", what=f"a CAF file of the kind {_printed(head[28:32])}")
    if head[:4] == b"FORM" and head[8:12] == b"AIFC" and (at := head.find(b"COMM")) > 0:
        kind = head[at + 26 : at + 30]
        return (
            None if kind in _PLAIN_AIFC else Foreign(demuxer="aiff", what=f"an AIFF file of {_printed(kind)}")
        )
    demuxer, n_header = {b"RIFF": ("wav", 8), b"riff": ("w64", 24)}.get(head[:4], ("", 0))
    at = head.find(b"fmt ") + n_header
    if not demuxer or at < n_header:
        return None
    tag = int.from_bytes(head[at : at + 2], "little")
    if tag == _EXTENSIBLE:
        tag = int.from_bytes(head[at + 24 : at + 26], "little")
    name = "WAV" if demuxer == "wav" else "Wave64"
    what = f"a {name} file of the kind {tag:#06x}"
    return None if tag in _PLAIN_TAGS else Foreign(demuxer=demuxer, what=what)


def _printed(kind: bytes) -> str:
    return repr(kind.decode("latin-1").strip())
