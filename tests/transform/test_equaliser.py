from itertools import pairwise

import numpy as np
import pytest

from transform.audio import SAMPLE_RATE, Recording
from transform.engine import Redrummer
from transform.equaliser import Equaliser, from_start, typical
from transform.events import DrumEvent
from transform.library import demo_recordings, find_rhythm
from transform.midi import read_midi
from transform.settings import RenderSettings

N = 2 * SAMPLE_RATE
EDGES_HZ = 100.0 * 2.0 ** np.arange(8)  # octaves


def noise(seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal((1, N))).astype(np.float32)


def filtered(sound, gain_db_at):
    """Return a sound with a gain by frequency."""
    hz = np.fft.rfftfreq(sound.shape[1], 1 / SAMPLE_RATE)
    gains = 10 ** (np.array([gain_db_at(f) for f in hz]) / 20)
    return np.fft.irfft(gains * np.fft.rfft(sound), sound.shape[1]).astype(np.float32)


def levels_db(sound):
    """Return the level of each octave of the channels' mean."""
    power = np.abs(np.fft.rfft(sound.mean(axis=0))) ** 2
    hz = np.fft.rfftfreq(sound.shape[1], 1 / SAMPLE_RATE)
    octaves = pairwise(EDGES_HZ)
    return 10 * np.log10([power[(hz >= low) & (hz < high)].sum() for low, high in octaves])


def test_what_is_as_it_should_be_stays_as_it_is():
    made = noise()
    np.testing.assert_allclose(Equaliser(made, np.repeat(made, 2, axis=0)).applied(made), made, atol=1e-6)


def test_bands_become_as_loud_as_they_are_in_the_hits_whatever_plays():
    def dull(hz):
        return -7.0 if 800 < hz < 3200 else 3.0 if hz > 6400 else 0.0

    equaliser = Equaliser(filtered(noise(0), dull), noise(1))
    other = noise(2)
    off_db = levels_db(equaliser.applied(filtered(other, dull))) - levels_db(other)
    assert np.abs(off_db).max() < 1


def test_a_hum_that_the_hits_have_not_goes():
    def hums(hz):
        return 30.0 if hz < 150 else 0.0

    equaliser = Equaliser(filtered(noise(0), hums), noise(1))
    off_db = levels_db(equaliser.applied(filtered(noise(2), hums))) - levels_db(noise(2))
    assert off_db[0] < 6
    assert np.abs(off_db[2:]).max() < 1


def test_an_attack_stays_where_it_is():
    equaliser = Equaliser(filtered(noise(0), lambda hz: -8.0 * np.sin(hz / 900)), noise(1))
    click = np.zeros((1, N), dtype=np.float32)
    click[0, 10_000] = 1
    made = equaliser.applied(click)[0]
    assert np.abs(made).argmax() == 10_000
    assert np.abs(made[:10_000]).max() < 1e-6


def test_what_the_source_lacks_goes_and_noise_is_raised_by_10_db_at_most():
    lossy = filtered(noise(0), lambda hz: -100.0 if hz > 16_000 else 0.0)
    made = np.abs(np.fft.rfft(Equaliser(noise(1), lossy).applied(noise(2))[0]))
    hz = np.fft.rfftfreq(N, 1 / SAMPLE_RATE)
    assert made[hz > 18_000].max() < 0.1 * made[(hz > 1000) & (hz < 10_000)].mean()
    silent = filtered(noise(0), lambda hz: -60.0 if hz > 2000 else 0.0)
    assert levels_db(Equaliser(silent, noise(1)).applied(silent)).max() < levels_db(noise(1)).max() + 1
    assert np.allclose(Equaliser(silent, noise(1)).gains_db[10:], 10)


@pytest.mark.parametrize(("made", "hits"), [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_silence_is_no_fault(made, hits):
    out = Equaliser(np.float32(made) * noise(0), np.float32(hits) * noise(1)).applied(noise(2))
    assert np.isfinite(out).all()
    assert np.abs(out).max() < 10


def test_strokes_are_of_where_most_classes_are_struck():
    hats = [DrumEvent(0.25 * k, "HH", 0.5) for k in range(100)]
    others = [DrumEvent(t, c, 0.8) for t, c in ((15.0, "KD"), (15.5, "SD"), (16.0, "KD"), (16.5, "SD"))]
    chosen = typical(sorted(hats + others, key=lambda event: event.onset_s))
    assert chosen[-1].onset_s - chosen[0].onset_s <= 8
    assert from_start(chosen)[0].onset_s == 0
    assert [e.drum_class for e in chosen if e.drum_class != "HH"] == ["KD", "SD", "KD", "SD"]
    assert typical([]) == []


def demo(name):
    return Recording.open(next(found.path for found in demo_recordings() if name in found.path.name))


@pytest.mark.slow
@pytest.mark.parametrize("is_recorded", [False, True])
def test_the_network_plays_another_rhythm_as_bright_as_the_hits_do(is_recorded):
    source, redrummer = demo("half-time"), Redrummer.load()
    rhythm = demo("acoustic") if is_recorded else read_midi(find_rhythm("disco-snare-120").path)
    hits, network = (
        levels_db(redrummer.redrum(source, rhythm, settings).read(0, 6 * source.sample_rate))
        for settings in (
            RenderSettings(align="seconds", length=6.0),
            RenderSettings(align="seconds", length=6.0, engine="latent", attack="none"),
        )
    )
    assert np.abs(network - hits).mean() < 1.5
    assert np.abs(network - hits).max() < 4
