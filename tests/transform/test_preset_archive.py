import hashlib
import os
import pickle
import shutil
import stat
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from transform.errors import CheckpointError, OutputError
from transform.preset_archive import MAX_FILE_BYTES, export_preset, import_preset
from transform.presets import list_presets, load_preset, user_folder

TOML = """format = 1
name = "{name}"
configuration = "hires"
classes = ["KD", "SD", "TT", "HH", "CY"]
sample_rate = 44100

[models.transcriber]
file = "{file}"
sha256 = "{sha256}"
parameters = 4
"""
WEIGHTS = save({"weight": np.arange(4, dtype=np.float16)})


@pytest.fixture(autouse=True)
def data_folder(tmp_path, monkeypatch):
    folder = tmp_path / "user data"
    monkeypatch.setenv("REDRUM_DATA", str(folder))
    return folder


def toml_of(weights=WEIGHTS, name="mine", file="transcriber.safetensors"):
    return TOML.format(name=name, file=file, sha256=hashlib.sha256(weights).hexdigest()).encode()


@pytest.fixture
def archive(tmp_path):
    """Return a function that writes an archive: a sound preset, with some files replaced, added or None."""

    def write(files=(), *, name="mine.redrum"):
        sound = {"preset.toml": toml_of(), "CARD.md": b"# Mine\n", "transcriber.safetensors": WEIGHTS}
        path = tmp_path / name
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as opened:
            for entry, data in (sound | dict(files)).items():
                if data is not None:
                    opened.writestr(entry, data)
        return path

    return write


def test_a_preset_comes_through_unharmed(archive, data_folder, tmp_path):
    preset = import_preset(archive())
    assert preset.folder == data_folder / "presets" / "mine"
    assert "mine" in list_presets()
    assert load_preset("mine").weights("transcriber").read_bytes() == WEIGHTS
    for name in ("a b.redrum", "ドラム.redrum"):
        export_preset(load_preset("mine"), tmp_path / name)
    assert (tmp_path / "a b.redrum").read_bytes() == (tmp_path / "ドラム.redrum").read_bytes()
    before = {path.name: path.read_bytes() for path in preset.folder.iterdir()}
    shutil.rmtree(preset.folder)
    again = import_preset(tmp_path / "ドラム.redrum")
    assert {path.name: path.read_bytes() for path in again.folder.iterdir()} == before


