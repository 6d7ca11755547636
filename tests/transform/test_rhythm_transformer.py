import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from transform.codec import Codec, CodecNet
from transform.codec_config import CONFIGURATIONS as CODECS
from transform.codec_config import CodecConfig
from transform.errors import CheckpointError, SettingsError
from transform.events import CLASSES, DrumEvent
from transform.rhythm_transformer import (
    CONFIGURATIONS,
    RhythmConfig,
    RhythmNet,
    Source,
    Target,
    Transformed,
    activations_of_events,
    config_for,
    load_rhythm,
    rhythm_frames,
    rhythm_window,
)
from transform.transcriber import Activations
from transform.weights import config_to_json

SMALL = RhythmConfig(n_latents=6, n_activations=5, width=8, n_heads=2)
SMALL_PAPER = replace(CONFIGURATIONS["paper"], n_latents=6, n_activations=5, width=8, n_heads=2)
SHAPES = {"hires": SMALL, "paper": SMALL_PAPER}
F = 12


@pytest.fixture(params=SHAPES)
def net(request):
    """Return a network none of whose parameters is at its beginning, where much is zero."""
    torch.manual_seed(0)
    net = RhythmNet(SHAPES[request.param])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return net


def random_source(config, n_keys=F, n_items=2, seed=1):
    generator = torch.Generator().manual_seed(seed)
    mu = torch.randn(n_items, config.n_latents, n_keys, generator=generator)
    return Source(mu, torch.rand(n_items, config.n_rhythm, n_keys, generator=generator))


def random_target(config, n_items=2, seed=2):
    generator = torch.Generator().manual_seed(seed)
    rhythm = torch.rand(n_items, config.n_rhythm, F, generator=generator)
    return Target(rhythm, torch.randn(n_items, config.n_activations, F, generator=generator))


def rhythm_of(config, strokes, n_frames=F):
    """Return r (1, R, F) of strokes (class, onset in latent frames, velocity)."""
    events = [DrumEvent(at * config.hop / 44_100, name, velocity) for name, at, velocity in strokes]
    said = activations_of_events(events, 200, heights=[1.0] * len(events), widths=[1.5] * len(events))
    return rhythm_frames(config, *(torch.from_numpy(part)[None] for part in said[:3]), n_frames)


# Shapes.


@pytest.mark.parametrize(("name", "n_frames", "n_rhythm"), [("paper", 64, 5), ("hires", 256, 90)])
def test_a_segment_has_the_shapes_of_the_paper(name, n_frames, n_rhythm):
    config = CONFIGURATIONS[name]
    net = RhythmNet(config).eval()
    assert config == config_for(CODECS[name], "")
    assert (config.n_rhythm, config.width, config.n_heads, config.n_layers) == (n_rhythm, 128, 4, 3)
    with torch.inference_mode():
        r, a = torch.zeros(1, n_rhythm, n_frames), torch.zeros(1, config.n_activations, n_frames)
        out = net(Source(torch.zeros(1, 128, n_frames), r), Target(r, a))
    assert out.mu.shape == out.sigma.shape == (1, 128, n_frames)
    assert out.attention.shape == (1, n_frames, n_frames + 1)
    assert [layer.shape for layer in out.layers] == [(1, 4, n_frames, n_frames + 1)] * 3
    assert sum(p.numel() for p in net.parameters()) * 2 < 8 * 2**20


def test_paper_is_the_papers_shape():
    net = RhythmNet(CONFIGURATIONS["paper"])
    for fuser, kernel in ((net.fuse_r, 5), (net.fuse_a, 3)):
        convolutions = [layer for layer in fuser if isinstance(layer, torch.nn.Conv1d)]
        assert [(c.out_channels, c.kernel_size, c.dilation) for c in convolutions] == [
            (256, (kernel,), (1,))
        ] * 4
    attention = net.blocks[0].attention
    values = net.blocks[0].to_value.out_features
    assert values == attention.to_key.out_features == 128  # d = 32 for each of 4 heads
    assert attention.gamma.shape == attention.delta.shape == (4,)
    assert net.alphas().tolist() == pytest.approx([0.9] * 3)


