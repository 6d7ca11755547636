import json
from dataclasses import replace

import numpy as np
import pytest
import soundfile

from transform.audio import Recording
from transform.errors import OutputError, RhythmError, SettingsError
from transform.session_file import EditSession, SourceFacts, read_session, write_session
from transform.settings import RenderSettings
from transform.strokes import Stroke, in_order


@pytest.fixture
def recording(write_wav, clicks):
    with Recording.open(write_wav("loop.wav", clicks([0.5], length_s=2.0))) as opened:
        yield opened


@pytest.fixture
def session(recording):
    detected = (Stroke("d0", "KD", 0.1, 0.7), Stroke("d1", "HH", 1 / 3, 0.123456789012345, "open"))
    settings = RenderSettings(
        seed=7, missing="borrow", gain_db={"HH": -3.0}, tune_toms=True, classes=("KD",), length=3.5
    )
    return EditSession(
        source=SourceFacts.of(recording),
        detected=detected,
        played=(
            detected[0],
            replace(detected[1], onset_s=0.7),
            Stroke("n:1", "TT", 1.5, 1.0, "floor"),
            Stroke("n:2", "HH", 1.6, 0.3, like="d1"),
        ),
        tempo=((0.0, 123.4),),
        beats_per_bar=3.0,
        downbeat_s=-0.25,
        settings=settings,
    )


@pytest.fixture
def changed(session, tmp_path):
    """Return a function that writes the session's file with entries changed, at a path of keys."""

    def write(value, *keys):
        write_session(tmp_path / "whole.json", session, overwrite=True)
        data = json.loads((tmp_path / "whole.json").read_text())
        inner = data
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        path = tmp_path / "changed.json"
        path.write_text(json.dumps(data))
        return path

    return write


def test_a_session_comes_back_as_it_was(session, tmp_path):
    write_session(tmp_path / "s.json", session)
    assert read_session(tmp_path / "s.json") == session
    replay = replace(session, mode="replay", length_s=60.0, played=(Stroke("a", "SD", 59.0, 0.5),))
    write_session(tmp_path / "r.json", replay)
    assert read_session(tmp_path / "r.json") == replay


def test_nothing_is_overwritten_unasked(session, tmp_path):
    write_session(tmp_path / "s.json", session)
    with pytest.raises(OutputError, match="exists already"):
        write_session(tmp_path / "s.json", session)


def test_bars_of_any_length_come_back_and_what_plays_keeps_their_beats(session, tmp_path):
    dragged = replace(session, tempo=((0.0, 120.0), (4.0, 90.0), (6.5, 100.0)), downbeat_s=0.5)
    write_session(tmp_path / "s.json", dragged)
    found = read_session(tmp_path / "s.json")
    assert found == dragged
    # The rhythm begins one beat before the downbeat, and has its beats where the grid has them.
    tempo_map = found.played_rhythm().tempo_map
    assert tempo_map.changes == ((0.0, 120.0), (5.0, 90.0), (7.5, 100.0))
    assert tempo_map.seconds_at(5.0) == pytest.approx(2.5)
    late = replace(dragged, downbeat_s=-2.0 - 60 / 90).played_rhythm().tempo_map
    assert late.changes == ((0.0, 90.0), (pytest.approx(1.5), 100.0))
    constant = replace(session, tempo=((0.0, 120.0),))
    write_session(tmp_path / "c.json", constant)
    assert json.loads((tmp_path / "c.json").read_text())["tempo"] == 120.0
    unknown = replace(session, tempo=None)
    write_session(tmp_path / "u.json", unknown)
    assert read_session(tmp_path / "u.json") == unknown
    assert unknown.played_rhythm().tempo_map is None


@pytest.mark.parametrize(
    ("value", "key", "words"),
    [
        (10**6, "n_samples", "1,000,000 samples; it has 88,200"),
        (48_000, "sample_rate", "48,000 samples a second"),
    ],
)
def test_what_a_file_says_of_its_source_is_proved(recording, changed, value, key, words):
    session = read_session(changed(value, "source", key))
    with pytest.raises(SettingsError, match=words):
        session.check_source(recording)


def test_an_entry_that_is_there_twice_is_refused(session, tmp_path):
    write_session(tmp_path / "s.json", session)
    text = (tmp_path / "s.json").read_text()
    for old, new in (('"mode"', '"mode": "replay", "mode"'), ('"sha256"', '"name": "x", "sha256"')):
        (tmp_path / "s.json").write_text(text.replace(old, new, 1))
        with pytest.raises(SettingsError, match="has an entry twice"):
            read_session(tmp_path / "s.json")


def test_another_source_is_refused(session, recording, write_wav, clicks):
    session.check_source(recording)
    other = Recording.open(write_wav("other.wav", clicks([0.6], length_s=2.0)))
    with other, pytest.raises(SettingsError, match="another recording, 'loop', not of 'other'"):
        session.check_source(other)


def test_a_recording_in_no_file_is_identified_by_its_samples(clicks):
    facts = [SourceFacts.of(Recording.from_samples(clicks([t], length_s=1.0), 44_100)) for t in (0.1, 0.1, 0.2)]
    assert facts[0] == facts[1] != facts[2]


