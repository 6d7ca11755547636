"""Shipped data, read through `transform.presets`: trained weights, rhythms, and recordings for the demo."""

__all__: list[str] = []