@pytest.mark.parametrize("n_keys", [1, 5, 40])
def test_a_bank_may_have_any_number_of_frames(net, n_keys):
    source = random_source(net.config, n_keys)
    out = net(source._replace(mask=torch.ones(2, n_keys, dtype=torch.bool)), random_target(net.config))
    assert out.mu.shape == (2, 6, F)
    assert out.attention.shape == (2, F, n_keys + 1)
    assert [layer.shape[-1] for layer in out.layers] == [n_keys + 1, F + 1, F + 1]
    assert torch.allclose(out.attention.sum(dim=-1), torch.ones(2, F), atol=1e-5)


def test_deviations_are_positive(net):
    assert (net(random_source(net.config), random_target(net.config)).sigma > 0).all()


def test_samples_follow_mean_and_deviation_as_far_as_they_may_vary():
    sigma = torch.tensor([0.5, 2.0])[None, :, None].expand(1, 2, 50_000)
    out = Transformed(torch.full((1, 2, 50_000), 3.0), sigma, torch.zeros(0), ())
    torch.manual_seed(0)
    for variation in (0.0, 0.5, 1.0):
        drawn = out.sample(variation)
        assert drawn.mean(dim=-1)[0].tolist() == pytest.approx([3, 3], abs=0.05)
        assert drawn.std(dim=-1)[0].tolist() == pytest.approx([variation * 0.5, variation * 2.0], rel=0.02)
    assert torch.equal(out.sample(0.0), out.mu)
    assert out.sample().std(dim=-1)[0].tolist() == pytest.approx([0.5, 2.0], rel=0.02)


# Equations.


def slow(net, source, target):
    """Return mu, sigma and the attention over all layers of one item, written from the equations with loops."""
    config = net.config
    wanted, n_source = net.sounding(target.rhythm[0].T), source.mu.shape[-1]
    r_e = net.fuse_r(target.rhythm)[0].T
    a = target.activations[0]
    a = (a - a.mean(1, keepdim=True)) / (a.var(1, keepdim=True, unbiased=False) + 1e-5).sqrt()
    a_e = net.fuse_a(a[None])[0].T
    weigh, project = net.gate.weigh, net.gate.project
    q = []
    for i in range(F):  # equation 1
        gate = torch.sigmoid(weigh.weight @ torch.cat((r_e[i], a_e[i])) + weigh.bias)
        q.append(project(gate * r_e[i] + (1 - gate) * a_e[i]))
    u, r_u = list(source.mu[0].T), list(source.rhythm[0].T)
    made_of = [torch.eye(n_source + 1)[j] for j in range(n_source)]
    is_bank = source.mask is not None
    n_heads, d = config.n_heads, config.width // config.n_heads
    for layer, block in enumerate(net.blocks):
        keys, rhythms = [*u, net.silence], [*r_u, torch.zeros(config.n_rhythm)]
        sounding = [net.sounding(rhythm) for rhythm in rhythms]
        of_keys = [*made_of, torch.eye(n_source + 1)[n_source]]
        outputs, new_r, new_made_of, attend = [], [], [], block.attention
        for i in range(F):
            paid = []  # by each head to each key
            for h in range(n_heads):
                part = slice(h * d, (h + 1) * d)
                wide = slice(h * config.n_sounding, (h + 1) * config.n_sounding)
                logits = torch.zeros(len(keys))
                for j, key in enumerate(keys):  # equation 2
                    k = attend.to_key(functional.layer_norm(key, key.shape))[part]
                    b_rhythm = attend.rhythm_query(wanted[i])[wide] @ attend.rhythm_key(sounding[j])[wide]
                    place = j - i if j < len(keys) - 1 and not (is_bank and layer == 0) else None
                    b_rel = attend.distances[h, bucket_of(place)]
                    logits[j] = attend.to_query(q[i])[part] @ k / math.sqrt(d)
                    logits[j] += attend.gamma[h] * b_rel + attend.delta[h] * b_rhythm
                    if is_bank and layer == 0 and j < n_source and not source.mask[0, j]:
                        logits[j] = -math.inf
                paid.append(torch.softmax(logits, dim=0))
            if layer == 0 and config.is_detailed:
                out, made = mixed(block, paid, keys, sounding, (r_e[i], wanted[i])), paid[0]
            else:
                out, made = transformed(block, paid, keys, r_e[i]), sum(paid) / n_heads
            outputs.append(out)
            new_r.append(mean_of(made, rhythms))
            new_made_of.append(mean_of(made, of_keys))
        if is_bank and layer == 0:
            u, r_u, made_of = outputs, new_r, new_made_of
        else:
            alpha = torch.sigmoid(block.alpha_logit)
            u, r_u, made_of = (
                [(1 - alpha) * before + alpha * after for before, after in zip(*pair, strict=True)]
                for pair in ((u, outputs), (r_u, new_r), (made_of, new_made_of))
            )
    first, _, second = net.deviation
    mu, sigma = torch.stack(u), []
    for frame in mu:  # equation 3
        inner = functional.leaky_relu(first.weight[..., 0] @ frame + first.bias, 0.2)
        sigma.append(functional.softplus(second.weight[..., 0] @ inner + second.bias) + 1e-4)
    return mu.T, torch.stack(sigma).T, torch.stack(made_of)