@pytest.mark.parametrize(
    ("value", "keys", "sentence"),
    [
        (2, ("schema",), "newer version"),
        ("1", ("schema",), "no version"),
        (None, ("schema",), "no version"),
        (0, ("surprise",), "unknown entry 'surprise'"),
        ("play", ("mode",), "must be edit or replay"),
        ([], ("source",), "source is no object"),
        ("f" * 63, ("source", "sha256"), "sha256"),
        (0, ("source", "n_samples"), "whole number"),
        (1e9, ("source", "sample_rate"), "whole number"),
        ({}, ("played",), "no list of played"),
        ([None], ("played",), "stroke is no object"),
        ("d1", ("played", 0, "id"), "two strokes have the id d1"),
        ("../x", ("played", 0, "id"), "no id of a stroke"),
        ("x" * 65, ("played", 0, "id"), "id"),
        (5, ("played", 0, "id"), "id of a stroke is no text"),
        ("BD", ("played", 0, "class"), "no drum class"),
        ("open", ("played", 0, "articulation"), "no articulation of KD"),
        (-0.1, ("played", 0, "onset_s"), "0 or later"),
        (2.0, ("played", 0, "onset_s"), "after the end"),
        ("0", ("played", 0, "onset_s"), "no number"),
        (10**400, ("played", 0, "onset_s"), "no number"),
        (True, ("played", 0, "velocity"), "no number"),
        (0, ("played", 0, "velocity"), "above 0"),
        (1.01, ("detected", 0, "velocity"), "not above 1"),
        (True, ("schema",), "no version"),
        (1.0, ("schema",), "no version"),
        (0, ("tempo",), "tempo is 0"),
        ([], ("tempo",), "tempo map starts at beat 0"),
        ([[1, 120]], ("tempo",), "tempo map starts at beat 0"),
        ([[0, 120], [0, 90]], ("tempo",), "in order"),
        ([[0, 120, 1]], ("tempo",), "no list of at most"),
        ([[0, 1e9]], ("tempo",), "tempo is 1000000000"),
        ([[0, True]], ("tempo",), "a tempo is no number"),
        ([["0", 90]], ("tempo",), "a beat of the tempo is no number"),
        ([[i, 120] for i in range(10_001)], ("tempo",), "no list of at most"),
        (True, ("source", "n_samples"), "whole number"),
        (True, ("metre",), "metre is no number"),
        (True, ("settings", "seed"), "whole number"),
        (1, ("settings", "tune_toms"), "tune_toms"),
        ({"HH": True}, ("settings", "gain_db"), "no number"),
        (True, ("settings", "length"), "no number"),
        (["KD", "KD"], ("settings", "classes"), "KD"),
        ("fast", ("tempo",), "tempo is no number"),
        (1e6, ("metre",), "metre"),
        (1e6, ("downbeat_s",), "downbeat"),
        (0, ("length_s",), "length"),
        (["/etc/passwd"], ("settings", "kit_from"), "unknown entry 'kit_from'"),
        ("none", ("settings", "missing"), "missing"),
        (1.5, ("settings", "seed"), "whole number"),
        ({"HH": "loud"}, ("settings", "gain_db"), "no number"),
        ("on", ("settings", "tune_toms"), "tune_toms"),
        ([["KD"]], ("settings", "classes"), "no text"),
        ({}, ("settings", "length"), "no number"),
    ],
)
def test_what_no_session_has_is_refused_in_one_sentence(changed, value, keys, sentence):
    with pytest.raises(SettingsError, match=sentence) as caught:
        read_session(changed(value, *keys))
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
    assert caught.value.hint


@pytest.mark.parametrize(
    "data",
    [b"", b"[]", b"{", b"\xff", b"null", b'{"schema": 1}', b"[" * 100_000, b'{"schema": NaN}', b"1" * 5000],
)
def test_what_is_no_session_is_refused(tmp_path, data):
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    with pytest.raises(SettingsError, match="no session"):
        read_session(path)


def test_a_file_that_is_too_large_or_missing_is_refused(tmp_path, changed):
    with pytest.raises(SettingsError, match="No such file"):
        read_session(tmp_path / "none.json")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_session(tmp_path)
    (tmp_path / "huge.json").write_bytes(b" " * (48 * 2**20 + 1))
    with pytest.raises(SettingsError, match="MB"):
        read_session(tmp_path / "huge.json")
    strokes = [{"id": f"s{i}", "class": "KD", "onset_s": 0, "velocity": 1} for i in range(100_001)]
    with pytest.raises(SettingsError, match="100,001 played strokes; there may be 100,000"):
        read_session(changed(strokes, "played"))


def test_faulty_files_are_read_or_refused(session, tmp_path, fault, survives):
    from hypothesis import given

    write_session(tmp_path / "s.json", session)
    path = tmp_path / "faulty.json"

    @given(fault((tmp_path / "s.json").read_bytes(), True))
    def check(data):
        path.write_bytes(data)
        survives("session file", read_session, path)

    check()


def test_strokes_are_ordered_and_of_one_id_each():
    late, early = Stroke("a", "KD", 1.0, 0.5), Stroke("b", "KD", 0.5, 0.5)
    assert in_order([late, early]) == (early, late)
    with pytest.raises(RhythmError, match="two strokes"):
        in_order([late, replace(early, id="a")])


def test_the_sha256_is_that_of_the_file(recording):
    import hashlib

    assert SourceFacts.of(recording).sha256 == hashlib.sha256(recording.path.read_bytes()).hexdigest()
    assert soundfile.info(recording.path).frames == SourceFacts.of(recording).n_samples
    assert np.isclose(SourceFacts.of(recording).duration_s, 2.0)
