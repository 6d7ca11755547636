from itertools import pairwise

import numpy as np
import pytest

from tests.transform.conftest import decaying_noise
from transform.audio import Recording
from transform.bank import Bank
from transform.drum_maps import DRUM_MAPS
from transform.events import TOM_HEIGHTS, DrumEvent
from transform.hits import LEAD_S
from transform.resequence import Arrangement, Playing, arrange
from transform.toms import by_rank, fundamental_hz, grouped, tuned, tunings, with_tom_heights

RATE = 44_100
FILL = [DRUM_MAPS["gm"][note][1] for note in (50, 48, 47, 45, 43, 41)]
FOUND = {1: [""], 2: ["low", "high"], 3: ["low", "mid", "high"]}


def tom(hz, *, level=0.5, length_s=0.5, sample_rate=RATE, seed=0):
    """Return a tom (T,) that glides down to `hz`, with two overtones and the noise of its attack."""
    time_s = np.arange(round(length_s * sample_rate)) / sample_rate
    phase = 2 * np.pi * (hz * time_s + 0.15 * hz * 0.02 * (1 - np.exp(-time_s / 0.02)))
    body = np.cos(phase) * np.exp(-time_s / 0.2)
    for ratio, share in ((1.59, 0.4), (2.14, 0.3)):
        body += share * np.cos(ratio * phase) * np.exp(-time_s / 0.08)
    return (level * (0.5 * body + decaying_noise(sample_rate, length_s, 0.008, seed))).astype(np.float32)


def recording_of(strokes, length_s, sample_rate=RATE):
    """Return a recording of strokes (onset_s, sound)."""
    sound = np.zeros(round(length_s * sample_rate), dtype=np.float32)
    for onset_s, part in strokes:
        start = round(onset_s * sample_rate)
        sound[start : start + len(part)] += part[: len(sound) - start]
    return Recording.from_samples(sound, sample_rate)


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 96_000])
def test_the_fundamental_is_found_whatever_the_attack_does(sample_rate):
    for seed, hz in enumerate([62.0, 88.5, 110.0, 147.0, 201.0, 262.0]):
        found = fundamental_hz(tom(hz, sample_rate=sample_rate, seed=seed), sample_rate)
        assert found == pytest.approx(hz, rel=0.02)


