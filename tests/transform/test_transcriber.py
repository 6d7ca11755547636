import copy
import json
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from transform.audio import Recording
from transform.errors import CheckpointError, SettingsError
from transform.features import DrumFeatures, FeatureSettings
from transform.transcriber import (
    Activations,
    Transcriber,
    TranscriberConfig,
    TranscriberNet,
    listening_gain,
    load_transcriber,
    with_sensitivity,
)
from transform.weights import config_from_json, config_to_json

SMALL = TranscriberConfig(widths=(4, 4, 8, 8), d_model=16)


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other on a busy machine are far slower
    yield
    torch.set_num_threads(before)


@pytest.fixture
def net(drums):
    """Return an untrained network whose normalisations do something and whose outputs vary over time."""
    torch.manual_seed(0)
    net = TranscriberNet(SMALL)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2)
            torch.nn.init.normal_(module.bias, 0, 0.3)
            torch.nn.init.normal_(module.running_mean, 0, 0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
    net.eval()
    with torch.no_grad():  # every output has mean 0 and deviation 1 over drums
        logits = net(DrumFeatures(SMALL.features)(torch.from_numpy(drums(5.0))[None]))[0]
        deviation, mean = torch.std_mean(logits, dim=1)
        net.head.weight.div_(deviation[:, None, None])
        net.head.bias.sub_(mean).div_(deviation)
    return net


@pytest.fixture
def drums(clicks):
    def make(length_s, sample_rate=44_100):
        rng = np.random.default_rng(1)
        sound = clicks(
            np.sort(rng.uniform(0, length_s - 0.1, round(6 * length_s))), sample_rate, length_s=length_s
        )
        return sound[0] + 1e-3 * rng.standard_normal(sound.shape[1], dtype=np.float32)

    return make


def assert_same(one, other, tolerance=1e-4):
    for mine, theirs in zip(one, other, strict=True):
        assert mine.shape == theirs.shape
        assert np.allclose(mine, theirs, atol=tolerance)


def test_a_long_recording_is_read_as_in_one_pass(net, drums):
    audio = drums(65.0)
    transcriber = Transcriber(net)
    transcriber.config = replace(transcriber.config, thresholds=(0.3,) * 5)
    recording = Recording.from_samples(audio, 44_100)
    at_once = transcriber.infer(torch.from_numpy(audio))
    assert at_once.probability.std(axis=1).min() > 0.01  # or there would be nothing to compare
    assert len(list(transcriber._blocks(recording))) > 1
    found = transcriber.activations(recording)
    # What begins a recording is probable by its level, too.
    assert_same(*(a._replace(probability=a.probability[:, 6:]) for a in (found, at_once)))
    found, expected = transcriber.events(transcriber.activations(recording)), transcriber.events(at_once)
    assert len(found) == len(expected) > 100
    assert found == sorted(found, key=lambda event: event.onset_s)
    for mine, theirs in zip(found, expected, strict=True):
        assert mine.onset_s == pytest.approx(theirs.onset_s, abs=1e-4)
        assert mine.velocity == pytest.approx(theirs.velocity, abs=1e-3)


@pytest.mark.parametrize("length_s", [0.01, 2.9, 3.0, 11.3])
@pytest.mark.parametrize("sample_rate", [44_100, 48_000])
def test_short_blocks_tile_the_recording(net, drums, length_s, sample_rate):
    audio = drums(max(length_s, 0.2), sample_rate)[: round(length_s * sample_rate)]
    recording = Recording.from_samples(audio, sample_rate)
    transcriber = Transcriber(net)
    whole = np.concatenate(list(recording.mono_blocks(44_100, 100.0)))
    blocks, parts = zip(*transcriber._blocks(recording, block_s=1.5), strict=True)
    assert blocks[0].start == 0
    for block, following in pairwise(blocks):
        assert block.stop == following.start
    tiled = Activations(*(np.concatenate(column, axis=-1) for column in zip(*parts, strict=True)))
    assert tiled.probability.shape[1] == len(whole) // 441 + 1
    # The resampler makes other rounding errors in other blocks.
    assert_same(tiled, transcriber.infer(torch.from_numpy(whole)), 1e-4 if sample_rate == 44_100 else 1e-2)


def test_progress_rises_to_the_end_and_changes_nothing(net, drums):
    transcriber, recording = Transcriber(net), Recording.from_samples(drums(67.0), 44_100)
    told = []
    found = transcriber.activations(recording, progress=lambda stage, share: told.append((stage, share)))
    assert_same(found, transcriber.activations(recording))
    assert {stage for stage, _ in told} == {"transcribe"}
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, 1.0)
    assert len(shares) >= 3


