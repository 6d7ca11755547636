import math
from itertools import pairwise

import numpy as np
import pytest

from transform.signal import (
    Block,
    BlockCache,
    ComputedSignal,
    blocks_of,
    overlapping_blocks,
    read_blocks,
    zeros_outside,
)


def counted(start, stop):
    """Two channels that count: their levels say which sample it is."""
    count = np.arange(start, stop, dtype=np.float32)
    return np.stack([count, -count])


# Regions


@pytest.mark.parametrize(
    ("start", "stop", "expected"),
    [
        (0, 5, [0, 1, 2, 3, 4]),
        (2, 4, [2, 3]),
        (-2, 2, [0, 0, 0, 1]),
        (3, 7, [3, 4, 0, 0]),
        (-1, 6, [0, 0, 1, 2, 3, 4, 0]),
        (5, 8, [0, 0, 0]),
        (-4, 0, [0, 0, 0, 0]),
        (3, 3, []),
    ],
)
def test_outside_of_a_signal_there_are_zeros(start, stop, expected):
    asked = []

    def inside(first, last):
        asked.append((first, last))
        return counted(first, last)

    out = zeros_outside(inside, start, stop, (2, 5))
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out, [expected, np.negative(expected)])
    assert all(0 <= first < last <= 5 for first, last in asked)  # never anything outside, or nothing


def test_a_region_that_ends_before_it_begins_is_a_mistake():
    with pytest.raises(AssertionError, match="read from 3 to 2"):
        zeros_outside(counted, 3, 2, (2, 5))


def test_a_region_may_be_written_to():
    stored = counted(0, 5)
    out = zeros_outside(lambda start, stop: stored[:, start:stop], 0, 5, (2, 5))
    out += 1
    np.testing.assert_array_equal(stored, counted(0, 5))


# Blocks with their context


def test_blocks_of_a_known_length():
    assert list(overlapping_blocks(10, 4, 3)) == [Block(0, 4, 0, 7), Block(4, 8, 1, 10), Block(8, 10, 5, 10)]
    assert list(overlapping_blocks(8, 4)) == [Block(0, 4, 0, 4), Block(4, 8, 4, 8)]
    assert list(overlapping_blocks(0, 4, 1)) == []
    assert Block.of(4, 8, context=3, length=9).core == slice(3, 7)


def test_blocks_hold_each_sample_once_and_all_the_context_there_is():
    random = np.random.default_rng(0)
    for _ in range(300):
        length, size, context = (int(random.integers(low, high)) for low, high in ((0, 60), (1, 70), (0, 70)))
        blocks = list(overlapping_blocks(length, size, context))
        whole = np.arange(length)
        found = [whole[block.begin : block.end][block.core] for block in blocks]
        np.testing.assert_array_equal(np.concatenate([whole[:0], *found]), whole)
        assert all(block.stop - block.start == size for block in blocks[:-1])
        for block in blocks:
            assert block.start - block.begin == min(context, block.start)
            assert block.end - block.stop == min(context, length - block.stop)


def test_what_has_a_finite_view_is_the_same_in_blocks():
    sound, reach = np.random.default_rng(1).standard_normal(500), 6
    kernel = np.hanning(2 * reach + 1)
    parts = [
        np.convolve(sound[block.begin : block.end], kernel, mode="same")[block.core]
        for block in overlapping_blocks(500, 37, reach)
    ]
    np.testing.assert_allclose(np.concatenate(parts), np.convolve(sound, kernel, mode="same"), atol=1e-12)


def test_a_signal_is_yielded_from_beginning_to_end():
    blocks = list(blocks_of(ComputedSignal(counted, 10, 44_100, 2), 4))
    assert [block.shape for block in blocks] == [(2, 4), (2, 4), (2, 2)]
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), counted(0, 10))


