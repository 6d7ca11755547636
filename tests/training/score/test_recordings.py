from collections import Counter

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

from training.__main__ import app
from training.score.recordings import (
    AnnotationError,
    FolderScore,
    read_annotations,
    report,
    score_events,
    score_folder,
)
from training.score.scores import Counts, pooled
from transform.errors import AudioError
from transform.events import DrumEvent
from transform.transcriber import Transcriber, TranscriberConfig, TranscriberNet


def annotations(tmp_path, *rows, header="onset_s,class,articulation"):
    path = tmp_path / "track.csv"
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")
    return read_annotations(path)


def found(*events):
    return [DrumEvent(onset_s, drum_class, 0.5) for onset_s, drum_class in events]


def test_counts_and_confusions_of_a_track(tmp_path):
    truth = annotations(
        tmp_path, "0.0,KD,KD", "0.5,SD,SDG", "1.0,HH,CHH", "1.0,CY,CRC", "1.5,TT,LFT", "2.0,KD,KD", "2.5,CY,RDC"
    )
    detected = found(
        *((0.01, "KD"), (0.52, "SD"), (1.0, "HH"), (1.04, "TT"), (1.51, "KD"), (2.06, "KD"), (2.49, "HH")),
        (3.0, "SD"),
    )
    score = score_events(truth, detected)
    assert score.counts == {
        "KD": Counts(1, 2, 3),
        "SD": Counts(1, 1, 2),
        "TT": Counts(0, 1, 1),
        "HH": Counts(1, 1, 2),
        "CY": Counts(0, 2, 0),
    }
    assert score.confusion == Counter(
        {
            ("KD", "KD"): 1,
            ("SD", "SD"): 1,
            ("HH", "HH"): 1,
            ("CY", "TT"): 1,
            ("TT", "KD"): 1,
            ("CY", "HH"): 1,
            ("KD", "-"): 1,
            ("-", "KD"): 1,
            ("-", "SD"): 1,
        }
    )


def test_another_stroke_excuses_one_snare_and_nothing_else(tmp_path):
    truth = annotations(tmp_path, "0.5,OT,SST", "1.0,OT,SST", "1.5,OT,SST", "1.52,SD,SD", "2.0,OT,SST")
    score = score_events(
        truth, found((0.54, "SD"), (1.0, "SD"), (1.02, "SD"), (1.5, "SD"), (2.0, "HH"), (2.06, "SD"))
    )
    # 0.54 and one of 1.00 and 1.02 are excused, 1.5 is the snare's, 2.06 is too far.
    assert score.counts["SD"] == Counts(1, 1, 3)
    assert score.counts["HH"] == Counts(0, 0, 1)
    assert score.confusion["OT", "SD"] == 2
    assert score.confusion["OT", "HH"] == 1
    assert score_events(truth, []).counts["SD"] == Counts(0, 1, 0)


def test_precision_and_recall():
    counts = Counts(matched=3, expected=4, detected=6)
    assert (counts.precision, counts.recall, counts.f_measure) == (0.5, 0.75, 0.6)
    assert (Counts().precision, Counts().recall) == (1.0, 1.0)


def test_rows_may_come_in_any_order_and_without_articulations(tmp_path):
    made = annotations(tmp_path, "1.5,SD", "0.25,KD", header="onset_s,class")
    assert [(a.onset_s, a.drum_class, a.articulation) for a in made] == [(0.25, "KD", ""), (1.5, "SD", "")]
    with pytest.raises(AnnotationError, match=r"track\.csv holds no strokes"):
        annotations(tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("onset_s,class\n0.5,KD\n0.7,BD\n", "track.csv, line 3: there is no class 'BD'"),
        ("onset_s,class\n-0.5,KD\n", "track.csv, line 2: '-0.5' is no time"),
        ("onset_s,class\nnan,KD\n", "track.csv, line 2: 'nan' is no time"),
        ("onset_s,class\nsoon,KD\n", "track.csv, line 2: 'soon' is no time"),
        ("onset_s,class\n0.5\n", "track.csv, line 2: there is no class ''"),
        ("onset_s;class\n0.5;KD\n", "track.csv does not begin with onset_s,class"),
        ("onset_s\tclass\n0.5\tKD\n", "track.csv does not begin with onset_s,class"),
        ("0.5,KD\n0.7,SD\n", "track.csv does not begin with onset_s,class"),
        ("", "track.csv does not begin with onset_s,class"),
        (b"\xff\xfe\x00\x81onset_s", "track.csv is no CSV file that can be read"),
    ],
)
def test_a_bad_annotation_is_a_sentence(tmp_path, text, complaint):
    path = tmp_path / "track.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path)
    assert caught.value.message == complaint
    assert caught.value.hint


