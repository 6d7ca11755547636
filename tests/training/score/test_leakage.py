import numpy as np
import pytest
import soundfile

from training.score.leakage import leakage_db, leakage_table
from transform.engine import Redrummer

RATE = 44_100


def stem_of(onsets_s, before):
    """Return a stem whose strokes are 30 ms of 1, with 30 ms of another value before them."""
    stem = np.zeros((1, 3 * RATE), dtype=np.float32)
    for onset_s in onsets_s:
        at = round(onset_s * RATE)
        stem[0, at - 1323 : at], stem[0, at : at + 1323] = before, 1.0
    return stem


def test_leakage_is_the_level_before_a_stroke_against_that_after_it():
    onsets_s = [0.5, 1.0, 1.5, 2.0]
    assert leakage_db(stem_of(onsets_s, 0.1), onsets_s, RATE) == pytest.approx(-20, abs=0.1)
    assert leakage_db(stem_of(onsets_s, 1.0), onsets_s, RATE) == pytest.approx(0, abs=0.1)
    assert leakage_db(stem_of(onsets_s, 0.0), onsets_s, RATE) < -100


def test_strokes_that_follow_others_closely_are_left_out():
    onsets_s = [0.5, 1.0, 1.5, 2.0]
    close = sorted([*onsets_s, 0.55, 1.05])
    assert leakage_db(stem_of(onsets_s, 0.1), close, RATE) == pytest.approx(-20, abs=0.1)
    assert leakage_db(stem_of(onsets_s, 0.1), onsets_s[:3], RATE) is None  # too few
    assert leakage_db(stem_of(onsets_s, 0.1), [0.01, *onsets_s[:2], 2.99], RATE) is None  # at the ends


def test_what_cannot_be_scored_is_named_and_the_rest_is(tmp_path):
    onsets_s = [0.5, 1.0, 1.5, 2.0]
    time_s = np.arange(RATE // 4) / RATE
    kick = np.cos(2 * np.pi * 70 * time_s) * np.exp(-time_s / 0.05)
    sound = np.zeros(3 * RATE)
    for onset_s in onsets_s:
        sound[round(onset_s * RATE) :][: len(kick)] += 0.8 * kick
    soundfile.write(tmp_path / "good.wav", sound, RATE)
    (tmp_path / "good.csv").write_text("onset_s,class\n" + "".join(f"{t},KD\n" for t in onsets_s))
    soundfile.write(tmp_path / "bare.wav", sound, RATE)
    soundfile.write(tmp_path / "silent.wav", 0 * sound, RATE)
    (tmp_path / "silent.csv").write_text("onset_s,class\n0.5,KD\n")
    table, left_out = leakage_table(Redrummer.load(), tmp_path)
    assert list(table) == ["good.wav", "all recordings"]
    assert table["good.wav"]["KD"] < -20
    assert table["good.wav"]["SD"] is None
    assert table["good.wav"]["own rhythm"] < 5
    assert [err.message.split()[0] for err in left_out] == ["bare.csv", "no"]
