import pytest

from seg.files import replacing


def test_the_file_appears_whole_in_a_folder_that_is_made(tmp_path):
    target = tmp_path / "a" / "b.txt"
    with replacing(target) as path:
        path.write_text("new")
        assert not target.exists()
        assert path.parent == target.parent
    assert target.read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_after_an_exception_the_older_file_is_still_there(tmp_path):
    target = tmp_path / "b.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="disk full"), replacing(target) as path:
        path.write_text("half")
        raise RuntimeError("disk full")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
