from dataclasses import replace

import numpy as np
import pytest

from tests.transform.conftest import HZ, tone_burst
from transform.audio import Recording
from transform.bank import Bank
from transform.events import DrumEvent
from transform.hits import LEAD_S, Hit
from transform.resequence import Arrangement, Playing, arrange, articulation_notes, stand_in_notes, stand_ins
from transform.velocity import LEVEL_EXPONENT

RATE = 44_100


def made_source(strokes, length_s):
    """Return a bank of bursts whose frequency tells the class; strokes are (onset_s, classes, level)."""
    sound = np.zeros(round(length_s * RATE), dtype=np.float32)
    events = []
    for onset_s, classes, level in strokes:
        for drum_class in classes:
            burst = tone_burst(HZ[drum_class], level)
            start = round(onset_s * RATE)
            sound[start : start + len(burst)] += burst
            events.append(DrumEvent(onset_s, drum_class, min(1.0, level ** (1 / LEVEL_EXPONENT))))
    recording = Recording.from_samples(sound, RATE)
    return Bank.of_recording(recording, events)


def played(bank, events, **options):
    return [(p.attack, set(p.hit.classes), p) for p in arrange(bank, events, Playing(**options))]


def test_every_event_lands_on_its_sample():
    bank = made_source([(0.5, ["KD"], 0.8), (1.0, ["SD"], 0.8)], 1.5)
    events = [DrumEvent(0.1234567, "KD", 1), DrumEvent(0.7654321, "SD", 1), DrumEvent(0.0, "KD", 1)]
    assert [(a, c) for a, c, _ in played(bank, events)] == [
        (0, {"KD"}),
        (round(0.1234567 * RATE), {"KD"}),
        (round(0.7654321 * RATE), {"SD"}),
    ]


def test_strokes_that_fall_together_are_played_by_a_hit_recorded_together():
    bank = made_source([(0.5, ["KD", "HH"], 0.5), (1.0, ["KD"], 0.5), (1.5, ["HH"], 0.5)], 2.0)
    events = [
        DrumEvent(0.0, "KD", 1),
        DrumEvent(0.0, "HH", 1),
        DrumEvent(0.5, "HH", 1),
        DrumEvent(1.0, "KD", 1),
    ]
    assert [(a, c) for a, c, _ in played(bank, events)] == [
        (0, {"KD", "HH"}),
        (22_050, {"HH"}),
        (44_100, {"KD"}),
    ]


def test_single_hits_are_layered_where_nothing_was_recorded_together():
    bank = made_source([(0.5, ["KD"], 0.5), (1.0, ["SD"], 0.5)], 1.5)
    together = [DrumEvent(0.2, "KD", 1), DrumEvent(0.2, "SD", 1)]
    assert sorted("".join(c) for _, c, _ in played(bank, together)) == ["KD", "SD"]


def test_a_class_that_only_sounds_with_another_brings_it_along():
    bank = made_source([(0.5, ["KD", "HH"], 0.5), (1.0, ["SD"], 0.5)], 1.5)
    assert [c for _, c, _ in played(bank, [DrumEvent(0.2, "KD", 1)])] == [{"KD", "HH"}]


@pytest.mark.parametrize("asked", [["HH"], ["KD", "HH"], ["SD", "HH"]])
def test_a_class_whose_level_is_only_known_beside_another_is_played(asked):
    made = made_source([(0.5, ["KD", "HH"], 0.5), (1.0, ["SD"], 0.5)], 1.5)
    hits = [replace(hit, levels=dict.fromkeys(hit.classes, 0.1)) for hit in made.hits]
    bank = Bank(hits, lambda hit: np.zeros((1, 4000), np.float32), sample_rate=RATE, n_channels=1)
    assert {"KD", "HH"} in [c for _, c, _ in played(bank, [DrumEvent(0.2, c, 0.8) for c in asked])]


def test_a_missing_class_is_played_by_the_nearest_and_reported():
    bank = made_source([(0.5, ["KD"], 0.5), (1.0, ["SD"], 0.5)], 1.5)
    events = [DrumEvent(0.0, "TT", 1), DrumEvent(0.5, "KD", 1)]
    assert [c for _, c, _ in played(bank, events)] == [{"SD"}, {"KD"}]
    assert stand_in_notes(stand_ins(bank.classes, events)) == (
        "the source has no tom: its snare drum plays that part",
    )


