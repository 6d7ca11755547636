import json
import subprocess
from types import SimpleNamespace

import pytest

from training.bench import codec_cost, reference
from training.bench import speed as bench_speed
from training.bench.reference import measure_reference
from training.bench.speed import count_alone, measure_speed, work_alone
from training.bench.speed_report import speed_table, write_speed
from transform.audio import Recording
from transform.codec import Encoded
from transform.engine import Redrummer
from transform.errors import CheckpointError
from transform.library import demo_recordings
from transform.presets import load_preset

REFERENCE = {"product_gflops": 80.0, "fft_mb_s": 900.0}


@pytest.fixture
def measured(monkeypatch):
    """Return what was measured: (stage, samples, channels); nothing works, and each takes half a second."""
    asked = []

    def measure(what, work, preset, stage, path, device):
        assert device == "cpu"
        if work is count_alone:
            return 3.0
        with Recording.open(path) as recording:
            asked.append((stage, recording.n_samples, recording.n_channels))
        return 0.5, 300.0, REFERENCE

    monkeypatch.setattr(bench_speed, "in_own_process", measure)
    monkeypatch.setattr(bench_speed, "_command_s", lambda redrum, preset, engine, folder: 1.5)
    monkeypatch.setattr(bench_speed, "CODEC_LENGTHS_S", (3.0, 7.0))
    costs = [{"codec": "encoder", "parameters": 5, "gmac_a_second": 0.5}]
    monkeypatch.setattr(codec_cost, "codec_costs", lambda preset: costs)
    return asked


def test_every_stage_works_on_every_length(measured):
    told = []
    result = measure_speed(
        "default", (1.0, 20.5), redrum=["redrum"], progress=lambda stage, share: told.append(share)
    )
    models = load_preset("default").models
    stages = ["transcription", "separation", "resequence"]
    if "rhythm" in models:
        stages += ["latent", "latent, generated attacks", "latent, bfloat16"]
    if "codec-generator" in models:
        stages += ["codec", "codec, bfloat16"]
    if "separator" not in models:
        stages.remove("separation")
    with Recording.open(demo_recordings()[0].path) as loop:
        rate, n_channels = loop.sample_rate, loop.n_channels
    of_the_codec = [("codec", round(s * rate), n_channels) for s in (3.0, 7.0) if "codec" in stages]
    asked = [(stage, round(s * rate), n_channels) for s in (1.0, 20.5) for stage in stages]
    assert measured == asked + of_the_codec
    rows = [row for row in result["rows"] if "stage" in row]
    assert [row["real_time_factor"] for row in rows] == [2.0] * len(stages) + [41.0] * len(stages)
    assert all(row.items() >= REFERENCE.items() for row in rows)
    counted = {row["counted"]: row["gflop_a_second"] for row in result["rows"] if "counted" in row}
    assert counted == dict.fromkeys(stages, 3.0)
    engines = [engine for engine in ("resequence", "latent") if engine in stages]
    codec = [row for row in result["rows"] if "codec" in row]
    assert codec == [
        {"codec": "memory", "length_s": 3.0, "peak_memory_mb": 300.0},
        {"codec": "memory", "length_s": 7.0, "peak_memory_mb": 300.0},
        {"codec": "encoder", "parameters": 5, "gmac_a_second": 0.5},
    ]
    assert [row for row in result["rows"] if "command" in row] == [
        {"command": f"render --engine {engine}", "length_s": 3.0, "seconds": 1.5} for engine in engines
    ]
    assert told == sorted(told)
    assert told[-1] == 1


def test_the_table_has_a_row_a_stage(tmp_path):
    rows = [
        {
            "stage": stage,
            "length_s": length_s,
            "real_time_factor": factor,
            "peak_memory_mb": peak_mb,
            **REFERENCE,
        }
        for stage, factor, peak_mb in (("transcription", 99.6, None), ("resequence", 40.2, 512.3))
        for length_s in (60.0, 600.0)
    ]
    rows.append({"counted": "resequence", "length_s": 60.0, "gflop_a_second": 1.4})
    rows.append({"command": "render --engine latent", "length_s": 3.0, "seconds": 2.25})
    rows += [{"codec": "memory", "length_s": s, "peak_memory_mb": 4 * s} for s in (3.0, 1800.0)]
    rows.append({"codec": "generator", "parameters": 7_000_000, "gmac_a_second": 1.404})
    result = {"schema": 1, "preset": "default", "device": "cpu", "n_cores": 2, "rows": rows}
    table = speed_table(result)
    assert "| | 1 min | 10 min |" in table
    assert "| transcription | 100x | 100x |" in table
    assert "| resequence | 40x, 512 MB | 40x, 512 MB |" in table
    # 1.4 * 40.2 is 56.28, of 80.
    assert "| resequence | 1.40 | 56 | 80 | 70 % | 900 |" in table
    assert "on cpu, 2 cores" in table
    assert "redrum bench --speed --preset default --device cpu" in table
    assert "loop of 3 s" in table
    assert "| generator | 7,000,000 | 1.40 |" in table
    assert "To code and decode one channel whole takes 12 MB for 3 s, 7200 MB for 30 min," in table
    assert "- `redrum render --engine latent`: 2.25 s" in table
    paths = write_speed(result, tmp_path)
    assert [path.name for path in paths] == ["speed.md", "speed.json"]
    assert json.loads(paths[1].read_text(encoding="utf-8")) == result


