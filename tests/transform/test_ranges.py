"""Presets by strangers: configurations that never end to be built, weights that are no numbers."""

import json
import math
from dataclasses import fields, replace

import pytest
import torch
from safetensors.torch import save_file

from training.train.evaluation_transcriber import EVALUATION_CONFIG
from transform import codec_config, rhythm_transformer
from transform.audio import Recording
from transform.codec import Codec, CodecNet
from transform.codec_config import CodecConfig
from transform.errors import CheckpointError, SettingsError
from transform.features import FeatureSettings
from transform.rhythm_transformer import RhythmConfig
from transform.separator import SeparatorConfig
from transform.transcriber import Transcriber, TranscriberConfig, TranscriberNet, load_transcriber
from transform.weights import config_from_json, config_to_json

CONFIGS = (FeatureSettings, TranscriberConfig, SeparatorConfig, CodecConfig, RhythmConfig)
SMALL = TranscriberConfig(widths=(4, 4, 8, 8), d_model=8, dilations=(1, 2))
SMALL_CODEC = CodecConfig(
    n_latents=6,
    widths=(4, 6, 8, 8, 10),
    n_blocks=(1, 1, 1, 1, 1),
    generator_widths=(12, 8),
    generator_blocks=(1, 1),
)


def numbers():
    """Yield each field of each configuration that holds numbers, and its default."""
    for config in CONFIGS:
        for field in fields(config):
            value = getattr(config(), field.name)
            one = value[0] if isinstance(value, tuple) else value
            if isinstance(one, int | float) and not isinstance(one, bool):
                yield config, field.name, value


def test_every_number_of_a_configuration_has_a_range(subtests):
    for config, name, value in numbers():
        for bad in [10**9, -(10**9), math.nan, math.inf]:
            wrong = {name: (bad,) * len(value) if isinstance(value, tuple) else bad}
            with subtests.test(config.__name__, **wrong), pytest.raises(SettingsError):
                replace(config(), **wrong)


@pytest.mark.parametrize(
    ("config", "name"),
    [(SeparatorConfig, "dilations"), (CodecConfig, "strides"), (RhythmConfig, "dilations")],
)
def test_a_list_has_an_end(config, name):
    with pytest.raises(SettingsError):
        replace(config(), **{name: (1,) * 100_000})


def test_what_is_shipped_and_what_the_paper_has_lies_within():
    for made in (*codec_config.CONFIGURATIONS.values(), *rhythm_transformer.CONFIGURATIONS.values()):
        assert config_from_json(config_to_json(made), type(made)) == made
    assert replace(EVALUATION_CONFIG) == EVALUATION_CONFIG


@pytest.mark.parametrize("room", [{"n_blocks": (2, 2, 4, 4, 9)}, {"widths": (128, 256, 512, 1024, 2048)}])
def test_there_is_room_to_grow(room):
    assert replace(CodecConfig(), **room)
    assert replace(RhythmConfig(), n_layers=12, n_heads=16, width=1024)


def test_a_header_that_never_ends_is_refused(tmp_path):
    path = tmp_path / "w.safetensors"
    save_file({f"t{i}": torch.zeros(0) for i in range(50_000)}, path)
    with pytest.raises(CheckpointError, match="no readable weights file: its header has"):
        load_transcriber(path)


def test_a_configuration_of_a_megabyte_is_refused():
    with pytest.raises(CheckpointError, match="cannot be read") as caught:
        config_from_json(json.dumps({"x" * 1_000_000: 1}), TranscriberConfig)
    assert len(caught.value.message) < 400


def weights_file(path, change):
    net = TranscriberNet(SMALL)
    weights = {name: value.contiguous() for name, value in net.state_dict().items()}
    change(weights)
    save_file(weights, path, {"model": "transcriber", "config": config_to_json(SMALL)})
    return path


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e38, -70_000.0])
def test_weights_that_no_network_learns_are_refused(tmp_path, bad):
    def change(weights):
        weights["head.weight"].view(-1)[3] = bad

    with pytest.raises(CheckpointError, match=r"no numbers, or above 65,504: head\.weight"):
        load_transcriber(weights_file(tmp_path / "w.safetensors", change))


def test_widths_that_are_each_in_range_and_compute_for_ever_together_are_refused():
    wide, bands = {"d_model": 8, "dilations": (1,)}, FeatureSettings(n_bands=1024, windows=(2048,))
    for config, widths in ((TranscriberConfig, (400, 700, 700, 8)), (SeparatorConfig, (400, 700, 700))):
        with pytest.raises(SettingsError, match="1024 bands of 700 channels"):
            config(features=bands, widths=widths, **wide)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"n_bands": 2, "strides": (2, 16, 8), "widths": (1300, 1, 1, 384)}, "computes more than any"),
        ({"generator_widths": (512, 4000)}, "computes more than any"),
        ({"strides": (3, 2, 2, 2)}, "each must be even"),
        ({"n_bands": 32, "strides": (1, 2, 2, 4)}, "strides"),
    ],
)
def test_a_codec_whose_numbers_do_not_go_together_is_refused(changes, complaint):
    blocks = {"n_blocks": (1,) * len(changes["widths"])} if "widths" in changes else {}
    with pytest.raises(SettingsError, match=complaint):
        CodecConfig(**changes, **blocks)


@pytest.mark.parametrize("windows", [(), (2048, 511), (3,)])
def test_windows_whose_frames_do_not_fit_together_are_refused(windows):
    with pytest.raises(SettingsError, match="features have windows of"):
        FeatureSettings(windows=windows)


def test_weights_of_a_kind_that_no_model_has_are_refused(tmp_path):
    for kind in (torch.complex64, torch.float8_e4m3fn, torch.int8):

        def change(weights, kind=kind):
            weights["head.weight"] = weights["head.weight"].to(kind)

        with pytest.raises(CheckpointError, match=f"no model has, {kind}: head"):
            load_transcriber(weights_file(tmp_path / "w.safetensors", change))


def test_weights_up_to_half_precisions_largest_are_read(tmp_path):
    def change(weights):
        weights["head.weight"].view(-1)[3] = 65_504.0

    net = load_transcriber(weights_file(tmp_path / "w.safetensors", change))
    assert net.head.weight.flatten()[3] == 65_504.0


def test_a_network_that_computes_no_numbers_says_so(tmp_path, clicks):
    def change(weights):
        for value in weights.values():
            if value.is_floating_point():
                value.fill_(60_000.0)

    net = load_transcriber(weights_file(tmp_path / "w.safetensors", change))
    with pytest.raises(CheckpointError, match="the preset's transcriber computes numbers that are no sound"):
        Transcriber(net).activations(Recording.from_samples(clicks([0.1, 0.4]), 44_100))


@pytest.mark.parametrize("part", ["encoder", "generator"])
def test_a_codec_that_computes_no_numbers_says_so(part):
    net = CodecNet(SMALL_CODEC).eval()
    with torch.no_grad():
        for value in getattr(net, part).parameters():
            value.mul_(1e30)
    made = Codec(net.encoder, net.generator)
    with pytest.raises(CheckpointError, match=f"the preset's codec-{part} computes"):
        made.decode(made.encode(torch.randn(1, 8192)).mu, 8192)
