import hashlib
import json

import bench_batch
import pytest
import soundfile
from bench_batch import BatchBench, is_as_it_should_be, measure, report, work_alone, write_stems

from transform.errors import CheckpointError

FEW = BatchBench(n_stems=3, lengths_s=(0.5, 9.0), n_renders=2, n_kills=2)


class Batch:
    """In place of a process: a batch that makes what it is asked to, or one item where it is killed."""

    def __init__(self, *arguments, returncode=0):
        self.pid, self.returncode, self.arguments = 0, returncode, arguments
        self.is_killed = False

    def poll(self):
        return self.returncode

    def kill(self):
        self.is_killed = True

    def communicate(self):
        if self.arguments[0] == "batch" and not self.returncode:
            out = self.arguments[self.arguments.index("--out") + 1]
            out.mkdir(exist_ok=True)
            made = [f"{n}.wav" for n in range(FEW.n_stems)][: 1 if self.is_killed else None]
            for name in made:
                (out / name).write_bytes(name.encode())
            (out / "manifest.jsonl").write_text("".join(json.dumps({"output": name}) + "\n" for name in made))
        return b"", b"redrum: broken\n"


@pytest.fixture
def _no_work(monkeypatch):
    monkeypatch.setattr(bench_batch, "_redrum", Batch)
    monkeypatch.setattr(bench_batch, "_alone_s", lambda stems: 2.0)
    monkeypatch.setattr(bench_batch.time, "sleep", lambda seconds: None)


def test_stems_are_the_same_for_one_seed_and_of_the_lengths_asked_for(tmp_path):
    hashes = []
    for name in ("a", "b"):
        paths = write_stems(tmp_path / name, FEW)
        hashes.append([hashlib.sha256(path.read_bytes()).hexdigest() for path in paths])
        assert all(0.5 <= soundfile.info(path).duration <= 9.0 for path in paths)
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == FEW.n_stems


@pytest.mark.usefixtures("_no_work")
def test_everything_is_measured_and_reported(tmp_path):
    result = measure(tmp_path, FEW, lambda what: None)
    assert result["kills"] == {"done_before_each": [1, 1], "identical": True, "made_twice": 0, "missing": 0}
    assert result["against_alone"] == 2.0 / result["batch_s"]
    for against_alone, is_met in ((0.95, True), (0.94, False)):
        assert is_as_it_should_be(result | {"against_alone": against_alone}) is is_met
    lost = result["kills"] | {"missing": 1}
    assert not is_as_it_should_be(result | {"against_alone": 2.0, "kills": lost})
    told = report(result)
    assert "| results identical to those of an undisturbed run | yes |" in told
    assert "| stems | 3, 0 min |" in told


@pytest.mark.usefixtures("_no_work")
def test_a_batch_that_fails_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_batch, "_redrum", lambda *arguments: Batch(*arguments, returncode=1))
    with pytest.raises(CheckpointError, match="the batch failed: redrum: broken"):
        measure(tmp_path, FEW, lambda what: None)


def test_the_models_alone_say_their_seconds(tmp_path):
    stems = write_stems(tmp_path, BatchBench(n_stems=1, lengths_s=(0.5, 9.0)))
    assert 0 < work_alone(stems) < 120
