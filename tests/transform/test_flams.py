import numpy as np
import pytest

from transform.audio import Recording
from transform.bank import Bank
from transform.errors import RhythmError
from transform.events import DrumEvent, strokes_of
from transform.flams import with_flams
from transform.hits import LEAD_S
from transform.resequence import Arrangement, arrange

RATE = 44_100


def snare(rng, level, sample_rate=RATE):
    """Return a snare stroke (T,): a head of some pitch and wires that rattle."""
    time_s = np.arange(round(0.35 * sample_rate)) / sample_rate
    head = np.sin(2 * np.pi * rng.uniform(170, 240) * time_s) * np.exp(-time_s / rng.uniform(0.03, 0.08))
    wires = rng.standard_normal(len(time_s)) * np.exp(-time_s / rng.uniform(0.04, 0.15))
    return (level * (0.4 * head + rng.uniform(0.15, 0.3) * wires)).astype(np.float32)


def hat(rng, level, sample_rate=RATE):
    time_s = np.arange(round(0.1 * sample_rate)) / sample_rate
    noise = np.diff(rng.standard_normal(len(time_s) + 1))
    return (0.2 * level * noise * np.exp(-time_s / 0.02)).astype(np.float32)


def mixed(strokes, length_s, sample_rate=RATE):
    """Return a recording of strokes (onset_s, sound), over a little noise."""
    sound = 1e-4 * np.random.default_rng(9).standard_normal(round(length_s * sample_rate)).astype(np.float32)
    for onset_s, part in strokes:
        start = round(onset_s * sample_rate)
        sound[start : start + len(part)] += part[: len(sound) - start]
    return Recording.from_samples(sound, sample_rate)


def flams_of(apart_ms, seed, n=40, sample_rate=RATE):
    """Return a recording of flams half a second apart, with hats, what is heard of it, and the true onsets."""
    rng = np.random.default_rng(seed)
    strokes, heard, true_s = [], [], []
    for i in range(n):
        first_s = 0.3 + 0.5 * i
        second_s = first_s + apart_ms / 1000
        grace = 10 ** (rng.uniform(-12, -6) / 20)
        strokes += [(first_s, snare(rng, grace, sample_rate)), (second_s, snare(rng, 1.0, sample_rate))]
        # A transcriber hears the stroke proper, sometimes the first, some milliseconds off.
        onset_s = first_s if rng.random() < 0.2 else second_s
        heard.append(DrumEvent(onset_s + rng.uniform(-0.005, 0.005), "SD", 0.9))
        for hat_s in (second_s, first_s + 0.25):
            strokes.append((hat_s, hat(rng, 0.5, sample_rate)))
            heard.append(DrumEvent(hat_s, "HH", 0.5, "closed"))
        true_s.append(first_s)
    heard.sort(key=lambda event: event.onset_s)
    return mixed(strokes, 0.5 * n + 1, sample_rate), heard, true_s


@pytest.mark.parametrize("apart_ms", [25, 40])
@pytest.mark.parametrize("sample_rate", [RATE, 96_000])
def test_flams_are_found_and_are_one_event_each(apart_ms, sample_rate):
    recording, heard, true_s = flams_of(apart_ms, seed=apart_ms, sample_rate=sample_rate)
    found = with_flams(recording, heard)
    assert len(found) == len(heard)
    snares = [event for event in found if event.drum_class == "SD"]
    right = [
        abs(event.flam_ms - apart_ms) < 3 and abs(event.onset_s - first_s) < 0.003
        for event, first_s in zip(snares, true_s, strict=True)
    ]
    assert np.mean(right) >= 0.8
    assert all(event.flam_ms == 0 for event in found if event.drum_class == "HH")


def test_single_strokes_rolls_and_ghost_notes_are_no_flams():
    rng = np.random.default_rng(4)
    strokes, heard = [], []
    onset_s = 0.3
    while len(heard) < 400:
        level = 1.0 if rng.random() < 0.5 else rng.uniform(0.15, 0.4)
        strokes.append((onset_s, snare(rng, level)))
        heard.append(DrumEvent(onset_s + rng.uniform(-0.004, 0.004), "SD", min(1.0, level)))
        if rng.random() < 0.3:
            strokes.append((onset_s, hat(rng, 0.5)))
            heard.append(DrumEvent(onset_s, "HH", 0.5, "closed"))
        onset_s += rng.choice([0.09, 0.13, 0.3])
    heard.sort(key=lambda event: event.onset_s)
    found = with_flams(mixed(strokes, onset_s + 1), heard)
    assert len(found) == len(heard)
    n_snares = sum(event.drum_class == "SD" for event in heard)
    assert n_snares >= 200
    assert sum(event.flam_ms > 0 for event in found) <= 0.02 * n_snares


