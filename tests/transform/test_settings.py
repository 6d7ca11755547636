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
