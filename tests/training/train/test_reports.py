import json

import numpy as np
from matplotlib.image import imread

from training.train.reports import Spectrograms, draw_curves, read_log


def test_log_is_read_by_step_and_the_later_entry_counts(tmp_path):
    log = tmp_path / "run.jsonl"
    entries = [{"step": 40, "loss": 2.0}, {"step": 20, "loss": 3.0}, {"step": 40, "loss": 1.5}]
    log.write_text("\n".join(map(json.dumps, entries)) + '\n{"step": 60, "lo')
    assert read_log(log) == [{"step": 20, "loss": 3.0}, {"step": 40, "loss": 1.5}]


def test_picture_is_drawn_again_and_again(tmp_path):
    log, picture = tmp_path / "run.jsonl", tmp_path / "curves.png"
    log.write_text("")
    assert draw_curves(log, picture)
    empty = picture.read_bytes()
    scores = {"KD": 0.9, "micro": 0.8}
    log.write_text("".join(json.dumps({"step": s, "loss": 1 / s, "scores": scores}) + "\n" for s in (20, 40)))
    assert draw_curves(log, picture)
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.read_bytes() != empty
    assert sorted(path.name for path in tmp_path.iterdir()) == ["curves.png", "run.jsonl"]


def test_spectrograms_show_what_is_made_of_fixed_recordings_and_the_strokes_found(tmp_path):
    low, high = (np.sin(2 * np.pi * hz * np.arange(44_100) / 44_100).astype(np.float32) for hz in (100, 9000))
    pictures = Spectrograms(tmp_path, {"original": [low, high]})
    pictures.write(1, {"decoded": [low, high]})
    pictures.write(2, {"decoded": [low, low]})
    pictures.write(3, {"decoded": [low, high]}, onsets_s=[{"KD": [0.2, 0.7]}])
    first, other, struck = (imread(tmp_path / "samples" / f"000000{step}.png") for step in (1, 2, 3))
    height, width = first.shape[0] // 2, first.shape[1] // 2
    changed = [(first != picture).any(axis=-1) for picture in (other, struck)]
    assert changed[0][height:, width:].mean() > 0.1  # the second recording, as it was decoded
    assert not changed[0][:height].any()
    assert not changed[0][:, :width].any()
    assert changed[1][:height, :width].any()  # strokes, over the first original
    assert not changed[1][height:].any()
    assert not changed[1][:, width:].any()
