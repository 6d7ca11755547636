"""Whose balance a rhythm is played in, and with what dynamics (docs/method.md, decision 20)."""

import numpy as np
import pytest

from transform.dynamics import Strength, velocity_scales
from transform.events import DrumEvent
from transform.resequence import Playing, arrange
from transform.velocity import LEVEL_EXPONENT

LOUD_KICK = {"KD": 0.9, "HH": 0.09}  # amplitudes of the source: the kick is 20 dB over its hats
OWN = {"KD": "KD", "SD": "SD", "HH": "HH"}


def events_of(drum_class, velocities, first_s=0.0):
    return [DrumEvent(first_s + 0.25 * i, drum_class, v) for i, v in enumerate(velocities)]


def scales(rhythm, source=(("KD", 0.45), ("SD", 0.85), ("HH", 0.6)), **options):
    return velocity_scales(Strength.of(rhythm), Strength.of(source), OWN, **options)


def levels_db(placements):
    """Return, by class, the levels at which hits play."""
    levels = {}
    for p in placements:
        levels.setdefault(p.hit.dominant, []).append(20 * np.log10(p.gain * p.hit.level))
    return levels


@pytest.fixture
def loud_kick(apart):
    strokes = [(0.5 * i, ["KD" if i % 2 else "HH"], LOUD_KICK["KD" if i % 2 else "HH"]) for i in range(1, 17)]
    return apart(strokes, 9.0)


@pytest.mark.parametrize("kick", [0.2, 0.4, 0.9])
@pytest.mark.parametrize("is_written", [True, False])
def test_a_kick_far_over_its_hats_stays_so_whatever_the_rhythms_recording_had(loud_kick, kick, is_written):
    rhythm = events_of("KD", [kick] * 8) + events_of("HH", [0.8] * 8, 0.125)
    found = levels_db(arrange(loud_kick, rhythm, Playing(is_written=is_written)))
    strong = {c: float(np.quantile(own, 0.9)) for c, own in found.items()}
    source = {c: max(20 * np.log10(h.level) for h in loud_kick.sets[frozenset({c})]) for c in ("KD", "HH")}
    assert strong["KD"] - strong["HH"] == pytest.approx(source["KD"] - source["HH"], abs=1)
    assert strong["KD"] == pytest.approx(source["KD"], abs=1)


def test_auditioned_rhythms_move_kick_against_hats_by_less_than_2_db(loud_kick):
    rng = np.random.default_rng(0)
    differences_db = []
    for _ in range(20):
        strong = rng.uniform(0.4, 1.0, 2)
        rhythm = events_of("KD", strong[0] * rng.uniform(0.7, 1, 8))
        rhythm += events_of("HH", strong[1] * rng.uniform(0.5, 1, 16), 0.125)
        found = levels_db(arrange(loud_kick, rhythm))
        differences_db.append(np.quantile(found["KD"], 0.9) - np.quantile(found["HH"], 0.9))
    assert np.ptp(differences_db) < 2


def test_a_lane_of_ghost_notes_stays_one():
    ghosts = [("SD", 0.2)] * 60
    found = scales([*ghosts, *[("KD", 0.9)] * 8, *[("HH", 0.8)] * 16])
    softer_db = 20 * LEVEL_EXPONENT * np.log10(0.2 * found["SD"] / 0.85)
    assert softer_db < -15
    alone = scales([("SD", 0.15 + 0.001 * i) for i in range(60)])  # nothing else says how strong it is meant
    assert 20 * LEVEL_EXPONENT * np.log10(0.2 * alone["SD"] / 0.85) < -6


def test_accents_stay_accents(loud_kick):
    velocities = [0.9, 0.3, 0.5, 0.35, 0.8, 0.25, 0.6, 0.4]
    played = levels_db(arrange(loud_kick, events_of("HH", velocities)))["HH"]
    assert np.argsort(played).tolist() == np.argsort(velocities).tolist()


@pytest.mark.parametrize("velocity", [0.08, 0.5, 1.0])
def test_one_velocity_throughout_gives_the_sources_usual_strokes(loud_kick, velocity):
    rhythm = events_of("KD", [velocity] * 8) + events_of("HH", [velocity] * 8, 0.125)
    for p in arrange(loud_kick, rhythm):
        assert 20 * np.log10(p.gain) == pytest.approx(0, abs=1)


def test_a_velocity_that_is_given_for_all_is_above_the_balance(loud_kick):
    usual, soft = (
        levels_db(arrange(loud_kick, events_of("KD", [v] * 4), Playing(velocity=v)))["KD"]
        for v in (100 / 127, 0.4)
    )
    assert usual[0] - soft[0] == pytest.approx(20 * LEVEL_EXPONENT * np.log10(100 / 127 / 0.4), abs=0.1)


def test_without_balance_one_factor_is_for_all():
    rhythm = [*[("KD", 0.3)] * 8, *[("SD", 0.9)] * 8, *[("HH", 0.6)] * 8]
    found = scales(rhythm, balance=0.0)
    assert len(set(found.values())) == 1
    assert found["KD"] * 0.9 == pytest.approx(Strength.of((("KD", 0.45), ("SD", 0.85), ("HH", 0.6))).overall)


def test_few_strokes_say_little():
    rhythm = [("CY", 0.4), *[("KD", 0.9)] * 8]
    source = [("CY", 0.8), *[("KD", 0.8)] * 8]
    found = velocity_scales(
        Strength.of(rhythm), Strength.of(source), {"CY": "CY", "KD": "KD"}, is_written=False
    )
    assert found["KD"] * 0.9 == pytest.approx(0.8)
    assert 0.4 < 0.4 * found["CY"] < 0.5  # it is softer than the source's, as it was softer than the kick
