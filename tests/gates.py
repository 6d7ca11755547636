"""Run every gate in turn and stop at the first that fails: format, lint, types, tests.

With `--fast`, tests that are marked slow are left out. The tests run in parts, two at a time: those of
`daw_bridge`, which wait for each other at the ports of REAPER, and all others; what ends first goes on with
those in Ardour.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GATES = (
    ["ruff", "format", "--check", "."],
    ["ruff", "check", "."],
    ["mypy"],  # strictness and packages stand in pyproject.toml
)
_SUMMARY = re.compile(r"^(\d+ failed, )?\d+ passed.* in [\d.]+s", re.MULTILINE)  # of a run that came to its end
_ARDOUR = "tests/daw_bridge/ardour"
PARTS = (["tests/daw_bridge", "--ignore", _ARDOUR], ["tests", "--ignore", "tests/daw_bridge"], [_ARDOUR])


def run_part(part: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a part of the tests on one core."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *part]
    return subprocess.run(
        command,
        cwd=ROOT,
        env={"OMP_NUM_THREADS": "1"} | os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        check=False,
    )


def run_tests(chosen: list[str]) -> int:
    """Run all parts of the tests, print what each says in one piece, and return how many failed."""
    n_failed = 0
    parts = [[*part, *chosen] for part in PARTS]
    with ThreadPoolExecutor(max_workers=2) as pool:
        for part, done in zip(parts, pool.map(run_part, parts), strict=True):
            print("$ pytest -q", *part, flush=True)
            print(done.stdout, flush=True)
            is_whole = _SUMMARY.search(done.stdout) is not None
            if not is_whole:
                print("pytest ended before its summary", file=sys.stderr)
            n_failed += done.returncode != 0 or not is_whole
    return n_failed


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every gate in turn.")
    parser.add_argument("--fast", action="store_true", help="leave out tests that are marked slow")
    chosen = ["-m", "not slow"] if parser.parse_args().fast else []
    for gate in GATES:
        print("$", *gate, flush=True)
        code = subprocess.run([sys.executable, "-m", *gate], cwd=ROOT, check=False).returncode
        if code:
            print(f"{gate[0]} failed", file=sys.stderr)
            return code
    if run_tests(chosen):
        print("pytest failed", file=sys.stderr)
        return 1
    print("all gates passed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