def test_two_transcribed_strokes_are_one_flam_and_a_third_makes_a_roll():
    rng = np.random.default_rng(5)

    def found(onsets_s, levels):
        recording = mixed([(s, snare(rng, v)) for s, v in zip(onsets_s, levels, strict=True)], 1.5)
        events = [DrumEvent(s, "SD", v) for s, v in zip(onsets_s, levels, strict=True)]
        return [(round(e.onset_s, 2), e.velocity, round(e.flam_ms)) for e in with_flams(recording, events)]

    assert found([0.5, 0.54], [0.4, 0.9]) == [(0.5, 0.9, 40)]
    assert found([0.5, 0.54], [0.9, 0.3]) == [(0.5, 0.9, 0), (0.54, 0.3, 0)]
    assert found([0.5, 0.54, 0.58], [0.5, 0.6, 0.9]) == [(0.5, 0.5, 0), (0.54, 0.6, 0), (0.58, 0.9, 0)]


def test_only_snares_and_toms_are_played_with_flams():
    rng = np.random.default_rng(6)
    recording = mixed([(0.5, snare(rng, 0.4)), (0.53, snare(rng, 1.0))], 1.5)
    for drum_class in ("KD", "HH", "CY"):
        events = [DrumEvent(0.5, drum_class, 0.4), DrumEvent(0.53, drum_class, 0.9)]
        assert with_flams(recording, events) == events
        assert with_flams(recording, events[1:]) == events[1:]


def test_nothing_is_found_where_nothing_sounds():
    silence = Recording.from_samples(np.zeros(RATE, dtype=np.float32), RATE)
    for onset_s in (0.0, 0.5, 0.999):
        events = [DrumEvent(onset_s, "SD", 0.5)]
        assert with_flams(silence, events) == events


def test_a_flam_says_its_two_strokes():
    flam = DrumEvent(0.5, "SD", 0.8, "rim", 30.0)
    first, second = flam.strokes
    assert (first.onset_s, second.onset_s) == (0.5, pytest.approx(0.53))
    assert (first.velocity, second.velocity) == (0.4, 0.8)
    assert first.articulation == second.articulation == "rim"
    assert not first.flam_ms
    assert not second.flam_ms
    between = DrumEvent(0.51, "KD", 0.7)
    assert strokes_of([flam, between]) == (first, between, second)
    assert strokes_of([flam, between], 0.52) == (first, between)
    with pytest.raises(RhythmError, match="flam"):
        DrumEvent(0.5, "SD", 0.8, "", 61.0)


def bank_of(events, strokes):
    return Bank.of_recording(mixed(strokes, 3.0), events)


def test_a_bank_keeps_a_flam_as_one_hit_with_both_strokes():
    rng = np.random.default_rng(7)
    strokes = [(0.5, snare(rng, 0.4)), (0.54, snare(rng, 1.0)), (2.0, snare(rng, 1.0))]
    bank = bank_of([DrumEvent(0.5, "SD", 0.9, "", 40.0), DrumEvent(2.0, "SD", 0.9)], strokes)
    flam, plain = sorted(bank.sets[frozenset({"SD"})], key=lambda hit: hit.attack)
    assert (flam.flam_ms, plain.flam_ms) == (40.0, 0.0)
    assert flam.attack == pytest.approx(0.5 * RATE, abs=2)
    lead = round(LEAD_S * RATE)
    sound = bank.sound(flam)[0, lead:]
    second = round(0.04 * RATE)
    assert np.abs(sound[second : second + 400]).max() > 1.5 * np.abs(sound[:400]).max()


def test_a_flam_is_played_by_a_flam_where_there_is_one_else_by_two_strokes():
    rng = np.random.default_rng(8)
    strokes = [(0.5, snare(rng, 0.4)), (0.54, snare(rng, 1.0)), (2.0, snare(rng, 1.0))]
    asked = [DrumEvent(0.0, "SD", 0.9, "", 30.0), DrumEvent(1.0, "SD", 0.9)]
    with_flam = bank_of([DrumEvent(0.5, "SD", 0.9, "", 40.0), DrumEvent(2.0, "SD", 0.9)], strokes)
    assert [(p.attack, p.hit.flam_ms) for p in arrange(with_flam, asked)] == [(0, 40.0), (RATE, 0.0)]
    plain = bank_of([DrumEvent(2.0, "SD", 0.9)], strokes)
    placements = arrange(plain, asked)
    assert [p.attack for p in placements] == [0, round(0.03 * RATE), RATE]
    assert placements[0].gain < 0.5 * placements[1].gain
    assert np.abs(Arrangement(plain, placements).read(0, RATE)).max() > 0