def mean_of(shares, vectors):
    return sum(share * vector for share, vector in zip(shares, vectors, strict=True))


def transformed(block, paid, keys, r_e):
    """Return a frame of a block: heads carry their share of the values, then a feed-forward layer."""
    n, copied = block.to_value.out_features // len(paid), []
    for h, shares in enumerate(paid):
        copied.append(mean_of(shares, [block.to_value(key)[h * n : (h + 1) * n] for key in keys]))
    out = block.leave(torch.cat(copied))
    inner = block.widen(torch.cat((functional.layer_norm(out, out.shape), r_e)))
    return out + block.narrow(functional.leaky_relu(inner, 0.2))


def mixed(block, paid, keys, sounding, known):
    """Return a frame of the first layer of `hires`: the first head's copy, and what is added to it."""
    r_e, wanted = known
    copies = [mean_of(shares, keys) for shares in paid]
    seen = [functional.layer_norm(copy, copy.shape) for copy in copies]
    seen += [r_e, *(mean_of(shares, sounding) for shares in paid), wanted]
    return copies[0] + block.narrow(functional.leaky_relu(block.widen(torch.cat(seen)), 0.2))


def bucket_of(steps):
    """Return the bucket of a relative position: 32 for what has none."""
    if steps is None:
        return 32
    far = abs(steps)
    bucket = far if far < 8 else min(15, 8 + int(1.5 * math.log2(far / 8)))
    return bucket + 16 if steps < 0 else bucket


@pytest.mark.parametrize("is_bank", [False, True])
def test_it_computes_the_equations(net, is_bank):
    source, target = random_source(net.config, 9 if is_bank else F), random_target(net.config)
    if is_bank:
        mask = torch.ones(2, 9, dtype=torch.bool)
        mask[0, [2, 8]] = False
        source = source._replace(mask=mask)
    with torch.no_grad():
        out = net(source, target)
        mu, sigma, attention = slow(net, source, target)
    assert torch.allclose(out.mu[0], mu, atol=1e-5)
    assert torch.allclose(out.sigma[0], sigma, atol=1e-5)
    assert torch.allclose(out.attention[0], attention, atol=1e-5)


def test_without_its_attention_the_result_is_the_same(net):
    source, target = random_source(net.config), random_target(net.config)
    for there in (None, torch.ones(2, F, dtype=torch.bool)):
        source = source._replace(mask=there)
        alone = net(source, target, with_attention=False)
        assert torch.equal(alone.mu, net(source, target).mu)
        assert not alone.attention.numel()


