from dataclasses import replace

import numpy as np
import pytest
import torch

from transform.audio import Recording
from transform.codec import Codec, CodecNet
from transform.codec_config import CodecConfig
from transform.events import CLASSES, DrumEvent
from transform.latent_bank import GAINS, chosen_frames, latent_bank
from transform.listening import Listening
from transform.rhythm_transformer import RhythmConfig, activations_of_events, rhythm_frames

RATE, HOP = 44_100, 512
SMALL = CodecConfig(
    n_latents=6,
    widths=(4, 6, 8, 8, 10),
    n_blocks=(1, 1, 1, 1, 2),
    generator_widths=(12, 8),
    generator_blocks=(1, 2),
)
CONFIG = RhythmConfig(n_latents=6, n_activations=10)


@pytest.fixture
def codec():
    torch.manual_seed(0)
    net = CodecNet(SMALL)
    return Codec(net.encoder, net.generator)


def frame_of(onset_s):
    return int(onset_s * RATE / HOP)


def noise(length_s):
    sound = 0.1 * np.random.default_rng(0).standard_normal(round(length_s * RATE))
    return sound.astype(np.float32)


def detected_in(recording, events, separator=None):
    n, n_frames = len(events), round(recording.duration_s * RATE) // 441 + 1
    said = activations_of_events(events, n_frames, heights=[0.9] * n, widths=[1.5] * n)
    return Listening(recording, said, events, separator)


def test_a_short_source_is_taken_whole():
    assert np.array_equal(chosen_frames([DrumEvent(1.0, "KD", 0.5)], 512, HOP), np.arange(512))
    # A bank of `paper`, whose frames are four times as long, holds as many seconds.
    assert len(chosen_frames([DrumEvent(0.1 * i, "KD", 0.5) for i in range(900)], 2000, 2048)) <= 128


def test_a_long_source_gives_every_kind_of_stroke_with_all_of_its_phases():
    # Ten minutes of hats; a soft kick, a loud kick, and a snare that falls together with a hat, once each.
    events = [DrumEvent(0.1 * i, "HH", 0.5) for i in range(6000)]
    rare = [DrumEvent(100.05, "KD", 0.1), DrumEvent(300.05, "KD", 0.9), DrumEvent(500.0, "SD", 0.5)]
    events = sorted([*events, *rare], key=lambda event: event.onset_s)
    n_frames = frame_of(600)
    chosen = chosen_frames(events, n_frames, HOP)
    assert len(chosen) == 512
    assert np.all(np.diff(chosen) > 0)
    assert chosen[-1] < n_frames
    for event in rare:
        following = next(e.onset_s for e in events if e.onset_s > event.onset_s + 0.03)
        wanted = np.arange(frame_of(event.onset_s) - 2, frame_of(following))
        assert np.isin(wanted, chosen).all()
    assert np.array_equal(chosen, chosen_frames(events, n_frames, HOP))


def test_of_a_stroke_what_nobody_knows_any_more_is_left_out():
    events = [DrumEvent(10.0 * i, "KD", 0.5) for i in range(60)]
    chosen = chosen_frames(events, frame_of(600), HOP)
    ago = (chosen[:, None] - [frame_of(e.onset_s) for e in events]) * HOP / RATE
    assert np.where(ago < -0.03, np.inf, ago).min(axis=1).max() < 1.01


