"""What moves sound and rhythms between a session and `transform`: the command line, batches and DAW adapters."""

__all__: list[str] = []
