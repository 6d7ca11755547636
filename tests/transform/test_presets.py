import hashlib
import os
import tomllib

import pytest

from transform.errors import CheckpointError
from transform.events import CLASSES
from transform.presets import list_presets, load_preset, user_folder

WEIGHTS = b"sixteen bytes..."


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    folder = tmp_path / "user data"
    monkeypatch.setenv("REDRUM_DATA", str(folder))
    return folder


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_among_the_presets_is_none(data_folder):
    (data_folder / "presets" / "evil").mkdir(parents=True)
    os.mkfifo(data_folder / "presets" / "evil" / "preset.toml")
    assert list_presets() == ["default"]


def test_data_folder_follows_the_platform_without_the_variable(monkeypatch):
    monkeypatch.delenv("REDRUM_DATA")
    assert user_folder().is_absolute()
    assert user_folder().name == "redrum"


@pytest.fixture
def preset(tmp_path):
    """Return a function that writes a preset folder, with lines of its preset.toml replaced or added."""

    def write(replace=("", ""), add=""):
        folder = tmp_path / "preset"
        folder.mkdir()
        (folder / "transcriber.safetensors").write_bytes(WEIGHTS)
        text = f"""
            format = 1
            name = "tiny"
            configuration = "hires"
            classes = ["KD", "SD", "TT", "HH", "CY"]
            sample_rate = 44100

            [models.transcriber]
            file = "transcriber.safetensors"
            sha256 = "{hashlib.sha256(WEIGHTS).hexdigest()}"
            parameters = 7
            command = "redrum train transcriber"

            [data]
            kits = ["CC0-1.0"]

            [scores]
            "class F @50 ms" = 0.5
            {add}
        """
        assert replace[0] in text
        (folder / "preset.toml").write_text(text.replace(*replace), encoding="utf-8")
        return folder

    return write


def test_preset_is_read_whole(preset):
    folder = preset()
    loaded = load_preset(folder)
    assert (loaded.name, loaded.configuration, loaded.sample_rate) == ("tiny", "hires", 44_100)
    assert loaded.classes == CLASSES
    assert loaded.models["transcriber"].n_parameters == 7
    assert loaded.models["transcriber"].command == "redrum train transcriber"
    assert loaded.data == {"kits": ["CC0-1.0"]}
    assert loaded.scores == {"class F @50 ms": 0.5}
    assert loaded.weights("transcriber") == folder / "transcriber.safetensors"


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        (("format = 1", "format = 2"), "knows formats up to 1"),
        (("format = 1", "format = 0"), "never was"),
        (("format = 1", "format = true"), "no int"),
        (("format = 1", ""), "has no format"),
        (('name = "tiny"', 'name = "tiny"\nmood = "blue"'), "unknown entry: mood"),
        (("parameters = 7", "parameters = 7\nlayers = 3"), "unknown entry: models.transcriber.layers"),
        (('name = "tiny"', "name = 3"), "no str"),
        (('"hires"', '"huge"'), "configuration 'huge'"),
        (('"KD", "SD"', '"SD", "KD"'), "they must be"),
        (("44100", "0"), "sample rate of 0"),
        (("parameters = 7", "parameters = 0"), "describes"),
        (('file = "transcriber', 'file = "../transcriber'), "describes"),
        (('sha256 = "', 'sha256 = "x'), "describes"),
        (('"transcriber.safetensors"', '"other.safetensors"'), "other.safetensors is missing"),
        (("[models.transcriber]", "[models]\ntranscriber = 3\n[data.extra]"), "no dict"),
        (("format = 1", "format ="), "cannot be read"),
    ],
)
def test_wrong_preset_is_refused_with_a_sentence(preset, replace, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        load_preset(preset(replace))
    assert caught.value.hint


def test_damaged_weights_are_refused(preset):
    folder = preset()
    loaded = load_preset(folder)
    (folder / "transcriber.safetensors").write_bytes(WEIGHTS[::-1])
    with pytest.raises(CheckpointError, match="damaged"):
        loaded.weights("transcriber")


def test_weights_that_went_away_are_reported(preset):
    folder = preset()
    loaded = load_preset(folder)
    (folder / "transcriber.safetensors").unlink()
    with pytest.raises(CheckpointError, match="cannot be read"):
        loaded.weights("transcriber")


def test_model_that_the_preset_lacks_is_named(preset):
    with pytest.raises(CheckpointError, match="has no codec") as caught:
        load_preset(preset()).weights("codec")
    assert "transcriber" in caught.value.hint


def test_unknown_preset_is_refused(tmp_path):
    for name in ("no-such-preset", tmp_path):
        with pytest.raises(CheckpointError, match="there is no preset"):
            load_preset(name)


def test_every_shipped_preset_is_sound():
    assert "default" in list_presets()
    for name in list_presets():
        loaded = load_preset(name)
        assert loaded.name == name
        for model in loaded.models:
            assert loaded.weights(model).stat().st_size <= 15 * 2**20
        tomllib.loads((loaded.folder / "preset.toml").read_text(encoding="utf-8"))
        assert (loaded.folder / "CARD.md").is_file()
