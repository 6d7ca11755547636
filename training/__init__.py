"""Offline training and the benchmark: data, losses, stages; each ends in a checkpoint `transform` loads."""

__all__: list[str] = []
