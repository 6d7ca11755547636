import pytest

from transform.errors import SettingsError
from transform.options import read_options, write_options
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


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("mix", "70%", 0.7),
        ("timing", " .5 ", 0.5),
        ("balance", "0,25", 0.25),
        ("source_bpm", "120,5 BPM", 120.5),
        ("rhythm_bpm", "Auto", "auto"),
        ("length", "4s", 4.0),
        ("start_s", "1.5 s", 1.5),
        ("velocity", "80%", 0.8),
        ("classes", "kick, Snare,toms,Hi-Hats,crash", ("KD", "SD", "TT", "HH", "CY")),
        ("gain_db", ["hats=-6dB", "KD=+2,5 dB"], {"HH": -6.0, "KD": 2.5}),
    ],
)
def test_values_are_read_as_musicians_write_them(field, text, value):
    assert read_options(RenderSettings, {field: text}) == {field: value}


@pytest.mark.parametrize(
    ("field", "text"),
    [
        ("mix", "70 dB"),
        ("mix", "a lot"),
        ("mix", "nan"),
        ("start_s", "1:30"),
        ("gain_db", ["HH=-6s"]),
        ("classes", "kik"),
    ],
)
def test_values_that_mean_nothing_are_refused(field, text):
    with pytest.raises(SettingsError) as caught:
        read_options(RenderSettings, {field: text})
    assert caught.value.hint


def test_options_that_are_written_are_read_as_they_were():
    given = {
        "gain_db": {"HH": -6.0, "KD": 2.5},
        "classes": ("KD", "SD"),
        "tune_toms": True,
        "kit_from": ("a b", "c"),
    }
    given |= {"source_bpm": 120.5, "length": "source"}
    words = [word.removeprefix("--").split("=", 1) for word in write_options(RenderSettings, given)]
    fields = {"gain": "gain_db", "tune-toms": "tune_toms", "kit-from": "kit_from", "source-bpm": "source_bpm"}
    texts = {}
    for name, text in words:
        if name in ("gain", "kit-from"):
            texts.setdefault(fields[name], []).append(text)
        else:
            texts[fields.get(name, name)] = text
    assert read_options(RenderSettings, texts) == given
