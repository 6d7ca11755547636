"""Run every gate in turn and stop at the first that fails: format, lint, types, tests."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GATES = (
    ["ruff", "format", "--check", "."],
    ["ruff", "check", "."],
    ["mypy"],  # strictness and packages stand in pyproject.toml
    ["pytest", "-q"],
)


def main() -> int:
    for gate in GATES:
        print("$", *gate, flush=True)
        code = subprocess.run([sys.executable, "-m", *gate], cwd=ROOT, check=False).returncode
        if code:
            print(f"{gate[0]} failed", file=sys.stderr)
            return code
    print("all gates passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
