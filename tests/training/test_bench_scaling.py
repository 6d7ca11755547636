import json
from types import SimpleNamespace

import bench_scaling as module
import numpy as np
import pytest
import typer
from bench_scaling import BATCH, Repeated, draw, exponent, measure, report, work_alone
from typer.testing import CliRunner

from transform.audio import Recording

ASKED = [("transcription", 1.0), ("transcription", 3.0), ("transcription", 10.0), (BATCH, 1.0), (BATCH, 10.0)]


def point(what, size, seconds, peak_mb=800.0):
    head = {"schema": 1, "preset": "default", "what": what, "size": size}
    return head | {"seconds": seconds, "peak_memory_mb": peak_mb, "n_cores": 2}


@pytest.fixture
def measured(monkeypatch):
    """Return what was measured; nothing works: stages take 2 s a minute, batches 3 s and 0.1 s an item."""
    done = []

    def stage(preset, name, minutes):
        done.append((name, minutes))
        return 2.0 * minutes, 800.0

    def batch(preset, n_items):
        done.append((BATCH, n_items))
        return 3 + 0.1 * n_items, None

    monkeypatch.setattr(module, "_stage", stage)
    monkeypatch.setattr(module, "_batch", batch)
    return done


def test_a_stopped_run_goes_on(measured, tmp_path, monkeypatch):
    store = tmp_path / "out" / "scaling.jsonl"
    whole, real = measure(tmp_path / "calm", "default", ASKED, lambda _: None), module._stage
    assert measured == ASKED

    def stopped(preset, name, minutes):
        if minutes == 10:
            raise KeyboardInterrupt
        return real(preset, name, minutes)

    measured.clear()
    monkeypatch.setattr(module, "_stage", stopped)
    with pytest.raises(KeyboardInterrupt):
        measure(store, "default", ASKED, lambda _: None)
    assert len(store.read_text(encoding="utf-8").splitlines()) == len(measured) == 2
    monkeypatch.setattr(module, "_stage", real)
    assert measure(store, "default", ASKED, lambda _: None) == whole
    assert measured == ASKED  # each of them once
    assert [json.loads(line) for line in store.read_text(encoding="utf-8").splitlines()] == whole
    assert measure(store, "default", ASKED[:1], lambda _: None) == whole[:1]
    assert measured == ASKED


def test_linear_time_has_the_exponent_one():
    linear = [point("latent", size, 3.0 * size) for size in (1, 3, 10, 30, 60)]
    assert exponent(linear) == pytest.approx(1.0)
    assert exponent([point("latent", size, 0.1 * size**2) for size in (60, 30, 10)]) == pytest.approx(2.0)
    assert exponent(linear[:1]) is None
    assert module.faster_than_linear(linear) == []
    assert module.faster_than_linear([point("latent", size, size**1.1) for size in (60, 30, 10)]) == ["latent"]
    # A slow start does not count where recordings are long.
    assert exponent([point("latent", 0.001, 500.0), *linear]) == pytest.approx(1.0)


def test_the_report_says_what_each_minute_and_item_costs():
    told = report(
        [
            point("latent", 1.0, 2.5),
            point("latent", 10.0, 25.0),
            point("latent", 60.0, 150.0),
            point(BATCH, 500, 100.0, None),
        ]
    )
    assert "| latent | 1 minute of stereo | 2.5 | 2.50 | 800 MB |" in told
    assert "| latent | 10 minutes of stereo | 25.0 | 2.50 | 800 MB |" in told
    assert "| batch | 500 items of 3 s | 100.0 | 0.20 | - |" in told
    assert "- latent: 1.00" in told
    assert "- batch: -" in told
    assert "2 cores" in told


def test_the_command_measures_reports_and_draws(measured, tmp_path):
    app = typer.Typer()
    app.command()(module.main)
    asked = [word for n in (1, 3) for word in ("--minutes", str(n))]
    result = CliRunner().invoke(app, ["--out", str(tmp_path / "o ü"), *asked, "--items", "2"])
    assert result.exit_code == 0, result.output
    assert measured == [(what, n) for what in module.MEASURED for n in (1.0, 3.0)] + [(BATCH, 2)]
    assert "| resequence | 3 minutes of stereo | 6.0 | 2.00 | 800 MB |" in result.stdout
    found = {path.name: path.read_bytes() for path in (tmp_path / "o ü").iterdir()}
    assert found.keys() == {"scaling.jsonl", "scaling.md", "scaling.png"}
    assert found["scaling.png"].startswith(b"\x89PNG")


def test_a_picture_of_recordings_alone_can_be_drawn(tmp_path):
    draw([point("latent", 1.0, 3.0, None)], tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 1000


def test_a_loop_is_repeated_without_being_stored():
    loop = Recording.from_samples(np.arange(200).reshape(2, 100) / 200, 10, "loop")
    hour = Repeated(loop, 3600.0)
    assert (hour.duration_s, hour.n_channels, hour.sample_rate) == (3600.0, 2, 10)
    whole = np.tile(loop.read(0, 100), 360)
    assert np.array_equal(hour.read(95, 310), whole[:, 95:310])
    assert np.array_equal(hour.read(-5, 3), np.pad(whole[:, :3], ((0, 0), (5, 0))))
    assert np.array_equal(hour.read(35_990, 36_010), np.pad(whole[:, 35_990:], ((0, 0), (0, 10))))


def test_a_stage_alone_works_on_the_length_that_is_asked_for(monkeypatch):
    def work(model, recording):
        assert model == ("default", "cpu")
        return recording.duration_s

    monkeypatch.setattr(module, "STAGES", {"latent": SimpleNamespace(load=lambda *given: given, work=work)})
    seconds, peak_mb = work_alone("default", "latent", 90.0)
    assert seconds == 90.0
    assert peak_mb is None or peak_mb > 50


def test_a_batch_has_items_of_three_seconds(monkeypatch):
    found = []

    def batch(stems, out, preset):
        for path in sorted(stems.iterdir()):
            with Recording.open(path) as recording:
                found.append(recording.duration_s)
        assert not out.exists()
        return 4.0, [500.0, 700.0, 600.0]

    monkeypatch.setattr(module, "timed_batch", batch)
    assert module._batch("default", 3) == (4.0, 700.0)
    assert found == pytest.approx([3.0] * 3, abs=1e-3)
