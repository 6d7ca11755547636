import errno
import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from training.data.pack import Pack, PackError
from training.data.segments import Segments, SegmentSettings
from training.data.synthesis import SynthesisSettings
from training.score.texture import periodicity, speckle_db
from training.train import codec as module
from training.train import loop
from training.train.codec import CodecTraining, codec_training, export_codec, train_codec
from training.train.discriminators import DiscriminatorConfig, detached
from training.train.reports import read_log
from transform.codec import Codec, GeneratorNet, load_encoder
from transform.codec_config import CONFIGURATIONS, CodecConfig
from transform.errors import CheckpointError, OutputError, SettingsError
from transform.presets import load_preset

SMALL = CodecConfig(
    n_latents=6,
    widths=(4, 6, 8, 8, 10),
    n_blocks=(1, 1, 1, 1, 1),
    generator_widths=(12, 8),
    generator_blocks=(1, 1),
)
SMALL_NOISE = replace(SMALL, noise_from_hz=2000.0)
SMALL_PAPER = replace(CONFIGURATIONS["paper"], n_latents=6, widths=(4, 6, 8, 10, 12))


@pytest.fixture
def settings():
    def make(**changes):
        small = {
            "steps": 10,
            "batch": 3,
            "warm_up": 2,
            "validate_every": 1000,
            "n_validation": 2,
            "pool_size": 1,
        }
        small |= {"synthesis": SynthesisSettings(n_samples=22_050), "pieces": SegmentSettings(n_samples=8192)}
        small |= {"adversarial": 0.5, "discriminators": DiscriminatorConfig(windows=(512, 256), width=4)}
        return CodecTraining(**(small | {"model": SMALL} | changes))

    return make


@pytest.fixture
def new_run(tiny_pack, settings, tmp_path):
    def make(**changes):
        return module._Run(tiny_pack, tmp_path, settings(**changes), torch.device("cpu"))

    return make


