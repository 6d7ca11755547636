"""Run every gate in turn and stop at the first that fails: format, lint, types, tests.

With `--fast`, tests that are marked slow are left out. The tests run in two processes side by side: those of
`daw_bridge`, which wait for each other at the ports of REAPER, and all others.
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
HALVES = (["tests", "--ignore", "tests/daw_bridge"], ["tests/daw_bridge"])


def run_half(half: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a half of the tests, a core each."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *half]
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
    """Run both halves of the tests, print what each says in one piece, and return how many failed."""
    n_failed = 0
    halves = [[*half, *chosen] for half in HALVES]
    with ThreadPoolExecutor() as pool:
        for half, done in zip(halves, pool.map(run_half, halves), strict=True):
            print("$ pytest -q", *half, flush=True)
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
