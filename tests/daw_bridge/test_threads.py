"""With how many threads the commands compute."""

import os

import pytest
import torch
import typer
from typer.testing import CliRunner

from daw_bridge.batch_work import default_jobs
from daw_bridge.commands.cli import app
from daw_bridge.devices import set_up_device
from transform.engine import Redrummer
from transform.library import demo_recordings


@pytest.fixture
def told(monkeypatch):
    """Return the numbers of threads that PyTorch is told to take; it takes none of them."""
    numbers = []
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    monkeypatch.setattr(torch, "set_num_interop_threads", lambda n: None)
    return numbers


@pytest.mark.parametrize(("n_cores", "n_threads", "n_jobs"), [(1, 1, 1), (2, 1, 2), (3, 2, 3), (16, 15, 4)])
def test_one_core_is_left_to_the_daw_but_not_by_a_batch(told, monkeypatch, n_cores, n_threads, n_jobs):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(n_cores), raising=False)
    assert set_up_device("cpu", None) == "cpu"
    assert told == [n_threads]
    assert default_jobs() == n_jobs


def test_what_is_asked_for_counts_more(told, monkeypatch):
    assert set_up_device("cpu", 5) == "cpu"
    assert default_jobs(2) == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "3")  # which PyTorch follows by itself
    assert set_up_device("cpu", None) == "cpu"
    assert told == [5]


def test_threads_are_set_before_anything_is_computed(told, tmp_path, monkeypatch):
    def load(*arguments, **options):
        raise RuntimeError(f"loaded after {told}")

    monkeypatch.setattr(Redrummer, "load", load)
    command = ["transcribe", str(demo_recordings()[0].path), "-o", str(tmp_path / "a.mid"), "--threads"]
    result = CliRunner().invoke(app, [*command, "2"])
    assert str(result.exception) == "loaded after [2]"
    result = CliRunner().invoke(app, [*command, "0"])
    assert result.exit_code == 2
    assert "--threads" in result.stderr


def test_every_command_with_a_device_takes_threads():
    def commands(group):
        for command in group.commands.values():
            yield from commands(command) if hasattr(command, "commands") else [command]

    takes = {c.name: {parameter.name for parameter in c.params} for c in commands(typer.main.get_command(app))}
    with_device = {name for name, options in takes.items() if "device" in options}
    assert {"demo", "render", "batch", "transcribe", "separate", "extract", "run-job"} < with_device
    without = {"doctor", "bench"}
    assert {name for name, options in takes.items() if "threads" in options} == with_device - without
