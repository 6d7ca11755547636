import math
from dataclasses import replace

import pytest
import torch

from transform import codec as module
from transform.codec import Codec, CodecNet, EncoderNet, GeneratorNet
from transform.codec_config import CONFIGURATIONS, CodecConfig
from transform.errors import CheckpointError, DeviceError, SettingsError
from transform.noise import Noise
from transform.weights import config_from_json, config_to_json

SMALL = CodecConfig(
    n_latents=6,
    widths=(4, 6, 8, 8, 10),
    n_blocks=(1, 1, 1, 1, 2),
    generator_widths=(12, 8),
    generator_blocks=(1, 2),
)
SMALL_PAPER = replace(CONFIGURATIONS["paper"], n_latents=6, widths=(4, 6, 8, 10, 12))
SMALL_NOISE = replace(SMALL, noise_from_hz=2000.0)
SHAPES = {
    "hires": SMALL,
    "noise": SMALL_NOISE,
    "paper": SMALL_PAPER,
}


@pytest.fixture(params=SHAPES)
def net(request):
    torch.manual_seed(0)
    return CodecNet(SHAPES[request.param])


@pytest.fixture
def audio():
    generator = torch.Generator().manual_seed(1)
    return 0.5 * torch.rand(2, 44_100, generator=generator) - 0.25


def codec_of(net, **how):
    return Codec(net.encoder, net.generator, **how)


@pytest.mark.parametrize(
    ("name", "n_frames", "n_activations", "millions"),
    [("paper", 64, 1024, (15, 18)), ("hires", 256, 384, (10, 12))],
)
def test_a_segment_has_the_latents_of_the_paper(name, n_frames, n_activations, millions):
    # 131072 samples -> 128 x 64 (hop 2048); in hires 128 x 256. About 17 million parameters; 4 and 7.
    net = CodecNet(CONFIGURATIONS[name]).eval()
    with torch.inference_mode():
        encoded = net.encoder(torch.zeros(1, 131_072))
        audio = net.generator(encoded.mu)
    assert encoded.mu.shape == encoded.sigma.shape == (1, 128, n_frames)
    assert encoded.activations.shape == (1, n_activations, n_frames)
    assert (encoded.sigma > 0).all()
    assert audio.shape == (1, 131_072)
    low, high = millions
    assert low < sum(p.numel() for p in net.parameters()) / 1e6 < high


def test_paper_is_raves_shape():
    config = CONFIGURATIONS["paper"]
    assert (config.n_bands, config.strides, config.hop) == (16, (4, 4, 4, 2), 2048)
    assert (config.encoder, config.generator, config.head) == ("rave", "rave", "rave")
    assert CONFIGURATIONS["hires"].strides == (4, 2, 2, 2)
    assert CONFIGURATIONS["hires"].hop == 512


def test_a_file_of_hires_is_small_enough_to_ship():
    for part in (EncoderNet, GeneratorNet):
        halves = sum(p.numel() for p in part(CONFIGURATIONS["hires"]).parameters()) * 2
        assert halves < 15 * 2**20


