"""Redrum's Remote Script: Live, when this is chosen as a control surface, lets Redrum on this machine reach it.

Live loads this folder from its User Library. It uses no framework of Live's, only what Live calls on every
control surface: `_Framework` is on its way out and `ableton.v2` and `v3` change from version to version. Only
the standard library is used, in the syntax of Python 3.7, which is Live 11's.

`endpoint` and `handshake` are what all of Redrum's connections on this machine have in common. They lie here as
Live knows no other folder; nothing is imported with them.
"""

from __future__ import annotations

__all__ = ["create_instance"]


def create_instance(c_instance: object) -> object:
    """Return the control surface; Live calls this when a set is opened or the script is chosen."""
    import Live  # type: ignore[import-not-found,unused-ignore]

    from .surface import Redrum

    return Redrum(c_instance, Live)
