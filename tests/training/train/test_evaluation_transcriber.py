import numpy as np
import pytest
import torch
from safetensors import safe_open

from training.train import transcriber as module
from training.train.evaluation_transcriber import (
    EVALUATION_CONFIG,
    EvaluationNet,
    load_evaluation_transcriber,
    shipped_weights,
)
from training.train.transcriber import evaluation_training, export_transcriber, train_transcriber
from transform.errors import CheckpointError, SettingsError
from transform.features import DrumFeatures
from transform.presets import load_preset
from transform.transcriber import Transcriber, TranscriberConfig, TranscriberNet, load_transcriber

SMALL = TranscriberConfig(features=EVALUATION_CONFIG.features, widths=(4, 4, 8, 8), d_model=16, dilations=())


@pytest.fixture
def small_evaluation(small_training):
    """Return a function that makes the settings of a run of the evaluation transcriber that takes seconds."""
    settings = evaluation_training()
    own = {name: getattr(settings, name) for name in ("architecture", "seed")} | {"model": SMALL}
    return lambda **changes: small_training(**(own | changes))


def test_the_judge_is_another_network():
    net = EvaluationNet(EVALUATION_CONFIG)
    n_parameters = sum(parameter.numel() for parameter in net.parameters())
    assert 300_000 < n_parameters < 600_000
    product = TranscriberConfig()
    assert EVALUATION_CONFIG.features != product.features
    assert any(isinstance(part, torch.nn.GRU) for part in net.modules())
    assert not any(isinstance(part, torch.nn.GRU) for part in TranscriberNet(product).modules())
    settings = evaluation_training()
    assert settings.seed != module.TranscriberTraining().seed


def test_the_judge_speaks_as_a_transcriber_does():
    torch.manual_seed(0)
    net = EvaluationNet(SMALL).eval()
    audio = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, 44_100).astype(np.float32))
    with torch.inference_mode():
        logits = net(DrumFeatures(SMALL.features)(audio[None]))
    assert logits.shape == (1, 16, 101)
    heard = Transcriber(net).infer(audio, gain=1.0)
    assert heard.probability == pytest.approx(torch.sigmoid(logits[0, :5]).numpy(), abs=1e-4)


def test_trained_weights_come_back(tiny_pack, small_evaluation, tmp_path):
    checkpoint = train_transcriber(tiny_pack, tmp_path / "run", small_evaluation(steps=2, validate_every=2))
    assert checkpoint.name == "evaluation-transcriber.pt"
    train_transcriber(tiny_pack, tmp_path / "run", small_evaluation(steps=3), resume=True)
    path = export_transcriber(checkpoint, tmp_path / "evaluation")
    assert [file.name for file in path.parent.iterdir()] == ["transcriber-evaluation.safetensors"]
    state = torch.load(checkpoint)
    assert state["step"] == 3
    heard = load_evaluation_transcriber(path)
    assert heard.config.d_model == 16
    with safe_open(path, framework="pt") as file:
        stored = file.get_tensor("recurrent.weight_ih_l0")
    assert stored.dtype == torch.float16
    assert torch.allclose(stored.float(), state["average"]["recurrent.weight_ih_l0"], rtol=1e-3, atol=1e-6)
    with pytest.raises(CheckpointError, match="not a transcriber"):
        load_transcriber(path)  # the judge can never be what Redrum listens with


def test_weights_of_the_real_shape_are_small(tmp_path):
    net = EvaluationNet(EVALUATION_CONFIG)
    assert 2 * sum(value.numel() for value in net.state_dict().values()) < 1_500_000


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(None, "the evaluation transcriber is missing"), (b"no weights", "is no readable weights file")],
)
def test_missing_weights_are_a_sentence(tmp_path, content, complaint):
    path = tmp_path / "judge.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=complaint) as caught:
        load_evaluation_transcriber(path)
    assert "redrum train evaluation-transcriber" in caught.value.hint


def test_the_transcriber_cannot_judge_itself():
    with pytest.raises(CheckpointError, match="holds a 'transcriber', not an evaluation-transcriber"):
        load_evaluation_transcriber(load_preset("default").weights("transcriber"))


def test_impossible_settings_are_a_sentence(small_training):
    with pytest.raises(SettingsError, match="there is no oracle"):
        small_training(architecture="oracle")


def test_shipped_weights_lie_outside_the_presets():
    assert shipped_weights().parts[-3:] == ("presets", "evaluation", "transcriber-evaluation.safetensors")
    assert not (shipped_weights().parent / "preset.toml").exists()
