from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from training.score.measures import si_sdr_db
from training.score.texture import pulses_db
from transform.audio import Recording
from transform.codec import Codec
from transform.crossover import CrossoverConfig, CrossoverNet, EncodedSound, load_crossover
from transform.engine import Redrummer
from transform.errors import CheckpointError
from transform.events import DrumEvent, Rhythm
from transform.latent import LatentModel
from transform.presets import load_preset
from transform.settings import RenderSettings
from transform.weights import config_to_json

RATE = 44_100
NETWORK_ALONE = RenderSettings(engine="latent", attack="none", align="seconds", balance=0.0)


@pytest.fixture(scope="module")
def codec():
    preset = load_preset()
    return Codec.load(preset.weights("codec-encoder"), preset.weights("codec-generator"))


@pytest.fixture(scope="module")
def crossover(codec):
    return load_crossover(load_preset().weights("crossover"), codec)


def falling_kick():
    """Return a sine that falls from 200 to 50 Hz, (T,)."""
    t = np.arange(round(0.35 * RATE)) / RATE
    hz = 50 + 150 * np.exp(-t / 0.03)
    envelope = np.minimum(1, t / 0.002) * np.exp(-t / 0.1)
    return np.asarray(0.5 * envelope * np.sin(2 * np.pi * np.cumsum(hz) / RATE), dtype=np.float32)


def hat(seed):
    rng = np.random.default_rng(seed)
    noise = np.diff(rng.standard_normal(round(0.08 * RATE) + 2), n=2)
    return (0.05 * noise * np.exp(-np.arange(len(noise)) / (0.02 * RATE))).astype(np.float32)


def loop(hits, length_s):
    """Return a loop (T,) of hits [(onset in seconds, sound)]."""
    audio = np.zeros(round(length_s * RATE), dtype=np.float32)
    for onset_s, sound in hits:
        at = round(onset_s * RATE)
        audio[at : at + len(sound)] += sound[: len(audio) - at]
    return audio


def below(audio, hz):
    spectrum = np.fft.rfft(audio)
    spectrum[..., np.fft.rfftfreq(audio.shape[-1], 1 / RATE) > hz] = 0
    return np.fft.irfft(spectrum, audio.shape[-1])


def decoded(codec, latents):
    return codec.decode(latents, latents.shape[-1] * codec.config.hop)[0].numpy()


@torch.inference_mode()
def test_lows_are_the_ones_and_highs_the_others(codec, crossover):
    kicks = loop([(0.1, falling_kick()), (1.1, falling_kick())], 2.0)
    hats = loop([(0.1 + 0.25 * k, hat(k)) for k in range(7)], 2.0)

    def encoded(audio):
        return codec.encode(torch.from_numpy(audio)[None]).mu

    # As a transformer makes them: means of strokes at several places, which have lost their lows.
    places_s = [0.1 + k / 258 for k in range(3)]
    highs = torch.stack(
        [encoded(hats + loop([(s, falling_kick()), (1 + s, falling_kick())], 2.0)) for s in places_s]
    )
    highs, lows, both = highs.mean(dim=0), encoded(kicks), encoded(kicks + hats)
    made, truth = decoded(codec, crossover(lows, highs)), decoded(codec, both)
    assert si_sdr_db(below(made, 300), below(truth, 300)) > 8
    assert si_sdr_db(below(decoded(codec, highs), 300), below(truth, 300)) < 3
    level_db = [20 * np.log10(np.std(x - below(x, 4000))) for x in (made, truth)]
    assert abs(level_db[0] - level_db[1]) < 1.5


def test_a_network_alone_plays_kicks_that_fall_and_does_not_hum():
    source = loop([(0.1 + 0.5 * k, falling_kick()) for k in range(8)], 4.3)
    source += loop([(0.1 + 0.25 * k, hat(k)) for k in range(16)], 4.3)
    onsets_s = [0.053, 0.311, 0.93, 1.487, 2.02, 2.55]
    events = tuple(DrumEvent(onset_s, "KD", 0.8) for onset_s in onsets_s)
    take = Redrummer.load().redrum(
        Recording.from_samples(source, RATE, "loop"), Rhythm(events, 3.0), NETWORK_ALONE
    )
    made = take.read(0, 3 * RATE)[0]
    kick = falling_kick()[:6615]
    ratios = []
    for onset_s in onsets_s:
        at = round(onset_s * RATE)
        own = (below(made[at + lag : at + lag + len(kick)], 300) for lag in range(-88, 89, 4) if at + lag >= 0)
        ratios.append(max(si_sdr_db(x, below(kick, 300)) for x in own))
    assert min(ratios) > 5, ratios
    assert pulses_db(made) < pulses_db(source) + 4


def test_drums_have_their_gains_below_the_crossover_and_above():
    source = loop([(0.1 + 0.5 * k, falling_kick()) for k in range(8)], 4.3)
    source += loop([(0.35 + 0.5 * k, hat(k)) for k in range(8)], 4.3)
    events = tuple(DrumEvent(0.1 + 0.25 * k, ("KD", "HH")[k % 2], 0.8) for k in range(8))
    levels_db = []
    redrummer, recording = Redrummer.load(), Recording.from_samples(source, RATE, "loop")
    for gain_db in ({}, {"HH": -6.0}, {"KD": -6.0}, {"KD": 9.0}):
        settings = replace(NETWORK_ALONE, gain_db=gain_db)
        made = redrummer.redrum(recording, Rhythm(events, 2.2), settings).read(0, 2 * RATE)[0]
        lows, highs = below(made, 300), made - below(made, 6000)
        levels_db.append([20 * np.log10(np.std(part)) for part in (lows, highs)])
    changes_db = np.subtract(levels_db[1:], levels_db[0])
    np.testing.assert_allclose(changes_db, [[0, -6], [-6, 0], [9, 0]], atol=1)


def test_without_a_crossover_the_transformer_makes_the_lows_too():
    preset = load_preset()
    older = replace(preset, models={k: v for k, v in preset.models.items() if k != "crossover"})
    assert LatentModel.load(preset).copies_lows
    assert not LatentModel.load(older).copies_lows


def test_sounds_are_encoded_region_by_region_as_a_whole(codec):
    audio = np.stack([loop([(0.1, falling_kick()), (0.9, hat(0))], 2.0), loop([(0.5, hat(1))], 2.0)])
    sound = EncodedSound(codec, Recording.from_samples(audio, RATE, "stereo"))
    whole = sound.read(0, 172, 2)
    assert torch.allclose(sound.read(40, 90, 2), whole[..., 40:90], atol=1e-3)
    expected = codec.encode(torch.from_numpy(audio.mean(axis=0, keepdims=True))).mu
    assert torch.allclose(sound.read(20, 60, 1), expected[..., 20:60], atol=1e-3)


def test_a_crossover_of_another_codec_is_refused(codec, tmp_path):
    config = CrossoverConfig(width=4, codec="0" * 16)
    path = tmp_path / "crossover.safetensors"
    header = {"model": "crossover", "config": config_to_json(config)}
    save_file(CrossoverNet(config).state_dict(), path, metadata=header)
    with pytest.raises(CheckpointError, match="another codec"):
        load_crossover(path, codec)
