import json
import os
import random
import re
import stat
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daw_bridge.editor import journal as journal_module
from daw_bridge.editor.document import Document, Grid
from daw_bridge.editor.edits import command_of
from daw_bridge.editor.journal import Journal
from tests.daw_bridge.editor.conftest import FOUND, LENGTH_S
from tests.daw_bridge.editor.test_document import random_command
from transform.errors import OutputError

ROOT = Path(__file__).resolve().parents[3]
SHA256 = "0123456789abcdef" * 4


def begun(folder, document):
    journal = Journal(folder, SHA256)
    return journal, journal.begin(document, "loop")


def step(journal, history, chance):
    """Take one random step as a session does, and return whether there was any."""
    if history.can_undo and chance.random() < 0.2:
        journal.record(history.version + 1, "undo")
        history.undo()
    elif history.can_redo and chance.random() < 0.5:
        journal.record(history.version + 1, "redo")
        history.redo()
    elif command := random_command(chance, history.document):
        journal.record(history.version + 1, "do", command)
        history.do(command)
    else:
        return False
    return True


def states(history):
    return history.version, history.document, history.can_undo, history.can_redo


def test_a_journal_cut_at_any_byte_gives_back_every_step_that_was_whole(tmp_path, document):
    chance = random.Random(1)
    journal, history = begun(tmp_path, document)
    at = {journal.path.stat().st_size: states(history)}
    while len(at) < 40:
        if step(journal, history, chance):
            at[journal.path.stat().st_size] = states(history)
    journal.close()
    data = journal.path.read_bytes()
    sizes = sorted(at)
    cuts = {
        *sizes,
        *(chance.randrange(sizes[0], len(data)) for _ in range(100)),
        *range(sizes[-1] - 60, sizes[-1]),
    }
    for cut in sorted(cuts):
        journal.path.write_bytes(data[:cut])
        again = Journal(tmp_path, SHA256)
        assert states(again.history) == at[max(size for size in sizes if size <= cut)]
        assert not again.damage
        step_taken = step(again, again.history, random.Random(2))
        expected = states(again.history)
        again.close()
        if step_taken:  # it goes on behind the last whole line
            once_more = Journal(tmp_path, SHA256)
            assert states(once_more.history) == expected
            once_more.close()
    assert not list(tmp_path.glob("*.damaged*"))


def test_a_journal_cut_before_its_first_line_ends_is_a_new_one(tmp_path, document):
    journal, _ = begun(tmp_path, document)
    journal.close()
    data = journal.path.read_bytes()
    for cut in (0, 1, len(data) - 1):
        journal.path.write_bytes(data[:cut])
        again = Journal(tmp_path, SHA256)
        assert again.history is None
        again.begin(document, "loop")
        again.close()
        assert journal.path.read_bytes() == data


@given(st.integers(0, 2**32), st.data())
def test_a_journal_damaged_at_any_byte_gives_back_every_step_before_it_and_says_so(seed, data):
    with TemporaryDirectory() as folder:
        chance = random.Random(seed)
        journal, history = begun(Path(folder), Document.of_detection(FOUND, LENGTH_S, Grid()))
        at = {0: None, journal.path.stat().st_size: states(history)}
        while len(at) < 8:
            if step(journal, history, chance):
                at[journal.path.stat().st_size] = states(history)
        journal.close()
        whole = journal.path.read_bytes()
        begin = data.draw(st.integers(0, len(whole) - 1))
        harmed = data.draw(
            st.one_of(
                st.binary(min_size=1, max_size=1), st.just(b"\0" * (len(whole) - begin)), st.binary(max_size=5)
            )
        )
        damaged = (whole[:begin] + harmed + whole[begin + len(harmed) :])[: len(whole)]
        journal.path.write_bytes(damaged)
        again = Journal(Path(folder), SHA256)
        again.close()
        before = at[max(size for size in at if size <= begin)]
        found = states(again.history) if again.history else None
        if damaged == whole:
            assert (found, again.damage) == (states(history), "")
        else:
            assert found in (before, states(history))  # what only harms a checksum's name harms no step
            assert again.damage or found == states(history)
        beside = list(Path(folder).glob("*.damaged-*"))
        assert [path.read_bytes() for path in beside] == (
            [damaged[max(s for s in at if s <= begin) :]] if beside else []
        )
        assert bool(beside) == bool(again.damage)


def test_a_journal_without_checksums_is_read(tmp_path, document):
    journal, history = begun(tmp_path, document)
    chance = random.Random(4)
    while history.version < 5:
        step(journal, history, chance)
    journal.close()
    data = re.sub(rb',"crc32":[0-9]+', b"", journal.path.read_bytes())
    assert b"crc32" not in data
    journal.path.write_bytes(data)
    again = Journal(tmp_path, SHA256)
    assert (states(again.history), again.damage) == (states(history), "")
    again.close()


EDITOR = """
import sys
from daw_bridge.editor.edits import command_of
from daw_bridge.editor.journal import Journal
from pathlib import Path
journal = Journal(Path(sys.argv[1]), sys.argv[2])
history = journal.history
while True:
    move = {"op": "move", "id": "d2", "onset_s": history.version % 1000 / 1000}
    command = command_of(history.document, [move])
    journal.record(history.version + 1, "do", command)
    history.do(command)
    print(history.version, flush=True)
"""


