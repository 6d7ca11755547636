"""`python -m daw_bridge` and the command `redrum`: a job is handed to the helper before all imports."""

import sys

from transform.terminal import guard_output


def main() -> None:
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
        from daw_bridge.commands.cli import main as run_command
    except KeyboardInterrupt:
        print("redrum: interrupted", file=sys.stderr)
        sys.exit(130)
    run_command()


if __name__ == "__main__":
    main()
