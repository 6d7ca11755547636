import hashlib
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional

from training.score.measures import log_mel_distance_db
from transform import engine
from transform import latent as module
from transform.audio import AudioFormat, Recording
from transform.codec import Codec, CodecNet, Encoded
from transform.codec_config import CodecConfig
from transform.engine import Redrummer
from transform.errors import AudioError, CheckpointError, RhythmError
from transform.events import CLASSES, DrumEvent, Rhythm, TempoMap
from transform.hits import cutter_of
from transform.latent import MODELS, LatentArrangement, LatentModel, LatentOrder
from transform.library import demo_recordings
from transform.listening import Listening
from transform.presets import ModelFile, Preset
from transform.rhythm_transformer import RhythmConfig, RhythmNet, Target, activations_of_events, config_for
from transform.settings import RenderSettings
from transform.target_rhythm import RecordedRhythm, WrittenRhythm
from transform.weights import config_to_json

RATE = 44_100
HOP = 256
STROKES = [(0.3, "KD"), (0.8, "HH"), (1.3, "KD"), (1.8, "HH"), (2.3, "KD"), (2.6, "HH")]
HZ = {"KD": 80, "SD": 1500, "HH": 9000}
WANTED = [(0.1, "HH"), (0.45, "KD"), (0.7, "KD"), (0.9, "HH"), (1.5, "HH"), (1.9, "KD")]
SMALL = CodecConfig(
    n_latents=6,
    widths=(4, 6, 8, 8, 10),
    n_blocks=(1, 1, 1, 1, 2),
    generator_widths=(12, 8),
    generator_blocks=(1, 2),
)