@pytest.mark.slow
def test_a_process_killed_at_any_moment_loses_nothing_acknowledged(tmp_path, document, happened):
    chance = random.Random(3)
    journal, _ = begun(tmp_path, document)
    journal.close()
    n_times = happened.many or 5
    for _ in range(n_times):
        editor = subprocess.Popen(
            [sys.executable, "-c", EDITOR, str(tmp_path), SHA256], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        acknowledged = [int(editor.stdout.readline()) for _ in range(chance.randrange(1, 40))]
        editor.kill()
        acknowledged += [
            int(line) for line in editor.stdout.read().splitlines(keepends=True) if line.endswith("\n")
        ]
        editor.wait()
        editor.stdout.close()
        again = Journal(tmp_path, SHA256)
        assert again.history.version in (acknowledged[-1], acknowledged[-1] + 1)
        assert again.history.document.played["d2"].onset_s == (again.history.version - 1) % 1000 / 1000
        again.close()
        happened("editor's journal, killed", "every acknowledged edit came back", 1)


def test_one_editor_at_a_time_has_a_journal(tmp_path, document):
    journal, _ = begun(tmp_path, document)
    with pytest.raises(OutputError, match="open in another editor"):
        Journal(tmp_path, SHA256)
    journal.close()
    Journal(tmp_path, SHA256).close()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
def test_a_journal_is_for_its_user_only(tmp_path, document):
    journal, _ = begun(tmp_path / "edits", document)
    journal.close()
    assert stat.S_IMODE(journal.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(journal.path.parent.stat().st_mode) == 0o700


@pytest.mark.parametrize("what", ["link", "folder", "pipe"])
def test_what_a_stranger_put_in_its_place_is_not_used(tmp_path, what):
    path = tmp_path / f"{SHA256[:32]}.jsonl"
    (tmp_path / "thesis.txt").write_text("thesis")
    if what == "link":
        path.symlink_to(tmp_path / "thesis.txt")
    elif what == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(OutputError, match="cannot be written"):
        Journal(tmp_path, SHA256)
    assert (tmp_path / "thesis.txt").read_text() == "thesis"


@pytest.mark.parametrize(
    "harm",
    [
        lambda line: b"\0" * len(line) + b"\n",
        lambda line: line.replace(b'"version":2', b'"version":7'),
        lambda line: line.replace(b'"d2"', b'"d9"'),
        lambda line: line.replace(b"0.125", b"-1e9"),
        lambda line: line.replace(b"0.125", b"NaN"),
        lambda line: line.replace(b'"do"', b'"fly"'),
        lambda line: line.replace(b'"played"', b'"__dict__"'),
        lambda line: b"[" * 5000 + b"\n",
        lambda line: b"5\n",
    ],
)
def test_what_cannot_be_read_is_set_aside_whole_and_what_was_before_it_stays(tmp_path, document, harm):
    journal, history = begun(tmp_path, document)
    for onset_s in (0.25, 0.125, 0.5):
        command = command_of(history.document, [{"op": "move", "id": "d2", "onset_s": onset_s}])
        journal.record(history.version + 1, "do", command)
        history.do(command)
    journal.close()
    lines = journal.path.read_bytes().splitlines(keepends=True)
    lines[2] = harm(lines[2])
    journal.path.write_bytes(b"".join(lines))
    again = Journal(tmp_path, SHA256)
    assert again.history.document.played["d2"].onset_s == 0.25
    beside = again.path.with_suffix(".damaged-1")
    assert beside.read_bytes() == b"".join(lines[2:])
    assert again.damage == (
        "the journal of edits is damaged: of its steps the first 1 came back, and what could not be read is in "
        f"{beside}"
    )
    assert step(again, again.history, random.Random(0))
    expected = states(again.history)
    again.close()
    once_more = Journal(tmp_path, SHA256)
    assert states(once_more.history) == expected
    once_more.close()


def test_a_journal_of_another_recording_is_set_aside(tmp_path, document):
    journal, _ = begun(tmp_path, document)
    journal.close()
    head = json.loads(journal.path.read_bytes()) | {"sha256": "f" * 64}
    journal.path.write_text(json.dumps(head) + "\n")
    again = Journal(tmp_path, SHA256)
    assert again.history is None
    assert "none of its steps came back" in again.damage
    again.close()
    assert again.path.with_suffix(".damaged-1").exists()


def test_a_full_disk_refuses_the_step_and_loses_none(tmp_path, document, monkeypatch):
    journal, history = begun(tmp_path, document)
    command = command_of(document, [{"op": "delete", "id": "d2"}])

    def full(handle):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(journal_module.os, "fsync", full)
        with pytest.raises(OutputError, match="edits would be lost: No space left"):
            journal.record(1, "do", command)
    journal.record(1, "do", command)
    history.do(command)
    journal.close()
    again = Journal(tmp_path, SHA256)
    assert states(again.history) == states(history)
    again.close()
