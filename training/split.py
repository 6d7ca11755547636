"""Which kits, rhythms and loops train, validate and test: by whole instrument, drummer and track.

Tier A (freely licensed) material trains; tier B validates and tests, together with held-out Groove MIDI
drummers, one procedural family a side and one loop track. Kits that share recordings stay on one side.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "validate", "test", "unused"]

SPLITS: tuple[Split, ...] = ("train", "validate", "test")

# Families share recordings (same SoundFont, same drum set, same synthesiser presets) and are never divided.
_VALIDATE_FAMILIES = ("millo-", "timgm-", "lmms-", "electric-empire", "synth-metal-")
_TEST_FAMILIES = ("avl-", "h2-", "hard-electro", "dsyn-", "synth-fm-")
# Of these, kits of different names hold recordings of the same drums.
_SHARING = (("avl-", "h2-black-pearl", "h2-gmrock"), ("timgm-", "lmms-acoustic"))
# The other procedural kits would only repeat what training/procedural.py makes without end.
_UNUSED_FAMILIES = ("synth-",)

_VALIDATE_DRUMMERS = frozenset({"drummer2", "drummer4"})
_TEST_DRUMMERS = frozenset({"drummer9"})
_TEST_TRACKS = ("rubidium",)


def split_of_kit(kit: str, tier: str) -> Split:
    """Return the side of a kit; an unknown tier B kit is unused rather than trained on."""
    if kit.startswith(_TEST_FAMILIES):
        return "test"
    if kit.startswith(_VALIDATE_FAMILIES):
        return "validate"
    if kit.startswith(_UNUSED_FAMILIES) or tier != "A":
        return "unused"
    return "train"


def split_of_rhythm(*, performer: str, style: str, tier: str) -> Split:
    """Return the side of a rhythm: drummers are whole; tier B styles are halved between validate and test."""
    if performer in _TEST_DRUMMERS:
        return "test"
    if performer in _VALIDATE_DRUMMERS:
        return "validate"
    if tier == "A":
        return "train"
    return "test" if hashlib.sha256(style.encode()).digest()[0] % 2 else "validate"


def split_of_loop(path: str, tier: str) -> Split:
    """Return the side of a loop, by the track that it was cut from."""
    if any(track in path for track in _TEST_TRACKS):
        return "test"
    return "train" if tier == "A" else "unused"


def recording_family(kit: str) -> str:
    """Return a name that kits share where they share recordings."""
    return next((prefixes[0] for prefixes in _SHARING if kit.startswith(prefixes)), kit)