@pytest.mark.parametrize("chunk_s", [8.0, 1.5])  # coded side by side: all stretches, or two
def test_frames_are_those_of_the_whole_recording(recorded, codec, monkeypatch, chunk_s):
    monkeypatch.setattr("transform.codec._BLOCK_S", chunk_s)
    recording, _ = recorded([(0.0, "KD", noise(8.0))], 8.0, n_channels=2)
    events = [DrumEvent(t, c, 0.5) for t, c in ((0.5, "KD"), (2.5, "HH"), (5.0, "SD"), (7.9, "KD"))]
    detected = detected_in(recording, events)
    monkeypatch.setattr("transform.latent_bank._MOST_FRAMES", 200)
    bank = latent_bank(codec, CONFIG, detected)
    chosen = chosen_frames(events, -(-8 * RATE // HOP), HOP)
    assert 150 < len(chosen) <= 200
    audio = torch.from_numpy(recording.read(0, recording.n_samples))
    whole = torch.cat([codec.encode(gain * audio).mu[..., chosen] for gain in GAINS], dim=-1)
    assert torch.allclose(bank.source.mu, whole.mean(dim=0, keepdim=True), atol=1e-4)
    assert torch.allclose(bank.channels, whole, atol=1e-4)
    said = [torch.from_numpy(part)[None] for part in detected.activations[:3]]
    r = rhythm_frames(CONFIG, *said, -(-8 * RATE // HOP))[..., chosen]
    assert torch.allclose(bank.source.rhythm[..., : len(chosen)], r, atol=1e-4)
    assert bank.source.mask.all()


def test_what_is_turned_down_has_scaled_velocities(recorded, codec):
    recording, _ = recorded([(0.0, "KD", noise(1.0))], 1.0)
    bank = latent_bank(codec, CONFIG, detected_in(recording, [DrumEvent(0.5, "KD", 0.8)]))
    loud, half, quarter = bank.source.rhythm.chunk(3, dim=-1)
    n, kick = len(CLASSES), CLASSES.index("KD")
    assert torch.equal(half[:, :n], loud[:, :n])  # an onset is as sure
    at = int(loud[0, kick].argmax())
    velocities = [(part[0, n + kick] / part[0, kick])[at] for part in (loud, half, quarter)]
    # Amplitude goes as velocity to the power of 1.6: 0.8, 0.8 * 0.5 ** 0.625, 0.8 * 0.25 ** 0.625.
    assert torch.allclose(torch.stack(velocities), torch.tensor([0.8, 0.5187, 0.3364]), atol=1e-3)


def test_channels_that_are_the_same_are_one(codec, monkeypatch):
    sound = np.stack((noise(8.0), noise(8.0)))
    events = [DrumEvent(t, "KD", 0.5) for t in (0.5, 5.0, 7.9)]
    detected = detected_in(Recording.from_samples(sound, RATE, "source"), events)
    monkeypatch.setattr("transform.codec._BLOCK_S", 1.5)
    monkeypatch.setattr("transform.latent_bank._MOST_FRAMES", 200)
    same = latent_bank(codec, CONFIG, detected)
    assert same.channels is None
    chosen = chosen_frames(events, -(-8 * RATE // HOP), HOP)
    alone = codec.encode(torch.from_numpy(sound[:1])).mu[..., chosen]
    assert torch.allclose(same.source.mu[..., : len(chosen)], alone, atol=1e-4)
    # What differs in one place only is several channels everywhere, and their latents' mean.
    sound[1, 6 * RATE :] *= 0.5
    bank = latent_bank(
        codec, CONFIG, replace(detected, recording=Recording.from_samples(sound, RATE, "source"))
    )
    every = codec.encode(torch.from_numpy(sound)).mu[..., chosen]
    assert torch.allclose(bank.channels[..., : len(chosen)], every, atol=1e-4)
    assert torch.allclose(bank.source.mu[0, :, : len(chosen)], every.mean(dim=0), atol=1e-4)


def test_a_codec_with_noise_is_given_how_coherent_the_channels_are(codec):
    torch.manual_seed(0)
    net = CodecNet(replace(SMALL, noise_from_hz=2000.0))
    noisy = Codec(net.encoder, net.generator)
    one, other = noise(2.0), np.random.default_rng(1).standard_normal(2 * RATE).astype(np.float32) * 0.1
    for sound, coherence in (((one, other), 0.0), ((one, 0.5 * one), 1.0), ((one, one), 1.0)):
        recording = Recording.from_samples(np.stack(sound), RATE, "source")
        detected = detected_in(recording, [DrumEvent(0.5, "KD", 0.5)])
        assert latent_bank(noisy, CONFIG, detected).coherence == pytest.approx((coherence,) * 4, abs=0.1)
        assert latent_bank(codec, CONFIG, detected).coherence == (1.0,)


@pytest.mark.parametrize("sample_rate", [22_050, 48_000])
def test_sources_of_other_rates_are_heard_at_the_models(recorded, codec, sample_rate):
    time_s = np.arange(3 * sample_rate) / sample_rate
    tone = np.sin(2 * np.pi * 440 * time_s).astype(np.float32)
    recording, _ = recorded([(0.0, "KD", 0.3 * tone)], 3.0, sample_rate)
    bank = latent_bank(codec, CONFIG, detected_in(recording, [DrumEvent(0.5, "KD", 0.5)]))
    same = 0.3 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE).astype(np.float32)
    expected = codec.encode(torch.from_numpy(same)[None]).mu
    assert bank.channels is None
    as_recorded = bank.source.mu.chunk(3, dim=-1)[0]
    assert as_recorded.shape == expected.shape
    assert torch.allclose(as_recorded[..., 20:-20], expected[..., 20:-20], atol=1e-2)


def test_of_a_sound_of_some_classes_only_these_are_there(recorded, codec):
    strokes = [(0.5, "KD", noise(0.5)), (0.6, "HH", 0.5 * noise(0.5))]
    recording, stems = recorded(strokes, 2.0)
    alone = stems.stems[CLASSES.index("KD")]
    detected = detected_in(recording, [DrumEvent(t, c, 0.5) for t, c, _ in strokes])
    kicks = Recording.from_samples(alone, RATE, "kicks")
    bank = latent_bank(codec, CONFIG, detected, sound=kicks, classes={"KD"})
    encoded = codec.encode(torch.from_numpy(alone)).mu
    assert torch.allclose(bank.source.mu.chunk(3, dim=-1)[0], encoded, atol=1e-5)
    hats = CLASSES.index("HH")
    assert not bank.source.rhythm[:, hats].any()
    assert bank.source.rhythm[:, CLASSES.index("KD")].any()
    mixed = latent_bank(codec, CONFIG, detected)
    assert mixed.source.rhythm[:, hats].any()  # they sound in the recording, so that must be known
