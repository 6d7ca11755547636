"""Ranges of the numbers of a configuration, which a stranger may have written into a preset."""

from transform.errors import SettingsError

_MOST_NUMBERS = 32  # in a list


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
