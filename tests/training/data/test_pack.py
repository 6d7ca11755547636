import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from training.data.pack import PACK_FILES, PackError, load_pack, write_pack
from transform.errors import OutputError


def test_a_pack_holds_what_the_folder_holds(data_folder, tmp_path, hit):
    assert write_pack(data_folder, tmp_path / "pack") == {"kits": 12, "rhythms": 2, "loops": 1}
    pack = load_pack(tmp_path / "pack")

    assert [(kit.name, kit.kind, kit.split) for kit in pack.kits] == [
        ("made-1", "acoustic", "train"),
        ("timgm-1", "acoustic", "validate"),
    ]
    kick, snare = pack.kits[0].one_shots[:2]
    assert (kick.drum_class, kick.articulation, kick.level_db) == ("KD", "", 0.0)
    assert snare.level_db == -1.0
    # 50 samples of silence are gone, the rest is as it was, to 16 bits.
    assert np.allclose(kick.samples[:2000], hit("KD", 0)[:2000], atol=1e-4)
    assert {s.articulation for s in pack.kits[0].one_shots if s.drum_class == "HH"} == {"closed", "open"}

    assert [(groove.name, groove.split, groove.style) for groove in pack.grooves] == [
        ("one", "train", "rock"),
        ("two", "validate", "rock"),
    ]
    groove = pack.grooves_of("train")[0]
    assert groove.bpm == pytest.approx(120)
    assert groove.n_beats == pytest.approx(8)
    assert np.allclose(groove.onset_beats, np.arange(8) / 2)
    assert groove.class_index.tolist() == [0, 3, 1, 3, 0, 3, 2, 4]
    assert groove.articulation[1] == "closed"
    assert np.allclose(groove.velocity, 0.25 + np.arange(8) / 16, atol=1 / 127)

    name, side, samples = pack.loops[0]
    assert (name, side) == ("track_01", "train")
    assert np.allclose(samples, np.tile(hit("SD"), 4), atol=1e-4)


def test_a_rhythm_without_drums_is_left_out_and_named(data_folder, tmp_path, caplog):
    with caplog.at_level("INFO", logger="training"):
        write_pack(data_folder, tmp_path / "pack")
    assert "bongos left out: bongos holds no drum notes" in caplog.text


def test_sides_can_be_packed_alone(data_folder, tmp_path):
    assert write_pack(data_folder, tmp_path / "pack", splits=["train"]) == {"kits": 6, "rhythms": 1, "loops": 1}
    assert {kit.split for kit in load_pack(tmp_path / "pack").kits} == {"train"}


def test_a_pack_is_not_overwritten_unless_asked(data_folder, tmp_path):
    write_pack(data_folder, tmp_path / "pack")
    with pytest.raises(OutputError, match="exists already"):
        write_pack(data_folder, tmp_path / "pack")
    write_pack(data_folder, tmp_path / "pack", overwrite=True)


@pytest.mark.parametrize("part", ["kits", "rhythms", "loops"])
def test_a_missing_manifest_is_named(data_folder, tmp_path, part):
    (data_folder / part / "manifest.csv").unlink()
    with pytest.raises(PackError, match=rf"{part}.manifest.csv cannot be read") as caught:
        write_pack(data_folder, tmp_path / "pack")
    assert "docs/training.md" in caught.value.hint
    assert not (tmp_path / "pack").exists()


def edit(path, old, new):
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


def test_a_missing_column_is_named(data_folder, tmp_path):
    edit(data_folder / "kits" / "manifest.csv", "kit_level_db", "loudness")
    with pytest.raises(PackError, match="lacks the columns kit_level_db"):
        write_pack(data_folder, tmp_path / "pack")


def test_a_missing_sound_is_named(data_folder, tmp_path):
    next((data_folder / "kits" / "made-1").glob("SD*")).unlink()
    with pytest.raises(PackError, match=r"SD__1.flac is missing or no sound file"):
        write_pack(data_folder, tmp_path / "pack")
    assert not (tmp_path / "pack" / "kits.safetensors").exists()


def test_another_rate_is_refused_when_packing(data_folder, tmp_path, write_wav):
    wav = write_wav("odd.wav", np.ones(100), sample_rate=48_000)
    edit(data_folder / "loops" / "manifest.csv", "loops/track_01.flac", str(wav))
    with pytest.raises(PackError, match="48000 Hz"):
        write_pack(data_folder, tmp_path / "pack")


def test_a_folder_of_unused_kits_is_refused(data_folder, tmp_path):
    edit(data_folder / "kits" / "manifest.csv", "CC0-1.0", "unknown")
    for kit in ("made-1", "timgm-1"):
        edit(data_folder / "kits" / "manifest.csv", f",{kit},", ",synth-noise-1,")
    with pytest.raises(PackError, match="no usable kits or rhythms"):
        write_pack(data_folder, tmp_path / "pack")


@pytest.mark.parametrize("name", PACK_FILES)
def test_missing_and_truncated_files_are_named(data_folder, tmp_path, name):
    write_pack(data_folder, tmp_path / "pack")
    path = tmp_path / "pack" / name
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(PackError, match=f"{name} is no readable pack file"):
        load_pack(tmp_path / "pack")
    path.unlink()
    with pytest.raises(PackError, match=f"{name} is no readable pack file"):
        load_pack(tmp_path / "pack")


def test_another_format_is_refused(data_folder, tmp_path):
    write_pack(data_folder, tmp_path / "pack")
    path = tmp_path / "pack" / "kits.safetensors"
    tensors = load_file(path)
    save_file(tensors, path, metadata={"format": "redrum-pack 9", "table": json.dumps([])})
    with pytest.raises(PackError, match="format 'redrum-pack 9', not 'redrum-pack 1'"):
        load_pack(tmp_path / "pack")
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(PackError, match="format None"):
        load_pack(tmp_path / "pack")


def test_a_damaged_sound_is_a_sentence(data_folder, tmp_path):
    write_pack(data_folder, tmp_path / "pack")
    path = tmp_path / "pack" / "loops.safetensors"
    data = bytearray(path.read_bytes())
    at = data.index(b"fLaC")
    data[at : at + 4] = b"none"
    path.write_bytes(data)
    with pytest.raises(PackError, match="sound 0 of a pack cannot be decoded"):
        load_pack(tmp_path / "pack")
