import json

import pytest
from typer.testing import CliRunner

from daw_bridge.commands.cli import app
from training.bench import benchmark
from training.bench import speed as bench_speed

MEAN = {"mean": 0.5, "low": 0.25, "high": 0.75, "n": 2}
RESULT = {
    "schema": 1,
    "settings": {"n_pairs": 2, "seed": 7, "preset": "default"},
    "run": {},
    "rows": [
        {"material": "pairs", "system": "oracle", "n": 2, "failures": 0, "measures": {"class_f_50": MEAN}},
        {"material": "loops", "system": "source copy", "n": 1, "failures": 1, "measures": {"onset_f_20": MEAN}},
    ],
}


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """Return a function that runs the command in an empty folder; what it measures is made up."""
    monkeypatch.chdir(tmp_path)
    asked = []

    def measured(data, out, settings, **rest):
        asked.append((data, out, settings, rest))
        return RESULT

    def run(*args, is_real=False):
        if not is_real:
            monkeypatch.setattr(benchmark, "run_benchmark", measured)
        return CliRunner().invoke(app, ["bench", *map(str, args)])

    run.asked = asked
    return run


def test_bench_writes_table_data_and_picture(bench, tmp_path):
    result = bench("--data", "pack", "--items", 25, "--seed", 7, "--overwrite", "--beside", "other")
    assert result.exit_code == 0, result.stderr
    data, out, settings, rest = bench.asked[0]
    assert (str(data), settings.n_pairs, settings.n_loops, settings.seed) == ("pack", 25, 3, 7)
    assert (settings.preset, settings.beside) == ("default", "other")
    assert rest["overwrite"]
    assert sorted(path.name for path in (tmp_path / out).iterdir()) == [
        "benchmark.json",
        "benchmark.md",
        "benchmark.png",
        "costs.json",
    ]
    table = (tmp_path / out / "benchmark.md").read_text(encoding="utf-8")
    assert "| oracle | 0.500 (0.250 to 0.750) | - |" in table
    assert "Failed, and counted as silence: source copy on 1 of 1 loops." in table
    assert "| oracle | 0.500" in result.stdout
    assert "written: redrummed" in result.stdout


def test_bench_in_json_is_an_object_a_row(bench):
    result = bench("--json", "--out", "here")
    assert result.exit_code == 0, result.stderr
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert rows == [{"schema": 1, **row} for row in RESULT["rows"]]
    settings = bench.asked[0][2]
    assert (settings.n_pairs, settings.n_loops, settings.seed) == (200, 20, 0)


def test_bench_without_a_pack_says_how_to_get_one(bench, tmp_path):
    result = bench("--data", "nowhere", is_real=True)
    assert result.exit_code == 1
    assert result.stderr == (
        "redrum: there is no packed data set in nowhere\n"
        "  make one with `redrum train pack DATA --out PACK` and name it with --data PACK\n"
    )
    assert not list(tmp_path.iterdir())


def test_bench_of_nothing_is_a_usage_error(bench):
    result = bench("--items", 0, is_real=True)
    assert result.exit_code == 2
    assert "n_pairs is 0; it must be 1 or more" in result.stderr


def test_speed_alone_needs_no_pack(bench, tmp_path, monkeypatch):
    row = {"stage": "transcription", "length_s": 60.0, "seconds": 0.5, "real_time_factor": 120.0}
    made_up = {"schema": 1, "preset": "default", "n_cores": 2, "rows": [row | {"peak_memory_mb": 500.0}]}
    monkeypatch.setattr(
        bench_speed, "measure_speed", lambda preset, redrum, device, progress: made_up | {"device": device}
    )
    result = bench("--speed", "--device", "cpu", "--out", "here")
    assert result.exit_code == 0, result.stderr
    assert "120" in result.stdout
    assert "on cpu, 2 cores" in result.stdout
    assert not bench.asked
    written = sorted(path.name for path in (tmp_path / "here").iterdir())
    assert written == ["speed.json", "speed.md"]
    assert json.loads(bench("--speed", "--json", "--out", "there").stdout)["real_time_factor"] == 120.0


def test_only_the_speed_is_measured_on_a_device(bench):
    result = bench("--device", "cuda")
    assert result.exit_code == 2
    assert "leave --device out, or add --speed" in result.stderr
    assert not bench.asked
