"""What the mutator must find, planted: a reader that fails, waits, never ends, dies, or writes outside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutate.__main__ import all_formats

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the mutator needs fork")


def mutate(corpus, *arguments):
    """Run the mutator on faulty readers; return its exit code, counts by format, and findings."""
    command = [sys.executable, "-m", "tests.mutate.planted", "--corpus", str(corpus), *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode in (0, 1), done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    findings = [json.loads(path.read_text()) for path in (corpus / "findings").rglob("finding.json")]
    return done.returncode, {about["format"]: about for about in told}, findings


def test_every_format_has_inputs_to_begin_with():
    for name, made in all_formats().items():
        assert all(isinstance(seed, bytes) for seed in made.seeds()), name
        assert made.seeds(), name


@pytest.mark.parametrize(
    ("reader", "kind", "what"),
    [
        ("number", "traceback", "ValueError"),
        pytest.param("waits", "slow", "it waits", marks=pytest.mark.slow),
        pytest.param("computes", "slow", "it computes", marks=pytest.mark.slow),
        ("writes", "outside", "open: SANDBOX/outside/precious/thesis.txt"),
        pytest.param(
            "writes_through_a_link",
            "outside",
            "os.remove: SANDBOX/outside/home/.bashrc",
            marks=pytest.mark.slow,
        ),
        pytest.param("writes_unseen", "outside", "changed: outside/empty", marks=pytest.mark.slow),
        pytest.param("dies", "crash", "exit code -11", marks=pytest.mark.slow),
    ],
)
def test_a_planted_fault_is_found(tmp_path, reader, kind, what):
    code, counts, findings = mutate(tmp_path, "--only", reader, "--minutes", 0.03, "--limit", 1)
    assert code == 1
    assert counts[reader][kind] >= 1
    assert {found["kind"] for found in findings} == {kind}
    assert any(found["what"].startswith(what) for found in findings)


@pytest.mark.slow
def test_a_finding_can_be_read_again(tmp_path):
    mutate(tmp_path, "--only", "number", "--minutes", 0.03)
    (about,) = (p for p in tmp_path.rglob("finding.json") if "ValueError" in p.read_text())
    file = about.with_name("input")
    command = [sys.executable, "-m", "tests.mutate.planted", "--only", "number", "--replay", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    assert "ValueError: invalid literal" in done.stdout
    assert len(file.read_bytes()) <= 2  # made smaller


@pytest.mark.slow
def test_what_is_sound_goes_on_where_it_stopped(tmp_path):
    code, first, findings = mutate(tmp_path, "--only", "sound", "--minutes", 0.03)
    assert (code, findings) == (0, [])
    assert first["sound"]["read"] > 0
    assert first["sound"]["refused"] > 0
    _, second, _ = mutate(tmp_path, "--only", "sound", "--minutes", 0.03)
    assert second["sound"]["tried"] > first["sound"]["tried"]
    assert second["sound"]["seconds"] > first["sound"]["seconds"]