def test_a_preset_of_the_papers_size_comes_through(data_folder, tmp_path):
    # Its files in the paper's configuration: encoder, generator, rhythm transformer, separator, transcriber.
    folder = tmp_path / "large"
    folder.mkdir()
    toml, table = TOML.format(name="large", file="a.safetensors", sha256="0" * 64).partition("[models.")[0], ""
    for i, size in enumerate((10_990_576, 21_369_658, 6_323_206, 2_178_294, 2_520_520)):
        weights = save({"weight": np.zeros(size // 2 - 64, dtype=np.float16)})
        (folder / f"{i}.safetensors").write_bytes(weights)
        table += f'[models.m{i}]\nfile = "{i}.safetensors"\nparameters = 1\n'
        table += f'sha256 = "{hashlib.sha256(weights).hexdigest()}"\n'
    (folder / "preset.toml").write_text(toml + table, encoding="utf-8")
    export_preset(load_preset(folder), tmp_path / "large.redrum")
    assert len(import_preset(tmp_path / "large.redrum").models) == 5


def test_what_could_not_be_imported_is_not_exported(tmp_path, monkeypatch):
    monkeypatch.setattr("transform.preset_archive.MAX_FILE_BYTES", len(WEIGHTS) - 1)
    (tmp_path / "preset.toml").write_bytes(toml_of())
    (tmp_path / "transcriber.safetensors").write_bytes(WEIGHTS)
    with pytest.raises(CheckpointError, match="preset mine has 0 MB") as refused:
        export_preset(load_preset(tmp_path), tmp_path / "mine.redrum")
    assert "--preset DIR" in refused.value.hint
    assert not (tmp_path / "mine.redrum").exists()


class Evil:
    def __reduce__(self):
        return (Path("owned").write_text, ("owned",))


PICKLE = pickle.dumps(Evil())
NAN = save({"weight": np.array([1, np.nan], dtype=np.float16)})
HUGE = save({"weight": np.array([1, 1e38], dtype=np.float32)})
ENDLESS = save(
    {"weight": np.arange(4, dtype=np.float16)},
    {"model": "transcriber", "config": '{"dilations": [1, 1000000000]}'},
)
LINK = zipfile.ZipInfo("CARD.md")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16


def test_hostile_archives_are_refused(archive, data_folder, tmp_path, monkeypatch, subtests):
    cases = [
        ({"../escaped.safetensors": WEIGHTS}, "is no file of a preset"),
        ({"/escaped.safetensors": WEIGHTS}, "is no file of a preset"),
        ({"..\\escaped.safetensors": WEIGHTS}, "is no file of a preset"),
        ({"C:escaped.safetensors": WEIGHTS}, "is no file of a preset"),
        ({"sub/transcriber.safetensors": WEIGHTS}, "is no file of a preset"),
        ({"weights.pkl": PICKLE}, "'weights.pkl' is no file of a preset"),
        ({"run.py": b"print()"}, "is no file of a preset"),
        (
            {"transcriber.safetensors": PICKLE, "preset.toml": toml_of(PICKLE)},
            "transcriber.safetensors holds no weights",
        ),
        *(
            ({"transcriber.safetensors": data, "preset.toml": toml_of(data)}, sentence)
            for data, sentence in (
                (NAN, "holds no weights of a model: it has weights that are no numbers"),
                (HUGE, "it has weights that are no numbers, or above 65,504: weight"),
                (ENDLESS, "configuration cannot be read: dilations"),
            )
        ),
        ({"preset.toml": b"a." * 20_000 + b"b = 1\n" + toml_of()}, "its keys have too many parts"),
        ({"transcriber.safetensors": WEIGHTS[:-1] + b"?"}, "damaged: its checksum"),
        ({"transcriber.safetensors": None}, "is missing"),
        ({"other.safetensors": WEIGHTS}, "does not describe other.safetensors"),
        ({"Transcriber.safetensors": WEIGHTS}, "two files of one name"),
        ({"CARD.md": None, LINK: b"/etc/passwd"}, "is a link"),
        ({"preset.toml": None}, "has no preset.toml"),
        ({"preset.toml": toml_of() + b"\n[more]\nx = 1\n"}, "unknown entry: more"),
        ({"preset.toml": toml_of(name="../../mine")}, "cannot name a preset"),
        ({"preset.toml": toml_of(name="con")}, "cannot name a preset"),
        ({"preset.toml": toml_of(name="aux.x")}, "cannot name a preset"),
        ({"preset.toml": toml_of(name="lpt1")}, "cannot name a preset"),
        ({"preset.toml": toml_of(name="mine.")}, "cannot name a preset"),
        ({"preset.toml": toml_of(name="a" * 300)}, "cannot name a preset"),
        ({"preset.toml": toml_of(file="../transcriber.safetensors")}, "describes"),
        ({"preset.toml": toml_of().replace(b"format = 1", b"format = 99")}, "format 99"),
        ({f"{n}.safetensors": b"" for n in range(20)}, "it holds 23 files"),
    ]
    for files, sentence in cases:
        with subtests.test(files=files, sentence=sentence):
            monkeypatch.chdir(tmp_path)
            path = archive(files)
            before = set(tmp_path.rglob("*"))
            with pytest.raises(CheckpointError, match=sentence) as refused:
                import_preset(path)
            assert refused.value.hint
            assert set(tmp_path.rglob("*")) == before
            assert not data_folder.exists()


def test_zip_bombs_are_refused_before_they_grow(archive, data_folder):
    bomb = archive({"transcriber.safetensors": bytes(MAX_FILE_BYTES + 1)})
    assert bomb.stat().st_size < 100_000
    with pytest.raises(CheckpointError, match="larger than a preset may be"):
        import_preset(bomb)
    many = archive({f"{n}.safetensors": bytes(MAX_FILE_BYTES) for n in range(3)})
    with pytest.raises(CheckpointError, match="larger than a preset may be"):
        import_preset(many)
    assert not data_folder.exists()


def test_a_size_that_lies_is_refused(archive, data_folder):
    # What the directory of the archive says is not what comes out.
    bomb = archive({"transcriber.safetensors": bytes(MAX_FILE_BYTES + 1)})
    data = bytearray(bomb.read_bytes())
    at = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1) + 1)
    data[at + 24 : at + 28] = (100).to_bytes(4, "little")
    bomb.write_bytes(data)
    with pytest.raises(CheckpointError):
        import_preset(bomb)
    assert not data_folder.exists()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "does not exist"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_bytes(b""), "is no preset, or damaged"),
        (lambda path: path.write_bytes(PICKLE), "is no preset, or damaged"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path, make, sentence):
    path = tmp_path / "mine.redrum"
    make(path)
    with pytest.raises(CheckpointError, match=sentence):
        import_preset(path)


