from dataclasses import replace

import numpy as np
import pytest
import torch

from training.data.kits import kits_of
from training.data.rhythm_pairs import (
    PairMaker,
    PairSettings,
    Region,
    chained,
    folded,
    render_scene,
    target_attention,
    truth_of,
)
from training.data.rhythms import Stroke
from training.data.scenes import joined
from training.data.synthesis import BusRecipe, Synthesiser, SynthesisSettings, render_batch
from training.data.transcription import with_errors
from transform.codec import Encoded, EncoderNet
from transform.codec_config import CodecConfig
from transform.errors import SettingsError
from transform.events import CLASSES
from transform.rhythm_transformer import config_for
from transform.transcriber import TranscriberConfig, TranscriberNet

CODEC = CodecConfig(
    n_latents=6,
    widths=(4, 6, 8, 8, 10),
    n_blocks=(1, 1, 1, 1, 1),
    generator_widths=(12, 8),
    generator_blocks=(1, 1),
)
LENGTH = 32_768  # 64 frames


@pytest.fixture(scope="module")
def source(tiny_pack):
    """Return a synthesiser of dry recordings of one kit as it is."""
    settings = SynthesisSettings(
        n_samples=LENGTH, procedural=0.0, layered=0.0, reshaped=0.0, effects=0.0, mixed_kit=0.0
    )
    kits = kits_of(tiny_pack.kits, "train")[:1]
    return Synthesiser(kits, tiny_pack.grooves_of("train"), settings, pool=None)


@pytest.fixture(scope="module")
def maker():
    torch.manual_seed(0)
    listener = TranscriberNet(TranscriberConfig(widths=(4, 4, 8, 8), d_model=16, dilations=(1, 2)))
    encoder = EncoderNet(CODEC)
    settings = PairSettings(targets=2)
    return PairMaker(listener, encoder, config_for(CODEC, ""), settings, torch.device("cpu"))


def recipe_of(source, strokes):
    """Return the recipe of strokes (onset_s, class), played by a kit of `source`."""
    drawn = source.draw(30, np.random.default_rng(0), per_kit=30)
    voices = {name: voice for recipe in drawn for (name, _), voice in recipe.voices.items()}
    return replace(
        drawn[0],
        voices={(name, ""): voice for name, voice in voices.items()},
        strokes=tuple(Stroke(onset_s, name, "", 0.8) for onset_s, name in strokes),
        bus=BusRecipe(),
    )


def test_a_scene_is_the_source_and_its_own_sounds_at_the_targets_events(source):
    a, b = (recipe_of(source, s) for s in ([(0.1, "KD"), (0.4, "SD")], [(0.3, "KD"), (0.5, "SD"), (0.6, "KD")]))
    original, wanted = render_scene(a, [b])
    assert original.audio.shape == wanted.audio.shape == (LENGTH,)
    n = 2000
    kick = original.audio[4410 : 4410 + n]
    for onset in (13_230, 26_460):
        assert torch.allclose(wanted.audio[onset : onset + n], kick, atol=0.02)
    # One gain for both, which the louder of them decides: what sounds alike has the same level.
    assert original.audio.abs().max() == pytest.approx(0.9, abs=0.01)
    assert torch.allclose(original.audio, render_batch([a])[0], atol=0.02)


def test_early_strokes_of_a_pseudo_target_ring_into_it_and_not_out_of_the_source(source):
    a = recipe_of(source, [(0.1, "KD")])
    b = recipe_of(source, [(-0.05, "KD")])
    original, wanted = render_scene(a, [b])
    kick = original.audio[4410 + 2205 : 4410 + 4205]
    assert torch.allclose(wanted.audio[:2000], kick, atol=0.02)
    assert wanted.audio[8000:].abs().max() < 1e-3


def test_chained_recipes_play_one_after_the_other(source):
    a, b = (recipe_of(source, s) for s in ([(0.1, "KD")], [(-0.2, "SD"), (0.3, "HH")]))
    whole = chained([a, b])
    assert whole.n_samples == 2 * LENGTH
    shifted = 0.3 + LENGTH / 44_100
    assert [(round(s.onset_s, 6), s.drum_class) for s in whole.strokes] == [
        (0.1, "KD"),
        (round(shifted, 6), "HH"),
    ]


