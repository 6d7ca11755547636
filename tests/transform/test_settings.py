import pytest

from transform.errors import SettingsError
from transform.settings import RenderSettings, read_options


def test_impossible_settings_are_usage_errors(subtests):
    cases = [
        {"engine": "magic"},
        {"length": -1.0},
        {"length": "long"},
        {"mix": 1.5},
        {"timing": -0.1},
        {"velocity": "loud"},
        {"velocity": 0.0},
        {"tail": "fade"},
        {"align": "bars"},
        {"source_bpm": -120.0},
        {"rhythm_bpm": "fast"},
        {"start_s": -1.0},
        {"start_s": float("nan")},
        {"classes": ("XX",)},
        {"classes": ("",)},
        {"classes": ("KD", "SD", "KD")},
        {"gain_db": {"XX": 1.0}},
        {"gain_db": {"KD": float("inf")}},
        {"sensitivity": {"XX": 0.5}},
        {"sensitivity": {"SD": 1.5}},
        {"sensitivity": {"SD": float("nan")}},
        {"seed": -1},
        {"engine": "latent", "variation": -0.1},
        {"variation": 0.5},
        {"engine": "latent", "attack": "soft"},
        {"attack": "none"},
        {"tune_toms": "on"},
        {"tune_toms": True, "engine": "latent"},
    ]
    for wrong in cases:
        with subtests.test(wrong=wrong):
            with pytest.raises(SettingsError) as caught:
                RenderSettings(**wrong)
            assert caught.value.exit_code == 2
            assert caught.value.hint


def test_tuning_toms_is_on_or_off():
    assert read_options(RenderSettings, {"tune_toms": "on"}) == {"tune_toms": True}
    assert read_options(RenderSettings, {"tune_toms": "off"}) == {"tune_toms": False}
    with pytest.raises(SettingsError, match="--tune-toms"):
        read_options(RenderSettings, {"tune_toms": "yes"})


def test_numbers_by_class_are_read_and_a_wrong_one_is_named():
    given = read_options(RenderSettings, {"sensitivity": ["sd=-0.5", "HH=1"], "gain_db": ["KD=-6"]})
    assert given == {"sensitivity": {"SD": -0.5, "HH": 1.0}, "gain_db": {"KD": -6.0}}
    for text in ("SD", "SD=", "SD=soft"):
        with pytest.raises(SettingsError, match=r"--sensitivity is .*it must be CLASS=-1\.\.1"):
            read_options(RenderSettings, {"sensitivity": [text]})
