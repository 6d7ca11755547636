"""A folder in which no link is followed, whatever lies in it."""

import os

import pytest

from transform import confined
from transform.confined import ConfinedFolder, is_link


@pytest.fixture(params=["openat", "examined"])
def place(request, tmp_path, monkeypatch):
    """Return a folder with files of its own and links to one beside it, in both ways of reaching them."""
    monkeypatch.setattr(confined, "_HAS_DIR_FD", request.param == "openat" and confined._HAS_DIR_FD)
    (tmp_path / "mine" / "sub").mkdir(parents=True)
    (tmp_path / "mine" / "a.wav").write_bytes(b"a")
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "a.wav").write_bytes(b"precious")
    try:
        (tmp_path / "mine" / "link").symlink_to(tmp_path / "theirs", target_is_directory=True)
        (tmp_path / "mine" / "link.wav").symlink_to(tmp_path / "theirs" / "a.wav")
        (tmp_path / "mine" / "nowhere.wav").symlink_to(tmp_path / "theirs" / "new.wav")
    except OSError:
        pytest.skip("links cannot be made here")
    return tmp_path / "mine"


def theirs(place):
    return {path.name: path.read_bytes() for path in place.with_name("theirs").iterdir()}


def test_what_lies_in_the_folder_is_reached(place):
    files = ConfinedFolder(place)
    with files.open("a.wav") as file:
        assert file.read() == b"a"
    files.make_folder("sub/new")
    files.move("a.wav", "sub/new/deep/b.wav", overwrite=False)
    assert (place / "sub/new/deep/b.wav").read_bytes() == b"a"
    assert files.names("sub/new/deep") == ["b.wav"]
    assert files.names("sub/none") == []
    assert files.status("sub/none.wav") is None
    assert files.sha256("a.wav") is None
    files.remove("sub/new/deep/b.wav")
    files.remove_folder("sub/new")  # which is not empty
    files.remove_folder("sub/new/deep")
    assert not (place / "sub/new/deep").exists()


@pytest.mark.parametrize(
    "use",
    [
        lambda files: files.open("link.wav"),
        lambda files: files.open("link/a.wav"),
        lambda files: files.open("link/new.wav", "r+", os.O_RDWR | os.O_CREAT),
        lambda files: files.open("nowhere.wav", "r+", os.O_RDWR | os.O_CREAT),
        lambda files: files.remove("link/a.wav"),
        lambda files: files.make_folder("link/new"),
        lambda files: files.move("a.wav", "link/a.wav", overwrite=True),
        lambda files: files.move("a.wav", "link/new/a.wav", overwrite=False),
        lambda files: files.move("link/a.wav", "b.wav", overwrite=False),
        lambda files: files.status("link/a.wav"),
        lambda files: files.check("link/new.wav"),
    ],
)
def test_no_link_is_followed(place, use):
    with pytest.raises(OSError, match=r"link"):
        use(ConfinedFolder(place))
    assert theirs(place) == {"a.wav": b"precious"}
    assert (place / "a.wav").read_bytes() == b"a"


def test_lines_are_added_to_a_file_of_the_folder_alone(place):
    for text in ("one\n", "zwö\n"):
        with ConfinedFolder(place).append("log.jsonl") as log:
            log.write(text)
    assert (place / "log.jsonl").read_text(encoding="utf-8") == "one\nzwö\n"
    for name in ("link.wav", "nowhere.wav", "link/a.wav"):
        with pytest.raises(OSError, match="link"):
            ConfinedFolder(place).append(name)
    assert theirs(place) == {"a.wav": b"precious"}


def test_of_what_lies_behind_a_link_nothing_is_known(place):
    files = ConfinedFolder(place)
    assert files.sha256("link.wav") is None
    assert files.sha256("link/a.wav") is None
    assert files.names("link") == []
    files.remove("link.wav")  # no plain file: it stays
    files.remove_folder("link")
    assert is_link(place / "link")
    assert is_link(place / "link.wav")


def test_a_link_in_the_place_of_a_result_is_replaced_itself(place):
    files = ConfinedFolder(place)
    with pytest.raises(FileExistsError):
        files.move("a.wav", "link.wav", overwrite=False)
    files.move("a.wav", "link.wav", overwrite=True)
    assert not is_link(place / "link.wav")
    assert (place / "link.wav").read_bytes() == b"a"
    assert theirs(place) == {"a.wav": b"precious"}


def test_a_name_that_leads_out_is_refused(place, subtests):
    cases = ["", ".", "..", "../theirs/a.wav", "/etc/passwd", "sub//a", "sub/../../x", "a\0b"]
    for name in cases:
        with subtests.test(name=name):
            for use in (ConfinedFolder(place).open, ConfinedFolder(place).remove, ConfinedFolder(place).check):
                with pytest.raises(ValueError, match="names no file"):
                    use(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no FIFOs")
def test_a_pipe_is_no_plain_file_and_nobody_waits_for_it(place):
    os.mkfifo(place / "pipe.wav")
    with pytest.raises(OSError, match="no plain file"):
        ConfinedFolder(place).open("pipe.wav")
    ConfinedFolder(place).remove("pipe.wav")
    assert (place / "pipe.wav").exists()


def test_the_folder_itself_may_be_a_link(place):
    with ConfinedFolder(place / "link").open("a.wav") as file:
        assert file.read() == b"precious"
