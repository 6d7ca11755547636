"""Which kits, rhythms and loops train, validate and test: by whole instrument, drummer and track.

Tier A (freely licensed) material trains; tier B validates and tests, together with held-out Groove MIDI
drummers, one procedural family a side and one loop track. Kits made of the same recordings stay on one side.
"""

from __future__ import annotations

import hashlib
from typing import Literal

Split = Literal["train", "validate", "test", "unused"]

SPLITS: tuple[Split, ...] = ("train", "validate", "test")

# Copies of one TR-808's sounds judge and do not train. timgm-tr808 stays with its SoundFont, which validates.
_TR808_COPIES = (
    "tr808-fischer",
    "boochi-808",
    "mercury-808",
    "fluidr3-tr808",
    "h2-tr808emu",
    "dsyn-tr808",
    "freepats-drum000",
)
# Families are recognised by how names begin and never divided: one drum set, SoundFont, synthesiser or maker.
_TEST_OF_0_1_0 = ("avl-", "h2-", "hard-electro", "dsyn-", "synth-fm-")
_TEST_FAMILIES = (*_TEST_OF_0_1_0, *_TR808_COPIES, "salamander", "tchackpoum-", "becks-", "mercury-mix")
_VALIDATE_FAMILIES = (
    *("millo-", "timgm-", "lmms-", "electric-empire", "synth-metal-"),  # of 0.1.0
    *("osdk", "discord-gm", "mercury-909"),
)
# Of these, kits of different names hold recordings of the same drums: other microphones, or other copies.
_SHARING = (
    _TR808_COPIES,
    ("avl-", "h2-black-pearl", "h2-gmrock"),
    ("timgm-", "lmms-acoustic"),
    ("tchackpoum-",),
    ("muldjord-",),
    ("gogodze-",),
    ("virtuosity-",),
)
# The other procedural kits would only repeat what training/data/procedural.py makes without end.
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


def was_tested_in_0_1_0(kit: str) -> bool:
    """Tell whether a kit was on the test side of release 0.1.0, whose scores are compared with."""
    return kit.startswith(_TEST_OF_0_1_0)


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
    """Return a name that is the same for kits made of the same recordings."""
    return next((names[0] for names in _SHARING if kit.startswith(names)), kit)