def test_the_truth_of_a_recording(source):
    part = render_scene(recipe_of(source, [(0.1, "KD"), (0.4, "SD")]), [])[0]
    truth = truth_of(part, 512)
    kick, snare = CLASSES.index("KD"), CLASSES.index("SD")
    assert truth.proportion.shape == (5, 64)
    assert not truth.proportion[:, :8].any()  # the kick is at 8.61
    assert truth.proportion[kick, 9:12].tolist() == [1, 1, 1]
    assert truth.proportion[snare, 36] > 0.5
    assert not truth.is_silent[9:12].any()
    silenced = truth_of(part._replace(audio=part.audio * (torch.arange(LENGTH) >= 4096)), 512)
    assert silenced.is_silent[:8].all()
    assert not silenced.is_silent[9:12].any()
    nothing = truth_of(Region(torch.zeros(LENGTH), torch.zeros(5, LENGTH), ()), 512)
    assert nothing.is_silent.all()
    assert not nothing.proportion.any()


def test_wanted_attention_is_the_decisions_formula():
    source = torch.tensor([[[3.0, 0.0, 2.0], [0.0, 3.0, 0.0]]])  # (1, 2, 3): frames (3, 0), (0, 3), (2, 0)
    latents = torch.tensor([[[3.0, 0.0], [0.0, 0.1]]])  # the first frame itself, and almost silence
    found = target_attention(latents, source, torch.zeros(2), None)
    assert found.shape == (1, 2, 4)
    likeness = torch.exp(-0.5 * torch.tensor([0.0, 18.0, 1.0, 9.0]))  # by the squares of distances
    assert torch.allclose(found[0, 0], likeness / likeness.sum(), atol=1e-6)
    assert found[0, 1].argmax() == 3
    there = torch.tensor([[False, True, True]])
    assert target_attention(latents, source, torch.zeros(2), there)[0, 0].tolist() == pytest.approx(
        [0.0, *(likeness[1:] / likeness[1:].sum()).tolist()], abs=1e-6
    )


def test_attention_on_silent_frames_is_attention_on_silence():
    attention = torch.tensor([[[0.2, 0.5, 0.1, 0.2]]])
    silent = torch.tensor([[False, True, False, True]])
    assert folded(attention, silent)[0, 0].tolist() == pytest.approx([0.2, 0.0, 0.1, 0.7])


def test_true_attention_finds_the_sound_itself(maker, source):
    # What is wanted of a rhythm that is the source's own, later by 20 frames: each frame 20 frames before it.
    first = [(0.1, "KD"), (0.25, "SD")]
    late = [(onset_s + 20 * 512 / 44_100, name) for onset_s, name in first]
    pairs = maker.make([recipe_of(source, first)], [recipe_of(source, late)], np.random.default_rng(0))
    sounding = pairs.audio[0].reshape(64, 512).abs().amax(dim=1) > 0.05
    frames = sounding.nonzero()[1:, 0]  # the first begins before the sound, of which the source has less
    assert len(frames) > 10
    assert (maker.target_attention(pairs)[0, frames, :-1].argmax(dim=-1) == frames - 20).all()


def test_a_batch_of_segments(maker, source):
    segments, rng = maker.with_settings(replace(maker.settings, banks=0.0)), np.random.default_rng(0)
    pairs = joined([segments.draw(source, rng) for _ in range(2)], rng, 0.5)
    assert pairs.source.mu.shape == pairs.latents.shape == (4, 6, 64)
    assert pairs.source.rhythm.shape == pairs.target.rhythm.shape == (4, 90, 64)
    assert pairs.source.mask is None
    assert pairs.target.activations.shape == (4, 10, 64)
    wanted = maker.target_attention(pairs)
    assert wanted.shape == (4, 64, 65)
    assert pairs.is_silent.shape == (4, 65)
    assert pairs.audio.shape == (4, LENGTH)
    assert pairs.recoverable.shape == (4, 64)
    sums = wanted.sum(dim=-1)
    assert torch.logical_or(sums == 0, (sums - 1).abs() < 1e-4).all()
    assert not any(part.requires_grad for part in (pairs.source.mu, pairs.latents, pairs.target.rhythm))


