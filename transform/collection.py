"""Imports without Python's search for garbage."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def paused_collection() -> Iterator[None]:
    """Let Python search for no garbage meanwhile, and not again in what came into being.

    For imports: they make a million objects, none of which is garbage, and the searches take a seventh of the
    time of importing PyTorch.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        # To the oldest generation, which is searched when it has grown by a quarter.
        gc.freeze()
        gc.unfreeze()
        if was_on:
            gc.enable()
