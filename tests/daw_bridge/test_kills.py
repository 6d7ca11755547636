"""Commands that are killed at random moments, and two batches on one folder: nothing is lost or cut off."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork: a run would take seconds to start")
@pytest.mark.parametrize(
    ("what", "few"),
    [
        ("render", 3),
        *(
            pytest.param(what, few, marks=pytest.mark.slow)
            for what, few in (("batch", 6), ("render", 12), ("project", 12), ("settings", 12), ("pair", 4))
        ),
    ],
)
def test_killed_at_any_moment_nothing_is_lost(tmp_path, happened, what, few):
    n = happened.many or few
    seed = "0" if happened.many is None else str(os.getpid())
    program = Path(__file__).with_name("kill_often.py")
    command = [sys.executable, "-W", "ignore", str(program), what, str(tmp_path / "ü"), str(n), seed]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    count = json.loads(done.stdout)
    for outcome, times in count.items():
        happened(f"killed, {what}" if what != "pair" else "two batches at once", outcome, times)
    assert sum(times for outcome, times in count.items() if outcome.startswith(("killed", "one"))) >= n
