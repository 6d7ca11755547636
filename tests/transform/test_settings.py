import pytest

from transform.errors import SettingsError
from transform.settings import RenderSettings


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
    ]
    for wrong in cases:
        with subtests.test(wrong=wrong):
            with pytest.raises(SettingsError) as caught:
                RenderSettings(**wrong)
            assert caught.value.exit_code == 2
            assert caught.value.hint
