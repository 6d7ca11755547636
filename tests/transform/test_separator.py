from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from transform import separator as module
from transform.audio import Recording
from transform.errors import AudioError, CheckpointError, SettingsError
from transform.events import CLASSES
from transform.features import DrumFeatures, FeatureSettings, band_positions
from transform.separator import Separator, SeparatorConfig, SeparatorNet, load_separator
from transform.transcriber import Activations
from transform.weights import config_to_json

SMALL = SeparatorConfig(widths=(4, 4, 8), d_model=16, dilations=(1, 2, 4))


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # two that wait for each other on a busy machine are far slower
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def net():
    """Return a network that was trained on nothing, its normalisation set by noise, of marked masks."""
    torch.manual_seed(0)
    made = SeparatorNet(SMALL).train()
    with torch.no_grad():
        made.head.weight *= 8
        for _ in range(20):
            made(*inputs(made, n_items=2))
    return made.eval()


def inputs(net, n_frames=100, n_items=1):
    """Return features, activations, and templates that were learned in them."""
    features, heard = torch.rand(n_items, 3, n_frames, 96), torch.rand(n_items, 5, n_frames)
    return features, heard, net.learn_templates(features, heard)


def noise(seconds, rate=44_100, n_channels=1, seed=0):
    shape = n_channels, max(1, round(seconds * rate))
    samples = np.random.default_rng(seed).uniform(-0.5, 0.5, shape)
    return Recording.from_samples(samples, rate)


def heard_in(recording, seed=0):
    """Return activations of a recording's length."""
    n_frames = round(recording.n_samples * 44_100 / recording.sample_rate) // 441 + 1
    rows = np.random.default_rng(seed).random((5, n_frames)).astype(np.float32)
    return Activations(rows, rows, rows, rows[:1])


def samples_of(recording):
    return recording.read(0, recording.n_samples)


@pytest.mark.parametrize(
    ("rate", "n_channels", "seconds"),
    [
        (44_100, 1, 2.0),
        (48_000, 2, 1.0),
        (22_050, 1, 1.3),
        (8_000, 1, 1.0),
        (192_000, 6, 0.3),
        (44_100, 1, 0.0),
    ],
)
def test_stems_add_up_to_the_recording(net, rate, n_channels, seconds):
    recording = noise(seconds, rate, n_channels)
    stems = Separator(net).open(recording, heard_in(recording))
    whole = stems.read(0, recording.n_samples)
    assert whole.shape == (5, n_channels, recording.n_samples)
    assert whole.dtype == np.float32
    assert np.abs(whole.sum(axis=0) - samples_of(recording)).max() < 1e-6  # -60 dB would be 5e-4
    edges = [*range(0, recording.n_samples, 16_000), recording.n_samples]
    in_blocks = np.concatenate([stems.read(*block) for block in pairwise(edges)], axis=-1)
    assert np.abs(in_blocks - whole).max() < 1e-6
    somewhere = stems.read(-50, recording.n_samples + 70)
    assert np.abs(somewhere[..., 50 : 50 + recording.n_samples] - whole).max() < 1e-6
    assert not somewhere[..., :50].any()
    assert not somewhere[..., -70:].any()


def test_no_seams_where_blocks_meet(net, monkeypatch):
    recording = noise(7.3)
    separator, heard = Separator(net), heard_in(recording)
    in_one_pass = separator.open(recording, heard).read(0, recording.n_samples)
    monkeypatch.setattr(module, "_BLOCK_S", 2)
    monkeypatch.setattr(module, "_CACHED_BLOCKS", 1)
    in_blocks = separator.open(recording, heard).read(0, recording.n_samples)
    assert np.abs(in_blocks - in_one_pass).max() < 1e-3  # masks are kept in half precision


def test_a_recording_that_was_separated_ahead_is_read_anywhere_without_the_network(net, monkeypatch):
    monkeypatch.setattr(module, "_BLOCK_S", 2)
    monkeypatch.setattr(module, "_CACHED_BLOCKS", 1)
    passes, reported = [], []

    class Counting(Separator):
        def masks(self, *given):
            passes.append(1)
            return super().masks(*given)

    recording = noise(9.5)
    heard = heard_in(recording)
    whole = Separator(net).open(recording, heard).read(0, recording.n_samples)
    stems = Counting(net).open(recording, heard)
    stems.cache_masks(2**20)
    stems.separate(lambda stage, fraction: reported.append((stage, fraction)))
    assert reported == [("separate", pytest.approx(i / 5)) for i in range(5)]
    for start in (300_000, 0, 400_000, 90_000):
        assert np.abs(stems.read(start, start + 9_000) - whole[..., start : start + 9_000]).max() < 1e-6
    assert len(passes) == 5


