"""Places: a name is given once, to a file that is whole, and to nobody who comes later."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from zdl.download.places import EARLY_BYTES, Early, FilePlace, granted, locked_file, named, write_all
from zdl.errors import OptionError
from zdl.refs import Ref, Source

REF = Ref(Source("server", bytes(16), bytes(16), 100), 0, 40, 10, "file", name="x")


def test_a_file_gets_the_permissions_that_its_lender_tells_and_this_process_gives() -> None:
    before = os.umask(0o027)
    assert [granted(mode) for mode in (0, 0o644, 0o777, 0o7777)] == [0o600, 0o640, 0o750, 0o750]
    os.umask(before)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_bytes_of_a_part_of_an_offer_are_put_at_the_beginning_of_the_file(tmp_path: Path) -> None:
    place = FilePlace(tmp_path / "x", REF, is_overwriting=False)
    place.write(45, memoryview(b"world"))
    place.write(40, memoryview(b"hello"))
    assert place.read(43, 4) == b"lowo" and place.read(48, 9) == b"ld"
    assert left_in(tmp_path) == [".x.zdl-part"]
    place.settle()
    place.close()
    assert left_in(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"helloworld"
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o600


def test_a_part_file_is_one_pulls_alone(tmp_path: Path) -> None:
    first = FilePlace(tmp_path / "x", REF, is_overwriting=False)
    with pytest.raises(BlockingIOError):
        FilePlace(tmp_path / "x", REF, is_overwriting=False)
    first.remove()
    first.close()
    FilePlace(tmp_path / "x", REF, is_overwriting=False).close()
    os.unlink(tmp_path / ".x.zdl-part")


def test_a_part_file_with_a_second_name_is_not_written_to(tmp_path: Path) -> None:
    """A process was killed between giving the file its name and taking the hidden one away."""
    (tmp_path / "x").write_bytes(b"precious")
    os.link(tmp_path / "x", tmp_path / ".x.zdl-part")
    descriptor = locked_file(tmp_path / ".x.zdl-part")
    os.ftruncate(descriptor, 0)
    os.close(descriptor)
    assert (tmp_path / "x").read_bytes() == b"precious"
    os.unlink(tmp_path / ".x.zdl-part")


def test_what_is_no_file_makes_way_for_the_part_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / ".x.zdl-part")
    os.close(locked_file(tmp_path / ".x.zdl-part"))
    assert stat.S_ISREG((tmp_path / ".x.zdl-part").stat().st_mode)
    os.unlink(tmp_path / ".x.zdl-part")


def test_a_name_is_never_taken_from_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "part").write_bytes(b"new")
    (tmp_path / "x").write_bytes(b"old")
    with pytest.raises(FileExistsError):
        named(tmp_path / "part", tmp_path / "x", is_overwriting=False)
    assert (tmp_path / "x").read_bytes() == b"old"
    named(tmp_path / "part", tmp_path / "x", is_overwriting=True)
    assert left_in(tmp_path) == ["x"] and (tmp_path / "x").read_bytes() == b"new"


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "x").symlink_to("victim")
    with pytest.raises(OptionError, match="a name that is free"):
        FilePlace(tmp_path / "x", REF, is_overwriting=False)
    place = FilePlace(tmp_path / "x", REF, is_overwriting=True)
    place.settle()
    place.close()
    assert (tmp_path / "victim").read_bytes() == b"precious" and not (tmp_path / "x").is_symlink()


def test_all_is_written_however_little_the_system_takes_at_once(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT)
    write_all(descriptor, 3, memoryview(bytes(range(200))))
    os.close(descriptor)
    assert (tmp_path / "x").read_bytes() == bytes(3) + bytes(range(200))


def test_what_the_disk_begins_with_early_is_what_was_written_in_any_order(tmp_path: Path) -> None:
    piece, count = 1 << 20, 2 * EARLY_BYTES // (1 << 20) + 3
    ref = Ref(Source("server", b"o" * 16, b"s" * 16, piece * count), 0, 0, piece * count, "file")
    place = FilePlace(tmp_path / "model", ref, is_overwriting=False)
    try:
        for number in [*range(1, count, 2), *range(0, count, 2)]:
            place.write(number * piece, memoryview(bytes([number]) * piece))
        place.settle()
    finally:
        place.close()
    assert (tmp_path / "model").read_bytes() == b"".join(bytes([number]) * piece for number in range(count))


def test_where_nothing_can_be_told_of_what_is_written_early_it_is_written_all_the_same() -> None:
    near, far = os.pipe()  # no file: the system refuses the advice
    try:
        early = Early()
        early.written(far, 0, EARLY_BYTES)
        early.written(far, EARLY_BYTES, 1)
        assert os.write(far, b"on") == 2
    finally:
        os.close(near)
        os.close(far)
