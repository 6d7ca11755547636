"""How the process of `redrum` ends: at once, but after all that is registered to run at its end."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TALKATIVE = """
import atexit, sys
from daw_bridge import __main__
def last(code):
    atexit.register(print, "at exit", end="")
    print("out", end=" ")
    print("err", end="", file=sys.stderr)
    {end}
__main__.run = last
class Sentinel:
    def __del__(self): print(" taken apart")
sentinel = Sentinel()
"""


def ended(end, *, code=0):
    program = TALKATIVE.replace("{end}", end) + f"__main__.run = lambda: last({code})\n__main__.main()"
    # Buffered, as in a pipe: what was printed is lost unless it is flushed.
    command = [sys.executable, "-c", program]
    environment = {"PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=False, env=environment)


@pytest.mark.parametrize("code", [0, 3, None])
def test_what_was_printed_and_registered_comes_first(code):
    done = ended("sys.exit(code)", code=code)
    assert (done.returncode, done.stdout, done.stderr) == (code or 0, "out at exit", "err")


def test_an_error_is_reported_as_python_does():
    done = ended("raise ValueError('unforeseen')")
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: unforeseen\n")
    assert "at exit" in done.stdout
