import os
import re

import pytest

from seg.errors import InputError
from seg.files import replacing, unfinished_name, write_text


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


def test_a_durable_file_is_on_disk_before_it_replaces_the_older_one(tmp_path, monkeypatch):
    target = tmp_path / "b.txt"
    target.write_text("old")
    inode, done = target.stat().st_ino, []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor):
        fsync(descriptor)
        done.append(os.fstat(descriptor).st_ino)

    def replaced(source, place):
        done.append("replaced")
        replace(source, place)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    with replacing(target, durable=True) as path:
        path.write_text("new")
    assert target.read_text() == "new"
    assert target.stat().st_ino != inode
    assert done == [target.stat().st_ino, "replaced", tmp_path.stat().st_ino]


def test_what_a_kill_left_of_a_durable_file_is_replaced_by_the_next_write(tmp_path):
    target = tmp_path / "b.txt"
    unfinished_name(target).write_text("half of what was longer")
    with replacing(target, durable=True) as path:
        path.write_text("new")
    assert target.read_text() == "new"
    assert list(tmp_path.iterdir()) == [target]


def test_text_is_written_in_utf8_or_not_at_all(tmp_path):
    write_text(tmp_path / "a.txt", "Straße\n")
    assert (tmp_path / "a.txt").read_bytes() == "Straße\n".encode()
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a.txt", "\ud800")
    assert (tmp_path / "a.txt").read_bytes() == "Straße\n".encode()
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("durable", [False, True])
def test_a_place_that_cannot_be_written_to_is_refused_in_one_line(durable, tmp_path):
    (tmp_path / "a").write_text("a file, no folder")
    expected = rf"^{re.escape(str(tmp_path))}/a/b.txt: cannot be written: .*File exists: .*/a.; "
    with (
        pytest.raises(InputError, match=expected),
        replacing(tmp_path / "a" / "b.txt", durable=durable) as path,
    ):
        path.write_text("new")