class FrameCodec:
    """Stands in for a codec: latents are the samples of frames."""

    encoder_context = generator_context = 0
    block_frames = 1000

    def __init__(self):
        self.config = SimpleNamespace(hop=HOP, n_latents=HOP, first_noise_hz=0.0)
        self.n_encoded = 0

    def encode(self, audio, frames=None):
        n_frames = -(-audio.shape[1] // HOP)
        self.n_encoded += n_frames
        mu = functional.pad(audio, (0, n_frames * HOP - audio.shape[1])).reshape(len(audio), n_frames, HOP).mT
        mu = mu if frames is None else mu[..., frames]
        return Encoded(mu, mu, mu.abs().amax(dim=1, keepdim=True).expand(-1, 8, -1))

    def decode(self, latents, n_samples, *, first_frame=0, noise=None):
        return latents.mT.flatten(1)[:, :n_samples]


class Hearing:
    """Stands in for the transcriber and hears what the test made."""

    def __init__(self, events_by_name):
        self.events_by_name = events_by_name

    def activations(self, recording, progress=None):
        self.heard = self.events_by_name.get(recording.name, [])
        n_frames = round(recording.duration_s * RATE) // 441 + 1
        n = len(self.heard)
        return activations_of_events(self.heard, n_frames, heights=[1.0] * n, widths=[1.5] * n)

    def events(self, activations):
        return list(self.heard)


class Separated:
    """Stands in for the separator where a test knows the stems."""

    def __init__(self, stems):
        self.stems = stems

    def open(self, recording, activations):
        return self.stems


def sharpened(net):
    """Return an untrained network, which mixes frames whose rhythm is alike, made to choose the likest."""
    with torch.no_grad():
        for i, block in enumerate(net.blocks):
            block.attention.delta.fill_(300.0)
            block.attention.gamma.fill_(10.0 if i else 0.0)
    return net


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = RhythmConfig(hop=HOP, n_latents=HOP, n_activations=8)
    return LatentModel(FrameCodec(), sharpened(RhythmNet(config)))


def burst(drum_class, sample_rate=RATE, tau_s=0.05):
    time_s = np.arange(round(0.6 * sample_rate)) / sample_rate
    return (0.3 * np.cos(2 * np.pi * HZ[drum_class] * time_s) * np.exp(-time_s / tau_s)).astype(np.float32)


@pytest.fixture
def played(recorded, model):
    """Return a function that makes a source of kicks and hats, its stems, and a redrummer for it."""

    def make(strokes=STROKES, sample_rate=RATE, n_channels=1, length_s=3.0):
        sounds = [(t, c, burst(c, sample_rate)) for t, c in strokes]
        source, stems = recorded(sounds, length_s, sample_rate, n_channels)
        heard = Hearing({"source": [DrumEvent(t, c, 0.8) for t, c in strokes]})
        return source, stems, Redrummer(heard, Separated(stems), load_latent=lambda: model)

    return make


def rhythm_of(*strokes, length_s=2.5, velocity=0.8, bpm=None):
    events = tuple(DrumEvent(t, c, velocity) for t, c in strokes)
    return Rhythm(events, length_s, TempoMap.constant(bpm) if bpm else None, "made")


def settings_of(**changes):
    return RenderSettings(engine="latent", **({"attack": "none"} | changes))


def whole(take):
    return take.read(0, take.n_samples)


def band(sound, drum_class, rate=RATE):
    """Return the part of a sound (T,) around the frequency of a class; spliced frames click in all bands."""
    spectrum, hz = np.fft.rfft(sound), np.fft.rfftfreq(len(sound), 1 / rate)
    return np.fft.irfft(spectrum * (np.abs(hz - HZ[drum_class]) < 100), len(sound))


def onset_errors_s(sound, onsets_s, rate=RATE):
    """Return how far from each onset a sound (T,) first reaches a tenth of its peak there."""
    errors = []
    for onset_s in onsets_s:
        near = np.abs(sound[round((onset_s - 0.03) * rate) : round((onset_s + 0.06) * rate)])
        assert near.max() > 0.1
        errors.append(np.argmax(near > 0.1 * near.max()) / rate - 0.03)
    return np.array(errors)


@pytest.mark.parametrize("sample_rate", [32_000, 44_100, 48_000])
def test_the_sources_drums_play_the_rhythm(played, sample_rate):
    source, _, redrummer = played(sample_rate=sample_rate)
    take = redrummer.redrum(source, rhythm_of(*WANTED), settings_of())
    assert take.n_samples == round(2.5 * sample_rate)
    (sound,) = whole(take)
    assert np.abs(onset_errors_s(sound, [t for t, _ in WANTED], sample_rate)).max() < 0.007  # a frame is 5.8 ms
    for drum_class in ("KD", "HH"):
        own = band(sound, drum_class, sample_rate)
        for onset_s, struck in WANTED:
            level = np.abs(own[round(onset_s * sample_rate) :][: sample_rate // 20]).max()
            assert (level > 0.12) == (struck == drum_class)
    assert np.abs(sound[round(1.3 * sample_rate) : round(1.45 * sample_rate)]).max() < 0.01


@pytest.mark.parametrize("n_channels", [2, 6])
@pytest.mark.parametrize("sample_rate", [44_100, 96_000])
def test_a_take_keeps_rate_channels_and_their_balance(played, n_channels, sample_rate):
    source, _, redrummer = played(sample_rate=sample_rate, n_channels=n_channels)
    take = redrummer.redrum(source, rhythm_of(*WANTED), settings_of(length=1.5))
    sound = whole(take)
    assert sound.shape == (n_channels, round(1.5 * sample_rate))
    assert take.format == source.format
    for c in range(1, n_channels):
        np.testing.assert_allclose(sound[c], 0.9**c * sound[0], atol=1e-5)


def test_channels_that_are_the_same_stay_the_same(played):
    mono, _, redrummer = played()
    both = Recording.from_samples(np.repeat(mono.read(0, mono.n_samples), 2, axis=0), RATE, "source")
    left, right = whole(redrummer.redrum(both, rhythm_of(*WANTED), settings_of()))
    np.testing.assert_array_equal(left, right)
    np.testing.assert_array_equal(left, whole(redrummer.redrum(mono, rhythm_of(*WANTED), settings_of()))[0])


def test_channels_of_their_own_stay_apart(recorded, model, played):
    # Kicks are on the left alone, hats on the right: attention is one, what it fetches is each channel's own.
    _, stems, redrummer = played(n_channels=2)
    left, right = (stems.stems[CLASSES.index(c), 0] for c in ("KD", "HH"))
    source = Recording.from_samples(np.stack((left, right)), RATE, "source")
    left, right = whole(redrummer.redrum(source, rhythm_of(*WANTED), settings_of()))
    assert np.abs(band(left, "HH")).max() < 0.02
    assert np.abs(band(right, "KD")).max() < 0.02
    assert np.abs(onset_errors_s(left, [t for t, c in WANTED if c == "KD"])).max() < 0.007
    assert np.abs(onset_errors_s(right, [t for t, c in WANTED if c == "HH"])).max() < 0.007


@pytest.mark.parametrize("change", [{}, {"tail": "wrap"}, {"gain_db": {"HH": -6.0}}, {"velocity": "source"}])
def test_strokes_begin_as_the_sources_own_hits_and_ring_as_the_mean_of_both(played, change):
    source, _, redrummer = played(n_channels=2)
    takes = {}
    for name, settings in {
        "overlaid": settings_of(attack="original", **change),
        "generated": settings_of(**change),
        "replayed": RenderSettings(**change),
    }.items():
        takes[name] = whole(redrummer.redrum(source, rhythm_of(*WANTED), settings))
    time_s = np.arange(takes["overlaid"].shape[1]) / RATE
    after_s = np.stack([time_s - onset_s for onset_s, _ in WANTED])
    begins = ((after_s > -0.002) & (after_s < 0.05)).any(axis=0)
    rings = ~((after_s > -0.0031) & (after_s < 0.151)).any(axis=0)
    np.testing.assert_allclose(takes["overlaid"][:, begins], takes["replayed"][:, begins], atol=1e-6)
    both = 0.5 * (takes["generated"] + takes["replayed"])
    np.testing.assert_allclose(takes["overlaid"][:, rings], both[:, rings], atol=1e-6)
    assert np.abs(takes["generated"][:, begins] - takes["replayed"][:, begins]).max() > 0.01
    assert np.abs(onset_errors_s(takes["overlaid"][0], [t for t, _ in WANTED])).max() < 0.0005  # no frames


def test_where_nothing_can_be_cut_out_all_is_generated(played, monkeypatch):
    source, _, redrummer = played()
    monkeypatch.setattr(engine, "cutter_of", lambda recording, events, stems: cutter_of(recording, [], stems))
    original, none = (
        whole(redrummer.redrum(source, rhythm_of(*WANTED), settings_of(attack=name)))
        for name in ("original", "none")
    )
    np.testing.assert_array_equal(original, none)
    with pytest.raises(AudioError, match="no drum hits are detected"):
        redrummer.redrum(source, rhythm_of(*WANTED), RenderSettings())
    with pytest.raises(AudioError, match="at one gain") as caught:
        redrummer.redrum(source, rhythm_of(*WANTED), settings_of(gain_db={"HH": -6.0}))
    assert "--gain" in caught.value.hint


def small_model(seed=0, noise_from_hz=0.0):
    """Return random networks as they are: each sample depends on all that it can depend on."""
    torch.manual_seed(seed)
    net = CodecNet(replace(SMALL, noise_from_hz=noise_from_hz))
    codec = Codec(net.encoder, net.generator)
    config = replace(config_for(SMALL, codec.fingerprint), width=16, n_heads=2)
    return LatentModel(codec, sharpened(RhythmNet(config)))


def net_of(model):
    return model._net.run(lambda net, device: net)


def order_of(source, events, struck=STROKES, **changes):
    heard = Hearing({source.name: [DrumEvent(t, c, 0.8) for t, c in struck]})
    order = LatentOrder(
        source=Listening(source, heard.activations(source), heard.heard),
        events=events,
        length_s=10.0,
        target=None,
        stand_ins={"KD": "KD", "HH": "HH"},
        scales={"KD": 1.0, "HH": 1.0},
    )
    return replace(order, **changes)


def read_whole(arrangement, n_samples, n_channels=1):
    out = arrangement.read(0, n_samples)
    return out


@pytest.mark.parametrize(
    ("sample_rate", "variation", "noise_from_hz"),
    [(44_100, 0.0, 0.0), (48_000, 1.0, 0.0), (44_100, 0.0, 2000.0)],
)
def test_blocks_of_any_length_give_the_same_samples(played, sample_rate, variation, noise_from_hz):
    source, _, _ = played(sample_rate=sample_rate, n_channels=2)
    model = small_model(noise_from_hz=noise_from_hz)
    events = rhythm_of(*WANTED).section(0, 9.0).events

    def arrangement():
        return LatentArrangement(model, order_of(source, events), variation=variation, seed=3)

    n = 10 * sample_rate
    one = read_whole(arrangement(), n, 2)
    other, parts = arrangement(), np.zeros_like(one)
    starts = [0, 1, 700, 50_000, 50_001, 123_456, 300_000, 400_001, n]
    for start, stop in reversed(list(pairwise(starts))):
        parts[:, start:stop] = other.read(start, stop)
    np.testing.assert_allclose(parts, one, atol=1e-4)
    assert np.abs(one).max() > 1e-3


def test_noise_is_as_coherent_as_the_source(played, monkeypatch):
    source, _, _ = played(n_channels=2)
    model, given = small_model(noise_from_hz=2000.0), []
    decode = model.codec.decode

    def noting(latents, n_samples, *, first_frame, noise):
        given.append(noise)
        return decode(latents, n_samples, first_frame=first_frame, noise=noise)

    monkeypatch.setattr(model.codec, "decode", noting)
    order = order_of(source, rhythm_of(*WANTED).events)

    def noise(**how):
        given.clear()
        LatentArrangement(model, order, **how).read(0, 1000)
        (one,) = given
        return one

    assert noise().coherence == module.latent_part(model, order).bank.coherence
    assert noise(seed=5) == noise()  # the seed is that of what varies
    assert noise(seed=5, variation=0.5).seed != noise().seed


def test_chunks_are_decoded_with_all_that_the_generator_sees(played, monkeypatch):
    source, _, _ = played()
    model = small_model()
    order = order_of(source, rhythm_of(*WANTED).section(0, 9.0).events)
    long = LatentArrangement(model, order)
    monkeypatch.setattr(module, "_BLOCK_S", 0.4)
    short = LatentArrangement(model, order)
    np.testing.assert_allclose(read_whole(short, 9 * RATE), read_whole(long, 9 * RATE), atol=1e-4)


@pytest.mark.parametrize("is_recorded", [False, True])
def test_windows_share_what_is_heard_of_a_rhythm(played, monkeypatch, is_recorded):
    source, _, _ = played()
    model = small_model()
    order = order_of(source, [DrumEvent(t, c, 0.8) for t, c in STROKES])
    if is_recorded:
        order = replace(order, target=order.source)
    part = module.latent_part(model, order)
    assert (part.rhythm.target(0, 9).activations is not None) == is_recorded
    monkeypatch.setattr(module, "_TARGET_BLOCK_S", 0.5)  # 43 frames
    latents = module._Latents(model, model.keys(part.bank), part.rhythm, 250)
    for first, last in ((0, 43), (10, 250), (86, 87), (42, 130)):
        given, expected = latents._target(first, last), part.rhythm.target(first, last)
        assert torch.allclose(given.rhythm, expected.rhythm, atol=1e-4)
        if is_recorded:
            assert torch.allclose(given.activations, expected.activations, atol=1e-4)


def test_a_recorded_rhythm_may_begin_later_and_have_some_of_its_classes(played):
    source, _, _ = played()
    model = small_model()
    heard = order_of(source, ()).source

    def rhythm(**how):
        return RecordedRhythm(model.codec, model.config, heard, stop_s=3.0, scales={}, **how)

    later, whole = rhythm(first_frame=70).target(0, 60), rhythm().target(70, 130)
    assert torch.equal(later.rhythm, whole.rhythm)
    assert torch.equal(later.activations, whole.activations)
    kicks = rhythm(classes={"KD"}).target(0, 200).rhythm
    assert not torch.equal(kicks, rhythm().target(0, 200).rhythm)
    only = order_of(source, (), struck=[stroke for stroke in STROKES if stroke[1] == "KD"]).source
    expected = RecordedRhythm(model.codec, model.config, only, stop_s=3.0, scales={}).target(0, 200)
    assert torch.allclose(kicks, expected.rhythm, atol=1e-5)


def test_a_take_of_one_window_is_what_the_networks_make_of_it(played):
    source, _, _ = played()
    model = small_model()
    order = order_of(source, rhythm_of(*WANTED[:3]).events)
    n_frames = -(-round(1.7 * RATE) // 512)  # a kick at .7 s may ring for a second
    part = module.latent_part(model, order)
    assert part.bank.source.mu.shape[-1] == 3 * -(
        -3 * RATE // 512
    )  # a short source is taken whole, at three gains
    mu, _ = model.transform(
        model.keys(part.bank), WrittenRhythm(model.config, order.events).target(0, n_frames)
    )
    expected = model.codec.decode(mu, n_frames * 512).numpy()
    made = read_whole(LatentArrangement(model, order), n_frames * 512)
    np.testing.assert_allclose(made[:, : RATE + 4410], expected[:, : RATE + 4410], atol=1e-5)


def test_windows_are_cross_faded_where_they_overlap(played, model):
    source, _, redrummer = played()
    steady = [(0.25 * i, ("KD", "HH")[i % 2]) for i in range(48)]
    (sound,) = whole(redrummer.redrum(source, rhythm_of(*steady, length_s=12.0), settings_of()))
    assert np.abs(onset_errors_s(sound[RATE // 8 :], [t - 0.125 for t, _ in steady[1:]])).max() < 0.01
    levels = [np.abs(sound[round(t * RATE) :][:2000]).max() for t, _ in steady]
    assert min(levels) > 0.15
    assert max(levels) < 0.35


def test_classes_are_redrummed_and_the_other_stems_play_on(played):
    source, stems, redrummer = played([*STROKES, (0.55, "SD"), (2.05, "SD")])
    settings = settings_of(classes=("KD",), length="source")
    take = redrummer.redrum(source, rhythm_of(*WANTED), settings)
    kept = stems.stems[1:].sum(axis=0)
    kicks = whole(take) - kept
    assert np.abs(onset_errors_s(kicks[0], [t for t, c in WANTED if c == "KD"])).max() < 0.007
    for drum_class in ("HH", "SD"):  # of the other stems nothing is copied
        assert np.abs(band(kicks[0], drum_class)).max() < 0.02
    assert "the source's own snare drum and hi-hat play on" in take.notes()


def test_kept_stems_play_alone_where_the_rhythm_has_nothing_for_the_classes(played):
    source, stems, redrummer = played()
    settings = settings_of(classes=("SD",), length="source", tail="ring")
    take = redrummer.redrum(source, rhythm_of(*WANTED), settings)
    np.testing.assert_allclose(whole(take), np.delete(stems.stems, 1, axis=0).sum(axis=0), atol=1e-6)


def test_a_gain_acts_on_its_class_alone(played):
    source, _, redrummer = played()
    loud, soft = (
        whole(redrummer.redrum(source, rhythm_of(*WANTED), settings_of(gain_db={"HH": gain})))[0]
        for gain in (-1e-9, -20.0)
    )
    np.testing.assert_allclose(band(soft, "HH"), 0.1 * band(loud, "HH"), atol=5e-3)
    np.testing.assert_allclose(band(soft, "KD"), band(loud, "KD"), atol=5e-3)
    (all_louder,) = whole(redrummer.redrum(source, rhythm_of(*WANTED), settings_of(gain_db={"KD": 3, "HH": 3})))
    (as_is,) = whole(redrummer.redrum(source, rhythm_of(*WANTED), settings_of()))
    np.testing.assert_allclose(all_louder, as_is * 10 ** (3 / 20), atol=1e-6)


@pytest.mark.parametrize("gain_db", [{"TT": -12.0}, {"KD": -60.0}])
def test_a_class_that_is_played_by_another_has_its_own_gain(played, gain_db):
    source, _, redrummer = played()
    rhythm = rhythm_of((0.2, "KD"), (1.2, "TT"), (2.2, "KD"), length_s=3.0)  # the kick plays the tom
    (even,), (uneven,) = (
        whole(redrummer.redrum(source, rhythm, settings_of(gain_db=gains))) for gains in ({}, gain_db)
    )
    for onset_s, drum_class in ((0.2, "KD"), (1.2, "TT"), (2.2, "KD")):
        was, now = (np.abs(sound[round(onset_s * RATE) :][:4000]).max() for sound in (even, uneven))
        expected_db = gain_db.get(drum_class, 0.0)
        if expected_db < -40:
            assert now < 0.01 * was
        else:
            assert 20 * np.log10(now / was) == pytest.approx(expected_db, abs=1.5)


def test_what_makes_a_peak_is_turned_down_and_the_rest_stays(played):
    source, _, redrummer = played()
    take = redrummer.redrum(
        source, rhythm_of((0.3, "HH"), (1.2, "KD"), (2.0, "HH")), settings_of(gain_db={"KD": 12.0})
    )
    loud = whole(take)
    assert np.abs(loud).max() > 1
    take.prepare("PCM_16")
    kept = whole(take)
    assert take.gain_db() == 0
    assert 0.7 < np.abs(kept).max() < 10 ** (-1 / 20) + 1e-3
    begin, end = round(1.19 * RATE), round(1.5 * RATE)
    np.testing.assert_array_equal(kept[:, :begin], loud[:, :begin])
    np.testing.assert_array_equal(kept[:, end:], loud[:, end:])
    assert any(note.startswith("1 stroke is turned down, by up to") for note in take.notes())


def test_tails_are_cut_rung_out_or_wrapped(played):
    source, _, redrummer = played()
    late = rhythm_of((0.5, "HH"), (1.98, "KD"), length_s=2.0)

    def take(tail):
        return redrummer.redrum(source, late, settings_of(tail=tail))

    cut, rung, wrapped = take("cut"), take("ring"), take("wrap")
    assert cut.n_samples == wrapped.n_samples == 2 * RATE
    assert 2.1 * RATE < rung.n_samples < 3.1 * RATE
    assert np.abs(whole(rung)[0, 2 * RATE :]).max() > 0.1
    assert np.abs(whole(rung)[0, -100:]).max() < 1e-3
    assert np.abs(whole(cut)[0, :5000]).max() < 1e-3
    assert np.abs(whole(cut)[0, -2:]).max() < 0.01
    np.testing.assert_allclose(whole(wrapped)[0, :4000], rung.read(2 * RATE, 2 * RATE + 4000)[0], atol=1e-3)


def test_what_the_source_lacks_is_played_by_the_nearest_class(played):
    source, _, redrummer = played()
    rhythm = rhythm_of((0.2, "TT"), (0.7, "CY"), (1.2, "KD"))
    take = redrummer.redrum(source, rhythm, settings_of())
    assert "the source has no tom: its kick drum plays that part" in take.notes()
    assert "the source has no cymbal: its hi-hat plays that part" in take.notes()
    same = redrummer.redrum(source, rhythm_of((0.2, "KD"), (0.7, "HH"), (1.2, "KD")), settings_of())
    np.testing.assert_allclose(whole(take), whole(same), atol=1e-5)


def test_the_dry_end_of_mix_is_the_source(played):
    source, _, redrummer = played()
    take = redrummer.redrum(source, rhythm_of(*WANTED), settings_of(mix=0.0, length="source"))
    np.testing.assert_array_equal(whole(take), source.read(0, source.n_samples))


def played_events(order):
    """Return the events as the transformer is told of them."""
    model = small_model()
    part = module.latent_part(model, order)
    return part.rhythm._events


def test_velocities_are_scaled_by_class_or_the_sources_own(played):
    source, _, _ = played()
    events = (DrumEvent(0.1, "KD", 0.2), DrumEvent(0.5, "KD", 0.4), DrumEvent(0.9, "HH", 0.4))
    scaled = played_events(order_of(source, events, scales={"KD": 2.0, "HH": 1.5}))
    assert [e.velocity for e in scaled] == pytest.approx([0.4, 0.8, 0.6])
    own = played_events(order_of(source, events, scales=None))
    assert [e.velocity for e in own] == pytest.approx([0.8] * 3)
    together = (DrumEvent(0.1, "KD", 0.4), DrumEvent(0.103, "TT", 0.8))
    lent = order_of(source, together, stand_ins={"KD": "KD", "TT": "KD"}, scales={"KD": 1.0, "TT": 0.5})
    (one,) = played_events(lent)
    assert (one.onset_s, one.drum_class, one.velocity) == (0.1, "KD", 0.4)


@pytest.fixture
def told(monkeypatch):
    """Return the targets that transformers were asked for."""
    targets = []
    transform = LatentModel.transform

    def listen(self, bank, target):
        targets.append(target)
        return transform(self, bank, target)

    monkeypatch.setattr(LatentModel, "transform", listen)
    return targets


def test_a_recording_that_plays_unchanged_tells_more_than_its_events(played, told, clicks):
    source, _, redrummer = played()
    onsets = [0.2, 0.7, 1.1]
    target = Recording.from_samples(clicks(onsets, sample_rate=48_000, length_s=1.5), 48_000, "target")
    redrummer.transcriber.events_by_name["target"] = [DrumEvent(t, "KD", 0.8) for t in onsets]
    (sound,) = whole(redrummer.redrum(source, target, settings_of()))
    assert np.abs(onset_errors_s(sound, onsets)).max() < 0.007
    (given,) = told
    assert given.activations is not None
    # What the encoder hears there is the target, at the rate of the model.
    at = round(0.2 * RATE)
    loudest = int(given.activations.abs().amax(dim=1)[0].argmax())
    assert abs(loudest - at // HOP) <= 1
    assert given.rhythm.shape[-1] == given.activations.shape[-1]


def test_both_strokes_of_a_recorded_flam_are_played(played, told, clicks):
    source, _, redrummer = played([(0.3, "SD"), (1.3, "SD")])
    onsets = [0.2, 0.7, 0.74]
    target = Recording.from_samples(clicks(onsets, length_s=1.5), RATE, "target")
    redrummer.transcriber.events_by_name["target"] = [DrumEvent(t, "SD", 0.8) for t in onsets]
    take = redrummer.redrum(source, target, settings_of())
    assert [round(event.flam_ms) for event in take.rhythm.events] == [0, 40]
    (sound,) = whole(take)
    assert np.abs(onset_errors_s(sound, onsets[:2])).max() < 0.007
    (given,) = told
    assert given.activations is not None  # what is detected is played unchanged


@pytest.mark.parametrize(
    "change",
    [
        {"length": 4.0},
        {"start_s": 0.5},
        {"timing": 0.0, "rhythm_bpm": 100.0},
        {"velocity": 0.75},
        {"velocity": "source"},
        {"source_bpm": 100.0, "rhythm_bpm": 90.0},
        {"classes": ("KD",)},
    ],
)
def test_a_recording_that_is_changed_is_played_by_its_events(played, told, clicks, change):
    source, _, redrummer = played()
    target = Recording.from_samples(clicks([0.2, 0.71, 1.1], length_s=1.5), RATE, "target")
    redrummer.transcriber.events_by_name["target"] = [
        DrumEvent(t, c, 0.8) for t, c in ((0.2, "KD"), (0.71, "HH"), (1.1, "KD"))
    ]
    take = redrummer.redrum(source, target, settings_of(**change))
    (sound,) = whole(take)
    assert all(target.activations is None for target in told)
    kicks = [e.onset_s for e in take.rhythm.events if e.drum_class == "KD" and e.onset_s > 0.03]
    assert np.abs(onset_errors_s(band(sound, "KD"), kicks)).max() < 0.02


def test_a_recording_is_heard_no_longer_than_the_take(played, clicks, model):
    source, _, redrummer = played()
    target = Recording.from_samples(clicks([0.2, 1.1], length_s=1.5), RATE, "target")
    redrummer.transcriber.events_by_name["target"] = [DrumEvent(t, "KD", 0.8) for t in (0.2, 1.1)]
    take = redrummer.redrum(source, target, settings_of(length=0.9, tail="ring"))
    assert take.n_samples < 1.3 * RATE
    assert np.abs(take.read(round(1.05 * RATE), round(1.3 * RATE))).max() < 0.01


def test_variation_is_drawn_by_the_seed(played, tmp_path):
    source, _, redrummer = played()

    def digest(**changes):
        take = redrummer.redrum(source, rhythm_of(*WANTED), settings_of(**changes))
        take.write(tmp_path / "out.wav", overwrite=True)
        return hashlib.sha256((tmp_path / "out.wav").read_bytes()).hexdigest()

    varied = digest(variation=1.0, seed=1)
    assert varied == digest(variation=1.0, seed=1)
    assert varied != digest(variation=1.0, seed=2)
    assert varied != digest(seed=1)
    assert digest(seed=1) == digest(seed=2)  # the mean is the mean


def test_variation_is_in_proportion_to_the_deviation(played):
    source, _, redrummer = played()
    mean, half, full = (
        whole(redrummer.redrum(source, rhythm_of(*WANTED), settings_of(variation=v))) for v in (0.0, 0.5, 1.0)
    )
    np.testing.assert_allclose(full - mean, 2 * (half - mean), atol=1e-5)
    assert np.abs(full - mean).max() > 1e-3


class Sure(LatentModel):
    """A model that is sure of the second half of each frame, and of the first by a fifth."""

    def transform(self, bank, target):
        mu, sigma = super().transform(bank, target)
        sigma = torch.zeros_like(sigma)
        sigma[:, : HOP // 2] = 0.2
        return mu, sigma


def test_variation_is_drawn_as_far_as_the_network_is_unsure(played, model):
    source, _, _ = played()
    sure = Sure(model.codec, net_of(model))
    order = order_of(source, rhythm_of(*WANTED).events)
    mean, varied = (
        read_whole(LatentArrangement(sure, order, variation=variation, seed=1), 4 * HOP * 64)
        for variation in (0.0, 0.5)
    )
    drawn = (varied - mean).reshape(-1, HOP)  # frames, whose samples are the latents
    assert np.abs(drawn[:, HOP // 2 :]).max() < 1e-6
    assert drawn[:, : HOP // 2].std() == pytest.approx(0.5 * 0.2, rel=0.02)
    assert abs(drawn.mean()) < 0.002
    assert np.abs(np.corrcoef(drawn[:-1, : HOP // 2].ravel(), drawn[1:, : HOP // 2].ravel())[0, 1]) < 0.05


def test_channels_vary_alike(played):
    source, _, redrummer = played(n_channels=2)
    left, right = whole(redrummer.redrum(source, rhythm_of(*WANTED), settings_of(variation=0.5)))
    assert np.corrcoef(left, right)[0, 1] > 0.99


class Endless(Recording):
    """An hour and more of the same second of sound, made when it is read."""

    def __init__(self, second, name="source"):
        n_samples = 3700 * len(second)
        super().__init__(name, AudioFormat(sample_rate=len(second), n_channels=1, subtype="FLOAT"), n_samples)
        self.second = second

    def _fetch(self, start, stop):
        return self.second[np.arange(start, stop) % len(self.second)][None]


@pytest.mark.slow
def test_hours_of_source_and_take_need_no_more_than_their_beginning(model, monkeypatch):
    second = np.zeros(RATE, dtype=np.float32)
    second[: RATE // 2] = burst("KD")[: RATE // 2]
    source = Endless(second)
    strokes = [(float(t), "KD") for t in range(3700)]
    order = order_of(source, [DrumEvent(t, c, 0.8) for t, c in strokes], strokes)
    before, transformed, transform = model.codec.n_encoded, [], model.transform
    monkeypatch.setattr(model, "transform", lambda *given: transformed.append(given) or transform(*given))
    arrangement = LatentArrangement(model, order)
    assert model.codec.n_encoded - before < 6000  # of 600,000
    out = arrangement.read(3650 * RATE + RATE // 2, 3650 * RATE + RATE // 2 + RATE)
    assert np.abs(onset_errors_s(out[0], [0.5])).max() < 0.007
    assert 0 < len(transformed) <= 9


def test_of_a_take_that_is_cut_what_would_ring_on_is_not_computed(played, monkeypatch):
    source, _, _ = played()
    model = small_model()
    events = [DrumEvent(t, "KD", 0.8) for t in (0.1, 0.9)] + [DrumEvent(1.9, "CY", 0.8)]
    order = replace(order_of(source, events), length_s=2.0, stand_ins={"KD": "KD", "CY": "HH"})
    decode, takes_s = model.codec.decode, []

    def counted(latents, n_samples, **where):
        takes_s.append(n_samples / RATE)
        return decode(latents, n_samples, **where)

    monkeypatch.setattr(model.codec, "decode", counted)
    rings, cut = (
        read_whole(LatentArrangement(model, replace(order, is_cut=is_cut)), 2 * RATE)
        for is_cut in (False, True)
    )
    np.testing.assert_allclose(cut, rings, atol=1e-6)
    assert takes_s[0] > 4  # as long as a cymbal may ring
    assert takes_s[1] == pytest.approx(2.5, abs=0.2)


def test_a_source_of_less_than_a_frame_is_said(played, model):
    _, _, redrummer = played()
    tiny = Recording.from_samples(np.ones(200), RATE, "tick")
    with pytest.raises(AudioError, match=r"tick is 4\.54 ms long; the latent engine needs 5\.80 ms") as caught:
        redrummer.redrum(tiny, rhythm_of(*WANTED), settings_of())
    assert "resequence" in caught.value.hint


def test_a_source_of_one_frame_plays(played, model):
    _, _, redrummer = played()
    tiny = Recording.from_samples(burst("HH")[:HOP], RATE, "tick")
    redrummer.transcriber.events_by_name["tick"] = [DrumEvent(0.0, "HH", 0.8)]
    take = redrummer.redrum(tiny, rhythm_of((0.5, "HH")), settings_of())
    assert np.abs(onset_errors_s(whole(take)[0], [0.5])).max() < 0.007


def test_a_source_or_a_rhythm_without_drums_is_said(played):
    source, _, redrummer = played()
    silent = Recording.from_samples(np.zeros(RATE), RATE, "pad")
    with pytest.raises(AudioError, match="no drum hits are detected in pad"):
        redrummer.redrum(silent, rhythm_of(*WANTED), settings_of())
    with pytest.raises(RhythmError, match="no drum hits are detected in pad"):
        redrummer.redrum(source, silent, settings_of())
    with pytest.raises(RhythmError, match="no drum hits in the"):
        redrummer.redrum(source, rhythm_of(), settings_of())


def preset_of(folder, files):
    models = {
        name: ModelFile(path=path, sha256=hashlib.sha256(path.read_bytes()).hexdigest(), n_parameters=1)
        for name, path in files.items()
    }
    return Preset(
        name="made",
        folder=folder,
        configuration="hires",
        classes=CLASSES,
        sample_rate=RATE,
        models=models,
        data={},
        scores={},
    )


@pytest.fixture
def stored(tmp_path):
    """Return a preset whose models are those of `small_model`, untrained."""
    model, files = small_model(), {}
    nets = (model.codec._encoder, SMALL), (model.codec._generator, SMALL), (net_of(model), model.config)
    for name, (net, config) in zip(MODELS, nets, strict=True):
        files[name] = tmp_path / f"{name}.safetensors"
        weights = {key: value.half().contiguous() for key, value in net.state_dict().items()}
        save_file(weights, files[name], {"model": name, "config": config_to_json(config)})
    return preset_of(tmp_path, files)


def test_a_preset_with_the_models_plays(stored, played):
    source, _, redrummer = played()
    redrummer = Redrummer(redrummer.transcriber, load_latent=lambda: LatentModel.load(stored))
    take = redrummer.redrum(source, rhythm_of(*WANTED), settings_of())
    assert whole(take).shape == (1, round(2.5 * RATE))
    assert np.abs(whole(take)).max() > 1e-3


@pytest.mark.slow
def test_bfloat16_is_not_to_be_heard():
    exact = Redrummer.load()
    codec, net = exact.latent.codec, net_of(exact.latent)
    crossover = exact.latent._crossover._now[0]
    coarse = LatentModel(Codec(codec._encoder, codec._generator, bfloat16=True), net, crossover, bfloat16=True)
    with Recording.open(demo_recordings()[0].path) as loop:
        source = Recording.from_samples(loop.read(0, 2 * loop.sample_rate), loop.sample_rate, "loop")
    rhythm = Rhythm((DrumEvent(0.1, "KD", 0.9), DrumEvent(0.6, "SD", 0.8)), 1.2, None, "made")
    ours, theirs = (
        whole(
            Redrummer(exact.transcriber, load_latent=lambda model=model: model).redrum(
                source, rhythm, settings_of()
            )
        )
        for model in (coarse, exact.latent)
    )
    assert np.abs(theirs).max() > 0.1
    assert not np.array_equal(ours, theirs)
    assert max(log_mel_distance_db(*pair) for pair in zip(ours, theirs, strict=True)) < 0.1


@pytest.mark.parametrize("is_quick", [True, False])
def test_bfloat16_is_used_where_it_is_quicker(stored, monkeypatch, caplog, is_quick):
    monkeypatch.setattr(module, "is_quick_in_bfloat16", lambda device: is_quick)
    model = LatentModel.load(stored, bfloat16=True)
    assert model._bfloat16 == model.codec._bfloat16 == is_quick
    assert ("single precision" in caplog.text) != is_quick
    assert not LatentModel.load(stored)._bfloat16


def test_a_preset_without_the_models_is_refused(stored):
    for missing in MODELS:
        rest = {name: entry for name, entry in stored.models.items() if name != missing}
        with pytest.raises(CheckpointError, match=f"made has no {missing}: it cannot play") as caught:
            LatentModel.load(replace(stored, models=rest))
        assert "--engine resequence" in caught.value.hint


def test_a_transformer_of_another_codec_is_refused(stored, tmp_path):
    other = small_model(seed=1)
    path = tmp_path / "other.safetensors"
    weights = {key: value.half() for key, value in net_of(other).state_dict().items()}
    save_file(weights, path, {"model": "rhythm", "config": config_to_json(other.config)})
    files = {name: entry.path for name, entry in stored.models.items()} | {"rhythm": path}
    with pytest.raises(CheckpointError, match="trained on other weights of the codec") as caught:
        LatentModel.load(preset_of(tmp_path, files))
    assert caught.value.hint


def test_models_are_loaded_when_the_engine_is_asked_for_and_once(played, model):
    source, _, redrummer = played()
    loaded = []
    redrummer = Redrummer(redrummer.transcriber, load_latent=lambda: loaded.append(1) or model)
    redrummer.redrum(source, rhythm_of(*WANTED))
    assert not loaded
    for _ in range(2):
        redrummer.redrum(source, rhythm_of(*WANTED), settings_of())
    assert loaded == [1]
    with pytest.raises(CheckpointError, match="no models of the latent engine"):
        Redrummer(redrummer.transcriber).redrum(source, rhythm_of(*WANTED), settings_of())


def test_a_written_rhythm_is_the_same_wherever_it_is_read():
    config = RhythmConfig()
    events = [DrumEvent(0.37 * i, CLASSES[i % 5], 0.5 + 0.05 * (i % 7)) for i in range(60)]
    written = WrittenRhythm(config, events)
    long = written.target(0, 1900).rhythm
    for first, last in ((0, 10), (441, 500), (440, 882), (1500, 1900)):
        part = written.target(first, last)
        assert isinstance(part, Target)
        assert part.activations is None
        assert torch.allclose(part.rhythm, long[..., first:last], atol=1e-4)


def test_where_memory_is_short_the_processor_transforms(played, model, monkeypatch, caplog):
    source, _, redrummer = played()
    rhythm = rhythm_of((0.2, "KD"), (0.9, "HH"))
    expected = whole(redrummer.redrum(source, rhythm, settings_of()))
    calls = []

    def cramped(self, net, *given):
        calls.append(net)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("no room")
        return transformed(self, net, *given)

    transformed = LatentModel._transformed
    monkeypatch.setattr(LatentModel, "_transformed", cramped)
    assert np.array_equal(whole(redrummer.redrum(source, rhythm, settings_of())), expected)
    assert len(calls) > 1
    assert calls[1] is not calls[0]  # which other threads may be at work with
    assert "short of memory" in caplog.text