def test_a_damaged_archive_is_refused(archive, data_folder):
    path = archive()
    data = bytearray(path.read_bytes())
    data[40:60] = bytes(20)
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        import_preset(path)
    assert not data_folder.exists()


def test_no_preset_is_ever_replaced(archive):
    first = import_preset(archive())
    before = first.folder.joinpath("preset.toml").read_bytes()
    other = save({"weight": np.ones(4, dtype=np.float16)})
    path = archive({"transcriber.safetensors": other, "preset.toml": toml_of(other)})
    with pytest.raises(OutputError, match="a preset called mine already"):
        import_preset(path)
    assert first.folder.joinpath("preset.toml").read_bytes() == before
    with pytest.raises(OutputError, match="a preset called default already"):
        import_preset(archive({"preset.toml": toml_of(name="default")}))
    assert load_preset("default").folder.parent != user_folder() / "presets"


@pytest.mark.parametrize("kind", ["dangling", "empty folder", "full folder"])
def test_nothing_is_imported_through_a_link(archive, data_folder, tmp_path, kind):
    elsewhere = tmp_path / "elsewhere"
    if kind != "dangling":
        elsewhere.mkdir()
    if kind == "full folder":
        (elsewhere / "letter.txt").write_text("keep me")
    (data_folder / "presets").mkdir(parents=True)
    link = data_folder / "presets" / "mine"
    try:
        link.symlink_to(elsewhere, target_is_directory=True)
    except OSError:
        pytest.skip("this user may make no links")
    before = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*"))
    path = archive()
    with pytest.raises(OutputError, match="a preset called mine already") as caught:
        import_preset(path)
    assert str(link) in caught.value.hint
    path.unlink()
    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*")) == before
    link.unlink()
    import_preset(archive())
    assert link.is_dir()


def test_the_users_own_folder_may_be_a_link(archive, data_folder, tmp_path):
    (tmp_path / "other disk").mkdir()
    data_folder.mkdir()
    try:
        (data_folder / "presets").symlink_to(tmp_path / "other disk", target_is_directory=True)
    except OSError:
        pytest.skip("this user may make no links")
    import_preset(archive())
    assert (tmp_path / "other disk" / "mine" / "preset.toml").is_file()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "mine.redrum")
    with pytest.raises(CheckpointError, match="is not a file"):
        import_preset(tmp_path / "mine.redrum")


def test_what_a_card_leads_to_is_not_passed_on(archive, tmp_path):
    preset = import_preset(archive())
    (tmp_path / "secret").write_text("my key")
    card = preset.folder / "CARD.md"
    card.unlink()
    try:
        card.symlink_to(tmp_path / "secret")
    except OSError:
        pytest.skip("this user may make no links")
    with pytest.raises(CheckpointError, match=r"CARD\.md is a link"):
        export_preset(preset, tmp_path / "out.redrum")
    assert not (tmp_path / "out.redrum").exists()


@pytest.mark.parametrize("name", ["con", "../mine", "Mine", "mine "])
def test_a_preset_that_nobody_could_import_is_not_exported(archive, tmp_path, name):
    folder = import_preset(archive()).folder
    (folder / "preset.toml").write_bytes(toml_of(name=name))
    with pytest.raises(CheckpointError, match="cannot name a preset"):
        export_preset(load_preset(folder), tmp_path / "out.redrum")


def test_damaged_weights_are_not_exported(archive, tmp_path):
    preset = import_preset(archive())
    preset.folder.joinpath("transcriber.safetensors").write_bytes(b"other")
    with pytest.raises(CheckpointError, match="damaged"):
        export_preset(preset, tmp_path / "out.redrum")
    assert not (tmp_path / "out.redrum").exists()