@pytest.fixture
def untrained():
    torch.manual_seed(0)
    config = TranscriberConfig(widths=(4, 4, 8, 8), d_model=16, dilations=(1,), thresholds=(0.99,) * 5)
    return Transcriber(TranscriberNet(config).eval())


def write_track(folder, name, rows, *, length_s=1.0, sample_rate=44_100):
    sound = np.random.default_rng(0).uniform(-0.1, 0.1, round(length_s * sample_rate))
    soundfile.write(folder / name, sound, sample_rate)
    if rows is not None:
        (folder / name).with_suffix(".csv").write_text("onset_s,class\n" + rows, encoding="utf-8")


def test_each_recording_of_a_folder_is_scored_and_what_cannot_be_is_named(untrained, tmp_path):
    write_track(tmp_path, "good.flac", "0.5,KD\n0.7,SD\n")
    write_track(tmp_path, "phone.wav", "0.5,CY\n", sample_rate=8_000)
    write_track(tmp_path, "short.wav", "0.0,HH\n", length_s=0.005)
    write_track(tmp_path, "bare.wav", None)
    write_track(tmp_path, "wrong.wav", "0.5,XX\n")
    write_track(tmp_path, "late.wav", "7.5,KD\n")
    (tmp_path / "broken.wav").write_bytes(b"no sound")
    (tmp_path / "broken.csv").write_text("onset_s,class\n0.5,KD\n", encoding="utf-8")
    (tmp_path / "alone.csv").write_text("onset_s,class\n", encoding="utf-8")
    (tmp_path / "notes.txt").write_text("anything", encoding="utf-8")
    score = score_folder(untrained, tmp_path)
    assert list(score.tracks) == ["good.flac", "phone.wav", "short.wav"]
    assert {c: n.expected for c, n in score.pooled.counts.items()} == dict.fromkeys(
        ("KD", "SD", "HH", "CY"), 1
    ) | {"TT": 0}
    messages = " | ".join(err.message for err in score.left_out)
    assert len(score.left_out) == 5
    for part in ("alone.csv has no audio", "bare.csv is missing", "'XX'", "at 7.5 s", "broken.wav"):
        assert part in messages


def test_a_folder_without_recordings_is_a_sentence(untrained, tmp_path):
    for folder, complaint in (
        (tmp_path, "holds no audio files"),
        (tmp_path / "no", "no folder that can be read"),
    ):
        with pytest.raises(AudioError, match=complaint):
            score_folder(untrained, folder)


def test_the_report_has_every_recording_and_all_of_them(tmp_path):
    first = score_events(annotations(tmp_path, "0.5,KD"), found((0.5, "KD"), (0.9, "SD")))
    second = score_events(annotations(tmp_path, "0.5,KD"), [])
    score = FolderScore({"a.wav": first, "b.wav": second}, [])
    assert pooled(score.pooled.counts) == Counts(1, 2, 2)
    lines = [line.split() for line in report(score)]
    rows = {line[0]: line for line in lines if line}
    assert rows["a.wav"][1:4] == ["1.000", "(1.00", "1.00)"]
    assert rows["b.wav"][1:4] == ["0.000", "(1.00", "0.00)"]
    assert rows["all"][-3:] == ["0.500", "(0.50", "0.50)"]
    assert rows["KD"] == ["KD", "1", "0", "0", "0", "0", "1"]
    assert rows["-"] == ["-", "0", "1", "0", "0", "0", "0"]


def test_the_command_scores_the_rest_and_says_what_is_wrong(write_untrained, tmp_path):
    write_untrained(tmp_path / "preset")
    folder = tmp_path / "recordings"
    folder.mkdir()
    write_track(folder, "good.wav", "0.5,KD\n")
    command = ["score", "--preset", str(tmp_path / "preset"), "--recordings", str(folder)]
    scored = CliRunner().invoke(app, command)
    assert scored.exit_code == 0, scored.stderr
    assert "good.wav" in scored.stdout
    write_track(folder, "bare.wav", None)
    scored = CliRunner().invoke(app, command)
    assert scored.exit_code == 1
    assert "good.wav" in scored.stdout
    assert scored.stderr == "redrum: bare.csv is missing: its recording has no annotations\n"
    neither = CliRunner().invoke(app, command[:3])
    assert neither.exit_code == 2
    assert "either --data or --recordings" in neither.stderr
