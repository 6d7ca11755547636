"""Ranges of the numbers of a configuration, which a stranger may have written into a preset."""

from collections.abc import Sequence
from itertools import pairwise

from transform.errors import SettingsError

_MOST_NUMBERS = 32  # in a list
_MOST_PRODUCTS = 20_000_000  # of convolutions; the shipped transcriber has .7 million


def check_ranges(config: object, **ranges: tuple[float, float]) -> None:
    """Raise SettingsError unless fields, and all numbers of those that are tuples, lie within their ranges.

    What bounds a range is work: weights have to be there in the size that a configuration names, but layers
    without end, or windows, padding and buffers without end, need no weights.

    Args:
        config: what has the fields.
        ranges: by field, the least and the greatest value.
    """
    for name, (least, most) in ranges.items():
        value = getattr(config, name)
        numbers = value if isinstance(value, tuple) else (value,)
        if len(numbers) > _MOST_NUMBERS:
            raise SettingsError(f"{name} has {len(numbers)} numbers; there may be {_MOST_NUMBERS}")
        if not all(least <= number <= most for number in numbers):
            allowed = f"be {least:g}" if least == most else f"lie between {least:g} and {most:g}"
            raise SettingsError(f"{name} is {str(value)[:80]}; it must {allowed}")


def check_convolutions(n_bands: int, widths: Sequence[int]) -> None:
    """Raise SettingsError for a stack of convolutions over bands that would compute for ever.

    Weights of one value take no room in a file, so that their number bounds nothing.

    Args:
        n_bands: where the kernels are applied in each frame, at most.
        widths: channels, from those that come in to those of the last layer.
    """
    if n_bands * sum(a * b for a, b in pairwise(widths)) > _MOST_PRODUCTS:
        raise SettingsError(f"{n_bands} bands of {max(widths)} channels are more than any that were trained")