@pytest.mark.parametrize("level_db", [-50, -20, 20])
def test_the_level_of_a_recording_does_not_matter(net, drums, level_db):
    transcriber = Transcriber(net)
    audio = drums(5.0)
    as_made = transcriber.activations(Recording.from_samples(audio, 44_100))
    levelled = Recording.from_samples(audio * 10 ** (level_db / 20), 44_100)
    assert_same(transcriber.activations(levelled), as_made, 1e-3)


@pytest.mark.parametrize(
    ("peak", "gain"), [(1.0, 0.25), (0.01, 25.0), (1e-3, 250.0), (6e-5, 1.0), (0.0, 1.0), (1e30, 0.01)]
)
def test_what_is_far_from_any_usual_level_stays_so(peak, gain):
    assert listening_gain(peak) == pytest.approx(gain)


def test_fused_network_equals_the_trained_one(net):
    features = torch.rand(2, 3, 300, 96)
    before = copy.deepcopy(net.state_dict())
    fused = Transcriber(net)._net.run(lambda net, device: net)
    with torch.inference_mode():
        assert torch.allclose(fused(features), net(features), atol=1e-4)
    assert not any(isinstance(m, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d) for m in fused.modules())
    # The network itself is left alone.
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_reach_says_how_far_the_network_sees(net):
    with torch.inference_mode():
        features = torch.rand(1, 3, 400, 96)
        changed = features.clone()
        changed[:, :, 200] += 1
        difference = (net(features) - net(changed)).abs().amax(dim=(0, 1))
    seen = torch.nonzero(difference > 0)[:, 0]
    assert seen.min() >= 200 - net.context_frames
    assert seen.max() <= 200 + net.context_frames


def made_activations(peaks, n_frames=100):
    """Return activations with the given (class index, frame, height, offset) peaks."""
    probability, offset = np.zeros((5, n_frames)), np.zeros((5, n_frames))
    for c, frame, height, off in peaks:
        probability[c, frame], offset[c, frame] = height, off
    return Activations(probability, np.full((5, n_frames), 0.7), offset, np.zeros((1, n_frames)))


def test_peaks_become_events(net):
    act = made_activations(
        [(0, 10, 0.9, 0.25), (0, 12, 0.8, 0), (0, 20, 0.6, 0), (1, 30, 0.4, 0), (3, 10, 0.7, 0)]
    )
    act.articulation[0, 10] = 0.9
    events = Transcriber(net).events(act)
    # The second kick is within 30 ms of a higher one, the snare below the threshold.
    assert [(e.drum_class, round(e.onset_s, 4), e.articulation) for e in events] == [
        ("HH", 0.1, "open"),
        ("KD", 0.1025, ""),
        ("KD", 0.2, ""),
    ]
    assert events[0].velocity == pytest.approx(0.7)


def test_sensitivity_moves_a_class_in_log_odds_and_no_other(net):
    act = made_activations([(1, 10, 0.2, 0), (1, 30, 0.5, 0), (1, 50, 0.8, 0), (0, 70, 0.2, 0)])
    for value, expected in (
        (1.0, [0.6488, 0.8808, 0.9673]),
        (-1.0, [0.0327, 0.1192, 0.3512]),
        (0.0, [0.2, 0.5, 0.8]),
    ):
        moved = with_sensitivity(act, {"SD": value})
        assert moved.probability[1, [10, 30, 50]] == pytest.approx(expected, abs=1e-4)
        np.testing.assert_array_equal(moved.probability[[0, 2, 3, 4]], act.probability[[0, 2, 3, 4]])
        np.testing.assert_array_equal(moved.velocity, act.velocity)
    assert act.probability[1, 30] == 0.5
    found = [len(Transcriber(net).events(with_sensitivity(act, {"SD": value}))) for value in (-1.0, 0.0, 1.0)]
    assert found == [0, 2, 3]
    certain = made_activations([(1, 10, 1.0, 0)])
    assert with_sensitivity(certain, {"SD": -1.0}).probability[1, [9, 10]] == pytest.approx([0.0, 1.0])


