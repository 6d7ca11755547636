import numpy as np
import pytest
import torch

from training.score.measures import si_sdr_db
from training.score.nmf import ArrayStems, InformedNmf, TemplateNmf, feature_templates, masked_stems
from transform.audio import Recording
from transform.events import CLASSES
from transform.features import FeatureSettings
from transform.transcriber import Activations

N_SAMPLES = 66_150


@pytest.fixture
def beat(hit):
    """Return a recording of kick and hat, at times together, its stems (5, T), and what is heard in it."""
    stems = np.zeros((5, N_SAMPLES), dtype=np.float32)
    probability = np.full((5, N_SAMPLES // 441 + 1), 1e-3, dtype=np.float32)
    for drum_class, step in (("KD", 22_050), ("HH", 11_025)):
        row, sound = CLASSES.index(drum_class), hit(drum_class, 7)
        for at in range(4410, N_SAMPLES, step):
            part = sound[: N_SAMPLES - at]
            stems[row, at : at + len(part)] += 0.5 * part
            probability[row, at // 441] = 0.9
    heard = Activations(probability, probability, 0 * probability, probability[:1])
    return Recording.from_samples(stems.sum(axis=0), 44_100), stems, heard


@pytest.fixture(scope="module")
def separators(tiny_pack):
    return {"informed": InformedNmf(tiny_pack.kits), "templates": TemplateNmf(tiny_pack.kits)}


def test_stems_in_memory_are_silent_outside_of_it():
    stems = ArrayStems(np.ones((5, 2, 10), dtype=np.float32))
    read = stems.read(-3, 12)
    assert read.shape == (5, 2, 15)
    assert np.array_equal(read[3, 1], [0] * 3 + [1] * 10 + [0] * 2)
    assert not stems.read(20, 25).any()


@pytest.mark.parametrize("n_samples", [1, 440, 441, 5000])
def test_masked_stems_add_up_to_the_recording(n_samples):
    rng = np.random.default_rng(0)
    audio = rng.uniform(-1, 1, (2, n_samples)).astype(np.float32)
    parts = torch.rand(5, n_samples // 441 + 5, 1025, generator=torch.Generator().manual_seed(0))
    stems = masked_stems(audio, parts, exponent=2.0).read(0, n_samples)
    assert stems.shape == (5, 2, n_samples)
    assert np.abs(stems.sum(axis=0) - audio).max() < 1e-5


def test_what_a_class_has_to_itself_is_all_its_own():
    audio = np.random.default_rng(0).uniform(-1, 1, (1, 5000)).astype(np.float32)
    parts = torch.zeros(5, 16, 1025)
    parts[1] = 1.0
    stems = masked_stems(audio, parts, exponent=1.0).read(0, 5000)
    assert np.abs(stems[1] - audio).max() < 1e-4


@pytest.mark.parametrize(("name", "least_db"), [("informed", 12), ("templates", 6)])
def test_both_tell_kick_and_hat_apart(beat, separators, name, least_db):
    recording, stems, heard = beat
    found = separators[name].open(recording, heard).read(0, N_SAMPLES)[:, 0]
    assert np.abs(found.sum(axis=0) - recording.read(0, N_SAMPLES)[0]).max() < 1e-5
    for drum_class in ("KD", "HH"):
        row = CLASSES.index(drum_class)
        assert si_sdr_db(found[row], stems[row]) > least_db


def test_a_class_that_is_not_heard_is_nearly_silent(beat, separators):
    recording, _, heard = beat
    found = separators["informed"].open(recording, heard).read(0, N_SAMPLES)[:, 0]
    loud = np.square(found).sum(axis=1)
    assert loud[CLASSES.index("TT")] < 0.01 * loud[CLASSES.index("KD")]


def test_silence_stays_silence(separators):
    recording = Recording.from_samples(np.zeros(4410), 44_100)
    nothing = np.zeros((5, 11), dtype=np.float32)
    heard = Activations(nothing, nothing, nothing, nothing[:1])
    for separator in separators.values():
        assert not separator.open(recording, heard).read(0, 4410).any()


def test_templates_of_classes_are_levels_of_their_one_shots(tiny_pack):
    templates = feature_templates(tiny_pack.kits, FeatureSettings())
    assert templates.shape == (5, 192)
    assert torch.allclose(templates.sum(dim=1), torch.ones(5))
    middle = (templates[:, :96] * torch.arange(96)).sum(dim=1) / templates[:, :96].sum(dim=1)
    assert middle[CLASSES.index("KD")] < middle[CLASSES.index("HH")] - 10  # bands
