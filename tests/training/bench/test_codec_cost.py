from dataclasses import replace

import pytest
from safetensors.torch import save_file

from training.bench.codec_cost import codec_costs
from training.card import describe_model
from transform.codec import EncoderNet, GeneratorNet
from transform.codec_config import CONFIGURATIONS
from transform.presets import load_preset
from transform.weights import config_to_json


@pytest.fixture
def paper(tmp_path):
    """Return a preset with a codec of the paper's kind, one channel wide."""
    config = replace(CONFIGURATIONS["paper"], n_latents=1, widths=(1, 1, 1, 1, 1))
    for part, net in (("encoder", EncoderNet(config)), ("generator", GeneratorNet(config))):
        path = tmp_path / f"codec-{part}.safetensors"
        header = {"model": f"codec-{part}", "config": config_to_json(config)}
        save_file({name: value.contiguous() for name, value in net.state_dict().items()}, path, header)
        n = sum(parameter.numel() for parameter in net.parameters())
        describe_model(tmp_path, f"codec-{part}", weights=path, parameters=n, command="made")
    return load_preset(tmp_path)


def test_costs_are_those_of_the_layers(paper):
    encoder, generator = codec_costs(paper)
    assert (encoder["codec"], generator["codec"]) == ("encoder", "generator")
    # By hand, of a frame: the filters of 16 bands, a kernel of 7 over them, those of four strides, two latents.
    frame = 128 * (16 * 16 * 24 + 7 * 16) + 32 * 9 + 8 * 9 + 2 * 9 + 5 + 2 * 5
    # 24 s are 517 frames: chunks of 323 and 194, each with up to 4 frames to either side.
    n_frames = (323 + 4) + (4 + 194)
    assert encoder["gmac_a_second"] == pytest.approx(n_frames * frame / 24 / 1e9, rel=1e-9)
    assert generator["gmac_a_second"] > encoder["gmac_a_second"]
    assert encoder["parameters"] == paper.models["codec-encoder"].n_parameters
