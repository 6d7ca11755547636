"""How sound is stored: sample formats by soundfile's names, and which of them a result gets."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import soundfile

from transform.errors import SettingsError
from transform.metadata import Metadata

CONTAINERS = {".wav": "WAV", ".flac": "FLAC", ".aiff": "AIFF", ".aif": "AIFF"}
CONTAINERS |= {".caf": "CAF", ".w64": "W64", ".rf64": "RF64"}
BITS = {"PCM_S8": 8, "PCM_U8": 8, "PCM_16": 16, "PCM_24": 24, "PCM_32": 32}
FLOATS = {"FLOAT": 32, "DOUBLE": 64}
BYTES = {subtype: bits // 8 for subtype, bits in (BITS | FLOATS).items()}
LOSSLESS = (*BITS, *FLOATS, "ALAC_16", "ALAC_20", "ALAC_24", "ALAC_32")
_BIT_DEPTHS = {"16": "PCM_16", "24": "PCM_24", "32": "PCM_32", "32f": "FLOAT"}
# What holds the same bits where a container lacks the subtype, or where we do not write it.
_SAME_DEPTH = {"PCM_S8": "PCM_U8", "PCM_U8": "PCM_S8", "ALAC_16": "PCM_16", "ALAC_32": "PCM_32"}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class AudioFormat:
    """How a recording is stored."""

    sample_rate: int
    n_channels: int
    subtype: str  # soundfile's name of the sample format, such as "PCM_24"
    is_lossy: bool = False
    speakers: int | None = None  # the channel mask of an extensible WAV file; None: of another file
    metadata: Metadata = field(
        default_factory=Metadata
    )  # what a file that is written states beside its samples


def is_float(subtype: str) -> bool:
    """Tell whether a sample format, by soundfile's name, holds what is over full scale."""
    return subtype in FLOATS


def resolve_output(path: Path, source: AudioFormat, bit_depth: str | None) -> tuple[str, str]:
    """Return soundfile's container and subtype for a result at `path`.

    Args:
        path: its ending chooses the container.
        source: the recording whose depth the result keeps; what is lossy or does not fit becomes 24-bit.
        bit_depth: "16", "24", "32" or "32f" instead of the source's depth.

    Raises:
        SettingsError: the ending is not that of a lossless container, or the container cannot hold the sound.
    """
    container = CONTAINERS.get(path.suffix.lower())
    if container is None:
        raise SettingsError(
            f"{path.name} cannot be written: results are lossless", hint=f"name it {', '.join(CONTAINERS)}"
        )
    if container == "FLAC" and source.n_channels > 8:
        raise SettingsError(f"FLAC holds 8 channels, not {source.n_channels}", hint="write a .wav file")
    if bit_depth is not None:
        if bit_depth not in _BIT_DEPTHS:
            raise SettingsError(
                f"the bit depth is {bit_depth}; it must be one of {', '.join(_BIT_DEPTHS)}",
                hint="leave it out to retain the depth of the source",
            )
        subtype = _BIT_DEPTHS[bit_depth]
        if not soundfile.check_format(container, subtype):
            raise SettingsError(
                f"{container} does not hold {bit_depth} bits", hint="write a .wav file, or 24 bits"
            )
        return container, subtype
    for subtype in (source.subtype, _SAME_DEPTH.get(source.subtype, "")):
        if (subtype in BITS or subtype in FLOATS) and soundfile.check_format(container, subtype):
            return container, subtype
    _log.info("%s is written with 24 bits: %s does not hold %s", path.name, container, source.subtype)
    return container, "PCM_24"