@pytest.mark.parametrize("is_bank", [False, True])
def test_attention_in_use_is_that_of_training_without_denormal_numbers(net, is_bank):
    torch.set_flush_denormal(False)  # training turns it on, for all that comes after it
    source, target = random_source(net.config), random_target(net.config)
    if is_bank:
        mask = torch.ones(2, F, dtype=torch.bool)
        mask[0, [2, 8]] = False
        source = source._replace(mask=mask)
    with torch.no_grad():
        for block in net.blocks:
            block.attention.delta.mul_(300)
    trained = net(source, target)
    least = torch.finfo(torch.float32).tiny
    assert any(((layer > 0) & (layer < least)).any() for layer in trained.layers)
    with torch.no_grad():
        used = net(source, target)
    assert torch.allclose(used.mu, trained.mu, atol=1e-6)
    for ours, theirs in zip(used.layers, trained.layers, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-7)
        assert not ((ours > 0) & (ours < 1e-20)).any()


def test_relative_positions_are_exact_nearby_and_coarse_far_away(net):
    distance = net._keys(torch.zeros(1, 300, 6), torch.zeros(1, 300, net.config.n_rhythm)).distance
    assert distance.shape == (300, 301)
    assert distance[0, :9].tolist() == list(range(9))
    assert distance[150, 140] == bucket_of(-10)
    assert distance[0, 299] == 15
    assert (distance[:, 300] == 32).all()


# Masks and gradients.


def test_padded_keys_change_nothing(net):
    config, target = net.config, random_target(net.config)
    source = random_source(config, 20)
    mask = torch.ones(2, 20, dtype=torch.bool)
    mask[0, 13:] = False
    source.mu[0, :, 13:] = 1e4
    padded = net(source._replace(mask=mask), target)
    alone = net(
        Source(source.mu[:1, :, :13], source.rhythm[:1, :, :13], mask[:1, :13]),
        Target(target.rhythm[:1], target.activations[:1]),
    )
    assert torch.allclose(padded.mu[0], alone.mu[0], atol=1e-5)
    assert torch.allclose(padded.attention[0, :, :13], alone.attention[0, :, :13], atol=1e-6)
    assert (padded.attention[0, :, 13:20] == 0).all()


def test_the_order_of_a_banks_frames_does_not_matter(net):
    source, target = random_source(net.config, 10), random_target(net.config)
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 10, dtype=torch.bool)
    one = net(source._replace(mask=mask), target)
    other = net(Source(source.mu[..., order], source.rhythm[..., order], mask), target)
    assert torch.allclose(one.mu, other.mu, atol=1e-5)


