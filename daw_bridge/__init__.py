"""What moves sound and rhythms between a session and `transform`: command line, batches, DAW adapters."""

__all__: list[str] = []