def test_a_scene_of_a_bank(maker, source):
    scene = maker.draw(source, np.random.default_rng(0))
    assert scene.source.mu.shape == (2, 6, 3 * 128)  # two segments at three gains
    assert scene.source.rhythm.shape == (2, 90, 3 * 128)
    assert scene.source.mask.all()
    assert torch.equal(scene.source.mu[0], scene.source.mu[1])  # targets share the source
    assert scene.latents.shape == (2, 6, 64)
    assert maker.target_attention(scene).shape == (2, 64, 3 * 128 + 1)
    assert scene.recoverable is None
    struck = scene.source.rhythm[0, 15:20].amax(dim=-1)
    louder, softer = (scene.source.rhythm[0, 15:20, k * 128 : (k + 1) * 128] for k in (0, 2))
    assert struck.max() > 0
    assert torch.allclose(softer, louder * 0.25 ** (1 / 1.6), atol=1e-5)


def test_a_batch_has_other_frames_of_its_banks_each_time(maker, source):
    rng = np.random.default_rng(0)
    scenes = [maker.draw(source, rng) for _ in range(2)]
    pairs = joined(scenes, rng, 0.3)
    n_given = pairs.source.mu.shape[-1]
    assert 0.3 * 384 <= n_given <= 384
    assert pairs.is_silent.shape == (4, n_given + 1)
    assert pairs.source.mask.shape == (4, n_given)
    assert torch.equal(pairs.latents, torch.cat([scene.latents for scene in scenes]))
    assert torch.equal(pairs.source.mu[0], pairs.source.mu[1])
    for item, scene in ((0, scenes[0]), (2, scenes[1])):
        for k in (0, n_given - 1):  # a frame is the scene's, with its own rhythm
            apart = (scene.source.mu[0] - pairs.source.mu[item, :, k, None]).abs().amax(dim=0)
            at = int(apart.argmin())
            assert apart[at] == 0
            rhythm = scene.source.rhythm[0][:, apart == 0]
            assert (rhythm == pairs.source.rhythm[item, :, k, None]).all(dim=0).any()
    again = joined(scenes, rng, 0.3)
    assert again.source.mu.shape != pairs.source.mu.shape or not torch.equal(again.source.mu, pairs.source.mu)
    assert pairs.recoverable is None


@pytest.mark.slow
def test_what_is_known_of_targets_is_mixed(maker, source):
    recipes = source.draw(40, np.random.default_rng(1))
    known = maker.make(recipes, recipes, np.random.default_rng(2)).target.has_activations
    assert 10 < known.sum() < 30  # half of them
    midi = maker.with_settings(replace(maker.settings, heard=0.0, midi=1.0))
    pairs = midi.make(recipes[:4], recipes[4:8], np.random.default_rng(2))
    assert not pairs.target.has_activations.any()
    assert not pairs.target.activations.any()
    heights = pairs.target.rhythm[:, :5].amax(dim=-1)
    assert 0.3 < heights[heights > 0].mean() < 0.95  # as uncertain as a transcriber


class Bands(torch.nn.Module):
    """Stands in for an encoder whose activations are known: the levels of ten bands of 4.3 kHz at most."""

    def forward(self, audio):
        spectra = torch.fft.rfft(audio.reshape(len(audio), -1, 512)).abs()[..., 1:51]
        levels = spectra.unflatten(-1, (10, 5)).square().mean(dim=-1).mT.sqrt() + 1e-4
        return Encoded(levels[:, :6], levels[:, :6], levels)