def test_velocity_chooses_the_layer_and_sets_the_level():
    levels = [0.1, 0.3, 0.9]
    bank = made_source([(0.5 + i, ["SD"], level) for i, level in enumerate(levels)], 4.0)
    events = [DrumEvent(i * 0.5, "SD", v) for i, v in enumerate([0.25, 0.5, 1.0])]
    placements = arrange(bank, events)
    assert [p.hit.level for p in placements] == sorted(p.hit.level for p in placements)
    assert len({p.hit for p in placements}) == 3
    loudness = [p.hit.level * p.gain for p in placements]
    assert loudness[0] < 0.4 * loudness[2]
    assert loudness[0] < loudness[1] < loudness[2]


def test_velocity_source_leaves_hits_as_they_were():
    bank = made_source([(0.5, ["SD"], 0.2), (1.5, ["SD"], 0.9)], 3.0)
    events = [DrumEvent(0.0, "SD", 0.1), DrumEvent(0.5, "SD", 1.0)]
    assert [p.gain for p in arrange(bank, events, Playing(velocity="source"))] == [1.0, 1.0]


def test_a_class_gain_is_exact():
    bank = made_source([(0.5, ["SD"], 0.5), (1.5, ["KD"], 0.5)], 3.0)
    events = [DrumEvent(0.0, "SD", 1.0), DrumEvent(0.5, "KD", 1.0)]
    plain, turned = arrange(bank, events), arrange(bank, events, Playing(gain_db={"SD": -6.0}))
    assert 20 * np.log10(turned[0].gain / plain[0].gain) == pytest.approx(-6.0)
    assert turned[1].gain == plain[1].gain


def test_repeated_strokes_take_turns():
    bank = made_source([(0.5 + i, ["HH"], 0.5) for i in range(4)], 5.0)
    placements = arrange(bank, [DrumEvent(0.25 * i, "HH", 0.8) for i in range(8)])
    for i in range(1, 8):
        assert placements[i].hit != placements[i - 1].hit
    assert len({p.hit for p in placements}) == 4


def test_the_same_seed_plays_the_same_hits():
    bank = made_source([(0.5 + i, ["HH"], 0.5) for i in range(4)], 5.0)
    events = [DrumEvent(0.25 * i, "HH", 0.8) for i in range(8)]
    assert arrange(bank, events, Playing(seed=3)) == arrange(bank, events, Playing(seed=3))