def test_everything_learns_but_nothing_goes_back_through_a(net):
    target = random_target(net.config)
    target.activations.requires_grad_()
    some = torch.tensor([True, False])
    out = net(random_source(net.config), target._replace(has_activations=some))
    (out.mu.square().mean() + out.sigma.mean() + out.attention.square().mean()).backward()
    without = {name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert not without
    assert target.activations.grad is None


def test_loss_of_masked_attention_has_finite_gradients(net):
    source = random_source(net.config)
    mask = torch.zeros(2, F, dtype=torch.bool)  # an empty bank: silence is all there is
    out = net(source._replace(mask=mask), random_target(net.config))
    torch.log(out.attention + 1e-8).sum().backward()
    assert torch.allclose(out.attention[..., -1], torch.ones(2, F))
    assert all(p.grad.isfinite().all() for p in net.parameters() if p.grad is not None)


# What is known of the target.


def test_without_a_the_gate_hears_the_null(net):
    source, target = random_source(net.config), random_target(net.config)
    without = net(source, Target(target.rhythm))
    nobody = torch.zeros(2, dtype=torch.bool)
    assert torch.equal(net(source, target._replace(has_activations=nobody)).mu, without.mu)
    some = net(source, target._replace(has_activations=torch.tensor([True, False]))).mu
    assert torch.allclose(some[1], without.mu[1], atol=1e-6)
    assert not torch.allclose(some[0], without.mu[0], atol=1e-5)


def test_a_is_heard_whatever_its_level(net):
    # Instance normalisation: neither the level nor the mean of a channel tells anything (decision 1).
    source, target = random_source(net.config), random_target(net.config)
    louder = target._replace(activations=3 * target.activations + 5)
    assert torch.allclose(net(source, target).mu, net(source, louder).mu, atol=1e-3)


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_probabilities_are_the_largest_in_a_frame(config):
    probability = torch.zeros(1, 5, 30)
    at = torch.tensor([0, 7, 22])
    probability[0, 2, at] = torch.tensor([0.5, 0.9, 0.7])
    r = rhythm_frames(config, probability, torch.ones(1, 5, 30), torch.zeros(1, 5, 30), 8)
    frames = (at * 441 // config.hop).tolist()
    wanted = torch.zeros(8)
    for frame, height in zip(frames, (0.5, 0.9, 0.7), strict=True):
        if frame < 8:
            wanted[frame] = max(wanted[frame], height)
    assert torch.allclose(r[0, 2, :8], wanted)
    assert not r[0, [0, 1, 3, 4]].any()


def test_velocity_and_place_are_told_where_an_onset_is():
    r = rhythm_of(SMALL, [("SD", 4.25, 0.6)])[0]
    snare = CLASSES.index("SD")
    assert r[snare].argmax() == 4
    height = float(r[snare, 4])
    assert float(r[5 + snare, 4]) == pytest.approx(0.6 * height, rel=1e-4)
    assert float(r[10 + snare, 4]) == pytest.approx(-0.25 * height, abs=0.01)
    assert float(r[15 + snare, 9]) == pytest.approx(0.6, abs=0.05)  # how hard it was last struck


def test_the_time_since_an_onset_is_known_until_the_next():
    r = rhythm_of(SMALL, [("HH", 10.5, 1.0), ("HH", 40.5, 1.0)], 60)[0]
    bumps = r[20:].unflatten(0, (5, 14))[CLASSES.index("HH")]
    assert torch.allclose(bumps[:, 15], bumps[:, 45], atol=0.05)  # 5 frames after either
    assert float((bumps[:, 15] - bumps[:, 18]).abs().sum()) > 0.3
    assert torch.allclose(bumps[:, 12:38].sum(dim=0), torch.ones(26), atol=0.1)
    assert not bumps[:, :8].any()


def test_the_last_onset_is_long_ago_when_nothing_is_said_of_it():
    r = rhythm_of(SMALL, [("CY", 2.0, 1.0)], 120)[0]
    assert r[:, 60].any()
    assert not r[:, 95:].any()  # more than a second


def test_midi_becomes_peaks():
    events = [DrumEvent(0.103, "KD", 0.9), DrumEvent(0.5, "HH", 0.2, "open")]
    said = activations_of_events(events, 60, heights=[0.8, 0.5], widths=[2.0, 1.5])
    assert said.probability[0, 8:13].tolist() == pytest.approx([0, 0.28, 0.68, 0.52, 0.12], abs=1e-5)
    assert said.offset_frames[0, 10] == pytest.approx(0.3, abs=1e-5)
    assert said.velocity[0, 10] == pytest.approx(0.9)
    assert said.probability[3, 50] == pytest.approx(0.5)
    assert said.articulation[0, 50] == 1
    assert np.count_nonzero(said.probability) == 4 + 3


# Copying as a starting point (decision 4).


@pytest.mark.parametrize("config", SHAPES.values(), ids=SHAPES)
def test_sharp_attention_copies_the_frames_that_it_picks(config):
    torch.manual_seed(0)
    net = RhythmNet(config)
    picked = [3, 1, 1, 4, 0, 2]
    struck = torch.zeros(1, config.n_rhythm, 5)  # in each frame another class
    for i in range(5):
        struck[0, [15 + i, 20 + 14 * i + 3] if config.is_detailed else i, i] = 1.0
    source = Source(torch.randn(1, 6, 5), struck, torch.ones(1, 5, dtype=torch.bool))
    target = Target(struck[..., picked])
    with torch.no_grad():
        for block in net.blocks:
            block.attention.delta.fill_(1e3)
        out = net(source, target)
    assert torch.allclose(out.mu, source.mu[..., picked], atol=1e-4)
    assert out.attention[0].argmax(dim=-1).tolist() == picked


def test_a_hit_is_found_by_its_class_and_phase_at_once():
    # Without any training: every kick frame of the target is made of the source's kick, at the same phase.
    torch.manual_seed(0)
    net = RhythmNet(replace(SMALL, n_latents=8)).eval()
    with torch.no_grad():
        for block in net.blocks:
            block.attention.delta.mul_(300)
        r_source = rhythm_of(SMALL, [("KD", 5.5, 0.8), ("SD", 25.5, 0.8)], 50)
        r_target = rhythm_of(SMALL, [("SD", 10.5, 0.8), ("KD", 30.5, 0.8)], 50)
        source = Source(torch.randn(1, 8, 50), r_source, torch.ones(1, 50, dtype=torch.bool))
        attention = net(source, Target(r_target)).layers[0].mean(dim=1)[0]
    apart = attention[30:36].argmax(dim=-1) - torch.arange(5, 11)
    assert (apart[:3] == 0).all()
    assert (apart.abs() <= 1).all()


@pytest.mark.slow
def test_supervised_attention_learns_to_copy():
    torch.manual_seed(0)
    net = RhythmNet(SMALL)
    with torch.no_grad():
        for block in net.blocks:
            block.attention.delta.fill_(2.0)  # what begins sharply and is wrong would take long
    source, target = random_source(SMALL, 10, 1), random_target(SMALL, 1)
    source = source._replace(mask=torch.ones(1, 10, dtype=torch.bool))
    picked = torch.randint(10, (F,))
    optimiser = torch.optim.Adam(
        [p for n, p in net.named_parameters() if "value" not in n and "leave" not in n and "narrow" not in n],
        3e-3,
    )
    for _ in range(60):
        out = net(source, target)
        loss = functional.nll_loss(torch.log(out.attention[0] + 1e-8), picked)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.4
    learnt = out.attention[0, torch.arange(F), picked] > 0.97
    assert learnt.sum() >= F / 2
    assert torch.allclose(out.mu[0][:, learnt], source.mu[0][:, picked[learnt]], atol=0.2)


# Files.


CODEC = CodecConfig(
    n_latents=6,
    widths=(4, 6, 8, 8, 10),
    n_blocks=(1, 1, 1, 1, 1),
    generator_widths=(12, 8),
    generator_blocks=(1, 1),
)


def codec_of(config=CODEC, seed=0):
    torch.manual_seed(seed)
    net = CodecNet(config)
    return Codec(net.encoder, net.generator)


def test_channels_follow_the_attention_that_the_source_is_paid(net):
    source = random_source(net.config, n_items=1)
    target = random_target(net.config, n_items=1)
    for there in (None, torch.ones(1, F, dtype=torch.bool)):
        source = source._replace(mask=there)
        channels = torch.cat((source.mu, 0.5 * source.mu))
        alone, out = net(source, target), net(source, target, channels)
        assert torch.allclose(out.mu, alone.mu, atol=1e-6)
        mu, sigma = out.channels
        assert torch.allclose(mu[:1], out.mu, atol=1e-5)
        assert torch.allclose(sigma[:1], out.sigma, atol=1e-5)
        assert not torch.allclose(mu[1:], out.mu, atol=1e-3)
        assert alone.channels is None


@pytest.mark.parametrize("n_channels", [0, 2])
def test_a_bank_as_keys_serves_as_the_bank_does(net, n_channels):
    source = random_source(net.config, 20, n_items=1)
    channels = torch.randn(n_channels, *source.mu.shape[1:]) if n_channels else None
    for n_there in (20, 13):
        banked = source._replace(mask=torch.arange(20)[None] < n_there)
        with torch.no_grad():
            keys = net.bank_keys(banked, channels)
            for seed in (2, 3):
                target = random_target(net.config, n_items=1, seed=seed)
                expected, out = net(banked, target, channels), net(keys, target)
                assert torch.allclose(out.mu, expected.mu, atol=1e-6)
                assert torch.allclose(out.attention, expected.attention, atol=1e-6)
                assert (out.channels is None) == (channels is None)
                for one, other in zip(out.channels or (), expected.channels or (), strict=True):
                    assert torch.allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("hop", [256, 512, 2048])
def test_r_of_a_stretch_is_that_of_the_whole(hop):
    config = replace(RhythmConfig(), hop=hop)
    random = np.random.default_rng(0)
    whole = [random.uniform(0, 1, (5, 3000)).astype(np.float32) for _ in range(3)]
    whole[0] **= 60
    said = Activations(*whole, whole[0][:1])
    n_frames = 3000 * 441 // hop
    long = rhythm_frames(config, *(torch.from_numpy(part)[None] for part in whole), n_frames)
    for first, last in ((0, 3), (n_frames // 2, n_frames // 2 + 40), (n_frames - 5, n_frames)):
        part = rhythm_window(config, lambda a, b: Activations(*(x[..., a:b] for x in said)), first, last)
        assert torch.allclose(part, long[..., first:last], atol=2e-4)


def saved(config, path):
    torch.manual_seed(0)
    net = RhythmNet(config)
    weights = {name: value.half() for name, value in net.state_dict().items()}
    save_file(weights, path, {"model": "rhythm", "config": config_to_json(config)})
    return net


def test_weights_are_read(tmp_path):
    codec, path = codec_of(), tmp_path / "rhythm.safetensors"
    config = replace(config_for(CODEC, codec.fingerprint), width=8, n_heads=2)
    net, loaded = saved(config, path), load_rhythm(path, codec)
    assert loaded.config == config
    assert not loaded.training
    source, target = random_source(config), random_target(config)
    assert torch.allclose(net(source, target).mu, loaded(source, target).mu, atol=0.02)


def test_weights_for_aligned_banks_are_refused_and_those_without_are_read(tmp_path):
    codec, path = codec_of(), tmp_path / "rhythm.safetensors"
    config = replace(config_for(CODEC, codec.fingerprint), width=8, n_heads=2)
    weights = {name: value.half() for name, value in saved(config, path).state_dict().items()}
    for n_places in (0, 16, -1):
        header = json.dumps(json.loads(config_to_json(config)) | {"n_places": n_places})
        save_file(weights, path, {"model": "rhythm", "config": header})
        if n_places == 0:
            assert load_rhythm(path, codec).config == config
            continue
        with pytest.raises(CheckpointError, match=f"banks aligned to attacks .n_places is {n_places}."):
            load_rhythm(path, codec)


def test_a_transformer_of_another_codec_is_refused(tmp_path):
    path = tmp_path / "rhythm.safetensors"
    saved(replace(config_for(CODEC, codec_of().fingerprint), width=8, n_heads=2), path)
    with pytest.raises(CheckpointError, match="was trained on other weights of the codec") as other_weights:
        load_rhythm(path, codec_of(seed=1))
    assert "redrum train rhythm" in other_weights.value.hint
    slower = codec_of(replace(CODEC, strides=(4, 4, 4, 2)))
    with pytest.raises(
        CheckpointError, match=r"6 latents every 512 samples; .* has 6 every 2048"
    ) as other_shape:
        load_rhythm(path, slower)
    assert other_shape.value.hint


def test_files_that_are_no_transformer_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no readable"):
        load_rhythm(tmp_path / "missing.safetensors", codec_of())
    save_file({}, tmp_path / "other.safetensors", {"model": "separator", "config": "{}"})
    with pytest.raises(CheckpointError, match="not a rhythm"):
        load_rhythm(tmp_path / "other.safetensors", codec_of())


@pytest.mark.parametrize(
    ("change", "why"),
    [({"width": 9}, "cannot be divided"), ({"has_whole_values": False, "n_latents": 20}, "cannot carry 20")],
)
def test_impossible_shapes_are_refused(change, why):
    with pytest.raises(SettingsError, match=why):
        replace(SMALL, **change)
