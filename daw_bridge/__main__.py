"""`python -m daw_bridge` and the command `redrum`: a job is handed to the helper before all imports."""

import atexit
import os
import sys
from contextlib import suppress

from transform.collection import paused_collection
from transform.terminal import guard_output


def main() -> None:
    """Run the command `redrum`, and end this process at once when all is done."""
    codes: list[int] = []
    atexit.register(_end_at_once, codes)  # first, so that it runs last
    try:
        run()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            codes.append(end.code or 0)
        raise


def _end_at_once(codes: list[int]) -> None:
    """End with the exit code, if there is one; else Python ends as usual.

    Python would take PyTorch's modules apart first: a tenth of the time of a short command.
    """
    with suppress(OSError, ValueError):  # what cannot be written is reported as usual
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        if codes:
            os._exit(codes[0])


def run() -> None:
    """Run the command `redrum`; a job of an action goes to the helper, if that takes it."""
    guard_output()
    if sys.argv[1:-1] in (["reaper", "run-job"], ["ardour", "run-job"]) and not sys.argv[-1].startswith("-"):
        from daw_bridge.warm import CANCELLED, hand_over

        try:
            outcome = hand_over(sys.argv[-1])
        except KeyboardInterrupt:  # the helper ends a job whose client has gone
            outcome = CANCELLED, ["redrum: interrupted"]
        if outcome is not None:
            code, messages = outcome
            for text in messages:
                print(text, file=sys.stderr)
            sys.exit(code)

    try:
        with paused_collection():
            from daw_bridge.commands.cli import main as run_command
    except KeyboardInterrupt:
        print("redrum: interrupted", file=sys.stderr)
        sys.exit(130)
    run_command()


if __name__ == "__main__":
    main()