def test_a_closed_hat_chokes_the_open_one_and_leaves_a_cymbal_alone():
    ringing = np.concatenate([np.zeros(RATE // 2), tone_burst(9000, 0.5, 1.4, 2.0)]).astype(np.float32)
    recording = Recording.from_samples(np.concatenate([ringing, ringing]), RATE)
    second = len(ringing) / RATE + 0.5
    events = [DrumEvent(0.5, "HH", 0.9, "open"), DrumEvent(second, "CY", 0.9)]
    bank = Bank.of_recording(recording, events)

    def level_after(drum_class, following):
        rhythm = [DrumEvent(0.0, drum_class, 1.0, "open" if drum_class == "HH" else ""), *following]
        placements = arrange(bank, rhythm)
        out = Arrangement(bank, placements[:1]).read(0, RATE)
        return float(np.abs(out[0, round(0.32 * RATE) : round(0.4 * RATE)]).max())

    closing = [DrumEvent(0.3, "HH", 0.8, "closed")]
    assert level_after("HH", []) > 0.1
    assert level_after("HH", closing) == 0
    assert level_after("CY", [DrumEvent(0.3, "CY", 0.8)]) > 0.1


def test_any_stretch_reads_as_it_does_in_the_whole():
    bank = made_source([(0.5, ["KD"], 0.5), (1.0, ["SD"], 0.5), (1.5, ["HH"], 0.3)], 2.0)
    rng = np.random.default_rng(1)
    events = [
        DrumEvent(float(t), ("KD", "SD", "HH")[i % 3], 0.8)
        for i, t in enumerate(np.sort(rng.uniform(0, 3, 24)))
    ]
    arrangement = Arrangement(bank, arrange(bank, events))
    whole = arrangement.read(0, 3 * RATE)
    for start, stop in [(0, 1000), (12_345, 54_321), (2 * RATE, 3 * RATE)]:
        part = arrangement.read(start, stop)
        np.testing.assert_allclose(part, whole[:, start:stop], atol=1e-6)


def test_a_wrapped_loop_goes_on_ringing_at_its_beginning():
    bank = made_source([(0.5, ["SD"], 0.5)], 1.0)
    event = [DrumEvent(0.95, "SD", 1.0)]
    placements = arrange(bank, event)
    straight = Arrangement(bank, placements).read(0, 2 * RATE)
    wrapped = Arrangement(bank, placements, period=RATE).read(0, RATE)
    np.testing.assert_allclose(wrapped, straight[:, :RATE] + straight[:, RATE:], atol=1e-6)
    assert np.abs(straight[:, RATE:]).max() > 0.05


def test_a_loop_shorter_than_a_ringing_cymbal_is_heard_as_if_it_went_on_for_ever():
    ringing = np.concatenate([np.zeros(RATE // 2), tone_burst(5000, 0.5, 2.5, 1.0)]).astype(np.float32)
    recording = Recording.from_samples(ringing, RATE)
    bank = Bank.of_recording(recording, [DrumEvent(0.5, "CY", 0.9)])
    period, turns = RATE // 2, 8
    once = [DrumEvent(0.0, "CY", 1.0), DrumEvent(0.3, "CY", 1.0)]
    often = [DrumEvent(e.onset_s + 0.5 * turn, "CY", 1.0) for turn in range(turns + 1) for e in once]
    straight = Arrangement(bank, arrange(bank, often)).read(0, turns * period)
    loop = Arrangement(bank, arrange(bank, once), period=period).read(0, period)
    np.testing.assert_allclose(loop, straight[:, -period:], atol=1e-5)


def test_a_stroke_at_the_start_of_a_loop_damps_what_rings_into_it():
    ringing = np.concatenate([np.zeros(RATE // 2), tone_burst(9000, 0.5, 1.4, 2.0)]).astype(np.float32)
    recording = Recording.from_samples(ringing, RATE)
    bank = Bank.of_recording(recording, [DrumEvent(0.5, "HH", 0.9, "open")])
    events = [DrumEvent(0.1, "HH", 0.1, "closed"), DrumEvent(0.8, "HH", 1.0, "open")]
    loop = Arrangement(bank, arrange(bank, events), period=RATE).read(0, RATE)
    assert np.abs(loop[0, : round(0.09 * RATE)]).max() > 0.1
    alone = Arrangement(bank, arrange(bank, events)).read(0, RATE)
    span = slice(round(0.12 * RATE), round(0.7 * RATE))
    np.testing.assert_array_equal(loop[0, span], alone[0, span])


def test_hits_begin_and_end_without_a_click():
    bank = made_source([(0.5, ["KD"], 0.5), (0.6, ["SD"], 0.5)], 1.0)
    out = Arrangement(bank, arrange(bank, [DrumEvent(0.2, "KD", 1.0)])).read(0, RATE)
    sounding = np.flatnonzero(out[0])
    lead = round(LEAD_S * RATE)
    assert round(0.2 * RATE) - lead <= sounding[0]
    last = out[0, sounding[-1] - 20 : sounding[-1] + 1]
    assert np.abs(last).max() < 0.01


def test_a_class_that_only_sounds_with_another_is_heard_alone_with_stems(apart):
    bank = apart([(0.5 + i, ["KD", "HH"], 0.5) for i in range(3)], 4.0)
    placements = arrange(bank, [DrumEvent(0.1, "KD", 0.7)])
    assert [p.hit.classes for p in placements] == [{"KD"}]
    out = Arrangement(bank, placements).read(0, RATE)
    power = np.abs(np.fft.rfft(out[0])) ** 2
    high = np.fft.rfftfreq(RATE, 1 / RATE) > 8000
    assert power[high].sum() < 1e-3 * power.sum()


def test_any_number_of_strokes_falls_together_with_stems(apart):
    classes = ["KD", "SD", "TT", "HH", "CY"]
    bank = apart([(0.5 + i, [c], 0.5) for i, c in enumerate(classes)], 6.0)
    placements = arrange(bank, [DrumEvent(0.5, c, 0.8) for c in classes])
    assert sorted(p.hit.dominant for p in placements) == sorted(classes)


def test_a_gain_turns_one_class_of_strokes_that_fell_together(apart):
    bank = apart([(0.5, ["KD", "HH"], 0.5), (1.5, ["KD", "HH"], 0.5)], 3.0)
    events = [DrumEvent(0.1, "KD", 0.7), DrumEvent(0.1, "HH", 0.7)]
    plain, turned = (
        {p.hit.dominant: p.gain for p in arrange(bank, events, Playing(gain_db={"HH": gain}))}
        for gain in (-4.0, -24.0)
    )
    assert [p.hit.classes for p in arrange(bank, events)] == [{"KD", "HH"}]  # as recorded
    assert turned["KD"] == plain["KD"]
    assert 20 * np.log10(turned["HH"] / plain["HH"]) == pytest.approx(-20)


def test_slices_of_differently_turned_classes_are_not_used_whole():
    bank = made_source([(0.5, ["KD", "HH"], 0.5), (1.0, ["KD"], 0.5), (1.5, ["HH"], 0.5)], 2.0)
    together = [DrumEvent(0.0, "KD", 1), DrumEvent(0.0, "HH", 1)]
    assert len(arrange(bank, together)) == 1
    assert len(arrange(bank, together, Playing(gain_db={"KD": -3.0, "HH": -3.0}))) == 1
    apart = arrange(bank, together, Playing(gain_db={"HH": 3.0}))
    assert sorted("".join(p.hit.classes) for p in apart) == ["HH", "KD"]


def test_strokes_keep_the_balance_that_their_velocities_had_in_the_source(apart):
    soft_hats = [(0.5 + i, ["KD"], 0.8) for i in range(3)] + [(1.0 + i, ["HH"], 0.1) for i in range(3)]
    bank = apart(soft_hats, 4.0)
    events = [
        DrumEvent(0.5 * i, c, (0.8 if c == "KD" else 0.1) ** (1 / 1.6)) for i, c in enumerate(["KD", "HH"] * 3)
    ]
    for placement in arrange(bank, events):
        assert 20 * np.log10(placement.gain) == pytest.approx(0, abs=0.1)


def test_nothing_to_play_is_silence(apart):
    arrangement = Arrangement(apart([(0.5, ["KD"], 0.5)], 1.0), [])
    out = arrangement.read(0, 100)
    assert arrangement.n_samples == 0
    assert not out.any()


def struck_bank(*strokes):
    """Return a bank of silent hits of equal level; strokes are (class, articulation)."""
    hits = [
        Hit(
            classes=frozenset({drum_class}),
            attack=10_000 * i,
            level=0.2,
            velocities={drum_class: 0.6},
            articulations=frozenset({how}) - {""},
            faults=0.0,
        )
        for i, (drum_class, how) in enumerate(strokes)
    ]
    return Bank(hits, lambda hit: np.zeros((1, 4000), np.float32), sample_rate=RATE, n_channels=1)


@pytest.mark.parametrize(
    ("drum_class", "asked", "there", "played"),
    [
        ("HH", "open", ["closed", "pedal", "open"], "open"),
        ("HH", "pedal", ["closed", "pedal", "open"], "pedal"),
        ("HH", "pedal", ["closed", "open"], "closed"),
        ("HH", "closed", ["pedal", "open"], "pedal"),
        ("CY", "ride", ["crash", "ride"], "ride"),
        ("CY", "bell", ["crash", "ride"], "ride"),
        ("CY", "splash", ["crash", "ride"], "crash"),
        ("CY", "china", ["crash", "ride"], "crash"),
        ("SD", "sidestick", ["", "sidestick"], "sidestick"),
        ("SD", "", ["", "sidestick"], ""),
        ("SD", "rim", ["", "sidestick"], ""),
        ("TT", "floor", ["low", "mid", "high"], "low"),
        ("TT", "high", ["low", "mid", "high"], "high"),
    ],
)
def test_hits_of_the_asked_articulation_are_preferred(drum_class, asked, there, played):
    bank = struck_bank(*((drum_class, how) for how in there for _ in range(2)))
    events = [DrumEvent(0.5 * i, drum_class, 0.6, asked) for i in range(6)]
    assert [p.hit.articulation(drum_class) for p in arrange(bank, events)] == [played] * 6


def test_what_is_not_known_may_be_any():
    for there in (["closed", "open"], ["ride", "crash"]):
        drum_class = "HH" if "open" in there else "CY"
        bank = struck_bank(*((drum_class, how) for how in there))
        events = [DrumEvent(0.5 * i, drum_class, 0.6) for i in range(6)]
        assert {p.hit.articulation(drum_class) for p in arrange(bank, events)} == set(there)
        unknown = struck_bank((drum_class, ""), (drum_class, ""))
        asked = [DrumEvent(0.5 * i, drum_class, 0.6, there[1]) for i in range(6)]
        assert len({p.hit for p in arrange(unknown, asked)}) == 2


def test_a_tom_is_played_alone_where_it_was_only_struck_with_a_kick_as_another_one():
    low, high = (frozenset({"TT"}), frozenset({"low"})), (frozenset({"TT"}), frozenset({"high"}))
    together = frozenset({"KD", "TT"}), frozenset({"low"})
    kinds = [low, high, together, (frozenset({"KD"}), frozenset())]
    hits = [
        Hit(
            classes=c,
            attack=10_000 * i,
            level=0.2,
            velocities=dict.fromkeys(c, 0.6),
            articulations=how,
            faults=0.5 * (i != 2),
        )
        for i, (c, how) in enumerate(kinds)
    ]
    bank = Bank(hits, lambda hit: np.zeros((1, 4000), np.float32), sample_rate=RATE, n_channels=1)

    def classes_of(height):
        events = [
            DrumEvent(0.0, "KD", 0.6),
            DrumEvent(0.0, "TT", 0.6, height),
            DrumEvent(1.0, "TT", 0.6, "mid"),
        ]
        return {(p.hit.classes, p.hit.articulations) for p in arrange(bank, events) if p.attack == 0}

    assert classes_of("floor") == {together}
    assert classes_of("high") == {high, (frozenset({"KD"}), frozenset())}


def test_what_the_source_has_not_is_named_with_what_plays_instead():
    bank = struck_bank(("HH", "closed"), ("CY", "crash"), ("SD", ""))
    events = [
        DrumEvent(0.0, "HH", 0.8, "open"),
        DrumEvent(0.1, "CY", 0.8, "ride"),
        DrumEvent(0.2, "SD", 0.8, ""),
    ]
    events.append(DrumEvent(0.3, "SD", 0.8, "sidestick"))
    assert articulation_notes(bank, events, stand_ins(bank.classes, events)) == (
        "the source has no ride cymbal: its crash cymbal plays that part",
        "the source has no open hat: its closed hat plays that part",
        "the source has no side stick: its snare stroke plays that part",
    )
    assert not articulation_notes(bank, events, {"HH": "CY", "CY": "CY"})[1:]  # the stand-in's note is enough


@pytest.mark.parametrize("hat_level", [0.5, 0.05])
def test_hats_are_as_loud_on_a_kick_as_off_it(apart, hat_level):
    strokes = [(0.5 * i, ["HH"] if i % 2 else ["KD", "HH"], 0.5) for i in range(1, 9)]
    strokes = [(t, [c], 0.8 if c == "KD" else hat_level) for t, classes, _ in strokes for c in classes]
    bank = apart(strokes, 6.0)
    rhythm = [DrumEvent(0.25 * i, "HH", 0.6) for i in range(16)]
    rhythm += [
        DrumEvent(0.5 * i, "KD", 0.3 + 0.1 * (i % 7)) for i in range(8)
    ]  # louder or softer than the hats
    out = Arrangement(bank, arrange(bank, rhythm)).read(0, 5 * RATE)[0]
    starts = [round(0.25 * i * RATE) for i in range(16)]
    at_hat = np.exp(-2j * np.pi * HZ["HH"] / RATE * np.arange(2205))
    levels_db = 20 * np.log10([abs(out[start : start + 2205] @ at_hat) for start in starts])
    assert np.abs(levels_db - np.median(levels_db[1::2])).max() < 2.5
    assert abs(np.mean(levels_db[::2]) - np.mean(levels_db[1::2])) < 2


def test_an_attack_at_the_beginning_of_a_take_is_whole():
    rising = np.concatenate([np.linspace(0, 0.5, 60), tone_burst(300, 0.5)]).astype(np.float32)  # 1.4 ms
    sound = np.zeros(RATE, dtype=np.float32)
    sound[20_000 : 20_000 + len(rising)] = rising
    bank = Bank.of_recording(Recording.from_samples(sound, RATE), [DrumEvent(20_060 / RATE, "SD", 0.8)])
    placements = arrange(bank, [DrumEvent(0.0, "SD", 0.8)])
    out = Arrangement(bank, placements).read(0, RATE)[0]
    assert np.abs(np.diff(out, prepend=0.0)).max() < 0.05  # there is no step
    late = Arrangement(bank, [replace(placements[0], attack=RATE // 2)]).read(0, RATE)[0]
    assert np.abs(out).max() == pytest.approx(np.abs(late).max())
    assert np.argmax(np.abs(out)) - (np.argmax(np.abs(late)) - RATE // 2) <= 0.002 * RATE


def hits_of(*strokes):
    """Return a bank of silent hits; strokes are (classes, articulations, level, velocities, faults)."""
    hits = [
        Hit(
            classes=frozenset(velocities),
            attack=10_000 * i,
            level=level,
            velocities=velocities,
            articulations=frozenset(how),
            faults=faults,
        )
        for i, (velocities, how, level, faults) in enumerate(strokes)
    ]
    return Bank(hits, lambda hit: np.zeros((1, 4000), np.float32), sample_rate=RATE, n_channels=1)


def test_an_open_hat_is_played_alone_where_a_later_hat_must_choke_it():
    bank = hits_of(
        ({"KD": 0.7}, (), 0.5, 0.3),
        ({"HH": 0.7}, ("open",), 0.1, 0.3),
        ({"HH": 0.7}, ("closed",), 0.1, 0.3),
        ({"KD": 0.7, "HH": 0.7}, ("open",), 0.5, 0.0),
        ({"KD": 0.7, "HH": 0.7}, ("closed",), 0.5, 0.0),
    )
    together = [
        DrumEvent(0.0, "KD", 0.7),
        DrumEvent(0.0, "HH", 0.7, "open"),
        DrumEvent(0.2, "HH", 0.7, "closed"),
    ]
    placements = arrange(bank, together)
    assert sorted("".join(p.hit.classes) for p in placements) == ["HH", "HH", "KD"]
    (hat,) = (p for p in placements if p.hit.articulation("HH") == "open")
    assert hat.stop == round(0.2 * RATE)


def test_one_hit_of_a_set_must_be_clean_even_and_struck_as_requested():
    bank = hits_of(
        ({"KD": 0.7}, (), 0.5, 0.5),
        ({"HH": 0.7}, ("closed",), 0.1, 0.5),
        ({"KD": 0.7, "HH": 0.7}, ("pedal",), 0.5, 0.0),  # even, and not closed
        ({"KD": 0.7, "HH": 0.2}, ("closed",), 0.5, 0.0),  # closed, and hardly a hat
    )
    placements = arrange(bank, [DrumEvent(0.0, "KD", 0.7), DrumEvent(0.0, "HH", 0.7, "closed")])
    assert sorted("".join(p.hit.classes) for p in placements) == ["HH", "KD"]


def test_the_snare_of_a_source_is_what_its_backbeats_are_whatever_they_were_taken_for():
    strong = [({"SD": 0.8}, ("sidestick",), 0.5, 0.1)] * 4
    bank = hits_of(*strong, ({"SD": 0.3}, (), 0.05, 0.1))
    placements = arrange(bank, [DrumEvent(0.5 * i, "SD", 0.8) for i in range(4)])
    assert {p.hit.level for p in placements} == {0.5}