@pytest.mark.parametrize("stage", ["transcription", "resequence"])
def test_a_stage_alone_says_its_seconds_and_its_memory(stage):
    seconds, peak_mb, speeds = work_alone("default", stage, demo_recordings()[0].path, "cpu")
    assert 0 < seconds < 60
    assert peak_mb is None or peak_mb > 50
    assert min(speeds.values()) > 0


def test_the_operations_of_the_transcriber_grow_with_the_recording(tmp_path):
    short, long = (bench_speed._recording(tmp_path, length_s) for length_s in (2.0, 4.0))
    counts = [count_alone("default", "transcription", path, "cpu") for path in (short, long)]
    assert counts[1] == pytest.approx(2 * counts[0], rel=0.1)
    # Its separator's are not counted with it, nor is the transcription with the separation.
    assert count_alone("default", "separation", short, "cpu") > counts[0]


def test_the_reference_counts_the_operations_of_a_product_and_the_bytes_of_the_frames(monkeypatch):
    monkeypatch.setattr(reference, "_run_s", lambda work, device: 0.5)
    assert measure_reference() == {
        "product_gflops": pytest.approx(2 * 1.024**3 / 0.5),
        "fft_mb_s": pytest.approx(4 * 2.048 * 4.096 / 0.5),
    }


def test_a_whole_command_is_a_process_that_makes_a_take(monkeypatch, tmp_path):
    begun = []

    def run(command, **options):
        begun.append(command)
        return SimpleNamespace(returncode=0, stderr=b"")

    monkeypatch.setattr(subprocess, "run", run)
    assert bench_speed._command_s(["python", "redrum"], "default", "latent", tmp_path) >= 0
    assert len(begun) == 3
    with Recording.open(tmp_path / "loop.wav") as loop:
        assert loop.duration_s == 3
    arguments = begun[0]
    assert arguments[:4] == ["python", "redrum", "render", str(tmp_path / "loop.wav")]
    assert arguments[arguments.index("--engine") + 1] == "latent"


def test_a_whole_command_that_fails_says_why(monkeypatch, tmp_path):
    failed = SimpleNamespace(returncode=1, stderr=b"redrum: the disk is full")
    monkeypatch.setattr(subprocess, "run", lambda command, **options: failed)
    with pytest.raises(CheckpointError, match="the disk is full"):
        bench_speed._command_s(["redrum"], "default", "resequence", tmp_path)


def test_separation_reads_the_whole_recording():
    read = []

    class Stems:
        def read(self, start, stop):
            read.append((start, stop))

    class Told:
        def activations(self, recording):
            return "heard"

    class Separator:
        def open(self, recording, activations):
            assert activations == "heard"
            return Stems()

    recording = Recording.from_samples([0.0] * 25_000, 1000)
    assert bench_speed.STAGES["separation"].work(Redrummer(Told(), Separator()), recording) >= 0
    assert read == [(0, 10_000), (10_000, 20_000), (20_000, 25_000)]


def test_the_codec_codes_and_decodes_one_channel():
    class Counting:
        def encode(self, audio):
            assert audio.shape == (1, 44_100)
            return Encoded(audio, audio, audio)

        def decode(self, latents, n_samples):
            assert (latents.shape, n_samples) == ((1, 44_100), 44_100)

    recording = Recording.from_samples([[0.0] * 44_100] * 2, 44_100)
    assert bench_speed.STAGES["codec"].work(Counting(), recording) > 0


def test_on_a_gpu_the_models_and_the_memory_are_the_gpus(monkeypatch):
    def load(preset, device):
        return device

    def work(device, recording):
        assert device == "cuda"
        return 0.25

    monkeypatch.setattr(bench_speed, "STAGES", {"latent": SimpleNamespace(load=load, work=work)})
    monkeypatch.setattr("torch.cuda.max_memory_allocated", lambda: 300 * 2**20)
    monkeypatch.setattr(reference, "measure_reference", lambda device: REFERENCE | {"on": device})
    expected = (0.25, 300.0, REFERENCE | {"on": "cuda"})
    assert work_alone("default", "latent", demo_recordings()[0].path, "cuda") == expected
