"""What a GPU makes is what the processor makes, but for rounding: run where PyTorch finds CUDA."""

import numpy as np
import pytest
import torch

from transform.audio import Recording
from transform.engine import Redrummer
from transform.library import demo_recordings, find_rhythm
from transform.midi import read_midi
from transform.settings import RenderSettings

pytestmark = pytest.mark.gpu
TOLERANCE_DB = -40.0  # of a difference against the sound: convolutions on a GPU round to 10 bits (TF32)


@pytest.fixture(scope="module")
def both():
    """Return the models of the default preset on the processor and on the GPU."""
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no CUDA device here, so nothing says that one agrees with the processor")
    return Redrummer.load(device="cpu"), Redrummer.load(device="cuda")


@pytest.fixture(scope="module")
def loop():
    with Recording.open(demo_recordings()[0].path) as recording:
        yield recording


def difference_db(one, other):
    """Return the level of the difference of two sounds against the first."""
    assert one.shape == other.shape
    assert one.any()
    return 10 * np.log10(max(np.mean((one - other) ** 2), 1e-20) / np.mean(one**2))


def test_both_hear_the_same(both, loop):
    expected, found = (redrummer.transcriber.activations(loop) for redrummer in both)
    for one, other in zip(expected, found, strict=True):
        assert np.allclose(one, other, atol=0.02)
    expected, found = (redrummer.transcribe(loop) for redrummer in both)
    assert [event.drum_class for event in found] == [event.drum_class for event in expected]
    assert [e.onset_s for e in found] == pytest.approx([e.onset_s for e in expected], abs=1e-3)


def test_both_take_it_apart_alike(both, loop):
    activations = both[0].transcriber.activations(loop)
    expected, found = (r.separator.open(loop, activations).read(0, loop.n_samples) for r in both)
    for one, other in zip(expected, found, strict=True):
        assert not one.any() or difference_db(one, other) < TOLERANCE_DB


def test_both_code_alike(both, loop):
    audio = torch.from_numpy(loop.read(0, loop.n_samples))
    (expected, latents), (found, _) = ((r.latent.codec, r.latent.codec.encode(audio).mu) for r in both)
    assert difference_db(latents.numpy(), found.encode(audio).mu.numpy()) < TOLERANCE_DB
    sounds = [codec.decode(latents, loop.n_samples).numpy() for codec in (expected, found)]
    assert difference_db(*sounds) < TOLERANCE_DB


@pytest.mark.parametrize("engine", ["resequence", "latent"])
def test_both_render_alike(both, loop, engine):
    rhythm, settings = read_midi(find_rhythm("hip-hop-bounce-140").path), RenderSettings(engine=engine)
    takes = [redrummer.redrum(loop, rhythm, settings) for redrummer in both]
    sounds = [np.concatenate(list(take.blocks()), axis=1) for take in takes]
    assert difference_db(*sounds) < TOLERANCE_DB