@pytest.mark.parametrize("n_samples", [0, 1, 511, 512, 2049, 30_000])
def test_any_length_comes_back_as_long(net, n_samples):
    codec = codec_of(net)
    encoded = codec.encode(torch.zeros(2, n_samples))
    assert encoded.mu.shape == (2, 6, -(-n_samples // codec.config.hop))
    out = codec.decode(encoded.mu, n_samples)
    assert out.shape == (2, n_samples)
    assert out.isfinite().all()


def test_latents_that_do_not_fit_the_length_are_refused(net):
    codec = codec_of(net)
    with pytest.raises(SettingsError, match="latent frames"):
        codec.decode(torch.zeros(1, 6, 3), 10 * codec.config.hop)


def test_chunks_give_the_result_of_one_pass(net, audio, monkeypatch):
    # The networks are random, so a reach that was too short would show at once.
    codec = codec_of(net)
    whole = codec.encode(audio)
    whole_sound = codec.decode(whole.mu, audio.shape[1])
    monkeypatch.setattr(module, "_BLOCK_S", 0.15)
    parts = codec.encode(audio)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert torch.allclose(codec.decode(parts.mu, audio.shape[1]), whole_sound, atol=1e-5)


@pytest.mark.parametrize("block_s", [0.15, 15.0])
def test_frames_that_are_wanted_alone_are_those_of_the_whole(net, audio, monkeypatch, block_s):
    # Among them the first and the last, neighbours, and some that are far from all others.
    codec = codec_of(net)
    whole = codec.encode(audio)
    monkeypatch.setattr(module, "_BLOCK_S", block_s)
    last = whole.mu.shape[-1] - 1
    wanted = torch.tensor(sorted({0, 1, min(9, last), last // 2, last // 2 + 1, last - 1, last}))
    for one, other in zip(codec.encode(audio, wanted), whole, strict=True):
        assert torch.allclose(one, other[..., wanted], atol=1e-5)
    assert codec.encode(audio, wanted[:0]).mu.shape == (2, 6, 0)


def test_the_less_is_wanted_the_less_is_computed(audio):
    net = CodecNet(SMALL).eval()
    n_mixed = []
    for block in (m for m in net.encoder.modules() if hasattr(m, "widen")):
        block.widen.register_forward_hook(lambda _, given, out: n_mixed.append(given[0].shape[1]))
    codec, last = codec_of(net), None
    for n in (60, 30, 1):
        n_mixed.clear()
        codec.encode(audio[:1], torch.arange(20, 20 + n))
        assert last is None or sum(n_mixed) < 0.9 * last
        assert n_mixed[-1] == n
        last = sum(n_mixed)


def test_the_reach_is_no_larger_than_need_be(net):
    # What lies within the reach matters; what lies beyond it does not.
    net.eval()
    hop, reach = net.config.hop, net.encoder.context_frames
    heard = torch.zeros(1, (2 * reach + 9) * hop, requires_grad=True)
    middle = reach + 4
    net.encoder(heard).mu[0, :, middle].square().sum().backward()
    touched = heard.grad[0].reshape(-1, hop).abs().amax(dim=1).nonzero()[:, 0]
    assert reach - 2 <= middle - touched.min() <= reach
    assert reach - 2 <= touched.max() - middle <= reach


def test_channels_are_coded_apart(net, audio):
    codec = codec_of(net)
    both, alone = codec.encode(audio).mu, codec.encode(audio[1:]).mu
    assert torch.allclose(both[1:], alone, atol=1e-5)


def test_decoding_twice_is_the_same(net, audio):
    codec = codec_of(net)
    latents = codec.encode(audio).mu
    assert torch.equal(codec.decode(latents, 44_100), codec.decode(latents, 44_100))


def test_a_recording_that_begins_at_once_is_not_faded_in():
    # At the border the inverse transform lacks frames; constant spectra must sound equally loud there.
    torch.manual_seed(0)
    head = GeneratorNet(SMALL).trunk.head
    with torch.no_grad():
        head.project.weight.zero_()
        head.project.bias.zero_()
        head.project.bias[:257] = -20
        head.project.bias[0] = 2  # a constant: bin 0 alone
        sound = head(torch.zeros(1, 32, 8), 0, [Noise()])[0][0]
    assert sound[:64].mean() == pytest.approx(float(sound[2000:2064].mean()), rel=0.5)
    assert sound.min() > 0


def test_channels_are_coded_each_for_itself(net, audio):
    codec, stereo = codec_of(net), torch.cat((audio[:1], 0.5 * audio[:1].flip(1)))
    apart = [codec.encode(channel[None]) for channel in stereo]
    for whole, parts in zip(codec.encode(stereo), zip(*apart, strict=True), strict=True):
        assert torch.allclose(whole, torch.cat(parts), atol=1e-6)


def test_bfloat16_is_about_the_same(net, audio):
    exact, coarse = (codec_of(net, bfloat16=b).encode(audio) for b in (False, True))
    assert coarse.mu.dtype == torch.float32
    assert torch.allclose(coarse.mu, exact.mu, atol=0.1)
    assert not torch.equal(coarse.mu, exact.mu)


def test_samples_follow_mean_and_deviation():
    encoded = module.Encoded(torch.full((1, 2, 50_000), 3.0), torch.full((1, 2, 50_000), 0.5), torch.zeros(1))
    drawn = encoded.sample()
    assert drawn.mean() == pytest.approx(3, abs=0.02)
    assert drawn.std() == pytest.approx(0.5, abs=0.02)


def save_parts(net, folder, config=None):
    from safetensors.torch import save_file

    paths = []
    for name in ("encoder", "generator"):
        path = folder / f"{name}.safetensors"
        weights = {k: v.half() for k, v in getattr(net, name).state_dict().items() if v.is_floating_point()}
        if "rave" in (net.config.encoder,):
            weights |= {k: v for k, v in getattr(net, name).state_dict().items() if not v.is_floating_point()}
        save_file(weights, path, {"model": f"codec-{name}", "config": config or config_to_json(net.config)})
        paths.append(path)
    return paths


def test_weights_files_are_read(net, audio, tmp_path):
    paths = save_parts(net, tmp_path)
    loaded = Codec.load(*paths)
    assert loaded.config == net.config
    assert torch.allclose(loaded.encode(audio).mu, codec_of(net).encode(audio).mu, atol=0.02)


def test_files_that_are_no_codec_are_refused(tmp_path):
    torch.manual_seed(0)
    encoder, generator = save_parts(CodecNet(SMALL), tmp_path)
    with pytest.raises(CheckpointError, match="codec-generator"):
        Codec.load(generator, encoder)
    with pytest.raises(CheckpointError, match="no readable"):
        Codec.load(tmp_path / "missing.safetensors", generator)
    (tmp_path / "other").mkdir()
    other = save_parts(CodecNet(replace(SMALL, n_latents=4)), tmp_path / "other")
    with pytest.raises(CheckpointError, match="different codecs"):
        Codec.load(encoder, other[1])
    with pytest.raises(CheckpointError, match="configuration"):
        Codec.load(*save_parts(CodecNet(SMALL), tmp_path, config='{"n_latent": 6}'))


class Cramped(torch.nn.Module):
    """A network on a device that has room for so many frames of what it is given."""

    def __init__(self, net, most):
        super().__init__()
        self.net, self.most = net, most
        self.config, self.context_frames = net.config, net.context_frames

    def forward(self, x, *where):
        if x.shape[-1] > self.most:
            raise torch.OutOfMemoryError("no room")
        return self.net(x, *where)


def test_where_memory_is_short_smaller_pieces_give_the_same(net, audio, caplog):
    whole = codec_of(net)
    encoded = whole.encode(audio)
    reach = net.encoder.context_frames, net.generator.context_frames
    encoder = Cramped(net.encoder, (2 * reach[0] + 20) * net.config.hop)
    cramped = Codec(encoder, Cramped(net.generator, 2 * reach[1] + 20))
    for one, other in zip(encoded, cramped.encode(audio), strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    n = audio.shape[1]
    assert torch.allclose(whole.decode(encoded.mu, n), cramped.decode(encoded.mu, n), atol=1e-5)
    if encoded.mu.shape[-1] > 2 * max(reach) + 20:
        assert "smaller blocks" in caplog.text


def test_where_there_is_no_memory_at_all_it_is_said(net, audio):
    with pytest.raises(DeviceError, match="too little free memory") as caught:
        Codec(Cramped(net.encoder, 0), net.generator).encode(audio)
    assert "--device cpu" in caught.value.hint


def test_a_stretch_in_the_middle_is_decoded_as_in_the_whole(net, audio):
    codec = codec_of(net)
    mu, hop = torch.cat([codec.encode(audio).mu] * 2, dim=-1), codec.config.hop
    reach, n_frames = codec.generator_context, mu.shape[-1]
    first, last = n_frames // 2, n_frames // 2 + 3
    begin, end = max(0, first - reach), min(n_frames, last + reach)
    part = codec.decode(mu[..., begin:end], (end - begin) * hop, first_frame=begin)
    whole = codec.decode(mu, n_frames * hop)
    cut = slice((first - begin) * hop, (last - begin) * hop)
    assert torch.allclose(part[:, cut], whole[:, first * hop : last * hop], atol=1e-5)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"encoder": "lstm"}, "no encoder 'lstm'"),
        ({"head": "vocoder"}, "no head 'vocoder'"),
        ({"widths": (4, 4)}, "a width"),
        ({"head_hop": 96}, "no multiple"),
        ({"head": "rave"}, "no rave head"),
        ({"generator": "rave", "head": "rave", "noise_from_hz": 2000.0}, "no noise_from_hz"),
        ({"mixed_from_hz": 2000.0, "noise_from_hz": 2000.0}, "not below"),
        ({"mixed_from_hz": 500.0}, "not below"),
    ],
)
def test_impossible_shapes_are_refused(change, why):
    with pytest.raises(SettingsError, match=why):
        replace(SMALL, **change)


def test_a_configuration_survives_its_header():
    for config in CONFIGURATIONS.values():
        assert config_from_json(config_to_json(config), CodecConfig) == config


def with_noise(net, noise_from_hz):
    generator = GeneratorNet(replace(net.config, noise_from_hz=noise_from_hz))
    generator.load_state_dict(net.generator.state_dict())
    return Codec(net.encoder, generator)


def test_an_encoder_fits_generators_with_noise_and_without(tmp_path, audio):
    torch.manual_seed(0)
    net = CodecNet(SMALL)
    encoder, _ = save_parts(net, tmp_path)
    (tmp_path / "noise").mkdir()
    net.config = SMALL_NOISE
    _, generator = save_parts(net, tmp_path / "noise")
    codec = Codec.load(encoder, generator)
    assert codec.config.noise_from_hz == 2000
    net.config = SMALL
    expected = with_noise(net, 2000.0)
    mu = codec.encode(audio).mu
    assert torch.allclose(codec.decode(mu, 44_100), expected.decode(mu, 44_100), atol=0.02)


def test_noise_changes_nothing_below_where_it_begins(audio):
    torch.manual_seed(0)
    net = CodecNet(SMALL)
    mu = codec_of(net).encode(audio).mu
    plain, noisy = (codec.decode(mu, 44_100) for codec in (codec_of(net), with_noise(net, 5000.0)))
    power, change = (torch.fft.rfft(x).abs().square().mean(dim=0) for x in (plain, noisy - plain))
    # Bin n is n Hz. Windows of 512 leak a little.
    assert float(change[:4500].sum() / power[:4500].sum()) < 1e-3
    assert float(change[6000:].sum() / power[6000:].sum()) > 0.5


def test_noise_is_the_seeds_and_channels_have_it_in_common_or_not():
    torch.manual_seed(0)
    codec = with_noise(CodecNet(SMALL), 2000.0)
    mu = torch.randn(1, 6, 40).expand(2, -1, -1)

    def decoded(**noise):
        return codec.decode(mu, 40 * 512, noise=Noise(**noise))

    assert torch.equal(decoded(), codec.decode(mu, 40 * 512))
    assert not torch.equal(decoded(), decoded(seed=1))
    assert torch.equal(*decoded())
    one, other = decoded(coherence=(0.0,))
    assert not torch.allclose(one, other, atol=1e-3)


def test_a_mixed_bin_is_its_phase_its_noise_or_both_and_as_loud(audio):
    torch.manual_seed(0)
    net = CodecNet(SMALL)
    mu = codec_of(net).encode(audio).mu
    phased, noisy = (with_noise(net, hz).decode(mu, 44_100) for hz in (2000.0, 600.0))
    mixed = GeneratorNet(replace(SMALL, noise_from_hz=2000.0, mixed_from_hz=600.0))
    mixed.load_state_dict(mixed.state_dict() | net.generator.state_dict())
    codec, band, found = (
        Codec(net.encoder, mixed),
        slice(1400, 1900),
        {},
    )  # above the fade that noise begins with
    for log_odds in (-20.0, 0.0, 20.0):
        torch.nn.init.constant_(mixed.trunk.head.mixed.bias, log_odds)
        found[log_odds] = torch.fft.rfft(codec.decode(mu, 44_100)[0])[band]
    for log_odds, plain in ((20.0, phased), (-20.0, noisy)):
        spectrum = torch.fft.rfft(plain[0])[band]
        assert float((found[log_odds] - spectrum).abs().norm() / spectrum.abs().norm()) < 0.05
    half = (found[20.0] + found[-20.0]) / math.sqrt(2)  # powers add up
    assert float((found[0.0] - half).abs().norm() / half.abs().norm()) < 0.05