@pytest.mark.parametrize("length", [53, None])
def test_a_region_of_blocks_is_that_of_the_whole(length):
    random = np.random.default_rng(2)

    def block(number):
        return counted(number * 10, (number + 1) * 10 if length is None else min((number + 1) * 10, length))

    low, high = (0, length + 1) if length is not None else (-40, 90)  # without end, blocks go on on both sides
    for start, stop in np.sort(random.integers(low, high, (300, 2)), axis=1).tolist():
        np.testing.assert_array_equal(read_blocks(block, 10, start, stop), counted(start, stop))


def test_only_the_blocks_that_a_region_touches_are_made():
    made = []

    def block(number):
        made.append(number)
        return counted(number * 10, number * 10 + 10)

    for start, stop in ((0, 10), (10, 11), (19, 31), (30, 30)):
        read_blocks(block, 10, start, stop)
    assert made == [0, 1, 1, 2, 3, 3]


# The cache


def cached(cache, keys, size=1):
    """Return which keys are computed as they are asked for in turn."""
    made = []

    def make(key):
        made.append(key)
        return np.full(size, key, dtype=np.uint8)

    for key in keys:
        assert (cache.get(key, make) == key).all()
    return made


def test_those_used_last_are_cached():
    assert cached(BlockCache(2), [1, 2, 1, 3, 1, 2, 3, 3]) == [1, 2, 3, 2, 3]
    assert cached(BlockCache(), [1, 1, 2, 1]) == [1, 2, 1]


@pytest.mark.parametrize(
    ("n_blocks", "n_bytes", "n_cached"), [(1, 1000, 10), (1, 999, 9), (12, 999, 12), (1, 5, 1)]
)
def test_blocks_are_bounded_by_their_number_or_their_bytes(n_blocks, n_bytes, n_cached):
    cache = BlockCache(n_blocks, n_bytes)
    cached(cache, range(20), size=100)
    newest = list(range(20))[-n_cached:]
    assert cached(cache, reversed(newest), size=100) == []
    assert cached(cache, [19 - n_cached], size=100) == [19 - n_cached]


def test_what_does_not_say_its_size_is_bounded_by_number():
    cache = BlockCache(3)
    for key in range(10):
        cache.get(key, lambda key: (key, "tuple"))
    assert cache.get(7, lambda key: None) == (7, "tuple")
    assert cache.get(6, lambda key: None) is None


def test_a_cache_behaves_as_a_list_of_what_was_used_last():
    random = np.random.default_rng(3)
    cache, recent = BlockCache(4), []
    for key in random.integers(0, 7, 500).tolist():
        assert cached(cache, [key]) == ([] if key in recent else [key])
        recent = [*(other for other in recent if other != key), key][-4:]


def test_several_blocks_are_made_together_and_only_those_that_are_missing():
    cache, asked = BlockCache(2), []

    def make(missing):
        asked.append(missing)
        return (key * 10 for key in missing)

    assert cache.get_all([1, 2], make) == [10, 20]
    assert cache.get_all([2, 3, 4], make) == [20, 30, 40]  # more than are cached afterwards
    assert cache.get_all([4, 3], make) == [40, 30]
    assert cache.get_all([2], make) == [20]
    assert asked == [[1, 2], [3, 4], [2]]


def test_what_fails_is_not_cached():
    cache = BlockCache(2)
    with pytest.raises(ZeroDivisionError):
        cache.get(0, lambda key: 1 / key)
    assert cache.get(0, math.exp) == 1.0


def test_what_is_cleared_is_forgotten_with_its_bytes():
    cache = BlockCache(n_bytes=250)
    cached(cache, [1, 2], size=100)
    cache.clear()
    assert cached(cache, [1, 2, 1, 2], size=100) == [1, 2]


def test_regions_of_cached_blocks_are_the_same_however_they_are_read():
    cache, made = BlockCache(3), []

    def make(number):
        made.append(number)
        return counted(number * 8, number * 8 + 8)

    edges = [-20, -3, 0, 8, 9, 40, 41, 41, 100]
    parts = [read_blocks(lambda n: cache.get(n, make), 8, start, stop) for start, stop in pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), counted(-20, 100))
    assert len(made) == len(set(made))  # from beginning to end each is made once
