import os

import pytest

from transform.errors import OutputError
from transform.files import atomic_files, atomic_folder


def test_files_appear_together(tmp_path):
    paths = [tmp_path / "a" / "x.txt", tmp_path / "b" / "y.txt"]
    with atomic_files(paths, overwrite=False) as temporaries:
        for temporary in temporaries:
            temporary.write_text(temporary.parent.name)
        assert not any(path.exists() for path in paths)
    assert [path.read_text() for path in paths] == ["a", "b"]
    assert sum(len(files) for _, _, files in os.walk(tmp_path)) == 2


def test_files_of_a_failed_block_vanish_together(tmp_path):
    def fill_the_disk():
        with atomic_files([tmp_path / "x.txt", tmp_path / "y.txt"], overwrite=False) as temporaries:
            temporaries[0].write_text("whole")
            raise OSError(28, "No space left on device")

    with pytest.raises(OutputError, match=r"x\.txt cannot be written: No space"):
        fill_the_disk()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("is_there", [False, True])
def test_folder_appears_whole(tmp_path, is_there):
    folder = tmp_path / "out" / "kit"
    if is_there:
        folder.mkdir(parents=True)
    with atomic_folder(folder, overwrite=False) as temporary:
        (temporary / "x.txt").write_text("new")
        assert not (folder / "x.txt").exists()
    assert (folder / "x.txt").read_text() == "new"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["kit"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_folder_of_a_failed_block_vanishes(tmp_path, overwrite):
    folder = tmp_path / "kit"
    if overwrite:
        folder.mkdir()
        (folder / "old.txt").write_text("old")

    def stop_in_the_middle():
        with atomic_folder(folder, overwrite=overwrite) as temporary:
            (temporary / "x.txt").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop_in_the_middle()
    assert [path.name for path in tmp_path.rglob("*")] == (["kit", "old.txt"] if overwrite else [])


def test_full_folder_is_replaced_only_when_asked(tmp_path):
    folder = tmp_path / "kit"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    with pytest.raises(OutputError, match="exists already"), atomic_folder(folder, overwrite=False):
        pytest.fail("the block must not run")
    with atomic_folder(folder, overwrite=True) as temporary:
        (temporary / "new.txt").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["kit", "new.txt"]


def test_folder_that_somebody_fills_meanwhile_is_kept(tmp_path):
    folder = tmp_path / "kit"

    def be_late():
        with atomic_folder(folder, overwrite=False) as temporary:
            (temporary / "x.txt").write_text("new")
            folder.mkdir()
            (folder / "theirs.txt").write_text("theirs")

    with pytest.raises(OutputError, match="cannot be written"):
        be_late()
    assert [path.name for path in tmp_path.rglob("*")] == ["kit", "theirs.txt"]


def test_folder_cannot_be_where_a_file_is(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "kit"):
        with pytest.raises(OutputError, match="is not a folder"), atomic_folder(path, overwrite=True):
            pytest.fail("the block must not run")
    assert (tmp_path / "file").read_text() == "in the way"


def test_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    try:
        (tmp_path / "link").symlink_to("real", target_is_directory=True)
    except OSError:
        pytest.skip("this user may not make symbolic links")
    with atomic_folder(tmp_path / "link", overwrite=False) as temporary:
        (temporary / "x.txt").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "x.txt").read_text() == "new"