def test_peaks_at_both_ends_and_plateaus_are_found_once(net):
    events = Transcriber(net).events(
        made_activations([(0, 0, 1, -0.5), (1, 99, 1, 0), (2, 50, 1, 0), (2, 51, 1, 0)])
    )
    assert [(e.drum_class, e.onset_s) for e in events] == [("KD", 0.0), ("TT", 0.5), ("SD", 0.99)]


def test_configuration_survives_json():
    config = replace(SMALL, thresholds=(0.1, 0.2, 0.3, 0.4, 0.5), features=FeatureSettings(n_bands=64))
    assert config_from_json(config_to_json(config), TranscriberConfig) == config


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        json.dumps({"features": {}, "n_heads": 4}),
        json.dumps({"features": {"sinc": 1}}),
        json.dumps({"features": {}, "widths": [4, 4]}),
        json.dumps({"features": {}, "thresholds": [0.5]}),
    ],
)
def test_a_strange_configuration_is_refused(text):
    with pytest.raises(CheckpointError, match="configuration cannot be read") as caught:
        config_from_json(text, TranscriberConfig)
    assert caught.value.hint


def test_an_impossible_configuration_is_a_settings_error():
    with pytest.raises(SettingsError, match="4 widths, not 3"):
        TranscriberConfig(widths=(1, 2, 3))


def save(net, path, **metadata):
    header = {"model": "transcriber", "config": config_to_json(net.config)} | metadata
    weights = {
        name: value.half() if value.is_floating_point() else value for name, value in net.state_dict().items()
    }
    save_file(weights, path, metadata=header)
    return path


def test_weights_come_back(net, tmp_path):
    loaded = load_transcriber(save(net, tmp_path / "w.safetensors"))
    assert not loaded.training
    for name, value in net.state_dict().items():
        value.copy_(value.half())  # as they are on disk
        assert loaded.state_dict()[name].dtype == value.dtype
    features = torch.rand(1, 3, 200, 96)
    with torch.inference_mode():
        assert torch.equal(loaded(features), net(features))


@pytest.mark.slow
def test_loading_models_does_not_import_the_compiler():
    code = (
        "import sys, transform; transform.Redrummer.load().latent;"
        "print(*sorted({'sympy', 'torch._dynamo'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_in_blocks_as_in_one(net):
    features = torch.rand(1, 3, 1000, 96)
    with torch.inference_mode():
        in_blocks = net(features)
    in_one = net(features).detach()  # as gradients are recorded
    assert (in_blocks - in_one).abs().max() < 1e-4 * in_one.abs().max()


def test_wrong_shapes_are_refused(net, tmp_path):
    wider = config_to_json(replace(SMALL, d_model=17))
    with pytest.raises(CheckpointError, match="does not fit its own configuration"):
        load_transcriber(save(net, tmp_path / "w.safetensors", config=wider))
    strange = config_to_json(SMALL).replace('"d_model": 16', '"d_model": "many"')
    with pytest.raises(CheckpointError, match="d_model is many"):
        load_transcriber(save(net, tmp_path / "w.safetensors", config=strange))


def test_other_models_and_broken_files_are_refused(net, tmp_path):
    path = save(net, tmp_path / "w.safetensors", model="separator")
    with pytest.raises(CheckpointError, match="holds a 'separator', not a transcriber"):
        load_transcriber(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CheckpointError, match="no readable weights file"):
        load_transcriber(path)
    with pytest.raises(CheckpointError, match="no readable weights file"):
        load_transcriber(tmp_path / "none.safetensors")


@pytest.mark.parametrize(("part", "length_s"), [(TranscriberNet, 4.3), (DrumFeatures, 4.4)])
def test_where_memory_is_short_the_processor_hears_the_same(net, drums, monkeypatch, caplog, part, length_s):
    recording = Recording.from_samples(drums(length_s), 44_100)
    real, calls = part.forward, []

    def cramped(self, x):
        calls.append(x.shape)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("no room")
        return real(self, x)

    monkeypatch.setattr(part, "forward", cramped)
    heard = Transcriber(net).activations(recording)
    assert_same(heard, Transcriber(net).activations(recording))
    assert len(calls) > 1
    assert caplog.text.count(f"{part.__name__} runs on the processor") == 1