def test_a_is_of_the_targets_recording_in_another_tone_each_time(maker, source):
    known = replace(maker.settings, heard=1.0, midi=0.0, without_a=0.0)
    device = torch.device("cpu")
    listener = TranscriberNet(TranscriberConfig(widths=(4, 4, 8, 8), d_model=16, dilations=(1, 2)))
    makers = [
        PairMaker(listener, Bands(), maker.config, replace(known, is_worsened=is_worsened), device)
        for is_worsened in (False, True)
    ]
    original = recipe_of(source, [(0.1, "KD"), (0.4, "SD")])
    target = recipe_of(source, [(0.15, "SD"), (0.35, "KD"), (0.5, "SD")])
    exact, other = (m.make([original] * 12, [target] * 12, np.random.default_rng(0)) for m in makers)
    true = Bands()(render_batch([target])).activations[0]
    assert torch.allclose(exact.target.activations, true.expand(12, -1, -1), atol=1e-5)
    assert torch.equal(other.latents, exact.latents)  # of the pseudo-target, which keeps its tone

    a = other.target.activations
    loud = true.mean(dim=0) > 0.1 * true.mean(dim=0).max()
    change_db = 20 * torch.log10(a[..., loud].mean(dim=-1) / true[:, loud].mean(dim=-1))
    tones = change_db - change_db.mean(dim=1, keepdim=True)  # (B, bands)
    assert (tones.abs().amax(dim=1) > 0.3).sum() >= 7  # some are hardly changed
    assert (tones.diff(dim=0).abs().amax(dim=1) > 0.3).sum() >= 7
    levels, rises = a.sum(dim=1), true.sum(dim=0).diff().topk(3).indices
    assert (levels[:, rises + 1] > 2 * levels[:, rises - 1]).all()  # the rhythm stays


def test_recordings_are_heard_worse_than_they_are_known(maker, source):
    """A transcriber never says exactly nothing: what is lost was dropped on purpose."""
    recipes = source.draw(8, np.random.default_rng(1))
    lost = []
    for is_worsened in (False, True):
        heard = maker.with_settings(replace(maker.settings, heard=1.0, midi=0.0, is_worsened=is_worsened))
        pairs = heard.make(recipes, recipes, np.random.default_rng(2))
        for r in (pairs.source.rhythm, pairs.target.rhythm):
            lost.append(float((r[:, : len(CLASSES)] == 0).float().mean()))
    assert lost[:2] == [0, 0]
    assert min(lost[2:]) > 0.01
    assert max(lost[2:]) < 0.3


def test_classes_that_the_source_lacks_are_written_as_those_that_stand_in(maker, source):
    # The source has a kick alone, so the snare of the target is played by it, and nobody hears a snare.
    exact = maker.with_settings(replace(maker.settings, heard=1.0, midi=0.0, without_a=0.0, is_worsened=False))
    sources = [recipe_of(source, [(0.1, "KD")]), recipe_of(source, [(0.1, "KD"), (0.4, "SD")])]
    target = recipe_of(source, [(0.2, "KD"), (0.5, "SD")])
    pairs = exact.make(sources, [target, target], np.random.default_rng(0))
    kick, snare = CLASSES.index("KD"), CLASSES.index("SD")
    onsets = (pairs.target.rhythm[0, kick] > 0.3).nonzero()[:, 0]
    assert {17, 43} <= set(onsets.tolist())  # frames of 0.2 and 0.5 s
    assert not pairs.target.rhythm[0, snare].any()
    assert pairs.target.has_activations.tolist() == [False, True]


def test_the_same_seed_makes_the_same_batch(maker, source):
    one, same, other = (maker.draw(source, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert torch.equal(one.source.mu, same.source.mu)
    assert torch.equal(one.target.rhythm, same.target.rhythm)
    assert torch.equal(one.audio, same.audio)
    assert not torch.equal(one.audio, other.audio)


def test_what_can_come_back_is_what_the_target_plays(maker, source):
    both = recipe_of(source, [(0.1, "KD"), (0.4, "HH")])
    pairs = maker.make([both], [recipe_of(source, [(0.3, "KD")])], np.random.default_rng(0))
    recoverable = pairs.recoverable[0]
    assert recoverable[9:12].tolist() == [1, 1, 1]
    assert recoverable[36:38].tolist() == [0, 0]  # the hat, which the target does not play


def test_recordings_are_misheard():
    rng = np.random.default_rng(0)
    heard = torch.rand(40, 5, 300)
    wrong = with_errors(heard, rng, confused=0.5)
    assert wrong.shape == heard.shape
    assert 0.7 < (wrong == heard).float().mean() < 0.95
    assert ((wrong == 0).all(dim=-1).float().mean()) > 0.01  # classes that are not heard at all


@pytest.mark.parametrize("change", [{"targets": 0}, {"bank_segments": 0}, {"least_share": 0.0}, {"heard": 0.9}])
def test_impossible_pairs_are_refused(change):
    with pytest.raises(SettingsError):
        PairSettings(**change)
