import json

from training.train.reports import draw_curves, read_log


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