def test_templates_of_a_long_recording_come_from_stretches_all_over_it(net, monkeypatch):
    monkeypatch.setattr(module, "_N_TEMPLATE_REGIONS", 3)
    monkeypatch.setattr(module, "_TEMPLATE_REGION_S", 1)
    read = []

    class Listening(Separator):
        def learn_templates(self, stretches):
            read.extend(stretches)
            return super().learn_templates(stretches)

    recording = noise(9.5)
    heard = heard_in(recording)
    stems = Listening(net).open(recording, heard)
    whole = np.concatenate([stems.read(0, 200_000), stems.read(200_000, recording.n_samples)], axis=-1)
    assert np.abs(whole.sum(axis=0) - samples_of(recording)).max() < 1e-6
    assert [len(audio) for audio, _ in read] == [44_100] * 3  # once, and no more than that
    for (_, probability), start_s in zip(read, (0, 4, 8), strict=True):
        n_frames = probability.shape[1]
        expected = np.pad(heard.probability, ((0, 0), (0, 100)))[:, start_s * 100 : start_s * 100 + n_frames]
        assert np.array_equal(probability.numpy(), expected)


@pytest.mark.parametrize(
    ("part", "method", "length_s"),
    [
        (SeparatorNet, "forward", 1.1),
        (SeparatorNet, "learn_templates", 1.2),
        (DrumFeatures, "forward", 1.3),
    ],
)
def test_where_memory_is_short_the_stems_are_the_same(net, monkeypatch, caplog, part, method, length_s):
    recording = noise(length_s, seed=7)
    heard, real, calls = heard_in(recording), getattr(part, method), []

    def cramped(self, *given):
        calls.append(self)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("no room")
        return real(self, *given)

    monkeypatch.setattr(part, method, cramped)
    stems = Separator(net).open(recording, heard).read(0, recording.n_samples)
    assert len(calls) > 1
    expected = Separator(net).open(recording, heard).read(0, recording.n_samples)
    assert np.abs(stems - expected).max() < 1e-6
    assert caplog.text.count(f"{part.__name__} runs on the processor") == 1


def test_stems_of_a_stretch_are_those_of_the_whole(net):
    recording = noise(3.0, 48_000, 2)
    stems = Separator(net).open(recording, heard_in(recording))
    whole = stems.read(0, recording.n_samples)
    assert np.allclose(stems.read(70_001, 70_500), whole[..., 70_001:70_500], atol=1e-6)
    assert stems.read(100, 100).shape == (5, 2, 0)


@pytest.mark.parametrize("classes", [("SD",), ("CY",), ("CY", "KD"), ("KD", "SD", "TT", "HH")])
def test_stems_of_some_classes_are_those_of_all(net, classes):
    recording = noise(2.0, 44_100, 2)
    stems = Separator(net).open(recording, heard_in(recording))
    whole = stems.read(5_000, 60_000)
    some = stems.read(5_000, 60_000, classes)
    assert some.shape == (len(classes), 2, 55_000)
    assert np.allclose(some, whole[[CLASSES.index(c) for c in classes]], atol=2e-6)
    assert np.abs(some).max(axis=(1, 2)).min() > 1e-4


