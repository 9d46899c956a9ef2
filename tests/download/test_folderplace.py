"""FolderPlace: names are given when all is there; what goes wrong in between leaves what was there before."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zdl.download.folderindex import FileEntry, FolderIndex
from zdl.download.folderplace import FolderPlace
from zdl.errors import OptionError

STAMP = bytes(16)
INDEX = FolderIndex.made([(b"a", 0o755)], [FileEntry(b"a/x", 0o644, 5, STAMP), FileEntry(b"y", 0o600, 100, STAMP)])


def filled(path: Path, *, is_overwriting: bool = False) -> FolderPlace:
    place = FolderPlace(path, INDEX, 0o755, is_overwriting=is_overwriting)
    place.clear()
    begin = INDEX.manifest.offsets[1]
    stream = b"hello" + bytes(59) + b"y" * 100 + bytes(INDEX.manifest.bytes_total - INDEX.manifest.offsets[2] - 100)
    place.write(begin, memoryview(stream[:70]))
    place.write(begin + 70, memoryview(stream[70:]))
    assert place.read(begin, len(stream)) == stream
    return place


def test_a_new_folder_appears_as_a_whole(tmp_path: Path) -> None:
    place = filled(tmp_path / "copy")
    assert os.listdir(tmp_path) == [".copy.zdl-part"]
    place.settle()
    place.close()
    assert os.listdir(tmp_path) == ["copy"]
    assert (tmp_path / "copy" / "a" / "x").read_bytes() == b"hello" and (tmp_path / "copy" / "y").read_bytes() == b"y" * 100


def test_a_file_that_came_into_the_way_meanwhile_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    place = filled(tmp_path / "copy")
    (tmp_path / "copy" / "y").write_bytes(b"precious")
    with pytest.raises(OptionError, match="a name that is free"):
        place.settle()
    place.remove()
    place.close()
    assert os.listdir(tmp_path / "copy") == ["y"] and (tmp_path / "copy" / "y").read_bytes() == b"precious"


def test_a_folder_that_came_into_the_way_meanwhile_is_left_alone(tmp_path: Path) -> None:
    place = filled(tmp_path / "copy")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "own").touch()
    with pytest.raises(OSError, match="not empty"):
        place.settle()
    place.remove()
    place.close()
    assert os.listdir(tmp_path) == ["copy"] and os.listdir(tmp_path / "copy") == ["own"]


def test_what_another_pull_has_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".copy.zdl-part" / "old").mkdir(parents=True)
    (tmp_path / ".copy.zdl-part" / "link").symlink_to("/")
    (tmp_path / ".copy.zdl-part" / "old" / "x").touch()
    place = filled(tmp_path / "copy")
    place.settle()
    place.close()
    assert sorted(os.listdir(tmp_path / "copy")) == ["a", "y"]
