"""Imports without the search for garbage leave it as it was."""

import gc
import importlib

import pytest

from transform.collection import paused_collection


@pytest.fixture(autouse=True)
def _as_before():
    was_on = gc.isenabled()
    yield
    (gc.enable if was_on else gc.disable)()


@pytest.mark.parametrize("is_on", [True, False])
def test_the_collector_is_as_it_was(is_on):
    (gc.enable if is_on else gc.disable)()
    with pytest.raises(ImportError), paused_collection():
        importlib.import_module("no_such_module")
    assert gc.isenabled() is is_on


def test_what_was_imported_is_not_searched_again_but_garbage_in_it_is_found():
    gc.collect()
    with paused_collection():
        imported = [[] for _ in range(20_000)]
        circle = []
        circle.append(circle)
        del circle
    assert len(gc.get_objects(generation=0)) < len(imported)
    assert gc.collect() >= 1
