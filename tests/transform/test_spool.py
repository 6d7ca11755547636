import gc
import tempfile

import numpy as np
import pytest

from transform import spool as module
from transform.spool import SpoolFile


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("in_memory", [64 * 2**20, 1000])
def test_what_is_kept_comes_back(folder, monkeypatch, in_memory):
    monkeypatch.setattr(module, "_IN_MEMORY_BYTES", in_memory)
    random = np.random.default_rng(0)
    blocks = [random.standard_normal((2, n)).astype(np.float32) for n in (300, 1, 500)]
    kept, whole = SpoolFile(2), np.concatenate(blocks, axis=1)
    for block in blocks:
        kept.add(block)
    assert kept.n_samples == 801
    for start, stop in ((0, 801), (299, 302), (700, 700), (5, 6), (0, 801)):
        assert np.array_equal(kept.read(start, stop), whole[:, start:stop])
    kept.add(blocks[0])  # after it was read, too
    assert np.array_equal(kept.read(801, 1101), blocks[0])


def test_nothing_is_left_behind(folder, monkeypatch):
    monkeypatch.setattr(module, "_IN_MEMORY_BYTES", 1000)
    kept = SpoolFile(1)
    kept.add(np.zeros((1, 5000), dtype=np.float32))
    del kept
    gc.collect()
    assert not list(folder.iterdir())


def test_where_there_is_no_room_nothing_is_kept(monkeypatch):
    closed = []

    class Full:
        def seek(self, *where):
            pass

        def write(self, data):
            raise OSError(28, "No space left on device")

        def close(self):
            closed.append(True)

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", lambda max_size: Full())
    kept = SpoolFile(1)
    with pytest.raises(OSError, match="No space left on device"):
        kept.add(np.zeros((1, 10), dtype=np.float32))
    assert closed
    assert kept.n_samples == 0
