from dataclasses import replace

import bench_kits as module
import numpy as np
import pytest
import torch
from bench_kits import KitBench, divided, measure, report, write_one_shots

from training.data.kit_folder import read_kit_folder
from training.data.pack import PackError
from training.data.segments import SegmentSettings
from training.data.synthesis import SynthesisSettings
from training.train import kit as train_kit
from training.train import kit_preset
from training.train.kit import KitTraining
from transform.errors import SettingsError


def layered(kit, name, split="test"):
    """Return a kit of three layers a voice, 6 dB apart."""
    voices = [("KD", ""), ("SD", ""), ("HH", "closed"), ("HH", "open")]
    made = kit(name, split, voices=[voice for voice in voices for _ in range(3)])
    shots = tuple(replace(shot, level_db=-6.0 * (i % 3)) for i, shot in enumerate(made.one_shots))
    return replace(made, one_shots=shots)


def test_given_and_judging_hits_are_of_the_same_voices_and_none_is_both(kit):
    whole = layered(kit, "made")
    given, left = divided(whole, 6, seed=0)
    voices = [{(s.drum_class, s.articulation) for s in each.one_shots} for each in (given, left)]
    assert voices[0] == voices[1] == {("KD", ""), ("SD", ""), ("HH", "closed"), ("HH", "open")}
    assert (len(given.one_shots), len(left.one_shots)) == (6, 6)
    assert not {id(s) for s in given.one_shots} & {id(s) for s in left.one_shots}
    with pytest.raises(PackError, match="no layers beside 12 one-shots"):
        divided(whole, 12, seed=0)


def test_one_shots_come_back_as_they_were_written(kit, tmp_path):
    given, _ = divided(layered(kit, "made"), 8, seed=1)
    write_one_shots(given, tmp_path)
    found = read_kit_folder(tmp_path)
    assert not found.left_out
    loudest = max(shot.level_db for shot in given.one_shots)

    def told(one, loudest_db):
        levels = [(s.drum_class, s.articulation, round(s.level_db - loudest_db, 2)) for s in one.one_shots]
        return sorted(levels), sorted(float(s.samples.abs().sum()) for s in one.one_shots)

    (levels, sums), (levels_before, sums_before) = told(found.kit, 0.0), told(given, loudest)
    assert levels == levels_before
    assert sums == pytest.approx(sums_before, rel=0.01)  # tails end where nothing is heard of them


class Judge:
    """Hears nothing."""

    def infer(self, audio):
        return None

    def events(self, activations):
        return []


def test_the_bench_trains_measures_and_goes_on(kit, groove, hit, write_untrained, tmp_path, monkeypatch):
    for place in (train_kit, kit_preset):
        monkeypatch.setattr(place, "shipped_grooves", lambda: [groove("a"), groove("b", "validate")])
        monkeypatch.setattr(place, "other_recordings", lambda settings, device: [hit("SD", 5, length_s=0.5)])
    monkeypatch.setattr(train_kit, "_demo_loops", lambda: [("loop", torch.from_numpy(hit("CY", length_s=3.0)))])
    monkeypatch.setattr(module, "load_evaluation_transcriber", Judge)
    pack = module.Pack(
        (layered(kit, "dsyn-a"), kit("dsyn-b", "test"), kit("known", "train")), (groove("held", "test"),), ()
    )
    training = KitTraining(
        steps=2,
        batch=1,
        validate_every=2,
        n_validation=2,
        n_scored=2,
        pool_size=1,
        synthesis=SynthesisSettings(n_samples=22_050),
        kit_sounds=replace(KitTraining().kit_sounds, n_samples=22_050),
        pieces=SegmentSettings(n_samples=8192, per_recording=2),
    )
    settings = KitBench(kits=("dsyn-a",), n_one_shots=6, n_recordings=2, training=training)
    preset = write_untrained(tmp_path / "base")
    told = []
    result = measure(pack, preset, tmp_path / "out", settings, told.append)
    assert told == ["dsyn-a: training", "dsyn-a: measuring"]
    rows = {(row["what"], row["kit"]): row for row in result["rows"]}
    assert {kit for _, kit in rows} == {"all", "dsyn-a"}
    for row in result["rows"]:
        mel = row["log_mel_db"]
        assert mel["change"] == pytest.approx(mel["after"] - mel["before"])
        assert mel["low"] <= mel["change"] <= mel["high"]
        assert row["onset_f_20"] == {"before": 0.0, "after": 0.0, "change": 0.0, "low": 0.0, "high": 0.0}
    others = [e for e in result["items"] if e["what"].startswith("other kits of its side")]
    assert {e["rhythm"] for e in others} <= {"dsyn-b"}
    written = (tmp_path / "out" / "dsyn-a" / "preset" / "preset.toml").stat().st_mtime_ns
    again = measure(pack, preset, tmp_path / "out", settings, told.append)
    assert again["rows"] == result["rows"]
    assert (tmp_path / "out" / "dsyn-a" / "preset" / "preset.toml").stat().st_mtime_ns == written
    with pytest.raises(PackError, match="no held-out kit called known"):
        measure(pack, preset, tmp_path / "out", replace(settings, kits=("known",)), told.append)


@pytest.mark.parametrize(("after", "f_after", "said"), [(2.0, 0.9, "yes"), (2.9, 0.8, "NO")])
def test_the_report_says_whether_the_bar_is_met(after, f_after, said):
    scores = [{"log_mel_db": d, "onset_f_20": f, "class_f_50": f} for d, f in ((3.0, 0.9), (after, f_after))]
    entry = {"what": "held-out layers, oracle through the codec", "kit": "k", "rhythm": "r"}
    entries = [entry | {"before": scores[0], "after": scores[1]} for _ in range(5)]
    text = report({"rows": module._rows(entries)})
    lower = 100 * (3.0 - after) / 3.0
    assert f"| 3.00 dB | {after:.2f} dB | {lower:.1f} % ({lower:.1f} to {lower:.1f})" in text
    assert f"At least 15 % lower on held-out layers, interval below 0: {said}" in text
    assert f"No rhythm score lower by more than .01: {said} ({f_after - 0.9:+.3f})" in text


def test_impossible_settings_are_refused():
    for wrong in ({"minutes": 0.0}, {"n_recordings": 0}):
        with pytest.raises(SettingsError):
            KitBench(**wrong)
    assert np.isfinite(KitBench().minutes)