def same(one, other):
    """Tell whether two states are equal to the bit."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    return one == other


@pytest.mark.slow
@pytest.mark.parametrize("model", [SMALL, SMALL_NOISE, SMALL_PAPER], ids=["hires", "noise", "paper"])
def test_a_resumed_run_is_the_same_run_in_both_phases(tiny_pack, settings, tmp_path, stop_after, model):
    made = settings(model=model, steps=6, batch=2)
    train_codec(tiny_pack, tmp_path / "whole", made)
    train_codec(tiny_pack, tmp_path / "parts", made, **stop_after(3))
    at_the_border = torch.load(tmp_path / "parts" / "codec.pt")
    assert at_the_border["step"] == 3
    assert "adversary" not in at_the_border
    train_codec(tiny_pack, tmp_path / "parts", made, resume=True, **stop_after(2))
    assert torch.load(tmp_path / "parts" / "codec.pt")["step"] == 5
    train_codec(tiny_pack, tmp_path / "parts", made, resume=True)
    whole, parts = (torch.load(tmp_path / name / "codec.pt") for name in ("whole", "parts"))
    assert whole["step"] == parts["step"] == 6
    for name in ("net", "average", "optimiser", "adversary", "torch_random"):
        assert same(whole[name], parts[name]), name


def test_phase_b_leaves_the_encoder_as_it_is(new_run):
    run = new_run(learning_rate=1e-2)
    for step in range(5):
        run.train_step(run.batch_of(step))
    average = {k: v.clone() for k, v in run.average.encoder.state_dict().items()}
    assert run.adversary is None
    run.train_step(run.batch_of(5))
    judges = {k: v.clone() for k, v in run.adversary.nets.state_dict().items()}
    generator = {k: v.clone() for k, v in run.net.generator.state_dict().items()}
    run.train_step(run.batch_of(6))
    # Its average it was frozen at, and it stays there.
    assert all(torch.equal(value, average[key]) for key, value in run.net.encoder.state_dict().items())
    assert all(torch.allclose(v, average[k]) for k, v in run.average.encoder.state_dict().items())
    assert not same(judges, dict(run.adversary.nets.state_dict()))
    assert not same(generator, dict(run.net.generator.state_dict()))
    assert {"adversarial", "features", "discriminator"} <= run.terms.keys()
    assert "kl" not in run.terms


def test_rates_warm_up_fall_and_begin_again(new_run):
    run = new_run(steps=1000, warm_up=100, adversarial=0.5)
    rates = []
    for run.step in (0, 99, 100, 499):
        rates.append(run.learning_rate())
    assert rates == pytest.approx([1e-5, 1e-3, 1e-3, 1e-4], rel=0.02)
    run._begin_phase_b()
    rates = []
    for run.step in (500, 750, 999):
        rates.append(run.learning_rate())
    assert rates == pytest.approx([2e-4, 1.1e-4, 2e-5], rel=0.02)


@pytest.mark.slow
def test_the_network_learns_a_batch(new_run):
    larger = replace(SMALL, widths=(16, 16, 24, 24, 32), generator_widths=(32, 24), n_latents=16)
    run = new_run(steps=400, adversarial=0.0, learning_rate=1e-2, model=larger)
    batch = run.batch_of(0)
    losses = [run.train_step(batch) for _ in range(60)]
    assert np.mean(losses[-3:]) < 0.6 * losses[0]


TERMS = ("mel", "stft", "bands", "wave", "attack", "pre_echo", "adversarial", "features", "kl")


def weighing(settings, **weights):
    """Return settings in which terms have the weights that are given, and all others none."""
    named = {name: weights.get(name, 0.0) for name in TERMS}
    kl = max(named.pop("kl"), 1e-30)  # it rises by equal ratios, so it is never 0
    by_field = {f"{name}_weight": weight for name, weight in named.items()}
    return replace(settings, kl_first=kl, kl_last=kl, **by_field)


@pytest.mark.parametrize(("phase", "others"), [("A", {"adversarial", "features"}), ("B", {"kl"})])
def test_every_term_of_a_phase_counts_by_its_weight_and_teaches(new_run, phase, others):
    run = new_run(adversarial=0.0 if phase == "A" else 1.0)
    noise = torch.rand(3, 8192, generator=torch.Generator().manual_seed(0)) - 0.5
    noise[:, :3000] = 0
    batch = Segments(noise, torch.full((3, 1), 3000), ({},) * 3)
    run.train_step(batch)  # in which phase B begins
    for name in sorted(set(TERMS) - others):
        run.settings = weighing(run.settings, **{name: 2.0})
        run.net.zero_grad()
        loss = run.loss_of(batch)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(2 * float(run.terms[name]), rel=1e-5), name
        assert float(loss.detach()) != 0, name
        learning = (run.net.encoder if name == "kl" else run.net.generator).parameters()
        assert max(float(p.grad.abs().max()) for p in learning if p.grad is not None) > 1e-15, name
    run.settings = weighing(run.settings)
    assert float(run.loss_of(batch).detach()) == pytest.approx(0, abs=1e-20)
    assert not others & run.terms.keys()


def test_the_generator_hears_latents_that_are_drawn_by_their_deviation(new_run):
    run, decoded = new_run(), []
    batch = run.batch_of(0)
    run.net.generator.trunk.register_forward_pre_hook(lambda net, given: decoded.append(given[0].detach()))
    run.loss_of(batch)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        encoded = run.net.encoder(batch.audio)
    drawn = (decoded[0].float() - encoded.mu) / encoded.sigma
    assert float(drawn.mean()) == pytest.approx(0, abs=0.3)
    assert float(drawn.std()) == pytest.approx(1, abs=0.2)


def test_terms_of_phase_b_are_the_discriminators_verdicts_and_features(new_run):
    run = new_run(adversarial=1.0)
    batch = run.batch_of(0)
    run.train_step(batch)
    seen, listen = [], run.adversary.nets.forward

    def overheard(audio, peak):
        seen.append((audio, listen(audio, peak)))
        return seen[-1][1]

    run.adversary.nets.forward = overheard
    run.loss_of(batch)
    target, first, output = seen  # as they are told apart, and once more when they have learnt from it
    assert torch.equal(target[0], batch.audio[:, : run.settings.judged_samples])
    assert torch.equal(first[0], output[0])
    of_output, of_target = detached(output[1]), detached(target[1])
    verdict = np.mean([float(part[-1].float().mean()) for part in of_output])
    assert float(run.terms["adversarial"]) == pytest.approx(-verdict, rel=1e-3)
    apart = [
        float((ours.float() - theirs.float()).abs().mean() / theirs.float().abs().mean())
        for part, whole in zip(of_output, of_target, strict=True)
        for ours, theirs in zip(part[:-1], whole[:-1], strict=True)
    ]
    assert float(run.terms["features"]) == pytest.approx(np.mean(apart), rel=1e-3)


def test_silence_and_unknown_onsets_are_learnt_from(new_run):
    run = new_run()
    silence = Segments(torch.zeros(3, 8192), torch.full((3, 1), -1), ({},) * 3)
    for _ in range(8):  # both phases
        assert np.isfinite(run.train_step(silence))
    assert all(p.isfinite().all() for p in run.net.parameters())


def test_a_generator_is_trained_alone_and_the_encoders_file_stays(tiny_pack, settings, tmp_path):
    made = tmp_path / "preset"
    first = train_codec(tiny_pack, tmp_path / "first", settings(steps=2))
    trained = torch.load(first)
    trained["average"]["encoder.trunk.enter.bias"][0] = -0.0  # its mean with itself is 0
    torch.save(trained, first)
    paths = export_codec(first, made)
    encoder, generator = (path.read_bytes() for path in paths)
    alone = settings(model=SMALL_NOISE, generator_alone=True, adversarial=0.0, steps=4)
    checkpoint = train_codec(tiny_pack, tmp_path / "alone", alone, begin=load_preset(made))
    state = torch.load(checkpoint)
    assert "adversary" not in state
    for part in ("net", "average"):
        for name, value in load_encoder(paths[0]).state_dict().items():
            assert torch.equal(state[part][f"encoder.{name}"], value)
    assert torch.signbit(state["average"]["encoder.trunk.enter.bias"][0])
    assert export_codec(checkpoint, made) == paths
    assert paths[0].read_bytes() == encoder
    assert paths[1].read_bytes() != generator
    assert Codec.load(*paths).config.noise_from_hz == 2000
    card = (made / "CARD.md").read_text(encoding="utf-8")
    assert "--noise-from 2000 --generator-alone --preset PRESET" in card
    # From there it goes on without being told where noise begins.
    assert codec_training("hires", "cpu", begin=load_preset(made)).model.noise_from_hz == 2000
    new = tmp_path / "new"
    assert Codec.load(*export_codec(checkpoint, new)).config.noise_from_hz == 2000


def test_a_head_begins_to_mix_as_the_presets_sounds(tiny_pack, settings, tmp_path):
    made = tmp_path / "preset"
    paths = export_codec(train_codec(tiny_pack, tmp_path / "first", settings(model=SMALL_NOISE, steps=2)), made)
    latents = torch.randn(1, 6, 40, generator=torch.Generator().manual_seed(0))
    before = Codec.load(*paths).decode(latents, 40 * 512)
    mixing = replace(SMALL_NOISE, mixed_from_hz=500.0)
    alone = settings(model=mixing, generator_alone=True, adversarial=0.0, learning_rate=0.0, steps=1)
    checkpoint = train_codec(tiny_pack, tmp_path / "alone", alone, begin=load_preset(made))
    assert export_codec(checkpoint, made) == paths
    codec = Codec.load(*paths)
    assert (codec.config.mixed_from_hz, codec.config.first_noise_hz) == (500, 500)
    change = codec.decode(latents, 40 * 512) - before
    assert 0 < float(change.norm() / before.norm()) < 0.3  # 5 % of the power of some bins is noise
    assert "--mixed-from 500" in (made / "CARD.md").read_text(encoding="utf-8")
    assert codec_training("hires", "cpu", begin=load_preset(made)).model.mixed_from_hz == 500


def test_a_generator_alone_needs_an_encoder(tiny_pack, settings, tmp_path):
    with pytest.raises(SettingsError, match="needs a trained encoder"):
        train_codec(tiny_pack, tmp_path, settings(generator_alone=True, adversarial=0.0))


def test_a_run_is_not_resumed_with_noise_from_elsewhere(tiny_pack, settings, tmp_path):
    train_codec(tiny_pack, tmp_path, settings(steps=2))
    with pytest.raises(CheckpointError, match="another configuration") as caught:
        train_codec(tiny_pack, tmp_path, settings(model=SMALL_NOISE), resume=True)
    assert "--noise-from" in caught.value.hint


def test_a_head_of_noise_does_not_buzz():
    # With the same features in every frame a head that makes phases makes one pulse a hop.
    found = {}
    for hz in (0.0, 2000.0):
        torch.manual_seed(0)
        net = GeneratorNet(replace(SMALL, noise_from_hz=hz)).eval()
        with torch.inference_mode():
            sound = net(torch.randn(1, 6, 1).expand(-1, -1, 172))[0].numpy()
        found[hz] = periodicity(sound), speckle_db(sound)
    assert found[0.0][0] > 0.9
    assert found[2000.0][0] < 0.15
    assert found[2000.0][1] == pytest.approx(5.5, abs=0.3)  # as noise


@pytest.mark.slow
@pytest.mark.usefixtures("with_curves")
def test_validation_writes_scores_samples_and_latents(tiny_pack, settings, tmp_path):
    train_codec(tiny_pack, tmp_path, settings(steps=4, validate_every=2))
    logged = read_log(tmp_path / "codec.jsonl")
    assert [entry["step"] for entry in logged] == [2, 4]
    scores = logged[-1]["scores"].keys()
    assert {"mel_db", "averaged_db", "stft", "si_sdr_db", "high_bias_db", "known mel_db"} <= scores
    assert {"periodicity", "speckle_db", "original_periodicity", "original_speckle_db"} <= scores
    latents = [json.loads(line) for line in (tmp_path / "codec-latents.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in latents] == [2, 4]
    assert len(latents[0]["kl_by_channel"]) == 6
    assert latents[0]["kl"] == pytest.approx(sum(latents[0]["kl_by_channel"]), abs=0.01)
    assert 0 <= latents[0]["active"] <= 6
    assert {"mel", "kl"} <= latents[0]["terms"].keys()
    names = {path.name for path in (tmp_path / "samples").iterdir()}
    assert {"0_original.wav", "0_0000002.wav", "0_0000004.wav"} <= names
    sound, rate = soundfile.read(tmp_path / "samples" / "0_0000004.wav")
    assert (len(sound), rate) == (4 * 44_100, 44_100)
    if (tmp_path / "curves.png").exists():  # where there is matplotlib
        assert "0000004.png" in names


def test_a_loss_that_is_not_finite_stops_with_the_batch_written_down(
    tiny_pack, settings, tmp_path, monkeypatch
):
    train_codec(tiny_pack, tmp_path, settings(steps=2))
    before = (tmp_path / "codec.pt").read_bytes()
    forward = module.SpectralLoss.forward

    def failing(self, output, target, other):
        return {name: term * float("nan") for name, term in forward(self, output, target, other).items()}

    monkeypatch.setattr(module.SpectralLoss, "forward", failing)
    with pytest.raises(CheckpointError, match="the loss is nan at step 3"):
        train_codec(tiny_pack, tmp_path, settings(steps=9), resume=True)
    report = json.loads((tmp_path / "codec-failed.json").read_text(encoding="utf-8"))
    assert report["step"] == 3
    assert report["terms"]["mel"] == "nan"
    assert len(report["recipes"]) == 3
    assert report["recipes"][0]["voices"]
    assert (tmp_path / "codec.pt").read_bytes() == before


def test_a_full_disk_leaves_the_old_checkpoint(tiny_pack, settings, tmp_path, monkeypatch):
    train_codec(tiny_pack, tmp_path, settings(steps=2))
    before = (tmp_path / "codec.pt").read_bytes()

    def full(state, path):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(loop.torch, "save", full)
    with pytest.raises(OutputError, match="No space left"):
        train_codec(tiny_pack, tmp_path, settings(steps=4), resume=True)
    assert (tmp_path / "codec.pt").read_bytes() == before
    assert not list(tmp_path.glob(".redrum-*"))


def test_runs_that_cannot_go_on_are_refused(tiny_pack, settings, tmp_path):
    train_codec(tiny_pack, tmp_path, settings(steps=2))
    with pytest.raises(CheckpointError, match="exists"):
        train_codec(tiny_pack, tmp_path, settings())
    with pytest.raises(CheckpointError, match="another configuration"):
        train_codec(tiny_pack, tmp_path, settings(model=SMALL_PAPER), resume=True)
    with pytest.raises(CheckpointError, match="does not exist"):
        train_codec(tiny_pack, tmp_path / "none", settings(), resume=True)
    with pytest.raises(SettingsError, match="too short for a single"):
        train_codec(tiny_pack, tmp_path / "hurry", settings(), max_minutes=0)


def test_discriminators_of_another_shape_are_refused(tiny_pack, settings, tmp_path):
    train_codec(tiny_pack, tmp_path, settings(steps=4))
    wider = settings(steps=6, discriminators=DiscriminatorConfig(windows=(512, 256), width=5))
    with pytest.raises(CheckpointError, match="discriminators of another shape"):
        train_codec(tiny_pack, tmp_path, wider, resume=True)


def test_a_pack_without_rhythms_is_refused(tiny_pack, settings, tmp_path):
    with pytest.raises(PackError, match="no rhythms to train on"):
        train_codec(Pack(tiny_pack.kits, (), ()), tmp_path, settings())


def test_settings_that_do_not_fit_are_refused(settings):
    with pytest.raises(SettingsError, match="no whole number"):
        settings(pieces=SegmentSettings(n_samples=8000))
    with pytest.raises(SettingsError, match="do not fit into"):
        settings(pieces=SegmentSettings(n_samples=32_768))
    with pytest.raises(SettingsError, match=r"adversarial is 1\.1"):
        settings(adversarial=1.1)
    with pytest.raises(SettingsError, match="no configuration lowres"):
        codec_training("lowres", "cpu")


def test_processors_get_smaller_steps():
    small, large = codec_training("paper", "cpu"), codec_training("paper", "cuda", steps=5)
    assert small.model == large.model == CONFIGURATIONS["paper"]
    assert (small.batch, large.batch, large.steps, large.pieces.n_samples) == (8, 32, 5, 32_768)
    assert small.discriminators.width < large.discriminators.width


def test_weights_go_into_a_preset(tiny_pack, settings, tmp_path):
    checkpoint = train_codec(tiny_pack, tmp_path / "run", settings(steps=4))
    paths = export_codec(checkpoint, tmp_path / "preset")
    preset = load_preset(tmp_path / "preset")
    assert (preset.weights("codec-encoder"), preset.weights("codec-generator")) == paths
    assert "redrum train codec" in (tmp_path / "preset" / "CARD.md").read_text(encoding="utf-8")
    codec = Codec.load(*paths)
    audio = torch.rand(1, 5000) - 0.5
    average = torch.load(checkpoint)["average"]
    weight = codec._encoder.trunk.project.weight
    assert torch.allclose(weight, average["encoder.trunk.project.weight"], atol=1e-3)
    assert codec.decode(codec.encode(audio).mu, 5000).shape == (1, 5000)


def test_the_papers_codec_makes_a_preset_the_papers(tiny_pack, settings, tmp_path):
    preset = tmp_path / "preset"
    export_codec(train_codec(tiny_pack, tmp_path / "first", settings(steps=1)), preset)
    assert load_preset(preset).configuration == "hires"
    export_codec(train_codec(tiny_pack, tmp_path / "second", settings(steps=1, model=SMALL_PAPER)), preset)
    assert load_preset(preset).configuration == "paper"


@pytest.mark.slow
def test_a_run_may_begin_with_a_presets_weights(tiny_pack, settings, tmp_path):
    paths = export_codec(train_codec(tiny_pack, tmp_path / "run", settings(steps=4)), tmp_path / "preset")
    preset = load_preset(tmp_path / "preset")
    begun = module._Run(tiny_pack, tmp_path, settings(seed=5), torch.device("cpu"), preset)
    codec = Codec.load(*paths)
    for net in (begun.net, begun.average):
        assert same(dict(net.encoder.state_dict()), dict(codec._encoder.state_dict()))
        assert same(dict(net.generator.state_dict()), dict(codec._generator.state_dict()))
    how = {"begin": preset, "max_minutes": 1}
    train_codec(tiny_pack, tmp_path / "more", settings(steps=1, learning_rate=0.0, weight_decay=0.0), **how)
    average = torch.load(tmp_path / "more" / "codec.pt")["average"]
    assert torch.equal(
        average["encoder.trunk.project.weight"], codec._encoder.state_dict()["trunk.project.weight"]
    )
    with pytest.raises(CheckpointError, match="codec of preset preset is of another configuration"):
        train_codec(tiny_pack, tmp_path / "other", settings(model=SMALL_PAPER), begin=preset)


@pytest.mark.slow
def test_phase_b_alone_leaves_a_presets_encoder_and_so_its_transformer(tiny_pack, settings, tmp_path):
    alone = settings(steps=2, adversarial=1.0)
    with pytest.raises(SettingsError, match="needs a trained encoder"):
        train_codec(tiny_pack, tmp_path / "none", alone)
    first = export_codec(train_codec(tiny_pack, tmp_path / "run", settings(steps=4)), tmp_path / "preset")
    checkpoint = train_codec(tiny_pack, tmp_path / "more", alone, begin=load_preset(tmp_path / "preset"))
    second = export_codec(checkpoint, tmp_path / "preset-b")
    codecs = [Codec.load(*paths) for paths in (first, second)]
    assert codecs[0].fingerprint == codecs[1].fingerprint
    weights = [dict(codec._generator.state_dict()) for codec in codecs]
    assert not same(*weights)