class SplitsAt1Khz(Separator):
    """Gives what is below 1 kHz to the kick and the rest to the hats, before and from the first second on."""

    def masks(self, audio, probability, templates):
        n_bands = self.config.features.n_bands
        split = int(band_positions(np.array([1000.0]), self.config.features)[0])
        masks = torch.zeros(5, len(audio) // 441 + 1, n_bands)
        masks[0, :, :split] = 1
        masks[3, :, split:] = 1
        return masks


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_bands_are_the_same_hertz_at_every_rate(net, rate):
    time_s = np.arange(rate) / rate
    low, high = np.sin(2 * np.pi * 200 * time_s), np.sin(2 * np.pi * 3000 * time_s)
    recording = Recording.from_samples(0.3 * np.stack((low + high, 0.5 * low)), rate)
    kick, *_, hat, _ = SplitsAt1Khz(net).open(recording, heard_in(recording)).read(0, rate)
    inside = slice(rate // 10, -rate // 10)
    assert np.abs(kick[0] - 0.3 * low)[inside].max() < 1e-3
    assert np.abs(hat[0] - 0.3 * high)[inside].max() < 1e-3
    assert np.abs(kick[1] - 0.15 * low)[inside].max() < 1e-3
    assert np.abs(hat[1])[inside].max() < 1e-3


class SplitsInTime(Separator):
    """Gives the first second to the kick and the rest to the snare."""

    def masks(self, audio, probability, templates):
        masks = torch.zeros(5, len(audio) // 441 + 1, self.config.features.n_bands)
        masks[0, :100] = 1
        masks[1, 100:] = 1
        return masks


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000, 96_000])
def test_frames_are_the_same_seconds_at_every_rate(net, rate):
    recording = noise(2.0, rate)
    kick, snare, *_ = SplitsInTime(net).open(recording, heard_in(recording)).read(0, recording.n_samples)[:, 0]
    margin = round(0.04 * rate)
    assert np.abs(kick[: rate - margin] - samples_of(recording)[0, : rate - margin]).max() < 1e-5
    assert not kick[rate + margin :].round(5).any()
    assert not snare[: rate - margin].round(5).any()
    assert (kick**2)[rate - margin : rate].sum() > (snare**2)[rate - margin : rate].sum()


def test_the_level_of_a_recording_changes_nothing_but_the_level(net):
    loud = noise(1.0)
    quiet = Recording.from_samples(0.01 * samples_of(loud), 44_100)
    separator, heard = Separator(net), heard_in(loud)
    of_loud, of_quiet = (separator.open(each, heard).read(0, each.n_samples) for each in (loud, quiet))
    assert np.allclose(100 * of_quiet, of_loud, atol=1e-4)


def test_silence_has_silent_stems(net):
    recording = Recording.from_samples(np.zeros((2, 10_000)), 44_100)
    assert not Separator(net).open(recording, heard_in(recording)).read(0, 10_000).any()


def test_not_a_number_is_said(net):
    samples = np.zeros(50_000)
    samples[44_100] = np.nan
    recording = Recording.from_samples(samples, 44_100)
    with pytest.raises(AudioError, match=r"not a number .* at 1\.000 s"):
        Separator(net).open(recording, heard_in(recording)).read(0, 50_000)


def test_fused_network_equals_the_trained_one(net):
    given = inputs(net, 200)
    quick = Separator(net)._net.run(lambda net, device: net)
    with torch.inference_mode():
        assert torch.allclose(quick(*given), net(*given), atol=1e-3)


def test_the_view_of_time_is_what_it_says(net):
    features, heard, templates = inputs(net, 300)
    changed, heard_otherwise = features.clone(), heard.clone()
    changed[:, :, 150] += 1
    heard_otherwise[:, :, 150] += 1
    with torch.inference_mode():
        difference = net(features, heard, templates) - net(changed, heard_otherwise, templates)
        difference = difference.abs().amax(dim=(0, 1, 3))
    touched = difference.nonzero()[:, 0]
    assert 150 - touched.min() <= net.context_frames
    assert touched.max() - 150 <= net.context_frames


def test_weights_come_back(net, tmp_path):
    path = tmp_path / "separator.safetensors"
    weights = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    save_file(weights, path, metadata={"model": "separator", "config": config_to_json(net.config)})
    loaded = load_separator(path)
    assert loaded.config == SMALL
    given = inputs(net, 50)
    with torch.inference_mode():
        assert torch.allclose(loaded(*given), net(*given), atol=0.1)
    save_file(weights, path, metadata={"model": "transcriber", "config": config_to_json(net.config)})
    with pytest.raises(CheckpointError, match="holds a 'transcriber', not a separator") as caught:
        Separator.load(path)
    assert caught.value.hint


def test_impossible_configurations_are_settings_errors():
    with pytest.raises(SettingsError, match="3 widths, not 2"):
        SeparatorConfig(widths=(1, 2))
    with pytest.raises(SettingsError, match="certainty is 2"):
        SeparatorConfig(certainty=2)
    with pytest.raises(SettingsError, match="must divide by 8"):
        replace(SMALL, features=FeatureSettings(n_bands=100))