def test_what_rings_at_no_frequency_has_no_fundamental():
    for seed in range(20):
        assert fundamental_hz(decaying_noise(RATE, 0.4, 0.2, seed), RATE) is None
    assert fundamental_hz(np.zeros(RATE), RATE) is None
    assert fundamental_hz(tom(110.0)[: RATE // 20], RATE) is None


def test_fundamentals_two_semitones_apart_are_of_two_drums():
    assert grouped([]) == []
    assert grouped([100.0, 103.0, 160.0, 98.0]) == [[98.0, 100.0, 103.0], [160.0]]
    many = [60.0 * 2 ** (i / 4) for i in range(8)]
    assert len(grouped(many)) == 6
    assert [hz for drum in grouped(many) for hz in drum] == many


@pytest.mark.parametrize("pitches_hz", [[110.0], [95.0, 160.0], [80.0, 120.0, 180.0]])
def test_toms_of_a_recording_are_named_by_rank(pitches_hz):
    rng = np.random.default_rng(1)
    played = [int(i) for i in rng.integers(len(pitches_hz), size=12)] + list(range(len(pitches_hz)))
    onsets_s = [0.2 + 0.15 * i for i in range(len(played))]
    strokes = [
        (s, tom(pitches_hz[i] * rng.uniform(0.98, 1.02), level=rng.uniform(0.3, 1), seed=i))
        for s, i in zip(onsets_s, played, strict=True)
    ]
    events = [DrumEvent(s, "TT", 0.8) for s in onsets_s]
    named = with_tom_heights(recording_of(strokes, onsets_s[-1] + 0.6), events)
    assert [event.articulation for event in named] == [FOUND[len(pitches_hz)][i] for i in played]


def test_a_kick_below_a_tom_makes_no_other_tom():
    strokes = [(0.2 + 0.5 * i, tom(hz)) for i, hz in enumerate([90.0, 150.0] * 3)]
    events = [DrumEvent(s, "TT", 0.8) for s, _ in strokes]
    kick = tom(55.0, level=1.0)
    together = [*strokes, (0.2, kick), (3.5, kick)]
    named = with_tom_heights(
        recording_of(together, 4.5), [DrumEvent(0.2, "KD", 0.9), *events, DrumEvent(3.5, "KD", 0.9)]
    )
    heights = [event.articulation for event in named if event.drum_class == "TT"]
    assert heights[0] in ("", "low")
    assert heights[1:] == ["high", "low", "high", "low", "high"]
    assert all(event.articulation == "" for event in named if event.drum_class == "KD")


def test_heights_map_by_rank_and_never_cross():
    for n_ours in range(1, 7):
        ours = TOM_HEIGHTS[:n_ours]
        for n_theirs in range(1, 7):
            mapped = by_rank(TOM_HEIGHTS[-n_theirs:], ours)
            places = [ours.index(mapped[height]) for height in TOM_HEIGHTS[-n_theirs:]]
            assert places == sorted(places)
            if 1 < n_theirs <= n_ours:
                assert len(set(places)) == n_theirs
                assert (places[0], places[-1]) == (0, n_ours - 1)
    assert by_rank(["high", ""], ["low", "high"]) == {"high": "high"}
    assert by_rank(["floor"], ["low", "high"]) == {"floor": "low"}
    assert by_rank(["floor"], []) == {}


def test_tunings_rise_by_rank_to_three_semitones_at_most():
    for n in range(2, 7):
        semitones = list(tunings(TOM_HEIGHTS[:n]).values())
        assert semitones == sorted(set(semitones))
        assert semitones[0] == -semitones[-1]
        assert semitones[-1] <= 3
    assert tunings(["mid"]) == tunings([]) == {}


@pytest.mark.parametrize("sample_rate", [8_000, 44_100, 192_000])
@pytest.mark.parametrize("semitones", [-3.0, -0.7, 1.8, 3.0])
def test_a_tuned_hit_has_its_pitch_and_begins_on_its_sample(sample_rate, semitones):
    lead = round(LEAD_S * sample_rate)
    click = np.zeros((2, lead + sample_rate // 4), dtype=np.float32)
    click[:, lead] = 1.0
    assert int(np.abs(tuned(click, semitones, lead)[0]).argmax()) == lead
    sound = np.pad(tom(120.0, sample_rate=sample_rate), (lead, 0))[None]
    other = tuned(sound, semitones, lead)
    assert other.dtype == np.float32
    assert fundamental_hz(other[0, lead:], sample_rate) == pytest.approx(120 * 2 ** (semitones / 12), rel=0.02)
    assert other.shape[1] == pytest.approx(lead + (sound.shape[1] - lead) * 2 ** (-semitones / 12), rel=0.01)


@pytest.mark.parametrize(
    ("pitches_hz", "tunes", "n_heard"),
    [
        ([80.0, 120.0, 180.0], False, 3),
        ([80.0, 120.0, 180.0], True, 3),
        ([95.0, 160.0], False, 2),
        ([110.0], True, 6),
        ([110.0], False, 1),
    ],
)
def test_a_descending_fill_descends(pitches_hz, tunes, n_heard):
    rng = np.random.default_rng(3)
    onsets_s = [0.3 + 0.7 * i for i in range(4 * len(pitches_hz))]
    levels = [0.2 + 0.1 * (i // len(pitches_hz)) for i in range(len(onsets_s))]
    strokes = [
        (s, tom(pitches_hz[i % len(pitches_hz)], level=levels[i], seed=i)) for i, s in enumerate(onsets_s)
    ]
    recording = recording_of(strokes, onsets_s[-1] + 1.0)
    heard = [DrumEvent(s, "TT", levels[i]) for i, s in enumerate(onsets_s)]
    bank = Bank.of_recording(recording, with_tom_heights(recording, heard))
    fill = [DrumEvent(0.4 * i, "TT", rng.uniform(0.2, 1), height) for i, height in enumerate(FILL)]
    take = Arrangement(bank, arrange(bank, fill, Playing(tunes_toms=tunes))).read(0, 3 * RATE)[0]
    played_hz = [fundamental_hz(take[round(e.onset_s * RATE) :][: round(0.39 * RATE)], RATE) for e in fill]
    for before, after in pairwise(played_hz):
        assert after <= 1.01 * before
    assert len({round(12 * np.log2(hz / 50)) for hz in played_hz}) == n_heard


def test_a_tom_is_damped_by_itself_alone():
    pitches_hz = [90.0, 150.0]
    recording = recording_of([(0.3 + i, tom(hz, length_s=0.9)) for i, hz in enumerate(pitches_hz)], 2.5)
    heard = [DrumEvent(0.3 + i, "TT", 0.8, height) for i, height in enumerate(["low", "high"])]
    bank = Bank.of_recording(recording, heard)

    def is_stopped(following):
        events = [DrumEvent(0.0, "TT", 0.8, "low"), DrumEvent(0.2, "TT", 0.8, following)]
        return arrange(bank, events)[0].stop is not None

    assert is_stopped("low")
    assert not is_stopped("high")
